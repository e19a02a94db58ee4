/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logread.c - verified bytes of log objects: ranges for readers, headers for the walk, of this log and of its
 * ancestors'.
 */
#include "config.h"
#include "log-private.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *log_prefix_of(struct log *l, uint64_t number, uint8_t ret_uuid[16])
{
	for (size_t i = 0; i < l->norigins; i++)
		if (number <= l->origins[i].last) {
			memcpy(ret_uuid, l->origins[i].uuid, 16);
			return l->origins[i].path;
		}
	memcpy(ret_uuid, l->uuid, 16);
	return l->prefix;
}

uint64_t log_first(struct log *l)
{
	return l->norigins > 0 ? l->origins[l->norigins - 1].last + 1 : 1;
}

static int get(struct log *l, const char *key, uint64_t off, uint64_t len, void *buf, size_t *ret_got,
	       struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_GET, key);
	req.off = off;
	req.len = len;
	req.buf = buf;
	req.cap = len;
	r = log_do(l, &req);
	if (r == 0)
		*ret_got = req.got;
	else if (err != NULL)
		*err = req.err;
	objreq_done(&req);
	return r;
}

int log_read(struct log *l, const struct log_place *at, uint32_t n, void *out, struct objerr *err)
{
	uint8_t uuid[16];
	char key[OBJ_KEY_MAX + 1];
	uint64_t off, len;
	size_t got = 0;
	void *buf;
	int r;

	log_key(log_prefix_of(l, at->number, uuid), at->number, key);
	logobj_range(at->sector, n, &off, &len);
	buf = malloc(len);
	if (buf == NULL)
		return -ENOMEM;
	r = get(l, key, off, len, buf, &got, err);
	if (r == -ERANGE) {
		if (err != NULL)
			objerr_set(err, "log object %016" PRIx64 " is shorter than the map says", at->number);
		r = -EUCLEAN;
	}
	if (r == -ENOENT && err != NULL)
		objerr_set(err, "log object %016" PRIx64 " is missing: it holds data of the image", at->number);
	if (r == 0)
		r = logobj_extract(buf, got, uuid, at->number, at->sector, n, out, err);
	free(buf);
	return r;
}

int log_head(struct log *l, uint64_t number, struct logobj *ret, struct objerr *err)
{
	uint8_t uuid[16];
	char key[OBJ_KEY_MAX + 1];
	size_t len = LOG_STRIDE, got = 0, need = 0;
	void *buf = NULL;
	int r;

	log_key(log_prefix_of(l, number, uuid), number, key);
	for (;;) {
		free(buf);
		buf = malloc(len);
		if (buf == NULL)
			return -ENOMEM;
		r = get(l, key, 0, len, buf, &got, err);
		if (r == 0)
			r = logobj_decode(buf, got, uuid, number, ret, &need, err);
		if (r != -EAGAIN || need <= len)
			break;
		len = need;
	}
	free(buf);
	if (r == -EAGAIN) {
		if (err != NULL)
			objerr_set(err, "log object %016" PRIx64 " is cut short", number);
		r = -EUCLEAN;
	}
	return r;
}
