/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgoom.c - each allocation in the life of a volume fails once, whichever thread asks: opening, claiming, writes of
 * whole and of parts of sectors, reads, discard, zero, resize, flush, upload, checkpoints and trees, release, close.
 *
 * The call says -ENOMEM, or does without, or the image has failed (-EIO) until it is opened again. Then: everything that
 * was acknowledged is there, what was not is there in whole or not at all, and all of it is in the bucket in the end.
 * Linked with --wrap, so that only the program's own calls count.
 *
 *	unit-imgoom [NUMBER]	that allocation alone. OOM_STEP=1: each of them; else each 5th, SEED says from which on
 */
#include "config.h"
#include "fs/image/volume.h"
#include "objstore/base/pool.h"
#define OOM_SCOPE
#include "oom.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PART = 40000, PARTS = 24, SIZE = PART * PARTS, LIMIT_S = 240 };

static long nth;

static void need(bool ok, const char *words, long r)
{
	if (ok)
		return;
	(void)fprintf(stderr, "allocation %ld: %s (%ld)\n", nth, words, r);
	_exit(1);
}

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";
static struct objstore *store;
static struct pool *pool;
static char dir[] = "/tmp/lsvdfs-unit-imgoom-XXXXXX";

/* What each part may read as: bytes of one value. Mixed: where a range was zeroed, which takes up to three records. */
static struct {
	uint8_t v[PARTS + 4];
	size_t n;
	bool mixed;
} may[PARTS];
static unsigned broken; /* lives that ended in a failed image */

static struct vol_env env(const char *state_dir)
{
	return (struct vol_env){.store = store, .pool = pool, .state_dir = state_dir, .host = "a", .digest_every = 2,
				.tree_object_bytes = 64 * KiB, .map_bytes = 256 * KiB, .batch_bytes = 64 * KiB,
				.journal_bytes = 1 * MiB, .segment_bytes = 256 * KiB, .dirty_age_ns = NSEC_PER_SEC};
}

/* A call that may fail for want of memory, once; if the image has failed of it, it stays so. */
static bool done(long r, const char *what)
{
	need(r >= 0 || r == -ENOMEM || r == -EIO, what, r);
	need(r >= 0 || failed, "an error without a reason", r);
	return r >= 0;
}

static void wrote(size_t part, uint8_t value, bool acked)
{
	if (acked)
		may[part].n = 0;
	may[part].v[may[part].n++] = value;
	may[part].mixed = !acked && value == 0;
}

static void put(struct volume *v, size_t part, uint8_t value)
{
	static char buf[PART];
	struct iovec iov = {buf, PART};

	memset(buf, value, PART);
	wrote(part, value, done(vol_write(v, part * PART, &iov, 1, PART), "write"));
}

static void verify(struct volume *v, const char *when, bool writer)
{
	static uint8_t buf[PART];

	for (size_t p = 0; p < PARTS; p++) {
		ssize_t n = vol_read(v, writer, p * PART, buf, PART);

		need(n == PART, when, n);
		need(may[p].mixed || memcmp(buf, buf + 1, PART - 1) == 0, when, (long)p);
		for (size_t i = 0; i < (may[p].mixed ? PART : 1); i++)
			need(memchr(may[p].v, buf[i], may[p].n) != NULL, when, (long)(p * PART + i));
		if (!may[p].mixed) {
			may[p].v[0] = buf[0]; /* from here on it stays that */
			may[p].n = 1;
		}
	}
}

/* Everything that happens to an image. */
static void life(struct volume *v)
{
	static char buf[PART];
	struct vol_stat st;

	for (size_t p = 0; p < PARTS / 2; p++)
		put(v, p, (uint8_t)(p + 1));
	(void)done(vol_read(v, true, 100, buf, PART), "read");
	(void)done(vol_flush(v), "flush");
	(void)done(vol_upload(v), "upload");
	(void)done(vol_read(v, true, PART * 3 + 1, buf, PART), "read from the log");
	for (size_t p = 0; p < 4; p++) /* over what is there, and new */
		put(v, p, (uint8_t)(p + 101));
	wrote(5, 0, done(vol_discard(v, 5 * PART, PART), "discard"));
	wrote(6, 0, done(vol_zero(v, 6 * PART, PART), "zero"));
	(void)done(vol_resize(v, SIZE + PART), "grow");
	(void)done(vol_resize(v, SIZE), "shrink");
	(void)done(vol_upload(v), "upload");
	put(v, PARTS - 1, 200);
	vol_stat(v, &st);
	broken += st.state == VOL_FAILED;
}

static void make(void)
{
	struct vol_create c = {.size = SIZE, .window = 4};
	struct objerr err = {0};
	struct vol_env e;

	memcpy(c.uuid, uuid, 16);
	need(store_mem_new(&store) == 0 && pool_new("oom", 4, &pool) == 0, "setup", 0);
	e = env(dir);
	need(vol_create(&e, prefix, &c, &err) == 0, "create", 0);
	for (size_t p = 0; p < PARTS; p++)
		wrote(p, 0, true);
}

static void one(void)
{
	static unsigned lives;
	char state_dir[80], other[80];
	struct vol_env e;
	struct objerr err = {0};
	struct volume *v;
	int r;

	(void)snprintf(state_dir, sizeof(state_dir), "%s/%u", dir, ++lives);
	(void)snprintf(other, sizeof(other), "%s/%u-other", dir, lives);
	make();
	e = env(state_dir);
	failed = false;
	left = nth;
	if (done(vol_open(&e, prefix, uuid, &v, &err), "open")) {
		vol_begin_write(v);
		life(v);
		(void)done(vol_end_write(v), "release");
		(void)done(vol_close(v), "close");
	}
	left = 0;
	/* the same machine: log and journal */
	r = vol_open(&e, prefix, uuid, &v, &err);
	need(r == 0, err.msg, r);
	vol_begin_write(v);
	r = vol_own(v);
	need(r == 0, "it cannot be claimed again", r);
	need(vol_resize(v, SIZE) == 0, "resize", 0); /* which may have stopped half way */
	verify(v, "not what was acknowledged", true);
	need(vol_end_write(v) == 0 && vol_close(v) == 0, "release of the second life", 0);
	/* the bucket alone */
	e = env(other);
	r = vol_open(&e, prefix, uuid, &v, &err);
	need(r == 0, err.msg, r);
	verify(v, "the bucket has something else", false);
	need(vol_close(v) == 0, "close of a reader", 0);
	pool_free(pool);
	obj_close(store);
}

static void on_alarm(int sig)
{
	(void)sig;
	need(false, "it does not end", LIMIT_S);
}

int main(int argc, char **argv)
{
	const char *each = getenv("OOM_STEP"), *seed = getenv("SEED");
	long step = each != NULL ? atol(each) : 5, lives = 0;
	long from = argc > 1 ? atol(argv[1]) : 1 + (seed != NULL ? atol(seed) : 0) % step;

	(void)signal(SIGALRM, on_alarm);
	(void)alarm(LIMIT_S);
	need(mkdtemp(dir) != NULL, "no directory", 0);
	nth = from;
	do {
		one();
		lives++;
		nth += step;
	} while (failed && argc < 2);
	printf("%ld allocations in a life, %ld failed, %u images with them\n", nth - step, lives - 1, broken);
	(void)fflush(stdout);
	need(execlp("rm", "rm", "-rf", dir, NULL) == 0, "rm", errno);
}
