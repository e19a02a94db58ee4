/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spjournal.h - the journal of one spool file: append-only records, each with a checksum.
 *
 * Record, little endian:
 *   0  u32 magic 0x4a505331   4  u16 type   6  u16 zero   8  u32 payload bytes   12  u32 CRC-32C of bytes 4..11 and payload
 *   16 payload: the fields of the type in the order of enum field in spjournal.c
 * The first record is HEADER. A record that does not check ends replay when nothing readable follows it (a torn tail,
 * normal after a kill); when readable records follow it the journal is damaged (-EBADMSG), since what it would say
 * without the lost record may be wrong.
 *
 * metaq.c keeps its entries in a file of this format, too.
 */
#ifndef LSVD_SPJOURNAL_H
#define LSVD_SPJOURNAL_H

#include "meta/tree.h"
#include "objstore/base/str.h"

#define SPJ_FORMAT 1 /* HEADER.number; newer ones are refused with -EBADMSG */

enum spj_type {
	SPJ_HEADER = 1, /* number format, ino, time_s, whole, text boot id, dir, name, version base, headers */
	SPJ_RANGE,	/* off, len: written; the bytes are in the data file */
	SPJ_FETCHED,	/* off, len: copied from the source */
	SPJ_TRUNC,	/* off = new size: nothing of the source is needed behind it; written after the cut */
	SPJ_STATE,	/* number = enum spstate */
	SPJ_HEADERS,	/* headers for the next upload */
	SPJ_MOVE,	/* dir, name, version base: condition of the next upload; the source stays */
	SPJ_BASE,	/* version: the object now at dir/name equals the file, and is its source and base */
	SPJ_SRC,	/* dir, name, version: where the bytes that are not here come from */
	SPJ_NONCE,	/* text nonce: the next PUT or Complete carries it */
	SPJ_UPLOAD,	/* off tail_off, len unit, number tail_first, text id ("" = none any more), text2 nonce, headers */
	SPJ_PART,	/* off, len, number, text etag ("" = must be sent again) */
	SPJ_FORCED,	/* everything must go up again */
	SPJ_META_PUT,	/* metaq.c: number is_dir, dir, name, version base, headers */
	SPJ_META_DEL,	/* metaq.c: number is_dir, dir, name */
	SPJ_TYPES
};

struct spj_event {
	enum spj_type type;
	uint64_t off, len;
	uint32_t number;
	uint64_t ino;
	int64_t time_s;
	bool whole;
	const char *text, *text2, *dir, *name; /* decode: point into the journal's bytes */
	struct version v;
	const void *headers; /* as obj_headers_encode gives them */
	size_t headers_len;
};

/* Appends one record to out. -ENOMEM. Missing strings count as "". */
int must_check spj_encode(const struct spj_event *ev, struct str *out);

typedef int (*spj_fn)(void *arg, const struct spj_event *ev);
/*
 * Calls fn for each record in order; a negative return of fn ends it and is returned. Pure function of the bytes.
 * 0 and the bytes used, or -EBADMSG: no readable header, a payload that does not parse, or damage in the middle.
 */
int must_check spj_decode(const void *p, size_t len, spj_fn fn, void *arg, size_t *ret_used);
/*
 * What damage has left: every record that can be read, wherever it begins. For a journal whose records mean something
 * each by itself. -EBADMSG: one of another format, or that does not parse.
 */
int must_check spj_salvage(const void *p, size_t len, spj_fn fn, void *arg);

/* An open journal. Not locked: the spool file's lock protects it. */
struct spj {
	int fd;
	uint64_t len;	/* end of the last whole record */
	uint64_t alloc; /* disk space asked for so far */
	int broken;	/* -errno of an append that failed half way: nothing may be added any more */
};
/* Disk space for n more bytes of records, so that an append does not meet a full disk. -ENOSPC, -EDQUOT, -EIO, broken. */
int must_check spj_reserve(struct spj *j, size_t n);
/* Adds a record in one write; in the page cache on return. First error sticks unless the torn record could be cut off. */
int must_check spj_append(struct spj *j, const struct spj_event *ev);
/* The same for records that are already encoded. */
int must_check spj_append_raw(struct spj *j, const struct str *recs);

#endif
