/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-tree.c - lookup and listing over the memory store: answers, and what they cost. */
#include "config.h"
#include "meta-lib.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static void fill(struct fixture *f, const char *fmt, unsigned from, unsigned to)
{
	char key[256];

	for (unsigned i = from; i < to; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(key, sizeof(key), fmt, i);
#pragma GCC diagnostic pop
		put(f, key, "x", "33188");
	}
}

static void test_unknown_name_costs(void **state)
{
	struct fixture f = {};
	struct entry e;

	fixture_open(&f, "p/", NULL);
	put(&f, "p/d/file", "hello", "33152");
	put(&f, "p/d/sub/x", "1", NULL);
	assert_int_equal(look(&f, "d/", "none", 0, NULL), -ENOENT);
	assert_requests(&f, 2, 1, 0); /* none, none/, and none.lsvd before it is denied */
	test_advance_ms(3000);
	assert_int_equal(look(&f, "d/", "file", TREE_ATTRS, &e), 0);
	assert_requests(&f, 1, 1, 0);
	assert_false(e.is_dir);
	assert_true(e.have_headers);
	assert_int_equal(e.attr.mode, S_IFREG | 0600);
	assert_int_equal(e.v.size, 5);
	assert_int_equal(e.attr.uid, 1000);
	entry_done(&e);
	/* Known and young: nothing. Known and old: a HEAD alone. */
	assert_int_equal(look(&f, "d/", "file", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 0, 0, 0);
	test_advance_ms(3000);
	assert_int_equal(look(&f, "d/", "file", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 1, 0, 0);
	test_advance_ms(3000);
	assert_int_equal(look(&f, "d/", "sub", 0, &e), 0);
	assert_true(e.is_dir);
	assert_requests(&f, 1, 1, 0);
	test_advance_ms(3000);
	/* A known directory: one LIST of one key. */
	assert_int_equal(look(&f, "d/", "sub", 0, NULL), 0);
	assert_requests(&f, 0, 1, 0);
	entry_done(&e);
	fixture_close(&f);
}

static void test_fresh_asks_once(void **state)
{
	struct fixture f = {};

	fixture_open(&f, "", NULL);
	put(&f, "a", "1", NULL);
	assert_int_equal(look(&f, "", "a", TREE_ATTRS, NULL), 0);
	mark_requests(&f);
	assert_int_equal(look(&f, "", "a", TREE_FRESH, NULL), 0);
	assert_requests(&f, 1, 0, 0);
	assert_int_equal(look(&f, "", "a", TREE_FRESH | TREE_ATTRS, NULL), 0);
	assert_requests(&f, 1, 0, 0);
	put(&f, "a", "22", NULL);
	struct entry e;

	assert_int_equal(look(&f, "", "a", TREE_FRESH, &e), 0);
	assert_int_equal(e.v.size, 2);
	entry_done(&e);
	del(&f, "a");
	assert_int_equal(look(&f, "", "a", TREE_FRESH, NULL), -ENOENT);
	assert_requests(&f, 2, 1, 0);
	fixture_close(&f);
}

static void test_negatives_need_a_young_page(void **state)
{
	struct fixture f = {};

	fixture_open(&f, "", NULL);
	put(&f, "d/b", "1", NULL);
	assert_names(&f, "d/", 0, "b");
	assert_requests(&f, 0, 1, 0);
	assert_int_equal(look(&f, "d/", "a", 0, NULL), -ENOENT);
	assert_int_equal(look(&f, "d/", "z", TREE_ATTRS, NULL), -ENOENT);
	assert_requests(&f, 0, 0, 0);
	put(&f, "d/z", "2", NULL);
	test_advance_ms(990);
	assert_int_equal(look(&f, "d/", "z", 0, NULL), -ENOENT); /* another node's: up to attr_timeout late */
	test_advance_ms(20);
	assert_int_equal(look(&f, "d/", "z", 0, NULL), 0);
	assert_requests(&f, 1, 1, 0);
	/* The second question into the old page renews it, and then it answers. */
	assert_int_equal(look(&f, "d/", "y", 0, NULL), -ENOENT);
	assert_requests(&f, 0, 1, 0);
	assert_int_equal(look(&f, "d/", "x", 0, NULL), -ENOENT);
	assert_int_equal(look(&f, "d/", "z", 0, NULL), 0);
	assert_requests(&f, 0, 0, 0);
	/* A name that asks again and again does not make it a crowd. */
	test_advance_ms(5000);
	assert_int_equal(look(&f, "d/", "q", 0, NULL), -ENOENT);
	assert_int_equal(look(&f, "d/", "q", 0, NULL), -ENOENT);
	assert_requests(&f, 4, 2, 0);
	fixture_close(&f);
}

static void test_own_changes_show_at_once(void **state)
{
	struct fixture f = {};
	struct entry e;

	fixture_open(&f, "", NULL);
	put(&f, "d/b", "1", NULL);
	assert_names(&f, "d/", 0, "b");
	create(&f, "d/", "c", "xyz");
	mark_requests(&f);
	assert_int_equal(look(&f, "d/", "c", TREE_ATTRS, &e), 0);
	assert_int_equal(e.v.size, 3);
	assert_int_equal(e.attr.mode, S_IFREG | 0640);
	assert_int_equal(e.attr.mtime.tv_nsec, 5);
	entry_done(&e);
	assert_names(&f, "d/", 0, "b c");
	assert_requests(&f, 0, 0, 0);
	assert_int_equal(tree_unlink(f.tree, "d/", "b", NULL), 0);
	mark_requests(&f);
	assert_int_equal(look(&f, "d/", "b", 0, NULL), -ENOENT);
	assert_names(&f, "d/", 0, "c");
	assert_requests(&f, 0, 0, 0);
	/* A listing finds our own row again by the Date: no HEAD. */
	test_advance_ms(1500);
	assert_names(&f, "d/", 0, "c");
	assert_requests(&f, 0, 1, 0);
	test_advance_ms(5000);
	assert_names(&f, "d/", 0, "c");
	assert_int_equal(look(&f, "d/", "c", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 0, 1, 0);
	fixture_close(&f);
}

static void test_mkdir_rmdir(void **state)
{
	struct fixture f = {};
	struct attr a = {.mode = S_IFDIR | 0700, .uid = 1, .gid = 2};
	struct entry e;
	uint64_t ino;

	fixture_open(&f, "pre/", NULL);
	assert_names(&f, "", 0, "");
	assert_int_equal(tree_mkdir(f.tree, "", "d", &a, NULL, &e, NULL), 0);
	assert_int_equal(requests(&f, OBJ_PUT), 1);
	mark_requests(&f);
	assert_true(e.is_dir);
	assert_int_equal(e.attr.mode, S_IFDIR | 0700);
	ino = e.ino;
	entry_done(&e);
	/* Known to be empty: nothing to ask for. */
	assert_int_equal(look(&f, "d/", "x", 0, NULL), -ENOENT);
	assert_names(&f, "d/", 0, "");
	assert_names(&f, "", 0, "d/");
	assert_int_equal(look(&f, "", "d", TREE_ATTRS, &e), 0);
	assert_int_equal(e.ino, ino);
	entry_done(&e);
	assert_requests(&f, 0, 0, 0);
	assert_int_equal(tree_mkdir(f.tree, "", "d", &a, NULL, &e, NULL), -EEXIST);
	put(&f, "pre/file", "1", NULL);
	test_advance_ms(2000);
	assert_int_equal(tree_mkdir(f.tree, "", "file", &a, NULL, &e, NULL), -EEXIST);
	assert_int_equal(tree_mkdir(f.tree, "", ".lsvd", &a, NULL, &e, NULL), -EPERM);
	assert_int_equal(tree_mkdir(f.tree, "", "a\xff", &a, NULL, &e, NULL), -EILSEQ);
	/* Hidden keys are content. */
	put(&f, "pre/d/.lsvd/img/x", "1", NULL);
	assert_int_equal(tree_rmdir(f.tree, "", "d", NULL), -ENOTEMPTY);
	del(&f, "pre/d/.lsvd/img/x");
	assert_int_equal(tree_rmdir(f.tree, "", "d", NULL), 0);
	mark_requests(&f);
	assert_int_equal(tree_rmdir(f.tree, "", "d", NULL), -ENOENT);
	/* One without a marker is gone with its last object. */
	put(&f, "pre/i/x", "1", NULL);
	test_advance_ms(2000);
	assert_int_equal(look(&f, "", "i", 0, NULL), 0);
	assert_int_equal(tree_unlink(f.tree, "i/", "x", NULL), 0);
	assert_int_equal(tree_rmdir(f.tree, "", "i", NULL), 0);
	fixture_close(&f);
}

static void test_mknod_symlink(void **state)
{
	struct fixture f = {};
	struct attr a = {.mode = S_IFLNK | 0777}, dev = {.mode = S_IFBLK | 0600, .rdev = 0x803};
	struct obj_headers h = {};
	struct entry e;
	char *target;

	fixture_open(&f, "", NULL);
	assert_int_equal(tree_mknod(f.tree, "", "l", &a, "../some where/\xc3\xa9", &e, NULL), 0);
	assert_true(S_ISLNK(e.attr.mode));
	mark_requests(&f);
	assert_int_equal(tree_readlink(f.tree, "", "l", &e.v, &target, NULL), 0);
	assert_string_equal(target, "../some where/\xc3\xa9");
	free(target);
	assert_int_equal(requests(&f, OBJ_GET), 1);
	entry_done(&e);
	assert_int_equal(tree_mknod(f.tree, "", "l", &a, "y", &e, NULL), -EEXIST);
	assert_int_equal(tree_mknod(f.tree, "", "dev", &dev, NULL, &e, NULL), 0);
	assert_int_equal(e.attr.rdev, 0x803);
	entry_done(&e);
	/* Another node's: found out by the PUT itself. */
	assert_names(&f, "", 0, "dev l");
	put(&f, "m", "", NULL);
	assert_int_equal(tree_mknod(f.tree, "", "m", &a, "y", &e, NULL), -EEXIST);
	/* A target in a header, as geesefs writes it. */
	assert_int_equal(obj_headers_set(&h, "x-amz-meta---symlink-target", "a%20b"), 0);
	assert_int_equal(obj_put(f.store, "g", "", 0, NULL, false, &h, NULL, NULL), 0);
	obj_headers_free(&h);
	assert_int_equal(look(&f, "", "g", TREE_FRESH | TREE_ATTRS, &e), 0);
	assert_true(S_ISLNK(e.attr.mode));
	mark_requests(&f);
	assert_int_equal(tree_readlink(f.tree, "", "g", &e.v, &target, NULL), 0);
	assert_string_equal(target, "a b");
	free(target);
	entry_done(&e);
	assert_requests(&f, 0, 0, 0);
	fixture_close(&f);
}

static void test_hidden_and_conflicting_names(void **state)
{
	static const char *const keys[] = {"a", "a/x", "a!", "a-1", "a.c", "a0", "b//x", "./q", "../q", ".lsvd/img/1",
					   "z/.lsvd/1", "c/", "d/y", "e~object", "e", "e/1"};
	struct fixture f = {};
	struct tree_stats st;
	struct entry e;

	fixture_open(&f, "", NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		put(&f, keys[i], "1", NULL);
	/* By name: the directory a comes before a! and a-1, whatever the order of the keys. */
	for (unsigned max = 0; max < 20; max++)
		assert_names(&f, "", max, "a/ a! a-1 a.c a0 a~object b/ c/ d/ e/ e~object z/");
	tree_stats(f.tree, &st);
	assert_int_equal(st.hidden_keys, 2);
	assert_int_equal(look(&f, "", "a", 0, &e), 0);
	assert_true(e.is_dir);
	entry_done(&e);
	assert_int_equal(look(&f, "", "a~object", TREE_ATTRS, &e), 0);
	assert_false(e.is_dir);
	assert_string_equal(e.name, "a~object");
	entry_done(&e);
	assert_int_equal(look(&f, "", "b~object", 0, NULL), -ENOENT);
	assert_int_equal(look(&f, "", ".lsvd", 0, NULL), -ENOENT);
	assert_int_equal(tree_unlink(f.tree, "", "a~object", NULL), 0);
	assert_names(&f, "", 3, "a/ a! a-1 a.c a0 b/ c/ d/ e/ e~object z/");
	struct objreq req;

	assert_int_equal(obj_head(f.store, "a", &req), -ENOENT);
	objreq_done(&req);
	assert_names(&f, "b/", 0, "");
	assert_names(&f, "z/", 0, "");
	struct tree_page p;

	assert_int_equal(tree_list(f.tree, "nix/", "", 0, &p, NULL), -ENOENT);
	fixture_close(&f);
}

/* Directories whose key lies pages behind their name. */
static void test_order_over_pages(void **state)
{
	struct fixture f = {};
	struct tree_page p;

	fixture_open(&f, "", NULL);
	fill(&f, "d/n-%04u", 0, 2500);
	put(&f, "d/n/x", "1", NULL);
	put(&f, "d/n-0999/x", "1", NULL);
	put(&f, "d/n", "1", NULL);
	assert_int_equal(tree_list(f.tree, "d/", "", 0, &p, NULL), 0);
	assert_string_equal(p.v[0].name, "n");
	assert_true(p.v[0].is_dir);
	tree_page_done(&p);
	for (unsigned max = 0; max <= 1000; max += 333) {
		char *got = names(&f, "d/", max), *q = got;
		unsigned n = 0;

		for (char *w = strsep(&q, " "); w; w = strsep(&q, " "), n++)
			if (n > 0 && n <= 1000)
				assert_int_equal(atoi(w + 2), n - 1);
		assert_int_equal(n, 2503); /* n twice, n-0999 twice */
		assert_non_null(got);
		free(got);
	}
	fixture_close(&f);
}

static void test_find_costs_lists_only(void **state)
{
	struct fixture f = {};
	char key[300];
	unsigned n = 0;
	struct tree_page root;

	fixture_open(&f, "", NULL);
	for (unsigned d = 0; d < 500; d++) {
		for (unsigned i = 0; i < 40; i++) {
			snprintf(key, sizeof(key), "dir%03u/file-%02u.txt", d, i);
			put(&f, key, "x", NULL);
		}
	}
	assert_int_equal(tree_list(f.tree, "", "", 0, &root, NULL), 0);
	for (size_t d = 0; d < root.n; d++) {
		struct tree_page p;

		snprintf(key, sizeof(key), "%s/", root.v[d].name);
		assert_int_equal(look(&f, "", root.v[d].name, 0, NULL), 0);
		assert_int_equal(tree_list(f.tree, key, "", 0, &p, NULL), 0);
		for (size_t i = 0; i < p.n; i++, n++)
			assert_int_equal(look(&f, key, p.v[i].name, 0, NULL), 0);
		assert_false(p.more);
		tree_page_done(&p);
	}
	tree_page_done(&root);
	assert_int_equal(n, 20000);
	assert_int_equal(requests(&f, OBJ_HEAD), 0);
	assert_true(requests(&f, OBJ_LIST) <= 520);
	fixture_close(&f);
}

/* tar x: look each name up, then PUT it; names in order and not, at a given speed. */
static void tar_x(unsigned n, unsigned stride, unsigned us_each, double most_each)
{
	struct fixture f = {};
	struct attr a = {.mode = S_IFDIR | 0755};
	struct entry e;
	char name[32];
	uint64_t cost;

	fixture_open(&f, "", NULL);
	assert_int_equal(tree_mkdir(f.tree, "", "t", &a, NULL, &e, NULL), 0);
	entry_done(&e);
	mark_requests(&f);
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%05u", (unsigned)((uint64_t)i * stride % n));
		assert_int_equal(look(&f, "t/", name, 0, NULL), -ENOENT);
		create(&f, "t/", name, "data");
		assert_int_equal(look(&f, "t/", name, TREE_ATTRS, NULL), 0);
		atomic_fetch_add(&test_now_ns, us_each * 1000ll);
	}
	cost = all_requests(&f);
	if ((double)cost > most_each * n)
		fail_msg("%u files, stride %u, %u us: %" PRIu64 " requests", n, stride, us_each, cost);
	/* ls -l right behind it: own rows are known again by the listing. */
	test_advance_ms(1100);
	mark_requests(&f);
	unsigned got = 0;
	char after[300] = "";

	for (bool more = true; more;) {
		struct tree_page p;

		assert_int_equal(tree_list(f.tree, "t/", after, 0, &p, NULL), 0);
		for (size_t i = 0; i < p.n; i++, got++) {
			assert_true(p.v[i].have_headers);
			assert_int_equal(look(&f, "t/", p.v[i].name, TREE_ATTRS, NULL), 0);
		}
		if (p.n)
			snprintf(after, sizeof(after), "%s", p.v[p.n - 1].name);
		more = p.more;
		tree_page_done(&p);
	}
	assert_int_equal(got, n);
	assert_int_equal(requests(&f, OBJ_HEAD), 0);
	assert_true(requests(&f, OBJ_LIST) <= n / 1000 + 1);
	fixture_close(&f);
}

static void test_tar_x_in_order(void **state)
{
	tar_x(10000, 1, 2000, 1.05);
}

static void test_tar_x_scattered(void **state)
{
	tar_x(10000, 7919, 2000, 1.05);
}

static void test_window_of_heads(void **state)
{
	struct fixture f = {};
	struct tree_page p;
	unsigned unknown = 0;

	fixture_open(&f, "", NULL);
	fill(&f, "d/f%04u", 0, 500);
	test_advance_ms(5000);
	assert_int_equal(tree_list(f.tree, "d/", "", 0, &p, NULL), 0);
	for (size_t i = 0; i < p.n; i++)
		unknown += !p.v[i].have_headers;
	assert_int_equal(unknown, 500);
	assert_requests(&f, 0, 1, 0);
	assert_int_equal(look(&f, "d/", p.v[0].name, TREE_ATTRS, NULL), 0);
	assert_requests(&f, 2, 0, 0);
	for (size_t i = 0; i < p.n; i++) {
		struct entry e;

		assert_int_equal(look(&f, "d/", p.v[i].name, TREE_ATTRS, &e), 0);
		assert_true(e.have_headers);
		entry_done(&e);
	}
	assert_requests(&f, 498, 0, 0);
	tree_page_done(&p);
	/* Later one LIST is enough for all of them. */
	test_advance_ms(5000);
	assert_int_equal(tree_list(f.tree, "d/", "", 0, &p, NULL), 0);
	for (size_t i = 0; i < p.n; i++) {
		assert_true(p.v[i].have_headers);
		assert_int_equal(look(&f, "d/", p.v[i].name, TREE_ATTRS, NULL), 0);
	}
	tree_page_done(&p);
	assert_requests(&f, 0, 1, 0);
	fixture_close(&f);
}

static void test_racily_clean(void **state)
{
	struct fixture f = {};
	struct entry e;

	fixture_open(&f, "", NULL);
	put(&f, "a", "1", "33188");
	assert_int_equal(look(&f, "", "a", TREE_ATTRS, NULL), 0); /* learnt in the second of its LastModified */
	mark_requests(&f);
	assert_int_equal(look(&f, "", "a", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 0, 0, 0);
	test_advance_ms(3000);
	assert_names(&f, "", 0, "a");
	assert_requests(&f, 0, 1, 0);
	assert_int_equal(look(&f, "", "a", TREE_ATTRS, &e), 0);
	assert_true(e.have_headers);
	entry_done(&e);
	assert_requests(&f, 1, 0, 0); /* the one check */
	test_advance_ms(3000);
	assert_names(&f, "", 0, "a");
	assert_int_equal(look(&f, "", "a", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 0, 1, 0);
	fixture_close(&f);
}

/* Markers are no different: another client's mkdir and chmod may fall into one second, and their etags are equal. */
static void test_racily_clean_directory(void **state)
{
	struct fixture f = {};
	struct entry e;

	fixture_open(&f, "", NULL);
	put(&f, "d/", "", "16877");
	assert_int_equal(look(&f, "", "d", TREE_ATTRS, &e), 0);
	assert_int_equal(e.attr.mode, S_IFDIR | 0755);
	entry_done(&e);
	mark_requests(&f);
	assert_int_equal(look(&f, "", "d", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 0, 0, 0);
	test_advance_ms(3000);
	assert_int_equal(look(&f, "", "d", TREE_ATTRS, NULL), 0);
	assert_int_equal(requests(&f, OBJ_HEAD), 1); /* the one check */
	mark_requests(&f);
	/* Then one key of a listing vouches for it. */
	test_advance_ms(3000);
	assert_int_equal(look(&f, "", "d", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 0, 1, 0);
	fixture_close(&f);
}

/* A file system that takes no more: the row of an answer is lost, the object is not. */
static void test_full_cache_denies_nothing(void **state)
{
	char dir[] = "/tmp/lsvd-unit-tree-XXXXXX", path[64];
	struct rlimit old, tiny;
	struct fixture f = {};

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/attr.db", dir);
	fixture_open(&f, "", path);
	put(&f, "d/a", "1", "33188");
	put(&f, "d/b/x", "1", "33188");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tiny = old;
	tiny.rlim_cur = 1;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	int file = look(&f, "d/", "a", TREE_ATTRS, NULL);
	int sub = look(&f, "d/", "b", 0, NULL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(file, 0);
	assert_int_equal(sub, 0);
	assert_int_equal(look(&f, "d/", "c", 0, NULL), -ENOENT);
	fixture_close(&f);
	(void)unlink(path);
	(void)rmdir(dir);
}

/* The key of the file has 1024 bytes, that of a directory of its name could not be. */
static void test_longest_key(void **state)
{
	char dir[1024 + 2], name[32], key[2048];
	struct fixture f = {};

	for (unsigned i = 0; i < 4; i++) {
		memset(dir + i * 251, 'a' + (int)i, 250);
		dir[i * 251 + 250] = '/';
	}
	dir[4 * 251] = '\0';
	memset(name, 'n', 20);
	name[20] = '\0';
	snprintf(key, sizeof(key), "%s%s", dir, name);
	assert_int_equal(strlen(key), OBJ_KEY_MAX);
	fixture_open(&f, "", NULL);
	assert_int_equal(look(&f, dir, name, TREE_ATTRS, NULL), -ENOENT);
	put(&f, key, "1", NULL);
	test_advance_ms(3000);
	assert_int_equal(look(&f, dir, name, TREE_ATTRS, NULL), 0);
	fixture_close(&f);
}

static void test_ino_is_kept(void **state)
{
	struct fixture f = {};
	struct entry e;
	uint64_t ino, dino;

	fixture_open(&f, "", NULL);
	put(&f, "d/a", "1", NULL);
	assert_int_equal(look(&f, "d/", "a", 0, &e), 0);
	ino = e.ino;
	assert_true(ino > 1);
	entry_done(&e);
	assert_int_equal(look(&f, "", "d", 0, &e), 0);
	dino = e.ino;
	entry_done(&e);
	put(&f, "d/a", "22", NULL);
	assert_int_equal(look(&f, "d/", "a", TREE_FRESH, &e), 0);
	assert_int_equal(e.ino, ino);
	entry_done(&e);
	tree_note_moved_dir(f.tree, "d/", "e/n/");
	put(&f, "e/n/a", "22", NULL);
	assert_int_equal(look(&f, "e/n/", "a", TREE_FRESH, &e), 0);
	assert_int_equal(e.ino, ino);
	entry_done(&e);
	assert_int_equal(look(&f, "e/", "n", TREE_FRESH, &e), 0);
	assert_int_equal(e.ino, dino);
	entry_done(&e);
	assert_int_equal(tree_lookup_dir(f.tree, "e/n/", 0, &e, NULL), 0);
	assert_int_equal(e.ino, dino);
	entry_done(&e);
	fixture_close(&f);
}

static void test_root(void **state)
{
	struct fixture f = {};
	struct entry e;

	fixture_open(&f, "x/", NULL);
	assert_int_equal(tree_lookup_dir(f.tree, "", 0, &e, NULL), 0);
	assert_requests(&f, 0, 0, 0);
	entry_done(&e);
	assert_int_equal(tree_lookup_dir(f.tree, "", TREE_ATTRS, &e, NULL), 0);
	assert_int_equal(e.attr.mode, S_IFDIR | 0755);
	assert_int_equal(e.ino, 1);
	entry_done(&e);
	assert_requests(&f, 1, 0, 0);
	assert_int_equal(tree_lookup_dir(f.tree, "", TREE_ATTRS, &e, NULL), 0);
	entry_done(&e);
	assert_requests(&f, 0, 0, 0);
	put(&f, "x/.lsvd/root", "", "16832"); /* 040700 */
	test_advance_ms(2000);
	assert_int_equal(tree_lookup_dir(f.tree, "", TREE_ATTRS, &e, NULL), 0);
	assert_int_equal(e.attr.mode, S_IFDIR | 0700);
	assert_true(e.is_dir);
	entry_done(&e);
	fixture_close(&f);
}

static void put_image(struct fixture *f, const char *key, const char *uuid, uint64_t size)
{
	struct obj_headers h = {};
	char v[64];

	snprintf(v, sizeof(v), "1 %s %" PRIu64, uuid, size);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-lsvd-image", v), 0);
	assert_int_equal(obj_put(f->store, key, "text", 4, NULL, false, &h, NULL, NULL), 0);
	obj_headers_free(&h);
	mark_requests(f);
}

#define UUID "00112233445566778899aabbccddeeff"

static void test_images(void **state)
{
	struct fixture f = {};
	struct entry e;
	char *key;

	fixture_open(&f, "", NULL);
	put_image(&f, "d/sda.lsvd", UUID, 107374182400);
	put(&f, "d/sda", "plain", NULL);
	put(&f, "d/sda-1", "x", NULL);
	put(&f, "d/sda.a", "x", NULL);
	put(&f, "d/plain.lsvd", "x", NULL);
	put_image(&f, "d/e.lsvd", UUID, 5);
	put(&f, "d/e/f", "x", NULL);
	/* By listing: two HEADs of what is not yet known. In pages of every length. */
	assert_names(&f, "d/", 0, "e/ plain.lsvd sda sda-1 sda.a sda~object");
	assert_requests(&f, 3, 1, 0);
	for (size_t max = 1; max < 8; max++)
		assert_names(&f, "d/", max, "e/ plain.lsvd sda sda-1 sda.a sda~object");
	assert_int_equal(look(&f, "d/", "sda", TREE_ATTRS, &e), 0);
	assert_true(e.image && !e.is_dir && e.image_size == 107374182400 && e.uuid[0] == 0 && e.uuid[15] == 0xff);
	assert_string_equal(e.name, "sda");
	entry_done(&e);
	assert_int_equal(look(&f, "d/", "sda.lsvd", 0, NULL), -EPERM);
	assert_int_equal(look(&f, "d/", "sda~object", TREE_ATTRS, &e), 0);
	assert_true(!e.image && e.v.size == 5);
	entry_done(&e);
	assert_int_equal(tree_key(f.tree, "d/", "sda~object", false, &key), 0);
	assert_string_equal(key, "d/sda");
	free(key);
	assert_int_equal(look(&f, "d/", "e", 0, &e), 0);
	assert_true(e.is_dir && !e.image);
	entry_done(&e);
	assert_int_equal(look(&f, "d/", "plain.lsvd", 0, &e), 0);
	assert_false(e.image);
	entry_done(&e);
	fixture_close(&f);
	/* By name alone. */
	fixture_open(&f, "", NULL);
	put_image(&f, "d/sda.lsvd", UUID, 512);
	assert_int_equal(look(&f, "d/", "sda", 0, &e), 0);
	assert_true(e.image && e.image_size == 512);
	entry_done(&e);
	assert_requests(&f, 2, 1, 0);
	test_advance_ms(3000);
	assert_int_equal(look(&f, "d/", "sda", TREE_ATTRS, NULL), 0);
	assert_requests(&f, 1, 0, 0); /* known as an image: its key alone */
	assert_int_equal(look(&f, "d/", "sda.lsvd", 0, NULL), -EPERM);
	/* Gone, and a plain file instead. */
	del(&f, "d/sda.lsvd");
	test_advance_ms(3000);
	assert_int_equal(look(&f, "d/", "sda", 0, NULL), -ENOENT);
	put(&f, "d/sda", "1", NULL);
	test_advance_ms(3000);
	assert_int_equal(look(&f, "d/", "sda", 0, &e), 0);
	assert_false(e.image);
	entry_done(&e);
	fixture_close(&f);
}

/* An image's key has its place between those of its neighbours: every page must know of it. */
static void test_image_pages(void **state)
{
	struct fixture f = {};
	struct str want = {};
	char *all;

	fixture_open(&f, "", NULL);
	put_image(&f, "d/a.lsvd", UUID, 1);
	for (unsigned i = 0; i < 1100; i++) {
		char key[32];

		snprintf(key, sizeof(key), "d/a-%04u", i);
		put(&f, key, "x", NULL);
	}
	str_add(&want, "a");
	for (unsigned i = 0; i < 1100; i++)
		str_addf(&want, " a-%04u", i);
	all = names(&f, "d/", 100);
	assert_string_equal(all, str_c(&want));
	free(all);
	str_free(&want);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unknown_name_costs),
		cmocka_unit_test(test_images),
		cmocka_unit_test(test_image_pages),
		cmocka_unit_test(test_fresh_asks_once),
		cmocka_unit_test(test_negatives_need_a_young_page),
		cmocka_unit_test(test_own_changes_show_at_once),
		cmocka_unit_test(test_mkdir_rmdir),
		cmocka_unit_test(test_mknod_symlink),
		cmocka_unit_test(test_hidden_and_conflicting_names),
		cmocka_unit_test(test_order_over_pages),
		cmocka_unit_test(test_find_costs_lists_only),
		cmocka_unit_test(test_tar_x_in_order),
		cmocka_unit_test(test_tar_x_scattered),
		cmocka_unit_test(test_window_of_heads),
		cmocka_unit_test(test_racily_clean),
		cmocka_unit_test(test_racily_clean_directory),
		cmocka_unit_test(test_full_cache_denies_nothing),
		cmocka_unit_test(test_longest_key),
		cmocka_unit_test(test_ino_is_kept),
		cmocka_unit_test(test_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
