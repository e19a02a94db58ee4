/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tree.h - what is known about names, and how sure. The only interface of meta/ that fs/ uses for names.
 *
 * Answers come from the SQLite attribute cache where a listing or a HEAD of the last attr_timeout vouches for them, else
 * from the store. The database may vanish, be corrupt or of another schema at any time: that costs requests, never
 * correctness. tree knows nothing of nodeids, open files or dirty bytes: the overlay of those is applied in fs/.
 *
 * All calls may be made from any thread, block on the store, and hold no lock meanwhile. `dir` strings: see path.h.
 * Errors: negative errno of the store (objstore.h) with the words in err (may be NULL); -ENOENT, -EEXIST, -ENOTEMPTY.
 */
#ifndef LSVD_TREE_H
#define LSVD_TREE_H

#include "attr.h"
#include "objstore/objstore.h"
#include "path.h"

struct tree;

/* A version of an object: equal etag and size mean equal bytes. */
struct version {
	char etag[OBJ_ETAG_MAX]; /* "" = no object (implicit directory, file not yet in the bucket) */
	uint64_t size;
	int64_t mtime_s;	 /* LastModified (or the Date of the reply to our PUT) */
};

struct entry {
	char name[PATH_NAME_MAX + 16]; /* as shown: "NAME~object" for a file that a directory of the same name hides */
	bool is_dir;
	bool have_headers;	 /* headers are known for this version; else attr holds the defaults */
	struct version v;	 /* file: the object. Directory: its marker, etag "" when there is none */
	struct attr attr;
	struct obj_headers headers; /* owned by the entry */
	uint64_t ino;		 /* stable st_ino; 0 is never used, 1 is the root */
	int64_t asked_ns;	 /* clock_now_ns() just before the question to the store that this answer rests on */
	bool image;		 /* a disk image: v and headers are of its name object, the key name + ".lsvd" */
	uint8_t uuid[16];	 /* image */
	uint64_t image_size;	 /* image: bytes, as the name object says */
	uint64_t image_alloc;	 /* ... and how many are allocated; 0: it does not say */
};
#define IMAGE_SUFFIX ".lsvd" /* of the key of an image's name object */
/* Do these headers make an object the name of an image? (The key must end in IMAGE_SUFFIX as well.) Sizes in bytes. */
bool image_of_headers(const struct obj_headers *h, uint8_t ret_uuid[16], uint64_t *ret_size,
		      uint64_t *ret_alloc);
/*
 * Has `now` (with headers h) the bytes of `base`? By etag and size, or because h says that a change of metadata made `now`
 * out of `base` (x-amz-meta-lsvd-was, see FORMAT.md).
 */
bool version_same_bytes(const struct version *base, const struct version *now, const struct obj_headers *h);
void entry_done(struct entry *e); /* frees the contents */
int must_check entry_copy(struct entry *dst, const struct entry *src);

struct tree_opts {
	struct objstore *store;	  /* borrowed for the life of the tree */
	const char *prefix;	  /* "" or ends in '/' */
	const char *db_path;	  /* SQLite file in the slot of cache_dir; NULL = in memory */
	struct attr_defaults def;
	int64_t attr_timeout_ns;  /* 1 s */
	unsigned head_window;	  /* most parallel HEADs of one growing window; 0 = 64 */
	bool read_only;
	struct budget *budget;	  /* for bodies that pass through tree_put_headers and tree_move; may be NULL */
};
int must_check tree_open(const struct tree_opts *o, struct tree **ret, struct objerr *err);
void tree_close(struct tree *t); /* NULL is fine */

enum {
	TREE_FRESH = 1 << 0, /* ask the store now, whatever is cached */
	TREE_ATTRS = 1 << 1, /* headers wanted: HEAD (with a growing window of neighbours) when they are unknown */
	/*
	 * For who knows another answer: -ETIMEDOUT when the store has not answered the question for a second, whoever asked
	 * it. It stays asked: the next call has no second to wait, and asks nothing.
	 */
	TREE_BRIEF = 1 << 2,
};
/*
 * One name. Positive answers are at most attr_timeout old; -ENOENT only from a complete listing page that young, or from
 * the store. Two stale questions into one page of a listing renew the page, not the name (DESIGN: attribute cache).
 * An image is found by its shown name; its key's own name is -EPERM. All other calls take names of keys: an image's is
 * its shown name + IMAGE_SUFFIX.
 */
int must_check tree_lookup(struct tree *t, const char *dir, const char *name, unsigned flags, struct entry *ret,
			   struct objerr *err);
/* The directory's own marker (root: .lsvd/root). Never -ENOENT for the root. */
int must_check tree_lookup_dir(struct tree *t, const char *dir, unsigned flags, struct entry *ret, struct objerr *err);

struct tree_page {
	struct entry *v;
	size_t n;
	bool more; /* further entries may follow v[n-1] in byte order of the shown name; n is not 0 then */
};
void tree_page_done(struct tree_page *p);
/*
 * Entries of dir with shown name > after ("" = from the start), at most max (0 = 1000), in byte order of the names. Unknown rows come
 * without headers. -ENOENT when nothing at all lies below dir (no marker, no key) and dir is not the root.
 */
int must_check tree_list(struct tree *t, const char *dir, const char *after, size_t max, struct tree_page *ret,
			 struct objerr *err);
/* As TREE_BRIEF, but then what was known before, however old; -ETIMEDOUT: not all of that page was. */
int must_check tree_list_brief(struct tree *t, const char *dir, const char *after, size_t max, struct tree_page *ret,
			       struct objerr *err);

/* fs tells what it has learnt or done. own: by this node's own PUT (date_s stands in for LastModified when mtime_s is 0). */
int tree_note_object(struct tree *t, const char *dir, const char *name, bool is_dir, const struct version *v,
		     const struct obj_headers *h, uint64_t ino, bool own, int64_t date_s, int64_t asked_ns);
void tree_note_gone(struct tree *t, const char *dir, const char *name, bool is_dir);
/* A directory moved: rows and inode numbers below go along; listings of both are forgotten. */
void tree_note_moved_dir(struct tree *t, const char *from_dir, const char *to_dir);
/* Forget listings of dir, so that the next question asks the store. */
void tree_forget(struct tree *t, const char *dir);
uint64_t tree_new_ino(struct tree *t);
/* The key of a shown name, "NAME~object" resolved. From what is known: no request. */
int must_check tree_key(struct tree *t, const char *dir, const char *name, bool is_dir, char **ret);

/* Changes. Each sends what the name says and notes the result in the cache. */

/* Marker `dir/name/`, If-None-Match:* where the store can; else LIST before. -EEXIST when file or directory is there. */
int must_check tree_mkdir(struct tree *t, const char *dir, const char *name, const struct attr *a,
			  const struct obj_headers *extra, struct entry *ret, struct objerr *err);
/* -ENOTEMPTY when anything (hidden keys too) lies below. */
int must_check tree_rmdir(struct tree *t, const char *dir, const char *name, struct objerr *err);
/* Symlink (body = target), fifo, socket, device (empty body): exclusive at the call. -EEXIST. */
int must_check tree_mknod(struct tree *t, const char *dir, const char *name, const struct attr *a, const char *target,
			  struct entry *ret, struct objerr *err);
int must_check tree_readlink(struct tree *t, const char *dir, const char *name, const struct version *v, char **ret,
			     struct objerr *err);
/* Deletes the object (any version, as unlink(2) does). */
int must_check tree_unlink(struct tree *t, const char *dir, const char *name, struct objerr *err);

/*
 * Replaces the headers of the object (a directory: PUT of its marker) by *h, provided it still is version *base; the
 * bytes stay. Never in the same server second as base->mtime_s: waits. By the method that the store's capabilities allow
 * (see metaput.c). -ESTALE: other bytes are there now (ret_found says which version, when it could be asked).
 */
int must_check tree_put_headers(struct tree *t, const char *dir, const char *name, bool is_dir, const struct version *base,
				const struct obj_headers *h, struct version *ret, struct version *ret_found,
				struct objerr *err);
/*
 * Moves a file's object: COPY with conditions (h NULL keeps the headers), then conditional delete of the source (HEAD
 * before it where DELETE takes no condition). noreplace: -EEXIST. Source changed meanwhile: again, three times, then
 * -EBUSY with nothing deleted. *src is the version believed to be there and, after success, the one that was moved: it
 * may be another client's. ret: the new object.
 */
int must_check tree_move(struct tree *t, const char *sdir, const char *sname, struct version *src,
			 const char *ddir, const char *dname, const struct obj_headers *h, bool noreplace, uint64_t ino,
			 struct version *ret, struct objerr *err);

/* Builds the headers of a new object: attributes, Content-Type by name, extra (may be NULL) carried over. */
int must_check tree_headers(const struct attr *a, const char *name, bool is_dir, struct obj_headers *h);

struct tree_stats {
	uint64_t rows, hidden_keys, db_rebuilt, lists, heads;
};
void tree_stats(struct tree *t, struct tree_stats *ret);

#endif
