/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mapwalk.c - the object table, and the map as one sorted sequence of runs for a new tree.
 *
 * A walk sees frozen and the old tree, nothing newer, and counts exactly how many sectors of each object it passes.
 * Numbers given after the freeze are not in it: their counts go on as they are.
 */
#include "config.h"
#include "map-private.h"
#include <string.h>

/* ---- objects ---- */

static size_t object_index(const struct map *m, uint64_t number)
{
	size_t lo = 0, hi = m->nobj;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->obj[mid].o.number >= number)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

struct mobject *mobject_find_locked(struct map *m, uint64_t number)
{
	size_t i = object_index(m, number);

	return i < m->nobj && m->obj[i].o.number == number ? &m->obj[i] : NULL;
}

int mobject_add_locked(struct map *m, const struct page_object *o)
{
	size_t i = object_index(m, o->number);

	if (o->number < m->first)
		return 0;
	if (i < m->nobj && m->obj[i].o.number == o->number) {
		m->obj[i].o = *o;
		return 0;
	}
	if (m->nobj == m->capobj) {
		size_t cap = m->capobj * 2 + 64;
		struct mobject *v = reallocarray(m->obj, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		m->obj = v;
		m->capobj = cap;
	}
	memmove(m->obj + i + 1, m->obj + i, (m->nobj - i) * sizeof(*m->obj));
	m->obj[i] = (struct mobject){.o = *o};
	m->nobj++;
	return 0;
}

void mobject_dead_locked(struct map *m, uint64_t number, uint64_t sectors)
{
	struct mobject *o = mobject_find_locked(m, number);

	if (o == NULL) /* an ancestor's objects are not in the table */
		return;
	o->o.live -= (uint32_t)MIN(sectors, (uint64_t)o->o.live);
	/* The map of a checkpoint behind the last effect does not need it; nor will any later one. */
	if (o->o.live == 0 && o->o.death == 0)
		o->o.death = m->newest + 2;
}

size_t map_objects(struct map *m, uint64_t from, struct page_object *out, size_t max)
{
	size_t n = 0;

	mtx_lock(&m->lock);
	for (size_t i = object_index(m, from); i < m->nobj && n < max; i++)
		out[n++] = m->obj[i].o;
	mtx_unlock(&m->lock);
	return n;
}

static void not_before(struct page_object *o, uint64_t death)
{
	if (o->death != 0 && o->death < death)
		o->death = death;
}

void map_rolled_back(struct map *m, uint64_t number)
{
	mtx_lock(&m->lock);
	m->rolled = number + 1;
	for (size_t i = 0; i < m->nobj; i++)
		not_before(&m->obj[i].o, m->rolled);
	mtx_unlock(&m->lock);
}

int map_note_table(struct map *m, const struct page_object *v, size_t n)
{
	struct mobject *to;
	size_t at, old = 0;
	int r = 0;

	mtx_lock(&m->lock);
	to = calloc(m->nobj + n + 64, sizeof(*to));
	if (to == NULL) {
		r = -ENOMEM;
		goto out;
	}
	at = 0;
	for (size_t i = 0; i < n; i++) {
		if (v[i].number < m->first)
			continue;
		while (old < m->nobj && m->obj[old].o.number < v[i].number)
			to[at++] = m->obj[old++];
		if (old == m->nobj || m->obj[old].o.number != v[i].number) {
			to[at] = (struct mobject){.o = v[i]};
			not_before(&to[at++].o, m->rolled);
		}
	}
	while (old < m->nobj)
		to[at++] = m->obj[old++];
	m->capobj = m->nobj + n + 64;
	m->nobj = at;
	free(m->obj);
	m->obj = to;
out:
	mtx_unlock(&m->lock);
	return r;
}

void map_retire_pages(struct map *m, uint64_t below, uint64_t death)
{
	mtx_lock(&m->lock);
	for (size_t i = 0; i < m->nobj && m->obj[i].o.number < below; i++)
		if (m->obj[i].o.type == LOG_MAP && m->obj[i].o.death == 0)
			m->obj[i].o.death = death;
	mtx_unlock(&m->lock);
}

size_t map_dead(struct map *m, uint64_t from, uint64_t p, struct page_object *out, size_t max)
{
	size_t n = 0;

	mtx_lock(&m->lock);
	for (size_t i = object_index(m, from); i < m->nobj && n < max && m->obj[i].o.number < p; i++)
		if (m->obj[i].o.death != 0)
			out[n++] = m->obj[i].o;
	mtx_unlock(&m->lock);
	return n;
}

bool map_object(struct map *m, uint64_t number, struct page_object *ret)
{
	struct mobject *o;

	mtx_lock(&m->lock);
	o = mobject_find_locked(m, number);
	if (o != NULL)
		*ret = o->o;
	mtx_unlock(&m->lock);
	return o != NULL;
}

void map_set_death(struct map *m, uint64_t number, uint64_t death)
{
	struct mobject *o;

	mtx_lock(&m->lock);
	o = mobject_find_locked(m, number);
	if (o != NULL)
		o->o.death = death;
	mtx_unlock(&m->lock);
}

void map_forget_object(struct map *m, uint64_t number)
{
	struct mobject *o;

	mtx_lock(&m->lock);
	o = mobject_find_locked(m, number);
	if (o != NULL) {
		size_t i = (size_t)(o - m->obj);

		m->nobj--;
		memmove(m->obj + i, m->obj + i + 1, (m->nobj - i) * sizeof(*m->obj));
	}
	mtx_unlock(&m->lock);
}

/* ---- a new tree ---- */

int map_freeze(struct map *m, uint64_t covers)
{
	int r = -EBUSY;

	mtx_lock(&m->lock);
	if (!m->is_frozen) {
		struct extmap *empty = m->layer[LAYER_FROZEN];

		m->layer[LAYER_FROZEN] = m->layer[LAYER_ACTIVE];
		m->layer[LAYER_ACTIVE] = empty;
		m->allocated[LAYER_FROZEN] = m->allocated[LAYER_ACTIVE];
		m->allocated[LAYER_ACTIVE] = 0;
		m->is_frozen = true;
		m->covers = covers;
		m->walked_allocated = 0;
		for (size_t i = 0; i < m->nobj; i++)
			m->obj[i].walked = 0;
		r = 0;
	}
	mtx_unlock(&m->lock);
	return r;
}

static void count_locked(struct map *m, const struct page_run *run)
{
	struct mobject *o = run->kind == EXT_DATA ? mobject_find_locked(m, run->at.number) : NULL;

	m->walked_allocated += run->len;
	if (o != NULL)
		o->walked += (uint32_t)run->len;
}

int map_walk(struct map *m, uint64_t *io_lba, struct page_run *out, int max, struct log_pageref *ret_need)
{
	int n = 0, r = 0;

	mtx_lock(&m->lock);
	while (n < max && *io_lba < TREE_END) {
		struct page_run run = {.lba = *io_lba};
		struct em_ext p;

		map_resolve_locked(m, LAYER_FROZEN, run.lba, TREE_END - run.lba, &p, ret_need);
		if (p.kind == EM_NONE) {
			r = -EAGAIN;
			break;
		}
		*io_lba += p.len;
		if (p.kind == EM_HOLE)
			continue;
		run.len = p.len;
		run.kind = p.kind == EM_LOG ? EXT_DATA : EXT_ZERO;
		if (p.kind == EM_LOG)
			run.at = (struct log_place){p.number, p.sector};
		count_locked(m, &run);
		if (n > 0 && out[n - 1].kind == run.kind && out[n - 1].lba + out[n - 1].len == run.lba &&
		    (run.kind == EXT_ZERO ||
		     (out[n - 1].at.number == run.at.number && out[n - 1].at.sector + out[n - 1].len == run.at.sector)))
			out[n - 1].len += run.len;
		else
			out[n++] = run;
	}
	mtx_unlock(&m->lock);
	return n > 0 ? n : r;
}

/* What the walk counted is so. An object that it did not meet is in the map of nothing from `covers` on. */
static void walked_locked(struct map *m, struct mobject *o)
{
	if (o->o.number >= m->covers || (o->o.type != LOG_DATA && o->o.type != LOG_CLEANER))
		return;
	o->o.live = o->walked;
	if (o->o.live == 0 && o->o.death == 0)
		o->o.death = m->covers + 1;
}

uint32_t map_walked_live(struct map *m, uint64_t number)
{
	struct mobject *o;
	uint32_t n;

	mtx_lock(&m->lock);
	o = mobject_find_locked(m, number);
	n = o == NULL ? 0 : number < m->covers ? o->walked : o->o.live;
	mtx_unlock(&m->lock);
	return n;
}

size_t map_walked_objects(struct map *m, uint64_t from, struct page_object *out, size_t max)
{
	size_t n = 0;

	mtx_lock(&m->lock);
	for (size_t i = object_index(m, from); i < m->nobj && n < max; i++) {
		struct mobject o = m->obj[i];

		walked_locked(m, &o);
		out[n++] = o.o;
	}
	mtx_unlock(&m->lock);
	return n;
}

uint64_t map_walked_allocated(struct map *m)
{
	uint64_t n;

	mtx_lock(&m->lock);
	n = m->walked_allocated;
	mtx_unlock(&m->lock);
	return n;
}

/* Failed: what was frozen lies under what came since. */
static int give_back_locked(struct map *m)
{
	struct extmap *active = m->layer[LAYER_ACTIVE];
	struct em_ext e;
	int r = 0;

	for (uint64_t at = 0; r == 0 && extmap_next(active, at, &e); at = e.lba + e.len) {
		struct em_ext piece = e;

		/* A move keeps its condition: what it looks at lies below frozen now, so decide here. */
		for (uint64_t lba = e.lba; r == 0 && lba < e.lba + e.len; lba = piece.lba + piece.len) {
			struct log_pageref need;
			struct em_ext in;

			extmap_get(m->layer[LAYER_FROZEN], lba, e.lba + e.len - lba, &in);
			extmap_get(active, lba, in.len, &piece);
			if (piece.kind == EM_MOVED && in.kind != EM_NONE) {
				map_resolve_locked(m, LAYER_ACTIVE, lba, piece.len, &piece, &need);
				if (piece.kind == EM_NONE) { /* a move of a move: one condition is left */
					extmap_get(active, lba, piece.len, &piece);
					piece.from = in.from;
				}
			}
			r = extmap_set(m->layer[LAYER_FROZEN], &piece, NULL, NULL);
		}
	}
	if (r < 0)
		return r;
	extmap_empty(active);
	m->layer[LAYER_ACTIVE] = m->layer[LAYER_FROZEN];
	m->layer[LAYER_FROZEN] = active;
	m->allocated[LAYER_ACTIVE] += m->allocated[LAYER_FROZEN];
	return 0;
}

/* No leaf of the new tree was read. */
static void hidden_locked(struct map *m)
{
	struct em_ext e;

	m->hidden = 0;
	for (uint64_t at = 0; extmap_next(m->layer[LAYER_ACTIVE], at, &e); at = e.lba + e.len)
		m->hidden += e.len;
}

int map_thaw(struct map *m, const struct log_pageref *root)
{
	int r = 0;

	mtx_lock(&m->lock);
	assert(m->is_frozen);
	if (root == NULL) {
		r = give_back_locked(m);
	} else {
		extmap_empty(m->layer[LAYER_FROZEN]);
		mpages_drop_locked(m);
		m->trees++;
		m->root = *root;
		m->allocated[LAYER_TREE] = m->walked_allocated;
		for (size_t i = 0; i < m->nobj; i++)
			walked_locked(m, &m->obj[i]);
		hidden_locked(m);
	}
	m->allocated[LAYER_FROZEN] = 0;
	m->is_frozen = false;
	mtx_unlock(&m->lock);
	return r;
}
