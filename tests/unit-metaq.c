/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-metaq.c - the queue of metadata changes over a tree that the test plays itself. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/metaq.h"
#include "objstore/base/clock.h"
#include "objstore/base/log.h"

/* --- the disk: what it holds of a file when the power goes --------------------------------------------------------- */

static struct {
	bool on;
	char path[96];
	unsigned syncs;
	unsigned char b[1 << 16]; /* of the journal at its last fdatasync, or rename */
	size_t n;
} D;

static size_t read_fd(int fd, void *p, size_t max)
{
	ssize_t n = pread(fd, p, max, 0);

	assert_true(n >= 0 && (size_t)n < max);
	return (size_t)n;
}

/* The file that was synced: the journal, or the new one that will have its name. */
static struct {
	ino_t ino;
	unsigned char b[sizeof(D.b)];
	size_t n;
} new_file;

int fdatasync(int fd)
{
	struct stat st, cur;

	if (!D.on)
		return 0;
	assert_int_equal(fstat(fd, &st), 0);
	D.syncs++;
	if (stat(D.path, &cur) == 0 && cur.st_ino == st.st_ino) {
		D.n = read_fd(fd, D.b, sizeof(D.b));
	} else {
		new_file.ino = st.st_ino;
		new_file.n = read_fd(fd, new_file.b, sizeof(new_file.b));
	}
	return 0;
}

int rename(const char *from, const char *to)
{
	struct stat st;

	if (D.on && strcmp(to, D.path) == 0) { /* the name may be on the disk before the bytes are */
		assert_int_equal(stat(from, &st), 0);
		D.n = new_file.ino == st.st_ino ? new_file.n : 0;
		memcpy(D.b, new_file.b, D.n);
	}
	return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

static void power_cut(void)
{
	int fd = open(D.path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, D.b, D.n), D.n);
	close(fd);
}

/* --- the tree: one object, "d/f" ---------------------------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct version v;	/* that is there */
	struct obj_headers h;
	unsigned sent, etag_no;
	int fail;		/* status of the next sendings, 0 = none */
	unsigned nfail;
	bool hold;		/* sendings wait */
	unsigned holding;
	unsigned done_ok, done_err;
	char done_etag[OBJ_ETAG_MAX];
	bool done_found;
} T = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

int tree_put_headers(struct tree *t, const char *dir, const char *name, bool is_dir, const struct version *base,
		     const struct obj_headers *h, struct version *ret, struct version *ret_found, struct objerr *err)
{
	int r = 0;

	pthread_mutex_lock(&T.lock);
	T.holding++;
	pthread_cond_broadcast(&T.cond);
	while (T.hold)
		pthread_cond_wait(&T.cond, &T.lock);
	T.holding--;
	T.sent++;
	if (T.nfail > 0) {
		T.nfail--;
		r = T.fail;
	} else if (strcmp(base->etag, T.v.etag) != 0) {
		if (ret_found)
			*ret_found = T.v;
		r = -ESTALE;
	} else {
		assert_int_equal(obj_headers_copy(&T.h, h), 0);
		snprintf(T.v.etag, sizeof(T.v.etag), "e%u", ++T.etag_no);
		*ret = T.v;
	}
	pthread_cond_broadcast(&T.cond);
	pthread_mutex_unlock(&T.lock);
	return r;
}

int tree_lookup(struct tree *t, const char *dir, const char *name, unsigned flags, struct entry *ret, struct objerr *err)
{
	static const struct attr_defaults def = { .file_mode = 0644 };

	assert_int_equal(flags, TREE_FRESH | TREE_ATTRS);
	memset(ret, 0, sizeof(*ret));
	pthread_mutex_lock(&T.lock);
	ret->v = T.v;
	assert_int_equal(obj_headers_copy(&ret->headers, &T.h), 0);
	pthread_mutex_unlock(&T.lock);
	attr_from_headers(&ret->headers, false, 0, 7, &def, &ret->attr);
	return 0;
}

void entry_done(struct entry *e)
{
	obj_headers_free(&e->headers);
}

static void done(void *arg, const char *dir, const char *name, bool is_dir, int status, const struct version *base,
		 const struct version *v, const struct version *found, const struct obj_headers *h)
{
	pthread_mutex_lock(&T.lock);
	if (status == 0) {
		T.done_ok++;
		T.done_found = found != NULL;
		snprintf(T.done_etag, sizeof(T.done_etag), "%s", v->etag);
	} else {
		T.done_err++;
	}
	pthread_cond_broadcast(&T.cond);
	pthread_mutex_unlock(&T.lock);
}

/* --- */

static char dir[64], path[96];

static struct metaq *open_queue(int64_t delay_ns)
{
	struct metaq_opts o = { .path = path, .delay_ns = delay_ns, .workers = 4, .done = done };
	struct metaq *q;
	struct objerr err;

	assert_int_equal(metaq_open(&o, &q, &err), 0);
	return q;
}

static struct obj_headers mode_headers(const char *mode, const char *mtime)
{
	struct obj_headers h = { 0 };

	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mode", mode), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-uid", "5"), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-gid", "6"), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mtime", mtime), 0);
	return h;
}

static void put_set(struct metaq *q, const char *name, const struct version *base, const char *mode, unsigned set)
{
	struct obj_headers h = mode_headers(mode, "1.000000000");

	assert_int_equal(metaq_put(q, "d/", name, false, base, &h, set), 0);
	obj_headers_free(&h);
}

static void put(struct metaq *q, const char *name, const struct version *base, const char *mode)
{
	put_set(q, name, base, mode, METAQ_SET_ALL);
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/lsvd-metaq-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/metaq", dir);
	obj_headers_free(&T.h);
	T.v = (struct version){ .etag = "e0", .size = 3 };
	T.sent = T.etag_no = T.nfail = T.done_ok = T.done_err = 0;
	T.hold = false;
	D.on = false;
	D.n = D.syncs = 0;
	snprintf(D.path, sizeof(D.path), "%s", path);
	log_set_level(LOG_L_ERROR);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void test_join_and_sync(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct obj_headers h = { 0 };

	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	put(q, "f", &T.v, "33188");
	put(q, "f", &T.v, "33152");
	assert_int_equal(metaq_count(q), 1);
	assert_int_equal(metaq_peek(q, "d/", "f", false, &h), 0);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-mode"), "33152");
	assert_int_equal(metaq_peek(q, "d/", "f", true, &h), -ENOENT);
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	assert_int_equal(T.sent, 1);
	assert_int_equal(T.done_ok, 1);
	assert_false(T.done_found);
	assert_string_equal(T.done_etag, "e1");
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	assert_int_equal(metaq_count(q), 0);
	obj_headers_free(&h);
	metaq_close(q);
}

static void test_due_by_itself(void **state)
{
	struct metaq *q = open_queue(20 * NSEC_PER_MSEC);

	put(q, "f", &T.v, "33188");
	pthread_mutex_lock(&T.lock);
	while (T.done_ok == 0)
		pthread_cond_wait(&T.cond, &T.lock);
	pthread_mutex_unlock(&T.lock);
	metaq_close(q);
}

static void test_take(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct obj_headers h = { 0 };

	put(q, "f", &T.v, "33188");
	assert_int_equal(metaq_take(q, "d/", "f", false, &h), 0);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-mode"), "33188");
	assert_int_equal(metaq_take(q, "d/", "f", false, NULL), -ENOENT);
	assert_int_equal(metaq_count(q), 0);
	metaq_close(q);
	q = open_queue(0);
	assert_int_equal(metaq_count(q), 0);
	metaq_close(q);
	assert_int_equal(T.sent, 0);
	obj_headers_free(&h);
}

static void *sync_thread(void *arg)
{
	return (void *)(intptr_t)metaq_sync(arg, "d/", "f", false, NULL);
}

/* A put while the entry is being sent: goes out again, on the version that the first sending made. */
static void test_overtaken(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct version base = T.v;
	pthread_t t;
	void *r;

	put(q, "f", &base, "33188");
	T.hold = true;
	assert_int_equal(pthread_create(&t, NULL, sync_thread, q), 0);
	pthread_mutex_lock(&T.lock);
	while (T.holding == 0)
		pthread_cond_wait(&T.cond, &T.lock);
	pthread_mutex_unlock(&T.lock);
	put(q, "f", &base, "33152");
	pthread_mutex_lock(&T.lock);
	T.hold = false;
	pthread_cond_broadcast(&T.cond);
	pthread_mutex_unlock(&T.lock);
	pthread_join(t, &r);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	assert_int_equal(T.sent, 2);
	assert_int_equal(T.done_ok, 2);
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	metaq_close(q);
}

static void test_network_error(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);

	T.fail = -ETIMEDOUT;
	T.nfail = 2;
	put(q, "f", &T.v, "33188");
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), -ETIMEDOUT);
	assert_int_equal(metaq_count(q), 1);
	assert_int_equal(metaq_sync_below(q, "d/", NULL), -ETIMEDOUT);
	assert_int_equal(metaq_sync_below(q, "x/", NULL), 0);
	assert_int_equal(metaq_sync_below(q, "", NULL), 0);
	assert_int_equal(metaq_count(q), 0);
	assert_int_equal(T.done_ok, 1);
	metaq_close(q);
}

/* Other bytes: mode and owner go onto the new object, times do not. */
static void test_merge(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct version old = { .etag = "older", .size = 3 };

	T.h = mode_headers("33188", "99.000000000");
	put(q, "f", &old, "33152");
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	assert_int_equal(T.sent, 2);
	assert_true(T.done_found); /* what is there now has foreign bytes */
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mtime"), "99.000000000");
	/* and when that is overtaken as well: given up */
	T.fail = -ESTALE;
	T.nfail = 2;
	put(q, "f", &old, "33188");
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), -ESTALE);
	assert_int_equal(T.done_err, 1);
	assert_int_equal(metaq_count(q), 0);
	metaq_close(q);
}

/* Only what was set here goes onto another client's version: its own mode may be narrower than the one known here. */
static void test_merge_what_was_set(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct version old = { .etag = "older", .size = 3 };

	T.h = mode_headers("33152", "99.000000000");
	put_set(q, "f", &old, "33261", ATTR_UID); /* chown */
	put_set(q, "f", &old, "33261", 0);	  /* and touch */
	assert_int_equal(obj_headers_set(&T.h, "x-amz-meta-uid", "77"), 0);
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-uid"), "5");
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mtime"), "99.000000000");
	T.sent = 0;
	put_set(q, "f", &old, "33261", 0); /* touch alone: its own time is the right one */
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), -ESTALE);
	assert_int_equal(T.sent, 1); /* refused, and nothing after it */
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	metaq_close(q);
}

/* A restart sends what waits, if its base still holds; else drops it without touching the object. */
static void test_restart(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct version old = { .etag = "older", .size = 3 };
	struct stat st;

	put(q, "f", &T.v, "33188");
	put(q, "f", &T.v, "33152");
	metaq_close(q);
	q = open_queue(0);
	assert_int_equal(metaq_sync_below(q, "", NULL), 0);
	assert_int_equal(T.done_ok, 1);
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	metaq_close(q);
	q = open_queue(3600 * NSEC_PER_SEC);
	assert_int_equal(metaq_count(q), 0);
	put(q, "f", &old, "33188");
	metaq_close(q);
	assert_int_equal(stat(path, &st), 0);
	/* a torn record at the end is no harm */
	assert_int_equal(truncate(path, st.st_size + 5), 0);
	q = open_queue(0);
	(void)!metaq_sync_below(q, "", NULL); /* may have been given up already */
	assert_int_equal(T.done_err, 1);
	assert_string_equal(obj_headers_get(&T.h, "x-amz-meta-mode"), "33152");
	assert_int_equal(metaq_count(q), 0);
	metaq_close(q);
}

/* The journal stays small under many changes. */
static void test_compaction(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct obj_headers h = { 0 };
	struct stat st;

	for (int i = 0; i < 20000; i++)
		put(q, i % 2 ? "f" : "g", &T.v, i % 4 < 2 ? "33188" : "33152");
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 1, 1200 * 1024);
	metaq_close(q);
	T.hold = true; /* a restart sends at once: they wait there */
	q = open_queue(3600 * NSEC_PER_SEC);
	assert_int_equal(metaq_count(q), 2);
	assert_int_equal(metaq_peek(q, "d/", "f", false, &h), 0);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-mode"), "33152");
	pthread_mutex_lock(&T.lock);
	T.hold = false;
	pthread_cond_broadcast(&T.cond);
	pthread_mutex_unlock(&T.lock);
	(void)!metaq_sync_below(q, "", NULL); /* the object has one base: the second entry is given up */
	assert_int_equal(T.done_ok + T.done_err, 2);
	assert_int_equal(metaq_count(q), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_in_range(st.st_size, 1, 256);
	obj_headers_free(&h);
	metaq_close(q);
}

/* A sync promises: what it sent, and all that was before, does not come back and undo what comes later. */
static void test_power_cut_after_sync(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct obj_headers h = { 0 };

	D.on = true;
	put(q, "f", &T.v, "33152");
	D.n = 0;
	{ /* the kernel writes pages back when it likes */
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		D.n = read_fd(fd, D.b, sizeof(D.b));
		close(fd);
	}
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	assert_int_equal(T.sent, 1);
	D.syncs = 0;
	assert_int_equal(metaq_sync(q, "d/", "f", false, NULL), 0);
	assert_int_equal(D.syncs, 0); /* nothing has changed since */
	metaq_close(q);
	power_cut();
	T.hold = true;
	q = open_queue(0);
	assert_int_equal(metaq_peek(q, "d/", "f", false, &h), -ENOENT);
	assert_int_equal(metaq_count(q), 0);
	T.hold = false;
	metaq_close(q);
}

/* What waited for long is there whenever the power goes, also while the journal is written anew. */
static void test_power_cut_after_rewrite(void **state)
{
	struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
	struct obj_headers h = { 0 };
	struct stat st, now;

	put(q, "waits", &T.v, "33152");
	assert_int_equal(stat(path, &st), 0);
	D.on = true;
	do {
		put(q, "f", &T.v, "33188");
		assert_int_equal(stat(path, &now), 0);
	} while (now.st_ino == st.st_ino);
	metaq_close(q);
	power_cut();
	T.hold = true;
	q = open_queue(3600 * NSEC_PER_SEC);
	assert_int_equal(metaq_count(q), 2);
	assert_int_equal(metaq_peek(q, "d/", "waits", false, &h), 0);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-mode"), "33152");
	obj_headers_free(&h);
	pthread_mutex_lock(&T.lock);
	T.hold = false;
	pthread_cond_broadcast(&T.cond);
	pthread_mutex_unlock(&T.lock);
	metaq_close(q);
}

/* Pages reach the disk in any order: one that did not takes only its own records with it. */
static void test_lost_page(void **state)
{
	enum { N = 160, PAGE = 4096 };
	static unsigned char zero[PAGE];
	struct stat st;
	char damaged[128];

	snprintf(damaged, sizeof(damaged), "%s.damaged", path);
	for (off_t lost = 0; lost < 4 * PAGE; lost += PAGE) {
		struct metaq *q = open_queue(3600 * NSEC_PER_SEC);
		struct obj_headers h = { 0 };
		unsigned found = 0, first = N;
		off_t end[N];
		char name[16];
		int fd;

		for (int i = 0; i < N; i++) {
			snprintf(name, sizeof(name), "f%d", i);
			put(q, name, &T.v, "33152");
			assert_int_equal(stat(path, &st), 0);
			end[i] = st.st_size;
		}
		assert_true(st.st_size > 5 * PAGE);
		metaq_close(q);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, zero, PAGE, lost), PAGE);
		close(fd);
		T.hold = true;
		q = open_queue(3600 * NSEC_PER_SEC);
		for (int i = 0; i < N; i++) {
			bool hit = end[i] > lost && (i ? end[i - 1] : 0) < lost + PAGE;

			snprintf(name, sizeof(name), "f%d", i);
			assert_int_equal(metaq_peek(q, "d/", name, false, &h), hit ? -ENOENT : 0);
			found += !hit;
			if (hit && first == N)
				first = (unsigned)i;
			obj_headers_free(&h);
		}
		assert_true(first < N && found > N / 2);
		assert_int_equal(metaq_count(q), found);
		assert_int_equal(stat(damaged, &st), 0);
		pthread_mutex_lock(&T.lock);
		T.hold = false;
		pthread_cond_broadcast(&T.cond);
		pthread_mutex_unlock(&T.lock);
		(void)!metaq_sync_below(q, "", NULL); /* one object has one base: most are given up */
		metaq_close(q);
		unlink(path);
	}
	unlink(damaged);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_join_and_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_due_by_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overtaken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_network_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_what_was_set, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_compaction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_power_cut_after_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_power_cut_after_rewrite, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_page, setup, teardown),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	obj_headers_free(&T.h);
	return r;
}
