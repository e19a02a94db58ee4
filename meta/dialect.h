/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * dialect.h - how other programs spell POSIX attributes in object headers. Private to meta/; pure functions of bytes.
 * The spellings, who uses them and the order are in FORMAT.md.
 */
#ifndef LSVD_DIALECT_H
#define LSVD_DIALECT_H

#include "attr.h"

#define META_PREFIX "x-amz-meta-"
#define META_WAS META_PREFIX "lsvd-was" /* etag, size and mtime before a change of metadata that changed the etag */
#define META_IMAGE_ALLOCATED META_PREFIX "lsvd-allocated" /* bytes; optional */
#define META_IMAGE META_PREFIX "lsvd-image" /* the object is the name of a disk image: fs/image/FORMAT.md 2 */
#define META_PUT META_PREFIX "lsvd-put" /* nonce of the PUT, added by the store */

/*
 * Fills what the headers say into *a and sets ATTR_* in a->have; the rest of *a stays as it is. a->mode may come without
 * S_IFMT (permissions only). The first dialect that says something about a field wins.
 */
void dialect_read(const struct obj_headers *h, struct attr *a);
/* Drops what dialects other than ours say about fields that our own headers carry. */
int must_check dialect_clean(struct obj_headers *h);
/* Target that a header (not the body) carries, decoded: 0 and *ret, -ENOENT when no header does, -ENOMEM. */
int must_check dialect_symlink_target(const struct obj_headers *h, char **ret);

/* Single values. -EINVAL on what is not one. */
int must_check dialect_parse_mode(const char *s, mode_t *ret);	     /* decimal or octal, see FORMAT.md */
int must_check dialect_parse_time(const char *s, struct timespec *ret); /* decimal seconds, nanoseconds "ns", RFC 3339 */
#define DIALECT_TIME_LEN 32
void dialect_format_time(const struct timespec *ts, char out[DIALECT_TIME_LEN]); /* sec.nnnnnnnnn */

#endif
