/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volckpt.c - checkpoints of a volume that is owned: what stands in their headers.
 *
 * Every VOL_DIGEST_EVERY objects a data object carries the digest of those before it and a checkpoint: no request of
 * its own. Where a new tree begins, the object of that number carries one in any case, so that no digest reaches
 * across the tree's end; and after the tree is written one names it, if need be without data.
 *
 * The next checkpoint does not begin before the mark of this one was answered (PROTOCOL.md 2, T13).
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include <string.h>

static int dup_array(const void *p, size_t n, void *ret)
{
	void *d = malloc(n + 1);

	if (d == NULL)
		return -ENOMEM;
	if (n > 0)
		memcpy(d, p, n);
	*(void **)ret = d;
	return 0;
}

bool vol_checkpoint_due_locked(const struct volume *v)
{
	size_t every = v->env.digest_every != 0 ? v->env.digest_every : VOL_DIGEST_EVERY;

	return v->mark_wanted == 0 &&
	       (v->neffects >= every || v->checkpoint_soon || v->tree == TREE_WANTED);
}

/* The lists may change before the header is encoded. */
static int copy_lists(struct log_checkpoint *to, const struct log_checkpoint *from)
{
	int r;

	to->digests = to->claims = NULL;
	to->snaps = NULL;
	r = dup_array(from->digests, from->ndigests * sizeof(*from->digests), &to->digests);
	if (r == 0)
		r = dup_array(from->claims, from->nclaims * sizeof(*from->claims), &to->claims);
	if (r == 0)
		r = dup_array(from->snaps, from->nsnaps * sizeof(*from->snaps), &to->snaps);
	return r;
}

int vol_checkpoint_locked(struct volume *v, struct vol_ckpt *c, struct logobj *o, uint64_t number)
{
	struct log_view view;
	int r = vol_append_u64(&v->ck.digests, &v->ck.ndigests, &v->capdigests, number);

	if (r < 0)
		return r;
	log_view(v->log, &view);
	c->ck = v->ck;
	r = copy_lists(&c->ck, &v->ck);
	if (r < 0)
		return r;
	/* The header that is being written has the effects from here on. */
	c->digest = (struct log_digest){.first = v->digest_end, .end = number, .n = v->neffects, .v = v->effect};
	v->effect = NULL;
	v->neffects = v->capeffects = 0;
	c->ck.claim = view.claim;
	c->ck.epoch = view.epoch;
	c->ck.nonce = view.nonce;
	c->ck.jseq = v->sealed_jseq;
	c->ck.size = v->sealed_size;
	c->ck.before = v->last_checkpoint;
	o->digest = &c->digest;
	o->checkpoint = &c->ck;
	vol_say_floor_locked(v, o);
	r = vol_point_of(&v->coming, number, &c->ck);
	if (r < 0)
		return r;
	v->coming.floor = v->floor;
	v->coming.time_s = clock_real_ns() / NSEC_PER_SEC;
	v->digest_end = number;
	v->last_checkpoint = v->mark_wanted = number;
	v->checkpoint_soon = false;
	if (v->retire_below != 0) {
		map_retire_pages(v->map, v->retire_below, number + 1);
		v->retire_below = 0;
		v->marks_due = true;
	}
	if (v->tree != TREE_WANTED)
		return 0;
	r = map_freeze(v->map, number);
	if (r == 0) {
		v->tree = TREE_FROZEN;
		v->tree_covers = number;
		v->written = 0;
		vol_start_tending_locked(v);
	}
	return r;
}

void vol_ckpt_done(struct vol_ckpt *c)
{
	for (size_t i = 0; i < c->digest.n; i++)
		free(c->digest.v[i].v);
	free(c->digest.v);
	free(c->ck.digests);
	free(c->ck.claims);
	free(c->ck.snaps);
	memset(c, 0, sizeof(*c));
}

int vol_put_checkpoint(struct volume *v)
{
	struct vol_put *u = calloc(1, sizeof(*u));
	struct logobj o = {.type = LOG_CHECKPOINT};
	struct vol_ckpt c = {0};
	int r = u == NULL ? -ENOMEM : 0;

	if (r < 0) {
		log_unreserve(v->log);
		return r;
	}
	mtx_lock(&v->batch);
	o.number = log_take(v->log);
	o.jseq = v->sealed_jseq;
	o.size = v->sealed_size;
	r = vol_checkpoint_locked(v, &c, &o, o.number);
	if (r == 0)
		r = map_note_object(v->map, &(struct page_object){.number = o.number,
								  .type = LOG_CHECKPOINT,
								  .death = o.number + 2});
	if (r == 0)
		vol_put_begin_locked(v, u, &o);
	mtx_unlock(&v->batch);
	if (r == 0)
		r = vol_put_object(v, u, &o, NULL);
	else
		free(u);
	vol_ckpt_done(&c);
	return r;
}
