/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgrules.c - the engine without one of its rules (fs/image/rules.h) breaks in the simulated world.
 *
 *	unit-imgrules [-f FIRST] [-n SEEDS] [-w WORLD] [-d] [NAME...]
 *						IMGRULES_SEEDS, SEED: -n, -f (tests/soak); WORLD, dense: as unit-imgsim
 *
 * Each rule is switched off alone and seeds are run, from FIRST (the rule's own) on, until one finds a violation; after
 * SEEDS of them (else the rule's own bound, several times what is needed) the simulator is too weak, or the rule does
 * nothing: that fails. Without arguments only the rules that are found soon (a bound of QUICK at most), since `make
 * check` has no time for the others. With all rules on the same scenario is unit-imgsim; of the duels (sim/imgduel.h) the
 * last lines of the table are that.
 */
#include "config.h"
#include "fs/image/rules.h"
#include "sim/imgduel.h"
#include "sim/imgscene.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS = 1000, QUICK = 300 };
#define OFF(r) (UINT64_C(1) << (r))
/* ... that only snapshots and clones can */
#define SNAPPERS \
	(OFF(T16_DEATHS) | OFF(T16_SNAPS) | OFF(T18_ROOT) | OFF(S_EACH) | OFF(S_AFTER) | OFF(S_LIST) | OFF(C1_REF) | \
	 OFF(C2_GONE) | OFF(C3_ORDER) | OFF(C3_LIST) | OFF(C3_FREE) | OFF(C5_DEAD) | OFF(C6_REFS) | OFF(D1_CLAIMS) | \
	 OFF(D2_BELOW) | OFF(R_KEEP) | OFF(R_SAID))
#define KEEPERS (OFF(R_KEEP) | OFF(R_SAID))
#define CLEANERS (OFF(C_NOW) | OFF(C_LIST) | OFF(C_JOURNAL)) /* rules that only a cleaner can break */

uint64_t image_rules_off;
static enum imgscene_world world;
static bool dense;

static const struct rule {
	const char *name;
	uint64_t off;
	unsigned first,
	    seeds; /* where a search begins, and how many are enough; 0: none is known to do; NAME searches */
	const char *text;
	enum imgscene_world world;
	enum imgduel duel; /* in which it is looked for; none: in imgscene() */
} rules[] = {
    {"T1", OFF(T1_VOID), 10006, 300, "a claim's next is N + W", WORLD_ANY, DUEL_NONE},
    {"T2", OFF(T2_ANCHOR), 10005, 300, "the window is anchored at the lowest number not known durable", WORLD_ANY, DUEL_NONE},
    {"T3", OFF(T3_COMMITTED), 10010, 300, "committed: everything below is durable too", WORLD_ANY, DUEL_NONE},
    {"T4", OFF(T4_LOOK), 10199, 300, "owner only if the mark is still the newest after the claim", WORLD_ANY, DUEL_NONE},
    {"T5", OFF(T5_LOOK), 10002, 300, "nothing is concluded before the second look", WORLD_ANY, DUEL_NONE},
    {"T5b", OFF(T5_NEWER), 10035, 300, "the look asks for no newer mark, not whether mine exists", WORLD_ANY, DUEL_NONE},
    {"T6", OFF(T6_CLAIM), 10240, 300, "a new claim at each start", WORLD_ANY, DUEL_NONE},
    {"T6b", OFF(T6_CLAIM) | OFF(T6_BYTES), 10162, 1000, "... and after 412 only exactly my bytes are durable", WORLD_ANY, DUEL_NONE},
    {"T7", OFF(T7_INTENT), 10240, 300, "the nonce is durable in the journal before the claim", WORLD_ANY, DUEL_NONE},
    {"T8", OFF(T8_NONCE), 10006, 300, "the journal replays only after a claim of its own", WORLD_ANY, DUEL_NONE},
    {"T9", OFF(T9_MARKS), 10003, 300, "marks are keys, not a pointer that is overwritten", WORLD_ANY, DUEL_NONE},
    {"T11", OFF(T11_MARK), 10001, 300, "the mark goes out once its checkpoint is committed", WORLD_ANY, DUEL_NONE},
    {"T12", OFF(T12_BEFORE), 10045, 300, "delete by the mark before the newest", WORLD_ANY, DUEL_NONE},
    /* Why nothing can be found without T13 or A alone: PROTOCOL.md 4. */
    {"T13", OFF(T13_ONE), 1, 0, "one checkpoint at a time, until its mark was answered", WORLD_HELD, DUEL_NONE},
    {"T13A", OFF(T13_ONE) | OFF(A_ADOPT), 145, 300, "... and a walk takes over the tree of a checkpoint that it passes", WORLD_HELD, DUEL_NONE},
    {"T14", OFF(T14_CLAIMS), 60, 300, "claims stay", WORLD_ANY, DUEL_NONE},
    {"T15", OFF(T15_BELOW) | OFF(T15_MAP), 10000, 300, "delete only below p, by p's map", WORLD_ANY, DUEL_NONE},
    {"T15b", OFF(T15_MAP), 10396, 1000, "delete by p's map, not by the present one", WORLD_ANY, DUEL_NONE},
    {"T16", OFF(T16_DEATHS), 115, 300, "what is dead in front of a rollback died with it at the earliest", WORLD_ANY, DUEL_NONE},
    {"T16b", OFF(T16_SNAPS), 1, 300, "what a snapshot refers to stays", WORLD_ANY, DUEL_NONE},
    {"T18", OFF(T18_ROOT), 1, 300, "... and the objects of its root's digests", WORLD_ANY, DUEL_NONE},
    {"T19", OFF(T19_PAGES), 10002, 300, "a page of a newer tree counts as referred to", WORLD_TREES, DUEL_NONE},
    {"P", OFF(P_OWN), 1, 300, "p is a mark attached from, or put by this owner", WORLD_ANY, DUEL_FENCED},
    {"A", OFF(A_ADOPT), 1, 0, "a walk takes over the tree of a checkpoint that it passes", WORLD_HELD, DUEL_NONE},
    {"PA", OFF(P_OWN) | OFF(A_ADOPT), 10090, 1000, "P and A", WORLD_MARKS, DUEL_NONE},
    {"B1", OFF(B1_NEXT), 10075, 1000, "a burst's claims have next = N + 2W - 1", WORLD_ANY, DUEL_NONE},
    {"B2", OFF(B2_NEAR), 11219, 1500, "a burst stays below N + W", WORLD_ANY, DUEL_NONE},
    {"B3", OFF(B3_LOOK), 10075, 300, "after a burst: walk, and look", WORLD_ANY, DUEL_NONE},
    {"unknown", OFF(E_UNKNOWN), 10001, 300, "an answer other than 200 and 412 means nothing", WORLD_ANY, DUEL_NONE},
    {"ours", OFF(E_OURS), 10001, 300, "412 by our own bytes is durable, and no fence", WORLD_ANY, DUEL_NONE},
    {"fenced", OFF(E_FENCED), 10001, 300, "412 by another one is a fence", WORLD_ANY, DUEL_NONE},
    {"taken", OFF(E_TAKEN), 10001, 300, "a claim that is answered 412 by another one is none", WORLD_ANY, DUEL_NONE},
    {"jump", OFF(E_JUMP), 10006, 300, "a claim jumps to its next", WORLD_ANY, DUEL_NONE},
    {"release", OFF(E_RELEASE), 10000, 300, "everything committed, then the release", WORLD_ANY, DUEL_NONE},
    {"first", OFF(E_FIRST), 10000, 300, "the first I/O through a writable handle claims, reads as well", WORLD_ANY, DUEL_NONE},
    {"back", OFF(E_BACK), 10002, 300, "a bucket that has gone back in time is refused", WORLD_ANY, DUEL_NONE},
    {"gone", OFF(E_GONE), 10007, 300, "a view that meets a missing object is made anew", WORLD_ANY, DUEL_NONE},
    {"moved", OFF(C_NOW), 10002, 300, "a cleaner moves what the map points to when its object gets its number", WORLD_ANY, DUEL_NONE},
    {"listed", OFF(C_LIST) | OFF(C_REPLAY), 10003, 300, "... lists no more than that, and replay checks each entry", WORLD_ANY, DUEL_NONE},
    {"each", OFF(S_EACH), 1, 300, "what any snapshot refers to stays, not only what the newest does", WORLD_ANY, DUEL_NONE},
    {"after", OFF(S_AFTER), 1, 300, "a snapshot's number comes after those of all that was acknowledged", WORLD_ANY, DUEL_NONE},
    {"list", OFF(S_LIST), 1, 300, "a rollback's record has the present list of snapshots", WORLD_ANY, DUEL_NONE},
    /* Clones, and the end of an image: what needs several coincidences at once is looked for in duels. */
    {"C1", OFF(C1_REF), 1, 300, "a cloner looks for gone after its ref is there", WORLD_ANY, DUEL_UNSNAP},
    {"C2", OFF(C2_GONE), 1, 300, "gone is there: no clone", WORLD_ANY, DUEL_UNSNAP},
    {"C3", OFF(C3_ORDER), 1, 300, "the refs are listed again after gone is there", WORLD_ANY, DUEL_UNSNAP},
    {"C3b", OFF(C3_LIST), 1, 300, "the refs are listed again", WORLD_ANY, DUEL_UNSNAP},
    {"C3c", OFF(C3_FREE), 1, 300, "only the free record lets objects go", WORLD_ANY, DUEL_UNSNAP},
    {"C5", OFF(C5_DEAD), 1, 300, "a deleted image leaves a key that every open asks for", WORLD_ANY, DUEL_REBORN},
    {"C5b", OFF(C5_DEAD), 1, 300, "... and every cloner", WORLD_ANY, DUEL_REMOVE},
    {"C6", OFF(C6_REFS), 1, 300, "... and who deletes it lists the refs again then", WORLD_ANY, DUEL_REMOVE},
    {"D1", OFF(D1_CLAIMS), 1, 300, "deleting an image leaves all its claims", WORLD_ANY, DUEL_ERASE},
    {"D2", OFF(D2_BELOW), 200, 300, "... and takes nothing at or beyond the own next", WORLD_ANY, DUEL_ERASE},
    {"D3", OFF(D3_CLAIM), 410, 300, "who claims looks whether the image was deleted", WORLD_ANY, DUEL_ERASE},
    {"keep", OFF(R_KEEP), 1, 300, "deletes leave what a position from the floor on needs", WORLD_ANY, DUEL_NONE},
    {"said", OFF(R_SAID), 1, 0, "the floor is in the log before deletes go by it", WORLD_ANY, DUEL_NONE},
    {"jseq", OFF(C_JOURNAL), 10003, 300, "a cleaner's object says no more of the journal than is in the log", WORLD_ANY, DUEL_NONE},
    /* The same duels with all rules on: nothing is found. */
    {"clone1", 0, 1, 40, "all rules on: a snapshot is deleted and cloned", WORLD_ANY, DUEL_UNSNAP},
    {"clone2", 0, 1, 40, "all rules on: an image is deleted and cloned", WORLD_ANY, DUEL_REMOVE},
    {"again", 0, 1, 20, "all rules on: a deleted image comes again", WORLD_ANY, DUEL_REBORN},
    {"erase", 0, 1, 40, "all rules on: an image is deleted under its writers", WORLD_ANY, DUEL_ERASE},
    {"late", 0, 1, 20, "all rules on: an owner that was overtaken deletes", WORLD_ANY, DUEL_FENCED},
};

/* The first line of what the child says, without its "seed N: ". */
static void first_line(int fd, char *out, size_t n)
{
	size_t have = 0;
	char buf[4096], *p;
	ssize_t r;

	while ((r = read(fd, buf + have, sizeof(buf) - 1 - have)) > 0)
		have += (size_t)r;
	buf[have] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	p = strncmp(buf, "seed ", 5) == 0 ? strchr(buf, ':') : NULL;
	(void)snprintf(out, n, "%.100s", p != NULL ? p + 2 : buf);
}

/* Whether this seed finds something. A scenario that goes round in circles finds nothing. */
static bool breaks(const struct rule *r, uint64_t seed, char *why, size_t n)
{
	uint64_t off = r->off;
	int fd[2], st = 0;
	pid_t pid;

	if (pipe(fd) < 0)
		abort();
	pid = fork();
	if (pid == 0) {
		(void)close(fd[0]);
		if (!imgtrace_on)
			(void)dup2(fd[1], 2);
		(void)alarm(20);
		image_rules_off = off;
		imgscene_world = world != WORLD_ANY ? world : r->world;
		imgscene_dense = dense;
		imgscene_retain = (off & KEEPERS) != 0 ? RETAIN_ON : RETAIN_OFF;
		imgscene_snaps = (off & SNAPPERS) != 0 ? SNAPS_ON : SNAPS_OFF;
		imgscene_cleaner = (off & CLEANERS) != 0    ? CLEANER_ON
				   : (off & SNAPPERS) != 0 ? CLEANER_SOME
							   : CLEANER_OFF;
		imgduel_kind = r->duel;
		sim_begin(seed);
		_exit(sim_run(r->duel != DUEL_NONE ? imgduel : imgscene, NULL) ? 0 : 2);
	}
	(void)close(fd[1]);
	first_line(fd[0], why, n);
	(void)close(fd[0]);
	if (pid < 0 || waitpid(pid, &st, 0) != pid)
		abort();
	return st != 0 && !(WIFSIGNALED(st) && WTERMSIG(st) == SIGALRM);
}

static bool found(const struct rule *r, uint64_t first, uint64_t count)
{
	char why[128];

	first = first != 0 ? first : r->first;
	count = count != 0 ? count : r->seeds != 0 ? r->seeds : SEEDS;
	for (uint64_t seed = first; seed < first + count; seed++)
		if (breaks(r, seed, why, sizeof(why))) {
			(void)printf("%s %-8s %s: seed %" PRIu64 ": %s\n", r->off != 0 ? "ok" : "not ok", r->name, r->text, seed, why);
			return r->off != 0;
		}
	(void)printf("%s %-8s %s: %" PRIu64 " seeds from %" PRIu64 " on find nothing\n", r->off == 0 ? "ok" : "not ok", r->name,
		     r->text, count, first);
	return r->off == 0;
}

static bool chosen(const char *name, char **names)
{
	if (*names == NULL)
		return true;
	for (; *names != NULL; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	const char *seeds = getenv("IMGRULES_SEEDS"), *seed = getenv("SEED");
	uint64_t first = 0, count = seeds != NULL ? strtoull(seeds, NULL, 10) : 0;
	unsigned bad = 0;
	int c;

	if (seeds != NULL && seed != NULL) /* SEED alone is meant for other tests */
		first = strtoull(seed, NULL, 10);
	while ((c = getopt(argc, argv, "f:n:w:d")) >= 0) {
		if (c == 'w')
			world = (enum imgscene_world)atoi(optarg);
		else if (c == 'd')
			dense = true;
		else if (c == 'f')
			first = strtoull(optarg, NULL, 10);
		else if (c == 'n')
			count = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	imgscene_setup();
	imgduel_setup();
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (argv[optind] != NULL ? chosen(rules[i].name, argv + optind)
					 : rules[i].seeds != 0 && (count != 0 || rules[i].seeds <= QUICK))
			bad += !found(&rules[i], first, count);
	imgduel_print();
	return bad != 0;
}
