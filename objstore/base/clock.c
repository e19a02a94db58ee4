/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * clock.c - the one reader of the system's clocks, and the one that a test can replace.
 *
 * While replaced, sleeping means looking at the replacement every millisecond of real time until it has moved on: a
 * test that never advances its clock sleeps for ever, which is what it asked for.
 */
#include "config.h"
#include "clock.h"
#include "clock-private.h"

/* Set by tests before threads start; read everywhere. arg is stored first and read last. */
static _Atomic(void *) fake_arg;
static int64_t (*_Atomic fake_fn)(void *arg);

void clock_replace(int64_t (*fn)(void *arg), void *arg)
{
	fake_arg = arg;
	fake_fn = fn;
}

bool clock_is_replaced(void)
{
	return fake_fn != NULL;
}

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;
	int64_t (*fn)(void *arg) = fake_fn;

	if (fn != NULL)
		return fn(fake_arg);
	if (clock_gettime(id, &ts) != 0)
		abort();
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int64_t clock_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_real_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

struct timespec clock_real_ts(void)
{
	int64_t ns = clock_real_ns();

	return (struct timespec){.tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC};
}

static void real_sleep(int64_t ns)
{
	struct timespec ts = {.tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC};

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
		;
}

void clock_sleep_ns(int64_t ns)
{
	int64_t until;

	if (ns <= 0)
		return;
	if (!clock_is_replaced()) {
		real_sleep(ns);
		return;
	}
	until = clock_now_ns() + ns;
	while (clock_is_replaced() && clock_now_ns() < until)
		real_sleep(NSEC_PER_MSEC);
}

int64_t clock_backoff_ns(unsigned attempt, int64_t base_ns, int64_t max_ns, uint32_t rnd)
{
	int64_t whole = MIN(base_ns, max_ns), half;

	for (unsigned i = 1; i < attempt && whole < max_ns; i++)
		whole = whole > max_ns / 2 ? max_ns : whole * 2;
	half = whole / 2;
	/* (whole - half) * rnd needs 128 bits for long delays. */
	return half + (int64_t)(((unsigned __int128)(whole - half) * rnd) >> 32);
}
