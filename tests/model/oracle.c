/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * oracle.c - what the log is, and what must hold in every state.
 *
 * The log is known here by the first bytes ever at each number (ghost state that no node can see). In every state
 *  - it has one writer between two claims;
 *  - an undisturbed attach from each of the two newest marks gives its tail and its image;
 *  - all that its map and its snapshots reach exists with its first bytes, and so do the trees of those two marks;
 *  - the owner by the log still has the root that it works from.
 * What was acknowledged must be in the log: the log only grows at its end, so log.c asks that when it acknowledges.
 */
#include "model.h"

static bool mine(const struct state *s, const struct image *i, const struct record *r, unsigned inc)
{
	return r->type == CREATE || r->type == CLAIM || s->nonce[inc] == s->nonce[i->claim];
}

void log_read(const struct state *s, unsigned upto, struct log *ret)
{
	struct log l = { .claim_before = INC_MAX };
	const struct record *r;
	unsigned k, inc;

	for (k = 1; k < upto; k = r->type == CLAIM ? r->arg : k + 1) {
		r = record_at(s, s->first, k);
		if (!r)
			break;
		inc = s->first[k] - 1;
		if (!mine(s, &l.image, r, inc)) {
			l.fork = true;
			break;
		}
		if (r->type == CLAIM) {
			l.claim_at = k;
			l.claim_before = l.image.claim;
		}
		image_apply(&l.image, k, inc, r);
		l.on |= BIT(k);
	}
	l.tail = k;
	l.reached = k == upto;
	*ret = l;
}

/* m[0] > m[1]: what a LIST with max-keys=2 gives; the create record stands in for marks that are not there yet. */
void marks_newest(const struct state *s, uint8_t m[2])
{
	unsigned k, n = 0;

	m[0] = m[1] = 1;
	if (!rule(T9_MARKS)) {
		m[0] = m[1] = s->pointer ? s->pointer : 1;
		return;
	}
	for (k = K_MAX; k > 1 && n < 2; k--)
		if (s->mark & BIT(k))
			m[n++] = k;
}

static enum broken attach(const struct state *s, unsigned m, const struct log *log)
{
	const struct record *r = record_at(s, s->cur, m);
	struct image i;
	unsigned k, inc;

	if (!r || !is_checkpoint(r))
		return B_ATTACH;
	i = *image_of(r->image);
	if (i.tree && (!s->cur[i.tree] || s->cur[i.tree] != s->first[i.tree]))
		return B_HOLE;
	for (k = m; (r = record_at(s, s->cur, k)) != NULL; k = r->type == CLAIM ? r->arg : k + 1) {
		inc = s->cur[k] - 1;
		if (k > m && !mine(s, &i, r, inc))
			return B_ATTACH;
		image_apply(&i, k, inc, r);
	}
	return k == log->tail && image_same(&i, &log->image) ? B_NONE : B_ATTACH;
}

static bool exists(const struct state *s, unsigned k)
{
	return !k || (s->cur[k] && s->cur[k] == s->first[k]);
}

/* Without T18: a checkpoint before, and the headers of what came between, as far as they are still there. */
static unsigned rebuilt(const struct state *s, const struct log *log, unsigned snap)
{
	const struct record *r;
	struct image i = { 0 };
	unsigned k, base = 1;

	for (k = 1; k < snap; k++)
		if ((log->on & BIT(k)) && is_checkpoint(record_at(s, s->first, k)))
			base = k;
	i = *image_of(record_at(s, s->first, base)->image);
	for (k = base; k < snap; k++) {
		r = record_at(s, s->cur, k);
		if (r && (log->on & BIT(k)))
			image_apply(&i, k, s->cur[k] - 1, r);
	}
	return i.map;
}

static enum broken snapshots(const struct state *s, const struct log *log)
{
	unsigned n, k;

	for (n = 0; n < SNAP_MAX; n++) {
		k = log->image.snap[n];
		if (!k)
			continue;
		if (!exists(s, k) || !exists(s, log->image.snap_map[n]))
			return B_SNAPSHOT;
		if (!rule(T18_ROOT) && rebuilt(s, log, k) != log->image.snap_map[n])
			return B_SNAPSHOT;
	}
	return B_NONE;
}

/* Whoever the log says is owner, and has found that out, works from a root that nobody may take away. */
static bool root_gone(const struct state *s, const struct log *log)
{
	unsigned n;

	for (n = 0; n < bounds.nodes; n++) {
		const struct node *d = &s->node[n];

		if (d->phase == OWNER && d->inc == log->image.claim + 1 &&
		    (!exists(s, d->pm) || !exists(s, image_of(d->pm_image)->tree)))
			return true;
	}
	return false;
}

enum broken log_oracle(const void *state)
{
	const struct state *s = state;
	enum broken b;
	struct log log;
	uint8_t m[2];
	unsigned n;

	if (s->destroyed)
		return B_NONE;
	log_read(s, ~0u, &log);
	if (log.fork)
		return B_FORK;
	marks_newest(s, m);
	for (n = 0; n < 2; n++) {
		b = attach(s, m[n], &log);
		if (b)
			return b;
	}
	if (!exists(s, log.image.map))
		return B_HOLE;
	b = snapshots(s, &log);
	if (b)
		return b;
	return root_gone(s, &log) ? B_ROOT : B_NONE;
}
