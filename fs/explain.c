/* SPDX-License-Identifier: GPL-3.0-or-later */
/* explain.c - the words; see explain.h. Error codes: S3 API reference, "Error responses". */
#include "config.h"
#include "explain.h"

#include "objstore/base/str.h"

#include <stdio.h>
#include <string.h>

/*
 * The store's own words come first: it knows what was asked and what came back. `words` stand in when it has none
 * (file://), `hint` says what only the command knows.
 */
static const struct {
	int error;
	const char *words, *hint;
} table[] = {
    {ENODEV, "there is no such bucket", "check the name and endpoint=, or create it"},
    {EACCES, "access refused", NULL},
    {EKEYREJECTED, "no trusted TLS connection", "ca_file= names certificates to trust"},
    {ECONNREFUSED, "the server does not listen there", "retry=SECONDS waits for it"},
    {EHOSTUNREACH, "the server cannot be reached", "retry=SECONDS waits for it"},
    {ENETUNREACH, "the network is down", "retry=SECONDS waits for it"},
    {ETIMEDOUT, "the server does not answer", "retry=SECONDS waits for it"},
    {ECONNRESET, "the server closes the connection", "is endpoint= http where it should be https, or the reverse?"},
    {EAGAIN, "the server is busy or failing", "retry=SECONDS waits for it"},
    {EBADMSG, "the answer is not that of an S3 server", "check endpoint="},
    {ENOTSUP, "the store cannot do that", NULL},
};

void explain_error(const char *source, int r, const struct objerr *e, struct objerr *err)
{
	static const struct objerr none;
	struct objerr in = e ? *e : none, out = in; /* copies: err may be e */
	const char *words = in.msg[0] ? in.msg : NULL, *hint = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].error != -r)
			continue;
		words = words ? words : table[i].words;
		hint = table[i].hint;
	}
	words = words ? words : explain_errno(r);
	if (hint && strncmp(source, "file:", 5) && !strstr(words, "endpoint=") && !strstr(words, "ca_file=") &&
	    !strstr(words, "https?"))
		objerr_set(&out, "%s: %s (%s)", source, words, hint);
	else
		objerr_set(&out, "%s: %s", source, words);
	if (err)
		*err = out;
}

const char *explain_errno(int r)
{
	const char *words = strerrordesc_np(-r);

	return words ? words : "unknown error";
}

const char *explain_quirks(unsigned quirks)
{
	if (quirks & OBJ_QUIRK_UNQUOTED_IF_MATCH)
		return "Ceph RGW: a write without conditions of another client (not of another lsvdfs), in the same moment as "
		       "ours, may win although ours was answered with success";
	return NULL;
}

bool explain_waitable(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -ECONNREFUSED || r == -ECONNRESET || r == -EHOSTUNREACH ||
	       r == -ENETUNREACH;
}

const struct explain_cap explain_caps[] = {
    {OBJ_CAP_PUT_NEW, "put-if-none-match", "creates an object only where none is",
     "two nodes that create the same name at once may both believe they won; lock files do not exclude other nodes",
     NULL},
    {OBJ_CAP_PUT_MATCH, "put-if-match", "replaces an object only in the version that was read",
     "a file that two nodes rewrite in the same moment keeps one version, and the other node may not be told", NULL},
    {OBJ_CAP_COMPLETE_COND, "complete-conditional", "the same for multipart uploads",
     "large files are checked just before their upload is completed: a write of another node in the moment between "
     "is replaced unseen",
     NULL},
    {OBJ_CAP_COPY_SRC, "copy-source-if-match", "copies only the version that was asked for",
     "renames are checked before and after the copy: a write of another node in between may move with the name", NULL},
    {OBJ_CAP_COPY_DST, "copy-conditional", "conditions on the target of a copy", NULL,
     "chmod and chown of files up to 8 MiB send the file again; of larger ones there is a short window between "
     "check and copy"},
    {OBJ_CAP_DELETE_COND, "delete-if-match", "deletes only the version that was seen",
     "rename asks before it deletes the old name: a write of another node to it in the moment between is lost", NULL},
    {OBJ_CAP_COPY, "copy", "copies on the server", NULL, "renames send the data again"},
    {OBJ_CAP_MULTIPART, "multipart", "uploads in parts", "files are limited to the largest single PUT", NULL},
    {OBJ_CAP_PART_COPY, "part-copy", "copies ranges on the server", NULL,
     "a small change in a large file sends the whole file again"},
    {OBJ_CAP_DELETE_MANY, "delete-many", "deletes many objects by one request", NULL, "rm -r costs one request a file"},
    {OBJ_CAP_NESTED, "nested", "holds both `a` and `a/b`", "a name cannot be an object and a directory at once", NULL},
    {OBJ_CAP_LONG_NAMES, "long-names", "names over 255 bytes", NULL, "none on a mount: Linux has the same limit"},
};
const size_t explain_ncaps = ARRAY_SIZE(explain_caps);
