/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * readahead.c - detection of sequential streams (readahead.h).
 *
 * A stream is taken for one when two reads in a row went on where the one before ended: two random reads do so in one
 * of many millions, so random readers cost nothing. Reads that are under way together come a little out of order: one
 * that begins up to twice its length too early or late still goes on. The window starts at 256 KiB or two reads, doubles
 * each time that the reader used half of it, and from 2 MiB on 1 MiB of it, or an eighth: so much is always on its way,
 * and a large window asks for large pieces, since a request costs the store as much as some hundred KiB.
 *
 * The stream that was idle for longest makes room, one that is no more than a single read first: random reads take
 * places from each other, not from streams, unless a stream slept for long.
 */
#include "config.h"
#include "readahead.h"

enum { CONFIRM = 2, FIRST = 512, STEP = 2048, NEAR = 2048, IDLE = 4096 }; /* sectors, reads */

/* Whether the read goes on with s. */
static bool goes_on(const struct ra_stream *s, uint64_t lba, uint64_t n)
{
	uint64_t after = s->runs >= CONFIRM ? MAX(s->window, 2 * n) : 2 * n;
	uint64_t before = s->runs >= CONFIRM ? MAX((uint64_t)NEAR, 2 * n) : 2 * n;

	return s->used != 0 && (lba >= s->next ? lba - s->next <= after : s->next - lba <= before);
}

static struct ra_stream *find(struct readahead *ra, uint64_t lba, uint64_t n)
{
	struct ra_stream *best = NULL;

	for (struct ra_stream *s = ra->s; s < ra->s + RA_STREAMS; s++)
		if (goes_on(s, lba, n) && (best == NULL || s->runs > best->runs || s->next == lba))
			best = s;
	return best;
}

static uint64_t worth(const struct readahead *ra, const struct ra_stream *s)
{
	bool stream = s->runs > 0 && ra->tick - s->used < IDLE;

	return s->used + (stream ? UINT64_MAX / 2 : 0);
}

static void take_place(struct readahead *ra, uint64_t lba, uint64_t n)
{
	struct ra_stream *s = ra->s;

	for (struct ra_stream *t = ra->s; t < ra->s + RA_STREAMS; t++)
		if (worth(ra, t) < worth(ra, s))
			s = t;
	*s = (struct ra_stream){.next = lba + n, .used = ra->tick};
}

/* What a stream reads before the next piece is asked for. */
static uint64_t step(const struct ra_stream *s)
{
	return MIN(s->window / 2, MAX((uint64_t)STEP, s->window / 8));
}

bool readahead_note(struct readahead *ra, uint64_t lba, uint64_t n, uint64_t limit, uint64_t *ret_lba, uint64_t *ret_n)
{
	struct ra_stream *s = find(ra, lba, n);
	uint64_t end;

	ra->tick++;
	if (s == NULL) {
		take_place(ra, lba, n);
		return false;
	}
	s->used = ra->tick;
	if (lba + n <= s->next)
		return false; /* again, or backwards: no progress */
	s->next = lba + n;
	s->runs++;
	s->asked = MAX(s->asked, s->next);
	if (s->runs < CONFIRM || limit == 0 ||
	    (s->window != 0 && s->asked + step(s) > s->next + s->window))
		return false;
	s->window = s->window == 0 ? MAX((uint64_t)FIRST, 2 * n) : s->window * 2;
	s->window = MIN(s->window, limit);
	end = s->next + s->window;
	/* An image that was written in sequence has its objects cut so, too. */
	if (s->window >= 8 * (uint64_t)STEP)
		end -= end % step(s);
	if (s->asked >= end)
		return false;
	*ret_lba = s->asked;
	*ret_n = end - s->asked;
	s->asked = end;
	return true;
}
