/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fetch.c - life of chunks (fetch.h).
 *
 *	new --budget, buffer--> FLIGHT, listed --the answer--> READY --written to the block cache--> gone
 *						       \--> BAD, not listed --the last reader left--> gone
 * A listed chunk is found by readers. One that nobody uses goes when its groups are in the block cache, when
 * read-ahead was read to its end, or when too many idle ones are here, the oldest first. A chunk is freed by whoever
 * ends its last use: reader, store thread or filler.
 *
 * One job at a time writes chunks to the block cache. It is not waited for by readers. What was read ahead is left alone
 * for a moment: its reader will come, and takes it from memory.
 */
#include "config.h"
#include "fetch-private.h"
#include "log-private.h"
#include "../../objstore/base/clock.h"
#include <string.h>

#define FORGOTTEN_NS (5 * NSEC_PER_SEC)
#define FRESH_NS (NSEC_PER_SEC / 2)

static uint64_t object_hash(const uint8_t uuid[16], uint64_t number)
{
	return hash_bytes(uuid, 16, number);
}

struct chunk *chunk_new(struct fetch *f, const uint8_t uuid[16], const char *prefix, uint64_t number, uint32_t first)
{
	struct chunk *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->f = f;
	memcpy(c->uuid, uuid, 16);
	c->number = number;
	c->first = first;
	c->end = first + 1;
	list_init(&c->lru);
	if (prefix != NULL)
		log_key(prefix, number, c->key);
	return c;
}

static void give(struct fetch *f, uint64_t n)
{
	if (f->env.budget != NULL)
		budget_give(f->env.budget, n);
}

void chunk_free(struct chunk *c)
{
	if (c == NULL)
		return;
	assert(!c->listed && c->users == 0);
	if (c->kept || c->f->env.budget == NULL) {
		free(c->buf);
		if (c->buf != NULL)
			give(c->f, c->len);
	} else if (c->buf != NULL) {
		budget_buf_free(c->f->env.budget, c->buf, c->len);
	}
	free(c);
}

bool chunk_buffer(struct chunk *c)
{
	size_t n = chunk_bytes(c);

	c->buf = c->f->env.budget != NULL ? budget_buf(c->f->env.budget, n) : malloc(n);
	if (c->buf == NULL)
		give(c->f, n);
	else
		c->len = n;
	return c->buf != NULL;
}

/* ---- lists ---- */

static bool idle(const struct chunk *c)
{
	return c->listed && c->users == 0;
}

void chunk_list_locked(struct chunk *c)
{
	struct fetch *f = c->f;

	htab_add(&f->objects, &c->node, object_hash(c->uuid, c->number));
	list_add_tail(&f->lru, &c->lru);
	c->listed = true;
	c->since = clock_now_ns();
	f->idle += idle(c) ? c->len : 0;
	f->ahead += c->ahead ? c->len : 0;
	f->stat.chunks++;
	f->stat.bytes += c->len;
}

void chunk_drop_locked(struct chunk *c)
{
	struct fetch *f = c->f;

	if (!c->listed)
		return;
	f->idle -= idle(c) ? c->len : 0;
	f->ahead -= c->ahead ? c->len : 0;
	htab_del(&f->objects, &c->node);
	list_del(&c->lru);
	c->listed = false;
	f->stat.chunks--;
	f->stat.bytes -= c->len;
}

/* Nothing refers to it. */
static bool unused(const struct chunk *c)
{
	return !c->listed && c->users == 0 && !c->filling && c->state != FLIGHT;
}

static bool may_go(const struct chunk *c)
{
	return c->users == 0 && c->state == READY && !c->filling;
}

/*
 * Drops what nobody uses until n bytes of idle chunks are left: the oldest first, what a reader will come for last.
 * The dropped ones come as a list.
 */
static void shrink_locked(struct fetch *f, uint64_t n, struct list *ret)
{
	for (int ahead = 0; ahead < 2; ahead++)
		list_for_each_safe (it, next, &f->lru) {
			struct chunk *c = list_entry(it, struct chunk, lru);

			if (f->idle <= n)
				return;
			if (!may_go(c) || c->ahead != (ahead == 1))
				continue;
			chunk_drop_locked(c);
			list_add_tail(ret, &c->lru);
		}
}

static uint64_t free_all(struct list *l)
{
	uint64_t n = 0;

	list_for_each_safe (it, next, l) {
		struct chunk *c = list_entry(it, struct chunk, lru);

		n += c->len;
		list_del(it);
		chunk_free(c);
	}
	return n;
}

bool chunk_room(struct fetch *f, uint64_t n)
{
	int64_t old = clock_now_ns() - FORGOTTEN_NS;
	struct list drop;
	bool room;

	list_init(&drop);
	mtx_lock(&f->lock);
	/* A reader that went elsewhere left these. */
	list_for_each_safe (it, next, &f->lru) {
		struct chunk *c = list_entry(it, struct chunk, lru);

		if (f->ahead + n <= f->ahead_limit)
			break;
		if (c->ahead && c->since < old && may_go(c)) {
			chunk_drop_locked(c);
			list_add_tail(&drop, &c->lru);
		}
	}
	room = f->waiting == 0 && f->ahead + n <= f->ahead_limit;
	mtx_unlock(&f->lock);
	(void)free_all(&drop);
	return room;
}

void chunk_wait_budget(struct fetch *f, uint64_t n)
{
	mtx_lock(&f->lock);
	f->waiting++;
	mtx_unlock(&f->lock);
	ignore(fetch_reclaim(f, UINT64_MAX)); /* what is left comes back as its users leave */
	budget_take(f->env.budget, n);
	mtx_lock(&f->lock);
	f->waiting--;
	mtx_unlock(&f->lock);
}

struct chunk *chunk_find_locked(struct fetch *f, const uint8_t uuid[16], uint64_t number, uint32_t group)
{
	struct hnode *n = htab_first(&f->objects, object_hash(uuid, number));

	for (; n != NULL; n = htab_next(n)) {
		struct chunk *c = container_of(n, struct chunk, node);

		if (c->number == number && c->first <= group && group < c->end && memcmp(c->uuid, uuid, 16) == 0)
			return c;
	}
	return NULL;
}

void chunk_use_locked(struct chunk *c)
{
	c->f->idle -= idle(c) ? c->len : 0;
	c->users++;
	if (c->listed) {
		list_del(&c->lru);
		list_add_tail(&c->f->lru, &c->lru);
	}
}

struct chunk *chunk_leave_locked(struct chunk *c, uint32_t sectors)
{
	struct fetch *f = c->f;
	bool used_up;

	c->users--;
	f->idle += idle(c) ? c->len : 0;
	c->read += sectors;
	used_up = c->ahead && c->read >= c->want;
	if (used_up) {
		f->ahead -= c->listed ? c->len : 0;
		c->ahead = false;
		cond_broadcast(&f->changed); /* the filler may take it */
	}
	/* The block cache has it; or the guest, and the block cache cannot. */
	if (may_go(c) && (f->waiting > 0 || c->filled || (used_up && (c->tried || f->env.cache == NULL))))
		chunk_drop_locked(c);
	return unused(c) ? c : NULL;
}

/* ---- into the block cache ---- */

/* ret_wait: until when the first of those is fresh that only wait for their reader; 0: there is none. */
static struct chunk *next_to_fill_locked(struct fetch *f, int64_t *ret_wait)
{
	int64_t old = clock_now_ns() - FRESH_NS;

	*ret_wait = 0;
	list_for_each (it, &f->lru) {
		struct chunk *c = list_entry(it, struct chunk, lru);

		if (c->state != READY || c->tried)
			continue;
		if (!c->ahead || c->since <= old || f->waiting > 0 || f->settling > 0)
			return c;
		if (*ret_wait == 0 || c->since + FRESH_NS < *ret_wait)
			*ret_wait = c->since + FRESH_NS;
	}
	return NULL;
}

static bool fill(struct fetch *f, const struct chunk *c)
{
	bool all = true;

	for (uint32_t g = c->first; g < c->end; g++) {
		size_t at = (size_t)(g - c->first) * LOG_STRIDE;

		if (at < c->got)
			all = blkcache_put(f->env.cache, c->uuid, c->number, g, (uint8_t *)c->buf + at,
					   MIN(c->got - at, (size_t)LOG_STRIDE)) &&
			      all;
	}
	return all;
}

static void filler(struct job *job)
{
	struct fetch *f = container_of(job, struct fetch, filler);
	struct chunk *c;
	int64_t wait;

	mtx_lock(&f->lock);
	while ((c = next_to_fill_locked(f, &wait)) != NULL || wait != 0) {
		bool all;

		if (c == NULL) {
			(void)cond_wait_until(&f->changed, &f->lock, wait);
			continue;
		}
		c->filling = c->tried = true;
		mtx_unlock(&f->lock);
		all = fill(f, c);
		mtx_lock(&f->lock);
		c->filling = false;
		c->filled = all;
		if (may_go(c) && (all || c->kept || f->waiting > 0))
			chunk_drop_locked(c);
		if (unused(c)) {
			mtx_unlock(&f->lock);
			chunk_free(c);
			mtx_lock(&f->lock);
		}
	}
	f->filler_runs = false;
	cond_broadcast(&f->changed);
	mtx_unlock(&f->lock);
}

static void start_filler(struct fetch *f)
{
	bool start;

	if (f->env.cache == NULL || f->env.pool == NULL)
		return;
	mtx_lock(&f->lock);
	start = !f->filler_runs;
	f->filler_runs = true;
	mtx_unlock(&f->lock);
	if (!start)
		return;
	f->filler.fn = filler;
	pool_submit(f->env.pool, &f->filler);
}

/* ---- requests ---- */

static void chunk_done(struct objreq *req)
{
	struct chunk *c = req->priv, *dead;
	struct fetch *f = c->f;
	struct list drop;
	int r = req->status;

	list_init(&drop);
	c->got = r == 0 ? req->got : 0;
	objreq_done(req);
	mtx_lock(&f->lock);
	c->state = r == 0 ? READY : BAD;
	if (r < 0) {
		f->stat.failed++;
		chunk_drop_locked(c);
	}
	dead = unused(c) ? c : NULL;
	shrink_locked(f, f->waiting > 0 ? 0 : f->ahead_limit, &drop);
	cond_broadcast(&f->changed);
	mtx_unlock(&f->lock);
	chunk_free(dead);
	(void)free_all(&drop);
	start_filler(f);
	/* The last touch of f by this request. */
	mtx_lock(&f->lock);
	f->under_way--;
	cond_broadcast(&f->changed);
	mtx_unlock(&f->lock);
}

void chunk_submit(struct chunk *c, enum obj_prio prio)
{
	struct fetch *f = c->f;

	objreq_init(&c->req, OBJ_GET, c->key);
	c->req.prio = prio;
	c->req.off = (uint64_t)c->first * LOG_STRIDE;
	c->req.len = c->req.cap = c->len;
	c->req.buf = c->buf;
	c->req.done = chunk_done;
	c->req.priv = c;
	mtx_lock(&f->lock);
	f->under_way++;
	f->stat.gets++;
	f->stat.ahead += prio == OBJ_PRIO_BG;
	mtx_unlock(&f->lock);
	obj_submit(f->env.store, &c->req);
}

void fetch_keep(struct fetch *f, const uint8_t uuid[16], uint64_t number, void *take_bytes, size_t len)
{
	struct chunk *c = NULL;
	struct list drop;

	list_init(&drop);
	if (f->env.cache != NULL && f->env.pool != NULL)
		c = chunk_new(f, uuid, NULL, number, 0);
	/* budget_try() fails while anybody waits for memory. */
	if (c != NULL && f->env.budget != NULL && !budget_try(f->env.budget, len)) {
		chunk_free(c);
		c = NULL;
	}
	if (c == NULL) {
		free(take_bytes);
		return;
	}
	c->end = (uint32_t)((len + LOG_STRIDE - 1) / LOG_STRIDE);
	c->state = READY;
	c->kept = true;
	c->buf = take_bytes;
	c->len = c->got = len;
	mtx_lock(&f->lock);
	chunk_list_locked(c);
	shrink_locked(f, f->ahead_limit, &drop); /* a disk that is slower than the uploads: the oldest are not kept */
	mtx_unlock(&f->lock);
	(void)free_all(&drop);
	start_filler(f);
}

void fetch_forget(struct fetch *f, const uint8_t uuid[16], uint64_t number, uint32_t sectors)
{
	struct hnode *n, *next;
	struct list drop;

	list_init(&drop);
	mtx_lock(&f->lock);
	for (n = htab_first(&f->objects, object_hash(uuid, number)); n != NULL; n = next) {
		struct chunk *c = container_of(n, struct chunk, node);

		next = htab_next(n);
		if (c->number != number || memcmp(c->uuid, uuid, 16) != 0)
			continue;
		chunk_drop_locked(c);
		if (unused(c))
			list_add_tail(&drop, &c->lru);
	}
	mtx_unlock(&f->lock);
	(void)free_all(&drop);
	if (f->env.cache != NULL)
		blkcache_forget(f->env.cache, uuid, number, sectors / GROUP_SECTORS + 1);
}

/* ---- all of it ---- */

int fetch_new(const struct fetch_env *env, struct fetch **ret)
{
	struct fetch *f = calloc(1, sizeof(*f));
	uint64_t share = env->budget != NULL ? budget_total(env->budget) / 8 : 16 * MiB;

	if (f == NULL)
		return -ENOMEM;
	if (htab_init(&f->objects) < 0) {
		free(f);
		return -ENOMEM;
	}
	f->env = *env;
	f->ahead_limit = env->ahead_bytes != 0 ? env->ahead_bytes : MIN(MAX(share, 4 * MiB), 64 * MiB);
	list_init(&f->lru);
	mtx_init(&f->lock, RANK_CACHE);
	cond_init(&f->changed);
	*ret = f;
	return 0;
}

void fetch_settle(struct fetch *f)
{
	mtx_lock(&f->lock);
	f->settling++;
	cond_broadcast(&f->changed);
	while (f->under_way > 0 || f->filler_runs)
		cond_wait(&f->changed, &f->lock);
	f->settling--;
	mtx_unlock(&f->lock);
}

void fetch_free(struct fetch *f)
{
	struct list drop;

	if (f == NULL)
		return;
	list_init(&drop);
	fetch_settle(f);
	mtx_lock(&f->lock);
	shrink_locked(f, 0, &drop);
	assert(list_empty(&f->lru));
	mtx_unlock(&f->lock);
	(void)free_all(&drop);
	htab_done(&f->objects);
	cond_destroy(&f->changed);
	mtx_destroy(&f->lock);
	free(f);
}

uint64_t fetch_window(const struct fetch *f)
{
	return f->ahead_limit / 2 / SECTOR;
}

struct blkcache *fetch_cache(const struct fetch *f)
{
	return f->env.cache;
}

uint64_t fetch_reclaim(struct fetch *f, uint64_t n)
{
	struct list drop;

	list_init(&drop);
	mtx_lock(&f->lock);
	shrink_locked(f, f->idle - MIN(n, f->idle), &drop);
	mtx_unlock(&f->lock);
	return free_all(&drop);
}

void fetch_stat(struct fetch *f, struct fetch_stat *ret)
{
	mtx_lock(&f->lock);
	*ret = f->stat;
	mtx_unlock(&f->lock);
}
