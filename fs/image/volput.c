/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volput.c - from batches to objects: the uploader of a volume that is owned.
 *
 *	closed batch --a place in the window--> number, seal (under batch) --> bytes from the journal --> PUT
 *	--durable--> gone from memory committed grows --> journal trimmed; the mark of a checkpoint that is committed
 *	is put
 * Now and then one carries a checkpoint (volckpt.c).
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include <string.h>

#define DIRTY_AGE_NS (5 * NSEC_PER_SEC)

/* ---- one object ---- */

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

	if (v->env.budget != NULL && u->charged > 0)
		budget_give(v->env.budget, u->charged);
	if (status == 0 && u->charged > 0 && !u->moved)
		throttle_progress(&v->pace, u->charged);
	mtx_lock(&v->batch);
	if (status == 0 || put->number <= log_arrived(v->log)) {
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

uint32_t vol_first_sector(void *arg, size_t nextents)
{
	struct vol_sealing *s = arg;
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

void vol_put_begin_locked(struct volume *v, struct vol_put *u, const struct logobj *o)
{
	u->v = v;
	u->put.number = o->number;
	u->put.done = put_done;
	u->jseq = o->jseq;
	u->next = v->puts;
	v->puts = u;
	v->sealed = o->number;
}

/* Under batch: gives the number and fixes what the object says. ret: its extents' journal pieces. */
static int seal_locked(struct volume *v, struct vol_sealing *s, struct vol_put *u, struct map_sealed *ret)
{
	bool closed = v->nclosed > 0;
	struct log_effect e = {.type = LOG_DATA};
	int r = 0;

	s->o.type = LOG_DATA;
	s->o.number = log_take(v->log);
	s->o.jseq = closed ? v->closed_jseq[v->closed_at] : v->jseq;
	s->o.size = closed ? v->closed_size[v->closed_at] : v->size;
	vol_want_tree_locked(v);
	if (vol_checkpoint_due_locked(v))
		r = vol_checkpoint_locked(v, &s->ckpt, &s->o, s->o.number);
	if (r == 0)
		r = map_seal(v->map, s->o.number, vol_first_sector, s, ret);
	if (r < 0)
		return r;
	if (closed) {
		v->closed_at = (v->closed_at + 1) % VOL_CLOSED_MAX;
		v->nclosed--;
	} else {
		v->dirty_since = 0;
	}
	e.number = s->o.number;
	e.size = s->o.size;
	e.first = ret->first;
	e.v = ret->extents;
	e.n = ret->n;
	r = vol_add_effect(v, &e);
	v->sealed_jseq = s->o.jseq;
	v->sealed_size = s->o.size;
	v->written += ret->data_sectors * SECTOR;
	v->active_at = v->guest_at = clock_now_ns();
	v->shrink_at = v->active_at + VOL_IDLE_AGES * vol_age(v);
	v->clean_look = true;
	v->clean_idle = false;
	v->idle_rounds = v->age_rounds = 0;
	if (r == 0)
		vol_put_begin_locked(v, u, &s->o);
	return r;
}

/* Where a batch lies in the journal, read in order. */
struct source {
	struct volume *v;
	const struct map_piece *p; /* the next one */
	uint64_t at;		   /* bytes of it that were read */
};

static int fill_journal(void *arg, void *to, size_t n)
{
	struct source *s = arg;
	int r = 0;

	for (uint8_t *p = to; n > 0 && r == 0;) {
		uint64_t left = s->p->len * SECTOR - s->at;
		size_t k = (size_t)MIN((uint64_t)n, left);

		r = journal_read(s->v->journal, s->p->where + s->at, p, k);
		p += k;
		n -= k;
		s->at = k == left ? 0 : s->at + k;
		s->p += k == left;
	}
	return r;
}

int vol_put_object(struct volume *v, struct vol_put *u, struct logobj *o, const struct logobj_body *body)
{
	static const struct logobj_body none;
	int r;

	log_fill(v->log, o);
	r = logobj_encode_body(o, body != NULL ? body : &none, &u->put.bytes, &u->put.len, &u->put.crc);
	mtx_lock(&v->batch);
	if (r == 0)
		u->ready = true;
	else
		put_forget_locked(v, u);
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	if (r == 0) {
		log_send(v->log, &u->put);
		return 0;
	}
	/* The number never gets bytes: the volume fails, the next claim comes before it. */
	if (v->env.budget != NULL && u->charged > 0)
		budget_give(v->env.budget, u->charged);
	free(u);
	return r;
}

/* The data of a batch, out of the journal, and the object. */
static int upload_sealed(struct volume *v, struct vol_put *u, struct vol_sealing *s, const struct map_sealed *m)
{
	struct source from = {v, m->pieces, 0};
	struct logobj_body body = {m->data_sectors * SECTOR, fill_journal, &from};

	u->charged = body.bytes;
	if (v->env.budget != NULL && u->charged > 0)
		budget_take(v->env.budget, u->charged);
	s->o.extents = m->extents;
	s->o.nextents = m->n;
	return vol_put_object(v, u, &s->o, &body);
}

/* A place in the window was reserved. */
static int upload_one(struct volume *v)
{
	struct vol_put *u = calloc(1, sizeof(*u));
	struct vol_sealing s = {0};
	struct map_sealed m = {0};
	int r;

	if (u == NULL) {
		log_unreserve(v->log);
		return -ENOMEM;
	}
	mtx_lock(&v->batch);
	r = seal_locked(v, &s, u, &m);
	mtx_unlock(&v->batch);
	if (r == 0)
		r = upload_sealed(v, u, &s, &m);
	else
		free(u);
	free(m.extents);
	free(m.pieces);
	vol_ckpt_done(&s.ckpt);
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
	return v->mark_wanted != 0 && (log_committed(v->log) >= v->mark_wanted || !RULE(T11_MARK));
}

/* A little more than was said: with the mark that one object in VOL_DIGEST_EVERY has, a trickle is a PUT in that time. */
int64_t vol_age(const struct volume *v)
{
	int64_t age = v->env.dirty_age_ns != 0 ? v->env.dirty_age_ns : DIRTY_AGE_NS;

	return age + age / 24;
}

struct todo {
	bool upload, checkpoint, record, shrink;
	uint64_t mark, trim_number, trim_jseq; /* 0: none */
};

/* Nothing was written for some time, and nothing is on its way. INT64_MAX: never. */
static int64_t shrink_due_locked(const struct volume *v)
{
	return v->shrink_at != 0 && v->dirty_since == 0 && v->nclosed == 0 && v->puts == NULL ? v->shrink_at : INT64_MAX;
}

/* What is to be done is decided anew each time. */
static bool todo_locked(struct volume *v, struct todo *t)
{
	bool due = v->nclosed > 0 || (v->dirty_since != 0 && v->dirty_since + vol_age(v) <= clock_now_ns());

	memset(t, 0, sizeof(*t));
	if (vol_age_due_locked(v) <= clock_now_ns())
		vol_age_locked(v);
	if (!due && vol_idle_due_locked(v) <= clock_now_ns())
		vol_idle_locked(v);
	if (v->clean_look)
		vol_want_clean_locked(v);
	t->upload = due && !vol_overlay_full_locked(v) && !vol_clean_holds_locked(v);
	t->record = vol_record_due_locked(v);
	t->checkpoint = v->checkpoint_soon && !t->upload && vol_checkpoint_due_locked(v);
	if (mark_due_locked(v))
		t->mark = v->mark_wanted;
	if (v->trim_jseq > v->trimmed_jseq) {
		t->trim_number = v->trim_number;
		t->trim_jseq = v->trimmed_jseq = v->trim_jseq;
	}
	t->shrink = shrink_due_locked(v) <= clock_now_ns();
	if (t->shrink)
		v->shrink_at = 0;
	return t->upload || t->checkpoint || t->record || t->mark != 0 || t->trim_jseq != 0 || t->shrink;
}

/* Waits for work; false: the uploader shall end. */
static bool wait_locked(struct volume *v, struct todo *t) REQUIRES(v->batch)
{
	while (!v->up_stop) {
		int64_t due;

		if (todo_locked(v, t))
			return true;
		due = v->dirty_since != 0 ? v->dirty_since + vol_age(v) : INT64_MAX;
		/* What is overdue waits for the tree. */
		due = MIN(due <= clock_now_ns() ? INT64_MAX : due, vol_idle_due_locked(v));
		due = MIN(MIN(due, shrink_due_locked(v)), vol_age_due_locked(v));
		if (due == INT64_MAX || due <= clock_now_ns())
			cond_wait(&v->work, &v->batch);
		else
			(void)cond_wait_until(&v->work, &v->batch, due);
	}
	return false;
}

#ifdef LSVD_RULE_SWITCHES
/* T13_ONE off: the next checkpoint begins while this mark is on its way. */
struct mark_out {
	struct job job;
	struct volume *v;
	uint64_t number;
	struct vol_point point;
};

static void mark_answered(struct job *job)
{
	struct mark_out *m = container_of(job, struct mark_out, job);
	struct volume *v = m->v;
	int r = log_mark(v->log, m->number);

	mtx_lock(&v->batch);
	if (r == 0 && m->number > v->newest.number) {
		struct vol_point coming = v->coming;
		uint64_t wanted = v->mark_wanted;

		v->coming = m->point;
		vol_mark_answered_locked(v);
		v->coming = coming;
		v->mark_wanted = wanted;
	} else {
		vol_point_free(&m->point);
	}
	v->marks_out--;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	free(m);
}

static int mark_aside(struct volume *v, uint64_t number)
{
	struct mark_out *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return -ENOMEM;
	m->job.fn = mark_answered;
	m->v = v;
	m->number = number;
	mtx_lock(&v->batch);
	m->point = v->coming;
	memset(&v->coming, 0, sizeof(v->coming));
	v->mark_wanted = 0;
	v->marks_out++;
	mtx_unlock(&v->batch);
	pool_submit(v->env.pool, &m->job);
	return 0;
}
#endif

static int step(struct volume *v, const struct todo *t)
{
	int r = 0;

	if (t->trim_jseq != 0)
		r = journal_trim(v->journal, t->trim_number, t->trim_jseq, false);
	if (r == 0 && t->shrink && journal_shrink(v->journal, false) == -EIO)
		r = -EIO; /* any other failure: room that is not given back */
#ifdef LSVD_RULE_SWITCHES
	if (r == 0 && t->mark != 0 && !RULE(T13_ONE))
		r = mark_aside(v, t->mark);
	else
#endif
	    if (r == 0 && t->mark != 0) {
		r = log_mark(v->log, t->mark);
		if (r == 0) {
			mtx_lock(&v->batch);
			vol_mark_answered_locked(v);
			mtx_unlock(&v->batch);
		}
	}
	if (r == 0 && (t->upload || t->checkpoint || t->record)) {
		r = log_reserve(v->log);
		if (r == 0)
			r = t->record ? vol_put_record(v) : t->upload ? upload_one(v) : vol_put_checkpoint(v);
	}
	return r;
}

static void uploader(struct job *job)
{
	struct volume *v = container_of(job, struct volume, uploader);
	struct todo t;
	int r = 0;

	mtx_lock(&v->batch);
	while (r == 0 && wait_locked(v, &t)) {
		mtx_unlock(&v->batch);
		r = step(v, &t);
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

/* ---- the next segment of the journal ---- */

static void prepare(struct job *job)
{
	struct volume *v = container_of(job, struct volume, prepare);

	journal_prepare(v->journal);
	mtx_lock(&v->batch);
	v->preparing = false;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

static bool on_low(void *arg)
{
	struct volume *v = arg;
	bool go;

	mtx_lock(&v->batch);
	go = v->up && !v->up_stop && !v->preparing;
	v->preparing = v->preparing || go;
	mtx_unlock(&v->batch);
	if (go)
		pool_submit(v->env.pool, &v->prepare);
	return go;
}

void vol_start_uploader(struct volume *v)
{
	journal_on_low(v->journal, on_low, v);
	mtx_lock(&v->batch);
	v->up = true;
	v->up_stop = false;
	v->shrink_at = clock_now_ns() + VOL_IDLE_AGES * vol_age(v);
	v->uploader.fn = uploader;
	v->prepare.fn = prepare;
	mtx_unlock(&v->batch);
	pool_submit(v->env.pool, &v->uploader);
}

void vol_stop_uploader(struct volume *v)
{
	mtx_lock(&v->batch);
	v->up_stop = true;
	cond_broadcast(&v->work);
	while (v->up || v->tending || v->cleaning || v->preparing || v->puts != NULL)
		cond_wait(&v->work, &v->batch);
#ifdef LSVD_RULE_SWITCHES
	while (v->marks_out > 0)
		cond_wait(&v->work, &v->batch);
#endif
	mtx_unlock(&v->batch);
}

int vol_drain(struct volume *v)
{
	uint64_t number;
	int r;

	mtx_lock(&v->batch);
	number = v->jseq;
	r = vol_close_batch_locked(v);
	v->draining++;
	cond_broadcast(&v->work);
	while (r == 0 && v->sealed_jseq < number && v->up)
		cond_wait(&v->work, &v->batch);
	v->draining--;
	if (r == 0 && v->sealed_jseq < number)
		r = -EIO;
	number = v->sealed;
	mtx_unlock(&v->batch);
	return r < 0 ? r : number == 0 ? 0 : log_wait_committed(v->log, number);
}
