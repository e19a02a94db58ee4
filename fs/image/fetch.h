/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fetch.h - bytes of log objects for readers: from memory, from the block cache, from the store by as few and as
 * parallel ranged GETs as they take. One for all images of a mount.
 *
 * What is in memory are *chunks*: runs of whole groups of one object, on their way or here. Two readers of one group
 * share its GET; read-ahead and what was just uploaded are chunks that nobody waits for. With a block cache a chunk
 * moves there as soon as it is here, so that an idle mount holds none; without one the newest stay.
 *
 * Memory of chunks is the budget's. Read-ahead and uploads only take what is free.
 */
#ifndef LSVD_IMAGE_FETCH_H
#define LSVD_IMAGE_FETCH_H

#include "log.h"

struct fetch;
struct blkcache;
struct pool;

/* Borrowed for the life of the fetch. budget, cache, pool may be NULL; the pool is for writing to the cache. */
struct fetch_env {
	struct objstore *store;
	struct budget *budget;
	struct pool *pool;
	struct blkcache *cache;
	uint64_t ahead_bytes; /* of all that nobody waits for; 0: 1/8 of the budget, 4 to 64 MiB */
};
int must_check fetch_new(const struct fetch_env *env, struct fetch **ret);
/* Waits for what is under way. Nobody may be in. NULL is fine. */
void fetch_free(struct fetch *f);

struct fetch_piece {
	uint64_t number;
	uint32_t sector, n; /* of the object's content */
	void *out;          /* n sectors */
};
/*
 * All pieces, verified, in parallel; waits. l says where objects lie, and asks once more for what did not come:
 * errors are those of log_read().
 */
int must_check fetch_read(struct fetch *f, struct log *l, const struct fetch_piece *p, size_t n, struct objerr *err);
/* One piece, if the block cache has it and its disk need not be asked; -EAGAIN. */
int must_check fetch_read_now(struct fetch *f, struct log *l, const struct fetch_piece *p);
/* Begins to fetch what is not here (out is not looked at), as far as memory goes. Waits for nothing. Returns bytes. */
uint64_t fetch_ahead(struct fetch *f, struct log *l, const struct fetch_piece *p, size_t n);
/* A whole stored object that is in the log now: the next to be read. Takes bytes (malloc). Waits for nothing. */
void fetch_keep(struct fetch *f, const uint8_t uuid[16], uint64_t number, void *take_bytes, size_t len);
/* The object was deleted: nothing of it need be kept. sectors: of its content. */
void fetch_forget(struct fetch *f, const uint8_t uuid[16], uint64_t number, uint32_t sectors);
/* Sectors that one stream may have ahead. */
uint64_t fetch_window(const struct fetch *f);
/* Gives up about n bytes that nobody waits for; returns how many. For budget_set_reclaim(). */
uint64_t fetch_reclaim(struct fetch *f, uint64_t n);
struct blkcache *fetch_cache(const struct fetch *f);
/* Waits until nothing is under way, and everything that is here is in the block cache, if it can be. */
void fetch_settle(struct fetch *f);

struct fetch_stat {
	uint64_t chunks, bytes; /* in memory now */
	uint64_t gets, ahead;   /* requests; those of read-ahead among them */
	uint64_t shared;        /* parts of reads that found their group in memory or on its way */
	uint64_t failed;        /* chunks that did not come or did not verify */
};
void fetch_stat(struct fetch *f, struct fetch_stat *ret);

#endif
