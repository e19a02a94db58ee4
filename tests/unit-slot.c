/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Slots: identity spelling, who gets which number, locks that die with their holder, versions, strangers. */
#include "config.h"
#include "fs/slot.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char base[64];

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/unit-slot-XXXXXX");
	return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
	return system(cmd);
}

static char *identity(const char *endpoint, const char *bucket, const char *prefix)
{
	char b[64], p[64], *id;
	struct obj_url u = {.kind = OBJ_URL_S3, .bucket = b, .prefix = p};

	snprintf(b, sizeof(b), "%s", bucket);
	snprintf(p, sizeof(p), "%s", prefix);
	assert_int_equal(slot_identity(&u, endpoint, &id), 0);
	return id;
}

static void same(const char *a, const char *b, bool want)
{
	char *x = identity(a, "bucket", "p/"), *y = identity(b, "bucket", "p/");

	assert_int_equal(!strcmp(x, y), want);
	free(x);
	free(y);
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void test_identity(void **state)
{
	char *a, *b;

	same("http://H:80/", "http://h", true);
	same("https://Host.Example:443", "https://host.example/", true);
	same("http://h:443", "http://h", false);
	same("http://h:8080", "http://h", false);
	same("http://h", "https://h", false);
	same(NULL, "", true);
	same(NULL, "http://h", false);
	a = identity(NULL, "bucket", "a/b/");
	b = identity(NULL, "bucket", "a/b\nc/");
	assert_string_not_equal(a, b);
	free(a);
	free(b);
}

static void test_directory_names(void **state)
{
	char *id = identity("http://h", "my.bucket", "deep/er\xc3\xa9/"), *dir;

	assert_int_equal(slot_identity_dir("/s", id, &dir), 0);
	assert_int_equal(strncmp(dir, "/s/my.bucket.deep_er", 20), 0);
	for (char *p = dir + 3; *p; p++)
		assert_true(*p != '/' && *p > ' ' && *p < 127);
	free(dir);
	free(id);
	id = identity("http://h", "-", "x/");
	assert_int_equal(slot_identity_dir("/s", id, &dir), 0);
	assert_int_equal(dir[3], 'x'); /* hidden, it would not be found by slot_strangers() */
	free(dir);
	free(id);
	id = identity("http://h", "b", "../../x/");
	assert_int_equal(slot_identity_dir("/s", id, &dir), 0);
	assert_null(strstr(dir + 3, "/"));
	free(dir);
	free(id);
}

static void test_two_mounts_two_slots(void **state)
{
	char *id = identity(NULL, "b", "");
	struct slot a = {.lock_fd = -1}, b = {.lock_fd = -1}, c = {.lock_fd = -1};
	struct objerr err = {0};
	unsigned *v;
	size_t n;

	assert_int_equal(slot_take(base, id, &a, &err), 0);
	assert_int_equal(a.number, 0);
	assert_int_equal(slot_take(base, id, &b, &err), 0);
	assert_int_equal(b.number, 1);
	assert_int_equal(slot_lock(base, id, 0, &c), -EBUSY);
	assert_int_equal(slot_lock(base, id, 7, &c), -ENOENT);
	slot_release(&a);
	assert_int_equal(slot_lock(base, id, 0, &c), 0);
	slot_release(&c);
	assert_int_equal(slot_take(base, id, &a, &err), 0);
	assert_int_equal(a.number, 0);
	assert_int_equal(slot_list(base, id, &v, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(v[0], 0);
	assert_int_equal(v[1], 1);
	free(v);
	slot_release(&a);
	slot_release(&b);
	free(id);
}

/* The path of a file:// bucket, each byte of it three characters: found again by the next mount. */
static void test_long_identity(void **state)
{
	char path[4000], *id;
	struct obj_url url = {.kind = OBJ_URL_FILE, .bucket = path, .prefix = path + sizeof(path) - 1};
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};

	memset(path, '\xe9', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(slot_identity(&url, NULL, &id), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(slot_take(base, id, &s, &err), 0);
		assert_int_equal(s.number, 0);
		slot_release(&s);
	}
	free(id);
}

static void test_kill_unlocks(void **state)
{
	char *id = identity(NULL, "b", "");
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};
	int ready[2], status;
	pid_t pid;
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		if (slot_take(base, id, &s, &err) || s.number || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(slot_lock(base, id, 0, &s), -EBUSY);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(slot_take(base, id, &s, &err), 0);
	assert_int_equal(s.number, 0);
	slot_release(&s);
	close(ready[0]);
	close(ready[1]);
	free(id);
}

static void test_version(void **state)
{
	char *id = identity(NULL, "b", ""), path[100];
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};

	assert_int_equal(slot_take(base, id, &s, &err), 0);
	slot_release(&s);
	snprintf(path, sizeof(path), "%s/version", base);
	put_file(path, "2\n");
	assert_int_equal(slot_take(base, id, &s, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "version 2"));
	put_file(path, "garbage\n");
	memset(&err, 0, sizeof(err));
	assert_int_equal(slot_take(base, id, &s, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "damaged"));
	put_file(path, "1\n");
	assert_int_equal(slot_take(base, id, &s, &err), 0);
	slot_release(&s);
	free(id);
}

static void test_foreign_identity_refused(void **state)
{
	char *id = identity(NULL, "b", ""), *dir, path[4200];
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};

	assert_int_equal(slot_take(base, id, &s, &err), 0);
	slot_release(&s);
	assert_int_equal(slot_identity_dir(base, id, &dir), 0);
	snprintf(path, sizeof(path), "%s/identity", dir);
	put_file(path, "s3\naws\nother\n\n");
	assert_int_equal(slot_take(base, id, &s, &err), -EPROTO);
	free(dir);
	free(id);
}

static void count(void *arg, const char *path, const char *other)
{
	(*(int *)arg)++;
}

static int strangers(const char *id)
{
	int n = 0;

	assert_int_equal(slot_strangers(base, id, count, &n), 0);
	return n;
}

static void test_strangers(void **state)
{
	char *mine = identity("http://a", "b", ""), *other = identity("http://a.example", "b", ""),
	     *elsewhere = identity("http://a", "b2", ""), path[4200];
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};

	assert_int_equal(slot_take(base, other, &s, &err), 0);
	snprintf(path, sizeof(path), "%s/spool", s.path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_false(slot_dirty(s.path));
	snprintf(path, sizeof(path), "%s/spool/1.data", s.path);
	put_file(path, "dirty");
	assert_true(slot_dirty(s.path));
	assert_int_equal(strangers(mine), 0); /* a running mount's own business */
	slot_release(&s);
	assert_int_equal(strangers(mine), 1);
	assert_int_equal(strangers(other), 0);
	assert_int_equal(strangers(elsewhere), 0);
	free(mine);
	free(other);
	free(elsewhere);
}

static void test_volatile(void **state)
{
	assert_true(slot_volatile("/dev/shm"));
	assert_true(slot_volatile("/dev/shm/not/there/yet"));
	assert_false(slot_volatile("/proc"));
}

static void test_errors(void **state)
{
	char *id = identity(NULL, "b", ""), path[100];
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};

	snprintf(path, sizeof(path), "%s/file", base);
	put_file(path, "");
	assert_int_equal(slot_take(path, id, &s, &err), -ENOTDIR);
	assert_non_null(strstr(err.msg, path));
	free(id);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_identity),
	    cmocka_unit_test(test_directory_names),
	    T(test_two_mounts_two_slots),
	    T(test_kill_unlocks),
	    T(test_version),
	    T(test_foreign_identity_refused),
	    T(test_strangers),
	    T(test_long_identity),
	    cmocka_unit_test(test_volatile),
	    T(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
