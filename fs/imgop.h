/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgop.h - what a mount and a command without a mount do with a whole image in the same way: its marks in the state
 * directory, its name, its end. No fsd here: a store, a prefix, a directory.
 *
 * Everything waits for the store. `dir` is the directory of all journals (SLOT/img, vol_env.state_dir), `top` the prefix
 * of the source ("" or ends in '/'), `path` an image's path below it, without suffix.
 */
#ifndef LSVD_IMGOP_H
#define LSVD_IMGOP_H

#include "fs/image/nameobj.h"
#include "fs/image/volume.h"
#include "meta/attr.h"

/* The name of an image's file in the state directory; what NULL: its directory. */
int must_check image_file(const char *dir, const uint8_t uuid[16], const char *what, char **ret);
/* Marks: where the log is, and whether its journal has nothing that the bucket lacks. clean false: -ENOENT, it was not. */
int must_check image_note_clean(const char *dir, const uint8_t uuid[16], bool clean);
int must_check image_note_where(const char *dir, const uint8_t uuid[16], const char *prefix, const char *path);
int must_check image_read_where(const char *dir, const uint8_t uuid[16], char **ret_prefix, char **ret_path);

/* A directory of one image's journal, and what is in it. */
void image_remove_dir(const char *path);
/*
 * That of another slot takes its place in ours. Where there are two, the one that has nothing to be sent gives way; what was set
 * aside in it goes along, nobody else has it. -ENOTEMPTY: both are needed where they are.
 */
int must_check image_adopt_dir(const char *from, const char *to);

/* A new uuid, where its log lies below top, and the whole prefix of it. -ENAMETOOLONG. */
struct image_new {
	uint8_t uuid[16];
	char log[64], prefix[OBJ_KEY_MAX + 1];
};
int must_check image_new_place(const char *top, struct image_new *ret);
/* Key of the name object. -ENAMETOOLONG. */
int must_check image_key(const char *top, const char *path, char **ret);
/* A name's text has it as a line: no newline. Before a log is made, which would be left without a name. */
bool image_path_ok(const char *path);
/* The name of a log that is there. allocated: for stat(2), may be 0. -EEXIST. ret may be NULL. */
int must_check image_make_name(struct objstore *s, const char *top, const char *path, const struct image_new *n,
			       uint64_t size, uint64_t allocated, const struct attr *a, struct nameobj *ret,
			       struct objerr *err);

/* An empty image: log and name. c: but for its uuid. A name that was refused for certain leaves no log; ret may be NULL. */
int must_check image_create(const struct vol_env *env, const char *top, const char *path, const struct image_new *n,
			    const struct vol_create *c, const struct attr *a, struct nameobj *ret, struct objerr *err);

/*
 * The end (PROTOCOL.md 3), in steps; after a crash between any two of them a later process goes on:
 *	image_doom()	claims for the last time, writes to `deleting` what is to be erased. Nothing is lost yet:
 *			image_spare() takes it back. *ret_prefix, to be freed: of the log; NULL: there is only a name. -EBUSY:
 *			held elsewhere, words say by whom; -ESTALE: the name is not this image's
 *	image_bury()	(nameobj.h) it is dead. Then the caller removes the name; or, where the name was put over by that of
 *			another image, that comes first, and its text (`replaces`) says that this one ended
 *	image_erase_left()	-ENODATA: it did not come to that
 */
int must_check image_doom(const struct vol_env *env, const char *top, const char *key, const char *path,
			  const uint8_t uuid[16], char **ret_prefix, struct objerr *err);
void image_spare(const struct vol_env *env, const char *prefix, const uint8_t uuid[16]);
/* image_doom() and image_bury(). *ret_log: image_erase_left() has something to do. */
int must_check image_end(const struct vol_env *env, const char *top, const char *key, const char *path,
			 const uint8_t uuid[16], bool *ret_log, struct objerr *err);
/* The same for a log whose place is known, with or without a name. */
int must_check image_end_log(const struct vol_env *env, const char *prefix, const char *path, const uint8_t uuid[16],
			     struct objerr *err);
int must_check image_erase_left(const struct vol_env *env, const uint8_t uuid[16], struct objerr *err);
/* After a process died that had doomed it. 1: it ended, and is buried; 0: it stays, `deleting` is gone. */
int must_check image_ended(const struct vol_env *env, const char *top, const uint8_t uuid[16], struct objerr *err);

/*
 * One writer for as long as fn takes: the marks, open, fn (which claims by what it does), release, close, the marks.
 * What a dead process of this state directory left in the journal goes along. -EBUSY: held, words by whom.
 */
int must_check image_write(const struct vol_env *env, const char *prefix, const char *path, const uint8_t uuid[16],
			   int (*fn)(struct volume *v, void *arg), void *arg, struct objerr *err);
/* For image_write(): claims; arg: struct vol_stat to be filled. With env.takeover ALWAYS whoever holds it loses it. */
int image_just_claim(struct volume *v, void *stat);

/*
 * An image that is being filled has no name yet; the file `importing` says so, `where` what it will be. What a process
 * that died left of it goes: 1; 0: it has its name, and is an image like others.
 */
int must_check image_note_importing(const char *dir, const uint8_t uuid[16], bool importing);
int must_check image_drop_import(const struct vol_env *env, const char *top, const uint8_t uuid[16], struct objerr *err);

#endif
