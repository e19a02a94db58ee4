/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgsnap.c - snapshots in the simulated world: random writes, snapshots, deletions of them, roll backs, the
 * cleaner, and a daemon that dies at any store or journal call, on a network that loses, repeats and delays.
 *
 *	always	each snapshot that was made, opened by itself, is what the image was then; after a crash each operation
 *		happened wholly or not at all; the image is what was acknowledged
 *	past	positions of the log: the bytes of then, or refused; with retain= never refused before its time, and each is
 *		readable beside the image
 *	clones	a family of them, each generation with writes of its own, trees and a cleaner: nobody sees another's
 *		writes; a snapshot that a clone uses stays
 *	flat	a clone is flattened while it is written and dies at any call; then all of its parent is removed
 *	end	without snapshots the space of what only they needed comes back; a node with an empty directory sees the same
 *
 *	unit-imgsnap [SEED [COUNT]]	IMGSNAP_SEEDS; TRACE=1 tells what happens
 */
#include "config.h"
#include "fs/image/refs.h"
#include "imgsnap.h"
#include "objstore/base/clock.h"
#include <unistd.h>

/* ---- operations ---- */

static void change(struct volume *v)
{
	static uint32_t buf[12 * BLOCK / 4];
	uint64_t first = sim_below(now.size), n = 1 + sim_below(MIN(now.size - first, (uint64_t)12));
	unsigned kind = (unsigned)sim_below(12);
	struct iovec iov = {buf, n * BLOCK};
	int r;

	after = now;
	stamp++;
	for (uint64_t i = first; i < first + n; i++)
		after.block[i] = kind < 10 ? stamp : 0;
	for (size_t k = 0; k < n * BLOCK / 4; k++)
		buf[k] = stamp;
	under_way = true;
	if (kind == 11) {
		uint64_t size = BLOCKS / 2 + sim_below(BLOCKS / 2 + 1);

		after = now;
		for (uint64_t i = size; i < BLOCKS; i++)
			after.block[i] = 0;
		after.size = size;
		r = vol_resize(v, size * BLOCK);
	} else {
		r = kind == 10 ? vol_discard(v, first * BLOCK, n * BLOCK)
			       : vol_write(v, first * BLOCK, &iov, 1, n * BLOCK);
	}
	sim_check(r == 0, "a change gives %d", r);
	now = after;
	under_way = false;
}

static struct snap *some(void)
{
	unsigned n = 0;
	struct snap *s = NULL;

	for (unsigned i = 0; i < nsnap; i++)
		if (snap[i].is == THERE && sim_below(++n) == 0)
			s = &snap[i];
	return s;
}

static void make(struct volume *v)
{
	struct snap *s = &snap[nsnap];
	struct objerr err = {0};
	uint64_t number;
	int r;

	if (nsnap >= SNAPS - 2)
		return;
	(void)snprintf(s->name, sizeof(s->name), "s%u", nsnap++);
	s->c = now;
	s->is = MAYBE;
	r = vol_snapshot(v, s->name, &number, &err);
	sim_check(r == 0, "a snapshot gives %d: %s", r, err.msg);
	s->is = THERE;
	say("%s is %" PRIu64 "\n", s->name, number);
	sim_check(vol_snapshot(v, s->name, &number, &err) == -EEXIST, "the name can be taken twice");
}

static void take_away(struct volume *v)
{
	struct snap *s = some();
	struct objerr err = {0};
	int r;

	if (s == NULL)
		return;
	s->is = LEAVING;
	r = vol_unsnap(v, s->name, &err);
	while (r == -EAGAIN || r == -ETIMEDOUT) {
		say("%s: %d\n", s->name, r);
		r = vol_unsnap(v, s->name, &err);
		r = r == -ENOENT ? 0 : r;
	}
	sim_check(r == 0, "deleting %s gives %d: %s", s->name, r, err.msg);
	s->is = NONE;
	say("%s is gone\n", s->name);
	cleaned++;
}

static void back(struct volume *v)
{
	struct snap *s = some(), *f = &snap[nsnap];
	struct objerr err = {0};
	struct content got;
	int r;

	if (s == NULL || nsnap >= SNAPS - 2)
		return;
	(void)snprintf(f->name, sizeof(f->name), "s%u", nsnap++);
	f->c = now;
	f->is = MAYBE;
	after = s->c;
	under_way = true;
	say("back to %s, the present is %s\n", s->name, f->name);
	do {
		r = vol_rollback(v, s->name, f->name, &err);
		if (r == -EAGAIN || r == -ETIMEDOUT) { /* reading failed; perhaps after all was done */
			read_all(v, true, &got);
			r = same(&got, &after) ? 0 : r;
		}
		if (r == -EEXIST) /* the first try came so far */
			(void)snprintf(f->name, sizeof(f->name), "s%ux", nsnap);
	} while (r == -EAGAIN || r == -ETIMEDOUT || r == -EEXIST);
	sim_check(r == 0, "rolling back to %s gives %d: %s", s->name, r, err.msg);
	now = after;
	under_way = false;
	f->is = THERE;
	backs++;
}

/* ---- positions ---- */

enum { POSITIONS = 64 };
static struct position {
	uint64_t number;
	int64_t until; /* kept as long as that */
	struct content c;
} position[POSITIONS];
static unsigned npositions;

static bool kept(const struct position *p)
{
	return retain_s > 0 && clock_now_ns() < p->until;
}

/* Its volume, to read only. What is kept is there, whoever deletes meanwhile. */
static void look_at(const struct volume *v, const struct position *p)
{
	struct objerr err = {0};
	struct content got;
	struct volume *at;
	int r;

	do
		r = vol_open_position(&v->env, v->prefix, v->uuid, p->number + 1, &at, &err);
	while (r == -EAGAIN || r == -ETIMEDOUT);
	sim_check(r == 0, "position %" PRIu64 " is kept, and opening it gives %d: %s", p->number, r, err.msg);
	read_all(at, false, &got);
	sim_check(vol_close(at) == 0, "closing a position");
	if (!same(&got, &p->c))
		differ("a position", &got, &p->c);
	looks++;
}

static void look_at_positions(const struct volume *v)
{
	for (unsigned i = 0; i < MIN(npositions, (unsigned)POSITIONS); i++)
		if (kept(&position[i]) && sim_chance(1, 3) &&
		    position[i].until - clock_now_ns() > 5 * NSEC_PER_SEC) /* it takes a moment */
			look_at(v, &position[i]);
}

static void back_to_position(struct volume *v)
{
	unsigned of = MIN(npositions, (unsigned)(sim_chance(3, 4) ? 1 : POSITIONS));
	unsigned k = npositions == 0 ? 0 : npositions - 1 - (unsigned)sim_below(of);
	const struct position *p = &position[k % POSITIONS];
	bool must = kept(p);
	uint64_t number = p->number;
	struct snap *f = &snap[nsnap];
	struct objerr err = {0};
	struct content got;
	int r;

	if (npositions == 0 || nsnap >= SNAPS - 2)
		return;
	(void)snprintf(f->name, sizeof(f->name), "p%u", nsnap++);
	f->c = now;
	f->is = MAYBE;
	after = position[k % POSITIONS].c;
	under_way = true;
	do {
		r = vol_rollback_to(v, number, f->name, &err);
		if (r == -EAGAIN || r == -ETIMEDOUT) {
			read_all(v, true, &got);
			r = same(&got, &after) ? 0 : r;
		}
		if (r == -EEXIST)
			(void)snprintf(f->name, sizeof(f->name), "p%ux", nsnap);
	} while (r == -EAGAIN || r == -ETIMEDOUT || r == -EEXIST);
	say("back to position %" PRIu64 ": %d %s\n", number, r, err.msg);
	sim_check(r == 0 || (r == -ERANGE && !must), "rolling back to position %" PRIu64 " gives %d: %s", number, r,
		  err.msg);
	kept_backs += r == 0 && must;
	now = r == 0 ? after : now;
	under_way = false;
	read_all(v, false, &got);
	if (!same(&got, &now))
		differ("back at a position", &got, &now);
}

static void note_position(struct volume *v)
{
	struct vol_position *p = NULL;
	struct objerr err = {0};
	size_t n = 0;
	int r = vol_upload(v);

	while ((r == 0 && n == 0) || r == -EAGAIN || r == -ETIMEDOUT)
		r = vol_positions(v, false, &p, &n, &err);
	sim_check(r == 0 && n > 0, "positions give %d: %s", r, err.msg);
	position[npositions % POSITIONS].number = p[n - 1].number;
	position[npositions % POSITIONS].until = clock_now_ns() + (int64_t)(retain_s - MIN(retain_s, 1u)) * NSEC_PER_SEC;
	position[npositions++ % POSITIONS].c = now;
	free(p);
	for (uint64_t k = sim_below(6); k > 0; k--) /* soon a checkpoint puts an end to what is possible */
		change(v);
	if (sim_chance(3, 4))
		back_to_position(v);
}

/* ---- what must be ---- */

static void check_snapshot(struct volume *v, const struct vol_snap *s)
{
	struct objerr err = {0};
	struct content got;
	struct snap *k = NULL;
	struct volume *at;
	int r;

	for (unsigned i = 0; i < nsnap; i++)
		if (strcmp(snap[i].name, s->name) == 0)
			k = &snap[i];
	sim_check(k != NULL && (k->is != NONE || s->hidden), "there is a snapshot %s", s->name);
	if (s->hidden || k->is == LEAVING)
		return;
	k->is = THERE;
	do
		r = vol_open_snapshot(v, s->number, &at, &err);
	while (r == -EAGAIN || r == -ETIMEDOUT);
	sim_check(r == 0, "opening %s gives %d: %s", s->name, r, err.msg);
	read_all(at, false, &got);
	if (!same(&got, &k->c))
		differ(s->name, &got, &k->c);
	sim_check(vol_own(at) == -EROFS, "a snapshot can be written");
	sim_check(vol_close(at) == 0, "closing %s", s->name);
}

/* Who looks at the log alone finds the same, the first time and later. */
static void check_list(struct volume *list, const struct vol_snap *s, size_t n)
{
	struct vol_snap *got = NULL;
	struct objerr err = {0};
	size_t got_n = 0;
	int r;

	do
		r = vol_snapshots(list, &got, &got_n, &err);
	while (r == -EAGAIN || r == -ETIMEDOUT);
	sim_check(r == 0, "a list of snapshots from outside gives %d: %s", r, err.msg);
	sim_check(got_n == n, "%zu snapshots from outside, %zu inside", got_n, n);
	for (size_t i = 0; i < n; i++)
		sim_check(got[i].number == s[i].number && got[i].size == s[i].size && got[i].time == s[i].time &&
			      got[i].hidden == s[i].hidden && strcmp(got[i].name, s[i].name) == 0,
			  "snapshot %s is another one from outside", s[i].name);
	free(got);
}

static void check_snapshots(struct volume *v, struct volume *list)
{
	struct vol_snap *s = NULL;
	struct objerr err = {0};
	size_t n = 0, there = 0;
	int r;

	do
		r = vol_snapshots(v, &s, &n, &err);
	while (r == -EAGAIN || r == -ETIMEDOUT);
	sim_check(r == 0, "a list of snapshots gives %d: %s", r, err.msg);
	check_list(list, s, n);
	for (size_t i = 0; i < n; i++)
		check_snapshot(v, &s[i]);
	for (unsigned k = 0; k < nsnap; k++) {
		bool found = false;

		for (size_t i = 0; i < n; i++)
			found = found || (!s[i].hidden && strcmp(s[i].name, snap[k].name) == 0);
		sim_check(found || snap[k].is != THERE, "snapshot %s is lost", snap[k].name);
		snap[k].is = found ? THERE : NONE;
		there += found;
	}
	say("%zu snapshots are right\n", there);
	free(s);
}

/* After a start: each operation wholly or not at all. */
static void check_image(struct volume *v)
{
	struct content got;

	read_all(v, true, &got);
	if (under_way && same(&got, &after))
		now = after;
	under_way = false;
	if (!same(&got, &now))
		differ("the image", &got, &now);
}

static void life(void *arg)
{
	struct pool *pool;
	struct volume *v, *list;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	open_list(0, pool, &list);
	open_on(1, pool, &v);
	vol_begin_write(v);
	check_image(v);
	check_snapshots(v, list);
	look_at_positions(v);
	for (unsigned i = 0; i < 150; i++) {
		uint64_t what = sim_below(100);

		if (what < 70)
			change(v);
		else if (what < 80)
			make(v);
		else if (what < 86)
			take_away(v);
		else if (what < 88 && sim_chance(1, 2))
			back(v);
		else if (what < 88)
			back_to_position(v);
		else if (what < 90)
			note_position(v);
		else if (what < 92)
			sim_check(vol_flush(v) == 0, "a flush fails");
		else if (what < 94)
			check_snapshots(v, list);
		else if (what < 95)
			look_at_positions(v);
		else
			clock_sleep_ns((int64_t)sim_below(4000) * NSEC_PER_MSEC);
	}
	check_image(v);
	sim_check(vol_close(v) == 0 && vol_close(list) == 0, "close fails");
	*(bool *)arg = true;
}

/*
 * Bytes of data in the bucket. What a late request made again after its deletion is nobody's, and stays for a sweep: the
 * table does not know it.
 */
static uint64_t space(struct volume *v)
{
	char last[OBJ_KEY_MAX + 1] = "";
	uint64_t n = 0, number;
	bool more = true;

	while (more) {
		struct objreq req;

		objreq_init(&req, OBJ_LIST, prefix[0]);
		req.start_after = last[0] != '\0' ? last : NULL;
		sim_check(obj_do(shared, &req) == 0, "no listing");
		for (size_t i = 0; i < req.listing->n; i++) {
			const struct obj_list_entry *e = &req.listing->v[i];
			struct page_object o;

			if (log_number_parse(e->key + strlen(prefix[0]), &number) == 0 &&
			    map_object(v->map, number, &o) && o.type != LOG_MAP && o.type != LOG_CLAIM)
				n += e->size;
		}
		more = req.listing->truncated;
		if (more)
			(void)snprintf(last, sizeof(last), "%s", req.listing->v[req.listing->n - 1].key);
		objreq_done(&req);
	}
	return n;
}

static void last_life(void *arg)
{
	struct pool *pool;
	struct volume *v, *list;
	struct vol_gc g;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	open_on(2, pool, &v);
	open_list(0, pool, &list);
	vol_begin_write(v);
	check_image(v);
	check_snapshots(v, list);
	while (some() != NULL)
		take_away(v);
	clock_sleep_ns(600 * NSEC_PER_SEC);
	sim_check(vol_gc(v, 0, &g) == 0, "gc fails");
	clock_sleep_ns((int64_t)(600 + 4 * retain_s) * NSEC_PER_SEC); /* what got too old goes by itself */
	check_image(v);
	check_snapshots(v, list);
	say("%" PRIu64 " KiB stay, live are %" PRIu64 "\n", space(v) / KiB, g.live / KiB);
	sim_check(space(v) <= g.live / 100 * 150 + 64 * KiB, "%" PRIu64 " bytes stay, live are %" PRIu64, space(v),
		  g.live);
	sim_check(vol_close(v) == 0 && vol_close(list) == 0, "close fails");
	*(bool *)arg = true;
}

/* ---- a family ---- */

static void names(void)
{
	for (int k = 0; k < FAMILY; k++) {
		char hex[33];

		memset(uuid[k], 'a' + k, 16);
		log_uuid_format(uuid[k], hex);
		(void)snprintf(prefix[k], sizeof(prefix[k]), ".lsvd/img/%s/", hex);
	}
}

/* Some writes, on the model of this generation, until its map has trees of its own. */
static void live(struct volume *v, struct content *c)
{
	now = *c;
	for (int i = 0; i < 120; i++) {
		change(v);
		if (sim_chance(1, 20))
			clock_sleep_ns((int64_t)sim_below(2000) * NSEC_PER_MSEC);
	}
	*c = now;
}

static void is(struct volume *v, const struct content *c, const char *what)
{
	struct content got;

	read_all(v, true, &got);
	if (!same(&got, c))
		differ(what, &got, c);
}

static int unborn;
static unsigned birth_puts;

static void spy(int node, const struct objreq *req, int status, bool late)
{
	(void)node;
	(void)late;
	birth_puts += req->op == OBJ_PUT && status == 0 &&
		      (strstr(req->key, "/ref/") != NULL || strncmp(req->key, prefix[unborn], strlen(prefix[0])) == 0);
}

static void beget(struct volume *v, int k)
{
	struct objerr err = {0};
	uint64_t size = 0;
	int r;

	unborn = k;
	birth_puts = 0;
	simnet_spy = spy;
	r = vol_clone(v, "mother", prefix[k], uuid[k], &size, &err);
	simnet_spy = NULL;

	sim_check(r == 0, "clone %d gives %d: %s", k, r, err.msg);
	sim_check(size % BLOCK == 0 && birth_puts == 2, "a clone costs %u PUTs", birth_puts);
	sim_check(vol_clone(v, "nobody", prefix[k], uuid[k], &size, &err) == -ENOENT, "a clone of nothing");
	r = vol_unsnap(v, "mother", &err);
	sim_check(r == -EBUSY, "deleting what a clone needs gives %d", r);
}

static void family(void *arg)
{
	static struct content c[FAMILY];
	struct objerr err = {0};
	struct pool *pool;
	struct volume *v[FAMILY];
	struct vol_gc g;
	uint64_t number;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	c[0].size = BLOCKS;
	for (int k = 0; k < FAMILY; k++) {
		open_image(k, k, pool, &v[k]);
		vol_begin_write(v[k]);
		is(v[k], &c[k], "newborn");
		live(v[k], &c[k]);
		if (k + 1 == FAMILY)
			break;
		sim_check(vol_snapshot(v[k], "mother", &number, &err) == 0, "a snapshot: %s", err.msg);
		c[k + 1] = c[k];
		beget(v[k], k + 1);
		live(v[k], &c[k]); /* the clone does not see that */
	}
	for (int k = 0; k < FAMILY; k++) {
		live(v[k], &c[k]);
		sim_check(vol_gc(v[k], 0, &g) == 0, "gc fails");
	}
	for (int k = 0; k < FAMILY; k++) {
		is(v[k], &c[k], "grown up");
		sim_check(vol_close(v[k]) == 0, "close fails");
		simdisk_jdisk(simdisk_new(), &jd[k]); /* of a node that never had it */
		open_image(k, k, pool, &v[k]);
		vol_begin_write(v[k]);
		is(v[k], &c[k], "elsewhere");
	}
	for (int k = FAMILY - 1; k > 0; k--) {
		struct vol_remains rem;

		sim_check(vol_doom(v[k], &rem) == 0 && rem.ref != NULL, "a clone knows no ref");
		sim_check(obj_delete(net[1], rem.ref, NULL, &err) == 0, "unref: %s", err.msg);
		free(rem.ref);
		free(rem.claims);
		sim_check(vol_unsnap(v[k - 1], "mother", &err) == 0, "deleting the snapshot: %s", err.msg);
	}
	sim_check(vol_close(v[0]) == 0, "close fails");
	for (int k = 1; k < FAMILY; k++)
		ignore(vol_close(v[k])); /* doomed */
	*(bool *)arg = true;
}

/* ---- a clone is flattened ---- */

/* Returns whether it came to its end. */
static bool run(int node, void (*what)(void *arg))
{
	unsigned died = sim_incarnation(node);
	bool done = false;

	sim_spawn(node, "owner", what, &done);
	while (!done && sim_incarnation(node) == died)
		clock_sleep_ns(NSEC_PER_SEC);
	if (done)
		sim_crash(node);
	return done;
}

static bool born, flat, guest_done;

/* The parent, whose clone is made: its map has trees and digests then. */
static void bear(void *arg)
{
	static struct content c;
	struct objerr err = {0};
	struct pool *pool;
	uint64_t number, size;
	struct volume *v;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	open_image(3, 0, pool, &v);
	vol_begin_write(v);
	c = now;
	live(v, &c);
	sim_check(vol_snapshot(v, "mother", &number, &err) == 0, "a snapshot: %s", err.msg);
	sim_check(vol_clone(v, "mother", prefix[1], uuid[1], &size, &err) == 0, "a clone: %s", err.msg);
	now = c;
	born = true;
	sim_check(vol_close(v) == 0, "close fails");
	*(bool *)arg = true;
}

static void guest(void *arg)
{
	for (uint64_t n = sim_chance(1, 3) ? 0 : sim_below(60); n > 0; n--) {
		change(arg);
		clock_sleep_ns((int64_t)sim_below(300) * NSEC_PER_MSEC);
	}
	guest_done = true;
}

static bool once_more(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT;
}

/* A snapshot of the clone that needs the parent is in the way. */
static void in_the_way(struct volume *v)
{
	struct objerr err = {0};
	uint64_t bytes;
	int r;

	if (sim_chance(1, 2))
		make(v);
	while (!flat && some() != NULL) {
		do
			r = vol_flatten_begin(v, &bytes, &err);
		while (once_more(r));
		say("with snapshots: %d, %s\n", r, err.msg);
		/* it may have been made when everything was copied already */
		sim_check(r == -EBUSY || r == 0 || r == -ENODATA, "flatten with a snapshot gives %d: %s", r, err.msg);
		take_away(v);
	}
}

static void flatten(struct volume *v)
{
	uint64_t at = 0, n, bytes = 0;
	struct objerr err = {0};
	int r;

	do
		r = vol_flatten_begin(v, &bytes, &err);
	while (once_more(r));
	say("flatten begins: %d, %" PRIu64 " KiB, %s\n", r, bytes / KiB, err.msg);
	if (r == -ENODATA) {
		flat = true;
		return;
	}
	sim_check(r == 0, "flatten gives %d: %s", r, err.msg);
	while (at != VOL_FLAT_ALL) {
		r = vol_flatten_some(v, 32 * KiB, &at, &n, &err);
		sim_check(r == 0 || once_more(r), "copying gives %d: %s", r, err.msg);
	}
	do
		r = vol_flatten_end(v, &err);
	while (once_more(r));
	sim_check(r == 0, "the end of flatten gives %d: %s", r, err.msg);
	flat = true;
	if (sim_chance(2, 3)) /* what is still under way comes or not: the tie is cut all the same */
		sim_crash(1);
}

static void flat_life(void *arg)
{
	struct pool *pool;
	struct volume *v, *list;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	open_image(1, 1, pool, &v);
	open_list(1, pool, &list);
	vol_begin_write(v);
	check_image(v);
	check_snapshots(v, list);
	in_the_way(v);
	for (uint64_t n = sim_below(3); n > 0; n--)
		change(v);
	guest_done = false;
	sim_spawn(1, "guest", guest, v);
	flatten(v);
	while (!guest_done)
		clock_sleep_ns(NSEC_PER_SEC);
	check_image(v);
	sim_check(vol_close(v) == 0 && vol_close(list) == 0, "close fails");
	*(bool *)arg = true;
}

static void forget_parent(void)
{
	bool more = true;

	while (more) {
		struct objreq req;

		objreq_init(&req, OBJ_LIST, prefix[0]);
		sim_check(obj_do(shared, &req) == 0, "no listing");
		for (size_t i = 0; i < req.listing->n; i++)
			sim_check(obj_delete(shared, req.listing->v[i].key, NULL, NULL) == 0, "a delete fails");
		more = req.listing->n > 0;
		objreq_done(&req);
	}
}

/* Who has the bucket alone can read all of it, whatever prefix of the writes that is. */
static void elsewhere(void *arg)
{
	struct content got;
	struct pool *pool;
	struct volume *v;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	open_image(2, 1, pool, &v);
	read_all(v, false, &got);
	sim_check(vol_close(v) == 0, "close fails");
	*(bool *)arg = true;
}

static void orphan(void *arg)
{
	struct pool *pool;
	struct volume *v, *list;
	struct vol_gc g;
	int r;

	sim_check(pool_new("image", 64, &pool) == 0, "no pool");
	open_image(1, 1, pool, &v); /* acknowledged is what the journal has */
	open_list(1, pool, &list);
	vol_begin_write(v);
	check_image(v);
	check_snapshots(v, list);
	for (int i = 0; i < 60; i++)
		change(v);
	do
		r = vol_gc(v, 0, &g);
	while (once_more(r));
	sim_check(r == 0, "gc gives %d", r);
	check_image(v);
	sim_check(vol_close(v) == 0 && vol_close(list) == 0, "close fails");
	*(bool *)arg = true;
}

/* Nobody keeps the snapshot, but for requests that came late: those go as the sweep lets them go. */
static void unkept(void)
{
	struct image_ref *ref;
	struct objerr err = {0};
	enum ref_state state;
	size_t n;

	sim_check(image_refs(shared, prefix[0], &ref, &n, &err) == 0 && n <= 1, "%s", err.msg);
	for (size_t i = 0; i < n; i++) {
		sim_check(image_ref_state(shared, prefix[0], &ref[i], &state, &err) == 0 && state == REF_FLAT,
			  "a flattened clone's reference is of kind %d", (int)state);
		sim_check(image_ref_drop(shared, prefix[0], &ref[i], state, &err) == 0, "%s", err.msg);
	}
	free(ref);
}

static int64_t slow_marks(const struct objreq *req)
{
	return req->op == OBJ_PUT && strstr(req->key, "/mark/") != NULL ? (int64_t)sim_below(2000) * NSEC_PER_MSEC : 0;
}

static void flattening(void)
{
	(void)run(3, bear);
	if (sim_chance(2, 3)) { /* no checkpoint and no tree comes by itself */
		map_bytes = MiB;
		digest_every = 60;
	}
	if (sim_chance(1, 2))
		dirty_age_ns = 30 * NSEC_PER_SEC; /* what the guest writes stays in the journal */
	if (sim_chance(1, 2))
		simnet_slow = slow_marks;
	sim_check(born, "no clone was made");
	if (sim_chance(2, 3)) {
		simnet.lost_reply = simnet.late = simnet.twice = 30;
		simnet.lost = simnet.busy = simnet.broken = 20;
		simnet.read_fails = (unsigned)sim_below(20);
	}
	for (unsigned i = 0; !flat; i++) {
		sim_die_at(i + 1 < LIVES ? sim_steps() + 1 + sim_below(sim_chance(1, 2) ? 400 : 2000) : 0);
		if (!run(1, flat_life)) {
			say("-- died at %s\n", sim_died_at());
			deaths++;
		}
	}
	simnet_settle();
	unkept();
	forget_parent();
	(void)run(2, elsewhere);
	(void)run(1, orphan);
	say("%u deaths, %u snapshots, %u deleted\n", deaths, nsnap, cleaned);
}

static void world(void)
{
	struct vol_create vc = {.size = BLOCKS * BLOCK, .object_bytes = 64 * KiB, .window = 4};
	struct vol_env env = {.store = NULL};

	names();
	sim_check(store_mem_new(&shared) == 0, "no store");
	for (int i = 0; i < FAMILY; i++) {
		sim_check(simnet_store_new(shared, i, &net[i]) == 0, "no net");
		simdisk_jdisk(simdisk_new(), &jd[i]);
	}
	memcpy(vc.uuid, uuid[0], 16);
	env.store = shared;
	sim_check(vol_create(&env, prefix[0], &vc, NULL) == 0, "no image");
	now.size = BLOCKS;
	simnet = (struct simnet_faults){
	    .latency_ns = 20 * NSEC_PER_MSEC, .timeout_ns = NSEC_PER_SEC, .late_ns = 20 * NSEC_PER_SEC};
	sim_preempt((unsigned)sim_below(50));
}

static void lives(void)
{
	if (sim_chance(2, 3)) {
		simnet.lost_reply = simnet.late = simnet.twice = 30;
		simnet.lost = simnet.busy = simnet.broken = 20;
		simnet.read_fails = (unsigned)sim_below(20);
	}
	if (sim_chance(1, 2))
		retain_s = 2 + sim_below(sim_chance(1, 2) ? 60 : 900);
	for (unsigned i = 0; i < LIVES; i++) {
		sim_die_at(i + 1 < LIVES ? sim_steps() + 1 + sim_below(sim_chance(1, 2) ? 400 : 4000) : 0);
		if (run(1, life)) {
			say("-- came to its end\n");
		} else {
			say("-- died at %s\n", sim_died_at());
			deaths++;
		}
	}
	(void)run(2, last_life);
	say("%u deaths, %u snapshots, %u deleted, %u times back, %u of %u positions kept for %" PRIu64 " s, %u looked at\n", deaths,
	    nsnap, cleaned, backs, kept_backs, npositions, retain_s, looks);
}

static void scenario(void *arg)
{
	(void)arg;
	world();
	if (sim_seed() % 5 == 0)
		(void)run(1, family);
	else if (sim_seed() % 5 == 1)
		flattening();
	else
		lives();
}

int main(int argc, char **argv)
{
	const char *seeds = getenv("IMGSNAP_SEEDS");

	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	trace = getenv("TRACE") != NULL;
	return sim_main(argc, argv, seeds != NULL ? strtoull(seeds, NULL, 10) : SEEDS, scenario);
}
