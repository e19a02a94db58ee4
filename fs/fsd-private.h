/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fsd-private.h - what the files of the daemon's core share: the file system object, calls that wait, handles.
 *
 * A request is answered inline by the reader that got it when memory or the spool's page cache can; else it becomes a
 * struct call on the pool. Lock order: fsd.guards < fsd.inodes < inode.lock < fsd.handles_lock < fsd.chunks.
 */
#ifndef LSVD_FSD_PRIVATE_H
#define LSVD_FSD_PRIVATE_H

#include "fsd.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include "objstore/base/log.h"
#include "objstore/base/str.h"
#include "objstore/base/table.h"
#include "nodetab.h"
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <string.h>

struct inode;

/* An operation on a path that must not run while a directory above it is being renamed, and the other way round. */
struct guard {
	struct list link;
	char *path; /* owned while entered */
	bool rename;
};

struct fsd {
	struct fsd_opts o;
	char *prefix, *excl;
	struct fuse_session *se;
	struct fuse_lowlevel_ops ops;

	struct mtx inodes; /* RANK_INODES: tables, names, counts */
	struct htab by_id, by_name;
	struct list local, attached;
	struct inode *root;
	struct nodetab *nodetab;

	struct mtx guards_lock; /* RANK_RENAME */
	struct cond guards_free;
	struct list guards;

	struct mtx handles_lock; /* RANK_HANDLE */
	struct htab handles;
	uint64_t next_fh;

	struct mtx chunks; /* RANK_CACHE: prefetched chunks of all files */
	struct list chunk_lru;
	struct cond chunk_done; /* a chunk left LOADING */
	unsigned chunks_loading;

	_Atomic uint64_t n_parked, n_conflicts, n_stale_opens;
	/* async_close: files whose upload goes on behind the answer, awaited by one thread */
	struct mtx async_lock; /* RANK_MOUNT */
	struct cond async_more;
	struct list async_files; /* struct async_file */
	bool async_stop, async_started;
	pthread_t async_thread;
	/* disk images: disk.h */
	struct mtx disks_lock; /* RANK_HANDLE */
	struct cond disks_changed;
	struct list disks;
	struct list snaplists; /* disksnap.c */
	unsigned disk_releases; /* RELEASEs that are being worked on */
	struct fetch *reads; /* of all images */
	struct pool *image_pool, *vol_pool; /* requests; work of the volumes, one thread an image that is written */
};

/* An open file or directory. Found by number: fi->fh survives this process, pointers do not. */
struct handle {
	struct hnode hn;
	uint64_t fh;
	struct inode *inode; /* a reference */
	struct disk *disk;   /* of an image, a reference as well */
	int flags;	     /* O_* */
	pid_t opener;	     /* thread id that opened */
	pid_t opener_tgid;
	unsigned refs;	     /* under handles_lock */
	_Atomic bool unchecked; /* opened while metadata waited: the first read asks */
	bool lost_told;	     /* this handle's owner knows that bytes were parked */
	bool opener_closed;  /* the opener's own descriptor is closed: whoever closes now is the last */
	char opened[OBJ_ETAG_MAX]; /* version opened without KEEP_CACHE; confirms the kernel's pages */
	/* under fsd.chunks */
	uint64_t next_off, window;
	/* directories: the snapshot so far; cookie k (>= 1) = names[k-1] was returned. under dlock */
	struct mtx dlock;
	struct dirsnap *snap;
};
int must_check handle_new(struct fsd *f, struct inode *take_i, int flags, pid_t opener, struct handle **ret);
struct handle *handle_get(struct fsd *f, uint64_t fh);
void handle_put(struct fsd *f, struct handle *h); /* frees at the last */

/* A request that may wait: owns copies of its arguments. */
struct call {
	struct job job;
	struct fsd *f;
	fuse_req_t req;
	_Atomic bool answered; /* the reply was sent, or is about to be */
	bool killable;
	void (*run)(struct call *c);
	struct fuse_ctx ctx;
	uint64_t ino, ino2;
	char *name, *name2;
	struct fuse_file_info fi;
	bool has_fi;
	struct stat st;
	int to_set;
	size_t size;
	off_t off;
	unsigned flags;
	mode_t mode;
	dev_t rdev;
	void *data;
	size_t data_len;
};
/* Queues run(c) on the pool; name, name2 and data are copied (may be NULL). Answers ENOMEM itself when it must. */
struct call *call_new(struct fsd *f, fuse_req_t req, uint64_t ino, const char *name, const char *name2, const void *data,
		      size_t len, void (*run)(struct call *c));
void call_go(struct call *c);
/* Lets a killed caller go (EINTR) while the work goes on. */
void call_killable(struct call *c);
/* Exactly one of these ends a call; they free it. r is a negative errno or 0. */
void call_err(struct call *c, int r);
void call_buf(struct call *c, void *take_buf, ssize_t r); /* r: bytes, or a negative errno */
void call_done(struct call *c); /* the reply was sent by the caller with call_claim() */
bool call_claim(struct call *c); /* false: the caller was let go already, do not reply */

/* The text of /proc/TID/file, cut where the room ends. */
int must_check fsd_proc_read(pid_t tid, const char *file, char *buf, size_t size);
/* Thread group of a thread; the thread itself when it cannot be told any more. */
pid_t fsd_tgid(pid_t tid);
/* A setgid directory hands its group on. */
void fsd_inherit_group(struct inode *parent, struct attr *a);
/* errno for FUSE (positive) from ours: only what applications know. */
int fsd_errno(int r);

/* guard.c parts in rename.c */
int must_check guard_enter(struct fsd *f, struct guard *g, const char *path);
void guard_leave(struct fsd *f, struct guard *g);
/* Enters for the node's present path, which cannot change by a directory rename until guard_leave. */
int must_check guard_enter_inode(struct fsd *f, struct guard *g, struct inode *i, char **ret_dir, char **ret_name);
/* The same for a name in a directory. */
int must_check guard_enter_dir(struct fsd *f, struct guard *g, struct inode *dir, char **ret_dir);

/* file.c */
void file_op_open(struct call *c);
void file_op_create(struct call *c);
/* First read of a handle that was opened without a question. -ESTALE: another version is there now. */
int must_check file_check_late(struct fsd *f, struct handle *h, struct objerr *err);
void file_op_read(struct call *c);
void file_op_write(struct call *c);
void file_op_flush(struct call *c);
void file_op_fsync(struct call *c);
void file_op_release(struct call *c);
void file_op_fallocate(struct call *c);
int must_check file_truncate(struct fsd *f, struct inode *i, uint64_t size, bool commit, struct objerr *err);
/* Flag of file_commit beside SPC_*: a foreign version is the caller's to handle, nothing is parked. */
#define FILE_EXCL (1u << 8)
/* Uploads what is dirty. The caller holds the node's operation (inode_begin). */
int must_check file_commit_op(struct fsd *f, struct inode *i, unsigned flags, struct objerr *err);
int must_check file_commit(struct fsd *f, struct inode *i, unsigned flags, struct objerr *err);
/* Before the object goes: sees to it that open readers keep their bytes. Caller holds the operation. */
int must_check file_keep_bytes(struct fsd *f, struct inode *i, struct objerr *err);
/* After the name went: nameless from here on. Caller holds the operation. */
void file_unlinked(struct fsd *f, struct inode *i);
bool file_write_inline(struct fsd *f, struct inode *i, const void *buf, size_t n, off_t off, int *ret);
/* async_close: what was acknowledged goes up before anything else happens to the file. Caller holds the operation. */
int must_check file_settle_acked(struct fsd *f, struct inode *i, struct objerr *err);
/* Sees to it that the node has a spool file (whole: its old bytes are not needed). The caller holds the operation.
 * -ESTALE: bytes written before were parked. */
int must_check file_need_sp(struct fsd *f, struct inode *i, bool whole);
/* The headers of the node's next upload: its attributes over what the object has. */
int must_check file_headers(struct fsd *f, struct inode *i, const char *dir, const char *name, const struct attr *a,
			    struct obj_headers *ret, struct objerr *err);

/* prefetch.c */
struct readbuf {
	struct chunk *chunk; /* pinned, or NULL */
	void *mem;	     /* owned, or NULL */
	const void *p;
	size_t n;
};
void chunks_init(struct fsd *f);
void chunks_wait(struct fsd *f); /* until no GET is under way */
/* Never waits: true when [off, off+n) (cut at the end of file) lies in one ready chunk. */
bool chunk_try(struct fsd *f, struct inode *i, struct handle *h, uint64_t off, size_t n, struct readbuf *ret);
/* Waits for the store. Fills buf; bytes read or -errno. */
ssize_t must_check chunk_read(struct fsd *f, struct inode *i, struct handle *h, void *buf, size_t n, uint64_t off,
			      struct objerr *err);
void readbuf_done(struct fsd *f, struct readbuf *b);
/* Hands over the first window that OPEN has fetched: take_buf holds cap bytes of budget. */
void chunk_add(struct fsd *f, struct inode *i, const char *etag, uint64_t off, void *take_buf, size_t cap, size_t got);
void chunks_drop(struct fsd *f, struct inode *i);
uint64_t chunks_reclaim(void *arg, uint64_t n);

/* dir.c */
void dir_op_readdir(struct call *c);
void dir_op_lookup(struct call *c);
void dir_op_getattr(struct call *c);
void dirsnap_free(struct dirsnap *s);
/* tree_lookup() with metadata that waits laid over it. */
int must_check dir_lookup(struct fsd *f, const char *dir, const char *name, unsigned flags, struct entry *ret,
			  struct objerr *err);
/* Answers with the node, which has one lookup count for it; ends the call and drops the reference. */
void dir_reply_entry(struct call *c, struct inode *take_i);
/* Name -> node, overlay applied. -ENOENT. */
int must_check dir_find(struct fsd *f, struct inode *parent, const char *name, unsigned flags, bool kernel,
			struct inode **ret, struct objerr *err);
/*
 * Brings the node's attributes up to date when nothing vouches for them any more. look: to be shown only, so what is known
 * of an attached image will do while the store does not answer.
 */
int must_check dir_refresh(struct fsd *f, struct inode *i, bool look, struct objerr *err);

/* The spool file of a node that nobody has open: freed when clean, uploaded or parked when not. */
void file_last_release(struct fsd *f, struct inode *i);

/* async.c: a file was acknowledged before its upload; learns the result when it is there. */
void async_init(struct fsd *f);
void async_watch(struct fsd *f, struct inode *i);
void async_stop(struct fsd *f);

/* change.c */
bool fsd_has_local_below(struct fsd *f, struct inode *dir);
/*
 * An image that is open here, or a directory above one: what was known of it is shown while the store does not answer
 * (TREE_BRIEF), since whoever uses the image looks at them.
 */
bool fsd_attached(struct fsd *f, struct inode *i);
void change_op_mkdir(struct call *c);
void change_op_rmdir(struct call *c);
void change_op_mknod(struct call *c);
void change_op_symlink(struct call *c);
void change_op_readlink(struct call *c);
void change_op_unlink(struct call *c);
void change_op_setattr(struct call *c);
void change_op_setxattr(struct call *c);
void change_op_getxattr(struct call *c);
void change_op_listxattr(struct call *c);
void change_op_fsyncdir(struct call *c);
/*
 * All headers that the node's object has or will have, waiting changes included; *ret_v: the version that they are of.
 * The caller holds the operation and the guard. -ESTALE: the name is another's.
 */
int must_check change_headers(struct fsd *f, struct inode *i, const char *dir, const char *name,
			      struct obj_headers *ret, struct version *ret_v, struct objerr *err);
/* rename.c */
void rename_op(struct call *c);

#endif
