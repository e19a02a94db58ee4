/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volume.c - life of a volume: making, opening, states, closing (volume.h has the table of states).
 *
 * A volume that failed or was fenced answers -EIO to writes for ever; its journal stays where it is, untrimmed, so
 * that nothing acknowledged is thrown away.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_WINDOW = 16, DEFAULT_OBJECT = 8 << 20 };

int vol_create(const struct vol_env *env, const char *prefix, const struct vol_create *c, struct objerr *err)
{
	struct log_create lc = {.window = c->window != 0 ? c->window : DEFAULT_WINDOW,
				.object_bytes = c->object_bytes != 0 ? c->object_bytes : DEFAULT_OBJECT,
				.fsync_remote = c->fsync_remote};
	struct logobj o = {.type = LOG_CREATE, .size = c->size, .create = &lc};
	struct log_at at = {.store = env->store, .prefix = prefix, .host = env->host};

	memcpy(at.uuid, c->uuid, 16);
	return log_create(&at, &o, err);
}

void vol_fail(struct volume *v, enum vol_state s, const char *fmt, ...)
{
	va_list ap;

	mtx_lock(&v->lock);
	if (v->state != VOL_FENCED && v->state != VOL_FAILED) {
		v->state = s;
		va_start(ap, fmt);
		(void)vsnprintf(v->why, sizeof(v->why), fmt, ap);
		va_end(ap);
	}
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
	if (v->journal != NULL)
		journal_wake(v->journal, true); /* whoever waits for space waits no more */
	throttle_stop(&v->pace);
	log_break(v->log); /* a number that got no bytes would be waited for for ever */
	mtx_lock(&v->batch);
	v->up_stop = true;
	cond_broadcast(&v->work);
	mtx_unlock(&v->batch);
}

void vol_note(struct volume *v, const char *fmt, ...)
{
	va_list ap;

	mtx_lock(&v->lock);
	if (v->state != VOL_FENCED && v->state != VOL_FAILED) {
		va_start(ap, fmt);
		(void)vsnprintf(v->why, sizeof(v->why), fmt, ap);
		va_end(ap);
	}
	mtx_unlock(&v->lock);
}

static void destroy(struct volume *v)
{
	log_close(v->log);
	journal_close(v->journal);
	map_free(v->map);
	vol_forget_log(v);
	vol_forget_snapshots(v);
	vol_point_free(&v->newest);
	vol_point_free(&v->before);
	vol_point_free(&v->coming);
	vol_end_retaining(v);
	free(v->effect);
	base_closep(&v->dirfd);
	throttle_destroy(&v->pace);
	mtx_destroy(&v->streams);
	cond_destroy(&v->work);
	mtx_destroy(&v->batch);
	cond_destroy(&v->changed);
	mtx_destroy(&v->lock);
	free(v->prefix);
	free(v);
}

/* One that knows nothing yet: of the snapshot, or the position; 0, 0: of the image. */
static int make(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], uint64_t snapshot,
		uint64_t position, struct volume **ret)
{
	struct log_at at = {.store = env->store, .prefix = prefix, .host = env->host, .pool = env->pool};
	struct volume *v = calloc(1, sizeof(*v));
	int r;

	if (v == NULL)
		return -ENOMEM;
	v->env = *env;
	v->snapshot = snapshot;
	v->position = position;
	v->dirfd = -1;
	memcpy(v->uuid, uuid, 16);
	memcpy(at.uuid, uuid, 16);
	mtx_init(&v->lock, RANK_VOLUME);
	cond_init(&v->changed);
	mtx_init(&v->batch, RANK_BATCH);
	cond_init(&v->work);
	mtx_init(&v->streams, RANK_CACHE);
	throttle_init(&v->pace);
	v->prefix = strdup(prefix);
	r = v->prefix == NULL ? -ENOMEM : log_open(&at, &v->log);
	if (r == 0)
		r = map_new(VOL_PAGES(env->map_bytes != 0 ? env->map_bytes : VOL_MAP_BYTES), &v->map);
	if (r < 0)
		destroy(v);
	else
		*ret = v;
	return r;
}

static int open_at(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], uint64_t snapshot,
		   uint64_t position, struct volume **ret, struct objerr *err)
{
	struct log_walker w = vol_walker;
	struct log_view view;
	struct volume *v;
	int r = make(env, prefix, uuid, snapshot, position, &v);

	if (r < 0)
		return r;
	w.arg = v;
	if (env->from_base)
		log_set_base(v->log, env->base);
	r = vol_attach(v, &w, true, err);
	if (r == 0)
		vol_walked(v);
	if (r < 0) {
		destroy(v);
		return r;
	}
	v->mapped = true;
	log_view(v->log, &view);
	v->batch_bytes = env->batch_bytes != 0 ? env->batch_bytes : view.object_bytes;
	*ret = v;
	return 0;
}

int vol_open(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct volume **ret,
	     struct objerr *err)
{
	return open_at(env, prefix, uuid, 0, 0, ret, err);
}

int vol_open_position(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], uint64_t number,
		      struct volume **ret, struct objerr *err)
{
	struct vol_env ro = *env;

	ro.read_only = true;
	ro.from_base = false;
	if (number == 0) {
		objerr_set(err, "0 is no number of a log");
		return -EINVAL;
	}
	return open_at(&ro, prefix, uuid, 0, number, ret, err);
}

int vol_open_at(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], uint64_t number,
		struct volume **ret, struct objerr *err)
{
	struct vol_env e = *env;

	e.read_only = true;
	return open_at(&e, prefix, uuid, number, 0, ret, err);
}

int vol_open_snapshot(struct volume *of, uint64_t number, struct volume **ret, struct objerr *err)
{
	return vol_open_at(&of->env, of->prefix, of->uuid, number, ret, err);
}

int vol_open_list(const struct vol_env *env, const char *prefix, const uint8_t uuid[16], struct volume **ret)
{
	int r = make(env, prefix, uuid, 0, 0, ret);

	if (r == 0)
		(*ret)->list_only = (*ret)->env.read_only = true;
	return r;
}

int vol_let_go(struct volume *v)
{
	return vol_let_go_after(v, NULL, NULL);
}

/* Everything to the bucket, then the release. */
int vol_let_go_after(struct volume *v, int (*before)(struct volume *v, void *arg), void *arg)
{
	enum vol_state was;
	uint64_t jseq, size;
	int r;

	mtx_lock(&v->lock);
	was = v->state;
	if (was == VOL_OWNER)
		v->state = VOL_RELEASING;
	mtx_unlock(&v->lock);
	if (was == VOL_FENCED || was == VOL_FAILED)
		return -EIO; /* nobody knows what of the journal arrived */
	if (was != VOL_OWNER)
		return 0;
	r = journal_commit(v->journal, 0);
	if (r == 0 && RULE(E_RELEASE))
		r = vol_drain(v);
	vol_stop_uploader(v);
	if (r == 0 && before != NULL)
		r = before(v, arg);
	mtx_lock(&v->batch);
	jseq = v->sealed_jseq;
	size = v->sealed_size;
	mtx_unlock(&v->batch);
	if (r == 0) {
		r = log_release(v->log, jseq, size);
		/* Refused (403): everything is in the bucket all the same, only nobody is told that we let go. */
		if (r != -EIO && r != -ESHUTDOWN)
			r = 0;
	}
	if (r == 0)
		r = journal_trim(v->journal, log_committed(v->log), jseq, true);
	if (r == 0)
		ignore(journal_shrink(v->journal, true)); /* everything is in the bucket: what stays is only room */
	mtx_lock(&v->lock);
	if (v->state == VOL_RELEASING)
		v->state = r == 0 ? VOL_FOLLOWER : VOL_FAILED;
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
	return r == 0 ? 0 : -EIO;
}

/* The journal of an image that another node took: what of it is in the image all the same. */
static void note_arrived(struct volume *v)
{
	uint64_t number = log_arrived(v->log), jseq = 0;

	mtx_lock(&v->batch);
	for (size_t i = 0; i < LOG_W_MAX; i++)
		if (v->done[i].number != 0 && v->done[i].number <= number)
			jseq = MAX(jseq, v->done[i].jseq);
	jseq = MAX(jseq, v->trim_jseq);
	mtx_unlock(&v->batch);
	ignore(journal_trim(v->journal, number, jseq, true)); /* else more of it seems to be lost than was */
}

int vol_close(struct volume *v)
{
	int r = vol_let_go(v);

	log_stop(v->log);
	vol_stop_uploader(v);
	if (v->state == VOL_FENCED && v->journal != NULL)
		note_arrived(v);
	destroy(v);
	return r;
}

void vol_begin_write(struct volume *v)
{
	mtx_lock(&v->lock);
	v->writers++;
	mtx_unlock(&v->lock);
}

int vol_end_write(struct volume *v)
{
	bool last;

	mtx_lock(&v->lock);
	last = --v->writers == 0;
	mtx_unlock(&v->lock);
	return last ? vol_let_go(v) : 0;
}

uint64_t vol_size(struct volume *v)
{
	uint64_t n;

	mtx_lock(&v->batch);
	n = v->size;
	mtx_unlock(&v->batch);
	return n;
}

/* Why writes take long, if they do. */
static void stat_pace(struct volume *v, const struct journal_stat *js, struct vol_stat *ret)
{
	struct throttle_stat ts;
	char since[64] = "nothing yet";

	throttle_stat(&v->pace, &ts);
	ret->upload_rate = ts.rate;
	ret->slowed = ts.sleeping;
	ret->waiting = js->waiting;
	if (ret->state != VOL_OWNER)
		return;
	if (ts.idle_ns >= 0)
		(void)snprintf(since, sizeof(since), "nothing for %lld s", (long long)(ts.idle_ns / NSEC_PER_SEC));
	if (js->waiting > 0)
		(void)snprintf(ret->why, sizeof(ret->why),
			       "the journal is full (%llu KiB): %u writes wait for the store, which took %s",
			       (unsigned long long)(js->used / KiB), js->waiting, since);
	else if (ts.sleeping > 0)
		(void)snprintf(ret->why, sizeof(ret->why),
			       "writes are slowed to the store's pace (%llu KiB/s): the journal is %u %% full",
			       (unsigned long long)(ts.rate / KiB), (unsigned)(js->used * 100 / MAX(js->limit, 1u)));
}

void vol_stat(struct volume *v, struct vol_stat *ret)
{
	struct map_stat ms;
	struct log_view view;
	struct journal_stat js = {0};

	memset(ret, 0, sizeof(*ret));
	log_view(v->log, &view);
	mtx_lock(&v->lock);
	map_stat(v->map, &ms);
	if (v->claiming) /* the map is half made */
		ms.allocated = v->allocated;
	ret->state = v->state;
	memcpy(ret->why, v->why, sizeof(ret->why));
	if (v->journal != NULL && !v->claiming)
		journal_stat(v->journal, &js);
	mtx_unlock(&v->lock);
	ret->size = vol_size(v);
	/* the map does not know of growth that is not yet in the log */
	ret->allocated = MIN(ms.allocated, (ret->size + SECTOR - 1) / SECTOR) * SECTOR;
	ret->live = ms.live * SECTOR;
	ret->stored = ms.stored * SECTOR;
	ret->epoch = view.epoch;
	ret->tail = view.tail;
	ret->checkpoint = view.mark;
	ret->journal_used = js.used;
	ret->journal_limit = js.limit;
	ret->fsync_remote = view.fsync_remote;
	ret->released = view.released;
	memcpy(ret->holder, view.host, sizeof(ret->holder));
	stat_pace(v, &js, ret);
}
