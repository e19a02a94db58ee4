/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgattach.c - what it costs to attach to an image whose daemon was killed: serial round trips, requests, bytes.
 *
 * A node makes 1,000,000 extents and dies in the middle of it; another one attaches, reads a sector, and takes over.
 * The store answers each request after exactly one second of virtual time, so that time counts round trips. The
 * numbers must be within the promise and about the same for a small and for a huge image. The map keeps within its
 * memory.
 *
 *	unit-imgattach [EXTENTS]
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

#define TRIP_NS NSEC_PER_SEC

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";

static struct objstore *shared;
static uint64_t extents = 1000000;

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "%s\n", what);
	_exit(1);
}

/* ---- a store at a distance, which counts ---- */

struct far {
	struct objstore store;
	int node;
	int64_t trip_ns;
	uint64_t requests, bytes;
	unsigned under_way, most;
};

struct message {
	struct far *f;
	struct objreq *req;
	void (*done)(struct objreq *req);
};

static void answered(struct objreq *req)
{
	(void)req;
}

static void arrive(void *arg)
{
	struct message m = *(struct message *)arg;

	free(arg);
	m.req->done = answered;
	sim_atomic_begin();
	obj_submit(shared, m.req); /* mem.c answers inside submit */
	sim_atomic_end();
	m.f->under_way--;
	if (m.req->op == OBJ_GET && m.req->status == 0)
		m.f->bytes += m.req->got;
	m.req->done = m.done;
	m.req->done(m.req);
}

static void far_submit(struct objstore *s, struct objreq *req)
{
	struct far *f = (struct far *)s;
	struct message *m = malloc(sizeof(*m));

	check(m != NULL, "no memory");
	*m = (struct message){f, req, req->done};
	f->requests++;
	f->under_way++;
	f->most = MAX(f->most, f->under_way);
	sim_after(f->node, f->trip_ns, arrive, m);
}

static void far_close(struct objstore *s)
{
	(void)s;
}

static void far_new(struct far *f, int node, int64_t trip_ns)
{
	static const struct objstore_ops ops = {.name = "far", .submit = far_submit, .close = far_close};

	memset(f, 0, sizeof(*f));
	f->store.ops = &ops;
	f->store.caps = obj_caps(shared);
	f->store.caps_known = true;
	f->store.stats = shared->stats;
	f->store.part_min = shared->part_min;
	f->store.part_max_count = shared->part_max_count;
	f->store.put_max = shared->put_max;
	f->node = node;
	f->trip_ns = trip_ns;
}

/* ---- the writer ---- */

static struct simdisk *disk[3];
static struct jdisk jd[3];
static struct far far[3];
static uint64_t image_size;
static bool finished;
static struct vol_stat before;
static size_t map_memory; /* the most that the writer's map had */

static void env_of(int node, struct vol_env *env)
{
	struct pool *pool;

	check(pool_new("image", 64, &pool) == 0, "no pool");
	*env = (struct vol_env){.store = &far[node].store,
				.pool = pool,
				.disk = &jd[node],
				.host = "node",
				.journal_bytes = 32 * MiB,
				.segment_bytes = 1 * MiB,
				.map_bytes = 32 * MiB,
				.batch_bytes = 64 * KiB, /* of data: as many extents as 8 MiB of 4 KiB writes */
				.takeover = VOL_TAKEOVER_ALWAYS};
}

/*
 * Extent i of the image: apart from all others, most of them zeros (an extent like any other, without its bytes in
 * memory).
 */
static uint64_t place(uint64_t i)
{
	uint64_t slots = image_size / SECTOR / 2;

	return i * 0x9e3779b97f4a7c15u % slots * 2 * SECTOR;
}

static void writer(void *arg)
{
	uint8_t sector[SECTOR];
	struct vol_env env;
	struct volume *v;
	int r;

	(void)arg;
	env_of(1, &env);
	check(vol_open(&env, prefix, uuid, &v, NULL) == 0, "the writer does not attach");
	vol_begin_write(v);
	for (uint64_t i = 0; i < extents; i++) {
		struct iovec iov = {sector, SECTOR};

		memset(sector, (int)(i % 251), SECTOR);
		r = i % 16 == 0 ? vol_write(v, place(i), &iov, 1, SECTOR) : vol_zero(v, place(i), SECTOR);
		check(r == 0, "a write fails");
		if (i % 1024 == 0) {
			struct map_stat ms;

			clock_sleep_ns(NSEC_PER_MSEC);
			map_stat(v->map, &ms);
			map_memory = MAX(map_memory, ms.memory);
		}
	}
	check(vol_flush(v) == 0, "the flush fails");
	vol_stat(v, &before);
	finished = true;
	clock_sleep_ns(NSEC_PER_SEC * 1000000);
}

/* ---- the one who attaches ---- */

struct cost {
	double trips;
	uint64_t requests, bytes;
};
static struct cost cost[2][3];
static int round_no;
static bool attached;
static unsigned looks;

static void measure(int what, int64_t *io_since)
{
	int64_t now = clock_now_ns();

	cost[round_no][what] = (struct cost){(double)(now - *io_since) / (double)TRIP_NS, far[2].requests, far[2].bytes};
	far[2].requests = far[2].bytes = 0;
	*io_since = now;
}

/* While the image is claimed: what it has allocated does not vanish from stat(2). */
static void looker(void *arg)
{
	struct vol_stat st;

	while (!attached) {
		vol_stat(arg, &st);
		check(st.allocated > before.allocated / 2, "nothing seems to be allocated while the image is claimed");
		looks++;
		clock_sleep_ns(TRIP_NS / 4);
	}
}

static void attacher(void *arg)
{
	uint8_t got[SECTOR], want[SECTOR];
	struct vol_stat st;
	struct vol_env env;
	struct volume *v;
	int64_t since = clock_now_ns();

	(void)arg;
	env_of(2, &env);
	check(vol_open(&env, prefix, uuid, &v, NULL) == 0, "it does not attach");
	measure(0, &since);
	/* In the tree for sure. */
	memset(want, 0, SECTOR);
	check(vol_read(v, false, place(0), got, SECTOR) == SECTOR && memcmp(got, want, SECTOR) == 0, "not what was written");
	memset(want, 16, SECTOR);
	check(vol_read(v, false, place(16), got, SECTOR) == SECTOR && memcmp(got, want, SECTOR) == 0,
	      "not what was written");
	measure(1, &since);
	looks = 0;
	sim_spawn(2, "looker", looker, v);
	vol_begin_write(v);
	check(vol_read(v, true, place(32), got, SECTOR) == SECTOR && got[0] == 32, "not what was written");
	measure(2, &since);
	vol_stat(v, &st);
	check(st.state == VOL_OWNER && st.size == image_size, "it does not own the image");
	check(looks > 4, "nobody looked at it while it was claimed");
	attached = true;
	clock_sleep_ns(NSEC_PER_SEC * 1000000);
}

static void scenario(void *arg)
{
	struct vol_create vc = {.size = image_size};
	struct vol_env env = {.store = NULL};
	int r;

	(void)arg;
	check(store_mem_new(&shared) == 0, "no store");
	for (int i = 1; i <= 2; i++) {
		far_new(&far[i], i, i == 1 ? NSEC_PER_MSEC : TRIP_NS);
		disk[i] = simdisk_new();
		simdisk_jdisk(disk[i], &jd[i]);
	}
	memcpy(vc.uuid, uuid, 16);
	env.store = shared;
	r = vol_create(&env, prefix, &vc, NULL);
	check(r == 0, "create fails");
	finished = attached = false;
	sim_spawn(1, "writer", writer, NULL);
	while (!finished)
		clock_sleep_ns(NSEC_PER_MSEC);
	sim_crash(1);
	sim_spawn(2, "attacher", attacher, NULL);
	while (!attached)
		clock_sleep_ns(NSEC_PER_SEC);
	sim_crash(2);
}

static int one(uint64_t size)
{
	static const char *const what[] = {"attach", "two reads", "take over, a read"};

	image_size = size;
	if (!sim_run(scenario, NULL))
		return 1;
	(void)printf("%" PRIu64 " GiB, %" PRIu64 " extents, checkpoint at %" PRIu64 ", tail %" PRIu64 ", map %zu bytes\n",
		     size >> 30, extents, before.checkpoint, before.tail, map_memory);
	check(map_memory <= 32 * MiB, "the map had more memory than it may");
	for (int i = 0; i < 3; i++)
		(void)printf("\t%-20s %4.0f round trips %4" PRIu64 " requests %10" PRIu64 " bytes\n", what[i],
			     cost[round_no][i].trips, cost[round_no][i].requests, cost[round_no][i].bytes);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		extents = strtoull(argv[1], NULL, 10);
	sim_begin(1);
	for (round_no = 0; round_no < 2; round_no++) {
		if (one(round_no == 0 ? 10 * GiB : 10 * 1024 * GiB) != 0)
			return 1;
		check(cost[round_no][0].trips <= 10, "more than 10 round trips");
		check(cost[round_no][0].bytes <= 64 * MiB, "more than 64 MiB");
	}
	for (int i = 0; i < 3; i++) {
		check(cost[1][i].bytes <= 2 * cost[0][i].bytes + LOG_STRIDE, "a huge image costs more bytes");
		check(cost[1][i].trips <= 2 * cost[0][i].trips, "a huge image costs more round trips");
	}
	return 0;
}
