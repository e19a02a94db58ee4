/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_image.h - what the files of `lsvdfs image` share: where an image is and how to get at it.
 *
 * A target is a path on a mount, or a source and a path below it. In both cases the command talks to the bucket itself,
 * with the mount's own options in the first one; only what concerns an image that the daemon has open, or names that it
 * knows, goes through its control socket or through the file.
 */
#ifndef LSVD_CMD_IMAGE_H
#define LSVD_CMD_IMAGE_H

#include "cmd.h"
#include "control.h"
#include "imgop.h"
#include "mount.h"

struct site {
	struct options o;
	struct obj_url url;
	char *identity;
	struct budget *budget;
	struct objstore *store;
	struct pool *pool;
	struct fetch *reads;
	struct slot slot; /* taken by site_may_write() */
	char *img_dir, host[65];
	struct vol_env env;
	/* a mount: */
	bool mounted;
	struct mntpoint mnt;
	json_t *status;
	/* what was asked for: */
	char *path; /* below url.prefix, without suffix; "" is the prefix itself */
	char *said; /* as the user wrote it, for messages */
	bool json, force, data, drop;
	const char *id, *out; /* of journal */
	const char *position; /* of rollback */
};

/* An image by its name. */
struct image {
	char *key;
	struct nameobj o;
	struct nameplace p;
	char uuid[33];
};
void image_done(struct image *i);

/* --- cmd_imgsite.c: each prints why not; CMD_OK, CMD_FAILED, CMD_USAGE --- */

/* args: one path on a mount, or SOURCE and PATH (PATH may be missing with dir: then it is the whole source). */
int site_open(struct site *s, char **args, int n, bool dir);
void site_close(struct site *s);
/* A state directory, a pool, what the store can do. */
int site_may_write(struct site *s);
int site_find(struct site *s, struct image *ret);
/* Is the path free for an image? */
int site_path_free(struct site *s);
/* One writer of the image without a mount, for as long as fn takes (imgop.h). err: its words; not for a copy's name. */
int site_write(struct site *s, const struct image *i, int (*fn)(struct volume *v, void *arg), void *arg,
	       struct objerr *err);
/* Another path, where an image is to be made: on the same mount, or below the same source; it is free. */
int site_other_path(struct site *s, const char *text, char **ret);
/* Asks the daemon of the mount about s->path: forget, upload, claim. ret may be NULL. */
int site_ask(struct site *s, const char *what, json_t **ret);
/* The same with a name, of a snapshot. */
int site_ask_name(struct site *s, const char *what, const char *name, json_t **ret);
/* After a change of names behind the mount's back. */
void site_forget(struct site *s);
/* The entry of the image in the mount's status; NULL: it is not open there. */
json_t *site_here(const struct site *s, const char *uuid);
/* One line for r: what went wrong with the target, and the words. */
int site_fail(const struct site *s, int r, const struct objerr *err);

/* --- progress on a terminal: cmd_imgio.c --- */
struct progress {
	const char *what;
	uint64_t total; /* 0: not known */
	int64_t began, said;
	bool on;
};
void progress_begin(struct progress *p, const char *what, uint64_t total);
void progress_at(struct progress *p, uint64_t done);
void progress_end(struct progress *p);

/* --- the commands --- */
int image_export(struct site *s, const char *file);
int image_import(struct site *s, const char *file);
int image_list(struct site *s);
int image_collect(struct site *s); /* gc */
int image_check_cmd(struct site *s);
int image_journal(struct site *s);

/* --- snapshots: cmd_imgsnap.c. The path is IMAGE@NAME but for the list. --- */
/* Cuts s->path at its last '@'; *ret_name points to the name within it, NULL: there is none, or the whole is an image. */
int site_snapshot(struct site *s, const char **ret_name);
int image_snapshot(struct site *s);
int image_snapshots(struct site *s);
int image_rollback(struct site *s);
int image_log(struct site *s);
int image_clone(struct site *s, const char *to);
int image_unsnap(struct site *s, const char *name);
/* A volume of the image, or of its snapshot, for reading; *ret_of (may be NULL then) is to be closed after it. */
int image_open_at(struct site *s, const struct image *i, const char *name, struct volume **ret_of, struct volume **ret,
		  struct objerr *err);
/* The name says sizes for stat(2) of who does not open the image. */
int image_note_size(struct site *s, struct image *i, uint64_t size, struct objerr *err);

/* For recover: an entry for each log below prefix that has no name, or is left of a deleted image. Removes nothing. */
int must_check image_left_logs(struct objstore *store, const char *prefix, json_t *ret, struct objerr *err);
void image_print_left(const json_t *e);

/* --- names: cmd_imglist.c --- */
struct found_name {
	char *key;
	int status; /* of reading it: 0, -ENODATA no name of an image, ... */
	struct nameobj o;
	struct objerr err;
};
struct found_names {
	struct found_name *v;
	size_t n, cap;
	unsigned lists; /* requests that it took */
};
/* All names below prefix: LISTs, and a GET for what is called like one. */
int must_check image_names(struct site *s, const char *prefix, struct found_names *ret, struct objerr *err);
void found_names_free(struct found_names *f);

#endif
