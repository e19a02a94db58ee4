/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volread.c - reads from the log: through what all images of a mount share (fetch.h), if there is such a thing, with
 * read-ahead along the guest's addresses.
 */
#include "config.h"
#include "blkcache.h"
#include "volume-private.h"
#include <string.h>

enum { PIECES = 64 };

int vol_reads_new(const struct vol_reads *o, struct fetch **ret, struct objerr *err)
{
	struct fetch_env env = {.store = o->store, .budget = o->budget, .pool = o->pool};
	int r = 0;

	if (o->cache != NULL && o->cache_bytes > 0)
		r = blkcache_open(o->cache, o->cache_bytes, NULL, &env.cache);
	if (r < 0)
		objerr_set(err, "%s: no block cache of disk images: %s", o->cache, strerror(-r));
	r = fetch_new(&env, ret);
	if (r < 0)
		blkcache_close(env.cache);
	return r;
}

void vol_reads_settle(struct fetch *f)
{
	if (f != NULL)
		fetch_settle(f);
}

void vol_reads_free(struct fetch *f)
{
	struct blkcache *c = f != NULL ? fetch_cache(f) : NULL;

	fetch_free(f);
	blkcache_close(c);
}

uint64_t vol_reads_reclaim(struct fetch *f, uint64_t n)
{
	return f != NULL ? fetch_reclaim(f, n) : 0;
}

void vol_reads_stat(struct fetch *f, struct vol_reads_stat *ret)
{
	struct blkcache_stat cs = {0};
	struct fetch_stat fs;

	fetch_stat(f, &fs);
	if (fetch_cache(f) != NULL)
		blkcache_stat(fetch_cache(f), &cs);
	*ret = (struct vol_reads_stat){.gets = fs.gets,
				       .ahead = fs.ahead,
				       .memory = fs.bytes,
				       .cache_limit = cs.limit,
				       .cache_used = cs.used,
				       .cache_hits = cs.hits,
				       .cache_misses = cs.misses,
				       .cache_damaged = cs.damaged,
				       .cache_errors = cs.errors,
				       .cache_index = cs.memory};
}

int vol_read_log(struct volume *v, const struct fetch_piece *p, size_t n, struct objerr *err)
{
	int r = 0;

	if (v->env.fetch != NULL)
		return fetch_read(v->env.fetch, v->log, p, n, err);
	for (size_t i = 0; i < n && r == 0; i++) {
		struct log_place at = {p[i].number, p[i].sector};

		r = log_read(v->log, &at, p[i].n, p[i].out, err);
	}
	return r;
}

/* An object that is not durable is not asked for: its bytes are here. */
static bool in_puts_locked(const struct volume *v, uint64_t number)
{
	const struct vol_put *u = v->puts;

	while (u != NULL && u->put.number != number)
		u = u->next;
	return u != NULL;
}

void vol_ahead(struct volume *v, uint64_t lba, uint64_t n)
{
	uint64_t from, len, end, bytes = 0;
	bool go;

	if (v->env.fetch == NULL)
		return;
	mtx_lock(&v->streams);
	go = readahead_note(&v->ahead, lba, n, fetch_window(v->env.fetch), &from, &len);
	mtx_unlock(&v->streams);
	if (!go)
		return;
	end = MIN(from + len, (vol_size(v) + SECTOR - 1) / SECTOR);
	/* Where the log has the image in small pieces, groups bring much that is not asked for: not without bound. */
	while (from < end && bytes < 2 * len * SECTOR) {
		struct em_ext p[PIECES];
		struct fetch_piece want[PIECES];
		struct log_pageref need;
		int k = map_lookup(v->map, from, end - from, false, p, PIECES, &need);
		size_t nwant = 0;

		if (k <= 0)
			return; /* a page of the map is missing: the reader brings it */
		mtx_lock(&v->batch);
		for (int i = 0; i < k; i++)
			if (p[i].kind == EM_LOG && !in_puts_locked(v, p[i].number))
				want[nwant++] =
				    (struct fetch_piece){p[i].number, p[i].sector, (uint32_t)p[i].len, NULL};
		mtx_unlock(&v->batch);
		bytes += fetch_ahead(v->env.fetch, v->log, want, nwant);
		from = p[k - 1].lba + p[k - 1].len;
	}
}
