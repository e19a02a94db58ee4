/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * orphan.c - uploads that a lost reply left behind.
 *
 * CREATE is not idempotent: a try whose reply was lost may have begun an upload whose id nobody was told. It costs space
 * only when it has parts, and it never has any; but it stays until a lifecycle rule or somebody's question finds it.
 * Nothing of S3 says that it is ours: no listing shows an upload's metadata, so not the nonce either. What is done:
 *
 *   when         CREATE answered,        what                                        how sure
 *                after lost tries
 *   at once      LIST of the key's       candidates: this very key, the initiator    all that the lost tries made are
 *                uploads                 of ours, begun within the time of our       among them, and hardly another's
 *                                        tries by the server's own clock; more
 *                                        of them than tries were lost: another's
 *                                        are among them, so none is touched
 *   our upload   list of each            no part: ABORT; a part: somebody lives,     see below
 *   has ended    candidate's parts       let it alone
 *
 * Why only then: another node's upload of this key, begun before our COMPLETE and not completed by then, is bound to meet
 * the condition that its own COMPLETE carries; it has lost already, whatever we do. Should its first part come after the
 * ABORT, it is told NoSuchUpload, asks what lies there and finds our version: the -ESTALE that it would have had anyway.
 * After an ABORT of ours (no winner yet) it starts its upload anew. So a mistake costs a round of requests, never a byte.
 * A client that is none of ours would have to begin an upload of this key in the same seconds with the same credentials
 * and send nothing of it until ours has ended; it gets an error then, not wrong data.
 *
 * Never adopted, always aborted: two nodes that write into one upload would mix their bytes.
 * What stays for the lifecycle rule: a CREATE that never got an answer, and the tries of a daemon that was killed.
 *
 * Everything here is best effort in the background: no answer of the caller waits for it but the CREATE for its LIST, and
 * orphans_wait() for the end at close.
 */
#include "config.h"
#include "orphan.h"
#include "base/clock.h"
#include <string.h>

#define PATIENCE_NS (10 * NSEC_PER_SEC) /* with each request: an upload that stays is no harm */
#define SLACK_S 2			/* Initiated is in whole seconds on some servers */

struct orphan_set {
	struct list link; /* in known or judged */
	struct orphans *o;
	char *key, *own;
	char **id;
	size_t n, i; /* candidates; the one being judged */
	struct objreq req;
};

void orphans_init(struct orphans *o, struct objstore *via)
{
	o->via = via;
	mtx_init(&o->lock, RANK_RETRY);
	cond_init(&o->judged_all);
	list_init(&o->known);
	list_init(&o->judged);
}

static void set_free(struct orphan_set *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->id[i]);
	free(s->id);
	free(s->key);
	free(s->own);
	free(s);
}

void orphans_done(struct orphans *o)
{
	list_for_each_safe (it, tmp, &o->known)
		set_free(list_entry(it, struct orphan_set, link));
	cond_destroy(&o->judged_all);
	mtx_destroy(&o->lock);
}

/* --- candidates --------------------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static const struct obj_list_entry *find_own(const struct objreq *create, const struct obj_listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->v[i].key, create->key) == 0 && strcmp(l->v[i].upload_id, create->ret_upload_id) == 0)
			return &l->v[i];
	return NULL;
}

static bool is_candidate(const struct obj_list_entry *e, const struct obj_list_entry *own, int64_t took_s)
{
	return e != own && strcmp(e->key, own->key) == 0 && same(e->initiator, own->initiator) &&
	       e->mtime_s >= own->mtime_s - took_s - SLACK_S && e->mtime_s <= own->mtime_s + SLACK_S;
}

void orphans_note(struct orphans *o, const struct objreq *create, const struct obj_listing *l, unsigned lost,
		  int64_t took_ns)
{
	const struct obj_list_entry *own = find_own(create, l);
	struct orphan_set *s;
	size_t n = 0;

	if (own == NULL || own->mtime_s == 0)
		return;
	for (size_t i = 0; i < l->n; i++)
		n += is_candidate(&l->v[i], own, took_ns / NSEC_PER_SEC);
	if (n == 0 || n > lost)
		return;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return;
	s->o = o;
	s->key = strdup(create->key);
	s->own = strdup(create->ret_upload_id);
	s->id = calloc(n, sizeof(*s->id));
	for (size_t i = 0; s->id != NULL && i < l->n; i++)
		if (is_candidate(&l->v[i], own, took_ns / NSEC_PER_SEC)) {
			s->id[s->n] = strdup(l->v[i].upload_id);
			if (s->id[s->n] != NULL)
				s->n++;
		}
	if (s->key == NULL || s->own == NULL || s->n == 0) {
		set_free(s);
		return;
	}
	mtx_lock(&o->lock);
	list_add_tail(&o->known, &s->link);
	mtx_unlock(&o->lock);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void judge_next(struct orphan_set *s);

static void aborted(struct objreq *req)
{
	struct orphan_set *s = req->priv;

	objreq_done(req);
	s->i++;
	judge_next(s);
}

static void parts_known(struct objreq *req)
{
	struct orphan_set *s = req->priv;
	bool empty = req->status == 0 && req->listing->n == 0 && !req->listing->truncated;

	objreq_done(req);
	if (!empty) {
		s->i++;
		judge_next(s);
		return;
	}
	objreq_init(req, OBJ_MPU_ABORT, s->key);
	req->upload_id = s->id[s->i];
	req->prio = OBJ_PRIO_BG;
	req->deadline_ns = clock_now_ns() + PATIENCE_NS;
	req->done = aborted;
	req->priv = s;
	obj_submit(s->o->via, req);
}

/* A store that completes inside submit comes back here: as deep as there are candidates, which are few. */
static void judge_next(struct orphan_set *s)
{
	struct orphans *o = s->o;

	if (s->i == s->n) {
		mtx_lock(&o->lock);
		list_del(&s->link);
		cond_broadcast(&o->judged_all);
		mtx_unlock(&o->lock);
		set_free(s);
		return;
	}
	objreq_init(&s->req, OBJ_MPU_LIST, s->key);
	s->req.upload_id = s->id[s->i];
	s->req.prio = OBJ_PRIO_BG;
	s->req.deadline_ns = clock_now_ns() + PATIENCE_NS;
	s->req.done = parts_known;
	s->req.priv = s;
	obj_submit(o->via, &s->req);
}

void orphans_ended(struct orphans *o, const char *upload_id)
{
	struct orphan_set *s = NULL;

	mtx_lock(&o->lock);
	list_for_each_safe (it, tmp, &o->known) {
		s = list_entry(it, struct orphan_set, link);
		if (strcmp(s->own, upload_id) == 0) {
			list_del(&s->link);
			list_add_tail(&o->judged, &s->link);
			break;
		}
		s = NULL;
	}
	mtx_unlock(&o->lock);
	if (s != NULL)
		judge_next(s);
}

void orphans_wait(struct orphans *o)
{
	mtx_lock(&o->lock);
	while (!list_empty(&o->judged))
		cond_wait(&o->judged_all, &o->lock);
	mtx_unlock(&o->lock);
}
