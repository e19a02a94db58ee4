/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * readdir.c - one page of a directory, in byte order of the names that are shown.
 *
 * The store's order is that of the keys, which differs in two ways. A directory x is the key "x/", which comes behind
 * "x-1" and "x.c", although its name comes before them; and an object x beside a directory x is shown as "x~object",
 * which comes far behind x. So before a name behind x is given out, it must be known whether there is a directory x:
 *
 *   - what is known reaches up to a key E (the end of the pages that are young enough, or of the rows that fit);
 *   - the only directories with a name up to E and a key behind E are those whose name is a start of E and is followed
 *     in E by a character below '/': at most a few, often none (the candidates);
 *   - a candidate below which little would have to be held back is held back: the next page knows. For any other one the
 *     store is asked, once, whether there is such a directory.
 *
 * An object shown as "x~object" may fall into a page of names long behind x; all such x are starts of the name that the
 * page begins with, so they can be looked for.
 *
 * An image x is the key "x.lsvd", whose place is between x and "x/": its candidates are among those of directories. What
 * ends in ".lsvd" is an image or a plain file by its headers; where they are not known they are asked for first.
 */
#include "config.h"
#include "tree-private.h"

#include <stdio.h>
#include <string.h>

#define MAX_ROUNDS 16 /* without coming further */
#define MIN_ROWS 64
#define HEADS 64 /* in parallel, of keys that may be images */

struct shown {
	char name[PATH_NAME_MAX + 16];
	struct row *row; /* in the rows or extras of the gathering */
	int kind;	 /* of one name the lowest wins: 0 directory, 1 image, 2 object */
	bool renamed;	 /* shown as "x~object" */
};

struct extra {
	struct row row;
	bool renamed; /* an object beside a directory that is not in the rows */
};

struct gather {
	struct tree *t;
	const char *dir, *after;
	size_t max, max_rows;
	int64_t start_ns;
	uint64_t start_seq; /* what was asked behind it is young by definition */
	/* rows with after < key <= end; end NULL: to the end of the directory */
	struct row *v;
	size_t n;
	char *end;		     /* owned */
	char *covered;		     /* owned; how far the pages reach, NULL to the end */
	struct extra *extra;	     /* candidates that exist, objects beside directories */
	size_t nextra, extra_cap;
	int64_t asked_ns; /* the oldest page */
	bool no_heads;	  /* some of the headers below could not be had: without them, then */
	bool brief, stale; /* the store does not answer: what is known, however old */
	struct flight *heads[HEADS];
	unsigned nheads, head_rounds;
};

static void gather_reset(struct gather *g)
{
	attrdb_rows_free(g->v, g->n);
	g->v = NULL;
	g->n = 0;
	for (size_t i = 0; i < g->nextra; i++)
		row_done(&g->extra[i].row);
	g->nextra = 0;
	free(g->end);
	free(g->covered);
	g->end = g->covered = NULL;
	g->asked_ns = INT64_MAX;
}

static bool page_young(const struct gather *g, struct dirstate *ds, const struct page *p, int64_t now_ns)
{
	return p && (g->stale || p->seq > g->start_seq || fresh(g->t, ds, p->asked_ns, now_ns));
}

/* How far young pages reach from `after` on: -EAGAIN with the point to LIST from when they do not reach at all. */
static int reach_locked(struct gather *g, struct dirstate *ds, char **ret_from)
{
	int64_t now_ns = clock_now_ns();
	const char *pos = g->after;
	struct page *p;
	bool any = false;

	for (p = page_behind(ds, pos); page_young(g, ds, p, now_ns); p = page_behind(ds, pos)) {
		any = true;
		g->asked_ns = MIN(g->asked_ns, p->asked_ns);
		pos = p->to;
		if (!pos)
			break;
	}
	if (any && !pos)
		return 0;
	if (!any) {
		*ret_from = strdup(g->after);
		return *ret_from ? -EAGAIN : -ENOMEM;
	}
	g->covered = strdup(pos);
	return g->covered ? 0 : -ENOMEM;
}

static int load_rows_locked(struct gather *g)
{
	int r = rows_range_locked(g->t, g->dir, g->after, g->covered, g->max_rows + 1, &g->v, &g->n);

	if (r < 0)
		return r;
	if (g->n > g->max_rows)
		g->end = strdup(g->v[g->n - 1].name);
	else if (g->covered)
		g->end = strdup(g->covered);
	else
		return 0;
	return g->end ? 0 : -ENOMEM;
}

/* Adds the row if there is one. */
static int add_extra_locked(struct gather *g, const char *point, bool renamed)
{
	int r;

	if (g->nextra == g->extra_cap) {
		size_t cap = g->extra_cap ? 2 * g->extra_cap : 8;
		struct extra *v = reallocarray(g->extra, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		g->extra = v;
		g->extra_cap = cap;
	}
	g->extra[g->nextra] = (struct extra){.renamed = renamed};
	r = row_get_locked(g->t, g->dir, point, &g->extra[g->nextra].row);
	if (!r)
		g->nextra++;
	return r == -ENOENT ? 0 : r;
}

/* Rows that would have to be held back for a directory of this name. */
static size_t rows_from(const struct gather *g, const char *name, size_t len)
{
	size_t k = 0;

	while (k < g->n && strncmp(g->v[g->n - 1 - k].name, name, len) >= 0)
		k++;
	return k;
}

/* Is what stands at the point known? Then it is added to what is shown. */
static int candidate_locked(struct gather *g, struct dirstate *ds, const char *point, int64_t now_ns, bool *ret_known)
{
	*ret_known = page_young(g, ds, page_find(ds, point), now_ns);
	return *ret_known ? add_extra_locked(g, point, false) : 0;
}

/*
 * The candidates: see top. *cut: length of the start of g->end from which on names are held back, SIZE_MAX: none.
 * -EAGAIN with *ret_ask: a directory point that the store must be asked for. -ENODATA: better list on first.
 */
static int candidates_locked(struct gather *g, struct dirstate *ds, size_t *cut, char ret_ask[ROW_NAME_MAX])
{
	size_t n = g->end ? strlen(g->end) : 0, an = strlen(g->after);
	int64_t now_ns = clock_now_ns();
	char point[ROW_NAME_MAX];

	*cut = SIZE_MAX;
	for (size_t len = 1; len <= n && len <= PATH_NAME_MAX; len++) {
		unsigned char next = (unsigned char)g->end[len];
		bool known = true;
		int r = 0;

		if (next >= '/')
			continue;
		/* Not behind `after`: it was given out before, or is there no more. */
		if (len <= an && strncmp(g->after, g->end, len) == 0)
			continue;
		if (!path_component_ok(g->end, len))
			continue;
		memcpy(point, g->end, len);
		memcpy(point + len, IMAGE_SUFFIX, sizeof(IMAGE_SUFFIX));
		if (len + strlen(IMAGE_SUFFIX) <= PATH_NAME_MAX && strcmp(g->end + len, IMAGE_SUFFIX) < 0)
			r = candidate_locked(g, ds, point, now_ns, &known);
		if (known && !r) {
			memcpy(point + len, "/", 2);
			r = candidate_locked(g, ds, point, now_ns, &known);
		}
		if (r < 0)
			return r;
		if (known)
			continue;
		if (rows_from(g, g->end, len) * 2 <= g->n && g->n > 1) {
			*cut = len;
			return 0;
		}
		/* With little in hand the next page of the listing, which is needed anyway, may tell. */
		memcpy(ret_ask, point, strlen(point) + 1);
		return g->n * 2 <= g->max_rows && g->covered ? -ENODATA : -EAGAIN;
	}
	return 0;
}

/* Objects beside a directory or an image whose own place is before this page, but not that of "x~object". */
static int conflicts_before_locked(struct gather *g)
{
	char point[ROW_NAME_MAX], base[ROW_NAME_MAX];
	enum image_row image;
	size_t n = strlen(g->after);
	int r = 0;

	for (size_t len = 1; !r && len <= n && len <= PATH_NAME_MAX; len++) {
		struct row probe = {};

		memcpy(base, g->after, len);
		base[len] = '\0';
		snprintf(point, sizeof(point), "%.*s/", (int)len, g->after);
		r = row_get_locked(g->t, g->dir, point, &probe);
		row_done(&probe);
		if (r == -ENOENT && image_known_locked(g->t, g->dir, base, &image) == 0 && image == IMAGE_YES)
			r = 0;
		if (!r)
			r = add_extra_locked(g, base, true);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

/* --- showing -------------------------------------------------------------------------------------------------- */

static bool row_is_dir(const struct row *r)
{
	size_t n = strlen(r->name);

	return n && r->name[n - 1] == '/';
}

/* The directory before the image before the object of the same name. */
static int by_name(const void *a, const void *b)
{
	const struct shown *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : x->kind - y->kind;
}

static void show(struct shown *s, struct row *row, bool renamed)
{
	size_t n = strlen(row->name);

	s->kind = row_is_dir(row) ? 0 : row_image(row) == IMAGE_YES ? 1 : 2;
	if (s->kind < 2)
		n -= s->kind == 0 ? 1 : strlen(IMAGE_SUFFIX);
	memcpy(s->name, row->name, n);
	s->name[n] = '\0';
	if (renamed)
		memcpy(s->name + n, OBJECT_SUFFIX, sizeof(OBJECT_SUFFIX));
	s->renamed = renamed;
	s->row = row;
}

/*
 * Sorts; an object beside a directory or an image gets its other name, or goes if that is the name of a real object. An
 * image beside a directory goes.
 */
static size_t resolve_conflicts(struct shown *s, size_t n)
{
	size_t k = 0;

	qsort(s, n, sizeof(*s), by_name);
	for (size_t i = 1, first = 0; i < n; i++) {
		if (strcmp(s[first].name, s[i].name))
			first = i;
		else if (s[i].kind == 2 && s[first].kind < 2)
			show(&s[i], s[i].row, true);
	}
	qsort(s, n, sizeof(*s), by_name);
	for (size_t i = 0; i < n; i++) {
		if (!k || strcmp(s[k - 1].name, s[i].name))
			s[k++] = s[i];
		else if (s[k - 1].renamed)
			s[k - 1] = s[i];
	}
	return k;
}

static bool has_row(const struct gather *g, const char *name)
{
	size_t lo = 0, hi = g->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(g->v[mid].name, name);

		if (!c)
			return true;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static bool row_trusted(struct tree *t, const struct dirstate *ds, const struct row *row, int64_t now_ns)
{
	if (row_is_dir(row) && !fresh(t, ds, row->asked_ns, now_ns))
		return false;
	return !row_racy(row, server_now_locked(t));
}

/* Is the name part of this page: behind `after`, not behind the end, not held back? */
static bool in_page(const struct gather *g, const char *name, size_t cut)
{
	if (strcmp(name, g->after) <= 0)
		return false;
	if (!g->end)
		return true;
	if (cut != SIZE_MAX)
		return strncmp(name, g->end, cut) < 0;
	return strcmp(name, g->end) <= 0;
}

static int emit_locked(struct gather *g, struct dirstate *ds, size_t cut, struct tree_page *ret)
{
	struct shown *s = calloc(g->n + g->nextra + 1, sizeof(*s));
	struct tree_page page = {};
	size_t n = 0;
	int r = s ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	for (size_t i = 0; i < g->n; i++)
		show(&s[n++], &g->v[i], false);
	for (size_t i = 0; i < g->nextra; i++)
		if (!has_row(g, g->extra[i].row.name) && !(g->extra[i].renamed && row_image(&g->extra[i].row) == IMAGE_YES))
			show(&s[n++], &g->extra[i].row, g->extra[i].renamed);
	n = resolve_conflicts(s, n);
	page.v = calloc(n ? n : 1, sizeof(*page.v));
	if (!page.v)
		r = -ENOMEM;
	page.more = g->end != NULL;
	for (size_t i = 0; i < n && !r; i++) {
		if (!in_page(g, s[i].name, cut))
			continue;
		if (page.n == g->max) {
			page.more = true;
			break;
		}
		r = row_entry(g->t, s[i].row, s[i].name, MAX(s[i].row->asked_ns, g->asked_ns),
			      row_trusted(g->t, ds, s[i].row, clock_now_ns()), &page.v[page.n]);
		if (!r)
			page.n++;
	}
	free(s);
	if (r < 0)
		tree_page_done(&page);
	else
		*ret = page;
	return r;
}

void tree_page_done(struct tree_page *p)
{
	for (size_t i = 0; i < p->n; i++)
		entry_done(&p->v[i]);
	free(p->v);
	*p = (struct tree_page){};
}

/*
 * What may be an image by its name: its headers are asked for, many at a time. -EAGAIN: g->heads are to be sent.
 */
static int unknown_images_locked(struct gather *g)
{
	for (size_t i = 0; i < g->n + g->nextra && g->nheads < HEADS && !g->no_heads; i++) {
		const struct row *row = i < g->n ? &g->v[i] : &g->extra[i - g->n].row;
		int r;

		if (row_image(row) != IMAGE_MAYBE)
			continue;
		r = flight_join_locked(g->t, FLIGHT_HEAD, g->dir, row->name, g->brief ? INT64_MIN : g->start_ns, 0,
				       &g->heads[g->nheads]);
		if (r < 0)
			return g->nheads ? -EAGAIN : r;
		g->nheads++;
	}
	return g->nheads ? -EAGAIN : 0;
}

/* --- rounds --------------------------------------------------------------------------------------------------- */

enum next { DONE, AGAIN, LIST_FROM, ASK_POINT, ASK_HEADS };

/* One look at what is known. */
static int look_locked(struct gather *g, struct tree_page *ret, enum next *next, char **ret_from,
		       char ret_ask[ROW_NAME_MAX])
{
	struct dirstate *ds;
	size_t cut = SIZE_MAX;
	int r;

	gather_reset(g);
	flights_land_locked(g->t);
	ds = dirstate_get_locked(g->t, g->dir);
	if (!ds)
		return -ENOMEM;
	*next = LIST_FROM;
	r = reach_locked(g, ds, ret_from);
	if (!r)
		r = load_rows_locked(g);
	if (r == -EAGAIN)
		return 0;
	if (!r)
		r = conflicts_before_locked(g);
	if (!r)
		r = candidates_locked(g, ds, &cut, ret_ask);
	if (r == -EAGAIN) {
		*next = ASK_POINT;
		return 0;
	}
	if (r == -ENODATA) {
		*ret_from = strdup(g->covered);
		return *ret_from ? 0 : -ENOMEM;
	}
	if (!r && unknown_images_locked(g) == -EAGAIN) {
		*next = ASK_HEADS;
		return 0;
	}
	/* The rows may have gone with a database that was rebuilt meanwhile: then the pages are gone, too. */
	if (!r && g->t->db_epoch != attrdb_epoch(g->t->db))
		r = -EAGAIN;
	if (!r && !page_young(g, ds, page_behind(ds, g->after), clock_now_ns()))
		r = -EAGAIN;
	if (r == -EAGAIN) {
		*ret_from = strdup(g->after);
		return *ret_from ? 0 : -ENOMEM;
	}
	if (!r)
		r = emit_locked(g, ds, cut, ret);
	if (!r && !ret->n && ret->more) {
		/* Everything was held back or hidden: go on behind what is covered, or with more of the rows. */
		tree_page_done(ret);
		if (g->n > g->max_rows) {
			g->max_rows *= 2;
			*next = AGAIN;
			return 0;
		}
		*ret_from = strdup(g->end);
		return *ret_from ? 0 : -ENOMEM;
	}
	*next = DONE;
	return r;
}

/*
 * The answer about one point becomes a page of it alone: the key before "x/" can only be "x." and something, and no UTF-8
 * is behind "x.\xff"; in the same way for the last character of "x.lsvd".
 */
static int cover_point_locked(struct tree *t, const struct flight *f)
{
	struct dirstate *ds = dirstate_get_locked(t, f->dir);
	char from[ROW_NAME_MAX + 1];
	size_t n = strlen(f->point);
	int r;

	if (!ds)
		return -ENOMEM;
	memcpy(from, f->point, n);
	from[n - 1]--;
	memcpy(from + n, "\xff", 2);
	r = page_cover_locked(t, ds, from, f->point, f->asked_ns, f->seq, 0);
	return r == -EALREADY ? 0 : r;
}

/*
 * Sends the question if nobody has, and learns from the answer. Gives the reference back. -ETIMEDOUT: the caller is
 * brief, and there is none.
 */
static int ask(struct gather *g, struct flight *f, struct objerr *err)
{
	struct tree *t = g->t;
	bool answered = true;
	int r;

	flight_send(f);
	if (g->brief)
		answered = flight_wait_brief(f);
	else
		flight_wait(f);
	mtx_lock(&t->lock);
	if (!answered) {
		flight_put_locked(f);
		mtx_unlock(&t->lock);
		return -ETIMEDOUT;
	}
	flights_land_locked(t);
	r = f->status;
	if (f->kind != FLIGHT_PAGE && r == -ENOENT)
		r = 0;
	if (r < 0 && err)
		*err = f->err;
	if (!r && f->kind != FLIGHT_PAGE && !f->dropped)
		r = cover_point_locked(t, f);
	flight_put_locked(f);
	mtx_unlock(&t->lock);
	return r;
}

/* Headers that cannot be had keep nobody from listing: what they belong to is shown as the object that it is. */
static void ask_heads(struct gather *g)
{
	bool answered = true;

	for (unsigned i = 0; i < g->nheads; i++)
		flight_send(g->heads[i]);
	for (unsigned i = 0; i < g->nheads; i++) {
		if (!g->brief)
			flight_wait(g->heads[i]);
		else if (!flight_wait_brief(g->heads[i]))
			answered = false;
	}
	mtx_lock(&g->t->lock);
	flights_land_locked(g->t);
	for (unsigned i = 0; i < g->nheads; i++) {
		if (!answered || (g->heads[i]->status && g->heads[i]->status != -ENOENT))
			g->no_heads = true;
		flight_put_locked(g->heads[i]);
	}
	mtx_unlock(&g->t->lock);
	g->nheads = 0;
	if (++g->head_rounds > HEADS) /* changed by this node again and again */
		g->no_heads = true;
}

/* After an empty answer: is there such a directory at all? */
static int exists(struct tree *t, const char *dir)
{
	_cleanup_free_ char *parent = NULL;
	char point[ROW_NAME_MAX];
	struct row row = {};
	int r;

	if (!*dir)
		return 0;
	r = self_row_name(dir, &parent, point);
	if (r < 0)
		return r;
	mtx_lock(&t->lock);
	r = row_get_locked(t, parent, point, &row);
	row_done(&row);
	mtx_unlock(&t->lock);
	return r;
}

static int list(struct tree *t, const char *dir, const char *after, size_t max, bool brief, struct tree_page *ret,
		struct objerr *err)
{
	struct gather g = {.t = t, .dir = dir, .after = after, .max = max ? max : OBJ_LIST_MAX, .brief = brief};
	_cleanup_free_ char *last = NULL;
	struct tree_page page = {};
	enum next next = AGAIN;
	unsigned rounds = 0;
	int r = 0;

	g.max_rows = MAX(g.max, MIN_ROWS);
	g.start_ns = clock_now_ns();
	mtx_lock(&t->lock);
	g.start_seq = t->seq;
	mtx_unlock(&t->lock);
	while (!r && next != DONE) {
		/* What others have asked will do at first. */
		int64_t min_asked_ns = brief ? INT64_MIN : rounds ? g.start_ns : g.start_ns - t->attr_timeout_ns;
		char point[ROW_NAME_MAX], *from = NULL;
		struct flight *f = NULL;

		/* Looking and joining under one lock: what has landed between the two would be asked for again. */
		mtx_lock(&t->lock);
		r = look_locked(&g, &page, &next, &from, point);
		if (!r && g.stale && (next == ASK_POINT || next == LIST_FROM))
			r = -ETIMEDOUT; /* that cannot be known now */
		if (!r && next == ASK_POINT)
			r = flight_join_locked(t, str_has_suffix(point, "/") ? FLIGHT_ANY : FLIGHT_HEAD, dir, point,
					       min_asked_ns, 0, &f);
		if (!r && next == LIST_FROM) {
			rounds = last && !strcmp(last, from) ? rounds + 1 : 1;
			r = rounds > MAX_ROUNDS ? -EBUSY : 0;
			if (!r)
				r = flight_join_locked(t, FLIGHT_PAGE, dir, from, min_asked_ns, 0, &f);
			free(last);
			last = from;
			from = NULL;
		}
		mtx_unlock(&t->lock);
		if (f)
			r = ask(&g, f, err);
		if (f && r == -ETIMEDOUT && brief) {
			g.stale = true;
			r = 0;
		}
		if (!r && next == ASK_HEADS)
			ask_heads(&g);
		free(from);
	}
	gather_reset(&g);
	free(g.extra);
	if (!r && !page.n && !page.more && !*after)
		r = exists(t, dir);
	if (r < 0)
		tree_page_done(&page);
	else
		*ret = page;
	return r;
}

int tree_list(struct tree *t, const char *dir, const char *after, size_t max, struct tree_page *ret, struct objerr *err)
{
	return list(t, dir, after, max, false, ret, err);
}

int tree_list_brief(struct tree *t, const char *dir, const char *after, size_t max, struct tree_page *ret,
		    struct objerr *err)
{
	return list(t, dir, after, max, true, ret, err);
}
