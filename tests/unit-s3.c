/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-s3.c - what the S3 store sends, and which answers need another request. s3test.h says how. */
#include "config.h"
#include "s3test.h"
#include <sched.h>
#include <time.h>
#include <unistd.h>

/* --- what goes out ------------------------------------------------------------------------------------------------ */

static void put_says_everything(void **state)
{
	static const struct step steps[] = {{200, ETAG, ""}};
	const struct obj_open_opts o = {.storage_class = "STANDARD_IA", .sse = "aws:kms:key/1", .requester_pays = true};
	const struct iovec iov[] = {{(void *)"hello ", 6}, {(void *)"world", 5}};
	struct obj_headers h = {0};
	struct objreq req;

	assert_int_equal(obj_headers_set(&h, "content-type", "text/plain"), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mode", "33188"), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-tagging-count", "3"), 0);
	open_store(steps, 1, &o);
	objreq_init(&req, OBJ_PUT, "a b/+%\xc3\xbc//~");
	req.iov = iov;
	req.iovcnt = 2;
	req.headers = &h;
	req.if_match = "abc";
	memcpy(req.nonce, "0123456789abcdef0123456789abcdef", 33);
	assert_int_equal(obj_do(store, &req), 0);
	assert_string_equal(req.etag, HEX);
	assert_int_equal(req.size, 11);
	expect_line(0, "PUT", "/bkt/a%20b/%2B%25%C3%BC//~");
	assert_string_equal(header(0, "content-type"), "text/plain");
	assert_string_equal(header(0, "x-amz-meta-mode"), "33188");
	assert_null(header(0, "x-amz-tagging-count"));
	assert_string_equal(header(0, "x-amz-meta-lsvd-put"), "0123456789abcdef0123456789abcdef");
	assert_string_equal(header(0, "if-match"), "\"abc\"");
	assert_string_equal(header(0, "x-amz-storage-class"), "STANDARD_IA");
	assert_string_equal(header(0, "x-amz-server-side-encryption"), "aws:kms");
	assert_string_equal(header(0, "x-amz-server-side-encryption-aws-kms-key-id"), "key/1");
	assert_string_equal(header(0, "x-amz-request-payer"), "requester");
	assert_string_equal(header(0, "content-md5"), "XrY7u+Ae7tCTyyK7j1rNww==");
	assert_string_equal(header(0, "x-amz-content-sha256"),
			    "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
	assert_string_equal(header(0, "content-length"), "11");
	assert_non_null(strstr(header(0, "authorization"), "Credential=AKTEST/"));
	assert_non_null(strstr(header(0, "authorization"),
			       "SignedHeaders=content-md5;content-type;host;if-match;x-amz-content-sha256;x-amz-date;"
			       "x-amz-meta-lsvd-put;x-amz-meta-mode;x-amz-request-payer;"));
	assert_null(strstr(script.seen[0].head, "SKTEST"));
	objreq_done(&req);
	obj_headers_free(&h);
	close_store();
}

static void unquoted_quirk_is_for_puts_only(void **state)
{
	static const struct step steps[] = {{200, ETAG, ""}, {200, ETAG, "x"}};
	struct objreq req;
	char buf[4];

	OPEN(steps);
	store->quirks = OBJ_QUIRK_UNQUOTED_IF_MATCH;
	objreq_init(&req, OBJ_PUT, "k");
	req.if_match = HEX;
	assert_int_equal(obj_do(store, &req), 0);
	assert_string_equal(header(0, "if-match"), HEX);
	objreq_done(&req);
	objreq_init(&req, OBJ_GET, "k");
	req.if_match = HEX;
	req.buf = buf;
	req.cap = sizeof(buf);
	assert_int_equal(obj_do(store, &req), 0);
	assert_string_equal(header(1, "if-match"), "\"" HEX "\"");
	objreq_done(&req);
	close_store();
}

static void large_body_is_not_hashed_by_the_signature(void **state)
{
	static const struct step steps[] = {{200, ETAG, ""}};
	struct iovec iov = {calloc(1, 65537), 65537};
	struct objreq req;

	OPEN(steps);
	objreq_init(&req, OBJ_MPU_PART, "k");
	req.upload_id = "id/+=";
	req.part = 10000;
	req.iov = &iov;
	req.iovcnt = 1;
	assert_int_equal(obj_do(store, &req), 0);
	expect_line(0, "PUT", "/bkt/k?partNumber=10000&uploadId=id%2F%2B%3D");
	assert_string_equal(header(0, "x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
	assert_non_null(header(0, "content-md5"));
	objreq_done(&req);
	free(iov.iov_base);
	close_store();
}

static void what_must_not_go_out(void **state)
{
	const char *const empty_keys[] = {"a", "\x01", ""};
	struct obj_headers h = {0}, other = {0};
	char key[OBJ_KEY_MAX + 2];
	struct objreq req;

	open_store(NULL, 0, NULL);
	for (int op = 0; op < 3; op++) { /* an empty key would be the bucket */
		static const enum obj_op ops[] = {OBJ_PUT, OBJ_DELETE, OBJ_HEAD};

		objreq_init(&req, ops[op], "");
		assert_int_equal(obj_do(store, &req), -EINVAL);
		objreq_done(&req);
	}
	memset(key, 'k', sizeof(key));
	key[OBJ_KEY_MAX + 1] = '\0';
	objreq_init(&req, OBJ_HEAD, key);
	assert_int_equal(obj_do(store, &req), -ENAMETOOLONG);
	objreq_done(&req);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-name", "M\xc3\xbcller"), 0);
	objreq_init(&req, OBJ_PUT, "k");
	req.headers = &h;
	assert_int_equal(obj_do(store, &req), -EINVAL);
	assert_non_null(strstr(req.err.msg, "ASCII"));
	objreq_done(&req);
	assert_int_equal(obj_headers_set(&other, "authorization", "mine"), 0);
	objreq_init(&req, OBJ_PUT, "k");
	req.headers = &other;
	assert_int_equal(obj_do(store, &req), -EINVAL);
	objreq_done(&req);
	objreq_init(&req, OBJ_COPY, "k");
	req.src_key = "";
	assert_int_equal(obj_do(store, &req), -EINVAL);
	objreq_done(&req);
	objreq_init(&req, OBJ_MPU_COPY_PART, "k"); /* RGW decodes it twice */
	req.upload_id = "u";
	req.part = 1;
	req.src_key = "a%41";
	assert_int_equal(obj_do(store, &req), -ENOTSUP);
	objreq_done(&req);
	objreq_init(&req, OBJ_DELETE_MANY, NULL);
	req.keys = empty_keys + 2;
	req.nkeys = 0;
	assert_int_equal(obj_do(store, &req), 0);
	objreq_done(&req);
	obj_headers_free(&h);
	obj_headers_free(&other);
	close_store();
}

static void copy_directives(void **state)
{
	static const char result[] = "<CopyObjectResult><LastModified>2026-11-21T00:00:00.000Z</LastModified>"
				     "<ETag>\"" HEX "\"</ETag></CopyObjectResult>";
	static const struct step steps[] = {{200, "", result}, {200, "", result}};
	struct obj_headers none = {0};
	struct objreq req;

	OPEN(steps);
	objreq_init(&req, OBJ_COPY, "to");
	req.src_key = "from %\xc3\xbc/+";
	req.src_if_match = "e";
	req.if_none_match_any = true;
	assert_int_equal(obj_do(store, &req), 0);
	assert_string_equal(req.etag, HEX);
	assert_int_equal(req.mtime_s, 1795219200);
	assert_string_equal(header(0, "x-amz-copy-source"), "bkt/from%20%25%C3%BC/%2B");
	assert_string_equal(header(0, "x-amz-copy-source-if-match"), "\"e\"");
	assert_string_equal(header(0, "if-none-match"), "*");
	assert_string_equal(header(0, "x-amz-metadata-directive"), "COPY");
	assert_string_equal(header(0, "content-length"), "0");
	objreq_done(&req);
	objreq_init(&req, OBJ_COPY, "to");
	req.src_key = "from";
	req.headers = &none;
	assert_int_equal(obj_do(store, &req), 0);
	assert_string_equal(header(1, "x-amz-metadata-directive"), "REPLACE");
	objreq_done(&req);
	close_store();
}

static void no_sign_signs_nothing(void **state)
{
	static const struct step steps[] = {{200, ETAG "Content-Length: 3\r\n", NULL}};
	const struct obj_open_opts o = {.no_sign = true};
	struct objreq req;

	open_store(steps, 1, &o);
	objreq_init(&req, OBJ_HEAD, "k");
	assert_int_equal(obj_do(store, &req), 0);
	assert_null(header(0, "authorization"));
	assert_null(header(0, "x-amz-date"));
	objreq_done(&req);
	close_store();
}

static void locate(const char *bucket, const char *host, bool virt, const char *region, const char *key,
		   const char *want_host, const char *want_path)
{
	struct s3 s = {.bucket = (char *)bucket, .host = (char *)host, .virtual_host = virt};
	struct s3_call c = {.s = &s, .key = key};
	char *h;

	(void)snprintf(c.region, sizeof(c.region), "%s", region);
	assert_int_equal(s3_locate(&c, &h), 0);
	assert_string_equal(h, want_host);
	assert_string_equal(str_c(&c.path), want_path);
	free(h);
	str_free(&c.path);
}

static void places(void **state)
{
	locate("b", NULL, true, "eu-west-1", "k/ ", "b.s3.eu-west-1.amazonaws.com", "/k/%20");
	locate("b", NULL, true, "eu-west-1", NULL, "b.s3.eu-west-1.amazonaws.com", "/");
	locate("b", NULL, false, "cn-north-1", "k", "s3.cn-north-1.amazonaws.com.cn", "/b/k");
	locate("b.c", "[::1]:9000", false, "x", "/k", "[::1]:9000", "/b.c//k");
	locate("b", "h:1", false, "x", NULL, "h:1", "/b");
}

struct place {
	const char *endpoint, *region, *bucket;
	const char *scheme, *host; /* host NULL = AWS by region */
	const char *want_region;
	bool virt;
};

static void endpoints(void **state)
{
	static const struct place good[] = {
		{NULL, NULL, "bkt", "https", NULL, "us-east-1", true},
		{NULL, "eu-west-1", "bkt", "https", NULL, "eu-west-1", true},
		{NULL, NULL, "b.kt", "https", NULL, "us-east-1", false},
		{NULL, NULL, "Bkt", "https", NULL, "us-east-1", false},
		{"http://s3.amazonaws.com", NULL, "b.kt", "http", NULL, "us-east-1", true},
		{"https://s3.eu-central-1.amazonaws.com/", NULL, "bkt", "https", NULL, "eu-central-1", true},
		{"https://s3-eu-west-1.amazonaws.com:443", NULL, "bkt", "https", NULL, "eu-west-1", true},
		{"https://bucket.vpce-1.s3.us-east-2.vpce.amazonaws.com", NULL, "bkt", "https",
		 "bucket.vpce-1.s3.us-east-2.vpce.amazonaws.com", "us-east-1", true},
		{"https://s3-accelerate.amazonaws.com", NULL, "bkt", "https", "s3-accelerate.amazonaws.com", "us-east-1", true},
		{"https://s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1", "bkt", "https",
		 "s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1", true},
		{"https://0123.r2.cloudflarestorage.com", "auto", "bkt", "https", "0123.r2.cloudflarestorage.com", "auto", false},
		{"https://minio.example", "r1", "bkt", "https", "minio.example", "r1", false},
		{"http://127.0.0.1:80", NULL, "bkt", "http", "127.0.0.1", "us-east-1", false},
		{"http://[::1]:7480", NULL, "bkt", "http", "[::1]:7480", "us-east-1", false},
		{"http://localhost:1", NULL, "bkt", "http", "localhost:1", "us-east-1", false},
		{"https://oss-eu.aliyuncs.com", NULL, "bkt", "https", "oss-eu.aliyuncs.com", "us-east-1", true},
	};
	static const char *const bad[] = {"s3.example.com", "ftp://x", "http://", "http://h/path", "http://h:port",
					  "http://u@h", "http://h:", "http://[::1", "http://h:123456", "http://a b"};
	struct objerr err = {0};
	struct objstore *st;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		const struct place *p = &good[i];
		const struct obj_open_opts o = {.endpoint = p->endpoint, .region = p->region};
		struct s3 *s;

		assert_int_equal(store_s3_new(p->bucket, &o, &st, &err), 0);
		s = container_of(st, struct s3, base);
		assert_string_equal(s->scheme, p->scheme);
		assert_string_equal(s->region, p->want_region);
		assert_int_equal(s->virtual_host, p->virt);
		if (p->host == NULL)
			assert_null(s->host);
		else
			assert_string_equal(s->host, p->host);
		assert_int_equal((obj_caps(st) & OBJ_CAP_EQUAL_PARTS) != 0,
				 p->endpoint != NULL && strstr(p->endpoint, ".r2.") != NULL);
		obj_close(st);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct obj_open_opts o = {.endpoint = bad[i]};

		st = NULL;
		err.msg[0] = '\0';
		assert_int_equal(store_s3_new("bkt", &o, &st, &err), -EINVAL);
		assert_null(st);
		assert_non_null(strstr(err.msg, "endpoint="));
	}
}

/* --- answers that need another request ---------------------------------------------------------------------------- */

static const char wrong_region[] = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-central-1'"
				   "</Message><Region>eu-central-1</Region></Error>";

static void region_is_learnt(void **state)
{
	static const struct step steps[] = {
		{400, "", wrong_region},
		{200, ETAG, ""},
		{301, "x-amz-bucket-region: ap-south-1\r\n", NULL},
		{200, ETAG "Content-Length: 3\r\n", NULL},
		{200, ETAG "Content-Length: 3\r\n", NULL},
	};
	struct objreq req;

	OPEN(steps);
	objreq_init(&req, OBJ_PUT, "k");
	assert_int_equal(obj_do(store, &req), 0);
	assert_non_null(strstr(header(0, "authorization"), "/us-east-1/s3/"));
	assert_non_null(strstr(header(1, "authorization"), "/eu-central-1/s3/"));
	objreq_done(&req);
	for (int i = 0; i < 2; i++) {
		objreq_init(&req, OBJ_HEAD, "k");
		assert_int_equal(obj_do(store, &req), 0);
		objreq_done(&req);
	}
	assert_non_null(strstr(header(2, "authorization"), "/eu-central-1/s3/"));
	assert_non_null(strstr(header(3, "authorization"), "/ap-south-1/s3/"));
	assert_non_null(strstr(header(4, "authorization"), "/ap-south-1/s3/"));
	assert_int_equal(store->stats->count[OBJ_HEAD], 3);
	assert_int_equal(store->stats->errors[OBJ_HEAD], 0);
	close_store();
}

static void redirects_do_not_go_round(void **state)
{
	static const struct step steps[] = {
		{307, "x-amz-bucket-region: r-1\r\n", ""},
		{307, "x-amz-bucket-region: r-2\r\n", ""},
		{307, "x-amz-bucket-region: r-1\r\n", ""},
		{301, "Location: http://evil.example/k\r\n",
		 "<Error><Code>PermanentRedirect</Code><Endpoint>evil.example</Endpoint></Error>"},
		{301, "x-amz-bucket-region: a.evil.example/\r\n", ""},
	};
	struct objreq req;

	OPEN(steps);
	for (int i = 0; i < 3; i++) {
		objreq_init(&req, OBJ_PUT, "k");
		assert_int_equal(obj_do(store, &req), -EINVAL);
		assert_false(req.maybe_done);
		assert_non_null(strstr(req.err.msg, "endpoint="));
		objreq_done(&req);
	}
	close_store();
}

static void clock_skew_is_corrected(void **state)
{
	static const char skewed[] = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
	static const struct step steps[] = {
		{403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n", skewed},
		{200, "Date: Fri, 24 May 2013 00:00:01 GMT\r\n" ETAG, ""},
		{200, ETAG, ""},
		{403, "Date: Fri, 24 May 2013 00:00:01 GMT\r\n", skewed}, /* with the right time: nothing more to learn */
	};
	struct objreq req;

	log_set_level(LOG_L_ERROR); /* the warning is wanted, not here */
	OPEN(steps);
	for (int i = 0; i < 2; i++) {
		objreq_init(&req, OBJ_PUT, "k");
		assert_int_equal(obj_do(store, &req), 0);
		objreq_done(&req);
	}
	assert_null(strstr(header(0, "x-amz-date"), "20130524T0000"));
	assert_non_null(strstr(header(1, "x-amz-date"), "20130524T0000"));
	assert_non_null(strstr(header(2, "x-amz-date"), "20130524T0000"));
	objreq_init(&req, OBJ_PUT, "k");
	assert_int_equal(obj_do(store, &req), -EACCES);
	assert_non_null(strstr(req.err.msg, "clock"));
	objreq_done(&req);
	close_store();
	log_set_level(LOG_L_INFO);
}

/* HEAD has no body: the Date alone tells. */
static void clock_skew_of_a_head(void **state)
{
	static const struct step steps[] = {
		{403, "Date: Fri, 24 May 2013 00:00:00 GMT\r\n", NULL},
		{200, "Content-Length: 1\r\n" ETAG, NULL},
	};
	struct objreq req;

	log_set_level(LOG_L_ERROR);
	OPEN(steps);
	objreq_init(&req, OBJ_HEAD, "k");
	assert_int_equal(obj_do(store, &req), 0);
	objreq_done(&req);
	close_store();
	log_set_level(LOG_L_INFO);
}

/* Two at once find out: the second is not told that the first has learnt it already. */
static bool skewed_twice(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	if (r->index <= 2) {
		stub_wait_requests(s, 2);
		stub_printf(fd, "HTTP/1.1 403 X\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n");
	} else {
		stub_printf(fd, "HTTP/1.1 200 X\r\n" ETAG "Content-Length: 5\r\n\r\n");
	}
	return true;
}

static void count_done(struct objreq *req)
{
	atomic_fetch_add((_Atomic unsigned *)req->priv, 1);
}

static void clock_skew_found_by_two(void **state)
{
	struct obj_open_opts o = {.connections = 2};
	struct objerr err = {0};
	struct objreq req[2];
	_Atomic unsigned done = 0;
	char url[64];

	stub = stub_start(skewed_twice, NULL);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", stub_port(stub));
	o.endpoint = url;
	log_set_level(LOG_L_ERROR);
	assert_int_equal(store_s3_new("bkt", &o, &store, &err), 0);
	for (int i = 0; i < 2; i++) {
		objreq_init(&req[i], OBJ_HEAD, "k");
		req[i].done = count_done;
		req[i].priv = &done;
		obj_submit(store, &req[i]);
	}
	while (done < 2)
		sched_yield();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(req[i].status, 0);
		objreq_done(&req[i]);
	}
	obj_close(store);
	stub_stop(stub);
	log_set_level(LOG_L_INFO);
}

static void rotated_keys_are_taken(void **state)
{
	static const struct step steps[] = {
		{403, "", "<Error><Code>InvalidAccessKeyId</Code></Error>"},
		{200, ETAG, ""},
	};
	char path[] = "/tmp/unit-s3.XXXXXX";
	struct obj_open_opts o = {.passwd_file = path};
	struct objreq req;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "AKOLD:SK\n", 9), 9);
	open_store(steps, 2, &o);
	assert_int_equal(pwrite(fd, "AKNEW:SK\n", 9, 0), 9);
	objreq_init(&req, OBJ_PUT, "k");
	assert_int_equal(obj_do(store, &req), 0);
	assert_non_null(strstr(header(0, "authorization"), "Credential=AKOLD/"));
	assert_non_null(strstr(header(1, "authorization"), "Credential=AKNEW/"));
	objreq_done(&req);
	close_store();
	close(fd);
	unlink(path);
}

/* No keys any more is no news about objects: "absent" would make somebody write over one. */
static void lost_keys_are_not_lost_objects(void **state)
{
	static const struct step steps[] = {
		{403, "", "<Error><Code>InvalidAccessKeyId</Code></Error>"},
	};
	char path[] = "/tmp/unit-s3.XXXXXX";
	struct obj_open_opts o = {.passwd_file = path};
	struct objreq req;
	char buf[8];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "AKOLD:SK\n", 9), 9);
	close(fd);
	open_store(steps, 1, &o);
	unlink(path);
	for (int i = 0; i < 2; i++) { /* refused, then none to be had */
		objreq_init(&req, OBJ_GET, "k");
		req.buf = buf;
		req.cap = sizeof(buf);
		assert_int_equal(obj_do(store, &req), -EACCES);
		assert_non_null(strstr(req.err.msg, path));
		assert_false(req.maybe_done);
		objreq_done(&req);
	}
	close_store();
}

/* A HEAD says no code: newer keys are worth a try, once. */
static void rotated_keys_at_a_head(void **state)
{
	static const struct step steps[] = {
		{403, "Content-Length: 0\r\n", NULL},
		{200, ETAG "Content-Length: 3\r\n", NULL},
		{403, "Content-Length: 0\r\n", NULL},
	};
	char path[] = "/tmp/unit-s3.XXXXXX";
	struct obj_open_opts o = {.passwd_file = path};
	struct objreq req;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "AKOLD:SK\n", 9), 9);
	open_store(steps, 3, &o);
	assert_int_equal(pwrite(fd, "AKNEW:SK\n", 9, 0), 9);
	assert_int_equal(obj_head(store, "k", &req), 0);
	assert_non_null(strstr(header(1, "authorization"), "Credential=AKNEW/"));
	objreq_done(&req);
	assert_int_equal(obj_head(store, "k", &req), -EACCES); /* just read: not again */
	objreq_done(&req);
	close_store();
	close(fd);
	unlink(path);
}

static void empty_object_and_range(void **state)
{
	static const struct step steps[] = {
		{416, "", "<Error><Code>InvalidRange</Code></Error>"},
		{200, ETAG "Content-Length: 0\r\nx-amz-meta-a: b\r\n", NULL},
		{416, "", "<Error><Code>InvalidRange</Code></Error>"},
		{200, ETAG "Content-Length: 7\r\n", NULL}, /* somebody wrote in between */
		{416, "", "<Error><Code>InvalidRange</Code></Error>"},
	};
	struct objreq req;
	char buf[8];

	OPEN(steps);
	for (int i = 0; i < 3; i++) {
		static const int want[] = {0, -EAGAIN, -ERANGE};

		objreq_init(&req, OBJ_GET, "k");
		req.off = i == 2 ? 5 : 0;
		req.len = 8;
		req.buf = buf;
		req.cap = sizeof(buf);
		req.if_match = HEX;
		assert_int_equal(obj_do(store, &req), want[i]);
		if (i == 0) {
			assert_int_equal(req.got, 0);
			assert_int_equal(req.size, 0);
			assert_false(req.truncated);
			assert_string_equal(req.etag, HEX);
			assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-a"), "b");
		}
		objreq_done(&req);
	}
	assert_string_equal(header(0, "range"), "bytes=0-7");
	assert_string_equal(script.seen[1].method, "HEAD");
	assert_null(header(1, "range"));
	assert_string_equal(header(1, "if-match"), "\"" HEX "\"");
	assert_string_equal(header(4, "range"), "bytes=5-12");
	close_store();
}

#define COMPLETED(etag) "<CompleteMultipartUploadResult><ETag>" etag "</ETag></CompleteMultipartUploadResult>"

static void complete_as(const char *nonce, int want, const char *want_etag, bool want_maybe)
{
	const struct obj_part parts[] = {{1, "0cc175b9c0f1b6a831c399e269772661"}, {2, "92eb5ffee6ae2fec3ad71c777531578f"}};
	struct objreq req;

	objreq_init(&req, OBJ_MPU_COMPLETE, "k");
	req.upload_id = "u";
	req.parts = parts;
	req.nparts = 2;
	(void)snprintf(req.nonce, sizeof(req.nonce), "%s", nonce);
	assert_int_equal(obj_do(store, &req), want);
	assert_string_equal(req.etag, want_etag);
	assert_int_equal(req.maybe_done, want_maybe);
	objreq_done(&req);
}

#define OF_PARTS "96e024ba2074fe77e8e965ba43a704be-2"

static void complete_and_its_etag(void **state)
{
	static const struct step steps[] = {
		{200, "", "  \n" COMPLETED("\"abc-2\"")},
		{200, "", COMPLETED("")},
		{200, ETAG "Content-Length: 2\r\nx-amz-meta-lsvd-put: n1\r\n", NULL}, /* ours */
		{200, "", COMPLETED("")},
		{200, ETAG "Content-Length: 2\r\nx-amz-meta-lsvd-put: n2\r\n", NULL}, /* replaced meanwhile */
		{200, "", COMPLETED("")},
		{404, "", NULL},							/* deleted meanwhile */
		{200, "", "<Error><Code>InternalError</Code><Message>x</Message></Error>"},
		{200, "", "<Error><Code>EntityTooSmall</Code></Error>"},
		{200, "", "<html>hello"},
		{500, "", "<Error><Code>InternalError</Code></Error>"},
		{503, "", "<Error><Code>SlowDown</Code></Error>"},
	};

	OPEN(steps);
	complete_as("n1", 0, "abc-2", false);
	complete_as("n1", 0, HEX, false);
	complete_as("n1", 0, OF_PARTS, false);
	complete_as("n1", 0, OF_PARTS, false);
	complete_as("n1", -EAGAIN, "", true);
	complete_as("n1", -EINVAL, "", false);
	complete_as("n1", -EBADMSG, "", true);
	complete_as("n1", -EAGAIN, "", true);
	complete_as("n1", -EAGAIN, "", false);
	expect_line(0, "POST", "/bkt/k?uploadId=u");
	expect_line(2, "HEAD", "/bkt/k");
	assert_non_null(strstr(script.bodies[0], "<PartNumber>2</PartNumber><ETag>&quot;92eb5ffee6ae2fec3ad71c777531578f"));
	assert_int_equal(store->stats->count[OBJ_MPU_COMPLETE], 9);
	assert_int_equal(store->stats->count[OBJ_HEAD], 3);
	close_store();
}

static void deletes_that_xml_cannot_say(void **state)
{
	static const struct step steps[] = {
		{200, "", "<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>"},
		{204, "", ""},
		{404, "", "<Error><Code>NoSuchKey</Code></Error>"},
		{204, "", ""}, /* none of the keys fits: no batch at all */
	};
	const char *const keys[] = {"a\x01", "b", "c<", "\x02"};
	struct objreq req;

	OPEN(steps);
	objreq_init(&req, OBJ_DELETE_MANY, NULL);
	req.keys = keys;
	req.nkeys = 4;
	assert_int_equal(obj_do(store, &req), -EACCES);
	assert_non_null(strstr(req.err.msg, "key b"));
	expect_line(0, "POST", "/bkt?delete=");
	assert_non_null(header(0, "content-md5"));
	assert_non_null(strstr(script.bodies[0], "<Object><Key>b</Key></Object><Object><Key>c&lt;</Key></Object></Delete>"));
	expect_line(1, "DELETE", "/bkt/a%01");
	expect_line(2, "DELETE", "/bkt/%02");
	objreq_done(&req);
	objreq_init(&req, OBJ_DELETE_MANY, NULL);
	req.keys = keys;
	req.nkeys = 1;
	assert_int_equal(obj_do(store, &req), 0);
	expect_line(3, "DELETE", "/bkt/a%01");
	objreq_done(&req);
	assert_int_equal(store->stats->count[OBJ_DELETE_MANY], 1);
	assert_int_equal(store->stats->count[OBJ_DELETE], 3);
	close_store();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(put_says_everything),
		cmocka_unit_test(unquoted_quirk_is_for_puts_only),
		cmocka_unit_test(large_body_is_not_hashed_by_the_signature),
		cmocka_unit_test(what_must_not_go_out),
		cmocka_unit_test(copy_directives),
		cmocka_unit_test(no_sign_signs_nothing),
		cmocka_unit_test(places),
		cmocka_unit_test(endpoints),
		cmocka_unit_test(region_is_learnt),
		cmocka_unit_test(redirects_do_not_go_round),
		cmocka_unit_test(clock_skew_is_corrected),
		cmocka_unit_test(clock_skew_of_a_head),
		cmocka_unit_test(clock_skew_found_by_two),
		cmocka_unit_test(rotated_keys_are_taken),
		cmocka_unit_test(lost_keys_are_not_lost_objects),
		cmocka_unit_test(rotated_keys_at_a_head),
		cmocka_unit_test(empty_object_and_range),
		cmocka_unit_test(complete_and_its_etag),
		cmocka_unit_test(deletes_that_xml_cannot_say),
	};

	s3test_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
