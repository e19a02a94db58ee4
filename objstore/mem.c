/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mem.c - a bucket in memory with every capability: the model that other stores are held against, and what unit tests
 * of upper layers run on.
 *
 * One array of objects sorted by key, one of uploads, one lock. A request runs under the lock and completes inside
 * submit, after the lock was given back. Conditions and errors are those of AWS; differences: the minimum size of a
 * part is the store's own part_min (tests lower it), and completing an upload twice is -ENOENT.
 *
 * Invariant: objects are in strict byte order of their keys, and an object is never changed, only replaced.
 */
#include "config.h"
#include "objstore.h"
#include "base/clock.h"
#include "base/lock.h"
#include "store-private.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct mem_object {
	char *key;
	char *data;
	size_t size;
	char etag[OBJ_ETAG_MAX];
	int64_t mtime_s;
	struct obj_headers headers;
};

struct mem_part {
	unsigned number;
	char *data;
	size_t size;
	char etag[OBJ_ETAG_MAX];
};

struct mem_upload {
	char id[2 * 16 + 1];
	char *key;
	int64_t mtime_s;
	struct obj_headers headers;
	struct mem_part *part; /* any order */
	size_t nparts, cap;
};

struct mem_bucket {
	struct mtx lock; /* RANK_STORE; held over memory work only */
	/* under lock */
	struct mem_object **obj;
	size_t n, cap;
	struct mem_upload **up;
	size_t nup, upcap;
	uint64_t puts; /* makes etags unique */
	/* list of named buckets, under names_lock */
	char *name;
	struct mem_bucket *next;
};

struct mem_store {
	struct objstore s;
	struct mem_bucket *b;
	bool shared; /* the bucket outlives us */
	struct obj_stats stats;
};

static struct mtx names_lock = MTX_INIT(RANK_STORE);
static struct mem_bucket *named; /* under names_lock; never freed: the bucket is what stays */

static int64_t now_s(void)
{
	return clock_real_ns() / NSEC_PER_SEC;
}

/* --- objects, all under lock -------------------------------------------------------------------------------------- */

static void object_free(struct mem_object *o)
{
	if (o == NULL)
		return;
	free(o->key);
	free(o->data);
	obj_headers_free(&o->headers);
	free(o);
}

/* First index whose key is not below `key`. */
static size_t lower_bound_locked(const struct mem_bucket *b, const char *key)
{
	size_t lo = 0, hi = b->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(b->obj[mid]->key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct mem_object *find_locked(const struct mem_bucket *b, const char *key)
{
	size_t i = lower_bound_locked(b, key);

	return i < b->n && strcmp(b->obj[i]->key, key) == 0 ? b->obj[i] : NULL;
}

static void new_etag_locked(struct mem_bucket *b, char *etag, size_t nparts)
{
	uint64_t r[2];

	base_random(r, sizeof(r[0]));
	r[1] = ++b->puts;
	(void)snprintf(etag, OBJ_ETAG_MAX, "%016" PRIx64 "%016" PRIx64, r[0], r[1]);
	if (nparts > 0)
		(void)snprintf(etag + 32, OBJ_ETAG_MAX - 32, "-%zu", nparts);
}

/* Puts o in place of what has its key. Takes o on success. */
static int store_locked(struct mem_bucket *b, struct mem_object *o)
{
	size_t i = lower_bound_locked(b, o->key);

	if (i < b->n && strcmp(b->obj[i]->key, o->key) == 0) {
		object_free(b->obj[i]);
		b->obj[i] = o;
		return 0;
	}
	if (b->n == b->cap) {
		size_t cap = b->cap == 0 ? 64 : 2 * b->cap;
		struct mem_object **v = reallocarray(b->obj, cap, sizeof(struct mem_object *));

		if (v == NULL)
			return -ENOMEM;
		b->obj = v;
		b->cap = cap;
	}
	memmove(&b->obj[i + 1], &b->obj[i], (b->n - i) * sizeof(struct mem_object *));
	b->obj[i] = o;
	b->n++;
	return 0;
}

/* The common end of PUT, COPY and COMPLETE: checks the condition, stores, answers. Takes data and headers always. */
static int publish_locked(struct mem_bucket *b, struct objreq *req, char *take_data, size_t size,
			  struct obj_headers *take_headers, size_t nparts)
{
	struct mem_object *old = find_locked(b, req->key), *o;
	int r = store_check_dst(req, old != NULL ? old->etag : NULL);

	o = r == 0 ? calloc(1, sizeof(*o)) : NULL;
	if (o == NULL) {
		free(take_data);
		obj_headers_free(take_headers);
		return r < 0 ? r : -ENOMEM;
	}
	o->data = take_data;
	o->size = size;
	o->headers = *take_headers;
	o->mtime_s = now_s();
	new_etag_locked(b, o->etag, nparts);
	o->key = strdup(req->key);
	r = o->key == NULL ? -ENOMEM : store_locked(b, o);
	if (r < 0) {
		object_free(o);
		return r;
	}
	memcpy(req->etag, o->etag, sizeof(req->etag));
	req->size = size;
	req->mtime_s = o->mtime_s;
	return 0;
}

static int gather(const struct objreq *req, char **ret, size_t *ret_n)
{
	size_t n = store_body_bytes(req);
	char *p = malloc(n + 1), *w = p;

	if (p == NULL)
		return -ENOMEM;
	for (int i = 0; i < req->iovcnt; i++) {
		if (req->iov[i].iov_len > 0)
			memcpy(w, req->iov[i].iov_base, req->iov[i].iov_len);
		w += req->iov[i].iov_len;
	}
	*ret = p;
	*ret_n = n;
	return 0;
}

static int check_key(struct objreq *req, const char *key)
{
	if (*key == '\0') {
		objerr_set(&req->err, "an empty key");
		return -EINVAL;
	}
	if (strlen(key) > OBJ_KEY_MAX) {
		objerr_set(&req->err, "the key is longer than %d bytes", OBJ_KEY_MAX);
		return -ENAMETOOLONG;
	}
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

static int do_get_locked(struct mem_bucket *b, struct objreq *req)
{
	struct mem_object *o = find_locked(b, req->key);
	uint64_t n = 0;
	int r;

	if (o == NULL)
		return -ENOENT;
	if (req->if_match != NULL && strcmp(req->if_match, o->etag) != 0)
		return -ESTALE;
	memcpy(req->etag, o->etag, sizeof(req->etag));
	if (req->if_none_match != NULL && strcmp(req->if_none_match, o->etag) == 0) {
		req->not_modified = true;
		return 0;
	}
	if (req->op == OBJ_GET) {
		r = store_cut_range(req, o->size, &n);
		if (r < 0)
			return r;
	}
	r = obj_headers_copy(&req->ret_headers, &o->headers);
	if (r < 0)
		return r;
	if (n > 0)
		memcpy(req->buf, o->data + req->off, n);
	req->got = n;
	req->truncated = req->op == OBJ_GET && req->off + n < o->size;
	req->size = o->size;
	req->mtime_s = o->mtime_s;
	return 0;
}

/* Length of `key` up to and including the first '/' behind the prefix, 0 when there is none. */
static size_t rolled_up(const char *key, size_t prefix_len)
{
	const char *p = strchr(key + prefix_len, '/');

	return p == NULL ? 0 : (size_t)(p - key) + 1;
}

/* Where the listing starts: behind `after`; a token that is a rolled-up prefix stands for all keys below it. */
static size_t list_start_locked(const struct mem_bucket *b, const struct objreq *req)
{
	const char *after = req->token != NULL ? req->token : req->start_after != NULL ? req->start_after : "";
	size_t i = lower_bound_locked(b, req->key), j = lower_bound_locked(b, after), n = strlen(after);

	if (j < b->n && strcmp(b->obj[j]->key, after) == 0)
		j++;
	if (req->token != NULL && req->delimiter && n > strlen(req->key) && after[n - 1] == '/')
		while (j < b->n && strncmp(b->obj[j]->key, after, n) == 0)
			j++;
	return MAX(i, j);
}

static int do_list_locked(struct mem_bucket *b, struct objreq *req)
{
	unsigned max = req->max_keys == 0 ? OBJ_LIST_MAX : MIN(req->max_keys, (unsigned)OBJ_LIST_MAX);
	size_t plen = strlen(req->key), i = list_start_locked(b, req);
	struct obj_listing *l = NULL;
	int r = page_new(&l);

	while (r == 0 && i < b->n && strncmp(b->obj[i]->key, req->key, plen) == 0) {
		const struct mem_object *o = b->obj[i];
		size_t roll = req->delimiter ? rolled_up(o->key, plen) : 0;
		struct obj_list_entry *e;

		if (l->n == max) {
			r = page_set_token(l, l->v[l->n - 1].key);
			break;
		}
		r = page_add(l, o->key, roll > 0 ? roll : strlen(o->key), &e);
		if (r < 0)
			break;
		e->is_prefix = roll > 0;
		i++;
		if (roll > 0) {
			while (i < b->n && strncmp(b->obj[i]->key, e->key, roll) == 0)
				i++;
		} else {
			e->size = o->size;
			e->mtime_s = o->mtime_s;
			memcpy(e->etag, o->etag, sizeof(e->etag));
		}
	}
	if (r < 0)
		obj_listing_free(l);
	else
		req->listing = l;
	return r;
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static int do_put_locked(struct mem_bucket *b, struct objreq *req)
{
	struct obj_headers h;
	char *data;
	size_t n;
	int r = check_key(req, req->key);

	if (r < 0)
		return r;
	r = store_put_headers(req, &h);
	if (r < 0)
		return r;
	r = gather(req, &data, &n);
	if (r < 0) {
		obj_headers_free(&h);
		return r;
	}
	return publish_locked(b, req, data, n, &h, 0);
}

static int do_copy_locked(struct mem_bucket *b, struct objreq *req)
{
	struct mem_object *src = find_locked(b, req->src_key);
	struct obj_headers h = {0};
	char *data;
	int r = check_key(req, req->key);

	if (r < 0)
		return r;
	if (src == NULL)
		return -ENOENT;
	if (req->src_if_match != NULL && strcmp(req->src_if_match, src->etag) != 0)
		return -ESTALE;
	if (req->headers == NULL && strcmp(req->key, req->src_key) == 0) {
		objerr_set(&req->err, "a copy onto itself that changes nothing");
		return -EINVAL;
	}
	r = req->headers != NULL ? store_put_headers(req, &h) : obj_headers_copy(&h, &src->headers);
	if (r < 0)
		return r;
	data = malloc(src->size + 1);
	if (data == NULL) {
		obj_headers_free(&h);
		return -ENOMEM;
	}
	if (src->size > 0)
		memcpy(data, src->data, src->size);
	return publish_locked(b, req, data, src->size, &h, 0);
}

static void delete_locked(struct mem_bucket *b, const char *key)
{
	size_t i = lower_bound_locked(b, key);

	if (i == b->n || strcmp(b->obj[i]->key, key) != 0)
		return;
	object_free(b->obj[i]);
	memmove(&b->obj[i], &b->obj[i + 1], (b->n - i - 1) * sizeof(struct mem_object *));
	b->n--;
}

static int do_delete_locked(struct mem_bucket *b, struct objreq *req)
{
	struct mem_object *o = find_locked(b, req->key);

	if (o != NULL && req->if_match != NULL && strcmp(req->if_match, o->etag) != 0)
		return -ESTALE;
	delete_locked(b, req->key);
	return 0;
}

/* --- multipart ---------------------------------------------------------------------------------------------------- */

static void upload_free(struct mem_upload *u)
{
	if (u == NULL)
		return;
	for (size_t i = 0; i < u->nparts; i++)
		free(u->part[i].data);
	free(u->part);
	free(u->key);
	obj_headers_free(&u->headers);
	free(u);
}

static size_t upload_index_locked(const struct mem_bucket *b, const struct objreq *req)
{
	size_t i = 0;

	while (i < b->nup && (strcmp(b->up[i]->id, req->upload_id) != 0 || strcmp(b->up[i]->key, req->key) != 0))
		i++;
	return i;
}

static void upload_remove_locked(struct mem_bucket *b, size_t i)
{
	upload_free(b->up[i]);
	b->up[i] = b->up[--b->nup];
}

static int do_create_locked(struct mem_bucket *b, struct objreq *req)
{
	struct mem_upload *u;
	int r = check_key(req, req->key);

	if (r < 0)
		return r;
	if (b->nup == b->upcap) {
		size_t cap = b->upcap == 0 ? 8 : 2 * b->upcap;
		struct mem_upload **v = reallocarray(b->up, cap, sizeof(struct mem_upload *));

		if (v == NULL)
			return -ENOMEM;
		b->up = v;
		b->upcap = cap;
	}
	u = calloc(1, sizeof(*u));
	if (u == NULL)
		return -ENOMEM;
	base_random_hex(u->id, 16);
	u->mtime_s = now_s();
	u->key = strdup(req->key);
	req->ret_upload_id = strdup(u->id);
	r = u->key == NULL || req->ret_upload_id == NULL ? -ENOMEM : store_put_headers(req, &u->headers);
	if (r < 0) {
		upload_free(u);
		return r;
	}
	b->up[b->nup++] = u;
	return 0;
}

static struct mem_part *part_find(const struct mem_upload *u, unsigned number)
{
	for (size_t i = 0; i < u->nparts; i++)
		if (u->part[i].number == number)
			return &u->part[i];
	return NULL;
}

/* Takes data always. */
static int part_store_locked(struct mem_bucket *b, struct objreq *req, struct mem_upload *u, char *take_data, size_t n)
{
	struct mem_part *p = part_find(u, req->part);

	if (p == NULL) {
		if (u->nparts == u->cap) {
			size_t cap = u->cap == 0 ? 8 : 2 * u->cap;
			struct mem_part *v = reallocarray(u->part, cap, sizeof(*v));

			if (v == NULL) {
				free(take_data);
				return -ENOMEM;
			}
			u->part = v;
			u->cap = cap;
		}
		p = &u->part[u->nparts++];
		*p = (struct mem_part){.number = req->part};
	}
	free(p->data);
	p->data = take_data;
	p->size = n;
	new_etag_locked(b, p->etag, 0);
	memcpy(req->etag, p->etag, sizeof(req->etag));
	return 0;
}

static int copy_range_locked(struct mem_bucket *b, struct objreq *req, char **ret, size_t *ret_n)
{
	struct mem_object *src = find_locked(b, req->src_key);
	size_t n;
	char *p;

	if (src == NULL)
		return -ENOENT;
	if (req->src_if_match != NULL && strcmp(req->src_if_match, src->etag) != 0)
		return -ESTALE;
	/* Unlike a GET, a range that ends behind the object is refused (S3 API, UploadPartCopy: InvalidRange). */
	if (req->off > src->size || (req->len != OBJ_WHOLE && req->len > src->size - req->off)) {
		objerr_set(&req->err, "the range to copy ends behind %s", req->src_key);
		return -ERANGE;
	}
	n = req->len == OBJ_WHOLE ? src->size - req->off : req->len;
	p = malloc(n + 1);
	if (p == NULL)
		return -ENOMEM;
	if (n > 0)
		memcpy(p, src->data + req->off, n);
	*ret = p;
	*ret_n = n;
	return 0;
}

static int do_part_locked(struct mem_bucket *b, struct objreq *req)
{
	size_t i = upload_index_locked(b, req), n;
	char *data;
	int r;

	if (i == b->nup) {
		(void)snprintf(req->err.code, sizeof(req->err.code), "NoSuchUpload");
		return -ENOENT;
	}
	r = req->op == OBJ_MPU_PART ? gather(req, &data, &n) : copy_range_locked(b, req, &data, &n);
	if (r < 0)
		return r;
	return part_store_locked(b, req, b->up[i], data, n);
}

static int check_parts(struct objreq *req, const struct mem_upload *u, uint64_t part_min, size_t *ret_size)
{
	size_t size = 0;

	for (size_t i = 0; i < req->nparts; i++) {
		struct mem_part *p = part_find(u, req->parts[i].number);

		if (i > 0 && req->parts[i].number <= req->parts[i - 1].number) {
			objerr_set(&req->err, "parts out of order at %u", req->parts[i].number);
			return -EINVAL;
		}
		if (p == NULL || strcmp(p->etag, req->parts[i].etag) != 0) {
			objerr_set(&req->err, "part %u was not uploaded with that etag", req->parts[i].number);
			return -EINVAL;
		}
		if (p->size < part_min && i + 1 < req->nparts) {
			objerr_set(&req->err, "part %u is too small", p->number);
			return -EINVAL;
		}
		size += p->size;
	}
	*ret_size = size;
	return 0;
}

static int do_complete_locked(struct mem_bucket *b, struct objreq *req, uint64_t part_min)
{
	size_t i = upload_index_locked(b, req), size;
	struct obj_headers h = {0};
	char *data, *w;
	int r;

	if (i == b->nup) {
		(void)snprintf(req->err.code, sizeof(req->err.code), "NoSuchUpload");
		return -ENOENT;
	}
	r = check_parts(req, b->up[i], part_min, &size);
	if (r < 0)
		return r;
	r = obj_headers_copy(&h, &b->up[i]->headers);
	if (r < 0)
		return r;
	data = w = malloc(size + 1);
	if (data == NULL) {
		obj_headers_free(&h);
		return -ENOMEM;
	}
	for (size_t k = 0; k < req->nparts; k++) {
		struct mem_part *p = part_find(b->up[i], req->parts[k].number);

		if (p->size > 0)
			memcpy(w, p->data, p->size);
		w += p->size;
	}
	r = publish_locked(b, req, data, size, &h, req->nparts);
	if (r == 0)
		upload_remove_locked(b, i); /* a refused one stays, as on S3 */
	return r;
}

static int do_abort_locked(struct mem_bucket *b, struct objreq *req)
{
	size_t i = upload_index_locked(b, req);

	if (i < b->nup)
		upload_remove_locked(b, i);
	return 0;
}

static int do_list_parts_locked(struct mem_bucket *b, struct objreq *req)
{
	size_t i = upload_index_locked(b, req);
	struct obj_listing *l = NULL;
	int r;

	if (i == b->nup)
		return -ENOENT;
	r = page_new(&l);
	for (size_t k = 0; r == 0 && k < b->up[i]->nparts; k++) {
		const struct mem_part *p = &b->up[i]->part[k];

		r = page_add_part(l, p->number, p->size, p->etag);
	}
	if (r < 0) {
		obj_listing_free(l);
		return r;
	}
	page_sort(l);
	req->listing = l;
	return 0;
}

/* The token is "UPLOADID/KEY" of the last entry: ids are hex, so the first '/' ends them. */
static bool upload_behind(const struct mem_upload *u, const struct objreq *req)
{
	const char *slash = req->token != NULL ? strchr(req->token, '/') : NULL;
	int c;

	if (slash == NULL)
		return req->start_after == NULL || strcmp(u->key, req->start_after) > 0;
	c = strcmp(u->key, slash + 1);
	return c > 0 || (c == 0 && strncmp(u->id, req->token, (size_t)(slash - req->token)) > 0);
}

static int do_list_uploads_locked(struct mem_bucket *b, struct objreq *req)
{
	unsigned max = req->max_keys == 0 ? OBJ_LIST_MAX : MIN(req->max_keys, (unsigned)OBJ_LIST_MAX);
	struct obj_listing *l = NULL;
	int r = page_new(&l);

	for (size_t i = 0; r == 0 && i < b->nup; i++) {
		const struct mem_upload *u = b->up[i];
		struct obj_list_entry *e;

		if (strncmp(u->key, req->key, strlen(req->key)) != 0 || !upload_behind(u, req))
			continue;
		r = page_add(l, u->key, strlen(u->key), &e);
		if (r < 0)
			break;
		e->mtime_s = u->mtime_s;
		r = page_set_upload(l, e, u->id, "mem");
	}
	if (r == 0) {
		page_sort(l);
		if (l->n > max) {
			char token[OBJ_KEY_MAX + 64];

			l->n = max;
			(void)snprintf(token, sizeof(token), "%s/%s", l->v[max - 1].upload_id, l->v[max - 1].key);
			r = page_set_token(l, token);
		}
	}
	if (r < 0)
		obj_listing_free(l);
	else
		req->listing = l;
	return r;
}

/* --- the store ---------------------------------------------------------------------------------------------------- */

static int run_locked(struct mem_bucket *b, struct objreq *req, uint64_t part_min)
{
	switch (req->op) {
	case OBJ_GET:
	case OBJ_HEAD:
		return do_get_locked(b, req);
	case OBJ_PUT:
		return do_put_locked(b, req);
	case OBJ_DELETE:
		return do_delete_locked(b, req);
	case OBJ_DELETE_MANY:
		for (size_t i = 0; i < req->nkeys; i++)
			delete_locked(b, req->keys[i]);
		return 0;
	case OBJ_COPY:
		return do_copy_locked(b, req);
	case OBJ_LIST:
		return do_list_locked(b, req);
	case OBJ_MPU_CREATE:
		return do_create_locked(b, req);
	case OBJ_MPU_PART:
	case OBJ_MPU_COPY_PART:
		return do_part_locked(b, req);
	case OBJ_MPU_COMPLETE:
		return do_complete_locked(b, req, part_min);
	case OBJ_MPU_ABORT:
		return do_abort_locked(b, req);
	case OBJ_MPU_LIST:
		return req->upload_id != NULL ? do_list_parts_locked(b, req) : do_list_uploads_locked(b, req);
	case OBJ_NOPS:
		break;
	}
	return -ENOTSUP;
}

static void mem_submit(struct objstore *s, struct objreq *req)
{
	struct mem_store *m = container_of(s, struct mem_store, s);
	int r;

	mtx_lock(&m->b->lock);
	r = run_locked(m->b, req, s->part_min);
	mtx_unlock(&m->b->lock);
	req->date_s = now_s();
	store_stats_count(&m->stats, req, r);
	objreq_finish(req, r);
}

static void bucket_free(struct mem_bucket *b)
{
	for (size_t i = 0; i < b->n; i++)
		object_free(b->obj[i]);
	for (size_t i = 0; i < b->nup; i++)
		upload_free(b->up[i]);
	free(b->obj);
	free(b->up);
	free(b->name);
	mtx_destroy(&b->lock);
	free(b);
}

static void mem_close(struct objstore *s)
{
	struct mem_store *m = container_of(s, struct mem_store, s);

	if (!m->shared)
		bucket_free(m->b);
	free(m);
}

static const struct objstore_ops mem_ops = {.name = "mem", .submit = mem_submit, .close = mem_close};

static int bucket_new(struct mem_bucket **ret)
{
	struct mem_bucket *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return -ENOMEM;
	mtx_init(&b->lock, RANK_STORE);
	*ret = b;
	return 0;
}

static int store_on(struct mem_bucket *b, bool shared, struct objstore **ret)
{
	struct mem_store *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return -ENOMEM;
	m->b = b;
	m->shared = shared;
	m->s.ops = &mem_ops;
	m->s.stats = &m->stats;
	m->s.caps = OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH | OBJ_CAP_COMPLETE_COND | OBJ_CAP_COPY_SRC | OBJ_CAP_COPY_DST |
		    OBJ_CAP_DELETE_COND | OBJ_CAP_COPY | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY | OBJ_CAP_DELETE_MANY |
		    OBJ_CAP_NESTED | OBJ_CAP_LONG_NAMES;
	m->s.caps_known = true;
	m->s.part_min = 5 * MiB;
	m->s.part_max_count = 10000;
	m->s.put_max = 5 * GiB;
	*ret = &m->s;
	return 0;
}

int store_mem_new(struct objstore **ret)
{
	struct mem_bucket *b;
	int r = bucket_new(&b);

	if (r < 0)
		return r;
	r = store_on(b, false, ret);
	if (r < 0)
		bucket_free(b);
	return r;
}

int store_mem_open(const char *name, struct objstore **ret)
{
	struct mem_bucket *b;
	int r = 0;

	mtx_lock(&names_lock);
	for (b = named; b != NULL && strcmp(b->name, name) != 0; b = b->next)
		;
	if (b == NULL)
		r = bucket_new(&b);
	if (r == 0 && b->name == NULL) {
		b->name = strdup(name);
		if (b->name == NULL) {
			bucket_free(b);
			r = -ENOMEM;
		} else {
			b->next = named;
			named = b;
		}
	}
	mtx_unlock(&names_lock);
	return r < 0 ? r : store_on(b, true, ret);
}
