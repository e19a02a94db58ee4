/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * aws.c - AWS mode: what AWS promises and test servers do not.
 *
 *	PUT, Complete, COPY (destination)	If-Match, If-None-Match:*	412, 404 when If-Match finds nothing
 *	COPY (source)				x-amz-copy-source-if-(none-)match
 *	DELETE					If-Match
 *	LIST, COPY replies			times in whole seconds, ETags quoted
 *	multipart				LastModified = when it was begun; the reply to Complete names an ETag
 *	copy of a multipart object		a new ETag that is not the source's
 *	kms					every PUT, COPY and Complete gives an ETag that is no MD5
 *	user metadata				2 KB, else 400
 *	DeleteObjects				without Content-MD5 or checksum: 400
 *	equal_parts				parts of different sizes: 400 InvalidPart (as R2)
 *
 * A condition is checked by a HEAD under a lock of the key, held until the server has answered the change, so checking
 * and changing are one step for all clients of this front. The request's body is read before. The conditions are then
 * taken out of the request, which is signed again. LIST and DeleteObjects exclude every change. A request whose
 * signature is not ours goes on unaltered: the server shall refuse it.
 */
#include "front.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define NLOCKS 1024

static pthread_rwlock_t all;
static pthread_mutex_t locks[NLOCKS];

void aws_init(void)
{
	pthread_rwlockattr_t a;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); /* LIST must not starve */
	pthread_rwlock_init(&all, &a);
	for (size_t i = 0; i < NLOCKS; i++)
		pthread_mutex_init(&locks[i], NULL);
}

static char *object_id(const char *bucket, const char *key)
{
	struct buf b = { 0 };

	buf_addf(&b, "%s/%s", bucket, key);
	return b.p;
}

static void lock_objects(struct xfer *x, const char *id, const char *id2)
{
	int a = (int)(fnv(id) % NLOCKS), b = id2 ? (int)(fnv(id2) % NLOCKS) : a;

	pthread_rwlock_rdlock(&all);
	x->locked_all = true;
	x->lock[0] = a < b ? a : b;
	x->lock[1] = a == b ? -1 : a < b ? b : a;
	pthread_mutex_lock(&locks[x->lock[0]]);
	if (x->lock[1] >= 0)
		pthread_mutex_lock(&locks[x->lock[1]]);
}

void aws_unlock(struct xfer *x)
{
	if (x->lock[1] >= 0)
		pthread_mutex_unlock(&locks[x->lock[1]]);
	if (x->lock[0] >= 0)
		pthread_mutex_unlock(&locks[x->lock[0]]);
	if (x->locked_all)
		pthread_rwlock_unlock(&all);
	x->lock[0] = x->lock[1] = -1;
	x->locked_all = false;
}

bool aws_wants_body(const struct xfer *x)
{
	return x->op == OP_PUT || x->op == OP_COMPLETE || x->op == OP_DELETE_MANY || x->op == OP_COPY;
}

bool aws_wants_reply(const struct xfer *x)
{
	return x->op == OP_LIST || x->op == OP_COPY || x->op == OP_COMPLETE || x->op == OP_MPU_CREATE;
}

/* --- conditions --- */

static void unquote(const char *v, char out[ETAG_LEN])
{
	size_t n;

	if (!strncmp(v, "W/", 2))
		v += 2;
	v += *v == '"';
	n = strcspn(v, "\"");
	snprintf(out, ETAG_LEN, "%.*s", (int)(n < ETAG_LEN ? n : ETAG_LEN - 1), v);
}

static bool etag_is(const char *cond, const char *shown)
{
	char c[ETAG_LEN];

	unquote(cond, c);
	return !strcmp(c, "*") || !strcmp(c, shown);
}

/* True: the answer stands (a condition failed, or the object could not be asked). */
static bool condition_failed(struct xfer *x, const char *bucket, const char *key, const char *match, const char *none,
			     char real[ETAG_LEN])
{
	char shown[ETAG_LEN], *id = object_id(bucket, key);
	int status = 0, rc;
	int64_t mtime, size;

	rc = upstream_head(x, bucket, key, real, &size, &status);
	if (rc < 0 || (status != 200 && status != 404)) {
		answer_error(x, rc < 0 ? 503 : status == 403 ? 403 : 500, rc < 0 ? "SlowDown" : "InternalError",
			     "the front could not ask the server");
		free(id);
		return true;
	}
	overlay_show(id, status == 200 ? real : "", shown, &mtime);
	free(id);
	if (status == 404) {
		real[0] = 0;
		if (match)
			answer_error(x, 404, "NoSuchKey", "The specified key does not exist.");
		return match != NULL;
	}
	if ((match && !etag_is(match, shown)) || (none && etag_is(none, shown))) {
		answer_error(x, 412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
		return true;
	}
	return false;
}

static bool check_target(struct xfer *x)
{
	const char *match = head_get(&x->req, "if-match"), *none = head_get(&x->req, "if-none-match");
	char real[ETAG_LEN];

	if (!match && !none)
		return false;
	if (none && strcmp(none, "*") != 0) {
		answer_error(x, 501, "NotImplemented", "If-None-Match takes * only");
		return true;
	}
	if (condition_failed(x, x->bucket, x->key, match, none, real))
		return true;
	head_set(&x->req, "if-match", NULL);
	head_set(&x->req, "if-none-match", NULL);
	sign_again(x);
	return false;
}

/* "/bucket/key?versionId=..." as the header has it */
static void copy_source(const struct xfer *x, char **ret_bucket, char **ret_key)
{
	const char *v = head_get(&x->req, "x-amz-copy-source");
	char *s = url_decode(v, strcspn(v, "?"), false), *p = s + (*s == '/'), *slash = strchr(p, '/');

	*ret_bucket = slash ? xstrndup(p, (size_t)(slash - p)) : xstrdup("");
	*ret_key = xstrdup(slash ? slash + 1 : "");
	free(s);
}

static bool check_copy(struct xfer *x)
{
	const char *match = head_get(&x->req, "x-amz-copy-source-if-match");
	const char *none = head_get(&x->req, "x-amz-copy-source-if-none-match");
	char *bucket, *key;
	bool answered;

	copy_source(x, &bucket, &key);
	answered = condition_failed(x, bucket, key, match, none, x->src_etag);
	free(bucket);
	free(key);
	if (!answered && (match || none)) {
		head_set(&x->req, "x-amz-copy-source-if-match", NULL);
		head_set(&x->req, "x-amz-copy-source-if-none-match", NULL);
		sign_again(x);
	}
	return answered || check_target(x);
}

/* A GET or HEAD asks by the etag that it was shown. */
static void translate(struct xfer *x, const char *id, const char *name)
{
	const char *v = head_get(&x->req, name);
	char shown[ETAG_LEN], real[ETAG_LEN + 2], q[ETAG_LEN + 4];

	if (!v || strchr(v, ',') || *v == '*')
		return;
	unquote(v, shown);
	overlay_real(id, shown, real);
	snprintf(x->cond_etag, ETAG_LEN, "%s", shown);
	if (!strcmp(shown, real))
		return;
	snprintf(q, sizeof(q), "\"%s\"", real);
	head_set(&x->req, name, q);
	sign_again(x);
}

/* --- limits --- */

static bool check_limits(struct xfer *x)
{
	size_t meta = 0;

	if (x->op == OP_DELETE_MANY && !head_get(&x->req, "content-md5")) {
		bool sum = false;

		for (size_t i = 0; i < x->req.n; i++)
			sum |= !strncasecmp(x->req.h[i].name, "x-amz-checksum-", 15);
		if (!sum) {
			answer_error(x, 400, "InvalidRequest", "Missing required header for this request: Content-MD5");
			return true;
		}
	}
	if (x->op != OP_PUT && x->op != OP_COPY && x->op != OP_MPU_CREATE)
		return false;
	for (size_t i = 0; i < x->req.n; i++)
		if (!strncasecmp(x->req.h[i].name, "x-amz-meta-", 11))
			meta += strlen(x->req.h[i].name) - 11 + strlen(x->req.h[i].value);
	if (meta <= 2048)
		return false;
	answer_error(x, 400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size");
	return true;
}

static bool check_parts(struct xfer *x)
{
	unsigned numbers[10000];
	size_t n = 0;

	if (!conf.equal_parts || !x->body.p)
		return false;
	for (const char *p = x->body.p; n < ARRAY_SIZE(numbers) && (p = strstr(p, "<PartNumber>")); p += 12)
		numbers[n++] = (unsigned)atoi(p + 12);
	if (!n || upload_equal(xfer_query(x, "uploadId"), numbers, n))
		return false;
	answer_error(x, 400, "InvalidPart", "All non-trailing parts must have the same length.");
	return true;
}

bool aws_before(struct xfer *x)
{
	char *id, *sb = NULL, *sk = NULL, *id2 = NULL;
	bool answered = false;

	x->lock[0] = x->lock[1] = -1;
	if (head_get(&x->req, "authorization") && !sign_verify(x)) {
		x->aws = false;
		return false;
	}
	if (check_limits(x) || (x->op == OP_COMPLETE && check_parts(x)))
		return true;
	id = object_id(x->bucket, x->key);
	switch (x->op) {
	case OP_LIST:
	case OP_DELETE_MANY:
		pthread_rwlock_wrlock(&all);
		x->locked_all = true;
		break;
	case OP_GET:
	case OP_HEAD:
		lock_objects(x, id, NULL);
		translate(x, id, "if-match");
		translate(x, id, "if-none-match");
		break;
	case OP_COPY:
		copy_source(x, &sb, &sk);
		id2 = object_id(sb, sk);
		lock_objects(x, id, id2);
		answered = check_copy(x);
		break;
	case OP_PUT:
	case OP_COMPLETE:
	case OP_DELETE:
		lock_objects(x, id, NULL);
		answered = check_target(x);
		break;
	default:
		break;
	}
	free(id);
	free(id2);
	free(sb);
	free(sk);
	return answered;
}

/* --- replies --- */

/* The text between <tag> and </tag> from p on, or NULL. */
static const char *element(const char *p, const char *end, const char *tag, size_t *ret_n)
{
	char open[64], close[64];
	const char *a, *b;

	snprintf(open, sizeof(open), "<%s>", tag);
	snprintf(close, sizeof(close), "</%s>", tag);
	a = memmem(p, (size_t)(end - p), open, strlen(open));
	if (!a)
		return NULL;
	a += strlen(open);
	b = memmem(a, (size_t)(end - a), close, strlen(close));
	if (!b)
		return NULL;
	*ret_n = (size_t)(b - a);
	return a;
}

static char *xml_text(const char *p, size_t n)
{
	static const char *const ent[][2] = { { "&amp;", "&" }, { "&lt;", "<" }, { "&gt;", ">" }, { "&quot;", "\"" },
					      { "&apos;", "'" } };
	char *out = xmalloc(n + 1), *o = out;

	while (n) {
		size_t skip = 0;

		for (size_t i = 0; i < ARRAY_SIZE(ent) && !skip; i++) {
			if (n >= strlen(ent[i][0]) && !strncmp(p, ent[i][0], strlen(ent[i][0]))) {
				*o++ = ent[i][1][0];
				skip = strlen(ent[i][0]);
			}
		}
		if (!skip) {
			*o++ = *p;
			skip = 1;
		}
		p += skip;
		n -= skip;
	}
	*o = 0;
	return out;
}

static void iso_time(struct buf *b, int64_t s)
{
	time_t t = (time_t)s;
	struct tm tm;
	char text[40];

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
	buf_adds(b, text);
}

/* Copies an entry, with LastModified and ETag as AWS would have them. id NULL: whole seconds only. */
static void rewrite_entry(struct buf *out, const char *p, const char *end, const char *id, const char *forced_etag)
{
	size_t en = 0, tn = 0;
	const char *e = element(p, end, "ETag", &en), *t = element(p, end, "LastModified", &tn);
	char shown[ETAG_LEN] = "", real[ETAG_LEN];
	int64_t mtime = 0;

	if (e) {
		char *text = xml_text(e, en);

		unquote(text, real);
		free(text);
		if (forced_etag)
			snprintf(shown, ETAG_LEN, "%s", forced_etag);
		else if (id)
			overlay_show(id, real, shown, &mtime);
	}
	while (p < end) {
		if (t && p == t) {
			if (mtime)
				iso_time(out, mtime);
			else
				buf_addf(out, "%.*s.000Z", (int)(tn < 19 ? tn : 19), t);
			p += tn;
		} else if (e && p == e && shown[0]) {
			buf_addf(out, "&quot;%s&quot;", shown);
			p += en;
		} else {
			const char *stop = end;

			if (t && t > p)
				stop = t;
			if (e && e > p && e < stop)
				stop = e;
			if (p == e || p == t)
				stop = p + 1;
			buf_add(out, p, (size_t)(stop - p));
			p = stop;
		}
	}
}

static void rewrite_list(struct xfer *x)
{
	const char *p = x->out.p, *end = p + x->out.len;
	const char *coded = xfer_query(x, "encoding-type");
	struct buf out = { 0 };

	while (p && p < end) {
		static const char open[] = "<Contents>", close[] = "</Contents>";
		const char *a = memmem(p, (size_t)(end - p), open, strlen(open)), *b, *k;
		char *key, *text, *id;
		size_t kn;

		b = a ? memmem(a, (size_t)(end - a), close, strlen(close)) : NULL;
		k = b ? element(a, b, "Key", &kn) : NULL;
		if (!k)
			break;
		text = xml_text(k, kn);
		key = coded ? url_decode(text, strlen(text), true) : xstrdup(text);
		id = object_id(x->bucket, key);
		buf_add(&out, p, (size_t)(a - p));
		rewrite_entry(&out, a, b, id, NULL);
		free(id);
		free(key);
		free(text);
		p = b;
	}
	if (p && p < end)
		buf_add(&out, p, (size_t)(end - p));
	buf_free(&x->out);
	x->out = out;
}

static void set_etag(struct head *h, const char *etag)
{
	char q[ETAG_LEN + 4];

	snprintf(q, sizeof(q), "\"%s\"", etag);
	head_set(h, "ETag", q);
}

static int64_t reply_date(const struct head *h)
{
	const char *v = head_get(h, "date");
	struct tm tm = { 0 };

	return v && strptime(v, "%a, %d %b %Y %H:%M:%S", &tm) ? timegm(&tm) : time(NULL);
}

static void after_read(struct xfer *x, const char *id)
{
	const char *v = head_get(&x->rep, "etag");
	char real[ETAG_LEN], shown[ETAG_LEN], date[64];
	int64_t mtime;
	struct tm tm;
	time_t t;

	if (x->rep.status == 304 && x->cond_etag[0])
		set_etag(&x->rep, x->cond_etag);
	if (!v || x->rep.status / 100 != 2)
		return;
	unquote(v, real);
	overlay_show(id, real, shown, &mtime);
	set_etag(&x->rep, shown);
	if (!mtime)
		return;
	t = (time_t)mtime;
	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	head_set(&x->rep, "Last-Modified", date);
}

static void after_put(struct xfer *x, const char *id)
{
	const char *v = head_get(&x->rep, "etag");
	char real[ETAG_LEN], shown[ETAG_LEN];

	overlay_drop(id);
	if (!v)
		return;
	unquote(v, real);
	snprintf(shown, ETAG_LEN, "%s", real);
	if (conf.kms) {
		random_etag(shown);
		overlay_set(id, real, shown, 0);
	}
	set_etag(&x->rep, shown);
}

static void after_copy(struct xfer *x, const char *id)
{
	char shown[ETAG_LEN];
	struct buf out = { 0 };

	if (memmem(x->out.p ? x->out.p : "", x->out.len, "<Error>", 7))
		return;
	overlay_drop(id);
	snprintf(shown, ETAG_LEN, "%s", x->src_etag);
	if (conf.kms || strchr(x->src_etag, '-')) {
		random_etag(shown);
		overlay_set(id, x->src_etag, shown, 0);
	}
	rewrite_entry(&out, x->out.p, x->out.p + x->out.len, NULL, shown);
	buf_free(&x->out);
	x->out = out;
}

static void after_complete(struct xfer *x, const char *id)
{
	const char *upload = xfer_query(x, "uploadId");
	char real[ETAG_LEN], shown[ETAG_LEN] = "";
	int64_t start, size;
	int status = 0;
	struct buf b = { 0 };

	if (memmem(x->out.p ? x->out.p : "", x->out.len, "<Error>", 7) ||
	    upstream_head(x, x->bucket, x->key, real, &size, &status) < 0 || status != 200)
		return;
	start = upload_start(upload);
	if (conf.kms)
		random_etag(shown);
	if (start) /* a repeated Complete changes nothing */
		overlay_set(id, real, shown, start);
	else
		overlay_show(id, real, shown, &start);
	buf_adds(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUploadResult "
		     "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>");
	buf_addf(&b, "%s</Bucket><Key>", x->bucket);
	url_encode(&b, x->key, true);
	buf_addf(&b, "</Key><ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>", shown[0] ? shown : real);
	buf_free(&x->out);
	x->out = b;
	upload_drop(upload);
}

static void after_part(struct xfer *x)
{
	const char *range = head_get(&x->req, "x-amz-copy-source-range");
	long long a = 0, b = -1, size = x->req.length;

	if (range && sscanf(range, "bytes=%lld-%lld", &a, &b) == 2)
		size = b - a + 1;
	upload_part(xfer_query(x, "uploadId"), (unsigned)atoi(xfer_query(x, "partNumber")), size);
}

void aws_after(struct xfer *x)
{
	char *id = object_id(x->bucket, x->key);
	bool ok = x->rep.status / 100 == 2;
	size_t n;

	if (x->op == OP_GET || x->op == OP_HEAD)
		after_read(x, id);
	else if (x->op == OP_LIST && ok)
		rewrite_list(x);
	else if (x->op == OP_PUT && ok)
		after_put(x, id);
	else if (x->op == OP_COPY && ok)
		after_copy(x, id);
	else if (x->op == OP_COMPLETE && ok)
		after_complete(x, id);
	else if (x->op == OP_DELETE && ok)
		overlay_drop(id);
	else if ((x->op == OP_MPU_PART || x->op == OP_MPU_COPY_PART) && ok)
		after_part(x);
	else if (x->op == OP_ABORT && ok)
		upload_drop(xfer_query(x, "uploadId"));
	if (x->op == OP_MPU_CREATE && ok && x->out.p) {
		const char *u = element(x->out.p, x->out.p + x->out.len, "UploadId", &n);

		if (u) {
			char *text = xml_text(u, n);

			upload_add(text, reply_date(&x->rep));
			free(text);
		}
	}
	free(id);
}
