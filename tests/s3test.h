/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3test.h - the S3 store against a server that follows a script. A script is a list of replies; each request takes the
 * next one and is kept for the test to look at. What real servers do is tested by unit-store on Ceph RGW and Swift;
 * here are the answers that those do not give on demand.
 */
#ifndef LSVD_TEST_S3TEST_H
#define LSVD_TEST_S3TEST_H

#include "config.h"
#include "objstore/s3-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/log.h"
#include "stub.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define MAX_STEPS 16
#define ETAG "ETag: \"5eb63bbbe01eeed093cb22bb8f5acdc3\"\r\n"
#define HEX "5eb63bbbe01eeed093cb22bb8f5acdc3"

struct step {
	int code;
	const char *headers, *body; /* body NULL: HEAD, no Content-Length of our own */
};

struct script {
	const struct step *steps;
	unsigned n;
	struct stub_req seen[MAX_STEPS];
	char *bodies[MAX_STEPS];
};

static struct stub *stub;
static struct objstore *store;
static struct script script;

static inline bool play(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	struct script *sc = arg;
	unsigned i = r->index - 1;

	if (i >= sc->n) {
		stub_reply(fd, 599, "", "script is over");
		return false;
	}
	sc->seen[i] = *r;
	sc->seen[i].body = NULL;
	sc->bodies[i] = calloc(1, r->body_len + 1);
	memcpy(sc->bodies[i], r->body, r->body_len);
	if (sc->steps[i].body == NULL || sc->steps[i].code == 204 || sc->steps[i].code == 304)
		stub_printf(fd, "HTTP/1.1 %d X\r\n%s\r\n", sc->steps[i].code, sc->steps[i].headers);
	else
		stub_reply(fd, sc->steps[i].code, sc->steps[i].headers, sc->steps[i].body);
	return true;
}

static inline void open_store(const struct step *steps, unsigned n, const struct obj_open_opts *given)
{
	struct obj_open_opts o = {.connections = 0};
	struct objerr err = {0};
	char url[64];
	int r;

	if (given != NULL)
		o = *given;
	memset(&script, 0, sizeof(script));
	script.steps = steps;
	script.n = n;
	stub = stub_start(play, &script);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", stub_port(stub));
	o.endpoint = url;
	o.connections = 2;
	r = store_s3_new("bkt", &o, &store, &err);
	if (r < 0)
		fail_msg("store_s3_new: %d %s", r, err.msg);
}

/* Every step must have been asked for, and no more. */
static inline void close_store(void)
{
	obj_close(store);
	assert_int_equal(stub_requests(stub), script.n);
	stub_stop(stub);
	for (unsigned i = 0; i < script.n; i++)
		free(script.bodies[i]);
}

#define OPEN(steps) open_store(steps, ARRAY_SIZE(steps), NULL)

static inline const char *header(unsigned i, const char *name)
{
	static char buf[4][1024];
	static unsigned k;
	char *b = buf[k++ % 4];

	return stub_header(&script.seen[i], name, b, sizeof(buf[0])) ? b : NULL;
}

static inline void expect_line(unsigned i, const char *method, const char *target)
{
	assert_string_equal(script.seen[i].method, method);
	assert_string_equal(script.seen[i].target, target);
}

static inline void s3test_environment(void)
{
	setenv("AWS_ACCESS_KEY_ID", "AKTEST", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SKTEST", 1);
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_REGION");
	unsetenv("AWS_DEFAULT_REGION");
	setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
}

#endif
