/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sim.h - a deterministic world for the real code: threads, locks, pools and clocks replaced, one seed, virtual time.
 *
 * sim.c defines every symbol of objstore/base/{lock,pool,clock}.c, so that a program that links it before libbase.a
 * runs the product's own code on coroutines of one operating system thread. Where a thread could be interrupted
 * (lock, unlock, wait, store call, journal call) the scheduler may go on with another one; which one says the seed.
 * Time moves only when nobody can run.
 *
 * A *node* is a number; coroutines and events belong to one and inherit it. A crash ends all of a node's coroutines
 * where they are; a frozen node's do not run until it is thawed. Node 0 is the world itself (the scenario, the
 * store): it never crashes. Memory of a crashed node is lost to the process: run a scenario in a child.
 */
#ifndef LSVD_SIM_H
#define LSVD_SIM_H

#include "objstore/base/base.h"

enum { SIM_NODES = 8 };

void sim_begin(uint64_t seed);
uint32_t sim_rand(void);
uint64_t sim_below(uint64_t n);           /* 0 .. n-1 */
bool sim_chance(unsigned n, unsigned of); /* n in `of` */
uint64_t sim_seed(void);
/* When not ok, says what is wrong and in which seed, and ends the process. */
void sim_check(bool ok, const char *fmt, ...) printf_like(2, 3);

/*
 * main() of a simulated test: [SEED [COUNT]], else `count` seeds from 1 on, each in a child of its own. Says which seed
 * fails; returns the exit status.
 */
/* One seed, in a child. */
bool sim_try(uint64_t seed, void (*scenario)(void *arg));
int sim_main(int argc, char **argv, uint64_t count, void (*scenario)(void *arg));
/*
 * Runs fn(arg) as node 0 and whatever it starts, until it returns. false: nobody can run and no event is left (all
 * printed).
 */
bool sim_run(void (*fn)(void *arg), void *arg);
void sim_spawn(int node, const char *name, void (*fn)(void *arg), void *arg);
void sim_yield(void);                /* another one may run now */
void sim_preempt(unsigned permille); /* how often lock and unlock are interrupted; 0: never */
/* No interruption between these: the world's own steps. May nest. */
void sim_atomic_begin(void);
void sim_atomic_end(void);

/*
 * fn(arg) runs after delay_ns as an event: it must not wait. Dropped when its node crashes, put off while it is
 * frozen.
 */
void sim_after(int node, int64_t delay_ns, void (*fn)(void *arg), void *arg);
int sim_node(void);       /* of the caller */
void sim_crash(int node); /* does not return to a caller that belongs to it */
void sim_freeze(int node, bool frozen);
unsigned sim_incarnation(int node); /* crashes so far */
void sim_dump(void);                /* who waits where, to stderr */

/*
 * A step at which a node may die (a store call, a disk call). Counted over the run; dies when the count is the one
 * that sim_die_at() chose. what: a literal.
 */
void sim_step(const char *what);
void sim_die_at(uint64_t step); /* 0: nowhere */
uint64_t sim_steps(void);
const char *sim_died_at(void); /* the step of the last such death; "" none */

#endif
