/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * localmeta.c - what the file:// store knows about one file: the extended attribute user.lsvd, or, without one, stat.
 *
 * The attribute is JSON:
 *   {"etag": "...", "size": 5, "mtime": "1700000000.000000001", "put": 1700000000, "headers": {"name": "value", ...}}
 * "size" and "mtime" are the file's own when the object was PUT. While they match, the object is the one that was PUT;
 * when they do not, somebody wrote the file by hand and the attribute is history. Times of the file are set from
 * x-amz-meta-mtime, so that ls shows what the object says. A directory's attribute is the same with no size ("marker"),
 * or {"implicit": true}. Header values are percent-coded where they hold '%' or are not UTF-8 (JSON must be).
 *
 * What was put there by hand has the etag (inode, size, mtime, ctime), and LastModified is ctime: the time that any
 * change to it moves. A directory made by hand has the etag (inode, mode, owner): its times move with its children.
 */
#include "config.h"
#include "local-private.h"
#include "base/clock.h"
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_SIZE_MAX 65536

void local_meta_done(struct local_meta *m)
{
	obj_headers_free(&m->headers);
}

int local_errno(struct objerr *err, int e, const char *what, const char *key)
{
	char buf[64];

	if (err != NULL && err->msg[0] == '\0')
		objerr_set(err, "%s %s: %s", what, key, strerror_r(e, buf, sizeof(buf)));
	switch (e) {
	case EACCES:
	case EPERM:
	case EROFS:
		return -EACCES;
	case ENOSPC:
	case EDQUOT:
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ENAMETOOLONG:
	case ENOMEM:
	case ESTALE:
	case EAGAIN:
	case EINVAL:
	case EBADMSG:
	case ERANGE:
	case ENOTSUP:
	case ENODEV:
		return -e;
	default:
		return -EIO;
	}
}

/* --- times -------------------------------------------------------------------------------------------------------- */

static void format_time(char *out, size_t cap, const struct timespec *ts)
{
	int64_t s = ts->tv_sec;
	long ns = ts->tv_nsec;

	/* A decimal number: half a second before 1970 is -0.5, while timespec says (-1, 500000000). */
	if (s < 0 && ns > 0) {
		s++;
		ns = (long)NSEC_PER_SEC - ns;
		(void)snprintf(out, cap, "-%" PRId64 ".%09ld", -s, ns);
		return;
	}
	(void)snprintf(out, cap, "%" PRId64 ".%09ld", s, ns);
}

bool local_parse_time(const char *s, struct timespec *ret)
{
	bool neg = *s == '-';
	int64_t sec = 0;
	long ns = 0, scale = (long)NSEC_PER_SEC;

	s += neg;
	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		sec = sec * 10 + (*s - '0');
		if (sec > 1000000000000) /* some 30,000 years: nonsense */
			return false;
	}
	if (*s == '.')
		for (s++; *s >= '0' && *s <= '9'; s++) {
			scale /= 10;
			ns += (*s - '0') * scale;
		}
	if (*s != '\0')
		return false;
	if (neg && ns > 0) {
		sec++;
		ns = (long)NSEC_PER_SEC - ns;
	}
	*ret = (struct timespec){.tv_sec = neg ? -sec : sec, .tv_nsec = ns};
	return true;
}

void local_meta_set_mtime(int fd, const struct obj_headers *h)
{
	const char *s = obj_headers_get(h, "x-amz-meta-mtime");
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	/* For the eyes of ls only: the header is what counts, so a failure is none. */
	if (s != NULL && local_parse_time(s, &ts[1]))
		(void)futimens(fd, ts);
}

/* --- headers as JSON ---------------------------------------------------------------------------------------------- */

static int value_to_json(const char *v, json_t **ret)
{
	bool utf8 = str_is_utf8(v, strlen(v));
	struct str s = {0};

	str_add(&s, "");
	for (; *v != '\0'; v++)
		if (*v == '%' || (!utf8 && (unsigned char)*v >= 0x80))
			str_addf(&s, "%%%02X", (unsigned char)*v);
		else
			str_addc(&s, *v);
	*ret = s.err == 0 ? json_string(str_c(&s)) : NULL;
	str_free(&s);
	return *ret == NULL ? -ENOMEM : 0;
}

int local_headers_to_json(const struct obj_headers *h, json_t **ret)
{
	json_t *o = json_object(), *v;

	if (o == NULL)
		return -ENOMEM;
	for (size_t i = 0; h != NULL && i < h->n; i++)
		if (value_to_json(h->v[i].value, &v) < 0 || json_object_set_new(o, h->v[i].name, v) != 0) {
			json_decref(o);
			return -ENOMEM;
		}
	*ret = o;
	return 0;
}

int local_headers_from_json(const json_t *j, struct obj_headers *ret)
{
	struct obj_headers h = {0};
	int r = json_is_object(j) ? 0 : -EBADMSG;
	/* jansson's iterators take no const, but only read. */
	json_t *o = (json_t *)(uintptr_t)j;

	for (void *it = json_object_iter(o); it != NULL && r == 0; it = json_object_iter_next(o, it)) {
		const char *text = json_string_value(json_object_iter_value(it));
		_cleanup_free_ char *v = text != NULL ? strdup(text) : NULL;

		if (v == NULL)
			r = text == NULL ? -EBADMSG : -ENOMEM;
		else if (str_pct_decode(v) < 0)
			r = -EBADMSG;
		else
			r = obj_headers_set(&h, json_object_iter_key(it), v);
	}
	if (r < 0) {
		obj_headers_free(&h);
		return r == -EINVAL ? -EBADMSG : r;
	}
	*ret = h;
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static int add_number(struct obj_headers *h, const char *name, uint64_t v)
{
	char buf[32];

	(void)snprintf(buf, sizeof(buf), "%" PRIu64, v);
	return obj_headers_set(h, name, buf);
}

static int add_time(struct obj_headers *h, const char *name, const struct timespec *ts)
{
	char buf[48];

	format_time(buf, sizeof(buf), ts);
	return obj_headers_set(h, name, buf);
}

static int stat_headers(const struct stat *st, struct obj_headers *h)
{
	int r = add_number(h, "x-amz-meta-mode", st->st_mode);

	if (r == 0)
		r = add_number(h, "x-amz-meta-uid", st->st_uid);
	if (r == 0)
		r = add_number(h, "x-amz-meta-gid", st->st_gid);
	if (r == 0)
		r = add_time(h, "x-amz-meta-mtime", &st->st_mtim);
	if (r == 0)
		r = add_time(h, "x-amz-meta-ctime", &st->st_ctim);
	return r;
}

static uint64_t ts_bits(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * (uint64_t)NSEC_PER_SEC + (uint64_t)ts->tv_nsec;
}

static int by_hand(bool want_headers, struct local_meta *m)
{
	const struct stat *st = &m->st;

	m->by_hand = true;
	if (S_ISDIR(st->st_mode)) {
		m->kind = LOCAL_MARKER;
		m->mtime_s = st->st_mtim.tv_sec;
		(void)snprintf(m->etag, sizeof(m->etag), "d%jx-%x-%x-%x", (uintmax_t)st->st_ino, st->st_mode,
			       st->st_uid, st->st_gid);
	} else {
		m->size = (uint64_t)st->st_size;
		m->mtime_s = st->st_ctim.tv_sec;
		(void)snprintf(m->etag, sizeof(m->etag), "%jx-%jx-%" PRIx64 "-%" PRIx64, (uintmax_t)st->st_ino,
			       (uintmax_t)st->st_size, ts_bits(&st->st_mtim), ts_bits(&st->st_ctim));
	}
	return want_headers ? stat_headers(st, &m->headers) : 0;
}

/* Takes what the attribute says. -ENODATA: it does not speak of this file as it is now. */
static int from_json(const json_t *j, bool want_headers, struct local_meta *m)
{
	const char *etag = json_string_value(json_object_get(j, "etag"));
	const char *mtime = json_string_value(json_object_get(j, "mtime"));
	const json_t *size = json_object_get(j, "size"), *put = json_object_get(j, "put");
	struct timespec ts;

	if (m->kind == LOCAL_MARKER && json_is_true(json_object_get(j, "implicit"))) {
		m->kind = LOCAL_IMPLICIT;
		return 0;
	}
	if (etag == NULL || *etag == '\0' || !json_is_integer(put) || str_copy(m->etag, sizeof(m->etag), etag) < 0)
		return -ENODATA;
	if (m->kind == LOCAL_FILE) {
		if (mtime == NULL || !local_parse_time(mtime, &ts) || !json_is_integer(size))
			return -ENODATA;
		if (json_integer_value(size) != m->st.st_size || ts.tv_sec != m->st.st_mtim.tv_sec ||
		    ts.tv_nsec != m->st.st_mtim.tv_nsec)
			return -ENODATA;
		m->size = (uint64_t)m->st.st_size;
	}
	m->mtime_s = json_integer_value(put);
	if (want_headers) {
		int r = local_headers_from_json(json_object_get(j, "headers"), &m->headers);

		return r == -EBADMSG ? -ENODATA : r;
	}
	return 0;
}

int local_meta_parse(const char *p, size_t n, bool want_headers, struct local_meta *m)
{
	json_t *j = json_loadb(p, n, 0, NULL);
	int r = j != NULL ? from_json(j, want_headers, m) : -ENODATA;

	json_decref(j);
	return r;
}

/* -ENODATA when there is none, or none that can be understood: then the file counts as put there by hand. */
static int from_xattr(int fd, bool want_headers, struct local_meta *m)
{
	_cleanup_free_ char *big = NULL;
	char small[2048], *buf = small;
	ssize_t n = fgetxattr(fd, LOCAL_XATTR, small, sizeof(small));

	if (n < 0 && errno == ERANGE) {
		buf = big = malloc(XATTR_SIZE_MAX);
		if (big == NULL)
			return -ENOMEM;
		n = fgetxattr(fd, LOCAL_XATTR, big, XATTR_SIZE_MAX);
	}
	if (n < 0)
		return errno == EIO || errno == ENOMEM ? local_sys() : -ENODATA;
	return local_meta_parse(buf, (size_t)n, want_headers, m);
}

int local_meta_fd(int fd, bool want_headers, struct local_meta *ret)
{
	struct local_meta m = {0};
	int r;

	if (fstat(fd, &m.st) != 0)
		return local_sys();
	if (S_ISREG(m.st.st_mode)) {
		m.kind = LOCAL_FILE;
	} else if (S_ISDIR(m.st.st_mode)) {
		m.kind = LOCAL_MARKER;
	} else {
		*ret = (struct local_meta){.kind = LOCAL_OTHER, .st = m.st};
		return 0;
	}
	r = from_xattr(fd, want_headers, &m);
	if (r == -ENODATA)
		r = by_hand(want_headers, &m);
	if (r < 0) {
		local_meta_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

static int without_fd(const struct stat *st, enum local_kind kind, bool want_headers, struct local_meta *ret)
{
	struct local_meta m = {.kind = kind, .st = *st};
	int r = kind == LOCAL_OTHER ? 0 : by_hand(want_headers, &m);

	if (r < 0)
		local_meta_done(&m);
	else
		*ret = m;
	return r;
}

/* One look: -EAGAIN when the name changed its kind meanwhile. */
static int look(int dirfd, const char *name, bool want_headers, struct local_meta *ret, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	*ret_fd = -1;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
			return local_sys();
		*ret = (struct local_meta){.kind = LOCAL_NONE};
		return 0;
	}
	if (S_ISLNK(st.st_mode))
		return without_fd(&st, LOCAL_LINK, want_headers, ret);
	/* Opening a device or fifo may do something: look first. */
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return without_fd(&st, LOCAL_OTHER, want_headers, ret);
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		if (errno == EACCES || errno == EPERM)
			return without_fd(&st, S_ISDIR(st.st_mode) ? LOCAL_MARKER : LOCAL_FILE, want_headers, ret);
		return errno == ENOENT || errno == ELOOP || errno == ENXIO ? -EAGAIN : local_sys();
	}
	r = local_meta_fd(fd, want_headers, ret);
	if (r == 0) {
		*ret_fd = fd;
		fd = -1;
	}
	return r;
}

int local_meta_at(int dirfd, const char *name, bool want_headers, struct local_meta *ret, int *ret_fd)
{
	int r = -EAGAIN, fd = -1;

	for (int i = 0; i < 100 && r == -EAGAIN; i++)
		r = look(dirfd, name, want_headers, ret, &fd);
	if (r < 0)
		return r;
	if (ret_fd != NULL)
		*ret_fd = fd;
	else
		base_closep(&fd);
	return 0;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int set_json(int fd, json_t *take_j, struct objerr *err)
{
	char *text = json_dumps(take_j, JSON_COMPACT);
	int r = 0;

	json_decref(take_j);
	if (text == NULL)
		return -ENOMEM;
	if (fsetxattr(fd, LOCAL_XATTR, text, strlen(text), 0) != 0) {
		int e = errno;

		if (err != NULL && (e == E2BIG || e == ERANGE || e == ENOSPC))
			objerr_set(err, "no room for %zu bytes of headers in an extended attribute of this file system",
				   strlen(text));
		r = e == E2BIG || e == ERANGE ? -EINVAL : local_errno(err, e, "setxattr", LOCAL_XATTR);
	}
	free(text);
	return r;
}

int local_meta_write(int fd, const struct obj_headers *h, size_t nparts, struct objreq *req)
{
	char etag[OBJ_ETAG_MAX], mtime[48];
	int64_t put_s = clock_real_ns() / NSEC_PER_SEC;
	json_t *headers, *j;
	struct stat st;
	int r;

	/* must not look like an MD5: a copy of the same bytes has another one, and whoever changes headers asks that */
	etag[0] = 'f';
	base_random_hex(etag + 1, 16);
	if (nparts > 0)
		(void)snprintf(etag + 33, sizeof(etag) - 33, "-%zu", nparts);
	if (fstat(fd, &st) != 0)
		return local_errno(&req->err, errno, "stat", req->key);
	format_time(mtime, sizeof(mtime), &st.st_mtim);
	r = local_headers_to_json(h, &headers);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode)) {
		j = json_pack("{s:s,s:I,s:o}", "etag", etag, "put", (json_int_t)put_s, "headers", headers);
		st.st_size = 0;
	} else {
		j = json_pack("{s:s,s:I,s:s,s:I,s:o}", "etag", etag, "size", (json_int_t)st.st_size, "mtime", mtime,
			      "put", (json_int_t)put_s, "headers", headers);
	}
	if (j == NULL)
		return -ENOMEM; /* json_pack has dropped headers */
	r = set_json(fd, j, &req->err);
	if (r < 0)
		return r;
	memcpy(req->etag, etag, sizeof(etag));
	req->size = (uint64_t)st.st_size;
	req->mtime_s = put_s;
	return 0;
}

int local_meta_write_implicit(int fd)
{
	json_t *j = json_pack("{s:b}", "implicit", 1);

	return j == NULL ? -ENOMEM : set_json(fd, j, NULL);
}
