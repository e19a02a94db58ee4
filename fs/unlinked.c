/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files that lose their name while somebody has them open: the object goes at once, so the bytes that readers may still
 * ask for are fetched first when they are few, else copied on the server to .lsvd/unlinked/ and removed with the last
 * handle. The copy's key says whose it is: what a crash leaves, the next mount of this node removes (leftover.c).
 */
#include "inode.h"
#include "leftover.h"

#define KEEP_FETCH_MAX (8 * MiB)

/* Every byte of the base into the spool file, before the object goes. */
static int fetch_all(struct fsd *f, struct inode *i, struct objerr *err)
{
	uint64_t off = 0;
	void *buf;
	ssize_t r;

	buf = malloc(MiB);
	if (!buf)
		return -ENOMEM;
	do {
		r = spfile_read(i->sp, buf, MiB, off, err);
		if (r > 0)
			off += (uint64_t)r;
	} while (r > 0);
	free(buf);
	return r < 0 ? (int)r : 0;
}

/* -ESTALE when src is not version v (any more). */
static int copy_aside(struct fsd *f, const char *src, const struct version *v, const char *dst, struct version *ret,
		      struct objerr *err)
{
	const bool conditional = obj_caps(f->o.store) & OBJ_CAP_COPY_SRC;
	struct objreq req;
	int r;

	*ret = *v;
	if (f->o.store->put_max > 0 && v->size > f->o.store->put_max)
		return obj_copy_large(f->o.store, src, v->etag, v->size, dst, ret->etag, err);
	objreq_init(&req, OBJ_COPY, dst);
	req.src_key = src;
	req.src_if_match = conditional ? v->etag : NULL;
	r = obj_do(f->o.store, &req);
	if (r < 0)
		*err = req.err;
	else
		memcpy(ret->etag, req.etag, sizeof ret->etag);
	objreq_done(&req);
	if (r == 0 && !conditional) { /* an object that did not change after the copy was what was copied */
		r = obj_head(f->o.store, src, &req);
		if (r == 0 && strcmp(req.etag, v->etag) != 0)
			r = -ESTALE;
		objreq_done(&req);
		if (r < 0)
			ignore(obj_delete(f->o.store, dst, NULL, NULL));
	}
	return r;
}

int file_keep_bytes(struct fsd *f, struct inode *i, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL, *key = NULL, *alt = NULL;
	struct version v, copy;
	bool open, sp;
	int r;

	mtx_lock(&i->lock);
	open = i->nopen > 0 && !i->alt_key;
	sp = i->sp != NULL;
	v = i->base;
	mtx_unlock(&i->lock);
	if (!open || v.etag[0] == 0 || v.size == 0)
		return 0;
	if (sp || v.size <= KEEP_FETCH_MAX || !(obj_caps(f->o.store) & OBJ_CAP_COPY)) {
		r = file_need_sp(f, i, false);
		if (r == 0)
			r = fetch_all(f, i, err);
		return r == -ESTALE ? 0 : r; /* replaced elsewhere already: those bytes cannot be had any more */
	}
	r = inode_path(f, i, &dir, &name);
	if (r == 0)
		r = tree_key(f->o.tree, dir, name, false, &key);
	if (r < 0)
		return r;
	r = leftover_key(f->o.prefix, f->o.node_id, &alt);
	if (r < 0)
		return r;
	r = copy_aside(f, key, &v, alt, &copy, err);
	if (r == 0) {
		mtx_lock(&i->lock);
		i->alt_v = copy;
		i->alt_key = alt;
		alt = NULL;
		mtx_unlock(&i->lock);
	}
	return r == -ESTALE || r == -ENOENT ? 0 : r;
}

void file_unlinked(struct fsd *f, struct inode *i)
{
	struct spfile *sp = NULL;
	bool open;

	inode_unlink_name(f, i);
	mtx_lock(&i->lock);
	i->unlinked = true;
	i->acked = false;
	i->attr.ctime = clock_real_ts();
	open = i->nopen > 0;
	sp = i->sp;
	mtx_unlock(&i->lock);
	if (!sp)
		return;
	inode_set_local(f, i, false);
	if (open) {
		if (spfile_nameless(sp) < 0)
			log_warn("a removed file's spool file could not be marked: a crash would park it");
	} else {
		sp = inode_take_sp(i);
		if (sp)
			spfile_discard(sp);
	}
}
