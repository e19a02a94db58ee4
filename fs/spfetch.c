/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spfetch.c - bytes of the source that nobody has written: read through If-Match, kept in the data file.
 *
 * A fetch runs without the file's lock. Meanwhile the file may be written, cut, or committed; so the answer is stored
 * only where bytes are still missing, and only when the source is still the one that was asked. An upload of our own
 * replaces the source: a fetch that meets -ESTALE while one is under way waits for its end and looks again.
 */
#include "config.h"
#include "spool-private.h"
#include <string.h>

#define FETCH_ALIGN (128 * KiB) /* a small random read costs little more than its own bytes */
#define FETCH_MAX (4 * MiB)

/* GET of the source's [off, off+n): all of it, or an error. */
static int get_source(struct spool *s, const char *key, const struct version *src, void *buf, uint64_t off, size_t n,
		      struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_GET, key);
	req.if_match = src->etag;
	req.off = off;
	req.len = n;
	req.buf = buf;
	req.cap = n;
	r = obj_do(s->o.store, &req);
	if (r == 0 && strcmp(req.etag, src->etag) != 0)
		r = -ESTALE; /* a store that ignores the condition */
	if (r == 0 && req.got != n)
		r = -EBADMSG;
	if (r == -ENOENT || r == -ERANGE)
		r = -ESTALE;
	if (r < 0 && err)
		*err = req.err;
	objreq_done(&req);
	return r;
}

/* The piece at pos: local to *ret_end (true), or missing to *ret_end. pos < size. */
static bool piece_locked(struct spfile *f, uint64_t pos, uint64_t *ret_end)
{
	uint64_t a, b;

	if (pos >= f->base_limit) {
		*ret_end = f->size;
		return true;
	}
	if (!ranges_find(&f->have, pos, &a, &b)) {
		*ret_end = f->base_limit;
		return false;
	}
	if (a > pos) {
		*ret_end = a;
		return false;
	}
	*ret_end = b;
	return true;
}

/* A copy of what is needed to ask the source without the lock. */
struct source {
	char *key;
	struct version v;
	uint64_t gen;
};

static int source_locked(struct spfile *f, struct source *ret)
{
	if (f->src_key == NULL || f->src.etag[0] == 0)
		return -EIO; /* bytes are missing and there is nowhere to take them from */
	ret->key = strdup(f->src_key);
	ret->v = f->src;
	ret->gen = f->src_gen;
	return ret->key ? 0 : -ENOMEM;
}

/* Is the object at the source's key the source after a change of its metadata? Then it is the source from now on. */
static bool source_renewed(struct spfile *f, const struct source *src)
{
	struct version now = { 0 };
	struct objreq req;
	bool same = obj_head(f->s->o.store, src->key, &req) == 0;

	now.size = req.size;
	now.mtime_s = req.mtime_s;
	same = same && str_copy(now.etag, sizeof(now.etag), req.etag) == 0 && strcmp(now.etag, src->v.etag) != 0 &&
	       version_same_bytes(&src->v, &now, &req.ret_headers);
	objreq_done(&req);
	if (!same)
		return false;
	mtx_lock(&f->lock);
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	if (f->src_gen == src->gen)
		same = sp_rebase_locked(f, src->key, &src->v, &now) == 0;
	mtx_unlock(&f->lock);
	return same;
}

/* After -ESTALE: has something of our own, or a change of metadata, replaced the source meanwhile? Then ask again. */
static bool source_moved(struct spfile *f, const struct source *src)
{
	bool moved;

	mtx_lock(&f->lock);
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	moved = f->src_gen != src->gen;
	mtx_unlock(&f->lock);
	return moved || source_renewed(f, src);
}

int sp_fill(struct spfile *f, void *buf, uint64_t off, size_t n, struct objerr *err)
{
	uint64_t pos = off, end = off + n;
	int r = 0;

	while (pos < end && r == 0) {
		struct source src = { 0 };
		uint64_t to;
		bool local;

		mtx_lock(&f->lock);
		local = piece_locked(f, pos, &to);
		to = MIN(to, end);
		if (local)
			r = base_pread_all(f->fd, (char *)buf + (pos - off), (size_t)(to - pos), pos);
		else
			r = source_locked(f, &src);
		mtx_unlock(&f->lock);
		if (!local && r == 0)
			r = get_source(f->s, src.key, &src.v, (char *)buf + (pos - off), pos, (size_t)(to - pos), err);
		free(src.key);
		pos = to;
	}
	return r == -ENODATA ? -EIO : r;
}

/* Stores fetched bytes where they are still missing. */
static int store_locked(struct spfile *f, const char *buf, uint64_t start, uint64_t end)
{
	uint64_t pos = start;
	int r = 0;

	end = MIN(end, f->base_limit);
	while (pos < end && r == 0) {
		struct spj_event ev = { .type = SPJ_FETCHED, .off = pos };
		uint64_t to;

		if (piece_locked(f, pos, &to)) {
			pos = to;
			continue;
		}
		to = MIN(to, end);
		ev.len = to - pos;
		r = spj_reserve(&f->j, 64);
		if (r == 0)
			r = base_pwrite_all(f->fd, buf + (pos - start), (size_t)(to - pos), pos);
		/* the journal of an acknowledged file is synced without its data: it may not speak of these bytes */
		if (r == 0 && !f->uploading && f->state != SP_ACKED)
			r = spj_append(&f->j, &ev);
		if (r == 0)
			r = ranges_add(&f->have, pos, to);
		pos = to;
	}
	return r;
}

static bool being_fetched_locked(struct spfile *f, uint64_t start, uint64_t end)
{
	list_for_each(it, &f->fetches) {
		struct spfetch *o = list_entry(it, struct spfetch, link);

		if (o->start < end && start < o->end)
			return true;
	}
	return false;
}

/* The missing piece at or behind pos, grown to whole blocks and cut to FETCH_MAX. False: [pos, end) is local. */
static bool next_fetch_locked(struct spfile *f, uint64_t pos, uint64_t end, uint64_t want_end, struct spfetch *ret)
{
	uint64_t to, low = 0, a, b;

	while (pos < end && piece_locked(f, pos, &to))
		pos = to;
	if (pos >= end)
		return false;
	if (piece_locked(f, pos, &to))
		return false;
	/* grow to the front only over bytes that are missing, too */
	ret->start = pos - pos % FETCH_ALIGN;
	for (low = ret->start; ranges_find(&f->have, low, &a, &b) && b <= pos; low = b)
		ret->start = b;
	want_end = MAX(want_end, pos + 1);
	want_end += (FETCH_ALIGN - want_end % FETCH_ALIGN) % FETCH_ALIGN;
	ret->end = MIN(MIN(to, want_end), ret->start + FETCH_MAX);
	return true;
}

enum { FETCH_AGAIN = 1, FETCH_NO_DISK };

/* Makes [off, end) local. FETCH_NO_DISK: the disk does not take it, read past it. Called and returns with the lock held. */
static int fetch_locked(struct spfile *f, uint64_t off, uint64_t end, struct objerr *err) REQUIRES(f->lock)
{
	struct spfetch me;
	int r = 0;

	while (r == 0) {
		struct source src = { 0 };
		size_t n;
		void *buf;

		end = MIN(end, f->size);
		if (!next_fetch_locked(f, off, end, end, &me))
			break;
		if (being_fetched_locked(f, me.start, me.end)) {
			cond_wait(&f->change, &f->lock);
			continue;
		}
		r = source_locked(f, &src);
		if (r < 0)
			break;
		list_add_tail(&f->fetches, &me.link);
		mtx_unlock(&f->lock);

		n = (size_t)(me.end - me.start);
		budget_take(f->s->o.budget, n);
		buf = malloc(n);
		r = buf ? get_source(f->s, src.key, &src.v, buf, me.start, n, err) : -ENOMEM;
		if (r == -ESTALE && source_moved(f, &src))
			r = FETCH_AGAIN;

		mtx_lock(&f->lock);
		if (r == 0 && f->src_gen == src.gen && store_locked(f, buf, me.start, me.end) < 0)
			r = FETCH_NO_DISK;
		list_del(&me.link);
		cond_broadcast(&f->change);
		free(buf);
		budget_give(f->s->o.budget, n);
		free(src.key);
		r = r == FETCH_AGAIN ? 0 : r;
	}
	return r;
}

/* A full or failing local disk does not stop a reader: straight from the source into his buffer. */
static ssize_t read_past_disk(struct spfile *f, void *buf, size_t n, uint64_t off, struct objerr *err)
{
	int r = -ESTALE;

	for (int i = 0; i < 3 && r == -ESTALE; i++) {
		struct source src = { 0 };
		uint64_t size;

		mtx_lock(&f->lock);
		r = source_locked(f, &src);
		size = f->size;
		mtx_unlock(&f->lock);
		if (r == 0 && off >= size)
			n = 0;
		if (r == 0) {
			n = (size_t)MIN((uint64_t)n, size - MIN(off, size));
			r = sp_fill(f, buf, off, n, err);
		}
		if (r == -ESTALE && !source_moved(f, &src)) {
			free(src.key);
			break;
		}
		free(src.key);
	}
	return r < 0 ? r : (ssize_t)n;
}

ssize_t spfile_read(struct spfile *f, void *buf, size_t n, uint64_t off, struct objerr *err)
{
	ssize_t ret = 0;
	int r = 0;

	mtx_lock(&f->lock);
	if (off < f->size && n > 0)
		r = fetch_locked(f, off, off + MIN((uint64_t)n, f->size - off), err);
	/* still under the lock that found everything local */
	if (r == 0 && off < f->size && n > 0) {
		n = (size_t)MIN((uint64_t)n, f->size - off);
		r = base_pread_all(f->fd, buf, n, off);
		ret = (ssize_t)n;
	}
	mtx_unlock(&f->lock);
	if (r == FETCH_NO_DISK)
		return read_past_disk(f, buf, n, off, err);
	return r == 0 ? ret : r == -ENODATA ? -EIO : r;
}
