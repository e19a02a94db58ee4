/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * model.h - the log of an image as a state machine: who writes what, what the store holds, what is still under way.
 *
 * The protocol in one paragraph. An image is a log of numbered objects, each created with If-None-Match:*. A writer
 * becomes owner by creating a *claim* at the log's end, which leaves the next W - 1 numbers void, since up to W objects
 * of the writer before may be under way. Checkpoints hold the map of all before them; a *mark* says that a checkpoint
 * is committed; the owner deletes by the mark before its newest. A request that was sent may take effect at any later
 * time, more than once, also after its sender died. So an absent key proves nothing about the past, and every attach
 * looks again at the marks before it concludes anything.
 *
 * Not modelled: release records (policy only), follower handles (a follower is a walk that pauses; every walk that ends
 * is also judged as a read-only attach), sizes, the cleaner's moves (they are data), damage.
 *
 * How the state is kept small without leaving anything out:
 *  - Requests are never removed. A PUT, once sent, stays "under way" for ever, so late, repeated and after-death
 *    arrival are one and the same step (LAND, DELETED, MARK). obj[i][k] = what incarnation i has sent for number k.
 *  - Deletes and marks are sent as soon as the rules allow: sending later equals arriving later.
 *  - An answer is its own step, possible whenever the request has taken effect. A 412 and the GET that follows it are
 *    one step: the GET alone decides.
 *  - A crash while walking is no step: the walk has told nobody anything, and not having begun it is the same.
 *  - Marks below the two newest are forgotten: every LIST asks for two, and the two newest are never deleted.
 *  - Nodes are alike, but for what they do; states that differ in their names only are one (canonical()).
 */
#pragma once
#include "search.h"
#include <string.h>

#define K_MAX 13   /* numbers of a log: 1 is the create record */
#define INC_MAX 4  /* writer incarnations, each with its nonce: the creator and three claims */
#define NODE_MAX 3
#define SNAP_MAX 3

#define BIT(k) ((uint16_t) (1u << (k)))

/* --- rules: each can be switched off, and then some promise breaks (rules.c) ------------------------------------ */

enum rule {
	T1_VOID,	/* 3.4 a claim's next is N + W */
	T2_ANCHOR,	/* 3.1 under way only [low, low + W), low the lowest not known durable */
	T3_COMMITTED,	/* 3.1 nothing is acknowledged above low */
	T4_LOOK,	/* 3.4 after the claim: owner only if the mark has not moved */
	T5_LOOK,	/* 3.3 before any conclusion: the mark has not moved */
	T5_NEWER,	/* ... and that means no newer mark, not that mine still exists */
	T6_CLAIM,	/* 3.5 a new claim at each start */
	T6_BYTES,	/* 3.1 durable after 412 only if nonce *and* bytes are mine */
	T7_INTENT,	/* 3.4 the nonce is durable in the journal before the claim is sent */
	T8_NONCE,	/* 3.5 the journal replays only if the newest claim is one of its own */
	T9_MARKS,	/* 2   marks are keys that order themselves, not one pointer that the last PUT wins */
	T11_MARK,	/* 3.6 the mark goes out once its checkpoint is committed */
	T12_BEFORE,	/* 3.7 delete by the mark before the newest */
	T13_ONE,	/* 3.6 the next checkpoint gets its number after the mark was answered */
	T14_CLAIMS,	/* 3.7 claims stay */
	T15_BELOW,	/* 3.7 only below p, and by p's map */
	T15_MAP,	/* 3.7 ... by p's map, not by the present one */
	T16_DEATHS,	/* 3.9 a rollback clears the deaths of what it revives */
	T16_LINES,	/* 3.9 a death is true of one line of the log: in front of a rollback it becomes the rollback's */
	T16_SNAPS,	/* 3.7 what a snapshot of p's state refers to stays */
	R_EACH,		/* 3.7 ... what any of them does, not only the newest */
	R_LIST,		/* 3.9 a rollback leaves the list of snapshots as it is, not as it was then */
	T17_POSITION,	/* 3.9 rollback to a position: from the newest checkpoint in the log on */
	T18_ROOT,	/* 3.9 a snapshot's root needs no data object's header */
	T19_PAGES,	/* 3.7 a page of a tree newer than p's counts as referred to */
	R_OWN_P,	/* 3.7 p is a mark that this owner attached from or put, not what a LIST says */
	R_BURST_NEXT,	/* 3.4 a burst's claims have next = N + 2W - 1 */
	R_BURST_NEAR,	/* 3.4 a burst never goes beyond N + W - 1 */
	R_BURST_LOOK,	/* 3.4 after a burst: walk *and* look before the lowest own claim counts */
	R_ADOPT,	/* 3.2 a walk takes over the tree of a checkpoint that it passes */
	R_ALL_CLAIMS,	/* 3.12 deleting an image leaves all its claims, not only the last */
	R_BELOW_CLAIM,	/* 3.12 ... and takes nothing beyond its own claim's void */
	C1_REF,		/* 3.10 the ref is there before the cloner looks for gone */
	C2_GONE,	/* 3.10 gone is there: no clone */
	C3_ORDER,	/* 3.10 gone is there before the refs are listed again */
	C3_LIST,	/* 3.10 the refs are listed again */
	C4_TOMB,	/* 3.10 a leaked ref goes after a tombstone took the clone's first number */
	C5_DEAD,	/* 3.12 a deleted clone leaves a permanent key that says so */
	RULE_COUNT,
};

/* What one run may do: every bound of the search. */
struct bounds {
	const char *name;
	uint8_t nodes, incs, numbers, window;
	uint8_t data, ckpts; /* at most so many records in a run */
	uint8_t snaps, rolls, discards, pages;
	uint8_t frees; /* of snapshots; 0: any number */
	bool sync;    /* PUTs of records are answered at once (they may still arrive again later) */
	bool at_once; /* an attach and its claim are one step (their steps are explored under other bounds) */
	bool journal; /* local writes, a journal kept or lost over a crash */
	bool deaths;  /* liveness by birth and death, as snapshots need it */
	bool burst;   /* claims are sent to W numbers at once */
	bool destroy; /* an owner may delete the image */
};

extern struct bounds bounds;
extern uint64_t rules_off;

static inline bool rule(enum rule r)
{
	return !(rules_off >> r & 1);
}

/* --- what an image is at some number of its log (image.c) -------------------------------------------------------- */

/* One block is enough: an object that no longer holds it is dead. */
struct image {
	uint16_t claims;	    /* numbers of the claims and of the create record */
	uint8_t claim;		    /* incarnation of the newest claim */
	uint8_t map;		    /* number of the object that holds the block; 0 = zeros */
	uint8_t death[K_MAX + 1];   /* when object k lost the block; 0 = alive or never had it (bounds.deaths) */
	uint8_t snap[SNAP_MAX];	    /* snapshots, by number; 0 = none */
	uint8_t snap_map[SNAP_MAX]; /* their roots */
	uint8_t ckpt;		    /* number of the newest checkpoint in the log (bounds.snaps) */
	/* not part of what the image is, but of how it is kept: differs between ways to the same image */
	uint8_t tree;	  /* number of the map page; 0 = none */
	uint8_t tree_new; /* number of the checkpoint that brought that tree */
	uint8_t pad;
};

enum type { NONE, CREATE, DATA, CKPT, ROOT, CLAIM, DISCARD, SNAP, FREE, ROLL, ROLL_POS, PAGE, TYPE_COUNT };

struct record {
	uint8_t type;
	uint8_t arg;	/* claim: next; free, roll: the snapshot; roll_pos: the position */
	uint8_t map;	/* roll, roll_pos: the map to go back to */
	uint8_t pad;
	uint32_t image; /* checkpoint, snapshot: image before it (image_id); roll: that of its snapshot */
};

/* Images and records are interned: equal ones have one small number in all states. */
uint32_t image_id(const struct image *);
const struct image *image_of(uint32_t id);
uint16_t record_id(const struct record *);
const struct record *record_of(uint16_t id);
void image_forget(void);

void image_apply(struct image *, unsigned k, unsigned inc, const struct record *);
bool image_same(const struct image *, const struct image *);
/* Numbers that the image, or a snapshot in it, refers to. */
uint16_t image_refers(const struct image *);

static inline bool is_checkpoint(const struct record *r)
{
	return r->type == CREATE || r->type == CKPT || r->type == ROOT;
}

/* --- state ------------------------------------------------------------------------------------------------------- */

enum phase { DETACHED, WALKING, LOOKING, CLAIMING, LOOKING_AGAIN, OWNER };

struct node {
	uint32_t image;	   /* walking: so far; owner: the assigned one (all numbers given) */
	uint32_t pm_image; /* image of pm */
	uint32_t p_image;  /* image of p (kept only where a switched-off rule needs it) */
	uint16_t durable;  /* owner: own numbers above low that were answered; burst: claims not answered yet */
	uint8_t phase;
	uint8_t inc;	 /* 1 + incarnation, 0 before a claim */
	uint8_t pm;	 /* the mark that it attached from, then its newest own one */
	uint8_t p;	 /* as p_image */
	uint8_t pos;	 /* walking: next to read; claiming: N */
	uint8_t tail0;	 /* ghost: the log's tail when this walk began */
	uint8_t low, nxt; /* owner: lowest not known durable; next to give */
	uint8_t ckpt[2]; /* checkpoints whose marks are not answered; the second only without T13 */
	uint8_t page;	 /* page written for a tree to come */
	uint8_t nonces;	 /* journal: nonces noted in it */
	uint8_t begun;	 /* ghost: incarnations begun with this journal, noted or not */
	uint8_t write;	 /* journal: 0 empty, 1 a write waits, else the number it was packed into */
	uint8_t id;	 /* name in a printed history; not part of the state */
	uint8_t pad[3];
};

struct state {
	uint16_t obj[INC_MAX][K_MAX + 1]; /* PUTs sent: record_id */
	uint16_t del;			  /* DELETEs sent */
	uint16_t mark_put, mark, mark_del; /* mark PUTs sent, marks that exist, mark DELETEs sent */
	struct node node[NODE_MAX];
	uint8_t cur[K_MAX + 1];	  /* what exists: 1 + incarnation; 0 = absent */
	uint8_t first[K_MAX + 1]; /* ghost: what existed first */
	uint8_t nonce[INC_MAX];	  /* of an incarnation: its own number, but without T6 */
	uint8_t who[INC_MAX];	  /* name in a printed history; not part of the state */
	uint8_t incs;		  /* incarnations begun */
	uint8_t pointer;	  /* without T9: the overwritten pointer */
	uint8_t destroyed;	  /* the image was deleted: only "no lie to a writer" still counts */
	uint8_t pad[1];
};

_Static_assert(sizeof(struct image) == 28 && sizeof(struct record) == 8 && sizeof(struct node) == 32, "no padding");
_Static_assert(sizeof(struct state) == 256, "no padding");

extern const struct model log_model, clone_model;

static inline const struct record *record_at(const struct state *s, const uint8_t *holder, unsigned k)
{
	return k <= K_MAX && holder[k] ? record_of(s->obj[holder[k] - 1][k]) : NULL;
}

/* --- steps, by number ------------------------------------------------------------------------------------------- */

enum op {
	LAND, DELETED, MARK, UNMARK, /* the store: something that was sent takes effect */
	LIST, GET, LOOK, ATTACH, ANSWER, MARKED, GIVE, WRITE, DESTROY, CRASH, CRASH_LOST,
};

#define STEP(op, n, b, c) ((unsigned) (op) << 10 | (unsigned) (n) << 8 | (unsigned) (b) << 4 | (unsigned) (c))
#define STEP_OP(s) ((enum op) ((s) >> 10))
#define STEP_NODE(s) ((s) >> 8 & 3)
#define STEP_B(s) ((s) >> 4 & 15)
#define STEP_C(s) ((s) & 15)

void log_describe(FILE *, const void *before, unsigned step, const void *after);

/* --- the log and the oracle (oracle.c) --------------------------------------------------------------------------- */

/* The log = the chain over the first bytes ever at each number, claims followed, to the first number never used. */
struct log {
	struct image image;
	uint16_t on;	    /* numbers in it */
	uint8_t tail;	    /* the first number never used */
	uint8_t claim_at;   /* number of the newest claim */
	uint8_t claim_before; /* incarnation of the claim before that */
	bool fork;
	bool reached;	    /* the walk came to `upto` */
};

/* Up to, not including, number `upto`. */
void log_read(const struct state *, unsigned upto, struct log *);
void marks_newest(const struct state *, uint8_t m[2]);
enum broken log_oracle(const void *state);

/* --- the cases (rules.c) ------------------------------------------------------------------------------------------ */

const char *rule_name(enum rule);
const char *rule_text(enum rule);
