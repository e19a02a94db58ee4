/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * voldel.c - which objects of the log may go, by the rule of PROTOCOL.md, and who waits for it.
 *
 * By a point p, a checkpoint whose mark is out: the one that this owner put before its newest, or the one that it
 * attached from; never what a listing says. An object goes when it lies below p and the map says that no checkpoint
 * from p on can refer to it: its death (map.h). What p refers to beside its map stays: digests, snapshots, all claims.
 *
 * Pages of a tree die when a checkpoint names a newer one; those of a tree that is being written have no death. Numbers
 * of which nothing is known (void ones, records, the pages of a dead node's unfinished tree) die with the claim.
 */
#include "config.h"
#include "volume-private.h"
#ifdef LSVD_RULE_SWITCHES
#include "log-private.h"
#endif
#include "../../objstore/base/clock.h"
#include <string.h>

enum { DELETE_MAX = 1000, STRAYS_MAX = 1 << 16, IDLE_ROUNDS = 2 };

void vol_point_free(struct vol_point *p)
{
	free(p->digests);
	free(p->snaps);
	memset(p, 0, sizeof(*p));
}

int vol_point_of(struct vol_point *p, uint64_t number, const struct log_checkpoint *c)
{
	struct vol_point n = {.number = number,
			      .ndigests = c->ndigests,
			      .nsnaps = c->nsnaps,
			      .pages_end = c->objects.number,
			      .digests = calloc(c->ndigests + 1, sizeof(*n.digests)),
			      .snaps = calloc(c->nsnaps + 1, sizeof(*n.snaps))};

	if (n.digests == NULL || n.snaps == NULL) {
		vol_point_free(&n);
		return -ENOMEM;
	}
	if (n.ndigests > 0)
		memcpy(n.digests, c->digests, n.ndigests * sizeof(*n.digests));
	if (n.nsnaps > 0)
		memcpy(n.snaps, c->snaps, n.nsnaps * sizeof(*n.snaps));
	vol_point_free(p);
	*p = n;
	return 0;
}

void vol_mark_answered_locked(struct volume *v)
{
	v->mark_wanted = 0;
	vol_point_free(&v->before);
	v->before = v->newest;
	v->newest = v->coming;
	memset(&v->coming, 0, sizeof(v->coming));
	if (vol_note_mark_locked(v) < 0)
		v->marks_known = false; /* they are listed again */
	v->deletes_due = v->before.number != 0 || !RULE(T12_BEFORE);
	if (v->deletes_due)
		vol_start_tending_locked(v);
	cond_broadcast(&v->work);
}

/* ---- what may go ---- */

static bool holds(const uint64_t *v, size_t n, uint64_t number)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == number)
			return true;
	return false;
}

/* A snapshot s needs what was there at s and died later. */
static bool snapped(const struct log_snap *s, size_t n, const struct page_object *o)
{
	for (size_t i = RULE(S_EACH) || n == 0 ? 0 : n - 1; i < n && RULE(T16_SNAPS); i++)
		if (o->number == s[i].number || (o->number < s[i].number && s[i].number < o->death - 1))
			return true;
	return false;
}

/* ... and the digests of its root, which are among p's. */
static bool pinned(const struct vol_point *p, const struct page_object *o)
{
	return snapped(p->snaps, p->nsnaps, o) || holds(p->digests, p->ndigests, o->number);
}

static bool may_go(const struct vol_point *p, const struct page_object *o)
{
	if (o->type == LOG_CREATE || (o->type == LOG_CLAIM && RULE(T14_CLAIMS)))
		return false;
	if (o->number <= p->ancestors || (RULE(T15_BELOW) && o->number >= p->number))
		return false;
	if (o->type == LOG_MAP && o->death == 0 && !RULE(T19_PAGES) && o->number > p->pages_end)
		return true;
	if (o->type == LOG_CLAIM && !RULE(T14_CLAIMS))
		return true;
	return o->death != 0 && (o->death - 1 <= p->number || !RULE(T15_MAP)) && !pinned(p, o);
}

/* Nobody but what is retained would keep it from a delete by that mark. */
bool vol_goes_by(const struct volume *v, uint64_t mark, const struct page_object *o)
{
	struct vol_point p = {.number = mark,
			      .digests = v->ck.digests,
			      .ndigests = v->ck.ndigests,
			      .snaps = v->ck.snaps,
			      .nsnaps = v->ck.nsnaps,
			      .ancestors = log_first(v->log) - 1};

	return may_go(&p, o);
}

/* Up to max numbers from *io_from on. kept: may be NULL. */
static size_t candidates(struct volume *v, const struct vol_point *p, const struct vol_point *kept, uint64_t *io_from,
			 uint64_t *out, size_t max)
{
	struct page_object o[64];
	size_t n = 0, k;

	while (n + ARRAY_SIZE(o) <= max && (k = map_objects(v->map, *io_from, o, ARRAY_SIZE(o))) > 0) {
		for (size_t i = 0; i < k; i++)
			if (may_go(p, &o[i]) && (kept == NULL || !vol_keeps(kept, &o[i])))
				out[n++] = o[i].number;
		*io_from = o[k - 1].number + 1;
	}
	return n;
}

int vol_note_strays(struct volume *v)
{
	uint64_t first, end;
	struct page_object *o;
	size_t n = 0;
	int r = 0;

	mtx_lock(&v->batch);
	first = MAX(MAX(v->ck.tree_covers, v->ck.first + 1), log_first(v->log) + 1);
	end = v->first_own;
	if (end <= first || end - first > STRAYS_MAX)
		goto out;
	o = calloc(end - first, sizeof(*o));
	if (o == NULL) {
		r = -ENOMEM;
		goto out;
	}
	for (uint64_t i = first; i < end; i++)
		if (!holds(v->ck.claims, v->ck.nclaims, i))
			o[n++] = (struct page_object){.number = i, .type = LOG_RELEASE, .death = end + 1};
	r = map_note_table(v->map, o, n);
	free(o);
out:
	mtx_unlock(&v->batch);
	return r;
}

/* ---- doing it ---- */

static int delete_some(struct volume *v, const uint64_t *numbers, size_t n)
{
	size_t gone = 0;
	int r;

	if (n == 0)
		return 0;
	vol_wait_readers(v);
	r = log_delete(v->log, numbers, n, &gone);
	for (size_t i = 0; i < gone; i++) {
		struct page_object o;

		if (v->env.fetch != NULL && map_object(v->map, numbers[i], &o))
			fetch_forget(v->env.fetch, v->uuid, numbers[i], o.sectors);
		map_forget_object(v->map, numbers[i]);
	}
	mtx_lock(&v->batch);
	v->freed += gone;
	mtx_unlock(&v->batch);
	return r;
}

#ifdef LSVD_RULE_SWITCHES
/* P_OWN off: p is the mark before the newest that there is. */
static int listed_point(struct volume *v, struct vol_point *p)
{
	struct logobj o = {0};
	struct objerr err = {0};
	uint64_t newest, before;
	int r = log_look(v->log, &newest, &before, &err);

	if (r == 0 && before != 0)
		r = log_head(v->log, before, &o, &err);
	if (r == 0 && o.checkpoint != NULL)
		r = vol_point_of(p, before, o.checkpoint);
	logobj_free(&o);
	return r;
}
#endif

/* Best effort: what is left is tried again with the next mark. */
int vol_delete_dead(struct volume *v)
{
	uint64_t *numbers = calloc(DELETE_MAX, sizeof(*numbers)), from = 0, floor;
	const struct vol_point *kept = NULL;
	struct objerr err = {0};
	struct vol_point p = {0};
	size_t n = DELETE_MAX;
	bool marks, stop = false;
	int r = numbers == NULL ? -ENOMEM : vol_raise_floor(v, &err);

	mtx_lock(&v->batch);
	marks = v->marks_due;
	floor = vol_retains(v) != 0 ? v->floor_said : UINT64_MAX;
	if (r == 0) {
		struct vol_point *by = RULE(T12_BEFORE) ? &v->before : &v->newest;
		struct log_checkpoint c = {.ndigests = by->ndigests,
					   .digests = by->digests,
					   .nsnaps = by->nsnaps,
					   .snaps = by->snaps,
					   .objects = {.number = by->pages_end}};

		r = vol_point_of(&p, by->number, &c);
	}
	mtx_unlock(&v->batch);
	p.ancestors = log_first(v->log) - 1;
	if (r == 0)
		r = vol_pin_snapshots(v, &p);
	if (r == 0)
		r = vol_kept_point(v, &p, &kept, &err);
	if (err.msg[0] != '\0')
		vol_note(v, "nothing is deleted, what is to be kept cannot be read: %s", err.msg);
#ifdef LSVD_RULE_SWITCHES
	if (r == 0 && !RULE(P_OWN))
		r = listed_point(v, &p);
#endif
	while (r == 0 && n > 0 && !stop) {
		n = candidates(v, &p, kept, &from, numbers, DELETE_MAX);
		mtx_lock(&v->batch);
		stop = v->up_stop || v->keeps;
		mtx_unlock(&v->batch);
		if (!stop)
			r = delete_some(v, numbers, n);
	}
	if (r == 0 && marks && !stop && log_delete_marks(v->log, floor) == 0) {
		mtx_lock(&v->batch);
		v->marks_due = false;
		mtx_unlock(&v->batch);
	}
	vol_point_free(&p);
	free(numbers);
	return r;
}

/* ---- idle ---- */

/* A number of which nothing is known may be an object of any size where the image went back: the tree is of before. */
static bool left_behind(const struct volume *v, const struct page_object *o)
{
	return v->rolled_back && o->type == LOG_RELEASE && o->number < v->first_own && o->death == v->first_own + 1;
}

/* Of digests, what is dead waits for a new tree. */
bool vol_dead_locked(struct volume *v, uint64_t *ret_pinned)
{
	struct page_object o[64];
	uint64_t from = 0, pinned = 0;
	bool worth = false;
	size_t k;

	while ((k = map_objects(v->map, from, o, ARRAY_SIZE(o))) > 0) {
		for (size_t i = 0; i < k; i++) {
			if (o[i].death == 0 || (!left_behind(v, &o[i]) && (o[i].sectors == 0 ||
			    (o[i].type != LOG_DATA && o[i].type != LOG_CLEANER && o[i].type != LOG_MAP))) ||
			    snapped(v->ck.snaps, v->ck.nsnaps, &o[i]) || vol_waits_for_age_locked(v, &o[i]))
				continue;
			if (holds(v->ck.digests, v->ck.ndigests, o[i].number))
				pinned += o[i].sectors * (uint64_t)SECTOR;
			else
				worth = true;
		}
		from = o[k - 1].number + 1;
	}
	*ret_pinned = pinned;
	return worth;
}

int64_t vol_idle_due_locked(const struct volume *v)
{
	return v->active_at != 0 && v->idle_rounds < IDLE_ROUNDS && v->mark_wanted == 0 && v->tree != TREE_FROZEN &&
		       !v->cleaning
		   ? v->active_at + VOL_IDLE_AGES * vol_age(v)
		   : INT64_MAX;
}

void vol_idle_locked(struct volume *v)
{
	uint64_t live, stored, pinned;
	bool worth;

	v->active_at = clock_now_ns();
	if (vol_idle_clean_locked(v))
		return;
	worth = vol_dead_locked(v, &pinned);
	map_usage(v->map, &live, &stored);
	if (pinned > live * SECTOR / VOL_PINNED_PART && v->tree == TREE_NONE && v->idle_rounds == 0) {
		v->tree = TREE_WANTED;
		worth = true;
	}
	v->idle_rounds = worth ? v->idle_rounds + 1 : IDLE_ROUNDS;
	v->checkpoint_soon = v->checkpoint_soon || worth;
}
