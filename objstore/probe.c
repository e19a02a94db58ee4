/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * probe.c - finds out what a store honours, by asking for things that it must refuse.
 *
 * A store that ignores a condition answers 200 and overwrites, so nothing is concluded from a 200 alone: each flag
 * needs the refusal (-ESTALE) where the condition is wrong and, where a store could refuse everything, success where
 * it is right. -ENOTSUP and -EINVAL (501, 400) mean "cannot". All keys lie below <prefix>.lsvd/probe/<random>/ and are
 * removed at the end, also after an error; no other key is ever named.
 *
 * s3.c sends every condition that a request asks for; it is the callers above who ask obj_caps() first. That is why
 * this file can ask for what the flags do not promise yet.
 */
#include "config.h"
#include "objstore.h"
#include "base/str.h"
#include "store-private.h"
#include <stdio.h>
#include <string.h>

#define PROBED                                                                                                       \
	(OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH | OBJ_CAP_COMPLETE_COND | OBJ_CAP_COPY_SRC | OBJ_CAP_COPY_DST |         \
	 OBJ_CAP_DELETE_COND | OBJ_CAP_COPY | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY | OBJ_CAP_DELETE_MANY)
#define WRONG_ETAG "00000000000000000000000000000000"

struct probe {
	struct objstore *s;
	struct objerr *err;
	char *a, *b;		/* our keys: a exists all the time, b comes and goes */
	char etag[OBJ_ETAG_MAX]; /* of a, now */
	unsigned caps;
	char *upload_id; /* under way, to be aborted */
	const char *upload_key;
	char nonce[OBJ_NONCE_LEN + 1];
};

static int make_key(const char *prefix, const char *dir, const char *name, char **ret)
{
	struct str s = {0};

	str_add(&s, prefix);
	str_add(&s, ".lsvd/probe/");
	str_add(&s, dir);
	str_addc(&s, '/');
	str_add(&s, name);
	return str_take(&s, ret);
}

/* Runs one request. Returns 1 when it was done, 0 when the store refused or cannot, -errno when nothing can be said. */
static int ask(struct probe *p, struct objreq *req, bool *ret_refused)
{
	int r = obj_do(p->s, req);

	if (ret_refused != NULL)
		*ret_refused = r == -ESTALE;
	if (r == 0 && (req->op == OBJ_PUT || req->op == OBJ_COPY || req->op == OBJ_MPU_COMPLETE) && req->key == p->a)
		memcpy(p->etag, req->etag, sizeof(p->etag));
	if (r == 0)
		return 1;
	if (r == -ESTALE || r == -ENOTSUP || r == -EINVAL || r == -ENOENT)
		return 0;
	*p->err = req->err;
	return r;
}

/* PUT of a few bytes. match NULL and !only_new: plain. */
static int put(struct probe *p, const char *key, const char *match, bool only_new, bool *ret_refused)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t) "probe", .iov_len = 5};
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_PUT, key);
	req.iov = &iov;
	req.iovcnt = 1;
	req.if_match = match;
	req.if_none_match_any = only_new;
	r = ask(p, &req, ret_refused);
	objreq_done(&req);
	return r;
}

/* Back to a known state: a is there and its etag known. */
static int reset_a(struct probe *p)
{
	struct objreq req;
	int r = put(p, p->a, NULL, false, NULL);

	if (r == 0) {
		objerr_set(p->err, "the store refuses a plain PUT of a small object");
		return -EIO;
	}
	if (r < 0)
		return r;
	/* Not every PUT reply says the etag; the HEAD does. */
	r = obj_head(p->s, p->a, &req);
	if (r == 0)
		memcpy(p->etag, req.etag, sizeof(p->etag));
	else
		*p->err = req.err;
	objreq_done(&req);
	return r;
}

static int probe_put_new(struct probe *p)
{
	bool refused;
	int r = put(p, p->a, NULL, true, &refused);

	if (r != 0)
		return r < 0 ? r : reset_a(p);
	if (!refused)
		return 0; /* 501 */
	r = put(p, p->b, NULL, true, NULL);
	if (r > 0)
		p->caps |= OBJ_CAP_PUT_NEW;
	return MIN(r, 0);
}

/* If-Match is written "etag" (RFC 9110); one server only takes it bare. */
static int probe_put_match(struct probe *p)
{
	struct objstore *bottom = store_bottom(p->s);
	bool refused;
	int r = put(p, p->a, p->etag, false, &refused);

	if (r == 0 && refused) {
		bottom->quirks |= OBJ_QUIRK_UNQUOTED_IF_MATCH;
		r = put(p, p->a, p->etag, false, NULL);
	}
	if (r > 0) {
		r = put(p, p->a, WRONG_ETAG, false, &refused);
		if (r == 0 && refused) {
			p->caps |= OBJ_CAP_PUT_MATCH;
			return 0;
		}
	}
	bottom->quirks &= ~(unsigned)OBJ_QUIRK_UNQUOTED_IF_MATCH;
	return r < 0 ? r : reset_a(p);
}

static int copy(struct probe *p, const char *from, const char *to, const char *src_match, const char *match,
		bool only_new, bool *ret_refused)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_COPY, to);
	req.src_key = from;
	req.src_if_match = src_match;
	req.if_match = match;
	req.if_none_match_any = only_new;
	r = ask(p, &req, ret_refused);
	objreq_done(&req);
	return r;
}

static int probe_copy(struct probe *p)
{
	bool refused;
	int r = copy(p, p->a, p->b, NULL, NULL, false, NULL);

	if (r <= 0)
		return r;
	p->caps |= OBJ_CAP_COPY;
	r = copy(p, p->a, p->b, WRONG_ETAG, NULL, false, &refused);
	if (r == 0 && refused) {
		r = copy(p, p->a, p->b, p->etag, NULL, false, NULL);
		if (r > 0)
			p->caps |= OBJ_CAP_COPY_SRC;
	}
	if (r < 0)
		return r;
	/* b -> a: a exists, so "only new" and a wrong etag must both be refused, and the right etag taken. */
	r = copy(p, p->b, p->a, NULL, NULL, true, &refused);
	if (r == 0 && refused)
		r = copy(p, p->b, p->a, NULL, WRONG_ETAG, false, &refused);
	else
		refused = false;
	if (r == 0 && refused) {
		r = copy(p, p->b, p->a, NULL, p->etag, false, NULL);
		if (r > 0)
			p->caps |= OBJ_CAP_COPY_DST;
	}
	return r < 0 ? r : reset_a(p);
}

static int delete_if(struct probe *p, const char *key, const char *match, bool *ret_refused)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_DELETE, key);
	req.if_match = match;
	r = ask(p, &req, ret_refused);
	objreq_done(&req);
	return r;
}

static int probe_delete(struct probe *p)
{
	const char *keys[] = {p->b};
	struct objreq req;
	bool refused;
	int r = delete_if(p, p->a, WRONG_ETAG, &refused);

	if (r == 0 && refused) {
		r = delete_if(p, p->a, p->etag, NULL);
		if (r > 0)
			p->caps |= OBJ_CAP_DELETE_COND;
	}
	if (r < 0)
		return r;
	objreq_init(&req, OBJ_DELETE_MANY, NULL);
	req.keys = keys;
	req.nkeys = 1;
	r = ask(p, &req, NULL);
	objreq_done(&req);
	if (r > 0)
		p->caps |= OBJ_CAP_DELETE_MANY;
	return r < 0 ? r : reset_a(p);
}

/* --- multipart ---------------------------------------------------------------------------------------------------- */

static int mpu_create(struct probe *p, const char *key)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_CREATE, key);
	r = ask(p, &req, NULL);
	if (r > 0) {
		p->upload_id = req.ret_upload_id;
		p->upload_key = key;
		req.ret_upload_id = NULL;
		memcpy(p->nonce, req.nonce, sizeof(p->nonce));
	}
	objreq_done(&req);
	return r;
}

static int mpu_abort(struct probe *p, struct objerr *err)
{
	struct objreq req;
	int r;

	if (p->upload_id == NULL)
		return 0;
	objreq_init(&req, OBJ_MPU_ABORT, p->upload_key);
	req.upload_id = p->upload_id;
	r = obj_do(p->s, &req);
	if (r < 0)
		*err = req.err; /* and once more in clean_up() */
	objreq_done(&req);
	if (r == 0) {
		free(p->upload_id);
		p->upload_id = NULL;
	}
	return r;
}

/* Part 1, from bytes or as a copy of a. */
static int mpu_part(struct probe *p, const char *key, bool by_copy, struct obj_part *ret)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t) "part", .iov_len = 4};
	struct objreq req;
	int r;

	objreq_init(&req, by_copy ? OBJ_MPU_COPY_PART : OBJ_MPU_PART, key);
	req.upload_id = p->upload_id;
	req.part = 1;
	if (by_copy) {
		req.src_key = p->a;
	} else {
		req.iov = &iov;
		req.iovcnt = 1;
	}
	r = ask(p, &req, NULL);
	if (r > 0) {
		ret->number = 1;
		memcpy(ret->etag, req.etag, sizeof(ret->etag));
	}
	objreq_done(&req);
	return r;
}

static int mpu_complete(struct probe *p, const char *key, const struct obj_part *part, const char *match, bool only_new,
			bool *ret_refused)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_COMPLETE, key);
	req.upload_id = p->upload_id;
	req.parts = part;
	req.nparts = 1;
	req.if_match = match;
	req.if_none_match_any = only_new;
	memcpy(req.nonce, p->nonce, sizeof(req.nonce));
	r = ask(p, &req, ret_refused);
	if (r > 0) {
		free(p->upload_id);
		p->upload_id = NULL;
	}
	objreq_done(&req);
	return r;
}

/* Completes onto a, which exists: under "only new" and under a wrong etag it must be refused. A store may drop an
 * upload that it refused, so each question has an upload of its own. */
static int probe_complete_cond(struct probe *p, const char *match)
{
	struct obj_part part;
	bool refused = false;
	int r = mpu_create(p, p->a);

	if (r > 0)
		r = mpu_part(p, p->a, false, &part);
	if (r > 0)
		r = mpu_complete(p, p->a, &part, match, match == NULL, &refused);
	if (r >= 0) {
		int k = mpu_abort(p, p->err);

		r = k < 0 ? k : refused ? 1 : 0;
	}
	return r;
}

/* Swift refuses whatever condition it is given: the right one must pass. Changes a. */
static int probe_complete_right(struct probe *p)
{
	struct obj_part part;
	bool refused, done = false;
	int r = mpu_create(p, p->a);

	if (r > 0)
		r = mpu_part(p, p->a, false, &part);
	if (r > 0) {
		r = mpu_complete(p, p->a, &part, p->etag, false, &refused);
		done = r > 0;
	}
	if (r >= 0)
		r = mpu_abort(p, p->err);
	return r < 0 ? r : done;
}

/*
 * b is an object in parts. Swift compares the condition on a source with another ETag than the one it tells of such an
 * object, so that the right one is refused: then the condition is of no use. Changes a.
 */
static int probe_copy_of_parts(struct probe *p)
{
	struct objreq req;
	bool refused = false;
	int r = obj_head(p->s, p->b, &req);

	if (r < 0)
		*p->err = req.err;
	else
		r = copy(p, p->b, p->a, req.etag, NULL, false, &refused);
	objreq_done(&req);
	if (refused)
		p->caps &= ~(unsigned)OBJ_CAP_COPY_SRC;
	return r < 0 ? r : reset_a(p);
}

static int probe_multipart(struct probe *p)
{
	struct obj_part part;
	int r = mpu_create(p, p->b);

	if (r > 0)
		r = mpu_part(p, p->b, false, &part);
	if (r > 0)
		r = mpu_complete(p, p->b, &part, NULL, false, NULL);
	if (r <= 0)
		return r < 0 ? r : mpu_abort(p, p->err);
	p->caps |= OBJ_CAP_MULTIPART;
	if (p->caps & OBJ_CAP_COPY_SRC) {
		r = probe_copy_of_parts(p);
		if (r < 0)
			return r;
	}
	r = mpu_create(p, p->b);
	if (r > 0)
		r = mpu_part(p, p->b, true, &part);
	if (r > 0)
		p->caps |= OBJ_CAP_PART_COPY;
	if (r >= 0)
		r = mpu_abort(p, p->err);
	if (r == 0)
		r = probe_complete_cond(p, NULL);
	if (r > 0)
		r = probe_complete_cond(p, WRONG_ETAG);
	if (r > 0)
		r = probe_complete_right(p);
	if (r > 0)
		p->caps |= OBJ_CAP_COMPLETE_COND;
	return MIN(r, 0);
}

/* First error wins; a key that stays is the one thing that a later failure may not hide. */
static int clean_up(struct probe *p, int r)
{
	const char *keys[] = {p->a, p->b};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct objerr e = {0};
		int k = mpu_abort(p, &e), d = obj_delete(p->s, keys[i], NULL, &e);

		k = k < 0 ? k : d;
		if (k < 0 && r == 0) {
			*p->err = e;
			r = k;
		}
	}
	return r;
}

static int run_probes(struct probe *p)
{
	int (*const step[])(struct probe *) = {
		probe_put_new, probe_put_match, probe_copy, probe_delete, probe_multipart,
	};
	int r = reset_a(p);

	for (size_t i = 0; i < ARRAY_SIZE(step) && r == 0; i++)
		r = step[i](p);
	return r;
}

int obj_probe(struct objstore *s, const char *prefix, struct objerr *err)
{
	struct objstore *bottom = store_bottom(s);
	struct objerr ours = {0};
	struct probe p = {.s = s, .err = err != NULL ? err : &ours};
	char dir[17];
	int r;

	if (bottom->caps_known)
		return 0;
	base_random_hex(dir, 8);
	r = make_key(prefix, dir, "a", &p.a);
	if (r == 0)
		r = make_key(prefix, dir, "b", &p.b);
	if (r == 0)
		r = clean_up(&p, run_probes(&p));
	if (r == 0)
		obj_set_caps(s, (bottom->caps & ~(unsigned)PROBED) | p.caps, bottom->quirks);
	free(p.upload_id);
	free(p.a);
	free(p.b);
	return r;
}
