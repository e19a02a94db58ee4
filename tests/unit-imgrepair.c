/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgrepair.c - buckets that are wounded at random, and repaired (fs/image/repair.h).
 *
 * A volume makes an image with several owners, trees, digests and two snapshots. Each trial puts it into a new bucket with
 * one to three things gone, flipped, cut short, or swapped: log objects, marks. Then
 *	before		what a reader gets: each sector right, or not at all
 *	repair		by the plan, now and then with zero_lost, or without a look at all data
 *	after		each sector that was right is right; none is anything else, but for zeros within what the plan
 *			called lost; where nothing was left to tell, a check finds nothing
 *	later		an owner writes, cleans and lets go: the same again
 * A wound that nobody can see (the end of the log, with all that knew of it) is told by the first look, and is no trial.
 *
 *	unit-imgrepair [SEED [TRIALS]]
 */
#include "config.h"
#include "blobs.h"
#include "fs/image/check.h"
#include "fs/image/logobj.h"
#include "fs/image/repair.h"
#include "objstore/base/pool.h"
#include "objstore/base/table.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTES = 256 * 1024, SECTORS = BYTES / 512, SNAPS = 2, WOUNDS = 3, TRIES = 3 };

static struct blobs all;
static uint64_t seed = 1, state, snaps[SNAPS];
static uint8_t want[BYTES], snap_want[SNAPS][BYTES];
static char dir[] = "/tmp/lsvdfs-unit-imgrepair-XXXXXX", state_dir[200], what[800];
static struct pool *pool;
static unsigned states;
static bool data; /* of this trial: objects are read in full */
static struct {
	unsigned trials, unseen, repaired, partly, zeroed, untold;
	unsigned first, based, again, refused;
} count;

static const uint8_t uuid[16] = "0123456789abcdef";
static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";

static uint64_t rnd(uint64_t n)
{
	return hash_u64(state++) % n;
}

static void need(bool ok, const char *fmt, ...) printf_like(2, 3);
static void need(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return;
	(void)fprintf(stderr, "seed %" PRIu64 ": %s: ", seed, what);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	_exit(1);
}

static void fresh_state(void)
{
	(void)snprintf(state_dir, sizeof(state_dir), "%s/%u", dir, states++);
	need(mkdir(state_dir, 0700) == 0, "no directory");
}

static struct vol_env env_of(struct objstore *s)
{
	return (struct vol_env){.store = s,
				.pool = pool,
				.host = "test",
				.state_dir = state_dir,
				.journal_bytes = 4 * MiB,
				.segment_bytes = 256 * KiB,
				.batch_bytes = 8 * KiB,
				.map_bytes = 32 * KiB,
				.map_fanout = 5,
				.digest_every = 3,
				.tree_digests = 4,
				.dirty_age_ns = 3600 * NSEC_PER_SEC,
				.takeover = VOL_TAKEOVER_ALWAYS};
}

/* ---- an image ---- */

static void one_write(struct volume *v)
{
	static uint8_t buf[24 * 512];
	uint64_t n = (1 + rnd(24)) * 512, off = rnd((BYTES - n) / 512 + 1) * 512;
	struct iovec iov = {buf, n};
	int r;

	if (rnd(8) == 0) {
		memset(want + off, 0, n);
		r = vol_discard(v, off, n);
	} else {
		for (uint64_t i = 0; i < n; i += 8) {
			uint64_t x = hash_u64(state + i) | 1;

			memcpy(want + off + i, &x, 8);
		}
		state++;
		memcpy(buf, want + off, n);
		r = vol_write(v, off, &iov, 1, n);
	}
	need(r == 0, "a write fails: %d", r);
}

static struct volume *begin(struct objstore *s)
{
	struct vol_env env = env_of(s);
	struct objerr err = {0};
	struct volume *v = NULL;
	int r = vol_open(&env, prefix, uuid, &v, &err);

	need(r == 0, "no volume: %d %s", r, err.msg);
	vol_begin_write(v);
	return v;
}

static void make(void)
{
	struct vol_create c = {.size = BYTES, .window = 3, .object_bytes = 64 * KiB};
	struct objstore *s;
	struct vol_env env;
	struct objerr err = {0};
	bool young = rnd(3) == 0; /* little of it has been deleted */
	unsigned owners = young ? 1 : 2 + (unsigned)rnd(3), nsnaps = rnd(2) == 0 ? SNAPS : 0;

	blobs_clear(&all);
	memset(want, 0, sizeof(want));
	memset(snaps, 0, sizeof(snaps));
	memcpy(c.uuid, uuid, 16);
	need(store_mem_new(&s) == 0, "no store");
	fresh_state();
	env = env_of(s);
	need(vol_create(&env, prefix, &c, &err) == 0, "no image");
	for (unsigned k = 0; k < owners; k++) {
		struct volume *v = begin(s);

		for (unsigned i = 0, n = young ? 12 + (unsigned)rnd(12) : 40 + (unsigned)rnd(120); i < n; i++)
			one_write(v);
		if (k < nsnaps) {
			need(vol_snapshot(v, k == 0 ? "one" : "two", &snaps[k], &err) == 0, "no snapshot: %s", err.msg);
			memcpy(snap_want[k], want, BYTES);
		}
		for (unsigned i = 0, n = young ? 0 : (unsigned)rnd(30); i < n; i++)
			one_write(v);
		need(vol_end_write(v) == 0 && vol_close(v) == 0, "close fails");
		if (rnd(2) == 0)
			fresh_state();
	}
	need(blobs_take(s, &all) == 0, "no objects");
	obj_close(s);
}

/* ---- wounds ---- */

static void put(struct objstore *s, const char *key, const void *p, size_t n)
{
	need(blobs_put(s, key, p, n) == 0, "no PUT");
}

static bool is_object(const struct blob *b)
{
	return strlen(b->key) == sizeof(prefix) - 1 + 16;
}

static void note(const char *fmt, ...) printf_like(1, 2);
static void note(const char *fmt, ...)
{
	size_t at = strlen(what);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what + at, sizeof(what) - at, fmt, ap);
	va_end(ap);
}

static const struct blob *victim(void)
{
	const struct blob *b;

	do
		b = &all.v[rnd(rnd(4) == 0 ? MIN(all.n, (size_t)8) : all.n)];
	while (!is_object(b) && strstr(b->key, "/mark/") == NULL);
	return b;
}

static void wound(struct objstore *s)
{
	const struct blob *b = victim(), *o;
	uint64_t kind = is_object(b) ? rnd(8) : 0;
	uint8_t *p;

	{
		struct logobj h = {0};
		struct objerr err = {0};
		size_t more;

		note(" %s", b->key + sizeof(prefix) - 1);
		if (is_object(b) && logobj_decode(b->p, b->n, NULL, 0, &h, &more, &err) == 0)
			note(" (%s%s)", log_type_name[h.type], h.checkpoint != NULL ? ", checkpoint" : "");
		logobj_free(&h);
	}
	switch (kind) {
	case 0:
	case 1:
	case 2:
		note(" gone;");
		ignore(obj_delete(s, b->key, NULL, NULL)); /* or it went before */
		break;
	case 3:
		note(" cut;");
		put(s, b->key, b->p, (size_t)rnd(b->n));
		break;
	case 4:
		o = &all.v[rnd(all.n)];
		note(" has %s;", o->key + sizeof(prefix) - 1);
		put(s, b->key, o->p, o->n);
		break;
	default:
		p = malloc(b->n + 1);
		need(p != NULL, "no memory");
		memcpy(p, b->p, b->n);
		for (uint64_t n = 1 + rnd(3); n > 0; n--) {
			size_t at = (size_t)rnd(kind == 5 ? MIN(b->n, (size_t)300) : b->n);

			p[at] ^= (uint8_t)(1u << rnd(8));
			note(" flip %zu", at);
		}
		note(";");
		put(s, b->key, p, b->n);
		free(p);
	}
}

static struct objstore *wounded(void)
{
	struct objstore *s;

	need(store_mem_new(&s) == 0, "no store");
	for (size_t i = 0; i < all.n; i++)
		put(s, all.v[i].key, all.v[i].p, all.v[i].n);
	if (rnd(24) == 0) { /* all marks */
		note(" no marks;");
		for (size_t i = 0; i < all.n; i++)
			if (strstr(all.v[i].key, "/mark/") != NULL)
				ignore(obj_delete(s, all.v[i].key, NULL, NULL));
	}
	for (uint64_t n = 1 + rnd(WOUNDS) * rnd(2); n > 0; n--)
		wound(s);
	return s;
}

/* ---- what is read ---- */

enum { LOST, RIGHT, OTHER };
struct seen {
	uint8_t image[SECTORS], snap[SNAPS][SECTORS];
	uint8_t bytes[BYTES]; /* of the image */
};

static void look_at(struct volume *v, const uint8_t *w, uint8_t *ret, uint8_t *bytes)
{
	static uint8_t buf[BYTES];

	if (vol_size(v) != BYTES) {
		memset(ret, OTHER, SECTORS);
		return;
	}
	if (vol_read(v, false, 0, buf, BYTES) == BYTES) {
		for (size_t i = 0; i < SECTORS; i++)
			ret[i] = memcmp(buf + i * 512, w + i * 512, 512) == 0 ? RIGHT : OTHER;
	} else {
		for (size_t i = 0; i < SECTORS; i++) {
			ssize_t r = vol_read(v, false, i * 512, buf + i * 512, 512);

			ret[i] = r != 512 ? LOST : memcmp(buf + i * 512, w + i * 512, 512) == 0 ? RIGHT : OTHER;
		}
	}
	if (bytes != NULL)
		memcpy(bytes, buf, BYTES);
}

static void look(struct objstore *s, struct seen *ret)
{
	struct vol_env env = env_of(s);
	struct objerr err = {0};
	struct volume *v, *sv;

	memset(ret, 0, sizeof(*ret));
	env.read_only = true;
	if (vol_open(&env, prefix, uuid, &v, &err) < 0) {
		for (int i = 0; i < SNAPS; i++)
			memset(ret->snap[i], snaps[i] == 0 ? RIGHT : LOST, SECTORS);
		return;
	}
	look_at(v, want, ret->image, ret->bytes);
	for (int i = 0; i < SNAPS; i++)
		if (snaps[i] == 0)
			memset(ret->snap[i], RIGHT, SECTORS);
		else if (vol_open_snapshot(v, snaps[i], &sv, &err) == 0) {
			look_at(sv, snap_want[i], ret->snap[i], NULL);
			ignore(vol_close(sv));
		}
	ignore(vol_close(v));
}

static bool unseen(const struct seen *x)
{
	if (memchr(x->image, OTHER, SECTORS) != NULL)
		return true;
	for (int i = 0; i < SNAPS; i++)
		if (memchr(x->snap[i], OTHER, SECTORS) != NULL)
			return true;
	return false;
}

static bool may_be_zero(const struct repair_plan *p, size_t sector)
{
	for (size_t i = 0; i < p->nlost; i++)
		if (sector * 512 + 511 >= p->lost[i].off && sector * 512 < p->lost[i].off + p->lost[i].len)
			return true;
	return false;
}

static void compare(const struct seen *a, const struct seen *b, const struct repair_plan *p, bool zero, const char *when)
{
	static const uint8_t zeros[512];

	for (size_t i = 0; i < SECTORS; i++) {
		bool ok = b->image[i] == RIGHT || (b->image[i] == LOST && a->image[i] == LOST);

		if (b->image[i] == OTHER && zero && a->image[i] == LOST)
			ok = may_be_zero(p, i) && memcmp(b->bytes + i * 512, zeros, 512) == 0;
		need(ok, "%s: sector %zu was %d and is %d", when, i, a->image[i], b->image[i]);
		for (int k = 0; k < SNAPS; k++)
			need(b->snap[k][i] == RIGHT || (b->snap[k][i] == LOST && (a->snap[k][i] == LOST || p->nsnaps > 0)),
			     "%s: sector %zu of snapshot %d was %d and is %d", when, i, k, a->snap[k][i], b->snap[k][i]);
	}
}

/* ---- a trial ---- */

static void on_line(void *arg, enum check_kind kind, const char *line)
{
	if (kind == CHECK_DAMAGE || getenv("TRACE") != NULL)
		(void)fprintf(stderr, "%s %d %s\n", (const char *)arg, (int)kind, line);
}

static void show(const struct repair_plan *p, bool always)
{
	if (!always && getenv("TRACE") == NULL)
		return;
	(void)fprintf(stderr, "-- %s\n", what);
	for (size_t i = 0; i < p->nstep; i++)
		(void)fprintf(stderr, "   step: %s\n", p->step[i]);
	for (size_t i = 0; i < p->nleft; i++)
		(void)fprintf(stderr, "   left: %s\n", p->left[i]);
}

static void plan(struct objstore *s, bool zero, struct repair_plan *p)
{
	struct vol_env env = env_of(s);
	struct objerr err = {0};
	int r = repair_plan(&env, prefix, uuid, data, zero, p, &err);

	need(r == 0, "no plan: %d %s", r, err.msg);
	show(p, false);
}

/* False: it said that it could not (EIO), and is worth another try. */
static bool repair_once(struct objstore *s, bool zero, struct repair_plan *p)
{
	struct vol_env env = env_of(s);
	struct objerr err = {0};
	struct vol_stat st;
	struct volume *v;
	int r, end;

	plan(s, zero, p);
	for (int i = 0; p->first; i++) {
		need(i < 3, "the first steps do not help");
		count.first++;
		r = repair_first(&env, prefix, uuid, p, &err);
		need(r == 0, "the first steps fail: %d %s", r, err.msg);
		repair_plan_free(p);
		plan(s, zero, p);
	}
	if (!p->owned)
		return true;
	count.based += p->from_base;
	env.from_base = p->from_base;
	env.base = p->base;
	env.lose_pages = p->lose_pages;
	r = vol_open(&env, prefix, uuid, &v, &err);
	need(r == 0, "the plan's volume does not open: %d %s", r, err.msg);
	vol_begin_write(v);
	r = vol_repair(v, p, zero, &err);
	vol_stat(v, &st);
	if (r < 0)
		(void)fprintf(stderr, "-- %s: %d %s (%s)\n", what, r, err.msg, st.why);
	need(r == 0 || r == -EIO, "the repair fails: %d %s (%s)", r, err.msg, st.why);
	end = vol_end_write(v);
	need(vol_close(v) == 0 && end == 0, "close after the repair fails");
	return r == 0;
}

/* False: not in TRIES. Nothing that was right may be the worse for that. */
static bool repair(struct objstore *s, bool zero, struct repair_plan *p)
{
	for (int i = 1; !repair_once(s, zero, p); i++) {
		if (i == TRIES)
			return false;
		count.again++;
		repair_plan_free(p);
	}
	return true;
}

/* Its life goes on. */
static void later(struct objstore *s)
{
	struct vol_gc gc;
	struct volume *v = begin(s);
	static uint8_t saved[BYTES];
	bool ok;

	memcpy(saved, want, BYTES);
	ok = vol_gc(v, 0, &gc) == 0;
	ok = vol_end_write(v) == 0 && ok;
	need(vol_close(v) == 0 && ok, "cannot be cleaned after the repair");
}

static void trial(void)
{
	static struct seen before, after;
	bool zero = rnd(3) == 0, done;
	struct check_opts o = {.say = on_line, .arg = what};
	struct check_result res;
	struct repair_plan p;
	struct objerr err = {0};
	struct objstore *s;
	struct vol_env env;

	what[0] = '\0';
	s = wounded();
	note(zero ? " zero" : "");
	o.data = data = rnd(3) > 0;
	note(data ? " data" : "");
	fresh_state();
	look(s, &before);
	if (unseen(&before)) {
		count.unseen++;
		obj_close(s);
		return;
	}
	count.trials++;
	done = repair(s, zero, &p);
	count.refused += !done;
	look(s, &after);
	compare(&before, &after, &p, zero, "after");
	env = env_of(s);
	if (done && p.nleft == 0) {
		o.say = on_line;
		need(image_check(&env, prefix, uuid, &o, &res, &err) == 0, "no check: %s", err.msg);
		if (res.damage > 0)
			show(&p, true);
		need(res.damage == 0, "damaged after a repair that left nothing to tell");
		count.repaired += p.nstep > 0;
		count.zeroed += p.nlost > 0;
		count.untold += p.nstep == 0;
		later(s);
		look(s, &after);
		compare(&before, &after, &p, zero, "later");
	} else {
		count.partly++;
	}
	repair_plan_free(&p);
	obj_close(s);
}

int main(int argc, char **argv)
{
	const char *env = getenv("IMGREPAIR_TRIALS");
	unsigned trials = argc > 2 ? (unsigned)atoi(argv[2]) : env != NULL ? (unsigned)atoi(env) : 60;

	seed = argc > 1 ? strtoull(argv[1], NULL, 10) : getenv("SEED") != NULL ? strtoull(getenv("SEED"), NULL, 10) : 1;
	state = hash_u64(seed);
	need(mkdtemp(dir) != NULL && pool_new("repair", 8, &pool) == 0, "setup");
	for (unsigned i = 0; i < trials; i++) {
		if (i % 20 == 0)
			make();
		trial();
	}
	printf("seed %" PRIu64 ": %u wounded buckets: %u repaired whole (%u of them with zeros), %u in part or not, %u had nothing "
	       "that mattered; %u times first steps, %u from another checkpoint, %u tried again, %u failed; %u wounds that nobody can see\n",
	       seed, count.trials, count.repaired, count.zeroed, count.partly, count.untold, count.first, count.based, count.again, count.refused, count.unseen);
	need(count.refused <= 1 + trials / 4, "repairs fail");
	need(trials < 60 || (count.repaired > 5 && count.partly > 0), "hardly anything was repaired");
	pool_free(pool);
	(void)fflush(stdout);
	need(execlp("rm", "rm", "-rf", dir, NULL) == 0, "rm");
}
