/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * objstore.c - the life of a request, and the ways in: obj_submit, obj_do, the typed helpers.
 *
 *   objreq_init -> (caller fills) -> obj_submit -> ... store ... -> objreq_finish -> done() -> objreq_done
 *
 * A wrapper takes done and priv over while the request is below it, gives them back before it finishes the request,
 * and uses objreq_reset_answer() between two tries. objreq_check() states on every crossing what a caller owes; what a
 * user or a server can get wrong is never checked there.
 */
#include "config.h"
#include "objstore.h"
#include "base/lock.h"
#include "base/str.h"
#include "store-private.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const obj_op_name[OBJ_NOPS] = {
	[OBJ_GET] = "GET",
	[OBJ_HEAD] = "HEAD",
	[OBJ_PUT] = "PUT",
	[OBJ_DELETE] = "DELETE",
	[OBJ_DELETE_MANY] = "DELETE_MANY",
	[OBJ_COPY] = "COPY",
	[OBJ_LIST] = "LIST",
	[OBJ_MPU_CREATE] = "MPU_CREATE",
	[OBJ_MPU_PART] = "MPU_PART",
	[OBJ_MPU_COPY_PART] = "MPU_COPY_PART",
	[OBJ_MPU_COMPLETE] = "MPU_COMPLETE",
	[OBJ_MPU_ABORT] = "MPU_ABORT",
	[OBJ_MPU_LIST] = "MPU_LIST",
};

const char *obj_cap_name(enum obj_cap cap)
{
	switch (cap) {
	case OBJ_CAP_PUT_NEW:
		return "PUT only if absent";
	case OBJ_CAP_PUT_MATCH:
		return "PUT only over a known version";
	case OBJ_CAP_COMPLETE_COND:
		return "conditions on completing a multipart upload";
	case OBJ_CAP_COPY_SRC:
		return "COPY only of a known version";
	case OBJ_CAP_COPY_DST:
		return "conditions on the target of a COPY";
	case OBJ_CAP_DELETE_COND:
		return "DELETE only of a known version";
	case OBJ_CAP_COPY:
		return "COPY on the server";
	case OBJ_CAP_MULTIPART:
		return "multipart upload";
	case OBJ_CAP_PART_COPY:
		return "COPY into a part";
	case OBJ_CAP_DELETE_MANY:
		return "DELETE of many keys at once";
	case OBJ_CAP_EQUAL_PARTS:
		return "parts must be of one size";
	case OBJ_CAP_NESTED:
		return "a key may be another key's prefix directory";
	case OBJ_CAP_LONG_NAMES:
		return "names over 255 bytes";
	}
	return NULL;
}

bool obj_op_writes(enum obj_op op)
{
	switch (op) {
	case OBJ_GET:
	case OBJ_HEAD:
	case OBJ_LIST:
	case OBJ_MPU_LIST:
	case OBJ_NOPS:
		return false;
	default:
		return true;
	}
}

void objerr_set(struct objerr *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	str_make_printable(e->msg); /* keys, options and what servers say are anybody's bytes, and may be cut anywhere */
}

void objreq_init(struct objreq *req, enum obj_op op, const char *key)
{
	*req = (struct objreq){.op = op, .key = key, .len = OBJ_WHOLE};
}

void objreq_reset_answer(struct objreq *req)
{
	obj_headers_free(&req->ret_headers);
	free(req->ret_upload_id);
	obj_listing_free(req->listing);
	req->ret_upload_id = NULL;
	req->listing = NULL;
	req->status = 0;
	req->not_modified = false;
	req->truncated = false;
	req->maybe_done = false;
	req->got = 0;
	req->size = 0;
	req->mtime_s = 0;
	req->date_s = 0;
	req->etag[0] = '\0';
	req->err = (struct objerr){0};
}

void objreq_done(struct objreq *req)
{
	objreq_reset_answer(req);
}

void objreq_finish(struct objreq *req, int status)
{
	assert(status <= 0);
	req->status = status;
	if (status < 0 && req->err.msg[0] == '\0') {
		char buf[64];

		objerr_set(&req->err, "%s %s: %s", obj_op_name[req->op], req->key != NULL ? req->key : "",
			   strerror_r(-status, buf, sizeof(buf)));
	}
	req->done(req);
}

static bool is_upload_op(enum obj_op op)
{
	return op == OBJ_MPU_PART || op == OBJ_MPU_COPY_PART || op == OBJ_MPU_COMPLETE || op == OBJ_MPU_ABORT;
}

void objreq_check(const struct objreq *req)
{
	assert(req->op < OBJ_NOPS);
	assert(req->done != NULL);
	assert(req->key != NULL || req->op == OBJ_DELETE_MANY);
	assert(!(req->if_match != NULL && req->if_none_match_any));
	assert(memchr(req->nonce, '\0', sizeof(req->nonce)) != NULL);
	if (is_upload_op(req->op))
		assert(req->upload_id != NULL);
	switch (req->op) {
	case OBJ_GET:
		assert(req->len > 0);
		assert(req->buf != NULL || req->cap == 0);
		break;
	case OBJ_PUT:
		assert(req->iovcnt >= 0 && (req->iov != NULL || req->iovcnt == 0));
		break;
	case OBJ_MPU_PART:
		assert(req->iovcnt >= 0 && (req->iov != NULL || req->iovcnt == 0));
		assert(req->part >= 1 && req->part <= 10000);
		break;
	case OBJ_MPU_COPY_PART:
		assert(req->src_key != NULL && req->len > 0);
		assert(req->part >= 1 && req->part <= 10000);
		break;
	case OBJ_COPY:
		assert(req->src_key != NULL);
		break;
	case OBJ_MPU_COMPLETE:
		assert(req->parts != NULL && req->nparts > 0);
		break;
	case OBJ_DELETE_MANY:
		assert(req->nkeys <= OBJ_LIST_MAX && (req->keys != NULL || req->nkeys == 0));
		break;
	default:
		break;
	}
}

void obj_submit(struct objstore *s, struct objreq *req)
{
	objreq_check(req);
	lock_check_free("obj_submit");
	s->ops->submit(s, req);
}

/* One thread that waits for one request. */
struct waiter {
	struct mtx lock;
	struct cond answered; /* signalled by waiter_done */
	bool done;	      /* under lock */
};

static void waiter_done(struct objreq *req)
{
	struct waiter *w = req->priv;

	/* All is touched under the lock: the waiter's stack frame is gone right after. */
	mtx_lock(&w->lock);
	w->done = true;
	cond_signal(&w->answered);
	mtx_unlock(&w->lock);
}

int obj_do(struct objstore *s, struct objreq *req)
{
	struct waiter w = {.lock = MTX_INIT(RANK_WAIT)};
	void (*done)(struct objreq *r) = req->done;
	void *priv = req->priv;

	cond_init(&w.answered);
	req->done = waiter_done;
	req->priv = &w;
	obj_submit(s, req);
	mtx_lock(&w.lock);
	while (!w.done)
		cond_wait(&w.answered, &w.lock);
	mtx_unlock(&w.lock);
	req->done = done;
	req->priv = priv;
	cond_destroy(&w.answered);
	mtx_destroy(&w.lock);
	return req->status;
}

struct objstore *store_bottom(struct objstore *s)
{
	while (s->inner != NULL)
		s = s->inner;
	return s;
}

unsigned obj_caps(struct objstore *s)
{
	return store_bottom(s)->caps;
}

unsigned obj_quirks(struct objstore *s)
{
	return store_bottom(s)->quirks;
}

void obj_set_caps(struct objstore *s, unsigned caps, unsigned quirks)
{
	struct objstore *b = store_bottom(s);

	b->caps = caps;
	b->quirks = quirks;
	b->caps_known = true;
}

void obj_close(struct objstore *s)
{
	if (s != NULL)
		s->ops->close(s);
}

void store_wrap(struct objstore *s, const struct objstore_ops *ops, struct objstore *take_inner)
{
	s->ops = ops;
	s->inner = take_inner;
	s->stats = take_inner->stats;
	s->asked = take_inner->asked;
	s->part_min = take_inner->part_min;
	s->part_max_count = take_inner->part_max_count;
	s->put_max = take_inner->put_max;
}

uint64_t store_body_bytes(const struct objreq *req)
{
	uint64_t n = 0;

	if (req->op != OBJ_PUT && req->op != OBJ_MPU_PART)
		return 0;
	for (int i = 0; i < req->iovcnt; i++)
		n += req->iov[i].iov_len;
	return n;
}

void store_stats_count(struct obj_stats *st, const struct objreq *req, int status)
{
	if (st == NULL)
		return;
	st->count[req->op]++;
	if (status < 0 && status != -ENOENT && status != -ESTALE)
		st->errors[req->op]++;
	if (status == 0)
		st->bytes_in += req->got;
	st->bytes_out += store_body_bytes(req);
}

int store_put_headers(const struct objreq *req, struct obj_headers *ret)
{
	struct obj_headers h = {0};
	int r = 0;

	if (req->headers != NULL)
		r = obj_headers_copy(&h, req->headers);
	if (r == 0 && req->nonce[0] != '\0')
		r = obj_headers_set(&h, STORE_NONCE_HEADER, req->nonce);
	if (r < 0) {
		obj_headers_free(&h);
		return r;
	}
	*ret = h;
	return 0;
}

int store_cut_range(const struct objreq *req, uint64_t size, uint64_t *ret_n)
{
	if (req->off >= size && req->off > 0)
		return -ERANGE;
	*ret_n = MIN(MIN(size - req->off, req->len), (uint64_t)req->cap);
	return 0;
}

int store_check_dst(const struct objreq *req, const char *etag)
{
	if (req->if_none_match_any && etag != NULL)
		return -ESTALE;
	if (req->if_match != NULL && etag == NULL)
		return -ENOENT; /* AWS: 404 NoSuchKey */
	if (req->if_match != NULL && strcmp(req->if_match, etag) != 0)
		return -ESTALE;
	return 0;
}

int obj_head(struct objstore *s, const char *key, struct objreq *ret_req)
{
	objreq_init(ret_req, OBJ_HEAD, key);
	return obj_do(s, ret_req);
}

int obj_put(struct objstore *s, const char *key, const void *p, size_t n, const char *if_match, bool only_new,
	    const struct obj_headers *h, char *ret_etag, struct objerr *err)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_PUT, key);
	req.iov = &iov;
	req.iovcnt = n > 0 ? 1 : 0;
	req.if_match = if_match;
	req.if_none_match_any = only_new;
	req.headers = h;
	r = obj_do(s, &req);
	if (r == 0 && ret_etag != NULL)
		memcpy(ret_etag, req.etag, OBJ_ETAG_MAX);
	if (r < 0 && err != NULL)
		*err = req.err;
	objreq_done(&req);
	return r;
}

int obj_delete(struct objstore *s, const char *key, const char *if_match, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_DELETE, key);
	req.if_match = if_match;
	r = obj_do(s, &req);
	if (r < 0 && err != NULL)
		*err = req.err;
	objreq_done(&req);
	return r;
}

int obj_each(struct objstore *s, enum obj_op list, const char *prefix, bool delimiter, obj_each_fn *fn, void *arg,
	     struct objerr *err)
{
	_cleanup_free_ char *token = NULL;
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		struct objreq req;

		objreq_init(&req, list, prefix);
		req.delimiter = delimiter;
		req.token = token;
		r = obj_do(s, &req);
		if (r < 0 && err != NULL)
			*err = req.err;
		for (size_t i = 0; r == 0 && i < req.listing->n; i++)
			r = fn(arg, &req.listing->v[i]);
		more = r == 0 && req.listing->truncated && req.listing->next_token != NULL;
		free(token);
		token = NULL;
		if (more) {
			token = req.listing->next_token;
			req.listing->next_token = NULL;
		}
		objreq_done(&req);
	}
	return r;
}
