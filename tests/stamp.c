/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * stamp.c - writes stamped sectors to a disk until it, or what is below it, dies; then says whether what is there is a
 * prefix of what was written.
 *
 *	stamp run [-d] [-p] [-t THREADS] [-k PID] [-m] LOG DISK OPS	writes; at the last operation PID gets a SIGKILL
 *	stamp check [-w] (all | synced | any) LOG DISK		what is there becomes the base of the next run
 *	stamp new LOG SECTORS SEED					a log of a disk of zeros
 *	stamp told LOG OPS SYNCED					as `run -t 1` elsewhere would have left LOG
 *	stamp skip LOG N					after a check: N numbers are another writer's
 *
 * -w opens for writing, too. -d O_DIRECT. -p no discards. -m says "synced SEQ" after each completed fsync (one thread).
 *
 * Operation SEQ is made of the seed and its number alone: a write of 1 to 128 sectors, which all carry SEQ and their
 * place; a discard, a zeroing, an fsync. LOG is shared memory: of each operation when (a counter) it was submitted, and
 * when it was acknowledged. A before B: A was acknowledged when B was submitted.
 *
 * check: there must be a set S of operations with which the disk agrees; S holds with each what was before it, whole
 * operations only, and what was asked for: all = all that was acknowledged (the daemon died and its machine did not),
 * synced = all that was before a completed fsync, any = nothing. Who wrote a sector last is open among operations of
 * which none was before the other.
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, WORDS = SECTOR / 8, MAX_SECTORS = 128, SPAN = 2048 };
enum kind { WRITE = 1, DISCARD, ZERO, SYNC };

struct op {
	uint32_t kind, n;
	uint64_t lba;
	_Atomic uint64_t submit, ack; /* 0: not yet */
};

struct log {
	uint64_t sectors, seed, ops_max;
	uint64_t first; /* number of ops[0] */
	_Atomic uint64_t next, clock;
	uint64_t told; /* the last fsync that completed, as somebody said; 0: what the operations say */
	uint64_t base[]; /* who wrote each sector before; 0: zeros. The operations follow. */
};

static struct log *lg;
static struct op *ops;

static void die(const char *what)
{
	fprintf(stderr, "stamp: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static void fill(uint64_t *w, uint64_t seq, uint64_t lba)
{
	w[0] = seq;
	w[1] = lba;
	for (int i = 2; i < WORDS; i++)
		w[i] = mix(seq * 1000003 + lba * 64 + (uint64_t)i);
}

static void make_op(uint64_t seq, bool discards, struct op *o)
{
	uint64_t h = mix(lg->seed ^ mix(seq)), a = mix(h), b = mix(a);
	uint64_t space = h % 2 ? lg->sectors : lg->sectors / 16;

	o->kind = (h >> 8) % 16 == 0 ? SYNC : discards && (h >> 16) % 32 == 0 ? DISCARD :
		  discards && (h >> 16) % 32 == 1 ? ZERO : WRITE;
	o->n = (uint32_t)((h >> 32) % 4 ? 8 : 1 + a % MAX_SECTORS);
	if (o->kind == DISCARD || o->kind == ZERO)
		o->n = (uint32_t)(1 + a % SPAN);
	o->lba = b % (space - o->n);
	if ((h >> 40) % 4)
		o->lba = o->lba / 8 * 8;
	if (o->kind == SYNC)
		o->lba = o->n = 0;
}

/* ---- the log ---- */

static size_t log_bytes(uint64_t sectors, uint64_t max)
{
	return sizeof(struct log) + sectors * 8 + max * sizeof(struct op);
}

static void map_log(const char *path, uint64_t sectors)
{
	int fd = open(path, O_RDWR | (sectors ? O_CREAT | O_TRUNC : 0) | O_CLOEXEC, 0644);
	uint64_t max = 100000;
	struct stat st;

	if (sectors && sectors / 16 <= SPAN) {
		fprintf(stderr, "stamp: more than %d sectors, please\n", SPAN * 16);
		exit(2);
	}
	if (fd < 0 || (sectors && ftruncate(fd, (off_t)log_bytes(sectors, max)) < 0) || fstat(fd, &st) < 0)
		die(path);
	lg = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (lg == MAP_FAILED)
		die(path);
	close(fd);
	if (sectors) {
		lg->sectors = sectors;
		lg->ops_max = max;
		lg->first = lg->next = 1;
	}
	ops = (struct op *)(void *)(lg->base + lg->sectors);
}

/* ---- writing ---- */

struct run {
	int fd;
	uint64_t last;
	pid_t victim;
	bool direct, discards, say;
	_Atomic bool killed;
	_Atomic int error;
};

static int perform(struct run *r, uint64_t seq, const struct op *o, uint64_t *buf)
{
	off_t off = (off_t)(o->lba * SECTOR), len = (off_t)o->n * SECTOR;
	ssize_t n;

	switch (o->kind) {
	case SYNC:
		return fdatasync(r->fd);
	case DISCARD:
		return fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
	case ZERO:
		return fallocate(r->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, len);
	default:
		for (uint32_t i = 0; i < o->n; i++)
			fill(buf + i * WORDS, seq, o->lba + i);
		n = pwrite(r->fd, buf, (size_t)len, off);
		if (n >= 0 && n != len)
			errno = EMSGSIZE;
		return n == len ? 0 : -1;
	}
}

static void *writer(void *arg)
{
	struct run *r = arg;
	void *buf;

	if (posix_memalign(&buf, 4096, (size_t)MAX_SECTORS * SECTOR) != 0)
		die("memory");
	for (;;) {
		uint64_t seq = atomic_fetch_add(&lg->next, 1);
		struct op *o = &ops[seq - lg->first];

		if (seq >= r->last || seq - lg->first >= lg->ops_max) {
			atomic_fetch_sub(&lg->next, 1);
			break;
		}
		make_op(seq, r->discards, o);
		o->submit = atomic_fetch_add(&lg->clock, 1) + 1;
		if (seq == r->last - 1 && r->victim) {
			r->killed = true;
			kill(r->victim, SIGKILL);
		}
		if (perform(r, seq, o, buf) < 0) {
			int none = 0;

			if (!r->killed) /* the first one counts */
				atomic_compare_exchange_strong(&r->error, &none, errno);
			break;
		}
		o->ack = atomic_fetch_add(&lg->clock, 1) + 1;
		if (o->kind == SYNC && r->say) {
			printf("synced %llu\n", (unsigned long long)seq);
			fflush(stdout);
		}
	}
	free(buf);
	return NULL;
}

static int run(int argc, char **argv)
{
	struct run r = { .discards = true };
	int threads = 1, c;
	pthread_t t[64];

	while ((c = getopt(argc, argv, "dpmt:k:")) != -1) {
		switch (c) {
		case 'd': r.direct = true; break;
		case 'p': r.discards = false; break;
		case 'm': r.say = true; break;
		case 't': threads = atoi(optarg); break;
		case 'k': r.victim = (pid_t)atoi(optarg); break;
		default: return 2;
		}
	}
	if (argc - optind != 3 || threads < 1 || threads > 64)
		return 2;
	map_log(argv[optind], 0);
	r.fd = open(argv[optind + 1], O_RDWR | O_CLOEXEC | (r.direct ? O_DIRECT : 0));
	if (r.fd < 0)
		die(argv[optind + 1]);
	r.last = lg->first + strtoull(argv[optind + 2], NULL, 10);
	for (int i = 0; i < threads; i++)
		if (pthread_create(&t[i], NULL, writer, &r) != 0)
			die("thread");
	for (int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
	if (r.error) {
		errno = r.error;
		die("an operation failed before the end");
	}
	return 0;
}

/* ---- checking ---- */

/* SEQ of each sector, as it is there. */
static void read_disk(const char *path, int mode, uint64_t *seen)
{
	enum { PIECE = 1 << 20 };
	int fd = open(path, mode | O_CLOEXEC);
	uint64_t *buf = malloc(PIECE), want[WORDS];

	if (fd < 0 || !buf)
		die(path);
	for (uint64_t lba = 0; lba < lg->sectors;) {
		ssize_t n = pread(fd, buf, PIECE, (off_t)(lba * SECTOR));

		if (n <= 0)
			die("read");
		for (uint64_t *w = buf; (char *)(w + WORDS) <= (char *)buf + n && lba < lg->sectors; w += WORDS, lba++) {
			if (w[0] == 0)
				memset(want, 0, sizeof want);
			else
				fill(want, w[0], lba);
			if (memcmp(w, want, SECTOR) != 0) {
				printf("sector %llu: neither zeros nor a stamp: %llx %llx\n", (unsigned long long)lba,
				       (unsigned long long)w[0], (unsigned long long)w[1]);
				exit(1);
			}
			seen[lba] = w[0];
		}
	}
	free(buf);
	close(fd);
}

static uint64_t acked(const struct op *o)
{
	return o->ack ? o->ack : UINT64_MAX;
}

/* Everything acknowledged before this moment is in S. */
static uint64_t moment(const char *mode, uint64_t nops, const uint64_t *seen)
{
	uint64_t m = 0;

	for (uint64_t i = 0; i < nops; i++) {
		if (strcmp(mode, "all") == 0 && ops[i].ack)
			m = ops[i].ack >= m ? ops[i].ack + 1 : m;
		if (strcmp(mode, "any") != 0 && !lg->told && ops[i].kind == SYNC && ops[i].ack && ops[i].submit > m)
			m = ops[i].submit;
		if (lg->first + i == lg->told && ops[i].submit > m)
			m = ops[i].submit;
	}
	for (uint64_t lba = 0; lba < lg->sectors; lba++)
		if (seen[lba] >= lg->first && seen[lba] - lg->first < nops && ops[seen[lba] - lg->first].submit > m)
			m = ops[seen[lba] - lg->first].submit;
	return m;
}

/* The latest acknowledgement of what may have left each sector as it is. */
static void explain(uint64_t nops, const uint64_t *seen, uint64_t *left)
{
	for (uint64_t lba = 0; lba < lg->sectors; lba++) {
		const struct op *o = &ops[seen[lba] - lg->first];

		left[lba] = 0;
		if (seen[lba] == lg->base[lba] || seen[lba] == 0)
			continue;
		if (seen[lba] < lg->first || seen[lba] - lg->first >= nops || o->kind != WRITE || lba < o->lba ||
		    lba >= o->lba + o->n) {
			printf("sector %llu: of operation %llu, which is not of this run (%llu to %llu; before: %llu)\n",
			       (unsigned long long)lba, (unsigned long long)seen[lba], (unsigned long long)lg->first,
			       (unsigned long long)(lg->first + nops), (unsigned long long)lg->base[lba]);
			exit(1);
		}
		left[lba] = acked(o);
	}
	for (uint64_t i = 0; i < nops; i++)
		for (uint64_t lba = ops[i].lba; ops[i].kind != WRITE && lba < ops[i].lba + ops[i].n; lba++)
			if (seen[lba] == 0 && acked(&ops[i]) > left[lba])
				left[lba] = acked(&ops[i]);
	for (uint64_t lba = 0; lba < lg->sectors; lba++)
		if (seen[lba] == 0 && left[lba] == 0 && lg->base[lba] != 0) {
			printf("sector %llu: zeros, was of %llu and nobody discarded it\n", (unsigned long long)lba,
			       (unsigned long long)lg->base[lba]);
			exit(1);
		}
}

static int check(const char *mode, const char *disk, bool writable)
{
	uint64_t nops = lg->next - lg->first, m, bad = 0, held = 0;
	uint64_t *seen = calloc(lg->sectors, 8), *left = calloc(lg->sectors, 8);
	bool *there = calloc(nops + 1, 1);

	if (!seen || !left || !there)
		die("memory");
	read_disk(disk, writable ? O_RDWR : O_RDONLY, seen);
	m = moment(mode, nops, seen);
	explain(nops, seen, left);
	for (uint64_t lba = 0; lba < lg->sectors; lba++)
		if (seen[lba] >= lg->first)
			there[seen[lba] - lg->first] = true;
	for (uint64_t i = 0; i < nops; i++) {
		const struct op *o = &ops[i];
		uint64_t lba;

		if (acked(o) >= m && !there[i])
			continue;
		held++;
		for (lba = o->lba; lba < o->lba + o->n && left[lba] >= o->submit; lba++)
			;
		if (lba == o->lba + o->n)
			continue;
		if (bad++ < 10)
			printf("operation %llu (kind %u, sectors %llu + %u, %s) must be there; sector %llu is of %llu\n",
			       (unsigned long long)(lg->first + i), o->kind, (unsigned long long)o->lba, o->n,
			       o->ack ? "acknowledged" : "seen elsewhere", (unsigned long long)lba,
			       (unsigned long long)seen[lba]);
	}
	printf("# %llu operations, %llu must be there, %llu missing\n", (unsigned long long)nops,
	       (unsigned long long)held, (unsigned long long)bad);
	memcpy(lg->base, seen, lg->sectors * 8);
	memset(ops, 0, lg->ops_max * sizeof *ops);
	lg->first = lg->next;
	lg->clock = lg->told = 0;
	free(there);
	free(left);
	free(seen);
	return bad ? 1 : 0;
}

static int told(uint64_t nops, uint64_t synced)
{
	for (uint64_t i = 0; i < nops && i < lg->ops_max; i++) {
		make_op(lg->first + i, true, &ops[i]);
		ops[i].submit = 2 * i + 1;
		ops[i].ack = 2 * i + 2;
	}
	lg->next = lg->first + nops;
	lg->told = synced;
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "run") == 0)
		return run(argc - 1, argv + 1);
	if (strcmp(what, "check") == 0 && (argc == 5 || (argc == 6 && strcmp(argv[2], "-w") == 0))) {
		map_log(argv[argc - 2], 0);
		return check(argv[argc - 3], argv[argc - 1], argc == 6);
	}
	if (strcmp(what, "new") == 0 && argc == 5) {
		map_log(argv[2], strtoull(argv[3], NULL, 10));
		lg->seed = strtoull(argv[4], NULL, 10);
		return 0;
	}
	if (strcmp(what, "told") == 0 && argc == 5) {
		map_log(argv[2], 0);
		return told(strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	}
	if (strcmp(what, "skip") == 0 && argc == 4) {
		map_log(argv[2], 0);
		lg->first = lg->next += strtoull(argv[3], NULL, 10);
		return 0;
	}
	fprintf(stderr, "usage: stamp run|check|new|told|skip ... (see its source)\n");
	return 2;
}
