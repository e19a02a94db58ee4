/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spfile.c - one spool file: its life, reads of what is local, writes. Invariants in spool-private.h.
 *
 * Every change runs the same way: wait until no upload has the file sealed, reserve journal space, go to OPEN, note the
 * change in memory (`dirty`, parts to send again: too much is harmless), change the data file, then journal what became
 * local, then mark it local. A failure in the middle leaves bytes that may differ from before inside the range of the
 * failed call, as with write(2) on any file system; it never leaves a journal that promises too much.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/failpoint.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Journal bytes to have before a change. A cut, which is what helps against a full disk, is content with less: what the
 * others ask for beyond their need is its reserve, and that of a commit's records.
 */
#define ROOM_CHANGE 1024
#define ROOM_CUT 128

int sp_alloc(struct spool *s, struct spfile **ret)
{
	struct spfile *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -ENOMEM;
	f->s = s;
	f->dirfd = s->dirfd;
	f->fd = f->j.fd = -1;
	list_init(&f->link);
	list_init(&f->acked_link);
	list_init(&f->fetches);
	mtx_init(&f->lock, RANK_SPFILE);
	cond_init(&f->change);
	f->state = SP_OPEN;
	*ret = f;
	return 0;
}

void sp_forget_move(struct spfile *f)
{
	free(f->before_move.key);
	free(f->before_move.dir);
	free(f->before_move.name);
	f->before_move.key = f->before_move.dir = f->before_move.name = NULL;
}

void sp_release(struct spfile *f)
{
	sp_unlink(f);
	base_closep(&f->fd);
	base_closep(&f->j.fd);
	ranges_clear(&f->have);
	ranges_clear(&f->dirty);
	obj_headers_free(&f->headers);
	spmpu_free(f->mpu);
	sp_forget_move(f);
	free(f->tries);
	free(f->dir);
	free(f->name);
	free(f->key);
	free(f->src_key);
	cond_destroy(&f->change);
	mtx_destroy(&f->lock);
	free(f);
}

void sp_unlink_files(struct spfile *f)
{
	char name[SP_ID_MAX];

	/* the journal last: data without a journal would look like a damaged file */
	if (sp_data_name(f->id, name) == 0)
		(void)unlinkat(f->dirfd, name, 0);
	FAILPOINT("spool.unlink-between");
	if (sp_journal_name(f->id, name) == 0)
		(void)unlinkat(f->dirfd, name, 0);
}

int sp_set_names(struct spfile *f, const char *dir, const char *name)
{
	char *d = strdup(dir), *n = strdup(name), *key = NULL;
	int r = d && n ? path_key(f->s->prefix, dir, name, false, &key) : -ENOMEM;

	if (r < 0) {
		free(d);
		free(n);
		return r;
	}
	free(f->dir);
	free(f->name);
	free(f->key);
	f->dir = d;
	f->name = n;
	f->key = key;
	return 0;
}

int sp_clean_headers(struct obj_headers *h)
{
	int r = obj_headers_set(h, "x-amz-meta-lsvd-put", NULL);

	return r < 0 ? r : obj_headers_set(h, "x-amz-meta-lsvd-was", NULL);
}

static int make_files(struct spfile *f)
{
	char name[SP_ID_MAX];
	int r = sp_journal_name(f->id, name);

	if (r < 0)
		return r;
	f->j.fd = openat(f->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f->j.fd < 0)
		return -errno;
	r = sp_data_name(f->id, name);
	if (r < 0)
		return r;
	f->fd = openat(f->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (f->fd < 0)
		return -errno;
	if (f->size > 0 && ftruncate(f->fd, (off_t)f->size) < 0)
		return -errno;
	return 0;
}

/* The first records, in one write. */
static int write_header(struct spfile *f, bool whole)
{
	_cleanup_free_ void *enc = NULL;
	struct str s = { 0 };
	size_t n = 0;
	struct spj_event ev = { .type = SPJ_HEADER, .number = SPJ_FORMAT, .ino = f->ino, .time_s = f->created_s,
				.whole = whole, .text = f->boot, .dir = f->dir, .name = f->name, .v = f->base };
	int r = obj_headers_encode(&f->headers, &enc, &n);

	if (r < 0)
		return r;
	ev.headers = enc;
	ev.headers_len = n;
	r = spj_encode(&ev, &s);
	if (r == 0 && f->state != SP_OPEN) {
		ev = (struct spj_event){ .type = SPJ_STATE, .number = f->state };
		r = spj_encode(&ev, &s);
	}
	if (r == 0)
		r = spj_append_raw(&f->j, &s);
	str_free(&s);
	return r;
}

int spfile_new(struct spool *s, const char *dir, const char *name, uint64_t ino, const struct version *base,
	       const struct obj_headers *h, bool whole, struct spfile **ret)
{
	struct spfile *f;
	int r = sp_alloc(s, &f);

	if (r < 0)
		return r;
	f->ino = ino;
	f->created_s = clock_real_ns() / NSEC_PER_SEC;
	r = str_copy(f->boot, sizeof(f->boot), s->boot);
	if (r == 0)
		r = sp_set_names(f, dir, name);
	if (r == 0 && h)
		r = obj_headers_copy(&f->headers, h);
	if (r == 0)
		r = sp_clean_headers(&f->headers);
	if (r < 0)
		goto fail;
	if (base)
		f->base = *base;
	if (base && !whole) {
		f->src = *base;
		f->src_key = strdup(f->key);
		if (f->src_key == NULL) {
			r = -ENOMEM;
			goto fail;
		}
		f->size = f->base_limit = f->same_limit = base->size;
		f->state = SP_CLEAN;
	} else {
		f->wseq = 1; /* an empty object that the bucket does not have */
	}
	f->id = sp_new_id(s);
	r = make_files(f);
	FAILPOINT("spool.made");
	if (r == 0)
		r = write_header(f, whole || base == NULL);
	if (r < 0) {
		sp_unlink_files(f);
		goto fail;
	}
	sp_link(f);
	*ret = f;
	return 0;
fail:
	sp_release(f);
	return r;
}

bool sp_dirty_locked(const struct spfile *f)
{
	return f->state == SP_ACKED || f->wseq != f->cseq || f->forced || f->base.etag[0] == 0;
}

bool sp_local_locked(const struct spfile *f, uint64_t start, uint64_t end)
{
	return ranges_covers(&f->have, start, MIN(end, f->base_limit));
}

void spfile_free(struct spfile *f)
{
	struct spool *s = f->s;
	bool clean;

	mtx_lock(&s->lock);
	if (f->acked != ACKED_NOT) { /* the queue goes on with it and frees it */
		f->detached = true;
		mtx_unlock(&s->lock);
		return;
	}
	mtx_unlock(&s->lock);
	sp_quiesce(f);
	mtx_lock(&f->lock);
	clean = f->state != SP_PARKED && !sp_dirty_locked(f);
	mtx_unlock(&f->lock);
	if (clean) {
		sp_abort_upload(f);
		sp_unlink_files(f);
	}
	sp_release(f);
}

void spfile_discard(struct spfile *f)
{
	sp_quiesce(f);
	mtx_lock(&f->lock);
	f->bg_stop = true;
	mtx_unlock(&f->lock);
	sp_abort_upload(f);
	if (f->state != SP_PARKED)
		sp_unlink_files(f);
	sp_release(f);
}

/* --- facts -------------------------------------------------------------------------------------------------------- */

uint64_t spfile_size(struct spfile *f)
{
	uint64_t size;

	mtx_lock(&f->lock);
	size = f->size;
	mtx_unlock(&f->lock);
	return size;
}

bool spfile_dirty(struct spfile *f)
{
	bool dirty;

	mtx_lock(&f->lock);
	dirty = sp_dirty_locked(f);
	mtx_unlock(&f->lock);
	return dirty;
}

bool spfile_busy(struct spfile *f)
{
	bool busy;

	mtx_lock(&f->lock);
	busy = f->uploading || f->state == SP_ACKED;
	mtx_unlock(&f->lock);
	return busy;
}

uint64_t spfile_stored(struct spfile *f)
{
	struct stat st;

	return fstat(f->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

ssize_t spfile_read_local(struct spfile *f, void *buf, size_t n, uint64_t off)
{
	ssize_t r = 0;

	mtx_lock(&f->lock);
	if (off < f->size && n > 0) {
		n = (size_t)MIN((uint64_t)n, f->size - off);
		r = sp_local_locked(f, off, off + n) ? base_pread_all(f->fd, buf, n, off) : -EAGAIN;
		if (r == 0)
			r = (ssize_t)n;
		else if (r == -ENODATA)
			r = -EIO; /* the data file is shorter than it was made */
	}
	mtx_unlock(&f->lock);
	return r;
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

int sp_log_state_locked(struct spfile *f, enum spstate st)
{
	struct spj_event ev = { .type = SPJ_STATE, .number = st };

	if (f->nameless)
		return 0; /* its last state is written: gone */
	return spj_append(&f->j, &ev);
}

/* Common start of every change; see the top of this file. */
static int begin_change_locked(struct spfile *f, size_t room) REQUIRES(f->lock)
{
	int r;

	while (f->uploading || f->state == SP_ACKED)
		cond_wait(&f->change, &f->lock);
	if (f->state == SP_PARKED || f->state == SP_GONE)
		return -ESTALE;
	r = spj_reserve(&f->j, room);
	if (r < 0)
		return r;
	if (f->state != SP_OPEN) {
		r = sp_log_state_locked(f, SP_OPEN);
		if (r < 0)
			return r;
		f->state = SP_OPEN;
	}
	sp_forget_move(f);
	return 0;
}

static uint64_t size_max(struct spool *s)
{
	return obj_caps(s->o.store) & OBJ_CAP_MULTIPART ? SP_SIZE_MAX : s->put_max;
}

/* Notes in memory that [start, end) will differ from the source. */
static int note_dirty_locked(struct spfile *f, uint64_t start, uint64_t end)
{
	int r = ranges_add(&f->dirty, start, MIN(end, f->same_limit));

	if (r == 0)
		r = sp_invalidate_parts_locked(f, start, end);
	if (r == 0)
		f->wseq++;
	return r;
}

/* The data file holds [start, end) now: says so in the journal, unless it follows from earlier records. */
static int note_have_locked(struct spfile *f, uint64_t start, uint64_t end, bool known)
{
	struct spj_event ev = { .type = SPJ_RANGE, .off = start };
	int r = 0;

	end = MIN(end, f->base_limit);
	if (start >= end)
		return 0;
	ev.len = end - start;
	if (!known || f->journal_all)
		r = spj_append(&f->j, &ev);
	if (r == 0)
		r = ranges_add(&f->have, start, end);
	return r;
}

/* Zeroes in place; what the file system cannot punch is written. */
static int zero_data(int fd, uint64_t off, uint64_t n)
{
	static const char zeros[65536];
	int r = 0;

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	while (n > 0 && r == 0) {
		size_t k = (size_t)MIN(n, (uint64_t)sizeof(zeros));

		r = base_pwrite_all(fd, zeros, k, off);
		off += k;
		n -= k;
	}
	return r;
}

/* buf NULL: zeroes. */
static int change_locked(struct spfile *f, const void *buf, uint64_t n, uint64_t off)
{
	uint64_t end = off + n, local_end = MIN(end, f->base_limit);
	bool known = ranges_covers(&f->dirty, off, local_end) && ranges_covers(&f->have, off, local_end);
	int r = note_dirty_locked(f, off, end);

	if (r < 0) {
		f->journal_all = true;
		return r;
	}
	FAILPOINT("spool.before-data");
	if (buf)
		r = base_pwrite_all(f->fd, buf, (size_t)n, off);
	else if (end > f->size && ftruncate(f->fd, (off_t)end) < 0)
		r = -errno;
	if (r == 0 && buf == NULL && off < f->size)
		r = zero_data(f->fd, off, MIN(end, f->size) - off);
	if (r < 0) {
		f->journal_all = true;
		if (end > f->size && ftruncate(f->fd, (off_t)f->size) < 0)
			f->j.broken = -EIO; /* the size is what the data file says: nothing may build on it */
		return r;
	}
	FAILPOINT("spool.after-data");
	f->size = MAX(f->size, end);
	r = note_have_locked(f, off, end, known);
	if (r < 0)
		f->journal_all = true;
	return r;
}

static int write_at(struct spfile *f, const void *buf, size_t n, uint64_t off, bool append, uint64_t *ret_off)
{
	int r = 0;

	mtx_lock(&f->lock);
	if (n > 0)
		r = begin_change_locked(f, ROOM_CHANGE);
	if (append)
		off = f->size;
	if (r == 0 && (off > size_max(f->s) || n > size_max(f->s) - off))
		r = -EFBIG;
	if (r == 0 && n > 0) {
		r = change_locked(f, buf, n, off);
		if (r == 0)
			sp_bg_kick_locked(f, off, n);
	}
	if (r == 0 && ret_off)
		*ret_off = off;
	mtx_unlock(&f->lock);
	return r;
}

int spfile_write(struct spfile *f, const void *buf, size_t n, uint64_t off)
{
	return write_at(f, buf, n, off, false, NULL);
}

int spfile_append(struct spfile *f, const void *buf, size_t n, uint64_t *ret_off)
{
	return write_at(f, buf, n, 0, true, ret_off);
}

int spfile_zero(struct spfile *f, uint64_t off, uint64_t n, bool grow)
{
	uint64_t end;
	int r;

	mtx_lock(&f->lock);
	r = begin_change_locked(f, ROOM_CHANGE);
	if (r == 0 && (off > size_max(f->s) || n > size_max(f->s) - off)) {
		r = grow ? -EFBIG : 0;
		n = off < f->size ? f->size - off : 0;
	}
	end = off + n;
	if (!grow)
		end = MIN(end, f->size);
	if (r == 0 && end > off)
		r = change_locked(f, NULL, end - off, off);
	mtx_unlock(&f->lock);
	return r;
}

static int shrink_locked(struct spfile *f, uint64_t size)
{
	struct spj_event ev = { .type = SPJ_TRUNC, .off = size };
	struct str rec = { 0 };
	int r = sp_invalidate_parts_locked(f, size, f->size);

	if (r == 0)
		r = spj_encode(&ev, &rec); /* now: there is no way back from the cut */
	if (r == 0) {
		f->wseq++;
		if (ftruncate(f->fd, (off_t)size) < 0)
			r = -errno;
	}
	if (r < 0)
		goto out;
	FAILPOINT("spool.after-cut");
	f->size = size;
	/* behind the cut: a record in front of it would make the old bytes count as written after a kill between the two.
	 * Space is reserved; should the append fail all the same, the journal takes nothing more. */
	if (size < f->base_limit) {
		r = spj_append_raw(&f->j, &rec);
		if (r < 0)
			f->j.broken = r;
	}
	f->base_limit = MIN(f->base_limit, size);
	f->same_limit = MIN(f->same_limit, size);
	ranges_cut(&f->have, size);
	ranges_cut(&f->dirty, size);
out:
	str_free(&rec);
	return r;
}

int spfile_truncate(struct spfile *f, uint64_t size)
{
	int r;

	mtx_lock(&f->lock);
	if (size > size_max(f->s)) {
		r = -EFBIG;
		goto out;
	}
	if (size == f->size && !f->uploading) {
		r = 0;
		goto out;
	}
	r = begin_change_locked(f, size < f->size ? ROOM_CUT : ROOM_CHANGE);
	if (r == 0 && size < f->size) {
		r = shrink_locked(f, size);
	} else if (r == 0 && size > f->size) {
		f->wseq++;
		if (ftruncate(f->fd, (off_t)size) < 0)
			r = -errno;
		else
			f->size = size;
	}
out:
	mtx_unlock(&f->lock);
	return r;
}

int spfile_allocate(struct spfile *f, uint64_t off, uint64_t n)
{
	uint64_t end = off + n;
	int r;

	mtx_lock(&f->lock);
	r = begin_change_locked(f, ROOM_CHANGE);
	if (r == 0 && (off > size_max(f->s) || n > size_max(f->s) - off))
		r = -EFBIG;
	if (r == 0 && n > 0) {
		if (end > f->size)
			f->wseq++;
		if (fallocate(f->fd, 0, (off_t)off, (off_t)n) < 0) {
			r = errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -errno;
			if (r == 0 && end > f->size && ftruncate(f->fd, (off_t)end) < 0)
				r = -errno;
			/* a full disk may have let the size grow half way */
			if (r < 0 && end > f->size && ftruncate(f->fd, (off_t)f->size) < 0)
				f->j.broken = -EIO;
		}
		if (r == 0)
			f->size = MAX(f->size, end);
	}
	mtx_unlock(&f->lock);
	return r;
}

/* --- headers and names -------------------------------------------------------------------------------------------- */

int spfile_set_headers(struct spfile *f, const struct obj_headers *h)
{
	struct spj_event ev = { .type = SPJ_HEADERS };
	_cleanup_free_ void *enc = NULL;
	struct obj_headers copy = { 0 };
	size_t n = 0;
	int r = obj_headers_copy(&copy, h);

	if (r == 0)
		r = sp_clean_headers(&copy);
	if (r == 0)
		r = obj_headers_encode(&copy, &enc, &n);
	if (r < 0)
		goto out;
	ev.headers = enc;
	ev.headers_len = n;
	mtx_lock(&f->lock);
	if (!obj_headers_equal(&copy, &f->headers)) {
		r = spj_append(&f->j, &ev);
		if (r == 0) {
			obj_headers_free(&f->headers);
			f->headers = copy;
			copy = (struct obj_headers){ 0 };
			f->hseq++;
		}
	}
	mtx_unlock(&f->lock);
out:
	obj_headers_free(&copy);
	return r;
}

void sp_seal_locked(struct spfile *f)
{
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	f->uploading = true;
}

void sp_unseal_locked(struct spfile *f)
{
	if (f->rebase.due) /* not journaled: a crash finds another version, and looks whose bytes it has */
		sp_best_effort(sp_rebase_locked(f, f->key, &f->rebase.from, &f->rebase.to));
	f->rebase.due = false;
	f->uploading = false;
	cond_broadcast(&f->change);
}

void sp_quiesce(struct spfile *f)
{
	struct spool *s = f->s;

	mtx_lock(&s->lock);
	while (f->acked == ACKED_RUNNING) /* a run that fails puts it into the queue again */
		cond_wait(&s->change, &s->lock);
	if (f->acked == ACKED_QUEUED)
		list_del(&f->acked_link);
	f->acked = ACKED_NOT;
	mtx_unlock(&s->lock);
	mtx_lock(&f->lock);
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	f->bg_stop = true;
	sp_bg_wait_locked(f);
	mtx_unlock(&f->lock);
}
