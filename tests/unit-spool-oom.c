/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-spool-oom.c - every allocation of this thread fails once: the call says -ENOMEM (or does without), the same call
 * works right after, and the bytes are right in the end. Linked with --wrap, so that only the program's own calls count.
 */
#define OOM_SCOPE _Thread_local
#include "oom.h"
#include "spooltest.h"

static long nth;

/* Once under memory trouble, and once more when it said so. */
#define STEP(call)                                                                                                     \
	do {                                                                                                           \
		long r_ = (long)(call);                                                                                \
                                                                                                                       \
		if (r_ < 0) {                                                                                          \
			if (!failed || r_ != -ENOMEM)                                                                  \
				fail_msg("allocation %ld: %s gave %ld", nth, #call, r_);                               \
			left = 0;                                                                                      \
			r_ = (long)(call);                                                                             \
			if (r_ < 0)                                                                                    \
				fail_msg("allocation %ld: %s gave %ld the second time", nth, #call, r_);               \
		}                                                                                                      \
	} while (0)

#define BASE (5 * PART)
static char want[BASE];

static void open_env(struct env *e)
{
	*e = (struct env){ 0 };
	snprintf(e->dir, sizeof(e->dir), "/tmp/lsvd-oom-XXXXXX");
	assert_non_null(mkdtemp(e->dir));
	snprintf(e->spool_dir, sizeof(e->spool_dir), "%s/spool", e->dir);
	assert_int_equal(store_mem_new(&e->mem), 0);
	e->mem->part_min = PART_MIN;
	e->store = e->mem;
	assert_int_equal(budget_new(1 * MiB, &e->budget), 0);
	assert_int_equal(obj_headers_set(&e->h, "x-amz-meta-mode", "33188"), 0);
	log_set_level(LOG_L_ERROR);
}

static void expect_written(struct env *e, const char *key, size_t n)
{
	static char got[BASE + 1];

	if (env_get(e->mem, key, got, sizeof(got), NULL) != (ssize_t)n || memcmp(got, want, n) != 0)
		fail_msg("allocation %ld: %s is not what was written", nth, key);
}

static struct spool_opts opts(struct env *e)
{
	return (struct spool_opts){ .dir = e->spool_dir, .store = e->mem, .prefix = "p/", .budget = e->budget,
				    .part_size = PART, .parallel = 4 };
}

static void arm(void)
{
	left = nth;
	failed = false;
}

/* Everything that happens to a file. */
static void life(struct env *e, struct spfile **ret)
{
	static char buf[BASE];
	struct spool_opts o = opts(e);
	struct obj_headers h = { 0 };
	struct version v;
	struct spcommit c;
	struct objerr err;
	struct spfile *f;

	memset(want, 'b', sizeof(want));
	env_put(e, "p/d/a", want, sizeof(want), &v);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-uid", "7"), 0);
	arm();
	STEP(spool_open(&o, &e->s, &err));
	STEP(spfile_new(e->s, "d/", "a", 5, &v, &e->h, false, &f));
	STEP(spfile_write(f, "here", 4, 7));
	STEP(spfile_read(f, buf, PART, 0, &err));
	STEP(spfile_write(f, "there", 5, 3 * PART));
	STEP(spfile_commit(f, 0, &c, &err));
	memcpy(want + 7, "here", 4);
	memcpy(want + 3 * PART, "there", 5);
	STEP(spfile_set_headers(f, &h));
	STEP(spfile_write(f, "again", 5, BASE - 5));
	memcpy(want + BASE - 5, "again", 5);
	STEP(spfile_move(f, "n/", "b", NULL, false));
	STEP(spfile_commit(f, 0, &c, &err));
	STEP(spfile_truncate(f, PART));
	STEP(spfile_zero(f, 100, 50, false));
	memset(want + 100, 0, 50);
	STEP(spfile_commit(f, 0, &c, &err));
	STEP(spfile_write(f, "last", 4, 0));
	memcpy(want, "last", 4);
	left = 0;
	obj_headers_free(&h);
	*ret = f;
}

static void test_life(void **state)
{
	struct spool_recovery n;
	struct parked *v;
	struct spcommit c;
	struct objerr err;
	struct spfile *f;
	struct env e;
	size_t nv;

	for (nth = 1;; nth++) {
		bool in_life;

		open_env(&e);
		life(&e, &f);
		in_life = failed;
		/* parking frees the file; where memory did not do it, the next start does */
		arm();
		(void)spfile_park(f, "why");
		left = 0;
		assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
		assert_int_equal(parked_list(e.spool_dir, &v, &nv), 0);
		assert_int_equal(nv, 1);
		assert_int_equal(parked_retry(e.s, v[0].id, false, &c, &err), 0);
		parked_free(v, nv);
		expect_written(&e, "p/n/b", PART);
		assert_int_equal(env_uploads(e.mem), 0);
		env_done(&e);
		if (!in_life && !failed)
			break;
		assert_true(nth < 5000);
	}
	print_message("%ld allocations\n", nth - 1);
	assert_true(nth > 100);
}

/* What a crash left is not lost to a start that has no memory. */
static void test_recovery(void **state)
{
	struct obj_headers h = { 0 };
	struct spool_recovery n;
	struct spcommit c;
	struct objerr err;
	struct spfile *f;
	struct env e;

	for (nth = 1;; nth++) {
		struct spool_opts o;
		struct version v;
		int r;

		open_env(&e);
		o = opts(&e);
		memset(want, 'b', sizeof(want));
		env_put(&e, "p/d/a", want, sizeof(want), &v);
		e.mem->put_max = PART; /* as the spool learns it when it is opened */
		assert_int_equal(spool_open(&o, &e.s, &err), 0);
		assert_int_equal(spfile_new(e.s, "d/", "a", 5, &v, &e.h, false, &f), 0);
		for (unsigned i = 0; i < 5; i++)
			assert_int_equal(spfile_write(f, "written", 7, i * PART), 0);
		assert_int_equal(obj_headers_set(&h, "x-amz-meta-uid", "7"), 0);
		assert_int_equal(spfile_set_headers(f, &h), 0);
		e.mem->caps &= ~(unsigned)OBJ_CAP_MULTIPART; /* too large for one PUT: the acknowledged file stays */
		assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
		spfile_free(f);
		spool_close(e.s);
		e.mem->caps |= OBJ_CAP_MULTIPART;
		e.mem->put_max = 5 * GiB;
		for (unsigned i = 0; i < 5; i++)
			memcpy(want + i * PART, "written", 7);
		arm();
		STEP(spool_open(&o, &e.s, &err));
		r = spool_recover(e.s, &n, NULL, NULL);
		left = 0;
		if (r < 0 || n.failed) {
			assert_true(failed && (r == 0 || r == -ENOMEM));
			spool_close(e.s);
			assert_int_equal(spool_open(&o, &e.s, &err), 0);
			assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
		}
		assert_int_equal(n.parked + n.failed, 0);
		expect_written(&e, "p/d/a", BASE);
		env_done(&e);
		if (!failed)
			break;
		assert_true(nth < 5000);
	}
	obj_headers_free(&h);
	print_message("%ld allocations\n", nth - 1);
	assert_true(nth > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_recovery),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
