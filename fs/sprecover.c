/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sprecover.c - what an earlier life of the daemon left behind: finish, park or forget.
 *
 *   CLEAN    the bucket has it: removed.
 *   ACKED    was promised to arrive: uploaded while the base holds.
 *   CLOSING  a close was under way that nobody may have heard the end of: uploaded while the base holds, if this boot
 *            of the host wrote it; data and journal were never synced, so after a power cut the bytes may be zeros.
 *   OPEN     somebody was in the middle of writing: parked, never published.
 *   GONE     only an upload to abort.
 * A foreign version at the target: parked. Our own (by nonce): already there. A store that does not answer: the file
 * stays for the next attempt, an acknowledged one in the queue of async_close. An upload under way goes on when its
 * headers still are the file's, else it is aborted.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/failpoint.h"
#include "objstore/base/log.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Files go to the pool of async_close, several at a time. This thread hands them out and takes them back; it alone counts,
 * tells and frees.
 */
#define PARALLEL 16

struct recovery {
	struct spool *s;
	struct spool_recovery *n;
	void (*fn)(void *arg, const char *dir, const char *name, const char *what, const struct version *v,
		   const struct obj_headers *h, uint64_t ino);
	void *arg;
	struct list flying; /* struct rescue, this thread only */
	size_t nflying;
	struct mtx lock; /* RANK_WAIT; done */
	struct cond landed;
	struct rescue *done;
};

enum outcome { RC_REMOVED, RC_UPLOADED, RC_ALREADY, RC_PARKED, RC_FAILED };

struct rescue { /* one file */
	struct job job;
	struct list link; /* flying */
	struct rescue *next;
	struct recovery *rc;
	struct spfile *f;
	char *key, *src_key; /* owned; as the file had them at the start */
	enum outcome how;
	struct version v;
	char why[320]; /* parked or failed */
};

static void park(struct rescue *re, const char *reason)
{
	struct spfile *f = re->f;
	int r;

	sp_quiesce(f);
	sp_abort_upload(f);
	r = sp_park(f, reason);
	re->how = r < 0 ? RC_FAILED : RC_PARKED;
	if (r < 0)
		(void)snprintf(re->why, sizeof(re->why), "could not be parked (%s)", strerror(-r));
	else
		(void)snprintf(re->why, sizeof(re->why), "parked: %.290s", reason);
}

/* Errors that the same upload will meet again whenever it is tried. */
static bool is_final(int r)
{
	return r == -EFBIG || r == -EINVAL || r == -ENAMETOOLONG || r == -EISDIR || r == -ENOTDIR || r == -ENOTSUP;
}

static void finish(struct rescue *re)
{
	struct spfile *f = re->f;
	struct spcommit c = { 0 };
	struct objerr err = { 0 };
	int r;

	FAILPOINT("spool.recover");
	r = spfile_commit(f, SPC_RECOVER, &c, &err);
	if (r == 0) {
		re->how = f->last_found ? RC_ALREADY : RC_UPLOADED;
		re->v = c.v;
		sp_abort_upload(f); /* none, or one that a kill left half cleared away */
		sp_unlink_files(f);
	} else if (r == -ESTALE) {
		park(re, "another version was stored meanwhile");
	} else if (is_final(r)) {
		park(re, err.msg[0] ? err.msg : strerror(-r));
	} else {
		re->how = RC_FAILED;
		(void)snprintf(re->why, sizeof(re->why), "%.300s", err.msg[0] ? err.msg : strerror(-r));
	}
}

static void remove_gone(struct rescue *re)
{
	struct spmpu *m = re->f->mpu;
	struct objreq req;
	int r = 0;

	if (m) {
		objreq_init(&req, OBJ_MPU_ABORT, m->key);
		req.upload_id = m->id;
		r = obj_do(re->rc->s->o.store, &req);
		objreq_done(&req);
	}
	if (r == 0 || r == -ENOENT) {
		sp_unlink_files(re->f);
	} else {
		re->how = RC_FAILED;
		(void)snprintf(re->why, sizeof(re->why), "an upload of it could not be aborted: %s", strerror(-r));
	}
}

static bool same_boot(const struct spfile *f)
{
	return f->boot[0] && strcmp(f->boot, f->s->boot) == 0;
}

static void decide(struct rescue *re)
{
	struct spfile *f = re->f;

	switch (f->state) {
	case SP_GONE:
		remove_gone(re);
		break;
	case SP_CLEAN:
		sp_abort_upload(f);
		sp_unlink_files(f);
		break;
	case SP_ACKED:
		finish(re);
		break;
	case SP_CLOSING:
		if (same_boot(f))
			finish(re);
		else
			park(re, "the host went down during close; the bytes may be incomplete");
		break;
	default:
		park(re, same_boot(f) ? "the file was still open when its mount ended" :
					"the file was still open when the host went down; the bytes may be incomplete");
		break;
	}
}

static void rescue_job(struct job *job)
{
	struct rescue *re = container_of(job, struct rescue, job);
	struct recovery *rc = re->rc;

	decide(re);
	mtx_lock(&rc->lock);
	re->next = rc->done;
	rc->done = re;
	cond_signal(&rc->landed);
	mtx_unlock(&rc->lock);
}

static void tell(struct recovery *rc, struct spfile *f, const char *what, const struct version *v)
{
	log_info("recovery: %s%s: %s", f->dir, f->name, what);
	if (rc->fn)
		rc->fn(rc->arg, f->dir, f->name, what, v, &f->headers, f->ino);
}

/* Frees re and its file. */
static void settle(struct recovery *rc, struct rescue *re)
{
	struct spfile *f = re->f;

	switch (re->how) {
	case RC_REMOVED:
		break;
	case RC_UPLOADED:
		rc->n->uploaded++;
		tell(rc, f, "uploaded", &re->v);
		break;
	case RC_ALREADY:
		rc->n->already++;
		tell(rc, f, "already in the bucket", &re->v);
		break;
	case RC_PARKED:
		rc->n->parked++;
		tell(rc, f, re->why, NULL);
		break;
	case RC_FAILED:
		rc->n->failed++;
		log_warn("recovery: %s%s: %s; stays in the spool", f->dir, f->name, re->why);
		break;
	}
	if (re->how == RC_FAILED && f->state == SP_ACKED)
		sp_hand_over(f); /* it was promised to arrive: goes on like any other acknowledged file */
	else
		sp_release(f);
	free(re->key);
	free(re->src_key);
	free(re);
}

/* Waits for one file at least, and takes all that are done. */
static void take_back(struct recovery *rc)
{
	struct rescue *list;

	mtx_lock(&rc->lock);
	while (rc->done == NULL)
		cond_wait(&rc->landed, &rc->lock);
	list = rc->done;
	rc->done = NULL;
	mtx_unlock(&rc->lock);
	while (list) {
		struct rescue *re = list;

		list = re->next;
		list_del(&re->link);
		rc->nflying--;
		settle(rc, re);
	}
}

/* Two files that name one key keep their order: the later one is to find what the earlier one did. */
static bool must_wait(struct recovery *rc, const struct rescue *re)
{
	list_for_each(it, &rc->flying) {
		const struct rescue *o = list_entry(it, struct rescue, link);

		if (strcmp(o->key, re->key) == 0 || strcmp(o->src_key, re->key) == 0 || strcmp(o->key, re->src_key) == 0)
			return true;
	}
	return false;
}

static void recover_loaded(struct recovery *rc, struct spfile *f)
{
	struct rescue *re = calloc(1, sizeof(*re));

	if (re) {
		re->key = strdup(f->key);
		re->src_key = strdup(f->src_key ? f->src_key : "");
	}
	if (re == NULL || re->key == NULL || re->src_key == NULL) {
		rc->n->failed++;
		if (re) {
			free(re->key);
			free(re->src_key);
		}
		free(re);
		sp_release(f);
		return;
	}
	re->rc = rc;
	re->f = f;
	re->job.fn = rescue_job;
	sp_link(f);
	while (rc->nflying >= PARALLEL || must_wait(rc, re))
		take_back(rc);
	list_add_tail(&rc->flying, &re->link);
	rc->nflying++;
	pool_submit(rc->s->acked, &re->job);
}

/* Journal without data: nothing was written yet, or its data was moved already when a kill came. */
static void drop_journal(struct spool *s, uint64_t id)
{
	char name[SP_ID_MAX];

	if (sp_journal_name(id, name) == 0)
		(void)unlinkat(s->dirfd, name, 0);
}

static void park_damaged(struct recovery *rc, uint64_t id, const char *reason)
{
	int r = sp_park_raw(rc->s, id, reason);

	if (r < 0) {
		rc->n->failed++;
		log_error("recovery: spool file %llx: %s; could not be parked: %s", (unsigned long long)id, reason,
			  strerror(-r));
		return;
	}
	rc->n->parked++;
	log_warn("recovery: spool file %llx parked: %s", (unsigned long long)id, reason);
}

/* A kill between the making of both files and the first record: there is no byte in either. */
static bool never_begun(struct spool *s, uint64_t id)
{
	char jname[SP_ID_MAX], dname[SP_ID_MAX];
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (sp_journal_name(id, jname) < 0 || sp_data_name(id, dname) < 0)
		return false;
	if (fstatat(s->dirfd, jname, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size > 0)
		return false;
	fd = openat(s->dirfd, dname, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? errno == ENOENT : lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO;
}

static void drop_both(struct spool *s, uint64_t id)
{
	char name[SP_ID_MAX];

	if (sp_data_name(id, name) == 0)
		(void)unlinkat(s->dirfd, name, 0);
	drop_journal(s, id);
}

static bool in_use(struct spool *s, uint64_t id)
{
	bool found = false;

	mtx_lock(&s->lock);
	list_for_each(it, &s->files)
		found |= list_entry(it, struct spfile, link)->id == id;
	mtx_unlock(&s->lock);
	return found;
}

static void recover_one(struct recovery *rc, uint64_t id)
{
	struct spool *s = rc->s;
	struct spfile *f = NULL;
	int r;

	if (in_use(s, id) || sp_park_finish(s, id))
		return;
	r = sp_load(s, s->dirfd, id, &f);
	if (r == 0)
		recover_loaded(rc, f);
	else if (r == -ENODATA)
		drop_journal(s, id);
	else if (r == -EBADMSG && never_begun(s, id))
		drop_both(s, id);
	else if (r == -EBADMSG)
		park_damaged(rc, id, "its journal is damaged");
	else {
		rc->n->failed++;
		log_error("recovery: spool file %llx: %s", (unsigned long long)id, strerror(-r));
	}
}

/* Data without a journal: the journal is made first and removed last, so something is badly wrong. */
static void recover_data_only(struct recovery *rc, uint64_t id)
{
	char jname[SP_ID_MAX], dname[SP_ID_MAX];
	struct spool *s = rc->s;
	struct stat st;

	if (in_use(s, id) || sp_journal_name(id, jname) < 0 || sp_data_name(id, dname) < 0)
		return;
	if (faccessat(s->dirfd, jname, F_OK, 0) == 0 || fstatat(s->dirfd, dname, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (st.st_size == 0)
		(void)unlinkat(s->dirfd, dname, 0);
	else
		park_damaged(rc, id, "its journal is missing");
}

static int cmp_id(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int spool_recover(struct spool *s, struct spool_recovery *ret,
		  void (*fn)(void *arg, const char *dir, const char *name, const char *what, const struct version *v,
			     const struct obj_headers *h, uint64_t ino),
		  void *arg)
{
	struct spool_recovery n = { 0 };
	struct recovery rc = { .s = s, .n = &n, .fn = fn, .arg = arg };
	_cleanup_free_ uint64_t *journals = NULL, *data = NULL;
	size_t nj = 0, nd = 0;
	int r = sp_scan(s->dirfd, ".journal", &journals, &nj);

	if (r < 0)
		return r;
	if (nj > 0) /* oldest first: of two files of one name the later one wins */
		qsort(journals, nj, sizeof(*journals), cmp_id);
	list_init(&rc.flying);
	mtx_init(&rc.lock, RANK_WAIT);
	cond_init(&rc.landed);
	for (size_t i = 0; i < nj; i++)
		recover_one(&rc, journals[i]);
	while (rc.nflying > 0)
		take_back(&rc);
	cond_destroy(&rc.landed);
	mtx_destroy(&rc.lock);
	r = sp_scan(s->dirfd, ".data", &data, &nd);
	if (r < 0)
		return r;
	for (size_t i = 0; i < nd; i++)
		recover_data_only(&rc, data[i]);
	*ret = n;
	return 0;
}

/* --- adoption ----------------------------------------------------------------------------------------------------- */

static int copy_file(int from, const char *name, int to, const char *new_name)
{
	_cleanup_free_ char *buf = malloc(1 * MiB);
	_cleanup_close_ int in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int out = -1;
	struct stat st;
	int r = 0;

	if (buf == NULL)
		return -ENOMEM;
	if (in < 0 || fstat(in, &st) < 0)
		return -errno;
	out = openat(to, new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0 || ftruncate(out, st.st_size) < 0)
		return -errno;
	for (off_t a = 0, b; r == 0 && (a = lseek(in, a, SEEK_DATA)) >= 0 && a < st.st_size; a = b) {
		b = lseek(in, a, SEEK_HOLE);
		if (b < 0)
			return -errno;
		b = MIN(b, a + (off_t)MiB);
		r = base_pread_all(in, buf, (size_t)(b - a), (uint64_t)a);
		if (r == 0)
			r = base_pwrite_all(out, buf, (size_t)(b - a), (uint64_t)a);
	}
	if (r == 0 && fsync(out) < 0)
		r = -errno;
	return r;
}

static int move_file(int from, const char *name, int to, const char *new_name)
{
	int r;

	if (renameat(from, name, to, new_name) == 0)
		return 0;
	if (errno == ENOENT)
		return 0;
	if (errno != EXDEV)
		return -errno;
	r = copy_file(from, name, to, new_name);
	if (r == 0 && unlinkat(from, name, 0) < 0)
		r = -errno;
	return r;
}

static bool has_file(int dirfd, uint64_t id, const char *suffix)
{
	struct str s = { 0 };
	bool has;

	str_addf(&s, "%llx%s", (unsigned long long)id, suffix);
	has = s.err == 0 && faccessat(dirfd, s.p, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	str_free(&s);
	return has;
}

/* What is known under an id anywhere in a spool: one id is one file, live or parked. */
enum { HAS_DATA = 1, HAS_JOURNAL = 2, HAS_PARKED = 4 };

static unsigned known(int live, int parked, uint64_t id)
{
	return (has_file(live, id, ".data") ? HAS_DATA : 0) | (has_file(live, id, ".journal") ? HAS_JOURNAL : 0) |
	       (has_file(parked, id, ".json") || has_file(parked, id, ".data") || has_file(parked, id, ".journal") ?
			HAS_PARKED : 0);
}

static int move_suffix(int from, uint64_t id, int to, uint64_t new_id, const char *suffix)
{
	struct str old_name = { 0 }, new_name = { 0 };
	int r;

	str_addf(&old_name, "%llx%s", (unsigned long long)id, suffix);
	str_addf(&new_name, "%llx%s", (unsigned long long)new_id, suffix);
	r = old_name.err ? old_name.err : new_name.err;
	if (r == 0)
		r = move_file(from, old_name.p, to, new_name.p);
	str_free(&old_name);
	str_free(&new_name);
	FAILPOINT("spool.adopt");
	return r;
}

struct adoption {
	struct spool *s;
	int from, from_parked; /* -1: none */
};

/* The id here. One that is taken changes; the other half of a file whose move a kill cut short keeps its own. */
static uint64_t id_here(struct adoption *a, uint64_t id)
{
	struct spool *s = a->s;
	unsigned here = known(s->dirfd, s->parked_fd, id);
	bool half = here == HAS_DATA && !has_file(a->from, id, ".data") && has_file(a->from, id, ".journal");
	bool half_parked = here == HAS_PARKED && !has_file(s->parked_fd, id, ".json") && a->from_parked >= 0 &&
			   has_file(a->from_parked, id, ".json");

	if (here && !half && !half_parked)
		return sp_new_id(s);
	mtx_lock(&s->lock);
	s->last_id = MAX(s->last_id, id);
	mtx_unlock(&s->lock);
	return id;
}

/* Every file that has the last suffix, which is moved last: until it is, the next adoption goes on with that file. */
static int adopt_dir(struct adoption *a, int from, int to, const char *const *suffix, size_t n)
{
	_cleanup_free_ uint64_t *ids = NULL;
	size_t nids = 0;
	int r = sp_scan(from, suffix[n - 1], &ids, &nids);

	for (size_t i = 0; i < nids && r == 0; i++) {
		uint64_t id = id_here(a, ids[i]);

		for (size_t k = 0; k < n && r == 0; k++)
			r = move_suffix(from, ids[i], to, id, suffix[k]);
	}
	return r;
}

/* Data without a journal: damage, but somebody's bytes. */
static int adopt_strays(struct adoption *a)
{
	static const char *const data[] = { ".data" };

	return adopt_dir(a, a->from, a->s->dirfd, data, 1);
}

/* Parks that a kill cut short: the note is there, the files are still among the live ones. */
static int finish_parks(struct adoption *a)
{
	_cleanup_free_ uint64_t *ids = NULL;
	size_t n = 0;
	int r = sp_scan(a->from_parked, ".json", &ids, &n);

	for (size_t i = 0; i < n && r == 0; i++) {
		r = move_suffix(a->from, ids[i], a->from_parked, ids[i], ".data");
		if (r == 0)
			r = move_suffix(a->from, ids[i], a->from_parked, ids[i], ".journal");
	}
	return r;
}

int spool_adopt(struct spool *s, const char *other_dir)
{
	static const char *const live[] = { ".data", ".journal" };
	static const char *const parked[] = { ".data", ".journal", ".json" };
	_cleanup_close_ int from = open(other_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int from_parked = -1;
	struct adoption a;
	int r = 0;

	if (from < 0)
		return -errno;
	from_parked = openat(from, "parked", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	a = (struct adoption){ .s = s, .from = from, .from_parked = from_parked };
	if (from_parked >= 0)
		r = finish_parks(&a);
	if (r == 0)
		r = adopt_dir(&a, from, s->dirfd, live, ARRAY_SIZE(live));
	if (r == 0)
		r = adopt_strays(&a);
	if (r == 0 && from_parked >= 0)
		r = adopt_dir(&a, from_parked, s->parked_fd, parked, ARRAY_SIZE(parked));
	if (r == 0 && (fsync(s->dirfd) < 0 || fsync(s->parked_fd) < 0))
		r = -errno;
	return r;
}
