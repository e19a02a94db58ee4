/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-jreplay.c - any bytes as the files of an image's journal, on a disk in memory. Opening ends with 0, -EUCLEAN and
 * words, or -ENOMEM; records come in sequence, each can be read where it says, and after more was appended and the
 * journal opened again, all are there.
 *
 * Input: one byte, then segments of SEGMENT bytes. The byte: 1 there is no file of nonces; 2 the file is the input;
 * 4 checksums stay as they are; 8 a segment more, of zeros; 16 a file that is none of the journal's; 32 the last file
 * is cut short.
 */
#include "config.h"
#include "fs/image/journal-private.h"
#include "fuzz.h"
#include "objstore/base/crc32c.h"

enum { SEGMENT = 4096, FILES = 12 };

static const uint8_t uuid[16] = "journal of fuzz.";

/* ---- a disk ---- */

static struct file {
	char name[48];
	uint8_t *p;
	size_t len;
} files[FILES];
static unsigned fail_in; /* the n-th call fails; 0: none */

static bool fails(void)
{
	return fail_in > 0 && --fail_in == 0;
}

static int find(const char *name)
{
	for (int i = 0; i < FILES; i++)
		if (strcmp(files[i].name, name) == 0)
			return i;
	return -ENOENT;
}

static int make(const char *name, const void *p, size_t n)
{
	int i = find("");

	if (i < 0)
		return -EIO;
	(void)snprintf(files[i].name, sizeof(files[i].name), "%s", name);
	files[i].p = malloc(n + 1);
	check(files[i].p);
	if (n > 0)
		memcpy(files[i].p, p, n);
	files[i].len = n;
	return i;
}

static void forget(int i)
{
	free(files[i].p);
	memset(&files[i], 0, sizeof(files[i]));
}

static int d_open(void *ctx, int dirfd, const char *name, bool create)
{
	int i = find(name);

	(void)ctx;
	(void)dirfd;
	if (fails())
		return -EIO;
	return i < 0 && create ? make(name, NULL, 0) : i;
}

static int d_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
	struct file *f = &files[fd];

	(void)ctx;
	if (fails())
		return -EIO;
	if (off + n > f->len) {
		f->p = realloc(f->p, off + n);
		check(f->p);
		memset(f->p + f->len, 0, off + n - f->len);
		f->len = off + n;
	}
	memcpy(f->p + off, p, n);
	return 0;
}

static int d_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
	(void)ctx;
	if (fails())
		return -EIO;
	if (off + n > files[fd].len)
		return -ENODATA;
	memcpy(p, files[fd].p + off, n);
	return 0;
}

static int d_allocate(void *ctx, int fd, uint64_t len)
{
	uint8_t zero = 0;

	if (len > 1 * MiB)
		return -EIO;
	return len == 0 || files[fd].len >= len ? 0 : d_pwrite(ctx, fd, &zero, 1, len - 1);
}

static int d_sync(void *ctx, int fd)
{
	(void)ctx;
	(void)fd;
	return fails() ? -EIO : 0;
}

static int d_unlink(void *ctx, int dirfd, const char *name)
{
	int i = find(name);

	(void)ctx;
	(void)dirfd;
	if (i < 0)
		return i;
	forget(i);
	return 0;
}

static int d_rename(void *ctx, int dirfd, const char *from, const char *to)
{
	int i = find(from), j = find(to);

	(void)ctx;
	(void)dirfd;
	if (i < 0)
		return i;
	if (j >= 0 && j != i)
		forget(j);
	(void)snprintf(files[i].name, sizeof(files[i].name), "%s", to);
	return 0;
}

static int d_list(void *ctx, int dirfd, int (*fn)(void *arg, const char *name), void *arg)
{
	int r = 0;

	(void)ctx;
	(void)dirfd;
	for (int i = 0; i < FILES && r == 0; i++) {
		char name[sizeof(files[i].name)];

		memcpy(name, files[i].name, sizeof(name)); /* fn may rename it */
		if (name[0] != '\0')
			r = fn(arg, name);
	}
	return r;
}

static void d_close(void *ctx, int fd)
{
	(void)ctx;
	(void)fd;
}

static const struct jdisk disk = {NULL,   d_open, d_pwrite, d_pread,  NULL,   d_allocate,
				  d_sync, d_sync, d_unlink, d_rename, d_list, d_close, NULL};

/* ---- an input's files ---- */

static void put(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void fix(uint8_t *seg)
{
	if (memcmp(seg, "LSVDJNL\n", 8) == 0)
		put(seg + 124, crc32c(0, seg, 124), 4);
	for (size_t at = JHEADER; at + JHEADER <= SEGMENT; at += JHEADER) {
		uint32_t data;

		if (memcmp(seg + at, "LSJR", 4) != 0)
			continue;
		memcpy(&data, seg + at + 56, 4);
		if (data <= SEGMENT - at - JHEADER)
			put(seg + at + 60, crc32c(0, seg + at + JHEADER, data), 4);
		put(seg + at + 72, crc32c(crc32c(0, uuid, 16), seg + at, 72), 4);
	}
}

/* A file never held a generation above that of its header: what would be one is no record. */
static void tame(uint8_t *seg)
{
	uint64_t mine, its;

	memcpy(&mine, seg + 32, 8);
	for (size_t at = JHEADER; at + JHEADER <= SEGMENT; at += JHEADER) {
		memcpy(&its, seg + at + 16, 8);
		if (its > mine)
			seg[at] = 0;
	}
}

static void lay_out(const uint8_t *data, size_t size)
{
	static const char nonce[] = "00112233445566778899aabbccddeeff\n";
	unsigned how = data[0], n = 0;
	char text[80], name[32];

	data++;
	size--;
	if ((how & 2) != 0)
		(void)make("nonces", data, MIN(size, (size_t)200));
	else if ((how & 1) == 0)
		(void)make("nonces", text,
			   (size_t)snprintf(text, sizeof(text), "%scrc %08x\n", nonce, crc32c(0, nonce, 33)));
	for (; size > 0 && n < 5; n++) {
		static uint8_t seg[SEGMENT];
		size_t k = MIN(size, (size_t)SEGMENT);

		memset(seg, 0, sizeof(seg));
		memcpy(seg, data, k);
		if (data[0] == 0) /* a segment that has no header never had one */
			memset(seg, 0, sizeof(seg));
		tame(seg);
		if ((how & 4) == 0)
			fix(seg);
		(void)snprintf(name, sizeof(name), "journal-%08x", 7 - n);
		(void)make(name, seg, (how & 32) != 0 && k == size ? k : SEGMENT);
		data += k;
		size -= k;
	}
	if ((how & 8) != 0)
		d_close(NULL, d_allocate(NULL, make("journal-0000000a", NULL, 0), SEGMENT));
	if ((how & 16) != 0) {
		(void)make("journal-xyzzyxyz", "?", 1);
		(void)make("readme", "?", 1);
	}
}

/* ---- */

static struct jrecord seen[256];
static size_t nseen;

static int remember(void *arg, const struct jrecord *r)
{
	(void)arg;
	check(nseen == 0 || r->seq == seen[nseen - 1].seq + 1);
	check(nseen < ARRAY_SIZE(seen));
	seen[nseen++] = *r;
	return 0;
}

static int reopen(struct journal **ret)
{
	struct objerr err = {0};
	int r;

	nseen = 0;
	/* No limit: an append waits for room that nobody makes here. */
	r = journal_open(3, uuid, UINT64_MAX / 2, SEGMENT, &disk, remember, NULL, ret, &err);
	if (r < 0 && getenv("TRACE") != NULL)
		(void)fprintf(stderr, "%s\n", err.msg);
	check(r == 0 || r == -ENOMEM || r == -EIO || (r == -EUCLEAN && err.msg[0] != '\0'));
	return r;
}

static void read_all(struct journal *j)
{
	static uint8_t buf[SEGMENT];

	for (size_t i = 0; i < nseen; i++)
		if (seen[i].type == J_WRITE)
			check(journal_read(j, seen[i].where, buf, seen[i].len) == 0);
	check(nseen == 0 || journal_first(j) == seen[0].seq);
}

/* More records; then all of them are there. */
static void go_on(struct journal *j)
{
	uint8_t data[SECTOR] = {5};
	struct iovec iov = {data, sizeof(data)};
	struct log_nonce nonce = {{1}};
	size_t n = nseen;
	uint64_t first = n > 0 ? seen[0].seq : 0, seq;
	int r;

	/* The disk takes few files, and none too large: it may be full. */
	if (journal_note_nonce(j, &nonce, NULL) < 0) {
		journal_close(j);
		return;
	}
	journal_set_nonce(j, &nonce);
	check(journal_knows_nonce(j, &nonce));
	r = journal_append(j, J_WRITE, SECTOR, SECTOR, &iov, 1, NULL, NULL, &seq);
	if (r == 0)
		r = journal_commit(j, 0);
	journal_close(j);
	if (r < 0)
		return;
	r = reopen(&j);
	check(r == 0);
	check(nseen == n + 1 && seen[n].seq == seq && seen[n].type == J_WRITE);
	check(n == 0 || seen[0].seq == first);
	check(journal_knows_nonce(j, &nonce));
	read_all(j);
	check(journal_begin(j, seq + 5) == 0);
	journal_close(j);
	check(reopen(&j) == 0 && nseen == 0);
	journal_close(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal *j;
	char *aside;

	if (size == 0)
		return 0;
	lay_out(data, size);
	fail_in = size % 7 == 0 ? data[0] : 0;
	if (reopen(&j) == 0) {
		fail_in = 0;
		read_all(j);
		go_on(j);
	}
	fail_in = 0;
	check(journal_set_aside(3, &disk, &aside) == 0);
	check(aside);
	free(aside);
	for (int i = 0; i < FILES; i++)
		check(strcmp(files[i].name, "nonces") != 0);
	for (int i = 0; i < FILES; i++)
		if (files[i].name[0] != '\0')
			forget(i);
	return 0;
}
