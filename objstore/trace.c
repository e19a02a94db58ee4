/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * trace.c - the top of every stack: counts what the product asked for, and at log level debug says one line for each
 * request: operation, key, outcome, time.
 *
 * The bottom store counts the wire in `stats`; the difference of the two is what retries cost. A line names keys and
 * codes only, never a header's value.
 *
 * Here are also the fail points of the store's steps: store.before-PUT is passed before a request goes down, and
 * store.after-PUT when its answer is there and nobody above has seen it.
 */
#include "config.h"
#include "objstore.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "store-private.h"
#include <inttypes.h>
#include <stdio.h>

struct trace_store {
	struct objstore s;
	struct obj_stats asked;
};

/* Who is to be told, while the request is below us. */
struct trace_req {
	struct trace_store *t;
	int64_t start_ns;
	void (*done)(struct objreq *req);
	void *priv;
};

static void say(const struct trace_req *tr, const struct objreq *req)
{
	int64_t us = (clock_now_ns() - tr->start_ns) / 1000;
	const char *cond = req->if_match != NULL	? " if-match"
			   : req->if_none_match_any	? " if-absent"
			   : req->if_none_match != NULL ? " if-none-match"
							: "";

	log_debug("%s %s%s%s%s: %s%d%s%s in=%zu out=%" PRIu64 " n=%zu %" PRId64 ".%03d ms%s%s", obj_op_name[req->op],
		  req->key != NULL ? req->key : "", cond, req->src_key != NULL ? " from " : "",
		  req->src_key != NULL ? req->src_key : "", req->not_modified ? "not modified " : "", req->status,
		  req->err.code[0] != '\0' ? " " : "", req->err.code, req->got, store_body_bytes(req),
		  req->listing != NULL ? req->listing->n : (size_t)0, us / 1000, (int)(us % 1000),
		  req->err.request_id[0] != '\0' ? " id " : "", req->err.request_id);
}

static void step(const char *when, const struct objreq *req)
{
#ifdef LSVD_DEBUG
	char name[40];

	(void)snprintf(name, sizeof(name), "store.%s-%s", when, obj_op_name[req->op]);
	FAILPOINT(name);
#else
	(void)when;
	(void)req;
#endif
}

static void trace_done(struct objreq *req)
{
	struct trace_req *tr = req->priv;

	step("after", req);
	req->done = tr->done;
	req->priv = tr->priv;
	store_stats_count(&tr->t->asked, req, req->status);
	if (log_get_level() >= LOG_L_DEBUG)
		say(tr, req);
	free(tr);
	req->done(req);
}

static void trace_submit(struct objstore *s, struct objreq *req)
{
	struct trace_req *tr = malloc(sizeof(*tr));

	if (tr == NULL) {
		objreq_finish(req, -ENOMEM);
		return;
	}
	*tr = (struct trace_req){
		.t = container_of(s, struct trace_store, s),
		.start_ns = clock_now_ns(),
		.done = req->done,
		.priv = req->priv,
	};
	req->done = trace_done;
	req->priv = tr;
	step("before", req);
	obj_submit(s->inner, req);
}

static void trace_close(struct objstore *s)
{
	obj_close(s->inner);
	free(container_of(s, struct trace_store, s));
}

static const struct objstore_ops trace_ops = {.name = "trace", .submit = trace_submit, .close = trace_close};

int store_trace_new(struct objstore *take_inner, struct objstore **ret)
{
	struct trace_store *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	store_wrap(&t->s, &trace_ops, take_inner);
	t->s.asked = &t->asked;
	*ret = &t->s;
	return 0;
}
