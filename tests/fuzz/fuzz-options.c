/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-options.c - what stands in /etc/fstab: a source (first line) and lists of options (the others). What is taken is
 * in its range and, written down again, means the same; local directories follow from it and stay where they belong.
 */
#include "config.h"
#include "fs/options.h"
#include "fs/slot.h"
#include "fuzz.h"
#include "objstore/base/log.h"

/* Nothing that lines of an identity, headers or messages would break at. */
static void check_plain(const char *s)
{
	check(!s || (*s && is_printable(s)));
}

static void check_ranges(const struct options *o)
{
	const char *const paths[] = {o->passwd_file, o->ca_file, o->state_dir, o->cache_dir};

	check(o->connections >= 1 && o->connections <= 4096);
	check(o->retry_ns >= 0 && o->attr_timeout_ns >= 0 && o->open_trust_ns >= 0);
	check(!(o->def.umask & ~07777u) && !(o->def.file_mode & ~07777u) && !(o->def.dir_mode & ~07777u));
	check(o->def.uid != (uid_t)-1 && o->def.gid != (gid_t)-1);
	check(o->log_level >= LOG_L_ERROR && o->log_level <= LOG_L_DEBUG);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		check(!paths[i] || paths[i][0] == '/');
}

/* As libfuse splits it: each item is one that the kernel knows, none was smuggled in by a value. */
static void check_kernel(const char *list)
{
	static const char *const known[] = {"nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "nodiratime",
					    "norelatime", "sync", "async", "dirsync", "context=", "fscontext=",
					    "defcontext=", "rootcontext="};
	struct str item = {0};

	for (const char *p = list; *list; p++) {
		bool ok = false;

		if (*p == '\\' && p[1]) {
			str_addc(&item, *++p);
			continue;
		}
		if (*p && *p != ',') {
			str_addc(&item, *p);
			continue;
		}
		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			ok |= known[i][strlen(known[i]) - 1] == '=' ? str_has_prefix(str_c(&item), known[i])
								     : !strcmp(str_c(&item), known[i]);
		check(ok);
		str_reset(&item);
		if (!*p)
			break;
	}
	str_free(&item);
}

/* The whole, when all parts were taken. */
static void check_finished(struct options *o)
{
	struct objerr err = {0};
	int r = options_finish(o, &err);

	check(r == 0 || err.msg[0]);
	if (r)
		return;
	check(o->part_size >= 5 * MiB && o->part_size <= 5 * GiB && o->part_size * 4 <= o->memory);
	check(o->state_dir && o->cache_dir);
	check_plain(o->endpoint);
	check_plain(o->region);
	check_plain(o->storage_class);
	check_plain(o->sse);
	check(!o->endpoint || str_has_prefix(o->endpoint, "http"));
}

/* A source put together again is the same source. */
static void check_url(const struct obj_url *u)
{
	static const char *const scheme[] = {[OBJ_URL_S3] = "s3://", [OBJ_URL_FILE] = "file://", [OBJ_URL_MEM] = "mem:"};
	struct str s = {0};
	struct obj_url again;
	struct objerr err;
	size_t n = strlen(u->prefix);

	check(*u->bucket);
	check(!n || (u->prefix[n - 1] == '/' && u->prefix[0] != '/' && !strstr(u->prefix, "//")));
	check(str_is_utf8(u->prefix, n) && n < OBJ_KEY_MAX);
	check(u->kind == OBJ_URL_FILE ? u->bucket[0] == '/' : !strpbrk(u->bucket, "/?#: %\n"));
	str_addf(&s, "%s%s", scheme[u->kind], u->bucket);
	if (n)
		str_addf(&s, "/%s", u->prefix);
	check(!s.err && !obj_url_parse(s.p, &again, &err));
	check(again.kind == u->kind && !strcmp(again.bucket, u->bucket) && !strcmp(again.prefix, u->prefix));
	obj_url_free(&again);
	str_free(&s);
}

/* Four lines, and a directory directly below the given one with a name that every file system takes. */
static void check_identity(const struct obj_url *u, const char *endpoint)
{
	char *id, *dir;
	size_t lines = 0;

	check(!slot_identity(u, endpoint, &id));
	for (const char *p = id; *p; p++)
		lines += *p == '\n';
	check(lines == 4);
	check(!slot_identity_dir("/d", id, &dir));
	check(!strncmp(dir, "/d/", 3) && !strchr(dir + 3, '/') && dir[3] != '.' && strlen(dir + 3) < 200);
	check(is_printable(dir));
	free(dir);
	free(id);
}

/* An endpoint and a region become part of URLs: the store says what it does not take. */
static void open_store(const struct options *o, const struct obj_url *u)
{
	struct obj_open_opts oo;
	struct objstore *s;
	struct objerr err = {0};
	int r;

	options_open_opts(o, NULL, &oo);
	oo.no_sign = true; /* credentials have a target of their own */
	oo.passwd_file = oo.profile = NULL;
	r = obj_open(u, &oo, &s, &err);
	check(r <= 0 && (r == 0 || err.msg[0]));
	if (!r)
		obj_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, MIN(size, (size_t)8192)};
	char *source = take_line(&in);
	struct objerr err = {0};
	struct obj_url u = {0};
	struct options o;
	int r = 0;

	check(!options_init(&o));
	while (!r && in.n > 0) {
		char *list = take_line(&in);

		r = options_parse(&o, list, &err);
		check(r <= 0 && (r == 0 || (err.msg[0] && is_printable(err.msg))));
		free(list);
		check_ranges(&o);
	}
	check(!o.kernel.err);
	check_kernel(str_c(&o.kernel));
	if (!r) {
		check_finished(&o);
		r = options_finish(&o, &err);
	}
	if (obj_url_parse(source, &u, &err) == 0) {
		check_url(&u);
		if (!r)
			check_identity(&u, o.endpoint);
		if (!r && u.kind == OBJ_URL_S3)
			open_store(&o, &u);
	} else {
		check(err.msg[0]);
	}
	obj_url_free(&u);
	options_done(&o);
	free(source);
	return 0;
}
