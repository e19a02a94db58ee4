/* SPDX-License-Identifier: GPL-3.0-or-later */
/* clock.h - time. Tests replace the clock; nothing else in the tree calls clock_gettime or sleeps. */
#ifndef LSVD_CLOCK_H
#define LSVD_CLOCK_H

#include "base.h"
#include <time.h>

int64_t clock_now_ns(void);          /* monotonic */
int64_t clock_real_ns(void);         /* wall clock since the epoch */
struct timespec clock_real_ts(void); /* the same as timespec */
void clock_sleep_ns(int64_t ns);

/*
 * Delay before try number `attempt` (1 = first retry): base_ns doubled each time up to max_ns, then jittered to
 * [half, whole]. `rnd` is a random word from the caller, so that a seeded test repeats.
 */
int64_t clock_backoff_ns(unsigned attempt, int64_t base_ns, int64_t max_ns, uint32_t rnd);

/* Tests: replaces both clocks by fn(arg) (NULL restores). */
void clock_replace(int64_t (*fn)(void *arg), void *arg);

#endif
