/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * metaq.c - metadata changes that wait for the bucket: one entry a name, a journal, one thread that hands due entries to
 * a pool of senders.
 *
 *   state     from                       to
 *   WAITING   put; failed or overtaken   SENDING when due or asked for by sync; gone by take
 *             sending
 *   SENDING   WAITING                    gone: sent or given up, and nothing newer was put meanwhile; else WAITING
 *
 * Each put raises the entry's seq; a sender works on a copy and compares seq afterwards. done() runs before anybody who
 * waits for the sending goes on, so that he finds the new version known; therefore metaq_take and the syncs may not be
 * called with a lock that done() takes.
 *
 * The journal (records of spjournal.h) holds a PUT for each put and a DEL for each entry that has gone. It is cut to
 * nothing whenever nothing waits, and written anew when the dead outweigh the living.
 *
 * A power cut: puts are in the page cache, so those of the last seconds may be lost, as with any file system. Pages reach
 * the disk in any order, so some in the middle may be lost as well; each record means something by itself, and the others
 * are used. What comes back although it has gone would undo what came after it: the syncs, which promise that this is
 * safe, put the journal on the disk before they return.
 */
#include "config.h"
#include "metaq.h"
#include "objstore/base/clock.h"
#include "objstore/base/failpoint.h"
#include "objstore/base/lock.h"
#include "objstore/base/log.h"
#include "objstore/base/pool.h"
#include "objstore/base/table.h"
#include "spjournal.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKERS 16
#define BACKOFF (1 * NSEC_PER_SEC)
#define BACKOFF_MAX (60 * NSEC_PER_SEC)
#define COMPACT_MIN (1 * MiB)

struct mqentry {
	struct metaq *q;
	struct job job;
	/* fixed */
	char *dir, *name;
	bool is_dir;
	/* under q->lock */
	struct hnode hash;
	struct list link; /* waiting: by due time */
	unsigned refs;	  /* the table's and those of waiters */
	bool sending, gone, recovered;
	uint64_t seq;	  /* puts so far */
	unsigned set;	  /* ATTR_*: what they set */
	struct version base;
	struct obj_headers h;
	int64_t due_ns;
	unsigned tries;
	uint64_t attempt_seq; /* of the attempt that ended last */
	int last_status;      /* its outcome */
	struct objerr last_err;
};

struct metaq {
	struct metaq_opts o;
	char *path;
	struct pool *pool;
	pthread_t thread;
	bool thread_on;
	struct mtx lock;    /* RANK_SPOOL; held across appends to the journal, which order the entries */
	struct cond change; /* broadcast: something is due earlier, an attempt ended, stopping */
	struct htab tab;
	struct list waiting; /* by due_ns */
	size_t n;
	uint64_t live;	    /* bytes that the entries would need in the journal, about */
	struct spj j;
	uint64_t head_len;  /* of the journal's first record */
	uint64_t changes;   /* of the journal's file so far */
	uint64_t durable;   /* of these, on the disk */
	uint64_t rnd;
	bool stopping;
};

/* --- entries ------------------------------------------------------------------------------------------------------ */

static uint64_t hash_name(const char *dir, const char *name, bool is_dir)
{
	return hash_bytes(name, strlen(name), hash_bytes(dir, strlen(dir), is_dir));
}

static struct mqentry *find_locked(struct metaq *q, const char *dir, const char *name, bool is_dir)
{
	struct hnode *n = htab_first(&q->tab, hash_name(dir, name, is_dir));

	for (; n; n = htab_next(n)) {
		struct mqentry *e = container_of(n, struct mqentry, hash);

		if (e->is_dir == is_dir && strcmp(e->name, name) == 0 && strcmp(e->dir, dir) == 0)
			return e;
	}
	return NULL;
}

static uint64_t entry_bytes(const struct mqentry *e)
{
	uint64_t n = 256 + strlen(e->dir) + strlen(e->name);

	for (size_t i = 0; i < e->h.n; i++)
		n += strlen(e->h.v[i].name) + strlen(e->h.v[i].value) + 2;
	return n;
}

static void unref_locked(struct mqentry *e)
{
	if (--e->refs > 0)
		return;
	obj_headers_free(&e->h);
	free(e->dir);
	free(e->name);
	free(e);
}

static struct mqentry *entry_new(struct metaq *q, const char *dir, const char *name, bool is_dir)
{
	struct mqentry *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->q = q;
	e->refs = 1;
	e->dir = strdup(dir);
	e->name = strdup(name);
	e->is_dir = is_dir;
	list_init(&e->link);
	if (e->dir == NULL || e->name == NULL) {
		unref_locked(e);
		return NULL;
	}
	return e;
}

/* Into the waiting list at its due time; nearly always at the end. */
static void queue_locked(struct metaq *q, struct mqentry *e)
{
	struct list *at = q->waiting.prev;

	list_del(&e->link);
	while (at != &q->waiting && list_entry(at, struct mqentry, link)->due_ns > e->due_ns)
		at = at->prev;
	list_add_head(at, &e->link);
	cond_broadcast(&q->change);
}

static void insert_locked(struct metaq *q, struct mqentry *e)
{
	htab_add(&q->tab, &e->hash, hash_name(e->dir, e->name, e->is_dir));
	q->n++;
}

/* --- journal ------------------------------------------------------------------------------------------------------ */

static int encode_put(const struct mqentry *e, const struct version *base, const struct obj_headers *h, struct str *out)
{
	struct spj_event ev = { .type = SPJ_META_PUT, .number = e->is_dir, .dir = e->dir, .name = e->name, .v = *base };
	_cleanup_free_ void *enc = NULL;
	size_t n = 0;
	int r = obj_headers_encode(h, &enc, &n);

	if (r < 0)
		return r;
	ev.headers = enc;
	ev.headers_len = n;
	return spj_encode(&ev, out);
}

static int append_locked(struct metaq *q, const struct str *rec)
{
	q->changes++;
	return spj_append_raw(&q->j, rec);
}

static int log_put_locked(struct metaq *q, const struct mqentry *e, const struct version *base,
			  const struct obj_headers *h)
{
	struct str s = { 0 };
	int r = encode_put(e, base, h, &s);

	if (r == 0)
		r = append_locked(q, &s);
	str_free(&s);
	FAILPOINT("metaq.put-logged");
	return r;
}

static int encode_head(struct str *out)
{
	struct spj_event ev = { .type = SPJ_HEADER, .number = SPJ_FORMAT, .name = "metaq" };

	return spj_encode(&ev, out);
}

struct rewrite {
	struct str s;
	int r;
};

static void rewrite_one(struct hnode *n, void *arg)
{
	struct mqentry *e = container_of(n, struct mqentry, hash);
	struct rewrite *w = arg;

	if (w->r == 0)
		w->r = encode_put(e, &e->base, &e->h, &w->s);
}

/* The name of the journal's file, too. */
static void sync_name(struct metaq *q)
{
	const char *slash = strrchr(q->path, '/');
	_cleanup_free_ char *dir = slash ? strndup(q->path, MAX((size_t)(slash - q->path), (size_t)1)) : strdup(".");
	_cleanup_close_ int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	/* an old file under the name says what is no more: as a lost DEL, and only after a power cut */
	if (fd < 0 || fsync(fd) < 0)
		log_warn("%s: its directory cannot be synced", q->path);
}

/* A new file in the place of the old one, which is whole on the disk before; on any failure the old one goes on. */
static void rewrite_locked(struct metaq *q)
{
	struct rewrite w = { .r = 0 };
	struct str tmp = { 0 };
	int fd = -1;

	str_addf(&tmp, "%s.new", q->path);
	w.r = tmp.err ? tmp.err : encode_head(&w.s);
	htab_each(&q->tab, rewrite_one, &w);
	if (w.r == 0)
		fd = open(tmp.p, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0 && base_pwrite_all(fd, w.s.p, w.s.len, 0) == 0 && fdatasync(fd) == 0 && rename(tmp.p, q->path) == 0) {
		base_closep(&q->j.fd);
		q->j = (struct spj){ .fd = fd, .len = w.s.len, .alloc = w.s.len };
		fd = -1;
		sync_name(q);
		q->durable = q->changes;
	}
	base_closep(&fd);
	str_free(&w.s);
	str_free(&tmp);
}

/* After an entry has gone. */
static void tidy_locked(struct metaq *q)
{
	if (q->n == 0 && q->j.len > q->head_len && ftruncate(q->j.fd, (off_t)q->head_len) == 0) {
		q->j = (struct spj){ .fd = q->j.fd, .len = q->head_len, .alloc = q->head_len };
		q->changes++;
	} else if (q->j.len > COMPACT_MIN && q->j.len / 4 > q->live) {
		rewrite_locked(q);
	}
}

/* Everything that the journal says now is on the disk afterwards. Not under the lock: puts go on meanwhile. */
static int make_durable(struct metaq *q)
{
	_cleanup_close_ int fd = -1;
	uint64_t upto;
	bool dirty;
	int r = 0;

	mtx_lock(&q->lock);
	upto = q->changes;
	dirty = q->durable < upto;
	if (dirty)
		fd = fcntl(q->j.fd, F_DUPFD_CLOEXEC, 0);
	if (dirty && fd < 0)
		r = -errno;
	mtx_unlock(&q->lock);
	if (!dirty || r < 0)
		return r;
	if (fdatasync(fd) < 0)
		return -errno;
	mtx_lock(&q->lock);
	q->durable = MAX(q->durable, upto);
	mtx_unlock(&q->lock);
	return 0;
}

static void remove_locked(struct metaq *q, struct mqentry *e)
{
	struct spj_event ev = { .type = SPJ_META_DEL, .number = e->is_dir, .dir = e->dir, .name = e->name };
	struct str s = { 0 };

	/* a DEL that cannot be written: the next mount finds that its base does not hold any more */
	if (spj_encode(&ev, &s) < 0 || append_locked(q, &s) < 0)
		log_warn("%s: cannot be written", q->path);
	str_free(&s);
	htab_del(&q->tab, &e->hash);
	list_del(&e->link);
	q->n--;
	q->live -= entry_bytes(e);
	e->gone = true;
	tidy_locked(q);
	cond_broadcast(&q->change);
	unref_locked(e);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

/* What a sender works on without the lock. */
struct sending {
	struct mqentry *e;
	uint64_t seq;
	unsigned set;
	struct version base, v, found;
	struct obj_headers h;
	bool recovered;
	struct objerr err;
};

/* Errors that the same request will meet again. */
static bool is_final(int r)
{
	return r == -ESTALE || r == -ENOENT || r == -EINVAL || r == -ENOTSUP || r == -ENAMETOOLONG || r == -EISDIR ||
	       r == -ENOTDIR || r == -EFBIG || r == -EROFS || r == -ENODATA;
}

/* Other bytes are there: the mode and owner that were set here on the new object, its own times and everything else. */
static int merge_and_send(struct sending *s)
{
	static const struct attr_defaults def = { .file_mode = 0644, .dir_mode = 0755 };
	struct metaq *q = s->e->q;
	struct entry now = { 0 };
	struct attr ours;
	struct version v = { 0 };
	int r;

	if (s->set == 0)
		return -ESTALE;
	r = tree_lookup(q->o.tree, s->e->dir, s->e->name, TREE_FRESH | TREE_ATTRS, &now, &s->err);
	if (r < 0)
		return r;
	if (now.is_dir != s->e->is_dir) {
		r = -ESTALE;
		goto out;
	}
	s->found = now.v; /* says that *v has foreign bytes, whatever comes of it */
	attr_from_headers(&s->h, s->e->is_dir, now.v.size, 0, &def, &ours);
	if (s->set & ours.have & ATTR_MODE)
		now.attr.mode = (now.attr.mode & S_IFMT) | (ours.mode & 07777);
	if (s->set & ours.have & ATTR_UID)
		now.attr.uid = ours.uid;
	if (s->set & ours.have & ATTR_GID)
		now.attr.gid = ours.gid;
	r = attr_to_headers(&now.attr, &now.headers);
	if (r == 0)
		r = tree_put_headers(q->o.tree, s->e->dir, s->e->name, s->e->is_dir, &now.v, &now.headers, &v, NULL,
				     &s->err);
	if (r == 0) {
		s->base = now.v; /* those bytes carry it now */
		s->v = v;
		obj_headers_free(&s->h);
		s->h = now.headers;
		now.headers = (struct obj_headers){ 0 };
	}
out:
	entry_done(&now);
	return r;
}

static int send_once(struct sending *s)
{
	struct metaq *q = s->e->q;
	int r;

	FAILPOINT("metaq.before-send");
	r = tree_put_headers(q->o.tree, s->e->dir, s->e->name, s->e->is_dir, &s->base, &s->h, &s->v, &s->found, &s->err);
	FAILPOINT("metaq.after-send");
	if (r == 0)
		s->found.etag[0] = 0;
	if (r == -ESTALE && !s->recovered)
		r = merge_and_send(s);
	if (is_final(r))
		log_warn("%s%s: a change of its metadata was dropped: %s", s->e->dir, s->e->name,
			 r == -ESTALE ? "another version was stored meanwhile" :
			 s->err.msg[0] ? s->err.msg : strerror(-r));
	else if (r < 0)
		log_debug("%s%s: metadata will be sent again: %s", s->e->dir, s->e->name,
			  s->err.msg[0] ? s->err.msg : strerror(-r));
	if ((r == 0 || is_final(r)) && q->o.done)
		q->o.done(q->o.arg, s->e->dir, s->e->name, s->e->is_dir, r, &s->base, r == 0 ? &s->v : NULL,
			  s->found.etag[0] ? &s->found : NULL, &s->h);
	return r;
}

static void wait_again_locked(struct metaq *q, struct mqentry *e, int64_t delay_ns)
{
	e->due_ns = clock_now_ns() + delay_ns;
	queue_locked(q, e);
}

static void after_locked(struct sending *s, int r)
{
	struct mqentry *e = s->e;
	struct metaq *q = e->q;

	e->sending = false;
	e->attempt_seq = s->seq;
	e->last_status = r;
	e->last_err = s->err;
	if (r < 0 && !is_final(r)) {
		int64_t delay = clock_backoff_ns(++e->tries, BACKOFF, BACKOFF_MAX, (uint32_t)hash_u64(q->rnd++));

		/* somebody waits for what was put meanwhile: that has not failed yet */
		wait_again_locked(q, e, e->seq != s->seq && e->due_ns == 0 ? 0 : delay);
	} else if (e->seq == s->seq) {
		remove_locked(q, e);
		return;
	} else { /* overtaken: what was put meanwhile was meant for the version that we have just replaced */
		if (r == 0 && s->found.etag[0] == 0 && strcmp(e->base.etag, s->base.etag) == 0)
			e->base = s->v;
		if (log_put_locked(q, e, &e->base, &e->h) < 0)
			log_warn("%s: cannot be written", q->path);
		e->tries = 0;
		wait_again_locked(q, e, e->due_ns ? q->o.delay_ns : 0);
	}
	cond_broadcast(&q->change);
}

static void send_job(struct job *job)
{
	struct mqentry *e = container_of(job, struct mqentry, job);
	struct metaq *q = e->q;
	struct sending s = { .e = e };
	int r;

	mtx_lock(&q->lock);
	s.seq = e->seq;
	s.base = e->base;
	s.set = e->set;
	s.recovered = e->recovered;
	r = obj_headers_copy(&s.h, &e->h);
	e->refs++;
	mtx_unlock(&q->lock);
	if (r == 0)
		r = send_once(&s);
	mtx_lock(&q->lock);
	after_locked(&s, r);
	unref_locked(e);
	mtx_unlock(&q->lock);
	obj_headers_free(&s.h);
}

static void *queue_thread(void *arg)
{
	struct metaq *q = arg;

	mtx_lock(&q->lock);
	while (!q->stopping) {
		struct mqentry *e;

		if (list_empty(&q->waiting)) {
			cond_wait(&q->change, &q->lock); /* no wake-up while idle */
			continue;
		}
		e = list_entry(q->waiting.next, struct mqentry, link);
		if (e->due_ns > clock_now_ns()) {
			(void)cond_wait_until(&q->change, &q->lock, e->due_ns);
			continue;
		}
		list_del(&e->link);
		e->sending = true;
		e->job.fn = send_job;
		pool_submit(q->pool, &e->job);
	}
	mtx_unlock(&q->lock);
	return NULL;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static int replay_put(struct metaq *q, const struct spj_event *ev)
{
	struct mqentry *e = find_locked(q, ev->dir, ev->name, ev->number);
	struct obj_headers h = { 0 };
	int r = obj_headers_decode(ev->headers, ev->headers_len, &h);

	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	if (e == NULL) {
		e = entry_new(q, ev->dir, ev->name, ev->number);
		if (e == NULL) {
			obj_headers_free(&h);
			return -ENOMEM;
		}
		insert_locked(q, e);
		queue_locked(q, e);
	} else {
		q->live -= entry_bytes(e);
	}
	obj_headers_free(&e->h);
	e->h = h;
	e->base = ev->v;
	e->seq++;
	e->recovered = true;
	q->live += entry_bytes(e);
	return 0;
}

static int replay(void *arg, const struct spj_event *ev)
{
	struct metaq *q = arg;
	struct mqentry *e;

	switch (ev->type) {
	case SPJ_HEADER:
		return strcmp(ev->name, "metaq") == 0 ? 0 : -EBADMSG;
	case SPJ_META_PUT:
		return replay_put(q, ev);
	case SPJ_META_DEL:
		e = find_locked(q, ev->dir, ev->name, ev->number);
		if (e) {
			htab_del(&q->tab, &e->hash);
			list_del(&e->link);
			q->n--;
			q->live -= entry_bytes(e);
			unref_locked(e);
		}
		return 0;
	default:
		return -EBADMSG;
	}
}

static int write_head(struct metaq *q)
{
	struct str s = { 0 };
	int r = encode_head(&s);

	if (r == 0)
		r = base_pwrite_all(q->j.fd, s.p, s.len, 0);
	if (r == 0)
		q->j.len = q->j.alloc = s.len;
	str_free(&s);
	return r;
}

static int read_journal(struct metaq *q)
{
	_cleanup_free_ void *p = NULL;
	struct stat st;
	size_t used = 0;
	int r;

	if (fstat(q->j.fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return write_head(q);
	p = malloc((size_t)st.st_size);
	if (p == NULL)
		return -ENOMEM;
	r = base_pread_all(q->j.fd, p, (size_t)st.st_size, 0);
	if (r == 0)
		r = spj_decode(p, (size_t)st.st_size, replay, q, &used);
	/* once more from the start: what a name has last is what counts */
	if (r == -EBADMSG && spj_salvage(p, (size_t)st.st_size, replay, q) == -ENOMEM)
		r = -ENOMEM;
	if (r == 0 && ftruncate(q->j.fd, (off_t)used) < 0)
		r = -errno;
	if (r == 0)
		q->j.len = q->j.alloc = used;
	return r;
}

static int open_journal(struct metaq *q)
{
	struct str bad = { 0 }, head = { 0 };
	int r = encode_head(&head);

	q->head_len = head.len;
	str_free(&head);
	if (r < 0)
		return r;
	q->j.fd = open(q->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (q->j.fd < 0)
		return -errno;
	q->changes = 1; /* what is there may be in the page cache */
	r = read_journal(q);
	if (r != -EBADMSG)
		return r;
	/* what could be read is sent all the same: its base is checked */
	str_addf(&bad, "%s.damaged", q->path);
	log_error("%s: damaged, kept as %s; changes of metadata of the last seconds before a power cut may be lost", q->path,
		  str_c(&bad));
	r = bad.err ? bad.err : unlink(bad.p) < 0 && errno != ENOENT ? -errno : link(q->path, bad.p) < 0 ? -errno : 0;
	str_free(&bad);
	if (r == 0)
		rewrite_locked(q);
	if (r == 0 && q->j.len == 0)
		r = -EIO;
	return r;
}

int metaq_open(const struct metaq_opts *o, struct metaq **ret, struct objerr *err)
{
	struct metaq *q = calloc(1, sizeof(*q));
	int r;

	if (q == NULL)
		return -ENOMEM;
	q->o = *o;
	q->j.fd = -1;
	q->rnd = (uint64_t)clock_real_ns();
	mtx_init(&q->lock, RANK_SPOOL);
	cond_init(&q->change);
	list_init(&q->waiting);
	q->path = strdup(o->path);
	r = q->path ? htab_init(&q->tab) : -ENOMEM;
	if (r == 0)
		r = open_journal(q);
	if (r == 0)
		r = pool_new("lsvd-meta", o->workers ? o->workers : WORKERS, &q->pool);
	if (r == 0) {
		r = -pthread_create(&q->thread, NULL, queue_thread, q);
		q->thread_on = r == 0;
	}
	if (r < 0) {
		if (err)
			objerr_set(err, "%s: %s", o->path, strerror(-r));
		metaq_close(q);
		return r;
	}
	*ret = q;
	return 0;
}

static void drop_entry(struct hnode *n, void *arg)
{
	struct metaq *q = arg;
	struct mqentry *e = container_of(n, struct mqentry, hash);

	htab_del(&q->tab, n);
	unref_locked(e);
}

void metaq_close(struct metaq *q)
{
	if (q == NULL)
		return;
	mtx_lock(&q->lock);
	q->stopping = true;
	cond_broadcast(&q->change);
	mtx_unlock(&q->lock);
	if (q->thread_on)
		pthread_join(q->thread, NULL);
	pool_free(q->pool);
	if (q->tab.bucket) {
		htab_each(&q->tab, drop_entry, q);
		htab_done(&q->tab);
	}
	base_closep(&q->j.fd);
	cond_destroy(&q->change);
	mtx_destroy(&q->lock);
	free(q->path);
	free(q);
}

/* --- calls -------------------------------------------------------------------------------------------------------- */

static int put_locked(struct metaq *q, const char *dir, const char *name, bool is_dir, const struct version *base,
		      struct obj_headers *h, unsigned set)
{
	struct mqentry *e = find_locked(q, dir, name, is_dir);
	bool fresh = e == NULL;
	int r;

	if (fresh)
		e = entry_new(q, dir, name, is_dir);
	if (e == NULL)
		return -ENOMEM;
	r = log_put_locked(q, e, base, h);
	if (r < 0) {
		if (fresh)
			unref_locked(e);
		return r;
	}
	if (fresh) {
		insert_locked(q, e);
		e->due_ns = clock_now_ns() + q->o.delay_ns;
		queue_locked(q, e);
	} else {
		q->live -= entry_bytes(e);
	}
	obj_headers_free(&e->h);
	e->h = *h;
	*h = (struct obj_headers){ 0 };
	e->base = *base;
	e->recovered = false;
	e->set |= set;
	e->seq++;
	q->live += entry_bytes(e);
	return 0;
}

int metaq_put(struct metaq *q, const char *dir, const char *name, bool is_dir, const struct version *base,
	      const struct obj_headers *h, unsigned set)
{
	struct obj_headers copy = { 0 };
	int r = obj_headers_copy(&copy, h);

	if (r < 0)
		return r;
	mtx_lock(&q->lock);
	r = put_locked(q, dir, name, is_dir, base, &copy, set);
	if (r == 0 && q->j.len > COMPACT_MIN && q->j.len / 4 > q->live)
		rewrite_locked(q);
	mtx_unlock(&q->lock);
	obj_headers_free(&copy);
	return r;
}

int metaq_peek(struct metaq *q, const char *dir, const char *name, bool is_dir, struct obj_headers *ret)
{
	struct mqentry *e;
	int r = -ENOENT;

	mtx_lock(&q->lock);
	e = find_locked(q, dir, name, is_dir);
	if (e)
		r = obj_headers_copy(ret, &e->h);
	mtx_unlock(&q->lock);
	return r;
}

int metaq_take(struct metaq *q, const char *dir, const char *name, bool is_dir, struct obj_headers *ret)
{
	struct mqentry *e;
	int r = 0;

	mtx_lock(&q->lock);
	while ((e = find_locked(q, dir, name, is_dir)) != NULL && e->sending)
		cond_wait(&q->change, &q->lock);
	if (e == NULL)
		r = -ENOENT;
	else if (ret)
		r = obj_headers_copy(ret, &e->h);
	if (r == 0)
		remove_locked(q, e);
	mtx_unlock(&q->lock);
	return r;
}

static void hurry_locked(struct metaq *q, struct mqentry *e)
{
	if (e->sending) {
		e->due_ns = 0; /* should it be overtaken, the rest goes at once */
		return;
	}
	list_del(&e->link);
	e->due_ns = 0;
	list_add_head(&q->waiting, &e->link);
	cond_broadcast(&q->change);
}

/* Waits for the outcome of what stands in the entry now. The caller holds a reference. */
static int await_locked(struct metaq *q, struct mqentry *e, uint64_t seq, uint64_t tries, struct objerr *err)
	REQUIRES(q->lock)
{
	while (!e->gone && !q->stopping &&
	       !(e->attempt_seq >= seq && (e->last_status == 0 || e->tries > tries)))
		cond_wait(&q->change, &q->lock);
	if (e->attempt_seq < seq) /* taken by a PUT or a rename that carries it, or by the end of the mount */
		return e->gone ? 0 : -EINTR;
	if (e->last_status < 0 && err)
		*err = e->last_err;
	return e->last_status;
}

int metaq_sync(struct metaq *q, const char *dir, const char *name, bool is_dir, struct objerr *err)
{
	struct mqentry *e;
	int r = 0;

	mtx_lock(&q->lock);
	e = find_locked(q, dir, name, is_dir);
	if (e) {
		e->refs++;
		hurry_locked(q, e);
		r = await_locked(q, e, e->seq, e->tries, err);
		unref_locked(e);
	}
	mtx_unlock(&q->lock);
	return r < 0 ? r : make_durable(q);
}

struct below {
	const char *dir;
	struct waited {
		struct mqentry *e;
		uint64_t seq, tries;
	} *v;
	size_t n, cap;
	int r;
};

/* Below dir, or dir itself. */
static bool is_below(const struct mqentry *e, const char *dir)
{
	size_t n = strlen(e->dir), k = strlen(e->name);

	if (str_has_prefix(e->dir, dir))
		return true;
	return e->is_dir && strlen(dir) == n + k + 1 && strncmp(dir, e->dir, n) == 0 && strncmp(dir + n, e->name, k) == 0;
}

static void collect(struct hnode *n, void *arg)
{
	struct mqentry *e = container_of(n, struct mqentry, hash);
	struct below *b = arg;

	if (b->r < 0 || !is_below(e, b->dir))
		return;
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 64;
		struct waited *v = realloc(b->v, cap * sizeof(*v));

		if (v == NULL) {
			b->r = -ENOMEM;
			return;
		}
		b->v = v;
		b->cap = cap;
	}
	e->refs++;
	b->v[b->n++] = (struct waited){ .e = e, .seq = e->seq, .tries = e->tries };
}

int metaq_sync_below(struct metaq *q, const char *dir, struct objerr *err)
{
	struct below b = { .dir = dir };
	int r;

	mtx_lock(&q->lock);
	htab_each(&q->tab, collect, &b);
	r = b.r;
	for (size_t i = 0; i < b.n; i++)
		hurry_locked(q, b.v[i].e);
	for (size_t i = 0; i < b.n; i++) {
		struct objerr one = { 0 };
		int k = b.r < 0 ? 0 : await_locked(q, b.v[i].e, b.v[i].seq, b.v[i].tries, &one);

		/* Times of a version that another one has replaced: nothing is left to set them on, now or later. */
		if (k == -ESTALE && b.v[i].e->set == 0)
			k = 0;
		if (k < 0 && r == 0) {
			r = k;
			if (err)
				*err = one;
		}
		unref_locked(b.v[i].e);
	}
	mtx_unlock(&q->lock);
	free(b.v);
	return r < 0 ? r : make_durable(q);
}

uint64_t metaq_count(struct metaq *q)
{
	uint64_t n;

	mtx_lock(&q->lock);
	n = q->n;
	mtx_unlock(&q->lock);
	return n;
}
