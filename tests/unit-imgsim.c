/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgsim.c - volumes in the simulated world (sim/imgscene.h): an image, its clones, three nodes, a store that loses, repeats
 * and delays; daemons that are killed, lose their power, lose their disks, freeze and thaw, take over and hand over.
 *
 *	unit-imgsim [SEED [COUNT]]	SEED alone: that one; neither: those of `make check`
 *	IMGSIM_STEP=N			the first daemon dies at its N-th call of store or journal
 *	DENSE=1				somebody dies at a call every few moments
 *	IMGSIM_POINTS=N SEED=N		seeds from there on until daemons have died at so many calls (tests/soak): three of four
 *					seeds dense, and every 1000th at each call of its first daemon, one after the other
 *	WORLD=1..4			bent to something (enum imgscene_world); else some seeds are
 *	CLEANER=1, CLEANER=2		all of them clean, or none; else those of even seeds
 *	SNAPS=1, SNAPS=2		snapshots, ways back, clones and their end: always, or never; else in half of the seeds
 *	RETAIN=1, RETAIN=2		the past is kept for a while: always, or never; else in a quarter of the seeds, with snapshots
 *	TRACE=1				tells what happens
 */
#include "config.h"
#include "sim/imgscene.h"
#include <inttypes.h>
#include <stdio.h>

enum { SEEDS = 120, EACH_STEP_OF = 1000, SPARSE_OF = 4 };

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL && *s != '\0' ? strtoull(s, NULL, 10) : otherwise;
}

/* A death at each `stride`-th call of the first daemon, until it lives to its end. */
static bool each_step(const char *program, uint64_t seed, uint64_t stride)
{
	uint64_t ended = imgstats->survived;

	for (imgscene_first_death = 1; imgstats->survived == ended; imgscene_first_death += stride)
		if (!sim_try(seed, imgscene)) {
			(void)printf("not ok: seed %" PRIu64 " (run IMGSIM_STEP=%" PRIu64 " %s %" PRIu64 ")\n", seed,
				     imgscene_first_death, program, seed);
			return false;
		}
	imgscene_first_death = 0;
	return true;
}

static bool points(const char *program, uint64_t seed, uint64_t n)
{
	for (uint64_t said = 0; imgscene_crash_points() < n; seed++) {
		if (imgscene_crash_points() >= said + 5000) {
			said = imgscene_crash_points();
			(void)printf("seed %" PRIu64 ": %" PRIu64 " crash points\n", seed, said);
			(void)fflush(stdout);
		}
		imgscene_dense = seed % SPARSE_OF != 0;
		if (!sim_try(seed, imgscene)) {
			(void)printf("not ok: seed %" PRIu64 " (run DENSE=%d %s %" PRIu64 ")\n", seed, imgscene_dense, program,
				     seed);
			return false;
		}
		if (seed % EACH_STEP_OF == 0 && !each_step(program, seed, 1))
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	uint64_t n = number("IMGSIM_POINTS", 0);
	bool ok;

	imgscene_setup();
	imgscene_first_death = number("IMGSIM_STEP", 0);
	imgscene_dense = number("DENSE", 0) != 0;
	imgscene_world = (enum imgscene_world)(number("WORLD", WORLD_ANY) % (IMGSCENE_WORLDS + 1));
	imgscene_cleaner = (enum imgscene_cleaner)MIN(number("CLEANER", CLEANER_SOME), (uint64_t)CLEANER_OFF);
	imgscene_snaps = (enum imgscene_snaps)MIN(number("SNAPS", SNAPS_SOME), (uint64_t)SNAPS_OFF);
	imgscene_retain = (enum imgscene_retain)MIN(number("RETAIN", RETAIN_SOME), (uint64_t)RETAIN_OFF);
	if (n != 0)
		ok = points(argv[0], number("SEED", 1), n);
	else
		ok = sim_main(argc, argv, SEEDS, imgscene) == 0 && (argc > 1 || each_step(argv[0], 2, 13));
	imgscene_print();
	return !ok;
}
