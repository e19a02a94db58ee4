/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * lock.c - ranked mutexes and conditions on the monotonic clock.
 *
 * Debug builds keep, per thread, the mutexes held. Taking one of a rank not above all held ranks aborts with both
 * names; so does unlocking one that the thread does not hold. A wait gives its mutex up for the time of the wait, and
 * taking it back is checked like any lock: waiting while a higher lock is held would be an inversion.
 * RANK_NONE is not checked (tests).
 */
#include "config.h"
#include "lock.h"
#include "clock.h"
#include "clock-private.h"
#include <stdio.h>

#ifdef LSVD_DEBUG
#define HELD_MAX 16
static const char *const rank_name[RANK_MAX] = {
	[RANK_NONE] = "none",	  [RANK_MOUNT] = "mount",   [RANK_RENAME] = "rename",	[RANK_INODES] = "inodes",
	[RANK_FILE] = "file",	  [RANK_HANDLE] = "handle", [RANK_SPOOL] = "spool",	[RANK_SPFILE] = "spfile",
	[RANK_TREE] = "tree",	  [RANK_ATTRDB] = "attrdb", [RANK_VOLUME] = "volume",	[RANK_JOURNAL] = "journal",
	[RANK_BATCH] = "batch",	  [RANK_NUMBERS] = "numbers", [RANK_MAP] = "map",	    [RANK_CACHE] = "cache",	[RANK_POOL] = "pool",
	[RANK_BUDGET] = "budget", [RANK_STORE] = "store",   [RANK_RETRY] = "retry",	[RANK_CREDS] = "creds",
	[RANK_HTTP] = "http",	  [RANK_WAIT] = "wait",	    [RANK_LOG] = "log",
};
static __thread const struct mtx *held[HELD_MAX];
static __thread unsigned nheld;

static _Noreturn void die(const char *what, const struct mtx *m, const struct mtx *other)
{
	fprintf(stderr, "lock: %s: lock %s%s%s\n", what, rank_name[m->rank], other != NULL ? " while holding " : "",
		other != NULL ? rank_name[other->rank] : "");
	abort();
}

static void rank_take(const struct mtx *m)
{
	if (m->rank == RANK_NONE)
		return;
	for (unsigned i = 0; i < nheld; i++)
		if (held[i]->rank >= m->rank)
			die("order violated, taking", m, held[i]);
	if (nheld == HELD_MAX)
		die("too many locks held, taking", m, NULL);
	held[nheld++] = m;
}

static void rank_drop(const struct mtx *m)
{
	unsigned i = nheld;

	if (m->rank == RANK_NONE)
		return;
	while (i > 0 && held[i - 1] != m)
		i--;
	if (i == 0)
		die("not held by this thread", m, NULL);
	for (; i < nheld; i++)
		held[i - 1] = held[i];
	nheld--;
}

void lock_check_free(const char *where)
{
	for (unsigned i = 0; i < nheld; i++)
		if (held[i]->rank > RANK_RENAME)
			die(where, held[i], NULL);
}
#else
void lock_check_free(const char *where) { (void)where; }
static void rank_take(const struct mtx *m) { (void)m; }
static void rank_drop(const struct mtx *m) { (void)m; }
#endif

/* A mutex that fails is broken memory: nothing sensible can follow. */
static void check(int r)
{
	if (r != 0)
		abort();
}

void mtx_init(struct mtx *m, enum lock_rank rank)
{
	m->rank = rank;
	check(pthread_mutex_init(&m->m, NULL));
}

void mtx_destroy(struct mtx *m)
{
	check(pthread_mutex_destroy(&m->m));
}

void mtx_lock(struct mtx *m) LOCK_UNCHECKED
{
	rank_take(m);
	check(pthread_mutex_lock(&m->m));
}

void mtx_unlock(struct mtx *m) LOCK_UNCHECKED
{
	rank_drop(m);
	check(pthread_mutex_unlock(&m->m));
}

void cond_init(struct cond *c)
{
	pthread_condattr_t a;

	check(pthread_condattr_init(&a));
	check(pthread_condattr_setclock(&a, CLOCK_MONOTONIC));
	check(pthread_cond_init(&c->c, &a));
	check(pthread_condattr_destroy(&a));
}

void cond_destroy(struct cond *c)
{
	check(pthread_cond_destroy(&c->c));
}

void cond_wait(struct cond *c, struct mtx *m)
{
	rank_drop(m);
	rank_take(m);
	check(pthread_cond_wait(&c->c, &m->m));
}

static int timedwait(struct cond *c, struct mtx *m, int64_t until_ns)
{
	struct timespec ts = {.tv_sec = until_ns / NSEC_PER_SEC, .tv_nsec = until_ns % NSEC_PER_SEC};
	int r = pthread_cond_timedwait(&c->c, &m->m, &ts);

	if (r != 0 && r != ETIMEDOUT)
		abort();
	return -r;
}

int cond_wait_until(struct cond *c, struct mtx *m, int64_t deadline_ns)
{
	struct timespec ts;
	int r;

	rank_drop(m);
	rank_take(m);
	if (!clock_is_replaced())
		return timedwait(c, m, MAX(deadline_ns, 0));
	/* A replaced clock wakes nobody: look at it every millisecond. A wake-up may be spurious, as always. */
	if (clock_now_ns() >= deadline_ns)
		return -ETIMEDOUT;
	check(clock_gettime(CLOCK_MONOTONIC, &ts));
	r = timedwait(c, m, ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec + NSEC_PER_MSEC);
	if (r == -ETIMEDOUT && clock_now_ns() < deadline_ns)
		r = 0;
	return r;
}

void cond_signal(struct cond *c)
{
	check(pthread_cond_signal(&c->c));
}

void cond_broadcast(struct cond *c)
{
	check(pthread_cond_broadcast(&c->c));
}
