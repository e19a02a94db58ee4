/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * extmap.c - sorted extents in chunks of at most CHUNK (extmap.h).
 *
 * Invariants (extmap_check): no chunk is empty; extents ascend without overlap, within and across chunks; counters
 * are the sums. A change first reserves what it can need at most (a split and the new extent may each split a chunk:
 * two chunks), so that it cannot fail half-way.
 */
#include "config.h"
#include "extmap.h"
#include <string.h>

enum { CHUNK = 128 };
#define KINDS (EM_MOVED + 1)

struct chunk {
	unsigned n;
	struct em_ext v[CHUNK];
};

struct extmap {
	size_t nchunks, cap;
	struct chunk **chunk;
	struct chunk *spare[2];
	size_t count;
	uint64_t sectors[KINDS];
};

struct pos {
	size_t c; /* == nchunks: behind the end */
	unsigned i;
};

int extmap_new(struct extmap **ret)
{
	struct extmap *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return -ENOMEM;
	*ret = m;
	return 0;
}

void extmap_empty(struct extmap *m)
{
	for (size_t i = 0; i < m->nchunks; i++)
		free(m->chunk[i]);
	m->nchunks = m->count = 0;
	memset(m->sectors, 0, sizeof(m->sectors));
}

void extmap_free(struct extmap *m)
{
	if (m == NULL)
		return;
	extmap_empty(m);
	free(m->spare[0]);
	free(m->spare[1]);
	free(m->chunk);
	free(m);
}

size_t extmap_count(const struct extmap *m)
{
	return m->count;
}
size_t extmap_bytes(const struct extmap *m)
{
	return m->nchunks * sizeof(struct chunk) + m->cap * sizeof(void *);
}
uint64_t extmap_sectors(const struct extmap *m, enum em_kind kind)
{
	return m->sectors[kind];
}

static uint64_t end_of(const struct em_ext *e)
{
	return e->lba + e->len;
}

/* The first extent that ends behind lba. */
static struct pos locate(const struct extmap *m, uint64_t lba)
{
	size_t lo = 0, hi = m->nchunks;
	unsigned a = 0, b;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct chunk *c = m->chunk[mid];

		if (end_of(&c->v[c->n - 1]) > lba)
			hi = mid;
		else
			lo = mid + 1;
	}
	if (lo == m->nchunks)
		return (struct pos){lo, 0};
	for (b = m->chunk[lo]->n; a < b;) {
		unsigned mid = a + (b - a) / 2;

		if (end_of(&m->chunk[lo]->v[mid]) > lba)
			b = mid;
		else
			a = mid + 1;
	}
	return (struct pos){lo, a};
}

static struct em_ext *at(const struct extmap *m, struct pos p)
{
	return p.c < m->nchunks ? &m->chunk[p.c]->v[p.i] : NULL;
}

static struct pos after(const struct extmap *m, struct pos p)
{
	if (++p.i == m->chunk[p.c]->n)
		p = (struct pos){p.c + 1, 0};
	return p;
}

/* What is left of e when its first n sectors are cut off. */
static void cut_front(struct em_ext *e, uint64_t n)
{
	e->lba += n;
	e->len -= n;
	if (e->kind == EM_LOG || e->kind == EM_MOVED)
		e->sector += (uint32_t)n;
	if (e->kind == EM_MOVED)
		e->from.sector += (uint32_t)n;
	if (e->kind == EM_JOURNAL)
		e->where += n * SECTOR;
}

static struct em_ext piece_of(const struct em_ext *e, uint64_t lba, uint64_t end)
{
	struct em_ext p = *e;

	if (p.lba < lba)
		cut_front(&p, lba - p.lba);
	if (end_of(&p) > end)
		p.len = end - p.lba;
	return p;
}

static bool continues(const struct em_ext *a, const struct em_ext *b)
{
	struct em_ext next = *a;

	if (a->kind != b->kind || end_of(a) != b->lba)
		return false;
	cut_front(&next, a->len);
	switch (a->kind) {
	case EM_LOG:
		return next.number == b->number && next.sector == b->sector;
	case EM_JOURNAL:
		return next.where == b->where;
	case EM_MOVED:
		return next.number == b->number && next.sector == b->sector && next.from.number == b->from.number &&
		       next.from.sector == b->from.sector;
	default:
		return true;
	}
}

static int reserve(struct extmap *m)
{
	if (m->cap < m->nchunks + 2) {
		size_t cap = m->cap * 2 + 8;
		struct chunk **v = reallocarray(m->chunk, cap, sizeof(struct chunk *));

		if (v == NULL)
			return -ENOMEM;
		m->chunk = v;
		m->cap = cap;
	}
	for (int i = 0; i < 2; i++)
		if (m->spare[i] == NULL) {
			m->spare[i] = malloc(sizeof(struct chunk));
			if (m->spare[i] == NULL)
				return -ENOMEM;
		}
	return 0;
}

static struct chunk *chunk_insert(struct extmap *m, size_t c)
{
	int i = m->spare[0] != NULL ? 0 : 1;
	struct chunk *n = m->spare[i];

	assert(n != NULL && m->nchunks < m->cap);
	m->spare[i] = NULL;
	n->n = 0;
	memmove(m->chunk + c + 1, m->chunk + c, (m->nchunks - c) * sizeof(struct chunk *));
	m->chunk[c] = n;
	m->nchunks++;
	return n;
}

static void chunk_remove(struct extmap *m, size_t c)
{
	free(m->chunk[c]);
	m->nchunks--;
	memmove(m->chunk + c, m->chunk + c + 1, (m->nchunks - c) * sizeof(struct chunk *));
}

/* Before the extent at p. */
static void insert(struct extmap *m, struct pos p, const struct em_ext *e)
{
	struct chunk *c;

	if (p.i == 0 && p.c > 0 && m->chunk[p.c - 1]->n < CHUNK)
		p = (struct pos){p.c - 1, m->chunk[p.c - 1]->n};
	if (p.c == m->nchunks)
		(void)chunk_insert(m, p.c);
	c = m->chunk[p.c];
	if (c->n == CHUNK) {
		/* Writing in order fills chunks; else halves. */
		unsigned keep = p.c + 1 == m->nchunks && p.i == CHUNK ? CHUNK : CHUNK / 2;
		struct chunk *n = chunk_insert(m, p.c + 1);

		n->n = CHUNK - keep;
		memcpy(n->v, c->v + keep, n->n * sizeof(n->v[0]));
		c->n = keep;
		if (p.i > keep || (p.i == keep && keep == CHUNK)) {
			p = (struct pos){p.c + 1, p.i - keep};
			c = n;
		}
	}
	memmove(c->v + p.i + 1, c->v + p.i, (c->n - p.i) * sizeof(c->v[0]));
	c->v[p.i] = *e;
	c->n++;
	m->count++;
}

static void delete (struct extmap *m, struct pos p)
{
	struct chunk *c = m->chunk[p.c];

	c->n--;
	memmove(c->v + p.i, c->v + p.i + 1, (c->n - p.i) * sizeof(c->v[0]));
	m->count--;
	if (c->n == 0)
		chunk_remove(m, p.c);
}

static void clear_range(struct extmap *m, uint64_t lba, uint64_t end,
			void (*gone)(void *arg, const struct em_ext *piece), void *arg)
{
	struct pos p = locate(m, lba);
	struct em_ext *e;

	while ((e = at(m, p)) != NULL && e->lba < end) {
		struct em_ext piece = piece_of(e, lba, end), rest = *e;

		if (gone != NULL)
			gone(arg, &piece);
		m->sectors[e->kind] -= piece.len;
		if (e->lba < lba && end_of(e) > end) {
			cut_front(&rest, end - e->lba);
			e->len = lba - e->lba;
			insert(m, after(m, p), &rest);
			return;
		}
		if (e->lba < lba) {
			e->len = lba - e->lba;
			p = after(m, p);
		} else if (end_of(e) > end) {
			cut_front(e, end - e->lba);
			return;
		} else {
			/*
			 * The chunk may vanish and the next take its index; an index behind a chunk's end means the
			 * next one.
			 */
			size_t c = p.c, before = m->nchunks;

			delete(m, p);
			if (m->nchunks == before && p.i == m->chunk[c]->n)
				p = (struct pos){c + 1, 0};
			else if (m->nchunks != before)
				p = (struct pos){c, 0};
		}
	}
}

int extmap_clear(struct extmap *m, uint64_t lba, uint64_t len, void (*gone)(void *arg, const struct em_ext *piece),
		 void *arg)
{
	int r = reserve(m);

	if (r == 0)
		clear_range(m, lba, lba + len, gone, arg);
	return r;
}

int extmap_set(struct extmap *m, const struct em_ext *e, void (*gone)(void *arg, const struct em_ext *piece), void *arg)
{
	struct pos p, before;
	struct em_ext *next, *prev = NULL;
	int r = reserve(m);

	assert(e->len > 0 && e->kind != EM_NONE);
	if (r < 0)
		return r;
	clear_range(m, e->lba, end_of(e), gone, arg);
	m->sectors[e->kind] += e->len;
	p = locate(m, e->lba);
	next = at(m, p);
	if (p.i > 0 || p.c > 0) {
		before = p.i > 0 ? (struct pos){p.c, p.i - 1} : (struct pos){p.c - 1, m->chunk[p.c - 1]->n - 1};
		prev = at(m, before);
	}
	if (prev != NULL && continues(prev, e)) {
		prev->len += e->len;
		if (next != NULL && continues(prev, next)) {
			prev->len += next->len;
			delete(m, p);
		}
	} else if (next != NULL && continues(e, next)) {
		uint64_t end = end_of(next);

		*next = *e;
		next->len = end - e->lba;
	} else {
		insert(m, p, e);
	}
	return 0;
}

void extmap_get(const struct extmap *m, uint64_t lba, uint64_t len, struct em_ext *ret)
{
	const struct em_ext *e = at(m, locate(m, lba));
	uint64_t end = lba + len;

	if (e != NULL && e->lba <= lba)
		*ret = piece_of(e, lba, end);
	else
		*ret = (struct em_ext){.lba = lba, .len = (e != NULL ? MIN(e->lba, end) : end) - lba};
}

bool extmap_next(const struct extmap *m, uint64_t lba, struct em_ext *ret)
{
	const struct em_ext *e = at(m, locate(m, lba));

	if (e != NULL)
		*ret = *e;
	return e != NULL;
}

void extmap_check(const struct extmap *m)
{
	uint64_t end = 0, sectors[KINDS] = {0};
	size_t count = 0;

	for (size_t c = 0; c < m->nchunks; c++) {
		assert(m->chunk[c]->n > 0 && m->chunk[c]->n <= CHUNK);
		for (unsigned i = 0; i < m->chunk[c]->n; i++) {
			const struct em_ext *e = &m->chunk[c]->v[i];

			assert(e->len > 0 && e->lba >= end && e->kind > EM_NONE && e->kind < KINDS);
			end = end_of(e);
			sectors[e->kind] += e->len;
			count++;
		}
	}
	assert(count == m->count && memcmp(sectors, m->sectors, sizeof(sectors)) == 0);
}
