/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_parked.c - gets parked bytes out: list, save, retry, drop.
 *
 * The target is a mount (its daemon says where its state lies and does the uploads) or a source (the slots of this node
 * are read directly). An id is SLOT-NUMBER as `list` prints it. Reading needs no lock: parked files never change; retry
 * and drop of a slot that a mount holds go through the daemon, or leave it alone.
 */
#include "config.h"
#include "cmd.h"
#include "control.h"
#include "mount.h"
#include "explain.h"
#include "objstore/base/str.h"
#include "slot.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct target {
	struct options o;      /* of the source; state_dir is right in both cases */
	char *identity_dir;    /* STATE/NAME-HASH */
	char *identity;        /* source only */
	int sock;              /* mount only, else -1 */
	unsigned mounted_slot; /* mount only */
};

static void target_done(struct target *t)
{
	options_done(&t->o);
	free(t->identity_dir);
	free(t->identity);
	if (t->sock >= 0)
		close(t->sock);
}

static int target_mount(struct target *t, const char *dir)
{
	struct objerr err = {0};
	struct mntpoint m;
	const char *slot;
	json_t *st;
	int r = cmd_find_mount(dir, &m);

	if (r)
		return r;
	r = control_connect(&m, &t->sock);
	mntpoint_done(&m);
	if (r) {
		t->sock = -1;
		return cmd_fail("%s: cannot ask the daemon: %s", dir, explain_errno(r));
	}
	if (control_ask(t->sock, json_pack("{s:s}", "cmd", "status"), 30000, NULL, NULL, &st, &err))
		return cmd_fail("%s: %s", dir, err.msg);
	slot = json_string_value(json_object_get(st, "state_slot"));
	t->mounted_slot = (unsigned)json_integer_value(json_object_get(st, "slot"));
	t->identity_dir = slot ? strdup(slot) : NULL;
	json_decref(st);
	if (!t->identity_dir || !strrchr(t->identity_dir, '/'))
		return cmd_fail("%s: the daemon does not say where its state is", dir);
	*strrchr(t->identity_dir, '/') = '\0';
	return CMD_OK;
}

static int target_source(struct target *t, const char *source)
{
	struct objerr err = {0};
	struct obj_url url;
	int r;

	t->o.source = strdup(source);
	r = t->o.source ? options_finish(&t->o, &err) : -ENOMEM;
	if (!r)
		r = obj_url_parse(source, &url, &err);
	if (r) {
		cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
		return r == -EINVAL ? CMD_USAGE : CMD_FAILED;
	}
	r = slot_identity(&url, t->o.endpoint, &t->identity);
	obj_url_free(&url);
	if (!r)
		r = slot_identity_dir(t->o.state_dir, t->identity, &t->identity_dir);
	return r ? cmd_fail("out of memory") : CMD_OK;
}

static int spool_of(const struct target *t, unsigned slot, char **ret)
{
	struct str s = {0};

	str_addf(&s, "%s/slot-%u/spool", t->identity_dir, slot);
	return str_take(&s, ret) ? cmd_fail("out of memory") : CMD_OK;
}

/* --- list ------------------------------------------------------------------------------------------------------- */

static json_t *parked_json(unsigned slot, const struct parked *p)
{
	char id[48];

	snprintf(id, sizeof(id), "%u-%llu", slot, (unsigned long long)p->id);
	/* a path is bytes: what is not UTF-8 cannot have been a key, so this does not fail */
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:I}", "id", id, "path", p->path ? p->path : "", "reason",
			 p->reason ? p->reason : "", "base_etag", p->base_etag ? p->base_etag : "", "size",
			 (json_int_t)p->size, "partial", (int)p->partial, "time", (json_int_t)p->time_s);
}

static void print_parked(unsigned slot, const struct parked *p)
{
	char when[32] = "", size[24], id[48];
	time_t t = (time_t)p->time_s;
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	snprintf(id, sizeof(id), "%u-%llu", slot, (unsigned long long)p->id);
	printf("%-8s %s %10s%s  %s  (%s)\n", id, when, cmd_size(p->size, size), p->partial ? " partial" : "",
	       p->path ? cmd_printable(p->path) : "?", p->reason ? cmd_printable(p->reason) : "?");
}

static int do_list(const struct target *t, bool json)
{
	_cleanup_free_ unsigned *v = NULL;
	json_t *doc = json ? json_array() : NULL;
	size_t n = 0;
	int r = slot_list_in(t->identity_dir, &v, &n);

	if (r)
		return cmd_fail("%s: %s", t->identity_dir, explain_errno(r));
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *spool = NULL;
		struct parked *p;
		size_t np;

		if (spool_of(t, v[i], &spool))
			return CMD_FAILED;
		r = parked_list(spool, &p, &np);
		if (r == -ENOENT)
			continue;
		if (r)
			return cmd_fail("%s: %s", spool, explain_errno(r));
		for (size_t k = 0; k < np; k++) {
			if (json)
				json_array_append_new(doc, parked_json(v[i], &p[k]));
			else
				print_parked(v[i], &p[k]);
		}
		parked_free(p, np);
	}
	return json ? cmd_print_json(doc) : CMD_OK;
}

/* --- one id ----------------------------------------------------------------------------------------------------- */

static bool parse_id(const char *s, unsigned *ret_slot, uint64_t *ret_id)
{
	char slot[16];
	const char *dash = strchr(s, '-');
	uint64_t n;

	if (!dash || (size_t)(dash - s) >= sizeof(slot))
		return false;
	memcpy(slot, s, (size_t)(dash - s));
	slot[dash - s] = '\0';
	if (str_parse_u64(slot, &n) || n >= SLOT_MAX || str_parse_u64(dash + 1, ret_id))
		return false;
	*ret_slot = (unsigned)n;
	return true;
}

/* The path of a parked file below the mount: what the daemon shall forget. NULL when unknown. */
static char *path_of(const char *spool, uint64_t id)
{
	struct parked *p;
	char *path = NULL;
	size_t n;

	if (parked_list(spool, &p, &n))
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (p[i].id == id && p[i].path)
			path = strdup(p[i].path);
	parked_free(p, n);
	return path;
}

/* parked_save() writes at offsets; standard output may be a pipe, or a file that others append to. */
static int copy_to_stdout(int fd)
{
	char buf[65536];
	ssize_t n;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return -errno;
	if (n < 0 || fflush(stdout))
		return -errno;
	return 0;
}

static int do_save(const char *spool, const char *idstr, uint64_t id, const char *file)
{
	bool out = !strcmp(file, "-");
	int fd, r;

	if (out)
		fd = open("/var/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	else
		fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return cmd_fail("%s: %s", out ? "/var/tmp" : file, explain_errno(-errno));
	r = parked_save(spool, id, fd);
	if (!r && out)
		r = copy_to_stdout(fd);
	if (!r && !out && fsync(fd))
		r = -errno;
	if (close(fd) && !r)
		r = -errno;
	if (r && !out)
		unlink(file);
	return r ? cmd_fail("%s: cannot save: %s", idstr, r == -ENOENT ? "no such id" : explain_errno(r)) : CMD_OK;
}

static int do_drop(const char *spool, const char *idstr, uint64_t id)
{
	int r = parked_drop(spool, id);

	return r ? cmd_fail("%s: %s", idstr, r == -ENOENT ? "no such id" : explain_errno(r)) : CMD_OK;
}

static int retry_mounted(struct target *t, unsigned slot, const char *spool, const char *idstr, uint64_t id, bool force)
{
	_cleanup_free_ char *path = path_of(spool, id);
	struct objerr err = {0};
	json_t *ans;

	if (!path)
		return cmd_fail("%s: no such id", idstr);
	if (control_ask(t->sock,
			json_pack("{s:s, s:i, s:I, s:b, s:s}", "cmd", "retry", "slot", (int)slot, "id", (json_int_t)id,
				  "force", (int)force, "path", path),
			-1, NULL, NULL, &ans, &err))
		return cmd_fail("%s: %s", idstr, err.msg);
	json_decref(ans);
	return CMD_OK;
}

/* The slot is nobody's: its spool is opened here, under its lock. */
static int retry_offline(struct target *t, unsigned slot, const char *spool, const char *idstr, uint64_t id, bool force)
{
	struct slot s = {.lock_fd = -1};
	struct spool_opts so = {.dir = spool, .part_size = t->o.part_size};
	struct objstore *store = NULL;
	struct budget *budget = NULL;
	struct objerr err = {0};
	struct spcommit done;
	struct spool *sp = NULL;
	struct obj_url url;
	int r = slot_lock(t->o.state_dir, t->identity, slot, &s);

	if (r)
		return cmd_fail("%s: %s", idstr,
				r == -EBUSY ? "a mount uses that slot: give its directory instead of the source"
					    : "no such id");
	r = budget_new(t->o.memory, &budget);
	if (!r)
		r = mount_open_store(&t->o, budget, &url, &store, &err);
	if (!r) {
		so.store = store;
		so.prefix = url.prefix;
		so.budget = budget;
		r = spool_open(&so, &sp, &err);
		if (!r)
			r = parked_retry(sp, id, force, &done, &err);
		if (sp)
			spool_close(sp);
		obj_close(store);
		obj_url_free(&url);
	}
	budget_free(budget);
	slot_release(&s);
	return r ? cmd_fail("%s: %s", idstr, err.msg[0] ? err.msg : explain_errno(r)) : CMD_OK;
}

static int do_one(struct target *t, const char *what, const char *idstr, const char *file, bool force)
{
	_cleanup_free_ char *spool = NULL;
	unsigned slot;
	uint64_t id;

	if (!parse_id(idstr, &slot, &id))
		return cmd_usage("'%.40s' is no id: take one from lsvdfs parked list", idstr);
	if (spool_of(t, slot, &spool))
		return CMD_FAILED;
	if (!strcmp(what, "save"))
		return do_save(spool, idstr, id, file);
	if (!strcmp(what, "drop"))
		return do_drop(spool, idstr, id);
	return t->sock >= 0 ? retry_mounted(t, slot, spool, idstr, id, force)
			    : retry_offline(t, slot, spool, idstr, id, force);
}

static bool parked_flag(int c, const char *arg, void *ctx)
{
	if (c != 'F')
		return false;
	return *(bool *)ctx = true;
}

int cmd_parked(int argc, char **argv)
{
	struct target t = {.sock = -1};
	bool json = false, force = false;
	struct cmd_args a = {.name = "parked",
			     .short_opts = "",
			     .fn = parked_flag,
			     .ctx = &force,
			     .o = &t.o,
			     .json = &json,
			     .min = 2,
			     .max = 4};
	char **pos;
	int npos, status, want;

	if (options_init(&t.o))
		return cmd_fail("out of memory");
	if (!cmd_parse(&a, argc, argv, &pos, &npos, &status))
		goto out;
	want = !strcmp(pos[0], "list")    ? 2
	       : !strcmp(pos[0], "save")  ? 4
	       : !strcmp(pos[0], "retry") ? 3
	       : !strcmp(pos[0], "drop")  ? 3
					  : 0;
	if (npos != want) {
		status = cmd_usage("parked: %s (lsvdfs parked --help)",
				   want ? npos < want ? "missing arguments" : "too many arguments"
					: "expected list, save, retry or drop");
		goto out;
	}
	log_setup(LOG_TO_STDERR, t.o.log_level);
	status = cmd_is_source(pos[1]) ? target_source(&t, pos[1]) : target_mount(&t, pos[1]);
	if (!status)
		status = want == 2 ? do_list(&t, json) : do_one(&t, pos[0], pos[2], want == 4 ? pos[3] : NULL, force);
out:
	target_done(&t);
	return status;
}
