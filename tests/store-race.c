/* SPDX-License-Identifier: GPL-3.0-or-later */
/* store-race.c - part of unit-store: many threads on one key or one directory. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "storetest.h"
#include <cmocka.h>

struct racer {
	pthread_t t;
	pthread_barrier_t *start;
	const char *key, *match;
	char body[8];
	bool copy;
	int r;
};

static void *race_thread(void *arg)
{
	struct racer *a = arg;

	pthread_barrier_wait(a->start);
	a->r = a->copy ? copy(K("race/src"), a->key, NULL, NULL, a->match, a->match == NULL)
		       : obj_put(s, a->key, a->body, strlen(a->body), a->match, a->match == NULL, NULL, NULL, NULL);
	return NULL;
}

/* Eight at once, exactly one wins; what lies there is the winner's. */
static void race(const char *key, const char *match, bool by_copy)
{
	struct racer a[8];
	pthread_barrier_t start;
	int winner = -1;

	pthread_barrier_init(&start, NULL, ARRAY_SIZE(a));
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		a[i] = (struct racer){.start = &start, .key = key, .match = match, .copy = by_copy};
		(void)snprintf(a[i].body, sizeof(a[i].body), "w%zu", i);
		assert_int_equal(pthread_create(&a[i].t, NULL, race_thread, &a[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		pthread_join(a[i].t, NULL);
		if (a[i].r == 0) {
			assert_int_equal(winner, -1);
			winner = (int)i;
		} else {
			assert_int_equal(a[i].r, -ESTALE);
		}
	}
	assert_true(winner >= 0);
	assert_body(key, by_copy ? "src" : a[winner].body);
	pthread_barrier_destroy(&start);
}

void test_races(void **state)
{
	must_put(K("race/src"), "src", NULL);
	for (int round = 0; round < 10; round++) {
		char name[32], key[160], etag[OBJ_ETAG_MAX];

		(void)snprintf(name, sizeof(name), "race/%d/k", round);
		(void)snprintf(key, sizeof(key), "%s", K(name));
		if (HAS(PUT_NEW))
			race(key, NULL, false);
		if (HAS(PUT_MATCH)) {
			must_put(key, "base", etag);
			race(key, etag, false);
		}
		if (HAS(COPY_DST)) {
			must_put(key, "base", etag);
			race(key, etag, true);
			del(key);
			race(key, NULL, true);
		}
		del(key);
	}
}

static void *churn_thread(void *arg)
{
	struct racer *a = arg;
	char name[64];

	/* Keys of one directory that comes and goes all the time. */
	(void)snprintf(name, sizeof(name), "churn/a/b/%s", a->body);
	pthread_barrier_wait(a->start);
	for (int i = 0; i < 30 && a->r == 0; i++) {
		struct objreq req;

		a->r = put(K(name), "x", NULL);
		if (a->r == 0) {
			a->r = obj_head(s, K(name), &req);
			objreq_done(&req);
		}
		if (a->r == 0)
			a->r = obj_delete(s, K(name), NULL, NULL);
	}
	return NULL;
}

void test_churn(void **state)
{
	struct racer a[4];
	pthread_barrier_t start;

	pthread_barrier_init(&start, NULL, ARRAY_SIZE(a));
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		a[i] = (struct racer){.start = &start};
		(void)snprintf(a[i].body, sizeof(a[i].body), "%zu", i);
		assert_int_equal(pthread_create(&a[i].t, NULL, churn_thread, &a[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		pthread_join(a[i].t, NULL);
		assert_int_equal(a[i].r, 0);
	}
	pthread_barrier_destroy(&start);
	assert_list(K("churn"), false, 0, NULL, "");
}
