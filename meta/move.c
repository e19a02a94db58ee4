/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * move.c - a file's object under another key: copy, then delete the source if it still is what was copied.
 *
 * The target is never absent, and nothing is deleted that was not copied. Per round:
 *
 *   copy      conditional on the source where the store can; on the target's absence for NOREPLACE: by the copy, else for
 *             a small object by a PUT, else by a HEAD before it. Onto a target where copies take no condition: a PUT on
 *             the condition of that target, or of a large object a copy and a look at what stands there then. For a store
 *             may drop the copy for a conditional PUT of another node that arrives in the same moment (seen on RGW)
 *   delete    conditional, else behind a HEAD (which is also what vouches for an unconditional copy)
 *   changed   the source is another version now: another round, at most three; then -EBUSY, both are there
 */
#include "config.h"
#include "tree-private.h"

#include <string.h>

#define MAX_ROUNDS 4

struct move {
	struct tree *t;
	char *skey, *dkey;
	struct version cur; /* of the source */
	struct obj_headers h;
	bool have_h; /* send h; else the copy keeps what the source has */
	bool asked_h; /* h says what this node wants, not only a Content-Type */
	bool noreplace;
	bool tags;
	struct version target; /* what the new name held when we knew last; etag "": nothing known */
	bool copied; /* the target is ours: made */
	struct version made;
	int64_t asked_ns, date_s;
};

/* A rename replaces whatever is there. -ESTALE: again, on the condition of what is there now. */
static int after_onto(struct move *m, bool by_put, int r, struct objerr *err)
{
	struct version v;

	if (r == 0 && by_put) {
		m->target = m->made;
		return 0;
	}
	if (r != 0 && r != -ESTALE && r != -ENOENT)
		return r;
	if (r == 0 || by_put) {
		int k = object_head(m->t, m->dkey, &v, NULL, err);

		if (k < 0 && k != -ENOENT)
			return k;
		if (r == 0 && k == 0 && strcmp(v.etag, m->target.etag) == 0 && strcmp(v.etag, m->made.etag) != 0)
			r = -ESTALE; /* our copy was dropped */
		else if (r == 0)
			return 0;
		m->target = k == 0 ? v : (struct version){};
	}
	return -ESTALE;
}

/* One copy of m->cur. -EEXIST, -ENOENT: no source; -ESTALE: the source is another version. */
static int copy_once(struct move *m, struct objerr *err)
{
	unsigned caps = obj_caps(m->t->store);
	struct copy c = {.src_key = m->skey, .dst_key = m->dkey, .src = &m->cur, .h = m->have_h ? &m->h : NULL};
	bool onto, by_put = false, large = m->t->store->put_max && m->cur.size > m->t->store->put_max;
	bool fenced = large ? caps & OBJ_CAP_COMPLETE_COND : caps & OBJ_CAP_COPY_DST;
	struct version v;
	int r = 0;

	onto = !m->noreplace && !fenced && m->target.etag[0];
	c.only_new = m->noreplace && !m->copied;
	c.if_match = m->noreplace && m->copied ? m->made.etag : NULL; /* only over our own copy of a moment ago */
	if (onto && m->cur.size <= SMALL_OBJECT && (caps & OBJ_CAP_PUT_MATCH) && !m->tags) {
		by_put = true;
		c.if_match = m->target.etag;
	} else if (c.only_new && !fenced) {
		by_put = m->cur.size <= SMALL_OBJECT && (caps & OBJ_CAP_PUT_NEW) && !m->tags;
		if (!by_put && !large) {
			r = object_head(m->t, m->dkey, &v, NULL, err);
			if (!r)
				return -EEXIST;
			if (r != -ENOENT)
				return r;
		}
	} else if (!(caps & OBJ_CAP_COPY)) {
		by_put = true;
	}
	if (by_put) {
		if (m->cur.size > SMALL_OBJECT)
			return -EXDEV; /* no copy on this store: mv(1) then does it through the mount */
		if (!(caps & OBJ_CAP_PUT_MATCH))
			c.if_match = NULL;
		r = copy_by_put(m->t, &c, &m->made, err);
	} else {
		r = copy_object(m->t, &c, &m->made, err);
	}
	m->asked_ns = c.asked_ns;
	m->date_s = c.date_s;
	if (!r)
		m->copied = true;
	if (onto)
		return after_onto(m, by_put, r, err);
	if (r != -ESTALE || !m->noreplace)
		return r;
	/* Which of the two conditions was it? */
	r = object_head(m->t, m->dkey, &v, NULL, err);
	if (r == -ENOENT)
		return -ESTALE;
	if (!r && m->copied && !strcmp(v.etag, m->made.etag))
		return -ESTALE;
	return r ? r : -EEXIST;
}

/* Other bytes are moved now: with their own headers and times, of ours only what a chmod or chown has set. */
static int headers_of_foreign(struct move *m, const struct obj_headers *theirs)
{
	static const char *const ours[] = {META_PREFIX "mode", META_PREFIX "uid", META_PREFIX "gid"};
	const char *type = obj_headers_get(&m->h, "content-type");
	struct obj_headers h = {};
	int r = headers_to_send(theirs, &h);

	if (!r && type)
		r = obj_headers_set(&h, "content-type", type);
	for (unsigned i = 0; i < ARRAY_SIZE(ours) && !r && m->asked_h; i++)
		if (obj_headers_get(&m->h, ours[i]))
			r = obj_headers_set(&h, ours[i], obj_headers_get(&m->h, ours[i]));
	if (r < 0) {
		obj_headers_free(&h);
		return r;
	}
	obj_headers_free(&m->h);
	m->h = h;
	return 0;
}

/* Where is the source now? 0 with *changed, or gone: -ENOENT. */
static int look_at_source(struct move *m, bool *changed, struct objerr *err)
{
	struct version v;
	struct obj_headers h = {};
	int r = object_head(m->t, m->skey, &v, &h, err);

	if (!r) {
		*changed = strcmp(v.etag, m->cur.etag) || v.size != m->cur.size || v.mtime_s != m->cur.mtime_s;
		/* Only its metadata may have changed; that is to be carried along just the same, if we do not bring our own. */
		if (*changed && !strcmp(v.etag, m->cur.etag) && v.size == m->cur.size &&
		    (m->have_h || !m->cur.mtime_s || v.mtime_s <= m->cur.mtime_s))
			*changed = false;
		if (*changed && m->have_h && !version_same_bytes(&m->cur, &v, &h))
			r = headers_of_foreign(m, &h);
		if (*changed)
			m->cur = v;
	}
	obj_headers_free(&h);
	return r;
}

/* 0: it is gone; -ESTALE: m->cur is what is there instead. */
static int delete_source(struct move *m, struct objerr *err)
{
	struct objreq req;
	bool cond = obj_caps(m->t->store) & OBJ_CAP_DELETE_COND, changed = false;
	int r = 0;

	if (!cond) {
		r = look_at_source(m, &changed, err);
		if (r == -ENOENT)
			return 0;
		if (r < 0)
			return r;
		if (changed)
			return -ESTALE;
	}
	objreq_init(&req, OBJ_DELETE, m->skey);
	req.if_match = cond ? m->cur.etag : NULL;
	r = tree_do(m->t, &req, err);
	objreq_done(&req);
	if (r == -ENOENT)
		return 0;
	if (r != -ESTALE)
		return r;
	r = look_at_source(m, &changed, err);
	if (r == -ENOENT)
		return 0;
	return r ? r : -ESTALE;
}

static int run(struct move *m, struct objerr *err)
{
	bool changed;
	int r = 0;

	for (unsigned round = 0; round < MAX_ROUNDS; round++) {
		r = copy_once(m, err);
		if (r == -ESTALE) {
			r = look_at_source(m, &changed, err);
			if (r < 0)
				return r;
			continue;
		}
		if (r < 0)
			return r;
		r = delete_source(m, err);
		if (r != -ESTALE)
			return r;
	}
	if (err)
		objerr_set(err, "%s keeps changing; nothing was deleted", m->skey);
	return -EBUSY;
}

/* What the cache says of the target: a condition that turns out wrong costs a question. */
static int known_target(struct move *m, const char *dir, const char *name)
{
	struct row row = {};
	int r;

	if (obj_caps(m->t->store) & OBJ_CAP_COPY_DST)
		return 0;
	mtx_lock(&m->t->lock);
	flights_land_locked(m->t);
	r = row_get_locked(m->t, dir, name, &row);
	mtx_unlock(&m->t->lock);
	if (!r)
		m->target = row.v;
	row_done(&row);
	return r == -ENOMEM ? r : 0;
}

/* What the cache knows of the source: inode number, and headers of this very version. */
static int known_source(struct tree *t, const char *dir, const char *point, const struct version *src, uint64_t *ino,
			struct obj_headers *ret_h, bool *ret_have)
{
	struct row row = {};
	int r;

	*ret_have = false;
	mtx_lock(&t->lock);
	flights_land_locked(t);
	r = row_get_locked(t, dir, point, &row);
	mtx_unlock(&t->lock);
	if (!r && !*ino)
		*ino = row.ino;
	if (!r && row.headers && !strcmp(row.v.etag, src->etag)) {
		r = obj_headers_decode(row.headers, row.headers_len, ret_h);
		*ret_have = !r;
	}
	row_done(&row);
	return r == -ENOMEM ? r : 0;
}

/*
 * The headers to send. None when the copy may keep the source's; a Content-Type that was guessed by the old name is
 * guessed again by the new one.
 */
static int choose_headers(struct move *m, const char *sname, const char *dname, const struct obj_headers *asked,
			  const struct obj_headers *known, struct objerr *err)
{
	const char *old_guess = attr_guess_type(sname), *new_guess = attr_guess_type(dname), *type;
	bool same_guess = !strcmp(old_guess, new_guess);
	struct obj_headers head = {};
	const struct obj_headers *from = asked ? asked : known;
	struct version v;
	int r = 0;

	m->tags = headers_have_tags(from);
	if (!asked && same_guess)
		return 0;
	if (!from) {
		r = object_head(m->t, m->skey, &v, &head, err);
		if (!r && strcmp(v.etag, m->cur.etag))
			m->cur = v;
		from = &head;
		m->tags = headers_have_tags(from);
	}
	if (!r)
		r = headers_to_send(from, &m->h);
	if (!r) {
		type = obj_headers_get(&m->h, "content-type");
		if (!same_guess && type && !strcmp(type, old_guess)) {
			r = obj_headers_set(&m->h, "content-type", new_guess);
			m->have_h = true;
		}
		if (asked)
			m->have_h = m->asked_h = true;
	}
	obj_headers_free(&head);
	return r;
}

int tree_move(struct tree *t, const char *sdir, const char *sname, struct version *src, const char *ddir,
	      const char *dname, const struct obj_headers *h, bool noreplace, uint64_t ino, struct version *ret,
	      struct objerr *err)
{
	struct move m = {.t = t, .cur = *src, .noreplace = noreplace};
	struct obj_headers known = {};
	char real[PATH_NAME_MAX + 16];
	bool have_known = false;
	int r = t->read_only ? -EROFS : path_check_name(dname);

	if (!r && !src->etag[0])
		r = -EINVAL;
	if (!r)
		r = real_name(t, sdir, sname, real);
	if (!r)
		r = path_key(t->prefix, sdir, real, false, &m.skey);
	if (!r)
		r = path_key(t->prefix, ddir, dname, false, &m.dkey);
	if (!r && !strcmp(m.skey, m.dkey)) {
		*ret = *src;
		goto out;
	}
	if (!r)
		r = known_source(t, sdir, real, src, &ino, &known, &have_known);
	if (!r)
		r = known_target(&m, ddir, dname);
	if (!r)
		r = choose_headers(&m, real, dname, h, have_known ? &known : NULL, err);
	if (!r)
		r = run(&m, err);
	if (m.copied) {
		const struct obj_headers *sent = m.have_h ? &m.h : NULL;

		/* Without headers of our own the target has those of the version that was copied. */
		if (!sent && have_known && !strcmp(m.cur.etag, src->etag) && m.cur.mtime_s == src->mtime_s)
			sent = &known;
		if (tree_note_object(t, ddir, dname, false, &m.made, sent, r ? 0 : ino, true, m.date_s, m.asked_ns))
			tree_forget(t, ddir);
	}
	if (r < 0) {
		change_failed(t, ddir, r);
		change_failed(t, sdir, r);
		goto out;
	}
	tree_note_gone(t, sdir, real, false);
	*src = m.cur;
	*ret = m.made;
out:
	obj_headers_free(&known);
	obj_headers_free(&m.h);
	free(m.skey);
	free(m.dkey);
	return r;
}
