/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * repair.c - what is to be repaired, and what comes before the image can be attached (repair.h); marks for people.
 *
 * A plan is made from what lies there alone: the listing of the log, headers, and volumes opened as followers from one
 * checkpoint after the other until one gives a whole map.
 */
#include "config.h"
#include "repair.h"
#include "check.h"
#include "log-private.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MARKS = 8, CHAIN = 16, BASES = MARKS + CHAIN + 64 };

struct key {
	uint64_t number, bytes;
};
struct planning {
	const struct vol_env *env;
	const char *prefix;
	const uint8_t *uuid;
	struct log *log;
	struct repair_plan *p;
	struct objerr *err;
	struct key *o; /* log objects, ascending */
	size_t n, cap;
	uint64_t mark[MARKS];
	size_t nmarks;
	struct check_result res;
	bool data, zero_lost;
	size_t capbad;
	int failed;
};

int repair_add(struct repair_plan *p, bool left, const char *fmt, ...)
{
	char ***v = left ? &p->left : &p->step, *text = NULL, **more;
	size_t *n = left ? &p->nleft : &p->nstep;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (r < 0)
		return -ENOMEM;
	more = reallocarray(*v, *n + 1, sizeof(**v));
	if (more == NULL) {
		free(text);
		return -ENOMEM;
	}
	str_make_printable(text);
	*v = more;
	more[(*n)++] = text;
	return 0;
}

void repair_plan_free(struct repair_plan *p)
{
	for (size_t i = 0; i < p->nstep; i++)
		free(p->step[i]);
	for (size_t i = 0; i < p->nleft; i++)
		free(p->left[i]);
	for (size_t i = 0; i < p->njunk; i++)
		free(p->junk[i]);
	free(p->step);
	free(p->left);
	free(p->junk);
	free(p->lost);
	free(p->claims);
	free(p->alive);
	free(p->snaps);
	free(p->bad);
	free(p->salvage);
	memset(p, 0, sizeof(*p));
}

/* ---- what lies there ---- */

static int list_one(void *arg, const struct obj_list_entry *e)
{
	struct planning *g = arg;
	const char *k = e->key + strlen(g->prefix);
	uint64_t number;
	char **more;

	if (str_has_suffix(k, "/"))
		return 0;
	if (log_number_parse(k, &number) == 0) {
		if (g->n == g->cap) {
			size_t cap = g->cap * 2 + 1024;
			struct key *v = reallocarray(g->o, cap, sizeof(*v));

			if (v == NULL)
				return -ENOMEM;
			g->o = v;
			g->cap = cap;
		}
		if (g->n == 0 || g->o[g->n - 1].number < number)
			g->o[g->n++] = (struct key){number, e->size};
		return 0;
	}
	if (!str_has_prefix(k, "mark/"))
		return 0;
	if (log_number_parse(k + 5, &number) == 0) {
		if (g->nmarks < MARKS)
			g->mark[g->nmarks++] = UINT64_MAX - number;
		return 0;
	}
	if (e->size > 0)
		return repair_add(g->p, true, "%s is no mark and not empty: somebody else's; move it away yourself", e->key);
	more = reallocarray(g->p->junk, g->p->njunk + 1, sizeof(*more));
	if (more == NULL)
		return -ENOMEM;
	g->p->junk = more;
	more[g->p->njunk] = strdup(e->key);
	if (more[g->p->njunk] == NULL)
		return -ENOMEM;
	g->p->njunk++;
	return repair_add(g->p, false, "%s is no mark, and empty: it is removed, nobody can attach before", e->key);
}

static int list(struct planning *g)
{
	return obj_each(g->env->store, OBJ_LIST, g->prefix, false, list_one, g, g->err);
}

/* An object's header: 0, -ENOENT, -EUCLEAN, or the store's failure. */
static int head(struct planning *g, uint64_t number, struct logobj *ret)
{
	struct objerr words = {0};
	int r = log_head(g->log, number, ret, &words);

	if (r < 0 && r != -ENOENT && r != -EUCLEAN)
		*g->err = words;
	return r;
}

static bool there(const struct planning *g, uint64_t number)
{
	size_t lo = 0, hi = g->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (g->o[mid].number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < g->n && g->o[lo].number == number;
}

/* ---- before it can be attached ---- */

/* All of the log from `from` on, up to and without c: each number there, of whoever owned it. -EUCLEAN: no. */
static int unbroken(struct planning *g, uint64_t from, const struct logobj *c)
{
	struct log_nonce nonce = {{0}};
	bool known = false;
	uint64_t at = from;
	int r = 0;

	while (r == 0 && at < c->number) {
		struct logobj o = {0};

		r = head(g, at, &o);
		r = r == -ENOENT ? -EUCLEAN : r;
		if (r == 0 && o.type != LOG_CLAIM && known && memcmp(&nonce, &o.nonce, sizeof(nonce)) != 0)
			r = -EUCLEAN;
		nonce = r == 0 ? o.nonce : nonce;
		known = true;
		at = r == 0 && o.type == LOG_CLAIM ? o.claim_next : at + 1;
		logobj_free(&o);
	}
	if (r == 0 && (at != c->number || (known && memcmp(&nonce, &c->nonce, sizeof(nonce)) != 0)))
		r = -EUCLEAN;
	return r;
}

/*
 * Is the checkpoint of c committed, and in the log? Not if a claim that it does not know may jump over it. Yes if an object
 * behind it says so, or if everything since the checkpoint before it is there, whose mark was answered before c was made.
 */
static int committed(struct planning *g, const struct logobj *c, bool *ret)
{
	const struct log_checkpoint *ck = c->checkpoint;
	bool said = false, doubt = memcmp(&c->nonce, &ck->nonce, sizeof(c->nonce)) != 0;
	int r = 0;

	for (size_t i = 0; i < g->n && r == 0 && !doubt; i++) {
		struct logobj o = {0};
		uint64_t k = g->o[i].number;

		if (k + 2 * (uint64_t)LOG_W_MAX < c->number || k > c->number + 4 * (uint64_t)LOG_W_MAX || k == c->number)
			continue;
		r = head(g, k, &o);
		if (r == 0 && o.type == LOG_CLAIM && k > ck->claim && k < c->number && o.claim_next > c->number)
			doubt = true;
		else if (r == 0 && k > c->number && o.durable > c->number &&
			 (o.type == LOG_CLAIM || memcmp(&o.nonce, &c->nonce, sizeof(o.nonce)) == 0))
			said = true;
		r = r == -ENOENT || r == -EUCLEAN ? 0 : r;
		logobj_free(&o);
	}
	if (r == 0 && !said && !doubt) {
		r = unbroken(g, ck->before != 0 ? ck->before : log_first(g->log), c);
		doubt = r == -EUCLEAN;
		r = doubt ? 0 : r;
	}
	*ret = !doubt;
	return r;
}

/* From the end of the listing downwards. *ret: freed by the caller; type 0: there is none. */
static int newest_checkpoint(struct planning *g, bool sure, struct logobj *ret)
{
	int r = 0;

	for (size_t i = g->n; r == 0 && i-- > 0;) {
		struct logobj o = {0};
		bool ok = true;

		r = head(g, g->o[i].number, &o);
		if (r == 0 && o.checkpoint != NULL && o.type != LOG_CREATE && sure)
			r = committed(g, &o, &ok);
		if (r == 0 && o.checkpoint != NULL && o.type != LOG_CREATE && ok) {
			*ret = o;
			return 0;
		}
		r = r == -ENOENT || r == -EUCLEAN ? 0 : r;
		logobj_free(&o);
	}
	return r;
}

static int plan_mark(struct planning *g)
{
	struct logobj c = {0};
	int r;

	if (g->nmarks > 0)
		return 0;
	r = newest_checkpoint(g, true, &c);
	if (r == 0 && c.type != 0) {
		g->p->mark = c.number;
		r = repair_add(g->p, false,
			       "no mark is there: that of checkpoint %016" PRIx64 " is put again, which the log shows to be committed",
			       c.number);
	}
	logobj_free(&c);
	return r;
}

/* Its number is known by the first claim, which comes right behind it. */
static int plan_create(struct planning *g)
{
	struct logobj o = {0}, c = {0};
	uint64_t first = 0;
	int r = head(g, 1, &o);
	bool whole = r == 0 && o.type == LOG_CREATE;

	logobj_free(&o);
	if (whole || (r < 0 && r != -ENOENT && r != -EUCLEAN))
		return whole ? 0 : r;
	memset(&o, 0, sizeof(o));
	r = g->n > 0 ? head(g, g->o[0].number, &o) : -ENOENT;
	whole = r == 0 && o.type == LOG_CREATE; /* a clone's */
	logobj_free(&o);
	if (whole || (r < 0 && r != -ENOENT && r != -EUCLEAN))
		return whole ? 0 : r;
	r = newest_checkpoint(g, false, &c);
	if (r == 0 && c.type != 0 && c.checkpoint->nclaims > 0)
		first = c.checkpoint->claims[0];
	if (r == 0 && c.type == 0) { /* no checkpoint yet: the first claim itself */
		memset(&o, 0, sizeof(o));
		r = head(g, 2, &o);
		if (r == 0 && o.type == LOG_CLAIM && o.claim_before == 0) {
			first = 2;
			c.window = o.window;
			c.size = o.size;
		}
		r = r == -ENOENT || r == -EUCLEAN ? 0 : r;
		logobj_free(&o);
	}
	if (r == 0 && first == 2) {
		g->p->create = 1;
		g->p->window = c.window;
		g->p->create_size = c.size;
		r = repair_add(g->p, false,
			       "log object %016d, the create record, is lost: it is made again (what an fsync waits for is not known "
			       "any more: from now on the bucket)",
			       1);
	} else if (r == 0) {
		r = repair_add(g->p, true,
			       "the create record is lost, and nothing says whether this is a clone: nothing can be opened");
	}
	logobj_free(&c);
	return r;
}

/* ---- what gives a whole map ---- */

static struct vol_env reader(const struct planning *g, bool from_base, uint64_t base, bool lose)
{
	struct vol_env e = *g->env;

	e.read_only = true;
	e.fetch = NULL; /* nothing out of a cache */
	e.from_base = from_base;
	e.base = base;
	e.lose_pages = lose;
	return e;
}

/* 0: whole. 1: it can be attached, not all of the map read. -EUCLEAN, -ENOENT: not even that, words. */
static int try_base(struct planning *g, bool from_base, uint64_t base, struct objerr *words)
{
	struct vol_env e = reader(g, from_base, base, false);
	struct volume *v;
	int r = vol_open(&e, g->prefix, g->uuid, &v, words);

	if (r < 0)
		return r;
	r = repair_map_whole(v, words);
	ignore(vol_close(v)); /* nothing was written */
	return r == -EUCLEAN || r == -ENOENT ? 1 : r;
}

static void add_base(uint64_t *v, size_t *n, uint64_t x)
{
	for (size_t i = 0; i < *n; i++)
		if (v[i] == x)
			return;
	if (*n < BASES - 1)
		v[(*n)++] = x;
}

/* Checkpoints, newest first, then the beginning. */
static int bases(struct planning *g, uint64_t *v, size_t *ret_n)
{
	uint64_t at = g->nmarks > 0 ? g->mark[0] : 0;
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < g->nmarks; i++)
		add_base(v, &n, g->mark[i]);
	for (int i = 0; i < CHAIN && r == 0 && at != 0; i++) {
		struct logobj o = {0};

		r = head(g, at, &o);
		if (r == 0 && o.checkpoint != NULL) {
			add_base(v, &n, at);
			for (size_t k = o.checkpoint->nsnaps; k-- > 0 && i == 0;)
				add_base(v, &n, o.checkpoint->snaps[k].number);
			at = o.checkpoint->before < at ? o.checkpoint->before : 0;
		} else {
			at = i == 0 && g->nmarks > 1 ? g->mark[1] : 0;
		}
		r = r == -ENOENT || r == -EUCLEAN ? 0 : r;
		logobj_free(&o);
	}
	v[n++] = 0;
	*ret_n = n;
	return r;
}

/* 0: p says how to open it. 1: not at all; words. */
static int plan_base(struct planning *g, struct objerr *words)
{
	uint64_t v[BASES], attaches = 0;
	struct objerr other;
	bool any = false;
	size_t n;
	int first = try_base(g, false, 0, words), r;

	if (first == 0 || (first < 0 && first != -EUCLEAN && first != -ENOENT))
		return first;
	r = bases(g, v, &n);
	for (size_t i = 0; i < n && r == 0; i++) {
		int t = try_base(g, true, v[i], &other);

		if (t == 0) {
			g->p->from_base = true;
			g->p->base = v[i];
			return repair_add(g->p, false,
					  "%s: the same map follows from %s%016" PRIx64 " and the log behind it",
					  words->msg[0] != '\0' ? words->msg : "the map is damaged",
					  v[i] != 0 ? "checkpoint " : "the beginning, log object ",
					  v[i] != 0 ? v[i] : log_first(g->log));
		}
		if (t == 1 && !any) {
			any = true;
			attaches = v[i];
		} else if (t < 0 && t != -EUCLEAN && t != -ENOENT) {
			*g->err = other;
			return t;
		}
	}
	if (r < 0)
		return r;
	g->p->lose_pages = first == 1 || any;
	g->p->from_base = first != 1 && any;
	g->p->base = attaches;
	return first == 1 || any ? 0 : 1;
}

/* Where the readable part ends: positions up to *ret open; 0: none. */
static int readable_to(struct planning *g, uint64_t *ret)
{
	uint64_t lo = 0, hi = g->n > 0 ? g->o[g->n - 1].number + 1 : 0;
	struct vol_env e = reader(g, false, 0, false);
	int r = 0;

	while (r == 0 && lo + 1 < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		struct objerr ignored = {0};
		struct volume *v;

		r = vol_open_position(&e, g->prefix, g->uuid, mid, &v, &ignored);
		if (r == 0) {
			ignore(vol_close(v)); /* nothing was written */
			lo = mid;
		} else {
			hi = mid;
			r = r == -EUCLEAN || r == -ENOENT || r == -EINVAL ? 0 : r;
		}
	}
	*ret = lo;
	return r;
}

/*
 * Is what is lost at `at`, where the walk ends, a claim? The first number of a claim's owner is a window behind it: an object of
 * the next epoch lies just there, and says that everything below it had been in the log. Nothing else gives that.
 */
static int plan_walk_claim(struct planning *g, uint64_t at)
{
	struct vol_env e = reader(g, false, 0, false);
	struct objerr ignored = {0};
	struct logobj o = {0};
	struct log_view view;
	struct volume *v;
	int r = vol_open_position(&e, g->prefix, g->uuid, at, &v, &ignored);
	bool yes;

	if (r < 0)
		return r;
	log_view(v->log, &view);
	ignore(vol_close(v)); /* nothing was written */
	r = head(g, at + view.window, &o);
	yes = r == 0 && o.type != LOG_CLAIM && o.epoch == view.epoch + 1 && o.durable > at && o.window == view.window &&
	      memcmp(&o.nonce, &view.nonce, sizeof(o.nonce)) != 0;
	for (uint64_t k = at; k < at + view.window && yes; k++) {
		struct logobj x = {0};

		r = head(g, k, &x);
		yes = r == -ENOENT || r == -EUCLEAN || (r == 0 && k > at && x.epoch <= view.epoch);
		logobj_free(&x);
	}
	if (yes) {
		g->p->walk_claim = at;
		g->p->window = view.window;
		g->p->claim_epoch = o.epoch;
		g->p->claim_before = view.claim;
		g->p->claim_jseq = view.jseq;
		g->p->claim_size = view.size;
		memcpy(g->p->claim_nonce, o.nonce.b, sizeof(g->p->claim_nonce));
	}
	logobj_free(&o);
	r = r == -ENOENT || r == -EUCLEAN ? 0 : r;
	if (r == 0 && yes)
		r = repair_add(g->p, false, "log object %016" PRIx64 " is the lost claim of epoch %" PRIu64 ", as the first object of its "
			       "owner shows: it is made again", at, g->p->claim_epoch);
	g->p->first = g->p->first || yes;
	return r;
}

static int tell_readable(struct planning *g, const struct objerr *words)
{
	uint64_t lo;
	int r = readable_to(g, &lo);

	if (r == 0 && lo != 0)
		r = plan_walk_claim(g, lo);
	if (r < 0 || g->p->first)
		return r;
	r = repair_add(g->p, true, "%s: what it did to the image is known to nobody",
		       words->msg[0] != '\0' ? words->msg : "the log cannot be read");
	if (r < 0 || lo == 0)
		return r;
	return repair_add(g->p, true, "the image as it was before log object %016" PRIx64 " can be read: "
			  "lsvdfs image export --mark %016" PRIx64 ", then import it under a new name", lo, lo);
}

/* ---- what an owner does ---- */

static int plan_claims(struct planning *g, struct volume *v)
{
	size_t cap = 0;
	int r = 0;

	for (size_t i = 0; i < v->ck.nclaims && r == 0; i++) {
		uint64_t k = v->ck.claims[i];
		struct logobj o = {0};
		int h = head(g, k, &o);

		if (h == -ENOENT || h == -EUCLEAN || (h == 0 && o.type != LOG_CLAIM)) {
			r = vol_append_u64(&g->p->claims, &g->p->nclaims, &cap, k);
			if (r == 0)
				r = repair_add(g->p, false,
					       "log object %016" PRIx64 ", the claim of epoch %zu, is %s: it is made again, so that no "
					       "earlier writer can come back to that number",
					       k, i + 2, h == -ENOENT ? "missing" : "damaged");
		} else if (h < 0) {
			r = h;
		}
		logobj_free(&o);
	}
	return r;
}

/* What a snapshot pins stays (T16). */
static bool keeps_bad(struct planning *g, struct volume *of, uint64_t snapshot)
{
	for (size_t i = 0; i < g->p->nbad; i++) {
		struct page_object o;

		if (g->p->bad[i] > snapshot)
			continue;
		if (map_object(of->map, g->p->bad[i], &o) ? o.death == 0 || o.death - 1 > snapshot : g->p->no_table)
			return true;
	}
	return false;
}

/* What a snapshot has lost nobody can write anew: its map is what its record says. */
static int snapshot_whole(struct planning *g, struct volume *of, uint64_t number)
{
	struct repair_plan p = {.bad = g->p->bad, .nbad = g->p->nbad};
	struct objerr words = {0};
	struct volume *s;
	int r = vol_open_snapshot(of, number, &s, &words);

	if (r == 0) {
		r = repair_survey(s, g->data, &p, &words);
		ignore(vol_close(s)); /* nothing was written */
	}
	if (r == -ENOENT || r == -EUCLEAN)
		r = repair_add(g->p, true, "a part of snapshot %016" PRIx64 " cannot be read: %s", number,
			       words.msg[0] != '\0' ? words.msg : "its map is damaged");
	else if (r == 0 && p.nlost > 0)
		r = repair_add(g->p, true, "%" PRIu64 " bytes of snapshot %016" PRIx64 " are lost, the first at byte %" PRIu64
			       ": reads of them fail (EIO)", p.lost_bytes, number, p.lost[0].off);
	else if (r == 0 && p.no_table)
		r = repair_add(g->p, true, "snapshot %016" PRIx64 " has lost its list of objects, and no bytes: after a roll back to "
			       "it space stays in use", number);
	else if (r == 0 && (p.nsalvage > 0 || keeps_bad(g, of, number)))
		r = repair_add(g->p, true, "snapshot %016" PRIx64 " keeps a damaged log object, of which it needs nothing that is "
			       "damaged", number);
	else if (r < 0)
		*g->err = words;
	p.bad = NULL;
	repair_plan_free(&p);
	return r;
}

static int plan_snapshots(struct planning *g, struct volume *v)
{
	size_t cap = 0;
	int r = 0;

	for (size_t i = 0; i < v->ck.nsnaps && r == 0; i++) {
		struct logobj o = {0};
		uint64_t k = v->ck.snaps[i].number;
		int h = head(g, k, &o);

		if (h == 0 && (o.type != LOG_SNAPSHOT || o.digest == NULL))
			h = -EUCLEAN;
		logobj_free(&o);
		if (h == -ENOENT || h == -EUCLEAN) {
			r = vol_append_u64(&g->p->snaps, &g->p->nsnaps, &cap, k);
			if (r == 0 && g->zero_lost)
				r = repair_add(g->p, false, "the record of snapshot %016" PRIx64 " is lost, its name with it: the "
					       "snapshot is forgotten (--zero-lost)", k);
			else if (r == 0)
				r = repair_add(g->p, true, "the record of snapshot %016" PRIx64 " is lost, its name with it: until "
					       "--repair --zero-lost forgets it no snapshot can be listed and nothing be deleted", k);
			continue;
		}
		r = h == 0 ? snapshot_whole(g, v, k) : h;
	}
	return r;
}

static int tell_lost(struct planning *g)
{
	struct repair_plan *p = g->p;
	int r = 0;

	if (p->nlost == 0)
		return 0;
	if (g->zero_lost)
		return repair_add(p, false, "%" PRIu64 " bytes of the image, in %zu ranges, are lost: they are made zeros (--zero-lost)",
				  p->lost_bytes, p->nlost);
	r = repair_add(p, true, "%" PRIu64 " bytes of the image, in %zu ranges, are lost: reads of them fail (EIO); a snapshot or a "
		       "backup may have them; --repair --zero-lost makes them zeros", p->lost_bytes, p->nlost);
	return r;
}

static int plan_owned(struct planning *g)
{
	struct repair_plan *p = g->p;
	struct vol_env e = reader(g, p->from_base, p->base, p->lose_pages);
	struct log_view view;
	struct volume *v;
	uint64_t salvage = 0;
	int r = vol_open(&e, g->prefix, g->uuid, &v, g->err);

	if (r < 0)
		return r;
	log_view(v->log, &view);
	p->tail = view.tail;
	p->jseq = view.jseq;
	r = repair_survey(v, g->data, p, g->err);
	if (r == 0)
		r = plan_claims(g, v);
	if (r == 0)
		r = plan_snapshots(g, v);
	ignore(vol_close(v)); /* nothing was written */
	for (size_t i = 0; i < p->nsalvage; i++)
		salvage += p->salvage[i].len;
	if (r == 0 && p->nbad > 0 && (p->nlost == 0 || g->zero_lost))
		r = repair_add(p, false, "%zu damaged log objects: what is whole of them and of the image, %" PRIu64
			       " bytes, is written anew", p->nbad, salvage);
	for (size_t i = 0; i < p->nalive && r == 0; i++)
		r = repair_add(p, false, "the list of objects calls %016" PRIx64 " dead, and the map needs it: the list is made anew",
			       p->alive[i]);
	if (r == 0)
		r = tell_lost(g);
	/* A page that is lost makes every new map impossible until it is said what shall be there. */
	p->owned = r == 0 && (!p->lose_pages || g->zero_lost) &&
		   (p->nstep > 0 || (p->damaged && p->nlost == 0 && p->nleft == 0) || g->res.strays > 0);
	if (r == 0 && p->owned && p->nstep == 0)
		r = repair_add(p, false, "%s: a new map, two checkpoints and their marks are written",
			       p->damaged ? "what is damaged is not needed for the image" : "what lies there and means nothing is removed");
	return r;
}

/* ---- all of it ---- */

static void on_line(void *arg, enum check_kind kind, const char *line)
{
	(void)arg, (void)kind, (void)line; /* the caller has shown them */
}

static void on_bad(void *arg, uint64_t number)
{
	struct planning *g = arg;

	if (g->failed == 0)
		g->failed = vol_append_u64(&g->p->bad, &g->p->nbad, &g->capbad, number);
}

static int plan(struct planning *g)
{
	struct check_opts o = {.data = g->data, .say = on_line, .bad = on_bad, .arg = g};
	struct log_at at = {.store = g->env->store, .prefix = g->prefix, .host = g->env->host};
	struct objerr words = {0};
	int r;

	memcpy(at.uuid, g->uuid, 16);
	r = image_check(g->env, g->prefix, g->uuid, &o, &g->res, g->err);
	r = r == 0 ? g->failed : r;
	g->p->damaged = r == 0 && g->res.damage > 0;
	if (r < 0 || g->res.damage + g->res.strays == 0)
		return r;
	if (g->res.dead)
		return repair_add(g->p, true, "the image was deleted: there is nothing to repair");
	r = log_open(&at, &g->log);
	if (r == 0)
		r = list(g);
	if (r == 0 && g->n == 0)
		return repair_add(g->p, true, "there is no object of its log at %s", g->prefix);
	if (r == 0)
		r = plan_create(g);
	if (r == 0)
		r = plan_mark(g);
	if (r < 0)
		return r;
	if (g->p->njunk > 0 || g->p->create != 0 || g->p->mark != 0) {
		g->p->first = true;
		return 0;
	}
	r = plan_base(g, &words);
	if (r == 0)
		return plan_owned(g);
	if (r < 0)
		*g->err = words;
	return r < 0 ? r : tell_readable(g, &words);
}

int repair_plan(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], bool data, bool zero_lost,
		struct repair_plan *ret, struct objerr *err)
{
	struct repair_plan p = {0};
	struct planning g = {.env = env, .prefix = prefix, .uuid = uuid, .p = &p, .err = err, .data = data,
			     .zero_lost = zero_lost};
	int r = plan(&g);

	log_close(g.log);
	free(g.o);
	if (r < 0)
		repair_plan_free(&p);
	else
		*ret = p;
	return r;
}

/* ---- marks ---- */

static int look_at_mark(struct log *l, struct image_mark *m, uint64_t *ret_before, struct objerr *err)
{
	struct objerr words = {0};
	struct logobj o = {0};
	int r = log_head(l, m->number, &o, &words);

	*ret_before = 0;
	if (r == 0 && o.checkpoint == NULL) {
		objerr_set(&words, "log object %016" PRIx64 " is no checkpoint", m->number);
		r = -EUCLEAN;
	}
	if (r == 0) {
		const struct log_pageref *root = &o.checkpoint->root;
		uint32_t n = (root->bytes + SECTOR - 1) / SECTOR;
		_cleanup_free_ void *buf = malloc((size_t)n * SECTOR + 1);

		m->time_s = o.time_s;
		m->size = o.checkpoint->size;
		*ret_before = o.checkpoint->before < m->number ? o.checkpoint->before : 0;
		r = buf == NULL ? -ENOMEM : 0;
		if (r == 0 && root->number != 0)
			r = log_read(l, &(struct log_place){root->number, root->sector}, n, buf, &words);
		for (size_t i = 0; r == 0 && i < o.checkpoint->ndigests; i++) {
			struct logobj d = {0};

			r = log_head(l, o.checkpoint->digests[i], &d, &words);
			logobj_free(&d);
		}
	}
	logobj_free(&o);
	m->whole = r == 0;
	if (r == -ENOENT && words.msg[0] == '\0')
		objerr_set(&words, "an object that it needs is missing");
	(void)snprintf(m->why, sizeof(m->why), "%s", words.msg);
	if (r == 0 || r == -ENOENT || r == -EUCLEAN)
		return 0;
	*err = words;
	return r;
}

int image_marks(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct image_mark **ret,
		size_t *ret_n, struct objerr *err)
{
	struct repair_plan p = {0};
	struct planning g = {.env = env, .prefix = prefix, .uuid = uuid, .p = &p, .err = err};
	struct log_at at = {.store = env->store, .prefix = prefix, .host = env->host};
	struct image_mark *v = calloc(MARKS + CHAIN, sizeof(*v));
	uint64_t before = 0;
	size_t n = 0;
	int r = v == NULL ? -ENOMEM : 0;

	memcpy(at.uuid, uuid, 16);
	if (r == 0)
		r = log_open(&at, &g.log);
	if (r == 0)
		r = list(&g);
	for (size_t i = 0; i < g.nmarks && r == 0; i++) {
		v[n] = (struct image_mark){.number = g.mark[i], .marked = true};
		r = look_at_mark(g.log, &v[n++], &before, err);
	}
	/* Those whose marks are gone, as long as they are there. */
	for (size_t i = 0; i < CHAIN && r == 0 && before != 0; i++) {
		v[n] = (struct image_mark){.number = before};
		if (!there(&g, before))
			break;
		r = look_at_mark(g.log, &v[n++], &before, err);
	}
	log_close(g.log);
	free(g.o);
	repair_plan_free(&p);
	if (r < 0) {
		free(v);
		return r;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}
