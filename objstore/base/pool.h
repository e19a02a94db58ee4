/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * pool.h - bounded worker threads for work that may wait. A job must never wait for another job of the same pool.
 */
#ifndef LSVD_POOL_H
#define LSVD_POOL_H

#include "base.h"

struct pool;

/* Embedded in the caller's work item; the caller owns it again once fn runs. */
struct job {
	struct job *next;
	void (*fn)(struct job *job);
};

/* Threads are started as work comes, at most max_threads, and stay. name shows in /proc. */
int must_check pool_new(const char *name, unsigned max_threads, struct pool **ret);
/* The same; its threads give way to others that want the processor (nice 5: about a third of the others' share). */
int must_check pool_new_nice(const char *name, unsigned max_threads, struct pool **ret);
/* Queues; never blocks, never fails once one thread exists (pool_new starts one). */
void pool_submit(struct pool *p, struct job *job);
/* Runs every queued job to its end, then joins all threads. No submit may follow. NULL is fine. */
void pool_free(struct pool *p);
unsigned pool_busy(struct pool *p); /* running plus queued */

#endif
