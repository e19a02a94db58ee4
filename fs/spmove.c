/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spmove.c - a spool file gets another name, another base, another source.
 *
 * Base and source are two things: the base is the version that the next upload replaces, the source is the object that
 * bytes come from which are not here. A rename of a dirty file changes the first only; a copy of the object (rename of a
 * directory, change of metadata) changes both, since the copy has the same bytes.
 *
 * Journal: SPJ_MOVE for name and base, SPJ_SRC for the source, SPJ_BASE when the file equals the object at its name.
 */
#include "config.h"
#include "spool-private.h"
#include <string.h>
#include <unistd.h>

/* The clean file was copied with its name: the object there is what it equals. */
static int move_clean_locked(struct spfile *f, char *old_dir, char *old_name)
{
	struct spj_event ev = { .type = SPJ_BASE, .v = f->base };
	char *key = strdup(f->key);
	int r = key ? spj_append(&f->j, &ev) : -ENOMEM;

	if (r < 0) {
		free(key);
		free(old_dir);
		free(old_name);
		return r;
	}
	sp_forget_move(f);
	f->before_move.key = f->src_key;
	f->before_move.src = f->src;
	f->before_move.dir = old_dir;
	f->before_move.name = old_name;
	f->src_key = key;
	f->src = f->base;
	f->src_gen++;
	return 0;
}

/* The source's bytes are at dir/name, too. Its names are the file's now. */
static int take_source_locked(struct spfile *f, const struct version *v)
{
	struct spj_event ev = { .type = SPJ_SRC, .dir = f->dir, .name = f->name, .v = *v };
	char *key = strdup(f->key);
	int r = key ? spj_append(&f->j, &ev) : -ENOMEM;

	if (r < 0) {
		free(key);
		return r;
	}
	free(f->src_key);
	f->src_key = key;
	f->src = *v;
	f->src_gen++;
	return 0;
}

static bool source_is_base_locked(const struct spfile *f)
{
	return f->src_key && strcmp(f->src_key, f->key) == 0 && strcmp(f->src.etag, f->base.etag) == 0;
}

int spfile_move(struct spfile *f, const char *dir, const char *name, const struct version *base, bool same_bytes)
{
	struct spj_event ev = { .type = SPJ_MOVE, .dir = dir, .name = name };
	char *old_dir, *old_name;
	bool clean;
	int r;

	if (base)
		ev.v = *base;
	mtx_lock(&f->lock);
	sp_seal_locked(f);
	mtx_unlock(&f->lock);
	sp_abort_upload(f); /* its key is the old one */
	mtx_lock(&f->lock);
	clean = !sp_dirty_locked(f) && base && base->etag[0];
	same_bytes = same_bytes && ev.v.etag[0] && source_is_base_locked(f);
	old_dir = f->dir ? strdup(f->dir) : NULL;
	old_name = f->name ? strdup(f->name) : NULL;
	r = f->state == SP_PARKED ? -ESTALE : old_dir && old_name ? 0 : -ENOMEM;
	if (r == 0)
		r = spj_append(&f->j, &ev);
	if (r == 0)
		r = sp_set_names(f, dir, name);
	if (r == 0) {
		f->base = ev.v;
		f->ntries = 0; /* they went to another key */
	}
	if (r == 0 && clean) {
		r = move_clean_locked(f, old_dir, old_name);
	} else {
		free(old_dir);
		free(old_name);
		if (r == 0 && same_bytes)
			r = take_source_locked(f, &ev.v);
		if (r == 0 && f->state == SP_CLEAN && sp_dirty_locked(f)) {
			f->state = SP_OPEN;
			r = sp_log_state_locked(f, SP_OPEN);
		}
	}
	if (r == 0 && f->state == SP_ACKED && fdatasync(f->j.fd) < 0)
		r = -errno; /* what was promised to last has to be found under its new name */
	sp_unseal_locked(f);
	mtx_unlock(&f->lock);
	return r;
}

int spfile_nameless(struct spfile *f)
{
	int r;

	mtx_lock(&f->lock);
	sp_seal_locked(f);
	mtx_unlock(&f->lock);
	sp_abort_upload(f);
	mtx_lock(&f->lock);
	r = sp_log_state_locked(f, SP_GONE); /* what a crash leaves is thrown away */
	f->nameless = true;
	if (f->state == SP_ACKED)
		f->state = SP_OPEN;
	sp_unseal_locked(f);
	mtx_unlock(&f->lock);
	return r;
}

int sp_rebase_locked(struct spfile *f, const char *key, const struct version *from, const struct version *to)
{
	struct spj_event ev = { .type = SPJ_MOVE, .dir = f->dir, .name = f->name, .v = *to };
	bool here = strcmp(f->key, key) == 0;
	bool is_base = here && from->etag[0] && strcmp(f->base.etag, from->etag) == 0;
	bool is_src = f->src_key && strcmp(f->src_key, key) == 0 && from->etag[0] && strcmp(f->src.etag, from->etag) == 0;
	int r = 0;

	if (f->state == SP_PARKED || f->state == SP_GONE)
		return 0;
	if (is_base)
		r = spj_append(&f->j, &ev);
	ev.type = SPJ_SRC;
	if (r == 0 && is_src && here) /* elsewhere: only a crash would ask, and find the source gone */
		r = spj_append(&f->j, &ev);
	if (r < 0)
		return r;
	if (is_base)
		f->base = *to;
	if (is_src) {
		f->src = *to;
		f->src_gen++;
	}
	return 0;
}

int spfile_rebase(struct spfile *f, const struct version *from, const struct version *to)
{
	int r = 0;

	mtx_lock(&f->lock);
	if (f->uploading) { /* the upload knows its base; should it fail, this is done at its end */
		f->rebase.due = true;
		f->rebase.from = *from;
		f->rebase.to = *to;
	} else {
		r = sp_rebase_locked(f, f->key, from, to);
	}
	mtx_unlock(&f->lock);
	return r;
}

void spfile_force_dirty(struct spfile *f)
{
	struct spj_event ev = { .type = SPJ_FORCED }, src = { .type = SPJ_SRC };
	int r = 0;

	mtx_lock(&f->lock);
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	if (f->before_move.key) { /* the object at the new name has other bytes: ours are still the old one's */
		src.dir = f->before_move.dir;
		src.name = f->before_move.name;
		src.v = f->before_move.src;
		r = spj_append(&f->j, &src);
		free(f->src_key);
		f->src_key = f->before_move.key;
		f->src = f->before_move.src;
		f->before_move.key = NULL;
		f->src_gen++;
		sp_forget_move(f);
	}
	f->forced = true;
	if (f->state == SP_CLEAN) {
		f->state = SP_OPEN;
		r = r < 0 ? r : sp_log_state_locked(f, SP_OPEN);
	}
	if (r == 0)
		r = spj_append(&f->j, &ev);
	if (r < 0)
		f->j.broken = r; /* the journal does not say it: nothing may be added that relies on it */
	mtx_unlock(&f->lock);
}
