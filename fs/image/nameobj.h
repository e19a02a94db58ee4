/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * nameobj.h - the name of an image in the store (FORMAT.md 2): read, made, moved; where the log of a name lies; what is
 * left of an image after its last claim (PROTOCOL.md 3). Whole keys everywhere. Every call waits for the store.
 */
#ifndef LSVD_IMAGE_NAMEOBJ_H
#define LSVD_IMAGE_NAMEOBJ_H

#include "logobj.h"

#define IMGNAME_SUFFIX ".lsvd"
/* Bytes that read as data or "zero" when the image was last closed; a copy, for stat(2) of images that nobody has open. */
#define IMGNAME_ALLOCATED "x-amz-meta-lsvd-allocated"

struct nameobj {
	struct imgname n;
	struct obj_headers h;
	char etag[OBJ_ETAG_MAX];
	uint64_t bytes; /* of the object */
	int64_t mtime_s, date_s, asked_ns; /* of a name that was put: date_s and asked_ns */
	bool maybe; /* putting it failed, and it may be there, or come, all the same */
};
void nameobj_free(struct nameobj *o);
/* -ENOENT: no object; -ENODATA: a plain object, not a name; -EUCLEAN: a name that is malformed. */
int must_check nameobj_get(struct objstore *s, const char *key, struct nameobj *ret, struct objerr *err);
/* Puts o->n with o->h (the image header is set here) under a key that must be absent. -EEXIST. Fills in etag, dates. */
int must_check nameobj_create(struct objstore *s, const char *key, struct nameobj *o, struct objerr *err);

/* Puts what o says over the version that was read into it. -ESTALE: it changed. Fills in etag, dates. */
int must_check nameobj_update(struct objstore *s, const char *key, struct nameobj *o, struct objerr *err);

/* Where the log of a name lies, and whether the name is the image's own. */
struct nameplace {
	char *base;   /* prefix of the directory that holds its .lsvd, to be freed */
	char *prefix; /* of the log, ends in '/', to be freed */
	bool copy;    /* another key has the name that this one says */
	bool dead;    /* the image was deleted */
};
void nameplace_free(struct nameplace *p);
/* -ENOENT: no log anywhere up to `top` (a prefix: "" or ends in '/'). */
int must_check nameobj_place(struct objstore *s, const char *top, const char *key, const struct imgname *n,
			     struct nameplace *ret, struct objerr *err);

/*
 * The name at key `from` goes to the key `to`, with h instead of its headers (NULL: its own); its text says the new name
 * then, unless it is a copy's. `to` must be absent, or the name of the image `over` (NULL: absent), which its text says as
 * well. Steps: put, delete. May be begun again after a crash. ret (may be NULL): the new one. -EEXIST: another object is
 * there; -ENOENT, -ENODATA: no name at `from`; -EXDEV: out of the reach of its log.
 */
int must_check nameobj_move(struct objstore *s, const char *from, const char *to, const struct obj_headers *h,
			    const uint8_t over[16], struct nameobj *ret, struct objerr *err);
/* The same without the delete, for a rename of a directory: over whatever is at `to`. -ENODATA: not a name. */
int must_check nameobj_copy(struct objstore *s, const char *from, const char *etag, const char *to,
			    struct nameobj *ret, struct objerr *err);
/* Are both keys names of one image? */
int must_check nameobj_same(struct objstore *s, const char *a, const char *b, bool *ret, struct objerr *err);

/* Is there a key that begins so, and is no directory of a file:// store? 1, 0. */
int must_check image_any_key(struct objstore *s, const char *prefix, struct objerr *err);
/* Does a clone refer to the log? 1, 0. */
int must_check image_has_refs(struct objstore *s, const char *prefix, struct objerr *err);
/* The image's end is said for ever: every open asks for it. */
int must_check image_bury(struct objstore *s, const char *prefix, struct objerr *err);
/* Was it said? 1, 0. */
int must_check image_is_dead(struct objstore *s, const char *prefix, struct objerr *err);
/*
 * Removes what a buried image left: objects below `next` that are no claims, and marks. keep: numbers of claims. May be
 * begun again. ret_left: keys that stay. -EBUSY: a clone was made when it was not buried yet: all that stays for it.
 */
int must_check image_erase(struct objstore *s, const char *prefix, uint64_t next, const uint64_t *keep, size_t nkeep,
			   size_t *ret_left, struct objerr *err);

#endif
