/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-local.c - what is particular to file://: the tree that ls shows, files put there by hand, links, directories
 * that come and go, leftovers of a crash, several processes on one directory.
 */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include "objstore/base/clock.h"
#include "objstore/base/str.h"
#include "objstore/objstore.h"
#include <cmocka.h>

static char root[64];
static struct objstore *s;

static const char *P(const char *name)
{
	static char buf[4][512];
	static unsigned i;
	char *b = buf[i++ % 4];

	(void)snprintf(b, 512, "%s/%s", root, name);
	return b;
}

static int setup(void **state)
{
	struct objerr err = {0};

	memcpy(root, "/tmp/unit-local-XXXXXX", 23);
	if (mkdtemp(root) == NULL)
		return -1;
	return store_file_new(root, &s, &err);
}

static int teardown(void **state)
{
	char cmd[128];

	obj_close(s);
	s = NULL;
	(void)snprintf(cmd, sizeof(cmd), "rm -r %s", root);
	return system(cmd);
}

static void write_file(const char *name, const char *body)
{
	FILE *f = fopen(P(name), "w");

	assert_non_null(f);
	assert_true(fputs(body, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int put(const char *key, const char *body, char *etag)
{
	return obj_put(s, key, body, strlen(body), NULL, false, NULL, etag, NULL);
}

static void head(const char *key, struct objreq *req)
{
	if (obj_head(s, key, req) != 0)
		fail_msg("HEAD %s: %d %s", key, req->status, req->err.msg);
}

static int head_status(const char *key)
{
	struct objreq req;
	int r = obj_head(s, key, &req);

	objreq_done(&req);
	return r;
}

static void assert_body(const char *key, const char *want)
{
	char buf[512];
	struct objreq req;

	objreq_init(&req, OBJ_GET, key);
	req.buf = buf;
	req.cap = sizeof(buf);
	if (obj_do(s, &req) != 0)
		fail_msg("GET %s: %d %s", key, req.status, req.err.msg);
	assert_int_equal(req.got, strlen(want));
	assert_memory_equal(buf, want, req.got);
	objreq_done(&req);
}

static void assert_list(const char *prefix, bool delimiter, const char *want)
{
	struct str out = {0};
	struct objreq req;

	objreq_init(&req, OBJ_LIST, prefix);
	req.delimiter = delimiter;
	if (obj_do(s, &req) != 0)
		fail_msg("LIST %s: %d %s", prefix, req.status, req.err.msg);
	for (size_t i = 0; i < req.listing->n; i++)
		str_addf(&out, "%s%s", i > 0 ? "|" : "", req.listing->v[i].key);
	assert_string_equal(str_c(&out), want);
	str_free(&out);
	objreq_done(&req);
}

static bool exists(const char *name)
{
	struct stat st;

	return lstat(P(name), &st) == 0;
}

static unsigned files_in(const char *name)
{
	DIR *d = opendir(P(name));
	unsigned n = 0;

	if (d == NULL)
		return 0;
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* --- the tree ----------------------------------------------------------------------------------------------------- */

static void test_tree(void **state)
{
	struct obj_headers h = {0};
	struct objreq req;
	struct stat st;
	char buf[16] = "";
	FILE *f;

	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mtime", "1000000000.5"), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-bytes", "\xff\xfe 100% \t"), 0);
	assert_int_equal(obj_put(s, "a/b/c", "hello", 5, NULL, false, &h, NULL, NULL), 0);
	f = fopen(P("a/b/c"), "r");
	assert_non_null(f);
	assert_int_equal(fread(buf, 1, sizeof(buf), f), 5);
	fclose(f);
	assert_string_equal(buf, "hello");
	/* ls shows the object's own time; LastModified is when it was PUT. */
	assert_int_equal(stat(P("a/b/c"), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1000000000);
	assert_int_equal(st.st_mtim.tv_nsec, 500000000);
	head("a/b/c", &req);
	assert_true(req.mtime_s >= time(NULL) - 5);
	assert_true(obj_headers_equal(&req.ret_headers, &h));
	objreq_done(&req);
	/* Times before 1970. */
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mtime", "-0.250000000"), 0);
	assert_int_equal(obj_put(s, "old", "x", 1, NULL, false, &h, NULL, NULL), 0);
	assert_int_equal(stat(P("old"), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, -1);
	head("old", &req);
	assert_true(obj_headers_equal(&req.ret_headers, &h));
	objreq_done(&req);
	/* Nothing of ours is listed, and nothing is left in the hidden places. */
	assert_list("", false, "a/b/c|old");
	assert_list("", true, "a/|old");
	assert_int_equal(files_in(".lsvd/tmp"), 0);
	obj_headers_free(&h);
}

static void test_opens_read_only(void **state)
{
	/* Reading makes nothing. */
	assert_list("", false, "");
	assert_int_equal(head_status("a"), -ENOENT);
	assert_false(exists(".lsvd"));
}

static void test_refusals(void **state)
{
	static const struct {
		const char *key;
		int r;
	} t[] = {{"", -EINVAL},	       {"/a", -EINVAL},	     {"a//b", -EINVAL},	   {"./a", -EINVAL},
		 {"a/..", -EINVAL},
		 {"a/../../b", -EINVAL}, {"/", -EINVAL},     {".lsvd/tmp/x", -EACCES}, {".lsvd/mpu", -EACCES},
		 {".lsvd/lock/00", -EACCES}, {"f/x", -ENOTDIR}, {"f/", -ENOTDIR},  {"d", -EISDIR}};
	struct objstore *other;
	struct objerr err;

	assert_int_equal(put("f", "file", NULL), 0);
	assert_int_equal(put("d/x", "x", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		err = (struct objerr){0};
		int r = obj_put(s, t[i].key, "", 0, NULL, false, NULL, NULL, &err);

		if (r != t[i].r || err.msg[0] == '\0')
			fail_msg("PUT \"%s\": %d %s", t[i].key, r, err.msg);
		assert_int_equal(head_status(t[i].key), -ENOENT);
		assert_int_equal(obj_delete(s, t[i].key, NULL, NULL), 0);
	}
	assert_int_equal(put("d/", "bytes", NULL), -EISDIR);
	assert_list("", false, "d/x|f");
	assert_int_equal(put(".lsvd/img/x", "ours", NULL), 0); /* the room is shared with the product's own keys */
	assert_list("", false, ".lsvd/img/x|d/x|f");
	assert_list(".lsvd/", true, ".lsvd/img/");
	assert_int_equal(obj_delete(s, ".lsvd/img/x", NULL, NULL), 0);
	assert_list("", true, "d/|f");
	err = (struct objerr){0};
	assert_int_equal(store_file_new("/nonexistent/x", &other, &err), -ENODEV);
	assert_true(err.msg[0] != '\0');
	err = (struct objerr){0};
	assert_int_equal(store_file_new("/proc/self", &other, &err), -ENOTSUP); /* no user xattrs there */
	assert_non_null(strstr(err.msg, "extended attributes"));
}

/* --- by hand ------------------------------------------------------------------------------------------------------ */

static void test_by_hand(void **state)
{
	char etag[OBJ_ETAG_MAX], want[64];
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1234567890, .tv_nsec = 123456789}};
	struct objreq req;

	write_file("hand", "by hand");
	assert_int_equal(chmod(P("hand"), 0640), 0);
	assert_int_equal(utimensat(AT_FDCWD, P("hand"), ts, 0), 0);
	assert_body("hand", "by hand");
	head("hand", &req);
	memcpy(etag, req.etag, sizeof(etag));
	(void)snprintf(want, sizeof(want), "%u", S_IFREG | 0640);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-mode"), want);
	(void)snprintf(want, sizeof(want), "%u", getuid());
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-uid"), want);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-mtime"), "1234567890.123456789");
	assert_int_equal(req.size, 7);
	objreq_done(&req);
	head("hand", &req);
	assert_string_equal(req.etag, etag); /* the same as long as nobody touches it */
	objreq_done(&req);
	assert_int_equal(chmod(P("hand"), 0600), 0);
	head("hand", &req);
	assert_string_not_equal(req.etag, etag);
	memcpy(etag, req.etag, sizeof(etag));
	objreq_done(&req);
	/* Conditions hold on it, and a PUT makes it one of ours. */
	assert_int_equal(obj_put(s, "hand", "x", 1, NULL, true, NULL, NULL, NULL), -ESTALE);
	assert_int_equal(obj_put(s, "hand", "ours", 4, etag, false, NULL, etag, NULL), 0);
	head("hand", &req);
	assert_string_equal(req.etag, etag);
	assert_null(obj_headers_get(&req.ret_headers, "x-amz-meta-mode"));
	objreq_done(&req);
	assert_list("", false, "hand");
}

#define TORN_SIZE (8 * 1024 * 1024)

struct editor {
	int fd;
	_Atomic bool go;
	int64_t delay_ns;
};

/* Another program that writes into the file itself, near its end. */
static void *edit_thread(void *arg)
{
	struct editor *e = arg;
	int64_t until;

	while (!e->go)
		;
	for (until = clock_now_ns() + e->delay_ns; clock_now_ns() < until;)
		;
	if (pwrite(e->fd, "EDIT", 4, TORN_SIZE - 4096) != 4)
		abort();
	return NULL;
}

/* Until a write now would give the file another time: file systems look at a clock that ticks. */
static void wait_for_tick(int fd)
{
	struct timespec now;
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	do
		assert_int_equal(clock_gettime(CLOCK_REALTIME_COARSE, &now), 0);
	while (now.tv_sec == st.st_mtim.tv_sec && now.tv_nsec <= st.st_mtim.tv_nsec);
}

/* What a GET gives under the etag of our PUT are the bytes of our PUT, whoever writes into the file meanwhile. */
static void test_edited_while_read(void **state)
{
	char *body = malloc(TORN_SIZE), *buf = malloc(TORN_SIZE), etag[OBJ_ETAG_MAX];
	unsigned whole = 0, stale = 0;

	memset(body, 'o', TORN_SIZE);
	for (int i = 0; i < 60; i++) {
		struct editor e = {.delay_ns = i * 50 * 1000};
		struct objreq req;
		pthread_t t;

		assert_int_equal(obj_put(s, "f", body, TORN_SIZE, NULL, false, NULL, etag, NULL), 0);
		e.fd = open(P("f"), O_WRONLY);
		assert_true(e.fd >= 0);
		objreq_init(&req, OBJ_GET, "f");
		req.buf = buf;
		req.cap = TORN_SIZE;
		req.if_match = etag;
		assert_int_equal(pthread_create(&t, NULL, edit_thread, &e), 0);
		wait_for_tick(e.fd);
		e.go = true;
		if (obj_do(s, &req) == 0) {
			assert_string_equal(req.etag, etag);
			if (memcmp(buf, body, TORN_SIZE) != 0)
				fail_msg("round %d: edited bytes under the etag of the PUT", i);
			whole++;
		} else {
			assert_int_equal(req.status, -ESTALE);
			stale++;
		}
		pthread_join(t, NULL);
		close(e.fd);
		objreq_done(&req);
	}
	print_message("%u whole, %u stale\n", whole, stale);
	free(body);
	free(buf);
}

/* Somebody tidies up and removes what looks like rubbish: it is made again, and no answer lies. */
static void test_room_removed(void **state)
{
	char etag[OBJ_ETAG_MAX], cmd[512];
	struct objreq req;

	for (int i = 0; i < 4; i++) {
		assert_int_equal(put("a/k", "one", etag), 0);
		(void)snprintf(cmd, sizeof(cmd), "rm -rf '%s/.lsvd'", root);
		assert_int_equal(system(cmd), 0);
		if (i == 0) {
			assert_int_equal(obj_delete(s, "a/k", etag, NULL), 0);
			assert_false(exists("a/k"));
		} else if (i == 1) {
			assert_int_equal(put("a/k", "two", NULL), 0);
			assert_body("a/k", "two");
		} else if (i == 2) {
			assert_int_equal(put("d/", "", NULL), 0);
			assert_true(exists("d"));
		} else {
			objreq_init(&req, OBJ_MPU_CREATE, "m");
			assert_int_equal(obj_do(s, &req), 0);
			objreq_done(&req);
		}
	}
}

static void test_ours_edited(void **state)
{
	char etag[OBJ_ETAG_MAX];
	struct obj_headers h = {0};
	struct objreq req;

	assert_int_equal(obj_headers_set(&h, "x-amz-meta-a", "1"), 0);
	assert_int_equal(obj_put(s, "f", "12345", 5, NULL, false, &h, etag, NULL), 0);
	/* Moved by hand: still the object. */
	assert_int_equal(rename(P("f"), P("g")), 0);
	head("g", &req);
	assert_string_equal(req.etag, etag);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-a"), "1");
	objreq_done(&req);
	/* Longer: another version, and a condition on the old one fails. */
	write_file("g", "123456");
	head("g", &req);
	assert_string_not_equal(req.etag, etag);
	assert_null(obj_headers_get(&req.ret_headers, "x-amz-meta-a"));
	objreq_done(&req);
	assert_int_equal(obj_put(s, "g", "x", 1, etag, false, NULL, NULL, NULL), -ESTALE);
	assert_int_equal(obj_delete(s, "g", etag, NULL), -ESTALE);
	/* Same size, other time. */
	assert_int_equal(obj_put(s, "t", "12345", 5, NULL, false, &h, etag, NULL), 0);
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
	struct stat st;

	assert_int_equal(utimensat(AT_FDCWD, P("t"), ts, 0), 0);
	head("t", &req);
	assert_string_not_equal(req.etag, etag);
	objreq_done(&req);
	assert_int_equal(obj_put(s, "t", "12345", 5, NULL, false, &h, etag, NULL), 0);
	assert_int_equal(stat(P("t"), &st), 0);
	ts[1] = st.st_mtim;
	ts[1].tv_nsec ^= 1;
	assert_int_equal(utimensat(AT_FDCWD, P("t"), ts, 0), 0);
	head("t", &req);
	assert_string_not_equal(req.etag, etag);
	objreq_done(&req);
	/* An attribute that cannot be read counts as none. */
	for (int i = 0; i < 5; i++) {
		static const char *const bad[] = {"", "{", "[]", "{\"etag\":1}", "{\"etag\":\"x\",\"put\":\"y\"}"};

		assert_int_equal(setxattr(P("t"), "user.lsvd", bad[i], strlen(bad[i]), 0), 0);
		assert_body("t", "12345");
		head("t", &req);
		assert_true(obj_headers_get(&req.ret_headers, "x-amz-meta-mode") != NULL);
		objreq_done(&req);
	}
	obj_headers_free(&h);
}

static void test_links(void **state)
{
	char etag[OBJ_ETAG_MAX], want[32], buf[8];
	struct objreq req;

	assert_int_equal(mkdir(P("sub"), 0755), 0);
	assert_int_equal(symlink("/etc", P("out")), 0);
	assert_int_equal(symlink("../x", P("sub/up")), 0);
	assert_int_equal(symlink("dangling", P("d")), 0);
	assert_body("out", "/etc");
	assert_body("sub/up", "../x");
	head("d", &req);
	(void)snprintf(want, sizeof(want), "%u", S_IFLNK | 0777);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-mode"), want);
	assert_int_equal(req.size, 8);
	memcpy(etag, req.etag, sizeof(etag));
	objreq_done(&req);
	objreq_init(&req, OBJ_GET, "d");
	req.off = 2;
	req.len = 3;
	req.buf = buf;
	req.cap = sizeof(buf);
	assert_int_equal(obj_do(s, &req), 0);
	assert_memory_equal(buf, "ngl", 3);
	assert_true(req.truncated);
	objreq_done(&req);
	/* Never through one. */
	assert_int_equal(head_status("out/passwd"), -ENOENT);
	assert_int_equal(put("out/evil", "x", NULL), -ENOTDIR);
	assert_false(access("/etc/evil", F_OK) == 0);
	assert_int_equal(obj_delete(s, "out/passwd", NULL, NULL), 0);
	assert_true(access("/etc/passwd", F_OK) == 0);
	assert_list("out/", false, "");
	assert_list("", false, "d|out|sub/|sub/up");
	/* A PUT replaces the link, not what it points to. */
	write_file("target", "keep");
	assert_int_equal(symlink("target", P("l")), 0);
	assert_int_equal(put("l", "new", NULL), 0);
	assert_body("target", "keep");
	assert_body("l", "new");
	/* A copy is an object of its own, with the link's mode. */
	objreq_init(&req, OBJ_COPY, "copy");
	req.src_key = "d";
	req.src_if_match = etag;
	assert_int_equal(obj_do(s, &req), 0);
	objreq_done(&req);
	assert_body("copy", "dangling");
	head("copy", &req);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-mode"), want);
	objreq_done(&req);
	assert_int_equal(obj_delete(s, "d", etag, NULL), 0);
	assert_false(exists("d"));
}

static void test_special(void **state)
{
	assert_int_equal(mkfifo(P("fifo"), 0600), 0);
	assert_list("", false, "");
	assert_int_equal(head_status("fifo"), -ENOENT); /* does not block */
	assert_int_equal(put("fifo", "x", NULL), -EISDIR);
	assert_int_equal(obj_put(s, "fifo", "x", 1, NULL, true, NULL, NULL, NULL), -EISDIR);
	assert_int_equal(obj_delete(s, "fifo", NULL, NULL), 0);
	assert_true(exists("fifo"));
}

/* --- directories -------------------------------------------------------------------------------------------------- */

static void test_directories(void **state)
{
	struct objreq req;

	/* Made by hand: a marker, also empty, until it is deleted. */
	assert_int_equal(mkdir(P("hand"), 0750), 0);
	assert_list("", false, "hand/");
	assert_list("", true, "hand/");
	head("hand/", &req);
	assert_non_null(obj_headers_get(&req.ret_headers, "x-amz-meta-mode"));
	char etag[OBJ_ETAG_MAX];

	memcpy(etag, req.etag, sizeof(etag));
	objreq_done(&req);
	assert_int_equal(put("hand/f", "x", NULL), 0);
	head("hand/", &req);
	assert_string_equal(req.etag, etag); /* its children do not change it */
	objreq_done(&req);
	assert_int_equal(obj_delete(s, "hand/f", NULL, NULL), 0);
	assert_true(exists("hand"));
	assert_int_equal(obj_delete(s, "hand/", etag, NULL), 0);
	assert_false(exists("hand"));
	/* Made by a PUT below: goes with its last key. */
	assert_int_equal(put("i/j/k", "x", NULL), 0);
	assert_int_equal(put("i/l", "x", NULL), 0);
	assert_list("", false, "i/j/k|i/l");
	assert_int_equal(obj_delete(s, "i/j/k", NULL, NULL), 0);
	assert_false(exists("i/j"));
	assert_true(exists("i"));
	assert_int_equal(obj_delete(s, "i/l", NULL, NULL), 0);
	assert_false(exists("i"));
	/* Emptied by hand: no key, no prefix, and no obstacle. */
	assert_int_equal(put("e/f", "x", NULL), 0);
	assert_int_equal(unlink(P("e/f")), 0);
	assert_list("", true, "");
	assert_list("", false, "");
	assert_int_equal(put("e", "file", NULL), 0);
	assert_body("e", "file");
	/* A marker that is deleted holds up nothing, but what is below holds it up. */
	assert_int_equal(put("m/", "", NULL), 0);
	assert_int_equal(put("m/x", "x", NULL), 0);
	assert_int_equal(obj_delete(s, "m/", NULL, NULL), 0);
	assert_list("", false, "e|m/x");
	assert_int_equal(obj_delete(s, "m/x", NULL, NULL), 0);
	assert_false(exists("m"));
}

/* More names that are no keys than a page keeps: the directory is read on behind them. */
static void test_list_reads_on(void **state)
{
	char name[32];

	for (unsigned i = 0; i < 60; i++) {
		(void)snprintf(name, sizeof(name), "dir/e%02u/f", i);
		assert_int_equal(put(name, "", NULL), 0);
		assert_int_equal(unlink(P(name)), 0); /* by hand: an empty directory stays */
	}
	assert_int_equal(put("dir/z", "", NULL), 0);
	for (unsigned max = 1; max < 4; max++) {
		struct objreq req;

		objreq_init(&req, OBJ_LIST, "");
		req.delimiter = true;
		req.max_keys = max;
		assert_int_equal(obj_do(s, &req), 0);
		assert_int_equal(req.listing->n, 1);
		assert_string_equal(req.listing->v[0].key, "dir/");
		assert_false(req.listing->truncated);
		objreq_done(&req);
		objreq_init(&req, OBJ_LIST, "dir/");
		req.delimiter = max % 2;
		req.max_keys = max;
		assert_int_equal(obj_do(s, &req), 0);
		assert_int_equal(req.listing->n, 1);
		assert_string_equal(req.listing->v[0].key, "dir/z");
		objreq_done(&req);
	}
}

/* --- crashes, processes ------------------------------------------------------------------------------------------- */

static void test_leftovers(void **state)
{
	struct objerr err = {0};
	struct objreq req;
	int fd;

	assert_int_equal(put("x", "x", NULL), 0);
	obj_close(s);
	write_file(".lsvd/tmp/0123456789abcdef0123456789abcdef", "left by a crash");
	assert_int_equal(mkdir(P(".lsvd/tmp/dir"), 0755), 0);
	write_file(".lsvd/tmp/dir/upload", "{}");
	assert_int_equal(mkdir(P(".lsvd/mpu/0123456789abcdef0123456789abcdef"), 0755), 0);
	write_file(".lsvd/mpu/0123456789abcdef0123456789abcdef/00001", "part of a removed upload");
	/* One that its maker still writes. */
	write_file(".lsvd/tmp/alive", "half");
	fd = open(P(".lsvd/tmp/alive"), O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(store_file_new(root, &s, &err), 0);
	assert_int_equal(put("y", "y", NULL), 0);
	assert_int_equal(files_in(".lsvd/tmp"), 1);
	assert_true(exists(".lsvd/tmp/alive"));
	assert_int_equal(files_in(".lsvd/mpu"), 0);
	/* one that was cut short later goes with its abort, without waiting for a start */
	assert_int_equal(mkdir(P(".lsvd/mpu/0123456789abcdef0123456789abcdef"), 0755), 0);
	write_file(".lsvd/mpu/0123456789abcdef0123456789abcdef/00002", "part of a completed upload");
	objreq_init(&req, OBJ_MPU_ABORT, "m");
	req.upload_id = "0123456789abcdef0123456789abcdef";
	assert_int_equal(obj_do(s, &req), 0);
	objreq_done(&req);
	assert_int_equal(files_in(".lsvd/mpu"), 0);
	close(fd);
}

/* Adds n times to a number in an object, each time as GET and PUT If-Match; in a process of its own. */
static int add_process(unsigned n)
{
	struct objstore *mine;
	struct objerr err = {0};

	if (store_file_new(root, &mine, &err) < 0)
		return 2;
	while (n > 0) {
		char buf[16] = "", etag[OBJ_ETAG_MAX];
		struct objreq req;
		int r;

		objreq_init(&req, OBJ_GET, "n");
		req.buf = buf;
		req.cap = sizeof(buf) - 1;
		if (obj_do(mine, &req) < 0)
			return 3;
		memcpy(etag, req.etag, sizeof(etag));
		objreq_done(&req);
		(void)snprintf(buf, sizeof(buf), "%d", atoi(buf) + 1);
		r = obj_put(mine, "n", buf, strlen(buf), etag, false, NULL, NULL, NULL);
		if (r < 0 && r != -ESTALE)
			return 4;
		n -= r == 0;
	}
	obj_close(mine);
	return 0;
}

static void test_processes(void **state)
{
	pid_t pid[3];

	assert_int_equal(put("n", "0", NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (pid[i] == 0)
			_exit(add_process(100));
	}
	for (size_t i = 0; i < ARRAY_SIZE(pid); i++) {
		int st;

		assert_int_equal(waitpid(pid[i], &st, 0), pid[i]);
		assert_true(WIFEXITED(st));
		assert_int_equal(WEXITSTATUS(st), 0);
	}
	assert_body("n", "300");
	assert_int_equal(files_in(".lsvd/tmp"), 0);
}

static void test_old_version_stays_readable(void **state)
{
	char etag[OBJ_ETAG_MAX], buf[16];
	struct objreq req;
	int fd;

	assert_int_equal(put("v", "version 1", etag), 0);
	fd = open(P("v"), O_RDONLY);
	assert_int_equal(put("v", "version 2", NULL), 0);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), 9);
	assert_memory_equal(buf, "version 1", 9);
	close(fd);
	objreq_init(&req, OBJ_GET, "v");
	req.buf = buf;
	req.cap = sizeof(buf);
	req.if_match = etag;
	assert_int_equal(obj_do(s, &req), -ESTALE);
	objreq_done(&req);
}

static void test_too_many_headers(void **state)
{
	struct obj_headers h = {0};
	struct objerr err = {0};
	char big[60000];
	int r;

	assert_int_equal(put("h", "old", NULL), 0);
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	for (int i = 0; i < 2; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "x-amz-meta-%d", i);
		assert_int_equal(obj_headers_set(&h, name, big), 0);
	}
	r = obj_put(s, "h", "new", 3, NULL, false, &h, NULL, &err);
	assert_true(r == -EINVAL || r == -ENOSPC);
	assert_non_null(strstr(err.msg, "headers"));
	assert_body("h", "old");
	assert_int_equal(files_in(".lsvd/tmp"), 0);
	obj_headers_free(&h);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tree),	    T(test_opens_read_only), T(test_refusals),	 T(test_by_hand),
		T(test_ours_edited), T(test_edited_while_read), T(test_room_removed), T(test_links),	     T(test_special),	 T(test_directories),
		T(test_list_reads_on), T(test_leftovers),  T(test_processes),	     T(test_old_version_stays_readable),
		T(test_too_many_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
