/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * voljournal.c - journals that nobody writes to, for people: which changes are in them, which of those are not known to
 * be in the image, and their bytes (volume.h).
 *
 * A journal is opened as ever, on a disk that takes no writes and shows the files of one that was set aside under the
 * names which they had.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/str.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Much more than any journal has: nothing is written, so nothing can be too much. */
#define LIMIT ((uint64_t)1 << 40)
#define SEGMENT (16 * MiB)

/* ---- a disk to look at ---- */

struct look {
	char prefix[40]; /* of the files; "" for the journal of now */
};

static int look_open(void *ctx, int dirfd, const char *name, bool create)
{
	const struct look *l = ctx;
	char path[128];
	int fd;

	if (create)
		return -EROFS;
	(void)snprintf(path, sizeof(path), "%s%s", l->prefix, name);
	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* Opening tidies up behind a torn end: for this look only. */
static int look_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
	(void)ctx, (void)fd, (void)p, (void)n, (void)off;
	return 0;
}

static int look_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
	(void)ctx;
	return base_pread_all(fd, p, n, off);
}

static int look_allocate(void *ctx, int fd, uint64_t len)
{
	(void)ctx, (void)fd, (void)len;
	return -EROFS;
}

static int look_sync(void *ctx, int fd)
{
	(void)ctx, (void)fd;
	return 0;
}

static int look_unlink(void *ctx, int dirfd, const char *name)
{
	(void)ctx, (void)dirfd, (void)name;
	return 0;
}

static int look_rename(void *ctx, int dirfd, const char *from, const char *to)
{
	(void)ctx, (void)dirfd, (void)from, (void)to;
	return -EROFS;
}

static int look_list(void *ctx, int dirfd, int (*fn)(void *arg, const char *name), void *arg)
{
	const struct look *l = ctx;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (d == NULL) {
		r = -errno;
		base_closep(&fd);
		return r;
	}
	while (r == 0 && (e = readdir(d)) != NULL)
		/* One that was being set aside when its daemon died is looked at as it is. */
		if (str_has_prefix(e->d_name, l->prefix) &&
		    (l->prefix[0] != '\0' || !str_has_prefix(e->d_name, "aside-")))
			r = fn(arg, e->d_name + strlen(l->prefix));
	(void)closedir(d);
	return r;
}

static void look_close(void *ctx, int fd)
{
	(void)ctx;
	base_closep(&fd);
}

static struct jdisk look_disk(struct look *l)
{
	return (struct jdisk){.ctx = l,
			      .open = look_open,
			      .pwrite = look_pwrite,
			      .pread = look_pread,
			      .pread_now = look_pread,
			      .allocate = look_allocate,
			      .datasync = look_sync,
			      .dirsync = look_sync,
			      .unlink = look_unlink,
			      .rename = look_rename,
			      .list = look_list,
			      .close = look_close};
}

/* ---- names ---- */

/* "now", or "aside-" and digits. */
static bool name_ok(const char *name, struct look *ret)
{
	size_t n = strlen(name);

	ret->prefix[0] = '\0';
	if (strcmp(name, "now") == 0)
		return true;
	if (!str_has_prefix(name, "aside-") || n < 7 || n > 32 || strspn(name + 6, "0123456789") != n - 6)
		return false;
	(void)snprintf(ret->prefix, sizeof(ret->prefix), "%s-", name);
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b); /* "aside-..." before "now"; the digits are as many */
}

static int add_name(char ***v, size_t *n, const char *name, size_t len)
{
	char **p;

	for (size_t i = 0; i < *n; i++)
		if (strncmp((*v)[i], name, len) == 0 && (*v)[i][len] == '\0')
			return 0;
	p = reallocarray(*v, *n + 1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	*v = p;
	p[*n] = strndup(name, len);
	return p[*n] != NULL ? (int)(++*n, 0) : -ENOMEM;
}

int vol_journal_names(const char *dir, char ***ret, size_t *ret_n)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char **v = NULL;
	size_t n = 0;
	int r = 0;

	if (d == NULL)
		return -errno;
	while (r == 0 && (e = readdir(d)) != NULL) {
		const char *end = strstr(e->d_name, "-journal-");

		if (str_has_prefix(e->d_name, "journal-"))
			r = add_name(&v, &n, "now", 3);
		else if (str_has_prefix(e->d_name, "aside-") && end != NULL)
			r = add_name(&v, &n, e->d_name, (size_t)(end - e->d_name));
	}
	(void)closedir(d);
	if (r < 0) {
		for (size_t i = 0; i < n; i++)
			free(v[i]);
		free(v);
		return r;
	}
	if (n > 1)
		qsort(v, n, sizeof(*v), by_name);
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- changes ---- */

struct changes {
	struct jrecord *v;
	size_t n, cap;
};

static int on_record(void *arg, const struct jrecord *rec)
{
	struct changes *c = arg;

	if (rec->type == J_COMMITTED)
		return 0;
	if (c->n == c->cap) {
		size_t cap = c->cap * 2 + 1024;
		struct jrecord *p = reallocarray(c->v, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		c->v = p;
		c->cap = cap;
	}
	c->v[c->n++] = *rec;
	return 0;
}

static int tell(struct journal *j, const struct jrecord *rec, uint64_t sent,
		int (*fn)(void *arg, const struct vol_jchange *c), void *arg)
{
	static const char *const what[] = {
	    [J_WRITE] = "write", [J_ZERO] = "zero", [J_DISCARD] = "discard", [J_RESIZE] = "resize"};
	struct vol_jchange c = {what[rec->type], rec->seq, rec->off, rec->len, rec->seq <= sent, NULL};
	_cleanup_free_ void *data = NULL;
	int r = 0;

	if (rec->type == J_WRITE && !c.sent) {
		c.data = data = malloc(rec->len + 1);
		r = data == NULL ? -ENOMEM : journal_read(j, rec->where, data, rec->len);
	}
	return r < 0 ? r : fn(arg, &c);
}

int vol_journal_read(const char *dir, const uint8_t uuid[16], const char *name,
		     int (*fn)(void *arg, const struct vol_jchange *c), void *arg, struct vol_journal *ret,
		     struct objerr *err)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct look l;
	struct jdisk disk = look_disk(&l);
	struct vol_journal s = {0};
	struct changes c = {0};
	struct journal *j;
	int r;

	if (fd < 0)
		return -errno;
	if (!name_ok(name, &l))
		return -ENOENT;
	r = journal_open(fd, uuid, LIMIT, SEGMENT, &disk, on_record, &c, &j, err);
	if (r < 0) {
		free(c.v);
		return r;
	}
	if (c.n == 0 && l.prefix[0] != '\0' && journal_first(j) == 0)
		r = -ENOENT;
	(void)journal_has_unsent(j, &s.sent);
	s.records = c.n;
	s.time_s = l.prefix[0] != '\0' ? (int64_t)(strtoull(name + 6, NULL, 10) / NSEC_PER_SEC) : 0;
	for (size_t i = 0; i < c.n && r == 0; i++) {
		s.unsent += c.v[i].seq > s.sent;
		s.bytes += c.v[i].seq > s.sent && c.v[i].type == J_WRITE ? c.v[i].len : 0;
		if (fn != NULL)
			r = tell(j, &c.v[i], s.sent, fn, arg);
	}
	journal_close(j);
	free(c.v);
	if (r == 0)
		*ret = s;
	return r;
}

/* ---- what it was made for ---- */

struct claims {
	struct journal *j;
	uint64_t known, after; /* the newest claim of the journal; the one behind that, 0: none yet */
};

static int on_claim(void *arg, const struct logobj *o)
{
	struct claims *c = arg;

	if (o->type == LOG_CLAIM && journal_knows_nonce(c->j, &o->nonce)) {
		c->known = o->number;
		c->after = 0;
	} else if (c->known != 0 && c->after == 0) {
		c->after = o->number;
	}
	return 0;
}

static int no_record(void *arg, const struct jrecord *rec)
{
	(void)arg, (void)rec;
	return 0;
}

/* Claims stay for good: the one that ended this journal's machine is found however long ago that was. */
static int taken_at(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct claims *c,
		    struct objerr *err)
{
	struct vol_env ro = *env;
	struct volume *v;
	int r;

	ro.read_only = true;
	r = vol_open(&ro, prefix, uuid, &v, err);
	if (r < 0)
		return r;
	r = log_heads(v->log, v->ck.claims, v->ck.nclaims, on_claim, c, err);
	ignore(vol_close(v)); /* nothing was written */
	if (r == 0 && (c->known == 0 || c->after == 0)) {
		objerr_set(err, c->known == 0 ? "the journal belongs to no claim of the image"
					      : "the image did not go on without this journal: a mount of this machine brings it there");
		r = -ENODATA;
	}
	return r;
}

int vol_journal_base(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], const char *dir,
		     const char *name, struct volume **ret, uint64_t *ret_seq, uint64_t *ret_claim, struct objerr *err)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct look l;
	struct jdisk disk = look_disk(&l);
	struct claims c = {0};
	struct log_view view;
	struct volume *v = NULL;
	uint64_t sent;
	int r;

	if (fd < 0)
		return -errno;
	if (!name_ok(name, &l))
		return -ENOENT;
	r = journal_open(fd, uuid, LIMIT, SEGMENT, &disk, no_record, NULL, &c.j, err);
	if (r < 0)
		return r;
	r = taken_at(env, prefix, uuid, &c, err);
	if (r == 0)
		r = vol_open_position(env, prefix, uuid, c.after, &v, err);
	if (r == 0) {
		log_view(v->log, &view);
		(void)journal_has_unsent(c.j, &sent);
		if (sent > view.jseq || journal_before(c.j) > view.jseq) {
			objerr_set(err, "the journal goes on behind record %llu, the log had %llu then",
				   (unsigned long long)MAX(sent, journal_before(c.j)), (unsigned long long)view.jseq);
			ignore(vol_close(v)); /* nothing was written */
			r = -EUCLEAN;
		}
	}
	journal_close(c.j);
	if (r < 0)
		return r;
	*ret = v;
	*ret_seq = view.jseq;
	*ret_claim = c.after;
	return 0;
}

int vol_journal_drop(const char *dir, const char *name)
{
	DIR *d;
	struct dirent *e;
	struct look l;
	int r = -ENOENT;

	if (!name_ok(name, &l))
		return -ENOENT;
	if (l.prefix[0] == '\0')
		return -EINVAL;
	d = opendir(dir);
	if (d == NULL)
		return -errno;
	while ((e = readdir(d)) != NULL) {
		if (!str_has_prefix(e->d_name, l.prefix))
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) < 0 && errno != ENOENT) {
			r = -errno;
			break;
		}
		r = 0;
	}
	(void)closedir(d);
	return r;
}
