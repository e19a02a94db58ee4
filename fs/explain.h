/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * explain.h - words for people: what an error of the store means and what to do, what a store can do and which promise
 * each absence narrows. Pure functions of their arguments.
 */
#ifndef LSVD_EXPLAIN_H
#define LSVD_EXPLAIN_H

#include "objstore/objstore.h"

/*
 * One line for a failed request: "SOURCE: what: what to do". r: negative errno; e: what the store said (may be empty).
 * err may be the same object as e.
 */
void explain_error(const char *source, int r, const struct objerr *e, struct objerr *err);
/* True for failures that a network or server that is still starting explains: what retry= waits for. */
bool explain_waitable(int r);

/* Words for a negative errno; never NULL. */
const char *explain_errno(int r);

/* What a store's manners say about it and no probe can see: one line of promises that it narrows; NULL for none. */
const char *explain_quirks(unsigned quirks);

struct explain_cap {
	unsigned cap;		/* OBJ_CAP_* */
	const char *name;	/* "put-if-match": in status --json */
	const char *what;	/* what the store can do */
	const char *narrowed;	/* what its absence means for users; NULL: for cost only */
	const char *costs;
};
/* OBJ_CAP_EQUAL_PARTS is a demand of the store, no ability: not in the table. */
extern const struct explain_cap explain_caps[];
extern const size_t explain_ncaps;

#endif
