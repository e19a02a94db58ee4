/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * map.h - where each sector of an image is: the assigned map, in bounded memory.
 *
 * Layers, the upper one hides the lower:
 *	pending	 what is in the journal and has no number yet: closed batches, oldest first, and the open one
 *	active	 what numbers since the last freeze did
 *	frozen	 what is being written into a new tree (between map_freeze() and map_thaw()), else empty
 *	tree	 pages in the bucket, loaded when somebody asks, evictable
 * Beside them the object table: per number the sectors that it holds and how many of them the map still points to.
 * Counts below an unread leaf are too high until the leaf is read or the next tree is written, never too low.
 *
 * Every function takes the map's own lock (RANK_MAP) and none waits for the network: where a page is missing they say
 * which one (-EAGAIN), the caller fetches it without a lock, gives it to map_add_page() and asks again.
 * After -ENOMEM of a function that changes it the map is of no use: the caller fails the image.
 */
#ifndef LSVD_IMAGE_MAP_H
#define LSVD_IMAGE_MAP_H

#include "extmap.h"

struct map;

/*
 * pages: bytes of memory for pages of the tree. Overlays come on top: map_stat() says how large, a tree write empties
 * them.
 */
int must_check map_new(size_t pages, struct map **ret);
void map_free(struct map *m);
/* Forgets everything and starts from a checkpoint's tree (NULL: everything is a hole). size: bytes. */
void map_reset(struct map *m, const struct log_checkpoint *c, uint64_t size);
/* Numbers below `first` are those of ancestors, who look after their objects themselves: the table has none of them. */
void map_own_from(struct map *m, uint64_t first);

/* ---- changes, in the order of the log ---- */
/*
 * The effect of an object (attach, replay, digest; cleaner and resize at run time). sectors: its content; 0: not
 * known (a digest), estimated.
 */
int must_check map_apply(struct map *m, const struct log_effect *e, uint32_t sectors);
/* An object without effect on the map, or read from a table. live: of its sectors. */
int must_check map_note_object(struct map *m, const struct page_object *o);
/* An acknowledged write (EM_JOURNAL, at journal position where), zero (EM_ZERO) or discard (EM_HOLE). */
int must_check map_pending(struct map *m, uint64_t lba, uint64_t len, enum em_kind kind, uint64_t where);
/* What the open batch holds now, and how many are closed. */
struct map_batch {
	size_t extents; /* at most: neighbours are merged at the seal */
	uint64_t data_sectors;
	size_t closed;
};
void map_batch(struct map *m, struct map_batch *ret);
/*
 * Later writes go to a new batch. Each object is one batch: a prefix of the writes, never more than one object holds.
 */
int must_check map_close_batch(struct map *m);
/*
 * Seals the oldest batch (the open one, if none is closed): it becomes the effect of `number` and moves to active,
 * laid out by address. ret: its extents, sorted (free by free()); ret_where: one journal position for each piece of
 * data, in the order of the extents. `first` is called with the number of extents and returns the content sector
 * where the data start, 0 when there is no memory.
 */
struct map_piece {
	uint64_t where, len; /* journal position; sectors */
};
struct map_sealed {
	struct log_extent *extents;
	size_t n;
	struct map_piece *pieces;
	size_t npieces;
	uint64_t data_sectors;
	uint32_t first;
};
int must_check map_seal(struct map *m, uint64_t number, uint32_t (*first)(void *arg, size_t nextents), void *arg,
			struct map_sealed *ret);

/* ---- questions ---- */
/*
 * Up to max pieces that cover [lba, lba + len) in order, each EM_LOG, EM_ZERO, EM_HOLE or EM_JOURNAL. Returns their
 * number: they may end early. -EAGAIN: nothing is known of lba before page *ret_need is loaded. assigned: without the
 * pending layer (the cleaner).
 */
int must_check map_lookup(struct map *m, uint64_t lba, uint64_t len, bool assigned, struct em_ext *out, int max,
			  struct log_pageref *ret_need);
/* The bytes of a page, fetched for -EAGAIN. -EUCLEAN: does not decode. Another thread may have been first: fine. */
int must_check map_add_page(struct map *m, const struct log_pageref *ref, const void *p, size_t len,
			    struct objerr *err);

/*
 * A page that nobody has any more: what it stood for, [*ret_first, *ret_end), is a hole from here on, but for what lies over
 * it. -EUCLEAN: nothing that is loaded refers to it.
 */
int must_check map_lose_page(struct map *m, const struct log_pageref *ref, uint64_t *ret_first, uint64_t *ret_end);

struct map_stat {
	uint64_t size; /* bytes */
	uint64_t live,
	    stored;         /* sectors: pointed to, as far as known (never too low); content of all objects with data */
	uint64_t allocated; /* sectors that read as data or "zero" */
	size_t memory;      /* bytes, all layers */
	size_t overlay;     /* extents in active and frozen */
	size_t pages;       /* bytes of loaded pages */
	bool frozen;
};
void map_stat(struct map *m, struct map_stat *ret);
size_t map_overlay(struct map *m); /* bytes of memory of active and frozen */

/* ---- object table ---- */
/* The entries from number `from` on, at most max; returns how many. */
size_t map_objects(struct map *m, uint64_t from, struct page_object *out, size_t max);
bool map_object(struct map *m, uint64_t number, struct page_object *ret);
void map_set_death(struct map *m, uint64_t number, uint64_t death); /* 0 clears: rollback */
void map_forget_object(struct map *m, uint64_t number);             /* it was deleted */
/*
 * Entries of the table in the bucket, ascending; what is known already is newer and stays. Until they are here, what
 * changes hide of these objects is not counted: again too high, never too low.
 *
 * death: 0, or 1 + the number from which on no checkpoint's map refers to the object any more. It is set when the
 * last live sector is known to go, and never taken back.
 */
int must_check map_note_table(struct map *m, const struct page_object *v, size_t n);
/*
 * Map and table are those of a snapshot that the log went back to with record `number`. A death before that was true of
 * one line of the log only: a snapshot of another may need the object though it was made after that death. So what is
 * dead died now, also in tables that are noted later (T16).
 */
void map_rolled_back(struct map *m, uint64_t number);
/* Map objects below a number, of older trees: dead. */
void map_retire_pages(struct map *m, uint64_t below, uint64_t death);
/* Of the objects in [from, p) those that have a death, at most max. */
size_t map_dead(struct map *m, uint64_t from, uint64_t p, struct page_object *out, size_t max);

/* ---- the cleaner ---- */
/*
 * One move at a time. What is watched is what the map, without pending, points to; each change takes away from it what
 * it hides. Ends what was watched before.
 */
void map_watch_begin(struct map *m);
/*
 * Watches what is live of an object: x, one of its extents of data, from *io_off sectors on. -EAGAIN as map_lookup().
 * When all its extents were watched, map_watched_all() returns its live sectors, and puts the count right if it can.
 */
int must_check map_watch(struct map *m, uint64_t number, const struct log_extent *x, uint64_t *io_off,
			 struct log_pageref *ret_need);
uint64_t map_watched_all(struct map *m, uint64_t number);
/*
 * A flattening clone: goes on from *io_lba (to IMG_SECTORS_MAX, the end; a part of the way at a time) and adds to *io_n the
 * sectors that the map takes to numbers up to `last`, an ancestor's. watch: watches them, and stops when *io_n is max. -EAGAIN
 * as map_lookup().
 */
int must_check map_ancestors(struct map *m, uint64_t last, bool watch, uint64_t max, uint64_t *io_lba, uint64_t *io_n,
			     struct log_pageref *ret_need);
/*
 * Up to max pieces of what is watched and no pending write will hide, in order of LBA from *io_lba on. Returns their
 * number.
 */
size_t map_watched(struct map *m, uint64_t *io_lba, struct em_ext *out, size_t max);
/*
 * What of v is watched still becomes the effect of `number`, a cleaner object. first: as map_seal(). ret: its extents,
 * and where the data of each lie in what v says (sectors); arrays to be freed. -ENODATA: nothing is left.
 */
struct map_moved {
	struct log_extent *extents;
	uint64_t *at;
	size_t n;
	uint64_t data_sectors;
	uint32_t first;
};
int must_check map_move(struct map *m, uint64_t number, const struct em_ext *v, size_t n,
			uint32_t (*first)(void *arg, size_t nextents), void *arg, struct map_moved *ret);
uint64_t map_movable(struct map *m, const struct em_ext *v, size_t n); /* sectors that map_move() would move */
/*
 * Of all objects that are not dead: sectors pointed to, and of content. live is an estimate: what changes hide of leaves
 * that nobody has read was data, it says, which is so where an image is written over. Without that the cleaner would
 * take up to 1 GiB of what is dead for live.
 */
void map_usage(struct map *m, uint64_t *ret_live, uint64_t *ret_stored);

/* ---- a new tree ---- */
/* Active becomes frozen. -EBUSY while one is. Every number given so far is in it; pending stays where it is. */
int must_check map_freeze(struct map *m, uint64_t covers);
/*
 * Walks the tree that is to be - pages with frozen merged in - as runs in order of LBA from *io_lba, at most max; 0
 * at the end. -EAGAIN as map_lookup(). One walk from 0 to the end counts exactly what is live; map_thaw() puts these
 * counts in place.
 */
int must_check map_walk(struct map *m, uint64_t *io_lba, struct page_run *out, int max, struct log_pageref *ret_need);
/* The counts of the walk so far, for the table that goes with the tree. */
uint32_t map_walked_live(struct map *m, uint64_t number);
size_t map_walked_objects(struct map *m, uint64_t from, struct page_object *out, size_t max);
uint64_t map_walked_allocated(struct map *m);
/*
 * The new tree is in the bucket: frozen goes, its pages are those of root. NULL: it failed; frozen goes back under
 * active.
 */
int must_check map_thaw(struct map *m, const struct log_pageref *root);

#endif
