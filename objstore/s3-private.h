/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * s3-private.h - shared by the four files of the S3 store: s3.c (life of a call), s3op.c (request -> HTTP),
 * s3reply.c (HTTP -> answer), s3err.c (errors in words).
 */
#ifndef LSVD_S3_PRIVATE_H
#define LSVD_S3_PRIVATE_H

#include "creds.h"
#include "http.h"
#include "objstore.h"
#include "s3xml.h"
#include "sign.h"
#include "store-private.h"
#include "base/lock.h"

#define S3_REGION_MAX 32
#define S3_QUERY_MAX 8
#define S3_SKEW_LEAST_S 5   /* a smaller difference is no reason for any refusal */
#define S3_SKEW_WORTH_S 600 /* AWS refuses 900 s; a HEAD refused beyond this is taken for a wrong clock */

struct s3 {
	struct objstore base; /* first */
	struct obj_stats stats;
	struct creds *creds;
	struct http *http;
	/* read-only after store_s3_new */
	char *bucket;
	char *scheme;		   /* "http" or "https" */
	char *host;		   /* host[:port] of the endpoint; NULL = AWS, by region */
	bool virtual_host;
	bool requester_pays;
	char *storage_class, *sse, *sse_key; /* NULL = none */
	int64_t timeout_ns, stall_ns;

	_Atomic int64_t skew_s;	 /* server's clock minus ours, as far as it was found wanting */
	_Atomic bool skew_said;
	struct mtx lock;
	char region[S3_REGION_MAX]; /* under lock: changes when the server names another */
};

/* A call is one objreq; most are one HTTP request, see s3.c for those that are more. */
enum s3_step {
	S3_MAIN,
	S3_HEAD_EMPTY,	  /* GET from 0 met 416: an empty object, HEAD gives the rest */
	S3_HEAD_COMPLETE, /* Complete gave no etag (RGW): HEAD for it */
	S3_DELETE_ONE,	  /* DELETE_MANY: a key that XML cannot hold */
};

enum { S3_RE_REGION = 1, S3_RE_SKEW = 2, S3_RE_CREDS = 4 }; /* what a call was sent again for */

struct s3_call {
	struct http_req h;
	struct creds_waiter waiter;
	struct s3 *s;
	struct objreq *req;
	enum s3_step step;
	int64_t deadline_ns;
	unsigned resent;	 /* S3_RE_* */
	unsigned regions;	 /* how often the region was changed */
	unsigned key_gen;	 /* generation of the keys that signed */
	int64_t skew_s;		 /* by which correction of the clock */
	size_t next_key;	 /* DELETE_MANY: where to look for the next key of S3_DELETE_ONE */

	/* one HTTP request; s3_call_clear() frees */
	const char *method;
	const char *key;	 /* NULL = the bucket */
	struct sign_pair query[S3_QUERY_MAX];
	char *query_mem[S3_QUERY_MAX];
	size_t nquery;
	struct obj_headers headers;
	struct http_pair *pairs;
	struct str url, path, query_text, auth, body;
	struct iovec body_iov;
	const struct iovec *iov; /* what is sent */
	int iovcnt;
	char region[S3_REGION_MAX];
	char payload[SIGN_SHA256_HEX];
	bool want_md5;
	/* digests of the caller's body, kept over a second sending */
	bool digested;
	char md5[SIGN_MD5_B64], sha256[SIGN_SHA256_HEX];

	/* result under way */
	uint64_t range_n;	 /* bytes asked for by Range, 0 = no Range was sent */
	uint64_t total;		 /* size of the object, from the header lines */
	char part_etag[OBJ_ETAG_MAX];
	int first_status;	 /* DELETE_MANY: first failure, with its words in first_err */
	struct objerr first_err;
};

/* --- s3.c --- */
void s3_call_clear(struct s3_call *c);

/* --- s3op.c --- */
/* Fills method, key, query, headers and body for the present step. -EINVAL, -ENOTSUP, -ENAMETOOLONG, -ENOMEM. */
int must_check s3_build(struct s3_call *c);
/* scheme://authority and path of the call in its region -> url and path; *ret_host is the caller's. */
int must_check s3_locate(struct s3_call *c, char **ret_host);
bool s3_can_batch(const char *key);
bool s3_is_object_header(const char *name); /* one that an object keeps and we may set */

/* --- s3reply.c --- */
/* 0 = go on reading; negative ends the transfer. */
int s3_on_head(struct http_req *h);
enum s3_next { S3_FINISH, S3_SEND_AGAIN }; /* again: call->step says what */
enum s3_next s3_reply(struct s3_call *c, int *ret_status);

/* --- s3err.c --- */
/* What the reply's error says; never fails. e is filled from the body where there is one. */
void s3_read_error(struct s3_call *c, struct s3_error *e);
/* HTTP status and code -> errno; words, code and request id into req->err; maybe_done. */
int s3_map_error(struct s3_call *c, int http, const struct s3_error *e);
void s3_say_network(struct s3_call *c, int status);
/* Region that a redirect or an error names; false when none. out has S3_REGION_MAX bytes. */
bool s3_region_hint(struct s3_call *c, const struct s3_error *e, char *out);
/* Region in the name of an AWS endpoint such as s3.eu-west-1.amazonaws.com; false when it is no such name. "" for the
 * global one. */
bool s3_aws_region(const char *host, char *out);
/* Printable form of a key for messages. */
const char *s3_shown(const char *key, char *buf, size_t cap);
/* "GET key", "LIST": what was asked, for messages. */
const char *s3_asked(const struct s3_call *c, char *buf, size_t cap);

#endif
