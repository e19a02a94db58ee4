/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-blkcache.c - the block cache: what it gives is right or nothing, whatever happens to its file.
 *
 * Objects are made from their number, so that every hit can be checked: the stored groups of object n of log u are
 * what logobj_encode() makes of bytes that u and n determine.
 */
#include "config.h"
#include "fs/image/blkcache.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { OBJECTS = 60, ALL = 160, GROUPS = 3, SLOTS = 64, BODY = 2 * 65536 + 3 * 4096 + 512, LIMIT = 8 << 20 };

static uint64_t seed = 1;
static char path[256];

static uint64_t rnd(uint64_t *state, uint64_t n)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (*state >> 16) % n;
}

/* ---- objects ---- */

struct object {
	uint8_t uuid[16];
	uint64_t number;
	uint8_t *stored;
	size_t len;
	uint32_t sectors;
} obj[ALL]; /* those behind OBJECTS: for a scan */

static void make(struct object *o, int i)
{
	struct log_extent x = {.lba = 8, .len = BODY / SECTOR, .kind = EXT_DATA};
	struct logobj h = {.type = LOG_DATA, .number = (uint64_t)i / 2 + 1, .window = 16, .extents = &x, .nextents = 1};
	uint8_t *body = malloc(BODY);
	struct iovec iov = {body, BODY};
	uint64_t s = (uint64_t)i * 77 + 5;
	void *p = NULL;

	assert_non_null(body);
	for (size_t k = 0; k < BODY; k++)
		body[k] = (uint8_t)rnd(&s, 256);
	memset(h.uuid, i % 2, 16); /* two logs with the same numbers */
	assert_int_equal(logobj_encode(&h, &iov, 1, &p, &o->len, NULL), 0);
	o->stored = p;
	memcpy(o->uuid, h.uuid, 16);
	o->number = h.number;
	o->sectors = (BODY + LOG_BLOCK) / SECTOR;
	free(body);
}

static bool put(struct blkcache *c, const struct object *o, uint32_t group)
{
	size_t at = (size_t)group * LOG_STRIDE;

	return blkcache_put(c, o->uuid, o->number, group, o->stored + at, MIN((size_t)LOG_STRIDE, o->len - at));
}

static bool has_read(struct blkcache *c, const struct object *o, uint32_t sector, uint32_t n)
{
	uint8_t out[LOG_GROUP];

	if (!blkcache_read(c, o->uuid, o->number, sector, n, out))
		return false;
	if (memcmp(out, o->stored + (size_t)sector * SECTOR + sector / 128 * LOG_TRAILER, n * SECTOR) != 0)
		fail_msg("seed %lu: wrong bytes of object %lu, sector %u", seed, o->number, sector);
	return true;
}

static uint32_t group_sectors(const struct object *o, uint32_t g)
{
	return MIN(128u, o->sectors - g * 128);
}

/* ---- a disk that fails ---- */

static struct {
	unsigned fail; /* of 1,000 calls */
	int error;
	uint64_t state, avail, total;
	unsigned allocated;
} D;

static bool fails(void)
{
	return D.fail > 0 && rnd(&D.state, 1000) < D.fail;
}

static int d_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
	(void)ctx;
	return fails() ? -EIO : base_pread_all(fd, p, n, off);
}

static int d_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
	(void)ctx;
	if (!fails())
		return base_pwrite_all(fd, p, n, off);
	ignore(base_pwrite_all(fd, p, n / 2, off)); /* torn */
	return D.error;
}

static int d_allocate(void *ctx, int fd, uint64_t off, uint64_t len)
{
	(void)ctx;
	D.allocated++;
	return fails() ? D.error : ftruncate(fd, (off_t)(off + len)) < 0 ? -errno : 0;
}

static int d_space(void *ctx, int fd, uint64_t *ret_free, uint64_t *ret_total)
{
	(void)ctx;
	(void)fd;
	*ret_free = D.avail;
	*ret_total = D.total;
	return 0;
}

static const struct blkdisk disk = {NULL, d_pread, NULL, d_pwrite, d_allocate, d_space, 1};

static struct blkcache *start(void)
{
	struct blkcache *c = NULL;

	D.avail = D.total = 1000 * GiB;
	assert_int_equal(blkcache_open(path, LIMIT, &disk, &c), 0);
	return c;
}

static struct blkcache *afresh(void)
{
	D.fail = 0;
	D.state = seed * 31 + 1;
	(void)unlink(path);
	return start();
}

/* ---- tests ---- */

static void some_ops(struct blkcache *c, uint64_t *state, int n, unsigned *ret_hits)
{
	for (int i = 0; i < n; i++) {
		struct object *o = &obj[rnd(state, OBJECTS)];
		uint32_t g = (uint32_t)rnd(state, GROUPS), have = group_sectors(o, g),
			 from = (uint32_t)rnd(state, have);

		switch (rnd(state, 8)) {
		case 0:
		case 1:
			(void)put(c, o, g);
			break;
		case 2:
			if (rnd(state, 8) == 0)
				blkcache_forget(c, o->uuid, o->number, GROUPS);
			break;
		default:
			*ret_hits += has_read(c, o, g * 128 + from, 1 + (uint32_t)rnd(state, have - from));
		}
	}
}

/* What was put is there, until something else needs its slot; what was forgotten is not. */
static void test_random(void **arg)
{
	(void)arg;
	for (seed = 1; seed <= 20; seed++) {
		struct blkcache *c = afresh();
		uint64_t state = seed;
		struct blkcache_stat st;
		unsigned hits = 0;

		some_ops(c, &state, 2000, &hits);
		for (int i = 0; i < 200; i++) {
			struct object *o = &obj[rnd(&state, OBJECTS)];
			uint32_t g = (uint32_t)rnd(&state, GROUPS);

			assert_true(put(c, o, g));
			assert_true(blkcache_has(c, o->uuid, o->number, g));
			assert_true(has_read(c, o, g * 128, group_sectors(o, g)));
			blkcache_forget(c, o->uuid, o->number, g + 1);
			assert_false(blkcache_has(c, o->uuid, o->number, g));
			assert_false(has_read(c, o, g * 128, 1));
		}
		blkcache_stat(c, &st);
		assert_true(hits > 100 && st.evictions > 0 && st.damaged == 0 && st.errors == 0);
		assert_true(st.used <= st.limit && st.limit == SLOTS * (uint64_t)LOG_GROUP);
		assert_true(st.memory <= SLOTS * (size_t)(BLKCACHE_INDEX_BYTES + BLKCACHE_SUMS_BYTES) + 512);
		blkcache_close(c);
	}
}

static void test_restart(void **arg)
{
	(void)arg;
	for (seed = 1; seed <= 10; seed++) {
		struct blkcache *c = afresh();
		uint64_t state = seed;
		bool there[OBJECTS][GROUPS];
		unsigned hits = 0;

		some_ops(c, &state, 1000, &hits);
		/* Forgotten entries may come back: they are useless, not wrong. */
		for (int i = 0; i < OBJECTS; i++)
			for (uint32_t g = 0; g < GROUPS; g++)
				there[i][g] = blkcache_has(c, obj[i].uuid, obj[i].number, g);
		blkcache_close(c);
		c = start();
		for (int i = 0; i < OBJECTS; i++)
			for (uint32_t g = 0; g < GROUPS; g++)
				if (there[i][g])
					assert_true(has_read(c, &obj[i], g * 128, 1));
		some_ops(c, &state, 1000, &hits);
		blkcache_close(c);
	}
}

/* The object's end within a group: what is behind it is a miss, and so is a group cut short at put. */
static void test_edges(void **arg)
{
	struct blkcache *c = afresh();
	struct object *o = &obj[3];
	uint8_t out[LOG_GROUP];

	(void)arg;
	assert_false(blkcache_put(c, o->uuid, o->number, 0, o->stored, LOG_STRIDE - 1));
	assert_false(blkcache_put(c, o->uuid, o->number, 1, o->stored, LOG_STRIDE));     /* another group */
	assert_false(blkcache_put(c, o->uuid, o->number + 1, 0, o->stored, LOG_STRIDE)); /* another object */
	assert_false(blkcache_put(c, obj[2].uuid, o->number, 0, o->stored, LOG_STRIDE)); /* another log */
	assert_true(put(c, o, 2));
	assert_true(has_read(c, o, 256, group_sectors(o, 2)));
	assert_true(has_read(c, o, o->sectors - 1, 1));
	assert_false(blkcache_read(c, o->uuid, o->number, 256, group_sectors(o, 2) + 1, out));
	blkcache_close(c);
	/* A file that is something else; one that cannot be. */
	assert_int_equal(truncate(path, 100), 0);
	c = start();
	assert_true(put(c, o, 0) && has_read(c, o, 0, 128));
	blkcache_close(c);
	assert_int_equal(blkcache_open("/proc/nothing/here", LIMIT, NULL, &c), -ENOENT);
}

/* Bits flipped, slots swapped and zeroed, the end cut off - at rest and in use: right bytes or none. */
static void swap(int fd, off_t x, off_t y, size_t n)
{
	static uint8_t a[LOG_GROUP], b[LOG_GROUP];

	if (pread(fd, a, n, x) != (ssize_t)n || pread(fd, b, n, y) != (ssize_t)n)
		return; /* behind the end */
	assert_int_equal(pwrite(fd, a, n, y), n);
	assert_int_equal(pwrite(fd, b, n, x), n);
}

static void damage(uint64_t *state)
{
	int fd = open(path, O_RDWR);
	uint8_t a[4096];
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	for (int i = 0; i < 60; i++) {
		off_t x = (off_t)rnd(state, (uint64_t)st.st_size - 4096),
		      y = (off_t)rnd(state, (uint64_t)st.st_size - 4096);
		size_t n = 1 + rnd(state, 4095);

		switch (rnd(state, 4)) {
		case 0: /* entries */
			x = 4096 + (off_t)rnd(state, 8192);
			n = 1;
			/* fall through */
		case 1:
			assert_int_equal(pread(fd, a, n, x), n);
			a[rnd(state, n)] ^= (uint8_t)(1 << rnd(state, 8));
			assert_int_equal(pwrite(fd, a, n, x), n);
			break;
		case 2: /* entries change places, or slots with their content: all of it valid, elsewhere */
			x = (off_t)rnd(state, 64);
			y = (off_t)rnd(state, 64);
			swap(fd, 4096 + x * 128, 4096 + y * 128, 128);
			if (i % 4 != 0)
				swap(fd, 12288 + x * LOG_GROUP, 12288 + y * LOG_GROUP, LOG_GROUP);
			break;
		default:
			swap(fd, x, y, n);
		}
	}
	if (rnd(state, 4) == 0)
		assert_int_equal(ftruncate(fd, (off_t)rnd(state, (uint64_t)st.st_size)), 0);
	(void)close(fd);
}

static void test_damage(void **arg)
{
	uint64_t damaged = 0, hits = 0;

	(void)arg;
	for (seed = 1; seed <= 30; seed++) {
		struct blkcache *c = afresh();
		uint64_t state = seed;
		struct blkcache_stat st;
		unsigned n = 0;

		some_ops(c, &state, 500, &n);
		for (int round = 0; round < 4; round++) {
			bool stop = rnd(&state, 2) == 0;

			if (stop)
				blkcache_close(c);
			damage(&state);
			if (stop)
				c = start();
			some_ops(c, &state, 300, &n);
			for (int i = 0; i < OBJECTS; i++)
				for (uint32_t g = 0; g < GROUPS; g++)
					hits += has_read(c, &obj[i], g * 128, group_sectors(&obj[i], g));
			blkcache_stat(c, &st);
			damaged += st.damaged;
		}
		blkcache_close(c);
	}
	assert_true(damaged > 100 && hits > 1000);
}

/* EIO, ENOSPC, torn writes: misses, and right again afterwards. */
static void test_errors(void **arg)
{
	uint64_t errors = 0;

	(void)arg;
	for (seed = 1; seed <= 20; seed++) {
		struct blkcache *c = afresh();
		uint64_t state = seed;
		struct blkcache_stat st;
		unsigned hits = 0, again = 0;

		D.error = seed % 2 == 0 ? -EIO : -ENOSPC;
		D.fail = 30;
		some_ops(c, &state, 2000, &hits);
		blkcache_close(c);
		c = NULL;
		D.fail = 300;
		for (int i = 0; c == NULL && i < 100; i++)
			(void)!blkcache_open(path, LIMIT, &disk, &c);
		assert_non_null(c);
		some_ops(c, &state, 500, &hits);
		blkcache_stat(c, &st);
		errors += st.errors; /* none where the first was a disk that is full: then nothing is tried */
		D.fail = 0;
		some_ops(c, &state, 6000, &again); /* patience runs out, and it fills */
		assert_true(again > 100);
		blkcache_close(c);
	}
	assert_true(errors > 20);
}

/* A sixteenth of the disk stays free; where nothing may grow, nothing is kept, and no call fails. */
static void test_space(void **arg)
{
	struct blkcache *c = afresh();
	struct blkcache_stat st;
	int n = 0;

	(void)arg;
	D.avail = D.total / 16;
	D.allocated = 0;
	for (int i = 0; i < OBJECTS; i++)
		n += put(c, &obj[i], 0);
	blkcache_stat(c, &st);
	assert_int_equal(n + (int)D.allocated + (int)st.used, 0);
	D.avail = D.total;
	for (int i = 0; i < 2000; i++)
		n += put(c, &obj[i % OBJECTS], 0);
	assert_true(n > 0 && D.allocated == 1);
	blkcache_close(c);
}

/* A few groups that are read again and again outlive a scan many times as large as the cache. */
static void test_scan(void **arg)
{
	struct blkcache *c = afresh();
	int there = 0;

	(void)arg;
	for (int i = 0; i < 20; i++)
		assert_true(put(c, &obj[i], 0));
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 20; i++)
			assert_true(has_read(c, &obj[i], 64 + (uint32_t)round * 8, 8));
	/* The scan reads each group once, 4 KiB at a time from its start on: one use. */
	for (int i = 0; i < 1200; i++) {
		struct object *s = &obj[OBJECTS + i % 100];
		uint32_t g = (uint32_t)(i / 100) % 2;

		assert_true(put(c, s, g));
		for (uint32_t b = 0; b < 128; b += 8)
			assert_true(has_read(c, s, g * 128 + b, 8));
		for (int k = 0; k < 20 && i % 60 == 0; k++)
			(void)has_read(c, &obj[k], (uint32_t)(i / 60 % 15) * 8 + 8, 8);
	}
	for (int i = 0; i < 20; i++)
		there += blkcache_has(c, obj[i].uuid, obj[i].number, 0);
	assert_int_equal(there, 20);
	blkcache_close(c);
}

struct worker {
	struct blkcache *c;
	uint64_t state;
	unsigned hits;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	some_ops(w->c, &w->state, 6000, &w->hits);
	return NULL;
}

static void test_threads(void **arg)
{
	struct blkcache *c = afresh();
	struct worker w[4];
	struct blkcache_stat st;
	pthread_t t[4];

	(void)arg;
	/* The second time the file has its size: while one thread waited for that, the others had no slots. */
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 4; i++) {
			w[i] = (struct worker){c, (uint64_t)i + 100, 0};
			assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
		}
		for (int i = 0; i < 4; i++) {
			assert_int_equal(pthread_join(t[i], NULL), 0);
			assert_true(w[i].hits > 500 || round == 0);
		}
	}
	blkcache_stat(c, &st);
	assert_int_equal(st.damaged, 0); /* no slot was reused under a reader */
	blkcache_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random), cmocka_unit_test(test_restart), cmocka_unit_test(test_edges),
	    cmocka_unit_test(test_damage), cmocka_unit_test(test_errors),  cmocka_unit_test(test_space),
	    cmocka_unit_test(test_scan),   cmocka_unit_test(test_threads),
	};
	const char *tmp = getenv("TMPDIR");
	int r;

	(void)snprintf(path, sizeof(path), "%s/blkcache-%d", tmp != NULL ? tmp : "/tmp", (int)getpid());
	for (int i = 0; i < ALL; i++)
		make(&obj[i], i);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(path);
	for (int i = 0; i < ALL; i++)
		free(obj[i].stored);
	return r;
}
