/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mntpoint.h - the mount point as the kernel sees it: /proc/self/mountinfo, dead mounts, unmounting.
 *
 * Nothing here asks a live mount of ours (stat, realpath of its root) unless it says so: the daemon itself calls it,
 * and a daemon that waits for its own answer cannot be killed.
 */
#ifndef LSVD_MNTPOINT_H
#define LSVD_MNTPOINT_H

#include "objstore/objstore.h"

struct mntpoint {
	char *dir, *source; /* owned */
	unsigned major, minor;
	bool ours;	    /* type fuse.lsvdfs */
	unsigned uid;	    /* who mounted it */
};
void mntpoint_done(struct mntpoint *m);
/* The topmost mount at the absolute path dir. -ENOENT when nothing is mounted just there. */
int must_check mntpoint_find(const char *dir, struct mntpoint *ret);
/* A line of /proc/self/mountinfo (cut up): 0 and *ret (replaced) when it is of a mount at dir, -ENOENT, -ENOMEM. */
int must_check mntpoint_parse(char *line, const char *dir, struct mntpoint *ret);
/* dir made absolute, its parent resolved, its last component not touched unless it is no mount point. -errno. */
int must_check mntpoint_resolve(const char *dir, char **ret);
/*
 * Makes dir ready to be mounted on: a directory, no live lsvdfs mount; a dead one (ENOTCONN) is taken away first. Asks
 * the directory (stat). Words in err. -EBUSY: mounted already.
 */
int must_check mntpoint_check(const char *dir, const char *source, char **ret_dir, struct objerr *err);
/*
 * umount2(2), and fusermount3 for who may not. flags MNT_FORCE, MNT_DETACH. -EBUSY: in use, -EINVAL: not mounted, else
 * something is wrong. Words in err, fusermount3's own if it said any.
 */
int must_check mntpoint_umount(const char *dir, int flags, struct objerr *err);
/* Is /dev/fuse there? Words in err. */
int must_check mntpoint_check_fuse(struct objerr *err);
/* Kernel read-ahead of the mount in KiB; needs root, failure is harmless. */
void mntpoint_read_ahead(const struct mntpoint *m, unsigned kib);
/* True when path lies at or below dir; both absolute. */
bool mntpoint_below(const char *path, const char *dir);

#endif
