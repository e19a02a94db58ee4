/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fly.c - the format of Fly.io's volumes (fly.h): pure functions of bytes, and the file of what was seen.
 *
 * That file is cut into pages; a page is at one place in memory only, which it shares with others: a disk is written in
 * places that lie together more often than not.
 */
#include "config.h"
#include "fly.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- names and headers ------------------------------------------------------------------------------------------- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int fly_number(const char *name, uint64_t *ret)
{
	uint64_t n = 0;
	bool large = false;

	if (!*name)
		return 0;
	for (; *name; name++) {
		int d = digit(*name);

		if (d < 0)
			return 0;
		large |= n >> 60 != 0;
		n = n << 4 | (unsigned)d;
	}
	if (large)
		return -ERANGE;
	*ret = n;
	return 1;
}

static int bad_entry(struct objerr *err, unsigned i, uint64_t off, uint32_t len, const char *why)
{
	objerr_set(err, "entry %u of its header (address 0x%" PRIx64 ", %" PRIu32 " bytes) %s", i, off, len, why);
	return -EUCLEAN;
}

int fly_parse(const unsigned char head[FLY_HEADER], uint64_t size, struct fly_header *ret, struct objerr *err)
{
	unsigned n;

	if (size < FLY_HEADER) {
		objerr_set(err, "has %" PRIu64 " bytes, less than a header (%d)", size, FLY_HEADER);
		return -EUCLEAN;
	}
	ret->data = ret->end = 0;
	for (n = 0; n < FLY_ENTRIES; n++) {
		uint64_t off;
		uint32_t len;

		memcpy(&off, head + 12 * (size_t)n, sizeof off);
		memcpy(&len, head + 12 * (size_t)n + 8, sizeof len);
		off = be64toh(off);
		len = be32toh(len);
		if (len == 0)
			break;
		if (off % FLY_SECTOR || len % FLY_SECTOR)
			return bad_entry(err, n, off, len, "is not of whole sectors");
		if (off > FLY_END || len > FLY_END - off)
			return bad_entry(err, n, off, len, "reaches beyond 64 TiB");
		if (len > size - FLY_HEADER - ret->data)
			return bad_entry(err, n, off, len, "has more data than the object, which is cut short");
		ret->v[n] = (struct fly_entry){.off = off, .len = len, .at = FLY_HEADER + ret->data};
		ret->data += len;
		ret->end = MAX(ret->end, off + len);
	}
	ret->n = n;
	return 0;
}

/* --- what was seen ----------------------------------------------------------------------------------------------- */

enum { WORDS = 512, PAGE_SECTORS = WORDS * 64, PLACES = 1024 };

struct fly_seen {
	int fd;
	struct place {
		uint64_t page; /* + 1; 0: nothing is here */
		bool dirty;
		uint64_t word[WORDS];
	} place[PLACES];
};

int fly_seen_new(int take_fd, struct fly_seen **ret)
{
	struct fly_seen *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->fd = take_fd;
	*ret = s;
	return 0;
}

void fly_seen_free(struct fly_seen *s)
{
	if (s)
		close(s->fd);
	free(s);
}

/* Whole pages are written: one behind the end of the file has never been. */
static int read_page(int fd, uint64_t page, uint64_t *word)
{
	int r = base_pread_all(fd, word, WORDS * sizeof *word, page * WORDS * sizeof *word);

	if (r != -ENODATA)
		return r;
	memset(word, 0, WORDS * sizeof *word);
	return 0;
}

static int page_at(struct fly_seen *s, uint64_t page, struct place **ret)
{
	struct place *p = &s->place[page % PLACES];
	int r = 0;

	*ret = p;
	if (p->page == page + 1)
		return 0;
	if (p->page && p->dirty)
		r = base_pwrite_all(s->fd, p->word, sizeof p->word, (p->page - 1) * sizeof p->word);
	if (r)
		return r;
	p->page = 0;
	p->dirty = false;
	r = read_page(s->fd, page, p->word);
	if (!r)
		p->page = page + 1;
	return r;
}

/* The first bit of [from, to) that is (not) set, or to. */
static unsigned next_bit(const uint64_t *word, unsigned from, unsigned to, bool set)
{
	while (from < to) {
		uint64_t w = (set ? word[from / 64] : ~word[from / 64]) >> from % 64;

		if (w)
			return MIN(from + (unsigned)__builtin_ctzll(w), to);
		from = (from / 64 + 1) * 64;
	}
	return to;
}

static void set_bits(uint64_t *word, unsigned from, unsigned to)
{
	while (from < to) {
		unsigned n = MIN(64 - from % 64, to - from);

		word[from / 64] |= (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << from % 64;
		from += n;
	}
}

int fly_seen_take(struct fly_seen *s, uint64_t from, uint64_t to, uint64_t *ret_from, uint64_t *ret_n)
{
	while (from < to) {
		uint64_t page = from / PAGE_SECTORS;
		unsigned a, b, end = (unsigned)MIN(to - page * PAGE_SECTORS, (uint64_t)PAGE_SECTORS);
		struct place *p;
		int r = page_at(s, page, &p);

		if (r)
			return r;
		a = next_bit(p->word, (unsigned)(from % PAGE_SECTORS), end, false);
		b = next_bit(p->word, a, end, true);
		if (a < b) {
			set_bits(p->word, a, b);
			p->dirty = true;
			*ret_from = page * PAGE_SECTORS + a;
			*ret_n = b - a;
			return 0;
		}
		from = page * PAGE_SECTORS + end;
	}
	*ret_n = 0;
	return 0;
}
