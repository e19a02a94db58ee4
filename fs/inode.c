/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tables of nodes; inode.h explains the identifiers and the states. */
#include "disk.h"
#include <string.h>

/* Metadata of the mounted root itself is an object of its own that no listing vouches for: asked this seldom. */
#define ROOT_AGE (30 * NSEC_PER_SEC)

static uint64_t name_hash(const struct inode *parent, const char *name)
{
	return hash_bytes(name, strlen(name), parent->id);
}

bool version_equal(const struct version *a, const struct version *b)
{
	return a->size == b->size && strcmp(a->etag, b->etag) == 0;
}

static struct inode *find_id_locked(struct fsd *f, uint64_t id)
{
	for (struct hnode *n = htab_first(&f->by_id, hash_u64(id)); n; n = htab_next(n)) {
		struct inode *i = container_of(n, struct inode, by_id);

		if (i->id == id)
			return i;
	}
	return NULL;
}

static struct inode *find_name_locked(struct fsd *f, struct inode *parent, const char *name)
{
	for (struct hnode *n = htab_first(&f->by_name, name_hash(parent, name)); n; n = htab_next(n)) {
		struct inode *i = container_of(n, struct inode, by_name);

		if (i->parent == parent && strcmp(i->name, name) == 0)
			return i;
	}
	return NULL;
}

static int alloc_locked(struct fsd *f, struct inode *parent, const char *name, bool is_dir, uint64_t ino,
			struct inode **ret)
{
	struct inode *i = calloc(1, sizeof *i);
	int r;

	if (!i)
		return -ENOMEM;
	i->name = strdup(name);
	if (!i->name) {
		free(i);
		return -ENOMEM;
	}
	if (parent) {
		r = nodetab_new(f->nodetab, &i->id);
		if (r < 0) {
			free(i->name);
			free(i);
			return r;
		}
		i->parent = parent;
		parent->refs++;
		nodetab_set(f->nodetab, i->id, parent->id, name, is_dir, ino);
	} else {
		i->id = FUSE_ROOT_ID;
	}
	i->is_dir = is_dir;
	i->ino = ino;
	i->refs = 1;
	i->asked_ns = INT64_MIN;
	mtx_init(&i->lock, RANK_FILE);
	cond_init(&i->ops_idle);
	list_init(&i->local);
	list_init(&i->chunks);
	htab_add(&f->by_id, &i->by_id, hash_u64(i->id));
	*ret = i;
	return 0;
}

static void link_locked(struct fsd *f, struct inode *i)
{
	htab_add(&f->by_name, &i->by_name, name_hash(i->parent, i->name));
	i->linked = true;
}

static void unlink_locked(struct fsd *f, struct inode *i)
{
	if (!i->linked)
		return;
	htab_del(&f->by_name, &i->by_name);
	i->linked = false;
}

/* Drops one reference; what became free is chained through by_id.next for free_chain(). */
static void put_locked(struct fsd *f, struct inode *i, struct inode **chain)
{
	while (i) {
		struct inode *parent = i->parent;

		assert(i->refs > 0);
		if (--i->refs > 0)
			return;
		assert(i->nlookup == 0 && i->nopen == 0);
		unlink_locked(f, i);
		list_del(&i->local);
		htab_del(&f->by_id, &i->by_id);
		nodetab_del(f->nodetab, i->id);
		i->by_id.next = *chain ? &(*chain)->by_id : NULL;
		*chain = i;
		i = parent;
	}
}

static void free_chain(struct fsd *f, struct inode *i)
{
	while (i) {
		struct inode *next = i->by_id.next ? container_of(i->by_id.next, struct inode, by_id) : NULL;

		chunks_drop(f, i);
		if (i->sp)
			spfile_free(i->sp);
		obj_headers_free(&i->headers);
		cond_destroy(&i->ops_idle);
		mtx_destroy(&i->lock);
		free(i->alt_key);
		free(i->name);
		free(i);
		i = next;
	}
}

int inodes_init(struct fsd *f)
{
	struct entry e = { 0 };
	int r;

	mtx_init(&f->inodes, RANK_INODES);
	list_init(&f->local);
	list_init(&f->attached);
	r = htab_init(&f->by_id);
	if (r < 0)
		return r;
	r = htab_init(&f->by_name);
	if (r < 0)
		return r;
	r = nodetab_open(f->o.node_path, &f->nodetab);
	if (r < 0)
		return r;
	mtx_lock(&f->inodes);
	r = alloc_locked(f, NULL, "", true, 1, &f->root);
	if (r == 0)
		f->root->linked = true;
	mtx_unlock(&f->inodes);
	if (r < 0)
		return r;
	attr_from_headers(NULL, true, 0, clock_real_ns() / NSEC_PER_SEC, &f->o.def, &f->root->attr);
	entry_done(&e);
	return 0;
}

static void drop_all(struct hnode *n, void *arg)
{
	struct inode **chain = arg;
	struct inode *i = container_of(n, struct inode, by_id);

	n->next = *chain ? &(*chain)->by_id : NULL;
	*chain = i;
}

void inodes_done(struct fsd *f)
{
	struct inode *chain = NULL;

	if (f->by_id.bucket)
		htab_each(&f->by_id, drop_all, &chain);
	free_chain(f, chain);
	htab_done(&f->by_id);
	htab_done(&f->by_name);
	nodetab_close(f->nodetab);
	mtx_destroy(&f->inodes);
}

struct inode *inode_get(struct fsd *f, uint64_t nodeid)
{
	struct inode *i;

	mtx_lock(&f->inodes);
	i = find_id_locked(f, nodeid);
	if (i)
		i->refs++;
	mtx_unlock(&f->inodes);
	return i;
}

struct inode *inode_ref(struct fsd *f, struct inode *i)
{
	mtx_lock(&f->inodes);
	i->refs++;
	mtx_unlock(&f->inodes);
	return i;
}

void inode_put(struct fsd *f, struct inode *i)
{
	struct inode *chain = NULL;

	if (!i)
		return;
	mtx_lock(&f->inodes);
	put_locked(f, i, &chain);
	mtx_unlock(&f->inodes);
	free_chain(f, chain);
}

struct inode *inode_child(struct fsd *f, struct inode *parent, const char *name)
{
	struct inode *i;

	mtx_lock(&f->inodes);
	i = find_name_locked(f, parent, name);
	if (i)
		i->refs++;
	mtx_unlock(&f->inodes);
	return i;
}

static void lookup_inc_locked(struct inode *i)
{
	if (i->nlookup++ == 0)
		i->refs++;
}

void inode_lookup_inc(struct fsd *f, struct inode *i)
{
	mtx_lock(&f->inodes);
	lookup_inc_locked(i);
	mtx_unlock(&f->inodes);
}

void inode_forget(struct fsd *f, uint64_t nodeid, uint64_t n)
{
	struct inode *i, *chain = NULL;

	mtx_lock(&f->inodes);
	i = find_id_locked(f, nodeid);
	if (i && i->id != FUSE_ROOT_ID) {
		i->nlookup -= MIN(n, i->nlookup);
		if (i->nlookup == 0 && n > 0)
			put_locked(f, i, &chain);
	}
	mtx_unlock(&f->inodes);
	free_chain(f, chain);
}

bool inode_set_since_locked(const struct inode *i, const struct version *v, int64_t asked_ns)
{
	return i->touched_ns && asked_ns < i->touched_ns && (i->is_dir || version_equal(&i->base, v));
}

void inode_take_image_locked(struct inode *i, const struct entry *e)
{
	if (!i->image || !e->image || i->disk || i->image_changed)
		return;
	i->image_size = e->image_size;
	i->image_alloc = e->image_alloc;
}

bool inode_is_entry(const struct inode *i, const struct entry *e)
{
	return !i->snap && i->is_dir == e->is_dir && i->image == e->image && (!i->image || memcmp(i->uuid, e->uuid, 16) == 0);
}

/* Takes what the store said; the caller holds both locks. */
static void take_entry_locked(struct fsd *f, struct inode *i, const struct entry *e)
{
	if (e->asked_ns < i->asked_ns)
		return;
	if (!inode_set_since_locked(i, &e->v, e->asked_ns) && !i->image_changed)
		i->attr = e->attr;
	i->base = e->v;
	i->asked_ns = e->asked_ns;
	inode_take_image_locked(i, e);
	nodetab_set_version(f->nodetab, i->id, &i->base);
}

/* Is what the store says so different that the kernel needs another nodeid? Caller holds the node's lock. */
static bool takes_other_node(const struct inode *i, const struct entry *e)
{
	if (!inode_is_entry(i, e))
		return true;
	if (i->is_dir || i->image || version_equal(&i->base, &e->v))
		return false;
	if (e->asked_ns < i->base_ns || e->asked_ns < i->asked_ns)
		return false; /* asked before our own last change was complete */
	if (i->sealing || i->acked || (i->sp && spfile_dirty(i->sp)))
		return false; /* our own bytes are newer */
	if (i->nopen > 0 || i->sp)
		return true;
	/* cached link targets and types belong to the nodeid: the kernel drops only the pages of regular files */
	return S_ISLNK(i->attr.mode) || (i->attr.mode & S_IFMT) != (e->attr.mode & S_IFMT);
}

int inode_for_entry(struct fsd *f, struct inode *parent, const struct entry *e, bool kernel, struct inode **ret)
{
	struct inode *i;
	int r = 0;

	mtx_lock(&f->inodes);
	i = find_name_locked(f, parent, e->name);
	if (i) {
		mtx_lock(&i->lock);
		if (takes_other_node(i, e)) {
			i->superseded = !i->is_dir;
			unlink_locked(f, i);
			mtx_unlock(&i->lock);
			i = NULL;
		} else {
			if (e->asked_ns >= i->base_ns &&
			    (i->is_dir || i->image || (!i->sp && (version_equal(&i->base, &e->v) || i->nopen == 0))))
				take_entry_locked(f, i, e);
			mtx_unlock(&i->lock);
			i->refs++;
		}
	}
	if (!i) {
		r = alloc_locked(f, parent, e->name, e->is_dir, e->ino, &i);
		if (r == 0) {
			link_locked(f, i);
			i->image = e->image;
			memcpy(i->uuid, e->uuid, sizeof i->uuid);
			mtx_lock(&i->lock);
			take_entry_locked(f, i, e);
			mtx_unlock(&i->lock);
		}
	}
	if (r == 0 && kernel)
		lookup_inc_locked(i);
	mtx_unlock(&f->inodes);
	if (r == 0)
		*ret = i;
	return r;
}

bool inode_own_bytes_locked(const struct inode *i)
{
	return i->sp && !i->unlinked && !i->superseded &&
	       (spfile_dirty(i->sp) || i->base.etag[0] == 0 || i->sealing || i->acked);
}

/* Is what has the name newer than the answer that nothing has it? Caller holds the node's lock. */
static bool comes_first(const struct inode *i, const struct snapnode *s)
{
	return !i->snap && (inode_own_bytes_locked(i) || i->asked_ns > s->asked_ns || i->base_ns > s->asked_ns);
}

static void take_snapshot_locked(struct inode *i, const struct snapnode *s)
{
	if (s->asked_ns < i->asked_ns)
		return;
	i->attr = s->attr;
	i->image_size = s->size;
	i->image_alloc = s->allocated;
	i->asked_ns = s->asked_ns;
}

static int new_snapshot_locked(struct fsd *f, struct inode *parent, const char *name, const struct snapnode *s,
			       struct inode **ret)
{
	/* st_ino is the same at every mount and whenever it is looked up: nothing else would remember it */
	uint64_t ino = hash_bytes(s->uuid, sizeof s->uuid, s->number) | UINT64_C(1) << 63;
	struct inode *i;
	int r = alloc_locked(f, parent, name, false, ino, &i);

	if (r < 0)
		return r;
	i->image = true;
	i->snap = s->number;
	memcpy(i->uuid, s->uuid, sizeof i->uuid);
	link_locked(f, i);
	mtx_lock(&i->lock);
	take_snapshot_locked(i, s);
	mtx_unlock(&i->lock);
	*ret = i;
	return 0;
}

int inode_for_snapshot(struct fsd *f, struct inode *parent, const char *name, const struct snapnode *s, bool kernel,
		       struct inode **ret)
{
	struct inode *i;
	bool other = false;
	int r = 0;

	mtx_lock(&f->inodes);
	i = find_name_locked(f, parent, name);
	if (i) {
		mtx_lock(&i->lock);
		if (i->snap == s->number && memcmp(i->uuid, s->uuid, sizeof i->uuid) == 0)
			take_snapshot_locked(i, s);
		else
			other = !comes_first(i, s);
		if (other)
			i->superseded = !i->is_dir;
		mtx_unlock(&i->lock);
	}
	if (i && other)
		unlink_locked(f, i);
	if (i && !other)
		i->refs++;
	else
		r = new_snapshot_locked(f, parent, name, s, &i);
	if (r == 0 && kernel)
		lookup_inc_locked(i);
	mtx_unlock(&f->inodes);
	if (r == 0)
		*ret = i;
	return r;
}

int inode_new(struct fsd *f, struct inode *parent, const char *name, bool is_dir, uint64_t ino, const struct attr *a,
	      struct inode **ret)
{
	struct inode *old, *i = NULL;
	int r;

	mtx_lock(&f->inodes);
	old = find_name_locked(f, parent, name);
	if (old) /* what was known there is gone, or the caller would not make it */
		unlink_locked(f, old);
	r = alloc_locked(f, parent, name, is_dir, ino, &i);
	if (r == 0) {
		link_locked(f, i);
		i->attr = *a;
		i->asked_ns = clock_now_ns();
		*ret = i;
	}
	mtx_unlock(&f->inodes);
	return r;
}

static bool is_locked(const struct inode *i, const struct inode *parent, const char *name)
{
	return i->linked && i->parent == parent && strcmp(i->name, name) == 0;
}

bool inode_is(struct fsd *f, struct inode *i, struct inode *parent, const char *name)
{
	bool is;

	mtx_lock(&f->inodes);
	is = is_locked(i, parent, name);
	mtx_unlock(&f->inodes);
	return is;
}

void inode_gone(struct fsd *f, struct inode *i, struct inode *parent, const char *name)
{
	mtx_lock(&f->inodes);
	if (is_locked(i, parent, name)) { /* else a rename of ours has moved it while the question was under way */
		unlink_locked(f, i);
		mtx_lock(&i->lock);
		i->superseded = !i->is_dir;
		mtx_unlock(&i->lock);
	}
	mtx_unlock(&f->inodes);
}

uint64_t inode_parent_ino(struct fsd *f, struct inode *i)
{
	uint64_t ino;

	mtx_lock(&f->inodes);
	ino = i->parent ? i->parent->ino : i->ino;
	mtx_unlock(&f->inodes);
	return ino;
}

void inode_unlink_name(struct fsd *f, struct inode *i)
{
	mtx_lock(&f->inodes);
	unlink_locked(f, i);
	mtx_unlock(&f->inodes);
}

int inode_move(struct fsd *f, struct inode *i, struct inode *parent, const char *name)
{
	struct inode *old_parent, *other, *chain = NULL;
	char *n = strdup(name);

	if (!n)
		return -ENOMEM;
	mtx_lock(&f->inodes);
	unlink_locked(f, i);
	other = find_name_locked(f, parent, name); /* a lookup may have made one meanwhile */
	if (other)
		unlink_locked(f, other);
	old_parent = i->parent;
	parent->refs++;
	i->parent = parent;
	free(i->name);
	i->name = n;
	link_locked(f, i);
	nodetab_set(f->nodetab, i->id, parent->id, name, i->is_dir, i->ino);
	put_locked(f, old_parent, &chain);
	mtx_unlock(&f->inodes);
	free_chain(f, chain);
	return 0;
}

/* Appends the names from the root down to i (a directory), each with its '/'. */
static int dir_locked(struct fsd *f, struct inode *i, struct str *s)
{
	const struct inode *stack[OBJ_KEY_MAX / 2];
	size_t n = 0;

	for (; i != f->root; i = i->parent) {
		if (!i->linked)
			return -ENOENT;
		if (n == ARRAY_SIZE(stack))
			return -ENAMETOOLONG;
		stack[n++] = i;
	}
	while (n-- > 0) {
		str_add(s, stack[n]->name);
		str_addc(s, '/');
	}
	return 0;
}

int inode_dir(struct fsd *f, struct inode *i, char **ret)
{
	struct str s = { 0 };
	int r;

	mtx_lock(&f->inodes);
	r = dir_locked(f, i, &s);
	mtx_unlock(&f->inodes);
	if (r < 0) {
		str_free(&s);
		return r;
	}
	return str_take(&s, ret);
}

int inode_path(struct fsd *f, struct inode *i, char **ret_dir, char **ret_name)
{
	struct str s = { 0 };
	char *name = NULL, *dir;
	int r;

	if (i == f->root)
		return -EINVAL;
	mtx_lock(&f->inodes);
	r = dir_locked(f, i->parent, &s);
	if (r == 0) {
		name = strdup(i->name);
		if (!name)
			r = -ENOMEM;
	}
	mtx_unlock(&f->inodes);
	if (r < 0) {
		str_free(&s);
		return r;
	}
	r = str_take(&s, &dir);
	if (r < 0) {
		free(name);
		return r;
	}
	*ret_dir = dir;
	*ret_name = name;
	return 0;
}

int inode_key_name(const struct inode *i, const char *name, char ret[PATH_NAME_MAX + 16])
{
	size_t n = strlen(name), k = i->image ? strlen(IMAGE_SUFFIX) : 0;

	if (n + k > (k ? PATH_NAME_MAX : PATH_NAME_MAX + 15))
		return -ENAMETOOLONG;
	memcpy(ret, name, n + 1);
	if (k)
		memcpy(ret + n, IMAGE_SUFFIX, k + 1);
	return 0;
}

void inode_set_local(struct fsd *f, struct inode *i, bool local)
{
	struct inode *chain = NULL;

	mtx_lock(&f->inodes);
	if (local && list_empty(&i->local)) {
		list_add_tail(&f->local, &i->local);
		i->refs++;
	} else if (!local && !list_empty(&i->local)) {
		list_del(&i->local);
		put_locked(f, i, &chain);
	}
	mtx_unlock(&f->inodes);
	free_chain(f, chain);
}

struct spfile *inode_take_sp(struct inode *i)
{
	struct spfile *sp;

	mtx_lock(&i->lock);
	sp = i->sp;
	i->sp = NULL;
	obj_headers_free(&i->headers);
	while (i->sp_users > 0)
		cond_wait(&i->ops_idle, &i->lock);
	mtx_unlock(&i->lock);
	return sp;
}

void inode_begin(struct inode *i)
{
	mtx_lock(&i->lock);
	while (i->op_busy)
		cond_wait(&i->ops_idle, &i->lock);
	i->op_busy = true;
	mtx_unlock(&i->lock);
}

void inode_end(struct inode *i)
{
	mtx_lock(&i->lock);
	i->op_busy = false;
	cond_broadcast(&i->ops_idle);
	mtx_unlock(&i->lock);
}

void inode_touch_dir(struct inode *dir)
{
	mtx_lock(&dir->lock);
	dir->dir_changed = clock_real_ts();
	mtx_unlock(&dir->lock);
}

static bool ts_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

void inode_stat_locked(struct fsd *f, struct inode *i, struct stat *st)
{
	memset(st, 0, sizeof *st);
	st->st_ino = i->ino;
	st->st_mode = i->attr.mode;
	st->st_uid = i->attr.uid;
	st->st_gid = i->attr.gid;
	st->st_rdev = i->attr.rdev;
	st->st_nlink = i->unlinked ? 0 : 1;
	st->st_blksize = 4096;
	st->st_atim = i->attr.atime;
	st->st_mtim = i->attr.mtime;
	st->st_ctim = i->attr.ctime;
	if (i->is_dir) {
		st->st_size = 4096;
		if (ts_before(&st->st_mtim, &i->dir_changed))
			st->st_mtim = i->dir_changed;
		if (ts_before(&st->st_ctim, &i->dir_changed))
			st->st_ctim = i->dir_changed;
	} else {
		st->st_size = (off_t)(i->sp ? spfile_size(i->sp) : i->base.size);
	}
	st->st_blocks = (st->st_size + 511) / 512;
	if (i->image) {
		uint64_t size, allocated;

		disk_size_locked(i, &size, &allocated);
		st->st_size = (off_t)size;
		/* Never none: another node may have written since, and tar -S takes none for one hole without a look. */
		st->st_blocks = (blkcnt_t)((size ? MAX(allocated, UINT64_C(4096)) : allocated) / 512);
	}
	i->told_size = (uint64_t)st->st_size;
}

/* Dirty files and nameless ones are this node's own truth. */
static bool own_truth_locked(const struct inode *i)
{
	return i->unlinked || i->superseded || i->acked || i->sealing || i->image_changed ||
	       (i->sp && (spfile_dirty(i->sp) || i->base.etag[0] == 0));
}

bool inode_fresh_locked(struct fsd *f, const struct inode *i)
{
	int64_t age = i == f->root ? MAX(ROOT_AGE, f->o.attr_timeout_ns) : f->o.attr_timeout_ns;

	return own_truth_locked(i) || (i->asked_ns != INT64_MIN && clock_now_ns() - i->asked_ns < age);
}

double inode_valid_locked(struct fsd *f, const struct inode *i)
{
	int64_t left;

	if (own_truth_locked(i))
		return (double)f->o.attr_timeout_ns / 1e9;
	if (i->asked_ns == INT64_MIN)
		return 0;
	if (i == f->root)
		return (double)f->o.attr_timeout_ns / 1e9;
	left = f->o.attr_timeout_ns - (clock_now_ns() - i->asked_ns);
	return left > 0 ? (double)left / 1e9 : 0;
}
