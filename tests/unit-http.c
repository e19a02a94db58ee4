/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-http.c - the HTTP client against a server that misbehaves on purpose. */
#include "config.h"
#include "objstore/http.h"
#include "objstore/base/clock.h"
#include "stub.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define SHORT_NS (200 * NSEC_PER_MSEC) /* stall time of tests that wait for one */
#define LONG_NS (60 * NSEC_PER_SEC)    /* never reached */

struct fixture {
	struct stub *stub;
	struct http *http;
	char url[128];
};

static void up(struct fixture *f, stub_fn *fn, void *arg, const struct http_opts *opts)
{
	static const struct http_opts dflt = {.connections = 8, .stall_ns = LONG_NS};

	f->stub = stub_start(fn, arg);
	assert_int_equal(http_new(opts != NULL ? opts : &dflt, &f->http), 0);
	(void)snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u/b/k", stub_port(f->stub));
}

static void down(struct fixture *f)
{
	http_free(f->http);
	stub_stop(f->stub);
}

/* A GET into buf; the caller frees by http_req_done. */
static int get(struct fixture *f, struct http_req *h, void *buf, size_t cap)
{
	*h = (struct http_req){.method = "GET", .url = f->url, .buf = buf, .cap = cap, .repeatable = true};
	return http_do(f->http, h);
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

static bool ok_reply(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_reply(fd, 200, "ETag: \"e\"\r\nX-Two:   b  \r\nx-two: c\r\n", "hello");
	return true;
}

static void connection_is_kept(void **state)
{
	struct fixture f;
	struct http_req h;
	char buf[16];

	up(&f, ok_reply, NULL, NULL);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(get(&f, &h, buf, sizeof(buf)), 0);
		assert_int_equal(h.code, 200);
		assert_int_equal(h.got, 5);
		assert_memory_equal(buf, "hello", 5);
		assert_int_equal(h.length, 5);
		assert_string_equal(http_header(&h, "etag"), "\"e\"");
		assert_string_equal(http_header(&h, "x-two"), "c");
		assert_null(http_header(&h, "x-three"));
		assert_false(h.truncated);
		assert_true(h.wire_in > 5 && h.wire_out > 20);
		http_req_done(&h);
	}
	assert_int_equal(stub_conns(f.stub), 1);
	assert_int_equal(http_connects(f.http), 1);
	assert_int_equal(http_busy(f.http), 0);
	down(&f);
}

static bool no_content(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 204 No Content\r\nX-Late: 1\r\n\r\n");
	return true;
}

static void interim_reply_is_passed_over(void **state)
{
	struct fixture f;
	struct http_req h;

	up(&f, no_content, NULL, NULL);
	h = (struct http_req){.method = "DELETE", .url = f.url};
	assert_int_equal(http_do(f.http, &h), 0);
	assert_int_equal(h.code, 204);
	assert_null(http_header(&h, "x-early"));
	assert_string_equal(http_header(&h, "x-late"), "1");
	http_req_done(&h);
	down(&f);
}

struct seen {
	char method[16], target[4096], expect[32], type[64], meta[64], body[64];
	size_t len;
};

static bool note_request(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	struct seen *n = arg;

	(void)snprintf(n->method, sizeof(n->method), "%s", r->method);
	(void)snprintf(n->target, sizeof(n->target), "%s", r->target);
	if (!stub_header(r, "expect", n->expect, sizeof(n->expect)))
		n->expect[0] = '\0';
	if (!stub_header(r, "content-type", n->type, sizeof(n->type)))
		n->type[0] = '\0';
	if (!stub_header(r, "x-amz-meta-empty", n->meta, sizeof(n->meta)))
		(void)snprintf(n->meta, sizeof(n->meta), "absent");
	n->len = r->body_len;
	memcpy(n->body, r->body, MIN(r->body_len, sizeof(n->body)));
	stub_reply(fd, 200, "", "");
	return true;
}

static void request_goes_out_as_given(void **state)
{
	const struct http_pair headers[] = {{"x-amz-meta-empty", ""}, {"x-amz-meta-a", "b"}};
	const struct iovec iov[] = {{(void *)"ab", 2}, {NULL, 0}, {(void *)"cde", 3}};
	struct seen seen = {.len = 0};
	struct fixture f;
	struct http_req h;
	char url[256];

	up(&f, note_request, &seen, NULL);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/b/.././/a%%2Bb%%20/.?x=%%2F", stub_port(f.stub));
	h = (struct http_req){.method = "PUT", .url = url, .headers = headers, .nheaders = 2, .iov = iov, .iovcnt = 3};
	assert_int_equal(http_do(f.http, &h), 0);
	assert_string_equal(seen.method, "PUT");
	assert_string_equal(seen.target, "/b/.././/a%2Bb%20/.?x=%2F");
	assert_string_equal(seen.expect, "");
	assert_string_equal(seen.type, "");
	assert_string_equal(seen.meta, "");
	assert_int_equal(seen.len, 5);
	assert_memory_equal(seen.body, "abcde", 5);
	http_req_done(&h);
	h = (struct http_req){.method = "POST", .url = url};
	assert_int_equal(http_do(f.http, &h), 0);
	assert_string_equal(seen.method, "POST");
	assert_int_equal(seen.len, 0);
	http_req_done(&h);
	down(&f);
}

static bool big_error(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	static char junk[1024 * 1024];

	memset(junk, 'x', sizeof(junk));
	stub_printf(fd, "HTTP/1.1 503 Slow\r\nContent-Length: %zu\r\n\r\n", sizeof(junk));
	stub_send(fd, junk, sizeof(junk));
	return true;
}

static void error_body_is_bounded_and_kept_out_of_buf(void **state)
{
	struct fixture f;
	struct http_req h;
	char buf[16];

	memset(buf, 'u', sizeof(buf));
	up(&f, big_error, NULL, NULL);
	assert_int_equal(get(&f, &h, buf, sizeof(buf)), 0);
	assert_int_equal(h.code, 503);
	assert_int_equal(h.got, 0);
	assert_int_equal(h.text.len, HTTP_ERROR_MAX);
	assert_memory_equal(buf, "uuuuuuuuuuuuuuuu", 16);
	http_req_done(&h);
	down(&f);
}

static bool sized_body(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	const size_t *n = arg;
	char *p = malloc(*n);

	memset(p, 'y', *n);
	stub_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", *n);
	stub_send(fd, p, *n);
	free(p);
	return true;
}

static void longer_body_is_cut_and_marked(void **state)
{
	size_t small = 40000, big = 8 * 1024 * 1024;
	struct fixture f;
	struct http_req h;
	char buf[101];

	buf[100] = 'u';
	up(&f, sized_body, &small, NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(get(&f, &h, buf, 100), 0);
		assert_int_equal(h.got, 100);
		assert_true(h.truncated);
		assert_int_equal(h.length, small);
		assert_int_equal(buf[99], 'y');
		assert_int_equal(buf[100], 'u');
		http_req_done(&h);
	}
	assert_int_equal(stub_conns(f.stub), 1); /* a small rest is read: the connection lives */
	down(&f);
	up(&f, sized_body, &big, NULL);
	assert_int_equal(get(&f, &h, buf, 100), 0);
	assert_int_equal(h.got, 100);
	assert_true(h.truncated);
	assert_true(h.wire_in < big / 2); /* a big one is not */
	http_req_done(&h);
	down(&f);
}

/* --- lies --------------------------------------------------------------------------------------------------------- */

static bool cut_body(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789");
	return false;
}

static bool cut_chunked(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n0123456789");
	return false;
}

static bool garbage(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "220 mail.example ready\r\n\r\n");
	return false;
}

static bool endless_head(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	char line[1024];

	memset(line, 'a', sizeof(line));
	stub_printf(fd, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 400; i++) {
		stub_printf(fd, "x-%d: ", i);
		stub_send(fd, line, sizeof(line));
		stub_printf(fd, "\r\n");
	}
	stub_printf(fd, "\r\n");
	return false;
}

static bool bad_length(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n01234");
	return false;
}

static void broken_replies_are_errors(void **state)
{
	static const struct {
		stub_fn *fn;
		int status;
	} cases[] = {{cut_body, -EBADMSG}, {cut_chunked, -EBADMSG}, {garbage, -EBADMSG}, {endless_head, -EBADMSG},
		     {bad_length, -EBADMSG}};
	struct fixture f;
	struct http_req h;
	char buf[2000];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		up(&f, cases[i].fn, NULL, NULL);
		assert_int_equal(get(&f, &h, buf, sizeof(buf)), cases[i].status);
		assert_true(h.msg[0] != '\0');
		assert_true(h.sent);
		http_req_done(&h);
		down(&f);
	}
}

static bool until_close(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
	return false;
}

static void unsaid_length_is_reported(void **state)
{
	struct fixture f;
	struct http_req h;
	char buf[16];

	up(&f, until_close, NULL, NULL);
	assert_int_equal(get(&f, &h, buf, sizeof(buf)), 0);
	assert_int_equal(h.length, -1);
	assert_false(h.chunked);
	assert_int_equal(h.got, 3);
	http_req_done(&h);
	down(&f);
}

static int refuse_head(struct http_req *h)
{
	return h->code == 200 ? -EBADMSG : 0;
}

static void on_head_comes_before_the_body(void **state)
{
	struct fixture f;
	struct http_req h;
	char buf[16];

	memset(buf, 'u', sizeof(buf));
	up(&f, ok_reply, NULL, NULL);
	h = (struct http_req){.method = "GET", .url = f.url, .buf = buf, .cap = 16, .on_head = refuse_head};
	assert_int_equal(http_do(f.http, &h), -EBADMSG);
	assert_int_equal(h.got, 0);
	assert_memory_equal(buf, "uuuuuuuuuuuuuuuu", 16);
	http_req_done(&h);
	down(&f);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static bool stall_in_body(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
	stub_wait_gone(fd);
	return false;
}

static bool stall_before_reply(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_wait_gone(fd);
	return false;
}

static void stalled_server_times_out(void **state)
{
	static stub_fn *const fns[] = {stall_in_body, stall_before_reply};
	const struct http_opts opts = {.connections = 4, .stall_ns = SHORT_NS};
	struct fixture f;
	struct http_req h;
	char buf[16];

	for (size_t i = 0; i < ARRAY_SIZE(fns); i++) {
		int64_t t = clock_now_ns();

		up(&f, fns[i], NULL, &opts);
		assert_int_equal(get(&f, &h, buf, sizeof(buf)), -ETIMEDOUT);
		assert_true(clock_now_ns() - t >= SHORT_NS);
		assert_true(h.sent);
		assert_non_null(strstr(h.msg, "no byte moved"));
		http_req_done(&h);
		down(&f);
	}
}

/* One byte, then the next when half the stall time is over: slow, never stalled. */
static bool slow_body(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	stub_printf(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
	for (int i = 0; i < 5; i++) {
		clock_sleep_ns(SHORT_NS / 2); /* the slowness itself is what is tested */
		stub_send(fd, "z", 1);
	}
	return true;
}

static void slow_server_is_waited_for(void **state)
{
	const struct http_opts opts = {.connections = 4, .stall_ns = SHORT_NS};
	struct fixture f;
	struct http_req h;
	char buf[16];

	up(&f, slow_body, NULL, &opts);
	assert_int_equal(get(&f, &h, buf, sizeof(buf)), 0);
	assert_int_equal(h.got, 5);
	http_req_done(&h);
	down(&f);
}

static void deadline_ends_a_request(void **state)
{
	struct fixture f;
	struct http_req h;

	up(&f, stall_before_reply, NULL, NULL);
	h = (struct http_req){.method = "GET", .url = f.url, .deadline_ns = clock_now_ns() + SHORT_NS};
	assert_int_equal(http_do(f.http, &h), -ETIMEDOUT);
	assert_non_null(strstr(h.msg, "deadline"));
	http_req_done(&h);
	down(&f);
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void refused_connection(void **state)
{
	struct fixture f;
	struct http_req h;
	char buf[4];

	up(&f, ok_reply, NULL, NULL);
	stub_stop(f.stub);
	assert_int_equal(get(&f, &h, buf, sizeof(buf)), -ECONNREFUSED);
	assert_false(h.sent);
	assert_non_null(strstr(h.msg, "connection refused"));
	http_req_done(&h);
	http_free(f.http);
}

static void unknown_host(void **state)
{
	/* a label of more than 63 bytes: no name server needs to be asked */
	static const char url[] = "http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid/";
	struct http_req h = {.method = "GET", .url = url};
	struct fixture f;

	up(&f, ok_reply, NULL, NULL);
	assert_int_equal(http_do(f.http, &h), -EHOSTUNREACH);
	assert_non_null(strstr(h.msg, "not found"));
	http_req_done(&h);
	down(&f);
}

static bool not_tls(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	return false;
}

static void tls_trouble_has_words(void **state)
{
	const struct http_opts no_ca = {.connections = 1, .ca_file = "/nonexistent/ca.pem"};
	struct fixture f;
	struct http_req h;
	char url[64];

	up(&f, not_tls, NULL, &no_ca);
	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%u/", stub_port(f.stub));
	h = (struct http_req){.method = "GET", .url = url};
	assert_int_equal(http_do(f.http, &h), -EKEYREJECTED);
	assert_non_null(strstr(h.msg, "/nonexistent/ca.pem"));
	assert_non_null(strstr(h.msg, "ca_file="));
	assert_false(h.sent);
	http_req_done(&h);
	down(&f);
}

/* Answers the first request of a connection and drops the second one without a word. */
static bool drop_second(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	unsigned *last = arg;

	if (*last == r->conn)
		return false;
	*last = r->conn;
	stub_reply(fd, 200, "", "ok");
	return true;
}

static void only_repeatable_requests_are_repeated(void **state)
{
	static const char *const changes[] = {"PUT", "POST", "DELETE"};
	const struct iovec iov = {(void *)"body", 4};
	unsigned last;
	struct fixture f;
	struct http_req h;
	char buf[8];

	for (size_t i = 0; i < 2 * ARRAY_SIZE(changes); i++) {
		last = 0;
		up(&f, drop_second, &last, NULL);
		assert_int_equal(get(&f, &h, buf, sizeof(buf)), 0);
		http_req_done(&h);
		h = (struct http_req){.method = changes[i / 2], .url = f.url};
		if (i % 2 == 1 && i / 2 < 2) {
			h.iov = &iov;
			h.iovcnt = 1;
		}
		assert_int_equal(http_do(f.http, &h), -ECONNRESET);
		assert_true(h.sent);
		http_req_done(&h);
		assert_int_equal(stub_requests(f.stub), 2);
		down(&f);
	}
	last = 0;
	up(&f, drop_second, &last, NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(get(&f, &h, buf, sizeof(buf)), 0);
		http_req_done(&h);
	}
	assert_int_equal(stub_requests(f.stub), 3); /* the second was asked twice */
	down(&f);
}

/* --- lanes -------------------------------------------------------------------------------------------------------- */

struct many {
	struct http_req h;
	char order_name;
	struct group *g;
};

struct group {
	pthread_mutex_t lock;
	pthread_cond_t news;
	unsigned done, failed;
	char order[64];
};

#define GROUP_INIT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, "" }

static void many_done(struct http_req *h)
{
	struct many *m = h->priv;
	struct group *g = m->g;

	pthread_mutex_lock(&g->lock);
	if (g->done < sizeof(g->order) - 1)
		g->order[g->done] = m->order_name;
	g->done++;
	g->failed += h->status != 0 || h->code != 200;
	pthread_cond_broadcast(&g->news);
	pthread_mutex_unlock(&g->lock);
	http_req_done(h);
}

static void group_wait(struct group *g, unsigned n)
{
	pthread_mutex_lock(&g->lock);
	while (g->done < n)
		pthread_cond_wait(&g->news, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void many_start(struct fixture *f, struct many *m, struct group *g, char name, const char *method,
		       enum http_lane lane, bool background)
{
	m->g = g;
	m->order_name = name;
	m->h = (struct http_req){.method = method, .url = f->url, .lane = lane, .background = background,
				 .done = many_done, .priv = m};
	http_submit(f->http, &m->h);
}

static bool hold_writes(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	if (strcmp(r->method, "PUT") == 0)
		stub_wait_open(s);
	stub_reply(fd, 200, "", "ok");
	return true;
}

static void writes_leave_room_for_reads(void **state)
{
	const struct http_opts opts = {.connections = 4, .stall_ns = LONG_NS};
	struct group g = GROUP_INIT, reads = GROUP_INIT;
	struct many w[10], r;
	struct fixture f;

	up(&f, hold_writes, NULL, &opts);
	for (int i = 0; i < 10; i++)
		many_start(&f, &w[i], &g, 'w', "PUT", HTTP_LANE_WRITE, false);
	stub_wait_requests(f.stub, 3);
	many_start(&f, &r, &reads, 'r', "GET", HTTP_LANE_READ, false);
	group_wait(&reads, 1); /* goes through while writes wait, held and queued */
	assert_int_equal(g.done, 0);
	assert_int_equal(stub_requests(f.stub), 4);
	stub_open(f.stub);
	group_wait(&g, 10);
	assert_int_equal(g.failed + reads.failed, 0);
	assert_true(stub_conns(f.stub) <= 4);
	down(&f);
}

static bool hold_first(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	if (r->index == 1)
		stub_wait_open(s);
	stub_reply(fd, 200, "", "ok");
	return true;
}

static void foreground_goes_before_background(void **state)
{
	const struct http_opts opts = {.connections = 1, .stall_ns = LONG_NS};
	struct group g = GROUP_INIT;
	struct many m[6];
	struct fixture f;

	up(&f, hold_first, NULL, &opts);
	many_start(&f, &m[0], &g, '0', "GET", HTTP_LANE_READ, false);
	stub_wait_requests(f.stub, 1);
	many_start(&f, &m[1], &g, 'a', "GET", HTTP_LANE_READ, true);
	many_start(&f, &m[2], &g, 'b', "GET", HTTP_LANE_READ, true);
	many_start(&f, &m[3], &g, 'A', "PUT", HTTP_LANE_WRITE, false);
	many_start(&f, &m[4], &g, 'B', "GET", HTTP_LANE_READ, false);
	many_start(&f, &m[5], &g, 'C', "PUT", HTTP_LANE_WRITE, false);
	stub_open(f.stub);
	group_wait(&g, 6);
	assert_string_equal(g.order, "0ABCab");
	assert_int_equal(g.failed, 0);
	down(&f);
}

static void queue_honours_deadlines(void **state)
{
	const struct http_opts opts = {.connections = 1, .stall_ns = LONG_NS};
	struct group g = GROUP_INIT;
	struct many m;
	struct fixture f;
	struct http_req h;

	up(&f, hold_first, NULL, &opts);
	many_start(&f, &m, &g, '0', "GET", HTTP_LANE_READ, false);
	stub_wait_requests(f.stub, 1);
	h = (struct http_req){.method = "PUT", .url = f.url, .deadline_ns = clock_now_ns() + SHORT_NS};
	assert_int_equal(http_do(f.http, &h), -ETIMEDOUT);
	assert_false(h.sent);
	http_req_done(&h);
	stub_open(f.stub);
	group_wait(&g, 1);
	assert_int_equal(stub_requests(f.stub), 1);
	down(&f);
}

static void many_requests_share_the_connections(void **state)
{
	struct group g = GROUP_INIT;
	struct many *m = calloc(400, sizeof(*m));
	struct fixture f;

	up(&f, ok_reply, NULL, NULL);
	for (int i = 0; i < 400; i++)
		many_start(&f, &m[i], &g, '.', "GET", HTTP_LANE_READ, i % 2 == 0);
	group_wait(&g, 400);
	assert_int_equal(g.failed, 0);
	assert_int_equal(stub_requests(f.stub), 400);
	assert_true(stub_conns(f.stub) <= 8);
	down(&f);
	free(m);
}

/* A done() that submits: the next request of a chain. */
struct chain {
	struct fixture *f;
	struct http_req h;
	unsigned left;
	struct group g;
};

static void chain_done(struct http_req *h)
{
	struct chain *c = h->priv;
	bool ok = h->status == 0;

	http_req_done(h);
	if (ok && --c->left > 0) {
		http_submit(c->f->http, h);
		return;
	}
	pthread_mutex_lock(&c->g.lock);
	c->g.done = 1;
	pthread_cond_broadcast(&c->g.news);
	pthread_mutex_unlock(&c->g.lock);
}

static void done_may_submit(void **state)
{
	struct chain c = {.left = 50, .g = GROUP_INIT};
	struct fixture f;

	up(&f, ok_reply, NULL, NULL);
	c.f = &f;
	c.h = (struct http_req){.method = "GET", .url = f.url, .done = chain_done, .priv = &c};
	http_submit(f.http, &c.h);
	group_wait(&c.g, 1);
	assert_int_equal(c.left, 0);
	assert_int_equal(stub_requests(f.stub), 50);
	down(&f);
}

static void dates(void **state)
{
	int64_t t = 7;

	assert_int_equal(http_date("Fri, 24 May 2013 00:00:00 GMT", &t), 0);
	assert_int_equal(t, 1369353600);
	assert_int_equal(http_date("yesterday-ish", &t), -EINVAL);
	assert_int_equal(t, 1369353600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connection_is_kept),
		cmocka_unit_test(interim_reply_is_passed_over),
		cmocka_unit_test(request_goes_out_as_given),
		cmocka_unit_test(error_body_is_bounded_and_kept_out_of_buf),
		cmocka_unit_test(longer_body_is_cut_and_marked),
		cmocka_unit_test(broken_replies_are_errors),
		cmocka_unit_test(unsaid_length_is_reported),
		cmocka_unit_test(on_head_comes_before_the_body),
		cmocka_unit_test(stalled_server_times_out),
		cmocka_unit_test(slow_server_is_waited_for),
		cmocka_unit_test(deadline_ends_a_request),
		cmocka_unit_test(refused_connection),
		cmocka_unit_test(unknown_host),
		cmocka_unit_test(tls_trouble_has_words),
		cmocka_unit_test(only_repeatable_requests_are_repeated),
		cmocka_unit_test(writes_leave_room_for_reads),
		cmocka_unit_test(foreground_goes_before_background),
		cmocka_unit_test(queue_honours_deadlines),
		cmocka_unit_test(many_requests_share_the_connections),
		cmocka_unit_test(done_may_submit),
		cmocka_unit_test(dates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
