/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Renames of files, and the guard between renames of directories and everything below them.
 *
 * A guard is a path with a mode. Plain guards never wait for each other; a rename guard waits until no guard is on or
 * below its path, and later plain guards on or below it wait for the rename. A holder of a plain guard never waits for
 * another guard, and a rename enters both of its paths at once, so nothing can wait in a circle.
 */
#include "disk.h"
#include "rename.h"
#include "objstore/base/failpoint.h"
#include <linux/fs.h>

/* Is path a equal to, below or above the directory b (both end in '/', or are "")? */
static bool overlaps(const char *a, const char *b)
{
	return str_has_prefix(a, b) || str_has_prefix(b, a);
}

static bool must_wait_locked(struct fsd *f, const char *path, bool rename)
{
	list_for_each(l, &f->guards) {
		struct guard *g = list_entry(l, struct guard, link);

		if (g->rename && (rename ? overlaps(path, g->path) : str_has_prefix(path, g->path)))
			return true;
		if (rename && str_has_prefix(g->path, path))
			return true;
	}
	return false;
}

int guard_enter(struct fsd *f, struct guard *g, const char *path)
{
	g->rename = false;
	g->path = strdup(path);
	if (!g->path)
		return -ENOMEM;
	mtx_lock(&f->guards_lock);
	while (must_wait_locked(f, path, false))
		cond_wait(&f->guards_free, &f->guards_lock);
	list_add_tail(&f->guards, &g->link);
	mtx_unlock(&f->guards_lock);
	return 0;
}

void guard_leave(struct fsd *f, struct guard *g)
{
	mtx_lock(&f->guards_lock);
	list_del(&g->link);
	cond_broadcast(&f->guards_free);
	mtx_unlock(&f->guards_lock);
	free(g->path);
}

int guard_enter_rename(struct fsd *f, struct guard *from, const char *from_dir, struct guard *to, const char *to_dir)
{
	from->path = strdup(from_dir);
	to->path = strdup(to_dir);
	from->rename = to->rename = true;
	if (!from->path || !to->path) {
		free(from->path);
		free(to->path);
		return -ENOMEM;
	}
	mtx_lock(&f->guards_lock);
	while (must_wait_locked(f, from_dir, true) || must_wait_locked(f, to_dir, true))
		cond_wait(&f->guards_free, &f->guards_lock);
	list_add_tail(&f->guards, &from->link);
	list_add_tail(&f->guards, &to->link);
	mtx_unlock(&f->guards_lock);
	return 0;
}

int guard_enter_dir(struct fsd *f, struct guard *g, struct inode *dir, char **ret_dir)
{
	for (;;) {
		char *path = NULL, *now = NULL;
		int r = inode_dir(f, dir, &path);

		if (r == 0)
			r = guard_enter(f, g, path);
		if (r < 0) {
			free(path);
			return r;
		}
		r = inode_dir(f, dir, &now); /* a rename may have moved it while we waited */
		if (r == 0 && strcmp(now, path) == 0) {
			free(now);
			*ret_dir = path;
			return 0;
		}
		guard_leave(f, g);
		free(now);
		free(path);
		if (r < 0)
			return r;
	}
}

int guard_enter_inode(struct fsd *f, struct guard *g, struct inode *i, char **ret_dir, char **ret_name)
{
	for (;;) {
		char *dir = NULL, *name = NULL, *now_dir = NULL, *now_name = NULL;
		int r = inode_path(f, i, &dir, &name);
		bool same = false;

		if (r == 0)
			r = guard_enter(f, g, dir);
		if (r < 0) {
			free(dir);
			free(name);
			return r;
		}
		r = inode_path(f, i, &now_dir, &now_name);
		if (r == 0)
			same = strcmp(dir, now_dir) == 0 && strcmp(name, now_name) == 0;
		free(now_dir);
		free(now_name);
		if (same) {
			*ret_dir = dir;
			*ret_name = name;
			return 0;
		}
		guard_leave(f, g);
		free(dir);
		free(name);
		if (r < 0)
			return r;
	}
}

/* --- files -------------------------------------------------------------------------------------------------------- */

struct move {
	struct fsd *f;
	struct inode *i, *dst; /* dst: what the name held, or NULL */
	struct inode *sp, *dp; /* parents */
	const char *sname, *dname;
	char *sdir, *ddir;
	bool noreplace;
};

/* The old object, if it is still the version that the moved bytes were based on; another one stays where it is. */
static void remove_old(struct move *m, const struct version *old)
{
	struct objstore *s = m->f->o.store;
	_cleanup_free_ char *key = NULL;
	struct objerr err = { 0 };
	int r = tree_key(m->f->o.tree, m->sdir, m->sname, false, &key);

	if (r == 0 && !(obj_caps(s) & OBJ_CAP_DELETE_COND)) {
		struct objreq req;

		r = obj_head(s, key, &req);
		if (r == 0 && strcmp(req.etag, old->etag) != 0)
			r = -ESTALE;
		err = req.err;
		objreq_done(&req);
	}
	if (r == 0)
		r = obj_delete(s, key, obj_caps(s) & OBJ_CAP_DELETE_COND ? old->etag : NULL, &err);
	if (r == 0 || r == -ENOENT)
		tree_note_gone(m->f->o.tree, m->sdir, m->sname, false);
	else
		tree_forget(m->f->o.tree, m->sdir);
	if (r < 0 && r != -ENOENT)
		log_warn("rename of %s%s: the old name stays: %s", m->sdir, m->sname,
			 r == -ESTALE ? "another client has written it meanwhile" : err.msg);
}

/* A file with dirty bytes: they go straight to the new key, then the old object goes. */
static int move_dirty(struct move *m, struct objerr *err)
{
	struct fsd *f = m->f;
	struct spfile *sp = m->i->sp; /* the operation is ours: it stays */
	struct obj_headers h = { 0 };
	struct spcommit sc = { 0 };
	struct version target = { 0 }, old;
	struct attr a;
	bool have_target = false;
	int64_t asked = clock_now_ns();
	int r;

	mtx_lock(&m->i->lock);
	old = m->i->base;
	a = m->i->attr;
	mtx_unlock(&m->i->lock);
	a.ctime = clock_real_ts();
	r = file_headers(f, m->i, m->sdir, m->sname, &a, &h, err);
	for (int tries = 0; r == 0 && tries < 3; tries++) {
		struct entry e = { 0 };

		if (!m->noreplace) {
			r = tree_lookup(f->o.tree, m->ddir, m->dname, tries ? TREE_FRESH : 0, &e, err);
			have_target = r == 0 && !e.is_dir && !e.image && e.v.etag[0];
			target = e.v;
			entry_done(&e);
			if (r < 0 && r != -ENOENT)
				break;
		}
		r = spfile_move(sp, m->ddir, m->dname, have_target ? &target : NULL, false);
		if (r == 0)
			r = spfile_set_headers(sp, &h);
		if (r < 0)
			break;
		spfile_force_dirty(sp);
		r = spfile_commit(sp, 0, &sc, err);
		if (r != -ESTALE || m->noreplace)
			break;
		r = 0; /* somebody replaced the target meanwhile: a rename replaces it all the same */
		sc.v.etag[0] = 0;
	}
	if (r == 0 && sc.v.etag[0] == 0)
		r = -EBUSY;
	if (r < 0) {
		ignore(spfile_move(sp, m->sdir, m->sname, old.etag[0] ? &old : NULL, false));
		if (r == -ESTALE && m->noreplace)
			r = -EEXIST;
	} else {
		(void)tree_note_object(f->o.tree, m->ddir, m->dname, false, &sc.v, &h, m->i->ino, true, sc.date_s, asked);
		if (old.etag[0])
			remove_old(m, &old);
	}
	mtx_lock(&m->i->lock);
	if (r == 0) {
		if (strcmp(m->i->pages, m->i->base.etag) == 0)
			memcpy(m->i->pages, sc.v.etag, sizeof m->i->pages);
		m->i->base = sc.v;
		m->i->base_gen++;
		m->i->base_ns = clock_now_ns();
		m->i->attr = a;
		m->i->asked_ns = asked;
		obj_headers_free(&m->i->headers);
		m->i->headers = h;
		memset(&h, 0, sizeof h);
	}
	mtx_unlock(&m->i->lock);
	obj_headers_free(&h);
	return r;
}

/* New headers when there is a reason: a change that waits, or a Content-Type that we had guessed from the old name. */
static int move_headers(struct move *m, const struct entry *e, struct obj_headers *h, bool *ret_replace)
{
	const char *type, *old_guess = attr_guess_type(m->sname), *new_guess = attr_guess_type(m->dname);
	int r = 0;

	*ret_replace = metaq_take(m->f->o.metaq, m->sdir, m->sname, false, h) == 0;
	if (!*ret_replace && e->have_headers)
		r = obj_headers_copy(h, &e->headers);
	if (r < 0 || h->n == 0)
		return r;
	type = obj_headers_get(h, "content-type");
	if (type && strcmp(old_guess, new_guess) != 0 && strcmp(type, old_guess) == 0) {
		r = obj_headers_set(h, "content-type", new_guess);
		*ret_replace = true;
	}
	return r;
}

static int move_clean(struct move *m, struct objerr *err)
{
	struct fsd *f = m->f;
	struct obj_headers h = { 0 };
	struct entry e = { 0 };
	struct spfile *sp = NULL;
	struct version v;
	bool replace = false;
	int r = tree_lookup(f->o.tree, m->sdir, m->sname, TREE_ATTRS, &e, err);

	if (r == 0)
		r = move_headers(m, &e, &h, &replace);
	if (r == 0)
		r = tree_move(f->o.tree, m->sdir, m->sname, &e.v, m->ddir, m->dname, replace ? &h : NULL, m->noreplace,
			      m->i->ino, &v, err);
	if (r == 0) {
		mtx_lock(&m->i->lock);
		if (!version_equal(&m->i->base, &e.v)) {
			/* a foreign version was moved: the node, its pages and its spool file stay with theirs */
			m->i->superseded = true;
		} else {
			if (strcmp(m->i->pages, m->i->base.etag) == 0)
				memcpy(m->i->pages, v.etag, sizeof m->i->pages);
			m->i->base = v;
			m->i->base_gen++;
			m->i->base_ns = clock_now_ns();
			m->i->attr.ctime = clock_real_ts();
			sp = m->i->sp;
		}
		mtx_unlock(&m->i->lock);
		if (sp) /* clean, kept for its open handles: it now equals the object under the new key */
			r = spfile_move(sp, m->ddir, m->dname, &v, true);
	} else if (replace && h.n > 0) {
		ignore(metaq_put(f->o.metaq, m->sdir, m->sname, false, &e.v, &h, METAQ_SET_ALL)); /* it still waits */
	}
	obj_headers_free(&h);
	entry_done(&e);
	return r;
}

static int move_file(struct move *m, struct objerr *err)
{
	struct fsd *f = m->f;
	struct obj_headers dst_h = { 0 };
	bool dst_waited;
	bool dirty;
	int r = 0;

	if (m->dst)
		r = file_keep_bytes(f, m->dst, err);
	if (r < 0)
		return r;
	dst_waited = metaq_take(f->o.metaq, m->ddir, m->dname, false, &dst_h) == 0;
	mtx_lock(&m->i->lock);
	dirty = m->i->sp && spfile_dirty(m->i->sp);
	m->i->sealing = true; /* nobody writes to a file whose key is changing */
	mtx_unlock(&m->i->lock);
	r = dirty ? move_dirty(m, err) : move_clean(m, err);
	mtx_lock(&m->i->lock);
	m->i->sealing = false;
	cond_broadcast(&m->i->ops_idle);
	mtx_unlock(&m->i->lock);
	if (r < 0 && dst_waited && m->dst) {
		struct version v;

		mtx_lock(&m->dst->lock);
		v = m->dst->base;
		mtx_unlock(&m->dst->lock);
		ignore(metaq_put(f->o.metaq, m->ddir, m->dname, false, &v, &dst_h, METAQ_SET_ALL));
	}
	obj_headers_free(&dst_h);
	if (r < 0)
		return r;
	if (m->dst)
		file_unlinked(f, m->dst);
	if (m->i->superseded)
		inode_unlink_name(f, m->i);
	else
		r = inode_move(f, m->i, m->dp, m->dname);
	inode_touch_dir(m->sp);
	inode_touch_dir(m->dp);
	return r;
}

/* Of two objects one goes first: the image's name is made beside a plain file of that name, which is hidden by it. */
static int move_image(struct move *m, const uint8_t over[16], struct objerr *err)
{
	struct fsd *f = m->f;
	struct version v;
	bool stored;
	int r = m->dst ? file_keep_bytes(f, m->dst, err) : 0;

	if (r == 0)
		r = disk_rename(f, m->i, m->sdir, m->sname, m->ddir, m->dname, over, &v, err);
	if (r < 0)
		return r;
	if (m->dst) {
		ignore(metaq_take(f->o.metaq, m->ddir, m->dname, false, NULL));
		mtx_lock(&m->dst->lock);
		stored = m->dst->base.etag[0] != 0 || m->dst->tried;
		mtx_unlock(&m->dst->lock);
		if (stored && tree_unlink(f->o.tree, m->ddir, m->dname, err) < 0)
			log_warn("rename of %s%s: the file that it replaces stays as %s~object", m->sdir, m->sname, m->dname);
		file_unlinked(f, m->dst);
	}
	mtx_lock(&m->i->lock);
	m->i->base = v;
	m->i->base_gen++;
	m->i->base_ns = clock_now_ns();
	m->i->attr.ctime = clock_real_ts();
	mtx_unlock(&m->i->lock);
	r = inode_move(f, m->i, m->dp, m->dname);
	inode_touch_dir(m->sp);
	inode_touch_dir(m->dp);
	return r;
}

/* A name of an image that is about to be replaced: what waits for its metadata must not arrive at the new one. */
static bool take_waiting(struct move *m, struct obj_headers *h)
{
	_cleanup_free_ char *key_name = NULL;

	return asprintf(&key_name, "%s" IMAGE_SUFFIX, m->dname) >= 0 &&
	       metaq_take(m->f->o.metaq, m->ddir, key_name, false, h) == 0;
}

static void give_back_waiting(struct move *m, struct inode *dst, struct obj_headers *h)
{
	_cleanup_free_ char *key_name = NULL;
	struct version v;

	mtx_lock(&dst->lock);
	v = dst->base;
	mtx_unlock(&dst->lock);
	if (asprintf(&key_name, "%s" IMAGE_SUFFIX, m->dname) >= 0)
		ignore(metaq_put(m->f->o.metaq, m->ddir, key_name, false, &v, h, METAQ_SET_ALL));
}

/* Said by the store or before it was asked: not something that may still happen. */
static bool refused(int r)
{
	return r == -EEXIST || r == -ESTALE || r == -EXDEV || r == -EINVAL || r == -ENAMETOOLONG || r == -EBUSY ||
	       r == -EACCES || r == -EPERM || r == -EROFS;
}

/*
 * Onto an image, which goes with its log. It is claimed for that first, so that nobody has it; from there on a crash
 * leaves it as it was, until one PUT puts the other image's name over its own: then it is gone. A plain file has another
 * key: it comes beside the image, hidden by it (NAME~object), before that goes; a crash between loses neither.
 */
static int move_onto_image(struct move *m, struct inode *dst, struct objerr *err)
{
	struct fsd *f = m->f;
	struct obj_headers h = { 0 };
	struct disk *d;
	bool waited;
	int r = disk_doom(f, dst, m->ddir, m->dname, &d, err);

	if (r < 0)
		return r;
	waited = take_waiting(m, &h);
	m->dst = NULL;
	r = m->i->image ? move_image(m, dst->uuid, err) : move_file(m, err);
	if (r < 0 && waited)
		give_back_waiting(m, dst, &h);
	obj_headers_free(&h);
	if (r < 0 && refused(r))
		disk_spare(f, d);
	else if (r < 0)
		disk_leave(f, d, "a rename onto it did not end; the next mount looks what became of it");
	if (r < 0)
		return r;
	r = disk_bury(f, d, err);
	if (r == 0 && !m->i->image) {
		FAILPOINT("image.buried");
		r = disk_remove_name(f, m->ddir, m->dname, err);
	}
	if (r < 0) {
		log_warn("rename onto %s%s: what is left of the image that was there could not be removed: %s", m->ddir,
			 m->dname, err->msg[0] ? err->msg : strerror(-r));
		tree_forget(f->o.tree, m->ddir);
		disk_leave(f, d, "replaced, but its log is not removed");
		return m->i->image ? 0 : r;
	}
	disk_gone(f, d, dst);
	return 0;
}

static int move_any(struct move *m, struct objerr *err)
{
	if (m->dst && m->dst->image)
		return move_onto_image(m, m->dst, err);
	return m->i->image ? move_image(m, NULL, err) : move_file(m, err);
}

/* Two nodes' operations, in the order of their ids. */
static void begin_two(struct inode *a, struct inode *b)
{
	if (b && b->id < a->id) {
		struct inode *t = a;

		a = b;
		b = t;
	}
	inode_begin(a);
	if (b)
		inode_begin(b);
}

/* What may be in the bucket without our knowing must be known before the name moves: async_close, lost answers. */
static int settle_uploads(struct fsd *f, struct inode *i, struct objerr *err)
{
	bool unsure;

	mtx_lock(&i->lock);
	unsure = i->acked || (i->tried && i->base.etag[0] == 0);
	mtx_unlock(&i->lock);
	return unsure ? file_commit_op(f, i, 0, err) : 0;
}

static int rename_names(struct fsd *f, struct inode *sp, const char *sname, struct inode *dp, const char *dname,
			unsigned flags, struct objerr *err)
{
	struct move m = { .f = f, .sp = sp, .dp = dp, .sname = sname, .dname = dname };
	struct inode *i = NULL, *dst = NULL;
	struct guard gs, gd;
	int r = dir_find(f, sp, sname, 0, false, &i, err);

	if (r < 0)
		return r;
	r = dir_find(f, dp, dname, 0, false, &dst, err);
	if (r < 0 && r != -ENOENT)
		goto out;
	r = i->snap || (dst && dst->snap) ? -EROFS : 0;
	if (r < 0 || dst == i)
		goto out;
	if (dst && (flags & RENAME_NOREPLACE))
		r = -EEXIST;
	else if (dst && i->is_dir && !dst->is_dir)
		r = -ENOTDIR;
	else if (dst && !i->is_dir && dst->is_dir)
		r = -EISDIR;
	if (r < 0)
		goto out;
	if (i->is_dir) {
		r = rename_dir(f, i, sp, sname, dst, dp, dname, flags & RENAME_NOREPLACE, err);
		goto out;
	}
	m.i = i;
	m.dst = dst;
	m.noreplace = flags & RENAME_NOREPLACE;
	begin_two(i, dst);
	r = settle_uploads(f, i, err);
	if (r == 0 && dst) { /* a late upload of what we replace would meet our object: parked, or over it */
		r = settle_uploads(f, dst, err);
		r = r == -ESTALE ? 0 : r;
	}
	if (r == 0)
		r = guard_enter_two(f, &gs, sp, &m.sdir, &gd, dp, &m.ddir);
	if (r == 0 && (!inode_is(f, i, sp, sname) || (dst && !inode_is(f, dst, dp, dname)))) {
		r = -ESTALE; /* it changed while we waited: the kernel looks again */
		guard_leave(f, &gs);
		guard_leave(f, &gd);
	} else if (r == 0) {
		r = move_any(&m, err);
		guard_leave(f, &gs);
		guard_leave(f, &gd);
	}
	if (dst)
		inode_end(dst);
	inode_end(i);
	free(m.sdir);
	free(m.ddir);
out:
	inode_put(f, i);
	inode_put(f, dst);
	return r;
}

int guard_enter_two(struct fsd *f, struct guard *a, struct inode *adir, char **ret_a, struct guard *b,
		    struct inode *bdir, char **ret_b)
{
	for (;;) {
		char *pa = NULL, *pb = NULL, *na = NULL, *nb = NULL;
		bool same = false;
		int r = inode_dir(f, adir, &pa);

		if (r == 0)
			r = inode_dir(f, bdir, &pb);
		if (r < 0)
			goto fail;
		a->rename = b->rename = false;
		a->path = strdup(pa);
		b->path = strdup(pb);
		if (!a->path || !b->path) {
			free(a->path);
			free(b->path);
			r = -ENOMEM;
			goto fail;
		}
		mtx_lock(&f->guards_lock);
		while (must_wait_locked(f, pa, false) || must_wait_locked(f, pb, false))
			cond_wait(&f->guards_free, &f->guards_lock);
		list_add_tail(&f->guards, &a->link);
		list_add_tail(&f->guards, &b->link);
		mtx_unlock(&f->guards_lock);
		r = inode_dir(f, adir, &na);
		if (r == 0)
			r = inode_dir(f, bdir, &nb);
		if (r == 0)
			same = strcmp(pa, na) == 0 && strcmp(pb, nb) == 0;
		free(na);
		free(nb);
		if (same) {
			*ret_a = pa;
			*ret_b = pb;
			return 0;
		}
		guard_leave(f, a);
		guard_leave(f, b);
fail:
		free(pa);
		free(pb);
		if (r < 0)
			return r;
	}
}

void rename_op(struct call *c)
{
	struct fsd *f = c->f;
	struct inode *sp = inode_get(f, c->ino), *dp = inode_get(f, c->ino2);
	struct objerr err = { 0 };
	int r = sp && dp ? rename_names(f, sp, c->name, dp, c->name2, c->flags, &err) : -ESTALE;

	if (err.msg[0] && r < 0 && r != -ENOENT && r != -EEXIST && r != -ENOTEMPTY)
		log_warn("rename of %s to %s: %s", c->name, c->name2, err.msg);
	inode_put(f, sp);
	inode_put(f, dp);
	call_err(c, r);
}
