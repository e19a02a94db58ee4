/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The file system object: birth, handles, drain, status, death. */
#include "disk.h"

int fsd_new(const struct fsd_opts *o, struct fsd **ret)
{
	struct fsd *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return -ENOMEM;
	f->o = *o;
	f->prefix = strdup(o->prefix);
	f->excl = strdup(o->excl ? o->excl : "");
	if (!f->prefix || !f->excl) {
		r = -ENOMEM;
		goto fail;
	}
	f->o.prefix = f->prefix;
	f->o.excl = f->excl;
	f->next_fh = 1;
	mtx_init(&f->guards_lock, RANK_RENAME);
	cond_init(&f->guards_free);
	list_init(&f->guards);
	mtx_init(&f->handles_lock, RANK_HANDLE);
	chunks_init(f);
	async_init(f);
	r = htab_init(&f->handles);
	if (r < 0)
		goto fail;
	r = inodes_init(f);
	if (r < 0) {
		inodes_done(f);
		htab_done(&f->handles);
		goto fail;
	}
	r = disks_init(f);
	if (r < 0) {
		disks_done(f);
		vol_reads_free(f->reads);
		inodes_done(f);
		htab_done(&f->handles);
		goto fail;
	}
	budget_set_reclaim(o->budget, chunks_reclaim, f);
	*ret = f;
	return 0;
fail:
	free(f->prefix);
	free(f->excl);
	free(f);
	return r;
}

void fsd_attach(struct fsd *f, struct fuse_session *se)
{
	f->se = se;
}

static void forget_handle(struct hnode *n, void *arg)
{
	struct handle *h = container_of(n, struct handle, hn);

	(void)arg;
	dirsnap_free(h->snap);
	mtx_destroy(&h->dlock);
	free(h);
}

void fsd_stop(struct fsd *f)
{
	async_stop(f);
}

void fsd_free(struct fsd *f)
{
	if (!f)
		return;
	chunks_wait(f);
	budget_set_reclaim(f->o.budget, NULL, NULL);
	vol_reads_free(f->reads);
	htab_each(&f->handles, forget_handle, NULL);
	htab_done(&f->handles);
	inodes_done(f);
	mtx_destroy(&f->chunks);
	cond_destroy(&f->chunk_done);
	mtx_destroy(&f->handles_lock);
	mtx_destroy(&f->guards_lock);
	cond_destroy(&f->guards_free);
	free(f->prefix);
	free(f->excl);
	free(f);
}

/* --- handles ------------------------------------------------------------------------------------------------------ */

int fsd_proc_read(pid_t tid, const char *file, char *buf, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)tid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n <= 0)
		return n < 0 ? -errno : -ENODATA;
	buf[n] = 0;
	return 0;
}

pid_t fsd_tgid(pid_t tid)
{
	char buf[1024], *p;
	int tgid;

	if (fsd_proc_read(tid, "status", buf, sizeof buf) < 0)
		return tid;
	p = strstr(buf, "\nTgid:");
	return p && sscanf(p, "\nTgid: %d", &tgid) == 1 ? (pid_t)tgid : tid;
}

int handle_new(struct fsd *f, struct inode *take_i, int flags, pid_t opener, struct handle **ret)
{
	struct handle *h = calloc(1, sizeof *h);

	if (!h)
		return -ENOMEM;
	h->inode = take_i;
	h->flags = flags;
	h->opener = opener;
	h->opener_tgid = (flags & O_ACCMODE) != O_RDONLY ? fsd_tgid(opener) : 0;
	h->refs = 1;
	mtx_init(&h->dlock, RANK_MOUNT); /* lowest: a listing takes all others below it */
	mtx_lock(&f->handles_lock);
	h->fh = f->next_fh++;
	htab_add(&f->handles, &h->hn, hash_u64(h->fh));
	mtx_unlock(&f->handles_lock);
	*ret = h;
	return 0;
}

struct handle *handle_get(struct fsd *f, uint64_t fh)
{
	struct handle *h = NULL;

	mtx_lock(&f->handles_lock);
	for (struct hnode *n = htab_first(&f->handles, hash_u64(fh)); n; n = htab_next(n)) {
		h = container_of(n, struct handle, hn);
		if (h->fh == fh) {
			h->refs++;
			break;
		}
		h = NULL;
	}
	mtx_unlock(&f->handles_lock);
	return h;
}

void handle_put(struct fsd *f, struct handle *h)
{
	bool last;

	mtx_lock(&f->handles_lock);
	last = --h->refs == 0;
	if (last)
		htab_del(&f->handles, &h->hn);
	mtx_unlock(&f->handles_lock);
	if (!last)
		return;
	inode_put(f, h->inode);
	dirsnap_free(h->snap);
	mtx_destroy(&h->dlock);
	free(h);
}

/* --- everything into the bucket ----------------------------------------------------------------------------------- */

int fsd_drain(struct fsd *f, struct objerr *err)
{
	struct inode **v = NULL;
	size_t n = 0;
	int first = 0, r;

	mtx_lock(&f->inodes);
	list_for_each(l, &f->local)
		n++;
	v = calloc(n ? n : 1, sizeof *v);
	n = 0;
	if (v)
		list_for_each(l, &f->local) {
			v[n] = list_entry(l, struct inode, local);
			v[n++]->refs++;
		}
	mtx_unlock(&f->inodes);
	if (!v)
		return -ENOMEM;
	for (size_t k = 0; k < n; k++) {
		struct objerr e = { 0 };

		r = file_commit(f, v[k], 0, &e);
		if (r < 0 && first == 0) {
			first = r;
			*err = e;
		}
		inode_put(f, v[k]);
	}
	free(v);
	r = disks_wait(f);
	if (r < 0 && first == 0)
		first = r;
	if (f->o.metaq) {
		struct objerr e = { 0 };

		r = metaq_sync_below(f->o.metaq, "", &e);
		if (r < 0 && first == 0) {
			first = r;
			*err = e;
		}
	}
	return first;
}

void fsd_status(struct fsd *f, json_t *obj)
{
	size_t nodes, handles, dirty = 0;

	mtx_lock(&f->inodes);
	nodes = f->by_id.n;
	list_for_each(l, &f->local) {
		struct inode *i = list_entry(l, struct inode, local);

		mtx_lock(&i->lock);
		dirty += i->sp && spfile_dirty(i->sp);
		mtx_unlock(&i->lock);
	}
	mtx_unlock(&f->inodes);
	mtx_lock(&f->handles_lock);
	handles = f->handles.n;
	mtx_unlock(&f->handles_lock);
	json_object_set_new(obj, "nodes", json_integer((json_int_t)nodes));
	json_object_set_new(obj, "handles", json_integer((json_int_t)handles));
	json_object_set_new(obj, "dirty_files", json_integer((json_int_t)dirty));
	json_object_set_new(obj, "waiting_metadata", json_integer(f->o.metaq ? (json_int_t)metaq_count(f->o.metaq) : 0));
	json_object_set_new(obj, "conflicts", json_integer((json_int_t)atomic_load(&f->n_conflicts)));
	json_object_set_new(obj, "images", disks_status(f));
	json_object_set_new(obj, "image_reads", disks_reads_status(f));
	json_object_set_new(obj, "stale_opens", json_integer((json_int_t)atomic_load(&f->n_stale_opens)));
}

/* The node of an image by its key's name. */
static struct inode *image_child(struct fsd *f, struct inode *p, const char *key_name)
{
	_cleanup_free_ char *name = NULL;
	struct inode *i;

	if (!str_has_suffix(key_name, IMAGE_SUFFIX))
		return NULL;
	name = strndup(key_name, strlen(key_name) - strlen(IMAGE_SUFFIX));
	i = name ? inode_child(f, p, name) : NULL;
	if (i && (!i->image || i->snap)) {
		inode_put(f, i);
		i = NULL;
	}
	return i;
}

/* The node, when it is known: walks down by names, without asking anybody. The root's name is empty. */
static struct inode *known_node(struct fsd *f, const char *dir, const char *name)
{
	_cleanup_free_ char *copy = strdup(dir);
	struct inode *p = copy ? inode_ref(f, f->root) : NULL, *i = NULL;
	char *save = NULL;

	for (char *t = copy ? strtok_r(copy, "/", &save) : NULL; t && p; t = strtok_r(NULL, "/", &save)) {
		struct inode *next = inode_child(f, p, t);

		inode_put(f, p);
		p = next;
	}
	if (p)
		i = dir[0] || name[0] ? inode_child(f, p, name) : inode_ref(f, p);
	if (p && !i)
		i = image_child(f, p, name);
	inode_put(f, p);
	return i;
}

struct inode *fsd_known_image(struct fsd *f, const char *path)
{
	_cleanup_free_ char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	struct inode *i;

	if (!dir)
		return NULL;
	dir[slash ? slash + 1 - dir : 0] = '\0';
	i = known_node(f, dir, path + strlen(dir));
	if (i && (!i->image || i->snap)) {
		inode_put(f, i);
		i = NULL;
	}
	return i;
}

void fsd_metaq_done(void *arg, const char *dir, const char *name, bool is_dir, int status, const struct version *base,
		    const struct version *v, const struct version *found, const struct obj_headers *h)
{
	struct fsd *f = *(struct fsd **)arg;
	struct inode *i;

	(void)h;
	if (!f || status < 0 || found) /* found: v has another writer's bytes, and the next open meets them */
		return;
	i = known_node(f, dir, name);
	if (i && i->is_dir == is_dir) {
		mtx_lock(&i->lock);
		if (!i->superseded && !i->unlinked && strcmp(i->base.etag, base->etag) == 0) {
			if (strcmp(i->pages, i->base.etag) == 0)
				memcpy(i->pages, v->etag, sizeof i->pages); /* the same bytes */
			/* a file that is being written goes on from there as well: the bytes are the same */
			if (i->sp && spfile_rebase(i->sp, &i->base, v) < 0)
				log_warn("%s%s: its spool file takes no more records", dir, name);
			i->base = *v;
			i->base_gen++;
			i->base_ns = clock_now_ns();
		}
		mtx_unlock(&i->lock);
	}
	inode_put(f, i);
}
