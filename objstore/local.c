/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * local.c - file://: a directory as the bucket. Other programs see the tree and may put files there themselves.
 *
 * Key a/b is file a/b, key a/ is directory a. An object is an inode: a PUT never writes into the file that is there, it
 * makes a new one and moves it into place, so whoever reads goes on reading the version that he opened. What we wrote
 * carries its headers and ETag in one extended attribute (localmeta.c); what was put there by hand has them from stat.
 *
 *   PUT, COPY, COMPLETE:
 *     temporary file in .lsvd/tmp   data, times, attribute (new etag), fsync
 *     directories on the way        made as needed, each one durable before it is used
 *     under the path's lock         condition against what is there; then
 *                                   link(2) when it must be new: fails if it is not, also against who takes no lock
 *                                   rename(2) otherwise
 *     fsync of the directory        only then the answer
 *   DELETE: under the path's lock condition, unlink; fsync of the directory; empty implicit directories go
 *
 * Conditions hold between all processes that come through this store. Programs that write by hand take no lock: a
 * change of theirs between our look and our rename is lost, as between any two programs on one directory.
 * Symbolic links are never followed; one put there by hand is an object whose body is its text.
 * What a directory cannot hold is refused with words: `a` beside `a/b`, components over 255 bytes, "." and "..".
 * All file I/O happens inside submit, in the caller's thread; no lock of ours is held over it but flock(2).
 */
#include "config.h"
#include "local-private.h"
#include "base/clock.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#define COPY_BUF (256 * 1024)

/* --- reading ------------------------------------------------------------------------------------------------------ */

static int read_link(int dirfd, const char *name, char *buf, size_t cap, size_t *ret_n)
{
	ssize_t n = readlinkat(dirfd, name, buf, cap);

	if (n < 0)
		return errno == EINVAL ? -ESTALE : local_sys(); /* no link any more */
	*ret_n = (size_t)n;
	return 0;
}

static int read_body(struct objreq *req, int dirfd, const char *name, const struct local_meta *m, int fd, uint64_t n)
{
	char text[PATH_MAX];
	size_t len;
	int r;

	if (n == 0)
		return 0;
	if (m->kind == LOCAL_LINK) {
		r = read_link(dirfd, name, text, sizeof(text), &len);
		if (r == 0 && len != m->size)
			return -ESTALE;
		if (r == 0)
			memcpy(req->buf, text + req->off, n);
		return r;
	}
	if (fd < 0)
		return -EACCES;
	r = base_pread_all(fd, req->buf, n, req->off);
	return r == -ENODATA ? -ESTALE : r;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* True when the file is not the one that *m describes any more. The ctime of our own moves with links and names. */
static bool changed(const struct local_meta *m, int fd)
{
	struct stat st;

	if (fd < 0)
		return false;
	return fstat(fd, &st) != 0 || st.st_size != m->st.st_size || !same_time(&st.st_mtim, &m->st.st_mtim) ||
	       (m->by_hand && !same_time(&st.st_ctim, &m->st.st_ctim));
}

static bool is_object(const struct local_meta *m, bool marker)
{
	if (marker)
		return m->kind == LOCAL_MARKER;
	return m->kind == LOCAL_FILE || m->kind == LOCAL_LINK;
}

/* -ESTALE: somebody writes into the file by hand while we read it. */
static int get_once(struct objreq *req, const struct local_name *n, int dirfd)
{
	_cleanup_close_ int fd = -1;
	struct local_meta m;
	uint64_t len = 0;
	int r = local_meta_at(dirfd, n->name, true, &m, &fd);

	if (r < 0)
		return r;
	if (!is_object(&m, n->marker)) {
		r = -ENOENT;
	} else if (req->if_match != NULL && strcmp(req->if_match, m.etag) != 0) {
		objerr_set(&req->err, "%s: another version is there", req->key);
		r = -ESTALE;
	} else if (req->if_none_match != NULL && strcmp(req->if_none_match, m.etag) == 0) {
		req->not_modified = true;
	} else if (req->op == OBJ_GET) {
		r = store_cut_range(req, m.size, &len);
		if (r == 0)
			r = read_body(req, dirfd, n->name, &m, fd, len);
		if (r == 0 && changed(&m, fd))
			r = -ESTALE;
	}
	if (r == 0)
		memcpy(req->etag, m.etag, sizeof(req->etag));
	if (r == 0 && !req->not_modified) {
		req->got = len;
		req->truncated = req->op == OBJ_GET && req->off + len < m.size;
		req->size = m.size;
		req->mtime_s = m.mtime_s;
		req->ret_headers = m.headers;
		m.headers = (struct obj_headers){0};
	}
	local_meta_done(&m);
	return r;
}

static int do_get(struct local *l, struct objreq *req)
{
	_cleanup_close_ int dirfd = -1;
	struct objerr none = {0};
	struct local_name n;
	int r = local_name_parse(req->key, &n, &none);

	if (r < 0)
		return r == -ENOMEM ? r : -ENOENT; /* no such key can be here */
	r = local_open_dir(l->root, n.dir, &dirfd);
	if (r == 0) {
		r = get_once(req, &n, dirfd);
		for (int i = 0; i < 3 && r == -ESTALE && req->err.msg[0] == '\0'; i++)
			r = get_once(req, &n, dirfd);
		if (r == -ESTALE && req->if_match == NULL) {
			objerr_set(&req->err, "%s: another program is writing into the file", req->key);
			r = -EAGAIN;
		}
	}
	local_name_done(&n);
	if (r == -ENOENT || r == -ENOTDIR)
		return -ENOENT;
	return r == -ESTALE || r == -ERANGE || r == 0 ? r : local_errno(&req->err, -r, "reading", req->key);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

int local_write_iov(int fd, const struct objreq *req)
{
	uint64_t off = 0;

	for (int i = 0; i < req->iovcnt; i++) {
		int r = base_pwrite_all(fd, req->iov[i].iov_base, req->iov[i].iov_len, off);

		if (r < 0)
			return r;
		off += req->iov[i].iov_len;
	}
	return 0;
}

static int copy_by_hand(int in, uint64_t off, uint64_t len, int out, uint64_t out_off)
{
	_cleanup_free_ char *buf = malloc(COPY_BUF);

	if (buf == NULL)
		return -ENOMEM;
	while (len > 0) {
		size_t n = MIN(len, (uint64_t)COPY_BUF);
		int r = base_pread_all(in, buf, n, off);

		if (r == 0)
			r = base_pwrite_all(out, buf, n, out_off);
		if (r < 0)
			return r;
		off += n;
		out_off += n;
		len -= n;
	}
	return 0;
}

int local_copy_bytes(int in, uint64_t off, uint64_t len, int out, uint64_t out_off)
{
	while (len > 0) {
		off64_t from = (off64_t)off, to = (off64_t)out_off;
		/* Shares the blocks where the file system can (XFS, btrfs), else copies in the kernel. */
		ssize_t n = copy_file_range(in, &from, out, &to, MIN(len, GiB), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
			return local_sys();
		/* Some pseudo file systems say 0 where there are bytes: plain reads decide. */
		if (n <= 0)
			return copy_by_hand(in, off, len, out, out_off);
		off += (uint64_t)n;
		out_off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* --- publishing --------------------------------------------------------------------------------------------------- */

/* The etag that a condition is held against: NULL = no such object. A directory that only keys below hold up, and that
 * holds none, gives way. */
static int look_at_target(struct objreq *req, const struct local_name *n, int dirfd, struct local_meta *m)
{
	int r = local_meta_at(dirfd, n->name, false, m, NULL);

	if (r < 0)
		return r;
	if (!n->marker && m->kind == LOCAL_IMPLICIT && unlinkat(dirfd, n->name, AT_REMOVEDIR) == 0)
		m->kind = LOCAL_NONE;
	if (m->kind == LOCAL_OTHER || (!n->marker && (m->kind == LOCAL_MARKER || m->kind == LOCAL_IMPLICIT))) {
		objerr_set(&req->err, "%s: a directory or special file is in the way of this key", req->key);
		return -EISDIR;
	}
	if (n->marker && (m->kind == LOCAL_FILE || m->kind == LOCAL_LINK)) {
		objerr_set(&req->err, "%s: a file or symbolic link is in the way of this directory", req->key);
		return -ENOTDIR;
	}
	r = store_check_dst(req, is_object(m, n->marker) ? m->etag : NULL);
	if (r < 0)
		objerr_set(&req->err, "%s: %s", req->key,
			   r == -ENOENT		      ? "is not there any more"
			   : req->if_none_match_any ? "is there already"
						      : "another version is there");
	return r;
}

static int move_into_place(struct local *l, struct objreq *req, const struct local_name *n, int dirfd, const char *tmp)
{
	_cleanup_close_ int tmpdir = -1;
	int r = local_open_dir(l->root, LOCAL_TMP, &tmpdir);

	if (r < 0)
		return r == -ENOENT ? -EIO : r;
	if (!req->if_none_match_any)
		return renameat(tmpdir, tmp, dirfd, n->name) == 0 ? 0 : local_sys();
	r = linkat(tmpdir, tmp, dirfd, n->name, 0) == 0 ? 0 : local_sys();
	if (r == -EPERM || r == -EOPNOTSUPP) /* no hard links here */
		r = local_rename_new(tmpdir, tmp, dirfd, n->name);
	if (r == -EEXIST) {
		objerr_set(&req->err, "%s: is there already", req->key);
		return -ESTALE;
	}
	return r;
}

int local_publish(struct local *l, struct objreq *req, const struct local_name *n, const char *tmp)
{
	int r = -ENOENT;
	bool again = true;

	/* A directory may be pruned between its making and the rename: then the rename says ENOENT. */
	for (int i = 0; i < 100 && again; i++) {
		_cleanup_close_ int dirfd = -1, lock = -1;
		struct local_meta m;

		again = false;
		r = local_make_dirs(l, n->dir, &req->err, &dirfd);
		if (r == 0)
			r = local_lock(l, n->path, &lock);
		if (r == 0)
			r = look_at_target(req, n, dirfd, &m);
		if (r < 0)
			break;
		r = move_into_place(l, req, n, dirfd, tmp);
		again = r == -ENOENT;
		base_closep(&lock);
		lock = -1;
		if (r == 0) {
			r = local_fsync(dirfd);
			req->maybe_done = r < 0; /* it is there, but maybe not after a crash */
		}
	}
	return r;
}

/* A marker: the directory itself is the object. Two steps where it must be made, one where it is there. */
static int publish_marker_once(struct local *l, struct objreq *req, const struct local_name *n,
			       const struct obj_headers *h, int dirfd, bool *ret_again)
{
	_cleanup_close_ int lock = -1, fd = -1, tmp = -1;
	char name[LOCAL_TMP_NAME];
	struct local_meta m;
	int r = local_lock(l, n->path, &lock);

	if (r == 0)
		r = look_at_target(req, n, dirfd, &m);
	if (r < 0)
		return r;
	if (m.kind != LOCAL_NONE) {
		r = local_meta_at(dirfd, n->name, false, &m, &fd);
		if (r == 0 && (fd < 0 || !S_ISDIR(m.st.st_mode))) {
			*ret_again = m.kind == LOCAL_NONE;
			r = -EACCES;
		}
		if (r == 0)
			r = local_meta_write(fd, h, 0, req);
		return r < 0 ? r : local_fsync(fd);
	}
	r = local_tmp_dir(l, name, &fd);
	if (r < 0)
		return r;
	r = local_meta_write(fd, h, 0, req);
	if (r == 0)
		r = local_fsync(fd);
	if (r == 0)
		r = local_open_dir(l->root, LOCAL_TMP, &tmp);
	if (r == 0) {
		r = local_rename_new(tmp, name, dirfd, n->name);
		/* No RENAME_NOREPLACE here: the next round finds it. */
		if (r == -EINVAL && mkdirat(dirfd, n->name, 0755) == 0)
			r = -EEXIST;
		*ret_again = r == -ENOENT || r == -EEXIST;
	}
	local_tmp_remove(l, name); /* gone already when it was renamed */
	return r;
}

static int publish_marker(struct local *l, struct objreq *req, const struct local_name *n, const struct obj_headers *h)
{
	bool again = true;
	int r = -EIO;

	for (int i = 0; i < 100 && again; i++) {
		_cleanup_close_ int dirfd = -1;

		again = false;
		r = local_make_dirs(l, n->dir, &req->err, &dirfd);
		if (r == 0)
			r = publish_marker_once(l, req, n, h, dirfd, &again);
		if (r == 0) {
			r = local_fsync(dirfd);
			req->maybe_done = r < 0;
		}
	}
	return r;
}

/* Common end of PUT and COPY: fd has the bytes. */
static int finish_file(struct local *l, struct objreq *req, const struct local_name *n, const struct obj_headers *h,
		       int fd, const char *tmp)
{
	int r;

	local_meta_set_mtime(fd, h);
	r = local_meta_write(fd, h, 0, req);
	if (r == 0)
		r = local_fsync(fd);
	return r < 0 ? r : local_publish(l, req, n, tmp);
}

static int refuse_bytes(struct objreq *req)
{
	objerr_set(&req->err, "%s: a directory cannot hold the bytes of a key that ends in '/'", req->key);
	return -EISDIR;
}

static int do_put(struct local *l, struct objreq *req)
{
	_cleanup_close_ int fd = -1;
	char tmp[LOCAL_TMP_NAME] = "";
	struct obj_headers h = {0};
	struct local_name n;
	int r = local_name_parse(req->key, &n, &req->err);

	if (r < 0)
		return r;
	r = store_put_headers(req, &h);
	if (r == 0)
		r = local_make_room(l, &req->err);
	if (r == 0 && n.marker) {
		r = store_body_bytes(req) > 0 ? refuse_bytes(req) : publish_marker(l, req, &n, &h);
	} else if (r == 0) {
		r = local_tmp_file(l, tmp, &fd);
		if (r == 0)
			r = local_write_iov(fd, req);
		if (r == 0)
			r = finish_file(l, req, &n, &h, fd, tmp);
		if (tmp[0] != '\0')
			local_tmp_remove(l, tmp);
	}
	obj_headers_free(&h);
	local_name_done(&n);
	return r;
}

/* --- COPY --------------------------------------------------------------------------------------------------------- */

static int link_to_memfd(int dirfd, const char *name, int *ret_fd)
{
	_cleanup_close_ int fd = memfd_create("link", MFD_CLOEXEC);
	char text[PATH_MAX];
	size_t n;
	int r = fd < 0 ? local_sys() : read_link(dirfd, name, text, sizeof(text), &n);

	if (r == 0)
		r = base_pwrite_all(fd, text, n, 0);
	if (r == 0) {
		*ret_fd = fd;
		fd = -1;
	}
	return r;
}

int local_open_source(struct local *l, struct objreq *req, struct local_meta *ret, int *ret_fd)
{
	_cleanup_close_ int dirfd = -1, fd = -1;
	struct objerr none = {0};
	struct local_meta m = {0};
	struct local_name n;
	int r = local_name_parse(req->src_key, &n, &none);

	if (r < 0)
		return r == -ENOMEM ? r : -ENOENT;
	r = local_open_dir(l->root, n.dir, &dirfd);
	if (r == 0)
		r = local_meta_at(dirfd, n.name, true, &m, &fd);
	if (r == -ENOTDIR || (r == 0 && !is_object(&m, n.marker)))
		r = -ENOENT;
	if (r == 0 && req->src_if_match != NULL && strcmp(req->src_if_match, m.etag) != 0)
		r = -ESTALE;
	if (r == 0 && m.kind == LOCAL_LINK)
		r = link_to_memfd(dirfd, n.name, &fd);
	if (r == 0 && fd < 0)
		r = -EACCES;
	if (r < 0) {
		objerr_set(&req->err, "source %s: %s", req->src_key,
			   r == -ENOENT	  ? "is not there"
			   : r == -ESTALE ? "another version is there"
					  : "cannot be read");
		local_meta_done(&m);
	} else {
		if (m.kind == LOCAL_MARKER)
			base_closep(&fd);
		*ret_fd = m.kind == LOCAL_MARKER ? -1 : fd;
		fd = -1;
		*ret = m;
	}
	local_name_done(&n);
	return r;
}

int local_check_unchanged(struct objreq *req, const struct local_meta *m, int fd)
{
	if (m->kind == LOCAL_LINK || !changed(m, fd))
		return 0;
	objerr_set(&req->err, "source %s: another program is writing into the file", req->src_key);
	return req->src_if_match != NULL ? -ESTALE : -EAGAIN;
}

static int do_copy(struct local *l, struct objreq *req)
{
	_cleanup_close_ int src = -1, fd = -1;
	char tmp[LOCAL_TMP_NAME] = "";
	struct local_meta m = {0};
	struct obj_headers h = {0};
	struct local_name n;
	int r = local_name_parse(req->key, &n, &req->err);

	if (r < 0)
		return r;
	if (req->headers == NULL && strcmp(req->key, req->src_key) == 0) {
		objerr_set(&req->err, "a copy onto itself that changes nothing");
		r = -EINVAL;
	}
	if (r == 0)
		r = local_make_room(l, &req->err);
	if (r == 0)
		r = local_open_source(l, req, &m, &src);
	if (r == 0)
		r = req->headers != NULL ? store_put_headers(req, &h) : obj_headers_copy(&h, &m.headers);
	if (r == 0 && n.marker) {
		r = m.size > 0 ? refuse_bytes(req) : publish_marker(l, req, &n, &h);
	} else if (r == 0) {
		r = local_tmp_file(l, tmp, &fd);
		if (r == 0)
			r = local_copy_bytes(src, 0, m.size, fd, 0);
		if (r == 0 || r == -ENODATA) {
			int c = local_check_unchanged(req, &m, src);

			r = c < 0 ? c : r;
		}
		if (r == 0)
			r = finish_file(l, req, &n, &h, fd, tmp);
		if (tmp[0] != '\0')
			local_tmp_remove(l, tmp);
	}
	local_meta_done(&m);
	obj_headers_free(&h);
	local_name_done(&n);
	return r;
}

/* --- DELETE ------------------------------------------------------------------------------------------------------- */

static int delete_locked(const struct objreq *req, const struct local_name *n, int dirfd)
{
	_cleanup_close_ int fd = -1;
	struct local_meta m;
	int r = local_meta_at(dirfd, n->name, false, &m, &fd);

	if (r < 0)
		return r;
	if (!is_object(&m, n->marker))
		return 0;
	if (req->if_match != NULL && strcmp(req->if_match, m.etag) != 0)
		return -ESTALE;
	if (!n->marker)
		return unlinkat(dirfd, n->name, 0) == 0 || errno == ENOENT ? 0 : local_sys();
	if (unlinkat(dirfd, n->name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return local_sys();
	/* Keys below hold it up from now on. */
	r = fd < 0 ? -EACCES : local_meta_write_implicit(fd);
	return r < 0 ? r : local_fsync(fd);
}

static int delete_key(struct local *l, struct objreq *req, const char *key)
{
	_cleanup_close_ int dirfd = -1, lock = -1;
	struct objerr none = {0};
	struct local_name n;
	int r = local_name_parse(key, &n, &none);

	if (r < 0)
		return r == -ENOMEM ? r : 0; /* no such key can be here */
	r = local_open_dir(l->root, n.dir, &dirfd);
	if (r == 0)
		r = local_make_room(l, &req->err);
	if (r == 0)
		r = local_lock(l, n.path, &lock);
	if (r == 0)
		r = delete_locked(req, &n, dirfd);
	base_closep(&lock);
	lock = -1;
	if (r == 0) {
		r = local_fsync(dirfd);
		req->maybe_done = r < 0;
	}
	if (r == 0)
		local_prune(l, n.dir);
	local_name_done(&n);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	return r == -ESTALE || r == 0 ? r : local_errno(&req->err, -r, "deleting", key);
}

static int do_delete_many(struct local *l, struct objreq *req)
{
	int r = 0;

	for (size_t i = 0; i < req->nkeys; i++) {
		int k = delete_key(l, req, req->keys[i]);

		r = r < 0 ? r : k;
	}
	return r;
}

/* --- the store ---------------------------------------------------------------------------------------------------- */

static int run(struct local *l, struct objreq *req)
{
	switch (req->op) {
	case OBJ_GET:
	case OBJ_HEAD:
		return do_get(l, req);
	case OBJ_PUT:
		return do_put(l, req);
	case OBJ_DELETE:
		return delete_key(l, req, req->key);
	case OBJ_DELETE_MANY:
		return do_delete_many(l, req);
	case OBJ_COPY:
		return do_copy(l, req);
	case OBJ_LIST:
		return local_list(l, req);
	case OBJ_MPU_CREATE:
		return local_mpu_create(l, req);
	case OBJ_MPU_PART:
	case OBJ_MPU_COPY_PART:
		return local_mpu_part(l, req);
	case OBJ_MPU_COMPLETE:
		return local_mpu_complete(l, req);
	case OBJ_MPU_ABORT:
		return local_mpu_abort(l, req);
	case OBJ_MPU_LIST:
		return local_mpu_list(l, req);
	case OBJ_NOPS:
		break;
	}
	return -ENOTSUP;
}

static void local_submit(struct objstore *s, struct objreq *req)
{
	struct local *l = container_of(s, struct local, s);
	int r = run(l, req);

	if (r < 0)
		r = local_errno(&req->err, -r, obj_op_name[req->op], req->key != NULL ? req->key : "");
	req->date_s = clock_real_ns() / NSEC_PER_SEC;
	store_stats_count(&l->stats, req, r);
	objreq_finish(req, r);
}

static void local_close(struct objstore *s)
{
	struct local *l = container_of(s, struct local, s);

	base_closep(&l->root);
	mtx_destroy(&l->lock);
	free(l);
}

static const struct objstore_ops local_ops = {.name = "file", .submit = local_submit, .close = local_close};

static int open_root(const char *path, int *ret_fd, struct objerr *err)
{
	char buf[64];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		int e = errno;

		objerr_set(err, "%s: %s", path, strerror_r(e, buf, sizeof(buf)));
		return e == ENOENT || e == ENOTDIR ? -ENODEV : local_errno(err, e, "opening", path);
	}
	if (fgetxattr(fd, LOCAL_XATTR, NULL, 0) < 0 && errno == EOPNOTSUPP) {
		(void)close(fd);
		objerr_set(err,
			   "%s: the file system there has no user extended attributes; use another (ext4, XFS, btrfs) "
			   "or mount it with user_xattr",
			   path);
		return -ENOTSUP;
	}
	*ret_fd = fd;
	return 0;
}

int store_file_new(const char *path, struct objstore **ret, struct objerr *err)
{
	struct local *l = calloc(1, sizeof(*l));
	int r;

	if (l == NULL)
		return -ENOMEM;
	r = open_root(path, &l->root, err);
	if (r < 0) {
		free(l);
		return r;
	}
	mtx_init(&l->lock, RANK_STORE);
	l->s.ops = &local_ops;
	l->s.stats = &l->stats;
	l->s.caps = OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH | OBJ_CAP_COMPLETE_COND | OBJ_CAP_COPY_SRC | OBJ_CAP_COPY_DST |
		    OBJ_CAP_DELETE_COND | OBJ_CAP_COPY | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY | OBJ_CAP_DELETE_MANY;
	l->s.caps_known = true;
	l->s.part_min = 5 * MiB; /* not enforced: what callers cut their parts by */
	l->s.part_max_count = 10000;
	l->s.put_max = INT64_MAX;
	*ret = &l->s;
	return 0;
}
