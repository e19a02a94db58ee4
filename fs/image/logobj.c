/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logobj.c - groups and the fixed header of a log object (FORMAT.md 3.1, 3.2).
 *
 *	content	 = header (128 bytes, sections, zeros up to 4096) + data
 *	stored	 = content cut into groups of 64 KiB, each followed by its trailer
 *
 * Each CRC starts with the identity of its bytes (image, number, sector), so that a ranged GET of one group proves by
 * itself that it is what the map meant.
 */
#include "config.h"
#include "logobj-private.h"
#include "../../objstore/base/crc32c.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static const char magic[8] = {'L', 'S', 'V', 'D', 'L', 'O', 'G', '\n'};
enum { HEADER_FIXED = 128, FLAG_PACKED = 1, LOG_VERSION = 1, BLOCKS = LOG_GROUP / LOG_BLOCK };

const char *const log_type_name[LOG_NTYPES] = {
    [LOG_CREATE] = "create",         [LOG_DATA] = "data",   [LOG_CLEANER] = "cleaner",   [LOG_MAP] = "map",
    [LOG_CHECKPOINT] = "checkpoint", [LOG_CLAIM] = "claim", [LOG_RELEASE] = "release",   [LOG_SNAPSHOT] = "snapshot",
    [LOG_UNSNAP] = "unsnap",         [LOG_FREE] = "free",   [LOG_ROLLBACK] = "rollback", [LOG_RESIZE] = "resize",
};

int log_damage(struct objerr *err, const char *fmt, ...)
{
	va_list ap;

	if (err != NULL) {
		va_start(ap, fmt);
		(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
	}
	return -EUCLEAN;
}

/* ---- groups ---- */

static uint32_t identity_crc(const uint8_t uuid[16], uint64_t number, uint64_t sector)
{
	uint8_t id[32];
	struct cursor c = {.p = id, .len = sizeof(id)};

	cur_put_bytes(&c, uuid, 16);
	cur_put(&c, number, 8);
	cur_put(&c, sector, 8);
	return crc32c(0, id, sizeof(id));
}

static size_t group_content(uint64_t content, uint64_t group)
{
	return (size_t)MIN((uint64_t)LOG_GROUP, content - group * LOG_GROUP);
}

static size_t stored_size(uint64_t content)
{
	return (size_t)(content + (content + LOG_GROUP - 1) / LOG_GROUP * LOG_TRAILER);
}

/* p: n bytes of content with room for the trailer behind them. */
static void group_seal(uint8_t *p, size_t n, const uint8_t uuid[16], uint64_t number, uint64_t sector)
{
	struct cursor c = {.p = p + n, .len = LOG_TRAILER};
	uint8_t zero[20] = {0};

	for (size_t i = 0; i < BLOCKS; i++) {
		size_t o = i * LOG_BLOCK;
		uint32_t crc = 0;

		if (o < n)
			crc = crc32c(identity_crc(uuid, number, sector + o / SECTOR), p + o,
				     MIN((size_t)LOG_BLOCK, n - o));
		cur_put(&c, crc, 4);
	}
	cur_put(&c, n, 4);
	cur_put(&c, n, 4);
	cur_put_bytes(&c, zero, 20); /* codec 0, zeros, no tag */
	cur_put(&c, crc32c(identity_crc(uuid, number, sector), p + n, LOG_TRAILER - 4), 4);
}

static int group_fault(struct objerr *err, uint64_t number, uint64_t sector, const char *what)
{
	return log_damage(err, "log object %016" PRIx64 ": the group of sector %" PRIu64 " %s", number, sector, what);
}

int logobj_trailer_check(const uint8_t t[LOG_TRAILER], const uint8_t uuid[16], uint64_t number, uint64_t group,
			 size_t *ret_n, struct objerr *err)
{
	struct cursor c = {.p = (uint8_t *)t, .len = LOG_TRAILER, .at = BLOCKS * 4};
	uint64_t sector = group * (LOG_GROUP / SECTOR);
	size_t content = cur_get(&c, 4), payload = cur_get(&c, 4);
	uint64_t codec = cur_get(&c, 1);

	c.at = LOG_TRAILER - 4;
	if (crc32c(identity_crc(uuid, number, sector), t, LOG_TRAILER - 4) != (uint32_t)cur_get(&c, 4))
		return group_fault(err, number, sector, "does not verify: damaged, or of another object");
	if (codec != 0)
		return group_fault(err, number, sector, "has a codec that this version does not know");
	if (content != payload || content == 0 || content > LOG_GROUP || content % SECTOR != 0)
		return group_fault(err, number, sector, "has a length that it cannot have");
	*ret_n = content;
	return 0;
}

bool logobj_block_ok(const uint8_t sums[LOG_SUMS], const uint8_t uuid[16], uint64_t number, uint64_t group,
		     size_t block, const void *p, size_t n)
{
	struct cursor c = {.p = (uint8_t *)sums, .len = LOG_SUMS, .at = block * 4};
	uint64_t sector = group * (LOG_GROUP / SECTOR) + block * (LOG_BLOCK / SECTOR);

	return crc32c(identity_crc(uuid, number, sector), p, n) == (uint32_t)cur_get(&c, 4);
}

/*
 * Verifies blocks [first, last] of the group that starts at p. avail: stored bytes from there on. ret_n: bytes of
 * content. Only codec 0 here: packed objects are unpacked by whoever reads them.
 */
static int group_verify(const uint8_t *p, size_t avail, const uint8_t uuid[16], uint64_t number, uint64_t group,
			size_t first, size_t last, size_t *ret_n, struct objerr *err)
{
	/* A full group is looked at where a full one ends; else the object ends with this one. */
	size_t n = avail >= LOG_STRIDE ? LOG_GROUP : avail - MIN(avail, (size_t)LOG_TRAILER), content = 0;
	uint64_t sector = group * (LOG_GROUP / SECTOR);
	int r;

	if (avail < LOG_TRAILER + SECTOR)
		return group_fault(err, number, sector, "is cut short");
	r = logobj_trailer_check(p + n, uuid, number, group, &content, err);
	if (r < 0)
		return r;
	if (content != n)
		return group_fault(err, number, sector, "has a length that it cannot have");
	for (size_t i = first; i <= last && i * LOG_BLOCK < n; i++) {
		size_t o = i * LOG_BLOCK;

		if (!logobj_block_ok(p + n, uuid, number, group, i, p + o, MIN((size_t)LOG_BLOCK, n - o)))
			return group_fault(err, number, sector + o / SECTOR, "is damaged");
	}
	*ret_n = n;
	return 0;
}

void logobj_range(uint32_t sector, uint32_t n, uint64_t *ret_off, uint64_t *ret_len)
{
	uint64_t first = sector / (LOG_GROUP / SECTOR), last = ((uint64_t)sector + n - 1) / (LOG_GROUP / SECTOR);

	*ret_off = first * LOG_STRIDE;
	*ret_len = (last - first + 1) * LOG_STRIDE;
}

int logobj_extract(const void *p, size_t len, const uint8_t uuid[16], uint64_t number, uint32_t sector, uint32_t n,
		   void *out, struct objerr *err)
{
	const uint8_t *g = p;
	uint64_t group = sector / (LOG_GROUP / SECTOR);
	size_t from = (size_t)(sector % (LOG_GROUP / SECTOR)) * SECTOR, want = (size_t)n * SECTOR, content = 0, part;
	uint8_t *to = out;

	while (want > 0) {
		uint64_t start = group * (LOG_GROUP / SECTOR);
		int r;

		part = MIN(want, (size_t)LOG_GROUP - from);
		r = group_verify(g, len, uuid, number, group, from / LOG_BLOCK, (from + part - 1) / LOG_BLOCK, &content,
				 err);
		if (r < 0)
			return r;
		if (from + part > content)
			return group_fault(err, number, start, "is shorter than the map says");
		memcpy(to, g + from, part);
		to += part;
		want -= part;
		from = 0;
		g += content + LOG_TRAILER;
		len -= content + LOG_TRAILER;
		group++;
	}
	return 0;
}

/* ---- the header ---- */

void logobj_free(struct logobj *o)
{
	if (o == NULL)
		return;
	free(o->extents);
	if (o->digest != NULL) {
		for (size_t i = 0; i < o->digest->n; i++)
			free(o->digest->v[i].v);
		free(o->digest->v);
		free(o->digest);
	}
	if (o->checkpoint != NULL) {
		free(o->checkpoint->digests);
		free(o->checkpoint->claims);
		free(o->checkpoint->snaps);
		free(o->checkpoint);
	}
	if (o->create != NULL) {
		for (size_t i = 0; i < o->create->norigins; i++)
			free(o->create->origins[i].path);
		free(o->create->origins);
		free(o->create);
	}
	free(o->snap_name);
	free(o->text);
	free(o->group_bytes);
	memset(o, 0, sizeof(*o));
}

size_t logobj_header_size(const struct logobj *o)
{
	struct cursor c = {0};
	unsigned n;

	if (sections_write(o, &c, &n) < 0 || HEADER_FIXED + c.at > LOG_HEADER_MAX)
		return 0;
	return ROUND_UP(HEADER_FIXED + c.at, (size_t)LOG_BLOCK);
}

/* h: where the header goes, `size` bytes, zeroed but for the sections. */
static void fixed_write(const struct logobj *o, uint8_t *h, size_t bytes, unsigned nsections, uint64_t sectors,
			uint32_t body_crc)
{
	struct cursor c = {.p = h, .len = HEADER_FIXED};
	uint8_t zero[4] = {0};

	cur_put_bytes(&c, magic, sizeof(magic));
	cur_put(&c, LOG_VERSION, 2);
	cur_put(&c, o->type, 2);
	cur_put(&c, o->packed ? FLAG_PACKED : 0, 4);
	cur_put_bytes(&c, o->uuid, 16);
	cur_put(&c, o->number, 8);
	cur_put(&c, o->epoch, 8);
	cur_put_bytes(&c, o->nonce.b, 16);
	cur_put(&c, o->jseq, 8);
	cur_put(&c, o->size, 8);
	cur_put(&c, (uint64_t)o->time_s, 8);
	cur_put(&c, bytes, 4);
	cur_put(&c, nsections, 4);
	cur_put(&c, sectors, 8);
	cur_put(&c, o->window, 4);
	cur_put(&c, body_crc, 4);
	cur_put(&c, o->durable, 8);
	cur_put_bytes(&c, zero, 4);
	cur_put(&c, 0, 4);
	c.at = 124;
	cur_put(&c, crc32c(0, h, bytes), 4);
}

/* The content behind the header, where it stays: nothing is copied twice, these are many megabytes. */
static int fill_body(uint8_t *p, size_t head, const struct logobj_body *body, uint32_t *ret_crc)
{
	size_t content = head + body->bytes;
	uint32_t crc = 0;
	int r = 0;

	for (size_t at = head, n; at < content && r == 0; at += n) {
		uint8_t *to = p + at / LOG_GROUP * LOG_STRIDE + at % LOG_GROUP;

		n = MIN(LOG_GROUP - at % LOG_GROUP, content - at);
		r = body->fill(body->arg, to, n);
		if (r == 0)
			crc = crc32c(crc, to, n);
	}
	*ret_crc = crc;
	return r;
}

/* The header lies at p in one piece: its groups go to where they stay, the last one first, and all are sealed. */
static void seal(uint8_t *p, size_t head, size_t content, const struct logobj *o)
{
	for (size_t g = (head + LOG_GROUP - 1) / LOG_GROUP; g-- > 0;)
		memmove(p + g * LOG_STRIDE, p + g * LOG_GROUP, group_content(head, g));
	for (size_t g = 0; g * LOG_GROUP < content; g++)
		group_seal(p + g * LOG_STRIDE, group_content(content, g), o->uuid, o->number, g * (LOG_GROUP / SECTOR));
}

int logobj_encode_body(const struct logobj *o, const struct logobj_body *body, void **ret, size_t *ret_len,
		       uint32_t *ret_crc)
{
	size_t head = logobj_header_size(o), content = head + body->bytes;
	struct cursor c;
	unsigned nsections = 0;
	uint64_t want = 0;
	uint32_t crc;
	uint8_t *p;
	int r;

	if (head == 0 || o->packed || o->type <= 0 || o->type >= LOG_NTYPES || body->bytes % SECTOR != 0)
		return -EINVAL;
	r = extents_check(o->type, o->extents, o->nextents, &want);
	if (r < 0)
		return r;
	if ((o->type == LOG_DATA || o->type == LOG_CLEANER) && want * SECTOR != body->bytes)
		return -EINVAL;
	if (content > LOG_OBJECT_MAX)
		return -EFBIG;
	p = malloc(stored_size(content));
	if (p == NULL)
		return -ENOMEM;
	r = fill_body(p, head, body, &crc);
	if (r < 0) {
		free(p);
		return r;
	}
	memset(p, 0, head);
	c = (struct cursor){.p = p + HEADER_FIXED, .len = head - HEADER_FIXED};
	r = sections_write(o, &c, &nsections);
	assert(r == 0 && !c.bad);
	fixed_write(o, p, HEADER_FIXED + c.at, nsections, content / SECTOR, crc);
	if (ret_crc != NULL)
		*ret_crc = (uint32_t)cur_get(&(struct cursor){.p = p + 124, .len = 4}, 4);
	seal(p, head, content, o);
	*ret = p;
	*ret_len = stored_size(content);
	return 0;
}

int logobj_fill_bytes(void *arg, void *to, size_t n)
{
	const uint8_t **p = arg;

	memcpy(to, *p, n);
	*p += n;
	return 0;
}

struct pieces {
	const struct iovec *v; /* the next one */
	size_t at;	       /* within it */
};

static int fill_pieces(void *arg, void *to, size_t n)
{
	struct pieces *s = arg;

	for (uint8_t *p = to; n > 0;) {
		size_t k = MIN(n, s->v->iov_len - s->at);

		if (k > 0)
			memcpy(p, (uint8_t *)s->v->iov_base + s->at, k);
		p += k;
		n -= k;
		s->at += k;
		if (s->at == s->v->iov_len) {
			s->v++;
			s->at = 0;
		}
	}
	return 0;
}

int logobj_encode(const struct logobj *o, const struct iovec *data, int data_iovcnt, void **ret, size_t *ret_len,
		  uint32_t *ret_crc)
{
	struct pieces s = {.v = data};
	struct logobj_body body = {0, fill_pieces, &s};

	for (int i = 0; i < data_iovcnt; i++)
		body.bytes += data[i].iov_len;
	return logobj_encode_body(o, &body, ret, ret_len, ret_crc);
}

/* number: of the object that it should be, for the words; 0: what it says itself. */
static int fixed_read(const uint8_t *h, uint64_t number, struct logobj *o, unsigned *ret_nsections, struct objerr *err)
{
	struct cursor c = {.p = (uint8_t *)h, .len = HEADER_FIXED};
	char m[sizeof(magic)];
	uint64_t version, type, flags, sectors;

	cur_get_bytes(&c, m, sizeof(m));
	if (memcmp(m, magic, sizeof(m)) != 0)
		return log_damage(err, "log object %016" PRIx64 ": the magic is missing", number);
	version = cur_get(&c, 2);
	type = cur_get(&c, 2);
	flags = cur_get(&c, 4);
	cur_get_bytes(&c, o->uuid, 16);
	o->number = cur_get(&c, 8);
	o->epoch = cur_get(&c, 8);
	cur_get_bytes(&c, o->nonce.b, 16);
	o->jseq = cur_get(&c, 8);
	o->size = cur_get(&c, 8);
	o->time_s = (int64_t)cur_get(&c, 8);
	o->header_bytes = (uint32_t)cur_get(&c, 4);
	*ret_nsections = (unsigned)cur_get(&c, 4);
	sectors = cur_get(&c, 8);
	o->window = (uint32_t)cur_get(&c, 4);
	o->body_crc = (uint32_t)cur_get(&c, 4);
	o->durable = cur_get(&c, 8);
	c.at = 124;
	o->crc = (uint32_t)cur_get(&c, 4);
	number = number != 0 ? number : o->number;
	if (version != LOG_VERSION)
		return log_damage(err, "log object %016" PRIx64 ": version %" PRIu64 ", this program knows %d", number,
				  version, LOG_VERSION);
	if (type == 0 || type >= LOG_NTYPES || (flags & ~(uint64_t)FLAG_PACKED) != 0)
		return log_damage(err,
				  "log object %016" PRIx64 ": type %" PRIu64 " or flags %" PRIx64 " of a newer version",
				  number, type, flags);
	o->type = (enum log_type)type;
	o->packed = (flags & FLAG_PACKED) != 0;
	o->content_sectors = (uint32_t)sectors;
	if (o->number == 0 || o->header_bytes < HEADER_FIXED || o->header_bytes > LOG_HEADER_MAX ||
	    *ret_nsections > 65535 || sectors > LOG_OBJECT_MAX / SECTOR ||
	    ROUND_UP((uint64_t)o->header_bytes, LOG_BLOCK) > sectors * SECTOR || o->window == 0 ||
	    o->window > LOG_W_MAX || o->size > IMG_SECTORS_MAX * SECTOR || o->durable > o->number)
		return log_damage(err, "log object %016" PRIx64 ": a field of the header is out of range", number);
	return 0;
}

/* Content bytes [0, n) from the stored bytes p, verified against uuid and number. */
static int header_content(const uint8_t *p, size_t len, const struct logobj *o, uint8_t *out, size_t n,
			  struct objerr *err)
{
	return logobj_extract(p, len, o->uuid, o->number, 0, (uint32_t)(n / SECTOR), out, err);
}

static int sections_decode(struct logobj *o, uint8_t *h, unsigned nsections, struct objerr *err)
{
	struct cursor c = {.p = h + HEADER_FIXED, .len = o->header_bytes - HEADER_FIXED};
	uint64_t data, at;
	int r;

	memset(h + 124, 0, 4);
	if (crc32c(0, h, o->header_bytes) != o->crc)
		return log_damage(err, "log object %016" PRIx64 ": the header's CRC is wrong", o->number);
	r = sections_read(o, &c, nsections, err);
	if (r < 0)
		return r;
	if (extents_check(o->type, o->extents, o->nextents, &data) < 0)
		return log_damage(err, "log object %016" PRIx64 ": extents overlap or are out of order", o->number);
	at = ROUND_UP((uint64_t)o->header_bytes, LOG_BLOCK) / SECTOR;
	if ((o->type == LOG_DATA || o->type == LOG_CLEANER) ? at + data != o->content_sectors : data != 0)
		return log_damage(err, "log object %016" PRIx64 ": its extents are not as long as its data", o->number);
	for (size_t i = 0; i < o->nextents; i++)
		if (o->extents[i].kind == EXT_DATA) {
			o->extents[i].at = (uint32_t)at;
			at += o->extents[i].len;
		}
	return 0;
}

/* stored: in groups, as the object is; else the content alone. */
static int decode(bool stored, const void *p, size_t len, const uint8_t *uuid, uint64_t number, struct logobj *ret,
		  size_t *ret_need, struct objerr *err)
{
	struct logobj o = {0};
	unsigned nsections = 0;
	size_t head, want;
	uint8_t *h;
	int r;

	if (len < HEADER_FIXED) {
		*ret_need = stored ? LOG_STRIDE : LOG_BLOCK;
		return -EAGAIN;
	}
	r = fixed_read(p, number, &o, &nsections, err);
	if (r < 0)
		return r;
	if ((uuid != NULL && memcmp(uuid, o.uuid, 16) != 0) || (number != 0 && number != o.number))
		return log_damage(err, "log object %016" PRIx64 ": it says that it is another one (%016" PRIx64 ")",
				  number, o.number);
	want = head = ROUND_UP((size_t)o.header_bytes, (size_t)LOG_BLOCK);
	if (stored) /* whole groups, but not more than the object has */
		want = stored_size(MIN(ROUND_UP(head, (size_t)LOG_GROUP), (size_t)o.content_sectors * SECTOR));
	if (len < want) {
		*ret_need = want;
		return -EAGAIN;
	}
	h = malloc(head);
	if (h == NULL)
		return -ENOMEM;
	if (stored)
		r = header_content(p, len, &o, h, head, err);
	else
		memcpy(h, p, head);
	if (r == 0)
		r = sections_decode(&o, h, nsections, err);
	free(h);
	if (r < 0) {
		logobj_free(&o);
		return r;
	}
	*ret = o;
	return 0;
}

int logobj_decode(const void *p, size_t len, const uint8_t *uuid, uint64_t number, struct logobj *ret, size_t *ret_need,
		  struct objerr *err)
{
	return decode(true, p, len, uuid, number, ret, ret_need, err);
}

int logobj_decode_content(const void *p, size_t len, const uint8_t uuid[16], uint64_t number, struct logobj *ret,
			  size_t *ret_need, struct objerr *err)
{
	return decode(false, p, len, uuid, number, ret, ret_need, err);
}

int logobj_peek(const void *p, size_t len, struct logobj *ret, struct objerr *err)
{
	struct logobj o = {0};
	unsigned nsections = 0;
	int r;

	if (len < HEADER_FIXED)
		return log_damage(err, "log object: cut short at %zu bytes", len);
	r = fixed_read(p, 0, &o, &nsections, err);
	if (r == 0)
		*ret = o;
	return r;
}

int logobj_verify(const void *p, size_t len, const uint8_t *uuid, uint64_t number, struct objerr *err)
{
	struct logobj o;
	size_t need = 0, head, content;
	uint8_t *all;
	int r = logobj_decode(p, len, uuid, number, &o, &need, err);

	if (r == -EAGAIN)
		return log_damage(err, "log object %016" PRIx64 ": cut short at %zu bytes", number, len);
	if (r < 0)
		return r;
	content = (size_t)o.content_sectors * SECTOR;
	head = ROUND_UP((size_t)o.header_bytes, (size_t)LOG_BLOCK);
	if (len != stored_size(content)) {
		r = log_damage(err, "log object %016" PRIx64 ": %zu bytes instead of %zu", o.number, len,
			       stored_size(content));
		goto out;
	}
	all = malloc(content);
	if (all == NULL) {
		r = -ENOMEM;
		goto out;
	}
	r = logobj_extract(p, len, o.uuid, o.number, 0, o.content_sectors, all, err);
	if (r == 0 && crc32c(0, all + head, content - head) != o.body_crc)
		r = log_damage(err, "log object %016" PRIx64 ": the CRC of its data is wrong", o.number);
	free(all);
out:
	logobj_free(&o);
	return r;
}
