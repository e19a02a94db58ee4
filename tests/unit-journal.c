/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-journal.c - a journal in the simulated world (tests/sim): appends by several writers, commits, trims, segments
 * that are made ready meanwhile, room that is given back, a full journal; then kill -9 or a power cut at any disk call, and a new opening, many times over.
 *
 * Expected after each crash: replay gives an unbroken row of sequences; everything whose append returned before a
 * kill is in it, everything whose commit returned before a power cut; bytes are those that were written; nothing that
 * was trimmed is needed. At last it is set aside or thrown away, with a death in the middle: what is left opens, all of
 * it or nothing, or its beginning.
 */
#include "config.h"
#include "sim/simnet.h"
#include "objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAXREC = 5000, SEGMENT = 16384, LIMIT = 6 * SEGMENT };

static struct {
	struct simdisk *disk;
	struct jdisk jd;
	struct journal *j;
	uint64_t acked, durable, trimmed; /* sequences, as the writers were told */
	struct {
		uint64_t off, len, stamp;
		enum jtype type;
		bool known;
	} rec[MAXREC];
	bool stop;
	bool shrinks;
} S;

static void check(bool ok, const char *what, uint64_t n)
{
	if (ok)
		return;
	(void)fprintf(stderr, "seed %" PRIu64 ": %s (%" PRIu64 ")\n", sim_seed(), what, n);
	_exit(1);
}

static void fill(uint8_t *p, size_t n, uint64_t stamp)
{
	for (size_t i = 0; i < n; i += 8)
		memcpy(p + i, &stamp, 8);
}

static void on_append(void *arg, uint64_t seq, uint64_t where)
{
	uint64_t *stamp = arg;

	(void)where;
	check(seq < MAXREC, "too many records", seq);
	check(!S.rec[seq].known || S.rec[seq].stamp == 0, "a sequence twice", seq);
	S.rec[seq].stamp = *stamp;
}

static void writer(void *arg)
{
	uint8_t buf[8192];

	(void)arg;
	while (!S.stop) {
		uint64_t stamp = (uint64_t)sim_rand() << 20 | 1, seq, len = SECTOR * (1 + sim_below(8)),
			 off = SECTOR * sim_below(100);
		enum jtype t = sim_chance(1, 5) ? J_DISCARD : J_WRITE;
		struct iovec iov[2] = {{buf, SECTOR}, {buf + SECTOR, len - SECTOR}};
		int r;

		fill(buf, len, stamp);
		r = t == J_WRITE && sim_chance(1, 2)
			? journal_append_now(S.j, off, len, &(struct iovec){buf, len}, on_append, &stamp, &seq)
			: -EAGAIN;
		if (r == -EAGAIN)
			r = journal_append(S.j, t, off, len, iov, 2, on_append, &stamp, &seq);
		if (r == -ESHUTDOWN || r == -EIO)
			return;
		check(r == 0, "append failed", (uint64_t)-r);
		S.rec[seq].off = off;
		S.rec[seq].len = len;
		S.rec[seq].type = t;
		S.rec[seq].known = true;
		S.acked = MAX(S.acked, seq);
		if (sim_chance(1, 4)) {
			r = journal_commit(S.j, seq);
			if (r == -EIO)
				return;
			S.durable = MAX(S.durable, seq);
		}
		if (sim_chance(1, 3)) {
			uint64_t t2 = sim_below(S.acked + 1);

			S.trimmed = MAX(S.trimmed, t2);
			ignore(journal_trim(S.j, t2, t2, sim_chance(1, 8)));
		}
		if (S.shrinks && sim_chance(1, 30)) {
			if (sim_chance(2, 3)) {
				S.trimmed = MAX(S.trimmed, S.acked);
				ignore(journal_trim(S.j, S.trimmed, S.trimmed, false));
			}
			r = journal_shrink(S.j, sim_chance(2, 3));
			if (r == -EIO)
				return;
			check(r == 0, "it cannot shrink", (uint64_t)-r);
		}
		if (sim_chance(1, 300))
			S.stop = true;
	}
}

static void prepare(void *arg)
{
	(void)arg;
	journal_prepare(S.j);
}

static bool low(void *arg)
{
	(void)arg;
	if (sim_chance(1, 8))
		return false;
	sim_spawn(1, "prepare", prepare, NULL);
	return true;
}

static struct {
	uint64_t first, last, committed;
} R;

static int on_record(void *arg, const struct jrecord *r)
{
	(void)arg;
	check(R.last == 0 || r->seq == R.last + 1, "replay has a hole", r->seq);
	if (R.first == 0)
		R.first = r->seq;
	R.last = r->seq;
	if (r->type == J_COMMITTED) {
		R.committed = MAX(R.committed, r->off);
		return 0;
	}
	if (S.rec[r->seq].known)
		check(S.rec[r->seq].off == r->off && S.rec[r->seq].len == r->len && S.rec[r->seq].type == r->type,
		      "another record", r->seq);
	return 0;
}

static struct jrecord wanted[MAXREC];

static int remember(void *arg, const struct jrecord *r)
{
	wanted[r->seq % MAXREC] = *r;
	return on_record(arg, r);
}

/* Opens; everything that counts must be there. */
static void reopen(bool power)
{
	static const uint8_t uuid[16] = "journal of tests";
	struct objerr err;
	struct log_nonce nonce;
	uint64_t must = power ? S.durable : S.acked;
	int r;

	memset(&R, 0, sizeof(R));
	memset(wanted, 0, sizeof(wanted));
	r = journal_open(0, uuid, LIMIT, SEGMENT, &S.jd, remember, NULL, &S.j, &err);
	if (r != 0)
		(void)fprintf(stderr, "%s\n", err.msg);
	check(r == 0, "it does not open", (uint64_t)-r);
	if (getenv("TRACE") != NULL)
		(void)fprintf(stderr,
			      "%s: replay %" PRIu64 "..%" PRIu64 ", acknowledged %" PRIu64 ", durable %" PRIu64
			      ", trimmed %" PRIu64 "\n",
			      power ? "power" : "kill", R.first, R.last, S.acked, S.durable, S.trimmed);
	check(R.last >= must || must <= S.trimmed, "an acknowledged record is missing", must);
	for (uint64_t q = S.trimmed + 1; q < R.first; q++)
		check(!S.rec[q].known, "an untrimmed record is missing", q); /* notes may go with their segment */
	check(R.committed <= S.trimmed, "it notes more than was committed", R.committed);
	for (uint64_t q = R.first; q <= R.last && q > 0; q++) {
		uint8_t buf[8192], want[8192];

		if (wanted[q].type != J_WRITE || !S.rec[q].known)
			continue;
		check(journal_read(S.j, wanted[q].where, buf, wanted[q].len) == 0, "a record cannot be read", q);
		fill(want, wanted[q].len, S.rec[q].stamp);
		check(memcmp(buf, want, wanted[q].len) == 0, "other bytes", q);
	}
	/* What did not come back never happened; its numbers are used again. */
	for (uint64_t q = R.last + 1; q < MAXREC; q++)
		memset(&S.rec[q], 0, sizeof(S.rec[q]));
	check(journal_begin(S.j, S.trimmed) == 0, "it cannot begin", S.trimmed);
	base_random(nonce.b, sizeof(nonce.b));
	check(journal_note_nonce(S.j, &nonce, NULL) == 0, "it cannot note a nonce", 0);
	journal_set_nonce(S.j, &nonce);
	journal_on_low(S.j, low, NULL);
	S.acked = MAX(R.last, S.trimmed);
	S.durable = MIN(S.durable, S.acked);
	S.stop = false;
}

static int no_record(void *arg, const struct jrecord *r)
{
	(void)arg;
	(void)r;
	return 0;
}

static void open_and_close(void *arg)
{
	static const uint8_t uuid[16] = "journal of tests";
	struct journal *j;

	(void)arg;
	check(journal_open(0, uuid, LIMIT, SEGMENT, &S.jd, no_record, NULL, &j, NULL) == 0, "it does not open", 0);
	journal_close(j);
}

/* A daemon that dies while it opens. */
static void die_opening(bool *io_power)
{
	sim_die_at(sim_steps() + 1 + sim_below(12));
	sim_spawn(1, "opening", open_and_close, NULL);
	clock_sleep_ns(NSEC_PER_SEC);
	sim_die_at(0);
	if (sim_chance(1, 4)) {
		simdisk_power_cut(S.disk);
		*io_power = true;
	}
}

static bool aside;

static void away(void *arg)
{
	_cleanup_free_ char *name = NULL;

	if ((aside ? journal_set_aside(0, &S.jd, &name) : journal_discard(0, &S.jd)) == 0)
		*(bool *)arg = true;
}

/* The image went on without it: all of it is aside, or nothing; of one that is thrown away the beginning is left. */
static void end_of_it(void)
{
	static const uint8_t uuid[16] = "journal of tests";
	uint64_t first = R.first, last = R.last;
	struct objerr err = {0};
	bool done = false;
	int r;

	aside = sim_chance(1, 2);
	journal_close(S.j);
	sim_die_at(sim_steps() + 1 + sim_below(24));
	sim_spawn(1, "away", away, &done);
	clock_sleep_ns(NSEC_PER_SEC);
	sim_die_at(0);
	sim_crash(1);
	if (!done && sim_chance(1, 2))
		simdisk_power_cut(S.disk);
	memset(&R, 0, sizeof(R));
	r = journal_open(0, uuid, LIMIT, SEGMENT, &S.jd, on_record, NULL, &S.j, &err);
	if (r != 0)
		(void)fprintf(stderr, "%s\n", err.msg);
	check(r == 0, "what is left of a journal that went away does not open", (uint64_t)-r);
	check(R.last == 0 || (!done && R.first == first && (!aside || R.last == last)), "a part of it went", R.last);
	journal_close(S.j);
}

static void scenario(void *arg)
{
	bool crashed_by_power = false;

	(void)arg;
	S.disk = simdisk_new();
	S.shrinks = sim_seed() % 2 == 0;
	simdisk_jdisk(S.disk, &S.jd);
	sim_preempt(200);
	for (int round = 0; round < 12 && S.acked < MAXREC - 700; round++) {
		bool power = sim_chance(1, 2);

		if (crashed_by_power || sim_chance(1, 4))
			die_opening(&crashed_by_power);
		reopen(crashed_by_power);
		/* The bucket gets what was replayed, now and then: else the journal stays full. */
		if (sim_chance(2, 3))
			S.trimmed = MAX(S.trimmed, R.last);
		ignore(journal_trim(S.j, S.trimmed, S.trimmed, false));
		for (int i = 0; i < 3; i++)
			sim_spawn(1, "writer", writer, NULL);
		sim_die_at(sim_steps() + 1 + sim_below(400));
		clock_sleep_ns(NSEC_PER_SEC);
		/* Whoever still lives waits for space, or has stopped: dies now. */
		sim_die_at(0);
		sim_crash(1);
		if (power)
			simdisk_power_cut(S.disk);
		crashed_by_power = power;
	}
	reopen(crashed_by_power);
	end_of_it();
}

static bool full;

static int dirsync(void *ctx, int dirfd)
{
	struct jdisk real;

	simdisk_jdisk(ctx, &real);
	return full ? -ENOSPC : real.dirsync(ctx, dirfd);
}

static int append_some(unsigned n)
{
	static uint8_t buf[8 * SECTOR];
	int r = 0;

	while (n-- > 0 && r == 0) {
		uint64_t stamp = (uint64_t)n << 20 | 1, seq;
		struct iovec iov = {buf, sizeof(buf)};

		fill(buf, sizeof(buf), stamp);
		r = journal_append(S.j, J_WRITE, 0, sizeof(buf), &iov, 1, on_append, &stamp, &seq);
		if (r == 0)
			r = journal_commit(S.j, seq);
		if (r < 0)
			return r;
		S.rec[seq].len = sizeof(buf);
		S.rec[seq].type = J_WRITE;
		S.rec[seq].known = true;
		S.acked = S.durable = seq;
	}
	return r;
}

/* Nobody knows whether the name of a file is gone: what was acknowledged since must not be in it. */
static void nameless(void *arg)
{
	(void)arg;
	memset(&S, 0, sizeof(S));
	S.disk = simdisk_new();
	simdisk_jdisk(S.disk, &S.jd);
	S.jd.dirsync = dirsync;
	reopen(false);
	check(append_some(12) == 0, "cannot append", 0);
	S.trimmed = S.acked;
	ignore(journal_trim(S.j, S.trimmed, S.trimmed, false));
	full = true;
	check(journal_shrink(S.j, false) < 0, "it could shrink", 0);
	full = false;
	ignore(append_some(6)); /* none, or all of them */
	journal_close(S.j);
	reopen(false);
	journal_close(S.j);
}

int main(int argc, char **argv)
{
	if (argc == 1 && !sim_try(1, nameless))
		return 1;
	/* A power cut that brings back a segment that was forgotten: few seeds do it. */
	if (argc == 1 && !sim_try(1259, scenario)) {
		(void)printf("not ok: seed 1259\n");
		return 1;
	}
	return sim_main(argc, argv, 300, scenario);
}
