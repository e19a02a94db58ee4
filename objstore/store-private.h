/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store-private.h - what stores share and nobody above objstore/ sees. */
#ifndef LSVD_STORE_PRIVATE_H
#define LSVD_STORE_PRIVATE_H

#include "objstore.h"

#define STORE_NONCE_HEADER "x-amz-meta-lsvd-put"

/* Counts a finished request: call once, before objreq_finish(). NULL is fine. */
void store_stats_count(struct obj_stats *st, const struct objreq *req, int status);
/* Bytes of the request's body. */
uint64_t store_body_bytes(const struct objreq *req);
/* A wrapper's base: inner, limits and counters taken from the store below. */
void store_wrap(struct objstore *s, const struct objstore_ops *ops, struct objstore *take_inner);
struct objstore *store_bottom(struct objstore *s);
/* Headers as they will be stored: req->headers (may be NULL) plus the nonce. ret is overwritten, not freed. */
int must_check store_put_headers(const struct objreq *req, struct obj_headers *ret);
/* Cuts [off, off+len) to an object of `size` bytes and to req->cap. -ERANGE. Sets nothing in req. */
int must_check store_cut_range(const struct objreq *req, uint64_t size, uint64_t *ret_n);
/* Destination condition of PUT, COPY, COMPLETE against the present etag (NULL = absent): 0, -ESTALE, -ENOENT. */
int must_check store_check_dst(const struct objreq *req, const char *etag);

/*
 * Building a page. Strings are copied. A listing is built by one thread; pointers into it are good once it is complete
 * (the heap moves while it grows). Appending in any order is fine when page_sort() follows.
 */
int must_check page_new(struct obj_listing **ret);
/* *ret_e is good until the next page_add. */
int must_check page_add(struct obj_listing *l, const char *key, size_t n, struct obj_list_entry **ret_e);
/* initiator may be NULL. */
int must_check page_set_upload(struct obj_listing *l, struct obj_list_entry *e, const char *id, const char *initiator);
int must_check page_add_part(struct obj_listing *l, unsigned number, uint64_t size, const char *etag);
int must_check page_set_token(struct obj_listing *l, const char *token);
void page_sort(struct obj_listing *l); /* by key, then by upload id */

/* A named bucket in memory that lives as long as the process: two opens of one name see the same objects. */
int must_check store_mem_open(const char *name, struct objstore **ret);

#endif
