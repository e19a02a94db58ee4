/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cmd_imgsite.c - from what the user wrote to a bucket and an image in it (cmd_image.h). */
#include "config.h"
#include "capsfile.h"
#include "cmd_image.h"
#include "explain.h"
#include "meta/path.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOLUME_THREADS = 32 };

int site_fail(const struct site *s, int r, const struct objerr *err)
{
	const char *words = err && err->msg[0] ? err->msg : explain_errno(r);

	if (r == -EBUSY && strstr(words, "held by"))
		return cmd_fail("%s: %s (wait for its release, or lsvdfs image claim takes it)", s->said, words);
	return cmd_fail("%s: %s", s->said, words);
}

/* --- a mount ---------------------------------------------------------------------------------------------------- */

/* The mount that holds the absolute path; *ret_rel: what is below it. */
static int holding_mount(const char *path, struct mntpoint *ret, char **ret_rel)
{
	_cleanup_free_ char *dir = strdup(path);
	int r = dir ? -ENOENT : -ENOMEM;

	while (r == -ENOENT && dir[0]) {
		r = mntpoint_find(dir, ret);
		if (r == -ENOENT) {
			*strrchr(dir, '/') = '\0';
			if (!dir[0])
				return -ENOENT;
		}
	}
	if (r)
		return r;
	path += strlen(dir);
	*ret_rel = strdup(*path == '/' ? path + 1 : path);
	if (*ret_rel)
		return 0;
	mntpoint_done(ret);
	return -ENOMEM;
}

/* Absolute, without symlinks; the last component need not be there. */
static int absolute(const char *path, char **ret)
{
	_cleanup_free_ char *copy = strdup(path), *parent = NULL;
	struct str s = {0};
	char *whole = realpath(path, NULL), *slash;

	if (whole) {
		*ret = whole;
		return 0;
	}
	if (!copy)
		return -ENOMEM;
	slash = strrchr(copy, '/');
	if (errno != ENOENT || (slash && !slash[1]))
		return -errno;
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!parent)
		return -errno;
	str_addf(&s, "%s/%s", strcmp(parent, "/") ? parent : "", slash ? slash + 1 : copy);
	return str_take(&s, ret);
}

static int ask(const struct site *s, json_t *take_req, json_t **ret)
{
	_cleanup_close_ int fd = -1;
	struct objerr err = {0};
	int r = control_connect(&s->mnt, &fd);

	if (r) {
		json_decref(take_req);
		return cmd_fail("%s: cannot ask the daemon of %s: %s", s->said, s->mnt.dir, explain_errno(r));
	}
	if (control_ask(fd, take_req, -1, NULL, NULL, ret, &err))
		return cmd_fail("%s: %s", s->said, err.msg);
	return CMD_OK;
}

static const char *status_text(const json_t *o, const char *name)
{
	const char *v = json_string_value(json_object_get(o, name));

	return v ? v : "";
}

static int on_mount(struct site *s, const char *path)
{
	_cleanup_free_ char *full = NULL;
	struct objerr err = {0};
	int r = absolute(path, &full);

	if (!r)
		r = holding_mount(full, &s->mnt, &s->path);
	if (r == -ENOENT && full)
		return cmd_fail("%s: not on a mount", path);
	if (r)
		return cmd_fail("%s: %s", path, explain_errno(r));
	s->mounted = true;
	if (!s->mnt.ours)
		return cmd_fail("%s: not on an lsvdfs mount (%s)", path, s->mnt.dir);
	r = ask(s, json_pack("{s:s}", "cmd", "status"), &s->status);
	if (r)
		return r;
	r = options_parse(&s->o, status_text(s->status, "store_options"), &err);
	free(s->o.source);
	free(s->o.state_dir);
	free(s->o.cache_dir);
	s->o.source = strdup(status_text(s->status, "source"));
	s->o.state_dir = strdup(status_text(s->status, "state_dir"));
	s->o.cache_dir = strdup(status_text(s->status, "cache_dir"));
	s->o.read_only |= json_is_true(json_object_get(s->status, "read_only"));
	if (r || !s->o.source || !s->o.state_dir || !s->o.cache_dir)
		return cmd_fail("%s: %s", path, err.msg[0] ? err.msg : "out of memory");
	return CMD_OK;
}

int site_ask(struct site *s, const char *what, json_t **ret)
{
	return site_ask_name(s, what, NULL, ret);
}

int site_ask_name(struct site *s, const char *what, const char *name, json_t **ret)
{
	json_t *ans;
	int r = ask(s, json_pack("{s:s, s:s, s:s, s:s*}", "cmd", "image", "do", what, "path", s->path, "name", name), &ans);

	if (!r && ret)
		*ret = ans;
	else if (!r)
		json_decref(ans);
	return r;
}

void site_forget(struct site *s)
{
	if (s->mounted)
		ignore(site_ask(s, "forget", NULL)); /* then it sees it a little later */
}

json_t *site_here(const struct site *s, const char *uuid)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(s->status, "fs"), "images"), i, v)
		if (!strcmp(status_text(v, "uuid"), uuid) && !json_integer_value(json_object_get(v, "snapshot")))
			return v;
	return NULL;
}

/* --- the bucket ------------------------------------------------------------------------------------------------- */

static bool path_ok(const char *path)
{
	while (*path) {
		size_t n = strcspn(path, "/");

		if (!path_component_ok(path, n) || (path[n] && !path[n + 1]))
			return false;
		path += n + (path[n] == '/');
	}
	return true;
}

static int open_bucket(struct site *s, struct objerr *err)
{
	struct vol_reads ro = {0};
	int r = options_finish(&s->o, err);

	if (!r)
		r = budget_new(s->o.memory, &s->budget);
	if (!r)
		r = mount_open_store(&s->o, s->budget, &s->url, &s->store, err);
	if (!r)
		r = mount_reach(s->store, &s->o, s->url.prefix, err);
	if (!r)
		r = slot_identity(&s->url, s->o.endpoint, &s->identity);
	if (!r)
		r = pool_new("lsvdfs-vol", VOLUME_THREADS, &s->pool);
	ro.store = s->store;
	ro.budget = s->budget;
	ro.pool = s->pool;
	if (!r)
		r = vol_reads_new(&ro, &s->reads, err);
	if (!r && gethostname(s->host, sizeof s->host - 1))
		r = -errno;
	s->env = (struct vol_env){.store = s->store,
				  .budget = s->budget,
				  .pool = s->pool,
				  .fetch = s->reads,
				  .host = s->host,
				  .journal_bytes = s->o.journal_size,
				  .segment_bytes = MIN(16 * MiB, s->o.journal_size / 4 / MiB * MiB),
				  .claim_wait_ns = s->o.claim_wait_ns,
				  .retain_s = s->o.retain_s,
				  .takeover = (enum vol_takeover)s->o.takeover,
				  .read_only = true};
	return r;
}

int site_open(struct site *s, char **args, int n, bool dir)
{
	bool source = cmd_is_source(args[0]);
	struct objerr err = {0};
	int r;

	s->slot.lock_fd = -1;
	s->said = strdup(source && n > 1 ? args[1] : args[0]);
	if (!s->said)
		return cmd_fail("out of memory");
	if (source) {
		s->o.source = strdup(args[0]);
		s->path = strdup(n > 1 ? args[1] : "");
		r = s->o.source && s->path ? CMD_OK : cmd_fail("out of memory");
	} else {
		r = on_mount(s, args[0]);
	}
	if (r)
		return r;
	while (source && dir && str_has_suffix(s->path, "/"))
		s->path[strlen(s->path) - 1] = '\0';
	cmd_printable(s->said); /* from here on it is only for messages */
	if ((!dir && !s->path[0]) || !path_ok(s->path) || (!dir && !image_path_ok(s->path)))
		return cmd_usage("'%.200s' is no path of an image", s->said);
	r = open_bucket(s, &err);
	if (r) {
		cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
		return r == -EINVAL ? CMD_USAGE : CMD_FAILED;
	}
	return CMD_OK;
}

/* What the store can do: as a mount or a command found out less than a day ago, which also wrote it down. */
static int caps(struct site *s, struct objerr *err)
{
	int64_t now = clock_real_ns() / NSEC_PER_SEC;
	_cleanup_free_ char *dir = NULL, *path = NULL;
	struct caps_found f;
	struct str n = {0};
	int r;

	if (s->url.kind == OBJ_URL_S3 && !slot_identity_dir(s->o.cache_dir, s->identity, &dir)) {
		str_addf(&n, "%s/caps", dir);
		r = str_take(&n, &path);
		if (r)
			return r;
		if (!capsfile_read(path, &f) && f.time_s <= now && f.time_s >= now - CAPS_AGE_S) {
			obj_set_caps(s->store, f.caps, f.quirks);
			return 0;
		}
	}
	r = obj_probe(s->store, s->url.prefix, err);
	f = (struct caps_found){obj_caps(s->store), obj_quirks(s->store), now};
	if (!r && path)
		ignore(capsfile_write(path, &f)); /* else the next one asks */
	return r;
}

int site_may_write(struct site *s)
{
	struct objerr err = {0};
	int r;

	if (s->o.read_only)
		return cmd_fail("%s: read only (option ro)", s->said);
	r = caps(s, &err);
	if (!r && !(obj_caps(s->store) & OBJ_CAP_PUT_NEW)) {
		objerr_set(&err, "%s: the store has no conditional writes (lsvdfs probe): no disk images there",
			   s->o.source);
		r = -EOPNOTSUPP;
	}
	if (!r)
		r = slot_take(s->o.state_dir, s->identity, &s->slot, &err);
	if (!r)
		r = slot_file(&s->slot, "img", &s->img_dir);
	if (r)
		return cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
	s->env.state_dir = s->img_dir;
	s->env.read_only = false;
	return CMD_OK;
}

void site_close(struct site *s)
{
	vol_reads_settle(s->reads);
	pool_free(s->pool);
	vol_reads_free(s->reads);
	obj_close(s->store);
	obj_url_free(&s->url);
	budget_free(s->budget);
	slot_release(&s->slot);
	if (s->mounted)
		mntpoint_done(&s->mnt);
	json_decref(s->status);
	options_done(&s->o);
	free(s->identity);
	free(s->img_dir);
	free(s->path);
	free(s->said);
}

/* --- an image --------------------------------------------------------------------------------------------------- */

void image_done(struct image *i)
{
	free(i->key);
	nameobj_free(&i->o);
	nameplace_free(&i->p);
}

int site_find(struct site *s, struct image *ret)
{
	struct image i = {0};
	struct objerr err = {0};
	int r = image_key(s->url.prefix, s->path, &i.key);

	if (!r)
		r = nameobj_get(s->store, i.key, &i.o, &err);
	if (r == -ENOENT || r == -ENODATA || r == -ENOTDIR) {
		image_done(&i);
		return cmd_fail("%s: no image of this name (lsvdfs image list shows them)", s->said);
	}
	if (!r)
		r = nameobj_place(s->store, s->url.prefix, i.key, &i.o.n, &i.p, &err);
	if (!r && i.p.dead) {
		objerr_set(&err, "the image was deleted; this name is a leftover (lsvdfs image delete removes it)");
		r = -EIO;
	}
	if (r) {
		image_done(&i);
		return site_fail(s, r, &err);
	}
	log_uuid_format(i.o.n.uuid, i.uuid);
	*ret = i;
	return CMD_OK;
}

int site_write(struct site *s, const struct image *i, int (*fn)(struct volume *v, void *arg), void *arg,
	       struct objerr *err)
{
	int r = site_may_write(s);

	if (r)
		return r;
	if (i->p.copy)
		return cmd_fail("%s: a copy of another image's name: read only", s->said);
	r = image_write(&s->env, i->p.prefix, s->path, i->o.n.uuid, fn, arg, err);
	return r ? site_fail(s, r, err) : CMD_OK;
}

/* 1, 0: is there a key that begins so? whole: just that one. */
static int there(struct site *s, const char *suffix, bool whole, struct objerr *err)
{
	char key[OBJ_KEY_MAX + 2];
	struct objreq q;
	int r;

	if ((size_t)snprintf(key, sizeof key, "%s%s%s", s->url.prefix, s->path, suffix) >= sizeof key - 1)
		return -ENAMETOOLONG;
	objreq_init(&q, whole ? OBJ_HEAD : OBJ_LIST, key);
	q.max_keys = whole ? 0 : 1;
	r = obj_do(s->store, &q);
	if (r == -ENOENT || r == -ENOTDIR || r == -EISDIR)
		r = 0;
	else if (!r)
		r = whole || q.listing->n > 0;
	else
		*err = q.err;
	objreq_done(&q);
	return r;
}

/* A file or an image above would be hidden by the directory that this makes of it. */
static int parents_free(struct site *s, struct objerr *err)
{
	_cleanup_free_ char *above = strdup(s->path);
	char *whole = s->path, *slash;
	int r = above ? 0 : -ENOMEM;

	s->path = above;
	while (r == 0 && (slash = strrchr(above, '/'))) {
		*slash = '\0';
		r = there(s, "/", false, err); /* a directory: what lies beside it is hidden already */
		if (r != 0)
			break;
		r = there(s, "", true, err);
		if (r == 0)
			r = there(s, IMGNAME_SUFFIX, true, err);
		if (r > 0)
			r = -ENOTDIR;
	}
	s->path = whole;
	return MIN(r, 0);
}

int site_path_free(struct site *s)
{
	const char *name = strrchr(s->path, '/');
	struct objerr err = {0};
	int r;

	name = name ? name + 1 : s->path;
	if (strlen(name) + strlen(IMGNAME_SUFFIX) > PATH_NAME_MAX)
		return site_fail(s, -ENAMETOOLONG, NULL);
	r = parents_free(s, &err);
	if (r == 0)
		r = there(s, "", true, &err);
	if (!r)
		r = there(s, "/", false, &err);
	if (!r)
		r = there(s, IMGNAME_SUFFIX, true, &err);
	if (r > 0)
		return cmd_fail("%s: there is something of this name already", s->said);
	return r ? site_fail(s, r, &err) : CMD_OK;
}

static int path_on_mount(struct site *s, const char *text, char **ret)
{
	_cleanup_free_ char *full = NULL;
	struct mntpoint mnt;
	bool same;
	int r = absolute(text, &full);

	if (!r)
		r = holding_mount(full, &mnt, ret);
	if (r)
		return cmd_fail("%s: %s", text, r == -ENOENT ? "not on a mount" : explain_errno(r));
	same = !strcmp(mnt.dir, s->mnt.dir);
	mntpoint_done(&mnt);
	return same ? CMD_OK : cmd_fail("%s: not on the same mount as %s", text, s->said);
}

int site_other_path(struct site *s, const char *text, char **ret)
{
	char *path = s->path, *said = s->said, *other = NULL;
	int r = s->mounted ? path_on_mount(s, text, &other) : CMD_OK;

	if (!r && !other)
		other = strdup(text);
	if (!r && (!other || !other[0] || !path_ok(other)))
		r = cmd_usage("'%.200s' is no path of an image", other ? cmd_printable(other) : "");
	if (!r) {
		s->path = other;
		s->said = (char *)text;
		r = site_path_free(s);
		s->path = path;
		s->said = said;
	}
	if (r)
		free(other);
	else
		*ret = other;
	return r;
}
