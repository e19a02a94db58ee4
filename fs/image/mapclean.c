/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mapclean.c - the map's side of the cleaner: what is live of an object, and its move to another place.
 *
 * Between the look (which may wait for pages of the tree) and the move (which may not) the map changes. What was found
 * is watched: an extent map of its own from which each change takes away what it hides. So at the move the answer is
 * there without a page, however little memory there is.
 */
#include "config.h"
#include "map-private.h"
#include "rules.h"
#include <string.h>

enum { PIECES_AT_ONCE = 4096 }; /* readers wait for the lock */

void map_watch_begin(struct map *m)
{
	mtx_lock(&m->lock);
	extmap_empty(m->watch);
	m->watch_tree = m->trees;
	m->watch_exact = true;
	mtx_unlock(&m->lock);
}

int map_unwatch_locked(struct map *m, uint64_t lba, uint64_t len)
{
	return RULE(C_NOW) && extmap_count(m->watch) > 0 ? extmap_clear(m->watch, lba, len, NULL, NULL) : 0;
}

/*
 * Whether the leaves of [lba, +len) were settled. One that is not will take off, when it is read, what is hidden of it
 * now: an exact count would lose that twice.
 */
static bool settled_locked(struct map *m, uint64_t lba, uint64_t len)
{
	uint64_t end = lba + len;

	while (lba < end) {
		struct log_pageref need;
		struct mpage *mp;
		struct em_ext p;

		map_resolve_locked(m, LAYER_TREE, lba, end - lba, &p, &need);
		mp = p.kind == EM_NONE ? mpage_find_locked(m, &need) : NULL;
		if (p.kind == EM_NONE && (mp == NULL || !mp->settled))
			return false;
		lba += p.len;
	}
	return true;
}

int map_watch(struct map *m, uint64_t number, const struct log_extent *x, uint64_t *io_off,
	      struct log_pageref *ret_need)
{
	int r = 0;

	mtx_lock(&m->lock);
	while (r == 0 && *io_off < x->len) {
		struct em_ext p;

		map_resolve_locked(m, LAYER_ACTIVE, x->lba + *io_off, x->len - *io_off, &p, ret_need);
		if (p.kind == EM_NONE) {
			r = -EAGAIN;
			break;
		}
		if (p.kind == EM_LOG && p.number == number && p.sector == x->at + *io_off)
			r = extmap_set(m->watch, &p, NULL, NULL);
		m->watch_exact = m->watch_exact && settled_locked(m, p.lba, p.len);
		*io_off += p.len;
	}
	mtx_unlock(&m->lock);
	return r;
}

/*
 * The count is right now and too high at worst from here on: no leaf of this tree will be settled again. If there is
 * another tree by now, its leaves will be.
 */
uint64_t map_watched_all(struct map *m, uint64_t number)
{
	struct mobject *o;
	struct em_ext e;
	uint64_t n = 0;

	mtx_lock(&m->lock);
	for (uint64_t at = 0; extmap_next(m->watch, at, &e); at = e.lba + e.len)
		n += e.number == number ? e.len : 0;
	o = mobject_find_locked(m, number);
	if (o != NULL && m->watch_exact && m->trees == m->watch_tree && n < o->o.live)
		mobject_dead_locked(m, number, o->o.live - n);
	m->watch_exact = true;
	mtx_unlock(&m->lock);
	return n;
}

int map_ancestors(struct map *m, uint64_t last, bool watch, uint64_t max, uint64_t *io_lba, uint64_t *io_n,
		  struct log_pageref *ret_need)
{
	int r = 0;

	mtx_lock(&m->lock);
	for (int i = 0; r == 0 && i < PIECES_AT_ONCE && *io_lba < TREE_END && *io_n < max; i++) {
		struct em_ext p;

		map_resolve_locked(m, LAYER_ACTIVE, *io_lba, TREE_END - *io_lba, &p, ret_need);
		if (p.kind == EM_NONE) {
			r = -EAGAIN;
			break;
		}
		if (p.kind == EM_LOG && p.number <= last) {
			p.len = MIN(p.len, max - *io_n);
			*io_n += p.len;
			if (watch)
				r = extmap_set(m->watch, &p, NULL, NULL);
		}
		*io_lba += p.len;
	}
	mtx_unlock(&m->lock);
	return r;
}

size_t map_watched(struct map *m, uint64_t *io_lba, struct em_ext *out, size_t max)
{
	struct em_ext e;
	size_t n = 0;

	mtx_lock(&m->lock);
	while (n < max && extmap_next(m->watch, *io_lba, &e)) {
		uint64_t lba = MAX(*io_lba, e.lba), len = e.lba + e.len - lba;
		struct log_pageref need;
		struct em_ext p;

		map_resolve_locked(m, LAYER_PENDING, lba, len, &p, &need);
		if (p.kind == EM_LOG || p.kind == EM_NONE) {
			extmap_get(m->watch, lba, p.len, &out[n]);
			p.len = out[n++].len;
		}
		*io_lba = lba + p.len;
	}
	mtx_unlock(&m->lock);
	return n;
}

/* Up to len sectors at lba that come from a place: watched (then how many), or not. */
static bool watched_locked(const struct map *m, uint64_t lba, uint64_t len, const struct log_place *from, uint64_t *ret)
{
	struct em_ext p;

	extmap_get(m->watch, lba, len, &p);
	*ret = p.len;
	return p.kind == EM_LOG && p.number == from->number && p.sector == from->sector;
}

static void add(struct map_moved *to, const struct log_extent *x, uint64_t at)
{
	struct log_extent *last = to->n > 0 ? &to->extents[to->n - 1] : NULL;

	to->data_sectors += x->len;
	if (last != NULL && last->lba + last->len == x->lba && last->from.number == x->from.number &&
	    last->from.sector + last->len == x->from.sector && to->at[to->n - 1] + last->len == at) {
		last->len += x->len;
		return;
	}
	to->at[to->n] = at;
	to->extents[to->n++] = *x;
}

static void list_locked(struct map *m, const struct em_ext *v, size_t n, struct map_moved *to)
{
	uint64_t at = 0;

	for (size_t i = 0; i < n; i++)
		for (uint64_t off = 0, k; off < v[i].len; off += k, at += k) {
			struct log_extent x = {.lba = v[i].lba + off,
					       .kind = EXT_DATA,
					       .from = {v[i].number, v[i].sector + (uint32_t)off}};

			if (watched_locked(m, x.lba, v[i].len - off, &x.from, &k) || !RULE(C_LIST)) {
				x.len = k;
				add(to, &x, at);
			}
		}
}

uint64_t map_movable(struct map *m, const struct em_ext *v, size_t n)
{
	uint64_t sum = 0;

	mtx_lock(&m->lock);
	for (size_t i = 0; i < n; i++)
		for (uint64_t off = 0, k; off < v[i].len; off += k) {
			struct log_place from = {v[i].number, v[i].sector + (uint32_t)off};

			if (watched_locked(m, v[i].lba + off, v[i].len - off, &from, &k))
				sum += k;
		}
	mtx_unlock(&m->lock);
	return sum;
}

/* What the old place loses: where the leaf is not in memory, only if settling it will not count that as well. */
static void leave_locked(struct map *m, uint64_t number, uint64_t lba, uint64_t len)
{
	uint64_t end = lba + len;

	while (lba < end) {
		struct log_pageref need;
		struct mpage *mp = NULL;
		struct em_ext p;

		map_resolve_locked(m, LAYER_ACTIVE, lba, end - lba, &p, &need);
		if (p.kind == EM_NONE)
			mp = mpage_find_locked(m, &need);
		if (p.kind == EM_LOG || (mp != NULL && mp->settled))
			mobject_dead_locked(m, number, p.len);
		lba += p.len;
	}
}

static int move_extent_locked(struct map *m, uint64_t number, const struct log_extent *x)
{
	int r = 0;

	for (uint64_t off = 0, k; off < x->len && r == 0; off += k) {
		struct log_place from = {x->from.number, x->from.sector + (uint32_t)off};
		struct em_ext e = {.lba = x->lba + off, .kind = EM_LOG, .number = number, .sector = x->at + (uint32_t)off};

		if (!watched_locked(m, e.lba, x->len - off, &from, &k))
			continue;
		e.len = k;
		leave_locked(m, from.number, e.lba, e.len);
		r = extmap_clear(m->watch, e.lba, e.len, NULL, NULL);
		if (r == 0)
			r = extmap_set(m->layer[LAYER_ACTIVE], &e, NULL, NULL);
	}
	return r;
}

static int moved_locked(struct map *m, uint64_t number, struct map_moved *v)
{
	struct page_object o = {.number = number,
				.type = LOG_CLEANER,
				.sectors = v->first + (uint32_t)v->data_sectors,
				.live = (uint32_t)v->data_sectors};
	uint32_t at = v->first;
	int r = mobject_add_locked(m, &o);

	m->newest = MAX(m->newest, number);
	for (size_t i = 0; i < v->n && r == 0; i++) {
		v->extents[i].at = at;
		at += (uint32_t)v->extents[i].len;
		r = move_extent_locked(m, number, &v->extents[i]);
	}
	return r;
}

int map_move(struct map *m, uint64_t number, const struct em_ext *v, size_t n,
	     uint32_t (*first)(void *arg, size_t nextents), void *arg, struct map_moved *ret)
{
	struct map_moved to = {0};
	int r = -ENOMEM;

	mtx_lock(&m->lock);
	to.extents = calloc(2 * (n + extmap_count(m->watch)) + 1, sizeof(*to.extents));
	to.at = calloc(2 * (n + extmap_count(m->watch)) + 1, sizeof(*to.at));
	if (to.extents != NULL && to.at != NULL) {
		list_locked(m, v, n, &to);
		r = to.n == 0 ? -ENODATA : 0;
	}
	if (r == 0) {
		to.first = first(arg, to.n);
		r = to.first == 0 ? -ENOMEM : moved_locked(m, number, &to);
	}
	mtx_unlock(&m->lock);
	if (r < 0) {
		free(to.extents);
		free(to.at);
		return r;
	}
	*ret = to;
	return 0;
}

void map_usage(struct map *m, uint64_t *ret_live, uint64_t *ret_stored)
{
	uint64_t live = 0, stored = 0;

	mtx_lock(&m->lock);
	for (size_t i = 0; i < m->nobj; i++)
		if ((m->obj[i].o.type == LOG_DATA || m->obj[i].o.type == LOG_CLEANER) && m->obj[i].o.death == 0) {
			live += m->obj[i].o.live;
			stored += m->obj[i].o.sectors;
		}
	live -= MIN(m->hidden, live);
	mtx_unlock(&m->lock);
	*ret_live = live;
	*ret_stored = stored;
}
