/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fetch-private.h - chunks, shared by fetch.c (their life) and fetchread.c (readers). */
#ifndef LSVD_IMAGE_FETCH_PRIVATE_H
#define LSVD_IMAGE_FETCH_PRIVATE_H

#include "blkcache.h"
#include "fetch.h"
#include "../../objstore/base/lock.h"
#include "../../objstore/base/pool.h"
#include "../../objstore/base/table.h"

enum { GROUP_SECTORS = LOG_GROUP / SECTOR };

enum chunk_state {
	FLIGHT, /* asked for; nobody but the store touches buf */
	READY,
	BAD, /* did not come: in no list any more */
};
struct chunk {
	struct hnode node; /* in f->objects, by (uuid, number), while `listed` */
	struct list lru;
	struct fetch *f;
	uint8_t uuid[16];
	uint64_t number;
	uint32_t first, end; /* groups */
	enum chunk_state state;
	bool listed;
	bool ahead;                  /* and not all of what was wanted has been read */
	uint32_t want, read;         /* sectors */
	bool tried, filling, filled; /* the block cache */
	bool kept;                   /* buf is malloc's */
	int64_t since;               /* it was listed */
	unsigned users;              /* readers that wait for it or copy from it */
	void *buf;
	size_t len, got; /* charged; there */
	struct objreq req;
	char key[OBJ_KEY_MAX + 1];
};

struct fetch {
	struct fetch_env env; /* set at the start, as all up to the lock */
	uint64_t ahead_limit;

	struct mtx lock;     /* RANK_CACHE, all below */
	struct cond changed; /* a chunk came, the filler ended */
	struct htab objects;
	struct list lru;      /* of all listed chunks, the newest last */
	uint64_t idle, ahead; /* bytes of listed chunks: that nobody uses; of read-ahead */
	unsigned under_way;   /* requests */
	unsigned waiting;     /* readers, for memory: nothing idle stays */
	unsigned settling;    /* those who wait until all is in the block cache */
	bool filler_runs;
	struct job filler;
	struct fetch_stat stat;
};

/* A chunk of groups [first, first + 1) of an object; the caller lets it grow before it is sent. NULL: no memory. */
struct chunk *chunk_new(struct fetch *f, const uint8_t uuid[16], const char *prefix, uint64_t number, uint32_t first);
/* Not listed, nobody uses it: gives its memory back. */
void chunk_free(struct chunk *c);
/* Its bytes were taken from the budget. false: no memory; they were given back. */
bool must_check chunk_buffer(struct chunk *c);
void chunk_list_locked(struct chunk *c);
void chunk_submit(struct chunk *c, enum obj_prio prio);
struct chunk *chunk_find_locked(struct fetch *f, const uint8_t uuid[16], uint64_t number, uint32_t group);
void chunk_use_locked(struct chunk *c);
/* Its user read so many sectors. The caller passes what it returns to chunk_free(). */
struct chunk *must_check chunk_leave_locked(struct chunk *c, uint32_t sectors);
void chunk_drop_locked(struct chunk *c); /* out of the lists */
/* n bytes of the budget for a reader who uses no chunk, however long it takes. */
void chunk_wait_budget(struct fetch *f, uint64_t n);
bool must_check chunk_room(struct fetch *f, uint64_t n); /* whether read-ahead may take n bytes more */
static inline size_t chunk_bytes(const struct chunk *c)
{
	return (size_t)(c->end - c->first) * LOG_STRIDE;
}

#endif
