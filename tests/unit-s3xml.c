/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-s3xml.c - replies as AWS, Ceph RGW and Swift write them, and what none of them should. */
#include "config.h"
#include "objstore/s3xml.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static int list(const char *xml, struct obj_listing **ret)
{
	*ret = NULL;
	return s3xml_list(xml, strlen(xml), ret);
}

static void list_as_aws_writes_it(void **state)
{
	struct obj_listing *l;

	assert_int_equal(
		list(HEAD "\n<ListBucketResult" NS "><Name>b</Name><Prefix></Prefix><KeyCount>4</KeyCount>"
			  "<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
			  "<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken>"
			  "<Contents><Key>z%2Flast+one%2B%25%C3%BC</Key><LastModified>2009-10-12T17:50:30.999Z</LastModified>"
			  "<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size>"
			  "<StorageClass>STANDARD</StorageClass></Contents>"
			  "<Contents><Key>a</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
			  "<ETag>\"x-2\"</ETag><Size>0</Size></Contents>"
			  "<CommonPrefixes><Prefix>dir%2F</Prefix></CommonPrefixes>"
			  "<CommonPrefixes><Prefix>a%2F</Prefix></CommonPrefixes></ListBucketResult>", &l), 0);
	assert_int_equal(l->n, 4);
	assert_string_equal(l->v[0].key, "a");
	assert_string_equal(l->v[0].etag, "x-2");
	assert_false(l->v[0].is_prefix);
	assert_string_equal(l->v[1].key, "a/");
	assert_true(l->v[1].is_prefix);
	assert_string_equal(l->v[2].key, "dir/");
	assert_string_equal(l->v[3].key, "z/last one+%\xc3\xbc");
	assert_string_equal(l->v[3].etag, "fba9dede5f27731c9771645a39863328");
	assert_int_equal(l->v[3].size, 434234);
	assert_int_equal(l->v[3].mtime_s, 1255369830);
	assert_true(l->truncated);
	assert_string_equal(l->next_token, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
	obj_listing_free(l);
}

static void list_without_encoding_is_taken_literally(void **state)
{
	struct obj_listing *l;

	assert_int_equal(list("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a+b%20&amp;&lt;</Key>"
			      "<LastModified>2024-02-29T00:00:00Z</LastModified><ETag></ETag><Size>1</Size></Contents>"
			      "</ListBucketResult>", &l), 0);
	assert_int_equal(l->n, 1);
	assert_string_equal(l->v[0].key, "a+b%20&<");
	assert_string_equal(l->v[0].etag, "");
	assert_int_equal(l->v[0].mtime_s, 1709164800);
	assert_false(l->truncated);
	obj_listing_free(l);
}

/* Ceph RGW's token is the next key, control characters and all. */
static void unreadable_token_is_left_out(void **state)
{
	struct obj_listing *l;

	assert_int_equal(list("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
			      "<NextContinuationToken>dir/&#x01;x</NextContinuationToken><Contents><Key>dir%2F%01x</Key>"
			      "<LastModified>2024-02-29T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
			      "</ListBucketResult>", &l), 0);
	assert_int_equal(l->n, 1);
	assert_string_equal(l->v[0].key, "dir/\x01x");
	assert_true(l->truncated);
	assert_null(l->next_token);
	obj_listing_free(l);
	/* but a key that came that way cannot be trusted */
	assert_int_equal(list("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>\x01x</Key>"
			      "<LastModified>2024-02-29T00:00:00Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
			      "</ListBucketResult>", &l), -EBADMSG);
}

static void key_with_nul_is_left_out(void **state)
{
	struct obj_listing *l;

	assert_int_equal(list("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
			      "<Contents><Key>a%00b</Key><LastModified>2024-02-29T00:00:00Z</LastModified>"
			      "<ETag>e</ETag><Size>1</Size></Contents></ListBucketResult>", &l), 0);
	assert_int_equal(l->n, 0);
	obj_listing_free(l);
}

#define ENTRY(key, time, etag, size)                                                                      \
	"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents>" key \
	"<LastModified>" time "</LastModified><ETag>" etag "</ETag><Size>" size "</Size></Contents></ListBucketResult>"
#define T "2024-02-29T00:00:00Z"

static void bad_listings(void **state)
{
	static const char *const bad[] = {
		"",
		"   ",
		"hello",
		"<html><body>404</body></html>",
		"<ListBucketResult>",
		"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
		"<!DOCTYPE x [<!ENTITY e \"boom\">]><ListBucketResult>&e;</ListBucketResult>",
		"<ListBucketResult><Contents><Key>&nope;</Key></Contents></ListBucketResult>",
		ENTRY("", T, "e", "1"),
		ENTRY("<Key>a<b/>c</Key>", T, "e", "1"),
		ENTRY("<Key>%4</Key>", T, "e", "1"),
		ENTRY("<Key>%zz</Key>", T, "e", "1"),
		ENTRY("<Key>a</Key>", T, "e", "-1"),
		ENTRY("<Key>a</Key>", T, "e", ""),
		ENTRY("<Key>a</Key>", T, "e", "99999999999999999999"),
		ENTRY("<Key>a</Key>", "yesterday", "e", "1"),
		ENTRY("<Key>a</Key>", "", "e", "1"),
		ENTRY("<Key>a</Key>", T, "a b", "1"),
		ENTRY("<Key>a</Key>", T,
		      "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567", "1"),
		"<ListBucketResult><CommonPrefixes></CommonPrefixes></ListBucketResult>",
		"<Error><Code>NoSuchBucket</Code></Error>",
	};
	struct obj_listing *l;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (list(bad[i], &l) != -EBADMSG)
			fail_msg("taken: %s", bad[i]);
		assert_null(l);
	}
}

static void depth_is_bounded(void **state)
{
	struct str s = {0};
	struct obj_listing *l = NULL;

	str_add(&s, "<ListBucketResult>");
	for (int i = 0; i < 100000; i++)
		str_add(&s, "<a>");
	assert_int_equal(s3xml_list(s.p, s.len, &l), -EBADMSG);
	assert_null(l);
	str_free(&s);
}

static void uploads(void **state)
{
	static const char xml[] =
		"<ListMultipartUploadsResult" NS "><Bucket>b</Bucket><KeyMarker/><UploadIdMarker/>"
		"<NextKeyMarker>k 2</NextKeyMarker><NextUploadIdMarker>id2</NextUploadIdMarker>"
		"<MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>"
		"<Upload><Key>k 2</Key><UploadId>id2</UploadId><Initiator><ID>arn:1</ID></Initiator><Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>"
		"<Upload><Key>k+1</Key><UploadId>id1</UploadId><Initiated>2010-11-10T20:48:33Z</Initiated></Upload>"
		"<Upload><Key>bad&#x2;</Key><UploadId>id3</UploadId><Initiated>2010-11-10T20:48:33Z</Initiated></Upload>"
		"</ListMultipartUploadsResult>";
	static const char no_id[] = "<ListMultipartUploadsResult><Upload><Key>k</Key></Upload></ListMultipartUploadsResult>";
	static const char no_marker[] =
		"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>";
	struct s3_uploads u = {0};

	assert_int_equal(s3xml_uploads(no_id, strlen(no_id), &u), -EBADMSG);
	assert_int_equal(s3xml_uploads(no_marker, strlen(no_marker), &u), -EBADMSG);
	assert_null(u.listing);
	assert_int_equal(s3xml_uploads(xml, strlen(xml), &u), 0);
	assert_int_equal(u.listing->n, 2);
	assert_string_equal(u.listing->v[0].key, "k 2");
	assert_string_equal(u.listing->v[0].upload_id, "id2");
	assert_int_equal(u.listing->v[0].mtime_s, 1289422113);
	assert_string_equal(u.listing->v[0].initiator, "arn:1");
	assert_null(u.listing->v[1].initiator);
	assert_string_equal(u.listing->v[1].key, "k+1");
	assert_string_equal(u.next_key, "k 2");
	assert_string_equal(u.next_upload, "id2");
	obj_listing_free(u.listing);
	free(u.next_key);
	free(u.next_upload);
}

static void parts(void **state)
{
	static const char xml[] =
		"<ListPartsResult" NS "><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId><IsTruncated>false</IsTruncated>"
		"<Part><PartNumber>10</PartNumber><ETag>&quot;e10&quot;</ETag><Size>7</Size></Part>"
		"<Part><PartNumber>2</PartNumber><ETag>\"e2\"</ETag><Size>5242880</Size></Part></ListPartsResult>";
	static const char none[] = "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>";
	static const char *const bad[] = {
		"<ListMultipartUploadsResult/>", "<ListPartsResult><Part/></ListPartsResult>",
		"<ListPartsResult><Part><PartNumber>0</PartNumber><Size>1</Size></Part></ListPartsResult>",
		"<ListPartsResult><Part><PartNumber>10001</PartNumber><Size>1</Size></Part></ListPartsResult>",
		"<ListPartsResult><Part><PartNumber>1</PartNumber><Size>-1</Size></Part></ListPartsResult>", "<a", "",
	};
	struct obj_listing *l = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(s3xml_parts(bad[i], strlen(bad[i]), &l), -EBADMSG);
	assert_null(l);
	assert_int_equal(s3xml_parts(xml, strlen(xml), &l), 0);
	assert_int_equal(l->n, 2);
	assert_false(l->truncated);
	assert_string_equal(l->v[0].key, "00002");
	assert_string_equal(l->v[0].etag, "e2");
	assert_int_equal(l->v[0].size, 5242880);
	assert_string_equal(l->v[1].key, "00010");
	obj_listing_free(l);
	assert_int_equal(s3xml_parts(none, strlen(none), &l), 0);
	assert_int_equal(l->n, 0);
	assert_true(l->truncated);
	obj_listing_free(l);
}

static void create(void **state)
{
	static const char xml[] = HEAD "<InitiateMultipartUploadResult" NS "><Bucket>b</Bucket><Key>k</Key>"
				       "<UploadId>VXBsb2FkIElE.x_-</UploadId></InitiateMultipartUploadResult>";
	static const char empty[] = "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>";
	char *id = NULL;

	assert_int_equal(s3xml_create(empty, strlen(empty), &id), -EBADMSG);
	assert_null(id);
	assert_int_equal(s3xml_create(xml, strlen(xml), &id), 0);
	assert_string_equal(id, "VXBsb2FkIElE.x_-");
	free(id);
}

#define ERROR_XML                                                                                               \
	"<Error><Code>InternalError</Code><Message>We encountered\nan error</Message><RequestId>656c76</RequestId>" \
	"<HostId>x</HostId></Error>"

static void copies(void **state)
{
	static const char aws[] = HEAD "\n\n   <CopyObjectResult" NS "><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
				       "<ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag></CopyObjectResult>";
	static const char rgw[] = "<CopyPartResult><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
				  "<ETag>9b2cf535f27731c974343645a3985328</ETag></CopyPartResult>";
	static const char no_etag[] = "<CopyObjectResult><ETag/></CopyObjectResult>";
	char etag[OBJ_ETAG_MAX] = "old";
	struct s3_error e = {.code = ""};
	int64_t t = 0;

	assert_int_equal(s3xml_copy(no_etag, strlen(no_etag), etag, &t, &e), -EBADMSG);
	assert_string_equal(etag, "old");
	assert_int_equal(s3xml_copy(ERROR_XML, strlen(ERROR_XML), etag, &t, &e), -EREMOTEIO);
	assert_string_equal(etag, "old");
	assert_string_equal(e.code, "InternalError");
	assert_string_equal(e.message, "We encountered?an error");
	assert_string_equal(e.request_id, "656c76");
	assert_int_equal(s3xml_copy(aws, strlen(aws), etag, &t, &e), 0);
	assert_string_equal(etag, "9b2cf535f27731c974343645a3985328");
	assert_int_equal(t, 1255369830);
	assert_int_equal(s3xml_copy(rgw, strlen(rgw), etag, &t, &e), 0);
}

static void completes(void **state)
{
	static const char aws[] = HEAD "<CompleteMultipartUploadResult" NS "><Location>http://x</Location><Key>k</Key>"
				       "<ETag>\"3858f62230ac3c915f300c664312c11f-9\"</ETag></CompleteMultipartUploadResult>";
	static const char rgw[] = "\n \n<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>";
	char etag[OBJ_ETAG_MAX];
	struct s3_error e = {.code = ""};

	assert_int_equal(s3xml_complete(aws, strlen(aws), etag, &e), 0);
	assert_string_equal(etag, "3858f62230ac3c915f300c664312c11f-9");
	assert_int_equal(s3xml_complete(rgw, strlen(rgw), etag, &e), 0);
	assert_string_equal(etag, "");
	assert_int_equal(s3xml_complete(ERROR_XML, strlen(ERROR_XML), etag, &e), -EREMOTEIO);
	assert_int_equal(s3xml_complete("", 0, etag, &e), -EBADMSG);
}

static void errors(void **state)
{
	static const char region[] = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is "
				     "wrong</Message><Region>eu-central-1</Region></Error>";
	static const char moved[] = "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint>"
				    "</Error>";
	struct s3_error e = {.code = ""};

	assert_int_equal(s3xml_error(region, strlen(region), &e), 0);
	assert_string_equal(e.region, "eu-central-1");
	assert_int_equal(s3xml_error(moved, strlen(moved), &e), 0);
	assert_string_equal(e.endpoint, "b.s3.eu-west-1.amazonaws.com");
	assert_int_equal(s3xml_error("<html/>", 7, &e), -EBADMSG);
	assert_int_equal(s3xml_error("<Error>\xff\xfe</Error>", 17, &e), -EBADMSG);
}

static void delete_results(void **state)
{
	static const char quiet[] = "<DeleteResult" NS "></DeleteResult>";
	static const char absent[] = "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
	static const char mixed[] = "<DeleteResult><Deleted><Key>a</Key></Deleted>"
				    "<Error><Key>n</Key><Code>NoSuchKey</Code></Error>"
				    "<Error><Key>b\xc3\xbc</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
				    "<Error><Key>c</Key><Code>InternalError</Code></Error></DeleteResult>";
	struct s3_error e = {.code = ""};
	char key[16] = "";
	bool failed = true;

	assert_int_equal(s3xml_delete(quiet, strlen(quiet), &failed, &e, key, sizeof(key)), 0);
	assert_false(failed);
	failed = true;
	assert_int_equal(s3xml_delete(absent, strlen(absent), &failed, &e, key, sizeof(key)), 0);
	assert_false(failed);
	assert_int_equal(s3xml_delete(mixed, strlen(mixed), &failed, &e, key, sizeof(key)), 0);
	assert_true(failed);
	assert_string_equal(e.code, "AccessDenied");
	assert_string_equal(key, "b??");
	assert_int_equal(s3xml_delete(ERROR_XML, strlen(ERROR_XML), &failed, &e, key, sizeof(key)), -EREMOTEIO);
	assert_int_equal(s3xml_delete("<a/>", 4, &failed, &e, key, sizeof(key)), -EBADMSG);
}

static void bodies_that_we_send(void **state)
{
	static const char *const keys[] = {"a&b<c>\"d'", "e\r\n\tf", "g"};
	const struct obj_part parts[] = {{1, "aa"}, {10000, "b&"}};
	struct str s = {0};

	s3xml_add_delete(&s, keys, 3);
	assert_int_equal(s.err, 0);
	assert_non_null(strstr(s.p, "<Quiet>true</Quiet><Object><Key>a&amp;b&lt;c&gt;&quot;d'</Key></Object>"
				    "<Object><Key>e&#13;&#10;&#9;f</Key></Object><Object><Key>g</Key></Object></Delete>"));
	str_reset(&s);
	s3xml_add_complete(&s, parts, 2);
	assert_non_null(strstr(s.p, "<Part><PartNumber>1</PartNumber><ETag>&quot;aa&quot;</ETag></Part>"
				    "<Part><PartNumber>10000</PartNumber><ETag>&quot;b&amp;&quot;</ETag></Part>"
				    "</CompleteMultipartUpload>"));
	str_free(&s);
}

static void keys_that_xml_holds(void **state)
{
	assert_true(s3xml_can_hold("a\t\n\r \xc3\xbc\xf0\x9f\x98\x80\x7f"));
	assert_false(s3xml_can_hold("a\x01"));
	assert_false(s3xml_can_hold("\x1f"));
	assert_false(s3xml_can_hold("\xff"));
	assert_false(s3xml_can_hold("\xed\xa0\x80"));	  /* a surrogate */
	assert_false(s3xml_can_hold("\xef\xbf\xbe"));	  /* U+FFFE */
	assert_true(s3xml_can_hold("\xef\xbf\xbd"));	  /* U+FFFD */
}

static void times(void **state)
{
	static const struct {
		const char *s;
		int64_t t;
	} good[] = {{"1970-01-01T00:00:00Z", 0},
		    {"2000-02-29T23:59:59.999999Z", 951868799},
		    {"2026-11-21T01:00:00+01:00", 1795219200},
		    {"2026-11-20T19:30:00-0430", 1795219200},
		    {"2026-11-21T00:00:00", 1795219200},
		    {"2100-03-01T00:00:00Z", 4107542400}};
	static const char *const bad[] = {"",			   "2026",		     "2026-13-01T00:00:00Z",
					  "2026-01-00T00:00:00Z",  "2026-01-01T24:00:00Z",    "2026-01-01T00:00:00Zz",
					  "2026-01-01T00:00:00+1", "2026-1-01T00:00:00Z",     " 2026-01-01T00:00:00Z"};
	int64_t t = 5;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(s3xml_time(good[i].s, &t), 0);
		assert_int_equal(t, good[i].t);
	}
	t = 5;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(s3xml_time(bad[i], &t), -EINVAL);
	assert_int_equal(t, 5);
}

static void etags(void **state)
{
	char e[OBJ_ETAG_MAX];

	assert_int_equal(s3xml_etag("\"abc\"", e), 0);
	assert_string_equal(e, "abc");
	assert_int_equal(s3xml_etag("W/\"abc-1\"", e), 0);
	assert_string_equal(e, "abc-1");
	assert_int_equal(s3xml_etag("\"\"", e), 0);
	assert_string_equal(e, "");
	assert_int_equal(s3xml_etag("a\"b", e), -EBADMSG);
	assert_int_equal(s3xml_etag("\"", e), -EBADMSG);
	assert_int_equal(s3xml_etag("*", e), -EBADMSG); /* If-Match: * would hold for any version */
	assert_int_equal(s3xml_etag("\"*\"", e), -EBADMSG);
	assert_int_equal(s3xml_etag("a\x80", e), -EBADMSG);
}

/* libxml2 complains about encodings by printing, with bytes of the document in it. */
static void nothing_is_printed(void **state)
{
	static const char *const docs[] = {"<?xml version=\"1.0\" encoding=\"no-such\"?><Error/>",
					   "<?xml version=\"1.0\" encoding=\"UTF-32\"?><Error>abcdefgh</Error>",
					   HEAD "<Error>\xff\xfe\x80</Error>", "<Error>"};
	FILE *f = tmpfile();
	int saved = dup(STDERR_FILENO);
	struct s3_error e;

	assert_non_null(f);
	assert_true(saved >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(docs); i++)
		ignore(s3xml_error(docs[i], strlen(docs[i]), &e));
	fflush(stderr);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	assert_int_equal(lseek(fileno(f), 0, SEEK_END), 0);
	fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_as_aws_writes_it),
		cmocka_unit_test(list_without_encoding_is_taken_literally),
		cmocka_unit_test(unreadable_token_is_left_out),
		cmocka_unit_test(key_with_nul_is_left_out),
		cmocka_unit_test(bad_listings),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(uploads),
		cmocka_unit_test(parts),
		cmocka_unit_test(create),
		cmocka_unit_test(copies),
		cmocka_unit_test(completes),
		cmocka_unit_test(errors),
		cmocka_unit_test(delete_results),
		cmocka_unit_test(bodies_that_we_send),
		cmocka_unit_test(keys_that_xml_holds),
		cmocka_unit_test(times),
		cmocka_unit_test(etags),
		cmocka_unit_test(nothing_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
