/* SPDX-License-Identifier: GPL-3.0-or-later */
/* imgstats.c - what came out of a run of seeds (imgscene.h), in words. */
#include "config.h"
#include "imgscene.h"
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

struct imgscene_stats *imgstats;

void imgscene_setup(void)
{
	imgstats = mmap(NULL, sizeof(*imgstats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (imgstats == MAP_FAILED)
		abort();
	imgtrace_on = getenv("TRACE") != NULL;
}

uint64_t imgscene_crash_points(void)
{
	return imgstats->at_store + imgstats->at_disk;
}

void imgscene_print(void)
{
	const struct imgscene_stats *s = imgstats;

	(void)printf("crash points %" PRIu64 ": at store calls %" PRIu64 ", at journal calls %" PRIu64
		     "; killed elsewhere %" PRIu64 "; then power cut %" PRIu64 ", disk lost %" PRIu64 ", disk copied %" PRIu64
		     "\n",
		     imgscene_crash_points(), s->at_store, s->at_disk, s->killed, s->power, s->wiped, s->copied);
	(void)printf(
	    "owners %" PRIu64 ": taken over %" PRIu64 ", handed over %" PRIu64 ", releases %" PRIu64 ", fenced %" PRIu64
	    ", busy %" PRIu64 ", burst claims %" PRIu64 ", marks %" PRIu64 ", deletes %" PRIu64 ", cleaner objects %" PRIu64
	    "\n",
	    s->sessions, s->takeovers, s->handovers, s->releases, s->fenced, s->busy, s->bursts, s->marks, s->deletes,
	    s->moves);
	(void)printf("frozen %" PRIu64 ", late requests %" PRIu64 ", answers 412 %" PRIu64 ", store down %" PRIu64
		     ", denied %" PRIu64 ", journal full %" PRIu64 ", failed syncs %" PRIu64 ", gone back %" PRIu64
		     "\n",
		     s->frozen, s->late, s->lost_412, s->down, s->denied, s->full, s->failed_syncs, s->gone_back);
	(void)printf("groups of writes %" PRIu64 ", flushes %" PRIu64 ", reads by the owner %" PRIu64
		     ", beside it %" PRIu64 ", by followers %" PRIu64 "\n",
		     s->groups, s->flushes, s->reads, s->peer_reads, s->follower_reads);
	(void)printf("snapshots %" PRIu64 ", deleted %" PRIu64 ", ways back %" PRIu64 ", clones %" PRIu64 ", deleted %" PRIu64
		     ", deletions refused %" PRIu64 ", reads of snapshots %" PRIu64 "\n",
		     s->snaps, s->unsnaps, s->backs, s->clones, s->ends, s->refused, s->snap_reads);
	(void)printf("positions %" PRIu64 ", ways back to them %" PRIu64 ", reads of them %" PRIu64 "\n", s->places, s->place_backs,
		     s->place_reads);
}
