/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sign.c - SigV4 for the front: checks what a client signed, signs again what the front had to alter.
 *
 * Source: AWS Signature Version 4 for S3, "Authenticating requests: using the Authorization header". Written apart from
 * the program's own signer, so that one mistake does not hide in both.
 */
#include "front.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static void hex(const unsigned char *p, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static void sha256_hex(const void *p, size_t n, char out[65])
{
	unsigned char md[32];
	unsigned len = 0;

	if (!EVP_Digest(p, n, md, &len, EVP_sha256(), NULL))
		abort();
	hex(md, 32, out);
}

static void hmac(const void *key, size_t klen, const char *msg, unsigned char out[32])
{
	unsigned len = 32;

	if (!HMAC(EVP_sha256(), key, (int)klen, (const unsigned char *)msg, strlen(msg), out, &len))
		abort();
}

bool sign_have_keys(void)
{
	return conf.access && conf.secret;
}

/* The path as the specification wants it: decoded once, encoded once. */
static void canon_path(struct buf *b, const char *target)
{
	size_t n = strcspn(target, "?");
	char *path = url_decode(target, n, false);

	url_encode(b, path, true);
	free(path);
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void canon_query(struct buf *b, const char *target)
{
	const char *q = strchr(target, '?');
	char *v[256];
	size_t n = 0;

	if (!q)
		return;
	for (q++; *q && n < ARRAY_SIZE(v);) {
		size_t len = strcspn(q, "&");
		const char *eq = memchr(q, '=', len);
		size_t nl = eq ? (size_t)(eq - q) : len;
		char *name = url_decode(q, nl, false), *value = url_decode(q + nl + (eq ? 1 : 0), eq ? len - nl - 1 : 0, false);
		struct buf p = { 0 };

		url_encode(&p, name, false);
		buf_adds(&p, "=");
		url_encode(&p, value, false);
		if (len)
			v[n++] = p.p;
		else
			buf_free(&p);
		free(name);
		free(value);
		q += len + (q[len] == '&');
	}
	qsort(v, n, sizeof(v[0]), by_string);
	for (size_t i = 0; i < n; i++) {
		buf_addf(b, "%s%s", i ? "&" : "", v[i]);
		free(v[i]);
	}
}

static void canon_value(struct buf *b, const char *v)
{
	bool space = false;

	for (; *v; v++) {
		if (*v == ' ' || *v == '\t') {
			space = true;
			continue;
		}
		if (space && b->len && b->p[b->len - 1] != ':')
			buf_adds(b, " ");
		space = false;
		buf_add(b, v, 1);
	}
}

/* Signature over method, target and the headers that `names` ("a;b;c") lists. */
static void signature(const struct head *h, const char *names, const char *date, const char *scope, const char *payload,
		      char out[65])
{
	struct buf c = { 0 }, s = { 0 };
	char digest[65], part[4][64] = { { 0 } };
	unsigned char k[32];
	struct buf k0 = { 0 };

	buf_addf(&c, "%s\n", h->line[0]);
	canon_path(&c, h->line[1]);
	buf_adds(&c, "\n");
	canon_query(&c, h->line[1]);
	buf_adds(&c, "\n");
	for (const char *p = names; *p;) {
		size_t n = strcspn(p, ";");
		char *name = xstrndup(p, n);
		bool first = true;

		buf_addf(&c, "%s:", name);
		for (size_t i = 0; i < h->n; i++) {
			if (strcasecmp(h->h[i].name, name))
				continue;
			if (!first)
				buf_adds(&c, ",");
			first = false;
			canon_value(&c, h->h[i].value);
		}
		buf_adds(&c, "\n");
		free(name);
		p += n + (p[n] == ';');
	}
	buf_addf(&c, "\n%s\n%s", names, payload);
	sha256_hex(c.p, c.len, digest);
	buf_addf(&s, "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, digest);
	buf_addf(&k0, "AWS4%s", conf.secret);
	/* scope: day/region/service/aws4_request */
	sscanf(scope, "%63[^/]/%63[^/]/%63[^/]/%63s", part[0], part[1], part[2], part[3]);
	hmac(k0.p, k0.len, part[0], k);
	for (int i = 1; i < 4; i++)
		hmac(k, 32, part[i], k);
	hmac(k, 32, s.p, k);
	hex(k, 32, out);
	buf_free(&c);
	buf_free(&s);
	buf_free(&k0);
}

struct auth {
	char access[128], scope[256], names[4096], sig[65];
};

static bool parse_auth(const char *v, struct auth *a)
{
	const char *p;

	if (!v || strncmp(v, "AWS4-HMAC-SHA256 ", 17))
		return false;
	if (!(p = strstr(v, "Credential=")) || sscanf(p + 11, "%127[^/]/%255[^, ]", a->access, a->scope) != 2)
		return false;
	if (!(p = strstr(v, "SignedHeaders=")) || sscanf(p + 14, "%4095[^, ]", a->names) != 1)
		return false;
	return (p = strstr(v, "Signature=")) && sscanf(p + 10, "%64[0-9a-f]", a->sig) == 1;
}

bool sign_verify(const struct xfer *x)
{
	const char *date = head_get(&x->req, "x-amz-date"), *payload = head_get(&x->req, "x-amz-content-sha256");
	struct auth a;
	char sig[65];

	if (!sign_have_keys() || !parse_auth(head_get(&x->req, "authorization"), &a) || strcmp(a.access, conf.access) ||
	    !date || !payload)
		return false;
	signature(&x->req, a.names, date, a.scope, payload, sig);
	return !strcmp(sig, a.sig);
}

static void put_auth(struct head *h, const char *names, const char *scope, const char *payload)
{
	struct buf v = { 0 };
	char sig[65];

	signature(h, names, head_get(h, "x-amz-date"), scope, payload, sig);
	buf_addf(&v, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", conf.access, scope, names, sig);
	head_set(h, "Authorization", v.p);
	buf_free(&v);
}

void sign_again(struct xfer *x)
{
	struct auth a;
	struct buf names = { 0 };

	if (!parse_auth(head_get(&x->req, "authorization"), &a))
		return;
	for (const char *p = a.names; *p;) {
		size_t n = strcspn(p, ";");
		char *name = xstrndup(p, n);

		if (head_get(&x->req, name))
			buf_addf(&names, "%s%s", names.len ? ";" : "", name);
		free(name);
		p += n + (p[n] == ';');
	}
	put_auth(&x->req, names.p, a.scope, head_get(&x->req, "x-amz-content-sha256"));
	buf_free(&names);
}

void sign_own(struct head *h)
{
	char date[32], scope[128];
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(scope, sizeof(scope), "%.8s/%s/s3/aws4_request", date, conf.region);
	head_set(h, "x-amz-date", date);
	head_set(h, "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
	put_auth(h, "host;x-amz-content-sha256;x-amz-date", scope, "UNSIGNED-PAYLOAD");
}
