/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgoracle.c - what every guest did, and whether what somebody reads may be (imgscene.h).
 */
#include "config.h"
#include "imgscene.h"
#include "simnet.h"
#include "objstore/base/clock.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CLAIMS = 4096 };

struct claim {
	uint64_t number, before, epoch, next;
	int node;
	unsigned life; /* of the node then */
};
struct image images[IMAGES];
static void (*claim_seen)(int node);
bool imgtrace_on;

void imgtrace(const char *fmt, ...)
{
	va_list ap;

	if (!imgtrace_on)
		return;
	va_start(ap, fmt);
	(void)fprintf(stderr, "%10.4f ", (double)(clock_now_ns() % (100000 * NSEC_PER_SEC)) / 1e9);
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
}

/* ---- images ---- */

void state_apply(struct state *s, const struct op *o)
{
	uint32_t end = o->first + o->n;

	if (o->kind == OP_BACK) {
		*s = *o->to;
		return;
	}
	if (o->kind == OP_RESIZE) {
		for (uint32_t i = o->n; i < s->size; i++)
			s->unit[i] = 0;
		s->size = o->n;
		return;
	}
	if (o->kind == OP_WRITE)
		s->size = MAX(s->size, end);
	for (uint32_t i = o->first; i < MIN(end, s->size); i++)
		s->unit[i] = o->kind == OP_WRITE ? o->stamp : 0;
}

bool state_decode(const uint8_t *p, size_t n, struct state *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->size = (uint32_t)(n / UNIT);
	for (uint32_t i = 0; i < ret->size; i++) {
		memcpy(&ret->unit[i], p + (size_t)i * UNIT, 4);
		for (unsigned k = 4; k < UNIT; k += 4)
			if (memcmp(p + (size_t)i * UNIT, p + (size_t)i * UNIT + k, 4) != 0)
				return false;
	}
	return n % UNIT == 0;
}

static int differs(const struct state *a, const struct state *b)
{
	int n = a->size != b->size;

	for (uint32_t i = 0; i < UNITS; i++)
		n += a->unit[i] != b->unit[i];
	return n;
}

/* In how many places `got` differs from what `s` would be after o, less in how many it differs now. */
static int gain(const struct state *s, const struct op *o, const struct state *got)
{
	uint32_t end = o->first + o->n, size = s->size;
	int d = 0;

	if (o->kind == OP_BACK)
		return differs(o->to, got) - differs(s, got);
	if (o->kind == OP_RESIZE) {
		for (uint32_t i = o->n; i < size; i++)
			d += (got->unit[i] != 0) - (got->unit[i] != s->unit[i]);
		return d + (got->size != o->n) - (got->size != size);
	}
	if (o->kind == OP_WRITE)
		size = MAX(size, end);
	for (uint32_t i = o->first; i < MIN(end, size); i++) {
		uint32_t v = o->kind == OP_WRITE ? o->stamp : 0;

		d += (got->unit[i] != v) - (got->unit[i] != s->unit[i]);
	}
	return d + (got->size != size) - (got->size != s->size);
}

/* ---- lines ---- */

struct cut {
	uint32_t at;     /* all before it, and of the group that starts there ... */
	uint64_t subset; /* ... these */
};

static uint32_t group_end(const struct session *s, uint32_t i)
{
	uint32_t j = i + 1;

	while (j < s->n && s->op[j].group == s->op[i].group)
		j++;
	return j;
}

/*
 * The first place from `from` on at which the line can have been cut so that `got` comes out, else the last one before:
 * what was written and zeroed again leaves several.
 */
static bool find_cut(const struct session *s, const struct state *got, uint32_t from, struct cut *ret)
{
	static struct state now;
	bool found = false;
	int differ;

	now = s->img->root.now;
	differ = differs(&now, got);
	for (uint32_t i = 0;; i = group_end(s, i)) {
		struct cut c = {.at = i};
		int d = differ;

		if (d == 0) {
			*ret = c;
			found = true;
		}
		if (i == s->n || (found && ret->at >= from))
			return found;
		for (uint32_t k = i; k < group_end(s, i) && group_end(s, i) > i + 1; k++) {
			int g = gain(&now, &s->op[k], got);

			if (g <= 0)
				c.subset |= UINT64_C(1) << (k - i);
			d += MIN(g, 0);
		}
		if (c.subset != 0 && d == 0) {
			*ret = c;
			found = true;
		}
		for (uint32_t k = i; k < group_end(s, i); k++) {
			differ += gain(&now, &s->op[k], got);
			state_apply(&now, &s->op[k]);
		}
	}
}

struct op *session_add(struct session *s)
{
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 256;
		s->op = realloc(s->op, s->cap * sizeof(*s->op));
		if (s->op == NULL)
			abort();
	}
	memset(&s->op[s->n], 0, sizeof(s->op[s->n]));
	return &s->op[s->n++];
}

/* Where the journal stands after what is acknowledged. */
static void note_seq(struct session *s)
{
	struct journal_stat js;

	if (s->v == NULL || s->v->journal == NULL)
		return;
	journal_stat(s->v->journal, &js);
	s->seq = realloc(s->seq, (s->acked + 1) * sizeof(*s->seq));
	if (s->seq == NULL)
		abort();
	for (; s->nseq < s->acked; s->nseq++)
		s->seq[s->nseq] = 0;
	s->seq[s->nseq++] = js.appended;
}

/* What its engine knows to be in the bucket: that is below every later claim. */
static uint32_t committed(const struct session *s)
{
	uint32_t n = s->remote;

	for (uint32_t i = 0; s->v != NULL && i < s->nseq; i++)
		if (s->seq[i] != 0 && s->seq[i] <= s->v->trim_jseq)
			n = MAX(n, i);
	return n;
}

void session_group_done(struct session *s)
{
	for (; s->acked < s->n && s->op[s->acked].acked; s->acked++)
		state_apply(&s->now, &s->op[s->acked]);
	sim_check(s->acked == s->n, "a group is over and not acknowledged");
	s->local = s->acked;
	s->group++;
	note_seq(s);
}

/* ---- claims ---- */

static struct image *image_of(const char *key)
{
	for (struct image *img = images; img < images + IMAGES; img++)
		if (img->is != IMG_NONE && strncmp(key, img->prefix, strlen(img->prefix)) == 0)
			return img;
	return NULL;
}

void oracle_spy(int node, const struct objreq *req, int status, bool late)
{
	struct image *img = image_of(req->key != NULL ? req->key : "");
	struct logobj o;
	struct objerr err = {0};
	size_t need;
	int r;
	const char *tail = strrchr(req->key != NULL ? req->key : "", '/');
	bool log = tail != NULL && strlen(tail) == 17, again = false;

	imgstats->late += late && obj_op_writes(req->op);
	if (req->op == OBJ_DELETE_MANY && req->nkeys > 0)
		imgtrace("node %d deletes %zu, %s to %s", node, req->nkeys, strrchr(req->keys[0], '/') + 1,
			 strrchr(req->keys[req->nkeys - 1], '/') + 1);
	else if (req->op == OBJ_GET && status == -ENOENT)
		imgtrace("node %d does not find %s", node, tail);
	else if (obj_op_writes(req->op))
		imgtrace("node %d: %s %s%s gives %d%s", node, obj_op_name[req->op],
			 img == NULL || img == MAIN_IMAGE ? "" : img->prefix + strlen(img->prefix) - 3,
			 tail != NULL ? tail : "", status, late ? ", late" : "");
	if (req->op == OBJ_PUT && log && strstr(req->key, "/mark/") != NULL)
		imgstats->marks += status == 0;
	if (req->op == OBJ_DELETE || req->op == OBJ_DELETE_MANY)
		imgstats->deletes++;
	imgstats->lost_412 += req->op == OBJ_PUT && status == -ESTALE;
	if (img == NULL || req->op != OBJ_PUT || !log || status != 0 || req->iovcnt != 1 ||
	    strstr(req->key, "/mark/") != NULL || strstr(req->key, "/gone/") != NULL)
		return;
	r = logobj_decode(req->iov[0].iov_base, req->iov[0].iov_len, NULL, 0, &o, &need, &err);
	sim_check(r == 0, "node %d sent an object that cannot be read: %s", node, err.msg);
	imgstats->moves += o.type == LOG_CLEANER;
	if (o.type == LOG_DATA)
		img->newest_data = MAX(img->newest_data, o.number);
	imgtrace("    a %s object, journal up to %" PRIu64, log_type_name[o.type], o.jseq);
	if (o.type != LOG_CLAIM) {
		logobj_free(&o);
		return;
	}
	sim_check(img->nclaims < CLAIMS, "too many claims");
	imgtrace("claim %" PRIu64 " epoch %" PRIu64 " of node %d, next %" PRIu64 "%s", o.number, o.epoch, node,
		 o.claim_next, late ? ", late" : "");
	/* One in a void, or at a number that was deleted, means nothing: it may go, and a late request bring it back. */
	for (size_t i = 0; i < img->nclaims; i++)
		again = again || img->claim[i].number == o.number;
	if (again) {
		logobj_free(&o);
		return;
	}
	imgstats->bursts += img->nclaims > 0 && img->claim[img->nclaims - 1].epoch == o.epoch &&
			    img->claim[img->nclaims - 1].node == node;
	img->claim[img->nclaims++] =
	    (struct claim){o.number, o.claim_before, o.epoch, o.claim_next, node, sim_incarnation(node)};
	logobj_free(&o);
	claim_seen(node);
}

static const struct claim *claim_at(const struct image *img, uint64_t number)
{
	for (size_t i = 0; i < img->nclaims; i++)
		if (img->claim[i].number == number)
			return &img->claim[i];
	sim_check(number == 0, "somebody found claim %" PRIu64 ", which nobody made", number);
	return NULL;
}

bool oracle_superseded(const struct image *img, uint64_t epoch)
{
	for (size_t i = 0; i < img->nclaims; i++)
		if (img->claim[i].epoch > epoch)
			return true;
	return false;
}

bool oracle_claimed(const struct image *img, int node, uint64_t claim)
{
	const struct claim *c = claim_at(img, claim);

	return c != NULL && c->node == node;
}

/* Whether claim `old` is in the chain of claims that ends with `claim`. */
static bool in_chain(const struct image *img, uint64_t claim, uint64_t old)
{
	while (claim > old)
		claim = claim_at(img, claim)->before;
	return claim == old;
}

struct session *oracle_session(struct image *img, uint64_t claim)
{
	for (uint64_t c = claim; c != 0; c = claim_at(img, c)->before)
		for (struct session *s = img->sessions; s != NULL; s = s->next)
			if (s->claim == c)
				return s;
	return &img->root;
}

struct session *oracle_newest(struct image *img)
{
	struct session *best = &img->root;

	for (struct session *s = img->sessions; s != NULL; s = s->next)
		if (s->epoch > best->epoch)
			best = s;
	return best;
}

/* All claims behind the parent's up to `claim` are of the parent's node: then so is the journal. */
static bool same_journal(const struct session *parent, uint64_t claim)
{
	for (uint64_t c = claim; c != parent->claim; c = claim_at(parent->img, c)->before)
		if (claim_at(parent->img, c)->node != parent->node)
			return false;
	return true;
}

/* ---- what is found ---- */

void oracle_begin(void (*on_claim)(int node))
{
	claim_seen = on_claim;
	simnet_spy = oracle_spy;
}

void oracle_image(struct image *img, const struct state *first)
{
	img->claim = calloc(CLAIMS, sizeof(*img->claim));
	if (img->claim == NULL)
		abort();
	img->root.img = img;
	img->root.now = *first;
	img->root.epoch = 1;
	img->root.closing = true;
}

/* Where the line is most like it, and what is different there. */
static void explain(const struct session *s, const struct state *got)
{
	static struct state now, best;
	uint32_t at = 0;

	if (!imgtrace_on)
		return;
	now = best = s->img->root.now;
	for (uint32_t i = 0; i < s->n; i++) {
		state_apply(&now, &s->op[i]);
		if (differs(&now, got) < differs(&best, got)) {
			best = now;
			at = i + 1;
		}
	}
	imgtrace("line of claim %" PRIu64
		 ": %u operations from %u on; read size %u, most like the state after %u, size %u",
		 s->claim, s->n, s->base, got->size, at, best.size);
	for (uint32_t i = 0; i < UNITS; i++) {
		uint32_t j = i;

		if (best.unit[i] == got->unit[i])
			continue;
		while (j + 1 < UNITS && best.unit[j + 1] == best.unit[i] && got->unit[j + 1] == got->unit[i])
			j++;
		imgtrace("units %u-%u: %u, should be %u", i, j, got->unit[i], best.unit[i]);
		i = j;
	}
	for (uint32_t i = at > 3 ? at - 3 : 0; i < MIN(s->n, at + 8); i++)
		imgtrace("operation %u: %s %u+%u stamp %u group %u%s", i,
			 (const char *const[]){"write", "zero", "discard", "resize", "back"}[s->op[i].kind], s->op[i].first,
			 s->op[i].n, s->op[i].stamp, s->op[i].group, s->op[i].acked ? "" : ", not acknowledged");
}

static void cut_of(const struct session *s, const struct state *got, uint32_t from, struct cut *ret, const char *who)
{
	bool ok = find_cut(s, got, from, ret);

	if (!ok)
		explain(s, got);
	sim_check(ok, "%s reads what never was: %u operations since claim %" PRIu64 " of node %d", who, s->n, s->claim,
		  s->node);
}

static void promised(const struct session *p, const struct cut *c, uint32_t least, bool all, const char *who)
{
	sim_check(c->at >= least,
		  "%s: the image after %u operations, %u were promised (acknowledged %u, flushed %u, remote %u of "
		  "claim %" PRIu64 ")",
		  who, c->at, least, p->acked, p->flushed, p->remote, p->claim);
	for (uint32_t i = c->at; all && i < p->n; i++)
		sim_check(!p->op[i].acked || (i - c->at < 64 && (c->subset >> (i - c->at) & 1) != 0),
			  "%s: operation %u was acknowledged and is lost: it has %u of claim %" PRIu64, who, i, c->at,
			  p->claim);
}

struct session *oracle_report(struct image *img, int node, uint64_t claim, uint64_t epoch, const struct state *got,
			      bool released, bool copied)
{
	struct session *s = calloc(1, sizeof(*s)), *p = oracle_session(img, claim);
	bool same = p != &img->root && same_journal(p, claim) && p->node == node && !copied;
	uint32_t least = committed(p);
	struct cut c;

	sim_check(s != NULL, "no memory");
	sim_check(oracle_claimed(img, node, claim), "node %d writes under claim %" PRIu64 " of another one", node,
		  claim);
	for (const struct session *x = img->sessions; x != NULL; x = x->next)
		sim_check(x->claim == claim ? x->node == node
					    : in_chain(img, x->claim, claim) || in_chain(img, claim, x->claim),
			  "two owners: claims %" PRIu64 " and %" PRIu64, x->claim, claim);
	cut_of(p, got, UINT32_MAX, &c, "an owner");
	if (released && !copied && claim_at(img, claim)->life == sim_incarnation(node) &&
	    claim_at(img, claim)->before != 0 && claim_at(img, claim_at(img, claim)->before)->node != node) {
		sim_check(p->closing, "claim %" PRIu64 " was not released, and node %d has the image", p->claim, node);
		least = p->acked;
		imgstats->handovers++;
	}
	if (same)
		least = MAX(least, p->local);
	promised(p, &c, least, same && p->local_all, "an owner");
	*s = (struct session){.next = img->sessions,
			      .img = img,
			      .parent = p,
			      .node = node,
			      .claim = claim,
			      .epoch = epoch,
			      .now = img->root.now};
	for (uint32_t i = 0; i < p->n && (i < c.at || (i - c.at < 64 && c.subset >> (i - c.at) != 0)); i++)
		if (i < c.at || (c.subset >> (i - c.at) & 1) != 0) {
			struct op *o = session_add(s);

			*o = p->op[i];
			o->acked = true;
			state_apply(&s->now, o);
			s->group = MAX(s->group, o->group + 1);
		}
	s->base = s->acked = s->local = s->n;
	s->local_all = true;
	s->remote = same || copied ? p->remote : s->base;
	s->flushed = same ? MAX(p->remote, MIN(p->local, p->flushed)) : s->remote;
	img->sessions = s;
	imgstats->sessions++;
	imgstats->takeovers += p != &img->root && p->node != node;
	imgtrace("node %d owns the image: claim %" PRIu64 ", epoch %" PRIu64
		 ", the state after %u of %u of claim %" PRIu64 " (promised %u%s)",
		 node, claim, epoch, s->base, p->n, p->claim, least, same ? ", same journal" : "");
	return s;
}

void oracle_cut(const struct session *s, const struct state *got, uint32_t lo, uint32_t hi, const char *who)
{
	struct cut c;

	cut_of(s, got, lo, &c, who);
	sim_check(c.at >= lo && c.at <= hi, "%s is what the image was after %u operations, not after %u to %u", who,
		  c.at, lo, hi);
}

uint32_t oracle_view(struct image *img, uint64_t claim, const struct state *got, const struct session *from,
		     uint32_t floor, uint32_t before)
{
	struct session *s = oracle_session(img, claim);
	struct cut c;

	sim_check(s->epoch >= from->epoch, "a view at claim %" PRIu64 ", the image was claimed at %" PRIu64 " before",
		  claim, from->claim);
	cut_of(s, got, s == from ? MAX(before, floor) : before, &c, "a follower");
	if (s == from)
		promised(s, &c, floor, false, "a follower");
	imgstats->follower_reads++;
	return c.at;
}

const struct session *oracle_floor(struct image *img, uint32_t *ret)
{
	const struct session *s = oracle_newest(img);

	*ret = committed(s);
	return s;
}

void oracle_remote(struct session *s, uint32_t upto, const char *what)
{
	sim_check(s->doomed == 0 || upto < s->doomed, "a %s succeeded behind the last claim of a deleted image", what);
	s->remote = MAX(s->remote, upto);
	s->flushed = MAX(s->flushed, upto);
	for (const struct session *x = s->img->sessions; x != NULL; x = x->next) {
		if (x == s || !in_chain(s->img, x->claim, s->claim))
			continue;
		if (x->parent == s)
			sim_check(x->base >= upto, "a %s of %u operations succeeded, claim %" PRIu64 " came after %u",
				  what, upto, x->claim, x->base);
		else if (x->claim > s->claim &&
			 x->parent->claim < s->claim) /* it was there before s had read anything */
			sim_check(upto <= MIN(s->base, x->base),
				  "a %s of claim %" PRIu64 " succeeded behind claim %" PRIu64, what,
				  s->claim, x->claim);
	}
}

void oracle_doomed(struct image *img, uint64_t epoch)
{
	for (struct session *s = img->sessions; s != NULL; s = s->next)
		if (s->epoch < epoch && s->doomed == 0)
			s->doomed = s->n + 1;
}

void oracle_power_cut(int node)
{
	for (struct image *img = images; img < images + IMAGES; img++)
		for (struct session *s = img->sessions; s != NULL; s = s->next)
			if (s->node == node) {
				s->local = MIN(s->local, s->flushed);
				s->local_all = false;
			}
}

void oracle_wiped(int node)
{
	for (struct image *img = images; img < images + IMAGES; img++)
		for (struct session *s = img->sessions; s != NULL; s = s->next)
			if (s->node == node) {
				s->local = 0;
				s->local_all = false;
			}
}

/* What one unit of an image is: state_apply() for that alone. */
struct one {
	uint32_t unit, stamp, size;
};

static void one_apply(struct one *x, const struct op *o)
{
	uint32_t end = o->first + o->n;

	if (o->kind == OP_BACK) {
		x->stamp = o->to->unit[x->unit];
		x->size = o->to->size;
		return;
	}
	if (o->kind == OP_RESIZE) {
		x->stamp = x->unit >= o->n ? 0 : x->stamp;
		x->size = o->n;
		return;
	}
	if (o->kind == OP_WRITE)
		x->size = MAX(x->size, end);
	if (x->unit >= o->first && x->unit < MIN(end, x->size))
		x->stamp = o->kind == OP_WRITE ? o->stamp : 0;
}

bool oracle_plausible(const struct session *s, uint32_t lo, uint32_t unit, uint32_t stamp)
{
	struct one now = {unit, s->img->root.now.unit[unit], s->img->root.now.size};
	bool ok;

	for (uint32_t i = 0; i < MIN(lo, s->n); i++)
		one_apply(&now, &s->op[i]);
	ok = now.stamp == stamp;
	for (uint32_t i = lo; i < s->n && !ok; i++) {
		one_apply(&now, &s->op[i]);
		ok = now.stamp == stamp;
	}
	return ok;
}
