/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * stub.h - an HTTP server inside a test, on a free port of 127.0.0.1, that does exactly what the test says.
 *
 * Each connection has a thread; for each request the handler writes whatever it likes to the socket, well-formed or not,
 * and says whether the connection lives on. Nothing sleeps: a handler that wants to stall waits for the client to hang
 * up (stub_wait_gone) or for the test (stub_wait_open).
 */
#ifndef LSVD_TEST_STUB_H
#define LSVD_TEST_STUB_H

#include "objstore/base/base.h"

struct stub;

struct stub_req {
	char method[16];
	char target[4096];
	char head[16384]; /* all header lines */
	char *body;
	size_t body_len;
	unsigned conn;	/* number of the connection, from 1 */
	unsigned index; /* number of the request on the server, from 1 */
};

/* Returns true to keep the connection. */
typedef bool stub_fn(struct stub *s, int fd, const struct stub_req *r, void *arg);

struct stub *stub_start(stub_fn *fn, void *arg); /* aborts when it cannot */
void stub_stop(struct stub *s);			 /* opens the gate, ends all connections, joins all threads */
unsigned stub_port(const struct stub *s);
unsigned stub_conns(struct stub *s);	/* connections accepted so far */
unsigned stub_requests(struct stub *s); /* requests read so far */
void stub_wait_requests(struct stub *s, unsigned n); /* until that many have come */

/* For handlers. */
void stub_send(int fd, const void *p, size_t n);
void stub_printf(int fd, const char *fmt, ...) printf_like(2, 3);
/* Whole reply with Content-Length; extra header lines each end in \r\n. */
void stub_reply(int fd, int code, const char *extra, const char *body);
void stub_wait_gone(int fd);
/* Value of a request header, case-insensitive, into out; false when absent. */
bool stub_header(const struct stub_req *r, const char *name, char *out, size_t cap);

/* A gate that is shut until the test opens it. */
void stub_wait_open(struct stub *s);
void stub_open(struct stub *s);

#endif
