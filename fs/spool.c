/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spool.c - the directory of spool files, and the queue that uploads what async_close acknowledged.
 *
 * Files: <id>.journal and <id>.data, ids in hexadecimal; a journal is made before its data and removed after it.
 * parked/ below holds what a person has to decide about. Ids come from the clock in microseconds, so that files of two
 * spools rarely collide when one adopts the other; one id is one file, live or parked.
 *
 * The queue's thread only waits and hands out; the uploads run in a pool. A file is in one place (enum acked_place);
 * its owner may free it meanwhile (detached), then the queue frees it after the run that succeeds, or at the end.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/failpoint.h"
#include "objstore/base/log.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTS_THREADS 8
#define ACKED_THREADS 16
#define ACKED_BACKOFF (500 * NSEC_PER_MSEC)
#define ACKED_BACKOFF_MAX (60 * NSEC_PER_SEC)

static int file_name(uint64_t id, const char *suffix, char *out)
{
	struct str s = { 0 };
	int r;

	str_addf(&s, "%llx%s", (unsigned long long)id, suffix);
	r = s.err ? s.err : str_copy(out, SP_ID_MAX, s.p);
	str_free(&s);
	return r;
}

int sp_data_name(uint64_t id, char *out)
{
	return file_name(id, ".data", out);
}

int sp_journal_name(uint64_t id, char *out)
{
	return file_name(id, ".journal", out);
}

/* Hexadecimal id of a name that ends in suffix; false when it is none of ours. */
static bool parse_name(const char *name, const char *suffix, uint64_t *ret)
{
	char *end = NULL;
	uint64_t id;

	if (name[0] == '0' || !str_has_suffix(name, suffix) || strspn(name, "0123456789abcdef") == 0)
		return false;
	errno = 0;
	id = strtoull(name, &end, 16);
	if (errno || strcmp(end, suffix) != 0)
		return false;
	*ret = id;
	return true;
}

int sp_scan(int dirfd, const char *suffix, uint64_t **ret, size_t *ret_n)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	uint64_t *v = NULL, id;
	size_t n = 0, cap = 0;
	struct dirent *e;

	if (d == NULL) {
		r = -errno;
		base_closep(&fd);
		return r;
	}
	for (errno = 0; r == 0 && (e = readdir(d)) != NULL; errno = 0) {
		if (!parse_name(e->d_name, suffix, &id))
			continue;
		if (n == cap) {
			uint64_t *w = realloc(v, (cap ? cap * 2 : 64) * sizeof(*v));

			if (w == NULL) {
				r = -ENOMEM;
				break;
			}
			v = w;
			cap = cap ? cap * 2 : 64;
		}
		v[n++] = id;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	if (r < 0) {
		free(v);
		return r;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

void sp_boot_id(char *out)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, SP_BOOT_MAX - 1) : -1;

	out[MAX(n, 0)] = 0; /* unknown: never equal to anything, see sprecover.c */
	out[strcspn(out, "\n")] = 0;
	base_closep(&fd);
}

uint64_t sp_new_id(struct spool *s)
{
	uint64_t id = (uint64_t)(clock_real_ns() / 1000);

	mtx_lock(&s->lock);
	s->last_id = MAX(s->last_id + 1, id);
	id = s->last_id;
	mtx_unlock(&s->lock);
	return id;
}

void sp_nonce(struct spool *s, char *out)
{
	uint64_t v[2];

	if (s->o.seed == 0) {
		base_random_hex(out, OBJ_NONCE_LEN / 2);
		return;
	}
	mtx_lock(&s->lock);
	for (int i = 0; i < 2; i++)
		v[i] = hash_u64(s->seed++);
	mtx_unlock(&s->lock);
	str_hex(out, v, sizeof(v));
}

void sp_link(struct spfile *f)
{
	mtx_lock(&f->s->lock);
	list_add_tail(&f->s->files, &f->link);
	f->s->nfiles++;
	mtx_unlock(&f->s->lock);
}

void sp_unlink(struct spfile *f)
{
	mtx_lock(&f->s->lock);
	if (!list_empty(&f->link)) {
		list_del(&f->link);
		f->s->nfiles--;
	}
	mtx_unlock(&f->s->lock);
}

/* A journal without data in state GONE: recovery aborts its upload and removes it. Losing it costs an orphan upload. */
void sp_note_orphan(struct spool *s, const char *dir, const char *name, const struct spmpu *m)
{
	char boot[SP_BOOT_MAX] = "", file[SP_ID_MAX];
	struct spj_event ev[] = {
		{ .type = SPJ_HEADER, .number = SPJ_FORMAT, .text = boot, .dir = dir, .name = name },
		{ .type = SPJ_UPLOAD, .text = m->id, .text2 = m->nonce },
		{ .type = SPJ_STATE, .number = SP_GONE },
	};
	struct str recs = { 0 };
	int fd = -1, r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ev) && r == 0; i++)
		r = spj_encode(&ev[i], &recs);
	if (r == 0)
		r = sp_journal_name(sp_new_id(s), file);
	if (r == 0)
		fd = openat(s->dirfd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (r == 0 && fd >= 0)
		r = base_pwrite_all(fd, recs.p, recs.len, 0);
	if (r < 0 || fd < 0)
		log_warn("%s%s: upload %s was not aborted and could not be noted", dir, name, m->id);
	base_closep(&fd);
	str_free(&recs);
}

/* --- the queue ---------------------------------------------------------------------------------------------------- */

static void queue_locked(struct spfile *f, int64_t due_ns)
{
	f->acked = ACKED_QUEUED;
	f->acked_due_ns = due_ns;
	list_add_tail(&f->s->queue, &f->acked_link);
	cond_broadcast(&f->s->change);
}

void sp_enqueue(struct spfile *f)
{
	struct spool *s = f->s;

	mtx_lock(&s->lock);
	if (f->acked == ACKED_NOT) {
		f->acked_tries = 0;
		queue_locked(f, clock_now_ns());
	} else if (f->acked == ACKED_RUNNING) { /* that run may have ended for the file already */
		f->acked_again = true;
	}
	mtx_unlock(&s->lock);
}

void sp_hand_over(struct spfile *f)
{
	struct spool *s = f->s;

	mtx_lock(&s->lock);
	f->detached = true;
	f->acked_tries = 1;
	queue_locked(f, clock_now_ns() + ACKED_BACKOFF);
	mtx_unlock(&s->lock);
}

static void acked_done(struct spfile *f, bool again)
{
	struct spool *s = f->s;
	bool release = false;

	mtx_lock(&s->lock);
	if (f->acked_again) {
		f->acked_again = false;
		queue_locked(f, clock_now_ns());
	} else if (again) {
		queue_locked(f, clock_now_ns() + clock_backoff_ns(++f->acked_tries, ACKED_BACKOFF, ACKED_BACKOFF_MAX,
								  (uint32_t)hash_u64(s->seed++)));
	} else {
		f->acked = ACKED_NOT;
		release = f->detached;
	}
	cond_broadcast(&s->change);
	mtx_unlock(&s->lock);
	if (release)
		spfile_free(f);
}

static void acked_job(struct job *job)
{
	struct spfile *f = container_of(job, struct spfile, acked_job);

	acked_done(f, sp_acked_run(f));
}

/* The file whose time it is, else NULL and when to look again. */
static struct spfile *next_due_locked(struct spool *s, int64_t *ret_wait_until)
{
	int64_t now = clock_now_ns();

	*ret_wait_until = now + 3600 * NSEC_PER_SEC;
	list_for_each(it, &s->queue) {
		struct spfile *f = list_entry(it, struct spfile, acked_link);

		if (f->acked_due_ns <= now)
			return f;
		*ret_wait_until = MIN(*ret_wait_until, f->acked_due_ns);
	}
	return NULL;
}

static void *queue_thread(void *arg)
{
	struct spool *s = arg;

	mtx_lock(&s->lock);
	while (!s->stopping) {
		int64_t until;
		struct spfile *f = next_due_locked(s, &until);

		if (f) {
			list_del(&f->acked_link);
			f->acked = ACKED_RUNNING;
			f->acked_job.fn = acked_job;
			pool_submit(s->acked, &f->acked_job);
		} else if (list_empty(&s->queue)) {
			cond_wait(&s->change, &s->lock); /* no wake-up while idle */
		} else {
			(void)cond_wait_until(&s->change, &s->lock, until);
		}
	}
	mtx_unlock(&s->lock);
	return NULL;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int open_dirs(struct spool *s)
{
	if (mkdir(s->dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return -errno;
	if (mkdirat(s->dirfd, "parked", 0700) < 0 && errno != EEXIST)
		return -errno;
	s->parked_fd = openat(s->dirfd, "parked", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->parked_fd < 0 ? -errno : 0;
}

/* Ids go on behind those in use. */
static int find_last_id(struct spool *s)
{
	const struct {
		int fd;
		const char *suffix;
	} where[] = { { s->dirfd, ".journal" }, { s->dirfd, ".data" }, { s->parked_fd, ".json" }, { s->parked_fd, ".data" } };

	for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
		_cleanup_free_ uint64_t *v = NULL;
		size_t n = 0;
		int r = sp_scan(where[i].fd, where[i].suffix, &v, &n);

		if (r < 0)
			return r;
		for (size_t k = 0; k < n; k++)
			s->last_id = MAX(s->last_id, v[k]);
	}
	return 0;
}

static void take_limits(struct spool *s)
{
	struct objstore *b = s->o.store;

	while (b->inner)
		b = b->inner;
	s->part_min = MAX(b->part_min, (uint64_t)1);
	s->put_max = b->put_max ? b->put_max : 5 * GiB;
	s->max_parts = b->part_max_count ? (unsigned)MIN(b->part_max_count, (uint64_t)10000) : 10000;
	s->part_size = MIN(MAX(s->o.part_size ? s->o.part_size : 8 * MiB, s->part_min), s->put_max);
}

static int start_threads(struct spool *s)
{
	int r = pool_new("lsvd-parts", PARTS_THREADS, &s->parts);

	if (r == 0)
		r = pool_new("lsvd-acked", ACKED_THREADS, &s->acked);
	if (r == 0)
		r = -pthread_create(&s->thread, NULL, queue_thread, s);
	if (r == 0)
		s->thread_on = true;
	return r;
}

int spool_open(const struct spool_opts *o, struct spool **ret, struct objerr *err)
{
	struct spool *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	s->o = *o;
	s->dirfd = s->parked_fd = -1;
	list_init(&s->files);
	list_init(&s->queue);
	mtx_init(&s->lock, RANK_SPOOL);
	cond_init(&s->change);
	s->seed = o->seed;
	s->dir = strdup(o->dir);
	s->prefix = strdup(o->prefix ? o->prefix : "");
	if (s->dir == NULL || s->prefix == NULL)
		r = -ENOMEM;
	take_limits(s);
	sp_boot_id(s->boot);
	if (r == 0)
		r = open_dirs(s);
	if (r == 0)
		r = find_last_id(s);
	if (r == 0)
		r = start_threads(s);
	if (r < 0) {
		if (err)
			objerr_set(err, "%s: %s", o->dir, strerror(-r));
		spool_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void spool_close(struct spool *s)
{
	if (s == NULL)
		return;
	mtx_lock(&s->lock);
	s->stopping = true;
	cond_broadcast(&s->change);
	mtx_unlock(&s->lock);
	if (s->thread_on)
		pthread_join(s->thread, NULL);
	pool_free(s->acked);
	/* what is acknowledged lies on the disk for the next mount */
	mtx_lock(&s->lock);
	while (!list_empty(&s->queue)) {
		struct spfile *f = list_entry(s->queue.next, struct spfile, acked_link);

		list_del(&f->acked_link);
		f->acked = ACKED_NOT;
	}
	mtx_unlock(&s->lock);
	/* detached ones, and what an owner forgot */
	while (!list_empty(&s->files))
		spfile_free(list_entry(s->files.next, struct spfile, link));
	pool_free(s->parts);
	base_closep(&s->parked_fd);
	base_closep(&s->dirfd);
	cond_destroy(&s->change);
	mtx_destroy(&s->lock);
	free(s->dir);
	free(s->prefix);
	free(s);
}

static uint64_t unsent_locked(const struct spfile *f)
{
	if (!sp_dirty_locked(f))
		return 0;
	return f->dirty.bytes + (f->size - f->same_limit);
}

void spool_stats(struct spool *s, struct spool_stats *ret)
{
	_cleanup_free_ uint64_t *v = NULL;
	size_t n = 0;

	*ret = (struct spool_stats){ 0 };
	if (sp_scan(s->parked_fd, ".json", &v, &n) == 0)
		ret->parked = n;
	mtx_lock(&s->lock);
	ret->files = s->nfiles;
	list_for_each(it, &s->files) {
		struct spfile *f = list_entry(it, struct spfile, link);

		mtx_lock(&f->lock);
		ret->dirty_bytes += unsent_locked(f);
		ret->uploading += f->sending || f->state == SP_ACKED;
		mtx_unlock(&f->lock);
	}
	mtx_unlock(&s->lock);
}
