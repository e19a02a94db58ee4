/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-s3xml.c - XML from anybody, through every parser. Beyond not crashing: a listing that was taken is sorted, says
 * how it goes on, and holds only sound etags; keys that we send come back.
 */
#include "config.h"
#include "fuzz.h"
#include "objstore/s3xml.h"
#include "objstore/store-private.h"

static void check_page(const struct obj_listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		check(strlen(l->v[i].etag) < OBJ_ETAG_MAX && strchr(l->v[i].etag, '"') == NULL);
		check(i == 0 || strcmp(l->v[i - 1].key, l->v[i].key) <= 0);
	}
	check(l->next_token == NULL || (l->truncated && l->next_token[0] != '\0'));
}

static void lists(const uint8_t *data, size_t size)
{
	struct obj_listing *l = NULL;
	struct s3_uploads u = {.listing = NULL};

	if (s3xml_list(data, size, &l) == 0) {
		check_page(l);
		obj_listing_free(l);
	} else {
		check(l == NULL);
	}
	l = NULL;
	if (s3xml_parts(data, size, &l) == 0) {
		check_page(l);
		obj_listing_free(l);
		l = NULL;
	} else {
		check(l == NULL);
	}
	if (s3xml_parts(data, size, &l) == 0) {
		check_page(l);
		for (size_t i = 0; i < l->n; i++)
			check(strlen(l->v[i].key) == 5 && strspn(l->v[i].key, "0123456789") == 5 && strcmp(l->v[i].key, "00000"));
		obj_listing_free(l);
	}
	if (s3xml_uploads(data, size, &u) == 0) {
		check_page(u.listing);
		check(u.listing->truncated == (u.next_key[0] != '\0'));
		for (size_t i = 0; i < u.listing->n; i++)
			check(u.listing->v[i].upload_id[0] != '\0');
		obj_listing_free(u.listing);
		free(u.next_key);
		free(u.next_upload);
	} else {
		check(u.listing == NULL && u.next_key == NULL);
	}
}

static void results(const uint8_t *data, size_t size)
{
	char etag[OBJ_ETAG_MAX] = "-", key[20] = "", *id = NULL;
	struct s3_error e = {.code = ""};
	bool failed = false;
	int64_t t = 0;
	int r;

	if (s3xml_create(data, size, &id) == 0)
		check(id[0] != '\0');
	free(id);
	if (s3xml_copy(data, size, etag, &t, &e) == 0)
		check(etag[0] != '\0');
	r = s3xml_complete(data, size, etag, &e);
	check(r == 0 || r == -EREMOTEIO || r == -EBADMSG);
	r = s3xml_delete(data, size, &failed, &e, key, sizeof(key));
	check(r != 0 || !failed || strcmp(e.code, "NoSuchKey") != 0);
	if (s3xml_error(data, size, &e) == 0)
		check(strlen(e.code) < sizeof(e.code) && strlen(e.message) < sizeof(e.message));
}

/* Some bytes as a key: into a request body, wrapped as a listing, and out again. */
static void round_trip(const uint8_t *data, size_t size)
{
	struct obj_listing *l = NULL;
	struct str body = {0}, xml = {0};
	char key[64];
	const char *const keys[] = {key};
	const char *a, *b;

	memcpy(key, data, MIN(size, sizeof(key) - 1));
	key[MIN(size, sizeof(key) - 1)] = '\0';
	if (key[0] == '\0' || !s3xml_can_hold(key))
		return;
	s3xml_add_delete(&body, keys, 1);
	a = strstr(str_c(&body), "<Key>");
	b = a != NULL ? strstr(a, "</Key>") : NULL;
	check(body.err == 0 && b != NULL);
	str_add(&xml, "<ListBucketResult><Contents>");
	str_addn(&xml, a, (size_t)(b - a));
	str_add(&xml, "</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>1</Size></Contents></ListBucketResult>");
	check(s3xml_list(xml.p, xml.len, &l) == 0 && l->n == 1 && strcmp(l->v[0].key, key) == 0);
	obj_listing_free(l);
	str_free(&body);
	str_free(&xml);
}

/* Parts into a request body: well-formed whatever the etags, and they come back. */
static void parts(const uint8_t *data, size_t size)
{
	struct obj_part p = {.number = (unsigned)size % 10000 + 1};
	struct str body = {0}, xml = {0};
	struct s3_error e;
	char etag[OBJ_ETAG_MAX], *z = strndup((const char *)data, MIN(size, (size_t)OBJ_ETAG_MAX - 1));
	const char *a, *b;

	check(z);
	if (s3xml_etag(z, p.etag) == 0) {
		s3xml_add_complete(&body, &p, 1);
		a = strstr(str_c(&body), "<ETag>");
		b = a != NULL ? strstr(a, "</ETag>") : NULL;
		check(body.err == 0 && b != NULL);
		str_add(&xml, "<CompleteMultipartUploadResult>");
		str_addn(&xml, a, (size_t)(b - a));
		str_add(&xml, "</ETag></CompleteMultipartUploadResult>");
		check(s3xml_complete(xml.p, xml.len, etag, &e) == 0 && strcmp(etag, p.etag) == 0);
	}
	str_free(&body);
	str_free(&xml);
	free(z);
}

static void values(const uint8_t *data, size_t size)
{
	char *z = strndup((const char *)data, MIN(size, (size_t)200)), etag[OBJ_ETAG_MAX];
	int64_t t;

	if (z == NULL)
		return;
	if (s3xml_etag(z, etag) == 0)
		check(strlen(etag) <= strlen(z) && strcmp(etag, "*") != 0);
	if (s3xml_time(z, &t) == 0)
		check(t > -70000000000 && t < 260000000000);
	free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	lists(data, size);
	results(data, size);
	round_trip(data, size);
	values(data, size);
	parts(data, size);
	return 0;
}
