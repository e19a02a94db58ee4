/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * readahead.h - which part of an image a guest will read next: a few sequential streams among random reads.
 *
 * Pure: no I/O, no time, no lock (the caller has one). Addresses are the guest's: what is sequential there may lie
 * anywhere in the log.
 */
#ifndef LSVD_IMAGE_READAHEAD_H
#define LSVD_IMAGE_READAHEAD_H

#include "../../objstore/base/base.h"

enum { RA_STREAMS = 16 };
struct ra_stream {
	uint64_t next;   /* behind the last read, sectors */
	uint64_t asked;  /* up to here it was asked for */
	uint64_t window; /* sectors; 0 as long as it may be chance */
	uint64_t used;   /* tick of the last read; 0: no stream */
	unsigned runs;   /* reads that went on where the one before ended */
};
/* All zero is a good start. */
struct readahead {
	struct ra_stream s[RA_STREAMS];
	uint64_t tick;
};

/*
 * A read of sectors [lba, lba + n) is about to happen; windows grow up to limit sectors. true: fetch [*ret_lba,
 * + *ret_n) meanwhile.
 */
bool must_check readahead_note(struct readahead *ra, uint64_t lba, uint64_t n, uint64_t limit, uint64_t *ret_lba,
			       uint64_t *ret_n);

#endif
