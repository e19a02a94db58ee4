/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rename.h - private to rename.c and rename_dir.c: guards of renames, and the rename of a directory. */
#ifndef LSVD_RENAME_H
#define LSVD_RENAME_H

#include "inode.h"

/* Excludes every guarded operation on or below both directories; waits for those under way. */
int must_check guard_enter_rename(struct fsd *f, struct guard *from, const char *from_dir, struct guard *to,
				  const char *to_dir);
int must_check guard_enter_two(struct fsd *f, struct guard *a, struct inode *adir, char **ret_a, struct guard *b,
			       struct inode *bdir, char **ret_b);

/*
 * Moves the directory i (named sname in sp) to dname in dp; dst: an existing directory there, which must be empty, or
 * NULL. Essay and steps: rename_dir.c. -ENOTEMPTY, -EBUSY (an image's log below, or the source keeps changing), -EINVAL
 * (into itself). Waits for the store.
 */
int must_check rename_dir(struct fsd *f, struct inode *i, struct inode *sp, const char *sname, struct inode *dst,
			  struct inode *dp, const char *dname, bool noreplace, struct objerr *err);

/* Says in the bucket what is about to be renamed (relative to the prefix); the key, to be freed. */
int must_check rename_intent_put(struct fsd *f, const char *from, const char *to, char **ret_key, struct objerr *err);

#endif
