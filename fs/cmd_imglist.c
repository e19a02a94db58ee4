/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imglist.c - which images a prefix has: LISTs, and one GET for each key that is called like a name. What lies below
 * a `.lsvd/` is jumped over: logs have many objects.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "objstore/base/str.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { READERS = 16 };

void found_names_free(struct found_names *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].key);
		nameobj_free(&f->v[i].o);
	}
	free(f->v);
	*f = (struct found_names){0};
}

static int add(struct found_names *f, const char *key)
{
	if (f->n > 0 && !strcmp(f->v[f->n - 1].key, key))
		return 0; /* pages may overlap by one */
	if (f->n == f->cap) {
		size_t cap = f->cap * 2 + 64;
		struct found_name *v = reallocarray(f->v, cap, sizeof *v);

		if (!v)
			return -ENOMEM;
		f->v = v;
		f->cap = cap;
	}
	f->v[f->n] = (struct found_name){.key = strdup(key), .status = -EINPROGRESS};
	return f->v[f->n].key ? (f->n++, 0) : -ENOMEM;
}

/* The `.lsvd/` that key lies in: its length with that; 0: none. */
static size_t reserved(const char *key, size_t from)
{
	const char *p = key + from;

	while (p) {
		if (str_has_prefix(p, ".lsvd/"))
			return (size_t)(p - key) + 6;
		p = strchr(p, '/');
		p = p ? p + 1 : NULL;
	}
	return 0;
}

/* One page; *ret_after: where the next one begins, NULL at the end. */
static int page(struct site *s, const char *prefix, const char *after, struct found_names *f, char **ret_after,
		struct objerr *err)
{
	struct str next = {0};
	struct objreq q;
	bool jump = false;
	size_t n;
	int r;

	objreq_init(&q, OBJ_LIST, prefix);
	q.start_after = after;
	r = obj_do(s->store, &q);
	f->lists++;
	if (r)
		*err = q.err;
	for (size_t i = 0; !r && !jump && i < q.listing->n; i++) {
		const char *key = q.listing->v[i].key;

		if (after && strcmp(key, after) <= 0)
			continue;
		n = reserved(key, strlen(prefix));
		if (n) { /* ours are ASCII */
			str_addn(&next, key, n);
			str_add(&next, "~");
			jump = true;
		} else if (str_has_suffix(key, IMGNAME_SUFFIX)) {
			r = add(f, key);
		}
	}
	if (!r && !jump && q.listing->truncated && q.listing->n > 0)
		str_add(&next, q.listing->v[q.listing->n - 1].key);
	objreq_done(&q);
	if (!r && next.len)
		return str_take(&next, ret_after);
	str_free(&next);
	return r;
}

struct reader {
	struct job job;
	struct site *s;
	struct found_name *f;
};

static void read_name(struct job *job)
{
	struct reader *r = container_of(job, struct reader, job);

	r->f->status = nameobj_get(r->s->store, r->f->key, &r->f->o, &r->f->err);
}

static int read_names(struct site *s, struct found_names *f)
{
	_cleanup_free_ struct reader *v = calloc(f->n + 1, sizeof *v);
	struct pool *pool;
	int r = v ? pool_new("lsvdfs-names", READERS, &pool) : -ENOMEM;

	if (r)
		return r;
	for (size_t i = 0; i < f->n; i++) {
		v[i] = (struct reader){.job.fn = read_name, .s = s, .f = &f->v[i]};
		pool_submit(pool, &v[i].job);
	}
	pool_free(pool); /* waits for all */
	return 0;
}

int image_names(struct site *s, const char *prefix, struct found_names *ret, struct objerr *err)
{
	struct found_names f = {0};
	char *after = NULL;
	int r;

	do {
		char *last = after;

		after = NULL;
		r = page(s, prefix, last, &f, &after, err);
		free(last);
	} while (!r && after);
	free(after);
	if (!r)
		r = read_names(s, &f);
	if (r) {
		found_names_free(&f);
		return r;
	}
	*ret = f;
	return 0;
}

/* --- list ------------------------------------------------------------------------------------------------------- */

static uint64_t allocated(const struct nameobj *o)
{
	const char *v = obj_headers_get(&o->h, IMGNAME_ALLOCATED);
	uint64_t n = 0;

	return v && !str_parse_u64(v, &n) ? n : 0;
}

static void print_one(const char *path, const struct nameobj *o)
{
	_cleanup_free_ char *copy = strdup(path);
	char a[24], b[24];

	printf("%10s %10s  %s\n", cmd_size(o->n.size, a), cmd_size(allocated(o), b), copy ? cmd_printable(copy) : "?");
}

static json_t *one_json(const char *path, const struct nameobj *o, const char *uuid)
{
	return json_pack("{s:s, s:s, s:I, s:I}", "path", path, "uuid", uuid, "size", (json_int_t)o->n.size, "allocated",
			 (json_int_t)allocated(o));
}

static int show(struct site *s, struct found_names *f)
{
	json_t *doc = s->json ? json_array() : NULL;
	int status = CMD_OK;

	for (size_t i = 0; i < f->n; i++) {
		struct found_name *x = &f->v[i];
		char uuid[33];

		if (x->status == -ENODATA || x->status == -ENOENT) /* a file of this name; gone meanwhile */
			continue;
		if (x->status) {
			status = cmd_fail("%s: %s", cmd_printable(x->key),
					  x->err.msg[0] ? x->err.msg : explain_errno(x->status));
			continue;
		}
		x->key[strlen(x->key) - strlen(IMGNAME_SUFFIX)] = '\0';
		log_uuid_format(x->o.n.uuid, uuid);
		if (s->json)
			json_array_append_new(doc, one_json(x->key + strlen(s->url.prefix), &x->o, uuid));
		else
			print_one(x->key + strlen(s->url.prefix), &x->o);
	}
	if (s->json)
		return cmd_print_json(doc) ? CMD_FAILED : status;
	return fflush(stdout) ? cmd_fail("cannot write the answer") : status;
}

int image_list(struct site *s)
{
	_cleanup_free_ char *prefix = NULL;
	struct found_names f;
	struct objerr err = {0};
	struct str p = {0};
	int r;

	str_addf(&p, "%s%s%s", s->url.prefix, s->path, s->path[0] ? "/" : "");
	if (str_take(&p, &prefix))
		return cmd_fail("out of memory");
	r = image_names(s, prefix, &f, &err);
	if (r)
		return site_fail(s, r, &err);
	r = show(s, &f);
	found_names_free(&f);
	return r;
}
