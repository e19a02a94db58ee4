/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgduel.h - two or three daemons at the very steps that one rule orders, as a seed says.
 *
 * imgscene.c is everything that can happen; what needs several coincidences at once hardly ever does there. A duel
 * begins where the coincidences are prepared, and leaves to the seed who goes on, who sleeps, who dies, and what the
 * network does. What is checked is what users are promised, never a step.
 */
#ifndef LSVD_IMGDUEL_H
#define LSVD_IMGDUEL_H

#include "sim.h"

enum imgduel {
	DUEL_NONE,
	DUEL_UNSNAP, /* a snapshot is deleted, and cloned: each clone that is there stays whole */
	DUEL_REMOVE, /* an image is deleted, and a snapshot of it cloned: the same */
	DUEL_REBORN, /* an image is deleted, and its create record comes once more: it stays deleted */
	DUEL_ERASE,  /* an image is deleted under its writers: no flush behind a later owner's claim succeeds */
	DUEL_FENCED, /* an owner that was overtaken deletes by what it knows: nothing of the next one's */
	IMGDUELS
};
extern enum imgduel imgduel_kind;
extern const char *const imgduel_name[IMGDUELS];
/* The scenario, for sim_main(). */
void imgduel(void *arg);

/* Summed up over the children; set by imgduel_setup(). */
struct imgduel_stats {
	uint64_t deaths, sleeps, clones, refused, ends, flushes, fenced, takeovers;
};
extern struct imgduel_stats *imgduel_stats;
void imgduel_setup(void);
void imgduel_print(void);

#endif
