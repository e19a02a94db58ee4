/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * budget.c - one ceiling over all buffers, served in order of arrival.
 *
 * Takers queue: only the head of the queue may take, so that a large one is not starved by a stream of small ones, and
 * budget_try() fails while anybody waits. Before it sleeps, the head asks the reclaimer (unlocked); while it sleeps it
 * asks again every RECLAIM_NS, because data becomes reclaimable without anybody giving bytes back.
 *
 * Invariant: used + kept <= total, but for one taker above the ceiling, which holds its bytes alone. Kept buffers are
 * nobody's: they go before a taker waits, and when nothing is in use any more.
 */
#include "config.h"
#include "budget.h"
#include "clock.h"
#include "lock.h"
#include "table.h"
#include <string.h>

#define RECLAIM_NS (50 * NSEC_PER_MSEC)
#define KEEP_BUFS 16
#define KEEP_MIN (256 * KiB)
#ifdef __SANITIZE_ADDRESS__
#define KEEP_MAX UINT64_C(0) /* a kept buffer would hide a use after free */
#else
#define KEEP_MAX (16 * MiB)
#endif

struct budget {
	struct mtx lock;     /* RANK_BUDGET */
	struct cond changed; /* bytes came back or the head left: signalled by give and by leaving takers */
	uint64_t total;	     /* set at the start */
	/* under lock */
	uint64_t used, peak;
	struct {
		void *p;
		size_t n;
	} keep[KEEP_BUFS];   /* the oldest first */
	unsigned nkeep;
	uint64_t kept;	     /* bytes of them */
	struct list waiters; /* in order of arrival */
	uint64_t (*reclaim)(void *arg, uint64_t n);
	void *reclaim_arg;
};

int budget_new(uint64_t bytes, struct budget **ret)
{
	struct budget *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return -ENOMEM;
	mtx_init(&b->lock, RANK_BUDGET);
	cond_init(&b->changed);
	list_init(&b->waiters);
	b->total = bytes;
	*ret = b;
	return 0;
}

void budget_free(struct budget *b)
{
	if (b == NULL)
		return;
	assert(b->used == 0 && list_empty(&b->waiters));
	cond_destroy(&b->changed);
	mtx_destroy(&b->lock);
	free(b);
}

static bool fits_locked(const struct budget *b, uint64_t n)
{
	if (n > b->total)
		return b->used == 0;
	return b->used <= b->total && n <= b->total - b->used;
}

static void *unkeep_locked(struct budget *b, unsigned i)
{
	void *p = b->keep[i].p;

	b->kept -= b->keep[i].n;
	b->nkeep--;
	memmove(&b->keep[i], &b->keep[i + 1], (b->nkeep - i) * sizeof(b->keep[0]));
	return p;
}

static void drop_kept_locked(struct budget *b, uint64_t most)
{
	while (b->nkeep > 0 && b->kept > most)
		free(unkeep_locked(b, 0));
}

static void take_locked(struct budget *b, uint64_t n)
{
	b->used += n;
	b->peak = MAX(b->peak, b->used);
	drop_kept_locked(b, b->total - MIN(b->used, b->total));
}

void budget_take(struct budget *b, uint64_t n)
{
	struct list me;

	mtx_lock(&b->lock);
	list_add_tail(&b->waiters, &me);
	while (b->waiters.next != &me || !fits_locked(b, n)) {
		uint64_t (*fn)(void *arg, uint64_t n) = b->reclaim;
		void *arg = b->reclaim_arg;

		if (b->waiters.next != &me) {
			cond_wait(&b->changed, &b->lock);
			continue;
		}
		if (fn != NULL) {
			uint64_t want = n > b->total ? b->used : n - (b->total - MIN(b->used, b->total));

			mtx_unlock(&b->lock);
			uint64_t freed = fn(arg, want);
			mtx_lock(&b->lock);
			if (freed > 0)
				continue;
		}
		if (!fits_locked(b, n))
			(void)cond_wait_until(&b->changed, &b->lock, clock_now_ns() + RECLAIM_NS);
	}
	list_del(&me);
	take_locked(b, n);
	cond_broadcast(&b->changed);
	mtx_unlock(&b->lock);
}

bool budget_try(struct budget *b, uint64_t n)
{
	bool ok;

	mtx_lock(&b->lock);
	ok = list_empty(&b->waiters) && fits_locked(b, n);
	if (ok)
		take_locked(b, n);
	mtx_unlock(&b->lock);
	return ok;
}

void budget_give(struct budget *b, uint64_t n)
{
	mtx_lock(&b->lock);
	assert(n <= b->used);
	b->used -= n;
	if (b->used == 0)
		drop_kept_locked(b, 0);
	cond_broadcast(&b->changed);
	mtx_unlock(&b->lock);
}

void *budget_buf(struct budget *b, size_t n)
{
	void *p = NULL;

	mtx_lock(&b->lock);
	for (unsigned i = b->nkeep; i-- > 0 && p == NULL;)
		if (b->keep[i].n == n)
			p = unkeep_locked(b, i);
	mtx_unlock(&b->lock);
	return p != NULL ? p : malloc(n > 0 ? n : 1);
}

void budget_buf_free(struct budget *b, void *p, size_t n)
{
	mtx_lock(&b->lock);
	if (p != NULL && n >= KEEP_MIN && n <= KEEP_MAX && b->used > n && b->used <= b->total) {
		drop_kept_locked(b, KEEP_MAX - n);
		if (b->nkeep == KEEP_BUFS)
			free(unkeep_locked(b, 0));
		b->keep[b->nkeep].p = p;
		b->keep[b->nkeep++].n = n;
		b->kept += n;
		p = NULL;
	}
	mtx_unlock(&b->lock);
	free(p);
	budget_give(b, n);
}

uint64_t budget_kept(struct budget *b)
{
	uint64_t n;

	mtx_lock(&b->lock);
	n = b->kept;
	mtx_unlock(&b->lock);
	return n;
}

uint64_t budget_used(struct budget *b)
{
	uint64_t n;

	mtx_lock(&b->lock);
	n = b->used;
	mtx_unlock(&b->lock);
	return n;
}

uint64_t budget_peak(struct budget *b)
{
	uint64_t n;

	mtx_lock(&b->lock);
	n = b->peak;
	mtx_unlock(&b->lock);
	return n;
}

uint64_t budget_total(struct budget *b)
{
	return b->total;
}

void budget_set_reclaim(struct budget *b, uint64_t (*fn)(void *arg, uint64_t n), void *arg)
{
	mtx_lock(&b->lock);
	b->reclaim = fn;
	b->reclaim_arg = arg;
	mtx_unlock(&b->lock);
}
