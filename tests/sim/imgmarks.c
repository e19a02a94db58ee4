/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgmarks.c - the image can be attached from each of its two newest marks, at any moment (PROTOCOL.md 4).
 *
 * Nobody moves while two readers, straight at the store, read all of it: one from the newest mark, one that does not
 * see that. Both must find the same, and nothing missing.
 */
#include "config.h"
#include "imgguest.h"
#include <stdio.h>
#include <string.h>

#define MARKS GUEST_PREFIX "mark/"

static struct objstore *under;
static char hidden[OBJ_KEY_MAX + 1]; /* "" none */

static void submit(struct objstore *s, struct objreq *req)
{
	(void)s;
	if (req->op == OBJ_LIST && hidden[0] != '\0' && strcmp(req->key, MARKS) == 0 && req->start_after == NULL)
		req->start_after = hidden;
	obj_submit(under, req);
}

static void closed(struct objstore *s)
{
	(void)s;
}

/* The newest mark; false: there are fewer than two. */
static bool newest_mark(char out[OBJ_KEY_MAX + 1])
{
	struct objreq req;
	bool two;

	objreq_init(&req, OBJ_LIST, MARKS);
	req.max_keys = 2;
	sim_check(obj_do(under, &req) == 0, "no listing of marks");
	two = req.listing->n == 2;
	if (two)
		(void)snprintf(out, OBJ_KEY_MAX + 1, "%s", req.listing->v[0].key);
	objreq_done(&req);
	return two;
}

static size_t read_from(struct objstore *s, const char *which, uint8_t *buf, size_t cap)
{
	struct vol_env env = {.store = s, .host = "nobody", .read_only = true};
	struct objerr err = {0};
	struct vol_stat st;
	struct volume *v;
	ssize_t n;
	int r = vol_open(&env, GUEST_PREFIX, (const uint8_t *)"0123456789abcdef", &v, &err);

	sim_check(r == 0, "the image cannot be attached from its %s mark: %d, %s", which, r, err.msg);
	n = vol_read(v, false, 0, buf, cap);
	vol_stat(v, &st);
	sim_check(n >= 0, "the image attached from its %s mark cannot be read: %zd, %s", which, n, st.why);
	ignore(vol_close(v));
	return (size_t)n;
}

void oracle_marks(struct objstore *shared)
{
	static const struct objstore_ops ops = {.name = "marks", .submit = submit, .close = closed};
	struct objstore s = {.ops = &ops};
	enum { ALL = SECTORS_MAX * SECTOR };
	static uint8_t from[2][ALL];
	char newest[OBJ_KEY_MAX + 1];
	size_t n[2];

	under = shared;
	s.caps = obj_caps(shared);
	s.caps_known = true;
	s.stats = shared->stats;
	s.put_max = shared->put_max;
	sim_atomic_begin();
	if (newest_mark(newest)) {
		hidden[0] = '\0';
		n[0] = read_from(&s, "newest", from[0], ALL);
		memcpy(hidden, newest, sizeof(hidden));
		n[1] = read_from(&s, "second newest", from[1], ALL);
		hidden[0] = '\0';
		sim_check(n[0] == n[1] && memcmp(from[0], from[1], n[0]) == 0,
			  "the image is another one from its second newest mark");
	}
	sim_atomic_end();
}
