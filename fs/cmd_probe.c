/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_probe.c - what a source allows, how fast it is, what it can do: before anybody mounts it.
 *
 * All keys lie below PREFIX.lsvd/probe/ and go away again, whatever fails; no object of the user is ever touched. With
 * -o ro only LIST and a GET of an absent key are sent.
 */
#include "config.h"
#include "cmd.h"
#include "explain.h"
#include "mount.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <stdio.h>
#include <string.h>

#define SMALL_ROUNDS 9
#define BIG_BYTES (8 * MiB)

struct probe {
	const struct options *o;
	struct objstore *store;
	char *key;            /* of the trial object */
	const char *right[4]; /* words: "yes" or why not, by the names below */
	struct objerr why[4];
	double latency_ms;           /* median of small GETs; 0 = not measured */
	double up_mib_s, down_mib_s; /* 8 MiB; 0 = not measured */
	struct obj_url url;
};
static const char *const right_names[4] = {"list", "put", "get", "delete"};
enum { R_LIST, R_PUT, R_GET, R_DELETE };

static void note_right(struct probe *p, int i, int r, const struct objerr *e)
{
	p->right[i] = r ? "no" : "yes";
	if (r)
		explain_error(right_names[i], r, e, &p->why[i]);
}

/* One request with a body or a buffer; ns it took in *ret_ns. */
static int timed(struct probe *p, enum obj_op op, void *buf, size_t n, int64_t *ret_ns, struct objerr *err)
{
	struct iovec iov = {.iov_base = buf, .iov_len = n};
	struct objreq q;
	int64_t t = clock_now_ns();
	int r;

	objreq_init(&q, op, p->key);
	if (op == OBJ_PUT) {
		q.iov = &iov;
		q.iovcnt = 1;
	} else if (op == OBJ_GET) {
		q.len = OBJ_WHOLE;
		q.buf = buf;
		q.cap = n;
	}
	r = obj_do(p->store, &q);
	if (!r && op == OBJ_GET && q.got != n)
		r = -EBADMSG;
	*ret_ns = clock_now_ns() - t;
	if (r)
		*err = q.err;
	objreq_done(&q);
	return r;
}

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* Rights by doing: put, get, delete of one small object. */
static void try_rights(struct probe *p)
{
	char small[16] = "lsvdfs probe";
	int64_t ns, took[SMALL_ROUNDS];
	struct objerr e = {0};
	int r = timed(p, OBJ_PUT, small, sizeof(small), &ns, &e);

	note_right(p, R_PUT, r, &e);
	if (r)
		return;
	for (int i = 0; !r && i < SMALL_ROUNDS; i++)
		r = timed(p, OBJ_GET, small, sizeof(small), &took[i], &e);
	note_right(p, R_GET, r, &e);
	if (!r) {
		qsort(took, SMALL_ROUNDS, sizeof(took[0]), by_time);
		p->latency_ms = (double)took[SMALL_ROUNDS / 2] / 1e6;
	}
	e = (struct objerr){0};
	r = obj_delete(p->store, p->key, NULL, &e);
	note_right(p, R_DELETE, r, &e);
}

static int try_throughput(struct probe *p, struct objerr *err)
{
	_cleanup_free_ char *buf = malloc(BIG_BYTES);
	int64_t ns;
	int r;

	if (!buf)
		return -ENOMEM;
	base_random(buf, BIG_BYTES); /* nothing on the way can compress it */
	r = timed(p, OBJ_PUT, buf, BIG_BYTES, &ns, err);
	if (r)
		return r;
	p->up_mib_s = 8e9 / (double)MAX(ns, 1);
	r = timed(p, OBJ_GET, buf, BIG_BYTES, &ns, err);
	if (!r)
		p->down_mib_s = 8e9 / (double)MAX(ns, 1);
	if (r)
		ignore(obj_delete(p->store, p->key, NULL, NULL)); /* the first error counts */
	else
		r = obj_delete(p->store, p->key, NULL, err);
	return r;
}

static json_t *caps_json(unsigned caps)
{
	json_t *list = json_array();

	for (size_t i = 0; i < explain_ncaps; i++) {
		const struct explain_cap *x = &explain_caps[i];
		json_t *e = json_pack("{s:s, s:s, s:b}", "name", x->name, "what", x->what, "can", (caps & x->cap) != 0);

		if (!(caps & x->cap) && x->narrowed)
			json_object_set_new(e, "means", json_string(x->narrowed));
		if (!(caps & x->cap) && x->costs)
			json_object_set_new(e, "costs", json_string(x->costs));
		json_array_append_new(list, e);
	}
	return list;
}

static int print_json(const struct probe *p, bool asked)
{
	json_t *rights = json_object(), *doc;

	for (int i = 0; i < 4; i++)
		if (p->right[i])
			json_object_set_new(rights, right_names[i],
					    p->why[i].msg[0] ? json_string(p->why[i].msg) : json_true());
	doc = json_pack("{s:s, s:o}", "source", p->o->source, "rights", rights);
	if (doc && p->latency_ms > 0)
		json_object_set_new(doc, "latency_ms", json_real(p->latency_ms));
	if (doc && p->up_mib_s > 0)
		json_object_set_new(doc, "put_mib_s", json_real(p->up_mib_s));
	if (doc && p->down_mib_s > 0)
		json_object_set_new(doc, "get_mib_s", json_real(p->down_mib_s));
	if (doc && asked) {
		json_object_set_new(doc, "capabilities", caps_json(obj_caps(p->store)));
		const char *note = explain_quirks(obj_quirks(p->store));

		if (note)
			json_object_set_new(doc, "note", json_string(note));
		json_object_set_new(doc, "equal_parts", json_boolean(obj_caps(p->store) & OBJ_CAP_EQUAL_PARTS));
	}
	return cmd_print_json(doc);
}

static void print_words(const struct probe *p, bool asked)
{
	unsigned caps = obj_caps(p->store);

	printf("source      %s\n", p->o->source);
	for (int i = 0; i < 4; i++)
		if (p->right[i])
			printf("%-11s %s\n", right_names[i], p->why[i].msg[0] ? p->why[i].msg : "allowed");
	if (p->latency_ms > 0)
		printf("latency     %.1f ms (median of %d small GETs)\n", p->latency_ms, SMALL_ROUNDS);
	if (p->up_mib_s > 0)
		printf("throughput  PUT %.1f MiB/s, GET %.1f MiB/s (8 MiB, one connection)\n", p->up_mib_s,
		       p->down_mib_s);
	for (size_t i = 0; asked && i < explain_ncaps; i++) {
		const struct explain_cap *x = &explain_caps[i];

		printf("%-3s %-22s %s\n", caps & x->cap ? "yes" : "no", x->name, x->what);
		if (!(caps & x->cap) && (x->narrowed || x->costs))
			printf("    %-22s so: %s\n", "", x->narrowed ? x->narrowed : x->costs);
	}
	if (asked && explain_quirks(obj_quirks(p->store)))
		printf("note: %s\n", explain_quirks(obj_quirks(p->store)));
	if (asked && (caps & OBJ_CAP_EQUAL_PARTS))
		printf("note: parts of an upload must be of one size there\n");
}

static int make_key(struct probe *p)
{
	char nonce[33];
	struct str s = {0};

	base_random_hex(nonce, 16);
	str_addf(&s, "%s.lsvd/probe/%s", p->url.prefix, nonce);
	return str_take(&s, &p->key);
}

static int run(struct probe *p, bool json)
{
	struct objerr err = {0};
	bool asked = false;
	int r = mount_reach(p->store, p->o, p->url.prefix, &err);

	if (r)
		return cmd_fail("%s", err.msg);
	p->right[R_LIST] = "yes";
	if (make_key(p))
		return cmd_fail("out of memory");
	if (!p->o->read_only) {
		try_rights(p);
		if (!p->why[R_PUT].msg[0] && !p->why[R_GET].msg[0] && !p->why[R_DELETE].msg[0]) {
			r = try_throughput(p, &err);
			if (!r)
				r = obj_probe(p->store, p->url.prefix, &err);
			asked = !r;
		}
		if (r)
			explain_error(p->o->source, r, &err, &err);
	}
	if (json)
		(void)print_json(p, asked);
	else
		print_words(p, asked);
	if (r)
		return cmd_fail("%s", err.msg);
	for (int i = 0; i < 4; i++)
		if (p->why[i].msg[0])
			return CMD_FAILED; /* said above */
	return CMD_OK;
}

int cmd_probe(int argc, char **argv)
{
	struct options o;
	bool json = false;
	struct cmd_args a = {.name = "probe", .short_opts = "", .o = &o, .json = &json, .min = 1, .max = 1};
	struct probe p = {.o = &o};
	struct objerr err = {0};
	char **pos;
	int npos, status, r;

	if (options_init(&o))
		return cmd_fail("out of memory");
	if (!cmd_parse(&a, argc, argv, &pos, &npos, &status))
		goto out;
	log_setup(LOG_TO_STDERR, o.log_level);
	o.source = strdup(pos[0]);
	r = o.source ? options_finish(&o, &err) : -ENOMEM;
	if (!r)
		r = mount_open_store(&o, NULL, &p.url, &p.store, &err);
	if (r) {
		status = r == -EINVAL ? CMD_USAGE : CMD_FAILED;
		cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
		goto out;
	}
	status = run(&p, json);
	obj_close(p.store);
	obj_url_free(&p.url);
	free(p.key);
out:
	options_done(&o);
	return status;
}
