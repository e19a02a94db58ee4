/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-headers.c - headers from anybody: dialects, extended attributes, symlink targets. Input: lines "name: value".
 * Beyond not crashing: what is read is a sane stat, and what is written is read back.
 */
#include "config.h"
#include "meta/attr.h"
#include "meta/dialect.h"
#include "meta/tree.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static void check(bool ok)
{
	if (!ok)
		abort();
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
	check_xattr(&h);
	obj_headers_free(&h);
	return 0;
}
