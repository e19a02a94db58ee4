/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * headers.c - the headers of an object: a short array, searched by walking it.
 *
 * Invariant: names are lower-case HTTP tokens (RFC 9110 5.6.2), at most one of each; values hold no control characters
 * but HTAB, so that no value can end a header line.
 */
#include "config.h"
#include "objstore.h"
#include <string.h>

static bool name_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool name_ok(const char *s)
{
	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++)
		if (!name_char((unsigned char)*s))
			return false;
	return true;
}

static bool value_ok(const char *s)
{
	for (; *s != '\0'; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

static char *lower_dup(const char *s)
{
	char *d = strdup(s);

	if (d != NULL)
		for (char *p = d; *p != '\0'; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p - 'A' + 'a');
	return d;
}

static size_t find(const struct obj_headers *h, const char *name)
{
	size_t i = 0;

	while (i < h->n && strcasecmp(h->v[i].name, name) != 0)
		i++;
	return i;
}

static void remove_at(struct obj_headers *h, size_t i)
{
	free(h->v[i].name);
	free(h->v[i].value);
	memmove(&h->v[i], &h->v[i + 1], (h->n - i - 1) * sizeof(h->v[0]));
	h->n--;
}

static int append(struct obj_headers *h, char *take_name, char *take_value)
{
	if (h->n == h->cap) {
		size_t cap = h->cap == 0 ? 8 : 2 * h->cap;
		struct obj_header *v = reallocarray(h->v, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		h->v = v;
		h->cap = cap;
	}
	h->v[h->n++] = (struct obj_header){.name = take_name, .value = take_value};
	return 0;
}

int obj_headers_set(struct obj_headers *h, const char *name, const char *value)
{
	size_t i = find(h, name);
	char *n, *v;
	int r;

	if (value == NULL) {
		if (i < h->n)
			remove_at(h, i);
		return 0;
	}
	if (!value_ok(value))
		return -EINVAL;
	v = strdup(value);
	if (v == NULL)
		return -ENOMEM;
	if (i < h->n) {
		free(h->v[i].value);
		h->v[i].value = v;
		return 0;
	}
	n = lower_dup(name);
	if (n == NULL)
		r = -ENOMEM;
	else if (!name_ok(n))
		r = -EINVAL;
	else
		r = append(h, n, v);
	if (r < 0) {
		free(n);
		free(v);
	}
	return r;
}

const char *obj_headers_get(const struct obj_headers *h, const char *name)
{
	size_t i = find(h, name);

	return i < h->n ? h->v[i].value : NULL;
}

int obj_headers_copy(struct obj_headers *dst, const struct obj_headers *src)
{
	struct obj_headers h = {0};

	for (size_t i = 0; i < src->n; i++) {
		int r = obj_headers_set(&h, src->v[i].name, src->v[i].value);

		if (r < 0) {
			obj_headers_free(&h);
			return r;
		}
	}
	obj_headers_free(dst);
	*dst = h;
	return 0;
}

void obj_headers_free(struct obj_headers *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].name);
		free(h->v[i].value);
	}
	free(h->v);
	*h = (struct obj_headers){0};
}

bool obj_headers_equal(const struct obj_headers *a, const struct obj_headers *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const char *v = obj_headers_get(b, a->v[i].name);

		if (v == NULL || strcmp(v, a->v[i].value) != 0)
			return false;
	}
	return true;
}

int obj_headers_encode(const struct obj_headers *h, void **ret, size_t *ret_len)
{
	size_t len = 0;
	char *buf, *p;

	for (size_t i = 0; i < h->n; i++)
		len += strlen(h->v[i].name) + strlen(h->v[i].value) + 2;
	buf = p = malloc(len + 1); /* never NULL on success, also for no headers */
	if (buf == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < h->n; i++) {
		p = stpcpy(p, h->v[i].name) + 1;
		p = stpcpy(p, h->v[i].value) + 1;
	}
	*ret = buf;
	*ret_len = len;
	return 0;
}

int obj_headers_decode(const void *p, size_t len, struct obj_headers *h)
{
	const char *s = p, *end = s + len;
	struct obj_headers out = {0};
	int r = 0;

	while (s < end && r == 0) {
		const char *name = s, *value = memchr(name, '\0', (size_t)(end - name));

		if (value == NULL || value + 1 == end) {
			r = -EBADMSG;
			break;
		}
		value++;
		s = memchr(value, '\0', (size_t)(end - value));
		if (s == NULL || !name_ok(name) || obj_headers_get(&out, name) != NULL) {
			r = -EBADMSG;
			break;
		}
		s++;
		r = obj_headers_set(&out, name, value);
		if (r == -EINVAL)
			r = -EBADMSG;
	}
	if (r < 0) {
		obj_headers_free(&out);
		return r;
	}
	obj_headers_free(h);
	*h = out;
	return 0;
}
