/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fsd.h - the mounted file system as one object: what mount.c builds it from, and what the session loop calls.
 *
 * mount.c makes store, tree, spool, metaq, budget and pool in this order, then fsd_new(); it takes them down in the
 * reverse order after the loop has ended and fsd_drain() has put everything into the bucket.
 */
#ifndef LSVD_FSD_H
#define LSVD_FSD_H

#include "metaq.h"
#include "objstore/base/pool.h"
#include "spool.h"
#include <jansson.h>

struct fuse_session;
struct fuse_lowlevel_ops;
struct fsd;

struct fsd_opts {
	struct objstore *store;
	struct tree *tree;
	struct spool *spool;
	struct metaq *metaq;	 /* opened by fsd_new's caller with fsd_metaq_done as callback */
	struct budget *budget;
	struct pool *pool;	 /* for what may wait; jobs never wait for one another */
	const char *prefix;
	const char *node_id;	 /* who we are in intents: constant for the slot */
	const char *node_path;	 /* file for the node table, in the slot */
	struct attr_defaults def;
	int64_t attr_timeout_ns;
	int64_t open_trust_ns;	 /* open_trust=: no question at open within so long of a check */
	const char *excl;	 /* excl= globs */
	bool read_only, async_close, nolock_error, debug;
	uint64_t part_size;
	/* disk images */
	const char *images;	 /* images= globs: which new files become images */
	const char *image_dir;	 /* journals: <slot>/img */
	const char *host;	 /* for people, into claims */
	bool fsync_remote;	 /* of new images */
	int takeover;		 /* enum vol_takeover */
	int64_t claim_wait_ns, dirty_age_ns;
	uint64_t retain_s;
	uint64_t journal_size;	 /* bytes of one image */
	const char *block_path;	 /* file of the block cache of all images, in the cache slot */
	uint64_t cache_size;	 /* its bytes */
};
int must_check fsd_new(const struct fsd_opts *o, struct fsd **ret);
/* To be given to metaq_open together with the address of a struct fsd * that is filled before the mount starts. */
void fsd_metaq_done(void *arg, const char *dir, const char *name, bool is_dir, int status, const struct version *base,
		    const struct version *v, const struct version *found, const struct obj_headers *h);
/* userdata of the session = struct fsd *. nolock_error: every lock call gets ENOLCK. */
const struct fuse_lowlevel_ops *fsd_fuse_ops(bool nolock_error);
void fsd_attach(struct fsd *f, struct fuse_session *se);
/* Reads and answers requests with `readers` threads until the mount ends or fuse_session_exit(). 0 or -errno. */
int must_check session_loop(struct fuse_session *se, unsigned readers);
/* Uploads every dirty file and every waiting metadata change. First error; what failed stays in the spool or is parked. */
int must_check fsd_drain(struct fsd *f, struct objerr *err);
/* Ends the threads that use metaq and spool; what they waited for stays in the spool. Before metaq_close. */
void fsd_stop(struct fsd *f);
/* Brings what an earlier process left of disk images into the bucket, in the background. */
void fsd_leftovers(struct fsd *f);
/* After the last request was read: ends those of images that still run, drains and releases the images. */
void fsd_end_images(struct fsd *f);
void fsd_free(struct fsd *f);
/* Intents of directory renames: the text of one, and going on with it (store and prefix of the mount; begun_s: its
 * LastModified, what is younger below from stays). */
int must_check rename_intent_parse(const char *p, size_t n, char **ret_from, char **ret_to, char **ret_node);
int must_check rename_resume(struct objstore *store, const char *prefix, const char *from, const char *to,
			     int64_t begun_s, struct objerr *err);
/* What the control socket asks of an image (control.h); path below the root. Adds to ans. -EINVAL: unknown verb. */
int must_check fsd_image(struct fsd *f, const char *verb, const char *path, const char *name, json_t *ans,
			 struct objerr *err);
/* Adds "nodes", "handles", "dirty_files", ... to obj. */
void fsd_status(struct fsd *f, json_t *obj);

#endif
