/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * rules.c - what goes wrong, where, and how often.
 *
 * A rule says which requests it means (op, method, key, query), which of those it takes (skip the first so many, every
 * N-th, with a probability, at most so many), and what happens to them. Rules are tried in the order in which they were
 * given; delays and "pass" add up, the first other action that fires ends the search. All dice come from rnd(), so one
 * seed and one order of requests give one history.
 *
 *	before the effect		after the effect
 *	status (any error reply)	status-after (done, but the reply is an error)
 *	reset (connection cut)		lost (done, connection cut without a reply)
 *	body-error (200 and <Error>)	body-error-after (done, 200 and <Error>)
 *	stall (no answer)		stall-body (half of the body, then nothing), cut (half, then closed)
 *	hold (until "release")		hold-after; flip (one byte of the body), etag (a wrong one)
 *					twice (done and answered, and sent again at "release"; not in AWS mode)
 */
#include "front.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

struct rule {
	struct rule *next;
	uint64_t id, seen, hits;
	char name[32];
	uint32_t ops; /* bit per op; 0 = all */
	char *method, *key, *exact, *suffix, *query;
	double p;
	uint64_t every, skip, count; /* count 0 = no end */
	unsigned held, released;     /* hold: how many wait; how many may go (UINT_MAX: all) */
	struct plan plan;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct rule *rules;
static uint64_t last_id;

static const char *const act_name[ACT_N] = {
	[ACT_NONE] = "none", [ACT_PASS] = "pass", [ACT_DELAY] = "delay", [ACT_DELAY_AFTER] = "delay-after",
	[ACT_STATUS] = "status", [ACT_STATUS_AFTER] = "status-after", [ACT_RESET] = "reset", [ACT_LOST] = "lost",
	[ACT_STALL] = "stall", [ACT_STALL_BODY] = "stall-body", [ACT_CUT] = "cut", [ACT_FLIP] = "flip",
	[ACT_ETAG] = "etag", [ACT_BODY_ERROR] = "body-error", [ACT_BODY_ERROR_AFTER] = "body-error-after",
	[ACT_HOLD] = "hold", [ACT_HOLD_AFTER] = "hold-after", [ACT_TWICE] = "twice",
};

static void rule_free(struct rule *r)
{
	free(r->method);
	free(r->key);
	free(r->exact);
	free(r->suffix);
	free(r->query);
	free(r);
}

static struct rule **find(const char *name)
{
	struct rule **p;

	for (p = &rules; *p && strcmp((*p)->name, name); p = &(*p)->next)
		;
	return p;
}

static int set_ops(struct rule *r, const char *v)
{
	while (*v) {
		size_t n = strcspn(v, ","), i;

		for (i = 0; i < OP_N; i++)
			if (strlen(op_name[i]) == n && !strncasecmp(v, op_name[i], n))
				break;
		if (i == OP_N)
			return -EINVAL;
		r->ops |= 1u << i;
		v += n + (v[n] == ',');
	}
	return 0;
}

static int set_act(struct rule *r, const char *v)
{
	for (int i = 1; i < ACT_N; i++) {
		if (!strcmp(v, act_name[i])) {
			r->plan.act = (enum act)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_word(struct rule *r, const char *k, const char *v)
{
	if (!strcmp(k, "op"))
		return set_ops(r, v);
	if (!strcmp(k, "act"))
		return set_act(r, v);
	if (!strcmp(k, "method"))
		r->method = xstrdup(v);
	else if (!strcmp(k, "key"))
		r->key = xstrdup(v);
	else if (!strcmp(k, "exact"))
		r->exact = xstrdup(v);
	else if (!strcmp(k, "suffix"))
		r->suffix = xstrdup(v);
	else if (!strcmp(k, "query"))
		r->query = xstrdup(v);
	else if (!strcmp(k, "p"))
		r->p = strtod(v, NULL);
	else if (!strcmp(k, "every"))
		r->every = strtoull(v, NULL, 10);
	else if (!strcmp(k, "skip"))
		r->skip = strtoull(v, NULL, 10);
	else if (!strcmp(k, "count"))
		r->count = strtoull(v, NULL, 10);
	else if (!strcmp(k, "status"))
		r->plan.status = atoi(v);
	else if (!strcmp(k, "code"))
		snprintf(r->plan.code, sizeof(r->plan.code), "%s", v);
	else if (!strcmp(k, "ms"))
		r->plan.ms = atoi(v);
	else if (!strcmp(k, "at"))
		r->plan.at = strtoll(v, NULL, 10);
	else
		return -EINVAL;
	return 0;
}

/* "NAME act=ACT [op=A,B] [key=PART] ..."; values may be percent-coded. Replaces a rule of that name. */
int rule_add(char *text, struct buf *err)
{
	struct rule *r = xmalloc(sizeof(*r)), **p;
	char *save = NULL, *w = strtok_r(text, " ", &save);
	int rc = w && strlen(w) < sizeof(r->name) && !strchr(w, '=') ? 0 : -EINVAL;

	memset(r, 0, sizeof(*r));
	r->p = 1;
	r->plan.at = -1;
	r->plan.status = 503;
	if (rc == 0)
		snprintf(r->name, sizeof(r->name), "%s", w);
	while (rc == 0 && (w = strtok_r(NULL, " ", &save))) {
		char *eq = strchr(w, '='), *v;

		if (!eq) {
			rc = -EINVAL;
			break;
		}
		*eq = 0;
		v = url_decode(eq + 1, strlen(eq + 1), false);
		rc = set_word(r, w, v);
		free(v);
	}
	if (rc == 0 && r->plan.act == ACT_NONE)
		rc = -EINVAL;
	if (rc < 0) {
		buf_addf(err, "bad word in rule: %s", w ? w : "(act= or name is missing)");
		rule_free(r);
		return rc;
	}
	if (!r->plan.code[0])
		snprintf(r->plan.code, sizeof(r->plan.code), "%s",
			 r->plan.act == ACT_BODY_ERROR || r->plan.act == ACT_BODY_ERROR_AFTER ? "InternalError"
			 : r->plan.status == 503 ? "SlowDown"
			 : r->plan.status == 409 ? "ConditionalRequestConflict"
			 : r->plan.status == 403 ? "AccessDenied"
						 : "InternalError");
	rule_del(r->name);
	pthread_mutex_lock(&lock);
	r->id = ++last_id;
	r->plan.rule_id = r->id;
	snprintf(r->plan.rule, sizeof(r->plan.rule), "%s", r->name);
	for (p = &rules; *p; p = &(*p)->next)
		;
	*p = r;
	pthread_mutex_unlock(&lock);
	return 0;
}

int rule_del(const char *name)
{
	struct rule **p, *r;

	pthread_mutex_lock(&lock);
	p = find(name);
	r = *p;
	if (r)
		*p = r->next;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	if (!r)
		return -ENOENT;
	rule_free(r);
	return 0;
}

void rules_clear(void)
{
	pthread_mutex_lock(&lock);
	while (rules) {
		struct rule *r = rules;

		rules = r->next;
		rule_free(r);
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

int rule_hits(const char *name, uint64_t *ret)
{
	struct rule *r;

	pthread_mutex_lock(&lock);
	r = *find(name);
	if (r)
		*ret = r->hits;
	pthread_mutex_unlock(&lock);
	return r ? 0 : -ENOENT;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

static bool means(const struct rule *r, const struct xfer *x)
{
	const char *q = strchr(x->req.line[1], '?');

	return (!r->ops || r->ops >> x->op & 1) && (!r->method || !strcmp(r->method, x->req.line[0])) &&
	       (!r->key || strstr(x->key, r->key)) && (!r->exact || !strcmp(x->key, r->exact)) &&
	       (!r->suffix || ends_with(x->key, r->suffix)) && (!r->query || (q && strstr(q, r->query)));
}

void rules_match(const struct xfer *x, struct plan *p)
{
	memset(p, 0, sizeof(*p));
	pthread_mutex_lock(&lock);
	for (struct rule *r = rules; r; r = r->next) {
		if (!means(r, x))
			continue;
		r->seen++;
		if (r->seen <= r->skip || (r->count && r->hits >= r->count) ||
		    (r->every && (r->seen - r->skip) % r->every) || (r->p < 1 && rnd_unit() >= r->p))
			continue;
		r->hits++;
		if (r->plan.act == ACT_PASS)
			continue;
		if (r->plan.act == ACT_DELAY) {
			p->delay_ms += r->plan.ms;
			continue;
		}
		if (r->plan.act == ACT_DELAY_AFTER) {
			p->delay_after_ms += r->plan.ms;
			continue;
		}
		{
			int before = p->delay_ms, after = p->delay_after_ms;

			*p = r->plan;
			p->delay_ms = before;
			p->delay_after_ms = after;
		}
		break;
	}
	pthread_mutex_unlock(&lock);
}

static struct rule *by_id(uint64_t id)
{
	struct rule *r;

	for (r = rules; r && r->id != id; r = r->next)
		;
	return r;
}

static bool gone(int fd)
{
	struct pollfd p = { fd, POLLRDHUP, 0 };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void wait_changed(int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += ms * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&changed, &lock, &t);
}

/* Waits here. True: go on; false: the client has left. */
bool rule_hold(const struct plan *p, int fd, int ms)
{
	int64_t end = ms ? now_ns() + ms * (int64_t)1000000 : INT64_MAX;
	struct rule *r;
	bool left = false;

	pthread_mutex_lock(&lock);
	r = by_id(p->rule_id);
	if (r) {
		r->held++;
		pthread_cond_broadcast(&changed);
	}
	while ((r = by_id(p->rule_id)) && now_ns() < end && !(left = gone(fd))) {
		if (r->released) {
			r->released -= r->released != UINT32_MAX;
			break;
		}
		wait_changed(50);
	}
	if (r)
		r->held--;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return !left;
}

int rule_release(const char *name)
{
	struct rule *r;

	pthread_mutex_lock(&lock);
	r = *find(name);
	if (r)
		r->released++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return r ? 0 : -ENOENT;
}

int rule_wait(const char *name, unsigned n, int ms)
{
	int64_t end = now_ns() + ms * (int64_t)1000000;
	struct rule *r;
	int rc = -ETIMEDOUT;

	pthread_mutex_lock(&lock);
	while (rc && (r = *find(name)) && now_ns() < end) {
		if (r->held >= n)
			rc = 0;
		else
			wait_changed(50);
	}
	if (rc && !*find(name))
		rc = -ENOENT;
	pthread_mutex_unlock(&lock);
	return rc;
}
