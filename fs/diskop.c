/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * diskop.c - read, write and the rest on a file that is a disk image. On the pool of the images, since each may wait for
 * the store, for room in the journal, or for another node's release; small reads and writes that wait for nothing are
 * answered by the session's reader: two changes of thread cost more than they do.
 *
 * Handles that can write claim at their first read or write (volume.h). The kernel keeps no pages of an image
 * (FOPEN_DIRECT_IO): what a guest sees is what the volume says. Of a snapshot it does: those bytes never change.
 */
#include "config.h"
#include "disk.h"

enum { KEPT_MIN = 256 * 1024 };

#define WRITER(h) (((h)->flags & O_ACCMODE) != O_RDONLY)

static void touch(struct inode *i)
{
	mtx_lock(&i->lock);
	i->attr.mtime = i->attr.ctime = clock_real_ts();
	i->image_changed = true;
	i->image_changes++;
	mtx_unlock(&i->lock);
}

/* -EIO of a volume has a reason: said once for each change of it. */
static void complain(struct disk *d, const char *what, int r)
{
	struct vol_stat st;
	bool new;

	if (r != -EIO && r != -EBUSY && r != -EUCLEAN)
		return;
	vol_stat(d->v, &st);
	mtx_lock(&d->f->disks_lock);
	new = strcmp(d->why, st.why) != 0;
	(void)snprintf(d->why, sizeof d->why, "%s", st.why);
	mtx_unlock(&d->f->disks_lock);
	if (new)
		log_error("%s: %s: %s%s", d->path, what, st.why[0] ? st.why : strerror(-r),
			  d->snap ? " (was it deleted on another machine?)" : "");
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static void unopen(struct fsd *f, struct handle *h)
{
	disk_drop(f, h->inode, h->disk, WRITER(h));
	mtx_lock(&h->inode->lock);
	h->inode->nopen--;
	mtx_unlock(&h->inode->lock);
	handle_put(f, h);
}

static void reply(struct call *c, struct handle *h, bool created)
{
	struct fsd *f = c->f;
	struct inode *i = h->inode;
	struct fuse_entry_param p = { 0 };
	int r;

	c->fi.fh = h->fh;
	c->fi.direct_io = !i->snap;
	c->fi.keep_cache = i->snap != 0;
#ifdef HAVE_STRUCT_FUSE_FILE_INFO_PARALLEL_DIRECT_WRITES
	c->fi.parallel_direct_writes = !i->snap;
#endif
#ifdef HAVE_STRUCT_FUSE_FILE_INFO_NOFLUSH
	c->fi.noflush = !WRITER(h);
#endif
	if (!created) {
		if (!call_claim(c) || fuse_reply_open(c->req, &c->fi) == -ENOENT)
			unopen(f, h);
		call_done(c);
		return;
	}
	inode_lookup_inc(f, i);
	mtx_lock(&i->lock);
	p.ino = i->id;
	inode_stat_locked(f, i, &p.attr);
	p.attr_timeout = inode_valid_locked(f, i);
	p.entry_timeout = i->snap ? 0 : p.attr_timeout;
	mtx_unlock(&i->lock);
	r = call_claim(c) ? fuse_reply_create(c->req, &p, &c->fi) : -EINTR;
	if (r < 0) {
		uint64_t id = i->id;

		unopen(f, h);
		inode_forget(f, id, 1);
	}
	call_done(c);
}

/* What opening does when the node is known: may wait long, so on the pool of the images. */
static void open_run(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	bool created = c->flags;
	struct objerr err = { 0 };
	struct fsd *f = c->f;
	int r = disk_hold(f, h->inode, WRITER(h), &h->disk, &err);

	if (r < 0 && r != -ESTALE)
		log_warn("open of an image: %s", err.msg[0] ? err.msg : strerror(-r));
	if (r == 0) {
		mtx_lock(&h->inode->lock);
		h->inode->nopen++;
		mtx_unlock(&h->inode->lock);
		handle_put(f, h); /* ours */
		if ((h->flags & O_TRUNC) && WRITER(h)) {
			r = vol_resize(h->disk->v, 0);
			if (r == 0) {
				touch(h->inode);
			} else {
				complain(h->disk, "open with O_TRUNC", r);
				unopen(f, h);
			}
		}
	} else {
		handle_put(f, h);
		handle_put(f, h);
	}
	if (r < 0)
		call_err(c, r);
	else
		reply(c, h, created);
}

void disk_open_handle(struct call *c, struct handle *take_h, bool created)
{
	c->fi.fh = take_h->fh;
	c->flags = created;
	c->run = open_run;
	pool_submit(c->f->image_pool, &c->job);
}

/* --- bytes -------------------------------------------------------------------------------------------------------- */

bool disk_read_now(struct handle *h, fuse_req_t req, size_t size, off_t off)
{
	char buf[VOL_NOW_MAX];

	if (size > sizeof buf || vol_read_now(h->disk->v, (uint64_t)off, buf, size) < 0)
		return false;
	fuse_reply_buf(req, buf, size);
	return true;
}

bool disk_write_now(struct fsd *f, fuse_req_t req, const char *buf, size_t size, off_t off,
		    const struct fuse_file_info *fi)
{
	struct handle *h;
	int r = -EAGAIN;

	if (fi->flags & O_DSYNC)
		return false;
	h = handle_get(f, fi->fh);
	if (h && h->disk)
		r = vol_write_now(h->disk->v, (uint64_t)off, buf, size);
	if (r == 0)
		touch(h->inode);
	else if (r != -EAGAIN)
		complain(h->disk, "write", r);
	if (h)
		handle_put(f, h);
	if (r == -EAGAIN)
		return false;
	if (r < 0)
		fuse_reply_err(req, fsd_errno(r));
	else
		fuse_reply_write(req, size);
	return true;
}

/*
 * Memory for the answer to a large read: the same pages again and again while a guest reads on, since each new one is a
 * fault (budget.h). false: there is none to spare in the budget, and malloc's will do.
 */
static bool kept_buf(struct fsd *f, size_t n, void **ret)
{
	if (n < KEPT_MIN || !budget_try(f->o.budget, n))
		return false;
	*ret = budget_buf(f->o.budget, n);
	if (!*ret)
		budget_give(f->o.budget, n);
	return *ret != NULL;
}

void disk_op_read(struct call *c)
{
	struct fsd *f = c->f;
	struct handle *h = handle_get(f, c->fi.fh);
	size_t size = c->size;
	void *buf = NULL;
	bool kept = kept_buf(f, size, &buf);
	ssize_t r = -EBADF;

	if (!kept)
		buf = malloc(size ? size : 1);
	if (h && buf)
		r = vol_read(h->disk->v, WRITER(h), (uint64_t)c->off, buf, size);
	else if (h)
		r = -ENOMEM;
	if (h && r < 0)
		complain(h->disk, "read", (int)r);
	if (h)
		handle_put(f, h);
	if (!kept) {
		call_buf(c, buf, r);
		return;
	}
	if (call_claim(c)) {
		if (r < 0)
			fuse_reply_err(c->req, fsd_errno((int)r));
		else
			fuse_reply_buf(c->req, buf, (size_t)r);
	}
	budget_buf_free(f->o.budget, buf, size);
	call_done(c);
}

void disk_op_write(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	struct iovec iov = { c->data, c->data_len };
	int r = -EBADF;

	if (h) {
		r = vol_write(h->disk->v, (uint64_t)c->off, &iov, 1, c->data_len);
		if (r == 0)
			touch(h->inode);
		else
			complain(h->disk, "write", r);
		/* O_SYNC and O_DSYNC: with direct I/O the kernel sends no FSYNC for them */
		if (r == 0 && (c->fi.flags & O_DSYNC))
			r = vol_flush(h->disk->v);
		handle_put(c->f, h);
	}
	if (r < 0) {
		call_err(c, r);
		return;
	}
	if (call_claim(c))
		fuse_reply_write(c->req, c->data_len);
	call_done(c);
}

void disk_op_flush(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	int r = 0;

	if (h && WRITER(h)) {
		r = vol_flush(h->disk->v);
		if (r < 0)
			complain(h->disk, "close", r);
	}
	if (h)
		handle_put(c->f, h);
	call_err(c, r);
}

void disk_op_fsync(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	int r = h ? vol_flush(h->disk->v) : -EBADF;

	if (h && r < 0)
		complain(h->disk, "fsync", r);
	if (h)
		handle_put(c->f, h);
	call_err(c, r);
}

void disk_op_release(struct call *c)
{
	struct fsd *f = c->f;
	struct handle *h = handle_get(f, c->fi.fh);

	if (h) {
		disk_drop(f, h->inode, h->disk, WRITER(h));
		mtx_lock(&h->inode->lock);
		h->inode->nopen--;
		mtx_unlock(&h->inode->lock);
		handle_put(f, h); /* ours */
		handle_put(f, h); /* the open's */
	}
	mtx_lock(&f->disks_lock);
	f->disk_releases--;
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
	call_err(c, 0);
}

static int allocate(struct volume *v, int mode, uint64_t off, uint64_t n)
{
	bool grow = !(mode & FALLOC_FL_KEEP_SIZE) && off + n > vol_size(v);
	int r = 0;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_PUNCH_HOLE)
		return vol_discard(v, off, n);
	if (grow)
		r = vol_resize(v, off + n);
	if (r == 0 && (mode & FALLOC_FL_ZERO_RANGE))
		r = vol_zero(v, off, n);
	return r; /* room is the bucket's: there is nothing to be reserved */
}

void disk_op_fallocate(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	uint64_t off = (uint64_t)c->off, n = c->size;
	int r = h ? 0 : -EBADF;

	if (r == 0 && off + n > INT64_MAX)
		r = -EFBIG;
	if (r == 0) {
		r = allocate(h->disk->v, (int)c->mode, off, n);
		if (r == 0)
			touch(h->inode);
		else
			complain(h->disk, "fallocate", r);
	}
	if (h)
		handle_put(c->f, h);
	call_err(c, r);
}

void disk_op_lseek(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	uint64_t at = 0;
	int r = h ? 0 : -EBADF;

	if (r == 0 && WRITER(h)) /* as a read: claims first */
		r = vol_write(h->disk->v, 0, NULL, 0, 0);
	if (r == 0)
		r = vol_seek(h->disk->v, c->flags == SEEK_HOLE, (uint64_t)c->off, &at);
	if (h)
		handle_put(c->f, h);
	if (r < 0) {
		call_err(c, r);
		return;
	}
	if (call_claim(c))
		fuse_reply_lseek(c->req, (off_t)at);
	call_done(c);
}

int disk_truncate(struct fsd *f, struct inode *i, uint64_t size, struct objerr *err)
{
	struct disk *d;
	int r = disk_hold(f, i, true, &d, err);

	if (r < 0)
		return r;
	r = vol_resize(d->v, size);
	if (r == 0)
		touch(i);
	else
		complain(d, "truncate", r);
	disk_drop(f, i, d, true);
	return r;
}

/* --- the name's headers ------------------------------------------------------------------------------------------- */

static int save(struct fsd *f, struct inode *i, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	char value[64], key_name[PATH_NAME_MAX + 16];
	struct obj_headers h = { 0 };
	struct version v;
	struct guard g;
	struct attr a;
	uint64_t size, allocated;
	int r = guard_enter_inode(f, &g, i, &dir, &name);

	if (r < 0)
		return r;
	r = inode_key_name(i, name, key_name);
	if (r == 0)
		r = change_headers(f, i, dir, name, &h, &v, err);
	mtx_lock(&i->lock);
	a = i->attr;
	disk_size_locked(i, &size, &allocated);
	mtx_unlock(&i->lock);
	imgname_header_format(i->uuid, size, value);
	if (r == 0)
		r = attr_to_headers(&a, &h);
	if (r == 0)
		r = obj_headers_set(&h, IMGNAME_HEADER, value);
	(void)snprintf(value, sizeof value, "%llu", (unsigned long long)allocated);
	if (r == 0)
		r = obj_headers_set(&h, IMGNAME_ALLOCATED, value);
	if (r == 0)
		r = metaq_put(f->o.metaq, dir, key_name, false, &v, &h, 0);
	obj_headers_free(&h);
	guard_leave(f, &g);
	return r;
}

void disk_save_meta(struct fsd *f, struct inode *i)
{
	struct objerr err = { 0 };
	unsigned changes;
	bool gone;
	int r = 0;

	inode_begin(i);
	mtx_lock(&i->lock);
	gone = i->unlinked || i->superseded || !i->image_changed;
	changes = i->image_changes;
	mtx_unlock(&i->lock);
	if (!gone) {
		r = save(f, i, &err);
		mtx_lock(&i->lock);
		if (!i->disk && i->image_changes == changes) /* else more came, or may, and who did that sees to it */
			i->image_changed = false;
		i->touched_ns = clock_now_ns();
		mtx_unlock(&i->lock);
	}
	inode_end(i);
	if (r < 0 && r != -ESTALE && r != -ENOENT)
		log_warn("size and times of an image are not stored with its name: %s", err.msg[0] ? err.msg : strerror(-r));
}
