/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store-multi.c - part of unit-store: COPY and multipart uploads. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "storetest.h"
#include <cmocka.h>

int copy(const char *from, const char *to, const struct obj_headers *h, const char *src_match, const char *match,
		bool only_new)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_COPY, to);
	req.src_key = from;
	req.headers = h;
	req.src_if_match = src_match;
	req.if_match = match;
	req.if_none_match_any = only_new;
	r = obj_do(s, &req);
	objreq_done(&req);
	return r;
}

void test_copy(void **state)
{
	static const char wrong[] = "00000000000000000000000000000000";
	char etag[OBJ_ETAG_MAX], to_etag[OBJ_ETAG_MAX];
	struct obj_headers h = {0};
	struct objreq req;

	if (!HAS(COPY))
		return;
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-a", "1"), 0);
	assert_int_equal(obj_put(s, K("cp/s r%c"), "source", 6, NULL, false, &h, NULL, NULL), 0);
	assert_int_equal(copy(K("cp/s r%c"), K("cp/t+1"), NULL, NULL, NULL, false), 0);
	assert_body(K("cp/t+1"), "source");
	assert_int_equal(obj_head(s, K("cp/t+1"), &req), 0);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-a"), "1");
	objreq_done(&req);
	/* With headers they are replaced; onto itself too. */
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-a", NULL), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-b", "2"), 0);
	assert_int_equal(copy(K("cp/s r%c"), K("cp/s r%c"), &h, NULL, NULL, false), 0);
	assert_int_equal(obj_head(s, K("cp/s r%c"), &req), 0);
	assert_null(obj_headers_get(&req.ret_headers, "x-amz-meta-a"));
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-b"), "2");
	memcpy(etag, req.etag, sizeof(etag));
	objreq_done(&req);
	assert_body(K("cp/s r%c"), "source");
	assert_true(copy(K("cp/s r%c"), K("cp/s r%c"), NULL, NULL, NULL, false) < 0);
	assert_int_equal(copy(K("cp/none"), K("cp/t"), NULL, NULL, NULL, false), -ENOENT);
	if (HAS(COPY_SRC)) {
		assert_int_equal(copy(K("cp/s r%c"), K("cp/t2"), NULL, wrong, NULL, false), -ESTALE);
		assert_absent(K("cp/t2"));
		assert_int_equal(copy(K("cp/s r%c"), K("cp/t2"), NULL, etag, NULL, false), 0);
	}
	if (HAS(COPY_DST)) {
		must_put(K("cp/dst"), "keep", to_etag);
		assert_int_equal(copy(K("cp/s r%c"), K("cp/dst"), NULL, NULL, NULL, true), -ESTALE);
		assert_int_equal(copy(K("cp/s r%c"), K("cp/dst"), NULL, NULL, wrong, false), -ESTALE);
		assert_body(K("cp/dst"), "keep");
		assert_int_equal(copy(K("cp/s r%c"), K("cp/dst"), NULL, NULL, to_etag, false), 0);
		assert_body(K("cp/dst"), "source");
		assert_int_equal(copy(K("cp/s r%c"), K("cp/dst2"), NULL, NULL, NULL, true), 0);
	}
	/* A marker's headers travel too. */
	assert_int_equal(obj_put(s, K("cp/d/"), "", 0, NULL, false, &h, NULL, NULL), 0);
	assert_int_equal(copy(K("cp/d/"), K("cp/e/"), NULL, NULL, NULL, false), 0);
	assert_int_equal(obj_head(s, K("cp/e/"), &req), 0);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-b"), "2");
	objreq_done(&req);
	obj_headers_free(&h);
}

/* --- multipart ---------------------------------------------------------------------------------------------------- */

static char *create(const char *key, const struct obj_headers *h)
{
	struct objreq req;
	char *id;

	objreq_init(&req, OBJ_MPU_CREATE, key);
	req.headers = h;
	assert_int_equal(obj_do(s, &req), 0);
	assert_non_null(req.ret_upload_id);
	id = req.ret_upload_id;
	req.ret_upload_id = NULL;
	objreq_done(&req);
	return id;
}

static int part(const char *key, const char *id, unsigned number, const void *p, size_t n, struct obj_part *ret)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_PART, key);
	req.upload_id = id;
	req.part = number;
	req.iov = &iov;
	req.iovcnt = 1;
	r = obj_do(s, &req);
	if (r == 0) {
		ret->number = number;
		memcpy(ret->etag, req.etag, sizeof(ret->etag));
	}
	objreq_done(&req);
	return r;
}

static int part_copy(const char *key, const char *id, unsigned number, const char *from, uint64_t off, uint64_t len,
		     struct obj_part *ret)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_COPY_PART, key);
	req.upload_id = id;
	req.part = number;
	req.src_key = from;
	req.off = off;
	req.len = len;
	r = obj_do(s, &req);
	if (r == 0) {
		ret->number = number;
		memcpy(ret->etag, req.etag, sizeof(ret->etag));
	}
	objreq_done(&req);
	return r;
}

static int complete(const char *key, const char *id, const struct obj_part *parts, size_t n, const char *match,
		    bool only_new, char *etag)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_COMPLETE, key);
	req.upload_id = id;
	req.parts = parts;
	req.nparts = n;
	req.if_match = match;
	req.if_none_match_any = only_new;
	r = obj_do(s, &req);
	if (r == 0 && etag != NULL)
		memcpy(etag, req.etag, OBJ_ETAG_MAX);
	objreq_done(&req);
	return r;
}

static int abort_upload(const char *key, const char *id)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_MPU_ABORT, key);
	req.upload_id = id;
	r = obj_do(s, &req);
	objreq_done(&req);
	return r;
}

void test_multipart(void **state)
{
	size_t n = 5 * MiB + 123;
	char *big = malloc(2 * n), *back = malloc(2 * n), *id, etag[OBJ_ETAG_MAX];
	struct obj_headers h = {0};
	struct obj_part p[3];
	struct objreq req;

	if (!HAS(MULTIPART)) {
		free(big);
		free(back);
		return;
	}
	for (size_t i = 0; i < 2 * n; i++)
		big[i] = (char)(hash_u64(i / 8) >> 8 * (i % 8));
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-m", "u"), 0);
	id = create(K("mp"), &h);
	assert_absent(K("mp"));
	assert_int_equal(part(K("mp"), id, 2, "old", 3, &p[1]), 0);
	assert_int_equal(part(K("mp"), id, 7, "tail", 4, &p[2]), 0);
	assert_int_equal(part(K("mp"), id, 1, big, n, &p[0]), 0);
	assert_int_equal(part(K("mp"), id, 2, big + n, n, &p[1]), 0); /* again: the later one counts */
	assert_int_equal(complete(K("mp"), id, p, 3, NULL, false, etag), 0);
	assert_int_equal(obj_head(s, K("mp"), &req), 0);
	assert_int_equal(req.size, 2 * n + 4);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-m"), "u");
	assert_string_equal(req.etag, etag);
	objreq_done(&req);
	assert_int_equal(get(K("mp"), 0, 2 * n, back, 2 * n, &req), 0);
	assert_true(req.truncated);
	assert_int_equal(req.got, 2 * n);
	assert_memory_equal(big, back, 2 * n);
	objreq_done(&req);
	assert_int_equal(get(K("mp"), 2 * n, OBJ_WHOLE, back, 100, &req), 0);
	assert_int_equal(req.got, 4);
	assert_memory_equal(back, "tail", 4);
	objreq_done(&req);
	free(id);
	/* A part of an upload that is none; abort of one. */
	assert_int_equal(abort_upload(K("mp2"), "0123456789abcdef0123456789abcdef"), 0);
	id = create(K("mp2"), NULL);
	assert_int_equal(part(K("mp2"), id, 1, "x", 1, &p[0]), 0);
	assert_int_equal(abort_upload(K("mp2"), id), 0);
	assert_int_equal(part(K("mp2"), id, 1, "x", 1, &p[0]), -ENOENT);
	assert_int_equal(complete(K("mp2"), id, p, 1, NULL, false, NULL), -ENOENT);
	assert_absent(K("mp2"));
	free(id);
	if (HAS(PART_COPY)) {
		id = create(K("mp3"), NULL);
		assert_int_equal(part_copy(K("mp3"), id, 1, K("mp"), 10, 5 * MiB, &p[0]), 0);
		assert_int_equal(part(K("mp3"), id, 2, "END", 3, &p[1]), 0);
		assert_int_equal(part_copy(K("mp3"), id, 3, K("none"), 0, 1, &p[2]), -ENOENT);
		assert_int_equal(complete(K("mp3"), id, p, 2, NULL, false, NULL), 0);
		assert_int_equal(get(K("mp3"), 0, OBJ_WHOLE, back, 2 * n, &req), 0);
		assert_int_equal(req.got, 5 * MiB + 3);
		assert_memory_equal(back, big + 10, 5 * MiB);
		assert_memory_equal(back + 5 * MiB, "END", 3);
		objreq_done(&req);
		free(id);
	}
	obj_headers_free(&h);
	free(big);
	free(back);
}

void test_complete_conditions(void **state)
{
	static const char wrong[] = "00000000000000000000000000000000";
	char etag[OBJ_ETAG_MAX], *id;
	struct obj_part p;

	if (!HAS(MULTIPART) || !HAS(COMPLETE_COND))
		return;
	must_put(K("cc"), "there", etag);
	for (int i = 0; i < 3; i++) {
		id = create(K("cc"), NULL);
		assert_int_equal(part(K("cc"), id, 1, "mp", 2, &p), 0);
		assert_int_equal(complete(K("cc"), id, &p, 1, i == 0 ? NULL : i == 1 ? wrong : etag, i == 0, NULL),
				 i < 2 ? -ESTALE : 0);
		assert_body(K("cc"), i < 2 ? "there" : "mp");
		assert_int_equal(abort_upload(K("cc"), id), 0);
		free(id);
	}
	del(K("cc"));
	id = create(K("cc"), NULL);
	assert_int_equal(part(K("cc"), id, 1, "new", 3, &p), 0);
	assert_int_equal(complete(K("cc"), id, &p, 1, NULL, true, NULL), 0);
	assert_body(K("cc"), "new");
	free(id);
}

void test_bad_parts(void **state)
{
	struct obj_part p[2], q[2];
	char *id;

	if (!HAS(MULTIPART))
		return;
	id = create(K("bp"), NULL);
	assert_int_equal(part(K("bp"), id, 1, "a", 1, &p[0]), 0);
	q[0] = p[0];
	memcpy(q[0].etag, "00000000000000000000000000000000", 33);
	assert_int_equal(complete(K("bp"), id, q, 1, NULL, false, NULL), -EINVAL);
	q[0] = p[0];
	q[0].number = 5;
	assert_int_equal(complete(K("bp"), id, q, 1, NULL, false, NULL), -EINVAL);
	assert_absent(K("bp"));
	assert_int_equal(complete(K("bp"), id, p, 1, NULL, false, NULL), 0);
	assert_body(K("bp"), "a");
	free(id);
}

static void list_parts(const char *key, const char *id, size_t want)
{
	struct objreq req;

	objreq_init(&req, OBJ_MPU_LIST, key);
	req.upload_id = id;
	assert_int_equal(obj_do(s, &req), 0);
	assert_int_equal(req.listing->n, want);
	for (size_t i = 0; i < want; i++) {
		assert_string_equal(req.listing->v[i].key, i == 0 ? "00001" : "00002");
		assert_int_equal(req.listing->v[i].size, 3);
	}
	objreq_done(&req);
}

void test_list_uploads(void **state)
{
	struct obj_part p;
	char *id[3], *token = NULL;
	struct objreq req;
	unsigned found = 0, pages = 0;

	if (!HAS(MULTIPART))
		return;
	id[0] = create(K("lu/a"), NULL);
	id[1] = create(K("lu/a"), NULL);
	id[2] = create(K("lu/b c"), NULL);
	for (;;) {
		objreq_init(&req, OBJ_MPU_LIST, K("lu/"));
		req.max_keys = 2;
		req.token = token;
		assert_int_equal(obj_do(s, &req), 0);
		assert_true(req.listing->n <= 2);
		for (size_t i = 0; i < req.listing->n; i++) {
			const struct obj_list_entry *e = &req.listing->v[i];

			for (unsigned k = 0; k < 3; k++)
				if (strcmp(e->upload_id, id[k]) == 0) {
					assert_string_equal(e->key, K(k < 2 ? "lu/a" : "lu/b c"));
					found |= 1u << k;
				}
		}
		free(token);
		token = req.listing->next_token;
		req.listing->next_token = NULL;
		objreq_done(&req);
		if (token == NULL || ++pages > 10)
			break;
	}
	assert_null(token);
	assert_int_equal(found, 7);
	list_parts(K("lu/a"), id[0], 0);
	assert_int_equal(part(K("lu/a"), id[0], 2, "two", 3, &p), 0);
	assert_int_equal(part(K("lu/a"), id[0], 1, "one", 3, &p), 0);
	list_parts(K("lu/a"), id[0], 2);
	list_parts(K("lu/a"), id[1], 0);
	assert_int_equal(abort_upload(K("lu/a"), id[0]), 0);
	objreq_init(&req, OBJ_MPU_LIST, K("lu/a"));
	req.upload_id = id[0];
	assert_int_equal(obj_do(s, &req), -ENOENT);
	objreq_done(&req);
	assert_int_equal(abort_upload(K("lu/a"), id[1]), 0);
	assert_int_equal(abort_upload(K("lu/b c"), id[2]), 0);
	for (unsigned k = 0; k < 3; k++)
		free(id[k]);
}
