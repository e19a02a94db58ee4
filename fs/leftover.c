/* SPDX-License-Identifier: GPL-3.0-or-later */
/* leftover.c - finding and removing what dead nodes left; whose a copy is, its key says (meta/FORMAT.md, section 1). */
#include "config.h"
#include "leftover.h"

#include "intent.h"
#include "meta/path.h"
#include "objstore/base/str.h"

#include <string.h>

#define NODE_ID_LEN 32

const char *const leftover_fate_name[] = {"removed", "failed", "running", "foreign"};

static int copies_prefix(const char *prefix, char **ret)
{
	struct str s = {0};

	str_addf(&s, "%s" PATH_RESERVED "/unlinked/", prefix);
	return str_take(&s, ret);
}

int leftover_key(const char *prefix, const char *node_id, char **ret)
{
	_cleanup_free_ char *below = NULL;
	struct str s = {0};
	char hex[17];
	int r = copies_prefix(prefix, &below);

	if (r)
		return r;
	base_random_hex(hex, 8);
	str_addf(&s, "%s%s-%s", below, node_id ? node_id : "", hex);
	return str_take(&s, ret);
}

/* The node that made the copy; false when the name does not say. */
static bool node_of(const char *name, char *node)
{
	size_t n = strspn(name, "0123456789abcdef");

	if (n != NODE_ID_LEN || name[n] != '-')
		return false;
	memcpy(node, name, n);
	node[n] = '\0';
	return true;
}

struct sweep {
	struct objstore *store;
	const char *below, *state_dir, *identity; /* copies */
	const struct slot *mine;
	int64_t before_s; /* uploads */
	bool abort;
	leftover_fn fn;
	void *arg;
};

static int copy_found(void *arg, const struct obj_list_entry *e)
{
	const struct sweep *c = arg;
	struct leftover l = {.key = e->key, .size = e->size, .time_s = e->mtime_s, .fate = LEFTOVER_FOREIGN};
	struct slot s = {.lock_fd = -1};
	struct objerr err = {0};
	char node[NODE_ID_LEN + 1];
	int r = -ENOENT;

	if (str_has_suffix(e->key, "/")) /* file:// shows the directory itself, too */
		return 0;
	if (node_of(e->key + strlen(c->below), node))
		r = intent_owner(c->state_dir, c->identity, c->mine, node, &s);
	if (r == -EBUSY)
		l.fate = LEFTOVER_RUNNING;
	if (!r)
		r = obj_delete(c->store, e->key, NULL, &err);
	slot_release(&s);
	if (!r)
		l.fate = LEFTOVER_REMOVED;
	else if (r != -EBUSY && r != -ENOENT)
		l.fate = LEFTOVER_FAILED;
	l.why = err.msg[0] ? err.msg : l.fate == LEFTOVER_FAILED ? strerrordesc_np(-r) : NULL;
	c->fn(c->arg, &l);
	return 0;
}

static int upload_found(void *arg, const struct obj_list_entry *e)
{
	const struct sweep *c = arg;
	struct leftover l = {
	    .key = e->key, .upload_id = e->upload_id, .time_s = e->mtime_s, .fate = LEFTOVER_FOREIGN};
	struct objreq q;
	int r;

	if (e->mtime_s >= c->before_s)
		return 0;
	objreq_init(&q, OBJ_MPU_ABORT, e->key);
	if (c->abort) {
		q.upload_id = e->upload_id;
		r = obj_do(c->store, &q);
		l.fate = r ? LEFTOVER_FAILED : LEFTOVER_REMOVED;
		l.why = r ? q.err.msg : NULL;
	}
	c->fn(c->arg, &l);
	objreq_done(&q);
	return 0;
}

int leftover_copies(struct objstore *store, const char *prefix, const char *state_dir, const char *identity,
		    const struct slot *mine, leftover_fn fn, void *arg, struct objerr *err)
{
	_cleanup_free_ char *below = NULL;
	struct sweep c = {
	    .store = store, .state_dir = state_dir, .identity = identity, .mine = mine, .fn = fn, .arg = arg};
	int r = copies_prefix(prefix, &below);

	c.below = below;
	return r ? r : obj_each(store, OBJ_LIST, below, false, copy_found, &c, err);
}

int leftover_uploads(struct objstore *store, const char *prefix, int64_t before_s, bool abort, leftover_fn fn, void *arg,
		     struct objerr *err)
{
	struct sweep c = {.store = store, .before_s = before_s, .abort = abort, .fn = fn, .arg = arg};

	if (!(obj_caps(store) & OBJ_CAP_MULTIPART))
		return 0;
	return obj_each(store, OBJ_MPU_LIST, prefix, false, upload_found, &c, err);
}
