/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgclean.c - what the cleaner costs and what it leaves, in the simulated world: an image is written over and
 * over.
 *
 *	bytes	to the bucket for each byte of the guest, everything included: 4 KiB anywhere <= 2.0; nine of ten into a
 *		tenth of the image <= 1.55; one end to the other <= 1.1
 *	space	under that load at most 1.45 times what is live and 96 objects (768 MiB of 8 MiB); 1.15 times after ten minutes
 *		without a write; vol_gc() gets there at once
 *	idle	then no request
 *	bytes	are those that were written: for the owner, and for a node that has the bucket alone
 * Everything is a 160th of 10 GiB with 64 MiB for the map: as many leaves, batches and trees, fewer objects.
 *
 *	unit-imgclean [WORKLOAD]	1 uniform, 2 hot, 3 sequential, 4 small objects and vol_gc(); TRACE=1 prints more
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

enum { BLOCK = 4096, LIVE = 64 << 20, BLOCKS = LIVE / BLOCK, OBJECT = 512 << 10, RUN = 64 << 10 };
enum { UNIFORM = 1, HOT, SEQUENTIAL, SMALL, LAST };

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";
static struct objstore *shared, *net[3];
static struct jdisk jd[3];
static uint32_t version[BLOCKS]; /* of each block */
static uint64_t put_bytes;

static void spy(int n, const struct objreq *req, int status, bool late)
{
	(void)n;
	(void)late;
	for (int i = 0; req->op == OBJ_PUT && status == 0 && i < req->iovcnt; i++)
		put_bytes += req->iov[i].iov_len;
}

static uint64_t requests(void)
{
	uint64_t n = 0;

	for (int op = 0; op < OBJ_NOPS; op++)
		n += simnet_count((enum obj_op)op);
	return n;
}

/* Bytes in the bucket. */
static uint64_t space(void)
{
	struct objreq req;
	uint64_t n = 0;

	objreq_init(&req, OBJ_LIST, prefix);
	sim_check(obj_do(shared, &req) == 0 && !req.listing->truncated, "no listing");
	for (size_t i = 0; i < req.listing->n; i++)
		n += req.listing->v[i].size;
	objreq_done(&req);
	return n;
}

static void open_on(int node, struct pool *pool, struct fetch *fetch, struct volume **ret)
{
	struct vol_env env = {.store = net[node],
			      .pool = pool,
			      .fetch = fetch,
			      .disk = &jd[node],
			      .host = "node",
			      .journal_bytes = 8 * MiB,
			      .segment_bytes = 512 * KiB,
			      .map_bytes = 400 * KiB,
			      .takeover = VOL_TAKEOVER_ALWAYS};
	struct objerr err = {0};
	int r = vol_open(&env, prefix, uuid, ret, &err);

	sim_check(r == 0, "open gives %d: %s", r, err.msg);
	vol_begin_write(*ret);
}

static void put(struct volume *v, uint64_t block, size_t n)
{
	static uint32_t buf[RUN / 4];
	struct iovec iov = {buf, n * BLOCK};

	for (size_t i = 0; i < n; i++) {
		version[block + i]++;
		for (size_t k = 0; k < BLOCK / 4; k += 2) {
			buf[i * BLOCK / 4 + k] = (uint32_t)(block + i);
			buf[i * BLOCK / 4 + k + 1] = version[block + i];
		}
	}
	sim_check(vol_write(v, block * BLOCK, &iov, 1, n * BLOCK) == 0, "a write fails");
}

static void verify(struct volume *v)
{
	static uint32_t buf[RUN / 4];

	for (uint64_t b = 0; b < BLOCKS; b += RUN / BLOCK) {
		sim_check(vol_read(v, true, b * BLOCK, buf, RUN) == RUN, "a read fails");
		for (size_t k = 0; k < RUN / 4; k += 2)
			sim_check(buf[k] == b + k * 4 / BLOCK && buf[k + 1] == version[b + k * 4 / BLOCK],
				  "block %" PRIu64 " is version %u of %u, not %u", b + k * 4 / BLOCK, buf[k + 1], buf[k],
				  version[b + k * 4 / BLOCK]);
	}
}

static uint64_t where(uint64_t workload, uint64_t at)
{
	if (workload == SEQUENTIAL)
		return at % BLOCKS;
	if (workload == HOT)
		return sim_chance(9, 10) ? sim_below(BLOCKS / 10) : BLOCKS / 10 + sim_below(BLOCKS - BLOCKS / 10);
	return sim_below(BLOCKS);
}

static void look(struct volume *v)
{
	struct map_stat ms;
	uint64_t live, stored, pinned;

	if (getenv("TRACE") == NULL)
		return;
	map_stat(v->map, &ms);
	map_usage(v->map, &live, &stored);
	mtx_lock(&v->batch);
	(void)vol_dead_locked(v, &pinned);
	mtx_unlock(&v->batch);
	(void)printf("%8.2f s: put %" PRIu64 " MiB, moved %" PRIu64 ", in the bucket %.2f x, live %.2f of %.2f x, all %.2f x, "
		     "pinned %.2f x, tree %d, digests %zu, cleaning %d idle %d known %d\n",
		     (double)(clock_now_ns() % (100000 * NSEC_PER_SEC)) / 1e9, put_bytes / MiB, v->moved / MiB,
		     (double)space() / LIVE, (double)live * SECTOR / LIVE, (double)stored * SECTOR / LIVE,
		     (double)ms.stored * SECTOR / LIVE, (double)pinned / LIVE, (int)v->tree, v->ck.ndigests, v->cleaning,
		     v->clean_idle, v->table_known);
}

/* So many times the image; ten objects a second, were they of 8 MiB 80 MiB. Returns the most that lay in the bucket. */
static uint64_t load(struct volume *v, uint64_t workload, unsigned times)
{
	size_t n = workload == SEQUENTIAL ? RUN / BLOCK : 1;
	uint64_t most = 0, i = 0;

	while (i < (uint64_t)times * BLOCKS) {
		put(v, where(workload, i), n);
		i += n;
		if (i % 16 == 0)
			clock_sleep_ns(12 * NSEC_PER_MSEC);
		if (i % (BLOCKS / 16) == 0) {
			most = MAX(most, space());
			look(v);
		}
	}
	return most;
}

static void other_node(struct pool *pool)
{
	struct volume *v;

	open_on(2, pool, NULL, &v);
	verify(v);
	sim_check(vol_close(v) == 0, "close fails");
}

static void overwrite(struct volume *v, uint64_t workload)
{
	static const double limit[LAST] = {[UNIFORM] = 2.0, [HOT] = 1.55, [SEQUENTIAL] = 1.1};
	uint64_t most, before, idle, moved;
	double factor;

	load(v, SEQUENTIAL, 1);
	(void)load(v, workload, 4);
	before = put_bytes;
	moved = v->moved;
	most = load(v, workload, 4);
	sim_check(vol_flush(v) == 0, "a flush fails");
	factor = (double)(put_bytes - before) / (4.0 * LIVE);
	moved = v->moved - moved;
	clock_sleep_ns(600 * NSEC_PER_SEC);
	idle = space();
	(void)printf("workload %" PRIu64 ": %.3f bytes to the bucket a byte (%.3f by the cleaner), space %.3f x live, after "
		     "10 idle minutes %.3f\n",
		     workload, factor, (double)moved / (4.0 * LIVE), (double)most / LIVE, (double)idle / LIVE);
	sim_check(factor <= limit[workload], "%.3f bytes a byte, not %.2f", factor, limit[workload]);
	sim_check(most <= LIVE / 100 * 145 + 96 * OBJECT, "%.3f times what is live", (double)most / LIVE);
	sim_check(idle <= LIVE / 100 * 115, "%.3f times what is live when idle", (double)idle / LIVE);
	before = requests();
	clock_sleep_ns(100000 * NSEC_PER_SEC);
	sim_check(requests() == before, "an idle owner sends %" PRIu64 " requests", requests() - before);
	verify(v);
}

/* A trickle makes many objects that hold little. */
static void small(struct volume *v)
{
	struct vol_gc g;
	uint64_t before;

	for (unsigned i = 0; i < 600; i++) {
		put(v, sim_below(200), 1);
		clock_sleep_ns(5 * NSEC_PER_SEC);
	}
	load(v, SEQUENTIAL, 1);
	load(v, UNIFORM, 1);
	before = space();
	sim_check(vol_gc(v, 0, &g) == 0, "gc fails");
	(void)printf("gc: %" PRIu64 " bytes in the bucket, then %" PRIu64 " (%.3f x live); %" PRIu64 " moved into %" PRIu64
		     " objects, %" PRIu64 " deleted\n",
		     before, space(), (double)space() / LIVE, g.moved, g.made, g.deleted);
	sim_check(space() <= LIVE / 100 * 115, "gc leaves %.3f times what is live", (double)space() / LIVE);
	sim_check(g.live >= LIVE && g.stored < g.stored_before && g.deleted > 0 && g.moved > 0, "counts that cannot be");
	before = v->moved;
	sim_check(vol_gc(v, 0, &g) == 0 && g.moved == 0 && v->moved == before, "a second gc finds something to do");
	/* As the last object leaves it when a mark is under way: a tree is wanted, and nobody writes any more. */
	mtx_lock(&v->batch);
	v->tree = TREE_WANTED;
	mtx_unlock(&v->batch);
	sim_check(vol_gc(v, 0, &g) == 0, "gc with a tree to write fails");
	verify(v);
}

static void owner(void *arg)
{
	uint64_t workload = sim_seed();
	struct volume *v;
	struct vol_reads reads = {.store = net[1]};
	struct fetch *fetch;
	struct pool *pool;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	reads.pool = pool;
	sim_check(vol_reads_new(&reads, &fetch, NULL) == 0, "no reads");
	open_on(1, pool, fetch, &v);
	if (workload == SMALL)
		small(v);
	else
		overwrite(v, workload);
	sim_check(vol_close(v) == 0, "close fails");
	vol_reads_settle(fetch);
	vol_reads_free(fetch);
	other_node(pool);
	*(bool *)arg = true;
}

static void scenario(void *arg)
{
	struct vol_create vc = {.size = LIVE, .object_bytes = OBJECT};
	struct vol_env env = {.store = NULL};
	bool done = false;

	(void)arg;
	sim_check(store_mem_new(&shared) == 0, "no store");
	simnet = (struct simnet_faults){.latency_ns = 20 * NSEC_PER_MSEC, .timeout_ns = NSEC_PER_SEC, .late_ns = 1};
	for (int i = 1; i <= 2; i++) {
		sim_check(simnet_store_new(shared, i, &net[i]) == 0, "no net");
		simdisk_jdisk(simdisk_new(), &jd[i]);
	}
	memcpy(vc.uuid, uuid, 16);
	env.store = shared;
	sim_check(vol_create(&env, prefix, &vc, NULL) == 0, "no image");
	simnet_spy = spy;
	sim_spawn(1, "owner", owner, &done);
	for (unsigned s = 0; !done; s++) {
		sim_check(s < 1000000, "something waits for ever");
		clock_sleep_ns(NSEC_PER_SEC);
	}
	sim_crash(1);
}

int main(int argc, char **argv)
{
	uint64_t only = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	bool ok = true;

	(void)setvbuf(stdout, NULL, _IOLBF, 0);

	for (uint64_t w = UNIFORM; w < LAST; w++)
		if (only == 0 || only == w)
			ok = sim_try(w, scenario) && ok;
	return !ok;
}
