/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * repair.h - what of a damaged image can be put right by what the bucket proves, and doing it.
 *
 * Proven means: the map after the repair is that of the same log, object by object, and no byte of it comes from anywhere
 * else. Each kind of damage, and what proves its repair:
 *
 *	marks are gone		the newest checkpoint that later objects call durable, or before which no number is missing: any
 *				committed checkpoint may be marked, at any time (PROTOCOL.md 2, Checkpoint)
 *	create record		the window stands in every header, that there is no origin in the number of the first claim; of
 *				what is lost the safe choice (fsync: remote), no byte of the image depends on it
 *	a claim			its number stands in the checkpoint's list; its epoch is its place in that list. Behind the newest
 *				mark: the first object of its owner, of the next epoch, lies just a window behind it
 *	newest checkpoint,	an older checkpoint, or the beginning, and every object since: the walk of the protocol, which takes
 *	digest, pages of the	no newer tree over. A number that is gone ends it: then that is no proof
 *	map
 *	list of objects		the map itself, walked from end to end
 *	bytes of an object	none of them belongs to the image: what else the object holds is written anew
 *	strays, void objects	what every owner deletes
 *
 * Everything but what no attach works without is done by an owner, after a claim as any writer's; the outcome is a new map, two checkpoints
 * and their marks. Not proven, and only told: what an object of the log held that nothing repeats. Lost bytes of the image
 * that the map knows are a list of ranges; they read as EIO until somebody says that they shall be zeros.
 */
#ifndef LSVD_IMAGE_REPAIR_H
#define LSVD_IMAGE_REPAIR_H

#include "volume.h"

struct lost_range {
	uint64_t off, len; /* bytes of the image */
	uint64_t number;   /* the log object that had them, or the page of the map that knew where they are */
	bool page;
};
struct repair_range {
	uint64_t off, len;
};
struct repair_plan {
	char **step; /* a line each: what is wrong, and what is done about it */
	char **left; /* what cannot be put right, and what the user can do */
	size_t nstep, nleft;
	struct lost_range *lost; /* ascending */
	size_t nlost;
	uint64_t lost_bytes;
	bool first;      /* these steps come before the image can be attached: do them, then plan again */
	bool owned;      /* there is something to do for an owner */
	bool from_base;  /* with these in vol_env */
	bool lose_pages;
	uint64_t base;
	/* private */
	uint64_t tail, jseq; /* of the log that it was made from */
	bool damaged, no_table; /* the list of objects cannot be read */
	uint64_t mark, create; /* to be made: 0: none; the number */
	uint32_t window;
	uint64_t create_size;
	uint64_t walk_claim, claim_epoch, claim_before, claim_jseq, claim_size; /* a claim that the walk needs */
	uint8_t claim_nonce[16];
	char **junk; /* keys below mark/ */
	size_t njunk;
	uint64_t *claims, *alive, *snaps, *bad; /* to be made again; not dead; records that are lost; damaged objects */
	size_t nclaims, nalive, nsnaps, nbad;
	struct repair_range *salvage; /* of damaged objects, whole themselves */
	size_t nsalvage, caplost, capsalvage;
};
/* Reads only. data: every object in full. Nothing to do: no steps. zero_lost: lost ranges are to become zeros. */
int must_check repair_plan(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], bool data, bool zero_lost,
			   struct repair_plan *ret, struct objerr *err);
void repair_plan_free(struct repair_plan *p);
/* The steps of a plan with `first`. */
int must_check repair_first(const struct vol_env *env, const char *prefix, const uint8_t uuid[16],
			    const struct repair_plan *p, struct objerr *err);
/*
 * The others: v was opened with the plan's from_base, base, lose_pages. Claims: -EBUSY. -EAGAIN: the image went on since the
 * plan was made, or a journal of this machine had something for it, which is in the bucket then: plan again.
 */
int must_check vol_repair(struct volume *v, const struct repair_plan *p, bool zero_lost, struct objerr *err);

/* ---- marks ---- */
struct image_mark {
	uint64_t number, size;
	int64_t time_s; /* 0: not known */
	bool marked;    /* else: a checkpoint that another names as the one before, what it needs may be deleted */
	bool whole;     /* object, digests and the first page of its map are there */
	char why[256];  /* if not */
};
/* Newest first, to be freed. */
int must_check image_marks(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct image_mark **ret,
			   size_t *ret_n, struct objerr *err);

/* ---- survey.c ---- */
int must_check repair_survey(struct volume *v, bool data, struct repair_plan *p, struct objerr *err);
/* All pages of the map are there: 0; -EUCLEAN, -ENOENT. */
int must_check repair_map_whole(struct volume *v, struct objerr *err);
int must_check repair_add(struct repair_plan *p, bool left, const char *fmt, ...) printf_like(3, 4);

#endif
