/* SPDX-License-Identifier: GPL-3.0-or-later */
/* meta-lib.h - what the unit tests of meta/ share: a clock that they move, a store that counts, short calls. */
#ifndef LSVD_TESTS_META_LIB_H
#define LSVD_TESTS_META_LIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "meta/tree.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* The clock goes on by one microsecond at each look, so that before and after differ. */
static _Atomic int64_t test_now_ns = 1800000000 * NSEC_PER_SEC;

static inline int64_t test_clock(void *arg)
{
	return atomic_fetch_add(&test_now_ns, 1000);
}

static inline void test_advance_ms(int64_t ms)
{
	atomic_fetch_add(&test_now_ns, ms * NSEC_PER_MSEC);
}

static inline int64_t test_now_s(void)
{
	return test_now_ns / NSEC_PER_SEC;
}

struct fixture {
	struct objstore *store;
	struct tree *tree;
	struct tree_opts opts;
	uint64_t mark[OBJ_NOPS];
};

static inline void fixture_open(struct fixture *f, const char *prefix, const char *db_path)
{
	clock_replace(test_clock, NULL);
	if (!f->store)
		assert_int_equal(store_mem_new(&f->store), 0);
	f->opts = (struct tree_opts){
		.store = f->store,
		.prefix = prefix,
		.db_path = db_path,
		.def = {.uid = 1000, .gid = 1001, .file_mode = 0644, .dir_mode = 0755},
		.attr_timeout_ns = NSEC_PER_SEC,
	};
	assert_int_equal(tree_open(&f->opts, &f->tree, NULL), 0);
}

static inline void fixture_reopen(struct fixture *f)
{
	tree_close(f->tree);
	assert_int_equal(tree_open(&f->opts, &f->tree, NULL), 0);
}

static inline void fixture_close(struct fixture *f)
{
	tree_close(f->tree);
	obj_close(f->store);
	clock_replace(NULL, NULL);
	*f = (struct fixture){};
}

static inline void mark_requests(struct fixture *f)
{
	for (int i = 0; i < OBJ_NOPS; i++)
		f->mark[i] = f->store->stats->count[i];
}

static inline uint64_t requests(struct fixture *f, enum obj_op op)
{
	return f->store->stats->count[op] - f->mark[op];
}

static inline uint64_t all_requests(struct fixture *f)
{
	uint64_t n = 0;

	for (int i = 0; i < OBJ_NOPS; i++)
		n += requests(f, (enum obj_op)i);
	return n;
}

#define assert_requests(f, heads, lists, others)                                                             \
	do {                                                                                                 \
		assert_int_equal(requests(f, OBJ_HEAD), heads);                                              \
		assert_int_equal(requests(f, OBJ_LIST), lists);                                              \
		assert_int_equal(all_requests(f) - requests(f, OBJ_HEAD) - requests(f, OBJ_LIST), others);   \
		mark_requests(f);                                                                            \
	} while (0)

/* Another node's PUT. */
static inline void put(struct fixture *f, const char *key, const char *body, const char *mode)
{
	struct obj_headers h = {};

	if (mode)
		assert_int_equal(obj_headers_set(&h, "x-amz-meta-mode", mode), 0);
	assert_int_equal(obj_put(f->store, key, body, strlen(body), NULL, false, &h, NULL, NULL), 0);
	obj_headers_free(&h);
	mark_requests(f);
}

static inline void del(struct fixture *f, const char *key)
{
	assert_int_equal(obj_delete(f->store, key, NULL, NULL), 0);
	mark_requests(f);
}

/* This node's PUT, as fs does it. */
static inline void create(struct fixture *f, const char *dir, const char *name, const char *body)
{
	struct obj_headers h = {};
	struct attr a = {.mode = S_IFREG | 0640, .uid = 7, .gid = 8, .mtime = {test_now_s(), 5}};
	struct version v = {.size = strlen(body)};
	struct iovec iov = {(void *)(uintptr_t)body, strlen(body)};
	int64_t asked = clock_now_ns();
	struct objreq req;
	char *key;

	assert_int_equal(tree_headers(&a, name, false, &h), 0);
	assert_int_equal(tree_key(f->tree, dir, name, false, &key), 0);
	objreq_init(&req, OBJ_PUT, key);
	req.iov = &iov;
	req.iovcnt = 1;
	req.headers = &h;
	assert_int_equal(obj_do(f->store, &req), 0);
	memcpy(v.etag, req.etag, sizeof(v.etag));
	assert_int_equal(tree_note_object(f->tree, dir, name, false, &v, &h, 0, true, req.date_s, asked), 0);
	objreq_done(&req);
	obj_headers_free(&h);
	free(key);
}

static inline int look(struct fixture *f, const char *dir, const char *name, unsigned flags, struct entry *e)
{
	struct entry local = {};
	int r = tree_lookup(f->tree, dir, name, flags, &local, NULL);

	if (!r && e)
		*e = local;
	else if (!r)
		entry_done(&local);
	return r;
}

/* Names of a directory joined by spaces, "/" behind directories, over pages of `max`. */
static inline char *names(struct fixture *f, const char *dir, size_t max)
{
	char after[PATH_NAME_MAX + 16] = "", *ret;
	struct str s = {};
	bool more = true;

	while (more) {
		struct tree_page p;

		assert_int_equal(tree_list(f->tree, dir, after, max, &p, NULL), 0);
		for (size_t i = 0; i < p.n; i++) {
			assert_true(strcmp(p.v[i].name, after) > 0);
			str_copy(after, sizeof(after), p.v[i].name) == 0 ? (void)0 : abort();
			str_addf(&s, "%s%s%s", s.len ? " " : "", p.v[i].name, p.v[i].is_dir ? "/" : "");
		}
		more = p.more;
		assert_true(!more || p.n);
		tree_page_done(&p);
	}
	assert_int_equal(str_take(&s, &ret), 0);
	return ret;
}

#define assert_names(f, dir, max, want)                  \
	do {                                             \
		char *got_ = names(f, dir, max);         \
		assert_string_equal(got_, want);         \
		free(got_);                              \
	} while (0)

#endif
