/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * page.c - building and freeing one page of a listing.
 *
 * All strings of a page lie in one heap: a page of 1000 entries is three allocations. Entries point into the heap, so
 * whenever it moves they are moved along; that is why pointers taken from a page are good only once it is complete.
 */
#include "config.h"
#include "objstore.h"
#include "base/str.h"
#include "store-private.h"
#include <stdio.h>
#include <string.h>

int page_new(struct obj_listing **ret)
{
	struct obj_listing *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -ENOMEM;
	*ret = l;
	return 0;
}

void obj_listing_free(struct obj_listing *l)
{
	if (l == NULL)
		return;
	free(l->v);
	free(l->heap);
	free(l->next_token);
	free(l);
}

static const char *moved(const char *p, const char *from, const char *to)
{
	return p == NULL ? NULL : to + (p - from);
}

static int heap_reserve(struct obj_listing *l, size_t n)
{
	size_t cap = MAX(l->heap_cap * 2, (size_t)4096);
	char *heap;

	if (l->heap_cap - l->heap_len >= n)
		return 0;
	cap = MAX(cap, l->heap_len + n);
	heap = malloc(cap);
	if (heap == NULL)
		return -ENOMEM;
	if (l->heap_len > 0)
		memcpy(heap, l->heap, l->heap_len);
	for (size_t i = 0; i < l->n; i++) {
		l->v[i].key = moved(l->v[i].key, l->heap, heap);
		l->v[i].upload_id = moved(l->v[i].upload_id, l->heap, heap);
		l->v[i].initiator = moved(l->v[i].initiator, l->heap, heap);
	}
	free(l->heap);
	l->heap = heap;
	l->heap_cap = cap;
	return 0;
}

static const char *heap_put(struct obj_listing *l, const char *s, size_t n)
{
	char *p = l->heap + l->heap_len;

	memcpy(p, s, n);
	p[n] = '\0';
	l->heap_len += n + 1;
	return p;
}

int page_add(struct obj_listing *l, const char *key, size_t n, struct obj_list_entry **ret_e)
{
	int r;

	if (l->n == l->cap) {
		size_t cap = l->cap == 0 ? 64 : 2 * l->cap;
		struct obj_list_entry *v = reallocarray(l->v, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	r = heap_reserve(l, n + 1);
	if (r < 0)
		return r;
	l->v[l->n] = (struct obj_list_entry){.key = heap_put(l, key, n)};
	*ret_e = &l->v[l->n++];
	return 0;
}

int page_set_upload(struct obj_listing *l, struct obj_list_entry *e, const char *id, const char *initiator)
{
	size_t n = strlen(id), k = initiator != NULL ? strlen(initiator) : 0;
	int r = heap_reserve(l, n + k + 2);

	if (r < 0)
		return r;
	e->upload_id = heap_put(l, id, n);
	if (initiator != NULL)
		e->initiator = heap_put(l, initiator, k);
	return 0;
}

int page_add_part(struct obj_listing *l, unsigned number, uint64_t size, const char *etag)
{
	struct obj_list_entry *e;
	char key[16];
	int r;

	(void)snprintf(key, sizeof(key), "%05u", number);
	r = page_add(l, key, strlen(key), &e);
	if (r < 0)
		return r;
	e->size = size;
	return str_copy(e->etag, sizeof(e->etag), etag);
}

int page_set_token(struct obj_listing *l, const char *token)
{
	char *t = strdup(token);

	if (t == NULL)
		return -ENOMEM;
	free(l->next_token);
	l->next_token = t;
	l->truncated = true;
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct obj_list_entry *x = a, *y = b;
	int r = strcmp(x->key, y->key);

	if (r == 0 && x->upload_id != NULL && y->upload_id != NULL)
		r = strcmp(x->upload_id, y->upload_id);
	return r;
}

void page_sort(struct obj_listing *l)
{
	if (l->n > 1)
		qsort(l->v, l->n, sizeof(l->v[0]), by_key);
}
