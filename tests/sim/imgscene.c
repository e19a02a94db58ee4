/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgscene.c - the world of one image (imgscene.h): who starts where, and which blow falls when.
 *
 * Each round starts a daemon on an idle node, or strikes one that runs, or the store. At the end all is quiet, every
 * late request has landed, and a node with an empty directory must find what was promised.
 */
#include "config.h"
#include "imgguest.h"
#include "simnet.h"
#include "objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { NODES = 3, ROUNDS = 16 };

static struct node {
	struct objstore *store;
	struct simdisk *disk;
	struct jdisk jd;
	struct vol_env env;
	struct guest *guest;
	unsigned crashes;
	bool frozen, copied, sync_failed;
} node[NODES + 1];
static struct objstore *shared;
static bool remote;
static unsigned handover; /* of 10 guests wait for a release */
static unsigned crowd;    /* of 10 rounds start one more daemon */

struct imgscene_stats *imgstats;
uint64_t imgscene_first_death;

void imgscene_setup(void)
{
	imgstats = mmap(NULL, sizeof(*imgstats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (imgstats == MAP_FAILED)
		abort();
	imgtrace_on = getenv("TRACE") != NULL;
}

uint64_t imgscene_crash_points(void)
{
	return imgstats->at_store + imgstats->at_disk + imgstats->killed;
}

void imgscene_print(void)
{
	const struct imgscene_stats *s = imgstats;

	(void)printf("crash points %" PRIu64 ": at store calls %" PRIu64 ", at journal calls %" PRIu64
		     ", elsewhere %" PRIu64 "; then power cut %" PRIu64 ", disk lost %" PRIu64 ", disk copied %" PRIu64
		     "\n",
		     imgscene_crash_points(), s->at_store, s->at_disk, s->killed, s->power, s->wiped, s->copied);
	(void)printf(
	    "owners %" PRIu64 ": taken over %" PRIu64 ", handed over %" PRIu64 ", releases %" PRIu64 ", fenced %" PRIu64
	    ", busy %" PRIu64 ", burst claims %" PRIu64 ", marks %" PRIu64 ", deletes %" PRIu64 "\n",
	    s->sessions, s->takeovers, s->handovers, s->releases, s->fenced, s->busy, s->bursts, s->marks, s->deletes);
	(void)printf("frozen %" PRIu64 ", late requests %" PRIu64 ", answers 412 %" PRIu64 ", store down %" PRIu64
		     ", denied %" PRIu64 ", journal full %" PRIu64 ", failed syncs %" PRIu64 ", gone back %" PRIu64
		     "\n",
		     s->frozen, s->late, s->lost_412, s->down, s->denied, s->full, s->failed_syncs, s->gone_back);
	(void)printf("groups of writes %" PRIu64 ", flushes %" PRIu64 ", reads by the owner %" PRIu64
		     ", beside it %" PRIu64 ", by followers %" PRIu64 "\n",
		     s->groups, s->flushes, s->reads, s->peer_reads, s->follower_reads);
}

/* ---- nodes ---- */

static bool running(int i)
{
	return node[i].guest != NULL;
}

static void start(int i, bool reader, unsigned groups)
{
	struct node *n = &node[i];
	struct guest *g = calloc(1, sizeof(*g));

	if (g == NULL)
		abort();
	*g = (struct guest){.node = i,
			    .reader = reader,
			    .released = sim_chance(handover, 10),
			    .remote = remote,
			    .copied = &n->copied,
			    .sync_failed = &n->sync_failed,
			    .groups = groups,
			    .pace = 4 + (unsigned)sim_below(40),
			    .longest = 1 + (unsigned)sim_below(24),
			    .env = &n->env};
	if (groups > 100 && sim_chance(1, 2)) { /* it keeps the end of the log moving */
		g->groups *= 2;
		g->pace = 1000000;
		g->longest = 2 + (unsigned)sim_below(6);
	}
	n->guest = g;
	n->crashes = sim_incarnation(i);
	n->sync_failed = false;
	imgtrace("-- node %d starts: %s%s, %u groups", i, reader ? "reader" : "writer",
		 g->released ? ", waits for a release" : "", groups);
	sim_spawn(i, "guest", guest_main, g);
}

/* The process is gone, whatever it was: its directory stays, or what is left of it. */
static void buried(int i)
{
	struct node *n = &node[i];
	const char *at = sim_died_at();
	uint64_t fate = sim_below(20);

	n->guest = NULL;
	n->frozen = false;
	simdisk_fail_sync(n->disk, 0);
	(void)at;
	if (fate < 5) {
		simdisk_power_cut(n->disk);
		oracle_power_cut(i);
		imgstats->power++;
	} else if (fate < 7) {
		simdisk_wipe(n->disk);
		oracle_wiped(i);
		n->copied = false;
		imgstats->wiped++;
	} else if (fate == 7) {
		int to = 1 + (int)sim_below(NODES);

		if (to != i && !running(to)) {
			oracle_wiped(to);
			simdisk_copy(node[to].disk, n->disk);
			node[to].copied = n->copied = true;
			imgstats->copied++;
		}
	}
	imgtrace("-- node %d is dead, fate %" PRIu64, i, fate);
}

static void kill_now(int i)
{
	sim_crash(i);
	imgstats->killed++;
	buried(i);
}

/* Who ended, who died at a step? */
static void look_after(void)
{
	for (int i = 1; i <= NODES; i++) {
		struct node *n = &node[i];

		if (!running(i))
			continue;
		if (sim_incarnation(i) != n->crashes) {
			bool store = sim_died_at()[0] >= 'A' && sim_died_at()[0] <= 'Z';

			imgtrace("-- node %d died at \"%s\"", i, sim_died_at());
			*(store ? &imgstats->at_store : &imgstats->at_disk) += 1;
			buried(i);
		} else if (n->guest->done) {
			imgtrace("-- node %d is done", i);
			n->guest = NULL;
			sim_crash(i); /* what the process had */
			simdisk_fail_sync(n->disk, 0);
		}
	}
}

static void pass(int64_t ns)
{
	int64_t until = clock_now_ns() + ns;

	do {
		clock_sleep_ns(MIN(50 * NSEC_PER_MSEC, MAX(until - clock_now_ns(), 1)));
		look_after();
	} while (clock_now_ns() < until);
}

static int pick(bool busy)
{
	int found = 0;
	unsigned n = 0;

	for (int i = 1; i <= NODES; i++)
		if (running(i) == busy && sim_below(++n) == 0)
			found = i;
	return found;
}

static unsigned writers(void)
{
	unsigned n = 0;

	for (int i = 1; i <= NODES; i++)
		n += running(i) && !node[i].guest->reader;
	return n;
}

static void thaw_all(void)
{
	for (int i = 1; i <= NODES; i++)
		if (node[i].frozen) {
			imgtrace("-- node %d thaws", i);
			sim_freeze(i, false);
			node[i].frozen = false;
		}
}

/* ---- blows ---- */

static void freeze(int i)
{
	if (node[i].frozen) {
		imgtrace("-- node %d thaws", i);
		sim_freeze(i, false);
		node[i].frozen = false;
		return;
	}
	imgtrace("-- node %d freezes", i);
	sim_freeze(i, true);
	node[i].frozen = true;
	imgstats->frozen++;
}

static void store_fails(void)
{
	simnet_state = sim_chance(1, 3) ? SIMNET_DENIED : SIMNET_DOWN;
	imgtrace("-- the store is %s", simnet_state == SIMNET_DOWN ? "down" : "read-only");
	*(simnet_state == SIMNET_DOWN ? &imgstats->down : &imgstats->denied) += 1;
	pass((int64_t)sim_below(sim_chance(1, 3) ? 600 * (uint64_t)NSEC_PER_SEC : 20 * (uint64_t)NSEC_PER_SEC));
	for (int i = 1; i <= NODES; i++)
		if (running(i) && !node[i].guest->reader && node[i].guest->s != NULL && node[i].guest->v != NULL) {
			struct vol_stat st;

			vol_stat(node[i].guest->v, &st);
			imgstats->full += st.journal_used + node[i].env.segment_bytes > st.journal_limit;
		}
	simnet_state = SIMNET_UP;
	imgtrace("-- the store is back");
}

static void strike(int i)
{
	switch (sim_below(8)) {
	case 0:
		kill_now(i);
		break;
	case 1:
	case 2:
	case 3:
		sim_die_at(sim_steps() + 1 + sim_below(sim_chance(1, 2) ? 40 : 800));
		break;
	case 4:
		if (sim_chance(1, 4)) {
			imgtrace("-- the disk of node %d will fail", i);
			node[i].sync_failed = true;
			simdisk_fail_sync(node[i].disk, 1 + (unsigned)sim_below(8));
			imgstats->failed_syncs++;
		}
		break;
	case 5:
		if (sim_chance(1, 3))
			store_fails();
		break;
	default:
		freeze(i);
		break;
	}
}

static void idle_time(void)
{
	static const int64_t scale[] = {5 * NSEC_PER_MSEC, 60 * NSEC_PER_MSEC, 500 * NSEC_PER_MSEC, 4 * NSEC_PER_SEC,
					40 * NSEC_PER_SEC};

	pass(1 + (int64_t)sim_below((uint64_t)scale[sim_below(ARRAY_SIZE(scale))]));
}

static void round_of_blows(void)
{
	int i = pick(false);

	if (i != 0 && (writers() == 0 || sim_chance(crowd, 10)))
		start(i, writers() > 0 && sim_chance(1, 4), 4 + (unsigned)sim_below(sim_chance(1, 3) ? 120 : 40));
	i = pick(true);
	if (i != 0 && sim_chance(2, 3))
		strike(i);
	idle_time();
}

static void who_waits(void)
{
	sim_dump();
	for (int i = 1; i <= NODES; i++) {
		const struct volume *v = running(i) ? node[i].guest->v : NULL;
		struct journal_stat js = {0};

		if (v == NULL)
			continue;
		if (v->journal != NULL)
			journal_stat(v->journal, &js);
		(void)fprintf(stderr,
			      "node %d: state %d, writers %u, shared %u, alone %d, claiming %d, walking %d, readers "
			      "%u, closed %zu, "
			      "dirty %d, jseq %" PRIu64 ", sealed %" PRIu64 ", trim %" PRIu64 "/%" PRIu64
			      ", mark %" PRIu64 ", committed %" PRIu64 ", puts %d, up %d, journal %" PRIu64
			      " of %" PRIu64 " appended %" PRIu64 " synced %" PRIu64 "\n",
			      i, (int)v->state, v->writers, v->shared, v->exclusive, v->claiming, v->remapping,
			      v->readers[0] + v->readers[1], v->nclosed, v->dirty_since != 0, v->jseq, v->sealed_jseq, v->trim_jseq,
			      v->trimmed_jseq, v->mark_wanted, log_committed(v->log), v->puts != NULL, v->up, js.used,
			      js.limit, js.appended, js.synced);
	}
}

static void all_end(void)
{
	int64_t until = clock_now_ns() + 20000 * NSEC_PER_SEC;

	simnet_state = SIMNET_UP;
	thaw_all();
	while (pick(true) != 0) {
		pass(NSEC_PER_SEC);
		if (clock_now_ns() > until)
			who_waits();
		imgcheck(clock_now_ns() <= until, "a guest waits for ever");
	}
}

/* The bucket as it was: the newest objects are gone. Whoever was told that they are there must not go on. */
static void go_back(int i)
{
	struct objreq req;
	struct vol_stat st;
	struct guest *g = node[i].guest;
	(void)req;
	(void)st;
	(void)g;
}

static void faults(void)
{
	simnet_reset();
	simnet = (struct simnet_faults){.latency_ns = (int64_t)(1 + sim_below(60)) * NSEC_PER_MSEC,
					.timeout_ns = NSEC_PER_SEC,
					.late_ns = 300 * NSEC_PER_SEC};
	if (sim_chance(1, 4))
		return;
	simnet.lost_reply = (unsigned)sim_below(60);
	simnet.lost = (unsigned)sim_below(60);
	simnet.late = (unsigned)sim_below(80);
	simnet.twice = (unsigned)sim_below(60);
	simnet.busy = (unsigned)sim_below(80);
	simnet.broken = (unsigned)sim_below(60);
	simnet.read_fails = (unsigned)sim_below(50);
	if (sim_chance(1, 2))
		simnet.late_ns = (int64_t)(1 + sim_below(20)) * NSEC_PER_SEC;
}

static void world(void)
{
	static const uint64_t batch[] = {4 * KiB, 12 * KiB, 24 * KiB};
	struct vol_create vc = {.size = (1 + sim_below(SECTORS_MAX)) * SECTOR,
				.window = 2 + (uint32_t)sim_below(3),
				.object_bytes = 64 * KiB,
				.fsync_remote = sim_chance(1, 3)};
	struct vol_env env = {.journal_bytes = (sim_chance(1, 2) ? 5 : 16) * 32 * KiB,
			      .segment_bytes = 32 * KiB,
			      .map_bytes = (8 * KiB) << sim_below(5),
			      .map_fanout = sim_chance(1, 4) ? 0 : 6 + (unsigned)sim_below(20),
			      .digest_every = sim_chance(1, 4) ? 0 : 2 + (unsigned)sim_below(8),
			      .batch_bytes = batch[sim_below(3)],
			      .dirty_age_ns = (int64_t)(1 + sim_below(20)) * 100 * NSEC_PER_MSEC};

	imgcheck(store_mem_new(&shared) == 0, "no store");
	remote = vc.fsync_remote;
	handover = sim_chance(1, 3) ? 6 : (unsigned)sim_below(3);
	crowd = 1 + (unsigned)sim_below(7);
	memcpy(vc.uuid, "0123456789abcdef", 16);
	env.store = shared;
	imgcheck(vol_create(&env, GUEST_PREFIX, &vc, NULL) == 0, "the image cannot be made");
	oracle_begin((uint32_t)(vc.size / UNIT));
	for (int i = 1; i <= NODES; i++) {
		static const char *const name[] = {"", "one", "two", "three"};

		imgcheck(simnet_store_new(shared, i, &node[i].store) == 0, "no net");
		node[i].disk = simdisk_new();
		simdisk_jdisk(node[i].disk, &node[i].jd);
		node[i].env = env;
		node[i].env.store = node[i].store;
		node[i].env.disk = &node[i].jd;
		node[i].env.host = name[i];
	}
	faults();
	sim_preempt((unsigned)sim_below(100));
	imgtrace("window %u, fsync %s, batch %" PRIu64 ", handover %u, crowd %u, late %u in %" PRId64 " s", vc.window,
		 remote ? "remote" : "local", env.batch_bytes, handover, crowd, simnet.late,
		 simnet.late_ns / NSEC_PER_SEC);
}

void imgscene(void *arg)
{
	(void)arg;
	world();
	if (imgscene_first_death != 0) {
		start(1, false, 40);
		sim_die_at(imgscene_first_death);
		pass(600 * NSEC_PER_SEC);
	}
	for (int i = 0; i < (imgscene_first_death != 0 ? 4 : ROUNDS); i++)
		round_of_blows();
	sim_die_at(0);
	all_end();
	if (sim_chance(1, 2))
		pass(simnet.late_ns); /* else some of it lands later */
	for (int k = 0; k < 2; k++) {
		int i = 1 + (int)sim_below(NODES);

		simdisk_wipe(node[i].disk);
		oracle_wiped(i);
		node[i].copied = false;
		handover = 0;
		start(i, k == 1, 2);
		all_end();
	}
	go_back(0);
}
