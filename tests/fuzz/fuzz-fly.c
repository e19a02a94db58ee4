/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-fly.c - any bytes as an object of a Fly.io volume: a line that is its name, 8 bytes that say how large it is, and
 * its header (zeros where the input ends). What is accepted lies within the object and within the disk; then its entries
 * are taken from the last to the first, as the importer does, beside a plain map of the same sectors.
 */
#include "config.h"
#include "fs/image/fly.h"
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

const unsigned fuzz_cost = 10; /* for run-corpus */

enum { DISK = 3 * 32768 + 100 }; /* sectors: pages of fly.c, and a part of one */

static void name(const char *text)
{
	uint64_t n = 0;
	int r = fly_number(text, &n);
	char back[20];

	check(r == 0 || r == 1 || r == -ERANGE);
	check((r == 0) == (text[0] == '\0' || text[strspn(text, "0123456789abcdefABCDEF")] != '\0'));
	if (r != 1)
		return;
	(void)snprintf(back, sizeof back, "%llx", (unsigned long long)n);
	while (*text == '0' && text[1])
		text++;
	check(strcasecmp(text, back) == 0);
}

static void bounds(const struct fly_header *h, uint64_t size)
{
	uint64_t data = 0, end = 0;

	check(h->n <= FLY_ENTRIES);
	for (unsigned i = 0; i < h->n; i++) {
		const struct fly_entry *e = &h->v[i];

		check(e->len > 0 && e->len % FLY_SECTOR == 0 && e->off % FLY_SECTOR == 0);
		check(e->off <= FLY_END && e->len <= FLY_END - e->off);
		check(e->at == FLY_HEADER + data && e->len <= size - e->at);
		data += e->len;
		end = MAX(end, e->off + e->len);
	}
	check(h->data == data && h->end == end);
}

/* On a disk that is small: where an entry is on it is taken modulo its size. */
static void take_all(const struct fly_header *h)
{
	static uint8_t seen[DISK];
	struct fly_seen *s;
	int fd = memfd_create("fuzz-fly", MFD_CLOEXEC);

	memset(seen, 0, sizeof seen);
	check(fd >= 0 && fly_seen_new(fd, &s) == 0);
	for (unsigned i = h->n; i > 0; i--) {
		uint64_t from = h->v[i - 1].off / FLY_SECTOR % DISK, at, n;
		uint64_t to = MIN(from + h->v[i - 1].len / FLY_SECTOR, (uint64_t)DISK);

		for (;;) {
			check(fly_seen_take(s, from, to, &at, &n) == 0);
			if (n == 0)
				break;
			check(at >= from && n <= to - at);
			while (from < at)
				check(seen[from++] == 1);
			while (n-- > 0) {
				check(seen[from] == 0);
				seen[from++] = 1;
			}
		}
		while (from < to)
			check(seen[from++] == 1);
	}
	fly_seen_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fly_header h;
	static unsigned char head[FLY_HEADER];
	struct input in = {(const char *)data, size};
	struct objerr err = {0};
	char *line = take_line(&in);
	uint64_t bytes = 0;
	int r;

	name(line);
	free(line);
	for (int i = 0; i < 8; i++)
		bytes = bytes << 8 | take_byte(&in);
	memset(head, 0, sizeof head);
	if (in.n)
		memcpy(head, in.p, MIN(in.n, sizeof head));
	r = fly_parse(head, bytes, &h, &err);
	check(r == 0 || (r == -EUCLEAN && err.msg[0] != '\0' && is_printable(err.msg)));
	if (r == 0) {
		bounds(&h, bytes);
		take_all(&h);
	}
	return 0;
}
