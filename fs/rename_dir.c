/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Renaming a directory: not atomic on an object store, so made resumable and careful.
 *
 *   1 guard     on this node nothing that changes names or uploads runs at or below either path
 *   2 intent    an object below .lsvd/intent/ says from, to and who: others see it and keep their hands off
 *   3 copy      every key below the source, in parallel on the server
 *   4 list      again: keys that are new or changed meanwhile are copied too, until a listing shows nothing new
 *   5 delete    in batches, only keys whose (ETag, size, LastModified) are those of the copy
 *   6 done      the intent goes
 *
 * A failure before step 5 removes the copies and leaves the source untouched. From step 5 on the rename only goes
 * forward: a crash leaves the intent, and resuming is doing steps 3 to 6 again, for the keys that were there when the
 * intent was written. Where it cannot be told which of two contents is the newer one, both stay under their names.
 *
 * The name of a disk image says its own path: it is not copied by the server but written anew. A single image is renamed
 * under an intent of the same form, whose paths do not end in '/'.
 */
#include "rename.h"
#include "disk.h"
#include "meta/path.h"

#define ROUNDS 4
#define PARALLEL 32

struct item {
	struct hnode hn;
	char *suffix; /* key without the source's prefix */
	struct version v, copy;
	bool copied;  /* this version */
	bool left;    /* resuming: this version stays where it is */
	bool failed;
	unsigned seen; /* round of the listing that showed it last */
};

struct mover {
	struct objstore *store;
	const char *from, *to; /* whole key prefixes, ending in '/' */
	struct item **v;
	size_t n, cap;
	struct htab by_suffix;
	struct mtx lock; /* RANK_WAIT: under way, first */
	struct cond less;
	unsigned under_way;
	bool resuming;
	int64_t begun_s; /* resuming: LastModified of the intent */
	int first; /* first error that is not a change of the source */
	struct objerr err;
};

struct copy {
	struct objreq req;
	struct mover *m;
	struct item *item;
	char *src, *dst;
};

static struct item *find(struct mover *m, const char *suffix)
{
	for (struct hnode *n = htab_first(&m->by_suffix, hash_bytes(suffix, strlen(suffix), 0)); n; n = htab_next(n)) {
		struct item *it = container_of(n, struct item, hn);

		if (strcmp(it->suffix, suffix) == 0)
			return it;
	}
	return NULL;
}

static int add(struct mover *m, const char *suffix, struct item **ret)
{
	struct item *it;

	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 256;
		struct item **v = realloc(m->v, cap * sizeof *v);

		if (!v)
			return -ENOMEM;
		m->v = v;
		m->cap = cap;
	}
	it = calloc(1, sizeof *it);
	if (!it)
		return -ENOMEM;
	it->suffix = strdup(suffix);
	if (!it->suffix) {
		free(it);
		return -ENOMEM;
	}
	htab_add(&m->by_suffix, &it->hn, hash_bytes(suffix, strlen(suffix), 0));
	m->v[m->n++] = it;
	*ret = it;
	return 0;
}

static int mover_init(struct mover *m, struct objstore *store, const char *from, const char *to)
{
	memset(m, 0, sizeof *m);
	m->store = store;
	m->from = from;
	m->to = to;
	mtx_init(&m->lock, RANK_WAIT);
	cond_init(&m->less);
	return htab_init(&m->by_suffix);
}

static void mover_done(struct mover *m)
{
	for (size_t k = 0; k < m->n; k++) {
		free(m->v[k]->suffix);
		free(m->v[k]);
	}
	free(m->v);
	htab_done(&m->by_suffix);
	cond_destroy(&m->less);
	mtx_destroy(&m->lock);
}

/* A component .lsvd in the middle of a key: an image's log, which no directory rename may pull away. */
static bool holds_reserved(const char *suffix)
{
	const size_t n = strlen(PATH_RESERVED);

	for (const char *p = suffix; p; p = strchr(p, '/'), p = p ? p + 1 : NULL)
		if (strncmp(p, PATH_RESERVED, n) == 0 && (p[n] == '/' || p[n] == 0))
			return true;
	return false;
}

/* A marker has no bytes to lose, and file:// changes its time with every name below it. */
static bool is_marker(const char *suffix)
{
	return *suffix == 0 || str_has_suffix(suffix, "/");
}

struct scan {
	struct mover *m;
	unsigned round;
	size_t fresh;
	struct objerr *err;
};

static int on_source(void *arg, const struct obj_list_entry *le)
{
	struct scan *s = arg;
	struct mover *m = s->m;
	const char *suffix = le->key + strlen(m->from);
	struct item *it = find(m, suffix);
	int r = 0;

	if (holds_reserved(suffix)) {
		objerr_set(s->err, "%s holds the log of a disk image: move the image by its own name", m->from);
		return -EBUSY;
	}
	if (m->resuming && le->mtime_s > m->begun_s && !is_marker(suffix))
		return 0; /* somebody has used the old name since: his */
	if (!it)
		r = add(m, suffix, &it);
	if (r < 0)
		return r;
	if (!(it->copied || it->left) || strcmp(it->v.etag, le->etag) != 0 || it->v.size != le->size ||
	    it->v.mtime_s != le->mtime_s) {
		it->copied = it->left = false;
		memcpy(it->v.etag, le->etag, sizeof it->v.etag);
		it->v.size = le->size;
		it->v.mtime_s = le->mtime_s;
		s->fresh++;
	}
	it->seen = s->round;
	return 0;
}

/* Lists the source; marks what each listing shows. *ret_new: how many are not copied in the version shown. */
static int list_source(struct mover *m, unsigned round, size_t *ret_new, struct objerr *err)
{
	struct scan s = {.m = m, .round = round, .err = err};
	int r = obj_each(m->store, OBJ_LIST, m->from, false, on_source, &s, err);

	*ret_new = s.fresh;
	return r;
}

static void copy_finish(struct objreq *req)
{
	struct copy *c = req->priv;
	struct mover *m = c->m;
	struct item *it = c->item;

	mtx_lock(&m->lock);
	if (req->status == 0) {
		it->copied = true;
		memcpy(it->copy.etag, req->etag, sizeof it->copy.etag);
		it->copy.size = it->v.size;
		it->copy.mtime_s = req->mtime_s ? req->mtime_s : req->date_s;
	} else if (req->status != -ESTALE && req->status != -ENOENT) { /* those two: the next listing tells */
		if (m->first == 0) {
			m->first = req->status;
			m->err = req->err;
		}
	}
	m->under_way--;
	cond_broadcast(&m->less);
	mtx_unlock(&m->lock);
	objreq_done(req);
	free(c->src);
	free(c->dst);
	free(c);
}

static int key_of(const char *prefix, const char *suffix, char **ret)
{
	if (strlen(prefix) + strlen(suffix) > OBJ_KEY_MAX)
		return -ENAMETOOLONG;
	return asprintf(ret, "%s%s", prefix, suffix) < 0 ? -ENOMEM : 0;
}

static int submit_copy(struct mover *m, struct item *it)
{
	struct copy *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return -ENOMEM;
	r = key_of(m->from, it->suffix, &c->src);
	if (r == 0)
		r = key_of(m->to, it->suffix, &c->dst);
	if (r < 0) {
		free(c->src);
		free(c);
		return r;
	}
	c->m = m;
	c->item = it;
	objreq_init(&c->req, OBJ_COPY, c->dst);
	c->req.src_key = c->src;
	if (obj_caps(m->store) & OBJ_CAP_COPY_SRC)
		c->req.src_if_match = it->v.etag;
	c->req.done = copy_finish;
	c->req.priv = c;
	mtx_lock(&m->lock);
	while (m->under_way >= PARALLEL)
		cond_wait(&m->less, &m->lock);
	m->under_way++;
	mtx_unlock(&m->lock);
	obj_submit(m->store, &c->req);
	return 0;
}

/* Is that object, which is not older, a copy of the source? Its ETag may differ, its size and times do not. */
static int is_copy(struct mover *m, const struct item *it, const struct objreq *dst, bool *ret, struct objerr *err)
{
	const char *a, *b = obj_headers_get(&dst->ret_headers, "x-amz-meta-mtime");
	_cleanup_free_ char *src = NULL;
	struct objreq req;
	int r = key_of(m->from, it->suffix, &src);

	if (r < 0)
		return r;
	r = obj_head(m->store, src, &req);
	a = obj_headers_get(&req.ret_headers, "x-amz-meta-mtime");
	*ret = r == 0 && strcmp(req.etag, it->v.etag) == 0 && req.size == dst->size && (a ? b && strcmp(a, b) == 0 : !b);
	if (r < 0 && r != -ENOENT)
		*err = req.err;
	objreq_done(&req);
	return r == -ENOENT ? 0 : r;
}

/*
 * Resuming: what is at the target? Nothing, or something older: the source is to be copied. Our copy: it counts. Else one
 * of the two was written by others after the copy, and seconds do not tell which: left.
 */
static int look_at_target(struct mover *m, struct item *it, struct objerr *err)
{
	_cleanup_free_ char *dst = NULL;
	struct objreq req;
	int r = key_of(m->to, it->suffix, &dst);

	if (r < 0)
		return r;
	if (str_has_suffix(it->suffix, IMAGE_SUFFIX)) {
		_cleanup_free_ char *src = NULL;

		r = key_of(m->from, it->suffix, &src);
		if (r == 0)
			r = nameobj_same(m->store, src, dst, &it->copied, err);
		if (r < 0 || it->copied)
			return r;
	}
	r = obj_head(m->store, dst, &req);
	if (r < 0 && r != -ENOENT) {
		*err = req.err;
	} else if (r == 0 && ((strcmp(req.etag, it->v.etag) == 0 && req.size == it->v.size) || is_marker(it->suffix))) {
		it->copied = true;
	} else if (r == 0 && req.mtime_s >= it->v.mtime_s) {
		r = is_copy(m, it, &req, &it->copied, err);
		it->left = r == 0 && !it->copied;
	}
	objreq_done(&req);
	return r == -ENOENT ? 0 : r;
}

/* The name of an image: 0, also when it changed meanwhile. -ENODATA: it is none. */
static int copy_name(struct mover *m, struct item *it, struct objerr *err)
{
	_cleanup_free_ char *src = NULL, *dst = NULL;
	struct nameobj o;
	int r;

	if (!str_has_suffix(it->suffix, IMAGE_SUFFIX) || it->v.size > 64 * KiB)
		return -ENODATA;
	r = key_of(m->from, it->suffix, &src);
	if (r == 0)
		r = key_of(m->to, it->suffix, &dst);
	if (r == 0)
		r = nameobj_copy(m->store, src, it->v.etag, dst, &o, err);
	if (r == -ESTALE || r == -ENOENT) /* the next listing tells */
		return 0;
	if (r < 0)
		return r;
	it->copied = true;
	memcpy(it->copy.etag, o.etag, sizeof it->copy.etag);
	it->copy.size = o.bytes;
	it->copy.mtime_s = o.mtime_s ? o.mtime_s : o.date_s;
	nameobj_free(&o);
	return 0;
}

static int copy_round(struct mover *m, unsigned round, struct objerr *err)
{
	int r = 0;

	for (size_t k = 0; k < m->n && r == 0; k++) {
		struct item *it = m->v[k];

		if (it->seen != round || it->copied)
			continue;
		if (m->resuming) {
			r = look_at_target(m, it, err);
			if (r < 0 || it->copied || it->left)
				continue;
		}
		r = copy_name(m, it, err);
		if (r != -ENODATA)
			continue;
		r = 0;
		if (it->v.size > m->store->put_max && m->store->put_max > 0) {
			_cleanup_free_ char *src = NULL, *dst = NULL;

			r = key_of(m->from, it->suffix, &src);
			if (r == 0)
				r = key_of(m->to, it->suffix, &dst);
			if (r == 0)
				r = obj_copy_large(m->store, src, it->v.etag, it->v.size, dst, it->copy.etag, err);
			it->copied = r == 0;
			if (r == -ESTALE || r == -ENOENT)
				r = 0;
		} else {
			r = submit_copy(m, it);
		}
	}
	mtx_lock(&m->lock);
	while (m->under_way > 0)
		cond_wait(&m->less, &m->lock);
	if (r == 0 && m->first < 0) {
		r = m->first;
		*err = m->err;
	}
	mtx_unlock(&m->lock);
	return r;
}

/* Deletes keys below prefix, in batches where the store has them. pick says which. */
static int delete_items(struct mover *m, const char *prefix, bool (*pick)(const struct item *it, unsigned round),
			unsigned round, struct objerr *err)
{
	const size_t batch = obj_caps(m->store) & OBJ_CAP_DELETE_MANY ? OBJ_LIST_MAX : 1;
	char **keys = calloc(batch, sizeof *keys);
	size_t n = 0;
	int r = keys ? 0 : -ENOMEM;

	for (size_t k = 0; r == 0 && k <= m->n; k++) {
		if (k < m->n && pick(m->v[k], round)) {
			r = key_of(prefix, m->v[k]->suffix, &keys[n]);
			if (r == 0)
				n++;
		}
		if (r == 0 && n > 0 && (n == batch || k == m->n)) {
			struct objreq req;

			objreq_init(&req, batch > 1 ? OBJ_DELETE_MANY : OBJ_DELETE, keys[0]);
			if (batch > 1) {
				req.keys = (const char *const *)keys;
				req.nkeys = n;
			}
			r = obj_do(m->store, &req);
			if (r < 0)
				*err = req.err;
			objreq_done(&req);
			while (n > 0)
				free(keys[--n]);
		}
	}
	while (n > 0)
		free(keys[--n]);
	free(keys);
	return r;
}

static bool pick_seen(const struct item *it, unsigned round) { return it->seen == round && it->copied; }

static bool pick_copied(const struct item *it, unsigned round)
{
	(void)round;
	return it->copied;
}

/* Steps 3 and 4. *ret_round: the round whose listing showed nothing new. */
static int copy_until_quiet(struct mover *m, unsigned *ret_round, struct objerr *err)
{
	for (unsigned round = 1; round <= ROUNDS; round++) {
		size_t fresh = 0;
		int r = list_source(m, round, &fresh, err);

		if (r < 0)
			return r;
		if (fresh == 0) {
			*ret_round = round;
			return 0;
		}
		r = copy_round(m, round, err);
		if (r < 0)
			return r;
	}
	objerr_set(err, "%s keeps changing while it is renamed", m->from);
	return -EBUSY;
}

int rename_resume(struct objstore *store, const char *prefix, const char *from, const char *to, int64_t begun_s,
		  struct objerr *err)
{
	_cleanup_free_ char *kf = NULL, *kt = NULL;
	struct mover m;
	unsigned round = 0;
	int r;

	if (asprintf(&kf, "%s%s", prefix, from) < 0 || asprintf(&kt, "%s%s", prefix, to) < 0)
		return -ENOMEM;
	if (!str_has_suffix(from, "/")) {
		r = nameobj_move(store, kf, kt, NULL, NULL, NULL, err);
		/* done before, or another object has the new name: nothing is to be gone on with */
		return r == -ENOENT || r == -ENODATA || r == -EEXIST ? 0 : r;
	}
	r = mover_init(&m, store, kf, kt);
	if (r < 0)
		return r;
	m.resuming = true;
	m.begun_s = begun_s;
	r = copy_until_quiet(&m, &round, err);
	if (r == 0)
		r = delete_items(&m, m.from, pick_seen, round, err);
	mover_done(&m);
	return r;
}

/* --- on a live mount ---------------------------------------------------------------------------------------------- */

/* Nothing but the marker below the target? */
static int target_empty(struct fsd *f, const char *prefix, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_LIST, prefix);
	req.max_keys = 2;
	r = obj_do(f->o.store, &req);
	if (r < 0)
		*err = req.err;
	for (size_t k = 0; r == 0 && k < req.listing->n; k++)
		if (strcmp(req.listing->v[k].key, prefix) != 0)
			r = -ENOTEMPTY;
	objreq_done(&req);
	return r;
}

/* Path of a node below dir without dir's own; NULL when it is not below. */
static char *suffix_locked(struct inode *i, struct inode *dir)
{
	char *s = strdup(i->name);

	for (struct inode *p = i->parent; s && p != dir; p = p->parent) {
		char *t = NULL;

		if (!p || !p->linked || asprintf(&t, "%s/%s", p->name, s) < 0) {
			free(s);
			return NULL;
		}
		free(s);
		s = t;
	}
	return s;
}

struct known {
	struct fsd *f;
	struct inode *dir;
	struct inode **v;
	size_t n, cap;
	bool failed;
};

static void collect(struct hnode *n, void *arg)
{
	struct known *kn = arg;
	struct inode *i = container_of(n, struct inode, by_id);
	struct inode *p = i->linked ? i->parent : NULL;

	while (p && p != kn->dir)
		p = p->parent;
	if (!p || i->is_dir)
		return;
	if (kn->n == kn->cap) {
		struct inode **v = realloc(kn->v, (kn->cap + 256) * sizeof *v);

		if (!v)
			goto fail;
		kn->v = v;
		kn->cap += 256;
	}
	i->refs++;
	kn->v[kn->n++] = i;
	return;
fail:
	kn->failed = true;
}

/* One node below: it takes the version of its copy, its dirty bytes their new key. back: the other way round. */
static int carry_node(struct fsd *f, struct mover *m, struct inode *i, struct inode *dir, const char *to_dir, bool back)
{
	_cleanup_free_ char *suffix = NULL, *new_dir = NULL;
	struct spfile *sp;
	struct version base;
	struct item *it;
	bool moved = false; /* the old key goes: bytes that are not here come from the copy */
	char *slash;

	mtx_lock(&f->inodes);
	suffix = suffix_locked(i, dir);
	mtx_unlock(&f->inodes);
	if (!suffix)
		return 0;
	if (i->image) {
		_cleanup_free_ char *key = NULL;

		if (asprintf(&key, "%s" IMAGE_SUFFIX, suffix) < 0)
			return -ENOMEM;
		it = find(m, key);
	} else {
		it = find(m, suffix);
	}
	mtx_lock(&i->lock);
	if (it && it->copied) {
		const struct version *from = back ? &it->copy : &it->v, *to = back ? &it->v : &it->copy;

		if (strcmp(i->base.etag, from->etag) == 0) {
			if (strcmp(i->pages, i->base.etag) == 0)
				memcpy(i->pages, to->etag, sizeof i->pages);
			i->base = *to;
			i->base_gen++;
			i->base_ns = clock_now_ns();
			moved = true;
		}
	}
	base = i->base;
	sp = i->sp; /* the guard keeps commits, removals and new spool files away */
	i->sp_users += sp != NULL;
	mtx_unlock(&i->lock);
	if (sp) {
		int r;

		slash = strrchr(suffix, '/');
		if (asprintf(&new_dir, "%s%.*s", to_dir, slash ? (int)(slash + 1 - suffix) : 0, suffix) < 0)
			r = -ENOMEM;
		else
			r = spfile_move(sp, new_dir, slash ? slash + 1 : suffix, base.etag[0] ? &base : NULL, moved);
		mtx_lock(&i->lock);
		i->sp_users--;
		cond_broadcast(&i->ops_idle);
		mtx_unlock(&i->lock);
		return r;
	}
	return 0;
}

/* Every node below that is in memory. On failure those before it are taken back. */
static int carry_nodes(struct fsd *f, struct mover *m, struct inode *dir, const char *from_dir, const char *to_dir)
{
	struct known kn = { .f = f, .dir = dir };
	size_t done = 0;
	int r = 0;

	mtx_lock(&f->inodes);
	htab_each(&f->by_id, collect, &kn);
	mtx_unlock(&f->inodes);
	if (kn.failed)
		r = -ENOMEM;
	for (; r == 0 && done < kn.n; done++)
		r = carry_node(f, m, kn.v[done], dir, to_dir, false);
	if (r < 0)
		while (done > 0)
			ignore(carry_node(f, m, kn.v[--done], dir, from_dir, true));
	for (size_t k = 0; k < kn.n; k++)
		inode_put(f, kn.v[k]);
	free(kn.v);
	return r;
}

/* Files below whose upload was acknowledged before it was done. */
static bool has_acked_below(struct fsd *f, struct inode *dir, struct inode **ret)
{
	bool found = false;

	mtx_lock(&f->inodes);
	list_for_each(l, &f->local) {
		struct inode *i = list_entry(l, struct inode, local), *p = i->linked ? i->parent : NULL;

		while (p && p != dir)
			p = p->parent;
		if (!p)
			continue;
		mtx_lock(&i->lock);
		found = i->acked;
		mtx_unlock(&i->lock);
		if (found) {
			i->refs++;
			*ret = i;
			break;
		}
	}
	mtx_unlock(&f->inodes);
	return found;
}

static int move_tree(struct fsd *f, struct inode *i, struct inode *dp, const char *dname, const char *from_dir,
		     const char *to_dir, struct objerr *err)
{
	_cleanup_free_ char *from = NULL, *to = NULL, *intent = NULL;
	struct mover m;
	unsigned round = 0;
	int r;

	if (asprintf(&from, "%s%s", f->o.prefix, from_dir) < 0 || asprintf(&to, "%s%s", f->o.prefix, to_dir) < 0)
		return -ENOMEM;
	if (strlen(to) > OBJ_KEY_MAX)
		return -ENAMETOOLONG;
	r = target_empty(f, to, err);
	if (r < 0)
		return r;
	r = mover_init(&m, f->o.store, from, to);
	if (r < 0)
		return r;
	r = rename_intent_put(f, from_dir, to_dir, &intent, err);
	if (r == 0)
		r = copy_until_quiet(&m, &round, err);
	if (r == 0)
		r = carry_nodes(f, &m, i, from_dir, to_dir);
	if (r < 0) {
		struct objerr ignored = { 0 };

		if (intent && delete_items(&m, m.to, pick_copied, 0, &ignored) == 0)
			ignore(obj_delete(f->o.store, intent, NULL, NULL)); /* else it stays and tells of the copies */
		mover_done(&m);
		return r;
	}
	r = delete_items(&m, m.from, pick_seen, round, err);
	if (r < 0)
		log_error("rename of %s to %s: all is copied, but the old keys could not all be removed: %s; "
			  "'lsvdfs recover' goes on with it", from_dir, to_dir, err->msg);
	else
		ignore(obj_delete(f->o.store, intent, NULL, NULL));
	tree_note_moved_dir(f->o.tree, from_dir, to_dir);
	r = inode_move(f, i, dp, dname);
	mover_done(&m);
	return r;
}

int rename_dir(struct fsd *f, struct inode *i, struct inode *sp, const char *sname, struct inode *dst, struct inode *dp,
	       const char *dname, bool noreplace, struct objerr *err)
{
	_cleanup_free_ char *from = NULL, *to_parent = NULL, *to = NULL, *now = NULL;
	struct guard gf, gt;
	struct inode *acked;
	bool again;
	int r = inode_dir(f, i, &from);

	(void)sname;
	if (r == 0)
		r = inode_dir(f, dp, &to_parent);
	if (r == 0)
		r = path_subdir(to_parent, dname, &to);
	if (r < 0)
		return r;
	if (str_has_prefix(to, from))
		return -EINVAL;
	if (dst && noreplace)
		return -EEXIST;
	if (dst && fsd_has_local_below(f, dst))
		return -ENOTEMPTY;
	r = metaq_sync_below(f->o.metaq, from, err); /* what waits must not arrive at the old keys later */
	if (r < 0)
		return r;
	do { /* an upload that close() has answered for ends before its key moves */
		while (has_acked_below(f, i, &acked)) {
			r = file_commit(f, acked, 0, err);
			inode_put(f, acked);
			if (r < 0 && r != -ESTALE)
				return r;
		}
		r = guard_enter_rename(f, &gf, from, &gt, to);
		if (r < 0)
			return r;
		again = has_acked_below(f, i, &acked);
		if (again) {
			inode_put(f, acked);
			guard_leave(f, &gf);
			guard_leave(f, &gt);
		}
	} while (again);
	r = inode_dir(f, i, &now);
	if (r == 0 && strcmp(now, from) != 0)
		r = -EBUSY; /* another rename moved it while we waited; the kernel holds the lock that forbids this */
	if (r == 0)
		r = metaq_sync_below(f->o.metaq, from, err);
	if (r == 0) /* the target's node loses its name when this one gets it, not before: a refused rename changes nothing */
		r = move_tree(f, i, dp, dname, from, to, err);
	if (r == 0 && dst) {
		mtx_lock(&dst->lock);
		dst->unlinked = true;
		mtx_unlock(&dst->lock);
	}
	guard_leave(f, &gf);
	guard_leave(f, &gt);
	if (r == 0) {
		inode_touch_dir(sp);
		inode_touch_dir(dp);
	}
	return r;
}
