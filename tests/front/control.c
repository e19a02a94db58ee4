/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * control.c - the command line of the control port, the counters, the log, the shared bandwidth.
 *
 * One command a line, one line of answer: "ok ...", "err ...", or JSON for stat. Commands:
 *
 *	ping				stat | reset (counters; reset answers the old ones)
 *	latency MS [JITTER_MS]		bw BYTES_PER_S [DOWN_BYTES_PER_S]	(0 = none; one limit for all connections)
 *	rule NAME act=... (rules.c)	del NAME	clear (all rules, latency, bandwidth)
 *	hits NAME			release NAME	wait NAME [N] [MS] (until N requests are held by rule NAME)
 *	refuse 0|1			1: connections are cut and refused, as by a dead server
 *	aws 0|1  kms 0|1  equal_parts 0|1	quit
 */
#include "front.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct conf conf = { .region = "us-east-1" };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t counts[OP_N], statuses[6], not_modified, bytes_in, bytes_out, total;
static int log_fd = -1;

static pthread_mutex_t bw_lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t bw_next[2];

void count_request(struct xfer *x)
{
	static uint64_t seq;

	pthread_mutex_lock(&lock);
	x->seq = ++seq;
	counts[x->op]++;
	total++;
	pthread_mutex_unlock(&lock);
}

void count_done(struct xfer *x)
{
	struct buf b = { 0 };

	pthread_mutex_lock(&lock);
	statuses[x->status / 100 < 6 ? x->status / 100 : 5]++;
	not_modified += x->status == 304;
	bytes_in += x->in;
	bytes_out += x->sent;
	pthread_mutex_unlock(&lock);
	if (log_fd < 0)
		return;
	buf_addf(&b, "%llu %.3f %s %s %d %llu %llu %s ", (unsigned long long)x->seq, (double)now_ns() / 1e9,
		 op_name[x->op], x->req.line[0], x->status, (unsigned long long)x->in, (unsigned long long)x->sent,
		 x->ruled ? x->ruled : "-");
	url_encode(&b, x->key, true);
	if (x->op == OP_LIST) {
		buf_adds(&b, "?prefix=");
		url_encode(&b, xfer_query(x, "prefix") ? xfer_query(x, "prefix") : "", true);
	}
	buf_adds(&b, "\n");
	if (write(log_fd, b.p, b.len) < 0)
		perror("front: log");
	buf_free(&b);
}

int log_open(const char *path)
{
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return log_fd < 0 ? -errno : 0;
}

void pace(bool out, size_t n)
{
	long bps = out ? conf.bw_out : conf.bw_in;
	int64_t t;

	if (!bps)
		return;
	pthread_mutex_lock(&bw_lock);
	t = now_ns();
	if (bw_next[out] < t - 5000000)
		bw_next[out] = t - 5000000; /* nobody saves up more than 5 ms */
	bw_next[out] += (int64_t)((double)n * 1e9 / (double)bps);
	t = bw_next[out];
	pthread_mutex_unlock(&bw_lock);
	sleep_until(t);
}

static void stat_json(struct buf *b, bool reset)
{
	pthread_mutex_lock(&lock);
	buf_addf(b, "{\"total\":%llu", (unsigned long long)total);
	for (int i = 0; i < OP_N; i++)
		buf_addf(b, ",\"%s\":%llu", op_name[i], (unsigned long long)counts[i]);
	buf_addf(b, ",\"cut\":%llu", (unsigned long long)statuses[0]);
	for (int i = 2; i < 6; i++)
		buf_addf(b, ",\"%dxx\":%llu", i, (unsigned long long)statuses[i]);
	buf_addf(b, ",\"304\":%llu,\"bytes_in\":%llu,\"bytes_out\":%llu,\"clients\":%u}", (unsigned long long)not_modified,
		 (unsigned long long)bytes_in, (unsigned long long)bytes_out, server_clients());
	if (reset) {
		memset(counts, 0, sizeof(counts));
		memset(statuses, 0, sizeof(statuses));
		not_modified = bytes_in = bytes_out = total = 0;
	}
	pthread_mutex_unlock(&lock);
}

static void result(struct buf *b, int rc)
{
	if (rc < 0)
		buf_addf(b, "err %s", strerrordesc_np(-rc));
	else
		buf_adds(b, "ok");
}

static void cmd_rules(const char *cmd, char *arg, struct buf *b)
{
	char name[64] = "";
	unsigned n = 1;
	int ms = 10000;
	uint64_t hits = 0;

	if (!strcmp(cmd, "rule")) {
		struct buf err = { 0 };

		if (rule_add(arg, &err) < 0)
			buf_addf(b, "err %s", err.p);
		else
			buf_adds(b, "ok");
		buf_free(&err);
		return;
	}
	if (!strcmp(cmd, "clear")) {
		rules_clear();
		conf.latency_ms = conf.jitter_ms = 0;
		conf.bw_in = conf.bw_out = 0;
		buf_adds(b, "ok");
		return;
	}
	sscanf(arg, "%63s %u %d", name, &n, &ms);
	if (!strcmp(cmd, "del")) {
		result(b, rule_del(name));
	} else if (!strcmp(cmd, "release")) {
		result(b, rule_release(name));
	} else if (!strcmp(cmd, "wait")) {
		result(b, rule_wait(name, n, ms));
	} else if (!strcmp(cmd, "hits")) {
		int rc = rule_hits(name, &hits);

		if (rc < 0)
			result(b, rc);
		else
			buf_addf(b, "%llu", (unsigned long long)hits);
	} else {
		buf_adds(b, "err no such command");
	}
}

static void command(char *line, struct buf *b)
{
	char *arg = line + strcspn(line, " ");
	long v[2] = { 0, -1 };

	if (*arg)
		*arg++ = 0;
	sscanf(arg, "%ld %ld", &v[0], &v[1]);
	if (!strcmp(line, "stat") || !strcmp(line, "reset")) {
		stat_json(b, !strcmp(line, "reset"));
		return;
	}
	if (!strcmp(line, "latency")) {
		conf.latency_ms = (int)v[0];
		conf.jitter_ms = v[1] > 0 ? (int)v[1] : 0;
	} else if (!strcmp(line, "bw")) {
		conf.bw_in = v[0];
		conf.bw_out = v[1] >= 0 ? v[1] : v[0];
	} else if (!strcmp(line, "aws")) {
		if (v[0] && !sign_have_keys()) {
			buf_adds(b, "err the front was started without keys");
			return;
		}
		conf.aws = v[0];
	} else if (!strcmp(line, "kms")) {
		conf.kms = v[0];
	} else if (!strcmp(line, "equal_parts")) {
		conf.equal_parts = v[0];
	} else if (!strcmp(line, "refuse")) {
		server_refuse(v[0]);
	} else if (!strcmp(line, "quit")) {
		_exit(0);
	} else if (strcmp(line, "ping") != 0) {
		cmd_rules(line, arg, b);
		return;
	}
	buf_adds(b, "ok");
}

static void *session(void *arg)
{
	int fd = (int)(intptr_t)arg;
	FILE *f = fdopen(fd, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (!f)
		return NULL;
	while ((n = getline(&line, &cap, f)) > 0) {
		struct buf b = { 0 };

		while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			line[--n] = 0;
		command(line, &b);
		buf_adds(&b, "\n");
		n = send(fd, b.p, b.len, MSG_NOSIGNAL);
		buf_free(&b);
		if (n < 0)
			break;
	}
	free(line);
	fclose(f);
	return NULL;
}

/* arg: the listening socket */
void *control_thread(void *arg)
{
	int l = (int)(intptr_t)arg;

	for (;;) {
		pthread_t t;
		int fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		if (pthread_create(&t, NULL, session, (void *)(intptr_t)fd))
			close(fd);
		else
			pthread_detach(t);
	}
	return NULL;
}
