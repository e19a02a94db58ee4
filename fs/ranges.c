/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ranges.c - a treap of disjoint ranges: a binary search tree by start that is a heap by random priority, which keeps
 * its depth logarithmic whatever order the ranges come in (Seidel and Aragon, "Randomized search trees", 1996).
 *
 * Everything is built from two moves, split and merge. An operation allocates what it may need before it touches the
 * tree, so that -ENOMEM leaves the set as it was.
 *
 * Invariant: for neighbours a, b: a.start < a.end < b.start (touching ranges are merged).
 */
#include "config.h"
#include "ranges.h"

struct range_node {
	struct range_node *l, *r;
	uint64_t start, end;
	uint64_t prio;
};

static uint64_t next_prio(struct ranges *r)
{
	/* splitmix64: good enough to balance a tree, and repeatable */
	uint64_t z = (r->rnd += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Nodes with start < pos go to *ret_lo, the others to *ret_hi. */
static void split(struct range_node *t, uint64_t pos, struct range_node **ret_lo, struct range_node **ret_hi)
{
	while (t) {
		if (t->start < pos) {
			*ret_lo = t;
			ret_lo = &t->r;
			t = t->r;
		} else {
			*ret_hi = t;
			ret_hi = &t->l;
			t = t->l;
		}
	}
	*ret_lo = NULL;
	*ret_hi = NULL;
}

/* Every node of a lies before every node of b. */
static struct range_node *merge(struct range_node *a, struct range_node *b)
{
	struct range_node *root = NULL, **slot = &root;

	while (a && b) {
		if (a->prio > b->prio) {
			*slot = a;
			slot = &a->r;
			a = a->r;
		} else {
			*slot = b;
			slot = &b->l;
			b = b->l;
		}
	}
	*slot = a ? a : b;
	return root;
}

/* Frees a detached subtree, in O(n) and without recursion: rotates left children up. */
static void free_tree(struct ranges *r, struct range_node *t)
{
	while (t) {
		struct range_node *l = t->l, *next;

		if (l) {
			t->l = l->r;
			l->r = t;
			t = l;
			continue;
		}
		next = t->r;
		r->bytes -= t->end - t->start;
		r->n--;
		free(t);
		t = next;
	}
}

static struct range_node *last_of(struct range_node *t)
{
	while (t && t->r)
		t = t->r;
	return t;
}

/* The last node with start <= pos. */
static struct range_node *at_or_before(const struct ranges *r, uint64_t pos)
{
	struct range_node *t = r->root, *best = NULL;

	while (t) {
		if (t->start <= pos) {
			best = t;
			t = t->r;
		} else {
			t = t->l;
		}
	}
	return best;
}

static void put_node(struct ranges *r, struct range_node *n, struct range_node *lo, struct range_node *hi)
{
	r->root = merge(merge(lo, n), hi);
	r->bytes += n->end - n->start;
	r->n++;
}

int ranges_add(struct ranges *r, uint64_t start, uint64_t end)
{
	struct range_node *before, *lo, *mid, *hi, *n;

	if (start >= end)
		return 0;
	before = at_or_before(r, start);
	if (before && before->end >= end)
		return 0;
	n = malloc(sizeof(*n));
	if (n == NULL)
		return -ENOMEM;
	if (before && before->end >= start)
		start = before->start;
	split(r->root, start, &lo, &mid);
	split(mid, end + 1 ? end + 1 : end, &mid, &hi); /* a range that starts at end touches */
	if (mid)
		end = MAX(end, last_of(mid)->end);
	free_tree(r, mid);
	*n = (struct range_node){ .start = start, .end = end, .prio = next_prio(r) };
	put_node(r, n, lo, hi);
	return 0;
}

int ranges_del(struct ranges *r, uint64_t start, uint64_t end)
{
	struct range_node *before, *lo, *mid, *hi, *last, *n = NULL;
	uint64_t tail = 0;

	if (start >= end || !ranges_touches(r, start, end))
		return 0;
	last = at_or_before(r, end - 1);
	if (last->end > end) {
		n = malloc(sizeof(*n));
		if (n == NULL)
			return -ENOMEM;
		tail = last->end;
	}
	split(r->root, start, &lo, &mid);
	split(mid, end, &mid, &hi);
	before = last_of(lo);
	if (before && before->end > start) {
		r->bytes -= before->end - start;
		before->end = start;
	}
	free_tree(r, mid);
	if (n) {
		*n = (struct range_node){ .start = end, .end = tail, .prio = next_prio(r) };
		put_node(r, n, lo, hi);
	} else {
		r->root = merge(lo, hi);
	}
	return 0;
}

void ranges_cut(struct ranges *r, uint64_t start)
{
	struct range_node *lo, *hi, *last;

	split(r->root, start, &lo, &hi);
	free_tree(r, hi);
	last = last_of(lo);
	if (last && last->end > start) {
		r->bytes -= last->end - start;
		last->end = start;
	}
	r->root = lo;
}

bool ranges_covers(const struct ranges *r, uint64_t start, uint64_t end)
{
	struct range_node *t;

	if (start >= end)
		return true;
	t = at_or_before(r, start);
	return t && t->end >= end;
}

bool ranges_touches(const struct ranges *r, uint64_t start, uint64_t end)
{
	struct range_node *t;

	if (start >= end)
		return false;
	t = at_or_before(r, end - 1);
	return t && t->end > start;
}

bool ranges_find(const struct ranges *r, uint64_t pos, uint64_t *ret_start, uint64_t *ret_end)
{
	struct range_node *t = r->root, *best = NULL;

	while (t) {
		if (t->end > pos) {
			best = t;
			t = t->l;
		} else {
			t = t->r;
		}
	}
	if (best == NULL)
		return false;
	*ret_start = best->start;
	*ret_end = best->end;
	return true;
}

uint64_t ranges_count(const struct ranges *r, uint64_t start, uint64_t end)
{
	uint64_t sum = 0, a, b, pos = start;

	while (pos < end && ranges_find(r, pos, &a, &b) && a < end) {
		a = MAX(a, start);
		b = MIN(b, end);
		sum += b - a;
		pos = b;
	}
	return sum;
}

int ranges_copy(struct ranges *dst, const struct ranges *src)
{
	uint64_t pos = 0, a, b;

	ranges_clear(dst);
	while (ranges_find(src, pos, &a, &b)) {
		int r = ranges_add(dst, a, b);

		if (r < 0) {
			ranges_clear(dst);
			return r;
		}
		pos = b;
	}
	return 0;
}

void ranges_clear(struct ranges *r)
{
	free_tree(r, r->root);
	r->root = NULL;
}
