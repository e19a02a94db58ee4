/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-headers.c - headers from anybody: dialects, extended attributes, symlink targets. Input: lines "name: value".
 * Beyond not crashing: what is read is a sane stat, and what is written is read back.
 */
#include "config.h"
#include "fuzz.h"
#include "meta/attr.h"
#include "meta/dialect.h"
#include "meta/tree.h"

static unsigned refused;

static void read_lines(const uint8_t *data, size_t size, struct obj_headers *h)
{
	const char *p = (const char *)data, *end = p + size;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		const char *colon = memchr(p, ':', n);

		if (colon && h->n < 64) {
			const char *v = colon + 1;

			v += v < p + n && *v == ' ';
			char *name = strndup(p, (size_t)(colon - p)), *value = strndup(v, (size_t)(p + n - v));

			/* Control characters are refused, as from a reply: then there is one header less. */
			refused += !name || !value || obj_headers_set(h, name, value);
			free(name);
			free(value);
		}
		p += n + 1;
	}
}

static void check_attr(const struct obj_headers *h, bool is_dir)
{
	static const struct attr_defaults def = {.uid = 1, .gid = 2, .file_mode = 0644, .dir_mode = 0755};
	struct obj_headers out = {};
	struct attr a, b;

	attr_from_headers(h, is_dir, 7, 42, &def, &a);
	check(S_ISDIR(a.mode) == is_dir && (a.mode & S_IFMT) && a.mode <= 0177777);
	check(a.mtime.tv_nsec >= 0 && a.mtime.tv_nsec < NSEC_PER_SEC && a.uid != (uid_t)-1 && a.gid != (gid_t)-1);
	if (obj_headers_copy(&out, h) || attr_to_headers(&a, &out))
		abort();
	attr_from_headers(&out, is_dir, 7, 43, &def, &b);
	check(a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.rdev == b.rdev);
	check(a.mtime.tv_sec == b.mtime.tv_sec && a.mtime.tv_nsec == b.mtime.tv_nsec);
	check(a.atime.tv_sec == b.atime.tv_sec && a.ctime.tv_nsec == b.ctime.tv_nsec);
	for (size_t i = 0; i < out.n; i++)
		if (!strncmp(out.v[i].name, "x-amz-meta-m", 12) && !obj_headers_get(h, out.v[i].name))
			for (const char *p = out.v[i].value; *p; p++)
				check((unsigned char)*p < 0x80);
	obj_headers_free(&out);
}

/* Any attributes that a file can have: written and read they are the same. */
static void check_attr_bytes(const uint8_t *data, size_t size, const struct obj_headers *h)
{
	static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
	static const struct attr_defaults def = {.file_mode = 0644, .dir_mode = 0755};
	struct obj_headers out = {};
	uint64_t v[10] = {0};
	struct attr a = {}, b;
	bool is_dir;

	memcpy(v, data, MIN(size, sizeof(v)));
	a.mode = types[v[0] % ARRAY_SIZE(types)] | (mode_t)(v[1] & 07777);
	is_dir = S_ISDIR(a.mode);
	if (S_ISLNK(a.mode))
		a.mode = S_IFLNK | 0777;
	a.uid = (uid_t)(v[2] % UINT32_MAX);
	a.gid = (gid_t)(v[3] % UINT32_MAX);
	a.rdev = S_ISCHR(a.mode) || S_ISBLK(a.mode) ? (dev_t)v[4] : 0;
	/* what dialect.c takes for a time: +-2^40 seconds */
	a.mtime = (struct timespec){(int64_t)(v[5] << 23) >> 23, (long)(v[6] % 1000000000)};
	a.ctime = (struct timespec){(int64_t)(v[6] << 23) >> 23, (long)(v[7] % 1000000000)};
	a.atime = (struct timespec){(int64_t)(v[8] << 24) >> 24, (long)(v[9] % 1000000000)};
	if (obj_headers_copy(&out, h) || attr_to_headers(&a, &out))
		abort();
	attr_from_headers(&out, is_dir, 7, 43, &def, &b);
	check(a.mode == b.mode && a.uid == b.uid && a.gid == b.gid && a.rdev == b.rdev);
	check(a.mtime.tv_sec == b.mtime.tv_sec && a.mtime.tv_nsec == b.mtime.tv_nsec);
	check(a.ctime.tv_sec == b.ctime.tv_sec && a.ctime.tv_nsec == b.ctime.tv_nsec);
	check(a.atime.tv_sec == b.atime.tv_sec && a.atime.tv_nsec == b.atime.tv_nsec);
	obj_headers_free(&out);
}

/* Values by themselves, what is taken in its range; types of contents and sizes never fail. */
static void check_values(const uint8_t *data, size_t size)
{
	char *z = strndup((const char *)data, MIN(size, (size_t)300));
	struct timespec ts, again;
	char text[DIALECT_TIME_LEN];
	mode_t mode;

	check(z);
	if (!dialect_parse_mode(z, &mode))
		check(mode <= 0177777);
	if (!dialect_parse_time(z, &ts)) {
		check(ts.tv_nsec >= 0 && ts.tv_nsec < NSEC_PER_SEC);
		dialect_format_time(&ts, text);
		check(!dialect_parse_time(text, &again) && again.tv_sec == ts.tv_sec && again.tv_nsec == ts.tv_nsec);
	}
	check(strchr(attr_guess_type(z), '/'));
	free(z);
}

static void check_xattr(struct obj_headers *h)
{
	char list[8192], value[8192], again[8192];
	ssize_t n = attr_xattr_list(h, list, sizeof(list));

	check(n >= 0 || n == -ERANGE);
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(list + at) + 1) {
		ssize_t len = attr_xattr_get(h, list + at, value, sizeof(value));

		if (len < 0)
			continue;
		/* Set to what it is: still what it is. */
		if (attr_xattr_set(h, list + at, value, (size_t)len, 0) == 0) {
			check(attr_xattr_get(h, list + at, again, sizeof(again)) == len);
			check(!memcmp(value, again, (size_t)len));
		}
	}
	if (attr_xattr_set(h, "user.fuzz", "v", 1, 0) == 0) {
		check(attr_xattr_get(h, "user.fuzz", again, sizeof(again)) == 1 && again[0] == 'v');
		check(attr_xattr_set(h, "user.fuzz", NULL, 0, 0) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct obj_headers h = {};
	struct version a = {.etag = "abc", .size = 3}, b = {.etag = "def", .size = 3};
	char *target;

	read_lines(data, size, &h);
	check_attr(&h, false);
	check_attr(&h, true);
	if (!dialect_symlink_target(&h, &target)) {
		check(*target || !strlen(target));
		free(target);
	}
	(void)version_same_bytes(&a, &b, &h);
	check_attr_bytes(data, size, &h);
	check_values(data, size);
	check_xattr(&h);
	check(attr_meta_bytes(&h) <= ATTR_META_MAX || attr_meta_bytes(&h) <= 2 * size + ATTR_META_MAX);
	obj_headers_free(&h);
	return 0;
}
