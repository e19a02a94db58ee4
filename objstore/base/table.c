/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * table.c - the hash table of table.h and its hash functions.
 *
 * Buckets double at one node a bucket; nodes keep their whole hash, so growing never asks the caller. The hash is not
 * meant against an adversary who knows the seed: callers hash with a random one when names come from outside.
 */
#include "config.h"
#include "table.h"
#include <string.h>

#define FIRST_BUCKETS 64

int htab_init(struct htab *t)
{
	struct hnode **b = calloc(FIRST_BUCKETS, sizeof(struct hnode *));

	if (b == NULL)
		return -ENOMEM;
	t->bucket = b;
	t->nbuckets = FIRST_BUCKETS;
	t->n = 0;
	return 0;
}

void htab_done(struct htab *t)
{
	free(t->bucket);
	*t = (struct htab){0};
}

static void put_in(struct hnode **bucket, size_t nbuckets, struct hnode *n)
{
	struct hnode **b = &bucket[n->hash & (nbuckets - 1)];

	n->next = *b;
	*b = n;
}

static void grow(struct htab *t)
{
	size_t want = t->nbuckets * 2;
	struct hnode **b = calloc(want, sizeof(struct hnode *));

	if (b == NULL)
		return; /* longer chains, still right */
	for (size_t i = 0; i < t->nbuckets; i++)
		for (struct hnode *n = t->bucket[i], *next; n != NULL; n = next) {
			next = n->next;
			put_in(b, want, n);
		}
	free(t->bucket);
	t->bucket = b;
	t->nbuckets = want;
}

void htab_add(struct htab *t, struct hnode *n, uint64_t hash)
{
	if (t->n >= t->nbuckets)
		grow(t);
	n->hash = hash;
	put_in(t->bucket, t->nbuckets, n);
	t->n++;
}

void htab_del(struct htab *t, struct hnode *n)
{
	struct hnode **p = &t->bucket[n->hash & (t->nbuckets - 1)];

	while (*p != n) {
		assert(*p != NULL);
		p = &(*p)->next;
	}
	*p = n->next;
	n->next = NULL;
	t->n--;
}

struct hnode *htab_first(const struct htab *t, uint64_t hash)
{
	struct hnode *n = t->bucket[hash & (t->nbuckets - 1)];

	while (n != NULL && n->hash != hash)
		n = n->next;
	return n;
}

struct hnode *htab_next(const struct hnode *n)
{
	struct hnode *m = n->next;

	while (m != NULL && m->hash != n->hash)
		m = m->next;
	return m;
}

void htab_each(struct htab *t, void (*fn)(struct hnode *n, void *arg), void *arg)
{
	for (size_t i = 0; i < t->nbuckets; i++)
		for (struct hnode *n = t->bucket[i], *next; n != NULL; n = next) {
			next = n->next;
			fn(n, arg);
		}
}

uint64_t hash_u64(uint64_t v)
{
	/* Two rounds of xor-shift-multiply: every input bit reaches every output bit. */
	v ^= v >> 31;
	v *= 0x7fb5d329728ea185ULL;
	v ^= v >> 27;
	v *= 0x81dadef4bc2dd44dULL;
	v ^= v >> 33;
	return v;
}

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed)
{
	const unsigned char *b = p;
	uint64_t h = seed ^ hash_u64(n + 0x9e3779b97f4a7c15ULL), w;

	for (; n >= 8; b += 8, n -= 8) {
		memcpy(&w, b, 8);
		h = hash_u64(h ^ w) + 0x9e3779b97f4a7c15ULL;
	}
	if (n > 0) {
		w = 0;
		memcpy(&w, b, n);
		h = hash_u64(h ^ w ^ (uint64_t)n << 56);
	}
	return hash_u64(h);
}
