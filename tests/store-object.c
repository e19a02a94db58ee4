/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store-object.c - part of unit-store: one object: PUT, GET, HEAD, DELETE, conditions, odd keys, markers. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "storetest.h"
#include <cmocka.h>

void test_put_get(void **state)
{
	struct iovec iov[3] = {{(char[]){"one "}, 4}, {NULL, 0}, {(char[]){"two"}, 3}};
	char etag[OBJ_ETAG_MAX], buf[16];
	struct objreq req;

	assert_absent(K("a"));
	objreq_init(&req, OBJ_PUT, K("a"));
	req.iov = iov;
	req.iovcnt = 3;
	assert_int_equal(obj_do(s, &req), 0);
	memcpy(etag, req.etag, sizeof(etag));
	objreq_done(&req);
	assert_body(K("a"), "one two");
	assert_int_equal(get(K("a"), 0, OBJ_WHOLE, buf, sizeof(buf), &req), 0);
	assert_true(req.etag[0] != '\0');
	if (etag[0] != '\0')
		assert_string_equal(req.etag, etag);
	assert_int_equal(req.size, 7);
	assert_true(req.mtime_s > 1600000000);
	assert_true(req.date_s >= req.mtime_s - 1);
	objreq_done(&req);
	must_put(K("a"), "replaced", NULL);
	assert_body(K("a"), "replaced");
	del(K("a"));
	assert_absent(K("a"));
	del(K("a")); /* absent is success */
	assert_int_equal(get(K("a"), 0, OBJ_WHOLE, buf, sizeof(buf), &req), -ENOENT);
	assert_true(req.err.msg[0] != '\0');
	objreq_done(&req);
}

void test_empty(void **state)
{
	char buf[4];
	struct objreq req;

	must_put(K("empty"), "", NULL);
	assert_body(K("empty"), "");
	assert_int_equal(get(K("empty"), 0, 10, buf, sizeof(buf), &req), 0);
	assert_int_equal(req.got, 0);
	assert_int_equal(req.size, 0);
	assert_false(req.truncated);
	objreq_done(&req);
	assert_int_equal(get(K("empty"), 1, 10, buf, sizeof(buf), &req), -ERANGE);
	objreq_done(&req);
	assert_int_equal(obj_head(s, K("empty"), &req), 0);
	assert_int_equal(req.size, 0);
	objreq_done(&req);
}

void test_ranges(void **state)
{
	static const struct {
		uint64_t off, len;
		size_t cap;
		const char *want; /* NULL: -ERANGE */
		bool truncated;
	} t[] = {
		{0, OBJ_WHOLE, 20, "0123456789", false},
		{0, 1, 20, "0", true},
		{0, 10, 20, "0123456789", false},
		{0, 11, 20, "0123456789", false},
		{0, OBJ_WHOLE, 4, "0123", true},
		{0, OBJ_WHOLE, 10, "0123456789", false},
		{3, 4, 20, "3456", true},
		{3, 4, 2, "34", true},
		{9, 1, 20, "9", false},
		{9, 100, 20, "9", false},
		{5, OBJ_WHOLE, 20, "56789", false},
		{10, 1, 20, NULL, false},
		{10, OBJ_WHOLE, 20, NULL, false},
		{1000, 1, 20, NULL, false},
	};
	char buf[20];
	struct objreq req;

	must_put(K("r"), "0123456789", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		int r;

		memset(buf, '#', sizeof(buf));
		r = get(K("r"), t[i].off, t[i].len, buf, t[i].cap, &req);
		if (r != (t[i].want == NULL ? -ERANGE : 0))
			fail_msg("case %zu: %d %s", i, r, req.err.msg);
		if (t[i].want != NULL) {
			if (req.got != strlen(t[i].want) || memcmp(buf, t[i].want, req.got) != 0)
				fail_msg("case %zu: %zu bytes, %.10s", i, req.got, buf);
			if (req.truncated != t[i].truncated)
				fail_msg("case %zu: truncated %d", i, req.truncated);
			if (req.size != 10)
				fail_msg("case %zu: size %ju", i, (uintmax_t)req.size);
		}
		for (size_t k = t[i].cap; k < sizeof(buf); k++)
			assert_int_equal(buf[k], '#');
		objreq_done(&req);
	}
}

void test_get_conditions(void **state)
{
	char etag[OBJ_ETAG_MAX], buf[16];
	struct objreq req;

	must_put(K("c"), "body", etag);
	for (int head = 0; head < 2; head++) {
		enum obj_op op = head ? OBJ_HEAD : OBJ_GET;

		objreq_init(&req, op, K("c"));
		req.buf = buf;
		req.cap = sizeof(buf);
		req.if_match = etag;
		assert_int_equal(obj_do(s, &req), 0);
		assert_string_equal(req.etag, etag);
		objreq_done(&req);
		objreq_init(&req, op, K("c"));
		req.buf = buf;
		req.cap = sizeof(buf);
		req.if_match = "00000000000000000000000000000000";
		assert_int_equal(obj_do(s, &req), -ESTALE);
		objreq_done(&req);
		objreq_init(&req, op, K("c"));
		req.buf = buf;
		req.cap = sizeof(buf);
		req.if_none_match = etag;
		assert_int_equal(obj_do(s, &req), 0);
		assert_true(req.not_modified);
		assert_int_equal(req.got, 0);
		objreq_done(&req);
		objreq_init(&req, op, K("c"));
		req.buf = buf;
		req.cap = sizeof(buf);
		req.if_none_match = "00000000000000000000000000000000";
		assert_int_equal(obj_do(s, &req), 0);
		assert_false(req.not_modified);
		assert_int_equal(req.size, 4);
		objreq_done(&req);
	}
	/* A range of a version that is gone is never served from the new one. */
	must_put(K("c"), "newbody", NULL);
	objreq_init(&req, OBJ_GET, K("c"));
	req.buf = buf;
	req.cap = sizeof(buf);
	req.off = 1;
	req.len = 2;
	req.if_match = etag;
	assert_int_equal(obj_do(s, &req), -ESTALE);
	objreq_done(&req);
}

void test_put_new(void **state)
{
	int r;

	if (!HAS(PUT_NEW))
		return;
	assert_int_equal(obj_put(s, K("new"), "first", 5, NULL, true, NULL, NULL, NULL), 0);
	r = obj_put(s, K("new"), "second", 6, NULL, true, NULL, NULL, NULL);
	assert_int_equal(r, -ESTALE);
	assert_body(K("new"), "first");
	del(K("new"));
	assert_int_equal(obj_put(s, K("new"), "third", 5, NULL, true, NULL, NULL, NULL), 0);
}

void test_put_match(void **state)
{
	char etag[OBJ_ETAG_MAX], old[OBJ_ETAG_MAX];
	int r;

	if (!HAS(PUT_MATCH))
		return;
	must_put(K("m"), "v1", old);
	assert_int_equal(obj_put(s, K("m"), "v2", 2, old, false, NULL, NULL, NULL), 0);
	assert_int_equal(obj_put(s, K("m"), "v3", 2, old, false, NULL, NULL, NULL), -ESTALE);
	assert_body(K("m"), "v2");
	del(K("m"));
	/* Absent: 404 of AWS, 412 of RGW. Never success. */
	r = obj_put(s, K("m"), "v4", 2, old, false, NULL, etag, NULL);
	assert_true(r == -ENOENT || r == -ESTALE);
	assert_absent(K("m"));
}

void test_delete_match(void **state)
{
	char etag[OBJ_ETAG_MAX];

	if (!HAS(DELETE_COND))
		return;
	must_put(K("d"), "x", etag);
	assert_int_equal(obj_delete(s, K("d"), "00000000000000000000000000000000", NULL), -ESTALE);
	assert_body(K("d"), "x");
	assert_int_equal(obj_delete(s, K("d"), etag, NULL), 0);
	assert_absent(K("d"));
}

void test_headers(void **state)
{
	static const char *const kv[][2] = {
		{"content-type", "text/x-test"},      {"cache-control", "max-age=5"},
		{"content-encoding", "identity"},     {"content-disposition", "attachment; filename=\"a b\""},
		{"content-language", "de"},	      {"x-amz-meta-mode", "33188"},
		{"x-amz-meta-mtime", "1700000000.123456789"}, {"x-amz-meta-text", "100% plain, \"quoted\" & <so on>"},
	};
	struct obj_headers h = {0};
	struct objreq req;

	for (size_t i = 0; i < ARRAY_SIZE(kv); i++)
		assert_int_equal(obj_headers_set(&h, kv[i][0], kv[i][1]), 0);
	assert_int_equal(obj_put(s, K("h"), "x", 1, NULL, false, &h, NULL, NULL), 0);
	assert_int_equal(obj_head(s, K("h"), &req), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kv); i++) {
		const char *v = obj_headers_get(&req.ret_headers, kv[i][0]);

		if (v == NULL || strcmp(v, kv[i][1]) != 0)
			fail_msg("%s: %s", kv[i][0], v != NULL ? v : "(none)");
	}
	objreq_done(&req);
	obj_headers_free(&h);
	/* A PUT replaces all of them. */
	must_put(K("h"), "x", NULL);
	assert_int_equal(obj_head(s, K("h"), &req), 0);
	assert_null(obj_headers_get(&req.ret_headers, "x-amz-meta-mode"));
	objreq_done(&req);
}

void test_nonce(void **state)
{
	struct objreq req;

	objreq_init(&req, OBJ_PUT, K("n"));
	memcpy(req.nonce, "00112233445566778899aabbccddeeff", OBJ_NONCE_LEN + 1);
	assert_int_equal(obj_do(s, &req), 0);
	objreq_done(&req);
	assert_int_equal(obj_head(s, K("n"), &req), 0);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-lsvd-put"),
			    "00112233445566778899aabbccddeeff");
	objreq_done(&req);
}

void test_odd_keys(void **state)
{
	static const char *const odd[] = {
		"sp ace", "pl+us", "per%cent", "%2F", "a&b=c?d#e", "q\"uo'te", "semi;colon:", "ba\\ck", "<tag>",
		"tilde~!*()",
		"NFC\xc3\xa9", "NFDe\xcc\x81", "\xe6\xbc\xa2\xe5\xad\x97", "\xf0\x9f\x98\x80", "trailing.",
		"trailing..",
		"...", " leading", "trailing ", "-dash", "UPPER", "upper", "ctl\x01\x1f", "tab\there", "nl\nhere",
		"del\x7f",
		"@at,comma", "$dollar{}[]^`|",
	};
	char body[16];
	struct objreq req;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		char name[64];

		(void)snprintf(name, sizeof(name), "odd/%s", odd[i]);
		(void)snprintf(body, sizeof(body), "body %zu", i);
		if (put(K(name), body, NULL) != 0)
			fail_msg("cannot PUT odd key %zu", i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
		char name[64];

		(void)snprintf(name, sizeof(name), "odd/%s", odd[i]);
		(void)snprintf(body, sizeof(body), "body %zu", i);
		assert_body(K(name), body);
	}
	objreq_init(&req, OBJ_LIST, K("odd/"));
	assert_int_equal(obj_do(s, &req), 0);
	assert_int_equal(req.listing->n, ARRAY_SIZE(odd));
	for (size_t i = 0; i < req.listing->n; i++) {
		if (i > 0)
			assert_true(strcmp(req.listing->v[i - 1].key, req.listing->v[i].key) < 0);
		for (size_t k = 0; k < ARRAY_SIZE(odd); k++)
			n += strcmp(req.listing->v[i].key + strlen(prefix) + 4, odd[k]) == 0;
	}
	assert_int_equal(n, ARRAY_SIZE(odd));
	objreq_done(&req);
}

void test_long_keys(void **state)
{
	char name[1200];
	size_t room = OBJ_KEY_MAX - strlen(prefix);

	/* 255 bytes a component, together exactly the limit. */
	for (size_t i = 0; i < room; i++)
		name[i] = i % 200 == 199 && i + 1 < room ? '/' : 'x';
	name[room] = '\0';
	must_put(K(name), "long", NULL);
	assert_body(K(name), "long");
	del(K(name));
	memset(name, 'y', 300);
	name[300] = '\0';
	if (HAS(LONG_NAMES)) {
		must_put(K(name), "component", NULL);
		assert_body(K(name), "component");
	} else {
		assert_int_equal(put(K(name), "component", NULL), -ENAMETOOLONG);
	}
	memset(name, 'z', OBJ_KEY_MAX + 1);
	name[OBJ_KEY_MAX + 1] = '\0';
	assert_int_equal(put(name, "too long", NULL), -ENAMETOOLONG);
}

void test_nested(void **state)
{
	must_put(K("nest"), "file", NULL);
	if (HAS(NESTED)) {
		must_put(K("nest/below"), "below", NULL);
		assert_body(K("nest"), "file");
		assert_body(K("nest/below"), "below");
	} else {
		struct objerr err = {0};

		assert_int_equal(obj_put(s, K("nest/below"), "x", 1, NULL, false, NULL, NULL, &err), -ENOTDIR);
		assert_true(err.msg[0] != '\0');
		must_put(K("dir/below"), "below", NULL);
		assert_int_equal(put(K("dir"), "x", NULL), -EISDIR);
		assert_body(K("dir/below"), "below");
	}
	assert_absent(K("nest/other"));
	del(K("nest/other"));
	assert_body(K("nest"), "file");
}

void test_markers(void **state)
{
	struct obj_headers h = {0};
	struct objreq req;

	assert_int_equal(obj_headers_set(&h, "content-type", "application/x-directory"), 0);
	assert_absent(K("mk/"));
	assert_int_equal(obj_put(s, K("mk/"), "", 0, NULL, HAS(PUT_NEW), &h, NULL, NULL), 0);
	if (HAS(PUT_NEW))
		assert_int_equal(obj_put(s, K("mk/"), "", 0, NULL, true, &h, NULL, NULL), -ESTALE);
	assert_int_equal(obj_head(s, K("mk/"), &req), 0);
	assert_string_equal(obj_headers_get(&req.ret_headers, "content-type"), "application/x-directory");
	assert_int_equal(req.size, 0);
	objreq_done(&req);
	assert_absent(K("mk"));
	/* It stays when its last key goes; without one a directory goes with it. */
	must_put(K("mk/f"), "x", NULL);
	del(K("mk/f"));
	assert_int_equal(obj_head(s, K("mk/"), &req), 0);
	objreq_done(&req);
	must_put(K("im/sub/f"), "x", NULL);
	assert_absent(K("im/"));
	assert_absent(K("im/sub/"));
	del(K("im/sub/f"));
	must_put(K("im"), "now a file", NULL);
	assert_body(K("im"), "now a file");
	/* Deleting the marker leaves what lies below. */
	must_put(K("mk/f"), "x", NULL);
	del(K("mk/"));
	assert_absent(K("mk/"));
	assert_body(K("mk/f"), "x");
	del(K("mk/f"));
	objreq_init(&req, OBJ_LIST, K("mk"));
	assert_int_equal(obj_do(s, &req), 0);
	assert_int_equal(req.listing->n, 0);
	objreq_done(&req);
	obj_headers_free(&h);
}
