/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-ranges.c - the range set against a byte map, the cutting into parts against its rules, the spool's journal. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "fs/ranges.h"
#include "fs/spjournal.h"
#include "fs/spplan.h"
#include "objstore/base/clock.h"

static uint64_t rnd(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

#define SPACE 512

static void compare(const struct ranges *r, const bool *map, uint64_t seed)
{
	uint64_t pos = 0, a, b, bytes = 0;
	size_t n = 0, i = 0;

	while (ranges_find(r, pos, &a, &b)) {
		for (; i < a; i++)
			if (map[i])
				fail_msg("seed %llu: byte %zu missing", (unsigned long long)seed, i);
		for (; i < b; i++)
			if (!map[i])
				fail_msg("seed %llu: byte %zu too many", (unsigned long long)seed, i);
		if (i < SPACE && map[i])
			fail_msg("seed %llu: not merged at %zu", (unsigned long long)seed, i);
		bytes += b - a;
		n++;
		pos = b;
	}
	for (; i < SPACE; i++)
		assert_false(map[i]);
	assert_int_equal(bytes, r->bytes);
	assert_int_equal(n, r->n);
}

static void test_ranges_model(void **state)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct ranges r = { 0 }, copy = { 0 };
		bool map[SPACE] = { false };
		uint64_t s = seed;

		for (int op = 0; op < 400; op++) {
			uint64_t a = rnd(&s) % SPACE, b = a + rnd(&s) % (rnd(&s) % 8 == 0 ? SPACE : 12);
			bool all = true, any = false;
			uint64_t count = 0;

			b = MIN(b, (uint64_t)SPACE);
			switch (rnd(&s) % 7) {
			case 0:
			case 1:
			case 2:
				assert_int_equal(ranges_add(&r, a, b), 0);
				memset(map + a, true, b - a);
				break;
			case 3:
			case 4:
				assert_int_equal(ranges_del(&r, a, b), 0);
				memset(map + a, false, b - a);
				break;
			case 5:
				if (rnd(&s) % 8 == 0) {
					ranges_cut(&r, a);
					memset(map + a, false, SPACE - a);
				}
				break;
			default:
				for (uint64_t i = a; i < b; i++) {
					all &= map[i];
					any |= map[i];
					count += map[i];
				}
				assert_int_equal(ranges_covers(&r, a, b), all);
				assert_int_equal(ranges_touches(&r, a, b), any);
				assert_int_equal(ranges_count(&r, a, b), count);
			}
			compare(&r, map, seed);
		}
		assert_int_equal(ranges_copy(&copy, &r), 0);
		compare(&copy, map, seed);
		ranges_clear(&copy);
		ranges_clear(&r);
		assert_int_equal(r.bytes, 0);
		assert_int_equal(r.n, 0);
	}
}

/* Every second block of many, in random order, then the gaps: ends as one range. Quadratic work would not end here. */
static void test_ranges_million(void **state)
{
	enum { N = 1000000 };
	uint32_t *order = malloc(N * sizeof(*order));
	struct ranges r = { 0 };
	uint64_t s = 7;

	assert_non_null(order);
	for (uint32_t i = 0; i < N; i++)
		order[i] = i;
	for (uint32_t i = N - 1; i > 0; i--) {
		uint32_t k = (uint32_t)(rnd(&s) % (i + 1)), t = order[i];

		order[i] = order[k];
		order[k] = t;
	}
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(ranges_add(&r, 8192ull * order[i], 8192ull * order[i] + 4096), 0);
	assert_int_equal(r.n, N);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(ranges_add(&r, 8192ull * order[i] + 4096, 8192ull * order[i] + 8192), 0);
	assert_int_equal(r.n, 1);
	assert_true(ranges_covers(&r, 0, 8192ull * N));
	ranges_clear(&r);
	free(order);
}

/* --- cutting into parts ------------------------------------------------------------------------------------------- */

static void check_plan(const struct spplan_in *in, const struct spplan *p, uint64_t seed)
{
	uint64_t pos = 0;
	unsigned number = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct spplan_part *q = &p->v[i];
		bool last = i + 1 == p->n;

		if (q->off != pos || q->len == 0 || q->number <= number || q->number > in->max_parts)
			fail_msg("seed %llu: part %zu out of order", (unsigned long long)seed, i);
		if (!last && q->len < in->part_min)
			fail_msg("seed %llu: part %zu is short", (unsigned long long)seed, i);
		if (q->copy && (q->off + q->len > in->same_limit || ranges_touches(in->dirty, q->off, q->off + q->len) ||
				q->len > in->copy_max))
			fail_msg("seed %llu: part %zu must not be copied", (unsigned long long)seed, i);
		if (!q->copy && in->tail_off == SP_NO_TAIL && q->len > 2 * in->unit)
			fail_msg("seed %llu: part %zu is long", (unsigned long long)seed, i);
		pos += q->len;
		number = q->number;
	}
	assert_int_equal(pos, in->size);
}

static void test_plan_random(void **state)
{
	for (uint64_t seed = 1; seed <= 3000; seed++) {
		struct ranges dirty = { 0 };
		uint64_t s = seed;
		struct spplan_in in = { .size = 1 + rnd(&s) % 3000, .dirty = &dirty, .unit = 20 + rnd(&s) % 30, .part_min = 20,
					.copy_max = 40 + rnd(&s) % 500, .max_parts = 10000, .tail_first = 5001 };
		struct spplan p;

		in.same_limit = rnd(&s) % (in.size + 1);
		in.tail_off = rnd(&s) % 3 ? SP_NO_TAIL : MAX(in.same_limit, (uint64_t)20);
		in.equal = false;
		for (uint64_t n = rnd(&s) % 12; n > 0 && in.same_limit > 0; n--) {
			uint64_t a = rnd(&s) % in.same_limit;

			assert_int_equal(ranges_add(&dirty, a, MIN(a + rnd(&s) % 60, in.same_limit)), 0);
		}
		assert_int_equal(spplan_make(&in, &p), 0);
		check_plan(&in, &p, seed);
		spplan_free(&p);
		ranges_clear(&dirty);
	}
}

static void test_plan_edit_copies_the_rest(void **state)
{
	struct ranges dirty = { 0 };
	struct spplan_in in = { .size = 1 * GiB, .same_limit = 1 * GiB, .dirty = &dirty, .unit = 8 * MiB, .part_min = 5 * MiB,
				.copy_max = 5 * GiB, .max_parts = 10000, .tail_off = SP_NO_TAIL, .tail_first = 1 };
	struct spplan p;

	assert_int_equal(ranges_add(&dirty, 500 * MiB, 500 * MiB + 10), 0);
	assert_int_equal(spplan_make(&in, &p), 0);
	assert_int_equal(p.n, 3);
	assert_true(p.v[0].copy && p.v[0].len == 500 * MiB);
	assert_true(!p.v[1].copy && p.v[1].len == 5 * MiB);
	assert_true(p.v[2].copy && p.v[2].off == 505 * MiB);
	spplan_free(&p);
	ranges_clear(&dirty);
}

static void test_plan_reaches_5_tib(void **state)
{
	struct ranges dirty = { 0 };
	struct spplan_in in = { .size = 5 * 1024 * GiB, .dirty = &dirty, .unit = 8 * MiB, .part_min = 5 * MiB,
				.copy_max = 5 * GiB, .max_parts = 10000, .tail_first = 1 };
	struct spplan p;

	assert_int_equal(spplan_make(&in, &p), 0);
	assert_true(p.n <= 10000);
	check_plan(&in, &p, 0);
	assert_int_equal(p.v[0].len, 8 * MiB);
	for (size_t i = 0; i < p.n; i++)
		assert_true(p.v[i].len <= 5 * GiB);
	spplan_free(&p);
	in.equal = true;
	assert_int_equal(spplan_make(&in, &p), -EFBIG);
	in.unit = 1 * GiB;
	assert_int_equal(spplan_make(&in, &p), 0);
	for (size_t i = 0; i + 1 < p.n; i++)
		assert_int_equal(p.v[i].len, 1 * GiB);
	spplan_free(&p);
}

/* --- journal ------------------------------------------------------------------------------------------------------ */

static int count_event(void *arg, const struct spj_event *ev)
{
	unsigned *n = arg;

	(*n)++;
	return 0;
}

static int keep_event(void *arg, const struct spj_event *ev)
{
	*(struct spj_event *)arg = *ev;
	return 0;
}

static void add_header(struct str *s)
{
	struct spj_event ev = { .type = SPJ_HEADER, .number = SPJ_FORMAT, .ino = 77, .time_s = -5, .whole = true,
				.text = "boot", .dir = "a/b/", .name = "c", .v = { .etag = "e", .size = 9, .mtime_s = 3 },
				.headers = "n\0v", .headers_len = 4 };

	assert_int_equal(spj_encode(&ev, s), 0);
}

static void test_journal_round_trip(void **state)
{
	struct spj_event ev = { .type = SPJ_UPLOAD, .off = UINT64_MAX, .len = 8, .number = 5, .text = "id", .text2 = "nonce",
				.headers = "abc", .headers_len = 3 }, got;
	struct str s = { 0 };
	size_t used;

	add_header(&s);
	assert_int_equal(spj_decode(s.p, s.len, keep_event, &got, &used), 0);
	assert_int_equal(got.ino, 77);
	assert_int_equal(got.time_s, -5);
	assert_true(got.whole);
	assert_string_equal(got.dir, "a/b/");
	assert_string_equal(got.v.etag, "e");
	assert_int_equal(got.headers_len, 4);
	assert_int_equal(spj_encode(&ev, &s), 0);
	assert_int_equal(spj_decode(s.p, s.len, keep_event, &got, &used), 0);
	assert_int_equal(used, s.len);
	assert_true(got.off == UINT64_MAX);
	assert_int_equal(got.number, 5);
	assert_string_equal(got.text, "id");
	assert_string_equal(got.text2, "nonce");
	assert_memory_equal(got.headers, "abc", 3);
	str_free(&s);
}

/* Cut anywhere: the whole records in front count. A flipped bit in front of whole records is damage. */
static void test_journal_torn_and_damaged(void **state)
{
	struct spj_event ev = { .type = SPJ_RANGE, .off = 4096, .len = 10 };
	struct str s = { 0 };
	size_t end[6], used;

	add_header(&s);
	end[0] = s.len;
	for (int i = 1; i < 6; i++) {
		assert_int_equal(spj_encode(&ev, &s), 0);
		end[i] = s.len;
	}
	for (size_t cut = 1; cut <= s.len; cut++) {
		unsigned n = 0, want = 0;
		int r = spj_decode(s.p, cut, count_event, &n, &used);

		while (want < 6 && end[want] <= cut)
			want++;
		assert_int_equal(r, want ? 0 : -EBADMSG);
		assert_int_equal(n, want);
		if (want)
			assert_int_equal(used, end[want - 1]);
	}
	for (size_t i = 0; i < s.len; i++) {
		unsigned n = 0;
		int r;

		s.p[i] ^= 0x10;
		r = spj_decode(s.p, s.len, count_event, &n, &used);
		assert_int_equal(r, i < end[4] ? -EBADMSG : 0);
		s.p[i] ^= 0x10;
	}
	str_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges_model),
		cmocka_unit_test(test_ranges_million),
		cmocka_unit_test(test_plan_random),
		cmocka_unit_test(test_plan_edit_copies_the_rest),
		cmocka_unit_test(test_plan_reaches_5_tib),
		cmocka_unit_test(test_journal_round_trip),
		cmocka_unit_test(test_journal_torn_and_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
