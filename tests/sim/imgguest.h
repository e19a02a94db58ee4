/* SPDX-License-Identifier: GPL-3.0-or-later */
/* imgguest.h - a daemon with its guest on a node of imgscene.c: opens an image, writes and reads, closes. */
#ifndef LSVD_IMGGUEST_H
#define LSVD_IMGGUEST_H

#include "imgscene.h"

struct guest {
	int node;
	struct image *img;
	bool erases;       /* deletes the image */
	bool snaps;        /* makes snapshots, and what goes with them */
	bool reader;       /* follows, never claims */
	bool released;     /* takes only what was released, and waits for that */
	bool remote;       /* of the image */
	bool *copied;      /* the node's directory once was a copy */
	bool *sync_failed; /* its disk fails, or failed */
	int cache;         /* descriptor of its block cache's file; -1: it has none */
	bool gone_back;    /* the bucket lost what this node knows to be there */
	bool busy;         /* keeps the end of the log moving */
	uint64_t busy_ns;  /* ... so often */
	unsigned groups, pace, longest;
	int64_t nap_from, nap_until; /* it writes nothing then */
	const struct vol_env *env;
	/* out */
	bool done;
	struct volume *v;  /* while it is open */
	struct session *s; /* while it owns it */
	/* private */
	const struct session *floor_of;
	uint32_t floor, seen;
	bool peer_runs, peer_stop;
};
void guest_main(void *arg);

/* ---- imgsnaps.c ---- */
/* One that will be a cut of the line from here on. alone: nobody writes meanwhile. */
struct snap *snap_begin(struct guest *g, bool alone);
int must_check snap_put(struct guest *g, struct snap *k);
/* What an owner does once in a while; a way back ends its session. */
int must_check snaps_op(struct guest *g);
void snaps_follow(struct guest *g);
/* The list, and `reads` of 4 of what it has. */
int must_check snaps_look(struct guest *g, unsigned reads);
void guest_erase(struct guest *g, struct vol_env *env);

#endif
