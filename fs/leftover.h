/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * leftover.h - what a node that died left in the bucket and no journal knows: copies of removed files that it had open
 * (.lsvd/unlinked/), and uploads whose id never reached it.
 */
#ifndef LSVD_LEFTOVER_H
#define LSVD_LEFTOVER_H

#include "slot.h"

enum leftover_fate {
	LEFTOVER_REMOVED,
	LEFTOVER_FAILED,  /* could not be removed: words in why */
	LEFTOVER_RUNNING, /* of a mount of this machine that runs */
	LEFTOVER_FOREIGN, /* of another node, or of nobody known: left alone */
};
/* "removed", "failed", "running", "foreign" */
extern const char *const leftover_fate_name[];

struct leftover {
	const char *key, *upload_id; /* whole key; upload_id NULL for a copy */
	uint64_t size;		     /* of a copy */
	int64_t time_s;		     /* made at */
	enum leftover_fate fate;
	const char *why;
};
typedef void (*leftover_fn)(void *arg, const struct leftover *l); /* l is valid during the call */

/* Where a node puts such a copy: a new key each time. node_id NULL: nobody's, it is never collected. */
int must_check leftover_key(const char *prefix, const char *node_id, char **ret);

/*
 * Removes the copies of every slot of this identity that nobody holds any more, tells fn of each one there is. mine: the
 * slot that the caller holds and has no open files under yet; NULL for none. 0 also when single ones failed; else the
 * error of listing. Waits for the store.
 */
int must_check leftover_copies(struct objstore *store, const char *prefix, const char *state_dir, const char *identity,
			       const struct slot *mine, leftover_fn fn, void *arg, struct objerr *err);

/*
 * Uploads below prefix that were begun before before_s, whoever began them: FOREIGN, or with abort REMOVED or FAILED.
 * An upload does not say whose it is; after a day nobody sane still writes it.
 */
int must_check leftover_uploads(struct objstore *store, const char *prefix, int64_t before_s, bool abort, leftover_fn fn,
				void *arg, struct objerr *err);

#endif
