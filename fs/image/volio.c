/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volio.c - reads and writes of bytes: down to whole sectors, into the journal, out of wherever the map says.
 *
 * A write of whole sectors within the image shares the volume with others; one that touches parts of sectors, or
 * grows the image, is alone, since it reads before it writes. Record order in the journal is the order of writes.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_MAX = 1 << 20, PIECES = 64, ROUND = 8192 /* sectors that are read at once */ };

/* ---- into the journal ---- */

int vol_close_batch_locked(struct volume *v)
{
	int r;

	/* One without extents counts: a larger size has none, and somebody may wait for it. */
	if (v->dirty_since == 0 || v->nclosed == VOL_CLOSED_MAX)
		return 0;
	r = map_close_batch(v->map);
	if (r < 0)
		return r;
	v->closed_jseq[(v->closed_at + v->nclosed) % VOL_CLOSED_MAX] = v->jseq;
	v->closed_size[(v->closed_at + v->nclosed) % VOL_CLOSED_MAX] = v->size;
	v->nclosed++;
	v->dirty_since = 0;
	cond_broadcast(&v->work);
	return 0;
}

int vol_take_record_locked(struct volume *v, enum jtype type, uint64_t seq, uint64_t off, uint64_t len, uint64_t where)
{
	enum em_kind kind = type == J_WRITE ? EM_JOURNAL : type == J_ZERO ? EM_ZERO : EM_HOLE;
	struct map_batch b;
	int r = 0;

	if (type == J_RESIZE) {
		/* Behind the new end: holes; growing needs nothing. The object's header carries the size. */
		uint64_t from = (off + SECTOR - 1) / SECTOR;

		if (off < v->size)
			r = map_pending(v->map, from, IMG_SECTORS_MAX - from, EM_HOLE, 0);
		v->size = off;
	} else {
		r = map_pending(v->map, off / SECTOR, len / SECTOR, kind, where);
		v->size = MAX(v->size, type == J_WRITE ? MIN(off + len, IMG_SECTORS_MAX * SECTOR) : 0);
	}
	v->jseq = seq;
	if (v->dirty_since == 0) {
		v->dirty_since = clock_now_ns();
		cond_broadcast(&v->work); /* it ages from now on */
	}
	map_batch(v->map, &b);
	/* A size belongs to one object: what comes after another size goes to the next one. */
	if (r == 0 &&
	    (b.data_sectors * SECTOR >= v->batch_bytes || b.extents >= LOG_HEADER_MAX / 64 || type == J_RESIZE))
		r = vol_close_batch_locked(v);
	return r;
}

struct record {
	struct volume *v;
	enum jtype type;
	uint64_t off, len;
};

static void on_append(void *arg, uint64_t seq, uint64_t where)
{
	struct record *rec = arg;
	struct volume *v = rec->v;

	mtx_lock(&v->batch);
	if (vol_take_record_locked(v, rec->type, seq, rec->off, rec->len, where) < 0)
		v->broken = true;
	mtx_unlock(&v->batch);
}

/* now: -EAGAIN if the journal would have to wait. */
static int journal_do(struct volume *v, enum jtype type, uint64_t off, uint64_t len, const struct iovec *iov, bool now)
{
	struct record rec = {v, type, off, len};
	uint64_t seq;
	int r = now ? journal_append_now(v->journal, off, len, iov, on_append, &rec, &seq)
		    : journal_append(v->journal, type, off, len, iov, iov != NULL, on_append, &rec, &seq);
	bool broken;

	if (r == -EAGAIN)
		return r;
	mtx_lock(&v->batch);
	broken = v->broken;
	mtx_unlock(&v->batch);
	if (r == -EIO)
		vol_fail(v, VOL_FAILED, "the journal could not be written");
	else if (broken)
		vol_fail(v, VOL_FAILED, "out of memory for the map");
	/* Only a volume that failed or was fenced has its journal stopped. */
	return broken || r == -ESHUTDOWN ? -EIO : r;
}

static int journal_put(struct volume *v, enum jtype type, uint64_t off, uint64_t len, const struct iovec *iov)
{
	return journal_do(v, type, off, len, iov, false);
}

/* ---- who may write at the same time ---- */

static void enter(struct volume *v, bool alone)
{
	mtx_lock(&v->lock);
	while (v->exclusive || (alone && v->shared > 0))
		cond_wait(&v->changed, &v->lock);
	if (alone)
		v->exclusive = true;
	else
		v->shared++;
	mtx_unlock(&v->lock);
}

static void leave(struct volume *v, bool alone)
{
	mtx_lock(&v->lock);
	if (alone)
		v->exclusive = false;
	else
		v->shared--;
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
}

/* ---- out of the map ---- */

/* An object that is not durable: its bytes are here. -ENOENT: it is not among them (any more). */
static int read_put(struct volume *v, const struct em_ext *p, void *out)
{
	struct vol_put *u;
	uint64_t off, len;
	struct objerr err;
	int r = -ENOENT;

	mtx_lock(&v->batch);
	for (;;) {
		for (u = v->puts; u != NULL && u->put.number != p->number; u = u->next)
			;
		if (u == NULL || u->ready)
			break;
		cond_wait(&v->work, &v->batch);
	}
	if (u != NULL) {
		logobj_range(p->sector, (uint32_t)p->len, &off, &len);
		r = logobj_extract((char *)u->put.bytes + off, MIN(len, u->put.len - off), v->uuid, p->number,
				   p->sector, (uint32_t)p->len, out, &err);
	}
	mtx_unlock(&v->batch);
	return r;
}

/* -ENOENT: in an object that is durable. */
static int read_piece(struct volume *v, const struct em_ext *p, void *out)
{
	switch (p->kind) {
	case EM_JOURNAL:
		return journal_read(v->journal, p->where, out, p->len * SECTOR);
	case EM_LOG:
		return read_put(v, p, out);
	default:
		memset(out, 0, p->len * SECTOR);
		return 0;
	}
}

/* k pieces that follow each other: what is here first, then all that lies in the store at once. */
static int read_pieces(struct volume *v, const struct em_ext *p, int k, uint8_t *out)
{
	struct fetch_piece want[PIECES];
	struct objerr err = {0};
	size_t n = 0;
	int r = 0;

	for (int i = 0; i < k && r == 0; i++) {
		r = read_piece(v, &p[i], out);
		if (r == -ENOENT && p[i].kind == EM_LOG) {
			want[n++] = (struct fetch_piece){p[i].number, p[i].sector, (uint32_t)p[i].len, out};
			r = 0;
		}
		out += p[i].len * SECTOR;
	}
	if (r == 0 && n > 0)
		r = vol_read_log(v, want, n, &err);
	if (err.msg[0] != '\0' && (r == -EUCLEAN || r == -ENOENT))
		vol_note(v, "%s", err.msg);
	return r;
}

int vol_read_begin(struct volume *v, unsigned *ret_gen, uint64_t *ret_remapped)
{
	int r = 0;

	mtx_lock(&v->lock);
	while (v->remapping)
		cond_wait(&v->changed, &v->lock);
	*ret_remapped = v->remapped;
	*ret_gen = v->reading;
	if (v->state == VOL_FENCED)
		r = -EIO;
	else if (!v->mapped)
		r = v->state == VOL_FOLLOWER ? -EAGAIN : -EIO;
	else
		v->readers[v->reading]++;
	mtx_unlock(&v->lock);
	return r;
}

void vol_read_end(struct volume *v, unsigned gen)
{
	mtx_lock(&v->lock);
	if (--v->readers[gen] == 0 && v->waited_for > 0)
		cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
}

void vol_wait_readers(struct volume *v)
{
	unsigned gen;

	mtx_lock(&v->lock);
	while (v->turning) /* two at once would let reads in among those that the first waits for, and miss these */
		cond_wait(&v->changed, &v->lock);
	v->turning = true;
	v->waited_for++;
	gen = v->reading;
	v->reading ^= 1;
	while (v->readers[gen] > 0)
		cond_wait(&v->changed, &v->lock);
	v->waited_for--;
	v->turning = false;
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
}

/*
 * Whole sectors by one state of the map. What moves meanwhile (a batch gets its number, a segment is reused) is looked
 * up again.
 */
static int read_mapped(struct volume *v, uint64_t lba, uint64_t n, uint8_t *out)
{
	int stale = 0;

	vol_ahead(v, lba, n);
	while (n > 0) {
		struct em_ext p[PIECES];
		struct log_pageref need;
		int k = map_lookup(v->map, lba, MIN(n, (uint64_t)ROUND), false, p, PIECES, &need), r = k;

		if (k == -EAGAIN)
			r = vol_fetch_page(v, &need);
		else if (k > 0)
			r = read_pieces(v, p, k, out);
		for (int i = 0; i < k && r == 0; i++) {
			lba += p[i].len;
			n -= p[i].len;
			out += p[i].len * SECTOR;
			stale = 0;
		}
		if ((r == -ESTALE || r == -ENOENT) && ++stale < 3)
			continue;
		if (r < 0)
			return r;
	}
	return 0;
}

/* One reading, or seeking, of a follower: how often it looked again, and by which mark. */
struct look {
	unsigned tries, gen;
	uint64_t remapped, mark;
};

enum { LOOKS = 16 };

/*
 * Whether to do it again after r. A follower pins nothing: what it does not find may have been deleted rightly, and it
 * attaches again, once (PROTOCOL.md 3), and does all of it by the newer map; if the owner has moved on by a mark
 * meanwhile, once more. -EAGAIN: there was no map. What kept it from attaching is what the caller hears: a store that
 * does not answer is no damage.
 */
static bool look_again(struct volume *v, struct look *l, int *io_r)
{
	struct log_view view;
	int r = *io_r;

	if ((r != -ENOENT && r != -EUCLEAN && r != -EAGAIN) || l->tries == LOOKS || !RULE(E_GONE))
		return false;
	log_view(v->log, &view);
	if (l->tries++ > 0 && view.mark == l->mark)
		return false;
	l->mark = view.mark;
	r = vol_attach_again(v, l->remapped);
	if (r < 0 && r != -EIO)
		*io_r = r;
	return r == 0;
}

static int look_error(const struct look *l, int r)
{
	if (l->tries == LOOKS)
		return -EAGAIN; /* the owner deletes faster than this node reads */
	return r == -ENOENT || r == -EUCLEAN || r == -ESTALE ? -EIO : r;
}

static int read_sectors(struct volume *v, uint64_t lba, uint64_t n, uint8_t *out)
{
	struct look l = {0};
	int r;

	do {
		r = vol_read_begin(v, &l.gen, &l.remapped);
		if (r == 0) {
			r = read_mapped(v, lba, n, out);
			vol_read_end(v, l.gen);
		}
	} while (look_again(v, &l, &r));
	return look_error(&l, r);
}

/* Of a failed volume what is whole can be read; one that was taken over knows nothing any more. */
static int may_read(struct volume *v, bool writer)
{
	int r = writer && RULE(E_FIRST) ? vol_own(v) : 0;

	if (r == -EIO) {
		mtx_lock(&v->lock);
		r = v->state == VOL_FAILED ? 0 : r;
		mtx_unlock(&v->lock);
	}
	return r;
}

static ssize_t read_bytes(struct volume *v, uint64_t off, void *buf, size_t n)
{
	uint64_t first = off / SECTOR, size = vol_size(v);
	size_t head = (size_t)(off % SECTOR), sectors;
	uint8_t *bounce;
	int r;

	if (off >= size)
		return 0;
	n = (size_t)MIN((uint64_t)n, size - off);
	sectors = (head + n + SECTOR - 1) / SECTOR;
	if (head == 0 && n % SECTOR == 0) {
		r = read_sectors(v, first, sectors, buf);
		return r < 0 ? r : (ssize_t)n;
	}
	bounce = malloc(sectors * SECTOR);
	if (bounce == NULL)
		return -ENOMEM;
	r = read_sectors(v, first, sectors, bounce);
	if (r == 0)
		memcpy(buf, bounce + head, n);
	free(bounce);
	return r < 0 ? r : (ssize_t)n;
}

static uint64_t remaps(struct volume *v)
{
	uint64_t n;

	mtx_lock(&v->lock);
	n = v->remapped;
	mtx_unlock(&v->lock);
	return n;
}

ssize_t vol_read(struct volume *v, bool writer, uint64_t off, void *buf, size_t n)
{
	ssize_t r = may_read(v, writer);
	uint64_t before;

	if (r < 0)
		return r;
	/* The size of one map and the bytes of another are no state that ever was. */
	do {
		before = remaps(v);
		r = read_bytes(v, off, buf, n);
	} while (r >= 0 && remaps(v) != before);
	return r;
}

/* -EAGAIN: it is not here, or may take long. */
static int read_piece_now(struct volume *v, const struct em_ext *p, void *out)
{
	struct vol_put *u;
	struct fetch_piece f;

	if (p->kind == EM_JOURNAL)
		return journal_read_now(v->journal, p->where, out, p->len * SECTOR);
	if (p->kind != EM_LOG) {
		memset(out, 0, p->len * SECTOR);
		return 0;
	}
	mtx_lock(&v->batch);
	for (u = v->puts; u != NULL && u->put.number != p->number; u = u->next)
		;
	mtx_unlock(&v->batch);
	if (u != NULL || v->env.fetch == NULL)
		return -EAGAIN;
	f = (struct fetch_piece){p->number, p->sector, (uint32_t)p->len, out};
	return fetch_read_now(v->env.fetch, v->log, &f);
}

static int read_mapped_now(struct volume *v, uint64_t lba, uint64_t n, uint8_t *out)
{
	struct em_ext p[PIECES];
	struct log_pageref need;
	int k = map_lookup(v->map, lba, n, false, p, PIECES, &need), r = 0;

	vol_ahead(v, lba, n);
	for (int i = 0; i < k && r == 0; i++) {
		r = read_piece_now(v, &p[i], out);
		n -= p[i].len;
		out += p[i].len * SECTOR;
	}
	return r < 0 || k < 0 || n > 0 ? -EAGAIN : 0;
}

int vol_read_now(struct volume *v, uint64_t off, void *buf, size_t n)
{
	uint64_t size;
	unsigned gen;
	int r = -EAGAIN;

	if (n == 0 || n > VOL_NOW_MAX || off % SECTOR != 0 || n % SECTOR != 0)
		return -EAGAIN;
	mtx_lock(&v->lock);
	if (v->state != VOL_OWNER || v->claiming || v->remapping || !v->mapped) {
		mtx_unlock(&v->lock);
		return -EAGAIN;
	}
	gen = v->reading;
	v->readers[gen]++;
	mtx_unlock(&v->lock);
	size = vol_size(v);
	if (n <= size && off <= size - n)
		r = read_mapped_now(v, off / SECTOR, n / SECTOR, buf);
	vol_read_end(v, gen);
	return r;
}

/* ---- writes ---- */

/* Alone. Reads the sectors at both ends, lays the bytes over them, writes whole sectors. */
static int write_parts(struct volume *v, uint64_t off, const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t head = (size_t)(off % SECTOR), take = MIN(n, (size_t)RECORD_MAX - head);
		uint64_t first = off / SECTOR, size = vol_size(v), end = MAX(size, off + take);
		size_t sectors = (head + take + SECTOR - 1) / SECTOR;
		_cleanup_free_ uint8_t *buf = calloc(sectors, SECTOR);
		struct iovec iov = {buf, sectors * SECTOR};
		int r = 0;

		if (buf == NULL)
			return -ENOMEM;
		if (head > 0 || sectors == 1)
			r = read_sectors(v, first, 1, buf);
		if (r == 0 && sectors > 1 && (head + take) % SECTOR != 0)
			r = read_sectors(v, first + sectors - 1, 1, buf + (sectors - 1) * SECTOR);
		if (r < 0)
			return r;
		/* Behind the old end lies what a larger image had there. */
		for (uint64_t i = size; i < (first + sectors) * SECTOR; i++)
			if (i >= first * SECTOR)
				buf[i - first * SECTOR] = 0;
		memcpy(buf + head, p, take);
		r = journal_put(v, J_WRITE, first * SECTOR, sectors * SECTOR, &iov);
		/* The record has whole sectors; the image may end within the last. */
		if (r == 0 && end % SECTOR != 0 && end > size)
			r = journal_put(v, J_RESIZE, end, 0, NULL);
		else if (r == 0 && size % SECTOR != 0 && (first + sectors) * SECTOR > size && end == size)
			r = journal_put(v, J_RESIZE, size, 0, NULL);
		if (r < 0)
			return r;
		off += take;
		p += take;
		n -= take;
	}
	return 0;
}

static int write_whole(struct volume *v, uint64_t off, const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t take = MIN(n, (size_t)RECORD_MAX);
		struct iovec iov = {(void *)p, take};
		int r = journal_put(v, J_WRITE, off, take, &iov);

		if (r < 0)
			return r;
		off += take;
		p += take;
		n -= take;
	}
	return 0;
}

int vol_write(struct volume *v, uint64_t off, const struct iovec *iov, int iovcnt, size_t n)
{
	bool parts = off % SECTOR != 0 || n % SECTOR != 0, alone;
	struct journal_stat js;
	uint8_t *flat = NULL;
	const uint8_t *p = iovcnt > 0 ? iov[0].iov_base : NULL;
	int r = vol_own(v);

	if (r < 0 || n == 0)
		return r;
	if (off > IMG_SECTORS_MAX * SECTOR - n)
		return -EFBIG;
	if (iovcnt > 1) {
		size_t at = 0;

		flat = malloc(n);
		if (flat == NULL)
			return -ENOMEM;
		for (int i = 0; i < iovcnt; at += iov[i++].iov_len)
			memcpy(flat + at, iov[i].iov_base, iov[i].iov_len);
		p = flat;
	}
	alone = parts || off + n > vol_size(v);
	journal_stat(v->journal, &js);
	throttle_wait(&v->pace, n, js.used, js.limit);
	enter(v, alone);
	/* A resize may have come before. */
	if (!alone && off + n > vol_size(v)) {
		leave(v, alone);
		alone = true;
		enter(v, alone);
	}
	r = parts || vol_size(v) % SECTOR != 0 ? write_parts(v, off, p, n) : write_whole(v, off, p, n);
	leave(v, alone);
	free(flat);
	return r;
}

/* Whether the owner may write now, beside others; then leave(). */
static bool try_enter(struct volume *v)
{
	bool ok;

	mtx_lock(&v->lock);
	ok = v->state == VOL_OWNER && !v->claiming && !v->exclusive && !v->env.read_only;
	v->shared += ok;
	mtx_unlock(&v->lock);
	return ok;
}

int vol_write_now(struct volume *v, uint64_t off, const void *p, size_t n)
{
	struct iovec iov = {(void *)p, n};
	struct journal_stat js;
	uint64_t size;
	int r = -EAGAIN;

	if (n == 0 || n > VOL_NOW_MAX || off % SECTOR != 0 || n % SECTOR != 0 || !try_enter(v))
		return -EAGAIN;
	journal_stat(v->journal, &js);
	size = vol_size(v);
	if (size % SECTOR == 0 && n <= size && off <= size - n && !throttle_holds(n, js.used, js.limit))
		r = journal_do(v, J_WRITE, off, n, &iov, true);
	leave(v, false);
	return r;
}

/* [off, off + n) reads as zeros: whole sectors by one record, the ends by bytes. */
static int zero_range(struct volume *v, enum jtype type, uint64_t off, uint64_t n)
{
	static const uint8_t zeros[SECTOR];
	uint64_t size, end, first, last;
	int r = vol_own(v);

	if (r < 0)
		return r;
	enter(v, true);
	size = vol_size(v);
	end = n < size - MIN(off, size) ? off + n : size;
	first = (off + SECTOR - 1) / SECTOR * SECTOR;
	last = end == size ? (end + SECTOR - 1) / SECTOR * SECTOR : end / SECTOR * SECTOR;
	if (off >= end)
		goto out;
	if (first >= last) { /* within one sector, or the ends of two */
		uint64_t mid = MIN(first, end);

		if (off < mid)
			r = write_parts(v, off, zeros, (size_t)(mid - off));
		if (r == 0 && mid < end)
			r = write_parts(v, mid, zeros, (size_t)(end - mid));
		goto out;
	}
	if (off < first)
		r = write_parts(v, off, zeros, (size_t)(first - off));
	if (r == 0)
		r = journal_put(v, type, first, last - first, NULL);
	if (r == 0 && last < end)
		r = write_parts(v, last, zeros, (size_t)(end - last));
out:
	leave(v, true);
	return r;
}

int vol_discard(struct volume *v, uint64_t off, uint64_t n)
{
	return zero_range(v, J_DISCARD, off, n);
}
int vol_zero(struct volume *v, uint64_t off, uint64_t n)
{
	return zero_range(v, J_ZERO, off, n);
}

int vol_resize(struct volume *v, uint64_t size)
{
	int r = vol_own(v);

	if (r < 0)
		return r;
	if (size > IMG_SECTORS_MAX * SECTOR)
		return -EFBIG;
	enter(v, true);
	if (size < vol_size(v) && size % SECTOR != 0) {
		/* The rest of the last sector is zeros when the image grows again. */
		static const uint8_t zeros[SECTOR];
		uint64_t end = MIN(vol_size(v), (size + SECTOR - 1) / SECTOR * SECTOR);

		r = write_parts(v, size, zeros, (size_t)(end - size));
	}
	if (r == 0 && size != vol_size(v))
		r = journal_put(v, J_RESIZE, size, 0, NULL);
	leave(v, true);
	return r;
}

int vol_flush(struct volume *v)
{
	struct journal *j;
	struct log_view view;
	int r = 0;

	mtx_lock(&v->lock);
	j = v->state == VOL_OWNER || v->state == VOL_RELEASING ? v->journal : NULL;
	if (v->state == VOL_FENCED || v->state == VOL_FAILED)
		r = -EIO;
	mtx_unlock(&v->lock);
	if (r < 0 || j == NULL)
		return r;
	r = journal_commit(j, 0);
	if (r < 0) {
		vol_fail(v, VOL_FAILED, "the journal could not be synced");
		return r;
	}
	log_view(v->log, &view);
	return view.fsync_remote ? vol_drain(v) : 0;
}

int vol_upload(struct volume *v)
{
	bool owner;
	int r = vol_flush(v);

	mtx_lock(&v->lock);
	owner = v->state == VOL_OWNER;
	mtx_unlock(&v->lock);
	return r == 0 && owner ? vol_drain(v) : r;
}

/* Up to `end`; -ENXIO: none there. */
static int seek_mapped(struct volume *v, bool hole, uint64_t lba, uint64_t end, uint64_t *ret)
{
	while (lba < end) {
		struct em_ext p[PIECES];
		struct log_pageref need;
		int k = map_lookup(v->map, lba, end - lba, false, p, PIECES, &need);

		if (k == -EAGAIN) {
			k = vol_fetch_page(v, &need);
			if (k < 0)
				return k;
			continue;
		}
		for (int i = 0; i < k; i++) {
			if ((p[i].kind == EM_HOLE || p[i].kind == EM_ZERO) == hole) {
				*ret = p[i].lba * SECTOR;
				return 0;
			}
			lba = p[i].lba + p[i].len;
		}
	}
	return -ENXIO;
}

int vol_seek(struct volume *v, bool hole, uint64_t off, uint64_t *ret)
{
	uint64_t size = vol_size(v), end = (size + SECTOR - 1) / SECTOR, found = 0;
	struct look l = {0};
	int r;

	if (off >= size)
		return -ENXIO;
	do {
		r = vol_read_begin(v, &l.gen, &l.remapped);
		if (r == 0) {
			r = seek_mapped(v, hole, off / SECTOR, end, &found);
			vol_read_end(v, l.gen);
		}
	} while (look_again(v, &l, &r));
	if (r == 0)
		*ret = MAX(off, found);
	else if (r == -ENXIO && hole)
		*ret = size;
	else
		return r == -ENXIO ? r : look_error(&l, r);
	return 0;
}
