/* SPDX-License-Identifier: GPL-3.0-or-later */
/* diskctl.c - what the control socket asks of an image: by its path, without a node or a handle. */
#include "config.h"
#include "disk.h"
#include "objstore/base/str.h"

#define FLATTEN_STEP (64 * MiB) /* then the command shows how far it is */

static int uuid_of(struct fsd *f, const char *path, struct nameobj *ret, struct nameplace *ret_place, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	struct nameobj o;
	int r = image_key(f->prefix, path, &key);

	if (r == 0)
		r = nameobj_get(f->o.store, key, &o, err);
	if (r < 0)
		return r == -ENODATA ? -ENOENT : r;
	if (ret_place)
		r = nameobj_place(f->o.store, f->prefix, key, &o.n, ret_place, err);
	if (r < 0)
		nameobj_free(&o);
	else
		*ret = o;
	return r;
}

/* Everything written so far is in the bucket. */
static int upload(struct fsd *f, const char *path, struct objerr *err)
{
	struct vol_stat st;
	struct nameobj o;
	struct disk *d;
	int r = uuid_of(f, path, &o, NULL, err);

	if (r < 0)
		return r;
	d = disk_borrow(f, o.n.uuid);
	nameobj_free(&o);
	if (!d)
		return 0;
	r = vol_upload(d->v);
	vol_stat(d->v, &st);
	if (r < 0)
		objerr_set(err, "%s", st.why[0] ? st.why : strerror(-r));
	disk_return(f, d);
	return r;
}

/* One that is open here is held already, or somebody waits for it: that is not for us to disturb. */
static int claim_open(struct disk *d, json_t *ans, struct objerr *err)
{
	struct vol_stat st;

	vol_stat(d->v, &st);
	if (st.state != VOL_OWNER) {
		objerr_set(err, "it is open on this mount: close it first");
		return -EBUSY;
	}
	json_object_set_new(ans, "epoch", json_integer((json_int_t)st.epoch));
	return 0;
}

static int claim(struct fsd *f, const char *path, json_t *ans, struct objerr *err)
{
	struct nameplace p = { 0 };
	struct vol_stat st = { 0 };
	struct vol_env env;
	struct nameobj o;
	struct disk *d;
	int r = uuid_of(f, path, &o, &p, err);

	if (r < 0)
		return r;
	d = disk_borrow(f, o.n.uuid);
	if (d) {
		r = claim_open(d, ans, err);
		disk_return(f, d);
	} else {
		r = disk_enter(f, o.n.uuid, path, "claiming", &d);
		if (r == 0) {
			disk_env(f, &env);
			env.takeover = VOL_TAKEOVER_ALWAYS;
			env.claim_wait_ns = 0;
			r = image_write(&env, p.prefix, path, o.n.uuid, image_just_claim, &st, err);
			disk_leave(f, d, NULL);
		}
		json_object_set_new(ans, "epoch", json_integer((json_int_t)st.epoch));
	}
	nameplace_free(&p);
	nameobj_free(&o);
	return r;
}

/* --- snapshots ---------------------------------------------------------------------------------------------------- */

struct snapping {
	const char *verb, *name;
	json_t *ans;
	struct objerr *err;
	uint64_t size, allocated, position; /* bytes, bytes, 0: by name */
};

/* One step of a clone that is made independent; name: which, or where to go on. The command keeps the image open. */
static int flatten(struct volume *v, struct snapping *s)
{
	uint64_t n = 0, at = 0;
	int r;

	if (strcmp(s->name, "end") == 0)
		return vol_flatten_end(v, s->err);
	if (strcmp(s->name, "begin") == 0) {
		r = vol_flatten_begin(v, &n, s->err);
	} else {
		r = str_parse_u64(s->name, &at);
		if (r == 0)
			r = vol_flatten_some(v, FLATTEN_STEP, &at, &n, s->err);
		json_object_set_new(s->ans, "at", json_integer(at == VOL_FLAT_ALL ? -1 : (json_int_t)at));
	}
	json_object_set_new(s->ans, "bytes", json_integer((json_int_t)n));
	return r;
}

/* For a volume that this thread may write. */
static int snap(struct volume *v, void *arg)
{
	struct snapping *s = arg;
	uint64_t number = 0;
	struct vol_stat st;
	char now[VOL_SNAP_NAME_MAX + 1];
	int r;

	if (strcmp(s->verb, "flatten") == 0)
		return flatten(v, s);
	if (strcmp(s->verb, "unsnap") == 0)
		return vol_unsnap(v, s->name, s->err);
	if (strcmp(s->verb, "rollback") == 0) {
		vol_snap_name_now(now);
		r = s->position ? vol_rollback_to(v, s->position, now, s->err) : vol_rollback(v, s->name, now, s->err);
		json_object_set_new(s->ans, "before", json_string(now));
		vol_stat(v, &st);
		s->size = st.size;
		s->allocated = st.allocated;
		json_object_set_new(s->ans, "size", json_integer((json_int_t)s->size));
		return r;
	}
	if (strcmp(s->verb, "retain") == 0) {
		r = str_parse_u64(s->name, &number);
		return r == 0 ? vol_retain(v, number, s->err) : r;
	}
	r = vol_snapshot(v, s->name, &number, s->err);
	json_object_set_new(s->ans, "number", json_integer((json_int_t)number));
	return r;
}

/* The name says both, for stat(2): of a node that is known here; else the command sees to it. */
static bool note_size(struct fsd *f, const char *path, uint64_t size, uint64_t allocated)
{
	struct inode *i = fsd_known_image(f, path);

	if (!i)
		return false;
	mtx_lock(&i->lock);
	i->image_size = size;
	i->image_alloc = allocated;
	i->attr.mtime = i->attr.ctime = clock_real_ts();
	i->image_changed = true;
	i->image_changes++;
	mtx_unlock(&i->lock);
	disk_save_meta(f, i);
	(void)fuse_lowlevel_notify_inval_inode(f->se, i->id, -1, 0); /* the kernel's attributes */
	inode_put(f, i);
	return true;
}

/* In the volume that is open here, beside its writers; or in one for just this. */
static int snap_here(struct fsd *f, struct disk *d, struct snapping *s)
{
	int r = disk_begin_write(f, d, s->err);

	if (r < 0)
		return r;
	r = snap(d->v, s);
	disk_end_write(f, d);
	return r;
}

/* Nobody may have the snapshot open that is to go; from here on nobody opens it. NULL: there is none, vol_unsnap() says so. */
static int snap_enter(struct fsd *f, const uint8_t uuid[16], const char *path, const char *name, struct disk **ret,
		      struct objerr *err)
{
	_cleanup_free_ char *key = NULL, *file = NULL;
	uint64_t number;
	int r = image_key(f->prefix, path, &key);

	if (r == 0 && asprintf(&file, "%s@%s", path, name) < 0)
		r = -ENOMEM;
	disk_snap_forget(f, uuid);
	if (r == 0)
		r = disk_snap_number(f, uuid, key, name, &number, NULL, err);
	if (r == 0)
		r = disk_enter_snapshot(f, uuid, number, file, DISK_DELETING, ret);
	if (r == -EBUSY)
		objerr_set(err, "it is open on this mount: close it first");
	return r == -ENOENT ? 0 : r;
}

static int snap_path(struct fsd *f, const char *path, struct snapping *s)
{
	bool back = strcmp(s->verb, "rollback") == 0;
	struct nameplace p = { 0 };
	struct vol_env env;
	struct nameobj o;
	struct disk *d;
	int r = uuid_of(f, path, &o, &p, s->err);

	if (r < 0)
		return r;
	d = back ? NULL : disk_borrow(f, o.n.uuid); /* nobody may have it open when it goes back */
	if (d) {
		r = snap_here(f, d, s);
		disk_return(f, d);
	} else if (p.copy) {
		objerr_set(s->err, "%s is a copy of the name of another image: read only", path);
		r = -EROFS;
	} else {
		r = disk_enter(f, o.n.uuid, path, s->verb, &d);
		if (r == 0) {
			disk_env(f, &env);
			r = image_write(&env, p.prefix, path, o.n.uuid, snap, s, s->err);
			disk_leave(f, d, NULL);
		} else if (r == -EBUSY) {
			objerr_set(s->err, "it is open on this mount: close it first");
		}
		if (r == 0 && back)
			json_object_set_new(s->ans, "noted", json_boolean(note_size(f, path, s->size, s->allocated)));
	}
	disk_snap_forget(f, o.n.uuid);
	nameplace_free(&p);
	nameobj_free(&o);
	return r;
}

static int unsnap_path(struct fsd *f, const char *path, struct snapping *s)
{
	struct disk *d = NULL;
	struct nameobj o;
	int r = uuid_of(f, path, &o, NULL, s->err);

	if (r < 0)
		return r;
	r = snap_enter(f, o.n.uuid, path, s->name, &d, s->err);
	if (r == 0)
		r = snap_path(f, path, s);
	disk_snap_forget(f, o.n.uuid);
	if (d)
		disk_leave(f, d, NULL);
	nameobj_free(&o);
	return r;
}

int fsd_image(struct fsd *f, const char *verb, const char *path, const char *name, json_t *ans, struct objerr *err)
{
	struct snapping s = { .verb = verb, .name = name, .ans = ans, .err = err };
	_cleanup_free_ char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!dir)
		return -ENOMEM;
	if (strcmp(verb, "forget") == 0) {
		dir[slash ? slash + 1 - dir : 0] = '\0';
		tree_forget(f->o.tree, dir);
		return 0;
	}
	if (strcmp(verb, "upload") == 0)
		return upload(f, path, err);
	if (strcmp(verb, "claim") == 0)
		return f->o.read_only ? -EROFS : claim(f, path, ans, err);
	if (name && strcmp(verb, "position") == 0) {
		s.verb = "rollback";
		if (str_parse_u64(name, &s.position) < 0 || s.position == 0)
			return -EINVAL;
		return f->o.read_only ? -EROFS : snap_path(f, path, &s);
	}
	if (name && strcmp(verb, "unsnap") == 0)
		return f->o.read_only ? -EROFS : unsnap_path(f, path, &s);
	if (name && (strcmp(verb, "snapshot") == 0 || strcmp(verb, "flatten") == 0 || strcmp(verb, "rollback") == 0 ||
		     strcmp(verb, "retain") == 0))
		return f->o.read_only ? -EROFS : snap_path(f, path, &s);
	return -EINVAL;
}
