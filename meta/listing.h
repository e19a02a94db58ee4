/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * listing.h - which parts of which directories a listing has vouched for, and when. Private to meta/; see listing.c.
 *
 * A *point* is a place in the key order of one directory: "x" for the object x, "x/" for the directory x. A page covers
 * the points from < p <= to.
 */
#ifndef LSVD_LISTING_H
#define LSVD_LISTING_H

#include "objstore/base/table.h"

struct tree;

struct page {
	char *from;	   /* owned; covered are points above it ... */
	char *to;	   /* ... up to this one; NULL = to the end of the directory */
	int64_t asked_ns;  /* clock_now_ns() before the LIST was sent */
	uint64_t seq;	   /* its place in the order of questions and changes */
	uint64_t hidden;   /* keys in it that no path can name */
	int64_t stale_ns;  /* last question that met it too old; 0 = none */
	uint64_t stale_id; /* and which name that was about (hash) */
	unsigned hits;	   /* answers it gave */
	bool hot;	   /* renewed because questions came in numbers */
};

/* What is known about one directory in this run. All under the tree's lock. */
struct dirstate {
	struct hnode node;
	struct list lru;
	char *dir;		 /* owned */
	struct page *v;		 /* sorted, disjoint */
	size_t n, cap;
	int64_t stale_ns;	 /* as in struct page, for questions that no page covers */
	uint64_t stale_id;
	int64_t forget_ns;	 /* what was asked before counts as old */
	unsigned window;	 /* size of the last window of HEADs; 0 = none yet */
	char *win_mid, *win_end; /* owned: half way and last row that were asked for in it */
	char *absent;		 /* owned: the name that was last found absent by asking, for tree_mkdir and tree_mknod */
	int64_t absent_ns;	 /* when that was asked */
};

/* The state of dir, made when needed; NULL: out of memory. May drop the least recently used ones. */
struct dirstate *dirstate_get_locked(struct tree *t, const char *dir);
struct dirstate *dirstate_find_locked(struct tree *t, const char *dir);
void dirstate_drop_locked(struct tree *t, struct dirstate *ds);
/* dir itself and everything below; "" = all. */
void dirstate_drop_below_locked(struct tree *t, const char *dir);

/* The page that covers the point; NULL when none does. Valid until the next change of ds. */
struct page *page_find(struct dirstate *ds, const char *point);
/* The page that covers what comes right behind pos. */
struct page *page_behind(struct dirstate *ds, const char *pos);
/*
 * From now on (from, to] is vouched for by a listing of this age; older pages give way. -EALREADY: a younger page lies
 * there, nothing was changed.
 */
int must_check page_cover_locked(struct tree *t, struct dirstate *ds, const char *from, const char *to,
				 int64_t asked_ns, uint64_t seq, uint64_t hidden);
/* No page covers the point any more. */
void page_doubt_locked(struct tree *t, struct dirstate *ds, const char *point);
void pages_drop_locked(struct tree *t, struct dirstate *ds);

#endif
