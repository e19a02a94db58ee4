/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logpage.c - pages of the map tree and of the object table (FORMAT.md 3.9), and numbers and uuids as text.
 *
 * Leaves and object tables are sequences of LEB128 numbers, so that a run of 4 KiB costs about seven bytes. A page
 * ends where its 64 KiB do: page_encode() says how many entries it took.
 */
#include "config.h"
#include "logobj-private.h"
#include "../../objstore/base/crc32c.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>

enum { PAGE_FIXED = 24, CHILD_SIZE = 32, LEB_MAX = 10 };

void page_free(struct page *p)
{
	if (p == NULL)
		return;
	free(p->runs);
	free(p->children);
	free(p->objects);
	memset(p, 0, sizeof(*p));
}

static void leb_put(struct cursor *c, uint64_t v)
{
	do {
		cur_put(c, (v & 0x7f) | (v > 0x7f ? 0x80 : 0), 1);
		v >>= 7;
	} while (v != 0);
}

static uint64_t leb_get(struct cursor *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint64_t b = cur_get(c, 1);

		if (shift == 63 && b > 1)
			break;
		v |= (b & 0x7f) << shift;
		if ((b & 0x80) == 0)
			return v;
	}
	c->bad = true;
	return 0;
}

static uint64_t zigzag(uint64_t from, uint64_t to)
{
	int64_t d = (int64_t)(to - from);

	return ((uint64_t)d << 1) ^ (uint64_t)(d >> 63);
}

static uint64_t unzigzag(uint64_t from, uint64_t z)
{
	return from + ((z >> 1) ^ -(z & 1));
}

/* ---- writing: one entry after the other, as long as they fit ---- */

struct page_at {
	uint64_t lba, number; /* of the entry before */
};

static void run_put(const struct page_run *r, struct page_at *at, struct cursor *c)
{
	leb_put(c, r->lba - at->lba);
	leb_put(c, r->len);
	leb_put(c, r->kind == EXT_DATA ? 0 : 1);
	if (r->kind == EXT_DATA) {
		leb_put(c, zigzag(at->number, r->at.number));
		leb_put(c, r->at.sector);
		at->number = r->at.number;
	}
	at->lba = r->lba + r->len;
}

static void object_put(const struct page_object *o, struct page_at *at, struct cursor *c)
{
	leb_put(c, o->number - at->number);
	leb_put(c, o->type);
	leb_put(c, o->sectors);
	leb_put(c, o->live);
	leb_put(c, o->death);
	at->number = o->number;
}

static void child_put(const struct page_child *k, struct cursor *c)
{
	cur_put(c, k->first, 8);
	pageref_write(c, &k->ref);
}

static void entry_put(const struct page *p, size_t i, struct page_at *at, struct cursor *c)
{
	if (p->level == PAGE_LEAF)
		run_put(&p->runs[i], at, c);
	else if (p->level == PAGE_OBJTABLE)
		object_put(&p->objects[i], at, c);
	else
		child_put(&p->children[i], c);
}

static uint64_t entry_first(const struct page *p, size_t i)
{
	return p->level == PAGE_LEAF       ? p->runs[i].lba
	       : p->level == PAGE_OBJTABLE ? p->objects[i].number
					   : p->children[i].first;
}

int page_encode(const struct page *p, void *buf, size_t *ret_len, size_t *ret_n)
{
	struct cursor c = {.p = buf, .len = LOG_GROUP, .at = PAGE_FIXED}, head = {.p = buf, .len = PAGE_FIXED};
	struct page_at at = {.lba = p->first, .number = p->level == PAGE_OBJTABLE ? p->first : 0};
	size_t n;

	for (n = 0; n < p->n; n++) {
		size_t before = c.at;

		if (entry_first(p, n) < p->first || entry_first(p, n) >= p->end)
			return -EINVAL;
		entry_put(p, n, &at, &c);
		if (c.bad) {
			c.at = before;
			break;
		}
	}
	cur_put(&head, p->level, 1);
	cur_put(&head, 0, 3);
	cur_put(&head, n, 4);
	cur_put(&head, p->first, 8);
	cur_put(&head, n < p->n ? entry_first(p, n) : p->end, 8);
	*ret_len = c.at;
	*ret_n = n;
	return 0;
}

/* ---- reading ---- */

static int runs_read(struct page *p, struct cursor *c)
{
	struct page_at at = {.lba = p->first};

	p->runs = calloc(p->n + 1, sizeof(*p->runs));
	if (p->runs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++) {
		struct page_run *r = &p->runs[i];
		uint64_t gap = leb_get(c), kind;

		r->len = leb_get(c);
		kind = leb_get(c);
		if (c->bad || kind > 1 || gap > p->end - at.lba || r->len == 0 || r->len > p->end - at.lba - gap)
			return -EUCLEAN;
		r->lba = at.lba + gap;
		r->kind = kind == 0 ? EXT_DATA : EXT_ZERO;
		if (kind == 0) {
			uint64_t sector;

			r->at.number = at.number = unzigzag(at.number, leb_get(c));
			sector = leb_get(c);
			if (c->bad || r->at.number == 0 || sector > LOG_OBJECT_MAX / SECTOR ||
			    r->len > LOG_OBJECT_MAX / SECTOR - sector)
				return -EUCLEAN;
			r->at.sector = (uint32_t)sector;
		}
		at.lba = r->lba + r->len;
	}
	return 0;
}

static int objects_read(struct page *p, struct cursor *c)
{
	uint64_t number = p->first;

	p->objects = calloc(p->n + 1, sizeof(*p->objects));
	if (p->objects == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++) {
		struct page_object *o = &p->objects[i];
		uint64_t step = leb_get(c), type = leb_get(c), sectors = leb_get(c), live = leb_get(c);

		o->death = leb_get(c);
		if (c->bad || (i > 0 && step == 0) || step >= p->end - number || type == 0 || type >= LOG_NTYPES ||
		    sectors > LOG_OBJECT_MAX / SECTOR || live > sectors)
			return -EUCLEAN;
		number += step;
		*o = (struct page_object){number, (enum log_type)type, (uint32_t)sectors, (uint32_t)live, o->death};
	}
	return 0;
}

static int children_read(struct page *p, struct cursor *c)
{
	uint8_t below = p->level == PAGE_OBJINDEX ? PAGE_OBJTABLE : (uint8_t)(p->level - 1);
	uint64_t at = p->first;

	if (cur_left(c) != p->n * CHILD_SIZE)
		return -EUCLEAN;
	p->children = calloc(p->n + 1, sizeof(*p->children));
	if (p->children == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < p->n; i++) {
		struct page_child *k = &p->children[i];

		k->first = cur_get(c, 8);
		if (pageref_read(c, &k->ref) < 0 || k->ref.number == 0 || k->first >= p->end)
			return -EUCLEAN;
		/* Ranges adjoin and levels go down: a walk ends. Tables of objects may be two indices deep. */
		if (i == 0 ? k->first != at : k->first <= at)
			return -EUCLEAN;
		if (k->ref.level != below && !(p->level == PAGE_OBJINDEX && k->ref.level == PAGE_OBJINDEX))
			return -EUCLEAN;
		at = k->first;
	}
	return 0;
}

static int page_read(struct page *p, struct cursor *c)
{
	if (p->level == PAGE_LEAF)
		return runs_read(p, c);
	if (p->level == PAGE_OBJTABLE)
		return objects_read(p, c);
	return children_read(p, c);
}

int page_decode(const void *bytes, size_t len, const struct log_pageref *ref, struct page *ret, struct objerr *err)
{
	struct cursor c = {.p = (uint8_t *)bytes, .len = ref->bytes};
	struct page p = {0};
	int r = -EUCLEAN;

	if (ref->bytes > len || ref->bytes > LOG_GROUP || crc32c(0, bytes, ref->bytes) != ref->crc)
		goto out;
	p.level = (uint8_t)cur_get(&c, 1);
	(void)cur_get(&c, 3);
	p.n = cur_get(&c, 4);
	p.first = cur_get(&c, 8);
	p.end = cur_get(&c, 8);
	/* An entry has at least three bytes: a count beyond that would only cost memory. */
	if (c.bad || p.level != ref->level || p.first >= p.end || p.n > cur_left(&c) / 3 ||
	    (p.level != PAGE_OBJTABLE && p.level != PAGE_OBJINDEX && p.end > IMG_SECTORS_MAX))
		goto out;
	r = page_read(&p, &c);
	if (r == 0 && (c.bad || cur_left(&c) > 0))
		r = -EUCLEAN;
out:
	if (r < 0) {
		page_free(&p);
		if (r == -EUCLEAN)
			return log_damage(err, "log object %016" PRIx64 ": the map page at sector %u is malformed",
					  ref->number, ref->sector);
		return r;
	}
	*ret = p;
	return 0;
}

/* ---- as text ---- */

void log_uuid_format(const uint8_t uuid[16], char out[33])
{
	str_hex(out, uuid, 16);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int log_number_parse(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	for (int i = 0; i < 16; i++) {
		int d = hex_digit(s[i]);

		if (d < 0)
			return -EINVAL;
		v = v << 4 | (uint64_t)d;
	}
	if (s[16] != '\0')
		return -EINVAL;
	*ret = v;
	return 0;
}

int log_uuid_parse(const char *s, uint8_t ret[16])
{
	uint8_t u[16];

	for (int i = 0; i < 16; i++) {
		int hi = hex_digit(s[2 * i]), lo = hi < 0 ? -1 : hex_digit(s[2 * i + 1]);

		if (lo < 0)
			return -EINVAL;
		u[i] = (uint8_t)(hi << 4 | lo);
	}
	if (s[32] != '\0')
		return -EINVAL;
	memcpy(ret, u, 16);
	return 0;
}
