/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * journal.c - appending, group commit, trimming (journal.h).
 *
 * A record's sequence and place are given under the lock, its bytes are written without it, and its append ends in
 * sequence order again: `done` is never behind a hole. One thread syncs for everybody who waits: all that was done
 * when it began. Segments stand in the order of their generations; free ones are the oldest, so they are at the front
 * and are reused from there. The next one is made ready in the background (journal_prepare): empty on the disk, with its
 * generation, so that no crash lets that generation be given twice.
 */
#include "config.h"
#include "journal-private.h"
#include "../../objstore/base/crc32c.h"
#include "logobj-private.h"
#include <stdio.h>
#include <string.h>

static const char seg_magic[8] = {'L', 'S', 'V', 'D', 'J', 'N', 'L', '\n'};
static const char rec_magic[4] = {'L', 'S', 'J', 'R'};

void jsegment_header(const struct journal *j, const struct jseg *s, uint8_t out[JHEADER])
{
	struct cursor c = {.p = out, .len = JHEADER};

	memset(out, 0, JHEADER);
	cur_put_bytes(&c, seg_magic, sizeof(seg_magic));
	cur_put(&c, 1, 4);
	cur_put(&c, j->segment, 4);
	cur_put_bytes(&c, j->uuid, 16);
	cur_put(&c, s->generation, 8);
	cur_put(&c, s->first, 8);
	cur_put(&c, s->before, 8);
	c.at = 124;
	cur_put(&c, crc32c(0, out, 124), 4);
}

enum { RECORD_CRC_AT = 72 };

static uint32_t record_crc(const struct journal *j, const uint8_t h[RECORD_CRC_AT])
{
	return crc32c(crc32c(0, j->uuid, 16), h, RECORD_CRC_AT);
}

void jrecord_encode(const struct journal *j, const struct jrecord *r, uint64_t generation, uint32_t data_crc,
		    uint8_t out[JHEADER])
{
	struct cursor c = {.p = out, .len = JHEADER};

	memset(out, 0, JHEADER);
	cur_put_bytes(&c, rec_magic, sizeof(rec_magic));
	cur_put(&c, r->type, 2);
	cur_put(&c, 0, 2);
	cur_put(&c, r->seq, 8);
	cur_put(&c, generation, 8);
	cur_put(&c, r->off, 8);
	cur_put(&c, r->len, 8);
	cur_put_bytes(&c, r->nonce.b, 16);
	cur_put(&c, r->type == J_WRITE ? r->len : 0, 4);
	cur_put(&c, data_crc, 4);
	cur_put(&c, r->synced, 8);
	cur_put(&c, record_crc(j, out), 4);
}

int jrecord_decode(const struct journal *j, const uint8_t h[JHEADER], uint64_t generation, struct jrecord *ret,
		   uint32_t *ret_data, uint32_t *ret_data_crc)
{
	struct cursor c = {.p = (uint8_t *)h, .len = JHEADER, .at = 4};
	struct jrecord r = {0};
	uint64_t type, gen, data;

	type = cur_get(&c, 2);
	(void)cur_get(&c, 2);
	r.seq = cur_get(&c, 8);
	gen = cur_get(&c, 8);
	r.off = cur_get(&c, 8);
	r.len = cur_get(&c, 8);
	cur_get_bytes(&c, r.nonce.b, 16);
	data = cur_get(&c, 4);
	*ret_data_crc = (uint32_t)cur_get(&c, 4);
	r.synced = cur_get(&c, 8);
	if (memcmp(h, rec_magic, sizeof(rec_magic)) != 0 || (uint32_t)cur_get(&c, 4) != record_crc(j, h) ||
	    gen != generation)
		return -EUCLEAN;
	if (type < J_WRITE || type > J_COMMITTED || data > j->segment || (type == J_WRITE && data != r.len) ||
	    (type != J_WRITE && data != 0))
		return -EUCLEAN;
	r.type = (enum jtype)type;
	/* Sectors of an image; sizes and numbers are what they are. */
	if (type <= J_DISCARD && (r.off % SECTOR != 0 || r.len % SECTOR != 0 || r.off > IMG_SECTORS_MAX * SECTOR ||
				  r.len > IMG_SECTORS_MAX * SECTOR - r.off))
		return -EUCLEAN;
	*ret = r;
	*ret_data = (uint32_t)data;
	return 0;
}

static struct jseg *current(const struct journal *j)
{
	return &j->seg[j->nseg - 1];
}

static uint32_t free_id_locked(const struct journal *j)
{
	uint32_t id = 0;

	for (size_t i = 0; i < j->nseg; i++)
		id = MAX(id, j->seg[i].id + 1);
	return id;
}

static void segment_name(uint32_t id, char out[32])
{
	(void)snprintf(out, 32, "journal-%08x", id);
}

/* One that holds nothing; after an error, and the first error counts. */
static void segment_remove(struct journal *j, uint32_t id, int fd)
{
	char name[32];

	segment_name(id, name);
	j->disk.close(j->disk.ctx, fd);
	ignore(j->disk.unlink(j->disk.ctx, j->dirfd, name));
}

/* As long as the others, so that positions count in the same way; of holes. */
static int fill_sparse(struct journal *j, int fd)
{
	static const uint8_t zero;
	int r = j->disk.pwrite(j->disk.ctx, fd, &zero, 1, j->segment - 1);

	return r < 0 ? r : j->disk.datasync(j->disk.ctx, fd);
}

/* A new file of zeros, on the disk with its name. */
static int segment_create(struct journal *j, uint32_t id, bool sparse, int *ret_fd)
{
	char name[32];
	int fd, r;

	segment_name(id, name);
	fd = j->disk.open(j->disk.ctx, j->dirfd, name, true);
	if (fd < 0)
		return fd;
	r = sparse ? fill_sparse(j, fd) : j->disk.allocate(j->disk.ctx, fd, j->segment);
	if (r == 0)
		r = j->disk.dirsync(j->disk.ctx, j->dirfd);
	if (r < 0) {
		segment_remove(j, id, fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static bool room_locked(const struct journal *j)
{
	return (j->nseg + 1 + (j->spare.fd >= 0)) * j->segment <= j->limit;
}

static struct jseg take_oldest_locked(struct journal *j)
{
	struct jseg s = j->seg[0];

	memmove(j->seg, j->seg + 1, --j->nseg * sizeof(s));
	j->nfree--;
	return s;
}

static int header_write(struct journal *j, const struct jseg *s)
{
	uint8_t header[JHEADER];

	jsegment_header(j, s, header);
	return j->disk.pwrite(j->disk.ctx, s->fd, header, sizeof(header), 0);
}

int journal_rotate_locked(struct journal *j)
{
	struct jseg s = {.fd = -1}, *v;
	bool ready = j->spare.fd >= 0;
	int r = 0;

	if (j->generation + 1 >= JGENERATION_MAX)
		return -EOVERFLOW;
	v = reallocarray(j->seg, j->nseg + 1, sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	j->seg = v;
	if (ready) {
		s = j->spare;
		j->spare.fd = -1;
	} else if (j->nfree > 0 && !j->seg[0].sparse) {
		s = take_oldest_locked(j);
	} else if (room_locked(j)) {
		s.id = free_id_locked(j);
		r = segment_create(j, s.id, false, &s.fd);
	} else if (j->nfree > 0) {
		r = j->disk.allocate(j->disk.ctx, j->seg[0].fd, j->segment);
		if (r == 0)
			s = take_oldest_locked(j);
		s.sparse = false;
	} else {
		r = -EAGAIN;
	}
	if (r < 0)
		return r;
	if (!ready)
		s.generation = ++j->generation;
	s.first = j->next;
	s.before = j->needed;
	s.last = j->next - 1;
	s.needed = 0;
	s.used = JHEADER;
	j->seg[j->nseg++] = s;
	r = header_write(j, &s);
	/*
	 * On the disk before its first record: else a power cut could leave the old header over new records, and
	 * replay would start with a segment that connects to nothing, or with the one after this. Once a segment,
	 * under the lock; of one that was made ready it is one sector.
	 */
	return r < 0 ? r : j->disk.datasync(j->disk.ctx, s.fd);
}

static void break_locked(struct journal *j)
{
	j->broken = true;
	cond_broadcast(&j->changed);
}

/* Time to make the next segment ready: half of this one is written. */
static bool wants_spare_locked(const struct journal *j)
{
	return j->low != NULL && !j->asked && j->spare.fd < 0 && !j->broken && j->nseg > j->nfree &&
	       j->seg[j->nseg - 1].used > j->segment / 2 &&
	       ((j->nfree > 0 && !j->seg[0].sparse) || room_locked(j));
}

/* The new segment's generation is given first, so nobody goes on to another segment meanwhile. */
void journal_prepare(struct journal *j)
{
	struct jseg s = {.fd = -1};
	bool old;
	int r = 0;

	mtx_lock(&j->lock);
	old = j->nfree > 0 && !j->seg[0].sparse;
	if (j->broken || j->preparing || j->spare.fd >= 0 || j->generation + 1 >= JGENERATION_MAX ||
	    (!old && !room_locked(j))) {
		j->asked = false;
		mtx_unlock(&j->lock);
		return;
	}
	j->preparing = true;
	/* The oldest stays where it is until the disk has its header: up to then a flush covers it (sync_from). */
	if (old)
		s = j->seg[0];
	else
		s.id = free_id_locked(j);
	s.generation = ++j->generation;
	s.first = s.before = 0;
	mtx_unlock(&j->lock);
	if (!old)
		r = segment_create(j, s.id, false, &s.fd);
	if (r == 0)
		r = header_write(j, &s);
	if (r == 0)
		r = j->disk.datasync(j->disk.ctx, s.fd);
	mtx_lock(&j->lock);
	if (r == 0 && old)
		(void)take_oldest_locked(j);
	if (r == 0)
		j->spare = s;
	else if (old)
		break_locked(j); /* nobody knows which header it has */
	j->preparing = j->asked = false;
	cond_broadcast(&j->changed);
	mtx_unlock(&j->lock);
	if (r < 0 && !old && s.fd >= 0)
		segment_remove(j, s.id, s.fd);
}

void journal_on_low(struct journal *j, bool (*low)(void *arg), void *arg)
{
	mtx_lock(&j->lock);
	j->low = low;
	j->low_arg = arg;
	mtx_unlock(&j->lock);
}

/*
 * A place for n bytes and a sequence number, waiting for a free segment if need be. now: -EAGAIN where that takes more
 * than memory.
 */
static int place(struct journal *j, uint64_t n, bool note, bool now, uint64_t *ret_seq, int *ret_fd, uint64_t *ret_off,
		 uint64_t *ret_gen) REQUIRES(j->lock)
{
	int r = 0;

	if (n > j->segment - JHEADER)
		return -EFBIG;
	for (;;) {
		if (j->broken)
			return -EIO;
		if (j->stopping && !note)
			return -ESHUTDOWN;
		if (j->nseg > j->nfree && current(j)->used + n <= j->segment && (note || !current(j)->sparse))
			break;
		if (now)
			return -EAGAIN; /* its header must be on the disk first */
		r = j->preparing ? -EAGAIN : journal_rotate_locked(j);
		if (r == -ENOMEM || ((r == -EAGAIN || r == -ENOSPC) && note))
			return r; /* nothing has happened */
		/* A disk that is full is no worse than a journal that is, as long as there is a segment to be freed. */
		if (r == -ENOSPC && j->nseg - j->nfree <= 1)
			return r;
		if (r == -EAGAIN || r == -ENOSPC) {
			bool full = !j->preparing;

			j->waiting += full;
			cond_wait(&j->changed, &j->lock);
			j->waiting -= full;
		} else if (r < 0) {
			break_locked(j);
			return -EIO;
		}
	}
	*ret_seq = j->next++;
	*ret_fd = current(j)->fd;
	*ret_off = current(j)->used;
	*ret_gen = current(j)->generation;
	current(j)->used += n;
	current(j)->last = *ret_seq;
	if (!note)
		current(j)->needed = j->needed = *ret_seq;
	return 0;
}

static uint8_t *record_bytes(const struct journal *j, const struct jrecord *r, uint64_t gen, const uint8_t *data,
			     uint8_t *buf)
{
	uint32_t crc = r->type == J_WRITE ? crc32c(0, data, r->len) : 0;

	jrecord_encode(j, r, gen, crc, buf);
	return buf;
}

static int append(struct journal *j, struct jrecord *rec, const struct iovec *iov, int iovcnt, bool now,
		  void (*on_append)(void *arg, uint64_t seq, uint64_t where), void *arg, uint64_t *ret_seq)
{
	size_t n = JHEADER + (rec->type == J_WRITE ? rec->len : 0), at = JHEADER;
	uint8_t *buf = malloc(n);
	uint64_t off = 0, gen = 0;
	bool ask = false;
	int fd = -1, r;

	if (buf == NULL)
		return -ENOMEM;
	for (int i = 0; i < iovcnt && rec->type == J_WRITE; at += iov[i++].iov_len)
		memcpy(buf + at, iov[i].iov_base, iov[i].iov_len);
	assert(at == n);
	mtx_lock(&j->lock);
	rec->nonce = j->nonce;
	rec->synced = j->synced;
	r = place(j, n, rec->type == J_COMMITTED, now, &rec->seq, &fd, &off, &gen);
	mtx_unlock(&j->lock);
	if (r < 0) {
		free(buf);
		return r;
	}
	r = j->disk.pwrite(j->disk.ctx, fd, record_bytes(j, rec, gen, buf + JHEADER, buf), n, off);
	free(buf);
	mtx_lock(&j->lock);
	if (r < 0)
		break_locked(j);
	while (j->done != rec->seq - 1 && !j->broken)
		cond_wait(&j->changed, &j->lock);
	/* Behind a record that failed nothing is acknowledged: replay would not reach it. */
	r = j->broken ? -EIO : 0;
	if (r == 0) {
		if (on_append != NULL)
			on_append(arg, rec->seq, gen * j->segment + off + JHEADER);
		j->done = rec->seq;
		j->appends++;
		cond_broadcast(&j->changed);
		*ret_seq = rec->seq;
		if (wants_spare_locked(j))
			ask = j->asked = true;
	}
	mtx_unlock(&j->lock);
	if (ask && !j->low(j->low_arg)) {
		mtx_lock(&j->lock);
		j->asked = false;
		mtx_unlock(&j->lock);
	}
	return r;
}

int journal_append(struct journal *j, enum jtype type, uint64_t off, uint64_t len, const struct iovec *iov, int iovcnt,
		   void (*on_append)(void *arg, uint64_t seq, uint64_t where), void *arg, uint64_t *ret_seq)
{
	struct jrecord rec = {.type = type, .off = off, .len = len};

	return append(j, &rec, iov, iovcnt, false, on_append, arg, ret_seq);
}

int journal_append_now(struct journal *j, uint64_t off, uint64_t len, const struct iovec *iov,
		       void (*on_append)(void *arg, uint64_t seq, uint64_t where), void *arg, uint64_t *ret_seq)
{
	struct jrecord rec = {.type = J_WRITE, .off = off, .len = len};

	return append(j, &rec, iov, 1, true, on_append, arg, ret_seq);
}

/*
 * Syncs every segment that holds something newer than `from`, without the lock. Free ones as well, as long as they
 * are not reused: one that a power cut emptied would part those behind it from replay.
 */
static int sync_from(struct journal *j, uint64_t from)
{
	int fds[64], r = 0;
	size_t n;

	do {
		n = 0;
		mtx_lock(&j->lock);
		for (size_t i = 0; i < j->nseg && n < ARRAY_SIZE(fds); i++)
			if (j->seg[i].last > from && j->seg[i].last >= j->seg[i].first) {
				fds[n++] = j->seg[i].fd;
				from = MAX(from, n == ARRAY_SIZE(fds) ? j->seg[i].last : from);
			}
		j->datasyncs += n;
		mtx_unlock(&j->lock);
		for (size_t i = 0; i < n && r == 0; i++)
			r = j->disk.datasync(j->disk.ctx, fds[i]);
	} while (r == 0 && n == ARRAY_SIZE(fds));
	return r;
}

int journal_commit(struct journal *j, uint64_t seq)
{
	int r = 0;

	mtx_lock(&j->lock);
	if (seq == 0)
		seq = j->done;
	while (j->synced < seq && !j->broken) {
		uint64_t from = j->synced, upto = j->done;

		if (j->syncing || j->done < seq) {
			cond_wait(&j->changed, &j->lock);
			continue;
		}
		j->syncing = true;
		mtx_unlock(&j->lock);
		r = sync_from(j, from);
		mtx_lock(&j->lock);
		j->syncing = false;
		if (r < 0)
			j->broken = true; /* the kernel may have dropped the pages: a second try would lie */
		else
			j->synced = upto;
		cond_broadcast(&j->changed);
	}
	r = j->synced >= seq ? 0 : -EIO;
	mtx_unlock(&j->lock);
	return r;
}

static int segment_of_locked(const struct journal *j, uint64_t generation)
{
	int fd = -1;

	for (size_t i = 0; i < j->nseg; i++)
		if (j->seg[i].generation == generation)
			fd = j->seg[i].fd;
	return fd;
}

static int read_where(struct journal *j, uint64_t where, void *p, size_t n, bool now)
{
	uint64_t gen = where / j->segment, off = where % j->segment;
	int fd, r;

	mtx_lock(&j->lock);
	fd = segment_of_locked(j, gen);
	j->users += fd >= 0;
	mtx_unlock(&j->lock);
	if (fd < 0)
		return -ESTALE;
	r = (now ? j->disk.pread_now : j->disk.pread)(j->disk.ctx, fd, p, n, off);
	mtx_lock(&j->lock);
	/* Still the same generation? Else the bytes may be newer ones. */
	if (r == 0 && segment_of_locked(j, gen) < 0)
		r = -ESTALE;
	if (--j->users == 0)
		cond_broadcast(&j->changed);
	mtx_unlock(&j->lock);
	return r;
}

int journal_read(struct journal *j, uint64_t where, void *p, size_t n)
{
	return read_where(j, where, p, n, false);
}

int journal_read_now(struct journal *j, uint64_t where, void *p, size_t n)
{
	return read_where(j, where, p, n, true);
}

int journal_trim(struct journal *j, uint64_t number, uint64_t seq, bool force)
{
	struct jrecord note = {.type = J_COMMITTED, .off = number, .len = seq};
	bool freed = false;
	uint64_t ignored;
	int r;

	mtx_lock(&j->lock);
	j->trimmed = MAX(j->trimmed, MIN(seq, j->done));
	j->sent = MAX(j->sent, seq);
	/* Not the one that is being written, and not one that somebody is still writing into. */
	while (j->nfree + 1 < j->nseg && j->seg[j->nfree].needed <= j->trimmed && j->seg[j->nfree].last <= j->done) {
		j->nfree++;
		freed = true;
	}
	if (number > j->committed)
		j->committed = number;
	if (freed)
		cond_broadcast(&j->changed);
	mtx_unlock(&j->lock);
	if (!freed && !force)
		return 0;
	r = append(j, &note, NULL, 0, false, NULL, NULL, &ignored);
	return r == -EAGAIN || r == -ENOSPC || r == -ENOMEM ? 0 : r; /* only a note */
}

/* ---- room given back ---- */

/* The file of a segment that nobody finds any more; `preparing` keeps the others where they are. The lock is let go. */
static int away(struct journal *j, const struct jseg *s) REQUIRES(j->lock)
{
	char name[32];
	bool gone;
	int r;

	while (j->users > 0 || j->syncing)
		cond_wait(&j->changed, &j->lock);
	mtx_unlock(&j->lock);
	segment_name(s->id, name);
	r = j->disk.unlink(j->disk.ctx, j->dirfd, name);
	gone = r == 0;
	if (r == 0)
		r = j->disk.dirsync(j->disk.ctx, j->dirfd);
	if (r == 0)
		j->disk.close(j->disk.ctx, s->fd);
	mtx_lock(&j->lock);
	if (r == 0 || !gone)
		return r;
	break_locked(j); /* nobody finds what is written into that file, and who knows whether it comes back */
	return -EIO;
}

/*
 * Oldest first, each on the disk before the next: what a crash leaves is what reuse would leave, never a hole. Not after
 * a failure: that one may still be there. The newest `keep` of them stay.
 */
static int drop_free(struct journal *j, size_t keep) REQUIRES(j->lock)
{
	int r = 0;

	while (j->nfree > keep && r == 0) {
		struct jseg s = take_oldest_locked(j);

		r = away(j, &s);
		if (r == 0)
			continue;
		memmove(j->seg + 1, j->seg, j->nseg++ * sizeof(s));
		j->seg[0] = s;
		j->nfree++;
	}
	return r;
}

/* The log has every change, and nobody is making one. */
static bool unneeded_locked(const struct journal *j)
{
	return !j->broken && j->nseg > j->nfree && j->needed <= j->trimmed && j->done + 1 == j->next &&
	       !current(j)->sparse && j->generation + 1 < JGENERATION_MAX;
}

/* Goes on in a sparse segment, if nothing came meanwhile. Its header under the lock, as ever: its `first` must be true. */
static int rotate_sparse_locked(struct journal *j, uint32_t id, int fd)
{
	struct jseg s = {.fd = fd, .id = id, .sparse = true, .used = JHEADER}, *v;
	int r;

	if (!unneeded_locked(j))
		return -EAGAIN;
	v = reallocarray(j->seg, j->nseg + 1, sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	j->seg = v;
	s.generation = ++j->generation;
	s.first = j->next;
	s.before = j->needed;
	s.last = j->next - 1;
	j->seg[j->nseg++] = s;
	r = header_write(j, &s);
	if (r == 0)
		r = j->disk.datasync(j->disk.ctx, fd);
	if (r < 0)
		break_locked(j);
	return r < 0 ? -EIO : 0;
}

/* All changes are in the log: a note of that in a sparse segment, then the others go. */
static int shrink_to_note(struct journal *j) REQUIRES(j->lock)
{
	uint32_t id = free_id_locked(j);
	uint64_t number, seq;
	int fd = -1, r;

	mtx_unlock(&j->lock);
	r = segment_create(j, id, true, &fd);
	mtx_lock(&j->lock);
	if (r < 0)
		return r;
	r = rotate_sparse_locked(j, id, fd);
	if (r == -EAGAIN || r == -ENOMEM) {
		struct jseg s = {.fd = fd, .id = id};

		return away(j, &s);
	}
	number = j->committed;
	seq = j->sent;
	mtx_unlock(&j->lock);
	if (r == 0)
		r = journal_trim(j, number, seq, true);
	if (r == 0)
		r = journal_commit(j, 0);
	mtx_lock(&j->lock);
	return r < 0 ? r : drop_free(j, 0);
}

int journal_shrink(struct journal *j, bool to_note)
{
	int r = journal_commit(j, 0);

	if (r < 0)
		return r;
	mtx_lock(&j->lock);
	if (j->broken || j->preparing || j->asked) {
		mtx_unlock(&j->lock);
		return 0;
	}
	j->preparing = true;
	if (j->spare.fd >= 0 && to_note) {
		r = away(j, &j->spare);
		if (r == 0)
			j->spare.fd = -1;
	}
	if (r == 0)
		r = drop_free(j, !to_note && j->spare.fd < 0);
	if (r == 0 && to_note && unneeded_locked(j))
		r = shrink_to_note(j);
	j->preparing = false;
	cond_broadcast(&j->changed);
	mtx_unlock(&j->lock);
	return r;
}

uint64_t journal_first(struct journal *j)
{
	return j->first;
}

uint64_t journal_before(struct journal *j)
{
	return j->before;
}

uint64_t journal_committed(struct journal *j)
{
	uint64_t n;

	mtx_lock(&j->lock);
	n = j->committed;
	mtx_unlock(&j->lock);
	return n;
}

bool journal_has_unsent(struct journal *j, uint64_t *ret_sent)
{
	bool unsent;

	mtx_lock(&j->lock);
	unsent = j->needed > j->sent;
	*ret_sent = j->sent;
	mtx_unlock(&j->lock);
	return unsent;
}

void journal_set_nonce(struct journal *j, const struct log_nonce *nonce)
{
	mtx_lock(&j->lock);
	j->nonce = *nonce;
	mtx_unlock(&j->lock);
}

bool journal_knows_nonce(struct journal *j, const struct log_nonce *nonce)
{
	bool known = false;

	mtx_lock(&j->lock);
	for (size_t i = 0; i < j->nknown; i++)
		known = known || memcmp(&j->known[i], nonce, sizeof(*nonce)) == 0;
	mtx_unlock(&j->lock);
	return known;
}

void journal_stat(struct journal *j, struct journal_stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	mtx_lock(&j->lock);
	ret->limit = j->limit;
	for (size_t i = j->nfree; i < j->nseg; i++)
		ret->used += j->seg[i].used;
	ret->appended = j->done;
	ret->synced = j->synced;
	ret->trimmed = j->trimmed;
	ret->appends = j->appends;
	ret->datasyncs = j->datasyncs;
	ret->waiting = j->waiting;
	ret->broken = j->broken;
	mtx_unlock(&j->lock);
}

void journal_wake(struct journal *j, bool stop)
{
	mtx_lock(&j->lock);
	j->stopping = j->stopping || stop;
	cond_broadcast(&j->changed);
	mtx_unlock(&j->lock);
}
