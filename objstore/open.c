/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * open.c - from a source on the command line to a stack of stores.
 *
 *   s3://BUCKET[/PREFIX]   trace(retry(s3))
 *   file:///PATH           trace(file)
 *   mem:NAME[/PREFIX]      trace(mem), for tests
 *
 * obj_url_parse() is a pure function of its string. Sources are taken as they are, without percent-decoding, as other
 * S3 tools do; so a path or prefix may hold '%'.
 */
#include "config.h"
#include "objstore.h"
#include "base/str.h"
#include "store-private.h"
#include <string.h>

void obj_url_free(struct obj_url *u)
{
	free(u->bucket);
	free(u->prefix);
	*u = (struct obj_url){0};
}

/* Letters, digits, '.', '_', '-': more than AWS allows today, since older buckets and other servers have such names;
 * nothing that would change the meaning of a URL. */
static bool bucket_ok(const char *s, size_t n)
{
	if (n == 0 || n > 255 || s[0] == '.')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		      s[i] == '.' || s[i] == '_' || s[i] == '-'))
			return false;
	return true;
}

/* "a/b" or "a/b/" -> "a/b/"; "" and "/" -> "". */
static int parse_prefix(const char *s, char **ret, struct objerr *err)
{
	struct str p = {0};
	size_t n = strlen(s);

	if (n > 0 && s[n - 1] == '/')
		n--;
	if (n > OBJ_KEY_MAX - 64) {
		objerr_set(err, "the prefix is too long: no key below it would fit in %d bytes", OBJ_KEY_MAX);
		return -EINVAL;
	}
	if (!str_is_utf8(s, n)) {
		objerr_set(err, "the prefix is not UTF-8");
		return -EINVAL;
	}
	if (n > 0 && (s[0] == '/' || s[n - 1] == '/' || strstr(s, "//") != NULL)) {
		objerr_set(err, "the prefix \"%s\" has an empty component (//)", s);
		return -EINVAL;
	}
	str_addn(&p, s, n);
	if (n > 0)
		str_addc(&p, '/');
	return str_take(&p, ret);
}

static int parse_bucket(const char *s, struct obj_url *u, struct objerr *err)
{
	size_t n = strcspn(s, "/");

	if (!bucket_ok(s, n)) {
		objerr_set(err, "no bucket name in \"%s\": write s3://BUCKET[/PREFIX]", s);
		return -EINVAL;
	}
	u->bucket = strndup(s, n);
	if (u->bucket == NULL)
		return -ENOMEM;
	return parse_prefix(s[n] == '/' ? s + n + 1 : "", &u->prefix, err);
}

static int parse_path(const char *s, struct obj_url *u, struct objerr *err)
{
	size_t n = strlen(s);

	if (*s != '/') {
		objerr_set(err, "file:// needs an absolute path: file:///PATH");
		return -EINVAL;
	}
	while (n > 1 && s[n - 1] == '/')
		n--;
	u->bucket = strndup(s, n);
	u->prefix = strdup("");
	return u->bucket == NULL || u->prefix == NULL ? -ENOMEM : 0;
}

int obj_url_parse(const char *source, struct obj_url *ret, struct objerr *err)
{
	struct obj_url u = {0};
	int r;

	if (str_has_prefix(source, "s3://")) {
		u.kind = OBJ_URL_S3;
		r = parse_bucket(source + 5, &u, err);
	} else if (str_has_prefix(source, "file://")) {
		u.kind = OBJ_URL_FILE;
		r = parse_path(source + 7, &u, err);
	} else if (str_has_prefix(source, "mem:")) {
		u.kind = OBJ_URL_MEM;
		r = parse_bucket(source + 4, &u, err);
	} else {
		objerr_set(err, "\"%s\" is no source: write s3://BUCKET[/PREFIX] or file:///PATH", source);
		r = -EINVAL;
	}
	if (r < 0) {
		obj_url_free(&u);
		return r;
	}
	*ret = u;
	return 0;
}

static int open_s3(const struct obj_url *url, const struct obj_open_opts *opts, struct objstore **ret,
		   struct objerr *err)
{
	int64_t timeout_ns = opts->timeout_ns > 0 ? opts->timeout_ns : 300 * NSEC_PER_SEC;
	struct objstore *s3, *retry;
	int r = store_s3_new(url->bucket, opts, &s3, err);

	if (r < 0)
		return r;
	r = store_retry_new(s3, timeout_ns, opts->seed, &retry);
	if (r < 0) {
		obj_close(s3);
		return r;
	}
	*ret = retry;
	return 0;
}

int obj_open(const struct obj_url *url, const struct obj_open_opts *opts, struct objstore **ret, struct objerr *err)
{
	static const struct obj_open_opts none;
	struct objstore *s = NULL;
	int r = -EINVAL;

	switch (url->kind) {
	case OBJ_URL_S3:
		r = open_s3(url, opts != NULL ? opts : &none, &s, err);
		break;
	case OBJ_URL_FILE:
		r = store_file_new(url->bucket, &s, err);
		break;
	case OBJ_URL_MEM:
		r = store_mem_open(url->bucket, &s);
		break;
	}
	if (r < 0)
		return r;
	r = store_trace_new(s, ret);
	if (r < 0)
		obj_close(s);
	return r;
}
