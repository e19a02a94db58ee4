/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * simnet.h - what lies between a node and its things: a network that loses, repeats and delays, a disk that forgets.
 */
#ifndef LSVD_SIMNET_H
#define LSVD_SIMNET_H

#include "fs/image/journal.h"
#include "sim.h"

/* Of 1,000 requests that change something ... */
struct simnet_faults {
	unsigned lost_reply; /* the effect is there, the answer is not: -ETIMEDOUT after the time-out */
	unsigned lost;       /* never arrive */
	unsigned late;       /* take effect up to late_ns later; the node heard -ETIMEDOUT long before */
	unsigned twice;      /* take effect a second time, later */
	unsigned busy;       /* 503, 409: -EAGAIN before any effect */
	unsigned broken;     /* 500 after the effect */
	unsigned limbo;      /* of the requests whose node died meanwhile: put off once more, by up to limbo_ns */
	unsigned read_fails; /* of 1,000 reads: -EAGAIN or -ETIMEDOUT */
	int64_t limbo_ns, late_ns, timeout_ns, latency_ns;
};
extern struct simnet_faults simnet;
/* Down: nothing arrives, everybody times out. Denied: changes are answered 403 (-EACCES) before any effect. */
enum simnet_state { SIMNET_UP, SIMNET_DOWN, SIMNET_DENIED };
extern enum simnet_state simnet_state;
/* Sees what the store did, at that moment: node, request, the store's own answer. late: nobody waits for it any more. */
extern void (*simnet_spy)(int node, const struct objreq *req, int status, bool late);

/* Is told before a request leaves its node: it may freeze the node, then the request leaves when that thaws. */
extern void (*simnet_sends)(int node, const struct objreq *req);

/* So much longer does a request take, and its answer; NULL: none does. */
extern int64_t (*simnet_slow)(const struct objreq *req);
/* So much later does it take effect once more; 0: as simnet_faults says. */
extern int64_t (*simnet_repeats)(const struct objreq *req);

/*
 * The way of one node to the shared store (borrowed, all of it, for ever). A node's requests end when it crashes;
 * their effects need not.
 */
int must_check simnet_store_new(struct objstore *shared, int node, struct objstore **ret);
/* Requests of this kind so far, over all nodes. */
uint64_t simnet_count(enum obj_op op);
void simnet_reset(void);
/* Nothing that was sent before may take effect any more: the end of a scenario. */
void simnet_settle(void);

/* A node's directory for journals. dirfd is ignored: there is one directory a disk. */
struct simdisk;
struct simdisk *simdisk_new(void);
void simdisk_jdisk(struct simdisk *d, struct jdisk *ret);
/*
 * A power cut: of what was not synced, each 512 bytes stay or not, as the seed says. Without it (kill -9) nothing is
 * lost.
 */
void simdisk_power_cut(struct simdisk *d);
void simdisk_wipe(struct simdisk *d);
/* `to` becomes what `from` is: a state directory that somebody copied. */
void simdisk_copy(struct simdisk *to, const struct simdisk *from);
/* The n-th sync from now fails with -EIO; 0: none. */
void simdisk_fail_sync(struct simdisk *d, unsigned n);
void simdisk_free(struct simdisk *d);

#endif
