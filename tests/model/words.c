/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * words.c - steps of the log model in words.
 *
 * Nodes are A, B, C; A2 is the second incarnation of a writer on node A (A1 = its first claim, or the creator).
 */
#include "model.h"

static const char *const type_name[TYPE_COUNT] = {
	[NONE] = "nothing",	    [CREATE] = "create",   [DATA] = "data",    [CKPT] = "checkpoint",
	[ROOT] = "checkpoint root", [CLAIM] = "claim",	   [DISCARD] = "discard", [SNAP] = "snapshot",
	[FREE] = "free",	    [ROLL] = "rollback",   [ROLL_POS] = "rollback", [PAGE] = "map page",
};

static const char *writer(const struct state *s, unsigned inc, char buf[8])
{
	unsigned i, n = 1;

	for (i = 0; i < inc; i++)
		n += s->who[i] == s->who[inc];
	snprintf(buf, 8, "%c%u", 'A' + s->who[inc], n);
	return buf;
}

static void object(FILE *f, const struct state *s, unsigned holder, unsigned k)
{
	const struct record *r;
	char w[8];

	if (!holder) {
		fprintf(f, "absent");
		return;
	}
	r = record_of(s->obj[holder - 1][k]);
	fprintf(f, "%s of %s", type_name[r->type], writer(s, holder - 1, w));
	if (r->type == CLAIM)
		fprintf(f, ", next %u", r->arg);
}

static void describe_store(FILE *f, const struct state *s, unsigned step, const struct state *t)
{
	unsigned k = STEP_C(step);

	switch (STEP_OP(step)) {
	case LAND:
		fprintf(f, "a PUT of %u arrives%s: ", k, s->first[k] ? " again, or late" : "");
		object(f, t, t->cur[k], k);
		break;
	case DELETED:
		fprintf(f, "a DELETE of %u arrives: ", k);
		object(f, s, s->cur[k], k);
		fprintf(f, " is gone");
		break;
	case MARK:
		fprintf(f, "a mark PUT arrives: mark/%u", k);
		break;
	default:
		fprintf(f, "a mark DELETE arrives: mark/%u is gone", k);
		break;
	}
}

static void outcome(FILE *f, const struct node *d, const struct node *e)
{
	static const char *const name[] = {
		[DETACHED] = "detached", [WALKING] = "walks", [LOOKING] = "has come to the end",
		[CLAIMING] = "claims", [LOOKING_AGAIN] = "claim made", [OWNER] = "is owner",
	};

	if (d->phase == e->phase)
		return;
	if (e->phase == DETACHED && d->phase == OWNER)
		fprintf(f, "; fenced");
	else if (e->phase == DETACHED)
		fprintf(f, "; begins anew");
	else
		fprintf(f, "; %s", name[e->phase]);
	if (e->phase == CLAIMING)
		fprintf(f, " %u", e->pos);
	if (e->phase == OWNER)
		fprintf(f, ", next %u", e->nxt);
}

static void describe_journal(FILE *f, const struct node *d, const struct node *e)
{
	if (d->nonces && !(e->nonces & d->nonces))
		fprintf(f, "; journal %s", d->write ? "set aside, with a write in it" : "set aside, empty");
	else if (e->phase == OWNER && d->phase != OWNER && e->write)
		fprintf(f, "; journal replays");
	if (d->write > 1 && e->phase == OWNER && !e->write)
		fprintf(f, "; acknowledged, journal trimmed");
}

static void describe_give(FILE *f, const struct state *t, const struct node *d, unsigned step)
{
	unsigned k = d->nxt, inc = d->inc - 1, arg = STEP_C(step);
	const struct record *r = record_of(t->obj[inc][k]);

	fprintf(f, "PUT %u = %s", k, type_name[STEP_B(step)]);
	if (r->type == FREE)
		fprintf(f, " of snapshot %u", arg);
	if (r->type == ROLL || r->type == ROLL_POS)
		fprintf(f, " to %s %u (block in %u)", r->type == ROLL ? "snapshot" : "position", arg, r->map);
	if (is_checkpoint(r))
		fprintf(f, " (block in %u, tree %u)", image_of(r->image)->map, image_of(r->image)->tree);
	fprintf(f, bounds.sync ? ": 200" : " is sent");
}

static void describe_node(FILE *f, const struct state *s, unsigned step, const struct state *t)
{
	const struct node *d = &s->node[STEP_NODE(step)], *e = &t->node[STEP_NODE(step)];
	unsigned k = STEP_C(step);
	uint8_t m[2];

	fprintf(f, "%c: ", 'A' + d->id);
	marks_newest(s, m);
	switch (STEP_OP(step)) {
	case LIST:
		fprintf(f, "LIST marks: newest %u", m[0]);
		break;
	case GET:
		fprintf(f, "GET %u: ", k);
		object(f, s, s->cur[k], k);
		break;
	case LOOK:
		fprintf(f, "LIST marks%s: newest %u", d->phase == LOOKING ? " (look)" : " (look after the claim)", m[0]);
		break;
	case ATTACH:
		fprintf(f, "attaches from %u and claims", m[0]);
		break;
	case ANSWER:
		fprintf(f, "answer to PUT %u: ", k);
		if (s->cur[k] == d->inc || s->first[k] == d->inc)
			fprintf(f, "mine");
		else
			object(f, s, s->cur[k], k);
		break;
	case MARKED:
		fprintf(f, "PUT mark/%u: 200", k);
		break;
	case GIVE:
		describe_give(f, t, d, step);
		break;
	case WRITE:
		fprintf(f, "a write goes to the journal");
		break;
	case DESTROY:
		fprintf(f, "deletes the image");
		break;
	case CRASH_LOST:
		fprintf(f, "dies, and its journal is lost");
		return;
	default:
		fprintf(f, "dies");
		return;
	}
	outcome(f, d, e);
	describe_journal(f, d, e);
}

void log_describe(FILE *f, const void *before, unsigned step, const void *after)
{
	const struct state *s = before, *t = after;
	unsigned k, first = 1;

	if (STEP_OP(step) <= UNMARK)
		describe_store(f, s, step, t);
	else
		describe_node(f, s, step, t);
	for (k = 1; k <= K_MAX; k++)
		if (t->del & ~s->del & BIT(k)) {
			fprintf(f, "%s%u", first ? "; sends DELETE " : ", ", k);
			first = 0;
		}
}
