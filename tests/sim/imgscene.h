/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgscene.h - an image, its clones, three nodes, and everything that can happen to them, as a seed says.
 *
 * imgscene.c is the world: daemons that open an image, guests that write and read it, and the blows. imgoracle.c
 * knows what every guest did and says whether what somebody reads may be. imgsnaps.c has snapshots, ways back, clones
 * and their end: what guests do of that, and what must be there.
 *
 * The oracle. A *session* is one tenure of a writer, from its first read to its end; its *line* is the sequence of all
 * operations that its image is made of: what it found, then its own. Sessions are ordered by the claims in the log.
 * What a session finds must be the line of the session before up to some operation, and at least up to what was
 * promised: everything acknowledged if that one's daemon was killed and its journal is there, everything flushed if the
 * power failed, everything that a flush of a remote image or a close covered in any case. So no byte of a writer that
 * was overtaken can show up later, and nothing that was promised can be missing. Operations of one *group* run at the
 * same time and touch different bytes: any of them may be missing where the line was cut within the group.
 *
 * A snapshot is a cut of the line of the session that made it, at or behind what was acknowledged when the command
 * began; what it is, is known at once if nobody wrote meanwhile, else from the first that reads it on. A way back is an
 * operation of the line. A clone is an image of its own whose first state is the snapshot's.
 */
#ifndef LSVD_IMGSCENE_H
#define LSVD_IMGSCENE_H

#include "fs/image/volume-private.h"
#include "sim.h"

enum { UNIT = 64, SECTORS_MAX = 224, UNITS_A_SECTOR = SECTOR / UNIT, UNITS = SECTORS_MAX * UNITS_A_SECTOR };

/* An image: a stamp for each 64 bytes, 0 where it reads as zeros. */
struct state {
	uint32_t unit[UNITS], size; /* in units */
};

struct op {
	enum { OP_WRITE, OP_ZERO, OP_DISCARD, OP_RESIZE, OP_BACK } kind;
	uint32_t first, n; /* units; OP_RESIZE: n is the new size */
	uint32_t stamp, group;
	bool acked;
	const struct state *to; /* OP_BACK */
};

struct session {
	struct session *next; /* reported before it */
	struct image *img;
	const struct session *parent;
	int node;
	uint64_t claim, epoch;
	struct op *op; /* the line */
	uint32_t n, cap;
	uint32_t base;                   /* how much of it was found */
	uint32_t acked, flushed, remote; /* up to there everything is ... */
	uint32_t local;                  /* what its node's disk promises now */
	bool local_all;                  /* and all that was acknowledged behind it */
	bool closing;
	const struct volume *v; /* while it is open, and after its death */
	uint64_t *seq;          /* journal sequence after so many operations; 0: within a group */
	uint32_t nseq;
	uint32_t group;
	struct state now; /* after the line */
	uint32_t doomed;  /* 1 + n when the image's last claim was there */
};

enum { IMAGES = 12, IMAGE_NODES = 3 };

/* The image, a clone, a clone of that. */
struct image {
	uint8_t uuid[16];
	char prefix[64]; /* of its log */
	enum { IMG_NONE, IMG_MAYBE, IMG_THERE, IMG_DOOMED, IMG_DEAD } is;
	struct simdisk *disk[IMAGE_NODES + 1];
	struct jdisk jd[IMAGE_NODES + 1];
	/* imgoracle.c */
	struct claim *claim;
	size_t nclaims;
	uint64_t newest_data;     /* number */
	struct session *sessions; /* the newest report first */
	struct session root;      /* as it was made */
	/* imgsnaps.c */
	struct snap *snap; /* the newest first */
	struct place *place;
	struct snap *mother;
	struct vol_remains remains; /* once it is doomed */
};
extern struct image images[IMAGES];
#define MAIN_IMAGE (&images[0])

/* What came out of a run of seeds, summed up over the children. */
struct imgscene_stats {
	uint64_t sessions, groups, flushes, reads, follower_reads, peer_reads;
	uint64_t at_store, at_disk, killed, power, wiped,
	    copied; /* crashes: at which step, or at any moment; what followed */
	uint64_t frozen, takeovers, releases, handovers, fenced, busy, bursts, marks, deletes, moves;
	uint64_t survived; /* first deaths that were none: the scenario had ended before that step */
	uint64_t late, lost_412, down, denied, full, failed_syncs, gone_back;
	uint64_t snaps, unsnaps, backs, clones, ends, snap_reads, refused;
	uint64_t places, place_backs, place_reads;
};
extern struct imgscene_stats *imgstats; /* shared memory, set by imgscene_setup() */
void imgscene_setup(void);
uint64_t imgscene_crash_points(void); /* calls of store or journal at which a daemon died */
void imgscene_print(void);

/* The scenario, for sim_main(). */
void imgscene(void *arg);
/* The step at which the first daemon dies: then the rest of the scenario; 0: as the seed says. */
extern uint64_t imgscene_first_death;
/* Whether the daemons clean: by the seed, the even ones; always; never. */
extern enum imgscene_cleaner { CLEANER_SOME, CLEANER_ON, CLEANER_OFF } imgscene_cleaner;

/* Whether there are snapshots, ways back and clones: by the seed, half of them; always; never. */
extern enum imgscene_snaps { SNAPS_SOME, SNAPS_ON, SNAPS_OFF } imgscene_snaps;

/* Whether daemons keep the image's past for a while: by the seed, a quarter of those with snapshots; always; never. */
extern enum imgscene_retain { RETAIN_SOME, RETAIN_ON, RETAIN_OFF } imgscene_retain;

/*
 * What the world is bent to, by the seed or always: trees of many objects that data and marks overtake; owners that
 * stop before they list, and whose writes get lost; marks that take long, and owners that die meanwhile. Never by the
 * seed: an owner's marks stay away, or it sleeps before it looks at marks, until another one has the image.
 */
extern enum imgscene_world {
	WORLD_ANY,
	WORLD_TREES,
	WORLD_LISTS,
	WORLD_MARKS,
	IMGSCENE_WORLDS,
	WORLD_HELD = IMGSCENE_WORLDS
} imgscene_world;
/* Somebody dies at a step every few moments, for a long time: many crash points for the time it takes. */
extern bool imgscene_dense;

/* ---- imgoracle.c ---- */
void imgtrace(const char *fmt, ...) printf_like(1, 2);
extern bool imgtrace_on;

/* on_claim: a claim of that node is there. */
void oracle_begin(void (*on_claim)(int node));
/* What it is at first. */
void oracle_image(struct image *img, const struct state *first);
void state_apply(struct state *s, const struct op *o);
bool state_decode(const uint8_t *p, size_t n, struct state *ret); /* false: torn within a unit */
struct op *session_add(struct session *s);
/* All operations of the group have returned. */
void session_group_done(struct session *s);

/* What the store sees: claims. */
void oracle_spy(int node, const struct objreq *req, int status, bool late);
bool oracle_superseded(const struct image *img, uint64_t epoch); /* somebody claimed after that */
bool oracle_claimed(const struct image *img, int node, uint64_t claim);
/* The newest session that reported and is in the log up to that claim; never NULL. */
struct session *oracle_session(struct image *img, uint64_t claim);
struct session *oracle_newest(struct image *img);

/* A writer owns the image and has read all of it. released: it only takes what was released. */
struct session *oracle_report(struct image *img, int node, uint64_t claim, uint64_t epoch, const struct state *got,
			      bool released, bool copied);
/*
 * Somebody read a view of the log; floor, from: what oracle_floor() said before the image was opened; before: how far
 * the last view was. Returns how far.
 */
uint32_t oracle_view(struct image *img, uint64_t claim, const struct state *got, const struct session *from,
		     uint32_t floor, uint32_t before);
const struct session *oracle_floor(struct image *img, uint32_t *ret);
/* What was read is the line of s, cut between lo and hi. */
void oracle_cut(const struct session *s, const struct state *got, uint32_t lo, uint32_t hi, const char *who);
/* A flush of a remote image, or a close, succeeded: everything up to `upto` is in the bucket for ever. */
void oracle_remote(struct session *s, uint32_t upto, const char *what);
void oracle_power_cut(int node);
void oracle_wiped(int node);
/* The image is being deleted: nothing that earlier owners begin from here on is ever acknowledged as remote. */
void oracle_doomed(struct image *img, uint64_t epoch);
/* imgmarks.c: reads all from each of the two newest marks; of the newest view the snapshots as well. */
void oracle_marks(struct image *img, struct objstore *shared);
/* Whether a unit may read so: between operation lo and the present of that line. */
bool oracle_plausible(const struct session *s, uint32_t lo, uint32_t unit, uint32_t stamp);

/* ---- imgsnaps.c ---- */
/*
 * The next place of `images`: a log of its own, directories of its own on all nodes. Nobody knows yet whether there
 * will be one.
 */
void image_make(struct image *img, const struct state *first);
bool image_birth(const struct objreq *req); /* a clone's create record */
/* It comes again, perhaps when the clone was deleted: how much later, or 0. */
int64_t image_born_again(const struct objreq *req);
struct snap {
	struct snap *next;
	struct image *img;
	char name[16];
	const struct session *by;
	uint32_t lo, hi; /* a cut of its line between them */
	bool known;      /* c is it */
	struct state c;
	enum { SNAP_MAYBE, SNAP_THERE, SNAP_LEAVING, SNAP_GONE } is, was; /* was: snaps_remember() */
	uint64_t epoch;
	bool referred, deleted; /* somebody began to clone, to delete it */
};
/* A position of the log that is kept for a while, and what the image was there. */
struct place {
	struct place *next;
	uint64_t number, epoch; /* of who knows that it is in the log */
	int64_t until;
	struct state c;
};
bool place_kept(const struct place *p);
void place_is(const struct place *p, const struct state *got, const char *who);
void snaps_remember(struct image *img);
bool snap_needed(const struct snap *k); /* by a clone that is there */
/* In a list that was asked for after snaps_remember(). */
void snap_seen(struct snap *k, bool visible, const char *who);
void snap_is(struct snap *k, const struct state *got, const char *who);

#endif
