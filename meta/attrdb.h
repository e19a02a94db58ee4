/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * attrdb.h - the rows of the attribute cache on disk. Private to meta/.
 *
 * A row says what was last believed about one name; whether that may be used is tree.c's business. The file is
 * throw-away: whatever SQLite complains about, it is closed, removed and begun again empty, the operation goes on as if
 * the row were unknown, and attrdb_epoch() has grown. An absent row is therefore never proof of an absent object unless
 * the epoch is the one that the proof was made in.
 *
 * Any thread; own mutex (RANK_ATTRDB); file I/O only, never the network. Errors other than those named: -ENOMEM.
 */
#ifndef LSVD_ATTRDB_H
#define LSVD_ATTRDB_H

#include "tree.h"

#define ROW_NAME_MAX (PATH_NAME_MAX + 2) /* a directory's name ends in '/' */

enum {
	ROW_OWN = 1 << 0,      /* of our own PUT: exempt from the racily-clean check */
	ROW_OWN_DATE = 1 << 1, /* v.mtime_s is the Date of the reply, LastModified is at most 2 s before it */
	ROW_OWN_EDGE = 1 << 2, /* with it: or one second behind it, the reply came at the turn of the second */
};

/* All zero is an empty row. */
struct row {
	char name[ROW_NAME_MAX]; /* "x", or "x/" for a directory (v is its marker then) */
	struct version v;
	void *headers;		 /* obj_headers_encode(), owned; NULL = unknown */
	size_t headers_len;
	uint64_t ino;
	int64_t learnt_s;	 /* server time when the headers were learnt */
	unsigned flags;		 /* ROW_* */
	int64_t asked_ns;	 /* monotonic, of the question this rests on; INT64_MIN when before this run */
};
void row_done(struct row *r);

struct attrdb;

/* path NULL: in memory. A file that cannot be had is replaced by memory: the cache is then lost with the process. */
int must_check attrdb_open(const char *path, struct attrdb **ret);
void attrdb_close(struct attrdb *db); /* NULL is fine */
uint64_t attrdb_epoch(struct attrdb *db);

int must_check attrdb_get(struct attrdb *db, const char *dir, const char *name, struct row *ret); /* -ENOENT */
/* At most max rows with after < name <= to (NULL: to the end), in byte order. The caller frees with attrdb_rows_free. */
int must_check attrdb_range(struct attrdb *db, const char *dir, const char *after, const char *to, size_t max,
			    struct row **ret, size_t *ret_n);
void attrdb_rows_free(struct row *v, size_t n);
/* Name of the row that stands `back` rows before the last row < before and > after; -ENOENT when there are fewer. */
int must_check attrdb_step_back(struct attrdb *db, const char *dir, const char *after, const char *before, size_t back,
				char ret[ROW_NAME_MAX]);

/* All of put and del (names) in one transaction. */
int must_check attrdb_apply(struct attrdb *db, const char *dir, const struct row *const *put, size_t nput,
			    const char *const *del, size_t ndel);
/* Rows whose dir is `from` or below it now belong below `to`; what was known there before is gone. */
int must_check attrdb_move_dir(struct attrdb *db, const char *from, const char *to);
/* Rows whose dir is `dir` or below it go. */
int must_check attrdb_del_below(struct attrdb *db, const char *dir);
/*
 * Rows below directories that have no row themselves: those that others removed, whose names no listing asks for any more.
 * All of them, or as many as most_ns allows; the next start goes on.
 */
int must_check attrdb_prune(struct attrdb *db, int64_t most_ns);
/* Never 0, 1 or one given before by the same file. */
uint64_t attrdb_new_ino(struct attrdb *db);
uint64_t attrdb_count(struct attrdb *db);

#endif
