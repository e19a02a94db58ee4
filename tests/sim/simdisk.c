/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * simdisk.c - a directory of files that a power cut thins out: what was synced is there, of the rest any 512 bytes
 * may be.
 *
 * Each file has what a reader sees and what is on the platter; names as well (a name that no dirsync covered may be
 * gone or, after unlink, back). Descriptors are indices and die with nothing: a crashed node's are simply never used
 * again.
 */
#include "config.h"
#include "simnet.h"
#include <stdio.h>
#include <string.h>

enum { FILES = 2048, UNIT = 512 }; /* journals set aside stay */

struct simfile {
	char name[64], safe_name[64]; /* "" none. safe: as the platter knows it */
	uint8_t *seen, *safe;
	size_t len, safe_len;
	bool used;
};

struct simdisk {
	struct simfile f[FILES];
	unsigned fail_in;
};

struct simdisk *simdisk_new(void)
{
	struct simdisk *d = calloc(1, sizeof(*d));

	if (d == NULL)
		abort();
	return d;
}

static int find(struct simdisk *d, const char *name)
{
	for (int i = 0; i < FILES; i++)
		if (d->f[i].used && strcmp(d->f[i].name, name) == 0)
			return i;
	return -ENOENT;
}

static void grow(uint8_t **p, size_t *len, size_t want)
{
	if (want <= *len)
		return;
	*p = realloc(*p, want);
	if (*p == NULL)
		abort();
	memset(*p + *len, 0, want - *len);
	*len = want;
}

static int d_open(void *ctx, int dirfd, const char *name, bool create)
{
	struct simdisk *d = ctx;
	int i = find(d, name);

	(void)dirfd;
	if (i >= 0 || !create)
		return i;
	for (i = 0; i < FILES && d->f[i].used; i++)
		;
	if (i == FILES)
		return -ENOSPC;
	sim_step("create file");
	memset(&d->f[i], 0, sizeof(d->f[i]));
	d->f[i].used = true;
	(void)snprintf(d->f[i].name, sizeof(d->f[i].name), "%s", name);
	return i;
}

static int d_pwrite(void *ctx, int fd, const void *p, size_t n, uint64_t off)
{
	struct simfile *f = &((struct simdisk *)ctx)->f[fd];
	size_t cut = (size_t)((off + sim_below(n + UNIT)) / UNIT * UNIT),
	       half = cut <= off ? 0 : MIN(cut - (size_t)off, n);

	/* A kill may fall between two pages of one write; within a sector never. */
	grow(&f->seen, &f->len, off + n);
	memcpy(f->seen + off, p, half);
	sim_step("write file");
	memcpy(f->seen + off + half, (const char *)p + half, n - half);
	sim_step("written file");
	return 0;
}

static int d_pread(void *ctx, int fd, void *p, size_t n, uint64_t off)
{
	struct simfile *f = &((struct simdisk *)ctx)->f[fd];

	if (off + n > f->len)
		return -ENODATA;
	memcpy(p, f->seen + off, n);
	return 0;
}

static void sync_file(struct simfile *f)
{
	grow(&f->safe, &f->safe_len, f->len);
	if (f->len > 0)
		memcpy(f->safe, f->seen, f->len);
}

static int d_allocate(void *ctx, int fd, uint64_t len)
{
	struct simfile *f = &((struct simdisk *)ctx)->f[fd];

	grow(&f->seen, &f->len, len);
	sim_step("allocate file");
	sync_file(f);
	return 0;
}

static int d_datasync(void *ctx, int fd)
{
	struct simdisk *d = ctx;

	sim_step("sync file");
	if (d->fail_in > 0 && --d->fail_in == 0)
		return -EIO;
	sync_file(&d->f[fd]);
	sim_step("synced file");
	return 0;
}

/* Its last name went, on the platter as well. Nobody has it open: see the callers of unlink and rename. */
static void gone(struct simfile *f)
{
	free(f->seen);
	free(f->safe);
	memset(f, 0, sizeof(*f));
}

static int d_dirsync(void *ctx, int dirfd)
{
	struct simdisk *d = ctx;

	(void)dirfd;
	sim_step("sync directory");
	for (int i = 0; i < FILES; i++) {
		memcpy(d->f[i].safe_name, d->f[i].name, sizeof(d->f[i].name));
		if (d->f[i].used && d->f[i].name[0] == '\0')
			gone(&d->f[i]);
	}
	return 0;
}

static int d_unlink(void *ctx, int dirfd, const char *name)
{
	struct simdisk *d = ctx;
	int i = find(d, name);

	(void)dirfd;
	if (i < 0)
		return i;
	sim_step("unlink file");
	d->f[i].name[0] = '\0';
	return 0;
}

static int d_rename(void *ctx, int dirfd, const char *from, const char *to)
{
	struct simdisk *d = ctx;
	int i = find(d, from), j = find(d, to);

	(void)dirfd;
	if (i < 0)
		return i;
	sim_step("rename file");
	if (j >= 0 && j != i)
		d->f[j].name[0] = '\0';
	(void)snprintf(d->f[i].name, sizeof(d->f[i].name), "%s", to);
	return 0;
}

static int d_list(void *ctx, int dirfd, int (*fn)(void *arg, const char *name), void *arg)
{
	struct simdisk *d = ctx;
	int r = 0;

	(void)dirfd;
	for (int i = 0; i < FILES && r == 0; i++)
		if (d->f[i].used && d->f[i].name[0] != '\0')
			r = fn(arg, d->f[i].name);
	return r;
}

static void d_close(void *ctx, int fd)
{
	(void)ctx;
	(void)fd;
}

void simdisk_jdisk(struct simdisk *d, struct jdisk *ret)
{
	*ret = (struct jdisk){.ctx = d,
			      .open = d_open,
			      .pwrite = d_pwrite,
			      .pread = d_pread,
			      .allocate = d_allocate,
			      .datasync = d_datasync,
			      .dirsync = d_dirsync,
			      .unlink = d_unlink,
			      .rename = d_rename,
			      .list = d_list,
			      .close = d_close};
}

void simdisk_power_cut(struct simdisk *d)
{
	bool names = sim_chance(1, 2); /* a rename is whole or was not: never one of its two names */

	for (int i = 0; i < FILES; i++) {
		struct simfile *f = &d->f[i];

		if (!f->used)
			continue;
		grow(&f->safe, &f->safe_len, f->len);
		for (size_t o = 0; o < f->len; o += UNIT)
			if (sim_chance(1, 2))
				memcpy(f->safe + o, f->seen + o, MIN((size_t)UNIT, f->len - o));
		if (f->len > 0)
			memcpy(f->seen, f->safe, f->len);
		if (!names)
			memcpy(f->name, f->safe_name, sizeof(f->name));
		memcpy(f->safe_name, f->name, sizeof(f->name));
	}
}

void simdisk_wipe(struct simdisk *d)
{
	for (int i = 0; i < FILES; i++) {
		free(d->f[i].seen);
		free(d->f[i].safe);
	}
	memset(d->f, 0, sizeof(d->f));
}

static uint8_t *copied(const uint8_t *p, size_t n)
{
	uint8_t *d = malloc(n + 1);

	if (d == NULL)
		abort();
	if (n > 0)
		memcpy(d, p, n);
	return d;
}

void simdisk_copy(struct simdisk *to, const struct simdisk *from)
{
	simdisk_wipe(to);
	for (int i = 0; i < FILES; i++) {
		struct simfile *f = &to->f[i];

		*f = from->f[i];
		if (!f->used)
			continue;
		f->seen = copied(from->f[i].seen, f->len);
		f->safe = copied(from->f[i].seen, f->len);
		f->safe_len = f->len;
		memcpy(f->safe_name, f->name, sizeof(f->name));
	}
}

void simdisk_fail_sync(struct simdisk *d, unsigned n)
{
	d->fail_in = n;
}

void simdisk_free(struct simdisk *d)
{
	if (d != NULL)
		simdisk_wipe(d);
	free(d);
}
