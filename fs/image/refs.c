/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * refs.c - references of clones (refs.h). Clones lie beside their parents: ".../.lsvd/img/<uuid>/".
 *
 * The tombstone is believed when it is there, whoever put it: a log object is never empty. Between its PUT and `dead` a crash
 * leaves a clone that is unborn still, for the next one who looks.
 */
#include "config.h"
#include "log-private.h"
#include "nameobj.h"
#include "refs.h"
#include "../../objstore/base/failpoint.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { UUID_HEX = 32, NUMBER_HEX = 16, NAME_MAX_BYTES = 4096 };

/* "ref/<16>/<32>" */
static int parse(const char *p, struct image_ref *ret)
{
	char number[NUMBER_HEX + 1];

	if (strlen(p) != 4 + NUMBER_HEX + 1 + UUID_HEX || p[4 + NUMBER_HEX] != '/')
		return -EINVAL;
	memcpy(number, p + 4, NUMBER_HEX);
	number[NUMBER_HEX] = '\0';
	if (log_number_parse(number, &ret->snapshot) < 0)
		return -EINVAL;
	return log_uuid_parse(p + 4 + NUMBER_HEX + 1, ret->clone);
}

struct refs {
	const char *prefix;
	struct image_ref *v;
	size_t n, cap;
};

static int one_ref(void *arg, const struct obj_list_entry *e)
{
	struct refs *f = arg;

	if (f->n == f->cap) {
		size_t cap = f->cap * 2 + 16;
		struct image_ref *v = reallocarray(f->v, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		f->v = v;
		f->cap = cap;
	}
	f->v[f->n].time_s = e->mtime_s;
	f->n += parse(e->key + strlen(f->prefix), &f->v[f->n]) == 0; /* a directory of file:// is none */
	return 0;
}

int image_refs(struct objstore *s, const char *prefix, struct image_ref **ret, size_t *ret_n, struct objerr *err)
{
	struct refs f = {.prefix = prefix};
	char dir[OBJ_KEY_MAX + 1];
	int r;

	(void)snprintf(dir, sizeof(dir), "%sref/", prefix);
	r = obj_each(s, OBJ_LIST, dir, false, one_ref, &f, err);
	if (r < 0) {
		free(f.v);
		return r;
	}
	*ret = f.v;
	*ret_n = f.n;
	return 0;
}

/* ---- the clone's log ---- */

static void clone_key(const char *prefix, const struct image_ref *ref, const char *what, char out[OBJ_KEY_MAX + 1])
{
	size_t base = strlen(prefix) - UUID_HEX - 1;
	char hex[33];

	log_uuid_format(ref->clone, hex);
	(void)snprintf(out, OBJ_KEY_MAX + 1, "%.*s%s/%s", (int)base, prefix, hex, what);
}

static void create_key(const char *prefix, const struct image_ref *ref, char out[OBJ_KEY_MAX + 1])
{
	char number[NUMBER_HEX + 1];

	(void)snprintf(number, sizeof(number), "%016" PRIx64, ref->snapshot + 1);
	clone_key(prefix, ref, number, out);
}

static void ref_key(const char *prefix, const struct image_ref *ref, char out[OBJ_KEY_MAX + 1])
{
	char hex[33];

	log_uuid_format(ref->clone, hex);
	(void)snprintf(out, OBJ_KEY_MAX + 1, "%sref/%016" PRIx64 "/%s", prefix, ref->snapshot, hex);
}

/* 1: it is there, ret_bytes long; 0. */
static int head(struct objstore *s, const char *key, uint64_t *ret_bytes, struct objerr *err)
{
	struct objreq req;
	int r = obj_head(s, key, &req);

	if (r == 0)
		*ret_bytes = req.size;
	else if (r != -ENOENT)
		*err = req.err;
	objreq_done(&req);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int image_ref_state(struct objstore *s, const char *prefix, const struct image_ref *ref, enum ref_state *ret,
		    struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1];
	uint64_t bytes = 0;
	int r;

	clone_key(prefix, ref, "dead", key);
	r = head(s, key, &bytes, err);
	if (r == 1)
		*ret = REF_DEAD;
	if (r != 0)
		return MIN(r, 0);
	clone_key(prefix, ref, "flat", key);
	r = head(s, key, &bytes, err);
	if (r == 1)
		*ret = REF_FLAT;
	if (r != 0)
		return MIN(r, 0);
	create_key(prefix, ref, key);
	r = head(s, key, &bytes, err);
	if (r >= 0)
		*ret = r == 1 && bytes > 0 ? REF_NEEDED : REF_UNBORN;
	return MIN(r, 0);
}

/* From here on no create record can come. -EBUSY: it is there. */
static int entomb(struct objstore *s, const char *prefix, const struct image_ref *ref, struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1];
	uint64_t bytes = 0;
	int r;

	create_key(prefix, ref, key);
	r = obj_put(s, key, NULL, 0, NULL, true, NULL, NULL, err);
	if (r == -ESTALE || r == -EEXIST) {
		r = head(s, key, &bytes, err);
		r = r < 0 ? r : r == 1 && bytes == 0 ? 0 : -EBUSY;
	}
	return r;
}

int image_ref_drop(struct objstore *s, const char *prefix, const struct image_ref *ref, enum ref_state state,
		   struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1];
	int r = state == REF_NEEDED ? -EINVAL : 0;

	if (state == REF_UNBORN) {
		r = entomb(s, prefix, ref, err);
		FAILPOINT("image.entombed");
		clone_key(prefix, ref, "", key);
		if (r == 0)
			r = image_bury(s, key, err);
	}
	FAILPOINT("image.unref");
	ref_key(prefix, ref, key);
	if (r == 0)
		r = obj_delete(s, key, NULL, err);
	return r == -ENOENT ? 0 : r;
}

int image_ref_name(struct objstore *s, const char *prefix, const struct image_ref *ref, char **ret, struct objerr *err)
{
	_cleanup_free_ char *buf = malloc(NAME_MAX_BYTES + 1);
	char key[OBJ_KEY_MAX + 1];
	struct objreq req;
	int r = buf == NULL ? -ENOMEM : 0;

	if (r < 0)
		return r;
	ref_key(prefix, ref, key);
	objreq_init(&req, OBJ_GET, key);
	req.buf = buf;
	req.cap = NAME_MAX_BYTES;
	r = obj_do(s, &req);
	r = r == -ERANGE ? -ENOENT : r; /* an empty one, to some servers */
	if (r < 0 && r != -ENOENT)
		*err = req.err;
	buf[r == 0 ? req.got : 0] = '\0';
	objreq_done(&req);
	*ret = NULL;
	if (r == 0 && str_has_prefix(buf, "name=") && strchr(buf, '\n') != NULL) {
		*ret = strndup(buf + 5, strcspn(buf + 5, "\n"));
		r = *ret == NULL ? -ENOMEM : 0;
	}
	return r == -ENOENT ? 0 : r;
}
