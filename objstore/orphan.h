/* SPDX-License-Identifier: GPL-3.0-or-later */
/* orphan.h - finds and removes the empty uploads that unanswered CREATEs made; for retry.c. The essay is in orphan.c. */
#ifndef LSVD_ORPHAN_H
#define LSVD_ORPHAN_H

#include "objstore.h"
#include "base/lock.h"
#include "base/table.h"

struct orphans {
	struct objstore *via; /* who is asked */
	struct mtx lock;      /* RANK_RETRY; below */
	struct cond judged_all; /* signalled when a set leaves judged */
	struct list known;    /* struct orphan_set whose upload is under way */
	struct list judged;   /* and those being looked at, by their requests */
};

void orphans_init(struct orphans *o, struct objstore *via);
/* No request may be under way. */
void orphans_done(struct orphans *o);
/* After an answered CREATE: remembers what `lost` tries without an answer may have made. l: uploads with the key as prefix. */
void orphans_note(struct orphans *o, const struct objreq *create, const struct obj_listing *l, unsigned lost,
		  int64_t took_ns);
/* Our upload was completed or aborted: removes what came with it, in the background. */
void orphans_ended(struct orphans *o, const char *upload_id);
/* Until no removal is under way. */
void orphans_wait(struct orphans *o);

#endif
