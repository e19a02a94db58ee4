/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * log.c - every step that the store and the nodes may take (the state machine of model.h).
 *
 * Steps of the store: a PUT, DELETE or mark that was sent takes effect. Steps of a node: one request and what it
 * concludes from the answer, one new number given, one crash. The section numbers are those of the protocol.
 */
#include "model.h"

/* --- the store --------------------------------------------------------------------------------------------------- */

static void land(struct state *s, unsigned inc, unsigned k)
{
	if (s->cur[k])
		return; /* If-None-Match: * */
	s->cur[k] = inc + 1;
	if (!s->first[k])
		s->first[k] = inc + 1;
}

/* Nobody asks for more than two marks, and the two newest are never deleted: what is older plays no part any more. */
static void forget_marks(struct state *s)
{
	uint8_t m[2];

	if (!rule(T5_NEWER) || !rule(T9_MARKS))
		return;
	marks_newest(s, m);
	s->mark &= ~(BIT(m[1]) - 1);
	s->mark_put &= ~(BIT(m[1]) - 1);
}

static void land_mark(struct state *s, unsigned k)
{
	s->mark |= BIT(k);
	s->mark_put |= BIT(k);
	s->pointer = rule(T9_MARKS) ? 0 : k;
	forget_marks(s);
}

static void store_steps(struct search *x, const struct state *s)
{
	struct state t;
	unsigned i, k;

	for (i = 0; i < s->incs; i++)
		for (k = 1; k <= bounds.numbers; k++)
			if (s->obj[i][k] && !s->cur[k]) {
				t = *s;
				land(&t, i, k);
				search_step(x, &t, STEP(LAND, 0, i, k), B_NONE);
			}
	for (k = 1; k <= bounds.numbers; k++) {
		if ((s->del & BIT(k)) && s->cur[k]) {
			t = *s;
			t.cur[k] = 0;
			search_step(x, &t, STEP(DELETED, 0, 0, k), B_NONE);
		}
		if ((s->mark_put & BIT(k)) && (rule(T9_MARKS) ? !(s->mark & BIT(k)) : s->pointer != k)) {
			t = *s;
			land_mark(&t, k);
			search_step(x, &t, STEP(MARK, 0, 0, k), B_NONE);
		}
		if (s->mark & s->mark_del & BIT(k)) {
			t = *s;
			t.mark &= ~BIT(k);
			search_step(x, &t, STEP(UNMARK, 0, 0, k), B_NONE);
		}
	}
}

/* --- a node that comes and goes ---------------------------------------------------------------------------------- */

/* Back to DETACHED; with `keep` the claim that was made is still to be found by a new walk. */
static void detach(struct node *d, bool keep)
{
	struct node n = { .inc = keep ? d->inc : 0, .nonces = d->nonces, .begun = d->begun, .write = d->write, .id = d->id };

	if (n.write > 1)
		n.write = 1; /* to be replayed */
	*d = n;
}

static void drop_journal(struct node *d)
{
	d->nonces = d->begun = d->write = 0;
}

/* 3.3 m = newest mark; walk from there. */
static void list(struct state *s, struct node *d)
{
	struct log log;
	uint8_t m[2];

	detach(d, true);
	marks_newest(s, m);
	log_read(s, ~0u, &log);
	d->phase = WALKING;
	d->pm = d->pos = m[0];
	d->tail0 = log.tail;
}

/* 3.4, 3.5: may this node call itself owner, with this state? */
static enum broken own(struct state *s, struct node *d, unsigned nxt)
{
	struct log log;
	struct node n = { .phase = OWNER, .inc = d->inc, .image = d->image, .pm = d->pm, .pm_image = d->pm_image,
			  .low = nxt, .nxt = nxt, .nonces = d->nonces, .begun = d->begun, .write = d->write,
			  .id = d->id };

	if (bounds.journal)
		n.nonces |= BIT(d->inc - 1);
	*d = n;
	log_read(s, nxt, &log);
	if (!log.reached || log.image.claim != d->inc - 1 || !image_same(&log.image, image_of(d->image)))
		return B_OWNER;
	if (d->write && !(d->begun & BIT(log.claim_before)))
		return B_REPLAY;
	return B_NONE;
}

/* The claim at d->pos is the newest record of what was walked. */
static enum broken own_at(struct state *s, struct node *d)
{
	const struct record *r = record_of(s->obj[d->inc - 1][d->pos]);
	struct image i = *image_of(d->image);

	image_apply(&i, d->pos, d->inc - 1, r);
	d->image = image_id(&i);
	return own(s, d, r->arg);
}

/* 3.4 the walk after the claim: own claim newest: owner, with this walk's state; else it means nothing, claim anew. */
static enum broken found_claim(struct state *s, struct node *d)
{
	if (image_of(d->image)->claim == d->inc - 1)
		return own(s, d, d->pos);
	detach(d, false);
	return B_NONE;
}

/*
 * 3.2 the walk's end. Where the claim was answered before the look that sent us here, no further look is needed: either
 * it was the first at its number, or that number lies below the mark. Claims of a burst may still arrive.
 */
static enum broken walked(struct state *s, struct node *d)
{
	d->phase = LOOKING;
	if (!d->inc || (bounds.burst && rule(R_BURST_LOOK)))
		return B_NONE;
	return found_claim(s, d);
}

/* 3.2 one key. */
static enum broken get(struct state *s, struct node *d)
{
	const struct record *r = record_at(s, s->cur, d->pos);
	struct image i;
	unsigned inc;

	if (!r && d->pos != d->pm)
		return walked(s, d);
	if (!r) {
		detach(d, true);
		return B_NONE;
	}
	inc = s->cur[d->pos] - 1;
	i = *image_of(d->pos == d->pm ? r->image : d->image);
	if (d->pos == d->pm ? !is_checkpoint(r) : r->type != CLAIM && s->nonce[inc] != s->nonce[i.claim]) {
		detach(d, true); /* this walk is worthless */
		return B_NONE;
	}
	if (d->pos == d->pm)
		d->pm_image = r->image;
	image_apply(&i, d->pos, inc, r);
	d->image = image_id(&i);
	d->pos = r->type == CLAIM ? r->arg : d->pos + 1;
	return B_NONE;
}

/* An attach ends here: tail and image must have been the log's between its beginning and now. */
static enum broken conclude(const struct state *s, const struct node *d)
{
	struct log log;

	log_read(s, d->pos, &log);
	if (!log.reached || d->pos < d->tail0 || !image_same(&log.image, image_of(d->image)))
		return B_STALE;
	return B_NONE;
}

static unsigned begin(struct state *s, struct node *d, unsigned nonce)
{
	unsigned i = s->incs++;

	s->nonce[i] = nonce;
	s->who[i] = d->id;
	d->inc = i + 1;
	if (bounds.journal) {
		d->begun |= BIT(i);
		if (rule(T7_INTENT))
			d->nonces |= BIT(i);
	}
	return i;
}

static void claim(struct state *s, struct node *d)
{
	unsigned n = d->pos, j, i, count = 1, next = rule(T1_VOID) ? n + bounds.window : n + 1;
	struct record r = { .type = CLAIM };

	if (n > bounds.numbers || s->incs == bounds.incs) {
		detach(d, false);
		return;
	}
	i = begin(s, d, s->incs);
	if (bounds.burst) {
		count = bounds.window + (rule(R_BURST_NEAR) ? 0 : 1);
		next = n + bounds.window;
		if (rule(R_BURST_NEXT))
			next += bounds.window - 1;
	}
	r.arg = next;
	d->durable = 0;
	for (j = n; j < n + count && j <= bounds.numbers; j++) {
		s->obj[i][j] = record_id(&r);
		if (bounds.burst)
			d->durable |= BIT(j);
	}
	d->tail0 = 0;
	d->phase = CLAIMING;
}

/* 3.5 the journal replays only if the newest claim is one of its nonces. */
static enum broken weigh_journal(struct state *s, struct node *d)
{
	struct log log;
	unsigned newest = image_of(d->image)->claim;

	if (!rule(T8_NONCE) || (d->nonces & BIT(newest)))
		return B_NONE;
	log_read(s, d->pos, &log);
	if (d->write && (d->begun & BIT(log.image.claim)))
		return B_SET_ASIDE;
	drop_journal(d);
	return B_NONE;
}

/* Without T6: the old claim, the old nonce, other bytes. */
static bool go_on(struct state *s, struct node *d)
{
	unsigned newest = image_of(d->image)->claim;

	if (rule(T6_CLAIM) || !(d->nonces & BIT(newest)) || s->incs == bounds.incs)
		return false;
	begin(s, d, s->nonce[newest]);
	d->low = d->nxt = d->pos;
	d->pos = d->tail0 = 0;
	d->phase = OWNER;
	return true;
}

/* 3.3 and 3.4: is m still newest? */
static enum broken look(struct state *s, struct node *d)
{
	bool again = d->phase == LOOKING_AGAIN, still;
	enum broken b;
	uint8_t m[2];

	marks_newest(s, m);
	still = rule(T5_NEWER) || d->pm == 1 ? m[0] == d->pm : s->mark & BIT(d->pm);
	if (!again && (still || !rule(T5_LOOK) || m[1] == d->pm)) {
		b = conclude(s, d); /* m[1]: enough for a reader */
		if (b)
			return b;
	}
	if (!still && (again || rule(T5_LOOK))) {
		list(s, d); /* this very LIST */
		return B_NONE;
	}
	if (again)
		return own_at(s, d);
	if (d->inc)
		return found_claim(s, d);
	b = weigh_journal(s, d);
	if (!b && !go_on(s, d))
		claim(s, d);
	return b;
}

static bool answered(const struct state *s, unsigned inc, unsigned k)
{
	return s->cur[k] || s->first[k] == inc + 1;
}

static bool is_mine(const struct state *s, unsigned inc, unsigned k)
{
	if (s->cur[k] == inc + 1 || s->first[k] == inc + 1)
		return true;
	return !rule(T6_BYTES) && s->cur[k] && s->nonce[s->cur[k] - 1] == s->nonce[inc];
}

static enum broken claim_answered(struct state *s, struct node *d, unsigned k)
{
	if (bounds.burst) {
		d->durable &= ~BIT(k);
		if (!d->durable)
			detach(d, true); /* all answered: walk */
		return B_NONE;
	}
	if (!is_mine(s, d->inc - 1, k)) {
		detach(d, false); /* lost the race: 3.3 again */
		return B_NONE;
	}
	d->phase = LOOKING_AGAIN;
	return rule(T4_LOOK) ? B_NONE : own_at(s, d);
}

/* --- the owner --------------------------------------------------------------------------------------------------- */

/* 3.7 which numbers may go. */
static void send_deletes(struct state *s, const struct node *d, unsigned p, const struct image *by)
{
	const struct image *now = image_of(d->image);
	uint16_t below = BIT(p) - 1, keep;
	unsigned k;

	keep = image_refers(rule(T15_MAP) && rule(T15_BELOW) ? by : now) | BIT(0) | BIT(1);
	if (rule(T14_CLAIMS))
		keep |= by->claims;
	if (!rule(T15_BELOW))
		below = BIT(d->low) - 1;
	for (k = 2; k < d->nxt; k++) {
		const struct record *r = record_at(s, s->first, k);

		if (r && r->type == PAGE && k > by->tree_new && rule(T19_PAGES))
			keep |= BIT(k);
		if (r && r->type != DATA && !rule(T15_BELOW))
			keep |= BIT(k);
		if (!rule(T18_ROOT) && r && is_checkpoint(r) && by->snap[0])
			keep |= BIT(k);
	}
	s->del |= below & ~keep;
	if (!rule(T5_NEWER))
		s->mark_del |= (BIT(p) - 1) & s->mark_put;
}

/* What follows at once from any change at the owner. */
static void settle(struct state *s, struct node *d)
{
	unsigned n;

	while (d->durable & BIT(d->low))
		d->durable &= ~BIT(d->low++);
	for (n = 0; n < 2; n++)
		if (d->ckpt[n] && (d->ckpt[n] < d->low || !rule(T11_MARK) ||
				   (!rule(T3_COMMITTED) && (d->durable & BIT(d->ckpt[n])))))
			s->mark_put |= BIT(d->ckpt[n]);
	if (d->p && (!rule(T15_MAP) || !rule(T15_BELOW)))
		send_deletes(s, d, d->p, image_of(d->p_image));
	if (d->write > 1 && d->write < d->low)
		d->write = 0; /* the journal is trimmed */
	forget_marks(s);
}

/* 3.1 412 by another, or a lost reply. */
static enum broken fenced(const struct state *s, struct node *d)
{
	bool had = d->write && bounds.journal;
	struct log log;

	log_read(s, ~0u, &log);
	had = had && (d->begun & BIT(log.image.claim));
	drop_journal(d);
	detach(d, false);
	return had ? B_SET_ASIDE : B_NONE;
}

static enum broken record_answered(struct state *s, struct node *d, unsigned k)
{
	struct log log;
	unsigned from = d->low, n;

	if (!is_mine(s, d->inc - 1, k))
		return fenced(s, d);
	d->durable |= BIT(k);
	n = d->inc;
	settle(s, d);
	log_read(s, ~0u, &log);
	if (!rule(T3_COMMITTED) && (!(log.on & BIT(k)) || s->first[k] != n))
		return B_LOST;
	for (k = from; k < d->low; k++)
		if (!(log.on & BIT(k)) || s->first[k] != n)
			return B_LOST;
	return B_NONE;
}

static void mark_answered(struct state *s, struct node *d, unsigned c)
{
	unsigned n = d->ckpt[0] == c ? 0 : 1, p = d->pm, k;
	uint32_t by = d->pm_image;

	d->ckpt[n] = 0;
	if (d->ckpt[1] && !d->ckpt[0]) {
		d->ckpt[0] = d->ckpt[1];
		d->ckpt[1] = 0;
	}
	if (!rule(R_OWN_P)) {
		for (p = 1, k = 2; k < c; k++)
			if (s->mark & BIT(k))
				p = k;
		if (!record_at(s, s->cur, p))
			p = d->pm;
		by = record_at(s, s->cur, p) ? record_at(s, s->cur, p)->image : d->pm_image;
	}
	land_mark(s, c);
	if (c < d->pm)
		return;
	d->pm = c;
	d->pm_image = record_of(s->obj[d->inc - 1][c])->image;
	if (!rule(T12_BEFORE)) {
		p = c;
		by = d->pm_image;
	}
	send_deletes(s, d, p, image_of(by));
	if (!rule(T15_MAP) || !rule(T15_BELOW)) {
		d->p = p;
		d->p_image = by;
	}
}

/* Records of two types, given by some incarnations. */
static unsigned count(const struct state *s, enum type a, enum type b, unsigned who)
{
	unsigned i, k, n = 0;

	for (i = 0; i < s->incs; i++)
		for (k = 1; k <= K_MAX && (who >> i & 1); k++)
			if (s->obj[i][k]) {
				enum type t = record_of(s->obj[i][k])->type;

				n += t == a || t == b;
			}
	return n;
}

static bool window_open(const struct node *d)
{
	unsigned k, waiting = 0;

	if (d->nxt > bounds.numbers)
		return false;
	if (rule(T2_ANCHOR))
		return d->nxt < d->low + bounds.window;
	for (k = d->low; k < d->nxt; k++)
		waiting += !(d->durable & BIT(k));
	return waiting < bounds.window;
}

/* One new number: its bytes are frozen now. */
static void give(struct search *x, const struct state *s, unsigned node, enum type type, unsigned arg, unsigned map)
{
	struct state t = *s;
	struct node *d = &t.node[node];
	struct record r = { .type = type, .arg = arg, .map = map };
	struct image i = *image_of(d->image);
	enum broken b = B_NONE;
	unsigned k = d->nxt, inc = d->inc - 1;

	if (type == ROOT) {
		i.tree = d->page;
		i.tree_new = k;
		d->page = 0;
	}
	if (type == PAGE)
		d->page = k;
	if (is_checkpoint(&r)) {
		r.image = image_id(&i);
		d->ckpt[d->ckpt[0] ? 1 : 0] = k;
	}
	if (type == SNAP)
		r.image = image_id(&i);
	if (type == ROLL)
		r.image = record_at(s, s->first, arg)->image;
	if (type == DATA && bounds.journal)
		d->write = k;
	t.obj[inc][k] = record_id(&r);
	image_apply(&i, k, inc, &r);
	d->image = image_id(&i);
	d->nxt++;
	if (bounds.sync) {
		land(&t, inc, k);
		b = record_answered(&t, d, k);
	} else {
		settle(&t, d);
	}
	search_step(x, &t, STEP(GIVE, node, type, arg), b);
}

static void snapshot_steps(struct search *x, const struct state *s, unsigned node)
{
	const struct node *d = &s->node[node];
	const struct image *i = image_of(d->image);
	struct log log;
	unsigned n, r;

	if (count(s, SNAP, SNAP, ~0u) < bounds.snaps && !i->snap[SNAP_MAX - 1])
		give(x, s, node, SNAP, 0, 0);
	for (n = 0; n < SNAP_MAX; n++) {
		if (!i->snap[n])
			continue;
		if (!bounds.frees || count(s, FREE, FREE, ~0u) < bounds.frees)
			give(x, s, node, FREE, i->snap[n], 0);
		if (count(s, ROLL, ROLL_POS, ~0u) < bounds.rolls && i->snap_map[n] != i->map)
			give(x, s, node, ROLL, i->snap[n], i->snap_map[n]);
	}
	if (count(s, ROLL, ROLL_POS, ~0u) >= bounds.rolls)
		return;
	/* 3.9 to a position: without T17 to any whose objects are "still there" */
	for (r = rule(T17_POSITION) ? (i->ckpt ? i->ckpt : 1) : 1; r < d->nxt; r++) {
		log_read(s, r + 1, &log);
		if (log.reached && log.image.map != i->map &&
		    (rule(T17_POSITION) || !log.image.map || s->cur[log.image.map]))
			give(x, s, node, ROLL_POS, r, log.image.map);
	}
}

static void give_steps(struct search *x, const struct state *s, unsigned node)
{
	const struct node *d = &s->node[node];

	if (!window_open(d))
		return;
	if (bounds.journal ? d->write == 1 : count(s, DATA, DATA, ~0u) < bounds.data)
		give(x, s, node, DATA, 0, 0);
	if (count(s, CKPT, ROOT, ~0u) < bounds.ckpts && (!d->ckpt[0] || (!rule(T13_ONE) && !d->ckpt[1]))) {
		give(x, s, node, CKPT, 0, 0);
		if (d->page)
			give(x, s, node, ROOT, 0, 0);
	}
	if (!d->page && count(s, PAGE, PAGE, ~0u) < bounds.pages)
		give(x, s, node, PAGE, 0, 0);
	if (count(s, DISCARD, DISCARD, ~0u) < bounds.discards && image_of(d->image)->map)
		give(x, s, node, DISCARD, 0, 0);
	if (bounds.snaps || bounds.rolls)
		snapshot_steps(x, s, node);
}

/* 3.12 everything goes, but for claims. Whatever a LIST shows beyond the own claim's void is somebody else's. */
static void destroy(struct state *s, const struct node *d)
{
	uint16_t keep = image_of(d->image)->claims & ~BIT(1);
	unsigned k;

	s->destroyed = 1;
	for (k = 1; k <= K_MAX; k++) {
		const struct record *r = record_at(s, s->cur, k);

		if (r && s->cur[k] != d->inc && !rule(R_ALL_CLAIMS))
			keep &= ~BIT(k);
		if (!(keep & BIT(k)) && (k < d->nxt || !rule(R_BELOW_CLAIM)))
			s->del |= BIT(k);
	}
}

static void owner_steps(struct search *x, const struct state *s, unsigned node)
{
	const struct node *d = &s->node[node];
	struct state t;
	unsigned k, n;
	enum broken b;

	for (k = d->low; k < d->nxt; k++)
		if (!(d->durable & BIT(k)) && answered(s, d->inc - 1, k)) {
			t = *s;
			b = record_answered(&t, &t.node[node], k);
			search_step(x, &t, STEP(ANSWER, node, 0, k), b);
		}
	for (n = 0; n < 2; n++) {
		k = d->ckpt[n];
		if (!k || (k >= d->low && rule(T11_MARK) && (rule(T3_COMMITTED) || !(d->durable & BIT(k)))))
			continue;
		t = *s;
		mark_answered(&t, &t.node[node], k);
		search_step(x, &t, STEP(MARKED, node, 0, k), B_NONE);
	}
	give_steps(x, s, node);
	if (bounds.journal && !d->write && count(s, DATA, DATA, ~0u) < bounds.data) {
		t = *s;
		t.node[node].write = 1;
		search_step(x, &t, STEP(WRITE, node, 0, 0), B_NONE);
	}
	if (bounds.destroy && !s->destroyed && d->inc > 1 && !count(s, DATA, CKPT, 1u << (d->inc - 1))) {
		t = *s;
		destroy(&t, d);
		search_step(x, &t, STEP(DESTROY, node, 0, 0), B_NONE);
	}
}

static void claiming_steps(struct search *x, const struct state *s, unsigned node)
{
	const struct node *d = &s->node[node];
	struct state t;
	unsigned k;
	enum broken b;

	for (k = d->pos; k <= bounds.numbers && k < d->pos + bounds.window + 1u; k++) {
		if (bounds.burst ? !(d->durable & BIT(k)) : k != d->pos)
			continue;
		if (!answered(s, d->inc - 1, k))
			continue;
		t = *s;
		b = claim_answered(&t, &t.node[node], k);
		search_step(x, &t, STEP(ANSWER, node, 0, k), b);
	}
}

static void crash_steps(struct search *x, const struct state *s, unsigned node)
{
	struct state t = *s;

	detach(&t.node[node], false);
	search_step(x, &t, STEP(CRASH, node, 0, 0), B_NONE);
	if (!bounds.journal)
		return;
	drop_journal(&t.node[node]);
	search_step(x, &t, STEP(CRASH_LOST, node, 0, 0), B_NONE);
}

/* 3.3 and 3.4 while nobody disturbs. */
static void attach_at_once(struct search *x, const struct state *s, unsigned node)
{
	struct state t = *s;
	struct node *d = &t.node[node];
	enum broken b = B_NONE;

	list(&t, d);
	while (!b && d->phase == WALKING)
		b = get(&t, d);
	if (!b && d->phase == LOOKING)
		b = look(&t, d);
	if (!b && d->phase != CLAIMING)
		return; /* no claim left within the bounds */
	if (!b) {
		land(&t, d->inc - 1, d->pos);
		b = claim_answered(&t, d, d->pos);
	}
	if (!b && d->phase == LOOKING_AGAIN)
		b = look(&t, d);
	search_step(x, &t, STEP(ATTACH, node, 0, 0), b);
}

static void node_steps(struct search *x, const struct state *s, unsigned node)
{
	struct state t = *s;
	struct node *d = &t.node[node];
	enum broken b;

	if (d->inc)
		crash_steps(x, s, node);
	switch ((enum phase) d->phase) {
	case DETACHED:
		if (s->destroyed)
			break;
		if (bounds.at_once) {
			attach_at_once(x, s, node);
			break;
		}
		list(&t, d);
		search_step(x, &t, STEP(LIST, node, 0, 0), B_NONE);
		break;
	case WALKING:
		b = get(&t, d);
		search_step(x, &t, STEP(GET, node, 0, s->node[node].pos), b);
		break;
	case LOOKING:
	case LOOKING_AGAIN:
		if (s->destroyed)
			break;
		b = look(&t, d);
		search_step(x, &t, STEP(LOOK, node, 0, 0), b);
		break;
	case CLAIMING:
		claiming_steps(x, s, node);
		break;
	case OWNER:
		owner_steps(x, s, node);
		break;
	}
}

static void log_expand(struct search *x, const void *state)
{
	unsigned n;

	store_steps(x, state);
	for (n = 0; n < bounds.nodes; n++)
		node_steps(x, state, n);
}

/* --- the beginning, and names ------------------------------------------------------------------------------------ */

/* Node A has just created the image and owns it; no mark yet. */
static void log_first(void *state)
{
	struct state *s = state;
	struct image i = { 0 };
	struct record r = { 0 };
	struct node *a = &s->node[0];
	unsigned n;

	memset(s, 0, sizeof(*s));
	record_id(&r);
	r = (struct record) { .type = CREATE, .image = image_id(&i) };
	s->obj[0][1] = record_id(&r);
	land(s, 0, 1);
	s->incs = 1;
	image_apply(&i, 1, 0, &r);
	a->phase = OWNER;
	a->inc = 1;
	a->pm = 1;
	a->pm_image = r.image;
	a->image = image_id(&i);
	a->low = a->nxt = 2;
	a->nonces = a->begun = bounds.journal ? 1 : 0;
	for (n = 0; n < NODE_MAX; n++)
		s->node[n].id = n;
}

/* Nodes differ in what they do, not in their names: the order among them, and who an incarnation was, are left out. */
static void log_canonical(void *state)
{
	struct state *s = state;
	struct node t;
	unsigned i, j;

	memset(s->who, 0, sizeof(s->who));
	for (i = 0; i < bounds.nodes; i++)
		s->node[i].id = 0;
	for (i = 1; i < bounds.nodes; i++)
		for (j = i; j && memcmp(&s->node[j - 1], &s->node[j], sizeof(t)) < 0; j--) {
			t = s->node[j];
			s->node[j] = s->node[j - 1];
			s->node[j - 1] = t;
		}
}

const struct model log_model = {
	.size = sizeof(struct state),
	.first = log_first,
	.expand = log_expand,
	.oracle = log_oracle,
	.canonical = log_canonical,
	.describe = log_describe,
};
