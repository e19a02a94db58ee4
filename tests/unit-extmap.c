/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-extmap.c - the extent map against an array with one entry a sector: random sets and clears, small and dense,
 * then large and in order.
 */
#include "config.h"
#include "fs/image/extmap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SPACE = 3000 };

static uint64_t rnd_state;

static uint64_t rnd(uint64_t n)
{
	rnd_state = rnd_state * 6364136223846793005u + 1442695040888963407u;
	return (rnd_state >> 16) % n;
}

struct sector {
	uint64_t kind, a, b;
};

static struct sector sector_of(const struct em_ext *e, uint64_t lba)
{
	uint64_t d = lba - e->lba;

	switch (e->kind) {
	case EM_LOG:
		return (struct sector){e->kind, e->number, e->sector + d};
	case EM_MOVED:
		return (struct sector){e->kind, e->number << 32 | (e->sector + d),
				       e->from.number << 32 | (e->from.sector + d)};
	case EM_JOURNAL:
		return (struct sector){e->kind, e->where + d * SECTOR, 0};
	default:
		return (struct sector){e->kind, 0, 0};
	}
}

static struct sector model[SPACE], was[SPACE];
static uint64_t told; /* sectors that gone() named in this change */

static void on_gone(void *arg, const struct em_ext *p)
{
	(void)arg;
	for (uint64_t i = p->lba; i < p->lba + p->len; i++) {
		struct sector s = sector_of(p, i);

		assert_memory_equal(&s, &was[i], sizeof(s));
	}
	told += p->len;
}

static void compare(struct extmap *m)
{
	struct em_ext e;

	extmap_check(m);
	for (uint64_t lba = 0; lba < SPACE; lba += e.len) {
		extmap_get(m, lba, SPACE - lba, &e);
		assert_int_equal(e.lba, lba);
		assert_true(e.len > 0 && lba + e.len <= SPACE);
		for (uint64_t i = lba; i < lba + e.len; i++) {
			struct sector s = sector_of(&e, i);

			if (memcmp(&s, &model[i], sizeof(s)) != 0)
				fail_msg("sector %d: kind %d, should be %d", (int)i, (int)s.kind, (int)model[i].kind);
		}
	}
}

static void equals_an_array(void **state)
{
	(void)state;
	for (int seed = 0; seed < 40; seed++) {
		struct extmap *m;

		rnd_state = (uint64_t)seed * 977 + 1;
		memset(model, 0, sizeof(model));
		assert_int_equal(extmap_new(&m), 0);
		for (int op = 0; op < 1500; op++) {
			struct em_ext e = {.lba = rnd(SPACE - 1)};
			uint64_t covered = 0;

			e.len = 1 + rnd(MIN((uint64_t)(seed % 4 == 0 ? 1000 : 8), SPACE - e.lba));
			e.kind = (enum em_kind)(rnd(6));
			/* Few numbers, places that fit together: merging happens. */
			e.number = 1 + rnd(2);
			e.sector = (uint32_t)e.lba + (uint32_t)rnd(2);
			e.where = e.lba * SECTOR;
			e.from = (struct log_place){7, (uint32_t)e.lba};
			memcpy(was, model, sizeof(was));
			told = 0;
			for (uint64_t i = e.lba; i < e.lba + e.len; i++) {
				covered += model[i].kind != EM_NONE;
				model[i] = sector_of(&e, i);
			}
			if (e.kind == EM_NONE)
				assert_int_equal(extmap_clear(m, e.lba, e.len, on_gone, NULL), 0);
			else
				assert_int_equal(extmap_set(m, &e, on_gone, NULL), 0);
			assert_int_equal(told, covered);
			if (op % 50 == 0)
				compare(m);
		}
		compare(m);
		extmap_free(m);
	}
}

static void order_fills_chunks(void **state)
{
	struct extmap *m;
	struct em_ext e = {.len = 8, .kind = EM_LOG, .number = 1};

	(void)state;
	assert_int_equal(extmap_new(&m), 0);
	for (uint64_t i = 0; i < 100000; i++) {
		e.lba = i * 16;
		assert_int_equal(extmap_set(m, &e, NULL, NULL), 0);
	}
	assert_int_equal(extmap_count(m), 100000);
	assert_true(extmap_bytes(m) < 100000 * 70);
	/* One discard of everything. */
	e = (struct em_ext){.lba = 0, .len = IMG_SECTORS_MAX, .kind = EM_HOLE};
	assert_int_equal(extmap_set(m, &e, NULL, NULL), 0);
	assert_int_equal(extmap_count(m), 1);
	assert_true(extmap_next(m, 5, &e));
	assert_int_equal(e.len, IMG_SECTORS_MAX);
	extmap_check(m);
	extmap_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(equals_an_array),
	    cmocka_unit_test(order_fills_chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
