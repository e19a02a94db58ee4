/* SPDX-License-Identifier: GPL-3.0-or-later */
/* table.h - intrusive doubly linked list and chained hash table. No allocation but the bucket array; no locking. */
#ifndef LSVD_TABLE_H
#define LSVD_TABLE_H

#include "base.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_add_between(struct list *n, struct list *a, struct list *b)
{
	n->prev = a;
	n->next = b;
	a->next = n;
	b->prev = n;
}
static inline void list_add_tail(struct list *head, struct list *n) { list_add_between(n, head->prev, head); }
static inline void list_add_head(struct list *head, struct list *n) { list_add_between(n, head, head->next); }
/* Safe on a node that is in no list but was list_init()ed. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}
#define list_entry(p, type, member) container_of(p, type, member)
#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, tmp, head) \
	for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)

struct hnode {
	struct hnode *next;
	uint64_t hash;
};

struct htab {
	struct hnode **bucket;
	size_t nbuckets; /* power of two */
	size_t n;
};

int must_check htab_init(struct htab *t);
void htab_done(struct htab *t); /* frees the buckets, not the nodes */
/* Insert never fails: a table that cannot grow gets slower. Equal keys are the caller's business. */
void htab_add(struct htab *t, struct hnode *n, uint64_t hash);
void htab_del(struct htab *t, struct hnode *n);
/* First node with this hash; htab_next goes on. The caller compares the key. */
struct hnode *htab_first(const struct htab *t, uint64_t hash);
struct hnode *htab_next(const struct hnode *n);
/* Calls fn for each node; fn may remove the node that it is given. */
void htab_each(struct htab *t, void (*fn)(struct hnode *n, void *arg), void *arg);

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);
uint64_t hash_u64(uint64_t v);

#endif
