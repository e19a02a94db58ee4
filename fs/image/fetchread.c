/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fetchread.c - readers of log objects: what is here, what the block cache has, and one ranged GET for each run of
 * groups that is nowhere (fetch.h).
 *
 * A read is cut into parts, each within one group. It takes memory for its GETs at once, or not before it has let go
 * of every chunk that it uses: readers never wait for memory that another waiting reader holds.
 */
#include "config.h"
#include "fetch-private.h"
#include <string.h>

/* Of one GET. 4 MiB of an image are 64 groups and, because of the header before them, a part of one more. */
enum { READ_GROUPS = 32, AHEAD_GROUPS = 66 };

struct part {
	struct chunk *c; /* NULL: done */
	bool mine;       /* c is one of the chunks that this read adds */
	uint64_t number;
	uint32_t sector, n;
	uint8_t *out;
};

struct reading {
	struct fetch *f;
	struct log *l;
	struct part *part;
	size_t nparts;
	struct chunk **fresh; /* to be asked for, in the order of the read */
	size_t nfresh;
	uint64_t need; /* bytes for them */
};

/* The chunk that will bring a group: one of those that this read adds, maybe longer by it, or another one. */
static struct chunk *add_group(struct reading *r, uint64_t number, uint32_t group, uint32_t most)
{
	uint8_t uuid[16];
	const char *prefix;
	struct chunk *c;

	for (size_t i = r->nfresh; i-- > 0;) {
		c = r->fresh[i];
		if (c->number != number || group < c->first || group > c->end)
			continue;
		if (group < c->end)
			return c;
		if (c->end - c->first < most) {
			c->end++;
			r->need += LOG_STRIDE;
			return c;
		}
	}
	prefix = log_prefix_of(r->l, number, uuid);
	c = chunk_new(r->f, uuid, prefix, number, group);
	if (c != NULL) {
		r->fresh[r->nfresh++] = c;
		r->need += LOG_STRIDE;
	}
	return c;
}

static size_t groups_of(const struct fetch_piece *p)
{
	return (p->sector + p->n - 1) / GROUP_SECTORS - p->sector / GROUP_SECTORS + 1;
}

static int reading_new(struct fetch *f, struct log *l, const struct fetch_piece *p, size_t n, struct reading *ret)
{
	size_t groups = 0;

	for (size_t i = 0; i < n; i++)
		groups += groups_of(&p[i]);
	*ret = (struct reading){.f = f, .l = l};
	ret->part = calloc(groups, sizeof(*ret->part));
	ret->fresh = calloc(groups, sizeof(struct chunk *));
	if (ret->part != NULL && ret->fresh != NULL)
		return 0;
	free(ret->part);
	free(ret->fresh);
	return -ENOMEM;
}

/* One part: from the cache now, or from which chunk. */
static int plan_part(struct reading *r, struct part *p)
{
	struct fetch *f = r->f;
	uint32_t group = p->sector / GROUP_SECTORS;
	uint8_t uuid[16];

	(void)log_prefix_of(r->l, p->number, uuid);
	mtx_lock(&f->lock);
	p->c = chunk_find_locked(f, uuid, p->number, group);
	if (p->c != NULL) {
		chunk_use_locked(p->c);
		f->stat.shared++;
	}
	mtx_unlock(&f->lock);
	if (p->c != NULL ||
	    (f->env.cache != NULL && blkcache_read(f->env.cache, uuid, p->number, p->sector, p->n, p->out)))
		return 0;
	p->c = add_group(r, p->number, group, READ_GROUPS);
	if (p->c == NULL)
		return -ENOMEM;
	p->mine = true;
	p->c->users++; /* not listed yet: ours alone */
	return 0;
}

static int plan(struct reading *r, const struct fetch_piece *pieces, size_t n)
{
	int e = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t sector = pieces[i].sector, left = pieces[i].n;
		uint8_t *out = pieces[i].out;

		while (left > 0 && e == 0) {
			struct part *p = &r->part[r->nparts++];

			p->number = pieces[i].number;
			p->sector = sector;
			p->n = MIN(left, GROUP_SECTORS - sector % GROUP_SECTORS);
			p->out = out;
			e = plan_part(r, p);
			sector += p->n;
			left -= p->n;
			out += (size_t)p->n * SECTOR;
		}
	}
	return e;
}

static void leave(struct part *p, uint32_t sectors)
{
	struct fetch *f = p->c->f;
	struct chunk *dead;

	mtx_lock(&f->lock);
	dead = chunk_leave_locked(p->c, sectors);
	mtx_unlock(&f->lock);
	chunk_free(dead);
}

/* Somebody else may have asked for the same meanwhile: then his will do. Under the lock. */
static struct chunk *same_locked(struct reading *r, struct chunk *c)
{
	struct chunk *d = chunk_find_locked(r->f, c->uuid, c->number, c->first);

	if (d == NULL || d->end < c->end)
		return NULL;
	for (size_t i = 0; i < r->nparts; i++)
		if (r->part[i].c == c) {
			r->part[i].c = d;
			c->users--;
			chunk_use_locked(d);
			r->f->stat.shared++;
		}
	return d;
}

/* The budget has r->need bytes for us. */
static void submit_fresh(struct reading *r, enum obj_prio prio)
{
	struct fetch *f = r->f;

	for (size_t i = 0; i < r->nfresh; i++) {
		struct chunk *c = r->fresh[i], *same = NULL;
		bool ok = chunk_buffer(c);

		mtx_lock(&f->lock);
		if (ok)
			same = same_locked(r, c);
		if (!ok)
			c->state = BAD;
		else if (same == NULL)
			chunk_list_locked(c);
		mtx_unlock(&f->lock);
		if (same != NULL) {
			c->state = BAD;
			chunk_free(c);
		} else if (ok) {
			chunk_submit(c, prio);
		} else if (c->users == 0) {
			chunk_free(c);
		}
	}
	r->nfresh = 0;
}

/* Waits for a part's chunk and copies. What did not come or does not verify is asked for by itself, for its words. */
static int finish_part(struct reading *r, struct part *p, struct objerr *err)
{
	struct fetch *f = r->f;
	struct chunk *c = p->c;
	uint32_t group = p->sector / GROUP_SECTORS;
	size_t at = (size_t)(group - c->first) * LOG_STRIDE;
	struct log_place place = {p->number, p->sector};
	int e = -EUCLEAN;

	mtx_lock(&f->lock);
	while (c->state == FLIGHT)
		cond_wait(&f->changed, &f->lock);
	mtx_unlock(&f->lock);
	if (c->state == READY && at < c->got)
		e = logobj_extract((uint8_t *)c->buf + at, c->got - at, c->uuid, p->number, p->sector, p->n, p->out,
				   NULL);
	if (e < 0) {
		mtx_lock(&f->lock);
		if (c->state == READY) {
			f->stat.failed++;
			chunk_drop_locked(c); /* damaged on the way, or in the bucket: the next reader asks again */
		}
		mtx_unlock(&f->lock);
	}
	leave(p, p->n);
	p->c = NULL;
	return e == 0 ? 0 : log_read(r->l, &place, p->n, p->out, err);
}

static int finish(struct reading *r, bool mine, int e, struct objerr *err)
{
	for (size_t i = 0; i < r->nparts; i++) {
		struct part *p = &r->part[i];

		if (p->c == NULL || (p->mine && !mine))
			continue;
		if (e == 0) {
			e = finish_part(r, p, err);
		} else {
			leave(p, 0);
			p->c = NULL;
		}
	}
	return e;
}

static bool try_budget(struct fetch *f, uint64_t n)
{
	if (f->env.budget == NULL || budget_try(f->env.budget, n))
		return true;
	return fetch_reclaim(f, n) > 0 && budget_try(f->env.budget, n);
}

/* Chunks that were never sent. */
static void drop_fresh(struct reading *r)
{
	for (size_t i = 0; i < r->nfresh; i++) {
		r->fresh[i]->users = 0;
		chunk_free(r->fresh[i]);
	}
	r->nfresh = 0;
}

int fetch_read(struct fetch *f, struct log *l, const struct fetch_piece *p, size_t n, struct objerr *err)
{
	struct reading r;
	bool sent;
	int e = reading_new(f, l, p, n, &r);

	if (e < 0)
		return e;
	e = plan(&r, p, n);
	sent = e == 0 && (r.nfresh == 0 || try_budget(f, r.need));
	if (sent)
		submit_fresh(&r, OBJ_PRIO_FG);
	e = finish(&r, sent, e, err);
	if (!sent && e == 0) {
		chunk_wait_budget(f, r.need);
		submit_fresh(&r, OBJ_PRIO_FG);
		e = finish(&r, true, e, err);
	}
	drop_fresh(&r);
	free(r.part);
	free(r.fresh);
	return e;
}

int fetch_read_now(struct fetch *f, struct log *l, const struct fetch_piece *p)
{
	uint32_t sector = p->sector, left = p->n;
	uint8_t uuid[16], *out = p->out;
	int e = 0;

	(void)log_prefix_of(l, p->number, uuid);
	while (left > 0 && e == 0) {
		uint32_t n = MIN(left, GROUP_SECTORS - sector % GROUP_SECTORS);

		e = f->env.cache != NULL ? blkcache_read_now(f->env.cache, uuid, p->number, sector, n, out) : -EAGAIN;
		sector += n;
		left -= n;
		out += (size_t)n * SECTOR;
	}
	return e;
}

/* n sectors of a group are wanted soon: whether it need not be asked for. */
static bool here(struct reading *r, uint64_t number, uint32_t group, uint32_t n)
{
	struct fetch *f = r->f;
	uint8_t uuid[16];
	struct chunk *c;

	(void)log_prefix_of(r->l, number, uuid);
	mtx_lock(&f->lock);
	c = chunk_find_locked(f, uuid, number, group);
	if (c != NULL)
		c->want += n;
	mtx_unlock(&f->lock);
	return c != NULL || (f->env.cache != NULL && blkcache_has(f->env.cache, uuid, number, group));
}

static void plan_ahead(struct reading *r, const struct fetch_piece *p)
{
	uint32_t sector = p->sector, left = p->n;

	while (left > 0) {
		uint32_t n = MIN(left, GROUP_SECTORS - sector % GROUP_SECTORS), group = sector / GROUP_SECTORS;

		if (!here(r, p->number, group, n)) {
			struct chunk *c = add_group(r, p->number, group, AHEAD_GROUPS);

			if (c != NULL)
				c->want += n;
		}
		sector += n;
		left -= n;
	}
}

uint64_t fetch_ahead(struct fetch *f, struct log *l, const struct fetch_piece *p, size_t n)
{
	struct reading r;
	struct chunk **all;
	size_t nall;
	uint64_t bytes = 0;
	bool room = true;

	if (reading_new(f, l, p, n, &r) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		plan_ahead(&r, &p[i]);
	all = r.fresh;
	nall = r.nfresh;
	for (size_t i = 0; i < nall; i++) {
		struct chunk *c = all[i];

		room = room && chunk_room(f, chunk_bytes(c)) &&
		       (f->env.budget == NULL || budget_try(f->env.budget, chunk_bytes(c)));
		if (!room) {
			chunk_free(c);
			continue;
		}
		c->ahead = true;
		bytes += chunk_bytes(c);
		r.fresh = &all[i];
		r.nfresh = 1;
		submit_fresh(&r, OBJ_PRIO_BG);
	}
	free(r.part);
	free(all);
	return bytes;
}
