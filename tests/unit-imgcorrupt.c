/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgcorrupt.c - an image of which one thing is damaged, lost, swapped or old: it is read right, or not at all.
 *
 * A volume makes an image with several owners, checkpoints, trees, deleted objects, and records that only its journal
 * has. Each thing in turn, each object of the log, each mark, each file of the journal, gets flipped bits, is cut, goes,
 * is replaced by another one's bytes or by another image's; what was deleted comes back. Then the image is opened, as a
 * follower, as an owner elsewhere, and, for the journal, as the same node: every byte and the size must be what they
 * were, or there is an error whose words say what is wrong where. Never other bytes, never zeros instead.
 *
 *	unit-imgcorrupt [SEED]
 */
#include "config.h"
#include "blobs.h"
#include "fs/image/logobj.h"
#include "fs/image/volume.h"
#include "objstore/base/pool.h"
#include "objstore/base/table.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTES = 192 * 1024, FLIPS = 6 };

static uint64_t seed = 1, state;
static char dir[4096], what[400];
static struct pool *pool;
static unsigned trials, errors, failed;
static uint8_t want[BYTES], in_bucket[BYTES], but_last[BYTES];
static struct blobs now, old, other, files;

static uint64_t rnd(uint64_t n)
{
	return hash_u64(state++) % n;
}

static void need(bool ok, const char *words)
{
	if (ok)
		return;
	(void)fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, words);
	_exit(1);
}

static void wrong(const char *fmt, ...) printf_like(1, 2);
static void wrong(const char *fmt, ...)
{
	va_list ap;

	(void)fprintf(stderr, "seed %" PRIu64 ": %s: ", seed, what);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	failed++;
}

static void put(struct objstore *s, const struct blob *x, const char *key)
{
	need(blobs_put(s, key, x->p, x->n) == 0, "no PUT");
}

static void take_files(const char *path, struct blobs *b)
{
	DIR *d = opendir(path);
	struct dirent *e;

	need(d != NULL, path);
	while ((e = readdir(d)) != NULL) {
		static uint8_t buf[1 << 20];
		int fd = e->d_name[0] == '.' ? -1 : openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf));

		if (fd < 0)
			continue;
		(void)close(fd);
		need(n >= 0, "no file");
		need(blobs_add(b, e->d_name, buf, (size_t)n) == 0, "too many files");
	}
	(void)closedir(d);
}

static void write_files(const char *path, const struct blobs *b, const struct blob *but, const struct blob *by)
{
	int dfd;

	ignore(mkdir(path, 0700));
	dfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(dfd >= 0, path);
	for (size_t i = 0; i < b->n; i++) {
		const struct blob *x = &b->v[i] == but ? by : &b->v[i];
		int fd;

		if (x == NULL)
			continue;
		fd = openat(dfd, b->v[i].key, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		need(fd >= 0 && write(fd, x->p, x->n) == (ssize_t)x->n, "no file");
		(void)close(fd);
	}
	(void)close(dfd);
}

/* ---- an image ---- */

static char state_dir[4200];
static unsigned states;

static void fresh_state(void)
{
	(void)snprintf(state_dir, sizeof(state_dir), "%s/%u", dir, states++);
	need(mkdir(state_dir, 0700) == 0, "no directory");
}

static struct vol_env env_of(struct objstore *s)
{
	return (struct vol_env){.store = s,
				.pool = pool,
				.host = "test",
				.state_dir = state_dir,
				.journal_bytes = 256 * KiB,
				.segment_bytes = 32 * KiB,
				.batch_bytes = 6 * KiB,
				.map_bytes = 16 * KiB,
				.map_fanout = 6,
				.digest_every = 3,
				.dirty_age_ns = 3600 * NSEC_PER_SEC,
				.takeover = VOL_TAKEOVER_ALWAYS};
}

static void one_write(struct volume *v)
{
	static uint8_t buf[16 * SECTOR];
	uint64_t n = (1 + rnd(16)) * SECTOR, off = rnd((BYTES - n) / SECTOR) * SECTOR;
	struct iovec iov = {buf, n};
	int r;

	memcpy(but_last, want, BYTES);
	if (rnd(8) == 0) {
		r = vol_discard(v, off, n);
		memset(want + off, 0, n);
	} else {
		for (uint64_t i = 0; i < n; i++)
			want[off + i] = (uint8_t)(1 + rnd(255));
		memcpy(buf, want + off, n);
		r = vol_write(v, off, &iov, 1, n);
	}
	need(r == 0, "a write fails");
}

static struct volume *begin(struct objstore *s, const char *prefix, const uint8_t *uuid, bool quiet)
{
	struct vol_env env = env_of(s);
	struct objerr err = {0};
	struct volume *v = NULL;
	uint8_t b;

	if (quiet) /* nothing goes to the bucket but the claim */
		env.batch_bytes = 64 * MiB;
	need(vol_open(&env, prefix, uuid, &v, &err) == 0, err.msg);
	vol_begin_write(v);
	need(vol_read(v, true, 0, &b, 1) == 1, "no claim");
	return v;
}

static void make_image(const char *prefix, const uint8_t *uuid, struct blobs *ret, bool main_one)
{
	struct objstore *s;
	struct vol_env env;
	struct vol_create c = {.size = BYTES, .window = 3, .object_bytes = 64 * KiB};
	struct volume *v;
	char path[4300], hex[33];

	state = hash_u64(seed);
	memset(want, 0, sizeof(want));
	memcpy(c.uuid, uuid, 16);
	need(store_mem_new(&s) == 0, "no store");
	fresh_state();
	env = env_of(s);
	need(vol_create(&env, prefix, &c, NULL) == 0, "no image");
	for (int k = 0; k < 3; k++) {
		v = begin(s, prefix, uuid, false);
		for (int i = 0; i < 90; i++)
			one_write(v);
		need(vol_close(v) == 0, "close fails");
		if (k == 1 && main_one)
			need(blobs_take(s, &old) == 0, "no objects");
	}
	v = begin(s, prefix, uuid, true);
	memcpy(in_bucket, want, BYTES);
	for (int i = 0; i < 13; i++) {
		one_write(v);
		if (i % 5 == 1 || i == 11)
			need(vol_flush(v) == 0, "flush fails");
	}
	need(blobs_take(s, ret) == 0, "no objects");
	if (main_one) {
		log_uuid_format(uuid, hex);
		(void)snprintf(path, sizeof(path), "%s/%s", state_dir, hex);
		take_files(path, &files);
	}
	need(vol_close(v) == 0, "close fails");
	obj_close(s);
}

/* ---- a trial ---- */

static const uint8_t uuid[16] = "0123456789abcdef", uuid2[16] = "0123456789abcdeF";
static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const char prefix2[] = ".lsvd/img/30313233343536373839616263646546/";

/* Words that name the thing. */
static bool names(const char *said, const char *thing)
{
	const char *base = strrchr(thing, '/');

	return strstr(said, base != NULL ? base + 1 : thing) != NULL || strstr(said, "log object") != NULL ||
	       strstr(said, "mark") != NULL || strstr(said, "journal") != NULL || strstr(said, "no log") != NULL;
}

/* What is read is one of these, or there are words. */
static void look(struct objstore *s, bool writer, const uint8_t *a, const uint8_t *b, const char *thing)
{
	static uint8_t buf[BYTES + 1];
	struct vol_env env = env_of(s);
	struct objerr err = {0};
	struct vol_stat st = {0};
	struct volume *v = NULL;
	const char *said = err.msg;
	ssize_t r = vol_open(&env, prefix, uuid, &v, &err);

	trials++;
	if (r == 0) {
		if (writer)
			vol_begin_write(v);
		r = vol_read(v, writer, 0, buf, sizeof(buf));
		vol_stat(v, &st);
		said = st.why;
		if (r >= 0 && r != BYTES)
			wrong("%s: %zd bytes", writer ? "owner" : "follower", r);
		else if (r >= 0 && memcmp(buf, a, BYTES) != 0 && (b == NULL || memcmp(buf, b, BYTES) != 0))
			wrong("%s: other bytes", writer ? "owner" : "follower");
	}
	if (r < 0) {
		errors++;
		if (said[0] == '\0' || !names(said, thing))
			wrong("%s: error %zd says nothing of it: \"%s\"", writer ? "owner" : "follower", r, said);
		else if (getenv("TRACE") != NULL)
			(void)fprintf(stderr, "%s: %zd %s\n", what, r, said);
	}
	if (v != NULL)
		ignore(vol_close(v));
}

/* Everything but `but`, which is replaced by `by` (NULL: it is gone); extra is there as well. */
static void trial(const struct blob *but, const struct blob *by, const struct blob *extra, const char *thing)
{
	for (int writer = 0; writer < 2; writer++) {
		struct objstore *s;

		need(store_mem_new(&s) == 0, "no store");
		for (size_t i = 0; i < now.n; i++) {
			const struct blob *x = &now.v[i] == but ? by : &now.v[i];

			if (x != NULL)
				put(s, x, now.v[i].key);
		}
		if (extra != NULL)
			put(s, extra, extra->key);
		fresh_state();
		look(s, writer == 1, in_bucket, NULL, thing);
		obj_close(s);
	}
}

static void journal_trial(const struct blob *but, const struct blob *by)
{
	struct objstore *s;
	char path[4300];

	need(store_mem_new(&s) == 0, "no store");
	for (size_t i = 0; i < now.n; i++)
		put(s, &now.v[i], now.v[i].key);
	fresh_state();
	(void)snprintf(path, sizeof(path), "%s/30313233343536373839616263646566", state_dir);
	write_files(path, &files, but, by);
	look(s, true, want, but_last, but != NULL ? but->key : "");
	obj_close(s);
}

static struct blob copy_of(const struct blob *x)
{
	struct blob c = *x;

	c.p = malloc(x->n + 1);
	need(c.p != NULL, "no memory");
	if (x->n > 0)
		memcpy(c.p, x->p, x->n);
	return c;
}

/* Flips and cuts of one thing, by fn. */
static void damage(const struct blob *x, bool journal)
{
	for (int i = 0; i < FLIPS && x->n > 0; i++) {
		struct blob c = copy_of(x);
		/* Half of them where the headers are. */
		size_t at = (size_t)rnd(i % 2 == 0 ? x->n : MIN(x->n, (size_t)600));

		c.p[at] ^= (uint8_t)(1u << rnd(8));
		(void)snprintf(what, sizeof(what), "%s: flip at %zu of %zu", x->key, at, x->n);
		if (journal)
			journal_trial(x, &c);
		else
			trial(x, &c, NULL, x->key);
		free(c.p);
	}
	for (int i = 0; i < 4 && x->n > 0; i++) {
		struct blob c = *x;

		c.n = i == 0 ? 0 : i == 1 ? 100 : i == 2 ? x->n / 2 : x->n - 1;
		(void)snprintf(what, sizeof(what), "%s: cut at %zu of %zu", x->key, c.n, x->n);
		if (journal && c.n < SECTOR)
			continue; /* a segment that was being made looks like that */
		if (journal)
			journal_trial(x, &c);
		else
			trial(x, &c, NULL, x->key);
	}
}

static bool is_number(const char *key)
{
	return strncmp(key, prefix, sizeof(prefix) - 1) == 0 && strlen(key) == sizeof(prefix) - 1 + 16;
}

static void objects(void)
{
	for (size_t i = 0; i < now.n; i++) {
		const struct blob *x = &now.v[i], *y;
		char key[200];

		if (!is_number(x->key))
			continue;
		damage(x, false);
		(void)snprintf(what, sizeof(what), "%s: missing", x->key);
		/* The claim is the last: without it the log is what it was before. */
		trial(x, NULL, NULL, x->key);
		y = &now.v[rnd(now.n)];
		if (is_number(y->key) && y != x) {
			(void)snprintf(what, sizeof(what), "%s: bytes of %s", x->key, y->key);
			trial(x, y, NULL, x->key);
		}
		(void)snprintf(key, sizeof(key), "%s%s", prefix2, x->key + sizeof(prefix) - 1);
		y = blobs_find(&other, key);
		if (y != NULL) {
			(void)snprintf(what, sizeof(what), "%s: another image's bytes", x->key);
			trial(x, y, NULL, x->key);
		}
		y = blobs_find(&old, x->key);
		if (y != NULL && (y->n != x->n || memcmp(x->p, y->p, x->n) != 0))
			wrong("an object changed");
	}
}

static void marks(void)
{
	struct blob stray = {.p = (uint8_t *)""};
	const char *last = "";

	for (size_t i = 0; i < now.n; i++) {
		if (is_number(now.v[i].key))
			last = now.v[i].key;
		if (strstr(now.v[i].key, "/mark/") == NULL)
			continue;
		(void)snprintf(what, sizeof(what), "%s: missing", now.v[i].key);
		trial(&now.v[i], NULL, NULL, "mark");
	}
	for (int d = -4; d < 20; d += 3) {
		uint64_t n;

		need(log_number_parse(last + sizeof(prefix) - 1, &n) == 0, "no number");
		(void)snprintf(stray.key, sizeof(stray.key), "%smark/%016" PRIx64, prefix, UINT64_MAX - n + (uint64_t)d);
		(void)snprintf(what, sizeof(what), "%s: stray", stray.key);
		trial(NULL, NULL, &stray, "mark");
	}
	(void)snprintf(stray.key, sizeof(stray.key), "%smark/0xyz", prefix);
	(void)snprintf(what, sizeof(what), "%s: stray", stray.key);
	trial(NULL, NULL, &stray, "mark");
}

/* All marks are lost. */
static void no_marks(void)
{
	struct blobs *all = malloc(sizeof(*all));

	need(all != NULL, "no memory");
	*all = now;
	now.n = 0;
	for (size_t i = 0; i < all->n; i++)
		if (strstr(all->v[i].key, "/mark/") == NULL)
			now.v[now.n++] = all->v[i];
	(void)snprintf(what, sizeof(what), "no marks");
	trial(NULL, NULL, NULL, "mark");
	now = *all;
	free(all);
}

/* What was deleted comes back: late requests, a backup. */
static void revenants(void)
{
	for (size_t i = 0; i < old.n; i++) {
		if (blobs_find(&now, old.v[i].key) != NULL)
			continue;
		(void)snprintf(what, sizeof(what), "%s: back again", old.v[i].key);
		trial(NULL, NULL, &old.v[i], old.v[i].key);
	}
}

static bool is_blank(const struct blob *x)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->p[i] != 0)
			return false;
	return true;
}

static void journals(void)
{
	(void)snprintf(what, sizeof(what), "the journal as it was");
	journal_trial(NULL, NULL);
	need(errors == 0, "an undamaged journal does not replay");
	for (size_t i = 0; i < files.n; i++) {
		const struct blob *x = &files.v[i], *y;

		/* A daemon's own files beside it. */
		if (strncmp(x->key, "journal-", 8) != 0 && strcmp(x->key, "nonces") != 0)
			continue;
		for (int k = 0; k < 6; k++)
			damage(x, true);
		y = &files.v[rnd(files.n)];
		/*
		 * One that was just being made has no bytes yet. Where the newest is replaced by that, there is nothing
		 * left that knows of it: a whole file that went, as a state directory from a backup.
		 */
		if (y != x && !is_blank(y)) {
			(void)snprintf(what, sizeof(what), "%s: bytes of %s", x->key, y->key);
			journal_trial(x, y);
		}
		if (strcmp(x->key, "nonces") == 0) {
			(void)snprintf(what, sizeof(what), "%s: missing", x->key);
			journal_trial(x, NULL);
		}
	}
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	char command[5000];

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 10);
	(void)snprintf(dir, sizeof(dir), "%s/imgcorrupt-XXXXXX", tmp != NULL ? tmp : "/tmp");
	need(mkdtemp(dir) != NULL, "no directory");
	need(pool_new("image", 8, &pool) == 0, "no pool");
	make_image(prefix2, uuid2, &other, false);
	make_image(prefix, uuid, &now, true);
	(void)snprintf(what, sizeof(what), "nothing");
	trial(NULL, NULL, NULL, "");
	need(errors == 0 && failed == 0, "an undamaged image is not read");
	journals();
	objects();
	marks();
	no_marks();
	revenants();
	(void)printf("%zu things, %u trials, %u of them errors, %u wrong\n", now.n + files.n, trials, errors, failed);
	pool_free(pool);
	(void)snprintf(command, sizeof(command), "rm -rf -- '%s'", dir);
	return system(command) == 0 && failed == 0 ? 0 : 1;
}
