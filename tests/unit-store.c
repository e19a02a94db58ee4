/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-store.c - one suite for every store: mem:, file:// and, when asked, a real S3 server must give the same answers.
 *
 *   unit-store [URL...]            default: mem: and file:// in a temporary directory
 *   LSVD_TEST_S3=s3://BUCKET[/P]   one more, with LSVD_TEST_S3_ENDPOINT and the usual AWS_* variables
 *
 * A test asks the capability flags and asserts both sides: with the flag the condition must hold; without it the test
 * asserts only what does not depend on it. All keys lie below a random prefix, which is emptied at the end.
 */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "objstore/base/log.h"
#include "storetest.h"
#include <cmocka.h>

struct objstore *s;
unsigned caps;
char prefix[128];

const char *K(const char *name)
{
	static __thread char buf[4][OBJ_KEY_MAX + 1];
	static __thread unsigned i;
	char *b = buf[i++ % 4];

	assert_true(snprintf(b, OBJ_KEY_MAX + 1, "%s%s", prefix, name) <= OBJ_KEY_MAX);
	return b;
}

int put(const char *key, const char *body, char *etag)
{
	return obj_put(s, key, body, strlen(body), NULL, false, NULL, etag, NULL);
}

void must_put(const char *key, const char *body, char *etag)
{
	struct objreq req;

	assert_int_equal(put(key, body, NULL), 0);
	if (etag == NULL)
		return;
	assert_int_equal(obj_head(s, key, &req), 0);
	memcpy(etag, req.etag, OBJ_ETAG_MAX);
	objreq_done(&req);
}

int get(const char *key, uint64_t off, uint64_t len, char *buf, size_t cap, struct objreq *req)
{
	objreq_init(req, OBJ_GET, key);
	req->off = off;
	req->len = len;
	req->buf = buf;
	req->cap = cap;
	return obj_do(s, req);
}

void assert_body(const char *key, const char *want)
{
	char buf[256];
	struct objreq req;

	assert_int_equal(get(key, 0, OBJ_WHOLE, buf, sizeof(buf), &req), 0);
	assert_int_equal(req.got, strlen(want));
	assert_memory_equal(buf, want, req.got);
	assert_false(req.truncated);
	objreq_done(&req);
}

void assert_absent(const char *key)
{
	struct objreq req;

	assert_int_equal(obj_head(s, key, &req), -ENOENT);
	objreq_done(&req);
}

void del(const char *key)
{
	assert_int_equal(obj_delete(s, key, NULL, NULL), 0);
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void empty_prefix(void)
{
	char *token = NULL;

	do {
		struct objreq req;

		objreq_init(&req, OBJ_LIST, prefix);
		req.token = token;
		if (obj_do(s, &req) < 0) {
			fprintf(stderr, "cannot list what the tests left: %s\n", req.err.msg);
			abort();
		}
		free(token);
		for (size_t i = req.listing->n; i > 0; i--)
			if (obj_delete(s, req.listing->v[i - 1].key, NULL, NULL) < 0)
				abort();
		token = req.listing->next_token;
		req.listing->next_token = NULL;
		objreq_done(&req);
	} while (token != NULL);
}

static int run_suite(const char *name)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_get_conditions),
		cmocka_unit_test(test_put_new),
		cmocka_unit_test(test_put_match),
		cmocka_unit_test(test_delete_match),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_nonce),
		cmocka_unit_test(test_odd_keys),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_markers),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_list_entry),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_multipart),
		cmocka_unit_test(test_complete_conditions),
		cmocka_unit_test(test_bad_parts),
		cmocka_unit_test(test_list_uploads),
		cmocka_unit_test(test_races),
		cmocka_unit_test(test_churn),
	};
	char rnd[9];
	int bad;

	base_random_hex(rnd, 4);
	(void)snprintf(prefix + strlen(prefix), sizeof(prefix) - strlen(prefix), "t-%s/", rnd);
	bad = _cmocka_run_group_tests(name, tests, ARRAY_SIZE(tests), NULL, NULL);
	empty_prefix();
	return bad;
}

static int run_url(const char *source, const struct obj_open_opts *opts)
{
	struct objerr err = {0};
	struct obj_url url;
	int r = obj_url_parse(source, &url, &err), bad = 1;

	if (r == 0 && url.kind == OBJ_URL_S3 && (opts == NULL || opts->endpoint == NULL)) {
		objerr_set(&err, "set LSVD_TEST_S3_ENDPOINT: no test talks to the world");
		obj_url_free(&url);
		r = -EINVAL;
	}
	if (r == 0) {
		(void)snprintf(prefix, sizeof(prefix), "%s", url.prefix);
		r = obj_open(&url, opts, &s, &err);
		if (r == 0)
			r = obj_probe(s, prefix, &err);
		if (r == 0) {
			caps = obj_caps(s);
			for (unsigned c = 1; c <= OBJ_CAP_LONG_NAMES; c <<= 1)
				printf("# %s: %s %s\n", source, caps & c ? "yes" : "no ", obj_cap_name(c));
			bad = run_suite(source);
		}
		obj_close(s);
		s = NULL;
		obj_url_free(&url);
	}
	if (r < 0)
		fprintf(stderr, "%s: %s\n", source, err.msg);
	return bad;
}

static int run_file(void)
{
	char dir[] = "/tmp/unit-store-XXXXXX", url[64], cmd[64];
	int bad;

	if (mkdtemp(dir) == NULL)
		return 1;
	(void)snprintf(url, sizeof(url), "file://%s", dir);
	bad = run_url(url, NULL);
	(void)snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	return system(cmd) == 0 ? bad : 1;
}

int main(int argc, char **argv)
{
	const char *s3 = getenv("LSVD_TEST_S3");
	struct obj_open_opts opts = {
		.endpoint = getenv("LSVD_TEST_S3_ENDPOINT"),
		.region = getenv("LSVD_TEST_S3_REGION"),
		.path_style = true,
	};
	int bad = 0;

	if (getenv("LSVD_TEST_DEBUG") != NULL)
		log_set_level(LOG_L_DEBUG);
	for (int i = 1; i < argc; i++)
		bad += run_url(argv[i], &opts);
	if (argc == 1) {
		bad += run_url("mem:unit-store", NULL);
		bad += run_file();
	}
	if (s3 != NULL)
		bad += run_url(s3, &opts);
	return bad > 0 ? 1 : 0;
}
