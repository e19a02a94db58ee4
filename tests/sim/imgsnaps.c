/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgsnaps.c - snapshots, ways back, clones and their end in the world of imgscene.c: what guests do of that, and what
 * must be there.
 *
 * What is known of a snapshot has an epoch: that of the owner who did or saw something last. An owner's list decides
 * what a command of an owner before it came to, for ever: its claim came after all that is in the log of that one.
 * Others, and an owner that was overtaken and does not know it, may only not contradict what was true all the while.
 */
#include "config.h"
#include "imgguest.h"
#include "simnet.h"
#include "fs/image/nameobj.h"
#include "objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LIVE_MAX = 6 };

static unsigned names;
static const struct snap *wanted; /* somebody makes a clone of it just now: the time to delete it */

static bool transient(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -EACCES;
}

/* ---- images ---- */

void image_make(struct image *img, const struct state *first)
{
	static const char hex[] = "0123456789abcdef";

	img->is = IMG_MAYBE;
	memcpy(img->uuid, hex, 16);
	img->uuid[15] = (uint8_t)(img->uuid[15] + (img - images));
	(void)snprintf(img->prefix, sizeof(img->prefix), ".lsvd/img/303132333435363738396162636465%02x/",
		       img->uuid[15]);
	for (int i = 1; i <= IMAGE_NODES; i++) {
		img->disk[i] = simdisk_new();
		simdisk_jdisk(img->disk[i], &img->jd[i]);
	}
	oracle_image(img, first);
}

bool image_birth(const struct objreq *req)
{
	for (const struct image *img = images; req->op == OBJ_PUT && img < images + IMAGES; img++)
		if (img->is == IMG_MAYBE && strncmp(req->key, img->prefix, strlen(img->prefix)) == 0)
			return true;
	return false;
}

int64_t image_born_again(const struct objreq *req)
{
	return image_birth(req) && sim_chance(1, 2) ? (int64_t)sim_below(60 * (uint64_t)NSEC_PER_SEC) : 0;
}

/* ---- what is known ---- */

struct snap *snap_begin(struct guest *g, bool alone)
{
	struct session *s = g->s;
	struct snap *k = calloc(1, sizeof(*k));

	if (k == NULL)
		abort();
	(void)snprintf(k->name, sizeof(k->name), "s%u", ++names);
	k->img = g->img;
	k->by = s;
	k->epoch = s->epoch;
	k->lo = s->acked;
	k->hi = UINT32_MAX;
	k->known = alone;
	k->c = s->now;
	k->next = g->img->snap;
	g->img->snap = k;
	return k;
}

static struct snap *by_name(const struct image *img, const char *name)
{
	for (struct snap *k = img->snap; k != NULL; k = k->next)
		if (strcmp(k->name, name) == 0)
			return k;
	return NULL;
}

static struct snap *some(const struct image *img, bool known)
{
	struct snap *found = NULL;
	unsigned n = 0;

	for (struct snap *k = img->snap; k != NULL; k = k->next)
		if (k->is == SNAP_THERE && (k->known || !known) && sim_below(++n) == 0)
			found = k;
	return found;
}

static unsigned live(const struct image *img)
{
	unsigned n = 0;

	for (const struct snap *k = img->snap; k != NULL; k = k->next)
		n += k->is == SNAP_THERE;
	return n;
}

/* Some clone of it is there, by what its makers were told. */
bool snap_needed(const struct snap *k)
{
	for (const struct image *img = images; img < images + IMAGES; img++)
		if (img->mother == k && img->is == IMG_THERE)
			return true;
	return false;
}

/* ---- reading ---- */

static int read_all(struct volume *v, struct state *ret)
{
	_cleanup_free_ uint8_t *buf = calloc(SECTORS_MAX, SECTOR);
	ssize_t n;

	if (buf == NULL)
		abort();
	n = vol_read(v, false, 0, buf, SECTORS_MAX * SECTOR);
	if (n < 0)
		return (int)n;
	sim_check(state_decode(buf, (size_t)n, ret), "a snapshot has a torn unit");
	return 0;
}

void snap_is(struct snap *k, const struct state *got, const char *who)
{
	char what[64];

	(void)snprintf(what, sizeof(what), "%s, snapshot %s", who, k->name);
	if (k->known && (k->c.size != got->size || memcmp(k->c.unit, got->unit, sizeof(got->unit)) != 0)) {
		for (uint32_t i = 0; i < UNITS; i++)
			if (k->c.unit[i] != got->unit[i])
				imgtrace("%s: unit %u is %u, not %u", what, i, got->unit[i], k->c.unit[i]);
		sim_check(false, "%s: not what the image was (size %u, was %u)", what, got->size, k->c.size);
	}
	if (!k->known)
		oracle_cut(k->by, got, k->lo, MIN(k->hi, k->by->n), what);
	k->known = true;
	k->c = *got;
	imgstats->snap_reads++;
}

/* Through a volume of its own. It is listed, and shows. */
static void read_one(struct guest *g, struct snap *k, uint64_t number)
{
	struct state *got = malloc(sizeof(*got));
	struct objerr err = {0};
	struct volume *at;
	int r = vol_open_snapshot(g->v, number, &at, &err);

	if (got == NULL)
		abort();
	if (r == 0) {
		r = read_all(at, got);
		sim_check(vol_close(at) == 0, "a snapshot does not close");
	}
	imgtrace("node %d reads snapshot %s: %d", g->node, k->name, r);
	if (r == 0)
		snap_is(k, got, "a guest");
	else
		sim_check(transient(r) || k->is != SNAP_THERE || k->img->is != IMG_THERE,
			  "node %d: snapshot %s cannot be read: %d, %s", g->node, k->name, r, err.msg);
	free(got);
}

/* ---- the list ---- */

static void owner_sees(const struct session *s, struct snap *k, bool visible)
{
	if (s->epoch < k->epoch)
		return;
	sim_check(visible || k->is != SNAP_THERE, "snapshot %s is lost", k->name);
	sim_check(!visible || k->is != SNAP_GONE, "snapshot %s is back", k->name);
	k->is = visible ? SNAP_THERE : SNAP_GONE;
	k->epoch = s->epoch;
}

void snap_seen(struct snap *k, bool visible, const char *who)
{
	sim_check(visible || k->was != SNAP_THERE || k->is != SNAP_THERE, "%s: snapshot %s is lost", who, k->name);
	sim_check(!visible || k->was != SNAP_GONE, "%s: snapshot %s is back", who, k->name);
}

void snaps_remember(struct image *img)
{
	for (struct snap *k = img->snap; k != NULL; k = k->next)
		k->was = k->is;
}

int snaps_look(struct guest *g, unsigned reads)
{
	struct session *s = g->s;
	struct vol_snap *v = NULL;
	struct objerr err = {0};
	size_t n = 0;
	int r;

	snaps_remember(g->img);
	r = vol_snapshots(g->v, &v, &n, &err);
	if (transient(r) || g->img->is != IMG_THERE) {
		free(v);
		return 0;
	}
	sim_check(r == 0 || (s != NULL && r == -EIO), "node %d: a list of snapshots gives %d: %s", g->node, r, err.msg);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		sim_check(by_name(g->img, v[i].name) != NULL, "there is a snapshot %s", v[i].name);
	for (struct snap *k = g->img->snap; k != NULL; k = k->next) {
		bool visible = false;

		for (size_t i = 0; i < n; i++)
			visible = visible || (strcmp(v[i].name, k->name) == 0 && !v[i].hidden);
		if (s != NULL)
			owner_sees(s, k, visible);
		else
			snap_seen(k, visible, "a follower");
	}
	for (size_t i = 0; i < n; i++)
		if (!v[i].hidden && reads > 0 && sim_chance(reads, 4))
			read_one(g, by_name(g->img, v[i].name), v[i].number);
	free(v);
	return 0;
}

/* ---- commands ---- */

int snap_put(struct guest *g, struct snap *k)
{
	struct objerr err = {0};
	uint64_t number = 0;
	int r = vol_snapshot(g->v, k->name, &number, &err);

	imgtrace("node %d: snapshot %s gives %d, %" PRIx64 "; after %u operations", g->node, k->name, r, number, k->lo);
	k->hi = k->by->n;
	if (transient(r)) { /* before anything was sent */
		k->is = SNAP_GONE;
		return 0;
	}
	sim_check(r == 0 || r == -EIO, "node %d: snapshot %s gives %d: %s", g->node, k->name, r, err.msg);
	if (r < 0)
		return r;
	sim_check(k->is != SNAP_GONE || k->deleted, "snapshot %s was made, and a later owner does not have it", k->name);
	if (k->is == SNAP_MAYBE) /* else a later owner knows more */
		k->is = SNAP_THERE;
	oracle_remote(g->s, k->lo, "snapshot");
	imgstats->snaps++;
	return 0;
}

static bool is_wanted(const struct snap *k)
{
	return k == wanted && k->is == SNAP_THERE;
}

static int take_away(struct guest *g)
{
	struct snap *k = g->img->snap;
	struct objerr err = {0};
	bool kept;
	int r;

	while (k != NULL && !is_wanted(k))
		k = k->next;
	if (k == NULL)
		k = some(g->img, false);
	if (k == NULL || k->epoch > g->s->epoch)
		return 0; /* or overtaken, and does not know it yet */
	kept = snap_needed(k);
	k->is = SNAP_LEAVING;
	k->deleted = true;
	k->epoch = g->s->epoch;
	r = vol_unsnap(g->v, k->name, &err);
	imgtrace("node %d: deleting snapshot %s gives %d: %s", g->node, k->name, r, err.msg);
	if (r == -EBUSY && k->epoch == g->s->epoch)
		k->is = SNAP_THERE;
	sim_check(r != -EBUSY || k->referred, "snapshot %s is in use, and nobody made a clone of it", k->name);
	sim_check(r == 0 || r == -EBUSY || r == -EIO || transient(r), "deleting snapshot %s gives %d: %s", k->name, r,
		  err.msg);
	imgstats->refused += r == -EBUSY;
	if (transient(r)) /* its name may be gone, or not */
		return snaps_look(g, 0);
	if (r < 0)
		return r == -EBUSY ? 0 : r;
	sim_check(!kept, "snapshot %s was deleted, and a clone needs it", k->name);
	sim_check(k->is != SNAP_THERE, "snapshot %s was deleted, and a later owner has it", k->name);
	k->is = SNAP_GONE;
	imgstats->unsnaps++;
	return 0;
}

static int back_done(struct guest *g, struct snap *present)
{
	struct session *s = g->s;

	s->op[s->n - 1].acked = true;
	session_group_done(s);
	s->v = NULL;
	sim_check(present->is != SNAP_GONE || present->deleted, "snapshot %s was made by a way back, and a later owner does not have it",
		  present->name);
	if (present->is == SNAP_MAYBE)
		present->is = SNAP_THERE;
	oracle_remote(s, s->acked, "way back");
	imgstats->backs++;
	g->seen = s->acked;
	g->s = NULL;
	return 0;
}

static int go_back(struct guest *g)
{
	struct snap *k = some(g->img, true), *present;
	struct session *s = g->s;
	struct objerr err = {0};
	struct vol_stat st;
	struct op *o;
	int r;

	if (k == NULL)
		return 0;
	if (k->epoch > s->epoch)
		return 0;
	present = snap_begin(g, true);
	o = session_add(s);
	*o = (struct op){.kind = OP_BACK, .group = s->group, .to = &k->c};
	s->closing = true;
	r = vol_rollback(g->v, k->name, present->name, &err);
	present->hi = present->lo;
	vol_stat(g->v, &st);
	imgtrace("node %d: back to %s, the present is %s: %d, state %d: %s", g->node, k->name, present->name, r,
		 (int)st.state, err.msg);
	if (r == 0 || (transient(r) && st.state == VOL_FOLLOWER))
		return back_done(g, present);
	if (transient(r) && st.state == VOL_OWNER) { /* before anything was sent */
		s->n--;
		s->closing = false;
		present->is = SNAP_GONE;
		return 0;
	}
	sim_check(r == -EIO || transient(r), "node %d: back to %s gives %d: %s", g->node, k->name, r, err.msg);
	return -EIO;
}

/* ---- positions ---- */

bool place_kept(const struct place *p)
{
	return clock_now_ns() < p->until;
}

void place_is(const struct place *p, const struct state *got, const char *who)
{
	for (uint32_t i = 0; i < UNITS; i++)
		if (p->c.unit[i] != got->unit[i])
			imgtrace("%s, position %" PRIu64 ": unit %u is %u, not %u", who, p->number, i, got->unit[i], p->c.unit[i]);
	sim_check(p->c.size == got->size && memcmp(p->c.unit, got->unit, sizeof(got->unit)) == 0,
		  "%s, position %" PRIu64 ": not what the image was (size %u, was %u)", who, p->number, got->size, p->c.size);
	imgstats->place_reads++;
}

/* Nobody else writes in this guest. */
static int note_place(struct guest *g)
{
	struct session *s = g->s;
	struct place *p;
	uint64_t number;
	int r = vol_upload(g->v);

	if (r < 0)
		return r == -EIO ? r : 0;
	oracle_remote(s, s->acked, "upload");
	mtx_lock(&g->v->batch);
	number = g->v->sealed;
	mtx_unlock(&g->v->batch);
	if (number == 0 || log_committed(g->v->log) < number)
		return 0;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		abort();
	*p = (struct place){.next = g->img->place, .number = number, .epoch = s->epoch, .c = s->now};
	p->until = clock_now_ns() + (int64_t)(g->env->retain_s - 1) * NSEC_PER_SEC;
	g->img->place = p;
	imgtrace("node %d: position %" PRIu64 " is the state after %u operations", g->node, number, s->acked);
	imgstats->places++;
	return 0;
}

static const struct place *some_place(const struct image *img)
{
	const struct place *found = NULL;
	unsigned n = 0;

	for (const struct place *p = img->place; p != NULL; p = p->next)
		if ((place_kept(p) || sim_chance(1, 8)) && sim_below(++n) == 0)
			found = p;
	return found;
}

static int go_to_place(struct guest *g)
{
	const struct place *p = some_place(g->img);
	struct session *s = g->s;
	struct objerr err = {0};
	struct snap *present;
	struct vol_stat st;
	struct op *o;
	bool must;
	int r;

	if (p == NULL || p->epoch > s->epoch)
		return 0;
	present = snap_begin(g, true);
	must = place_kept(p);
	o = session_add(s);
	*o = (struct op){.kind = OP_BACK, .group = s->group, .to = &p->c};
	s->closing = true;
	r = vol_rollback_to(g->v, p->number, present->name, &err);
	present->hi = present->lo;
	vol_stat(g->v, &st);
	imgtrace("node %d: back to position %" PRIu64 ", the present is %s: %d, state %d: %s", g->node, p->number,
		 present->name, r, (int)st.state, err.msg);
	if (r == 0 || (transient(r) && st.state == VOL_FOLLOWER)) {
		imgstats->place_backs++;
		return back_done(g, present);
	}
	sim_check(r == -EIO || transient(r) || (r == -ERANGE && !must), "node %d: back to position %" PRIu64 " gives %d: %s",
		  g->node, p->number, r, err.msg);
	if (st.state == VOL_OWNER && r != -EIO) { /* before anything was sent */
		s->n--;
		s->closing = false;
		present->is = SNAP_GONE;
		return 0;
	}
	return -EIO;
}

/* One that is just being deleted, or any. */
static struct snap *mother(const struct image *img)
{
	for (struct snap *k = img->snap; k != NULL; k = k->next)
		if (k->is == SNAP_LEAVING && k->known && sim_chance(1, 2))
			return k;
	return some(img, true);
}

/* By anybody, also one who only looks. */
static int beget(struct guest *g)
{
	struct snap *k = mother(g->img);
	struct objerr err = {0};
	struct image *img;
	uint64_t size = 0;
	bool unseen;
	int r;

	for (img = images; img < images + IMAGES && img->is != IMG_NONE; img++)
		;
	if (k == NULL || img == images + IMAGES)
		return 0;
	image_make(img, &k->c);
	img->mother = k;
	k->referred = true;
	wanted = k;
	r = vol_clone(g->v, k->name, img->prefix, img->uuid, &size, &err);
	wanted = wanted == k ? NULL : wanted;
	imgtrace("node %d: clone %td of %s gives %d: %s", g->node, img - images, k->name, r, err.msg);
	if (r == 0) {
		sim_check(size == (uint64_t)k->c.size * UNIT, "a clone is of another size");
		img->is = IMG_THERE;
		imgstats->clones++;
		return 0;
	}
	unseen = g->s != NULL && k->epoch > g->s->epoch; /* overtaken, and does not know it yet */
	sim_check(transient(r) || unseen || (r == -EIO && g->s != NULL) || k->is != SNAP_THERE ||
		      k->img->is != IMG_THERE,
		  "node %d: a clone of %s gives %d: %s", g->node, k->name, r, err.msg);
	return r == -EIO && g->s != NULL ? r : 0;
}

static int clean(struct guest *g)
{
	struct vol_gc gc;
	int r = vol_gc(g->v, sim_chance(1, 2) ? 0 : 99, &gc);

	sim_check(r == 0 || r == -EIO || transient(r), "node %d: gc gives %d", g->node, r);
	return r == -EIO ? r : 0;
}

int snaps_op(struct guest *g)
{
	uint64_t what = sim_below(100);

	if (wanted != NULL && wanted->img == g->img && is_wanted(wanted) && sim_chance(1, 2))
		return take_away(g);
	if (g->env->retain_s > 0 && sim_chance(1, 3))
		return sim_chance(3, 4) ? note_place(g) : go_to_place(g);
	if (what < 42 && live(g->img) < LIVE_MAX)
		return snap_put(g, snap_begin(g, true));
	if (what < 65)
		return take_away(g);
	if (what < 77)
		return go_back(g);
	if (what < 87)
		return beget(g);
	if (what < 91)
		return clean(g);
	return snaps_look(g, 2);
}

void snaps_follow(struct guest *g)
{
	int r = sim_chance(1, 4) ? beget(g) : snaps_look(g, 2);

	ignore(r); /* judged */
}

/* ---- the end of a clone ---- */

/* As the daemon does it: refs, last claim; then `dead`, the objects, the ref of its own. */
static int doom(struct guest *g, struct vol_env *env)
{
	struct image *img = g->img;
	struct vol_remains rem;
	struct objerr err = {0};
	struct vol_stat st;
	struct volume *v;
	bool asked = false;
	int r = image_has_refs(env->store, img->prefix, &err);

	for (const struct snap *k = img->snap; k != NULL; k = k->next)
		asked = asked || k->referred;
	sim_check(r <= 0 || asked, "an image is in use, and nobody made a clone of it");
	imgstats->refused += r > 0;
	if (r != 0 || img->is != IMG_THERE)
		return -EBUSY;
	r = vol_open(env, img->prefix, img->uuid, &v, &err);
	if (r < 0)
		return r;
	r = vol_doom(v, &rem);
	vol_stat(v, &st);
	imgtrace("node %d: the last claim of clone %td gives %d", g->node, img - images, r);
	if (r == 0) {
		img->is = MAX(img->is, IMG_DOOMED);
		img->remains = rem;
		oracle_doomed(img, st.epoch);
	}
	ignore(vol_close(v));
	return r;
}

void guest_erase(struct guest *g, struct vol_env *env)
{
	struct image *img = g->img;
	struct vol_remains rem;
	struct objerr err = {0};
	size_t left = 0;
	int r = img->is == IMG_THERE ? doom(g, env) : 0;

	if (r < 0 || img->is != IMG_DOOMED)
		return;
	rem = img->remains;
	r = image_bury(env->store, img->prefix, &err);
	if (r == 0)
		r = image_erase(env->store, img->prefix, rem.next, rem.claims, rem.nclaims, &left, &err);
	imgtrace("node %d: the end of clone %td gives %d, %zu are left: %s", g->node, img - images, r, left, err.msg);
	if (r == -EBUSY) { /* a clone of it came between: all stays */
		img->is = IMG_DEAD;
		return;
	}
	if (r == 0)
		r = obj_delete(env->store, rem.ref, NULL, &err);
	if (r == 0 || r == -ENOENT) {
		img->is = IMG_DEAD;
		imgstats->ends++;
	}
}
