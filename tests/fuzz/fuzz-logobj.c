/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-logobj.c - any bytes as a log object. Three ways: as they were stored; as a header that is put into groups with
 * the right checksums, since no mutation gets past those; the same, asked for piece by piece.
 *
 * What is accepted is written again, read again, and must be the same; what is refused has words. The last byte of the
 * nonce (63) says what is not put right: 1 header bytes, 2 the header's CRC, 4 the sectors of content, 8 the CRCs of the
 * groups.
 */
#include "config.h"
#include "fs/image/logobj.h"
#include "fuzz.h"
#include "objstore/base/crc32c.h"

enum { HEAD_MAX = 20000, BODY_MAX = 300 * SECTOR };

static void put(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t take(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = n; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

static uint32_t identity(const uint8_t *head, uint64_t sector)
{
	uint8_t id[32];

	memcpy(id, head + 16, 24);
	put(id + 24, sector, 8);
	return crc32c(0, id, sizeof(id));
}

/* content becomes groups with trailers; to: room for all. Returns the stored bytes. */
static size_t store(const uint8_t *content, size_t n, uint8_t *to)
{
	uint8_t *start = to;

	for (size_t g = 0; g < n; g += LOG_GROUP) {
		size_t len = MIN(n - g, (size_t)LOG_GROUP);

		memcpy(to, content + g, len);
		to += len;
		memset(to, 0, LOG_TRAILER);
		for (size_t b = 0; b * LOG_BLOCK < len; b++)
			put(to + 4 * b,
			    crc32c(identity(content, (g + b * LOG_BLOCK) / SECTOR), content + g + b * LOG_BLOCK,
				   MIN(len - b * LOG_BLOCK, (size_t)LOG_BLOCK)),
			    4);
		put(to + 64, len, 4);
		put(to + 68, len, 4);
		put(to + 92, crc32c(identity(content, g / SECTOR), to, 92), 4);
		to += LOG_TRAILER;
	}
	return (size_t)(to - start);
}

static int decode(const uint8_t *p, size_t n, struct logobj *o)
{
	struct objerr err = {0};
	size_t enough = 0;
	int r = logobj_decode(p, n, NULL, 0, o, &enough, &err);

	check(r == 0 || r == -EUCLEAN || r == -EAGAIN || r == -ENOMEM);
	check(r != -EAGAIN || enough > n);
	check(r != -EUCLEAN || err.msg[0] != '\0');
	return r;
}

/* Written again and read again it is the same. */
static void again(const struct logobj *o, const uint8_t *body, size_t n)
{
	struct iovec iov = {(void *)body, n};
	struct logobj back;
	void *a, *b;
	size_t na, nb;

	if (o->packed)
		return;
	if (logobj_encode(o, &iov, 1, &a, &na, NULL) < 0)
		return;
	check(decode(a, na, &back) == 0);
	check(logobj_verify(a, na, o->uuid, o->number, NULL) == 0);
	check(logobj_encode(&back, &iov, 1, &b, &nb, NULL) == 0);
	check(na == nb && memcmp(a, b, na) == 0);
	free(a);
	free(b);
	logobj_free(&back);
}

static void extract(const uint8_t *p, size_t n, const struct logobj *o)
{
	uint8_t *out = malloc((size_t)o->content_sectors * SECTOR + 1);
	uint64_t off, len;
	struct objerr err;

	check(out);
	for (uint32_t s = 0; s < o->content_sectors; s += 97) {
		uint32_t k = MIN(o->content_sectors - s, 131u);

		logobj_range(s, k, &off, &len);
		if (off < n)
			ignore(logobj_extract(p + off, MIN(len, n - off), o->uuid, o->number, s, k, out, &err));
	}
	free(out);
}

static void look(const uint8_t *p, size_t n)
{
	struct logobj o, peek;
	struct objerr err;

	ignore(logobj_verify(p, n, NULL, 0, &err));
	if (decode(p, n, &o) < 0)
		return;
	check(logobj_peek(p, n, &peek, &err) == 0 && peek.number == o.number && peek.crc == o.crc);
	check(o.window > 0 && o.header_bytes >= 128);
	extract(p, n, &o);
	if (!o.packed) {
		size_t head = logobj_header_size(&o), body = 0;
		uint8_t *zero;

		for (size_t i = 0; i < o.nextents; i++)
			body += o.extents[i].kind == EXT_DATA ? o.extents[i].len * SECTOR : 0;
		check(head > 0);
		zero = calloc(1, body + 1);
		check(zero);
		again(&o, zero, body);
		free(zero);
	}
	logobj_free(&o);
}

/* The same bytes without what verifies groups, as a cache has them. */
static void plain(const uint8_t *content, size_t n)
{
	static const uint8_t other[16];
	struct objerr err = {0};
	struct logobj o;
	size_t enough = 0;
	int r = logobj_decode_content(content, n, content + 16, take(content + 32, 8), &o, &enough, &err);

	check(r == 0 || r == -EUCLEAN || r == -EAGAIN || r == -ENOMEM);
	check(r != -EAGAIN || enough > n);
	check(r != -EUCLEAN || err.msg[0] != '\0');
	if (r == 0)
		logobj_free(&o);
	check(memcmp(content + 16, other, 16) == 0 ||
	      logobj_decode_content(content, n, other, take(content + 32, 8), &o, &enough, &err) != 0);
}

static void as_header(const uint8_t *data, size_t size)
{
	static uint8_t content[HEAD_MAX + LOG_BLOCK + BODY_MAX], stored[sizeof(content) + 8 * LOG_TRAILER];
	size_t head, n;
	uint64_t sectors;
	unsigned keep;

	if (size < 128 || size > HEAD_MAX)
		return;
	head = (size + LOG_BLOCK - 1) / LOG_BLOCK * LOG_BLOCK;
	memset(content, 0, sizeof(content));
	memcpy(content, data, size);
	keep = data[63];
	sectors = take(content + 96, 8);
	n = sectors * SECTOR > head && sectors <= (head + BODY_MAX) / SECTOR ? (size_t)sectors * SECTOR : head;
	if ((keep & 1) == 0)
		put(content + 88, size, 4);
	if ((keep & 4) == 0)
		put(content + 96, n / SECTOR, 8);
	put(content + 108, crc32c(0, content + head, n - head), 4);
	if ((keep & 2) == 0) {
		put(content + 124, 0, 4);
		put(content + 124, crc32c(0, content, size), 4);
	}
	plain(content, n);
	plain(content, 100);
	plain(content, 128);
	n = store(content, n, stored);
	if ((keep & 8) != 0)
		stored[MIN((size_t)data[64] * 64, n - 1)] ^= 1;
	look(stored, n);
	look(stored, (keep & 16) != 0 ? n * 2 / 3 : n / 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t uuid[16] = "0123456789abcdef";
	struct logobj o;
	struct objerr err = {0};
	size_t enough;

	look(data, size);
	if (logobj_decode(data, size, uuid, 5, &o, &enough, &err) == 0) {
		check(o.number == 5 && memcmp(o.uuid, uuid, 16) == 0);
		logobj_free(&o);
	}
	as_header(data, size);
	return 0;
}
