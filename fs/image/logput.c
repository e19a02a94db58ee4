/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logput.c - numbers and the window: step 3.1 of the protocol.
 *
 * Answer to the creation of number n with bytes B:
 *	200			durable
 *	412			read who is there:  exactly our nonce and CRC -> durable (a reply was lost)
 *						    404 -> send B again	   anything else -> FENCED
 *	anything else		unknown: send B again, the same number, for as long as it takes
 * committed is the number before the lowest one that is not known durable. At most W numbers beyond it are under way,
 * so that a claim that jumps W numbers ahead is behind everything that a former owner can still have in flight.
 */
#include "config.h"
#include "log-private.h"
#include "../../objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define AGAIN_NS (200 * NSEC_PER_MSEC)
#define AGAIN_MAX_NS (10 * NSEC_PER_SEC)

static bool same_identity(const struct logobj *o, const uint8_t uuid[16], uint64_t number,
			  const struct log_nonce *nonce, uint32_t crc)
{
	return memcmp(o->uuid, uuid, 16) == 0 && o->number == number && memcmp(&o->nonce, nonce, sizeof(*nonce)) == 0 &&
	       (o->crc == crc || !RULE(T6_BYTES)) && RULE(E_OURS);
}

void log_fence_locked(struct log *l, const struct logobj *winner)
{
	if (l->state == LOG_FENCED)
		return;
	l->state = LOG_FENCED;
	if (winner != NULL && winner->type == LOG_CLAIM)
		l->below = MIN(winner->durable, l->next);
	if (winner != NULL && winner->type == LOG_CLAIM)
		(void)snprintf(l->why, sizeof(l->why),
			       "another node took the image over: claim %016" PRIx64 ", epoch %" PRIu64, winner->number,
			       winner->epoch);
	else if (winner != NULL)
		(void)snprintf(l->why, sizeof(l->why),
			       "log object %016" PRIx64 " is another writer's, who did not claim the image: damage",
			       winner->number);
	else
		(void)snprintf(l->why, sizeof(l->why), "another node took the image over");
	cond_broadcast(&l->progress);
}

/* ---- synchronous: claims, releases, create records ---- */

/* Who is at the number? 0: peeked; -ENOENT. */
static int peek(struct log *l, const char *key, struct logobj *ret)
{
	struct objreq req;
	struct objerr err = {0};
	uint8_t *buf = malloc(LOG_STRIDE);
	int r = -ENOMEM;

	if (buf == NULL)
		return r;
	objreq_init(&req, OBJ_GET, key);
	req.len = LOG_STRIDE;
	req.buf = buf;
	req.cap = LOG_STRIDE;
	r = log_do(l, &req);
	if (r == 0)
		r = logobj_peek(buf, req.got, ret, &err);
	objreq_done(&req);
	free(buf);
	return r;
}

int log_create_object(struct log *l, uint64_t number, void *bytes, size_t len, uint32_t crc,
		      const struct log_nonce *nonce, struct logobj *winner)
{
	struct iovec iov = {bytes, len};
	char key[OBJ_KEY_MAX + 1];
	struct logobj there = {0};
	int r;

	log_key(l->prefix, number, key);
	for (;;) {
		struct objreq req;

		objreq_init(&req, OBJ_PUT, key);
		req.iov = &iov;
		req.iovcnt = 1;
		req.if_none_match_any = true;
		r = log_do(l, &req);
		objreq_done(&req);
		if (r != -ESTALE)
			break;
		r = peek(l, key, &there);
		if (r == 0 && same_identity(&there, l->uuid, number, nonce, crc))
			return 0;
		if (r == 0 || r == -EUCLEAN || r == -ERANGE) { /* the last: nothing but a tombstone is empty */
			if (winner != NULL)
				*winner = there;
			return -EEXIST;
		}
		if (r != -ENOENT)
			break;
	}
	return r;
}

/* ---- the window ---- */

static int state_error_locked(const struct log *l)
{
	return l->stopping ? -ESHUTDOWN : l->state == LOG_OWNER && !l->broken ? 0 : -EIO;
}

static bool window_full_locked(const struct log *l)
{
	uint64_t low = l->low, upto = l->next + l->reserved;

	if (!RULE(T2_ANCHOR)) /* so many under way, wherever they are */
		for (uint64_t n = l->low; n < l->next && upto - l->low < LOG_W_MAX; n++)
			low += l->durable[n % LOG_W_MAX];
	return upto >= low + l->view.window;
}

void log_break(struct log *l)
{
	mtx_lock(&l->lock);
	l->broken = true;
	cond_broadcast(&l->progress);
	mtx_unlock(&l->lock);
}

int log_reserve(struct log *l)
{
	int r;

	mtx_lock(&l->lock);
	while ((r = state_error_locked(l)) == 0 && window_full_locked(l))
		cond_wait(&l->progress, &l->lock);
	if (r == 0)
		l->reserved++;
	mtx_unlock(&l->lock);
	return r;
}

void log_unreserve(struct log *l)
{
	mtx_lock(&l->lock);
	l->reserved--;
	cond_broadcast(&l->progress);
	mtx_unlock(&l->lock);
}

uint64_t log_take(struct log *l)
{
	uint64_t n;

	mtx_lock(&l->lock);
	assert(l->reserved > 0);
	l->reserved--;
	n = l->next++;
	l->durable[n % LOG_W_MAX] = false;
	mtx_unlock(&l->lock);
	return n;
}

uint64_t log_committed(struct log *l)
{
	uint64_t n;

	mtx_lock(&l->lock);
	n = l->low - 1;
	for (uint64_t k = l->low; !RULE(T3_COMMITTED) && k < l->next; k++)
		n = l->durable[k % LOG_W_MAX] ? k : n;
	mtx_unlock(&l->lock);
	return n;
}

uint64_t log_arrived(struct log *l)
{
	uint64_t n;

	mtx_lock(&l->lock);
	n = MAX(l->low, l->below);
	mtx_unlock(&l->lock);
	return n > 0 ? n - 1 : 0;
}

static bool committed_locked(const struct log *l, uint64_t number)
{
	return l->low > number || (!RULE(T3_COMMITTED) && number < l->next && l->durable[number % LOG_W_MAX]);
}

int log_wait_committed(struct log *l, uint64_t number)
{
	int r = 0;

	mtx_lock(&l->lock);
	while (!committed_locked(l, number) && (r = state_error_locked(l)) == 0)
		cond_wait(&l->progress, &l->lock);
	if (committed_locked(l, number))
		r = 0;
	mtx_unlock(&l->lock);
	return r;
}

static void durable_locked(struct log *l, uint64_t number)
{
	l->durable[number % LOG_W_MAX] = true;
	while (l->low < l->next && l->durable[l->low % LOG_W_MAX])
		l->low++;
	cond_broadcast(&l->progress);
}

/* The end of a put; the last touch of the log by it. */
static void put_finish(struct log_put *p, int status, const struct logobj *winner)
{
	struct log *l = p->log;
	bool fenced = false;

	mtx_lock(&l->lock);
	if (status == 0 && l->state == LOG_OWNER) {
		durable_locked(l, p->number);
	} else if (status == -EIO && l->state == LOG_OWNER) {
		log_fence_locked(l, winner);
		fenced = true;
	}
	mtx_unlock(&l->lock);
	free(p->scratch);
	p->scratch = NULL;
	objreq_done(&p->req);
	p->done(p, status);
	if (status == 0 && l->on_committed != NULL)
		l->on_committed(l->watch_arg);
	if (fenced && l->on_fenced != NULL)
		l->on_fenced(l->watch_arg);
	mtx_lock(&l->lock);
	l->under_way--;
	cond_broadcast(&l->progress);
	mtx_unlock(&l->lock);
}

static void put_submit(struct log_put *p);

static void resend_all(struct job *job)
{
	struct log *l = container_of(job, struct log, resend);
	struct log_put *p;
	unsigned tries = 1;

	mtx_lock(&l->lock);
	while ((p = l->again) != NULL) {
		int64_t until;

		tries = p->tries;
		until = clock_now_ns() + clock_backoff_ns(tries, AGAIN_NS, AGAIN_MAX_NS, 0x80000000u);
		while (!l->stopping && l->state == LOG_OWNER && clock_now_ns() < until)
			(void)cond_wait_until(&l->progress, &l->lock, until);
		p = l->again;
		l->again = NULL;
		while (p != NULL) {
			struct log_put *next = p->next;
			bool stop = l->stopping, lost = l->state != LOG_OWNER;

			mtx_unlock(&l->lock);
			if (stop || lost)
				put_finish(p, lost ? -EIO : -ESHUTDOWN, NULL);
			else
				put_submit(p);
			p = next;
			mtx_lock(&l->lock);
		}
	}
	l->resending = false;
	cond_broadcast(&l->progress);
	mtx_unlock(&l->lock);
}

static void put_later(struct log_put *p)
{
	struct log *l = p->log;
	bool start;

	objreq_done(&p->req);
	mtx_lock(&l->lock);
	p->tries++;
	p->next = l->again;
	l->again = p;
	start = !l->resending;
	l->resending = true;
	mtx_unlock(&l->lock);
	if (start) {
		l->resend.fn = resend_all;
		pool_submit(l->pool, &l->resend);
	}
}

static void peek_done(struct objreq *req)
{
	struct log_put *p = req->priv;
	struct logobj there;
	struct objerr err;
	int r = req->status;

	if (r == 0)
		r = logobj_peek(p->scratch, req->got, &there, &err);
	if (r == -ENOENT || log_transient(r))
		put_later(p);
	else if (r == 0 && same_identity(&there, p->log->uuid, p->number, &p->log->view.nonce, p->crc))
		put_finish(p, 0, NULL);
	else
		put_finish(p, RULE(E_FENCED) ? -EIO : 0, r == 0 ? &there : NULL);
}

static void put_done(struct objreq *req)
{
	struct log_put *p = req->priv;

	if (req->status == 0 || (!RULE(E_UNKNOWN) && req->status != -ESTALE)) {
		put_finish(p, 0, NULL);
		return;
	}
	if (req->status != -ESTALE) {
		put_later(p);
		return;
	}
	objreq_done(&p->req);
	if (p->scratch == NULL)
		p->scratch = malloc(LOG_STRIDE);
	if (p->scratch == NULL) {
		put_later(p);
		return;
	}
	objreq_init(&p->req, OBJ_GET, p->key);
	p->req.len = LOG_STRIDE;
	p->req.buf = p->scratch;
	p->req.cap = LOG_STRIDE;
	p->req.done = peek_done;
	p->req.priv = p;
	obj_submit(p->log->store, &p->req);
}

static void put_submit(struct log_put *p)
{
	objreq_init(&p->req, OBJ_PUT, p->key);
	p->req.iov = &p->iov;
	p->req.iovcnt = 1;
	p->req.if_none_match_any = true;
	p->req.done = put_done;
	p->req.priv = p;
	obj_submit(p->log->store, &p->req);
}

void log_send(struct log *l, struct log_put *p)
{
	p->log = l;
	p->tries = 0;
	p->next = NULL;
	p->scratch = NULL;
	p->iov = (struct iovec){p->bytes, p->len};
	log_key(l->prefix, p->number, p->key);
	mtx_lock(&l->lock);
	l->under_way++;
	mtx_unlock(&l->lock);
	put_submit(p);
}

/* ---- marks ---- */

int log_mark(struct log *l, uint64_t number)
{
	char key[OBJ_KEY_MAX + 1];
	int r = RULE(T11_MARK) ? log_wait_committed(l, number) : 0;

	if (r < 0)
		return r;
	(void)snprintf(key, sizeof(key), "%smark/%016" PRIx64, l->prefix, UINT64_MAX - number);
	for (;;) {
		struct objreq req;

		objreq_init(&req, OBJ_PUT, key);
#ifdef LSVD_RULE_SWITCHES
		char text[17];
		struct iovec iov = {text, 16};

		(void)snprintf(text, sizeof(text), "%016" PRIx64, number);
		if (!RULE(T9_MARKS)) {
			(void)snprintf(key, sizeof(key), "%smark/pointer", l->prefix);
			req.iov = &iov;
			req.iovcnt = 1;
		}
#endif
		r = log_do(l, &req);
		objreq_done(&req);
		mtx_lock(&l->lock);
		if (r == 0) {
			l->view.mark_before = l->view.mark;
			l->view.mark = number;
		} else if (state_error_locked(l) < 0) {
			r = state_error_locked(l);
		} else {
			r = -EAGAIN; /* as long as it takes: the next checkpoint may not begin before */
		}
		mtx_unlock(&l->lock);
		if (r != -EAGAIN)
			return r;
		clock_sleep_ns(AGAIN_NS);
	}
}
