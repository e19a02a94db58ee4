/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vollog.c - the log of an image from its newest checkpoint on, or from the oldest that is kept, for people: the positions
 * that one can go back to (volsnap.c). The log is walked as for an attach, with nothing behind the walk but a list.
 */
#include "config.h"
#include "volume-private.h"
#include <stdio.h>
#include <string.h>

struct list {
	struct vol_position *v;
	size_t n, cap;
	uint64_t floor; /* as the last checkpoint says */
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

	l->floor = o->floor != 0 ? o->floor : o->number;
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
	if (o->checkpoint != NULL)
		l->floor = o->floor != 0 ? o->floor : o->number;
	return add(l, o);
}

/* base: a checkpoint, 0 the create record; NULL: as an attach does. */
static int walk(struct volume *v, struct list *l, const uint64_t *base, struct log_view *ret, struct objerr *err)
{
	struct log_at at = {.store = v->env.store, .prefix = v->prefix, .host = v->env.host};
	struct log_walker w = {on_begin, base != NULL ? NULL : on_digest, on_object, l};
	struct log *log;
	int r;

	memcpy(at.uuid, v->uuid, 16);
	r = log_open(&at, &log);
	if (r < 0)
		return r;
	if (base != NULL)
		log_set_base(log, *base == log_first(v->log) ? 0 : *base);
	r = log_attach(log, &w, true, err);
	log_view(log, ret);
	log_close(log);
	return r;
}

int vol_positions(struct volume *v, bool all, struct vol_position **ret, size_t *ret_n, struct objerr *err)
{
	struct list l = {0};
	struct log_view view;
	uint64_t first;
	size_t skip = 0;
	int r = walk(v, &l, NULL, &view, err);

	first = all ? l.floor : view.mark;
	if (r == 0 && first < view.mark) {
		l.n = 0;
		r = walk(v, &l, &first, &view, err);
	}
	if (r < 0) {
		free(l.v);
		return r;
	}
	while (skip < l.n && l.v[skip].number < first)
		skip++;
	if (skip > 0)
		memmove(l.v, l.v + skip, (l.n - skip) * sizeof(*l.v));
	*ret = l.v;
	*ret_n = l.n - skip;
	return 0;
}
