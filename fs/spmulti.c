/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spmulti.c - a sealed file as a multipart upload: parts that are not up are sent or copied, then it is completed.
 *
 * Memory: one part's buffer is waited for only while none is under way; further ones are tried for, and given back by
 * the answers. So two large files can never wait for each other's memory.
 *
 * An upload survives a failed commit that may be repeated, and a kill: its parts are in the journal. It ends by
 * Complete, by an abort when its layout does not fit any more, or with the file.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/failpoint.h"
#include "spplan.h"
#include <string.h>

#define COPY_MAX (512 * MiB) /* of one copied part: a store that copies slowly still answers in time */
#define MULTI_ROUNDS 4

struct flight;
struct runner {
	struct spup *u;
	struct mtx lock; /* RANK_WAIT; below */
	struct cond landed; /* signalled by each answer */
	struct flight *done;
	unsigned flying;    /* only the uploading thread */
};
struct flight { /* one part under way */
	struct flight *next;
	struct runner *run;
	struct objreq req;
	struct iovec iov;
	const struct spplan_part *p;
};

void spmpu_free(struct spmpu *m)
{
	if (m == NULL)
		return;
	obj_headers_free(&m->headers);
	free(m->part);
	free(m->id);
	free(m->key);
	free(m);
}

struct sppart *spmpu_part(struct spmpu *m, unsigned number)
{
	size_t lo = 0, hi = m->nparts;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->part[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->nparts && m->part[lo].number == number ? &m->part[lo] : NULL;
}

int spmpu_add_part(struct spmpu *m, unsigned number, struct sppart **ret)
{
	struct sppart *p = spmpu_part(m, number);
	size_t i = m->nparts;

	if (p) {
		*ret = p;
		return 0;
	}
	if (m->nparts == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 16;

		p = realloc(m->part, cap * sizeof(*p));
		if (p == NULL)
			return -ENOMEM;
		m->part = p;
		m->cap = cap;
	}
	while (i > 0 && m->part[i - 1].number > number)
		i--;
	memmove(&m->part[i + 1], &m->part[i], (m->nparts - i) * sizeof(*p));
	m->part[i] = (struct sppart){ .number = number };
	m->nparts++;
	*ret = &m->part[i];
	return 0;
}

int sp_log_part_locked(struct spfile *f, const struct sppart *p)
{
	struct spj_event ev = { .type = SPJ_PART, .off = p->off, .len = p->len, .number = p->number,
				.text = p->up ? p->etag : "" };

	return spj_append(&f->j, &ev);
}

static int log_mpu_locked(struct spfile *f, const struct spmpu *m)
{
	struct spj_event ev = { .type = SPJ_UPLOAD };
	_cleanup_free_ void *enc = NULL;
	size_t n = 0;

	if (m) {
		int r = obj_headers_encode(&m->headers, &enc, &n);

		if (r < 0)
			return r;
		ev = (struct spj_event){ .type = SPJ_UPLOAD, .off = m->tail_off, .len = m->unit, .number = m->tail_first,
					 .text = m->id, .text2 = m->nonce, .headers = enc, .headers_len = n };
	}
	return spj_append(&f->j, &ev);
}

int sp_install_mpu_locked(struct spfile *f, struct spmpu *take_m)
{
	assert(f->mpu == NULL);
	f->mpu = take_m;
	FAILPOINT("spool.upload-created");
	return log_mpu_locked(f, take_m);
}

int sp_invalidate_parts_locked(struct spfile *f, uint64_t start, uint64_t end)
{
	struct spmpu *m = f->mpu;
	int r = 0;

	for (size_t i = 0; m && i < m->nparts && r == 0; i++) {
		struct sppart *p = &m->part[i];

		if (p->off >= end || p->off + p->len <= start || !(p->up || p->flying))
			continue;
		p->gen++;
		if (p->up) { /* in the journal before the bytes change */
			p->up = false;
			r = sp_log_part_locked(f, p);
		}
	}
	return r;
}

static int abort_upload(struct objstore *store, const struct spmpu *m)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_ABORT, m->key);
	req.upload_id = m->id;
	r = obj_do(store, &req);
	objreq_done(&req);
	return r == -ENOENT ? 0 : r;
}

void sp_abort_upload(struct spfile *f)
{
	struct spmpu *m;

	mtx_lock(&f->lock);
	sp_bg_wait_locked(f);
	m = f->mpu;
	f->mpu = NULL;
	mtx_unlock(&f->lock);
	if (m == NULL)
		return;
	if (abort_upload(f->s->o.store, m) < 0)
		sp_note_orphan(f->s, f->dir, f->name, m);
	mtx_lock(&f->lock);
	sp_best_effort(log_mpu_locked(f, NULL)); /* left standing, it would be aborted once more: harmless */
	mtx_unlock(&f->lock);
	spmpu_free(m);
}

/* --- layout ------------------------------------------------------------------------------------------------------- */

static bool can_copy(struct spfile *f)
{
	return (obj_caps(f->s->o.store) & OBJ_CAP_PART_COPY) && f->src_key && f->src.etag[0];
}

static struct spplan_in plan_input(struct spup *u)
{
	struct spfile *f = u->f;
	struct spool *s = f->s;

	return (struct spplan_in){
		.size = u->size,
		.same_limit = can_copy(f) ? f->same_limit : 0,
		.dirty = &f->dirty,
		.unit = s->part_size,
		.part_min = s->part_min,
		.copy_max = MAX(MIN(s->put_max, COPY_MAX), 2 * s->part_min),
		.max_parts = s->max_parts,
		.equal = (obj_caps(s->o.store) & OBJ_CAP_EQUAL_PARTS) != 0,
	};
}

/* With units as large as it takes. */
static int plan_fitting(struct spplan_in *in, struct spplan *ret)
{
	int r = spplan_make(in, ret);

	while (r == -EFBIG && in->unit < 5 * GiB) {
		in->unit *= 2;
		in->copy_max = MIN(in->copy_max * 2, 5 * GiB);
		r = spplan_make(in, ret);
	}
	return r;
}

static bool plan_copies(const struct spplan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->v[i].copy)
			return true;
	}
	return false;
}

/* For an upload that does not exist yet: everything is known, so everything is front, if something can be copied. */
static int plan_fresh(struct spup *u, struct spplan_in *in, struct spplan *ret)
{
	int r;

	*in = plan_input(u);
	in->tail_first = 1;
	if (!in->equal && in->same_limit > 0) {
		in->tail_off = SP_NO_TAIL;
		r = plan_fitting(in, ret);
		if (r < 0 || plan_copies(ret))
			return r;
		spplan_free(ret);
		*in = plan_input(u);
		in->tail_first = 1;
	}
	in->tail_off = 0;
	return plan_fitting(in, ret);
}

/* Does the upload under way fit the plan? Every part that the store may have must be in it: Ceph refuses to forget one. */
static bool mpu_fits(const struct spmpu *m, const struct spplan *p)
{
	size_t k = 0;

	for (size_t i = 0; i < m->nparts; i++) {
		if (!m->part[i].on_server)
			continue;
		while (k < p->n && p->v[k].number < m->part[i].number)
			k++;
		if (k == p->n || p->v[k].number != m->part[i].number)
			return false;
	}
	return true;
}

/* Was Complete sent for other bytes, without an answer? Meeting the nonce again would then not say which ones. */
static bool nonce_is_spent(struct spup *u, const char *nonce)
{
	struct spfile *f = u->f;

	for (size_t i = 0; i < f->ntries; i++) {
		if (strcmp(f->tries[i].nonce, nonce) == 0 && f->tries[i].wseq != u->wseq)
			return true;
	}
	return false;
}

/* The plan; an upload that it cannot use is aborted. */
static int make_plan(struct spup *u, struct spplan_in *in, struct spplan *ret)
{
	struct spfile *f = u->f;
	struct spmpu *m = f->mpu;
	bool stale = m && (strcmp(m->key, f->key) != 0 || nonce_is_spent(u, m->nonce) ||
			   m->unit < f->s->part_min || m->unit > 5 * GiB || m->tail_first == 0 ||
			   ((u->flags & SPC_RECOVER) && !obj_headers_equal(&m->headers, &u->h)));
	int r;

	if (m && !stale) {
		*in = plan_input(u);
		in->unit = m->unit;
		in->tail_off = m->tail_off;
		in->tail_first = m->tail_first;
		r = spplan_make(in, ret);
		if (r == 0 && mpu_fits(m, ret))
			return 0;
		if (r == 0)
			spplan_free(ret);
		else if (r != -EFBIG)
			return r;
	}
	sp_abort_upload(f);
	return plan_fresh(u, in, ret);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static int create(struct spup *u, const struct spplan_in *in)
{
	struct spfile *f = u->f;
	struct spmpu *m = calloc(1, sizeof(*m));
	struct objreq req;
	int r;

	if (m == NULL)
		return -ENOMEM;
	m->tail_off = in->tail_off;
	m->tail_first = in->tail_first;
	m->unit = in->unit;
	m->key = strdup(f->key);
	sp_nonce(f->s, m->nonce);
	r = m->key ? obj_headers_copy(&m->headers, &u->h) : -ENOMEM;
	if (r < 0) {
		spmpu_free(m);
		return r;
	}
	objreq_init(&req, OBJ_MPU_CREATE, f->key);
	req.headers = &m->headers;
	memcpy(req.nonce, m->nonce, sizeof(req.nonce));
	r = obj_do(f->s->o.store, &req);
	if (r == 0) {
		m->id = req.ret_upload_id;
		req.ret_upload_id = NULL;
		mtx_lock(&f->lock);
		sp_best_effort(sp_install_mpu_locked(f, m)); /* not journaled: the next mount cannot abort it, nothing else */
		mtx_unlock(&f->lock);
		m = NULL;
	} else {
		u->err = req.err;
	}
	objreq_done(&req);
	spmpu_free(m);
	return r;
}

static void landed(struct objreq *req)
{
	struct flight *fl = req->priv;
	struct runner *run = fl->run;

	mtx_lock(&run->lock);
	fl->next = run->done;
	run->done = fl;
	cond_signal(&run->landed);
	mtx_unlock(&run->lock);
}

static void drop_flight(struct spfile *f, struct flight *fl)
{
	if (fl->iov.iov_base)
		budget_buf_free(f->s->o.budget, fl->iov.iov_base, fl->iov.iov_len);
	objreq_done(&fl->req);
	free(fl);
}

static int note_part(struct spfile *f, const struct flight *fl)
{
	struct sppart *p;
	int r;

	mtx_lock(&f->lock);
	r = spmpu_add_part(f->mpu, fl->p->number, &p);
	if (r == 0) {
		p->off = fl->p->off;
		p->len = fl->p->len;
		p->on_server = true;
		r = str_copy(p->etag, sizeof(p->etag), fl->req.etag);
	}
	if (r == 0 && p->etag[0] == 0)
		r = -EBADMSG;
	if (r == 0) {
		p->up = true;
		sp_best_effort(sp_log_part_locked(f, p)); /* after a crash it is sent again */
	}
	mtx_unlock(&f->lock);
	FAILPOINT("spool.part-done");
	return r;
}

/* Waits for at least one answer and takes all that are there. First error. */
static int reap(struct runner *run)
{
	struct spup *u = run->u;
	struct flight *list;
	int r = 0;

	mtx_lock(&run->lock);
	while (run->done == NULL)
		cond_wait(&run->landed, &run->lock);
	list = run->done;
	run->done = NULL;
	mtx_unlock(&run->lock);
	while (list) {
		struct flight *fl = list;
		int k = fl->req.status;

		list = fl->next;
		if (k == 0)
			k = note_part(u->f, fl);
		else if (r == 0)
			u->err = fl->req.err;
		if (k == -ENOENT && fl->p->copy && strcmp(fl->req.err.code, "NoSuchUpload") != 0)
			k = -ESTALE; /* the source is gone: the look at the target tells */
		r = r < 0 ? r : k;
		run->flying--;
		drop_flight(u->f, fl);
	}
	return r;
}

/* A buffer of the budget's; see the top of this file. */
static int take_buffer(struct runner *run, struct flight *fl, uint64_t n)
{
	struct budget *b = run->u->f->s->o.budget;
	int r = 0;

	for (;;) {
		if (run->flying == 0) {
			budget_take(b, n);
			break;
		}
		if (budget_try(b, n))
			break;
		r = reap(run);
		if (r < 0)
			return r;
	}
	fl->iov.iov_base = budget_buf(b, (size_t)n);
	fl->iov.iov_len = (size_t)n;
	if (fl->iov.iov_base == NULL) {
		budget_give(b, n);
		return -ENOMEM;
	}
	return 0;
}

static int send_part(struct runner *run, const struct spplan_part *p)
{
	struct spup *u = run->u;
	struct spfile *f = u->f;
	struct flight *fl = calloc(1, sizeof(*fl));
	int r = 0;

	if (fl == NULL)
		return -ENOMEM;
	fl->run = run;
	fl->p = p;
	objreq_init(&fl->req, p->copy ? OBJ_MPU_COPY_PART : OBJ_MPU_PART, f->key);
	fl->req.upload_id = f->mpu->id;
	fl->req.part = p->number;
	fl->req.done = landed;
	fl->req.priv = fl;
	if (p->copy) {
		fl->req.src_key = f->src_key;
		fl->req.off = p->off;
		fl->req.len = p->len;
		if (obj_caps(f->s->o.store) & OBJ_CAP_COPY_SRC)
			fl->req.src_if_match = f->src.etag;
	} else {
		r = take_buffer(run, fl, p->len);
		if (r == 0)
			r = sp_fill(f, fl->iov.iov_base, p->off, (size_t)p->len, &u->err);
		fl->req.iov = &fl->iov;
		fl->req.iovcnt = 1;
	}
	if (r < 0) {
		drop_flight(f, fl);
		return r;
	}
	FAILPOINT("spool.before-part");
	run->flying++;
	obj_submit(f->s->o.store, &fl->req);
	return 0;
}

/* Sends what is not up. Source and upload id stay as they are: only this thread changes them. */
static int send_parts(struct spup *u, const struct spplan *plan)
{
	struct spfile *f = u->f;
	struct runner run = { .u = u };
	unsigned most = f->s->o.parallel ? f->s->o.parallel : 8;
	int r = 0;

	mtx_init(&run.lock, RANK_WAIT);
	cond_init(&run.landed);
	for (size_t i = 0; i < plan->n && r == 0; i++) {
		const struct spplan_part *p = &plan->v[i];
		struct sppart *have = spmpu_part(f->mpu, p->number);

		if (have && have->up && have->off == p->off && have->len == p->len)
			continue;
		while (run.flying >= most && r == 0)
			r = reap(&run);
		if (r == 0)
			r = send_part(&run, p);
	}
	while (run.flying > 0) {
		int k = reap(&run);

		r = r < 0 ? r : k;
	}
	cond_destroy(&run.landed);
	mtx_destroy(&run.lock);
	return r;
}

/* Where the store does not promise that copied parts are the source's: is the source still that version? */
static int check_source(struct spup *u)
{
	struct spfile *f = u->f;
	struct objreq req;
	int r = obj_head(f->s->o.store, f->src_key, &req);

	if (r == -ENOENT || (r == 0 && strcmp(req.etag, f->src.etag) != 0))
		r = -ESTALE;
	else if (r < 0)
		u->err = req.err;
	objreq_done(&req);
	return r;
}

static int complete(struct spup *u, const struct spplan *plan)
{
	struct spfile *f = u->f;
	unsigned caps = obj_caps(f->s->o.store);
	struct obj_part *parts = calloc(plan->n, sizeof(*parts));
	struct objreq req;
	int r = parts ? sp_add_try(u, f->mpu->nonce) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < plan->n; i++) {
		struct sppart *p = spmpu_part(f->mpu, plan->v[i].number);

		parts[i].number = p->number;
		memcpy(parts[i].etag, p->etag, sizeof(p->etag));
	}
	if (r == 0 && plan_copies(plan) && !(caps & OBJ_CAP_COPY_SRC))
		r = check_source(u);
	if (r == 0 && !(caps & OBJ_CAP_COMPLETE_COND))
		r = sp_check_target(u);
	if (r != 0)
		goto out;
	objreq_init(&req, OBJ_MPU_COMPLETE, f->key);
	req.upload_id = f->mpu->id;
	req.parts = parts;
	req.nparts = plan->n;
	memcpy(req.nonce, f->mpu->nonce, sizeof(req.nonce));
	if ((caps & OBJ_CAP_COMPLETE_COND) && f->base.etag[0])
		req.if_match = f->base.etag;
	else if (caps & OBJ_CAP_COMPLETE_COND)
		req.if_none_match_any = true;
	FAILPOINT("spool.before-complete");
	r = obj_do(f->s->o.store, &req);
	FAILPOINT("spool.after-complete");
	if (r == 0)
		r = sp_take_answer(u, &req);
	else
		u->err = req.err;
	objreq_done(&req);
out:
	free(parts);
	return r;
}

static void forget_mpu(struct spup *u)
{
	struct spfile *f = u->f;

	mtx_lock(&f->lock);
	u->out.headers_stale |= !obj_headers_equal(&f->mpu->headers, &u->h);
	spmpu_free(f->mpu);
	f->mpu = NULL;
	sp_best_effort(log_mpu_locked(f, NULL));
	mtx_unlock(&f->lock);
}

/* One round; what the store refused is for the caller. */
static int multi_once(struct spup *u)
{
	struct spplan_in in;
	struct spplan plan = { 0 };
	int r = make_plan(u, &in, &plan);

	if (r < 0)
		return r;
	if (u->f->mpu == NULL)
		r = create(u, &in);
	if (r == 0)
		r = send_parts(u, &plan);
	if (r == 0)
		r = complete(u, &plan);
	spplan_free(&plan);
	return r;
}

int sp_multi(struct spup *u)
{
	struct spfile *f = u->f;
	int r = -ESTALE;

	for (int i = 0; i < MULTI_ROUNDS; i++) {
		r = multi_once(u);
		if (r == 0) {
			forget_mpu(u);
			return 0;
		}
		if (r == 1)
			return 1; /* an earlier Complete of ours went through */
		/* -ENOENT: the upload is gone (completed by a try without an answer, or cleaned up), or the base is.
		 * -EINVAL: the store does not like what an earlier round left in the upload. Both end this upload. */
		if (r == -ENOENT || (r == -EINVAL && i == 0))
			sp_abort_upload(f);
		else if (r != -ESTALE)
			return r;
		if (u->out.found.etag[0])
			return -ESTALE;
		r = sp_check_target(u);
		if (r != 0)
			return r;
		r = -ESTALE;
	}
	return r;
}
