/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * metaput.c - other headers for the same bytes.
 *
 * An object's headers can only be changed by making the object again. That must not bring old bytes back over another
 * node's PUT, nor lose a header that somebody published. By what the store honours:
 *
 *   (1) a copy onto itself, conditional on the source and on the destination		COPY_SRC and COPY_DST
 *   (2) up to 8 MiB: GET and PUT of the body with If-Match				PUT_MATCH, no tags
 *   (3) HEAD, copy, HEAD: another node's PUT between the first two gets these headers,	the rest
 *       one between the copy's read and write is undone: the window that `lsvdfs probe` names
 *
 * A condition that fails is looked into: the same bytes (another node changed metadata, or this very request had got
 * through) -> again from there, the last one wins; other bytes -> -ESTALE, and whoever asked decides what still applies.
 *
 * LIST shows a change by its LastModified alone, in whole seconds, when the etag stays: so it is never made within the
 * second of the LastModified that it replaces. The node that made the version replaced may know it by the Date of its
 * answer only and takes what is listed up to that for its own: other nodes keep further away from it. When the etag may change, the object says whose bytes it has (META_WAS).
 */
#include "config.h"
#include "tree-private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_TRIES 8
#define FOREIGN_S 3 /* a Date is at most this much behind the LastModified that it belongs to */

struct metaput {
	struct tree *t;
	char *key;
	bool marker; /* of a directory: no bytes to keep, so a plain PUT */
	bool tags;   /* only a copy keeps them */
	struct version cur;
	struct obj_headers h; /* as sent */
	struct version made;
	struct obj_headers found; /* headers of the version that was met instead */
	bool theirs;		  /* what is there now is another node's change behind ours: its headers are `found` */
	int64_t asked_ns, date_s;
	int64_t leave_s; /* the first second in which cur may be replaced */
};

/* Only this node's own Date may serve as the LastModified of what it has stored itself. */
static int find_leave_s(struct metaput *m, const char *dir, const char *name, bool is_dir)
{
	char point[ROW_NAME_MAX];
	struct row row = {};
	int r = point_of(name, is_dir, point);

	if (r < 0)
		return r;
	m->leave_s = m->cur.mtime_s + FOREIGN_S;
	mtx_lock(&m->t->lock);
	r = row_get_locked(m->t, dir, point, &row);
	mtx_unlock(&m->t->lock);
	if (!r && (row.flags & ROW_OWN) && !strcmp(row.v.etag, m->cur.etag) && row.v.mtime_s == m->cur.mtime_s)
		m->leave_s = m->cur.mtime_s + (row.flags & ROW_OWN_EDGE ? 2 : 1);
	row_done(&row);
	return r == -ENOMEM ? r : 0;
}

/* Sleeps until the server's clock is there. */
static void await_second(struct tree *t, int64_t s)
{
	int64_t now_ns, left_ns;

	mtx_lock(&t->lock);
	now_ns = t->date_known ? clock_now_ns() + t->date_off_ns : clock_real_ns();
	mtx_unlock(&t->lock);
	left_ns = s * NSEC_PER_SEC - now_ns;
	/* Further ahead than clocks differ: then it is not that second, and the change will show. */
	if (left_ns > 0 && left_ns <= (FOREIGN_S + 2) * NSEC_PER_SEC)
		clock_sleep_ns(left_ns);
}

static bool is_md5(const char *etag)
{
	return strspn(etag, "0123456789abcdef") == 32 && !etag[32];
}

static bool etag_may_move(const struct metaput *m)
{
	const char *sse = obj_headers_get(&m->h, "x-amz-server-side-encryption");

	return m->cur.size > SMALL_OBJECT || !is_md5(m->cur.etag) || (sse && str_has_prefix(sse, "aws:kms")) ||
	       m->t->etag_moves;
}

static int set_was(struct metaput *m)
{
	const char *mtime = obj_headers_get(&m->h, META_PREFIX "mtime");
	char was[OBJ_ETAG_MAX + 64];
	int n;

	if (m->marker || !m->cur.etag[0] || !mtime || !etag_may_move(m))
		return obj_headers_get(&m->h, META_WAS) ? obj_headers_set(&m->h, META_WAS, NULL) : 0;
	n = snprintf(was, sizeof(was), "%s %" PRIu64 " %s", m->cur.etag, m->cur.size, mtime);
	if (n < 0 || (size_t)n >= sizeof(was))
		return 0; /* an mtime that is none of ours: others will take it for a new version */
	return obj_headers_set(&m->h, META_WAS, was);
}

/* After a condition that failed. 0: go on from m->cur; 1: it is done; -ESTALE and *ret_found; -ENOENT. */
static int look_again(struct metaput *m, const char *nonce, struct version *ret_found, struct objerr *err)
{
	struct version now;
	const char *put;
	int r = object_head(m->t, m->key, &now, &m->found, err);

	if (r < 0)
		return r;
	put = obj_headers_get(&m->found, META_PUT);
	if (nonce[0] && put && !strcmp(put, nonce)) {
		m->made = now; /* an earlier try of this request had got through */
		return 1;
	}
	if ((m->marker && !now.size) || version_same_bytes(&m->cur, &now, &m->found)) {
		m->cur = now;
		return 0;
	}
	if (ret_found)
		*ret_found = now;
	if (err)
		objerr_set(err, "%s was replaced by another version", m->key);
	return -ESTALE;
}

static int put_marker(struct metaput *m, char nonce[OBJ_NONCE_LEN + 1], struct objerr *err)
{
	unsigned caps = obj_caps(m->t->store);
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_PUT, m->key);
	req.headers = &m->h;
	if (m->cur.etag[0] && (caps & OBJ_CAP_PUT_MATCH))
		req.if_match = m->cur.etag;
	else if (!m->cur.etag[0] && (caps & OBJ_CAP_PUT_NEW))
		req.if_none_match_any = true;
	base_random_hex(req.nonce, OBJ_NONCE_LEN / 2);
	memcpy(nonce, req.nonce, sizeof(req.nonce));
	m->asked_ns = clock_now_ns();
	r = tree_do(m->t, &req, err);
	m->date_s = req.date_s;
	if (!r) {
		m->made = (struct version){.mtime_s = req.mtime_s ? req.mtime_s : req.date_s};
		memcpy(m->made.etag, req.etag, sizeof(m->made.etag));
	}
	objreq_done(&req);
	return r;
}

/* Method (3): the copy stands between two looks. */
static int copy_checked(struct metaput *m, struct copy *c, struct objerr *err)
{
	struct version before, after;
	const char *put;
	int r = object_head(m->t, m->key, &before, NULL, err);

	if (!r && (strcmp(before.etag, m->cur.etag) || before.size != m->cur.size))
		r = -ESTALE;
	if (!r)
		r = copy_object(m->t, c, &m->made, err);
	if (!r)
		r = object_head(m->t, m->key, &after, &m->found, err);
	if (r < 0)
		return r;
	put = obj_headers_get(&m->found, META_PUT);
	if (put && !strcmp(put, c->nonce) && after.size == m->cur.size) {
		m->made = after;
		return 0;
	}
	/* Somebody came behind us. If that was metadata again, the last one has won. */
	if (version_same_bytes(&m->made, &after, &m->found)) {
		m->made = after;
		m->theirs = true;
		return 0;
	}
	return -ESTALE;
}

static int put_once(struct metaput *m, char nonce[OBJ_NONCE_LEN + 1], struct objerr *err)
{
	unsigned caps = obj_caps(m->t->store);
	struct copy c = {.src_key = m->key, .dst_key = m->key, .src = &m->cur, .h = &m->h, .if_match = m->cur.etag};
	bool small = m->cur.size <= SMALL_OBJECT;
	int r;

	if (m->marker)
		return put_marker(m, nonce, err);
	if ((caps & OBJ_CAP_COPY) && (caps & OBJ_CAP_COPY_SRC) && (caps & OBJ_CAP_COPY_DST))
		r = copy_object(m->t, &c, &m->made, err);
	else if (small && (caps & OBJ_CAP_PUT_MATCH) && !m->tags)
		r = copy_by_put(m->t, &c, &m->made, err);
	else if (caps & OBJ_CAP_COPY)
		r = copy_checked(m, &c, err);
	else if (small && (caps & OBJ_CAP_PUT_MATCH))
		r = copy_by_put(m->t, &c, &m->made, err);
	else
		r = -ENOTSUP;
	memcpy(nonce, c.nonce, sizeof(c.nonce));
	m->asked_ns = c.asked_ns;
	m->date_s = c.date_s;
	return r;
}

static int run(struct metaput *m, struct version *ret_found, struct objerr *err)
{
	char nonce[OBJ_NONCE_LEN + 1] = "";
	int r = -ESTALE;

	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		r = set_was(m);
		if (r < 0)
			return r;
		if (m->cur.etag[0])
			await_second(m->t, m->leave_s);
		r = put_once(m, nonce, err);
		if (r != -ESTALE)
			return r;
		r = look_again(m, nonce, ret_found, err);
		if (r)
			return MIN(r, 0);
		m->leave_s = m->cur.mtime_s + FOREIGN_S;
	}
	return -EBUSY;
}

int tree_put_headers(struct tree *t, const char *dir, const char *name, bool is_dir, const struct version *base,
		     const struct obj_headers *h, struct version *ret, struct version *ret_found, struct objerr *err)
{
	struct metaput m = {.t = t, .cur = *base, .tags = headers_have_tags(h)};
	int r = t->read_only ? -EROFS : tree_key(t, dir, name, is_dir, &m.key);

	m.marker = is_dir && !base->size; /* somebody's marker with bytes in it is copied like a file */
	if (!r && !is_dir && !base->etag[0])
		r = -EINVAL;
	if (!r)
		r = headers_to_send(h, &m.h);
	if (!r)
		r = find_leave_s(&m, dir, name, is_dir);
	if (!r)
		r = run(&m, ret_found, err);
	if (r < 0) {
		change_failed(t, dir, r);
		goto out;
	}
	mtx_lock(&t->lock);
	if (strcmp(m.made.etag, m.cur.etag) && m.cur.etag[0] && !m.marker && !m.theirs)
		t->etag_moves = true;
	mtx_unlock(&t->lock);
	/* What cannot be noted is asked for later. */
	if (tree_note_object(t, dir, name, is_dir, &m.made, m.theirs ? &m.found : &m.h, 0, !m.theirs, m.date_s,
			     m.asked_ns))
		tree_forget(t, dir);
	*ret = m.made;
out:
	obj_headers_free(&m.h);
	obj_headers_free(&m.found);
	free(m.key);
	return r;
}
