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
	bool json, force, data, drop, pins, repair, zero_lost, all;
	const char *id, *out, *into; /* of journal */
	const char *mark;            /* of export, check */
	const char *position;        /* of rollback */
	const char *size, *restore_point, *from_options; /* of import */
	bool stop_at_gap;
	bool left; /* requests are under way that nobody waits for, with what they use: _exit() */
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
/* The image's file on the mount. */
int site_file(const struct site *s, char **ret);
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

/* A signal came: everything ends in good order. */
bool image_interrupted(void);

/* --- import: cmd_imgio.c; of Fly.io's format: cmd_imgfly.c --- */
struct import {
	const char *what; /* is read, for messages */
	/* Writes all data, as the only writer; fills in size. Reading failed: import_source_failed(). */
	int (*fill)(struct volume *v, struct import *im);
	uint64_t size, data, allocated; /* bytes: of the image, of what was written, of what is allocated then */
	struct objerr why;		/* words of a failed source; else its code has them */
	int failed;
	json_t *more; /* for --json, may be NULL */
	struct progress p;
};
/* May we write, is the path free? Signals are watched from here on. */
int import_begin(struct site *s);
/* Makes the image; expected: its size if known, else 0. */
int import_run(struct site *s, struct import *im, uint64_t expected);
/* All but the zeros. */
int must_check import_write(struct volume *v, struct import *im, uint64_t off, const char *buf, size_t n);
int import_source_failed(struct import *im, int r); /* returns r */
int image_import_fly(struct site *s, const char *source);
/* Of an image; prints what is wrong. */
int cmd_image_size(const char *text, uint64_t *ret);

/* --- the commands --- */
int image_export(struct site *s, const char *file);
int image_import(struct site *s, const char *file);
int image_list(struct site *s);
int image_collect(struct site *s); /* gc */
int image_journal(struct site *s);

/* --- repair and rescue: cmd_imgcheck.c, cmd_imgrescue.c --- */
int image_check_cmd(struct site *s);
int image_list_marks(struct site *s);
int image_adopt(struct site *s, const char *uuid);
/* The image as the option --mark says; prints why not. */
int image_open_mark(struct site *s, const struct image *i, struct volume **ret);
/* A name that cannot be understood, if what is in it leads to one log. *ret_fixed: written, or with `look` to be. */
int image_fix_name(struct site *s, bool look, bool *ret_fixed);
/* The journal `name` in dir over the state that it was made for, as the image s->into. */
int image_journal_into(struct site *s, const struct image *i, const char *dir, const char *name);

/* --- snapshots: cmd_imgsnap.c. The path is IMAGE@NAME but for the list. --- */
/* Cuts s->path at its last '@'; *ret_name points to the name within it, NULL: there is none, or the whole is an image. */
int site_snapshot(struct site *s, const char **ret_name);
int image_snapshot(struct site *s);
int image_snapshots(struct site *s);
int image_rollback(struct site *s);
int image_log(struct site *s);
int image_retain(struct site *s, const char *arg);
/* What of the past can be had, for info; negative errno, words. */
int must_check image_retained(struct volume *v, json_t *doc, struct objerr *err);
void image_print_retained(const json_t *doc);
int image_clone(struct site *s, const char *to);
int image_unsnap(struct site *s, const char *name);
/* A volume of the image, or of its snapshot, for reading; *ret_of (may be NULL then) is to be closed after it. */
int image_open_at(struct site *s, const struct image *i, const char *name, struct volume **ret_of, struct volume **ret,
		  struct objerr *err);
/* The name says sizes for stat(2) of who does not open the image. */
int image_note_size(struct site *s, struct image *i, uint64_t size, struct objerr *err);

/* --- clones: cmd_imgflat.c --- */
int image_flatten(struct site *s);
/* Adds to doc, of info: "parent", "clones", "snapshots"; and the lines for it. v: open. */
int must_check image_family(struct site *s, const struct image *i, struct volume *v, json_t *doc, struct objerr *err);
void image_print_family(const json_t *doc);
/* References in the log at prefix that nobody needs: an entry each to `ret`; look: removes nothing. ours: clones of which this
 * machine knows that they were not made ("uuid" of each), may be NULL. ret_left: those that stay. */
int must_check image_sweep_refs(struct site *s, const char *prefix, const uint8_t uuid[16], bool look, const json_t *ours,
				json_t *ret, size_t *ret_left, struct objerr *err);

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
