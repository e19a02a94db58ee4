/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mount.h - one running mount: what is built for it in which order, who may stop it.
 *
 * Order of start (the reverse is the order of stop): checker process, signal thread, slots, budget, store, tree, spool,
 * metadata queue, pool, recovery, fsd, session, kernel mount, control socket, readers.
 */
#ifndef LSVD_MOUNT_H
#define LSVD_MOUNT_H

#include "fsd.h"
#include "mntpoint.h"
#include "objstore/base/lock.h"
#include "options.h"
#include "slot.h"
#include "start.h"
#include <pthread.h>

struct control;

struct mount_recovered {
	struct spool_recovery spool;
	unsigned adopted; /* slots of dead mounts */
	unsigned strangers;
	unsigned renames; /* of directories, finished */
};

struct mount {
	/* set while starting, then read-only */
	struct options opt;
	bool foreground;
	bool no_io_flusher; /* the kernel may make us wait for writeback that waits for us */
	struct obj_url url;
	char *identity;
	struct slot state, cache;
	char *spool_dir, *metaq_path, *node_path, *node_id, *db_path, *caps_path, *image_dir, *block_path, *host;
	struct budget *budget;
	struct objstore *store;
	struct tree *tree;
	struct spool *spool;
	struct metaq *metaq;
	struct pool *pool;
	struct fsd *fsd;	/* also the argument of fsd_metaq_done, by address */
	struct fuse_session *se;
	struct mntpoint point;
	struct control *control;
	struct mount_recovered recovered;
	int64_t started_real_ns;

	struct start start;

	struct mtx lock; /* RANK_MOUNT */
	/* under lock */
	enum { MOUNT_STARTING, MOUNT_MOUNTED, MOUNT_STOPPING } phase;
	unsigned stop_signals;
	bool stopping;		 /* stop_thread runs, or has run */
	pthread_t stop_thread;

	_Atomic bool ended;  /* SIGUSR1 tells the signal thread so */
	_Atomic bool failed; /* exit status 1 although the mount was there */
};

/* Mounts and serves until the end. Exit status: 0, or 1 after one line on standard error. Takes *opt over. */
int mount_run(struct options *take_opt, bool foreground);

/* --- daemon.c: called by mount_run() only --- */

void mount_block_signals(void); /* before any thread: the signal thread takes them */
void *mount_signal_thread(void *mount);
/* Mounts, answers until the end, drains. Words in err for what happened before the mount was there. */
int must_check mount_serve(struct mount *m, struct objerr *err);
/* fsd_drain, failures logged. */
int mount_drain(struct mount *m);

/* --- also for commands without a mount (cmd_*.c) --- */

/* Parses the source and opens the store; url to be freed by obj_url_free. Words, with advice, in err. */
int must_check mount_open_store(const struct options *o, struct budget *budget, struct obj_url *ret_url,
				struct objstore **ret_store, struct objerr *err);
/* One LIST: reaches the server, knows the bucket, may read. Waits retry= for a server that is not there yet. */
int must_check mount_reach(struct objstore *store, const struct options *o, const char *prefix, struct objerr *err);

#endif
