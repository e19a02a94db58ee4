/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * attr.c - stat <-> object headers, extended attributes, content types.
 *
 * What an object is follows from its key first: one that ends in '/' is a directory, any other is none, whatever its
 * headers say; headers only choose among the other types. Permissions without a type are a regular file's. Nothing here
 * fails on foreign bytes, and no default is ever mode 000.
 */
#include "config.h"
#include "attr.h"

#include "dialect.h"
#include "objstore/base/str.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/xattr.h>

static mode_t pick_mode(const struct attr *a, bool is_dir, const struct attr_defaults *def)
{
	mode_t perm = a->mode & 07777, type = a->mode & S_IFMT;

	if (!(a->have & ATTR_MODE))
		perm = type = 0;
	if (is_dir)
		type = S_IFDIR;
	else if (!type || type == S_IFDIR)
		type = S_IFREG;
	if (type == S_IFLNK)
		perm = 0777; /* symlink(7): the permissions of a symlink are not used */
	else if (!(a->have & ATTR_MODE) || def->force_owner)
		perm = (is_dir ? def->dir_mode : def->file_mode) & ~def->umask & 07777;
	return type | perm;
}

void attr_from_headers(const struct obj_headers *h, bool key_is_dir, uint64_t size, int64_t last_modified_s,
		       const struct attr_defaults *def, struct attr *ret)
{
	struct attr a = {};
	struct timespec lm = {.tv_sec = last_modified_s};

	if (h)
		dialect_read(h, &a);
	a.mode = pick_mode(&a, key_is_dir, def);
	if (!(a.have & ATTR_UID) || def->force_owner)
		a.uid = def->uid;
	if (!(a.have & ATTR_GID) || def->force_owner)
		a.gid = def->gid;
	if (!(a.have & ATTR_MTIME))
		a.mtime = lm;
	if (!(a.have & ATTR_CTIME))
		a.ctime = lm;
	if (!(a.have & ATTR_ATIME))
		a.atime = lm;
	if (!S_ISCHR(a.mode) && !S_ISBLK(a.mode))
		a.rdev = 0;
	*ret = a;
}

static int set_number(struct obj_headers *h, const char *name, uint64_t v)
{
	char buf[24];

	snprintf(buf, sizeof(buf), "%" PRIu64, v);
	return obj_headers_set(h, name, buf);
}

static int set_time(struct obj_headers *h, const char *name, const struct timespec *ts)
{
	char buf[DIALECT_TIME_LEN];

	dialect_format_time(ts, buf);
	return obj_headers_set(h, name, buf);
}

int attr_to_headers(const struct attr *a, struct obj_headers *h)
{
	int r = dialect_clean(h);

	if (!r)
		r = set_number(h, META_PREFIX "mode", a->mode);
	if (!r)
		r = set_number(h, META_PREFIX "uid", a->uid);
	if (!r)
		r = set_number(h, META_PREFIX "gid", a->gid);
	if (!r)
		r = set_time(h, META_PREFIX "mtime", &a->mtime);
	if (!r)
		r = set_time(h, META_PREFIX "ctime", &a->ctime);
	if (!r)
		r = set_time(h, META_PREFIX "atime", &a->atime);
	if (r)
		return r;
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
		return set_number(h, META_PREFIX "rdev", a->rdev);
	if (obj_headers_get(h, META_PREFIX "rdev"))
		return obj_headers_set(h, META_PREFIX "rdev", NULL);
	return 0;
}

/* --- extended attributes -------------------------------------------------------------------------------------- */

#define HDR_XATTR META_PREFIX "xattr"
#define XATTR_NAME_LEN 255 /* xattr(7) */
static const char b64_digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* RFC 4648 section 4, padded. */
static int b64_encode(const void *p, size_t n, char **ret)
{
	const unsigned char *b = p;
	struct str s = {};

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)b[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)b[i + 1] << 8;
		if (i + 2 < n)
			v |= b[i + 2];
		str_addc(&s, b64_digit[v >> 18]);
		str_addc(&s, b64_digit[v >> 12 & 63]);
		str_addc(&s, i + 1 < n ? b64_digit[v >> 6 & 63] : '=');
		str_addc(&s, i + 2 < n ? b64_digit[v & 63] : '=');
	}
	return str_take(&s, ret);
}

/* Padding optional, anything else strict; out has room for 3 * strlen(z) / 4 bytes. Length or -EINVAL. */
static ssize_t b64_decode(const char *z, unsigned char *out)
{
	size_t n = strlen(z), len = 0;
	uint32_t v = 0;
	unsigned bits = 0;

	while (n && z[n - 1] == '=')
		n--;
	if (n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const char *d = memchr(b64_digit, z[i], 64);

		if (!d)
			return -EINVAL;
		v = v << 6 | (uint32_t)(d - b64_digit);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[len++] = (unsigned char)(v >> bits);
		}
	}
	return (ssize_t)len;
}

/*
 * The header as a JSON object, an empty one when there is none; the caller drops the reference. -EIO when it is not to be
 * understood: a reader then sees no attributes, a writer must not replace what somebody else may understand.
 */
static int xattr_parse(const struct obj_headers *h, json_t **ret)
{
	const char *v = obj_headers_get(h, HDR_XATTR);
	_cleanup_free_ char *s = NULL;
	json_error_t err;
	ssize_t n;
	json_t *j;

	if (!v) {
		*ret = json_object();
		return *ret ? 0 : -ENOMEM;
	}
	s = strdup(v);
	if (!s)
		return -ENOMEM;
	n = str_pct_decode(s);
	if (n < 0)
		return -EIO;
	j = json_loadb(s, (size_t)n, JSON_REJECT_DUPLICATES, &err);
	if (!j)
		return json_error_code(&err) == json_error_out_of_memory ? -ENOMEM : -EIO;
	if (!json_is_object(j)) {
		json_decref(j);
		return -EIO;
	}
	*ret = j;
	return 0;
}

ssize_t attr_xattr_get(const struct obj_headers *h, const char *name, void *buf, size_t cap)
{
	json_t *j = NULL;
	_cleanup_free_ unsigned char *out = NULL;
	ssize_t r = xattr_parse(h, &j);
	const char *z = json_string_value(json_object_get(j, name));

	if (r < 0)
		return r == -EIO ? -ENODATA : r;
	r = -ENODATA;
	if (!z)
		goto out;
	out = malloc(strlen(z) + 1);
	if (!out) {
		r = -ENOMEM;
		goto out;
	}
	r = b64_decode(z, out);
	if (r < 0)
		r = -ENODATA;
	else if (cap && (size_t)r > cap)
		r = -ERANGE;
	else if (cap && r)
		memcpy(buf, out, (size_t)r);
out:
	json_decref(j);
	return r;
}

ssize_t attr_xattr_list(const struct obj_headers *h, char *buf, size_t cap)
{
	json_t *j = NULL, *value;
	const char *key;
	size_t need = 0;
	ssize_t r = xattr_parse(h, &j);

	if (r < 0)
		return r == -EIO ? 0 : r;
	/* Only names that getxattr can answer: a string value, a name the kernel takes, and the one namespace of ours. */
	json_object_foreach(j, key, value) {
		size_t n = strlen(key) + 1;

		if (!json_is_string(value) || n > XATTR_NAME_LEN + 1 || !str_has_prefix(key, "user.") || n == sizeof("user."))
			continue;
		if (cap && need + n <= cap)
			memcpy(buf + need, key, n);
		need += n;
	}
	r = cap && need > cap ? -ERANGE : (ssize_t)need;
	json_decref(j);
	return r;
}

/* Stores the object back, or drops the header when it is empty. */
static int xattr_store(struct obj_headers *h, json_t *j)
{
	struct str s = {};
	char *text;
	int r;

	if (!json_object_size(j))
		return obj_headers_get(h, HDR_XATTR) ? obj_headers_set(h, HDR_XATTR, NULL) : 0;
	text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text)
		return -ENOMEM;
	str_add_pct(&s, text, strlen(text), false);
	free(text);
	r = s.err ? s.err : obj_headers_set(h, HDR_XATTR, str_c(&s));
	str_free(&s);
	return r;
}

int attr_xattr_set(struct obj_headers *h, const char *name, const void *value, size_t n, int flags)
{
	json_t *j = NULL;
	_cleanup_free_ char *b64 = NULL;
	struct obj_headers next = {};
	bool there;
	int r = xattr_parse(h, &j);

	if (r < 0)
		return r;
	there = json_object_get(j, name) != NULL;
	r = there && (flags & XATTR_CREATE) ? -EEXIST : 0;
	if (!there && (!value || (flags & XATTR_REPLACE)))
		r = -ENODATA;
	if (!r && !str_is_utf8(name, strlen(name)))
		r = -EILSEQ; /* JSON has no other text */
	if (!r && value && n > ATTR_META_MAX)
		r = -ENOSPC;
	if (r)
		goto out;
	if (value) {
		r = b64_encode(value, n, &b64);
		if (!r && json_object_set_new(j, name, json_string(b64)))
			r = -ENOMEM;
	} else {
		(void)json_object_del(j, name); /* it is there */
	}
	/* Into a copy first: h must stay as it was when the result is too large. */
	if (!r)
		r = obj_headers_copy(&next, h);
	if (!r)
		r = xattr_store(&next, j);
	if (!r && value && attr_meta_bytes(&next) > ATTR_META_MAX)
		r = -ENOSPC;
	if (!r) {
		struct obj_headers old = *h;

		*h = next;
		next = old;
	}
out:
	obj_headers_free(&next);
	json_decref(j);
	return r;
}

size_t attr_meta_bytes(const struct obj_headers *h)
{
	size_t sum = 0;

	for (size_t i = 0; i < h->n; i++)
		if (str_has_prefix(h->v[i].name, META_PREFIX))
			sum += strlen(h->v[i].name) - strlen(META_PREFIX) + strlen(h->v[i].value);
	return sum;
}

/* --- content types -------------------------------------------------------------------------------------------- */

/* Sorted by extension, for bsearch. Media types: IANA registry. */
static const struct content_type {
	const char *ext, *type;
} content_types[] = {
	{"7z", "application/x-7z-compressed"},
	{"aac", "audio/aac"},
	{"avi", "video/x-msvideo"},
	{"avif", "image/avif"},
	{"bin", "application/octet-stream"},
	{"bmp", "image/bmp"},
	{"bz2", "application/x-bzip2"},
	{"c", "text/x-c"},
	{"cc", "text/x-c"},
	{"conf", "text/plain"},
	{"cpp", "text/x-c"},
	{"css", "text/css"},
	{"csv", "text/csv"},
	{"deb", "application/vnd.debian.binary-package"},
	{"doc", "application/msword"},
	{"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
	{"eot", "application/vnd.ms-fontobject"},
	{"epub", "application/epub+zip"},
	{"flac", "audio/flac"},
	{"gif", "image/gif"},
	{"gz", "application/gzip"},
	{"h", "text/x-c"},
	{"heic", "image/heic"},
	{"htm", "text/html"},
	{"html", "text/html"},
	{"ico", "image/vnd.microsoft.icon"},
	{"ics", "text/calendar"},
	{"iso", "application/x-iso9660-image"},
	{"jar", "application/java-archive"},
	{"java", "text/x-java"},
	{"jpeg", "image/jpeg"},
	{"jpg", "image/jpeg"},
	{"js", "text/javascript"},
	{"json", "application/json"},
	{"log", "text/plain"},
	{"m3u8", "application/vnd.apple.mpegurl"},
	{"m4a", "audio/mp4"},
	{"m4v", "video/mp4"},
	{"map", "application/json"},
	{"md", "text/markdown"},
	{"mid", "audio/midi"},
	{"mjs", "text/javascript"},
	{"mkv", "video/x-matroska"},
	{"mov", "video/quicktime"},
	{"mp3", "audio/mpeg"},
	{"mp4", "video/mp4"},
	{"mpeg", "video/mpeg"},
	{"mpg", "video/mpeg"},
	{"odp", "application/vnd.oasis.opendocument.presentation"},
	{"ods", "application/vnd.oasis.opendocument.spreadsheet"},
	{"odt", "application/vnd.oasis.opendocument.text"},
	{"ogg", "audio/ogg"},
	{"ogv", "video/ogg"},
	{"opus", "audio/opus"},
	{"otf", "font/otf"},
	{"parquet", "application/vnd.apache.parquet"},
	{"pdf", "application/pdf"},
	{"php", "application/x-httpd-php"},
	{"pl", "text/x-perl"},
	{"png", "image/png"},
	{"ppt", "application/vnd.ms-powerpoint"},
	{"pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
	{"ps", "application/postscript"},
	{"py", "text/x-python"},
	{"rar", "application/vnd.rar"},
	{"rpm", "application/x-rpm"},
	{"rtf", "application/rtf"},
	{"sh", "application/x-sh"},
	{"sql", "application/sql"},
	{"svg", "image/svg+xml"},
	{"tar", "application/x-tar"},
	{"tgz", "application/gzip"},
	{"tif", "image/tiff"},
	{"tiff", "image/tiff"},
	{"ts", "video/mp2t"},
	{"ttf", "font/ttf"},
	{"txt", "text/plain"},
	{"wasm", "application/wasm"},
	{"wav", "audio/wav"},
	{"webm", "video/webm"},
	{"webp", "image/webp"},
	{"woff", "font/woff"},
	{"woff2", "font/woff2"},
	{"xhtml", "application/xhtml+xml"},
	{"xls", "application/vnd.ms-excel"},
	{"xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
	{"xml", "application/xml"},
	{"xz", "application/x-xz"},
	{"yaml", "application/yaml"},
	{"yml", "application/yaml"},
	{"zip", "application/zip"},
	{"zst", "application/zstd"},
};

static int compare_ext(const void *key, const void *item)
{
	return strcasecmp(key, ((const struct content_type *)item)->ext);
}

const char *attr_guess_type(const char *name)
{
	size_t n = strlen(name);
	const char *dot = strrchr(name, '.');
	const struct content_type *t = NULL;

	if (n && name[n - 1] == '/')
		return "application/x-directory";
	/* ".profile" has a name, not an extension. */
	if (dot && dot != name && dot[-1] != '/')
		t = bsearch(dot + 1, content_types, ARRAY_SIZE(content_types), sizeof(*t), compare_ext);
	return t ? t->type : "application/octet-stream";
}
