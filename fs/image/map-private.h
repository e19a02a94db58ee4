/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * map-private.h - the layers of a map, shared by map.c (changes), mapleaf.c (pages, resolving), mapwalk.c
 * (objects, a new tree) and mapclean.c (the cleaner's moves).
 */
#ifndef LSVD_IMAGE_MAP_PRIVATE_H
#define LSVD_IMAGE_MAP_PRIVATE_H

#include "map.h"
#include "../../objstore/base/lock.h"
#include "../../objstore/base/table.h"

enum map_layer { LAYER_PENDING, LAYER_ACTIVE, LAYER_FROZEN, LAYER_TREE };

struct mpage {
	struct hnode node; /* by number and sector */
	struct list lru;
	struct log_pageref ref;
	struct page page;
	size_t bytes; /* 0: evicted, only `settled` is remembered */
	bool settled; /* what overlays hid of this leaf when it was first read is off the counts */
};

struct mobject {
	struct page_object o;
	uint32_t walked; /* live sectors as the walk counts them */
};

struct map {
	struct mtx lock;                  /* RANK_MAP, all below */
	struct extmap *layer[LAYER_TREE]; /* [LAYER_PENDING]: the open batch */
	struct extmap **closed;           /* older batches, oldest first */
	size_t nclosed, capclosed;
	uint64_t size;
	struct log_pageref root;            /* number 0: an empty tree */
	uint64_t allocated[LAYER_TREE + 1]; /* sectors, per layer as a difference: what it added (wraps below 0) */
	uint64_t hidden; /* sectors of the overlays over leaves that nobody has read: the live counts below have them still */
	struct htab pages;
	struct extmap *watch; /* what the cleaner is about to move, as far as it still holds */
	bool watch_exact;      /* of the object that is looked at, every leaf was settled */
	uint64_t trees, watch_tree; /* trees so far; when it began to watch */
	struct list lru;
	size_t page_bytes, page_limit;
	struct mobject *obj; /* by number */
	size_t nobj, capobj;
	bool is_frozen;
	uint64_t covers, walked_allocated;
	uint64_t newest; /* number of the last effect */
	uint64_t rolled; /* no death is below this one */
	uint64_t first;  /* numbers below it are ancestors': their objects are not in the table */
	size_t loaded;   /* pages in memory */
};

#define TREE_END IMG_SECTORS_MAX
/* The path to a leaf stays in memory however little there is: else a lookup would never end. */
enum { PAGES_MIN = PAGE_INDEX_MAX + 2 };

/*
 * The piece at lba as the layers from `top` downwards see it. EM_NONE: page *ret_need must be read first; the piece
 * is then as long as that page's range lets it be known.
 */
void map_resolve_locked(struct map *m, enum map_layer top, uint64_t lba, uint64_t len, struct em_ext *ret,
			struct log_pageref *ret_need);
struct mpage *mpage_find_locked(struct map *m, const struct log_pageref *ref);
void mpages_drop_locked(struct map *m); /* all of them */
struct mobject *mobject_find_locked(struct map *m, uint64_t number);
int must_check mobject_add_locked(struct map *m, const struct page_object *o);
/* The map of the active layer in [lba, +len) changes. */
int must_check map_unwatch_locked(struct map *m, uint64_t lba, uint64_t len);
void mobject_dead_locked(struct map *m, uint64_t number, uint64_t sectors);

#endif
