/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logwalk.c - look, walk, look again: steps 3.2, 3.3 and 3.11 of the protocol.
 *
 *	look	newest mark m (and the one before)
 *	begin	the object of m and its checkpoint; without marks the create record, the first key of the log
 *	digests	of the checkpoint, in order
 *	walk	from the end of the last digest to the first number that a GET does not find; a claim jumps to its
 *	`next`
 *	look	a newer mark than m? Then nothing of this is worth anything: from the start
 *
 * Headers are read READ_AHEAD at a time; which numbers exist says a listing first (the first one is under way together
 * with the object of m), but only a GET's 404 ends the walk. What does not verify is damage only if the newest mark has
 * not moved meanwhile: otherwise it was deleted under our feet, or is somebody's stray.
 */
#include "config.h"
#include "log-private.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { READ_AHEAD = 64, ATTEMPTS = 100, POSITION_MARKS = 16 };
#define AT_ONCE (32 * MiB) /* of long headers */

struct walk {
	struct log *l;
	const struct log_walker *w;
	struct objerr *err;
	uint64_t at;       /* the next number */
	uint64_t check;    /* from here on nonces count */
	uint64_t covers;   /* what the tree holds that the walk builds on */
	uint64_t until;    /* numbers from here on are not looked at; 0: to the end */
	struct log_view v; /* what it finds */
	uint64_t highest;  /* number that the last listing showed */
	/* A listing from `listing` on, asked for before it was known where the walk begins; 0: none. */
	uint64_t listing;
	struct log_batch ahead;
	struct objreq list;
	char after[OBJ_KEY_MAX + 1];
};

/* ---- headers ---- */

struct head {
	uint64_t number;
	struct objreq req;
	char key[OBJ_KEY_MAX + 1];
	void *buf;
	size_t cap;
	int status;
	bool longer; /* the header is longer than what was asked for */
	struct logobj o;
};

struct heads {
	struct log_batch batch;
	struct head v[READ_AHEAD];
};

static int head_submit(struct log *l, struct heads *hs, struct head *h, size_t len)
{
	void *p = realloc(h->buf, len);
	uint8_t uuid[16];

	if (p == NULL)
		return -ENOMEM;
	h->buf = p;
	h->cap = len;
	log_key(log_prefix_of(l, h->number, uuid), h->number, h->key);
	objreq_init(&h->req, OBJ_GET, h->key);
	h->req.len = len;
	h->req.buf = p;
	h->req.cap = len;
	log_batch_submit(&hs->batch, l->store, &h->req);
	return 0;
}

/* Decodes what came; -EAGAIN: more bytes are needed (cap is set). */
static int head_decode(struct log *l, struct head *h, struct objerr *err)
{
	uint8_t uuid[16];
	size_t need = 0;
	int r = h->req.status;

	if (r == 0) {
		(void)log_prefix_of(l, h->number, uuid);
		r = logobj_decode(h->buf, h->req.got, uuid, h->number, &h->o, &need, err);
		if (r == -EAGAIN && need <= h->cap) {
			objerr_set(err, "log object %016" PRIx64 " is cut short", h->number);
			r = -EUCLEAN;
		} else if (r == -EAGAIN) {
			h->cap = need;
		}
	}
	objreq_done(&h->req);
	return r;
}

static int longer_heads(struct log *l, size_t n, struct heads *hs, struct objerr *err)
{
	int r = 0;

	for (size_t i = 0, end; i < n && r == 0; i = end) {
		size_t bytes = 0;

		for (end = i; end < n && r == 0 && (bytes == 0 || bytes + hs->v[end].cap <= AT_ONCE); end++)
			if (hs->v[end].longer) {
				bytes += hs->v[end].cap;
				r = head_submit(l, hs, &hs->v[end], hs->v[end].cap);
			}
		log_batch_wait(&hs->batch);
		for (size_t j = i; j < end && r == 0; j++)
			if (hs->v[j].longer) {
				hs->v[j].status = head_decode(l, &hs->v[j], err);
				free(hs->v[j].buf);
				hs->v[j].buf = NULL;
			}
	}
	return r;
}

/*
 * Reads the headers of numbers[0..n), n <= READ_AHEAD; each has its own status. Long headers (digests are) take a
 * second look, all at once; what failed is asked for again one by one.
 */
static int heads_get(struct log *l, const uint64_t *numbers, size_t n, struct heads *hs, struct objerr *err)
{
	int r = 0;

	memset(hs, 0, sizeof(*hs));
	log_batch_init(&hs->batch);
	for (size_t i = 0; i < n; i++) {
		hs->v[i].number = numbers[i];
		hs->v[i].status = r == 0 ? head_submit(l, hs, &hs->v[i], LOG_STRIDE) : r;
		r = hs->v[i].status;
	}
	log_batch_wait(&hs->batch);
	for (size_t i = 0; i < n && r == 0; i++) {
		bool came = hs->v[i].req.status == 0;

		hs->v[i].status = head_decode(l, &hs->v[i], err);
		hs->v[i].longer = came && hs->v[i].status == -EAGAIN;
	}
	if (r == 0)
		r = longer_heads(l, n, hs, err);
	for (size_t i = 0; i < n && r == 0; i++)
		if (hs->v[i].status == -EAGAIN || log_transient(hs->v[i].status))
			hs->v[i].status = log_head(l, numbers[i], &hs->v[i].o, err);
	return r;
}

static void heads_free(struct heads *hs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		logobj_free(&hs->v[i].o);
		free(hs->v[i].buf);
	}
	log_batch_destroy(&hs->batch);
}

int log_heads(struct log *l, const uint64_t *v, size_t n, int (*each)(void *arg, const struct logobj *o), void *arg,
	      struct objerr *err)
{
	struct heads *hs = malloc(sizeof(*hs));
	int r = hs == NULL ? -ENOMEM : 0;

	for (size_t done = 0, m; r == 0 && done < n; done += m) {
		m = MIN(n - done, (size_t)READ_AHEAD);
		r = heads_get(l, v + done, m, hs, err);
		for (size_t i = 0; i < m && r == 0; i++)
			r = hs->v[i].status == 0 ? each(arg, &hs->v[i].o) : hs->v[i].status;
		heads_free(hs, m);
	}
	free(hs);
	return r;
}

/* ---- one object ---- */

static void note_host(struct log_view *v, const struct logobj *o)
{
	const char *p = o->text;

	v->host[0] = '\0';
	while (p != NULL && strncmp(p, "host=", 5) != 0) {
		p = strchr(p, '\n');
		p = p != NULL ? p + 1 : NULL;
	}
	if (p != NULL)
		(void)snprintf(v->host, sizeof(v->host), "%.*s", (int)strcspn(p + 5, "\n"), p + 5);
}

static void see(struct log_view *v, const struct logobj *o)
{
	v->jseq = o->jseq;
	v->size = o->size;
	v->window = o->window;
	v->released = o->type == LOG_RELEASE || (v->released && o->type != LOG_CLAIM && o->type != LOG_DATA);
	v->tail = o->number + 1;
	if (o->type == LOG_CREATE) {
		v->object_bytes = o->create->object_bytes;
		v->fsync_remote = o->create->fsync_remote;
		v->released = true;
		v->nonce = o->nonce;
		v->epoch = o->epoch;
		note_host(v, o);
	}
	if (o->type == LOG_CLAIM) {
		v->claim = o->number;
		v->epoch = o->epoch;
		v->nonce = o->nonce;
		v->claim_time = o->time_s;
		v->tail = RULE(E_JUMP) ? o->claim_next : o->number + 1;
		note_host(v, o);
	}
}

void log_see_locked(struct log *l, const struct logobj *o)
{
	see(&l->view, o);
}

/* ---- the beginning ---- */

/* The first key of a log that has no mark: its create record. */
static int first_number(struct log *l, uint64_t *ret, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_LIST, l->prefix);
	req.max_keys = 1;
	r = log_do(l, &req);
	if (r < 0)
		*err = req.err;
	else if (req.listing->n == 0)
		r = -ENOENT;
	else if (log_number_parse(req.listing->v[0].key + strlen(l->prefix), ret) < 0)
		r = -ENOENT; /* marks or refs, but no log */
	objreq_done(&req);
	if (r == -ENOENT)
		objerr_set(err, "there is no log of the image at %s", l->prefix);
	return r;
}

static int set_origins(struct log *l, const struct log_create *c)
{
	char uuid[33];

	if (l->norigins > 0 || c->norigins == 0)
		return 0;
	if (strlen(l->prefix) < strlen(".lsvd/img/") + 33)
		return -EINVAL; /* whoever opened the log gave no place that has others beside it */
	l->origins = calloc(c->norigins, sizeof(*l->origins));
	if (l->origins == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->norigins; i++) {
		struct log_origin *o = &l->origins[i];
		/* "…/.lsvd/img/<uuid>/": ancestors lie beside us unless they say otherwise. */
		size_t base = strlen(l->prefix) - 33, dir = base - strlen(".lsvd/img/");
		int n;

		*o = c->origins[i];
		o->path = malloc(OBJ_KEY_MAX + 1);
		l->norigins = i + (o->path != NULL);
		if (o->path == NULL)
			return -ENOMEM;
		log_uuid_format(o->uuid, uuid);
		if (c->origins[i].path[0] == '\0')
			n = snprintf(o->path, OBJ_KEY_MAX + 1, "%.*s%s/", (int)base, l->prefix, uuid);
		else
			n = snprintf(o->path, OBJ_KEY_MAX + 1, "%.*s%s", (int)dir, l->prefix, c->origins[i].path);
		if (n > OBJ_KEY_MAX - 32)
			return -ENAMETOOLONG;
	}
	return 0;
}

/* What the view says of an image for ever stands in the create record. */
static int use_create(struct walk *k, const struct logobj *o)
{
	if (o->type != LOG_CREATE) {
		objerr_set(k->err, "log object %016" PRIx64 " comes first and is no create record", o->number);
		return -EUCLEAN;
	}
	see(&k->v, o);
	return set_origins(k->l, o->create);
}

static void list_from(struct walk *k, uint64_t from)
{
	objreq_init(&k->list, OBJ_LIST, k->l->prefix);
	log_key(k->l->prefix, from - 1, k->after);
	k->list.start_after = k->after;
	k->list.max_keys = READ_AHEAD;
}

/* The first listing, for where the walk most likely begins; list_end() waits for it. */
static void list_ahead(struct walk *k, uint64_t from)
{
	list_from(k, from);
	log_batch_init(&k->ahead);
	k->listing = from;
	log_batch_submit(&k->ahead, k->l->store, &k->list);
}

/* true: it is in k->list, to be done with. */
static bool list_end(struct walk *k, bool keep)
{
	if (k->listing == 0)
		return false;
	log_batch_wait(&k->ahead);
	log_batch_destroy(&k->ahead);
	k->listing = 0;
	if (keep && k->list.status == 0)
		return true;
	objreq_done(&k->list);
	return false;
}

/*
 * The create record, number 1 but for a clone's (which is known once it was read), and the object of the mark, in one
 * round. Without a mark the walk begins with the create record.
 */
static int read_start(struct walk *k, uint64_t mark, struct logobj *ret)
{
	uint64_t numbers[2] = {log_first(k->l), mark}, first = 1;
	struct heads *hs = malloc(sizeof(*hs));
	struct logobj o;
	int r;

	if (hs == NULL)
		return -ENOMEM;
	r = heads_get(k->l, numbers, mark != 0 ? 2 : 1, hs, k->err);
	if (r == 0)
		r = hs->v[0].status;
	o = hs->v[0].o;
	memset(&hs->v[0].o, 0, sizeof(o));
	if (r == -ENOENT) {
		r = first_number(k->l, &first, k->err);
		if (r == 0)
			r = log_head(k->l, first, &o, k->err);
	}
	if (r < 0)
		goto out;
	r = use_create(k, &o);
	if (r == 0 && mark != 0) {
		/* Words of what went wrong are those of the last failure: ask again for the right ones. */
		r = hs->v[1].status == 0 ? 0 : log_head(k->l, mark, &hs->v[1].o, k->err);
		logobj_free(&o);
		o = hs->v[1].o;
		memset(&hs->v[1].o, 0, sizeof(o));
	}
	if (r == 0)
		*ret = o;
	else
		logobj_free(&o);
out:
	heads_free(hs, mark != 0 ? 2 : 1);
	free(hs);
	return r;
}

static int one_digest(struct walk *k, const struct logobj *own, const struct logobj *o, uint64_t *io_end)
{
	int r;

	if (o->digest == NULL || o->digest->first < *io_end || o->digest->end > own->number) {
		objerr_set(k->err,
			   "log object %016" PRIx64 " has not the digest that checkpoint %016" PRIx64 " names",
			   o->number, own->number);
		return -EUCLEAN;
	}
	r = k->w->digest(k->w->arg, o);
	if (r == 0)
		*io_end = o->digest->end;
	return r;
}

/* Digests v[0..n), n < READ_AHEAD, and the claim, in one round. */
static int some_digests(struct walk *k, const struct logobj *own, const uint64_t *v, size_t n, uint64_t claim,
			uint64_t *io_end)
{
	uint64_t numbers[READ_AHEAD];
	struct heads *hs = malloc(sizeof(*hs));
	size_t m = 0;
	int r;

	if (hs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (v[i] != own->number)
			numbers[m++] = v[i];
	n = m;
	if (claim != 0)
		numbers[m++] = claim;
	r = heads_get(k->l, numbers, m, hs, k->err);
	for (size_t i = 0; i < n && r == 0; i++) {
		r = hs->v[i].status;
		if (r == 0)
			r = one_digest(k, own, &hs->v[i].o, io_end);
		else if (r == -ENOENT)
			objerr_set(k->err, "log object %016" PRIx64 " is missing: it holds a part of the map (a digest)",
				   numbers[i]);
	}
	if (r == 0 && m > n && hs->v[n].status == 0) {
		note_host(&k->v, &hs->v[n].o);
		k->v.claim_time = hs->v[n].o.time_s;
	}
	heads_free(hs, m);
	free(hs);
	return r;
}

/* Digests, in order; where the walk goes on. own: the object that carries the checkpoint, and maybe the last one. */
static int digests(struct walk *k, const struct logobj *own, const struct log_checkpoint *c)
{
	/* The claim says for people who holds the image: one that cannot be read does not matter. */
	uint64_t end = c->tree_covers, claim = c->claim == k->v.claim ? c->claim : 0;
	int r = 0;

	if (k->w->digest == NULL) { /* nobody wants the map */
		k->at = own->number;
		return 0;
	}
	k->v.host[0] = claim != 0 ? '\0' : k->v.host[0];
	for (size_t done = 0; r == 0 && (done < c->ndigests || claim != 0);) {
		size_t n = MIN(c->ndigests - done, (size_t)READ_AHEAD - 1);

		r = some_digests(k, own, c->digests + done, n, claim, &end);
		claim = 0;
		done += n;
	}
	if (k->l->based && (r == -ENOENT || r == -EUCLEAN)) {
		k->at = MIN(end == 0 ? log_first(k->l) : end, own->number);
		return 0; /* the headers of what it repeats, if they are there */
	}
	if (r == 0 && c->ndigests > 0 && c->digests[c->ndigests - 1] == own->number)
		r = one_digest(k, own, own, &end);
	k->at = MIN(end == 0 ? own->number : end, own->number);
	return r;
}

/* The map is what checkpoint c of object o says; the walk goes on where its digests end. */
static int start_from(struct walk *k, const struct logobj *o, const struct log_checkpoint *c)
{
	int r = k->w->begin(k->w->arg, o, c);

	if (r == 0)
		r = digests(k, o, c);
	if (r == 0)
		k->covers = c->tree_covers;
	return r;
}

static int begin(struct walk *k, uint64_t mark)
{
	struct logobj o;
	uint64_t c;
	int r;

	list_ahead(k, mark != 0 ? mark : log_first(k->l));
	r = read_start(k, mark, &o);
	if (r < 0)
		return r;
	c = o.number;
	k->check = c;
	k->v.checkpoint = c;
	if (o.type != LOG_CREATE && o.checkpoint == NULL) {
		objerr_set(k->err, "log object %016" PRIx64 " is marked as a checkpoint and is none", c);
		r = -EUCLEAN;
	}
	if (r == 0 && o.checkpoint != NULL) {
		k->v.claim = o.checkpoint->claim;
		k->v.epoch = o.checkpoint->epoch;
		k->v.nonce = o.checkpoint->nonce;
		k->v.size = o.checkpoint->size;
		k->v.jseq = o.checkpoint->jseq;
		k->v.released = false;
		r = start_from(k, &o, o.checkpoint);
	} else if (r == 0) {
		r = k->w->begin(k->w->arg, &o, NULL);
		k->at = c;
	}
	logobj_free(&o);
	return r;
}

/* ---- the walk ---- */

/* -ESTALE: not of this log, or worthless: the caller looks whether the mark moved. */
static int step(struct walk *k, const struct logobj *o)
{
	int r;

	if (o->number >= k->check && o->type != LOG_CLAIM && o->type != LOG_CREATE &&
	    memcmp(&o->nonce, &k->v.nonce, sizeof(o->nonce)) != 0) {
		objerr_set(k->err, "log object %016" PRIx64 " was written by nobody who owned the image", o->number);
		return -ESTALE;
	}
	/* A newer tree: taken over with its digests, so that later ones name it (A). */
	if (RULE(A_ADOPT) && !k->l->based && o->checkpoint != NULL && o->type != LOG_ROLLBACK && o->checkpoint->tree_covers > k->covers) {
		r = start_from(k, o, o->checkpoint);
		if (r < 0 || k->at != o->number)
			return r;
	}
	/* Map and size are those of its checkpoint; where the walk began with it, they are already. */
	if (o->type == LOG_ROLLBACK && o->number != k->v.checkpoint) {
		r = start_from(k, o, o->checkpoint);
		if (r < 0)
			return r;
	}
	r = k->w->object(k->w->arg, o);
	if (r == 0) {
		see(&k->v, o);
		k->at = k->v.tail;
	}
	return r;
}

/* From `at` on, into k->list. */
static int list(struct walk *k)
{
	int r;

	if (list_end(k, k->listing == k->at))
		return 0;
	list_from(k, k->at);
	r = log_do(k->l, &k->list);
	if (r < 0) {
		*k->err = k->list.err;
		objreq_done(&k->list);
	}
	return r;
}

/*
 * The numbers from `at` on that a listing shows, at most READ_AHEAD, those behind gaps as well: claims jump. And where
 * the log may end: `at`, what follows the last one, and where a claim there would jump to. Only a guess.
 */
static int guess(struct walk *k, uint64_t *numbers, size_t *ret_n)
{
	size_t m = 0;
	uint64_t n;
	int r = list(k);

	k->highest = 0;
	if (r < 0)
		return r;
	for (size_t i = 0; i < k->list.listing->n && m < READ_AHEAD; i++)
		if (log_number_parse(k->list.listing->v[i].key + strlen(k->l->prefix), &n) == 0 && n >= k->at) {
			if (m == 0 && n != k->at)
				numbers[m++] = k->at;
			if (m < READ_AHEAD)
				numbers[m++] = n;
			k->highest = MAX(k->highest, n);
		}
	objreq_done(&k->list);
	n = m > 0 ? numbers[m - 1] : k->at - 1;
	if (m < READ_AHEAD)
		numbers[m++] = n + 1;
	if (m < READ_AHEAD && m > 1 && k->v.window > 1)
		numbers[m++] = n + k->v.window;
	*ret_n = m;
	return 0;
}

/*
 * A GET said that there is no `at`, but numbers behind it are there: what an owner had under way, or the log has a
 * hole. Each object says up to where the log was durable when it was made; and no number lies a window behind one that
 * was never used. ret: this object was made when `at` was there; 0: none.
 */
static int behind(struct walk *k, struct heads *hs, uint64_t *ret)
{
	uint64_t v[READ_AHEAD], n, highest = 0;
	char after[OBJ_KEY_MAX + 1];
	struct objreq req;
	size_t nv = 0;
	int r;

	*ret = 0;
	objreq_init(&req, OBJ_LIST, k->l->prefix);
	log_key(k->l->prefix, k->at, after);
	req.start_after = after;
	req.max_keys = LOG_W_MAX;
	r = log_do(k->l, &req);
	for (size_t i = 0; r == 0 && i < req.listing->n; i++)
		if (log_number_parse(req.listing->v[i].key + strlen(k->l->prefix), &n) == 0) {
			v[nv++ % READ_AHEAD] = n; /* the last ones know most */
			highest = MAX(highest, n);
		}
	if (r < 0)
		*k->err = req.err;
	objreq_done(&req);
	if (r < 0 || nv == 0)
		return r;
	if (highest - k->at >= k->v.window) {
		*ret = highest;
		return 0;
	}
	nv = MIN(nv, (size_t)READ_AHEAD);
	r = heads_get(k->l, v, nv, hs, k->err);
	for (size_t i = 0; i < nv && r == 0; i++)
		if (hs->v[i].status == 0 && hs->v[i].o.durable > k->at)
			*ret = hs->v[i].number;
	heads_free(hs, nv);
	return r;
}

/* Is this the end? 1: yes; 0: no, `at` came meanwhile. -EUCLEAN: `at` is lost. */
static int is_end(struct walk *k, struct heads *hs)
{
	uint64_t later = 0;
	int r = k->highest > k->at ? behind(k, hs, &later) : 0;

	if (r < 0 || later == 0)
		return r < 0 ? r : 1;
	/* What was read after the 404 may have come after it. */
	r = heads_get(k->l, &k->at, 1, hs, k->err);
	r = r == 0 ? hs->v[0].status : r;
	heads_free(hs, 1);
	if (r != -ENOENT)
		return r;
	objerr_set(k->err, "log object %016" PRIx64 " is missing: %016" PRIx64 " was written after it", k->at, later);
	return -EUCLEAN;
}

static bool reached(const struct walk *k)
{
	return k->until != 0 && k->at >= k->until;
}

/* To the end of the log, or to `until`. 0: reached. */
static int walk(struct walk *k)
{
	uint64_t numbers[READ_AHEAD];
	struct heads *hs = malloc(sizeof(*hs));
	bool end = false;
	int r = 0;

	if (hs == NULL)
		return -ENOMEM;
	while (r == 0 && !end && !reached(k)) {
		size_t n;

		r = guess(k, numbers, &n);
		if (r < 0)
			break;
		r = heads_get(k->l, numbers, n, hs, k->err);
		/* A claim in between jumps: what was read behind it may be void. */
		for (size_t i = 0; i < n && r == 0 && !end; i++) {
			if (numbers[i] != k->at || reached(k))
				continue;
			r = hs->v[i].status;
			if (r == -ENOENT) {
				end = true;
				r = 0;
				break;
			} else if (r == 0) {
				r = step(k, &hs->v[i].o);
			}
		}
		heads_free(hs, n);
		if (r == 0 && end) {
			r = is_end(k, hs);
			end = r == 1;
			r = MIN(r, 0);
		}
	}
	free(hs);
	if (r == 0)
		k->v.tail = k->at;
	return r;
}

static bool worth_another_look(int r)
{
	return r == -ENOENT || r == -EUCLEAN || r == -ESTALE;
}

int log_attach(struct log *l, const struct log_walker *w, bool follower, struct objerr *err)
{
	struct objerr sink = {0};
	uint64_t m, before, now, now_before;
	bool moved;
	int r = -EUCLEAN, e;

	err = err != NULL ? err : &sink;
	for (int i = 0; i < ATTEMPTS; i++) {
		struct walk k = {.l = l, .w = w, .err = err};

		r = log_look(l, &m, &before, err);
		if (r < 0)
			return r;
		r = begin(&k, l->based ? l->base : m);
		if (r < 0)
			(void)list_end(&k, false);
		/*
		 * The newest checkpoint cannot be read: the one before must do, unless it only was deleted meanwhile.
		 */
		if (worth_another_look(r) && m != 0 && !l->based) {
			if (log_look(l, &now, &now_before, NULL) == 0 && now != m)
				continue;
			k = (struct walk){.l = l, .w = w, .err = err};
			r = begin(&k, before);
		}
		if (r == 0)
			r = walk(&k);
		(void)list_end(&k, false);
		if (r == 0 && k.v.tail <= m) {
			objerr_set(err, "log object %016" PRIx64 " is missing: a mark names %016" PRIx64, k.v.tail, m);
			r = -EUCLEAN;
		}
		if (r < 0 && !worth_another_look(r))
			return r;
		moved = false;
		e = RULE(T5_LOOK) ? log_look_again(l, m, follower && r == 0, &moved, err) : 0;
		if (e < 0)
			return e;
		if (moved)
			continue;
		if (r < 0)
			return r == -ESTALE ? -EUCLEAN : r;
		k.v.mark = m;
		k.v.mark_before = before;
		mtx_lock(&l->lock);
		l->view = k.v;
		l->covers = k.covers;
		l->state = LOG_READER;
		mtx_unlock(&l->lock);
		return 0;
	}
	objerr_set(err, "the owner of the image moves on faster than it can be read");
	return r == 0 ? -EAGAIN : r;
}

int log_attach_snapshot(struct log *l, uint64_t number, const struct log_walker *w, struct objerr *err)
{
	struct walk k = {.l = l, .w = w, .err = err};
	struct logobj o;
	int r = read_start(&k, number, &o);

	if (r < 0)
		return r;
	if (o.type != LOG_SNAPSHOT) {
		objerr_set(err, "log object %016" PRIx64 " is no snapshot", number);
		r = -EUCLEAN;
	}
	k.check = number;
	if (r == 0)
		r = start_from(&k, &o, o.checkpoint);
	if (r == 0 && k.at != number) {
		objerr_set(err, "snapshot %016" PRIx64 " needs more than its record", number);
		r = -EUCLEAN;
	}
	if (r == 0) {
		see(&k.v, &o);
		k.v.released = true;
		mtx_lock(&l->lock);
		l->view = k.v;
		l->state = LOG_READER;
		mtx_unlock(&l->lock);
	}
	logobj_free(&o);
	return r;
}

void log_set_base(struct log *l, uint64_t number)
{
	l->based = true;
	l->base = number;
}

/* The marks that are not above `number`, the newest first, at most max. */
static int marks_below(struct log *l, uint64_t number, uint64_t *v, size_t max, size_t *ret_n, struct objerr *err)
{
	char prefix[OBJ_KEY_MAX + 1];
	struct objreq req;
	uint64_t m;
	int r;

	*ret_n = 0;
	(void)snprintf(prefix, sizeof(prefix), "%smark/", l->prefix);
	objreq_init(&req, OBJ_LIST, prefix);
	r = log_do(l, &req);
	if (r < 0)
		*err = req.err;
	for (size_t i = 0; r == 0 && i < req.listing->n && *ret_n < max; i++)
		if (log_number_parse(req.listing->v[i].key + strlen(prefix), &m) == 0 && UINT64_MAX - m <= number)
			v[(*ret_n)++] = UINT64_MAX - m;
	objreq_done(&req);
	return r;
}

/* base: a checkpoint; 0: the create record. */
static int position_from(struct log *l, uint64_t base, uint64_t number, const struct log_walker *w, struct objerr *err)
{
	struct walk k = {.l = l, .w = w, .err = err, .until = number};
	int r = begin(&k, base);

	if (r == 0)
		r = walk(&k);
	(void)list_end(&k, false);
	if (r == 0 && k.v.tail < number) {
		objerr_set(err, "the log ends at %016" PRIx64, k.v.tail);
		r = -EINVAL;
	}
	if (r < 0)
		return r == -ESTALE ? -EUCLEAN : r;
	k.v.tail = number;
	k.v.released = true;
	mtx_lock(&l->lock);
	l->view = k.v;
	l->state = LOG_READER;
	mtx_unlock(&l->lock);
	return 0;
}

int log_attach_position(struct log *l, uint64_t number, const struct log_walker *w, struct objerr *err)
{
	uint64_t v[POSITION_MARKS];
	struct objerr first = {0};
	size_t n;
	int r, e = 0;

	r = marks_below(l, number, v, ARRAY_SIZE(v), &n, err);
	if (r < 0)
		return r;
	/* Each in turn; what is wrong with the first one is told. The last: a checkpoint whose mark is gone; the beginning. */
	for (size_t i = 0; i < n + 2; i++) {
		struct objerr words = {0};

		r = position_from(l, i < n ? v[i] : i == n ? number : 0, number, w, &words);
		if (r == 0 || !(worth_another_look(r) || r == -EINVAL)) {
			*err = words;
			return r;
		}
		if (e == 0) {
			e = r;
			first = words;
		}
	}
	*err = first;
	return e;
}

int log_follow(struct log *l, const struct log_walker *w, bool follower, struct objerr *err)
{
	struct objerr sink = {0};
	struct walk k = {.l = l, .w = w, .err = err != NULL ? err : &sink};
	bool moved = false;
	int r;

	mtx_lock(&l->lock);
	k.v = l->view;
	k.covers = l->covers;
	mtx_unlock(&l->lock);
	k.at = k.check = k.v.tail;
	r = walk(&k);
	if (r < 0)
		return worth_another_look(r) ? -EAGAIN : r;
	r = RULE(T5_LOOK) ? log_look_again(l, k.v.mark, follower, &moved, k.err) : 0;
	if (r < 0)
		return r;
	if (moved)
		return -EAGAIN;
	mtx_lock(&l->lock);
	l->view = k.v;
	l->covers = k.covers;
	mtx_unlock(&l->lock);
	return 0;
}
