/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * faultstore.c - see faultstore.h. Faults on demand come before faults by chance; the same seed and the same order of
 * requests give the same faults.
 */
#include "config.h"
#include "faultstore.h"
#include "objstore/base/lock.h"
#include "objstore/base/pool.h"
#include "objstore/base/table.h"
#include "objstore/store-private.h"

#define PLAN_MAX 64

struct faultstore {
	struct objstore s;
	struct pool *pool;
	struct mtx lock; /* RANK_NONE: a test may hold what it likes */
	uint64_t rng;
	unsigned odds[FAULT_N];
	struct plan {
		enum obj_op op;
		enum fault what;
		int status, http;
		bool used;
	} plan[PLAN_MAX];
	unsigned nplan;
	unsigned seen[OBJ_NOPS + 1];
	long fail_at; /* counts down; -1 = never */
	int fail_status;
	void (*hook)(void *arg, struct objreq *req);
	void *hook_arg;
};

struct fault_req {
	struct job job;
	struct faultstore *f;
	struct objreq *req;
	void (*done)(struct objreq *req);
	void *priv;
	struct plan plan;
};

static uint64_t random_locked(struct faultstore *f)
{
	f->rng += 0x9e3779b97f4a7c15ULL;
	return hash_u64(f->rng);
}

static struct plan by_chance_locked(struct faultstore *f)
{
	static const struct {
		int status, http;
	} how[] = {{-ETIMEDOUT, 0}, {-ECONNRESET, 0}, {-EAGAIN, 500}, {-EAGAIN, 503}};
	unsigned dice = (unsigned)(random_locked(f) % 1000);
	struct plan p = {.what = FAULT_NONE};
	size_t k = random_locked(f) % ARRAY_SIZE(how);

	for (int i = 1; i < FAULT_N; i++) {
		if (dice < f->odds[i]) {
			p.what = (enum fault)i;
			break;
		}
		dice -= f->odds[i];
	}
	p.status = how[k].status;
	p.http = how[k].http;
	return p;
}

static struct plan choose(struct faultstore *f, enum obj_op op)
{
	struct plan p;

	mtx_lock(&f->lock);
	f->seen[op]++;
	f->seen[OBJ_NOPS]++;
	p = by_chance_locked(f);
	for (unsigned i = 0; i < f->nplan; i++)
		if (!f->plan[i].used && f->plan[i].op == op) {
			f->plan[i].used = true;
			p = f->plan[i];
			break;
		}
	if (f->fail_at >= 0 && f->fail_at-- == 0)
		p = (struct plan){.what = FAULT_BEFORE, .status = f->fail_status};
	mtx_unlock(&f->lock);
	return p;
}

static void answer(struct fault_req *fr, bool lose)
{
	struct objreq *req = fr->req;
	int status = req->status;

	if (lose) {
		objreq_reset_answer(req);
		status = fr->plan.status;
		req->err.http = fr->plan.http;
		objerr_set(&req->err, "a fault that the test asked for");
	}
	req->done = fr->done;
	req->priv = fr->priv;
	free(fr);
	objreq_finish(req, status);
}

static void late_job(struct job *job)
{
	answer(container_of(job, struct fault_req, job), false);
}

static void inner_done(struct objreq *req)
{
	struct fault_req *fr = req->priv;

	switch (fr->plan.what) {
	case FAULT_LATE:
		fr->job.fn = late_job;
		pool_submit(fr->f->pool, &fr->job);
		return;
	case FAULT_AFTER:
		answer(fr, true);
		return;
	case FAULT_TRUNCATE:
		fr->plan.status = -EBADMSG;
		answer(fr, req->status == 0 && req->got > 0);
		return;
	default:
		answer(fr, false);
	}
}

static void fault_submit(struct objstore *s, struct objreq *req)
{
	struct faultstore *f = container_of(s, struct faultstore, s);
	struct fault_req *fr = calloc(1, sizeof(*fr));

	if (fr == NULL)
		abort();
	*fr = (struct fault_req){.f = f, .req = req, .done = req->done, .priv = req->priv, .plan = choose(f, req->op)};
	req->priv = fr;
	req->done = inner_done;
	if (f->hook != NULL)
		f->hook(f->hook_arg, req);
	if (fr->plan.what == FAULT_BEFORE || (fr->plan.what == FAULT_TRUNCATE && req->op != OBJ_GET))
		answer(fr, true);
	else
		obj_submit(s->inner, req);
}

static void fault_close(struct objstore *s)
{
	struct faultstore *f = container_of(s, struct faultstore, s);

	pool_free(f->pool);
	obj_close(s->inner);
	mtx_destroy(&f->lock);
	free(f);
}

static const struct objstore_ops fault_ops = {.name = "fault", .submit = fault_submit, .close = fault_close};

int faultstore_new(struct objstore *take_inner, unsigned seed, struct objstore **ret)
{
	struct faultstore *f = calloc(1, sizeof(*f));
	int r;

	if (f == NULL)
		return -ENOMEM;
	r = pool_new("fault", 2, &f->pool);
	if (r < 0) {
		free(f);
		return r;
	}
	store_wrap(&f->s, &fault_ops, take_inner);
	mtx_init(&f->lock, RANK_NONE);
	f->rng = seed;
	f->fail_at = -1;
	*ret = &f->s;
	return 0;
}

void faultstore_odds(struct objstore *s, enum fault what, unsigned per_mille)
{
	struct faultstore *f = container_of(s, struct faultstore, s);

	mtx_lock(&f->lock);
	f->odds[what] = per_mille;
	mtx_unlock(&f->lock);
}

void faultstore_next(struct objstore *s, enum obj_op op, enum fault what, int status, int http)
{
	struct faultstore *f = container_of(s, struct faultstore, s);

	mtx_lock(&f->lock);
	assert(f->nplan < PLAN_MAX);
	f->plan[f->nplan++] = (struct plan){.op = op, .what = what, .status = status, .http = http};
	mtx_unlock(&f->lock);
}

void faultstore_fail_at(struct objstore *s, unsigned n, int status)
{
	struct faultstore *f = container_of(s, struct faultstore, s);

	mtx_lock(&f->lock);
	f->fail_at = (long)n;
	f->fail_status = status;
	mtx_unlock(&f->lock);
}

void faultstore_hook(struct objstore *s, void (*fn)(void *arg, struct objreq *req), void *arg)
{
	struct faultstore *f = container_of(s, struct faultstore, s);

	f->hook = fn;
	f->hook_arg = arg;
}

unsigned faultstore_seen(struct objstore *s, enum obj_op op)
{
	struct faultstore *f = container_of(s, struct faultstore, s);
	unsigned n;

	mtx_lock(&f->lock);
	n = f->seen[op];
	mtx_unlock(&f->lock);
	return n;
}
