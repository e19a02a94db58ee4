/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * metaq.h - changes of metadata on closed files that wait (about 1 s) before they go to the bucket, so that later ones,
 * a rewrite or a rename can join them. Journaled in the slot before the caller answers.
 *
 * One entry per name. A sender thread takes due entries and calls tree_put_headers() with several workers in parallel.
 * Locking: own lock of rank RANK_SPOOL; the callback runs without it.
 */
#ifndef LSVD_METAQ_H
#define LSVD_METAQ_H

#include "meta/tree.h"

struct metaq;

/*
 * After an entry was sent (status 0, v the object's new version), or given up (-errno). h: what was sent,
 * base: the version that it was put for. found not NULL: a foreign version was met; with status 0 the mode and owner
 * that were set here were put onto that one, and v has its bytes, not the base's; times and xattrs alone are given up.
 * Runs before whoever waits for the sending (metaq_take, the syncs) goes on: they may not hold a lock that it takes.
 */
typedef void (*metaq_done_fn)(void *arg, const char *dir, const char *name, bool is_dir, int status,
			      const struct version *base, const struct version *v, const struct version *found,
			      const struct obj_headers *h);

struct metaq_opts {
	const char *path;     /* journal file in the slot of state_dir */
	struct tree *tree;
	int64_t delay_ns;     /* 1 s */
	unsigned workers;     /* 0 = 16 */
	metaq_done_fn done;
	void *arg;
};
/* Entries found in the journal (crash) are sent when their base still holds, else dropped and reported by log_warn. */
int must_check metaq_open(const struct metaq_opts *o, struct metaq **ret, struct objerr *err);
void metaq_close(struct metaq *q); /* waits for entries under way; others stay in the journal */

/*
 * Adds or replaces. h: all headers the object shall have. set: which of ATTR_MODE, ATTR_UID and ATTR_GID were set here:
 * those go onto another client's new version too, should the base turn out to be gone; all that an entry was given.
 */
#define METAQ_SET_ALL (ATTR_MODE | ATTR_UID | ATTR_GID)
int must_check metaq_put(struct metaq *q, const char *dir, const char *name, bool is_dir, const struct version *base,
			 const struct obj_headers *h, unsigned set);
/* The waiting headers of a name, under way included: 0 and a copy, or -ENOENT. Overlay for stat. */
int must_check metaq_peek(struct metaq *q, const char *dir, const char *name, bool is_dir, struct obj_headers *ret);
/* Takes the entry out (a PUT or a rename carries it, or the name goes); waits when it is being sent right now.
 * 0 and the headers (ret may be NULL), or -ENOENT. */
int must_check metaq_take(struct metaq *q, const char *dir, const char *name, bool is_dir, struct obj_headers *ret);
/* Sends now and waits: fsync. 0 also when nothing waited; else the error of the sending. */
int must_check metaq_sync(struct metaq *q, const char *dir, const char *name, bool is_dir, struct objerr *err);
/* Everything below dir ("" = all): rename of a directory, umount. First error, but that times met another version. */
int must_check metaq_sync_below(struct metaq *q, const char *dir, struct objerr *err);
uint64_t metaq_count(struct metaq *q);

#endif
