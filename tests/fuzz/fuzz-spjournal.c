/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-spjournal.c - any bytes as a spool journal: replay ends with 0, -EBADMSG or -ENOMEM, and a file that was
 * accepted keeps the invariants that the rest of the spool builds on. The same bytes as the journal of waiting metadata:
 * what was read, from a damaged one what can be read, is what a journal written anew says.
 *
 * Built for libFuzzer with --enable-fuzz; else a program that make check runs: files given as arguments, then seeded
 * mutations of a journal with every kind of record, checksums put right so that they get past the door.
 */
#include "config.h"
#include "fs/metaq.c" /* for what only it sees: entries under replay, without a tree and threads */
#include "fs/spool-private.h"
#include "fs/spplan.h"
#include "fuzz.h"
#include "objstore/base/crc32c.h"

static struct spool *fake_spool(void)
{
	static char prefix[] = "p/";
	static struct spool s = { .prefix = prefix, .dirfd = -1, .parked_fd = -1 };
	static bool ready;

	if (!ready) {
		mtx_init(&s.lock, RANK_SPOOL);
		list_init(&s.files);
		ready = true;
	}
	return &s;
}

static void check_file(const struct spfile *f)
{
	uint64_t a, b;

	check(f->state >= SP_OPEN && f->state < SP_NSTATES);
	check(f->key && f->dir && f->name);
	check(f->base_limit <= f->same_limit);
	for (uint64_t pos = 0; ranges_find(&f->have, pos, &a, &b); pos = b)
		check(a < b && b <= f->base_limit);
	for (uint64_t pos = 0; ranges_find(&f->dirty, pos, &a, &b); pos = b)
		check(a < b && b <= f->same_limit);
	if (f->mpu) {
		for (size_t i = 1; i < f->mpu->nparts; i++)
			check(f->mpu->part[i - 1].number < f->mpu->part[i].number);
	}
}

/* --- waiting metadata --------------------------------------------------------------------------------------------- */

static void queue_init(struct metaq *q)
{
	*q = (struct metaq){ .j.fd = -1 };
	mtx_init(&q->lock, RANK_SPOOL);
	cond_init(&q->change);
	list_init(&q->waiting);
	if (htab_init(&q->tab))
		abort();
}

static void queue_done(struct metaq *q)
{
	while (!list_empty(&q->waiting)) {
		struct mqentry *e = list_entry(q->waiting.next, struct mqentry, link);

		htab_del(&q->tab, &e->hash);
		list_del(&e->link);
		q->live -= entry_bytes(e);
		q->n--;
		unref_locked(e);
	}
	check(q->n == 0 && q->live == 0);
	htab_done(&q->tab);
	cond_destroy(&q->change);
	mtx_destroy(&q->lock);
}

static int queue_read(struct metaq *q, const void *p, size_t n)
{
	size_t used = 0;
	int r;

	queue_init(q);
	mtx_lock(&q->lock);
	r = spj_decode(p, n, replay, q, &used);
	check(r == 0 || r == -EBADMSG);
	check(r || used <= n);
	if (r) /* as a journal whose middle a power cut took */
		r = spj_salvage(p, n, replay, q);
	mtx_unlock(&q->lock);
	check(r == 0 || r == -EBADMSG);
	return r;
}

static void metadata(const uint8_t *data, size_t size)
{
	struct rewrite w = { .r = 0 };
	struct metaq q, again;
	int r = queue_read(&q, data, size);

	if (r == 0) {
		check(!encode_head(&w.s));
		htab_each(&q.tab, rewrite_one, &w);
		/* a record that holds more than one may is refused when it is written, not lost when it is read */
		if (w.r == 0) {
			check(!queue_read(&again, w.s.p, w.s.len));
			check(again.n == q.n && again.live == q.live);
			queue_done(&again);
		}
		str_free(&w.s);
	}
	queue_done(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spfile *f;
	int r;

	if (sp_alloc(fake_spool(), &f) < 0)
		return 0;
	r = sp_replay(f, data, size);
	check(r == 0 || r == -EBADMSG || r == -ENOMEM);
	if (r == 0)
		check_file(f);
	sp_release(f);
	metadata(data, size);
	return 0;
}

/* Makes the checksum of each record right that still has a plausible length. */
static void fix_sums(uint8_t *p, size_t n)
{
	for (size_t pos = 0; n - pos >= 16;) {
		uint32_t len, crc;

		memcpy(&len, p + pos + 8, 4);
		if (len > n - pos - 16)
			return;
		crc = crc32c(crc32c(0, p + pos + 4, 8), p + pos + 16, len);
		memcpy(p + pos + 12, &crc, 4);
		pos += 16 + len;
	}
}

#ifdef LSVD_LIBFUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* Most of what the mutator makes would end at the first checksum. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	if (seed % 8)
		fix_sums(data, size);
	return size;
}
#else
static uint64_t rnd(uint64_t *s)
{
	return hash_u64((*s)++);
}

static void add(struct str *s, struct spj_event ev)
{
	if (spj_encode(&ev, s) < 0)
		abort();
}

static void every_record(struct str *s, bool whole)
{
	struct version v = { .etag = "0123456789abcdef", .size = 100000, .mtime_s = 5 };

	add(s, (struct spj_event){ .type = SPJ_HEADER, .number = SPJ_FORMAT, .ino = 5, .whole = whole, .text = "boot",
				   .dir = "a/", .name = "b", .v = v, .headers = "k\0v", .headers_len = 4 });
	add(s, (struct spj_event){ .type = SPJ_RANGE, .off = 4096, .len = 50000 });
	add(s, (struct spj_event){ .type = SPJ_FETCHED, .off = 80000, .len = 30000 });
	add(s, (struct spj_event){ .type = SPJ_TRUNC, .off = 90000 });
	add(s, (struct spj_event){ .type = SPJ_HEADERS, .headers = "x\0y", .headers_len = 4 });
	add(s, (struct spj_event){ .type = SPJ_UPLOAD, .off = 0, .len = 8192, .number = 1, .text = "id", .text2 = "n",
				   .headers = "x\0y", .headers_len = 4 });
	add(s, (struct spj_event){ .type = SPJ_PART, .off = 8192, .len = 8192, .number = 2, .text = "etag" });
	add(s, (struct spj_event){ .type = SPJ_PART, .off = 0, .len = 8192, .number = 1, .text = "" });
	add(s, (struct spj_event){ .type = SPJ_STATE, .number = SP_CLOSING });
	add(s, (struct spj_event){ .type = SPJ_NONCE, .text = "00112233445566778899aabbccddeeff" });
	add(s, (struct spj_event){ .type = SPJ_BASE, .v = v });
	add(s, (struct spj_event){ .type = SPJ_SRC, .dir = "a/", .name = "b", .v = v });
	add(s, (struct spj_event){ .type = SPJ_MOVE, .dir = "c/", .name = "d", .v = v });
	add(s, (struct spj_event){ .type = SPJ_FORCED });
	add(s, (struct spj_event){ .type = SPJ_STATE, .number = SP_ACKED });
}

static int run_file(const char *path)
{
	static uint8_t buf[1 << 20];
	FILE *fp = fopen(path, "rb");
	size_t n;

	if (fp == NULL) {
		perror(path);
		return 1;
	}
	n = fread(buf, 1, sizeof(buf), fp);
	fclose(fp);
	LLVMFuzzerTestOneInput(buf, n);
	return 0;
}

int main(int argc, char **argv)
{
	int r = 0;

	for (int i = 1; i < argc; i++)
		r |= run_file(argv[i]);
	for (uint64_t seed = 0; seed < 20000; seed++) {
		struct str s = { 0 };
		uint64_t x = seed * 1000 + 1;

		every_record(&s, seed % 2);
		LLVMFuzzerTestOneInput((uint8_t *)s.p, s.len);
		for (uint64_t k = rnd(&x) % 4; k > 0; k--)
			s.p[rnd(&x) % s.len] = (char)rnd(&x);
		if (rnd(&x) % 4 == 0)
			memset(s.p + rnd(&x) % (s.len - 8), 0xff, 8);
		if (seed % 8)
			fix_sums((uint8_t *)s.p, s.len);
		LLVMFuzzerTestOneInput((uint8_t *)s.p, rnd(&x) % 8 ? s.len : rnd(&x) % (s.len + 1));
		str_free(&s);
	}
	return r;
}
#endif
