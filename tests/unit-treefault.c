/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-treefault.c - a store that fails, before or after the effect: no call may crash, hang or lie, and when the store is
 * well again the tree equals the bucket.
 */
#include "config.h"
#include "faultstore.h"
#include "meta-lib.h"

#include <ftw.h>
#include <unistd.h>

static void compare_with_bucket(struct fixture *f, struct objstore *truth, const char *dir)
{
	struct objreq req;
	struct str want = {};
	char *got;

	objreq_init(&req, OBJ_LIST, dir);
	req.delimiter = true;
	assert_int_equal(obj_do(truth, &req), 0);
	for (size_t i = 0; i < req.listing->n; i++)
		if (strlen(req.listing->v[i].key) > strlen(dir))
			str_addf(&want, "%s%s", want.len ? " " : "", req.listing->v[i].key + strlen(dir));
	objreq_done(&req);
	got = names(f, dir, 0);
	assert_string_equal(got, str_c(&want));
	free(got);
	str_free(&want);
}

/* Names without '~', '!' and the like, so that the order of names is that of the keys. */
static void one_step(struct fixture *f, unsigned *seed)
{
	struct attr fa = {.mode = S_IFIFO | 0600}, da = {.mode = S_IFDIR | 0700};
	unsigned i = (unsigned)rand_r(seed) % 12;
	char name[16], other[16];
	struct version v;
	struct entry e = {};
	int r;

	snprintf(name, sizeof(name), "f%02u", i);
	snprintf(other, sizeof(other), "f%02u", (i + 5) % 12);
	switch (rand_r(seed) % 8) {
	case 0:
		r = tree_mknod(f->tree, "d/", name, &fa, NULL, &e, NULL);
		break;
	case 1:
		r = tree_unlink(f->tree, "d/", name, NULL);
		break;
	case 2:
		r = tree_lookup(f->tree, "d/", name, TREE_ATTRS, &e, NULL);
		if (!r) {
			r = tree_move(f->tree, "d/", name, &e.v, "d/", other, NULL, rand_r(seed) % 2, 0, &v, NULL);
		}
		break;
	case 3:
		r = tree_lookup(f->tree, "d/", name, TREE_ATTRS, &e, NULL);
		if (!r)
			r = tree_put_headers(f->tree, "d/", name, false, &e.v, &e.headers, &v, NULL, NULL);
		break;
	case 4:
		snprintf(name, sizeof(name), "g%u", i % 3);
		r = tree_mkdir(f->tree, "d/", name, &da, NULL, &e, NULL);
		break;
	case 5:
		snprintf(name, sizeof(name), "g%u", i % 3);
		r = tree_rmdir(f->tree, "d/", name, NULL);
		break;
	case 6: {
		struct tree_page p;

		r = tree_list(f->tree, "d/", "", 5, &p, NULL);
		if (!r)
			tree_page_done(&p);
		break;
	}
	default:
		r = tree_lookup(f->tree, "d/", name, (unsigned)rand_r(seed) % 4, &e, NULL);
	}
	assert_true(r <= 0);
	entry_done(&e);
	test_advance_ms(3500); /* and out of the seconds in which headers of what was just written are not replaced */
}

static void test_random_faults(void **state)
{
	for (unsigned seed = 1; seed <= 40; seed++) {
		struct fixture f = {};
		struct objstore *mem;
		unsigned rnd = seed;

		assert_int_equal(store_mem_new(&mem), 0);
		assert_int_equal(faultstore_new(mem, seed, &f.store), 0);
		fixture_open(&f, "", NULL);
		put(&f, "d/keep", "1", NULL);
		faultstore_odds(f.store, FAULT_BEFORE, 100);
		faultstore_odds(f.store, FAULT_AFTER, 100);
		for (unsigned i = 0; i < 120; i++)
			one_step(&f, &rnd);
		faultstore_odds(f.store, FAULT_BEFORE, 0);
		faultstore_odds(f.store, FAULT_AFTER, 0);
		test_advance_ms(3000);
		compare_with_bucket(&f, mem, "d/");
		fixture_close(&f);
	}
}

/* Each request of a scenario fails once. */
static void test_every_request_fails_once(void **state)
{
	bool any = true;

	for (unsigned n = 0; any; n++) {
		struct fixture f = {};
		struct attr a = {.mode = S_IFDIR | 0755}, fa = {.mode = S_IFLNK | 0777};
		struct objstore *mem;
		struct tree_page p = {};
		struct entry e = {};
		struct version v;
		struct objerr err = {};
		char *target = NULL;
		int r;

		assert_int_equal(store_mem_new(&mem), 0);
		assert_int_equal(faultstore_new(mem, 1, &f.store), 0);
		fixture_open(&f, "", NULL);
		put(&f, "d/one", "1", NULL);
		put(&f, "d/two/x", "1", NULL);
		test_advance_ms(5000);
		faultstore_fail_at(f.store, n, -EACCES);
		r = tree_lookup(f.tree, "d/", "one", TREE_ATTRS, &e, &err);
		any = r == -EACCES;
		if (any)
			assert_string_not_equal(err.msg, "");
		if (!r) {
			r = tree_put_headers(f.tree, "d/", "one", false, &e.v, &e.headers, &v, NULL, &err);
			any |= r == -EACCES;
			if (!r) {
				r = tree_move(f.tree, "d/", "one", &v, "d/", "three", NULL, true, 0, &v, &err);
				any |= r == -EACCES;
			}
			entry_done(&e);
		}
		r = tree_list(f.tree, "d/", "", 0, &p, &err);
		any |= r == -EACCES;
		tree_page_done(&p);
		r = tree_mkdir(f.tree, "d/", "new", &a, NULL, &e, &err);
		any |= r == -EACCES;
		entry_done(&e);
		r = tree_rmdir(f.tree, "d/", "new", &err);
		any |= r == -EACCES;
		r = tree_mknod(f.tree, "d/", "l", &fa, "target", &e, &err);
		any |= r == -EACCES;
		if (!r) {
			r = tree_readlink(f.tree, "d/", "l", &e.v, &target, &err);
			any |= r == -EACCES;
			free(r ? NULL : target);
		}
		entry_done(&e);
		r = tree_unlink(f.tree, "d/", "l", &err);
		any |= r == -EACCES;
		r = tree_lookup_dir(f.tree, "", TREE_ATTRS, &e, &err);
		any |= r == -EACCES;
		entry_done(&e);
		assert_true(n < 60);
		test_advance_ms(3000);
		compare_with_bucket(&f, mem, "d/");
		fixture_close(&f);
	}
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

/* The embedded default: a directory as the bucket. */
static void test_over_a_directory(void **state)
{
	char dir[] = "/tmp/lsvd-tree-XXXXXX";
	struct fixture f = {};
	struct attr a = {.mode = S_IFDIR | 0750}, fa = {.mode = S_IFLNK | 0777};
	struct obj_headers h = {};
	struct version v;
	struct entry e;
	char *target;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(store_file_new(dir, &f.store, NULL), 0);
	fixture_open(&f, "p/", NULL);
	clock_replace(NULL, NULL); /* the kernel's times are real */
	assert_int_equal(tree_mkdir(f.tree, "", "d", &a, NULL, &e, NULL), 0);
	entry_done(&e);
	assert_int_equal(tree_mknod(f.tree, "d/", "l", &fa, "../x", &e, NULL), 0);
	assert_int_equal(tree_readlink(f.tree, "d/", "l", &e.v, &target, NULL), 0);
	assert_string_equal(target, "../x");
	free(target);
	assert_int_equal(tree_move(f.tree, "d/", "l", &e.v, "d/", "m", NULL, true, 0, &v, NULL), 0);
	entry_done(&e);
	assert_int_equal(tree_lookup(f.tree, "d/", "l", TREE_FRESH, &e, NULL), -ENOENT);
	assert_int_equal(tree_lookup(f.tree, "d/", "m", TREE_FRESH | TREE_ATTRS, &e, NULL), 0);
	assert_true(S_ISLNK(e.attr.mode));
	assert_int_equal(obj_headers_copy(&h, &e.headers), 0);
	e.attr.uid = 77;
	assert_int_equal(attr_to_headers(&e.attr, &h), 0);
	assert_int_equal(tree_put_headers(f.tree, "d/", "m", false, &e.v, &h, &v, NULL, NULL), 0);
	entry_done(&e);
	assert_int_equal(tree_lookup(f.tree, "d/", "m", TREE_FRESH | TREE_ATTRS, &e, NULL), 0);
	assert_int_equal(e.attr.uid, 77);
	entry_done(&e);
	/* A file and a directory of one name cannot both be. */
	assert_int_equal(tree_lookup(f.tree, "", "d", TREE_FRESH | TREE_ATTRS, &e, NULL), 0);
	assert_true(e.is_dir);
	assert_int_equal(e.attr.mode, S_IFDIR | 0750);
	entry_done(&e);
	assert_names(&f, "", 0, "d/");
	assert_names(&f, "d/", 0, "m");
	fixture_reopen(&f);
	assert_names(&f, "d/", 0, "m");
	assert_int_equal(tree_rmdir(f.tree, "", "d", NULL), -ENOTEMPTY);
	assert_int_equal(tree_unlink(f.tree, "d/", "m", NULL), 0);
	assert_int_equal(tree_rmdir(f.tree, "", "d", NULL), 0);
	assert_names(&f, "", 0, "");
	obj_headers_free(&h);
	fixture_close(&f);
	assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_faults),
		cmocka_unit_test(test_every_request_fails_once),
		cmocka_unit_test(test_over_a_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
