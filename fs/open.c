/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening and creating plain files.
 *
 * OPEN asks the store once (GET of the first window, or HEAD for writing alone) unless this node's own bytes are newer.
 * Bytes in a spool file that is clean are not: the bucket has them, and may have newer ones.
 * A foreign version moves an unopened node on (attributes invalidated, pages dropped at open); an open node stays what
 * it is and the open gets ESTALE, upon which the kernel looks the name up again and finds a new node.
 *
 * Kernel pages: `pages` names the version that they may hold. KEEP_CACHE is given only when that is the node's version
 * and an opener that had to drop older pages is known to have gone on (pages_sure): the kernel drops them in the
 * opener's own time, and a second opener told to keep them could otherwise read what is not yet dropped.
 */
#include "config.h"
#include "disk.h"

#define FIRST_WINDOW MiB
#define UNCHECKED_NS (NSEC_PER_SEC / 4)
#define OPENS_TO_WRITE(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & O_TRUNC))

struct answer {
	int status;
	bool same; /* 304 */
	struct version v;
	void *buf; /* first window, or NULL */
	size_t cap, got;
	int64_t asked_ns;
	struct objreq req;
};

/* Has the node bytes that the bucket does not have yet? */
static bool newer_here_locked(const struct inode *i)
{
	return i->unlinked || (i->sp && (spfile_dirty(i->sp) || i->base.etag[0] == 0 || i->sealing || i->acked));
}

/* The same bytes under a new etag: pages and spool file follow. The caller sets the base. */
static int follow_locked(struct inode *i, const struct version *v)
{
	int r = i->sp ? spfile_rebase(i->sp, &i->base, v) : 0;

	if (r == 0 && strcmp(i->pages, i->base.etag) == 0)
		memcpy(i->pages, v->etag, sizeof i->pages);
	return r;
}

/*
 * The one question of OPEN. A writer will send all headers again, so he needs those of now, which a 304 does not carry:
 * he is answered by a HEAD wherever the data are known or not wanted.
 */
static void ask(struct fsd *f, struct inode *i, const char *dir, const char *name, bool writes, bool head, struct answer *a,
		struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	char known[OBJ_ETAG_MAX] = "";
	uint64_t size;

	a->status = tree_key(f->o.tree, dir, name, false, &key);
	if (a->status < 0)
		return;
	mtx_lock(&i->lock);
	size = i->base.size;
	if (i->pages_sure && strcmp(i->pages, i->base.etag) == 0)
		memcpy(known, i->pages, sizeof known);
	mtx_unlock(&i->lock);
	head = head || (writes && known[0]);
	objreq_init(&a->req, head ? OBJ_HEAD : OBJ_GET, key);
	if (!head) {
		a->cap = MIN(FIRST_WINDOW, MAX(size, 64 * KiB));
		budget_take(f->o.budget, a->cap);
		a->buf = malloc(a->cap);
		if (!a->buf) {
			budget_give(f->o.budget, a->cap);
			a->status = -ENOMEM;
			return;
		}
		a->req.buf = a->buf;
		a->req.cap = a->cap;
		a->req.len = size > a->cap ? a->cap : OBJ_WHOLE; /* a range on an empty object would be 416 */
	}
	if (known[0] && !writes)
		a->req.if_none_match = known;
	a->asked_ns = clock_now_ns();
	a->status = obj_do(f->o.store, &a->req);
	a->got = a->req.got;
	if (a->status < 0) {
		*err = a->req.err;
		return;
	}
	a->same = a->req.not_modified;
	if (!a->same) {
		memcpy(a->v.etag, a->req.etag, sizeof a->v.etag);
		a->v.size = a->req.size;
		a->v.mtime_s = a->req.mtime_s;
		(void)tree_note_object(f->o.tree, dir, name, false, &a->v, &a->req.ret_headers, i->ino, false,
				       a->req.date_s, a->asked_ns);
	}
}

static void answer_done(struct fsd *f, struct answer *a)
{
	if (a->buf) {
		free(a->buf);
		budget_give(f->o.budget, a->cap);
	}
	objreq_done(&a->req);
}

/*
 * Settles what the answer means for the node; counts the handle in. 0, -ESTALE, or FSD_AGAIN: this node changed the base
 * meanwhile, ask again. waiting: headers in the metaq, newer than the answer's, or NULL.
 */
static int settle(struct fsd *f, struct inode *i, struct handle *h, const struct answer *a,
		  const struct obj_headers *waiting, unsigned gen, bool *ret_keep, bool *ret_inval)
{
	bool superseded = false;
	int r = 0;

	mtx_lock(&f->inodes); /* the node must not be found by name between the decision and its unlinking */
	mtx_lock(&i->lock);
	if (a && (i->base_gen != gen || newer_here_locked(i))) {
		r = FSD_AGAIN;
	} else if (a && !a->same) {
		bool equal = version_equal(&a->v, &i->base);

		if (!equal && version_same_bytes(&i->base, &a->v, &a->req.ret_headers))
			equal = follow_locked(i, &a->v) == 0;
		if (!equal && (i->nopen > 0 || i->sp)) {
			i->superseded = superseded = true;
			r = -ESTALE;
		} else {
			/* else our own are the newer ones */
			bool take = !i->sp && !(equal && inode_set_since_locked(i, &i->base, a->asked_ns));

			i->base = a->v;
			*ret_inval = !equal;
			if (take)
				attr_from_headers(waiting ? waiting : &a->req.ret_headers, false, a->v.size,
						  a->v.mtime_s, &f->o.def, &i->attr);
		}
	}
	if (r == 0 && (h->flags & O_APPEND) && (h->flags & O_ACCMODE) != O_RDONLY && !i->sp && i->base.size != i->told_size)
		r = -ESTALE; /* the kernel would append at the size it knows: let it look the new one up first */
	if (r == 0) {
		if (a && !a->same) /* a 304 says nothing of the attributes */
			i->asked_ns = MAX(i->asked_ns, a->asked_ns);
		*ret_keep = i->pages_sure && strcmp(i->pages, i->base.etag) == 0;
		if (!*ret_keep) {
			memcpy(i->pages, i->base.etag, sizeof i->pages);
			i->pages_sure = false;
			memcpy(h->opened, i->base.etag, sizeof h->opened);
		}
		i->nopen++;
	}
	mtx_unlock(&i->lock);
	mtx_unlock(&f->inodes);
	if (r == -ESTALE)
		f->n_stale_opens++;
	if (superseded)
		inode_unlink_name(f, i);
	return r;
}

/* The store has no such object: removed elsewhere, unless this node renamed or wrote it meanwhile. */
static int gone(struct fsd *f, struct inode *i, const char *dir, const char *name, unsigned gen)
{
	_cleanup_free_ char *now_dir = NULL, *now_name = NULL;
	bool changed;

	mtx_lock(&i->lock);
	changed = i->base_gen != gen || newer_here_locked(i);
	mtx_unlock(&i->lock);
	if (changed || inode_path(f, i, &now_dir, &now_name) < 0 || strcmp(dir, now_dir) != 0 || strcmp(name, now_name) != 0)
		return changed || now_dir ? FSD_AGAIN : -ESTALE;
	tree_note_gone(f->o.tree, dir, name, false);
	inode_unlink_name(f, i);
	return -ESTALE; /* the kernel walks again and finds nothing */
}

/*
 * Metadata of the file was set here a moment ago and waits: programs that set it (rsync) open the file once more only to
 * set more, and such an open is not worth a request. The kernel drops its pages, so the first read comes to us, and
 * asks; should the version have changed in that moment, the read gets ESTALE, since the kernel goes by the old size.
 */
static int open_unchecked(struct fsd *f, struct inode *i, struct handle *h, unsigned gen, bool *keep)
{
	bool inval = false;
	int r = settle(f, i, h, NULL, NULL, gen, keep, &inval);

	if (r == 0) {
		mtx_lock(&i->lock);
		i->pages_sure = false;
		memcpy(h->opened, i->pages, sizeof h->opened);
		mtx_unlock(&i->lock);
		h->unchecked = true;
		*keep = false;
	}
	return r;
}

int file_check_late(struct fsd *f, struct handle *h, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct inode *i = h->inode;
	struct answer a = { 0 };
	bool own, same = false;
	unsigned gen;
	int r;

	mtx_lock(&i->lock);
	gen = i->base_gen;
	own = newer_here_locked(i) || i->superseded;
	mtx_unlock(&i->lock);
	if (own) {
		h->unchecked = false;
		return 0;
	}
	r = inode_path(f, i, &dir, &name);
	if (r < 0)
		return -ESTALE;
	ask(f, i, dir, name, false, false, &a, err);
	r = a.status == -ENOENT ? -ESTALE : a.status;
	if (r == 0) {
		mtx_lock(&i->lock);
		/* a change of our own meanwhile was conditional on the base: that is an answer, too */
		same = a.same || i->base_gen != gen || newer_here_locked(i) || version_equal(&a.v, &i->base) ||
		       version_same_bytes(&i->base, &a.v, &a.req.ret_headers);
		i->superseded = i->superseded || !same;
		mtx_unlock(&i->lock);
	}
	if (r == 0 && same) {
		h->unchecked = false;
		if (!a.same && version_equal(&a.v, &i->base)) {
			chunk_add(f, i, a.v.etag, 0, a.buf, a.cap, a.got);
			a.buf = NULL;
		}
	} else if (r == 0) {
		inode_unlink_name(f, i);
		r = -ESTALE;
	}
	answer_done(f, &a);
	return r;
}

static int open_asking(struct fsd *f, struct inode *i, struct handle *h, bool *keep, struct objerr *err)
{
	bool own, head, touched, inval = false;
	unsigned gen;
	int r;

	do {
		_cleanup_free_ char *dir = NULL, *name = NULL;
		struct obj_headers waiting = { 0 };
		struct answer a = { 0 };

		mtx_lock(&i->lock);
		gen = i->base_gen;
		head = i->sp || (h->flags & O_ACCMODE) == O_WRONLY || (h->flags & O_TRUNC);
		own = newer_here_locked(i) || (f->o.open_trust_ns > 0 && i->asked_ns != INT64_MIN &&
					       clock_now_ns() - i->asked_ns < f->o.open_trust_ns);
		r = i->superseded ? -ESTALE : 0;
		mtx_unlock(&i->lock);
		if (r < 0)
			return r;
		if (own)
			return settle(f, i, h, NULL, NULL, gen, keep, &inval);
		r = inode_path(f, i, &dir, &name);
		if (r < 0)
			return -ESTALE;
		mtx_lock(&i->lock);
		touched = i->touched_ns != 0 && clock_now_ns() - i->touched_ns < UNCHECKED_NS;
		mtx_unlock(&i->lock);
		if (touched && (h->flags & O_ACCMODE) == O_RDONLY && metaq_peek(f->o.metaq, dir, name, false, &waiting) == 0) {
			obj_headers_free(&waiting);
			return open_unchecked(f, i, h, gen, keep);
		}
		ask(f, i, dir, name, (h->flags & O_ACCMODE) != O_RDONLY, head, &a, err);
		if (a.status == -ENOENT) {
			r = gone(f, i, dir, name, gen);
		} else if (a.status < 0) {
			r = a.status;
		} else {
			bool waits = metaq_peek(f->o.metaq, dir, name, false, &waiting) == 0;

			r = settle(f, i, h, &a, waits ? &waiting : NULL, gen, keep, &inval);
			obj_headers_free(&waiting);
		}
		if (r == 0 && a.buf && !a.same) {
			chunk_add(f, i, a.v.etag, 0, a.buf, a.cap, a.got);
			a.buf = NULL;
		}
		answer_done(f, &a);
	} while (r == FSD_AGAIN);
	if (r == 0 && inval && f->se) /* only the attributes: pages go when the opener returns without KEEP_CACHE */
		(void)fuse_lowlevel_notify_inval_inode(f->se, i->id, -1, 0);
	return r;
}

static void reply_open(struct call *c, struct handle *h, bool keep)
{
	c->fi.fh = h->fh;
	c->fi.keep_cache = keep;
#ifdef HAVE_STRUCT_FUSE_FILE_INFO_NOFLUSH
	c->fi.noflush = (h->flags & O_ACCMODE) == O_RDONLY;
#endif
}

/* A handle that the application never got: takes back what opening did. */
static void unopen(struct fsd *f, struct handle *h)
{
	mtx_lock(&h->inode->lock);
	h->inode->nopen--;
	mtx_unlock(&h->inode->lock);
	file_last_release(f, h->inode); /* no RELEASE will come */
	handle_put(f, h);
}

void file_op_open(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	struct handle *h = NULL;
	struct objerr err = { 0 };
	bool keep = false;
	int r = i ? 0 : -ESTALE;

	if (r == 0)
		r = handle_new(f, i, c->fi.flags, c->ctx.pid, &h);
	if (r == 0)
		i = NULL; /* the handle's now */
	inode_put(f, i);
	if (r < 0) {
		call_err(c, r);
		return;
	}
	if (h->inode->snap && OPENS_TO_WRITE(c->fi.flags)) {
		handle_put(f, h);
		call_err(c, -EROFS);
		return;
	}
	if (h->inode->image) {
		disk_open_handle(c, h, false);
		return;
	}
	r = open_asking(f, h->inode, h, &keep, &err);
	if (r < 0) {
		if (r != -ESTALE)
			log_warn("open: %s", err.msg[0] ? err.msg : strerror(-r));
		handle_put(f, h);
		call_err(c, r);
		return;
	}
	if ((c->fi.flags & O_TRUNC) && (c->fi.flags & O_ACCMODE) != O_RDONLY) {
		r = file_truncate(f, h->inode, 0, false, &err);
		if (r < 0) {
			unopen(f, h);
			call_err(c, r);
			return;
		}
	}
	reply_open(c, h, keep);
	if (!call_claim(c) || fuse_reply_open(c->req, &c->fi) == -ENOENT)
		unopen(f, h);
	call_done(c);
}

/* --- create ------------------------------------------------------------------------------------------------------- */

static int create_new(struct fsd *f, struct call *c, struct inode *parent, struct inode **ret, struct objerr *err)
{
	struct timespec now = clock_real_ts();
	struct attr a = {
		.have = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_MTIME | ATTR_CTIME | ATTR_ATIME,
		.mode = S_IFREG | (c->mode & 07777),
		.uid = c->ctx.uid,
		.gid = c->ctx.gid,
		.mtime = now,
		.ctime = now,
		.atime = now,
	};
	_cleanup_free_ char *dir = NULL;
	struct inode *i = NULL;
	struct guard g;
	int r;

	fsd_inherit_group(parent, &a);
	r = guard_enter_dir(f, &g, parent, &dir);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	if (disk_wanted(f, dir, c->name)) {
		struct entry e;

		r = disk_create(f, dir, c->name, &a, &e, err);
		guard_leave(f, &g);
		if (r == 0) {
			r = inode_for_entry(f, parent, &e, false, ret);
			entry_done(&e);
			inode_touch_dir(parent);
		}
		return r;
	}
	r = inode_new(f, parent, c->name, false, tree_new_ino(f->o.tree), &a, &i);
	if (r < 0) {
		guard_leave(f, &g);
		return r;
	}
	inode_begin(i);
	mtx_lock(&i->lock);
	i->pages_sure = true; /* no page of an older version can exist: the nodeid is new */
	mtx_unlock(&i->lock);
	r = file_need_sp(f, i, true);
	if (r == 0 && (c->fi.flags & O_EXCL) && path_glob_match(f->o.excl, c->name)) {
		r = file_commit_op(f, i, FILE_EXCL, err); /* one winner, at the call */
		if (r == -ESTALE)
			r = -EEXIST;
	}
	guard_leave(f, &g);
	if (r < 0) {
		struct spfile *sp = inode_take_sp(i);

		inode_end(i);
		inode_unlink_name(f, i);
		inode_set_local(f, i, false);
		if (sp)
			spfile_discard(sp);
		inode_put(f, i);
		return r;
	}
	inode_end(i);
	inode_touch_dir(parent);
	*ret = i;
	return 0;
}

void file_op_create(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *parent = inode_get(f, c->ino), *i = NULL;
	struct fuse_entry_param p = { 0 };
	struct objerr err = { 0 };
	struct handle *h = NULL;
	bool keep = true, existed = false;
	int r = parent ? dir_find(f, parent, c->name, 0, false, &i, &err) : -ESTALE;

	if (r == 0) {
		existed = true;
		if (c->fi.flags & O_EXCL)
			r = -EEXIST;
		else if (i->is_dir)
			r = -EISDIR;
		else if (i->snap && OPENS_TO_WRITE(c->fi.flags))
			r = -EROFS;
	} else if (r == -ENOENT) {
		r = create_new(f, c, parent, &i, &err);
	}
	inode_put(f, parent);
	if (r == 0) {
		r = handle_new(f, inode_ref(f, i), c->fi.flags, c->ctx.pid, &h);
		if (r < 0)
			inode_put(f, i); /* the handle's */
	}
	if (r == 0 && i->image) {
		disk_open_handle(c, h, true);
		inode_put(f, i);
		return;
	}
	if (r == 0 && existed) {
		r = open_asking(f, i, h, &keep, &err);
		if (r == 0 && (c->fi.flags & O_TRUNC)) {
			r = file_truncate(f, i, 0, false, &err);
			if (r < 0) {
				unopen(f, h);
				h = NULL;
			}
		}
		if (r < 0 && h)
			handle_put(f, h);
	} else if (r == 0) {
		mtx_lock(&i->lock);
		i->nopen++;
		mtx_unlock(&i->lock);
	}
	if (r < 0) {
		if (r != -EEXIST && err.msg[0])
			log_warn("create %s: %s", c->name, err.msg);
		inode_put(f, i);
		call_err(c, r);
		return;
	}
	inode_lookup_inc(f, i);
	reply_open(c, h, keep);
	mtx_lock(&i->lock);
	p.ino = i->id;
	inode_stat_locked(f, i, &p.attr);
	p.attr_timeout = p.entry_timeout = inode_valid_locked(f, i);
	mtx_unlock(&i->lock);
	if (!call_claim(c) || fuse_reply_create(c->req, &p, &c->fi) < 0) {
		unopen(f, h);
		inode_forget(f, i->id, 1);
	}
	inode_put(f, i);
	call_done(c);
}

