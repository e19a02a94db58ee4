/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * front.h - the S3 front: an HTTP proxy between S3 clients and a real S3 server, for tests.
 *
 *	client -> main.c (one thread a connection) -> rules.c (what goes wrong here?) -> aws.c (AWS mode) -> server
 *
 * It does three things. It counts every request by S3 operation. It shapes and lies on command: latency, bandwidth,
 * errors before or after the effect, lost replies, cut or altered bodies (rules.c; commands in control.c). And in AWS
 * mode it makes a server that ignores conditions look like AWS (aws.c): all clients must then go through one front.
 *
 * A test tool: running out of memory ends it, requests are at most 1 GiB where they must be held back whole.
 */
#ifndef FRONT_H
#define FRONT_H

#include "config.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define HEADERS_MAX 160
#define HEAD_MAX (96 * 1024)
#define BODY_MAX ((size_t)1 << 30)
#define ETAG_LEN 96
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum op {
	OP_GET, OP_HEAD, OP_PUT, OP_DELETE, OP_DELETE_MANY, OP_COPY, OP_LIST, OP_MPU_CREATE, OP_MPU_PART,
	OP_MPU_COPY_PART, OP_COMPLETE, OP_ABORT, OP_MPU_LIST, OP_MPU_LIST_PARTS, OP_TAGGING, OP_BUCKET, OP_OTHER, OP_N
};
extern const char *const op_name[OP_N];

/* --- util.c: memory, strings, random numbers, time --- */
struct buf {
	char *p; /* always ends in a NUL that len does not count, or NULL */
	size_t len, cap;
};
void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_reserve(struct buf *b, size_t n);
void buf_free(struct buf *b);
void *xmalloc(size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
uint64_t fnv(const char *s);
void rnd_seed(uint64_t seed);
uint64_t rnd(void);
double rnd_unit(void); /* [0, 1) */
int64_t now_ns(void);  /* monotonic */
void sleep_until(int64_t ns);
char *url_decode(const char *s, size_t n, bool plus); /* owned */
void url_encode(struct buf *b, const char *s, bool slash);
void md5_hex(const void *p, size_t n, char out[33]);

/* --- http.c: messages --- */
struct chan {
	int fd;
	size_t pos, end;
	char buf[65536];
};
struct head {
	char *line[3]; /* request: method, target, version; reply: version, status, reason */
	int status;
	struct {
		char *name, *value;
	} h[HEADERS_MAX];
	size_t n;
	int64_t length; /* of the body; -1: not said */
	bool chunked, close;
	bool no_body;
};
int head_read(struct chan *c, struct head *h, bool reply); /* 1; 0 = closed before the first byte; -errno */
void head_free(struct head *h);
const char *head_get(const struct head *h, const char *name);
void head_set(struct head *h, const char *name, const char *value); /* replaces all of that name; NULL removes */
void head_format(const struct head *h, struct buf *out);

struct body {
	struct chan *c;
	enum { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_EOF } kind;
	int64_t left;
	bool started;
};
void body_init(struct body *b, struct chan *c, const struct head *h, bool reply);
ssize_t body_read(struct body *b, void *p, size_t n); /* 0 = end, -errno (cut: -EPIPE) */
int body_all(struct body *b, struct buf *out);
int chan_write(struct chan *c, const void *p, size_t n);
int chan_connect(struct chan *c, uint16_t port);
int listen_on(uint16_t port, uint16_t *ret_port);
bool chan_alive(struct chan *c); /* false: the other side has closed or sent something unasked */
void chan_close(struct chan *c, bool reset);

/* --- one request on its way --- */
struct rule;
struct param {
	char *name, *value; /* decoded */
};
struct xfer {
	struct client *cl;
	uint64_t seq;
	struct head req, rep;
	enum op op;
	char *bucket, *key; /* decoded; "" when there is none */
	struct param *query;
	size_t nquery;
	struct buf body; /* of the request, when held back whole */
	bool held;
	struct buf out; /* of the reply, when held back whole */
	bool out_held;
	int status; /* what the client was told, 0 = cut */
	uint64_t in, sent;
	const char *ruled; /* name of the rule that was applied */
	/* aws.c */
	bool aws, verified, locked_all, locked_list;
	int lock[2];
	char src_etag[ETAG_LEN], cond_etag[ETAG_LEN];
	char *src_id;
};
struct client {
	struct chan c, up;
	struct client *next, *prev;
};
const char *xfer_query(const struct xfer *x, const char *name); /* NULL: not there; "" without value */
void answer_error(struct xfer *x, int status, const char *code, const char *msg); /* fills rep and out */
int upstream_head(struct xfer *x, const char *bucket, const char *key, char etag[ETAG_LEN], int64_t *size,
		  int *status); /* a HEAD of the front's own */

/* --- sign.c: SigV4 from both sides --- */
bool sign_have_keys(void);
bool sign_verify(const struct xfer *x);		/* the client's signature is one of ours */
void sign_again(struct xfer *x);		/* same headers (those that are left), same payload hash, new signature */
void sign_own(struct head *h); /* a bodyless request of the front's own */

/* --- aws.c --- */
void aws_init(void);
bool aws_wants_body(const struct xfer *x);
bool aws_before(struct xfer *x); /* true: answered here */
void aws_after(struct xfer *x);	 /* reply head is there; body too where aws_wants_reply() */
bool aws_wants_reply(const struct xfer *x);
void aws_unlock(struct xfer *x);

/* --- overlay.c: what AWS mode shows instead of what the server has --- */
void overlay_set(const char *id, const char *real, const char *shown, int64_t mtime_s); /* shown "" = as real */
void overlay_drop(const char *id);
void overlay_show(const char *id, const char *real, char shown[ETAG_LEN], int64_t *mtime_s); /* mtime 0 = as it is */
/* The real etag for a condition on `shown`, or one that nothing has when `shown` is no longer this object's. */
void overlay_real(const char *id, const char *shown, char real[ETAG_LEN]);
void random_etag(char out[ETAG_LEN]);
void upload_add(const char *upload_id, int64_t start_s);
void upload_part(const char *upload_id, unsigned number, int64_t size);
int64_t upload_start(const char *upload_id); /* 0: not known */
/* Are all parts that `numbers` names of one size, but for a shorter last one? */
bool upload_equal(const char *upload_id, const unsigned *numbers, size_t n);
void upload_drop(const char *upload_id);

/* --- rules.c --- */
enum act {
	ACT_NONE, ACT_PASS, ACT_DELAY, ACT_DELAY_AFTER, ACT_STATUS, ACT_STATUS_AFTER, ACT_RESET, ACT_LOST, ACT_STALL,
	ACT_STALL_BODY, ACT_CUT, ACT_FLIP, ACT_ETAG, ACT_BODY_ERROR, ACT_BODY_ERROR_AFTER, ACT_HOLD, ACT_HOLD_AFTER,
	ACT_TWICE, ACT_N
};
struct plan {
	enum act act;
	char rule[32];
	uint64_t rule_id;
	int status, ms, delay_ms, delay_after_ms;
	char code[64];
	int64_t at;
};
int rule_add(char *text, struct buf *err);
int rule_del(const char *name);
void rules_clear(void);
int rule_hits(const char *name, uint64_t *ret);
int rule_release(const char *name);
int rule_wait(const char *name, unsigned n, int ms); /* until n requests are held by it */
void rules_match(const struct xfer *x, struct plan *p);
bool rule_hold(const struct plan *p, int fd, int ms); /* until release, removal, ms passed, or the client went */

/* --- control.c: settings, counters, the command line of the control port --- */
struct conf {
	uint16_t up_port;
	const char *bucket, *access, *secret, *region;
	_Atomic int latency_ms, jitter_ms;
	_Atomic long bw_in, bw_out; /* bytes/s, all connections together; 0 = no limit */
	_Atomic bool aws, kms, equal_parts;
};
extern struct conf conf;
void *control_thread(void *arg);
void count_request(struct xfer *x);
void count_done(struct xfer *x);
void pace(bool out, size_t n);
int log_open(const char *path);
void server_refuse(bool on); /* main.c: stop listening and cut everything, or listen again */
unsigned server_clients(void);

#endif
