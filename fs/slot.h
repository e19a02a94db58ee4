/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slot.h - where a mount keeps its local files: DIR/IDENTITY/slot-N, one slot per running mount.
 *
 *   DIR (state_dir= or cache_dir=)
 *     version                 "1": a newer one is refused
 *     NAME-HASH/              the identity: endpoint + bucket + prefix
 *       identity              the same in words (a hash collision is refused, other spellings are found by it)
 *       slot-0/               lock (flock for life), spool/, metaq, nodes | attr.db
 *       slot-1/ ...           a second mount of the same source on this host
 *
 * A slot is locked by flock(2) on a descriptor that lives as long as the daemon: kill -9 unlocks it. Slots are never
 * removed, so a lock file that was opened is the lock file. No threads, no other lock: called at start and from
 * commands.
 */
#ifndef LSVD_SLOT_H
#define LSVD_SLOT_H

#include "objstore/objstore.h"

#define SLOT_VERSION 1
#define SLOT_MAX 256 /* running mounts of one source on one host */

struct slot {
	char *path;	/* .../slot-N, owned */
	unsigned number;
	int lock_fd;	/* -1 = not locked */
};

/* "s3\nhttps://host:1234\nbucket\nprefix/\n" in canonical spelling: what makes two mounts the same. -ENOMEM. */
int must_check slot_identity(const struct obj_url *url, const char *endpoint, char **ret);
/* DIR/NAME-HASH of an identity; makes nothing. -ENOMEM. */
int must_check slot_identity_dir(const char *dir, const char *identity, char **ret);

/* Takes the first unlocked slot of the identity, or a new one; makes directories (0700) and the version file.
 * -EPROTO: made by a newer version; -EUSERS: SLOT_MAX slots are in use; -EACCES, -ENOSPC ...; words in err. */
int must_check slot_take(const char *dir, const char *identity, struct slot *ret, struct objerr *err);
/* Locks slot `number` if it exists and nobody has it. -ENOENT, -EBUSY. */
int must_check slot_lock(const char *dir, const char *identity, unsigned number, struct slot *ret);
void slot_release(struct slot *s); /* unlocks, frees */
/* The numbers of all existing slots in ascending order; *ret to be freed. A missing directory has none. */
int must_check slot_list(const char *dir, const char *identity, unsigned **ret, size_t *ret_n);
int must_check slot_list_in(const char *identity_dir, unsigned **ret, size_t *ret_n); /* the same by its directory */
/* A file inside: path + "/" + name. -ENOMEM. */
int must_check slot_file(const struct slot *s, const char *name, char **ret);

/* True when the spool below a slot's path holds dirty data (anything but parked/). */
bool slot_dirty(const char *slot_path);
/* Unlocked dirty slots of the same bucket under another identity: fn is called with their path and identity. */
int must_check slot_strangers(const char *dir, const char *identity,
			      void (*fn)(void *arg, const char *path, const char *identity), void *arg);

/* True when dir lies on a file system that a reboot empties (tmpfs, ramfs). */
bool slot_volatile(const char *dir);

#endif
