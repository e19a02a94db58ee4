/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-objstore.c - requests, headers, pages, source URLs, trace, and the probe against stores that lie. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "faultstore.h"
#include "objstore/base/str.h"
#include "objstore/store-private.h"
#include <cmocka.h>

/* --- headers ------------------------------------------------------------------------------------------------------ */

static void test_headers(void **state)
{
	struct obj_headers a = {0}, b = {0};

	assert_null(obj_headers_get(&a, "x"));
	assert_int_equal(obj_headers_set(&a, "Content-Type", "text/plain"), 0);
	assert_int_equal(obj_headers_set(&a, "x-amz-meta-b", "1"), 0);
	assert_int_equal(obj_headers_set(&a, "X-AMZ-META-B", "2"), 0);
	assert_int_equal(a.n, 2);
	assert_string_equal(a.v[0].name, "content-type");
	assert_string_equal(obj_headers_get(&a, "x-amz-meta-B"), "2");
	assert_int_equal(obj_headers_set(&a, "x", "line\nend"), -EINVAL);
	assert_int_equal(obj_headers_set(&a, "x", "cr\r"), -EINVAL);
	assert_int_equal(obj_headers_set(&a, "x", "del\x7f"), -EINVAL);
	assert_int_equal(obj_headers_set(&a, "x y", "v"), -EINVAL);
	assert_int_equal(obj_headers_set(&a, "x:", "v"), -EINVAL);
	assert_int_equal(obj_headers_set(&a, "", "v"), -EINVAL);
	assert_int_equal(a.n, 2);
	assert_int_equal(obj_headers_set(&a, "x", "tab\tand \xc3\xa9 and \xff"), 0);
	assert_int_equal(obj_headers_copy(&b, &a), 0);
	assert_true(obj_headers_equal(&a, &b));
	assert_int_equal(obj_headers_set(&b, "content-type", NULL), 0);
	assert_false(obj_headers_equal(&a, &b));
	assert_int_equal(obj_headers_set(&b, "content-type", "text/plain"), 0);
	assert_true(obj_headers_equal(&a, &b)); /* as sets */
	assert_int_equal(obj_headers_set(&b, "x", "other"), 0);
	assert_false(obj_headers_equal(&a, &b));
	obj_headers_free(&a);
	obj_headers_free(&b);
	assert_int_equal(a.n, 0);
}

static void test_headers_code(void **state)
{
	static const struct {
		const char *p;
		size_t n;
	} bad[] = {{"a", 1}, {"a\0", 2}, {"a\0b", 3}, {"\0b\0", 3}, {"A\0b\0", 4}, {"a\0b\0a\0c\0", 8}, {"a b\0c\0", 6},
		   {"a\0\n\0", 4}, {"a\0b\0c\0", 6}, {"\0", 1}, {"a\0b\0\0", 5}};
	struct obj_headers a = {0}, b = {0};
	size_t n;
	void *p;

	assert_int_equal(obj_headers_encode(&a, &p, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(obj_headers_decode(p, n, &b), 0);
	free(p);
	assert_int_equal(obj_headers_set(&a, "x-amz-meta-a", ""), 0);
	assert_int_equal(obj_headers_set(&a, "etag", "\xff v"), 0);
	assert_int_equal(obj_headers_encode(&a, &p, &n), 0);
	assert_int_equal(obj_headers_decode(p, n, &b), 0);
	assert_true(obj_headers_equal(&a, &b));
	for (size_t cut = 1; cut < n; cut++)
		if (obj_headers_decode(p, cut, &b) == 0)
			assert_int_equal(cut, strlen("x-amz-meta-a") + 2); /* between two headers */
	assert_int_equal(obj_headers_decode(p, n, &b), 0);
	free(p);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (obj_headers_decode(bad[i].p, bad[i].n, &b) != -EBADMSG)
			fail_msg("bad case %zu", i);
	assert_true(obj_headers_equal(&a, &b)); /* untouched by what failed */
	obj_headers_free(&a);
	obj_headers_free(&b);
}

/* --- pages, requests ---------------------------------------------------------------------------------------------- */

static void test_page(void **state)
{
	struct obj_listing *l;
	struct obj_list_entry *e;

	assert_int_equal(page_new(&l), 0);
	for (unsigned i = 0; i < 3000; i++) {
		char key[32], id[32];

		(void)snprintf(key, sizeof(key), "key-%05u", (i * 7919) % 3000);
		(void)snprintf(id, sizeof(id), "id-%u", (i * 7919) % 3000);
		assert_int_equal(page_add(l, key, strlen(key), &e), 0);
		if (i % 3 == 0)
			assert_int_equal(page_set_upload(l, e, id, NULL), 0);
		e->size = (i * 7919) % 3000;
	}
	page_sort(l);
	for (unsigned i = 0; i < 3000; i++) {
		char key[32];

		(void)snprintf(key, sizeof(key), "key-%05u", i);
		assert_string_equal(l->v[i].key, key);
		assert_int_equal(l->v[i].size, i);
		if (l->v[i].upload_id != NULL)
			assert_int_equal(atoi(l->v[i].upload_id + 3), i);
	}
	assert_int_equal(page_set_token(l, "t1"), 0);
	assert_int_equal(page_set_token(l, "t2"), 0);
	assert_string_equal(l->next_token, "t2");
	assert_true(l->truncated);
	obj_listing_free(l);
	obj_listing_free(NULL);
}

static void test_names(void **state)
{
	for (int i = 0; i < OBJ_NOPS; i++)
		assert_non_null(obj_op_name[i]);
	for (unsigned c = 1; c <= OBJ_CAP_LONG_NAMES; c <<= 1)
		assert_non_null(obj_cap_name(c));
	assert_null(obj_cap_name(1u << 30));
	assert_false(obj_op_writes(OBJ_GET));
	assert_true(obj_op_writes(OBJ_MPU_ABORT));
}

static void test_trace(void **state)
{
	struct objstore *mem, *s;
	struct objreq req;

	assert_int_equal(store_mem_new(&mem), 0);
	assert_int_equal(store_trace_new(mem, &s), 0);
	assert_int_equal(obj_put(s, "k", "abc", 3, NULL, false, NULL, NULL, NULL), 0);
	assert_int_equal(obj_head(s, "none", &req), -ENOENT);
	objreq_done(&req);
	assert_int_equal(s->asked->count[OBJ_PUT], 1);
	assert_int_equal(s->asked->bytes_out, 3);
	assert_int_equal(s->asked->errors[OBJ_HEAD], 0);
	assert_int_equal(obj_put(s, "", "abc", 3, NULL, false, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(s->asked->errors[OBJ_PUT], 1);
	assert_int_equal(s->stats->count[OBJ_PUT], 2);
	assert_true(obj_caps(s) & OBJ_CAP_PUT_NEW);
	obj_close(s);
	obj_close(NULL);
}

/* --- URLs --------------------------------------------------------------------------------------------------------- */

static void test_url(void **state)
{
	static const struct {
		const char *s;
		int kind; /* -1: refused */
		const char *bucket, *prefix;
	} t[] = {
		{"s3://b", OBJ_URL_S3, "b", ""},
		{"s3://b/", OBJ_URL_S3, "b", ""},
		{"s3://my-bucket.x_1/a", OBJ_URL_S3, "my-bucket.x_1", "a/"},
		{"s3://b/a/b c/%20/", OBJ_URL_S3, "b", "a/b c/%20/"},
		{"s3://b/\xc3\xa9", OBJ_URL_S3, "b", "\xc3\xa9/"},
		{"file:///", OBJ_URL_FILE, "/", ""},
		{"file:///srv/b//", OBJ_URL_FILE, "/srv/b", ""},
		{"file:///with space%41", OBJ_URL_FILE, "/with space%41", ""},
		{"mem:x", OBJ_URL_MEM, "x", ""},
		{"mem:x/p", OBJ_URL_MEM, "x", "p/"},
		{"", -1, NULL, NULL},
		{"s3:/b", -1, NULL, NULL},
		{"s3://", -1, NULL, NULL},
		{"s3:///p", -1, NULL, NULL},
		{"s3://..", -1, NULL, NULL},
		{"s3://b?x", -1, NULL, NULL},
		{"s3://user@host/p", -1, NULL, NULL},
		{"s3://b//a", -1, NULL, NULL},
		{"s3://b/a//b", -1, NULL, NULL},
		{"s3://b/a//", -1, NULL, NULL},
		{"s3://b/\xff", -1, NULL, NULL},
		{"file://host/p", -1, NULL, NULL},
		{"file://", -1, NULL, NULL},
		{"/srv/b", -1, NULL, NULL},
		{"http://b", -1, NULL, NULL},
	};
	char big[2000];

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct obj_url u = {0};
		struct objerr err = {0};
		int r = obj_url_parse(t[i].s, &u, &err);

		if (t[i].kind < 0) {
			if (r != -EINVAL || err.msg[0] == '\0' || u.bucket != NULL)
				fail_msg("\"%s\": %d", t[i].s, r);
			continue;
		}
		if (r != 0 || (int)u.kind != t[i].kind || strcmp(u.bucket, t[i].bucket) != 0 ||
		    strcmp(u.prefix, t[i].prefix) != 0)
			fail_msg("\"%s\": %d %s %s", t[i].s, r, u.bucket, u.prefix);
		obj_url_free(&u);
	}
	memset(big, 'x', sizeof(big));
	memcpy(big, "s3://b/", 7);
	big[sizeof(big) - 1] = '\0';
	struct obj_url u = {0};
	struct objerr err = {0};

	assert_int_equal(obj_url_parse(big, &u, &err), -EINVAL);
}

/* --- the probe ---------------------------------------------------------------------------------------------------- */

/* A store that honours only some conditions, or knows only some operations: what lacks is ignored or -ENOTSUP. */
struct liar {
	struct objstore s;
	unsigned honours; /* OBJ_CAP_* */
	bool unquoted;	  /* PUT If-Match works with the quirk only, else it always fails */
	bool not_implemented; /* what lacks is 501 instead of ignored */
};

static unsigned needed(const struct objreq *req)
{
	bool cond = req->if_match != NULL || req->if_none_match_any;

	switch (req->op) {
	case OBJ_PUT:
		return req->if_match != NULL ? OBJ_CAP_PUT_MATCH : req->if_none_match_any ? OBJ_CAP_PUT_NEW : 0;
	case OBJ_COPY:
		return OBJ_CAP_COPY | (cond ? OBJ_CAP_COPY_DST : 0) |
		       (req->src_if_match != NULL ? OBJ_CAP_COPY_SRC : 0);
	case OBJ_DELETE:
		return req->if_match != NULL ? OBJ_CAP_DELETE_COND : 0;
	case OBJ_DELETE_MANY:
		return OBJ_CAP_DELETE_MANY;
	case OBJ_MPU_CREATE:
		return OBJ_CAP_MULTIPART;
	case OBJ_MPU_COPY_PART:
		return OBJ_CAP_PART_COPY;
	case OBJ_MPU_COMPLETE:
		return cond ? OBJ_CAP_COMPLETE_COND : 0;
	default:
		return 0;
	}
}

static void liar_submit(struct objstore *s, struct objreq *req)
{
	struct liar *l = container_of(s, struct liar, s);
	unsigned missing = needed(req) & ~l->honours;
	unsigned ops = OBJ_CAP_COPY | OBJ_CAP_DELETE_MANY | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY;

	if (l->unquoted && req->op == OBJ_PUT && req->if_match != NULL &&
	    !(store_bottom(s)->quirks & OBJ_QUIRK_UNQUOTED_IF_MATCH)) {
		objreq_finish(req, -ESTALE);
		return;
	}
	if (missing & ops || (missing && l->not_implemented)) {
		objreq_finish(req, -ENOTSUP);
		return;
	}
	if (missing & OBJ_CAP_COPY_SRC)
		req->src_if_match = NULL;
	if (missing & ~(unsigned)OBJ_CAP_COPY_SRC) {
		req->if_match = NULL;
		req->if_none_match_any = false;
	}
	obj_submit(s->inner, req);
}

static void liar_close(struct objstore *s)
{
	obj_close(s->inner);
}

static const struct objstore_ops liar_ops = {.name = "liar", .submit = liar_submit, .close = liar_close};

static size_t objects_in(struct objstore *mem)
{
	struct objreq req;
	size_t n = 0;

	for (int uploads = 0; uploads < 2; uploads++) {
		objreq_init(&req, uploads ? OBJ_MPU_LIST : OBJ_LIST, "");
		assert_int_equal(obj_do(mem, &req), 0);
		n += req.listing->n;
		objreq_done(&req);
	}
	return n;
}

#define ALL 0x3ffu /* the flags that the probe finds */

static void probe_one(unsigned honours, bool unquoted, bool not_implemented)
{
	struct liar l = {.honours = honours, .unquoted = unquoted, .not_implemented = not_implemented};
	struct objerr err = {0};
	struct objstore *mem;
	unsigned want = honours;

	assert_int_equal(store_mem_new(&mem), 0);
	mem->caps = OBJ_CAP_NESTED;
	mem->caps_known = false;
	store_wrap(&l.s, &liar_ops, mem);
	/* What needs an operation that is missing is missing too. */
	if (!(honours & OBJ_CAP_COPY))
		want &= ~(unsigned)(OBJ_CAP_COPY_SRC | OBJ_CAP_COPY_DST);
	if (!(honours & OBJ_CAP_MULTIPART))
		want &= ~(unsigned)(OBJ_CAP_PART_COPY | OBJ_CAP_COMPLETE_COND);
	if (obj_probe(&l.s, "p/", &err) != 0 || obj_caps(&l.s) != (want | OBJ_CAP_NESTED))
		fail_msg("honours %x: found %x, %s", honours, obj_caps(&l.s), err.msg);
	if (unquoted && (honours & OBJ_CAP_PUT_MATCH))
		assert_int_equal(obj_quirks(&l.s), OBJ_QUIRK_UNQUOTED_IF_MATCH);
	else
		assert_int_equal(obj_quirks(&l.s), 0);
	assert_int_equal(objects_in(mem), 0);
	assert_true(mem->caps_known);
	obj_close(&l.s);
}

static void test_probe(void **state)
{
	for (int variant = 0; variant < 4; variant++) {
		probe_one(ALL, variant & 1, variant & 2);
		probe_one(0, variant & 1, variant & 2);
		for (unsigned c = 1; c & ALL; c <<= 1) {
			probe_one(ALL & ~c, variant & 1, variant & 2);
			probe_one(c, variant & 1, variant & 2);
		}
	}
}

static void test_probe_fails_clean(void **state)
{
	/* Whichever request fails: the probe says so and leaves nothing behind. */
	for (unsigned n = 0;; n++) {
		struct objstore *mem, *s;
		struct objerr err = {0};
		unsigned seen;
		int r;

		assert_int_equal(store_mem_new(&mem), 0);
		mem->caps_known = false;
		assert_int_equal(faultstore_new(mem, 1, &s), 0);
		faultstore_fail_at(s, n, -EACCES);
		r = obj_probe(s, "", &err);
		seen = faultstore_seen(s, OBJ_NOPS);
		if (r == 0) {
			assert_int_equal(seen, n); /* the fault lies behind the last request */
			assert_true(n > 30);
			obj_close(s);
			break;
		}
		assert_int_equal(r, -EACCES);
		assert_true(err.msg[0] != '\0');
		assert_false(mem->caps_known);
		/* When a DELETE of the clean-up itself fails, its key stays: at most one. */
		assert_true(objects_in(mem) <= 1);
		obj_close(s);
	}
}

static void test_probe_known(void **state)
{
	struct objstore *mem, *s;

	assert_int_equal(store_mem_new(&mem), 0);
	assert_int_equal(faultstore_new(mem, 1, &s), 0);
	assert_int_equal(obj_probe(s, "", NULL), 0);
	assert_int_equal(faultstore_seen(s, OBJ_NOPS), 0);
	obj_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers),	   cmocka_unit_test(test_headers_code),
		cmocka_unit_test(test_page),	   cmocka_unit_test(test_names),
		cmocka_unit_test(test_trace),	   cmocka_unit_test(test_url),
		cmocka_unit_test(test_probe),	   cmocka_unit_test(test_probe_fails_clean),
		cmocka_unit_test(test_probe_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
