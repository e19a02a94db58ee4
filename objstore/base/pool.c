/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * pool.c - worker threads over one first-in-first-out queue.
 *
 * A thread is added when a job comes and nobody is idle to take it, up to the limit; a thread that cannot be made is no
 * error, since one exists from the start. Workers block all signals: those belong to the main thread.
 * pool_free() lets the workers empty the queue (also of jobs that running jobs still add) and joins them.
 */
#include "config.h"
#include "pool.h"
#include "lock.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NICE = 5 };

struct pool {
	struct mtx lock;   /* RANK_POOL */
	struct cond work;  /* a job was queued or stopping was set: signalled by submit and free */
	unsigned max;	   /* set at the start */
	char name[16];	   /* set at the start */
	bool nice;	   /* set at the start */
	pthread_t *thread; /* under lock until stopping */
	/* under lock */
	struct job *head, **tail;
	unsigned nthreads, idle, queued, running;
	bool stopping;
};

static void *worker(void *arg)
{
	struct pool *p = arg;

	if (p->nice) /* Linux: of this thread alone; from the daemon's own value on */
		ignore(setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, (id_t)gettid()) + NICE));
	mtx_lock(&p->lock);
	for (;;) {
		struct job *j = p->head;

		if (j == NULL) {
			if (p->stopping)
				break;
			p->idle++;
			cond_wait(&p->work, &p->lock);
			p->idle--;
			continue;
		}
		p->head = j->next;
		if (p->head == NULL)
			p->tail = &p->head;
		p->queued--;
		p->running++;
		mtx_unlock(&p->lock);
		j->fn(j);
		mtx_lock(&p->lock);
		p->running--;
	}
	mtx_unlock(&p->lock);
	return NULL;
}

static int start_thread_locked(struct pool *p)
{
	sigset_t all, old;
	pthread_t t;
	int r;

	sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t, NULL, worker, p);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	(void)pthread_setname_np(t, p->name);
	p->thread[p->nthreads++] = t;
	return 0;
}

static void destroy(struct pool *p)
{
	cond_destroy(&p->work);
	mtx_destroy(&p->lock);
	free(p->thread);
	free(p);
}

static int new_pool(const char *name, unsigned max_threads, bool nice, struct pool **ret)
{
	struct pool *p = calloc(1, sizeof(*p));
	int r;

	if (p == NULL)
		return -ENOMEM;
	p->max = MAX(max_threads, 1u);
	p->tail = &p->head;
	p->nice = nice;
	(void)snprintf(p->name, sizeof(p->name), "%s", name);
	mtx_init(&p->lock, RANK_POOL);
	cond_init(&p->work);
	p->thread = calloc(p->max, sizeof(*p->thread));
	if (p->thread == NULL) {
		r = -ENOMEM;
	} else {
		mtx_lock(&p->lock);
		r = start_thread_locked(p);
		mtx_unlock(&p->lock);
	}
	if (r < 0) {
		destroy(p);
		return r;
	}
	*ret = p;
	return 0;
}

int pool_new(const char *name, unsigned max_threads, struct pool **ret)
{
	return new_pool(name, max_threads, false, ret);
}

int pool_new_nice(const char *name, unsigned max_threads, struct pool **ret)
{
	return new_pool(name, max_threads, true, ret);
}

void pool_submit(struct pool *p, struct job *job)
{
	job->next = NULL;
	mtx_lock(&p->lock);
	*p->tail = job;
	p->tail = &job->next;
	p->queued++;
	/* idle counts sleepers that may already have been woken for an earlier job, hence compared with queued. */
	if (p->idle < p->queued && p->nthreads < p->max && !p->stopping)
		(void)start_thread_locked(p); /* the threads there are will do */
	cond_signal(&p->work);
	mtx_unlock(&p->lock);
}

void pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	mtx_lock(&p->lock);
	p->stopping = true;
	cond_broadcast(&p->work);
	mtx_unlock(&p->lock);
	for (unsigned i = 0; i < p->nthreads; i++)
		if (pthread_join(p->thread[i], NULL) != 0)
			abort();
	assert(p->head == NULL);
	destroy(p);
}

unsigned pool_busy(struct pool *p)
{
	unsigned n;

	mtx_lock(&p->lock);
	n = p->running + p->queued;
	mtx_unlock(&p->lock);
	return n;
}
