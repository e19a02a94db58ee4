/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading, writing and committing plain files (opening them: open.c).
 *
 * Dirty bytes live in a spool file. A commit (close, fsync, truncate by path, last release) is one operation of the
 * node: sealing keeps writers out until the object is complete, so that an object is always one moment of the file.
 */
#include "config.h"
#include "inode.h"
#include <dirent.h>


/* --- headers ------------------------------------------------------------------------------------------------------ */

int file_headers(struct fsd *f, struct inode *i, const char *dir, const char *name, const struct attr *a,
		 struct obj_headers *ret, struct objerr *err)
{
	struct obj_headers h = { 0 };
	struct entry e = { 0 };
	bool known, exists;
	int r;

	mtx_lock(&i->lock);
	known = i->headers.n > 0;
	exists = i->base.etag[0] != 0;
	r = known ? obj_headers_copy(&h, &i->headers) : 0;
	mtx_unlock(&i->lock);
	if (r == 0 && !known && exists && metaq_peek(f->o.metaq, dir, name, false, &h) == 0)
		known = true; /* a change that waits is newer than what the store has */
	if (r == 0 && !known && exists) {
		r = tree_lookup(f->o.tree, dir, name, TREE_ATTRS, &e, err);
		if (r == 0) {
			h = e.headers;
			memset(&e.headers, 0, sizeof e.headers);
		} else if (r == -ENOENT) {
			r = 0; /* removed elsewhere: the condition will say so */
		}
		entry_done(&e);
	}
	if (r == 0 && h.n > 0)
		r = attr_to_headers(a, &h);
	else if (r == 0)
		r = tree_headers(a, name, false, &h);
	if (r < 0) {
		obj_headers_free(&h);
		return r;
	}
	obj_headers_free(ret);
	*ret = h;
	return 0;
}

/* --- the spool file of a node ------------------------------------------------------------------------------------- */

/* For a node that has lost its name: bytes that are not written here come from where they were kept. */
static int nameless_sp(struct fsd *f, const char *alt_key, const struct version *base, uint64_t ino,
		       const struct obj_headers *h, bool whole, struct spfile **ret)
{
	const char *rest = alt_key ? alt_key + strlen(f->o.prefix) : "", *slash = strrchr(rest, '/');
	_cleanup_free_ char *dir = strndup(rest, slash ? (size_t)(slash + 1 - rest) : 0);
	struct spfile *sp = NULL;
	int r = dir ? 0 : -ENOMEM;

	if (r == 0)
		r = spfile_new(f->o.spool, dir, slash ? slash + 1 : "", ino, alt_key ? base : NULL, h, whole || !alt_key, &sp);
	if (r == 0)
		r = spfile_nameless(sp);
	if (r < 0) {
		if (sp)
			spfile_discard(sp);
		return r;
	}
	*ret = sp;
	return 0;
}

/* "x~object" is how an object x beside a directory x is shown; its bytes belong to the key x. */
static int file_key_name(struct fsd *f, const char *dir, char **name)
{
	_cleanup_free_ char *key = NULL;
	char *real;
	int r;

	if (!str_has_suffix(*name, "~object"))
		return 0;
	r = tree_key(f->o.tree, dir, *name, false, &key);
	if (r < 0)
		return r;
	real = strdup(key + strlen(f->o.prefix) + strlen(dir));
	if (!real)
		return -ENOMEM;
	free(*name);
	*name = real;
	return 0;
}

int file_need_sp(struct fsd *f, struct inode *i, bool whole)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct obj_headers h = { 0 };
	struct spfile *sp = NULL;
	struct version base;
	struct guard g;
	struct attr a;
	bool have, nameless, lost;
	int r;

	mtx_lock(&i->lock);
	have = i->sp != NULL;
	nameless = i->unlinked;
	base = nameless ? i->alt_v : i->base;
	lost = i->lost;
	a = i->attr;
	mtx_unlock(&i->lock);
	if (have)
		return 0;
	if (lost) /* what came before is parked: what comes now must not be published without it */
		return -ESTALE;
	if (nameless) {
		r = tree_headers(&a, "", false, &h);
		if (r == 0) /* alt_key is written once, before the name went */
			r = nameless_sp(f, i->alt_key, &base, i->ino, &h, whole, &sp);
	} else {
		r = guard_enter_inode(f, &g, i, &dir, &name); /* a rename of a directory above would miss it */
		if (r < 0)
			return r == -ENOENT ? -ESTALE : r;
		r = tree_headers(&a, name, false, &h);
		if (r == 0)
			r = file_key_name(f, dir, &name);
		if (r == 0)
			r = spfile_new(f->o.spool, dir, name, i->ino, base.etag[0] ? &base : NULL, &h,
				       whole || base.etag[0] == 0, &sp);
	}
	obj_headers_free(&h);
	if (r == 0) {
		mtx_lock(&i->lock);
		i->sp = sp;
		mtx_unlock(&i->lock);
		if (!nameless)
			inode_set_local(f, i, true);
	}
	if (!nameless)
		guard_leave(f, &g);
	return r;
}

static void touched_locked(struct inode *i)
{
	i->attr.mtime = i->attr.ctime = clock_real_ts();
}

/* --- commit ------------------------------------------------------------------------------------------------------- */

/* Another version is there: the bytes are set aside, the name belongs to the others from now on. */
static void conflict(struct fsd *f, struct inode *i, const char *dir, const char *name, const char *why)
{
	struct entry e = { 0 };
	struct spfile *sp;
	uint64_t id;

	mtx_lock(&i->lock);
	i->superseded = i->lost = true;
	i->acked = false;
	mtx_unlock(&i->lock);
	sp = inode_take_sp(i);
	id = spfile_park(sp, why);
	log_warn("%s%s: %s; the bytes written here are parked as %llu (lsvdfs parked list)", dir, name, why,
		 (unsigned long long)id);
	f->n_parked++;
	inode_unlink_name(f, i);
	inode_set_local(f, i, false);
	if (tree_lookup(f->o.tree, dir, name, TREE_FRESH | TREE_ATTRS, &e, NULL) == 0)
		entry_done(&e);
}

static int commit_sealed(struct fsd *f, struct inode *i, const char *dir, const char *name, const struct attr *a,
			 unsigned flags, struct spcommit *sc, struct objerr *err)
{
	struct obj_headers h = { 0 };
	int r;

	r = file_headers(f, i, dir, name, a, &h, err);
	if (r < 0)
		return r;
	r = spfile_set_headers(i->sp, &h);
	if (r == 0) {
		mtx_lock(&i->lock);
		obj_headers_free(&i->headers);
		i->headers = h;
		memset(&h, 0, sizeof h);
		mtx_unlock(&i->lock);
		ignore(metaq_take(f->o.metaq, dir, name, false, NULL)); /* this upload carries it */
		mtx_lock(&i->lock);
		i->tried = true;
		mtx_unlock(&i->lock);
		r = spfile_commit(i->sp, flags & ~FILE_EXCL, sc, err);
	}
	obj_headers_free(&h);
	return r;
}

int file_commit_op(struct fsd *f, struct inode *i, unsigned flags, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct spcommit sc = { 0 };
	struct guard g;
	struct attr a;
	int64_t asked = clock_now_ns();
	bool nothing;
	int r;

	mtx_lock(&i->lock);
	nothing = !i->sp || i->unlinked || (!spfile_dirty(i->sp) && !i->acked);
	if (!nothing)
		i->sealing = true;
	a = i->attr;
	mtx_unlock(&i->lock);
	if (nothing)
		return 0;
	r = guard_enter_inode(f, &g, i, &dir, &name);
	if (r == 0) {
		r = commit_sealed(f, i, dir, name, &a, flags, &sc, err);
		if (r == 0 && !sc.acked)
			(void)tree_note_object(f->o.tree, dir, name, false, &sc.v, &i->headers, i->ino, true,
					       sc.date_s, asked);
		guard_leave(f, &g);
	}
	mtx_lock(&i->lock);
	i->sealing = false;
	cond_broadcast(&i->ops_idle);
	if (r == 0)
		i->acked = sc.acked;
	if (r == 0 && !sc.acked) {
		if (strcmp(i->pages, i->base.etag) == 0)
			memcpy(i->pages, sc.v.etag, sizeof i->pages); /* the kernel's pages are our own writes */
		i->base = sc.v;
		i->base_gen++;
		i->asked_ns = asked;
		i->base_ns = clock_now_ns();
		i->tried = false;
	}
	mtx_unlock(&i->lock);
	if (r == -ESTALE && !(flags & FILE_EXCL)) {
		f->n_conflicts++;
		conflict(f, i, dir, name, "another client has changed or removed it");
	} else if (sc.acked) {
		async_watch(f, i);
	} else if (r == 0 && sc.headers_stale) {
		ignore(metaq_put(f->o.metaq, dir, name, false, &sc.v, &i->headers, METAQ_SET_ALL));
	} else if (r < 0 && r != -ESTALE) {
		log_error("%s%s: cannot upload: %s", dir ? dir : "", name ? name : "?", err->msg[0] ? err->msg : strerror(-r));
	}
	return r;
}

int file_settle_acked(struct fsd *f, struct inode *i, struct objerr *err)
{
	bool acked;

	mtx_lock(&i->lock);
	acked = i->acked;
	mtx_unlock(&i->lock);
	return acked ? file_commit_op(f, i, 0, err) : 0;
}

int file_commit(struct fsd *f, struct inode *i, unsigned flags, struct objerr *err)
{
	int r;

	inode_begin(i);
	r = file_commit_op(f, i, flags, err);
	inode_end(i);
	return r;
}

/* --- read and write ----------------------------------------------------------------------------------------------- */

void file_op_read(struct call *c)
{
	struct fsd *f = c->f;
	struct handle *h = handle_get(f, c->fi.fh);
	struct objerr err = { 0 };
	struct spfile *sp;
	void *buf;
	ssize_t r;

	if (!h) {
		call_err(c, -EBADF);
		return;
	}
	buf = malloc(c->size ? c->size : 1);
	r = h->unchecked ? file_check_late(f, h, &err) : 0;
	mtx_lock(&h->inode->lock);
	sp = h->inode->sp;
	h->inode->sp_users += sp != NULL;
	mtx_unlock(&h->inode->lock);
	if (!buf)
		r = -ENOMEM;
	else if (r < 0)
		;
	else if (sp)
		r = spfile_read(sp, buf, c->size, (uint64_t)c->off, &err);
	else
		r = chunk_read(f, h->inode, h, buf, c->size, (uint64_t)c->off, &err);
	if (sp) {
		mtx_lock(&h->inode->lock);
		h->inode->sp_users--;
		cond_broadcast(&h->inode->ops_idle);
		mtx_unlock(&h->inode->lock);
	}
	handle_put(f, h);
	if (r < 0 && r != -ESTALE)
		log_warn("read: %s", err.msg[0] ? err.msg : strerror((int)-r));
	call_buf(c, buf, r);
}

bool file_write_inline(struct fsd *f, struct inode *i, const void *buf, size_t n, off_t off, int *ret)
{
	bool done = false;

	mtx_lock(&i->lock);
	if (i->sp && !i->sealing && !i->acked && !spfile_busy(i->sp)) {
		*ret = spfile_write(i->sp, buf, n, (uint64_t)off);
		if (*ret == 0)
			touched_locked(i);
		done = true;
	}
	mtx_unlock(&i->lock);
	return done;
}

void file_op_write(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	struct objerr err = { 0 };
	int r = i ? 0 : -ESTALE;

	/* the operation keeps uploads away; what close() has acknowledged goes up first */
	if (r == 0) {
		inode_begin(i);
		r = file_settle_acked(f, i, &err);
		if (r == 0)
			r = file_need_sp(f, i, false);
		if (r == 0) {
			mtx_lock(&i->lock);
			r = spfile_write(i->sp, c->data, c->data_len, (uint64_t)c->off);
			if (r == 0)
				touched_locked(i);
			mtx_unlock(&i->lock);
		}
		inode_end(i);
	}
	inode_put(f, i);
	if (r < 0) {
		call_err(c, r);
		return;
	}
	if (call_claim(c))
		fuse_reply_write(c->req, c->size);
	call_done(c);
}

int file_truncate(struct fsd *f, struct inode *i, uint64_t size, bool commit, struct objerr *err)
{
	int r;

	inode_begin(i);
	r = file_settle_acked(f, i, err);
	if (r == 0)
		r = file_need_sp(f, i, size == 0);
	if (r == 0) {
		mtx_lock(&i->lock);
		if (size != spfile_size(i->sp) || size == 0)
			touched_locked(i);
		r = spfile_truncate(i->sp, size);
		mtx_unlock(&i->lock);
	}
	if (r == 0 && commit)
		r = file_commit_op(f, i, 0, err);
	inode_end(i);
	return r;
}

void file_op_fallocate(struct call *c)
{
	const int mode = (int)c->mode;
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	uint64_t off = (uint64_t)c->off, n = c->size;
	struct objerr err = { 0 };
	int r = i ? 0 : -ESTALE;

	if (r == 0 && mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		r = -EOPNOTSUPP;
	if (r == 0 && off + n > INT64_MAX)
		r = -EFBIG;
	if (r == 0) {
		inode_begin(i);
		r = file_settle_acked(f, i, &err);
		if (r == 0)
			r = file_need_sp(f, i, false);
		if (r == 0) {
			mtx_lock(&i->lock);
			if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
				r = spfile_zero(i->sp, off, n, !(mode & FALLOC_FL_KEEP_SIZE));
			else if (!(mode & FALLOC_FL_KEEP_SIZE))
				r = spfile_allocate(i->sp, off, n);
			if (r == 0)
				touched_locked(i);
			mtx_unlock(&i->lock);
		}
		inode_end(i);
	}
	inode_put(f, i);
	call_err(c, r);
}

/* --- flush, fsync, release ---------------------------------------------------------------------------------------- */

/* A dup or a fork: the process that opened the handle lives on, and this close is somebody else's. */
static bool opener_lives_on(struct handle *h, pid_t tid)
{
	if (h->opener_closed)
		return false;
	if (tid == h->opener || fsd_tgid(tid) == h->opener_tgid) {
		h->opener_closed = true; /* whoever holds it still, his close is the one that counts */
		return false;
	}
	return kill(h->opener_tgid, 0) == 0 || errno == EPERM;
}

/* "flags:\t0100001" (octal) of a descriptor that can write. */
static bool writable_fdinfo(const char *text)
{
	const char *p = strstr(text, "flags:");
	unsigned flags;

	return p && sscanf(p, "flags: %o", &flags) == 1 && (flags & O_ACCMODE) != O_RDONLY;
}

/*
 * `cmd > file`: a shell opens the file, moves the descriptor with dup2 and closes the first one, before a byte was
 * written. That close is not the last: as long as the closing process still has the (empty) file open, another comes.
 * fdinfo names the inode without asking us.
 */
static bool moved_descriptor(struct handle *h, pid_t tid)
{
	char path[64], want[64];
	struct dirent *de;
	bool found = false;
	uint64_t size;
	DIR *d;

	mtx_lock(&h->inode->lock);
	size = h->inode->sp ? spfile_size(h->inode->sp) : 1;
	mtx_unlock(&h->inode->lock);
	if (size != 0 || tid <= 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/fdinfo", (int)tid);
	snprintf(want, sizeof want, "ino:\t%llu\n", (unsigned long long)h->inode->ino);
	d = opendir(path);
	while (d && !found && (de = readdir(d))) {
		char text[512];
		ssize_t n;
		int fd;

		fd = openat(dirfd(d), de->d_name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		n = read(fd, text, sizeof text - 1);
		close(fd);
		text[n > 0 ? n : 0] = 0;
		found = strstr(text, want) && writable_fdinfo(text);
	}
	if (d)
		closedir(d);
	return found;
}

/* Bytes of several writers are parked together: each of them is told once, at close or fsync. */
static int tell_lost(struct handle *h, int r)
{
	bool lost;

	if ((h->flags & O_ACCMODE) == O_RDONLY)
		return r;
	mtx_lock(&h->inode->lock);
	lost = h->inode->lost;
	mtx_unlock(&h->inode->lock);
	if (lost && !h->lost_told) {
		h->lost_told = true;
		return r < 0 ? r : -ESTALE;
	}
	return r;
}

void file_op_flush(struct call *c)
{
	struct fsd *f = c->f;
	struct handle *h = handle_get(f, c->fi.fh);
	struct objerr err = { 0 };
	int r = 0;

	if (h && (h->flags & O_ACCMODE) != O_RDONLY && !opener_lives_on(h, c->ctx.pid) && !moved_descriptor(h, c->ctx.pid))
		r = file_commit(f, h->inode, f->o.async_close ? SPC_ASYNC : 0, &err);
	if (h) {
		r = tell_lost(h, r);
		handle_put(f, h);
	}
	call_err(c, r);
}

void file_op_fsync(struct call *c)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	struct handle *h = handle_get(f, c->fi.fh);
	struct objerr err = { 0 };
	int r = i ? file_commit(f, i, 0, &err) : -ESTALE;

	if (h) {
		r = tell_lost(h, r);
		handle_put(f, h);
	}
	if (r == 0 && !i->unlinked && inode_path(f, i, &dir, &name) == 0)
		r = metaq_sync(f->o.metaq, dir, name, false, &err);
	inode_put(f, i);
	call_err(c, r);
}

void file_last_release(struct fsd *f, struct inode *i)
{
	struct objerr err = { 0 };
	struct spfile *sp = NULL;
	bool unlinked, open, take, parked = false;
	char *alt = NULL;
	int r;

	mtx_lock(&i->lock);
	open = i->nopen > 0;
	mtx_unlock(&i->lock);
	if (open)
		return;
	inode_begin(i);
	r = file_commit_op(f, i, f->o.async_close ? SPC_ASYNC : 0, &err);
	mtx_lock(&i->lock);
	unlinked = i->unlinked;
	take = i->nopen == 0 && i->sp &&
	       (unlinked || (!i->acked && (!spfile_dirty(i->sp) || (r < 0 && r != -ESTALE))));
	if (take) {
		parked = !unlinked && spfile_dirty(i->sp);
		i->superseded = i->superseded || parked;
		i->lost = i->lost || parked;
		alt = i->alt_key;
		i->alt_key = NULL;
	} else if (i->nopen == 0 && !i->sp) {
		alt = i->alt_key;
		i->alt_key = NULL;
	}
	mtx_unlock(&i->lock);
	if (take) {
		sp = inode_take_sp(i);
		inode_set_local(f, i, false);
	}
	inode_end(i);
	if (parked) {
		char why[300];
		uint64_t id;

		snprintf(why, sizeof why, "cannot upload: %s", err.msg[0] ? err.msg : strerror(-r));
		id = spfile_park(sp, why);
		f->n_parked++;
		log_error("%s; the bytes are parked as %llu (lsvdfs parked list)", why, (unsigned long long)id);
		inode_unlink_name(f, i); /* the next lookup finds what the bucket has */
	} else if (sp && unlinked) {
		spfile_discard(sp);
	} else if (sp) {
		spfile_free(sp);
	}
	if (alt) {
		ignore(obj_delete(f->o.store, alt, NULL, NULL));
		free(alt);
	}
}

void file_op_release(struct call *c)
{
	struct fsd *f = c->f;
	struct handle *h = handle_get(f, c->fi.fh);
	struct inode *i;
	bool last;

	if (!h) {
		call_err(c, 0);
		return;
	}
	i = inode_ref(f, h->inode);
	mtx_lock(&i->lock);
	if (h->opened[0] && strcmp(h->opened, i->pages) == 0)
		i->pages_sure = true;
	last = --i->nopen == 0 && (i->sp || i->alt_key);
	mtx_unlock(&i->lock);
	if (last)
		file_last_release(f, i);
	handle_put(f, h); /* ours */
	handle_put(f, h); /* the open's */
	inode_put(f, i);
	call_err(c, 0);
}
