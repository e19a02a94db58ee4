/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-spool-acked.c - what async_close has acknowledged, at the moments where it could be lost: a power cut, a failing
 * store, the queue against the owner, many files after a crash.
 */
#include "spooltest.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* Holds the next PUT before its effect until it is let go. */
struct gate {
	_Atomic int waiting, open;
};

static void gate_hook(void *arg, struct objreq *req)
{
	struct gate *g = arg;

	if (req->op != OBJ_PUT)
		return;
	g->waiting = 1;
	while (!g->open)
		clock_sleep_ns(NSEC_PER_MSEC);
}

static void gate_wait(struct gate *g)
{
	for (int i = 0; i < 10000 && !g->waiting; i++)
		clock_sleep_ns(NSEC_PER_MSEC);
	assert_true(g->waiting);
}

/* --- a power cut -------------------------------------------------------------------------------------------------- */

/* The one file with this suffix, copied; zeros from `lost` on: what the page cache had not written. */
static void copy_one(const char *from, const char *to, const char *suffix, size_t lost)
{
	char path[600];
	static char buf[4 * PART];
	DIR *d = opendir(from);
	struct dirent *de;
	ssize_t n = -1;
	int fd;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL)
		if (strstr(de->d_name, suffix)) {
			snprintf(path, sizeof(path), "%s/%s", from, de->d_name);
			fd = open(path, O_RDONLY);
			n = read(fd, buf, sizeof(buf));
			close(fd);
			snprintf(path, sizeof(path), "%s/%s", to, de->d_name);
		}
	closedir(d);
	assert_true(n > 0);
	if (lost < (size_t)n)
		memset(buf + lost, 0, (size_t)n - lost);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, buf, (size_t)n), n);
	close(fd);
}

/* Bytes that a reader fetched after the acknowledgement were never synced: a power cut must not find them promised. */
static void test_fetched_behind_the_ack(void **state)
{
	static char base[PART], buf[PART];
	struct spool_recovery n;
	struct gate g = { 0 };
	struct spcommit c;
	struct objerr err;
	struct version v;
	char cut[96];
	struct env e, e2;
	struct spfile *f;

	env_init(&e);
	memset(base, 'b', sizeof(base));
	env_put(&e, "p/d/a", base, sizeof(base), &v);
	f = new_file(&e, "a", &v, false);
	assert_int_equal(spfile_write(f, "mine", 4, 0), 0);
	memcpy(base, "mine", 4);
	faultstore_hook(e.store, gate_hook, &g);
	assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
	assert_true(c.acked);
	gate_wait(&g);
	assert_int_equal(spfile_read(f, buf, sizeof(buf), 0, &err), sizeof(buf));
	assert_memory_equal(buf, base, sizeof(buf));
	/* the power goes: the journal's pages were written, those of the data behind the acknowledged bytes were not */
	snprintf(cut, sizeof(cut), "%s/cut", e.dir);
	assert_int_equal(mkdir(cut, 0700), 0);
	copy_one(e.spool_dir, cut, ".journal", SIZE_MAX);
	copy_one(e.spool_dir, cut, ".data", 4);
	e2 = e;
	memcpy(e2.spool_dir, cut, sizeof(cut));
	e2.store = e.mem; /* past the gate */
	env_open_spool(&e2);
	assert_int_equal(spool_recover(e2.s, &n, NULL, NULL), 0);
	assert_int_equal(n.uploaded, 1);
	spool_close(e2.s);
	expect_object(&e, "p/d/a", base, sizeof(base));
	g.open = 1;
	spfile_free(f);
	env_done(&e);
}

/* --- the queue ---------------------------------------------------------------------------------------------------- */

/* A file that is acknowledged again while the queue still holds it is uploaded again. */
static void test_acked_again_and_again(void **state)
{
	struct spcommit c;
	struct objerr err;
	struct env e;
	struct spfile *f;
	char buf[16];

	env_init(&e);
	f = new_file(&e, "a", NULL, true);
	alarm(120); /* without it a lost upload would keep the writer for ever */
	for (int i = 0; i < 3000; i++) {
		snprintf(buf, sizeof(buf), "%08d", i);
		assert_int_equal(spfile_write(f, buf, 8, 0), 0); /* waits for the upload of the one before */
		assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
	}
	spfile_free(f);
	for (int i = 0; i < 10000; i++) {
		struct spool_stats st;

		spool_stats(e.s, &st);
		if (st.files == 0)
			break;
		clock_sleep_ns(NSEC_PER_MSEC);
	}
	alarm(0);
	expect_object(&e, "p/d/a", "00002999", 8);
	env_done(&e);
}

struct discarding {
	struct spfile *f;
	_Atomic int done;
};

static void *discard_thread(void *arg)
{
	struct discarding *d = arg;

	spfile_discard(d->f);
	d->done = 1;
	return NULL;
}

/* The owner throws the file away while the queue's upload of it is about to fail: it may not come back. */
static void test_discard_while_queue_fails(void **state)
{
	struct discarding d = { 0 };
	struct gate g = { 0 };
	struct spool_stats st;
	struct spcommit c;
	struct objerr err;
	pthread_t t;
	struct env e;

	env_init(&e);
	d.f = new_file(&e, "a", NULL, true);
	assert_int_equal(spfile_write(d.f, "gone", 4, 0), 0);
	faultstore_hook(e.store, gate_hook, &g);
	faultstore_next(e.store, OBJ_PUT, FAULT_BEFORE, -EAGAIN, 503);
	assert_int_equal(spfile_commit(d.f, SPC_ASYNC, &c, &err), 0);
	gate_wait(&g);
	assert_int_equal(pthread_create(&t, NULL, discard_thread, &d), 0);
	clock_sleep_ns(20 * NSEC_PER_MSEC); /* likely waiting now; if not, this run shows less */
	g.open = 1;
	pthread_join(t, NULL);
	spool_stats(e.s, &st);
	assert_int_equal(st.files, 0);
	env_done(&e); /* ends the queue: a file that it still holds would be freed again */
	assert_true(d.done);
}

/* --- after a crash ------------------------------------------------------------------------------------------------ */

#define CROWD 120

/* How many PUTs were under way at once, each as long as a round trip. */
struct crowd {
	_Atomic int now, most;
};

static void crowd_hook(void *arg, struct objreq *req)
{
	struct crowd *c = arg;
	int n;

	if (req->op != OBJ_PUT)
		return;
	n = ++c->now;
	if (n > c->most)
		c->most = n;
	clock_sleep_ns(10 * NSEC_PER_MSEC);
	c->now--;
}

/* An acknowledged file as a crash leaves it. */
static void leave_acked(struct env *e, const char *name, const char *text, const struct version *base)
{
	struct objerr err;
	struct spcommit c;
	struct spfile *f;

	f = new_file(e, name, base, true);
	assert_int_equal(spfile_write(f, text, strlen(text), 0), 0);
	faultstore_odds(e->store, FAULT_BEFORE, 1000);
	assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
	assert_true(c.acked);
	spfile_free(f);
}

/* Many files go up side by side; two that follow each other under one name in their order. */
static void test_recovers_side_by_side(void **state)
{
	struct crowd c = { 0 };
	struct spool_recovery n;
	char name[16], key[24];
	struct env e;

	env_init(&e);
	for (int i = 0; i < CROWD; i++) {
		snprintf(name, sizeof(name), "f%d", i % (CROWD / 2));
		leave_acked(&e, name, i < CROWD / 2 ? "first" : "second", NULL);
	}
	spool_close(e.s);
	faultstore_odds(e.store, FAULT_BEFORE, 0);
	assert_int_equal(count_files(e.spool_dir, ".journal"), CROWD);
	env_open_spool(&e);
	faultstore_hook(e.store, crowd_hook, &c);
	assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
	assert_int_equal(n.uploaded, CROWD / 2);
	assert_int_equal(n.parked, CROWD / 2);
	assert_int_equal(n.failed, 0);
	for (int i = 0; i < CROWD / 2; i++) {
		snprintf(key, sizeof(key), "p/d/f%d", i);
		expect_object(&e, key, "first", 5);
	}
	assert_in_range(c.most, 4, 16);
	assert_int_equal(count_files(e.spool_dir, ".journal"), 0);
	env_done(&e);
}

/* A store that is away at the mount: what was acknowledged goes up when it is back, without another mount. */
static void test_recovery_goes_on(void **state)
{
	struct spool_recovery n;
	struct spool_stats st;
	struct env e;

	env_init(&e);
	leave_acked(&e, "a", "promised", NULL);
	spool_close(e.s);
	env_open_spool(&e);
	assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
	assert_int_equal(n.failed, 1);
	spool_stats(e.s, &st);
	assert_int_equal(st.uploading, 1);
	faultstore_odds(e.store, FAULT_BEFORE, 0);
	for (int i = 0; i < 10000 && st.files > 0; i++) {
		clock_sleep_ns(NSEC_PER_MSEC);
		spool_stats(e.s, &st);
	}
	expect_object(&e, "p/d/a", "promised", 8);
	assert_int_equal(count_files(e.spool_dir, ".journal") + count_files(e.spool_dir, ".data"), 0);
	env_done(&e);
}

/* --- an unlinked file --------------------------------------------------------------------------------------------- */

/* What is written to a file without a name is not sent anywhere. */
static void test_nameless_sends_nothing(void **state)
{
	static char data[PART];
	struct env e;
	struct spfile *f;

	env_init(&e);
	f = new_file(&e, "a", NULL, true);
	assert_int_equal(spfile_nameless(f), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(spfile_write(f, data, sizeof(data), i * sizeof(data)), 0);
	spfile_discard(f); /* waits for what goes on in the background */
	assert_int_equal(faultstore_seen(e.store, OBJ_NOPS), 0);
	env_done(&e);
}

/* --- a full disk in the middle of an upload ----------------------------------------------------------------------- */

struct filler {
	struct env *e;
	struct spfile *f;
	char path[160];
};

static void journal_stat(struct env *e, struct stat *st)
{
	DIR *d = opendir(e->spool_dir);
	struct dirent *de;
	bool found = false;

	assert_non_null(d);
	while ((de = readdir(d)) != NULL)
		if (strstr(de->d_name, ".journal"))
			found = fstatat(dirfd(d), de->d_name, st, 0) == 0;
	closedir(d);
	assert_true(found);
}

static int note(struct filler *fi, size_t len, char c)
{
	struct obj_headers h = { 0 };
	char value[8192];
	int r;

	assert_true(len < sizeof(value));
	memset(value, c, len);
	value[len] = 0;
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-n", value), 0);
	r = spfile_set_headers(fi->f, &h);
	obj_headers_free(&h);
	return r;
}

/* At the PUT: the disk gets full, and the journal has no room for one more record. */
static void fill_hook(void *arg, struct objreq *req)
{
	struct filler *fi = arg;
	struct stat st, after;
	off_t left, over;
	int fd;

	if (req->op != OBJ_PUT)
		return;
	fd = open(fi->path, O_WRONLY | O_CREAT, 0600);
	for (size_t n = 65536; n > 0; n /= 2) {
		static const char zeros[65536];

		while (write(fd, zeros, n) > 0)
			;
	}
	close(fd);
	journal_stat(fi->e, &st);
	assert_int_equal(note(fi, 100, 'a'), 0);
	journal_stat(fi->e, &after);
	over = after.st_size - st.st_size - 100; /* of a record, without the value */
	left = (off_t)after.st_blocks * 512 - after.st_size;
	assert_true(left > over + 20);
	assert_int_equal(note(fi, (size_t)(left - over - 10), 'b'), 0);
	assert_int_equal(note(fi, 1, 'c'), -ENOSPC);
}

static void open_not_journaled(void)
{
	struct spool_recovery n;
	struct spcommit c;
	struct objerr err;
	struct filler fi;
	struct env e;

	env_init(&e);
	spool_close(e.s);
	assert_int_equal(mount("tmpfs", e.spool_dir, "tmpfs", 0, "size=1M"), 0);
	env_open_spool(&e);
	fi = (struct filler){ .e = &e, .f = new_file(&e, "a", NULL, true) };
	snprintf(fi.path, sizeof(fi.path), "%s/filler", e.spool_dir);
	assert_int_equal(spfile_write(fi.f, "all of it", 9, 0), 0);
	faultstore_hook(e.store, fill_hook, &fi);
	faultstore_next(e.store, OBJ_PUT, FAULT_BEFORE, -EACCES, 403);
	assert_int_equal(spfile_commit(fi.f, 0, &c, &err), -EACCES);
	faultstore_hook(e.store, NULL, NULL);
	assert_int_equal(unlink(fi.path), 0);
	/* it is an open file again, and the daemon dies in the middle of the next write */
	assert_int_equal(spfile_write(fi.f, "half", 4, 0), 0);
	spfile_free(fi.f);
	assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
	assert_int_equal(n.parked, 1);
	assert_int_equal(n.uploaded, 0);
	assert_int_equal(env_get(e.mem, "p/d/a", NULL, 0, NULL), -ENOENT);
	spool_close(e.s);
	assert_int_equal(umount(e.spool_dir), 0);
	env_open_spool(&e);
	env_done(&e);
}

/* A failed close whose end could not be journaled: what is written afterwards is not published by a crash. */
static void test_open_not_journaled(void **state)
{
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) { /* the mount goes with the process */
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			_exit(77);
		open_not_journaled();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetched_behind_the_ack),
		cmocka_unit_test(test_acked_again_and_again),
		cmocka_unit_test(test_discard_while_queue_fails),
		cmocka_unit_test(test_recovers_side_by_side),
		cmocka_unit_test(test_recovery_goes_on),
		cmocka_unit_test(test_nameless_sends_nothing),
		cmocka_unit_test(test_open_not_journaled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
