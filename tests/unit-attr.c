/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-attr.c - tables for names, attributes and the dialects of others. */
#include "config.h"
#include "meta-lib.h"
#include "meta/attr.h"
#include "meta/dialect.h"
#include "meta/path.h"

#include <sys/xattr.h>

static void test_check_name(void **state)
{
	char longest[PATH_NAME_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[PATH_NAME_MAX + 1] = '\0';
	assert_int_equal(path_check_name(longest), -ENAMETOOLONG);
	longest[PATH_NAME_MAX] = '\0';
	assert_int_equal(path_check_name(longest), 0);
	assert_true(path_component_ok(longest, PATH_NAME_MAX));
	assert_int_equal(path_check_name(""), -EINVAL);
	assert_int_equal(path_check_name("."), -EINVAL);
	assert_int_equal(path_check_name(".."), -EINVAL);
	assert_int_equal(path_check_name("a/b"), -EINVAL);
	assert_int_equal(path_check_name(".lsvd"), -EPERM);
	assert_int_equal(path_check_name("\xc3\x28"), -EILSEQ);
	assert_int_equal(path_check_name("\xed\xa0\x80"), -EILSEQ);
	assert_int_equal(path_check_name("..."), 0);
	assert_int_equal(path_check_name(".lsvd2"), 0);
	assert_int_equal(path_check_name(" \n\t\xf0\x9f\x98\x80"), 0);
	assert_false(path_component_ok("a\0b", 3));
	assert_false(path_component_ok("", 0));
	assert_false(path_component_ok("..", 2));
	assert_false(path_component_ok(".lsvd", 5));
	assert_true(path_component_ok(".lsv", 4));
}

static void test_key(void **state)
{
	char name[PATH_NAME_MAX + 1], dir[1001], *key;

	assert_int_equal(path_key("p/", "a/b/", "c", false, &key), 0);
	assert_string_equal(key, "p/a/b/c");
	free(key);
	assert_int_equal(path_key("", "", "c", true, &key), 0);
	assert_string_equal(key, "c/");
	free(key);
	memset(name, 'n', PATH_NAME_MAX);
	name[PATH_NAME_MAX] = '\0';
	memset(dir, 'd', 1000);
	dir[1000] = '\0';
	dir[768] = '/';
	dir[769] = '\0'; /* 769 + 255 = 1024 */
	assert_int_equal(path_key("", dir, name, false, &key), 0);
	free(key);
	assert_int_equal(path_key("", dir, name, true, &key), -ENAMETOOLONG);
}

static void test_globs(void **state)
{
	static const struct {
		const char *globs, *path;
		bool match;
	} t[] = {
		{"*.lock:*.pid", "a.pid", true},  {"*.lock:*.pid", "a.pi", false}, {"*", "a/b", false},
		{"**", "a/b", true},		  {"vm/*", "vm/a", true},	   {"vm/*", "vm/a/b", false},
		{"vm/**", "vm/a/b", true},	  {"**/x.img", "x.img", true},	   {"**/x.img", "a/b/x.img", true},
		{"**/x.img", "ax.img", false},	  {"a/**/b", "a/b", true},	   {"a/**/b", "a/x/y/b", true},
		{"a?c", "abc", true},		  {"a?c", "a/c", false},	   {"[a-c]x", "bx", true},
		{"[!a-c]x", "bx", false},	  {"[!a-c]x", "dx", true},	   {"[", "[", true},
		{"\\*", "*", true},		  {"\\*", "a", false},		   {"", "", false},
		{"a:", "a", true},		  {":", "", false},		   {"x[]]", "x]", true},
		{"**a**a**a**a**a**a**b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
		{"vm1/sd*", "vm1/sda", true},	  {"vm1/sd*", "vm1/x/sda", false}, {"[a", "[a", true},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		if (path_glob_match(t[i].globs, t[i].path) != t[i].match)
			fail_msg("%s against %s", t[i].globs, t[i].path);
	assert_false(path_glob_match(NULL, "a"));
}

static void test_modes(void **state)
{
	static const struct {
		const char *s;
		int mode; /* -1: refused */
	} t[] = {
		{"33188", 0100644}, {"16877", 040755},	 {"41471", 0120777}, {"100644", 0100644}, {"040755", 040755},
		{"40755", 040755},  {"120777", 0120777}, {"0644", 0644},     {"644", 0644},	  {"493", 0755},
		{"0", 0},	    {"7", 7},		 {"8", 010},	     {"65535", 065535},	  {"", -1},
		{"-1", -1},	    {"33188x", -1},	 {" 33188", -1},     {"010644", 010644},  {"4294967296", -1},
		{"99999999999999999999999999", -1},	 {"777777", -1},     {"2755", 02755}, {"4516", 010644},	  {"60644", 060644},
		{"20666", 020666},  {"0100644", 0100644}, {"4096", 010000},  {"8630", 020666},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		mode_t m = 0;
		int r = dialect_parse_mode(t[i].s, &m);

		if (t[i].mode < 0 ? r != -EINVAL : r != 0 || m != (mode_t)t[i].mode)
			fail_msg("%s: %d 0%o", t[i].s, r, m);
	}
}

static void test_times(void **state)
{
	static const struct {
		const char *s;
		bool ok;
		int64_t sec;
		long ns;
	} t[] = {
		{"1700000000", true, 1700000000, 0},
		{"1700000000.000000005", true, 1700000000, 5},
		{"1700000000.5", true, 1700000000, 500000000},
		{"1700000000.1234567899", true, 1700000000, 123456789},
		{"-1.5", true, -2, 500000000},
		{"-0.5", true, -1, 500000000},
		{"-10", true, -10, 0},
		{"0", true, 0, 0},
		{"1595002920000000000ns", true, 1595002920, 0},
		{"1595002920000000007ns", true, 1595002920, 7},
		{"-1ns", true, -1, 999999999},
		{"2006-01-02T15:04:05Z", true, 1136214245, 0},
		{"2006-01-02T15:04:05.999999999Z", true, 1136214245, 999999999},
		{"2006-01-02T15:04:05+07:00", true, 1136189045, 0},
		{"1969-12-31T23:59:59.5Z", true, -1, 500000000},
		{"2000-02-29T00:00:00Z", true, 951782400, 0},
		{"1900-01-01T00:00:00Z", true, -2208988800, 0},
		{"", false, 0, 0},
		{".5", false, 0, 0},
		{"5.", false, 0, 0},
		{"1e9", false, 0, 0},
		{"99999999999999999999", false, 0, 0},
		{"1700000000.5x", false, 0, 0},
		{"2006-13-02T15:04:05Z", false, 0, 0},
		{"2006-01-02T15:04:05", false, 0, 0},
		{"2006-01-02T15:04:05+0700", false, 0, 0},
		{"--5", false, 0, 0},
		{"nan", false, 0, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct timespec ts = {};
		int r = dialect_parse_time(t[i].s, &ts);

		if (t[i].ok ? r || ts.tv_sec != t[i].sec || ts.tv_nsec != t[i].ns : r != -EINVAL)
			fail_msg("%s: %d %ld.%09ld", t[i].s, r, (long)ts.tv_sec, ts.tv_nsec);
	}
}

static void test_time_round_trip(void **state)
{
	static const struct timespec t[] = {{0, 0},	   {1, 5},		{-1, 0},	     {-1, 500000000},
					    {-2, 1},	   {1700000000, 999999999}, {-2208988800, 123456789},
					    {1ll << 39, 1}};
	char buf[DIALECT_TIME_LEN];

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct timespec got;

		dialect_format_time(&t[i], buf);
		assert_int_equal(strlen(strchr(buf, '.') + 1), 9);
		assert_int_equal(dialect_parse_time(buf, &got), 0);
		assert_int_equal(got.tv_sec, t[i].tv_sec);
		assert_int_equal(got.tv_nsec, t[i].tv_nsec);
	}
	dialect_format_time(&(struct timespec){-2, 500000000}, buf);
	assert_string_equal(buf, "-1.500000000");
}

/* "name=value;..." without the common prefix; a leading ':' keeps the name whole. */
static void set_headers(struct obj_headers *h, const char *text)
{
	char buf[1024], name[256], *rest = buf;

	assert_int_equal(str_copy(buf, sizeof(buf), text), 0);
	for (char *item = strsep(&rest, ";"); item; item = strsep(&rest, ";")) {
		char *eq = strchr(item, '=');

		if (!eq)
			continue;
		*eq = '\0';
		snprintf(name, sizeof(name), "%s%s", *item == ':' ? "" : "x-amz-meta-", *item == ':' ? item + 1 : item);
		assert_int_equal(obj_headers_set(h, name, eq + 1), 0);
	}
}

static const struct attr_defaults def = {.uid = 1000, .gid = 1001, .file_mode = 0666, .dir_mode = 0777, .umask = 022};

static void test_dialects(void **state)
{
	static const struct {
		const char *headers;
		bool dir;
		mode_t mode;
		uid_t uid;
		gid_t gid;
		int64_t mtime;
		long ns;
	} t[] = {
		{"", false, S_IFREG | 0644, 1000, 1001, 42, 0},
		{"", true, S_IFDIR | 0755, 1000, 1001, 42, 0},
		/* s3fs */
		{"mode=33152;uid=0;gid=5;mtime=1700000000.000000005", false, S_IFREG | 0600, 0, 5, 1700000000, 5},
		{"mode=16832;uid=1;gid=2;mtime=7", true, S_IFDIR | 0700, 1, 2, 7, 0},
		{"mode=41471", false, S_IFLNK | 0777, 1000, 1001, 42, 0},
		/* rclone --metadata */
		{"mode=100640;uid=3;mtime=1700000000.5;btime=2006-01-02T15:04:05Z", false, S_IFREG | 0640, 3, 1001,
		 1700000000, 500000000},
		/* FSx, DataSync */
		{"file-permissions=0100664;file-owner=500;file-group=501;file-mtime=1595002920000000000ns", false,
		 S_IFREG | 0664, 500, 501, 1595002920, 0},
		/* s3sync */
		{"permissions=420;owner=9;group=8", false, S_IFREG | 0644, 9, 8, 42, 0},
		/* gsutil, gcsfuse */
		{"goog-reserved-posix-mode=750;goog-reserved-posix-uid=4;goog-reserved-posix-gid=6;"
		 "goog-reserved-file-mtime=99",
		 false, S_IFREG | 0750, 4, 6, 99, 0},
		{"gcsfuse_mtime=2006-01-02T15:04:05.5Z", false, S_IFREG | 0644, 1000, 1001, 1136214245, 500000000},
		{"goog-reserved-file-is-symlink=true", false, S_IFLNK | 0777, 1000, 1001, 42, 0},
		{"gcsfuse_symlink_target=../x", false, S_IFLNK | 0777, 1000, 1001, 42, 0},
		{"--symlink-target=x%20y;mode=420", false, S_IFLNK | 0777, 1000, 1001, 42, 0},
		{"is_symlink=true", false, S_IFLNK | 0777, 1000, 1001, 42, 0},
		{"is_symlink=false", false, S_IFREG | 0644, 1000, 1001, 42, 0},
		/* s3cmd */
		{"s3cmd-attrs=atime:1/ctime:2/gid:3/gname:root/md5:0/mode:33261/mtime:4/uid:5/uname:root", false,
		 S_IFREG | 0755, 5, 3, 4, 0},
		/* the first one wins, field by field */
		{"mode=33152;file-permissions=0100777;file-owner=7;owner=8", false, S_IFREG | 0600, 7, 1001, 42, 0},
		/* nonsense is as if absent */
		{"mode=abc;uid=-1;gid=4294967295;mtime=yesterday", false, S_IFREG | 0644, 1000, 1001, 42, 0},
		{"mode=999999;file-permissions=0100600", false, S_IFREG | 0600, 1000, 1001, 42, 0},
		/* a key says what is a directory */
		{"mode=16877", false, S_IFREG | 0755, 1000, 1001, 42, 0},
		{"mode=33188", true, S_IFDIR | 0644, 1000, 1001, 42, 0},
		{"hdi_isfolder=true", false, S_IFREG | 0644, 1000, 1001, 42, 0},
		{":content-type=application/x-directory", false, S_IFREG | 0644, 1000, 1001, 42, 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct obj_headers h = {};
		struct attr a;

		set_headers(&h, t[i].headers);
		attr_from_headers(&h, t[i].dir, 0, 42, &def, &a);
		if (a.mode != t[i].mode || a.uid != t[i].uid || a.gid != t[i].gid || a.mtime.tv_sec != t[i].mtime ||
		    a.mtime.tv_nsec != t[i].ns)
			fail_msg("%s: 0%o %u:%u %ld.%09ld", t[i].headers, a.mode, a.uid, a.gid, (long)a.mtime.tv_sec,
				 a.mtime.tv_nsec);
		obj_headers_free(&h);
	}
}

static void test_force_owner(void **state)
{
	struct attr_defaults forced = def;
	struct obj_headers h = {};
	struct attr a;

	forced.force_owner = true;
	set_headers(&h, "mode=33279;uid=5;gid=6");
	attr_from_headers(&h, false, 0, 1, &forced, &a);
	assert_int_equal(a.mode, S_IFREG | 0644);
	assert_int_equal(a.uid, 1000);
	assert_int_equal(a.gid, 1001);
	attr_from_headers(NULL, true, 0, 1, &forced, &a);
	assert_int_equal(a.mode, S_IFDIR | 0755);
	obj_headers_free(&h);
}

static void test_attr_round_trip(void **state)
{
	struct attr a = {.mode = S_IFCHR | 0620, .uid = 4294967294u, .gid = 0, .rdev = 0x12345, .mtime = {-2, 7},
			 .ctime = {5, 0}, .atime = {6, 999999999}}, b;
	struct obj_headers h = {};

	set_headers(&h, "file-permissions=0100777;goog-reserved-posix-uid=3;permissions=1;custom=kept;"
			"gcsfuse_symlink_target=t;:cache-control=no-cache");
	assert_int_equal(attr_to_headers(&a, &h), 0);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-mode"), "8592");
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-atime"), "6.999999999");
	assert_null(obj_headers_get(&h, "x-amz-meta-file-permissions"));
	assert_null(obj_headers_get(&h, "x-amz-meta-goog-reserved-posix-uid"));
	assert_null(obj_headers_get(&h, "x-amz-meta-permissions"));
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-custom"), "kept");
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-gcsfuse_symlink_target"), "t");
	assert_string_equal(obj_headers_get(&h, "cache-control"), "no-cache");
	attr_from_headers(&h, false, 0, 1, &def, &b);
	assert_int_equal(b.mode, a.mode);
	assert_int_equal(b.uid, a.uid);
	assert_int_equal(b.rdev, a.rdev);
	assert_int_equal(b.mtime.tv_sec, -2);
	assert_int_equal(b.mtime.tv_nsec, 7);
	assert_int_equal(b.atime.tv_nsec, 999999999);
	a.mode = S_IFREG | 0600;
	assert_int_equal(attr_to_headers(&a, &h), 0);
	assert_null(obj_headers_get(&h, "x-amz-meta-rdev"));
	obj_headers_free(&h);
}

static void test_xattr(void **state)
{
	struct obj_headers h = {};
	char buf[64], big[ATTR_META_MAX];

	assert_int_equal(attr_xattr_get(&h, "user.a", NULL, 0), -ENODATA);
	assert_int_equal(attr_xattr_list(&h, NULL, 0), 0);
	assert_int_equal(attr_xattr_set(&h, "user.a", "\0\xff z", 4, 0), 0);
	/* As s3fs writes it: percent-coded JSON of base64. */
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-xattr"), "%7B%22user.a%22%3A%22AP8geg%3D%3D%22%7D");
	assert_int_equal(attr_xattr_get(&h, "user.a", NULL, 0), 4);
	assert_int_equal(attr_xattr_get(&h, "user.a", buf, 3), -ERANGE);
	assert_int_equal(attr_xattr_get(&h, "user.a", buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "\0\xff z", 4);
	assert_int_equal(attr_xattr_set(&h, "user.a", "x", 1, XATTR_CREATE), -EEXIST);
	assert_int_equal(attr_xattr_set(&h, "user.b", "x", 1, XATTR_REPLACE), -ENODATA);
	assert_int_equal(attr_xattr_set(&h, "user.\xc3\xa9", "", 0, XATTR_CREATE), 0);
	assert_int_equal(attr_xattr_get(&h, "user.\xc3\xa9", buf, sizeof(buf)), 0);
	assert_int_equal(attr_xattr_set(&h, "user.\xff", "x", 1, 0), -EILSEQ);
	assert_int_equal(attr_xattr_list(&h, buf, 5), -ERANGE);
	assert_int_equal(attr_xattr_list(&h, buf, sizeof(buf)), 15);
	memset(big, 'x', sizeof(big));
	assert_int_equal(attr_xattr_set(&h, "user.big", big, sizeof(big), 0), -ENOSPC);
	assert_int_equal(attr_xattr_get(&h, "user.big", NULL, 0), -ENODATA);
	assert_int_equal(attr_xattr_get(&h, "user.a", NULL, 0), 4);
	assert_int_equal(attr_xattr_set(&h, "user.a", NULL, 0, 0), 0);
	assert_int_equal(attr_xattr_set(&h, "user.a", NULL, 0, 0), -ENODATA);
	assert_int_equal(attr_xattr_set(&h, "user.\xc3\xa9", NULL, 0, 0), 0);
	assert_null(obj_headers_get(&h, "x-amz-meta-xattr"));
	/* What s3fs keeps of other namespaces cannot be read here, and a listing of it would only make cp -a complain. */
	set_headers(&h, "xattr=%7B%22security.selinux%22%3A%22eA%3D%3D%22%2C%22user.z%22%3A%22eA%3D%3D%22%7D");
	assert_int_equal(attr_xattr_list(&h, buf, sizeof(buf)), 7);
	assert_string_equal(buf, "user.z");
	/* Not ours to understand: nothing is shown, nothing is overwritten. */
	set_headers(&h, "xattr=%7Bbroken");
	assert_int_equal(attr_xattr_list(&h, NULL, 0), 0);
	assert_int_equal(attr_xattr_get(&h, "a", NULL, 0), -ENODATA);
	assert_int_equal(attr_xattr_set(&h, "a", "x", 1, 0), -EIO);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-xattr"), "%7Bbroken");
	obj_headers_free(&h);
}

static void test_content_types(void **state)
{
	assert_string_equal(attr_guess_type("a.html"), "text/html");
	assert_string_equal(attr_guess_type("A.JPEG"), "image/jpeg");
	assert_string_equal(attr_guess_type("x.tar.gz"), "application/gzip");
	assert_string_equal(attr_guess_type(".html"), "application/octet-stream");
	assert_string_equal(attr_guess_type("html"), "application/octet-stream");
	assert_string_equal(attr_guess_type("x.unknown"), "application/octet-stream");
	assert_string_equal(attr_guess_type("x."), "application/octet-stream");
	/* Every one of the table is found: it is sorted. */
	assert_string_equal(attr_guess_type("x.7z"), "application/x-7z-compressed");
	assert_string_equal(attr_guess_type("x.c"), "text/x-c");
	assert_string_equal(attr_guess_type("x.m3u8"), "application/vnd.apple.mpegurl");
	assert_string_equal(attr_guess_type("x.woff2"), "font/woff2");
	assert_string_equal(attr_guess_type("x.zst"), "application/zstd");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_name),	 cmocka_unit_test(test_key),
		cmocka_unit_test(test_globs),		 cmocka_unit_test(test_modes),
		cmocka_unit_test(test_times),		 cmocka_unit_test(test_time_round_trip),
		cmocka_unit_test(test_dialects),	 cmocka_unit_test(test_force_owner),
		cmocka_unit_test(test_attr_round_trip),	 cmocka_unit_test(test_xattr),
		cmocka_unit_test(test_content_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
