/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * survey.c - which bytes of an image nobody has any more (repair.h). A walk over the whole map of a follower; what is read
 * is verified, and what does not verify is looked at block by block: a flipped bit costs 4 KiB, not an object.
 *
 * A page of the map that is lost is told as the range that it stood for, but for what lies over it.
 */
#include "config.h"
#include "log-private.h"
#include "repair.h"
#include "volume-private.h"
#include <inttypes.h>
#include <string.h>

enum { RUNS = 512, CHUNK = 2048, BLOCK_SECTORS = LOG_BLOCK / SECTOR, GROUP_SECTORS = LOG_GROUP / SECTOR };

struct survey {
	struct volume *v;
	struct repair_plan *p;
	struct objerr *err;
	bool data;
	uint64_t size;
	uint8_t *buf;
	uint64_t gone, there; /* numbers that were asked for last: missing, not missing */
	uint64_t there_bytes;
	/* the page that was lost last */
	uint64_t page_at, page_end, page_number;
};

static bool is_bad(const struct repair_plan *p, uint64_t number)
{
	for (size_t i = 0; i < p->nbad; i++)
		if (p->bad[i] == number)
			return true;
	return false;
}

static int lose(struct survey *s, uint64_t lba, uint64_t n, uint64_t number, bool page)
{
	struct repair_plan *p = s->p;
	uint64_t off = lba * SECTOR, end = MIN((lba + n) * SECTOR, s->size);
	struct lost_range *last = p->nlost > 0 ? &p->lost[p->nlost - 1] : NULL;

	if (off >= end)
		return 0;
	p->lost_bytes += end - off;
	if (last != NULL && last->off + last->len == off && last->number == number && last->page == page) {
		last->len += end - off;
		return 0;
	}
	if (p->nlost == p->caplost) {
		size_t cap = p->caplost * 2 + 64;
		struct lost_range *v = reallocarray(p->lost, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		p->lost = v;
		p->caplost = cap;
	}
	p->lost[p->nlost++] = (struct lost_range){off, end - off, number, page};
	return 0;
}

/* What is whole of a damaged object. */
static int keep(struct survey *s, uint64_t lba, uint64_t n, uint64_t number)
{
	struct repair_plan *p = s->p;
	struct repair_range *last = p->nsalvage > 0 ? &p->salvage[p->nsalvage - 1] : NULL;

	if (!is_bad(p, number))
		return 0;
	if (last != NULL && last->off + last->len == lba * SECTOR) {
		last->len += n * SECTOR;
		return 0;
	}
	if (p->nsalvage == p->capsalvage) {
		size_t cap = p->capsalvage * 2 + 64;
		struct repair_range *v = reallocarray(p->salvage, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		p->salvage = v;
		p->capsalvage = cap;
	}
	p->salvage[p->nsalvage++] = (struct repair_range){lba * SECTOR, n * SECTOR};
	return 0;
}

/* Stored bytes of an object; -ENOENT. */
static int bytes_of(struct survey *s, uint64_t number, uint64_t *ret)
{
	char key[OBJ_KEY_MAX + 1];
	struct objreq req;
	uint8_t uuid[16];
	int r;

	if (number == s->gone)
		return -ENOENT;
	if (number != s->there) {
		log_key(log_prefix_of(s->v->log, number, uuid), number, key);
		r = obj_head(s->v->env.store, key, &req);
		if (r == -ENOENT)
			s->gone = number;
		else if (r < 0)
			*s->err = req.err;
		else
			s->there_bytes = req.size;
		objreq_done(&req);
		if (r < 0)
			return r;
		s->there = number;
	}
	*ret = s->there_bytes;
	return 0;
}

static int probe(struct survey *s, uint64_t lba, struct log_place at, uint32_t n)
{
	struct objerr words = {0};
	uint32_t half;
	int r = log_read(s->v->log, &at, n, s->buf, &words);

	if (r == 0)
		return keep(s, lba, n, at.number);
	if (r == -ENOENT || (r == -EUCLEAN && at.sector / BLOCK_SECTORS == (at.sector + n - 1) / BLOCK_SECTORS))
		return lose(s, lba, n, at.number, false);
	if (r != -EUCLEAN) {
		*s->err = words;
		return r;
	}
	half = (at.sector + n / 2) / BLOCK_SECTORS * BLOCK_SECTORS;
	half = half <= at.sector ? at.sector / BLOCK_SECTORS * BLOCK_SECTORS + BLOCK_SECTORS - at.sector : half - at.sector;
	r = probe(s, lba, at, half);
	return r == 0 ? probe(s, lba + half, (struct log_place){at.number, at.sector + half}, n - half) : r;
}

static int look_at_run(struct survey *s, const struct page_run *run)
{
	uint64_t done = 0, bytes = 0, off, len;
	int r;

	if (run->kind != EXT_DATA)
		return 0;
	r = bytes_of(s, run->at.number, &bytes);
	if (r == -ENOENT)
		return lose(s, run->lba, run->len, run->at.number, false);
	logobj_range(run->at.sector, (uint32_t)run->len, &off, &len);
	if (r == 0 && !s->data && bytes >= off + len)
		return 0;
	/* An object's last group is shorter: is it cut? That is read. */
	if (r == 0 && !s->data && bytes >= off + len - LOG_STRIDE)
		done = run->len - MIN(run->len, (run->at.sector + run->len - 1) % GROUP_SECTORS + 1);
	while (r == 0 && done < run->len) {
		uint32_t n = (uint32_t)MIN(run->len - done, (uint64_t)CHUNK);

		r = probe(s, run->lba + done, (struct log_place){run->at.number, run->at.sector + (uint32_t)done}, n);
		done += n;
	}
	return r;
}

/* Up to lba nothing lies over the lost page. */
static int page_gap(struct survey *s, uint64_t lba)
{
	uint64_t from = s->page_at, to = MIN(lba, s->page_end);

	if (from >= to)
		return 0;
	s->page_at = to;
	return lose(s, from, to - from, s->page_number, true);
}

/* lba: where the walk is. */
static int fetch_page(struct survey *s, const struct log_pageref *need, uint64_t lba)
{
	uint32_t sectors = (need->bytes + SECTOR - 1) / SECTOR;
	_cleanup_free_ void *buf = malloc((size_t)sectors * SECTOR);
	struct log_place at = {need->number, need->sector};
	uint64_t first, end;
	int r = buf == NULL ? -ENOMEM : log_read(s->v->log, &at, sectors, buf, s->err);

	if (r == 0)
		r = map_add_page(s->v->map, need, buf, (size_t)sectors * SECTOR, s->err);
	if ((r != -EUCLEAN && r != -ENOENT) || !s->p->lose_pages)
		return r;
	r = map_lose_page(s->v->map, need, &first, &end);
	if (r < 0 || (s->page_number == need->number && s->page_end == end))
		return r; /* it was evicted, and is asked for again */
	r = page_gap(s, s->page_end);
	s->page_at = MAX(first, lba);
	s->page_end = end;
	s->page_number = need->number;
	return r;
}

static int walk(struct survey *s, bool runs)
{
	struct page_run *v = calloc(RUNS, sizeof(*v));
	struct log_view view;
	uint64_t lba = 0;
	int r, n = 1;

	log_view(s->v->log, &view);
	r = v == NULL ? -ENOMEM : map_freeze(s->v->map, view.tail);
	while (r == 0 && n != 0) {
		struct log_pageref page;

		n = map_walk(s->v->map, &lba, v, RUNS, &page);
		for (int i = 0; runs && i < n && r == 0; i++) {
			r = page_gap(s, v[i].lba);
			s->page_at = MAX(s->page_at, v[i].lba + v[i].len);
			if (r == 0)
				r = look_at_run(s, &v[i]);
		}
		if (n < 0)
			r = n == -EAGAIN ? fetch_page(s, &page, lba) : n;
	}
	if (r == 0)
		r = page_gap(s, s->page_end);
	free(v);
	return r;
}

int repair_map_whole(struct volume *v, struct objerr *err)
{
	struct repair_plan none = {0};
	struct survey s = {.v = v, .p = &none, .err = err};

	return walk(&s, false);
}

/* The list of objects calls some dead that the walk met. */
static int dead_but_needed(struct survey *s)
{
	struct page_object o[64];
	uint64_t from = 0;
	size_t n, cap = s->p->nalive;
	int r = 0;

	while (r == 0 && (n = map_objects(s->v->map, from, o, ARRAY_SIZE(o))) > 0) {
		for (size_t i = 0; i < n && r == 0; i++)
			if (o[i].death != 0 && map_walked_live(s->v->map, o[i].number) > 0)
				r = vol_append_u64(&s->p->alive, &s->p->nalive, &cap, o[i].number);
		from = o[n - 1].number + 1;
	}
	return r;
}

static int by_off(const void *a, const void *b)
{
	const struct lost_range *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

int repair_survey(struct volume *v, bool data, struct repair_plan *p, struct objerr *err)
{
	struct survey s = {.v = v, .p = p, .err = err, .data = data, .size = vol_size(v), .buf = malloc(CHUNK * SECTOR)};
	int r = s.buf == NULL ? -ENOMEM : vol_know_objects(v, err);

	p->no_table = r == -EUCLEAN || r == -ENOENT;
	r = p->no_table ? 0 : r; /* it costs no data */
	if (r == 0)
		r = walk(&s, true);
	if (r == 0)
		r = dead_but_needed(&s);
	free(s.buf);
	if (p->nlost > 1)
		qsort(p->lost, p->nlost, sizeof(*p->lost), by_off);
	return r;
}
