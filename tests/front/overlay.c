/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * overlay.c - what AWS mode shows of an object in place of what the server has.
 *
 * An entry says: while object ID has etag `real`, its etag is `shown` (a KMS object, or a copy of a multipart object,
 * gets an etag that is no MD5) and its LastModified is `mtime` (a multipart object: when the upload was begun). It is
 * void as soon as the object has another real etag. Entries change under the object's lock (aws.c), so that a
 * GET or HEAD sees object and entry of one moment.
 *
 * With KMS on, an object that did not come through the front is shown under an etag derived from its real one.
 */
#include "front.h"
#include <stdlib.h>
#include <string.h>

#define SLOTS 16384

struct entry {
	struct entry *next;
	char *id;
	char real[ETAG_LEN], shown[ETAG_LEN];
	int64_t mtime_s;
};
/* derived etag -> real */
struct derived {
	struct derived *next;
	char shown[ETAG_LEN], real[ETAG_LEN];
};
struct upload {
	struct upload *next;
	char *id;
	int64_t start_s;
	int64_t *size; /* by part number; 0 = not there */
	size_t n;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *entries[SLOTS];
static struct derived *derived[SLOTS];
static struct upload *uploads;

static struct entry **find(const char *id)
{
	struct entry **p;

	for (p = &entries[fnv(id) % SLOTS]; *p && strcmp((*p)->id, id); p = &(*p)->next)
		;
	return p;
}

static struct derived *find_derived(const char *shown)
{
	struct derived *d;

	for (d = derived[fnv(shown) % SLOTS]; d && strcmp(d->shown, shown); d = d->next)
		;
	return d;
}

void random_etag(char out[ETAG_LEN])
{
	snprintf(out, ETAG_LEN, "%016llx%016llx", (unsigned long long)rnd(), (unsigned long long)rnd());
}

void overlay_set(const char *id, const char *real, const char *shown, int64_t mtime_s)
{
	struct entry **p, *e;

	pthread_mutex_lock(&lock);
	p = find(id);
	e = *p;
	if (!e) {
		e = xmalloc(sizeof(*e));
		memset(e, 0, sizeof(*e));
		e->id = xstrdup(id);
		*p = e;
	}
	snprintf(e->real, ETAG_LEN, "%s", real);
	snprintf(e->shown, ETAG_LEN, "%s", shown);
	e->mtime_s = mtime_s;
	pthread_mutex_unlock(&lock);
}

void overlay_drop(const char *id)
{
	struct entry **p, *e;

	pthread_mutex_lock(&lock);
	p = find(id);
	e = *p;
	if (e) {
		*p = e->next;
		free(e->id);
		free(e);
	}
	pthread_mutex_unlock(&lock);
}

static void derive(const char *real, char shown[ETAG_LEN])
{
	struct buf b = { 0 };
	struct derived *d;

	buf_addf(&b, "kms %s", real);
	md5_hex(b.p, b.len, shown);
	buf_free(&b);
	if (find_derived(shown))
		return;
	d = xmalloc(sizeof(*d));
	snprintf(d->shown, ETAG_LEN, "%s", shown);
	snprintf(d->real, ETAG_LEN, "%s", real);
	d->next = derived[fnv(shown) % SLOTS];
	derived[fnv(shown) % SLOTS] = d;
}

void overlay_show(const char *id, const char *real, char shown[ETAG_LEN], int64_t *mtime_s)
{
	struct entry *e;

	*mtime_s = 0;
	pthread_mutex_lock(&lock);
	e = *find(id);
	if (e && !strcmp(e->real, real)) {
		snprintf(shown, ETAG_LEN, "%s", e->shown[0] ? e->shown : real);
		*mtime_s = e->mtime_s;
	} else if (conf.kms && real[0]) {
		derive(real, shown);
	} else {
		snprintf(shown, ETAG_LEN, "%s", real);
	}
	pthread_mutex_unlock(&lock);
}

void overlay_real(const char *id, const char *shown, char real[ETAG_LEN])
{
	struct entry *e;
	struct derived *d;

	pthread_mutex_lock(&lock);
	e = *find(id);
	d = find_derived(shown);
	if (e && e->shown[0] && !strcmp(e->shown, shown))
		snprintf(real, ETAG_LEN, "%s", e->real);
	else if (e && e->shown[0] && (!strcmp(e->real, shown) || (d && !strcmp(e->real, d->real))))
		snprintf(real, ETAG_LEN, "00000000000000000000000000000000");
	else
		snprintf(real, ETAG_LEN, "%s", d && conf.kms ? d->real : shown);
	pthread_mutex_unlock(&lock);
}

static struct upload **find_upload(const char *id)
{
	struct upload **p;

	for (p = &uploads; *p && strcmp((*p)->id, id); p = &(*p)->next)
		;
	return p;
}

void upload_add(const char *upload_id, int64_t start_s)
{
	struct upload *u = xmalloc(sizeof(*u));

	memset(u, 0, sizeof(*u));
	u->id = xstrdup(upload_id);
	u->start_s = start_s;
	pthread_mutex_lock(&lock);
	u->next = uploads;
	uploads = u;
	pthread_mutex_unlock(&lock);
}

void upload_part(const char *upload_id, unsigned number, int64_t size)
{
	struct upload *u;

	pthread_mutex_lock(&lock);
	u = *find_upload(upload_id);
	if (u && number && number <= 10000) {
		if (number >= u->n) {
			u->size = realloc(u->size, (number + 1) * sizeof(*u->size));
			if (!u->size)
				abort();
			memset(u->size + u->n, 0, (number + 1 - u->n) * sizeof(*u->size));
			u->n = number + 1;
		}
		u->size[number] = size;
	}
	pthread_mutex_unlock(&lock);
}

int64_t upload_start(const char *upload_id)
{
	struct upload *u;
	int64_t t;

	pthread_mutex_lock(&lock);
	u = *find_upload(upload_id);
	t = u ? u->start_s : 0;
	pthread_mutex_unlock(&lock);
	return t;
}

bool upload_equal(const char *upload_id, const unsigned *numbers, size_t n)
{
	struct upload *u;
	bool ok = true;

	pthread_mutex_lock(&lock);
	u = *find_upload(upload_id);
	for (size_t i = 0; u && i < n; i++) {
		int64_t first = numbers[0] < u->n ? u->size[numbers[0]] : 0;
		int64_t size = numbers[i] < u->n ? u->size[numbers[i]] : 0;

		if (i + 1 < n ? size != first : size > first)
			ok = false;
	}
	pthread_mutex_unlock(&lock);
	return ok;
}

void upload_drop(const char *upload_id)
{
	struct upload **p, *u;

	pthread_mutex_lock(&lock);
	p = find_upload(upload_id);
	u = *p;
	if (u) {
		*p = u->next;
		free(u->id);
		free(u->size);
		free(u);
	}
	pthread_mutex_unlock(&lock);
}
