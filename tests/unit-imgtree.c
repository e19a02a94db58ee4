/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgtree.c - what is left of an image in the bucket, and what is left to read when some of that is lost.
 *
 *	space	overwriting the same little image again and again leaves a bounded number of objects; an owner that has
 *		nothing to do sends nothing
 *	damage	pages of the map and data objects vanish or rot: what is whole can be read, the rest is -EIO with the
 *		object's number in words; nothing reads as zeros that is not
 */
#include "config.h"
#include "fs/image/volume-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/pool.h"
#include "sim/simnet.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SECTORS = 4096, RUN = 8 };

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";

static struct objstore *shared, *net[3];
static struct jdisk jd[3];
static struct pool *pool;

static void check(bool ok, const char *what, uint64_t n)
{
	if (ok)
		return;
	(void)fprintf(stderr, "%s (%" PRIu64 ")\n", what, n);
	_exit(1);
}

static void env_of(int node, struct vol_env *env)
{
	*env = (struct vol_env){.store = net[node],
				.pool = pool,
				.disk = &jd[node],
				.host = "node",
				.journal_bytes = 1 * MiB,
				.segment_bytes = 64 * KiB,
				.map_bytes = 64 * KiB,
				.map_fanout = 16,
				.batch_bytes = 32 * KiB,
				.dirty_age_ns = NSEC_PER_SEC,
				.takeover = VOL_TAKEOVER_ALWAYS};
}

static void world(void)
{
	struct vol_create vc = {.size = SECTORS * SECTOR, .window = 4};
	struct vol_env env = {.store = NULL};
	int r;

	check(store_mem_new(&shared) == 0 && pool_new("image", 64, &pool) == 0, "no store", 0);
	simnet = (struct simnet_faults){.latency_ns = NSEC_PER_MSEC, .timeout_ns = NSEC_PER_SEC, .late_ns = NSEC_PER_SEC};
	for (int i = 1; i <= 2; i++) {
		check(simnet_store_new(shared, i, &net[i]) == 0, "no net", 0);
		simdisk_jdisk(simdisk_new(), &jd[i]);
	}
	memcpy(vc.uuid, uuid, 16);
	env.store = shared;
	r = vol_create(&env, prefix, &vc, NULL);
	check(r == 0, "create fails", (uint64_t)-r);
}

static uint64_t requests(void)
{
	uint64_t n = 0;

	for (int op = 0; op < OBJ_NOPS; op++)
		n += simnet_count((enum obj_op)op);
	return n;
}

/* Writes [lba, +RUN) so that each sector says where it is and in which round it was written. */
static void put(struct volume *v, uint64_t lba, uint32_t round)
{
	uint32_t buf[RUN * SECTOR / 4];
	struct iovec iov = {buf, sizeof(buf)};

	for (unsigned i = 0; i < ARRAY_SIZE(buf); i++)
		buf[i] = round << 16 | (uint32_t)(lba + i / (SECTOR / 4));
	check(vol_write(v, lba * SECTOR, &iov, 1, sizeof(buf)) == 0, "a write fails", lba);
}

/* 1: right; 0: an error; anything else ends the test. */
static int get(struct volume *v, uint64_t lba, uint32_t round)
{
	uint32_t buf[RUN * SECTOR / 4];
	ssize_t n = vol_read(v, false, lba * SECTOR, buf, sizeof(buf));

	if (n < 0) {
		check(n == -EIO, "another error than -EIO", (uint64_t)-n);
		return 0;
	}
	check(n == (ssize_t)sizeof(buf), "a short read", lba);
	for (unsigned i = 0; i < ARRAY_SIZE(buf); i++)
		check(buf[i] == (round << 16 | (uint32_t)(lba + i / (SECTOR / 4))), "not what was written", lba);
	return 1;
}

/* In an order of its own each round, so that runs of a map do not merge. */
static void write_all(struct volume *v, uint32_t round)
{
	for (uint64_t i = 0; i < SECTORS / RUN; i++) {
		put(v, (i * (2 * round + 37) % (SECTORS / RUN)) * RUN, round);
		if (i % 16 == 0)
			clock_sleep_ns(20 * NSEC_PER_MSEC);
	}
}

struct counts {
	size_t objects, data, maps;
	uint64_t bytes, map[256];
};

/* Keys of the log, and which are pages. */
static void count_objects(struct counts *c)
{
	struct objreq req;

	memset(c, 0, sizeof(*c));
	objreq_init(&req, OBJ_LIST, prefix);
	check(obj_do(shared, &req) == 0, "no listing", 0);
	for (size_t i = 0; i < req.listing->n; i++) {
		uint8_t head[LOG_STRIDE];
		struct objreq g;
		struct logobj o;
		struct objerr err;

		if (strlen(req.listing->v[i].key) != sizeof(prefix) - 1 + 16)
			continue;
		objreq_init(&g, OBJ_GET, req.listing->v[i].key);
		g.buf = head;
		g.len = g.cap = sizeof(head);
		check(obj_do(shared, &g) == 0 && logobj_peek(head, g.got, &o, &err) == 0, "no header", i);
		objreq_done(&g);
		c->objects++;
		c->bytes += req.listing->v[i].size;
		c->data += o.type == LOG_DATA;
		if (o.type == LOG_MAP && c->maps < ARRAY_SIZE(c->map))
			c->map[c->maps++] = o.number;
	}
	objreq_done(&req);
}

static bool done;

static void space(void *arg)
{
	struct vol_env env;
	struct volume *v;
	struct vol_stat st;
	struct counts c;
	uint64_t before;

	(void)arg;
	env_of(1, &env);
	check(vol_open(&env, prefix, uuid, &v, NULL) == 0, "it does not open", 0);
	vol_begin_write(v);
	for (uint32_t round = 1; round <= 20; round++)
		write_all(v, round);
	clock_sleep_ns(300 * NSEC_PER_SEC);
	count_objects(&c);
	(void)printf("2 MiB written 20 times: %zu objects left, %zu data, %zu map, %" PRIu64 " bytes\n", c.objects,
		     c.data, c.maps, c.bytes);
	/* Two MiB are live, in 64 objects; digests pin what they lie in until the next tree. */
	check(c.data <= 64 + VOL_TREE_DIGESTS + 8, "too many data objects", c.data);
	check(c.maps > 0 && c.maps <= 16, "too many map objects, or none", c.maps);
	check(c.objects <= c.data + c.maps + 12, "too many other objects", c.objects);
	before = requests();
	clock_sleep_ns(100000 * NSEC_PER_SEC);
	check(requests() == before, "an idle owner sends requests", requests() - before);
	vol_stat(v, &st);
	check(st.checkpoint != 0 && st.live >= SECTORS * SECTOR, "the state is wrong", st.live);
	for (uint64_t lba = 0; lba < SECTORS; lba += RUN)
		check(get(v, lba, 20) == 1, "an owner's read fails", lba);
	check(vol_close(v) == 0, "close fails", 0);
	done = true;
}

static void spoil(uint64_t number, bool remove)
{
	char key[128];
	struct objreq req;
	uint8_t *buf = malloc(LOG_OBJECT_MAX / 8);
	struct iovec iov = {buf, 0};

	check(buf != NULL, "no memory", 0);
	(void)snprintf(key, sizeof(key), "%s%016" PRIx64, prefix, number);
	objreq_init(&req, OBJ_GET, key);
	req.buf = buf;
	req.cap = req.len = LOG_OBJECT_MAX / 8;
	check(obj_do(shared, &req) == 0, "it was not there", number);
	iov.iov_len = req.got;
	objreq_done(&req);
	/* The first page, behind the header. */
	buf[LOG_BLOCK + 40] ^= 1;
	objreq_init(&req, remove ? OBJ_DELETE : OBJ_PUT, key);
	req.iov = &iov;
	req.iovcnt = remove ? 0 : 1;
	check(obj_do(shared, &req) == 0, "it is not spoilt", number);
	objreq_done(&req);
	free(buf);
}

/* Another node looks at what is left. */
static void look(uint64_t number)
{
	struct vol_env env;
	struct volume *v;
	struct vol_stat st;
	unsigned good = 0, bad = 0;
	struct objerr err = {0};
	char hex[17];
	int r;

	env_of(2, &env);
	env.read_only = true;
	env.map_bytes = 32 * KiB;
	r = vol_open(&env, prefix, uuid, &v, &err);
	check(r == 0, err.msg, (uint64_t)-r);
	for (uint64_t lba = 0; lba < SECTORS; lba += RUN)
		*(get(v, lba, 3) == 1 ? &good : &bad) += 1;
	vol_stat(v, &st);
	(void)snprintf(hex, sizeof(hex), "%016" PRIx64, number);
	(void)printf("object %s: %u runs of %u are lost: %s\n", hex, bad, good + bad, st.why);
	check(bad > 0, "nothing was lost", number);
	check(strstr(st.why, hex) != NULL, "words that do not name the object", number);
	check(vol_close(v) == 0, "close fails", 0);
}

static void damage(void *arg)
{
	struct vol_env env;
	struct volume *v;
	struct counts c;

	(void)arg;
	env_of(1, &env);
	check(vol_open(&env, prefix, uuid, &v, NULL) == 0, "it does not open", 0);
	vol_begin_write(v);
	for (uint32_t round = 1; round <= 3; round++)
		write_all(v, round);
	clock_sleep_ns(300 * NSEC_PER_SEC);
	check(vol_close(v) == 0, "close fails", 0);
	count_objects(&c);
	check(c.maps > 0, "no tree", 0);
	/* The leaves come first. */
	spoil(c.map[0], false);
	look(c.map[0]);
	spoil(c.map[0], true);
	look(c.map[0]);
	done = true;
}

static void scenario(void *arg)
{
	void (*fn)(void *arg) = *(void (**)(void *))arg;

	world();
	done = false;
	sim_spawn(1, "test", fn, NULL);
	while (!done)
		clock_sleep_ns(NSEC_PER_SEC);
	sim_crash(1);
}

int main(void)
{
	void (*test[])(void *) = {space, damage};

	for (size_t i = 0; i < ARRAY_SIZE(test); i++) {
		sim_begin(i + 1);
		if (!sim_run(scenario, &test[i]))
			return 1;
	}
	return 0;
}
