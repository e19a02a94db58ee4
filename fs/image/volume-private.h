/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volume-private.h - the state of a volume, shared by volume.c (life), volattach.c (from log and journal to a map),
 * volio.c and volread.c (reads and writes), volput.c (batches to objects, checkpoints).
 *
 * Locks, in order: lock (life, who is in) -> the journal's -> batch -> the map's -> the log's. A batch is closed, and
 * an object sealed, under `batch`, in the order of the journal: so an object's journal sequence says exactly which
 * writes it and those before it hold.
 */
#ifndef LSVD_IMAGE_VOLUME_PRIVATE_H
#define LSVD_IMAGE_VOLUME_PRIVATE_H

#include "journal.h"
#include "fetch.h"
#include "log.h"
#include "map.h"
#include "readahead.h"
#include "throttle.h"
#include "volume.h"
#include "../../objstore/base/lock.h"
#include "../../objstore/base/pool.h"

enum { VOL_DIGEST_EVERY = 32, VOL_CLOSED_MAX = 4096, VOL_RMAX = 65536 };

/* An object that has its number and is not durable yet: readers find its bytes here. */
struct vol_put {
	struct log_put put; /* first */
	struct volume *v;
	struct vol_put *next;
	uint64_t jseq;
	bool ready;       /* its bytes are there */
	uint64_t charged; /* bytes of the budget */
};

struct volume {
	struct vol_env env; /* set at the start, as all up to the lock */
	char *prefix;
	uint8_t uuid[16];
	struct log *log;
	struct map *map;
	int dirfd; /* of the journal; -1 with env.disk */
	uint64_t batch_bytes;

	struct mtx lock;     /* RANK_VOLUME */
	struct cond changed; /* state, users, sharers, claiming */
	enum vol_state state;
	unsigned writers; /* writable handles */
	unsigned shared;  /* writes under way */
	bool exclusive;   /* one that must be alone: parts of sectors, growth, resize */
	bool claiming;
	struct journal *journal; /* there once owner; stays until the volume goes */
	char why[256];

	struct mtx batch; /* RANK_BATCH */
	struct cond work; /* the uploader has something to do, or did it */
	uint64_t jseq;    /* of the last record in the map */
	uint64_t size;    /* bytes, as readers see it */
	uint64_t closed_jseq[VOL_CLOSED_MAX], closed_size[VOL_CLOSED_MAX]; /* ring, with the map's closed batches */
	size_t nclosed, closed_at;
	int64_t dirty_since;  /* of the open batch; 0: empty */
	uint64_t sealed_jseq; /* of the last object that was sealed */
	struct vol_put *puts; /* not durable, any order */
	struct {
		uint64_t number, jseq;
	} done[LOG_W_MAX]; /* by number modulo W */
	bool up, up_stop;  /* the uploader runs; shall end */
	bool broken;       /* the map could not take a record: memory */
	struct job uploader;
	/* what checkpoints need, under batch */
	struct log_checkpoint
	    ck; /* of the current tree; its lists are owned here */
	size_t capdigests, capclaims, capsnaps;
	struct log_effect *effect; /* of the numbers since digest_end, copied */
	size_t neffects, capeffects;
	uint64_t digest_end;
	uint64_t
	    mark_wanted; /* number of a checkpoint whose mark was not answered: until then no other begins; 0: none */
	uint64_t last_checkpoint;
	uint64_t sealed, sealed_size; /* the last number that was sealed; the image's size then */
	uint64_t trim_number, trim_jseq, trimmed_jseq;

	struct mtx streams; /* RANK_CACHE */
	struct readahead ahead;
	struct throttle pace; /* of writers */
};

void vol_fail(struct volume *v, enum vol_state s, const char *fmt, ...) printf_like(3, 4);
/* Waits until a writable handle's I/O may go on: owner. -EBUSY, -EIO, -EROFS. */
int must_check vol_own(struct volume *v);
extern const struct log_walker vol_walker;                                   /* arg NULL: copy and set it */
void vol_forget_log(struct volume *v);                                       /* frees effects and lists */
int must_check vol_add_effect(struct volume *v, const struct log_effect *e); /* deep copy; batch held or alone */
int must_check vol_append_u64(uint64_t **v, size_t *n, size_t *cap, uint64_t x);
/* From a journal's record to pending; under batch, in sequence. */
int must_check vol_take_record_locked(struct volume *v, enum jtype type, uint64_t seq, uint64_t off, uint64_t len,
				      uint64_t where);
int must_check vol_close_batch_locked(struct volume *v);
void vol_start_uploader(struct volume *v);
void vol_stop_uploader(struct volume *v);
/* Everything that is in the map now gets its number, and is durable. -EIO. */
int must_check vol_drain(struct volume *v);
/* Pieces of objects that are durable. -ENOENT, -EUCLEAN as log_read(). */
int must_check vol_read_log(struct volume *v, const struct fetch_piece *p, size_t n, struct objerr *err);
/* A read of these sectors is about to happen: fetches what will come next. Waits for nothing. */
void vol_ahead(struct volume *v, uint64_t lba, uint64_t n);
int must_check vol_fetch_page(struct volume *v, const struct log_pageref *need);
void vol_on_committed(void *arg);
void vol_on_fenced(void *arg);

#endif
