/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volclean.c - the cleaner: what is live in objects that are mostly dead moves to new ones, so that the old ones may
 * go. Only an owner cleans.
 *
 *	choose	by cost and benefit: (1 - u) x age / (1 + u), u: live part, age: how many numbers ago. Cold objects are
 *		cleaned at a higher u than hot ones, whose rest dies by itself soon
 *	look	the victim's header says where it wrote; what the map still points to is watched (map.h)
 *	read	through the block cache
 *	move	a number, a cleaner object of what is still so: each entry says where it came from
 * The old objects go by the rule for all (voldel.c): a crash at any step leaves one copy too many at worst.
 *
 * A clone that is flattened (volflat.c) moves what is its ancestors' in the same way, in the cleaner's turn.
 *
 * How much: under load the log is held at CLEAN_BUSY per cent live; when the guest is calmer at more, when it is quiet
 * at most that pays. How fast: so many objects under way, more the further it is behind, never more than half of the
 * window. Where even that is not enough, writers get half of the window as well, then one place in it: the journal
 * fills, which slows them smoothly (throttle.h); nobody waits for the cleaner. A round that gains nothing ends it until
 * the guest writes again, so that an idle image sends nothing.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/failpoint.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CLEAN_BUSY = 69, CLEAN_CALM = 75, CLEAN_QUIET = 92, CLEAN_GC = 90, /* per cent live */
	SLACK = 4,                                 /* objects that may be dead however little is live */
	BEHIND = 48, /* so many more than at CLEAN_BUSY: writers are held back; twice: more */
	MOVES_AT_ONCE = 4, /* of what is an ancestor's */
	VICTIMS = 256, READ_PIECES = 256, SHARE_MAX = LOG_W_MAX / 2, AGAIN = 64 /* numbers */
};
#define FULL 0.97 /* nothing to gain */
#define CLEAN_RETRY_NS (5 * NSEC_PER_SEC)

struct victim {
	struct page_object o;
	double score;
};

/* One round: some victims, one new object. */
struct round {
	struct volume *v;
	struct victim victim[VICTIMS];
	size_t nvictims;
	struct em_ext *piece;
	size_t npieces;
	uint8_t *data;
	uint64_t sectors, old; /* of data; of the victims' objects, as far as they were looked at */
	uint64_t newest;                  /* number when it began */
	uint64_t moved;                   /* bytes */
	uint64_t under_way[SHARE_MAX], n; /* numbers that were made, a ring */
};

/* ---- whether ---- */

static bool quiet_locked(const struct volume *v)
{
	return v->guest_at != 0 && v->guest_at + VOL_IDLE_AGES * vol_age(v) <= clock_now_ns();
}

/* Per cent that is to be live now. running: it goes on for a little longer than it takes to begin. */
static unsigned goal_locked(const struct volume *v, bool running)
{
	if (v->clean_goal != 0)
		return v->clean_goal;
	if (quiet_locked(v))
		return CLEAN_QUIET;
	return running && v->nclosed == 0 && v->guest_at + vol_age(v) <= clock_now_ns() ? CLEAN_CALM : CLEAN_BUSY;
}

static bool due_locked(struct volume *v, bool running, unsigned *ret_percent)
{
	uint64_t live, stored, goal = goal_locked(v, running), slack = v->batch_bytes / SECTOR;

	v->clean_behind = 0;
	if (v->env.no_cleaner || v->clean_idle || v->up_stop || !v->table_known || clock_now_ns() < v->clean_after)
		return false;
	map_usage(v->map, &live, &stored);
	v->clean_behind = (unsigned)MIN((stored - MIN(live * 100 / CLEAN_BUSY, stored)) / (BEHIND * slack), (uint64_t)2);
	if (goal <= CLEAN_CALM)
		slack *= SLACK;
	*ret_percent = stored > 0 ? (unsigned)(live * 100 / stored) : 100;
	return stored - MIN(live, stored) > slack && live * 100 < stored * goal;
}

static void start_locked(struct volume *v);

void vol_want_clean_locked(struct volume *v)
{
	unsigned percent;

	v->clean_look = false;
	if (v->env.no_cleaner || v->clean_idle)
		return;
	if (!v->table_known) {
		/* Not for a few writes: it costs requests. A delete or a tree reads it as well. */
		if (v->written < 2 * SLACK * v->batch_bytes && v->clean_goal == 0)
			return;
		v->table_wanted = true;
		vol_start_tending_locked(v);
	} else if (due_locked(v, v->cleaning, &percent) && !v->cleaning) {
		start_locked(v);
	}
}

bool vol_clean_holds_locked(const struct volume *v)
{
	struct log_view view;
	unsigned n = 0;

	if (!v->cleaning || v->clean_behind == 0 || v->draining > 0)
		return false;
	log_view(v->log, &view);
	for (const struct vol_put *u = v->puts; u != NULL; u = u->next)
		n += !u->moved;
	return n >= (v->clean_behind == 1 ? MAX(view.window / 2, 1u) : 1);
}

bool vol_idle_clean_locked(struct volume *v)
{
	unsigned percent;

	if (v->cleaning || !due_locked(v, false, &percent))
		return false;
	start_locked(v);
	return true;
}

/* ---- which ---- */

/*
 * What was looked at lately: what it still has of live sectors is hidden by writes that are not in the log yet, or the
 * counts are those of a tree that was begun before.
 */
static bool looked_at(const struct volume *v, uint64_t number, uint64_t newest)
{
	const struct vol_looked *l = &v->looked[number % VOL_LOOKED];

	return l->number == number && newest - l->at < AGAIN;
}

/* Only the cleaner itself changes the list. */
static bool skipped(const struct volume *v, uint64_t number)
{
	for (unsigned i = 0; i < MIN(v->nskip, (unsigned)VOL_SKIP); i++)
		if (v->skip[i] == number)
			return true;
	return false;
}

static void skip(struct volume *v, uint64_t number, int r, const struct objerr *err)
{
	if (r == -EUCLEAN || r == -ENOENT)
		vol_note(v, "%s", err->msg);
	mtx_lock(&v->batch);
	v->skip[v->nskip++ % VOL_SKIP] = number;
	mtx_unlock(&v->batch);
}

/* The best ones, the best first. */
static void consider(struct round *r, const struct page_object *o, double score)
{
	size_t i = r->nvictims;

	if (i == VICTIMS && score <= r->victim[i - 1].score)
		return;
	if (i == VICTIMS)
		i--;
	else
		r->nvictims++;
	for (; i > 0 && r->victim[i - 1].score < score; i--)
		r->victim[i] = r->victim[i - 1];
	r->victim[i] = (struct victim){*o, score};
}

/* What a snapshot needs does not go, whatever is moved. Where nobody writes nothing dies by itself: age says nothing. */
static void choose(struct round *r)
{
	struct volume *v = r->v;
	uint64_t from = 0, committed = log_committed(v->log), pinned;
	struct page_object o[64];
	bool aged;
	size_t k;

	r->nvictims = 0;
	mtx_lock(&v->batch);
	r->newest = v->sealed;
	/* An ancestor's neither. */
	pinned = v->ck.nsnaps > 0 ? v->ck.snaps[v->ck.nsnaps - 1].number : log_first(v->log) - 1;
	aged = goal_locked(v, true) <= CLEAN_CALM;
	mtx_unlock(&v->batch);
	while ((k = map_objects(v->map, from, o, ARRAY_SIZE(o))) > 0) {
		for (size_t i = 0; i < k; i++) {
			double u = (double)o[i].live / (double)MAX(o[i].sectors, 1u);
			double age = aged && r->newest > o[i].number ? (double)(r->newest - o[i].number) : 1;

			if ((o[i].type == LOG_DATA || o[i].type == LOG_CLEANER) && o[i].death == 0 && u < FULL &&
			    o[i].number > pinned && o[i].number <= committed && !skipped(v, o[i].number) &&
			    !looked_at(v, o[i].number, r->newest))
				consider(r, &o[i], (1 - u) / (1 + u) * age);
		}
		from = o[k - 1].number + 1;
	}
}

/* ---- what is live in them ---- */

static int header_of(struct volume *v, const struct page_object *o, struct logobj *ret, struct objerr *err)
{
	size_t need = MIN((size_t)o->sectors * SECTOR, (size_t)LOG_GROUP), have = 0;
	uint8_t *buf = NULL;
	int r = -EAGAIN;

	while (r == -EAGAIN && need > have && need <= (size_t)o->sectors * SECTOR) {
		struct fetch_piece p = {o->number, 0, (uint32_t)(need / SECTOR), NULL};

		free(buf);
		have = need;
		p.out = buf = malloc(have);
		r = buf == NULL ? -ENOMEM : vol_read_log(v, &p, 1, err);
		if (r == 0)
			r = logobj_decode_content(buf, have, v->uuid, o->number, ret, &need, err);
	}
	free(buf);
	if (r == -EAGAIN) {
		objerr_set(err, "log object %016" PRIx64 " has a header that is longer than itself", o->number);
		r = -EUCLEAN;
	}
	return r;
}

static int look_at(struct round *r, const struct page_object *o, struct objerr *err)
{
	struct volume *v = r->v;
	struct logobj h = {0};
	struct log_pageref need;
	int e = header_of(v, o, &h, err);

	for (size_t i = 0; e == 0 && i < h.nextents; i++) {
		uint64_t off = 0;

		while (e == 0 && h.extents[i].kind == EXT_DATA && off < h.extents[i].len) {
			e = map_watch(v->map, o->number, &h.extents[i], &off, &need);
			if (e == -EAGAIN)
				e = vol_fetch_page(v, &need);
		}
	}
	if (e == 0) {
		r->sectors += map_watched_all(v->map, o->number);
		r->old += o->sectors;
		v->looked[o->number % VOL_LOOKED] = (struct vol_looked){o->number, r->newest};
	}
	logobj_free(&h);
	return e;
}

static int by_place(const void *a, const void *b)
{
	const struct fetch_piece *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->sector < y->sector ? -1 : x->sector > y->sector;
}

/* All of it on its way before the first part is waited for. */
static void ahead(struct volume *v, const struct fetch_piece *p, size_t n)
{
	if (v->env.fetch != NULL)
		(void)fetch_ahead(v->env.fetch, v->log, p, n);
}

static void headers_ahead(struct round *r)
{
	uint64_t sectors = 0, aim = r->v->batch_bytes / SECTOR;

	for (size_t i = 0; i < r->nvictims && sectors < aim; i++) {
		const struct page_object *o = &r->victim[i].o;
		struct fetch_piece p = {o->number, 0, MIN(o->sectors, LOG_GROUP / SECTOR), NULL};

		ahead(r->v, &p, 1);
		sectors += o->live;
	}
}

static int read_data(struct round *r, struct objerr *err, uint64_t *ret_number)
{
	struct fetch_piece *p = calloc(r->npieces + 1, sizeof(*p));
	uint8_t *to = r->data;
	int e = p == NULL ? -ENOMEM : 0;

	for (size_t i = 0; e == 0 && i < r->npieces; i++) {
		p[i] = (struct fetch_piece){r->piece[i].number, r->piece[i].sector, (uint32_t)r->piece[i].len, to};
		to += r->piece[i].len * SECTOR;
	}
	if (e == 0) {
		qsort(p, r->npieces, sizeof(*p), by_place);
		ahead(r->v, p, r->npieces);
	}
	for (size_t i = 0; e == 0 && i < r->npieces; i += READ_PIECES) {
		e = vol_read_log(r->v, p + i, MIN(r->npieces - i, (size_t)READ_PIECES), err);
		*ret_number = p[i].number;
	}
	free(p);
	return e;
}

static int take_pieces(struct round *r)
{
	uint64_t lba = 0;
	size_t cap = 0, n = 1;

	r->sectors = 0;
	while (n > 0) {
		if (r->npieces == cap) {
			struct em_ext *p = reallocarray(r->piece, cap * 2 + 256, sizeof(*p));

			if (p == NULL)
				return -ENOMEM;
			r->piece = p;
			cap = cap * 2 + 256;
		}
		n = map_watched(r->v->map, &lba, r->piece + r->npieces, cap - r->npieces);
		for (size_t i = 0; i < n; i++)
			r->sectors += r->piece[r->npieces++].len;
	}
	return 0;
}

/*
 * Whole victims, an object to one and a half (less would cost more requests than a guest's data do): what is left of one
 * that was half moved is as dear.
 */
static bool enough(const struct round *r, const struct page_object *next)
{
	uint64_t aim = r->v->batch_bytes / SECTOR;

	return r->sectors >= aim || (r->sectors > 0 && r->sectors + next->live > aim * 3 / 2);
}

/*
 * As one read: nothing that it finds is deleted meanwhile. The data are charged when they are on their way: reads wait
 * for memory, and who does that must not hold any.
 */
static int gather(struct round *r)
{
	struct volume *v = r->v;
	struct objerr err = {0};
	uint64_t remapped, number = 0;
	unsigned gen;
	int e = vol_read_begin(v, &gen, &remapped);

	if (e < 0)
		return e;
	headers_ahead(r);
	map_watch_begin(v->map);
	for (size_t i = 0; e == 0 && i < r->nvictims && !enough(r, &r->victim[i].o); i++) {
		number = r->victim[i].o.number;
		e = look_at(r, &r->victim[i].o, &err);
	}
	if (e == 0)
		e = take_pieces(r);
	if (e == 0 && r->sectors > 0 && r->sectors < LOG_OBJECT_MAX / SECTOR / 2) {
		r->data = malloc(r->sectors * SECTOR);
		e = r->data == NULL ? -ENOMEM : read_data(r, &err, &number);
	}
	vol_read_end(v, gen);
	if (e == -EUCLEAN || e == -ENOENT)
		skip(v, number, e, &err);
	return e;
}

/* ---- their new place ---- */

/* The data of what was moved, in its order, to the front. */
static void compact(struct round *r, const struct map_moved *m)
{
	uint64_t to = 0;

	for (size_t i = 0; i < m->n; i++) {
		memmove(r->data + to * SECTOR, r->data + m->at[i] * SECTOR, m->extents[i].len * SECTOR);
		to += m->extents[i].len;
	}
}

/* A place in the window was reserved. -ENODATA: nothing is left to move, and no number was given. */
static int seal(struct round *r, struct vol_sealing *s, struct vol_put *u, struct map_moved *m)
{
	struct volume *v = r->v;
	struct log_effect e = {.type = LOG_CLEANER};
	int res = 0;

	mtx_lock(&v->batch);
	while (vol_overlay_crowded_locked(v) && !v->up_stop)
		cond_wait(&v->work, &v->batch);
	if (v->up_stop || map_movable(v->map, r->piece, r->npieces) == 0) {
		res = v->up_stop ? -ESHUTDOWN : -ENODATA;
		mtx_unlock(&v->batch);
		log_unreserve(v->log);
		return res;
	}
	s->o.type = LOG_CLEANER;
	s->o.number = log_take(v->log);
	s->o.jseq = RULE(C_JOURNAL) ? v->sealed_jseq : v->jseq;
	s->o.size = v->sealed_size;
	vol_want_tree_locked(v);
	if (vol_checkpoint_due_locked(v))
		res = vol_checkpoint_locked(v, &s->ckpt, &s->o, s->o.number);
	if (res == 0)
		res = map_move(v->map, s->o.number, r->piece, r->npieces, vol_first_sector, s, m);
	if (res == 0) {
		e.number = s->o.number;
		e.size = s->o.size;
		e.first = m->first;
		e.v = m->extents;
		e.n = m->n;
		res = vol_add_effect(v, &e);
	}
	if (res == 0) {
		u->moved = true;
		vol_put_begin_locked(v, u, &s->o);
		v->written += m->data_sectors * SECTOR;
		v->moved += m->data_sectors * SECTOR;
		v->moved_objects++;
		v->active_at = clock_now_ns();
		v->idle_rounds = v->age_rounds = 0;
	}
	mtx_unlock(&v->batch);
	return res;
}

/* After -EIO the volume has failed. */
static int move(struct round *r)
{
	struct volume *v = r->v;
	struct vol_put *u = calloc(1, sizeof(*u));
	struct vol_sealing s = {0};
	struct map_moved m = {0};
	const uint8_t *at = r->data;
	struct logobj_body body = {0, logobj_fill_bytes, &at};
	int res = u == NULL ? -ENOMEM : log_reserve(v->log);

	if (res == 0)
		res = seal(r, &s, u, &m);
	if (res == 0) {
		compact(r, &m);
		body.bytes = m.data_sectors * SECTOR;
		u->charged = body.bytes;
		if (v->env.budget != NULL)
			budget_take(v->env.budget, u->charged);
		s.o.extents = m.extents;
		s.o.nextents = m.n;
		r->under_way[r->n++ % SHARE_MAX] = s.o.number;
		r->moved += body.bytes;
		res = vol_put_object(v, u, &s.o, &body);
		u = NULL;
	}
	if (res < 0 && s.o.number != 0) {
		vol_fail(v, VOL_FAILED, "the cleaner could not write: %s", strerror(-res));
		res = -EIO;
	}
	free(u);
	free(m.extents);
	free(m.at);
	vol_ckpt_done(&s.ckpt);
	return res;
}

/* Behind by more: more at once; never more than half of what may be under way. */
static int wait_for_turn(struct round *r, unsigned percent)
{
	struct log_view view;
	uint64_t share = percent + 1 >= CLEAN_BUSY ? 2 : 2 + (CLEAN_BUSY - percent);

	log_view(r->v->log, &view);
	mtx_lock(&r->v->batch);
	if (r->v->clean_behind > 0)
		share = view.window;
	mtx_unlock(&r->v->batch);
	share = MAX(MIN(share, (uint64_t)view.window / 2), (uint64_t)1);
	return r->n < share ? 0 : log_wait_committed(r->v->log, r->under_way[(r->n - share) % SHARE_MAX]);
}

/* -ENODATA: there is nothing to gain. */
static int one_round(struct round *r)
{
	uint64_t header;
	int e;

	choose(r);
	r->npieces = 0;
	r->sectors = r->old = 0;
	if (r->nvictims == 0)
		return -ENODATA;
	e = gather(r);
	/* What is written has a header. */
	header = (128 + r->npieces * 32) / SECTOR + LOG_BLOCK / SECTOR;
	if (e == 0 && (r->sectors == 0 || r->sectors + header + r->sectors / 64 >= r->old))
		e = -ENODATA;
	if (e == 0)
		e = move(r);
	free(r->data);
	free(r->piece);
	r->data = NULL;
	r->piece = NULL;
	map_watch_begin(r->v->map); /* no more */
	return e;
}

/* ---- what is an ancestor's ---- */

/* As gather(), of all objects of ancestors, in order of LBA. */
static int gather_ancestors(struct round *r, uint64_t *io_lba, struct objerr *err)
{
	uint64_t remapped, number = 0, n = 0, aim = r->v->batch_bytes / SECTOR;
	struct volume *v = r->v;
	struct log_pageref need;
	unsigned gen;
	int e = vol_read_begin(v, &gen, &remapped);

	if (e < 0)
		return e;
	map_watch_begin(v->map);
	while (e == 0 && n < aim && *io_lba < IMG_SECTORS_MAX) {
		e = map_ancestors(v->map, log_first(v->log) - 1, true, aim, io_lba, &n, &need);
		if (e == -EAGAIN)
			e = vol_fetch_page(v, &need);
	}
	if (e == 0)
		e = take_pieces(r);
	if (e == 0 && r->sectors > 0) {
		r->data = malloc(r->sectors * SECTOR);
		e = r->data == NULL ? -ENOMEM : read_data(r, err, &number);
	}
	vol_read_end(v, gen);
	return e;
}

/* The cleaner's turn is ours, or there is no more: -EIO. */
static int instead_of_cleaner(struct volume *v)
{
	int r;

	mtx_lock(&v->batch);
	while (v->cleaning && v->up && !v->up_stop)
		cond_wait(&v->work, &v->batch);
	r = v->up && !v->up_stop && !v->cleaning ? 0 : -EIO;
	if (r == 0) {
		v->cleaning = true;
		v->clean_behind = 0;
	}
	mtx_unlock(&v->batch);
	return r;
}

static void cleaner_again(struct volume *v)
{
	mtx_lock(&v->batch);
	v->cleaning = false;
	v->clean_look = true;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

static int one_move(struct round *r, uint64_t *io_lba, struct objerr *err)
{
	struct volume *v = r->v;
	int e = instead_of_cleaner(v);

	if (e < 0)
		return e;
	r->npieces = 0;
	e = gather_ancestors(r, io_lba, err);
	if (e == 0 && r->sectors > 0)
		e = move(r);
	if (e == -ENODATA) /* the guest was faster */
		e = 0;
	free(r->data);
	free(r->piece);
	r->data = NULL;
	r->piece = NULL;
	map_watch_begin(v->map); /* no more */
	cleaner_again(v);
	return e;
}

int vol_move_ancestors(struct volume *v, uint64_t max, uint64_t *io_lba, uint64_t *ret_moved, struct objerr *err)
{
	struct round *r = calloc(1, sizeof(*r));
	struct log_view view;
	uint64_t share;
	int e = r == NULL ? -ENOMEM : 0;

	log_view(v->log, &view);
	share = MAX(MIN((uint64_t)MOVES_AT_ONCE, (uint64_t)view.window / 2), (uint64_t)1);
	while (e == 0 && r->moved < max && *io_lba < IMG_SECTORS_MAX) {
		r->v = v;
		e = r->n < share ? 0 : log_wait_committed(v->log, r->under_way[(r->n - share) % SHARE_MAX]);
		if (e == 0)
			e = one_move(r, io_lba, err);
		FAILPOINT("image.flatten-moved");
	}
	*ret_moved = r != NULL ? r->moved : 0;
	free(r);
	return e;
}

/* ---- the job ---- */

static void clean(struct job *job)
{
	struct volume *v = container_of(job, struct volume, clean);
	struct round *r = calloc(1, sizeof(*r));
	int e = r == NULL ? -ENOMEM : 0;
	unsigned percent;

	mtx_lock(&v->batch);
	while (e == 0 && due_locked(v, true, &percent)) {
		mtx_unlock(&v->batch);
		r->v = v;
		e = wait_for_turn(r, percent);
		if (e == 0)
			e = one_round(r);
		mtx_lock(&v->batch);
		if (e == -EUCLEAN || e == -ENOENT) /* without that one */
			e = v->nskip < VOL_SKIP ? 0 : -ENODATA;
	}
	if (e == -ENODATA)
		v->clean_idle = true;
	else if (e < 0)
		v->clean_after = clock_now_ns() + CLEAN_RETRY_NS;
	v->cleaning = false;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	free(r);
}

static void start_locked(struct volume *v)
{
	v->cleaning = true;
	v->clean.fn = clean;
	pool_submit(v->env.pool, &v->clean);
}

/* ---- at once ---- */

static bool busy_locked(const struct volume *v)
{
	return v->cleaning || v->tending || v->table_wanted || v->checkpoint_soon || v->mark_wanted != 0 ||
	       v->tree != TREE_NONE;
}

int vol_settle_locked(struct volume *v)
{
	while (busy_locked(v) && !v->up_stop) {
		/* A tree that was wanted while a mark was out waits for the next object: there may be none. */
		if (v->tree == TREE_WANTED && !v->checkpoint_soon) {
			v->checkpoint_soon = true;
			cond_broadcast(&v->work);
		}
		cond_wait(&v->work, &v->batch);
	}
	return v->up_stop ? -EIO : 0;
}

/* Deletes wait for the mark before the newest: a tree names no old digests, then two more checkpoints. */
static int checkpoints_locked(struct volume *v) REQUIRES(v->batch)
{
	int r = 0;

	for (int i = 0; i < 4 && r == 0; i++) {
		uint64_t pinned;
		bool worth = vol_dead_locked(v, &pinned);

		if (!worth && (i > 0 || pinned == 0))
			break;
		if (i == 0 && pinned > 0 && v->tree == TREE_NONE)
			v->tree = TREE_WANTED;
		v->checkpoint_soon = true;
		cond_broadcast(&v->work);
		r = vol_settle_locked(v);
	}
	return r;
}

static int clean_to_locked(struct volume *v, unsigned live) REQUIRES(v->batch)
{
	int r;

	v->clean_goal = live;
	v->clean_idle = false;
	v->clean_after = 0;
	v->table_wanted = !v->table_known;
	v->deletes_due = v->deletes_due || vol_retains(v) != 0; /* what need not be kept any more? */
	if (v->table_wanted || v->deletes_due)
		vol_start_tending_locked(v);
	r = vol_settle_locked(v);
	if (r == 0 && !v->table_known)
		r = -EIO; /* the store does not answer */
	if (r == 0)
		(void)vol_idle_clean_locked(v);
	if (r == 0)
		r = vol_settle_locked(v);
	if (r == 0)
		r = checkpoints_locked(v);
	v->clean_goal = 0;
	return r;
}

int vol_gc(struct volume *v, unsigned live, struct vol_gc *ret)
{
	struct map_stat before, after;
	struct vol_gc g = {0};
	struct objerr err = {0};
	int r = vol_own(v);

	if (r == 0)
		r = vol_free_hidden(v, &err);
	if (r == 0)
		r = vol_drain(v);
	if (r < 0)
		return r;
	map_stat(v->map, &before);
	mtx_lock(&v->batch);
	g.moved = v->moved;
	g.made = v->moved_objects;
	g.deleted = v->freed;
	r = clean_to_locked(v, live != 0 ? MIN(live, 99u) : CLEAN_GC);
	g.moved = v->moved - g.moved;
	g.made = v->moved_objects - g.made;
	g.deleted = v->freed - g.deleted;
	mtx_unlock(&v->batch);
	map_stat(v->map, &after);
	g.live = after.live * SECTOR;
	g.stored_before = before.stored * SECTOR;
	g.stored = after.stored * SECTOR;
	if (r == 0)
		*ret = g;
	return r;
}
