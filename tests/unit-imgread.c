/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgread.c - two programs about one bucket: volumes write images into a directory, a reader that knows FORMAT.md
 * alone (contrib/lsvdfs-reader) rebuilds them from its files.
 *
 * A session is a process: it opens the image, reads it whole, writes, zeroes, discards, resizes, flushes, lets go and
 * claims again, and ends in a clean close or, in the middle of anything, by SIGKILL. Then the reader must find
 *	in the bucket alone		the state after some prefix of the operations, that holds what was flushed with
 *					fsync=remote or closed; after a clean close all of them
 *	in bucket and journal		everything that was acknowledged
 * and the next session, on the same node or on another, must read byte for byte what the reader found. check.h must
 * find nothing then; with one file of the log gone, cut short, changed in a bit or swapped, or a mark too many, it must
 * find damage wherever the reader stops at some.
 *
 *	unit-imgread [SEED [COUNT [WOUNDS A SESSION]]]
 */
#include "config.h"
#include "fs/image/check.h"
#include "fs/image/logobj.h"
#include "fs/image/volume.h"
#include "objstore/base/pool.h"
#include "objstore/base/str.h"
#include "objstore/base/table.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE_MAX_BYTES = 1 << 20, SESSIONS = 6, OPS = 220, SEEDS = 1 };

static const uint8_t uuid[16] = "0123456789abcdef";
static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";

/* FOUND: no operation; what the next session on the node began with, which may be the middle of one. */
enum kind { WRITE, ZERO, DISCARD, RESIZE, FOUND };
struct op {
	enum kind kind;
	uint64_t off, len, stamp;
};

struct image {
	uint64_t size;
	uint8_t p[SIZE_MAX_BYTES]; /* zeros behind the size */
};

/* What the children leave behind, whatever ends them. */
static struct shared {
	struct op op[OPS];
	uint32_t issued, acked, in_bucket; /* of this session */
	bool clean;
	struct check_result checked;
	char why[512];
} *S;

/*
 * The operations on `base` since this node has the image: one that died leaves what it acknowledged in its journal, and
 * the bucket behind, for any number of sessions. `promised` of them are in the bucket.
 */
static struct op history[(OPS + 1) * SESSIONS];
static struct image found[SESSIONS + 1];
static uint32_t nhistory, promised;
static struct image base, model, next, got, bucket_only;
static uint64_t seed, state;
static char dir[4096];
static bool remote;
static unsigned session, node, cleaners; /* seen: objects that a cleaner made */

static uint64_t rnd(uint64_t n)
{
	return hash_u64(state++) % n;
}

static void check(bool ok, const char *fmt, ...) printf_like(2, 3);
static void check(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return;
	(void)fprintf(stderr, "seed %" PRIu64 ", session %u, in %s: ", seed, session, dir);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	_exit(1);
}

static void path_of(char out[8192], const char *fmt, ...) printf_like(2, 3);
static void path_of(char out[8192], const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(out, 8192, "%s/", dir);

	va_start(ap, fmt);
	(void)vsnprintf(out + n, 8192 - (size_t)n, fmt, ap);
	va_end(ap);
}

/* ---- the model ---- */

static void content(const struct op *o, uint8_t *p)
{
	for (uint64_t i = 0; i < o->len; i += 8) {
		uint64_t x = hash_u64(o->stamp * OPS + i);

		memcpy(p + i, &x, MIN(o->len - i, (uint64_t)8));
	}
}

static void apply(struct image *m, const struct op *o)
{
	uint64_t end = o->off + o->len;

	if (o->kind == FOUND) {
		*m = found[o->stamp];
	} else if (o->kind == RESIZE) {
		if (o->len < m->size)
			memset(m->p + o->len, 0, m->size - o->len);
		m->size = o->len;
	} else if (o->kind == WRITE) {
		content(o, m->p + o->off);
		m->size = MAX(m->size, end);
	} else if (o->off < m->size) {
		memset(m->p + o->off, 0, MIN(end, m->size) - o->off);
	}
}

/*
 * An operation on parts of sectors is several records: what is between two of them is not one, not the other. Each
 * byte must be of one of the two.
 */
static bool is_between(const struct image *a, const struct image *b, const struct op *o)
{
	uint64_t from = o->kind == RESIZE ? MIN(o->len, a->size) : o->kind == FOUND ? 0 : o->off;
	uint64_t to = o->kind == RESIZE || o->kind == FOUND ? SIZE_MAX_BYTES : o->off + o->len;

	if (got.size != a->size && got.size != b->size && got.size != (b->size + SECTOR - 1) / SECTOR * SECTOR)
		return false;
	if (memcmp(got.p, a->p, from) != 0 || memcmp(got.p + to, a->p + to, SIZE_MAX_BYTES - to) != 0)
		return false;
	for (size_t i = from; i < to; i++)
		if (got.p[i] != a->p[i] && got.p[i] != b->p[i])
			return false;
	return true;
}

/* Of a failure: how far each prefix is from what was found. */
static void explain(void)
{
	static const char *const kinds[] = {"write", "zero", "discard", "resize", "found"};

	model = base;
	for (uint32_t k = 0; k <= nhistory; k++) {
		const struct op *o = &history[k];
		size_t n = 0, at = 0;

		for (size_t i = 0; i < SIZE_MAX_BYTES; i++)
			if (model.p[i] != got.p[i] && n++ == 0)
				at = i;
		(void)fprintf(stderr, "after %u: %zu bytes differ from %zu on; size %" PRIu64 ", found %" PRIu64, k, n, at,
			      model.size, got.size);
		if (k < nhistory) {
			(void)fprintf(stderr, "; then %s %" PRIu64 " + %" PRIu64, kinds[o->kind], o->off, o->len);
			apply(&model, o);
		}
		(void)fputc('\n', stderr);
	}
}

/* `got` is the state after how many operations of the history? */
static uint32_t find_prefix(const char *who)
{
	uint32_t best = UINT32_MAX;

	model = base;
	for (uint32_t k = 0; k <= nhistory; k++) {
		bool same = model.size == got.size && memcmp(model.p, got.p, SIZE_MAX_BYTES) == 0;

		next = model;
		if (k < nhistory)
			apply(&next, &history[k]);
		if (same || (k < nhistory && is_between(&model, &next, &history[k])))
			best = k;
		model = next;
	}
	if (best == UINT32_MAX)
		explain();
	check(best != UINT32_MAX, "%s: no state after a prefix of the %u operations", who, nhistory);
	return best;
}

/* ---- the reader ---- */

static void read_image(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	check(fd >= 0 && fstat(fd, &st) == 0 && st.st_size <= SIZE_MAX_BYTES, "%s: no image", path);
	memset(&got, 0, sizeof(got));
	got.size = (uint64_t)st.st_size;
	check(read(fd, got.p, got.size) == (ssize_t)got.size, "%s: cut short", path);
	(void)close(fd);
}

/* The image as the reader sees it, into `got`. */
static bool reader_works(bool journal)
{
	const char *src = getenv("srcdir");
	char reader[8192], bucket[8192], out[8192], journal_dir[8192];
	pid_t pid;
	int status;

	(void)snprintf(reader, sizeof(reader), "%s/contrib/lsvdfs-reader", src != NULL ? src : ".");
	path_of(bucket, "bucket");
	path_of(out, "image");
	path_of(journal_dir, "node%u/30313233343536373839616263646566", node);
	pid = fork();
	if (pid == 0) {
		(void)execlp("python3", "python3", reader, "dump", bucket, prefix, out, "--force", "--verify",
			     journal ? "--journal" : (char *)NULL, journal_dir, (char *)NULL);
		_exit(127);
	}
	check(pid > 0 && waitpid(pid, &status, 0) == pid, "no child");
	return status == 0;
}

static void run_reader(bool journal)
{
	char out[8192];

	check(reader_works(journal), "the reader fails (%s)", journal ? "with journal" : "bucket");
	path_of(out, "image");
	read_image(out);
}

static void open_store(struct objstore **ret)
{
	char bucket[8192];
	struct objerr err = {0};

	path_of(bucket, "bucket");
	check(store_file_new(bucket, ret, &err) == 0, "no store: %s", err.msg);
}

/* ---- the checker ---- */

static void on_line(void *arg, enum check_kind kind, const char *line)
{
	(void)arg;
	if (kind == CHECK_DAMAGE && S->why[0] == '\0')
		(void)snprintf(S->why, sizeof(S->why), "%s", line);
}

/* In a child: its threads are not ours. Into S->checked. */
static void run_checker(bool data)
{
	struct check_opts o = {.data = data, .say = on_line};
	struct vol_env env = {.host = "check"};
	struct objerr err = {0};
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		open_store(&env.store);
		if (pool_new("check", 2, &env.pool) < 0 || image_check(&env, prefix, uuid, &o, &S->checked, &err) < 0) {
			(void)snprintf(S->why, sizeof(S->why), "no check: %s", err.msg);
			_exit(1);
		}
		pool_free(env.pool);
		obj_close(env.store);
		_exit(0);
	}
	check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the checker fails: %s", S->why);
}

enum { FILES_MAX = 4096, FILE_MAX = 4 << 20 };

/* Objects and marks of the log. */
static size_t log_files(char (*name)[64])
{
	static const char *const dirs[] = {"", "mark/"};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct dirent *de;
		char path[8192];
		DIR *d;

		path_of(path, "bucket/%s%s", prefix, dirs[i]);
		d = opendir(path);
		while (d != NULL && n < FILES_MAX && (de = readdir(d)) != NULL)
			if (strlen(de->d_name) == 16)
				(void)snprintf(name[n++], 64, "%s%.16s", dirs[i], de->d_name);
		if (d != NULL)
			closedir(d);
	}
	return n;
}

static unsigned wounds = 1; /* a session; the third argument */

static void rename_one(const char *from, const char *to)
{
	check(rename(from, to) == 0, "rename %s to %s: %s", from, to, strerror(errno));
}

static void swap(const char *a, const char *b)
{
	char aside[8192];

	path_of(aside, "aside");
	rename_one(a, aside);
	if (b == NULL)
		return;
	rename_one(b, a);
	rename_one(aside, b);
}

/* Cut short, or with another bit; again, with what there was: as it was. */
static void spoil(const char *path, bool cut, uint8_t *was, size_t *io_size, bool undo)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;

	check(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
	if (undo) {
		check(pwrite(fd, was, *io_size, 0) == (ssize_t)*io_size, "write");
	} else {
		uint64_t at;
		uint8_t b;

		check(st.st_size > 0 && st.st_size <= FILE_MAX && read(fd, was, FILE_MAX) == st.st_size, "%s", path);
		*io_size = (size_t)st.st_size;
		at = rnd(*io_size);
		b = was[at] ^ (uint8_t)(1 << rnd(8));
		check(cut ? ftruncate(fd, (off_t)at) == 0 : pwrite(fd, &b, 1, (off_t)at) == 1, "spoil");
	}
	(void)close(fd);
}

/* A mark that nobody put, for an object that may carry no checkpoint. False: there is one. */
static bool mark(const char *path, bool undo)
{
	int fd;

	if (undo) {
		check(unlink(path) == 0, "unlink");
		return true;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	check(fd >= 0 || errno == EEXIST, "%s", path);
	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

/*
 * The log with one file gone, cut short, with another bit, in the place of another, or with a mark too many; then as it
 * was. What is gone must be seen without a look at the data.
 */
static void wound(void)
{
	enum { GONE, CUT, BIT, SWAPPED, MARKED, WOUNDS };
	static const char *const words[WOUNDS] = {"gone", "cut", "a bit", "swapped", "marked"};
	static char name[FILES_MAX][64];
	static uint8_t was[FILE_MAX];
	char path[8192], other[8192], aside[8192];
	size_t n = log_files(name), objects = 0, size = 0, k, k2;
	uint64_t how = rnd(WOUNDS);
	bool reads;

	while (objects < n && name[objects][0] != 'm')
		objects++;
	if (objects < 2)
		return; /* nothing but the create record */
	k = rnd(how == GONE ? n : objects);
	k2 = (k + 1 + rnd(objects - 1)) % objects;
	path_of(path, "bucket/%s%s", prefix, name[k]);
	path_of(other, "bucket/%s%s", prefix, name[k2]);
	path_of(aside, "aside");
	if (how == MARKED)
		path_of(other, "bucket/%smark/%016" PRIx64, prefix, UINT64_MAX - (uint64_t)strtoull(name[k], NULL, 16));
	if (how == GONE || how == SWAPPED)
		swap(path, how == GONE ? NULL : other);
	else if (how != MARKED)
		spoil(path, how == CUT, was, &size, false);
	else if (n == objects || !mark(other, false))
		return; /* no directory of marks yet, or it is one */
	reads = reader_works(false);
	S->why[0] = '\0';
	run_checker(true);
	check(reads || S->checked.damage > 0, "%s wounded (%s %s): the reader stops, the checker finds nothing", name[k],
	      words[how], how == SWAPPED ? name[k2] : "");
	if (how == GONE) {
		run_checker(false);
		check(reads || S->checked.damage > 0, "%s is gone: the reader stops, the checker without data does not",
		      name[k]);
	}
	if (how == GONE)
		rename_one(aside, path);
	else if (how == SWAPPED)
		swap(path, other);
	else if (how == MARKED)
		(void)mark(other, true);
	else
		spoil(path, how == CUT, was, &size, true);
}

/* ---- a session ---- */

static void make_op(struct op *o, uint64_t size)
{
	uint64_t what = rnd(100), unit = rnd(4) == 0 ? 1 : SECTOR;

	memset(o, 0, sizeof(*o));
	o->stamp = hash_u64(state) ^ seed;
	o->kind = what < 70 ? WRITE : what < 80 ? ZERO : what < 95 ? DISCARD : RESIZE;
	o->off = rnd(MIN(size + 20000, (uint64_t)SIZE_MAX_BYTES - SECTOR)) / unit * unit;
	o->len = (1 + rnd(rnd(20) == 0 ? 200000 : 9000) / unit) * unit;
	o->len = MIN(o->len, (uint64_t)SIZE_MAX_BYTES - o->off) / unit * unit;
	if (o->kind == RESIZE)
		o->len = (SIZE_MAX_BYTES / 2 + rnd(SIZE_MAX_BYTES / 2)) / unit * unit;
}

static int do_op(struct volume *v, const struct op *o)
{
	static uint8_t buf[SIZE_MAX_BYTES];
	struct iovec iov[2] = {{buf, o->len / 2}, {buf + o->len / 2, o->len - o->len / 2}};

	switch (o->kind) {
	case WRITE:
		content(o, buf);
		return vol_write(v, o->off, iov, 2, o->len);
	case ZERO:
		return vol_zero(v, o->off, o->len);
	case DISCARD:
		return vol_discard(v, o->off, o->len);
	default:
		return vol_resize(v, o->len);
	}
}

static void fail_session(struct volume *v, const char *what, int r)
{
	struct vol_stat st;

	vol_stat(v, &st);
	(void)snprintf(S->why, sizeof(S->why), "%s gives %d: %.256s", what, r, st.why);
	_exit(1);
}

/* In a child. Ends it. */
static void run_session(const struct image *want)
{
	static uint8_t buf[SIZE_MAX_BYTES];
	char state_dir[8192];
	struct vol_env env = {.host = "test",
			      .state_dir = state_dir,
			      .journal_bytes = 4 * MiB,
			      .segment_bytes = 256 * KiB,
			      .batch_bytes = 16 * KiB,
			      .dirty_age_ns = 20 * NSEC_PER_MSEC,
			      .map_bytes = (8 * KiB) << rnd(5), /* trees are written often */
			      .map_fanout = rnd(2) ? 0 : 6 + (unsigned)rnd(20),
			      .digest_every = 2 + (unsigned)rnd(31),
			      .takeover = VOL_TAKEOVER_ALWAYS};
	uint32_t n = OPS / 2 + (uint32_t)rnd(OPS / 2), dies = rnd(3) == 0 ? UINT32_MAX : (uint32_t)rnd(n);
	struct volume *v = NULL;
	struct objerr err = {0};
	uint64_t size = want->size;
	int r;

	path_of(state_dir, "node%u", node);
	open_store(&env.store);
	r = pool_new("image", 8, &env.pool);
	if (r == 0)
		r = vol_open(&env, prefix, uuid, &v, &err);
	if (r < 0) {
		(void)snprintf(S->why, sizeof(S->why), "open gives %d: %s", r, err.msg);
		_exit(1);
	}
	vol_begin_write(v);
	r = (int)vol_read(v, true, 0, buf, sizeof(buf));
	if (r < 0)
		fail_session(v, "the first read", r);
	if ((uint64_t)r != want->size || memcmp(buf, want->p, want->size) != 0)
		fail_session(v, "not what the reader saw: size", r);
	for (uint32_t i = 0; i < n; i++) {
		if (i == dies)
			(void)raise(SIGKILL);
		make_op(&S->op[i], size);
		S->issued = i + 1;
		r = do_op(v, &S->op[i]);
		if (r < 0)
			fail_session(v, "an operation", r);
		S->acked = i + 1;
		size = vol_size(v);
		if (rnd(12) == 0) {
			r = vol_flush(v);
			if (r < 0)
				fail_session(v, "flush", r);
			if (remote)
				S->in_bucket = i + 1;
		}
		if (rnd(70) == 0) {
			r = vol_end_write(v);
			if (r < 0)
				fail_session(v, "letting go", r);
			S->in_bucket = i + 1;
			vol_begin_write(v);
		}
	}
	r = vol_close(v);
	if (r < 0) {
		(void)snprintf(S->why, sizeof(S->why), "close gives %d", r);
		_exit(1);
	}
	S->in_bucket = S->acked;
	S->clean = true;
	pool_free(env.pool);
	obj_close(env.store);
	_exit(0);
}

/* ---- a bucket ---- */

static void remove_all(const char *what)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		(void)execlp("rm", "rm", "-rf", "--", what, (char *)NULL);
		_exit(127);
	}
	check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "rm fails");
}

static void make_image(void)
{
	struct vol_env env = {.host = "test"};
	struct vol_create c = {.size = SIZE_MAX_BYTES / 2 + rnd(SIZE_MAX_BYTES / 2) / 512 * 512,
			       .window = 1 + (uint32_t)rnd(16),
			       .object_bytes = 64 * KiB,
			       .fsync_remote = remote};
	struct objerr err = {0};

	memcpy(c.uuid, uuid, 16);
	open_store(&env.store);
	check(vol_create(&env, prefix, &c, &err) == 0, "create: %s", err.msg);
	obj_close(env.store);
	base.size = c.size;
	memset(base.p, 0, sizeof(base.p));
}

/* What the session did and left; `got`: with its journal, `bucket_only`: without. */
static void compare(void)
{
	uint32_t before = nhistory, k;

	memcpy(history + nhistory, S->op, S->issued * sizeof(*S->op));
	nhistory += S->issued;
	if (S->in_bucket > 0)
		promised = before + S->in_bucket;
	run_reader(false);
	k = find_prefix("bucket");
	check(k >= promised && (!S->clean || k == nhistory), "bucket: %u operations of %u, %u were promised", k, nhistory,
	      promised);
	bucket_only = got;
	run_checker(true);
	check(S->checked.damage == 0, "the checker finds %u damaged: %s", S->checked.damage, S->why);
	check(S->checked.size == got.size, "the checker says %" PRIu64 " bytes, the reader %" PRIu64, S->checked.size,
	      got.size);
	for (unsigned w = 0; w < wounds; w++)
		wound();
	run_reader(true);
	k = find_prefix("bucket and journal");
	check(k >= before + S->acked, "bucket and journal: %u operations, %u acknowledged", k, before + S->acked);
	nhistory = k;
}

/* Cleaner objects in the bucket. */
static unsigned count_cleaners(void)
{
	char path[8192], name[8192 + 256];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	path_of(path, "bucket/%s", prefix);
	d = opendir(path);
	check(d != NULL, "no log in %s", path);
	while ((e = readdir(d)) != NULL) {
		uint8_t head[12] = {0};
		int fd;

		(void)snprintf(name, sizeof(name), "%s%s", path, e->d_name);
		fd = open(name, O_RDONLY | O_CLOEXEC);
		n += strlen(e->d_name) == 16 && fd >= 0 && read(fd, head, sizeof(head)) == (ssize_t)sizeof(head) &&
		     head[10] == LOG_CLEANER;
		if (fd >= 0)
			(void)close(fd);
	}
	(void)closedir(d);
	return n;
}

static void one_session(const struct image *start)
{
	uint64_t at = state;
	int status;
	pid_t pid;

	memset(S, 0, sizeof(*S));
	pid = fork();
	if (pid == 0)
		run_session(start);
	check(pid > 0 && waitpid(pid, &status, 0) == pid, "no child");
	check((WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL),
	      "status %#x: %s", (unsigned)status, S->why);
	state = hash_u64(at);
	compare();
	cleaners += count_cleaners();
	if (rnd(3) == 0) { /* another node: it has no journal */
		node++;
		base = bucket_only;
		nhistory = promised = 0;
	} else {
		found[session] = got;
		history[nhistory++] = (struct op){.kind = FOUND, .stamp = session};
	}
}

static void one_seed(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[8192];

	state = hash_u64(seed) | 1;
	(void)snprintf(dir, sizeof(dir), "%s/imgread-XXXXXX", tmp != NULL ? tmp : "/tmp");
	check(mkdtemp(dir) != NULL, "no directory");
	path_of(path, "bucket");
	check(mkdir(path, 0700) == 0, "no bucket");
	remote = rnd(2) == 0;
	node = 1;
	nhistory = promised = 0;
	make_image();
	for (session = 1; session <= SESSIONS; session++)
		one_session(nhistory == 0 ? &base : &found[session - 1]);
	remove_all(dir);
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1, count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

	if (argc < 2)
		count = SEEDS;
	if (argc > 3)
		wounds = (unsigned)strtoul(argv[3], NULL, 10);
	S = mmap(NULL, sizeof(*S), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (S == MAP_FAILED)
		return 1;
	for (seed = first; seed < first + count; seed++)
		one_seed();
	check(cleaners > 0 || argc > 2, "no cleaner wrote anything");
	(void)printf("cleaner objects: %u\n", cleaners);
	return 0;
}
