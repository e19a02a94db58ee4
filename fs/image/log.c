/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * log.c - life of a log, and the requests that everything else here is made of.
 *
 * A key that is absent proves nothing about the past (PROTOCOL.md 1): nothing in these files concludes anything from
 * a 404 but that a GET found nothing at that moment.
 */
#include "config.h"
#include "log-private.h"
#include "nameobj.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TRIES = 8 };
#define BACKOFF_NS (50 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS (5 * NSEC_PER_SEC)

int log_open(const struct log_at *at, struct log **ret)
{
	struct log *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -ENOMEM;
	l->store = at->store;
	l->pool = at->pool;
	memcpy(l->uuid, at->uuid, 16);
	l->prefix = strdup(at->prefix);
	l->host = strdup(at->host != NULL ? at->host : "");
	if (l->prefix == NULL || l->host == NULL || strlen(at->prefix) > OBJ_KEY_MAX - 32) {
		bool long_key = strlen(at->prefix) > OBJ_KEY_MAX - 32;

		free(l->prefix);
		free(l->host);
		free(l);
		return long_key ? -ENAMETOOLONG : -ENOMEM;
	}
	mtx_init(&l->lock, RANK_NUMBERS);
	cond_init(&l->progress);
	*ret = l;
	return 0;
}

static void free_origins(struct log *l)
{
	for (size_t i = 0; i < l->norigins; i++)
		free(l->origins[i].path);
	free(l->origins);
	l->origins = NULL;
	l->norigins = 0;
}

void log_close(struct log *l)
{
	if (l == NULL)
		return;
	log_stop(l);
	mtx_lock(&l->lock);
	while (l->under_way > 0 || l->resending)
		cond_wait(&l->progress, &l->lock);
	mtx_unlock(&l->lock);
	free_origins(l);
	cond_destroy(&l->progress);
	mtx_destroy(&l->lock);
	free(l->prefix);
	free(l->host);
	free(l);
}

void log_stop(struct log *l)
{
	mtx_lock(&l->lock);
	l->stopping = true;
	cond_broadcast(&l->progress);
	mtx_unlock(&l->lock);
}

void log_watch(struct log *l, void (*on_committed)(void *arg), void (*on_fenced)(void *arg), void *arg)
{
	l->on_committed = on_committed;
	l->on_fenced = on_fenced;
	l->watch_arg = arg;
}

void log_view(struct log *l, struct log_view *ret)
{
	mtx_lock(&l->lock);
	*ret = l->view;
	if (l->state == LOG_OWNER)
		ret->tail = l->next;
	mtx_unlock(&l->lock);
}

void log_why(struct log *l, char *out, size_t n)
{
	mtx_lock(&l->lock);
	(void)snprintf(out, n, "%s", l->why);
	mtx_unlock(&l->lock);
}

void log_key(const char *prefix, uint64_t number, char out[OBJ_KEY_MAX + 1])
{
	(void)snprintf(out, OBJ_KEY_MAX + 1, "%s%016" PRIx64, prefix, number);
}

bool log_transient(int status)
{
	switch (status) {
	case -EAGAIN:
	case -ETIMEDOUT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EHOSTUNREACH:
	case -EBADMSG:
	case -EIO:
		return true;
	default:
		return false;
	}
}

static bool stopped(struct log *l)
{
	bool s;

	mtx_lock(&l->lock);
	s = l->stopping;
	mtx_unlock(&l->lock);
	return s;
}

int log_do(struct log *l, struct objreq *req)
{
	int r;

	for (unsigned i = 1;; i++) {
		r = obj_do(l->store, req);
		if (!log_transient(r) || i == TRIES)
			return r;
		if (stopped(l))
			return -ESHUTDOWN;
		objreq_reset_answer(req);
		clock_sleep_ns(clock_backoff_ns(i, BACKOFF_NS, BACKOFF_MAX_NS, 0x80000000u));
	}
}

#ifdef LSVD_RULE_SWITCHES
/* T9_MARKS off: the newest checkpoint's number in one object that each owner overwrites. */
static int look_at_pointer(struct log *l, uint64_t *ret_newest, uint64_t *ret_before, struct objerr *err)
{
	char key[OBJ_KEY_MAX + 1], text[17] = "";
	struct objreq req;
	int r;

	(void)snprintf(key, sizeof(key), "%smark/pointer", l->prefix);
	objreq_init(&req, OBJ_GET, key);
	req.len = req.cap = 16;
	req.buf = text;
	r = log_do(l, &req);
	if (r < 0 && err != NULL)
		*err = req.err;
	objreq_done(&req);
	*ret_newest = *ret_before = 0;
	return r == 0 ? log_number_parse(text, ret_newest) : r == -ENOENT ? 0 : r;
}
#endif

int log_look(struct log *l, uint64_t *ret_newest, uint64_t *ret_before, struct objerr *err)
{
	char prefix[OBJ_KEY_MAX + 1];
	uint64_t m[2] = {0, 0};
	struct objreq req;
	int r;

#ifdef LSVD_RULE_SWITCHES
	if (!RULE(T9_MARKS))
		return look_at_pointer(l, ret_newest, ret_before, err);
#endif
	(void)snprintf(prefix, sizeof(prefix), "%smark/", l->prefix);
	objreq_init(&req, OBJ_LIST, prefix);
	req.max_keys = 3;
	r = log_do(l, &req);
	if (r < 0 && err != NULL)
		*err = req.err;
	for (size_t i = 0, n = 0; r == 0 && i < req.listing->n && n < 2; i++) {
		const char *key = req.listing->v[i].key;

		if (strcmp(key, prefix) == 0) /* a directory of file://, or somebody's marker of one */
			continue;
		if (log_number_parse(key + strlen(prefix), &m[n]) < 0) {
			if (err != NULL)
				objerr_set(err, "%s is no mark: remove it", key);
			r = -EUCLEAN;
		}
		m[n] = UINT64_MAX - m[n];
		n++;
	}
	objreq_done(&req);
	if (r == 0) {
		*ret_newest = m[0];
		*ret_before = m[1];
	}
	return r;
}

#ifdef LSVD_RULE_SWITCHES
/* T5_NEWER off: a mark that is there has not moved. */
static bool mark_is_there(struct log *l, uint64_t m)
{
	char key[OBJ_KEY_MAX + 1];
	struct objreq req;
	int r;

	(void)snprintf(key, sizeof(key), "%smark/%016" PRIx64, l->prefix, UINT64_MAX - m);
	objreq_init(&req, OBJ_HEAD, key);
	r = log_do(l, &req);
	objreq_done(&req);
	return r == 0;
}
#endif

int log_look_again(struct log *l, uint64_t m, bool follower, bool *ret_moved, struct objerr *err)
{
	uint64_t now, before;
	int r = log_look(l, &now, &before, err);

	if (r < 0)
		return r;
	*ret_moved = now != m && !(follower && before == m);
	mtx_lock(&l->lock);
	l->looked_at = now == m ? clock_now_ns() : 0;
	mtx_unlock(&l->lock);
#ifdef LSVD_RULE_SWITCHES
	if (!RULE(T5_NEWER) && m != 0)
		*ret_moved = !mark_is_there(l, m);
#endif
	return 0;
}

int log_create(const struct log_at *at, struct logobj *o, struct objerr *err)
{
	struct log *l = NULL;
	void *bytes = NULL;
	size_t len;
	uint32_t crc;
	int r = log_open(at, &l);

	if (r < 0)
		return r;
	memcpy(o->uuid, at->uuid, 16);
	o->type = LOG_CREATE;
	o->number = MAX(o->number, (uint64_t)1);
	o->epoch = 1;
	o->window = o->create->window;
	o->durable = o->number;
	o->time_s = clock_real_ns() / NSEC_PER_SEC;
	base_random(o->nonce.b, sizeof(o->nonce.b));
	if (o->checkpoint != NULL) { /* a clone's */
		o->checkpoint->epoch = o->epoch;
		o->checkpoint->nonce = o->nonce;
	}
	r = logobj_encode(o, NULL, 0, &bytes, &len, &crc);
	if (r == 0)
		r = log_create_object(l, o->number, bytes, len, crc, &o->nonce, NULL);
	if (r < 0 && err != NULL)
		objerr_set(err, "the image's first log object could not be created: %s", strerror(-r));
	free(bytes);
	log_close(l);
	return r;
}

void log_fill(struct log *l, struct logobj *o)
{
	memcpy(o->uuid, l->uuid, 16);
	mtx_lock(&l->lock);
	o->epoch = l->view.epoch;
	o->nonce = l->view.nonce;
	o->window = l->view.window;
	o->durable = l->low;
	mtx_unlock(&l->lock);
	o->time_s = clock_real_ns() / NSEC_PER_SEC;
}

int log_release(struct log *l, uint64_t jseq, uint64_t size)
{
	struct logobj o = {.type = LOG_RELEASE, .jseq = jseq, .size = size};
	void *bytes = NULL;
	size_t len;
	uint32_t crc;
	int r = log_reserve(l);

	if (r < 0)
		return r;
	o.number = log_take(l);
	r = RULE(E_RELEASE) ? log_wait_committed(l, o.number - 1) : 0;
	if (r < 0)
		return r;
	log_fill(l, &o);
	r = logobj_encode(&o, NULL, 0, &bytes, &len, &crc);
	while (r == 0) {
		r = log_create_object(l, o.number, bytes, len, crc, &o.nonce, NULL);
		if (!log_transient(r))
			break;
		r = stopped(l) ? -ESHUTDOWN : 0;
	}
	free(bytes);
	mtx_lock(&l->lock);
	if (r == 0) {
		l->state = LOG_READER;
		log_see_locked(l, &o);
	} else if (r == -EEXIST) {
		log_fence_locked(l, NULL);
		r = -EIO;
	}
	mtx_unlock(&l->lock);
	return r;
}

int log_delete(struct log *l, const uint64_t *numbers, size_t n, size_t *ret_deleted)
{
	char(*key)[OBJ_KEY_MAX + 1] = NULL;
	const char **ptr = NULL;
	size_t step = (obj_caps(l->store) & OBJ_CAP_DELETE_MANY) != 0 ? 1000 : 1;
	int r = 0;

	*ret_deleted = 0;
	key = calloc(step, sizeof(*key));
	ptr = calloc(step, sizeof(*ptr));
	if (key == NULL || ptr == NULL)
		r = -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i += step) {
		size_t k = MIN(step, n - i);
		struct objreq req;

		for (size_t j = 0; j < k; j++) {
			log_key(l->prefix, numbers[i + j], key[j]);
			ptr[j] = key[j];
		}
		objreq_init(&req, step == 1 ? OBJ_DELETE : OBJ_DELETE_MANY, step == 1 ? key[0] : NULL);
		req.prio = OBJ_PRIO_BG;
		if (step > 1) {
			req.keys = ptr;
			req.nkeys = k;
		}
		r = obj_do(l->store, &req);
		objreq_done(&req);
		if (r == 0)
			*ret_deleted += k;
	}
	free(key);
	free(ptr);
	return r;
}

int log_delete_marks(struct log *l, uint64_t floor)
{
	char prefix[OBJ_KEY_MAX + 1];
	struct objreq req, del;
	uint64_t number;
	int r;

	(void)snprintf(prefix, sizeof(prefix), "%smark/", l->prefix);
	objreq_init(&req, OBJ_LIST, prefix);
	r = obj_do(l->store, &req);
	/*
	 * The newest come first. A stray mark of a number that was never one only sorts among them: nobody attaches
	 * by it twice.
	 */
	for (size_t i = 0, n = 0; r == 0 && i < req.listing->n; i++) {
		if (strcmp(req.listing->v[i].key, prefix) == 0 || n++ < 2)
			continue;
		if (log_number_parse(req.listing->v[i].key + strlen(prefix), &number) == 0 && UINT64_MAX - number >= floor)
			continue;
		objreq_init(&del, OBJ_DELETE, req.listing->v[i].key);
		del.prio = OBJ_PRIO_BG;
		r = obj_do(l->store, &del);
		objreq_done(&del);
	}
	objreq_done(&req);
	return r;
}

/* A page of marks behind `after`, the newest first. io_more: there are others, from floor on. */
static int marks_page(struct log *l, const char *prefix, char after[OBJ_KEY_MAX + 1], uint64_t floor, uint64_t **v,
		      size_t *n, bool *io_more, struct objerr *err)
{
	struct objreq req;
	uint64_t number;
	uint64_t *p;
	int r;

	objreq_init(&req, OBJ_LIST, prefix);
	req.start_after = after[0] != '\0' ? after : NULL;
	r = log_do(l, &req);
	if (r < 0)
		*err = req.err;
	p = r == 0 ? reallocarray(*v, *n + req.listing->n + 1, sizeof(*p)) : NULL;
	if (p != NULL)
		*v = p;
	else if (r == 0)
		r = -ENOMEM;
	*io_more = r == 0 && req.listing->truncated && req.listing->n > 0;
	for (size_t i = 0; r == 0 && i < req.listing->n; i++) {
		if (log_number_parse(req.listing->v[i].key + strlen(prefix), &number) < 0)
			continue;
		if (UINT64_MAX - number >= floor)
			p[(*n)++] = UINT64_MAX - number;
		else
			*io_more = false;
	}
	if (*io_more)
		(void)snprintf(after, OBJ_KEY_MAX + 1, "%s", req.listing->v[req.listing->n - 1].key);
	objreq_done(&req);
	return r;
}

int log_marks_from(struct log *l, uint64_t floor, uint64_t **ret, size_t *ret_n, struct objerr *err)
{
	char prefix[OBJ_KEY_MAX + 1], after[OBJ_KEY_MAX + 1] = "";
	uint64_t *v = NULL;
	bool more = true;
	size_t n = 0;
	int r = 0;

	(void)snprintf(prefix, sizeof(prefix), "%smark/", l->prefix);
	while (r == 0 && more)
		r = marks_page(l, prefix, after, floor, &v, &n, &more, err);
	if (r < 0) {
		free(v);
		return r;
	}
	for (size_t i = 0; i < n / 2; i++) {
		uint64_t x = v[i];

		v[i] = v[n - 1 - i];
		v[n - 1 - i] = x;
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

/* ---- clones of a snapshot ---- */

int log_has_refs(struct log *l, uint64_t number, bool *ret, struct objerr *err)
{
	char prefix[OBJ_KEY_MAX + 1];
	int r;

	(void)snprintf(prefix, sizeof(prefix), "%sref/%016" PRIx64 "/", l->prefix, number);
	r = image_any_key(l->store, prefix, err);
	if (r >= 0)
		*ret = r > 0;
	return MIN(r, 0);
}

/* key: below the prefix of the log. PUT (of text, NULL: empty), DELETE or HEAD. */
static int small_text(struct log *l, enum obj_op op, const char *key, const char *text, struct objerr *err)
{
	struct iovec iov = {(char *)text, text != NULL ? strlen(text) : 0};
	char whole[OBJ_KEY_MAX + 1];
	struct objreq req;
	int r;

	(void)snprintf(whole, sizeof(whole), "%s%s", l->prefix, key);
	objreq_init(&req, op, whole);
	if (text != NULL) {
		req.iov = &iov;
		req.iovcnt = 1;
	}
	r = log_do(l, &req);
	if (r < 0 && r != -ENOENT)
		*err = req.err;
	objreq_done(&req);
	return r;
}

static int small(struct log *l, enum obj_op op, const char *key, struct objerr *err)
{
	return small_text(l, op, key, NULL, err);
}

static void ref_key(uint64_t number, const uint8_t uuid[16], char out[64])
{
	char hex[33];

	log_uuid_format(uuid, hex);
	(void)snprintf(out, 64, "ref/%016" PRIx64 "/%s", number, hex);
}

int log_put_ref(struct log *l, uint64_t number, const uint8_t uuid[16], const char *text, struct objerr *err)
{
	char key[64];

	ref_key(number, uuid, key);
	return small_text(l, OBJ_PUT, key, text, err);
}

int log_drop_ref(struct log *l, uint64_t number, const uint8_t uuid[16], struct objerr *err)
{
	char key[64];

	ref_key(number, uuid, key);
	return small(l, OBJ_DELETE, key, err);
}

int log_own_ref(struct log *l, char **ret)
{
	uint64_t last = log_first(l) - 1;
	uint8_t parent[16];
	struct str s = {0};
	char key[64];

	*ret = NULL;
	if (last == 0)
		return 0;
	ref_key(last, l->uuid, key);
	str_addf(&s, "%s%s", log_prefix_of(l, last, parent), key);
	return str_take(&s, ret);
}

int log_put_gone(struct log *l, uint64_t number, struct objerr *err)
{
	char key[64];

	(void)snprintf(key, sizeof(key), "gone/%016" PRIx64, number);
	return small(l, OBJ_PUT, key, err);
}

static int there(struct log *l, const char *key, bool *io, struct objerr *err)
{
	int r = small(l, OBJ_HEAD, key, err);

	*io = *io || r == 0;
	return r == -ENOENT ? 0 : r;
}

int log_is_gone(struct log *l, uint64_t number, bool *ret, struct objerr *err)
{
	char key[64];
	bool gone = false;
	int r;

	(void)snprintf(key, sizeof(key), "gone/%016" PRIx64, number);
	r = there(l, key, &gone, err);
	if (r == 0 && RULE(C5_DEAD))
		r = there(l, "dead", &gone, err);
	if (r == 0)
		*ret = gone;
	return r;
}

int log_put_flat(struct log *l, struct objerr *err)
{
	return small(l, OBJ_PUT, "flat", err);
}

int log_is_flat(struct log *l, bool *ret, struct objerr *err)
{
	bool flat = false;
	int r = there(l, "flat", &flat, err);

	if (r == 0)
		*ret = flat;
	return r;
}

/* The reference: HEAD or DELETE. -ENOENT: it is not there, or this log is no clone's. */
static int own_ref(struct log *l, enum obj_op op, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	struct objreq req;
	int r = log_own_ref(l, &key);

	if (r < 0 || key == NULL)
		return r < 0 ? r : -ENOENT;
	objreq_init(&req, op, key);
	r = log_do(l, &req);
	if (r < 0 && r != -ENOENT)
		*err = req.err;
	objreq_done(&req);
	return r;
}

int log_has_own_ref(struct log *l, bool *ret, struct objerr *err)
{
	int r = own_ref(l, OBJ_HEAD, err);

	if (r == 0 || r == -ENOENT)
		*ret = r == 0;
	return r == -ENOENT ? 0 : r;
}

int log_drop_own_ref(struct log *l, struct objerr *err)
{
	int r = own_ref(l, OBJ_DELETE, err);

	return r == -ENOENT ? 0 : r;
}
