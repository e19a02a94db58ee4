/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volume-private.h - the state of a volume, shared by volume.c (life), volattach.c (from log and journal to a map),
 * volio.c and volread.c (reads and writes), volput.c (batches to objects), volckpt.c (checkpoints), voltree.c (the
 * map's tree), volsnap.c (snapshots).
 *
 * Locks, in order: lock (life, who is in) -> the journal's -> batch -> the map's -> the log's. A batch is closed, and
 * an object sealed, under `batch`, in the order of the journal: so an object's journal sequence says exactly which
 * writes it and those before it hold.
 */
#ifndef LSVD_IMAGE_VOLUME_PRIVATE_H
#define LSVD_IMAGE_VOLUME_PRIVATE_H

#include "journal.h"
#include "fetch.h"
#include "log.h"
#include "map.h"
#include "readahead.h"
#include "rules.h"
#include "throttle.h"
#include "volume.h"
#include "../../objstore/base/lock.h"
#include "../../objstore/base/pool.h"

enum { VOL_SKIP = 16, VOL_LOOKED = 1024, VOL_DIGEST_EVERY = 32, VOL_CLOSED_MAX = 4096, VOL_RMAX = 65536 };

/*
 * When a new tree is written, and what of env.map_bytes (64 MiB) the map may have:
 *	1/2	pages of the tree, and in a part of it the object table and what is pending
 *	1/4	the overlay, until it is frozen: at 64 to 128 bytes an extent 131,000 to 262,000 of them, which is 0.5 to
 *		1 GiB of random 4 KiB writes. Digests repeat an extent in 16 bytes: an attach reads 4 MiB of them
 *	1/4	what comes while the frozen part is written: then uploads wait for the tree
 * A sequential writer makes few extents: the tree is written each VOL_TREE_EVERY bytes, which are 512 objects of 8 MiB,
 * so 16 digests. A slow one makes many small objects: each VOL_TREE_DIGESTS digests, which an attach reads at once.
 */
#define VOL_MAP_BYTES (64 * MiB)
#define VOL_PAGES(map_bytes) ((map_bytes) / 2 - (map_bytes) / 32)
#define VOL_TREE_EVERY (4 * GiB)
#define VOL_TREE_RETRY_NS (5 * NSEC_PER_SEC)
#define VOL_PINNED_PART 16 /* of what is live: so much that only a digest keeps is worth a tree to an idle image */
#define VOL_IDLE_AGES 6 /* dirty ages without a write: then what is dead may cost a checkpoint or two */
enum { VOL_TREE_DIGESTS = 48, VOL_OVERLAY_SHARE = 4, VOL_OVERLAY_MAX_SHARE = 2 };

/* An object that has its number and is not durable yet: readers find its bytes here. */
struct vol_put {
	struct log_put put; /* first */
	struct volume *v;
	struct vol_put *next;
	uint64_t jseq;
	bool ready;       /* its bytes are there */
	bool moved;       /* by the cleaner: says nothing of the pace of writers */
	uint64_t charged; /* bytes of the budget */
};

/* A checkpoint whose mark is out, and what it refers to beside its map. */
struct vol_point {
	uint64_t number; /* 0: none */
	uint64_t *digests;
	size_t ndigests, nsnaps;
	struct log_snap *snaps;
	uint64_t floor;     /* positions from it on are kept, it says */
	int64_t time_s;
	uint64_t pages_end; /* its tree has no page behind that object */
	uint64_t ancestors; /* numbers up to it are other images' */
};

/* What the record of a snapshot says. */
struct vol_snapinfo {
	struct vol_snap snap; /* but for `hidden` */
	uint64_t *digests;    /* its root needs these objects */
	size_t ndigests;
};

/* A record that somebody waits for: volsnap.c. */
struct vol_record {
	struct logobj o;
	uint64_t upto; /* journal sequence that is to be in the log before it */
	bool taken;    /* it has its number, and what follows from it is in the volume */
};

struct volume {
	struct vol_env env; /* set at the start, as all up to the lock */
	char *prefix;
	uint8_t uuid[16];
	uint64_t snapshot; /* what is open is this one; 0: the image */
	uint64_t position; /* ... is what was before this number; 0: the image */
	bool list_only;    /* nobody wants more than the list of snapshots */
	struct log *log;
	struct map *map;
	int dirfd; /* of the journal; -1 with env.disk */
	uint64_t batch_bytes;

	struct mtx lock;     /* RANK_VOLUME */
	struct cond changed; /* state, users, sharers, claiming */
	enum vol_state state;
	unsigned writers; /* writable handles */
	unsigned shared;  /* writes under way */
	bool exclusive;   /* one that must be alone: parts of sectors, growth, resize */
	bool claiming;  /* somebody walks the log: claims, or attaches a follower again */
	uint64_t allocated; /* sectors of the map that was last whole, while `claiming` */
	uint64_t first_own;   /* number */
	struct journal *journal; /* there once owner; stays until the volume goes */
	char why[256];
	/* Reads under way, in two generations, so that a delete can wait for those that began before it. */
	unsigned readers[2], reading;
	bool turning;       /* somebody waits for one generation to leave; others wait for him */
	unsigned waited_for; /* so many wait for readers to leave */
	bool remapping;     /* the map is made anew: readers wait */
	bool mapped;        /* it is whole */
	uint64_t remapped;  /* how often */
	bool owned;         /* since the last attach: the log's view is not a follower's */

	struct mtx batch; /* RANK_BATCH */
	struct cond work; /* the uploader has something to do, or did it */
	uint64_t jseq;    /* of the last record in the map */
	uint64_t size;    /* bytes, as readers see it */
	uint64_t closed_jseq[VOL_CLOSED_MAX], closed_size[VOL_CLOSED_MAX]; /* ring, with the map's closed batches */
	size_t nclosed, closed_at;
	int64_t dirty_since;  /* of the open batch; 0: empty */
	uint64_t sealed_jseq; /* of the last object that was sealed */
	struct vol_put *puts; /* not durable, any order */
	struct {
		uint64_t number, jseq;
	} done[LOG_W_MAX]; /* by number modulo W */
	bool up, up_stop;  /* the uploader runs; shall end */
	bool broken;       /* the map could not take a record: memory */
	struct job uploader;
	bool preparing; /* the job runs that makes the journal's next segment */
	struct job prepare;
	/* what checkpoints need, under batch */
	struct log_checkpoint
	    ck; /* of the current tree; its lists are owned here */
	size_t capdigests, capclaims, capsnaps;
	struct log_effect *effect; /* of the numbers since digest_end, copied */
	size_t neffects, capeffects;
	uint64_t digest_end;
	uint64_t walk_size; /* what the walk says, until it ends */
	bool checkpoint_soon;
	/* the tree that is being written; under batch */
	enum vol_tree { TREE_NONE, TREE_WANTED, TREE_FROZEN } tree;
	uint64_t tree_covers;  /* of the frozen layer */
	int64_t tree_after;    /* not before: the last attempt failed */
	uint64_t written;      /* bytes of data since the last freeze */
	uint64_t retire_below; /* pages of older trees, once a checkpoint names the newer one; 0: none */
	bool rolled_back;      /* the tree is of before a roll back */
	bool table_known;      /* the object table of the bucket is in the map */
	/* deletes; under batch */
	struct vol_point newest, before, coming; /* marks: the newest, the one before; the one that is not answered yet */
	uint64_t begun_at;                       /* where the last walk took its checkpoint from */
	bool deletes_due, marks_due;
	/*
	 * positions that are kept (volretain.c); under batch. floor: as the last checkpoint says it, floor_said: as one does
	 * that is in the log, floor_want: as the next one shall
	 */
	uint64_t retain_s, floor, floor_said, floor_want;
	struct vol_point kept; /* what floor_said points to, if its number is that; the tending job's */
	struct vol_kept {
		uint64_t number;
		int64_t time_s; /* 0: not known */
	} *marks; /* from the floor on, ascending */
	size_t nmarks, capmarks;
	bool marks_known;     /* those of owners before as well */
	int64_t age_at;       /* then some of it is old enough to go; 0: nothing is */
	unsigned age_rounds;  /* so often since the last write */
	bool keeps; /* nothing is deleted: somebody goes back to where it may be needed */
	int64_t active_at; /* when data was sent last; 0: not yet */
	int64_t shrink_at; /* then the journal gives its room back, if nothing comes; 0: it did */
	unsigned idle_rounds;
	bool tending;          /* the job runs */
	struct job tend;
	bool table_wanted; /* somebody needs the object table */
	/* the cleaner; under batch */
	bool cleaning;                       /* the job runs */
	bool clean_look;                     /* something came, look whether there is anything to do */
	bool clean_idle;                     /* there was nothing to gain: not before something comes */
	unsigned clean_behind;               /* uploads give way to it: 1 a little, 2 more */
	unsigned draining;                   /* somebody waits for all of them */
	unsigned clean_goal;                 /* vol_gc(): per cent that shall be live; 0: as usual */
	int64_t guest_at, clean_after;       /* the guest's last data; not before, it failed */
	uint64_t skip[VOL_SKIP];             /* objects that cannot be read */
	uint64_t moved, moved_objects, freed; /* bytes moved, objects made of them; objects that went since attach */
	unsigned nskip;
	struct vol_looked {
		uint64_t number, at;
	} looked[VOL_LOOKED]; /* by the cleaner, when the newest number was so */
	struct job clean;
#ifdef LSVD_RULE_SWITCHES
	unsigned marks_out; /* T13_ONE off: sent, and nobody waits for the answer */
#endif
	uint64_t
	    mark_wanted; /* number of a checkpoint whose mark was not answered: until then no other begins; 0: none */
	uint64_t last_checkpoint;
	uint64_t sealed, sealed_size; /* the last number that was sealed; the image's size then */
	uint64_t trim_number, trim_jseq, trimmed_jseq;
	struct vol_record *record; /* wanted, one at a time */
	struct vol_snapinfo *snap; /* of those that are known, any order */
	size_t nsnap, capsnap;

	struct mtx streams; /* RANK_CACHE */
	struct readahead ahead;
	struct throttle pace; /* of writers */
};

/* ---- volume.c ---- */
void vol_fail(struct volume *v, enum vol_state s, const char *fmt, ...) printf_like(3, 4);
/* Words for people, without a change of state. */
void vol_note(struct volume *v, const char *fmt, ...) printf_like(2, 3);

/*
 * The owner's: everything to the bucket, then the release. before (may be NULL): what else is to be in the log, called
 * when nothing of the volume runs any more.
 */
int must_check vol_let_go(struct volume *v);
int must_check vol_let_go_after(struct volume *v, int (*before)(struct volume *v, void *arg), void *arg);

/* ---- volattach.c ---- */
/* What the volume is of, from the log. */
int must_check vol_attach(struct volume *v, const struct log_walker *w, bool follower, struct objerr *err);
/* What a follower's read did not find: the map is made anew, once for all who saw it `remapped` times. -EIO. */
int must_check vol_attach_again(struct volume *v, uint64_t remapped);
extern const struct log_walker vol_walker;                                   /* arg NULL: copy and set it */
void vol_walked(struct volume *v);                                           /* the walk is over: its size counts */
void vol_forget_log(struct volume *v);                                       /* frees effects and lists */
int must_check vol_add_effect(struct volume *v, const struct log_effect *e); /* deep copy; batch held or alone */
int must_check vol_append_u64(uint64_t **v, size_t *n, size_t *cap, uint64_t x);
int must_check vol_fetch_page(struct volume *v, const struct log_pageref *need);

/* Nobody claims, releases or follows meanwhile. 0: a follower; 1: an owner, whose view is the newest; -EIO. */
int must_check vol_hold_follower(struct volume *v);
void vol_let_follower(struct volume *v); /* after 0 */

/* ---- volsnap.c ---- */
/* A record's effect on the list of snapshots; batch held, or alone. */
int must_check vol_see_snapshot(struct volume *v, const struct logobj *o);
/* The record that is wanted may get its number now. */
bool vol_record_due_locked(const struct volume *v);
int must_check vol_put_record(struct volume *v); /* a place in the window was reserved */
/* The digests of all that p lists are known, and p has them. -ENOMEM, or what a GET says. */
int must_check vol_pin_snapshots(struct volume *v, struct vol_point *p);
void vol_forget_snapshots(struct volume *v);
int must_check vol_know_snapshots(struct volume *v, struct objerr *err);
uint64_t vol_find_snapshot(struct volume *v, const char *name); /* among those that are known; 0: none */
/* Of an owner: snapshots whose names are gone, and whose deletion did not end, go as far as no clone needs them. */
int must_check vol_free_hidden(struct volume *v, struct objerr *err);
/* Its record, whole: with a checkpoint and a digest. -EUCLEAN: it is not. */
int must_check vol_read_snapshot(struct volume *v, uint64_t number, struct logobj *ret, struct objerr *err);
/* One whose record is lost, for a repair: its free record, unless a clone uses it (-EBUSY). */
int must_check vol_forget_snapshot(struct volume *v, uint64_t number, struct objerr *err);
/* The checkpoint of a snapshot's record for a record `number` that takes its map over; its digests to be freed. */
int must_check vol_take_root(const struct logobj *snapshot, uint64_t number, struct log_checkpoint *ret);

/* ---- volio.c ---- */
/* From a journal's record to pending; under batch, in sequence. */
int must_check vol_take_record_locked(struct volume *v, enum jtype type, uint64_t seq, uint64_t off, uint64_t len,
				      uint64_t where);
int must_check vol_close_batch_locked(struct volume *v);
/* A read may begin: what it finds in the map is not deleted until it ends. -EAGAIN: there is no map. */
int must_check vol_read_begin(struct volume *v, unsigned *ret_gen, uint64_t *ret_remapped);
void vol_read_end(struct volume *v, unsigned gen);
void vol_wait_readers(struct volume *v); /* until all reads that run now are over */

/* ---- volread.c ---- */
/* Pieces of objects that are durable. -ENOENT, -EUCLEAN as log_read(). */
int must_check vol_read_log(struct volume *v, const struct fetch_piece *p, size_t n, struct objerr *err);
/* A read of these sectors is about to happen: fetches what will come next. Waits for nothing. */
void vol_ahead(struct volume *v, uint64_t lba, uint64_t n);

/* ---- volput.c ---- */
void vol_start_uploader(struct volume *v);
void vol_stop_uploader(struct volume *v); /* the tending job as well */
/* Everything that is in the map now gets its number, and is durable. -EIO. */
int must_check vol_drain(struct volume *v);
void vol_on_committed(void *arg);
void vol_on_fenced(void *arg);
void vol_put_begin_locked(struct volume *v, struct vol_put *u, const struct logobj *o); /* o has its number */
/* Makes the bytes and sends them. After a failure u is gone, and the volume is to fail. body may be NULL. */
int must_check vol_put_object(struct volume *v, struct vol_put *u, struct logobj *o, const struct logobj_body *body);

/* What an object says until it is encoded. */
struct vol_sealing;
uint32_t vol_first_sector(void *arg, size_t nextents); /* arg: vol_sealing; for map_seal() and map_move() */

int64_t vol_age(const struct volume *v); /* of a batch, at most */

/* ---- volckpt.c ---- */
/* What a header borrows until it is encoded. */
struct vol_ckpt {
	struct log_digest digest;
	struct log_checkpoint ck;
};
struct vol_sealing {
	struct logobj o;
	struct vol_ckpt ckpt;
};
bool vol_checkpoint_due_locked(const struct volume *v);
/* Digest and checkpoint into the header o of `number`: the map of everything below it. Freezes, if a tree is wanted. */
int must_check vol_checkpoint_locked(struct volume *v, struct vol_ckpt *c, struct logobj *o, uint64_t number);
void vol_ckpt_done(struct vol_ckpt *c);
int must_check vol_put_checkpoint(struct volume *v); /* one without data; a place in the window was reserved */

/* ---- voltree.c ---- */
bool vol_overlay_full_locked(struct volume *v); /* no more may come before the tree is written */
bool vol_overlay_crowded_locked(struct volume *v);
void vol_want_tree_locked(struct volume *v);    /* if it is time */
void vol_start_tending_locked(struct volume *v);

/* ---- volclean.c ---- */
/* Waits until the cleaner, deletes, marks and the tree that were asked for are done; batch held. -EIO. */
int must_check vol_settle_locked(struct volume *v) REQUIRES(v->batch);
void vol_want_clean_locked(struct volume *v); /* starts the cleaner if there is enough for it */
bool vol_clean_holds_locked(const struct volume *v); /* uploads have had their share */
bool vol_idle_clean_locked(struct volume *v); /* nobody writes: it starts if there is anything to gain */

/*
 * Up to about max bytes that the map takes to ancestors' objects become the image's own, from *io_lba on. -EIO: it ended, or
 * failed.
 */
int must_check vol_move_ancestors(struct volume *v, uint64_t max, uint64_t *io_lba, uint64_t *ret_moved,
				  struct objerr *err);

/* ---- volretain.c ---- */
uint64_t vol_retains(const struct volume *v); /* seconds; 0: only what the protocol needs */
/* What an object with a checkpoint says of it; batch held, or alone. */
void vol_see_floor(struct volume *v, const struct logobj *o);
void vol_begin_retaining(struct volume *v); /* an owner, after its walk */
void vol_end_retaining(struct volume *v);   /* frees; may be done again */
/* What the checkpoint o is to say. */
void vol_say_floor_locked(struct volume *v, struct logobj *o);
int must_check vol_note_mark_locked(struct volume *v); /* the newest point's is answered */
int64_t vol_age_due_locked(const struct volume *v); /* INT64_MAX: never */
void vol_age_locked(struct volume *v);
/* The tending job: what the next checkpoint may say. */
int must_check vol_raise_floor(struct volume *v, struct objerr *err);
/* ... what its deletes leave: ret NULL: nothing. */
int must_check vol_kept_point(struct volume *v, const struct vol_point *p, const struct vol_point **ret, struct objerr *err);
bool vol_keeps(const struct vol_point *kept, const struct page_object *o);
/* Dead, and kept by what is retained alone; more checkpoints change nothing. */
bool vol_waits_for_age_locked(const struct volume *v, const struct page_object *o);
/* No position before `number` is wanted any more, and the log says so. -EIO. */
int must_check vol_give_up_positions(struct volume *v, uint64_t number);

/* ---- voldel.c ---- */
/* Bytes that only wait for newer marks; and of those that wait for a new tree. */
bool vol_dead_locked(struct volume *v, uint64_t *ret_pinned);
void vol_point_free(struct vol_point *p);
int must_check vol_point_of(struct vol_point *p, uint64_t number, const struct log_checkpoint *c);
void vol_mark_answered_locked(struct volume *v);
int must_check vol_note_strays(struct volume *v); /* the table of the newest tree is known */
int must_check vol_delete_dead(struct volume *v);
bool vol_goes_by(const struct volume *v, uint64_t mark, const struct page_object *o);
int64_t vol_idle_due_locked(const struct volume *v); /* INT64_MAX: never */
void vol_idle_locked(struct volume *v);

#endif
