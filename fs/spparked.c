/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spparked.c - bytes that lost a conflict or a crash, kept in parked/ until a person decides.
 *
 * <id>.json says what they are, beside <id>.data and <id>.journal. Order of parking: the note (complete, by rename),
 * then data, then journal. So a note without its files in parked/ is a move that a kill cut short: recovery finishes it,
 * and the listing finds the data in the spool meanwhile. Dropping goes the other way round: the note first.
 *
 * parked_list, _save and _drop work on the directory alone, beside a mount that has it open.
 */
#include "config.h"
#include "spool-private.h"
#include "objstore/base/clock.h"
#include "objstore/base/failpoint.h"
#include "objstore/base/log.h"
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int name_of(uint64_t id, const char *suffix, char *out)
{
	struct str s = { 0 };
	int r;

	str_addf(&s, "%llx%s", (unsigned long long)id, suffix);
	r = s.err ? s.err : str_copy(out, SP_ID_MAX, s.p);
	str_free(&s);
	return r;
}

/* --- the note ----------------------------------------------------------------------------------------------------- */

static int write_note(struct spool *s, uint64_t id, json_t *take_j)
{
	char tmp[SP_ID_MAX], name[SP_ID_MAX];
	_cleanup_free_ char *text = take_j ? json_dumps(take_j, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	_cleanup_close_ int fd = -1;
	int r = text ? name_of(id, ".tmp", tmp) : -ENOMEM;

	json_decref(take_j);
	if (r == 0)
		r = name_of(id, ".json", name);
	if (r < 0)
		return r;
	fd = openat(s->parked_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = base_pwrite_all(fd, text, strlen(text), 0);
	if (r == 0 && fsync(fd) < 0) /* a power cut may not leave bytes whose note is empty */
		r = -errno;
	if (r == 0 && renameat(s->parked_fd, tmp, s->parked_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(s->parked_fd, tmp, 0);
	return r;
}

/* Names are bytes that may be no text for JSON: keys are UTF-8 (path.h), a damaged journal's are not asked. */
static json_t *make_note(const char *path, const char *reason, const struct version *base, uint64_t size, bool partial,
			 uint64_t ino)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:b, s:I, s:I}", "path", path, "reason", reason, "base_etag",
			 base ? base->etag : "", "size", (json_int_t)size, "partial", (int)partial, "time",
			 (json_int_t)(clock_real_ns() / NSEC_PER_SEC), "ino", (json_int_t)ino);
}

static bool partial_locked(const struct spfile *f)
{
	return !sp_local_locked(f, 0, f->size);
}

/* --- parking ------------------------------------------------------------------------------------------------------ */

static int move_to_parked(struct spool *s, uint64_t id)
{
	static const char *const suffix[] = { ".data", ".journal" };

	for (size_t i = 0; i < ARRAY_SIZE(suffix); i++) {
		char name[SP_ID_MAX];
		int r = name_of(id, suffix[i], name);

		FAILPOINT("spool.parking");
		if (r == 0 && renameat(s->dirfd, name, s->parked_fd, name) < 0 && errno != ENOENT)
			r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

int sp_park(struct spfile *f, const char *reason)
{
	struct spool *s = f->s;
	json_t *note;
	int r;

	mtx_lock(&f->lock);
	if (f->state == SP_PARKED) {
		mtx_unlock(&f->lock);
		return 0;
	}
	note = make_note(f->key, reason, &f->base, f->size, partial_locked(f), f->ino);
	mtx_unlock(&f->lock);
	r = write_note(s, f->id, note);
	if (r == 0)
		r = move_to_parked(s, f->id);
	mtx_lock(&f->lock);
	if (r == 0) {
		sp_best_effort(sp_log_state_locked(f, SP_PARKED));
		f->state = SP_PARKED;
		f->parked_id = f->id;
		f->dirfd = s->parked_fd;
		f->last_status = -ESTALE;
		cond_broadcast(&f->change);
	}
	mtx_unlock(&f->lock);
	return r;
}

int sp_park_raw(struct spool *s, uint64_t id, const char *reason)
{
	char name[SP_ID_MAX];
	struct stat st = { 0 };
	int r = name_of(id, ".data", name);

	if (r == 0)
		(void)fstatat(s->dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r == 0)
		r = write_note(s, id, make_note("(unknown)", reason, NULL, (uint64_t)st.st_size, true, 0));
	return r < 0 ? r : move_to_parked(s, id);
}

bool sp_park_finish(struct spool *s, uint64_t id)
{
	char name[SP_ID_MAX];

	if (name_of(id, ".json", name) < 0 || faccessat(s->parked_fd, name, F_OK, 0) < 0)
		return false;
	if (move_to_parked(s, id) < 0)
		log_error("parked file %llx: its bytes could not be moved, they stay in the spool", (unsigned long long)id);
	return true;
}

uint64_t spfile_park(struct spfile *f, const char *reason)
{
	uint64_t id = 0;
	int r;

	sp_quiesce(f);
	sp_abort_upload(f);
	r = sp_park(f, reason);
	if (r == 0)
		id = f->parked_id;
	else
		log_error("%s: could not be parked (%s), stays in the spool", f->key, strerror(-r));
	sp_release(f);
	return id;
}

/* --- without a mount ---------------------------------------------------------------------------------------------- */

static int open_parked(const char *spool_dir, int *ret)
{
	struct str s = { 0 };
	int r;

	str_addf(&s, "%s/parked", spool_dir);
	r = s.err;
	if (r == 0) {
		*ret = open(s.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = *ret < 0 ? -errno : 0;
	}
	str_free(&s);
	return r;
}

static char *copy_field(const json_t *j, const char *key)
{
	const char *z = json_string_value(json_object_get(j, key));

	return strdup(z ? z : "");
}

static int read_note(int dirfd, uint64_t id, struct parked *ret)
{
	char name[SP_ID_MAX];
	int fd, r = name_of(id, ".json", name);
	json_t *j;

	if (r < 0)
		return r;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	j = json_loadfd(fd, 0, NULL);
	base_closep(&fd);
	*ret = (struct parked){
		.id = id,
		.path = copy_field(j, "path"),
		.reason = copy_field(j, "reason"),
		.base_etag = copy_field(j, "base_etag"),
		.size = (uint64_t)json_integer_value(json_object_get(j, "size")),
		.partial = json_is_true(json_object_get(j, "partial")),
		.time_s = json_integer_value(json_object_get(j, "time")),
	};
	json_decref(j);
	return ret->path && ret->reason && ret->base_etag ? 0 : -ENOMEM;
}

static int cmp_parked(const void *a, const void *b)
{
	const struct parked *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

int parked_list(const char *spool_dir, struct parked **ret, size_t *ret_n)
{
	_cleanup_close_ int dirfd = -1;
	_cleanup_free_ uint64_t *ids = NULL;
	struct parked *v = NULL;
	size_t n = 0, have = 0;
	int r = open_parked(spool_dir, &dirfd);

	if (r == -ENOENT) { /* never mounted: nothing parked */
		*ret = NULL;
		*ret_n = 0;
		return 0;
	}
	if (r == 0)
		r = sp_scan(dirfd, ".json", &ids, &n);
	if (r < 0)
		return r;
	v = calloc(MAX(n, (size_t)1), sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i++) {
		r = read_note(dirfd, ids[i], &v[have]);
		if (r == -ENOENT) /* dropped meanwhile */
			r = 0;
		else
			have++;
	}
	if (r < 0) {
		parked_free(v, have);
		return r;
	}
	qsort(v, have, sizeof(*v), cmp_parked);
	*ret = v;
	*ret_n = have;
	return 0;
}

void parked_free(struct parked *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].path);
		free(v[i].reason);
		free(v[i].base_etag);
	}
	free(v);
}

/* The data file; a park that a kill cut short left it in the spool. */
static int open_data(int parked_fd, uint64_t id, int *ret)
{
	char name[SP_ID_MAX], note[SP_ID_MAX];
	_cleanup_close_ int up = -1;
	int r = name_of(id, ".data", name), fd;

	if (r == 0)
		r = name_of(id, ".json", note);
	if (r < 0)
		return r;
	if (faccessat(parked_fd, note, F_OK, 0) < 0)
		return -errno;
	fd = openat(parked_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT) {
		up = openat(parked_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd = up < 0 ? -1 : openat(up, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* Everything that is stored; holes stay holes. What was never known is a hole of the data file, too. */
static int copy_sparse(int from, int to, uint64_t size)
{
	_cleanup_free_ char *buf = malloc(1 * MiB);
	off_t end = (off_t)size, b;
	int r = 0;

	if (buf == NULL)
		return -ENOMEM;
	if (ftruncate(to, 0) < 0 || ftruncate(to, end) < 0)
		return -errno;
	for (off_t a = 0; r == 0; a = b) {
		a = lseek(from, a, SEEK_DATA);
		if (a < 0)
			return errno == ENXIO ? 0 : -errno;
		b = lseek(from, a, SEEK_HOLE);
		if (b < 0)
			return -errno;
		b = MIN(b, a + (off_t)MiB);
		r = base_pread_all(from, buf, (size_t)(b - a), (uint64_t)a);
		if (r == 0)
			r = base_pwrite_all(to, buf, (size_t)(b - a), (uint64_t)a);
	}
	return r;
}

/* A pipe takes no holes and no size: zeros stand for both. */
static int copy_stream(int from, int to, uint64_t size)
{
	_cleanup_free_ char *buf = malloc(1 * MiB);
	uint64_t pos = 0;

	if (buf == NULL)
		return -ENOMEM;
	while (pos < size) {
		size_t n = (size_t)MIN(size - pos, MiB), done = 0;
		int r = base_pread_all(from, buf, n, pos);

		if (r < 0)
			return r;
		while (done < n) {
			ssize_t k = write(to, buf + done, n - done);

			if (k < 0 && errno != EINTR)
				return -errno;
			done += k > 0 ? (size_t)k : 0;
		}
		pos += n;
	}
	return 0;
}

int parked_save(const char *spool_dir, uint64_t id, int fd)
{
	_cleanup_close_ int dirfd = -1, from = -1;
	struct stat st, to;
	int r = open_parked(spool_dir, &dirfd);

	if (r == 0)
		r = open_data(dirfd, id, &from);
	if (r < 0)
		return r;
	if (fstat(from, &st) < 0 || fstat(fd, &to) < 0)
		return -errno;
	return S_ISREG(to.st_mode) ? copy_sparse(from, fd, (uint64_t)st.st_size) :
				     copy_stream(from, fd, (uint64_t)st.st_size);
}

int parked_drop(const char *spool_dir, uint64_t id)
{
	static const char *const suffix[] = { ".json", ".data", ".journal" };
	_cleanup_close_ int dirfd = -1, up = -1;
	int r = open_parked(spool_dir, &dirfd);

	if (r < 0)
		return r;
	up = openat(dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (up < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(suffix); i++) {
		char name[SP_ID_MAX];

		r = name_of(id, suffix[i], name);
		if (r == 0 && unlinkat(dirfd, name, 0) < 0 && (i == 0 || errno != ENOENT))
			r = -errno;
		if (r < 0)
			return r;
		FAILPOINT("spool.dropping");
	}
	/* what a cut-short park left in the spool: the note was the only thing that tied it to parked/ */
	for (size_t i = 1; i < ARRAY_SIZE(suffix); i++) {
		char name[SP_ID_MAX];

		if (name_of(id, suffix[i], name) == 0)
			(void)unlinkat(up, name, 0);
	}
	return 0;
}

/* --- another try -------------------------------------------------------------------------------------------------- */

/* force: whatever is there now becomes the base. The source stays: it is where missing bytes come from. */
static int take_target(struct spfile *f, struct objerr *err)
{
	struct objreq req;
	int r = obj_head(f->s->o.store, f->key, &req);

	f->base = (struct version){ 0 };
	if (r == 0) {
		f->base.size = req.size;
		f->base.mtime_s = req.mtime_s;
		r = str_copy(f->base.etag, sizeof(f->base.etag), req.etag);
	} else if (r == -ENOENT) {
		r = 0;
	} else if (err) {
		*err = req.err;
	}
	objreq_done(&req);
	return r;
}

static int has_note(struct spool *s, uint64_t id)
{
	char name[SP_ID_MAX];
	int r = name_of(id, ".json", name);

	if (r == 0 && faccessat(s->parked_fd, name, F_OK, 0) < 0)
		r = -errno;
	return r;
}

int parked_retry(struct spool *s, uint64_t id, bool force, struct spcommit *ret, struct objerr *err)
{
	struct spfile *f;
	int r = has_note(s, id);

	if (r < 0)
		return r;
	(void)sp_park_finish(s, id);
	r = sp_load(s, s->parked_fd, id, &f);
	if (r == -EBADMSG && err)
		objerr_set(err, "its journal is damaged: only the bytes can be saved");
	if (r < 0)
		return r;
	sp_link(f);
	if (f->state == SP_GONE)
		r = -ENOENT;
	if (r == 0 && force)
		r = take_target(f, err);
	f->state = SP_OPEN;
	f->forced = true;
	if (r == 0)
		r = spfile_commit(f, SPC_RECOVER, ret, err);
	sp_quiesce(f);
	sp_abort_upload(f);
	if (r == 0)
		r = parked_drop(s->dir, id);
	sp_release(f);
	return r;
}
