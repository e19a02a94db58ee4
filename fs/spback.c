/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spback.c - parts that go up while their file is still being written.
 *
 * Only a run of sequential writes starts it (small leaps back and forth count, since the kernel's write-back reorders):
 * a part goes when the run has passed it by one part more. It is a matter of speed alone: no memory, no wish of the
 * store, any error -> the commit sends the part.
 *
 * A part's bytes are copied under the file's lock; a change of them afterwards raises the part's generation, and an
 * answer to an older generation does not count.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/failpoint.h"
#include "spplan.h"
#include <string.h>

#define LEAP (4 * MiB)

struct bgjob {
	struct job job;
	struct spfile *f;
	struct iovec iov;
	unsigned number;
	uint64_t gen;
};

void sp_bg_wait_locked(struct spfile *f)
{
	while (f->bg_flying > 0 || f->bg_creating)
		cond_wait(&f->change, &f->lock);
}

static bool may_start_locked(struct spfile *f)
{
	return !f->uploading && !f->bg_stop && !f->bg_failed && !f->nameless && f->state == SP_OPEN;
}

static void start_parts_locked(struct spfile *f);

/* --- the upload's creation ---------------------------------------------------------------------------------------- */

/* Where the tail begins: an appended file keeps a front whose parts are cut at the end. False: not worth it. */
static bool choose_tail(struct spfile *f, struct spmpu *m)
{
	struct spool *s = f->s;
	unsigned caps = obj_caps(s->o.store);

	if (!(caps & OBJ_CAP_MULTIPART))
		return false;
	m->unit = s->part_size;
	m->tail_first = 1;
	if (f->same_limit == 0 || (caps & OBJ_CAP_EQUAL_PARTS) || !(caps & OBJ_CAP_PART_COPY))
		return true;
	if (f->same_limit < s->part_min)
		return true;
	m->tail_off = f->same_limit;
	m->tail_first = s->max_parts / 2 + 1;
	return f->run_end >= m->tail_off + 2 * m->unit;
}

static struct spmpu *prepare_locked(struct spfile *f)
{
	struct spmpu *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->key = strdup(f->key);
	sp_nonce(f->s, m->nonce);
	if (m->key == NULL || !choose_tail(f, m) || obj_headers_copy(&m->headers, &f->headers) < 0) {
		spmpu_free(m);
		return NULL;
	}
	return m;
}

static void create_job(struct job *job)
{
	struct bgjob *bg = container_of(job, struct bgjob, job);
	struct spfile *f = bg->f;
	struct spmpu *m;
	struct objreq req;
	int r;

	mtx_lock(&f->lock);
	m = f->mpu == NULL ? prepare_locked(f) : NULL;
	mtx_unlock(&f->lock);
	if (m == NULL)
		goto out;
	objreq_init(&req, OBJ_MPU_CREATE, m->key);
	req.headers = &m->headers;
	req.prio = OBJ_PRIO_BG;
	memcpy(req.nonce, m->nonce, sizeof(req.nonce));
	FAILPOINT("spool.bg-before-create");
	r = obj_do(f->s->o.store, &req);
	if (r == 0) {
		m->id = req.ret_upload_id;
		req.ret_upload_id = NULL;
		mtx_lock(&f->lock);
		if (sp_install_mpu_locked(f, m) < 0)
			f->bg_failed = true;
		mtx_unlock(&f->lock);
		m = NULL;
	} else {
		mtx_lock(&f->lock);
		f->bg_failed = true;
		mtx_unlock(&f->lock);
	}
	objreq_done(&req);
	spmpu_free(m);
out:
	mtx_lock(&f->lock);
	f->bg_creating = false;
	if (f->mpu && may_start_locked(f))
		start_parts_locked(f);
	cond_broadcast(&f->change);
	mtx_unlock(&f->lock);
	free(bg);
}

/* --- parts -------------------------------------------------------------------------------------------------------- */

static void part_job(struct job *job)
{
	struct bgjob *bg = container_of(job, struct bgjob, job);
	struct spfile *f = bg->f;
	struct sppart *p;
	struct objreq req;
	int r;

	/* f->mpu stays while bg_flying counts this job */
	objreq_init(&req, OBJ_MPU_PART, f->mpu->key);
	req.upload_id = f->mpu->id;
	req.part = bg->number;
	req.iov = &bg->iov;
	req.iovcnt = 1;
	req.prio = OBJ_PRIO_BG;
	FAILPOINT("spool.bg-before-part");
	r = obj_do(f->s->o.store, &req);
	budget_buf_free(f->s->o.budget, bg->iov.iov_base, bg->iov.iov_len);

	mtx_lock(&f->lock);
	p = spmpu_part(f->mpu, bg->number);
	p->flying = false;
	p->on_server = true;
	if (r < 0)
		f->bg_failed = true;
	else if (p->gen == bg->gen && req.etag[0] && str_copy(p->etag, sizeof(p->etag), req.etag) == 0)
		p->up = true;
	if (p->up && sp_log_part_locked(f, p) < 0)
		p->up = false;
	f->bg_flying--;
	if (may_start_locked(f))
		start_parts_locked(f);
	cond_broadcast(&f->change);
	mtx_unlock(&f->lock);
	FAILPOINT("spool.bg-part-done");
	objreq_done(&req);
	free(bg);
}

/* Copies the part's bytes and sends it off. False: not now. */
static bool start_part_locked(struct spfile *f, unsigned number, uint64_t off, uint64_t len)
{
	struct budget *b = f->s->o.budget;
	struct bgjob *bg = NULL;
	struct sppart *p;

	if (!sp_local_locked(f, off, off + len) || !budget_try(b, len))
		return false;
	bg = calloc(1, sizeof(*bg));
	if (bg)
		bg->iov.iov_base = budget_buf(b, (size_t)len);
	if (bg == NULL || bg->iov.iov_base == NULL || base_pread_all(f->fd, bg->iov.iov_base, (size_t)len, off) < 0 ||
	    spmpu_add_part(f->mpu, number, &p) < 0) {
		budget_buf_free(b, bg ? bg->iov.iov_base : NULL, (size_t)len);
		free(bg);
		return false;
	}
	p->off = off;
	p->len = len;
	p->flying = true;
	bg->f = f;
	bg->iov.iov_len = (size_t)len;
	bg->number = number;
	bg->gen = p->gen;
	bg->job.fn = part_job;
	f->bg_flying++;
	pool_submit(f->s->parts, &bg->job);
	return true;
}

static void start_parts_locked(struct spfile *f)
{
	struct spool *s = f->s;
	struct spmpu *m = f->mpu;
	unsigned most = MAX((s->o.parallel ? s->o.parallel : 8) / 2, 1u);
	bool equal = (obj_caps(s->o.store) & OBJ_CAP_EQUAL_PARTS) != 0;

	if (m->tail_off == SP_NO_TAIL || strcmp(m->key, f->key) != 0)
		return;
	for (unsigned i = 0; f->bg_flying < most && m->tail_first + i <= s->max_parts; i++) {
		struct sppart *p;
		uint64_t off, len;

		spplan_tail(m->unit, equal, s->max_parts, i, &off, &len);
		off += m->tail_off;
		if (off + len + m->unit > f->run_end)
			break;
		if (off < f->run_start)
			continue;
		p = spmpu_part(m, m->tail_first + i);
		if (p && (p->up || p->flying))
			continue;
		if (!start_part_locked(f, m->tail_first + i, off, len))
			break;
	}
}

void sp_bg_kick_locked(struct spfile *f, uint64_t off, uint64_t n)
{
	uint64_t unit = f->s->part_size;
	struct bgjob *bg;

	if (off <= f->run_end + LEAP && off + n + LEAP >= f->run_end && f->run_end > 0) {
		f->run_start = MIN(f->run_start, off);
		f->run_end = MAX(f->run_end, off + n);
	} else {
		f->run_start = off;
		f->run_end = off + n;
	}
	if (f->run_end - f->run_start < 2 * unit || f->run_end <= f->same_limit || !may_start_locked(f))
		return;
	/* one look per part is enough: each write of a run passes here */
	if (f->run_end / unit == (f->run_end - n) / unit && f->run_end % unit != 0)
		return;
	if (f->mpu) {
		start_parts_locked(f);
		return;
	}
	if (f->bg_creating)
		return;
	bg = calloc(1, sizeof(*bg));
	if (bg == NULL)
		return;
	bg->f = f;
	bg->job.fn = create_job;
	f->bg_creating = true;
	pool_submit(f->s->parts, &bg->job);
}
