/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * http.c - the curl thread.
 *
 * libcurl's multi interface with the socket callbacks over one epoll: the cost of a wake-up is the sockets that have
 * news, not the hundred that have none. A request goes
 *
 *   http_submit --lock--> incoming --thread--> waiting[prio][lane] --free connection--> active --> done()
 *
 *   state      leaves by                                        status
 *   incoming   the thread wakes                                 -
 *   waiting    a connection is free for its lane                -
 *              its deadline passes                              -ETIMEDOUT, sent = false
 *   active     libcurl ends the transfer                        0 or the mapped error
 *              no byte moved for stall_ns, or deadline          -ETIMEDOUT
 *
 * Everything behind "incoming" belongs to the thread alone and needs no lock. An idle client sleeps in epoll without a
 * timeout.
 *
 * Progress is a byte moved in either direction. An upload whose last bytes sit in the kernel's send buffer looks idle
 * from here, so before a transfer is called stalled the socket's unacknowledged count (SIOCOUTQ) is asked.
 *
 * TCP_QUICKACK: a server without TCP_NODELAY sends the header of a small reply and then holds the body until our
 * delayed ACK, 40 ms later. The flag works only when set after the request was sent and wears off, so it is set each
 * time libcurl turns a socket to reading. Measured on a stock RGW: 44 ms -> 1 ms for a small GET.
 */
#include "config.h"
#include "http-private.h"
#include "base/clock.h"
#include <curl/curl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_NS (100 * NSEC_PER_MSEC) /* how often deadlines and stalls are looked at while there is work */
#define DRAIN_MAX (128 * KiB)	      /* an unwanted rest up to this is read; a longer one costs the connection */

int http_date(const char *s, int64_t *ret_s)
{
	time_t t = curl_getdate(s, NULL);

	if (t == (time_t)-1)
		return -EINVAL;
	*ret_s = (int64_t)t;
	return 0;
}

/* --- callbacks of a transfer -------------------------------------------------------------------------------------- */

static size_t read_cb(char *p, size_t size, size_t n, void *arg)
{
	struct http_req *h = arg;
	size_t room = size * n, out = 0;

	while (out < room && h->iov_i < h->iovcnt) {
		const struct iovec *v = &h->iov[h->iov_i];
		size_t k = MIN(room - out, v->iov_len - h->iov_off);

		if (k > 0)
			memcpy(p + out, (const char *)v->iov_base + h->iov_off, k);
		out += k;
		h->iov_off += k;
		if (h->iov_off == v->iov_len) {
			h->iov_i++;
			h->iov_off = 0;
		}
	}
	h->moved_ns = clock_now_ns();
	return out;
}

/* libcurl rewinds only to send again by itself, which is not for it to decide. */
static int seek_cb(void *arg, curl_off_t off, int origin)
{
	struct http_req *h = arg;

	if (!h->repeatable || off != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	h->iov_i = 0;
	h->iov_off = 0;
	return CURL_SEEKFUNC_OK;
}

#if LIBCURL_VERSION_NUM >= 0x075000
static int prereq_cb(void *arg, char *rip, char *lip, int rport, int lport)
{
	struct http_req *h = arg;

	h->moved_ns = clock_now_ns();
	if (h->rounds++ > 0 && !h->repeatable)
		return CURL_PREREQFUNC_ABORT;
	return CURL_PREREQFUNC_OK;
}
#endif

static size_t header_cb(char *p, size_t size, size_t n, void *arg)
{
	struct http_req *h = arg;
	size_t len = size * n;
	long code = 0;

	h->moved_ns = clock_now_ns();
	if (h->headed)
		return len; /* trailers behind the body */
	if (httpq_header_line(h, p, len))
		return h->head_status == 0 ? len : 0;
	(void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &code);
	return httpq_head_end(h, (int)code) ? len : 0;
}

static size_t write_cb(char *p, size_t size, size_t n, void *arg)
{
	struct http_req *h = arg;
	size_t len = size * n, k;

	h->moved_ns = clock_now_ns();
	if (!h->headed)
		return 0;
	h->left -= MIN(h->left, (uint64_t)len);
	if (h->code < 200 || h->code > 299) {
		if (h->text.len < HTTP_ERROR_MAX)
			str_addn(&h->text, p, MIN(len, (size_t)HTTP_ERROR_MAX - h->text.len));
		return len;
	}
	if (h->buf == NULL) {
		if (h->text.len + len > HTTP_TEXT_MAX) {
			h->head_status = -EBADMSG;
			return 0;
		}
		str_addn(&h->text, p, len);
		return len;
	}
	k = MIN(len, h->cap - h->got);
	memcpy((char *)h->buf + h->got, p, k);
	h->got += k;
	if (k == len)
		return len;
	h->truncated = true;
	return h->length >= 0 && h->left <= DRAIN_MAX ? len : 0;
}

/* --- callbacks of the multi handle -------------------------------------------------------------------------------- */

static int socket_cb(CURL *easy, curl_socket_t fd, int what, void *arg, void *sockp)
{
	struct http *c = arg;
	struct epoll_event ev = {.data.fd = fd};
	int one = 1;

	if (what == CURL_POLL_REMOVE) {
		(void)epoll_ctl(c->epfd, EPOLL_CTL_DEL, fd, NULL); /* a closed one is gone already */
		return 0;
	}
	ev.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
	if (epoll_ctl(c->epfd, EPOLL_CTL_MOD, fd, &ev) < 0 && errno == ENOENT &&
	    epoll_ctl(c->epfd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -1;
	if (what == CURL_POLL_IN)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
	return 0;
}

static int timer_cb(CURLM *multi, long ms, void *arg)
{
	struct http *c = arg;

	c->timer_ns = ms < 0 ? -1 : clock_now_ns() + (int64_t)ms * NSEC_PER_MSEC;
	return 0;
}

/* --- errors ------------------------------------------------------------------------------------------------------- */

static int connect_errno(CURL *easy)
{
	long e = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &e);
	switch (e) {
	case ECONNREFUSED:
		return -ECONNREFUSED;
	case ETIMEDOUT:
		return -ETIMEDOUT;
	case ECONNRESET:
		return -ECONNRESET;
	case EMFILE:
	case ENFILE:
		return -EMFILE;
	default:
		return -EHOSTUNREACH;
	}
}

/* "scheme://host[:port]" of a URL, for messages: the rest may hold what is nobody's business. */
static int origin_len(const char *url)
{
	const char *p = strstr(url, "://");

	p = p != NULL ? p + 3 : url;
	return (int)(p - url + (ptrdiff_t)strcspn(p, "/?"));
}

static int tls_error(struct http *c, struct http_req *h, CURLcode rc)
{
	const char *why = h->detail[0] != '\0' ? h->detail : curl_easy_strerror(rc);
	int n = origin_len(h->url);
	long e = 0;

	(void)curl_easy_getinfo(h->easy, CURLINFO_OS_ERRNO, &e);
	/* cut in the handshake: the network, not the trust; anything odd there is, once it has worked */
	if (rc == CURLE_SSL_CONNECT_ERROR && (e == ECONNRESET || c->tls_worked)) {
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: connection reset in the TLS handshake", n, h->url);
		return -ECONNRESET;
	}
	if (rc == CURLE_SSL_CACERT_BADFILE)
		(void)snprintf(h->msg, sizeof(h->msg),
			       "no usable CA bundle (%s): install ca-certificates or name one with ca_file=",
			       c->ca_file != NULL ? c->ca_file : "system default");
	else if (rc == CURLE_PEER_FAILED_VERIFICATION)
		(void)snprintf(h->msg, sizeof(h->msg),
			       "%.*s: certificate not trusted (%.100s): is its CA known (ca_file=), is it in date?", n,
			       h->url, why);
	else
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: TLS failed (%.100s): does this port speak https?", n,
			       h->url, why);
	return -EKEYREJECTED;
}

/* What libcurl said -> errno and words. */
static int map_error(struct http *c, struct http_req *h, CURLcode rc)
{
	int n = origin_len(h->url), r;

	switch (rc) {
	case CURLE_OK:
		return 0;
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_ENGINE_INITFAILED:
	case CURLE_USE_SSL_FAILED:
		return tls_error(c, h, rc);
	case CURLE_COULDNT_RESOLVE_HOST:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: host name not found", n, h->url);
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		r = connect_errno(h->easy);
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: %s", n, h->url,
			       r == -ECONNREFUSED ? "connection refused: is the server up, the port right?" :
						    "cannot connect");
		return r;
	case CURLE_OPERATION_TIMEDOUT:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: no connection in time", n, h->url);
		return -ETIMEDOUT;
	case CURLE_PARTIAL_FILE:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: reply was cut short", n, h->url);
		return -EBADMSG;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_FILESIZE_EXCEEDED:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: the reply is not HTTP", n, h->url);
		return -EBADMSG;
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_ABORTED_BY_CALLBACK:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: connection lost", n, h->url);
		return -ECONNRESET;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_URL_MALFORMAT:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: not a URL", n, h->url);
		return -EINVAL;
	default:
		(void)snprintf(h->msg, sizeof(h->msg), "%.*s: %s", n, h->url, curl_easy_strerror(rc));
		return -EIO;
	}
}

/* --- life of a transfer (thread) ---------------------------------------------------------------------------------- */

static int add_header(struct curl_slist **list, const char *name, const char *value)
{
	struct str s = {0};
	struct curl_slist *l;

	/* "name;" is how libcurl is told of an empty value */
	str_addf(&s, value[0] != '\0' ? "%s: %s" : "%s;", name, value);
	l = s.err == 0 ? curl_slist_append(*list, s.p) : NULL;
	str_free(&s);
	if (l == NULL)
		return -ENOMEM;
	*list = l;
	return 0;
}

static int build_headers(struct http_req *h)
{
	/* "Name:" takes out what libcurl would add; 100-continue costs a round trip and is seldom answered */
	static const char *const without[] = {"Expect:", "Accept:"};
	struct curl_slist *l = NULL, *e;
	int r = 0;

	for (size_t i = 0; i < h->nheaders && r == 0; i++)
		r = add_header(&l, h->headers[i].name, h->headers[i].value);
	for (size_t i = 0; i < ARRAY_SIZE(without) && r == 0; i++) {
		e = curl_slist_append(l, without[i]);
		if (e == NULL)
			r = -ENOMEM;
		else
			l = e;
	}
	if (r < 0)
		curl_slist_free_all(l);
	else
		h->slist = l;
	return r;
}

static void set_body(struct http_req *h, CURL *e)
{
	bool body = strcmp(h->method, "PUT") == 0 || strcmp(h->method, "POST") == 0;

	if (strcmp(h->method, "HEAD") == 0) {
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	} else if (body) {
		curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)h->body_len);
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, h->method);
		curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, h->body_len > MiB ? 256L * 1024 : 64L * 1024);
	} else if (strcmp(h->method, "GET") != 0) {
		curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, h->method);
	}
	curl_easy_setopt(e, CURLOPT_READFUNCTION, read_cb);
	curl_easy_setopt(e, CURLOPT_READDATA, h);
	curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, seek_cb);
	curl_easy_setopt(e, CURLOPT_SEEKDATA, h);
}

static void set_policy(struct http *c, struct http_req *h, CURL *e)
{
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(c->opts.connect_ns / NSEC_PER_MSEC));
	curl_easy_setopt(e, CURLOPT_USERAGENT, PACKAGE_NAME "/" PACKAGE_VERSION);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, h->buf != NULL && h->cap > 256 * KiB ? 256L * 1024 : 16L * 1024);
	if (c->ca_file != NULL)
		curl_easy_setopt(e, CURLOPT_CAINFO, c->ca_file);
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(e, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075000
	curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, prereq_cb);
	curl_easy_setopt(e, CURLOPT_PREREQDATA, h);
#else
	/* no way to see libcurl repeat a request without a body: such changes get a connection of their own */
	curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, !h->repeatable && h->body_len == 0 ? 1L : 0L);
#endif
}

static void finish(struct http *c, struct http_req *h, int status)
{
	curl_slist_free_all(h->slist);
	h->slist = NULL;
	if (status == 0 && h->text.err != 0)
		status = h->text.err;
	h->status = status;
	atomic_fetch_sub(&c->busy, 1);
	h->done(h);
}

static int start(struct http *c, struct http_req *h)
{
	CURL *e = c->nidle > 0 ? c->idle[--c->nidle] : curl_easy_init();
	int r;

	if (e == NULL)
		return -ENOMEM;
	h->easy = e;
	r = build_headers(h);
	if (r < 0)
		goto fail;
	set_policy(c, h, e);
	set_body(h, e);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, h->slist);
	curl_easy_setopt(e, CURLOPT_PRIVATE, h);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, h->detail);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_cb);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, h);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, write_cb);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, h);
	r = -ENOMEM;
	if (curl_easy_setopt(e, CURLOPT_URL, h->url) != CURLE_OK)
		goto fail;
	h->moved_ns = clock_now_ns();
	if (curl_multi_add_handle(c->multi, e) != CURLM_OK)
		goto fail;
	list_add_tail(&c->active, &h->node);
	c->nactive++;
	c->nlane[h->lane]++;
	c->nbackground += h->background;
	return 0;
fail:
	h->easy = NULL;
	curl_easy_cleanup(e);
	return r;
}

/* Takes a transfer off libcurl; one that is not over loses its connection. */
static void stop_transfer(struct http *c, struct http_req *h)
{
	CURL *e = h->easy;
	curl_off_t up = 0, down = 0;
	long req = 0, head = 0, conns = 0;

	(void)curl_easy_getinfo(e, CURLINFO_REQUEST_SIZE, &req);
	(void)curl_easy_getinfo(e, CURLINFO_HEADER_SIZE, &head);
	(void)curl_easy_getinfo(e, CURLINFO_SIZE_UPLOAD_T, &up);
	(void)curl_easy_getinfo(e, CURLINFO_SIZE_DOWNLOAD_T, &down);
	(void)curl_easy_getinfo(e, CURLINFO_NUM_CONNECTS, &conns);
	h->wire_out = (uint64_t)req + (uint64_t)up;
	h->wire_in = (uint64_t)head + (uint64_t)down;
	h->sent = req > 0 || h->code != 0;
	atomic_fetch_add(&c->connects, (uint64_t)conns);
	(void)curl_multi_remove_handle(c->multi, e);
	list_del(&h->node);
	c->nactive--;
	c->nlane[h->lane]--;
	c->nbackground -= h->background;
	h->easy = NULL;
	if (c->nidle < c->opts.connections) {
		curl_easy_reset(e);
		c->idle[c->nidle++] = e;
	} else {
		curl_easy_cleanup(e);
	}
}

/* The end as libcurl sees it. */
static void transfer_over(struct http *c, struct http_req *h, CURLcode rc)
{
	int r;

	if (h->head_status != 0) {
		r = h->head_status;
		if (h->msg[0] == '\0')
			(void)snprintf(h->msg, sizeof(h->msg), "%.*s: reply not understood", origin_len(h->url), h->url);
	} else if (rc == CURLE_WRITE_ERROR && h->truncated) {
		r = 0;
	} else {
		r = map_error(c, h, rc);
		c->tls_worked |= rc == CURLE_OK && str_has_prefix(h->url, "https:");
	}
	stop_transfer(c, h);
	finish(c, h, r);
}

static void reap(struct http *c)
{
	CURLMsg *m;
	int n;

	while ((m = curl_multi_info_read(c->multi, &n)) != NULL) {
		struct http_req *h = NULL;
		CURLcode rc = m->data.result; /* m dies with the handle */

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&h);
		transfer_over(c, h, rc);
	}
}

static void start_waiting(struct http *c)
{
	struct http_req *h;

	while ((h = httpq_pick(c)) != NULL) {
		int r;

		list_del(&h->node);
		r = httpq_too_late(h, clock_now_ns()) ? -ETIMEDOUT : start(c, h);
		if (r < 0)
			finish(c, h, r);
	}
}

/* --- deadlines and stalls (thread) -------------------------------------------------------------------------------- */

/* True when the peer took bytes out of the socket since we last looked. */
static bool socket_moved(struct http_req *h)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	int n = 0;

	if (curl_easy_getinfo(h->easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD ||
	    ioctl(fd, SIOCOUTQ, &n) < 0 || n == h->outq)
		return false;
	h->outq = n;
	return true;
}

static void watch_active(struct http *c, int64_t now)
{
	list_for_each_safe (it, tmp, &c->active) {
		struct http_req *h = list_entry(it, struct http_req, node);
		int64_t stall = h->stall_ns > 0 ? h->stall_ns : c->opts.stall_ns;
		int n = origin_len(h->url);

		if (h->body_len > 0 && !h->headed && now - h->moved_ns > stall / 4 && socket_moved(h))
			h->moved_ns = now;
		if (h->deadline_ns != 0 && now >= h->deadline_ns)
			(void)snprintf(h->msg, sizeof(h->msg), "%.*s: no answer before the deadline", n, h->url);
		else if (now - h->moved_ns >= stall)
			(void)snprintf(h->msg, sizeof(h->msg), "%.*s: no byte moved for %lld s", n, h->url,
				       (long long)(stall / NSEC_PER_SEC));
		else
			continue;
		stop_transfer(c, h);
		finish(c, h, -ETIMEDOUT);
		return; /* done() may have changed the list: go on at the next tick, which is now */
	}
	c->tick_ns = now + TICK_NS;
}

static void watch_waiting(struct http *c, int64_t now)
{
	for (int i = 0; i < 2 * HTTP_NLANES; i++) {
		struct list *q = &c->waiting[i / HTTP_NLANES][i % HTTP_NLANES];

		list_for_each_safe (it, tmp, q) {
			struct http_req *h = list_entry(it, struct http_req, node);

			if (!httpq_too_late(h, now))
				continue;
			list_del(&h->node);
			finish(c, h, -ETIMEDOUT); /* done() can only add to incoming, never to these lists */
		}
	}
}

static int wait_ms(const struct http *c, int64_t now)
{
	int64_t until = httpq_idle(c) ? -1 : c->tick_ns;

	if (c->timer_ns >= 0 && (until < 0 || c->timer_ns < until))
		until = c->timer_ns;
	if (until < 0)
		return -1;
	return until <= now ? 0 : (int)MIN((until - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, (int64_t)60000);
}

static void socket_event(struct http *c, const struct epoll_event *ev)
{
	uint64_t n;
	int running, what = 0;

	if (ev->data.fd == c->evfd) {
		(void)!read(c->evfd, &n, sizeof(n));
		return;
	}
	if (ev->events & (EPOLLIN | EPOLLHUP))
		what |= CURL_CSELECT_IN;
	if (ev->events & EPOLLOUT)
		what |= CURL_CSELECT_OUT;
	if (ev->events & EPOLLERR)
		what |= CURL_CSELECT_ERR;
	(void)curl_multi_socket_action(c->multi, ev->data.fd, what, &running);
}

static void *http_thread(void *arg)
{
	struct http *c = arg;
	struct epoll_event ev[64];
	int running;

	(void)pthread_setname_np(pthread_self(), "http");
	for (;;) {
		bool stop = httpq_take_incoming(c);
		int64_t now;
		int n;

		start_waiting(c);
		if (stop && httpq_idle(c))
			break;
		n = epoll_wait(c->epfd, ev, ARRAY_SIZE(ev), wait_ms(c, clock_now_ns()));
		for (int i = 0; i < n; i++)
			socket_event(c, &ev[i]);
		now = clock_now_ns();
		if (c->timer_ns >= 0 && now >= c->timer_ns) {
			c->timer_ns = -1;
			(void)curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		reap(c);
		if (now >= c->tick_ns) {
			watch_waiting(c, now);
			watch_active(c, now);
		}
	}
	return NULL;
}

/* --- outside ------------------------------------------------------------------------------------------------------ */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static CURLcode global_rc;

static void global_init(void)
{
	global_rc = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void wake(struct http *c)
{
	uint64_t one = 1;

	(void)!write(c->evfd, &one, sizeof(one)); /* full means that it is awake anyway */
}

/* Everything but the thread. */
static void http_destroy(struct http *c)
{
	for (unsigned i = 0; i < c->nidle; i++)
		curl_easy_cleanup(c->idle[i]);
	free(c->idle);
	if (c->multi != NULL)
		(void)curl_multi_cleanup(c->multi);
	base_closep(&c->evfd);
	base_closep(&c->epfd);
	mtx_destroy(&c->lock);
	free(c->ca_file);
	free(c);
}

static int http_setup(struct http *c, const struct http_opts *opts)
{
	struct epoll_event ev = {.events = EPOLLIN};

	c->opts = *opts;
	if (c->opts.connections == 0)
		c->opts.connections = 100;
	if (c->opts.connect_ns == 0)
		c->opts.connect_ns = 10 * NSEC_PER_SEC;
	if (c->opts.stall_ns == 0)
		c->opts.stall_ns = 20 * NSEC_PER_SEC;
	c->ca_file = opts->ca_file != NULL ? strdup(opts->ca_file) : NULL;
	c->idle = calloc(c->opts.connections, sizeof(*c->idle));
	c->multi = curl_multi_init();
	if (c->idle == NULL || c->multi == NULL || (opts->ca_file != NULL && c->ca_file == NULL))
		return -ENOMEM;
	c->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (c->evfd < 0 || c->epfd < 0)
		return -errno;
	ev.data.fd = c->evfd;
	if (epoll_ctl(c->epfd, EPOLL_CTL_ADD, c->evfd, &ev) < 0)
		return -errno;
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, socket_cb);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_cb);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)c->opts.connections);
	curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	return 0;
}

int http_new(const struct http_opts *opts, struct http **ret)
{
	struct http *c;
	sigset_t all, old;
	int r;

	(void)pthread_once(&global_once, global_init);
	if (global_rc != CURLE_OK)
		return -EIO;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	c->evfd = c->epfd = -1;
	c->timer_ns = -1;
	mtx_init(&c->lock, RANK_HTTP);
	list_init(&c->incoming);
	list_init(&c->active);
	for (int i = 0; i < 2 * HTTP_NLANES; i++)
		list_init(&c->waiting[i / HTTP_NLANES][i % HTTP_NLANES]);
	r = http_setup(c, opts);
	if (r < 0)
		goto fail;
	/* signals belong to the program's other threads; SIGPIPE from a TLS socket shall not end it */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&c->thread, NULL, http_thread, c);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		goto fail;
	*ret = c;
	return 0;
fail:
	http_destroy(c);
	return r;
}

void http_free(struct http *c)
{
	if (c == NULL)
		return;
	mtx_lock(&c->lock);
	c->stop = true;
	mtx_unlock(&c->lock);
	wake(c);
	(void)pthread_join(c->thread, NULL);
	http_destroy(c);
}

void http_submit(struct http *c, struct http_req *h)
{
	bool first;

	http_req_done(h);
	h->iov_i = 0;
	h->iov_off = 0;
	h->body_len = h->left = 0;
	for (int i = 0; i < h->iovcnt; i++)
		h->body_len += h->iov[i].iov_len;
	h->outq = -1;
	h->rounds = 0;
	h->detail[0] = '\0';
	h->headed = false;
	h->head_status = 0;
	h->slist = NULL;
	atomic_fetch_add(&c->busy, 1);
	mtx_lock(&c->lock);
	first = list_empty(&c->incoming);
	list_add_tail(&c->incoming, &h->node);
	mtx_unlock(&c->lock);
	if (first) /* else somebody has woken the thread already */
		wake(c);
}
