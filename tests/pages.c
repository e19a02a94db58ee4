/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * pages.c - writes a file whose content its number and a seed decide, through a shared mapping or write(2), as fast as
 * the kernel lets it; later says whether it is all there. It needs no second file to compare with, so that what it keeps
 * of memory is what the mount under test keeps.
 *
 *	pages (map | write) FILE MIB SEED	says "open", "half" and "synced" when it is that far
 *	pages check FILE MIB SEED
 */
#include "config.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PER_MIB = (1 << 20) / PAGE };

static void die(const char *what)
{
	fprintf(stderr, "pages: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void fill(uint64_t *w, uint64_t seed, uint64_t page)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + page * 0xbf58476d1ce4e5b9u + 1;

	for (int i = 0; i < WORDS; i++) { /* xorshift */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		w[i] = x;
	}
}

static void say(const char *what)
{
	printf("%s\n", what);
	fflush(stdout);
}

static void write_pages(int fd, uint64_t pages, uint64_t seed)
{
	uint64_t buf[WORDS];

	for (uint64_t i = 0; i < pages; i++) {
		fill(buf, seed, i);
		if (pwrite(fd, buf, PAGE, (off_t)(i * PAGE)) != PAGE)
			die("pwrite");
		if (i == pages / 2)
			say("half");
	}
}

static void map_pages(int fd, uint64_t pages, uint64_t seed)
{
	uint64_t *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	for (uint64_t i = 0; i < pages; i++) {
		fill(p + i * WORDS, seed, i);
		if (i == pages / 2)
			say("half");
	}
	if (msync(p, pages * PAGE, MS_SYNC) < 0)
		die("msync");
	munmap(p, pages * PAGE);
}

static int check(int fd, uint64_t pages, uint64_t seed)
{
	uint64_t buf[WORDS], want[WORDS], bad = 0;
	struct stat st;

	if (fstat(fd, &st) < 0)
		die("fstat");
	if ((uint64_t)st.st_size != pages * PAGE) {
		printf("%lld bytes, not %lld\n", (long long)st.st_size, (long long)(pages * PAGE));
		return 1;
	}
	for (uint64_t i = 0; i < pages; i++) {
		if (pread(fd, buf, PAGE, (off_t)(i * PAGE)) != PAGE)
			die("pread");
		fill(want, seed, i);
		if (memcmp(buf, want, PAGE) != 0 && bad++ < 10)
			printf("page %llu is wrong: begins with %llx\n", (unsigned long long)i, (unsigned long long)buf[0]);
	}
	printf("%llu pages, %llu wrong\n", (unsigned long long)pages, (unsigned long long)bad);
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	bool checks = argc == 5 && strcmp(argv[1], "check") == 0, maps = argc == 5 && strcmp(argv[1], "map") == 0;
	uint64_t pages, seed;
	int fd;

	if (argc != 5 || (!checks && !maps && strcmp(argv[1], "write") != 0)) {
		fprintf(stderr, "usage: pages map|write|check FILE MIB SEED\n");
		return 2;
	}
	pages = strtoull(argv[3], NULL, 10) * PER_MIB;
	seed = strtoull(argv[4], NULL, 10);
	fd = open(argv[2], (checks ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0644);
	if (fd < 0)
		die(argv[2]);
	if (checks)
		return check(fd, pages, seed);
	if (ftruncate(fd, (off_t)(pages * PAGE)) < 0)
		die("ftruncate");
	say("open");
	if (maps)
		map_pages(fd, pages, seed);
	else
		write_pages(fd, pages, seed);
	if (fsync(fd) < 0)
		die("fsync");
	if (close(fd) < 0)
		die("close");
	say("synced");
	return 0;
}
