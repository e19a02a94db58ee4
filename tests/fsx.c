/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fsx.c - random operations on one file, compared with a model in memory after each.
 *
 *	fsx [-n OPERATIONS] [-s SEED] [-l MAX_SIZE] [-r REOPEN_EVERY] [-R COMMAND] [-m] [-d] FILE
 *
 * Operations: read, write, append, truncate both ways (ftruncate, truncate, O_TRUNC), fallocate with and without
 * KEEP_SIZE, punch, zero range, mmap read and write, stores into a mapping that outlives its descriptor, O_DIRECT read
 * and write, copy within the file, data and holes (lseek), fsync, fdatasync, syncfs, close and open again, rename there
 * and back, read and write through a second descriptor. Every read checks content and size. -R COMMAND runs every
 * REOPEN_EVERY x 50 operations with the file closed (a remount, a check of the object); -m leaves mmap out, -d O_DIRECT.
 * A mismatch prints seed, operation number and the last operations. What the file system does not have (EOPNOTSUPP;
 * EINVAL for O_DIRECT) is left out from then on, and said.
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY 40

static uint64_t rnd_state, seed = 1, op;
static uint64_t nops = 2000, max_size = 1 << 20, reopen_every = 60;
static const char *path, *command;
static char path2[4096];
static unsigned char *model, *work; /* work: aligned for O_DIRECT */
static uint64_t size;
static int fd = -1;
static bool use_mmap = true, use_direct = true;
static char history[HISTORY][128];

enum kind {
	K_READ, K_WRITE, K_APPEND, K_TRUNCATE, K_ALLOC, K_PUNCH, K_ZERO, K_MREAD, K_MWRITE, K_COPY, K_FSYNC, K_REOPEN,
	K_RENAME, K_READ2, K_KEEP, K_PATHTRUNC, K_MCLOSE, K_DREAD, K_DWRITE, K_SEEK, K_WRITE2, K_SYNC, K_N
};
static const char *const kind_name[K_N] = { "read", "write", "append", "truncate", "fallocate", "punch", "zero",
					    "mmap-read", "mmap-write", "copy", "fsync", "reopen", "rename", "read2", "keep-size",
					    "path-truncate", "mmap-close", "direct-read", "direct-write", "seek",
					    "write2", "sync" };
static uint64_t done[K_N];
static bool lacking[K_N];

/* splitmix64 */
static uint64_t rnd(void)
{
	uint64_t z = rnd_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t below(uint64_t n)
{
	return n ? rnd() % n : 0;
}

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "fsx: seed %llu operation %llu: ", (unsigned long long)seed, (unsigned long long)op);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nlast operations:\n");
	for (uint64_t i = op > HISTORY ? op - HISTORY : 0; i <= op; i++)
		fprintf(stderr, "  %s\n", history[i % HISTORY]);
	exit(1);
}

__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(history[op % HISTORY], sizeof(history[0]), "%llu ", (unsigned long long)op);

	va_start(ap, fmt);
	vsnprintf(history[op % HISTORY] + n, sizeof(history[0]) - (size_t)n, fmt, ap);
	va_end(ap);
}

static void compare(const unsigned char *got, uint64_t off, uint64_t n, const char *what)
{
	for (uint64_t i = 0; i < n; i++)
		if (got[i] != model[off + i])
			die("%s: byte %llu (of [%llu,+%llu), size %llu) is %02x, should be %02x", what,
			    (unsigned long long)(off + i), (unsigned long long)off, (unsigned long long)n,
			    (unsigned long long)size, got[i], model[off + i]);
}

static void check_size(int f, const char *what)
{
	struct stat st;

	if (fstat(f, &st) < 0)
		die("%s: fstat: %m", what);
	if ((uint64_t)st.st_size != size)
		die("%s: size %lld, should be %llu", what, (long long)st.st_size, (unsigned long long)size);
}

static void do_open(int flags)
{
	fd = open(path, O_RDWR | flags, 0644);
	if (fd < 0)
		die("open: %m");
}

static void do_close(void)
{
	if (close(fd) < 0)
		die("close: %m");
	fd = -1;
}

static void read_range(int f, uint64_t off, uint64_t n, const char *what)
{
	uint64_t want = off >= size ? 0 : n < size - off ? n : size - off, got = 0;

	while (got < n) {
		ssize_t r = pread(f, work + got, n - got, (off_t)(off + got));

		if (r < 0)
			die("%s: %m", what);
		if (!r)
			break;
		got += (uint64_t)r;
	}
	if (got != want)
		die("%s: %llu bytes, should be %llu", what, (unsigned long long)got, (unsigned long long)want);
	compare(work, off, got, what);
}

/* The end of the file moves to `end` if that is further; what is between becomes zeros. */
static void model_grow(uint64_t end)
{
	if (end <= size)
		return;
	memset(model + size, 0, end - size);
	size = end;
}

static void fill(uint64_t n)
{
	for (uint64_t i = 0; i < n; i += 8) {
		uint64_t v = rnd();

		memcpy(work + i, &v, 8);
	}
}

static void write_through(int f, uint64_t off, uint64_t n, bool append)
{
	uint64_t got = 0;

	fill(n);
	while (got < n) {
		ssize_t r = append ? write(f, work + got, n - got) : pwrite(f, work + got, n - got, (off_t)(off + got));

		if (r <= 0)
			die("write: %m");
		got += (uint64_t)r;
	}
	model_grow(off + n);
	memcpy(model + off, work, n);
}

static void write_range(uint64_t off, uint64_t n, bool append)
{
	if (append) {
		do_close();
		do_open(O_APPEND);
	}
	write_through(fd, off, n, append);
	if (append) {
		do_close();
		do_open(0);
	}
}

/* False: the file system does not have it. */
static bool allocate(enum kind k, uint64_t off, uint64_t n)
{
	int mode = k == K_ALLOC ? 0 : k == K_KEEP ? FALLOC_FL_KEEP_SIZE : k == K_ZERO ? FALLOC_FL_ZERO_RANGE
									   : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	if (fallocate(fd, mode, (off_t)off, (off_t)n) < 0) {
		if (errno == EOPNOTSUPP)
			return false;
		die("fallocate %d: %m", mode);
	}
	if (k == K_ALLOC || k == K_ZERO)
		model_grow(off + n);
	if ((k == K_PUNCH || k == K_ZERO) && off < size)
		memset(model + off, 0, n < size - off ? n : size - off);
	return true;
}

static void map_range(bool writing, uint64_t off, uint64_t n)
{
	uint64_t page = off & ~(uint64_t)4095;
	unsigned char *p;

	if (off >= size)
		return;
	if (n > size - off)
		n = size - off;
	p = mmap(NULL, n + (off - page), writing ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, (off_t)page);
	if (p == MAP_FAILED)
		die("mmap: %m");
	if (writing) {
		fill(n);
		memcpy(p + (off - page), work, n);
		memcpy(model + off, work, n);
		if (below(2) && msync(p, n + (off - page), MS_SYNC) < 0)
			die("msync: %m");
	} else {
		compare(p + (off - page), off, n, "mmap-read");
	}
	if (munmap(p, n + (off - page)) < 0)
		die("munmap: %m");
}

/* The mapping outlives the descriptor; the stores come when nobody will close the file again. */
static void map_and_close(uint64_t off, uint64_t n)
{
	uint64_t page = off & ~(uint64_t)4095;
	unsigned char *p;

	if (off >= size)
		return;
	if (n > size - off)
		n = size - off;
	p = mmap(NULL, n + (off - page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)page);
	if (p == MAP_FAILED)
		die("mmap: %m");
	do_close();
	compare(p + (off - page), off, n, "mmap-close");
	fill(n);
	memcpy(p + (off - page), work, n);
	memcpy(model + off, work, n);
	if (below(2)) { /* else it is opened again while the mapping is there */
		if (munmap(p, n + (off - page)) < 0)
			die("munmap: %m");
		do_open(0);
		return;
	}
	do_open(0);
	if (munmap(p, n + (off - page)) < 0)
		die("munmap: %m");
}

/* False: no O_DIRECT here. */
static bool direct(bool writing, uint64_t off, uint64_t n)
{
	int f = open(path, O_RDWR | O_DIRECT);

	if (f < 0) {
		if (errno == EINVAL)
			return false;
		die("open O_DIRECT: %m");
	}
	off &= ~(uint64_t)4095;
	n = (n + 4095) & ~(uint64_t)4095;
	if (n > (max_size & ~(uint64_t)4095) - off)
		n = (max_size & ~(uint64_t)4095) - off;
	if (n && writing)
		write_through(f, off, n, false);
	else if (n)
		read_range(f, off, n, "direct read");
	if (close(f) < 0)
		die("close O_DIRECT: %m");
	return true;
}

static void zeros(uint64_t off, uint64_t end, const char *what)
{
	for (; off < end; off++)
		if (model[off])
			die("%s: byte %llu is said to be in a hole, and should be %02x", what, (unsigned long long)off,
			    model[off]);
}

/* What is said to be a hole must be zeros; more cannot be asked, a file system may say that all is data. */
static void seek_range(uint64_t off)
{
	off_t d = lseek(fd, (off_t)off, SEEK_DATA), h;

	if (d < 0 && errno != ENXIO)
		die("SEEK_DATA: %m");
	if (d >= 0 && ((uint64_t)d < off || (uint64_t)d >= size))
		die("SEEK_DATA %llu: %lld", (unsigned long long)off, (long long)d);
	if (off < size)
		zeros(off, d < 0 ? size : (uint64_t)d, "SEEK_DATA");
	h = lseek(fd, (off_t)off, SEEK_HOLE);
	if (off >= size) {
		if (h >= 0 || errno != ENXIO)
			die("SEEK_HOLE %llu beyond the end: %lld %m", (unsigned long long)off, (long long)h);
		return;
	}
	if (h < 0 || (uint64_t)h < off || (uint64_t)h > size)
		die("SEEK_HOLE %llu: %lld %m", (unsigned long long)off, (long long)h);
	if ((uint64_t)h == size)
		return;
	d = lseek(fd, h, SEEK_DATA);
	if (d < 0 && errno != ENXIO)
		die("SEEK_DATA %lld: %m", (long long)h);
	zeros((uint64_t)h, d < 0 ? size : (uint64_t)d, "SEEK_HOLE");
}

static void truncate_path(uint64_t end)
{
	int f;

	if (below(4)) {
		if (truncate(path, (off_t)end) < 0)
			die("truncate: %m");
		model_grow(end);
		size = end;
		return;
	}
	f = open(path, O_RDWR | O_TRUNC);
	if (f < 0)
		die("open O_TRUNC: %m");
	size = 0;
	if (close(f) < 0)
		die("close after O_TRUNC: %m");
}

static void second(bool writing, uint64_t off, uint64_t n)
{
	int f = open(path, writing ? O_WRONLY : O_RDONLY);

	if (f < 0)
		die("second open: %m");
	check_size(f, "second open");
	if (writing)
		write_through(f, off, n, false);
	else
		read_range(f, off, n, "second read");
	if (close(f) < 0)
		die("second close: %m");
}

static bool copy_range(uint64_t from, uint64_t to, uint64_t n)
{
	off_t a = (off_t)from, b = (off_t)to;
	uint64_t left;

	if (from >= size)
		return true;
	if (n > size - from)
		n = size - from;
	if ((from < to ? to - from : from - to) < n)
		n = from < to ? to - from : from - to; /* ranges of one file may not overlap */
	left = n;
	while (left) {
		ssize_t r = copy_file_range(fd, &a, fd, &b, left, 0);

		if (r < 0 && (errno == EOPNOTSUPP || errno == EXDEV) && left == n)
			return false;
		if (r <= 0)
			die("copy_file_range: %zd %m", r);
		left -= (uint64_t)r;
	}
	model_grow(to + n);
	memmove(model + to, model + from, n);
	return true;
}

static void rename_twice(void)
{
	if (rename(path, path2) < 0)
		die("rename: %m");
	check_size(fd, "renamed");
	if (below(2))
		read_range(fd, 0, size, "read renamed");
	if (rename(path2, path) < 0)
		die("rename back: %m");
}

static bool operate(enum kind k)
{
	uint64_t off = below(max_size), n = 1 + below(below(4) ? 8192 : max_size);

	if (n > max_size - off)
		n = max_size - off;
	if (k == K_APPEND) {
		off = size;
		n = n < max_size - size ? n : max_size - size;
	}
	say("%s off %llu n %llu size %llu", kind_name[k], (unsigned long long)off, (unsigned long long)n,
	    (unsigned long long)size);
	switch (k) {
	case K_READ: read_range(fd, off, n, "read"); break;
	case K_WRITE: write_range(off, n, false); break;
	case K_APPEND: write_range(off, n, true); break;
	case K_TRUNCATE:
		if (ftruncate(fd, (off_t)off) < 0)
			die("ftruncate: %m");
		model_grow(off);
		size = off;
		break;
	case K_ALLOC: case K_KEEP: case K_PUNCH: case K_ZERO: return allocate(k, off, n);
	case K_MREAD: map_range(false, off, n); break;
	case K_MWRITE: map_range(true, off, n); break;
	case K_COPY: return copy_range(off, below(max_size - n), n);
	case K_FSYNC:
		if (fsync(fd) < 0)
			die("fsync: %m");
		break;
	case K_REOPEN: do_close(); do_open(0); break;
	case K_RENAME: rename_twice(); break;
	case K_READ2: second(false, off, n); break;
	case K_WRITE2: second(true, off, n); break;
	case K_PATHTRUNC: truncate_path(off); break;
	case K_MCLOSE: map_and_close(off, n); break;
	case K_DREAD: return direct(false, off, n);
	case K_DWRITE: return direct(true, off, n);
	case K_SEEK: seek_range(off); break;
	case K_SYNC:
		if ((below(2) ? fdatasync(fd) : syncfs(fd)) < 0)
			die("fdatasync or syncfs: %m");
		break;
	default: break;
	}
	return true;
}

/* Truncates are rare enough for the file to have a size worth testing. */
static enum kind choose(void)
{
	static const unsigned weight[K_N] = { 18, 22, 6, 4, 3, 6, 4, 8, 8, 4, 3, 0, 2, 6,
						2, 2, 3, 4, 4, 6, 4, 2 };
	unsigned total = 0, r;

	for (int i = 0; i < K_N; i++)
		total += weight[i];
	for (;;) {
		r = (unsigned)below(total);
		for (int i = 0; i < K_N; i++) {
			if (r < weight[i]) {
				if (lacking[i] || (!use_mmap && (i == K_MREAD || i == K_MWRITE || i == K_MCLOSE)) ||
				    (!use_direct && (i == K_DREAD || i == K_DWRITE)))
					break;
				return (enum kind)i;
			}
			r -= weight[i];
		}
	}
}

static void outside(void)
{
	do_close();
	if (command && system(command) != 0)
		die("command failed: %s", command);
	do_open(0);
	check_size(fd, "after the command");
	read_range(fd, 0, size, "after the command");
}

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:s:l:r:R:md")) != -1) {
		switch (c) {
		case 'n': nops = strtoull(optarg, NULL, 10); break;
		case 's': seed = strtoull(optarg, NULL, 10); break;
		case 'l': max_size = strtoull(optarg, NULL, 10); break;
		case 'r': reopen_every = strtoull(optarg, NULL, 10); break;
		case 'R': command = optarg; break;
		case 'm': use_mmap = false; break;
		case 'd': use_direct = false; break;
		default: return 2;
		}
	}
	if (optind + 1 != argc || !max_size || !reopen_every)
		return 2;
	path = argv[optind];
	snprintf(path2, sizeof(path2), "%s.renamed", path);
	rnd_state = seed;
	model = calloc(1, max_size + 16);
	if (!model || posix_memalign((void **)&work, 4096, max_size + 4096) != 0)
		return 1;
	do_open(O_CREAT | O_TRUNC);
	for (op = 1; op <= nops; op++) {
		enum kind k = op % reopen_every ? choose() : K_REOPEN;

		if (operate(k))
			done[k]++;
		else
			lacking[k] = true;
		check_size(fd, kind_name[k]);
		if (command && op % (reopen_every * 50) == 0)
			outside();
	}
	read_range(fd, 0, max_size, "at the end");
	do_close();
	do_open(0);
	read_range(fd, 0, max_size, "opened again");
	do_close();
	printf("fsx: seed %llu: %llu operations clean:", (unsigned long long)seed, (unsigned long long)nops);
	for (int i = 0; i < K_N; i++)
		printf(" %s %llu%s", kind_name[i], (unsigned long long)done[i], lacking[i] ? " (not supported)" : "");
	printf("\n");
	return 0;
}
