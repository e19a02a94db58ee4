/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgduel.c - daemons that meet at the steps which one rule orders (imgduel.h).
 *
 * The schedule: whoever is about to send a request that matters may fall asleep there, and then wakes who sleeps
 * already. So the steps of both come in any order, each about as likely as another, and long sleeps are among them.
 */
#include "config.h"
#include "imgduel.h"
#include "simnet.h"
#include "fs/image/nameobj.h"
#include "fs/image/volume-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/pool.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { NODES = 5, BLOCKS = 12, TENURES = 64, FRESH = 5 /* a node that has nothing of the image */ };

enum imgduel imgduel_kind;
const char *const imgduel_name[IMGDUELS] = {"", "unsnap", "remove", "reborn", "erase", "fenced"};
struct imgduel_stats *imgduel_stats;

static struct objstore *shared;
static struct node {
	struct objstore *store;
	struct simdisk *disk;
	struct jdisk jd;
	unsigned life;
	bool busy, asleep;
} node[NODES + 1];
static struct vol_env common;
static bool trace, begun; /* the steps matter from here on */

/* The image, and two clones. */
static uint8_t uuid[3][16];
static char prefix[3][64];
static struct {
	bool tried, made;
} copy_of[3];

struct content {
	uint32_t block[BLOCKS];
};
static struct content then, now; /* as the snapshot was made; last written by who has it */
static uint32_t stamps;
static bool ready, unsnapped, erased;
static unsigned marks; /* of node 1 */
static int64_t storm; /* from then on what node 1 sends takes long; 0: not yet */
static struct vol_remains remains; /* of the image, once it is doomed */
static bool doomed;

/* An owner's time. */
static struct tenure {
	uint64_t epoch;
	unsigned ops, bound; /* what of it may be promised: a later owner came then */
} tenure[TENURES];
static unsigned ntenures;

static void say(const char *fmt, ...) printf_like(1, 2);
static void say(const char *fmt, ...)
{
	va_list ap;

	if (!trace)
		return;
	va_start(ap, fmt);
	(void)fprintf(stderr, "%9.4f ", (double)(clock_now_ns() % (100000 * NSEC_PER_SEC)) / 1e9);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
}

void imgduel_setup(void)
{
	imgduel_stats = mmap(NULL, sizeof(*imgduel_stats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (imgduel_stats == MAP_FAILED)
		abort();
	trace = getenv("TRACE") != NULL;
}

void imgduel_print(void)
{
	const struct imgduel_stats *s = imgduel_stats;

	(void)printf("# duels: deaths at a call %" PRIu64 ", sleeps before one %" PRIu64 ", clones %" PRIu64 ", deletions %" PRIu64
		     ", refused %" PRIu64 ", takeovers %" PRIu64 ", flushes %" PRIu64 ", fenced %" PRIu64 "\n",
		     s->deaths, s->sleeps, s->clones, s->ends, s->refused, s->takeovers, s->flushes, s->fenced);
}

static bool transient(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -EACCES;
}

static void doze(int64_t most)
{
	clock_sleep_ns(1 + (int64_t)sim_below((uint64_t)most));
}

/* ---- the schedule ---- */

static void wakes(void *arg)
{
	struct node *n = arg;

	if (!n->asleep)
		return;
	n->asleep = false;
	sim_freeze((int)(n - node), false);
}

static void sleeps(int i, const struct objreq *req, int64_t longest, unsigned woken)
{
	for (int k = 1; k <= NODES; k++)
		if (k != i && sim_chance(woken, 4))
			wakes(&node[k]);
	say("node %d sleeps before %s %s", i, obj_op_name[req->op], req->key != NULL ? req->key : "");
	node[i].asleep = true;
	sim_freeze(i, true);
	imgduel_stats->sleeps++;
	sim_after(0, 1 + (int64_t)sim_below((uint64_t)longest), wakes, &node[i]);
}

static bool is_mark(const struct objreq *req)
{
	return req->key != NULL && strstr(req->key, "/mark/") != NULL;
}

/* The steps of who makes a clone, and of who deletes; some of the log's among them. */
static bool of_clones(const struct objreq *req)
{
	const char *k = req->key;

	if (req->op == OBJ_DELETE_MANY)
		return true;
	if (req->op == OBJ_PUT && strncmp(k, prefix[0], strlen(prefix[0])) == 0 && strlen(k) == strlen(prefix[0]) + 16)
		return sim_chance(1, 8);
	return strncmp(k, prefix[0], strlen(prefix[0])) != 0 || strstr(k, "/ref/") != NULL || strstr(k, "/gone/") != NULL ||
	       strstr(k, "/dead") != NULL;
}

static void on_send(int i, const struct objreq *req)
{
	bool writes = obj_op_writes(req->op), eraser = i == 4;

	if (!begun || node[i].asleep || i == FRESH)
		return;
	if (imgduel_kind == DUEL_UNSNAP || imgduel_kind == DUEL_REMOVE) {
		if (of_clones(req) && sim_chance(1, 2))
			sleeps(i, req, 3 * NSEC_PER_SEC, 2);
	} else if (imgduel_kind == DUEL_FENCED) {
		/* Its data waits for this mark, and goes out at once when that is answered. */
		if (storm == 0 && i == 1 && is_mark(req) && req->op == OBJ_PUT && ++marks > 6 && sim_chance(1, 8))
			storm = clock_now_ns() + 1;
	} else if (imgduel_kind == DUEL_ERASE && doomed && eraser) {
		if (sim_chance(1, 2))
			sleeps(i, req, 20 * NSEC_PER_SEC, 0);
	} else if (imgduel_kind == DUEL_ERASE && !erased) {
		if (sim_chance(1, !writes ? 20 : doomed ? 3 : 8))
			sleeps(i, req, sim_chance(1, 2) ? 30 * NSEC_PER_SEC : NSEC_PER_SEC, 0);
	}
}

static void spy(int i, const struct objreq *req, int status, bool late)
{
	if (obj_op_writes(req->op) || status == -ENOENT || is_mark(req))
		say("node %d: %s %s gives %d%s", i, obj_op_name[req->op],
		    req->op == OBJ_DELETE_MANY ? req->keys[0] : req->key, status, late ? ", late" : "");
}

/* ---- volumes ---- */

static struct vol_env *env_of(int i, bool read_only)
{
	struct vol_env *e = malloc(sizeof(*e));
	struct pool *pool;

	if (e == NULL || pool_new("duel", 32, &pool) < 0)
		abort();
	*e = common;
	e->store = node[i].store;
	e->disk = &node[i].jd;
	e->pool = pool;
	e->read_only = read_only;
	/* It deletes only when it writes no tree; the next one needs a tree, or digests would keep what it deletes. */
	if (imgduel_kind == DUEL_FENCED && i == 1) {
		e->tree_digests = 10 + (unsigned)sim_below(90);
		e->map_bytes = MiB;
	}
	return e;
}

static void env_done(struct vol_env *e)
{
	pool_free(e->pool);
	free(e);
}

/* As everybody opens an image: -ENOENT when it was deleted. */
static int open_image(struct vol_env *e, int image, struct volume **ret, struct objerr *err)
{
	int r;

	for (;;) {
		r = image_is_dead(e->store, prefix[image], err);
		if (r > 0)
			return -ENOENT;
		if (r == 0)
			r = vol_open(e, prefix[image], uuid[image], ret, err);
		if (!transient(r))
			return r;
		doze(NSEC_PER_SEC);
	}
}

static int write_block(struct volume *v, unsigned b, uint32_t stamp)
{
	uint32_t buf[SECTOR / 4];
	struct iovec iov = {buf, sizeof(buf)};
	int r;

	for (unsigned k = 0; k < SECTOR / 4; k++)
		buf[k] = stamp;
	while (transient(r = vol_write(v, (uint64_t)b * SECTOR, &iov, 1, SECTOR)))
		doze(NSEC_PER_SEC);
	return r;
}

static int read_all(struct volume *v, bool writer, struct content *ret)
{
	uint32_t buf[BLOCKS * SECTOR / 4];
	ssize_t n;

	while (transient((int)(n = vol_read(v, writer, 0, buf, sizeof(buf)))))
		doze(NSEC_PER_SEC);
	if (n < 0)
		return (int)n;
	sim_check(n == (ssize_t)sizeof(buf), "an image is of another size: %zd", n);
	for (unsigned b = 0; b < BLOCKS; b++) {
		ret->block[b] = buf[b * (SECTOR / 4)];
		for (unsigned k = 1; k < SECTOR / 4; k++)
			sim_check(buf[b * (SECTOR / 4) + k] == ret->block[b], "block %u is torn", b);
	}
	return 0;
}

static void must_be(const struct content *got, const struct content *want, const char *what)
{
	for (unsigned b = 0; b < BLOCKS; b++)
		sim_check(got->block[b] == want->block[b], "%s: block %u is %u, not %u", what, b, got->block[b],
			  want->block[b]);
}

static int fill(struct volume *v)
{
	int r = 0;

	for (unsigned b = 0; b < BLOCKS && r == 0; b++) {
		r = write_block(v, b, ++stamps);
		if (r == 0)
			now.block[b] = stamps;
	}
	return r;
}

/* ---- clones against deletions ---- */

/* As the daemon does it. */
static int delete_image(struct vol_env *e, struct objerr *err)
{
	struct vol_remains rem;
	struct volume *v;
	size_t left;
	int r = 0;

	if (!doomed) {
		r = image_has_refs(e->store, prefix[0], err);
		if (r > 0)
			return -EBUSY;
		if (r == 0)
			r = open_image(e, 0, &v, err);
		if (r < 0)
			return r;
		r = vol_doom(v, &rem);
		if (r == 0) {
			remains = rem;
			doomed = true;
		}
		ignore(vol_close(v));
	}
	if (r == 0)
		r = image_bury(e->store, prefix[0], err);
	if (r == 0)
		r = image_erase(e->store, prefix[0], remains.next, remains.claims, remains.nclaims, &left, err);
	return r;
}

static void delete_now(int i, struct vol_env *e)
{
	struct objerr err = {0};
	int r;

	for (unsigned k = 0; k < 100 && transient(r = delete_image(e, &err)); k++)
		doze(NSEC_PER_SEC);
	say("node %d: the deletion of the image gives %d: %s", i, r, err.msg);
	erased = erased || r == 0;
	imgduel_stats->ends += r == 0;
	imgduel_stats->refused += r == -EBUSY;
}

static void unsnap_now(int i, struct volume *v)
{
	struct objerr err = {0};
	int r;

	while (transient(r = vol_unsnap(v, "s", &err)))
		doze(NSEC_PER_SEC);
	say("node %d: the deletion of the snapshot gives %d: %s", i, r, err.msg);
	unsnapped = unsnapped || r == 0;
	imgduel_stats->ends += r == 0;
	imgduel_stats->refused += r == -EBUSY;
}

/* Who made the image and its snapshot, and deletes one of them. */
static void deleter(void *arg)
{
	struct vol_env *e = env_of(1, false);
	struct objerr err = {0};
	struct volume *v;
	uint64_t number;

	(void)arg;
	sim_check(open_image(e, 0, &v, &err) == 0, "the image cannot be opened");
	vol_begin_write(v);
	sim_check(fill(v) == 0 && fill(v) == 0 && vol_snapshot(v, "s", &number, &err) == 0, "no snapshot");
	then = now;
	if (imgduel_kind == DUEL_REMOVE)
		sim_check(vol_close(v) == 0, "the image cannot be closed");
	ready = true;
	while (!begun)
		clock_sleep_ns(NSEC_PER_MSEC);
	doze(500 * NSEC_PER_MSEC);
	if (imgduel_kind == DUEL_REMOVE) {
		delete_now(1, e);
	} else {
		unsnap_now(1, v);
		sim_check(vol_close(v) == 0, "the image cannot be closed");
	}
	env_done(e);
	node[1].busy = false;
}

static void cloner(void *arg)
{
	int i = (int)((struct node *)arg - node), k = i - 1;
	struct vol_env *e = env_of(i, true);
	struct objerr err = {0};
	struct volume *v;
	uint64_t size;
	int r = open_image(e, 0, &v, &err);

	if (r == 0) {
		doze(NSEC_PER_SEC);
		copy_of[k].tried = true;
		r = vol_clone(v, "s", prefix[k], uuid[k], &size, &err);
		copy_of[k].made = r == 0;
		imgduel_stats->clones += r == 0;
		ignore(vol_close(v));
	}
	say("node %d: clone %d gives %d: %s", i, k, r, err.msg);
	env_done(e);
	node[i].busy = false;
}

/* Later: who has the image then finishes what was begun; nothing in it is what the snapshot had. */
static void finisher(void *arg)
{
	struct vol_env *e = env_of(4, false);
	struct objerr err = {0};
	struct vol_gc gc;
	struct volume *v;

	(void)arg;
	if (imgduel_kind == DUEL_REMOVE) {
		if (doomed)
			delete_now(4, e);
	} else {
		sim_check(open_image(e, 0, &v, &err) == 0, "the image is lost: %s", err.msg);
		vol_begin_write(v);
		sim_check(fill(v) == 0, "no write");
		if (!unsnapped && sim_chance(2, 3))
			unsnap_now(4, v);
		sim_check(fill(v) == 0 && fill(v) == 0 && vol_flush(v) == 0, "no write");
		while (transient(vol_gc(v, 99, &gc)))
			doze(NSEC_PER_SEC);
		clock_sleep_ns(10 * NSEC_PER_SEC);
		sim_check(fill(v) == 0, "no write");
		clock_sleep_ns(10 * NSEC_PER_SEC);
		sim_check(vol_close(v) == 0, "the image cannot be closed");
	}
	env_done(e);
	node[4].busy = false;
}

/* Every clone whose create record is there is whole, whatever its maker was told. */
static void clones_are_whole(void *arg)
{
	struct vol_env *e = env_of(FRESH, true);
	struct content got;
	struct volume *v;

	(void)arg;
	for (int k = 1; k <= 2; k++) {
		struct objerr err = {0};
		int r = copy_of[k].tried ? open_image(e, k, &v, &err) : -ENOENT;

		sim_check(r == 0 || (r == -ENOENT && !copy_of[k].made), "clone %d cannot be opened: %d, %s", k, r, err.msg);
		if (r < 0)
			continue;
		r = read_all(v, false, &got);
		sim_check(r == 0, "clone %d cannot be read: %d", k, r);
		must_be(&got, &then, "a clone");
		ignore(vol_close(v));
	}
	env_done(e);
	node[FRESH].busy = false;
}

/* ---- an image that is deleted, and comes again ---- */

static void maker(void *arg)
{
	struct vol_env *e = env_of(1, false);
	unsigned tenures = (unsigned)sim_below(3);
	struct objerr err = {0};
	struct volume *v;

	(void)arg;
	for (unsigned k = 0; k < tenures; k++) {
		sim_check(open_image(e, 0, &v, &err) == 0, "the image cannot be opened");
		vol_begin_write(v);
		sim_check(fill(v) == 0 && vol_close(v) == 0, "no write");
	}
	ready = true;
	doze(2 * NSEC_PER_SEC);
	delete_now(1, e);
	env_done(e);
	node[1].busy = false;
}

static void opener(void *arg)
{
	int i = (int)((struct node *)arg - node);
	struct vol_env *e = env_of(i, true);

	for (unsigned k = 0; k < 6; k++) {
		struct objerr err = {0};
		struct volume *v;
		bool gone;
		int r;

		doze(6 * NSEC_PER_SEC);
		gone = erased;
		r = open_image(e, 0, &v, &err);
		say("node %d: open gives %d: %s", i, r, err.msg);
		sim_check(r != 0 || !gone, "node %d opens an image that was deleted", i);
		if (r == 0)
			ignore(vol_close(v));
	}
	env_done(e);
	node[i].busy = false;
}

static int64_t born_again(const struct objreq *req)
{
	const char *tail = req->op == OBJ_PUT ? strrchr(req->key, '/') : NULL;

	if (imgduel_kind != DUEL_REBORN || tail == NULL || strcmp(tail, "/0000000000000001") != 0)
		return 0;
	return 1 + (int64_t)sim_below(30 * (uint64_t)NSEC_PER_SEC);
}

/* ---- writers of an image that is deleted ---- */

/* A new owner: what earlier ones begin from now on is promised by nobody. */
static struct tenure *owns(int i, struct volume *v)
{
	struct tenure *t = &tenure[ntenures++];
	struct vol_stat st;

	sim_check(ntenures <= TENURES, "too many tenures");
	vol_stat(v, &st);
	*t = (struct tenure){.epoch = st.epoch, .bound = UINT32_MAX};
	for (struct tenure *x = tenure; x < t; x++) {
		sim_check(x->epoch != t->epoch, "two owners of epoch %" PRIu64, t->epoch);
		if (x->epoch < t->epoch)
			x->bound = MIN(x->bound, x->ops);
		else if (x->epoch > t->epoch) /* it learned it late */
			t->bound = 0;
	}
	imgduel_stats->takeovers++;
	say("node %d has the image, epoch %" PRIu64, i, t->epoch);
	return t;
}

static void promised(const struct tenure *t, unsigned ops, int i, const char *what)
{
	imgduel_stats->flushes++;
	sim_check(ops <= t->bound, "node %d: a %s of epoch %" PRIu64 " succeeded: %u operations, %u before a later owner had the image",
		  i, what, t->epoch, ops, t->bound);
}

static int write_some(int i, struct volume *v, struct tenure *t)
{
	unsigned groups = 2 + (unsigned)sim_below(10);
	int r = 0;

	for (unsigned k = 0; k < groups && r == 0; k++) {
		unsigned ops;

		t->ops++;
		r = write_block(v, (unsigned)sim_below(BLOCKS), ++stamps);
		ops = t->ops;
		if (r == 0 && sim_chance(1, 2)) {
			r = vol_flush(v);
			if (r == 0)
				promised(t, ops, i, "flush");
		}
		doze(sim_chance(1, 4) ? NSEC_PER_SEC : 20 * NSEC_PER_MSEC);
	}
	return r;
}

static void writer(void *arg)
{
	int i = (int)((struct node *)arg - node);
	struct vol_env *e = env_of(i, false);

	for (unsigned k = 0; k < 6; k++) {
		struct objerr err = {0};
		struct tenure *t = NULL;
		struct volume *v;
		unsigned ops = 0;
		int r = open_image(e, 0, &v, &err);

		if (r < 0)
			break;
		vol_begin_write(v);
		doze(sim_chance(1, 2) ? 4 * NSEC_PER_SEC : 50 * NSEC_PER_MSEC);
		while (transient(r = vol_own(v)))
			doze(NSEC_PER_SEC);
		if (r == 0) {
			t = owns(i, v);
			r = write_some(i, v, t);
			ops = t->ops;
		}
		imgduel_stats->fenced += t != NULL && r == -EIO;
		r = vol_close(v);
		say("node %d: close gives %d", i, r);
		if (r == 0 && t != NULL)
			promised(t, ops, i, "close");
		doze(2 * NSEC_PER_SEC);
	}
	env_done(e);
	node[i].busy = false;
}

static void eraser(void *arg)
{
	struct vol_env *e = env_of(4, false);

	(void)arg;
	doze(10 * NSEC_PER_SEC);
	delete_now(4, e);
	env_done(e);
	node[4].busy = false;
}

/* ---- an owner that deletes when it has been overtaken ---- */


/*
 * Of node 1, from then on: data arrives late, or behind the next claim, where it is void; looks at marks, marks and
 * deletions take effect when the next owner has gone on.
 */
static int64_t slow(const struct objreq *req)
{
	bool create = req->op == OBJ_PUT && !is_mark(req);
	bool rest = is_mark(req) || req->op == OBJ_DELETE_MANY;

	if (sim_node() != 1 || storm == 0 || clock_now_ns() < storm)
		return 0;
	if (create && sim_chance(7, 8))
		return 30 * NSEC_PER_SEC + (int64_t)sim_below(30 * (uint64_t)NSEC_PER_SEC);
	if (rest && sim_chance(1, 2))
		return (int64_t)sim_below(24 * (uint64_t)NSEC_PER_SEC);
	return 0;
}

static void overtaken(void *arg)
{
	struct vol_env *e = env_of(1, false);
	struct objerr err = {0};
	struct volume *v;
	int r;

	(void)arg;
	sim_check(open_image(e, 0, &v, &err) == 0, "the image cannot be opened");
	vol_begin_write(v);
	r = fill(v);
	ready = true;
	while (r == 0 && (storm == 0 || clock_now_ns() < storm + 40 * NSEC_PER_SEC)) {
		r = write_block(v, (unsigned)sim_below(BLOCKS), ++stamps);
		doze(40 * NSEC_PER_MSEC);
	}
	say("node 1: the end: %d, close %d", r, vol_close(v));
	imgduel_stats->fenced += r == -EIO;
	env_done(e);
	node[1].busy = false;
}

/* What it found and wrote is what it reads, and what the one after it finds. */
static void overtaker(void *arg)
{
	int64_t until = storm + 35 * NSEC_PER_SEC;
	struct vol_env *e = env_of(2, false);
	struct objerr err = {0};
	struct content got;
	struct volume *v;
	unsigned own = (unsigned)sim_below(BLOCKS);
	int r = open_image(e, 0, &v, &err);

	(void)arg;
	sim_check(r == 0, "the image cannot be opened: %s", err.msg);
	vol_begin_write(v);
	r = read_all(v, true, &now);
	sim_check(r == 0, "the image cannot be taken over: %d", r);
	imgduel_stats->takeovers++;
	while (clock_now_ns() < until) {
		sim_check(write_block(v, own, ++stamps) == 0, "an owner cannot write");
		now.block[own] = stamps;
		doze(sim_chance(1, 6) ? 3 * NSEC_PER_SEC : 100 * NSEC_PER_MSEC);
	}
	r = read_all(v, true, &got);
	sim_check(r == 0, "an owner cannot read what it found: %d", r);
	must_be(&got, &now, "an owner");
	sim_check(vol_close(v) == 0, "an owner cannot close");
	env_done(e);
	node[2].busy = false;
}

static void last_one(void *arg)
{
	struct vol_env *e = env_of(FRESH, false);
	struct objerr err = {0};
	struct content got;
	struct volume *v;
	int r = open_image(e, 0, &v, &err);

	(void)arg;
	if (r == 0)
		r = read_all(v, true, &got);
	sim_check(r == 0, "the image cannot be read in the end: %d, %s", r, err.msg);
	must_be(&got, &now, "the next owner");
	ignore(vol_close(v));
	env_done(e);
	node[FRESH].busy = false;
}

/* ---- the world ---- */

static void start(int i, const char *name, void (*fn)(void *arg))
{
	node[i].busy = true;
	node[i].life = sim_incarnation(i);
	sim_spawn(i, name, fn, &node[i]);
}

static void wait_for_all(void)
{
	int64_t until = clock_now_ns() + 20000 * NSEC_PER_SEC;

	for (int i = 1; i <= NODES; i++)
		while (node[i].busy) {
			clock_sleep_ns(20 * NSEC_PER_MSEC);
			if (sim_incarnation(i) != node[i].life) {
				say("node %d died at \"%s\"", i, sim_died_at());
				imgduel_stats->deaths++;
				node[i].busy = node[i].asleep = false;
			}
			sim_check(clock_now_ns() < until, "node %d waits for ever", i);
		}
}

static void network(void)
{
	simnet_reset();
	simnet = (struct simnet_faults){.latency_ns = (int64_t)(1 + sim_below(20)) * NSEC_PER_MSEC,
					.timeout_ns = NSEC_PER_SEC,
					.late_ns = 8 * NSEC_PER_SEC,
					.limbo_ns = NSEC_PER_SEC};
	if (imgduel_kind == DUEL_FENCED || sim_chance(1, 2))
		return;
	simnet.lost_reply = (unsigned)sim_below(30);
	simnet.lost = (unsigned)sim_below(30);
	simnet.late = (unsigned)sim_below(30);
	simnet.twice = (unsigned)sim_below(30);
	simnet.busy = (unsigned)sim_below(30);
	simnet.broken = (unsigned)sim_below(30);
	simnet.limbo = (unsigned)sim_below(500);
}

static void world(void)
{
	static const char hex[] = "fedcba9876543210";
	struct vol_create vc = {.size = BLOCKS * SECTOR,
				.window = 2 + (uint32_t)sim_below(3),
				.object_bytes = 64 * KiB,
				.fsync_remote = imgduel_kind == DUEL_ERASE};

	common = (struct vol_env){.host = "node",
				  .journal_bytes = 256 * KiB,
				  .segment_bytes = 32 * KiB,
				  .map_bytes = (2 * KiB) << sim_below(3),
				  .map_fanout = 4,
				  .digest_every = 2 + (unsigned)sim_below(3),
				  .tree_digests = 2 + (unsigned)sim_below(3),
				  .tree_object_bytes = 5 * KiB,
				  .batch_bytes = 4 * KiB >> sim_below(4),
				  .dirty_age_ns = 100 * NSEC_PER_MSEC,
				  .takeover = VOL_TAKEOVER_ALWAYS,
				  .no_cleaner = imgduel_kind != DUEL_UNSNAP};
	sim_check(store_mem_new(&shared) == 0, "no store");
	for (int i = 1; i <= NODES; i++) {
		sim_check(simnet_store_new(shared, i, &node[i].store) == 0, "no net");
		node[i].disk = simdisk_new();
		simdisk_jdisk(node[i].disk, &node[i].jd);
	}
	for (int k = 0; k < 3; k++) {
		char text[33];

		memcpy(uuid[k], hex, 16);
		uuid[k][15] = (uint8_t)('a' + k);
		log_uuid_format(uuid[k], text);
		(void)snprintf(prefix[k], sizeof(prefix[k]), ".lsvd/img/%s/", text);
	}
	memcpy(vc.uuid, uuid[0], 16);
	network();
	simnet_spy = spy;
	simnet_sends = on_send;
	simnet_repeats = born_again;
	simnet_slow = slow;
	common.store = imgduel_kind == DUEL_REBORN ? node[1].store : shared;
	sim_check(vol_create(&common, prefix[0], &vc, NULL) == 0, "the image cannot be made");
	sim_preempt((unsigned)sim_below(100));
}

static void wait_until_ready(void)
{
	while (!ready)
		clock_sleep_ns(10 * NSEC_PER_MSEC);
	begun = true;
	if (sim_chance(1, 2) && imgduel_kind != DUEL_FENCED)
		sim_die_at(sim_steps() + 1 + sim_below(imgduel_kind == DUEL_ERASE ? 400 : 80));
}

static void duel_of_clones(void)
{
	start(1, "deleter", deleter);
	wait_until_ready();
	start(2, "cloner", cloner);
	if (sim_chance(1, 2))
		start(3, "cloner", cloner);
	wait_for_all();
	sim_die_at(0);
	start(4, "finisher", finisher);
	wait_for_all();
	clock_sleep_ns(simnet.late_ns);
	start(FRESH, "reader", clones_are_whole);
	wait_for_all();
}

void imgduel(void *arg)
{
	(void)arg;
	world();
	switch (imgduel_kind) {
	case DUEL_UNSNAP:
	case DUEL_REMOVE:
		duel_of_clones();
		break;
	case DUEL_REBORN:
		start(1, "maker", maker);
		start(2, "opener", opener);
		start(3, "opener", opener);
		break;
	case DUEL_ERASE:
		ready = true;
		wait_until_ready();
		for (int i = 1; i <= 3; i++)
			start(i, "writer", writer);
		start(4, "eraser", eraser);
		break;
	case DUEL_FENCED:
		start(1, "overtaken", overtaken);
		wait_until_ready();
		while (storm == 0)
			clock_sleep_ns(NSEC_PER_MSEC);
		doze(2 * NSEC_PER_SEC);
		start(2, "overtaker", overtaker);
		wait_for_all();
		clock_sleep_ns(60 * NSEC_PER_SEC);
		start(FRESH, "last", last_one);
		break;
	default:
		break;
	}
	wait_for_all();
}
