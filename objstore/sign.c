/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sign.c - AWS Signature Version 4 over OpenSSL's EVP.
 *
 * The canonical request is what both sides must spell alike:
 *
 *   METHOD \n path \n query \n (name:value \n)* \n names \n payload-hash
 *
 * S3 signs the path once-encoded (other services encode it twice), keeps empty and dotted segments, trims header values
 * and folds runs of blanks inside them. Derived keys live on the stack and are wiped.
 */
#include "config.h"
/* before base.h, whose `unused` these headers spell as an attribute */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include "sign.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SHA256_LEN 32

void sign_wipe(void *p, size_t n)
{
	if (p != NULL)
		OPENSSL_cleanse(p, n);
}

void sign_wipe_free(char *z)
{
	if (z != NULL)
		OPENSSL_cleanse(z, strlen(z));
	free(z);
}

/* --- digests ------------------------------------------------------------------------------------------------------ */

static int digest(const char *name, const struct iovec *iov, int iovcnt, unsigned char *out)
{
	EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);
	EVP_MD_CTX *ctx = NULL;
	int r = 0;

	if (md == NULL)
		return -ENOTSUP;
	ctx = EVP_MD_CTX_new();
	if (ctx == NULL) {
		r = -ENOMEM;
		goto out;
	}
	if (EVP_DigestInit_ex(ctx, md, NULL) != 1) {
		r = -EIO;
		goto out;
	}
	for (int i = 0; i < iovcnt; i++)
		if (iov[i].iov_len > 0 && EVP_DigestUpdate(ctx, iov[i].iov_base, iov[i].iov_len) != 1)
			r = -EIO;
	if (r == 0 && EVP_DigestFinal_ex(ctx, out, NULL) != 1)
		r = -EIO;
out:
	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	return r;
}

int sign_sha256_hex(const struct iovec *iov, int iovcnt, char out[SIGN_SHA256_HEX])
{
	unsigned char d[SHA256_LEN];
	int r = digest("SHA256", iov, iovcnt, d);

	if (r == 0)
		str_hex(out, d, sizeof(d));
	return r;
}

int sign_md5(const struct iovec *iov, int iovcnt, unsigned char out[16])
{
	return digest("MD5", iov, iovcnt, out);
}

int sign_md5_b64(const struct iovec *iov, int iovcnt, char out[SIGN_MD5_B64])
{
	unsigned char d[16];
	int r = digest("MD5", iov, iovcnt, d);

	if (r == 0)
		(void)EVP_EncodeBlock((unsigned char *)out, d, sizeof(d)); /* 24 characters and a NUL */
	return r;
}

static int hexval(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int sign_multipart_etag(const char *const *part_etags, size_t n, char out[static 48])
{
	_cleanup_free_ unsigned char *raw = NULL;
	unsigned char d[16];
	struct iovec iov;
	int r;

	raw = malloc(n * 16 + 1);
	if (raw == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (strlen(part_etags[i]) != 32)
			return -EINVAL;
		for (size_t j = 0; j < 16; j++) {
			int hi = hexval(part_etags[i][2 * j]), lo = hexval(part_etags[i][2 * j + 1]);

			if (hi < 0 || lo < 0)
				return -EINVAL;
			raw[i * 16 + j] = (unsigned char)(hi << 4 | lo);
		}
	}
	iov = (struct iovec){raw, n * 16};
	r = sign_md5(&iov, 1, d);
	if (r < 0)
		return r;
	str_hex(out, d, sizeof(d));
	(void)snprintf(out + 32, 16, "-%u", (unsigned)MIN(n, (size_t)99999));
	return 0;
}

static int hmac(const void *key, size_t klen, const void *p, size_t n, unsigned char out[SHA256_LEN])
{
	unsigned len = SHA256_LEN;

	if (HMAC(EVP_sha256(), key, (int)klen, p, n, out, &len) == NULL || len != SHA256_LEN)
		return -EIO;
	return 0;
}

/* --- canonical forms ---------------------------------------------------------------------------------------------- */

struct enc_pair {
	char *text;  /* owned: name=value, encoded */
	size_t nlen; /* of the name in it */
};

/* '=' sorts behind '-' and '.', so names are compared without it. */
static int cmp_enc(const void *a, const void *b)
{
	const struct enc_pair *x = a, *y = b;
	int c = memcmp(x->text, y->text, MIN(x->nlen, y->nlen));

	if (c != 0)
		return c;
	if (x->nlen != y->nlen)
		return x->nlen < y->nlen ? -1 : 1;
	return strcmp(x->text + x->nlen, y->text + y->nlen);
}

int sign_query(const struct sign_pair *q, size_t n, struct str *out)
{
	struct enc_pair *e = calloc(n + 1, sizeof(*e));
	int r = 0;

	if (e == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct str s = {0};

		str_add_pct(&s, q[i].name, strlen(q[i].name), false);
		e[i].nlen = s.len;
		str_addc(&s, '=');
		str_add_pct(&s, q[i].value, strlen(q[i].value), false);
		r = str_take(&s, &e[i].text);
		if (r < 0)
			goto out;
	}
	qsort(e, n, sizeof(*e), cmp_enc);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			str_addc(out, '&');
		str_add(out, e[i].text);
	}
	r = out->err;
out:
	for (size_t i = 0; i < n; i++)
		free(e[i].text);
	free(e);
	return r;
}

static int cmp_header(const void *a, const void *b)
{
	const struct sign_pair *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Trims both ends and folds runs of blanks. */
static void add_value(struct str *s, const char *v)
{
	bool gap = false, any = false;

	for (; *v != '\0'; v++) {
		if (is_blank(*v)) {
			gap = true;
			continue;
		}
		if (gap && any)
			str_addc(s, ' ');
		gap = false;
		any = true;
		str_addc(s, *v);
	}
}

static int canonical_request(const struct sign_in *in, struct str *names, struct str *out)
{
	const struct sign_pair **h = calloc(in->nheaders + 1, sizeof(*h));

	if (h == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < in->nheaders; i++)
		h[i] = &in->headers[i];
	qsort(h, in->nheaders, sizeof(*h), cmp_header);
	str_addf(out, "%s\n%s\n%s\n", in->method, in->path, in->query);
	for (size_t i = 0; i < in->nheaders; i++) {
		str_add(out, h[i]->name);
		str_addc(out, ':');
		add_value(out, h[i]->value);
		str_addc(out, '\n');
		if (i > 0)
			str_addc(names, ';');
		str_add(names, h[i]->name);
	}
	free(h);
	str_addf(out, "\n%s\n%s", str_c(names), in->payload);
	return out->err != 0 ? out->err : names->err;
}

/* kSigning = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, date), region), service), "aws4_request") */
static int signing_key(const struct sign_in *in, unsigned char k[SHA256_LEN])
{
	size_t n = strlen(in->secret) + 4;
	char *seed = malloc(n + 1);
	int r;

	if (seed == NULL)
		return -ENOMEM;
	memcpy(seed, "AWS4", 4);
	memcpy(seed + 4, in->secret, n - 4 + 1);
	r = hmac(seed, n, in->date, 8, k);
	if (r == 0)
		r = hmac(k, SHA256_LEN, in->region, strlen(in->region), k);
	if (r == 0)
		r = hmac(k, SHA256_LEN, in->service, strlen(in->service), k);
	if (r == 0)
		r = hmac(k, SHA256_LEN, "aws4_request", 12, k);
	sign_wipe(seed, n);
	free(seed);
	return r;
}

int sign_v4(const struct sign_in *in, struct str *out)
{
	struct str names = {0}, canon = {0}, scope = {0}, sts = {0};
	unsigned char key[SHA256_LEN], mac[SHA256_LEN];
	char hex[SIGN_SHA256_HEX];
	struct iovec iov;
	int r;

	if (strlen(in->date) != SIGN_DATE - 1)
		return -EINVAL;
	r = canonical_request(in, &names, &canon);
	if (r < 0)
		goto out;
	iov = (struct iovec){canon.p, canon.len};
	r = sign_sha256_hex(&iov, 1, hex);
	if (r < 0)
		goto out;
	str_addf(&scope, "%.8s/%s/%s/aws4_request", in->date, in->region, in->service);
	str_addf(&sts, "AWS4-HMAC-SHA256\n%s\n%s\n%s", in->date, str_c(&scope), hex);
	r = scope.err != 0 ? scope.err : sts.err;
	if (r < 0)
		goto out;
	r = signing_key(in, key);
	if (r == 0)
		r = hmac(key, sizeof(key), sts.p, sts.len, mac);
	if (r < 0)
		goto out;
	str_hex(hex, mac, sizeof(mac));
	str_addf(out, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", in->access, str_c(&scope),
		 str_c(&names), hex);
	r = out->err;
out:
	sign_wipe(key, sizeof(key));
	str_free(&names);
	str_free(&canon);
	str_free(&scope);
	str_free(&sts);
	return r;
}

void sign_date(int64_t time_s, char out[SIGN_DATE])
{
	time_t t = (time_t)time_s;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, SIGN_DATE, "%Y%m%dT%H%M%SZ", &tm) != SIGN_DATE - 1)
		memcpy(out, "19700101T000000Z", SIGN_DATE);
}
