/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volume.h - a disk image as a sparse array of bytes with an ordered log behind it. With nameobj.h, refs.h, repair.h and
 * check.h the only header of this room that the rest of fs/ includes; no FUSE, no paths, no metadata here.
 *
 * The promise: whatever dies - daemon, host, disk, network - the image that comes back is the state after some prefix
 * of the acknowledged writes, and that prefix holds everything that a completed vol_flush() covered (fsync local:
 * while the journal's directory survives; remote: always). No write of a node that lost the image reaches it after
 * the other node's claim.
 *
 * States
 *	CLOSED	 --first open-->	FOLLOWER: reads a view of the log; nothing claimed
 *	FOLLOWER --first I/O through a writable handle-->	OWNER: claim; writes go to journal and log
 *	OWNER	 --last writable close-->	drains, releases, FOLLOWER or CLOSED
 *	OWNER	 --another node's claim-->	FENCED: every call -EIO until the last close; journal set aside
 *	any	 --damage, journal broken-->	FAILED: writes -EIO, reads of what is whole go on
 * A volume that is fenced or failed takes nothing else with it.
 */
#ifndef LSVD_IMAGE_VOLUME_H
#define LSVD_IMAGE_VOLUME_H

#include "../../objstore/objstore.h"

struct volume;
struct budget;
struct fetch;
struct pool;
struct jdisk;

/* Of an image that another node claimed last: once it was released; at any time; not at all. */
enum vol_takeover { VOL_TAKEOVER_RELEASED, VOL_TAKEOVER_ALWAYS, VOL_TAKEOVER_NEVER };

/* What all images of a mount share. Everything borrowed for the life of the volumes. */
struct vol_env {
	struct objstore *store;
	struct budget *budget;
	struct pool *pool;        /* background work of all volumes: never waited for by it */
	struct fetch *fetch;      /* reads, block cache and read-ahead of all of them; NULL: each read asks the store */
	const char *state_dir;    /* <slot>/img: journals, a directory an image */
	const struct jdisk *disk; /* NULL: the real one */
	const char *host;
	uint64_t journal_bytes; /* of one image; 0: 1 GiB */
	uint64_t segment_bytes; /* 0: 64 MiB */
	uint64_t map_bytes;     /* memory for the map of one image; 0: 64 MiB */
	unsigned digest_every;  /* objects between checkpoints, for tests; 0: VOL_DIGEST_EVERY */
	unsigned tree_digests;  /* digests before a tree, for tests; 0: VOL_TREE_DIGESTS */
	unsigned tree_object_bytes; /* of a map object, for tests; 0: 8 MiB */
	unsigned map_fanout;    /* entries of a page of its tree, for tests; 0: as many as fit */
	uint64_t batch_bytes;   /* 0: what the create record says */
	int64_t dirty_age_ns;   /* 0: 5 s */
	int64_t claim_wait_ns;  /* how long a claim waits for another node's release */
	enum vol_takeover takeover;
	uint64_t retain_s;      /* images that say nothing: how long owned ones keep their past */
	bool read_only;
	bool no_cleaner; /* for tests */
	/* For repairs (repair.h): walks begin at this checkpoint, 0: at the beginning; pages that are lost are holes. */
	bool from_base, lose_pages;
	uint64_t base;
};

/*
 * What reads of all images of a mount share (vol_env.fetch): requests under way, read-ahead, the block cache. Borrows
 * store, budget and pool. cache: the file of the block cache (NULL, or 0 bytes: none); one that cannot be used is
 * none as well, and err says why.
 */
struct vol_reads {
	struct objstore *store;
	struct budget *budget;
	struct pool *pool;
	const char *cache;
	uint64_t cache_bytes;
};
int must_check vol_reads_new(const struct vol_reads *o, struct fetch **ret, struct objerr *err);
/* Both: no volume uses it any more; NULL is fine. settle: waits for what is under way, then the pool may go. */
void vol_reads_settle(struct fetch *f);
void vol_reads_free(struct fetch *f);
/* Gives up about n bytes of memory that nobody waits for, returns how many: for budget_set_reclaim(). Never waits. */
uint64_t vol_reads_reclaim(struct fetch *f, uint64_t n);
struct vol_reads_stat {
	uint64_t gets, ahead;             /* requests; those of read-ahead among them */
	uint64_t memory;                  /* bytes of data held */
	uint64_t cache_limit, cache_used; /* bytes */
	uint64_t cache_hits, cache_misses;
	uint64_t cache_damaged, cache_errors; /* blocks; system calls */
	uint64_t cache_index;                 /* bytes of memory */
};
void vol_reads_stat(struct fetch *f, struct vol_reads_stat *ret);

/* Makes a log and its create record; not the name. prefix: of the log, ends in '/'. */
struct vol_create {
	uint8_t uuid[16];
	uint64_t size;                 /* bytes */
	uint32_t window, object_bytes; /* 0: 16, 8 MiB */
	bool fsync_remote;
};
int must_check vol_create(const struct vol_env *env, const char *prefix, const struct vol_create *c,
			  struct objerr *err);

/*
 * Reads the log (no claim). -ENOENT: no log there; -EUCLEAN: damaged, words in err. One volume per image and process:
 * the caller keeps a table.
 */
int must_check vol_open(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct volume **ret,
			struct objerr *err);
/*
 * To read only: the image as it was before log object `number` was given (a mark's number: as that checkpoint has it).
 * It stays so; what an owner has deleted since is -EIO. -EINVAL: the log ends before; -ENOENT, -EUCLEAN: words.
 */
int must_check vol_open_position(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], uint64_t number,
				 struct volume **ret, struct objerr *err);
/*
 * Drains and releases what is owned; -EIO when something acknowledged did not reach the bucket (it stays in the
 * journal). v is gone in any case.
 */
int vol_close(struct volume *v);

/*
 * What a process that died left in the journal goes into the log, and the image is released. Nobody may write. 0 also
 * when nothing was left; -ESTALE: the image went on without it, the journal was set aside (words); -EBUSY as a write.
 */
int must_check vol_recover(struct volume *v, struct objerr *err);
/* The same, up to where reads see it. 1: v is the owner, and the rest is the caller's to do, as after any write. */
int must_check vol_recover_here(struct volume *v, struct objerr *err);
/*
 * The last claim: from here on nobody writes to the image, v is only to be closed, and what image_erase() (nameobj.h)
 * may remove is known. claims to be freed. -EBUSY: held elsewhere.
 */
struct vol_remains {
	uint64_t next;	  /* what is there or beyond stays */
	uint64_t *claims; /* these stay as well */
	size_t nclaims;
	char *ref; /* key of a clone's reference, to be freed; it goes last. NULL: no clone */
};
int must_check vol_doom(struct volume *v, struct vol_remains *ret);

/*
 * One more or fewer writable handle. The last one drains and releases in the background; a vol_begin_write()
 * meanwhile cancels nothing: it claims anew.
 */
void vol_begin_write(struct volume *v);
int vol_end_write(struct volume *v);

/* A follower's view moves on to the present (at open, or when an application asks). Nothing in other states. */
int must_check vol_refresh(struct volume *v);

/*
 * I/O in bytes, any alignment; may block (store, journal full); any thread. `writer`: through a writable handle:
 * claims at first use; -EBUSY: held elsewhere. Overlapping writes under way at the same time are ordered somehow,
 * each whole. Past the end: a write grows the image, a read is short (returns bytes).
 */
ssize_t must_check vol_read(struct volume *v, bool writer, uint64_t off, void *buf, size_t n);
int must_check vol_write(struct volume *v, uint64_t off, const struct iovec *iov, int iovcnt, size_t n);
/*
 * The same for a thread that must not wait: for the owner of the image, whole sectors within its size, what is in memory
 * or the page cache and not long. -EAGAIN: nothing was done, vol_read() or vol_write() by somebody who may wait. The
 * answer of the read is all of n.
 */
#define VOL_NOW_MAX (64 * KiB)
int must_check vol_read_now(struct volume *v, uint64_t off, void *buf, size_t n);
int must_check vol_write_now(struct volume *v, uint64_t off, const void *p, size_t n);
int must_check vol_discard(struct volume *v, uint64_t off, uint64_t n); /* reads as zeros, a hole */
int must_check vol_zero(struct volume *v, uint64_t off, uint64_t n);    /* reads as zeros, allocated */
int must_check vol_flush(struct volume *v);
/* The same, and everything is in the bucket afterwards, whatever fsync= says. Nothing to do in other states. */
int must_check vol_upload(struct volume *v);
/* Claims, as the first write does: 0 owner; -EBUSY, -EIO, -EROFS, words in vol_stat(). */
int must_check vol_own(struct volume *v);
int must_check vol_resize(struct volume *v, uint64_t size);
/* SEEK_DATA, SEEK_HOLE: the next offset at or behind off, -ENXIO. What was zeroed is a hole here, as in other file systems. */
int must_check vol_seek(struct volume *v, bool hole, uint64_t off, uint64_t *ret);

/*
 * Cleans at once, and to the end: until `live` per cent (0: 90) of what the log holds is pointed to, or nothing more
 * can be gained; then what is dead is deleted. Claims the image as a write does (-EBUSY), the guest may go on writing.
 * What snapshots need stays. -EIO: fenced, failed. Waits.
 */
struct vol_gc {
	uint64_t moved;                      /* bytes of data */
	uint64_t made, deleted;              /* objects */
	uint64_t live, stored_before, stored; /* bytes; stored: with what is dead and not deleted yet */
};
int must_check vol_gc(struct volume *v, unsigned live, struct vol_gc *ret);

/*
 * Snapshots (PROTOCOL.md 3). Those that change something claim the image as a write does (-EBUSY); -EIO: fenced,
 * failed, words in vol_stat().
 */
enum { VOL_SNAP_NAME_MAX = 64 };
struct vol_snap {
	uint64_t number, size; /* size: of the image then, bytes */
	int64_t time;          /* seconds since 1970 */
	bool hidden;           /* its name is gone; what it needs is not, yet */
	char name[VOL_SNAP_NAME_MAX + 1];
};
/*
 * What snapshots s[0..n), all that there are, keep. frees: bytes of whole objects that only snapshot i needs, which go with it
 * (ret_shared: that several need), as the list of objects says; vol_know_objects() first. pins: the bytes that only snapshot i
 * needs; reads all maps.
 */
void vol_snapshot_frees(struct volume *v, const struct vol_snap *s, size_t n, uint64_t *ret_alone, uint64_t *ret_shared);
int must_check vol_snapshot_pins(struct volume *v, const struct vol_snap *s, size_t n, uint64_t *ret, struct objerr *err);
/* 1 to 64 of [A-Za-z0-9._-]. */
bool vol_snap_name_ok(const char *name);
/* A name for the state before a roll back: the time, UTC, and something random. */
void vol_snap_name_now(char out[VOL_SNAP_NAME_MAX + 1]);
/*
 * Everything acknowledged before the call is in it, and a prefix of what comes meanwhile; the guest goes on. Returns
 * when it is in the bucket for good. -EEXIST: the name is taken; -EINVAL: it is none.
 */
int must_check vol_snapshot(struct volume *v, const char *name, uint64_t *ret_number, struct objerr *err);
/* In the order of their numbers; to be freed. Claims nothing; a follower's view moves on first. */
int must_check vol_snapshots(struct volume *v, struct vol_snap **ret, size_t *ret_n, struct objerr *err);
/*
 * A volume for vol_snapshots() alone, beside the image's own if there is one: a few small requests, which nothing of the
 * map is read by; the first call attaches, later ones follow. Then vol_close().
 */
int must_check vol_open_list(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct volume **ret);
/*
 * The name goes at once, the space when the cleaner comes by. -ENOENT; -EBUSY with words: a clone uses it, or
 * another node holds the image. Finishes what earlier calls left.
 */
int must_check vol_unsnap(struct volume *v, const char *name, struct objerr *err);
/*
 * The image is what it was at the snapshot. What it was until now becomes snapshot `now` first, so that one can go
 * forward again. No other handle may be open for writing (-EBUSY with words). v is a follower afterwards.
 */
int must_check vol_rollback(struct volume *v, const char *name, const char *now, struct objerr *err);
/*
 * The same for a position: the image is what it was when `number` was the last object of its log. From the newest
 * checkpoint on, or what is retained (-ERANGE with words): what is older may have been deleted.
 */
int must_check vol_rollback_to(struct volume *v, uint64_t number, const char *now, struct objerr *err);
/* The positions that are possible now, in order; to be freed. */
struct vol_position {
	uint64_t number, bytes, size; /* bytes: of data in that object; size: of the image then */
	int64_t time;                 /* seconds since 1970, when it was made; 0: not known */
	const char *type;
	char name[VOL_SNAP_NAME_MAX + 1]; /* of a snapshot */
};
/* all: else from the newest checkpoint on. */
int must_check vol_positions(struct volume *v, bool all, struct vol_position **ret, size_t *ret_n, struct objerr *err);
/*
 * For how long every state of the image can be had again, whoever owns it: 0 no longer than needed, or as the owner's mount
 * says. Claims the image as a write does (-EBUSY), and waits until the log says so. What is gone is not back by that.
 */
int must_check vol_retain(struct volume *v, uint64_t seconds, struct objerr *err);
#define VOL_RETAIN_MAX (UINT64_C(100) * 366 * 86400)
struct vol_retained {
	uint64_t seconds;    /* the image's own */
	uint64_t floor;      /* positions from it on can be had */
	int64_t time_s;      /* when that was made; 0: not known */
	uint64_t bytes;      /* of objects that only that keeps; vol_know_objects() first */
	/*
	 * Of data that vol_stat() counts and the newest checkpoint lets go: mostly it went right after that, and no list says
	 * so before the next tree.
	 */
	uint64_t gone;
};
int must_check vol_retained(struct volume *v, struct vol_retained *ret, struct objerr *err);
/*
 * A new log at `prefix`, whose image is what `of` was at the snapshot: an object of a few KiB, whatever the size. prefix
 * lies beside that of `of` (.../.lsvd/img/<uuid>/). Not the name. -ENOENT: no such snapshot, or it is being deleted.
 */
int must_check vol_clone(struct volume *of, const char *name, const char *prefix, const uint8_t uuid[16],
			 uint64_t *ret_size, struct objerr *err);
/* The same; of_path, path: what both are called, for people who ask later (may be NULL). */
struct vol_clone {
	const char *name, *prefix; /* of the snapshot; of the new log */
	const char *of_path, *path;
	uint8_t uuid[16];
};
int must_check vol_clone_to(struct volume *of, const struct vol_clone *c, uint64_t *ret_size, struct objerr *err);
/* Whose clone it is. -ENODATA: none, or not any more. path: to be freed; NULL: not known; both as of the clone's birth. */
struct vol_parent {
	uint8_t uuid[16];
	uint64_t snapshot;
	bool kept; /* its reference is there */
	char *path, *name; /* name: within path */
};
int must_check vol_parent(struct volume *v, struct vol_parent *ret, struct objerr *err);
/*
 * A clone becomes an image that needs no other (PROTOCOL.md 3), while its guest writes. begin: what it still reads from others,
 * in bytes. some: copies up to about max bytes of that, from *io_at on (0 at first; VOL_FLAT_ALL: all was gone through). end: the
 * rest, then cuts the tie. Each may be done again after a crash, and by another process: what was copied is copied. -ENODATA: no
 * clone, or not any more; -EBUSY: held elsewhere, or a snapshot of it still needs the parent; words.
 */
#define VOL_FLAT_ALL UINT64_MAX
int must_check vol_flatten_begin(struct volume *v, uint64_t *ret_bytes, struct objerr *err);
int must_check vol_flatten_some(struct volume *v, uint64_t max, uint64_t *io_at, uint64_t *ret_copied, struct objerr *err);
int must_check vol_flatten_end(struct volume *v, struct objerr *err);
/*
 * A volume that is the snapshot, to read only, as long as its record is there; of: of the image, stays open meanwhile.
 */
int must_check vol_open_snapshot(struct volume *of, uint64_t number, struct volume **ret, struct objerr *err);
/* The same without the image. -ENOENT: the record is gone. A read is -EIO from the moment on that it misses something. */
int must_check vol_open_at(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], uint64_t number,
			   struct volume **ret, struct objerr *err);

/*
 * Journals of an image in its directory below the state directory, to be looked at: the one of now ("now"), and those of
 * which the image went on without something ("aside-<time>"). Reading changes nothing; the one of now is to be read
 * while nobody writes to the image here.
 */
struct vol_journal {
	int64_t time_s;        /* when it was set aside; "now": 0 */
	uint64_t records;      /* changes that are in it */
	uint64_t sent;         /* up to this sequence all of them are known to be in the image; more may be */
	uint64_t unsent, bytes; /* changes behind that; of data */
};
struct vol_jchange {
	const char *what; /* write, zero, discard, resize */
	uint64_t seq, off, len; /* bytes; resize: off is the new size */
	bool sent;
	const void *data; /* of a write that is not known to be in the image */
};
/* Names, oldest first, to be freed, each and all. */
int must_check vol_journal_names(const char *dir, char ***ret, size_t *ret_n);
/* fn (may be NULL): for each change in order; non-zero ends it with that code. -ENOENT: there is none. -EUCLEAN: words. */
int must_check vol_journal_read(const char *dir, const uint8_t uuid[16], const char *name,
				int (*fn)(void *arg, const struct vol_jchange *c), void *arg, struct vol_journal *ret,
				struct objerr *err);
/*
 * The image as a journal's machine had it in the bucket when another claimed it: to read only, and what is laid over it are
 * the changes behind *ret_seq. *ret_claim: the other's. -ENODATA: the image did not go on without it; -EUCLEAN: the journal
 * does not fit; words for these, and as vol_open_position().
 */
int must_check vol_journal_base(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], const char *dir,
				const char *name, struct volume **ret, uint64_t *ret_seq, uint64_t *ret_claim,
				struct objerr *err);
/* For good; not the one of now (-EINVAL). */
int must_check vol_journal_drop(const char *dir, const char *name);

enum vol_state { VOL_FOLLOWER, VOL_OWNER, VOL_RELEASING, VOL_FENCED, VOL_FAILED };
struct vol_stat {
	enum vol_state state;
	uint64_t size, allocated; /* bytes */
	uint64_t live, stored;    /* bytes in the log that the map points to; of all its objects */
	uint64_t epoch, tail, checkpoint;
	uint64_t journal_used, journal_limit; /* bytes */
	uint64_t upload_rate;                 /* bytes a second, a mean over some 10 s */
	unsigned slowed, waiting;             /* writes: held to the store's pace; the journal is full */
	bool fsync_remote, released;
	char holder[128];
	char why[256]; /* a reason, when fenced, failed, stalled */
};
void vol_stat(struct volume *v, struct vol_stat *ret);
/* Before vol_stat() of one that wrote nothing: reads the list of all objects, without which old ones are not counted. */
int must_check vol_know_objects(struct volume *v, struct objerr *err);
/* The size without waiting for anything. */
uint64_t vol_size(struct volume *v);

#endif
