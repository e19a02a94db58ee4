/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spool-private.h - what the files of the spool share. Nobody else includes it.
 *
 * Which bytes are where. Let size be the length of the data file, src the object that the file started from (or equals
 * since the last commit), and
 *   base_limit  bytes at or behind it are local whatever happened; below it a byte is local when `have` holds it, else
 *               it is src's. A new or emptied file has base_limit 0; a truncate lowers it for good.
 *   same_limit  bytes below it that are not in `dirty` equal src's, wherever they lie: they may be copied on the server.
 * base_limit <= same_limit <= size; have lies below base_limit, dirty below same_limit.
 *
 * A change is journaled behind the data it speaks of (SPJ_RANGE, SPJ_TRUNC), and nothing else is: so a journal never
 * promises bytes that are not in the data file, whatever moment a kill chooses.
 *
 * States:
 *   state    from            by                          a write then          after a crash
 *   CLEAN    new, CLOSING    nothing written / commit    -> OPEN               files removed
 *   OPEN     CLEAN, CLOSING  write / failed commit       goes on               parked
 *   CLOSING  OPEN            commit seals                waits                 finished if the base holds (same boot)
 *   ACKED    OPEN            commit(ASYNC), fsynced      waits                 finished if the base holds
 *   PARKED   any             park                        -ESTALE               stays in parked/
 *   GONE     any             discard, upload not aborted -                     upload aborted, files removed
 *
 * `uploading` is the seal: set by the one thread that uploads, from its seal to the completion. While it is set (or the
 * state is ACKED) size, src, base, same_limit, dirty and the data stay as they are; only `have` may grow, by a fetch.
 */
#ifndef LSVD_SPOOL_PRIVATE_H
#define LSVD_SPOOL_PRIVATE_H

#include "objstore/base/lock.h"
#include "objstore/base/pool.h"
#include "objstore/base/table.h"
#include "ranges.h"
#include "spjournal.h"
#include "spool.h"

enum spstate { SP_OPEN = 1, SP_CLOSING, SP_ACKED, SP_CLEAN, SP_PARKED, SP_GONE, SP_NSTATES };

#define SP_SIZE_MAX (5 * 1024 * GiB)	 /* of an object (S3 User Guide, "Amazon S3 multipart upload limits") */
#define SP_BOOT_MAX 40			 /* bytes of a boot id, NUL included */
#define SP_ID_MAX 40			 /* bytes of a file name in the spool, NUL included */

/* An upload whose answer may be outstanding: is an object that carries this nonce ours, and is it the newest content? */
struct sptry {
	char nonce[OBJ_NONCE_LEN + 1];
	uint64_t wseq, hseq; /* content and headers it was sent with */
};

struct sppart {
	unsigned number;
	uint64_t off, len;
	char etag[OBJ_ETAG_MAX];
	bool up;	/* the store has these bytes under this number */
	bool flying;	/* being sent by the background */
	bool on_server;	/* some bytes were sent under this number: Complete must name it (Ceph) */
	uint64_t gen;	/* counts changes of the bytes: an answer to older bytes does not count */
};

/* A multipart upload under way. Layout: see spplan.h. */
struct spmpu {
	char *id, *key; /* owned */
	char nonce[OBJ_NONCE_LEN + 1];
	struct obj_headers headers; /* sent at its creation */
	uint64_t tail_off, unit;
	unsigned tail_first;
	struct sppart *part; /* by number */
	size_t nparts, cap;
};

struct spfetch { /* a fetch under way: others wait for it instead of asking twice */
	struct list link;
	uint64_t start, end;
};

enum acked_place { ACKED_NOT, ACKED_QUEUED, ACKED_RUNNING };

struct spfile {
	struct spool *s;
	uint64_t id;
	uint64_t ino;
	int dirfd;	    /* of spool or parked directory, borrowed */
	int fd;		    /* data */
	struct list link;   /* under s->lock: s->files */

	/* under s->lock: the queue of ACKED files */
	struct list acked_link;
	enum acked_place acked;
	bool acked_again;   /* acknowledged anew while RUNNING */
	int64_t acked_due_ns;
	unsigned acked_tries;
	bool detached;	    /* freed by its owner: the queue frees it */
	struct job acked_job;

	/* held across reads and writes of the local files, which have to agree with the fields; never across the store */
	struct mtx lock;    /* RANK_SPFILE; everything below */
	struct cond change; /* broadcast at: end of an upload, of a background part, of a fetch */
	struct spj j;
	enum spstate state;
	char *dir, *name, *key;
	uint64_t size;
	struct version base; /* condition of the next upload; etag "" = absent */
	struct version src;  /* where missing bytes come from; etag "" = nowhere */
	char *src_key;
	uint64_t src_gen;    /* counts changes of src */
	bool nameless;	     /* unlinked while open: the journal's last state is GONE */
	uint64_t chseq;	     /* hseq at the last commit */
	uint64_t base_limit, same_limit;
	struct ranges have, dirty;
	bool journal_all;    /* a write failed half way: `dirty` says more than the journal */
	bool forced;	     /* goes up even if nothing was written */
	uint64_t wseq, cseq; /* content now; content that src equals */
	uint64_t hseq;	     /* changes of headers */
	struct obj_headers headers;
	int64_t created_s;
	char boot[SP_BOOT_MAX]; /* that wrote the journal */
	struct list fetches; /* struct spfetch */

	/* a clean file was moved: what force_dirty needs to take it back */
	struct {
		char *key, *dir, *name;
		struct version src;
	} before_move;

	struct { /* spfile_rebase that came during an upload */
		bool due;
		struct version from, to;
	} rebase;

	bool uploading;	     /* the seal; also held while the file moves */
	bool sending;	     /* the seal is an upload's: others may join */
	uint64_t upload_gen; /* finished uploads */
	int last_status;     /* of the upload that finished last */
	struct spcommit last;
	struct objerr last_err;
	bool last_found;     /* it was there already, by an earlier try */
	struct sptry *tries;
	size_t ntries;
	uint64_t parked_id;

	struct spmpu *mpu;
	/* background upload */
	unsigned bg_flying;
	bool bg_creating, bg_stop, bg_failed;
	uint64_t run_start, run_end; /* the sequential run of writes that is going on */
};

struct spool {
	struct spool_opts o; /* strings owned */
	char *dir, *prefix;
	int dirfd, parked_fd;
	uint64_t part_size, part_min, put_max;
	unsigned max_parts;
	char boot[SP_BOOT_MAX];
	struct pool *parts; /* parts while writing */
	struct pool *acked; /* uploads of ACKED files */

	struct mtx lock;    /* RANK_SPOOL; everything below */
	struct cond change; /* broadcast: the queue of ACKED files changed, a run ended, stopping */
	struct list files, queue;
	size_t nfiles;
	uint64_t last_id;
	uint64_t seed;
	bool stopping, thread_on;
	pthread_t thread;
};

/* For a failure that has no consequence beyond what the comment at the call says. */
static inline void sp_best_effort(int r)
{
	(void)r;
}

/* --- spool.c --- */
uint64_t sp_new_id(struct spool *s);
void sp_nonce(struct spool *s, char *out);
void sp_link(struct spfile *f);	  /* into s->files */
void sp_unlink(struct spfile *f);
int must_check sp_data_name(uint64_t id, char *out);	/* out: SP_ID_MAX bytes */
int must_check sp_journal_name(uint64_t id, char *out);
/* Reads a directory of spool files: ids that have a file with the suffix. *ret is the caller's. */
int must_check sp_scan(int dirfd, const char *suffix, uint64_t **ret, size_t *ret_n);
/* Records an upload that could not be aborted, for the next mount. */
void sp_note_orphan(struct spool *s, const char *dir, const char *name, const struct spmpu *m);
/* Uploads an ACKED file behind everybody's back, as often as it takes. */
void sp_enqueue(struct spfile *f);
/* The same for a file that has no owner, after an upload that failed: the queue frees it. */
void sp_hand_over(struct spfile *f);
/* This boot of the host. */
void sp_boot_id(char *out);

/* --- spfile.c --- */
int must_check sp_alloc(struct spool *s, struct spfile **ret); /* empty, fds -1, not linked */
void sp_release(struct spfile *f);			       /* memory and descriptors only */
void sp_unlink_files(struct spfile *f);
bool sp_dirty_locked(const struct spfile *f);
bool sp_local_locked(const struct spfile *f, uint64_t start, uint64_t end);
int must_check sp_set_names(struct spfile *f, const char *dir, const char *name);
int must_check sp_log_state_locked(struct spfile *f, enum spstate st);
/* Drops what must not travel from one object to the next: put nonces, "was" notes. */
int must_check sp_clean_headers(struct obj_headers *h);
void sp_seal_locked(struct spfile *f) REQUIRES(f->lock); /* waits for the seal and takes it */
void sp_unseal_locked(struct spfile *f);
/* Takes the file from the writers for good: waits for uploads, background parts, the queue. */
void sp_quiesce(struct spfile *f);

void sp_forget_move(struct spfile *f);

/* --- spmove.c --- */
/* The object at key was replaced by one of equal bytes. Not while somebody else has the seal. */
int must_check sp_rebase_locked(struct spfile *f, const char *key, const struct version *from, const struct version *to);

/* --- spfetch.c --- */
/* Bytes [off, off+n) of the content as it is now, wherever they are; missing ones are not stored. n within the size. */
int must_check sp_fill(struct spfile *f, void *buf, uint64_t off, size_t n, struct objerr *err);

/* --- spcommit.c --- */
/* One upload by the queue; true when the file needs another one later. */
bool sp_acked_run(struct spfile *f);
bool sp_is_transient(int r);

/* --- spupload.c --- */
struct spup { /* one upload of the sealed file */
	struct spfile *f;
	unsigned flags; /* SPC_RECOVER */
	struct obj_headers h;
	char *src_key;		   /* key of the new source, once it is there */
	uint64_t size, wseq, hseq; /* at the seal */
	struct spcommit out;
	struct objerr err;
	bool found; /* nothing was sent: an earlier try had arrived */
};
/* 0: u->out holds the new version. */
int must_check sp_upload(struct spup *u);
/*
 * Asks what is at the target key. 0: the base is there (or an older upload of ours, which became the base); 1: this very
 * content is there, u->out is filled; -ESTALE: something else, u->out.found filled; other errors of the store.
 */
int must_check sp_check_target(struct spup *u);
int must_check sp_add_try(struct spup *u, const char *nonce);
/* A successful change: u->out from its answer, or by a HEAD when the answer has no ETag (Ceph's Complete). */
int must_check sp_take_answer(struct spup *u, const struct objreq *req);

/* --- spmulti.c --- */
int must_check sp_multi(struct spup *u);
/* Aborts the upload, if any; what the store does not answer is noted for the next mount. Waits for the store. */
void sp_abort_upload(struct spfile *f);
void spmpu_free(struct spmpu *m);
struct sppart *spmpu_part(struct spmpu *m, unsigned number); /* NULL when unknown */
int must_check spmpu_add_part(struct spmpu *m, unsigned number, struct sppart **ret); /* finds or adds */
/* Journals and installs a fresh upload. */
int must_check sp_install_mpu_locked(struct spfile *f, struct spmpu *take_m);
int must_check sp_log_part_locked(struct spfile *f, const struct sppart *p);
/* The bytes [start, end) change: parts that hold some of them must be sent again. */
int must_check sp_invalidate_parts_locked(struct spfile *f, uint64_t start, uint64_t end);

/* --- spback.c --- */
void sp_bg_kick_locked(struct spfile *f, uint64_t off, uint64_t n);
void sp_bg_wait_locked(struct spfile *f) REQUIRES(f->lock); /* nothing is in the background any more; new parts wait for bg_stop to end */

/* --- spload.c --- */
/* Applies records to an empty spfile; -EBADMSG as spj_decode. */
int must_check sp_replay(struct spfile *f, const void *p, size_t n);
/* Opens and replays what lies in dirfd under id. -EBADMSG: journal damaged; -ENODATA: the data file is missing. */
int must_check sp_load(struct spool *s, int dirfd, uint64_t id, struct spfile **ret);

/* --- spparked.c --- */
/* Moves the files and writes the note; f->state becomes PARKED. 0 or -errno. f->lock not held. */
int must_check sp_park(struct spfile *f, const char *reason);
/* The same for files without a readable journal. */
int must_check sp_park_raw(struct spool *s, uint64_t id, const char *reason);
/* A kill in the middle of sp_park: true when a note existed and the move was finished. */
bool sp_park_finish(struct spool *s, uint64_t id);

#endif
