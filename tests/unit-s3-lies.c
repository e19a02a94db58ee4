/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-s3-lies.c - odd, lying and failing answers of an S3 server: what the store makes of them. s3test.h says how. */
#include "config.h"
#include "s3test.h"

/* --- listings ----------------------------------------------------------------------------------------------------- */

#define ENTRY(k) "<Contents><Key>" k "</Key><LastModified>2026-11-21T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
#define LIST(more, token, body)                                                                              \
	"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>" more "</IsTruncated>"              \
	"<NextContinuationToken>" token "</NextContinuationToken>" body "</ListBucketResult>"

static char *page(const char *token, const char *after, int want)
{
	struct objreq req;
	char *next = NULL;

	objreq_init(&req, OBJ_LIST, "p/");
	req.token = token;
	req.start_after = after;
	req.delimiter = true;
	assert_int_equal(obj_do(store, &req), want);
	if (want == 0 && req.listing->truncated)
		next = strdup(req.listing->next_token);
	objreq_done(&req);
	return next;
}

static void listing_goes_on(void **state)
{
	static const struct step steps[] = {
		{200, "", LIST("true", "tok=/+", ENTRY("p%2Fa"))},
		{200, "", LIST("true", "p/&#1;", ENTRY("p%2F%01"))},
		{200, "", LIST("true", "p/&#1;", "<CommonPrefixes><Prefix>p%2Fd%2F</Prefix></CommonPrefixes>")},
		{200, "", LIST("false", "", "")},
	};
	char *t1, *t2, *t3;

	OPEN(steps);
	t1 = page(NULL, "p/\x7f", 0);
	t2 = page(t1, "ignored", 0);
	t3 = page(t2, NULL, 0);
	assert_null(page(t3, NULL, 0));
	expect_line(0, "GET", "/bkt?delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000&prefix=p%2F&start-after=p%2F%7F");
	expect_line(1, "GET", "/bkt?continuation-token=tok%3D%2F%2B&delimiter=%2F&encoding-type=url&list-type=2&"
			      "max-keys=1000&prefix=p%2F");
	assert_non_null(strstr(script.seen[2].target, "start-after=p%2F%01"));
	assert_non_null(strstr(script.seen[3].target, "start-after=p%2Fd%2F%F4%8F%BF%BF"));
	free(t1);
	free(t2);
	free(t3);
	close_store();
}

static void lying_listings(void **state)
{
	static const struct step steps[] = {
		{200, "", LIST("true", "again", ENTRY("p%2Fa"))},
		{200, "", LIST("true", "again", ENTRY("p%2Fa"))},
		{200, "", LIST("false", "", ENTRY("q"))},
		{200, "", "<html></html>"},
		{200, "", LIST("true", "&#1;", "")},
	};
	char *t;

	OPEN(steps);
	t = page(NULL, NULL, 0);
	(void)page(t, NULL, -EBADMSG);
	(void)page(NULL, NULL, -EBADMSG);
	(void)page(NULL, NULL, -EBADMSG);
	(void)page(NULL, NULL, -EBADMSG);
	free(t);
	close_store();
}

static void uploads_go_on(void **state)
{
	static const struct step steps[] = {
		{200, "", "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>p/a&amp;b</NextKeyMarker>"
			  "<NextUploadIdMarker>u&amp;1</NextUploadIdMarker><Upload><Key>p/a&amp;b</Key>"
			  "<UploadId>u&amp;1</UploadId></Upload></ListMultipartUploadsResult>"},
		{200, "", "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"},
	};
	struct objreq req;
	char *token;

	OPEN(steps);
	objreq_init(&req, OBJ_MPU_LIST, "p/");
	assert_int_equal(obj_do(store, &req), 0);
	assert_int_equal(req.listing->n, 1);
	assert_string_equal(req.listing->v[0].upload_id, "u&1");
	token = strdup(req.listing->next_token);
	objreq_done(&req);
	objreq_init(&req, OBJ_MPU_LIST, "p/");
	req.token = token;
	assert_int_equal(obj_do(store, &req), 0);
	assert_int_equal(req.listing->n, 0);
	expect_line(1, "GET", "/bkt?key-marker=p%2Fa%26b&max-uploads=1000&prefix=p%2F&upload-id-marker=u%261&uploads=");
	objreq_done(&req);
	free(token);
	close_store();
}

/* --- lies about objects ------------------------------------------------------------------------------------------- */

static void lying_gets(void **state)
{
	static const struct step steps[] = {
		{200, ETAG, "0123456789"},					/* Range not honoured, off > 0 */
		{206, ETAG "Content-Range: bytes 0-3/10\r\n", "0123"},		/* another range */
		{206, ETAG "Content-Range: bytes 4-6/10\r\n", "456"},		/* shorter, and not the end */
		{206, ETAG "Content-Range: bytes 4-7/10\r\n", "456"},		/* length and range differ */
		{206, ETAG "Content-Range: bytes 4-7/*\r\n", "4567"},		/* size not said */
		{206, ETAG, "4567"},						/* no range said */
		{204, ETAG, ""},
		{206, "Content-Range: bytes 4-7/10\r\n", "4567"},		/* no etag */
	};
	struct objreq req;
	char buf[8];

	OPEN(steps);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		memset(buf, 'u', sizeof(buf));
		objreq_init(&req, OBJ_GET, "k");
		req.off = 4;
		req.len = 4;
		req.buf = buf;
		req.cap = sizeof(buf);
		assert_int_equal(obj_do(store, &req), -EBADMSG);
		if (i + 1 < ARRAY_SIZE(steps)) /* the last one is found out only when all is there */
			assert_memory_equal(buf, "uuuuuuuu", 8);
		objreq_done(&req);
	}
	close_store();
}

static void honest_gets(void **state)
{
	static const struct step steps[] = {
		{200, ETAG "Last-Modified: Fri, 24 May 2013 00:00:00 GMT\r\nDate: Fri, 24 May 2013 00:00:09 GMT\r\n"
		      "Content-Type: a/b\r\nX-Amz-Meta-X:  v \r\nServer: s\r\n", "0123456789"},
		{206, ETAG "Content-Range: bytes 8-9/10\r\n", "89"},
		{200, ETAG, "0123456789"}, /* Range not honoured, but from 0: cut here */
		{304, "", ""},
		{200, ETAG "Content-Length: 10\r\n", NULL}, /* no room for a byte: HEAD */
	};
	struct objreq req;
	char buf[16];

	OPEN(steps);
	objreq_init(&req, OBJ_GET, "k");
	req.buf = buf;
	req.cap = 4;
	assert_int_equal(obj_do(store, &req), 0);
	assert_int_equal(req.got, 4);
	assert_int_equal(req.size, 10);
	assert_true(req.truncated);
	assert_int_equal(req.mtime_s, 1369353600);
	assert_int_equal(req.date_s, 1369353609);
	assert_int_equal(req.ret_headers.n, 2);
	assert_string_equal(obj_headers_get(&req.ret_headers, "x-amz-meta-x"), "v");
	assert_null(header(0, "range"));
	objreq_done(&req);
	objreq_init(&req, OBJ_GET, "k");
	req.buf = buf;
	req.cap = sizeof(buf);
	req.off = 8;
	assert_int_equal(obj_do(store, &req), 0);
	assert_int_equal(req.got, 2);
	assert_memory_equal(buf, "89", 2);
	assert_int_equal(req.size, 10);
	assert_false(req.truncated);
	assert_string_equal(header(1, "range"), "bytes=8-23");
	objreq_done(&req);
	objreq_init(&req, OBJ_GET, "k");
	req.buf = buf;
	req.cap = sizeof(buf);
	req.len = 3;
	assert_int_equal(obj_do(store, &req), 0);
	assert_int_equal(req.got, 3);
	assert_true(req.truncated);
	objreq_done(&req);
	objreq_init(&req, OBJ_GET, "k");
	req.buf = buf;
	req.cap = sizeof(buf);
	req.if_none_match = HEX;
	assert_int_equal(obj_do(store, &req), 0);
	assert_true(req.not_modified);
	assert_string_equal(header(3, "if-none-match"), "\"" HEX "\"");
	objreq_done(&req);
	objreq_init(&req, OBJ_GET, "k");
	assert_int_equal(obj_do(store, &req), 0);
	assert_string_equal(script.seen[4].method, "HEAD");
	assert_int_equal(req.size, 10);
	assert_true(req.truncated);
	objreq_done(&req);
	close_store();
}

/* Something between us and the store that does not know conditions: bytes of another version must not pass. */
static void ignored_conditions_of_reads(void **state)
{
	static const struct step steps[] = {
		{200, ETAG, "0123456789"},
		{206, ETAG "Content-Range: bytes 0-3/10\r\n", "0123"},
		{200, ETAG "Content-Length: 10\r\n", NULL},
		{200, ETAG, "0123456789"},
	};
	struct objreq req;
	char buf[16];

	OPEN(steps);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		memset(buf, 'u', sizeof(buf));
		objreq_init(&req, i == 2 ? OBJ_HEAD : OBJ_GET, "k");
		req.buf = buf;
		req.cap = i == 1 ? 4 : sizeof(buf);
		req.len = i == 1 ? 4 : OBJ_WHOLE;
		req.if_match = i == 3 ? HEX : "e";
		assert_int_equal(obj_do(store, &req), i == 3 ? 0 : -ESTALE);
		if (i < 3) /* and nothing of them was stored */
			assert_memory_equal(buf, "uuuuuuuu", 8);
		objreq_done(&req);
	}
	close_store();
}

/* --- errors in words ---------------------------------------------------------------------------------------------- */

#define ERR(code) "<Error><Code>" code "</Code><RequestId>rid</RequestId></Error>"

static void error_table(void **state)
{
	static const struct {
		struct step step;
		int status;
		const char *words;
		bool maybe;
	} cases[] = {
		{{403, "", ERR("InvalidAccessKeyId")}, -EACCES, "does not know this access key", false},
		{{403, "", ERR("SignatureDoesNotMatch")}, -EACCES, "wrong secret key", false},
		{{403, "", ERR("AccessDenied")}, -EACCES, "need s3:PutObject on bkt/d/e/*", false},
		{{403, "", ""}, -EACCES, "need s3:PutObject on bkt/d/e/*", false},
		{{403, "", ERR("QuotaExceeded")}, -EDQUOT, "quota", false},
		{{404, "", ERR("NoSuchBucket")}, -ENODEV, "bucket bkt: no such bucket", false},
		{{404, "", "<html>nginx</html>"}, -EBADMSG, "endpoint=", false},
		{{404, "", ""}, -ENOENT, "not found", false},
		{{404, "", ERR("NoSuchSomething")}, -ENOENT, "NoSuchSomething", false},
		{{400, "", ERR("KeyTooLongError")}, -ENAMETOOLONG, "long", false},
		{{400, "", ERR("BadDigest")}, -EAGAIN, "damaged", false},
		{{400, "", ERR("InvalidArgument")}, -EINVAL, "InvalidArgument", false},
		{{409, "", ERR("ConditionalRequestConflict")}, -EAGAIN, "another change", false},
		{{412, "", ERR("PreconditionFailed")}, -ESTALE, "condition", false},
		{{412, "", ERR("InvalidRequest")}, -ESTALE, "condition", false},
		{{413, "", ""}, -EFBIG, "large", false},
		{{429, "", ""}, -EAGAIN, "busy", false},
		{{500, "", ERR("UnknownError")}, -EAGAIN, "busy", true},
		{{501, "", ERR("NotImplemented")}, -ENOTSUP, "cannot", false},
		{{502, "", "<html>"}, -EAGAIN, "busy", true},
		{{503, "", ERR("SlowDown")}, -EAGAIN, "slow down", false},
		{{503, "", ""}, -EAGAIN, "busy", true},
		{{507, "", ""}, -ENOSPC, "full", false},
		{{200, "", ""}, -EBADMSG, "ETag", true},
	};
	struct objreq req;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		open_store(&cases[i].step, 1, NULL);
		objreq_init(&req, OBJ_PUT, "d/e/f");
		if (obj_do(store, &req) != cases[i].status)
			fail_msg("%d %s: %d, not %d", cases[i].step.code, cases[i].step.body, req.status,
				 cases[i].status);
		if (strstr(req.err.msg, cases[i].words) == NULL)
			fail_msg("%d: \"%s\" does not say \"%s\"", cases[i].step.code, req.err.msg, cases[i].words);
		assert_int_equal(req.maybe_done, cases[i].maybe);
		assert_int_equal(req.err.http, cases[i].step.code);
		if (strstr(cases[i].step.body, "rid") != NULL)
			assert_string_equal(req.err.request_id, "rid");
		assert_int_equal(store->stats->errors[OBJ_PUT],
				 cases[i].status != -ENOENT && cases[i].status != -ESTALE);
		objreq_done(&req);
		close_store();
	}
}

/* R2 says what parts it wants when it is too late for these; any other bad part teaches nothing. */
static void equal_parts_are_learnt(void **state)
{
	static const struct step steps[] = {
		{400, "", "<Error><Code>InvalidPart</Code><Message>One or more parts could not be found</Message></Error>"},
		{400, "", "<Error><Code>InvalidPart</Code><Message>All non-trailing parts must have the same length."
			  "</Message></Error>"},
	};
	const struct obj_part part = {1, HEX};
	struct objreq req;

	OPEN(steps);
	for (int i = 0; i < 2; i++) {
		objreq_init(&req, OBJ_MPU_COMPLETE, "k");
		req.upload_id = "u";
		req.parts = &part;
		req.nparts = 1;
		assert_int_equal(obj_do(store, &req), -EINVAL);
		assert_int_equal((obj_caps(store) & OBJ_CAP_EQUAL_PARTS) != 0, i);
		assert_int_equal(strstr(req.err.msg, "one size") != NULL, i);
		objreq_done(&req);
	}
	close_store();
}

static void deletes_of_what_is_not_there(void **state)
{
	static const struct step steps[] = {
		{404, "", ERR("NoSuchKey")}, {404, "", ERR("NoSuchBucket")}, {404, "", ERR("NoSuchUpload")}, {404, "", ""},
		{404, "", "<html>nginx</html>"}, {404, "", "<html>nginx</html>"},
	};
	struct objreq req;

	OPEN(steps);
	assert_int_equal(obj_delete(store, "k", NULL, NULL), 0);
	assert_int_equal(obj_delete(store, "k", NULL, NULL), -ENODEV);
	objreq_init(&req, OBJ_MPU_ABORT, "k");
	req.upload_id = "u";
	assert_int_equal(obj_do(store, &req), 0);
	objreq_done(&req);
	assert_int_equal(obj_delete(store, "k", NULL, NULL), 0);
	/* some other web server's word is none */
	assert_int_equal(obj_delete(store, "k", NULL, NULL), -EBADMSG);
	objreq_init(&req, OBJ_MPU_ABORT, "k");
	req.upload_id = "u";
	assert_int_equal(obj_do(store, &req), -EBADMSG);
	objreq_done(&req);
	close_store();
}

static void unreachable_server(void **state)
{
	struct objreq req;

	open_store(NULL, 0, NULL);
	stub_stop(stub);
	objreq_init(&req, OBJ_PUT, "k\x01");
	assert_int_equal(obj_do(store, &req), -ECONNREFUSED);
	assert_false(req.maybe_done);
	assert_non_null(strstr(req.err.msg, "PUT k?: http://127.0.0.1:"));
	objreq_done(&req);
	obj_close(store);
}

static bool hang_up(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	return false;
}

static void lost_reply_leaves_it_open(void **state)
{
	struct objerr err = {0};
	struct obj_open_opts o = {.connections = 1};
	struct objreq req;
	char url[64];

	stub = stub_start(hang_up, NULL);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", stub_port(stub));
	o.endpoint = url;
	assert_int_equal(store_s3_new("bkt", &o, &store, &err), 0);
	objreq_init(&req, OBJ_PUT, "k");
	assert_int_equal(obj_do(store, &req), -ECONNRESET);
	assert_true(req.maybe_done);
	objreq_done(&req);
	objreq_init(&req, OBJ_HEAD, "k");
	assert_int_equal(obj_do(store, &req), -ECONNRESET);
	assert_false(req.maybe_done);
	objreq_done(&req);
	objreq_init(&req, OBJ_PUT, "k");
	req.deadline_ns = clock_now_ns() - 1;
	assert_int_equal(obj_do(store, &req), -ETIMEDOUT);
	assert_false(req.maybe_done);
	objreq_done(&req);
	obj_close(store);
	stub_stop(stub);
}

static void bad_options(void **state)
{
	static const struct obj_open_opts bad[] = {{.sse = "rot13"}, {.sse = "aws:kms:"}, {.region = "eu west"}};
	struct objstore *st = NULL;
	struct objerr err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(store_s3_new("bkt", &bad[i], &st, &err), -EINVAL);
	assert_int_equal(store_s3_new("a/b", &(struct obj_open_opts){.no_sign = true}, &st, &err), -EINVAL);
	assert_null(st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listing_goes_on),
		cmocka_unit_test(lying_listings),
		cmocka_unit_test(uploads_go_on),
		cmocka_unit_test(lying_gets),
		cmocka_unit_test(honest_gets),
		cmocka_unit_test(ignored_conditions_of_reads),
		cmocka_unit_test(error_table),
		cmocka_unit_test(equal_parts_are_learnt),
		cmocka_unit_test(deletes_of_what_is_not_there),
		cmocka_unit_test(unreachable_server),
		cmocka_unit_test(lost_reply_leaves_it_open),
		cmocka_unit_test(bad_options),
	};

	s3test_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
