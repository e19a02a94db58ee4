/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tree-private.h - what the files behind tree.h share.
 *
 *   tree.c      life, what fs tells us, small calls		question.c  requests under way and what answers teach
 *   listing.c   what listings vouch for			lookup.c    one name
 *   attrdb.c    rows						readdir.c   one page of a directory
 *   imagerow.c  names of disk images
 *   treeops.c   mkdir, rmdir, mknod, ...			metaput.c   headers of an object; move.c  rename of a file
 *
 * Order. Every question to the store and every change by this node gets the next number of one sequence (`seq`). An
 * answer is dropped, name by name, where a change has a higher number than its question.
 */
#ifndef LSVD_TREE_PRIVATE_H
#define LSVD_TREE_PRIVATE_H

#include "attrdb.h"
#include "dialect.h"
#include "listing.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include "objstore/base/str.h"
#include "objstore/base/table.h"
#include "tree.h"

#define OBJECT_SUFFIX "~object"
/* How long a question is remembered: a second one into the same page within this time renews the page. */
#define STALE_MEMORY_NS (2 * NSEC_PER_SEC)
#define ROOT_DIR PATH_RESERVED "/" /* where the row of the mounted root's own metadata lives ... */
#define ROOT_NAME "root"	   /* ... and the key .lsvd/root */

struct tree {
	/* set at open, then read-only */
	struct objstore *store;
	char *prefix;
	struct attr_defaults def;
	int64_t attr_timeout_ns;
	unsigned head_window;
	bool read_only;
	uint64_t hash_seed;
	int64_t opened_s; /* times of directories that have no marker */
	struct budget *budget;

	struct attrdb *db;

	struct mtx lock; /* RANK_TREE; held across the database, never across the network */
	/* under lock */
	struct htab dirs; /* struct dirstate */
	struct list dir_lru;
	size_t npages;
	bool dirs_have_markers; /* the last unknown directory had one: ask for markers, not for pages */
	uint64_t hidden;
	struct htab changes;	 /* struct change */
	struct list change_fifo; /* oldest first */
	uint64_t seq;		 /* last number given */
	uint64_t void_seq;	 /* answers to questions up to here are dropped as a whole */
	int64_t void_ns;	 /* the same as a time, for answers that fs brings */
	struct htab flights;	 /* struct flight, until processed */
	uint64_t db_epoch;
	int64_t date_off_ns; /* server's clock minus clock_now_ns(), a lower bound */
	bool date_known;
	bool etag_moves; /* seen: a change of metadata gives every object a new etag here */
	uint64_t lists, heads;

	struct mtx qlock; /* RANK_CACHE: answers that have arrived; the store's threads take only this one */
	/* under qlock */
	struct list arrived;
	unsigned under_way;
	struct cond arrival; /* each answer; signalled by flight_done() */
};

/* --- question.c --- */

enum flight_kind {
	FLIGHT_HEAD, /* of the key of one row */
	FLIGHT_ANY,  /* LIST of one key below a directory: is there one, and what is its marker */
	FLIGHT_PAGE, /* LIST of a directory from a point */
};

/* One request that several threads may wait for. */
struct flight {
	struct hnode node;   /* under t->lock, until processed */
	struct list arrived; /* under qlock */
	struct tree *t;
	enum flight_kind kind;
	char *dir, *point;   /* owned; row name, or for a page its `from` */
	char *key, *after;   /* owned, for the request */
	struct objreq req;
	int64_t asked_ns;
	uint64_t seq;
	unsigned refs;	/* under t->lock */
	bool hot;	/* page: renewed because of numbers */
	_Atomic bool sent; /* the first of those who wait for it sends it */
	bool done;	/* under qlock */
	/* under t->lock, valid once processed */
	bool processed;
	bool saw_marker; /* a directory's first page: its marker was there */
	bool dropped; /* a change by this node is younger than the question */
	int status;   /* 0, -ENOENT, or the error */
	struct objerr err;
};

/* Finds one under way that was asked no earlier than that, or makes one; both with a reference. */
int must_check flight_join_locked(struct tree *t, enum flight_kind kind, const char *dir, const char *point,
				  int64_t min_asked_ns, uint64_t min_seq, struct flight **ret);
bool flight_exists_locked(struct tree *t, enum flight_kind kind, const char *dir, const char *point);
/* Sends it unless somebody did. No lock may be held. */
void flight_send(struct flight *f);
void flight_wait(struct flight *f);
/* TREE_BRIEF: false: a second after it was sent there is no answer. */
bool flight_wait_brief(struct flight *f);
void flight_put_locked(struct flight *f);
/* Learns from every answer that has arrived. First thing after taking the lock. */
void flights_land_locked(struct tree *t);

/* A change by this node, or something learnt that no row can hold. as_of: answers to older questions are dropped. */
void change_note_locked(struct tree *t, const char *dir, const char *point, uint64_t seq, int64_t as_of_ns);
/* May the answer to this question say anything about the name? */
bool change_allows_locked(struct tree *t, const char *dir, const char *point, uint64_t seq);
bool change_allows_ns_locked(struct tree *t, const char *dir, const char *point, int64_t asked_ns);

void changes_free_locked(struct tree *t);

void server_date_locked(struct tree *t, int64_t date_s, int64_t arrived_ns);
int64_t server_now_locked(struct tree *t); /* seconds, rather too early than too late */

/* --- rows, tree.c --- */

/* As attrdb_get and so on; they notice a database that was rebuilt and drop what rested on it. */
int must_check row_get_locked(struct tree *t, const char *dir, const char *point, struct row *ret);
int must_check row_put_locked(struct tree *t, const char *dir, const struct row *row);
int must_check row_del_locked(struct tree *t, const char *dir, const char *point);
int must_check rows_apply_locked(struct tree *t, const char *dir, const struct row *const *put, size_t nput,
				 const char *const *del, size_t ndel);
int must_check rows_range_locked(struct tree *t, const char *dir, const char *after, const char *to, size_t max,
				 struct row **ret, size_t *ret_n);
/* The directory dir exists: so do all above it. */
int must_check parents_exist_locked(struct tree *t, const char *dir, int64_t asked_ns);
/* The row that speaks for dir itself: in its parent, or ROOT_DIR/ROOT_NAME. Frees *ret_dir with free(). */
int must_check self_row_name(const char *dir, char **ret_dir, char ret_point[ROW_NAME_MAX]);

/* Puts an object's version and headers (NULL: unknown, unless the version is the same) into a row. */
int must_check row_learn(struct row *row, const struct version *v, const struct obj_headers *h, int64_t date_s);
bool row_racy(const struct row *row, int64_t server_now_s);
int must_check row_entry(struct tree *t, const struct row *row, const char *shown, int64_t asked_ns, bool trust_headers,
			 struct entry *ret);
/* Is what was asked then still an answer? */
bool fresh(const struct tree *t, const struct dirstate *ds, int64_t asked_ns, int64_t now_ns);

int must_check point_of(const char *name, bool is_dir, char ret[ROW_NAME_MAX]);
/* A shown name -> the name in the key ("x~object" -> "x" where that is how x is shown). */
int must_check real_name(struct tree *t, const char *dir, const char *name, char ret[PATH_NAME_MAX + 16]);

/* --- imagerow.c --- */

bool image_name_ok(const char *name); /* may it be the key's name of an image? */
int must_check image_point(const char *shown, char ret[ROW_NAME_MAX]);
enum image_row { IMAGE_NO, IMAGE_MAYBE /* headers unknown */, IMAGE_YES };
enum image_row row_image(const struct row *row);
int must_check image_known_locked(struct tree *t, const char *dir, const char *shown, enum image_row *ret);
/* As lookup_name() for anything, images by their shown names. */
int must_check lookup_with_images(struct tree *t, const char *dir, const char *name, unsigned flags, struct entry *ret,
				  struct objerr *err);

/* lookup.c: want what stands at one name. */
enum want { WANT_ANY, WANT_FILE, WANT_DIR };
/* ret_absent_ns (may be NULL): when -ENOENT was proved. */
int must_check lookup_name(struct tree *t, const char *dir, const char *name, unsigned flags, enum want want,
			   struct entry *ret, int64_t *ret_absent_ns, struct objerr *err);
/* A change of a name in dir failed with r: it may have happened all the same, or what was known is wrong. */
void change_failed(struct tree *t, const char *dir, int r);

/* --- copy.c --- */

#define SMALL_OBJECT (8 * MiB) /* up to here a body may go through this node to get a condition that a copy lacks */

/* One object made from another (or from itself) on the server. */
struct copy {
	const char *src_key, *dst_key;
	const struct version *src;
	const struct obj_headers *h;	/* NULL keeps the source's */
	const char *if_match;		/* of the destination, where the store can; NULL none */
	bool only_new;			/* the destination must be absent, where the store can */
	char nonce[OBJ_NONCE_LEN + 1];	/* answered: what the object carries, "" none */
	int64_t asked_ns, date_s;	/* answered */
};
/*
 * Copies, in parts above the store's limit of one copy. The condition on the source holds where the store can; -ESTALE: one
 * of them did not hold, -ENOENT: no source.
 */
int must_check copy_object(struct tree *t, struct copy *c, struct version *ret, struct objerr *err);
/* The same through this node: GET with If-Match, PUT with the destination's condition. At most SMALL_OBJECT. */
int must_check copy_by_put(struct tree *t, struct copy *c, struct version *ret, struct objerr *err);
/* HEAD: version and headers (replaced, may be NULL). -ENOENT. */
int must_check object_head(struct tree *t, const char *key, struct version *ret, struct obj_headers *ret_h,
			   struct objerr *err);
/* Headers that may be sent again: not those that belong to one PUT or are only ever answered. */
int must_check headers_to_send(const struct obj_headers *h, struct obj_headers *ret);
bool headers_have_tags(const struct obj_headers *h);

/* Runs a request for the calling thread, notes the server's clock, copies words. req stays set up. */
int must_check tree_do(struct tree *t, struct objreq *req, struct objerr *err);

#endif
