/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * map.h - where each sector of an image is: the assigned map, in bounded memory.
 *
 * Layers, the upper one hides the lower:
 *	pending	 what is in the journal and has no number yet (the open batch)
 *	active	 what numbers since the last freeze did
 *	frozen	 what is being written into a new tree (between map_freeze() and map_thaw()), else empty
 *	leaves	 pages of the tree in the bucket, loaded when somebody asks, evictable
 * Beside it the object table: per number the sectors it holds and how many of them the map still points to. Counts of objects below an
 * unread leaf are too high until the leaf is read or the next tree is written, never too low.
 *
 * Every function takes the map's own lock (RANK_MAP) and none waits for the network: where a leaf is missing they say which one
 * (-EAGAIN), the caller fetches it without a lock and gives it to map_add_leaf().
 */
#ifndef LSVD_IMAGE_MAP_H
#define LSVD_IMAGE_MAP_H

#include "extmap.h"

struct map;

struct map_stat {
	uint64_t live_sectors;	  /* EM_LOG that the map points to, as far as known (never too low) */
	uint64_t stored_sectors;  /* of all objects in the table */
	uint64_t allocated;	  /* sectors that read as data or zero: st_blocks */
	size_t bytes;		  /* memory of all layers */
	size_t overlay_extents, leaves, leaves_loaded;
};

/* memory: bytes for leaves; overlays come on top (map_stat says how large; a tree write empties them). */
int must_check map_new(size_t memory, struct map **ret);
void map_free(struct map *m);
/* Forgets everything and starts from a tree: index pages are asked for as leaves are. size: bytes. */
void map_reset(struct map *m, const struct log_checkpoint *c, uint64_t size);

/* ---- changes, in the order of the log ---- */
/* One object's effect (attach, replay, digest): number gets an entry in the object table; total: its content sectors. CAS of cleaner extents as FORMAT.md says. */
int must_check map_apply(struct map *m, const struct log_effect *e, uint32_t total);
/* Objects without effect that occupy a number (map, checkpoint, ...): for the delete rule. */
int must_check map_note_object(struct map *m, uint64_t number, enum log_type type, uint32_t total);
/* An acknowledged write, zero or discard, at journal position where. */
int must_check map_pending(struct map *m, uint64_t lba, uint64_t len, enum em_kind kind, uint64_t where);
/*
 * Seals: everything pending becomes an effect of `number`, laid out by address: ret gets the extents, sorted (data: `at` counted from `first`, the sector
 * where the object's data start) and, beside each data extent, its journal position. The batch is empty afterwards. Caller frees both by free().
 * Two steps, since the place of the first data sector depends on how many extents there are: map_seal_count() under the caller's own order first.
 */
size_t map_pending_extents(struct map *m, uint64_t *ret_data_sectors);
int must_check map_seal(struct map *m, uint64_t number, uint32_t first, struct log_extent **ret, uint64_t **ret_where, size_t *ret_n);
/* Shrinking cuts pending, active; growing is free. Bytes. */
int must_check map_resize(struct map *m, uint64_t size);

/* ---- questions ---- */
/*
 * Up to max pieces that cover [lba, lba + len) in order, EM_NONE never (EM_HOLE instead), EM_MOVED never. Returns their number (they may end early:
 * ask again from there); -EAGAIN: ret_need is the page to load.
 */
int must_check map_lookup(struct map *m, uint64_t lba, uint64_t len, struct em_ext *out, int max, struct log_pageref *ret_need);
/* Bytes of a page, fetched for -EAGAIN. -EUCLEAN: does not decode. Another thread may have been first: fine. */
int must_check map_add_page(struct map *m, const struct log_pageref *ref, const void *p, size_t len, struct objerr *err);
/* For the cleaner: of [lba, lba + len), what still points into `number`, as map_lookup. */
void map_stat(struct map *m, struct map_stat *ret);

/* ---- object table ---- */
struct map_object {
	uint64_t number, death;
	enum log_type type;
	uint32_t sectors, live;
};
/* The entries from number `from` on, at most max; returns how many. */
size_t map_objects(struct map *m, uint64_t from, struct map_object *out, size_t max);
int must_check map_set_death(struct map *m, uint64_t number, uint64_t death); /* 0 clears: rollback */
void map_forget_object(struct map *m, uint64_t number); /* it was deleted */

/* ---- a new tree ---- */
/* Active becomes frozen; -EBUSY while one is. covers: every number below it is in. Pending stays where it is. */
int must_check map_freeze(struct map *m, uint64_t covers);
/*
 * Walks the tree that is to be: leaves with frozen merged in, as runs in order of LBA from *io_lba, at most max; 0 at the end. -EAGAIN as map_lookup. The
 * runs of one walk add up exactly: per-object live counts of this walk replace the table's at map_thaw().
 */
int must_check map_walk(struct map *m, uint64_t *io_lba, struct page_run *out, int max, struct log_pageref *ret_need);
/* The new tree is in the bucket: frozen goes, the leaves are those of root. failed: frozen goes back under active, as if nothing had been. */
int must_check map_thaw(struct map *m, const struct log_pageref *root, bool failed);

#endif
