/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spplan.c - cutting a file into parts; rules in spplan.h.
 *
 * The front is first a list of segments, alternately copied and sent. A copied one is never shorter than part_min: a
 * shorter one joins its neighbours. A sent one that is shorter takes bytes from the copied one behind it, or before it at
 * the end of the front. Then segments are cut into parts. Only the last part of the whole object may be short.
 */
#include "config.h"
#include "spplan.h"
#include <string.h>

struct seg {
	uint64_t start, end;
	bool copy;
};
struct segs {
	struct seg *v;
	size_t n, cap;
	uint64_t end;	/* of the front */
	bool last;	/* the front's end is the object's end */
};

static const unsigned multiple[10] = { 1, 2, 4, 8, 16, 32, 64, 128, 200, 208 };

void spplan_tail(uint64_t unit, bool equal, unsigned max_parts, unsigned index, uint64_t *ret_off, uint64_t *ret_len)
{
	unsigned group = MAX(max_parts / 10, 1u);
	uint64_t units = 0;
	unsigned g = 0;

	if (equal) {
		*ret_off = index * unit;
		*ret_len = unit;
		return;
	}
	while (index >= group && g < 9) {
		units += (uint64_t)group * multiple[g++];
		index -= group;
	}
	*ret_off = (units + (uint64_t)index * multiple[g]) * unit;
	*ret_len = multiple[g] * unit;
}

static int add_part(struct spplan *p, size_t *cap, unsigned number, uint64_t off, uint64_t len, bool copy)
{
	if (p->n == *cap) {
		size_t n = *cap ? *cap * 2 : 64;
		struct spplan_part *v = realloc(p->v, n * sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		p->v = v;
		*cap = n;
	}
	p->v[p->n++] = (struct spplan_part){ .number = number, .off = off, .len = len, .copy = copy };
	return 0;
}

static int push(struct segs *s, uint64_t start, uint64_t end, bool copy)
{
	if (start >= end)
		return 0;
	if (s->n && s->v[s->n - 1].copy == copy) {
		s->v[s->n - 1].end = end;
		return 0;
	}
	if (s->n == s->cap) {
		size_t n = s->cap ? s->cap * 2 : 64;
		struct seg *v = realloc(s->v, n * sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		s->v = v;
		s->cap = n;
	}
	s->v[s->n++] = (struct seg){ .start = start, .end = end, .copy = copy };
	return 0;
}

static int find_segs(const struct spplan_in *in, struct segs *s)
{
	uint64_t pos = 0, limit = MIN(in->same_limit, s->end);
	int r = 0;

	while (pos < s->end && r == 0) {
		uint64_t a, b;
		bool copy;

		if (!ranges_find(in->dirty, pos, &a, &b) || a >= limit) {
			a = MAX(limit, pos);
			b = s->end;
		}
		a = MAX(a, pos);
		b = MIN(b, s->end);
		copy = a - pos >= in->part_min || (a == s->end && s->last);
		r = push(s, pos, a, copy);
		if (r == 0)
			r = push(s, a, b, false);
		pos = b;
	}
	return r;
}

static void remove_seg(struct segs *s, size_t i)
{
	memmove(&s->v[i], &s->v[i + 1], (s->n - i - 1) * sizeof(*s->v));
	s->n--;
}

/* Segment i is sent and too short: makes it longer at the cost of a neighbour. True when something changed. */
static bool lengthen(struct segs *s, size_t i, uint64_t min)
{
	struct seg *g = &s->v[i];
	uint64_t need = min - (g->end - g->start);

	if (i + 1 < s->n) {
		struct seg *next = g + 1;
		uint64_t keep = i + 2 == s->n && s->last ? 1 : min;

		if (next->end - next->start >= need + keep) {
			g->end += need;
			next->start += need;
			return true;
		}
		g->end = next->end;
		remove_seg(s, i + 1);
		if (i + 1 < s->n) { /* the one behind is a sent one as well */
			g->end = s->v[i + 1].end;
			remove_seg(s, i + 1);
		}
		return true;
	}
	if (i > 0) {
		struct seg *prev = g - 1;

		if (prev->end - prev->start >= need + min) {
			g->start -= need;
			prev->end -= need;
			return true;
		}
		prev->end = g->end;
		prev->copy = false;
		remove_seg(s, i);
		if (i >= 2) {
			s->v[i - 2].end = s->v[i - 1].end;
			remove_seg(s, i - 1);
		}
		return true;
	}
	return false;
}

static void fix_short(struct segs *s, uint64_t min)
{
	for (size_t i = 0; i < s->n;) {
		struct seg *g = &s->v[i];
		bool may_be_short = i + 1 == s->n && s->last;

		if (!g->copy && g->end - g->start < min && !may_be_short && lengthen(s, i, min))
			i = i > 1 ? i - 2 : 0; /* neighbours have changed */
		else
			i++;
	}
}

static int cut_segs(const struct segs *s, const struct spplan_in *in, struct spplan *p, size_t *cap)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct seg *g = &s->v[i];
		uint64_t len = g->end - g->start, most = g->copy ? in->copy_max : in->unit;
		uint64_t n = (len + most - 1) / most, off = g->start;

		if (len / n < in->part_min)
			n = MAX(len / most, (uint64_t)1);
		for (uint64_t k = 0; k < n; k++) { /* n parts that differ by one byte at most */
			uint64_t piece = len / n + (k < len % n);
			int r = add_part(p, cap, (unsigned)p->n + 1, off, piece, g->copy);

			if (r < 0)
				return r;
			if (p->n > in->max_parts)
				return -EFBIG;
			off += piece;
		}
	}
	return 0;
}

static int plan_front(const struct spplan_in *in, uint64_t end, struct spplan *p, size_t *cap)
{
	struct segs s = { .end = end, .last = end == in->size };
	int r = find_segs(in, &s);

	if (r == 0) {
		fix_short(&s, in->part_min);
		r = cut_segs(&s, in, p, cap);
	}
	free(s.v);
	return r;
}

static int plan_tail(const struct spplan_in *in, struct spplan *p, size_t *cap)
{
	for (unsigned i = 0;; i++) {
		uint64_t off, len;
		bool copy;
		int r;

		spplan_tail(in->unit, in->equal, in->max_parts, i, &off, &len);
		off += in->tail_off;
		if (off >= in->size)
			return 0;
		if (in->tail_first + i > in->max_parts)
			return -EFBIG;
		len = MIN(len, in->size - off);
		copy = off + len <= in->same_limit && !ranges_touches(in->dirty, off, off + len) && len <= in->copy_max;
		r = add_part(p, cap, in->tail_first + i, off, len, copy);
		if (r < 0)
			return r;
	}
}

int spplan_make(const struct spplan_in *in, struct spplan *ret)
{
	struct spplan p = { 0 };
	size_t cap = 0;
	int r = 0;

	assert(in->size > 0 && in->unit >= in->part_min && in->part_min > 0 && in->copy_max >= 2 * in->part_min);
	if (in->tail_off > 0)
		r = plan_front(in, MIN(in->tail_off, in->size), &p, &cap);
	if (r == 0 && p.n >= in->tail_first && in->tail_off < in->size)
		r = -EFBIG;
	if (r == 0 && in->tail_off < in->size)
		r = plan_tail(in, &p, &cap);
	if (r < 0) {
		spplan_free(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void spplan_free(struct spplan *p)
{
	free(p->v);
	*p = (struct spplan){ 0 };
}
