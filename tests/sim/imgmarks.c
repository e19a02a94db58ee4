/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgmarks.c - the image can be attached from each of its two newest marks, at any moment (PROTOCOL.md 4).
 *
 * Nobody moves while two readers, straight at the store, read all of it: one from the newest mark, one that does not
 * see that. Both must find the same, what the oracle says, and nothing missing; the snapshots as well.
 */
#include "config.h"
#include "imgguest.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct objstore *under;
static char marks[96];
static char hidden[OBJ_KEY_MAX + 1]; /* "" none */

static void submit(struct objstore *s, struct objreq *req)
{
	(void)s;
	if (req->op == OBJ_LIST && hidden[0] != '\0' && strcmp(req->key, marks) == 0 && req->start_after == NULL)
		req->start_after = hidden;
	obj_submit(under, req);
}

static void closed(struct objstore *s)
{
	(void)s;
}

/* The newest mark; false: there are fewer than two. */
static bool newest_mark(char out[OBJ_KEY_MAX + 1])
{
	struct objreq req;
	bool two;

	objreq_init(&req, OBJ_LIST, marks);
	req.max_keys = 2;
	sim_check(obj_do(under, &req) == 0, "no listing of marks");
	two = req.listing->n == 2;
	if (two)
		(void)snprintf(out, OBJ_KEY_MAX + 1, "%s", req.listing->v[0].key);
	objreq_done(&req);
	return two;
}

static void snapshot_at(struct volume *v, struct snap *k, uint64_t number)
{
	static uint8_t buf[SECTORS_MAX * SECTOR];
	struct objerr err = {0};
	struct state got;
	struct volume *at;
	ssize_t n;
	int r = vol_open_snapshot(v, number, &at, &err);

	sim_check(r == 0, "snapshot %s cannot be opened: %d, %s", k->name, r, err.msg);
	n = vol_read(at, false, 0, buf, sizeof(buf));
	sim_check(n >= 0, "snapshot %s cannot be read: %zd", k->name, n);
	sim_check(state_decode(buf, (size_t)n, &got), "a snapshot has a torn unit");
	ignore(vol_close(at));
	snap_is(k, &got, "the bucket");
}

/* All that show can be read and are what they were; none is lost, and none back. */
static void snapshots(struct image *img, struct volume *v)
{
	struct vol_snap *list = NULL;
	struct objerr err = {0};
	size_t n = 0;
	int r;

	snaps_remember(img);
	r = vol_snapshots(v, &list, &n, &err);
	sim_check(r == 0, "a list of snapshots gives %d: %s", r, err.msg);
	for (struct snap *k = img->snap; k != NULL; k = k->next) {
		bool visible = false, there = false;

		for (size_t i = 0; i < n; i++) {
			if (strcmp(list[i].name, k->name) != 0)
				continue;
			there = true;
			visible = !list[i].hidden;
			if (visible)
				snapshot_at(v, k, list[i].number);
		}
		snap_seen(k, visible, "the bucket");
		sim_check(there || !snap_needed(k), "snapshot %s is freed, and a clone stands on it", k->name);
	}
	free(list);
}

/* Kept ones are there, whatever the image is now. */
static void places(struct image *img, const struct vol_env *env)
{
	static uint8_t buf[SECTORS_MAX * SECTOR];

	for (const struct place *p = img->place; p != NULL; p = p->next) {
		struct objerr err = {0};
		struct state got;
		struct volume *at;
		ssize_t n;
		int r;

		if (!place_kept(p))
			continue;
		r = vol_open_position(env, img->prefix, img->uuid, p->number + 1, &at, &err);
		sim_check(r == 0, "position %" PRIu64 " cannot be opened: %d, %s", p->number, r, err.msg);
		n = vol_read(at, false, 0, buf, sizeof(buf));
		sim_check(n >= 0, "position %" PRIu64 " cannot be read: %zd", p->number, n);
		sim_check(state_decode(buf, (size_t)n, &got), "a position has a torn unit");
		ignore(vol_close(at));
		place_is(p, &got, "the bucket");
	}
}

static void image_at(struct image *img, struct volume *v, const uint8_t *p, size_t n)
{
	const struct session *from;
	struct state got;
	struct log_view view;
	uint32_t floor;

	sim_check(state_decode(p, n, &got), "the image has a torn unit");
	from = oracle_floor(img, &floor);
	log_view(v->log, &view);
	ignore(oracle_view(img, view.claim, &got, from, floor, 0));
	snapshots(img, v);
}

static size_t read_from(struct image *img, struct objstore *s, const char *which, bool all, uint8_t *buf, size_t cap)
{
	struct vol_env env = {.store = s, .host = "nobody", .read_only = true};
	struct objerr err = {0};
	struct vol_stat st;
	struct volume *v;
	ssize_t n;
	int r = vol_open(&env, img->prefix, img->uuid, &v, &err);

	if (r == -ENOENT && img->is == IMG_MAYBE)
		return 0; /* its create record never came */
	sim_check(r == 0, "the image cannot be attached from its %s mark: %d, %s", which, r, err.msg);
	n = vol_read(v, false, 0, buf, cap);
	vol_stat(v, &st);
	sim_check(n >= 0, "the image attached from its %s mark cannot be read: %zd, %s", which, n, st.why);
	if (all) {
		image_at(img, v, buf, (size_t)n);
		places(img, &env);
	}
	ignore(vol_close(v));
	return (size_t)n;
}

void oracle_marks(struct image *img, struct objstore *shared)
{
	static const struct objstore_ops ops = {.name = "marks", .submit = submit, .close = closed};
	struct objstore s = {.ops = &ops};
	enum { ALL = SECTORS_MAX * SECTOR };
	static uint8_t from[2][ALL];
	char newest[OBJ_KEY_MAX + 1];
	size_t n[2];

	under = shared;
	s.caps = obj_caps(shared);
	s.caps_known = true;
	s.stats = shared->stats;
	s.put_max = shared->put_max;
	(void)snprintf(marks, sizeof(marks), "%smark/", img->prefix);
	if (img->is >= IMG_DOOMED)
		return;
	sim_atomic_begin();
	hidden[0] = '\0';
	n[0] = read_from(img, &s, "newest", true, from[0], ALL);
	if (newest_mark(newest)) {
		memcpy(hidden, newest, sizeof(hidden));
		n[1] = read_from(img, &s, "second newest", false, from[1], ALL);
		hidden[0] = '\0';
		sim_check(n[0] == n[1] && memcmp(from[0], from[1], n[0]) == 0,
			  "the image is another one from its second newest mark");
	}
	sim_atomic_end();
}
