/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store-list.c - part of unit-store: LIST: order, rolling up, paging, and DeleteObjects on what it found. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "storetest.h"
#include <cmocka.h>

/* All pages of a listing as "key|key|...", without the prefix; prefixes keep their '/'. */
static char *list_all(const char *p, bool delimiter, unsigned max, const char *start_after, unsigned *pages)
{
	struct str out = {0};
	char *token = NULL, *text;

	*pages = 0;
	for (;;) {
		struct objreq req;

		objreq_init(&req, OBJ_LIST, p);
		req.delimiter = delimiter;
		req.max_keys = max;
		req.token = token;
		req.start_after = token == NULL ? start_after : NULL;
		assert_int_equal(obj_do(s, &req), 0);
		(*pages)++;
		if (max > 0)
			assert_true(req.listing->n <= max);
		for (size_t i = 0; i < req.listing->n; i++) {
			const struct obj_list_entry *e = &req.listing->v[i];

			if (!e->is_prefix)
				assert_true(e->etag[0] != '\0' && e->mtime_s > 1600000000);
			str_addf(&out, "%s%s", out.len > 0 ? "|" : "", e->key + strlen(prefix));
		}
		free(token);
		token = req.listing->next_token;
		req.listing->next_token = NULL;
		assert_true(req.listing->truncated == (token != NULL));
		objreq_done(&req);
		if (token == NULL)
			break;
	}
	assert_int_equal(str_take(&out, &text), 0);
	return text;
}

void assert_list(const char *p, bool delimiter, unsigned max, const char *start_after, const char *want)
{
	unsigned pages;
	char *got = list_all(p, delimiter, max, start_after, &pages);

	if (strcmp(got, want) != 0)
		fail_msg("list %s max %u after %s:\n got %s\nwant %s", p, max, start_after != NULL ? start_after : "",
			 got, want);
	free(got);
}

void test_list(void **state)
{
	static const char *const keys[] = {
		"l/a", "l/a.b", "l/b!", "l/b/1", "l/b/2", "l/b/c/3", "l/b0", "l/c/x", "l/z", "lz",
	};
	char all[] = "l/a|l/a.b|l/b!|l/b/1|l/b/2|l/b/c/3|l/b0|l/c/x|l/z";

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		must_put(K(keys[i]), "x", NULL);
	for (unsigned max = 0; max < 12; max++) {
		assert_list(K("l/"), false, max, NULL, all);
		assert_list(K("l/"), true, max, NULL, "l/a|l/a.b|l/b!|l/b/|l/b0|l/c/|l/z");
		assert_list(K("l/b"), true, max, NULL, "l/b!|l/b/|l/b0");
		assert_list(K("l/b/"), true, max, NULL, "l/b/1|l/b/2|l/b/c/");
		assert_list(K("l"), true, max, NULL, "l/|lz");
		assert_list(K("l/"), false, max, K("l/b/1"), "l/b/2|l/b/c/3|l/b0|l/c/x|l/z");
		assert_list(K("l/"), false, max, K("l/b"), "l/b!|l/b/1|l/b/2|l/b/c/3|l/b0|l/c/x|l/z");
		assert_list(K("l/"), true, max, K("l/b!"), "l/b/|l/b0|l/c/|l/z");
		assert_list(K("l/"), true, max, K("l/b0"), "l/c/|l/z");
		assert_list(K("l/"), true, max, K("l/zz"), "");
		assert_list(K("l/"), false, max, K("l/c/y"), "l/z");
		assert_list(K("nothing/here/"), true, max, NULL, "");
	}
	/* A marker is a key of its own directory and a prefix of the one above. */
	must_put(K("l/b/"), "", NULL);
	assert_list(K("l/b/"), true, 1, NULL, "l/b/|l/b/1|l/b/2|l/b/c/");
	assert_list(K("l/"), true, 1, NULL, "l/a|l/a.b|l/b!|l/b/|l/b0|l/c/|l/z");
	assert_list(K("l/b"), false, 2, NULL, "l/b!|l/b/|l/b/1|l/b/2|l/b/c/3|l/b0");
}

void test_list_entry(void **state)
{
	char etag[OBJ_ETAG_MAX];
	struct objreq req, head;

	must_put(K("e/x"), "12345", etag);
	assert_int_equal(obj_head(s, K("e/x"), &head), 0);
	objreq_init(&req, OBJ_LIST, K("e/"));
	assert_int_equal(obj_do(s, &req), 0);
	assert_int_equal(req.listing->n, 1);
	assert_string_equal(req.listing->v[0].etag, head.etag);
	assert_int_equal(req.listing->v[0].size, 5);
	assert_int_equal(req.listing->v[0].mtime_s, head.mtime_s);
	assert_null(req.listing->v[0].upload_id);
	objreq_done(&req);
	objreq_done(&head);
}

struct filler {
	pthread_t t;
	unsigned from, to;
};

static void *fill_thread(void *arg)
{
	struct filler *f = arg;
	char name[32];

	for (unsigned i = f->from; i < f->to; i++) {
		(void)snprintf(name, sizeof(name), "many/%05u", i);
		if (put(K(name), "", NULL) != 0)
			return arg;
	}
	return NULL;
}

void test_many(void **state)
{
	struct filler f[4];
	struct objreq req;
	void *bad;
	unsigned pages;
	char *text;

	for (unsigned i = 0; i < 4; i++) {
		f[i].from = i * 625;
		f[i].to = (i + 1) * 625;
		assert_int_equal(pthread_create(&f[i].t, NULL, fill_thread, &f[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(f[i].t, &bad);
		assert_null(bad);
	}
	for (int delimiter = 0; delimiter < 2; delimiter++) {
		char *p;

		text = list_all(K("many/"), delimiter, 0, NULL, &pages);
		assert_true(pages >= 3);
		p = text;
		for (unsigned i = 0; i < 2500; i++) {
			char want[32];

			(void)snprintf(want, sizeof(want), "many/%05u", i);
			assert_memory_equal(p, want, 10);
			p += 10;
			assert_true(*p == (i < 2499 ? '|' : '\0'));
			p++;
		}
		free(text);
	}
	if (HAS(DELETE_MANY)) {
		char *names = malloc(1000 * 160);
		const char *keys[1000];

		for (unsigned page = 0; page < 3; page++) {
			size_t n = page < 2 ? 1000 : 500;

			for (unsigned i = 0; i < n; i++) {
				keys[i] = names + i * 160;
				(void)snprintf(names + i * 160, 160, "%smany/%05u", prefix, page * 1000 + i);
			}
			objreq_init(&req, OBJ_DELETE_MANY, NULL);
			req.keys = keys;
			req.nkeys = n;
			assert_int_equal(obj_do(s, &req), 0);
			objreq_done(&req);
		}
		free(names);
		assert_list(K("many/"), false, 0, NULL, "");
	}
}
