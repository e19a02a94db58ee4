/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgpace.c - what a volume costs and how long it takes, in the simulated world: requests of reads, read-ahead,
 * the block cache; the latencies of writers that are faster than the store, and when the store is away.
 *
 *	unit-imgpace [SEED [COUNT]]	TRACE=1 prints the figures
 */
#include "config.h"
#include "fs/image/volume-private.h"
#include "objstore/base/clock.h"
#include "sim/simnet.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";

static struct {
	struct objstore *shared, *store[3];
	struct simdisk *disk[3];
	struct jdisk jd[3];
	char cache[256];
} S;

static void say(const char *fmt, ...) printf_like(1, 2);
static void say(const char *fmt, ...)
{
	va_list ap;

	if (getenv("TRACE") == NULL)
		return;
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
}

/* A world with one image, as yet empty. */
static void begin(uint64_t size, uint32_t window, uint32_t object)
{
	struct vol_create vc = {.size = size, .window = window, .object_bytes = object};
	struct vol_env env = {.host = "node"};

	memcpy(vc.uuid, uuid, 16);
	sim_check(store_mem_new(&S.shared) == 0, "no store");
	for (int i = 1; i <= 2; i++) {
		sim_check(simnet_store_new(S.shared, i, &S.store[i]) == 0, "no net");
		S.disk[i] = simdisk_new();
		simdisk_jdisk(S.disk[i], &S.jd[i]);
	}
	env.store = S.shared;
	sim_check(vol_create(&env, prefix, &vc, NULL) == 0, "no image");
	simnet = (struct simnet_faults){.latency_ns = 20 * NSEC_PER_MSEC, .timeout_ns = NSEC_PER_SEC, .late_ns = 1};
	simnet_reset();
}

static void open_on(int node, struct pool *pool, struct fetch *f, uint64_t journal, struct volume **ret)
{
	struct vol_env env = {.store = S.store[node],
			      .pool = pool,
			      .fetch = f,
			      .disk = &S.jd[node],
			      .host = "node",
			      .journal_bytes = journal,
			      .segment_bytes = journal / 32,
			      .takeover = VOL_TAKEOVER_ALWAYS};
	struct objerr err = {0};
	int r = vol_open(&env, prefix, uuid, ret, &err);

	sim_check(r == 0, "open gives %d: %s", r, err.msg);
}

/* ---- reads ---- */

enum { IMAGE = 24 << 20 };

static uint32_t stamp_of(uint64_t sector)
{
	return (uint32_t)(sector * 2654435761u + 1);
}

static void read_at(struct volume *v, uint64_t off, size_t n)
{
	static uint8_t buf[1 << 20];
	uint32_t got;

	sim_check(vol_read(v, false, off, buf, n) == (ssize_t)n, "a read fails");
	for (size_t i = 0; i < n; i += SECTOR) {
		memcpy(&got, buf + i, 4);
		sim_check(got == stamp_of((off + i) / SECTOR), "wrong bytes at %" PRIu64, off + i);
	}
}

static void write_all(struct volume *v)
{
	static uint8_t buf[64 * 1024];
	struct iovec iov = {buf, sizeof(buf)};

	for (uint64_t off = 0; off < IMAGE; off += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i += 4) {
			uint32_t stamp = stamp_of((off + i) / SECTOR);

			memcpy(buf + i, &stamp, 4);
		}
		sim_check(vol_write(v, off, &iov, 1, sizeof(buf)) == 0, "a write fails");
	}
	sim_check(vol_flush(v) == 0, "a flush fails");
}

/* GETs that the image's bytes took since `before`. */
static uint64_t gets_since(uint64_t before)
{
	return simnet_count(OBJ_GET) - before;
}

static void cold_reads(struct pool *pool)
{
	struct budget *b;
	struct fetch_env fe = {.store = S.store[2], .pool = pool};
	struct fetch *f;
	struct volume *v;
	uint64_t before;
	int64_t t, one;

	sim_check(budget_new(64 * MiB, &b) == 0, "no budget");
	fe.budget = b;
	sim_check(fetch_new(&fe, &f) == 0, "no fetch");
	open_on(2, pool, f, 4 * MiB, &v);
	/* Random: one GET each. Every group once, in an order that is none. */
	before = simnet_count(OBJ_GET);
	t = clock_now_ns();
	for (uint64_t i = 0; i < 100; i++)
		read_at(v, i * 2654435761u % (IMAGE / 262144) * 262144 + 131072 + i / 96 * 4096, 4096);
	one = (clock_now_ns() - t) / 96;
	sim_check(gets_since(before) == 96, "100 reads of 96 cold groups take %" PRIu64 " GETs", gets_since(before));
	/* In order: in time, and in large requests. */
	ignore(fetch_reclaim(f, UINT64_MAX));
	before = simnet_count(OBJ_GET);
	t = clock_now_ns();
	for (uint64_t off = 0; off < IMAGE; off += 131072)
		read_at(v, off, 131072);
	t = clock_now_ns() - t;
	say("cold: random read %.1f ms; %d MiB in order %.1f ms, %" PRIu64 " GETs\n", (double)one / 1e6, IMAGE >> 20,
	    (double)t / 1e6, gets_since(before));
	/* An object of 1 MiB and its header are 17 groups, and a request brings 16. */
	sim_check(gets_since(before) <= 3 * (IMAGE >> 20), "%d MiB take %" PRIu64 " GETs", IMAGE >> 20,
		  gets_since(before));
	sim_check(t < 20 * one, "reading in order takes as long as %" PRId64 " single reads", t / one);
	sim_check(vol_close(v) == 0, "close fails");
	fetch_free(f);
	sim_check(budget_used(b) == 0, "memory is missing");
	budget_free(b);
}

static struct fetch *cached_fetch(struct pool *pool)
{
	struct vol_reads o = {.store = S.store[1], .pool = pool, .cache = S.cache, .cache_bytes = 256 * MiB};
	struct vol_reads_stat st;
	struct objerr err = {0};
	struct fetch *f;

	sim_check(vol_reads_new(&o, &f, &err) == 0, "no reads");
	vol_reads_stat(f, &st);
	sim_check(st.cache_limit > 200 * MiB, "no cache: %s", err.msg);
	return f;
}

static void reads(void *arg)
{
	struct fetch *f;
	struct pool *pool;
	struct volume *v;
	uint64_t before;

	(void)arg;
	begin(IMAGE, 8, 1 << 20);
	(void)unlink(S.cache);
	sim_check(pool_new("sim", 16, &pool) == 0, "no pool");
	f = cached_fetch(pool);
	open_on(1, pool, f, 64 * MiB, &v);
	vol_begin_write(v);
	write_all(v);
	sim_check(vol_end_write(v) == 0, "it is not released");
	before = simnet_count(OBJ_GET);
	/* What was uploaded is not asked for: now, after settling, after a restart. */
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < 300; i++)
			read_at(v, i * 2654435761u % (IMAGE / 65536) * 65536, 4096);
		for (uint64_t off = 0; off < IMAGE; off += 1 << 20)
			read_at(v, off, 1 << 20);
		sim_check(gets_since(before) == 0, "what was written here takes %" PRIu64 " GETs", gets_since(before));
		fetch_settle(f);
		if (round == 1) {
			sim_check(vol_close(v) == 0, "close fails");
			vol_reads_free(f);
			f = cached_fetch(pool);
			open_on(1, pool, f, 64 * MiB, &v);
			before = simnet_count(OBJ_GET);
		}
	}
	sim_check(vol_close(v) == 0, "close fails");
	vol_reads_free(f);
	(void)unlink(S.cache);
	cold_reads(pool);
}

/* ---- writers ---- */

enum { WRITERS = 4, SAMPLES = 200000 };

static struct {
	struct volume *v;
	int64_t lat[SAMPLES];
	unsigned n, running;
	bool stop;
	int64_t worst;
} P;

static void writer(void *arg)
{
	static uint8_t buf[4096];
	struct iovec iov = {buf, sizeof(buf)};

	(void)arg;
	while (!P.stop) {
		int64_t t = clock_now_ns();

		sim_check(vol_write(P.v, sim_below(16384) * 4096, &iov, 1, 4096) == 0, "a write fails");
		t = clock_now_ns() - t;
		P.worst = MAX(P.worst, t);
		if (P.n < SAMPLES)
			P.lat[P.n++] = t;
	}
	P.running--;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void start(struct pool *pool, uint64_t journal)
{
	begin(64 * MiB, 4, 64 * KiB);
	simnet.latency_ns = 500 * NSEC_PER_MSEC;
	memset(&P, 0, sizeof(P));
	open_on(1, pool, NULL, journal, &P.v);
	vol_begin_write(P.v);
	P.running = WRITERS;
	for (int i = 0; i < WRITERS; i++)
		sim_spawn(1, "writer", writer, NULL);
}

/* Writers twice, ten, a thousand times as fast as the store: their latencies are alike, none sees a stall. */
static void saturated(void *arg)
{
	struct pool *pool;
	struct vol_stat st;
	uint64_t most = 0;

	(void)arg;
	sim_check(pool_new("sim", 16, &pool) == 0, "no pool");
	start(pool, 2 * MiB);
	clock_sleep_ns(60 * NSEC_PER_SEC); /* until it is steady */
	P.n = 0;
	P.worst = 0;
	for (int i = 0; i < 1200; i++) {
		clock_sleep_ns(100 * NSEC_PER_MSEC);
		vol_stat(P.v, &st);
		sim_check(st.waiting == 0, "a writer meets a full journal while the store takes objects: %s", st.why);
		most = MAX(most, st.journal_used);
	}
	sim_check(strstr(st.why, "slowed") != NULL && st.slowed > 0,
		  "nobody says that writes are slowed: '%s'", st.why);
	P.stop = true;
	while (P.running > 0)
		clock_sleep_ns(NSEC_PER_SEC);
	sim_check(P.n > 2000, "%u writes in two minutes", P.n);
	qsort(P.lat, P.n, sizeof(P.lat[0]), by_size);
	say("saturated: %u writes, p1 %.1f p50 %.1f p99 %.1f p99.9 %.1f max %.1f ms; journal up to %" PRIu64
	    " %%; %" PRIu64 " KiB/s\n",
	    P.n, (double)P.lat[P.n / 100] / 1e6, (double)P.lat[P.n / 2] / 1e6, (double)P.lat[P.n * 99ull / 100] / 1e6,
	    (double)P.lat[P.n * 999ull / 1000] / 1e6, (double)P.worst / 1e6, most * 100 / st.journal_limit,
	    st.upload_rate / KiB);
	sim_check(P.lat[P.n * 99ull / 100] < 4 * P.lat[P.n / 2], "p99 is more than four times the median");
	sim_check(P.worst < 10 * P.lat[P.n / 2], "the worst write takes more than ten times the median");
	sim_check(vol_close(P.v) == 0, "close fails");
}

/* The store is away: ever longer latencies, then a wait that says why; and all goes on when it is back. */
static void down(void *arg)
{
	struct pool *pool;
	struct vol_stat st;
	int64_t full_after = 0, before;

	(void)arg;
	sim_check(pool_new("sim", 16, &pool) == 0, "no pool");
	start(pool, 8 * MiB);
	clock_sleep_ns(30 * NSEC_PER_SEC); /* the first writes waited for the claim */
	P.worst = 0;
	simnet.lost = 1000;
	before = clock_now_ns();
	do {
		clock_sleep_ns(NSEC_PER_SEC);
		vol_stat(P.v, &st);
		if (st.waiting == 0)
			sim_check(P.worst <= 2 * THROTTLE_MAX_NS, "a write takes %.1f s before the journal is full",
				  (double)P.worst / 1e9);
		sim_check(clock_now_ns() - before < 3600 * NSEC_PER_SEC, "the journal never fills");
	} while (st.waiting < WRITERS);
	full_after = clock_now_ns() - before;
	say("down: full after %.0f s; %s\n", (double)full_after / 1e9, st.why);
	sim_check(full_after > 15 * NSEC_PER_SEC, "the journal is full after %.1f s", (double)full_after / 1e9);
	sim_check(strstr(st.why, "journal is full") != NULL && st.state == VOL_OWNER, "no reason given: '%s'", st.why);
	clock_sleep_ns(600 * NSEC_PER_SEC);
	simnet.lost = 0;
	clock_sleep_ns(120 * NSEC_PER_SEC);
	vol_stat(P.v, &st);
	sim_check(st.waiting == 0, "writers still wait: %s", st.why);
	P.stop = true;
	while (P.running > 0)
		clock_sleep_ns(NSEC_PER_SEC);
	sim_check(vol_close(P.v) == 0, "close fails");
}

static void scenario(void *arg)
{
	if (sim_seed() % 3 == 1)
		reads(arg);
	else if (sim_seed() % 3 == 2)
		saturated(arg);
	else
		down(arg);
}

/* The function itself. */
static bool curve(void)
{
	const uint64_t limit = GiB, rate = 100 * MiB;
	int64_t last = 0;
	bool ok = throttle_delay_ns(MiB, limit / 2, limit, rate) == 0 && throttle_delay_ns(MiB, 0, limit, rate) == 0 &&
		  throttle_delay_ns(MiB, limit / 4 * 3, limit, rate) == NSEC_PER_SEC / 100 &&
		  throttle_delay_ns(2 * MiB, limit / 4 * 3, limit, rate) == NSEC_PER_SEC / 50 &&
		  throttle_delay_ns(MiB, limit / 4 * 3, limit, rate / 2) == NSEC_PER_SEC / 50 &&
		  throttle_delay_ns(MiB, limit, limit, rate) == THROTTLE_MAX_NS &&
		  throttle_delay_ns(MiB, limit / 4 * 3, limit, 0) == NSEC_PER_SEC / 8;

	for (uint64_t used = limit / 2; used < limit && ok; used += limit / 1000) {
		int64_t d = throttle_delay_ns(4096, used, limit, rate);

		ok = d >= last && (used > limit / 1000 * 990 || d - last < NSEC_PER_SEC / 1000);
		last = d;
	}
	return ok;
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	int status;

	if (!curve()) {
		(void)fprintf(stderr, "throttle_delay_ns() is not what its comment says\n");
		return 1;
	}
	(void)snprintf(S.cache, sizeof(S.cache), "%s/imgpace-%d", tmp != NULL ? tmp : "/tmp", (int)getpid());
	status = sim_main(argc, argv, 9, scenario);
	(void)unlink(S.cache); /* of a seed that failed */
	return status;
}
