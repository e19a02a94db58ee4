/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sign.h - AWS Signature Version 4 and the digests that S3 asks for. The only room for OpenSSL.
 *
 * Everything here is a function of its arguments: no clock, no global state, callable from every thread, never blocks.
 * Source: AWS General Reference "Create a signed AWS API request"; S3 API Reference "Signature Calculations for the
 * Authorization Header: Transferring Payload in a Single Chunk".
 */
#ifndef LSVD_SIGN_H
#define LSVD_SIGN_H

#include "base/base.h"
#include "base/str.h"
#include <sys/uio.h>

#define SIGN_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGN_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGN_SHA256_HEX 65 /* bytes with NUL */
#define SIGN_MD5_B64 25	   /* bytes with NUL */
#define SIGN_DATE 17	   /* "20130524T000000Z" with NUL */

/* A header (name in lower case) or a query parameter (both sides not yet encoded). Borrowed. */
struct sign_pair {
	const char *name, *value;
};

struct sign_in {
	const char *method;
	const char *path;		 /* percent-encoded as it goes on the wire, begins with '/' */
	const char *query;		 /* canonical: see sign_query(); "" when none */
	const struct sign_pair *headers; /* all of them are signed; any order, no name twice */
	size_t nheaders;
	const char *payload;		 /* hex sha256 of the body or SIGN_UNSIGNED */
	const char *access, *secret;
	const char *region, *service;	 /* service "s3" */
	const char *date;		 /* ISO 8601 basic, as in x-amz-date */
};

/* Appends name=value&... sorted by encoded name, then encoded value; this string is signed and sent. -ENOMEM. */
int must_check sign_query(const struct sign_pair *q, size_t n, struct str *out);
/* Appends the value of the Authorization header. -ENOMEM, -EINVAL (date too short), -EIO (OpenSSL refused). */
int must_check sign_v4(const struct sign_in *in, struct str *out);
/* Writes seconds since the epoch as x-amz-date. */
void sign_date(int64_t time_s, char out[SIGN_DATE]);

/* Digests over scattered bytes. -ENOTSUP when OpenSSL's policy forbids the digest (MD5 under FIPS), -ENOMEM, -EIO. */
int must_check sign_sha256_hex(const struct iovec *iov, int iovcnt, char out[SIGN_SHA256_HEX]);
int must_check sign_md5(const struct iovec *iov, int iovcnt, unsigned char out[16]);
int must_check sign_md5_b64(const struct iovec *iov, int iovcnt, char out[SIGN_MD5_B64]);
/*
 * The etag that S3 gives a multipart object without KMS: md5 over the parts' md5s, "-", number of parts. Each etag must
 * be 32 hex digits, else -EINVAL. out has room for OBJ_ETAG_MAX bytes.
 */
int must_check sign_multipart_etag(const char *const *part_etags, size_t n, char out[static 48]);

/* Overwrites secrets in a way that the compiler keeps. p may be NULL. */
void sign_wipe(void *p, size_t n);
/* Wipes and frees a NUL-terminated secret; NULL is fine. */
void sign_wipe_free(char *z);

#endif
