/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The node table. A file of fixed records, mapped shared: kill -9 leaves it whole in the page cache, and the kernel may
 * write it out and drop it, so that it costs no memory that matters. Layout (host byte order, the file never travels):
 *   record 0: header {magic, version, record size}; record k: one node, id 0 when free.
 * Grows by doubling; the list of free slots lives in memory only and is rebuilt by a scan.
 */
#include "nodetab.h"
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODETAB_MAGIC UINT64_C(0x4c53564e4f444531) /* "LSVNODE1" */

struct rec {
	uint64_t id;	   /* 0: free; then uses counts on */
	uint64_t parent;   /* nodeid; the header record: NODETAB_MAGIC */
	uint64_t ino;
	uint64_t size;
	int64_t mtime_s;
	uint32_t uses;	   /* times this slot was given out */
	uint32_t is_dir;
	char etag[OBJ_ETAG_MAX];
	char name[PATH_NAME_MAX + 1];
};

struct nodetab {
	int fd;
	struct rec *rec;
	uint32_t cap, next; /* records; first never used */
	uint32_t *free;
	size_t nfree, free_cap;
};

static int grow(struct nodetab *t, uint32_t cap)
{
	void *p;
	/* reserved, not sparse: a full disk must be -ENOSPC here, not SIGBUS at a store */
	int r = posix_fallocate(t->fd, 0, (off_t)cap * (off_t)sizeof(struct rec));

	if (r != 0)
		return -r;
	if (t->rec)
		p = mremap(t->rec, t->cap * sizeof(struct rec), cap * sizeof(struct rec), MREMAP_MAYMOVE);
	else
		p = mmap(NULL, cap * sizeof(struct rec), PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	t->rec = p;
	t->cap = cap;
	return 0;
}

int nodetab_open(const char *path, struct nodetab **ret)
{
	struct nodetab *t = calloc(1, sizeof *t);
	int r;

	if (!t)
		return -ENOMEM;
	t->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (t->fd < 0) {
		r = -errno;
		free(t);
		return r;
	}
	r = grow(t, 256);
	if (r < 0) {
		nodetab_close(t);
		return r;
	}
	t->rec[0].parent = NODETAB_MAGIC;
	t->rec[0].size = sizeof(struct rec);
	t->next = 2; /* slot 1 would make nodeid 1, the root's */
	*ret = t;
	return 0;
}

void nodetab_close(struct nodetab *t)
{
	if (!t)
		return;
	if (t->rec)
		munmap(t->rec, t->cap * sizeof(struct rec));
	close(t->fd);
	free(t->free);
	free(t);
}

static struct rec *find(struct nodetab *t, uint64_t id)
{
	uint32_t slot = (uint32_t)id;

	return slot < t->cap && t->rec[slot].id == id ? &t->rec[slot] : NULL;
}

int nodetab_new(struct nodetab *t, uint64_t *ret_id)
{
	uint32_t slot;
	int r;

	if (t->nfree > 0) {
		slot = t->free[--t->nfree];
	} else {
		if (t->next == t->cap) {
			if (t->cap > UINT32_MAX / 2)
				return -ENOSPC;
			r = grow(t, t->cap * 2);
			if (r < 0)
				return r;
		}
		slot = t->next++;
	}
	t->rec[slot].id = slot | (uint64_t)t->rec[slot].uses++ << 32;
	*ret_id = t->rec[slot].id;
	return 0;
}

void nodetab_set(struct nodetab *t, uint64_t id, uint64_t parent, const char *name, bool is_dir, uint64_t ino)
{
	struct rec *r = find(t, id);

	if (!r)
		return;
	r->parent = parent;
	r->ino = ino;
	r->is_dir = is_dir;
	memset(r->name, 0, sizeof r->name);
	memcpy(r->name, name, MIN(strlen(name), sizeof r->name - 1));
}

void nodetab_set_version(struct nodetab *t, uint64_t id, const struct version *v)
{
	struct rec *r = find(t, id);

	if (!r)
		return;
	r->size = v->size;
	r->mtime_s = v->mtime_s;
	memcpy(r->etag, v->etag, sizeof r->etag);
}

void nodetab_del(struct nodetab *t, uint64_t id)
{
	struct rec *r = find(t, id);
	uint32_t *p;

	if (!r)
		return;
	r->id = 0;
	if (t->nfree == t->free_cap) {
		p = realloc(t->free, (t->free_cap + 1024) * sizeof *p);
		if (!p)
			return; /* the slot is lost until the next mount, nothing else */
		t->free = p;
		t->free_cap += 1024;
	}
	t->free[t->nfree++] = (uint32_t)id;
}
