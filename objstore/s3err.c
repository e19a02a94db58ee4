/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3err.c - what went wrong, as errno and in words that say what to do.
 *
 * The S3 code decides; the HTTP status only where there is no code (HEAD has no body) or none that we know. A 404 whose
 * body is something else than S3's XML is not believed: some other web server has answered, and "absent" from it could
 * make somebody write over an object. Source: S3 API Reference "Error Responses"; codes of Ceph RGW and Swift as seen.
 */
#include "config.h"
#include "s3-private.h"
#include <stdio.h>
#include <string.h>

struct known {
	const char *code;
	int status;
	const char *words; /* NULL = the server's message */
};

static const struct known known[] = {
	{"NoSuchKey", -ENOENT, "no such object"},
	{"NoSuchUpload", -ENOENT, "no such multipart upload"},
	{"NoSuchVersion", -ENOENT, "no such version"},
	{"NoSuchBucket", -ENODEV, "no such bucket"},
	{"InvalidBucketName", -ENODEV, "the store does not accept this bucket name"},
	{"AccessDenied", -EACCES, NULL},
	{"InvalidAccessKeyId", -EACCES, "the store does not know this access key"},
	{"SignatureDoesNotMatch", -EACCES, "wrong secret key (signature does not match)"},
	{"ExpiredToken", -EACCES, "the session token has expired"},
	{"TokenRefreshRequired", -EACCES, "the session token has expired"},
	{"InvalidToken", -EACCES, "the session token is wrong"},
	{"AuthorizationHeaderMalformed", -EACCES, "wrong region: set region="},
	{"RequestTimeTooSkewed", -EACCES, "the store finds this host's clock wrong: set it (NTP)"},
	{"InvalidObjectState", -EACCES, "the object is archived: restore it first"},
	{"AllAccessDisabled", -EACCES, "the store has disabled access to this bucket"},
	{"AccountProblem", -EACCES, "there is a problem with the account"},
	{"UserSuspended", -EACCES, "the user is suspended"},
	{"NotSignedUp", -EACCES, "the account is not signed up for this service"},
	{"QuotaExceeded", -EDQUOT, "quota exceeded"},
	{"TooManyObjects", -EDQUOT, "quota exceeded"},
	{"InsufficientStorage", -ENOSPC, "the store is full"},
	{"XMinioStorageFull", -ENOSPC, "the store is full"},
	{"PreconditionFailed", -ESTALE, "a condition did not hold"},
	{"InvalidRange", -ERANGE, "range behind the end"},
	{"KeyTooLongError", -ENAMETOOLONG, "key too long"},
	{"SlowDown", -EAGAIN, "the store asks to slow down"},
	{"ServiceUnavailable", -EAGAIN, "the store is busy"},
	{"ServerBusy", -EAGAIN, "the store is busy"},
	{"Busy", -EAGAIN, "the store is busy"},
	{"TooManyRequests", -EAGAIN, "the store asks to slow down"},
	{"RequestLimitExceeded", -EAGAIN, "the store asks to slow down"},
	{"RequestTimeout", -EAGAIN, "the store did not get the body in time"},
	{"InternalError", -EAGAIN, "internal error of the store"},
	{"OperationAborted", -EAGAIN, "another change is under way"},
	{"ConditionalRequestConflict", -EAGAIN, "another change is under way"},
	/* the body was damaged on its way: worth another try */
	{"BadDigest", -EAGAIN, "the body arrived damaged"},
	{"IncompleteBody", -EAGAIN, "the body arrived cut"},
	{"XAmzContentSHA256Mismatch", -EAGAIN, "the body arrived damaged"},
	{"EntityTooLarge", -EFBIG, "too large for one request"},
	{"EntityTooSmall", -EINVAL, "a part of the upload is too small"},
	{"InvalidPart", -EINVAL, "a part of the upload is missing"},
	{"InvalidPartOrder", -EINVAL, "parts out of order"},
	{"MetadataTooLarge", -EINVAL, "more metadata than the store takes"},
	{"NotImplemented", -ENOTSUP, "the store cannot do this"},
	{"MethodNotAllowed", -ENOTSUP, "the store does not allow this"},
};

static const char *const rights[OBJ_NOPS] = {
	[OBJ_GET] = "s3:GetObject",
	[OBJ_HEAD] = "s3:GetObject",
	[OBJ_PUT] = "s3:PutObject",
	[OBJ_DELETE] = "s3:DeleteObject",
	[OBJ_DELETE_MANY] = "s3:DeleteObject",
	[OBJ_COPY] = "s3:GetObject and s3:PutObject",
	[OBJ_LIST] = "s3:ListBucket",
	[OBJ_MPU_CREATE] = "s3:PutObject",
	[OBJ_MPU_PART] = "s3:PutObject",
	[OBJ_MPU_COPY_PART] = "s3:GetObject and s3:PutObject",
	[OBJ_MPU_COMPLETE] = "s3:PutObject",
	[OBJ_MPU_ABORT] = "s3:AbortMultipartUpload",
	[OBJ_MPU_LIST] = "s3:ListBucketMultipartUploads",
};

const char *s3_shown(const char *key, char *buf, size_t cap)
{
	size_t i = 0;

	for (; key != NULL && key[i] != '\0' && i < cap - 1; i++)
		buf[i] = (unsigned char)key[i] < 0x20 || key[i] == 0x7f ? '?' : key[i];
	buf[i] = '\0';
	return buf;
}

const char *s3_asked(const struct s3_call *c, char *buf, size_t cap)
{
	const char *key = c->key != NULL ? c->key : c->req->key != NULL ? c->req->key : "";
	int n = snprintf(buf, cap, "%s%s", obj_op_name[c->req->op], key[0] != '\0' ? " " : "");

	(void)s3_shown(key, buf + n, cap - (size_t)n);
	return buf;
}

void s3_read_error(struct s3_call *c, struct s3_error *e)
{
	const char *id;

	*e = (struct s3_error){0};
	if (c->h.text.len > 0 && s3xml_error(c->h.text.p, c->h.text.len, e) < 0)
		*e = (struct s3_error){0};
	id = http_header(&c->h, "x-amz-request-id");
	if (id != NULL && e->request_id[0] == '\0')
		(void)snprintf(e->request_id, sizeof(e->request_id), "%s", id);
	str_make_printable(e->request_id);
}

/* Without a code. */
static const struct known *by_status(struct s3_call *c)
{
	static const struct known gone = {"", -ENOENT, "not found"}, denied = {"", -EACCES, NULL},
				  foreign = {"", -EBADMSG, "404, but not from an S3 server: check endpoint="},
				  busy = {"", -EAGAIN, "the store is busy"}, stale = {"", -ESTALE, "a condition did not hold"},
				  range = {"", -ERANGE, "range behind the end"}, no = {"", -ENOTSUP, "the store cannot do this"},
				  full = {"", -ENOSPC, "the store is full"}, big = {"", -EFBIG, "too large for one request"},
				  odd = {"", -EINVAL, NULL}, elsewhere = {"", -EINVAL, "the bucket is served elsewhere: set endpoint= or region="},
				  strange = {"", -EBADMSG, "a reply that S3 does not know"};
	int http = c->h.code;

	switch (http) {
	case 301:
	case 302:
	case 307:
	case 308:
		return &elsewhere;
	case 401:
	case 403:
		return &denied;
	case 404:
		return c->h.text.len == 0 ? &gone : &foreign;
	case 405:
	case 501:
		return &no;
	case 408:
	case 409:
	case 425:
	case 429:
		return &busy;
	case 412:
		return &stale;
	case 413:
		return &big;
	case 416:
		return &range;
	case 507:
		return &full;
	default:
		break;
	}
	if (http >= 500)
		return &busy;
	return http >= 400 ? &odd : &strange;
}

/* Codes that stand for something else on some servers, and codes that we do not know: the status is surer. */
static const struct known *find_known(struct s3_call *c, int http, const struct s3_error *e)
{
	static const struct known too_long = {"", -ENAMETOOLONG, "the store does not take such a long key"},
				  stale = {"", -ESTALE, "a condition did not hold"}, io = {"", -EIO, NULL},
				  odd = {"", -EINVAL, NULL}, gone = {"", -ENOENT, NULL};

	if (http == 412) /* Swift says InvalidRequest */
		return &stale;
	if (strcmp(e->code, "InvalidObjectName") == 0 || strcmp(e->code, "InvalidURI") == 0)
		return c->key != NULL && strlen(c->key) > 255 ? &too_long : &odd;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(e->code, known[i].code) == 0)
			return &known[i];
	if (http == 404)
		return e->code[0] != '\0' ? &gone : by_status(c);
	return http >= 200 && http <= 299 ? &io : by_status(c);
}

/* Where the refused right is missing: the directory of the key. */
static void say_denied(struct s3_call *c, const char *shown, const struct s3_error *e)
{
	struct objreq *req = c->req;
	const char *slash = strrchr(shown, '/');
	int n = slash != NULL ? (int)(slash - shown) + 1 : 0;

	if (req->op == OBJ_LIST || req->op == OBJ_MPU_LIST)
		n = (int)strlen(shown);
	objerr_set(&req->err, "%s: access denied%s: the credentials need %s on %s/%.*s*", obj_op_name[req->op],
		   e->code[0] != '\0' ? "" : " (or a wrong key)", rights[req->op], c->s->bucket, MIN(n, 100), shown);
}

/* A change that failed like this may have happened all the same. */
static bool leaves_open(int http, const struct s3_error *e)
{
	if (http == 408 || (http >= 500 && http != 501 && http != 507))
		return strcmp(e->code, "SlowDown") != 0;
	return false;
}

/*
 * Cloudflare R2 wants parts of one size and tells so only when an upload is completed. There is nothing to ask for it
 * beforehand but 10 MiB of trial parts: learnt from the refusal, after which the caller makes another upload.
 */
static bool wants_equal_parts(const struct s3_call *c, const struct s3_error *e)
{
	return c->req->op == OBJ_MPU_COMPLETE && strcmp(e->code, "InvalidPart") == 0 &&
	       strstr(e->message, "same length") != NULL;
}

int s3_map_error(struct s3_call *c, int http, const struct s3_error *e)
{
	const struct known *k = find_known(c, http, e);
	struct objreq *req = c->req;
	char buf[128], asked[128];
	const char *shown = s3_shown(c->key != NULL ? c->key : req->key, buf, sizeof(buf)), *words = k->words;

	if (wants_equal_parts(c, e)) {
		atomic_fetch_or(&c->s->base.caps, OBJ_CAP_EQUAL_PARTS);
		words = "the store wants parts of one size";
	}
	if (words == NULL)
		words = e->message[0] != '\0' ? e->message : e->code;
	req->err.http = http;
	(void)snprintf(req->err.code, sizeof(req->err.code), "%s", e->code);
	(void)snprintf(req->err.request_id, sizeof(req->err.request_id), "%s", e->request_id);
	if (k->status == -EACCES && (e->code[0] == '\0' || strcmp(e->code, "AccessDenied") == 0))
		say_denied(c, shown, e);
	else if (k->status == -ENODEV)
		objerr_set(&req->err, "bucket %s: %s", c->s->bucket, words);
	else if (e->endpoint[0] != '\0' && http >= 300 && http <= 399)
		objerr_set(&req->err, "bucket %s is served at %s: set endpoint=", c->s->bucket, e->endpoint);
	else
		objerr_set(&req->err, "%s: %s (%d%s%s)", s3_asked(c, asked, sizeof(asked)), words, http,
			   e->code[0] != '\0' ? " " : "", e->code);
	if (obj_op_writes(req->op) && leaves_open(http, e))
		req->maybe_done = true;
	return k->status;
}

void s3_say_network(struct s3_call *c, int status)
{
	struct objreq *req = c->req;
	char buf[64];

	if (req->err.msg[0] == '\0' && c->h.msg[0] != '\0')
		objerr_set(&req->err, "%s: %.180s", s3_asked(c, buf, sizeof(buf)), c->h.msg);
	if (obj_op_writes(req->op) && c->h.sent)
		req->maybe_done = true;
}

/* --- regions ------------------------------------------------------------------------------------------------------ */

/* A region becomes part of a host name that gets signed requests: nothing but its own characters may get there. */
static bool take_region(const char *s, size_t n, char *out)
{
	if (n == 0 || n >= S3_REGION_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-'))
			return false;
	memset(out, 0, S3_REGION_MAX);
	memcpy(out, s, n);
	return true;
}

/* "eu-west-1", "us-gov-east-1": s3-accelerate and s3-external-1 are no regions. */
static bool looks_like_region(const char *s, size_t n)
{
	unsigned dashes = 0;

	for (size_t i = 0; i < n; i++)
		dashes += s[i] == '-';
	return dashes >= 2 && n > 0 && s[n - 1] >= '0' && s[n - 1] <= '9';
}

bool s3_aws_region(const char *host, char *out)
{
	const char *end = strstr(host, ".amazonaws.com");

	if (end == NULL || (strcmp(end, ".amazonaws.com") != 0 && strcmp(end, ".amazonaws.com.cn") != 0) ||
	    host[0] != 's' || host[1] != '3')
		return false;
	if (end == host + 2) {
		out[0] = '\0';
		return true;
	}
	return (host[2] == '.' || host[2] == '-') && looks_like_region(host + 3, (size_t)(end - host) - 3) &&
	       take_region(host + 3, (size_t)(end - host) - 3, out);
}

/* "https://bucket.s3-eu-west-1.amazonaws.com/..." or "bucket.s3.eu-west-1.amazonaws.com", when we are at AWS. */
static bool region_of_location(struct s3_call *c, const char *loc, char *out)
{
	const char *p = strstr(loc, "://"), *s3;
	_cleanup_free_ char *host = NULL;

	if (c->s->host != NULL)
		return false;
	if (p != NULL && strncmp(loc, c->s->scheme, strlen(c->s->scheme)) != 0)
		return false;
	p = p != NULL ? p + 3 : loc;
	host = strndup(p, strcspn(p, "/:?"));
	if (host == NULL)
		return false;
	s3 = host;
	if (str_has_prefix(host, c->s->bucket) && host[strlen(c->s->bucket)] == '.')
		s3 += strlen(c->s->bucket) + 1;
	return s3_aws_region(s3, out) && out[0] != '\0';
}

bool s3_region_hint(struct s3_call *c, const struct s3_error *e, char *out)
{
	const char *v = http_header(&c->h, "x-amz-bucket-region");

	if (v != NULL && take_region(v, strlen(v), out))
		return true;
	if (take_region(e->region, strlen(e->region), out))
		return true;
	v = http_header(&c->h, "location");
	if (v != NULL && region_of_location(c, v, out))
		return true;
	return e->endpoint[0] != '\0' && region_of_location(c, e->endpoint, out);
}
