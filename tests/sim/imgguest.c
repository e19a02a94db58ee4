/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgguest.c - what runs on a node: a daemon with one volume, and a guest that writes and reads it (imgguest.h).
 *
 * Everything that a call may answer is judged here: an owner fails only if somebody claimed the image after it.
 */
#include "config.h"
#include "imgguest.h"
#include "fs/image/blkcache.h"
#include "fs/image/nameobj.h"
#include "objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { GROUP_MAX = 4 };

static uint32_t stamps;

/* What goes away by itself, or when the store is up again. */
static bool transient(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -EACCES;
}

static bool refused(const struct guest *g, int r)
{
	return g->gone_back && (r == -EUCLEAN || r == -ENOENT);
}

static bool ending(const struct guest *g)
{
	return g->img->is != IMG_THERE;
}

static void doze(uint64_t ns)
{
	clock_sleep_ns(1 + (int64_t)sim_below(ns));
}

static struct vol_env *env_of(struct guest *g, struct pool *pool)
{
	struct vol_env *env = calloc(1, sizeof(*env));

	if (env == NULL)
		abort();
	*env = *g->env;
	env->pool = pool;
	env->takeover = g->released ? VOL_TAKEOVER_RELEASED : VOL_TAKEOVER_ALWAYS;
	env->claim_wait_ns = g->released ? 2000 * NSEC_PER_SEC : 0;
	env->read_only = g->reader && !g->erases;
	return env;
}

/* An error of an owner: somebody else must have claimed. */
static void judge_failure(struct guest *g, int r, const char *what)
{
	struct vol_stat st;

	vol_stat(g->v, &st);
	imgtrace("node %d: %s gives %d: %s", g->node, what, r, st.why);
	if ((*g->sync_failed && r == -EIO) || ending(g))
		return;
	sim_check(r == -EIO && oracle_superseded(g->img, st.epoch),
		  "node %d: %s gives %d with nobody against it (state %d, epoch %" PRIu64 "): %s", g->node, what, r,
		  (int)st.state, st.epoch, st.why);
	imgstats->fenced++;
}

/* ---- reading ---- */

static uint64_t claim_of(struct guest *g)
{
	struct log_view view;

	log_view(g->v->log, &view);
	return view.claim;
}

/* The whole image, 0 or an error. */
static int read_all(struct guest *g, bool writer, struct state *ret)
{
	_cleanup_free_ uint8_t *buf = calloc(SECTORS_MAX, SECTOR);
	ssize_t n;

	if (buf == NULL)
		abort();
	n = vol_read(g->v, writer, 0, buf, SECTORS_MAX * SECTOR);
	if (n < 0)
		return (int)n;
	sim_check(state_decode(buf, (size_t)n, ret), "node %d reads a torn unit", g->node);
	return 0;
}

/* A part of what the guest itself wrote. */
static int read_back(struct guest *g)
{
	struct session *s = g->s;
	uint32_t first, n;
	_cleanup_free_ uint8_t *buf = NULL;
	ssize_t r;

	if (s->now.size == 0)
		return 0;
	first = (uint32_t)sim_below(s->now.size);
	n = 1 + (uint32_t)sim_below(MIN(s->now.size - first, 40));
	if (sim_chance(1, 2)) { /* sectors */
		first -= first % UNITS_A_SECTOR;
		n = MIN((n + UNITS_A_SECTOR - 1) / UNITS_A_SECTOR * UNITS_A_SECTOR, s->now.size - first);
	}
	buf = malloc((size_t)n * UNIT);
	if (buf == NULL)
		abort();
	r = vol_read_now(g->v, (uint64_t)first * UNIT, buf, (size_t)n * UNIT);
	r = r == 0 ? (ssize_t)n * UNIT : r;
	while (r == -EAGAIN && transient((int)(r = vol_read(g->v, true, (uint64_t)first * UNIT, buf, (size_t)n * UNIT)))) {
		doze(NSEC_PER_SEC);
		r = -EAGAIN;
	}
	if (r < 0)
		return (int)r;
	sim_check(r == (ssize_t)n * UNIT, "node %d: a read of %u units gives %zd bytes", g->node, n, r);
	for (uint32_t i = 0; i < n * UNIT / 4; i++)
		sim_check(memcmp(buf + i * 4, &s->now.unit[first + i * 4 / UNIT], 4) == 0,
			  "node %d reads unit %u wrongly: not its last write", g->node, first + i * 4 / UNIT);
	imgstats->reads++;
	return 0;
}

/* A second handle, read-only, of the same daemon, while the image is written, claimed and let go. */
static void peer(void *arg)
{
	struct guest *g = arg;

	while (!g->peer_stop) {
		uint8_t buf[16 * UNIT];
		uint32_t first = (uint32_t)sim_below(UNITS), lo = g->s != NULL ? g->s->acked : g->seen;
		ssize_t n = vol_read(g->v, false, (uint64_t)first * UNIT, buf, sizeof(buf));
		const struct session *s = g->s != NULL ? g->s : oracle_session(g->img, claim_of(g));

		for (ssize_t i = 0; i < n / UNIT && !ending(g); i++) {
			uint32_t v;

			memcpy(&v, buf + i * UNIT, 4);
			sim_check(oracle_plausible(s, lo, first + (uint32_t)i, v),
				  "node %d: a read-only handle reads %u in unit %u, after operation %u", g->node, v,
				  first + (uint32_t)i, lo);
		}
		sim_check(n >= 0 || transient((int)n) || n == -EIO || ending(g), "a read-only handle reads %zd", n);
		imgstats->peer_reads += n > 0;
		doze(200 * NSEC_PER_MSEC);
	}
	g->peer_runs = false;
}

static void peer_end(struct guest *g)
{
	g->peer_stop = true;
	while (g->peer_runs)
		clock_sleep_ns(10 * NSEC_PER_MSEC);
}

/* ---- writing ---- */

struct task {
	struct guest *g;
	uint32_t op;
	int r;
	unsigned *left;
	bool flush;
	struct snap *snap;
};

static int do_op(struct volume *v, const struct op *o)
{
	uint64_t off = (uint64_t)o->first * UNIT, len = (uint64_t)o->n * UNIT;
	_cleanup_free_ uint8_t *buf = NULL;
	struct iovec iov[2];
	size_t half;

	switch (o->kind) {
	case OP_ZERO:
		return vol_zero(v, off, len);
	case OP_DISCARD:
		return vol_discard(v, off, len);
	case OP_RESIZE:
		return vol_resize(v, len);
	default:
		break;
	}
	buf = malloc(len);
	if (buf == NULL)
		abort();
	for (uint64_t i = 0; i < len; i += 4)
		memcpy(buf + i, &o->stamp, 4);
	if (sim_chance(1, 2)) { /* as a reader of the session */
		int r = vol_write_now(v, off, buf, len);

		if (r != -EAGAIN)
			return r;
	}
	half = (size_t)sim_below(len + 1);
	iov[0] = (struct iovec){buf, half};
	iov[1] = (struct iovec){buf + half, len - half};
	return vol_write(v, off, iov, 2, len);
}

static void run_task(void *arg)
{
	struct task *t = arg;
	struct session *s = t->g->s;
	struct op o = {0};

	if (t->flush) {
		t->r = vol_flush(t->g->v);
	} else if (t->snap != NULL) {
		t->r = snap_put(t->g, t->snap);
	} else {
		o = s->op[t->op];
		while (transient(t->r = do_op(t->g->v, &o))) /* parts of a sector: it reads first */
			doze(NSEC_PER_SEC);
		s->op[t->op].acked = t->r == 0;
	}
	(*t->left)--;
}

/* Whole sectors mostly; a part of one in the middle of the image; growth and new sizes now and then. */
static void choose(struct guest *g, struct op *o, bool alone)
{
	uint32_t size = g->s->now.size;

	o->stamp = ++stamps;
	if (alone && sim_chance(1, 30)) {
		o->kind = OP_RESIZE;
		o->n = (uint32_t)sim_below(SECTORS_MAX + 1) * UNITS_A_SECTOR;
		return;
	}
	o->kind = sim_chance(1, 10) ? OP_ZERO : sim_chance(1, 9) ? OP_DISCARD : OP_WRITE;
	if (size == 0 || (alone && o->kind == OP_WRITE && sim_chance(1, 20)))
		size = UNITS; /* perhaps behind the end */
	o->first = (uint32_t)sim_below(size / UNITS_A_SECTOR) * UNITS_A_SECTOR;
	o->n = (1 + (uint32_t)sim_below(MIN((size - o->first) / UNITS_A_SECTOR, g->longest))) * UNITS_A_SECTOR;
	if (o->kind == OP_WRITE && size != UNITS && o->first + o->n <= g->s->now.size && sim_chance(1, 5)) {
		uint32_t head = (uint32_t)sim_below(UNITS_A_SECTOR);

		o->first += head;
		o->n -= head + (uint32_t)sim_below(UNITS_A_SECTOR - head);
	}
	if (size == UNITS && g->s->now.size == 0)
		o->kind = alone ? OP_WRITE : OP_DISCARD;
}

static bool overlap(const struct op *a, const struct op *b)
{
	return a->first < b->first + b->n && b->first < a->first + a->n;
}

static int one_group(struct guest *g)
{
	struct session *s = g->s;
	uint32_t from = s->n, promised = s->acked;
	unsigned n = sim_chance(1, 3) ? 1 + (unsigned)sim_below(GROUP_MAX) : 1, *left = calloc(1, sizeof(*left));
	struct task *t = calloc(GROUP_MAX + 2, sizeof(*t));
	unsigned tasks = 0;
	int r = 0;

	if (left == NULL || t == NULL)
		abort();
	for (unsigned i = 0; i < n; i++) {
		struct op o = {.group = s->group};
		bool clear = true;

		choose(g, &o, n == 1);
		for (uint32_t k = from; k < s->n; k++)
			clear = clear && !overlap(&o, &s->op[k]);
		if (clear) {
			*session_add(s) = o;
			t[tasks] = (struct task){.g = g, .op = s->n - 1, .left = left};
			tasks++;
		}
	}
	if (n > 1 && sim_chance(1, 6)) {
		t[tasks] = (struct task){.g = g, .flush = true, .left = left};
		tasks++;
	}
	if (g->snaps && n > 1 && sim_chance(1, 4)) {
		t[tasks] = (struct task){.g = g, .snap = snap_begin(g, false), .left = left};
		tasks++;
	}
	*left = tasks;
	for (unsigned i = 1; i < tasks; i++)
		sim_spawn(g->node, "guest", run_task, &t[i]);
	run_task(&t[0]);
	while (*left > 0)
		clock_sleep_ns(NSEC_PER_MSEC);
	for (unsigned i = 0; i < tasks; i++) {
		if (t[i].flush && t[i].r == 0 && g->remote)
			oracle_remote(s, promised, "flush");
		else if (t[i].flush && t[i].r == 0)
			s->flushed = MAX(s->flushed, promised);
		r = r == 0 ? t[i].r : r;
	}
	free(t);
	free(left);
	if (r == 0)
		session_group_done(s);
	imgstats->groups++;
	return r;
}

static int flush(struct guest *g)
{
	uint32_t k = g->s->acked;
	int r = vol_flush(g->v);

	if (r == 0 && g->remote)
		oracle_remote(g->s, k, "flush");
	else if (r == 0)
		g->s->flushed = MAX(g->s->flushed, k);
	imgstats->flushes += r == 0;
	return r;
}

/* ---- a tenure ---- */

/* Claims by its first act, reads everything. -EBUSY, -EIO: did not get it. */
static int take(struct guest *g)
{
	_cleanup_free_ struct state *got = malloc(sizeof(*got));
	struct vol_stat st;
	int r;

	if (got == NULL)
		abort();
	for (;;) {
		struct iovec none = {NULL, 0};

		r = sim_chance(1, 2) ? vol_write(g->v, 0, &none, 0, 0) : 0;
		if (r == 0)
			r = read_all(g, true, got);
		if (r == 0 || !transient(r))
			break;
		doze(2 * NSEC_PER_SEC);
	}
	if (r == -EBUSY) {
		sim_check(g->released, "node %d: busy, and it may take over", g->node);
		imgstats->busy++;
		return r;
	}
	if (r < 0)
		return r;
	vol_stat(g->v, &st);
	if (ending(g))
		return -EIO; /* there is nothing that it must be */
	g->s = oracle_report(g->img, g->node, claim_of(g), st.epoch, got, g->released, *g->copied);
	g->s->v = g->v;
	return g->snaps ? snaps_look(g, 1) : 0;
}

static int let_go(struct guest *g, bool close)
{
	struct session *s = g->s;
	int r;

	s->closing = true;
	if (close) {
		peer_end(g);
		s->v = NULL;
		r = vol_close(g->v);
		g->v = NULL;
	} else {
		s->v = NULL;
		r = vol_end_write(g->v);
		vol_begin_write(g->v);
	}
	imgtrace("node %d: %s after %u gives %d", g->node, close ? "close" : "end of writing", s->acked, r);
	if (r == 0) {
		oracle_remote(s, s->acked, "close");
		imgstats->releases++;
		g->seen = s->acked;
		g->s = NULL;
	} else {
		sim_check(r == -EIO && (*g->sync_failed || oracle_superseded(g->img, s->epoch) || ending(g)),
			  "node %d: close gives %d with nobody against it", g->node, r);
		imgstats->fenced++;
	}
	return r;
}

static int tenure(struct guest *g, bool last)
{
	int r = take(g);

	for (unsigned n = 0; n < g->groups && r == 0; n++) {
		if (g->s == NULL && (r = take(g)) < 0)
			break;
		if (clock_now_ns() > g->nap_from && clock_now_ns() < g->nap_until)
			clock_sleep_ns(g->nap_until - clock_now_ns());
		r = one_group(g);
		if (r == 0 && sim_chance(1, 10))
			r = flush(g);
		if (r == 0 && sim_chance(1, 6))
			r = read_back(g);
		if (r == 0 && g->snaps && sim_chance(1, 8))
			r = snaps_op(g);
		if (g->busy)
			doze(g->busy_ns);
		else if (sim_chance(1, g->pace))
			doze(3 * NSEC_PER_SEC);
	}
	if (g->gone_back) {
		sim_check(refused(g, r), "the bucket has gone back in time, and node %d goes on: %d", g->node, r);
		return r;
	}
	if (r < 0 && r != -EBUSY)
		judge_failure(g, r, "I/O");
	return r < 0 || g->s == NULL ? r : let_go(g, last); /* a way back let it go */
}

static void write_guest(struct guest *g)
{
	unsigned tenures = sim_chance(1, 4) && !g->gone_back ? 2 : 1;
	struct state *got = malloc(sizeof(*got));
	int r = 0;

	if (got == NULL)
		abort();
	vol_begin_write(g->v);
	if (!g->gone_back && sim_chance(1, 2)) {
		if (read_all(g, false, got) == 0 && !ending(g))
			g->seen = oracle_view(g->img, claim_of(g), got, g->floor_of, g->floor, 0);
		g->peer_runs = true;
		sim_spawn(g->node, "peer", peer, g);
	}
	free(got);
	for (unsigned i = 0; i < tenures && r == 0; i++)
		r = tenure(g, i + 1 == tenures);
	if (g->v != NULL) {
		peer_end(g);
		if (g->s != NULL)
			g->s->v = NULL;
		r = vol_close(g->v);
		g->v = NULL;
		imgtrace("node %d: the end, close gives %d", g->node, r);
	}
}

static void read_guest(struct guest *g)
{
	struct state *got = malloc(sizeof(*got));
	uint32_t k = 0;

	if (got == NULL)
		abort();
	for (unsigned i = 0; i < g->groups; i++) {
		const struct session *from;
		uint32_t floor;
		int r = 0;

		if (sim_chance(1, 3)) {
			from = oracle_floor(g->img, &floor);
			r = vol_refresh(g->v);
			g->floor_of = r == 0 ? from : g->floor_of;
			g->floor = r == 0 ? floor : g->floor;
		}

		if (r == 0)
			r = read_all(g, false, got);
		if (ending(g))
			break;
		if (r == 0) {
			uint32_t now = oracle_view(g->img, claim_of(g), got, g->floor_of, g->floor, k);

			sim_check(now >= k, "node %d: a follower's view goes back from %u to %u", g->node, k, now);
			k = now;
		}
		sim_check(r == 0 || transient(r), "a follower's read gives %d", r);
		if (g->snaps && sim_chance(1, 3))
			snaps_follow(g);
		doze(2 * NSEC_PER_SEC);
	}
	free(got);
	sim_check(vol_close(g->v) == 0, "a follower's close fails");
	g->v = NULL;
}

/* Reads through a block cache that outlives the daemon. */
static struct fetch *fetch_of(const struct guest *g, struct pool *pool, struct blkcache **ret)
{
	struct fetch_env env = {.store = g->env->store, .pool = pool};
	struct blkdisk disk = {.seed = 1};
	struct fetch *f;
	char path[64];

	if (g->cache < 0)
		return NULL;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", g->cache);
	sim_check(blkcache_open(path, 0, &disk, ret) == 0, "no block cache");
	env.cache = *ret;
	sim_check(fetch_new(&env, &f) == 0, "no fetch");
	return f;
}

/* Every open asks first whether the image was deleted. 0, or an error; transient ones are tried again. */
static int open_image(struct guest *g, const struct vol_env *env, struct objerr *err)
{
	bool dead;
	int r;

	do {
		r = 0;
		dead = g->img->is == IMG_DEAD;
		g->floor_of = oracle_floor(g->img, &g->floor);
		if (g->snaps && g->img != MAIN_IMAGE)
			r = image_is_dead(env->store, g->img->prefix, err);
		if (r > 0) {
			sim_check(ending(g), "node %d: an image is dead that nobody deletes", g->node);
			return -ENOENT;
		}
		if (r == 0)
			r = vol_open(env, g->img->prefix, g->img->uuid, &g->v, err);
		if (r < 0)
			doze(NSEC_PER_SEC);
	} while (transient(r));
	sim_check(r != 0 || !dead, "node %d opens an image that is dead", g->node);
	/* The marks of a bucket that has gone back may name what was deleted since. */
	sim_check(r == 0 || refused(g, r) || ending(g), "node %d: open gives %d: %s", g->node, r, err->msg);
	return r;
}

void guest_main(void *arg)
{
	struct guest *g = arg;
	struct blkcache *cache = NULL;
	struct vol_env *env;
	struct pool *pool;
	struct objerr err = {0};
	int r;

	sim_check(pool_new("sim", 64, &pool) == 0, "no pool");
	env = env_of(g, pool);
	env->fetch = fetch_of(g, pool, &cache);
	r = g->erases ? 0 : open_image(g, env, &err);
	if (g->erases)
		guest_erase(g, env);
	else if (r < 0)
		;
	else if (g->reader)
		read_guest(g);
	else
		write_guest(g);
	fetch_free(env->fetch);
	blkcache_close(cache);
	pool_free(pool);
	free(env);
	g->done = true;
}
