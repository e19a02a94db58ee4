/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-retry.c - retry(fault(mem)) under a clock that runs by itself: what is tried again, when it gives up, and above
 * all whose success an -ESTALE is.
 */
#include "config.h"
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "faultstore.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include "objstore/orphan.h"
#include "objstore/store-private.h"
#include <cmocka.h>

#define TIMEOUT_NS (60 * NSEC_PER_SEC)

/* Each look at the clock takes 20 ms: whoever waits gets there without waiting. */
static _Atomic int64_t now_ns, step_ns;

static int64_t running_clock(void *arg)
{
	return atomic_fetch_add((_Atomic int64_t *)arg, step_ns);
}

struct fx {
	struct objstore *mem, *fault, *s;
};

static int setup(void **state)
{
	struct fx *f = calloc(1, sizeof(*f));

	now_ns = 1700000000 * NSEC_PER_SEC;
	step_ns = 20 * NSEC_PER_MSEC;
	clock_replace(running_clock, &now_ns);
	if (f == NULL || store_mem_new(&f->mem) < 0 || faultstore_new(f->mem, 7, &f->fault) < 0 ||
	    store_retry_new(f->fault, TIMEOUT_NS, 42, &f->s) < 0)
		return -1;
	f->mem->part_min = 1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fx *f = *state;

	obj_close(f->s);
	free(f);
	clock_replace(NULL, NULL);
	return 0;
}

/* What lies under a key, read below all wrappers. */
static void assert_body(struct fx *f, const char *key, const char *want)
{
	char buf[64];
	struct objreq req;

	objreq_init(&req, OBJ_GET, key);
	req.buf = buf;
	req.cap = sizeof(buf);
	assert_int_equal(obj_do(f->mem, &req), 0);
	assert_int_equal(req.got, strlen(want));
	assert_memory_equal(buf, want, req.got);
	objreq_done(&req);
}

static int put_other(struct fx *f, const char *key, const char *body)
{
	return obj_put(f->mem, key, body, strlen(body), NULL, false, NULL, NULL, NULL);
}

/* --- plain tries -------------------------------------------------------------------------------------------------- */

static void test_read_again(void **state)
{
	static const struct {
		int status, http;
		enum fault what;
	} how[] = {{-EAGAIN, 500, FAULT_BEFORE},     {-ETIMEDOUT, 0, FAULT_BEFORE},    {-ECONNRESET, 0, FAULT_AFTER},
		   {-ECONNREFUSED, 0, FAULT_BEFORE}, {-EHOSTUNREACH, 0, FAULT_BEFORE}, {-EBADMSG, 0, FAULT_TRUNCATE},
		   {-EAGAIN, 503, FAULT_BEFORE}};
	struct fx *f = *state;
	struct objreq req;
	char buf[16];

	assert_int_equal(put_other(f, "k", "body"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		unsigned before = faultstore_seen(f->fault, OBJ_GET);

		faultstore_next(f->fault, OBJ_GET, how[i].what, how[i].status, how[i].http);
		faultstore_next(f->fault, OBJ_GET, how[i].what, how[i].status, how[i].http);
		objreq_init(&req, OBJ_GET, "k");
		req.buf = buf;
		req.cap = sizeof(buf);
		assert_int_equal(obj_do(f->s, &req), 0);
		assert_int_equal(req.got, 4);
		assert_memory_equal(buf, "body", 4);
		assert_int_equal(req.err.http, 0); /* nothing left of the failed tries */
		objreq_done(&req);
		assert_int_equal(faultstore_seen(f->fault, OBJ_GET) - before, 3);
	}
	assert_int_equal(f->s->stats->retries, 2 * ARRAY_SIZE(how));
}

/* A reply that was cut says nothing about the effect: asked like any other lost one, and not for ever. */
static void test_cut_replies_of_writes(void **state)
{
	struct fx *f = *state;
	char base[OBJ_ETAG_MAX], etag[OBJ_ETAG_MAX];
	unsigned puts;

	faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, -EBADMSG, 200);
	assert_int_equal(obj_put(f->s, "k", "one", 3, NULL, true, NULL, base, NULL), 0);
	faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, -EBADMSG, 200);
	assert_int_equal(obj_put(f->s, "k", "two", 3, base, false, NULL, etag, NULL), 0);
	assert_string_not_equal(base, etag);
	assert_body(f, "k", "two");
	puts = faultstore_seen(f->fault, OBJ_PUT);
	for (int i = 0; i < 10; i++)
		faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -EBADMSG, 200);
	assert_int_equal(obj_put(f->s, "k", "x", 1, etag, false, NULL, NULL, NULL), -EBADMSG);
	assert_int_equal(faultstore_seen(f->fault, OBJ_PUT) - puts, 4);
}

static void test_not_again(void **state)
{
	static const int final[] = {-ENOENT, -EACCES,	-ENODEV, -ENOTSUP, -ENOSPC, -EINVAL,
				    -EIO,    -ERANGE, -ENAMETOOLONG, -EKEYREJECTED, -EDQUOT};
	struct fx *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(final); i++) {
		unsigned before = faultstore_seen(f->fault, OBJ_HEAD);
		struct objreq req;

		faultstore_next(f->fault, OBJ_HEAD, FAULT_BEFORE, final[i], 0);
		assert_int_equal(obj_head(f->s, "k", &req), final[i]);
		objreq_done(&req);
		assert_int_equal(faultstore_seen(f->fault, OBJ_HEAD) - before, 1);
	}
}

static void test_deadline(void **state)
{
	struct fx *f = *state;
	struct objerr err = {0};
	int64_t start = now_ns;
	struct objreq req;

	faultstore_odds(f->fault, FAULT_BEFORE, 1000);
	assert_true(obj_put(f->s, "k", "x", 1, NULL, false, NULL, NULL, &err) < 0);
	assert_true(now_ns - start > TIMEOUT_NS / 2 && now_ns - start < TIMEOUT_NS + 2 * NSEC_PER_SEC);
	assert_non_null(strstr(err.msg, "gave up after"));
	/* A request's own deadline; and a write that ends so may have happened. */
	start = now_ns;
	objreq_init(&req, OBJ_DELETE, "k");
	req.deadline_ns = now_ns + 3 * NSEC_PER_SEC;
	assert_true(obj_do(f->s, &req) < 0);
	assert_true(now_ns - start < 4 * NSEC_PER_SEC);
	assert_true(req.maybe_done);
	objreq_done(&req);
	faultstore_odds(f->fault, FAULT_BEFORE, 0);
}

static void test_refused_connection_is_no_doubt(void **state)
{
	struct fx *f = *state;
	struct objreq req;

	for (int i = 0; i < 50; i++)
		faultstore_next(f->fault, OBJ_DELETE, FAULT_BEFORE, -ECONNREFUSED, 0);
	objreq_init(&req, OBJ_DELETE, "k");
	req.deadline_ns = now_ns + 2 * NSEC_PER_SEC;
	assert_int_equal(obj_do(f->s, &req), -ECONNREFUSED);
	assert_false(req.maybe_done);
	objreq_done(&req);
}

static void test_fail_fast(void **state)
{
	struct fx *f = *state;
	struct objreq req;

	for (int i = 0; i < 4; i++) {
		unsigned seen = faultstore_seen(f->fault, OBJ_LIST);

		faultstore_next(f->fault, OBJ_LIST, FAULT_BEFORE, i % 2 ? -ECONNREFUSED : -EHOSTUNREACH, 0);
		objreq_init(&req, OBJ_LIST, "");
		req.fail_fast = i < 2;
		assert_int_equal(obj_do(f->s, &req), i >= 2 ? 0 : i % 2 ? -ECONNREFUSED : -EHOSTUNREACH);
		assert_int_equal(faultstore_seen(f->fault, OBJ_LIST) - seen, i < 2 ? 1 : 2);
		objreq_done(&req);
	}
	/* a server that is there but busy is still waited for */
	faultstore_next(f->fault, OBJ_LIST, FAULT_BEFORE, -EAGAIN, 503);
	objreq_init(&req, OBJ_LIST, "");
	req.fail_fast = true;
	assert_int_equal(obj_do(f->s, &req), 0);
	objreq_done(&req);
}

static void flag_done(struct objreq *req)
{
	*(_Atomic bool *)req->priv = true;
}

static void test_slow_down(void **state)
{
	struct fx *f = *state;
	_Atomic bool done = false;
	struct objreq req;

	assert_int_equal(put_other(f, "k", "x"), 0);
	for (int i = 0; i < 4; i++)
		faultstore_next(f->fault, OBJ_HEAD, FAULT_BEFORE, -EAGAIN, 503);
	assert_int_equal(obj_head(f->s, "k", &req), 0);
	objreq_done(&req);
	assert_in_range(f->s->stats->slowdowns, 1, 4);
	/* One request is refused and gives up at once; another's waits for the wall although it was never refused. */
	for (int code = 0; code < 2; code++) {
		unsigned puts = faultstore_seen(f->fault, OBJ_PUT);

		now_ns += 3600 * NSEC_PER_SEC;
		step_ns = 0;
		faultstore_next(f->fault, OBJ_HEAD, FAULT_BEFORE, -EAGAIN, code ? 429 : 503);
		objreq_init(&req, OBJ_HEAD, "k");
		req.deadline_ns = now_ns + NSEC_PER_MSEC;
		assert_int_equal(obj_do(f->s, &req), -EAGAIN);
		objreq_done(&req);
		objreq_init(&req, OBJ_PUT, "other");
		req.done = flag_done;
		req.priv = &done;
		done = false;
		obj_submit(f->s, &req);
		assert_false(done);
		assert_int_equal(faultstore_seen(f->fault, OBJ_PUT), puts);
		step_ns = 20 * NSEC_PER_MSEC;
		while (!done)
			sched_yield();
		assert_int_equal(req.status, 0);
		assert_int_equal(faultstore_seen(f->fault, OBJ_PUT), puts + 1);
		objreq_done(&req);
	}
	/* 500 is one object's trouble and slows nobody down. */
	now_ns += 3600 * NSEC_PER_SEC;
	step_ns = 0;
	faultstore_next(f->fault, OBJ_HEAD, FAULT_BEFORE, -EAGAIN, 500);
	objreq_init(&req, OBJ_HEAD, "k");
	req.deadline_ns = now_ns + NSEC_PER_MSEC;
	assert_int_equal(obj_do(f->s, &req), -EAGAIN);
	objreq_done(&req);
	assert_int_equal(obj_put(f->s, "other", "x", 1, NULL, false, NULL, NULL, NULL), 0);
	step_ns = 20 * NSEC_PER_MSEC;
}

/* --- whose success ------------------------------------------------------------------------------------------------ */

static void test_own_create(void **state)
{
	static const struct {
		int status, http;
	} how[] = {{-ETIMEDOUT, 0}, {-ECONNRESET, 0}, {-EAGAIN, 500}, {-EAGAIN, 503}};
	struct fx *f = *state;
	char key[8], etag[OBJ_ETAG_MAX];
	struct objreq req;

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		(void)snprintf(key, sizeof(key), "k%zu", i);
		faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, how[i].status, how[i].http);
		assert_int_equal(obj_put(f->s, key, "mine", 4, NULL, true, NULL, etag, NULL), 0);
		assert_int_equal(obj_head(f->mem, key, &req), 0);
		assert_string_equal(req.etag, etag);
		objreq_done(&req);
		assert_int_equal(faultstore_seen(f->fault, OBJ_HEAD), i + 1);
	}
	/* Two lost replies and a HEAD that needs two tries itself. */
	faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -ETIMEDOUT, 0);
	faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, -ETIMEDOUT, 0);
	faultstore_next(f->fault, OBJ_HEAD, FAULT_BEFORE, -ECONNRESET, 0);
	assert_int_equal(obj_put(f->s, "again", "mine", 4, NULL, true, NULL, etag, NULL), 0);
	assert_body(f, "again", "mine");
}

struct other {
	struct fx *f;
	const char *key;
	unsigned at; /* writes before PUT number `at` reaches the store (1 = first) */
	enum obj_op op;
	unsigned n;
	bool del;
};

static void other_writer(void *arg, struct objreq *req)
{
	struct other *o = arg;

	if (req->op != o->op || ++o->n != o->at)
		return;
	if (o->del)
		assert_int_equal(obj_delete(o->f->mem, o->key, NULL, NULL), 0);
	else
		assert_int_equal(put_other(o->f, o->key, "other"), 0);
}

static void test_foreign_create(void **state)
{
	struct fx *f = *state;
	struct other o = {.f = f, .key = "k", .at = 2, .op = OBJ_PUT};
	struct objreq req;
	struct iovec iov = {.iov_base = (char[]){"mine"}, .iov_len = 4};

	/* First try lost before its effect; then another creates the key. */
	faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -ETIMEDOUT, 0);
	faultstore_hook(f->fault, other_writer, &o);
	objreq_init(&req, OBJ_PUT, "k");
	req.iov = &iov;
	req.iovcnt = 1;
	req.if_none_match_any = true;
	assert_int_equal(obj_do(f->s, &req), -ESTALE);
	assert_int_equal(strlen(req.nonce), OBJ_NONCE_LEN);
	objreq_done(&req);
	assert_body(f, "k", "other");
	faultstore_hook(f->fault, NULL, NULL);
	/* Same bytes are no proof: the other's object holds what we send. */
	assert_int_equal(put_other(f, "same", "mine"), 0);
	faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -ETIMEDOUT, 0);
	assert_int_equal(obj_put(f->s, "same", "mine", 4, NULL, true, NULL, NULL, NULL), -ESTALE);
}

static void test_first_try_is_never_ours(void **state)
{
	struct fx *f = *state;
	struct obj_headers h = {0};
	struct objreq req;

	/* What lies there carries the very nonce: a -ESTALE to a first try is still the answer, and nobody asks. */
	assert_int_equal(obj_headers_set(&h, STORE_NONCE_HEADER, "0123456789abcdef0123456789abcdef"), 0);
	assert_int_equal(obj_put(f->mem, "k", "x", 1, NULL, false, &h, NULL, NULL), 0);
	objreq_init(&req, OBJ_PUT, "k");
	req.if_none_match_any = true;
	memcpy(req.nonce, "0123456789abcdef0123456789abcdef", OBJ_NONCE_LEN + 1);
	assert_int_equal(obj_do(f->s, &req), -ESTALE);
	assert_false(req.maybe_done);
	objreq_done(&req);
	assert_int_equal(faultstore_seen(f->fault, OBJ_HEAD), 0);
	/* After refused connections too: those tries reached nobody. */
	faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -ECONNREFUSED, 0);
	assert_int_equal(obj_put(f->s, "k", "y", 1, NULL, true, NULL, NULL, NULL), -ESTALE);
	assert_int_equal(faultstore_seen(f->fault, OBJ_HEAD), 0);
	/* And after 429 and 409. */
	faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -EAGAIN, 429);
	faultstore_next(f->fault, OBJ_PUT, FAULT_BEFORE, -EAGAIN, 409);
	assert_int_equal(obj_put(f->s, "k", "y", 1, NULL, true, NULL, NULL, NULL), -ESTALE);
	assert_int_equal(faultstore_seen(f->fault, OBJ_HEAD), 0);
	obj_headers_free(&h);
}

static void test_replace(void **state)
{
	struct fx *f = *state;
	struct other o = {.f = f, .key = "k", .at = 2, .op = OBJ_PUT};
	char base[OBJ_ETAG_MAX], etag[OBJ_ETAG_MAX];

	assert_int_equal(obj_put(f->mem, "k", "old", 3, NULL, false, NULL, base, NULL), 0);
	faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, -ECONNRESET, 0);
	assert_int_equal(obj_put(f->s, "k", "new", 3, base, false, NULL, etag, NULL), 0);
	assert_string_not_equal(base, etag);
	assert_body(f, "k", "new");
	/* Ours got there, and another replaced it before we looked. */
	faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, -ECONNRESET, 0);
	faultstore_hook(f->fault, other_writer, &o);
	assert_int_equal(obj_put(f->s, "k", "newer", 5, etag, false, NULL, NULL, NULL), -ESTALE);
	assert_body(f, "k", "other");
}

static void test_unknown_stays_unknown(void **state)
{
	struct fx *f = *state;
	struct objreq req;

	/* The reply is lost and the HEAD is refused: neither success nor a lost race. */
	faultstore_next(f->fault, OBJ_PUT, FAULT_AFTER, -ETIMEDOUT, 0);
	faultstore_next(f->fault, OBJ_HEAD, FAULT_BEFORE, -EACCES, 403);
	objreq_init(&req, OBJ_PUT, "k");
	req.if_none_match_any = true;
	assert_int_equal(obj_do(f->s, &req), -EACCES);
	assert_true(req.maybe_done);
	objreq_done(&req);
}

static void test_copy(void **state)
{
	struct fx *f = *state;
	struct obj_headers h = {0};
	struct objreq req;

	assert_int_equal(obj_headers_set(&h, "content-type", "a/b"), 0);
	assert_int_equal(put_other(f, "src", "bytes"), 0);
	faultstore_next(f->fault, OBJ_COPY, FAULT_AFTER, -ETIMEDOUT, 0);
	objreq_init(&req, OBJ_COPY, "dst");
	req.src_key = "src";
	req.headers = &h;
	req.if_none_match_any = true;
	assert_int_equal(obj_do(f->s, &req), 0);
	assert_true(req.etag[0] != '\0');
	objreq_done(&req);
	/* Without headers there is no nonce: it stays in doubt. */
	faultstore_next(f->fault, OBJ_COPY, FAULT_AFTER, -ETIMEDOUT, 0);
	objreq_init(&req, OBJ_COPY, "dst2");
	req.src_key = "src";
	req.if_none_match_any = true;
	assert_int_equal(obj_do(f->s, &req), -ESTALE);
	assert_true(req.maybe_done);
	objreq_done(&req);
	obj_headers_free(&h);
}

static void test_delete(void **state)
{
	struct fx *f = *state;
	struct other o = {.f = f, .key = "k", .at = 2, .op = OBJ_DELETE};
	char etag[OBJ_ETAG_MAX];

	assert_int_equal(obj_put(f->mem, "k", "x", 1, NULL, false, NULL, etag, NULL), 0);
	faultstore_next(f->fault, OBJ_DELETE, FAULT_AFTER, -ETIMEDOUT, 0);
	assert_int_equal(obj_delete(f->s, "k", etag, NULL), 0);
	/* Deleted, and made anew by another before the second try. */
	assert_int_equal(obj_put(f->mem, "k", "x", 1, NULL, false, NULL, etag, NULL), 0);
	faultstore_next(f->fault, OBJ_DELETE, FAULT_AFTER, -ETIMEDOUT, 0);
	faultstore_hook(f->fault, other_writer, &o);
	assert_int_equal(obj_delete(f->s, "k", etag, NULL), -ESTALE);
	assert_body(f, "k", "other");
}

/* --- multipart ---------------------------------------------------------------------------------------------------- */

static void upload(struct fx *f, const char *key, struct objreq *create, struct obj_part *part)
{
	struct iovec iov = {.iov_base = (char[]){"mine"}, .iov_len = 4};
	struct objreq req;

	objreq_init(create, OBJ_MPU_CREATE, key);
	assert_int_equal(obj_do(f->s, create), 0);
	assert_int_equal(strlen(create->nonce), OBJ_NONCE_LEN);
	objreq_init(&req, OBJ_MPU_PART, key);
	req.upload_id = create->ret_upload_id;
	req.part = 1;
	req.iov = &iov;
	req.iovcnt = 1;
	faultstore_next(f->fault, OBJ_MPU_PART, FAULT_AFTER, -ETIMEDOUT, 0);
	assert_int_equal(obj_do(f->s, &req), 0);
	part->number = 1;
	memcpy(part->etag, req.etag, sizeof(part->etag));
	objreq_done(&req);
}

static int complete(struct fx *f, const char *key, const struct objreq *create, const struct obj_part *part,
		    bool only_new, struct objreq *req)
{
	objreq_init(req, OBJ_MPU_COMPLETE, key);
	req->upload_id = create->ret_upload_id;
	req->parts = part;
	req->nparts = 1;
	req->if_none_match_any = only_new;
	memcpy(req->nonce, create->nonce, sizeof(req->nonce));
	return obj_do(f->s, req);
}

static void test_complete(void **state)
{
	struct fx *f = *state;
	struct other o = {.f = f, .key = "gone", .at = 2, .op = OBJ_MPU_COMPLETE, .del = true};
	struct objreq create, req;
	struct obj_part part;

	/* Completed, reply lost: the upload is gone then, and the object has our nonce. */
	for (int cond = 0; cond < 2; cond++) {
		const char *key = cond ? "new" : "any";

		upload(f, key, &create, &part);
		faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
		assert_int_equal(complete(f, key, &create, &part, cond, &req), 0);
		assert_true(req.etag[0] != '\0');
		assert_int_equal(req.size, 4);
		objreq_done(&req);
		objreq_done(&create);
	}
	/* Lost to another: first try without effect, key made by another. */
	upload(f, "lost", &create, &part);
	assert_int_equal(put_other(f, "lost", "other"), 0);
	faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_BEFORE, -ETIMEDOUT, 0);
	assert_int_equal(complete(f, "lost", &create, &part, true, &req), -ESTALE);
	objreq_done(&req);
	objreq_done(&create);
	/* No such upload at the first try: nothing to ask. */
	create.ret_upload_id = (char[]){"none"};
	unsigned heads = faultstore_seen(f->fault, OBJ_HEAD);

	assert_int_equal(complete(f, "any", &create, &part, false, &req), -ENOENT);
	assert_int_equal(faultstore_seen(f->fault, OBJ_HEAD), heads);
	objreq_done(&req);
	/* Completed, then removed by another: cannot be told from aborted. */
	upload(f, "gone", &create, &part);
	faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
	faultstore_hook(f->fault, other_writer, &o);
	assert_int_equal(complete(f, "gone", &create, &part, false, &req), -ENOENT);
	assert_true(req.maybe_done);
	objreq_done(&req);
	objreq_done(&create);
}

static void test_complete_500(void **state)
{
	struct fx *f = *state;
	struct objreq create, req;
	struct obj_part part;

	/* As Ceph RGW: completed with a lost reply, and 500 ever after. */
	upload(f, "k", &create, &part);
	faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
	for (int i = 0; i < 20; i++)
		faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_BEFORE, -EAGAIN, 500);
	assert_int_equal(complete(f, "k", &create, &part, true, &req), 0);
	assert_true(faultstore_seen(f->fault, OBJ_MPU_COMPLETE) < 8);
	assert_int_equal(faultstore_seen(f->fault, OBJ_MPU_LIST), 1);
	objreq_done(&req);
	objreq_done(&create);
}

static void test_complete_500_later(void **state)
{
	struct fx *f = *state;
	struct objreq create, req;
	struct obj_part part;

	/* The upload is still there: the store is only ill, and gets well. */
	upload(f, "k", &create, &part);
	for (int i = 0; i < 6; i++)
		faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_BEFORE, -EAGAIN, 500);
	assert_int_equal(complete(f, "k", &create, &part, true, &req), 0);
	assert_int_equal(faultstore_seen(f->fault, OBJ_MPU_COMPLETE), 7);
	assert_int_equal(faultstore_seen(f->fault, OBJ_MPU_LIST), 1);
	objreq_done(&req);
	objreq_done(&create);
}

/* --- uploads that nobody knows of --------------------------------------------------------------------------------- */

static size_t uploads_of(struct fx *f, const char *key)
{
	struct objreq req;
	size_t n = 0;

	objreq_init(&req, OBJ_MPU_LIST, key);
	assert_int_equal(obj_do(f->mem, &req), 0);
	for (size_t i = 0; i < req.listing->n; i++)
		n += strcmp(req.listing->v[i].key, key) == 0;
	objreq_done(&req);
	return n;
}

/* An upload of somebody else, perhaps with a part; *ret_id is the caller's. */
static void foreign_upload(struct fx *f, const char *key, bool with_part, char **ret_id)
{
	struct iovec iov = {.iov_base = (char[]){"his"}, .iov_len = 3};
	struct objreq req;

	objreq_init(&req, OBJ_MPU_CREATE, key);
	assert_int_equal(obj_do(f->mem, &req), 0);
	*ret_id = req.ret_upload_id;
	req.ret_upload_id = NULL;
	objreq_done(&req);
	if (!with_part)
		return;
	objreq_init(&req, OBJ_MPU_PART, key);
	req.upload_id = *ret_id;
	req.part = 1;
	req.iov = &iov;
	req.iovcnt = 1;
	assert_int_equal(obj_do(f->mem, &req), 0);
	objreq_done(&req);
}

static int end_upload(struct fx *f, const char *key, const struct objreq *create, const struct obj_part *part, bool drop)
{
	struct objreq req;
	int r;

	if (!drop) {
		r = complete(f, key, create, part, false, &req);
	} else {
		objreq_init(&req, OBJ_MPU_ABORT, key);
		req.upload_id = create->ret_upload_id;
		r = obj_do(f->s, &req);
	}
	objreq_done(&req);
	return r;
}

/* Lost replies to CREATE: one upload too many for each that got there, none of them when ours has ended. */
static void test_lost_creates(void **state)
{
	static const struct {
		unsigned before, after;
		bool drop, lost_end;
	} how[] = {{0, 1, false, false}, {0, 3, false, false}, {2, 1, false, false},
		   {1, 2, true, false},	 {0, 2, false, true},  {1, 0, false, false}};
	struct fx *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		unsigned lists = faultstore_seen(f->fault, OBJ_MPU_LIST);
		struct objreq create;
		struct obj_part part;

		for (unsigned k = 0; k < how[i].before; k++)
			faultstore_next(f->fault, OBJ_MPU_CREATE, FAULT_BEFORE, -ECONNRESET, 0);
		for (unsigned k = 0; k < how[i].after; k++)
			faultstore_next(f->fault, OBJ_MPU_CREATE, FAULT_AFTER, -ETIMEDOUT, 0);
		/* what finds them is tried again like anything else */
		faultstore_next(f->fault, OBJ_MPU_LIST, FAULT_BEFORE, -ECONNRESET, 0);
		upload(f, "k", &create, &part);
		assert_int_equal(uploads_of(f, "k"), 1 + how[i].after);
		if (how[i].lost_end)
			faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
		assert_int_equal(end_upload(f, "k", &create, &part, how[i].drop), 0);
		assert_int_equal(uploads_of(f, "k"), 0);
		assert_int_equal(faultstore_seen(f->fault, OBJ_MPU_LIST) - lists, 2 + how[i].after);
		objreq_done(&create);
	}
	/* Nothing lost, nothing asked: refused connections and 429 are no doubt. */
	unsigned lists = faultstore_seen(f->fault, OBJ_MPU_LIST);
	struct objreq create;
	struct obj_part part;

	faultstore_next(f->fault, OBJ_MPU_CREATE, FAULT_BEFORE, -ECONNREFUSED, 0);
	faultstore_next(f->fault, OBJ_MPU_CREATE, FAULT_BEFORE, -EAGAIN, 429);
	upload(f, "k", &create, &part);
	assert_int_equal(end_upload(f, "k", &create, &part, false), 0);
	assert_int_equal(faultstore_seen(f->fault, OBJ_MPU_LIST), lists);
	objreq_done(&create);
}

/* What others have under way stays: with a part, of another key, or more of them than tries were lost. */
static void test_foreign_uploads_stay(void **state)
{
	struct fx *f = *state;
	struct objreq create;
	struct obj_part part;
	char *id[3];

	foreign_upload(f, "k", true, &id[0]);
	faultstore_next(f->fault, OBJ_MPU_CREATE, FAULT_BEFORE, -ETIMEDOUT, 0);
	upload(f, "k", &create, &part);
	assert_int_equal(end_upload(f, "k", &create, &part, false), 0);
	assert_int_equal(uploads_of(f, "k"), 1);
	objreq_done(&create);

	foreign_upload(f, "m.longer", false, &id[1]);
	foreign_upload(f, "m", false, &id[2]);
	faultstore_next(f->fault, OBJ_MPU_CREATE, FAULT_AFTER, -ETIMEDOUT, 0);
	upload(f, "m", &create, &part);
	assert_int_equal(uploads_of(f, "m"), 3);
	assert_int_equal(end_upload(f, "m", &create, &part, false), 0);
	assert_int_equal(uploads_of(f, "m"), 2); /* his, and ours that cannot be told from it */
	assert_int_equal(uploads_of(f, "m.longer"), 1);
	objreq_done(&create);
	for (size_t i = 0; i < ARRAY_SIZE(id); i++)
		free(id[i]);
}

/* Which entries of a listing count, by what real servers tell of them. */
static void test_orphan_candidates(void **state)
{
	static const struct {
		const char *key, *initiator;
		int64_t mtime_s;
		unsigned lost;
		bool taken;
	} how[] = {
		{"k", "me", 1000, 1, true},   {"k", "me", 996, 1, true},   {"k", "me", 990, 1, false},
		{"k", "me", 1010, 1, false},  {"k", "you", 1000, 1, false}, {"k", NULL, 1000, 1, false},
		{"kk", "me", 1000, 1, false}, {"k", "me", 1000, 0, false},
	};
	struct fx *f = *state;
	struct orphans o;
	struct objreq create;

	objreq_init(&create, OBJ_MPU_CREATE, "k");
	create.ret_upload_id = (char[]){"own"};
	orphans_init(&o, f->s);
	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		struct obj_list_entry e[] = {
			{.key = how[i].key, .upload_id = "x", .initiator = how[i].initiator, .mtime_s = how[i].mtime_s},
			{.key = "k", .upload_id = "own", .initiator = "me", .mtime_s = 1000},
		};
		struct obj_listing l = {.n = 2, .v = e};

		orphans_note(&o, &create, &l, how[i].lost, 3 * NSEC_PER_SEC);
		assert_int_equal(!list_empty(&o.known), how[i].taken);
		orphans_ended(&o, "another");
		assert_int_equal(!list_empty(&o.known), how[i].taken);
		orphans_ended(&o, "own"); /* the store has no such upload: nothing to abort */
		orphans_wait(&o);
		assert_true(list_empty(&o.known));
		/* without ours in it, the listing tells nothing */
		l.n = 1;
		orphans_note(&o, &create, &l, how[i].lost, 3 * NSEC_PER_SEC);
		assert_true(list_empty(&o.known));
	}
	orphans_done(&o);
	assert_int_equal(faultstore_seen(f->fault, OBJ_MPU_ABORT), 0);
}

/* --- large copies ------------------------------------------------------------------------------------------------- */

static void replace_source(void *arg, struct objreq *req)
{
	struct fx *f = arg;

	if (req->op == OBJ_MPU_COPY_PART)
		assert_int_equal(put_other(f, "src", "later"), 0);
}

static void test_copy_large(void **state)
{
	struct fx *f = *state;
	char etag[OBJ_ETAG_MAX], made[OBJ_ETAG_MAX] = "";
	struct objerr err = {0};
	struct objreq req;

	assert_int_equal(obj_put(f->mem, "src", "bytes", 5, NULL, false, NULL, etag, NULL), 0);
	/* done, and the reply lost */
	faultstore_next(f->fault, OBJ_MPU_COMPLETE, FAULT_AFTER, -ETIMEDOUT, 0);
	assert_int_equal(obj_copy_large(f->s, "src", etag, 5, "dst", made, &err), 0);
	assert_body(f, "dst", "bytes");
	assert_int_equal(obj_head(f->mem, "dst", &req), 0);
	assert_string_equal(req.etag, made);
	objreq_done(&req);
	/* no conditions on the source: another version came in between, and is not published under the old one's name */
	obj_set_caps(f->s, obj_caps(f->s) & ~(unsigned)OBJ_CAP_COPY_SRC, 0);
	faultstore_hook(f->fault, replace_source, f);
	assert_int_equal(obj_copy_large(f->s, "src", etag, 5, "dst2", made, &err), -ESTALE);
	faultstore_hook(f->fault, NULL, NULL);
	assert_int_equal(obj_head(f->mem, "dst2", &req), -ENOENT);
	objreq_done(&req);
	assert_int_equal(uploads_of(f, "dst2"), 0);
}

/* --- the storm ---------------------------------------------------------------------------------------------------- */

/*
 * One counter object, several writers, each "GET, add 1, PUT If-Match" over a store that loses one reply in three. The
 * count of acknowledged additions must be what the object says: an own success that is not recognised, or a foreign one
 * that is claimed, both break it.
 */
struct adder {
	struct fx *f;
	pthread_t t;
	unsigned acked, unknown, maybe;
};

static void *add_thread(void *arg)
{
	struct adder *a = arg;

	while (a->acked < 25) {
		char buf[32] = "", etag[OBJ_ETAG_MAX];
		struct iovec iov = {.iov_base = buf};
		struct objreq req;
		int r;

		objreq_init(&req, OBJ_GET, "n");
		req.buf = buf;
		req.cap = sizeof(buf) - 1;
		r = obj_do(a->f->s, &req);
		memcpy(etag, req.etag, sizeof(etag));
		objreq_done(&req);
		if (r < 0)
			continue;
		(void)snprintf(buf, sizeof(buf), "%d", atoi(buf) + 1);
		iov.iov_len = strlen(buf);
		objreq_init(&req, OBJ_PUT, "n");
		req.iov = &iov;
		req.iovcnt = 1;
		req.if_match = etag;
		r = obj_do(a->f->s, &req);
		if (r == 0)
			a->acked++;
		else if (r != -ESTALE)
			a->unknown++;
		else if (req.maybe_done)
			a->maybe++;
		objreq_done(&req);
	}
	return NULL;
}

static void test_storm(void **state)
{
	struct fx *f = *state;
	struct adder a[4] = {0};
	unsigned total = 0, maybe = 0;

	assert_int_equal(put_other(f, "n", "0"), 0);
	faultstore_odds(f->fault, FAULT_BEFORE, 100);
	faultstore_odds(f->fault, FAULT_AFTER, 200);
	faultstore_odds(f->fault, FAULT_LATE, 300);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		a[i].f = f;
		assert_int_equal(pthread_create(&a[i].t, NULL, add_thread, &a[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		pthread_join(a[i].t, NULL);
		total += a[i].acked;
		maybe += a[i].maybe;
		assert_int_equal(a[i].unknown, 0);
	}
	faultstore_odds(f->fault, FAULT_BEFORE, 0);
	faultstore_odds(f->fault, FAULT_AFTER, 0);
	/* A success that another built upon before we asked is reported as lost, with maybe_done: the object may be
	 * ahead of the acknowledgements by those, never behind. */
	char buf[16] = "";
	struct objreq req;

	objreq_init(&req, OBJ_GET, "n");
	req.buf = buf;
	req.cap = sizeof(buf) - 1;
	assert_int_equal(obj_do(f->mem, &req), 0);
	objreq_done(&req);
	assert_in_range(atoi(buf), total, total + maybe);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_read_again),	T(test_cut_replies_of_writes), T(test_not_again),	T(test_deadline),
		T(test_refused_connection_is_no_doubt), T(test_slow_down), T(test_fail_fast), T(test_own_create),
		T(test_foreign_create), T(test_first_try_is_never_ours), T(test_replace),
		T(test_unknown_stays_unknown), T(test_copy),	       T(test_delete),
		T(test_complete),	T(test_complete_500),	       T(test_complete_500_later),
		T(test_lost_creates),	T(test_foreign_uploads_stay),  T(test_orphan_candidates),
		T(test_copy_large),
		T(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
