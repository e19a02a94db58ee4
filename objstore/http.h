/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * http.h - many HTTP/1.1 requests at once over kept connections. The only room for libcurl.
 *
 * One thread drives all transfers. http_submit() queues and returns; done() runs on that thread exactly once, may submit
 * and must not wait. Every pointer of the asked block is borrowed until done. It knows nothing of S3: a reply of any
 * status is a success here (status 0, code says which); status < 0 means that no whole reply was had.
 *
 * Bodies: of a 2xx reply into buf (at most cap bytes; more is cut and marked) or, when buf is NULL, into text; of any
 * other reply at most HTTP_ERROR_MAX bytes into text. No byte is stored before the status, and on_head, were asked.
 *
 * Nothing that changes the server is sent twice: libcurl's own repeat on a dead kept connection is allowed only where
 * `repeatable` says so, because a repeat that meets its first self would look like somebody else's change.
 */
#ifndef LSVD_HTTP_H
#define LSVD_HTTP_H

#include "base/base.h"
#include "base/str.h"
#include "base/table.h"
#include <sys/uio.h>

#define HTTP_ERROR_MAX (64 * KiB) /* kept of the body of a reply that is not 2xx */
#define HTTP_TEXT_MAX (32 * MiB)  /* of a 2xx body that goes into text: more is -EBADMSG */
#define HTTP_HEAD_MAX (256 * KiB) /* of all header lines: more is -EBADMSG */

struct http;

struct http_opts {
	unsigned connections; /* 0 = 100 */
	int64_t connect_ns;   /* 0 = 10 s; name look-up, TCP and TLS together */
	int64_t stall_ns;     /* 0 = 20 s without a byte in either direction: -ETIMEDOUT */
	const char *ca_file;  /* PEM; NULL = the system's */
};

/* Reads first: they may use every connection, transfers with big bodies three quarters, background work seven eighths. */
enum http_lane { HTTP_LANE_READ, HTTP_LANE_WRITE, HTTP_NLANES };

struct http_pair {
	const char *name, *value;
};

struct http_req {
	/* asked */
	const char *method; /* "GET", "HEAD", "PUT", "POST", "DELETE" */
	const char *url;    /* sent as it is: no dot segments are folded */
	const struct http_pair *headers;
	size_t nheaders;
	const struct iovec *iov; /* body of PUT and POST; must not change until done */
	int iovcnt;
	void *buf; /* see above; NULL = text */
	size_t cap;
	bool background;
	bool repeatable;     /* a second execution does no harm: GET, HEAD */
	enum http_lane lane;
	int64_t deadline_ns; /* monotonic, waiting in the queue included; 0 = none */
	int64_t stall_ns;    /* 0 = the client's */
	/* Header lines are in, no byte of the body was stored: 0 goes on, negative ends the request with that status. */
	int (*on_head)(struct http_req *h);

	/* answered */
	int status;	 /* 0 = a whole reply, else negative errno */
	int code;	 /* HTTP status, 0 when there was none */
	size_t got;	 /* bytes in buf */
	bool truncated;	 /* the body was longer than cap */
	bool sent;	 /* some byte of the request may have reached the server */
	struct str text; /* the caller frees by http_req_done() */
	int64_t length;	 /* Content-Length, -1 when not said */
	bool chunked;	 /* Transfer-Encoding: chunked, which says its own end */
	uint64_t wire_in, wire_out; /* bytes, headers included */
	char msg[256];	 /* words for status < 0 */

	void (*done)(struct http_req *h);
	void *priv; /* the caller's */

	/* private to http.c */
	struct list node;
	struct str head;    /* name NUL value NUL ... */
	void *easy;
	void *slist;
	int iov_i;	    /* position in the body */
	size_t iov_off;
	uint64_t body_len, left, seq;
	int64_t moved_ns;   /* last time that a byte moved */
	int outq;	    /* unacknowledged bytes of the socket when last looked */
	unsigned rounds;    /* how often libcurl began to send */
	bool headed;
	char detail[256];   /* what libcurl complained of */
	int head_status;
};

/* Starts the thread (after fork only). -ENOMEM, -EMFILE, -EIO. */
int must_check http_new(const struct http_opts *opts, struct http **ret);
/* No request may be under way. NULL is fine. */
void http_free(struct http *c);
/* Never waits, may be called from done(). */
void http_submit(struct http *c, struct http_req *h);
/* Submits and waits; sets done and priv. Returns h->status. Not from done(). */
int http_do(struct http *c, struct http_req *h);
/* Frees what the answer holds and clears the answered block. */
void http_req_done(struct http_req *h);
/* Value of a reply header, name in lower case; NULL when absent; the last one when repeated. Valid until http_req_done. */
const char *http_header(const struct http_req *h, const char *name);
/* Walks the reply headers: *pos starts at 0; false at the end. */
bool http_next_header(const struct http_req *h, size_t *pos, const char **ret_name, const char **ret_value);
/* HTTP date (RFC 9110 5.6.7) -> seconds since the epoch. -EINVAL. */
int must_check http_date(const char *s, int64_t *ret_s);
/* Transfers under way and queued, and TCP connections made so far: for status and tests. */
unsigned http_busy(struct http *c);
uint64_t http_connects(struct http *c);

#endif
