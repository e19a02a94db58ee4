/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-logpage.c - any bytes as a page of a map tree, under a reference with the right CRC. What is accepted ascends, lies
 * within the page's range, and is the same when it was written, in as many pages as it takes, and read again. Also as
 * the text of uuids and numbers.
 */
#include "config.h"
#include "fs/image/logobj.h"
#include "fuzz.h"
#include "objstore/base/crc32c.h"

static void check_page(const struct page *p)
{
	uint64_t at = p->first;

	check(p->first < p->end);
	for (size_t i = 0; i < p->n; i++) {
		if (p->level == PAGE_LEAF) {
			check(p->runs[i].lba >= at && p->runs[i].len > 0);
			at = p->runs[i].lba + p->runs[i].len;
			check(at <= p->end);
			check(p->runs[i].kind != EXT_DATA || p->runs[i].at.number != 0);
		} else if (p->level == PAGE_OBJTABLE) {
			check(p->objects[i].number >= at && p->objects[i].number < p->end);
			check(p->objects[i].live <= p->objects[i].sectors);
			at = p->objects[i].number + 1;
		} else {
			check(p->children[i].first >= at && p->children[i].first < p->end);
			check(p->children[i].ref.number != 0);
			at = p->children[i].first + 1;
		}
	}
}

static int decode(const uint8_t *p, size_t n, uint8_t level, struct page *ret)
{
	struct log_pageref ref = {.number = 7, .bytes = (uint32_t)n, .crc = crc32c(0, p, n), .level = level};
	struct objerr err = {0};
	int r = page_decode(p, n, &ref, ret, &err);

	check(r == 0 || r == -ENOMEM || (r == -EUCLEAN && err.msg[0] != '\0'));
	return r;
}

/* The entries [from, p->n) written and read again. */
static size_t write_again(const struct page *p, size_t from, uint64_t first)
{
	static uint8_t buf[LOG_GROUP], more[LOG_GROUP];
	struct page rest = *p, back;
	size_t len, n, len2, n2;

	rest.n -= from;
	rest.first = first;
	rest.runs = p->runs != NULL ? p->runs + from : NULL;
	rest.children = p->children != NULL ? p->children + from : NULL;
	rest.objects = p->objects != NULL ? p->objects + from : NULL;
	check(page_encode(&rest, buf, &len, &n) == 0);
	check(n > 0 || rest.n == 0);
	check(decode(buf, len, p->level, &back) == 0);
	check(back.n == n && back.first == first);
	check_page(&back);
	check(page_encode(&back, more, &len2, &n2) == 0 && len2 == len && n2 == n && memcmp(buf, more, len) == 0);
	first = back.end;
	page_free(&back);
	if (from + n < p->n)
		check(write_again(p, from + n, first) > 0);
	return n;
}

/* A page that cannot be written is refused. */
static void out_of_range(const struct page *p)
{
	static uint8_t buf[LOG_GROUP];
	struct page q = *p;
	size_t len, n;

	if (p->n == 0)
		return;
	q.end = q.first;
	check(page_encode(&q, buf, &len, &n) == -EINVAL);
}

static void text(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, MIN(size, (size_t)200)};
	char *s = take_line(&in), uuid[33], number[17];
	uint8_t u[16];
	uint64_t v;

	if (log_uuid_parse(s, u) == 0) {
		log_uuid_format(u, uuid);
		check(strcmp(uuid, s) == 0);
	}
	if (log_number_parse(s, &v) == 0) {
		check(snprintf(number, sizeof(number), "%016llx", (unsigned long long)v) == 16);
		check(strcmp(number, s) == 0);
	}
	free(s);
}

/* A page with more entries than fit: the second byte says how many times. */
static void many(const struct page *p)
{
	size_t n = p->n * 900;
	struct page big = *p;
	uint64_t width = p->end - p->first;

	if (p->level != PAGE_LEAF || p->n == 0 || p->n > 40 || width > 1u << 20)
		return;
	big.runs = calloc(n, sizeof(*big.runs));
	check(big.runs);
	for (size_t i = 0; i < n; i++) {
		big.runs[i] = p->runs[i % p->n];
		big.runs[i].lba += i / p->n * width;
	}
	big.n = n;
	big.end = p->first + 900 * width;
	if (big.end <= IMG_SECTORS_MAX)
		check(write_again(&big, 0, big.first) > 0);
	free(big.runs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_pageref wrong = {.number = 7, .bytes = (uint32_t)size, .level = 1};
	struct objerr err;
	struct page p;

	text(data, size);
	if (size == 0 || size > LOG_GROUP)
		return 0;
	wrong.crc = ~crc32c(0, data, size);
	check(page_decode(data, size, &wrong, &p, &err) == -EUCLEAN);
	if (decode(data, size, data[0], &p) < 0)
		return 0;
	check_page(&p);
	(void)write_again(&p, 0, p.first);
	out_of_range(&p);
	many(&p);
	page_free(&p);
	return 0;
}
