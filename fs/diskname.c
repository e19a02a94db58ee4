/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * diskname.c - images come, go, and get other names; and what a process that died in between has left.
 *
 * Making: the log's first record, then the name (PROTOCOL.md). Renaming: under an intent, since there are two names for a
 * moment; onto another image: that one is claimed and `deleting` written, one PUT takes its name, then it is removed.
 * Removing: claim, the key `dead`, the name, then everything below the log but its claims; what that needs to know lies in
 * the state directory (`deleting`) before the name goes, so that the next mount goes on with it.
 */
#include "config.h"
#include "disk.h"
#include "rename.h"
#include "objstore/base/failpoint.h"
#include <dirent.h>

bool disk_wanted(struct fsd *f, const char *dir, const char *name)
{
	_cleanup_free_ char *path = NULL;

	if (!f->o.images || !f->o.images[0] || asprintf(&path, "%s%s", dir, name) < 0)
		return false;
	return path_glob_match(f->o.images, path);
}

/* --- made -------------------------------------------------------------------------------------------------------- */

static int note(struct fsd *f, const char *dir, const char *name, const struct nameobj *o, uint64_t ino,
		struct version *ret)
{
	_cleanup_free_ char *key_name = NULL;
	struct version v = { .size = o->bytes, .mtime_s = o->mtime_s ? o->mtime_s : o->date_s };

	memcpy(v.etag, o->etag, sizeof v.etag);
	*ret = v;
	if (asprintf(&key_name, "%s" IMAGE_SUFFIX, name) < 0)
		return -ENOMEM;
	v.mtime_s = o->mtime_s;
	return tree_note_object(f->o.tree, dir, key_name, false, &v, &o->h, ino, true, o->date_s, o->asked_ns);
}

int disk_create(struct fsd *f, const char *dir, const char *name, const struct attr *a, struct entry *ret,
		struct objerr *err)
{
	struct vol_create vc = { .fsync_remote = f->o.fsync_remote };
	_cleanup_free_ char *path = NULL, *key = NULL;
	struct image_new place;
	struct version v;
	struct vol_env env;
	struct nameobj o;
	int r;

	if (strlen(name) + strlen(IMAGE_SUFFIX) > PATH_NAME_MAX)
		return -ENAMETOOLONG;
	if (asprintf(&path, "%s%s", dir, name) < 0)
		return -ENOMEM;
	r = image_path_ok(path) ? disk_key(f, dir, name, &key) : -EINVAL; /* before there is a log without a name */
	if (r == 0)
		r = image_new_place(f->prefix, &place);
	if (r < 0)
		return r;
	disk_env(f, &env);
	r = image_create(&env, f->prefix, path, &place, &vc, a, &o, err);
	if (r < 0) {
		tree_forget(f->o.tree, dir);
		return r;
	}
	ignore(note(f, dir, name, &o, 0, &v));
	nameobj_free(&o);
	return tree_lookup(f->o.tree, dir, name, TREE_ATTRS, ret, err);
}

/* --- renamed ----------------------------------------------------------------------------------------------------- */

int disk_rename(struct fsd *f, struct inode *i, const char *sdir, const char *sname, const char *ddir,
		const char *dname, const uint8_t over[16], struct version *ret, struct objerr *err)
{
	_cleanup_free_ char *from = NULL, *to = NULL, *intent = NULL, *key_name = NULL;
	size_t n = strlen(f->prefix);
	struct obj_headers h = { 0 };
	struct nameobj o;
	bool waited;
	int r = disk_key(f, sdir, sname, &from);

	if (r == 0 && strlen(dname) + strlen(IMAGE_SUFFIX) > PATH_NAME_MAX)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = disk_key(f, ddir, dname, &to);
	if (r == 0 && !image_path_ok(to))
		r = -EINVAL;
	if (r == 0 && asprintf(&key_name, "%s" IMAGE_SUFFIX, sname) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = rename_intent_put(f, from + n, to + n, &intent, err);
	if (r < 0)
		return r;
	waited = metaq_take(f->o.metaq, sdir, key_name, false, &h) == 0;
	FAILPOINT("image.renaming");
	r = nameobj_move(f->o.store, from, to, waited ? &h : NULL, over, &o, err);
	if (r == -ENODATA || r == -ENOENT)
		r = -ESTALE;
	/* What failed half way is gone on with; what did not begin is over. */
	if (r == 0 || r == -ESTALE || r == -EEXIST || r == -EXDEV)
		ignore(obj_delete(f->o.store, intent, NULL, NULL));
	if (r < 0 && waited) {
		struct version v;

		mtx_lock(&i->lock);
		v = i->base;
		mtx_unlock(&i->lock);
		ignore(metaq_put(f->o.metaq, sdir, key_name, false, &v, &h, METAQ_SET_ALL));
	}
	obj_headers_free(&h);
	if (r < 0) {
		tree_forget(f->o.tree, sdir);
		tree_forget(f->o.tree, ddir);
		return r;
	}
	if (note(f, ddir, dname, &o, i->ino, ret) < 0)
		tree_forget(f->o.tree, ddir);
	tree_note_gone(f->o.tree, sdir, key_name, false);
	nameobj_free(&o);
	return 0;
}

/* --- removed ----------------------------------------------------------------------------------------------------- */

static void erase_job(struct job *job)
{
	struct disk *d = container_of(job, struct disk, job);
	struct fsd *f = d->f;
	struct objerr err = { 0 };
	struct vol_env env;
	int r;

	disk_env(f, &env);
	r = image_erase_left(&env, d->uuid, &err);
	if (r == 0) {
		disk_leave(f, d, NULL);
		return;
	}
	log_warn("%s: the log of this removed image could not be removed, the next mount goes on with it: %s", d->path,
		 err.msg[0] ? err.msg : strerror(-r));
	disk_leave(f, d, "removed, but its log is not");
}

int disk_doom(struct fsd *f, struct inode *i, const char *dir, const char *name, struct disk **ret, struct objerr *err)
{
	_cleanup_free_ char *key = NULL, *path = NULL;
	struct vol_env env;
	struct disk *d;
	int r = disk_key(f, dir, name, &key);

	if (r == 0 && asprintf(&path, "%s%s", dir, name) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = disk_enter(f, i->uuid, path, DISK_DELETING, &d);
	if (r < 0) {
		if (r == -EBUSY)
			objerr_set(err, "the image is in use here");
		return r;
	}
	disk_env(f, &env);
	r = disk_no_snapshots(f, i->uuid, err);
	if (r == 0)
		r = image_doom(&env, f->prefix, key, path, i->uuid, &d->prefix, err);
	if (r < 0) {
		disk_leave(f, d, NULL);
		tree_forget(f->o.tree, dir);
		return r;
	}
	FAILPOINT("image.doomed");
	*ret = d;
	return 0;
}

void disk_spare(struct fsd *f, struct disk *d)
{
	struct vol_env env;

	disk_env(f, &env);
	if (d->prefix)
		image_spare(&env, d->prefix, d->uuid);
	disk_leave(f, d, NULL);
}

int disk_bury(struct fsd *f, struct disk *d, struct objerr *err)
{
	FAILPOINT("image.burying");
	return d->prefix ? image_bury(f->o.store, d->prefix, err) : 0;
}

void disk_gone(struct fsd *f, struct disk *d, struct inode *i)
{
	inode_unlink_name(f, i);
	mtx_lock(&i->lock);
	i->unlinked = true;
	mtx_unlock(&i->lock);
	if (!d->prefix) {
		disk_leave(f, d, NULL);
		return;
	}
	FAILPOINT("image.gone");
	d->job.fn = erase_job;
	pool_submit(f->image_pool, &d->job);
}

int disk_remove_name(struct fsd *f, const char *dir, const char *name, struct objerr *err)
{
	_cleanup_free_ char *key_name = NULL;
	int r;

	if (asprintf(&key_name, "%s" IMAGE_SUFFIX, name) < 0)
		return -ENOMEM;
	ignore(metaq_take(f->o.metaq, dir, key_name, false, NULL));
	r = tree_unlink(f->o.tree, dir, key_name, err);
	if (r < 0)
		tree_forget(f->o.tree, dir);
	return r;
}

int disk_unlink(struct fsd *f, struct inode *i, const char *dir, const char *name, struct objerr *err)
{
	struct disk *d;
	int r = disk_doom(f, i, dir, name, &d, err);

	if (r < 0)
		return r;
	r = disk_bury(f, d, err);
	if (r < 0) {
		disk_leave(f, d, NULL); /* it may have been: the next mount looks */
		return r;
	}
	FAILPOINT("image.buried");
	r = disk_remove_name(f, dir, name, err);
	if (r < 0) {
		disk_leave(f, d, NULL);
		return r;
	}
	disk_gone(f, d, i);
	return 0;
}

/* --- left by a process that died ----------------------------------------------------------------------------------- */

static void drain_job(struct job *job)
{
	struct disk *d = container_of(job, struct disk, job);
	struct fsd *f = d->f;
	struct objerr err = { 0 };
	struct vol_env env;
	int r;

	disk_env(f, &env);
	r = vol_open(&env, d->prefix, d->uuid, &d->v, &err);
	if (r == 0) {
		r = vol_recover_here(d->v, &err);
		if (r >= 0) {
			disk_hand_over(f, d, r > 0);
			return;
		}
		ignore(vol_close(d->v));
	}
	log_warn("%s: what the last mount had not sent of this image is not in the bucket: %s", d->path,
		 err.msg[0] ? err.msg : strerror(-r));
	if (r == -ESTALE) /* set aside: there is nothing left to be sent */
		ignore(disk_note_clean(f, d->uuid, true));
	disk_leave(f, d, err.msg[0] ? err.msg : strerror(-r));
}

/* The name of a dead image, if the process died before it went. */
static void remove_dead_name(struct fsd *f, struct disk *d)
{
	_cleanup_free_ char *key = NULL;
	struct objerr err = { 0 };
	struct nameobj o;

	if (disk_key(f, "", d->path, &key) < 0 || nameobj_get(f->o.store, key, &o, &err) < 0)
		return;
	if (memcmp(o.n.uuid, d->uuid, 16) == 0)
		ignore(obj_delete(f->o.store, key, obj_caps(f->o.store) & OBJ_CAP_DELETE_COND ? o.etag : NULL, NULL));
	nameobj_free(&o);
}

/* Of an import by a command that died: without a name it goes. */
static void import_job(struct job *job)
{
	struct disk *d = container_of(job, struct disk, job);
	struct objerr err = { 0 };
	struct vol_env env;
	int r;

	disk_env(d->f, &env);
	r = image_drop_import(&env, d->f->prefix, d->uuid, &err);
	if (r < 0)
		log_warn("%s: an import that did not end could not be removed: %s", d->path, err.msg[0] ? err.msg : strerror(-r));
	disk_leave(d->f, d, r < 0 ? "what is left of an import that did not end" : NULL);
}

static void leftover(struct fsd *f, const uint8_t uuid[16])
{
	_cleanup_free_ char *prefix = NULL, *path = NULL, *clean = NULL, *deleting = NULL, *importing = NULL;
	struct objerr err = { 0 };
	struct vol_env env;
	struct disk *d;
	int r = image_read_where(f->o.image_dir, uuid, &prefix, &path);

	if (r == 0)
		r = disk_file(f, uuid, "clean", &clean);
	if (r == 0)
		r = disk_file(f, uuid, "deleting", &deleting);
	if (r == 0)
		r = disk_file(f, uuid, "importing", &importing);
	if (r < 0)
		return; /* it never came to writing */
	if (access(deleting, F_OK) == 0) {
		disk_env(f, &env);
		r = image_ended(&env, f->prefix, uuid, &err);
	}
	if (r < 0) { /* nothing is removed on a guess */
		log_warn("%s: whether this image was removed cannot be told now: %s", path,
			 err.msg[0] ? err.msg : strerror(-r));
		if (disk_enter(f, uuid, path, DISK_DELETING, &d) == 0)
			disk_leave(f, d, "its removal was begun; the next mount looks at it");
		return;
	}
	if (r > 0) {
		r = disk_enter(f, uuid, path, DISK_DELETING, &d);
		if (r < 0)
			return;
		remove_dead_name(f, d);
		d->job.fn = erase_job;
	} else if (access(importing, F_OK) == 0) {
		r = disk_enter(f, uuid, path, DISK_DELETING, &d);
		if (r < 0)
			return;
		d->job.fn = import_job;
	} else if (access(clean, F_OK) != 0) {
		r = disk_enter(f, uuid, path, "draining", &d);
		if (r < 0)
			return;
		d->recovered = true; /* before the mount is there: nobody looks */
		d->prefix = prefix;
		prefix = NULL;
		d->job.fn = drain_job;
	} else {
		return;
	}
	pool_submit(f->image_pool, &d->job);
}

void disks_leftovers(struct fsd *f)
{
	DIR *dir = f->o.read_only ? NULL : opendir(f->o.image_dir);
	struct dirent *de;
	uint8_t uuid[16];

	while (dir && (de = readdir(dir)))
		if (log_uuid_parse(de->d_name, uuid) == 0)
			leftover(f, uuid);
	if (dir)
		closedir(dir);
}
