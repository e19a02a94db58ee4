/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spupload.c - one upload of a sealed file: what stands at the target, one PUT, and which of the two ways it goes.
 *
 * The condition is the base: If-Match on it, or If-None-Match:* when there is none. A store without conditions gets a
 * HEAD before the change instead (check, then put).
 *
 * Whether an object at the target is ours is decided by its nonce. Each content is sent under its own nonce, which is
 * in the journal before the request leaves; `tries` remembers those whose answer never came. Meeting one of them again
 * means: the newest content -> done; an older one -> that object is our new base, send again. So is an object that says
 * of itself that it is the base after a change of metadata.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/failpoint.h"
#include <string.h>
#include <unistd.h>

#define RESOLVE_MAX 4 /* rounds of change and check for one upload: more means that the store contradicts itself */

static struct objstore *store_of(struct spfile *f)
{
	return f->s->o.store;
}

/* Remembers and journals a nonce that is about to be sent. */
int sp_add_try(struct spup *u, const char *nonce)
{
	struct spfile *f = u->f;
	struct spj_event ev = { .type = SPJ_NONCE, .text = nonce };
	struct sptry *t;
	int r = 0;

	mtx_lock(&f->lock);
	for (size_t i = 0; i < f->ntries; i++) {
		if (strcmp(f->tries[i].nonce, nonce) == 0 && f->tries[i].wseq == u->wseq && f->tries[i].hseq == u->hseq)
			goto out;
	}
	t = realloc(f->tries, (f->ntries + 1) * sizeof(*t));
	if (t == NULL) {
		r = -ENOMEM;
		goto out;
	}
	f->tries = t;
	t[f->ntries] = (struct sptry){ .wseq = u->wseq, .hseq = u->hseq };
	r = str_copy(t[f->ntries].nonce, sizeof(t->nonce), nonce);
	if (r == 0)
		f->ntries++;
	/* a journal that takes nothing more costs a parked copy after a crash, not the upload */
	sp_best_effort(spj_append(&f->j, &ev));
	if (f->state == SP_ACKED)
		(void)fdatasync(f->j.fd); /* the promise outlives a power cut: so must the proof that it was kept */
out:
	mtx_unlock(&f->lock);
	return r;
}

/* A nonce for this content: the one of an unanswered try of the very same, else a new one. */
static int pick_nonce(struct spup *u, char *out)
{
	struct spfile *f = u->f;
	bool found = false;

	mtx_lock(&f->lock);
	if (f->ntries > 0) {
		const struct sptry *t = &f->tries[f->ntries - 1];

		found = t->wseq == u->wseq && t->hseq == u->hseq;
		if (found)
			memcpy(out, t->nonce, sizeof(t->nonce));
	}
	mtx_unlock(&f->lock);
	if (!found)
		sp_nonce(f->s, out);
	return sp_add_try(u, out);
}

/* Is that object a try of ours? 1 the newest content, 0 an older one, -ENOENT no. */
static int match_try(struct spup *u, const struct objreq *head)
{
	const char *nonce = obj_headers_get(&head->ret_headers, "x-amz-meta-lsvd-put");
	struct spfile *f = u->f;
	int r = -ENOENT;

	mtx_lock(&f->lock);
	for (size_t i = 0; nonce && i < f->ntries; i++) {
		if (strcmp(f->tries[i].nonce, nonce) != 0)
			continue;
		r = f->tries[i].wseq == u->wseq && head->size == u->size;
		u->out.headers_stale |= r == 1 && f->tries[i].hseq != u->hseq;
		if (r == 1)
			break;
	}
	mtx_unlock(&f->lock);
	return r;
}

/*
 * An older content of ours stands there: base and source. What is not dirty now was not dirty then, so that object has
 * the source's bytes wherever we still need them.
 */
static int adopt_try(struct spup *u, const struct version *v)
{
	struct spfile *f = u->f;
	char *key = strdup(f->key);

	if (key == NULL)
		return -ENOMEM;
	mtx_lock(&f->lock);
	f->base = *v;
	if (f->same_limit > 0) {
		free(f->src_key);
		f->src_key = key;
		key = NULL;
		f->src = *v;
		f->src_gen++;
	}
	mtx_unlock(&f->lock);
	free(key);
	return 0;
}

static int version_of(const struct objreq *req, struct version *ret)
{
	ret->size = req->size;
	ret->mtime_s = req->mtime_s ? req->mtime_s : req->date_s;
	return str_copy(ret->etag, sizeof(ret->etag), req->etag);
}

/* Is that the base after a change of its metadata, here or elsewhere? */
static bool same_bytes(struct spfile *f, const struct version *v, const struct obj_headers *h)
{
	bool told;

	mtx_lock(&f->lock);
	told = f->rebase.due && f->base.etag[0] && strcmp(f->rebase.from.etag, f->base.etag) == 0 &&
	       strcmp(f->rebase.to.etag, v->etag) == 0;
	mtx_unlock(&f->lock);
	return told || version_same_bytes(&f->base, v, h);
}

int sp_check_target(struct spup *u)
{
	struct spfile *f = u->f;
	struct objreq req;
	struct version v = { 0 }, from;
	int r;

	u->out.found = (struct version){ 0 };
	r = obj_head(store_of(f), f->key, &req);
	if (r == -ENOENT) {
		r = f->base.etag[0] ? -ESTALE : 0;
		goto out;
	}
	if (r < 0) {
		u->err = req.err;
		goto out;
	}
	r = version_of(&req, &v);
	if (r < 0)
		goto out;
	if (f->base.etag[0] && strcmp(v.etag, f->base.etag) == 0)
		goto out;
	if (same_bytes(f, &v, &req.ret_headers)) {
		mtx_lock(&f->lock);
		from = f->base;
		r = sp_rebase_locked(f, f->key, &from, &v);
		mtx_unlock(&f->lock);
		goto out;
	}
	r = match_try(u, &req);
	if (r == 1) {
		u->out.v = v;
		u->out.date_s = req.date_s;
	} else if (r == 0) {
		r = adopt_try(u, &v);
	} else {
		u->out.found = v;
		objerr_set(&u->err, "another version of the object was stored meanwhile");
		r = -ESTALE;
	}
out:
	objreq_done(&req);
	return r;
}

/* The change went through: the new version from its answer; a HEAD when the answer has no ETag (Ceph's Complete). */
int sp_take_answer(struct spup *u, const struct objreq *req)
{
	if (req->etag[0] == 0) {
		int r = sp_check_target(u);

		return r == 1 ? 0 : r == 0 ? -EBADMSG : r;
	}
	u->out.date_s = req->date_s;
	u->out.v.size = u->size;
	u->out.v.mtime_s = req->mtime_s ? req->mtime_s : req->date_s;
	return str_copy(u->out.v.etag, sizeof(u->out.v.etag), req->etag);
}

static void set_condition(struct spup *u, struct objreq *req, unsigned need_new, unsigned need_match)
{
	struct spfile *f = u->f;
	unsigned caps = obj_caps(store_of(f));

	if (f->base.etag[0] && (caps & need_match))
		req->if_match = f->base.etag;
	else if (f->base.etag[0] == 0 && (caps & need_new))
		req->if_none_match_any = true;
}

static int put_once(struct spup *u, const struct iovec *iov)
{
	struct spfile *f = u->f;
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_PUT, f->key);
	r = pick_nonce(u, req.nonce);
	if (r < 0)
		return r;
	req.headers = &u->h;
	req.iov = iov;
	req.iovcnt = 1;
	set_condition(u, &req, OBJ_CAP_PUT_NEW, OBJ_CAP_PUT_MATCH);
	if (!req.if_match && !req.if_none_match_any) {
		r = sp_check_target(u);
		if (r != 0) {
			objreq_done(&req);
			return r;
		}
	}
	FAILPOINT("spool.before-put");
	r = obj_do(store_of(f), &req);
	FAILPOINT("spool.after-put");
	if (r == 0)
		r = sp_take_answer(u, &req);
	else
		u->err = req.err;
	objreq_done(&req);
	return r;
}

/* 412, or 404 to an If-Match (AWS): what is there decides. */
static bool refused(struct spfile *f, int r)
{
	return r == -ESTALE || (r == -ENOENT && f->base.etag[0]);
}

static int put_whole(struct spup *u)
{
	struct spfile *f = u->f;
	uint64_t n = u->size;
	struct iovec iov = { .iov_len = (size_t)n };
	bool filled = false;
	int r;

	budget_take(f->s->o.budget, n);
	iov.iov_base = budget_buf(f->s->o.budget, (size_t)n);
	r = iov.iov_base ? -EAGAIN : -ENOMEM;
	for (int i = 0; iov.iov_base && i < RESOLVE_MAX; i++) {
		r = filled ? 0 : sp_fill(f, iov.iov_base, 0, (size_t)n, &u->err);
		if (r == 0) {
			filled = true;
			r = put_once(u, &iov);
		}
		if (!refused(f, r) || u->out.found.etag[0])
			break;
		/* the source may be gone because an earlier try of ours took its place */
		r = sp_check_target(u);
		if (r != 0)
			break;
		r = -ESTALE;
	}
	budget_buf_free(f->s->o.budget, iov.iov_base, (size_t)n);
	return r;
}

int sp_upload(struct spup *u)
{
	struct spfile *f = u->f;
	bool multi = u->size > f->s->part_size && (obj_caps(store_of(f)) & OBJ_CAP_MULTIPART);
	int r = 0;

	if (!multi && u->size > f->s->put_max) {
		objerr_set(&u->err, "larger than one request of this store may be, and it has no multipart uploads");
		return -EFBIG;
	}
	if (u->flags & SPC_RECOVER)
		r = sp_check_target(u);
	if (r == 0 && !multi) {
		sp_abort_upload(f);
		r = put_whole(u);
	} else if (r == 0) {
		r = sp_multi(u);
	}
	if (r == 1) {
		u->found = true;
		r = 0;
	}
	/* whoever cannot go on with the parts must not leave them lying in the bucket */
	if (r == 0 || !sp_is_transient(r))
		sp_abort_upload(f);
	return r;
}
