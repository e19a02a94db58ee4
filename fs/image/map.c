/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * map.c - changes of the map (map.h): acknowledged writes, the effects of numbers, the seal of a batch.
 *
 * Two kinds of counts follow each change of the active layer: live sectors of each object, and allocated sectors
 * (st_blocks). Both look at what the new extent hides; what it hides of a leaf that is not in memory is settled when
 * that leaf is read.
 */
#include "config.h"
#include "map-private.h"
#include "rules.h"
#include <string.h>

int map_new(size_t pages, struct map **ret)
{
	struct map *m = calloc(1, sizeof(*m));
	int r = 0;

	if (m == NULL)
		return -ENOMEM;
	mtx_init(&m->lock, RANK_MAP);
	list_init(&m->lru);
	m->page_limit = pages;
	for (int l = 0; l < LAYER_TREE && r == 0; l++)
		r = extmap_new(&m->layer[l]);
	if (r == 0)
		r = extmap_new(&m->watch);
	if (r == 0)
		r = htab_init(&m->pages);
	if (r < 0) {
		extmap_free(m->watch);
		for (int l = 0; l < LAYER_TREE; l++)
			extmap_free(m->layer[l]);
		mtx_destroy(&m->lock);
		free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void map_free(struct map *m)
{
	if (m == NULL)
		return;
	mpages_drop_locked(m);
	htab_done(&m->pages);
	for (int l = 0; l < LAYER_TREE; l++)
		extmap_free(m->layer[l]);
	extmap_free(m->watch);
	while (m->nclosed > 0)
		extmap_free(m->closed[--m->nclosed]);
	free(m->closed);
	free(m->obj);
	mtx_destroy(&m->lock);
	free(m);
}

void map_reset(struct map *m, const struct log_checkpoint *c, uint64_t size)
{
	mtx_lock(&m->lock);
	mpages_drop_locked(m);
	for (int l = 0; l < LAYER_TREE; l++)
		extmap_empty(m->layer[l]);
	extmap_empty(m->watch);
	m->trees++;
	while (m->nclosed > 0)
		extmap_free(m->closed[--m->nclosed]);
	memset(&m->root, 0, sizeof(m->root));
	memset(m->allocated, 0, sizeof(m->allocated));
	if (c != NULL) {
		m->root = c->root;
		m->allocated[LAYER_TREE] = c->allocated;
	}
	m->nobj = 0;
	m->hidden = 0;
	m->newest = 0;
	m->rolled = 0;
	m->is_frozen = false;
	m->size = size;
	mtx_unlock(&m->lock);
}

void map_own_from(struct map *m, uint64_t first)
{
	mtx_lock(&m->lock);
	m->first = first;
	mtx_unlock(&m->lock);
}

static bool is_allocated(enum em_kind k)
{
	return k == EM_LOG || k == EM_ZERO || k == EM_JOURNAL;
}

/* Counts what a change of the active layer in [lba, +len) to a kind that is allocated or not will hide. */
static void hide_locked(struct map *m, uint64_t lba, uint64_t len, bool allocated)
{
	uint64_t end = lba + len;

	while (lba < end) {
		struct log_pageref need;
		struct em_ext p;

		map_resolve_locked(m, LAYER_ACTIVE, lba, end - lba, &p, &need);
		if (p.kind == EM_LOG)
			mobject_dead_locked(m, p.number, p.len);
		if (p.kind == EM_NONE)
			m->hidden += p.len;
		if (p.kind != EM_NONE && is_allocated(p.kind) != allocated)
			m->allocated[LAYER_ACTIVE] += allocated ? p.len : -p.len;
		lba += p.len;
	}
}

static int active_set_locked(struct map *m, const struct em_ext *e)
{
	int r = map_unwatch_locked(m, e->lba, e->len);

	if (r < 0)
		return r;
	hide_locked(m, e->lba, e->len, is_allocated(e->kind));
	return extmap_set(m->layer[LAYER_ACTIVE], e, NULL, NULL);
}

/*
 * A cleaner's sectors: in place only where the map still points to where they came from. Over a leaf that is not in
 * memory the answer waits for it (EM_MOVED); a second move of the same sectors keeps the first one's condition.
 */
static int move_locked(struct map *m, uint64_t number, const struct log_extent *x)
{
	uint64_t off = 0;

	while (off < x->len) {
		struct log_place from = {x->from.number, x->from.sector + (uint32_t)off};
		struct em_ext over, now, e;
		struct log_pageref need;
		bool held;
		int r = 0;

		map_resolve_locked(m, LAYER_ACTIVE, x->lba + off, x->len - off, &now, &need);
		extmap_get(m->layer[LAYER_ACTIVE], x->lba + off, now.len, &over);
		e = (struct em_ext){.lba = x->lba + off,
				    .len = over.len,
				    .kind = EM_LOG,
				    .number = number,
				    .sector = x->at + (uint32_t)off,
				    .from = from};
		held = now.kind == EM_LOG && now.number == from.number && now.sector == from.sector;
		if (now.kind == EM_NONE) {
			e.kind = EM_MOVED;
			held = over.kind == EM_NONE;
			if (over.kind == EM_MOVED && over.number == from.number && over.sector == from.sector) {
				e.from = over.from;
				held = true;
				mobject_dead_locked(m, over.number, over.len);
			}
		}
		held = held || !RULE(C_REPLAY);
		if (held && e.kind == EM_LOG)
			r = active_set_locked(m, &e);
		else if (held)
			r = extmap_set(m->layer[LAYER_ACTIVE], &e, NULL, NULL);
		else
			mobject_dead_locked(m, number, e.len);
		if (r < 0)
			return r;
		off += e.len;
	}
	return 0;
}

static int resize_locked(struct map *m, uint64_t size)
{
	uint64_t end = (size + SECTOR - 1) / SECTOR;
	struct em_ext hole = {.lba = end, .len = IMG_SECTORS_MAX - end, .kind = EM_HOLE};
	bool shrinks = size < m->size;

	m->size = size;
	return shrinks && hole.len > 0 ? active_set_locked(m, &hole) : 0;
}

static int extent_apply_locked(struct map *m, const struct log_effect *e, const struct log_extent *x)
{
	struct em_ext ext = {.lba = x->lba, .len = x->len};

	if (e->type == LOG_CLEANER)
		return move_locked(m, e->number, x);
	ext.kind = x->kind == EXT_DATA ? EM_LOG : x->kind == EXT_ZERO ? EM_ZERO : EM_HOLE;
	ext.number = e->number;
	ext.sector = x->at;
	return active_set_locked(m, &ext);
}

static uint64_t data_of(const struct log_effect *e)
{
	uint64_t n = 0;

	for (size_t i = 0; i < e->n; i++)
		n += e->v[i].kind == EXT_DATA ? e->v[i].len : 0;
	return n;
}

int map_apply(struct map *m, const struct log_effect *e, uint32_t sectors)
{
	uint64_t data = data_of(e);
	struct page_object o = {.number = e->number, .type = e->type, .live = (uint32_t)data};
	int r;

	o.death = data == 0 ? e->number + 2 : 0;
	o.sectors = sectors != 0 ? sectors : (uint32_t)(e->first + data);
	mtx_lock(&m->lock);
	m->newest = MAX(m->newest, e->number);
	r = mobject_add_locked(m, &o);
	if (r == 0 && e->type == LOG_RESIZE)
		r = resize_locked(m, e->size);
	for (size_t i = 0; i < e->n && r == 0; i++)
		r = extent_apply_locked(m, e, &e->v[i]);
	if (r == 0 && e->type == LOG_DATA)
		m->size = e->size; /* a write past the end grew it */
	mtx_unlock(&m->lock);
	return r;
}

int map_note_object(struct map *m, const struct page_object *o)
{
	int r;

	mtx_lock(&m->lock);
	r = mobject_add_locked(m, o);
	mtx_unlock(&m->lock);
	return r;
}

int map_pending(struct map *m, uint64_t lba, uint64_t len, enum em_kind kind, uint64_t where)
{
	struct em_ext e = {.lba = lba, .len = len, .kind = kind, .where = where};
	int r;

	mtx_lock(&m->lock);
	r = extmap_set(m->layer[LAYER_PENDING], &e, NULL, NULL);
	mtx_unlock(&m->lock);
	return r;
}

void map_batch(struct map *m, struct map_batch *ret)
{
	mtx_lock(&m->lock);
	ret->extents = extmap_count(m->layer[LAYER_PENDING]);
	ret->data_sectors = extmap_sectors(m->layer[LAYER_PENDING], EM_JOURNAL);
	ret->closed = m->nclosed;
	mtx_unlock(&m->lock);
}

int map_close_batch(struct map *m)
{
	struct extmap *fresh, **v;
	int r = extmap_new(&fresh);

	if (r < 0)
		return r;
	mtx_lock(&m->lock);
	if (m->nclosed == m->capclosed) {
		v = reallocarray(m->closed, m->capclosed * 2 + 8, sizeof(*v));
		if (v == NULL) {
			mtx_unlock(&m->lock);
			extmap_free(fresh);
			return -ENOMEM;
		}
		m->closed = v;
		m->capclosed = m->capclosed * 2 + 8;
	}
	m->closed[m->nclosed++] = m->layer[LAYER_PENDING];
	m->layer[LAYER_PENDING] = fresh;
	mtx_unlock(&m->lock);
	return 0;
}

/* Neighbours in the image become one extent, wherever the journal has them. */
static void collect(const struct extmap *batch, struct map_sealed *s)
{
	struct em_ext e;
	uint64_t at = 0;

	while (extmap_next(batch, at, &e)) {
		enum ext_kind kind = e.kind == EM_JOURNAL ? EXT_DATA : e.kind == EM_ZERO ? EXT_ZERO : EXT_DISCARD;
		struct log_extent *last = s->n > 0 ? &s->extents[s->n - 1] : NULL;

		if (kind == EXT_DATA) {
			s->pieces[s->npieces++] = (struct map_piece){e.where, e.len};
			s->data_sectors += e.len;
		}
		if (last != NULL && last->kind == kind && last->lba + last->len == e.lba)
			last->len += e.len;
		else
			s->extents[s->n++] = (struct log_extent){.lba = e.lba, .len = e.len, .kind = kind};
		at = e.lba + e.len;
	}
	/* All of the largest image, as a size of 0 leaves it, is more than one entry can say: it is alone then. */
	if (s->n == 1 && s->extents[0].len == IMG_SECTORS_MAX) {
		s->extents[1] = s->extents[0];
		s->extents[0].len = s->extents[1].len = s->extents[1].lba = IMG_SECTORS_MAX / 2;
		s->n = 2;
	}
}

static int assign_locked(struct map *m, uint64_t number, struct map_sealed *s)
{
	struct page_object o = {.number = number,
				.type = LOG_DATA,
				.sectors = s->first + (uint32_t)s->data_sectors,
				.live = (uint32_t)s->data_sectors,
				.death = s->data_sectors == 0 ? number + 2 : 0};
	struct log_effect e = {.number = number, .type = LOG_DATA};
	uint32_t at = s->first;
	int r = mobject_add_locked(m, &o);

	m->newest = MAX(m->newest, number);
	for (size_t i = 0; i < s->n && r == 0; i++) {
		if (s->extents[i].kind == EXT_DATA) {
			s->extents[i].at = at;
			at += (uint32_t)s->extents[i].len;
		}
		r = extent_apply_locked(m, &e, &s->extents[i]);
	}
	return r;
}

int map_seal(struct map *m, uint64_t number, uint32_t (*first)(void *arg, size_t nextents), void *arg,
	     struct map_sealed *ret)
{
	struct map_sealed s = {0};
	struct extmap *batch;
	size_t n;
	int r = -ENOMEM;

	mtx_lock(&m->lock);
	batch = m->nclosed > 0 ? m->closed[0] : m->layer[LAYER_PENDING];
	n = extmap_count(batch);
	s.extents = calloc(n + 1, sizeof(*s.extents));
	s.pieces = calloc(n + 1, sizeof(*s.pieces));
	if (s.extents != NULL && s.pieces != NULL) {
		collect(batch, &s);
		s.first = first(arg, s.n);
		if (s.first != 0)
			r = assign_locked(m, number, &s);
	}
	if (r == 0 && m->nclosed > 0) {
		extmap_free(batch);
		memmove(m->closed, m->closed + 1, --m->nclosed * sizeof(*m->closed));
	} else if (r == 0) {
		extmap_empty(batch);
	}
	mtx_unlock(&m->lock);
	if (r < 0) {
		free(s.extents);
		free(s.pieces);
		return r;
	}
	*ret = s;
	return 0;
}

size_t map_overlay(struct map *m)
{
	size_t n;

	mtx_lock(&m->lock);
	n = extmap_bytes(m->layer[LAYER_ACTIVE]) + extmap_bytes(m->layer[LAYER_FROZEN]);
	mtx_unlock(&m->lock);
	return n;
}

void map_stat(struct map *m, struct map_stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	mtx_lock(&m->lock);
	ret->size = m->size;
	for (size_t i = 0; i < m->nobj; i++) {
		if (m->obj[i].o.type != LOG_DATA && m->obj[i].o.type != LOG_CLEANER)
			continue;
		ret->live += m->obj[i].o.live;
		ret->stored += m->obj[i].o.sectors;
	}
	for (int l = LAYER_ACTIVE; l <= LAYER_TREE; l++)
		ret->allocated += m->allocated[l];
	if (ret->allocated > IMG_SECTORS_MAX) /* over unread leaves the differences are estimates */
		ret->allocated = 0;
	ret->allocated +=
	    extmap_sectors(m->layer[LAYER_PENDING], EM_JOURNAL) + extmap_sectors(m->layer[LAYER_PENDING], EM_ZERO);
	for (size_t i = 0; i < m->nclosed; i++)
		ret->allocated += extmap_sectors(m->closed[i], EM_JOURNAL) + extmap_sectors(m->closed[i], EM_ZERO);
	for (int l = 0; l < LAYER_TREE; l++)
		ret->memory += extmap_bytes(m->layer[l]);
	ret->memory += m->page_bytes + m->capobj * sizeof(*m->obj);
	ret->pages = m->page_bytes;
	ret->overlay = extmap_count(m->layer[LAYER_ACTIVE]) + extmap_count(m->layer[LAYER_FROZEN]);
	ret->frozen = m->is_frozen;
	mtx_unlock(&m->lock);
}
