/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading plain files: chunks of one version in memory, fetched on demand and ahead of sequential readers.
 *
 * A chunk belongs to an inode and one etag; every GET carries If-Match, so no chunk ever mixes versions.
 *   LOADING  a GET is under way; readers of its range wait for chunk_done
 *   READY    got bytes; in chunk_lru while nobody pins it, from where the budget's reclaimer takes it
 *   FAILED   status says why; the next reader removes it and reports the error
 * A demanded fetch covers what was asked (at least 128 KiB) and no more, so that no reader waits for bytes that it did
 * not ask for; the window ahead doubles with each sequential read and is fetched in chunks of its own, memory permitting.
 * A chunk that a sequential reader has come to the end of is freed: the kernel's pages hold it now.
 */
#include "disk.h"
#include "inode.h"

#define WINDOW_MIN (1 * MiB)
#define WINDOW_MAX (32 * MiB)
#define DEMAND_MIN (128 * KiB)

#define FSD_MOVED 4095 /* no errno */

enum chunk_state { LOADING, READY, FAILED };

struct chunk {
	struct list of_inode; /* under fsd.chunks, all of it */
	struct list lru;
	struct fsd *f;
	bool orphan; /* the inode is gone: done() frees it */
	enum chunk_state state;
	unsigned pins;
	uint64_t off;
	size_t len, got;
	char etag[OBJ_ETAG_MAX];
	char *key;
	void *buf;
	int status;
	struct objreq req;
};

void chunks_init(struct fsd *f)
{
	mtx_init(&f->chunks, RANK_CACHE);
	cond_init(&f->chunk_done);
	list_init(&f->chunk_lru);
}

void chunks_wait(struct fsd *f)
{
	mtx_lock(&f->chunks);
	while (f->chunks_loading > 0)
		cond_wait(&f->chunk_done, &f->chunks);
	mtx_unlock(&f->chunks);
}

/* Out of all lists; frees what nobody uses. */
static void chunk_remove_locked(struct chunk *ch)
{
	list_del(&ch->of_inode);
	list_del(&ch->lru);
	ch->orphan = true;
}

static void chunk_free(struct chunk *ch)
{
	budget_buf_free(ch->f->o.budget, ch->buf, ch->len);
	objreq_done(&ch->req);
	free(ch->key);
	free(ch);
}

void chunks_drop(struct fsd *f, struct inode *i)
{
	struct list dead;

	list_init(&dead);
	mtx_lock(&f->chunks);
	list_for_each_safe(l, tmp, &i->chunks) {
		struct chunk *ch = list_entry(l, struct chunk, of_inode);

		chunk_remove_locked(ch);
		if (ch->state != LOADING && ch->pins == 0)
			list_add_tail(&dead, &ch->lru);
	}
	mtx_unlock(&f->chunks);
	list_for_each_safe(l, tmp, &dead)
		chunk_free(list_entry(l, struct chunk, lru));
}

uint64_t chunks_reclaim(void *arg, uint64_t n)
{
	struct fsd *f = arg;
	struct list dead;
	uint64_t freed = 0;

	list_init(&dead);
	mtx_lock(&f->chunks);
	while (freed < n && !list_empty(&f->chunk_lru)) {
		struct chunk *ch = list_entry(f->chunk_lru.next, struct chunk, lru);

		freed += ch->len;
		chunk_remove_locked(ch);
		list_add_tail(&dead, &ch->lru);
	}
	mtx_unlock(&f->chunks);
	list_for_each_safe(l, tmp, &dead)
		chunk_free(list_entry(l, struct chunk, lru));
	if (freed < n)
		freed += vol_reads_reclaim(f->reads, n - freed);
	return freed;
}

static struct chunk *find_locked(struct inode *i, const char *etag, uint64_t off)
{
	list_for_each(l, &i->chunks) {
		struct chunk *ch = list_entry(l, struct chunk, of_inode);
		uint64_t end = ch->off + (ch->state == READY ? ch->got : ch->len);

		if (off >= ch->off && off < end && strcmp(ch->etag, etag) == 0)
			return ch;
	}
	return NULL;
}

static void pin_locked(struct chunk *ch)
{
	ch->pins++;
	list_del(&ch->lru);
}

/* True when the caller must chunk_free() it after unlocking. */
static bool unpin_locked(struct fsd *f, struct chunk *ch)
{
	if (--ch->pins > 0)
		return false;
	if (ch->orphan)
		return ch->state != LOADING;
	if (ch->state == READY)
		list_add_tail(&f->chunk_lru, &ch->lru);
	return false;
}

/* Bytes that one request of a window fetches. */
static uint64_t piece_of(uint64_t window)
{
	return window >= 16 * MiB ? 4 * MiB : MiB;
}

/* The window follows the reader: doubles while reads go on where the last ended, small again after a jump. */
static void window_locked(struct fsd *f, struct handle *h, uint64_t off, size_t n)
{
	uint64_t max = MIN(WINDOW_MAX, budget_total(f->o.budget) / 8);

	/* the kernel sends the reads of one window in any order: near is near enough */
	if (off <= h->next_off + MiB && off + 2 * MiB >= h->next_off) {
		if (off + n > h->next_off) {
			h->next_off = off + n;
			h->window = MIN(max, MAX(h->window * 2, WINDOW_MIN));
		}
	} else {
		h->next_off = off + n;
		h->window = 0;
	}
}

static void chunk_finish(struct objreq *req)
{
	struct chunk *ch = req->priv;
	struct fsd *f = ch->f;
	bool dead;

	mtx_lock(&f->chunks);
	ch->status = req->status;
	ch->got = req->got;
	if (req->status == 0 && req->got != ch->len)
		ch->status = -EIO; /* If-Match held, so the size is the one we know: a short body is none of ours */
	ch->state = ch->status == 0 ? READY : FAILED;
	if (!ch->orphan && ch->pins == 0 && ch->state == FAILED)
		chunk_remove_locked(ch); /* read ahead in vain: it would hold its memory for ever */
	dead = ch->orphan && ch->pins == 0;
	if (!dead && !ch->orphan && ch->pins == 0 && ch->state == READY)
		list_add_tail(&f->chunk_lru, &ch->lru);
	f->chunks_loading--;
	cond_broadcast(&f->chunk_done);
	mtx_unlock(&f->chunks);
	if (dead)
		chunk_free(ch);
}

/* Makes a chunk that holds len bytes of budget already; take_key. Not yet in any list. */
static struct chunk *chunk_new(struct fsd *f, const char *etag, char *take_key, uint64_t off, size_t len)
{
	struct chunk *ch = calloc(1, sizeof *ch);

	if (ch)
		ch->buf = budget_buf(f->o.budget, len);
	if (!ch || !ch->buf) {
		free(ch);
		free(take_key);
		budget_give(f->o.budget, len);
		return NULL;
	}
	list_init(&ch->of_inode);
	list_init(&ch->lru);
	ch->f = f;
	ch->key = take_key;
	ch->off = off;
	ch->len = len;
	memcpy(ch->etag, etag, sizeof ch->etag);
	return ch;
}

static void chunk_submit(struct fsd *f, struct chunk *ch, bool alt, enum obj_prio prio)
{
	objreq_init(&ch->req, OBJ_GET, ch->key);
	ch->req.prio = prio;
	ch->req.off = ch->off;
	ch->req.len = ch->len;
	ch->req.if_match = alt ? NULL : ch->etag; /* the copy of a removed file is ours alone */
	ch->req.buf = ch->buf;
	ch->req.cap = ch->len;
	ch->req.done = chunk_finish;
	ch->req.priv = ch;
	mtx_lock(&f->chunks);
	f->chunks_loading++;
	mtx_unlock(&f->chunks);
	obj_submit(f->o.store, &ch->req);
}

/* Where the bytes of this node are. */
static int read_key(struct fsd *f, struct inode *i, char **ret, bool *ret_alt)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	int r;

	mtx_lock(&i->lock);
	*ret_alt = i->alt_key != NULL;
	if (i->alt_key) {
		*ret = strdup(i->alt_key);
		mtx_unlock(&i->lock);
		return *ret ? 0 : -ENOMEM;
	}
	mtx_unlock(&i->lock);
	r = inode_path(f, i, &dir, &name);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return tree_key(f->o.tree, dir, name, false, ret);
}

/* Fetches what the window ahead of the handle lacks, as far as memory goes without waiting. */
static void read_ahead(struct fsd *f, struct inode *i, struct handle *h, const struct version *v)
{
	_cleanup_free_ char *key = NULL;
	bool alt;
	uint64_t off, end;
	size_t step;

	mtx_lock(&f->chunks);
	off = h->next_off;
	end = MIN(v->size, h->window ? off + h->window : 0);
	step = piece_of(h->window);
	mtx_unlock(&f->chunks);
	while (off < end) {
		struct chunk *ch;
		char *copy;
		size_t len;

		mtx_lock(&f->chunks);
		ch = find_locked(i, v->etag, off);
		if (ch)
			off = ch->off + ch->len;
		mtx_unlock(&f->chunks);
		if (ch)
			continue;
		len = MIN(step, v->size - off);
		if (!key && read_key(f, i, &key, &alt) < 0)
			return;
		if (!budget_try(f->o.budget, len))
			return;
		copy = strdup(key);
		if (!copy) {
			budget_give(f->o.budget, len);
			return;
		}
		ch = chunk_new(f, v->etag, copy, off, len);
		if (!ch)
			return;
		mtx_lock(&f->chunks);
		list_add_tail(&i->chunks, &ch->of_inode);
		mtx_unlock(&f->chunks);
		off += len;
		chunk_submit(f, ch, alt, OBJ_PRIO_BG);
	}
}

struct ahead_job {
	struct job job;
	struct fsd *f;
	struct handle *h;
	struct version v;
};

static void ahead_run(struct job *job)
{
	struct ahead_job *a = container_of(job, struct ahead_job, job);

	read_ahead(a->f, a->h->inode, a->h, &a->v);
	handle_put(a->f, a->h);
	free(a);
}

/* True when the window's last piece is neither there nor on its way: as many requests are in flight as the window has. */
static bool wants_ahead_locked(struct inode *i, struct handle *h, const struct version *v)
{
	return h->window > 0 && h->next_off < v->size &&
	       !find_locked(i, v->etag, MIN(v->size - 1, h->next_off + h->window - piece_of(h->window)));
}

static bool sp_try(struct inode *i, size_t n, uint64_t off, struct readbuf *ret, bool *had_sp)
{
	ssize_t got;
	void *mem;

	mtx_lock(&i->lock);
	*had_sp = i->sp != NULL;
	if (!i->sp) {
		mtx_unlock(&i->lock);
		return false;
	}
	mem = malloc(n ? n : 1);
	got = mem ? spfile_read_local(i->sp, mem, n, off) : -ENOMEM;
	mtx_unlock(&i->lock);
	if (got < 0) {
		free(mem);
		return false;
	}
	*ret = (struct readbuf){ .mem = mem, .p = mem, .n = (size_t)got };
	return true;
}

bool chunk_try(struct fsd *f, struct inode *i, struct handle *h, uint64_t off, size_t n, struct readbuf *ret)
{
	struct ahead_job *a = NULL;
	struct version v;
	struct chunk *ch;
	bool had_sp, ok = false;

	if (sp_try(i, n, off, ret, &had_sp))
		return true;
	if (had_sp)
		return false;
	mtx_lock(&i->lock);
	v = i->base;
	if (h->opened[0] && strcmp(h->opened, i->pages) == 0)
		i->pages_sure = true; /* this opener has dropped the older pages and goes on */
	mtx_unlock(&i->lock);
	if (off >= v.size) {
		*ret = (struct readbuf){ .p = "" };
		return true;
	}
	n = MIN(n, v.size - off);
	mtx_lock(&f->chunks);
	ch = find_locked(i, v.etag, off);
	if (ch && ch->state == READY && off + n <= ch->off + ch->got) {
		pin_locked(ch);
		*ret = (struct readbuf){ .chunk = ch, .p = (char *)ch->buf + (off - ch->off), .n = n };
		window_locked(f, h, off, n);
		ok = true;
		if (wants_ahead_locked(i, h, &v))
			a = malloc(sizeof *a);
	}
	mtx_unlock(&f->chunks);
	if (a) {
		a->f = f;
		a->h = handle_get(f, h->fh);
		a->v = v;
		a->job.fn = ahead_run;
		if (a->h)
			pool_submit(f->o.pool, &a->job);
		else
			free(a);
	}
	return ok;
}

void readbuf_done(struct fsd *f, struct readbuf *b)
{
	bool dead = false;

	free(b->mem);
	if (!b->chunk)
		return;
	mtx_lock(&f->chunks);
	if (!b->chunk->orphan && (char *)b->p + b->n == (char *)b->chunk->buf + b->chunk->got)
		chunk_remove_locked(b->chunk); /* read to its end: the kernel has it */
	dead = unpin_locked(f, b->chunk);
	mtx_unlock(&f->chunks);
	if (dead)
		chunk_free(b->chunk);
}

/*
 * The object is not version v any more: was only its metadata changed by a copy that gave it a new etag? Then the node
 * goes on with that etag.
 */
static bool same_bytes_now(struct fsd *f, struct inode *i, const char *key, const struct version *v)
{
	struct objreq req;
	bool same = false;

	if (obj_head(f->o.store, key, &req) == 0) {
		struct version now = {.size = req.size, .mtime_s = req.mtime_s};

		memcpy(now.etag, req.etag, sizeof now.etag);
		same = version_same_bytes(v, &now, &req.ret_headers);
		mtx_lock(&i->lock);
		same = same && strcmp(i->base.etag, v->etag) == 0 && !i->sp;
		if (same) {
			if (strcmp(i->pages, i->base.etag) == 0)
				memcpy(i->pages, now.etag, sizeof i->pages);
			i->base = now;
			i->base_gen++;
		}
		mtx_unlock(&i->lock);
	}
	objreq_done(&req);
	return same;
}

/*
 * Copies what one chunk has of the range, loading or waiting for it. Bytes, or -errno; -FSD_MOVED: the file was renamed
 * meanwhile, or its etag changed with the bytes unchanged: ask again.
 */
static ssize_t read_one(struct fsd *f, struct inode *i, const struct version *v, void *buf, size_t n, uint64_t off,
			struct objerr *err)
{
	struct chunk *ch, *fresh = NULL;
	_cleanup_free_ char *key = NULL;
	bool alt = false, dead;
	ssize_t r;

	mtx_lock(&f->chunks);
	ch = find_locked(i, v->etag, off);
	if (ch)
		pin_locked(ch);
	mtx_unlock(&f->chunks);
	if (!ch) {
		size_t len = MIN(MAX(n, DEMAND_MIN), v->size - off);

		r = read_key(f, i, &key, &alt);
		if (r < 0)
			return r;
		budget_take(f->o.budget, len);
		fresh = ch = chunk_new(f, v->etag, key, off, len);
		key = NULL;
		if (!ch)
			return -ENOMEM;
		mtx_lock(&f->chunks);
		ch->pins = 1;
		list_add_tail(&i->chunks, &ch->of_inode);
		mtx_unlock(&f->chunks);
		chunk_submit(f, fresh, alt, OBJ_PRIO_FG);
	}
	mtx_lock(&f->chunks);
	while (ch->state == LOADING)
		cond_wait(&f->chunk_done, &f->chunks);
	if (ch->state == READY && off < ch->off + ch->got) {
		r = (ssize_t)MIN(n, ch->off + ch->got - off);
		memcpy(buf, (char *)ch->buf + (off - ch->off), (size_t)r);
		if (!ch->orphan && off + (size_t)r == ch->off + ch->got)
			chunk_remove_locked(ch);
	} else {
		r = ch->status < 0 ? ch->status : -EIO;
		*err = ch->req.err;
		if (!ch->orphan)
			chunk_remove_locked(ch);
	}
	if (r == -ENOENT || r == -ESTALE) { /* gone, or moved by a rename or a change of metadata of ours */
		char *now = NULL;
		bool moved;

		mtx_unlock(&f->chunks);
		moved = read_key(f, i, &now, &alt) == 0 && ch->key && strcmp(now, ch->key) != 0;
		free(now);
		mtx_lock(&i->lock);
		moved |= strcmp(i->base.etag, v->etag) != 0 && !i->superseded;
		mtx_unlock(&i->lock);
		if (!moved && r == -ESTALE && ch->key)
			moved = same_bytes_now(f, i, ch->key, v);
		r = moved ? -FSD_MOVED : -ESTALE;
		mtx_lock(&f->chunks);
	}
	dead = unpin_locked(f, ch);
	mtx_unlock(&f->chunks);
	if (dead)
		chunk_free(ch);
	return r;
}

ssize_t chunk_read(struct fsd *f, struct inode *i, struct handle *h, void *buf, size_t n, uint64_t off,
		   struct objerr *err)
{
	struct version v;
	size_t done = 0;
	bool ahead;

	mtx_lock(&i->lock);
	v = i->base;
	if (h->opened[0] && strcmp(h->opened, i->pages) == 0)
		i->pages_sure = true;
	mtx_unlock(&i->lock);
	if (off >= v.size)
		return 0;
	n = MIN(n, v.size - off);
	mtx_lock(&f->chunks);
	window_locked(f, h, off, n);
	ahead = wants_ahead_locked(i, h, &v);
	mtx_unlock(&f->chunks);
	while (done < n) {
		ssize_t r = read_one(f, i, &v, (char *)buf + done, n - done, off + done, err);

		if (r == -FSD_MOVED) { /* renamed, or the same bytes have a new etag: go on with what holds now */
			mtx_lock(&i->lock);
			v = i->base;
			mtx_unlock(&i->lock);
			continue;
		}
		if (r < 0)
			return r; /* a short answer would be taken for the end of the file */
		done += (size_t)r;
		if (ahead) {
			ahead = false;
			read_ahead(f, i, h, &v);
		}
	}
	return (ssize_t)done;
}

void chunk_add(struct fsd *f, struct inode *i, const char *etag, uint64_t off, void *take_buf, size_t cap, size_t got)
{
	struct chunk *ch = got > 0 ? calloc(1, sizeof *ch) : NULL;

	if (!ch) {
		free(take_buf);
		budget_give(f->o.budget, cap);
		return;
	}
	list_init(&ch->of_inode);
	list_init(&ch->lru);
	ch->f = f;
	ch->state = READY;
	ch->off = off;
	ch->len = cap;
	ch->got = got;
	ch->buf = take_buf;
	snprintf(ch->etag, sizeof ch->etag, "%s", etag);
	mtx_lock(&f->chunks);
	list_add_head(&i->chunks, &ch->of_inode);
	list_add_tail(&f->chunk_lru, &ch->lru);
	mtx_unlock(&f->chunks);
}
