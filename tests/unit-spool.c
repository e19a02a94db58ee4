/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-spool.c - spool files over the memory store: contents against a model, conflicts, a full disk, async_close, names. */
#include "spooltest.h"
#include "objstore/base/clock.h"
#include "objstore/objstore.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define MODEL_MAX (300 * KiB)

static void test_new_file(void **state)
{
	struct env e;
	struct spfile *f;
	struct spcommit c;
	char buf[16];

	env_init(&e);
	f = new_file(&e, "a", NULL, true);
	assert_true(spfile_dirty(f));
	assert_int_equal(spfile_write(f, "hello", 5, 0), 0);
	assert_int_equal(spfile_write(f, "world", 5, 6), 0);
	assert_int_equal(spfile_size(f), 11);
	assert_int_equal(spfile_read_local(f, buf, sizeof(buf), 0), 11);
	assert_memory_equal(buf, "hello\0world", 11);
	assert_int_equal(spfile_read_local(f, buf, sizeof(buf), 11), 0);
	c = commit_ok(f);
	assert_int_equal(c.v.size, 11);
	assert_true(c.v.etag[0] && c.v.mtime_s && c.date_s);
	assert_false(c.headers_stale);
	expect_object(&e, "p/d/a", "hello\0world", 11);
	assert_int_equal(faultstore_seen(e.store, OBJ_PUT), 1);
	c = commit_ok(f); /* clean: nothing is sent */
	assert_int_equal(faultstore_seen(e.store, OBJ_NOPS), 1);
	spfile_free(f);
	assert_int_equal(count_files(e.spool_dir, ".journal"), 0);
	assert_int_equal(count_files(e.spool_dir, ".data"), 0);
	env_done(&e);
}

static void test_base_shines_through(void **state)
{
	static char data[100 * 1024], buf[100 * 1024];
	struct version v;
	struct env e;
	struct spfile *f;
	uint64_t s = 3;

	env_init(&e);
	fill_rnd(&s, data, sizeof(data));
	env_put(&e, "p/d/a", data, sizeof(data), &v);
	f = new_file(&e, "a", &v, false);
	assert_false(spfile_dirty(f));
	assert_int_equal(spfile_read_local(f, buf, 10, 5), -EAGAIN);
	assert_int_equal(spfile_write(f, "XY", 2, 50000), 0);
	memcpy(data + 50000, "XY", 2);
	assert_int_equal(spfile_read(f, buf, 200 * 1024, 0, NULL), sizeof(data));
	assert_memory_equal(buf, data, sizeof(data));
	assert_int_equal(spfile_read_local(f, buf, 100, 400), 100);
	/* cut and grown again: zeros, not the base's bytes */
	assert_int_equal(spfile_truncate(f, 70000), 0);
	assert_int_equal(spfile_truncate(f, 80000), 0);
	memset(data + 70000, 0, 10000);
	assert_int_equal(spfile_read(f, buf, sizeof(buf), 0, NULL), 80000);
	assert_memory_equal(buf, data, 80000);
	commit_ok(f);
	expect_object(&e, "p/d/a", data, 80000);
	spfile_free(f);
	env_done(&e);
}

/* The base is replaced by another node: a missing byte is -ESTALE, never a new one. */
static void test_base_is_gone(void **state)
{
	static char data[64 * 1024];
	struct version v, w;
	struct env e;
	struct spfile *f;
	char buf[16];

	env_init(&e);
	env_put(&e, "p/d/a", data, sizeof(data), &v);
	f = new_file(&e, "a", &v, false);
	data[0] = 1;
	env_put(&e, "p/d/a", data, sizeof(data), &w);
	assert_int_equal(spfile_read(f, buf, 1, 0, NULL), -ESTALE);
	spfile_free(f);
	env_done(&e);
}

/* --- the model ---------------------------------------------------------------------------------------------------- */

struct model {
	unsigned char *p;
	uint64_t size;
};

static void model_grow(struct model *m, uint64_t size)
{
	if (size > m->size)
		memset(m->p + m->size, 0, size - m->size);
	m->size = MAX(m->size, size);
}

static void one_op(struct spfile *f, struct model *m, uint64_t *s)
{
	static unsigned char buf[MODEL_MAX + 1];
	uint64_t off = test_rnd(s) % (m->size + 20000), n = 1 + test_rnd(s) % (test_rnd(s) % 4 ? 3000 : 40000), at;

	off = MIN(off, (uint64_t)MODEL_MAX - 1);
	n = MIN(n, MODEL_MAX - off);
	switch (test_rnd(s) % 10) {
	case 0:
	case 1:
	case 2:
		fill_rnd(s, buf, n);
		assert_int_equal(spfile_write(f, buf, n, off), 0);
		model_grow(m, off + n);
		memcpy(m->p + off, buf, n);
		break;
	case 3:
		n = MIN(n, MODEL_MAX - m->size);
		fill_rnd(s, buf, n);
		assert_int_equal(spfile_append(f, buf, n, &at), 0);
		assert_int_equal(at, m->size);
		memcpy(m->p + m->size, buf, n);
		m->size += n;
		break;
	case 4:
		if (test_rnd(s) % 3 == 0)
			off = test_rnd(s) % MODEL_MAX;
		assert_int_equal(spfile_truncate(f, off), 0);
		model_grow(m, off);
		m->size = off;
		break;
	case 5:
		assert_int_equal(spfile_zero(f, off, n, true), 0);
		model_grow(m, off + n);
		memset(m->p + off, 0, n);
		break;
	case 6:
		assert_int_equal(spfile_zero(f, off, n, false), 0);
		if (off < m->size)
			memset(m->p + off, 0, MIN(n, m->size - off));
		break;
	case 7:
		assert_int_equal(spfile_allocate(f, off, n), 0);
		model_grow(m, off + n);
		break;
	default: {
		ssize_t want = off < m->size ? (ssize_t)MIN(n, m->size - off) : 0, r;

		do
			r = spfile_read(f, buf, n, off, NULL);
		while (faults && r < 0 && r != -ESTALE);
		assert_int_equal(r, want);
		assert_memory_equal(buf, m->p + off, want);
	}
	}
	assert_int_equal(spfile_size(f), m->size);
}

/* What a crash leaves of an open file is parked with exactly the bytes that are known. */
static void expect_parked(struct env *e, const struct model *m, bool partial_allowed)
{
	struct spool_recovery n = { 0 };
	struct parked *v;
	size_t nv;
	char path[128];
	int fd;

	assert_int_equal(spool_recover(e->s, &n, NULL, NULL), 0);
	assert_int_equal(n.parked, 1);
	assert_int_equal(n.uploaded + n.already + n.failed, 0);
	assert_int_equal(parked_list(e->spool_dir, &v, &nv), 0);
	assert_int_equal(nv, 1);
	assert_string_equal(v[0].path, "p/d/m");
	assert_int_equal(v[0].size, m->size);
	snprintf(path, sizeof(path), "%s/saved", e->dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(parked_save(e->spool_dir, v[0].id, fd), 0);
	if (!v[0].partial) {
		unsigned char *got = calloc(1, m->size + 1);

		assert_int_equal(pread(fd, got, m->size + 1, 0), m->size);
		assert_memory_equal(got, m->p, m->size);
		free(got);
	} else {
		assert_true(partial_allowed);
	}
	close(fd);
	/* with the base still there a retry makes it whole */
	{
		struct spcommit c;
		struct objerr err = { 0 };

		assert_int_equal(parked_retry(e->s, v[0].id, false, &c, &err), 0);
	}
	expect_object(e, "p/d/m", m->p, m->size);
	parked_free(v, nv);
	assert_int_equal(parked_list(e->spool_dir, &v, &nv), 0);
	assert_int_equal(nv, 0);
	parked_free(v, nv);
}

static uint64_t model_seed; /* of the run that fails */

static void run_model(uint64_t seed, unsigned caps, bool with_base, bool whole)
{
	struct model m = { .p = malloc(MODEL_MAX) };
	uint64_t s = seed;
	struct version v;
	struct env e;
	struct spfile *f;

	model_seed = seed;
	env_init(&e);
	e.mem->caps = caps;
	if (faults) {
		faultstore_odds(e.store, FAULT_BEFORE, 60);
		faultstore_odds(e.store, FAULT_AFTER, 60);
		faultstore_odds(e.store, FAULT_LATE, 300);
		faultstore_odds(e.store, FAULT_TRUNCATE, 30);
	}
	if (with_base) {
		m.size = test_rnd(&s) % MODEL_MAX;
		fill_rnd(&s, m.p, m.size);
		env_put(&e, "p/d/m", m.p, m.size, &v);
		if (whole)
			m.size = 0;
	}
	f = new_file(&e, "m", with_base ? &v : NULL, whole);
	for (int i = 0; i < 120; i++) {
		one_op(f, &m, &s);
		if (test_rnd(&s) % 15 == 0) {
			commit_ok(f);
			expect_object(&e, "p/d/m", m.p, m.size);
		}
		if (test_rnd(&s) % 40 == 0) { /* forgotten and opened anew */
			struct spcommit c = commit_ok(f);

			spfile_free(f);
			v = c.v;
			f = new_file(&e, "m", &v, false);
		}
	}
	commit_ok(f);
	expect_object(&e, "p/d/m", m.p, m.size);
	if (faults) /* uploads whose id never arrived are nobody's; the rest was the test above */
		goto out;
	assert_int_equal(env_uploads(e.mem), 0);
	one_op(f, &m, &s);
	assert_int_equal(spfile_append(f, "z", m.size < MODEL_MAX, &(uint64_t){ 0 }), 0);
	if (m.size < MODEL_MAX)
		m.p[m.size++] = 'z';
	spfile_free(f);
	if (count_files(e.spool_dir, ".journal") > 0) {
		spool_close(e.s);
		env_open_spool(&e);
		expect_parked(&e, &m, with_base || true);
	}
	assert_int_equal(env_uploads(e.mem), 0);
	assert_int_equal(count_files(e.spool_dir, ".data"), 0);
	f = NULL;
out:
	if (f)
		spfile_free(f);
	env_done(&e);
	free(m.p);
}

static int say_seed(void **state)
{
	print_message("last seed %llu\n", (unsigned long long)model_seed);
	return 0;
}

static void test_model(void **state)
{
	unsigned all = mem_caps();
	const unsigned sets[] = { all, all & ~OBJ_CAP_PART_COPY, all & ~OBJ_CAP_COPY_SRC, all | OBJ_CAP_EQUAL_PARTS,
				  all & ~OBJ_CAP_MULTIPART, all & ~OBJ_CAP_COMPLETE_COND,
				  all & ~(OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH | OBJ_CAP_COMPLETE_COND | OBJ_CAP_COPY_SRC) };

	for (uint64_t seed = 1; seed <= 42; seed++) {
		run_model(seed, sets[seed % ARRAY_SIZE(sets)], seed % 3 != 0, seed % 4 == 0 || seed % 3 == 0);
	}
}

/* The same while requests fail before or after their effect, answer late or cut short. */
static void test_model_with_faults(void **state)
{
	unsigned all = mem_caps();
	const unsigned sets[] = { all, all & ~OBJ_CAP_COPY_SRC, all | OBJ_CAP_EQUAL_PARTS, all & ~OBJ_CAP_COMPLETE_COND };

	faults = true;
	for (uint64_t seed = 1001; seed <= 1032; seed++)
		run_model(seed, sets[seed % ARRAY_SIZE(sets)], seed % 3 != 0, seed % 3 == 0);
	faults = false;
}

/* --- the local disk ----------------------------------------------------------------------------------------------- */

/* In a file system of 1 MiB that only this process sees. */
static void full_disk(void)
{
	static unsigned char data[64 * 1024], got[64 * 1024], model[4 * 1024 * 1024];
	struct version v;
	struct env e;
	struct spfile *f, *g;
	uint64_t off = 0;
	int r = 0;

	env_init(&e);
	spool_close(e.s);
	assert_int_equal(mount("tmpfs", e.spool_dir, "tmpfs", 0, "size=1M"), 0);
	env_open_spool(&e);
	memset(model, 3, sizeof(model));
	env_put(&e, "p/d/g", model, 1024 * 1024, &v);
	f = new_file(&e, "a", NULL, true);
	g = new_file(&e, "g", &v, false);
	assert_int_equal(spfile_write(g, "change", 6, 500000), 0);
	memset(data, 7, sizeof(data));
	while (r == 0 && off < sizeof(model)) {
		r = spfile_write(f, data, sizeof(data), off);
		off += r == 0 ? sizeof(data) : 0;
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(spfile_size(f), off);
	assert_int_equal(spfile_allocate(f, 0, 2 * MiB), -ENOSPC);
	assert_int_equal(spfile_size(f), off);
	/* what was there is there; a reader of the base does not need the disk; both can be stored */
	assert_int_equal(spfile_read_local(f, got, sizeof(got), off - sizeof(got)), sizeof(got));
	assert_memory_equal(got, data, sizeof(got));
	assert_int_equal(spfile_read(g, got, sizeof(got), 480000, NULL), sizeof(got));
	memcpy(model + 500000, "change", 6);
	assert_memory_equal(got, model + 480000, sizeof(got));
	commit_ok(g);
	expect_object(&e, "p/d/g", model, 1024 * 1024);
	commit_ok(f);
	memset(model, 7, off);
	expect_object(&e, "p/d/a", model, off);
	/* space again: goes on */
	assert_int_equal(spfile_truncate(f, 10), 0);
	assert_int_equal(spfile_write(f, "more", 4, 10), 0);
	commit_ok(f);
	memcpy(model + 10, "more", 4);
	expect_object(&e, "p/d/a", model, 14);
	spfile_free(f);
	spfile_free(g);
	spool_close(e.s);
	assert_int_equal(umount(e.spool_dir), 0);
	env_open_spool(&e);
	env_done(&e);
}

static void test_full_disk(void **state)
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
		full_disk();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* --- conflicts ---------------------------------------------------------------------------------------------------- */

static void conflict_once(unsigned caps, size_t size, bool with_base)
{
	char *data = calloc(1, size + 1);
	struct version v = { 0 }, w;
	struct spcommit c = { 0 };
	struct objerr err = { 0 };
	struct env e;
	struct spfile *f;
	struct parked *pv;
	size_t np;
	uint64_t id;

	env_init(&e);
	e.mem->caps = caps;
	if (with_base)
		env_put(&e, "p/d/a", "old", 3, &v);
	f = new_file(&e, "a", with_base ? &v : NULL, true);
	data[0] = 'x';
	assert_int_equal(spfile_write(f, data, size, 0), 0);
	env_put(&e, "p/d/a", "theirs", 6, &w);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ESTALE);
	assert_string_equal(c.found.etag, w.etag);
	assert_int_equal(c.found.size, 6);
	assert_true(spfile_dirty(f));
	expect_object(&e, "p/d/a", "theirs", 6);
	assert_int_equal(env_uploads(e.mem), 0);
	id = spfile_park(f, "lost");
	assert_true(id > 0);
	assert_int_equal(parked_list(e.spool_dir, &pv, &np), 0);
	assert_int_equal(np, 1);
	assert_int_equal(pv[0].id, id);
	assert_string_equal(pv[0].reason, "lost");
	assert_string_equal(pv[0].base_etag, v.etag);
	assert_false(pv[0].partial);
	parked_free(pv, np);
	assert_int_equal(parked_retry(e.s, id, false, &c, &err), -ESTALE);
	expect_object(&e, "p/d/a", "theirs", 6);
	assert_int_equal(parked_retry(e.s, id, true, &c, &err), 0);
	expect_object(&e, "p/d/a", data, size);
	assert_int_equal(parked_retry(e.s, id, true, &c, &err), -ENOENT);
	assert_int_equal(env_uploads(e.mem), 0);
	env_done(&e);
	free(data);
}

static void test_conflict(void **state)
{
	unsigned all = mem_caps(), none = all & ~(OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH | OBJ_CAP_COMPLETE_COND);

	conflict_once(all, 100, true);
	conflict_once(all, 100, false);
	conflict_once(all, 5 * PART, true);
	conflict_once(all, 5 * PART, false);
	conflict_once(none, 100, true);
	conflict_once(none, 100, false);
	conflict_once(none, 5 * PART, true);
	conflict_once(all & ~OBJ_CAP_COMPLETE_COND, 5 * PART, false);
}

/* The object was removed under the file: not found, and not brought back unasked. */
static void test_conflict_removed(void **state)
{
	struct version v;
	struct spcommit c = { 0 };
	struct objerr err;
	struct env e;
	struct spfile *f;

	env_init(&e);
	env_put(&e, "p/d/a", "old", 3, &v);
	f = new_file(&e, "a", &v, true);
	assert_int_equal(obj_delete(e.mem, "p/d/a", NULL, &err), 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ESTALE);
	assert_string_equal(c.found.etag, "");
	assert_int_equal(env_get(e.mem, "p/d/a", NULL, 0, NULL), -ENOENT);
	spfile_discard(f);
	assert_int_equal(count_files(e.spool_dir, ".data"), 0);
	env_done(&e);
}

/* --- together ----------------------------------------------------------------------------------------------------- */

struct crowd {
	struct spfile *f;
	pthread_mutex_t lock;
	_Atomic bool stop;
	int id;
};

static void *crowd_writer(void *arg)
{
	struct crowd *c = arg;
	unsigned char buf[512];

	for (unsigned round = 1; round <= 200; round++) {
		memset(buf, (int)round, sizeof(buf));
		assert_int_equal(spfile_write(c->f, buf, sizeof(buf), (uint64_t)c->id * 10 * KiB), 0);
	}
	return NULL;
}

static void *crowd_committer(void *arg)
{
	struct crowd *c = arg;
	struct spcommit sc;
	struct objerr err;

	while (!c->stop)
		assert_int_equal(spfile_commit(c->f, 0, &sc, &err), 0);
	return NULL;
}

static void test_writers_and_committers(void **state)
{
	struct crowd c[5];
	pthread_t w[3], k[2];
	unsigned char buf[512];
	struct env e;
	struct spfile *f;

	env_init(&e);
	faultstore_odds(e.store, FAULT_LATE, 500);
	f = new_file(&e, "a", NULL, true);
	assert_int_equal(spfile_truncate(f, 40 * KiB), 0);
	for (int i = 0; i < 5; i++)
		c[i] = (struct crowd){ .f = f, .id = i };
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&k[i], NULL, crowd_committer, &c[3 + i]), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&w[i], NULL, crowd_writer, &c[i]), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(w[i], NULL);
	for (int i = 0; i < 2; i++)
		c[3 + i].stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(k[i], NULL);
	commit_ok(f);
	memset(buf, 200, sizeof(buf));
	for (int i = 0; i < 3; i++) {
		unsigned char got[40 * KiB];

		assert_int_equal(env_get(e.mem, "p/d/a", got, sizeof(got), NULL), 40 * KiB);
		assert_memory_equal(got + i * 10 * KiB, buf, sizeof(buf));
	}
	spfile_free(f);
	env_done(&e);
}

/* --- async_close -------------------------------------------------------------------------------------------------- */

static void test_async(void **state)
{
	struct spcommit c;
	struct objerr err;
	struct version v;
	struct env e;
	struct spfile *f;

	env_init(&e);
	f = new_file(&e, "a", NULL, true);
	assert_int_equal(spfile_write(f, "one", 3, 0), 0);
	faultstore_next(e.store, OBJ_PUT, FAULT_BEFORE, -EAGAIN, 503);
	assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
	/* freed by its owner: the queue goes on, past the failure */
	spfile_free(f);
	for (int i = 0; i < 5000 && env_get(e.mem, "p/d/a", NULL, 0, NULL) == -ENOENT; i++)
		clock_sleep_ns(NSEC_PER_MSEC);
	expect_object(&e, "p/d/a", "one", 3);

	/* a writer waits for the acknowledged version to arrive, and a commit joins it */
	f = new_file(&e, "b", NULL, true);
	assert_int_equal(spfile_write(f, "1", 1, 0), 0);
	assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
	assert_int_equal(spfile_write(f, "2", 1, 1), 0);
	assert_true(env_get(e.mem, "p/d/b", NULL, 0, NULL) >= 0);
	commit_ok(f);
	expect_object(&e, "p/d/b", "12", 2);
	spfile_free(f);

	/* a conflict parks by itself */
	f = new_file(&e, "c", NULL, true);
	assert_int_equal(spfile_write(f, "ours", 4, 0), 0);
	env_put(&e, "p/d/c", "theirs", 6, &v);
	assert_int_equal(spfile_commit(f, SPC_ASYNC, &c, &err), 0);
	assert_int_equal(spfile_commit(f, 0, &c, &err), -ESTALE);
	assert_true(spfile_park(f, "again") > 0);
	assert_int_equal(count_files(e.spool_dir, ".journal"), 0);
	expect_object(&e, "p/d/c", "theirs", 6);
	{
		struct parked *pv;
		size_t np;

		assert_int_equal(parked_list(e.spool_dir, &pv, &np), 0);
		assert_int_equal(np, 1);
		assert_int_equal(parked_drop(e.spool_dir, pv[0].id), 0);
		assert_int_equal(parked_drop(e.spool_dir, pv[0].id), -ENOENT);
		parked_free(pv, np);
	}
	env_done(&e);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static void test_move(void **state)
{
	struct version v, w;
	struct spcommit c;
	struct env e;
	struct spfile *f;
	char buf[16];

	env_init(&e);
	/* dirty over a base: straight to the new key, missing bytes from the old one, over another object there */
	env_put(&e, "p/d/a", "0123456789", 10, &v);
	env_put(&e, "p/x/b", "target", 6, &w);
	f = new_file(&e, "a", &v, false);
	assert_int_equal(spfile_write(f, "A", 1, 1), 0);
	assert_int_equal(spfile_move(f, "x/", "b", &w, false), 0);
	commit_ok(f);
	expect_object(&e, "p/x/b", "0A23456789", 10);
	expect_object(&e, "p/d/a", "0123456789", 10);
	/* clean, its object was copied: nothing to send, the copy is the base */
	env_put(&e, "p/x/c", "0A23456789", 10, &w);
	assert_int_equal(spfile_move(f, "x/", "c", &w, false), 0);
	assert_false(spfile_dirty(f));
	assert_int_equal(spfile_write(f, "C", 1, 3), 0);
	c = commit_ok(f);
	expect_object(&e, "p/x/c", "0A2C456789", 10);
	spfile_free(f);
	/* clean, but over other bytes: everything goes */
	v = c.v;
	assert_int_equal(spfile_new(e.s, "x/", "c", 1, &v, &e.h, false, &f), 0);
	env_put(&e, "p/x/d", "other", 5, &w);
	assert_int_equal(spfile_move(f, "x/", "d", &w, false), 0);
	spfile_force_dirty(f);
	assert_true(spfile_dirty(f));
	assert_int_equal(spfile_read(f, buf, 16, 0, NULL), 10);
	assert_memory_equal(buf, "0A2C456789", 10);
	commit_ok(f);
	expect_object(&e, "p/x/d", "0A2C456789", 10);
	/* the object was replaced by one of equal bytes: told so, the file stays based on what is there */
	w = commit_ok(f).v;
	env_put(&e, "p/x/d", "0A2C456789", 10, &v);
	assert_int_equal(spfile_rebase(f, &w, &v), 0);
	assert_int_equal(spfile_write(f, "Z", 1, 0), 0);
	commit_ok(f);
	expect_object(&e, "p/x/d", "ZA2C456789", 10);
	spfile_free(f);
	env_done(&e);
}

/* Puts the bytes again with a new etag, as a change of metadata of a large object does. */
static void put_metadata_copy(struct env *e, const char *key, const void *p, size_t n, const struct version *was,
			      struct version *ret)
{
	struct obj_headers h = { 0 };
	struct objerr err;
	char text[160];

	snprintf(text, sizeof(text), "%s %zu 77.000000000", was->etag, n);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-lsvd-was", text), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mtime", "77.000000000"), 0);
	*ret = (struct version){ .size = n };
	assert_int_equal(obj_put(e->mem, key, p, n, NULL, false, &h, ret->etag, &err), 0);
	obj_headers_free(&h);
}

/* A change of metadata, here or on another node, gives the base a new etag: no conflict, no lost source. */
static void test_base_changes_its_metadata(void **state)
{
	size_t n = 12 * PART;
	char *data = malloc(n), *got = malloc(n);
	struct version v, w;
	struct env e;
	struct spfile *f;
	uint64_t s = 4;

	env_init(&e);
	fill_rnd(&s, data, n);
	for (unsigned big = 0; big < 2; big++) {
		size_t k = big ? n : 3000;

		env_put(&e, "p/d/a", data, k, &v);
		f = new_file(&e, "a", &v, false);
		assert_int_equal(spfile_write(f, "12", 2, 1000), 0);
		memcpy(data + 1000, "12", 2);
		put_metadata_copy(&e, "p/d/a", data, k, &v, &w); /* (our two bytes are in it: the bytes below are not asked) */
		assert_int_equal(spfile_read(f, got, 500, 2000, NULL), 500);
		assert_memory_equal(got, data + 2000, 500);
		put_metadata_copy(&e, "p/d/a", data, k, &w, &v);
		commit_ok(f);
		expect_object(&e, "p/d/a", data, k);
		/* told twice while it is being written: the second is not to be seen from the object alone */
		assert_int_equal(spfile_write(f, "3", 1, 5), 0);
		data[5] = '3';
		v = (struct version){ 0 };
		assert_true(env_get(e.mem, "p/d/a", got, n, &v) > 0);
		put_metadata_copy(&e, "p/d/a", data, k, &v, &w);
		assert_int_equal(spfile_rebase(f, &v, &w), 0);
		put_metadata_copy(&e, "p/d/a", data, k, &w, &v);
		assert_int_equal(spfile_rebase(f, &w, &v), 0);
		commit_ok(f);
		expect_object(&e, "p/d/a", data, k);
		spfile_free(f);
	}
	env_done(&e);
	free(data);
	free(got);
}

/* Unlinked while open: goes on locally, never appears, leaves nothing, also when nobody comes back. */
static void test_nameless(void **state)
{
	struct spool_recovery n;
	struct version v;
	struct env e;
	struct spfile *f;
	char buf[8];

	env_init(&e);
	env_put(&e, "p/d/a", "01234", 5, &v);
	f = new_file(&e, "a", &v, false);
	assert_int_equal(spfile_read(f, buf, 8, 0, NULL), 5);
	assert_int_equal(spfile_write(f, "X", 1, 2), 0);
	assert_int_equal(spfile_nameless(f), 0);
	assert_int_equal(spfile_write(f, "Y", 1, 3), 0);
	assert_int_equal(spfile_read(f, buf, 8, 0, NULL), 5);
	assert_memory_equal(buf, "01XY4", 5);
	spfile_free(f); /* as a crash: its files stay */
	assert_int_equal(count_files(e.spool_dir, ".journal"), 1);
	assert_int_equal(spool_recover(e.s, &n, NULL, NULL), 0);
	assert_int_equal(n.parked + n.uploaded + n.already + n.failed, 0);
	assert_int_equal(count_files(e.spool_dir, ".journal") + count_files(e.spool_dir, ".data"), 0);
	expect_object(&e, "p/d/a", "01234", 5);
	env_done(&e);
}

/* Rename of a directory: the object is copied, the old key goes, the file is being written. */
static void test_move_with_its_object(void **state)
{
	size_t n = 6 * PART;
	char *data = malloc(n);
	struct version v, w;
	struct objerr err;
	struct env e;
	struct spfile *f;
	uint64_t s = 6;

	env_init(&e);
	fill_rnd(&s, data, n);
	env_put(&e, "p/d/a", data, n, &v);
	f = new_file(&e, "a", &v, false);
	assert_int_equal(spfile_write(f, "x", 1, 9), 0);
	env_put(&e, "p/new/a", data, n, &w);
	assert_int_equal(spfile_move(f, "new/", "a", &w, true), 0);
	assert_int_equal(obj_delete(e.mem, "p/d/a", NULL, &err), 0);
	data[9] = 'x';
	commit_ok(f);
	expect_object(&e, "p/new/a", data, n);
	assert_int_equal(env_get(e.mem, "p/d/a", NULL, 0, NULL), -ENOENT);
	spfile_free(f);
	env_done(&e);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_file),
		cmocka_unit_test(test_base_shines_through),
		cmocka_unit_test(test_base_is_gone),
		cmocka_unit_test_teardown(test_model, say_seed),
		cmocka_unit_test_teardown(test_model_with_faults, say_seed),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_conflict_removed),
		cmocka_unit_test(test_writers_and_committers),
		cmocka_unit_test(test_async),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_nameless),
		cmocka_unit_test(test_move_with_its_object),
		cmocka_unit_test(test_base_changes_its_metadata),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
