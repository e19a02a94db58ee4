/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volretain.c - the past of an image that can be had again: positions of its log from the *floor* on, a checkpoint.
 *
 * Deletes go by a mark, as ever (voldel.c), and leave what the floor's checkpoint, or a later state, needs. An object goes if
 * it lies below the floor, no state from there on refers to it, and it is no digest of the floor's. So is what any later
 * position needs: it is younger than the floor, or was there then; a roll back revives only what snapshots keep, and all deaths
 * that are known behind it are younger.
 *
 * Who goes back must know that no delete of anybody takes what he relies on, also one that a former owner sent long ago. So
 * the floor is said in the log, in each checkpoint, before deletes go by it: the highest that a walk finds holds for all
 * owners up to there. It only rises, by what is older than the image is to keep: to the last checkpoint before that time.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include <inttypes.h>
#include <string.h>

enum { AGE_ROUNDS = 3, AGE_SLACK_S = 2 };

uint64_t vol_retains(const struct volume *v)
{
	return v->retain_s != 0 ? v->retain_s : v->env.retain_s;
}

void vol_see_floor(struct volume *v, const struct logobj *o)
{
	v->floor = o->floor != 0 ? o->floor : o->number;
	v->retain_s = o->floor != 0 ? o->retain_s : 0;
}

void vol_end_retaining(struct volume *v)
{
	vol_point_free(&v->kept);
	free(v->marks);
	v->marks = NULL;
	v->nmarks = v->capmarks = 0;
	v->marks_known = false;
}

void vol_begin_retaining(struct volume *v)
{
	vol_end_retaining(v);
	v->floor_said = v->floor;
	v->floor_want = 0;
	v->age_at = 0;
	v->age_rounds = 0;
}

void vol_say_floor_locked(struct volume *v, struct logobj *o)
{
	if (vol_retains(v) == 0) {
		v->floor = o->number;
		return;
	}
	v->floor = MAX(v->floor, v->floor_want);
	o->floor = v->floor;
	o->retain_s = v->retain_s;
}

/* ---- which checkpoints there are ---- */

static int add_mark(struct volume *v, uint64_t number, int64_t time_s)
{
	if (v->nmarks > 0 && v->marks[v->nmarks - 1].number >= number)
		return 0;
	if (v->nmarks == v->capmarks) {
		size_t cap = v->capmarks * 2 + 64;
		struct vol_kept *p = reallocarray(v->marks, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		v->marks = p;
		v->capmarks = cap;
	}
	v->marks[v->nmarks++] = (struct vol_kept){number, time_s};
	return 0;
}

int vol_note_mark_locked(struct volume *v)
{
	v->floor_said = RULE(R_SAID) ? v->newest.floor : v->floor_said;
	if (vol_retains(v) == 0)
		return 0;
	if (v->age_rounds < AGE_ROUNDS)
		v->age_at = clock_now_ns() + (int64_t)(vol_retains(v) + AGE_SLACK_S) * NSEC_PER_SEC;
	return v->marks_known ? add_mark(v, v->newest.number, v->newest.time_s) : 0;
}

/* Those of owners before: once. What else was marked since is newer. */
static int know_marks(struct volume *v, struct objerr *err)
{
	uint64_t *old = NULL, floor;
	size_t n = 0;
	bool known;
	int r;

	mtx_lock(&v->batch);
	known = v->marks_known;
	floor = v->floor;
	mtx_unlock(&v->batch);
	if (known)
		return 0;
	r = log_marks_from(v->log, floor, &old, &n, err);
	mtx_lock(&v->batch);
	v->nmarks = 0;
	if (r == 0)
		r = add_mark(v, floor, 0); /* the create record has no mark */
	for (size_t i = 0; i < n && r == 0; i++)
		r = add_mark(v, old[i], 0);
	if (r == 0)
		r = add_mark(v, v->newest.number, v->newest.time_s);
	v->marks_known = r == 0;
	mtx_unlock(&v->batch);
	free(old);
	return r;
}

/* Was mark i made until then? -ENODATA: it is no checkpoint that can be read, and forgotten. */
static int is_old(struct volume *v, size_t i, int64_t until, bool *ret, struct objerr *err)
{
	struct logobj o = {0};
	uint64_t number;
	int64_t t;
	int r = 0;

	mtx_lock(&v->batch);
	number = v->marks[i].number;
	t = v->marks[i].time_s;
	mtx_unlock(&v->batch);
	if (t == 0) {
		r = log_head(v->log, number, &o, err);
		t = MAX(o.time_s, 1);
		logobj_free(&o);
	}
	mtx_lock(&v->batch);
	if (r == -ENOENT || r == -EUCLEAN) {
		memmove(v->marks + i, v->marks + i + 1, (--v->nmarks - i) * sizeof(*v->marks));
		r = -ENODATA;
	} else if (r == 0) {
		v->marks[i].time_s = t;
		*ret = t <= until;
	}
	mtx_unlock(&v->batch);
	return r;
}

int vol_raise_floor(struct volume *v, struct objerr *err)
{
	uint64_t seconds;
	size_t low = 0, high;
	int64_t until;
	int r;

	mtx_lock(&v->batch);
	seconds = vol_retains(v);
	mtx_unlock(&v->batch);
	if (seconds == 0)
		return 0;
	r = know_marks(v, err);
	until = clock_real_ns() / NSEC_PER_SEC - (int64_t)seconds;
	mtx_lock(&v->batch);
	high = v->nmarks; /* more may come, none goes */
	mtx_unlock(&v->batch);
	while (r == 0 && low + 1 < high) {
		size_t mid = low + (high - low) / 2;
		bool old = false;

		r = is_old(v, mid, until, &old, err);
		if (r == -ENODATA) {
			high--;
			r = 0;
		} else if (old) {
			low = mid;
		} else {
			high = mid;
		}
	}
	if (r < 0 || low == 0)
		return r;
	mtx_lock(&v->batch);
	v->floor_want = MAX(v->floor_want, v->marks[low].number);
	if (!RULE(R_SAID)) /* deletes go by it at once */
		v->floor_said = v->floor_want;
	v->nmarks -= low;
	memmove(v->marks, v->marks + low, v->nmarks * sizeof(*v->marks));
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	return 0;
}

/* ---- what it keeps ---- */

int vol_kept_point(struct volume *v, const struct vol_point *p, const struct vol_point **ret, struct objerr *err)
{
	static const struct log_checkpoint none;
	struct logobj o = {0};
	uint64_t floor;
	int r;

	mtx_lock(&v->batch);
	floor = v->floor_said;
	mtx_unlock(&v->batch);
	if (floor >= p->number || !RULE(R_KEEP))
		return 0; /* p keeps more */
	if (v->kept.number != floor) {
		r = log_head(v->log, floor, &o, err);
		if (r == 0)
			r = vol_point_of(&v->kept, floor, o.checkpoint != NULL ? o.checkpoint : &none);
		logobj_free(&o);
		if (r < 0)
			return r;
	}
	*ret = &v->kept;
	return 0;
}

bool vol_keeps(const struct vol_point *kept, const struct page_object *o)
{
	if (o->number >= kept->number || o->death - 1 > kept->number)
		return true;
	for (size_t i = 0; i < kept->ndigests; i++)
		if (kept->digests[i] == o->number)
			return true;
	return false;
}

bool vol_waits_for_age_locked(const struct volume *v, const struct page_object *o)
{
	uint64_t floor = MAX(v->floor, v->floor_want);

	/* What died since the last checkpoint waits for the next one, which is then there to be the floor in its time. */
	return vol_retains(v) != 0 && (o->number >= floor || o->death - 1 > floor) && o->death - 1 <= v->last_checkpoint;
}

/* ---- it gets old ---- */

int64_t vol_age_due_locked(const struct volume *v)
{
	return v->age_at != 0 && v->mark_wanted == 0 && !v->tending && !v->cleaning && v->tree == TREE_NONE ? v->age_at
													      : INT64_MAX;
}

/* A pass of deletes finds what the floor can be; then it is as if the image had just become idle. */
void vol_age_locked(struct volume *v)
{
	v->age_at = 0;
	v->age_rounds++;
	v->idle_rounds = 0;
	v->active_at = clock_now_ns();
	v->deletes_due = v->marks_due = true;
	vol_start_tending_locked(v);
}

int vol_give_up_positions(struct volume *v, uint64_t number)
{
	int r = 0;

	mtx_lock(&v->batch);
	v->floor_want = vol_retains(v) != 0 ? MAX(v->floor_want, number) : v->floor_want;
	while (r == 0 && vol_retains(v) != 0 && v->floor_said < number) {
		if (v->mark_wanted == 0 && !v->checkpoint_soon) {
			v->checkpoint_soon = true;
			cond_broadcast(&v->work);
		}
		if (v->up && !v->up_stop)
			cond_wait(&v->work, &v->batch);
		else
			r = -EIO;
	}
	mtx_unlock(&v->batch);
	return r;
}

/* ---- for people ---- */

int vol_retain(struct volume *v, uint64_t seconds, struct objerr *err)
{
	uint64_t last;
	int r = seconds > VOL_RETAIN_MAX ? -EINVAL : vol_own(v);

	mtx_lock(&v->batch);
	if (r == 0 && v->retain_s != seconds) {
		v->retain_s = seconds;
		last = v->last_checkpoint;
		while (v->newest.number <= last && v->up && !v->up_stop) {
			if (v->mark_wanted == 0 && !v->checkpoint_soon) {
				v->checkpoint_soon = true;
				cond_broadcast(&v->work);
			}
			cond_wait(&v->work, &v->batch);
		}
		r = v->newest.number > last ? 0 : -EIO;
	}
	mtx_unlock(&v->batch);
	mtx_lock(&v->lock);
	if (r < 0 && v->why[0] != '\0')
		objerr_set(err, "%s", v->why);
	mtx_unlock(&v->lock);
	return r;
}

int vol_retained(struct volume *v, struct vol_retained *ret, struct objerr *err)
{
	struct page_object o[64];
	struct vol_point p = {0};
	struct logobj head = {0};
	uint64_t from = 0, mark, before;
	size_t k;
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	mtx_lock(&v->batch);
	ret->seconds = v->retain_s;
	p.number = ret->floor = v->floor;
	mark = v->begun_at;
	before = v->ck.before;
	mtx_unlock(&v->batch);
	r = log_head(v->log, p.number, &head, err);
	if (r == -ENOENT || r == -EUCLEAN) /* `image check` says more */
		r = 0;
	ret->time_s = head.time_s;
	logobj_free(&head);
	while (r == 0 && (k = map_objects(v->map, from, o, ARRAY_SIZE(o))) > 0) {
		for (size_t i = 0; i < k; i++)
			if (vol_goes_by(v, mark, &o[i]) && vol_keeps(&p, &o[i]))
				ret->bytes += o[i].sectors * (uint64_t)SECTOR;
			else if (vol_goes_by(v, before, &o[i]) && (o[i].type == LOG_DATA || o[i].type == LOG_CLEANER))
				ret->gone += o[i].sectors * (uint64_t)SECTOR;
		from = o[k - 1].number + 1;
	}
	return r;
}
