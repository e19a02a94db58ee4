/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3reply.c - a reply of S3 -> the answered block of a request.
 *
 * Nothing is believed that was not said: a success without etag, a range that is not the one asked for, a length that is
 * missing, a listing that would go on where it began are -EBADMSG. Header lines are judged before the first byte of a
 * body is stored (s3_on_head).
 */
#include "config.h"
#include "s3-private.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <string.h>

/* Words for a reply that cannot be used. */
static int bad(struct s3_call *c, const char *what)
{
	char buf[128];

	objerr_set(&c->req->err, "%s: %s", s3_asked(c, buf, sizeof(buf)), what);
	if (obj_op_writes(c->req->op))
		c->req->maybe_done = true;
	return -EBADMSG;
}

/* --- header lines ------------------------------------------------------------------------------------------------- */

/* "bytes a-b/total" */
static int parse_content_range(const char *s, uint64_t *ret_a, uint64_t *ret_b, uint64_t *ret_total)
{
	char *end;

	if (!str_has_prefix(s, "bytes "))
		return -EBADMSG;
	s += 6;
	errno = 0;
	if (*s < '0' || *s > '9')
		return -EBADMSG;
	*ret_a = strtoull(s, &end, 10);
	if (*end != '-' || end[1] < '0' || end[1] > '9')
		return -EBADMSG;
	*ret_b = strtoull(end + 1, &end, 10);
	if (*end != '/' || end[1] < '0' || end[1] > '9')
		return -EBADMSG;
	*ret_total = strtoull(end + 1, &end, 10);
	if (*end != '\0' || errno != 0 || *ret_b < *ret_a || *ret_total <= *ret_b)
		return -EBADMSG;
	return 0;
}

/* A 206: it must be the range that was asked for, cut only by the end of the object. */
static int check_range(struct s3_call *c)
{
	const char *v = http_header(&c->h, "content-range");
	uint64_t a, b, total, want;

	if (c->range_n == 0)
		return bad(c, "a part came, the whole was asked for");
	if (v == NULL || parse_content_range(v, &a, &b, &total) < 0)
		return bad(c, "a part came without a usable Content-Range");
	want = MIN(c->range_n, total - MIN(total, c->req->off));
	if (a != c->req->off || b - a + 1 != want)
		return bad(c, "another range came than was asked for");
	if (c->h.length >= 0 && (uint64_t)c->h.length != want)
		return bad(c, "Content-Length and Content-Range differ");
	c->total = total;
	return 0;
}

/* A success under If-Match must be that version: something between may not know conditions. */
static int check_version(struct s3_call *c)
{
	const char *v = http_header(&c->h, "etag"), *want = c->req->if_match;
	char etag[OBJ_ETAG_MAX], buf[128];

	if (want == NULL || v == NULL || s3xml_etag(v, etag) < 0 || strcmp(etag, want) == 0)
		return 0;
	objerr_set(&c->req->err, "%s: another version came than was asked for", s3_asked(c, buf, sizeof(buf)));
	return -ESTALE;
}

int s3_on_head(struct http_req *h)
{
	struct s3_call *c = h->priv;
	int r;

	if (h->buf == NULL || h->code < 200 || h->code > 299)
		return 0;
	r = check_version(c);
	if (r < 0)
		return r;
	if (h->length < 0 && !h->chunked)
		return bad(c, "the length of the body is not said");
	if (h->code == 206)
		return check_range(c);
	if (h->code != 200)
		return bad(c, "a success that is none of GET's");
	if (c->req->off > 0)
		return bad(c, "the store ignores Range");
	if (h->length >= 0)
		c->total = (uint64_t)h->length;
	return 0;
}

static bool is_kept(const char *name)
{
	return s3_is_object_header(name) || strcmp(name, "x-amz-tagging-count") == 0;
}

static int keep_headers(struct s3_call *c)
{
	const char *name, *value;
	size_t pos = 0;

	while (http_next_header(&c->h, &pos, &name, &value)) {
		int r = is_kept(name) ? obj_headers_set(&c->req->ret_headers, name, value) : 0;

		if (r == -EINVAL) /* a name that is no token, a control character: nothing that we could write back */
			return bad(c, "a header of the object is malformed");
		if (r < 0)
			return r;
	}
	return 0;
}

/* The etag of the reply's header lines; must: its absence is an error. */
static int take_etag(struct s3_call *c)
{
	const char *v = http_header(&c->h, "etag");

	if (v == NULL || s3xml_etag(v, c->req->etag) < 0 || c->req->etag[0] == '\0')
		return bad(c, "success without a usable ETag: is this an S3 server?");
	return 0;
}

/* etag, mtime, headers of GET and HEAD. */
static int take_object(struct s3_call *c)
{
	const char *v = http_header(&c->h, "last-modified");
	int r = take_etag(c);

	if (r == 0)
		r = check_version(c);
	if (r == 0 && v != NULL && http_date(v, &c->req->mtime_s) < 0)
		c->req->mtime_s = 0;
	return r < 0 ? r : keep_headers(c);
}

/* --- operations --------------------------------------------------------------------------------------------------- */

static int reply_get(struct s3_call *c)
{
	struct objreq *req = c->req;
	struct http_req *h = &c->h;
	int r;

	req->got = h->got;
	if (h->code == 206) {
		if (h->got != MIN(c->range_n, c->total - req->off))
			return bad(c, "the body is shorter than its header said");
		req->size = c->total;
	} else if (h->length >= 0) {
		req->size = c->total;
		if (h->got != MIN(MIN(req->size, req->len), (uint64_t)req->cap))
			return bad(c, "the body is shorter than its header said");
	} else if (h->truncated) {
		return bad(c, "the size of the object is not said");
	} else {
		req->size = h->got;
	}
	r = take_object(c);
	if (r < 0)
		return r;
	req->truncated = req->size > req->off + req->got;
	return 0;
}

/* HEAD, also in the place of a GET. */
static int reply_head(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r;

	if (c->h.length < 0)
		return bad(c, "the size of the object is not said");
	req->size = (uint64_t)c->h.length;
	r = take_object(c);
	if (r < 0 || req->op == OBJ_HEAD)
		return r;
	if (c->step == S3_HEAD_EMPTY && req->size > 0) {
		objerr_set(&req->err, "GET: the object changed while it was being read");
		return -EAGAIN;
	}
	if (req->off > 0 && req->off >= req->size) {
		objerr_set(&req->err, "GET: offset %llu is behind the end", (unsigned long long)req->off);
		return -ERANGE;
	}
	req->truncated = req->size > req->off;
	return 0;
}

static int reply_put(struct s3_call *c)
{
	c->req->size = store_body_bytes(c->req);
	return take_etag(c);
}

/* 200 with an <Error>: as if it were the status that belongs to its code. The server may have done it all the same. */
static int error_in_success(struct s3_call *c, const struct s3_error *e)
{
	int r = s3_map_error(c, 200, e);

	if (r == -EAGAIN)
		c->req->maybe_done = true;
	return r;
}

static int reply_copy(struct s3_call *c)
{
	struct s3_error e = {0};
	int r = s3xml_copy(c->h.text.p, c->h.text.len, c->req->etag, &c->req->mtime_s, &e);

	if (r == -EREMOTEIO)
		return error_in_success(c, &e);
	return r == -EBADMSG ? bad(c, "the copy's result cannot be understood") : r;
}

/*
 * Our token: "t" and the server's, or "k" and a percent-encoded key to start after. Behind a rolled-up prefix that is the
 * highest key that the prefix can have, since the prefix itself would be listed again.
 */
static int make_token(struct s3_call *c)
{
	struct obj_listing *l = c->req->listing;
	const struct obj_list_entry *last = l->n > 0 ? &l->v[l->n - 1] : NULL;
	struct str t = {0};
	int r;

	if (!l->truncated)
		return 0;
	if (l->next_token == NULL && last == NULL)
		return bad(c, "the listing does not say where it goes on");
	str_addc(&t, l->next_token != NULL ? 't' : 'k');
	if (l->next_token != NULL) {
		str_add(&t, l->next_token);
	} else {
		str_add_pct(&t, last->key, strlen(last->key), false);
		if (last->is_prefix)
			str_add_pct(&t, "\xf4\x8f\xbf\xbf", 4, false);
	}
	r = t.err;
	if (r == 0 && c->req->token != NULL && strcmp(t.p, c->req->token) == 0)
		r = bad(c, "the listing would go on where it began");
	if (r == 0)
		r = page_set_token(l, t.p);
	str_free(&t);
	return r;
}

static int reply_list(struct s3_call *c)
{
	struct objreq *req = c->req;
	int r = s3xml_list(c->h.text.p, c->h.text.len, &req->listing);

	if (r < 0)
		return r == -EBADMSG ? bad(c, "the listing cannot be understood") : r;
	r = make_token(c);
	if (r < 0)
		return r;
	for (size_t i = 0; i < req->listing->n; i++)
		if (!str_has_prefix(req->listing->v[i].key, req->key))
			return bad(c, "the listing holds keys outside the prefix");
	return 0;
}

static int reply_uploads(struct s3_call *c)
{
	struct objreq *req = c->req;
	struct s3_uploads u = {0};
	struct str token = {0};
	int r = s3xml_uploads(c->h.text.p, c->h.text.len, &u);

	if (r < 0)
		return r == -EBADMSG ? bad(c, "the list of uploads cannot be understood") : r;
	req->listing = u.listing;
	if (u.listing->truncated) {
		str_add_pct(&token, u.next_key, strlen(u.next_key), false);
		str_addc(&token, '&');
		str_add(&token, u.next_upload);
		r = token.err;
		if (r == 0 && req->token != NULL && strcmp(token.p, req->token) == 0)
			r = bad(c, "the list of uploads would go on where it began");
		if (r == 0)
			r = page_set_token(u.listing, token.p);
	}
	str_free(&token);
	free(u.next_key);
	free(u.next_upload);
	return r;
}

static int reply_parts(struct s3_call *c)
{
	int r = s3xml_parts(c->h.text.p, c->h.text.len, &c->req->listing);

	return r == -EBADMSG ? bad(c, "the list of parts cannot be understood") : r;
}

static int reply_create(struct s3_call *c)
{
	int r = s3xml_create(c->h.text.p, c->h.text.len, &c->req->ret_upload_id);

	return r == -EBADMSG ? bad(c, "the new upload's id cannot be understood") : r;
}

/* The etag as S3 computes it from its parts, for a Complete that did not say. */
static int compute_etag(struct s3_call *c)
{
	const char **tags = calloc(c->req->nparts, sizeof(*tags));
	int r;

	if (tags == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->req->nparts; i++)
		tags[i] = c->req->parts[i].etag;
	r = sign_multipart_etag(tags, c->req->nparts, c->req->etag);
	free(tags);
	return r;
}

/*
 * HEAD after a Complete without etag. It is done in any case; the question is only whether what HEAD shows is ours: the
 * nonce says so. If somebody has replaced it already, the etag that ours had is computed from its parts, so that a later
 * condition on it fails as it should.
 */
static int reply_head_complete(struct s3_call *c)
{
	struct objreq *req = c->req;
	const char *v = http_header(&c->h, STORE_NONCE_HEADER);
	bool ours = c->h.code == 200 && c->h.length >= 0 &&
		    (req->nonce[0] == '\0' || (v != NULL && strcmp(v, req->nonce) == 0));
	int r;

	req->maybe_done = false;
	if (ours && take_etag(c) == 0) {
		req->size = (uint64_t)c->h.length;
		v = http_header(&c->h, "last-modified");
		if (v != NULL && http_date(v, &req->mtime_s) < 0)
			req->mtime_s = 0;
		return 0;
	}
	r = compute_etag(c);
	return r == 0 || r == -ENOMEM ? r : bad(c, "completed, but its etag cannot be found out");
}

static enum s3_next reply_complete(struct s3_call *c, int *ret_status)
{
	struct s3_error e = {0};
	int r = s3xml_complete(c->h.text.p, c->h.text.len, c->req->etag, &e);

	*ret_status = r;
	if (r == -EREMOTEIO)
		*ret_status = error_in_success(c, &e);
	else if (r == -EBADMSG)
		*ret_status = bad(c, "the result of the multipart upload cannot be understood");
	else if (r == 0 && c->req->etag[0] == '\0') {
		c->step = S3_HEAD_COMPLETE;
		c->req->maybe_done = true; /* until the etag is known */
		return S3_SEND_AGAIN;
	}
	return S3_FINISH;
}

/* --- DELETE_MANY -------------------------------------------------------------------------------------------------- */

/* Remembers the first failure; the other keys go on. */
static void note_failure(struct s3_call *c, int status)
{
	if (status == 0 || c->first_status != 0)
		return;
	c->first_status = status;
	c->first_err = c->req->err;
}

/* After the batch or a single key: the next one that needs a request of its own, or the end. */
static enum s3_next next_delete(struct s3_call *c, size_t from, int *ret_status)
{
	struct objreq *req = c->req;

	while (from < req->nkeys && s3_can_batch(req->keys[from]))
		from++;
	if (from < req->nkeys) {
		c->step = S3_DELETE_ONE;
		c->next_key = from;
		c->resent = 0;
		return S3_SEND_AGAIN;
	}
	*ret_status = c->first_status;
	if (c->first_status != 0)
		req->err = c->first_err;
	return S3_FINISH;
}

static enum s3_next reply_delete_many(struct s3_call *c, int *ret_status)
{
	struct s3_error e = {0};
	char key[128], msg[sizeof(c->req->err.msg)];
	bool failed = false;
	int r = s3xml_delete(c->h.text.p, c->h.text.len, &failed, &e, key, sizeof(key));

	if (r == -EREMOTEIO) {
		r = error_in_success(c, &e);
	} else if (r == -EBADMSG) {
		r = bad(c, "the result cannot be understood");
	} else if (r == 0 && failed) {
		r = s3_map_error(c, 200, &e);
		(void)snprintf(msg, sizeof(msg), "key %s: %.100s", key, c->req->err.msg);
		objerr_set(&c->req->err, "%s", msg);
	}
	note_failure(c, r);
	return next_delete(c, 0, ret_status);
}

/* --- failures ----------------------------------------------------------------------------------------------------- */

/* Another region: kept for all. A store may be asked to change its mind twice, not for ever. */
static bool learn_region(struct s3_call *c, const struct s3_error *e)
{
	char region[S3_REGION_MAX];

	if (c->h.code != 301 && c->h.code != 307 && c->h.code != 400)
		return false;
	if (c->regions >= 2 || !s3_region_hint(c, e, region) || strcmp(region, c->region) == 0)
		return false;
	c->regions++;
	mtx_lock(&c->s->lock);
	memcpy(c->s->region, region, sizeof(region));
	mtx_unlock(&c->s->lock);
	log_debug("bucket %s is in region %s", c->s->bucket, region);
	return true;
}

/* Our clock is off: sign by the server's from now on. HEAD replies have no body, so there the Date itself must tell. */
static bool learn_skew(struct s3_call *c, const struct s3_error *e)
{
	int64_t skew = c->req->date_s - clock_real_ns() / NSEC_PER_SEC;
	int64_t off = skew - c->skew_s; /* not s->skew_s: another reply may have changed that since this one was signed */
	bool said = strcmp(e->code, "RequestTimeTooSkewed") == 0;
	bool guessed = c->h.code == 403 && e->code[0] == '\0' && (off > S3_SKEW_WORTH_S || off < -S3_SKEW_WORTH_S);

	if ((c->resent & S3_RE_SKEW) != 0 || c->req->date_s == 0 || (!said && !guessed))
		return false;
	if (off > -S3_SKEW_LEAST_S && off < S3_SKEW_LEAST_S) /* signed by that clock already: another sending is no better */
		return false;
	c->resent |= S3_RE_SKEW;
	atomic_store(&c->s->skew_s, skew);
	if (!atomic_exchange(&c->s->skew_said, true))
		log_warn("this host's clock is %lld s %s the store's: corrected for signatures, please set it",
			 (long long)(skew < 0 ? -skew : skew), skew < 0 ? "ahead of" : "behind");
	return true;
}

static bool learn_keys(struct s3_call *c, const struct s3_error *e)
{
	static const char *const codes[] = {"ExpiredToken", "InvalidToken",	     "InvalidAccessKeyId",
					    "TokenRefreshRequired", "SignatureDoesNotMatch"};
	bool ours = strcmp(c->method, "HEAD") == 0 && (c->h.code == 403 || c->h.code == 401); /* no body, no code */

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		ours |= strcmp(e->code, codes[i]) == 0;
	if (!ours || (c->resent & S3_RE_CREDS) != 0 || !creds_refused(c->s->creds, c->key_gen))
		return false;
	c->resent |= S3_RE_CREDS;
	return true;
}

/* Absent things that were to be removed. */
static bool is_gone_well(const struct s3_call *c, const struct s3_error *e)
{
	bool silent = e->code[0] == '\0' && c->h.text.len == 0; /* a page of some other web server does not count */
	enum obj_op op = c->req->op;

	if (c->h.code != 404 || strcmp(e->code, "NoSuchBucket") == 0)
		return false;
	if (op == OBJ_MPU_ABORT)
		return silent || strcmp(e->code, "NoSuchUpload") == 0 || strcmp(e->code, "NoSuchKey") == 0;
	return (op == OBJ_DELETE || c->step == S3_DELETE_ONE) && (silent || strcmp(e->code, "NoSuchKey") == 0);
}

static enum s3_next reply_error(struct s3_call *c, int *ret_status)
{
	struct objreq *req = c->req;
	struct s3_error e;
	bool reads = req->op == OBJ_GET || req->op == OBJ_HEAD;

	if (c->h.code == 304 && reads && req->if_none_match != NULL) {
		req->not_modified = true;
		*ret_status = 0;
		return S3_FINISH;
	}
	s3_read_error(c, &e);
	if (learn_region(c, &e) || learn_skew(c, &e) || learn_keys(c, &e))
		return S3_SEND_AGAIN;
	if (c->h.code == 416 && req->op == OBJ_GET && c->step == S3_MAIN && req->off == 0) {
		c->step = S3_HEAD_EMPTY;
		return S3_SEND_AGAIN;
	}
	*ret_status = is_gone_well(c, &e) ? 0 : s3_map_error(c, c->h.code, &e);
	return S3_FINISH;
}

static enum s3_next reply_ok(struct s3_call *c, int *ret_status)
{
	switch (c->req->op) {
	case OBJ_GET:
		*ret_status = c->h.buf != NULL ? reply_get(c) : reply_head(c);
		break;
	case OBJ_HEAD:
		*ret_status = reply_head(c);
		break;
	case OBJ_PUT:
	case OBJ_MPU_PART:
		*ret_status = reply_put(c);
		break;
	case OBJ_COPY:
	case OBJ_MPU_COPY_PART:
		*ret_status = reply_copy(c);
		break;
	case OBJ_LIST:
		*ret_status = reply_list(c);
		break;
	case OBJ_MPU_LIST:
		*ret_status = c->req->upload_id != NULL ? reply_parts(c) : reply_uploads(c);
		break;
	case OBJ_MPU_CREATE:
		*ret_status = reply_create(c);
		break;
	case OBJ_MPU_COMPLETE:
		return reply_complete(c, ret_status);
	default: /* DELETE, ABORT */
		*ret_status = 0;
		break;
	}
	return S3_FINISH;
}

enum s3_next s3_reply(struct s3_call *c, int *ret_status)
{
	bool ok = c->h.code >= 200 && c->h.code <= 299;
	enum s3_next next;

	if (c->step == S3_HEAD_COMPLETE) {
		*ret_status = reply_head_complete(c);
		return S3_FINISH;
	}
	if (ok && c->req->op == OBJ_DELETE_MANY && c->step == S3_MAIN)
		return reply_delete_many(c, ret_status);
	next = ok ? reply_ok(c, ret_status) : reply_error(c, ret_status);
	if (c->step == S3_DELETE_ONE && next == S3_FINISH) {
		note_failure(c, *ret_status);
		next = next_delete(c, c->next_key + 1, ret_status);
	}
	return next;
}
