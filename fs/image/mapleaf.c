/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mapleaf.c - pages of the tree in memory, and what a sector resolves to through all layers.
 *
 * A page is known by its place (number, sector); its bytes never change. Pages are evicted least recently used first,
 * indices like leaves; an evicted leaf leaves a stub behind that remembers that its counts were settled.
 */
#include "config.h"
#include "map-private.h"
#include <string.h>

static uint64_t ref_hash(const struct log_pageref *r)
{
	return hash_u64(r->number * 0x9e3779b97f4a7c15u + r->sector);
}

struct mpage *mpage_find_locked(struct map *m, const struct log_pageref *ref)
{
	for (struct hnode *n = htab_first(&m->pages, ref_hash(ref)); n != NULL; n = htab_next(n)) {
		struct mpage *p = container_of(n, struct mpage, node);

		if (p->ref.number == ref->number && p->ref.sector == ref->sector)
			return p;
	}
	return NULL;
}

static void unload(struct map *m, struct mpage *p)
{
	m->page_bytes -= p->bytes;
	m->loaded -= p->bytes > 0 ? 1 : 0;
	p->bytes = 0;
	page_free(&p->page);
	list_del(&p->lru);
}

static void drop(struct hnode *n, void *arg)
{
	struct map *m = arg;
	struct mpage *p = container_of(n, struct mpage, node);

	unload(m, p);
	htab_del(&m->pages, n);
	free(p);
}

void mpages_drop_locked(struct map *m)
{
	htab_each(&m->pages, drop, m);
}

static size_t page_memory(const struct page *p)
{
	return p->n * (p->level == PAGE_LEAF ? sizeof(struct page_run) : sizeof(struct page_child)) + 256;
}

static void evict_locked(struct map *m)
{
	while (m->page_bytes > m->page_limit && m->loaded > PAGES_MIN)
		unload(m, list_entry(m->lru.prev, struct mpage, lru));
}

/* The last child that starts at or before lba. */
static size_t child_of(const struct page *p, uint64_t lba)
{
	size_t lo = 0, hi = p->n;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->children[mid].first <= lba)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static void from_leaf(const struct page *p, uint64_t lba, uint64_t end, struct em_ext *ret)
{
	size_t lo = 0, hi = p->n; /* the first run that ends behind lba */

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->runs[mid].lba + p->runs[mid].len > lba)
			hi = mid;
		else
			lo = mid + 1;
	}
	*ret = (struct em_ext){.lba = lba, .len = end - lba, .kind = EM_HOLE};
	if (lo == p->n)
		return;
	if (p->runs[lo].lba > lba) {
		ret->len = MIN(ret->len, p->runs[lo].lba - lba);
		return;
	}
	ret->len = MIN(ret->len, p->runs[lo].lba + p->runs[lo].len - lba);
	ret->kind = p->runs[lo].kind == EXT_DATA ? EM_LOG : EM_ZERO;
	ret->number = p->runs[lo].at.number;
	ret->sector = p->runs[lo].at.sector + (uint32_t)(lba - p->runs[lo].lba);
}

/* A tree has a handful of levels; a page that says otherwise did not decode. */
static void from_tree(struct map *m, uint64_t lba, uint64_t len, struct em_ext *ret, struct log_pageref *ret_need)
{
	struct log_pageref ref = m->root;
	uint64_t end = lba + len;

	while (ref.number != 0) {
		struct mpage *mp = mpage_find_locked(m, &ref);
		size_t i;

		if (mp == NULL || mp->bytes == 0) {
			*ret = (struct em_ext){.lba = lba, .len = end - lba, .kind = EM_NONE};
			*ret_need = ref;
			return;
		}
		list_del(&mp->lru);
		list_add_head(&m->lru, &mp->lru);
		if (lba < mp->page.first || lba >= mp->page.end || mp->page.n == 0) {
			end = lba < mp->page.first ? MIN(end, mp->page.first) : end;
			break;
		}
		end = MIN(end, mp->page.end);
		if (mp->page.level == PAGE_LEAF) {
			from_leaf(&mp->page, lba, end, ret);
			return;
		}
		i = child_of(&mp->page, lba);
		if (i + 1 < mp->page.n)
			end = MIN(end, mp->page.children[i + 1].first);
		ref = mp->page.children[i].ref;
	}
	*ret = (struct em_ext){.lba = lba, .len = end - lba, .kind = EM_HOLE};
}

/* What overlays hide of a leaf that nobody had read when they were made. */
static void settle_locked(struct map *m, struct mpage *leaf)
{
	for (size_t i = 0; i < leaf->page.n; i++) {
		const struct page_run *r = &leaf->page.runs[i];
		uint64_t at = r->lba, end = r->lba + r->len;

		while (r->kind == EXT_DATA && at < end) {
			struct em_ext a, f;
			uint64_t n;

			extmap_get(m->layer[LAYER_ACTIVE], at, end - at, &a);
			extmap_get(m->layer[LAYER_FROZEN], at, end - at, &f);
			n = MIN(a.len, f.len);
			if (a.kind != EM_NONE || f.kind != EM_NONE)
				mobject_dead_locked(m, r->at.number, n);
			at += n;
		}
	}
	leaf->settled = true;
	for (uint64_t at = leaf->page.first; at < leaf->page.end;) {
		struct em_ext a, f;
		uint64_t n;

		extmap_get(m->layer[LAYER_ACTIVE], at, leaf->page.end - at, &a);
		extmap_get(m->layer[LAYER_FROZEN], at, leaf->page.end - at, &f);
		n = MIN(a.len, f.len);
		if (a.kind != EM_NONE || f.kind != EM_NONE)
			m->hidden -= MIN(n, m->hidden);
		at += n;
	}
}

/*
 * Whether it is this page that a lookup waits for: somebody else may have brought it, or it is of a tree that was
 * replaced meanwhile and would be counted against a newer one.
 */
static bool missing_locked(struct map *m, const struct log_pageref *ref, uint64_t first)
{
	struct log_pageref need;
	struct em_ext e;

	from_tree(m, first, 1, &e, &need);
	return e.kind == EM_NONE && need.number == ref->number && need.sector == ref->sector;
}

int map_add_page(struct map *m, const struct log_pageref *ref, const void *p, size_t len, struct objerr *err)
{
	struct page page;
	struct mpage *mp;
	int r = page_decode(p, len, ref, &page, err);

	if (r < 0)
		return r;
	mtx_lock(&m->lock);
	mp = mpage_find_locked(m, ref);
	if (!missing_locked(m, ref, page.first)) {
		page_free(&page);
		goto out;
	}
	if (mp == NULL) {
		mp = calloc(1, sizeof(*mp));
		if (mp == NULL) {
			page_free(&page);
			r = -ENOMEM;
			goto out;
		}
		mp->ref = *ref;
		list_init(&mp->lru);
		htab_add(&m->pages, &mp->node, ref_hash(ref));
	}
	mp->page = page;
	mp->bytes = page_memory(&page);
	m->page_bytes += mp->bytes;
	m->loaded++;
	list_add_head(&m->lru, &mp->lru);
	if (page.level == PAGE_LEAF && !mp->settled)
		settle_locked(m, mp);
	evict_locked(m);
out:
	mtx_unlock(&m->lock);
	return r;
}

static bool same_ref(const struct log_pageref *a, const struct log_pageref *b)
{
	return a->number == b->number && a->sector == b->sector;
}

/* The range of a page as whoever refers to it says. */
static bool range_locked(struct map *m, const struct log_pageref *ref, uint64_t *ret_first, uint64_t *ret_end)
{
	if (same_ref(&m->root, ref)) {
		*ret_first = 0;
		*ret_end = TREE_END;
		return true;
	}
	for (struct list *l = m->lru.next; l != &m->lru; l = l->next) {
		const struct page *p = &list_entry(l, struct mpage, lru)->page;

		for (size_t i = 0; p->level != PAGE_LEAF && i < p->n; i++)
			if (same_ref(&p->children[i].ref, ref)) {
				*ret_first = p->children[i].first;
				*ret_end = i + 1 < p->n ? p->children[i + 1].first : p->end;
				return true;
			}
	}
	return false;
}

int map_lose_page(struct map *m, const struct log_pageref *ref, uint64_t *ret_first, uint64_t *ret_end)
{
	uint64_t first, end;
	struct mpage *mp;
	int r = 0;

	mtx_lock(&m->lock);
	mp = mpage_find_locked(m, ref);
	if (!range_locked(m, ref, &first, &end)) {
		r = -EUCLEAN;
	} else if (mp == NULL) {
		mp = calloc(1, sizeof(*mp));
		r = mp == NULL ? -ENOMEM : 0;
		if (r == 0) {
			mp->ref = *ref;
			list_init(&mp->lru);
			htab_add(&m->pages, &mp->node, ref_hash(ref));
		}
	}
	if (r == 0 && mp->bytes == 0) {
		mp->page = (struct page){.level = PAGE_LEAF, .first = first, .end = end};
		mp->bytes = page_memory(&mp->page);
		m->page_bytes += mp->bytes;
		m->loaded++;
		list_add_head(&m->lru, &mp->lru);
		if (!mp->settled)
			settle_locked(m, mp);
		evict_locked(m);
	}
	mtx_unlock(&m->lock);
	if (r < 0)
		return r;
	*ret_first = first;
	*ret_end = end;
	return 0;
}

void map_resolve_locked(struct map *m, enum map_layer top, uint64_t lba, uint64_t len, struct em_ext *ret,
			struct log_pageref *ret_need)
{
	struct em_ext e, below;

	for (enum map_layer l = top; l < LAYER_TREE; l++) {
		extmap_get(m->layer[l], lba, len, &e);
		len = e.len;
		for (size_t i = m->nclosed; l == LAYER_PENDING && e.kind == EM_NONE && i-- > 0; len = e.len)
			extmap_get(m->closed[i], lba, len, &e);
		if (e.kind == EM_NONE)
			continue;
		if (e.kind == EM_MOVED) {
			map_resolve_locked(m, l + 1, lba, len, &below, ret_need);
			e.len = below.len;
			if (below.kind == EM_NONE)
				e.kind = EM_NONE;
			else if (below.kind == EM_LOG && below.number == e.from.number && below.sector == e.from.sector)
				e.kind = EM_LOG;
			else
				e = below;
		}
		*ret = e;
		return;
	}
	from_tree(m, lba, len, ret, ret_need);
}

int map_lookup(struct map *m, uint64_t lba, uint64_t len, bool assigned, struct em_ext *out, int max,
	       struct log_pageref *ret_need)
{
	int n = 0;

	mtx_lock(&m->lock);
	while (n < max && len > 0) {
		map_resolve_locked(m, assigned ? LAYER_ACTIVE : LAYER_PENDING, lba, len, &out[n], ret_need);
		if (out[n].kind == EM_NONE) {
			n = n > 0 ? n : -EAGAIN;
			break;
		}
		lba += out[n].len;
		len -= out[n].len;
		n++;
	}
	mtx_unlock(&m->lock);
	return n;
}
