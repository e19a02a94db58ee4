/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spjournal.c - encoding and decoding of spool journal records, and appending them; layout in spjournal.h.
 *
 * Which fields a type has stands in one table, so that encoder and decoder cannot disagree. Strings carry a length and
 * a NUL; the decoder hands out pointers into the journal.
 */
#include "config.h"
#include "spjournal.h"
#include "objstore/base/crc32c.h"
#include "objstore/base/failpoint.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x4a505331u
#define HEAD 16
#define PAYLOAD_MAX (1024 * 1024)

enum field { /* in the order of the payload */
	F_RANGE = 1 << 0,   /* u64 off, u64 len */
	F_NUMBER = 1 << 1,  /* u32 */
	F_META = 1 << 2,    /* u64 ino, i64 time_s, u32 whole */
	F_TEXT = 1 << 3,    /* string */
	F_TEXT2 = 1 << 4,   /* string */
	F_NAME = 1 << 5,    /* string dir, string name */
	F_VERSION = 1 << 6, /* string etag, u64 size, i64 mtime_s */
	F_HEADERS = 1 << 7, /* u32 bytes, bytes */
};

static const unsigned fields[SPJ_TYPES] = {
	[SPJ_HEADER] = F_NUMBER | F_META | F_TEXT | F_NAME | F_VERSION | F_HEADERS,
	[SPJ_RANGE] = F_RANGE,
	[SPJ_FETCHED] = F_RANGE,
	[SPJ_TRUNC] = F_RANGE,
	[SPJ_STATE] = F_NUMBER,
	[SPJ_HEADERS] = F_HEADERS,
	[SPJ_MOVE] = F_NAME | F_VERSION,
	[SPJ_BASE] = F_VERSION,
	[SPJ_SRC] = F_NAME | F_VERSION,
	[SPJ_NONCE] = F_TEXT,
	[SPJ_UPLOAD] = F_RANGE | F_NUMBER | F_TEXT | F_TEXT2 | F_HEADERS,
	[SPJ_PART] = F_RANGE | F_NUMBER | F_TEXT,
	[SPJ_FORCED] = 0,
	[SPJ_META_PUT] = F_NUMBER | F_NAME | F_VERSION | F_HEADERS,
	[SPJ_META_DEL] = F_NUMBER | F_NAME,
};

static void put_u32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_u32(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void add_u32(struct str *s, uint32_t v)
{
	unsigned char b[4];

	put_u32(b, v);
	str_addn(s, b, sizeof(b));
}

static void add_u64(struct str *s, uint64_t v)
{
	add_u32(s, (uint32_t)v);
	add_u32(s, (uint32_t)(v >> 32));
}

static void add_string(struct str *s, const char *z)
{
	size_t n = z ? strlen(z) : 0;

	add_u32(s, (uint32_t)n);
	str_addn(s, z ? z : "", n + 1);
}

static void add_payload(struct str *s, const struct spj_event *ev, unsigned f)
{
	if (f & F_RANGE) {
		add_u64(s, ev->off);
		add_u64(s, ev->len);
	}
	if (f & F_NUMBER)
		add_u32(s, ev->number);
	if (f & F_META) {
		add_u64(s, ev->ino);
		add_u64(s, (uint64_t)ev->time_s);
		add_u32(s, ev->whole);
	}
	if (f & F_TEXT)
		add_string(s, ev->text);
	if (f & F_TEXT2)
		add_string(s, ev->text2);
	if (f & F_NAME) {
		add_string(s, ev->dir);
		add_string(s, ev->name);
	}
	if (f & F_VERSION) {
		add_string(s, ev->v.etag);
		add_u64(s, ev->v.size);
		add_u64(s, (uint64_t)ev->v.mtime_s);
	}
	if (f & F_HEADERS) {
		add_u32(s, (uint32_t)ev->headers_len);
		str_addn(s, ev->headers ? ev->headers : "", ev->headers_len);
	}
}

int spj_encode(const struct spj_event *ev, struct str *out)
{
	static const unsigned char zero[HEAD];
	size_t start = out->len;
	unsigned char *h;

	assert(ev->type >= SPJ_HEADER && ev->type < SPJ_TYPES);
	str_addn(out, zero, HEAD);
	add_payload(out, ev, fields[ev->type]);
	if (out->err)
		return out->err;
	if (out->len - start - HEAD > PAYLOAD_MAX)
		return -EFBIG;
	h = (unsigned char *)out->p + start;
	put_u32(h, MAGIC);
	h[4] = (unsigned char)ev->type;
	put_u32(h + 8, (uint32_t)(out->len - start - HEAD));
	put_u32(h + 12, crc32c(crc32c(0, h + 4, 8), h + HEAD, out->len - start - HEAD));
	return 0;
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

struct reader {
	const unsigned char *p;
	size_t left;
	bool bad;
};

static const unsigned char *take(struct reader *rd, size_t n)
{
	const unsigned char *p = rd->p;

	if (rd->bad || rd->left < n) {
		rd->bad = true;
		return NULL;
	}
	rd->p += n;
	rd->left -= n;
	return p;
}

static uint32_t take_u32(struct reader *rd)
{
	const unsigned char *p = take(rd, 4);

	return p ? get_u32(p) : 0;
}

static uint64_t take_u64(struct reader *rd)
{
	uint64_t lo = take_u32(rd);

	return lo | (uint64_t)take_u32(rd) << 32;
}

static const char *take_string(struct reader *rd)
{
	uint32_t n = take_u32(rd);
	const unsigned char *p = n < PAYLOAD_MAX ? take(rd, (size_t)n + 1) : NULL;

	if (p == NULL || memchr(p, 0, (size_t)n + 1) != p + n) {
		rd->bad = true;
		return "";
	}
	return (const char *)p;
}

static void take_version(struct reader *rd, struct version *v)
{
	if (str_copy(v->etag, sizeof(v->etag), take_string(rd)) < 0)
		rd->bad = true;
	v->size = take_u64(rd);
	v->mtime_s = (int64_t)take_u64(rd);
}

static int take_event(struct reader *rd, struct spj_event *ev)
{
	unsigned f = fields[ev->type];

	if (f & F_RANGE) {
		ev->off = take_u64(rd);
		ev->len = take_u64(rd);
		if (ev->type != SPJ_UPLOAD && (ev->off > INT64_MAX || ev->len > INT64_MAX - ev->off))
			rd->bad = true;
	}
	if (f & F_NUMBER)
		ev->number = take_u32(rd);
	if (f & F_META) {
		ev->ino = take_u64(rd);
		ev->time_s = (int64_t)take_u64(rd);
		ev->whole = take_u32(rd) != 0;
	}
	if (f & F_TEXT)
		ev->text = take_string(rd);
	if (f & F_TEXT2)
		ev->text2 = take_string(rd);
	if (f & F_NAME) {
		ev->dir = take_string(rd);
		ev->name = take_string(rd);
	}
	if (f & F_VERSION)
		take_version(rd, &ev->v);
	if (f & F_HEADERS) {
		ev->headers_len = take_u32(rd);
		ev->headers = take(rd, ev->headers_len);
	}
	return rd->bad || rd->left ? -EBADMSG : 0;
}

/* The payload length of a record whose header and checksum are right, else -EBADMSG. */
static ssize_t check_record(const unsigned char *p, size_t left)
{
	uint32_t n;

	if (left < HEAD || get_u32(p) != MAGIC || p[5] || p[6] || p[7])
		return -EBADMSG;
	n = get_u32(p + 8);
	if (n > PAYLOAD_MAX || n > left - HEAD)
		return -EBADMSG;
	if (crc32c(crc32c(0, p + 4, 8), p + HEAD, n) != get_u32(p + 12))
		return -EBADMSG;
	return n;
}

/* The event of a record that checks, with n bytes of payload. */
static int take_record(const unsigned char *p, size_t n, struct spj_event *ev)
{
	struct reader rd = { .p = p + HEAD, .left = n };
	int r;

	ev->type = p[4];
	if (ev->type < SPJ_HEADER || ev->type >= SPJ_TYPES)
		return -EBADMSG;
	r = take_event(&rd, ev);
	return r == 0 && ev->type == SPJ_HEADER && ev->number != SPJ_FORMAT ? -EBADMSG : r;
}

/* Where the next record that checks begins, at p or behind it; NULL. */
static const unsigned char *next_record(const unsigned char *p, size_t left)
{
	unsigned char magic[4];
	const unsigned char *end = p + left, *q = p;

	put_u32(magic, MAGIC);
	while ((q = memmem(q, (size_t)(end - q), magic, sizeof(magic))) != NULL) {
		if (check_record(q, (size_t)(end - q)) >= 0)
			return q;
		q++;
	}
	return NULL;
}

int spj_decode(const void *bytes, size_t len, spj_fn fn, void *arg, size_t *ret_used)
{
	const unsigned char *p = bytes;
	size_t pos = 0;

	while (pos < len) {
		ssize_t n = check_record(p + pos, len - pos);
		struct spj_event ev = { 0 };
		int r;

		if (n < 0) {
			if (next_record(p + pos + 1, len - pos - 1))
				return -EBADMSG;
			break;
		}
		r = take_record(p + pos, (size_t)n, &ev);
		if (r == 0 && (pos == 0) != (ev.type == SPJ_HEADER))
			r = -EBADMSG;
		if (r == 0)
			r = fn(arg, &ev);
		if (r < 0)
			return r;
		pos += HEAD + (size_t)n;
	}
	if (pos == 0)
		return -EBADMSG;
	*ret_used = pos;
	return 0;
}

int spj_salvage(const void *bytes, size_t len, spj_fn fn, void *arg)
{
	const unsigned char *p = bytes, *end = p + len;

	while ((p = next_record(p, (size_t)(end - p))) != NULL) {
		size_t n = (size_t)check_record(p, (size_t)(end - p));
		struct spj_event ev = { 0 };
		int r = take_record(p, n, &ev);

		if (r == 0)
			r = fn(arg, &ev);
		if (r < 0)
			return r;
		p += HEAD + n;
	}
	return 0;
}

/* --- appending ---------------------------------------------------------------------------------------------------- */

int spj_reserve(struct spj *j, size_t n)
{
	uint64_t want;

	if (j->broken)
		return j->broken;
	if (j->len + n <= j->alloc)
		return 0;
	/* little for the many small files, more for those that grow */
	want = j->len + n + (j->len < 4096 ? 4096 : 65536);
	if (fallocate(j->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)want) < 0) {
		if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
			return -errno;
		/* not every file system can; then an append may still meet a full disk and says so */
	}
	j->alloc = want;
	return 0;
}

int spj_append_raw(struct spj *j, const struct str *recs)
{
	int r;

	if (recs->err)
		return recs->err;
	if (j->broken)
		return j->broken;
	r = base_pwrite_all(j->fd, recs->p, recs->len, j->len);
	if (r < 0) {
		/* half a record would hide later ones: cut it off, or add nothing any more */
		if (ftruncate(j->fd, (off_t)j->len) < 0 || r != -ENOSPC)
			j->broken = r;
		j->alloc = j->len; /* what was reserved went with the cut */
		return r;
	}
	j->len += recs->len;
	return 0;
}

int spj_append(struct spj *j, const struct spj_event *ev)
{
	struct str s = { 0 };
	int r = spj_encode(ev, &s);

	if (r == 0)
		r = spj_append_raw(j, &s);
	str_free(&s);
	FAILPOINT("spool.journal-append");
	return r;
}
