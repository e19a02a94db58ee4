/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * throttle.c - writers pay for their bytes one after the other (throttle.h): `next` is when the last one has paid, a
 * writer goes on when those before it have. A debt of more than a second is forgiven: when the store recovers,
 * nobody sleeps on for what he owed before.
 */
#include "config.h"
#include "throttle.h"
#include "../../objstore/base/clock.h"

/* The rate is a mean over about so long: objects come in at moments, and a dead store's rate fades. */
#define MEAN_NS (10 * NSEC_PER_SEC)
enum { SLOWEST = 128 }; /* of the journal a second */

void throttle_init(struct throttle *t)
{
	*t = (struct throttle){0};
	mtx_init(&t->lock, RANK_CACHE);
	cond_init(&t->changed);
}

void throttle_destroy(struct throttle *t)
{
	cond_destroy(&t->changed);
	mtx_destroy(&t->lock);
}

int64_t throttle_delay_ns(uint64_t n, uint64_t used, uint64_t limit, uint64_t rate)
{
	double d;

	if (used <= limit / 2)
		return 0;
	if (used >= limit)
		return THROTTLE_MAX_NS;
	rate = MAX(MAX(rate, limit / SLOWEST), (uint64_t)1);
	d = (double)n * (double)NSEC_PER_SEC / (double)rate * (double)(used - limit / 2) / (double)(limit - used);
	return d < (double)THROTTLE_MAX_NS ? (int64_t)d : THROTTLE_MAX_NS;
}

/* After dt more nanoseconds in which `bytes` went. A steady stream of r bytes a second gives r. */
static uint64_t mean(uint64_t rate, uint64_t bytes, int64_t dt)
{
	return (uint64_t)(((double)rate * (double)MEAN_NS + (double)bytes * (double)NSEC_PER_SEC) /
			  (double)(MEAN_NS + dt));
}

void throttle_progress(struct throttle *t, uint64_t bytes)
{
	int64_t now = clock_now_ns();

	mtx_lock(&t->lock);
	t->rate = mean(t->rate, bytes, t->last != 0 ? now - t->last : 0);
	t->last = now;
	mtx_unlock(&t->lock);
}

static uint64_t rate_locked(const struct throttle *t, int64_t now)
{
	return t->last != 0 ? mean(t->rate, 0, now - t->last) : 0;
}

bool throttle_holds(uint64_t n, uint64_t used, uint64_t limit)
{
	return n > 0 && used > limit / 2;
}

void throttle_wait(struct throttle *t, uint64_t n, uint64_t used, uint64_t limit)
{
	int64_t now, until;

	if (!throttle_holds(n, used, limit))
		return;
	mtx_lock(&t->lock);
	now = clock_now_ns();
	until = MAX(t->next, now) + throttle_delay_ns(n, used, limit, rate_locked(t, now));
	until = MIN(until, now + THROTTLE_MAX_NS);
	t->next = until;
	t->sleeping++;
	while (!t->stopped && cond_wait_until(&t->changed, &t->lock, until) == 0)
		;
	t->sleeping--;
	mtx_unlock(&t->lock);
}

void throttle_stop(struct throttle *t)
{
	mtx_lock(&t->lock);
	t->stopped = true;
	cond_broadcast(&t->changed);
	mtx_unlock(&t->lock);
}

void throttle_stat(struct throttle *t, struct throttle_stat *ret)
{
	int64_t now = clock_now_ns();

	mtx_lock(&t->lock);
	ret->sleeping = t->sleeping;
	ret->rate = rate_locked(t, now);
	ret->idle_ns = t->last != 0 ? now - t->last : -1;
	mtx_unlock(&t->lock);
}
