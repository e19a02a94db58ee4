/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * treeops.c - changes of single names: mkdir, rmdir, mknod and symlink, readlink, unlink.
 *
 * What must be exclusive is so by one conditional PUT; a name that the store holds under the other spelling (x beside
 * x/) has no condition that could exclude it, so it is looked for first: two keys have no common fence.
 */
#include "config.h"
#include "tree-private.h"

#include <limits.h>
#include <string.h>

int tree_do(struct tree *t, struct objreq *req, struct objerr *err)
{
	int r = obj_do(t->store, req);

	mtx_lock(&t->lock);
	server_date_locked(t, req->date_s, clock_now_ns());
	mtx_unlock(&t->lock);
	if (r < 0 && err)
		*err = req->err;
	return r;
}

void change_failed(struct tree *t, const char *dir, int r)
{
	switch (r) {
	case -EACCES:
	case -ENOTSUP:
	case -ENOTEMPTY:
	case -EROFS:
	case -EINVAL:
	case -EXDEV:
		return;
	}
	tree_forget(t, dir);
}

int tree_headers(const struct attr *a, const char *name, bool is_dir, struct obj_headers *h)
{
	int r = attr_to_headers(a, h);

	if (!r && is_dir)
		r = obj_headers_set(h, "content-type", "application/x-directory");
	else if (!r && !obj_headers_get(h, "content-type"))
		r = obj_headers_set(h, "content-type", attr_guess_type(name));
	return r;
}

/* 0 when nothing has the name: by a proof no older than attr_timeout, or with ask by the store now. */
static int must_be_absent(struct tree *t, const char *dir, const char *name, bool ask, int64_t *ret_absent_ns,
			  struct objerr *err)
{
	struct entry e;
	struct dirstate *ds;
	bool known = false;
	int r;

	if (!ask) {
		mtx_lock(&t->lock);
		flights_land_locked(t);
		ds = dirstate_find_locked(t, dir);
		if (ds && ds->absent && !strcmp(ds->absent, name) &&
		    fresh(t, ds, ds->absent_ns, clock_now_ns()) &&
		    change_allows_ns_locked(t, dir, name, ds->absent_ns)) {
			known = true;
			*ret_absent_ns = ds->absent_ns;
		}
		mtx_unlock(&t->lock);
	}
	if (known)
		return 0;
	r = lookup_name(t, dir, name, ask ? TREE_FRESH : 0, WANT_ANY, &e, ret_absent_ns, err);
	if (!r) {
		entry_done(&e);
		return -EEXIST;
	}
	return r == -ENOENT ? 0 : r;
}

/* Creates an object that must not be there. -EEXIST. */
static int put_new(struct tree *t, const char *key, const void *body, size_t n, const struct obj_headers *h,
		   struct version *ret, int64_t *ret_date_s, struct objerr *err)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)body, .iov_len = n};
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_PUT, key);
	req.iov = &iov;
	req.iovcnt = n ? 1 : 0;
	req.headers = h;
	req.if_none_match_any = obj_caps(t->store) & OBJ_CAP_PUT_NEW;
	if (req.if_none_match_any)
		base_random_hex(req.nonce, OBJ_NONCE_LEN / 2);
	r = tree_do(t, &req, err);
	if (r == -ESTALE)
		r = -EEXIST;
	if (!r) {
		*ret = (struct version){.size = n, .mtime_s = req.mtime_s ? req.mtime_s : req.date_s};
		memcpy(ret->etag, req.etag, sizeof(ret->etag));
		*ret_date_s = req.date_s;
	}
	objreq_done(&req);
	return r;
}

/* What was put, as rows and as an entry. */
static int note_new(struct tree *t, const char *dir, const char *name, bool is_dir, const struct version *v,
		    const struct obj_headers *h, int64_t date_s, int64_t asked_ns, struct entry *ret)
{
	char point[ROW_NAME_MAX];
	struct row row = {};
	int r = tree_note_object(t, dir, name, is_dir, v, h, 0, true, date_s, asked_ns);

	/* The object is there; what is not in the cache is asked for later. */
	(void)r;
	r = point_of(name, is_dir, point);
	if (r < 0)
		return r;
	mtx_lock(&t->lock);
	r = row_get_locked(t, dir, point, &row);
	if (r == -ENOENT) {
		memcpy(row.name, point, strlen(point) + 1);
		row.ino = attrdb_new_ino(t->db);
		row.asked_ns = asked_ns;
		r = row_learn(&row, v, h, date_s);
	}
	mtx_unlock(&t->lock);
	if (!r)
		r = row_entry(t, &row, name, asked_ns, true, ret);
	row_done(&row);
	return r;
}

/*
 * Nothing lay below the new directory when its absence was proved: that is a complete listing, but for what this node has
 * done below it since. Rows that an earlier directory of the name has left behind go.
 */
static void note_empty(struct tree *t, const char *dir, const char *name, int64_t absent_ns, uint64_t absent_seq)
{
	_cleanup_free_ char *sub = NULL;
	struct dirstate *ds;
	struct row *v = NULL;
	size_t n = 0;
	int r = path_subdir(dir, name, &sub);

	if (r < 0)
		return;
	mtx_lock(&t->lock);
	r = rows_range_locked(t, sub, "", NULL, OBJ_LIST_MAX, &v, &n);
	for (size_t i = 0; i < n && !r; i++)
		if (v[i].asked_ns <= absent_ns && change_allows_ns_locked(t, sub, v[i].name, absent_ns))
			r = row_del_locked(t, sub, v[i].name);
	ds = dirstate_get_locked(t, sub);
	/* Without it the directory is listed when somebody asks. */
	if (!r && n < OBJ_LIST_MAX && ds && !ds->n)
		r = page_cover_locked(t, ds, "", NULL, absent_ns, absent_seq, 0);
	mtx_unlock(&t->lock);
	attrdb_rows_free(v, n);
}

int tree_mkdir(struct tree *t, const char *dir, const char *name, const struct attr *a, const struct obj_headers *extra,
	       struct entry *ret, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	struct obj_headers h = {};
	struct version v;
	int64_t date_s, asked_ns, absent_ns = 0;
	uint64_t absent_seq;
	int r = path_check_name(name);

	if (!r && t->read_only)
		r = -EROFS;
	if (!r)
		r = path_key(t->prefix, dir, name, true, &key);
	if (!r && extra)
		r = obj_headers_copy(&h, extra);
	if (!r)
		r = tree_headers(a, name, true, &h);
	mtx_lock(&t->lock);
	absent_seq = t->seq;
	mtx_unlock(&t->lock);
	if (!r)
		r = must_be_absent(t, dir, name, !(obj_caps(t->store) & OBJ_CAP_PUT_NEW), &absent_ns, err);
	if (r < 0)
		goto out;
	asked_ns = clock_now_ns();
	r = put_new(t, key, NULL, 0, &h, &v, &date_s, err);
	if (r < 0)
		change_failed(t, dir, r);
	else
		r = note_new(t, dir, name, true, &v, &h, date_s, asked_ns, ret);
	if (!r)
		note_empty(t, dir, name, absent_ns, absent_seq);
out:
	obj_headers_free(&h);
	return r;
}

int tree_rmdir(struct tree *t, const char *dir, const char *name, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	char point[ROW_NAME_MAX];
	struct row row = {};
	struct objreq req;
	bool marker = false, known;
	int r = path_check_name(name);

	if (!r && t->read_only)
		r = -EROFS;
	if (!r)
		r = path_key(t->prefix, dir, name, true, &key);
	if (!r)
		r = point_of(name, true, point);
	if (r < 0)
		return r;
	/* Two keys tell: the marker alone may go, anything else, hidden or not, is content. */
	objreq_init(&req, OBJ_LIST, key);
	req.max_keys = 2;
	r = tree_do(t, &req, err);
	for (size_t i = 0; !r && i < req.listing->n; i++) {
		if (!strcmp(req.listing->v[i].key, key))
			marker = true;
		else
			r = -ENOTEMPTY;
	}
	objreq_done(&req);
	if (r < 0)
		return r;
	if (marker) {
		objreq_init(&req, OBJ_DELETE, key);
		r = tree_do(t, &req, err);
		objreq_done(&req);
		if (r < 0) {
			change_failed(t, dir, r);
			return r;
		}
	}
	mtx_lock(&t->lock);
	known = row_get_locked(t, dir, point, &row) == 0;
	row_done(&row);
	mtx_unlock(&t->lock);
	tree_note_gone(t, dir, name, true);
	/* One without a marker goes with its last object, which `rm -r` has just removed: it is gone, as asked. */
	return marker || known ? 0 : -ENOENT;
}

int tree_mknod(struct tree *t, const char *dir, const char *name, const struct attr *a, const char *target,
	       struct entry *ret, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	struct obj_headers h = {};
	struct version v;
	int64_t date_s, asked_ns, absent_ns;
	size_t n = target ? strlen(target) : 0;
	int r = path_check_name(name);

	if (!r && t->read_only)
		r = -EROFS;
	if (!r && n >= PATH_MAX)
		r = -ENAMETOOLONG;
	if (!r)
		r = path_key(t->prefix, dir, name, false, &key);
	if (!r)
		r = tree_headers(a, name, false, &h);
	if (!r)
		r = must_be_absent(t, dir, name, !(obj_caps(t->store) & OBJ_CAP_PUT_NEW), &absent_ns, err);
	if (r < 0)
		goto out;
	asked_ns = clock_now_ns();
	r = put_new(t, key, target, n, &h, &v, &date_s, err);
	if (r < 0)
		change_failed(t, dir, r);
	else
		r = note_new(t, dir, name, false, &v, &h, date_s, asked_ns, ret);
out:
	obj_headers_free(&h);
	return r;
}

/* Target that the headers of the row carry; -ENOENT when they do not or are not known for this version. */
static int target_in_row(struct tree *t, const char *dir, const char *name, const struct version *v, char **ret)
{
	struct obj_headers h = {};
	struct row row = {};
	int r;

	mtx_lock(&t->lock);
	flights_land_locked(t);
	r = row_get_locked(t, dir, name, &row);
	mtx_unlock(&t->lock);
	if (!r && (!row.headers || strcmp(row.v.etag, v->etag)))
		r = -ENOENT;
	if (!r && obj_headers_decode(row.headers, row.headers_len, &h))
		r = -ENOENT;
	if (!r)
		r = dialect_symlink_target(&h, ret);
	obj_headers_free(&h);
	row_done(&row);
	return r;
}

int tree_readlink(struct tree *t, const char *dir, const char *name, const struct version *v, char **ret,
		  struct objerr *err)
{
	_cleanup_free_ char *key = NULL, *body = NULL;
	char real[PATH_NAME_MAX + 16];
	struct objreq req;
	int r = real_name(t, dir, name, real);

	if (!r)
		r = target_in_row(t, dir, real, v, ret);
	if (r != -ENOENT)
		return r;
	r = path_key(t->prefix, dir, real, false, &key);
	if (r < 0)
		return r;
	body = malloc(PATH_MAX);
	if (!body)
		return -ENOMEM;
	objreq_init(&req, OBJ_GET, key);
	req.if_match = v->etag[0] ? v->etag : NULL;
	req.buf = body;
	req.cap = PATH_MAX - 1;
	r = tree_do(t, &req, err);
	if (!r)
		r = dialect_symlink_target(&req.ret_headers, ret);
	if (r == -ENOENT && !req.status) {
		r = req.truncated ? -ENAMETOOLONG : memchr(body, '\0', req.got) ? -EIO : 0;
		if (!r) {
			body[req.got] = '\0';
			*ret = body;
			body = NULL;
		} else if (err) {
			objerr_set(err, "%s is not the target of a symlink", key);
		}
	}
	objreq_done(&req);
	return r;
}

int tree_unlink(struct tree *t, const char *dir, const char *name, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	char real[PATH_NAME_MAX + 16];
	struct objreq req;
	int r = t->read_only ? -EROFS : real_name(t, dir, name, real);

	if (!r)
		r = path_check_name(real);
	if (!r)
		r = path_key(t->prefix, dir, real, false, &key);
	if (r < 0)
		return r;
	objreq_init(&req, OBJ_DELETE, key);
	r = tree_do(t, &req, err);
	if (r < 0)
		change_failed(t, dir, r);
	else
		tree_note_gone(t, dir, real, false);
	objreq_done(&req);
	return r;
}
