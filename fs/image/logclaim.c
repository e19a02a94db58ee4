/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logclaim.c - becoming the owner: step 3.4 of the protocol.
 *
 *	READER	--our claim at the tail is there, and no newer mark since the walk-->	OWNER
 *		--... but there is a newer mark--> walk from that: our claim is the newest --> OWNER, else it was made
 *		at a number
 *		  that had been deleted and means nothing: claim anew
 *		--somebody else's object is at the tail--> -EBUSY: the caller attaches again and thinks about policy
 *		again
 *
 * A writer that keeps the tail moving would win for ever: after RACES losses the claim is put at all W numbers that
 * it can have in flight at once. The lowest of ours that a walk meets counts; the others are void then.
 */
#include "config.h"
#include "log-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/str.h"
#include <stdio.h>
#include <string.h>

enum { RACES = 3 };
#define FRESH_NS (2 * NSEC_PER_SEC)

bool log_fresh(struct log *l)
{
	bool r;

	mtx_lock(&l->lock);
	r = l->state == LOG_READER && l->looked_at != 0 && l->looked_at + FRESH_NS > clock_now_ns();
	mtx_unlock(&l->lock);
	return r;
}

static int encode_claim(struct log *l, uint64_t number, uint64_t next, const struct log_nonce *nonce, uint64_t jseq,
			struct logobj *o, void **ret, size_t *ret_len, uint32_t *ret_crc)
{
	struct str text = {0};
	int r;

	memset(o, 0, sizeof(*o));
	o->type = LOG_CLAIM;
	memcpy(o->uuid, l->uuid, 16);
	o->number = number;
	o->nonce = *nonce;
	o->jseq = jseq;
	o->time_s = clock_real_ns() / NSEC_PER_SEC;
	mtx_lock(&l->lock);
	o->epoch = l->view.epoch + 1;
	o->size = l->view.size;
	o->window = l->view.window;
	o->claim_before = l->view.claim;
	o->durable = l->view.tail;
	mtx_unlock(&l->lock);
	o->claim_next = next;
	str_addf(&text, "host=%s\n", l->host);
	r = str_take(&text, &o->text);
	return r < 0 ? r : logobj_encode(o, NULL, 0, ret, ret_len, ret_crc);
}

/* One claim; its bytes do not change from try to try. */
static int put_claim(struct log *l, uint64_t number, uint64_t next, const struct log_nonce *nonce, uint64_t jseq,
		     struct logobj *o)
{
	void *bytes = NULL;
	size_t len;
	uint32_t crc;
	int r = encode_claim(l, number, next, nonce, jseq, o, &bytes, &len, &crc);

	while (r == 0) {
		r = log_create_object(l, number, bytes, len, crc, nonce, NULL);
		if (!log_transient(r))
			break;
		mtx_lock(&l->lock);
		r = l->stopping ? -ESHUTDOWN : 0;
		mtx_unlock(&l->lock);
	}
	free(bytes);
	return r;
}

static int own(struct log *l, const struct log_nonce *nonce)
{
	int r = -EBUSY;

	mtx_lock(&l->lock);
	if (memcmp(&l->view.nonce, nonce, sizeof(*nonce)) == 0) {
		l->state = LOG_OWNER;
		l->low = l->next = l->view.tail;
		l->below = 0;
		l->reserved = 0;
		l->lost_races = 0;
		r = 0;
	}
	mtx_unlock(&l->lock);
	return r;
}

/*
 * Walk again; the newest claim is ours, or somebody else's (-EBUSY), or neither: no claim since the one we built on
 * (-EAGAIN).
 */
static int walk_again(struct log *l, const struct log_nonce *nonce, uint64_t built_on, const struct log_walker *w,
		      struct objerr *err)
{
	int r = log_attach(l, w, false, err);

	if (r < 0)
		return r;
	if (own(l, nonce) == 0)
		return 0;
	mtx_lock(&l->lock);
	r = l->view.claim == built_on ? -EAGAIN : -EBUSY;
	mtx_unlock(&l->lock);
	return r;
}

/*
 * Of a claim that is there: is m still the newest mark, and is the image alive? Where it was deleted since the walk, the
 * claim may be at a number that was emptied, and the marks say nothing (D3). Both in one round trip.
 */
static int look_around(struct log *l, uint64_t m, bool *ret_moved, struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1];
	struct log_batch b;
	struct objreq dead;
	int r = 0, d;

	*ret_moved = false;
	(void)snprintf(key, sizeof(key), "%sdead", l->prefix);
	objreq_init(&dead, OBJ_HEAD, key);
	log_batch_init(&b);
	log_batch_submit(&b, l->store, &dead);
	if (RULE(T4_LOOK))
		r = log_look_again(l, m, false, ret_moved, err);
	log_batch_wait(&b);
	log_batch_destroy(&b);
	d = dead.status;
	if (r == 0 && log_transient(d)) {
		objreq_reset_answer(&dead);
		objreq_init(&dead, OBJ_HEAD, key);
		d = log_do(l, &dead);
	}
	if (r == 0 && d == 0 && RULE(D3_CLAIM)) {
		objerr_set(err, "the image was deleted");
		r = -EIO;
	} else if (r == 0 && d < 0 && d != -ENOENT) {
		*err = dead.err;
		r = d;
	}
	objreq_done(&dead);
	return r;
}

/* The claim is there: owner, by what was read before it. */
static int believe(struct log *l, const struct log_nonce *nonce, const struct log_walker *w, struct logobj *o)
{
	int r = w->object(w->arg, o);

	if (r == 0) {
		mtx_lock(&l->lock);
		log_see_locked(l, o);
		mtx_unlock(&l->lock);
		r = own(l, nonce);
	}
	logobj_free(o);
	return r;
}

/* All at once, never further than the former owner can have numbers under way. */
static int burst(struct log *l, const struct log_nonce *nonce, uint64_t jseq, const struct log_view *v,
		 const struct log_walker *w, struct objerr *err)
{
	uint64_t end = v->tail + v->window, next = v->tail + 2 * v->window - 1;
	struct logobj o;
	bool moved;
	int r;

	if (!RULE(B1_NEXT))
		next = v->tail + v->window;
	if (!RULE(B2_NEAR))
		end += v->window - 1; /* below next */
	for (uint64_t n = v->tail; n < end; n++) { /* one after the other is as good: none is above N+W-1 */
		r = put_claim(l, n, next, nonce, jseq, &o);

		if (!RULE(B3_LOOK) && r == 0)
			return believe(l, nonce, w, &o);

		logobj_free(&o);
		if (r < 0 && r != -EEXIST)
			return r;
	}
	r = look_around(l, v->mark, &moved, err);
	return r < 0 ? r : walk_again(l, nonce, v->claim, w, err);
}

int log_claim(struct log *l, const struct log_nonce *nonce, uint64_t jseq, const struct log_walker *w,
	      struct objerr *err)
{
	struct log_view v;
	struct logobj o;
	bool moved;
	int r;

	if (!RULE(T6_CLAIM) && own(l, nonce) == 0)
		return 0;
	for (;;) {
		log_view(l, &v);
		if (l->lost_races >= RACES) {
			r = burst(l, nonce, jseq, &v, w, err);
			if (r != -EAGAIN)
				return r;
			continue;
		}
		r = put_claim(l, v.tail, RULE(T1_VOID) ? v.tail + v.window : v.tail + 1, nonce, jseq, &o);
		if (r == -EEXIST && RULE(E_TAKEN)) {
			l->lost_races++;
			logobj_free(&o);
			return -EBUSY;
		}
		r = r == -EEXIST && !RULE(E_TAKEN) ? 0 : r;
		moved = false;
		if (r == 0)
			r = look_around(l, v.mark, &moved, err);
		if (r == 0 && !moved)
			return believe(l, nonce, w, &o);
		logobj_free(&o);
		if (r < 0)
			return r;
		r = walk_again(l, nonce, v.claim, w, err);
		if (r != -EAGAIN)
			return r;
	}
}
