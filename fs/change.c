/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Changes of names and metadata. Names are changed in the bucket before the call returns; metadata of closed files
 * waits in the metaq (journaled) for about a second, that of dirty files joins their next upload.
 */
#include "disk.h"
#include <sys/xattr.h>

void fsd_inherit_group(struct inode *parent, struct attr *a)
{
	mtx_lock(&parent->lock);
	if (parent->attr.mode & S_ISGID) {
		a->gid = parent->attr.gid;
		if (S_ISDIR(a->mode))
			a->mode |= S_ISGID;
	}
	mtx_unlock(&parent->lock);
}

static struct attr new_attr(const struct call *c, mode_t mode)
{
	struct timespec now = clock_real_ts();

	return (struct attr){
		.have = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_RDEV | ATTR_MTIME | ATTR_CTIME | ATTR_ATIME,
		.mode = mode,
		.uid = c->ctx.uid,
		.gid = c->ctx.gid,
		.rdev = c->rdev,
		.mtime = now,
		.ctime = now,
		.atime = now,
	};
}

static void complain(const char *what, const char *name, int r, const struct objerr *err)
{
	if (err->msg[0] && r != -EEXIST && r != -ENOENT && r != -ENOTEMPTY && r != -ESTALE)
		log_warn("%s %s: %s", what, name, err->msg);
}

/* --- making ------------------------------------------------------------------------------------------------------- */

enum making { MAKE_DIR, MAKE_NODE };

static void make(struct call *c, enum making what, const struct attr *given, const char *target)
{
	struct fsd *f = c->f;
	struct inode *parent = inode_get(f, c->ino), *i = NULL;
	_cleanup_free_ char *dir = NULL;
	struct attr a = *given;
	struct objerr err = { 0 };
	struct entry e = { 0 };
	struct guard g;
	int r = parent ? dir_find(f, parent, c->name, 0, false, &i, &err) : -ESTALE;

	if (r == 0) {
		inode_put(f, i);
		r = -EEXIST;
	} else if (r == -ENOENT) {
		fsd_inherit_group(parent, &a);
		r = guard_enter_dir(f, &g, parent, &dir);
		if (r == 0) {
			if (S_ISREG(a.mode) && !target && disk_wanted(f, dir, c->name))
				r = disk_create(f, dir, c->name, &a, &e, &err);
			else if (what == MAKE_DIR)
				r = tree_mkdir(f->o.tree, dir, c->name, &a, NULL, &e, &err);
			else
				r = tree_mknod(f->o.tree, dir, c->name, &a, target, &e, &err);
			guard_leave(f, &g);
		}
	}
	if (r == 0) {
		r = inode_for_entry(f, parent, &e, true, &i);
		inode_touch_dir(parent);
		entry_done(&e);
	}
	inode_put(f, parent);
	if (r < 0) {
		complain("make", c->name, r, &err);
		call_err(c, r);
		return;
	}
	dir_reply_entry(c, i);
}

void change_op_mkdir(struct call *c)
{
	struct attr a = new_attr(c, S_IFDIR | (c->mode & 07777));

	make(c, MAKE_DIR, &a, NULL);
}

void change_op_mknod(struct call *c)
{
	struct attr a = new_attr(c, c->mode & S_IFMT ? c->mode : c->mode | S_IFREG);

	make(c, MAKE_NODE, &a, NULL);
}

void change_op_symlink(struct call *c)
{
	struct attr a = new_attr(c, S_IFLNK | 0777);

	make(c, MAKE_NODE, &a, c->name2);
}

void change_op_readlink(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	_cleanup_free_ char *dir = NULL, *name = NULL, *target = NULL;
	struct objerr err = { 0 };
	struct version v;
	int r = i ? inode_path(f, i, &dir, &name) : -ESTALE;

	if (r == 0) {
		mtx_lock(&i->lock);
		v = i->base;
		mtx_unlock(&i->lock);
		r = tree_readlink(f->o.tree, dir, name, &v, &target, &err);
	}
	inode_put(f, i);
	if (r < 0) {
		complain("readlink", name ? name : "?", r, &err);
		call_err(c, r);
		return;
	}
	if (call_claim(c))
		fuse_reply_readlink(c->req, target);
	call_done(c);
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

static int unlink_op(struct fsd *f, struct inode *parent, const char *name, struct inode *i, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL;
	struct obj_headers h = { 0 };
	struct version v;
	struct guard g;
	bool stored, waited;
	int r = file_settle_acked(f, i, err);

	if (r < 0 && r != -ESTALE) /* parked: the name is to go all the same */
		return r;
	r = guard_enter_dir(f, &g, parent, &dir);
	if (r < 0)
		return r;
	if (!inode_is(f, i, parent, name)) {
		r = -ENOENT;
		goto out;
	}
	if (i->image) {
		r = disk_unlink(f, i, dir, name, err);
		if (r == 0)
			inode_touch_dir(parent);
		goto out;
	}
	r = file_keep_bytes(f, i, err);
	if (r < 0)
		goto out;
	mtx_lock(&i->lock);
	stored = i->base.etag[0] != 0 || i->tried;
	v = i->base;
	mtx_unlock(&i->lock);
	waited = metaq_take(f->o.metaq, dir, name, false, &h) == 0; /* it must not arrive after the removal */
	if (stored)
		r = tree_unlink(f->o.tree, dir, name, err);
	if (r < 0 && waited)
		ignore(metaq_put(f->o.metaq, dir, name, false, &v, &h, METAQ_SET_ALL));
	obj_headers_free(&h);
	if (r == 0) {
		file_unlinked(f, i);
		inode_touch_dir(parent);
	}
out:
	guard_leave(f, &g);
	return r;
}

void change_op_unlink(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *parent = inode_get(f, c->ino), *i = NULL;
	struct objerr err = { 0 };
	int r = parent ? dir_find(f, parent, c->name, 0, false, &i, &err) : -ESTALE;

	if (r == 0 && i->is_dir)
		r = -EISDIR;
	if (r == 0 && i->snap) /* a snapshot is not lost by a wildcard: lsvdfs image delete */
		r = -EROFS;
	if (r == 0) {
		inode_begin(i);
		r = unlink_op(f, parent, c->name, i, &err);
		inode_end(i);
	}
	complain("unlink", c->name, r, &err);
	inode_put(f, i);
	inode_put(f, parent);
	call_err(c, r);
}

/* A file below that only this node knows (not in the bucket yet)? */
bool fsd_has_local_below(struct fsd *f, struct inode *dir)
{
	bool found = false;

	mtx_lock(&f->inodes);
	list_for_each(l, &f->local) {
		struct inode *i = list_entry(l, struct inode, local);

		for (struct inode *p = i->linked ? i->parent : NULL; p && !found; p = p->parent)
			found = p == dir;
	}
	mtx_unlock(&f->inodes);
	return found;
}

bool fsd_attached(struct fsd *f, struct inode *i)
{
	bool found = false;

	mtx_lock(&f->inodes);
	list_for_each(l, &f->attached) {
		struct inode *a = list_entry(l, struct inode, attached);

		for (struct inode *p = a->linked ? a : NULL; p && !found; p = p->parent)
			found = p == i;
	}
	mtx_unlock(&f->inodes);
	return found;
}

static int rmdir_op(struct fsd *f, struct inode *parent, const char *name, struct inode *i, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL;
	struct obj_headers h = { 0 };
	struct version v;
	struct guard g;
	int r = guard_enter_dir(f, &g, parent, &dir);

	if (r < 0)
		return r;
	if (fsd_has_local_below(f, i))
		r = -ENOTEMPTY;
	if (r == 0) {
		bool waited = metaq_take(f->o.metaq, dir, name, true, &h) == 0;

		r = tree_rmdir(f->o.tree, dir, name, err);
		if (r < 0 && waited) {
			mtx_lock(&i->lock);
			v = i->base;
			mtx_unlock(&i->lock);
			ignore(metaq_put(f->o.metaq, dir, name, true, &v, &h, METAQ_SET_ALL));
		}
		obj_headers_free(&h);
	}
	if (r == 0) {
		inode_unlink_name(f, i);
		mtx_lock(&i->lock);
		i->unlinked = true;
		mtx_unlock(&i->lock);
		inode_touch_dir(parent);
	}
	guard_leave(f, &g);
	return r;
}

void change_op_rmdir(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *parent = inode_get(f, c->ino), *i = NULL;
	struct objerr err = { 0 };
	int r = parent ? dir_find(f, parent, c->name, 0, false, &i, &err) : -ESTALE;

	if (r == 0 && !i->is_dir)
		r = -ENOTDIR;
	if (r == 0) {
		inode_begin(i);
		r = rmdir_op(f, parent, c->name, i, &err);
		inode_end(i);
	}
	complain("rmdir", c->name, r, &err);
	inode_put(f, i);
	inode_put(f, parent);
	call_err(c, r);
}

/* --- metadata ----------------------------------------------------------------------------------------------------- */

/* How metaq and tree name a node: a directory by its parent and its name, the root by two empty strings. */
static int node_name(struct fsd *f, struct inode *i, char **ret_dir, char **ret_name)
{
	if (i != f->root)
		return inode_path(f, i, ret_dir, ret_name);
	*ret_dir = strdup("");
	*ret_name = strdup("");
	return *ret_dir && *ret_name ? 0 : -ENOMEM;
}

/* The same, with the guard that keeps renames of directories above away. */
static int node_enter(struct fsd *f, struct guard *g, struct inode *i, char **ret_dir, char **ret_name)
{
	int r;

	if (i != f->root)
		return guard_enter_inode(f, g, i, ret_dir, ret_name);
	r = node_name(f, i, ret_dir, ret_name);
	return r < 0 ? r : guard_enter(f, g, "");
}

/* Is the entry the version that the node shows? A node that nobody has open moves on to it. */
static bool same_version(struct inode *i, const struct entry *e)
{
	bool same;

	if (!inode_is_entry(i, e))
		return false;
	mtx_lock(&i->lock);
	if (i->image && e->asked_ns >= i->base_ns) /* its name object has versions, the image is one */
		i->base = e->v;
	same = i->image || version_equal(&i->base, &e->v) || version_same_bytes(&i->base, &e->v, &e->headers);
	if (!same && i->nopen == 0 && !i->superseded && !i->unlinked && e->asked_ns >= i->base_ns) {
		i->base = e->v;
		i->attr = e->attr;
		i->asked_ns = e->asked_ns;
		same = true;
	}
	mtx_unlock(&i->lock);
	return same;
}

/*
 * All headers that the node's object has or will have, waiting changes included. sp_headers: they belong to a file with
 * a spool file (kept at the node); else *ret_v is the version that they are of. FSD_AGAIN: they changed meanwhile.
 */
static int node_headers_once(struct fsd *f, struct inode *i, const char *dir, const char *name, struct obj_headers *ret,
			struct version *ret_v, struct objerr *err)
{
	char key_name[PATH_NAME_MAX + 16];
	struct entry e = { 0 };
	struct attr a;
	unsigned gen;
	bool own, sent;
	int r = inode_key_name(i, name, key_name);

	if (r < 0)
		return r;

	mtx_lock(&i->lock);
	gen = i->base_gen;
	own = i->sp != NULL || i->unlinked;
	a = i->attr;
	*ret_v = i->base;
	mtx_unlock(&i->lock);
	if (own)
		return file_headers(f, i, dir, name, &a, ret, err);
	if (i == f->root)
		r = tree_lookup_dir(f->o.tree, "", TREE_ATTRS, &e, err);
	else
		r = tree_lookup(f->o.tree, dir, name, TREE_ATTRS, &e, err);
	if (r == -ENOENT)
		return -ESTALE;
	if (r < 0)
		return r;
	if (!i->is_dir && !same_version(i, &e)) {
		entry_done(&e);
		return -ESTALE; /* another version has the name: ours must not be written onto it */
	}
	*ret_v = e.v;
	if (metaq_peek(f->o.metaq, dir, key_name, i->is_dir, ret) < 0) {
		mtx_lock(&i->lock);
		sent = i->base_gen != gen; /* what waited has reached the bucket since: e may be older */
		mtx_unlock(&i->lock);
		if (sent) {
			entry_done(&e);
			return FSD_AGAIN;
		}
		*ret = e.headers;
		memset(&e.headers, 0, sizeof e.headers);
	}
	if (ret->n == 0)
		r = tree_headers(&e.attr, name, i->is_dir, ret);
	entry_done(&e);
	return r;
}

int change_headers(struct fsd *f, struct inode *i, const char *dir, const char *name, struct obj_headers *ret,
		   struct version *ret_v, struct objerr *err)
{
	int r;

	do
		r = node_headers_once(f, i, dir, name, ret, ret_v, err);
	while (r == FSD_AGAIN);
	return r;
}

/* Puts changed headers on their way: with the next upload of a dirty file, else by the metaq. Holds the operation. */
static int store_headers(struct fsd *f, struct inode *i, const char *dir, const char *name, const struct version *v,
			 struct obj_headers *take_h, unsigned set)
{
	char key_name[PATH_NAME_MAX + 16];
	bool waits;
	int r = inode_key_name(i, name, key_name);

	if (r < 0)
		goto out;
	mtx_lock(&i->lock);
	waits = i->unlinked || (i->sp && spfile_dirty(i->sp));
	if (i->sp) {
		obj_headers_free(&i->headers);
		r = obj_headers_copy(&i->headers, take_h);
	}
	mtx_unlock(&i->lock);
	if (r == 0 && !waits)
		r = metaq_put(f->o.metaq, dir, key_name, i->is_dir, v, take_h, set);
out:
	obj_headers_free(take_h);
	return r;
}

static void apply(struct attr *a, const struct stat *st, int to_set)
{
	struct timespec now = clock_real_ts();

	if (to_set & FUSE_SET_ATTR_MODE)
		a->mode = (a->mode & S_IFMT) | (st->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		a->uid = st->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		a->gid = st->st_gid;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		a->atime = now;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		a->atime = st->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		a->mtime = now;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		a->mtime = st->st_mtim;
	a->ctime = to_set & FUSE_SET_ATTR_CTIME ? st->st_ctim : now;
}

static unsigned set_here(int to_set)
{
	return (to_set & FUSE_SET_ATTR_MODE ? ATTR_MODE : 0) | (to_set & FUSE_SET_ATTR_UID ? ATTR_UID : 0) |
	       (to_set & FUSE_SET_ATTR_GID ? ATTR_GID : 0);
}

#define SET_ANY                                                                                                         \
	(FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME |       \
	 FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME)

static int setattr_op(struct fsd *f, struct inode *i, const struct stat *st, int to_set, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct obj_headers h = { 0 };
	struct version v;
	struct guard g;
	struct attr a;
	bool dirty;
	int r;

	r = file_settle_acked(f, i, err);
	if (r < 0)
		return r;
	mtx_lock(&i->lock);
	dirty = i->unlinked || (i->sp && spfile_dirty(i->sp));
	if (dirty)
		apply(&i->attr, st, to_set); /* the next upload carries it */
	mtx_unlock(&i->lock);
	if (dirty)
		return 0;
	r = dir_refresh(f, i, false, err);
	if (r == 0)
		r = node_enter(f, &g, i, &dir, &name);
	if (r < 0)
		return r;
	r = change_headers(f, i, dir, name, &h, &v, err);
	if (r < 0)
		goto out;
	mtx_lock(&i->lock);
	a = i->attr;
	mtx_unlock(&i->lock);
	apply(&a, st, to_set);
	r = attr_to_headers(&a, &h);
	if (r == 0)
		r = store_headers(f, i, dir, name, &v, &h, set_here(to_set));
	if (r == 0) {
		mtx_lock(&i->lock);
		i->attr = a;
		i->touched_ns = clock_now_ns();
		if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
			i->dir_changed = (struct timespec){ 0 }; /* what was set counts from here on */
		mtx_unlock(&i->lock);
	}
out:
	obj_headers_free(&h);
	guard_leave(f, &g);
	return r;
}

void change_op_setattr(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	struct objerr err = { 0 };
	struct stat st;
	double valid;
	int r = i ? 0 : -ESTALE;

	if (r == 0 && (c->to_set & FUSE_SET_ATTR_SIZE)) {
		if (i->is_dir)
			r = -EISDIR;
		else if (i->image)
			r = disk_truncate(f, i, (uint64_t)c->st.st_size, &err);
		else /* truncate(2) by path: nobody will close it */
			r = file_truncate(f, i, (uint64_t)c->st.st_size, !c->has_fi && !(c->to_set & SET_ANY), &err);
	}
	if (r == 0 && (c->to_set & SET_ANY)) {
		inode_begin(i);
		r = setattr_op(f, i, &c->st, c->to_set, &err);
		if (r == 0 && (c->to_set & FUSE_SET_ATTR_SIZE) && !c->has_fi)
			r = file_commit_op(f, i, 0, &err);
		inode_end(i);
	}
	if (i && !i->image && (c->to_set & FUSE_SET_ATTR_SIZE) && !c->has_fi)
		file_last_release(f, i);
	if (r < 0) {
		complain("setattr", "", r, &err);
		inode_put(f, i);
		call_err(c, r);
		return;
	}
	mtx_lock(&i->lock);
	inode_stat_locked(f, i, &st);
	valid = inode_valid_locked(f, i);
	mtx_unlock(&i->lock);
	inode_put(f, i);
	if (call_claim(c))
		fuse_reply_attr(c->req, &st, valid);
	call_done(c);
}

/* --- extended attributes ------------------------------------------------------------------------------------------ */

void change_op_setxattr(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct obj_headers h = { 0 };
	struct objerr err = { 0 };
	struct timespec now = clock_real_ts();
	struct version v;
	struct guard g;
	struct attr a;
	bool entered = false;
	int r = i ? 0 : -ESTALE;

	if (r == 0) {
		inode_begin(i);
		r = file_settle_acked(f, i, &err);
		if (r == 0)
			r = dir_refresh(f, i, false, &err);
		if (r == 0)
			r = node_enter(f, &g, i, &dir, &name);
		entered = r == 0;
		if (r == 0)
			r = change_headers(f, i, dir, name, &h, &v, &err);
		if (r == 0)
			r = attr_xattr_set(&h, c->name, c->data, c->data_len, (int)c->flags);
		if (r == 0) {
			mtx_lock(&i->lock);
			a = i->attr;
			mtx_unlock(&i->lock);
			a.ctime = now;
			r = attr_to_headers(&a, &h);
		}
		if (r == 0)
			r = store_headers(f, i, dir, name, &v, &h, 0);
		if (r == 0) {
			mtx_lock(&i->lock);
			i->attr.ctime = now;
			mtx_unlock(&i->lock);
		}
		obj_headers_free(&h);
		if (entered)
			guard_leave(f, &g);
		inode_end(i);
	}
	complain("setxattr", c->name, r, &err);
	inode_put(f, i);
	call_err(c, r);
}

static void xattr_answer(struct call *c, bool list)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	_cleanup_free_ char *dir = NULL, *name = NULL;
	_cleanup_free_ char *buf = NULL;
	struct obj_headers h = { 0 };
	struct objerr err = { 0 };
	struct version v;
	ssize_t n = 0;
	int r = i ? node_name(f, i, &dir, &name) : -ESTALE;

	if (r == 0)
		r = change_headers(f, i, dir, name, &h, &v, &err);
	inode_put(f, i);
	if (r == 0 && c->size > 0) {
		buf = malloc(c->size);
		if (!buf)
			r = -ENOMEM;
	}
	if (r == 0) {
		n = list ? attr_xattr_list(&h, buf, c->size) : attr_xattr_get(&h, c->name, buf, c->size);
		r = n < 0 ? (int)n : 0;
	}
	obj_headers_free(&h);
	if (r < 0) {
		call_err(c, r);
		return;
	}
	if (call_claim(c)) {
		if (c->size == 0)
			fuse_reply_xattr(c->req, (size_t)n);
		else
			fuse_reply_buf(c->req, buf, (size_t)n);
	}
	call_done(c);
}

void change_op_getxattr(struct call *c) { xattr_answer(c, false); }

void change_op_listxattr(struct call *c) { xattr_answer(c, true); }

void change_op_fsyncdir(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *i = inode_get(f, c->ino);
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct objerr err = { 0 };
	int r = i ? node_name(f, i, &dir, &name) : -ESTALE;

	if (r == 0)
		r = metaq_sync(f->o.metaq, dir, name, true, &err);
	complain("fsync", name ? name : "?", r, &err);
	inode_put(f, i);
	call_err(c, r == -ESTALE || r == -ENOENT ? 0 : r); /* a removed directory has nothing that waits */
}
