/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volrepair.c - what an owner does for a repair (repair.h): after an ordinary claim, with the ordinary means. Lost ranges
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
#include <string.h>

enum { CHUNK = 1 << 20, CHECKPOINTS = 3 };

/*
 * A claim that is lost, under its old number. Who claimed then is known by nobody: a nonce that no writer has does as well.
 * Below the newest mark no walk reads it, and for all who wrote before it the number is taken.
 */
static int make_claim(struct volume *v, uint64_t number, struct objerr *err)
{
	struct logobj o = {.type = LOG_CLAIM, .number = number, .epoch = 2, .text = strdup("host=repaired\n")};
	struct log_view view;
	char key[OBJ_KEY_MAX + 1];
	void *bytes = NULL;
	struct objreq req;
	uint32_t crc;
	size_t len;
	int r;

	if (o.text == NULL)
		return -ENOMEM;
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
	o.time_s = clock_real_ns() / NSEC_PER_SEC;
	o.claim_next = number + view.window;
	o.durable = number;
	log_key(v->prefix, number, key);
	objreq_init(&req, OBJ_DELETE, key); /* what is there does not verify as a claim */
	r = log_do(v->log, &req);
	if (r < 0 && r != -ENOENT)
		*err = req.err;
	objreq_done(&req);
	r = r == -ENOENT ? 0 : r;
	if (r == 0)
		r = logobj_encode(&o, NULL, 0, &bytes, &len, &crc);
	if (r == 0)
		r = log_create_object(v->log, number, bytes, len, crc, &o.nonce, NULL);
	free(bytes);
	free(o.text);
	return r;
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

static bool busy_locked(const struct volume *v)
{
	return v->tending || v->cleaning || v->table_wanted || v->checkpoint_soon || v->mark_wanted != 0 || v->tree != TREE_NONE ||
	       v->deletes_due;
}

static int settle_locked(struct volume *v) REQUIRES(v->batch)
{
	while (busy_locked(v) && !v->up_stop)
		cond_wait(&v->work, &v->batch);
	return v->up_stop ? -EIO : 0;
}

/* The new map, and enough marks behind it for the deletes to take what it does not need. */
static int new_map(struct volume *v, const struct repair_plan *p)
{
	int r;

	mtx_lock(&v->batch);
	v->table_wanted = !v->table_known;
	if (v->table_wanted)
		vol_start_tending_locked(v);
	r = settle_locked(v);
	for (size_t i = 0; i < p->nalive && r == 0; i++)
		map_set_death(v->map, p->alive[i], 0);
	for (int i = 0; i < CHECKPOINTS && r == 0; i++) {
		if (i == 0)
			v->tree = TREE_WANTED;
		v->checkpoint_soon = true;
		cond_broadcast(&v->work);
		r = settle_locked(v);
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
	int r = vol_own(v);

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
	if (r == 0)
		r = vol_drain(v);
	if (r == 0)
		r = new_map(v, p);
	if (r < 0)
		why(v, err);
	return r;
}
