/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volput.c - from batches to objects: the uploader of a volume that is owned.
 *
 *	closed batch --a place in the window--> number, seal (under batch) --> bytes from the journal --> PUT
 *	--durable--> gone from memory committed grows --> journal trimmed; the mark of a checkpoint that is committed
 *	is put
 * Every VOL_DIGEST_EVERY objects one carries the digest of those before it and a checkpoint in its header: no request
 * of their own. The next checkpoint does not begin before the mark of this one was answered.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include <string.h>

#define DIRTY_AGE_NS (5 * NSEC_PER_SEC)

/* ---- one object ---- */

struct sealing {
	struct volume *v;
	struct logobj o;
	struct log_digest digest;
	struct log_checkpoint ck;
	struct log_effect *effects; /* of the digest, once they are no longer the volume's */
	size_t neffects;
};

static uint32_t first_sector(void *arg, size_t nextents)
{
	struct sealing *s = arg;
	struct log_extent *dummy = calloc(nextents + 1, sizeof(*dummy));
	size_t n = 0;

	if (dummy != NULL) {
		s->o.extents = dummy;
		s->o.nextents = nextents;
		n = logobj_header_size(&s->o);
		s->o.extents = NULL;
		s->o.nextents = 0;
	}
	free(dummy);
	return (uint32_t)(n / SECTOR);
}

/* Digest and checkpoint into the header of `number`: the map of everything below it. */
static int add_checkpoint_locked(struct volume *v, struct sealing *s, uint64_t number)
{
	struct log_view view;
	int r = vol_append_u64(&v->ck.digests, &v->ck.ndigests, &v->capdigests, number);

	if (r < 0)
		return r;
	log_view(v->log, &view);
	s->digest = (struct log_digest){.first = v->digest_end, .end = number, .n = v->neffects, .v = v->effect};
	s->ck = v->ck;
	s->ck.claim = view.claim;
	s->ck.epoch = view.epoch;
	s->ck.nonce = view.nonce;
	s->ck.jseq = v->sealed_jseq;
	s->ck.size = v->sealed_size;
	s->ck.before = v->last_checkpoint;
	s->o.digest = &s->digest;
	s->o.checkpoint = &s->ck;
	return 0;
}

static void drop_effects(struct log_effect *e, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(e[i].v);
	free(e);
}

/* Under batch: gives the number and fixes what the object says. ret: its extents' journal pieces. */
static int seal_locked(struct volume *v, struct sealing *s, struct vol_put *u, struct map_sealed *ret)
{
	bool closed = v->nclosed > 0, checkpoint;
	struct log_effect e = {.type = LOG_DATA};
	int r = 0;

	u->put.number = log_take(v->log);
	s->v = v;
	s->o.type = LOG_DATA;
	s->o.number = u->put.number;
	s->o.jseq = u->jseq = closed ? v->closed_jseq[v->closed_at] : v->jseq;
	s->o.size = closed ? v->closed_size[v->closed_at] : v->size;
	checkpoint = v->neffects >= VOL_DIGEST_EVERY && v->mark_wanted == 0;
	if (checkpoint)
		r = add_checkpoint_locked(v, s, u->put.number);
	if (r == 0)
		r = map_seal(v->map, u->put.number, first_sector, s, ret);
	if (r < 0)
		return r;
	if (closed) {
		v->closed_at = (v->closed_at + 1) % VOL_CLOSED_MAX;
		v->nclosed--;
	} else {
		v->dirty_since = 0;
	}
	if (checkpoint) {
		s->effects = v->effect; /* the header that is being written has them */
		s->neffects = v->neffects;
		v->effect = NULL;
		v->neffects = v->capeffects = 0;
		v->digest_end = u->put.number;
		v->last_checkpoint = v->mark_wanted = u->put.number;
	}
	e.number = u->put.number;
	e.size = s->o.size;
	e.first = ret->first;
	e.v = ret->extents;
	e.n = ret->n;
	r = vol_add_effect(v, &e);
	v->sealed = u->put.number;
	v->sealed_jseq = u->jseq;
	v->sealed_size = s->o.size;
	if (r == 0) {
		u->next = v->puts;
		v->puts = u;
	}
	return r;
}

static int gather(struct volume *v, const struct map_sealed *m, uint8_t **ret)
{
	uint8_t *p = malloc(m->data_sectors * SECTOR + 1), *to = p;
	int r = p == NULL ? -ENOMEM : 0;

	for (size_t i = 0; i < m->npieces && r == 0; i++) {
		r = journal_read(v->journal, m->pieces[i].where, to, m->pieces[i].len * SECTOR);
		to += m->pieces[i].len * SECTOR;
	}
	if (r < 0) {
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

static void put_forget_locked(struct volume *v, struct vol_put *u)
{
	struct vol_put **p = &v->puts;

	while (*p != u)
		p = &(*p)->next;
	*p = u->next;
	cond_broadcast(&v->work);
}

static void put_done(struct log_put *put, int status)
{
	struct vol_put *u = container_of(put, struct vol_put, put);
	struct volume *v = u->v;

	if (v->env.budget != NULL)
		budget_give(v->env.budget, u->charged);
	if (status == 0)
		throttle_progress(&v->pace, u->charged);
	mtx_lock(&v->batch);
	if (status == 0) {
		v->done[put->number % LOG_W_MAX].number = put->number;
		v->done[put->number % LOG_W_MAX].jseq = u->jseq;
	}
	put_forget_locked(v, u);
	/* Under the same lock: no reader finds the object neither here nor there. */
	if (status == 0 && v->env.fetch != NULL) {
		fetch_keep(v->env.fetch, v->uuid, put->number, put->bytes, put->len);
		put->bytes = NULL;
	}
	mtx_unlock(&v->batch);
	free(put->bytes);
	free(u);
}

/* A place in the window was reserved. */
static int upload_one(struct volume *v)
{
	struct vol_put *u = calloc(1, sizeof(*u));
	struct sealing s = {0};
	struct map_sealed m = {0};
	uint8_t *data = NULL;
	int r;

	if (u == NULL) {
		log_unreserve(v->log);
		return -ENOMEM;
	}
	u->v = v;
	u->put.done = put_done;
	mtx_lock(&v->batch);
	r = seal_locked(v, &s, u, &m);
	/*
	 * Lists that the header borrows may grow meanwhile: only this thread makes them grow, but for claims, which
	 * nobody makes now.
	 */
	mtx_unlock(&v->batch);
	if (r < 0) { /* the number never gets bytes: the volume fails, the next claim comes before it */
		drop_effects(s.effects, s.neffects);
		free(m.extents);
		free(m.pieces);
		free(u);
		return r;
	}
	u->charged = m.data_sectors * SECTOR;
	if (v->env.budget != NULL)
		budget_take(v->env.budget, u->charged);
	log_fill(v->log, &s.o);
	s.o.extents = m.extents;
	s.o.nextents = m.n;
	r = gather(v, &m, &data);
	if (r == 0) {
		struct iovec iov = {data, m.data_sectors * SECTOR};

		r = logobj_encode(&s.o, &iov, 1, &u->put.bytes, &u->put.len, &u->put.crc);
	}
	free(data);
	free(m.extents);
	free(m.pieces);
	drop_effects(s.effects, s.neffects);
	mtx_lock(&v->batch);
	if (r == 0)
		u->ready = true;
	else
		put_forget_locked(v, u);
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	if (r == 0) {
		log_send(v->log, &u->put);
	} else {
		if (v->env.budget != NULL)
			budget_give(v->env.budget, u->charged);
		free(u);
	}
	return r;
}

/* ---- what follows when objects are durable ---- */

void vol_on_committed(void *arg)
{
	struct volume *v = arg;
	uint64_t c = log_committed(v->log);

	mtx_lock(&v->batch);
	for (size_t i = 0; i < LOG_W_MAX; i++)
		if (v->done[i].number != 0 && v->done[i].number <= c) {
			v->trim_jseq = MAX(v->trim_jseq, v->done[i].jseq);
			v->trim_number = MAX(v->trim_number, v->done[i].number);
			v->done[i].number = 0;
		}
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

void vol_on_fenced(void *arg)
{
	struct volume *v = arg;
	char why[256];

	log_why(v->log, why, sizeof(why));
	vol_fail(v, VOL_FENCED, "%s", why);
}

static bool mark_due_locked(struct volume *v)
{
	return v->mark_wanted != 0 && log_committed(v->log) >= v->mark_wanted;
}

static int64_t age(const struct volume *v)
{
	return v->env.dirty_age_ns != 0 ? v->env.dirty_age_ns : DIRTY_AGE_NS;
}

/* Waits for work. What is to be done is decided anew each time; returns false when the uploader shall end. */
static bool wait_locked(struct volume *v) REQUIRES(v->batch)
{
	for (;;) {
		int64_t due = v->dirty_since != 0 ? v->dirty_since + age(v) : INT64_MAX;

		if (v->up_stop)
			return false;
		if (v->nclosed > 0 || v->trim_jseq > v->trimmed_jseq || mark_due_locked(v))
			return true;
		if (due <= clock_now_ns())
			return true;
		if (due == INT64_MAX)
			cond_wait(&v->work, &v->batch);
		else
			(void)cond_wait_until(&v->work, &v->batch, due);
	}
}

static int step(struct volume *v, bool upload, uint64_t mark, uint64_t trim_number, uint64_t trim_jseq)
{
	int r = 0;

	if (trim_jseq != 0)
		r = journal_trim(v->journal, trim_number, trim_jseq, false);
	if (r == 0 && mark != 0) {
		r = log_mark(v->log, mark);
		if (r == 0) {
			mtx_lock(&v->batch);
			v->mark_wanted = 0;
			mtx_unlock(&v->batch);
		}
	}
	if (r == 0 && upload) {
		r = log_reserve(v->log);
		if (r == 0)
			r = upload_one(v);
	}
	return r;
}

static void uploader(struct job *job)
{
	struct volume *v = container_of(job, struct volume, uploader);
	int r = 0;

	mtx_lock(&v->batch);
	while (r == 0 && wait_locked(v)) {
		bool upload = v->nclosed > 0 || (v->dirty_since != 0 && v->dirty_since + age(v) <= clock_now_ns());
		uint64_t mark = mark_due_locked(v) ? v->mark_wanted : 0;
		uint64_t number = v->trim_number, jseq = v->trim_jseq > v->trimmed_jseq ? v->trim_jseq : 0;

		v->trimmed_jseq = v->trim_jseq;
		mtx_unlock(&v->batch);
		r = step(v, upload, mark, number, jseq);
		mtx_lock(&v->batch);
	}
	mtx_unlock(&v->batch);
	if (r < 0 && r != -ESHUTDOWN)
		vol_fail(v, VOL_FAILED, "the image's writes could not be sent: %s", strerror(-r));
	mtx_lock(&v->batch);
	v->up = false;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

void vol_start_uploader(struct volume *v)
{
	mtx_lock(&v->batch);
	v->up = true;
	v->up_stop = false;
	v->uploader.fn = uploader;
	mtx_unlock(&v->batch);
	pool_submit(v->env.pool, &v->uploader);
}

void vol_stop_uploader(struct volume *v)
{
	mtx_lock(&v->batch);
	v->up_stop = true;
	cond_broadcast(&v->work);
	while (v->up || v->puts != NULL)
		cond_wait(&v->work, &v->batch);
	mtx_unlock(&v->batch);
}

int vol_drain(struct volume *v)
{
	uint64_t number;
	int r;

	mtx_lock(&v->batch);
	number = v->jseq;
	r = vol_close_batch_locked(v);
	while (r == 0 && v->sealed_jseq < number && v->up)
		cond_wait(&v->work, &v->batch);
	if (r == 0 && v->sealed_jseq < number)
		r = -EIO;
	number = v->sealed;
	mtx_unlock(&v->batch);
	return r < 0 ? r : number == 0 ? 0 : log_wait_committed(v->log, number);
}
