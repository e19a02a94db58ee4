/* SPDX-License-Identifier: GPL-3.0-or-later */
/* spooltest.h - what the tests of the spool share: a bucket, a directory, a model of a file. */
#ifndef LSVD_TEST_SPOOLTEST_H
#define LSVD_TEST_SPOOLTEST_H

#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faultstore.h"
#include "fs/spool.h"
#include "objstore/base/log.h"

#define PART (16 * KiB)
#define PART_MIN (4 * KiB)

struct env {
	char dir[64];	    /* of the test */
	char spool_dir[96];
	struct objstore *mem, *store; /* store wraps mem */
	struct budget *budget;
	struct spool *s;
	struct obj_headers h;
};

static inline int rm_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline void env_open_spool(struct env *e)
{
	struct objerr err = { 0 };
	struct spool_opts o = { .dir = e->spool_dir, .store = e->store, .prefix = "p/", .budget = e->budget,
				.part_size = PART, .parallel = 4 };

	assert_int_equal(spool_open(&o, &e->s, &err), 0);
}

static inline void env_init(struct env *e)
{
	*e = (struct env){ 0 };
	snprintf(e->dir, sizeof(e->dir), "/tmp/lsvd-spool-XXXXXX");
	assert_non_null(mkdtemp(e->dir));
	snprintf(e->spool_dir, sizeof(e->spool_dir), "%s/spool", e->dir);
	assert_int_equal(store_mem_new(&e->mem), 0);
	e->mem->part_min = PART_MIN;
	assert_int_equal(faultstore_new(e->mem, 1, &e->store), 0);
	assert_int_equal(budget_new(1 * MiB, &e->budget), 0);
	assert_int_equal(obj_headers_set(&e->h, "x-amz-meta-mode", "33188"), 0);
	log_set_level(LOG_L_ERROR); /* parking is what these tests do */
	env_open_spool(e);
}

static inline void env_done(struct env *e)
{
	spool_close(e->s);
	assert_int_equal(budget_used(e->budget), 0);
	obj_close(e->store);
	budget_free(e->budget);
	obj_headers_free(&e->h);
	nftw(e->dir, rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The bucket, past the faults. */
static inline void env_put(struct env *e, const char *key, const void *p, size_t n, struct version *ret)
{
	struct objerr err;

	*ret = (struct version){ .size = n };
	assert_int_equal(obj_put(e->mem, key, p, n, NULL, false, NULL, ret->etag, &err), 0);
}

/* Size of the object, -ENOENT; its bytes when p is given. */
static inline ssize_t env_get(struct objstore *s, const char *key, void *p, size_t cap, struct version *ret)
{
	struct objreq req;
	ssize_t r;

	objreq_init(&req, OBJ_GET, key);
	req.len = OBJ_WHOLE;
	req.buf = p;
	req.cap = cap;
	r = obj_do(s, &req);
	if (r == 0) {
		assert_false(p && req.truncated);
		r = (ssize_t)req.got;
		if (ret) {
			*ret = (struct version){ .size = req.size, .mtime_s = req.mtime_s };
			memcpy(ret->etag, req.etag, sizeof(ret->etag));
		}
	}
	objreq_done(&req);
	return r;
}

static inline size_t env_uploads(struct objstore *s)
{
	struct objreq req;
	size_t n;

	objreq_init(&req, OBJ_MPU_LIST, "");
	assert_int_equal(obj_do(s, &req), 0);
	n = req.listing->n;
	objreq_done(&req);
	return n;
}

/* Files in a directory whose names end in suffix. */
static inline size_t count_files(const char *dir, const char *suffix)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	size_t n = 0;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		size_t len = strlen(de->d_name), k = strlen(suffix);

		n += len > k && strcmp(de->d_name + len - k, suffix) == 0;
	}
	closedir(d);
	return n;
}

static inline uint64_t test_rnd(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline void fill_rnd(uint64_t *s, void *p, size_t n)
{
	unsigned char *b = p;

	for (size_t i = 0; i < n; i++)
		b[i] = (unsigned char)test_rnd(s);
}

static __attribute__((unused)) bool faults; /* the store goes wrong by chance: try again */

static inline struct spfile *new_file(struct env *e, const char *name, const struct version *base, bool whole)
{
	struct spfile *f;

	assert_int_equal(spfile_new(e->s, "d/", name, 42, base, &e->h, whole, &f), 0);
	return f;
}

static inline struct spcommit commit_ok(struct spfile *f)
{
	struct spcommit c = { 0 };
	struct objerr err = { 0 };
	int r;

	do
		r = spfile_commit(f, 0, &c, &err);
	while (faults && r < 0 && r != -ESTALE);
	if (r != 0)
		fail_msg("commit: %s (%s)", strerror(-r), err.msg);
	assert_false(spfile_dirty(f));
	return c;
}

static inline void expect_object(struct env *e, const char *key, const void *want, size_t n)
{
	char *got = malloc(n + 1);
	ssize_t r;

	assert_non_null(got);
	r = env_get(e->mem, key, got, n + 1, NULL);
	assert_int_equal(r, n);
	assert_memory_equal(got, want, n);
	free(got);
}

static inline unsigned mem_caps(void)
{
	struct objstore *m;
	unsigned caps;

	assert_int_equal(store_mem_new(&m), 0);
	caps = m->caps;
	obj_close(m);
	return caps;
}

#endif
