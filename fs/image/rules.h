/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * rules.h - the rules of PROTOCOL.md, each behind a switch that only a test build has.
 *
 * `if (RULE(T4_LOOK) && ...)`: without LSVD_RULE_SWITCHES that is `true` to the compiler and nothing is left of it. The
 * test tests/unit-imgrules switches them off one by one and expects that the simulated world breaks.
 * The names are those of PROTOCOL.md and of tests/model/; E_ and S_ are steps of the engine that the model has no switch for.
 */
#ifndef LSVD_IMAGE_RULES_H
#define LSVD_IMAGE_RULES_H

#include <stdbool.h>
#include <stdint.h>

enum image_rule {
	T1_VOID,      /* a claim's next is N + W */
	T2_ANCHOR,    /* the window is anchored at the lowest number not known durable */
	T3_COMMITTED, /* committed: everything below is durable too */
	T4_LOOK,      /* owner only if the mark is still the newest after the claim */
	T5_LOOK,      /* nothing is concluded before the second look */
	T5_NEWER,     /* the look asks for no newer mark, not whether mine exists */
	T6_CLAIM,     /* a new claim at each start */
	T6_BYTES,     /* after 412 only exactly my bytes are durable; shows with T6_CLAIM off as well */
	T7_INTENT,    /* the nonce is durable in the journal before the claim */
	T8_NONCE,     /* the journal replays only after a claim of its own */
	T9_MARKS,     /* marks are keys, not a pointer that is overwritten */
	T11_MARK,     /* the mark goes out once its checkpoint is committed */
	T12_BEFORE,   /* delete by the mark before the newest */
	T13_ONE,      /* one checkpoint at a time, until its mark was answered; shows with A_ADOPT off as well */
	T14_CLAIMS,   /* claims stay */
	T15_BELOW,    /* delete only below p */
	T15_MAP,      /* ... by p's map, not by the present one */
	T16_DEATHS,   /* what is dead in front of a rollback died with it at the earliest */
	T16_SNAPS,    /* what a snapshot of p's state refers to stays */
	T18_ROOT,     /* ... and the objects of the digests that its root names, discards among them */
	T19_PAGES,    /* a page of a newer tree counts as referred to */
	P_OWN,        /* p is a mark attached from, or put by this owner; shows with A_ADOPT off as well */
	A_ADOPT,      /* a walk takes over the tree of a checkpoint that it passes */
	B1_NEXT,      /* a burst's claims have next = N + 2W - 1 */
	B2_NEAR,      /* a burst stays below N + W */
	B3_LOOK,      /* after a burst: walk, and look */
	E_UNKNOWN,    /* any other answer than 200 and 412 means nothing: the same again */
	E_OURS,       /* 412 by our own nonce and bytes is durable */
	E_FENCED,     /* 412 by another one: fenced, nothing more is acknowledged */
	E_TAKEN,      /* a claim that is answered 412 by another one is none */
	E_JUMP,       /* a claim jumps to its next */
	E_RELEASE,    /* everything committed, then the release */
	E_FIRST,      /* the first I/O through a writable handle claims, reads as well */
	E_BACK,       /* a bucket that has gone back in time is refused */
	E_GONE,       /* a view that meets a missing object is made anew */
	C_NOW,        /* a cleaner moves what the map points to when its object gets its number */
	C_LIST,       /* ... and lists no more than that; shows with C_REPLAY off as well */
	C_REPLAY,     /* a cleaner's entry applies only where the map still points to where it came from */
	C_JOURNAL,    /* a cleaner's object says no more of the journal than the objects before it hold */
	S_EACH,       /* what any snapshot refers to stays, not only what the newest does */
	S_AFTER,      /* a snapshot's number comes after those of all that was acknowledged */
	R_KEEP,       /* deletes leave what a position from the floor on needs */
	R_SAID,       /* the floor is in the log before deletes go by it */
	S_LIST,       /* a rollback's record has the present list of snapshots, not that of then */
	C1_REF,       /* a cloner looks for gone after its ref is there */
	C2_GONE,      /* gone is there: no clone */
	C3_ORDER,     /* the refs are listed again after gone is there */
	C3_LIST,      /* the refs are listed again */
	C3_FREE,      /* only the free record lets objects go, not the one before that hides the name */
	C5_DEAD,      /* a deleted image leaves a key that every open and every cloner asks for */
	C6_REFS,      /* who deletes an image lists the refs again after that key is there */
	D1_CLAIMS,    /* deleting an image leaves all its claims, not only the last */
	D2_BELOW,     /* ... and takes nothing at or beyond the own next */
	D3_CLAIM,     /* who claims looks whether the image was deleted once the claim is there */
	IMAGE_RULES
};

#ifdef LSVD_RULE_SWITCHES
extern uint64_t image_rules_off;
#define RULE(r) ((image_rules_off >> (r)&1) == 0)
#else
#define RULE(r) true
#endif

#endif
