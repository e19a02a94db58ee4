/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * check.h - is everything of an image there, and whole? Reads only; claims nothing; may run beside an owner.
 *
 *	always	marks, checkpoint, digests, headers behind it, all claims, all pages of the tree and of the object table
 *		(those that the newest mark names, and newer ones that the walk took over), the whole map against a
 *		listing of the log: each object that the map needs is there and long enough. The same for the states of all
 *		snapshots; and for that of the second newest mark, which is only a stray where it is not whole: nobody needs
 *		it as long as the newest is
 *	data	every object of the log in full, every checksum in it
 *
 * What an owner deletes or adds meanwhile is not taken for damage: where something is missing and the newest mark has
 * moved, all is done again.
 */
#ifndef LSVD_IMAGE_CHECK_H
#define LSVD_IMAGE_CHECK_H

#include "volume.h"

enum check_kind {
	CHECK_DAMAGE, /* bytes or history of the image are lost */
	CHECK_STRAY,  /* lies there and means nothing */
	CHECK_NOTE,
};
struct check_opts {
	bool data;
	void (*say)(void *arg, enum check_kind kind, const char *line);      /* after the last look */
	void (*bad)(void *arg, uint64_t number);                             /* data only: damaged, needed or not; may be NULL */
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t of_bytes); /* data only; may be NULL */
	void *arg;
};
struct check_result {
	uint64_t tail, checkpoint, epoch, size;
	uint64_t objects, bytes;               /* of the log, as listed */
	uint64_t referred, referred_bytes;     /* what the newest map, checkpoint and walk need */
	uint64_t garbage, garbage_bytes;       /* what the owner's deletes will take */
	uint64_t verified, verified_bytes;     /* in full */
	uint64_t allocated;                    /* bytes that read as data or "zero" */
	unsigned damage, strays;               /* lines said */
	bool dead, released;
};
/* 0 also for a damaged image: see ret->damage. Negative: it could not be looked at, words in err. */
int must_check image_check(const struct vol_env *env, const char *prefix, const uint8_t uuid[16],
			   const struct check_opts *o, struct check_result *ret, struct objerr *err);

#endif
