/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgsnap.h - the world of unit-imgsnap.c: an image and its clones in a simulated store, what they are to contain, and how that is
 * read. Each block of an image is filled with its version.
 */
#ifndef LSVD_TESTS_IMGSNAP_H
#define LSVD_TESTS_IMGSNAP_H

#include "fs/image/volume-private.h"
#include "objstore/base/pool.h"
#include "sim/simnet.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK = 4096, BLOCKS = 96, LIVES = 5, SNAPS = 400, SEEDS = 25 };
enum { FAMILY = 5 }; /* node k has generation k: the image, its clone, a clone of that, ... */

static uint8_t uuid[FAMILY][16];
static char prefix[FAMILY][64];
static struct objstore *shared, *net[FAMILY];
static struct jdisk jd[FAMILY];

struct content {
	uint32_t block[BLOCKS]; /* its version, 0: zeros */
	uint64_t size;          /* in blocks */
};

/* What the world knows, whatever dies. */
static struct content now, after; /* after: if what is under way has happened */
static bool under_way;            /* an operation that changes the image's content */
static uint32_t stamp;
static struct snap {
	char name[16];
	struct content c;
	enum { NONE, MAYBE, THERE, LEAVING } is;
} snap[SNAPS];
static unsigned nsnap, cleaned, backs, deaths;
static bool trace;
static uint64_t map_bytes = 4 * KiB;
static unsigned digest_every = 3;
static int64_t dirty_age_ns = 500 * NSEC_PER_MSEC;
static uint64_t retain_s;
static unsigned kept_backs, looks;

#define say(...) (trace ? (void)printf(__VA_ARGS__) : (void)0)

static void open_image(int node, int image, struct pool *pool, struct volume **ret)
{
	struct vol_env env = {.store = net[sim_node()],
			      .pool = pool,
			      .disk = &jd[node],
			      .host = "node",
			      .journal_bytes = 512 * KiB,
			      .segment_bytes = 64 * KiB,
			      .map_bytes = map_bytes,
			      .map_fanout = 6,
			      .digest_every = digest_every,
			      .tree_object_bytes = 8 * KiB,
			      .batch_bytes = 32 * KiB,
			      .dirty_age_ns = dirty_age_ns,
			      .retain_s = retain_s,
			      .takeover = VOL_TAKEOVER_ALWAYS};
	struct objerr err = {0};
	int r;

	do
		r = vol_open(&env, prefix[image], uuid[image], ret, &err);
	while (r == -EAGAIN || r == -ETIMEDOUT);
	sim_check(r == 0, "open gives %d: %s", r, err.msg);
}

static void open_on(int node, struct pool *pool, struct volume **ret)
{
	open_image(node, 0, pool, ret);
}

static void open_list(unsigned image, struct pool *pool, struct volume **ret)
{
	struct vol_env env = {.store = net[sim_node()], .pool = pool, .host = "outside"};

	sim_check(vol_open_list(&env, prefix[image], uuid[image], ret) == 0, "no list");
}

static void read_all(struct volume *v, bool writer, struct content *ret)
{
	static uint32_t buf[BLOCKS * BLOCK / 4];
	ssize_t n = vol_read(v, writer, 0, buf, sizeof(buf));
	struct vol_stat st;

	vol_stat(v, &st);
	sim_check(n >= 0 && n % BLOCK == 0, "a read gives %zd: %s", n, st.why);
	memset(ret, 0, sizeof(*ret));
	ret->size = (uint64_t)n / BLOCK;
	for (uint64_t b = 0; b < ret->size; b++) {
		const uint32_t *p = buf + b * BLOCK / 4;

		ret->block[b] = p[0];
		for (size_t k = 1; k < BLOCK / 4; k++)
			sim_check(p[k] == p[0], "block %" PRIu64 " is torn", b);
	}
}

static bool same(const struct content *a, const struct content *b)
{
	if (a->size != b->size)
		return false;
	for (uint64_t i = 0; i < a->size; i++)
		if (a->block[i] != b->block[i])
			return false;
	return true;
}

static void differ(const char *what, const struct content *got, const struct content *want)
{
	for (uint64_t i = 0; i < BLOCKS; i++)
		if (got->block[i] != want->block[i])
			(void)fprintf(stderr, "%s: block %" PRIu64 " is %u, not %u\n", what, i, got->block[i],
				      want->block[i]);
	sim_check(false, "%s: not what it was (size %" PRIu64 ", %" PRIu64 ")", what, got->size, want->size);
}

#endif
