/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rules.c - the rules and, for each, the bounds under which its absence shows. */
#include "model.h"

struct bounds bounds;
uint64_t rules_off;

static const struct {
	const char *name, *text;
} rules[RULE_COUNT] = {
	[T1_VOID] = { "T1", "a claim's next is N + W" },
	[T2_ANCHOR] = { "T2", "the window is anchored at the lowest number not known durable" },
	[T3_COMMITTED] = { "T3", "acknowledged = all before it durable too" },
	[T4_LOOK] = { "T4", "owner only if the mark is still newest after the claim" },
	[T5_LOOK] = { "T5", "nothing is concluded before the second look" },
	[T5_NEWER] = { "T5b", "the look asks for no newer mark, not whether mine exists" },
	[T6_CLAIM] = { "T6", "a new claim at each start" },
	[T6_BYTES] = { "T6b", "after 412 only my exact bytes are durable" },
	[T7_INTENT] = { "T7", "the nonce is durable in the journal before the claim" },
	[T8_NONCE] = { "T8", "the journal replays only after a claim of its own" },
	[T9_MARKS] = { "T9", "marks are keys, not a pointer that is overwritten" },
	[T11_MARK] = { "T11", "the mark goes out once the checkpoint is committed" },
	[T12_BEFORE] = { "T12", "delete by the mark before the newest" },
	[T13_ONE] = { "T13", "one checkpoint at a time, until its mark is answered" },
	[T14_CLAIMS] = { "T14", "claims stay" },
	[T15_BELOW] = { "T15", "delete only below p, by p's map" },
	[T15_MAP] = { "T15b", "delete by p's map, not by the present one" },
	[T16_DEATHS] = { "T16", "a rollback clears the deaths of what it revives" },
	[T16_LINES] = { "T16c", "what is dead in front of a rollback died with it at the earliest" },
	[R_EACH] = { "each", "what any snapshot refers to stays, not only what the newest does" },
	[R_LIST] = { "list", "a rollback leaves the list of snapshots as it is" },
	[T16_SNAPS] = { "T16b", "what a snapshot refers to stays" },
	[T17_POSITION] = { "T17", "rollback to a position from the newest checkpoint on" },
	[T18_ROOT] = { "T18", "a snapshot's root needs no data object's header" },
	[T19_PAGES] = { "T19", "a page of a newer tree counts as referred to" },
	[R_OWN_P] = { "P", "p is a mark attached from or put by this owner" },
	[R_BURST_NEXT] = { "B1", "a burst's claims have next = N + 2W - 1" },
	[R_BURST_NEAR] = { "B2", "a burst stays below N + W" },
	[R_BURST_LOOK] = { "B3", "after a burst, the walk ends with a look" },
	[R_ADOPT] = { "A", "a walk takes over the tree of a checkpoint that it passes" },
	[R_ALL_CLAIMS] = { "D1", "deleting an image leaves all its claims, not only the last" },
	[R_BELOW_CLAIM] = { "D2", "deleting an image takes nothing beyond its own claim" },
	[C1_REF] = { "C1", "a cloner looks for gone after its ref is there" },
	[C2_GONE] = { "C2", "gone is there: no clone" },
	[C3_ORDER] = { "C3", "the refs are listed again after gone is there" },
	[C3_LIST] = { "C3b", "the refs are listed again" },
	[C4_TOMB] = { "C4", "a leaked ref goes after a tombstone at the clone's first number" },
	[C5_DEAD] = { "C5", "a deleted clone leaves a permanent key that says so" },
};

const char *rule_name(enum rule r)
{
	return rules[r].name;
}

const char *rule_text(enum rule r)
{
	return rules[r].text;
}
