/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volrepair.c - doing a repair (repair.h). What no attach works without comes first. Then an owner: after an ordinary claim, with the ordinary means. Lost ranges
 * are discarded, what is whole of damaged objects is written as a guest would write it, and a new map with two checkpoints
 * of its own comes over all of that: then nothing refers to what is damaged, and the deletes take it.
 */
#include "config.h"
#include "log-private.h"
#include "repair.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK = 1 << 20, CHECKPOINTS = 3 };

/* ---- before it can be attached ---- */

static int one_key(const struct vol_env *env, enum obj_op op, const char *key, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, op, key);
	r = obj_do(env->store, &req);
	if (r < 0)
		*err = req.err;
	objreq_done(&req);
	return r == -ENOENT ? 0 : r;
}

static int make_create(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], const struct repair_plan *p,
		       struct objerr *err)
{
	struct vol_create c = {.size = p->create_size, .window = p->window, .fsync_remote = true};
	char key[OBJ_KEY_MAX + 1];
	int r;

	memcpy(c.uuid, uuid, 16);
	log_key(prefix, p->create, key);
	r = one_key(env, OBJ_DELETE, key, err); /* what is there does not verify as it */
	return r == 0 ? vol_create(env, prefix, &c, err) : r;
}

/* In place of what does not verify as a claim, if there is anything. */
static int put_claim(struct log *l, const struct vol_env *env, const char *prefix, struct logobj *o, struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1];
	void *bytes = NULL;
	uint32_t crc;
	size_t len;
	int r;

	o->type = LOG_CLAIM;
	o->time_s = clock_real_ns() / NSEC_PER_SEC;
	o->claim_next = o->number + o->window;
	o->durable = o->number;
	o->text = (char *)"host=repaired\n";
	log_key(prefix, o->number, key);
	r = one_key(env, OBJ_DELETE, key, err);
	if (r == 0)
		r = logobj_encode(o, NULL, 0, &bytes, &len, &crc);
	if (r == 0)
		r = log_create_object(l, o->number, bytes, len, crc, &o->nonce, NULL);
	free(bytes);
	return r;
}

static int make_walk_claim(const struct vol_env *env, const char *prefix, const uint8_t uuid[16],
			   const struct repair_plan *p, struct objerr *err)
{
	struct log_at at = {.store = env->store, .prefix = prefix, .host = env->host};
	struct logobj o = {.number = p->walk_claim,
			   .epoch = p->claim_epoch,
			   .claim_before = p->claim_before,
			   .jseq = p->claim_jseq,
			   .size = p->claim_size,
			   .window = p->window};
	struct log *l;
	int r;

	memcpy(at.uuid, uuid, 16);
	memcpy(o.uuid, uuid, 16);
	memcpy(o.nonce.b, p->claim_nonce, sizeof(o.nonce.b));
	r = log_open(&at, &l);
	if (r < 0)
		return r;
	r = put_claim(l, env, prefix, &o, err);
	log_close(l);
	return r;
}

int repair_first(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], const struct repair_plan *p,
		 struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1];
	int r = 0;

	for (size_t i = 0; i < p->njunk && r == 0; i++)
		r = one_key(env, OBJ_DELETE, p->junk[i], err);
	if (r == 0 && p->create != 0)
		r = make_create(env, prefix, uuid, p, err);
	(void)snprintf(key, sizeof(key), "%smark/%016" PRIx64, prefix, UINT64_MAX - p->mark);
	if (r == 0 && p->mark != 0)
		r = one_key(env, OBJ_PUT, key, err);
	if (r == 0 && p->walk_claim != 0)
		r = make_walk_claim(env, prefix, uuid, p, err);
	return r;
}

/* ---- by an owner ---- */

/*
 * A claim that is lost, under its old number. Who claimed then is known by nobody: a nonce that no writer has does as well.
 * Below the newest mark no walk reads it, and for all who wrote before it the number is taken.
 */
static int make_claim(struct volume *v, uint64_t number, struct objerr *err)
{
	struct logobj o = {.number = number, .epoch = 2};
	struct log_view view;

	log_view(v->log, &view);
	memcpy(o.uuid, v->uuid, 16);
	base_random(o.nonce.b, sizeof(o.nonce.b));
	mtx_lock(&v->batch);
	for (size_t i = 0; i < v->ck.nclaims && v->ck.claims[i] < number; i++) {
		o.epoch++;
		o.claim_before = v->ck.claims[i];
	}
	mtx_unlock(&v->batch);
	o.size = vol_size(v);
	o.window = view.window;
	return put_claim(v->log, &v->env, v->prefix, &o, err);
}

static int rewrite(struct volume *v, const struct repair_range *x)
{
	_cleanup_free_ char *buf = malloc(CHUNK);
	int r = buf == NULL ? -ENOMEM : 0;

	for (uint64_t off = x->off; off < x->off + x->len && r == 0;) {
		size_t n = (size_t)MIN(x->off + x->len - off, (uint64_t)CHUNK);
		ssize_t got = vol_read(v, true, off, buf, n);
		struct iovec iov = {buf, got > 0 ? (size_t)got : 0};

		if (got <= 0)
			return got < 0 ? (int)got : 0; /* behind the end of the image */
		r = vol_write(v, off, &iov, 1, iov.iov_len);
		off += iov.iov_len;
	}
	return r;
}

/* The new map, and enough marks behind it for the deletes to take what it does not need. */
static int new_map(struct volume *v, const struct repair_plan *p)
{
	int r;

	mtx_lock(&v->batch);
	v->table_wanted = !v->table_known;
	if (v->table_wanted)
		vol_start_tending_locked(v);
	r = vol_settle_locked(v);
	for (size_t i = 0; i < p->nalive && r == 0; i++)
		map_set_death(v->map, p->alive[i], 0);
	v->tree = r == 0 ? TREE_WANTED : v->tree;
	for (int i = 0, named = 0; named < CHECKPOINTS && r == 0; i++) {
		v->checkpoint_soon = true;
		cond_broadcast(&v->work);
		r = vol_settle_locked(v);
		/* Only those count that name the new map; the first may have been under way before there was one. */
		named += v->ck.tree_covers > p->tail;
		if (r == 0 && named == 0 && i == CHECKPOINTS)
			r = -EIO;
	}
	mtx_unlock(&v->batch);
	return r;
}

static void why(struct volume *v, struct objerr *err)
{
	mtx_lock(&v->lock);
	if (v->why[0] != '\0' && err->msg[0] == '\0')
		objerr_set(err, "%s", v->why);
	mtx_unlock(&v->lock);
}

int vol_repair(struct volume *v, const struct repair_plan *p, bool zero_lost, struct objerr *err)
{
	struct log_view view;
	int r = vol_own(v);

	if (r < 0) {
		why(v, err);
		return r;
	}
	log_view(v->log, &view);
	mtx_lock(&v->batch);
	/* What was lost then may have been written since: by somebody else, or here, and the journal had it (0: not ours). */
	r = view.claim != p->tail || (v->jseq != 0 && v->jseq != p->jseq) ? -EAGAIN : 0;
	mtx_unlock(&v->batch);
	for (size_t i = 0; i < p->nclaims && r == 0; i++)
		r = make_claim(v, p->claims[i], err);
	for (size_t i = 0; i < p->nlost && r == 0 && zero_lost; i++)
		if (!p->lost[i].page)
			r = vol_discard(v, p->lost[i].off / SECTOR * SECTOR,
					(p->lost[i].len + SECTOR - 1) / SECTOR * SECTOR);
	for (size_t i = 0; i < p->nsalvage && r == 0 && (zero_lost || p->nlost == 0); i++)
		r = rewrite(v, &p->salvage[i]);
	for (size_t i = 0; i < p->nsnaps && r == 0 && zero_lost; i++)
		r = vol_forget_snapshot(v, p->snaps[i], err);
	if (r == 0 || r == -EAGAIN) {
		int drained = vol_drain(v);

		r = drained < 0 ? drained : r;
	}
	if (r == 0)
		r = new_map(v, p);
	if (r < 0)
		why(v, err);
	return r;
}
