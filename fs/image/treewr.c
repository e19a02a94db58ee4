/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * treewr.c - see treewr.h.
 *
 * Every level keeps more entries than one page can hold (an entry has at least three bytes, so that CAP never fit),
 * and writes a page when it has CAP: then the first entry that did not fit says where the page ends.
 */
#include "config.h"
#include "treewr.h"
#include "../../objstore/base/crc32c.h"
#include <string.h>

enum { CAP = LOG_GROUP / 3 + 1, INDICES = PAGE_INDEX_MAX };

struct treewr {
	treewr_put put;
	int (*resolve)(void *arg, struct log_pageref *ref);
	void *arg;
	size_t most; /* entries of a page */
	uint8_t leaf;
	uint64_t first, end; /* where the next leaf starts; of everything */
	size_t n;
	struct page_run *runs;
	struct page_object *objects;
	struct {
		size_t n;
		bool wrote; /* a page of this level went out */
		struct page_child *v;
	} index[INDICES];
	uint8_t buf[LOG_GROUP];
};

int treewr_new(uint8_t level, treewr_put put, void *arg, struct treewr **ret)
{
	struct treewr *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return -ENOMEM;
	w->put = put;
	w->arg = arg;
	w->leaf = level;
	w->most = CAP - 1;
	w->end = level == PAGE_LEAF ? IMG_SECTORS_MAX : UINT64_MAX;
	w->runs = level == PAGE_LEAF ? malloc(CAP * sizeof(*w->runs)) : NULL;
	w->objects = level == PAGE_LEAF ? NULL : malloc(CAP * sizeof(*w->objects));
	if (w->runs == NULL && w->objects == NULL) {
		free(w);
		return -ENOMEM;
	}
	*ret = w;
	return 0;
}

void treewr_free(struct treewr *w)
{
	if (w == NULL)
		return;
	for (int i = 0; i < INDICES; i++)
		free(w->index[i].v);
	free(w->runs);
	free(w->objects);
	free(w);
}

void treewr_resolve(struct treewr *w, int (*resolve)(void *arg, struct log_pageref *ref))
{
	w->resolve = resolve;
}

void treewr_fanout(struct treewr *w, size_t entries)
{
	w->most = MIN((size_t)CAP - 1, MAX(entries, (size_t)2));
}

static uint8_t level_of(const struct treewr *w, int i)
{
	return w->leaf == PAGE_OBJTABLE ? (uint8_t)PAGE_OBJINDEX : (uint8_t)(i + 1);
}

/*
 * Writes one page of p, which has all entries that there are; ret_n of them went into it. next: the first one that may
 * not.
 */
static int page_out(struct treewr *w, struct page *p, uint64_t next, struct page_child *ret, size_t *ret_n)
{
	size_t len;
	int r;

	if (p->n > w->most) {
		p->n = w->most;
		p->end = next;
	}
	r = page_encode(p, w->buf, &len, ret_n);
	if (r < 0)
		return r;
	ret->first = p->first;
	ret->ref = (struct log_pageref){.bytes = (uint32_t)len, .crc = crc32c(0, w->buf, len), .level = p->level};
	return w->put(w->arg, w->buf, len, &ret->ref);
}

static int index_add(struct treewr *w, int i, const struct page_child *k);

static int index_flush(struct treewr *w, int i)
{
	struct page p = {.level = level_of(w, i),
			 .first = w->index[i].v[0].first,
			 .end = w->end,
			 .n = w->index[i].n,
			 .children = w->index[i].v};
	struct page_child k;
	size_t n = MIN(w->most, p.n - 1);
	int r = 0;

	for (size_t j = 0; j <= n && r == 0 && w->resolve != NULL; j++)
		r = w->resolve(w->arg, &w->index[i].v[j].ref);
	if (r == 0)
		r = page_out(w, &p, w->index[i].v[n].first, &k, &n);
	if (r < 0)
		return r;
	w->index[i].wrote = true;
	w->index[i].n -= n;
	memmove(w->index[i].v, w->index[i].v + n, w->index[i].n * sizeof(k));
	return index_add(w, i + 1, &k);
}

static int index_add(struct treewr *w, int i, const struct page_child *k)
{
	if (i == INDICES)
		return -EFBIG;
	if (w->index[i].v == NULL) {
		w->index[i].v = malloc(CAP * sizeof(*k));
		if (w->index[i].v == NULL)
			return -ENOMEM;
	}
	w->index[i].v[w->index[i].n++] = *k;
	return w->index[i].n > w->most ? index_flush(w, i) : 0;
}

static int leaf_flush(struct treewr *w)
{
	struct page p = {
	    .level = w->leaf, .first = w->first, .end = w->end, .n = w->n, .runs = w->runs, .objects = w->objects};
	struct page_child k;
	size_t n = MIN(w->most, p.n - 1);
	int r = page_out(w, &p, w->runs != NULL ? w->runs[n].lba : w->objects[n].number, &k, &n);

	if (r < 0)
		return r;
	w->n -= n;
	if (w->runs != NULL)
		memmove(w->runs, w->runs + n, w->n * sizeof(*w->runs));
	else
		memmove(w->objects, w->objects + n, w->n * sizeof(*w->objects));
	if (w->n > 0)
		w->first = w->runs != NULL ? w->runs[0].lba : w->objects[0].number;
	return index_add(w, 0, &k);
}

int treewr_runs(struct treewr *w, const struct page_run *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = w->n > w->most ? leaf_flush(w) : 0;

		if (r < 0)
			return r;
		w->runs[w->n++] = v[i];
	}
	return 0;
}

int treewr_object(struct treewr *w, const struct page_object *o)
{
	int r = w->n > w->most ? leaf_flush(w) : 0;

	if (r == 0)
		w->objects[w->n++] = *o;
	return r;
}

int treewr_finish(struct treewr *w, struct log_pageref *ret_root)
{
	int r = 0;

	memset(ret_root, 0, sizeof(*ret_root));
	while (w->n > 0 && r == 0)
		r = leaf_flush(w);
	for (int i = 0; i < INDICES && r == 0; i++) {
		/* One page alone is the root; without any there is no tree. */
		if (w->index[i].n <= 1 && !w->index[i].wrote) {
			if (w->index[i].n == 1)
				*ret_root = w->index[i].v[0].ref;
			return w->index[i].n == 1 && w->resolve != NULL ? w->resolve(w->arg, ret_root) : 0;
		}
		while (w->index[i].n > 0 && r == 0)
			r = index_flush(w, i);
	}
	return r < 0 ? r : -EFBIG;
}
