/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3.c - the S3 store: life of a call.
 *
 *   submit -> build -> creds_get -> sign -> http_submit -> reply -> finish
 *               ^                                            |
 *               +------------- sent again -------------------+
 *
 * A call is sent again, at most once for each reason and never because of a network error (that is retry.c's):
 *
 *   the bucket is in another region     301, 307, 400 with a region    region kept for all later calls
 *   our clock is off                    403 RequestTimeTooSkewed       offset kept, said once in the log
 *   the keys were refused               403 and newer keys to be had   (rotated file, expired token)
 *
 * In all three the server did nothing with the first sending, so a change is not done twice. Steps after the first:
 *
 *   GET from 0    416        HEAD     an empty object cannot be asked for a range
 *   COMPLETE      no etag    HEAD     Ceph RGW leaves it out
 *   DELETE_MANY   odd keys   DELETE   one each for keys that XML cannot hold
 *
 * submit() computes digests on the caller's thread; the curl thread never digests a large body but for a second sending
 * of one without digests, which does not happen. Nothing waits for the network in here.
 */
#include "config.h"
#include "s3-private.h"
#include "base/clock.h"
#include "base/log.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_REGION "us-east-1"
#define DEFAULT_TIMEOUT_NS (300 * NSEC_PER_SEC)
#define DEFAULT_STALL_NS (20 * NSEC_PER_SEC)
#define SERVER_WORK 6 /* times the stall time: for requests that make the server copy data before it answers */
#define BIG_BODY (64 * KiB)
#define PUT_MAX (5 * GiB)
#define PART_MIN (5 * MiB)
#define PART_COUNT 10000

static void call_start(struct s3_call *c);

void s3_call_clear(struct s3_call *c)
{
	for (size_t i = 0; i < c->nquery; i++)
		free(c->query_mem[i]);
	c->nquery = 0;
	obj_headers_free(&c->headers);
	free(c->pairs);
	c->pairs = NULL;
	str_free(&c->url);
	str_free(&c->path);
	str_free(&c->query_text);
	str_free(&c->auth);
	str_free(&c->body);
	c->iov = NULL;
	c->iovcnt = 0;
	c->want_md5 = false;
	c->range_n = 0;
	c->total = 0;
}

static void call_finish(struct s3_call *c, int status)
{
	struct objreq *req = c->req;

	http_req_done(&c->h);
	s3_call_clear(c);
	free(c);
	objreq_finish(req, status);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

/* Headers -> the array that is signed and sent. One slot is left for Authorization. */
static int make_pairs(struct s3_call *c)
{
	c->pairs = calloc(c->headers.n + 1, sizeof(*c->pairs));
	if (c->pairs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->headers.n; i++)
		c->pairs[i] = (struct http_pair){c->headers.v[i].name, c->headers.v[i].value};
	return 0;
}

static int sign_call(struct s3_call *c, const struct creds_keys *keys, const char *date)
{
	struct sign_pair *sp = calloc(c->headers.n + 1, sizeof(*sp));
	struct sign_in in = {
		.method = c->method,
		.path = str_c(&c->path),
		.query = str_c(&c->query_text),
		.headers = sp,
		.nheaders = c->headers.n,
		.payload = c->payload,
		.access = keys->access,
		.secret = keys->secret,
		.region = c->region,
		.service = "s3",
		.date = date,
	};
	int r;

	if (sp == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->headers.n; i++)
		sp[i] = (struct sign_pair){c->headers.v[i].name, c->headers.v[i].value};
	r = sign_v4(&in, &c->auth);
	free(sp);
	return r;
}

/* Adds what depends on keys and time, signs, makes the URL. */
static int finish_headers(struct s3_call *c, const struct creds_keys *keys)
{
	_cleanup_free_ char *host = NULL;
	char date[SIGN_DATE];
	int r;

	r = s3_locate(c, &host);
	if (r == 0)
		r = sign_query(c->query, c->nquery, &c->query_text);
	if (r == 0)
		r = obj_headers_set(&c->headers, "host", host);
	if (r == 0 && !creds_anonymous(c->s->creds)) {
		c->skew_s = atomic_load(&c->s->skew_s);
		sign_date(clock_real_ns() / NSEC_PER_SEC + c->skew_s, date);
		r = obj_headers_set(&c->headers, "x-amz-date", date);
		if (r == 0)
			r = obj_headers_set(&c->headers, "x-amz-content-sha256", c->payload);
		if (r == 0 && keys->token != NULL)
			r = obj_headers_set(&c->headers, "x-amz-security-token", keys->token);
		if (r == 0)
			r = sign_call(c, keys, date);
	}
	if (r == 0)
		r = make_pairs(c);
	if (r < 0)
		return r;
	str_addf(&c->url, "%s://%s%s", c->s->scheme, host, str_c(&c->path));
	if (c->nquery > 0)
		str_addf(&c->url, "?%s", str_c(&c->query_text));
	return c->url.err;
}

static void on_reply(struct http_req *h);

static void fill_http(struct s3_call *c)
{
	struct objreq *req = c->req;
	struct http_req *h = &c->h;
	enum obj_op op = req->op;
	uint64_t body = 0;

	http_req_done(h);
	*h = (struct http_req){.method = c->method, .url = c->url.p, .headers = c->pairs, .nheaders = c->headers.n};
	if (c->auth.len > 0)
		c->pairs[h->nheaders++] = (struct http_pair){"authorization", c->auth.p};
	h->iov = c->iov;
	h->iovcnt = c->iovcnt;
	for (int i = 0; i < c->iovcnt; i++)
		body += c->iov[i].iov_len;
	if (op == OBJ_GET && c->step == S3_MAIN && req->cap > 0) {
		h->buf = req->buf;
		h->cap = (size_t)MIN((uint64_t)req->cap, req->len);
	}
	h->background = req->prio == OBJ_PRIO_BG;
	h->repeatable = !obj_op_writes(op) || c->step == S3_HEAD_COMPLETE;
	h->lane = body >= BIG_BODY ? HTTP_LANE_WRITE : HTTP_LANE_READ;
	h->deadline_ns = c->deadline_ns;
	if (op == OBJ_COPY || op == OBJ_MPU_COPY_PART || op == OBJ_MPU_COMPLETE)
		h->stall_ns = c->s->stall_ns * SERVER_WORK;
	h->on_head = s3_on_head;
	h->done = on_reply;
	h->priv = c;
}

static void on_keys(struct creds_waiter *w, int status, const struct creds_keys *keys, const char *msg)
{
	struct s3_call *c = container_of(w, struct s3_call, waiter);
	int r = status;

	if (r == 0) {
		c->key_gen = keys->gen;
		r = finish_headers(c, keys);
	} else if (msg[0] != '\0') {
		objerr_set(&c->req->err, "%s", msg);
	}
	if (r < 0) {
		call_finish(c, r);
		return;
	}
	fill_http(c);
	http_submit(c->s->http, &c->h);
}

/* Content-MD5 and the hash that the signature covers. Bodies up to BIG_BODY are hashed twice: both are cheap then. */
static int digest_body(struct s3_call *c)
{
	bool own = c->iov != c->req->iov; /* XML of ours: new at each sending */
	uint64_t n = 0;
	int r;

	for (int i = 0; i < c->iovcnt; i++)
		n += c->iov[i].iov_len;
	if (!c->digested || own) {
		r = c->want_md5 ? sign_md5_b64(c->iov, c->iovcnt, c->md5) : 0;
		if (r == -ENOTSUP) { /* OpenSSL under FIPS: then the signed sha256 alone has to do */
			c->md5[0] = '\0';
			n = MIN(n, (uint64_t)BIG_BODY);
			r = 0;
		}
		if (r == 0 && n <= BIG_BODY)
			r = sign_sha256_hex(c->iov, c->iovcnt, c->sha256);
		else if (r == 0)
			r = str_copy(c->sha256, sizeof(c->sha256), SIGN_UNSIGNED);
		if (r < 0)
			return r;
		c->digested = !own;
	}
	r = str_copy(c->payload, sizeof(c->payload), c->sha256);
	if (r == 0 && c->want_md5 && c->md5[0] != '\0')
		r = obj_headers_set(&c->headers, "content-md5", c->md5);
	return r;
}

static void call_start(struct s3_call *c)
{
	int r;

	s3_call_clear(c);
	c->req->err = (struct objerr){0};
	mtx_lock(&c->s->lock);
	memcpy(c->region, c->s->region, sizeof(c->region));
	mtx_unlock(&c->s->lock);
	r = s3_build(c);
	if (r == 0 && c->iovcnt > 0)
		r = digest_body(c);
	else if (r == 0)
		r = str_copy(c->payload, sizeof(c->payload), SIGN_EMPTY_SHA256);
	if (r < 0) {
		call_finish(c, r);
		return;
	}
	c->waiter.fn = on_keys;
	creds_get(c->s->creds, &c->waiter);
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

/* What goes over the wire is counted, so a call of two requests counts twice. */
static void count(struct s3_call *c, enum obj_op op, int status)
{
	struct obj_stats *st = &c->s->stats;

	st->count[op]++;
	if (status < 0 && status != -ENOENT && status != -ESTALE)
		st->errors[op]++;
	st->bytes_in += c->h.wire_in;
	st->bytes_out += c->h.wire_out;
}

static enum obj_op wire_op(const struct s3_call *c)
{
	if (c->step == S3_MAIN)
		return c->req->op;
	return c->step == S3_DELETE_ONE ? OBJ_DELETE : OBJ_HEAD;
}

static void on_reply(struct http_req *h)
{
	struct s3_call *c = h->priv;
	enum obj_op op = wire_op(c);
	enum s3_next next = S3_FINISH;
	int status = h->status;
	const char *date;

	if (h->code != 0) {
		date = http_header(h, "date");
		c->req->err.http = h->code;
		if (date == NULL || http_date(date, &c->req->date_s) < 0)
			c->req->date_s = 0;
	}
	if (status < 0 && c->step != S3_HEAD_COMPLETE)
		s3_say_network(c, status);
	else
		next = s3_reply(c, &status);
	count(c, op, next == S3_FINISH ? status : 0);
	if (next == S3_SEND_AGAIN)
		call_start(c);
	else
		call_finish(c, status);
}

/* --- the store ---------------------------------------------------------------------------------------------------- */

static void s3_submit(struct objstore *base, struct objreq *req)
{
	struct s3 *s = container_of(base, struct s3, base);
	struct s3_call *c;

	objreq_reset_answer(req);
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		objreq_finish(req, -ENOMEM);
		return;
	}
	c->s = s;
	c->req = req;
	c->deadline_ns = req->deadline_ns != 0 ? req->deadline_ns : clock_now_ns() + s->timeout_ns;
	if (req->op == OBJ_DELETE_MANY) {
		while (c->next_key < req->nkeys && !s3_can_batch(req->keys[c->next_key]))
			c->next_key++;
		if (req->nkeys == 0) {
			call_finish(c, 0);
			return;
		}
		if (c->next_key == req->nkeys) /* none fits into XML */
			c->step = S3_DELETE_ONE;
		c->next_key = 0;
	}
	call_start(c);
}

static void s3_free(struct s3 *s)
{
	http_free(s->http);
	creds_free(s->creds);
	free(s->bucket);
	free(s->scheme);
	free(s->host);
	free(s->storage_class);
	free(s->sse);
	free(s->sse_key);
	mtx_destroy(&s->lock);
	free(s);
}

static void s3_close(struct objstore *base)
{
	s3_free(container_of(base, struct s3, base));
}

static const struct objstore_ops s3_ops = {.name = "s3", .submit = s3_submit, .close = s3_close};

/* --- where the bucket is ------------------------------------------------------------------------------------------ */

/* Host without port and brackets. */
static int bare_host(const char *host, char *out, size_t cap)
{
	size_t n = host[0] == '[' ? strcspn(host + 1, "]") : strcspn(host, ":");

	if (n >= cap)
		return -EINVAL;
	memcpy(out, host + (host[0] == '['), n);
	out[n] = '\0';
	return 0;
}

static bool is_address(const char *bare)
{
	unsigned char a[16];

	return inet_pton(AF_INET, bare, a) == 1 || inet_pton(AF_INET6, bare, a) == 1 ||
	       strcasecmp(bare, "localhost") == 0 || str_has_suffix(bare, ".localhost");
}

/* A bucket name that may be a label of a host name: lower case, digits, '-', 3..63; dots only where `dots`. */
static bool is_dns_bucket(const char *b, bool dots)
{
	size_t n = strlen(b);

	if (n < 3 || n > 63 || b[0] == '-' || b[n - 1] == '-' || b[0] == '.' || b[n - 1] == '.' ||
	    strstr(b, "..") != NULL)
		return false;
	for (; *b != '\0'; b++)
		if (!((*b >= 'a' && *b <= 'z') || (*b >= '0' && *b <= '9') || *b == '-' || (*b == '.' && dots)))
			return false;
	return true;
}

/* Services that take virtual-host style only; others are spoken to path-style, which everything else understands. */
static bool wants_virtual_host(const char *bare)
{
	static const char *const suffix[] = {".amazonaws.com", ".amazonaws.com.cn", ".aliyuncs.com", ".myqcloud.com"};

	for (size_t i = 0; i < ARRAY_SIZE(suffix); i++)
		if (str_has_suffix(bare, suffix[i]))
			return true;
	return false;
}

/* host[:port] or [v6][:port], nothing else. */
static bool is_authority(const char *h, size_t n)
{
	size_t i = 0, port;

	if (n > 0 && h[0] == '[') {
		for (i = 1; i < n && (strchr("0123456789abcdefABCDEF:.", h[i]) != NULL); i++)
			;
		if (i >= n || h[i++] != ']')
			return false;
	} else {
		for (; i < n && h[i] != ':'; i++)
			if (!((h[i] >= 'a' && h[i] <= 'z') || (h[i] >= 'A' && h[i] <= 'Z') ||
			      (h[i] >= '0' && h[i] <= '9') || h[i] == '.' || h[i] == '-' || h[i] == '_'))
				return false;
		if (i == 0)
			return false;
	}
	if (i == n)
		return true;
	if (h[i] != ':')
		return false;
	for (port = ++i; i < n; i++)
		if (h[i] < '0' || h[i] > '9')
			return false;
	return i > port && i - port <= 5;
}

/* http[s]://host[:port][/] -> scheme and host. A default port is left out, as it is in the Host header. */
static int parse_endpoint(const char *e, struct s3 *s, struct objerr *err)
{
	bool tls = str_has_prefix(e, "https://");
	const char *p = tls ? e + 8 : e + 7, *dflt = tls ? ":443" : ":80";
	size_t n;

	if (!tls && !str_has_prefix(e, "http://")) {
		objerr_set(err, "endpoint=%s: write http://HOST[:PORT] or https://HOST[:PORT]", e);
		return -EINVAL;
	}
	n = strlen(p);
	if (n > 0 && p[n - 1] == '/')
		n--;
	if (!is_authority(p, n)) {
		objerr_set(err, "endpoint=%s: nothing but a host name and a port is allowed behind the scheme", e);
		return -EINVAL;
	}
	if (n > strlen(dflt) && memcmp(p + n - strlen(dflt), dflt, strlen(dflt)) == 0)
		n -= strlen(dflt);
	s->scheme = strdup(tls ? "https" : "http");
	s->host = strndup(p, n);
	return s->scheme == NULL || s->host == NULL ? -ENOMEM : 0;
}

static int set_place(struct s3 *s, const struct obj_open_opts *o, struct objerr *err)
{
	const char *region = o->region != NULL ? o->region : creds_region(s->creds);
	char bare[256] = "s3.amazonaws.com", named[S3_REGION_MAX] = "";
	bool https, by_region = true;
	int r = 0;

	if (o->endpoint != NULL) {
		r = parse_endpoint(o->endpoint, s, err);
		if (r < 0)
			return r;
		r = bare_host(s->host, bare, sizeof(bare));
		if (r < 0) {
			objerr_set(err, "endpoint=%.60s...: the host name is too long", o->endpoint);
			return r;
		}
		by_region = strcmp(bare, s->host) == 0 && s3_aws_region(bare, named);
		if (by_region) { /* one of AWS' own: follows the region like no endpoint at all */
			free(s->host);
			s->host = NULL;
		}
	} else {
		s->scheme = strdup("https");
		if (s->scheme == NULL)
			return -ENOMEM;
	}
	if (named[0] != '\0' && o->region == NULL)
		region = named;
	if (region == NULL || region[0] == '\0')
		region = DEFAULT_REGION;
	if (str_copy(s->region, sizeof(s->region), region) < 0 || strspn(region, "abcdefghijklmnopqrstuvwxyz"
		     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != strlen(region)) {
		objerr_set(err, "region=%s: not a region name", region);
		return -EINVAL;
	}
	https = strcmp(s->scheme, "https") == 0;
	if (str_has_suffix(bare, ".r2.cloudflarestorage.com"))
		s->base.caps |= OBJ_CAP_EQUAL_PARTS;
	s->virtual_host = !o->path_style && !is_address(bare) && (by_region || wants_virtual_host(bare)) &&
			  is_dns_bucket(s->bucket, !https);
	return 0;
}

static int set_options(struct s3 *s, const struct obj_open_opts *o, struct objerr *err)
{
	const char *key;

	s->requester_pays = o->requester_pays;
	s->timeout_ns = o->timeout_ns > 0 ? o->timeout_ns : DEFAULT_TIMEOUT_NS;
	s->stall_ns = o->stall_ns > 0 ? o->stall_ns : DEFAULT_STALL_NS;
	if (o->storage_class != NULL) {
		s->storage_class = strdup(o->storage_class);
		if (s->storage_class == NULL)
			return -ENOMEM;
	}
	if (o->sse == NULL)
		return 0;
	key = str_has_prefix(o->sse, "aws:kms:") ? o->sse + 8 : NULL;
	if (strcmp(o->sse, "AES256") != 0 && strcmp(o->sse, "aws:kms") != 0 && (key == NULL || key[0] == '\0')) {
		objerr_set(err, "sse=%s: write AES256, aws:kms or aws:kms:KEYID", o->sse);
		return -EINVAL;
	}
	s->sse = key != NULL ? strdup("aws:kms") : strdup(o->sse);
	s->sse_key = key != NULL ? strdup(key) : NULL;
	return s->sse == NULL || (key != NULL && s->sse_key == NULL) ? -ENOMEM : 0;
}

int store_s3_new(const char *bucket, const struct obj_open_opts *opts, struct objstore **ret, struct objerr *err)
{
	struct creds_opts co = {bucket, opts->profile, opts->passwd_file, opts->no_sign};
	struct http_opts ho = {opts->connections, 0, opts->stall_ns, opts->ca_file};
	struct s3 *s;
	int r;

	if (bucket[0] == '\0' || strpbrk(bucket, "/?# ") != NULL) {
		objerr_set(err, "\"%s\" is not a bucket name", bucket);
		return -EINVAL;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -ENOMEM;
	mtx_init(&s->lock, RANK_STORE);
	s->base.ops = &s3_ops;
	s->base.stats = &s->stats;
	s->base.part_min = PART_MIN;
	s->base.part_max_count = PART_COUNT;
	s->base.put_max = PUT_MAX;
	s->base.caps = OBJ_CAP_COPY | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY | OBJ_CAP_DELETE_MANY | OBJ_CAP_NESTED |
		       OBJ_CAP_LONG_NAMES;
	s->bucket = strdup(bucket);
	r = s->bucket == NULL ? -ENOMEM : set_options(s, opts, err);
	if (r == 0)
		r = creds_new(&co, &s->creds, err);
	if (r == 0)
		r = set_place(s, opts, err);
	if (r == 0) {
		r = http_new(&ho, &s->http);
		if (r < 0)
			objerr_set(err, "cannot start the HTTP client: %s", strerrordesc_np(-r));
	}
	if (r < 0) {
		s3_free(s);
		return r;
	}
	*ret = &s->base;
	return 0;
}
