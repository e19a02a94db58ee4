/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * disk.h - disk images on the mount: the table of open volumes, and the operations of files that are images.
 *
 * A node is an image or a plain file for life, by the name object that it was found by (inode.image, inode.uuid). All
 * handles of all nodes of one image share one volume. Whatever may wait runs on the pool of the images, so that an image
 * that waits (for the store, for another node's release, for room in its journal) keeps no plain file waiting.
 *
 * An entry of the table:
 *   BUSY	opened, closed, recovered after a crash, or deleted by one thread; others wait for the end of that
 *   OPEN	refs > 0. After a crash the first of them is the recovery, until everything is in the bucket: who opens
 *	the image meanwhile has it as it is, attached and owned
 *   LEFT	a journal of a dead process whose bytes could not be brought into the log: said in status, opened as ever
 * A snapshot that is open is an entry of its own (disksnap.c), beside that of its image and independent of it.
 */
#ifndef LSVD_DISK_H
#define LSVD_DISK_H

#include "inode.h"
#include "imgop.h"

#define DISK_DELETING "deleting" /* disk.doing */
enum disk_state { DISK_BUSY, DISK_OPEN, DISK_LEFT };

struct disk {
	struct list link; /* fsd.disks */
	struct fsd *f;
	uint8_t uuid[16];
	uint64_t snap; /* number of the snapshot that it is; 0: the image */
	char *path;   /* below the mount root, for people */
	char *prefix; /* of the log */
	/* under fsd.disks_lock */
	enum disk_state state;
	const char *doing; /* BUSY: "opening", "closing", "draining", "deleting" */
	unsigned refs, writers, leaving; /* leaving: refs that wait for the end of their close */
	bool recovered, named; /* recovered: found by its journal; then somebody looked at its name */
	unsigned coming;       /* recovered: they want it as it is */
	char why[256];
	/* set while BUSY, then read-only */
	struct volume *v;
	bool copy;
	/* marks in the state directory, under files */
	struct mtx files; /* RANK_MOUNT */
	bool marked, was_clean;
	struct job job;
};

/* disk.c */
int must_check disks_init(struct fsd *f);
void disks_done(struct fsd *f);
/* The state directory's name of an image's file; what NULL: the directory. */
int must_check disk_file(struct fsd *f, const uint8_t uuid[16], const char *what, char **ret);
/* A new BUSY entry; waits until nobody else is busy with the image. -EBUSY: it is open. */
int must_check disk_enter(struct fsd *f, const uint8_t uuid[16], const char *path, const char *doing,
			  struct disk **ret);
/* The same for a snapshot of it. */
int must_check disk_enter_snapshot(struct fsd *f, const uint8_t uuid[16], uint64_t snap, const char *path,
				   const char *doing, struct disk **ret);
/* -EBUSY with words: a snapshot of the image is open. The caller has entered the image to delete it: none is opened. */
int must_check disk_no_snapshots(struct fsd *f, const uint8_t uuid[16], struct objerr *err);
/*
 * d, BUSY and recovered, has a volume with all that a dead process left; owner: what of it is not in the bucket yet goes
 * there now. Opened for whoever waits. The entry is not the caller's any more.
 */
void disk_hand_over(struct fsd *f, struct disk *d, bool owner);
/* The entry goes; why: it stays as LEFT. */
void disk_leave(struct fsd *f, struct disk *d, const char *why);
/*
 * One more user of the node's image, opened if nobody has it. ESTALE: the name is another's by now. -EROFS: a copy.
 * Counted at the node: i->disk is valid as long as somebody holds it.
 */
int must_check disk_hold(struct fsd *f, struct inode *i, bool writer, struct disk **ret, struct objerr *err);
/* The image, if it is open: one more user, who reads or writes nothing. NULL: it is not. Waits while somebody is busy. */
struct disk *disk_borrow(struct fsd *f, const uint8_t uuid[16]);
/* The same without waiting, and only if this node owns it: what it knows of its snapshots is the truth. */
struct disk *disk_borrow_owned(struct fsd *f, const uint8_t uuid[16]);
void disk_return(struct fsd *f, struct disk *d);
/* A borrower writes. -EROFS: a copy. */
int must_check disk_begin_write(struct fsd *f, struct disk *d, struct objerr *err);
void disk_end_write(struct fsd *f, struct disk *d);
void disk_drop(struct fsd *f, struct inode *i, struct disk *d, bool writer);
/* Size and allocated bytes as of now; waits for nothing. */
void disk_size_locked(struct inode *i, uint64_t *ret_size, uint64_t *ret_allocated);
void disk_env(struct fsd *f, struct vol_env *ret);
/* Key of the name object: dir, shown name. */
int must_check disk_key(struct fsd *f, const char *dir, const char *name, char **ret);
/* Marks in the state directory: where the log is, and whether its journal has nothing that the bucket lacks. */
int must_check disk_note_clean(struct fsd *f, const uint8_t uuid[16], bool clean);
int must_check disk_note_where(struct fsd *f, const uint8_t uuid[16], const char *prefix, const char *path);

/* Until no image is being opened, closed, drained or removed. */
int must_check disks_wait(struct fsd *f);
json_t *disks_status(struct fsd *f);
json_t *disks_reads_status(struct fsd *f); /* what all images share: requests, block cache */

/* disksnap.c: IMAGE@NAME as a file */
/* Can the name be that of a snapshot? Then what asks for it goes on the pool of the images. */
bool disk_snap_name(const char *name);
/*
 * The node of a name that nothing in the directory has. flags: of the image's tree_lookup(). -ENOENT: it is no image's
 * snapshot either.
 */
int must_check disk_snap_find(struct fsd *f, struct inode *parent, const char *dir, const char *name, unsigned flags,
			      bool kernel, struct inode **ret, struct objerr *err);
/* dir_refresh() of such a node. */
int must_check disk_snap_refresh(struct fsd *f, struct inode *i, struct objerr *err);
/* Number of a snapshot by its name, and where the image's log lies (may be NULL). key: of the image's name. -ENOENT. */
int must_check disk_snap_number(struct fsd *f, const uint8_t uuid[16], const char *key, const char *name,
				uint64_t *ret_number, char **ret_prefix, struct objerr *err);
/* Something was changed: the next question looks. */
void disk_snap_forget(struct fsd *f, const uint8_t uuid[16]);
void disk_snaps_done(struct fsd *f);

/* fsd.c: the node, when it is known, with a reference; NULL. */
struct inode *fsd_known_image(struct fsd *f, const char *path);

/* diskname.c */
bool disk_wanted(struct fsd *f, const char *dir, const char *name);
/* A new, empty image. -EEXIST. The guard of dir is held. */
int must_check disk_create(struct fsd *f, const char *dir, const char *name, const struct attr *a, struct entry *ret,
			   struct objerr *err);
/* Removes name and log; -EBUSY: in use here, or held elsewhere. Guard and operation are held. */
int must_check disk_unlink(struct fsd *f, struct inode *i, const char *dir, const char *name, struct objerr *err);
/*
 * The same in steps, for a rename onto the image (imgop.h has them): doom, then bury, disk_remove_name() if there is still
 * one, gone; or spare. The entry stays BUSY between.
 */
int must_check disk_doom(struct fsd *f, struct inode *i, const char *dir, const char *name, struct disk **ret,
			 struct objerr *err);
void disk_spare(struct fsd *f, struct disk *d);
int must_check disk_bury(struct fsd *f, struct disk *d, struct objerr *err);
int must_check disk_remove_name(struct fsd *f, const char *dir, const char *name, struct objerr *err);
void disk_gone(struct fsd *f, struct disk *d, struct inode *i);
/*
 * The name object goes to a free name, or to that of the image `over` (NULL: free). Guards and operation are held. ret:
 * its version there.
 */
int must_check disk_rename(struct fsd *f, struct inode *i, const char *sdir, const char *sname, const char *ddir,
			   const char *dname, const uint8_t over[16], struct version *ret, struct objerr *err);
/* What an earlier process left: journals to drain, deletions to finish. In the background. */
void disks_leftovers(struct fsd *f);

/* diskop.c */
void disk_open_handle(struct call *c, struct handle *take_h, bool created);
/* Answered by the reader of the session, if that waits for nothing. false: a call on the pool. */
bool disk_read_now(struct handle *h, fuse_req_t req, size_t size, off_t off);
bool disk_write_now(struct fsd *f, fuse_req_t req, const char *buf, size_t size, off_t off,
		    const struct fuse_file_info *fi);
void disk_op_read(struct call *c);
void disk_op_write(struct call *c);
void disk_op_flush(struct call *c);
void disk_op_fsync(struct call *c);
void disk_op_release(struct call *c);
void disk_op_fallocate(struct call *c);
void disk_op_lseek(struct call *c);
int must_check disk_truncate(struct fsd *f, struct inode *i, uint64_t size, struct objerr *err);
/* Size, times and allocated bytes into the name's headers, after the last writer. */
void disk_save_meta(struct fsd *f, struct inode *i);

#endif
