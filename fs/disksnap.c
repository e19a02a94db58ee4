/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * disksnap.c - IMAGE@NAME on the mount: a snapshot as a file to be read, which no listing shows.
 *
 * A name that nothing in its directory has, whose part before the last '@' is an image there and the rest the name of one
 * of its snapshots, is a node of its own (inode.snap). Its bytes never change, so the kernel may keep its pages; whether
 * it is there is asked each time.
 *
 * What snapshots an image has is known for attr_timeout, in one list an image: of an image that is written here by its
 * volume, without a request, else by one that looks at the log. Numbers are never used twice: what is known of one stays true. How
 * much a snapshot allocates does not stand in its record: the first stat(2) reads its map once.
 */
#include "config.h"
#include "disk.h"

enum { LISTS = 32 };

struct known {
	struct vol_snap s;
	uint64_t allocated; /* bytes, when measured */
	bool measured;
};

struct snaplist {
	struct list link; /* fsd.snaplists, the last used last */
	uint8_t uuid[16];
	/* under fsd.disks_lock */
	bool busy; /* somebody uses what follows */
	unsigned forgotten;
	int64_t asked_ns; /* INT64_MIN: it is to be asked anew */
	/* of who is busy with it */
	char *prefix; /* of the log; NULL: not known yet */
	struct volume *of; /* looks at the log, once it was asked for */
	struct known *v;
	size_t n;
};

/* Where the snapshot's name begins; NULL: it cannot be one. */
static const char *snap_part(const char *name)
{
	const char *at = strrchr(name, '@');

	return at && at > name && vol_snap_name_ok(at + 1) ? at + 1 : NULL;
}

bool disk_snap_name(const char *name)
{
	return snap_part(name) != NULL;
}

/* --- lists -------------------------------------------------------------------------------------------------------- */

static void forget_log(struct snaplist *l)
{
	if (l->of)
		ignore(vol_close(l->of)); /* nothing was written */
	l->of = NULL;
	free(l->prefix);
	l->prefix = NULL;
}

static void list_free(struct snaplist *l)
{
	forget_log(l);
	free(l->v);
	free(l);
}

void disk_snaps_done(struct fsd *f)
{
	list_for_each_safe(it, tmp, &f->snaplists)
		list_free(list_entry(it, struct snaplist, link));
	list_init(&f->snaplists);
}

static struct snaplist *find_list_locked(struct fsd *f, const uint8_t uuid[16])
{
	list_for_each(it, &f->snaplists) {
		struct snaplist *l = list_entry(it, struct snaplist, link);

		if (memcmp(l->uuid, uuid, 16) == 0)
			return l;
	}
	return NULL;
}

/* The oldest one that nobody uses, when there are many: to be freed. */
static struct snaplist *too_many_locked(struct fsd *f)
{
	struct snaplist *oldest = NULL;
	unsigned n = 0;

	list_for_each(it, &f->snaplists) {
		struct snaplist *l = list_entry(it, struct snaplist, link);

		n++;
		if (!oldest && !l->busy)
			oldest = l;
	}
	if (n < LISTS || !oldest)
		return NULL;
	list_del(&oldest->link);
	return oldest;
}

static int enter_list(struct fsd *f, const uint8_t uuid[16], struct snaplist **ret, unsigned *ret_forgotten)
{
	struct snaplist *l, *old = NULL;

	mtx_lock(&f->disks_lock);
	while ((l = find_list_locked(f, uuid)) && l->busy)
		cond_wait(&f->disks_changed, &f->disks_lock);
	if (l) {
		list_del(&l->link);
	} else {
		old = too_many_locked(f);
		l = calloc(1, sizeof *l);
	}
	if (l) {
		if (!l->v)
			l->asked_ns = INT64_MIN;
		memcpy(l->uuid, uuid, 16);
		l->busy = true;
		*ret_forgotten = l->forgotten;
		list_add_tail(&f->snaplists, &l->link);
		*ret = l;
	}
	mtx_unlock(&f->disks_lock);
	if (old)
		list_free(old);
	return l ? 0 : -ENOMEM;
}

/* asked_ns: the list was read then, and stays; INT64_MIN: it is not to be believed. */
static void leave_list(struct fsd *f, struct snaplist *l, unsigned forgotten, int64_t asked_ns)
{
	mtx_lock(&f->disks_lock);
	l->busy = false;
	l->asked_ns = l->forgotten == forgotten ? asked_ns : INT64_MIN;
	cond_broadcast(&f->disks_changed);
	mtx_unlock(&f->disks_lock);
}

void disk_snap_forget(struct fsd *f, const uint8_t uuid[16])
{
	struct snaplist *l;

	mtx_lock(&f->disks_lock);
	l = find_list_locked(f, uuid);
	if (l) {
		l->forgotten++;
		l->asked_ns = INT64_MIN;
	}
	mtx_unlock(&f->disks_lock);
}

/* Where the log is; the image may have gone. */
static int find_log(struct fsd *f, struct snaplist *l, const char *key, struct objerr *err)
{
	struct nameplace p = { 0 };
	struct nameobj o;
	int r = nameobj_get(f->o.store, key, &o, err);

	if (r < 0)
		return r == -ENODATA ? -ENOENT : r;
	r = memcmp(o.n.uuid, l->uuid, 16) == 0 ? 0 : -ENOENT;
	if (r == 0)
		r = nameobj_place(f->o.store, f->prefix, key, &o.n, &p, err);
	if (r == 0 && p.dead)
		r = -ENOENT;
	if (r == 0) {
		l->prefix = p.prefix;
		p.prefix = NULL;
	}
	nameplace_free(&p);
	nameobj_free(&o);
	return r;
}

/* What is known of them stays known. */
static int take_answer(struct snaplist *l, const struct vol_snap *s, size_t n)
{
	struct known *v = calloc(n + 1, sizeof *v);

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		v[i].s = s[i];
		for (size_t k = 0; k < l->n; k++)
			if (l->v[k].s.number == s[i].number) {
				v[i].allocated = l->v[k].allocated;
				v[i].measured = l->v[k].measured;
			}
	}
	free(l->v);
	l->v = v;
	l->n = n;
	return 0;
}

static int ask_log(struct fsd *f, struct snaplist *l, struct vol_snap **ret, size_t *ret_n, struct objerr *err)
{
	struct vol_env env;
	int r = 0;

	disk_env(f, &env);
	if (!l->of)
		r = vol_open_list(&env, l->prefix, l->uuid, &l->of);
	return r < 0 ? r : vol_snapshots(l->of, ret, ret_n, err);
}

static int ask(struct fsd *f, struct snaplist *l, const char *key, struct objerr *err)
{
	struct vol_snap *s = NULL;
	struct disk *d;
	size_t n = 0;
	int r = l->prefix ? 0 : find_log(f, l, key, err);

	if (r < 0)
		return r;
	d = disk_borrow_owned(f, l->uuid);
	r = d ? vol_snapshots(d->v, &s, &n, err) : -EAGAIN;
	if (d)
		disk_return(f, d);
	if (r < 0) /* not ours, or not any more: as any other machine */
		r = ask_log(f, l, &s, &n, err);
	if (r == 0)
		r = take_answer(l, s, n);
	free(s);
	if (r == -ENOENT) /* the image is gone */
		forget_log(l);
	return r;
}

static int measure(struct fsd *f, const struct snaplist *l, struct known *k, struct objerr *err)
{
	struct vol_stat st;
	struct vol_env env;
	struct volume *v;
	int r;

	if (k->measured)
		return 0;
	disk_env(f, &env);
	r = vol_open_at(&env, l->prefix, l->uuid, k->s.number, &v, err);
	if (r < 0)
		return r;
	vol_stat(v, &st);
	ignore(vol_close(v)); /* nothing was written */
	k->allocated = st.allocated;
	k->measured = true;
	return 0;
}

static int read_list(struct fsd *f, struct snaplist *l, const char *key, int64_t *io_asked_ns, struct objerr *err)
{
	int64_t now = clock_now_ns();
	int r;

	if (*io_asked_ns != INT64_MIN && now - *io_asked_ns < f->o.attr_timeout_ns)
		return 0;
	*io_asked_ns = INT64_MIN;
	r = ask(f, l, key, err);
	if (r == 0)
		*io_asked_ns = now;
	return r;
}

/* ret_prefix may be NULL. -EIO for what is damaged. */
static int look(struct fsd *f, const uint8_t uuid[16], const char *key, const char *name, bool measured,
		struct known *ret, char **ret_prefix, int64_t *ret_asked_ns, struct objerr *err)
{
	struct snaplist *l = NULL;
	struct known *k = NULL;
	unsigned forgotten;
	int64_t asked;
	int r = enter_list(f, uuid, &l, &forgotten);

	if (r < 0)
		return r;
	asked = l->asked_ns; /* forgotten meanwhile: that is for who comes next */
	r = read_list(f, l, key, &asked, err);
	for (size_t i = 0; r == 0 && i < l->n; i++)
		if (!l->v[i].s.hidden && strcmp(l->v[i].s.name, name) == 0)
			k = &l->v[i];
	if (r == 0 && !k)
		r = -ENOENT;
	if (r == 0 && measured) {
		r = measure(f, l, k, err);
		if (r < 0)
			asked = INT64_MIN; /* it may have gone since */
	}
	if (r == 0 && ret_prefix) {
		*ret_prefix = strdup(l->prefix);
		r = *ret_prefix ? 0 : -ENOMEM;
	}
	if (r == 0) {
		*ret = *k;
		*ret_asked_ns = asked;
	}
	leave_list(f, l, forgotten, asked);
	return r == -EUCLEAN ? -EIO : r;
}

int disk_snap_number(struct fsd *f, const uint8_t uuid[16], const char *key, const char *name, uint64_t *ret_number,
		     char **ret_prefix, struct objerr *err)
{
	struct known k;
	int64_t asked;
	int r = look(f, uuid, key, name, false, &k, ret_prefix, &asked, err);

	if (r == 0)
		*ret_number = k.s.number;
	return r;
}

/* --- nodes -------------------------------------------------------------------------------------------------------- */

/* What the name means now. */
static int find(struct fsd *f, const char *dir, const char *name, unsigned flags, struct snapnode *ret,
		struct objerr *err)
{
	const char *part = snap_part(name);
	_cleanup_free_ char *image = part ? strndup(name, (size_t)(part - name - 1)) : NULL;
	_cleanup_free_ char *key = NULL;
	struct entry e = { 0 };
	struct known k = { 0 };
	int64_t asked = 0;
	int r = part ? 0 : -ENOENT;

	if (r == 0 && !image)
		r = -ENOMEM;
	if (r == 0 && path_check_shown(image) < 0)
		r = -ENOENT;
	if (r == 0)
		r = dir_lookup(f, dir, image, flags | TREE_ATTRS, &e, err);
	if (r == 0 && !e.image)
		r = -ENOENT;
	if (r == 0)
		r = disk_key(f, dir, image, &key);
	if (r == 0)
		r = look(f, e.uuid, key, part, true, &k, NULL, &asked, err);
	if (r == 0) {
		*ret = (struct snapnode){ .number = k.s.number, .size = k.s.size, .allocated = k.allocated, .attr = e.attr };
		memcpy(ret->uuid, e.uuid, sizeof ret->uuid);
		ret->attr.mode &= ~(mode_t)0222;
		ret->attr.mtime = ret->attr.ctime = ret->attr.atime = (struct timespec){ .tv_sec = (time_t)k.s.time };
		ret->asked_ns = MIN(asked, e.asked_ns);
	}
	entry_done(&e);
	return r == -EPERM || r == -ENAMETOOLONG ? -ENOENT : r;
}

int disk_snap_find(struct fsd *f, struct inode *parent, const char *dir, const char *name, unsigned flags, bool kernel,
		   struct inode **ret, struct objerr *err)
{
	struct snapnode s;
	int r = find(f, dir, name, flags, &s, err);

	return r < 0 ? r : inode_for_snapshot(f, parent, name, &s, kernel, ret);
}

int disk_snap_refresh(struct fsd *f, struct inode *i, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	struct snapnode s;
	bool open;
	int r;

	mtx_lock(&i->lock);
	open = i->nopen > 0;
	mtx_unlock(&i->lock);
	if (open) /* who has it open has what he opened, under whatever name, and whether the store answers or not */
		return 0;
	r = inode_path(f, i, &dir, &name);
	if (r == 0)
		r = find(f, dir, name, 0, &s, err);
	if (r == -ENOENT || (r == 0 && (s.number != i->snap || memcmp(s.uuid, i->uuid, sizeof s.uuid) != 0)))
		return -ESTALE; /* the kernel walks again */
	mtx_lock(&i->lock);
	if (r == 0 && s.asked_ns >= i->asked_ns) {
		i->attr = s.attr;
		i->asked_ns = s.asked_ns;
	}
	mtx_unlock(&i->lock);
	return r;
}
