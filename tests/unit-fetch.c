/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-fetch.c - reads of log objects: how many requests they take, what many threads see while the store answers
 * late, fails or lies and memory is short; and the detection of sequential streams.
 */
#include "config.h"
#include "faultstore.h"
#include "fs/image/blkcache.h"
#include "fs/image/fetch.h"
#include "fs/image/readahead.h"
#include "objstore/base/pool.h"
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { OBJECTS = 12, DATA = 3 * 1024 * 1024 + 4096 + 512, FIRST = LOG_BLOCK / SECTOR };

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";
static uint64_t seed = 1;
static char cache_path[256];

static struct {
	struct objstore *store;
	struct log *log;
	struct budget *budget;
	struct pool *pool;
	struct blkcache *cache;
	struct fetch *f;
	uint8_t *data[OBJECTS]; /* of number i + 1 */
	_Atomic uint64_t gets, bytes;
} W;

static uint64_t rnd(uint64_t *state, uint64_t n)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (*state >> 16) % n;
}

static void key_of(uint64_t number, char out[256])
{
	(void)snprintf(out, 256, "%s%016" PRIx64, prefix, number);
}

static void encode(int i, void **ret, size_t *ret_len)
{
	struct log_extent x = {.lba = 8, .len = DATA / SECTOR, .kind = EXT_DATA};
	struct logobj h = {
	    .type = LOG_DATA, .number = (uint64_t)i + 1, .window = 16, .extents = &x, .nextents = 1, .epoch = 1};
	struct iovec iov = {W.data[i], DATA};

	memcpy(h.uuid, uuid, 16);
	assert_int_equal(logobj_encode(&h, &iov, 1, ret, ret_len, NULL), 0);
}

static void count(void *arg, struct objreq *req)
{
	(void)arg;
	if (req->op == OBJ_GET) {
		W.gets++;
		W.bytes += req->len;
	}
}

static void begin(bool cache, uint64_t budget, uint64_t ahead)
{
	struct objstore *mem;
	struct log_at at = {.prefix = prefix, .host = "h"};
	struct fetch_env env = {.ahead_bytes = ahead};
	uint64_t s = seed;

	assert_int_equal(store_mem_new(&mem), 0);
	assert_int_equal(faultstore_new(mem, (unsigned)seed, &W.store), 0);
	faultstore_hook(W.store, count, NULL);
	at.store = W.store;
	memcpy(at.uuid, uuid, 16);
	assert_int_equal(log_open(&at, &W.log), 0);
	for (int i = 0; i < OBJECTS; i++) {
		char key[256];
		void *p;
		size_t n;

		W.data[i] = malloc(DATA);
		assert_non_null(W.data[i]);
		for (size_t k = 0; k < DATA; k += 8) {
			uint64_t v = rnd(&s, UINT64_MAX);

			memcpy(W.data[i] + k, &v, 8);
		}
		encode(i, &p, &n);
		key_of((uint64_t)i + 1, key);
		assert_int_equal(obj_put(W.store, key, p, n, NULL, false, NULL, NULL, NULL), 0);
		free(p);
	}
	assert_int_equal(budget_new(budget, &W.budget), 0);
	assert_int_equal(pool_new("fetch", 4, &W.pool), 0);
	W.cache = NULL;
	(void)unlink(cache_path);
	if (cache)
		assert_int_equal(blkcache_open(cache_path, 256 * MiB, NULL, &W.cache), 0);
	env.store = W.store;
	env.budget = W.budget;
	env.pool = W.pool;
	env.cache = W.cache;
	assert_int_equal(fetch_new(&env, &W.f), 0);
	W.gets = W.bytes = 0;
}

static void end(void)
{
	fetch_free(W.f);
	assert_int_equal(budget_used(W.budget), 0);
	budget_free(W.budget);
	pool_free(W.pool);
	blkcache_close(W.cache);
	log_close(W.log);
	obj_close(W.store);
	for (int i = 0; i < OBJECTS; i++)
		free(W.data[i]);
}

/* One piece of data, compared. */
static int read_one(uint64_t number, uint32_t data_sector, uint32_t n)
{
	uint8_t *out = malloc((size_t)n * SECTOR);
	struct fetch_piece p = {number, data_sector + FIRST, n, out};
	struct objerr err;
	int r;

	assert_non_null(out);
	r = fetch_read(W.f, W.log, &p, 1, &err);
	if (r == 0)
		assert_memory_equal(out, W.data[number - 1] + (size_t)data_sector * SECTOR, (size_t)n * SECTOR);
	free(out);
	return r;
}

/* 4 KiB cold: one GET of one group. 1 MiB in a row: one GET. Here: none. */
static void test_counts(void **arg)
{
	uint8_t *out = malloc(4 * MiB);
	struct fetch_piece p[4];

	(void)arg;
	begin(false, 64 * MiB, 0);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(read_one(1, i * 256 + 8, 8), 0);
		assert_int_equal(W.gets, i + 1);
		assert_int_equal(W.bytes, (i + 1) * (uint64_t)LOG_STRIDE);
	}
	assert_int_equal(read_one(1, 8, 100), 0); /* the same group */
	assert_int_equal(W.gets, 20);
	assert_int_equal(read_one(2, 5, 2048), 0);
	assert_int_equal(W.gets, 21);
	/* Four places of two objects, three of them in neighbouring groups. */
	for (int i = 0; i < 4; i++)
		p[i] = (struct fetch_piece){i < 3 ? 3 : 4, FIRST + (uint32_t)i * 128, 8, out + i * 4096};
	assert_int_equal(fetch_read(W.f, W.log, p, 4, NULL), 0);
	assert_int_equal(W.gets, 23);
	for (int i = 0; i < 4; i++)
		assert_memory_equal(out + i * 4096, W.data[i < 3 ? 2 : 3] + (size_t)i * 65536, 4096);
	/* The end of an object, within a group. */
	assert_int_equal(read_one(5, DATA / SECTOR - 9, 9), 0);
	assert_int_equal(W.gets, 24);
	free(out);
	end();
}

static void restart(void)
{
	struct fetch_env env = {.store = W.store, .budget = W.budget, .pool = W.pool};

	fetch_settle(W.f);
	fetch_free(W.f);
	blkcache_close(W.cache);
	assert_int_equal(blkcache_open(cache_path, 256 * MiB, NULL, &W.cache), 0);
	env.cache = W.cache;
	assert_int_equal(fetch_new(&env, &W.f), 0);
}

/* With a block cache nothing stays in memory, nothing is asked for twice, not even after a restart. */
static void test_cache(void **arg)
{
	struct fetch_stat st;
	void *p;
	size_t n;

	(void)arg;
	begin(true, 64 * MiB, 0);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 20; i++)
			assert_int_equal(read_one(1 + i % 3, i * 256 + 8, 300), 0);
		assert_int_equal(W.gets, 20);
		fetch_settle(W.f);
		fetch_stat(W.f, &st);
		assert_int_equal(st.chunks, 0);
		assert_int_equal(budget_used(W.budget), 0);
		if (round == 1)
			restart();
	}
	/* What was uploaded is here at once, and later. */
	encode(6, &p, &n);
	fetch_keep(W.f, uuid, 7, p, n);
	assert_int_equal(read_one(7, 0, DATA / SECTOR), 0);
	restart();
	assert_int_equal(read_one(7, 0, DATA / SECTOR), 0);
	assert_int_equal(W.gets, 20);
	fetch_forget(W.f, uuid, 7, FIRST + DATA / SECTOR);
	assert_int_equal(read_one(7, 0, 8), 0);
	assert_int_equal(W.gets, 21);
	/* A cache whose file is gone bad is none. */
	fetch_settle(W.f);
	assert_int_equal(truncate(cache_path, 0), 0);
	assert_int_equal(read_one(1, 8, 300), 0);
	assert_true(W.gets > 21);
	end();
}

/* What is damaged, cut off or missing is named, and nobody keeps it. */
static void test_bad(void **arg)
{
	struct fetch_piece x;
	struct objerr err;
	char key[256];
	uint8_t out[4096], *p;
	void *q;
	size_t n;

	(void)arg;
	begin(true, 64 * MiB, 0);
	encode(0, &q, &n);
	p = q;
	p[LOG_STRIDE + 5000] ^= 1;
	key_of(1, key);
	assert_int_equal(obj_put(W.store, key, p, n, NULL, false, NULL, NULL, NULL), 0);
	x = (struct fetch_piece){1, 128 + 8, 8, out};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fetch_read(W.f, W.log, &x, 1, &err), -EUCLEAN);
		assert_non_null(strstr(err.msg, "0000000000000001"));
		fetch_settle(W.f);
	}
	assert_int_equal(read_one(1, 128 + 8, 8), 0); /* its neighbour in the group */
	p[LOG_STRIDE + 5000] ^= 1;
	assert_int_equal(obj_put(W.store, key, p, n, NULL, false, NULL, NULL, NULL), 0);
	assert_int_equal(read_one(1, 128, 100), 0);
	assert_int_equal(obj_put(W.store, key, p, LOG_STRIDE * 3, NULL, false, NULL, NULL, NULL), 0);
	assert_int_equal(read_one(1, 256, 8), 0);
	x = (struct fetch_piece){1, 512, 8, out};
	assert_int_equal(fetch_read(W.f, W.log, &x, 1, &err), -EUCLEAN);
	x = (struct fetch_piece){99, 512, 8, out};
	assert_int_equal(fetch_read(W.f, W.log, &x, 1, &err), -ENOENT);
	fetch_ahead(W.f, W.log, &x, 1);
	/* A request that fails is sent again. */
	faultstore_next(W.store, OBJ_GET, FAULT_BEFORE, -EAGAIN, 503);
	assert_int_equal(read_one(2, 0, 8), 0);
	faultstore_next(W.store, OBJ_GET, FAULT_TRUNCATE, -EBADMSG, 200);
	assert_int_equal(read_one(3, 0, 3000), 0);
	free(q);
	end();
}

/* Read-ahead: few large requests, none twice, not more memory than it may have. */
static void test_ahead(void **arg)
{
	struct fetch_piece p = {1, FIRST, DATA / SECTOR, NULL}, q = {2, FIRST, DATA / SECTOR, NULL};
	struct fetch_stat st;
	uint64_t n;

	(void)arg;
	begin(false, 64 * MiB, 5 * MiB);
	assert_true(fetch_ahead(W.f, W.log, &p, 1) >= DATA);
	assert_int_equal(W.gets, 1);
	(void)fetch_ahead(W.f, W.log, &q, 1);
	fetch_stat(W.f, &st);
	assert_true(st.bytes <= 5 * MiB && W.gets < 2);
	for (uint32_t s = 0; s < DATA / SECTOR; s += 256)
		assert_int_equal(read_one(1, s, MIN(256u, DATA / SECTOR - s)), 0);
	fetch_stat(W.f, &st);
	assert_int_equal(W.gets, st.ahead);
	/* What was read makes room. */
	(void)fetch_ahead(W.f, W.log, &q, 1);
	for (uint32_t s = 0; s < DATA / SECTOR; s += 256)
		assert_int_equal(read_one(2, s, MIN(256u, DATA / SECTOR - s)), 0);
	assert_true(W.gets <= 3);
	n = W.gets;
	assert_true(fetch_ahead(W.f, W.log, &p, 1) >= DATA);
	assert_int_equal(fetch_ahead(W.f, W.log, &p, 1), 0);
	assert_int_equal(read_one(1, 100, 3000), 0);
	assert_true(W.gets <= n + 1);
	assert_true(fetch_reclaim(W.f, UINT64_MAX) > 0);
	assert_int_equal(budget_used(W.budget), 0);
	end();
}

/* ---- many threads ---- */

struct worker {
	uint64_t state;
	unsigned failed, reads;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	static __thread uint8_t out[8][300 * SECTOR];

	for (int i = 0; i < 150; i++) {
		struct fetch_piece p[8];
		size_t n = 1 + rnd(&w->state, 8);
		int r;

		for (size_t k = 0; k < n; k++) {
			p[k].number = 1 + rnd(&w->state, OBJECTS);
			p[k].n = 1 + (uint32_t)rnd(&w->state, 300);
			p[k].sector = FIRST + (uint32_t)rnd(&w->state, DATA / SECTOR - p[k].n);
			p[k].out = out[k];
		}
		if (rnd(&w->state, 4) == 0) {
			(void)fetch_ahead(W.f, W.log, p, n);
			continue;
		}
		if (rnd(&w->state, 40) == 0)
			fetch_forget(W.f, uuid, p[0].number, FIRST + DATA / SECTOR);
		r = fetch_read(W.f, W.log, p, n, NULL);
		w->reads++;
		w->failed += r < 0;
		for (size_t k = 0; k < n && r == 0; k++)
			if (memcmp(out[k], W.data[p[k].number - 1] + (size_t)(p[k].sector - FIRST) * SECTOR,
				   (size_t)p[k].n * SECTOR) != 0)
				abort();
	}
	return NULL;
}

static void run_threads(bool cache, uint64_t budget, unsigned late, unsigned fails)
{
	enum { N = 6 };
	struct worker w[N];
	pthread_t t[N];

	begin(cache, budget, 0);
	faultstore_odds(W.store, FAULT_LATE, late);
	faultstore_odds(W.store, FAULT_TRUNCATE, fails);
	for (int i = 0; i < N; i++) {
		w[i] = (struct worker){.state = seed * 100 + (uint64_t)i};
		assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < N; i++) {
		assert_int_equal(pthread_join(t[i], NULL), 0);
		assert_int_equal(w[i].failed, 0);
	}
	end();
}

static void test_threads(void **arg)
{
	(void)arg;
	run_threads(false, 64 * MiB, 500, 0);
	run_threads(true, 64 * MiB, 500, 20);
}

/* Readers that together want many times what there is: each waits its turn, none for ever. */
static void test_short_memory(void **arg)
{
	(void)arg;
	run_threads(false, 300 * KiB, 500, 10);
	run_threads(true, 300 * KiB, 500, 10);
}

static pthread_barrier_t barrier;

static void *read_together(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; n <= OBJECTS; n++)
		for (uint32_t s = 0; s + 128 < DATA / SECTOR; s += 128) {
			(void)pthread_barrier_wait(&barrier);
			assert_int_equal(read_one(n, s, 8), 0);
		}
	return NULL;
}

/* Readers of one group at one time share its GET. */
static void test_together(void **arg)
{
	enum { N = 6 };
	pthread_t t[N];

	(void)arg;
	begin(false, 256 * MiB, 0);
	faultstore_odds(W.store, FAULT_LATE, 300);
	assert_int_equal(pthread_barrier_init(&barrier, NULL, N), 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_together, NULL), 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_int_equal(W.gets, OBJECTS * ((DATA / SECTOR - 1) / 128));
	(void)pthread_barrier_destroy(&barrier);
	end();
}

/* ---- streams ---- */

static void test_streams(void **arg)
{
	struct readahead ra = {0};
	uint64_t state = 7, lba, n, asked[4] = {0}, got[4] = {0};

	(void)arg;
	for (int i = 0; i < 200000; i++) /* random 4 KiB of 100 GiB */
		assert_false(readahead_note(&ra, rnd(&state, 26214400) * 8, 8, 65536, &lba, &n));
	for (int i = 20000; i-- > 0;) /* backwards */
		assert_false(readahead_note(&ra, (uint64_t)i * 8, 8, 65536, &lba, &n));
	/* Four streams among random reads, each a little out of order; each is asked for once, gaplessly, in time. */
	for (uint64_t i = 0; i < 8000; i++) {
		uint64_t k = rnd(&state, 4), base = (k + 1) << 32, at = got[k] ^ (got[k] > 16 ? 1 : 0);

		if (rnd(&state, 3) == 0) {
			assert_false(readahead_note(&ra, (1ull << 40) + rnd(&state, 1u << 30) * 8, 8, 65536, &lba, &n));
			continue;
		}
		got[k]++;
		if (readahead_note(&ra, base + at * 8, 8, 65536, &lba, &n)) {
			if (asked[k] != 0)
				assert_int_equal(lba, asked[k]);
			assert_true(lba >= base + at * 8 && n <= 65536);
			asked[k] = lba + n;
		}
		if (got[k] > 16)
			assert_true(asked[k] >= base + got[k] * 8);
	}
	for (int k = 0; k < 4; k++)
		assert_true(asked[k] - ((uint64_t)(k + 1) << 32) - got[k] * 8 <= 65536);
	/* The window grows by doubling, up to the limit. */
	memset(&ra, 0, sizeof(ra));
	for (uint64_t i = 0, window = 0, wins = 0; i < 100; i++)
		if (readahead_note(&ra, i * 256, 256, 8192, &lba, &n)) {
			uint64_t ahead = lba + n - (i + 1) * 256;

			assert_true(i >= 2 && (window == 0 ? ahead == 512 : ahead == MIN(2 * window, 8192ull)));
			window = ahead;
			assert_true(++wins < 60);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_counts),   cmocka_unit_test(test_cache),   cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_ahead),    cmocka_unit_test(test_threads), cmocka_unit_test(test_short_memory),
	    cmocka_unit_test(test_together), cmocka_unit_test(test_streams),
	};
	const char *tmp = getenv("TMPDIR");
	int r;

	(void)snprintf(cache_path, sizeof(cache_path), "%s/fetch-%d", tmp != NULL ? tmp : "/tmp", (int)getpid());
	r = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(cache_path);
	return r;
}
