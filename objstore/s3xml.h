/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3xml.h - the XML replies of S3 as structures, and the two XML bodies that we send. The only room for libxml2.
 *
 * Pure functions of bytes: no network, no entities, no DTD, bounded depth. Anything that is not the wanted document is
 * -EBADMSG; -ENOMEM; out parameters are untouched on failure. A parser whose operation may answer 200 with an <Error>
 * (CopyObject, CompleteMultipartUpload) takes a struct s3_error and returns -EREMOTEIO when that is what it got.
 * Source: S3 API Reference, "Response Elements" of each action. Namespaces are not looked at.
 */
#ifndef LSVD_S3XML_H
#define LSVD_S3XML_H

#include "base/base.h"
#include "base/str.h"
#include "objstore.h"

#define S3XML_MAX (64 * MiB) /* a longer document is -EBADMSG */

/* <Error>; fields are cut to fit and made printable. */
struct s3_error {
	char code[64];
	char message[160];
	char request_id[80];
	char region[32];    /* <Region>, in AuthorizationHeaderMalformed */
	char endpoint[128]; /* <Endpoint>, in PermanentRedirect */
};

/*
 * ListObjectsV2. Keys with NUL, which no C string holds, are left out. truncated without next_token: more follow, but the
 * server's token could not be understood (Ceph RGW sends keys with control characters as tokens): go on by start-after.
 */
int must_check s3xml_list(const void *p, size_t n, struct obj_listing **ret);

/*
 * ListMultipartUploads; markers say where to go on while truncated and are "" otherwise. Keys that the XML did not carry
 * whole (control characters without percent-encoding) are left out.
 */
struct s3_uploads {
	struct obj_listing *listing; /* key, upload_id, mtime_s = Initiated */
	char *next_key, *next_upload;
};
int must_check s3xml_uploads(const void *p, size_t n, struct s3_uploads *ret);

/* ListParts: keys are part numbers of five digits; truncated when there are more. */
int must_check s3xml_parts(const void *p, size_t n, struct obj_listing **ret);

/* InitiateMultipartUploadResult; *ret_id is the caller's. */
int must_check s3xml_create(const void *p, size_t n, char **ret_id);
/* CopyObjectResult and CopyPartResult. mtime_s 0 when not said. */
int must_check s3xml_copy(const void *p, size_t n, char ret_etag[OBJ_ETAG_MAX], int64_t *ret_mtime_s,
			  struct s3_error *ret_err);
/* CompleteMultipartUploadResult; the etag may be "". */
int must_check s3xml_complete(const void *p, size_t n, char ret_etag[OBJ_ETAG_MAX], struct s3_error *ret_err);
int must_check s3xml_error(const void *p, size_t n, struct s3_error *ret);
/* DeleteResult: the first <Error> in it that is not NoSuchKey, if any: *ret_failed, its key cut to fit. */
int must_check s3xml_delete(const void *p, size_t n, bool *ret_failed, struct s3_error *ret, char *ret_key, size_t cap);

/* True when XML 1.0 can hold this key (UTF-8 without most control characters). */
bool s3xml_can_hold(const char *key);
/* Append the bodies of DeleteObjects (quiet) and CompleteMultipartUpload; look at out->err. */
void s3xml_add_delete(struct str *out, const char *const *keys, size_t n);
void s3xml_add_complete(struct str *out, const struct obj_part *parts, size_t n);

/* ISO 8601 "2009-10-12T17:50:30.000Z" or with an offset -> seconds since the epoch, truncated. -EINVAL. */
int must_check s3xml_time(const char *s, int64_t *ret_s);
/* Copies an etag without W/, quotes and &quot;. -EBADMSG when it does not fit, holds control characters, or is "*", which
 * as a condition means any version. */
int must_check s3xml_etag(const char *s, char out[OBJ_ETAG_MAX]);

#endif
