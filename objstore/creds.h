/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * creds.h - where the keys come from, and keeping them fresh.
 *
 * The chain; the first that has something wins, and one that was asked for by name must have something:
 *
 *   no_sign                  nothing is signed
 *   passwd_file=             s3fs format, mode 0600 or 0400
 *   profile=                 that profile of the two AWS files below
 *   environment              AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   profile files            ~/.aws/credentials, ~/.aws/config (AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE), profile
 *                            AWS_PROFILE or default; keys or credential_process
 *   ~/.passwd-s3fs, /etc/passwd-s3fs
 *   instance metadata        IMDSv2 (AWS_EC2_METADATA_DISABLED=true leaves it out, AWS_EC2_METADATA_SERVICE_ENDPOINT moves it)
 *
 * Keys that expire are fetched again five minutes before, by one thread, while requests go on with the old ones; only
 * who has no valid keys at all waits. Secrets are in no message and are wiped before their memory is freed.
 */
#ifndef LSVD_CREDS_H
#define LSVD_CREDS_H

#include "base/base.h"
#include "objstore.h"
#include <stdatomic.h>

struct creds_keys {
	char *access, *secret;
	char *token;	   /* session token, NULL = none */
	int64_t expires_s; /* wall clock, 0 = never */
	unsigned gen;	   /* changes whenever the keys do */
};
void creds_keys_wipe(struct creds_keys *k); /* wipes, frees the strings, zeroes */

struct creds_opts {
	const char *bucket; /* for passwd_file lines of one bucket */
	const char *profile, *passwd_file;
	bool no_sign;
};

/*
 * Looks the chain up; reads files, sends nothing, runs nothing (a process or IMDS is asked when keys are first needed).
 * -EACCES no credentials, or a file that others may read; -ENOENT a named file or profile that is not there; -EBADMSG a
 * file that cannot be understood; -EPERM a profile of a kind that is not supported. Words in err.
 */
int must_check creds_new(const struct creds_opts *opts, struct creds **ret, struct objerr *err);
/* No waiter may be queued. Ends a running credential_process. NULL is fine. */
void creds_free(struct creds *c);
bool creds_anonymous(const struct creds *c);
/* Region from AWS_REGION, AWS_DEFAULT_REGION or the profile; NULL when none says. */
const char *creds_region(const struct creds *c);
/* Where the keys come from, in words ("environment", "profile x", ...). */
const char *creds_source(const struct creds *c);

/*
 * status: 0, -ENOMEM, -EACCES (no keys to be had), -EHOSTUNREACH (none now: a source that does not answer, or one that had
 * some before; worth another try).
 * fn runs once, inline when valid keys are at hand, else on the credentials thread. keys are good until fn returns.
 */
struct creds_waiter {
	struct creds_waiter *next;
	void (*fn)(struct creds_waiter *w, int status, const struct creds_keys *keys, const char *msg);
};
void creds_get(struct creds *c, struct creds_waiter *w);
/*
 * The server refused keys of generation gen. True when asking again is worth while: newer ones are there, or the source
 * can be read again and that was not done in the last seconds.
 */
bool creds_refused(struct creds *c, unsigned gen);

/* --- parsers: pure functions of bytes; *ret belongs to the caller and is untouched on failure ---------------------- */

/*
 * s3fs password file: lines ACCESS:SECRET or BUCKET:ACCESS:SECRET; '#' begins a comment line. The secret is what follows
 * the last colon, because access keys may hold colons (Swift's account:user). What stands before the first colon is a
 * bucket only if it equals `bucket`; such a line wins over a plain one, and a plain one without a further colon over one
 * with. -ENOENT no line fits, -EBADMSG a line without a colon or with an empty half; *ret_line (may be NULL) = its number.
 */
int must_check creds_parse_passwd(const void *p, size_t n, const char *bucket, struct creds_keys *ret,
				  unsigned *ret_line);

struct creds_profile {
	struct creds_keys keys;
	char *region, *process;
	bool found;	  /* the section is there */
	bool unsupported; /* it asks for a role, SSO or web identity */
};
void creds_profile_wipe(struct creds_profile *p);
/*
 * One profile of an AWS file. config: sections are called "profile NAME" (except default), as in ~/.aws/config.
 * A section that is not there is success with found = false. -EBADMSG on a line that is neither section nor setting.
 */
int must_check creds_parse_profile(const void *p, size_t n, const char *name, bool config, struct creds_profile *ret,
				   unsigned *ret_line);
/* Output of a credential_process (Version 1) or IMDS (Code Success). -EBADMSG. */
int must_check creds_parse_json(const void *p, size_t n, struct creds_keys *ret);

/* Printable ASCII without blanks, not empty: may go into a header. */
bool creds_is_token(const char *z);

/* --- sources that take time (credfetch.c); they block; words in msg ----------------------------------------------- */

/* Runs `sh -c cmd`, at most a minute or until *stop. -ETIMEDOUT, -EACCES (it failed), -EBADMSG. */
int must_check creds_fetch_process(const char *cmd, const _Atomic bool *stop, struct creds_keys *ret, char *msg,
				   size_t cap);
/* endpoint NULL = 169.254.169.254. -EACCES when there is no such service or no role. */
int must_check creds_fetch_imds(const char *endpoint, struct creds_keys *ret, char *msg, size_t cap);

#endif
