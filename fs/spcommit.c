/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spcommit.c - from dirty to clean: the seal around an upload, callers that join it, async_close.
 *
 * One thread uploads a file at a time. Its seal (f->uploading) keeps writers waiting until the answer is there, so what
 * the store gets is one state of the file. Who calls meanwhile joins: since nobody could write after the seal, that
 * upload holds everything he knows of, and its result is his.
 *
 * ACKED: data and journal are on the disk before the answer, then the queue uploads, for ever with back-off. Writers
 * wait as behind a seal: otherwise a crash would find a file that is half acknowledged, half being written, and the
 * acknowledged half could not be published.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/failpoint.h"
#include "objstore/base/log.h"
#include <string.h>
#include <unistd.h>

bool sp_is_transient(int r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -ECONNREFUSED || r == -ECONNRESET || r == -EHOSTUNREACH ||
	       r == -ENETUNREACH || r == -ENOMEM;
}

/* What a clean file answers. */
static void fill_clean_locked(struct spfile *f, struct spcommit *ret)
{
	*ret = (struct spcommit){ .v = f->base };
	if (strcmp(f->last.v.etag, f->base.etag) == 0)
		ret->date_s = f->last.date_s;
	ret->headers_stale = f->hseq != f->chseq || f->last.headers_stale;
}

/* Waits for the upload under way; its result. */
static int join_locked(struct spfile *f, struct spcommit *ret, struct objerr *err) REQUIRES(f->lock)
{
	uint64_t gen = f->upload_gen;

	while (f->upload_gen == gen)
		cond_wait(&f->change, &f->lock);
	if (err && f->last_status < 0)
		*err = f->last_err;
	if (f->last_status == 0 || f->last_status == -ESTALE)
		*ret = f->last;
	return f->last_status;
}

static int seal_locked(struct spfile *f, unsigned flags, struct spup *u) REQUIRES(f->lock)
{
	int r;

	*u = (struct spup){ .f = f, .flags = flags };
	r = obj_headers_copy(&u->h, &f->headers);
	if (r < 0)
		return r;
	u->src_key = strdup(f->key); /* now, since the end of an upload cannot fail any more */
	if (u->src_key == NULL) {
		obj_headers_free(&u->h);
		return -ENOMEM;
	}
	sp_seal_locked(f);
	f->sending = true;
	if (f->state != SP_ACKED && f->state != SP_CLOSING) {
		/* should the journal refuse, a crash parks what it could have finished: not worth failing the upload */
		sp_best_effort(sp_log_state_locked(f, SP_CLOSING));
		f->state = SP_CLOSING;
	}
	sp_bg_wait_locked(f);
	u->size = f->size;
	u->wseq = f->wseq;
	u->hseq = f->hseq;
	return 0;
}

/* The object equals the file: new base, new source. */
static void committed_locked(struct spfile *f, struct spup *u)
{
	struct spj_event ev = { .type = SPJ_BASE, .v = u->out.v };
	struct str recs = { 0 };

	free(f->src_key);
	f->src_key = u->src_key;
	u->src_key = NULL;
	f->base = f->src = u->out.v;
	f->same_limit = f->size;
	f->src_gen++;
	ranges_clear(&f->dirty);
	f->journal_all = false;
	f->forced = false;
	f->cseq = u->wseq;
	f->chseq = f->hseq; /* what the upload did not carry is said in headers_stale */
	f->ntries = 0;
	f->state = SP_CLEAN;
	/* a kill before these records: recovery finds the object by its nonce */
	if (spj_encode(&ev, &recs) == 0) {
		ev = (struct spj_event){ .type = SPJ_STATE, .number = SP_CLEAN };
		if (spj_encode(&ev, &recs) == 0)
			sp_best_effort(spj_append_raw(&f->j, &recs));
	}
	str_free(&recs);
}

/* Not CLOSING or ACKED any more. A journal that does not take it yet has to before the next change: see begin_change. */
static void reopen_locked(struct spfile *f)
{
	f->state = sp_log_state_locked(f, SP_OPEN) < 0 ? SP_CLOSING : SP_OPEN;
}

static void unseal_locked(struct spfile *f, struct spup *u, int r)
{
	if (r == 0) {
		u->out.headers_stale |= f->hseq != u->hseq;
		committed_locked(f, u);
	} else if (f->state == SP_CLOSING && !(u->flags & SPC_RECOVER)) {
		/* the caller hears of it: from now on it is a file that somebody still has open */
		reopen_locked(f);
	}
	f->last = u->out;
	f->last_status = r;
	f->last_err = u->err;
	f->last_found = u->found;
	f->upload_gen++;
	f->bg_failed = false;
	f->sending = false;
	sp_unseal_locked(f);
}

/* Called with the lock, sealed by nobody; returns with it. */
static int upload_locked(struct spfile *f, unsigned flags, struct spcommit *ret, struct objerr *err)
	REQUIRES(f->lock)
{
	struct spup u;
	int r = seal_locked(f, flags, &u);

	if (r < 0)
		return r;
	mtx_unlock(&f->lock);
	FAILPOINT("spool.sealed");
	r = sp_upload(&u);
	FAILPOINT("spool.uploaded");
	mtx_lock(&f->lock);
	unseal_locked(f, &u, r);
	if (r == 0 || r == -ESTALE)
		*ret = u.out;
	if (r < 0 && err)
		*err = u.err;
	obj_headers_free(&u.h);
	free(u.src_key);
	FAILPOINT("spool.clean");
	return r;
}

/* --- async_close -------------------------------------------------------------------------------------------------- */

/* Sealed: data, then the journal that speaks of it, then its name in the directory. */
static int make_durable(struct spfile *f)
{
	int r;

	if (fdatasync(f->fd) < 0)
		return -errno;
	mtx_lock(&f->lock);
	r = sp_log_state_locked(f, SP_ACKED);
	mtx_unlock(&f->lock);
	FAILPOINT("spool.before-acked");
	if (r == 0 && (fdatasync(f->j.fd) < 0 || fsync(f->dirfd) < 0))
		r = -errno;
	return r;
}

static int ack_locked(struct spfile *f, struct spcommit *ret) REQUIRES(f->lock)
{
	int r;

	if (f->state == SP_ACKED) {
		*ret = (struct spcommit){ .v = f->base, .acked = true };
		return 0;
	}
	sp_seal_locked(f);
	mtx_unlock(&f->lock);
	r = make_durable(f);
	mtx_lock(&f->lock);
	if (r == 0)
		f->state = SP_ACKED;
	else
		reopen_locked(f);
	sp_unseal_locked(f);
	if (r == 0)
		*ret = (struct spcommit){ .v = f->base, .acked = true };
	return r;
}

static int commit_async(struct spfile *f, struct spcommit *ret, struct objerr *err)
{
	int r;

	mtx_lock(&f->lock);
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	if (f->state == SP_PARKED || f->state == SP_GONE) {
		*ret = f->last;
		r = -ESTALE;
	} else if (!sp_dirty_locked(f)) {
		fill_clean_locked(f, ret);
		r = 0;
	} else {
		r = ack_locked(f, ret);
	}
	mtx_unlock(&f->lock);
	if (r == 0 && spfile_busy(f))
		sp_enqueue(f);
	FAILPOINT("spool.acked");
	return r;
}

bool sp_acked_run(struct spfile *f)
{
	struct spcommit c;
	struct objerr err = { 0 };
	int r = 0;

	mtx_lock(&f->lock);
	while (f->uploading)
		cond_wait(&f->change, &f->lock);
	if (f->state == SP_ACKED)
		r = upload_locked(f, 0, &c, &err);
	mtx_unlock(&f->lock);
	if (r == -ESTALE) {
		r = sp_park(f, "another version was stored meanwhile");
		log_warn("%s: another version was stored before the acknowledged one; ours is parked", f->key);
		return r < 0; /* the disk does not take the note: stays acknowledged, asked again later */
	}
	if (r < 0)
		log_warn("%s: upload of acknowledged data failed, trying again: %s", f->key,
			 err.msg[0] ? err.msg : strerror(-r));
	return r < 0;
}

int spfile_commit(struct spfile *f, unsigned flags, struct spcommit *ret, struct objerr *err)
{
	int r;

	if (flags & SPC_ASYNC)
		return commit_async(f, ret, err);
	mtx_lock(&f->lock);
	if (f->sending) {
		r = join_locked(f, ret, err);
		goto out;
	}
	while (f->uploading) /* on its way to the disk (async_close), or moving */
		cond_wait(&f->change, &f->lock);
	if (f->state == SP_PARKED || f->state == SP_GONE) {
		*ret = f->last;
		r = -ESTALE;
	} else if (!sp_dirty_locked(f)) {
		fill_clean_locked(f, ret);
		r = 0;
	} else {
		r = upload_locked(f, flags, ret, err);
	}
out:
	mtx_unlock(&f->lock);
	return r;
}
