/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spool.h - dirty data of plain files on local disk, until its object is complete in the bucket.
 *
 * A spool file is a sparse data file (its length is the file's logical size) and a small append-only journal with CRCs:
 * where it belongs, the version it is based on, the headers, which ranges hold bytes, the upload under way, its state.
 * A write is in both page caches before it is answered: kill -9 of the daemon loses nothing. Ranges that were never
 * written nor fetched are taken from the base version, with If-Match, only when somebody needs them.
 *
 * States: OPEN (being written), CLOSING (a close or fsync is uploading), ACKED (async_close: answered, not yet in the
 * bucket; data and journal were fsynced first), CLEAN (equals the object: kept only while the file is open), PARKED
 * (lost a conflict or a crash: moved to parked/, until a person decides).
 *
 * Locking: every call takes the file's own lock; writers wait while an upload of the same file is between its seal and
 * its completion. No call may be made with a lock of rank >= RANK_SPOOL held. Calls that may wait for the store say so.
 */
#ifndef LSVD_SPOOL_H
#define LSVD_SPOOL_H

#include "meta/tree.h"
#include "objstore/objstore.h"

struct spool;
struct spfile;

struct spool_opts {
	const char *dir;	 /* .../slot/spool; made when absent */
	struct objstore *store;
	const char *prefix;	 /* of the mount */
	struct budget *budget;	 /* upload and fetch buffers come from here */
	uint64_t part_size;	 /* 8 MiB; also the largest single PUT */
	unsigned parallel;	 /* parts of one file under way at once; 0 = 8 */
	unsigned seed;		 /* nonces; 0 = random */
};
int must_check spool_open(const struct spool_opts *o, struct spool **ret, struct objerr *err);
void spool_close(struct spool *s); /* files that are not CLEAN stay on disk for the next mount */

/*
 * A new dirty file. base NULL: the file is not in the bucket yet. whole: no byte of the base is needed (new, or cut to
 * zero); else the base's bytes shine through where nothing was written and the size starts at base->size.
 * -ENOSPC, -EIO. Does not wait for the store.
 */
int must_check spfile_new(struct spool *s, const char *dir, const char *name, uint64_t ino, const struct version *base,
			  const struct obj_headers *h, bool whole, struct spfile **ret);
/* Frees the memory; a CLEAN file's data goes, any other stays on disk for recovery. */
void spfile_free(struct spfile *f);
/* Data and journal go, whatever the state; an upload under way is aborted. May wait for the store. */
void spfile_discard(struct spfile *f);

uint64_t spfile_size(struct spfile *f);
bool spfile_dirty(struct spfile *f);   /* OPEN with something the bucket does not have */
bool spfile_busy(struct spfile *f);    /* between seal and completion: a write would wait */
uint64_t spfile_stored(struct spfile *f); /* bytes on the local disk */

/* Never waits. Bytes read (0 at the end), or -EAGAIN when part of the range must come from the base. */
ssize_t must_check spfile_read_local(struct spfile *f, void *buf, size_t n, uint64_t off);
/* As above, fetching what is missing. May wait for the store. -ESTALE: the base is gone. */
ssize_t must_check spfile_read(struct spfile *f, void *buf, size_t n, uint64_t off, struct objerr *err);
/*
 * Changes. They never wait for the store, but for an upload of this file (see spfile_busy; acknowledged ones count). A
 * CLEAN file becomes OPEN, based on the object it equals. 0, -ENOSPC, -EDQUOT, -EFBIG, -EIO; -ESTALE when it was parked.
 */
int must_check spfile_write(struct spfile *f, const void *buf, size_t n, uint64_t off);
int must_check spfile_append(struct spfile *f, const void *buf, size_t n, uint64_t *ret_off);
int must_check spfile_truncate(struct spfile *f, uint64_t size);
/* Zeroes; with grow the size may rise to off + n. Gives disk space back where it can. */
int must_check spfile_zero(struct spfile *f, uint64_t off, uint64_t n, bool grow);
/* fallocate mode 0: the size rises, disk space is reserved where the file system can. */
int must_check spfile_allocate(struct spfile *f, uint64_t off, uint64_t n);

/* The headers that the next upload sends (journaled); marks nothing dirty by itself. */
int must_check spfile_set_headers(struct spfile *f, const struct obj_headers *h);
/*
 * The file now belongs elsewhere (rename): an upload under the old key is waited for or aborted. May wait. The base becomes
 * *base (NULL: nothing there that we know). A CLEAN file stays CLEAN, it equals *base, unless spfile_force_dirty follows.
 * same_bytes: *base is a copy of the present base (rename of a directory): what was not written here is read from there
 * from now on; else a dirty file still takes it from the object under the old name.
 */
int must_check spfile_move(struct spfile *f, const char *dir, const char *name, const struct version *base,
			   bool same_bytes);
/* The file has lost its name: never uploaded, gone after a crash; reads and writes go on. May wait. */
int must_check spfile_nameless(struct spfile *f);
/*
 * The object was replaced by one with equal bytes (tree_put_headers): *from becomes *to in what the file is based on;
 * nothing happens when it is based on another version. Never waits.
 */
int must_check spfile_rebase(struct spfile *f, const struct version *from, const struct version *to);
/* Everything must go up again even if clean (rename to a key that has other bytes). */
void spfile_force_dirty(struct spfile *f);

enum {
	/*
	 * async_close: make it durable on local disk, answer, upload behind, for ever. ret->v is the old base then; a later
	 * spfile_commit without the flag joins and tells the new version. A conflict parks by itself (that later call is
	 * -ESTALE). spfile_free leaves the file to the queue.
	 */
	SPC_ASYNC = 1 << 0,
	SPC_RECOVER = 1 << 1 /* recovery: a foreign version parks without trying */
};
struct spcommit {
	struct version v;	/* the new object */
	int64_t date_s;		/* Date of the reply */
	bool acked;		/* SPC_ASYNC: durable here, not in the bucket yet; nothing else is filled */
	bool headers_stale;	/* completed by multipart with older headers than set: caller sends tree_put_headers */
	struct version found;	/* after -ESTALE: the foreign version, etag "" when unknown or absent */
};
/*
 * Uploads unless clean: one PUT up to part_size, else the parts that are not up yet (untouched ranges of the base are
 * copied on the server), conditional on the base version (absent: If-None-Match:*). Where a condition is not honoured by
 * Complete: HEAD before it. 0 with *ret filled; -ESTALE: another version is there, file is still dirty, caller parks it.
 * Other errors leave it dirty, too. Waits for the store. Concurrent callers join the upload under way and repeat only
 * when something was written after its seal.
 */
int must_check spfile_commit(struct spfile *f, unsigned flags, struct spcommit *ret, struct objerr *err);
/* Moves data and journal to parked/ with the reason; f is freed. Returns the parked id (0 on I/O error, data then stays). */
uint64_t spfile_park(struct spfile *f, const char *reason);

/* --- after a crash --- */
struct spool_recovery {
	unsigned uploaded, parked, already, failed; /* failed: still in the spool (store down) */
};
/* For each file found when the spool was opened: by state, as DESIGN "After a crash" says; each decision is logged and
 * told to fn (may be NULL) as dir, name, what ("uploaded", "already in the bucket", "parked: why"). Waits for the store. */
int must_check spool_recover(struct spool *s, struct spool_recovery *ret,
			     void (*fn)(void *arg, const char *dir, const char *name, const char *what,
					const struct version *v, const struct obj_headers *h, uint64_t ino),
			     void *arg);
/* Moves every recoverable file of another (locked by us, unused) spool directory into this one. */
int must_check spool_adopt(struct spool *s, const char *other_dir);

/* --- parked bytes; also without a mount, on a directory --- */
struct parked {
	uint64_t id;
	char *path, *reason, *base_etag; /* owned; path = prefix + dir + name */
	uint64_t size;			 /* logical */
	bool partial;			 /* only the written ranges are known; the rest came from the base */
	int64_t time_s;
};
int must_check parked_list(const char *spool_dir, struct parked **ret, size_t *ret_n);
void parked_free(struct parked *v, size_t n);
/* Writes the bytes to fd (sparse); for a partial one the ranges that are known, holes elsewhere. */
int must_check parked_save(const char *spool_dir, uint64_t id, int fd);
/* Uploads over whatever is there now when force, else only when the base still holds. */
int must_check parked_retry(struct spool *s, uint64_t id, bool force, struct spcommit *ret, struct objerr *err);
int must_check parked_drop(const char *spool_dir, uint64_t id);

struct spool_stats {
	uint64_t files, dirty_bytes, uploading, parked;
};
void spool_stats(struct spool *s, struct spool_stats *ret);

#endif
