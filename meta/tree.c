/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tree.c - life of the tree, its rows, and what fs tells it.
 *
 * Three things are known about a name: a row of the database (what was believed last, with headers when they are known),
 * a page of a listing that covers it (listing.c), and the time of the last question about that name alone. An answer may
 * rest on a row if a page or a question that is young enough vouches for it; on a missing row only if a page does.
 *
 * A change that this node makes edits the row and is remembered (change_note_locked) with a number of the sequence; it
 * leaves the pages as they are. That keeps the invariant of listing.c, whichever of the two answers arrives first.
 */
#include "config.h"
#include "tree-private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PRUNE_NS (200 * NSEC_PER_MSEC) /* of a start, at most */

/* --- entries -------------------------------------------------------------------------------------------------- */

void entry_done(struct entry *e)
{
	obj_headers_free(&e->headers);
	*e = (struct entry){};
}

int entry_copy(struct entry *dst, const struct entry *src)
{
	struct obj_headers h = {};
	int r = obj_headers_copy(&h, &src->headers);

	if (r < 0) {
		obj_headers_free(&h);
		return r;
	}
	*dst = *src;
	dst->headers = h;
	return 0;
}

bool version_same_bytes(const struct version *base, const struct version *now, const struct obj_headers *h)
{
	const char *was, *mtime;
	char want[OBJ_ETAG_MAX + 24];
	size_t n;

	if (!base->etag[0] || !now->etag[0] || base->size != now->size)
		return false;
	if (!strcmp(base->etag, now->etag))
		return true;
	was = h ? obj_headers_get(h, META_WAS) : NULL;
	mtime = h ? obj_headers_get(h, META_PREFIX "mtime") : NULL;
	if (!was || !mtime)
		return false;
	/* "ETAG size mtime": the mtime is there because another program may carry the header over to new bytes. */
	n = (size_t)snprintf(want, sizeof(want), "%s %" PRIu64 " ", base->etag, base->size);
	return n < sizeof(want) && !strncmp(was, want, n) && !strcmp(was + n, mtime);
}

int point_of(const char *name, bool is_dir, char ret[ROW_NAME_MAX])
{
	size_t n = strlen(name);

	if (n > PATH_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, name, n);
	if (is_dir)
		ret[n++] = '/';
	ret[n] = '\0';
	return 0;
}

int self_row_name(const char *dir, char **ret_dir, char ret_point[ROW_NAME_MAX])
{
	size_t n = strlen(dir), start = n;
	char *parent;

	if (!n) {
		parent = strdup(ROOT_DIR);
		memcpy(ret_point, ROOT_NAME, sizeof(ROOT_NAME));
	} else {
		if (dir[n - 1] != '/')
			return -EINVAL;
		for (start = n - 1; start && dir[start - 1] != '/'; start--)
			;
		if (n - start >= ROW_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(ret_point, dir + start, n - start + 1);
		parent = strndup(dir, start);
	}
	if (!parent)
		return -ENOMEM;
	*ret_dir = parent;
	return 0;
}

bool row_racy(const struct row *row, int64_t server_now_s)
{
	return row->headers && row->v.etag[0] && !(row->flags & ROW_OWN) && row->learnt_s - row->v.mtime_s < 2 &&
	       server_now_s - row->v.mtime_s >= 2;
}

int row_entry(struct tree *t, const struct row *row, const char *shown, int64_t asked_ns, bool trust_headers,
	      struct entry *ret)
{
	struct entry e = {.v = row->v, .ino = row->ino, .asked_ns = asked_ns};
	size_t n = strlen(row->name);
	int64_t lm = row->v.etag[0] ? row->v.mtime_s : t->opened_s;
	int r = str_copy(e.name, sizeof(e.name), shown);

	if (r < 0)
		return r;
	e.is_dir = n && row->name[n - 1] == '/';
	if (row->headers && obj_headers_decode(row->headers, row->headers_len, &e.headers) == 0)
		e.have_headers = trust_headers;
	e.image = image_name_ok(row->name) && image_of_headers(&e.headers, e.uuid, &e.image_size, &e.image_alloc);
	attr_from_headers(row->headers ? &e.headers : NULL, e.is_dir, e.v.size, lm, &t->def, &e.attr);
	if (!e.have_headers)
		obj_headers_free(&e.headers);
	*ret = e;
	return 0;
}

bool fresh(const struct tree *t, const struct dirstate *ds, int64_t asked_ns, int64_t now_ns)
{
	if (asked_ns == INT64_MIN || (ds && asked_ns <= ds->forget_ns))
		return false;
	return now_ns - asked_ns <= t->attr_timeout_ns;
}

/* --- rows ----------------------------------------------------------------------------------------------------- */

/* A rebuilt database has lost rows that pages vouch for. */
static void check_epoch_locked(struct tree *t)
{
	uint64_t now = attrdb_epoch(t->db);

	if (now == t->db_epoch)
		return;
	t->db_epoch = now;
	list_for_each(it, &t->dir_lru)
		pages_drop_locked(t, list_entry(it, struct dirstate, lru));
}

int row_get_locked(struct tree *t, const char *dir, const char *point, struct row *ret)
{
	int r = attrdb_get(t->db, dir, point, ret);

	check_epoch_locked(t);
	return r;
}

int rows_apply_locked(struct tree *t, const char *dir, const struct row *const *put, size_t nput,
		      const char *const *del, size_t ndel)
{
	int r = attrdb_apply(t->db, dir, put, nput, del, ndel);

	check_epoch_locked(t);
	return r;
}

int row_put_locked(struct tree *t, const char *dir, const struct row *row)
{
	return rows_apply_locked(t, dir, &row, 1, NULL, 0);
}

int row_del_locked(struct tree *t, const char *dir, const char *point)
{
	return rows_apply_locked(t, dir, NULL, 0, &point, 1);
}

int rows_range_locked(struct tree *t, const char *dir, const char *after, const char *to, size_t max, struct row **ret,
		      size_t *ret_n)
{
	int r = attrdb_range(t->db, dir, after, to, max, ret, ret_n);

	check_epoch_locked(t);
	return r;
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static int tree_setup(const struct tree_opts *o, struct tree *t)
{
	int r;

	t->store = o->store;
	t->def = o->def;
	t->attr_timeout_ns = o->attr_timeout_ns;
	t->head_window = o->head_window ? o->head_window : 64;
	t->read_only = o->read_only;
	t->budget = o->budget;
	t->opened_s = clock_real_ns() / NSEC_PER_SEC;
	t->void_ns = INT64_MIN;
	base_random(&t->hash_seed, sizeof(t->hash_seed));
	t->prefix = strdup(o->prefix ? o->prefix : "");
	if (!t->prefix)
		return -ENOMEM;
	r = htab_init(&t->dirs);
	if (!r)
		r = htab_init(&t->changes);
	if (!r)
		r = htab_init(&t->flights);
	if (!r)
		r = attrdb_open(o->db_path, &t->db);
	if (!r && o->db_path && attrdb_prune(t->db, PRUNE_NS) == -ENOMEM)
		r = -ENOMEM;
	return r;
}

int tree_open(const struct tree_opts *o, struct tree **ret, struct objerr *err)
{
	struct tree *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	mtx_init(&t->lock, RANK_TREE);
	mtx_init(&t->qlock, RANK_CACHE);
	cond_init(&t->arrival);
	list_init(&t->dir_lru);
	list_init(&t->change_fifo);
	list_init(&t->arrived);
	r = tree_setup(o, t);
	if (r < 0) {
		if (err)
			objerr_set(err, "attribute cache: out of memory");
		tree_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tree_close(struct tree *t)
{
	if (!t)
		return;
	mtx_lock(&t->qlock);
	while (t->under_way) /* HEADs ahead that nobody waits for */
		cond_wait(&t->arrival, &t->qlock);
	mtx_unlock(&t->qlock);
	if (t->db) {
		mtx_lock(&t->lock);
		flights_land_locked(t);
		dirstate_drop_below_locked(t, "");
		changes_free_locked(t);
		mtx_unlock(&t->lock);
	}
	attrdb_close(t->db);
	htab_done(&t->dirs);
	htab_done(&t->changes);
	htab_done(&t->flights);
	cond_destroy(&t->arrival);
	mtx_destroy(&t->qlock);
	mtx_destroy(&t->lock);
	free(t->prefix);
	free(t);
}

/* --- what fs tells -------------------------------------------------------------------------------------------- */

/* Whoever is below a directory proves that it exists, and all above it: rows that are missing are made. */
int parents_exist_locked(struct tree *t, const char *dir, int64_t asked_ns)
{
	_cleanup_free_ char *cur = strdup(dir);
	int r = cur ? 0 : -ENOMEM;

	while (!r && *cur) {
		struct row row = {};
		char *parent, point[ROW_NAME_MAX];

		r = self_row_name(cur, &parent, point);
		if (r < 0)
			break;
		r = row_get_locked(t, parent, point, &row);
		if (r == -ENOENT) {
			memcpy(row.name, point, strlen(point) + 1);
			row.ino = attrdb_new_ino(t->db);
			row.asked_ns = INT64_MIN; /* of its marker nothing is known */
			change_note_locked(t, parent, point, ++t->seq, asked_ns);
			r = row_put_locked(t, parent, &row);
			free(cur);
			cur = parent;
		} else {
			free(parent);
			row_done(&row);
			break; /* known, or the database is in trouble */
		}
	}
	return r;
}

/*
 * Servers take the Date from time(2), which the kernel moves on a tick later than the clock that LastModified comes from:
 * within this time of the turn of a second the Date may be the second before LastModified (seen on RGW).
 */
#define DATE_EDGE_NS (50 * NSEC_PER_MSEC)

static bool at_the_edge_locked(struct tree *t, int64_t date_s)
{
	int64_t off_ns = clock_now_ns() + t->date_off_ns - (date_s + 1) * NSEC_PER_SEC;

	return t->date_known && off_ns > -DATE_EDGE_NS && off_ns < DATE_EDGE_NS;
}

static int note_locked(struct tree *t, const char *dir, const char *point, const struct version *v,
		       const struct obj_headers *h, uint64_t ino, bool own, int64_t date_s, int64_t asked_ns)
{
	struct version now = *v;
	struct row row = {};
	int r;

	if (own)
		change_note_locked(t, dir, point, ++t->seq, clock_now_ns());
	else if (!change_allows_ns_locked(t, dir, point, asked_ns))
		return 0;
	r = row_get_locked(t, dir, point, &row);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == -ENOENT)
		memcpy(row.name, point, strlen(point) + 1);
	else if (!own && row.asked_ns > asked_ns)
		goto out;
	if (!now.mtime_s)
		now.mtime_s = date_s;
	r = row_learn(&row, &now, h, date_s > 0 ? date_s : server_now_locked(t));
	if (own) {
		row.flags |= ROW_OWN;
		if (!v->mtime_s || v->mtime_s == date_s)
			row.flags |= ROW_OWN_DATE | (at_the_edge_locked(t, date_s) ? ROW_OWN_EDGE : 0u);
	}
	if (ino)
		row.ino = ino;
	else if (!row.ino)
		row.ino = attrdb_new_ino(t->db);
	row.asked_ns = asked_ns;
	if (!r)
		r = row_put_locked(t, dir, &row);
	if (!r)
		r = parents_exist_locked(t, dir, asked_ns);
out:
	row_done(&row);
	return r;
}

int tree_note_object(struct tree *t, const char *dir, const char *name, bool is_dir, const struct version *v,
		     const struct obj_headers *h, uint64_t ino, bool own, int64_t date_s, int64_t asked_ns)
{
	char real[PATH_NAME_MAX + 16], point[ROW_NAME_MAX], *parent = NULL;
	int r;

	if (is_dir && !*name) {
		r = self_row_name("", &parent, point);
	} else {
		r = is_dir ? str_copy(real, sizeof(real), name) : real_name(t, dir, name, real);
		if (!r)
			r = point_of(real, is_dir, point);
	}
	if (r < 0)
		return r;
	mtx_lock(&t->lock);
	flights_land_locked(t);
	server_date_locked(t, date_s, clock_now_ns());
	r = note_locked(t, parent ? parent : dir, point, v, h, ino, own, date_s, asked_ns);
	if (r < 0) {
		/* What cannot be written down must at least not be denied. */
		struct dirstate *ds = dirstate_find_locked(t, dir);

		if (ds)
			pages_drop_locked(t, ds);
	}
	mtx_unlock(&t->lock);
	free(parent);
	return r;
}

void tree_note_gone(struct tree *t, const char *dir, const char *name, bool is_dir)
{
	char real[PATH_NAME_MAX + 16], point[ROW_NAME_MAX];
	_cleanup_free_ char *sub = NULL;
	int r = is_dir ? str_copy(real, sizeof(real), name) : real_name(t, dir, name, real);

	if (r < 0 || point_of(real, is_dir, point))
		return;
	mtx_lock(&t->lock);
	flights_land_locked(t);
	change_note_locked(t, dir, point, ++t->seq, clock_now_ns());
	r = row_del_locked(t, dir, point);
	if (r < 0) {
		/* A row that could not be deleted must not be believed in. */
		struct dirstate *ds = dirstate_get_locked(t, dir);

		if (ds) {
			pages_drop_locked(t, ds);
			ds->forget_ns = clock_now_ns() + 1;
		}
	}
	if (is_dir && !path_subdir(dir, real, &sub)) {
		dirstate_drop_below_locked(t, sub);
		/* Rows below are not believed in without a listing anyway: a failure costs only space in the file. */
		r = attrdb_del_below(t->db, sub);
		check_epoch_locked(t);
	}
	mtx_unlock(&t->lock);
}

/* The row of the directory itself goes along. */
static int move_self_locked(struct tree *t, const char *from_dir, const char *to_dir)
{
	_cleanup_free_ char *fdir = NULL, *tdir = NULL;
	char fpoint[ROW_NAME_MAX], tpoint[ROW_NAME_MAX];
	struct row row = {};
	int r = self_row_name(from_dir, &fdir, fpoint);

	if (!r)
		r = self_row_name(to_dir, &tdir, tpoint);
	if (!r)
		r = row_get_locked(t, fdir, fpoint, &row);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	memcpy(row.name, tpoint, strlen(tpoint) + 1);
	row.asked_ns = INT64_MIN; /* its marker is another object now */
	free(row.headers);
	row.headers = NULL;
	row.headers_len = 0;
	row.v = (struct version){};
	change_note_locked(t, fdir, fpoint, ++t->seq, clock_now_ns());
	change_note_locked(t, tdir, tpoint, ++t->seq, clock_now_ns());
	r = row_del_locked(t, fdir, fpoint);
	if (!r)
		r = row_put_locked(t, tdir, &row);
	if (!r)
		r = parents_exist_locked(t, tdir, clock_now_ns());
	row_done(&row);
	return r;
}

void tree_note_moved_dir(struct tree *t, const char *from_dir, const char *to_dir)
{
	int r;

	mtx_lock(&t->lock);
	flights_land_locked(t);
	/* Answers to what was asked before are about names that are not there any more. */
	t->void_seq = ++t->seq;
	t->void_ns = clock_now_ns();
	dirstate_drop_below_locked(t, from_dir);
	dirstate_drop_below_locked(t, to_dir);
	r = attrdb_move_dir(t->db, from_dir, to_dir);
	check_epoch_locked(t);
	if (!r)
		r = move_self_locked(t, from_dir, to_dir);
	if (r < 0)
		dirstate_drop_below_locked(t, "");
	mtx_unlock(&t->lock);
}

void tree_forget(struct tree *t, const char *dir)
{
	struct dirstate *ds;

	mtx_lock(&t->lock);
	flights_land_locked(t);
	ds = dirstate_get_locked(t, dir);
	if (ds) {
		pages_drop_locked(t, ds);
		ds->forget_ns = clock_now_ns();
	}
	t->seq++;
	mtx_unlock(&t->lock);
}

uint64_t tree_new_ino(struct tree *t)
{
	return attrdb_new_ino(t->db);
}

void tree_stats(struct tree *t, struct tree_stats *ret)
{
	mtx_lock(&t->lock);
	flights_land_locked(t);
	*ret = (struct tree_stats){
		.rows = attrdb_count(t->db),
		.hidden_keys = t->hidden,
		.db_rebuilt = attrdb_epoch(t->db),
		.lists = t->lists,
		.heads = t->heads,
	};
	check_epoch_locked(t);
	mtx_unlock(&t->lock);
}

/* --- names ---------------------------------------------------------------------------------------------------- */

/* "x~object" is how x is shown while there is a directory x, unless an object has that very name. */
int real_name(struct tree *t, const char *dir, const char *name, char ret[PATH_NAME_MAX + 16])
{
	struct row row = {};
	char base[PATH_NAME_MAX + 16], point[PATH_NAME_MAX + 18];
	enum image_row image;
	int r = str_copy(ret, PATH_NAME_MAX + 16, name), found;

	if (r < 0 || !str_has_suffix(name, OBJECT_SUFFIX))
		return r;
	memcpy(base, name, strlen(name) + 1);
	base[strlen(base) - strlen(OBJECT_SUFFIX)] = '\0';
	snprintf(point, sizeof(point), "%s/", base);
	mtx_lock(&t->lock);
	flights_land_locked(t);
	found = row_get_locked(t, dir, name, &row);
	row_done(&row);
	if (found == -ENOENT) {
		found = row_get_locked(t, dir, point, &row);
		row_done(&row);
		if (found == -ENOENT && image_known_locked(t, dir, base, &image) == 0 && image == IMAGE_YES)
			found = 0;
		if (!found)
			found = row_get_locked(t, dir, base, &row);
		row_done(&row);
		if (!found)
			memcpy(ret, base, strlen(base) + 1);
	}
	mtx_unlock(&t->lock);
	return found == -ENOMEM ? -ENOMEM : 0;
}

int tree_key(struct tree *t, const char *dir, const char *name, bool is_dir, char **ret)
{
	char real[PATH_NAME_MAX + 16];
	int r = is_dir ? str_copy(real, sizeof(real), name) : real_name(t, dir, name, real);

	if (r < 0)
		return r;
	if (is_dir && !*name) /* the mounted root */
		return path_key(t->prefix, ROOT_DIR, ROOT_NAME, false, ret);
	return path_key(t->prefix, dir, real, is_dir, ret);
}
