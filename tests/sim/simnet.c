/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * simnet.c - the network between a node and the store (simnet.h).
 *
 * A request becomes a message of its own, copied: what was sent may take effect when its sender is dead, or has heard
 * something else. The effect and the answer are two events. Effects belong to node 0, the world; answers to the node.
 */
#include "config.h"
#include "simnet.h"
#include "objstore/base/clock.h"
#include <stdio.h>
#include <string.h>

struct simnet_faults simnet;
enum simnet_state simnet_state;
void (*simnet_sends)(int node, const struct objreq *req);
int64_t (*simnet_slow)(const struct objreq *req);
int64_t (*simnet_repeats)(const struct objreq *req);
void (*simnet_spy)(int node, const struct objreq *req, int status, bool late);

struct simnet_store {
	struct objstore store;
	struct objstore *shared;
	int node;
};

/* A request that is under way; freed when both the last effect and the answer are over. */
struct message {
	struct simnet_store *net;
	struct objreq req; /* our copy; its pointers are ours */
	char *key, *start_after, *token, **keys;
	struct iovec iov;
	unsigned effects;     /* still to come */
	unsigned epoch;       /* of simnet_settle() */
	struct objreq *asker; /* NULL once answered */
	unsigned incarnation; /* of the node when it asked */
	bool put_off;
	bool answer, broken; /* the first effect answers; with a 500 */
};

static uint64_t counts[OBJ_NOPS];
static unsigned settled;

uint64_t simnet_count(enum obj_op op)
{
	return counts[op];
}
void simnet_reset(void)
{
	memset(counts, 0, sizeof(counts));
}
void simnet_settle(void)
{
	settled++;
}

static void message_put(struct message *m)
{
	if (m->effects > 0 || m->asker != NULL)
		return;
	for (size_t i = 0; i < m->req.nkeys; i++)
		free(m->keys[i]);
	free(m->keys);
	free(m->key);
	free(m->start_after);
	free(m->token);
	free(m->iov.iov_base);
	free(m);
}

static bool asker_lives(const struct message *m)
{
	return m->asker != NULL && sim_incarnation(m->net->node) == m->incarnation;
}

struct finish {
	struct objreq *req;
	int status;
};

/* The store's own thread at the node: it may be interrupted, and waits for locks. */
static void finish(void *arg)
{
	struct finish f = *(struct finish *)arg;

	free(arg);
	objreq_finish(f.req, f.status);
}

static void answer(struct message *m, int status)
{
	struct finish *f = malloc(sizeof(*f));

	if (f == NULL)
		abort();
	*f = (struct finish){m->asker, status};
	m->asker = NULL;
	if (f->req != NULL && sim_incarnation(m->net->node) == m->incarnation)
		sim_spawn(m->net->node, "net", finish, f);
	else
		free(f);
}

/* A time-out at the node: it does not know. */
static void timed_out(void *arg)
{
	struct message *m = arg;

	if (m->asker != NULL) {
		m->asker->maybe_done = obj_op_writes(m->asker->op);
		answer(m, -ETIMEDOUT);
	}
	message_put(m);
}

/* 403: it was not carried out. */
static void denied(void *arg)
{
	struct message *m = arg;

	if (m->asker != NULL)
		answer(m, -EACCES);
	message_put(m);
}

struct reply {
	struct message *m;
	int status;
	struct objreq got; /* the answered block */
	void *body;
};

static void reply_arrives(void *arg)
{
	struct reply *r = arg;
	struct objreq *a = r->m->asker;

	if (a != NULL && asker_lives(r->m)) {
		a->not_modified = r->got.not_modified;
		a->truncated = r->got.truncated;
		a->got = r->got.got;
		a->size = r->got.size;
		a->mtime_s = r->got.mtime_s;
		memcpy(a->etag, r->got.etag, sizeof(a->etag));
		a->ret_headers = r->got.ret_headers;
		a->listing = r->got.listing;
		a->err = r->got.err;
		if (r->body != NULL && r->got.got > 0)
			memcpy(a->buf, r->body, r->got.got);
		memset(&r->got.ret_headers, 0, sizeof(r->got.ret_headers));
		r->got.listing = NULL;
		answer(r->m, r->status);
	}
	objreq_done(&r->got);
	free(r->body);
	message_put(r->m);
	free(r);
}

static void drop_asker(struct message *m)
{
	if (m->asker != NULL && sim_incarnation(m->net->node) != m->incarnation)
		m->asker = NULL;
}

/* The store carries it out. */
static void effect(void *arg)
{
	struct message *m = arg;
	struct reply *r;

	if (!m->put_off && sim_incarnation(m->net->node) != m->incarnation && sim_chance(simnet.limbo, 1000)) {
		m->put_off = true;
		sim_after(0, (int64_t)sim_below((uint64_t)simnet.limbo_ns), effect, m);
		return;
	}
	m->effects--;
	drop_asker(m);
	if (m->epoch != settled) {
		message_put(m);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		abort();
	r->m = m;
	r->got = m->req;
	if (m->req.op == OBJ_GET && m->req.cap > 0) {
		r->body = malloc(m->req.cap);
		if (r->body == NULL)
			abort();
		r->got.buf = r->body;
	}
	sim_atomic_begin();
	obj_submit(m->net->shared, &r->got); /* mem.c answers inside submit */
	sim_atomic_end();
	if (simnet_spy != NULL)
		simnet_spy(m->net->node, &r->got, r->got.status, m->asker == NULL);
	r->status = m->broken ? -EAGAIN : r->got.status;
	if (m->answer && m->asker != NULL) {
		m->answer = false;
		/* A crash of the node drops the event: then nobody waits. */
		sim_after(m->net->node, 1 + (int64_t)sim_below((uint64_t)simnet.latency_ns), reply_arrives, r);
		return;
	}
	objreq_done(&r->got);
	free(r->body);
	free(r);
	message_put(m);
}

static void done_inline(struct objreq *req)
{
	(void)req;
}

static char *dup(const char *s)
{
	char *d = s == NULL ? NULL : strdup(s);

	if (s != NULL && d == NULL)
		abort();
	return d;
}

static struct message *message_new(struct simnet_store *net, struct objreq *req)
{
	struct message *m = calloc(1, sizeof(*m));
	size_t n = 0;

	if (m == NULL)
		abort();
	m->net = net;
	m->req = *req;
	m->req.done = done_inline;
	m->asker = req;
	m->incarnation = sim_incarnation(net->node);
	m->epoch = settled;
	m->req.key = m->key = dup(req->key);
	m->req.start_after = m->start_after = dup(req->start_after);
	m->req.token = m->token = dup(req->token);
	for (int i = 0; i < req->iovcnt; i++)
		n += req->iov[i].iov_len;
	if (req->iovcnt > 0) {
		m->iov = (struct iovec){malloc(n + 1), n};
		if (m->iov.iov_base == NULL)
			abort();
		for (int i = 0, o = 0; i < req->iovcnt; o += (int)req->iov[i++].iov_len)
			memcpy((char *)m->iov.iov_base + o, req->iov[i].iov_base, req->iov[i].iov_len);
		m->req.iov = &m->iov;
		m->req.iovcnt = 1;
	}
	if (req->nkeys > 0) {
		m->keys = calloc(req->nkeys, sizeof(*m->keys));
		if (m->keys == NULL)
			abort();
		for (size_t i = 0; i < req->nkeys; i++)
			m->keys[i] = dup(req->keys[i]);
		m->req.keys = (const char *const *)m->keys;
	}
	return m;
}

static void schedule(struct message *m, bool writes)
{
	int64_t lat = 1 + (int64_t)sim_below((uint64_t)simnet.latency_ns);
	uint64_t dice = sim_below(1000), edge = 0;
	int64_t later;

	m->answer = true;
	m->effects = 1;
	if (simnet_state == SIMNET_DOWN || (simnet_state == SIMNET_DENIED && writes)) {
		m->effects = 0;
		sim_after(m->net->node, simnet_state == SIMNET_DOWN ? simnet.timeout_ns : lat,
			  simnet_state == SIMNET_DOWN ? timed_out : denied, m);
		return;
	}
	if (!writes) {
		if (dice < simnet.read_fails) {
			m->effects = 0;
			sim_after(m->net->node, simnet.timeout_ns, timed_out, m);
			return;
		}
	} else if (dice < (edge += simnet.lost)) {
		m->effects = 0;
		sim_after(m->net->node, simnet.timeout_ns, timed_out, m);
		return;
	} else if (dice < (edge += simnet.busy)) {
		m->effects = 0;
		sim_after(m->net->node, lat, timed_out, m);
		return;
	} else if (dice < (edge += simnet.lost_reply)) {
		m->answer = false;
		sim_after(m->net->node, simnet.timeout_ns, timed_out, m);
	} else if (dice < (edge += simnet.late)) {
		m->answer = false;
		sim_after(m->net->node, simnet.timeout_ns, timed_out, m);
		lat = (int64_t)sim_below((uint64_t)simnet.late_ns);
	} else if (dice < (edge += simnet.broken)) {
		m->broken = true;
	}
	if (simnet_slow != NULL)
		lat += simnet_slow(&m->req);
	sim_after(0, lat, effect, m);
	later = simnet_repeats != NULL ? simnet_repeats(&m->req) : 0;
	if (later > 0) {
		m->effects++;
		sim_after(0, later, effect, m);
	}
	if (writes && sim_chance(simnet.twice, 1000)) {
		m->effects++;
		sim_after(0, (int64_t)sim_below((uint64_t)simnet.late_ns), effect, m);
	}
}

static void net_submit(struct objstore *s, struct objreq *req)
{
	struct simnet_store *net = (struct simnet_store *)s;
	bool writes = obj_op_writes(req->op);
	unsigned crashes = sim_incarnation(net->node);

	counts[req->op]++;
	if (simnet_sends != NULL)
		simnet_sends(net->node, req);
	sim_step(obj_op_name[req->op]);
	if (sim_incarnation(net->node) != crashes)
		return; /* it died in an event, which goes on to its end: the dead send nothing */
	schedule(message_new(net, req), writes);
	sim_step("sent");
}

static void net_close(struct objstore *s)
{
	free(s);
}

int simnet_store_new(struct objstore *shared, int node, struct objstore **ret)
{
	static const struct objstore_ops ops = {.name = "simnet", .submit = net_submit, .close = net_close};
	struct simnet_store *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->store.ops = &ops;
	s->store.caps = obj_caps(shared);
	s->store.caps_known = true;
	s->store.stats = shared->stats;
	s->store.part_min = shared->part_min;
	s->store.part_max_count = shared->part_max_count;
	s->store.put_max = shared->put_max;
	s->shared = shared;
	s->node = node;
	*ret = &s->store;
	return 0;
}
