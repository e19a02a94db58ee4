/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgname.c - the name object of an image (FORMAT.md 2): a few lines of text, and the header that makes it an image.
 */
#include "config.h"
#include "logobj.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char first_line[] = "lsvdfs image 1\n";
enum { NAME_OBJECT_MAX = 65536 };

void imgname_free(struct imgname *n)
{
	if (n == NULL)
		return;
	free(n->name);
	free(n->log);
	memset(n, 0, sizeof(*n));
}

static bool path_ok(const char *p)
{
	return p[0] != '\0' && p[0] != '/' && strchr(p, '\n') == NULL && strlen(p) <= OBJ_KEY_MAX;
}

int imgname_encode(const struct imgname *n, char **ret)
{
	struct str s = {0};
	char uuid[33];

	if (!path_ok(n->name) || !path_ok(n->log) || !str_has_suffix(n->log, "/"))
		return -EINVAL;
	log_uuid_format(n->uuid, uuid);
	str_add(&s, first_line);
	str_addf(&s, "uuid=%s\nname=%s\nlog=%s\nsize=%" PRIu64 "\n", uuid, n->name, n->log, n->size);
	log_uuid_format(n->replaces, uuid);
	if (strspn(uuid, "0") < 32)
		str_addf(&s, "replaces=%s\n", uuid);
	return str_take(&s, ret);
}

/* One line `key=value`, NUL in place of its end. */
static int line_read(struct imgname *n, const char *key, const char *value, unsigned *seen)
{
	if (strcmp(key, "uuid") == 0) {
		*seen |= 1;
		return log_uuid_parse(value, n->uuid);
	}
	if (strcmp(key, "replaces") == 0)
		return log_uuid_parse(value, n->replaces);
	if (strcmp(key, "size") == 0) {
		*seen |= 2;
		return str_parse_u64(value, &n->size);
	}
	if (strcmp(key, "name") == 0 || strcmp(key, "log") == 0) {
		char **to = key[0] == 'n' ? &n->name : &n->log;

		if (*to != NULL || !path_ok(value) || (key[0] == 'l' && !str_has_suffix(value, "/")))
			return -EINVAL;
		*to = strdup(value);
		return *to == NULL ? -ENOMEM : 0;
	}
	return 0;
}

int imgname_decode(const char *p, size_t len, struct imgname *ret, struct objerr *err)
{
	struct imgname n = {0};
	_cleanup_free_ char *text = NULL;
	unsigned seen = 0;
	int r = -EINVAL;

	if (len > NAME_OBJECT_MAX || memchr(p, '\0', len) != NULL)
		goto out;
	text = strndup(p, len);
	if (text == NULL)
		return -ENOMEM;
	if (!str_has_prefix(text, first_line))
		goto out;
	r = 0;
	for (char *line = text + strlen(first_line), *end; *line != '\0' && r == 0; line = end + 1) {
		char *eq = strchr(line, '=');

		end = strchr(line, '\n');
		if (end == NULL || eq == NULL || eq > end) {
			r = -EINVAL;
			break;
		}
		*eq = *end = '\0';
		r = line_read(&n, line, eq + 1, &seen);
	}
	if (r == 0 && (seen != 3 || n.name == NULL || n.log == NULL || n.size >> 57 != 0))
		r = -EINVAL;
out:
	if (r < 0) {
		imgname_free(&n);
		if (r == -ENOMEM)
			return r;
		if (err != NULL)
			objerr_set(err, "the name object of the image is malformed");
		return -EUCLEAN;
	}
	*ret = n;
	return 0;
}

int imgname_header_parse(const char *value, uint8_t ret_uuid[16], uint64_t *ret_size)
{
	char uuid[33];
	uint8_t u[16];
	uint64_t size;

	if (strlen(value) < 36 || !str_has_prefix(value, "1 ") || value[34] != ' ')
		return -EINVAL;
	memcpy(uuid, value + 2, 32);
	uuid[32] = '\0';
	if (log_uuid_parse(uuid, u) < 0 || str_parse_u64(value + 35, &size) < 0 || size >> 57 != 0)
		return -EINVAL;
	memcpy(ret_uuid, u, 16);
	*ret_size = size;
	return 0;
}

void imgname_header_format(const uint8_t uuid[16], uint64_t size, char out[64])
{
	char u[33];

	log_uuid_format(uuid, u);
	(void)snprintf(out, 64, "1 %s %" PRIu64, u, size);
}
