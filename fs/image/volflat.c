/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volflat.c - a clone that needs its parent no more (PROTOCOL.md 3).
 *
 *	begin	refused while a snapshot of the clone still reads from ancestors: the reference is that snapshot's, too
 *	some	the cleaner's objects take over what the map has of ancestors (volclean.c). A guest may write meanwhile
 *	end	nothing is left, all of it is in the log -> a new tree, so that neither pages nor digests of ancestors are
 *		needed -> two checkpoints that name it, both marked: whoever attaches begins with one of them -> once more: no
 *		snapshot that was made meanwhile needs them -> the key `flat` -> the reference goes
 *
 * Why `flat` may be put late, or again, by whoever lost the image since: it is said of a log that only grows. From the older of
 * the two marks on no state refers to an ancestor, and none that comes later can: cleaners move only what the map has, and a roll
 * back goes to a snapshot that was looked at, or one that is younger. A crash before the key costs nothing but the copies, which
 * the next attempt finds made.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/failpoint.h"
#include <stdio.h>
#include <string.h>

enum { TREE_TRIES = 3 };

static void say_why(struct volume *v, struct objerr *err)
{
	mtx_lock(&v->lock);
	if (v->why[0] != '\0')
		objerr_set(err, "%s", v->why);
	mtx_unlock(&v->lock);
}

/* Sectors of the map that are ancestors', at most max. */
static int count(struct volume *v, uint64_t max, uint64_t *ret)
{
	uint64_t lba = 0, n = 0, last = log_first(v->log) - 1;
	struct log_pageref need;
	int r = 0;

	while (r == 0 && lba < IMG_SECTORS_MAX && n < max) {
		r = map_ancestors(v->map, last, false, max, &lba, &n, &need);
		if (r == -EAGAIN)
			r = vol_fetch_page(v, &need);
	}
	if (r == 0)
		*ret = n;
	return r;
}

/* ---- snapshots of the clone ---- */

/* Of a volume that is one: data, pages, digests. */
static int reads_ancestors(struct volume *s, bool *ret)
{
	uint64_t last = log_first(s->log) - 1, n = 0;
	bool any = (s->ck.root.number != 0 && s->ck.root.number <= last) ||
		   (s->ck.objects.number != 0 && s->ck.objects.number <= last);
	int r = 0;

	for (size_t i = 0; i < s->ck.ndigests; i++)
		any = any || s->ck.digests[i] <= last;
	if (!any)
		r = count(s, 1, &n);
	*ret = any || n > 0;
	return r;
}

static int look_at_snapshot(struct volume *v, const struct vol_snap *s, struct objerr *err)
{
	struct volume *at;
	bool reads = false;
	int r = vol_open_snapshot(v, s->number, &at, err);

	if (r < 0)
		return r;
	r = reads_ancestors(at, &reads);
	if (r < 0)
		say_why(at, err);
	ignore(vol_close(at)); /* nothing was written */
	if (r < 0 || !reads)
		return r;
	if (s->hidden)
		objerr_set(err, "a deleted snapshot of it, which a clone of it uses, still reads from its parent: delete or "
				"flatten that clone first");
	else
		objerr_set(err, "its snapshot '%s' still reads from its parent: delete that first", s->name);
	return -EBUSY;
}

/* Those that come later have a tree that is younger. */
static int look_at_snapshots(struct volume *v, struct objerr *err)
{
	struct vol_snap *s = NULL;
	size_t n = 0;
	int r = vol_free_hidden(v, err);

	if (r == 0)
		r = vol_snapshots(v, &s, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = look_at_snapshot(v, &s[i], err);
	free(s);
	return r;
}

/* ---- steps ---- */

static int own(struct volume *v, struct objerr *err)
{
	int r = vol_own(v);

	if (r < 0)
		say_why(v, err);
	return r;
}

int vol_flatten_begin(struct volume *v, uint64_t *ret_bytes, struct objerr *err)
{
	bool flat = false, ref = false;
	uint64_t n = 0;
	int r = own(v, err);

	if (r == 0)
		r = log_is_flat(v->log, &flat, err);
	if (r == 0)
		r = log_has_own_ref(v->log, &ref, err);
	if (r == 0 && !ref && (flat || log_first(v->log) == 1)) {
		objerr_set(err, flat ? "it was flattened: it reads from no other image" : "it is no clone");
		r = -ENODATA;
	}
	if (r == 0 && !flat)
		r = look_at_snapshots(v, err);
	if (r == 0 && !flat)
		r = count(v, UINT64_MAX, &n);
	if (r == -EIO)
		say_why(v, err);
	if (r == 0)
		*ret_bytes = n * SECTOR;
	return r;
}

int vol_flatten_some(struct volume *v, uint64_t max, uint64_t *io_at, uint64_t *ret_copied, struct objerr *err)
{
	uint64_t lba = *io_at / SECTOR;
	int r = own(v, err);

	if (r == 0)
		r = vol_move_ancestors(v, max, &lba, ret_copied, err);
	if (r == -EIO)
		say_why(v, err);
	if (r == 0)
		*io_at = lba < IMG_SECTORS_MAX ? lba * SECTOR : VOL_FLAT_ALL;
	return r;
}

/* What was pending is in the log: it hides what the copies left to it. */
static int rest(struct volume *v, struct objerr *err)
{
	uint64_t n = 1, moved;
	int r = 0;

	while (r == 0 && n > 0) {
		r = vol_drain(v);
		if (r == 0)
			r = count(v, 1, &n);
		if (r == 0 && n > 0) {
			uint64_t lba = 0;

			r = vol_move_ancestors(v, UINT64_MAX, &lba, &moved, err);
		}
	}
	return r;
}

static bool runs_locked(const struct volume *v)
{
	return v->up && !v->up_stop;
}

/* One that is begun from here on. -EAGAIN: it could not be written. */
static int new_tree_locked(struct volume *v) REQUIRES(v->batch)
{
	uint64_t covers;

	while (v->tree == TREE_FROZEN && runs_locked(v)) /* too old */
		cond_wait(&v->work, &v->batch);
	covers = v->ck.tree_covers;
	v->tree = runs_locked(v) ? TREE_WANTED : v->tree;
	v->checkpoint_soon = true;
	cond_broadcast(&v->work);
	while (v->tree != TREE_NONE && runs_locked(v))
		cond_wait(&v->work, &v->batch);
	return !runs_locked(v) ? -EIO : v->ck.tree_covers > covers ? 0 : -EAGAIN;
}

/* Until the mark before the newest is behind `number`. */
static int two_marks_locked(struct volume *v, uint64_t number) REQUIRES(v->batch)
{
	while (v->before.number <= number && runs_locked(v)) {
		if (v->mark_wanted == 0 && !v->checkpoint_soon) {
			v->checkpoint_soon = true;
			cond_broadcast(&v->work);
		}
		cond_wait(&v->work, &v->batch);
	}
	return runs_locked(v) ? 0 : -EIO;
}

static int new_checkpoints(struct volume *v, struct objerr *err)
{
	uint64_t first;
	int r = -EAGAIN;

	mtx_lock(&v->batch);
	for (int i = 0; i < TREE_TRIES && r == -EAGAIN; i++)
		r = new_tree_locked(v);
	if (r == 0)
		r = two_marks_locked(v, v->sealed);
	first = v->before.number;
	mtx_unlock(&v->batch);
	/* States of before need ancestors: no position of them is offered from here on. */
	if (r == 0)
		r = vol_give_up_positions(v, first);
	if (r == -EAGAIN) {
		objerr_set(err, "its map could not be written: once more, please; what was copied is copied");
		r = -EIO;
	}
	return r;
}

int vol_flatten_end(struct volume *v, struct objerr *err)
{
	bool flat = false;
	int r = own(v, err);

	if (r == 0)
		r = log_is_flat(v->log, &flat, err);
	if (r == 0 && !flat) {
		r = rest(v, err);
		if (r == 0)
			r = new_checkpoints(v, err);
		FAILPOINT("image.flatten-marked");
		if (r == 0)
			r = look_at_snapshots(v, err);
		if (r == 0) {
			vol_wait_readers(v);
			r = log_put_flat(v->log, err);
		}
		FAILPOINT("image.flatten-said");
	}
	if (r == 0)
		r = log_drop_own_ref(v->log, err);
	FAILPOINT("image.flatten-cut");
	if (r == -EIO && err->msg[0] == '\0')
		say_why(v, err);
	return r;
}
