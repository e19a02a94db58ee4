/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-spool-multi.c - uploads of the spool in parts, and what becomes of lost answers and failing requests. */
#include "spooltest.h"
#include "objstore/base/clock.h"
#include "objstore/objstore.h"

/* --- multipart ---------------------------------------------------------------------------------------------------- */

static void test_edit_copies_the_rest(void **state)
{
	size_t n = 40 * PART;
	char *data = malloc(n + 3 * PART);
	struct version v;
	struct env e;
	struct spfile *f;
	uint64_t s = 9;

	env_init(&e);
	fill_rnd(&s, data, n + 3 * PART);
	env_put(&e, "p/d/a", data, n, &v);
	f = new_file(&e, "a", &v, false);
	memcpy(data + 20 * PART + 5, "edit", 4);
	assert_int_equal(spfile_write(f, "edit", 4, 20 * PART + 5), 0);
	commit_ok(f);
	expect_object(&e, "p/d/a", data, n);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_COPY_PART), 2);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_PART), 1);
	assert_int_equal(faultstore_seen(e.store, OBJ_GET), 1); /* what fills the part behind the four bytes */
	/* appended: one copy of all, new parts */
	assert_int_equal(spfile_write(f, data + n, 3 * PART, n), 0);
	commit_ok(f);
	expect_object(&e, "p/d/a", data, n + 3 * PART);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_COPY_PART), 3);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_PART), 4);
	/* fetched bytes are still the base's: copied */
	assert_int_equal(spfile_read(f, data, 10 * PART, 0, NULL), 10 * PART);
	assert_int_equal(spfile_write(f, data, 1, 0), 0);
	commit_ok(f);
	expect_object(&e, "p/d/a", data, n + 3 * PART);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_COPY_PART), 4);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_PART), 5);
	spfile_free(f);
	env_done(&e);
	free(data);
}

/* A lifecycle rule, or whoever tidies up, ends the upload while its parts are copied. */
struct tidy {
	struct env *e;
	enum obj_op op;
	unsigned times;
};

static void tidy_up(void *arg, struct objreq *req)
{
	struct tidy *t = arg;
	struct objreq end;

	if (req->op != t->op || t->times == 0)
		return;
	t->times--;
	objreq_init(&end, OBJ_MPU_ABORT, req->key);
	end.upload_id = req->upload_id;
	assert_int_equal(obj_do(t->e->mem, &end), 0);
	objreq_done(&end);
}

static void test_upload_is_gone(void **state)
{
	static const enum obj_op at[] = { OBJ_MPU_COPY_PART, OBJ_MPU_PART, OBJ_MPU_COMPLETE };
	size_t n = 40 * PART;
	char *data = malloc(n);
	uint64_t s = 9;

	fill_rnd(&s, data, n);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		struct tidy t = { .op = at[i], .times = 1 };
		struct version v;
		struct env e;
		struct spfile *f;

		env_init(&e);
		t.e = &e;
		env_put(&e, "p/d/a", data, n, &v);
		f = new_file(&e, "a", &v, false);
		memcpy(data + 20 * PART + 5, "edit", 4);
		assert_int_equal(spfile_write(f, "edit", 4, 20 * PART + 5), 0);
		faultstore_hook(e.store, tidy_up, &t);
		commit_ok(f); /* by another upload */
		faultstore_hook(e.store, NULL, NULL);
		assert_int_equal(t.times, 0);
		assert_int_equal(faultstore_seen(e.store, OBJ_MPU_CREATE), 2);
		expect_object(&e, "p/d/a", data, n);
		assert_int_equal(env_uploads(e.mem), 0);
		spfile_free(f);
		env_done(&e);
	}
	free(data);
}

static void wait_seen(struct env *e, enum obj_op op, unsigned n)
{
	for (int i = 0; i < 5000 && faultstore_seen(e->store, op) < n; i++)
		clock_sleep_ns(NSEC_PER_MSEC);
	assert_true(faultstore_seen(e->store, op) >= n);
}

static void test_parts_go_up_while_writing(void **state)
{
	size_t n = 12 * PART;
	char *data = malloc(n);
	struct obj_headers h2 = { 0 };
	struct spcommit c;
	struct env e;
	struct spfile *f;
	uint64_t s = 11;

	env_init(&e);
	fill_rnd(&s, data, n);
	f = new_file(&e, "a", NULL, true);
	for (size_t off = 0; off < n; off += 4096)
		assert_int_equal(spfile_write(f, data + off, 4096, off), 0);
	wait_seen(&e, OBJ_MPU_PART, 8);
	assert_int_equal(faultstore_seen(e.store, OBJ_MPU_CREATE), 1);
	/* a part that is up changes */
	memcpy(data + 100, "again", 5);
	assert_int_equal(spfile_write(f, "again", 5, 100), 0);
	assert_int_equal(obj_headers_set(&h2, "x-amz-meta-mode", "33152"), 0);
	assert_int_equal(spfile_set_headers(f, &h2), 0);
	c = commit_ok(f);
	assert_true(c.headers_stale);
	expect_object(&e, "p/d/a", data, n);
	assert_in_range(faultstore_seen(e.store, OBJ_MPU_PART), 12, 14);
	assert_int_equal(env_uploads(e.mem), 0);
	spfile_free(f);
	obj_headers_free(&h2);

	/* cut below its parts; and given up */
	f = new_file(&e, "b", NULL, true);
	for (size_t off = 0; off < n; off += 4096)
		assert_int_equal(spfile_write(f, data + off, 4096, off), 0);
	wait_seen(&e, OBJ_MPU_CREATE, 2);
	assert_int_equal(spfile_truncate(f, 3 * PART + 1), 0);
	commit_ok(f);
	expect_object(&e, "p/d/b", data, 3 * PART + 1);
	for (size_t off = 0; off < n; off += 4096)
		assert_int_equal(spfile_append(f, data + off, 4096, NULL), 0);
	spfile_discard(f);
	assert_int_equal(env_uploads(e.mem), 0);
	env_done(&e);
	free(data);
}

/* --- lost answers, failing requests ------------------------------------------------------------------------------- */

static void test_put_answer_lost(void **state)
{
	struct spcommit c;
	struct objerr err;
	struct env e;
	struct spfile *f;

	env_init(&e);
	f = new_file(&e, "a", NULL, true);
	assert_int_equal(spfile_write(f, "one", 3, 0), 0);
	faultstore_next(e.store, OBJ_PUT, FAULT_AFTER, -ETIMEDOUT, 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ETIMEDOUT);
	assert_true(spfile_dirty(f));
	c = commit_ok(f); /* it was there already */
	assert_int_equal(c.v.size, 3);
	/* and with other bytes in between: ours, but older */
	assert_int_equal(spfile_write(f, "two!", 4, 0), 0);
	faultstore_next(e.store, OBJ_PUT, FAULT_AFTER, -ETIMEDOUT, 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ETIMEDOUT);
	assert_int_equal(spfile_write(f, "three", 5, 0), 0);
	commit_ok(f);
	expect_object(&e, "p/d/a", "three", 5);
	spfile_free(f);
	env_done(&e);
}

/* The source of the missing bytes is replaced by our own unanswered PUT. */
static void test_put_answer_lost_partial(void **state)
{
	struct version v;
	struct spcommit c;
	struct objerr err;
	struct env e;
	struct spfile *f;

	env_init(&e);
	env_put(&e, "p/d/a", "0123456789", 10, &v);
	f = new_file(&e, "a", &v, false);
	assert_int_equal(spfile_write(f, "A", 1, 2), 0);
	faultstore_next(e.store, OBJ_PUT, FAULT_AFTER, -ECONNRESET, 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ECONNRESET);
	assert_int_equal(spfile_write(f, "B", 1, 4), 0);
	commit_ok(f);
	expect_object(&e, "p/d/a", "01A3B56789", 10);
	spfile_free(f);
	env_done(&e);
}

static void test_complete_answer_lost(void **state)
{
	size_t n = 6 * PART;
	char *data = calloc(1, n);
	struct spcommit c;
	struct objerr err;
	struct env e;
	struct spfile *f;

	env_init(&e);
	f = new_file(&e, "a", NULL, true);
	data[7] = 1;
	assert_int_equal(spfile_write(f, data, n, 0), 0);
	faultstore_next(e.store, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ETIMEDOUT);
	c = commit_ok(f);
	assert_int_equal(c.v.size, n);
	faultstore_next(e.store, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
	data[8] = 2;
	assert_int_equal(spfile_write(f, data, 20, 0), 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ETIMEDOUT);
	data[n - 1] = 3;
	assert_int_equal(spfile_write(f, data + n - 1, 1, n - 1), 0);
	commit_ok(f);
	expect_object(&e, "p/d/a", data, n);
	assert_int_equal(env_uploads(e.mem), 0);
	spfile_free(f);
	env_done(&e);
	free(data);
}

/* Each request of a commit fails once, before or after its effect, in every way; the next commit puts it right. */
static void test_every_request_fails(void **state)
{
	static const enum obj_op ops[] = { OBJ_PUT, OBJ_GET, OBJ_HEAD, OBJ_MPU_CREATE, OBJ_MPU_PART, OBJ_MPU_COPY_PART,
					   OBJ_MPU_COMPLETE };
	static const int status[] = { -EAGAIN, -ETIMEDOUT, -EIO, -EACCES, -ENOENT, -EINVAL };
	size_t n = 9 * PART;
	char *data = malloc(n);
	unsigned all = mem_caps();
	uint64_t s = 5;

	for (unsigned i = 0; i < ARRAY_SIZE(ops) * ARRAY_SIZE(status) * 4; i++) {
		enum obj_op op = ops[i % ARRAY_SIZE(ops)];
		int st = status[i / ARRAY_SIZE(ops) % ARRAY_SIZE(status)];
		unsigned mode = i / ARRAY_SIZE(ops) / ARRAY_SIZE(status);
		struct spcommit c;
		struct objerr err;
		struct version v;
		struct env e;
		struct spfile *f;
		int r;

		env_init(&e);
		e.mem->caps = mode & 1 ? all & ~(OBJ_CAP_COMPLETE_COND | OBJ_CAP_COPY_SRC | OBJ_CAP_PUT_MATCH) : all;
		fill_rnd(&s, data, n);
		if (op == OBJ_PUT)
			n = PART / 2;
		env_put(&e, "p/d/a", data, n, &v);
		f = new_file(&e, "a", &v, false);
		data[n / 2] ^= 1;
		assert_int_equal(spfile_write(f, data + n / 2, 1, n / 2), 0);
		faultstore_next(e.store, op, mode & 2 ? FAULT_AFTER : FAULT_BEFORE, st, 500);
		r = spfile_commit(f, 0, &c, &err);
		if (r < 0) {
			r = spfile_commit(f, 0, &c, &err);
			/* -ENOENT to GET or copy says that the base is gone, and to a HEAD too: believed */
			if (r != 0)
				fail_msg("op %s status %d mode %u: second commit %d %s", obj_op_name[op], st, mode, r, err.msg);
		}
		expect_object(&e, "p/d/a", data, n);
		/* an upload whose id never arrived is nobody's */
		if (op != OBJ_MPU_CREATE || !(mode & 2))
			assert_int_equal(env_uploads(e.mem), 0);
		spfile_free(f);
		env_done(&e);
		n = 9 * PART;
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edit_copies_the_rest),
		cmocka_unit_test(test_upload_is_gone),
		cmocka_unit_test(test_parts_go_up_while_writing),
		cmocka_unit_test(test_put_answer_lost),
		cmocka_unit_test(test_put_answer_lost_partial),
		cmocka_unit_test(test_complete_answer_lost),
		cmocka_unit_test(test_every_request_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
