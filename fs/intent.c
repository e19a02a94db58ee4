/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * intent.c - resumes directory renames after a crash. The rename itself is in rename_dir.c.
 *
 *   the intent names   the slot is           so
 *   no slot of ours    -                     another machine's: reported, never touched (it may only be slow)
 *   a slot of ours     held by the caller    dead: the caller has just started
 *                      held by another       running: reported
 *                      held by nobody        dead: locked, resumed, unlocked
 */
#include "config.h"
#include "intent.h"

#include "fsd.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NODE_ID_LEN 32 /* hex digits */
#define INTENT_BYTES (16 * KiB)

const char *const intent_fate_name[] = {"resumed", "failed", "running", "foreign", "damaged"};

static int read_node_id(const char *path, char *id)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = base_pread_all(fd, id, NODE_ID_LEN, 0);
	id[r ? 0 : NODE_ID_LEN] = '\0';
	if (r)
		return r;
	return strspn(id, "0123456789abcdef") == NODE_ID_LEN ? 0 : -ENODATA;
}

/* Durable before it is used: an intent in the bucket must find its slot again. */
static int write_node_id(const char *path, const char *id)
{
	_cleanup_free_ char *tmp = NULL;
	_cleanup_close_ int fd = -1;
	struct str s = {0};
	int r;

	str_addf(&s, "%s.tmp", path);
	r = str_take(&s, &tmp);
	if (r)
		return r;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = base_pwrite_all(fd, id, NODE_ID_LEN, 0);
	if (!r && (fsync(fd) || rename(tmp, path)))
		r = -errno;
	return r;
}

int intent_node_id(const struct slot *s, char **ret)
{
	_cleanup_free_ char *path = NULL, *id = malloc(NODE_ID_LEN + 1);
	int r = slot_file(s, "node", &path);

	if (r || !id)
		return r ? r : -ENOMEM;
	r = read_node_id(path, id);
	if (r == -ENOENT || r == -ENODATA) {
		base_random_hex(id, NODE_ID_LEN / 2);
		r = write_node_id(path, id);
	}
	if (r)
		return r;
	*ret = id;
	id = NULL;
	return 0;
}

/* --- whose is it ------------------------------------------------------------------------------------------------ */

struct resume {
	struct objstore *store;
	const char *prefix, *state_dir, *identity;
	const struct slot *mine;
	void (*fn)(void *arg, const struct intent *i);
	void *arg;
};

/* Number of the slot with this id. -ENOENT: none of ours. */
static int find_slot(const char *state_dir, const char *identity, const char *node, unsigned *ret)
{
	_cleanup_free_ unsigned *v = NULL;
	_cleanup_free_ char *idir = NULL;
	size_t n = 0;
	int r = slot_identity_dir(state_dir, identity, &idir);

	if (!r)
		r = slot_list_in(idir, &v, &n);
	for (size_t i = 0; !r && i < n; i++) {
		_cleanup_free_ char *path = NULL;
		char id[NODE_ID_LEN + 1];
		struct str s = {0};

		str_addf(&s, "%s/slot-%u/node", idir, v[i]);
		r = str_take(&s, &path);
		if (!r && !read_node_id(path, id) && !strcmp(id, node)) {
			*ret = v[i];
			return 0;
		}
	}
	return r ? r : -ENOENT;
}

int intent_owner(const char *state_dir, const char *identity, const struct slot *mine, const char *node,
		 struct slot *ret)
{
	unsigned number = 0;
	int r = find_slot(state_dir, identity, node, &number);

	if (r || (mine && mine->number == number))
		return r;
	return slot_lock(state_dir, identity, number, ret);
}

static int finish(const struct resume *c, const struct intent *in, struct objerr *err)
{
	int r = rename_resume(c->store, c->prefix, in->from, in->to, in->time_s, err);

	return r ? r : obj_delete(c->store, in->key, NULL, err);
}

static enum intent_fate settle(const struct resume *c, const struct intent *in, const char *node, struct objerr *err)
{
	struct slot s = {.lock_fd = -1};
	int r = intent_owner(c->state_dir, c->identity, c->mine, node, &s);

	if (r == -ENOENT)
		return INTENT_FOREIGN;
	if (r == -EBUSY)
		return INTENT_RUNNING;
	if (!r)
		r = finish(c, in, err);
	slot_release(&s);
	if (r && !err->msg[0])
		objerr_set(err, "%s", strerrordesc_np(-r));
	return r ? INTENT_FAILED : INTENT_RESUMED;
}

/* -ENOENT: somebody has just finished it. */
static int read_intent(const struct resume *c, const char *key, char *buf, size_t *ret_n, struct objerr *err)
{
	struct objreq q;
	int r;

	objreq_init(&q, OBJ_GET, key);
	q.len = OBJ_WHOLE;
	q.buf = buf;
	q.cap = INTENT_BYTES;
	r = obj_do(c->store, &q);
	if (r)
		*err = q.err;
	*ret_n = q.truncated ? 0 : q.got;
	objreq_done(&q);
	return r;
}

static int one(void *arg, const struct obj_list_entry *e)
{
	const struct resume *c = arg;
	_cleanup_free_ char *buf = malloc(INTENT_BYTES), *from = NULL, *to = NULL, *node = NULL;
	struct intent in = {.key = e->key, .time_s = e->mtime_s, .fate = INTENT_FAILED};
	struct objerr err = {0};
	size_t n;
	int r;

	if (str_has_suffix(e->key, "/")) /* file:// shows the directory itself, too */
		return 0;
	if (!buf)
		return -ENOMEM;
	r = read_intent(c, e->key, buf, &n, &err);
	if (r == -ENOENT)
		return 0;
	if (!r) {
		r = rename_intent_parse(buf, n, &from, &to, &node);
		if (r == -ENOMEM)
			return r;
		in.from = from;
		in.to = to;
		in.fate = r ? INTENT_DAMAGED : settle(c, &in, node, &err);
	}
	in.why = err.msg;
	c->fn(c->arg, &in);
	return 0;
}

int intent_resume_all(struct objstore *store, const char *prefix, const char *state_dir, const char *identity,
		      const struct slot *mine, void (*fn)(void *arg, const struct intent *i), void *arg,
		      struct objerr *err)
{
	struct resume c = {store, prefix, state_dir, identity, mine, fn, arg};
	_cleanup_free_ char *below = NULL;
	struct str s = {0};
	int r;

	str_addf(&s, "%s.lsvd/intent/", prefix);
	r = str_take(&s, &below);
	return r ? r : obj_each(store, OBJ_LIST, below, false, one, &c, err);
}
