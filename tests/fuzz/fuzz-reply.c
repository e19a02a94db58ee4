/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-reply.c - what an S3 server answers: status, header lines, body, through the code that judges them for every
 * operation. Input:
 *
 *   OP FLAGS                 one letter each: see set_up()
 *   CODE                     then header lines, an empty line, the body up to a form feed
 *   CODE ...                 the reply to a second request of the same call; the last one is used again
 *
 * A call ends after a bounded number of requests. What it ends with is a known errno and one line of words, or an answer
 * that keeps what objstore.h promises.
 */
#include "config.h"
#include "fuzz.h"
#include "objstore/base/clock.h"
#include "objstore/base/log.h"
#include "objstore/http-private.h"
#include "objstore/s3-private.h"

#define CAP 64
#define ROUNDS 16

static struct s3 *store[2]; /* AWS; some endpoint */
static char body[CAP];

static void open_stores(void)
{
	struct obj_open_opts o = {.no_sign = true, .connections = 1};
	struct objstore *s;
	struct objerr err;

	if (store[0])
		return;
	log_set_level(LOG_L_ERROR);
	check(!store_s3_new("bucket", &o, &s, &err));
	store[0] = container_of(s, struct s3, base);
	o.endpoint = "http://127.0.0.1:9";
	check(!store_s3_new("bucket", &o, &s, &err));
	store[1] = container_of(s, struct s3, base);
}

static void set_up(struct objreq *q, enum obj_op op, unsigned flags)
{
	static const char *const keys[] = {"a", "b\x01", "c\x02", "d"};
	static const struct obj_part parts[] = {{1, "d41d8cd98f00b204e9800998ecf8427e"}, {2, "x"}};
	static const struct iovec iov = {(void *)(uintptr_t) "body", 4};

	objreq_init(q, op, op == OBJ_LIST && (flags & 2) ? "" : "p/key");
	q->buf = body;
	q->cap = flags & 1 ? 0 : CAP;
	if (flags & 2) {
		q->if_match = op == OBJ_LIST || op == OBJ_MPU_LIST ? NULL : "9b2cf535f27731c974343645a3985328";
		q->off = 5;
		q->len = 20;
	}
	if (flags & 4)
		q->token = op == OBJ_LIST ? "tA" : "k&u";
	if (flags & 8 && (op == OBJ_GET || op == OBJ_HEAD)) {
		q->if_match = NULL;
		q->if_none_match = "abc";
	}
	if (flags & 16)
		memcpy(q->nonce, "0123456789abcdef0123456789abcdef", OBJ_NONCE_LEN + 1);
	q->src_key = "s";
	q->upload_id = op == OBJ_MPU_LIST && !(flags & 2) ? NULL : "u"; /* whose parts are listed, or all uploads */
	q->part = 1;
	q->parts = parts;
	q->nparts = ARRAY_SIZE(parts);
	q->keys = keys;
	q->nkeys = flags & 1 ? 1 : ARRAY_SIZE(keys);
	q->iov = &iov;
	q->iovcnt = 1;
}

/* Header lines up to the empty one, as libcurl hands them over. */
static void read_head(struct http_req *h, struct input *in, int code)
{
	while (in->n > 0) {
		const char *nl = memchr(in->p, '\n', in->n);
		size_t n = nl ? (size_t)(nl - in->p) + 1 : in->n;
		const char *p = in->p;

		in->p += n;
		in->n -= n;
		if (!httpq_header_line(h, p, n) || h->head_status)
			break;
	}
	if (!h->head_status && !httpq_head_end(h, code))
		check(h->head_status < 0);
}

/* The rest of a reply as the body, as http.c would store it. False: libcurl would have ended the transfer. */
static bool read_body(struct http_req *h, const char *p, size_t n)
{
	if (h->length >= 0 && !h->chunked) {
		if ((uint64_t)h->length > n && strcmp(h->method, "HEAD") != 0)
			return false;
		n = MIN(n, (size_t)h->length);
	}
	if (strcmp(h->method, "HEAD") == 0)
		return true;
	if (h->buf && h->code >= 200 && h->code <= 299) {
		h->got = MIN(n, h->cap);
		h->truncated = n > h->cap;
		if (h->got > 0)
			memcpy(h->buf, p, h->got);
		return true;
	}
	str_addn(&h->text, p, n);
	return !h->text.err;
}

static int one_request(struct s3_call *c, struct input reply, enum s3_next *ret_next)
{
	struct http_req *h = &c->h;
	char *first = take_line(&reply);
	int code = atoi(first), status = 0;
	const char *date;

	free(first);
	http_req_done(h);
	*h = (struct http_req){.method = c->method, .length = -1, .on_head = s3_on_head, .priv = c};
	if (c->req->op == OBJ_GET && c->step == S3_MAIN && c->req->cap > 0) {
		h->buf = c->req->buf;
		h->cap = (size_t)MIN((uint64_t)c->req->cap, c->req->len);
	}
	read_head(h, &reply, code < 200 || code > 599 ? 200 : code);
	if (h->head_status)
		status = h->head_status;
	else if (!read_body(h, reply.p, reply.n))
		status = -ECONNRESET;
	if (status)
		snprintf(h->msg, sizeof(h->msg), "as libcurl says");
	date = http_header(h, "date");
	if (!date || http_date(date, &c->req->date_s) < 0)
		c->req->date_s = 0;
	*ret_next = S3_FINISH;
	if (status && c->step != S3_HEAD_COMPLETE)
		s3_say_network(c, status);
	else
		*ret_next = s3_reply(c, &status);
	return status;
}

/* The part of the input for the next request; the last part again and again. */
static struct input next_reply(struct input *in)
{
	const char *ff = in->n ? memchr(in->p, '\f', in->n) : NULL;
	struct input part = {in->p, ff ? (size_t)(ff - in->p) : in->n};

	if (ff) {
		in->n -= part.n + 1;
		in->p = ff + 1;
	}
	return part;
}

static void check_headers(const struct obj_headers *h)
{
	struct obj_headers again = {0};
	size_t n;
	void *p;

	check(!obj_headers_encode(h, &p, &n) && !obj_headers_decode(p, n, &again) && obj_headers_equal(h, &again));
	free(p);
	obj_headers_free(&again);
}

static void check_listing(const struct objreq *q)
{
	const struct obj_listing *l = q->listing;

	check(l && (q->upload_id || l->truncated == (l->next_token != NULL)));
	for (size_t i = 0; i < l->n; i++) {
		check(strlen(l->v[i].etag) < OBJ_ETAG_MAX);
		check(q->op != OBJ_LIST || !strncmp(l->v[i].key, q->key, strlen(q->key)));
	}
	if (l->next_token && q->token)
		check(strcmp(l->next_token, q->token) != 0);
}

static void check_answer(const struct objreq *q)
{
	switch (q->op) {
	case OBJ_GET:
	case OBJ_HEAD:
		if (q->not_modified) {
			check(q->if_none_match);
			break;
		}
		check(q->got <= q->cap && q->got <= q->size);
		check(q->op == OBJ_HEAD || q->truncated == (q->size > q->off + q->got));
		check_headers(&q->ret_headers);
		/* fall through */
	case OBJ_PUT:
	case OBJ_COPY:
	case OBJ_MPU_PART:
	case OBJ_MPU_COPY_PART:
	case OBJ_MPU_COMPLETE:
		check(q->etag[0] && is_printable(q->etag) && !strchr(q->etag, '"') && strcmp(q->etag, "*"));
		break;
	case OBJ_LIST:
	case OBJ_MPU_LIST:
		check_listing(q);
		break;
	case OBJ_MPU_CREATE:
		check(q->ret_upload_id && q->ret_upload_id[0]);
		break;
	default:
		break;
	}
}

static void check_store(struct s3 *s)
{
	char date[SIGN_DATE];

	check(s->region[0] && strlen(s->region) < S3_REGION_MAX);
	check(strspn(s->region, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s->region));
	sign_date(clock_real_ns() / NSEC_PER_SEC + atomic_load(&s->skew_s), date);
	check(strlen(date) == SIGN_DATE - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, size};
	enum obj_op op = (enum obj_op)(take_byte(&in) % OBJ_NOPS);
	unsigned flags = take_byte(&in), rounds = 0;
	enum s3_next next = S3_SEND_AGAIN;
	struct objreq q;
	struct s3_call c = {.req = &q};
	int status = 0;

	open_stores();
	c.s = store[flags >> 5 & 1];
	memset(c.s->region, 0, sizeof(c.s->region));
	memcpy(c.s->region, "us-east-1", 9);
	atomic_store(&c.s->skew_s, 0);
	take_byte(&in); /* the newline behind OP and FLAGS */
	set_up(&q, op, flags);
	while (next == S3_SEND_AGAIN) {
		check(rounds++ < ROUNDS);
		s3_call_clear(&c);
		q.err = (struct objerr){0};
		memcpy(c.region, c.s->region, sizeof(c.region));
		status = s3_build(&c);
		if (status < 0)
			break;
		status = one_request(&c, next_reply(&in), &next);
	}
	check(status <= 0 && status > -4096 && status != -EREMOTEIO);
	check(is_printable(q.err.msg) && is_printable(q.err.code) && is_printable(q.err.request_id));
	check(status == 0 || q.err.msg[0] || status == -ENOMEM);
	if (status == 0)
		check_answer(&q);
	check_store(c.s);
	http_req_done(&c.h);
	s3_call_clear(&c);
	objreq_done(&q);
	return 0;
}
