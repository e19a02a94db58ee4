/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * clone.c - clones against the deletion of the snapshot that they stand on (3.10, 3.12).
 *
 * Two keys without an order between them must decide one thing: may the snapshot's objects go? A cloner puts its ref,
 * *then* looks for the tombstone gone/<snapshot>; the deleter puts the tombstone, *then* lists the refs, key by key.
 * Whoever comes second sees the other. A cloner that died may have its create record under way for ever: its ref goes
 * only after a tombstone took the place of that record. And a clone that was deleted can come back by late requests for
 * its name and its create record: a permanent key of its own says that it is dead.
 *
 * The log records of the deletion (unsnap, free) are taken as committed at once: model.h has shown that an owner's are.
 */
#include "model.h"

#define CLONES 2

enum clone_op {
	C_PUT_REF, C_REF_GONE, C_PUT_CREATE, C_CREATE_GONE, C_PUT_TOMB, C_PUT_NAME, C_NAME_GONE, C_PUT_DEAD, /* arrivals */
	C_CLONE, C_REF_OK, C_GET_GONE, C_CREATE_OK, C_NAME_OK, C_DIE, C_REMOVE, C_REMOVED,
	C_SWEEP, C_SWEPT,
	S_PUT_GONE, S_LIST, S_UNSNAP, S_GONE_OK, S_FREE, S_DIE,
};

/* Requests sent; they may arrive at any time from then on. */
enum { SENT_REF = 1, SENT_UNREF = 2, SENT_CREATE = 4, SENT_UNCREATE = 8, SENT_TOMB = 16, SENT_NAME = 32,
       SENT_UNNAME = 64, SENT_DEAD = 128 };

enum cloner { IDLE, REF_SENT, REF_THERE, CREATE_SENT, NAME_SENT, CLONE_DONE, REMOVING, REMOVED, OVER };
enum first_record { ABSENT, CLONE, TOMB };
enum deleter { RESTING, LISTING, UNSNAPPED, GONE_SENT, LISTING_AGAIN, FREED };

struct cloning {
	uint8_t sent, cloner;
	uint8_t ref, name, dead;
	uint8_t create; /* what is at the clone's first number */
	uint8_t ever;	/* ghost: it once was a clone that somebody was told of */
	uint8_t sweeping;
};

struct clone_state {
	struct cloning c[CLONES];
	uint8_t deleter, listed;    /* refs listed so far */
	uint8_t gone_sent, gone;    /* gone/<snapshot> */
	uint8_t unsnap, freed, pad[2]; /* log records */
};

static void arrivals(struct search *x, const struct clone_state *s, unsigned n)
{
	const struct cloning *c = &s->c[n];
	struct clone_state t;

#define ARRIVES(cond, op, change) \
	do { \
		if (cond) { \
			t = *s; \
			change; \
			search_step(x, &t, STEP(op, n, 0, 0), B_NONE); \
		} \
	} while (0)
	ARRIVES((c->sent & SENT_REF) && !c->ref, C_PUT_REF, t.c[n].ref = 1);
	ARRIVES((c->sent & SENT_UNREF) && c->ref, C_REF_GONE, t.c[n].ref = 0);
	ARRIVES((c->sent & SENT_CREATE) && c->create == ABSENT, C_PUT_CREATE, t.c[n].create = CLONE);
	ARRIVES((c->sent & SENT_UNCREATE) && c->create == CLONE, C_CREATE_GONE, t.c[n].create = ABSENT);
	ARRIVES((c->sent & SENT_TOMB) && c->create == ABSENT, C_PUT_TOMB, t.c[n].create = TOMB);
	ARRIVES((c->sent & SENT_NAME) && !c->name, C_PUT_NAME, t.c[n].name = 1);
	ARRIVES((c->sent & SENT_UNNAME) && c->name, C_NAME_GONE, t.c[n].name = 0);
	ARRIVES((c->sent & SENT_DEAD) && !c->dead, C_PUT_DEAD, t.c[n].dead = 1);
#undef ARRIVES
}

static void step(struct search *x, const struct clone_state *s, unsigned n, enum clone_op op, enum cloner to,
		 unsigned sends)
{
	struct clone_state t = *s;

	t.c[n].cloner = to;
	t.c[n].sent |= sends;
	if (to == CLONE_DONE)
		t.c[n].ever = 1;
	search_step(x, &t, STEP(op, n, 0, 0), B_NONE);
}

/* PUT ref; then GET gone; then the create record; then the name. */
static void cloner_steps(struct search *x, const struct clone_state *s, unsigned n)
{
	const struct cloning *c = &s->c[n];

	switch ((enum cloner) c->cloner) {
	case IDLE: /* it may have read the snapshot's record long ago */
		step(x, s, n, C_CLONE, rule(C1_REF) ? REF_SENT : REF_THERE, SENT_REF);
		return;
	case REF_SENT:
		if (c->ref)
			step(x, s, n, C_REF_OK, REF_THERE, 0);
		break;
	case REF_THERE:
		if (s->gone && rule(C2_GONE))
			step(x, s, n, C_GET_GONE, OVER, SENT_UNREF);
		else
			step(x, s, n, C_GET_GONE, CREATE_SENT, SENT_CREATE);
		break;
	case CREATE_SENT:
		if (c->create == CLONE)
			step(x, s, n, C_CREATE_OK, NAME_SENT, SENT_NAME);
		else if (c->create == TOMB)
			step(x, s, n, C_CREATE_OK, OVER, 0);
		break;
	case NAME_SENT:
		if (c->name)
			step(x, s, n, C_NAME_OK, CLONE_DONE, 0);
		break;
	case CLONE_DONE: /* 3.12: dead, then the name, the objects, last the ref */
		step(x, s, n, C_REMOVE, REMOVING, rule(C5_DEAD) ? SENT_DEAD : 0);
		return;
	case REMOVING:
		if (c->dead || !rule(C5_DEAD))
			step(x, s, n, C_REMOVED, REMOVED, SENT_UNNAME | SENT_UNCREATE);
		return;
	case REMOVED:
		if (!c->name && c->create != CLONE)
			step(x, s, n, C_REMOVED, OVER, SENT_UNREF);
		return;
	case OVER:
		return;
	}
	step(x, s, n, C_DIE, OVER, 0);
}

/* A ref without a name: its cloner may be dead, or slow. */
static void sweep_steps(struct search *x, const struct clone_state *s, unsigned n)
{
	const struct cloning *c = &s->c[n];
	struct clone_state t = *s;

	if (!c->sweeping && c->ref && !c->name) {
		t.c[n].sweeping = 1;
		t.c[n].sent |= rule(C4_TOMB) ? SENT_TOMB : c->create == ABSENT ? SENT_UNREF : 0;
		search_step(x, &t, STEP(C_SWEEP, n, 0, 0), B_NONE);
	} else if (c->sweeping == 1 && rule(C4_TOMB) && c->create != ABSENT) {
		t.c[n].sweeping = 2;
		if (c->create == TOMB)
			t.c[n].sent |= SENT_UNREF;
		search_step(x, &t, STEP(C_SWEPT, n, 0, 0), B_NONE);
	}
}

/* One key of a LIST of refs: any -> refuse, or wait. */
static void list_one(struct search *x, const struct clone_state *s, enum deleter next)
{
	struct clone_state t = *s;

	if (s->c[s->listed].ref) {
		t.listed = 0;
		t.deleter = s->unsnap ? UNSNAPPED : RESTING;
	} else if (++t.listed == CLONES) {
		t.listed = 0;
		t.deleter = next;
		if (next == UNSNAPPED)
			t.unsnap = 1;
		if (next == FREED)
			t.freed = 1;
	}
	search_step(x, &t, STEP(S_LIST, 0, 0, s->listed), B_NONE);
}

/* LIST refs; unsnap; PUT gone; LIST refs again; free. Another owner goes on where the log says. */
static void deleter_steps(struct search *x, const struct clone_state *s)
{
	struct clone_state t = *s;

	switch ((enum deleter) s->deleter) {
	case RESTING:
		t.deleter = s->unsnap ? UNSNAPPED : LISTING;
		search_step(x, &t, STEP(S_UNSNAP, 0, 0, 0), B_NONE);
		return;
	case LISTING:
		list_one(x, s, UNSNAPPED);
		break;
	case UNSNAPPED:
		t.deleter = rule(C3_ORDER) ? GONE_SENT : LISTING_AGAIN;
		t.gone_sent = 1;
		search_step(x, &t, STEP(S_PUT_GONE, 0, 0, 1), B_NONE);
		break;
	case GONE_SENT:
		if (s->gone) {
			t.deleter = rule(C3_LIST) ? LISTING_AGAIN : FREED;
			t.freed = t.deleter == FREED;
			search_step(x, &t, STEP(S_GONE_OK, 0, 0, 0), B_NONE);
		}
		break;
	case LISTING_AGAIN:
		list_one(x, s, FREED);
		break;
	case FREED:
		return;
	}
	t = *s;
	t.deleter = RESTING;
	t.listed = 0;
	search_step(x, &t, STEP(S_DIE, 0, 0, 0), B_NONE);
}

static void clone_expand(struct search *x, const void *state)
{
	const struct clone_state *s = state;
	struct clone_state t = *s;
	unsigned n;

	for (n = 0; n < CLONES; n++) {
		arrivals(x, s, n);
		cloner_steps(x, s, n);
		sweep_steps(x, s, n);
	}
	if (s->gone_sent && !s->gone) {
		t.gone = 1;
		search_step(x, &t, STEP(S_PUT_GONE, 0, 0, 0), B_NONE);
	}
	deleter_steps(x, s);
}

/*
 * A clone can be opened by its name once its create record is there, and its cloner may yet put the name: from the
 * record on it must find the snapshot's objects.
 */
static enum broken clone_oracle(const void *state)
{
	const struct clone_state *s = state;
	unsigned n;

	for (n = 0; n < CLONES && s->freed; n++) {
		const struct cloning *c = &s->c[n];
		bool coming = c->cloner == CREATE_SENT || c->cloner == NAME_SENT;

		if (c->create == CLONE && (c->name || coming) && !c->dead)
			return B_CLONE;
	}
	return B_NONE;
}

static void clone_first(void *state)
{
	memset(state, 0, sizeof(struct clone_state));
}

/* The two clones differ in their names only, as long as no LIST is between them. */
static void clone_canonical(void *state)
{
	struct clone_state *s = state;
	struct cloning t;

	if (!s->listed && memcmp(&s->c[0], &s->c[1], sizeof(t)) > 0) {
		t = s->c[0];
		s->c[0] = s->c[1];
		s->c[1] = t;
	}
}

static void clone_describe(FILE *f, const void *before, unsigned step, const void *after)
{
	static const char *const words[] = {
		[C_PUT_REF] = "the ref's PUT arrives",	    [C_REF_GONE] = "the ref's DELETE arrives",
		[C_PUT_CREATE] = "the create record arrives", [C_CREATE_GONE] = "the create record's DELETE arrives",
		[C_PUT_TOMB] = "the sweeper's tombstone arrives", [C_PUT_NAME] = "the name's PUT arrives",
		[C_NAME_GONE] = "the name's DELETE arrives", [C_PUT_DEAD] = "its dead key arrives",
		[C_CLONE] = "begins: PUT ref",		    [C_REF_OK] = "ref answered",
		[C_GET_GONE] = "GET gone",		    [C_CREATE_OK] = "answer to the create record",
		[C_NAME_OK] = "name answered: done",	    [C_DIE] = "the cloner dies",
		[C_REMOVE] = "is to be removed",	    [C_REMOVED] = "removal goes on",
		[C_SWEEP] = "a sweeper finds the ref and no name", [C_SWEPT] = "answer to the sweeper",
	};
	const struct clone_state *s = before, *t = after;

	switch ((int) STEP_OP(step)) {
	case S_PUT_GONE:
		fprintf(f, STEP_C(step) ? "deleter: sends PUT gone" : "the PUT of gone arrives");
		break;
	case S_LIST:
		fprintf(f, "deleter: LIST refs, clone %u: %s%s", STEP_C(step) + 1u,
			s->c[STEP_C(step)].ref ? "there" : "none", t->freed ? "; free record" : "");
		break;
	case S_UNSNAP:
		fprintf(f, "deleter: begins");
		break;
	case S_GONE_OK:
		fprintf(f, "deleter: gone answered%s", t->freed ? "; free record" : "");
		break;
	case S_DIE:
		fprintf(f, "deleter: dies");
		break;
	default:
		fprintf(f, "clone %u: %s", STEP_NODE(step) + 1u, words[STEP_OP(step)]);
		if (STEP_OP(step) == (enum op) C_GET_GONE)
			fprintf(f, ": %s", s->gone ? "there" : "absent");
	}
}

const struct model clone_model = {
	.size = sizeof(struct clone_state),
	.first = clone_first,
	.expand = clone_expand,
	.oracle = clone_oracle,
	.canonical = clone_canonical,
	.describe = clone_describe,
};
