/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * check.c - the log of an image keeps its promises with all rules, and breaks one without any of them.
 *
 * Usage: unit-logmodel [--deep] [NAME...]: all runs, or those whose bounds or rules have such a name.
 *
 * No single set of bounds shows everything in seconds, so there are several, each explored to its end:
 *
 *   core       records, checkpoints, marks, deletes, takeovers, every request by itself   T1 T3-T5 T9 T11-T14
 *   overwrite  the same with two data objects, two incarnations                                T2 T15
 *   claims     the same with four incarnations, hardly any deletes
 *   window     W = 3
 *   nodes      three nodes
 *   journal    local writes, a journal kept or lost at each crash, no deletes                  T6 T7 T8
 *   recover    ... with checkpoints and deletes
 *   burst      claims sent to W numbers at once                                                B1 B2
 *   races      ... by two takers, with deletes                                                 B3
 *   remove     an owner deletes the image while others are frozen                              D1 D2
 *   tree       map pages, trees and digests; an attach is one step                             T19 P
 *   trees      ... two takeovers; a PUT is one step too                                        A
 *   snapshots  snapshots, discards, rollbacks; a PUT and an attach are one step each           T16 T17 T18
 *   snapwindow ... and PUTs in a window
 *   lines      several snapshots; one owner, a PUT is one step                                 each list
 *   again      ... and two rollbacks: an object dies, lives and dies again (wholly only with --deep) T16c
 *   clones     refs, tombstones, sweepers, two clones                                          C1-C5
 *
 * Switched off one by one, each rule must break the promise named in the table; the history is a shortest one. --deep
 * explores larger bounds, as far as some GB of memory reach, for minutes: that is how B3 and A were found.
 */
#include "model.h"
#include <stdlib.h>

#define CORE "core", .nodes = 2, .incs = 3, .window = 2, .numbers = 8, .data = 1, .ckpts = 3
#define LINES .nodes = 1, .incs = 1, .window = 2, .deaths = true, .at_once = true, .sync = true, .data = 2, .ckpts = 2, \
	.snaps = 3, .frees = 1
#define SNAPS .nodes = 2, .incs = 2, .window = 2, .deaths = true, .at_once = true

static const struct bounds all_rules[] = {
	{ CORE },
	{ "overwrite", .nodes = 2, .incs = 2, .window = 2, .numbers = 7, .data = 2, .ckpts = 3 },
	{ "claims", .nodes = 2, .incs = 4, .window = 2, .numbers = 9, .data = 1, .ckpts = 1 },
	{ "window", .nodes = 2, .incs = 2, .window = 3, .numbers = 8, .data = 1, .ckpts = 3 },
	{ "nodes", .nodes = 3, .incs = 3, .window = 2, .numbers = 5, .data = 1, .ckpts = 1 },
	{ "journal", .nodes = 2, .incs = 3, .window = 2, .numbers = 6, .data = 2, .journal = true },
	{ "recover", .nodes = 2, .incs = 2, .window = 2, .numbers = 6, .data = 1, .ckpts = 2, .journal = true },
	{ "burst", .nodes = 2, .incs = 2, .window = 2, .numbers = 8, .data = 2, .ckpts = 2, .burst = true },
	{ "races", .nodes = 2, .incs = 3, .window = 2, .numbers = 7, .ckpts = 3, .burst = true },
	{ "remove", .nodes = 2, .incs = 3, .window = 2, .numbers = 7, .data = 1, .destroy = true },
	{ "tree", .nodes = 2, .incs = 2, .window = 2, .numbers = 10, .ckpts = 4, .pages = 2, .at_once = true },
	{ "trees", .nodes = 2, .incs = 3, .window = 2, .numbers = 12, .ckpts = 5, .pages = 2, .at_once = true, .sync = true },
	{ "snapshots", SNAPS, .numbers = 9, .data = 2, .ckpts = 3, .snaps = 1, .rolls = 1, .discards = 1, .sync = true },
	{ "snapwindow", SNAPS, .numbers = 7, .data = 2, .ckpts = 2, .snaps = 1, .rolls = 1 },
	{ "lines", LINES, .numbers = 9, .rolls = 1 },
	{ .name = "clones" },
};

static const struct bounds deep[] = {
	{ "core", .nodes = 2, .incs = 3, .window = 2, .numbers = 9, .data = 2, .ckpts = 3 },
	{ "claims", .nodes = 2, .incs = 4, .window = 2, .numbers = 9, .data = 1, .ckpts = 3 },
	{ "window", .nodes = 2, .incs = 3, .window = 3, .numbers = 8, .data = 1, .ckpts = 3 },
	{ "nodes", .nodes = 3, .incs = 3, .window = 2, .numbers = 6, .data = 1, .ckpts = 2 },
	{ "recover", .nodes = 2, .incs = 3, .window = 2, .numbers = 6, .data = 1, .ckpts = 2, .journal = true },
	{ "burst", .nodes = 2, .incs = 3, .window = 2, .numbers = 9, .data = 1, .ckpts = 3, .burst = true },
	{ "remove", .nodes = 2, .incs = 3, .window = 2, .numbers = 8, .data = 2, .ckpts = 2, .destroy = true },
	{ "tree", .nodes = 2, .incs = 3, .window = 2, .numbers = 12, .data = 1, .ckpts = 4, .pages = 2, .at_once = true },
	{ "again", LINES, .numbers = 11, .rolls = 2 },
	{ "snapshots", SNAPS, .numbers = 10, .data = 3, .ckpts = 3, .snaps = 2, .rolls = 1, .sync = true },
	{ "snapwindow", SNAPS, .numbers = 9, .data = 2, .ckpts = 3, .snaps = 1, .rolls = 1, .discards = 1 },
};

#define OFF(r) (UINT64_C(1) << (r))

static const struct {
	const char *bounds; /* of all_rules, or of deep */
	uint64_t off;
	enum broken want;
} without[] = {
	{ "core", OFF(T1_VOID), B_FORK },
	{ "overwrite", OFF(T2_ANCHOR), B_FORK },
	{ "core", OFF(T3_COMMITTED), B_LOST },
	{ "core", OFF(T4_LOOK), B_OWNER },
	{ "core", OFF(T5_LOOK), B_STALE },
	{ "core", OFF(T5_NEWER), B_ROOT },
	{ "journal", OFF(T6_CLAIM), B_SET_ASIDE },
	{ "journal", OFF(T6_CLAIM) | OFF(T6_BYTES), B_LOST },
	{ "journal", OFF(T7_INTENT), B_SET_ASIDE },
	{ "journal", OFF(T8_NONCE), B_REPLAY },
	{ "core", OFF(T9_MARKS), B_ATTACH },
	{ "core", OFF(T11_MARK), B_ATTACH },
	{ "core", OFF(T12_BEFORE), B_ATTACH },
	{ "core", OFF(T13_ONE), B_ROOT },
	{ "core", OFF(T14_CLAIMS), B_LOST },
	{ "overwrite", OFF(T15_BELOW), B_ATTACH },
	{ "overwrite", OFF(T15_MAP), B_HOLE },
	{ "snapshots", OFF(T16_DEATHS), B_HOLE },
	{ "snapshots", OFF(T16_SNAPS), B_SNAPSHOT },
	{ "again", OFF(T16_LINES), B_SNAPSHOT },
	{ "lines", OFF(R_EACH), B_SNAPSHOT },
	{ "lines", OFF(R_LIST), B_SNAPSHOT },
	{ "snapshots", OFF(T17_POSITION), B_HOLE },
	{ "snapshots", OFF(T18_ROOT), B_SNAPSHOT },
	{ "tree", OFF(T19_PAGES), B_HOLE },
	{ "burst", OFF(R_BURST_NEXT), B_FORK },
	{ "burst", OFF(R_BURST_NEAR), B_FORK },
	{ "races", OFF(R_BURST_LOOK), B_OWNER },
	{ "trees", OFF(R_ADOPT), B_HOLE },
	{ "tree", OFF(R_ADOPT) | OFF(R_OWN_P), B_HOLE },
	{ "trees", OFF(R_OWN_P), B_ROOT }, /* the late mark of an owner before, used by one that is fenced */
	{ "remove", OFF(R_ALL_CLAIMS), B_LOST },
	{ "remove", OFF(R_BELOW_CLAIM), B_LOST },
	{ "clones", OFF(C1_REF), B_CLONE },
	{ "clones", OFF(C2_GONE), B_CLONE },
	{ "clones", OFF(C3_ORDER), B_CLONE },
	{ "clones", OFF(C3_LIST), B_CLONE },
	{ "clones", OFF(C4_TOMB), B_CLONE },
	{ "clones", OFF(C5_DEAD), B_CLONE },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool chosen(char *const *names, const char *bounds_name, uint64_t off)
{
	unsigned r;

	if (!*names)
		return true;
	for (; *names; names++) {
		if (!off && !strcmp(*names, bounds_name))
			return true;
		for (r = 0; r < RULE_COUNT; r++)
			if ((off >> r & 1) && !strcmp(*names, rule_name(r)))
				return true;
	}
	return false;
}

static const struct bounds *find_bounds(const char *name)
{
	size_t n;

	for (n = 0; n < COUNT(all_rules); n++)
		if (!strcmp(all_rules[n].name, name))
			return &all_rules[n];
	for (n = 0; n < COUNT(deep); n++)
		if (!strcmp(deep[n].name, name))
			return &deep[n];
	abort();
}

/* True if it went as expected. `most` states at most: what does not fit is said, and fails unless it was deep. */
static bool run(const struct bounds *b, uint64_t off, enum broken want, uint64_t most, struct result *ret)
{
	const struct model *m = strcmp(b->name, "clones") ? &log_model : &clone_model;
	int r;

	bounds = *b;
	rules_off = off;
	image_forget();
	r = search_run(m, most, stdout, ret);
	if (r < 0) {
		printf("FAIL: %s: %s\n", b->name, strerror(-r));
		return false;
	}
	return ret->broken == want;
}

static unsigned run_with_all(const struct bounds *list, size_t count, bool is_deep, char *const *names)
{
	struct result res = { 0 };
	unsigned failed = 0;
	size_t n;
	bool ok;

	for (n = 0; n < count; n++) {
		if (!chosen(names, list[n].name, 0))
			continue;
		ok = run(&list[n], 0, B_NONE, is_deep ? 50000000 : 12000000, &res);
		ok = ok && (is_deep || !res.full);
		failed += !ok;
		printf("%s: %s: all rules: %llu states, %llu steps, depth %u, %.1f s: %s%s\n", ok ? "ok" : "FAIL",
		       list[n].name, (unsigned long long) res.states, (unsigned long long) res.steps, res.depth,
		       res.seconds, broken_name(res.broken), res.full ? " (up to the limit of states)" : "");
		fflush(stdout);
	}
	return failed;
}

static unsigned run_without(char *const *names)
{
	struct result res = { 0 };
	unsigned failed = 0, r;
	size_t n;
	bool ok;

	for (n = 0; n < COUNT(without); n++) {
		if (!chosen(names, without[n].bounds, without[n].off))
			continue;
		for (r = 0; r < RULE_COUNT; r++)
			if (without[n].off >> r & 1)
				printf("without %s, %s:\n", rule_name(r), rule_text(r));
		ok = run(find_bounds(without[n].bounds), without[n].off, without[n].want, 12000000, &res);
		failed += !ok;
		printf("%s: %s: %s in %u steps, %llu states, %.1f s\n", ok ? "ok" : "FAIL", without[n].bounds,
		       broken_name(res.broken), res.depth, (unsigned long long) res.states, res.seconds);
		if (!ok)
			printf("    expected: %s\n", broken_name(without[n].want));
		fflush(stdout);
	}
	return failed;
}

/* A rule that no run switches off would be a rule that nothing tests. */
static unsigned run_covered(void)
{
	uint64_t off = 0;
	size_t n;

	for (n = 0; n < COUNT(without); n++)
		off |= without[n].off;
	if (off == OFF(RULE_COUNT) - 1)
		return 0;
	printf("FAIL: a rule has no run without it: %llx\n", (unsigned long long) off);
	return 1;
}

int main(int argc, char **argv)
{
	bool is_deep = argc > 1 && !strcmp(argv[1], "--deep");
	char *const *names = argv + (argc > 0) + is_deep;
	unsigned failed;

	if (is_deep) {
		failed = run_with_all(deep, COUNT(deep), true, names);
	} else {
		failed = run_covered();
		failed += run_without(names);
		failed += run_with_all(all_rules, COUNT(all_rules), false, names);
	}
	image_forget();
	printf(failed ? "%u runs did not go as expected\n" : "all runs as expected\n", failed);
	return failed ? 1 : 0;
}
