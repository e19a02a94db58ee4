/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * intent.h - directory renames that were begun and not ended, found by their intents in the bucket.
 *
 * An intent says from, to and which node began it. A node is a slot of a state directory: its id lies in the slot, so
 * an intent is ours exactly when one of our slots has that id, and it is dead exactly when nobody holds that slot.
 */
#ifndef LSVD_INTENT_H
#define LSVD_INTENT_H

#include "slot.h"

/* The id of a slot that the caller has locked: made at the first call, the same ever after. To be freed. */
int must_check intent_node_id(const struct slot *s, char **ret);

/*
 * Whose is an id? -ENOENT: no slot of ours, another machine's. -EBUSY: of a mount of this machine that runs. 0: of one that
 * is dead: mine (the caller holds that slot and has just started), or nobody's, then locked in *ret until slot_release.
 * *ret is set up by the caller with lock_fd -1.
 */
int must_check intent_owner(const char *state_dir, const char *identity, const struct slot *mine, const char *node,
			    struct slot *ret);

enum intent_fate {
	INTENT_RESUMED, /* the rename is done, the intent gone */
	INTENT_FAILED,	/* ours, and it could not be done: words in why */
	INTENT_RUNNING, /* of a mount of this machine that runs: it is under way, or will be resumed by it */
	INTENT_FOREIGN, /* of another node */
	INTENT_DAMAGED, /* not to be understood; left alone */
};
struct intent {
	const char *key, *from, *to; /* from and to relative to the prefix, ending in '/'; NULL when damaged */
	int64_t time_s;		     /* LastModified */
	enum intent_fate fate;
	const char *why;
};
/* "resumed", "failed", "running", "foreign", "damaged" */
extern const char *const intent_fate_name[];

/*
 * Finishes every rename that a slot of this identity began and nobody holds any more. mine: the slot that the caller
 * holds, its own intents are dead, too (a mount that starts); NULL for none. Tells fn what became of each intent. 0 also
 * when single ones failed; else the error of listing. Waits for the store.
 */
int must_check intent_resume_all(struct objstore *store, const char *prefix, const char *state_dir,
				 const char *identity, const struct slot *mine,
				 void (*fn)(void *arg, const struct intent *i), void *arg, struct objerr *err);

#endif
