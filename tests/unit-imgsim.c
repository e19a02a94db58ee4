/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgsim.c - volumes in the simulated world: one image, up to three nodes, one of which writes at a time; a
 * store that loses, repeats and delays; nodes that are killed, lose their power, lose their disks, freeze and thaw.
 *
 * Oracle: the guest's operations in order, each with a stamp in every sector it writes. Whoever opens the image next
 * must read the state after some prefix of them, and that prefix holds
 *	the same node, killed				everything acknowledged
 *	the same node after a power cut			everything that a flush covered
 *	another node, or one that lost its disk		everything that reached the bucket (a flush with fsync=remote;
 *	a clean close)
 * A writer that was overtaken gets errors and no byte of it shows up later.
 *
 *	unit-imgsim [SEED [COUNT]]	TRACE=1 tells what happens
 */
#include "config.h"
#include "fs/image/volume-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include "objstore/base/pool.h"
#include "sim/simnet.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SECTORS = 192, NODES = 3, OPS = 8000 };

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";

struct op {
	enum { OP_WRITE, OP_ZERO, OP_DISCARD } kind;
	uint64_t lba, len;
	uint32_t stamp;
};

static struct {
	struct objstore *shared;
	struct {
		struct objstore *store;
		struct simdisk *disk;
		struct jdisk jd;
	} node[NODES + 2];
	bool remote;
	uint64_t map_bytes; /* little: trees are written often */
	unsigned fanout;
	/* the guest */
	struct op op[OPS];
	uint32_t issued, acked, flushed,
	    in_bucket; /* counts of operations since the beginning; issued may be one more than acked */
	uint32_t stamps;
	bool running, failed;
	struct volume *v;
	unsigned sessions;
	/* the follower */
	bool follows, done;
	unsigned looks, seen;
} S;

static bool trace_on;

static void trace(const char *fmt, ...) printf_like(1, 2);
static void trace(const char *fmt, ...)
{
	va_list ap;

	if (!trace_on)
		return;
	va_start(ap, fmt);
	(void)fprintf(stderr, "%8.3f ", (double)(clock_now_ns() % (100000 * NSEC_PER_SEC)) / 1e9);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
}

static void check(bool ok, const char *fmt, ...) printf_like(2, 3);
static void check(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return;
	va_start(ap, fmt);
	(void)fprintf(stderr, "seed %" PRIu64 ": ", sim_seed());
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	_exit(1);
}

static void apply(uint32_t *img, uint32_t i)
{
	for (uint64_t s = S.op[i].lba; s < S.op[i].lba + S.op[i].len; s++)
		img[s] = S.op[i].kind == OP_WRITE ? S.op[i].stamp : 0;
}

static void fill(uint8_t *p, uint64_t n, uint32_t stamp)
{
	for (uint64_t i = 0; i < n * SECTOR; i += 4)
		memcpy(p + i, &stamp, 4);
}

static void env_of(int node, struct pool *pool, struct vol_env *env)
{
	*env = (struct vol_env){.store = S.node[node].store,
				.pool = pool,
				.disk = &S.node[node].jd,
				.host = "node",
				.journal_bytes = 512 * KiB,
				.segment_bytes = 32 * KiB,
				.map_bytes = S.map_bytes,
				.map_fanout = S.fanout,
				.batch_bytes = 12 * KiB,
				.dirty_age_ns = NSEC_PER_SEC,
				.takeover = VOL_TAKEOVER_ALWAYS};
}

/*
 * What is read must be the state after some prefix of at least `least` operations; from there the next session goes
 * on.
 */
static void verify(struct volume *v, bool writer, uint32_t least)
{
	static uint8_t buf[SECTORS * SECTOR];
	static uint32_t img[SECTORS], got[SECTORS];
	uint32_t best = UINT32_MAX;
	ssize_t n = vol_read(v, writer, 0, buf, sizeof(buf));
	struct vol_stat st;

	vol_stat(v, &st);
	check(n == (ssize_t)sizeof(buf), "a read gives %zd: %s", n, st.why);
	for (int s = 0; s < SECTORS; s++) {
		memcpy(&got[s], buf + s * SECTOR, 4);
		for (unsigned i = 0; i < SECTOR; i += 4)
			check(memcmp(buf + s * SECTOR, buf + s * SECTOR + i, 4) == 0, "sector %d is torn", s);
	}
	memset(img, 0, sizeof(img));
	for (uint32_t k = 0; k <= S.issued; k++) {
		if (memcmp(img, got, sizeof(img)) == 0)
			best = k;
		if (k < S.issued)
			apply(img, k);
	}
	for (int s = 0; best == UINT32_MAX && s < SECTORS; s++)
		if (img[s] != got[s])
			trace("sector %d: %u, after everything %u", s, got[s], img[s]);
	check(best != UINT32_MAX, "session %u: no prefix of the writes (%u acknowledged)", S.sessions, S.acked);
	check(best >= least, "session %u: the state after %u operations, %u were promised (%u acknowledged)",
	      S.sessions, best, least, S.acked);
	trace("read: the state after %u of %u, promised %u", best, S.acked, least);
	if (!writer)
		return;
	/* What is not in it never happened. */
	S.issued = S.acked = best;
	S.flushed = MIN(S.flushed, best);
	S.in_bucket = MIN(S.in_bucket, best);
	S.sessions++;
}

static int one_op(struct volume *v)
{
	static uint8_t buf[SECTORS * SECTOR];
	struct op *o = &S.op[S.issued];
	struct iovec iov;
	int r;

	o->lba = sim_below(SECTORS);
	o->len = 1 + sim_below(MIN((uint64_t)24, SECTORS - o->lba));
	o->kind = sim_chance(1, 10) ? OP_ZERO : sim_chance(1, 8) ? OP_DISCARD : OP_WRITE;
	o->stamp = ++S.stamps;
	fill(buf, o->len, o->stamp);
	iov = (struct iovec){buf, o->len * SECTOR};
	S.issued++;
	if (o->kind == OP_WRITE)
		r = vol_write(v, o->lba * SECTOR, &iov, 1, iov.iov_len);
	else if (o->kind == OP_ZERO)
		r = vol_zero(v, o->lba * SECTOR, o->len * SECTOR);
	else
		r = vol_discard(v, o->lba * SECTOR, o->len * SECTOR);
	if (r == 0)
		S.acked = S.issued;
	return r;
}

/* ---- somebody who only looks ---- */

enum { FOLLOWER = NODES + 1 };

/* How many of the operations made this: at least; UINT32_MAX: none. */
static uint32_t prefix_of(const uint32_t *got)
{
	static uint32_t img[SECTORS];

	memset(img, 0, sizeof(img));
	for (uint32_t k = 0;; k++) {
		if (memcmp(img, got, sizeof(img)) == 0)
			return k;
		if (k == S.issued)
			return UINT32_MAX;
		apply(img, k);
	}
}

static void look(struct volume *v, uint32_t *io_seen)
{
	static uint8_t buf[SECTORS * SECTOR];
	static uint32_t got[SECTORS];
	ssize_t n = vol_read(v, false, 0, buf, sizeof(buf));
	uint32_t k;

	S.looks++;
	if (n < 0) {
		trace("follower: %zd", n);
		return;
	}
	check(n == (ssize_t)sizeof(buf), "a follower's read gives %zd", n);
	for (int s = 0; s < SECTORS; s++) {
		memcpy(&got[s], buf + s * SECTOR, 4);
		for (unsigned i = 0; i < SECTOR; i += 4)
			check(memcmp(buf + s * SECTOR, buf + s * SECTOR + i, 4) == 0, "sector %d is torn", s);
	}
	k = prefix_of(got);
	check(k != UINT32_MAX, "a follower reads what is no prefix of the writes");
	S.seen++;
	*io_seen = k;
}

/* Reads and reads, now and then by a newer view, while nodes write, delete and die. */
static void follower(void *arg)
{
	struct vol_env env;
	struct volume *v = NULL;
	struct pool *pool;
	uint32_t seen = 0;

	(void)arg;
	check(pool_new("follower", 8, &pool) == 0, "no pool");
	env_of(FOLLOWER, pool, &env);
	env.read_only = true;
	while (!S.done) {
		if (v == NULL && vol_open(&env, prefix, uuid, &v, NULL) < 0)
			v = NULL;
		if (v != NULL && sim_chance(1, 3) && vol_refresh(v) < 0)
			trace("follower: no newer view");
		if (v != NULL)
			look(v, &seen);
		if (v != NULL && sim_chance(1, 20)) {
			(void)vol_close(v);
			v = NULL;
		}
		clock_sleep_ns((int64_t)sim_below(2 * (uint64_t)NSEC_PER_SEC));
	}
	trace("follower: %u of %u looks gave something", S.seen, S.looks);
	if (v != NULL)
		(void)vol_close(v);
	pool_free(pool);
	S.follows = false;
}

struct guest {
	int node;
	uint32_t promised;
};

static void guest(void *arg)
{
	struct guest g = *(struct guest *)arg;
	struct vol_env env;
	struct volume *v = NULL;
	struct pool *pool;
	struct objerr err = {0};
	int r = pool_new("sim", 64, &pool);

	check(r == 0, "no pool");
	env_of(g.node, pool, &env);
	do {
		r = vol_open(&env, prefix, uuid, &v, &err);
	} while (r == -EAGAIN || r == -ETIMEDOUT);
	check(r == 0, "open gives %d: %s", r, err.msg);
	S.v = v;
	vol_begin_write(v);
	verify(v, true, g.promised);
	for (unsigned n = 0; n < 150 && r == 0; n++) {
		r = one_op(v);
		if (r == 0 && sim_chance(1, 12)) {
			uint32_t k = S.acked;

			r = vol_flush(v);
			if (r == 0) {
				S.flushed = k;
				if (S.remote)
					S.in_bucket = k;
			}
		}
		if (sim_chance(1, 25))
			clock_sleep_ns((int64_t)sim_below(3 * (uint64_t)NSEC_PER_SEC));
		if (S.acked > OPS - 10)
			break;
	}
	trace("node %d: ends with %d after %u", g.node, r, S.acked);
	if (r == 0) {
		uint32_t k = S.acked;

		r = vol_close(v);
		if (r == 0)
			S.flushed = S.in_bucket = k;
	}
	S.failed = r != 0;
	S.running = false;
}

static void scenario(void *arg)
{
	struct vol_create vc = {
	    .size = SECTORS * SECTOR, .window = 2 + (uint32_t)sim_below(3), .object_bytes = 64 * KiB};
	struct vol_env env;
	uint32_t promised = 0;
	int node = 1, r;

	(void)arg;
	check(store_mem_new(&S.shared) == 0, "no store");
	for (int i = 1; i <= FOLLOWER; i++) {
		check(simnet_store_new(S.shared, i, &S.node[i].store) == 0, "no net");
		S.node[i].disk = simdisk_new();
		simdisk_jdisk(S.node[i].disk, &S.node[i].jd);
	}
	simnet = (struct simnet_faults){
	    .latency_ns = 20 * NSEC_PER_MSEC, .timeout_ns = NSEC_PER_SEC, .late_ns = 60 * NSEC_PER_SEC};
	if (sim_chance(2, 3))
		simnet = (struct simnet_faults){.lost_reply = 30,
						.lost = 30,
						.late = 20,
						.twice = 30,
						.busy = 50,
						.broken = 30,
						.read_fails = 30,
						.latency_ns = 20 * NSEC_PER_MSEC,
						.timeout_ns = NSEC_PER_SEC,
						.late_ns = 60 * NSEC_PER_SEC};
	S.remote = vc.fsync_remote = sim_chance(1, 3);
	S.map_bytes = (8 * KiB) << sim_below(5);
	S.fanout = sim_chance(1, 4) ? 0 : 6 + (unsigned)sim_below(20);
	memcpy(vc.uuid, uuid, 16);
	env_of(1, NULL, &env);
	env.store = S.shared;
	r = vol_create(&env, prefix, &vc, NULL);
	check(r == 0, "create gives %d", r);
	sim_preempt((unsigned)sim_below(100));
	S.follows = sim_chance(1, 2);
	if (S.follows)
		sim_spawn(FOLLOWER, "follower", follower, NULL);
	for (int i = 0; i < 8; i++) {
		int fate, was = node;
		unsigned reads = S.sessions;
		uint32_t before = promised;
		unsigned crashes = sim_incarnation(node);
		static struct guest g;

		g = (struct guest){node, promised};
		S.running = true;
		S.failed = false;
		trace("-- session %d on node %d, promised %u", i, node, promised);
		sim_spawn(node, "guest", guest, &g);
		sim_die_at(sim_chance(3, 4) ? sim_steps() + 1 + sim_below(1500) : 0);
		for (int ms = 0; S.running && sim_incarnation(node) == crashes; ms += 50) {
			clock_sleep_ns(50 * NSEC_PER_MSEC);
			if (ms == 4000000) {
				struct vol_stat st = {0};

				sim_dump();
				if (S.v != NULL)
					vol_stat(S.v, &st);
				trace("state %d, journal %" PRIu64 " of %" PRIu64 ", tail %" PRIu64 ", %s", st.state,
				      st.journal_used, st.journal_limit, st.tail, st.why);
				if (S.v != NULL)
					trace("closed %zu, dirty %d, jseq %" PRIu64 ", sealed %" PRIu64
					      ", trim %" PRIu64 "/%" PRIu64 ", mark %" PRIu64 ", committed %" PRIu64
					      ", puts %d, up %d",
					      S.v->nclosed, S.v->dirty_since != 0, S.v->jseq, S.v->sealed_jseq,
					      S.v->trim_jseq, S.v->trimmed_jseq, S.v->mark_wanted,
					      log_committed(S.v->log), S.v->puts != NULL, S.v->up);
			}
			check(ms < 4000000, "the guest waits for ever");
		}
		sim_die_at(0);
		check(!S.failed, "a session failed with nobody against it");
		if (S.running) /* it died */
			trace("node %d died", node);
		else
			sim_crash(node);
		fate = (int)sim_below(4);
		if (fate == 0) { /* killed */
			promised = S.acked;
		} else if (fate == 1) {
			simdisk_power_cut(S.node[node].disk);
			promised = S.flushed;
		} else if (fate == 2) {
			simdisk_wipe(S.node[node].disk);
			promised = S.in_bucket;
		} else {
			node = 1 + (int)sim_below(NODES);
			promised = node == was ? S.acked : S.in_bucket;
		}
		/* Nobody read since the last blow: what that one took is not promised again. */
		if (S.sessions == reads)
			promised = MIN(promised, before);
		trace("fate %d: node %d next, promised %u (%u acknowledged, %u flushed, %u in the bucket)", fate, node,
		      promised, S.acked, S.flushed, S.in_bucket);
	}
	S.done = true;
	for (int ms = 0; S.follows; ms += 50) {
		clock_sleep_ns(50 * NSEC_PER_MSEC);
		check(ms < 4000000, "the follower waits for ever");
	}
	check(S.looks < 20 || S.seen > 0, "a follower never saw anything");
}

int main(int argc, char **argv)
{
	trace_on = getenv("TRACE") != NULL;
	return sim_main(argc, argv, 200, scenario);
}
