/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * http.c - HTTP/1.1 messages on blocking sockets: heads, bodies with a length, chunked, or to the end.
 */
#include "front.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t fill(struct chan *c)
{
	ssize_t n;

	c->pos = c->end = 0;
	do
		n = recv(c->fd, c->buf, sizeof(c->buf), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c->end = (size_t)n;
	return n;
}

int chan_write(struct chan *c, const void *p, size_t n)
{
	const char *s = p;

	while (n) {
		ssize_t w = send(c->fd, s, n, MSG_NOSIGNAL);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return -errno;
		s += w;
		n -= (size_t)w;
	}
	return 0;
}

void chan_close(struct chan *c, bool reset)
{
	struct linger l = { 1, 0 };

	if (c->fd < 0)
		return;
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(c->fd);
	c->fd = -1;
	c->pos = c->end = 0;
}

bool chan_alive(struct chan *c)
{
	struct pollfd p = { c->fd, POLLIN | POLLRDHUP, 0 };

	return c->fd >= 0 && c->pos == c->end && poll(&p, 1, 0) == 0;
}

static void nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

int chan_connect(struct chan *c, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	c->pos = c->end = 0;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		int r = -errno;

		chan_close(c, false);
		return r;
	}
	nodelay(c->fd);
	return 0;
}

/* port 0: any; the one that it became goes to ret_port. Returns the socket or -errno. */
int listen_on(uint16_t port, uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, r;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	nodelay(fd); /* inherited by what is accepted */
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 512) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_port = ntohs(a.sin_port);
	return fd;
}

/* One line without CRLF into b. 1, 0 = end of stream before the first byte, -errno. */
static int read_line(struct chan *c, struct buf *b, size_t max)
{
	b->len = 0;
	buf_reserve(b, 1);
	for (;;) {
		char *nl;
		size_t n;

		if (c->pos == c->end) {
			ssize_t r = fill(c);

			if (r <= 0)
				return r < 0 ? (int)r : b->len ? -EPIPE : 0;
		}
		nl = memchr(c->buf + c->pos, '\n', c->end - c->pos);
		n = nl ? (size_t)(nl - (c->buf + c->pos)) : c->end - c->pos;
		buf_add(b, c->buf + c->pos, n);
		c->pos += n + (nl ? 1 : 0);
		if (b->len > max)
			return -E2BIG;
		if (nl) {
			if (b->len && b->p[b->len - 1] == '\r')
				b->p[--b->len] = 0;
			return 1;
		}
	}
}

const char *head_get(const struct head *h, const char *name)
{
	for (size_t i = 0; i < h->n; i++)
		if (!strcasecmp(h->h[i].name, name))
			return h->h[i].value;
	return NULL;
}

void head_set(struct head *h, const char *name, const char *value)
{
	char *keep = value ? xstrdup(value) : NULL;
	size_t o = 0;

	for (size_t i = 0; i < h->n; i++) {
		if (!strcasecmp(h->h[i].name, name)) {
			free(h->h[i].value);
			h->h[i].value = keep;
			if (keep) {
				keep = NULL;
				h->h[o++] = h->h[i];
			} else {
				free(h->h[i].name);
			}
			continue;
		}
		h->h[o++] = h->h[i];
	}
	h->n = o;
	if (keep && h->n < HEADERS_MAX) {
		h->h[h->n].name = xstrdup(name);
		h->h[h->n++].value = keep;
	} else {
		free(keep);
	}
}

void head_free(struct head *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->h[i].name);
		free(h->h[i].value);
	}
	for (size_t i = 0; i < 3; i++)
		free(h->line[i]);
	memset(h, 0, sizeof(*h));
}

static int parse_start(struct head *h, const char *s, bool reply)
{
	const char *a = strchr(s, ' '), *b;

	if (!a)
		return -EBADMSG;
	b = reply ? strchr(a + 1, ' ') : strrchr(a + 1, ' ');
	h->line[0] = xstrndup(s, (size_t)(a - s));
	h->line[1] = b ? xstrndup(a + 1, (size_t)(b - a - 1)) : xstrdup(a + 1);
	h->line[2] = xstrdup(b ? b + 1 : "");
	if (reply) {
		h->status = atoi(h->line[1]);
		return h->status < 100 || h->status > 999 ? -EBADMSG : 0;
	}
	return h->line[1][0] == '/' ? 0 : -EBADMSG;
}

static void parse_meaning(struct head *h)
{
	const char *s;

	h->length = (s = head_get(h, "content-length")) ? strtoll(s, NULL, 10) : -1;
	h->chunked = (s = head_get(h, "transfer-encoding")) && strcasestr(s, "chunked");
	h->close = (s = head_get(h, "connection")) && strcasestr(s, "close");
}

int head_read(struct chan *c, struct head *h, bool reply)
{
	struct buf b = { 0 };
	size_t total = 0;
	int r;

	memset(h, 0, sizeof(*h));
	do
		r = read_line(c, &b, HEAD_MAX);
	while (r > 0 && !b.len && !reply); /* an empty line before a request is allowed: RFC 9112 2.2 */
	if (r <= 0)
		goto out;
	r = parse_start(h, b.p, reply);
	while (r == 0) {
		char *colon, *v;

		r = read_line(c, &b, HEAD_MAX);
		if (r <= 0) {
			r = r ? r : -EPIPE;
			break;
		}
		if (!b.len)
			break;
		total += b.len;
		colon = strchr(b.p, ':');
		if (!colon || h->n == HEADERS_MAX || total > HEAD_MAX) {
			r = -EBADMSG;
			break;
		}
		for (v = colon + 1; *v == ' ' || *v == '\t'; v++)
			;
		h->h[h->n].name = xstrndup(b.p, (size_t)(colon - b.p));
		h->h[h->n++].value = xstrdup(v);
		r = 0;
	}
	parse_meaning(h);
out:
	buf_free(&b);
	if (r < 0)
		head_free(h);
	return r;
}

void head_format(const struct head *h, struct buf *out)
{
	buf_addf(out, "%s %s %s\r\n", h->line[0], h->line[1], h->line[2]);
	for (size_t i = 0; i < h->n; i++)
		buf_addf(out, "%s: %s\r\n", h->h[i].name, h->h[i].value);
	buf_adds(out, "\r\n");
}

void body_init(struct body *b, struct chan *c, const struct head *h, bool reply)
{
	memset(b, 0, sizeof(*b));
	b->c = c;
	if (h->no_body || (reply && (h->status == 204 || h->status == 304 || h->status < 200)))
		b->kind = BODY_NONE;
	else if (h->chunked)
		b->kind = BODY_CHUNKED;
	else if (h->length >= 0)
		b->kind = h->length ? BODY_LENGTH : BODY_NONE;
	else
		b->kind = reply ? BODY_EOF : BODY_NONE;
	b->left = b->kind == BODY_LENGTH ? h->length : 0;
}

/* The next chunk's length into b->left, or the end. */
static int next_chunk(struct body *b)
{
	struct buf l = { 0 };
	int r = 1;

	if (b->started)
		r = read_line(b->c, &l, 4096); /* the CRLF behind the last one */
	b->started = true;
	if (r > 0)
		r = read_line(b->c, &l, 4096);
	if (r > 0) {
		b->left = strtoll(l.p, NULL, 16);
		if (b->left <= 0) {
			do
				r = read_line(b->c, &l, 4096); /* trailers */
			while (r > 0 && l.len);
			b->kind = BODY_NONE;
		}
	}
	buf_free(&l);
	return r > 0 ? 0 : r ? r : -EPIPE;
}

ssize_t body_read(struct body *b, void *p, size_t n)
{
	struct chan *c = b->c;
	size_t have;

	if (b->kind == BODY_CHUNKED && !b->left) {
		int r = next_chunk(b);

		if (r < 0)
			return r;
	}
	if (b->kind == BODY_NONE)
		return 0;
	if (c->pos == c->end) {
		ssize_t r = fill(c);

		if (r == 0 && b->kind == BODY_EOF)
			b->kind = BODY_NONE;
		if (r <= 0)
			return r < 0 ? r : b->kind == BODY_NONE ? 0 : -EPIPE;
	}
	have = c->end - c->pos;
	if (n > have)
		n = have;
	if (b->kind != BODY_EOF && (int64_t)n > b->left)
		n = (size_t)b->left;
	memcpy(p, c->buf + c->pos, n);
	c->pos += n;
	b->left -= (int64_t)n;
	if (b->kind == BODY_LENGTH && !b->left)
		b->kind = BODY_NONE;
	return (ssize_t)n;
}

int body_all(struct body *b, struct buf *out)
{
	if (b->kind == BODY_LENGTH) {
		if ((uint64_t)b->left > BODY_MAX)
			return -EFBIG;
		buf_reserve(out, (size_t)b->left);
	}
	for (;;) {
		ssize_t n;

		if (out->len > BODY_MAX)
			return -EFBIG;
		buf_reserve(out, 65536);
		n = body_read(b, out->p + out->len, 65536);
		if (n <= 0)
			return (int)n;
		out->len += (size_t)n;
		out->p[out->len] = 0;
	}
}
