/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-base.c - objstore/base alone: links nothing else. */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "objstore/base/budget.h"
#include "objstore/base/clock.h"
#include "objstore/base/crc32c.h"
#include "objstore/base/lock.h"
#include "objstore/base/log.h"
#include "objstore/base/pool.h"
#include "objstore/base/str.h"
#include "objstore/base/table.h"
#include <cmocka.h>

/* --- base, str ---------------------------------------------------------------------------------------------------- */

static void test_io(void **state)
{
	char buf[16];
	FILE *f = tmpfile();
	int fd = fileno(f);

	assert_int_equal(base_pwrite_all(fd, "hello world", 11, 5), 0);
	assert_int_equal(base_pread_all(fd, buf, 11, 5), 0);
	assert_memory_equal(buf, "hello world", 11);
	assert_int_equal(base_pread_all(fd, buf, 12, 5), -ENODATA);
	assert_int_equal(base_pread_all(fd, buf, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(base_pread_all(-1, buf, 1, 0), -EBADF);
	fclose(f);
}

static void test_random(void **state)
{
	char a[201], b[201];

	base_random_hex(a, 100);
	base_random_hex(b, 100);
	assert_int_equal(strlen(a), 200);
	assert_int_equal(strspn(a, "0123456789abcdef"), 200);
	assert_string_not_equal(a, b);
}

static void test_str(void **state)
{
	struct str s = {0};
	char *z;

	assert_string_equal(str_c(&s), "");
	str_add(&s, "ab");
	str_addc(&s, 'c');
	str_addf(&s, "-%d-%s", 42, "a longer piece that makes the buffer grow a few times over its first size");
	str_addn(&s, "\0x", 2);
	assert_int_equal(s.len, strlen(s.p) + 2);
	assert_memory_equal(s.p, "abc-42-a longer", 15);
	str_reset(&s);
	assert_string_equal(str_c(&s), "");
	str_add_pct(&s, "a/b c%~\xc3\xa9+", 10, true);
	assert_string_equal(str_c(&s), "a/b%20c%25~%C3%A9%2B");
	assert_int_equal(str_take(&s, &z), 0);
	assert_null(s.p);
	assert_int_equal(str_pct_decode(z), 10);
	assert_string_equal(z, "a/b c%~\xc3\xa9+");
	free(z);
	str_add_pct(&s, "a/b", 3, false);
	assert_string_equal(str_c(&s), "a%2Fb");
	s.err = -ENOMEM;
	str_add(&s, "x");
	assert_int_equal(s.len, 5);
	assert_int_equal(str_take(&s, &z), -ENOMEM);
	assert_null(s.p);
	assert_int_equal(str_take(&s, &z), 0);
	assert_string_equal(z, "");
	free(z);
}

static void test_pct_bad(void **state)
{
	const char *bad[] = {"%", "a%4", "%zz", "%4", "%%41", "x%4g"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *s = strdup(bad[i]);

		assert_int_equal(str_pct_decode(s), -EINVAL);
		free(s);
	}
}

static void test_numbers(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint64_t v;
	} t[] = {
		{"0", 0, 0},
		{"10", 0, 10},
		{"10B", 0, 10},
		{"10K", 0, 10240},
		{"10k", 0, 10240},
		{"10KiB", 0, 10240},
		{"10KB", 0, 10240},
		{"1.5G", 0, 1610612736},
		{"0.5M", 0, 524288},
		{"1T", 0, 1ULL << 40},
		{"16777215T", 0, 16777215ULL << 40},
		{"16777216T", -ERANGE, 0},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"1.5", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"K", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1.K", -EINVAL, 0},
		{"1KK", -EINVAL, 0},
		{"1Ki", -EINVAL, 0},
		{"1X", -EINVAL, 0},
	};
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		v = 77;
		if (str_parse_size(t[i].s, &v) != t[i].r || v != (t[i].r == 0 ? t[i].v : 77))
			fail_msg("size \"%s\"", t[i].s);
	}
	assert_int_equal(str_parse_u64("18446744073709551615", &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(str_parse_u64("18446744073709551616", &v), -ERANGE);
	assert_int_equal(str_parse_u64("12x", &v), -EINVAL);
	assert_int_equal(str_parse_u64("", &v), -EINVAL);
	assert_int_equal(str_parse_u64("+1", &v), -EINVAL);
}

static void test_age(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint64_t v;
	} t[] = {
		{"0", 0, 0}, {"90", 0, 90}, {"90s", 0, 90}, {"15m", 0, 900}, {"12h", 0, 43200}, {"7d", 0, 604800},
		{"2w", 0, 1209600}, {"", -EINVAL, 0}, {"d", -EINVAL, 0}, {"-1", -EINVAL, 0}, {"1.5h", -EINVAL, 0},
		{"1y", -EINVAL, 0}, {"1dd", -EINVAL, 0}, {"1 d", -EINVAL, 0}, {"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0}, {"18446744073709551615m", -ERANGE, 0},
	};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		v = 77;
		if (str_parse_age(t[i].s, &v) != t[i].r || v != (t[i].r == 0 ? t[i].v : 77))
			fail_msg("age \"%s\"", t[i].s);
	}
}

static void test_utf8(void **state)
{
	static const struct {
		const char *s;
		bool ok;
	} t[] = {
		{"", true},	       {"plain", true},		  {"\xc3\xa9", true},	     {"\xe2\x82\xac", true},
		{"\xf0\x9f\x98\x80", true}, {"\xf4\x8f\xbf\xbf", true}, {"\xc3", false},	     {"\x80", false},
		{"\xc0\xaf", false},   {"\xe0\x80\xaf", false},
		{"\xed\xa0\x80", false},   {"\xf4\x90\x80\x80", false},
		{"\xf5\x80\x80\x80", false}, {"\xff", false},	  {"\xe2\x82", false},	     {"\xe2\x28\xa1", false},
		{"a\xc3\xa9z", true},  {"a\xc3z", false},	  {"\xf0\x8f\xbf\xbf", false}, {"\xee\x80\x80", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (str_is_utf8(t[i].s, strlen(t[i].s)) != t[i].ok)
			fail_msg("utf8 case %zu", i);
}

static void test_printable(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {{"", ""},
		 {"plain \xc3\xa9 \xf0\x9f\x98\x80", "plain \xc3\xa9 \xf0\x9f\x98\x80"},
		 {"a\nb\x1b[2J\x7f", "a?b?[2J?"},
		 {"c1 \xc2\x9b" "31m \xc2\xa0", "c1 ??31m \xc2\xa0"}, /* CSI in UTF-8; a no-break space is none */
		 {"cut \xc3", "cut ?"},
		 {"\xff\xed\xa0\x80", "????"}};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char *s = strdup(t[i].in);

		assert_non_null(s);
		str_make_printable(s);
		assert_string_equal(s, t[i].out);
		free(s);
	}
}

static void test_str_small(void **state)
{
	char d[4] = "xy";

	assert_int_equal(str_copy(d, sizeof(d), "abcd"), -ENAMETOOLONG);
	assert_string_equal(d, "xy");
	assert_int_equal(str_copy(d, sizeof(d), "abc"), 0);
	assert_string_equal(d, "abc");
	assert_true(str_has_prefix("abc", "ab"));
	assert_false(str_has_prefix("ab", "abc"));
	assert_true(str_has_suffix("abc", "bc"));
	assert_false(str_has_suffix("c", "bc"));
}

/* --- crc, clock, log ---------------------------------------------------------------------------------------------- */

static void test_crc32c(void **state)
{
	/* RFC 3720 appendix B.4. */
	unsigned char b[32];
	char big[10000]; /* several times three lanes, and what is left */

	memset(b, 0, sizeof(b));
	assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
	memset(b, 0xff, sizeof(b));
	assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		b[i] = (unsigned char)i;
	assert_int_equal(crc32c(0, b, 32), 0x46dd794e);
	for (int i = 0; i < 32; i++)
		b[i] = (unsigned char)(31 - i);
	assert_int_equal(crc32c(0, b, 32), 0x113fdb5c);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	base_random(big, sizeof(big));
	for (size_t cut = 0; cut <= sizeof(big); cut += 97) {
		uint32_t whole = crc32c(0, big, sizeof(big));

		assert_int_equal(crc32c(crc32c(0, big, cut), big + cut, sizeof(big) - cut), whole);
		assert_int_equal(crc32c_by_table(crc32c_by_table(0, big, cut), big + cut, sizeof(big) - cut), whole);
	}
}

static int64_t fake_now(void *arg)
{
	return *(_Atomic int64_t *)arg;
}

static void *sleeper(void *arg)
{
	clock_sleep_ns(3600 * NSEC_PER_SEC);
	*(_Atomic int *)arg = 1;
	return NULL;
}

static void test_clock(void **state)
{
	_Atomic int64_t now = 1000;
	_Atomic int woke = 0;
	struct mtx m;
	struct cond c;
	pthread_t t;
	int64_t a = clock_now_ns();

	assert_true(clock_now_ns() >= a);
	assert_true(clock_real_ns() > 1600000000 * NSEC_PER_SEC);
	clock_replace(fake_now, &now);
	assert_int_equal(clock_now_ns(), 1000);
	assert_int_equal(clock_real_ts().tv_nsec, 1000);
	assert_int_equal(pthread_create(&t, NULL, sleeper, &woke), 0);
	assert_int_equal(woke, 0);
	mtx_init(&m, RANK_WAIT);
	cond_init(&c);
	mtx_lock(&m);
	assert_int_equal(cond_wait_until(&c, &m, 1000), -ETIMEDOUT);
	assert_int_equal(cond_wait_until(&c, &m, 2000), 0); /* the fake hour stands still: woken, but not by time */
	/* The sleeper may read its start before or after the move; two hours cover both. */
	while (woke == 0)
		now += 3600 * NSEC_PER_SEC;
	assert_int_equal(cond_wait_until(&c, &m, 2000), -ETIMEDOUT);
	mtx_unlock(&m);
	pthread_join(t, NULL);
	clock_replace(NULL, NULL);
	mtx_lock(&m);
	a = clock_now_ns();
	while (cond_wait_until(&c, &m, a + 2 * NSEC_PER_MSEC) == 0)
		;
	assert_true(clock_now_ns() >= a + 2 * NSEC_PER_MSEC);
	mtx_unlock(&m);
	cond_destroy(&c);
	mtx_destroy(&m);
}

static void test_backoff(void **state)
{
	for (unsigned i = 1; i < 100; i++) {
		int64_t lo = clock_backoff_ns(i, 100, 5000, 0), hi = clock_backoff_ns(i, 100, 5000, UINT32_MAX);
		int64_t whole = i > 6 ? 5000 : 100 << (i - 1);

		assert_int_equal(lo, whole / 2);
		assert_in_range(hi, whole - 1, whole);
	}
}

static void test_log(void **state)
{
	_Atomic int64_t now = 5 * NSEC_PER_SEC, last = 0;
	enum log_level l = LOG_L_INFO;
	char buf[256] = "";
	int p[2], old = dup(2);

	assert_int_equal(log_parse_level("debug", &l), 0);
	assert_int_equal(l, LOG_L_DEBUG);
	assert_int_equal(log_parse_level("loud", &l), -EINVAL);
	assert_int_equal(pipe(p), 0);
	dup2(p[1], 2);
	log_setup(LOG_TO_STDERR, LOG_L_WARN);
	errno = EXDEV;
	log_info("not %s", "seen");
	log_debug("%d", 1);
	log_warn("two\nlines %d", 7);
	assert_int_equal(errno, EXDEV);
	dup2(old, 2);
	close(old);
	close(p[1]);
	assert_true(read(p[0], buf, sizeof(buf) - 1) > 0);
	assert_string_equal(buf, "lsvdfs: two lines 7\n");
	close(p[0]);
	log_set_level(LOG_L_INFO);
	clock_replace(fake_now, &now);
	assert_true(log_every(&last, NSEC_PER_SEC));
	assert_false(log_every(&last, NSEC_PER_SEC));
	now += NSEC_PER_SEC;
	assert_true(log_every(&last, NSEC_PER_SEC));
	clock_replace(NULL, NULL);
}

/* --- table -------------------------------------------------------------------------------------------------------- */

struct item {
	struct hnode h;
	struct list l;
	unsigned key;
};

static struct item *find(struct htab *t, unsigned key)
{
	for (struct hnode *n = htab_first(t, hash_u64(key)); n != NULL; n = htab_next(n))
		if (container_of(n, struct item, h)->key == key)
			return container_of(n, struct item, h);
	return NULL;
}

static void drop_odd(struct hnode *n, void *arg)
{
	if (container_of(n, struct item, h)->key % 2 == 1)
		htab_del(arg, n);
}

static void test_table(void **state)
{
	struct htab t;
	struct item *it = calloc(5000, sizeof(*it));
	struct list head;
	unsigned n = 0;

	assert_int_equal(htab_init(&t), 0);
	for (unsigned i = 0; i < 5000; i++) {
		it[i].key = i;
		htab_add(&t, &it[i].h, hash_u64(i));
	}
	assert_true(t.nbuckets >= 4096);
	for (unsigned i = 0; i < 5000; i++)
		assert_ptr_equal(find(&t, i), &it[i]);
	assert_null(find(&t, 5000));
	htab_each(&t, drop_odd, &t);
	assert_int_equal(t.n, 2500);
	for (unsigned i = 0; i < 5000; i++)
		assert_true((find(&t, i) != NULL) == (i % 2 == 0));
	htab_done(&t);
	list_init(&head);
	for (unsigned i = 0; i < 4; i++)
		list_add_tail(&head, &it[i].l);
	list_for_each_safe(p, tmp, &head) if (list_entry(p, struct item, l)->key % 2 == 0) list_del(p);
	list_for_each(p, &head) n = n * 10 + list_entry(p, struct item, l)->key;
	assert_int_equal(n, 13);
	free(it);
	assert_true(hash_bytes("abc", 3, 1) != hash_bytes("abc", 3, 2));
	assert_true(hash_bytes("abc", 3, 1) != hash_bytes("abc\0", 4, 1));
	assert_true(hash_bytes("12345678", 8, 1) == hash_bytes("12345678", 8, 1));
}

/* --- locks -------------------------------------------------------------------------------------------------------- */

static void test_lock_order(void **state)
{
	struct mtx a, b;

	mtx_init(&a, RANK_FILE);
	mtx_init(&b, RANK_TREE);
	mtx_lock(&a);
	mtx_lock(&b);
	mtx_unlock(&a); /* any order of unlocking */
	mtx_unlock(&b);
	mtx_lock(&b);
	mtx_unlock(&b);
#if LSVD_DEBUG + 0
	for (int same = 0; same < 3; same++) {
		pid_t pid = fork();
		int st;

		assert_true(pid >= 0);
		if (pid == 0) {
			struct mtx b2;

			if (freopen("/dev/null", "w", stderr) == NULL)
				_exit(3);
			mtx_init(&b2, RANK_TREE);
			if (same < 2) {
				mtx_lock(&b);
				mtx_lock(same == 1 ? &b2 : &a);
			} else {
				mtx_unlock(&a);
			}
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &st, 0), pid);
		assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT);
	}
#endif
	mtx_destroy(&a);
	mtx_destroy(&b);
}

/* --- pool, budget ------------------------------------------------------------------------------------------------- */

struct cjob {
	struct job j;
	struct pool *again; /* submits itself once more there */
	_Atomic unsigned *count;
	struct mtx *m; /* waits for *open under it */
	struct cond *c;
	unsigned *open, *arrived;
};

static void count_job(struct job *j)
{
	struct cjob *c = container_of(j, struct cjob, j);

	if (c->m != NULL) {
		mtx_lock(c->m);
		(*c->arrived)++;
		cond_broadcast(c->c);
		while (*c->open == 0)
			cond_wait(c->c, c->m);
		mtx_unlock(c->m);
	}
	(*c->count)++;
	if (c->again != NULL) {
		struct pool *p = c->again;

		c->again = NULL;
		pool_submit(p, &c->j);
	}
}

static void test_pool(void **state)
{
	struct cjob job[100] = {0};
	struct pool *p;
	struct mtx m;
	struct cond c;
	_Atomic unsigned count = 0;
	unsigned open = 0, arrived = 0;

	mtx_init(&m, RANK_WAIT);
	cond_init(&c);
	assert_int_equal(pool_new("a-name-that-is-too-long", 4, &p), 0);
	for (size_t i = 0; i < ARRAY_SIZE(job); i++) {
		job[i] = (struct cjob){.j.fn = count_job, .count = &count, .m = &m, .c = &c, .open = &open,
				       .arrived = &arrived, .again = p};
		pool_submit(p, &job[i].j);
	}
	mtx_lock(&m);
	while (arrived < 4) /* all four threads run at once */
		cond_wait(&c, &m);
	assert_int_equal(arrived, 4);
	mtx_unlock(&m);
	assert_int_equal(pool_busy(p), 100);
	mtx_lock(&m);
	open = 1;
	cond_broadcast(&c);
	mtx_unlock(&m);
	pool_free(p);
	assert_int_equal(count, 200);
	pool_free(NULL);
	cond_destroy(&c);
	mtx_destroy(&m);
}

struct taker {
	struct budget *b;
	uint64_t n;
	_Atomic int done;
	pthread_t t;
};

static void *take_thread(void *arg)
{
	struct taker *t = arg;

	budget_take(t->b, t->n);
	t->done = 1;
	return NULL;
}

static uint64_t reclaim_cb(void *arg, uint64_t n)
{
	struct taker *t = arg;
	uint64_t k = MIN(n, t->n);

	if (k > 0)
		budget_give(t->b, k);
	t->n -= k;
	return k;
}

static void test_budget(void **state)
{
	struct budget *b;
	struct taker big = {0}, cache = {0};

	assert_int_equal(budget_new(100, &b), 0);
	assert_true(budget_try(b, 60));
	assert_false(budget_try(b, 41));
	big = (struct taker){.b = b, .n = 500};
	assert_int_equal(pthread_create(&big.t, NULL, take_thread, &big), 0);
	while (budget_try(b, 1)) /* fails once the big one is queued */
		budget_give(b, 1);
	assert_int_equal(big.done, 0);
	budget_give(b, 60);
	pthread_join(big.t, NULL);
	assert_int_equal(budget_used(b), 500);
	assert_false(budget_try(b, 1));
	budget_give(b, 500);
	assert_int_equal(budget_peak(b), 500);
	assert_int_equal(budget_total(b), 100);
	budget_take(b, 90);
	cache = (struct taker){.b = b, .n = 90};
	budget_set_reclaim(b, reclaim_cb, &cache);
	budget_take(b, 50); /* 40 are reclaimed */
	assert_int_equal(cache.n, 50);
	assert_int_equal(budget_used(b), 100);
	budget_set_reclaim(b, NULL, NULL);
	budget_give(b, 100);
	budget_free(b);
}

static void test_budget_bufs(void **state)
{
#ifdef __SANITIZE_ADDRESS__
	skip(); /* nothing is kept there */
#endif
	struct budget *b;
	void *p[20], *again;

	assert_int_equal(budget_new(24 * MiB, &b), 0);
	budget_take(b, MiB); /* something else is in use */
	for (int i = 0; i < 20; i++) {
		budget_take(b, MiB);
		p[i] = budget_buf(b, MiB);
		assert_non_null(p[i]);
	}
	for (int i = 0; i < 20; i++) {
		budget_buf_free(b, p[i], MiB);
		assert_true(budget_used(b) + budget_kept(b) <= 24 * MiB);
	}
	assert_int_equal(budget_used(b), MiB);
	assert_int_equal(budget_kept(b), 16 * MiB); /* not all 20 */
	budget_take(b, MiB);
	again = budget_buf(b, MiB);
	assert_ptr_equal(again, p[19]);
	assert_int_equal(budget_kept(b), 15 * MiB);
	budget_take(b, 2 * MiB);
	p[0] = budget_buf(b, 2 * MiB); /* another size: none of these */
	assert_int_equal(budget_kept(b), 15 * MiB);
	budget_buf_free(b, p[0], 2 * MiB); /* makes room among them */
	assert_int_equal(budget_kept(b), 16 * MiB);
	assert_true(budget_try(b, 20 * MiB)); /* kept ones never keep a taker waiting */
	assert_true(budget_kept(b) <= 2 * MiB);
	budget_give(b, 20 * MiB);
	budget_buf_free(b, again, MiB);
	assert_true(budget_kept(b) > 0);
	budget_give(b, MiB); /* the last: idle, nothing is kept */
	assert_int_equal(budget_used(b), 0);
	assert_int_equal(budget_kept(b), 0);
	budget_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_io),	   cmocka_unit_test(test_random),    cmocka_unit_test(test_str),
		cmocka_unit_test(test_pct_bad),	   cmocka_unit_test(test_numbers),   cmocka_unit_test(test_age), cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_printable),
		cmocka_unit_test(test_str_small),  cmocka_unit_test(test_crc32c),    cmocka_unit_test(test_clock),
		cmocka_unit_test(test_backoff),	   cmocka_unit_test(test_log),	     cmocka_unit_test(test_table),
		cmocka_unit_test(test_lock_order), cmocka_unit_test(test_pool),	     cmocka_unit_test(test_budget),
		cmocka_unit_test(test_budget_bufs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
