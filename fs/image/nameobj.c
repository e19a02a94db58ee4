/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * nameobj.c - requests on name objects. A name is small and holds no state of the log: whatever happens here, the image
 * is what its log says.
 *
 * Moving is: put the new name (only if absent, or over the very version of the name that it replaces), delete the old one
 * on the condition of what was read. A crash between leaves two names of one image; whoever began it has an intent in the
 * bucket and does it again.
 */
#include "config.h"
#include "log-private.h"
#include "nameobj.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/failpoint.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <string.h>

enum { NAME_MAX_BYTES = 65536, MOVE_TRIES = 3 };

void nameobj_free(struct nameobj *o)
{
	imgname_free(&o->n);
	obj_headers_free(&o->h);
}

void nameplace_free(struct nameplace *p)
{
	free(p->base);
	free(p->prefix);
	memset(p, 0, sizeof(*p));
}

static int join(const char *a, const char *b, const char *c, char **ret)
{
	struct str s = {0};

	str_add(&s, a);
	str_add(&s, b);
	str_add(&s, c);
	if (s.err == 0 && s.len > OBJ_KEY_MAX) {
		str_free(&s);
		return -ENAMETOOLONG;
	}
	return str_take(&s, ret);
}

static int get(struct objstore *s, const char *key, const char *etag, struct nameobj *ret, struct objerr *err)
{
	_cleanup_free_ char *buf = malloc(NAME_MAX_BYTES);
	struct nameobj o = {0};
	struct objreq req;
	uint8_t uuid[16];
	uint64_t size;
	const char *v;
	int r;

	if (buf == NULL)
		return -ENOMEM;
	objreq_init(&req, OBJ_GET, key);
	req.buf = buf;
	req.cap = NAME_MAX_BYTES;
	req.if_match = etag;
	o.asked_ns = clock_now_ns();
	r = obj_do(s, &req);
	if (r < 0 && err != NULL)
		*err = req.err;
	if (r == 0) {
		v = obj_headers_get(&req.ret_headers, IMGNAME_HEADER);
		r = v == NULL || imgname_header_parse(v, uuid, &size) < 0 ? -ENODATA : 0;
	}
	if (r == 0)
		r = req.truncated ? -EUCLEAN : imgname_decode(buf, req.got, &o.n, err);
	if (r == 0 && memcmp(uuid, o.n.uuid, 16) != 0) {
		if (err != NULL)
			objerr_set(err, "%s: its text and its header name different images", key);
		r = -EUCLEAN;
	}
	if (r == 0) {
		o.n.size = size; /* the header is written more often */
		o.bytes = req.size;
		o.mtime_s = req.mtime_s;
		o.date_s = req.date_s;
		memcpy(o.etag, req.etag, sizeof(o.etag));
		r = obj_headers_copy(&o.h, &req.ret_headers);
	}
	objreq_done(&req);
	if (r < 0) {
		nameobj_free(&o);
		return r;
	}
	*ret = o;
	return 0;
}

int nameobj_get(struct objstore *s, const char *key, struct nameobj *ret, struct objerr *err)
{
	return get(s, key, NULL, ret, err);
}

/* Headers that may be sent again. */
static int headers_to_send(struct nameobj *o)
{
	struct obj_headers h = {0};
	char v[64];
	int r = 0;

	for (size_t i = 0; i < o->h.n && r == 0; i++) {
		const char *name = o->h.v[i].name;

		if (strcmp(name, "content-type") == 0 ||
		    (str_has_prefix(name, "x-amz-meta-") && strcmp(name, "x-amz-meta-lsvd-put") != 0 &&
		     strcmp(name, "x-amz-meta-lsvd-was") != 0))
			r = obj_headers_set(&h, name, o->h.v[i].value);
	}
	imgname_header_format(o->n.uuid, o->n.size, v);
	if (r == 0)
		r = obj_headers_set(&h, IMGNAME_HEADER, v);
	if (r < 0) {
		obj_headers_free(&h);
		return r;
	}
	obj_headers_free(&o->h);
	o->h = h;
	return 0;
}

/* What a store without tries of its own says of a change that may happen yet. */
static bool unanswered(int r)
{
	return r == -ETIMEDOUT || r == -ECONNRESET || r == -EBADMSG || r == -EIO || r == -EAGAIN || r == -ESHUTDOWN ||
	       r == -ECANCELED;
}

/* etag: of the version that it replaces; NULL: of any. */
static int put(struct objstore *s, const char *key, struct nameobj *o, bool only_new, const char *etag,
	       struct objerr *err)
{
	_cleanup_free_ char *text = NULL;
	struct objreq req;
	struct iovec iov;
	int r = imgname_encode(&o->n, &text);

	if (r == 0)
		r = headers_to_send(o);
	if (r < 0)
		return r;
	iov = (struct iovec){text, strlen(text)};
	objreq_init(&req, OBJ_PUT, key);
	req.iov = &iov;
	req.iovcnt = 1;
	req.headers = &o->h;
	req.if_none_match_any = only_new && (obj_caps(s) & OBJ_CAP_PUT_NEW);
	if (etag != NULL && (obj_caps(s) & OBJ_CAP_PUT_MATCH))
		req.if_match = etag;
	if (req.if_none_match_any)
		base_random_hex(req.nonce, OBJ_NONCE_LEN / 2);
	o->asked_ns = clock_now_ns();
	r = obj_do(s, &req);
	if (r < 0 && err != NULL)
		*err = req.err;
	o->maybe = r < 0 && (req.maybe_done || unanswered(r));
	if (r == 0) {
		memcpy(o->etag, req.etag, sizeof(o->etag));
		o->bytes = iov.iov_len;
		o->mtime_s = req.mtime_s;
		o->date_s = req.date_s;
	}
	objreq_done(&req);
	return r == -ESTALE && only_new ? -EEXIST : r;
}

int nameobj_create(struct objstore *s, const char *key, struct nameobj *o, struct objerr *err)
{
	return put(s, key, o, true, NULL, err);
}

int nameobj_update(struct objstore *s, const char *key, struct nameobj *o, struct objerr *err)
{
	char etag[OBJ_ETAG_MAX];

	memcpy(etag, o->etag, sizeof(etag));
	return put(s, key, o, false, etag, err);
}

/* ---- where the log is ---- */

/* Key without the suffix; NULL: it has none. */
static char *path_of(const char *key)
{
	size_t n = strlen(key), k = strlen(IMGNAME_SUFFIX);

	return n > k && str_has_suffix(key, IMGNAME_SUFFIX) ? strndup(key, n - k) : NULL;
}

/* The directory below which the path is called that; NULL: the path does not end so. To be freed. */
static char *base_of(const char *path, const char *name)
{
	size_t n = strlen(path), k = strlen(name);

	if (!str_has_suffix(path, name) || (n > k && path[n - k - 1] != '/'))
		return NULL;
	return strndup(path, n - k);
}

/* Is there a log in this directory? 1, 0. And is it marked as dead? One round trip. */
static int try_base(struct objstore *s, const char *base, const char *log, struct nameplace *p, struct objerr *err)
{
	_cleanup_free_ char *prefix = NULL, *dead = NULL;
	struct objreq list, head;
	struct log_batch both;
	int r = join(base, log, "", &prefix);

	if (r == 0)
		r = join(prefix, "dead", "", &dead);
	if (r < 0)
		return r;
	log_batch_init(&both);
	objreq_init(&list, OBJ_LIST, prefix);
	list.max_keys = 1;
	log_batch_submit(&both, s, &list);
	objreq_init(&head, OBJ_HEAD, dead);
	log_batch_submit(&both, s, &head);
	log_batch_wait(&both);
	log_batch_destroy(&both);
	r = list.status < 0 ? list.status : list.listing->n > 0;
	if (r > 0 && head.status < 0 && head.status != -ENOENT)
		r = head.status;
	if (r < 0 && err != NULL)
		*err = list.status < 0 ? list.err : head.err;
	if (r > 0) {
		p->dead = head.status == 0;
		p->base = strdup(base);
		p->prefix = prefix;
		prefix = NULL;
		r = p->base == NULL ? -ENOMEM : 1;
	}
	objreq_done(&list);
	objreq_done(&head);
	return r;
}

static int find_log(struct objstore *s, const char *top, const char *path, const struct imgname *n,
		    struct nameplace *p, struct objerr *err)
{
	_cleanup_free_ char *base = base_of(path, n->name), *dir = strdup(path), *here = NULL;
	char uuid[33];
	int r = 0;

	log_uuid_format(n->uuid, uuid);
	if (dir == NULL)
		return -ENOMEM;
	if (base != NULL)
		r = try_base(s, base, n->log, p, err);
	if (r == 0)
		r = join(".lsvd/img/", uuid, "/", &here);
	/* Upward: every directory above the name, down to the mount's. */
	while (r == 0) {
		char *slash = strrchr(dir, '/');

		slash = slash != NULL ? slash + 1 : dir;
		*slash = '\0';
		if (strlen(dir) < strlen(top))
			return -ENOENT;
		r = try_base(s, dir, here, p, err);
		if (r == 0 && *dir == '\0')
			return -ENOENT;
		if (r == 0)
			dir[strlen(dir) - 1] = '\0';
	}
	return r < 0 ? r : 0;
}

/* The key that the name itself says: 1 and it is a name of the same image, 0. */
static int is_copy(struct objstore *s, const char *base, const char *key, const struct imgname *n, struct objerr *err)
{
	_cleanup_free_ char *named = NULL;
	struct objreq req;
	uint8_t uuid[16];
	uint64_t size;
	const char *v;
	int r = join(base, n->name, IMGNAME_SUFFIX, &named);

	if (r < 0 || strcmp(named, key) == 0)
		return r == -ENAMETOOLONG ? 0 : r;
	r = obj_head(s, named, &req);
	if (r < 0 && r != -ENOENT && err != NULL)
		*err = req.err;
	if (r == 0) {
		v = obj_headers_get(&req.ret_headers, IMGNAME_HEADER);
		r = v != NULL && imgname_header_parse(v, uuid, &size) == 0 && memcmp(uuid, n->uuid, 16) == 0;
	}
	objreq_done(&req);
	return r == -ENOENT ? 0 : r;
}

static int exists(struct objstore *s, const char *prefix, const char *name, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	struct objreq req;
	int r = join(prefix, name, "", &key);

	if (r < 0)
		return r;
	r = obj_head(s, key, &req);
	if (r < 0 && r != -ENOENT && err != NULL)
		*err = req.err;
	objreq_done(&req);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int nameobj_place(struct objstore *s, const char *top, const char *key, const struct imgname *n, struct nameplace *ret,
		  struct objerr *err)
{
	_cleanup_free_ char *path = path_of(key);
	struct nameplace p = {0};
	int r;

	if (path == NULL)
		return -ENOENT;
	r = find_log(s, top, path, n, &p, err);
	if (r == -ENOENT)
		objerr_set(err, "%s: the log of the image is nowhere to be found", key);
	if (r == 0) {
		r = is_copy(s, p.base, key, n, err);
		p.copy = r > 0;
	}
	if (r < 0) {
		nameplace_free(&p);
		return r;
	}
	*ret = p;
	return 0;
}

/* ---- moving ---- */

/* What a name says once it is at `to`. -EXDEV: `to` is not below the directory that holds the log's .lsvd. */
static int rename_text(struct imgname *n, const char *from, const char *to)
{
	_cleanup_free_ char *path = path_of(from), *target = path_of(to), *base = NULL;
	char *name;

	if (path == NULL || target == NULL)
		return -EINVAL;
	base = base_of(path, n->name);
	if (base == NULL)
		return 0; /* a copy, or another program's rename: it stays what it is */
	if (!str_has_prefix(target, base))
		return -EXDEV;
	name = strdup(target + strlen(base));
	if (name == NULL)
		return -ENOMEM;
	free(n->name);
	n->name = name;
	return 0;
}

static int delete_old(struct objstore *s, const char *key, const struct nameobj *o, struct objerr *err)
{
	bool cond = obj_caps(s) & OBJ_CAP_DELETE_COND, same;
	struct nameobj now;
	int r;

	if (cond)
		r = obj_delete(s, key, o->etag, err);
	else
		r = -ESTALE;
	if (r == -ESTALE) { /* metadata may have changed: the same image's name goes all the same */
		r = nameobj_get(s, key, &now, err);
		if (r == -ENOENT || r == -ENODATA || r == -EUCLEAN)
			return 0;
		if (r < 0)
			return r;
		same = memcmp(now.n.uuid, o->n.uuid, 16) == 0;
		r = same ? obj_delete(s, key, cond ? now.etag : NULL, err) : 0;
		nameobj_free(&now);
	}
	return r == -ENOENT ? 0 : r;
}

/* What o becomes at `to`. */
static int renamed(const struct nameobj *o, const char *from, const char *to, const struct obj_headers *h,
		   const uint8_t over[16], struct nameobj *ret)
{
	struct nameobj made = {.n.size = o->n.size};
	uint8_t uuid[16];
	uint64_t size;
	const char *v;
	int r;

	memcpy(made.n.uuid, o->n.uuid, 16);
	if (over != NULL)
		memcpy(made.n.replaces, over, 16);
	made.n.log = strdup(o->n.log);
	made.n.name = strdup(o->n.name);
	r = made.n.log == NULL || made.n.name == NULL ? -ENOMEM : 0;
	if (r == 0)
		r = obj_headers_copy(&made.h, h != NULL ? h : &o->h);
	v = obj_headers_get(&made.h, IMGNAME_HEADER); /* newer than the old name's */
	if (r == 0 && v != NULL && imgname_header_parse(v, uuid, &size) == 0)
		made.n.size = size;
	if (r == 0)
		r = rename_text(&made.n, from, to);
	if (r < 0) {
		nameobj_free(&made);
		return r;
	}
	*ret = made;
	return 0;
}

/* One try. -ESTALE: what is at `to` changed meanwhile. */
static int put_renamed(struct objstore *s, const struct nameobj *o, const char *from, const char *to,
		       const struct obj_headers *h, const uint8_t over[16], struct nameobj *ret, struct objerr *err)
{
	struct nameobj there = {0}, made;
	int r = nameobj_get(s, to, &there, err);

	if (r == -ENODATA || r == -EUCLEAN)
		return -EEXIST;
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && memcmp(there.n.uuid, o->n.uuid, 16) == 0) { /* begun before */
		*ret = there;
		return 0;
	}
	if (r == 0 && (over == NULL || memcmp(there.n.uuid, over, 16) != 0))
		r = -EEXIST;
	else
		r = renamed(o, from, to, h, over, &made);
	if (r == 0) {
		r = put(s, to, &made, there.etag[0] == '\0', there.etag[0] != '\0' ? there.etag : NULL, err);
		if (r < 0)
			nameobj_free(&made);
	}
	nameobj_free(&there);
	if (r == 0)
		*ret = made;
	return r;
}

int nameobj_move(struct objstore *s, const char *from, const char *to, const struct obj_headers *h,
		 const uint8_t over[16], struct nameobj *ret, struct objerr *err)
{
	struct nameobj o, made = {0};
	int r = nameobj_get(s, from, &o, err);

	if (r < 0)
		return r;
	r = -ESTALE;
	for (int i = 0; i < MOVE_TRIES && r == -ESTALE; i++)
		r = put_renamed(s, &o, from, to, h, over, &made, err);
	r = r == -ESTALE ? -EBUSY : r;
	if (r == 0) {
		FAILPOINT("image.renamed");
		r = delete_old(s, from, &o, err);
	}
	nameobj_free(&o);
	if (r == 0 && ret != NULL)
		*ret = made;
	else
		nameobj_free(&made);
	return r;
}

int nameobj_copy(struct objstore *s, const char *from, const char *etag, const char *to, struct nameobj *ret,
		 struct objerr *err)
{
	struct nameobj o;
	int r = get(s, from, etag, &o, err);

	if (r < 0)
		return r == -EUCLEAN ? -ENODATA : r; /* damaged: it moves as the bytes that it is */
	r = rename_text(&o.n, from, to);
	if (r == 0)
		r = put(s, to, &o, false, NULL, err);
	if (r < 0) {
		nameobj_free(&o);
		return r;
	}
	*ret = o;
	return 0;
}

int nameobj_same(struct objstore *s, const char *a, const char *b, bool *ret, struct objerr *err)
{
	struct nameobj x, y;
	int r = nameobj_get(s, a, &x, err);

	*ret = false;
	if (r == 0) {
		r = nameobj_get(s, b, &y, err);
		if (r == 0) {
			*ret = memcmp(x.n.uuid, y.n.uuid, 16) == 0;
			nameobj_free(&y);
		}
		nameobj_free(&x);
	}
	return r == -ENOENT || r == -ENODATA || r == -EUCLEAN ? 0 : r;
}

/* ---- the end ---- */

int image_bury(struct objstore *s, const char *prefix, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	int r = join(prefix, "dead", "", &key);

	return r < 0 ? r : obj_put(s, key, NULL, 0, NULL, false, NULL, NULL, err);
}

int image_is_dead(struct objstore *s, const char *prefix, struct objerr *err)
{
	return RULE(C5_DEAD) ? exists(s, prefix, "dead", err) : 0;
}

int image_any_key(struct objstore *s, const char *prefix, struct objerr *err)
{
	struct objreq req;
	int r;

	objreq_init(&req, OBJ_LIST, prefix);
	r = obj_do(s, &req);
	if (r < 0 && err != NULL)
		*err = req.err;
	for (size_t i = 0; r == 0 && i < req.listing->n; i++)
		r = !str_has_suffix(req.listing->v[i].key, "/");
	objreq_done(&req);
	return r;
}

int image_has_refs(struct objstore *s, const char *prefix, struct objerr *err)
{
	_cleanup_free_ char *refs = NULL;
	int r = join(prefix, "ref/", "", &refs);

	return r < 0 ? r : image_any_key(s, refs, err);
}

struct erase {
	struct objstore *s;
	struct objerr *err;
	const char *prefix;
	uint64_t next;
	const uint64_t *keep;
	size_t nkeep, left;
	char *keys[OBJ_LIST_MAX];
	size_t n;
};

static bool goes(const struct erase *e, const char *key)
{
	const char *p = key + strlen(e->prefix);
	uint64_t number;

	if (strcmp(p, "flat") == 0)
		return true; /* nobody will ask a dead one */
	if (str_has_prefix(p, "mark/"))
		return !str_has_suffix(p, "/"); /* file:// shows the directory, too */
	if (log_number_parse(p, &number) < 0 || (RULE(D2_BELOW) && number >= e->next))
		return false;
	for (size_t i = RULE(D1_CLAIMS) || e->nkeep == 0 ? 0 : e->nkeep - 1; i < e->nkeep; i++)
		if (e->keep[i] == number)
			return false;
	return true;
}

static int flush_keys(struct erase *e)
{
	bool many = obj_caps(e->s) & OBJ_CAP_DELETE_MANY;
	int r = 0;

	for (size_t i = 0; i < e->n && r == 0; i += many ? e->n : 1) {
		struct objreq req;

		objreq_init(&req, many ? OBJ_DELETE_MANY : OBJ_DELETE, e->keys[i]);
		req.prio = OBJ_PRIO_BG;
		if (many) {
			req.keys = (const char *const *)e->keys;
			req.nkeys = e->n;
		}
		r = obj_do(e->s, &req);
		if (r == -ENOENT)
			r = 0;
		if (r < 0 && e->err != NULL)
			*e->err = req.err;
		objreq_done(&req);
	}
	while (e->n > 0)
		free(e->keys[--e->n]);
	return r;
}

static int erase_one(void *arg, const struct obj_list_entry *l)
{
	struct erase *e = arg;

	if (!goes(e, l->key)) {
		e->left++;
		return 0;
	}
	e->keys[e->n] = strdup(l->key);
	if (e->keys[e->n] == NULL)
		return -ENOMEM;
	return ++e->n == OBJ_LIST_MAX ? flush_keys(e) : 0;
}

int image_erase(struct objstore *s, const char *prefix, uint64_t next, const uint64_t *keep, size_t nkeep,
		size_t *ret_left, struct objerr *err)
{
	struct erase *e = calloc(1, sizeof(*e));
	int r = 0;

	if (e == NULL)
		return -ENOMEM;
	*e = (struct erase){.s = s, .err = err, .prefix = prefix, .next = next, .keep = keep, .nkeep = nkeep};
	/* Who clones looks for `dead` when its ref is there: one of both sees the other. */
	r = RULE(C6_REFS) ? image_has_refs(s, prefix, err) : 0;
	if (r > 0) {
		objerr_set(err, "a clone was made of the image meanwhile: its objects stay");
		r = -EBUSY;
	}
	if (r == 0)
		r = obj_each(s, OBJ_LIST, prefix, false, erase_one, e, err);
	if (r == 0)
		r = flush_keys(e);
	while (e->n > 0)
		free(e->keys[--e->n]);
	if (r == 0)
		*ret_left = e->left;
	free(e);
	return r;
}
