/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * voltree.c - the map's tree in the bucket: written rarely, by a job of its own, never on the way of a write.
 *
 *	NONE	--the overlay is large, or much was written-->	WANTED
 *	WANTED	--the next object gets its number N: it carries a digest that ends at N-->	FROZEN (covers N)
 *	FROZEN	--walk, pages into map objects, all of them durable-->	NONE: checkpoints name the new tree from then on
 *		--failed-->	NONE: the frozen layer goes back, what was written is garbage
 *
 * Map objects get their numbers like all others, when all their bytes are there. Checkpoints may come in between: they
 * name the old tree. A new owner knows nothing of an unfinished tree.
 */
#include "config.h"
#include "volume-private.h"
#include "treewr.h"
#include "../../objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TREE_OBJECT = 8 << 20, WALK_RUNS = 512, HEADER = LOG_BLOCK };
#define NAME ((uint64_t)1 << 63) /* a page's object has no number yet: its index in builder.number */

static size_t share(const struct volume *v, unsigned part)
{
	return (v->env.map_bytes != 0 ? v->env.map_bytes : VOL_MAP_BYTES) / part;
}

bool vol_overlay_full_locked(struct volume *v)
{
	return v->tree == TREE_FROZEN && map_overlay(v->map) > share(v, VOL_OVERLAY_MAX_SHARE);
}

/* The cleaner leaves room for the guest. */
bool vol_overlay_crowded_locked(struct volume *v)
{
	return v->tree == TREE_FROZEN &&
	       map_overlay(v->map) > (share(v, VOL_OVERLAY_MAX_SHARE) + share(v, VOL_OVERLAY_SHARE)) / 2;
}

void vol_want_tree_locked(struct volume *v)
{
	size_t digests = v->env.tree_digests != 0 ? v->env.tree_digests : VOL_TREE_DIGESTS;

	if (v->tree == TREE_NONE && clock_now_ns() >= v->tree_after &&
	    (v->written >= VOL_TREE_EVERY || v->ck.ndigests >= digests ||
	     map_overlay(v->map) > share(v, VOL_OVERLAY_SHARE)))
		v->tree = TREE_WANTED;
}

/* ---- pages into objects ---- */

struct builder {
	struct volume *v;
	uint64_t covers;
	uint8_t *body; /* of the object that is being filled, behind its header */
	size_t len;
	uint64_t *number; /* of those that have one */
	size_t n, cap;
};

static bool stopping(struct volume *v)
{
	bool s;

	mtx_lock(&v->batch);
	s = v->up_stop;
	mtx_unlock(&v->batch);
	return s;
}

/* The window was reserved. */
static int put_map_object(struct builder *b, struct vol_put *u)
{
	struct volume *v = b->v;
	struct logobj o = {.type = LOG_MAP, .target = b->covers};
	const uint8_t *at = b->body;
	struct logobj_body body = {b->len, logobj_fill_bytes, &at};
	int r;

	mtx_lock(&v->batch);
	if (v->up_stop) {
		mtx_unlock(&v->batch);
		log_unreserve(v->log);
		free(u);
		return -ESHUTDOWN;
	}
	o.number = log_take(v->log);
	o.jseq = v->sealed_jseq;
	o.size = v->sealed_size;
	vol_put_begin_locked(v, u, &o);
	mtx_unlock(&v->batch);
	u->charged = b->len;
	if (v->env.budget != NULL)
		budget_take(v->env.budget, u->charged);
	r = vol_put_object(v, u, &o, &body);
	if (r == 0)
		r = map_note_object(v->map, &(struct page_object){.number = o.number,
								  .type = LOG_MAP,
								  .sectors = (uint32_t)((HEADER + b->len) / SECTOR)});
	if (r == 0)
		r = vol_append_u64(&b->number, &b->n, &b->cap, o.number);
	if (r < 0) /* a number without bytes, or an object that nobody knows */
		vol_fail(v, VOL_FAILED, "a tree of the map could not be written: %s", strerror(-r));
	b->len = 0;
	return r;
}

static int flush(struct builder *b)
{
	struct vol_put *u;
	int r = 0;

	if (b->len == 0)
		return 0;
	/* Two under way: the window is for the guest's data. */
	if (b->n >= 2)
		r = log_wait_committed(b->v->log, b->number[b->n - 2]);
	if (r == 0)
		r = log_reserve(b->v->log);
	if (r < 0)
		return r;
	u = calloc(1, sizeof(*u));
	if (u == NULL) {
		log_unreserve(b->v->log);
		return -ENOMEM;
	}
	return put_map_object(b, u);
}

static size_t tree_object(const struct volume *v)
{
	return v->env.tree_object_bytes != 0 ? v->env.tree_object_bytes : TREE_OBJECT;
}

/* A page starts at a sector and lies in one group of its object. */
static int on_page(void *arg, const void *p, size_t len, struct log_pageref *ref)
{
	struct builder *b = arg;
	size_t padded = (len + SECTOR - 1) / SECTOR * SECTOR, at = HEADER + b->len;
	int r = 0;

	if (at / LOG_GROUP != (at + padded - 1) / LOG_GROUP)
		at = (at / LOG_GROUP + 1) * LOG_GROUP;
	if (at + padded > tree_object(b->v)) {
		r = flush(b);
		at = padded > LOG_GROUP - HEADER ? LOG_GROUP : HEADER;
	}
	if (r < 0)
		return r;
	memset(b->body + b->len, 0, at + padded - HEADER - b->len);
	memcpy(b->body + at - HEADER, p, len);
	b->len = at + padded - HEADER;
	ref->number = NAME | b->n;
	ref->sector = (uint32_t)(at / SECTOR);
	return 0;
}

static int on_resolve(void *arg, struct log_pageref *ref)
{
	struct builder *b = arg;
	size_t i = (size_t)(ref->number & ~NAME);
	int r = 0;

	if ((ref->number & NAME) == 0)
		return 0;
	if (i == b->n)
		r = flush(b);
	if (r == 0)
		ref->number = b->number[i];
	return r;
}

static int new_writer(struct builder *b, uint8_t level, struct treewr **ret)
{
	struct treewr *w;
	int r = treewr_new(level, on_page, b, &w);

	if (r < 0)
		return r;
	treewr_resolve(w, on_resolve);
	if (b->v->env.map_fanout != 0)
		treewr_fanout(w, b->v->env.map_fanout);
	*ret = w;
	return 0;
}

/* ---- what goes into them ---- */

static int write_runs(struct builder *b, struct log_pageref *ret_root)
{
	struct page_run *runs = calloc(WALK_RUNS, sizeof(*runs));
	struct treewr *w = NULL;
	struct log_pageref need;
	uint64_t lba = 0;
	int n, r = runs == NULL ? -ENOMEM : new_writer(b, PAGE_LEAF, &w);

	while (r == 0) {
		n = map_walk(b->v->map, &lba, runs, WALK_RUNS, &need);
		if (n == 0)
			break;
		if (stopping(b->v))
			r = -ESHUTDOWN;
		else if (n > 0)
			r = treewr_runs(w, runs, (size_t)n);
		else
			r = n == -EAGAIN ? vol_fetch_page(b->v, &need) : n;
	}
	if (r == 0)
		r = treewr_finish(w, ret_root);
	treewr_free(w);
	free(runs);
	return r;
}

/* What a digest will tell of anyway, with counts that are not the tree's. */
static bool in_digests(const struct builder *b, const struct page_object *o)
{
	return o->number >= b->covers && (o->type == LOG_DATA || o->type == LOG_CLEANER || o->type == LOG_RESIZE);
}

/* Everything that may exist; the last objects, with the table itself in them, are known by its references. */
static int write_table(struct builder *b, struct log_pageref *ret_root)
{
	struct page_object *v = calloc(WALK_RUNS, sizeof(*v));
	struct treewr *w = NULL;
	uint64_t from = 0;
	size_t n = 1;
	int r = v == NULL ? -ENOMEM : new_writer(b, PAGE_OBJTABLE, &w);

	while (r == 0 && n > 0) {
		n = map_walked_objects(b->v->map, from, v, WALK_RUNS);
		for (size_t i = 0; i < n && r == 0; i++)
			if (!in_digests(b, &v[i]))
				r = treewr_object(w, &v[i]);
		from = n > 0 ? v[n - 1].number + 1 : 0;
	}
	if (r == 0)
		r = treewr_finish(w, ret_root);
	treewr_free(w);
	free(v);
	return r;
}

/* ---- the table of the tree before ---- */

static int read_table(struct volume *v, const struct log_pageref *ref, unsigned depth, struct objerr *err)
{
	uint32_t sectors = (ref->bytes + SECTOR - 1) / SECTOR;
	struct log_place at = {ref->number, ref->sector};
	struct page_object self = {.number = ref->number, .type = LOG_MAP};
	struct page p = {0};
	void *buf = malloc((size_t)sectors * SECTOR);
	int r = buf == NULL ? -ENOMEM : log_read(v->log, &at, sectors, buf, err);

	if (r == 0)
		r = page_decode(buf, (size_t)sectors * SECTOR, ref, &p, err);
	free(buf);
	if (r == 0)
		r = map_note_table(v->map, &self, 1);
	if (r == 0 && p.level == PAGE_OBJTABLE)
		r = map_note_table(v->map, p.objects, p.n);
	if (r == 0 && p.level == PAGE_OBJINDEX && depth == PAGE_INDEX_MAX)
		r = -EUCLEAN;
	for (size_t i = 0; r == 0 && p.level == PAGE_OBJINDEX && i < p.n; i++)
		r = stopping(v) ? -ESHUTDOWN : read_table(v, &p.children[i].ref, depth + 1, err);
	page_free(&p);
	return r;
}

int vol_know_objects(struct volume *v, struct objerr *err)
{
	struct log_pageref ref;
	bool known;

	mtx_lock(&v->batch);
	ref = v->ck.objects;
	known = v->table_known;
	mtx_unlock(&v->batch);
	return ref.number == 0 || known ? 0 : read_table(v, &ref, 0, err);
}

/*
 * Before the first tree or delete of an owner. A table that cannot be read costs no data: what it listed is not deleted
 * any more, that is all.
 */
static int know_table(struct volume *v)
{
	struct objerr err = {0};
	bool known;
	int r = vol_know_objects(v, &err);

	mtx_lock(&v->batch);
	known = v->table_known;
	mtx_unlock(&v->batch);
	if (r == 0 && !known)
		r = vol_note_strays(v);
	if (r == -EUCLEAN || r == -ENOENT) {
		vol_note(v, "the list of the image's objects is damaged, their space stays in use: %s", err.msg);
		r = 0;
	}
	if (r == 0) {
		mtx_lock(&v->batch);
		v->table_known = v->clean_look = true;
		cond_broadcast(&v->work);
		mtx_unlock(&v->batch);
	}
	return r;
}

/* ---- the job ---- */

/* All of the new tree is durable: checkpoints from here on name it, and readers use it. */
static int adopt(struct volume *v, const struct log_checkpoint *tree)
{
	size_t kept = 0;
	int r;

	mtx_lock(&v->batch);
	r = map_thaw(v->map, &tree->root);
	v->ck.tree_covers = tree->tree_covers;
	v->ck.root = tree->root;
	v->ck.objects = tree->objects;
	v->ck.allocated = tree->allocated;
	for (size_t i = 0; i < v->ck.ndigests; i++)
		if (v->ck.digests[i] > tree->tree_covers)
			v->ck.digests[kept++] = v->ck.digests[i];
	v->ck.ndigests = kept;
	v->tree = TREE_NONE;
	v->checkpoint_soon = true;
	v->retire_below = tree->tree_covers;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	return r;
}

static int give_up(struct volume *v)
{
	int r;

	mtx_lock(&v->batch);
	r = map_thaw(v->map, NULL);
	v->tree = TREE_NONE;
	v->tree_after = clock_now_ns() + VOL_TREE_RETRY_NS;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	return r;
}

/* r: a failure before. */
static int write_tree(struct volume *v, int r)
{
	struct builder b = {.v = v, .body = malloc(TREE_OBJECT)};
	struct log_checkpoint tree = {0};
	int given_up;

	r = r == 0 && b.body == NULL ? -ENOMEM : r;
	mtx_lock(&v->batch);
	b.covers = tree.tree_covers = v->tree_covers;
	mtx_unlock(&v->batch);
	if (r == 0)
		r = write_runs(&b, &tree.root);
	if (r == 0) {
		tree.allocated = map_walked_allocated(v->map);
		r = write_table(&b, &tree.objects);
	}
	if (r == 0)
		r = flush(&b);
	if (r == 0 && b.n > 0)
		r = log_wait_committed(v->log, b.number[b.n - 1]);
	free(b.body);
	free(b.number);
	if (r == 0)
		return adopt(v, &tree);
	given_up = give_up(v);
	return given_up < 0 ? given_up : r;
}

static void tend(struct job *job)
{
	struct volume *v = container_of(job, struct volume, tend);

	mtx_lock(&v->batch);
	while ((v->tree == TREE_FROZEN || v->deletes_due || v->table_wanted) && !v->up_stop) {
		bool tree = v->tree == TREE_FROZEN, deletes = v->deletes_due && !tree;
		int r;

		v->deletes_due = v->deletes_due && tree;
		v->table_wanted = false;
		mtx_unlock(&v->batch);
		r = know_table(v);
		if (tree)
			r = write_tree(v, r);
		else if (r == 0 && deletes)
			r = vol_delete_dead(v);
		/* Whatever else it was, a later attempt may do; damage made the volume fail where it was found. */
		if (r == -ENOMEM)
			vol_fail(v, VOL_FAILED, "out of memory for the tree of the map");
		mtx_lock(&v->batch);
	}
	v->tending = false;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

void vol_start_tending_locked(struct volume *v)
{
	if (v->tending)
		return;
	v->tending = true;
	v->tend.fn = tend;
	pool_submit(v->env.pool, &v->tend);
}
