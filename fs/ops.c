/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The FUSE operations: translate, delegate, reply. What memory or the page cache of the spool can answer is answered
 * here by the reader; all else becomes a call on the pool. No policy lives here.
 */
#include "config.h"
#include "disk.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

static struct fsd *fsd_of(fuse_req_t req) { return fuse_req_userdata(req); }

/* The caller's reference; NULL when it was answered: the node is gone. */
static struct inode *node_of(fuse_req_t req, fuse_ino_t ino)
{
	struct inode *i = inode_get(fsd_of(req), ino);

	if (!i)
		fuse_reply_err(req, ESTALE);
	return i;
}

int fsd_errno(int r)
{
	switch (-r) {
	case ENODEV: /* no bucket */
	case EBADMSG:
	case EKEYREJECTED:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ECANCELED:
		return EIO;
	case EAGAIN:
		return EIO; /* the store stayed busy until the deadline; EAGAIN would ask for a poll loop */
	default:
		return -r;
	}
}

/* Sends a call that may wait for the store; whoever is killed meanwhile need not wait with it. */
static void go(struct call *c, const struct fuse_file_info *fi, size_t size, off_t off)
{
	if (!c)
		return;
	if (fi)
		c->fi = *fi;
	c->size = size;
	c->off = off;
	call_killable(c);
	call_go(c);
}

/* The same for an image, which may wait long. */
static void image_go(struct call *c, const struct fuse_file_info *fi, size_t size, off_t off)
{
	if (!c)
		return;
	if (fi)
		c->fi = *fi;
	c->size = size;
	c->off = off;
	call_killable(c);
	pool_submit(c->f->image_pool, &c->job);
}

static bool is_image(struct fsd *f, fuse_ino_t ino)
{
	struct inode *i = inode_get(f, ino);
	bool image = i && i->image;

	inode_put(f, i);
	return image;
}

/* An image's snapshot: nothing of it is ever changed. */
static bool is_snapshot(struct fsd *f, fuse_ino_t ino)
{
	struct inode *i = inode_get(f, ino);
	bool snap = i && i->snap;

	inode_put(f, i);
	return snap;
}

static void simple(fuse_req_t req, fuse_ino_t ino, void (*run)(struct call *c))
{
	go(call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, run), NULL, 0, 0);
}

/* --- session ------------------------------------------------------------------------------------------------------ */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fsd *f = userdata;
	/* every capability is set or cleared here: the library's defaults changed between releases */
	const unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
			      FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
			      FUSE_CAP_ASYNC_DIO;
	/* one nodeid is one version: its pages go when an open says so, not when our own PUT changes the mtime */
	const unsigned inval = conn->capable & FUSE_CAP_EXPLICIT_INVAL_DATA ? FUSE_CAP_EXPLICIT_INVAL_DATA
									     : FUSE_CAP_AUTO_INVAL_DATA;

	conn->want = (want | inval) & conn->capable;
	if (f->o.nolock_error)
		conn->want |= (FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS) & conn->capable;
	conn->max_write = 1 << 20;
	conn->max_readahead = 1 << 20;
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	inode_forget(fsd_of(req), ino, n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *v)
{
	for (size_t k = 0; k < count; k++)
		inode_forget(fsd_of(req), v[k].ino, v[k].nlookup);
	fuse_reply_none(req);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	/* answered without the store: a bucket has no size. A quarter of an exbibyte, all of it free. */
	struct statvfs st = {
		.f_bsize = 4096, .f_frsize = 4096, .f_blocks = UINT64_C(1) << 46, .f_bfree = UINT64_C(1) << 46,
		.f_bavail = UINT64_C(1) << 46, .f_files = UINT64_C(1) << 40, .f_ffree = UINT64_C(1) << 40,
		.f_favail = UINT64_C(1) << 40, .f_namemax = PATH_NAME_MAX,
	};

	fuse_reply_statfs(req, &st);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

/* Every name that comes in: what can never be there is refused before anybody asks the store. */
static bool name_refused(fuse_req_t req, const char *name)
{
	int r = path_check_name(name);

	if (r == 0)
		return false;
	fuse_reply_err(req, -r);
	return true;
}

/* One that is there, or is looked for. */
static bool shown_name_refused(fuse_req_t req, const char *name)
{
	int r = path_check_shown(name);

	if (r < 0)
		fuse_reply_err(req, -r);
	return r < 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fsd *f = fsd_of(req);
	int r = path_check_shown(name);

	if (r < 0) { /* a reserved or impossible name does not exist; creating it says why not */
		fuse_reply_err(req, r == -ENAMETOOLONG ? ENAMETOOLONG : ENOENT);
		return;
	}
	if (disk_snap_name(name))
		image_go(call_new(f, req, parent, name, NULL, NULL, 0, dir_op_lookup), NULL, 0, 0);
	else
		go(call_new(f, req, parent, name, NULL, NULL, 0, dir_op_lookup), NULL, 0, 0);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct inode *i = node_of(req, ino);
	struct stat st;
	double valid = 0;
	bool fresh, snap;

	if (!i)
		return;
	snap = i->snap != 0;
	mtx_lock(&i->lock);
	fresh = inode_fresh_locked(f, i);
	if (fresh) {
		inode_stat_locked(f, i, &st);
		valid = inode_valid_locked(f, i);
	}
	mtx_unlock(&i->lock);
	inode_put(f, i);
	if (fresh) {
		fuse_reply_attr(req, &st, valid);
		return;
	}
	if (snap)
		image_go(call_new(f, req, ino, NULL, NULL, NULL, 0, dir_op_getattr), NULL, 0, 0);
	else
		simple(req, ino, dir_op_getattr);
}

static bool read_only(fuse_req_t req)
{
	if (!fsd_of(req)->o.read_only)
		return false;
	fuse_reply_err(req, EROFS);
	return true;
}

static bool node_read_only(fuse_req_t req, fuse_ino_t ino)
{
	if (read_only(req))
		return true;
	if (!is_snapshot(fsd_of(req), ino))
		return false;
	fuse_reply_err(req, EROFS);
	return true;
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call *c;

	if (read_only(req) || name_refused(req, name))
		return;
	c = call_new(fsd_of(req), req, parent, name, NULL, NULL, 0, change_op_mkdir);
	if (c) {
		c->mode = mode;
		call_go(c);
	}
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct call *c;

	if (read_only(req) || name_refused(req, name))
		return;
	c = call_new(fsd_of(req), req, parent, name, NULL, NULL, 0, change_op_mknod);
	if (c) {
		c->mode = mode;
		c->rdev = rdev;
		call_go(c);
	}
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call *c;

	if (read_only(req) || name_refused(req, name))
		return;
	c = call_new(fsd_of(req), req, parent, name, target, NULL, 0, change_op_symlink);
	if (c)
		call_go(c);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino) { simple(req, ino, change_op_readlink); }

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, void (*run)(struct call *c))
{
	struct call *c;

	if (read_only(req) || shown_name_refused(req, name))
		return;
	c = call_new(fsd_of(req), req, parent, name, NULL, NULL, 0, run);
	if (c)
		call_go(c);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, change_op_unlink);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, change_op_rmdir);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
		      unsigned flags)
{
	struct call *c;

	if (read_only(req) || shown_name_refused(req, name) || name_refused(req, newname))
		return;
	if (flags & ~(unsigned)RENAME_NOREPLACE) {
		fuse_reply_err(req, EINVAL); /* EXCHANGE and WHITEOUT cannot be had from an object store */
		return;
	}
	c = call_new(fsd_of(req), req, parent, name, newname, NULL, 0, rename_op);
	if (c) {
		c->ino2 = newparent;
		c->flags = flags;
		call_go(c);
	}
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	fuse_reply_err(req, EPERM); /* no two keys are one object */
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct call *c;

	if (node_read_only(req, ino))
		return;
	c = call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, change_op_setattr);
	if (!c)
		return;
	c->st = *st;
	c->to_set = to_set & 0x7ff; /* bits beyond were sent by one libfuse release and withdrawn */
	if (fi) {
		c->fi = *fi;
		c->has_fi = true;
	}
	if ((to_set & FUSE_SET_ATTR_SIZE) && is_image(fsd_of(req), ino))
		image_go(c, NULL, 0, 0);
	else
		call_go(c);
}

/* --- extended attributes ------------------------------------------------------------------------------------------ */

static bool xattr_ours(const char *name)
{
	return strncmp(name, "user.", 5) == 0;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct call *c;

	/* the kernel asks for security.capability before writes: never a request, never ENOSYS (for ever, all names) */
	if (!xattr_ours(name) || is_snapshot(fsd_of(req), ino)) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	c = call_new(fsd_of(req), req, ino, name, NULL, NULL, 0, change_op_getxattr);
	if (c) {
		c->size = size;
		call_go(c);
	}
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct call *c;

	if (is_snapshot(fsd_of(req), ino)) {
		if (size == 0)
			fuse_reply_xattr(req, 0);
		else
			fuse_reply_buf(req, NULL, 0);
		return;
	}
	c = call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, change_op_listxattr);
	if (c) {
		c->size = size;
		call_go(c);
	}
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct call *c;

	if (node_read_only(req, ino))
		return;
	if (!xattr_ours(name)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	c = call_new(fsd_of(req), req, ino, name, NULL, value, size, change_op_setxattr);
	if (c) {
		c->flags = (unsigned)flags;
		call_go(c);
	}
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct call *c;

	if (node_read_only(req, ino))
		return;
	if (!xattr_ours(name)) {
		fuse_reply_err(req, ENODATA);
		return;
	}
	c = call_new(fsd_of(req), req, ino, name, NULL, NULL, 0, change_op_setxattr);
	if (c)
		call_go(c);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if ((fi->flags & O_ACCMODE) != O_RDONLY && read_only(req))
		return;
	go(call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, file_op_open), fi, 0, 0);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct call *c;

	if (read_only(req) || name_refused(req, name))
		return;
	c = call_new(fsd_of(req), req, parent, name, NULL, NULL, 0, file_op_create);
	if (c) {
		c->mode = mode;
		c->fi = *fi;
		call_go(c);
	}
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct handle *h = handle_get(f, fi->fh);
	struct readbuf b;

	if (!h) {
		fuse_reply_err(req, EBADF);
		return;
	}
	if (h->disk) {
		bool done = disk_read_now(h, req, size, off);

		handle_put(f, h);
		if (done)
			return;
		image_go(call_new(f, req, ino, NULL, NULL, NULL, 0, disk_op_read), fi, size, off);
		return;
	}
	if (!h->unchecked && chunk_try(f, h->inode, h, (uint64_t)off, size, &b)) {
		fuse_reply_buf(req, b.p, b.n);
		readbuf_done(f, &b);
		handle_put(f, h);
		return;
	}
	handle_put(f, h);
	go(call_new(f, req, ino, NULL, NULL, NULL, 0, file_op_read), fi, size, off);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct inode *i = node_of(req, ino);
	int r;

	if (!i)
		return;
	if (i->image) {
		inode_put(f, i);
		if (disk_write_now(f, req, buf, size, off, fi))
			return;
		image_go(call_new(f, req, ino, NULL, NULL, buf, size, disk_op_write), fi, size, off);
		return;
	}
	if (file_write_inline(f, i, buf, size, off, &r)) {
		inode_put(f, i);
		if (r < 0)
			fuse_reply_err(req, fsd_errno(r));
		else
			fuse_reply_write(req, size);
		return;
	}
	inode_put(f, i);
	go(call_new(f, req, ino, NULL, NULL, buf, size, file_op_write), fi, size, off);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct inode *i = inode_get(f, ino);
	bool clean;

	if (!i) {
		fuse_reply_err(req, 0);
		return;
	}
	if (i->image) {
		inode_put(f, i);
		image_go(call_new(f, req, ino, NULL, NULL, NULL, 0, disk_op_flush), fi, 0, 0);
		return;
	}
	mtx_lock(&i->lock);
	clean = (!i->sp && !i->lost) || i->unlinked;
	mtx_unlock(&i->lock);
	inode_put(f, i);
	if (clean) {
		fuse_reply_err(req, 0);
		return;
	}
	go(call_new(f, req, ino, NULL, NULL, NULL, 0, file_op_flush), fi, 0, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	bool image = is_image(f, ino);
	struct call *c = call_new(f, req, ino, NULL, NULL, NULL, 0, image ? disk_op_release : file_op_release);

	if (!c)
		return;
	c->fi = *fi;
	if (!image) {
		call_go(c);
		return;
	}
	mtx_lock(&f->disks_lock);
	f->disk_releases++;
	mtx_unlock(&f->disks_lock);
	pool_submit(f->image_pool, &c->job);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (is_image(fsd_of(req), ino))
		image_go(call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, disk_op_fsync), fi, 0, 0);
	else
		go(call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, file_op_fsync), fi, 0, 0);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct call *c;

	if (node_read_only(req, ino))
		return;
	c = call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, file_op_fallocate);
	if (!c)
		return;
	c->mode = (mode_t)mode;
	if (is_image(fsd_of(req), ino)) {
		c->run = disk_op_fallocate;
		image_go(c, fi, (size_t)len, off);
		return;
	}
	c->off = off;
	c->size = (size_t)len;
	call_go(c);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct inode *i = node_of(req, ino);
	struct stat st;

	if (!i)
		return;
	if (i->image && (whence == SEEK_DATA || whence == SEEK_HOLE) && off >= 0) {
		struct call *c = call_new(f, req, ino, NULL, NULL, NULL, 0, disk_op_lseek);

		inode_put(f, i);
		if (c)
			c->flags = (unsigned)whence;
		image_go(c, fi, 0, off);
		return;
	}
	mtx_lock(&i->lock);
	inode_stat_locked(f, i, &st);
	mtx_unlock(&i->lock);
	inode_put(f, i);
	/* an object has no holes: all of it is data, with the hole that ends every file */
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		fuse_reply_err(req, EINVAL);
	else if (off < 0 || off >= st.st_size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : st.st_size);
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
			       fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	fuse_reply_err(req, EOPNOTSUPP); /* the kernel copies; ENOSYS would switch the call off for ever */
}

/* --- directories -------------------------------------------------------------------------------------------------- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct inode *i = node_of(req, ino);
	struct handle *h;
	int r;

	if (!i)
		return;
	r = handle_new(f, i, O_RDONLY, fuse_req_ctx(req)->pid, &h);
	if (r < 0) {
		inode_put(f, i);
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = h->fh;
	if (fuse_reply_open(req, fi) == -ENOENT) { /* the caller was interrupted: no RELEASEDIR will come */
		handle_put(f, h);
	}
}

static void readdir_call(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct call *c = call_new(fsd_of(req), req, ino, NULL, NULL, NULL, 0, dir_op_readdir);

	if (c) {
		c->fi = *fi;
		c->size = size;
		c->off = off;
		c->flags = plus;
		call_killable(c);
		call_go(c);
	}
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_call(req, ino, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	readdir_call(req, ino, size, off, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fsd *f = fsd_of(req);
	struct handle *h = handle_get(f, fi->fh);

	if (h) {
		handle_put(f, h); /* ours */
		handle_put(f, h); /* opendir's */
	}
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	simple(req, ino, change_op_fsyncdir);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	fuse_reply_err(req, (mask & W_OK) && fsd_of(req)->o.read_only ? EROFS : 0);
}

/* --- locks: only with nolock=error; else the kernel keeps them on this node ----------------------------------------- */

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	fuse_reply_err(req, ENOLCK);
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int may_wait)
{
	fuse_reply_err(req, ENOLCK);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	fuse_reply_err(req, ENOLCK);
}

static const struct fuse_lowlevel_ops fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.access = op_access,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
};

static const struct fuse_lowlevel_ops *ops_with_locks(void)
{
	static struct fuse_lowlevel_ops ops;

	ops = fuse_ops;
	ops.getlk = op_getlk;
	ops.setlk = op_setlk;
	ops.flock = op_flock;
	return &ops;
}

const struct fuse_lowlevel_ops *fsd_fuse_ops(bool nolock_error)
{
	return nolock_error ? ops_with_locks() : &fuse_ops;
}
