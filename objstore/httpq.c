/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * httpq.c - what of the HTTP client needs no libcurl: the answer of a request, waiting for one, the queues.
 *
 * Lanes keep one kind of work from taking every connection: of n, big bodies on their way out may have 3/4 n, background
 * work 7/8 n, reads in the foreground all. Inside these bounds the foreground goes first, then the older request.
 */
#include "config.h"
#include "http-private.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- the answer of a request -------------------------------------------------------------------------------------- */

const char *http_header(const struct http_req *h, const char *name)
{
	const char *found = NULL, *n, *v;
	size_t pos = 0;

	while (http_next_header(h, &pos, &n, &v))
		if (strcmp(n, name) == 0)
			found = v;
	return found;
}

bool http_next_header(const struct http_req *h, size_t *pos, const char **ret_name, const char **ret_value)
{
	if (*pos >= h->head.len)
		return false;
	*ret_name = h->head.p + *pos;
	*ret_value = *ret_name + strlen(*ret_name) + 1;
	*pos += strlen(*ret_name) + strlen(*ret_value) + 2;
	return true;
}

/* Values keep their bytes; names become lower case. A line that is no header (RFC 9112 5: no colon) is left out. */
bool httpq_header_line(struct http_req *h, const char *p, size_t len)
{
	size_t end = len, colon, i;

	while (end > 0 && (p[end - 1] == '\r' || p[end - 1] == '\n'))
		end--;
	if (end == 0)
		return false;
	if (end >= 5 && memcmp(p, "HTTP/", 5) == 0) {
		str_reset(&h->head);
		return true;
	}
	for (colon = 0; colon < end && p[colon] != ':'; colon++)
		;
	if (colon == 0 || colon == end || memchr(p, '\0', end) != NULL)
		return true;
	for (i = 0; i < colon; i++)
		str_addc(&h->head, p[i] >= 'A' && p[i] <= 'Z' ? (char)(p[i] + 32) : p[i]);
	str_addn(&h->head, "", 1);
	for (i = colon + 1; i < end && (p[i] == ' ' || p[i] == '\t'); i++)
		;
	while (end > i && (p[end - 1] == ' ' || p[end - 1] == '\t'))
		end--;
	str_addn(&h->head, p + i, end - i);
	str_addn(&h->head, "", 1);
	if (h->head.err != 0 || h->head.len > HTTP_HEAD_MAX)
		h->head_status = h->head.err != 0 ? h->head.err : -EBADMSG;
	return true;
}

bool httpq_head_end(struct http_req *h, int code)
{
	const char *v;
	uint64_t n;

	if (code < 200) { /* 1xx: the real one follows */
		str_reset(&h->head);
		return true;
	}
	h->code = code;
	h->headed = true;
	v = http_header(h, "content-length");
	if (v != NULL && str_parse_u64(v, &n) == 0 && n <= INT64_MAX) {
		h->length = (int64_t)n;
		h->left = n;
	}
	v = http_header(h, "transfer-encoding");
	h->chunked = v != NULL && strcasecmp(v, "chunked") == 0;
	if (h->on_head != NULL)
		h->head_status = h->on_head(h);
	return h->head_status == 0;
}

void http_req_done(struct http_req *h)
{
	str_free(&h->text);
	str_free(&h->head);
	h->status = h->code = 0;
	h->got = 0;
	h->truncated = h->sent = false;
	h->length = -1;
	h->chunked = false;
	h->wire_in = h->wire_out = 0;
	h->msg[0] = '\0';
}

/* --- queues (thread) ---------------------------------------------------------------------------------------------- */

static bool may_start(const struct http *c, const struct http_req *h)
{
	unsigned n = c->opts.connections;

	if (c->nactive >= n)
		return false;
	if (h->lane == HTTP_LANE_WRITE && c->nlane[HTTP_LANE_WRITE] >= MAX(1u, n * 3 / 4))
		return false;
	return !h->background || c->nbackground < MAX(1u, n * 7 / 8);
}

struct http_req *httpq_pick(struct http *c)
{
	for (int bg = 0; bg < 2; bg++) {
		struct http_req *best = NULL;

		for (int lane = 0; lane < HTTP_NLANES; lane++) {
			struct list *q = &c->waiting[bg][lane];
			struct http_req *h;

			if (list_empty(q))
				continue;
			h = list_entry(q->next, struct http_req, node);
			if (may_start(c, h) && (best == NULL || h->seq < best->seq))
				best = h;
		}
		if (best != NULL)
			return best;
	}
	return NULL;
}

bool httpq_too_late(struct http_req *h, int64_t now)
{
	if (h->deadline_ns == 0 || now < h->deadline_ns)
		return false;
	(void)snprintf(h->msg, sizeof(h->msg), "no connection was free before the deadline");
	return true;
}

bool httpq_take_incoming(struct http *c)
{
	struct list got;
	bool stop;

	list_init(&got);
	mtx_lock(&c->lock);
	while (!list_empty(&c->incoming)) {
		struct list *n = c->incoming.next;

		list_del(n);
		list_add_tail(&got, n);
	}
	stop = c->stop;
	mtx_unlock(&c->lock);
	while (!list_empty(&got)) {
		struct http_req *h = list_entry(got.next, struct http_req, node);

		list_del(&h->node);
		h->seq = c->seq++;
		list_add_tail(&c->waiting[h->background][h->lane], &h->node);
	}
	return stop;
}

bool httpq_idle(const struct http *c)
{
	if (c->nactive > 0)
		return false;
	for (int i = 0; i < 2 * HTTP_NLANES; i++)
		if (!list_empty(&c->waiting[i / HTTP_NLANES][i % HTTP_NLANES]))
			return false;
	return true;
}

unsigned http_busy(struct http *c)
{
	return atomic_load(&c->busy);
}

uint64_t http_connects(struct http *c)
{
	return atomic_load(&c->connects);
}

/* --- waiting for one ---------------------------------------------------------------------------------------------- */

struct waiter {
	struct mtx lock;
	struct cond over; /* http_waiter_done signals */
	bool done;
};

static void waiter_done(struct http_req *h)
{
	struct waiter *w = h->priv;

	mtx_lock(&w->lock);
	w->done = true;
	cond_signal(&w->over);
	mtx_unlock(&w->lock);
}

int http_do(struct http *c, struct http_req *h)
{
	struct waiter w = {.done = false};

	mtx_init(&w.lock, RANK_WAIT);
	cond_init(&w.over);
	h->done = waiter_done;
	h->priv = &w;
	http_submit(c, h);
	mtx_lock(&w.lock);
	while (!w.done)
		cond_wait(&w.over, &w.lock);
	mtx_unlock(&w.lock);
	cond_destroy(&w.over);
	mtx_destroy(&w.lock);
	return h->status;
}
