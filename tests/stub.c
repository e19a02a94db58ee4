/* SPDX-License-Identifier: GPL-3.0-or-later */
/* stub.c - see stub.h. */
#include "config.h"
#include "stub.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNS 1024

struct conn {
	struct stub *s;
	int fd;
	unsigned number;
	pthread_t thread;
};

struct stub {
	stub_fn *fn;
	void *arg;
	int lfd;
	unsigned port;
	pthread_t acceptor;
	pthread_mutex_t lock;
	pthread_cond_t news; /* a request came, the gate opened */
	struct conn *conns[MAX_CONNS];
	unsigned nconns, nreqs;
	bool open;
};

static void need(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

void stub_send(int fd, const void *p, size_t n)
{
	const char *b = p;

	while (n > 0) {
		ssize_t k = send(fd, b, n, MSG_NOSIGNAL);

		if (k <= 0)
			return; /* the client is gone: its business */
		b += k;
		n -= (size_t)k;
	}
}

void stub_printf(int fd, const char *fmt, ...)
{
	char buf[8192];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	need(n >= 0 && (size_t)n < sizeof(buf), "stub_printf");
	stub_send(fd, buf, (size_t)n);
}

void stub_reply(int fd, int code, const char *extra, const char *body)
{
	stub_printf(fd, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n", code, strlen(body), extra);
	stub_send(fd, body, strlen(body));
}

void stub_wait_gone(int fd)
{
	char buf[4096];

	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
}

bool stub_header(const struct stub_req *r, const char *name, char *out, size_t cap)
{
	size_t n = strlen(name);

	for (const char *p = r->head; p != NULL && *p != '\0'; p = strstr(p, "\r\n"), p = p != NULL ? p + 2 : NULL) {
		if (strncasecmp(p, name, n) != 0 || p[n] != ':')
			continue;
		p += n + 1;
		while (*p == ' ')
			p++;
		(void)snprintf(out, cap, "%.*s", (int)strcspn(p, "\r"), p);
		return true;
	}
	return false;
}

void stub_open(struct stub *s)
{
	pthread_mutex_lock(&s->lock);
	s->open = true;
	pthread_cond_broadcast(&s->news);
	pthread_mutex_unlock(&s->lock);
}

void stub_wait_open(struct stub *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->open)
		pthread_cond_wait(&s->news, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void stub_wait_requests(struct stub *s, unsigned n)
{
	pthread_mutex_lock(&s->lock);
	while (s->nreqs < n)
		pthread_cond_wait(&s->news, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

unsigned stub_port(const struct stub *s)
{
	return s->port;
}

unsigned stub_conns(struct stub *s)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = s->nconns;
	pthread_mutex_unlock(&s->lock);
	return n;
}

unsigned stub_requests(struct stub *s)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = s->nreqs;
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* Reads one request; false when the client hangs up. */
static bool read_request(struct conn *c, struct stub_req *r)
{
	char buf[sizeof(r->head) + 8192];
	size_t n = 0, head, want = 0;
	char *end = NULL, len[32];

	while (end == NULL) {
		ssize_t k = recv(c->fd, buf + n, sizeof(buf) - 1 - n, 0);

		if (k <= 0) /* hung up, or a head that fills the buffer */
			return false;
		n += (size_t)k;
		buf[n] = '\0';
		end = strstr(buf, "\r\n\r\n");
	}
	head = (size_t)(end - buf) + 4;
	if (sscanf(buf, "%15s %4095s", r->method, r->target) != 2)
		return false;
	(void)snprintf(r->head, sizeof(r->head), "%.*s", (int)(head - 2), strstr(buf, "\r\n") + 2);
	if (stub_header(r, "content-length", len, sizeof(len)))
		want = strtoul(len, NULL, 10);
	r->body = calloc(1, want + 1);
	need(r->body != NULL, "calloc");
	r->body_len = MIN(want, n - head);
	memcpy(r->body, buf + head, r->body_len);
	while (r->body_len < want) {
		ssize_t k = recv(c->fd, r->body + r->body_len, want - r->body_len, 0);

		if (k <= 0) {
			free(r->body);
			return false;
		}
		r->body_len += (size_t)k;
	}
	return true;
}

static void *serve(void *arg)
{
	struct conn *c = arg;
	struct stub *s = c->s;
	bool keep = true;
	struct stub_req *r = calloc(1, sizeof(*r));

	need(r != NULL, "calloc");
	while (keep && read_request(c, r)) {
		pthread_mutex_lock(&s->lock);
		r->index = ++s->nreqs;
		pthread_cond_broadcast(&s->news);
		pthread_mutex_unlock(&s->lock);
		r->conn = c->number;
		keep = s->fn(s, c->fd, r, s->arg);
		free(r->body);
	}
	free(r);
	shutdown(c->fd, SHUT_RDWR);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct stub *s = arg;
	int fd, one = 1;

	while ((fd = accept(s->lfd, NULL, NULL)) >= 0) {
		struct conn *c = calloc(1, sizeof(*c));

		need(c != NULL && s->nconns < MAX_CONNS, "connection");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c->s = s;
		c->fd = fd;
		pthread_mutex_lock(&s->lock);
		c->number = s->nconns + 1;
		s->conns[s->nconns++] = c;
		pthread_mutex_unlock(&s->lock);
		need(pthread_create(&c->thread, NULL, serve, c) == 0, "pthread_create");
	}
	return NULL;
}

struct stub *stub_start(stub_fn *fn, void *arg)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	struct stub *s = calloc(1, sizeof(*s));

	need(s != NULL, "calloc");
	s->fn = fn;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->news, NULL);
	s->lfd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(s->lfd >= 0 && bind(s->lfd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(s->lfd, 512) == 0, "listen");
	need(getsockname(s->lfd, (struct sockaddr *)&a, &len) == 0, "getsockname");
	s->port = ntohs(a.sin_port);
	need(pthread_create(&s->acceptor, NULL, accept_all, s) == 0, "pthread_create");
	return s;
}

void stub_stop(struct stub *s)
{
	stub_open(s);
	shutdown(s->lfd, SHUT_RDWR);
	pthread_join(s->acceptor, NULL);
	close(s->lfd);
	for (unsigned i = 0; i < s->nconns; i++)
		shutdown(s->conns[i]->fd, SHUT_RDWR);
	for (unsigned i = 0; i < s->nconns; i++) {
		pthread_join(s->conns[i]->thread, NULL);
		close(s->conns[i]->fd);
		free(s->conns[i]);
	}
	pthread_cond_destroy(&s->news);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
