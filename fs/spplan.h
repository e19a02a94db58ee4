/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spplan.h - how a file is cut into the parts of a multipart upload. Pure functions.
 *
 * A file has a front [0, tail_off) and a tail [tail_off, size). The tail's parts lie at fixed places, so that they can go
 * up before the size is known; their numbers start at tail_first. The front is cut when everything is known: what is
 * the source's is copied in long ranges, the rest is sent. tail_off 0: all tail; SP_NO_TAIL: all front.
 */
#ifndef LSVD_SPPLAN_H
#define LSVD_SPPLAN_H

#include "ranges.h"

#define SP_NO_TAIL UINT64_MAX

struct spplan_in {
	uint64_t size;		    /* > 0 */
	uint64_t same_limit;	    /* below it, what is not in dirty equals the source; 0: nothing may be copied */
	const struct ranges *dirty;
	uint64_t unit;		    /* bytes of the first parts of the tail, and of sent parts of the front */
	uint64_t part_min;	    /* of a part that is not the last; at least 1 */
	uint64_t copy_max;	    /* of a copied part; at least 2 * part_min */
	unsigned max_parts;
	bool equal;		    /* every part but the last has `unit` bytes */
	uint64_t tail_off;
	unsigned tail_first;
};
struct spplan_part {
	unsigned number;
	uint64_t off, len;
	bool copy;
};
struct spplan {
	struct spplan_part *v;
	size_t n;
};
/* -EFBIG: does not fit into max_parts with this unit; -ENOMEM. */
int must_check spplan_make(const struct spplan_in *in, struct spplan *ret);
void spplan_free(struct spplan *p);

/*
 * Place of the tail's part `index` (from 0), relative to tail_off: the first tenth of max_parts has one unit each, the
 * next tenths 2, 4, 8, 16, 32, 64, 128, 200 and 208 units, which makes 5 TiB of 10,000 parts with a unit of 8 MiB.
 */
void spplan_tail(uint64_t unit, bool equal, unsigned max_parts, unsigned index, uint64_t *ret_off, uint64_t *ret_len);

#endif
