/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * inode.h - nodeids, names and versions: the nodes that the kernel knows.
 *
 * Three identifiers, not to be confused:
 *   nodeid  what the kernel calls a node by. One nodeid is one version of a file as seen from outside: kernel pages
 *           belong to it. 64 bits, never reused while the mount lives.
 *   st_ino  what stat(2) shows. Chosen at birth, kept over rename and over versions; several nodeids may share it.
 *   key     where the object is: the names up to the root. Follows a rename by itself, because it is computed.
 *
 * A file node's life:
 *   LINKED       found by (parent, name); its base moves only by this node's own writes while it is open
 *   SUPERSEDED   a foreign version took the name while somebody had this one open: no longer found by name, reads go on
 *                with If-Match on the old version, a commit gets ESTALE
 *   UNLINKED     nameless: removed or renamed over here; nlink 0; never uploaded
 * nlookup counts what the kernel holds; refs counts the holders inside: nlookup (one), handles, children, jobs, the spool.
 */
#ifndef LSVD_INODE_H
#define LSVD_INODE_H

#include "fsd-private.h"

#define FSD_AGAIN 1 /* inside fs/: ask again; no errno, since a store's -EAGAIN means that it is busy */

struct disk;

struct inode {
	/* under fsd.inodes */
	struct hnode by_id, by_name;
	uint64_t id, ino;
	struct inode *parent; /* NULL: the root. Holds a reference */
	char *name;
	bool linked;		 /* in by_name */
	uint64_t nlookup;
	unsigned refs;
	struct list local;	 /* fsd.local: dirty, or not in the bucket yet */
	struct list attached;	 /* fsd.attached: ndisk > 0 */

	/* set at birth */
	bool is_dir;
	bool image; /* a disk image: disk.h */
	uint8_t uuid[16];
	uint64_t snap; /* number of the image's snapshot that it is, to read only; no listing has it. 0: none */

	/* under lock */
	struct mtx lock;	 /* RANK_FILE */
	struct cond ops_idle;	 /* op_busy fell */
	bool op_busy;		 /* a commit, rename, unlink or truncate is under way; pool threads only wait for it */
	bool sealing;		 /* an upload has sealed the bytes: writers wait (ops_idle), inline writers go to the pool */
	bool acked;		 /* async_close has answered; base is still the one before that upload */
	int64_t touched_ns;	 /* this node set metadata of it then: older answers know less; 0 = never */
	bool tried;		 /* an upload was begun: the object may be there although base says no */
	bool lost;		 /* bytes written here were parked: every writer of them is told */
	unsigned sp_users;	 /* reads that use sp without the operation; who takes sp out waits for them */
	uint64_t told_size;	 /* the size that the kernel was told last */
	int64_t base_ns;	 /* our own last change of base was complete then: older answers know less */
	struct version alt_v;	 /* of alt_key */
	bool unlinked, superseded;
	struct version base;	 /* the object whose bytes this node shows (etag "": none yet) */
	unsigned base_gen;	 /* counts own changes of base */
	struct attr attr;	 /* what stat shows; authoritative while sp is set */
	int64_t asked_ns;	 /* the answer that vouches for attr and base was asked then; INT64_MIN: nothing does */
	unsigned nopen;		 /* handles */
	struct spfile *sp;	 /* dirty bytes, or clean ones of a file written here and still open */
	struct obj_headers headers; /* while sp is set: all headers of the next upload */
	char pages[OBJ_ETAG_MAX];/* version that kernel pages may hold */
	bool pages_sure;	 /* an opener that made the kernel drop older pages has gone on */
	char *alt_key;		 /* unlinked: the bytes are kept there (whole key) */
	/* images: base and headers are those of the name object */
	struct disk *disk;	 /* while ndisk > 0 */
	unsigned ndisk;
	uint64_t image_size, image_alloc; /* bytes, while nobody has it open here */
	bool image_changed;	 /* written here, and the name's headers do not say so yet: attr is the truth */
	unsigned image_changes;	 /* counts: how often that was so */
	struct timespec dir_changed; /* directories: last change of a child here; 0 = none */

	/* prefetch.c, under fsd.chunks */
	struct list chunks;
};

int must_check inodes_init(struct fsd *f);
void inodes_done(struct fsd *f);

/* With a reference; NULL when unknown. */
struct inode *inode_get(struct fsd *f, uint64_t nodeid);
struct inode *inode_ref(struct fsd *f, struct inode *i);
void inode_put(struct fsd *f, struct inode *i); /* not with i->lock held */
/* The linked child, with a reference, or NULL. */
struct inode *inode_child(struct fsd *f, struct inode *parent, const char *name);

/*
 * The node for what tree or create found, with a reference and, with `kernel`, one more lookup count: the linked one when
 * it is that version or nobody has it open (then it takes the version over), else a new one. e->headers are not taken.
 */
int must_check inode_for_entry(struct fsd *f, struct inode *parent, const struct entry *e, bool kernel, struct inode **ret);
/* A new linked node for a file or directory made here. */
int must_check inode_new(struct fsd *f, struct inode *parent, const char *name, bool is_dir, uint64_t ino,
			 const struct attr *a, struct inode **ret);
/*
 * The same for a snapshot that the directory does not list: bytes and size never change, so its node is one by its number.
 * What was written under the name here meanwhile comes first.
 */
struct snapnode {
	uint8_t uuid[16];
	uint64_t number, size, allocated; /* bytes */
	struct attr attr;
	int64_t asked_ns;
};
int must_check inode_for_snapshot(struct fsd *f, struct inode *parent, const char *name, const struct snapnode *s,
				  bool kernel, struct inode **ret);
void inode_lookup_inc(struct fsd *f, struct inode *i);
void inode_forget(struct fsd *f, uint64_t nodeid, uint64_t n);

/* Is the node still found as name in parent? */
bool inode_is(struct fsd *f, struct inode *i, struct inode *parent, const char *name);
/* The store has no such name: the node is no longer found by it, if it still had it. */
void inode_gone(struct fsd *f, struct inode *i, struct inode *parent, const char *name);
uint64_t inode_parent_ino(struct fsd *f, struct inode *i);
/* No longer found by name. */
void inode_unlink_name(struct fsd *f, struct inode *i);
/* Moves the node to another parent and name (rename); a linked node that is there is unlinked first by the caller. */
int must_check inode_move(struct fsd *f, struct inode *i, struct inode *parent, const char *name);

/* dir string of a directory node; dir string and name of any other. -ENOENT when an ancestor was removed. */
int must_check inode_dir(struct fsd *f, struct inode *i, char **ret);
/* The name by which meta/ and metaq know the node's key: an image's is its name object's. */
int must_check inode_key_name(const struct inode *i, const char *name, char ret[PATH_NAME_MAX + 16]);
int must_check inode_path(struct fsd *f, struct inode *i, char **ret_dir, char **ret_name);

/* Membership in the list of nodes that only this node knows fully (overlay of readdir, drain). */
/* Takes the spool file out, once no read uses it; NULL when there is none. The caller holds the operation. */
struct spfile *inode_take_sp(struct inode *i);
void inode_set_local(struct fsd *f, struct inode *i, bool local);

/* One operation at a time on a node that may wait for the store. Pool threads only. */
void inode_begin(struct inode *i);
void inode_end(struct inode *i);

void inode_stat_locked(struct fsd *f, struct inode *i, struct stat *st);
/* Has the node bytes that the bucket does not have? Then it is there whatever the bucket says. */
bool inode_own_bytes_locked(const struct inode *i);
/* Seconds for which the kernel may believe the attributes; 0 when nothing vouches for them. */
double inode_valid_locked(struct fsd *f, const struct inode *i);
bool inode_fresh_locked(struct fsd *f, const struct inode *i);
/* Were attributes of this version set here after that question was asked? Then the answer's are not to be taken. */
bool inode_set_since_locked(const struct inode *i, const struct version *v, int64_t asked_ns);
/* Is the entry of the node's kind: directory, plain file, the same image? */
bool inode_is_entry(const struct inode *i, const struct entry *e);
void inode_take_image_locked(struct inode *i, const struct entry *e);
bool version_equal(const struct version *a, const struct version *b);
void inode_touch_dir(struct inode *dir); /* a child changed: mtime and ctime, on this node only */

#endif
