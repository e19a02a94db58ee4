/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * blkcache.h - groups of log objects on the local disk, shared by all images of a mount; below cache_dir, where
 * everything may be lost or damaged at any time.
 *
 * An entry is one group (64 KiB, FORMAT.md 3.1) of one object: key (uuid of the log, number, group). A number has one
 * byte string for ever, so an entry is never stale: a fenced owner's numbers belong to nobody's map, a deleted
 * object's entry is only useless. (Who puts an older state of a bucket in its place has to empty its caches: then
 * numbers are given a second time.) Nothing read is believed before its CRC says that it is this block of this group of
 * this object; whatever goes wrong here - an error, a full disk, foreign bytes - is a miss.
 *
 * Any thread. No call waits for the network; calls do file I/O without the lock.
 */
#ifndef LSVD_IMAGE_BLKCACHE_H
#define LSVD_IMAGE_BLKCACHE_H

#include "logobj.h"

/* The system calls on its file; tests replace them. NULL members are the real ones. All of it, or -errno. */
struct blkdisk {
	void *ctx;
	int (*pread)(void *ctx, int fd, void *p, size_t n, uint64_t off);
	int (*pread_now)(void *ctx, int fd, void *p, size_t n, uint64_t off); /* -EAGAIN: it is not in memory */
	int (*pwrite)(void *ctx, int fd, const void *p, size_t n, uint64_t off);
	int (*allocate)(void *ctx, int fd, uint64_t off, uint64_t len);
	int (*space)(void *ctx, int fd, uint64_t *ret_free, uint64_t *ret_total);
	uint64_t seed; /* of the hash; 0: random */
};

/*
 * Memory for each group that fits into the limit: slot, hash, ghost (blkcache.c). 10 GiB: 163,000 groups, 6 MB. And the
 * checksums of each group that was read or written since the file was opened: 10 MB if that was all of them.
 */
enum { BLKCACHE_INDEX_BYTES = 24 + 8 + 16, BLKCACHE_SUMS_BYTES = 64 };

struct blkcache;
/*
 * The file `path` (made if need be) of at most `limit` bytes. What it holds from before is taken over, a foreign or
 * damaged file emptied. One process at a time has it: the caller sees to that. limit under 8 MiB: 8 MiB.
 */
int must_check blkcache_open(const char *path, uint64_t limit, const struct blkdisk *disk, struct blkcache **ret);
void blkcache_close(struct blkcache *c); /* nobody is in any more. NULL is fine */

/* Sectors [sector, sector + n), all in one group. false: not there; out may have been written to. */
bool must_check blkcache_read(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t sector, uint32_t n,
			      void *out);
/* The same without waiting for the disk. 0, or -EAGAIN: it is not there, or not in memory. */
int must_check blkcache_read_now(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t sector,
				 uint32_t n, void *out);
/* A guess, for read-ahead. */
bool blkcache_has(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t group);
/* A stored group: content and trailer, len bytes. true: it is there now. */
bool blkcache_put(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t group, const void *stored,
		  size_t len);
/* The object was deleted: its groups' slots are the next to go. */
void blkcache_forget(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t ngroups);

struct blkcache_stat {
	uint64_t limit, used; /* bytes of groups */
	uint64_t hits, misses, fills, evictions;
	uint64_t damaged; /* blocks that did not verify */
	uint64_t errors;  /* of system calls */
	size_t memory;    /* of the index */
};
void blkcache_stat(struct blkcache *c, struct blkcache_stat *ret);

#endif
