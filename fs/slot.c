/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slot.c - directories and locks of running mounts. See slot.h for the layout.
 *
 * States of a slot: absent -> (mkdir, lock) mine -> (exit, kill) unlocked -> (next mount of the identity) taken, or
 * adopted: its spool moves into the taker's while the taker holds both locks. Nobody ever waits for a lock.
 */
#include "config.h"
#include "slot.h"

#include "objstore/base/str.h"
#include "objstore/base/table.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* --- identity --------------------------------------------------------------------------------------------------- */

/* Scheme and host in lower case, no default port, no trailing slash: "HTTP://H:80/" and "http://h" are one. */
static int canonical_endpoint(const char *endpoint, char **ret)
{
	struct str s = {0};
	const char *path;
	size_t host_len, i;

	if (!endpoint || !*endpoint) {
		str_add(&s, "aws"); /* bucket names are unique there, whatever the region */
		return str_take(&s, ret);
	}
	path = strstr(endpoint, "://");
	path = strchr(path ? path + 3 : endpoint, '/');
	host_len = path ? (size_t)(path - endpoint) : strlen(endpoint);
	for (i = 0; i < host_len; i++)
		str_addc(&s, (char)tolower((unsigned char)endpoint[i]));
	if (!s.err && str_has_prefix(str_c(&s), "http://") && str_has_suffix(str_c(&s), ":80"))
		s.p[s.len -= 3] = '\0';
	else if (!s.err && str_has_prefix(str_c(&s), "https://") && str_has_suffix(str_c(&s), ":443"))
		s.p[s.len -= 4] = '\0';
	if (path && path[1])
		str_add(&s, path);
	while (!s.err && s.len && s.p[s.len - 1] == '/')
		s.p[--s.len] = '\0';
	return str_take(&s, ret);
}

int slot_identity(const struct obj_url *url, const char *endpoint, char **ret)
{
	static const char *const kind[] = {[OBJ_URL_S3] = "s3", [OBJ_URL_FILE] = "file", [OBJ_URL_MEM] = "mem"};
	_cleanup_free_ char *where = NULL;
	struct str s = {0};
	int r;

	if (url->kind == OBJ_URL_S3) {
		r = canonical_endpoint(endpoint, &where);
		if (r)
			return r;
	}
	str_addf(&s, "%s\n%s\n", kind[url->kind], where ? where : "-");
	str_add_pct(&s, url->bucket, strlen(url->bucket), true);
	str_addc(&s, '\n');
	str_add_pct(&s, url->prefix, strlen(url->prefix), true);
	str_addc(&s, '\n');
	return str_take(&s, ret);
}

/* FNV-1a; on disk, so it must not change. */
static uint64_t identity_hash(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return h;
}

/* Line n (from 0) of an identity. */
static const char *identity_line(const char *identity, unsigned n, size_t *ret_len)
{
	while (n-- && identity) {
		identity = strchr(identity, '\n');
		identity = identity ? identity + 1 : NULL;
	}
	*ret_len = identity ? strcspn(identity, "\n") : 0;
	return identity ? identity : "";
}

int slot_identity_dir(const char *dir, const char *identity, char **ret)
{
	struct str s = {0};
	size_t start;

	str_add(&s, dir);
	str_addc(&s, '/');
	start = s.len;
	for (unsigned n = 2; n < 4; n++) { /* bucket and prefix: the readable part */
		size_t len;
		const char *p = identity_line(identity, n, &len);

		if (n == 3 && len && s.len > start) /* never first: such directories are passed over */
			str_addc(&s, '.');
		for (size_t i = 0; i < len && s.len - start < 80; i++) {
			bool plain = isalnum((unsigned char)p[i]) || (strchr("-_.", p[i]) && s.len > start);

			if (plain || (s.len > start && i + 1 < len && s.p[s.len - 1] != '_'))
				str_addc(&s, plain ? p[i] : '_');
		}
	}
	str_addf(&s, "-%016llx", (unsigned long long)identity_hash(identity));
	return str_take(&s, ret);
}

/* --- directories and small files -------------------------------------------------------------------------------- */

/* mkdir -p; existing ones are fine. */
static int make_dirs(const char *path)
{
	_cleanup_free_ char *p = strdup(path);

	if (!p)
		return -ENOMEM;
	for (char *q = p + 1;; q++) {
		char c = *q;

		if (c && c != '/')
			continue;
		*q = '\0';
		if (mkdir(p, 0700) && errno != EEXIST) {
			int r = -errno;
			struct stat st;

			/* a read-only or foreign parent that exists is no error */
			if (stat(p, &st) || !S_ISDIR(st.st_mode))
				return r;
		}
		*q = c;
		if (!c)
			return 0;
	}
}

/* The whole of a small file, NUL-terminated. */
static int read_small(const char *path, char *buf, size_t cap)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	if (fd < 0)
		return -errno;
	while (n < cap - 1) {
		ssize_t got = read(fd, buf + n, cap - 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	buf[n] = '\0';
	return 0;
}

/* Complete or absent: written beside and renamed; two who do it at once write the same bytes. */
static int write_small(const char *path, const char *text)
{
	_cleanup_free_ char *tmp = NULL;
	_cleanup_close_ int fd = -1;
	struct str s = {0};
	int r;

	str_addf(&s, "%s.%d", path, (int)getpid());
	r = str_take(&s, &tmp);
	if (r)
		return r;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = base_pwrite_all(fd, text, strlen(text), 0);
	if (!r && fsync(fd))
		r = -errno;
	if (!r && rename(tmp, path))
		r = -errno;
	if (r)
		unlink(tmp);
	return r;
}

static int join(const char *a, const char *b, char **ret)
{
	struct str s = {0};

	str_addf(&s, "%s/%s", a, b);
	return str_take(&s, ret);
}

static int check_version(const char *dir, struct objerr *err)
{
	_cleanup_free_ char *path = NULL;
	char text[32];
	uint64_t v;
	int r = join(dir, "version", &path);

	if (r)
		return r;
	r = read_small(path, text, sizeof(text));
	if (r == -ENOENT) {
		snprintf(text, sizeof(text), "%d\n", SLOT_VERSION);
		return write_small(path, text);
	}
	if (r)
		return r;
	text[strcspn(text, "\n")] = '\0';
	if (str_parse_u64(text, &v)) {
		objerr_set(err, "%s: damaged: '%.20s' is no version", path, text);
		return -EPROTO;
	}
	if (v > SLOT_VERSION) {
		objerr_set(err, "%s is of version %llu, this lsvdfs knows %d: use the newer one, or another directory",
			   dir, (unsigned long long)v, SLOT_VERSION);
		return -EPROTO;
	}
	return 0;
}

#define IDENTITY_MAX (16 * KiB) /* a path or prefix may be three times as long as its bytes */

/* Does the text begin as an identity does? */
static bool plausible(const char *text)
{
	return str_has_prefix(text, "s3\n") || str_has_prefix(text, "file\n") || str_has_prefix(text, "mem\n");
}

static int check_identity(const char *idir, const char *identity, struct objerr *err)
{
	_cleanup_free_ char *path = NULL, *text = malloc(IDENTITY_MAX);
	int r = join(idir, "identity", &path);

	if (r)
		return r;
	if (!text)
		return -ENOMEM;
	r = read_small(path, text, IDENTITY_MAX);
	if (r == -ENOENT)
		return write_small(path, identity);
	if (!r && strcmp(text, identity) && !plausible(text))
		return write_small(path, identity); /* damaged: the directory's name says the same */
	if (!r && strcmp(text, identity)) {
		objerr_set(err, "%s belongs to another source", idir);
		return -EPROTO;
	}
	return r;
}

/* --- locks ------------------------------------------------------------------------------------------------------ */

/* Opens (create: makes) slot-N and locks it. -EBUSY: somebody has it. */
static int try_lock(const char *idir, unsigned number, bool create, struct slot *ret)
{
	_cleanup_free_ char *path = NULL, *lock = NULL;
	_cleanup_close_ int fd = -1;
	struct str s = {0};
	int r;

	str_addf(&s, "%s/slot-%u", idir, number);
	r = str_take(&s, &path);
	if (!r)
		r = join(path, "lock", &lock);
	if (r)
		return r;
	if (create && mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	ret->path = path;
	ret->number = number;
	ret->lock_fd = fd;
	path = NULL;
	fd = -1;
	return 0;
}

int slot_take(const char *dir, const char *identity, struct slot *ret, struct objerr *err)
{
	_cleanup_free_ char *idir = NULL;
	int r = slot_identity_dir(dir, identity, &idir);

	if (r)
		return r;
	r = make_dirs(dir);
	if (!r)
		r = check_version(dir, err);
	if (!r)
		r = make_dirs(idir);
	if (!r)
		r = check_identity(idir, identity, err);
	for (unsigned n = 0; !r && n < SLOT_MAX; n++) {
		r = try_lock(idir, n, true, ret);
		if (!r)
			return 0;
		if (r == -EBUSY)
			r = 0;
	}
	if (!r) {
		objerr_set(err, "%s: all %d slots are in use", idir, SLOT_MAX);
		r = -EUSERS;
	} else if (err && !err->msg[0]) {
		errno = -r;
		objerr_set(err, "%s: %m", dir);
	}
	return r;
}

int slot_lock(const char *dir, const char *identity, unsigned number, struct slot *ret)
{
	_cleanup_free_ char *idir = NULL;
	int r = slot_identity_dir(dir, identity, &idir);

	return r ? r : try_lock(idir, number, false, ret);
}

void slot_release(struct slot *s)
{
	if (s->path && s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	*s = (struct slot){.lock_fd = -1};
}

int slot_file(const struct slot *s, const char *name, char **ret)
{
	return join(s->path, name, ret);
}

static int by_number(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

int slot_list_in(const char *idir, unsigned **ret, size_t *ret_n)
{
	unsigned *v = NULL;
	size_t n = 0;
	struct dirent *de;
	DIR *d = opendir(idir);
	int r = 0;

	if (!d && errno != ENOENT)
		return -errno;
	while (d && !r && (de = readdir(d))) {
		uint64_t number;
		unsigned *grown;

		if (!str_has_prefix(de->d_name, "slot-") || str_parse_u64(de->d_name + 5, &number) ||
		    number >= SLOT_MAX)
			continue;
		grown = reallocarray(v, n + 1, sizeof(*v));
		if (grown) {
			v = grown;
			v[n++] = (unsigned)number;
		} else {
			r = -ENOMEM;
		}
	}
	if (d)
		closedir(d);
	if (r) {
		free(v);
		return r;
	}
	if (n)
		qsort(v, n, sizeof(*v), by_number);
	*ret = v;
	*ret_n = n;
	return 0;
}

int slot_list(const char *dir, const char *identity, unsigned **ret, size_t *ret_n)
{
	_cleanup_free_ char *idir = NULL;
	int r = slot_identity_dir(dir, identity, &idir);

	return r ? r : slot_list_in(idir, ret, ret_n);
}

/* --- what others left ------------------------------------------------------------------------------------------- */

bool slot_dirty(const char *slot_path)
{
	_cleanup_free_ char *spool = NULL;
	struct dirent *de;
	bool dirty = false;
	DIR *d;

	if (join(slot_path, "spool", &spool))
		return true; /* out of memory: rather look twice */
	d = opendir(spool);
	while (d && !dirty && (de = readdir(d))) {
		struct stat st;

		dirty = !fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) && st.st_size;
	}
	if (d)
		closedir(d);
	return dirty;
}

static bool same_bucket(const char *a, const char *b)
{
	size_t la, lb;
	const char *pa = identity_line(a, 2, &la), *pb = identity_line(b, 2, &lb);

	return la == lb && !memcmp(pa, pb, la) && strcspn(a, "\n") == strcspn(b, "\n") &&
	       !memcmp(a, b, strcspn(a, "\n"));
}

/* One identity directory of another spelling. */
static int stranger(const char *idir, const char *identity,
		    void (*fn)(void *arg, const char *path, const char *identity), void *arg)
{
	_cleanup_free_ unsigned *v = NULL;
	size_t n = 0;
	int r = slot_list_in(idir, &v, &n);

	for (size_t i = 0; !r && i < n; i++) {
		struct slot s = {.lock_fd = -1};

		if (try_lock(idir, v[i], false, &s))
			continue;
		if (slot_dirty(s.path))
			fn(arg, s.path, identity);
		slot_release(&s);
	}
	return r;
}

int slot_strangers(const char *dir, const char *identity, void (*fn)(void *arg, const char *path, const char *identity),
		   void *arg)
{
	_cleanup_free_ char *text = malloc(IDENTITY_MAX);
	struct dirent *de;
	DIR *d = opendir(dir);
	int r = text ? 0 : -ENOMEM;

	while (d && !r && (de = readdir(d))) {
		_cleanup_free_ char *idir = NULL, *file = NULL;

		if (de->d_name[0] == '.')
			continue;
		r = join(dir, de->d_name, &idir);
		if (!r)
			r = join(idir, "identity", &file);
		if (r || read_small(file, text, IDENTITY_MAX))
			continue;
		if (strcmp(text, identity) && same_bucket(text, identity))
			r = stranger(idir, text, fn, arg);
	}
	if (d)
		closedir(d);
	return r;
}

bool slot_volatile(const char *dir)
{
	_cleanup_free_ char *p = strdup(dir);
	struct statfs fs;

	/* the directory may not be there yet: the nearest one above decides */
	while (p && *p && statfs(p, &fs)) {
		char *slash = strrchr(p, '/');

		if (!slash)
			return false;
		slash[slash == p ? 1 : 0] = '\0';
		if (slash == p && statfs("/", &fs))
			return false;
	}
	return p && *p && (fs.f_type == TMPFS_MAGIC || fs.f_type == (long)RAMFS_MAGIC);
}
