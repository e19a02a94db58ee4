/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * log.h - one image's log in the bucket: attach, claim, numbers, marks. The protocol of PROTOCOL.md and nothing else:
 * it knows no map and no journal; what objects mean goes to callbacks, what they say comes from the caller.
 *
 * States
 *	DETACHED  --log_attach-->  READER  --log_claim-->  OWNER  --log_release-->  READER
 *	OWNER --412 by another nonce--> FENCED: everything is -EIO until log_close; log_why() names the winner
 * In READER only log_follow() and reads; in OWNER numbers are given in order, at most `window` not yet durable.
 *
 * Threads: attach, claim, follow, release by one thread at a time; the writer's calls by any. Blocking calls wait on
 * the store, hold no lock of the caller's, and give up with -ESHUTDOWN after log_stop(). A store that does not answer
 * is asked again and again with the same bytes: these calls wait as long as that lasts.
 */
#ifndef LSVD_IMAGE_LOG_H
#define LSVD_IMAGE_LOG_H

#include "logobj.h"

struct log;

/*
 * What the walk finds, in the order of the log. Non-zero ends it with that code. May be begun again: `begin` forgets
 * what came before.
 */
struct log_walker {
	/* c: NULL for a log without checkpoint yet (o is its create record). o: the object that carries c. */
	int (*begin)(void *arg, const struct logobj *o, const struct log_checkpoint *c);
	/* o has it; only between begin and the first object; in order. NULL: they are not read, nor is the holder's name */
	int (*digest)(void *arg, const struct logobj *o);
	int (*object)(void *arg, const struct logobj *o);     /* every object of the walk, claims as well */
	void *arg;
};

/*
 * Where a log lies and who we are. Strings are copied. prefix: whole key prefix, ends in '/' ("…/.lsvd/img/<uuid>/").
 */
struct log_at {
	struct objstore *store;
	const char *prefix;
	uint8_t uuid[16];
	const char *host;  /* for people, into claims */
	struct pool *pool; /* sends again what failed; NULL for readers */
};
int must_check log_open(const struct log_at *at, struct log **ret);
void log_close(struct log *l); /* waits for what is under way (not for what must be sent again). NULL is fine */
void log_stop(struct log *l);  /* every wait ends with -ESHUTDOWN */
void log_break(struct log *l); /* no more numbers: who waits for one, or for what is committed, gets -EIO */

/*
 * Creates the first object (PUT if absent). o: create record, with everything but what log_fill() gives. -EEXIST:
 * somebody else's is there.
 */
int must_check log_create(const struct log_at *at, struct logobj *o, struct objerr *err);

/*
 * Steps 3.2 and 3.3: newest mark, walk, look again. -ENOENT: there is no log. -EUCLEAN: damage, named. follower: one
 * of the two newest marks suffices.
 */
int must_check log_attach(struct log *l, const struct log_walker *w, bool follower, struct objerr *err);
/*
 * The image as snapshot `number` has it: its record's checkpoint, and no walk. -ENOENT: the record is gone. The log is a
 * READER of nothing else then.
 */
int must_check log_attach_snapshot(struct log *l, uint64_t number, const struct log_walker *w, struct objerr *err);
/*
 * The image as it was before `number` was given: the checkpoint that `number` is, or the newest marked one before it that
 * serves, and a walk that ends there. -ENOENT, -EUCLEAN: it cannot be had any more; -EINVAL: the log ends before. The log
 * is a READER of nothing else then.
 */
int must_check log_attach_position(struct log *l, uint64_t number, const struct log_walker *w, struct objerr *err);
/*
 * For repairs, before the first attach: walks begin at the checkpoint `number` (0: at the create record), whatever the marks
 * say, and take no newer tree over; what a digest that cannot be read said is taken from the headers that it repeated.
 * The same log, so the same map, if all that it takes is there; else they fail.
 */
void log_set_base(struct log *l, uint64_t number);
/*
 * Walks on from where the last walk ended. -EAGAIN: a newer mark, attach again. After any failure the walker may have
 * been told what the next walk tells it again: attach.
 */
int must_check log_follow(struct log *l, const struct log_walker *w, bool follower, struct objerr *err);

/* After attach: */
struct log_view {
	uint64_t tail;              /* N: the first number never used, as far as we know; OWNER: next number */
	uint64_t mark, mark_before; /* the two newest marks, 0: none */
	uint64_t checkpoint;        /* where the walk began */
	uint64_t claim, epoch;      /* newest claim, 0: none */
	struct log_nonce nonce;     /* of it, or of the create record */
	bool released;              /* a release follows the newest claim, or nothing ever claimed */
	uint64_t jseq, size;        /* of the last object */
	uint32_t window, object_bytes;
	bool fsync_remote;
	char host[128]; /* of the newest claim, for people */
	int64_t claim_time;
};
void log_view(struct log *l, struct log_view *ret);

/* The last walk was followed by a look that a claim may build on, just now: another walk would only cost time. */
bool log_fresh(struct log *l);

/*
 * Step 3.4. nonce: durable in the journal already. jseq, size: for the claim's header. Walks again where the protocol
 * says so (w as in attach). -EBUSY: another one's claim came between: attach again, think about policy again. 0: OWNER.
 */
int must_check log_claim(struct log *l, const struct log_nonce *nonce, uint64_t jseq, const struct log_walker *w,
			 struct objerr *err);
int must_check log_release(struct log *l, uint64_t jseq,
			   uint64_t size); /* all committed first; then the record. Step 3.8 */

/* ---- OWNER ---- */
struct log_put {
	uint64_t number;
	void *bytes;
	size_t len;
	uint32_t crc; /* set by the caller before log_send(); owned by it until done */
	void (*done)(struct log_put *p,
		     int status); /* on a store thread: 0 durable, -EIO fenced, -ESHUTDOWN. Must not wait */
	/* private */
	struct objreq req;
	struct iovec iov;
	struct log *log;
	struct log_put *next;
	char key[OBJ_KEY_MAX + 1];
	unsigned tries;
	void *scratch;
};
/* Waits for a place in the window; 0: log_take() will succeed once. -EIO fenced, -ESHUTDOWN. */
int must_check log_reserve(struct log *l);
void log_unreserve(struct log *l);
/*
 * Gives the next number. Its bytes are frozen by that: what the object says is fixed at this moment by the caller's
 * locks. Never waits.
 */
uint64_t log_take(struct log *l);
/* Fills uuid, epoch, nonce, window, time of a header. */
void log_fill(struct log *l, struct logobj *o);
void log_send(struct log *l, struct log_put *p);

uint64_t log_committed(struct log *l); /* every number up to it is durable */
/*
 * Every number up to it is in the log: the committed ones, and after another node's claim also what that one stands on,
 * though we never had an answer. For people: nothing is deleted or marked by it.
 */
uint64_t log_arrived(struct log *l);
/*
 * on_committed runs on a store thread whenever committed grew, fenced when the log was lost. Must not wait. Set
 * before log_claim.
 */
void log_watch(struct log *l, void (*on_committed)(void *arg), void (*on_fenced)(void *arg), void *arg);
int must_check log_wait_committed(struct log *l, uint64_t number);
/* Step 3.6: waits until committed >= number, puts the mark, waits for the answer. */
int must_check log_mark(struct log *l, uint64_t number);
/* Step 3.7, the requests only: the caller decided. Best effort: what fails stays. ret_deleted: how many went. */
int log_delete(struct log *l, const uint64_t *numbers, size_t n, size_t *ret_deleted);
/* All but the two newest, and those from number `floor` on; UINT64_MAX: no others. */
int log_delete_marks(struct log *l, uint64_t floor);
/* The numbers of the marks that are not below floor, ascending, to be freed. */
int must_check log_marks_from(struct log *l, uint64_t floor, uint64_t **ret, size_t *ret_n, struct objerr *err);
/*
 * Clones of snapshot `number`: is there one; one more, one less; from here on no new one may; is that so, or is the
 * image dead?
 */
int must_check log_has_refs(struct log *l, uint64_t number, bool *ret, struct objerr *err);
/* text: for people, or NULL. */
int must_check log_put_ref(struct log *l, uint64_t number, const uint8_t uuid[16], const char *text, struct objerr *err);
int must_check log_drop_ref(struct log *l, uint64_t number, const uint8_t uuid[16], struct objerr *err);
int must_check log_put_gone(struct log *l, uint64_t number, struct objerr *err);
int must_check log_is_gone(struct log *l, uint64_t number, bool *ret, struct objerr *err);
/* The whole key of the reference that this log, a clone's, has in its parent's; NULL: it is none. To be freed. */
int must_check log_own_ref(struct log *l, char **ret);
/* This log, a clone's, needs nothing of its ancestors' any more: for good. */
int must_check log_put_flat(struct log *l, struct objerr *err);
int must_check log_is_flat(struct log *l, bool *ret, struct objerr *err);
/* Is the key of log_own_ref() there; it goes. */
int must_check log_has_own_ref(struct log *l, bool *ret, struct objerr *err);
int must_check log_drop_own_ref(struct log *l, struct objerr *err);
/* The first number of this log: its create record's. After attach. */
uint64_t log_first(struct log *l);

/* ---- reads, in READER and OWNER ---- */
/*
 * Sectors [sector, +n) of the content of an object, verified. origins: numbers of ancestors are read from their logs.
 * -ENOENT, -EUCLEAN: see 3.11.
 */
int must_check log_read(struct log *l, const struct log_place *at, uint32_t n, void *out, struct objerr *err);
/* Ancestors, from the create record; set by attach. For check. */
const char *log_prefix_of(struct log *l, uint64_t number, uint8_t ret_uuid[16]);
int must_check log_head(struct log *l, uint64_t number, struct logobj *ret,
			struct objerr *err); /* GET and decode one header */
/* The headers of numbers v[0..n), many at a time; `each` is called in order until it is not 0. */
int must_check log_heads(struct log *l, const uint64_t *v, size_t n, int (*each)(void *arg, const struct logobj *o),
			 void *arg, struct objerr *err);
/* One line: fenced by whom, or what is damaged. */
void log_why(struct log *l, char *out, size_t n);

#endif
