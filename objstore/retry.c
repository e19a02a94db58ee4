/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * retry.c - tries again, and finds out what became of a change whose answer was lost. Nobody else in the tree does
 * either.
 *
 * States of a request:
 *
 *   state     is where                   leaves by
 *   WAITING   in the timer's list        the timer, when due -> TRYING
 *   TRYING    in the store below         its answer -> final | WAITING | ASKING
 *   ASKING    a HEAD of ours is below    its answer -> final
 *   LOOKING   an MPU_LIST of ours is     its answer -> WAITING | ASKING | final
 *   (final)   the caller's               done()
 *
 * What is tried again: -EAGAIN, -ETIMEDOUT, -ECONNRESET, -ECONNREFUSED, -EHOSTUNREACH, and -EBADMSG a few times; with
 * jittered exponential delays until the request's deadline. Everything else is the answer.
 *
 * Ambiguity. A try is *unanswered* when it may have changed the bucket although it failed: time-out, reset, 5xx, a
 * reply that cannot be read. After an unanswered try of the same request
 *
 *   operation                      then says      means
 *   PUT, COPY, COMPLETE            -ESTALE        ours got there, or another's: HEAD, compare the nonce
 *   COMPLETE                       -ENOENT        upload gone, because completed or aborted: HEAD, compare the nonce
 *   DELETE if_match                -ESTALE        HEAD: absent = ours; there = another's, made since
 *   any                            another error  failed with maybe_done
 *
 * Ceph RGW answers 500 for ever to a COMPLETE whose upload is gone. So after some of these a COMPLETE looks for its
 * upload in the list of uploads; one that is not there counts as -ENOENT.
 *
 * The nonce is 128 random bits that go with each conditional PUT as x-amz-meta-lsvd-put; it names this request and no
 * other, so equal means that what lies there is ours. An -ESTALE to a first try is never ours and never asked about. A
 * COPY that keeps the source's headers cannot carry one: its -ESTALE goes up with maybe_done.
 * MPU_CREATE is not idempotent: after an unanswered try there may be an upload that nobody knows. Once a try is answered,
 * the uploads of the key are listed, and orphan.c removes what is left when the upload has ended.
 *
 * Slow-down. 503 and 429 concern everybody: a shared "not before" time moves on, doubling while such answers keep
 * coming in and halving again with successes; tries that are due earlier wait and come back spread out.
 *
 * Threads: one timer thread submits what is due. A completion submits nothing but the MPU_LIST and the HEAD, once each,
 * and what removes orphans: stores that complete inside submit cannot recurse without end.
 */
#include "config.h"
#include "objstore.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/str.h"
#include "base/table.h"
#include "orphan.h"
#include "store-private.h"
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define BACKOFF_BASE_NS (100 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS (10 * NSEC_PER_SEC)
#define SLOW_BASE_NS (100 * NSEC_PER_MSEC)
#define SLOW_MAX_NS (5 * NSEC_PER_SEC)
#define SLOW_MAX_LEVEL 7
#define LOOK_TRIES 4 /* tries of a COMPLETE that end in 500 before it looks for its upload */
#define TWINS_NS (10 * NSEC_PER_SEC) /* patience with the list of uploads after a CREATE */
#define BADMSG_TRIES 4 /* a reply that stays broken is not worth the whole deadline */

struct retry_store {
	struct objstore s;
	int64_t timeout_ns; /* set at the start */
	pthread_t timer;    /* set at the start */
	struct mtx lock;    /* RANK_RETRY */
	struct orphans orphans;
	struct cond changed; /* the list's head or stopping changed: signalled by enqueue and close */
	/* under lock */
	struct list waiting; /* struct attempt, by due_ns */
	bool stopping;
	bool seeded;
	uint64_t rng;
	int64_t not_before_ns; /* slow-down: nobody tries earlier */
	unsigned slow_level;
};

/* One request under way. */
struct attempt {
	struct list link; /* in waiting */
	int64_t due_ns;
	struct retry_store *rs;
	struct objreq *req;
	void (*done)(struct objreq *req); /* the caller's */
	void *priv;
	int64_t asked_deadline_ns, start_ns, deadline_ns;
	unsigned tries, lost; /* lost: unanswered ones */
	bool unanswered;    /* an earlier try, or this one, may have done it */
	bool looked;	    /* for its upload */
	int refused;	    /* the status that a HEAD is to explain */
	struct objreq head; /* that HEAD, or the MPU_LIST */
};

/* --- randomness, delays ------------------------------------------------------------------------------------------- */

static uint64_t random_locked(struct retry_store *rs)
{
	uint64_t v;

	if (!rs->seeded) {
		base_random(&v, sizeof(v));
		return v;
	}
	rs->rng += 0x9e3779b97f4a7c15ULL;
	return hash_u64(rs->rng);
}

static void fill_nonce(struct retry_store *rs, char *nonce)
{
	uint64_t r[2];

	mtx_lock(&rs->lock);
	r[0] = random_locked(rs);
	r[1] = random_locked(rs);
	mtx_unlock(&rs->lock);
	(void)snprintf(nonce, OBJ_NONCE_LEN + 1, "%016" PRIx64 "%016" PRIx64, r[0], r[1]);
}

static void note_slow_down(struct retry_store *rs)
{
	int64_t now = clock_now_ns(), d;

	mtx_lock(&rs->lock);
	/* What was under way when the wall went up fails too: one wall, one step. */
	if (now >= rs->not_before_ns) {
		rs->slow_level = MIN(rs->slow_level + 1, SLOW_MAX_LEVEL);
		d = clock_backoff_ns(rs->slow_level, SLOW_BASE_NS, SLOW_MAX_NS, (uint32_t)random_locked(rs));
		rs->not_before_ns = now + d;
		if (rs->s.stats != NULL)
			rs->s.stats->slowdowns++;
	}
	mtx_unlock(&rs->lock);
}

static void note_success(struct retry_store *rs)
{
	int64_t now = clock_now_ns();

	mtx_lock(&rs->lock);
	/* One step down for each SLOW_BASE_NS without a refusal, however many succeed in it. */
	if (rs->slow_level > 0 && now >= rs->not_before_ns + SLOW_BASE_NS) {
		rs->slow_level--;
		rs->not_before_ns = now;
	}
	mtx_unlock(&rs->lock);
}

/* --- tries -------------------------------------------------------------------------------------------------------- */

static void attempt_done(struct objreq *req);

static void try_now(struct attempt *a)
{
	a->tries++;
	a->req->done = attempt_done;
	a->req->priv = a;
	a->req->deadline_ns = a->deadline_ns;
	obj_submit(a->rs->s.inner, a->req);
}

static void enqueue_locked(struct retry_store *rs, struct attempt *a)
{
	struct list *p = rs->waiting.prev;

	/* From the back: delays are alike, so the place is near. */
	while (p != &rs->waiting && list_entry(p, struct attempt, link)->due_ns > a->due_ns)
		p = p->prev;
	list_add_head(p, &a->link);
	cond_signal(&rs->changed);
}

/* Earliest time for a try, with the slow-down in it. */
static int64_t due_locked(struct retry_store *rs, int64_t want_ns)
{
	int64_t wall = rs->not_before_ns;

	if (want_ns >= wall)
		return want_ns;
	/* Come back one after the other over half the wall's length, not all at once. */
	return wall + (int64_t)(random_locked(rs) % (uint64_t)(SLOW_BASE_NS << MAX(rs->slow_level, 1u) >> 1));
}

static void *timer_thread(void *arg)
{
	struct retry_store *rs = arg;

	mtx_lock(&rs->lock);
	while (!rs->stopping) {
		struct attempt *a;

		if (list_empty(&rs->waiting)) {
			cond_wait(&rs->changed, &rs->lock);
			continue;
		}
		a = list_entry(rs->waiting.next, struct attempt, link);
		if (clock_now_ns() < a->due_ns) {
			(void)cond_wait_until(&rs->changed, &rs->lock, a->due_ns);
			continue;
		}
		list_del(&a->link);
		mtx_unlock(&rs->lock);
		try_now(a);
		mtx_lock(&rs->lock);
	}
	mtx_unlock(&rs->lock);
	return NULL;
}

/* --- outcomes ----------------------------------------------------------------------------------------------------- */

static void finish(struct attempt *a, int status)
{
	struct objreq *req = a->req;

	if (status < 0 && a->unanswered)
		req->maybe_done = true;
	if (status == 0 && (req->op == OBJ_MPU_COMPLETE || req->op == OBJ_MPU_ABORT))
		orphans_ended(&a->rs->orphans, req->upload_id);
	req->done = a->done;
	req->priv = a->priv;
	req->deadline_ns = a->asked_deadline_ns;
	free(a);
	objreq_finish(req, status);
}

static bool is_conditional(const struct objreq *req)
{
	return req->if_match != NULL || req->if_none_match_any;
}

/* May this failed try have changed the bucket? */
static bool is_unanswered(const struct objreq *req)
{
	int http = req->err.http;

	if (!obj_op_writes(req->op))
		return false;
	if (req->maybe_done)
		return true;
	switch (req->status) {
	case -ETIMEDOUT:
	case -ECONNRESET:
	case -EBADMSG:
	case -EIO:
		return true;
	case -EAGAIN:
		/* 429 and 409 are refusals; 503 should be one, but a proxy may say it for a store that went on. */
		return http == 0 || http >= 500;
	default:
		return false;
	}
}

static bool is_retryable(const struct attempt *a)
{
	switch (a->req->status) {
	case -EAGAIN:
	case -ETIMEDOUT:
	case -ECONNRESET:
		return true;
	case -ECONNREFUSED:
	case -EHOSTUNREACH:
		return !a->req->fail_fast;
	case -EBADMSG:
		return a->tries < BADMSG_TRIES;
	default:
		return false;
	}
}

/* Does this answer, after an unanswered try, leave open who did it? */
static bool is_ambiguous(const struct attempt *a)
{
	const struct objreq *req = a->req;
	bool refused = req->status == -ESTALE && is_conditional(req);

	if (!a->unanswered)
		return false;
	switch (req->op) {
	case OBJ_PUT:
		return refused && req->nonce[0] != '\0';
	case OBJ_COPY:
		/* A source condition can be what failed; then the nonce is not there, and -ESTALE stands. */
		return req->status == -ESTALE && req->headers != NULL && req->nonce[0] != '\0';
	case OBJ_MPU_COMPLETE:
		return (refused || req->status == -ENOENT) && req->nonce[0] != '\0';
	case OBJ_DELETE:
		return refused;
	default:
		return false;
	}
}

/* The words of the last try, and that there were others. */
static void say_gave_up(struct attempt *a)
{
	char last[sizeof(a->req->err.msg)];

	if (a->tries < 2)
		return;
	(void)snprintf(last, sizeof(last), "%.160s", a->req->err.msg);
	objerr_set(&a->req->err, "%s (gave up after %u tries in %" PRId64 " s)",
		   last[0] != '\0' ? last : obj_op_name[a->req->op], a->tries,
		   (clock_now_ns() - a->start_ns) / NSEC_PER_SEC);
}

static void try_later(struct attempt *a)
{
	struct retry_store *rs = a->rs;
	int64_t now = clock_now_ns(), due;

	mtx_lock(&rs->lock);
	due = now + clock_backoff_ns(a->tries, BACKOFF_BASE_NS, BACKOFF_MAX_NS, (uint32_t)random_locked(rs));
	due = due_locked(rs, due);
	if (due < a->deadline_ns) {
		a->due_ns = due;
		objreq_reset_answer(a->req);
		enqueue_locked(rs, a); /* the timer may have it from here on */
		a = NULL;
	}
	mtx_unlock(&rs->lock);
	if (a != NULL) {
		say_gave_up(a);
		finish(a, a->req->status);
	} else if (rs->s.stats != NULL) {
		rs->s.stats->retries++;
	}
}

/* --- asking who did it -------------------------------------------------------------------------------------------- */

static void take_head_as_answer(struct attempt *a)
{
	struct objreq *req = a->req, *head = &a->head;

	objreq_reset_answer(req);
	memcpy(req->etag, head->etag, sizeof(req->etag));
	req->size = head->size;
	req->mtime_s = head->mtime_s;
	req->date_s = head->date_s;
}

static void head_done(struct objreq *head)
{
	struct attempt *a = head->priv;
	const char *put = obj_headers_get(&head->ret_headers, STORE_NONCE_HEADER);
	int status = a->refused;

	if (a->req->op == OBJ_DELETE) {
		if (head->status == -ENOENT) {
			objreq_reset_answer(a->req);
			status = 0; /* what was there when we asked is gone: by us, as far as anyone can tell */
		} else if (head->status == 0 && strcmp(head->etag, a->req->if_match) == 0) {
			status = -EAGAIN; /* a store that contradicts itself: nothing may be concluded */
		}
	} else if (head->status == 0 && put != NULL && strcmp(put, a->req->nonce) == 0) {
		take_head_as_answer(a);
		status = 0;
	}
	if (status < 0 && head->status < 0 && head->status != -ENOENT) {
		/* Not known: neither success nor a lost race may be claimed. */
		status = head->status;
		a->req->err = head->err;
	}
	objreq_done(head);
	finish(a, status);
}

static void ask(struct attempt *a)
{
	a->refused = a->req->status;
	objreq_init(&a->head, OBJ_HEAD, a->req->key);
	a->head.prio = a->req->prio;
	a->head.deadline_ns = a->deadline_ns;
	a->head.done = head_done;
	a->head.priv = a;
	obj_submit(&a->rs->s, &a->head); /* through ourselves: it is tried again like any other */
}

static bool is_listed(const struct objreq *list, const char *id)
{
	for (size_t i = 0; i < list->listing->n; i++)
		if (strcmp(list->listing->v[i].upload_id, id) == 0)
			return true;
	return list->listing->truncated; /* it may be behind: not known to be gone */
}

static void look_done(struct objreq *list)
{
	struct attempt *a = list->priv;
	bool gone = list->status == 0 && !is_listed(list, a->req->upload_id);

	objreq_done(list);
	if (!gone) {
		try_later(a);
		return;
	}
	a->req->status = -ENOENT;
	objerr_set(&a->req->err, "%s: no such upload any more", a->req->key);
	if (is_ambiguous(a))
		ask(a);
	else
		finish(a, -ENOENT);
}

static void look_for_upload(struct attempt *a)
{
	a->looked = true;
	objreq_init(&a->head, OBJ_MPU_LIST, a->req->key);
	a->head.prio = a->req->prio;
	a->head.deadline_ns = a->deadline_ns;
	a->head.done = look_done;
	a->head.priv = a;
	obj_submit(&a->rs->s, &a->head);
}

static void twins_done(struct objreq *list)
{
	struct attempt *a = list->priv;

	if (list->status == 0)
		orphans_note(&a->rs->orphans, a->req, list->listing, a->lost, clock_now_ns() - a->start_ns);
	objreq_done(list);
	finish(a, 0);
}

/* The CREATE is answered; earlier tries may have made uploads too. */
static void look_for_twins(struct attempt *a)
{
	objreq_init(&a->head, OBJ_MPU_LIST, a->req->key);
	a->head.prio = a->req->prio;
	a->head.deadline_ns = clock_now_ns() + TWINS_NS;
	a->head.done = twins_done;
	a->head.priv = a;
	obj_submit(&a->rs->s, &a->head);
}

static void attempt_done(struct objreq *req)
{
	struct attempt *a = req->priv;

	if (req->status == 0) {
		note_success(a->rs);
		if (req->op == OBJ_MPU_CREATE && a->unanswered)
			look_for_twins(a);
		else
			finish(a, 0);
		return;
	}
	if (req->status == -EAGAIN && (req->err.http == 503 || req->err.http == 429))
		note_slow_down(a->rs);
	if (is_ambiguous(a)) {
		ask(a);
		return;
	}
	if (is_unanswered(req)) {
		a->unanswered = true;
		a->lost++;
	}
	if (req->op == OBJ_MPU_COMPLETE && req->err.http == 500 && a->tries >= LOOK_TRIES && !a->looked)
		look_for_upload(a);
	else if (is_retryable(a))
		try_later(a);
	else
		finish(a, req->status);
}

/* --- the store ---------------------------------------------------------------------------------------------------- */

static bool wants_nonce(const struct objreq *req)
{
	switch (req->op) {
	case OBJ_PUT:
		return is_conditional(req);
	case OBJ_COPY:
		return req->headers != NULL && (is_conditional(req) || req->src_if_match != NULL);
	case OBJ_MPU_CREATE:
		return true;
	default:
		return false;
	}
}

static void retry_submit(struct objstore *s, struct objreq *req)
{
	struct retry_store *rs = container_of(s, struct retry_store, s);
	struct attempt *a = calloc(1, sizeof(*a));
	bool wait;

	if (a == NULL) {
		objreq_finish(req, -ENOMEM);
		return;
	}
	a->rs = rs;
	a->req = req;
	a->done = req->done;
	a->priv = req->priv;
	a->start_ns = clock_now_ns();
	a->asked_deadline_ns = req->deadline_ns;
	a->deadline_ns = req->deadline_ns != 0 ? req->deadline_ns : a->start_ns + rs->timeout_ns;
	list_init(&a->link);
	if (req->nonce[0] == '\0' && wants_nonce(req))
		fill_nonce(rs, req->nonce);
	mtx_lock(&rs->lock);
	a->due_ns = due_locked(rs, a->start_ns);
	wait = a->due_ns > a->start_ns && a->due_ns < a->deadline_ns;
	if (wait)
		enqueue_locked(rs, a);
	mtx_unlock(&rs->lock);
	if (!wait)
		try_now(a);
}

static void retry_close(struct objstore *s)
{
	struct retry_store *rs = container_of(s, struct retry_store, s);

	orphans_wait(&rs->orphans);
	mtx_lock(&rs->lock);
	assert(list_empty(&rs->waiting));
	rs->stopping = true;
	cond_signal(&rs->changed);
	mtx_unlock(&rs->lock);
	if (pthread_join(rs->timer, NULL) != 0)
		abort();
	obj_close(s->inner);
	orphans_done(&rs->orphans);
	cond_destroy(&rs->changed);
	mtx_destroy(&rs->lock);
	free(rs);
}

static const struct objstore_ops retry_ops = {.name = "retry", .submit = retry_submit, .close = retry_close};

int store_retry_new(struct objstore *take_inner, int64_t timeout_ns, unsigned seed, struct objstore **ret)
{
	struct retry_store *rs = calloc(1, sizeof(*rs));
	sigset_t all, old;
	int r;

	if (rs == NULL)
		return -ENOMEM;
	store_wrap(&rs->s, &retry_ops, take_inner);
	rs->timeout_ns = timeout_ns;
	rs->seeded = seed != 0;
	rs->rng = seed;
	mtx_init(&rs->lock, RANK_RETRY);
	cond_init(&rs->changed);
	list_init(&rs->waiting);
	orphans_init(&rs->orphans, &rs->s);
	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&rs->timer, NULL, timer_thread, rs);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0) {
		orphans_done(&rs->orphans);
		cond_destroy(&rs->changed);
		mtx_destroy(&rs->lock);
		free(rs);
		return -r;
	}
	(void)pthread_setname_np(rs->timer, "store-retry");
	*ret = &rs->s;
	return 0;
}
