/* SPDX-License-Identifier: GPL-3.0-or-later */
/* storetest.h - the store under test, helpers and the list of tests of unit-store. */
#ifndef LSVD_TEST_STORETEST_H
#define LSVD_TEST_STORETEST_H

#include "objstore/base/lock.h"
#include "objstore/base/str.h"
#include "objstore/base/table.h"
#include "objstore/objstore.h"

extern struct objstore *s; /* under test */
extern unsigned caps;
extern char prefix[128];

#define HAS(cap) ((caps & OBJ_CAP_##cap) != 0)

/* Key below the prefix; good for the four latest calls of a thread. */
const char *K(const char *name);
int put(const char *key, const char *body, char *etag);
/* PUT that must work; the etag as a HEAD says it (not every PUT reply has one). */
void must_put(const char *key, const char *body, char *etag);
int get(const char *key, uint64_t off, uint64_t len, char *buf, size_t cap, struct objreq *req);
void assert_body(const char *key, const char *want);
void assert_absent(const char *key);
void del(const char *key);
int copy(const char *from, const char *to, const struct obj_headers *h, const char *src_match, const char *match,
	 bool only_new);
void assert_list(const char *p, bool delimiter, unsigned max, const char *start_after, const char *want);

/* store-object.c */
void test_put_get(void **state);
void test_empty(void **state);
void test_ranges(void **state);
void test_get_conditions(void **state);
void test_put_new(void **state);
void test_put_match(void **state);
void test_delete_match(void **state);
void test_headers(void **state);
void test_nonce(void **state);
void test_odd_keys(void **state);
void test_long_keys(void **state);
void test_nested(void **state);
void test_markers(void **state);
/* store-list.c */
void test_list(void **state);
void test_list_entry(void **state);
void test_many(void **state);
/* store-multi.c */
void test_copy(void **state);
void test_multipart(void **state);
void test_complete_conditions(void **state);
void test_bad_parts(void **state);
void test_list_uploads(void **state);
/* store-race.c */
void test_races(void **state);
void test_churn(void **state);

#endif
