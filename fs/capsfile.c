/* SPDX-License-Identifier: GPL-3.0-or-later */
/* capsfile.c - the remembered capabilities of a store; see capsfile.h. */
#include "config.h"
#include "capsfile.h"

#include "objstore/base/crc32c.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_VERSION 3
#define TEXT_MAX 128

static void add_fields(const struct caps_found *f, struct str *out)
{
	str_addf(out, "%d %u %u %lld", FILE_VERSION, f->caps, f->quirks, (long long)f->time_s);
}

void capsfile_format(const struct caps_found *f, struct str *out)
{
	struct str s = {0};

	add_fields(f, &s);
	str_addf(out, "%s %08x\n", str_c(&s), crc32c(0, str_c(&s), s.len));
	if (s.err && !out->err)
		out->err = s.err;
	str_free(&s);
}

/* The number that ends at a blank, which it passes. */
static int take_number(const char **p, uint64_t max, uint64_t *ret)
{
	size_t n = strcspn(*p, " ");
	char word[24];
	int r;

	if (n >= sizeof(word) || (*p)[n] != ' ')
		return -EBADMSG;
	memcpy(word, *p, n);
	word[n] = '\0';
	r = str_parse_u64(word, ret);
	if (r || *ret > max)
		return -EBADMSG;
	*p += n + 1;
	return 0;
}

int capsfile_parse(const char *text, struct caps_found *ret)
{
	struct caps_found f;
	uint64_t version, caps, quirks, time_s;
	const char *p = text;
	struct str s = {0};
	int r = take_number(&p, FILE_VERSION, &version);

	if (!r)
		r = take_number(&p, UINT_MAX, &caps);
	if (!r)
		r = take_number(&p, UINT_MAX, &quirks);
	if (!r)
		r = take_number(&p, INT64_MAX, &time_s);
	if (r || version != FILE_VERSION)
		return -EBADMSG;
	f = (struct caps_found){.caps = (unsigned)caps, .quirks = (unsigned)quirks, .time_s = (int64_t)time_s};
	capsfile_format(&f, &s); /* says the same thing in one way only */
	r = s.err ? s.err : strcmp(str_c(&s), text) ? -EBADMSG : 0;
	str_free(&s);
	if (!r)
		*ret = f;
	return r;
}

int capsfile_read(const char *path, struct caps_found *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[TEXT_MAX];
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return capsfile_parse(text, ret);
}

int capsfile_write(const char *path, const struct caps_found *f)
{
	_cleanup_close_ int fd = -1;
	struct str tmp = {0}, text = {0};
	int r;

	str_addf(&tmp, "%s.%d", path, (int)getpid());
	capsfile_format(f, &text);
	r = tmp.err ? tmp.err : text.err;
	if (r)
		goto out;
	fd = open(tmp.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : base_pwrite_all(fd, text.p, text.len, 0);
	if (!r && rename(tmp.p, path))
		r = -errno;
	if (r && fd >= 0)
		unlink(tmp.p);
out:
	str_free(&tmp);
	str_free(&text);
	return r;
}
