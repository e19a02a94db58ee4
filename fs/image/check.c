/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * check.c - check.h. A volume is opened as a follower would; then its log is listed (later than it was attached: what
 * is newer than the view lies behind its tail), and what the view needs is looked for in the listing.
 *
 * Every number of the listing ends up in one class: needed, void (a claim jumped over it), behind the end, or garbage
 * that the owner has not deleted yet. Nothing is ever repaired here.
 */
#include "config.h"
#include "check.h"
#include "log-private.h"
#include "volume-private.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { AGAIN = 3, RUNS = 512, LINES_MAX = 1000, GETS = 4 };

enum { NEEDED = 1, VOID = 2, CLAIM = 4 };
struct listed {
	uint64_t number, bytes;
	uint64_t needs; /* stored bytes that the map wants of it */
	unsigned flags;
};

struct line {
	enum check_kind kind;
	char *text;
};

struct check {
	const struct check_opts *opts;
	struct check_result res;
	struct objstore *store;
	const char *prefix;
	const uint8_t *uuid;
	struct volume *v;
	struct log_view view;
	struct listed *o;
	size_t n, cap;
	uint64_t marks[2];
	size_t nmarks;
	struct line *lines;
	size_t nlines, capline;
	unsigned unsaid; /* lines beyond LINES_MAX */
	bool pages_whole;
	bool flat; /* a clone that says that it needs no ancestor */
	/* which map is looked at, and what it is where something of it is missing */
	const char *of;
	enum check_kind grave;
	/* places that the map needs and nobody has: told in one line an object */
	uint64_t lost_number, lost_bytes, lost_at;
	uint64_t *bad;
	size_t nbad, capbad;
};

static int say(struct check *c, enum check_kind kind, const char *fmt, ...) printf_like(3, 4);

static int say(struct check *c, enum check_kind kind, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	int n;

	c->res.damage += kind == CHECK_DAMAGE;
	c->res.strays += kind == CHECK_STRAY;
	if (c->nlines == LINES_MAX) {
		c->unsaid++;
		return 0;
	}
	if (c->nlines == c->capline) {
		size_t cap = c->capline * 2 + 16;
		struct line *p = reallocarray(c->lines, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		c->lines = p;
		c->capline = cap;
	}
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	str_make_printable(text);
	c->lines[c->nlines++] = (struct line){kind, text};
	return 0;
}

/* Damage is a finding, everything else an end. */
static int found(struct check *c, int r, const struct objerr *err)
{
	if (r != -EUCLEAN && r != -ENOENT)
		return r;
	return say(c, c->grave, "%s", err->msg[0] != '\0' ? err->msg : strerror(-r));
}

/* ---- the listing ---- */

static struct listed *find(struct check *c, uint64_t number)
{
	size_t lo = 0, hi = c->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->o[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->n && c->o[lo].number == number ? &c->o[lo] : NULL;
}

static int list_one(void *arg, const struct obj_list_entry *e)
{
	struct check *c = arg;
	const char *p = e->key + strlen(c->prefix);
	uint64_t number;

	if (str_has_suffix(p, "/")) /* file:// shows directories */
		return 0;
	if (log_number_parse(p, &number) == 0) {
		if (c->n == c->cap) {
			size_t cap = c->cap * 2 + 1024;
			struct listed *v = reallocarray(c->o, cap, sizeof(*v));

			if (v == NULL)
				return -ENOMEM;
			c->o = v;
			c->cap = cap;
		}
		if (c->n > 0 && c->o[c->n - 1].number >= number)
			return 0; /* the store lists out of order */
		c->o[c->n++] = (struct listed){.number = number, .bytes = e->size};
		c->res.objects++;
		c->res.bytes += e->size;
		return 0;
	}
	if (strcmp(p, "dead") == 0) {
		c->res.dead = true;
		return say(c, CHECK_NOTE, "the image was deleted: this is what stays of it");
	}
	if (str_has_prefix(p, "mark/") && log_number_parse(p + 5, &number) == 0) {
		if (c->nmarks < ARRAY_SIZE(c->marks))
			c->marks[c->nmarks++] = UINT64_MAX - number;
		return 0;
	}
	c->flat = c->flat || strcmp(p, "flat") == 0;
	if (str_has_prefix(p, "ref/") || str_has_prefix(p, "gone/") || strcmp(p, "flat") == 0)
		return 0;
	return say(c, CHECK_STRAY, "%s is no key of ours", e->key);
}

static int list(struct check *c, struct objerr *err)
{
	return obj_each(c->store, OBJ_LIST, c->prefix, false, list_one, c, err);
}

/* ---- what the view needs ---- */

/* Stored bytes of an object whose content has so many sectors, codec 0. */
static uint64_t stored_bytes(uint64_t sectors)
{
	uint64_t bytes = sectors * SECTOR;

	return bytes + (bytes + LOG_GROUP - 1) / LOG_GROUP * LOG_TRAILER;
}

static bool elsewhere(struct check *c, uint64_t number)
{
	uint8_t uuid[16];

	(void)log_prefix_of(c->v->log, number, uuid);
	return memcmp(uuid, c->uuid, 16) != 0; /* an ancestor's: its own check looks at it */
}

static int need(struct check *c, uint64_t number, uint64_t sectors, const char *what)
{
	struct listed *o = find(c, number);

	if (o == NULL && c->flat && elsewhere(c, number))
		return say(c, c->grave, "%s needs log object %016" PRIx64 " of its parent, and was flattened%s%s", c->of, number,
			   what[0] != '\0' ? ": " : "", what);
	if (o == NULL)
		return elsewhere(c, number) ? 0
					    : say(c, c->grave, "log object %016" PRIx64 " is missing: %s", number, what);
	if (c->grave == CHECK_DAMAGE) {
		o->flags |= NEEDED;
		o->needs = MAX(o->needs, stored_bytes(sectors));
	} else if (o->bytes < stored_bytes(sectors)) {
		return say(c, c->grave, "log object %016" PRIx64 " is cut short: %s needs it", number, c->of);
	}
	return 0;
}

static int check_marks(struct check *c, struct objerr *err)
{
	int r = 0;

	for (size_t i = 0; i < c->nmarks && r == 0; i++) {
		struct logobj o = {0};
		uint64_t m = c->marks[i];

		r = log_head(c->v->log, m, &o, err);
		if (r == 0 && o.checkpoint == NULL)
			r = say(c, CHECK_DAMAGE, "log object %016" PRIx64 " is marked as a checkpoint and is none", m);
		else if (r == -ENOENT)
			r = say(c, i == 0 ? CHECK_DAMAGE : CHECK_STRAY,
				"the %s mark names log object %016" PRIx64 ", which is missing",
				i == 0 ? "newest" : "second newest", m);
		else
			r = found(c, r, err);
		logobj_free(&o);
		if (r == 0 && find(c, m) != NULL)
			find(c, m)->flags |= NEEDED;
	}
	return r;
}

/* Claims stay for good: each is there, and what lies between it and its `next` is void. */
static int check_claims(struct check *c, struct objerr *err)
{
	uint64_t epoch = 1;
	int r = 0;

	for (size_t i = 0; i < c->v->ck.nclaims && r == 0; i++) {
		uint64_t number = c->v->ck.claims[i];
		struct listed *l = find(c, number);
		struct logobj o = {0};

		if (l != NULL)
			l->flags |= NEEDED | CLAIM;
		r = log_head(c->v->log, number, &o, err);
		if (r == -ENOENT) {
			r = say(c, CHECK_DAMAGE, "log object %016" PRIx64 " is missing: a claim, which stays for good",
				number);
		} else if (r < 0) {
			r = found(c, r, err);
		} else {
			if (o.type != LOG_CLAIM || o.epoch <= epoch)
				r = say(c, CHECK_DAMAGE, "log object %016" PRIx64 " is not the claim that it should be",
					number);
			epoch = MAX(epoch, o.epoch);
			for (uint64_t k = number + 1; k < o.claim_next && k - number <= 2 * LOG_W_MAX; k++)
				if (find(c, k) != NULL)
					find(c, k)->flags |= VOID;
		}
		logobj_free(&o);
	}
	return r;
}

/* A page and what lies below it. [first, end): what of the image, or of the list of objects, it stands for. */
static int check_page(struct check *c, const struct log_pageref *ref, unsigned depth, struct objerr *err)
{
	uint32_t sectors = (ref->bytes + SECTOR - 1) / SECTOR;
	struct log_place at = {ref->number, ref->sector};
	void *buf = malloc((size_t)sectors * SECTOR);
	struct page p = {0};
	int r = buf == NULL ? -ENOMEM
			    : need(c, ref->number, (uint64_t)ref->sector + sectors, "it holds a page of the map");

	if (r == 0)
		r = log_read(c->v->log, &at, sectors, buf, err);
	if (r == 0)
		r = page_decode(buf, (size_t)sectors * SECTOR, ref, &p, err);
	free(buf);
	if (r == 0 && (p.level == PAGE_OBJINDEX || (p.level > 0 && p.level <= PAGE_INDEX_MAX)))
		for (size_t i = 0; i < p.n && r == 0; i++)
			r = depth > PAGE_INDEX_MAX ? -EUCLEAN : check_page(c, &p.children[i].ref, depth + 1, err);
	page_free(&p);
	if (r == -EUCLEAN || r == -ENOENT) {
		c->pages_whole = false;
		/* what is missing was said */
		r = r == -ENOENT ? 0 : say(c, c->grave, "a page of the map in log object %016" PRIx64 ": %s",
					   ref->number, err->msg);
	}
	return r;
}

/* The tree, the object table and the digests of a checkpoint. */
static int check_tree(struct check *c, const struct log_checkpoint *ck, struct objerr *err)
{
	int r = 0;

	if (ck->root.number != 0)
		r = check_page(c, &ck->root, 0, err);
	if (r == 0 && ck->objects.number != 0)
		r = check_page(c, &ck->objects, 0, err);
	for (size_t i = 0; i < ck->ndigests && r == 0; i++)
		r = need(c, ck->digests[i], 1, "it holds a part of the map (a digest)");
	return r;
}

/*
 * The walk takes over a newer tree where it passes one; the mark may still name the one before (its writer died in
 * between). Who reads by the mark needs all of that one too, and no delete takes any of it.
 */
static int check_marked(struct check *c, struct objerr *err)
{
	const struct log_pageref *a = &c->v->ck.root, *b;
	bool whole = c->pages_whole;
	struct logobj o = {0};
	int r = log_head(c->v->log, c->view.checkpoint, &o, err);

	if (r == 0 && o.checkpoint != NULL) {
		b = &o.checkpoint->root;
		if (a->number != b->number || a->sector != b->sector)
			r = check_tree(c, o.checkpoint, err);
	} else {
		r = found(c, r, err);
	}
	logobj_free(&o);
	c->pages_whole = whole; /* of the tree that the view goes by */
	return r;
}

static int check_pages(struct check *c, struct objerr *err)
{
	const struct log_checkpoint *ck = &c->v->ck;
	int r;

	c->pages_whole = true;
	r = check_tree(c, ck, err);
	if (r == 0)
		r = check_marked(c, err);
	for (size_t i = 0; i < ck->nsnaps && r == 0; i++)
		r = need(c, ck->snaps[i].number, 1, "a snapshot");
	return r;
}

static int tell_lost(struct check *c)
{
	uint64_t number = c->lost_number;

	c->lost_number = 0;
	return number == 0 ? 0
			   : say(c, c->grave,
				 "log object %016" PRIx64 " is missing: it holds %" PRIu64
				 " bytes of %s from byte %" PRIu64 " on",
				 number, c->lost_bytes, c->of, c->lost_at);
}

static int check_run(struct check *c, const struct page_run *run)
{
	struct listed *o;
	int r;

	if (run->kind != EXT_DATA)
		return 0;
	o = find(c, run->at.number);
	if (o != NULL || elsewhere(c, run->at.number))
		return need(c, run->at.number, run->at.sector + run->len, "");
	if (c->lost_number == run->at.number) {
		c->lost_bytes += run->len * SECTOR;
		return 0;
	}
	r = tell_lost(c);
	c->lost_number = run->at.number;
	c->lost_bytes = run->len * SECTOR;
	c->lost_at = run->lba * SECTOR;
	return r;
}

/* Brings a page of the map of a state that is not the newest. */
static int fetch_page(struct check *c, struct map *m, const struct log_pageref *need, struct objerr *err)
{
	uint32_t sectors = (need->bytes + SECTOR - 1) / SECTOR;
	_cleanup_free_ void *buf = malloc((size_t)sectors * SECTOR);
	struct log_place at = {need->number, need->sector};
	int r = buf == NULL ? -ENOMEM : log_read(c->v->log, &at, sectors, buf, err);

	return r == 0 ? map_add_page(m, need, buf, (size_t)sectors * SECTOR, err) : r;
}

/* Each sector, by tree and everything that was applied over it. m: the volume's own, or that of another state. */
static int walk_map(struct check *c, struct map *m, uint64_t end, struct objerr *err)
{
	struct page_run *runs = calloc(RUNS, sizeof(*runs));
	bool own = m == c->v->map;
	uint64_t lba = 0;
	int r = runs == NULL ? -ENOMEM : map_freeze(m, end), n = 1;

	while (r == 0 && n != 0) {
		struct log_pageref page;

		n = map_walk(m, &lba, runs, RUNS, &page);
		for (int i = 0; i < n && r == 0; i++) {
			c->res.allocated += own ? runs[i].len * SECTOR : 0;
			r = check_run(c, &runs[i]);
		}
		if (n < 0)
			r = n != -EAGAIN ? n : own ? vol_fetch_page(c->v, &page) : fetch_page(c, m, &page, err);
	}
	free(runs);
	if (r == 0)
		r = tell_lost(c);
	if (r == -EUCLEAN || r == -ENOENT) {
		objerr_set(err, "the map of %s cannot be read to its end: what is behind byte %" PRIu64 " was not looked at",
			   c->of, lba * SECTOR);
		r = found(c, r, err);
	}
	return r;
}

static int check_map(struct check *c, struct objerr *err)
{
	return walk_map(c, c->v->map, c->view.tail, err);
}

/* The digests of a checkpoint over its tree: the map of everything below its last one's end. */
static int apply_digests(struct check *c, const struct log_checkpoint *ck, struct map *m, struct objerr *err)
{
	int r = 0;

	for (size_t i = 0; i < ck->ndigests && r == 0; i++) {
		struct logobj o = {0};

		r = log_head(c->v->log, ck->digests[i], &o, err);
		for (size_t k = 0; r == 0 && o.digest != NULL && k < o.digest->n; k++)
			r = map_apply(m, &o.digest->v[k], 0);
		logobj_free(&o);
	}
	return r;
}

/*
 * The map of a checkpoint that is not the one that the view goes by. Its own last digest ends with it, so nothing behind
 * is needed.
 */
static int check_state(struct check *c, uint64_t number, const struct log_checkpoint *ck, struct objerr *err)
{
	struct map *m;
	int r;

	c->pages_whole = true;
	r = check_tree(c, ck, err);
	if (r < 0 || !c->pages_whole)
		return r;
	r = map_new(VOL_PAGES(VOL_MAP_BYTES), &m);
	if (r < 0)
		return r;
	map_reset(m, ck, ck->size);
	r = apply_digests(c, ck, m, err);
	r = r == -EUCLEAN || r == -ENOENT ? found(c, r, err) : r == 0 ? walk_map(c, m, number, err) : r;
	map_free(m);
	return r;
}

/* Of a record or checkpoint that tells a state of its own. */
static int check_other(struct check *c, uint64_t number, const char *of, enum check_kind grave, struct objerr *err)
{
	bool whole = c->pages_whole;
	struct logobj o = {0};
	int r = log_head(c->v->log, number, &o, err);

	c->of = of;
	c->grave = grave;
	if (r == 0 && o.checkpoint != NULL)
		r = check_state(c, number, o.checkpoint, err);
	else if (r == 0)
		r = say(c, grave, "log object %016" PRIx64 " should tell %s and does not", number, of);
	else if (r != -ENOENT) /* that it is missing was said */
		r = found(c, r, err);
	else
		r = 0;
	logobj_free(&o);
	c->of = "the image";
	c->grave = CHECK_DAMAGE;
	c->pages_whole = whole; /* of the tree that the view goes by */
	return r;
}

/* Snapshots; and what is left to go by where the newest mark or its checkpoint should be lost. */
static int check_others(struct check *c, struct objerr *err)
{
	int r = 0;

	for (size_t i = 0; i < c->v->ck.nsnaps && r == 0; i++) {
		char of[40];

		(void)snprintf(of, sizeof(of), "snapshot %016" PRIx64, c->v->ck.snaps[i].number);
		r = check_other(c, c->v->ck.snaps[i].number, of, CHECK_DAMAGE, err);
	}
	if (r == 0 && c->nmarks > 1 && c->marks[1] != c->view.checkpoint)
		r = check_other(c, c->marks[1], "the state that the second newest mark names", CHECK_STRAY, err);
	return r;
}

/* The table's count of what is live in an object is never too low: deletes go by it. */
static int check_table(struct check *c)
{
	struct page_object v[64];
	uint64_t from = 0;
	size_t n;
	int r = 0;

	while (r == 0 && (n = map_objects(c->v->map, from, v, ARRAY_SIZE(v))) > 0) {
		for (size_t i = 0; i < n && r == 0; i++) {
			uint32_t live = map_walked_live(c->v->map, v[i].number);

			if (live > 0 && v[i].death != 0)
				r = say(c, CHECK_DAMAGE,
					"the list of objects calls %016" PRIx64 " dead, and the map needs it",
					v[i].number);
			else if (live > v[i].live && v[i].sectors > 0)
				r = say(c, CHECK_DAMAGE,
					"the list of objects has %" PRIu32 " sectors of %016" PRIx64
					" in use, the map %" PRIu32,
					v[i].live, v[i].number, live);
		}
		from = v[n - 1].number + 1;
	}
	return r;
}

/* ---- every object of the listing ---- */

static int classify(struct check *c)
{
	uint64_t end = c->view.tail, window = MAX(c->view.window, 1u);
	size_t behind = 0, in_void = 0;
	int r = 0;

	for (size_t i = 0; i < c->n && r == 0; i++) {
		struct listed *o = &c->o[i];

		if (i == 0 || o->number >= c->view.checkpoint)
			o->flags |= o->number < end && !(o->flags & VOID) ? NEEDED : 0;
		if (o->number >= end + 2 * window) {
			r = say(c, CHECK_STRAY, "log object %016" PRIx64 " lies far behind the end of the log (%016" PRIx64 ")",
				o->number, end);
		} else if (o->number >= end) {
			behind++;
		} else if ((o->flags & VOID) && !(o->flags & NEEDED)) {
			in_void++;
		} else if (o->flags & NEEDED) {
			c->res.referred++;
			c->res.referred_bytes += o->bytes;
			if (o->bytes < o->needs)
				r = say(c, CHECK_DAMAGE,
					"log object %016" PRIx64 " is cut short: %" PRIu64 " bytes, the map needs %" PRIu64,
					o->number, o->bytes, o->needs);
		} else {
			c->res.garbage++;
			c->res.garbage_bytes += o->bytes;
		}
	}
	if (r == 0 && in_void > 0)
		r = say(c, CHECK_STRAY, "%zu log objects lie where a claim ended a writer: they were never part of the image",
			in_void);
	if (r == 0 && behind > 0)
		r = say(c, CHECK_NOTE, "%zu log objects lie behind the end of the log: an owner's that are under way, or of one that died",
			behind);
	return r;
}

struct get {
	struct objreq req;
	char key[OBJ_KEY_MAX + 1];
	void *buf;
	struct listed *o;
};
struct gets {
	struct log_batch batch;
	struct get g[GETS];
};

static int get_start(struct check *c, struct gets *gs, struct get *g, struct listed *o)
{
	g->o = o;
	g->buf = malloc(o->bytes + 1);
	if (g->buf == NULL)
		return -ENOMEM;
	log_key(c->prefix, o->number, g->key);
	objreq_init(&g->req, OBJ_GET, g->key);
	g->req.buf = g->buf;
	g->req.cap = o->bytes + 1;
	log_batch_submit(&gs->batch, c->store, &g->req);
	return 0;
}

static int get_end(struct check *c, struct get *g, int r, struct objerr *err)
{
	enum check_kind kind = g->o->flags & NEEDED ? CHECK_DAMAGE : CHECK_STRAY;

	if (r == 0 && g->req.status == 0) {
		struct objerr e = {0};

		c->res.verified++;
		c->res.verified_bytes += g->req.got;
		r = logobj_verify(g->buf, g->req.got, c->uuid, g->o->number, &e);
		if (r == -EUCLEAN && vol_append_u64(&c->bad, &c->nbad, &c->capbad, g->o->number) < 0)
			r = -ENOMEM;
		if (r == -EUCLEAN)
			r = say(c, kind, "log object %016" PRIx64 ": %s%s", g->o->number, e.msg,
				kind == CHECK_STRAY ? " (nothing needs it any more)" : "");
	} else if (r == 0 && g->req.status == -ENOENT) {
		r = kind == CHECK_STRAY ? 0 : say(c, kind, "log object %016" PRIx64 " is missing", g->o->number);
	} else if (r == 0) {
		r = g->req.status;
		*err = g->req.err;
	}
	objreq_done(&g->req);
	free(g->buf);
	g->buf = NULL;
	return r;
}

/* Everything that is or was the log, a few at a time. */
static int check_data(struct check *c, struct objerr *err)
{
	struct gets gs = {0};
	uint64_t done = 0;
	size_t i = 0;
	int r = 0;

	log_batch_init(&gs.batch);
	while (i < c->n && r == 0) {
		unsigned n = 0;

		for (; i < c->n && n < GETS && r == 0; i++) {
			struct listed *o = &c->o[i];

			done += o->bytes;
			if (o->number >= c->view.tail || ((o->flags & VOID) && !(o->flags & NEEDED)))
				continue;
			if (o->bytes > LOG_OBJECT_MAX + LOG_OBJECT_MAX / 512) {
				r = say(c, CHECK_DAMAGE, "log object %016" PRIx64 " is larger than any can be",
					o->number);
				continue;
			}
			r = get_start(c, &gs, &gs.g[n], o);
			n += r == 0;
		}
		log_batch_wait(&gs.batch);
		for (unsigned k = 0; k < n; k++) {
			int e = get_end(c, &gs.g[k], r, err);

			r = r == 0 ? e : r;
		}
		if (c->opts->progress != NULL)
			c->opts->progress(c->opts->arg, done, c->res.bytes);
	}
	log_batch_destroy(&gs.batch);
	return r;
}

/* ---- all of it ---- */

static void forget(struct check *c)
{
	for (size_t i = 0; i < c->nlines; i++)
		free(c->lines[i].text);
	c->nlines = c->n = c->nmarks = 0;
	c->flat = false;
	c->nbad = 0;
	c->unsaid = 0;
	c->lost_number = 0;
	c->of = "the image";
	c->grave = CHECK_DAMAGE;
	memset(&c->res, 0, sizeof(c->res));
	if (c->v != NULL)
		ignore(vol_close(c->v)); /* a follower has nothing to lose */
	c->v = NULL;
}

/* No map: what lies there can still be verified. */
static int look_without_map(struct check *c, int r, struct objerr *err)
{
	memset(&c->view, 0, sizeof(c->view));
	c->view.tail = UINT64_MAX;
	if (r == 0)
		r = list(c, err);
	for (size_t i = 0; i < c->n; i++)
		c->o[i].flags |= NEEDED;
	return r == 0 && c->opts->data ? check_data(c, err) : r;
}

static int look_at_all(struct check *c, const struct vol_env *env, struct objerr *err)
{
	int r = vol_open(env, c->prefix, c->uuid, &c->v, err);

	if (r < 0) {
		c->v = NULL;
		return look_without_map(c, found(c, r, err), err);
	}
	log_view(c->v->log, &c->view);
	c->res.tail = c->view.tail;
	c->res.checkpoint = c->view.checkpoint;
	c->res.epoch = c->view.epoch;
	c->res.released = c->view.released;
	c->res.size = vol_size(c->v);
	r = list(c, err);
	if (r == 0)
		r = check_marks(c, err);
	if (r == 0)
		r = check_claims(c, err);
	if (r == 0)
		r = check_pages(c, err);
	if (r == 0 && c->pages_whole) {
		r = found(c, vol_know_objects(c->v, err), err);
		if (r == 0)
			r = check_map(c, err);
		if (r == 0)
			r = check_table(c);
	}
	if (r == 0)
		r = check_others(c, err);
	if (r == 0)
		r = classify(c);
	return r == 0 && c->opts->data ? check_data(c, err) : r;
}

/* Did the log move on while it was looked at? */
static bool moved(struct check *c)
{
	uint64_t m, before;

	return c->v != NULL && log_look(c->v->log, &m, &before, NULL) == 0 && m != c->view.mark;
}

int image_check(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], const struct check_opts *o,
		struct check_result *ret, struct objerr *err)
{
	struct check c = {.opts = o, .store = env->store, .prefix = prefix, .uuid = uuid};
	struct vol_env ro = *env;
	int r = 0;

	ro.read_only = true;
	ro.fetch = NULL; /* nothing out of a cache */
	for (int i = 0; i < AGAIN; i++) {
		forget(&c);
		r = look_at_all(&c, &ro, err);
		if (r < 0 || c.res.damage + c.res.strays == 0 || !moved(&c))
			break;
	}
	if (r == 0 && c.unsaid > 0)
		objerr_set(err, "%u more", c.unsaid);
	for (size_t i = 0; i < c.nlines && r == 0; i++)
		o->say(o->arg, c.lines[i].kind, c.lines[i].text);
	if (r == 0 && c.unsaid > 0)
		o->say(o->arg, CHECK_NOTE, "there is more of this than is shown");
	for (size_t i = 0; i < c.nbad && r == 0 && o->bad != NULL; i++)
		o->bad(o->arg, c.bad[i]);
	if (r == 0)
		*ret = c.res;
	forget(&c);
	free(c.bad);
	free(c.lines);
	free(c.o);
	return r;
}
