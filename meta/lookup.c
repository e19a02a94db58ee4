/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * lookup.c - one name: what is known, whether that is young enough, and the cheapest question otherwise.
 *
 * For a name there are two points, the object x and the directory x/. Each is in one of four states:
 *
 *   YES	a row, and a page or question young enough vouches for it
 *   STALE	a row that nothing young vouches for
 *   NO		no row, and a young page covers the point (or it was asked for in this very call)
 *   UNKNOWN	no row, nothing covers the point
 *
 * The directory wins. Answers and questions (F the object, D the directory):
 *
 *   D YES -> directory      D STALE -> LIST x/ of one key     else F YES -> object     F STALE -> HEAD x
 *   F NO, D NO -> -ENOENT   otherwise what is UNKNOWN of the two, in parallel
 *
 * Several questions into one page that is too old are dearer than the page: the second one, for another name, renews it
 * (LIST from its first name), and a page renewed for that reason is renewed again at the first question while its
 * answers are in use. Every question of a call is asked once; then the call answers from the rows, or asks again where a
 * change by this node came in between.
 */
#include "config.h"
#include "tree-private.h"

#include <stdio.h>
#include <string.h>

#define MAX_TRIES 10
#define MAX_WAIT 3
#define WINDOW_MAX 64
/* A page that is renewed for a name starts near it when so many rows come before. */
#define PAGE_REACH 900
#define PAGE_BACK 500

enum state { UNKNOWN, NO, STALE, YES };

struct call {
	struct tree *t;
	const char *dir, *name;
	unsigned flags;
	enum want want;
	char fpoint[ROW_NAME_MAX], dpoint[ROW_NAME_MAX];
	bool no_dir; /* its key would be too long */
	int64_t start_ns;
	uint64_t start_seq;
	unsigned tries;
	/* what this call has asked, and when */
	bool file_asked, dir_asked, marker_asked, marker_head, below_listed;
	int64_t file_ns, dir_ns;
	uint64_t page_seq;
	uint64_t db_epoch; /* what was learnt since lies in this database: without it a missing row proves nothing */
	int err;
	struct objerr errwords;
	/* questions under way */
	struct flight *wait[MAX_WAIT];
	unsigned nwait;
	struct flight *ahead[WINDOW_MAX];
	unsigned nahead;
};

/* What the rows and pages say now; valid under the lock. */
struct view {
	struct dirstate *ds;
	struct page *fpage, *dpage;
	struct row frow, drow;
	bool have_f, have_d;
	enum state f, d;
	int64_t now_ns;
};

static void view_done(struct view *w)
{
	row_done(&w->frow);
	row_done(&w->drow);
}

static bool page_ok(const struct call *c, const struct dirstate *ds, const struct page *p, int64_t now_ns)
{
	if (!p)
		return false;
	if (c->page_seq && p->seq >= c->page_seq)
		return true;
	return !(c->flags & TREE_FRESH) && fresh(c->t, ds, p->asked_ns, now_ns);
}

static bool row_ok(const struct call *c, const struct dirstate *ds, const struct row *row, int64_t now_ns)
{
	return !(c->flags & TREE_FRESH) && fresh(c->t, ds, row->asked_ns, now_ns);
}

static int view_get_locked(struct call *c, struct view *w)
{
	int r = 0;

	*w = (struct view){};
	if (c->want != WANT_DIR) {
		r = row_get_locked(c->t, c->dir, c->fpoint, &w->frow);
		w->have_f = !r;
	}
	if ((!r || r == -ENOENT) && c->want != WANT_FILE) {
		r = row_get_locked(c->t, c->dir, c->dpoint, &w->drow);
		w->have_d = !r;
	}
	if (r < 0 && r != -ENOENT)
		return r;
	/* After the rows: a rebuilt database takes the pages with it. */
	w->ds = dirstate_get_locked(c->t, c->dir);
	if (!w->ds)
		return -ENOMEM;
	if (c->db_epoch != c->t->db_epoch) {
		c->file_asked = c->dir_asked = c->marker_asked = c->marker_head = c->below_listed = false;
		c->page_seq = 0;
		c->db_epoch = c->t->db_epoch;
	}
	w->now_ns = clock_now_ns();
	w->fpage = page_find(w->ds, c->fpoint);
	w->dpage = page_find(w->ds, c->dpoint);
	if (c->want == WANT_DIR || c->file_asked || page_ok(c, w->ds, w->fpage, w->now_ns))
		w->f = w->have_f ? YES : NO;
	else if (w->have_f)
		w->f = row_ok(c, w->ds, &w->frow, w->now_ns) ? YES : STALE;
	if (c->want == WANT_FILE || c->dir_asked || c->no_dir || page_ok(c, w->ds, w->dpage, w->now_ns))
		w->d = w->have_d ? YES : NO;
	else if (w->have_d)
		w->d = row_ok(c, w->ds, &w->drow, w->now_ns) ? YES : STALE;
	return 0;
}

static int ask_locked(struct call *c, enum flight_kind kind, const char *point)
{
	/* What others have asked will do if it is young enough, but after one round only what is younger than the call. */
	bool brief = c->flags & TREE_BRIEF, new_only = !brief && (c->tries || (c->flags & TREE_FRESH));
	struct flight *f;
	int r = flight_join_locked(c->t, kind, c->dir, point, brief ? INT64_MIN : c->start_ns - c->t->attr_timeout_ns,
				   new_only ? c->start_seq + 1 : 0, &f);

	if (!r)
		c->wait[c->nwait++] = f;
	return r;
}

/* --- pages ---------------------------------------------------------------------------------------------------- */

/* A point below x and above most of what comes before it, for a LIST that starts "just before x". */
static int just_before(const char *x, char ret[ROW_NAME_MAX])
{
	size_t n = strlen(x);

	memcpy(ret, x, n + 1);
	if (n && ret[n - 1] > '0' && ret[n - 1] < 0x7f) {
		ret[n - 1]--;
		return 0;
	}
	/* Cut the last character; its bytes must not be torn apart: keys are UTF-8. */
	while (n && ((unsigned char)ret[n - 1] & 0xc0) == 0x80)
		n--;
	ret[n ? n - 1 : 0] = '\0';
	return 0;
}

static bool starts_directory(const struct dirstate *ds)
{
	return ds->n && !*ds->v[0].from;
}

/* Where a LIST that renews knowledge of c's name should start. */
static int choose_from_locked(struct call *c, const struct view *w, char ret[ROW_NAME_MAX])
{
	const struct page *p = w->fpage;
	char near[ROW_NAME_MAX];
	int r = 0;

	if (p && (!str_is_utf8(p->from, strlen(p->from)) || str_copy(ret, ROW_NAME_MAX, p->from)))
		/* a page of one point, or a hidden key of any length */
		r = just_before(c->fpoint, ret);
	else if (!p && starts_directory(w->ds))
		r = just_before(c->fpoint, ret);
	else if (!p)
		ret[0] = '\0';
	if (r < 0)
		return r;
	/* Our own creates may have made the page longer than one answer. */
	r = attrdb_step_back(c->t->db, c->dir, ret, c->fpoint, PAGE_REACH, near);
	if (!r)
		r = attrdb_step_back(c->t->db, c->dir, ret, c->fpoint, PAGE_BACK, near);
	if (!r)
		memcpy(ret, near, strlen(near) + 1);
	return r == -ENOENT ? 0 : r;
}

/* True when the page is to be renewed rather than the name; remembers the question otherwise. */
static bool page_is_due_locked(struct call *c, struct view *w)
{
	struct page *p = w->fpage;
	int64_t *stale_ns = p ? &p->stale_ns : &w->ds->stale_ns;
	uint64_t *stale_id = p ? &p->stale_id : &w->ds->stale_id, id = hash_bytes(c->name, strlen(c->name), 1);

	if (c->tries || (c->flags & TREE_FRESH) || c->want == WANT_FILE)
		return false;
	if (p && p->hot && p->hits >= 2 && w->now_ns - p->asked_ns <= c->t->attr_timeout_ns + STALE_MEMORY_NS)
		return true;
	if (*stale_id && *stale_id != id && w->now_ns - *stale_ns <= STALE_MEMORY_NS)
		return true;
	*stale_ns = w->now_ns;
	*stale_id = id ? id : 1;
	return false;
}

static int ask_page_locked(struct call *c, const struct view *w)
{
	char from[ROW_NAME_MAX];
	int r = choose_from_locked(c, w, from);

	if (!r)
		r = ask_locked(c, FLIGHT_PAGE, from);
	if (!r)
		c->wait[c->nwait - 1]->hot = true;
	return r;
}

/* --- HEADs ahead ---------------------------------------------------------------------------------------------- */

static bool wants_head_locked(struct tree *t, const struct dirstate *ds, const struct row *row, int64_t now_ns)
{
	size_t n = strlen(row->name);

	if (!row->headers)
		return true;
	if (n && row->name[n - 1] == '/' && !fresh(t, ds, row->asked_ns, now_ns))
		return true;
	return row_racy(row, server_now_locked(t));
}

/* Asks for the next rows behind `after` that want it, at most n. Whatever fails here costs only speed. */
static void ahead_locked(struct call *c, struct view *w, const char *after, unsigned n)
{
	struct tree *t = c->t;
	char mid[ROW_NAME_MAX] = "", end[ROW_NAME_MAX] = "";
	struct row *v = NULL;
	size_t nv = 0;
	int r = rows_range_locked(t, c->dir, after, NULL, 4 * (size_t)n + 16, &v, &nv);

	for (size_t i = 0; i < nv && !r && c->nahead < n; i++) {
		const char *point = v[i].name;
		enum flight_kind kind = FLIGHT_HEAD;

		memcpy(end, point, strlen(point) + 1);
		if (!wants_head_locked(t, w->ds, &v[i], w->now_ns))
			continue;
		if (!v[i].headers && point[strlen(point) - 1] == '/' && !t->dirs_have_markers)
			continue;
		if (v[i].headers && point[strlen(point) - 1] == '/' && !row_racy(&v[i], server_now_locked(t)))
			kind = FLIGHT_ANY;
		if (flight_exists_locked(t, kind, c->dir, point))
			continue;
		r = flight_join_locked(t, kind, c->dir, point, w->now_ns, 0, &c->ahead[c->nahead]);
		if (!r && c->nahead++ == n / 2)
			memcpy(mid, point, strlen(point) + 1);
	}
	attrdb_rows_free(v, nv);
	free(w->ds->win_mid);
	free(w->ds->win_end);
	w->ds->win_mid = strdup(*mid ? mid : end);
	w->ds->win_end = strdup(end);
}

/* Is point the next row that anybody could ask for behind the last window? */
static bool in_sequence_locked(struct call *c, const struct view *w, const char *point)
{
	struct row *v = NULL;
	size_t nv = 0;
	bool yes = false;

	if (!w->ds->win_end || !*w->ds->win_end || strcmp(point, w->ds->win_end) <= 0)
		return false;
	if (rows_range_locked(c->t, c->dir, w->ds->win_end, NULL, WINDOW_MAX, &v, &nv))
		return false;
	for (size_t i = 0; i < nv; i++) {
		yes = !strcmp(v[i].name, point);
		if (yes || wants_head_locked(c->t, w->ds, &v[i], w->now_ns))
			break;
	}
	attrdb_rows_free(v, nv);
	return yes;
}

/* A listed row's headers are asked for: its neighbours' will be, too. */
static void open_window_locked(struct call *c, struct view *w, const char *point)
{
	unsigned max = MIN(c->t->head_window, WINDOW_MAX);

	if (max < 2)
		return;
	w->ds->window = in_sequence_locked(c, w, point) ? MIN(2 * w->ds->window, max) : 2;
	ahead_locked(c, w, point, w->ds->window - 1);
}

/* An answer from the second half of the window: the next one may start. */
static void slide_window_locked(struct call *c, struct view *w, const char *point)
{
	unsigned max = MIN(c->t->head_window, WINDOW_MAX);
	_cleanup_free_ char *end = NULL;

	if (!w->ds->win_end || !w->ds->win_mid || max < 2 || !w->ds->window || strcmp(point, w->ds->win_mid) < 0 ||
	    strcmp(point, w->ds->win_end) > 0)
		return;
	end = strdup(w->ds->win_end);
	if (!end)
		return;
	w->ds->window = MIN(2 * w->ds->window, max);
	ahead_locked(c, w, end, w->ds->window);
}

/* --- deciding ------------------------------------------------------------------------------------------------- */

enum verdict { ASK, FOUND_FILE, FOUND_DIR, ABSENT };

/*
 * A directory that we know nothing of: its first page says whether it has a marker, and is what whoever looks at a
 * directory asks for next. Where directories do have markers, a HEAD says all at once (dirs_have_markers: what the last
 * one turned out to be).
 */
static int ask_below_locked(struct call *c)
{
	char below[OBJ_KEY_MAX + ROW_NAME_MAX];
	struct flight *f;
	int r;

	snprintf(below, sizeof(below), "%s%s", c->dir, c->dpoint);
	if (c->flags & TREE_BRIEF)
		r = flight_join_locked(c->t, FLIGHT_PAGE, below, "", INT64_MIN, 0, &f);
	else
		r = flight_join_locked(c->t, FLIGHT_PAGE, below, "", c->start_ns - c->t->attr_timeout_ns,
				       c->tries || (c->flags & TREE_FRESH) ? c->start_seq + 1 : 0, &f);
	if (!r)
		c->wait[c->nwait++] = f;
	return r;
}

/* The directory is there; are its attributes known as well? */
static int settle_dir_locked(struct call *c, struct view *w, enum verdict *ret)
{
	bool racy = !c->marker_head && row_racy(&w->drow, server_now_locked(c->t));
	bool known = w->drow.headers && !racy && (c->marker_asked || row_ok(c, w->ds, &w->drow, w->now_ns));
	int r = 0;

	if (!(c->flags & TREE_ATTRS) || known) {
		*ret = FOUND_DIR;
		return 0;
	}
	*ret = ASK;
	if (!w->drow.headers && !c->below_listed && !c->t->dirs_have_markers)
		return ask_below_locked(c);
	r = ask_locked(c, w->drow.headers && !racy ? FLIGHT_ANY : FLIGHT_HEAD, c->dpoint);
	if (!r && !c->tries && !(c->flags & TREE_FRESH))
		open_window_locked(c, w, c->dpoint);
	return r;
}

static int settle_file_locked(struct call *c, struct view *w, enum verdict *ret)
{
	bool known = w->frow.headers && (c->file_asked || !row_racy(&w->frow, server_now_locked(c->t)));
	int r = 0;

	if (!(c->flags & TREE_ATTRS) || known) {
		*ret = FOUND_FILE;
		return 0;
	}
	*ret = ASK;
	r = ask_locked(c, FLIGHT_HEAD, c->fpoint);
	if (!r && !c->tries && !(c->flags & TREE_FRESH))
		open_window_locked(c, w, c->fpoint);
	return r;
}

static int decide_locked(struct call *c, struct view *w, enum verdict *ret)
{
	int r = 0;

	if (w->d == YES && c->want != WANT_FILE)
		return settle_dir_locked(c, w, ret);
	if (w->d != STALE && w->f == YES && c->want != WANT_DIR)
		return settle_file_locked(c, w, ret);
	if (w->f == NO && w->d == NO) {
		*ret = ABSENT;
		return 0;
	}
	*ret = ASK;
	if (page_is_due_locked(c, w))
		return ask_page_locked(c, w);
	if (w->d == STALE) {
		r = ask_locked(c, FLIGHT_ANY, c->dpoint);
		if (!r && (c->flags & TREE_ATTRS) && !w->drow.headers)
			r = ask_locked(c, FLIGHT_HEAD, c->dpoint);
		return r;
	}
	if (w->f == STALE || w->f == UNKNOWN)
		r = ask_locked(c, FLIGHT_HEAD, c->fpoint);
	if (!r && w->f != STALE && w->d == UNKNOWN)
		r = ask_locked(c, FLIGHT_ANY, c->dpoint);
	return r;
}

static void count_hit(const struct call *c, struct page *p)
{
	if (p && !c->tries && p->hits < UINT32_MAX)
		p->hits++;
}

static int64_t vouched_ns(const struct call *c, const struct view *w, const struct page *p, const struct row *row)
{
	int64_t ns = row->asked_ns;

	if (page_ok(c, w->ds, p, w->now_ns))
		ns = MAX(ns, p->asked_ns);
	return ns;
}

/* How old is the proof that nothing is there? Kept for a mkdir or mknod that follows at once. */
static int64_t absence_locked(struct call *c, struct view *w)
{
	int64_t f = w->now_ns, d = w->now_ns;
	char *name = strdup(c->name);

	if (c->want != WANT_DIR)
		f = c->file_asked ? c->file_ns : w->fpage ? w->fpage->asked_ns : c->start_ns;
	if (c->want != WANT_FILE)
		d = c->dir_asked ? c->dir_ns : w->dpage ? w->dpage->asked_ns : c->start_ns;
	f = MIN(f, d);
	if (name && (c->want == WANT_ANY || !strcmp(c->dir, ROOT_DIR))) {
		free(w->ds->absent);
		w->ds->absent = name;
		w->ds->absent_ns = f;
	} else {
		free(name);
	}
	return f;
}

/* 0 answered, -EAGAIN ask first, or the error. */
static int answer_locked(struct call *c, struct entry *ret, int64_t *ret_absent_ns)
{
	enum verdict v = ASK;
	struct view w;
	int64_t ns;
	int r = view_get_locked(c, &w);

	if (!r)
		r = decide_locked(c, &w, &v);
	if (r < 0)
		goto out;
	switch (v) {
	case ASK:
		r = -EAGAIN;
		break;
	case ABSENT:
		count_hit(c, w.fpage);
		ns = absence_locked(c, &w);
		if (ret_absent_ns)
			*ret_absent_ns = ns;
		r = -ENOENT;
		break;
	case FOUND_FILE:
		count_hit(c, w.fpage);
		r = row_entry(c->t, &w.frow, c->name, vouched_ns(c, &w, w.fpage, &w.frow),
			      c->file_asked || !row_racy(&w.frow, server_now_locked(c->t)), ret);
		if (!r && (c->flags & TREE_ATTRS))
			slide_window_locked(c, &w, c->fpoint);
		break;
	case FOUND_DIR:
		count_hit(c, w.dpage);
		ns = c->flags & TREE_ATTRS ? w.drow.asked_ns : vouched_ns(c, &w, w.dpage, &w.drow);
		/* A marker asked for without a listing to vouch for the directory. */
		if (ns == INT64_MIN)
			ns = c->start_ns;
		r = row_entry(c->t, &w.drow, c->name, ns,
			      (c->marker_asked || fresh(c->t, w.ds, w.drow.asked_ns, w.now_ns)) &&
				      (c->marker_head || !row_racy(&w.drow, server_now_locked(c->t))),
			      ret);
		if (!r && (c->flags & TREE_ATTRS))
			slide_window_locked(c, &w, c->dpoint);
		break;
	}
out:
	view_done(&w);
	return r;
}

/* Takes the answers of the questions of the last round. */
static void absorb_locked(struct call *c)
{
	for (unsigned i = 0; i < c->nwait; i++) {
		struct flight *f = c->wait[i];
		bool ok = !f->status || f->status == -ENOENT;
		/* One that others sent may be old by the time it has come back. */
		bool young = f->seq > c->start_seq || fresh(c->t, NULL, f->asked_ns, clock_now_ns());

		if (ok && (f->dropped || !young)) {
			/* Look again. */
		} else if (!ok) {
			c->err = f->status;
			c->errwords = f->err;
		} else if (f->kind == FLIGHT_PAGE && strcmp(f->dir, c->dir)) {
			c->below_listed = c->dir_asked = c->marker_asked = true;
			c->dir_ns = f->asked_ns;
			if (f->saw_marker)
				c->t->dirs_have_markers = true;
		} else if (f->kind == FLIGHT_PAGE) {
			c->page_seq = f->seq;
		} else if (f->kind == FLIGHT_ANY) {
			c->dir_asked = c->marker_asked = true;
			c->dir_ns = f->asked_ns;
		} else if (!strcmp(f->point, c->fpoint)) {
			c->file_asked = true;
			c->file_ns = f->asked_ns;
		} else {
			c->marker_asked = c->marker_head = true;
			if (f->status == -ENOENT)
				c->t->dirs_have_markers = false;
			if (!f->status) {
				c->dir_asked = true;
				c->dir_ns = f->asked_ns;
			}
		}
		flight_put_locked(f);
	}
	c->nwait = 0;
}

static void send_all(struct call *c)
{
	for (unsigned i = 0; i < c->nwait; i++)
		flight_send(c->wait[i]);
	for (unsigned i = 0; i < c->nahead; i++)
		flight_send(c->ahead[i]);
}

/* false: one of them was not answered, and the caller is not to wait for it. */
static bool wait_all(struct call *c)
{
	for (unsigned i = 0; i < c->nwait; i++) {
		if (!(c->flags & TREE_BRIEF))
			flight_wait(c->wait[i]);
		else if (!flight_wait_brief(c->wait[i]))
			return false;
	}
	return true;
}

static void give_up_locked(struct call *c)
{
	for (unsigned i = 0; i < c->nwait; i++)
		flight_put_locked(c->wait[i]);
	c->nwait = 0;
	c->err = -ETIMEDOUT;
	objerr_set(&c->errwords, "the store does not answer");
}

static void drop_ahead_locked(struct call *c)
{
	for (unsigned i = 0; i < c->nahead; i++)
		flight_put_locked(c->ahead[i]);
	c->nahead = 0;
}

int lookup_name(struct tree *t, const char *dir, const char *name, unsigned flags, enum want want, struct entry *ret,
		int64_t *ret_absent_ns, struct objerr *err)
{
	struct call c = {.t = t, .dir = dir, .name = name, .flags = flags, .want = want};
	bool answered;
	int r = point_of(name, false, c.fpoint);

	if (!r)
		r = point_of(name, true, c.dpoint);
	if (r < 0)
		return r;
	c.no_dir = want == WANT_ANY && strlen(t->prefix) + strlen(dir) + strlen(c.dpoint) == OBJ_KEY_MAX + 1;
	mtx_lock(&t->lock);
	c.start_ns = clock_now_ns();
	c.start_seq = t->seq;
	c.db_epoch = t->db_epoch;
	for (;;) {
		flights_land_locked(t);
		absorb_locked(&c);
		r = answer_locked(&c, ret, ret_absent_ns);
		if (r == -EAGAIN && (c.err || c.tries >= MAX_TRIES))
			r = c.err ? c.err : -EBUSY;
		if (r < 0 && r != -EAGAIN && r != -ENOENT)
			break;
		mtx_unlock(&t->lock);
		send_all(&c);
		answered = wait_all(&c);
		mtx_lock(&t->lock);
		drop_ahead_locked(&c);
		if (!answered) {
			give_up_locked(&c);
			r = r == -EAGAIN ? c.err : r;
		}
		if (r != -EAGAIN)
			break;
		c.tries++;
	}
	/* After an error what was made must still be sent: others may have joined it. */
	if (c.nwait || c.nahead) {
		mtx_unlock(&t->lock);
		send_all(&c);
		answered = wait_all(&c);
		mtx_lock(&t->lock);
		flights_land_locked(t);
		if (answered)
			absorb_locked(&c);
		else
			give_up_locked(&c);
		drop_ahead_locked(&c);
	}
	mtx_unlock(&t->lock);
	if (r < 0 && err && c.err == r)
		*err = c.errwords;
	return r;
}

/* --- the calls of tree.h -------------------------------------------------------------------------------------- */

int tree_lookup(struct tree *t, const char *dir, const char *name, unsigned flags, struct entry *ret,
		struct objerr *err)
{
	char base[PATH_NAME_MAX + 16];
	struct entry other;
	int r = path_check_name(name), r2;

	if (r == -EPERM)
		return -ENOENT; /* ours: hidden */
	if (r == -ENAMETOOLONG && str_has_suffix(name, OBJECT_SUFFIX) && !str_copy(base, sizeof(base), name))
		r = -ENOENT; /* only as the shown name of a long one */
	else if (!r)
		r = lookup_with_images(t, dir, name, flags, ret, err);
	if (r != -ENOENT || !str_has_suffix(name, OBJECT_SUFFIX) || str_copy(base, sizeof(base), name))
		return r;
	base[strlen(base) - strlen(OBJECT_SUFFIX)] = '\0';
	if (path_check_name(base))
		return r;
	r2 = lookup_with_images(t, dir, base, flags & ~(unsigned)TREE_ATTRS, &other, err);
	if (r2 < 0)
		return r2;
	r2 = other.is_dir || other.image ? 0 : -ENOENT; /* what the object is hidden by */
	entry_done(&other);
	if (r2 < 0)
		return r2;
	r2 = lookup_name(t, dir, base, flags, WANT_FILE, ret, NULL, err);
	if (!r2)
		memcpy(ret->name, name, strlen(name) + 1);
	return r2;
}

/* .lsvd/root holds what a marker would; that it is absent is remembered like any absence, for attr_timeout. */
static int lookup_root(struct tree *t, unsigned flags, struct entry *ret, struct objerr *err)
{
	struct entry e = {};
	struct dirstate *ds;
	struct row row = {};
	bool known_absent;
	int r;

	mtx_lock(&t->lock);
	flights_land_locked(t);
	ds = dirstate_find_locked(t, ROOT_DIR);
	known_absent = ds && ds->absent && !(flags & TREE_FRESH) && fresh(t, ds, ds->absent_ns, clock_now_ns());
	e.asked_ns = known_absent ? ds->absent_ns : clock_now_ns();
	r = row_get_locked(t, ROOT_DIR, ROOT_NAME, &row);
	if (!r) {
		known_absent = false;
		if (!(flags & TREE_ATTRS))
			r = row_entry(t, &row, "", e.asked_ns, fresh(t, ds, row.asked_ns, clock_now_ns()), &e);
	}
	row_done(&row);
	mtx_unlock(&t->lock);
	if (r < 0 && r != -ENOENT)
		return r;
	if ((flags & TREE_ATTRS) && !known_absent) {
		r = lookup_name(t, ROOT_DIR, ROOT_NAME, flags, WANT_FILE, &e, NULL, err);
		if (r < 0 && r != -ENOENT)
			return r;
		known_absent = r == -ENOENT;
	}
	if (known_absent)
		e.have_headers = true;
	e.name[0] = '\0';
	e.is_dir = true;
	e.ino = 1;
	attr_from_headers(&e.headers, true, 0, e.v.etag[0] ? e.v.mtime_s : t->opened_s, &t->def, &e.attr);
	*ret = e;
	return 0;
}

int tree_lookup_dir(struct tree *t, const char *dir, unsigned flags, struct entry *ret, struct objerr *err)
{
	_cleanup_free_ char *parent = NULL;
	char name[ROW_NAME_MAX];
	int r;

	if (!*dir)
		return lookup_root(t, flags, ret, err);
	r = self_row_name(dir, &parent, name);
	if (r < 0)
		return r;
	name[strlen(name) - 1] = '\0';
	return lookup_name(t, parent, name, flags, WANT_DIR, ret, NULL, err);
}
