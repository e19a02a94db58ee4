/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3op.c - a request in the words of the S3 API: method, resource, query, headers, body.
 *
 * Source: S3 API Reference, "Request Syntax" of each action, named at each function. An object request with an empty key
 * would address the bucket itself (DELETE would delete it), so that is refused here whatever the caller thinks.
 */
#include "config.h"
#include "s3-private.h"
#include <stdio.h>
#include <string.h>

static const char *const system_headers[] = {
	"content-type",
	"cache-control",
	"content-encoding",
	"content-disposition",
	"content-language",
	"expires",
	"x-amz-website-redirect-location",
	"x-amz-storage-class",
	"x-amz-server-side-encryption",
	"x-amz-server-side-encryption-aws-kms-key-id",
};

bool s3_can_batch(const char *key)
{
	return s3xml_can_hold(key);
}

/* --- small things ------------------------------------------------------------------------------------------------- */

/* value is copied. */
static int add_query(struct s3_call *c, const char *name, const char *value)
{
	char *v = strdup(value);

	assert(c->nquery < S3_QUERY_MAX);
	if (v == NULL)
		return -ENOMEM;
	c->query_mem[c->nquery] = v;
	c->query[c->nquery++] = (struct sign_pair){name, v};
	return 0;
}

static int add_query_u(struct s3_call *c, const char *name, unsigned value)
{
	char buf[16];

	(void)snprintf(buf, sizeof(buf), "%u", value);
	return add_query(c, name, buf);
}

static int set_header(struct s3_call *c, const char *name, const char *value)
{
	int r = obj_headers_set(&c->headers, name, value);

	if (r == -EINVAL)
		objerr_set(&c->req->err, "header %s: its value holds control characters", name);
	return r;
}

/* An etag as HTTP wants it: quoted, "*" as it is. */
static int set_etag_header(struct s3_call *c, const char *name, const char *etag, bool quoted)
{
	char buf[OBJ_ETAG_MAX + 4];

	if (strlen(etag) >= OBJ_ETAG_MAX)
		return -EINVAL;
	if (!quoted || strcmp(etag, "*") == 0)
		return set_header(c, name, etag);
	(void)snprintf(buf, sizeof(buf), "\"%s\"", etag);
	return set_header(c, name, buf);
}

/* Conditions of a request that makes an object. */
static int set_dst_conditions(struct s3_call *c)
{
	struct objreq *req = c->req;
	bool quoted = (c->s->base.quirks & OBJ_QUIRK_UNQUOTED_IF_MATCH) == 0;
	int r = 0;

	if (req->if_match != NULL)
		r = set_etag_header(c, "if-match", req->if_match, quoted);
	if (r == 0 && req->if_none_match_any)
		r = set_header(c, "if-none-match", "*");
	return r;
}

static bool is_printable(const char *v)
{
	for (; *v != '\0'; v++)
		if (*v < 0x20 || *v > 0x7e)
			return false;
	return true;
}

bool s3_is_object_header(const char *name)
{
	if (str_has_prefix(name, "x-amz-meta-"))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(system_headers); i++)
		if (strcmp(name, system_headers[i]) == 0)
			return true;
	return false;
}

/* One header of the object. Beyond ASCII, servers disagree on what comes back, so such values are not sent at all. */
static int set_object_header(struct s3_call *c, const char *name, const char *value)
{
	if (strcmp(name, "x-amz-tagging-count") == 0) /* said by replies, not to be said by us */
		return 0;
	if (!s3_is_object_header(name)) {
		objerr_set(&c->req->err, "header %s is none that an S3 object can have", name);
		return -EINVAL;
	}
	if (!is_printable(value)) {
		objerr_set(&c->req->err, "header %s: only printable ASCII can be stored", name);
		return -EINVAL;
	}
	return set_header(c, name, value);
}

/* Default unless the object has its own. */
static int set_default(struct s3_call *c, const char *name, const char *value)
{
	if (value == NULL || obj_headers_get(&c->headers, name) != NULL)
		return 0;
	return set_header(c, name, value);
}

/* Storage class and encryption of the mount. */
static int set_defaults(struct s3_call *c)
{
	bool own_sse = obj_headers_get(&c->headers, "x-amz-server-side-encryption") != NULL;
	int r = set_default(c, "x-amz-storage-class", c->s->storage_class);

	if (r == 0 && !own_sse)
		r = set_default(c, "x-amz-server-side-encryption", c->s->sse);
	if (r == 0 && !own_sse)
		r = set_default(c, "x-amz-server-side-encryption-aws-kms-key-id", c->s->sse_key);
	return r;
}

/* The object's headers, the nonce, the mount's defaults. */
static int set_object_headers(struct s3_call *c)
{
	const struct obj_headers *h = c->req->headers;
	int r = 0;

	for (size_t i = 0; h != NULL && i < h->n && r == 0; i++)
		r = set_object_header(c, h->v[i].name, h->v[i].value);
	if (r == 0 && c->req->nonce[0] != '\0')
		r = set_header(c, STORE_NONCE_HEADER, c->req->nonce);
	return r < 0 ? r : set_defaults(c);
}

static void send_xml(struct s3_call *c)
{
	c->body_iov = (struct iovec){c->body.p, c->body.len};
	c->iov = &c->body_iov;
	c->iovcnt = 1;
}

static void send_body(struct s3_call *c)
{
	c->iov = c->req->iov;
	c->iovcnt = c->req->iovcnt;
	c->want_md5 = true;
}

/* --- operations --------------------------------------------------------------------------------------------------- */

/* "bytes=a-b" for n > 0 bytes from off, clipped to what 64 bits can say. */
static int set_range(struct s3_call *c, const char *name, uint64_t off, uint64_t n)
{
	char buf[64];

	n = MIN(n, (uint64_t)INT64_MAX);
	if (off > (uint64_t)INT64_MAX - n)
		return -ERANGE;
	(void)snprintf(buf, sizeof(buf), "bytes=%llu-%llu", (unsigned long long)off,
		       (unsigned long long)(off + n - 1));
	return set_header(c, name, buf);
}

/* GetObject; HeadObject when no byte is wanted. */
static int build_get(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r = 0;

	c->method = req->cap == 0 || req->op == OBJ_HEAD || c->step == S3_HEAD_EMPTY ? "HEAD" : "GET";
	if (c->method[0] == 'G' && (req->off > 0 || req->len != OBJ_WHOLE)) {
		c->range_n = MIN((uint64_t)req->cap, req->len);
		r = set_range(c, "range", req->off, c->range_n);
	}
	if (r == 0 && req->if_match != NULL)
		r = set_etag_header(c, "if-match", req->if_match, true);
	if (r == 0 && req->if_none_match != NULL)
		r = set_etag_header(c, "if-none-match", req->if_none_match, true);
	return r;
}

/* PutObject */
static int build_put(struct s3_call *c)
{
	int r = set_object_headers(c);

	c->method = "PUT";
	send_body(c);
	return r < 0 ? r : set_dst_conditions(c);
}

/* DeleteObject */
static int build_delete(struct s3_call *c)
{
	c->method = "DELETE";
	return c->req->if_match != NULL ? set_etag_header(c, "if-match", c->req->if_match, true) : 0;
}

/* DeleteObjects: the keys that XML can hold. S3 wants Content-MD5 here. */
static int build_delete_many(struct s3_call *c)
{
	struct objreq *req = c->req;
	const char **keys;
	size_t n = 0;
	int r;

	if (c->step == S3_DELETE_ONE) {
		while (c->next_key < req->nkeys && s3_can_batch(req->keys[c->next_key]))
			c->next_key++;
		assert(c->next_key < req->nkeys);
		c->key = req->keys[c->next_key];
		c->method = "DELETE";
		return 0;
	}
	keys = calloc(req->nkeys + 1, sizeof(*keys));
	if (keys == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < req->nkeys; i++)
		if (s3_can_batch(req->keys[i]))
			keys[n++] = req->keys[i];
	s3xml_add_delete(&c->body, keys, n);
	free(keys);
	r = c->body.err;
	c->key = NULL;
	c->method = "POST";
	c->want_md5 = true;
	send_xml(c);
	return r < 0 ? r : add_query(c, "delete", "");
}

/* Source of CopyObject and UploadPartCopy. */
static int set_source(struct s3_call *c)
{
	struct objreq *req = c->req;
	struct str s = {0};
	int r;

	if (req->src_key[0] == '\0')
		return -EINVAL;
	str_add_pct(&s, c->s->bucket, strlen(c->s->bucket), false);
	str_addc(&s, '/');
	str_add_pct(&s, req->src_key, strlen(req->src_key), true);
	r = s.err;
	if (r == 0)
		r = set_header(c, "x-amz-copy-source", s.p);
	if (r == 0 && req->src_if_match != NULL)
		r = set_etag_header(c, "x-amz-copy-source-if-match", req->src_if_match, true);
	str_free(&s);
	return r;
}

/* CopyObject */
static int build_copy(struct s3_call *c)
{
	int r = set_source(c);

	c->method = "PUT";
	if (r == 0 && c->req->headers != NULL)
		r = set_object_headers(c);
	if (r == 0)
		r = set_header(c, "x-amz-metadata-directive", c->req->headers != NULL ? "REPLACE" : "COPY");
	if (r == 0 && c->req->headers == NULL)
		r = set_defaults(c);
	return r < 0 ? r : set_dst_conditions(c);
}

/* Where a listing goes on: see make_token() in s3reply.c. */
static int add_list_start(struct s3_call *c)
{
	const char *token = c->req->token, *after = c->req->start_after;
	_cleanup_free_ char *key = NULL;

	if (token == NULL)
		return after != NULL && after[0] != '\0' ? add_query(c, "start-after", after) : 0;
	if (token[0] == 't')
		return add_query(c, "continuation-token", token + 1);
	if (token[0] != 'k')
		return -EINVAL;
	key = strdup(token + 1);
	if (key == NULL)
		return -ENOMEM;
	return str_pct_decode(key) < 0 ? -EINVAL : add_query(c, "start-after", key);
}

/* ListObjectsV2 */
static int build_list(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r = add_query(c, "list-type", "2");

	c->method = "GET";
	c->key = NULL;
	if (r == 0)
		r = add_query(c, "encoding-type", "url");
	if (r == 0)
		r = add_query(c, "prefix", req->key);
	if (r == 0)
		r = add_query_u(c, "max-keys", req->max_keys > 0 ? req->max_keys : OBJ_LIST_MAX);
	if (r == 0 && req->delimiter)
		r = add_query(c, "delimiter", "/");
	return r < 0 ? r : add_list_start(c);
}

/* CreateMultipartUpload */
static int build_create(struct s3_call *c)
{
	int r = set_object_headers(c);

	c->method = "POST";
	return r < 0 ? r : add_query(c, "uploads", "");
}

/* UploadPart, UploadPartCopy */
static int build_part(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r = add_query_u(c, "partNumber", req->part);

	c->method = "PUT";
	if (r == 0)
		r = add_query(c, "uploadId", req->upload_id);
	if (r < 0)
		return r;
	if (req->op == OBJ_MPU_PART) {
		send_body(c);
		return 0;
	}
	if (strchr(req->src_key, '%') != NULL && c->s->host != NULL) {
		/* RGW 16 decodes the source of a part copy twice: another object's bytes, or a dead server */
		objerr_set(&req->err, "the store may misread a source key with '%%' in it");
		return -ENOTSUP;
	}
	r = set_source(c);
	if (r == 0 && req->len != OBJ_WHOLE)
		r = set_range(c, "x-amz-copy-source-range", req->off, req->len);
	else if (r == 0 && req->off > 0)
		r = -EINVAL; /* the API has no open range here */
	return r;
}

/* CompleteMultipartUpload, and the HEAD for what its reply left out */
static int build_complete(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r;

	if (c->step == S3_HEAD_COMPLETE) {
		c->method = "HEAD";
		return 0;
	}
	c->method = "POST";
	s3xml_add_complete(&c->body, req->parts, req->nparts);
	r = c->body.err;
	send_xml(c);
	if (r == 0)
		r = add_query(c, "uploadId", req->upload_id);
	if (r == 0)
		r = set_header(c, "content-type", "application/xml");
	return r < 0 ? r : set_dst_conditions(c);
}

/* AbortMultipartUpload */
static int build_abort(struct s3_call *c)
{
	c->method = "DELETE";
	return add_query(c, "uploadId", c->req->upload_id);
}

/* Cuts our token, KEY&UPLOAD with KEY percent-encoded, into the two markers of the API. */
static int add_markers(struct s3_call *c, const char *token)
{
	_cleanup_free_ char *key = NULL;
	const char *amp = strchr(token, '&');
	int r;

	if (amp == NULL)
		return -EINVAL;
	key = strndup(token, (size_t)(amp - token));
	if (key == NULL)
		return -ENOMEM;
	if (str_pct_decode(key) < 0)
		return -EINVAL;
	r = add_query(c, "key-marker", key);
	if (r == 0 && amp[1] != '\0')
		r = add_query(c, "upload-id-marker", amp + 1);
	return r;
}

/* ListParts */
static int build_parts(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r = add_query_u(c, "max-parts", req->max_keys > 0 ? req->max_keys : OBJ_LIST_MAX);

	c->method = "GET";
	return r < 0 ? r : add_query(c, "uploadId", req->upload_id);
}

/* ListMultipartUploads. Keys are asked for as they are: RGW encodes on request, but does not say in the reply that it did. */
static int build_uploads(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r = add_query(c, "uploads", "");

	c->method = "GET";
	c->key = NULL;
	if (r == 0)
		r = add_query(c, "prefix", req->key);
	if (r == 0)
		r = add_query_u(c, "max-uploads", req->max_keys > 0 ? req->max_keys : OBJ_LIST_MAX);
	if (r == 0 && req->token != NULL)
		r = add_markers(c, req->token);
	else if (r == 0 && req->start_after != NULL && req->start_after[0] != '\0')
		r = add_query(c, "key-marker", req->start_after);
	return r;
}

static int build_op(struct s3_call *c)
{
	switch (c->req->op) {
	case OBJ_GET:
	case OBJ_HEAD:
		return build_get(c);
	case OBJ_PUT:
		return build_put(c);
	case OBJ_DELETE:
		return build_delete(c);
	case OBJ_DELETE_MANY:
		return build_delete_many(c);
	case OBJ_COPY:
		return build_copy(c);
	case OBJ_LIST:
		return build_list(c);
	case OBJ_MPU_CREATE:
		return build_create(c);
	case OBJ_MPU_PART:
	case OBJ_MPU_COPY_PART:
		return build_part(c);
	case OBJ_MPU_COMPLETE:
		return build_complete(c);
	case OBJ_MPU_ABORT:
		return build_abort(c);
	case OBJ_MPU_LIST:
		return c->req->upload_id != NULL ? build_parts(c) : build_uploads(c);
	case OBJ_NOPS:
		break;
	}
	return -ENOTSUP;
}

int s3_build(struct s3_call *c)
{
	enum obj_op op = c->req->op;
	int r;

	c->key = c->req->key;
	r = build_op(c);
	if (r < 0)
		return r;
	if (c->key == NULL && op != OBJ_LIST && op != OBJ_MPU_LIST && op != OBJ_DELETE_MANY)
		return -EINVAL;
	if (c->key != NULL && c->key[0] == '\0') {
		objerr_set(&c->req->err, "%s: an empty key", obj_op_name[op]);
		return -EINVAL;
	}
	if (c->key != NULL && strlen(c->key) > OBJ_KEY_MAX) {
		objerr_set(&c->req->err, "%s: key of %zu bytes, S3 allows %d", obj_op_name[op], strlen(c->key),
			   OBJ_KEY_MAX);
		return -ENAMETOOLONG;
	}
	if (c->s->requester_pays)
		r = set_header(c, "x-amz-request-payer", "requester");
	return r;
}

/* --- where -------------------------------------------------------------------------------------------------------- */

int s3_locate(struct s3_call *c, char **ret_host)
{
	struct s3 *s = c->s;
	struct str host = {0};

	str_reset(&c->path);
	if (s->virtual_host)
		str_addf(&host, "%s.", s->bucket);
	if (s->host != NULL)
		str_add(&host, s->host);
	else
		str_addf(&host, "s3.%s.amazonaws.com%s", c->region, str_has_prefix(c->region, "cn-") ? ".cn" : "");
	if (!s->virtual_host) {
		str_addc(&c->path, '/');
		str_add_pct(&c->path, s->bucket, strlen(s->bucket), false);
	}
	if (s->virtual_host || c->key != NULL)
		str_addc(&c->path, '/');
	if (c->key != NULL)
		str_add_pct(&c->path, c->key, strlen(c->key), true);
	if (c->path.err < 0) {
		str_free(&host);
		return c->path.err;
	}
	return str_take(&host, ret_host);
}
