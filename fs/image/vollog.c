/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vollog.c - the log of an image from its newest checkpoint on, for people: the positions that one can go back to
 * (volsnap.c). The log is walked as for an attach, with nothing behind the walk but a list.
 */
#include "config.h"
#include "volume-private.h"
#include <stdio.h>
#include <string.h>

struct list {
	struct vol_position *v;
	size_t n, cap;
};

static int add(struct list *l, const struct logobj *o)
{
	struct vol_position p = {.number = o->number,
				 .bytes = o->content_sectors * (uint64_t)SECTOR,
				 .size = o->size,
				 .time = o->time_s,
				 .type = log_type_name[o->type]};

	if (l->n == l->cap) {
		size_t cap = l->cap * 2 + 64;
		struct vol_position *v = reallocarray(l->v, cap, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	if (o->snap_name != NULL)
		(void)snprintf(p.name, sizeof(p.name), "%s", o->snap_name);
	l->v[l->n++] = p;
	return 0;
}

static int on_begin(void *arg, const struct logobj *o, const struct log_checkpoint *c)
{
	struct list *l = arg;

	(void)o;
	if (c == NULL) /* of the whole log */
		l->n = 0;
	return 0;
}

static int on_digest(void *arg, const struct logobj *o)
{
	(void)arg, (void)o;
	return 0;
}

static int on_object(void *arg, const struct logobj *o)
{
	struct list *l = arg;

	if (l->n > 0 && l->v[l->n - 1].number >= o->number) /* the walk was begun again */
		l->n = 0;
	return add(l, o);
}

int vol_positions(struct volume *v, struct vol_position **ret, size_t *ret_n, struct objerr *err)
{
	struct log_at at = {.store = v->env.store, .prefix = v->prefix, .host = v->env.host};
	struct list l = {0};
	struct log_walker w = {on_begin, on_digest, on_object, &l};
	struct log_view view;
	struct log *log;
	size_t skip = 0;
	int r;

	memcpy(at.uuid, v->uuid, 16);
	r = log_open(&at, &log);
	if (r < 0)
		return r;
	r = log_attach(log, &w, true, err);
	log_view(log, &view);
	log_close(log);
	if (r < 0) {
		free(l.v);
		return r;
	}
	while (skip < l.n && l.v[skip].number < view.mark)
		skip++;
	if (skip > 0)
		memmove(l.v, l.v + skip, (l.n - skip) * sizeof(*l.v));
	*ret = l.v;
	*ret_n = l.n - skip;
	return 0;
}
