/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logobj-private.h - reading and writing little-endian fields with a bound, and what logobj.c, logsect.c and
 * logpage.c share.
 *
 * A cursor never passes its end: a read behind it gives 0 and sets `bad`, a write behind it only counts (so that one
 * pass over a NULL buffer measures). Decoders read freely and look at `bad` before they use what they read as a
 * length or an index.
 */
#ifndef LSVD_IMAGE_LOGOBJ_PRIVATE_H
#define LSVD_IMAGE_LOGOBJ_PRIVATE_H

#include "logobj.h"
#include <string.h>

struct cursor {
	uint8_t *p; /* NULL: only count */
	size_t len, at;
	bool bad;
};

static inline const uint8_t *cur_take(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p + c->at;

	if (c->bad || n > c->len - c->at) {
		c->bad = true;
		return NULL;
	}
	c->at += n;
	return p;
}

static inline uint64_t cur_get(struct cursor *c, unsigned bytes)
{
	const uint8_t *p = cur_take(c, bytes);
	uint64_t v = 0;

	for (unsigned i = 0; p != NULL && i < bytes; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static inline void cur_get_bytes(struct cursor *c, void *out, size_t n)
{
	const uint8_t *p = cur_take(c, n);

	if (p != NULL)
		memcpy(out, p, n);
	else
		memset(out, 0, n);
}

static inline size_t cur_left(const struct cursor *c)
{
	return c->bad ? 0 : c->len - c->at;
}

static inline void cur_put_bytes(struct cursor *c, const void *p, size_t n)
{
	if (c->p != NULL && c->at <= c->len && n <= c->len - c->at && n > 0)
		memcpy(c->p + c->at, p, n);
	else if (c->p != NULL && n > 0)
		c->bad = true;
	c->at += n;
}

static inline void cur_put(struct cursor *c, uint64_t v, unsigned bytes)
{
	uint8_t b[8];

	for (unsigned i = 0; i < bytes; i++)
		b[i] = (uint8_t)(v >> (8 * i));
	cur_put_bytes(c, b, bytes);
}

/* Zeros up to a multiple of n (a power of two) from `from`. */
static inline void cur_pad(struct cursor *c, size_t from, size_t n)
{
	static const uint8_t zero[16];

	while (((c->at - from) & (n - 1)) != 0)
		cur_put_bytes(c, zero, 1);
}

#define ROUND_UP(x, n) (((x) + ((n)-1)) / (n) * (n))

/* Sections (logsect.c): all of them, in the order of their numbers. */
int must_check sections_write(const struct logobj *o, struct cursor *c, unsigned *ret_n);
int must_check sections_read(struct logobj *o, struct cursor *c, unsigned n, struct objerr *err);
/* Bytes of an entry of EXTENTS. */
static inline size_t extent_size(enum log_type t)
{
	return t == LOG_CLEANER ? 32 : 16;
}
/* -EINVAL: not sorted, empty, too long, of a kind that the type does not have. ret: data sectors. */
int must_check extents_check(enum log_type t, const struct log_extent *v, size_t n, uint64_t *ret_data);
void pageref_write(struct cursor *c, const struct log_pageref *r);
int must_check pageref_read(struct cursor *c, struct log_pageref *r);
int must_check log_damage(struct objerr *err, const char *fmt, ...) printf_like(2, 3); /* sets err, returns -EUCLEAN */

#endif
