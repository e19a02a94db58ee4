/* SPDX-License-Identifier: GPL-3.0-or-later */
/* http-private.h - shared by http.c (the curl thread) and httpq.c (requests and their queues, without libcurl). */
#ifndef LSVD_HTTP_PRIVATE_H
#define LSVD_HTTP_PRIVATE_H

#include "http.h"
#include "base/lock.h"
#include <pthread.h>
#include <stdatomic.h>

struct http {
	struct http_opts opts; /* ca_file is ours; read-only after http_new */
	char *ca_file;
	pthread_t thread;
	int evfd, epfd;
	void *multi; /* CURLM */

	struct mtx lock;
	struct list incoming; /* under lock */
	bool stop;	      /* under lock */

	/* the thread's own */
	struct list waiting[2][HTTP_NLANES]; /* [background][lane] */
	struct list active;
	unsigned nactive, nlane[HTTP_NLANES], nbackground;
	uint64_t seq;
	int64_t timer_ns; /* when libcurl wants to be called, -1 = never */
	int64_t tick_ns;
	bool tls_worked; /* some handshake did */
	void **idle; /* CURL: easy handles for use again */
	unsigned nidle;

	_Atomic unsigned busy;
	_Atomic uint64_t connects;
};

/* All of these are the thread's. Moves what was submitted to the waiting lists; true when the thread shall end. */
bool httpq_take_incoming(struct http *c);
/* The request to start next: foreground before background, then the oldest whose lane has room. NULL when none may. */
struct http_req *httpq_pick(struct http *c);
/* A request that still waits, past its deadline: says so in its words. */
bool httpq_too_late(struct http_req *h, int64_t now);
bool httpq_idle(const struct http *c);

/* A line of the reply's head into h->head, or what is wrong into h->head_status. False: it is the empty one. */
bool httpq_header_line(struct http_req *h, const char *p, size_t len);
/* Behind the empty line. False ends the transfer. */
bool httpq_head_end(struct http_req *h, int code);

#endif
