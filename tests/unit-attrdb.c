/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-attrdb.c - the attribute cache may vanish, rot or be of another version at any time: that costs requests only. */
#include "config.h"
#include "meta-lib.h"
#include "meta/attrdb.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/lsvd-attrdb-XXXXXX", path[64];

static int make_dir(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/db", dir);
	return 0;
}

static void remove_db(void)
{
	static const char *const suffix[] = {"", "-wal", "-shm", "-journal"};
	char name[80];

	for (unsigned i = 0; i < ARRAY_SIZE(suffix); i++) {
		snprintf(name, sizeof(name), "%s%s", path, suffix[i]);
		unlink(name);
	}
}

static int remove_dir(void **state)
{
	remove_db();
	return rmdir(dir);
}

static void put_row(struct attrdb *db, const char *d, const char *name, uint64_t size, const char *mode)
{
	struct obj_headers h = {};
	struct row row = {.v = {.etag = "e", .size = size, .mtime_s = 5}, .ino = 77, .learnt_s = 9, .asked_ns = 11};
	const struct row *put[] = {&row};

	assert_int_equal(str_copy(row.name, sizeof(row.name), name), 0);
	if (mode) {
		assert_int_equal(obj_headers_set(&h, "x-amz-meta-mode", mode), 0);
		assert_int_equal(obj_headers_encode(&h, &row.headers, &row.headers_len), 0);
	}
	assert_int_equal(attrdb_apply(db, d, put, 1, NULL, 0), 0);
	row_done(&row);
	obj_headers_free(&h);
}

static void test_rows_last(void **state)
{
	struct attrdb *db;
	struct row row = {}, *v;
	size_t n;

	remove_db();
	assert_int_equal(attrdb_open(path, &db), 0);
	put_row(db, "a/", "x", 1, "33188");
	put_row(db, "a/", "x/", 0, NULL);
	put_row(db, "a/", "x-1", 2, NULL);
	put_row(db, "b/", "y", 3, NULL);
	assert_int_equal(attrdb_get(db, "a/", "x", &row), 0);
	assert_int_equal(row.asked_ns, 11);
	row_done(&row);
	attrdb_close(db);
	assert_int_equal(attrdb_open(path, &db), 0);
	assert_int_equal(attrdb_epoch(db), 0);
	assert_int_equal(attrdb_get(db, "a/", "x", &row), 0);
	assert_int_equal(row.v.size, 1);
	assert_int_equal(row.ino, 77);
	assert_non_null(row.headers);
	assert_true(row.asked_ns == INT64_MIN); /* of an earlier run: vouches for nothing */
	row_done(&row);
	/* Byte order: "x" < "x-1" < "x/". */
	assert_int_equal(attrdb_range(db, "a/", "", NULL, 10, &v, &n), 0);
	assert_int_equal(n, 3);
	assert_string_equal(v[1].name, "x-1");
	assert_string_equal(v[2].name, "x/");
	attrdb_rows_free(v, n);
	assert_int_equal(attrdb_range(db, "a/", "x", "x-1", 10, &v, &n), 0);
	assert_int_equal(n, 1);
	attrdb_rows_free(v, n);
	put_row(db, "a/s/t/", "deep", 4, NULL);
	put_row(db, "a0/", "not-below", 4, NULL);
	put_row(db, "c/", "in the way", 4, NULL);
	assert_int_equal(attrdb_move_dir(db, "a/", "c/"), 0);
	assert_int_equal(attrdb_get(db, "a/", "x", &row), -ENOENT);
	assert_int_equal(attrdb_get(db, "c/", "in the way", &row), -ENOENT);
	assert_int_equal(attrdb_get(db, "c/s/t/", "deep", &row), 0);
	row_done(&row);
	assert_int_equal(attrdb_get(db, "c/", "x", &row), 0);
	assert_non_null(row.headers);
	row_done(&row);
	assert_int_equal(attrdb_get(db, "a0/", "not-below", &row), 0);
	row_done(&row);
	assert_int_equal(attrdb_del_below(db, "c/"), 0);
	assert_int_equal(attrdb_get(db, "c/s/t/", "deep", &row), -ENOENT);
	assert_int_equal(attrdb_count(db), 2);
	assert_int_equal(attrdb_epoch(db), 0);
	attrdb_close(db);
}

/* What hangs from a directory that is gone goes, however deep; the rest stays, the mounted root's own row too. */
static void test_prune(void **state)
{
	static const char *const stay[][2] = {{"", "a/"}, {"", "f"}, {"a/", "s/"}, {"a/", "x"}, {"a/s/", "y"}, {".lsvd/", "root"}};
	static const char *const go[][2] = {{"b/", "t/"}, {"b/t/", "z"}, {"a/lost/", "w"}, {"a/lost/deep/er/", "v"}};
	struct attrdb *db;
	struct row row = {};

	remove_db();
	assert_int_equal(attrdb_open(path, &db), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(stay); i++)
		put_row(db, stay[i][0], stay[i][1], 1, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(go); i++)
		put_row(db, go[i][0], go[i][1], 1, NULL);
	assert_int_equal(attrdb_prune(db, 0), 0); /* no time, no work */
	assert_int_equal(attrdb_count(db), ARRAY_SIZE(stay) + ARRAY_SIZE(go));
	assert_int_equal(attrdb_prune(db, NSEC_PER_SEC), 0);
	assert_int_equal(attrdb_count(db), ARRAY_SIZE(stay));
	for (unsigned i = 0; i < ARRAY_SIZE(stay); i++) {
		assert_int_equal(attrdb_get(db, stay[i][0], stay[i][1], &row), 0);
		row_done(&row);
	}
	assert_int_equal(attrdb_epoch(db), 0);
	attrdb_close(db);
}

static void test_inos_never_repeat(void **state)
{
	struct attrdb *db;
	uint64_t last = 0, ino;

	remove_db();
	for (unsigned run = 0; run < 4; run++) {
		assert_int_equal(attrdb_open(path, &db), 0);
		for (unsigned i = 0; i < 5000; i++) {
			ino = attrdb_new_ino(db);
			assert_true(ino > last && ino > 1);
			last = ino;
		}
		attrdb_close(db);
	}
	remove_db();
	assert_int_equal(attrdb_open(path, &db), 0);
	ino = attrdb_new_ino(db);
	assert_true(ino < last - 1000000 || ino > last + 1000000); /* elsewhere after a wipe */
	attrdb_close(db);
}

static void write_file(const void *p, size_t n, off_t off, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | flags, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, n, off), (ssize_t)n);
	close(fd);
}

static void test_what_is_no_database(void **state)
{
	struct attrdb *db;
	struct row row;
	sqlite3 *sql;

	for (unsigned i = 0; i < 5; i++) {
		remove_db();
		switch (i) {
		case 0:
			write_file("hello, this is no database at all, whatever you may think", 57, 0, O_TRUNC);
			break;
		case 1: /* another schema */
			assert_int_equal(sqlite3_open(path, &sql), SQLITE_OK);
			assert_int_equal(sqlite3_exec(sql, "CREATE TABLE row (x); PRAGMA user_version = 99", NULL, NULL,
						      NULL),
					 SQLITE_OK);
			sqlite3_close(sql);
			break;
		case 2: /* ours, but without a table */
			assert_int_equal(sqlite3_open(path, &sql), SQLITE_OK);
			assert_int_equal(sqlite3_exec(sql, "CREATE TABLE r (x); PRAGMA user_version = 1", NULL, NULL, NULL),
					 SQLITE_OK);
			sqlite3_close(sql);
			break;
		case 3: /* locked by somebody */
			assert_int_equal(sqlite3_open(path, &sql), SQLITE_OK);
			assert_int_equal(sqlite3_exec(sql, "CREATE TABLE r (x); BEGIN EXCLUSIVE", NULL, NULL, NULL),
					 SQLITE_OK);
			break;
		case 4: /* in the way of a file */
			assert_int_equal(mkdir(path, 0700), 0);
			break;
		}
		assert_int_equal(attrdb_open(path, &db), 0);
		assert_int_equal(attrdb_epoch(db), 1);
		put_row(db, "", "x", 1, NULL);
		assert_int_equal(attrdb_get(db, "", "x", &row), 0);
		row_done(&row);
		attrdb_close(db);
		if (i == 3)
			sqlite3_close(sql);
		if (i == 4)
			rmdir(path);
	}
}

/* Rot at random places, before and while it is in use: rows are right or unknown. */
static void test_rot(void **state)
{
	unsigned seed = 4711;
	uint64_t rebuilt = 0;

	for (unsigned round = 0; round < 60; round++) {
		bool live = round & 1;
		struct attrdb *db;
		struct stat st;
		char name[32];

		remove_db();
		assert_int_equal(attrdb_open(path, &db), 0);
		for (unsigned i = 0; i < 400; i++) {
			snprintf(name, sizeof(name), "n%u", i);
			put_row(db, "d/", name, i, "33188");
		}
		/* Closing empties the log into the file. */
		attrdb_close(db);
		if (live)
			assert_int_equal(attrdb_open(path, &db), 0);
		assert_int_equal(stat(path, &st), 0);
		for (unsigned k = 0; k < 12; k++) {
			char junk[16];
			off_t at = (off_t)((uint64_t)rand_r(&seed) % (uint64_t)(st.st_size - 16));

			for (unsigned j = 0; j < sizeof(junk); j++)
				junk[j] = (char)rand_r(&seed);
			write_file(junk, 1 + (size_t)rand_r(&seed) % 16, at, 0);
		}
		if (live && round % 4 == 1)
			assert_int_equal(truncate(path, round % 8 == 1 ? 0 : st.st_size / 2), 0);
		if (!live)
			assert_int_equal(attrdb_open(path, &db), 0);
		for (unsigned i = 0; i < 400; i++) {
			struct row row = {};
			int r;

			snprintf(name, sizeof(name), "n%u", i);
			r = attrdb_get(db, "d/", name, &row);
			if (r != -ENOENT) {
				assert_int_equal(r, 0);
				assert_int_equal(row.v.size, i);
				assert_int_equal(row.ino, 77);
				assert_string_equal(row.headers, "x-amz-meta-mode");
				assert_string_equal((char *)row.headers + 16, "33188");
			}
			row_done(&row);
		}
		put_row(db, "d/", "after", 1, NULL);
		rebuilt += attrdb_epoch(db);
		attrdb_close(db);
	}
	assert_true(rebuilt > 10);
}

/* The tree goes on as if nothing was known, and does not deny what it has only forgotten. */
static void test_tree_over_a_lost_database(void **state)
{
	for (unsigned how = 0; how < 3; how++) {
		struct fixture f = {};
		struct stat file;
		struct entry e;
		char key[64];

		remove_db();
		fixture_open(&f, "", path);
		for (unsigned i = 0; i < 3000; i++) {
			snprintf(key, sizeof(key), "d%u/name-%04u", i % 3, i);
			put(&f, key, "x", "33152");
		}
		for (unsigned i = 0; i < 3; i++) {
			char *all;

			snprintf(key, sizeof(key), "d%u/", i);
			all = names(&f, key, 0);
			free(all);
		}
		fixture_reopen(&f); /* the log goes into the file, SQLite's own cache is cold */
		for (unsigned i = 0; i < 3; i++) {
			char *all;

			snprintf(key, sizeof(key), "d%u/", i);
			all = names(&f, key, 0);
			free(all);
		}
		mark_requests(&f);
		assert_int_equal(stat(path, &file), 0);
		if (how == 0) {
			assert_int_equal(truncate(path, 0), 0);
		} else if (how == 1) {
			remove_db();
		} else {
			char *junk = malloc((size_t)file.st_size);

			memset(junk, 0x5a, (size_t)file.st_size);
			write_file(junk, (size_t)file.st_size, 0, 0);
			free(junk);
		}
		for (unsigned i = 0; i < 3000; i += 7) {
			snprintf(key, sizeof(key), "d%u/", i % 3);
			char name[32];

			snprintf(name, sizeof(name), "name-%04u", i);
			assert_int_equal(tree_lookup(f.tree, key, name, TREE_ATTRS, &e, NULL), 0);
			assert_int_equal(e.attr.mode, S_IFREG | 0600);
			entry_done(&e);
			snprintf(name, sizeof(name), "none-%04u", i);
			assert_int_equal(tree_lookup(f.tree, key, name, 0, &e, NULL), -ENOENT);
		}
		fixture_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_last),	   cmocka_unit_test(test_prune),
		cmocka_unit_test(test_inos_never_repeat),
		cmocka_unit_test(test_what_is_no_database), cmocka_unit_test(test_rot),
		cmocka_unit_test(test_tree_over_a_lost_database),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
