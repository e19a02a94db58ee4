/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names and listings as the kernel sees them: what meta/ knows, with this node's own truth laid over it (dirty files,
 * files that are not in the bucket yet, metadata that still waits).
 *
 * A directory handle keeps the names it has returned; a cookie is 1 for ".", 2 for "..", and 3 + k for name k. Cookies
 * stay valid while names come and go, seekdir finds them, and the next page goes on behind the last name.
 */
#include "disk.h"
#include <stdio.h>

#define FUSE_NAME_OFFSET_DIRENTPLUS 152 /* smallest entry of a READDIRPLUS reply: linux/fuse.h, struct fuse_direntplus */

struct snapent {
	char *name;
	uint64_t ino;
	bool is_dir;
	mode_t type;	 /* S_IFMT bits, 0 = not known */
	struct entry *e; /* of the current page; NULL for older names and local files */
};

struct dirsnap {
	struct snapent *v;
	size_t n, cap;
	struct tree_page page;
	bool complete;
};

void dirsnap_free(struct dirsnap *s)
{
	if (!s)
		return;
	for (size_t k = 0; k < s->n; k++)
		free(s->v[k].name);
	free(s->v);
	tree_page_done(&s->page);
	free(s);
}

/* --- one name ----------------------------------------------------------------------------------------------------- */

/* Lays waiting metadata over what the store said. */
static void overlay_metaq(struct fsd *f, const char *dir, struct entry *e)
{
	char name[sizeof e->name + 8];
	struct obj_headers h = { 0 };

	if (!f->o.metaq || metaq_count(f->o.metaq) == 0)
		return;
	(void)snprintf(name, sizeof name, "%s%s", e->name, e->image ? IMAGE_SUFFIX : "");
	if (metaq_peek(f->o.metaq, dir, name, e->is_dir, &h) < 0)
		return;
	if (e->image)
		(void)image_of_headers(&h, e->uuid, &e->image_size, &e->image_alloc);
	attr_from_headers(&h, e->is_dir, e->v.size, e->v.mtime_s, &f->o.def, &e->attr);
	obj_headers_free(&e->headers);
	e->headers = h;
	e->have_headers = true;
}

int dir_lookup(struct fsd *f, const char *dir, const char *name, unsigned flags, struct entry *ret, struct objerr *err)
{
	int r = tree_lookup(f->o.tree, dir, name, flags, ret, err);

	if (r == 0)
		overlay_metaq(f, dir, ret);
	return r;
}

static bool own_truth(struct inode *i)
{
	bool own;

	mtx_lock(&i->lock);
	own = inode_own_bytes_locked(i);
	mtx_unlock(&i->lock);
	return own;
}

/* No answer, as opposed to one that is no good. */
static bool silent(int r)
{
	return r == -ETIMEDOUT || r == -ECONNREFUSED || r == -ECONNRESET || r == -EHOSTUNREACH || r == -ENETUNREACH;
}

int dir_find(struct fsd *f, struct inode *parent, const char *name, unsigned flags, bool kernel, struct inode **ret,
	     struct objerr *err)
{
	struct inode *i = inode_child(f, parent, name);
	_cleanup_free_ char *dir = NULL;
	struct entry e = { 0 };
	bool brief;
	int r;

	if (i && own_truth(i)) {
		if (kernel)
			inode_lookup_inc(f, i);
		*ret = i;
		return 0;
	}
	r = inode_dir(f, parent, &dir);
	if (r < 0)
		goto out;
	brief = i && !(flags & TREE_FRESH) && fsd_attached(f, i);
	r = dir_lookup(f, dir, name, flags | TREE_ATTRS | (brief ? TREE_BRIEF : 0u), &e, err);
	if (brief && silent(r) && inode_is(f, i, parent, name)) {
		if (kernel)
			inode_lookup_inc(f, i);
		*ret = i;
		return 0;
	}
	if (r == -ENOENT && i && own_truth(i) && inode_is(f, i, parent, name)) { /* written here meanwhile */
		if (kernel)
			inode_lookup_inc(f, i);
		*ret = i;
		return 0;
	}
	if (r == -ENOENT && i && i->is_dir && fsd_has_local_below(f, i)) { /* it will be there with its first file */
		if (kernel)
			inode_lookup_inc(f, i);
		*ret = i;
		return 0;
	}
	if (r == -ENOENT && disk_snap_name(name)) {
		r = disk_snap_find(f, parent, dir, name, flags, kernel, ret, err);
		if (r != -ENOENT)
			goto out;
	}
	if (r == -ENOENT && i)
		inode_gone(f, i, parent, name);
	if (r < 0)
		goto out;
	r = inode_for_entry(f, parent, &e, kernel, ret);
	entry_done(&e);
out:
	inode_put(f, i);
	return r;
}

void dir_reply_entry(struct call *c, struct inode *take_i)
{
	struct fuse_entry_param p = { 0 };
	struct inode *i = take_i;

	mtx_lock(&i->lock);
	p.ino = i->id;
	inode_stat_locked(c->f, i, &p.attr);
	p.attr_timeout = inode_valid_locked(c->f, i);
	/* a snapshot's name goes with that of its image, at once where that went here: the kernel asks each time */
	p.entry_timeout = i->snap ? 0 : p.attr_timeout;
	mtx_unlock(&i->lock);
	if (!call_claim(c) || fuse_reply_entry(c->req, &p) < 0)
		inode_forget(c->f, i->id, 1); /* the kernel never heard of it */
	inode_put(c->f, i);
	call_done(c);
}

void dir_op_lookup(struct call *c)
{
	struct inode *parent = inode_get(c->f, c->ino), *i = NULL;
	struct objerr err = { 0 };
	int r = parent ? dir_find(c->f, parent, c->name, 0, true, &i, &err) : -ESTALE;

	if (r < 0 && r != -ENOENT && r != -ESTALE && r != -EPERM)
		log_warn("lookup of %s: %s", c->name, err.msg);
	inode_put(c->f, parent);
	if (r < 0) {
		call_err(c, r);
		return;
	}
	dir_reply_entry(c, i);
}

int dir_refresh(struct fsd *f, struct inode *i, bool look, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct entry e = { 0 };
	unsigned flags = TREE_ATTRS;
	bool fresh;
	int r;

	mtx_lock(&i->lock);
	fresh = inode_fresh_locked(f, i);
	mtx_unlock(&i->lock);
	if (fresh)
		return 0;
	if (i->snap)
		return disk_snap_refresh(f, i, err);
	flags |= look && fsd_attached(f, i) ? TREE_BRIEF : 0u;
	if (i->is_dir) {
		r = inode_dir(f, i, &dir);
		if (r == 0)
			r = tree_lookup_dir(f->o.tree, dir, flags, &e, err);
	} else {
		r = inode_path(f, i, &dir, &name);
		if (r == 0)
			r = tree_lookup(f->o.tree, dir, name, flags, &e, err);
	}
	if ((flags & TREE_BRIEF) && silent(r))
		return 0; /* as it was */
	if (r == -ENOENT || r == -EPERM || (r == 0 && !inode_is_entry(i, &e))) {
		entry_done(&e);
		return -ESTALE; /* the kernel walks again and learns that it is gone */
	}
	if (r < 0)
		return r;
	if (i->is_dir && dir[0]) { /* metaq names a directory by its parent and its name */
		size_t n = strlen(dir) - 1;
		char *slash;

		dir[n] = 0;
		slash = memrchr(dir, '/', n);
		ignore(str_copy(e.name, sizeof e.name, slash ? slash + 1 : dir)); /* a name of ours fits */
		if (slash)
			slash[1] = 0;
		else
			dir[0] = 0;
	}
	overlay_metaq(f, dir, &e);
	mtx_lock(&i->lock);
	if (!i->is_dir && !version_equal(&i->base, &e.v) && i->nopen == 0 && e.asked_ns >= i->base_ns &&
	    (S_ISLNK(i->attr.mode) || (i->attr.mode & S_IFMT) != (e.attr.mode & S_IFMT)))
		r = -ESTALE; /* another target or type needs another nodeid */
	if (!i->sealing && !i->acked && !(i->sp && spfile_dirty(i->sp)) && e.asked_ns >= i->asked_ns &&
	    e.asked_ns >= i->base_ns && r == 0) {
		if (i->is_dir || i->image || version_equal(&i->base, &e.v) || (i->nopen == 0 && !i->sp)) {
			inode_take_image_locked(i, &e);
			if (!inode_set_since_locked(i, &e.v, e.asked_ns))
				i->attr = e.attr;
			i->base = e.v;
		}
		i->asked_ns = e.asked_ns; /* an open node keeps its version: only OPEN may find another one */
	}
	mtx_unlock(&i->lock);
	entry_done(&e);
	return r;
}

void dir_op_getattr(struct call *c)
{
	struct inode *i = inode_get(c->f, c->ino);
	struct objerr err = { 0 };
	struct stat st;
	double valid;
	int r = i ? dir_refresh(c->f, i, true, &err) : -ESTALE;

	if (r < 0) {
		if (r != -ESTALE)
			log_warn("getattr: %s", err.msg);
		inode_put(c->f, i);
		call_err(c, r);
		return;
	}
	mtx_lock(&i->lock);
	inode_stat_locked(c->f, i, &st);
	valid = inode_valid_locked(c->f, i);
	mtx_unlock(&i->lock);
	inode_put(c->f, i);
	if (call_claim(c))
		fuse_reply_attr(c->req, &st, valid);
	call_done(c);
}

/* --- listings ----------------------------------------------------------------------------------------------------- */

static int snap_add(struct dirsnap *s, const char *name, bool is_dir, mode_t type, uint64_t ino, struct entry *e)
{
	char *copy;

	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 256;
		struct snapent *v = realloc(s->v, cap * sizeof *v);

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	s->v[s->n++] = (struct snapent){ .name = copy, .ino = ino, .is_dir = is_dir, .type = type, .e = e };
	return 0;
}

struct local_name {
	char *name;
	uint64_t ino;
	mode_t type;
};

static int cmp_local(const void *a, const void *b)
{
	return strcmp(((const struct local_name *)a)->name, ((const struct local_name *)b)->name);
}

/* Names of files in dir that this node knows better than the bucket, in byte order. */
static int local_names(struct fsd *f, struct inode *dir, struct local_name **ret, size_t *ret_n)
{
	struct local_name *v = NULL;
	size_t n = 0, cap = 0;
	int r = 0;

	mtx_lock(&f->inodes);
	list_for_each(l, &f->local) {
		struct inode *i = list_entry(l, struct inode, local);

		if (i->parent != dir || !i->linked || !own_truth(i))
			continue; /* what is clean is the bucket's to tell: another client may have removed it */
		if (n == cap) {
			struct local_name *w = realloc(v, (cap + 64) * sizeof *v);

			if (!w) {
				r = -ENOMEM;
				break;
			}
			v = w;
			cap += 64;
		}
		v[n].name = strdup(i->name);
		if (!v[n].name) {
			r = -ENOMEM;
			break;
		}
		v[n].ino = i->ino;
		mtx_lock(&i->lock);
		v[n++].type = i->attr.mode & S_IFMT;
		mtx_unlock(&i->lock);
	}
	mtx_unlock(&f->inodes);
	if (r < 0) {
		while (n > 0)
			free(v[--n].name);
		free(v);
		return r;
	}
	if (n > 1)
		qsort(v, n, sizeof *v, cmp_local);
	*ret = v;
	*ret_n = n;
	return 0;
}

/*
 * Type of an entry for readdir without a request: an object longer than any path is no symlink, and neither is it a
 * fifo or device; of short ones with unknown headers we do not pretend to know.
 */
static mode_t entry_type(const struct entry *e)
{
	if (e->is_dir)
		return S_IFDIR;
	if (e->image)
		return S_IFREG;
	if (e->have_headers)
		return e->attr.mode & S_IFMT;
	return e->v.size > 4096 ? S_IFREG : 0;
}

/* Fetches the next page of names and merges the local ones that lie in its range. */
static int snap_next_page(struct fsd *f, struct inode *dir, struct dirsnap *s, struct objerr *err)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ char *after = NULL;
	struct tree_page page = { 0 };
	struct local_name *lv = NULL;
	size_t ln = 0, l = 0, k = 0;
	int r = inode_dir(f, dir, &path);

	if (r < 0)
		return r;
	after = strdup(s->n > 0 ? s->v[s->n - 1].name : "");
	if (!after)
		return -ENOMEM;
	r = fsd_attached(f, dir) ? tree_list_brief(f->o.tree, path, after, 0, &page, err) : -ETIMEDOUT;
	if (r == -ETIMEDOUT)
		r = tree_list(f->o.tree, path, after, 0, &page, err);
	if (r == -ENOENT)
		r = 0; /* nothing in the bucket yet, or any more: what is local remains */
	if (r < 0)
		return r;
	r = local_names(f, dir, &lv, &ln);
	if (r < 0)
		goto out;
	for (size_t j = 0; j < s->n; j++)
		s->v[j].e = NULL;
	tree_page_done(&s->page);
	s->page = page;
	memset(&page, 0, sizeof page);
	while (r == 0 && (k < s->page.n || l < ln)) {
		int cmp;

		if (l < ln && (strcmp(lv[l].name, after) <= 0)) {
			l++;
			continue;
		}
		if (k == s->page.n && s->page.more)
			break; /* later local names belong to later pages */
		cmp = k == s->page.n ? 1 : l == ln ? -1 : strcmp(s->page.v[k].name, lv[l].name);
		if (cmp <= 0) {
			struct entry *e = &s->page.v[k++];

			overlay_metaq(f, path, e);
			r = snap_add(s, e->name, e->is_dir, entry_type(e), e->ino, e);
			if (cmp == 0)
				l++;
		} else {
			r = snap_add(s, lv[l].name, false, lv[l].type, lv[l].ino, NULL);
			l++;
		}
	}
	s->complete = r == 0 && !s->page.more;
out:
	tree_page_done(&page);
	while (ln > 0)
		free(lv[--ln].name);
	free(lv);
	return r;
}

struct dirbuf {
	char *p;
	size_t cap, len;
	uint64_t *told; /* nodeids that the kernel counts when the reply arrives */
	size_t ntold;
};

/* One entry; false when the buffer is full. */
static bool emit(struct call *c, struct inode *dir, struct dirbuf *b, const struct snapent *se, off_t next)
{
	struct fuse_entry_param p = { 0 };
	struct inode *i = NULL;
	size_t n;

	p.attr.st_ino = se->ino;
	p.attr.st_mode = se->type;
	if (!c->flags) {
		n = fuse_add_direntry(c->req, b->p + b->len, b->cap - b->len, se->name, &p.attr, next);
		if (n > b->cap - b->len)
			return false;
		b->len += n;
		return true;
	}
	n = fuse_add_direntry_plus(c->req, NULL, 0, se->name, NULL, 0);
	if (n > b->cap - b->len)
		return false;
	i = se->e ? NULL : inode_child(c->f, dir, se->name);
	if (i && !own_truth(i)) {
		inode_put(c->f, i);
		i = NULL;
	}
	if (i) {
		inode_lookup_inc(c->f, i);
	} else if (se->e && (se->e->have_headers)) {
		struct inode *known = inode_child(c->f, dir, se->name);

		if (known && own_truth(known)) {
			i = known;
			inode_lookup_inc(c->f, i);
		} else {
			inode_put(c->f, known);
			if (inode_for_entry(c->f, dir, se->e, true, &i) < 0)
				i = NULL;
		}
	}
	if (i) {
		mtx_lock(&i->lock);
		p.ino = i->id;
		inode_stat_locked(c->f, i, &p.attr);
		p.attr_timeout = p.entry_timeout = inode_valid_locked(c->f, i);
		mtx_unlock(&i->lock);
		inode_put(c->f, i);
	}
	if (p.ino)
		b->told[b->ntold++] = p.ino;
	n = fuse_add_direntry_plus(c->req, b->p + b->len, b->cap - b->len, se->name, &p, next);
	b->len += n;
	return true;
}

static bool emit_dot(struct call *c, struct dirbuf *b, const char *name, uint64_t ino, off_t next)
{
	struct snapent se = { .ino = ino, .type = S_IFDIR };
	struct fuse_entry_param p = { 0 };
	size_t n, room = b->cap - b->len;

	p.attr.st_ino = se.ino;
	p.attr.st_mode = se.type;
	n = c->flags ? fuse_add_direntry_plus(c->req, b->p + b->len, room, name, &p, next)
		     : fuse_add_direntry(c->req, b->p + b->len, room, name, &p.attr, next);
	if (n > room)
		return false;
	b->len += n;
	return true;
}

static int fill(struct call *c, struct inode *dir, struct handle *h, struct dirbuf *b, struct objerr *err)
{
	uint64_t pos = (uint64_t)c->off;
	struct dirsnap *s;
	int r = 0;

	if (pos == 0 || !h->snap) { /* rewinddir: look again */
		dirsnap_free(h->snap);
		h->snap = calloc(1, sizeof *h->snap);
		if (!h->snap)
			return -ENOMEM;
	}
	s = h->snap;
	if (pos == 0 && emit_dot(c, b, ".", dir->ino, 1))
		pos = 1;
	if (pos == 1 && emit_dot(c, b, "..", inode_parent_ino(c->f, dir), 2))
		pos = 2;
	while (pos >= 2) {
		size_t k = pos - 2;

		while (k >= s->n && !s->complete) {
			if (b->len > 0)
				return 0; /* hand over what there is before asking the store again */
			r = snap_next_page(c->f, dir, s, err);
			if (r < 0)
				return r;
		}
		if (k >= s->n || !emit(c, dir, b, &s->v[k], (off_t)(pos + 1)))
			break;
		pos++;
	}
	return 0;
}

void dir_op_readdir(struct call *c)
{
	struct handle *h = handle_get(c->f, c->fi.fh);
	struct inode *dir = inode_get(c->f, c->ino);
	struct objerr err = { 0 };
	struct dirbuf b = { .cap = MIN(c->size, 128 * KiB) };
	int r = h && dir ? 0 : -EBADF;

	b.p = malloc(b.cap);
	b.told = calloc(b.cap / FUSE_NAME_OFFSET_DIRENTPLUS + 1, sizeof *b.told);
	if (!b.p || !b.told)
		r = -ENOMEM;
	if (r == 0) {
		mtx_lock(&h->dlock); /* held across the store: it serializes readers of one handle, as the kernel does */
		r = fill(c, dir, h, &b, &err);
		mtx_unlock(&h->dlock);
	}
	inode_put(c->f, dir);
	if (h)
		handle_put(c->f, h);
	if (r < 0) {
		if (err.msg[0])
			log_warn("readdir: %s", err.msg);
		for (size_t k = 0; k < b.ntold; k++)
			inode_forget(c->f, b.told[k], 1);
		free(b.p);
		free(b.told);
		call_err(c, r);
		return;
	}
	if (!call_claim(c) || fuse_reply_buf(c->req, b.p, b.len) < 0)
		for (size_t k = 0; k < b.ntold; k++)
			inode_forget(c->f, b.told[k], 1);
	free(b.p);
	free(b.told);
	call_done(c);
}
