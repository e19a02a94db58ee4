/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * listing.c - the pages of listings that are young enough to prove something, kept in memory only.
 *
 * Invariant, for each page (from, to] of a directory: the rows of the database in that range are exactly the keys that
 * the store had when the page was asked for, as changed by what this node has done or learnt since. So a missing row
 * below a young page means -ENOENT, and a row below it needs no HEAD to be believed in.
 *
 * Consequences
 *  - pages of one directory are disjoint; a new one cuts older ones back, and never cuts into a younger one;
 *  - a local change edits rows and leaves pages alone;
 *  - when rows may have been lost (the database was rebuilt), all pages go;
 *  - pages may be dropped at any time: that costs a LIST.
 */
#include "config.h"
#include "listing.h"

#include "tree-private.h"

#include <string.h>

/* About 200 bytes each. */
#define MAX_PAGES 65536
#define MAX_DIRS 16384

static void page_done_locked(struct tree *t, struct page *p)
{
	t->hidden -= p->hidden;
	t->npages--;
	free(p->from);
	free(p->to);
}

void pages_drop_locked(struct tree *t, struct dirstate *ds)
{
	for (size_t i = 0; i < ds->n; i++)
		page_done_locked(t, &ds->v[i]);
	ds->n = 0;
}

void dirstate_drop_locked(struct tree *t, struct dirstate *ds)
{
	pages_drop_locked(t, ds);
	htab_del(&t->dirs, &ds->node);
	list_del(&ds->lru);
	free(ds->v);
	free(ds->dir);
	free(ds->win_mid);
	free(ds->win_end);
	free(ds->absent);
	free(ds);
}

struct dirstate *dirstate_find_locked(struct tree *t, const char *dir)
{
	uint64_t hash = hash_bytes(dir, strlen(dir), t->hash_seed);

	for (struct hnode *n = htab_first(&t->dirs, hash); n; n = htab_next(n)) {
		struct dirstate *ds = container_of(n, struct dirstate, node);

		if (!strcmp(ds->dir, dir))
			return ds;
	}
	return NULL;
}

struct dirstate *dirstate_get_locked(struct tree *t, const char *dir)
{
	struct dirstate *ds = dirstate_find_locked(t, dir);

	if (!ds) {
		ds = calloc(1, sizeof(*ds));
		if (!ds)
			return NULL;
		ds->dir = strdup(dir);
		if (!ds->dir) {
			free(ds);
			return NULL;
		}
		htab_add(&t->dirs, &ds->node, hash_bytes(dir, strlen(dir), t->hash_seed));
		list_init(&ds->lru);
	}
	list_del(&ds->lru);
	list_add_head(&t->dir_lru, &ds->lru);
	while (t->dirs.n > 1 && (t->dirs.n > MAX_DIRS || t->npages > MAX_PAGES))
		dirstate_drop_locked(t, list_entry(t->dir_lru.prev, struct dirstate, lru));
	return ds;
}

void dirstate_drop_below_locked(struct tree *t, const char *dir)
{
	size_t n = strlen(dir);

	list_for_each_safe(it, tmp, &t->dir_lru) {
		struct dirstate *ds = list_entry(it, struct dirstate, lru);

		if (!strncmp(ds->dir, dir, n))
			dirstate_drop_locked(t, ds);
	}
}

/* First page whose end is not below the point: the only one that can cover it. */
static size_t page_index(const struct dirstate *ds, const char *point)
{
	size_t lo = 0, hi = ds->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (ds->v[mid].to && strcmp(ds->v[mid].to, point) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct page *page_find(struct dirstate *ds, const char *point)
{
	size_t i = page_index(ds, point);

	return i < ds->n && strcmp(ds->v[i].from, point) < 0 ? &ds->v[i] : NULL;
}

struct page *page_behind(struct dirstate *ds, const char *pos)
{
	size_t i = page_index(ds, pos);

	if (i < ds->n && ds->v[i].to && !strcmp(ds->v[i].to, pos))
		i++;
	return i < ds->n && strcmp(ds->v[i].from, pos) <= 0 ? &ds->v[i] : NULL;
}

static void page_remove_locked(struct tree *t, struct dirstate *ds, size_t i)
{
	page_done_locked(t, &ds->v[i]);
	memmove(&ds->v[i], &ds->v[i + 1], (ds->n - i - 1) * sizeof(*ds->v));
	ds->n--;
}

void page_doubt_locked(struct tree *t, struct dirstate *ds, const char *point)
{
	struct page *p = page_find(ds, point);

	if (p)
		page_remove_locked(t, ds, (size_t)(p - ds->v));
}

static bool overlaps(const struct page *p, const char *from, const char *to)
{
	return (!to || strcmp(p->from, to) < 0) && (!p->to || strcmp(from, p->to) < 0);
}

/* Cuts (from, to] out of the pages there. One that would fall into two loses its upper part: simpler, and only dearer. */
static int make_room_locked(struct tree *t, struct dirstate *ds, const char *from, const char *to)
{
	for (size_t i = 0; i < ds->n;) {
		struct page *p = &ds->v[i];

		if (!overlaps(p, from, to)) {
			i++;
		} else if (strcmp(p->from, from) < 0) {
			char *s = strdup(from);

			if (!s)
				return -ENOMEM;
			free(p->to);
			p->to = s;
			i++;
		} else if (to && (!p->to || strcmp(to, p->to) < 0)) {
			char *s = strdup(to);

			if (!s)
				return -ENOMEM;
			free(p->from);
			p->from = s;
			i++;
		} else {
			page_remove_locked(t, ds, i);
		}
	}
	return 0;
}

int page_cover_locked(struct tree *t, struct dirstate *ds, const char *from, const char *to, int64_t asked_ns,
		      uint64_t seq, uint64_t hidden)
{
	struct page p = {.asked_ns = asked_ns, .seq = seq, .hidden = hidden};
	size_t i = 0;
	int r;

	for (size_t k = 0; k < ds->n; k++)
		if (ds->v[k].seq > seq && overlaps(&ds->v[k], from, to))
			return -EALREADY;
	r = make_room_locked(t, ds, from, to);
	if (r < 0)
		return r;
	if (ds->n == ds->cap) {
		struct page *v = reallocarray(ds->v, ds->cap ? ds->cap * 2 : 4, sizeof(*v));

		if (!v)
			return -ENOMEM;
		ds->v = v;
		ds->cap = ds->cap ? ds->cap * 2 : 4;
	}
	p.from = strdup(from);
	p.to = to ? strdup(to) : NULL;
	if (!p.from || (to && !p.to)) {
		free(p.from);
		free(p.to);
		return -ENOMEM;
	}
	while (i < ds->n && strcmp(ds->v[i].from, from) < 0)
		i++;
	memmove(&ds->v[i + 1], &ds->v[i], (ds->n - i) * sizeof(*ds->v));
	ds->v[i] = p;
	ds->n++;
	t->npages++;
	t->hidden += hidden;
	return 0;
}
