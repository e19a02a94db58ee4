/* SPDX-License-Identifier: GPL-3.0-or-later */
/* blobs.h - things of a bucket or a directory, kept in memory: for tests that put it together again, but for a wound. */
#ifndef LSVD_TEST_BLOBS_H
#define LSVD_TEST_BLOBS_H

#include "config.h"
#include "objstore/objstore.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOBS = 4000 };

struct blob {
	char key[200];
	uint8_t *p;
	size_t n;
};
struct blobs {
	struct blob v[BLOBS];
	size_t n;
};

static inline void blobs_clear(struct blobs *b)
{
	while (b->n > 0)
		free(b->v[--b->n].p);
}

static inline int must_check blobs_add(struct blobs *b, const char *key, const void *p, size_t n)
{
	struct blob *x = &b->v[b->n];
	size_t len = strlen(key);

	if (b->n == BLOBS || len >= sizeof(x->key))
		return -EOVERFLOW;
	x->p = malloc(n + 1);
	if (x->p == NULL)
		return -ENOMEM;
	memcpy(x->key, key, len + 1);
	if (n > 0)
		memcpy(x->p, p, n);
	x->n = n;
	b->n++;
	return 0;
}

struct blobs_taking {
	struct objstore *s;
	struct blobs *b;
};

static inline int blobs_take_one(void *arg, const struct obj_list_entry *e)
{
	static uint8_t buf[1 << 20];
	struct blobs_taking *t = arg;
	struct objreq get;
	int r;

	objreq_init(&get, OBJ_GET, e->key);
	get.buf = buf;
	get.len = get.cap = sizeof(buf);
	r = obj_do(t->s, &get);
	if (r == 0)
		r = blobs_add(t->b, e->key, buf, get.got);
	objreq_done(&get);
	return r;
}

/* All of the bucket, behind what b has. */
static inline int must_check blobs_take(struct objstore *s, struct blobs *b)
{
	return obj_each(s, OBJ_LIST, "", false, blobs_take_one, &(struct blobs_taking){s, b}, NULL);
}

static inline int must_check blobs_put(struct objstore *s, const char *key, const void *p, size_t n)
{
	return obj_put(s, key, p, n, NULL, false, NULL, NULL, NULL);
}

static inline const struct blob *blobs_find(const struct blobs *b, const char *key)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->v[i].key, key) == 0)
			return &b->v[i];
	return NULL;
}

#endif
