/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * search.c - breadth-first search (search.h).
 *
 * States are numbered in the order in which they are found. Of each one only its fingerprint (in the set), the number
 * of the state it came from and the step remain; the states of the level at work and of the next one are kept whole. A
 * history is printed by taking those steps again from the first state.
 */
#include "search.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct level {
	unsigned char *states;
	size_t count, room;
};

struct search {
	const struct model *m;
	uint64_t *set; /* fingerprints, open addressing; 0 = free */
	uint64_t mask;
	uint32_t *from; /* per state: the state before */
	uint16_t *step; /* per state: the step that led to it */
	size_t room;
	struct level now, next;
	uint32_t at;	/* number of the state being expanded */
	uint64_t limit;
	struct result res;
	int error;
	unsigned last;	/* the step that broke a promise */
	bool by_step;
	/* while a history is printed: the step wanted, the state it gives */
	bool replay;
	unsigned wanted;
	unsigned char *got, *canon;
};

const char *broken_name(enum broken b)
{
	static const char *const name[B_COUNT] = {
		[B_NONE] = "nothing broken",
		[B_FORK] = "two writers in one log",
		[B_ATTACH] = "an attach fails or shows another image",
		[B_HOLE] = "the map has a hole",
		[B_SNAPSHOT] = "a snapshot is damaged",
		[B_ROOT] = "the owner's root is gone",
		[B_LOST] = "acknowledged, but not in the log",
		[B_OWNER] = "an owner without a claim in the log",
		[B_STALE] = "an old state concluded as the present",
		[B_SET_ASIDE] = "an uncontested journal set aside",
		[B_REPLAY] = "a journal replayed over another's writes",
		[B_CLONE] = "a clone without its objects",
	};

	return name[b];
}

/* Two lanes of multiply and fold; every bit of the state reaches every bit of the fingerprint. */
static uint64_t fingerprint(const unsigned char *p, size_t n)
{
	uint64_t a = 0x9e3779b97f4a7c15, b = 0xd6e8feb86659fd93, w;

	for (; n; p += 8, n -= n < 8 ? n : 8) {
		w = 0;
		memcpy(&w, p, n < 8 ? n : 8);
		a = (a ^ w) * 0xff51afd7ed558ccd;
		a ^= a >> 32;
		b = (b + w) * 0xc4ceb9fe1a85ec53;
		b ^= b >> 29;
	}
	a ^= b * 0x9fb21c651e98df25;
	a ^= a >> 31;
	a *= 0xe9846af9b1a615d;
	a ^= a >> 28;
	return a ? a : 1;
}

static int grow_set(struct search *s)
{
	uint64_t n = s->mask ? (s->mask + 1) * 2 : 1 << 16, i, j;
	uint64_t *set = calloc(n, sizeof(*set));

	if (!set)
		return -ENOMEM;
	for (i = 0; s->set && i <= s->mask; i++) {
		if (!s->set[i])
			continue;
		for (j = s->set[i] & (n - 1); set[j]; j = (j + 1) & (n - 1))
			;
		set[j] = s->set[i];
	}
	free(s->set);
	s->set = set;
	s->mask = n - 1;
	return 0;
}

/* True if it was not in the set. */
static bool add(struct search *s, uint64_t fp)
{
	uint64_t j;

	for (j = fp & s->mask; s->set[j]; j = (j + 1) & s->mask)
		if (s->set[j] == fp)
			return false;
	s->set[j] = fp;
	return true;
}

static int remember(struct search *s, unsigned step)
{
	void *p;

	if (s->res.states == s->room) {
		s->room = s->room ? s->room * 2 : 1 << 16;
		p = realloc(s->from, s->room * sizeof(*s->from));
		if (!p)
			return -ENOMEM;
		s->from = p;
		p = realloc(s->step, s->room * sizeof(*s->step));
		if (!p)
			return -ENOMEM;
		s->step = p;
	}
	s->from[s->res.states] = s->at;
	s->step[s->res.states] = step;
	s->res.states++;
	return 0;
}

static int enqueue(struct search *s, const void *state)
{
	struct level *l = &s->next;
	void *p;

	if (l->count == l->room) {
		l->room = l->room ? l->room * 2 : 1 << 12;
		p = realloc(l->states, l->room * s->m->size);
		if (!p)
			return -ENOMEM;
		l->states = p;
	}
	memcpy(l->states + l->count++ * s->m->size, state, s->m->size);
	return 0;
}

void search_step(struct search *s, const void *state, unsigned step, enum broken broken)
{
	enum broken b;
	uint64_t fp;

	if (s->replay) {
		if (step == s->wanted)
			memcpy(s->got, state, s->m->size);
		return;
	}
	if (s->error || s->res.broken || s->res.full)
		return;
	s->res.steps++;
	if (broken) {
		s->res.broken = broken;
		s->by_step = true;
		s->last = step;
		return;
	}
	memcpy(s->canon, state, s->m->size);
	if (s->m->canonical)
		s->m->canonical(s->canon);
	fp = fingerprint(s->canon, s->m->size);
	if (!add(s, fp))
		return;
	b = s->m->oracle(state);
	if (b) {
		s->res.broken = b;
		s->last = step;
		return;
	}
	s->error = remember(s, step);
	if (!s->error)
		s->error = enqueue(s, state);
	if (!s->error && s->res.states * 3 > s->mask * 2)
		s->error = grow_set(s);
	if (s->res.states >= s->limit)
		s->res.full = true;
}

/* The steps from the first state to the one at work, then the last one. */
static int print_history(struct search *s, FILE *f)
{
	uint32_t n, at, depth = 0;
	unsigned *steps;
	unsigned char *state = calloc(1, s->m->size);

	for (at = s->at; at; at = s->from[at])
		depth++;
	steps = calloc(depth + 1, sizeof(*steps));
	if (!steps || !state) {
		free(steps);
		free(state);
		return -ENOMEM;
	}
	steps[depth] = s->last;
	for (at = s->at, n = depth; at; at = s->from[at])
		steps[--n] = s->step[at];
	s->replay = true;
	s->m->first(state);
	for (n = 0; n <= depth; n++) {
		s->wanted = steps[n];
		s->m->expand(s, state);
		fprintf(f, "    %2u  ", n + 1);
		s->m->describe(f, state, steps[n], s->got);
		fputc('\n', f);
		memcpy(state, s->got, s->m->size);
	}
	fprintf(f, "    =>  %s\n", broken_name(s->res.broken));
	free(steps);
	free(state);
	return 0;
}

static void explore(struct search *s)
{
	struct level l;
	size_t i;

	while (s->next.count && !s->error && !s->res.broken && !s->res.full) {
		l = s->now;
		s->now = s->next;
		s->next = l;
		s->next.count = 0;
		for (i = 0; i < s->now.count && !s->error && !s->res.broken && !s->res.full; i++) {
			s->m->expand(s, s->now.states + i * s->m->size);
			if (!s->res.broken)
				s->at++;
		}
		s->res.depth++;
	}
}

int search_run(const struct model *m, uint64_t max_states, FILE *trace, struct result *ret_result)
{
	struct search s = { .m = m, .limit = max_states };
	clock_t t0 = clock();
	unsigned char *first = calloc(1, m->size);
	int r = -ENOMEM;

	s.got = calloc(1, m->size);
	s.canon = calloc(1, m->size);
	if (!first || !s.got || !s.canon || grow_set(&s) < 0)
		goto out;
	m->first(first);
	search_step(&s, first, 0, B_NONE);
	explore(&s);
	r = s.error;
	if (!r && s.res.broken && trace)
		r = print_history(&s, trace);
	s.res.seconds = (double) (clock() - t0) / CLOCKS_PER_SEC;
	if (!r)
		*ret_result = s.res;
out:
	free(first);
	free(s.got);
	free(s.canon);
	free(s.set);
	free(s.from);
	free(s.step);
	free(s.now.states);
	free(s.next.states);
	return r;
}
