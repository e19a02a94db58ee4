/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * lock.h - mutexes that know their order.
 *
 * A thread takes locks in rising rank only. Debug builds (configure --enable-debug) keep the held ranks of each thread
 * and abort on a lower or equal one, which finds an inversion even when the second order never interleaves.
 * Nothing is held across submit, a FUSE reply or a notify, unless the comment at the lock says why.
 *
 * `make check-locks` has clang look at every path: what is locked is unlocked, and a wait holds its lock. A function that
 * is entered with a lock and lets go of it meanwhile says REQUIRES.
 */
#ifndef LSVD_LOCK_H
#define LSVD_LOCK_H

#include "base.h"
#include <pthread.h>

enum lock_rank {
	RANK_NONE = 0,
	RANK_MOUNT,   /* fs: life of the mount, list of sessions */
	RANK_RENAME,  /* fs: directory renames under way (read-write, see fs/rename.c) */
	RANK_INODES,  /* fs: the nodeid and name tables */
	RANK_FILE,    /* fs: one inode's file state: handles, base version, dirty state */
	RANK_HANDLE,  /* fs: read windows of one handle */
	RANK_SPOOL,   /* fs: list of spool files */
	RANK_SPFILE,  /* fs: one spool file: ranges, parts, journal */
	RANK_TREE,    /* meta: listing states */
	RANK_ATTRDB,  /* meta: the SQLite connection */
	RANK_VOLUME,  /* image: volume state */
	RANK_JOURNAL, /* image: journal append order */
	RANK_BATCH,   /* image: the open batch */
	RANK_MAP,     /* image: the map */
	RANK_NUMBERS, /* image: numbers of the log, the window */
	RANK_CACHE,   /* block cache, prefetched chunks */
	RANK_POOL,    /* base: pool queue */
	RANK_BUDGET,  /* base: memory budget */
	RANK_STORE,   /* objstore: state of one store */
	RANK_RETRY,   /* objstore: back-off state and timer */
	RANK_CREDS,   /* objstore: credentials */
	RANK_HTTP,    /* objstore: submission queue of the curl thread */
	RANK_WAIT,    /* objstore: one synchronous waiter */
	RANK_LOG,     /* base: log sink */
	RANK_MAX
};

#ifdef LSVD_CHECK_LOCKS
#define LOCK_ATTR(x) __attribute__((x))
#else
#define LOCK_ATTR(x)
#endif
#define REQUIRES(l) LOCK_ATTR(requires_capability(l))	/* the caller holds l, before and after */
#define LOCK_UNCHECKED LOCK_ATTR(no_thread_safety_analysis)

struct LOCK_ATTR(capability("mutex")) mtx {
	pthread_mutex_t m;
	enum lock_rank rank;
};

/* Condition on the monotonic clock; name it for its event and say at the field who signals it. */
struct cond {
	pthread_cond_t c;
};

#define MTX_INIT(r) { PTHREAD_MUTEX_INITIALIZER, (r) }

void mtx_init(struct mtx *m, enum lock_rank rank);
void mtx_destroy(struct mtx *m);
void mtx_lock(struct mtx *m) LOCK_ATTR(acquire_capability(*m));
void mtx_unlock(struct mtx *m) LOCK_ATTR(release_capability(*m));
/* Debug builds: aborts when the thread holds a lock that must not be held over a wait (any above RANK_RENAME). */
void lock_check_free(const char *where);

void cond_init(struct cond *c);
void cond_destroy(struct cond *c);
void cond_wait(struct cond *c, struct mtx *m) REQUIRES(*m);
/* Waits until signalled or until deadline_ns (clock_now_ns()). Returns 0 or -ETIMEDOUT. */
int cond_wait_until(struct cond *c, struct mtx *m, int64_t deadline_ns) REQUIRES(*m);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

#endif
