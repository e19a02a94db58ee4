/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sim.c - coroutines, locks, pools and clocks of the simulated world (sim.h).
 *
 * One coroutine runs at a time and only gives way inside a call of this file: what lies between two calls is atomic,
 * as it is for the product's locks. A mutex is "held" while the first word of its pthread_mutex_t, which is never used
 * as one here, is not 0.
 */
#include "config.h"
#include "sim.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include "objstore/base/pool.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
/* A daemon that dies in a simulated crash leaves its memory, as it should. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define FIBER_START(save, base, size) __sanitizer_start_switch_fiber(save, base, size)
#define FIBER_FINISH(save) __sanitizer_finish_switch_fiber(save, NULL, NULL)
#else
#define FIBER_START(save, base, size) ((void)(base), (void)(size))
#define FIBER_FINISH(save) ((void)(save))
#endif

#define STACK (256 * KiB)
#define START_NS (1000 * NSEC_PER_SEC)
#define REAL_NS (1800000000 * NSEC_PER_SEC) /* the wall clock at START_NS */

struct coro {
	struct coro *next, **prev;
	ucontext_t ctx;
	char *stack;
	void *fake_stack; /* ASan's */
	int node;
	char name[24];
	void (*fn)(void *arg);
	void *arg;
	bool dead;
	const struct mtx *on_mtx; /* waits for it */
	const struct cond *on_cond;
	bool signalled;
	int64_t wake_ns; /* of a wait with deadline, a sleep; INT64_MAX: none */
};

struct event {
	struct event *next;
	int64_t when;
	int node;
	unsigned incarnation;
	void (*fn)(void *arg);
	void *arg;
};

static struct {
	uint64_t seed, state;
	int64_t now;
	ucontext_t loop;
	void *loop_fake;
	const void *loop_base;
	size_t loop_size;
	struct coro *all, *cur, *main;
	char *spare[64];
	unsigned nspare;
	struct event *events; /* sorted by time */
	unsigned preempt, atomic;
	bool frozen[SIM_NODES];
	unsigned crashes[SIM_NODES];
	int event_node; /* of the event that runs */
	uint64_t steps, die_at;
	const char *died_at;
} W;

/* splitmix64 (Steele, Lea, Flood 2014): one word of state, any seed is good. */
static uint64_t next64(void)
{
	uint64_t z = (W.state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint32_t sim_rand(void)
{
	return (uint32_t)(next64() >> 32);
}
uint64_t sim_below(uint64_t n)
{
	return n == 0 ? 0 : next64() % n;
}
bool sim_chance(unsigned n, unsigned of)
{
	return sim_below(of) < n;
}
uint64_t sim_seed(void)
{
	return W.seed;
}
uint64_t sim_steps(void)
{
	return W.steps;
}
const char *sim_died_at(void)
{
	return W.died_at != NULL ? W.died_at : "";
}
void sim_die_at(uint64_t step)
{
	W.die_at = step;
}
unsigned sim_incarnation(int node)
{
	return W.crashes[node];
}
void sim_preempt(unsigned permille)
{
	W.preempt = permille;
}
void sim_atomic_begin(void)
{
	W.atomic++;
}
void sim_atomic_end(void)
{
	W.atomic--;
}
int sim_node(void)
{
	return W.cur != NULL ? W.cur->node : W.event_node;
}

/* ---- coroutines ---- */

static void to_loop(struct coro *c)
{
	FIBER_START(c->dead ? NULL : &c->fake_stack, W.loop_base, W.loop_size);
	(void)swapcontext(&c->ctx, &W.loop);
	FIBER_FINISH(c->fake_stack);
}

static void trampoline(void)
{
	struct coro *c = W.cur;

#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(NULL, &W.loop_base, &W.loop_size);
#endif
	c->fn(c->arg);
	c->dead = true;
	to_loop(c);
}

static char *stack_get(void)
{
	char *p;

	if (W.nspare > 0)
		return W.spare[--W.nspare];
	p = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || mprotect(p, 4096, PROT_NONE) < 0) /* the guard */
		abort();
	return p;
}

static void coro_free(struct coro *c)
{
	*c->prev = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	if (W.nspare < ARRAY_SIZE(W.spare))
		W.spare[W.nspare++] = c->stack;
	else
		(void)munmap(c->stack, STACK);
	free(c);
}

static struct coro *coro_new(int node, const char *name, void (*fn)(void *arg), void *arg)
{
	struct coro *c = calloc(1, sizeof(*c));

	if (c == NULL)
		abort();
	c->node = node;
	(void)snprintf(c->name, sizeof(c->name), "%s", name);
	c->fn = fn;
	c->arg = arg;
	c->wake_ns = INT64_MAX;
	c->stack = stack_get();
	(void)getcontext(&c->ctx);
	c->ctx.uc_stack.ss_sp = c->stack + 4096;
	c->ctx.uc_stack.ss_size = STACK - 4096;
	c->ctx.uc_link = NULL;
	makecontext(&c->ctx, trampoline, 0);
	c->next = W.all;
	c->prev = &W.all;
	if (W.all != NULL)
		W.all->prev = &c->next;
	W.all = c;
	return c;
}

void sim_spawn(int node, const char *name, void (*fn)(void *arg), void *arg)
{
	(void)coro_new(node, name, fn, arg);
}

static bool runnable(const struct coro *c)
{
	if (c->dead || W.frozen[c->node])
		return false;
	if (c->on_mtx != NULL)
		return *(const int *)&c->on_mtx->m == 0;
	return (c->on_cond == NULL && c->wake_ns == INT64_MAX) || c->signalled || c->wake_ns <= W.now;
}

static void resume(struct coro *c)
{
	c->on_mtx = NULL;
	W.cur = c;
	FIBER_START(&W.loop_fake, c->stack + 4096, STACK - 4096);
	(void)swapcontext(&W.loop, &c->ctx);
	FIBER_FINISH(W.loop_fake);
	W.cur = NULL;
}

/* Gives way; the caller said what it waits for. */
static void block(void)
{
	struct coro *c = W.cur;

	if (c == NULL || W.atomic > 0) {
		(void)fprintf(stderr, "sim: a wait inside an event or an atomic step\n");
		abort();
	}
	to_loop(c);
}

void sim_yield(void)
{
	if (W.cur != NULL && W.atomic == 0)
		block();
}

static void maybe_yield(void)
{
	if (W.preempt > 0 && W.cur != NULL && W.atomic == 0 && sim_below(1000) < W.preempt)
		block();
}

/* ---- the loop ---- */

void sim_begin(uint64_t seed)
{
	memset(&W, 0, sizeof(W));
	W.seed = W.state = seed;
	W.now = START_NS;
}

static bool event_ready(const struct event *e)
{
	return e->when <= W.now && !(e->node != 0 && W.frozen[e->node]);
}

/* Runs one event that is due, if any. */
static bool run_event(void)
{
	for (struct event **p = &W.events; *p != NULL && (*p)->when <= W.now; p = &(*p)->next) {
		struct event *e = *p;

		if (!event_ready(e))
			continue;
		*p = e->next;
		W.event_node = e->node;
		if (e->incarnation == W.crashes[e->node])
			e->fn(e->arg);
		W.event_node = 0;
		free(e);
		return true;
	}
	return false;
}

static bool events_due(void)
{
	for (const struct event *e = W.events; e != NULL && e->when <= W.now; e = e->next)
		if (event_ready(e))
			return true;
	return false;
}

/* To the next moment at which somebody can go on; false: there is none. */
static bool advance(void)
{
	int64_t next = INT64_MAX;

	for (const struct coro *c = W.all; c != NULL; c = c->next)
		if (!c->dead && !W.frozen[c->node] && c->on_mtx == NULL && c->wake_ns > W.now)
			next = MIN(next, c->wake_ns);
	for (const struct event *e = W.events; e != NULL; e = e->next)
		if (e->when > W.now && !(e->node != 0 && W.frozen[e->node])) {
			next = MIN(next, e->when);
			break;
		}
	if (next == INT64_MAX)
		return false;
	W.now = next;
	return true;
}

static void reap(void)
{
	for (struct coro *c = W.all, *n; c != NULL; c = n) {
		n = c->next;
		if (c->dead)
			coro_free(c);
	}
}

bool sim_run(void (*fn)(void *arg), void *arg)
{
	bool done = false;

	W.main = coro_new(0, "main", fn, arg);
	while (!done) {
		struct coro *pick = NULL;
		unsigned n = 0;

		for (struct coro *c = W.all; c != NULL; c = c->next)
			if (runnable(c) && sim_below(++n) == 0)
				pick = c;
		if (events_due() && sim_below(n + 1) == 0) {
			(void)run_event();
		} else if (pick != NULL) {
			resume(pick);
			done = W.main->dead;
			reap();
		} else if (!events_due() && !advance()) {
			(void)fprintf(stderr, "sim: stuck (seed %" PRIu64 ")\n", W.seed);
			sim_dump();
			return false;
		}
	}
	return true;
}

void sim_check(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return;
	va_start(ap, fmt);
	(void)fprintf(stderr, "seed %" PRIu64 ": ", sim_seed());
	(void)vfprintf(stderr, fmt, ap);
	(void)fputc('\n', stderr);
	va_end(ap);
	_exit(1);
}

bool sim_try(uint64_t seed, void (*scenario)(void *arg))
{
	pid_t pid = fork();
	int st;

	if (pid == 0) {
		sim_begin(seed);
		_exit(sim_run(scenario, NULL) ? 0 : 2);
	}
	return pid > 0 && waitpid(pid, &st, 0) == pid && st == 0;
}

int sim_main(int argc, char **argv, uint64_t count, void (*scenario)(void *arg))
{
	uint64_t from = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

	if (argc > 1)
		count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	for (uint64_t seed = from; seed < from + count; seed++) {
		if (!sim_try(seed, scenario)) {
			(void)printf("not ok: seed %" PRIu64 " (run %s %" PRIu64 ")\n", seed, argv[0], seed);
			return 1;
		}
	}
	(void)printf("%" PRIu64 " seeds: clean\n", count);
	return 0;
}

void sim_dump(void)
{
	for (const struct coro *c = W.all; c != NULL; c = c->next)
		(void)fprintf(stderr, "sim: node %d%s %s: %s\n", c->node, W.frozen[c->node] ? " (frozen)" : "", c->name,
			      c->on_mtx != NULL         ? "waits for a lock"
			      : c->on_cond != NULL      ? "waits"
			      : c->wake_ns != INT64_MAX ? "sleeps"
							: "runs");
}

void sim_after(int node, int64_t delay_ns, void (*fn)(void *arg), void *arg)
{
	struct event *e = calloc(1, sizeof(*e)), **p = &W.events;

	if (e == NULL)
		abort();
	*e = (struct event){
	    .when = W.now + MAX(delay_ns, 0), .node = node, .incarnation = W.crashes[node], .fn = fn, .arg = arg};
	while (*p != NULL && (*p)->when <= e->when)
		p = &(*p)->next;
	e->next = *p;
	*p = e;
}

void sim_crash(int node)
{
	assert(node > 0 && node < SIM_NODES);
	W.crashes[node]++;
	W.frozen[node] = false;
	for (struct coro *c = W.all; c != NULL; c = c->next)
		if (c->node == node)
			c->dead = true;
	if (W.cur != NULL && W.cur->node == node) {
		W.atomic = 0;
		to_loop(W.cur);
		abort(); /* the dead do not come back */
	}
}

void sim_freeze(int node, bool frozen)
{
	W.frozen[node] = frozen;
}

void sim_step(const char *what)
{
	W.steps++;
	if (W.steps == W.die_at && sim_node() != 0) {
		W.died_at = what;
		sim_crash(sim_node());
	}
	sim_yield();
}

/* ---- objstore/base/lock.h ---- */

void mtx_init(struct mtx *m, enum lock_rank rank)
{
	memset(m, 0, sizeof(*m));
	m->rank = rank;
}

void mtx_destroy(struct mtx *m)
{
	assert(*(int *)&m->m == 0);
}

void mtx_lock(struct mtx *m)
{
	maybe_yield();
	while (*(int *)&m->m != 0) {
		if (W.cur != NULL)
			W.cur->on_mtx = m;
		block();
	}
	*(int *)&m->m = 1;
}

void mtx_unlock(struct mtx *m)
{
	assert(*(int *)&m->m == 1);
	*(int *)&m->m = 0;
	maybe_yield();
}

void lock_check_free(const char *where)
{
	(void)where;
}
void cond_init(struct cond *c)
{
	memset(c, 0, sizeof(*c));
}
void cond_destroy(struct cond *c)
{
	(void)c;
}

int cond_wait_until(struct cond *c, struct mtx *m, int64_t deadline_ns)
{
	struct coro *me = W.cur;
	bool late;

	assert(me != NULL && *(int *)&m->m == 1);
	*(int *)&m->m = 0;
	me->on_cond = c;
	me->signalled = false;
	me->wake_ns = deadline_ns;
	block();
	late = !me->signalled;
	me->on_cond = NULL;
	me->wake_ns = INT64_MAX;
	while (*(int *)&m->m != 0) {
		me->on_mtx = m;
		block();
	}
	*(int *)&m->m = 1;
	return late ? -ETIMEDOUT : 0;
}

void cond_wait(struct cond *c, struct mtx *m)
{
	ignore(cond_wait_until(c, m, INT64_MAX)); /* woken, whatever for */
}

void cond_broadcast(struct cond *c)
{
	for (struct coro *w = W.all; w != NULL; w = w->next)
		if (!w->dead && w->on_cond == c)
			w->signalled = true;
}

void cond_signal(struct cond *c)
{
	struct coro *pick = NULL;
	unsigned n = 0;

	for (struct coro *w = W.all; w != NULL; w = w->next)
		if (!w->dead && w->on_cond == c && !w->signalled && sim_below(++n) == 0)
			pick = w;
	if (pick != NULL)
		pick->signalled = true;
}

/* ---- objstore/base/clock.h ---- */

int64_t clock_now_ns(void)
{
	return W.now;
}
int64_t clock_real_ns(void)
{
	return W.now - START_NS + REAL_NS;
}

struct timespec clock_real_ts(void)
{
	int64_t ns = clock_real_ns();

	return (struct timespec){.tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC};
}

void clock_sleep_ns(int64_t ns)
{
	struct coro *me = W.cur;

	if (ns <= 0 || me == NULL)
		return;
	me->wake_ns = W.now + ns;
	me->signalled = false;
	block();
	me->wake_ns = INT64_MAX;
}

int64_t clock_backoff_ns(unsigned attempt, int64_t base_ns, int64_t max_ns, uint32_t rnd)
{
	int64_t ns = base_ns;

	(void)rnd;
	while (attempt-- > 1 && ns < max_ns)
		ns *= 2;
	return 1 + (int64_t)sim_below((uint64_t)MIN(ns, max_ns));
}

void clock_replace(int64_t (*fn)(void *arg), void *arg)
{
	(void)fn;
	(void)arg;
}

bool clock_is_replaced(void);
bool clock_is_replaced(void)
{
	return true;
}

/* ---- objstore/base/pool.h: a coroutine a job ---- */

struct pool {
	char name[16];
	unsigned busy;
	struct mtx lock;
	struct cond idle;
};

struct pool_run {
	struct pool *pool;
	struct job *job;
};

static void pool_main(void *arg)
{
	struct pool_run r = *(struct pool_run *)arg;

	free(arg);
	r.job->fn(r.job);
	mtx_lock(&r.pool->lock);
	if (--r.pool->busy == 0)
		cond_broadcast(&r.pool->idle);
	mtx_unlock(&r.pool->lock);
}

int pool_new(const char *name, unsigned max_threads, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));

	(void)max_threads;
	if (p == NULL)
		return -ENOMEM;
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	mtx_init(&p->lock, RANK_POOL);
	cond_init(&p->idle);
	*ret = p;
	return 0;
}

void pool_submit(struct pool *p, struct job *job)
{
	struct pool_run *r = malloc(sizeof(*r));

	if (r == NULL)
		abort();
	*r = (struct pool_run){p, job};
	p->busy++;
	sim_spawn(sim_node(), p->name, pool_main, r);
}

void pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	mtx_lock(&p->lock);
	while (p->busy > 0)
		cond_wait(&p->idle, &p->lock);
	mtx_unlock(&p->lock);
	free(p);
}

unsigned pool_busy(struct pool *p)
{
	return p->busy;
}
