/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * throttle.h - the pace of an image's writers when the store is slower than they are.
 *
 * Each byte costs	(used - limit/2) / (limit - used) / rate	seconds
 * of the journal's bytes and the rate at which the store takes objects: nothing up to half full; at three quarters
 * just as long as its upload, so that there the journal fills no more; without bound as it gets full. So writers that
 * are too fast meet latencies that grow smoothly towards the store's pace, not a wall that they run into once for
 * each segment. The fill is what is controlled: a rate that is wrong by some factor moves the balance a little, no
 * more. A store that is down lets the rest of the journal fill ever more slowly.
 */
#ifndef LSVD_IMAGE_THROTTLE_H
#define LSVD_IMAGE_THROTTLE_H

#include "../../objstore/base/lock.h"

#define THROTTLE_MAX_NS NSEC_PER_SEC /* no write is held back for longer; behind that is the journal's own wall */

struct throttle {
	struct mtx lock;     /* RANK_CACHE, all below */
	struct cond changed; /* stopped */
	uint64_t rate;       /* bytes a second, as of `last` */
	int64_t last;        /* the store took something; 0: not yet */
	int64_t next;        /* when all bytes admitted so far have been paid for */
	unsigned sleeping;
	bool stopped;
};
void throttle_init(struct throttle *t);
void throttle_destroy(struct throttle *t);
/* The store took so many bytes. */
void throttle_progress(struct throttle *t, uint64_t bytes);
/* Whether throttle_wait() would sleep. */
bool throttle_holds(uint64_t n, uint64_t used, uint64_t limit);
/* Before a write of n bytes into a journal that is used to so many bytes of its limit. Sleeps. */
void throttle_wait(struct throttle *t, uint64_t n, uint64_t used, uint64_t limit);
void throttle_stop(struct throttle *t); /* nobody sleeps any more */
struct throttle_stat {
	unsigned sleeping;
	uint64_t rate;   /* bytes a second */
	int64_t idle_ns; /* since the store took something; -1: never did */
};
void throttle_stat(struct throttle *t, struct throttle_stat *ret);

/* The function above, for n bytes; THROTTLE_MAX_NS at most. rate: a 128th of the journal a second at least. */
int64_t throttle_delay_ns(uint64_t n, uint64_t used, uint64_t limit, uint64_t rate);

#endif
