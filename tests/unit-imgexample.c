/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgexample.c - the example at the end of FORMAT.md, from what a volume really writes.
 *
 *	unit-imgexample			compares section 7 of the page with what it should say
 *	unit-imgexample print		prints what it should say
 *
 * A volume makes a tiny image; nonces and times, which differ each time, are set to fixed ones, and the objects encoded
 * again. Every byte of every object goes to the page, with a word on what it is.
 */
#include "config.h"
#include "fs/image/logobj.h"
#include "fs/image/volume.h"
#include "objstore/base/pool.h"
#include "objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t uuid[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
				 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
static const char prefix[] = ".lsvd/img/00112233445566778899aabbccddeeff/";
static struct str page;
static char dir[4096];

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	(void)fprintf(stderr, "%s\n", what);
	_exit(1);
}

struct field {
	size_t len;
	const char *words;
};

static const struct field head[] = {
    {8, "magic"}, {2, "version"}, {2, "type"}, {4, "flags"}, {16, "uuid"}, {8, "number"}, {8, "epoch"}, {16, "nonce"},
    {8, "journal sequence"}, {8, "size of the image: 1 MiB"}, {8, "time"}, {4, "header bytes"}, {4, "sections"},
    {8, "sectors of content"}, {4, "W"}, {4, "CRC of the content behind the header"}, {8, "durable"}, {4, "zero"},
    {4, "CRC of the header: the object's"}, {0}};
static const struct field create[] = {{2, "section CREATE"}, {2, "flags"}, {4, "16 bytes"}, {4, "W"},
				      {4, "data objects aim at 64 KiB"}, {1, "fsync: local"}, {3, "zero"},
				      {4, "no origins"}, {0}};
static const struct field claim[] = {{2, "section CLAIM"}, {2, "flags"}, {4, "16 bytes"}, {8, "next: 2 + W"},
				     {8, "no claim before"}, {2, "section TEXT"}, {2, "flags"}, {4, "7 bytes"},
				     {7, "`host=a` and a newline"}, {1, "padding"}, {0}};
static const struct field extents[] = {
    {2, "section EXTENTS"}, {2, "flags"}, {4, "48 bytes"},
    {6, "LBA 8"}, {1, "data"}, {1, "zero"}, {6, "1 sector"}, {2, "zero"},
    {6, "LBA 16"}, {1, "zeros"}, {1, "zero"}, {6, "8 sectors"}, {2, "zero"},
    {6, "LBA 1920"}, {1, "discard"}, {1, "zero"}, {6, "128 sectors"}, {2, "zero"}, {0}};
static const struct field pad[] = {{0, "up to a multiple of 4,096"}};
static const struct field data[] = {{SECTOR, "sector 8 of the content: LBA 8, 512 times `A`"}, {0}};
static const struct field trailer[] = {
    {4, "CRC of sectors 0 to 7 of the content"}, {4, "CRC of what follows them"}, {56, "no such blocks"},
    {4, "bytes of content"}, {4, "bytes of payload"}, {1, "codec"}, {3, "zero"}, {16, "no tag"},
    {4, "CRC of the trailer"}, {0}};

/* n bytes of p at `at`: in lines of 16, or, where all are the same, in one. */
static void show(const uint8_t *p, size_t at, size_t n, const char *words)
{
	bool same = n > 16;

	for (size_t i = 1; i < n && same; i++)
		same = p[at + i] == p[at];
	if (same) {
		str_addf(&page, "    %04zx  %02x ... up to %04zx%*s%s\n", at, p[at], at + n - 1, 32, "", words);
		return;
	}
	for (size_t i = 0; i < n; i += 16) {
		size_t k = MIN(n - i, (size_t)16);

		str_addf(&page, "    %04zx ", at + i);
		for (size_t j = 0; j < k; j++)
			str_addf(&page, " %02x", p[at + i + j]);
		str_addf(&page, i == 0 ? "%*s%s\n" : "\n", (int)(16 - k) * 3 + 2, "", words);
	}
}

static size_t show_fields(const uint8_t *p, size_t at, const struct field *f)
{
	for (; f->len > 0; f++) {
		show(p, at, f->len, f->words);
		at += f->len;
	}
	return at;
}

static void *get(struct objstore *s, uint64_t number, size_t *ret_len)
{
	static uint8_t buf[LOG_STRIDE * 2];
	char key[128];
	struct objreq req;
	int r;

	(void)snprintf(key, sizeof(key), "%s%016" PRIx64, prefix, number);
	objreq_init(&req, OBJ_GET, key);
	req.len = req.cap = sizeof(buf);
	req.buf = buf;
	r = obj_do(s, &req);
	*ret_len = req.got;
	objreq_done(&req);
	need(r == 0, key);
	return buf;
}

/* One object of the log, with a fixed nonce and time. */
static void object(struct objstore *s, uint64_t number, const char *words, const struct field *section)
{
	uint8_t body[SECTOR], *p;
	struct iovec iov = {body, 0};
	struct logobj o;
	struct objerr err;
	size_t len, at, enough;
	void *again, *raw = get(s, number, &len);

	need(logobj_decode(raw, len, uuid, number, &o, &enough, &err) == 0, "it does not decode");
	if (o.content_sectors > LOG_BLOCK / SECTOR) {
		iov.iov_len = SECTOR;
		need(o.content_sectors == LOG_BLOCK / SECTOR + 1, "more data than expected");
		need(logobj_extract(raw, len, uuid, number, LOG_BLOCK / SECTOR, 1, body, &err) == 0, "no data");
	}
	need(logobj_encode(&o, &iov, 1, &again, &enough, NULL) == 0, "it does not encode");
	need(enough == len && memcmp(again, raw, len) == 0, "it is not what was written");
	free(again);
	memset(&o.nonce, o.type == LOG_CREATE ? 0xc0 : 0xc1, sizeof(o.nonce));
	o.time_s = 1700000000;
	need(logobj_encode(&o, &iov, 1, &again, &len, NULL) == 0, "it does not encode");
	p = again;
	str_addf(&page, "\n`%016" PRIx64 "`, %s, %zu bytes:\n\n", number, words, len);
	at = show_fields(p, 0, head);
	need(at == 128, "the header has another size");
	at = section != NULL ? show_fields(p, at, section) : at;
	need(at == o.header_bytes, "the sections have another size");
	show(p, at, LOG_BLOCK - at, pad->words);
	at = iov.iov_len > 0 ? show_fields(p, LOG_BLOCK, data) : LOG_BLOCK;
	at = show_fields(p, at, trailer);
	need(at == len, "the object has another size");
	free(again);
	logobj_free(&o);
}

/* Made, claimed, written, released. */
static void make_image(struct objstore *s)
{
	struct vol_env env = {.store = s, .host = "a", .state_dir = dir, .dirty_age_ns = 3600 * NSEC_PER_SEC};
	struct vol_create c = {.size = 1 * MiB, .window = 4, .object_bytes = 64 * KiB};
	struct volume *v = NULL;
	uint8_t a[SECTOR];
	struct iovec iov = {a, sizeof(a)};
	int r;

	memset(a, 'A', sizeof(a));
	memcpy(c.uuid, uuid, 16);
	need(pool_new("image", 4, &env.pool) == 0, "no pool");
	need(vol_create(&env, prefix, &c, NULL) == 0, "no image");
	r = vol_open(&env, prefix, uuid, &v, NULL);
	need(r == 0, "it does not open");
	vol_begin_write(v);
	r = vol_write(v, 4096, &iov, 1, sizeof(a));
	if (r == 0)
		r = vol_zero(v, 8192, 4096);
	if (r == 0)
		r = vol_discard(v, 1 * MiB - 64 * KiB, 64 * KiB);
	need(r == 0, "a write fails");
	need(vol_close(v) == 0, "close fails");
	pool_free(env.pool);
}

static void write_page(struct objstore *s)
{
	str_addf(&page,
		 "## 7. An example\n\n"
		 "An image of 1 MiB with W = 4: made, claimed, 512 times `A` written at byte 4096, bytes 8192 to 12287 zeroed, the last\n"
		 "64 KiB discarded, released. Its number 2 claims, so that 3 to 5 are void; no mark yet: the first checkpoint comes\n"
		 "later. (`tests/unit-imgexample` made this part of the page, and compares it.)\n");
	object(s, 1, "the create record", create);
	object(s, 2, "the claim", claim);
	object(s, 6, "data", extents);
	object(s, 7, "the release", NULL);
}

static int compare(void)
{
	const char *src = getenv("srcdir");
	char path[4096];
	static char text[1 << 20];
	const char *have;
	FILE *f;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/fs/image/FORMAT.md", src != NULL ? src : ".");
	f = fopen(path, "re");
	need(f != NULL, path);
	n = fread(text, 1, sizeof(text) - 1, f);
	(void)fclose(f);
	text[n] = '\0';
	have = strstr(text, "## 7. An example\n");
	need(have != NULL, "FORMAT.md has no section 7");
	if (strcmp(have, page.p) == 0)
		return 0;
	for (n = 0; have[n] == page.p[n]; n++)
		;
	(void)fprintf(stderr, "section 7 of FORMAT.md is not what is written any more (unit-imgexample print): %.80s\n",
		      page.p + n);
	return 1;
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	struct objstore *s;
	char command[5000];
	int r = 0;

	(void)snprintf(dir, sizeof(dir), "%s/imgexample-XXXXXX", tmp != NULL ? tmp : "/tmp");
	need(mkdtemp(dir) != NULL, "no directory");
	need(store_mem_new(&s) == 0, "no store");
	make_image(s);
	write_page(s);
	if (argc > 1 && strcmp(argv[1], "print") == 0)
		(void)fputs(page.p, stdout);
	else
		r = compare();
	str_free(&page);
	obj_close(s);
	(void)snprintf(command, sizeof(command), "rm -rf -- '%s'", dir);
	return system(command) == 0 ? r : 1;
}
