/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * treewr.h - sorted runs, or entries of the object table, in; pages and their root out (FORMAT.md 3.9).
 *
 * Bottom up: a page goes out as soon as its 64 KiB are full, its reference becomes an entry one level up. Memory: one
 * page's entries a level. Pages adjoin: each ends where the next one starts, the first starts at 0, the last ends at
 * the end of the image.
 */
#ifndef LSVD_IMAGE_TREEWR_H
#define LSVD_IMAGE_TREEWR_H

#include "logobj.h"

struct treewr;
/*
 * put stores a page (bytes are borrowed) and says where: number and sector of ret; level, bytes and crc are filled
 * in.
 */
typedef int (*treewr_put)(void *arg, const void *bytes, size_t len, struct log_pageref *ret);
/* level: PAGE_LEAF or PAGE_OBJTABLE. */
int must_check treewr_new(uint8_t level, treewr_put put, void *arg, struct treewr **ret);
void treewr_free(struct treewr *w); /* NULL is fine */
/*
 * For a put that collects pages before it knows the object's number: what it said then is no more than a name, and
 * resolve makes it a reference, before it goes into an index or is the root.
 */
void treewr_resolve(struct treewr *w, int (*resolve)(void *arg, struct log_pageref *ref));
/* At most that many entries a page, at least 2; for tests. */
void treewr_fanout(struct treewr *w, size_t entries);
int must_check treewr_runs(struct treewr *w, const struct page_run *v, size_t n);
int must_check treewr_object(struct treewr *w, const struct page_object *o);
/* The rest, and the root: number 0 when nothing came in. */
int must_check treewr_finish(struct treewr *w, struct log_pageref *ret_root);

#endif
