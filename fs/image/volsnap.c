/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volsnap.c - snapshots: records of the log that name a state of the image, and the way back to one.
 *
 * A snapshot's record carries a checkpoint and the last digest, so that its root needs no header but those of the
 * digests before (T18). The uploader gives it its number between two objects: what was acknowledged before the
 * command is in objects below it then. It is done when it is committed; its mark follows as any checkpoint's.
 *
 *	delete	refs? refuse -> unsnap record: the name is gone -> gone/<s>: no clone from here on -> refs again, none ->
 *		free record: only that lets objects go (C3)
 *	back	a snapshot of the present; everything is in the log and nothing runs; the rollback record: map and size
 *		are those of the snapshot; release. Deaths since then are forgotten with the map that knew them (T16):
 *		whoever attaches has those of the snapshot's own tree
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/failpoint.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LIST_TRIES = 3 };

bool vol_snap_name_ok(const char *name)
{
	return log_snap_name_ok(name);
}

void vol_snap_name_now(char out[VOL_SNAP_NAME_MAX + 1])
{
	time_t t = (time_t)(clock_real_ns() / NSEC_PER_SEC);
	struct tm tm;
	uint16_t salt;

	base_random(&salt, sizeof(salt));
	if (gmtime_r(&t, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	(void)snprintf(out, VOL_SNAP_NAME_MAX + 1, "before-rollback-%04d%02d%02d-%02d%02d%02d-%04x", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, salt);
}

/* ---- what is known of them ---- */

static struct vol_snapinfo *info_of(const struct volume *v, uint64_t number)
{
	for (size_t i = 0; i < v->nsnap; i++)
		if (v->snap[i].snap.number == number)
			return &v->snap[i];
	return NULL;
}

static struct log_snap *listed(struct volume *v, uint64_t number)
{
	for (size_t i = 0; i < v->ck.nsnaps; i++)
		if (v->ck.snaps[i].number == number)
			return &v->ck.snaps[i];
	return NULL;
}

void vol_forget_snapshots(struct volume *v)
{
	for (size_t i = 0; i < v->nsnap; i++)
		free(v->snap[i].digests);
	free(v->snap);
	v->snap = NULL;
	v->nsnap = v->capsnap = 0;
}

/* o: the record, with its checkpoint. */
static int learn(struct volume *v, const struct logobj *o)
{
	const struct log_checkpoint *c = o->checkpoint;
	struct vol_snapinfo n = {.snap = {.number = o->number, .size = c->size, .time = o->snap_time},
				 .ndigests = c->ndigests};

	if (info_of(v, o->number) != NULL)
		return 0;
	if (v->nsnap == v->capsnap) {
		size_t cap = v->capsnap * 2 + 8;
		struct vol_snapinfo *p = reallocarray(v->snap, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		v->snap = p;
		v->capsnap = cap;
	}
	n.digests = calloc(c->ndigests + 1, sizeof(*n.digests));
	if (n.digests == NULL)
		return -ENOMEM;
	if (c->ndigests > 0)
		memcpy(n.digests, c->digests, c->ndigests * sizeof(*n.digests));
	(void)snprintf(n.snap.name, sizeof(n.snap.name), "%s", o->snap_name);
	v->snap[v->nsnap++] = n;
	return 0;
}

static int list_add(struct volume *v, uint64_t number)
{
	if (v->ck.nsnaps == v->capsnaps) {
		size_t cap = v->capsnaps * 2 + 8;
		struct log_snap *p = reallocarray(v->ck.snaps, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		v->ck.snaps = p;
		v->capsnaps = cap;
	}
	v->ck.snaps[v->ck.nsnaps++] = (struct log_snap){.number = number};
	return 0;
}

static void list_remove(struct volume *v, struct log_snap *s)
{
	struct vol_snapinfo *i = info_of(v, s->number);

	if (i != NULL) {
		free(i->digests);
		*i = v->snap[--v->nsnap];
	}
	memmove(s, s + 1, (size_t)(v->ck.snaps + v->ck.nsnaps - s - 1) * sizeof(*s));
	v->ck.nsnaps--;
}

int vol_see_snapshot(struct volume *v, const struct logobj *o)
{
	struct log_snap *s = o->target != 0 ? listed(v, o->target) : NULL;
	int r;

	if (o->type == LOG_SNAPSHOT) {
		r = learn(v, o);
		return r == 0 && listed(v, o->number) == NULL ? list_add(v, o->number) : r;
	}
	if (s != NULL && o->type == LOG_UNSNAP && RULE(C3_FREE))
		s->flags |= SNAP_HIDDEN;
	else if (s != NULL && (o->type == LOG_FREE || o->type == LOG_UNSNAP)) /* the latter with C3_FREE off */
		list_remove(v, s);
	return 0;
}

static int on_record(void *arg, const struct logobj *o)
{
	struct volume *v = arg;
	int r;

	if (o->type != LOG_SNAPSHOT)
		return -EUCLEAN;
	mtx_lock(&v->batch);
	r = learn(v, o);
	mtx_unlock(&v->batch);
	return r;
}

/* Reads the records of all that are listed and not known yet. The list does not change meanwhile but at its end. */
int vol_know_snapshots(struct volume *v, struct objerr *err)
{
	uint64_t *unknown = NULL;
	size_t n = 0;
	int r = 0;

	mtx_lock(&v->batch);
	unknown = calloc(v->ck.nsnaps + 1, sizeof(*unknown));
	for (size_t i = 0; unknown != NULL && i < v->ck.nsnaps; i++)
		if (info_of(v, v->ck.snaps[i].number) == NULL)
			unknown[n++] = v->ck.snaps[i].number;
	mtx_unlock(&v->batch);
	if (unknown == NULL)
		return -ENOMEM;
	if (n > 0)
		r = log_heads(v->log, unknown, n, on_record, v, err);
	free(unknown);
	return r;
}

int vol_pin_snapshots(struct volume *v, struct vol_point *p)
{
	struct objerr err = {0};
	size_t cap = p->ndigests;
	int r = p->nsnaps > 0 && RULE(T18_ROOT) ? vol_know_snapshots(v, &err) : 0;

	if (r < 0) {
		vol_note(v, "nothing is deleted, a snapshot's record cannot be read: %s", err.msg);
		return r;
	}
	mtx_lock(&v->batch);
	for (size_t i = 0; i < p->nsnaps && r == 0 && RULE(T18_ROOT); i++) {
		const struct vol_snapinfo *s = info_of(v, p->snaps[i].number);

		/* Freed since: the next pass, by a later point, does not have it. */
		if (s == NULL)
			r = -EAGAIN;
		for (size_t k = 0; r == 0 && k < s->ndigests; k++)
			r = vol_append_u64(&p->digests, &p->ndigests, &cap, s->digests[k]);
	}
	mtx_unlock(&v->batch);
	return r;
}

/* ---- a record of its own ---- */

static bool is_checkpoint(const struct vol_record *rec)
{
	return rec->o.type == LOG_SNAPSHOT;
}

bool vol_record_due_locked(const struct volume *v)
{
	return v->record != NULL && !v->record->taken && v->record->o.type != 0 && (v->sealed_jseq >= v->record->upto || !RULE(S_AFTER)) &&
	       (!is_checkpoint(v->record) || v->mark_wanted == 0);
}

/* Number, contents and consequences, at one moment. */
static int take_locked(struct volume *v, struct vol_record *rec, struct vol_ckpt *c, struct vol_put *u)
{
	struct page_object p = {.type = rec->o.type};
	int r = 0;

	rec->o.number = p.number = log_take(v->log);
	rec->o.jseq = v->sealed_jseq;
	rec->o.size = v->sealed_size;
	p.death = p.number + 2;
	if (is_checkpoint(rec))
		r = vol_checkpoint_locked(v, c, &rec->o, p.number);
	if (r == 0)
		r = map_note_object(v->map, &p);
	if (r == 0)
		r = vol_see_snapshot(v, &rec->o);
	if (r == 0)
		vol_put_begin_locked(v, u, &rec->o);
	return r;
}

int vol_put_record(struct volume *v)
{
	struct vol_put *u = calloc(1, sizeof(*u));
	struct vol_record *rec;
	struct vol_ckpt c = {0};
	int r;

	if (u == NULL) {
		log_unreserve(v->log);
		return -ENOMEM;
	}
	mtx_lock(&v->batch);
	rec = v->record;
	r = take_locked(v, rec, &c, u);
	mtx_unlock(&v->batch);
	if (r == 0)
		r = vol_put_object(v, u, &rec->o, NULL);
	else
		free(u);
	vol_ckpt_done(&c);
	rec->o.digest = NULL;
	rec->o.checkpoint = NULL;
	if (r < 0)
		return r;
	mtx_lock(&v->batch);
	rec->taken = true;
	/* What it lets go, or begins to keep, shall be known to the next marks though nobody writes. */
	v->active_at = clock_now_ns();
	v->idle_rounds = v->age_rounds = 0;
	if (rec->o.type == LOG_FREE) { /* there may be something to gain again, though nobody wrote */
		v->clean_idle = false;
		v->guest_at = v->guest_at != 0 ? v->guest_at : v->active_at;
	}
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
	return 0;
}

/* The place of the one record that may be wanted at a time. */
static int reserve_record(struct volume *v, struct vol_record *rec)
{
	int r;

	mtx_lock(&v->batch);
	while (v->record != NULL && v->up)
		cond_wait(&v->work, &v->batch);
	r = v->up ? 0 : -EIO;
	if (r == 0)
		v->record = rec;
	mtx_unlock(&v->batch);
	return r;
}

static void unreserve_record(struct volume *v)
{
	mtx_lock(&v->batch);
	v->record = NULL;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

/* o: type, and what the type has. Waits until the record is committed. The place is reserved. */
static int put_record(struct volume *v, struct vol_record *rec, const struct logobj *o)
{
	int r;

	mtx_lock(&v->batch);
	r = vol_close_batch_locked(v);
	rec->upto = v->jseq;
	rec->taken = false;
	rec->o = *o;
	v->draining++; /* what comes before it is sent at once */
	cond_broadcast(&v->work);
	while (r == 0 && !rec->taken && v->up)
		cond_wait(&v->work, &v->batch);
	v->draining--;
	r = r == 0 && !rec->taken ? -EIO : r;
	rec->o.type = 0;
	mtx_unlock(&v->batch);
	return r == 0 ? log_wait_committed(v->log, rec->o.number) : r;
}

static void say_why(struct volume *v, struct objerr *err)
{
	mtx_lock(&v->lock);
	if (v->why[0] != '\0')
		objerr_set(err, "%s", v->why);
	mtx_unlock(&v->lock);
}

static int own(struct volume *v, struct objerr *err)
{
	int r = vol_own(v);

	if (r < 0)
		say_why(v, err);
	return r;
}

/* 0: there is none that shows. batch held. */
static uint64_t find_locked(struct volume *v, const char *name)
{
	for (size_t i = 0; i < v->ck.nsnaps; i++) {
		const struct vol_snapinfo *s = info_of(v, v->ck.snaps[i].number);

		if (s != NULL && (v->ck.snaps[i].flags & SNAP_HIDDEN) == 0 && strcmp(s->snap.name, name) == 0)
			return s->snap.number;
	}
	return 0;
}

uint64_t vol_find_snapshot(struct volume *v, const char *name)
{
	uint64_t n;

	mtx_lock(&v->batch);
	n = find_locked(v, name);
	mtx_unlock(&v->batch);
	return n;
}

/* ---- what users ask for ---- */

int vol_snapshot(struct volume *v, const char *name, uint64_t *ret_number, struct objerr *err)
{
	struct logobj o = {
	    .type = LOG_SNAPSHOT, .snap_name = (char *)name, .snap_time = clock_real_ns() / NSEC_PER_SEC};
	struct vol_record rec = {0};
	int r;

	if (!vol_snap_name_ok(name)) {
		objerr_set(err, "'%s' is no name of a snapshot: 1 to %d of A-Z a-z 0-9 . _ -", name, VOL_SNAP_NAME_MAX);
		return -EINVAL;
	}
	r = own(v, err);
	if (r == 0)
		r = reserve_record(v, &rec);
	if (r < 0)
		return r;
	r = vol_know_snapshots(v, err);
	if (r == 0 && vol_find_snapshot(v, name) != 0) {
		objerr_set(err, "there is a snapshot '%s' already", name);
		r = -EEXIST;
	}
	if (r == 0) {
		r = put_record(v, &rec, &o);
		if (r < 0)
			say_why(v, err);
	}
	unreserve_record(v);
	if (r == 0)
		*ret_number = rec.o.number;
	return r;
}

/* Those that are known. */
static int copy_list(struct volume *v, struct vol_snap **ret, size_t *ret_n)
{
	struct vol_snap *s;
	size_t n = 0;

	mtx_lock(&v->batch);
	s = calloc(v->ck.nsnaps + 1, sizeof(*s));
	for (size_t i = 0; s != NULL && i < v->ck.nsnaps; i++) {
		const struct vol_snapinfo *k = info_of(v, v->ck.snaps[i].number);

		if (k == NULL) /* made since: it was not there when we were asked */
			continue;
		s[n] = k->snap;
		s[n++].hidden = (v->ck.snaps[i].flags & SNAP_HIDDEN) != 0;
	}
	mtx_unlock(&v->batch);
	if (s == NULL)
		return -ENOMEM;
	*ret = s;
	*ret_n = n;
	return 0;
}

static int list_once(struct volume *v, struct vol_snap **ret, size_t *ret_n, struct objerr *err)
{
	int held = vol_hold_follower(v), r;

	if (held < 0) {
		say_why(v, err);
		return held;
	}
	r = vol_know_snapshots(v, err);
	if (r == 0)
		r = copy_list(v, ret, ret_n);
	if (held == 0)
		vol_let_follower(v);
	return r == -ENOENT && held == 0 ? -ESTALE : r;
}

int vol_snapshots(struct volume *v, struct vol_snap **ret, size_t *ret_n, struct objerr *err)
{
	uint64_t remapped;
	int r = vol_refresh(v);

	if (r < 0) {
		say_why(v, err);
		return r;
	}
	r = list_once(v, ret, ret_n, err);
	/* A follower pins nothing: one may have been freed since. */
	for (int i = 0; r == -ESTALE && i < LIST_TRIES; i++) {
		mtx_lock(&v->lock);
		remapped = v->remapped;
		mtx_unlock(&v->lock);
		r = vol_attach_again(v, remapped);
		if (r == 0)
			r = list_once(v, ret, ret_n, err);
	}
	return r == -ESTALE ? -EIO : r;
}

/* Snapshots whose names are gone, once no clone refers to them. */
static int free_hidden(struct volume *v, struct vol_record *rec, struct objerr *err)
{
	struct logobj o = {.type = LOG_FREE};
	uint64_t after = 0;
	int r = 0;

	while (r == 0) {
		bool refs = true;

		o.target = 0;
		mtx_lock(&v->batch);
		for (size_t i = 0; i < v->ck.nsnaps && o.target == 0; i++)
			if (v->ck.snaps[i].number > after && (v->ck.snaps[i].flags & SNAP_HIDDEN) != 0)
				o.target = after = v->ck.snaps[i].number;
		mtx_unlock(&v->batch);
		if (o.target == 0)
			break;
		if (RULE(C3_ORDER))
			r = log_put_gone(v->log, o.target, err);
		FAILPOINT("image.unsnap-gone");
		refs = RULE(C3_LIST);
		if (r == 0 && refs)
			r = log_has_refs(v->log, o.target, &refs, err); /* again (C2) */
		if (r == 0 && !RULE(C3_ORDER))
			r = log_put_gone(v->log, o.target, err);
		if (r == 0 && !refs)
			r = put_record(v, rec, &o);
	}
	return r;
}

int vol_free_hidden(struct volume *v, struct objerr *err)
{
	struct vol_record rec = {0};
	bool any = false;
	int r;

	mtx_lock(&v->batch);
	for (size_t i = 0; i < v->ck.nsnaps; i++)
		any = any || (v->ck.snaps[i].flags & SNAP_HIDDEN) != 0;
	mtx_unlock(&v->batch);
	if (!any)
		return 0;
	r = reserve_record(v, &rec);
	if (r < 0)
		return r;
	r = free_hidden(v, &rec, err);
	unreserve_record(v);
	return r;
}

int vol_unsnap(struct volume *v, const char *name, struct objerr *err)
{
	struct logobj o = {.type = LOG_UNSNAP};
	struct vol_record rec = {0};
	bool refs = true;
	int r = own(v, err);

	if (r == 0)
		r = reserve_record(v, &rec);
	if (r < 0)
		return r;
	r = vol_know_snapshots(v, err);
	o.target = r == 0 ? vol_find_snapshot(v, name) : 0;
	if (r == 0 && o.target == 0) {
		objerr_set(err, "there is no snapshot '%s'", name);
		r = -ENOENT;
	}
	if (r == 0)
		r = log_has_refs(v->log, o.target, &refs, err);
	if (r == 0 && refs) {
		objerr_set(err, "a clone was made of snapshot '%s': delete that first", name);
		r = -EBUSY;
	}
	if (r == 0)
		r = put_record(v, &rec, &o);
	FAILPOINT("image.unsnap-hidden");
	if (r == 0)
		r = free_hidden(v, &rec, err);
	if (r == -EIO)
		say_why(v, err);
	unreserve_record(v);
	return r;
}

int vol_forget_snapshot(struct volume *v, uint64_t number, struct objerr *err)
{
	struct logobj o = {.type = LOG_FREE, .target = number};
	struct vol_record rec = {0};
	bool refs = true;
	int r = reserve_record(v, &rec);

	if (r < 0)
		return r;
	r = log_put_gone(v->log, number, err);
	if (r == 0)
		r = log_has_refs(v->log, number, &refs, err);
	if (r == 0 && refs) {
		objerr_set(err, "a clone was made of snapshot %016" PRIx64 ": delete that first", number);
		r = -EBUSY;
	}
	if (r == 0)
		r = put_record(v, &rec, &o);
	if (r == -EIO)
		say_why(v, err);
	unreserve_record(v);
	return r;
}

/* ---- back ---- */

struct back {
	struct logobj to;    /* the snapshot's record; or one like it of a position, which is never written */
	uint64_t target;     /* what the record says for people */
	struct vol_ckpt ckpt; /* position: what `to` points to */
	struct objerr *err;
};

int vol_read_snapshot(struct volume *v, uint64_t number, struct logobj *ret, struct objerr *err)
{
	struct logobj o = {0};
	int r = log_head(v->log, number, &o, err);

	if (r == 0 && (o.type != LOG_SNAPSHOT || o.digest == NULL)) {
		objerr_set(err, "log object %016" PRIx64 " is no snapshot, or has no digest", number);
		r = -EUCLEAN;
	}
	if (r == 0)
		*ret = o;
	else
		logobj_free(&o);
	return r;
}

int vol_take_root(const struct logobj *snapshot, uint64_t number, struct log_checkpoint *ret)
{
	const struct log_checkpoint *c = snapshot->checkpoint;
	uint64_t *digests = calloc(c->ndigests + 1, sizeof(*digests));
	size_t n = 0;

	if (digests == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->ndigests; i++)
		if (c->digests[i] != snapshot->number)
			digests[n++] = c->digests[i];
	digests[n++] = number; /* what the snapshot's record carries itself */
	*ret = (struct log_checkpoint){.tree_covers = c->tree_covers,
				       .root = c->root,
				       .objects = c->objects,
				       .allocated = c->allocated,
				       .size = c->size,
				       .digests = digests,
				       .ndigests = n};
	return 0;
}

/* The checkpoint of the snapshot, as the present log would say it. */
static int back_checkpoint(struct volume *v, const struct logobj *to, uint64_t number, struct log_checkpoint *c)
{
	struct log_view view;
	int r = vol_take_root(to, number, c);

	log_view(v->log, &view);
	c->claim = view.claim;
	c->epoch = view.epoch;
	c->nonce = view.nonce;
	c->jseq = v->sealed_jseq;
	c->first = v->ck.first;
	c->before = v->last_checkpoint;
	c->nclaims = v->ck.nclaims;
	c->claims = v->ck.claims;
	c->nsnaps = RULE(S_LIST) ? v->ck.nsnaps : to->checkpoint->nsnaps;
	c->snaps = RULE(S_LIST) ? v->ck.snaps : to->checkpoint->snaps;
	return r;
}

static int back_put(struct volume *v, const struct back *b, uint64_t *ret_number)
{
	struct vol_put *u = calloc(1, sizeof(*u));
	struct logobj o = {.type = LOG_ROLLBACK, .target = b->target};
	const struct logobj *to = &b->to;
	struct log_checkpoint c = {0};
	struct log_digest d = *to->digest;
	int r = u == NULL ? -ENOMEM : log_reserve(v->log);

	if (r < 0) {
		free(u);
		return r;
	}
	mtx_lock(&v->batch);
	o.number = log_take(v->log);
	o.jseq = v->sealed_jseq;
	o.size = v->sealed_size = to->checkpoint->size;
	d.end = o.number; /* what came between has no effect any more */
	vol_say_floor_locked(v, &o);
	r = back_checkpoint(v, to, o.number, &c);
	o.checkpoint = &c;
	o.digest = &d;
	if (r == 0)
		vol_put_begin_locked(v, u, &o);
	mtx_unlock(&v->batch);
	if (r == 0)
		r = vol_put_object(v, u, &o, NULL);
	else
		free(u);
	free(c.digests);
	if (r == 0)
		r = log_wait_committed(v->log, o.number);
	mtx_lock(&v->batch);
	while (v->puts != NULL)
		cond_wait(&v->work, &v->batch);
	mtx_unlock(&v->batch);
	if (r == 0)
		*ret_number = o.number;
	return r;
}

/* The volume is still: everything is in the log, nothing is under way, and nobody else gives numbers. */
static int go_back(struct volume *v, void *arg)
{
	struct back *b = arg;
	uint64_t number;
	int r = 0;

	if (v->mark_wanted != 0)
		r = log_mark(v->log, v->mark_wanted); /* no checkpoint before this is answered (T13) */
	v->mark_wanted = 0;
	if (r == 0)
		r = back_put(v, b, &number);
	return r == 0 ? log_mark(v->log, number) : r;
}

static int only_writer(struct volume *v, struct objerr *err)
{
	int r;

	mtx_lock(&v->lock);
	r = v->writers > 1 ? -EBUSY : 0;
	mtx_unlock(&v->lock);
	if (r < 0)
		objerr_set(err, "somebody has the image open for writing");
	return r;
}

/* The present is kept, then the record. */
static int back(struct volume *v, struct back *b, const char *now)
{
	uint64_t ignored;
	int r = vol_snapshot(v, now, &ignored, b->err);

	if (r == 0)
		r = vol_let_go_after(v, go_back, b);
	if (r == 0)
		r = vol_refresh(v);
	if (r < 0)
		say_why(v, b->err);
	return r;
}

int vol_rollback(struct volume *v, const char *name, const char *now, struct objerr *err)
{
	struct back b = {.err = err};
	uint64_t number;
	int r = own(v, err);

	if (r == 0)
		r = only_writer(v, err);
	if (r == 0)
		r = vol_know_snapshots(v, err);
	if (r < 0)
		return r;
	number = vol_find_snapshot(v, name);
	if (number == 0) {
		objerr_set(err, "there is no snapshot '%s'", name);
		return -ENOENT;
	}
	r = vol_read_snapshot(v, number, &b.to, err);
	if (r < 0)
		return r;
	b.target = number;
	r = back(v, &b, now);
	logobj_free(&b.to);
	return r;
}

/* ---- back to a position ----
 *
 * The log is walked once more, as far as the position: tree, digests, and what came since in one more digest are what a
 * checkpoint right behind it would say, and the record is that one, as it is a snapshot's. Everything which that map
 * points to is there: the log says from which position on nobody deletes what a state needs, or has sent such a delete
 * ever (T17, volretain.c). From when that is looked at until the record is there nothing is deleted, for the snapshot of the
 * present, which comes between, is a checkpoint, too.
 */
/* Is it an object of the log, and one from which on nothing is deleted that its state needs? -ERANGE. */
static int is_position(struct volume *v, uint64_t number, struct objerr *err)
{
	uint64_t floor, claim = 0, next = 0;
	struct logobj o = {0};
	struct log_view view;
	bool retains;
	int r = 0;

	log_view(v->log, &view);
	mtx_lock(&v->batch);
	floor = v->floor;
	retains = vol_retains(v) != 0;
	for (size_t i = 0; i < v->ck.nclaims; i++)
		claim = v->ck.claims[i] < number ? v->ck.claims[i] : claim;
	mtx_unlock(&v->batch);
	if (number < floor) {
		objerr_set(err, "the log can be walked from its %s %" PRIu64 " on, %" PRIu64 " is before that",
			   retains ? "oldest kept checkpoint" : "newest checkpoint", floor, number);
		return -ERANGE;
	}
	if (number < view.tail && claim != 0)
		r = log_head(v->log, claim, &o, err);
	if (r < 0)
		return r;
	next = o.claim_next; /* what lies between is void */
	logobj_free(&o);
	if (number >= view.tail || number < next) {
		objerr_set(err, "the log, from %" PRIu64 " on, has no object %" PRIu64, floor, number);
		return -ERANGE;
	}
	return 0;
}

static int read_position(struct volume *v, uint64_t number, struct back *b, struct volume **ret)
{
	struct volume *at;
	int r = is_position(v, number, b->err);

	if (r == 0)
		r = vol_open_position(&v->env, v->prefix, v->uuid, number + 1, &at, b->err);
	if (r < 0)
		return r;
	mtx_lock(&at->batch);
	at->sealed_size = at->size;
	/* Whichever it gets: number + 1 may be a checkpoint, and among the digests. */
	b->to.number = UINT64_MAX;
	b->target = number;
	r = vol_checkpoint_locked(at, &b->ckpt, &b->to, UINT64_MAX);
	mtx_unlock(&at->batch);
	if (r == 0)
		*ret = at;
	else
		ignore(vol_close(at)); /* nothing was written */
	return r;
}

static void keep_all(struct volume *v, bool keeps)
{
	mtx_lock(&v->batch);
	v->keeps = keeps;
	v->deletes_due = v->deletes_due || !keeps; /* they are looked at again */
	mtx_unlock(&v->batch);
}

int vol_rollback_to(struct volume *v, uint64_t number, const char *now, struct objerr *err)
{
	struct back b = {.err = err};
	struct volume *at;
	int r = own(v, err);

	if (r == 0)
		r = only_writer(v, err);
	if (r < 0)
		return r;
	keep_all(v, true);
	r = read_position(v, number, &b, &at);
	if (r == 0) {
		r = back(v, &b, now);
		ignore(vol_close(at)); /* nothing was written */
	}
	vol_ckpt_done(&b.ckpt);
	keep_all(v, false);
	return r;
}
