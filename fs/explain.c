/* SPDX-License-Identifier: GPL-3.0-or-later */
/* explain.c - the words; see explain.h. Error codes: S3 API reference, "Error responses". */
#include "config.h"
#include "explain.h"

#include "objstore/base/str.h"

#include <stdio.h>
#include <string.h>

/* By <Code> first: it is the most precise; then by errno. */
static const struct {
	const char *code;
	const char *words;
} by_code[] = {
	{ "InvalidAccessKeyId", "the server does not know this access key: check the credentials (lsvdfs(1), CREDENTIALS)" },
	{ "SignatureDoesNotMatch", "the secret key does not fit the access key (or a proxy changes requests)" },
	{ "ExpiredToken", "the session token has expired: get new credentials" },
	{ "InvalidToken", "the session token is not valid: get new credentials" },
	{ "TokenRefreshRequired", "the session token has expired: get new credentials" },
	{ "RequestTimeTooSkewed", "the clock of this machine is too far off: set it (timedatectl, chrony)" },
	{ "NoSuchBucket", "there is no such bucket: check the name and endpoint=, or create it" },
	{ "InvalidBucketName", "that is no valid bucket name" },
	{ "AuthorizationHeaderMalformed", "wrong region: give region=" },
	{ "PermanentRedirect", "the bucket lives at another endpoint: give region= or endpoint=" },
	{ "TemporaryRedirect", "the bucket lives at another endpoint for now: try again in some minutes, or give region=" },
	{ "IllegalLocationConstraintException", "wrong region: give region=" },
	{ "InvalidRegionName", "wrong region: give region=" },
	{ "AllAccessDisabled", "access to the bucket is switched off by its provider" },
	{ "AccountProblem", "the provider reports a problem with the account" },
	{ "SlowDown", "the server is overloaded: try again later" },
};

static const struct {
	int error;
	const char *words;
} by_errno[] = {
	{ ENODEV, "there is no such bucket: check the name and endpoint=, or create it" },
	{ EACCES, "access refused: these credentials may not do that (lsvdfs probe says which rights they have)" },
	{ EKEYREJECTED, "no trusted TLS connection: give ca_file= when the server has a private certificate, "
			"install ca-certificates when the system has none" },
	{ ECONNREFUSED, "the server does not listen there: check endpoint= (retry=SECONDS waits for it)" },
	{ EHOSTUNREACH, "the server cannot be reached: check endpoint= and the network (retry=SECONDS waits for it)" },
	{ ENETUNREACH, "the server cannot be reached: check the network (retry=SECONDS waits for it)" },
	{ ETIMEDOUT, "the server does not answer: check endpoint= and the network (retry=SECONDS waits for it)" },
	{ ECONNRESET, "the server closes the connection: is endpoint= https where it should be http, or the reverse?" },
	{ EAGAIN, "the server is busy or failing: try again later (retry=SECONDS waits for it)" },
	{ EBADMSG, "the answer is not that of an S3 server: check endpoint=" },
	{ ENOTSUP, "the store cannot do that" },
	{ ENOENT, "not there" },
};

static const char *advice(int r, const char *code)
{
	for (size_t i = 0; *code && i < ARRAY_SIZE(by_code); i++)
		if (!strcmp(code, by_code[i].code))
			return by_code[i].words;
	for (size_t i = 0; i < ARRAY_SIZE(by_errno); i++)
		if (by_errno[i].error == -r)
			return by_errno[i].words;
	return NULL;
}

void explain_error(const char *source, int r, const struct objerr *e, struct objerr *err)
{
	static const struct objerr none;
	const struct objerr in = e ? *e : none; /* a copy: err may be e */
	const char *words = advice(r, in.code);
	struct objerr out = in;

	if (!words && in.msg[0]) {
		objerr_set(&out, "%s: %s", source, in.msg);
	} else if (!words) {
		objerr_set(&out, "%s: %s", source, explain_errno(r));
	} else if (in.msg[0]) {
		objerr_set(&out, "%s: %s [%s]", source, words, in.msg);
	} else {
		objerr_set(&out, "%s: %s", source, words);
	}
	if (err)
		*err = out;
}

const char *explain_errno(int r)
{
	const char *words = strerrordesc_np(-r);

	return words ? words : "unknown error";
}

bool explain_waitable(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -ECONNREFUSED || r == -ECONNRESET || r == -EHOSTUNREACH ||
	       r == -ENETUNREACH;
}

const struct explain_cap explain_caps[] = {
	{ OBJ_CAP_PUT_NEW, "put-if-none-match", "creates an object only where none is",
	  "two nodes that create the same name at once may both believe they won; lock files do not exclude other nodes",
	  NULL },
	{ OBJ_CAP_PUT_MATCH, "put-if-match", "replaces an object only in the version that was read",
	  "a file that two nodes rewrite in the same moment keeps one version, and the other node may not be told", NULL },
	{ OBJ_CAP_COMPLETE_COND, "complete-conditional", "the same for multipart uploads",
	  "large files are checked just before their upload is completed: a write of another node in the moment between "
	  "is replaced unseen",
	  NULL },
	{ OBJ_CAP_COPY_SRC, "copy-source-if-match", "copies only the version that was asked for",
	  "renames are checked before and after the copy: a write of another node in between may move with the name", NULL },
	{ OBJ_CAP_COPY_DST, "copy-conditional", "conditions on the target of a copy",
	  NULL, "chmod and chown of files up to 8 MiB send the file again; of larger ones there is a short window between "
	  "check and copy" },
	{ OBJ_CAP_DELETE_COND, "delete-if-match", "deletes only the version that was seen",
	  "rename asks before it deletes the old name: a write of another node to it in the moment between is lost", NULL },
	{ OBJ_CAP_COPY, "copy", "copies on the server", NULL, "renames send the data again" },
	{ OBJ_CAP_MULTIPART, "multipart", "uploads in parts", "files are limited to the largest single PUT", NULL },
	{ OBJ_CAP_PART_COPY, "part-copy", "copies ranges on the server", NULL,
	  "a small change in a large file sends the whole file again" },
	{ OBJ_CAP_DELETE_MANY, "delete-many", "deletes many objects by one request", NULL, "rm -r costs one request a file" },
	{ OBJ_CAP_NESTED, "nested", "holds both `a` and `a/b`",
	  "a name cannot be an object and a directory at once", NULL },
	{ OBJ_CAP_LONG_NAMES, "long-names", "names over 255 bytes", NULL, "none on a mount: Linux has the same limit" },
};
const size_t explain_ncaps = ARRAY_SIZE(explain_caps);
