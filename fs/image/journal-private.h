/* SPDX-License-Identifier: GPL-3.0-or-later */
/* journal-private.h - segments of a journal, shared by journal.c (writing) and jreplay.c (opening). */
#ifndef LSVD_IMAGE_JOURNAL_PRIVATE_H
#define LSVD_IMAGE_JOURNAL_PRIVATE_H

#include "journal.h"
#include "../../objstore/base/lock.h"

enum { JSEG_MAX = 4096, JNONCES = 64, JHEADER = 512 };
#define JGENERATION_MAX ((uint64_t)1 << 32) /* times the size of a segment it still is a number of 64 bits */

struct jseg {
	int fd;
	uint32_t id;          /* in its name */
	uint64_t generation;  /* 0: never used */
	uint64_t said;        /* at the opening: that of its header, also of an empty one; no two are the same */
	uint64_t first, last; /* sequences; last < first: none */
	uint64_t needed;      /* the last one that is not a note of what was committed */
	uint64_t before;      /* the same of all that came before `first` */
	uint64_t used;        /* bytes, header included */
	bool sparse;          /* its file has holes: for notes only, until it is filled */
};

struct journal {
	int dirfd;
	struct jdisk disk;
	uint8_t uuid[16];
	uint64_t limit, segment;

	struct mtx lock;     /* RANK_JOURNAL, all below */
	struct cond changed; /* done, synced, free segments, broken or stopping changed */
	struct jseg *seg;    /* in the order of generations: free ones (trimmed) first, the one being written last */
	size_t nseg, nfree;
	uint64_t generation;         /* of the last */
	uint64_t next, done, synced; /* next sequence to give; up to where the bytes are in the files; on the disk */
	uint64_t trimmed, committed;
	uint64_t sent; /* up to here all is known to be in the log */
	uint64_t first, before; /* that replay found; the last record before that which was not a note */
	uint64_t needed;        /* the last one given that is not a note */
	struct log_nonce nonce, known[JNONCES];
	size_t nknown;
	uint64_t appends, datasyncs;
	unsigned waiting; /* for a free segment */
	unsigned users;   /* they read a segment's file */
	bool syncing, broken, stopping;
	struct jseg spare; /* the next segment, empty on the disk, not among seg; fd -1: none */
	bool preparing;    /* it is being made: nobody goes on to another one */
	bool asked;        /* low() was called for it */
	bool (*low)(void *arg);
	void *low_arg;
	char why[128]; /* opening: what is damaged */
};

/* Makes the next segment the one that is written: a free one, or a new one. -EAGAIN: neither; -ENOSPC: the disk is full. */
int must_check journal_rotate_locked(struct journal *j);
void jrecord_encode(const struct journal *j, const struct jrecord *r, uint64_t generation, uint32_t data_crc,
		    uint8_t out[JHEADER]);
/* 0: it checks. r->where is not set. */
int must_check jrecord_decode(const struct journal *j, const uint8_t h[JHEADER], uint64_t generation,
			      struct jrecord *ret, uint32_t *ret_data, uint32_t *ret_data_crc);
void jsegment_header(const struct journal *j, const struct jseg *s, uint8_t out[JHEADER]);
void jdisk_real(struct jdisk *d); /* fills NULL members */

#endif
