/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * question.c - requests that several threads may wait for, and what their answers teach.
 *
 * State of a flight	who moves it on
 * made			flight_join_locked(); in the table, others may join
 * sent			flight_send(), by the first of those who want it
 * done			the store's thread: puts it on the list of arrivals, touches nothing else
 * processed		flights_land_locked(): whoever takes the tree's lock next; rows and pages learn, it leaves the table
 *
 * So the store's threads never wait for SQLite, an answer that nobody waits for (a HEAD ahead) is learnt from by the next
 * caller, and what a waiter reads is always rows that take every arrived answer into account.
 *
 * What may be learnt: nothing about a name that this node changed after the question (struct change), nothing older than
 * a page or row that is there already. A change is remembered while there is room; when the oldest one is forgotten,
 * every answer to a question that old is dropped as a whole (void_seq).
 */
#include "config.h"
#include "tree-private.h"

#include <string.h>

#define MAX_CHANGES 32768
#define BRIEF_NS NSEC_PER_SEC

struct change {
	struct hnode node;
	struct list fifo;
	uint64_t seq;
	int64_t as_of_ns;
	size_t dir_len;
	char key[]; /* dir, then point */
};

/* --- changes -------------------------------------------------------------------------------------------------- */

static uint64_t change_hash(const struct tree *t, const char *dir, const char *point)
{
	return hash_bytes(point, strlen(point), hash_bytes(dir, strlen(dir), t->hash_seed));
}

static struct change *change_find_locked(struct tree *t, const char *dir, const char *point)
{
	size_t n = strlen(dir);

	for (struct hnode *h = htab_first(&t->changes, change_hash(t, dir, point)); h; h = htab_next(h)) {
		struct change *c = container_of(h, struct change, node);

		if (c->dir_len == n && !memcmp(c->key, dir, n) && !strcmp(c->key + n, point))
			return c;
	}
	return NULL;
}

static void change_forget_locked(struct tree *t, struct change *c)
{
	if (t->void_seq < c->seq)
		t->void_seq = c->seq;
	if (t->void_ns < c->as_of_ns)
		t->void_ns = c->as_of_ns;
	htab_del(&t->changes, &c->node);
	list_del(&c->fifo);
	free(c);
}

void change_note_locked(struct tree *t, const char *dir, const char *point, uint64_t seq, int64_t as_of_ns)
{
	struct change *c = change_find_locked(t, dir, point);
	size_t dn = strlen(dir), pn = strlen(point);

	if (!c) {
		c = malloc(sizeof(*c) + dn + pn + 1);
		if (!c) {
			/* Without a place to remember it, everything asked so far is dropped. */
			t->void_seq = t->seq;
			t->void_ns = clock_now_ns();
			return;
		}
		memcpy(c->key, dir, dn);
		memcpy(c->key + dn, point, pn + 1);
		c->dir_len = dn;
		c->seq = 0;
		c->as_of_ns = INT64_MIN;
		list_init(&c->fifo);
		htab_add(&t->changes, &c->node, change_hash(t, dir, point));
	}
	c->seq = MAX(c->seq, seq);
	c->as_of_ns = MAX(c->as_of_ns, as_of_ns);
	list_del(&c->fifo);
	list_add_tail(&t->change_fifo, &c->fifo);
	if (t->changes.n > MAX_CHANGES)
		change_forget_locked(t, list_entry(t->change_fifo.next, struct change, fifo));
}

void changes_free_locked(struct tree *t)
{
	while (!list_empty(&t->change_fifo))
		change_forget_locked(t, list_entry(t->change_fifo.next, struct change, fifo));
}

bool change_allows_locked(struct tree *t, const char *dir, const char *point, uint64_t seq)
{
	struct change *c;

	if (seq <= t->void_seq)
		return false;
	c = change_find_locked(t, dir, point);
	return !c || c->seq <= seq;
}

bool change_allows_ns_locked(struct tree *t, const char *dir, const char *point, int64_t asked_ns)
{
	struct change *c;

	if (asked_ns < t->void_ns)
		return false;
	c = change_find_locked(t, dir, point);
	return !c || c->as_of_ns <= asked_ns;
}

/* --- the server's clock --------------------------------------------------------------------------------------- */

/*
 * A Date is cut to whole seconds and was written before it arrived: each is a lower bound of the server's clock, and the
 * highest one so far is the best. One that is far lower means that the server's clock was set back.
 */
void server_date_locked(struct tree *t, int64_t date_s, int64_t arrived_ns)
{
	int64_t off;

	if (date_s <= 0 || date_s > INT32_MAX * (int64_t)4)
		return;
	off = date_s * NSEC_PER_SEC - arrived_ns;
	if (!t->date_known || off > t->date_off_ns || t->date_off_ns - off > 5 * NSEC_PER_SEC)
		t->date_off_ns = off;
	t->date_known = true;
}

int64_t server_now_locked(struct tree *t)
{
	return (t->date_known ? clock_now_ns() + t->date_off_ns : clock_real_ns()) / NSEC_PER_SEC;
}

/* --- flights -------------------------------------------------------------------------------------------------- */

static uint64_t flight_hash(const struct tree *t, enum flight_kind kind, const char *dir, const char *point)
{
	return change_hash(t, dir, point) + (uint64_t)kind * 0x9e3779b97f4a7c15ull;
}

static struct flight *flight_find_locked(struct tree *t, enum flight_kind kind, const char *dir, const char *point,
					 int64_t min_asked_ns, uint64_t min_seq)
{
	for (struct hnode *h = htab_first(&t->flights, flight_hash(t, kind, dir, point)); h; h = htab_next(h)) {
		struct flight *f = container_of(h, struct flight, node);

		if (f->kind == kind && f->asked_ns >= min_asked_ns && f->seq >= min_seq && !strcmp(f->dir, dir) &&
		    !strcmp(f->point, point))
			return f;
	}
	return NULL;
}

bool flight_exists_locked(struct tree *t, enum flight_kind kind, const char *dir, const char *point)
{
	return flight_find_locked(t, kind, dir, point, INT64_MIN, 0) != NULL;
}

static void flight_free(struct flight *f)
{
	objreq_done(&f->req);
	free(f->dir);
	free(f->point);
	free(f->key);
	free(f->after);
	free(f);
}

void flight_put_locked(struct flight *f)
{
	if (--f->refs == 0)
		flight_free(f);
}

/* On the store's thread, or inside flight_send(). */
static void flight_done(struct objreq *req)
{
	struct flight *f = req->priv;
	struct tree *t = f->t;

	mtx_lock(&t->qlock);
	f->done = true;
	list_add_tail(&t->arrived, &f->arrived);
	t->under_way--;
	cond_broadcast(&t->arrival);
	mtx_unlock(&t->qlock);
}

static int flight_setup(struct flight *f)
{
	struct tree *t = f->t;
	int r;

	switch (f->kind) {
	case FLIGHT_HEAD:
		r = path_key(t->prefix, f->dir, f->point, false, &f->key);
		if (!r)
			objreq_init(&f->req, OBJ_HEAD, f->key);
		break;
	case FLIGHT_ANY:
		r = path_key(t->prefix, f->dir, f->point, false, &f->key);
		if (!r) {
			objreq_init(&f->req, OBJ_LIST, f->key);
			f->req.max_keys = 1;
		}
		break;
	default:
		r = path_key(t->prefix, f->dir, "", false, &f->key);
		if (!r && *f->point)
			r = path_key(t->prefix, f->dir, f->point, false, &f->after);
		if (!r) {
			objreq_init(&f->req, OBJ_LIST, f->key);
			f->req.start_after = f->after;
			f->req.delimiter = true;
		}
	}
	f->req.done = flight_done;
	f->req.priv = f;
	return r;
}

int flight_join_locked(struct tree *t, enum flight_kind kind, const char *dir, const char *point, int64_t min_asked_ns,
		       uint64_t min_seq, struct flight **ret)
{
	struct flight *f = flight_find_locked(t, kind, dir, point, min_asked_ns, min_seq);
	int r = -ENOMEM;

	if (f) {
		f->refs++;
		*ret = f;
		return 0;
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->t = t;
	f->kind = kind;
	list_init(&f->arrived);
	f->dir = strdup(dir);
	f->point = strdup(point);
	if (f->dir && f->point)
		r = flight_setup(f);
	if (r < 0) {
		flight_free(f);
		return r;
	}
	f->asked_ns = clock_now_ns();
	f->seq = ++t->seq;
	f->refs = 2; /* the caller's and the table's */
	htab_add(&t->flights, &f->node, flight_hash(t, kind, dir, point));
	if (kind == FLIGHT_HEAD)
		t->heads++;
	else
		t->lists++;
	mtx_lock(&t->qlock);
	t->under_way++;
	mtx_unlock(&t->qlock);
	*ret = f;
	return 0;
}

void flight_send(struct flight *f)
{
	if (!atomic_exchange(&f->sent, true))
		obj_submit(f->t->store, &f->req);
}

void flight_wait(struct flight *f)
{
	struct tree *t = f->t;

	mtx_lock(&t->qlock);
	while (!f->done)
		cond_wait(&t->arrival, &t->qlock);
	mtx_unlock(&t->qlock);
}

bool flight_wait_brief(struct flight *f)
{
	struct tree *t = f->t;
	bool done;

	mtx_lock(&t->qlock);
	while (!f->done && clock_now_ns() < f->asked_ns + BRIEF_NS)
		(void)cond_wait_until(&t->arrival, &t->qlock, f->asked_ns + BRIEF_NS);
	done = f->done;
	mtx_unlock(&t->qlock);
	return done;
}

/* --- learning ------------------------------------------------------------------------------------------------- */

static bool same_version(const struct row *row, const struct version *v)
{
	if (!row->v.etag[0] || strcmp(row->v.etag, v->etag) || row->v.size != v->size)
		return false;
	if (row->v.mtime_s == v->mtime_s)
		return true;
	if (!(row->flags & ROW_OWN_DATE))
		return false;
	if ((row->flags & ROW_OWN_EDGE) && v->mtime_s == row->v.mtime_s + 1)
		return true;
	return v->mtime_s < row->v.mtime_s && row->v.mtime_s - v->mtime_s <= 2;
}

int row_learn(struct row *row, const struct version *v, const struct obj_headers *h, int64_t date_s)
{
	void *blob = NULL;
	size_t len = 0;

	if (h) {
		int r = obj_headers_encode(h, &blob, &len);

		if (r < 0)
			return r;
	}
	if (same_version(row, v)) {
		row->flags &= ~(unsigned)(ROW_OWN_DATE | ROW_OWN_EDGE); /* the LastModified itself, from here on */
		row->v.mtime_s = v->mtime_s;
	} else {
		free(row->headers);
		row->headers = NULL;
		row->headers_len = 0;
		row->flags = 0;
		row->v = *v;
	}
	if (h) {
		free(row->headers);
		row->headers = blob;
		row->headers_len = len;
		row->learnt_s = date_s;
	}
	return 0;
}

/* A directory without a marker: known to have no headers. */
static int row_no_marker(struct row *row)
{
	static const struct obj_headers none;
	static const struct version absent;

	return row_learn(row, &absent, &none, 0);
}

static void version_of_req(const struct objreq *req, struct version *ret)
{
	*ret = (struct version){.size = req->size, .mtime_s = req->mtime_s};
	memcpy(ret->etag, req->etag, sizeof(ret->etag));
}

static void version_of_entry(const struct obj_list_entry *e, struct version *ret)
{
	*ret = (struct version){.size = e->size, .mtime_s = e->mtime_s};
	memcpy(ret->etag, e->etag, sizeof(ret->etag));
}

static bool is_dir_point(const char *point)
{
	size_t n = strlen(point);

	return n && point[n - 1] == '/';
}

/* Something younger than the question is known here already: a page, or another answer. */
static bool outdated_locked(struct tree *t, const struct flight *f, const struct row *row)
{
	struct dirstate *ds = dirstate_find_locked(t, f->dir);
	struct page *p = ds ? page_find(ds, f->point) : NULL;

	/* A directory's page knows nothing of its marker. */
	if (p && p->seq > f->seq && !is_dir_point(f->point))
		return true;
	return row && row->asked_ns > f->asked_ns;
}

static int head_absent_locked(struct tree *t, struct flight *f, struct row *row)
{
	struct dirstate *ds;
	struct page *p;
	int r;

	if (!is_dir_point(f->point)) {
		change_note_locked(t, f->dir, f->point, f->seq, f->asked_ns);
		return row ? row_del_locked(t, f->dir, f->point) : 0;
	}
	if (!row)
		return 0;
	/* No marker; that the directory exists is vouched for by the listing, if at all, and no longer than by that. */
	r = row_no_marker(row);
	if (r < 0)
		return r;
	ds = dirstate_find_locked(t, f->dir);
	p = ds ? page_find(ds, f->point) : NULL;
	if (p)
		row->asked_ns = MAX(row->asked_ns, p->asked_ns);
	return row_put_locked(t, f->dir, row);
}

static int learn_head_locked(struct tree *t, struct flight *f)
{
	struct row row = {};
	struct version v;
	bool known;
	int r = row_get_locked(t, f->dir, f->point, &row);

	if (r < 0 && r != -ENOENT)
		return r;
	known = !r;
	r = 0;
	version_of_req(&f->req, &v);
	if (outdated_locked(t, f, known ? &row : NULL)) {
		/* Its headers may still belong to the version that the younger answer named. */
		if (!f->status && known && same_version(&row, &v)) {
			r = row_learn(&row, &v, &f->req.ret_headers, server_now_locked(t));
			if (!r)
				r = row_put_locked(t, f->dir, &row);
		}
		f->dropped = true;
	} else if (f->status) {
		r = head_absent_locked(t, f, known ? &row : NULL);
	} else {
		if (!known) {
			memcpy(row.name, f->point, strlen(f->point) + 1);
			row.ino = attrdb_new_ino(t->db);
		}
		r = row_learn(&row, &v, &f->req.ret_headers, f->req.date_s > 0 ? f->req.date_s : server_now_locked(t));
		row.asked_ns = f->asked_ns;
		if (!r)
			r = row_put_locked(t, f->dir, &row);
	}
	row_done(&row);
	return r;
}

/* What a listing says about the directory that dir/point names: its first key, or nothing. */
static int learn_any_locked(struct tree *t, const char *dir, const char *point, const struct obj_list_entry *first,
			    bool is_marker, uint64_t seq, int64_t asked_ns)
{
	struct dirstate *ds = dirstate_find_locked(t, dir);
	struct page *p = ds ? page_find(ds, point) : NULL;
	struct row row = {};
	struct version v;
	bool known;
	int r = row_get_locked(t, dir, point, &row);

	if (r < 0 && r != -ENOENT)
		return r;
	known = !r;
	r = 0;
	if (known && row.asked_ns > asked_ns)
		goto out;
	/* Whether it exists is for a younger page to say; that knows nothing of the marker. */
	if (p && p->seq > seq && known != (first != NULL))
		goto out;
	if (!first) {
		change_note_locked(t, dir, point, seq, asked_ns);
		if (known)
			r = row_del_locked(t, dir, point);
		goto out;
	}
	if (!known) {
		memcpy(row.name, point, strlen(point) + 1);
		row.ino = attrdb_new_ino(t->db);
	}
	if (is_marker) {
		version_of_entry(first, &v);
		r = row_learn(&row, &v, NULL, 0);
	} else {
		r = row_no_marker(&row);
	}
	row.asked_ns = asked_ns;
	if (!r)
		r = row_put_locked(t, dir, &row);
out:
	row_done(&row);
	return r;
}

/* --- a page --------------------------------------------------------------------------------------------------- */

struct item {
	const char *point;
	const struct obj_list_entry *e;
};

struct page_work {
	struct item *item; /* what can be shown */
	size_t n;
	uint64_t hidden;
	const struct obj_list_entry *marker; /* of the listed directory itself */
	struct row *made;		     /* new and changed rows, owned here */
	size_t nmade;
	const struct row **put;
	size_t nput;
	const char **del;
	size_t ndel;
};

static void page_work_done(struct page_work *w)
{
	for (size_t i = 0; i < w->nmade; i++)
		row_done(&w->made[i]);
	free(w->made);
	free(w->item);
	free(w->put);
	free(w->del);
}

/* Sorts the listing's entries into what can be shown, what is hidden and the marker. -EBADMSG: not a listing of this. */
static int page_read(const struct flight *f, struct page_work *w)
{
	const struct obj_listing *l = f->req.listing;
	size_t base = strlen(f->key);
	const char *last = NULL;

	w->item = calloc(l->n ? l->n : 1, sizeof(*w->item));
	if (!w->item)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		const struct obj_list_entry *e = &l->v[i];
		const char *point;
		size_t n;

		if (strncmp(e->key, f->key, base) || (last && strcmp(last, e->key) >= 0))
			return -EBADMSG; /* outside of the prefix, or out of order: nothing could be concluded */
		last = e->key;
		point = e->key + base;
		n = strlen(point);
		if (!n) {
			w->marker = e;
			continue;
		}
		/* Behind the question: a prefix that start-after points into is listed once more. */
		if (strcmp(point, f->point) <= 0)
			continue;
		if (is_dir_point(point))
			n--;
		if (path_component_ok(point, n))
			w->item[w->n++] = (struct item){point, e};
		else if (n != strlen(PATH_RESERVED) || memcmp(point, PATH_RESERVED, n))
			w->hidden++;
	}
	if (l->truncated && (!last || strcmp(last + base, f->point) <= 0))
		return -EBADMSG; /* it would go round for ever */
	return 0;
}

static int merge_new_locked(struct tree *t, const struct flight *f, struct page_work *w, const struct item *it)
{
	struct row *row = &w->made[w->nmade];
	int r = 0;

	*row = (struct row){.asked_ns = INT64_MIN, .ino = attrdb_new_ino(t->db)};
	memcpy(row->name, it->point, strlen(it->point) + 1);
	if (!is_dir_point(it->point)) {
		struct version v;

		version_of_entry(it->e, &v);
		r = row_learn(row, &v, NULL, 0);
		row->asked_ns = f->asked_ns;
	}
	w->put[w->nput++] = row;
	w->nmade++;
	return r;
}

static int merge_both_locked(const struct flight *f, struct page_work *w, const struct item *it, struct row *old)
{
	struct version v;
	bool same;
	int r;

	if (is_dir_point(it->point))
		return 0;
	version_of_entry(it->e, &v);
	same = same_version(old, &v);
	if (same && old->v.mtime_s == v.mtime_s)
		return 0; /* the page vouches for it from now on */
	r = row_learn(old, &v, NULL, 0);
	old->asked_ns = f->asked_ns;
	w->put[w->nput++] = old;
	return r;
}

/* Rows that were there, merged with what is there now, both in byte order. */
static int page_merge_locked(struct tree *t, const struct flight *f, struct page_work *w, struct row *old, size_t nold)
{
	size_t i = 0, k = 0;
	int r = 0;

	w->made = calloc(w->n ? w->n : 1, sizeof(*w->made));
	w->put = calloc(w->n ? w->n : 1, sizeof(*w->put));
	w->del = calloc(nold ? nold : 1, sizeof(*w->del));
	if (!w->made || !w->put || !w->del)
		return -ENOMEM;
	while (!r && (i < w->n || k < nold)) {
		int c = i == w->n ? 1 : k == nold ? -1 : strcmp(w->item[i].point, old[k].name);
		const char *point = c <= 0 ? w->item[i].point : old[k].name;
		bool may = change_allows_locked(t, f->dir, point, f->seq);

		if (c >= 0 && old[k].asked_ns > f->asked_ns)
			may = false;
		if (may && c < 0)
			r = merge_new_locked(t, f, w, &w->item[i]);
		else if (may && c > 0)
			w->del[w->ndel++] = old[k].name;
		else if (may)
			r = merge_both_locked(f, w, &w->item[i], &old[k]);
		i += c <= 0;
		k += c >= 0;
	}
	return r;
}

/* The listing starts at the directory's own marker: that is news for its row in the parent. */
static int page_self_locked(struct tree *t, struct flight *f, const struct page_work *w)
{
	const struct obj_listing *l = f->req.listing;
	_cleanup_free_ char *dir = NULL;
	char point[ROW_NAME_MAX];
	int r;

	if (!*f->dir || *f->point)
		return 0;
	f->saw_marker = w->marker != NULL;
	r = self_row_name(f->dir, &dir, point);
	if (r < 0 || !change_allows_locked(t, dir, point, f->seq))
		return r;
	return learn_any_locked(t, dir, point, l->n ? &l->v[0] : NULL, w->marker != NULL, f->seq, f->asked_ns);
}

static int learn_page_locked(struct tree *t, struct flight *f)
{
	const struct obj_listing *l = f->req.listing;
	const char *to = NULL;
	struct dirstate *ds;
	struct page_work w = {};
	struct row *old = NULL;
	size_t nold = 0;
	int r = page_read(f, &w);

	if (r < 0) {
		if (r == -EBADMSG)
			objerr_set(&f->err, "the listing below %s is out of order", f->key);
		goto out;
	}
	if (l->truncated)
		to = l->v[l->n - 1].key + strlen(f->key);
	r = rows_range_locked(t, f->dir, f->point, to, SIZE_MAX, &old, &nold);
	if (!r)
		r = page_merge_locked(t, f, &w, old, nold);
	ds = r ? NULL : dirstate_get_locked(t, f->dir);
	if (r || !ds) {
		r = r ? r : -ENOMEM;
		goto out;
	}
	/* Pages first: a younger one there means that this listing is not to be learnt from at all. */
	r = page_cover_locked(t, ds, f->point, to, f->asked_ns, f->seq, w.hidden);
	if (r == -EALREADY) {
		f->dropped = true;
		r = 0;
		goto out;
	}
	if (!r) {
		struct page *p = page_behind(ds, f->point);

		if (p)
			p->hot = f->hot;
		r = rows_apply_locked(t, f->dir, w.put, w.nput, w.del, w.ndel);
		if (r < 0)
			pages_drop_locked(t, ds);
	}
	if (!r)
		r = page_self_locked(t, f, &w);
out:
	page_work_done(&w);
	attrdb_rows_free(old, nold);
	return r;
}

/* --- landing -------------------------------------------------------------------------------------------------- */

static void flight_learn_locked(struct tree *t, struct flight *f)
{
	int r = 0;

	server_date_locked(t, f->req.date_s, clock_now_ns());
	f->status = f->req.status;
	f->err = f->req.err;
	/* file:// where a directory stands in the place of the object, or an object in that of a directory */
	if (f->kind == FLIGHT_HEAD && (f->status == -EISDIR || f->status == -ENOTDIR))
		f->status = -ENOENT;
	if (f->status && !(f->status == -ENOENT && f->kind == FLIGHT_HEAD))
		return;
	if (f->seq <= t->void_seq ||
	    (f->kind != FLIGHT_PAGE && !change_allows_locked(t, f->dir, f->point, f->seq))) {
		f->dropped = true;
		return;
	}
	if (f->kind != FLIGHT_HEAD && !f->req.listing) {
		r = -EBADMSG;
	} else if (f->kind == FLIGHT_HEAD) {
		r = learn_head_locked(t, f);
	} else if (f->kind == FLIGHT_PAGE) {
		r = learn_page_locked(t, f);
	} else {
		const struct obj_list_entry *e = f->req.listing->n ? &f->req.listing->v[0] : NULL;

		if (!e)
			f->status = -ENOENT;
		else if (strncmp(e->key, f->key, strlen(f->key)))
			r = -EBADMSG;
		if (!r)
			r = learn_any_locked(t, f->dir, f->point, e, e && !strcmp(e->key, f->key), f->seq, f->asked_ns);
	}
	if (r < 0)
		f->status = r;
}

void flights_land_locked(struct tree *t)
{
	struct list batch;

	list_init(&batch);
	mtx_lock(&t->qlock);
	while (!list_empty(&t->arrived)) {
		struct list *n = t->arrived.next;

		list_del(n);
		list_add_tail(&batch, n);
	}
	mtx_unlock(&t->qlock);
	list_for_each_safe(it, tmp, &batch) {
		struct flight *f = list_entry(it, struct flight, arrived);

		list_del(it);
		flight_learn_locked(t, f);
		f->processed = true;
		htab_del(&t->flights, &f->node);
		objreq_done(&f->req); /* the listing may be large, and a waiter needs only the rows */
		flight_put_locked(f);
	}
}
