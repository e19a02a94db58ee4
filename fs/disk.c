/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * disk.c - the table of images (disk.h has the states), and their marks in the state directory.
 *
 * Beside the journal of an image lie `where` (prefix of its log, its path) and `clean`. `clean` goes before the first
 * writable handle and comes when the image was released with all in the bucket: a mount that finds an image without it
 * brings the journal's bytes into the bucket (diskname.c), without anybody opening the image.
 */
#include "config.h"
#include "disk.h"
#include <sys/stat.h>

enum { CALLS = 256, VOLUMES = 512 };
#define RELEASE_WAIT_NS (2 * NSEC_PER_SEC)

void disk_env(struct fsd *f, struct vol_env *ret)
{
	*ret = (struct vol_env){
		.store = f->o.store,
		.budget = f->o.budget,
		.pool = f->vol_pool,
		.fetch = f->reads,
		.state_dir = f->o.image_dir,
		.host = f->o.host,
		.journal_bytes = f->o.journal_size,
		.segment_bytes = MIN(16 * MiB, f->o.journal_size / 4 / MiB * MiB),
		.claim_wait_ns = f->o.claim_wait_ns,
		.dirty_age_ns = f->o.dirty_age_ns,
		.retain_s = f->o.retain_s,
		.takeover = (enum vol_takeover)f->o.takeover,
		.read_only = f->o.read_only,
	};
}

static int reads_new(struct fsd *f)
{
	struct vol_reads o = { .store = f->o.store, .budget = f->o.budget, .pool = f->vol_pool,
			       .cache = f->o.block_path, .cache_bytes = f->o.cache_size };
	struct objerr err = { 0 };
	int r = vol_reads_new(&o, &f->reads, &err);

	if (r == 0 && err.msg[0])
		log_warn("%s", err.msg);
	return r;
}

int disks_init(struct fsd *f)
{
	int r;

	mtx_init(&f->disks_lock, RANK_HANDLE);
	cond_init(&f->disks_changed);
	list_init(&f->disks);
	list_init(&f->snaplists);
	r = pool_new("lsvdfs-img", CALLS, &f->image_pool);
	if (r == 0)
		/* Uploads give way to guests; a journal that fills slows these down (fs/image/throttle.h). */
		r = pool_new_nice("lsvdfs-vol", VOLUMES, &f->vol_pool);
	return r < 0 ? r : reads_new(f);
}

static void disk_free(struct disk *d)
{
	mtx_destroy(&d->files);
	free(d->path);
	free(d->prefix);
	free(d);
}

/* After the last request: what is still open (a mount that was taken away) is drained and released. */
void disks_done(struct fsd *f)
{
	pool_free(f->image_pool);
	list_for_each_safe(l, tmp, &f->disks) {
		struct disk *d = list_entry(l, struct disk, link);

		if (d->v && vol_close(d->v) == 0 && !d->snap)
			ignore(disk_note_clean(f, d->uuid, true));
		list_del(&d->link);
		disk_free(d);
	}
	disk_snaps_done(f);
	vol_reads_settle(f->reads);
	pool_free(f->vol_pool);
	cond_destroy(&f->disks_changed);
	mtx_destroy(&f->disks_lock);
}

/* --- files ------------------------------------------------------------------------------------------------------ */

int disk_file(struct fsd *f, const uint8_t uuid[16], const char *what, char **ret)
{
	return image_file(f->o.image_dir, uuid, what, ret);
}

int disk_note_clean(struct fsd *f, const uint8_t uuid[16], bool clean)
{
	return image_note_clean(f->o.image_dir, uuid, clean);
}

int disk_note_where(struct fsd *f, const uint8_t uuid[16], const char *prefix, const char *path)
{
	return image_note_where(f->o.image_dir, uuid, prefix, path);
}

/* Before the first I/O of the first writable handle. */
static int mark(struct fsd *f, struct disk *d)
{
	int r = 0;

	mtx_lock(&d->files);
	if (!d->marked) {
		_cleanup_free_ char *file = NULL;
		struct stat st;

		r = disk_file(f, d->uuid, "where", &file);
		d->was_clean = r == 0 && stat(file, &st) < 0 && errno == ENOENT; /* never written here */
		if (r == 0)
			r = disk_note_where(f, d->uuid, d->prefix, d->path);
		if (r == 0) {
			r = disk_note_clean(f, d->uuid, false);
			d->was_clean |= r == 0;
			r = r == -ENOENT ? 0 : r;
		}
		d->marked = r == 0;
	}
	mtx_unlock(&d->files);
	return r;
}

/* After the last writer's release. */
static void unmark(struct fsd *f, struct disk *d)
{
	struct vol_stat st;
	bool none;

	vol_stat(d->v, &st);
	mtx_lock(&d->files);
	mtx_lock(&f->disks_lock);
	none = d->writers == 0;
	mtx_unlock(&f->disks_lock);
	if (none && d->marked && st.state == VOL_FOLLOWER && (d->was_clean || st.released)) {
		d->marked = false;
		ignore(disk_note_clean(f, d->uuid, true));
	}
	mtx_unlock(&d->files);
}

/* --- the table --------------------------------------------------------------------------------------------------- */

int disk_key(struct fsd *f, const char *dir, const char *name, char **ret)
{
	struct str s = { 0 };

	str_addf(&s, "%s%s%s" IMAGE_SUFFIX, f->prefix, dir, name);
	if (!s.err && s.len > OBJ_KEY_MAX) {
		str_free(&s);
		return -ENAMETOOLONG;
	}
	return str_take(&s, ret);
}

/* snap: a snapshot's number, 0: the image itself. */
static struct disk *find_locked(struct fsd *f, const uint8_t uuid[16], uint64_t snap)
{
	list_for_each(l, &f->disks) {
		struct disk *d = list_entry(l, struct disk, link);

		if (d->snap == snap && memcmp(d->uuid, uuid, 16) == 0)
			return d;
	}
	return NULL;
}

static bool being_deleted(const struct disk *d)
{
	return d && d->state == DISK_BUSY && strcmp(d->doing, DISK_DELETING) == 0;
}

/*
 * Waits until nobody is busy with the image; or with the snapshot, and nobody deletes its image. NULL: nobody has it
 * open; what was left goes.
 */
static struct disk *settled_locked(struct fsd *f, const uint8_t uuid[16], uint64_t snap) REQUIRES(f->disks_lock)
{
	struct disk *d;

	while (((d = find_locked(f, uuid, snap)) && d->state == DISK_BUSY) ||
	       (!d && snap && being_deleted(find_locked(f, uuid, 0))))
		cond_wait(&f->disks_changed, &f->disks_lock);
	if (d && d->state == DISK_LEFT) {
		list_del(&d->link);
		disk_free(d);
		d = NULL;
	}
	return d;
}

static int add_locked(struct fsd *f, const uint8_t uuid[16], uint64_t snap, const char *path, const char *doing,
		      struct disk **ret)
{
	struct disk *d = calloc(1, sizeof *d);

	if (!d)
		return -ENOMEM;
	d->path = strdup(path);
	if (!d->path) {
		free(d);
		return -ENOMEM;
	}
	mtx_init(&d->files, RANK_MOUNT);
	memcpy(d->uuid, uuid, 16);
	d->snap = snap;
	d->f = f;
	d->state = DISK_BUSY;
	d->doing = doing;
	list_add_tail(&f->disks, &d->link);
	*ret = d;
	return 0;
}

int disk_enter_snapshot(struct fsd *f, const uint8_t uuid[16], uint64_t snap, const char *path, const char *doing,
			struct disk **ret)
{
	int64_t until = clock_now_ns() + RELEASE_WAIT_NS;
	struct disk *d;
	int r;

	mtx_lock(&f->disks_lock);
	/* close(2) does not wait for its RELEASE, and that one drains the image */
	while ((d = settled_locked(f, uuid, snap)) && (d->refs == d->leaving || clock_now_ns() < until))
		(void)cond_wait_until(&f->disks_changed, &f->disks_lock, clock_now_ns() + NSEC_PER_SEC / 4);
	r = d ? -EBUSY : add_locked(f, uuid, snap, path, doing, ret);
	mtx_unlock(&f->disks_lock);
	return r;
}

int disk_enter(struct fsd *f, const uint8_t uuid[16], const char *path, const char *doing, struct disk **ret)
{
	return disk_enter_snapshot(f, uuid, 0, path, doing, ret);
}

static struct disk *any_snapshot_locked(struct fsd *f, const uint8_t uuid[16])
{
	list_for_each(l, &f->disks) {
		struct disk *d = list_entry(l, struct disk, link);

		if (d->snap && memcmp(d->uuid, uuid, 16) == 0)
			return d;
	}
	return NULL;
}

int disk_no_snapshots(struct fsd *f, const uint8_t uuid[16], struct objerr *err)
{
	int64_t until = clock_now_ns() + RELEASE_WAIT_NS;
	struct disk *d;

	mtx_lock(&f->disks_lock);
	while ((d = any_snapshot_locked(f, uuid)) && (d->state == DISK_BUSY || clock_now_ns() < until))
		(void)cond_wait_until(&f->disks_changed, &f->disks_lock, clock_now_ns() + NSEC_PER_SEC / 4);
	if (d)
		objerr_set(err, "a snapshot of it is open here: %s", d->path);
	mtx_unlock(&f->disks_lock);
	return d ? -EBUSY : 0;
}

void disk_leave(struct fsd *f, struct disk *d, const char *why)
{
	mtx_lock(&f->disks_lock);
	d->v = NULL;
	if (why) {
		d->state = DISK_LEFT;
		d->recovered = false; /* whoever opens it now begins anew */
		(void)snprintf(d->why, sizeof d->why, "%s", why);
		d = NULL;
	} else {
		list_del(&d->link);
	}
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
	if (d)
		disk_free(d);
}

/* The list is looked at once more: it may have been deleted while we waited. key: of the image's name. */
static int open_snapshot(struct fsd *f, struct disk *d, const char *key, struct objerr *err)
{
	const char *at = strrchr(d->path, '@');
	struct vol_env env;
	uint64_t number;
	int r = disk_snap_number(f, d->uuid, key, at ? at + 1 : "", &number, &d->prefix, err);

	if (r == 0 && number != d->snap)
		r = -ENOENT;
	disk_env(f, &env);
	if (r == 0)
		r = vol_open_at(&env, d->prefix, d->uuid, number, &d->v, err);
	if (r == -ENOENT) /* the kernel asks for the name once more */
		disk_snap_forget(f, d->uuid);
	d->copy = true; /* nobody writes to it */
	return r == -ENOENT ? -ESTALE : r == -EUCLEAN ? -EIO : r;
}

/* The name is read once more: it says where the log is. */
static int look_at_name(struct fsd *f, const uint8_t uuid[16], const char *key, struct nameplace *ret, struct objerr *err)
{
	struct nameobj o;
	int r = nameobj_get(f->o.store, key, &o, err);

	if (r == -ENOENT || r == -ENODATA)
		return -ESTALE;
	if (r < 0)
		return r;
	r = memcmp(o.n.uuid, uuid, 16) == 0 ? 0 : -ESTALE;
	if (r == 0)
		r = nameobj_place(f->o.store, f->prefix, key, &o.n, ret, err);
	if (r == 0 && ret->dead) {
		objerr_set(err, "%s: the image was deleted; this name is a leftover", key);
		nameplace_free(ret);
		r = -EIO;
	}
	nameobj_free(&o);
	return r == -ENOENT || r == -EUCLEAN ? -EIO : r;
}

static int open_volume(struct fsd *f, struct disk *d, const char *key, struct objerr *err)
{
	struct nameplace p = { 0 };
	struct vol_env env;
	int r = look_at_name(f, d->uuid, key, &p, err);

	if (r < 0)
		return r;
	disk_env(f, &env);
	r = vol_open(&env, p.prefix, d->uuid, &d->v, err);
	if (r == -ENOENT)
		objerr_set(err, "%s: there is no log below %s", key, p.prefix);
	if (r == 0) {
		d->copy = p.copy;
		d->prefix = p.prefix;
		p.prefix = NULL;
	}
	nameplace_free(&p);
	return r == -ENOENT || r == -EUCLEAN ? -EIO : r;
}

/* --- what was recovered here is handed to who opens it ------------------------------------------------------------ */

/* The caller has it, or gave it up. */
static void arrived_locked(struct fsd *f, const uint8_t uuid[16])
{
	struct disk *d = find_locked(f, uuid, 0);

	if (!d || !d->recovered) /* the recovery failed: that entry has gone */
		return;
	d->coming--;
	cond_broadcast(&f->disks_changed);
}

/*
 * Before an image is opened. One that is being recovered stays as it is until arrived_locked(), if *ret_coming; its name is
 * read beside the recovery, which has only asked the state directory where the log is.
 */
static int come(struct fsd *f, const uint8_t uuid[16], const char *key, bool *ret_coming, struct objerr *err)
{
	struct nameplace p = { 0 };
	bool coming, look;
	struct disk *d;
	int r = 0;

	mtx_lock(&f->disks_lock);
	d = find_locked(f, uuid, 0);
	coming = d && d->recovered;
	look = coming && !d->named;
	if (coming)
		d->coming++;
	mtx_unlock(&f->disks_lock);
	if (look)
		r = look_at_name(f, uuid, key, &p, err);
	mtx_lock(&f->disks_lock);
	d = look && r == 0 ? settled_locked(f, uuid, 0) : NULL;
	if (d && d->recovered && strcmp(d->prefix, p.prefix) == 0) {
		d->copy = d->named ? d->copy : p.copy;
		d->named = true;
	} else if (coming && look) {
		/* Or a log elsewhere: that is to be opened, once nothing is left of this one. */
		arrived_locked(f, uuid);
		coming = false;
		while (r == 0 && (d = find_locked(f, uuid, 0)) && d->recovered)
			cond_wait(&f->disks_changed, &f->disks_lock);
	}
	mtx_unlock(&f->disks_lock);
	nameplace_free(&p);
	if (r == 0)
		*ret_coming = coming;
	return r;
}

/* ret_opened: it was read just now. */
static int get(struct fsd *f, struct inode *i, const char *path, const char *key, struct disk **ret, bool *ret_opened,
	       struct objerr *err)
{
	struct disk *d;
	int r = 0;

	mtx_lock(&f->disks_lock);
	d = settled_locked(f, i->uuid, i->snap);
	if (d)
		d->refs++;
	else
		r = add_locked(f, i->uuid, i->snap, path, "opening", &d);
	mtx_unlock(&f->disks_lock);
	if (r < 0)
		return r;
	*ret_opened = d->state != DISK_OPEN;
	if (!*ret_opened) { /* ours by the reference */
		*ret = d;
		return 0;
	}
	r = i->snap ? open_snapshot(f, d, key, err) : open_volume(f, d, key, err);
	if (r < 0) {
		disk_leave(f, d, NULL);
		return r;
	}
	mtx_lock(&f->disks_lock);
	d->state = DISK_OPEN;
	d->refs = 1;
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
	*ret = d;
	return 0;
}

/* From here on this user only waits for what he leaves behind. */
static void leaving(struct fsd *f, struct disk *d, bool writer)
{
	mtx_lock(&f->disks_lock);
	d->leaving++;
	d->writers -= writer;
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
}

static void put(struct fsd *f, struct disk *d)
{
	bool last;
	int r;

	mtx_lock(&f->disks_lock);
	d->leaving--;
	last = --d->refs == 0;
	if (last) {
		d->state = DISK_BUSY;
		d->doing = "closing";
	}
	mtx_unlock(&f->disks_lock);
	if (!last)
		return;
	r = vol_close(d->v);
	d->v = NULL;
	if (r < 0 && d->marked) {
		log_error("%s: not everything that was written to this image is in the bucket; its journal stays "
			  "(lsvdfs image journal)", d->path);
		disk_leave(f, d, "closed after an error; its journal may hold what the bucket does not have");
	} else {
		disk_leave(f, d, NULL);
	}
}

struct disk *disk_borrow(struct fsd *f, const uint8_t uuid[16])
{
	struct disk *d;

	mtx_lock(&f->disks_lock);
	d = settled_locked(f, uuid, 0);
	if (d)
		d->refs++;
	mtx_unlock(&f->disks_lock);
	return d;
}

struct disk *disk_borrow_owned(struct fsd *f, const uint8_t uuid[16])
{
	struct vol_stat st;
	struct disk *d;

	mtx_lock(&f->disks_lock);
	d = find_locked(f, uuid, 0);
	if (d && d->state == DISK_OPEN)
		vol_stat(d->v, &st);
	if (d && (d->state != DISK_OPEN || st.state != VOL_OWNER))
		d = NULL;
	if (d)
		d->refs++;
	mtx_unlock(&f->disks_lock);
	return d;
}

void disk_return(struct fsd *f, struct disk *d)
{
	leaving(f, d, false);
	put(f, d);
}

/* --- users ------------------------------------------------------------------------------------------------------- */

int disk_begin_write(struct fsd *f, struct disk *d, struct objerr *err)
{
	int r;

	if (d->copy) {
		objerr_set(err, "%s is a copy of the name of another image: read only", d->path);
		return -EROFS;
	}
	mtx_lock(&f->disks_lock);
	d->writers++;
	mtx_unlock(&f->disks_lock);
	r = mark(f, d);
	if (r == 0) {
		vol_begin_write(d->v);
		return 0;
	}
	objerr_set(err, "%s: %s", f->o.image_dir, strerror(-r));
	mtx_lock(&f->disks_lock);
	d->writers--;
	mtx_unlock(&f->disks_lock);
	return r;
}

/* Returns whether it was the last one. The caller is counted as leaving already, or stays. */
static bool end_write(struct fsd *f, struct disk *d)
{
	bool last;

	mtx_lock(&f->disks_lock);
	last = d->writers == 0;
	mtx_unlock(&f->disks_lock);
	if (vol_end_write(d->v) < 0)
		log_error("%s: not everything that was written is in the bucket", d->path);
	if (last)
		unmark(f, d);
	return last;
}

void disk_end_write(struct fsd *f, struct disk *d)
{
	mtx_lock(&f->disks_lock);
	d->writers--;
	mtx_unlock(&f->disks_lock);
	(void)end_write(f, d);
}

void disk_hand_over(struct fsd *f, struct disk *d, bool owner)
{
	if (owner)
		vol_begin_write(d->v);
	mtx_lock(&d->files);
	d->marked = true;
	mtx_unlock(&d->files);
	mtx_lock(&f->disks_lock);
	d->state = DISK_OPEN;
	d->refs = d->leaving = 1;
	f->disk_releases++;
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
	if (vol_upload(d->v) == 0) {
		log_info("%s: what the last mount had not sent of this image is in the bucket", d->path);
		mtx_lock(&d->files);
		d->was_clean = true;
		mtx_unlock(&d->files);
	}
	mtx_lock(&f->disks_lock);
	while (d->coming > 0)
		cond_wait(&f->disks_changed, &f->disks_lock);
	mtx_unlock(&f->disks_lock);
	if (owner)
		(void)end_write(f, d);
	else
		unmark(f, d);
	put(f, d);
	mtx_lock(&f->disks_lock);
	f->disk_releases--;
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
}

static int hold(struct fsd *f, struct inode *i, const char *path, const char *key, bool writer, struct disk **ret,
		struct objerr *err)
{
	bool opened, coming = false;
	struct disk *d = NULL;
	int r = i->snap ? 0 : come(f, i->uuid, key, &coming, err);

	if (r < 0)
		return r;
	r = get(f, i, path, key, &d, &opened, err);
	if (r == 0 && writer)
		r = disk_begin_write(f, d, err);
	else if (r == 0 && !opened)
		r = vol_refresh(d->v);
	mtx_lock(&f->disks_lock);
	if (coming)
		arrived_locked(f, i->uuid);
	mtx_unlock(&f->disks_lock);
	if (r < 0) {
		if (d) {
			leaving(f, d, false);
			put(f, d);
		}
		return r;
	}
	mtx_lock(&f->inodes);
	mtx_lock(&i->lock);
	i->disk = d;
	if (i->ndisk++ == 0)
		list_add_tail(&f->attached, &i->attached);
	mtx_unlock(&i->lock);
	mtx_unlock(&f->inodes);
	*ret = d;
	return 0;
}

static int snap_image_key(struct fsd *f, const char *dir, const char *name, char **ret)
{
	_cleanup_free_ char *image = strdup(name);
	char *at = image ? strrchr(image, '@') : NULL;

	if (!at)
		return image ? -ESTALE : -ENOMEM;
	*at = '\0';
	return disk_key(f, dir, image, ret);
}

int disk_hold(struct fsd *f, struct inode *i, bool writer, struct disk **ret, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL, *key = NULL, *path = NULL;
	struct guard g;
	int r = guard_enter_inode(f, &g, i, &dir, &name); /* its name does not move while it is read */

	if (r < 0)
		return -ESTALE;
	if (i->snap && writer)
		r = -EROFS;
	else
		r = i->snap ? snap_image_key(f, dir, name, &key) : disk_key(f, dir, name, &key);
	if (r == 0 && asprintf(&path, "%s%s", dir, name) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = hold(f, i, path, key, writer, ret, err);
	if (r == -ESTALE) {
		tree_forget(f->o.tree, dir);
		inode_unlink_name(f, i);
	}
	guard_leave(f, &g);
	return r;
}

void disk_drop(struct fsd *f, struct inode *i, struct disk *d, bool writer)
{
	bool last_writer = false, changed;
	struct vol_stat st;

	leaving(f, d, writer);
	if (writer)
		last_writer = end_write(f, d);
	vol_stat(d->v, &st);
	mtx_lock(&f->inodes);
	mtx_lock(&i->lock);
	if (!i->snap) {
		i->image_size = st.size;
		i->image_alloc = st.allocated;
	}
	if (--i->ndisk == 0) {
		i->disk = NULL;
		list_del(&i->attached);
	}
	changed = i->image_changed && last_writer;
	mtx_unlock(&i->lock);
	mtx_unlock(&f->inodes);
	put(f, d);
	if (changed) /* who removes the name holds the operation that this needs, and waits for the above */
		disk_save_meta(f, i);
}

void disk_size_locked(struct inode *i, uint64_t *ret_size, uint64_t *ret_allocated)
{
	struct vol_stat st;

	*ret_size = i->image_size;
	*ret_allocated = i->image_alloc;
	if (!i->disk || i->snap)
		return;
	vol_stat(i->disk->v, &st);
	*ret_size = st.size;
	*ret_allocated = st.allocated;
}

/* --- the mount --------------------------------------------------------------------------------------------------- */

int disks_wait(struct fsd *f)
{
	bool busy;

	mtx_lock(&f->disks_lock);
	do {
		busy = f->disk_releases > 0;
		list_for_each(l, &f->disks)
			busy |= list_entry(l, struct disk, link)->state == DISK_BUSY;
		if (busy)
			cond_wait(&f->disks_changed, &f->disks_lock);
	} while (busy);
	mtx_unlock(&f->disks_lock);
	return 0;
}

void fsd_leftovers(struct fsd *f)
{
	disks_leftovers(f);
}

void fsd_end_images(struct fsd *f)
{
	disks_done(f);
}

static const char *const state_word[] = {
	[VOL_FOLLOWER] = "follower", [VOL_OWNER] = "owner", [VOL_RELEASING] = "releasing",
	[VOL_FENCED] = "fenced", [VOL_FAILED] = "failed",
};

static json_t *one_status(struct disk *d)
{
	char uuid[33];
	struct vol_stat st = { 0 };
	const char *state = d->state == DISK_LEFT ? "waiting" : d->doing, *why = d->why;
	char path[300];

	log_uuid_format(d->uuid, uuid);
	(void)snprintf(path, sizeof path, "%s", d->path);
	str_make_printable(path);
	if (d->state == DISK_OPEN) {
		vol_stat(d->v, &st);
		state = state_word[st.state];
		why = st.why;
	}
	if (d->snap && d->state == DISK_OPEN)
		state = "snapshot";
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:i, s:s, s:I}", "path", path, "uuid", uuid, "state",
			 state, "size", (json_int_t)st.size, "allocated", (json_int_t)st.allocated, "stored",
			 (json_int_t)st.stored, "epoch", (json_int_t)st.epoch, "journal_used", (json_int_t)st.journal_used,
			 "journal_limit", (json_int_t)st.journal_limit, "fsync", st.fsync_remote ? "remote" : "local",
			 "writers", (int)d->writers, "why", why, "snapshot", (json_int_t)d->snap);
}

json_t *disks_status(struct fsd *f)
{
	json_t *v = json_array();

	mtx_lock(&f->disks_lock);
	list_for_each(l, &f->disks)
		json_array_append_new(v, one_status(list_entry(l, struct disk, link)));
	mtx_unlock(&f->disks_lock);
	return v;
}

json_t *disks_reads_status(struct fsd *f)
{
	struct vol_reads_stat st;

	vol_reads_stat(f->reads, &st);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "gets", (json_int_t)st.gets, "read_ahead",
			 (json_int_t)st.ahead, "memory", (json_int_t)st.memory, "cache_limit", (json_int_t)st.cache_limit,
			 "cache_used", (json_int_t)st.cache_used, "cache_hits", (json_int_t)st.cache_hits, "cache_misses",
			 (json_int_t)st.cache_misses, "cache_damaged", (json_int_t)st.cache_damaged, "cache_errors",
			 (json_int_t)st.cache_errors);
}
