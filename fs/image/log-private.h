/* SPDX-License-Identifier: GPL-3.0-or-later */
/* log-private.h - the state of a log, shared by log.c, logwalk.c, logclaim.c, logput.c and logread.c. */
#ifndef LSVD_IMAGE_LOG_PRIVATE_H
#define LSVD_IMAGE_LOG_PRIVATE_H

#include "log.h"
#include "rules.h"
#include "../../objstore/base/lock.h"
#include "../../objstore/base/pool.h"

enum log_state { LOG_DETACHED, LOG_READER, LOG_OWNER, LOG_FENCED };

struct log {
	struct objstore *store; /* set at the start, as all up to the lock */
	char *prefix, *host;
	uint8_t uuid[16];
	struct pool *pool;
	void (*on_committed)(void *arg);
	void (*on_fenced)(void *arg);
	void *watch_arg;

	struct mtx lock;      /* RANK_NUMBERS, all below */
	struct cond progress; /* low, state, stopping, under_way or resending changed */
	enum log_state state;
	bool stopping, broken;
	struct log_view view;
	uint64_t covers; /* numbers below it are in the tree that the last walk built on */
	struct log_origin *origins; /* from the create record; paths resolved to whole prefixes */
	size_t norigins;
	int64_t looked_at; /* when a look said that the mark of the last walk was the newest; 0: it was not */
	unsigned lost_races; /* claims that found their number taken, since the last success */
	bool based;          /* log_set_base() */
	uint64_t base;
	/* OWNER */
	uint64_t low, next; /* [low, next) have been given; low is not durable */
	uint64_t below;     /* FENCED: the winner's claim was made on top of all numbers below it; 0: not known */
	unsigned reserved, under_way;
	bool durable[LOG_W_MAX]; /* by number modulo W */
	struct log_put *again;   /* failed, to be sent again */
	bool resending;
	struct job resend;
	char why[256];
};

void log_key(const char *prefix, uint64_t number, char out[OBJ_KEY_MAX + 1]);
/* obj_do with a few more tries; for requests that may simply be sent again. Waits. */
int must_check log_do(struct log *l, struct objreq *req);
/* Requests that are under way together, and one thread that waits until none is. log.c */
struct log_batch {
	struct mtx lock; /* RANK_WAIT */
	struct cond done;
	unsigned left;
};
void log_batch_init(struct log_batch *b);
void log_batch_destroy(struct log_batch *b);
void log_batch_submit(struct log_batch *b, struct objstore *store, struct objreq *req); /* takes its done and priv */
void log_batch_wait(struct log_batch *b);
/* Whether sending the same again may help. */
bool log_transient(int status);
/* The two newest marks; 0: none. */
int must_check log_look(struct log *l, uint64_t *ret_newest, uint64_t *ret_before, struct objerr *err);
/*
 * Looks again: is m no longer the newest mark (follower: nor the second)? Not: is m still there; a late PUT may bring
 * back what was deleted.
 */
int must_check log_look_again(struct log *l, uint64_t m, bool follower, bool *ret_moved, struct objerr *err);
void log_fence_locked(struct log *l, const struct logobj *winner);
/*
 * Creates an object under its number, whatever it takes: 0 it is there with exactly these bytes; -EEXIST somebody
 * else's is (winner, may be NULL, is its peeked header); -ESHUTDOWN. Step 3.1.
 */
int must_check log_create_object(struct log *l, uint64_t number, void *bytes, size_t len, uint32_t crc,
				 const struct log_nonce *nonce, struct logobj *winner);
/* A walk's outcome goes here. */
void log_see_locked(struct log *l, const struct logobj *o);

#endif
