/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * copy.c - an object made of another on the server, or through this node where only a PUT takes a condition.
 *
 * Conditions are sent where the store is known to honour them and left out where it would ignore them; what to do about
 * a missing one is up to metaput.c and move.c. The one thing filled in here: a Complete that takes no condition is
 * preceded by a HEAD, because parts take long enough for somebody else to come by.
 */
#include "config.h"
#include "tree-private.h"

#include "objstore/base/log.h"

#include <string.h>

#define PARTS_AT_ONCE 8
#define PART_COPY_SIZE GiB

int object_head(struct tree *t, const char *key, struct version *ret, struct obj_headers *ret_h, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_HEAD, key);
	r = tree_do(t, &req, err);
	if (!r && ret_h)
		r = obj_headers_copy(ret_h, &req.ret_headers);
	if (!r) {
		*ret = (struct version){.size = req.size, .mtime_s = req.mtime_s};
		memcpy(ret->etag, req.etag, sizeof(ret->etag));
	}
	objreq_done(&req);
	return r;
}

bool headers_have_tags(const struct obj_headers *h)
{
	const char *n = h ? obj_headers_get(h, "x-amz-tagging-count") : NULL;

	return n && strcmp(n, "0");
}

int headers_to_send(const struct obj_headers *h, struct obj_headers *ret)
{
	static const char *const not_sent[] = {META_PUT, META_WAS, "x-amz-tagging-count"};
	int r = obj_headers_copy(ret, h);

	for (unsigned i = 0; i < ARRAY_SIZE(not_sent) && !r; i++)
		if (obj_headers_get(ret, not_sent[i]))
			r = obj_headers_set(ret, not_sent[i], NULL);
	return r;
}

/* The version that a write has made. Some stores name no etag in some replies: then it is asked for. */
static int made_version(struct tree *t, const struct objreq *req, const char *key, uint64_t size, struct version *ret,
			struct objerr *err)
{
	struct version v = {.size = size, .mtime_s = req->mtime_s ? req->mtime_s : req->date_s};
	int r = 0;

	memcpy(v.etag, req->etag, sizeof(v.etag));
	if (!v.etag[0])
		r = object_head(t, key, &v, NULL, err);
	if (!r)
		*ret = v;
	return r;
}

static int copy_whole(struct tree *t, struct copy *c, struct version *ret, struct objerr *err)
{
	unsigned caps = obj_caps(t->store);
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_COPY, c->dst_key);
	req.src_key = c->src_key;
	req.headers = c->h;
	if (caps & OBJ_CAP_COPY_SRC)
		req.src_if_match = c->src->etag;
	if (caps & OBJ_CAP_COPY_DST) {
		req.if_match = c->if_match;
		req.if_none_match_any = c->only_new;
	}
	c->nonce[0] = '\0';
	if (c->h) {
		base_random_hex(req.nonce, OBJ_NONCE_LEN / 2);
		memcpy(c->nonce, req.nonce, sizeof(c->nonce));
	}
	c->asked_ns = clock_now_ns();
	r = tree_do(t, &req, err);
	c->date_s = req.date_s;
	if (!r)
		r = made_version(t, &req, c->dst_key, c->src->size, ret, err);
	objreq_done(&req);
	return r;
}

/* --- in parts ------------------------------------------------------------------------------------------------- */

struct wave {
	struct mtx lock; /* RANK_CACHE */
	struct cond answered; /* by each part */
	unsigned open;	      /* under lock */
};

static void part_done(struct objreq *req)
{
	struct wave *w = req->priv;

	mtx_lock(&w->lock);
	w->open--;
	cond_signal(&w->answered);
	mtx_unlock(&w->lock);
}

/* Parts first .. first + n - 1 at once. */
static int copy_wave(struct tree *t, const struct copy *c, const char *upload_id, uint64_t part_size, unsigned first,
		     unsigned n, struct obj_part *parts, struct objerr *err)
{
	struct objreq req[PARTS_AT_ONCE];
	struct wave w = {.open = n};
	int r = 0;

	mtx_init(&w.lock, RANK_CACHE);
	cond_init(&w.answered);
	for (unsigned i = 0; i < n; i++) {
		objreq_init(&req[i], OBJ_MPU_COPY_PART, c->dst_key);
		req[i].src_key = c->src_key;
		if (obj_caps(t->store) & OBJ_CAP_COPY_SRC)
			req[i].src_if_match = c->src->etag;
		req[i].upload_id = upload_id;
		req[i].part = first + i;
		req[i].off = (first + i - 1) * part_size;
		req[i].len = MIN(part_size, c->src->size - req[i].off);
		req[i].done = part_done;
		req[i].priv = &w;
		obj_submit(t->store, &req[i]);
	}
	mtx_lock(&w.lock);
	while (w.open)
		cond_wait(&w.answered, &w.lock);
	mtx_unlock(&w.lock);
	for (unsigned i = 0; i < n; i++) {
		if (req[i].status && !r) {
			r = req[i].status;
			if (err)
				*err = req[i].err;
		}
		parts[first + i - 1].number = first + i;
		memcpy(parts[first + i - 1].etag, req[i].etag, sizeof(req[i].etag));
		objreq_done(&req[i]);
	}
	cond_destroy(&w.answered);
	mtx_destroy(&w.lock);
	return r;
}

/* What the parts could not be conditional on is looked at once more. */
static int before_complete(struct tree *t, const struct copy *c, struct objerr *err)
{
	unsigned caps = obj_caps(t->store);
	struct version v;
	int r;

	if (!(caps & OBJ_CAP_COPY_SRC)) {
		r = object_head(t, c->src_key, &v, NULL, err);
		if (r < 0)
			return r;
		if (strcmp(v.etag, c->src->etag))
			return -ESTALE;
	}
	if ((caps & OBJ_CAP_COMPLETE_COND) || (!c->if_match && !c->only_new))
		return 0;
	r = object_head(t, c->dst_key, &v, NULL, err);
	if (r == -ENOENT)
		return c->if_match ? -ESTALE : 0;
	if (r < 0)
		return r;
	return c->only_new || strcmp(v.etag, c->if_match) ? -ESTALE : 0;
}

static int complete(struct tree *t, struct copy *c, const char *upload_id, const struct obj_part *parts, size_t nparts,
		    struct version *ret, struct objerr *err)
{
	struct objreq req;
	int r = before_complete(t, c, err);

	if (r < 0)
		return r;
	objreq_init(&req, OBJ_MPU_COMPLETE, c->dst_key);
	req.upload_id = upload_id;
	req.parts = parts;
	req.nparts = nparts;
	memcpy(req.nonce, c->nonce, sizeof(req.nonce));
	if (obj_caps(t->store) & OBJ_CAP_COMPLETE_COND) {
		req.if_match = c->if_match;
		req.if_none_match_any = c->only_new;
	}
	r = tree_do(t, &req, err);
	c->date_s = req.date_s;
	if (!r)
		r = made_version(t, &req, c->dst_key, c->src->size, ret, err);
	objreq_done(&req);
	return r;
}

/* Equal parts, as few as the limits allow. */
static uint64_t part_copy_size(const struct objstore *s, uint64_t size)
{
	uint64_t most = s->part_max_count ? s->part_max_count : 10000;
	uint64_t part = MAX(MIN(PART_COPY_SIZE, s->put_max), s->part_min);

	if ((size + part - 1) / part > most)
		part = (size / most / MiB + 1) * MiB;
	return part;
}

static int copy_parts(struct tree *t, struct copy *c, struct version *ret, struct objerr *err)
{
	uint64_t part = part_copy_size(t->store, c->src->size), n = (c->src->size + part - 1) / part;
	struct obj_headers own = {};
	struct obj_part *parts = NULL;
	struct objreq create, abort_req;
	struct version v;
	int r = 0;

	objreq_init(&create, OBJ_MPU_CREATE, c->dst_key);
	if (!(obj_caps(t->store) & OBJ_CAP_PART_COPY)) {
		if (err)
			objerr_set(err, "%s is too large for one copy and the store has no copies in parts", c->src_key);
		return -ENOTSUP;
	}
	if (!c->h) { /* an upload inherits nothing from the source of its parts */
		struct obj_headers all = {};

		r = object_head(t, c->src_key, &v, &all, err);
		if (!r && strcmp(v.etag, c->src->etag))
			r = -ESTALE;
		if (!r)
			r = headers_to_send(&all, &own);
		obj_headers_free(&all);
	}
	if (!r) {
		parts = calloc(n, sizeof(*parts));
		r = parts ? 0 : -ENOMEM;
	}
	if (r < 0)
		goto out;
	create.headers = c->h ? c->h : &own;
	base_random_hex(create.nonce, OBJ_NONCE_LEN / 2);
	memcpy(c->nonce, create.nonce, sizeof(c->nonce));
	c->asked_ns = clock_now_ns();
	r = tree_do(t, &create, err);
	if (r < 0)
		goto out;
	for (uint64_t i = 0; i < n && !r; i += PARTS_AT_ONCE)
		r = copy_wave(t, c, create.ret_upload_id, part, (unsigned)i + 1, (unsigned)MIN(n - i, PARTS_AT_ONCE),
			      parts, err);
	if (!r)
		r = complete(t, c, create.ret_upload_id, parts, n, ret, err);
	if (r < 0) {
		objreq_init(&abort_req, OBJ_MPU_ABORT, c->dst_key);
		abort_req.upload_id = create.ret_upload_id;
		/* The first error is the one to tell. */
		if (tree_do(t, &abort_req, NULL) < 0)
			log_debug("%s: upload %s is left over: %s", c->dst_key, create.ret_upload_id, abort_req.err.msg);
		objreq_done(&abort_req);
	}
out:
	objreq_done(&create);
	obj_headers_free(&own);
	free(parts);
	return r;
}

int copy_object(struct tree *t, struct copy *c, struct version *ret, struct objerr *err)
{
	if (t->store->put_max && c->src->size > t->store->put_max)
		return copy_parts(t, c, ret, err);
	return copy_whole(t, c, ret, err);
}

/* --- through this node ---------------------------------------------------------------------------------------- */

static int get_body(struct tree *t, const struct copy *c, void *buf, struct obj_headers *ret_h, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_GET, c->src_key);
	req.if_match = c->src->etag;
	req.buf = buf;
	req.cap = c->src->size;
	r = tree_do(t, &req, err);
	if (!r && (req.truncated || req.got != c->src->size))
		r = -ESTALE; /* not the version that was meant, whatever its etag */
	if (!r && !c->h)
		r = headers_to_send(&req.ret_headers, ret_h);
	objreq_done(&req);
	return r;
}

int copy_by_put(struct tree *t, struct copy *c, struct version *ret, struct objerr *err)
{
	struct obj_headers kept = {};
	struct iovec iov = {.iov_len = c->src->size};
	struct objreq req;
	int r;

	if (c->src->size > SMALL_OBJECT)
		return -EFBIG;
	if (t->budget)
		budget_take(t->budget, c->src->size);
	iov.iov_base = malloc(c->src->size + 1);
	r = iov.iov_base ? get_body(t, c, iov.iov_base, &kept, err) : -ENOMEM;
	if (r < 0)
		goto out;
	objreq_init(&req, OBJ_PUT, c->dst_key);
	req.iov = &iov;
	req.iovcnt = c->src->size ? 1 : 0;
	req.headers = c->h ? c->h : &kept;
	req.if_match = c->if_match;
	req.if_none_match_any = c->only_new;
	base_random_hex(req.nonce, OBJ_NONCE_LEN / 2);
	memcpy(c->nonce, req.nonce, sizeof(c->nonce));
	c->asked_ns = clock_now_ns();
	r = tree_do(t, &req, err);
	c->date_s = req.date_s;
	if (!r)
		r = made_version(t, &req, c->dst_key, c->src->size, ret, err);
	objreq_done(&req);
out:
	free(iov.iov_base);
	if (t->budget)
		budget_give(t->budget, c->src->size);
	obj_headers_free(&kept);
	return r;
}
