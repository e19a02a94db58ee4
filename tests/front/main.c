/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main.c - the S3 front's connections: read a request, name its operation, let rules and AWS mode have their way, pass
 * it on, pass the reply back.
 *
 *	s3front --upstream PORT --dir DIR [--access KEY --secret KEY] [--bucket B] [--region R] [--seed N] [--aws] [--kms]
 *
 * Listens on two ports of 127.0.0.1 and writes them to DIR/port ("HTTP CONTROL") when it is ready; logs requests to
 * DIR/requests. Ends with SIGTERM or "quit". One thread and one upstream connection per client connection;
 * the client's Host goes on unaltered, so signatures stay valid.
 */
#include "front.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const char *const op_name[OP_N] = {
	"GET", "HEAD", "PUT", "DELETE", "DELETE_MANY", "COPY", "LIST", "MPU_CREATE", "MPU_PART", "MPU_COPY_PART",
	"COMPLETE", "ABORT", "MPU_LIST", "MPU_LIST_PARTS", "TAGGING", "BUCKET", "OTHER"
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct client *clients;
static _Atomic unsigned nclients;
static uint16_t http_port;
static bool refusing;
static int wake_fd = -1;

/* --- what a request asks --- */

const char *xfer_query(const struct xfer *x, const char *name)
{
	for (size_t i = 0; i < x->nquery; i++)
		if (!strcmp(x->query[i].name, name))
			return x->query[i].value;
	return NULL;
}

static void parse_query(struct xfer *x, const char *q)
{
	size_t cap = 0;

	while (*q) {
		size_t n = strcspn(q, "&"), nl = strcspn(q, "=&");

		if (x->nquery == cap) {
			cap = cap ? cap * 2 : 16;
			x->query = realloc(x->query, cap * sizeof(*x->query));
			if (!x->query)
				abort();
		}
		x->query[x->nquery].name = url_decode(q, nl, false);
		x->query[x->nquery++].value = nl < n ? url_decode(q + nl + 1, n - nl - 1, false) : xstrdup("");
		q += n + (q[n] == '&');
	}
}

static enum op bucket_op(const struct xfer *x)
{
	const char *m = x->req.line[0];

	if (!strcmp(m, "POST") && xfer_query(x, "delete"))
		return OP_DELETE_MANY;
	if (!strcmp(m, "GET") && xfer_query(x, "uploads"))
		return OP_MPU_LIST;
	if (strcmp(m, "GET") != 0 || !*x->bucket)
		return OP_BUCKET;
	if (xfer_query(x, "list-type") || xfer_query(x, "prefix") || xfer_query(x, "delimiter") || !x->nquery ||
	    xfer_query(x, "max-keys"))
		return OP_LIST;
	return OP_BUCKET;
}

static enum op object_op(const struct xfer *x)
{
	const char *m = x->req.line[0];
	bool copy = head_get(&x->req, "x-amz-copy-source");

	if (xfer_query(x, "tagging"))
		return OP_TAGGING;
	if (xfer_query(x, "acl") || xfer_query(x, "retention") || xfer_query(x, "attributes"))
		return OP_OTHER;
	if (!strcmp(m, "PUT")) {
		if (xfer_query(x, "partNumber"))
			return copy ? OP_MPU_COPY_PART : OP_MPU_PART;
		return copy ? OP_COPY : OP_PUT;
	}
	if (!strcmp(m, "POST"))
		return xfer_query(x, "uploads") ? OP_MPU_CREATE : xfer_query(x, "uploadId") ? OP_COMPLETE : OP_OTHER;
	if (!strcmp(m, "DELETE"))
		return xfer_query(x, "uploadId") ? OP_ABORT : OP_DELETE;
	if (!strcmp(m, "GET"))
		return xfer_query(x, "uploadId") ? OP_MPU_LIST_PARTS : OP_GET;
	return !strcmp(m, "HEAD") ? OP_HEAD : OP_OTHER;
}

static void classify(struct xfer *x)
{
	const char *t = x->req.line[1], *host = head_get(&x->req, "host");
	size_t n = strcspn(t, "?");
	char *path = url_decode(t, n, false), *p = path + 1, *slash = strchr(p, '/');
	size_t bl = conf.bucket ? strlen(conf.bucket) : 0;

	parse_query(x, t[n] ? t + n + 1 : "");
	if (bl && host && !strncmp(host, conf.bucket, bl) && host[bl] == '.') { /* virtual-host style */
		x->bucket = xstrdup(conf.bucket);
		x->key = xstrdup(p);
	} else {
		x->bucket = slash ? xstrndup(p, (size_t)(slash - p)) : xstrdup(p);
		x->key = xstrdup(slash ? slash + 1 : "");
	}
	free(path);
	x->op = *x->key ? object_op(x) : bucket_op(x);
}

/* --- towards the server --- */

static int upstream_ready(struct xfer *x)
{
	struct chan *up = &x->cl->up;

	if (up->fd >= 0 && chan_alive(up))
		return 0;
	chan_close(up, false);
	return chan_connect(up, conf.up_port);
}

/* The reply's head; 1xx are skipped. */
static int read_reply(struct chan *up, struct head *rep, bool is_head)
{
	for (;;) {
		int r = head_read(up, rep, true);

		if (r <= 0)
			return r ? r : -ECONNRESET;
		rep->no_body = is_head;
		if (rep->status >= 200)
			return 0;
		head_free(rep);
	}
}

int upstream_head(struct xfer *x, const char *bucket, const char *key, char etag[ETAG_LEN], int64_t *size, int *status)
{
	struct head h = { 0 }, rep;
	struct buf path = { 0 }, out = { 0 };
	char host[64];
	const char *v;
	int r;

	buf_adds(&path, "/");
	url_encode(&path, bucket, false);
	buf_adds(&path, "/");
	url_encode(&path, key, true);
	h.line[0] = xstrdup("HEAD");
	h.line[1] = path.p;
	h.line[2] = xstrdup("HTTP/1.1");
	snprintf(host, sizeof(host), "127.0.0.1:%u", conf.up_port);
	head_set(&h, "Host", host);
	sign_own(&h);
	head_format(&h, &out);
	r = upstream_ready(x);
	if (r == 0)
		r = chan_write(&x->cl->up, out.p, out.len);
	if (r == 0)
		r = read_reply(&x->cl->up, &rep, true);
	buf_free(&out);
	head_free(&h);
	if (r < 0) {
		chan_close(&x->cl->up, false);
		return r;
	}
	v = head_get(&rep, "etag");
	snprintf(etag, ETAG_LEN, "%.*s", v ? (int)strcspn(v + (*v == '"'), "\"") : 0, v ? v + (*v == '"') : "");
	*size = rep.length;
	*status = rep.status;
	if (rep.close)
		chan_close(&x->cl->up, false);
	head_free(&rep);
	return 0;
}

static int stream_request(struct xfer *x, struct body *b)
{
	static const char last[] = "0\r\n\r\n";
	bool chunked = b->kind == BODY_CHUNKED, dead = false;
	char p[32768];
	ssize_t n;

	while ((n = body_read(b, p, sizeof(p))) > 0) {
		struct buf pre = { 0 };

		x->in += (uint64_t)n;
		pace(false, (size_t)n);
		if (chunked)
			buf_addf(&pre, "%zx\r\n", (size_t)n);
		/* a server that refuses early closes its side: read on, its reply says why */
		dead = dead || (pre.len && chan_write(&x->cl->up, pre.p, pre.len) < 0) ||
		       chan_write(&x->cl->up, p, (size_t)n) < 0 || (chunked && chan_write(&x->cl->up, "\r\n", 2) < 0);
		buf_free(&pre);
	}
	if (n == 0 && chunked && !dead && chan_write(&x->cl->up, last, strlen(last)) < 0)
		return -EPIPE;
	return (int)n;
}

static void format_request(struct xfer *x, struct buf *out)
{
	if (x->held) {
		char len[32];

		snprintf(len, sizeof(len), "%zu", x->body.len);
		head_set(&x->req, "Transfer-Encoding", NULL);
		if (x->body.len || head_get(&x->req, "content-length"))
			head_set(&x->req, "Content-Length", len);
	}
	head_format(&x->req, out);
}

static int send_upstream(struct xfer *x, struct body *b)
{
	struct buf out = { 0 };
	int r;

	format_request(x, &out);
	r = chan_write(&x->cl->up, out.p, out.len);
	buf_free(&out);
	if (r == 0 && x->held)
		r = x->body.len ? chan_write(&x->cl->up, x->body.p, x->body.len) : 0;
	else if (r == 0)
		r = stream_request(x, b);
	return r;
}

/* Request up, reply's head down. A kept-alive connection may have been closed meanwhile: tried once more, if it can be. */
static int exchange(struct xfer *x, struct body *b)
{
	bool again = x->held || b->kind == BODY_NONE;
	int r = 0;

	for (int i = 0; i < (again ? 2 : 1); i++) {
		r = upstream_ready(x);
		if (r == 0)
			r = send_upstream(x, b);
		if (r == 0 || r == -EPIPE || r == -ECONNRESET)
			r = read_reply(&x->cl->up, &x->rep, x->op == OP_HEAD || !strcmp(x->req.line[0], "HEAD"));
		if (r == 0)
			return 0;
		chan_close(&x->cl->up, false);
		if (r != -ECONNRESET && r != -EPIPE)
			break;
	}
	return r;
}

/* A request that takes effect again, long after its answer. */
struct late {
	struct plan plan;
	struct buf bytes;
};

static void *send_late(void *arg)
{
	struct late *l = arg;
	struct chan *up = xmalloc(sizeof(*up));
	struct head rep;

	memset(up, 0, sizeof(*up));
	rule_hold(&l->plan, -1, l->plan.ms);
	if (chan_connect(up, conf.up_port) == 0) {
		if (chan_write(up, l->bytes.p, l->bytes.len) == 0 && read_reply(up, &rep, false) == 0)
			head_free(&rep);
		chan_close(up, false);
	}
	buf_free(&l->bytes);
	free(l);
	free(up);
	return NULL;
}

static void keep_for_later(struct xfer *x, const struct plan *plan)
{
	struct late *l = xmalloc(sizeof(*l));
	pthread_t t;

	memset(l, 0, sizeof(*l));
	l->plan = *plan;
	format_request(x, &l->bytes);
	buf_add(&l->bytes, x->body.p, x->body.len);
	if (pthread_create(&t, NULL, send_late, l))
		abort();
	pthread_detach(t);
}

/* --- towards the client --- */

static void http_date(char *out, size_t n)
{
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(out, n, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

void answer_error(struct xfer *x, int status, const char *code, const char *msg)
{
	char text[64];

	head_free(&x->rep);
	buf_free(&x->out);
	x->rep.line[0] = xstrdup("HTTP/1.1");
	snprintf(text, sizeof(text), "%d", status);
	x->rep.line[1] = xstrdup(text);
	x->rep.line[2] = xstrdup(status == 200 ? "OK" : code);
	x->rep.status = status;
	x->rep.no_body = !strcmp(x->req.line[0], "HEAD");
	x->rep.length = -1;
	head_set(&x->rep, "Content-Type", "application/xml");
	http_date(text, sizeof(text));
	head_set(&x->rep, "Date", text);
	snprintf(text, sizeof(text), "front%llu", (unsigned long long)x->seq);
	head_set(&x->rep, "x-amz-request-id", text);
	x->out_held = true;
	if (!x->rep.no_body)
		buf_addf(&x->out,
			 "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message>"
			 "<RequestId>%s</RequestId></Error>", code, msg, text);
}

/* What a rule does to the bytes of a body. */
struct bend {
	int64_t cut, flip, stall, done;
};

static int send_piece(struct xfer *x, struct bend *bend, const struct plan *plan, char *p, size_t n, bool chunked)
{
	int r = 0;

	if (bend->flip >= bend->done && bend->flip < bend->done + (int64_t)n)
		p[bend->flip - bend->done] ^= 0x01;
	if (bend->cut >= 0 && bend->done + (int64_t)n > bend->cut) {
		n = (size_t)(bend->cut - bend->done);
		r = -ECONNABORTED;
	}
	for (size_t o = 0; o < n;) {
		size_t m = n - o < 16384 || !conf.bw_out ? n - o : 16384;
		struct buf pre = { 0 };
		int w = 0;

		pace(true, m);
		if (chunked) {
			buf_addf(&pre, "%zx\r\n", m);
			w = chan_write(&x->cl->c, pre.p, pre.len);
			buf_free(&pre);
		}
		if (w == 0)
			w = chan_write(&x->cl->c, p + o, m);
		if (w == 0 && chunked)
			w = chan_write(&x->cl->c, "\r\n", 2);
		if (w < 0)
			return w;
		o += m;
		x->sent += m;
	}
	bend->done += (int64_t)n;
	if (r == 0 && bend->stall >= 0 && bend->done >= bend->stall) {
		bend->stall = -1;
		if (!rule_hold(plan, x->cl->c.fd, plan->ms) || !plan->ms)
			return -ECONNABORTED;
	}
	return r;
}

static int64_t where(const struct plan *p, enum act act, int64_t len, int64_t otherwise)
{
	if (p->act != act)
		return -1;
	return p->at >= 0 ? p->at : otherwise < len ? otherwise : 0;
}

/* Sends head and body. 0: the connection can go on; else it is to be cut. */
static int send_reply(struct xfer *x, const struct plan *plan)
{
	struct buf head = { 0 };
	struct body b;
	int64_t len;
	bool chunked;
	int r;

	body_init(&b, &x->cl->up, &x->rep, true);
	if (x->out_held && !x->rep.no_body && x->rep.status != 304 && x->rep.status != 204) {
		char text[32];

		snprintf(text, sizeof(text), "%zu", x->out.len);
		head_set(&x->rep, "Content-Length", text);
	}
	if (x->out_held)
		b.kind = BODY_NONE;
	chunked = b.kind == BODY_CHUNKED || b.kind == BODY_EOF;
	head_set(&x->rep, "Connection", NULL);
	head_set(&x->rep, "Keep-Alive", NULL);
	head_set(&x->rep, "Transfer-Encoding", chunked ? "chunked" : NULL);
	head_format(&x->rep, &head);
	x->status = x->rep.status;
	r = chan_write(&x->cl->c, head.p, head.len);
	buf_free(&head);
	len = x->out_held ? (int64_t)x->out.len : x->rep.length;

	struct bend bend = { where(plan, ACT_CUT, INT64_MAX, len > 0 ? len / 2 : 0),
			     where(plan, ACT_FLIP, len, len > 0 ? (int64_t)(rnd() % (uint64_t)len) : 0),
			     where(plan, ACT_STALL_BODY, INT64_MAX, len > 0 ? len / 2 : 0), 0 };

	if (r == 0 && x->out_held && x->out.len && !x->rep.no_body)
		r = send_piece(x, &bend, plan, x->out.p, x->out.len, false);
	while (r == 0 && b.kind != BODY_NONE) {
		char p[65536];
		ssize_t n = body_read(&b, p, sizeof(p));

		if (n < 0)
			r = (int)n;
		else if (n > 0)
			r = send_piece(x, &bend, plan, p, (size_t)n, chunked);
		else
			break;
	}
	if (r == 0 && chunked)
		r = chan_write(&x->cl->c, "0\r\n\r\n", 5);
	return r;
}

/* --- one request --- */

static void drain(struct xfer *x, struct body *b)
{
	char p[32768];
	ssize_t n;

	while ((n = body_read(b, p, sizeof(p))) > 0)
		x->in += (uint64_t)n;
}

static void wrong_etag(struct xfer *x)
{
	const char *v = head_get(&x->rep, "etag");
	char *e = x->out.p ? strstr(x->out.p, "<ETag>") : NULL;

	if (v) {
		char *w = xstrdup(v), *d = w + (*w == '"');

		*d = *d == '0' ? '1' : '0';
		head_set(&x->rep, "ETag", w);
		free(w);
	}
	if (e) {
		e += 6;
		e += !strncmp(e, "&quot;", 6) ? 6 : *e == '"';
		*e = *e == '0' ? '1' : '0';
	}
}

/* Waits and refusals before anything is done. 0 go on, 1 answered, -1 cut. */
static int before(struct xfer *x, struct plan *plan)
{
	int ms = conf.latency_ms + plan->delay_ms;

	if (conf.jitter_ms)
		ms += (int)(rnd() % (uint64_t)(conf.jitter_ms + 1));
	if (ms)
		sleep_until(now_ns() + ms * (int64_t)1000000);
	switch (plan->act) {
	case ACT_STATUS:
		answer_error(x, plan->status, plan->code, "said by the front");
		return 1;
	case ACT_BODY_ERROR:
		answer_error(x, 200, plan->code, "said by the front");
		return 1;
	case ACT_RESET:
		return -1;
	case ACT_STALL:
		rule_hold(plan, x->cl->c.fd, plan->ms);
		return -1;
	case ACT_HOLD:
		return rule_hold(plan, x->cl->c.fd, plan->ms) ? 0 : -1;
	default:
		return 0;
	}
}

static bool needs_whole_reply(const struct xfer *x, const struct plan *p)
{
	return (x->aws && aws_wants_reply(x)) || p->act == ACT_STATUS_AFTER || p->act == ACT_LOST ||
	       p->act == ACT_BODY_ERROR_AFTER || (p->act == ACT_ETAG && x->op != OP_GET);
}

/* The server does it. 0 or -errno. */
static int perform(struct xfer *x, struct plan *plan, struct body *b)
{
	struct body rb;
	int r;

	x->aws = conf.aws;
	x->lock[0] = x->lock[1] = -1;
	if ((x->aws && aws_wants_body(x)) || plan->act == ACT_TWICE) {
		r = body_all(b, &x->body);
		x->in += x->body.len;
		x->held = true;
		pace(false, x->body.len);
		if (r < 0)
			return r;
	}
	if (x->aws && aws_before(x)) {
		aws_unlock(x);
		drain(x, b);
		return 0;
	}
	r = exchange(x, b);
	if (r == 0 && needs_whole_reply(x, plan)) {
		body_init(&rb, &x->cl->up, &x->rep, true);
		r = body_all(&rb, &x->out);
		x->out_held = true;
	}
	if (r == 0 && x->aws)
		aws_after(x);
	aws_unlock(x);
	return r;
}

static int after(struct xfer *x, struct plan *plan)
{
	if (plan->delay_after_ms)
		sleep_until(now_ns() + plan->delay_after_ms * (int64_t)1000000);
	switch (plan->act) {
	case ACT_LOST:
		return -1;
	case ACT_TWICE:
		keep_for_later(x, plan);
		return 0;
	case ACT_STATUS_AFTER:
		answer_error(x, plan->status, plan->code, "said by the front, but it is done");
		return 0;
	case ACT_BODY_ERROR_AFTER:
		answer_error(x, 200, plan->code, "said by the front, but it is done");
		return 0;
	case ACT_HOLD_AFTER:
		return rule_hold(plan, x->cl->c.fd, plan->ms) ? 0 : -1;
	case ACT_ETAG:
		wrong_etag(x);
		return 0;
	default:
		return 0;
	}
}

enum next { NEXT_GO_ON, NEXT_CLOSE, NEXT_CUT };

static enum next run(struct xfer *x, struct plan *plan)
{
	struct body b;
	const char *expect = head_get(&x->req, "expect");
	bool close_after = x->req.close, up_close;
	int r;

	body_init(&b, &x->cl->c, &x->req, false);
	head_set(&x->req, "Connection", NULL);
	r = before(x, plan);
	if (r < 0)
		return NEXT_CUT;
	if (r == 0) {
		if (expect && b.kind != BODY_NONE && chan_write(&x->cl->c, "HTTP/1.1 100 Continue\r\n\r\n", 25) < 0)
			return NEXT_CUT;
		head_set(&x->req, "Expect", NULL);
		if (perform(x, plan, &b) < 0 || after(x, plan) < 0)
			return NEXT_CUT;
	} else if (expect) {
		close_after = true; /* the body may or may not come */
	} else {
		drain(x, &b);
	}
	up_close = x->rep.close;
	if (send_reply(x, plan) < 0) /* "cut" ends in order, but too early: with a reset the client might lose what came */
		return plan->act == ACT_CUT ? NEXT_CLOSE : NEXT_CUT;
	if (up_close)
		chan_close(&x->cl->up, false);
	return close_after ? NEXT_CLOSE : NEXT_GO_ON;
}

static void xfer_free(struct xfer *x)
{
	head_free(&x->req);
	head_free(&x->rep);
	for (size_t i = 0; i < x->nquery; i++) {
		free(x->query[i].name);
		free(x->query[i].value);
	}
	free(x->query);
	free(x->bucket);
	free(x->key);
	buf_free(&x->body);
	buf_free(&x->out);
}

static enum next serve_one(struct client *cl)
{
	struct xfer x = { .cl = cl, .lock = { -1, -1 } };
	struct plan plan;
	enum next next;

	if (head_read(&cl->c, &x.req, false) <= 0)
		return NEXT_CLOSE;
	classify(&x);
	count_request(&x);
	rules_match(&x, &plan);
	x.ruled = plan.rule[0] ? plan.rule : NULL;
	next = run(&x, &plan);
	count_done(&x);
	xfer_free(&x);
	return next;
}

static void *serve(void *arg)
{
	struct client *cl = arg;
	enum next next;

	while ((next = serve_one(cl)) == NEXT_GO_ON)
		;
	pthread_mutex_lock(&lock);
	if (cl->prev)
		cl->prev->next = cl->next;
	else
		clients = cl->next;
	if (cl->next)
		cl->next->prev = cl->prev;
	nclients--;
	pthread_mutex_unlock(&lock);
	chan_close(&cl->c, next == NEXT_CUT);
	chan_close(&cl->up, false);
	free(cl);
	return NULL;
}

/* --- the server --- */

unsigned server_clients(void)
{
	return nclients;
}

void server_refuse(bool on)
{
	uint64_t one = 1;

	pthread_mutex_lock(&lock);
	refusing = on;
	for (struct client *cl = clients; on && cl; cl = cl->next)
		shutdown(cl->c.fd, SHUT_RDWR);
	pthread_mutex_unlock(&lock);
	if (write(wake_fd, &one, sizeof(one)) < 0)
		perror("s3front: eventfd");
	/* the accept loop does it; whoever asked may rely on it */
	for (int i = 0; i < 500; i++) {
		struct chan c;
		bool up = chan_connect(&c, http_port) == 0;

		if (up)
			chan_close(&c, true);
		if (up == !on)
			return;
		sleep_until(now_ns() + 2000000);
	}
}

static void new_client(int fd)
{
	struct client *cl = xmalloc(sizeof(*cl));
	pthread_attr_t a;
	pthread_t t;

	cl->c.fd = fd;
	cl->c.pos = cl->c.end = 0;
	cl->up.pos = cl->up.end = 0;
	cl->up.fd = -1;
	pthread_mutex_lock(&lock);
	cl->prev = NULL;
	cl->next = clients;
	if (clients)
		clients->prev = cl;
	clients = cl;
	nclients++;
	pthread_mutex_unlock(&lock);
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 512 * 1024);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &a, serve, cl))
		abort();
	pthread_attr_destroy(&a);
}

static void accept_loop(int l)
{
	for (;;) {
		struct pollfd p[2] = { { wake_fd, POLLIN, 0 }, { l, POLLIN, 0 } };
		uint64_t n;
		uint16_t again;
		bool off;
		int fd;

		if (poll(p, 2, -1) < 0)
			continue;
		if ((p[0].revents & POLLIN) && read(wake_fd, &n, sizeof(n)) < 0)
			continue;
		pthread_mutex_lock(&lock);
		off = refusing;
		pthread_mutex_unlock(&lock);
		if (off && l >= 0) {
			close(l);
			l = -1;
		} else if (!off && l < 0) {
			l = listen_on(http_port, &again);
			if (l < 0) {
				fprintf(stderr, "s3front: listen again: %s\n", strerrordesc_np(-l));
				exit(1);
			}
		} else if (l >= 0 && (p[1].revents & POLLIN) && (fd = accept4(l, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			new_client(fd);
		}
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: s3front --upstream PORT --dir DIR [--access KEY --secret KEY] [--bucket B] [--region R]"
			" [--seed N] [--aws] [--kms]\n");
	return 2;
}

static int write_ports(const char *dir, uint16_t ctl)
{
	struct buf tmp = { 0 }, name = { 0 };
	FILE *f;
	int r = -1;

	buf_addf(&name, "%s/port", dir);
	buf_addf(&tmp, "%s/port.new", dir);
	f = fopen(tmp.p, "w");
	if (f && fprintf(f, "%u %u\n", http_port, ctl) > 0 && fclose(f) == 0)
		r = rename(tmp.p, name.p);
	buf_free(&tmp);
	buf_free(&name);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "upstream", 1, NULL, 'u' }, { "dir", 1, NULL, 'd' },	{ "access", 1, NULL, 'a' },
		{ "secret", 1, NULL, 's' },   { "bucket", 1, NULL, 'b' }, { "region", 1, NULL, 'r' },
		{ "seed", 1, NULL, 'S' },     { "aws", 0, NULL, 'A' },	{ "kms", 0, NULL, 'K' },
		{ NULL, 0, NULL, 0 } };
	const char *dir = NULL;
	struct buf log = { 0 };
	uint16_t ctl_port;
	pthread_t t;
	int c, l, ctl;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case 'u': conf.up_port = (uint16_t)atoi(optarg); break;
		case 'd': dir = optarg; break;
		case 'a': conf.access = optarg; break;
		case 's': conf.secret = optarg; break;
		case 'b': conf.bucket = optarg; break;
		case 'r': conf.region = optarg; break;
		case 'S': rnd_seed(strtoull(optarg, NULL, 10)); break;
		case 'A': conf.aws = true; break;
		case 'K': conf.kms = true; break;
		default: return usage();
		}
	}
	if (!conf.up_port || !dir || optind != argc || (conf.aws && !sign_have_keys()))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	aws_init();
	buf_addf(&log, "%s/requests", dir);
	wake_fd = eventfd(0, EFD_CLOEXEC);
	l = listen_on(0, &http_port);
	ctl = listen_on(0, &ctl_port);
	if (wake_fd < 0 || l < 0 || ctl < 0 || log_open(log.p) < 0 ||
	    pthread_create(&t, NULL, control_thread, (void *)(intptr_t)ctl) || write_ports(dir, ctl_port) < 0) {
		perror("s3front");
		return 1;
	}
	buf_free(&log);
	accept_loop(l);
	return 0;
}
