/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-sign.c - signatures against three independent sources: the worked examples of the S3 API Reference ("Signature
 * Calculations for the Authorization Header"), cases of AWS' published SigV4 test suite, and a table made by botocore.
 */
#include "config.h"
#include "objstore/objstore.h"
#include "objstore/sign.h"
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#define S3_HOST "examplebucket.s3.amazonaws.com"
#define S3_DATE "20130524T000000Z"
#define SUITE_HOST "example.amazonaws.com"
#define SUITE_DATE "20150830T123600Z"

struct suite_case {
	const char *method, *path;
	struct sign_pair query[4], headers[8];
	const char *signature;
};

static size_t count(const struct sign_pair *p)
{
	size_t n = 0;

	while (p[n].name != NULL)
		n++;
	return n;
}

static char *authorize(struct sign_in in, const struct sign_pair *query)
{
	struct str q = {0}, out = {0};
	char *auth;

	assert_int_equal(sign_query(query, count(query), &q), 0);
	in.query = str_c(&q);
	assert_int_equal(sign_v4(&in, &out), 0);
	assert_int_equal(str_take(&out, &auth), 0);
	str_free(&q);
	return auth;
}

static void check(struct sign_in in, const struct suite_case *c, const char *payload)
{
	char *auth;

	in.method = c->method;
	in.path = c->path;
	in.headers = c->headers;
	in.nheaders = count(c->headers);
	in.payload = payload;
	auth = authorize(in, c->query);
	assert_string_equal(strstr(auth, "Signature=") + 10, c->signature);
	free(auth);
}

static void s3_reference_examples(void **state)
{
	static const char welcome[] = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
	static const struct suite_case get = {
		"GET", "/test.txt", {{NULL, NULL}},
		{{"range", "bytes=0-9"}, {"host", S3_HOST}, {"x-amz-content-sha256", SIGN_EMPTY_SHA256},
		 {"x-amz-date", S3_DATE}},
		"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"};
	static const struct suite_case put = {
		"PUT", "/test%24file.text", {{NULL, NULL}},
		{{"host", S3_HOST}, {"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-date", S3_DATE},
		 {"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {"x-amz-content-sha256", welcome}},
		"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"};
	static const struct suite_case lifecycle = {
		"GET", "/", {{"lifecycle", ""}},
		{{"host", S3_HOST}, {"x-amz-date", S3_DATE}, {"x-amz-content-sha256", SIGN_EMPTY_SHA256}},
		"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"};
	static const struct suite_case list = {
		"GET", "/", {{"prefix", "J"}, {"max-keys", "2"}},
		{{"host", S3_HOST}, {"x-amz-date", S3_DATE}, {"x-amz-content-sha256", SIGN_EMPTY_SHA256}},
		"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"};
	const struct sign_in in = {.access = "AKIAIOSFODNN7EXAMPLE",
				   .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
				   .region = "us-east-1", .service = "s3", .date = S3_DATE};
	const struct iovec split[] = {{(void *)"Welcome to ", 11}, {NULL, 0}, {(void *)"Amazon S3.", 10}};
	char hex[SIGN_SHA256_HEX];

	assert_int_equal(sign_sha256_hex(split, 3, hex), 0);
	assert_string_equal(hex, welcome);
	check(in, &get, SIGN_EMPTY_SHA256);
	check(in, &put, welcome);
	check(in, &lifecycle, SIGN_EMPTY_SHA256);
	check(in, &list, SIGN_EMPTY_SHA256);
}

static void s3_reference_whole_header(void **state)
{
	const struct sign_pair none[] = {{NULL, NULL}};
	const struct sign_pair headers[] = {{"x-amz-date", S3_DATE}, {"range", "bytes=0-9"}, {"host", S3_HOST},
					    {"x-amz-content-sha256", SIGN_EMPTY_SHA256}};
	struct sign_in in = {.method = "GET", .path = "/test.txt", .headers = headers, .nheaders = 4,
			     .payload = SIGN_EMPTY_SHA256, .access = "AKIAIOSFODNN7EXAMPLE",
			     .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", .region = "us-east-1",
			     .service = "s3", .date = S3_DATE};
	char *auth = authorize(in, none);

	assert_string_equal(auth, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
				  "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature="
				  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	free(auth);
}

static void published_suite(void **state)
{
	static const struct suite_case cases[] = {
		{"GET", "/", {{NULL, NULL}}, {{"host", SUITE_HOST}, {"x-amz-date", SUITE_DATE}},
		 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"}, /* get-vanilla */
		{"GET", "/", {{"Param2", "value2"}, {"Param1", "value1"}},
		 {{"host", SUITE_HOST}, {"x-amz-date", SUITE_DATE}},
		 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"}, /* get-vanilla-query-order-key-case */
		{"POST", "/", {{NULL, NULL}}, {{"host", SUITE_HOST}, {"x-amz-date", SUITE_DATE}},
		 "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"}, /* post-vanilla */
		{"GET", "/", {{NULL, NULL}},
		 {{"host", SUITE_HOST}, {"my-header1", " value1"}, {"my-header2", " \"a   b   c\""},
		  {"x-amz-date", SUITE_DATE}},
		 "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"}, /* get-header-value-trim */
	};
	const struct sign_in in = {.access = "AKIDEXAMPLE", .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
				   .region = "us-east-1", .service = "service", .date = SUITE_DATE};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check(in, &cases[i], SIGN_EMPTY_SHA256);
}

struct vector {
	const char *method, *path, *access, *secret, *region, *date, *payload;
	struct sign_pair query[8], headers[12];
	const char *authorization;
};

static const struct vector vectors[] = {
#include "sign-vectors.h"
};

static void botocore_agrees(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct vector *v = &vectors[i];
		struct sign_in in = {v->method, v->path, "", v->headers, count(v->headers), v->payload, v->access,
				     v->secret, v->region, "s3", v->date};
		char *auth = authorize(in, v->query);

		assert_string_equal(auth, v->authorization);
		free(auth);
	}
	assert_true(ARRAY_SIZE(vectors) >= 40);
}

static void bad_date_is_refused(void **state)
{
	const struct sign_in in = {"GET", "/", "", NULL, 0, SIGN_UNSIGNED, "a", "s", "r", "s3", "2013"};
	struct str out = {0};

	assert_int_equal(sign_v4(&in, &out), -EINVAL);
	assert_int_equal(out.len, 0);
}

static void dates(void **state)
{
	char d[SIGN_DATE];

	sign_date(1369353600, d);
	assert_string_equal(d, S3_DATE);
	sign_date(0, d);
	assert_string_equal(d, "19700101T000000Z");
	sign_date(1709210096, d); /* a leap day */
	assert_string_equal(d, "20240229T123456Z");
}

static void digests(void **state)
{
	const struct iovec abc[] = {{(void *)"a", 1}, {(void *)"bc", 2}};
	char b64[SIGN_MD5_B64], hex[SIGN_SHA256_HEX];

	assert_int_equal(sign_md5_b64(abc, 2, b64), 0); /* RFC 1321: 900150983cd24fb0d6963f7d28e17f72 */
	assert_string_equal(b64, "kAFQmDzST7DWlj99KOF/cg==");
	assert_int_equal(sign_sha256_hex(NULL, 0, hex), 0);
	assert_string_equal(hex, SIGN_EMPTY_SHA256);
}

static void multipart_etags(void **state)
{
	/* md5("a" part) and md5("b" part); the expected value by python: md5(bytes.fromhex(a + b)) */
	const char *const parts[] = {"0cc175b9c0f1b6a831c399e269772661", "92EB5FFEE6AE2FEC3AD71C777531578F"};
	const char *const bad[] = {"0cc175b9c0f1b6a831c399e269772661", "0cc175b9c0f1b6a831c399e26977266g"};
	char out[OBJ_ETAG_MAX] = "untouched";

	assert_int_equal(sign_multipart_etag(bad, 2, out), -EINVAL);
	assert_string_equal(out, "untouched");
	assert_int_equal(sign_multipart_etag(parts, 2, out), 0);
	assert_string_equal(out, "96e024ba2074fe77e8e965ba43a704be-2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(s3_reference_examples), cmocka_unit_test(s3_reference_whole_header),
		cmocka_unit_test(published_suite),	 cmocka_unit_test(botocore_agrees),
		cmocka_unit_test(bad_date_is_refused),	 cmocka_unit_test(dates),
		cmocka_unit_test(digests),		 cmocka_unit_test(multipart_etags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
