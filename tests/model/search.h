/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * search.h - breadth-first search over all states of a small protocol.
 *
 * A model is a flat state and a function that offers every step out of it. The search visits each state once, asks the
 * model's oracle about it, and stops at the first state or step that breaks a promise: breadth first, so the history
 * it then prints is a shortest one. Visited states are kept as 64-bit fingerprints (of 10^7 states two share one with
 * a chance of 3 in a million: a state would be skipped, never a false alarm raised), whole states only while they wait
 * in the queue.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What may be broken. "None" ends well. */
enum broken {
	B_NONE,
	B_FORK,	     /* the log holds an object of a writer that is not its newest claim's */
	B_ATTACH,    /* an undisturbed attach from one of the two newest marks fails or gives another tail or map */
	B_HOLE,	     /* something that the map reaches does not exist with its first bytes */
	B_SNAPSHOT,  /* a snapshot shows other contents than at its number, or cannot be read */
	B_ROOT,	     /* the owner's own root is gone below its feet */
	B_LOST,	     /* acknowledged as remote, but not in the log */
	B_OWNER,     /* an owner whose claim is not in the log, or whose state is not the log's */
	B_STALE,     /* an attach ended with a state older than its beginning, or none of the log's */
	B_SET_ASIDE, /* a journal whose claim nobody contested was set aside */
	B_REPLAY,    /* a journal was replayed over another node's writes */
	B_CLONE,     /* a clone that can be opened refers to objects that were let go */
	B_COUNT,
};

const char *broken_name(enum broken b);

struct search; /* one run */

struct model {
	size_t size;			      /* of a state; plain bytes without padding */
	void (*first)(void *state);	      /* the state at the beginning */
	void (*expand)(struct search *, const void *state); /* calls search_step for every step */
	enum broken (*oracle)(const void *state);
	void (*canonical)(void *state); /* makes states equal that differ in nothing but names; may be NULL */
	void (*describe)(FILE *, const void *before, unsigned step, const void *after);
};

struct result {
	enum broken broken;
	uint64_t states, steps;
	unsigned depth;
	double seconds; /* of this process's time: other programs on the machine do not count */
	bool full;	/* stopped at the limit: not exhaustive */
};

/* Offers a step. `step` names it: two steps out of one state never have the same number. */
void search_step(struct search *, const void *state, unsigned step, enum broken);

/* 0 or negative errno. A broken promise's history goes to `trace` (NULL: nowhere). */
int search_run(const struct model *, uint64_t max_states, FILE *trace, struct result *ret_result);
