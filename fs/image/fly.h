/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fly.h - the bucket format of Fly.io's experimental log-structured volumes, to be read.
 *
 * A volume is a sequence of objects whose names are numbers in hexadecimal. Each begins with 12 KiB of header, 1,024
 * entries {address u64, length u32}, big-endian, bytes; a length of 0 ends the list. The data follow in the same order.
 * What comes later, in an object or in the sequence, wins. There is no checksum, no size of the disk and no end of the
 * log: only sizes can be checked, and they are.
 */
#ifndef LSVD_IMAGE_FLY_H
#define LSVD_IMAGE_FLY_H

#include "../../objstore/objstore.h"

enum { FLY_ENTRIES = 1024, FLY_HEADER = 12 * FLY_ENTRIES, FLY_SECTOR = 512 };
#define FLY_END ((uint64_t)64 << 40) /* no disk is longer: whoever says so is no header */

struct fly_header {
	unsigned n;
	uint64_t data; /* bytes that follow the header */
	uint64_t end;  /* the highest that an entry reaches, 0 without any */
	struct fly_entry {
		uint64_t off; /* whole sectors, both; off + len <= FLY_END */
		uint32_t len;
		uint64_t at; /* of its bytes in the object */
	} v[FLY_ENTRIES];
};

/* 1: a number, any width and case; 0: none; -ERANGE: digits only, but more than 64 bits. */
int fly_number(const char *name, uint64_t *ret);
/* The header of an object of size bytes. -EUCLEAN: it is none, or the object is too short; words in err. */
int must_check fly_parse(const unsigned char head[FLY_HEADER], uint64_t size, struct fly_header *ret, struct objerr *err);

/*
 * Which sectors of the disk are known already, for who reads the newest object first: a bit each, in a sparse file, of
 * which little is in memory. Takes the descriptor of an empty file.
 */
struct fly_seen;
int must_check fly_seen_new(int take_fd, struct fly_seen **ret);
void fly_seen_free(struct fly_seen *s); /* NULL is fine */
/*
 * The first run in [from, to) that was not seen, or the beginning of it; now it is. *ret_n 0: there is none. Sectors.
 * Errors are the file's.
 */
int must_check fly_seen_take(struct fly_seen *s, uint64_t from, uint64_t to, uint64_t *ret_from, uint64_t *ret_n);

#endif
