/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * run-corpus.c - main() of a fuzz target where there is no libFuzzer: every file of its corpus (the directory in argv[1],
 * else tests/fuzz/corpus-NAME in the sources for a program fuzz-NAME), and mutations of each from a fixed seed.
 */
#include "config.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUTATIONS 20000 /* of all inputs together */
#define INPUT_MAX 65536

/* A target that takes long for one input says how much less often it is called. */
extern const unsigned fuzz_cost __attribute__((weak));

static unsigned seed = 1;

static size_t mutate(uint8_t *p, size_t n)
{
	unsigned times = 1 + (unsigned)rand_r(&seed) % 4;

	while (times--) {
		size_t at = n ? (size_t)rand_r(&seed) % n : 0;

		switch (rand_r(&seed) % 5) {
		case 0:
			if (n)
				p[at] = (uint8_t)rand_r(&seed);
			break;
		case 1:
			if (n)
				p[at] ^= (uint8_t)(1u << rand_r(&seed) % 8);
			break;
		case 2:
			n = at;
			break;
		case 3: /* doubled from here on */
			if (n - at <= INPUT_MAX - n) {
				memmove(p + n, p + at, n - at);
				n += n - at;
			}
			break;
		default:
			if (n) {
				memmove(p + at, p + at + 1, n - at - 1);
				n--;
			}
		}
	}
	return n;
}

static void run_file(const char *path, unsigned mutations)
{
	uint8_t *in = malloc(INPUT_MAX), *work = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!in || !work || !f) {
		fprintf(stderr, "%s cannot be read\n", path);
		exit(1);
	}
	n = fread(in, 1, INPUT_MAX, f);
	fclose(f);
	LLVMFuzzerTestOneInput(in, n);
	seed = 1; /* of each file, so that a failure does not depend on what other files there are */
	while (mutations--) {
		uint8_t *exact;
		size_t m;

		memcpy(work, in, n);
		m = mutate(work, n);
		/* In a block of its very size, so that a sanitizer sees one byte too far. */
		exact = malloc(m ? m : 1);
		if (!exact)
			exit(1);
		memcpy(exact, work, m);
		LLVMFuzzerTestOneInput(exact, m);
		free(exact);
	}
	free(in);
	free(work);
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir"), *name = strrchr(argv[0], '/');
	char dir[4096], path[8192];
	struct dirent **v;
	unsigned times;
	int n;

	name = name ? name + 1 : argv[0];
	if (!strncmp(name, "lt-", 3))
		name += 3;
	if (argc > 1)
		snprintf(dir, sizeof(dir), "%s", argv[1]);
	else
		snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus-%s", srcdir ? srcdir : ".",
			 !strncmp(name, "fuzz-", 5) ? name + 5 : name);
	n = scandir(dir, &v, is_visible, alphasort);
	if (n <= 0) {
		fprintf(stderr, "no corpus in %s\n", dir);
		return 1;
	}
	times = MUTATIONS / (&fuzz_cost ? fuzz_cost : 1) / (unsigned)n;
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, v[i]->d_name);
		run_file(path, times);
		free(v[i]);
	}
	free(v);
	printf("%d inputs, %u mutations each, all survived\n", n, times);
	return 0;
}
