/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * attr.h - POSIX attributes as object headers: what we write (the s3fs dialect) and, through dialect.c, what others
 * wrote. Pure functions of headers; see FORMAT.md.
 */
#ifndef LSVD_ATTR_H
#define LSVD_ATTR_H

#include "objstore/objstore.h"
#include <sys/stat.h>
#include <time.h>

enum {
	ATTR_MODE = 1 << 0,
	ATTR_UID = 1 << 1,
	ATTR_GID = 1 << 2,
	ATTR_RDEV = 1 << 3,
	ATTR_MTIME = 1 << 4,
	ATTR_CTIME = 1 << 5,
	ATTR_ATIME = 1 << 6,
};

struct attr {
	unsigned have; /* ATTR_*: what the headers said; the rest was filled from the defaults */
	mode_t mode;   /* with S_IFMT */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	struct timespec mtime, ctime, atime;
};

/* What an object without headers gets; with force, what every object gets. */
struct attr_defaults {
	uid_t uid;
	gid_t gid;
	mode_t file_mode, dir_mode; /* permission bits */
	mode_t umask;		    /* cleared from the defaults above */
	bool force_owner;
};

/*
 * Headers -> attributes. key_is_dir: the key ends in '/' (or is only a prefix: h NULL). Never fails: what cannot be
 * understood is as if absent. Times absent from the headers are last_modified_s.
 */
void attr_from_headers(const struct obj_headers *h, bool key_is_dir, uint64_t size, int64_t last_modified_s,
		       const struct attr_defaults *def, struct attr *ret);
/* Writes mode, uid, gid, rdev, mtime, ctime, atime into h, replacing every known dialect's spelling of them. */
int must_check attr_to_headers(const struct attr *a, struct obj_headers *h);

/* Extended attributes in x-amz-meta-xattr (s3fs: urlencoded JSON {"name":"base64"}). */
/* Value of one name: length, -ENODATA, -ERANGE when cap > 0 is too small; cap 0 asks for the length. */
ssize_t must_check attr_xattr_get(const struct obj_headers *h, const char *name, void *buf, size_t cap);
/* NUL-separated names; as above. */
ssize_t must_check attr_xattr_list(const struct obj_headers *h, char *buf, size_t cap);
/* value NULL removes (-ENODATA). flags as setxattr(2): -EEXIST, -ENODATA. -ENOSPC beyond ATTR_META_MAX. */
int must_check attr_xattr_set(struct obj_headers *h, const char *name, const void *value, size_t n, int flags);
#define ATTR_META_MAX 2048 /* bytes of all x-amz-meta-* names (without the prefix) and values: S3 User Guide */
size_t attr_meta_bytes(const struct obj_headers *h);

/* Content-Type by extension ("application/octet-stream" when unknown); directories application/x-directory. */
const char *attr_guess_type(const char *name);

#endif
