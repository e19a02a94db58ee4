/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * blkcache.c - a file of slots, an index in memory, S3-FIFO (blkcache.h).
 *
 * File	4096 bytes: magic; then chunks of 64 slots, each 64 entries of 128 bytes, then 64 times 64 KiB of content.
 *	The file grows by chunks up to the limit, never shrinks while it is open, and leaves 1/16 of the disk free:
 *	journals live there too.
 * Entry	uuid, number, group, the group's trailer, CRC32C of these: all that is needed to verify and to start again.
 *	Nothing is ordered or synced. A slot whose content is not what its entry says is found out by the CRC of each
 *	block when it is read.
 * Index	64 bits of a keyed hash stand for the key: a collision is a miss, since the key is in the CRC of each block.
 *	The CRCs come from the entry when the slot is written, or read for the first time, and stay: a hit is one read.
 *
 * S3-FIFO (Yang et al., SOSP 2023): new groups pass through a small queue, a tenth, and stay only if they were read
 * again meanwhile or were thrown out lately (ghost). CLOCK would be less code, but exports, backups and every upload
 * write many groups once, and would push out what guests read over and over. Reads that go on where the last one
 * ended are one use: a scan in steps of 4 KiB is no repetition.
 *
 * States of a slot
 *	FREE	 in the free list
 *	FILLING	 being written, in the hash, in no queue; a reader misses
 *	LIVE	 in the hash and in a queue; pinned while it is being read: never reused then
 *	DEAD	 out of the hash, still in its queue: reused when it comes to the front
 */
#include "config.h"
#include "blkcache.h"
#include "logobj-private.h"
#include "../../objstore/base/crc32c.h"
#include "../../objstore/base/lock.h"
#include "../../objstore/base/table.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { CHUNK = 64, ENTRY = 128, HEADER = 4096, NONE = -1, FREQ_MAX = 3 };
enum { RESERVE = 16 };    /* this part of the disk stays free */
enum { PATIENCE = 1024 }; /* puts that are skipped after a failure: no use in hammering a full or dying disk */
#define CHUNK_BYTES ((uint64_t)CHUNK * (ENTRY + LOG_GROUP))

static const char magic[8] = {'L', 'S', 'V', 'D', 'B', 'L', 'K', '1'};

enum slot_state { FREE, FILLING, LIVE, DEAD };
struct slot {
	uint64_t hash;
	int32_t hnext, qnext; /* in its hash chain; in its queue, or among the free */
	uint16_t pins;
	uint8_t state, freq, in_main;
	uint8_t last; /* block behind the last read: where a scan goes on */
	uint8_t content; /* sectors; 0: its sums are not known yet */
};
_Static_assert(sizeof(struct slot) == 24, "BLKCACHE_INDEX_BYTES");
/* Of a slot whose content is known; set under the lock, and then they stay until it is FREE or FILLING again. */
struct sums {
	uint8_t b[LOG_SUMS];
};
_Static_assert(sizeof(struct sums) == BLKCACHE_SUMS_BYTES, "BLKCACHE_SUMS_BYTES");

struct queue {
	int32_t head, tail;
	uint32_t n;
};
struct ghost {
	uint32_t print, when;
};

struct blkcache {
	int fd;
	struct blkdisk disk;
	uint32_t limit; /* slots, whole chunks; set at the start, as all up to the lock */
	uint32_t mask;  /* of hash and ghost: power of two */
	uint64_t seed;

	struct mtx lock; /* RANK_CACHE, all below */
	struct slot *slot;
	struct sums *sums; /* by slot */
	int32_t *hash;
	struct ghost *ghost;
	struct queue small, main;
	int32_t free;
	uint32_t have; /* slots that the file has room for */
	uint32_t live;
	uint32_t evicted; /* the ghosts' clock */
	unsigned skip_puts, skip_growth;
	bool growing;
	struct blkcache_stat stat;
};

/* ---- the real disk ---- */

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

static int real_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
	(void)ctx;
	return base_pwrite_all(fd, p, n, off);
}

static int real_allocate(void *ctx, int fd, uint64_t off, uint64_t len)
{
	(void)ctx;
	if (fallocate(fd, 0, (off_t)off, (off_t)len) == 0)
		return 0;
	/* A file system that cannot: its writes may find the disk full, which is a miss as well. */
	return errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -errno;
}

static int real_space(void *ctx, int fd, uint64_t *ret_free, uint64_t *ret_total)
{
	struct statvfs st;

	(void)ctx;
	if (fstatvfs(fd, &st) < 0)
		return -errno;
	*ret_free = (uint64_t)st.f_bavail * st.f_frsize;
	*ret_total = (uint64_t)st.f_blocks * st.f_frsize;
	return 0;
}

/* ---- places ---- */

static uint64_t entry_at(uint32_t s)
{
	return HEADER + s / CHUNK * CHUNK_BYTES + (uint64_t)(s % CHUNK) * ENTRY;
}

static uint64_t content_at(uint32_t s)
{
	return HEADER + s / CHUNK * CHUNK_BYTES + (uint64_t)CHUNK * ENTRY + (uint64_t)(s % CHUNK) * LOG_GROUP;
}

static uint64_t key_hash(const struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t group)
{
	uint64_t h = hash_bytes(uuid, 16, c->seed);

	return hash_u64(h ^ hash_u64(number ^ hash_u64(((uint64_t)group << 1) | 1)));
}

struct entry {
	uint8_t uuid[16];
	uint64_t number;
	uint32_t group;
	uint8_t trailer[LOG_TRAILER];
};

static void entry_encode(const struct entry *e, uint8_t out[ENTRY])
{
	struct cursor c = {.p = out, .len = ENTRY};

	cur_put_bytes(&c, e->uuid, 16);
	cur_put(&c, e->number, 8);
	cur_put(&c, e->group, 4);
	cur_put_bytes(&c, e->trailer, LOG_TRAILER);
	cur_put(&c, crc32c(0, out, ENTRY - 4), 4);
}

static bool entry_decode(const uint8_t in[ENTRY], struct entry *ret)
{
	struct cursor c = {.p = (uint8_t *)in, .len = ENTRY};

	cur_get_bytes(&c, ret->uuid, 16);
	ret->number = cur_get(&c, 8);
	ret->group = (uint32_t)cur_get(&c, 4);
	cur_get_bytes(&c, ret->trailer, LOG_TRAILER);
	return ret->number != 0 && (uint32_t)cur_get(&c, 4) == crc32c(0, in, ENTRY - 4);
}

/* ---- hash and queues ---- */

static int32_t find_locked(const struct blkcache *c, uint64_t h)
{
	int32_t s = c->hash[h & c->mask];

	while (s != NONE && c->slot[s].hash != h)
		s = c->slot[s].hnext;
	return s;
}

static void hash_add_locked(struct blkcache *c, int32_t s, uint64_t h)
{
	c->slot[s].hash = h;
	c->slot[s].hnext = c->hash[h & c->mask];
	c->hash[h & c->mask] = s;
}

static void hash_del_locked(struct blkcache *c, int32_t s)
{
	int32_t *p = &c->hash[c->slot[s].hash & c->mask];

	while (*p != s)
		p = &c->slot[*p].hnext;
	*p = c->slot[s].hnext;
}

static void push_locked(struct blkcache *c, struct queue *q, int32_t s)
{
	c->slot[s].qnext = NONE;
	if (q->n++ == 0)
		q->head = s;
	else
		c->slot[q->tail].qnext = s;
	q->tail = s;
	c->slot[s].in_main = q == &c->main;
}

static int32_t pop_locked(struct blkcache *c, struct queue *q)
{
	int32_t s = q->head;

	q->head = c->slot[s].qnext;
	q->n--;
	return s;
}

static void free_locked(struct blkcache *c, int32_t s)
{
	c->slot[s].state = FREE;
	c->slot[s].qnext = c->free;
	c->free = s;
}

static void kill_locked(struct blkcache *c, int32_t s)
{
	hash_del_locked(c, s);
	c->slot[s].state = DEAD;
	c->live--;
}

static bool was_here_locked(const struct blkcache *c, uint64_t h)
{
	const struct ghost *g = &c->ghost[h & c->mask];

	return g->print == (uint32_t)(h >> 32) && g->when != 0 && c->evicted - g->when < c->limit;
}

/* The slot that goes next; NONE: all are being read. */
static int32_t evict_locked(struct blkcache *c)
{
	uint64_t looks = 2 + (uint64_t)(FREQ_MAX + 2) * (c->small.n + c->main.n);

	while (looks-- > 0 && c->small.n + c->main.n > 0) {
		bool small = c->main.n == 0 || c->small.n > c->limit / 10;
		int32_t s = pop_locked(c, small ? &c->small : &c->main);
		struct slot *p = &c->slot[s];

		if (p->pins > 0 || (p->state == LIVE && p->freq > 0)) {
			if (!small && p->freq > 0)
				p->freq--;
			else if (small)
				p->freq = 0;
			push_locked(c, &c->main, s);
			continue;
		}
		if (p->state == LIVE) {
			if (small)
				c->ghost[p->hash & c->mask] = (struct ghost){(uint32_t)(p->hash >> 32), ++c->evicted};
			kill_locked(c, s);
			c->stat.evictions++;
		}
		return s;
	}
	return NONE;
}

/* Room for one more chunk. Without the lock meanwhile. */
static void grow(struct blkcache *c) REQUIRES(c->lock)
{
	uint64_t avail = 0, total = 0;
	int r;

	c->growing = true;
	mtx_unlock(&c->lock);
	r = c->disk.space(c->disk.ctx, c->fd, &avail, &total);
	if (r == 0 && avail < total / RESERVE + CHUNK_BYTES)
		r = -ENOSPC;
	if (r == 0)
		r = c->disk.allocate(c->disk.ctx, c->fd, entry_at(c->have), CHUNK_BYTES);
	mtx_lock(&c->lock);
	c->growing = false;
	if (r < 0) {
		c->skip_growth = PATIENCE;
		c->stat.errors += r != -ENOSPC;
		return;
	}
	for (uint32_t i = CHUNK; i-- > 0;)
		free_locked(c, (int32_t)(c->have + i));
	c->have += CHUNK;
}

static int32_t take_slot(struct blkcache *c) REQUIRES(c->lock)
{
	int32_t s;

	if (c->skip_growth > 0)
		c->skip_growth--;
	if (c->free == NONE && c->have < c->limit && !c->growing && c->skip_growth == 0)
		grow(c);
	s = c->free;
	if (s == NONE)
		return evict_locked(c);
	c->free = c->slot[s].qnext;
	return s;
}

/* ---- calls ---- */

typedef int disk_read(void *ctx, int fd, void *p, size_t n, uint64_t off);

/* What a slot's entry says of its content. 0, -EUCLEAN, or what the disk said. */
static int read_entry(struct blkcache *c, uint32_t s, const struct entry *want, disk_read *get, struct sums *ret,
		      size_t *ret_content)
{
	uint8_t raw[ENTRY];
	struct entry e;
	int r = get(c->disk.ctx, c->fd, raw, ENTRY, entry_at(s));

	if (r < 0)
		return r;
	if (!entry_decode(raw, &e) || memcmp(e.uuid, want->uuid, 16) != 0 || e.number != want->number ||
	    e.group != want->group ||
	    logobj_trailer_check(e.trailer, e.uuid, e.number, e.group, ret_content, NULL) < 0)
		return -EUCLEAN;
	memcpy(ret->b, e.trailer, sizeof(ret->b));
	return 0;
}

/* Blocks of one slot that hold the sectors, verified. 0, -EUCLEAN, -ENODATA: not so long, or what the disk said. */
static int read_slot(struct blkcache *c, uint32_t s, const struct entry *want, const struct sums *sums, size_t content,
		     uint32_t from, uint32_t n, disk_read *get, void *out)
{
	uint32_t first = from * SECTOR / LOG_BLOCK, end = ((from + n) * SECTOR + LOG_BLOCK - 1) / LOG_BLOCK;
	_cleanup_free_ uint8_t *bounce = NULL;
	uint8_t *p = out;
	size_t len;
	int r;

	if ((from + n) * SECTOR > content)
		return -ENODATA;
	len = MIN((size_t)end * LOG_BLOCK, content) - (size_t)first * LOG_BLOCK;
	if (len != (size_t)n * SECTOR) {
		bounce = malloc(len);
		if (bounce == NULL)
			return -ENOMEM;
		p = bounce;
	}
	r = get(c->disk.ctx, c->fd, p, len, content_at(s) + (uint64_t)first * LOG_BLOCK);
	if (r < 0)
		return r;
	for (uint32_t b = first; b < end; b++) {
		size_t at = (size_t)(b - first) * LOG_BLOCK;

		if (!logobj_block_ok(sums->b, want->uuid, want->number, want->group, b, p + at,
				     MIN(len - at, (size_t)LOG_BLOCK)))
			return -EUCLEAN;
	}
	if (bounce != NULL)
		memcpy(out, bounce + (from * SECTOR - (size_t)first * LOG_BLOCK), (size_t)n * SECTOR);
	return 0;
}

static void know_locked(struct blkcache *c, int32_t s, const void *sums, size_t content)
{
	memcpy(c->sums[s].b, sums, sizeof(c->sums[s].b));
	c->slot[s].content = (uint8_t)(content / SECTOR);
}

static int read_group(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t sector, uint32_t n, bool now,
		      void *out)
{
	struct entry want = {.number = number, .group = sector / (LOG_GROUP / SECTOR)};
	disk_read *get = now ? c->disk.pread_now : c->disk.pread;
	uint32_t from = sector % (LOG_GROUP / SECTOR);
	uint64_t h = key_hash(c, uuid, number, want.group);
	struct sums sums;
	size_t content;
	struct slot *p;
	bool known;
	int32_t s;
	int r = 0;

	assert(n > 0 && from + n <= LOG_GROUP / SECTOR);
	memcpy(want.uuid, uuid, 16);
	mtx_lock(&c->lock);
	s = find_locked(c, h);
	p = s == NONE ? NULL : &c->slot[s];
	if (p == NULL || p->state != LIVE || p->pins == UINT16_MAX) {
		c->stat.misses += !now; /* who may not wait is followed by one who may */
		mtx_unlock(&c->lock);
		return -ENOENT;
	}
	p->pins++;
	content = (size_t)p->content * SECTOR;
	mtx_unlock(&c->lock);
	known = content > 0;
	if (!known)
		r = read_entry(c, (uint32_t)s, &want, get, &sums, &content);
	if (r == 0)
		r = read_slot(c, (uint32_t)s, &want, known ? &c->sums[s] : &sums, content, from, n, get, out);
	mtx_lock(&c->lock);
	p->pins--;
	if (r == 0 && !known && p->content == 0)
		know_locked(c, s, &sums, content);
	if (r == -EAGAIN && now) {
		mtx_unlock(&c->lock);
		return r;
	}
	if (p->last != from * SECTOR / LOG_BLOCK && p->freq < FREQ_MAX)
		p->freq++;
	p->last = (uint8_t)((from + n) * SECTOR / LOG_BLOCK);
	if (r == 0)
		c->stat.hits++;
	else
		c->stat.misses++;
	if (r == -EUCLEAN)
		c->stat.damaged++;
	else if (r < 0 && r != -ENODATA)
		c->stat.errors++;
	if (r < 0 && r != -ENOMEM && p->state == LIVE) /* another reader may have been first */
		kill_locked(c, s);
	mtx_unlock(&c->lock);
	return r;
}

bool blkcache_read(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t sector, uint32_t n, void *out)
{
	return read_group(c, uuid, number, sector, n, false, out) == 0;
}

int blkcache_read_now(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t sector, uint32_t n,
		      void *out)
{
	return read_group(c, uuid, number, sector, n, true, out) == 0 ? 0 : -EAGAIN;
}

bool blkcache_has(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t group)
{
	uint64_t h = key_hash(c, uuid, number, group);
	int32_t s;
	bool has;

	mtx_lock(&c->lock);
	s = find_locked(c, h);
	has = s != NONE && c->slot[s].state == LIVE;
	mtx_unlock(&c->lock);
	return has;
}

/* A slot for the key, in state FILLING. NONE: it is there already (ret_there), or there is no place. */
static int32_t begin_fill(struct blkcache *c, uint64_t h, bool *ret_there)
{
	int32_t s;

	mtx_lock(&c->lock);
	s = find_locked(c, h);
	*ret_there = s != NONE && c->slot[s].state == LIVE;
	if (s != NONE || c->skip_puts > 0) {
		if (c->skip_puts > 0)
			c->skip_puts--;
		mtx_unlock(&c->lock);
		return NONE;
	}
	s = take_slot(c);
	/* Growing let go of the lock: another thread may have brought the same group. */
	if (s != NONE && find_locked(c, h) != NONE) {
		free_locked(c, s);
		s = NONE;
	}
	if (s != NONE) {
		hash_add_locked(c, s, h);
		c->slot[s].state = FILLING;
		c->slot[s].content = 0;
	}
	mtx_unlock(&c->lock);
	return s;
}

bool blkcache_put(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t group, const void *stored,
		  size_t len)
{
	struct entry e = {.number = number, .group = group};
	uint64_t h = key_hash(c, uuid, number, group);
	uint8_t raw[ENTRY];
	size_t content;
	bool there;
	int32_t s;
	int r;

	if (len < LOG_TRAILER + SECTOR || len > LOG_STRIDE)
		return false;
	memcpy(e.uuid, uuid, 16);
	memcpy(e.trailer, (const uint8_t *)stored + len - LOG_TRAILER, LOG_TRAILER);
	if (logobj_trailer_check(e.trailer, uuid, number, group, &content, NULL) < 0 || content + LOG_TRAILER != len)
		return false;
	s = begin_fill(c, h, &there);
	if (s == NONE)
		return there;
	entry_encode(&e, raw);
	r = c->disk.pwrite(c->disk.ctx, c->fd, stored, content, content_at((uint32_t)s));
	if (r == 0)
		r = c->disk.pwrite(c->disk.ctx, c->fd, raw, ENTRY, entry_at((uint32_t)s));
	mtx_lock(&c->lock);
	if (r < 0) {
		hash_del_locked(c, s);
		free_locked(c, s);
		c->skip_puts = PATIENCE;
		c->stat.errors++;
	} else {
		c->slot[s].state = LIVE;
		c->slot[s].freq = c->slot[s].last = 0;
		know_locked(c, s, e.trailer, content);
		push_locked(c, was_here_locked(c, h) ? &c->main : &c->small, s);
		c->live++;
		c->stat.fills++;
	}
	mtx_unlock(&c->lock);
	return r == 0;
}

void blkcache_forget(struct blkcache *c, const uint8_t uuid[16], uint64_t number, uint32_t ngroups)
{
	mtx_lock(&c->lock);
	for (uint32_t g = 0; g < ngroups; g++) {
		int32_t s = find_locked(c, key_hash(c, uuid, number, g));

		if (s != NONE && c->slot[s].state == LIVE)
			kill_locked(c, s);
	}
	mtx_unlock(&c->lock);
}

void blkcache_stat(struct blkcache *c, struct blkcache_stat *ret)
{
	mtx_lock(&c->lock);
	*ret = c->stat;
	ret->limit = (uint64_t)c->limit * LOG_GROUP;
	ret->used = (uint64_t)c->live * LOG_GROUP;
	ret->memory = sizeof(*c) + c->limit * (sizeof(*c->slot) + sizeof(*c->sums)) +
		      ((size_t)c->mask + 1) * (sizeof(*c->hash) + sizeof(*c->ghost));
	mtx_unlock(&c->lock);
}

/* ---- opening ---- */

/* What the entries say. An entry that cannot be read, or comes twice, is a free slot. */
static void load_chunk_locked(struct blkcache *c, uint32_t from)
{
	uint8_t raw[CHUNK * ENTRY];
	int r = c->disk.pread(c->disk.ctx, c->fd, raw, sizeof(raw), entry_at(from));

	c->stat.errors += r < 0;
	for (uint32_t i = 0; i < CHUNK; i++) {
		int32_t s = (int32_t)(from + i);
		struct entry e;
		uint64_t h = 0;
		bool ok = r == 0 && entry_decode(raw + (size_t)i * ENTRY, &e);

		if (ok) {
			h = key_hash(c, e.uuid, e.number, e.group);
			ok = find_locked(c, h) == NONE;
		}
		if (!ok) {
			free_locked(c, s);
			continue;
		}
		hash_add_locked(c, s, h);
		c->slot[s].state = LIVE;
		push_locked(c, &c->main, s);
		c->live++;
	}
}

static int load(struct blkcache *c)
{
	uint8_t head[HEADER] = {0};
	uint64_t most = HEADER + (uint64_t)(c->limit / CHUNK) * CHUNK_BYTES;
	struct stat st;
	int r = c->disk.pread(c->disk.ctx, c->fd, head, HEADER, 0);

	if (fstat(c->fd, &st) < 0)
		return -errno;
	if (r < 0 || memcmp(head, magic, sizeof(magic)) != 0) {
		memset(head, 0, sizeof(head));
		memcpy(head, magic, sizeof(magic));
		if (ftruncate(c->fd, 0) < 0)
			return -errno;
		return c->disk.pwrite(c->disk.ctx, c->fd, head, HEADER, 0);
	}
	if ((uint64_t)st.st_size > most && ftruncate(c->fd, (off_t)most) < 0)
		return -errno;
	c->have = (uint32_t)((MIN((uint64_t)st.st_size, most) - HEADER) / CHUNK_BYTES * CHUNK);
	mtx_lock(&c->lock);
	for (uint32_t s = 0; s < c->have; s += CHUNK)
		load_chunk_locked(c, s);
	mtx_unlock(&c->lock);
	return 0;
}

static int tables_new(struct blkcache *c)
{
	size_t n = 64;

	while (n < c->limit)
		n *= 2;
	c->mask = (uint32_t)(n - 1);
	c->slot = calloc(c->limit, sizeof(*c->slot));
	c->sums = aligned_alloc(sizeof(*c->sums), c->limit * sizeof(*c->sums)); /* a line of the processor's cache each */
	c->hash = malloc(n * sizeof(*c->hash));
	c->ghost = calloc(n, sizeof(*c->ghost));
	if (c->slot == NULL || c->sums == NULL || c->hash == NULL || c->ghost == NULL)
		return -ENOMEM;
	memset(c->hash, 0xff, n * sizeof(*c->hash)); /* NONE */
	return 0;
}

int blkcache_open(const char *path, uint64_t limit, const struct blkdisk *disk, struct blkcache **ret)
{
	struct blkcache *c = calloc(1, sizeof(*c));
	uint64_t chunks = MIN(MAX(limit, 8 * MiB), (uint64_t)1 << 46) / CHUNK_BYTES;
	int r;

	if (c == NULL)
		return -ENOMEM;
	if (disk != NULL)
		c->disk = *disk;
	if (c->disk.pread_now == NULL)
		c->disk.pread_now = c->disk.pread != NULL ? c->disk.pread : real_pread_now;
	c->disk.pread = c->disk.pread != NULL ? c->disk.pread : real_pread;
	c->disk.pwrite = c->disk.pwrite != NULL ? c->disk.pwrite : real_pwrite;
	c->disk.allocate = c->disk.allocate != NULL ? c->disk.allocate : real_allocate;
	c->disk.space = c->disk.space != NULL ? c->disk.space : real_space;
	c->limit = (uint32_t)chunks * CHUNK;
	c->free = NONE;
	if (c->disk.seed != 0)
		c->seed = c->disk.seed;
	else
		base_random(&c->seed, sizeof(c->seed));
	mtx_init(&c->lock, RANK_CACHE);
	c->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	r = c->fd < 0 ? -errno : tables_new(c);
	if (r == 0)
		r = load(c);
	if (r < 0) {
		blkcache_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void blkcache_close(struct blkcache *c)
{
	if (c == NULL)
		return;
	base_closep(&c->fd);
	free(c->slot);
	free(c->sums);
	free(c->hash);
	free(c->ghost);
	mtx_destroy(&c->lock);
	free(c);
}
