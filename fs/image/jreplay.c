/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * jreplay.c - opening a journal: which segments are there, which records check, whose nonces they are; and the real
 * disk.
 *
 * Replay takes segments by generation and stops for good at the first record that does not check, unless the next
 * segment goes on with the very next sequence: then that was only the end of a segment. What lies behind is the end that
 * a crash tore, unless a record there knows that the missing one had been on the disk: then it is damage.
 */
#include "config.h"
#include "journal-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/crc32c.h"
#include "logobj-private.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the real disk ---- */

static int real_open(void *ctx, int dirfd, const char *name, bool create)
{
	int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);

	(void)ctx;
	return fd < 0 ? -errno : fd;
}

static int real_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
	(void)ctx;
	return base_pwrite_all(fd, p, n, off);
}

static int real_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
	(void)ctx;
	return base_pread_all(fd, p, n, off);
}

static int real_pread_now(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
	(void)ctx;
	return base_pread_now(fd, p, n, off);
}

static int real_allocate(void *ctx, int fd, uint64_t len)
{
	static const uint8_t zeros[65536];

	(void)ctx;
	/* Written, not only reserved: the first write into an unwritten extent changes the file system's own tree. */
	for (uint64_t off = 0; off < len; off += sizeof(zeros)) {
		int r = base_pwrite_all(fd, zeros, MIN(sizeof(zeros), len - off), off);

		if (r < 0)
			return r;
	}
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int real_datasync(void *ctx, int fd)
{
	(void)ctx;
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int real_dirsync(void *ctx, int dirfd)
{
	(void)ctx;
	return fsync(dirfd) < 0 ? -errno : 0;
}

static int real_unlink(void *ctx, int dirfd, const char *name)
{
	(void)ctx;
	return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
}

static int real_rename(void *ctx, int dirfd, const char *from, const char *to)
{
	(void)ctx;
	return renameat(dirfd, from, dirfd, to) < 0 ? -errno : 0;
}

static int real_list(void *ctx, int dirfd, int (*fn)(void *arg, const char *name), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	(void)ctx;
	if (d == NULL) {
		r = -errno;
		base_closep(&fd);
		return r;
	}
	while (r == 0 && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			r = fn(arg, e->d_name);
	(void)closedir(d);
	return r;
}

static void real_close(void *ctx, int fd)
{
	(void)ctx;
	base_closep(&fd);
}

static bool real_holes(void *ctx, int fd)
{
	struct stat st;

	(void)ctx;
	return fstat(fd, &st) < 0 || st.st_blocks * 512 < st.st_size;
}

void jdisk_real(struct jdisk *d)
{
	static const struct jdisk real = {
		NULL,          real_open,     real_pwrite,  real_pread,  real_pread_now, real_allocate,
		real_datasync, real_dirsync,  real_unlink,  real_rename, real_list,      real_close,     real_holes,
	};

	if (d->open == NULL)
		*d = real;
	if (d->pread_now == NULL)
		d->pread_now = d->pread;
}

static int damaged(struct journal *j, const char *fmt, ...) printf_like(2, 3);
static int damaged(struct journal *j, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(j->why, sizeof(j->why), fmt, ap);
	va_end(ap);
	return -EUCLEAN;
}

/* ---- nonces: a line each, then one with the CRC of them ---- */

enum { NONCE_LINE = 33, SUM_LINE = 4 + 8 + 1 };

static void sum_line(const char *text, size_t n, char out[SUM_LINE + 1])
{
	(void)snprintf(out, SUM_LINE + 1, "crc %08x\n", crc32c(0, text, n));
}

static int nonces_parse(struct journal *j, const char *text, size_t n)
{
	char sum[SUM_LINE + 1], line[NONCE_LINE];

	sum_line(text, n, sum);
	if (memcmp(text + n, sum, SUM_LINE) != 0)
		return -EUCLEAN;
	for (size_t at = 0; at < n; at += NONCE_LINE) {
		memcpy(line, text + at, NONCE_LINE);
		line[NONCE_LINE - 1] = '\0';
		if (log_uuid_parse(line, j->known[j->nknown].b) < 0)
			return -EUCLEAN;
		j->nknown++;
	}
	return 0;
}

/* The file is renamed into place whole: anything but a whole one is damage. */
static int nonces_read(struct journal *j)
{
	int fd = j->disk.open(j->disk.ctx, j->dirfd, "nonces", false), r = -EUCLEAN;
	char text[JNONCES * NONCE_LINE + SUM_LINE];
	size_t n = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	for (n = 0; n <= JNONCES && r == -EUCLEAN; n++) {
		size_t lines = n * NONCE_LINE;

		r = j->disk.pread(j->disk.ctx, fd, text, lines + SUM_LINE, 0);
		if (r < 0)
			break;
		r = memcmp(text + lines, "crc ", 4) == 0 ? nonces_parse(j, text, lines) : -EUCLEAN;
	}
	j->disk.close(j->disk.ctx, fd);
	return r == -EUCLEAN || r == -ENODATA ? damaged(j, "the journal's file nonces is damaged") : r;
}

/* To the end, where the newest are. */
static void move_last(struct journal *j, const struct log_nonce *keep)
{
	for (size_t i = 0; i < j->nknown; i++)
		if (memcmp(&j->known[i], keep, sizeof(*keep)) == 0) {
			struct log_nonce n = j->known[i];

			memmove(&j->known[i], &j->known[i + 1], (j->nknown - i - 1) * sizeof(n));
			j->known[j->nknown - 1] = n;
			return;
		}
}

int journal_note_nonce(struct journal *j, const struct log_nonce *nonce, const struct log_nonce *keep)
{
	static const char temp[] = "nonces.new";
	char text[JNONCES * NONCE_LINE + SUM_LINE + 1];
	size_t n;
	int fd, r;

	/* Claims are made one at a time: the lock is held over the disk on purpose. */
	mtx_lock(&j->lock);
	if (keep != NULL)
		move_last(j, keep);
	if (j->nknown == JNONCES)
		memmove(j->known, j->known + 1, --j->nknown * sizeof(j->known[0]));
	j->known[j->nknown++] = *nonce;
	for (n = 0; n < j->nknown; n++) {
		char hex[33];

		log_uuid_format(j->known[n].b, hex);
		memcpy(text + n * NONCE_LINE, hex, 32);
		text[n * NONCE_LINE + 32] = '\n';
	}
	sum_line(text, n * NONCE_LINE, text + n * NONCE_LINE);
	ignore(j->disk.unlink(j->disk.ctx, j->dirfd, temp)); /* a leftover would be longer than what is written now */
	fd = j->disk.open(j->disk.ctx, j->dirfd, temp, true);
	r = fd < 0 ? fd : j->disk.pwrite(j->disk.ctx, fd, text, n * NONCE_LINE + SUM_LINE, 0);
	if (r == 0)
		r = j->disk.datasync(j->disk.ctx, fd);
	if (fd >= 0)
		j->disk.close(j->disk.ctx, fd);
	if (r == 0)
		r = j->disk.rename(j->disk.ctx, j->dirfd, temp, "nonces");
	if (r == 0)
		r = j->disk.dirsync(j->disk.ctx, j->dirfd);
	mtx_unlock(&j->lock);
	return r;
}

/* ---- opening ---- */

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* What a segment's header says. 1: it has none, as a file whose maker died; -EUCLEAN. */
static int segment_header(struct journal *j, const char *name, struct jseg *s, uint64_t *ret_size)
{
	uint8_t h[JHEADER] = {0}, uuid[16], last;
	struct cursor c = {.p = h, .len = sizeof(h), .at = 8};
	uint64_t version, size, crc;
	int r = j->disk.pread(j->disk.ctx, s->fd, h, sizeof(h), 0);

	if (r == -ENODATA) {
		r = j->disk.pread(j->disk.ctx, s->fd, &last, 1, 0);
		h[0] = r == 0 ? last : 0;
		r = r == -ENODATA ? 0 : r;
	}
	if (r < 0)
		return r;
	version = cur_get(&c, 4);
	size = cur_get(&c, 4);
	cur_get_bytes(&c, uuid, 16);
	s->generation = cur_get(&c, 8);
	s->first = cur_get(&c, 8);
	s->before = cur_get(&c, 8);
	c.at = 124;
	crc = cur_get(&c, 4);
	/* A header is one sector: never half an old one and half a new one. */
	if (is_zero(h, sizeof(h)))
		return 1;
	if (crc != crc32c(0, h, 124) || memcmp(h, "LSVDJNL\n", 8) != 0 || s->generation == 0 ||
	    s->generation >= JGENERATION_MAX || s->first >> 62 != 0 || (s->first != 0 && s->before >= s->first) ||
	    size < 2 * JHEADER || size % JHEADER != 0)
		return damaged(j, "the header of the journal's file %s is damaged", name);
	if (memcmp(uuid, j->uuid, 16) != 0 || version != 1)
		return damaged(j, "the journal is another image's or another version's");
	if (j->disk.pread(j->disk.ctx, s->fd, &last, 1, size - 1) == -ENODATA)
		return damaged(j, "the journal's file %s is cut short", name);
	*ret_size = size;
	return 0;
}

static int segment_add(void *arg, const char *name)
{
	struct journal *j = arg;
	struct jseg s = {.fd = -1}, *v;
	uint64_t size = 0;
	char *end;
	int r;

	if (strncmp(name, "journal-", 8) != 0 || strlen(name) != 16)
		return 0;
	s.id = (uint32_t)strtoul(name + 8, &end, 16);
	if (*end != '\0' || j->nseg == JSEG_MAX)
		return 0;
	v = reallocarray(j->seg, j->nseg + 1, sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	j->seg = v;
	s.fd = j->disk.open(j->disk.ctx, j->dirfd, name, false);
	if (s.fd < 0)
		return s.fd;
	r = segment_header(j, name, &s, &size);
	s.said = s.generation;
	for (size_t i = 0; i < j->nseg && r == 0; i++)
		if (j->seg[i].said == s.said)
			r = damaged(j, "two files of the journal have generation %" PRIu64, s.said);
	/* Segments keep the size with which the journal was made: positions count with it. */
	if (r == 0 && j->nseg > 0 && size != j->segment)
		r = damaged(j, "the journal's file %s has another size than the others", name);
	if (r != 0)
		j->disk.close(j->disk.ctx, s.fd);
	if (r == 1) /* it may not even be as long as the others */
		return j->disk.unlink(j->disk.ctx, j->dirfd, name);
	if (r < 0)
		return r;
	j->segment = size;
	j->generation = MAX(j->generation, s.generation);
	if (s.first == 0)
		s.generation = 0; /* forgotten */
	s.used = s.generation != 0 ? size : 0;
	s.last = s.first - 1;
	s.sparse = j->disk.holes != NULL && j->disk.holes(j->disk.ctx, s.fd);
	j->seg[j->nseg++] = s;
	return 0;
}

static int by_generation(const void *a, const void *b)
{
	const struct jseg *x = a, *y = b;

	return x->generation < y->generation ? -1 : x->generation > y->generation;
}

static void sort_segments(struct journal *j)
{
	if (j->nseg > 1)
		qsort(j->seg, j->nseg, sizeof(*j->seg), by_generation);
}

static int data_checks(struct journal *j, const struct jseg *s, uint64_t off, uint32_t n, uint32_t crc)
{
	uint8_t *buf = malloc(n + 1);
	int r;

	if (buf == NULL)
		return -ENOMEM;
	r = j->disk.pread(j->disk.ctx, s->fd, buf, n, off);
	if (r == 0 && crc32c(0, buf, n) != crc)
		r = -EUCLEAN;
	free(buf);
	return r;
}

/* The records of one segment; io_next: the sequence that must come. */
static int segment_replay(struct journal *j, struct jseg *s, uint64_t *io_next,
			  int (*fn)(void *arg, const struct jrecord *r), void *arg)
{
	uint64_t off = JHEADER, size = s->used;
	int r = 0;

	while (r == 0 && off + JHEADER <= size) {
		uint8_t h[JHEADER];
		struct jrecord rec;
		uint32_t data, crc;

		r = j->disk.pread(j->disk.ctx, s->fd, h, sizeof(h), off);
		if (r < 0)
			break;
		r = jrecord_decode(j, h, s->generation, &rec, &data, &crc);
		if (r < 0 || rec.seq != *io_next || off + JHEADER + data > size) {
			r = -EUCLEAN;
			break;
		}
		if (data > 0)
			r = data_checks(j, s, off + JHEADER, data, crc);
		if (r < 0)
			break;
		rec.where = s->generation * j->segment + off + JHEADER;
		if (rec.type == J_COMMITTED)
			j->committed = MAX(j->committed, rec.off);
		if (rec.type == J_COMMITTED)
			j->sent = MAX(j->sent, rec.len);
		r = fn(arg, &rec);
		s->last = rec.seq;
		if (rec.type != J_COMMITTED)
			s->needed = j->needed = rec.seq;
		(*io_next)++;
		off += JHEADER + data;
	}
	s->used = off;
	return r == -EUCLEAN || r == -ENODATA ? 0 : r; /* a torn tail ends it, nothing more */
}

/* Is there a record from `off` on that knows `next`, which is not there, to have been on the disk? 1: yes. */
static int knows_later(struct journal *j, const struct jseg *s, uint64_t off, uint64_t next)
{
	enum { STEP = 128 * JHEADER };
	uint8_t *buf = malloc(STEP);
	struct jrecord rec;
	uint32_t data, crc;
	int r = buf == NULL ? -ENOMEM : 0;

	for (; off + JHEADER <= j->segment && r == 0; off += STEP) {
		size_t n = (size_t)MIN((uint64_t)STEP, j->segment - off) / JHEADER * JHEADER;

		r = j->disk.pread(j->disk.ctx, s->fd, buf, n, off);
		for (size_t i = 0; i < n && r == 0; i += JHEADER)
			r = jrecord_decode(j, buf + i, s->generation, &rec, &data, &crc) == 0 && rec.synced >= next;
	}
	free(buf);
	return r == -ENODATA ? 0 : r;
}

/* What replay did not reach, from segment i on: the torn end of what nobody was promised? -EUCLEAN: it is not. */
static int check_rest(struct journal *j, size_t i, uint64_t next)
{
	int r = 0;

	for (size_t k = i; k < j->nseg && r == 0; k++)
		r = knows_later(j, &j->seg[k], k == i ? j->seg[k].used : JHEADER, next);
	if (r == 1)
		r = damaged(j, "the journal's record %" PRIu64 " is damaged or missing", next);
	return r;
}

/*
 * A segment that must not count at the next opening either. Its generation stays known: given once more to the same
 * file, it would make the records that are still there count again.
 */
static int forget(struct journal *j, struct jseg *s)
{
	uint8_t h[JHEADER];
	int r;

	s->first = 0;
	jsegment_header(j, s, h);
	r = j->disk.pwrite(j->disk.ctx, s->fd, h, sizeof(h), 0);
	if (r == 0)
		r = j->disk.datasync(j->disk.ctx, s->fd);
	s->generation = 0;
	s->first = 1;
	s->last = s->needed = 0;
	return r;
}

static int replay(struct journal *j, int (*fn)(void *arg, const struct jrecord *r), void *arg)
{
	uint64_t next = 0;
	size_t last = 0; /* the segment where replay ended */
	int r = 0;

	sort_segments(j);
	for (size_t i = 0; i < j->nseg && r == 0; i++) {
		struct jseg *s = &j->seg[i];

		if (s->generation == 0) {
			s->first = 1;
			s->last = 0;
			continue;
		}
		if (next == 0) {
			j->first = next = s->first;
			j->before = j->needed = s->before;
		}
		if (s->first != next)
			break;
		last = i;
		r = segment_replay(j, s, &next, fn, arg);
	}
	if (r == 0 && next != 0)
		r = check_rest(j, last, next);
	for (size_t i = last + 1; i < j->nseg && r == 0 && next != 0; i++)
		r = forget(j, &j->seg[i]); /* behind a hole: nobody was told that this is durable */
	if (j->first == next)
		j->first = 0;
	j->next = MAX(next, (uint64_t)1);
	j->done = j->synced = j->next - 1;
	sort_segments(j);
	while (j->nfree < j->nseg && j->seg[j->nfree].generation == 0)
		j->nfree++;
	/*
	 * A killed daemon left these in the page cache only; the next flush covers them as well. Forgotten ones too: a
	 * power cut must not bring back what lies behind a hole.
	 */
	for (size_t i = 0; i < j->nseg && r == 0; i++)
		r = j->disk.datasync(j->disk.ctx, j->seg[i].fd);
	/* Never behind a record that may be torn: what lies there could check again one day. */
	if (j->nfree < j->nseg)
		j->seg[j->nseg - 1].used = j->segment;
	return r;
}

int journal_begin(struct journal *j, uint64_t seq)
{
	int r = 0;

	j->sent = MAX(j->sent, seq);
	if (seq <= j->done)
		return 0;
	for (size_t i = j->nfree; i < j->nseg && r == 0; i++)
		r = forget(j, &j->seg[i]);
	j->nfree = j->nseg;
	j->needed = seq;
	j->next = seq + 1;
	j->done = j->synced = seq;
	return r;
}

/*
 * ---- aside ----
 *
 * An empty file "aside-<time>" is there while the files move to "aside-<time>-*": a journal of which some files are
 * gone would be damaged, so whoever opens it next ends what a dead daemon began.
 */

struct aside {
	int dirfd;
	struct jdisk disk;
	char name[32];
};

static int aside_one(void *arg, const char *name)
{
	struct aside *a = arg;
	char to[64];

	if (strcmp(name, "nonces") != 0 && strncmp(name, "journal-", 8) != 0)
		return 0;
	(void)snprintf(to, sizeof(to), "%s-%s", a->name, name);
	return a->disk.rename(a->disk.ctx, a->dirfd, name, to);
}

/* Its name is on the disk. */
static int aside_all(struct aside *a)
{
	int r = a->disk.list(a->disk.ctx, a->dirfd, aside_one, a);

	if (r == 0)
		r = a->disk.dirsync(a->disk.ctx, a->dirfd);
	if (r == 0)
		r = a->disk.unlink(a->disk.ctx, a->dirfd, a->name);
	/* It must not come back beside a new journal. */
	return r < 0 ? r : a->disk.dirsync(a->disk.ctx, a->dirfd);
}

static int aside_begun(void *arg, const char *name)
{
	struct aside *a = arg;
	size_t n = strlen(name);

	if (strncmp(name, "aside-", 6) == 0 && n > 6 && n < sizeof(a->name) && strspn(name + 6, "0123456789") == n - 6)
		memcpy(a->name, name, n + 1);
	return 0;
}

static int end_aside(struct journal *j)
{
	struct aside a = {.dirfd = j->dirfd, .disk = j->disk};
	int r = j->disk.list(j->disk.ctx, j->dirfd, aside_begun, &a);

	if (r < 0 || a.name[0] == '\0')
		return r;
	/* Who began it may have died before its name was safe. */
	r = j->disk.dirsync(j->disk.ctx, j->dirfd);
	return r < 0 ? r : aside_all(&a);
}

int journal_set_aside(int dirfd, const struct jdisk *disk, char **ret_name)
{
	struct aside a = {.dirfd = dirfd};
	int fd, r;

	if (disk != NULL)
		a.disk = *disk;
	jdisk_real(&a.disk);
	/* Never the name of an earlier one: a rename would take its place. */
	(void)snprintf(a.name, sizeof(a.name), "aside-%" PRId64, clock_real_ns());
	fd = a.disk.open(a.disk.ctx, dirfd, a.name, true);
	if (fd < 0)
		return fd;
	a.disk.close(a.disk.ctx, fd);
	r = a.disk.dirsync(a.disk.ctx, dirfd);
	if (r == 0)
		r = aside_all(&a);
	if (r < 0)
		return r;
	*ret_name = strdup(a.name);
	return *ret_name == NULL ? -ENOMEM : 0;
}

/* ---- open and close ---- */

int journal_open(int dirfd, const uint8_t uuid[16], uint64_t limit, uint64_t segment, const struct jdisk *disk,
		 int (*fn)(void *arg, const struct jrecord *r), void *arg, struct journal **ret, struct objerr *err)
{
	struct journal *j = calloc(1, sizeof(*j));
	int r;

	if (j == NULL)
		return -ENOMEM;
	j->spare.fd = -1;
	mtx_init(&j->lock, RANK_JOURNAL);
	cond_init(&j->changed);
	j->dirfd = dirfd;
	if (disk != NULL)
		j->disk = *disk;
	jdisk_real(&j->disk);
	memcpy(j->uuid, uuid, 16);
	j->limit = limit;
	j->segment = segment;
	r = end_aside(j);
	if (r == 0)
		r = nonces_read(j);
	if (r == 0)
		r = j->disk.list(j->disk.ctx, dirfd, segment_add, j);
	/* A segment whose maker died before its name was on the disk: what is committed to it shall not go with it. */
	if (r == 0 && j->nseg > 0)
		r = j->disk.dirsync(j->disk.ctx, dirfd);
	/* A nonce is noted before the first record is written. */
	if (r == 0 && j->nseg > 0 && j->nknown == 0)
		r = damaged(j, "the journal's file nonces is missing");
	if (r == 0)
		r = replay(j, fn, arg);
	if (r < 0) {
		if (err != NULL)
			objerr_set(err,
				   j->why[0] != '\0' ? "%s" : "the journal could not be read: %s",
				   j->why[0] != '\0' ? j->why : strerror(-r));
		journal_close(j);
		return r;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	for (size_t i = 0; i < j->nseg; i++)
		j->disk.close(j->disk.ctx, j->seg[i].fd);
	if (j->spare.fd >= 0)
		j->disk.close(j->disk.ctx, j->spare.fd);
	free(j->seg);
	cond_destroy(&j->changed);
	mtx_destroy(&j->lock);
	free(j);
}

/* ---- away ---- */

/*
 * Newest first, each on the disk before the next one: what a crash leaves is a journal without its end, never one with
 * a hole. The nonces last: segments without them would be damage.
 */
struct discard {
	int dirfd;
	struct jdisk disk;
	char pick[32]; /* the newest segment that is there */
	uint64_t generation;
};

static int discard_pick(void *arg, const char *name)
{
	struct discard *a = arg;
	uint8_t h[8] = {0};
	struct cursor c = {.p = h, .len = sizeof(h)};
	uint64_t generation;
	int fd;

	if (strncmp(name, "journal-", 8) != 0 || strlen(name) != 16)
		return 0;
	fd = a->disk.open(a->disk.ctx, a->dirfd, name, false);
	if (fd < 0)
		return fd;
	ignore(a->disk.pread(a->disk.ctx, fd, h, sizeof(h), 32)); /* one without a header is none of them */
	a->disk.close(a->disk.ctx, fd);
	generation = cur_get(&c, sizeof(h));
	if (a->pick[0] == '\0' || generation > a->generation) {
		a->generation = generation;
		(void)snprintf(a->pick, sizeof(a->pick), "%s", name);
	}
	return 0;
}

static int discard_one(const struct discard *a, const char *name)
{
	int r = a->disk.unlink(a->disk.ctx, a->dirfd, name);

	return r < 0 ? r : a->disk.dirsync(a->disk.ctx, a->dirfd);
}

int journal_discard(int dirfd, const struct jdisk *disk)
{
	struct discard a = {.dirfd = dirfd};
	int r;

	if (disk != NULL)
		a.disk = *disk;
	jdisk_real(&a.disk);
	for (;;) {
		a.pick[0] = '\0';
		r = a.disk.list(a.disk.ctx, dirfd, discard_pick, &a);
		if (r < 0 || a.pick[0] == '\0')
			break;
		r = discard_one(&a, a.pick);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = discard_one(&a, "nonces");
	return r == -ENOENT ? 0 : r; /* there were no nonces */
}
