/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * faultstore.h - a store for tests that wraps another and goes wrong on purpose, by seed or on demand.
 */
#ifndef LSVD_TEST_FAULTSTORE_H
#define LSVD_TEST_FAULTSTORE_H

#include "objstore/objstore.h"

enum fault {
	FAULT_NONE,
	FAULT_BEFORE,	/* fails, and nothing happened */
	FAULT_AFTER,	/* it happened, and the reply is lost: fails all the same */
	FAULT_LATE,	/* answers rightly, on another thread, after submit has returned */
	FAULT_TRUNCATE, /* GET: the body is cut short on the way (-EBADMSG); others: as FAULT_BEFORE */
	FAULT_N
};

int must_check faultstore_new(struct objstore *take_inner, unsigned seed, struct objstore **ret);
/* Each request has the fault with this chance in 1000 (of any operation). */
void faultstore_odds(struct objstore *s, enum fault what, unsigned per_mille);
/* The next request of this operation (after those asked for before) has this fault, with this status and HTTP code. */
void faultstore_next(struct objstore *s, enum obj_op op, enum fault what, int status, int http);
/* The request number n from now (0 = the next) fails before its effect with status; to walk through a scenario. */
void faultstore_fail_at(struct objstore *s, unsigned n, int status);
/* Called before each request reaches the wrapped store; may use that store (another writer). */
void faultstore_hook(struct objstore *s, void (*fn)(void *arg, struct objreq *req), void *arg);
/* Requests seen so far: of one operation, or of all (OBJ_NOPS). */
unsigned faultstore_seen(struct objstore *s, enum obj_op op);

#endif
