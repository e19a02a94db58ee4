/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * objstore.h - THE interface to a bucket: immutable-by-etag byte objects in one flat key space.
 *
 * A store knows keys, not directories. Everybody above talks to `struct objstore` through one submit(); the typed
 * helpers below fill a request and wait for it. A wrapper (retry, trace) is a store too: it owns the store it wraps and
 * closes it; when its constructor fails, the inner store still belongs to the caller.
 *
 * Contract of submit(store, req)
 *  - it does not wait for the network (the file:// store does its file I/O inside submit);
 *  - req->done runs exactly once, on a store thread or inside submit itself, so no lock may be held across submit;
 *  - done may submit, must not wait; after done the request belongs to the caller again;
 *  - every pointer in the asked block is borrowed until done;
 *  - no byte of a body is released before the status of its reply was checked; a short body is -EBADMSG, never zeros.
 *
 * Errors (status, negative)
 *   -ENOENT   no such key, upload or part (404)            -ENODEV   no such bucket
 *   -EACCES   refused: key, signature, policy (401, 403)   -ESTALE   a condition did not hold (412)
 *   -EAGAIN   busy: 429, 503, 409 conflict, 500, 5xx (what retry.c repeats)
 *   -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET, -EHOSTUNREACH  network; deadline passed
 *   -ENOTSUP  the store cannot do this (501, or a capability that is missing)
 *   -ERANGE   range starts behind the end (416)            -ENAMETOOLONG  key too long
 *   -EINVAL   the store called the request malformed       -ENOSPC / -EDQUOT  full, quota
 *   -EBADMSG  reply not to be understood or body cut       -EIO      anything else
 *   -EKEYREJECTED TLS or CA failure                        -ENOTDIR / -EISDIR  file:// only: a directory cannot hold it
 * req->err holds the words. -EAGAIN, timeouts and resets leave open whether a change happened: see maybe_done.
 */
#ifndef LSVD_OBJSTORE_H
#define LSVD_OBJSTORE_H

#include "base/base.h"
#include "base/budget.h"
#include <stdatomic.h>
#include <sys/uio.h>

#define OBJ_ETAG_MAX 80		/* an etag without quotes, NUL included; longer ones are -EBADMSG */
#define OBJ_KEY_MAX 1024	/* bytes of a key (S3 User Guide, object key names) */
#define OBJ_LIST_MAX 1000	/* entries of a page, keys of a DeleteObjects */
#define OBJ_NONCE_LEN 32	/* hex digits of a put nonce */
#define OBJ_WHOLE UINT64_MAX	/* objreq.len: to the end */

enum obj_op {
	OBJ_GET,	  /* range [off, off+len) or all; into buf, at most cap bytes (more is cut: see truncated).
			   * off at or behind the end is -ERANGE, but off 0 of an empty object gives 0 bytes */
	OBJ_HEAD,	  /* etag, size, mtime, headers */
	OBJ_PUT,	  /* iov -> object; if_match or if_none_match_any */
	OBJ_DELETE,	  /* if_match where OBJ_CAP_DELETE_COND; absent key is success */
	OBJ_DELETE_MANY,  /* keys[nkeys], at most 1000; first failure in status, its key in err */
	OBJ_COPY,	  /* src_key -> key on the server; headers NULL keeps the source's, else replaces them */
	OBJ_LIST,	  /* one page of keys below prefix `key`; "" is the whole bucket */
	OBJ_MPU_CREATE,	  /* -> upload_id; headers go here */
	OBJ_MPU_PART,	  /* iov -> part number `part` of upload_id; ret etag */
	OBJ_MPU_COPY_PART,/* src_key range [off, off+len) -> part */
	OBJ_MPU_COMPLETE, /* parts[nparts]; conditions as PUT */
	OBJ_MPU_ABORT,	  /* absent upload is success */
	OBJ_MPU_LIST,	  /* uploads under way below prefix `key`: listing entries carry key and upload_id. With
			   * upload_id set: the parts of that upload of `key`, one page of them; keys are "00001" ... */
	OBJ_NOPS
};
extern const char *const obj_op_name[OBJ_NOPS];

/* What a store can do; found by obj_probe() for s3, known for the others. */
enum obj_cap {
	OBJ_CAP_PUT_NEW = 1 << 0,	/* PUT If-None-Match:* */
	OBJ_CAP_PUT_MATCH = 1 << 1,	/* PUT If-Match */
	OBJ_CAP_COMPLETE_COND = 1 << 2, /* both conditions on CompleteMultipartUpload */
	OBJ_CAP_COPY_SRC = 1 << 3,	/* x-amz-copy-source-if-match honoured */
	OBJ_CAP_COPY_DST = 1 << 4,	/* destination conditions on CopyObject honoured */
	OBJ_CAP_DELETE_COND = 1 << 5,	/* DELETE If-Match */
	OBJ_CAP_COPY = 1 << 6,		/* server-side copy at all */
	OBJ_CAP_MULTIPART = 1 << 7,
	OBJ_CAP_PART_COPY = 1 << 8,
	OBJ_CAP_DELETE_MANY = 1 << 9,
	OBJ_CAP_EQUAL_PARTS = 1 << 10,	/* every part but the last must have one size (R2): a demand; may come up late,
					 * with the -EINVAL of a COMPLETE */
	OBJ_CAP_NESTED = 1 << 11,	/* may hold both `a` and `a/b` (file:// cannot) */
	OBJ_CAP_LONG_NAMES = 1 << 12,	/* components over 255 bytes are possible */
};
/* How a store wants to be spoken to; found by obj_probe(), obeyed by s3. */
enum obj_quirk {
	OBJ_QUIRK_UNQUOTED_IF_MATCH = 1, /* If-Match: abc instead of If-Match: "abc": Ceph RGW */
};
/* A few words for one flag ("PUT if absent"); NULL for a bit that is no flag. For `lsvdfs probe`. */
const char *obj_cap_name(enum obj_cap cap);

/* Headers of an object, in order of arrival: HTTP names in lower case. System headers ("content-type", "cache-control",
 * "content-encoding", "content-disposition", "content-language", "expires", "x-amz-website-redirect-location",
 * "x-amz-storage-class", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
 * "x-amz-tagging-count") and user metadata ("x-amz-meta-*", values as bytes; at most one of a name). */
struct obj_headers {
	size_t n, cap;
	struct obj_header {
		char *name, *value; /* owned */
	} *v;
};
/* Sets or replaces (value NULL removes). -ENOMEM, -EINVAL on control characters in value. */
int must_check obj_headers_set(struct obj_headers *h, const char *name, const char *value);
const char *obj_headers_get(const struct obj_headers *h, const char *name); /* NULL when absent */
int must_check obj_headers_copy(struct obj_headers *dst, const struct obj_headers *src); /* dst replaced */
void obj_headers_free(struct obj_headers *h); /* frees the contents; h is empty afterwards */
bool obj_headers_equal(const struct obj_headers *a, const struct obj_headers *b); /* as sets */
/* "name\0value\0..." both ways, for rows and journals. decode: -EBADMSG when malformed; h replaced on success. */
int must_check obj_headers_encode(const struct obj_headers *h, void **ret, size_t *ret_len);
int must_check obj_headers_decode(const void *p, size_t len, struct obj_headers *h);

struct obj_part {
	unsigned number;
	char etag[OBJ_ETAG_MAX];
};

struct obj_list_entry {
	const char *key;       /* whole key; points into the listing */
	const char *upload_id; /* OBJ_MPU_LIST only */
	const char *initiator; /* OBJ_MPU_LIST: whose upload it is, as the store calls them; NULL when not said */
	uint64_t size;
	int64_t mtime_s;       /* LastModified, truncated to seconds */
	char etag[OBJ_ETAG_MAX];
	bool is_prefix;	       /* a CommonPrefix; key ends in the delimiter */
};
/* One page, keys and prefixes merged in byte order of the key. */
struct obj_listing {
	size_t n, cap;
	struct obj_list_entry *v;
	char *heap; /* string storage, private */
	size_t heap_len, heap_cap;
	bool truncated;	 /* more follow behind the last entry */
	char *next_token;/* continuation token while truncated */
};
void obj_listing_free(struct obj_listing *l); /* frees contents and l itself; NULL is fine */

struct objerr {
	int http;	      /* status, 0 when there was no reply */
	char code[64];	      /* S3 <Code>, "" when none */
	char request_id[80];
	char msg[256];	      /* one line, for people: what, and what to do when that is known */
};
void objerr_set(struct objerr *e, const char *fmt, ...) printf_like(2, 3); /* sets msg */

enum obj_prio { OBJ_PRIO_FG, OBJ_PRIO_BG }; /* somebody waits; read-ahead and clean-up */

struct objreq {
	/* asked: set by the caller, borrowed until done */
	enum obj_op op;
	enum obj_prio prio;
	const char *key;
	uint64_t off, len;		 /* bytes; len OBJ_WHOLE = to the end */
	const char *if_match;		 /* etag without quotes */
	const char *if_none_match;	 /* GET, HEAD: etag; equal gives not_modified */
	bool if_none_match_any;		 /* PUT, COPY, COMPLETE: only when the key is absent */
	const char *src_key, *src_if_match;
	const struct obj_headers *headers;
	const char *upload_id;
	unsigned part;
	const struct obj_part *parts;
	size_t nparts;
	const char *const *keys;
	size_t nkeys;
	const char *start_after, *token; /* LIST: whole key, only keys behind it; token wins. A prefix that is
					  * start_after itself or holds it may be listed again: who pages so skips it */
	bool delimiter;			 /* LIST: roll up at '/' */
	unsigned max_keys;		 /* LIST: 0 = 1000 */
	const struct iovec *iov;	 /* body of PUT and PART; must not change until done */
	int iovcnt;
	void *buf;			 /* GET: cap bytes for the body */
	size_t cap;
	char nonce[OBJ_NONCE_LEN + 1];	 /* PUT, COPY with headers, CREATE: sent as x-amz-meta-lsvd-put; "" = none
					  * (retry.c fills it for CREATE and for conditional PUT and COPY).
					  * COMPLETE: what the upload was created with: copy it from the CREATE */
	int64_t deadline_ns;		 /* monotonic; 0 = the store's default */
	bool fail_fast;			 /* a server that cannot be reached (refused, no route, no name) is the answer:
					  * somebody at a terminal waits, or tries again himself */

	/* answered: valid in and after done */
	int status;			 /* 0 or negative errno */
	bool not_modified;		 /* if_none_match held: nothing else was sent */
	bool truncated;			 /* GET: the object is longer than what was asked for or fits */
	bool maybe_done;		 /* a failed change may have happened all the same */
	size_t got;			 /* GET: bytes in buf */
	uint64_t size;			 /* the whole object's size (GET, HEAD) */
	int64_t mtime_s;		 /* LastModified, 0 when not said (PUT) */
	int64_t date_s;			 /* the server's Date, 0 when not said */
	char etag[OBJ_ETAG_MAX];	 /* without quotes; after PUT, PART, COPY, COMPLETE that of the new object */
	struct obj_headers ret_headers;	 /* GET, HEAD; objreq_done() frees */
	char *ret_upload_id;		 /* MPU_CREATE */
	struct obj_listing *listing;	 /* LIST, MPU_LIST */
	struct objerr err;

	void (*done)(struct objreq *req);
	void *priv;			 /* the caller's */
};

/* Zeroes the request, sets op, key, and len to OBJ_WHOLE. */
void objreq_init(struct objreq *req, enum obj_op op, const char *key);
/* Frees what the answer holds; the request may be used again after objreq_init. */
void objreq_done(struct objreq *req);
/* Frees and zeroes the answered block only; for a wrapper that submits again. */
void objreq_reset_answer(struct objreq *req);
/* Puts an answer in place and calls done: for stores. */
void objreq_finish(struct objreq *req, int status);
/* Contract check on every crossing: asserts what is the caller's duty. */
void objreq_check(const struct objreq *req);
/* True for operations that change the bucket. */
bool obj_op_writes(enum obj_op op);

/* Counters of what reached a store, tries included; monotonic. -ENOENT and -ESTALE are answers, not errors. */
struct obj_stats {
	_Atomic uint64_t count[OBJ_NOPS], errors[OBJ_NOPS];
	_Atomic uint64_t bytes_in, bytes_out, retries, slowdowns;
};

struct objstore;
struct objstore_ops {
	const char *name;
	void (*submit)(struct objstore *s, struct objreq *req);
	void (*close)(struct objstore *s); /* no request may be under way */
};
/* Embedded first in every store. */
struct objstore {
	const struct objstore_ops *ops;
	struct objstore *inner;	   /* wrappers: the store below, owned */
	_Atomic unsigned caps;	   /* OBJ_CAP_*; wrappers answer through obj_caps() */
	_Atomic unsigned quirks;   /* bottom store: OBJ_QUIRK_* */
	_Atomic bool caps_known;   /* bottom store: nothing to probe */
	struct obj_stats *stats;   /* of the bottom store; wrappers share the pointer */
	struct obj_stats *asked;   /* what the product asked for, retries not counted; NULL without a trace store */
	uint64_t part_min, part_max_count, put_max; /* bytes, parts, bytes of one PUT or one COPY */
};

void obj_submit(struct objstore *s, struct objreq *req);
/* submit and wait; returns req->status. Not to be called from done(). */
int must_check obj_do(struct objstore *s, struct objreq *req);
unsigned obj_caps(struct objstore *s);
/* Both words for a cache of probe results; setting them makes obj_probe() return at once. */
unsigned obj_quirks(struct objstore *s);
void obj_set_caps(struct objstore *s, unsigned caps, unsigned quirks);
void obj_close(struct objstore *s); /* NULL is fine */

/*
 * Finds what a store can do by requests on keys of our own below `prefix`.lsvd/probe/ and sets the flags of the bottom
 * store. Stores that know (file://, mem:) return at once. Leaves nothing behind. -EACCES etc. as any request.
 */
int must_check obj_probe(struct objstore *s, const char *prefix, struct objerr *err);

struct creds;
/* Where a bucket is and how to talk to it. Strings are borrowed until obj_open returns. */
struct obj_open_opts {
	const char *endpoint;	/* http[s]://host[:port]; NULL = AWS of the region */
	const char *region;	/* NULL = environment, profile, else us-east-1 and what a redirect says */
	const char *profile, *passwd_file;
	const char *ca_file;
	bool path_style, no_sign, requester_pays;
	const char *storage_class, *sse;	/* sent with every PUT; sse = AES256 or aws:kms[:keyid] */
	unsigned connections;	/* 0 = 100 */
	int64_t timeout_ns;	/* deadline of a request with its retries; 0 = 300 s */
	int64_t stall_ns;	/* no byte for so long ends a try; 0 = 20 s */
	struct budget *budget;	/* may be NULL */
	bool read_only;
	unsigned seed;		/* tests: of jitter and nonces; 0 = random */
};
/* Parsed source: s3://BUCKET[/PREFIX], file:///PATH, mem:NAME (tests). */
struct obj_url {
	enum { OBJ_URL_S3, OBJ_URL_FILE, OBJ_URL_MEM } kind;
	char *bucket;	/* or the path, or the name */
	char *prefix;	/* "" or ends in '/' */
};
/* -EINVAL with words in err. */
int must_check obj_url_parse(const char *source, struct obj_url *ret, struct objerr *err);
void obj_url_free(struct obj_url *u);
/*
 * Opens the stack for a source: trace(retry(s3)), trace(file), trace(mem). Sends nothing but what finding the region
 * needs. The mount prefix (obj_url.prefix) is the caller's: keys stay whole.
 */
int must_check obj_open(const struct obj_url *url, const struct obj_open_opts *opts, struct objstore **ret,
			struct objerr *err);

/* Constructors of the single stores, for open.c and tests. */
int must_check store_mem_new(struct objstore **ret); /* everything in memory, all capabilities; completes inline */
int must_check store_file_new(const char *path, struct objstore **ret, struct objerr *err);
int must_check store_s3_new(const char *bucket, const struct obj_open_opts *opts, struct objstore **ret,
			    struct objerr *err);
int must_check store_retry_new(struct objstore *take_inner, int64_t timeout_ns, unsigned seed, struct objstore **ret);
int must_check store_trace_new(struct objstore *take_inner, struct objstore **ret);

/* Typed helpers: fill, wait, answer. err and ret_etag (OBJ_ETAG_MAX bytes) may be NULL. obj_head() sets ret_req up in
 * any case: it holds the words of a failure, and the caller frees it by objreq_done(). */
int must_check obj_head(struct objstore *s, const char *key, struct objreq *ret_req);
int must_check obj_put(struct objstore *s, const char *key, const void *p, size_t n, const char *if_match,
		       bool only_new, const struct obj_headers *h, char *ret_etag, struct objerr *err);
int must_check obj_delete(struct objstore *s, const char *key, const char *if_match, struct objerr *err);
/* fn for each entry of an OBJ_LIST or OBJ_MPU_LIST, page after page. The first result of fn that is not 0 ends that and is
 * returned; err has words of the store alone. */
typedef int obj_each_fn(void *arg, const struct obj_list_entry *e);
int must_check obj_each(struct objstore *s, enum obj_op list, const char *prefix, bool delimiter, obj_each_fn *fn,
			void *arg, struct objerr *err);
/* Copies an object of any size by UploadPartCopy, headers included; -ESTALE when src is not etag. Waits. */
int must_check obj_copy_large(struct objstore *s, const char *src, const char *etag, uint64_t size, const char *dst,
			      char *ret_etag, struct objerr *err);

#endif
