/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cmd_status.c - asks the daemon of a mount how it is, and says it in words or as JSON. */
#include "config.h"
#include "cmd.h"
#include "control.h"
#include "explain.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static long long num(const json_t *o, const char *name)
{
	return (long long)json_integer_value(json_object_get(o, name));
}

static const char *text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

static const char *size(const json_t *o, const char *name, char *buf)
{
	return cmd_size((uint64_t)num(o, name), buf);
}

static void print_uptime(double s)
{
	long t = (long)s;

	if (t >= 86400)
		printf("%ld d ", t / 86400);
	if (t >= 3600)
		printf("%ld h ", t / 3600 % 24);
	if (t >= 60)
		printf("%ld min ", t / 60 % 60);
	printf("%ld s\n", t % 60);
}

static void print_store(const json_t *st)
{
	char in[24], out[24];
	const char *key;
	json_t *v;
	size_t i;

	printf("requests   ");
	json_object_foreach(json_object_get(st, "requests"), key, v)
	{
		printf(" %s %lld", key, num(v, "count"));
		if (num(v, "errors"))
			printf(" (%lld failed)", num(v, "errors"));
	}
	printf("\n            received %s, sent %s, retries %lld, slowed down %lld\n", size(st, "bytes_in", in),
	       size(st, "bytes_out", out), num(st, "retries"), num(st, "slowdowns"));
	printf("store can  ");
	json_array_foreach(json_object_get(st, "capabilities"), i, v) printf(" %s", json_string_value(v));
	printf("\n");
	json_array_foreach(json_object_get(st, "narrowed"), i, v)
	    printf("cannot      %s: %s\n", text(v, "missing"), text(v, "means"));
}

/* What other parts add to "fs" as numbers or words: shown as it comes. */
static void print_fs(const json_t *fs)
{
	const char *key;
	json_t *v;

	printf("file system");
	json_object_foreach((json_t *)fs, key, v)
	{
		if (json_is_integer(v))
			printf(" %s %lld", key, (long long)json_integer_value(v));
		else if (json_is_string(v))
			printf(" %s %s", key, json_string_value(v));
	}
	printf("\n");
}

static void print_images(const json_t *images)
{
	char a[24], b[24], c[24], d[24];
	json_t *v;
	size_t i;

	json_array_foreach(images, i, v)
	{
		printf("image       %s: %s, %s, %s allocated, epoch %lld, journal %s of %s, fsync %s", text(v, "path"),
		       text(v, "state"), size(v, "size", a), size(v, "allocated", b), num(v, "epoch"),
		       size(v, "journal_used", c), size(v, "journal_limit", d), text(v, "fsync"));
		printf("%s%s\n", *text(v, "why") ? ": " : "", text(v, "why"));
	}
}

static void print_status(const json_t *st)
{
	const json_t *sp = json_object_get(st, "spool"), *mem = json_object_get(st, "memory"),
		     *rec = json_object_get(st, "recovery"), *tr = json_object_get(st, "tree");
	char a[24], b[24], c[24];

	printf("source      %s%s\n", text(st, "source"), json_is_true(json_object_get(st, "read_only")) ? " (ro)" : "");
	printf("directory   %s\n", text(st, "dir"));
	printf("daemon      pid %lld, lsvdfs %s, up ", num(st, "pid"), text(st, "version"));
	print_uptime(json_real_value(json_object_get(st, "uptime_s")));
	print_store(json_object_get(st, "store"));
	printf("not sent    %s in %lld files, %lld uploading; metadata of %lld names\n", size(sp, "dirty_bytes", a),
	       num(sp, "files"), num(sp, "uploading"), num(json_object_get(st, "metadata"), "waiting"));
	printf("parked      %lld%s\n", num(sp, "parked"), num(sp, "parked") ? " (lsvdfs parked list)" : "");
	printf(
	    "recovery    at start: %lld uploaded, %lld parked, %lld already there, %lld failed; %lld renames finished, "
	    "%lld slots taken over\n",
	    num(rec, "uploaded"), num(rec, "parked"), num(rec, "already"), num(rec, "failed"), num(rec, "renames"),
	    num(rec, "adopted_slots"));
	printf("memory      %s used, %s peak, %s allowed\n", size(mem, "used", a), size(mem, "peak", b),
	       size(mem, "total", c));
	printf("names       %lld rows, %lld hidden keys, database rebuilt %lld times\n", num(tr, "rows"),
	       num(tr, "hidden_keys"), num(tr, "db_rebuilt"));
	print_fs(json_object_get(st, "fs"));
	print_images(json_object_get(json_object_get(st, "fs"), "images"));
	printf("state       %s\ncache       %s\n", text(st, "state_slot"), text(st, "cache_slot"));
}

static int ask(const struct mntpoint *m, json_t **ret)
{
	_cleanup_close_ int fd = -1;
	struct objerr err = {0};
	int r = control_connect(m, &fd);

	if (r == -ENOENT || r == -ECONNREFUSED)
		return cmd_fail("%s: the daemon of this mount is gone (mount it again: that replaces it)", m->dir);
	if (r)
		return cmd_fail("%s: cannot ask the daemon: %s", m->dir, explain_errno(r));
	if (control_ask(fd, json_pack("{s:s}", "cmd", "status"), 30000, NULL, NULL, ret, &err))
		return cmd_fail("%s: %s", m->dir, err.msg);
	return CMD_OK;
}

int cmd_status(int argc, char **argv)
{
	bool json = false;
	struct cmd_args a = {.name = "status", .short_opts = "", .json = &json, .min = 1, .max = 1};
	struct mntpoint m;
	json_t *st;
	char **pos;
	int npos, status;

	if (!cmd_parse(&a, argc, argv, &pos, &npos, &status))
		return status;
	status = cmd_find_mount(pos[0], &m);
	if (status)
		return status;
	status = ask(&m, &st);
	mntpoint_done(&m);
	if (status)
		return status;
	if (json) {
		json_object_del(st, "ok");
		return cmd_print_json(st);
	}
	print_status(st);
	json_decref(st);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}
