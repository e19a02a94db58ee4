/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * extmap.h - sorted extents without overlap in memory: what each sector of a range points to.
 *
 * A sequence of small sorted arrays (chunks) under one array of pointers: 64 bytes an extent, an insert moves at most
 * one chunk. No lock: the owner has one. Neighbours that continue each other are merged.
 */
#ifndef LSVD_IMAGE_EXTMAP_H
#define LSVD_IMAGE_EXTMAP_H

#include "logobj.h"

enum em_kind {
	EM_NONE, /* no extent: only in answers */
	EM_LOG,  /* number, sector */
	EM_ZERO,
	EM_HOLE,    /* an explicit hole, which hides what lies below */
	EM_JOURNAL, /* where: bytes */
	EM_MOVED, /* a cleaner's move over an unread leaf: number, sector if that says from, else what it says */
};
struct em_ext {
	uint64_t lba, len; /* sectors */
	enum em_kind kind;
	uint64_t number; /* EM_LOG, EM_MOVED */
	uint32_t sector;
	uint64_t where;        /* EM_JOURNAL: journal position of its first byte */
	struct log_place from; /* EM_MOVED */
};

struct extmap;
int must_check extmap_new(struct extmap **ret);
void extmap_free(struct extmap *m); /* NULL is fine */
/*
 * Makes [e->lba, +len) be e, in place of what was there. gone(arg, piece) is told of each piece that it hides,
 * before. -ENOMEM: nothing changed.
 */
int must_check extmap_set(struct extmap *m, const struct em_ext *e, void (*gone)(void *arg, const struct em_ext *piece),
			  void *arg);
/* Removes every extent in the range (EM_NONE). */
int must_check extmap_clear(struct extmap *m, uint64_t lba, uint64_t len,
			    void (*gone)(void *arg, const struct em_ext *piece), void *arg);
/* The piece at lba, cut to [lba, lba + len): an extent, or EM_NONE up to the next one. Always fills in ret. */
void extmap_get(const struct extmap *m, uint64_t lba, uint64_t len, struct em_ext *ret);
/* The first extent that ends behind lba, whole; false: there is none. */
bool extmap_next(const struct extmap *m, uint64_t lba, struct em_ext *ret);
size_t extmap_count(const struct extmap *m);
size_t extmap_bytes(const struct extmap *m); /* memory */
uint64_t extmap_sectors(const struct extmap *m, enum em_kind kind);
void extmap_empty(struct extmap *m);
void extmap_check(const struct extmap *m); /* asserts the invariants */

#endif
