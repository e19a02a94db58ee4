/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgscene.c - the world of an image and its clones (imgscene.h): who starts where, and which blow falls when.
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
#include <sys/stat.h>
#include <unistd.h>

enum { NODES = IMAGE_NODES, ROUNDS = 16, DENSE_ROUNDS = 48 };

static struct node {
	struct objstore *store;
	struct vol_env env;
	struct image *img; /* that the guest has, or had */
	struct guest *guest;
	unsigned crashes;
	int cache; /* -1: none */
	bool frozen, copied, sync_failed, struck, cursed;
	bool at_ref; /* it sleeps before it says that it makes a clone */
} node[NODES + 1];
static struct objstore *shared;
static bool remote;
static unsigned handover; /* of 10 guests wait for a release */
static unsigned crowd;    /* of 10 rounds start one more daemon */
static unsigned haunted;  /* of 10 deaths are followed by another start on that node, which soon dies as well */
static bool contest;      /* a busy writer, and others who want the image */
static bool fine;         /* many small extents, and trees of many objects that take a while */
static bool sleepers;     /* a small image, much overwritten; nodes stop just before what counts */
static enum imgscene_world bent;
static int held, relief;  /* whose marks stay away until then, and who takes the image meanwhile; 0: nobody */
static int64_t held_until;
static bool snaps;        /* snapshots, ways back, clones */
static int nodes;         /* that take part */
static int again;         /* the node that starts next; 0: any */
static uint64_t deadly;   /* the last step at which somebody should die */

uint64_t imgscene_first_death;
enum imgscene_cleaner imgscene_cleaner;
enum imgscene_snaps imgscene_snaps;
enum imgscene_retain imgscene_retain;
bool imgscene_dense;
enum imgscene_world imgscene_world;

/* ---- nodes ---- */

static bool running(int i)
{
	return node[i].guest != NULL;
}

static struct image *pick_image(int is)
{
	struct image *found = NULL;
	unsigned n = 0;

	for (struct image *img = images + 1; img < images + IMAGES; img++)
		if ((int)img->is == is && sim_below(++n) == 0)
			found = img;
	return found;
}

/* Which image, and whether it is to be deleted. */
static void assign(struct node *n, struct guest *g)
{
	struct image *img;

	g->img = n->img = again != 0 && n == &node[again] ? n->img : MAIN_IMAGE; /* back to what it had */
	if (!snaps || g->img != MAIN_IMAGE)
		return;
	img = pick_image(sim_chance(1, 6) ? IMG_DEAD : sim_chance(1, 4) ? IMG_DOOMED : IMG_THERE);
	if (img == NULL || !sim_chance(3, 5))
		return;
	g->erases = img->is == IMG_DOOMED || (img->is == IMG_THERE && sim_chance(1, 4));
	g->reader = g->reader || g->erases;
	g->img = n->img = img;
}

static void start(int i, bool reader, unsigned groups)
{
	struct node *n = &node[i];
	struct guest *g = calloc(1, sizeof(*g));

	if (g == NULL)
		abort();
	*g = (struct guest){.node = i,
			    .reader = reader,
			    .snaps = snaps,
			    .released = sim_chance(handover, 10),
			    .remote = remote,
			    .copied = &n->copied,
			    .sync_failed = &n->sync_failed,
			    .cache = n->cache,
			    .groups = groups,
			    .pace = sleepers ? 60 : 4 + (unsigned)sim_below(40),
			    .longest = fine ? 3 : 1 + (unsigned)sim_below(24),
			    .env = &n->env};
	if (groups > 200) {
		g->busy = true;
		/* Others find the end, and lose it again before they have claimed there. */
		g->busy_ns = (1 + sim_below(4)) * (uint64_t)simnet.latency_ns;
		g->longest = 24;
	}
	if (fine && !reader) {
		g->groups *= 2;
		g->busy = true;
		g->busy_ns = (uint64_t)simnet.latency_ns / (bent == WORLD_TREES ? 4 : 1);
	}
	assign(n, g);
	n->env.disk = &g->img->jd[i];
	n->guest = g;
	n->crashes = sim_incarnation(i);
	n->sync_failed = n->struck = n->cursed = false;
	imgtrace("-- node %d starts: %s%s, %u groups, image %td", i,
		 g->erases ? "eraser"
		 : reader  ? "reader"
			   : "writer",
		 g->released ? ", waits for a release" : "", groups, g->img - images);
	sim_spawn(i, "guest", guest_main, g);
}

/* What a power cut may do to a file that nobody syncs. */
static void harm_cache(int fd)
{
	static const uint8_t zeros[4096];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	for (int i = 0; i < 20 && st.st_size > 8192; i++)
		ignore(pwrite(fd, zeros, 1 + sim_below(4096), (off_t)sim_below((uint64_t)st.st_size - 4096)));
}

static void fail_sync(int i, unsigned n)
{
	simdisk_fail_sync(node[i].img->disk[i], n);
}

static void wipe(int i)
{
	for (struct image *img = images; img < images + IMAGES; img++)
		if (img->is != IMG_NONE)
			simdisk_wipe(img->disk[i]);
	oracle_wiped(i);
}

/* The process is gone, whatever it was: its directory stays, or what is left of it. */
static void buried(int i)
{
	struct node *n = &node[i];
	uint64_t fate = sim_below(20);

	n->guest = NULL;
	n->frozen = false;
	fail_sync(i, 0);
	if (fate < 5) {
		for (struct image *img = images; img < images + IMAGES; img++)
			if (img->is != IMG_NONE)
				simdisk_power_cut(img->disk[i]);
		harm_cache(n->cache);
		oracle_power_cut(i);
		imgstats->power++;
	} else if (fate < 7) {
		wipe(i);
		if (n->cache >= 0)
			ignore(ftruncate(n->cache, 0));
		n->copied = false;
		imgstats->wiped++;
	} else if (fate == 7) {
		int to = 1 + (int)sim_below(NODES);

		if (to != i && !running(to)) {
			oracle_wiped(to);
			for (struct image *img = images; img < images + IMAGES; img++)
				if (img->is != IMG_NONE)
					simdisk_copy(img->disk[to], img->disk[i]);
			node[to].copied = n->copied = true;
			imgstats->copied++;
		}
	}
	imgtrace("-- node %d is dead, fate %" PRIu64, i, fate);
	if (sim_chance(haunted, 10))
		again = i;
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
			*(n->struck ? &imgstats->killed : store ? &imgstats->at_store : &imgstats->at_disk) += 1;
			buried(i);
		} else if (n->guest->done) {
			imgtrace("-- node %d is done", i);
			n->guest = NULL;
			sim_crash(i); /* what the process had */
			fail_sync(i, 0);
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

	for (int i = 1; i <= (busy ? NODES : nodes); i++)
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

static bool thaw(int i)
{
	if (!node[i].frozen)
		return false;
	imgtrace("-- node %d thaws", i);
	sim_freeze(i, false);
	node[i].frozen = node[i].at_ref = false;
	return true;
}

static void thaw_all(void)
{
	for (int i = 1; i <= NODES; i++)
		(void)thaw(i);
}

/* ---- blows ---- */

static void arm(uint64_t within)
{
	deadly = sim_steps() + 1 + sim_below(within);
	sim_die_at(deadly);
}

static void freeze(int i)
{
	if (thaw(i))
		return;
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
		arm(sim_chance(1, 2) ? 40 : 800);
		break;
	case 4:
		if (sim_chance(1, 4)) {
			imgtrace("-- the disk of node %d will fail", i);
			node[i].sync_failed = true;
			fail_sync(i, 1 + (unsigned)sim_below(8));
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

static void idle_time(unsigned scales)
{
	static const int64_t scale[] = {5 * NSEC_PER_MSEC, 60 * NSEC_PER_MSEC, 500 * NSEC_PER_MSEC, 4 * NSEC_PER_SEC,
					40 * NSEC_PER_SEC};

	pass(1 + (int64_t)sim_below((uint64_t)scale[sim_below(scales)]));
}

/* Until the step is reached at which somebody dies, or nobody moves. */
static void until_deadly(void)
{
	int64_t until = clock_now_ns() + 20 * NSEC_PER_SEC;

	if (sim_steps() >= deadly)
		arm(sim_chance(1, 2) ? 60 : 300);
	while (sim_steps() < deadly && pick(true) != 0 && clock_now_ns() < until)
		pass(50 * NSEC_PER_MSEC);
}

static void round_of_relief(void)
{
	int i = relief;

	relief = 0;
	if (running(i))
		kill_now(i);
	pass((int64_t)sim_below(held != 0 ? 6 * (uint64_t)NSEC_PER_SEC : NSEC_PER_SEC));
	start(i, false, 12 + (unsigned)sim_below(40));
	node[i].guest->released = false;
	/* It needs what it found when those marks come; or it puts two of its own, and no more. */
	node[i].guest->nap_from = clock_now_ns() + (held != 0 ? 0 : (int64_t)(1 + sim_below(4)) * NSEC_PER_SEC);
	node[i].guest->nap_until = held_until + 3 * NSEC_PER_SEC;
	pass(held_until + 4 * NSEC_PER_SEC - clock_now_ns());
}

static void round_of_blows(void)
{
	int i = again != 0 && !running(again) ? again : pick(false);
	bool once_more = i == again && i != 0;

	again = 0;
	if (i != 0 && (once_more || writers() == 0 || sim_chance(contest ? 6 : crowd, 10)))
		start(i, writers() > 0 && !once_more && sim_chance(sleepers ? 2 : 1, 4),
		      sleepers && writers() == 0  ? 60 + (unsigned)sim_below(140)
		      : contest && writers() == 0 ? 250 + (unsigned)sim_below(150)
						  : 4 + (unsigned)sim_below(sim_chance(1, 3) ? 120 : 40));
	if (once_more) {
		node[i].cursed = sim_chance(1, 2);
		if (!node[i].cursed && sim_chance(2, 3))
			arm(sim_chance(1, 2) ? 60 : 200);
		idle_time(4);
		return;
	}
	i = pick(true);
	if (i != 0 && sim_chance(contest || sleepers || imgscene_dense ? 1 : 2, 3))
		strike(i);
	if (imgscene_dense && !sim_chance(1, 4))
		until_deadly();
	else
		idle_time(contest ? 3 : sleepers ? 4 : 5);
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
			      ", mark %" PRIu64 ", tree %d, soon %d, tending %d, cleaning %d, committed %" PRIu64
			      ", puts %d, up %d, journal %" PRIu64
			      " of %" PRIu64 " appended %" PRIu64 " synced %" PRIu64 "\n",
			      i, (int)v->state, v->writers, v->shared, v->exclusive, v->claiming, v->remapping,
			      v->readers[0] + v->readers[1], v->nclosed, v->dirty_since != 0, v->jseq, v->sealed_jseq,
			      v->trim_jseq, v->trimmed_jseq, v->mark_wanted, (int)v->tree, v->checkpoint_soon,
			      v->tending, v->cleaning, log_committed(v->log), v->puts != NULL,
			      v->up, js.used, js.limit, js.appended, js.synced);
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
		sim_check(clock_now_ns() <= until, "a guest waits for ever");
	}
}

/*
 * The bucket as it was some time ago: the last object with data, and what came after it, is gone, marks as well. The
 * node that was told that it is there must not go on.
 */
static void go_back(int i)
{
	struct objreq req;
	uint64_t last, from;
	const struct session *s = oracle_newest(MAIN_IMAGE);

	objreq_init(&req, OBJ_LIST, MAIN_IMAGE->prefix);
	sim_check(obj_do(shared, &req) == 0, "no listing");
	if (req.listing->truncated || s->node != i || s->remote < s->acked) {
		objreq_done(&req);
		return;
	}
	simnet_settle();
	from = MAIN_IMAGE->newest_data;
	for (size_t k = 0; k < req.listing->n && from > s->claim + 4; k++) {
		const char *key = req.listing->v[k].key + strlen(MAIN_IMAGE->prefix);
		bool mark = strncmp(key, "mark/", 5) == 0;

		if (log_number_parse(mark ? key + 5 : key, &last) == 0 && (mark ? UINT64_MAX - last : last) >= from)
			sim_check(obj_delete(shared, req.listing->v[k].key, NULL, NULL) == 0, "a key stays");
	}
	if (from > s->claim + 4) {
		imgtrace("-- the bucket goes back: %" PRIu64 " and later are gone", from);
		imgstats->gone_back++;
		start(i, false, 1);
		node[i].guest->gone_back = true;
		node[i].guest->released = false;
		all_end();
	}
	objreq_done(&req);
}

static void fatal(void *arg)
{
	struct node *n = arg;
	int i = (int)(n - node);

	if (running(i) && sim_incarnation(i) == n->crashes) {
		n->struck = true;
		sim_crash(i);
	}
}

/* The moments after a claim was made are the worst to die in. */
static void on_claim(int i)
{
	if (!node[i].cursed && !sim_chance(haunted, 80))
		return;
	if (imgscene_dense)
		arm(40);
	else
		sim_after(0, 1 + (int64_t)sim_below(3 * (uint64_t)simnet.latency_ns), fatal, &node[i]);
}

static void wakes(void *arg)
{
	(void)thaw((int)((struct node *)arg - node));
}

static void falls_asleep(int i, const struct objreq *req, uint64_t longest)
{
	imgtrace("-- node %d falls asleep before %s %s", i, obj_op_name[req->op],
		 req->key != NULL ? strrchr(req->key, '/') : "");
	sim_freeze(i, true);
	node[i].frozen = true;
	imgstats->frozen++;
	sim_after(0, 1 + (int64_t)sim_below(longest * (uint64_t)NSEC_PER_SEC), wakes, &node[i]);
}

/*
 * The moments in which nothing but rules keeps an owner from harm to the next: its marks are under way and it has
 * nothing else to do, or it is about to look which marks there are.
 */
static void holds(int i, const struct objreq *req)
{
	bool mark = req->op == OBJ_PUT && strstr(req->key, "/mark/") != NULL;
	bool looks = req->op == OBJ_LIST && strstr(req->key, "/mark/") != NULL;
	struct guest *g = node[i].guest;

	if (g->s == NULL || clock_now_ns() < held_until || !(mark || looks) || !sim_chance(1, 3))
		return;
	held = mark ? i : 0;
	sim_die_at(0);
	held_until = clock_now_ns() + (int64_t)(8 + sim_below(20)) * NSEC_PER_SEC;
	relief = 1 + (i + (int)sim_below(NODES - 1)) % NODES;
	imgtrace("-- node %d is held before %s", i, mark ? "marks" : "a look at marks");
	if (mark) {
		g->nap_from = clock_now_ns() + (int64_t)sim_below(3 * (uint64_t)NSEC_PER_SEC);
		g->nap_until = held_until + 10 * NSEC_PER_SEC;
	} else {
		sim_freeze(i, true);
		node[i].frozen = true;
		sim_after(0, held_until - clock_now_ns(), wakes, &node[i]);
	}
}

static int64_t held_marks(const struct objreq *req)
{
	int64_t left = held_until - clock_now_ns();

	if (sim_node() != held || left <= 0 || req->op != OBJ_PUT || strstr(req->key, "/mark/") == NULL)
		return 0;
	return left + (int64_t)sim_below((uint64_t)NSEC_PER_SEC);
}

/* Steps of whoever makes a clone, or deletes one, or a snapshot: it may stop there; one while the other goes on. */
static bool stops(int i, const struct objreq *req)
{
	const char *tail = req->key != NULL ? strrchr(req->key, '/') : NULL;
	bool ref = tail != NULL && strstr(req->key, "/ref/") != NULL;
	bool gone = tail != NULL && strstr(req->key, "/gone/") != NULL;
	uint64_t longest = 8;

	for (int k = 1; k <= NODES && gone && req->op == OBJ_PUT; k++)
		if (node[k].frozen && node[k].at_ref && thaw(k))
			longest = 4;
	if (tail == NULL || !(ref || gone || strcmp(tail, "/dead") == 0 || image_birth(req)))
		return false;
	if (!sim_chance(longest == 4 ? 3 : 1, 4))
		return false;
	falls_asleep(i, req, longest);
	node[i].at_ref = ref && req->op == OBJ_PUT;
	return true;
}

/* Before a mark, a claim, a deletion, a look: when it wakes the others have gone on. */
static void on_send(int i, const struct objreq *req)
{
	bool mark = req->op == OBJ_PUT && strstr(req->key, "/mark/") != NULL;
	bool gone = req->op == OBJ_DELETE || req->op == OBJ_DELETE_MANY;
	bool walks, claim;
	uint64_t longest;

	if (node[i].frozen || !running(i))
		return;
	if (snaps && stops(i, req))
		return;
	if (bent == WORLD_HELD)
		holds(i, req);
	if (bent == WORLD_HELD || !sleepers)
		return;
	walks = node[i].guest->s == NULL;
	claim = req->op == OBJ_PUT && !mark && walks;
	if (mark && bent == WORLD_MARKS && haunted > 0 && sim_chance(1, 8))
		arm(30);
	if (!(claim   ? sim_chance(1, bent == WORLD_MARKS ? 12 : 3)
	      : mark  ? sim_chance(1, bent == WORLD_MARKS ? 4 : 12)
	      : gone  ? sim_chance(1, 20)
	      : walks ? sim_chance(1, bent == WORLD_MARKS ? 400 : 40)
		      : req->op == OBJ_LIST && sim_chance(1, bent == WORLD_LISTS ? 4 : 25)))
		return;
	longest = walks || mark || bent == WORLD_LISTS ? 20 : 6;
	falls_asleep(i, req, longest);
}

static int64_t slow_marks(const struct objreq *req)
{
	if (req->op != OBJ_PUT || strstr(req->key, "/mark/") == NULL || !sim_chance(1, 3))
		return 0;
	return (int64_t)sim_below(20 * (uint64_t)NSEC_PER_SEC);
}

static void faults(void)
{
	simnet_reset();
	simnet = (struct simnet_faults){.latency_ns = (int64_t)(1 + sim_below(60)) * NSEC_PER_MSEC,
					.timeout_ns = NSEC_PER_SEC,
					.late_ns = 300 * NSEC_PER_SEC};
	simnet.limbo = sim_chance(1, 2) ? 0 : 500;
	simnet.limbo_ns = (int64_t)(1 + sim_below(40)) * simnet.latency_ns;
	if (contest)
		simnet.latency_ns *= 2;
	if (bent != WORLD_LISTS && bent != WORLD_HELD && sim_chance(contest ? 3 : sleepers ? 2 : 1, 4))
		return;
	simnet.lost_reply = (unsigned)sim_below(60);
	simnet.lost = (unsigned)sim_below(60);
	simnet.late = (unsigned)sim_below(80);
	simnet.twice = (unsigned)sim_below(60);
	simnet.busy = (unsigned)sim_below(80);
	simnet.broken = (unsigned)sim_below(60);
	simnet.read_fails = (unsigned)sim_below(50);
	if (bent == WORLD_LISTS || bent == WORLD_HELD) /* numbers that never come */
		simnet.lost += 150;
	if (sim_chance(1, 2))
		simnet.late_ns = (int64_t)(1 + sim_below(20)) * NSEC_PER_SEC;
}

static void look_at_marks(void)
{
	for (struct image *img = images; img < images + IMAGES; img++)
		if (img->is != IMG_NONE)
			oracle_marks(img, shared);
}

static void world(void)
{
	struct state first = {0};
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

	env.no_cleaner = imgscene_cleaner == CLEANER_OFF || (imgscene_cleaner == CLEANER_SOME && sim_seed() % 2 == 1);
	snaps = imgscene_snaps == SNAPS_ON || (imgscene_snaps == SNAPS_SOME && sim_seed() / 2 % 2 == 1);
	bent = imgscene_world != WORLD_ANY ? imgscene_world : (enum imgscene_world)sim_below(2 * IMGSCENE_WORLDS);
	bent = bent < IMGSCENE_WORLDS || imgscene_world != WORLD_ANY ? bent : WORLD_ANY;
	contest = bent == WORLD_ANY && sim_chance(1, 5);
	if (contest) { /* nothing that makes it wait */
		vc.fsync_remote = false;
		env.digest_every = 0;
		env.batch_bytes = 4 * KiB;
	}
	sleepers = bent != WORLD_ANY || (!contest && sim_chance(1, 2));
	if (sleepers) {
		fine = bent == WORLD_TREES || sim_chance(1, 3);
		vc.size = fine ? SECTORS_MAX * SECTOR : (8 + sim_below(56)) * SECTOR;
		env.map_fanout = fine ? 4 : env.map_fanout;
		env.digest_every = 2 + (unsigned)sim_below(3);
		env.batch_bytes = 4 * KiB;
		env.map_bytes = (2 * KiB) << sim_below(4);
		env.tree_object_bytes = sim_chance(1, 3) ? 0 : 5 * KiB; /* two pages each */
	}
	if (sleepers || snaps)
		simnet_sends = on_send;
	/* Nothing is drawn for the others: their seeds are what they were. */
	if (imgscene_retain == RETAIN_ON || (snaps && imgscene_retain == RETAIN_SOME && sim_seed() % 8 >= 6))
		env.retain_s = 3 + sim_below(sim_chance(1, 2) ? 20 : 120);
	simnet_repeats = snaps ? image_born_again : NULL;
	if (bent == WORLD_TREES) {
		env.map_bytes = MiB; /* the tree does not hold up the data */
		env.tree_digests = 2 + (unsigned)sim_below(4);
		env.tree_object_bytes = 5 * KiB;
		env.digest_every = 2;
		env.dirty_age_ns = 100 * NSEC_PER_MSEC;
	}
	if (bent == WORLD_HELD) {
		env.map_bytes = (2 * KiB) << sim_below(3);
		env.tree_digests = 2 + (unsigned)sim_below(4);
		env.tree_object_bytes = 5 * KiB;
		env.digest_every = 2;
		env.dirty_age_ns = 100 * NSEC_PER_MSEC;
	}
	simnet_slow = bent == WORLD_MARKS ? slow_marks : bent == WORLD_HELD ? held_marks : NULL;
	nodes = NODES;
	if (snaps) { /* few nodes, much that is dead */
		nodes = 1 + (int)sim_below(NODES);
		vc.size = MIN(vc.size, (8 + sim_below(100)) * SECTOR);
		env.tree_digests = 2 + (unsigned)sim_below(4);
	}
	sim_check(store_mem_new(&shared) == 0, "no store");
	remote = vc.fsync_remote;
	handover = sim_chance(1, 3) ? 6 : (unsigned)sim_below(3);
	crowd = 1 + (unsigned)sim_below(7);
	haunted = sim_chance(1, 2) ? 8 : 2;
	oracle_begin(on_claim);
	first.size = (uint32_t)(vc.size / UNIT);
	image_make(MAIN_IMAGE, &first);
	MAIN_IMAGE->is = IMG_THERE;
	memcpy(vc.uuid, MAIN_IMAGE->uuid, 16);
	env.store = shared;
	sim_check(vol_create(&env, MAIN_IMAGE->prefix, &vc, NULL) == 0, "the image cannot be made");
	for (int i = 1; i <= NODES; i++) {
		static const char *const name[] = {"", "one", "two", "three"};

		sim_check(simnet_store_new(shared, i, &node[i].store) == 0, "no net");
		node[i].img = MAIN_IMAGE;
		node[i].cache = !fine && sim_chance(1, 2) ? memfd_create("cache", MFD_CLOEXEC) : -1;
		node[i].env = env;
		node[i].env.store = node[i].store;
		node[i].env.host = name[i];
	}
	faults();
	sim_preempt((unsigned)sim_below(100));
	if (sleepers)
		crowd = 5;
	imgtrace("world %d, window %u, fsync %s, batch %" PRIu64 ", handover %u, crowd %u%s, late %u in %" PRId64 " s",
		 (int)bent, vc.window, remote ? "remote" : "local", env.batch_bytes, handover, crowd,
		 contest    ? ", contest"
		 : sleepers ? ", sleepers"
			    : "",
		 simnet.late, simnet.late_ns / NSEC_PER_SEC);
}

/* Late requests have landed, or never will: each image is opened for writing on a node that has nothing of it. */
static void everything_is_there(void)
{
	look_at_marks();
	for (struct image *img = images; img < images + IMAGES; img++) {
		if (img->is != IMG_THERE)
			continue;
		wipe(1);
		node[1].copied = false;
		again = 1;
		node[1].img = img;
		start(1, false, 2);
		again = 0;
		all_end();
	}
	look_at_marks();
}

void imgscene(void *arg)
{
	unsigned rounds = imgscene_first_death != 0 ? 4 : imgscene_dense ? DENSE_ROUNDS : ROUNDS;
	int last = 0;

	(void)arg;
	world();
	if (contest && imgscene_first_death == 0) {
		start(1, false, 300);
		node[1].guest->released = false;
		for (int k = 0; k < 100 && running(1) && node[1].guest->s == NULL; k++)
			pass(50 * NSEC_PER_MSEC);
		start(2, false, 30);
		node[2].guest->released = false;
		if (sim_chance(1, 3))
			start(3, false, 30);
		pass((int64_t)sim_below(8 * (uint64_t)NSEC_PER_SEC));
	}
	if (imgscene_first_death != 0) {
		start(1, false, 40);
		sim_die_at(imgscene_first_death);
		pass(60 * NSEC_PER_SEC);
		imgstats->survived += sim_steps() < imgscene_first_death;
	}
	for (unsigned i = 0; i < rounds; i++) {
		if (relief != 0)
			round_of_relief();
		else
			round_of_blows();
		if (sim_chance(1, bent == WORLD_MARKS || bent == WORLD_HELD ? 1 : 4))
			look_at_marks();
	}
	sim_die_at(0);
	all_end();
	if (sim_chance(1, 2))
		pass(simnet.late_ns); /* else some of it lands later */
	handover = haunted = 0;
	sim_die_at(0);
	for (int k = 0; k < 2; k++) {
		int i = 1 + (int)sim_below(NODES);

		wipe(i);
		node[i].copied = false;
		start(i, k == 1, 6);
		all_end();
		last = k == 0 ? i : last == i ? 0 : last;
	}
	if (snaps)
		everything_is_there();
	if (last != 0 && !snaps && !node[last].sync_failed && sim_chance(1, 4))
		go_back(last);
}
