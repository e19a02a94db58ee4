/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ranges.h - a set of bytes, kept as sorted, disjoint, non-touching ranges.
 *
 * Every operation is O(log n + ranges it removes); a million random ranges are fine. Not locked: the owner's lock
 * protects it. All zero is an empty set.
 */
#ifndef LSVD_RANGES_H
#define LSVD_RANGES_H

#include "objstore/base/base.h"

struct range_node;
struct ranges {
	struct range_node *root;
	uint64_t bytes; /* sum of the lengths */
	size_t n;	/* ranges */
	uint64_t rnd;	/* state of the priority generator */
};

/* Adds [start, end), merging with what overlaps or touches. An empty range is fine. -ENOMEM: nothing changed. */
int must_check ranges_add(struct ranges *r, uint64_t start, uint64_t end);
/* Removes [start, end). -ENOMEM (a range would be split in two): nothing changed. */
int must_check ranges_del(struct ranges *r, uint64_t start, uint64_t end);
/* Removes everything at and behind start. Cannot fail. */
void ranges_cut(struct ranges *r, uint64_t start);
/* Is every byte of [start, end) in the set? True for an empty range. */
bool ranges_covers(const struct ranges *r, uint64_t start, uint64_t end);
/* Is any byte of [start, end) in the set? */
bool ranges_touches(const struct ranges *r, uint64_t start, uint64_t end);
/* The first range that ends behind pos: true and its borders (its start may lie before pos), false when there is none. */
bool ranges_find(const struct ranges *r, uint64_t pos, uint64_t *ret_start, uint64_t *ret_end);
/* Bytes of the set inside [start, end). */
uint64_t ranges_count(const struct ranges *r, uint64_t start, uint64_t end);
/* dst becomes equal to src. -ENOMEM: dst is empty. */
int must_check ranges_copy(struct ranges *dst, const struct ranges *src);
void ranges_clear(struct ranges *r);

#endif
