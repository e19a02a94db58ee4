/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-spool-crash.c - a process that uses a spool is killed at every fail point; the next one recovers.
 *
 * A child plays one list of operations over a file and reports each that was answered. After the kill the parent
 * recovers, takes parked bytes back with a retry, and what then is in the bucket must be the file after the answered
 * operations, or after one more; a write that was under way may be there with its first bytes alone, for a kill ends
 * pwrite(2) between two pages. No upload, no file of the spool is left over.
 * The second part writes journals by hand: each state, this boot and another one, damage, adoption.
 */
#include "spooltest.h"
#include "fs/spjournal.h"
#include "objstore/base/failpoint.h"
#include <signal.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define FILE_MAX (14 * PART)

#ifdef LSVD_DEBUG
static char root[64], bucket[96], spool_dir[96];

static struct objstore *open_bucket(void)
{
	struct objstore *s;
	struct objerr err = { 0 };

	if (store_file_new(bucket, &s, &err) < 0)
		fail_msg("%s", err.msg);
	s->part_min = PART_MIN;
	return s;
}

static struct spool *open_spool(struct objstore *store, struct budget *b, const char *dir)
{
	struct spool_opts o = { .dir = dir, .store = store, .prefix = "", .budget = b, .part_size = PART, .parallel = 3 };
	struct spool *s;
	struct objerr err = { 0 };

	assert_int_equal(spool_open(&o, &s, &err), 0);
	return s;
}

static void make_root(void)
{
	/* memory, when it takes user xattrs: hundreds of runs with real syncs last */
	snprintf(root, sizeof(root), "/dev/shm/lsvd-crash-XXXXXX");
	if (mkdtemp(root) == NULL || setxattr(root, "user.lsvd", "x", 1, 0) < 0) {
		(void)rmdir(root);
		snprintf(root, sizeof(root), "/tmp/lsvd-crash-XXXXXX");
		assert_non_null(mkdtemp(root));
	}
	snprintf(bucket, sizeof(bucket), "%s/bucket", root);
	snprintf(spool_dir, sizeof(spool_dir), "%s/spool", root);
	assert_int_equal(mkdir(bucket, 0700), 0);
	log_set_level(LOG_L_ERROR);
}

static void drop_root(void)
{
	nftw(root, rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- killed at every fail point ----------------------------------------------------------------------------------- */

enum op_kind { WRITE, TRUNC, ZERO, READ, COMMIT, ASYNC };
struct op {
	enum op_kind kind;
	uint64_t off, n;
};

/* The base has 6 parts. Edits in place, over parts, at the end; cuts; a sequential tail that goes up while written. */
static const struct op ops[] = {
	{ WRITE, 3 * PART + 100, 50 },
	{ READ, 0, 2 * PART },
	{ WRITE, 10, 300 },
	{ COMMIT, 0, 0 },
	{ WRITE, 6 * PART, 2 * PART },
	{ WRITE, 8 * PART, 2 * PART },
	{ WRITE, 10 * PART, 2 * PART },
	{ WRITE, 6 * PART + 7, 9 },
	{ COMMIT, 0, 0 },
	{ TRUNC, 2 * PART + 17, 0 },
	{ TRUNC, 3 * PART, 0 },
	{ ZERO, 100, 5000 },
	{ ASYNC, 0, 0 },
	{ COMMIT, 0, 0 },
	{ TRUNC, 100, 0 },
	{ WRITE, 50, 100 },
	{ COMMIT, 0, 0 },
	{ WRITE, 60, 20 },
};
#define NOPS ARRAY_SIZE(ops)

static unsigned char op_byte(unsigned i, uint64_t pos)
{
	return (unsigned char)(i * 37 + pos * 11 + 1);
}

/* The model: file after the first `done` operations. */
static uint64_t model_after(unsigned done, unsigned char *p)
{
	uint64_t size = 6 * PART;

	memset(p, 0, FILE_MAX);
	for (uint64_t k = 0; k < size; k++)
		p[k] = (unsigned char)(k * 7);
	for (unsigned i = 0; i < done; i++) {
		const struct op *o = &ops[i];

		if (o->kind == WRITE)
			for (uint64_t k = o->off; k < o->off + o->n; k++)
				p[k] = op_byte(i, k);
		if (o->kind == WRITE)
			size = MAX(size, o->off + o->n);
		if (o->kind == ZERO)
			memset(p + o->off, 0, o->n);
		if (o->kind == TRUNC) {
			if (o->off < size)
				memset(p + o->off, 0, FILE_MAX - o->off);
			size = o->off;
		}
	}
	return size;
}

static int do_op(struct spfile *f, unsigned i, const struct version *foreign)
{
	static unsigned char buf[FILE_MAX];
	const struct op *o = &ops[i];
	struct spcommit c;
	struct objerr err;

	switch (o->kind) {
	case WRITE:
		for (uint64_t k = 0; k < o->n; k++)
			buf[k] = op_byte(i, o->off + k);
		return spfile_write(f, buf, o->n, o->off);
	case TRUNC:
		return spfile_truncate(f, o->off);
	case ZERO:
		return spfile_zero(f, o->off, o->n, false);
	case READ:
		return spfile_read(f, buf, o->n, o->off, &err) < 0 ? -EIO : 0;
	case COMMIT:
		return spfile_commit(f, 0, &c, &err);
	default:
		return spfile_commit(f, SPC_ASYNC, &c, &err);
	}
}

/* The child. Never returns. */
static void play(const struct version *base, int report)
{
	struct objstore *store = open_bucket();
	struct budget *b;
	struct spool *s;
	struct spfile *f;
	struct obj_headers h = { 0 };
	struct spcommit c;
	struct objerr err;

	if (budget_new(1 * MiB, &b) < 0)
		_exit(2);
	s = open_spool(store, b, spool_dir);
	if (obj_headers_set(&h, "x-amz-meta-mode", "33188") < 0 || spfile_new(s, "", "a", 7, base, &h, false, &f) < 0)
		_exit(3);
	for (unsigned i = 0; i < NOPS; i++) {
		if (do_op(f, i, base) < 0)
			_exit(4);
		if (write(report, "o", 1) != 1)
			_exit(5);
	}
	/* last: a conflict that parks */
	if (write(report, "F", 1) != 1)
		_exit(5);
	if (obj_put(store, "a", "foreign", 7, NULL, false, NULL, c.v.etag, &err) < 0)
		_exit(6);
	if (spfile_commit(f, 0, &c, &err) != -ESTALE || spfile_park(f, "conflict") == 0)
		_exit(7);
	if (spfile_new(s, "", "gone", 8, NULL, &h, true, &f) < 0 || spfile_write(f, "x", 1, 0) < 0)
		_exit(8);
	spfile_discard(f);
	spool_close(s);
	_exit(0);
}

/* Runs the child; returns how many operations were answered, *ret_killed whether it died by the fail point. */
static unsigned run_child(const char *failpoint, bool *ret_killed, bool *ret_foreign)
{
	static unsigned char data[FILE_MAX];
	struct objstore *store = open_bucket();
	struct version base = { .size = model_after(0, data) };
	unsigned answered = 0;
	struct objerr err;
	int p[2], status;
	char ch;
	pid_t pid;

	assert_int_equal(obj_put(store, "a", data, base.size, NULL, false, NULL, base.etag, &err), 0);
	obj_close(store);
	assert_int_equal(pipe(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(p[0]);
		if (failpoint)
			failpoint_arm(failpoint);
		play(&base, p[1]);
	}
	close(p[1]);
	*ret_foreign = false;
	while (read(p[0], &ch, 1) == 1) {
		answered += ch == 'o';
		*ret_foreign |= ch == 'F';
	}
	close(p[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*ret_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	if (!*ret_killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		fail_msg("%s: child ended with status %x", failpoint ? failpoint : "-", (unsigned)status);
	return answered;
}

/* The file after the answered operations and the first bytes of the write that came next? */
static bool is_torn(unsigned answered, const unsigned char *got, uint64_t size)
{
	static unsigned char want[FILE_MAX];
	const struct op *o = &ops[answered];
	uint64_t before = model_after(answered, want), k;

	if (answered == NOPS || o->kind != WRITE)
		return false;
	for (k = o->off; k < MIN(o->off + o->n, size) && got[k] == op_byte(answered, k); k++)
		want[k] = got[k];
	return size == MAX(before, k) && memcmp(want, got, size) == 0;
}

static void expect_after(const char *fp, unsigned answered, const unsigned char *got, uint64_t size)
{
	static unsigned char want[FILE_MAX];

	if (is_torn(answered, got, size))
		return;
	for (unsigned k = answered; k <= MIN(answered + 1, (unsigned)NOPS); k++) {
		if (model_after(k, want) == size && memcmp(want, got, size) == 0)
			return;
	}
	fail_msg("%s: after %u answered operations the file is neither the state then nor the next (%llu bytes)", fp, answered,
		 (unsigned long long)size);
}

/* Returns uploads that are left: at most the one whose id had not reached the journal, since threads run beside the kill. */
static size_t check_after(const char *fp, unsigned answered, bool foreign)
{
	static unsigned char got[FILE_MAX + 1];
	struct objstore *store = open_bucket();
	struct spool_recovery n;
	struct parked *v = NULL;
	struct budget *b;
	struct spcommit c;
	struct objerr err = { 0 };
	struct spool *s;
	size_t nv, orphans;
	ssize_t size;
	int r;

	assert_int_equal(budget_new(1 * MiB, &b), 0);
	s = open_spool(store, b, spool_dir);
	assert_int_equal(spool_recover(s, &n, NULL, NULL), 0);
	assert_int_equal(n.failed, 0);
	assert_int_equal(parked_list(spool_dir, &v, &nv), 0);
	for (size_t i = 0; i < nv; i++) {
		bool ours = strcmp(v[i].path, "a") == 0;

		if (ours) {
			r = parked_retry(s, v[i].id, foreign, &c, &err);
			if (r < 0)
				fail_msg("%s: %u answered, %s: retry of parked bytes: %d %s", fp, answered, v[i].reason, r,
					 err.msg);
		} else { /* "gone" was being written */
			assert_string_equal(v[i].path, "gone");
			assert_int_equal(parked_drop(spool_dir, v[i].id), 0);
		}
	}
	parked_free(v, nv);
	size = env_get(store, "a", got, sizeof(got), NULL);
	assert_true(size >= 0);
	if (foreign && size == 7 && memcmp(got, "foreign", 7) == 0)
		fail_msg("%s: the last write was not parked", fp);
	expect_after(fp, answered, got, (uint64_t)size);
	orphans = env_uploads(store);
	if (orphans > 1)
		fail_msg("%s: %zu uploads are left", fp, orphans);
	assert_int_equal(count_files(spool_dir, ".journal") + count_files(spool_dir, ".data"), 0);
	spool_close(s);
	budget_free(b);
	obj_close(store);
	return orphans;
}

static size_t read_names(const char *path, char names[][64], size_t max)
{
	FILE *fp = fopen(path, "r");
	size_t n = 0;

	assert_non_null(fp);
	while (n < max && fgets(names[n], 64, fp)) {
		names[n][strcspn(names[n], "\n")] = 0;
		n++;
	}
	fclose(fp);
	return n;
}

static void test_killed_everywhere(void **state)
{
	char list[96], names[64][64], spec[96];
	bool killed, foreign;
	unsigned answered, kills = 0, runs = 0;
	size_t n, orphans = 0;

	make_root();
	snprintf(list, sizeof(list), "%s/points", root);
	setenv("LSVD_FAILPOINT_LIST", list, 1);
	answered = run_child(NULL, &killed, &foreign);
	unsetenv("LSVD_FAILPOINT_LIST");
	assert_int_equal(answered, NOPS);
	assert_false(killed);
	n = read_names(list, names, ARRAY_SIZE(names));
	assert_in_range(n, 15, ARRAY_SIZE(names) - 1);
	drop_root();
	for (size_t i = 0; i < n; i++) {
		for (unsigned k = 1;; k += k < 30 ? 1 : 7) {
			make_root();
			snprintf(spec, sizeof(spec), "%.80s:%u", names[i], k);
			answered = run_child(spec, &killed, &foreign);
			kills += killed;
			orphans += check_after(spec, answered, foreign);
			runs += strcmp(names[i], "spool.upload-created") != 0;
			drop_root();
			if (!killed)
				break;
		}
	}
	print_message("%zu fail points, %u kills, %zu uploads of unknown id\n", n, kills, orphans);
	assert_true(orphans < 8 + runs / 10);
	assert_true(kills >= n);
}

#endif /* LSVD_DEBUG */

/* --- states by hand ----------------------------------------------------------------------------------------------- */

static char boot_id[64];

static void write_files(const char *dir, unsigned id, const struct spj_event *ev, size_t n, const char *data)
{
	char path[128];
	struct str s = { 0 };
	int fd;

	(void)mkdir(dir, 0700);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(spj_encode(&ev[i], &s), 0);
	snprintf(path, sizeof(path), "%s/%x.journal", dir, id);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, s.p, s.len), s.len);
	close(fd);
	snprintf(path, sizeof(path), "%s/%x.data", dir, id);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, data, strlen(data)), strlen(data));
	close(fd);
	str_free(&s);
}

static char told[8][128];
static unsigned ntold;

static void tell(void *arg, const char *dir, const char *name, const char *what, const struct version *v,
		 const struct obj_headers *h, uint64_t ino)
{
	if (ntold < 8)
		snprintf(told[ntold++], sizeof(told[0]), "%s%s: %.60s", dir, name, what);
}

/* Recovers one file of the given state, boot and content "mine" over the object `there` (NULL: none). */
static struct spool_recovery recover_state(unsigned st, const char *boot, const char *there, bool base_is_there,
					   const char *nonce, int fail)
{
	struct spj_event ev[] = {
		{ .type = SPJ_HEADER, .number = SPJ_FORMAT, .whole = true, .text = boot, .dir = "d/", .name = "f", .headers = "",
		  .ino = 9 },
		{ .type = SPJ_NONCE, .text = nonce ? nonce : "0123" },
		{ .type = SPJ_STATE, .number = st },
	};
	struct spool_recovery n;
	struct objerr err;
	struct env e;
	struct version v = { 0 };

	env_init(&e);
	spool_close(e.s);
	if (there) {
		struct objreq req;
		struct iovec iov = { .iov_base = (void *)(uintptr_t)there, .iov_len = strlen(there) };

		objreq_init(&req, OBJ_PUT, "p/d/f");
		req.iov = &iov;
		req.iovcnt = 1;
		if (nonce)
			snprintf(req.nonce, sizeof(req.nonce), "%s", nonce);
		assert_int_equal(obj_do(e.mem, &req), 0);
		memcpy(v.etag, req.etag, sizeof(v.etag));
		v.size = strlen(there);
		objreq_done(&req);
	}
	if (base_is_there)
		ev[0].v = v;
	write_files(e.spool_dir, 0x77, ev, ARRAY_SIZE(ev), "mine");
	env_open_spool(&e);
	ntold = 0;
	if (fail) {
		faultstore_next(e.store, OBJ_HEAD, FAULT_BEFORE, fail, 0);
		assert_int_equal(spool_recover(e.s, &n, tell, NULL), 0);
		assert_int_equal(n.failed, 1);
		assert_int_equal(count_files(e.spool_dir, ".journal"), 1);
		/* and the next attempt, by another mount */
		spool_close(e.s);
		env_open_spool(&e);
	}
	assert_int_equal(spool_recover(e.s, &n, tell, NULL), 0);
	assert_int_equal(count_files(e.spool_dir, ".journal") + count_files(e.spool_dir, ".data"), 0);
	if (n.uploaded) {
		char got[8];

		assert_int_equal(env_get(e.mem, "p/d/f", got, sizeof(got), NULL), 4);
		assert_memory_equal(got, "mine", 4);
	} else if (there) {
		assert_int_equal(env_get(e.mem, "p/d/f", NULL, 0, NULL) >= 0, 1);
	} else {
		assert_int_equal(env_get(e.mem, "p/d/f", NULL, 0, NULL), -ENOENT);
	}
	if (n.parked) {
		struct parked *p;
		size_t np;
		char path[128], got[8];
		int fd;

		assert_int_equal(parked_list(e.spool_dir, &p, &np), 0);
		assert_int_equal(np, 1);
		snprintf(path, sizeof(path), "%s/out", e.dir);
		fd = open(path, O_RDWR | O_CREAT, 0600);
		assert_int_equal(parked_save(e.spool_dir, p[0].id, fd), 0);
		assert_int_equal(pread(fd, got, 8, 0), 4);
		assert_memory_equal(got, "mine", 4);
		close(fd);
		parked_free(p, np);
	}
	(void)err;
	env_done(&e);
	return n;
}

static void expect(struct spool_recovery n, unsigned uploaded, unsigned parked, unsigned already)
{
	assert_int_equal(n.uploaded, uploaded);
	assert_int_equal(n.parked, parked);
	assert_int_equal(n.already, already);
	assert_int_equal(n.failed, 0);
}

static void test_states(void **state)
{
	enum { OPEN = 1, CLOSING, ACKED, CLEAN };
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
	ssize_t k = read(fd, boot_id, sizeof(boot_id) - 1);

	close(fd);
	assert_true(k > 8);
	boot_id[strcspn(boot_id, "\n")] = 0;
	expect(recover_state(OPEN, boot_id, NULL, false, NULL, 0), 0, 1, 0);
	expect(recover_state(CLEAN, boot_id, NULL, false, NULL, 0), 0, 0, 0);
	expect(recover_state(CLOSING, boot_id, NULL, false, NULL, 0), 1, 0, 0);
	assert_string_equal(told[0], "d/f: uploaded");
	expect(recover_state(CLOSING, boot_id, "base", true, NULL, 0), 1, 0, 0);
	expect(recover_state(CLOSING, boot_id, "other", false, NULL, 0), 0, 1, 0);
	assert_string_equal(told[0], "d/f: parked: another version was stored meanwhile");
	expect(recover_state(CLOSING, "another-boot", NULL, false, NULL, 0), 0, 1, 0);
	expect(recover_state(CLOSING, "", NULL, false, NULL, 0), 0, 1, 0);
	/* ours, by its nonce: there already; older bytes of ours: uploaded over them */
	expect(recover_state(CLOSING, boot_id, "mine", false, "aaaa", 0), 0, 0, 1);
	assert_string_equal(told[0], "d/f: already in the bucket");
	expect(recover_state(CLOSING, boot_id, "older", false, "aaaa", 0), 1, 0, 0);
	/* acknowledged: another boot or a store that is away do not matter */
	expect(recover_state(ACKED, "another-boot", NULL, false, NULL, 0), 1, 0, 0);
	expect(recover_state(ACKED, "another-boot", NULL, false, NULL, -ETIMEDOUT), 1, 0, 0);
	expect(recover_state(ACKED, "another-boot", NULL, false, NULL, -EACCES), 1, 0, 0);
	expect(recover_state(ACKED, boot_id, "base", true, NULL, -ECONNREFUSED), 1, 0, 0);
	expect(recover_state(ACKED, boot_id, "other", false, NULL, 0), 0, 1, 0);
	expect(recover_state(CLOSING, boot_id, "base", true, NULL, -ECONNREFUSED), 1, 0, 0);
}

static void test_damaged_and_stray(void **state)
{
	struct spj_event ev[] = {
		{ .type = SPJ_HEADER, .number = SPJ_FORMAT, .whole = true, .text = "b", .dir = "d/", .name = "f", .headers = "" },
		{ .type = SPJ_STATE, .number = 3 },
		{ .type = SPJ_STATE, .number = 3 },
	};
	struct spool_recovery n;
	struct parked *p;
	size_t np;
	struct env e;
	char path[128];
	int fd;

	env_init(&e);
	write_files(e.spool_dir, 0x10, ev, ARRAY_SIZE(ev), "damaged");
	snprintf(path, sizeof(path), "%s/10.journal", e.spool_dir);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "X", 1, 30), 1);
	close(fd);
	/* an empty journal, data without a journal, and a journal without data */
	write_files(e.spool_dir, 0x11, ev, 0, "no records");
	write_files(e.spool_dir, 0x12, ev, ARRAY_SIZE(ev), "no journal");
	snprintf(path, sizeof(path), "%s/12.journal", e.spool_dir);
	assert_int_equal(unlink(path), 0);
	write_files(e.spool_dir, 0x13, ev, ARRAY_SIZE(ev), "");
	snprintf(path, sizeof(path), "%s/13.data", e.spool_dir);
	assert_int_equal(unlink(path), 0);
	log_set_level(LOG_L_ERROR);
	assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
	expect(n, 0, 3, 0);
	assert_int_equal(parked_list(e.spool_dir, &p, &np), 0);
	assert_int_equal(np, 3);
	assert_string_equal(p[0].reason, "its journal is damaged");
	assert_string_equal(p[2].reason, "its journal is missing");
	assert_int_equal(p[0].size, 7);
	parked_free(p, np);
	assert_int_equal(count_files(e.spool_dir, ".journal") + count_files(e.spool_dir, ".data"), 0);
	assert_int_equal(env_get(e.mem, "p/d/f", NULL, 0, NULL), -ENOENT);
	env_done(&e);
}

static void test_adopt(void **state)
{
	struct spj_event ev[] = {
		{ .type = SPJ_HEADER, .number = SPJ_FORMAT, .whole = true, .text = "b", .dir = "d/", .name = "f", .headers = "" },
		{ .type = SPJ_STATE, .number = 3 },
	};
	struct spool_recovery n;
	struct parked *p;
	size_t np;
	struct env e;
	char other[128];
	char got[8];

	env_init(&e);
	snprintf(other, sizeof(other), "%s/other", e.dir);
	write_files(other, 0x20, ev, ARRAY_SIZE(ev), "mine");
	/* the same id in both */
	ev[0].name = "g";
	write_files(e.spool_dir, 0x20, ev, ARRAY_SIZE(ev), "own");
	/* something parked there */
	{
		struct spool_opts o = { .dir = other, .store = e.store, .prefix = "p/", .budget = e.budget, .part_size = PART };
		struct spool *s2;
		struct spfile *f;
		struct objerr err;

		assert_int_equal(spool_open(&o, &s2, &err), 0);
		assert_int_equal(spfile_new(s2, "d/", "k", 1, NULL, &e.h, true, &f), 0);
		assert_int_equal(spfile_write(f, "kept", 4, 0), 0);
		assert_true(spfile_park(f, "why") > 0);
		spool_close(s2);
	}
	assert_int_equal(spool_adopt(e.s, other), 0);
	assert_int_equal(count_files(other, ".journal") + count_files(other, ".data"), 0);
	assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
	expect(n, 2, 0, 0);
	assert_int_equal(env_get(e.mem, "p/d/f", got, 8, NULL), 4);
	assert_memory_equal(got, "mine", 4);
	assert_int_equal(env_get(e.mem, "p/d/g", got, 8, NULL), 3);
	assert_int_equal(parked_list(e.spool_dir, &p, &np), 0);
	assert_int_equal(np, 1);
	assert_string_equal(p[0].path, "p/d/k");
	parked_free(p, np);
	env_done(&e);
}

#ifdef LSVD_DEBUG
/* A kill at each step of an adoption: the next one completes it, nothing is lost or doubled. */
static void test_adopt_killed(void **state)
{
	bool killed = true;

	for (unsigned k = 1; killed; k++) {
		struct spj_event ev[] = {
			{ .type = SPJ_HEADER, .number = SPJ_FORMAT, .whole = true, .text = "b", .dir = "d/", .headers = "" },
			{ .type = SPJ_STATE, .number = 3 },
		};
		struct spool_recovery n;
		struct env e;
		char other[128], spec[64], got[8];
		int status;
		pid_t pid;

		env_init(&e);
		snprintf(other, sizeof(other), "%s/other", e.dir);
		for (unsigned i = 0; i < 2; i++) {
			ev[0].name = i ? "f" : "g";
			write_files(other, 0x20 + i, ev, ARRAY_SIZE(ev), i ? "file f" : "file g");
		}
		spool_close(e.s);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			snprintf(spec, sizeof(spec), "spool.adopt:%u", k);
			failpoint_arm(spec);
			env_open_spool(&e);
			_exit(spool_adopt(e.s, other) < 0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		killed = WIFSIGNALED(status);
		assert_true(killed || WEXITSTATUS(status) == 0);
		env_open_spool(&e);
		assert_int_equal(spool_adopt(e.s, other), 0);
		assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
		expect(n, 2, 0, 0);
		assert_int_equal(env_get(e.mem, "p/d/f", got, 8, NULL), 6);
		assert_memory_equal(got, "file f", 6);
		assert_int_equal(env_get(e.mem, "p/d/g", got, 8, NULL), 6);
		assert_memory_equal(got, "file g", 6);
		env_done(&e);
		assert_true(k < 50);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef LSVD_DEBUG
		cmocka_unit_test(test_killed_everywhere),
		cmocka_unit_test(test_adopt_killed),
#endif
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_damaged_and_stray),
		cmocka_unit_test(test_adopt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
