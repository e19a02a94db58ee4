/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * local-private.h - what the files of the file:// store share. local.c has the essay.
 *
 *   local.c      the store: reading, writing, publishing under conditions
 *   localdir.c   names: keys to directories, locks, temporary files, implicit directories
 *   localmeta.c  the extended attribute, and attributes of what was put there by hand
 *   locallist.c  LIST
 *   localmpu.c   multipart uploads
 */
#ifndef LSVD_LOCAL_PRIVATE_H
#define LSVD_LOCAL_PRIVATE_H

#include "objstore.h"
#include "base/lock.h"
#include "base/str.h"
#include "store-private.h"
#include <sys/stat.h>

#define LOCAL_ROOM ".lsvd" /* holds tmp, mpu, lock; other keys may lie there too */
#define LOCAL_TMP LOCAL_ROOM "/tmp"
#define LOCAL_MPU LOCAL_ROOM "/mpu"
#define LOCAL_LOCK LOCAL_ROOM "/lock"
#define LOCAL_XATTR "user.lsvd"
#define LOCAL_TMP_NAME 33 /* 32 hex digits and NUL */

struct local {
	struct objstore s;
	struct obj_stats stats;
	int root;	   /* the bucket's directory */
	struct mtx lock;   /* RANK_STORE; held while the hidden directories are made, so that one thread does it */
	_Atomic bool room; /* they are there */
};

/* What is known about one name. */
enum local_kind {
	LOCAL_NONE,
	LOCAL_FILE,
	LOCAL_LINK,	/* placed by hand: an object whose body is the link's text */
	LOCAL_MARKER,	/* a directory that was PUT, or made by hand */
	LOCAL_IMPLICIT, /* a directory that is there only for keys below it */
	LOCAL_OTHER,	/* fifo, device, socket: no object, but in the way of one */
};
struct local_meta {
	enum local_kind kind;
	struct stat st;
	char etag[OBJ_ETAG_MAX];
	uint64_t size;
	int64_t mtime_s; /* LastModified */
	bool by_hand;
	struct obj_headers headers; /* only when asked for */
};

/* --- localmeta.c -- */
void local_meta_done(struct local_meta *m);
/*
 * Looks at name in dirfd (never through a symbolic link). *ret_fd, when wanted, gets a descriptor for reading (-1 for a
 * link, a special file and what we may not read). Absent is kind LOCAL_NONE and 0. Headers only if wanted.
 */
int must_check local_meta_at(int dirfd, const char *name, bool want_headers, struct local_meta *ret, int *ret_fd);
/* The same of an open descriptor; also a directory's. */
int must_check local_meta_fd(int fd, bool want_headers, struct local_meta *ret);
/* Takes what the bytes of the attribute say; m->st and m->kind are the file's. -ENODATA: nothing about this file. */
int must_check local_meta_parse(const char *p, size_t n, bool want_headers, struct local_meta *m);
/*
 * Writes the attribute of a new object under a new etag; the file's data and times are final (a directory: its marker).
 * nparts > 0 adds "-nparts" to the etag, as S3 does. Sets req->etag, size, mtime_s; words in req->err.
 */
int must_check local_meta_write(int fd, const struct obj_headers *h, size_t nparts, struct objreq *req);
/* Marks a directory as there only for the keys below it. */
int must_check local_meta_write_implicit(int fd);
/* Header values to JSON and back. */
struct json_t;
int must_check local_headers_to_json(const struct obj_headers *h, struct json_t **ret);
int must_check local_headers_from_json(const struct json_t *j, struct obj_headers *ret);
/* Sets a file's time from x-amz-meta-mtime when there is one that can be read. */
void local_meta_set_mtime(int fd, const struct obj_headers *h);
/* "sec.frac" -> timespec; false when it is no such thing. */
bool local_parse_time(const char *s, struct timespec *ret);
/* -errno; ESTALE of a network file system must not look like a condition that did not hold. */
static inline int local_sys(void)
{
	return errno == ESTALE ? -EIO : -errno;
}
/* errno of a system call -> the error table of objstore.h, with words. what names the step. */
int local_errno(struct objerr *err, int e, const char *what, const char *key);

/* --- localdir.c -- */
/* A key taken apart. */
struct local_name {
	char *path;		/* owned: the key without a '/' at its end */
	char *dir;		/* owned: "" = the root; no '/' at its end */
	const char *name;	/* the last component, in path */
	bool marker;		/* the key ends in '/' */
};
void local_name_done(struct local_name *n);
/* -EINVAL, -ENAMETOOLONG, -EACCES (our hidden files) with words: no file can have this key. */
int must_check local_name_parse(const char *key, struct local_name *ret, struct objerr *err);
/* True for our own hidden files: path has no '/' at its end. */
bool local_is_hidden(const char *path);
/* Opens the directory `path` below root without leaving it: -ENOENT, -ENOTDIR (a file or link is in the way). */
int must_check local_open_dir(int root, const char *path, int *ret_fd);
/* The same and makes what is missing, as implicit directories. */
int must_check local_make_dirs(struct local *l, const char *path, struct objerr *err, int *ret_fd);
/* Hidden directories, once; clears what a crash left in tmp. */
int must_check local_make_room(struct local *l, struct objerr *err);
/* Opens LOCAL_TMP or LOCAL_MPU; makes them again when they went away. Never -ENOENT. */
int must_check local_open_room(struct local *l, const char *path, int *ret_fd);
/* Locks one path, as a file or as a directory, between processes too. Never lock two. close() unlocks. */
int must_check local_lock(struct local *l, const char *path, int *ret_fd);
/* A locked temporary file (dir: directory) in tmp; who dies leaves one that the next start removes. */
int must_check local_tmp_file(struct local *l, char name[LOCAL_TMP_NAME], int *ret_fd);
int must_check local_tmp_dir(struct local *l, char name[LOCAL_TMP_NAME], int *ret_fd);
void local_tmp_remove(struct local *l, const char *name);
/* Removes implicit directories from `dir` upward while they are empty. */
void local_prune(struct local *l, const char *dir);
/* Renames within the bucket, never over anything: -EEXIST. */
int must_check local_rename_new(int from_dir, const char *from, int to_dir, const char *to);
/* Removes the files of a flat directory, `first` (may be NULL) before the others, and itself. Clean-up may ignore the
 * result: what stays is swept at the next start. */
int local_remove_flat(int parent, const char *name, const char *first);
/* Removes an upload whose removal was cut short: its head went first. Others are left alone. Always 0. */
int local_sweep_upload(int mpu, const char *name);
int must_check local_fsync(int fd);

/* --- local.c -- */
/* The common end of PUT, COPY and COMPLETE: the temporary file becomes the key's object under its condition. */
int must_check local_publish(struct local *l, struct objreq *req, const struct local_name *n, const char *tmp);
/* Appends [off, off+len) of in to out: by reflink or in the kernel where it can. -ENODATA at a short end. */
int must_check local_copy_bytes(int in, uint64_t off, uint64_t len, int out, uint64_t out_off);
/* Opens the source of a copy and checks its condition; headers are in *ret. fd is -1 for a marker. */
int must_check local_open_source(struct local *l, struct objreq *req, struct local_meta *ret, int *ret_fd);
/* After the bytes were read: -ESTALE or -EAGAIN when somebody was writing the source meanwhile. */
int must_check local_check_unchanged(struct objreq *req, const struct local_meta *m, int fd);
int must_check local_write_iov(int fd, const struct objreq *req);

/* Head of an upload: what its file "upload" says. -EBADMSG; *ret is freed by local_upload_done(). */
struct local_upload {
	char *key;
	int64_t mtime_s;
	struct obj_headers headers;
};
int must_check local_upload_parse(const char *p, size_t n, struct local_upload *ret);
void local_upload_done(struct local_upload *u);

/* --- locallist.c, localmpu.c -- */
int must_check local_list(struct local *l, struct objreq *req);
int must_check local_mpu_create(struct local *l, struct objreq *req);
int must_check local_mpu_part(struct local *l, struct objreq *req);
int must_check local_mpu_complete(struct local *l, struct objreq *req);
int must_check local_mpu_abort(struct local *l, struct objreq *req);
int must_check local_mpu_list(struct local *l, struct objreq *req);

#endif
