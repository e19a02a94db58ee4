/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-map.c - the map against an array with one entry a sector: batches, objects, moves by a cleaner (also stale
 * ones), new trees that succeed and fail half-way, little memory for pages, and starting again from a checkpoint and
 * the objects after it.
 */
#include "config.h"
#include "fs/image/map.h"
#include "fs/image/treewr.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SPACE = 4000, NOBJ = 4000 };

static uint64_t rnd_state;

static uint64_t rnd(uint64_t n)
{
	rnd_state = rnd_state * 6364136223846793005u + 1442695040888963407u;
	return (rnd_state >> 16) % n;
}

struct sector {
	uint64_t kind, a, b;
};

/* Pages "in the bucket": object `number` has one page at sector 0. */
static struct {
	void *p;
	size_t len;
} bucket[NOBJ];
static uint64_t next_number;

struct world {
	struct map *m;
	struct sector model[SPACE], assigned[SPACE]; /* with everything pending; without */
	struct {
		struct sector s[SPACE];
		bool touched[SPACE];
	} batch[8]; /* closed ones, oldest first, then the open one */
	size_t nbatch;
	uint64_t where;
	bool roomy; /* pages stay in memory */
	/* since the last checkpoint, for starting again */
	struct log_checkpoint ck;
	struct log_effect log[NOBJ];
	size_t nlog, in_tree;
	struct page_object table[NOBJ];
	size_t ntable;
};

static int put_page(void *arg, const void *p, size_t len, struct log_pageref *ref)
{
	(void)arg;
	ref->number = next_number++;
	assert_true(ref->number < NOBJ);
	free(bucket[ref->number].p);
	bucket[ref->number].p = malloc(len);
	assert_non_null(bucket[ref->number].p);
	memcpy(bucket[ref->number].p, p, len);
	bucket[ref->number].len = len;
	return 0;
}

static void fetch(struct map *m, const struct log_pageref *need)
{
	struct objerr err;

	if (map_add_page(m, need, bucket[need->number].p, bucket[need->number].len, &err) != 0)
		fail_msg("page %d, level %d, %d bytes: %s", (int)need->number, need->level, (int)need->bytes, err.msg);
}

static struct sector sector_of(const struct em_ext *e, uint64_t lba)
{
	uint64_t d = lba - e->lba;

	if (e->kind == EM_LOG)
		return (struct sector){e->kind, e->number, e->sector + d};
	if (e->kind == EM_JOURNAL)
		return (struct sector){e->kind, e->where + d * SECTOR, 0};
	return (struct sector){e->kind, 0, 0};
}

static void compare(struct world *w, bool assigned)
{
	struct em_ext out[7];
	struct log_pageref need;
	uint64_t lba = 0;

	while (lba < SPACE) {
		int n = map_lookup(w->m, lba, SPACE - lba, assigned, out, 7, &need);

		if (n == -EAGAIN) {
			fetch(w->m, &need);
			continue;
		}
		assert_true(n > 0);
		for (int i = 0; i < n; i++) {
			assert_int_equal(out[i].lba, lba);
			for (uint64_t s = lba; s < lba + out[i].len; s++) {
				struct sector is = sector_of(&out[i], s),
					      *should = assigned ? &w->assigned[s] : &w->model[s];

				if (memcmp(&is, should, sizeof(is)) != 0)
					fail_msg("sector %d: %d %d %d, should be %d %d %d", (int)s, (int)is.kind,
						 (int)is.a, (int)is.b, (int)should->kind, (int)should->a,
						 (int)should->b);
			}
			lba += out[i].len;
		}
	}
}

static void set(struct sector *to, uint64_t lba, uint64_t len, struct sector s)
{
	for (uint64_t i = 0; i < len; i++) {
		to[lba + i] = s;
		if (s.kind == EM_JOURNAL)
			s.a += SECTOR;
		else if (s.kind == EM_LOG)
			s.b++;
	}
}

static void do_write(struct world *w)
{
	uint64_t lba = rnd(SPACE), len = 1 + rnd(MIN((uint64_t)60, SPACE - lba));
	enum em_kind k = (enum em_kind[]){EM_JOURNAL, EM_JOURNAL, EM_JOURNAL, EM_ZERO, EM_HOLE}[rnd(5)];

	assert_int_equal(map_pending(w->m, lba, len, k, w->where), 0);
	set(w->model, lba, len, (struct sector){k, k == EM_JOURNAL ? w->where : 0, 0});
	set(w->batch[w->nbatch].s, lba, len, (struct sector){k, k == EM_JOURNAL ? w->where : 0, 0});
	for (uint64_t i = 0; i < len; i++)
		w->batch[w->nbatch].touched[lba + i] = true;
	w->where += len * SECTOR;
	if (w->nbatch < 7 && rnd(12) == 0) {
		assert_int_equal(map_close_batch(w->m), 0);
		memset(&w->batch[++w->nbatch], 0, sizeof(w->batch[0]));
	}
}

/* What a reader sees: the batches over what is assigned. */
static void remodel(struct world *w)
{
	memcpy(w->model, w->assigned, sizeof(w->model));
	for (size_t b = 0; b <= w->nbatch; b++)
		for (int i = 0; i < SPACE; i++)
			if (w->batch[b].touched[i])
				w->model[i] = w->batch[b].s[i];
}

static uint32_t header_sectors(void *arg, size_t n)
{
	(void)arg;
	return (uint32_t)(8 + n / 128 * 8);
}

static void remember(struct world *w, const struct log_effect *e)
{
	w->log[w->nlog++] = *e;
	assert_true(w->nlog < NOBJ);
}

static void do_seal(struct world *w)
{
	struct map_sealed s;
	struct log_effect e = {.type = LOG_DATA, .size = SPACE * SECTOR};
	uint64_t number = next_number++;
	size_t piece = 0;
	uint64_t in_piece = 0;

	assert_int_equal(map_seal(w->m, number, header_sectors, NULL, &s), 0);
	for (size_t i = 0; i < s.n; i++) {
		struct log_extent *x = &s.extents[i];

		/* The pieces, in order, are what the model has there. */
		for (uint64_t k = 0; x->kind == EXT_DATA && k < x->len; k++) {
			assert_true(piece < s.npieces);
			assert_int_equal(w->batch[0].s[x->lba + k].kind, EM_JOURNAL);
			assert_int_equal(w->batch[0].s[x->lba + k].a, s.pieces[piece].where + in_piece * SECTOR);
			if (++in_piece == s.pieces[piece].len)
				piece++, in_piece = 0;
		}
		set(w->assigned, x->lba, x->len,
		    (struct sector){x->kind == EXT_DATA   ? EM_LOG
				    : x->kind == EXT_ZERO ? EM_ZERO
							  : EM_HOLE,
				    x->kind == EXT_DATA ? number : 0, x->kind == EXT_DATA ? x->at : 0});
	}
	assert_int_equal(piece, s.npieces);
	if (w->nbatch > 0)
		memmove(&w->batch[0], &w->batch[1], w->nbatch-- * sizeof(w->batch[0]));
	else
		memset(&w->batch[0], 0, sizeof(w->batch[0]));
	remodel(w);
	e.number = number;
	e.first = s.first;
	e.v = s.extents;
	e.n = s.n;
	free(s.pieces);
	remember(w, &e);
}

/* Moves runs of sectors to a new object; some of what it lists is no longer so when it gets its number. */
static void do_clean(struct world *w)
{
	struct log_effect e = {.type = LOG_CLEANER, .number = next_number++, .size = SPACE * SECTOR, .first = 8};
	struct log_extent *v = calloc(8, sizeof(*v));
	uint64_t lba = rnd(SPACE / 2), at = 8;
	bool stale[8] = {false};
	size_t kept = 0;

	assert_non_null(v);
	if (w->roomy)
		compare(w, true);
	while (e.n < 8 && lba < SPACE) {
		struct sector s = w->assigned[lba];
		uint64_t len = 1;

		if (s.kind == EM_LOG && rnd(3)) {
			while (lba + len < SPACE && len < 20 && w->assigned[lba + len].kind == EM_LOG &&
			       w->assigned[lba + len].a == s.a && w->assigned[lba + len].b == s.b + len)
				len++;
			v[e.n] = (struct log_extent){
			    .lba = lba, .len = len, .at = (uint32_t)at, .from = {s.a, (uint32_t)s.b}};
			/*
			 * Stale: seen at once where the pages are in memory. No writer puts such places into the log.
			 */
			if (w->roomy && rnd(4) == 0)
				v[e.n].from.sector += 1, stale[e.n] = true;
			else
				set(w->assigned, lba, len, (struct sector){EM_LOG, e.number, at});
			at += len;
			e.n++;
		}
		lba += len + rnd(30);
	}
	remodel(w);
	e.v = v;
	assert_int_equal(map_apply(w->m, &e, 0), 0);
	for (size_t i = 0; i < e.n; i++)
		if (!stale[i])
			v[kept++] = v[i];
	e.n = kept;
	remember(w, &e);
}

static size_t table_of(struct world *w, struct page_object *table)
{
	return map_walked_objects(w->m, 0, table, NOBJ);
}

static void exact_live(struct world *w, struct page_object *o)
{
	uint32_t live = 0;

	for (int i = 0; i < SPACE; i++)
		live += w->assigned[i].kind == EM_LOG && w->assigned[i].a == o->number;
	if (o->type == LOG_DATA || o->type == LOG_CLEANER)
		if (o->live != live)
			fail_msg("object %d: %d live, walked %d", (int)o->number, (int)live, (int)o->live);
}

static void do_tree(struct world *w)
{
	struct page_run runs[5];
	struct log_pageref need, root;
	struct treewr *tw;
	uint64_t lba = 0, mine = 0;
	bool fails = rnd(4) == 0, interrupted = rnd(2) == 0;
	size_t covered = w->nlog;
	int n;

	compare(w, true);
	assert_int_equal(map_freeze(w->m, next_number), 0);
	assert_int_equal(map_freeze(w->m, next_number), -EBUSY);
	for (int i = 0; i < SPACE; i++)
		mine += w->assigned[i].kind == EM_LOG || w->assigned[i].kind == EM_ZERO;
	assert_int_equal(treewr_new(PAGE_LEAF, put_page, NULL, &tw), 0);
	if (rnd(3) > 0)
		treewr_fanout(tw, 20 + rnd(100));
	while ((n = map_walk(w->m, &lba, runs, 5, &need)) != 0) {
		if (n == -EAGAIN) {
			fetch(w->m, &need);
			continue;
		}
		assert_true(n > 0);
		assert_int_equal(treewr_runs(tw, runs, (size_t)n), 0);
		/* Life goes on meanwhile. */
		if (interrupted && rnd(20) == 0)
			do_write(w);
		if (interrupted && rnd(50) == 0)
			do_seal(w);
		if (interrupted && rnd(50) == 0)
			do_clean(w);
	}
	assert_int_equal(treewr_finish(tw, &root), 0);
	treewr_free(tw);
	if (!interrupted) {
		assert_int_equal(map_walked_allocated(w->m), mine);
		static struct page_object now[NOBJ];
		size_t nnow = table_of(w, now);

		for (size_t i = 0; i < nnow; i++)
			exact_live(w, &now[i]);
	}
	if (!fails) {
		w->ntable = table_of(w, w->table);
		w->ck = (struct log_checkpoint){.root = root, .allocated = map_walked_allocated(w->m)};
		w->in_tree = covered;
	}
	assert_int_equal(map_thaw(w->m, fails ? NULL : &root), 0);
}

/* As after a crash: the checkpoint's tree and table, then the objects since, in order; nothing that was pending. */
static void do_restart(struct world *w)
{
	bool late = rnd(2) == 0; /* the table is read when the map is in use already */

	map_reset(w->m, w->ck.root.number != 0 || w->in_tree > 0 ? &w->ck : NULL, SPACE * SECTOR);
	if (!late)
		assert_int_equal(map_note_table(w->m, w->table, w->ntable), 0);
	for (size_t i = w->in_tree; i < w->nlog; i++)
		assert_int_equal(map_apply(w->m, &w->log[i], 0), 0);
	if (late && rnd(2) == 0)
		compare(w, true);
	if (late)
		assert_int_equal(map_note_table(w->m, w->table, w->ntable), 0);
	memset(w->batch, 0, sizeof(w->batch));
	w->nbatch = 0;
	remodel(w);
}

static void never_too_low(struct world *w)
{
	static struct page_object v[NOBJ];
	size_t n = map_objects(w->m, 0, v, NOBJ);

	for (size_t i = 0; i < n; i++) {
		uint32_t live = 0;

		for (int s = 0; s < SPACE; s++)
			live += w->assigned[s].kind == EM_LOG && w->assigned[s].a == v[i].number;
		if (v[i].live < live)
			fail_msg("object %d: %d live, counted %d", (int)v[i].number, (int)live, (int)v[i].live);
		if (v[i].death != 0 && live > 0)
			fail_msg("object %d: %d live, and dead since %d", (int)v[i].number, (int)live, (int)v[i].death);
	}
}

static void equals_an_array(void **state)
{
	static struct world w;

	(void)state;
	for (int seed = 0; seed < 60; seed++) {
		rnd_state = (uint64_t)seed * 7919 + 5;
		memset(&w, 0, sizeof(w));
		next_number = 1;
		set(w.model, 0, SPACE, (struct sector){EM_HOLE, 0, 0});
		set(w.assigned, 0, SPACE, (struct sector){EM_HOLE, 0, 0});
		w.roomy = seed % 2 == 1;
		assert_int_equal(map_new(w.roomy ? 1 << 20 : 2000, &w.m), 0);
		map_reset(w.m, NULL, SPACE * SECTOR);
		for (int op = 0; op < 1200; op++) {
			uint64_t k = rnd(100);

			if (k < 70)
				do_write(&w);
			else if (k < 85)
				do_seal(&w);
			else if (k < 93)
				do_clean(&w);
			else if (k < 96)
				do_tree(&w);
			else if (k < 97)
				do_restart(&w);
			else if (k < 98)
				never_too_low(&w);
			else
				compare(&w, k == 98);
		}
		compare(&w, false);
		do_restart(&w);
		compare(&w, true);
		never_too_low(&w);
		map_free(w.m);
		for (size_t i = 0; i < w.nlog; i++)
			free(w.log[i].v);
	}
}

static void resize_cuts(void **state)
{
	struct map *m;
	struct log_extent x = {.lba = 0, .len = 100, .at = 8};
	struct log_effect e = {.number = 1, .type = LOG_DATA, .size = 100 * SECTOR, .first = 8, .n = 1, .v = &x};
	struct log_effect cut = {.number = 2, .type = LOG_RESIZE, .size = 10 * SECTOR},
			  grow = {.number = 3, .type = LOG_RESIZE, .size = 1000 * SECTOR};
	struct em_ext out[4];
	struct log_pageref need;
	struct map_stat st;

	(void)state;
	assert_int_equal(map_new(1000, &m), 0);
	map_reset(m, NULL, 100 * SECTOR);
	assert_int_equal(map_apply(m, &e, 108), 0);
	assert_int_equal(map_apply(m, &cut, 8), 0);
	assert_int_equal(map_apply(m, &grow, 8), 0);
	assert_int_equal(map_lookup(m, 0, 1000, true, out, 4, &need), 2);
	assert_int_equal(out[0].len, 10);
	assert_int_equal(out[1].kind, EM_HOLE);
	map_stat(m, &st);
	assert_int_equal(st.allocated, 10);
	assert_int_equal(st.live, 10);
	assert_int_equal(st.size, 1000 * SECTOR);
	map_free(m);
}

/* Two index levels: a million runs. */
static void a_large_tree(void **state)
{
	struct map *m;
	struct treewr *tw;
	struct log_pageref root, need;
	struct log_checkpoint ck = {0};
	struct em_ext out;

	(void)state;
	next_number = 1;
	assert_int_equal(treewr_new(PAGE_LEAF, put_page, NULL, &tw), 0);
	for (uint64_t i = 0; i < 1000000; i++) {
		struct page_run r = {
		    .lba = i * 16, .len = 8, .at = {1 + i * 2654435761u % 100000, (uint32_t)(i % 16000)}};

		assert_int_equal(treewr_runs(tw, &r, 1), 0);
	}
	assert_int_equal(treewr_finish(tw, &root), 0);
	treewr_free(tw);
	ck.root = root;
	assert_int_equal(root.level, 1);
	assert_int_equal(map_new(1 << 20, &m), 0);
	map_reset(m, &ck, 1ull << 40);
	for (int k = 0; k < 500; k++) {
		uint64_t i = rnd(1000000);
		int n;

		while ((n = map_lookup(m, i * 16 + 3, 1, false, &out, 1, &need)) == -EAGAIN)
			fetch(m, &need);
		assert_int_equal(n, 1);
		assert_int_equal(out.number, 1 + i * 2654435761u % 100000);
		assert_int_equal(out.sector, i % 16000 + 3);
	}
	map_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(equals_an_array),
	    cmocka_unit_test(resize_cuts),
	    cmocka_unit_test(a_large_tree),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	for (int i = 0; i < NOBJ; i++)
		free(bucket[i].p);
	return r;
}
