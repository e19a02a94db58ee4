/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * spload.c - a spool file from its journal: records applied to an empty struct spfile, in order.
 *
 * What the journal cannot know is taken on the safe side: bytes behind base_limit of a file that was committed before
 * count as changed (they are all here), the size is that of the data file, ranges behind it are cut off.
 */
#include "config.h"
#include "spool-private.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int set_headers(struct obj_headers *h, const struct spj_event *ev)
{
	int r = obj_headers_decode(ev->headers, ev->headers_len, h);

	return r == -EINVAL ? -EBADMSG : r;
}

/* Names become a key and log lines; a journal may not make them anything else. */
static int set_names(struct spfile *f, const struct spj_event *ev)
{
	int r = sp_set_names(f, ev->dir, ev->name);

	return r == -ENAMETOOLONG || r == -EINVAL || r == -EILSEQ || r == -EPERM ? -EBADMSG : r;
}

static int on_header(struct spfile *f, const struct spj_event *ev)
{
	int r = set_names(f, ev);

	if (r == 0)
		r = set_headers(&f->headers, ev);
	if (r == 0)
		r = str_copy(f->boot, sizeof(f->boot), ev->text) < 0 ? -EBADMSG : 0;
	if (r < 0)
		return r;
	f->ino = ev->ino;
	f->created_s = ev->time_s;
	f->base = ev->v;
	f->wseq = 1;
	if (ev->v.size > INT64_MAX)
		return -EBADMSG;
	if (!ev->whole) {
		f->src = ev->v;
		f->base_limit = f->same_limit = ev->v.size;
		f->src_key = strdup(f->key);
		r = f->src_key ? 0 : -ENOMEM;
	}
	return r;
}

static int on_range(struct spfile *f, const struct spj_event *ev, bool dirty)
{
	uint64_t end = ev->off + ev->len;
	int r = ranges_add(&f->have, ev->off, MIN(end, f->base_limit));

	if (r == 0 && dirty)
		r = ranges_add(&f->dirty, ev->off, MIN(end, f->same_limit));
	return r;
}

static void on_trunc(struct spfile *f, uint64_t size)
{
	f->base_limit = MIN(f->base_limit, size);
	f->same_limit = MIN(f->same_limit, size);
	ranges_cut(&f->have, size);
	ranges_cut(&f->dirty, size);
}

static int set_source(struct spfile *f, const char *key, const struct version *v)
{
	char *copy = strdup(key);

	if (copy == NULL)
		return -ENOMEM;
	free(f->src_key);
	f->src_key = copy;
	f->src = *v;
	return 0;
}

static int on_base(struct spfile *f, const struct spj_event *ev)
{
	f->base = ev->v;
	f->ntries = 0;
	f->forced = false;
	ranges_clear(&f->dirty);
	/* what is behind base_limit may be written again without a record */
	f->same_limit = f->base_limit;
	return set_source(f, f->key, &ev->v);
}

static int on_src(struct spfile *f, const struct spj_event *ev)
{
	char *key = NULL;
	int r = path_key(f->s->prefix, ev->dir, ev->name, false, &key);

	if (r == 0)
		r = set_source(f, key, &ev->v);
	free(key);
	return r == -ENOMEM ? r : r < 0 ? -EBADMSG : 0;
}

static int on_state(struct spfile *f, uint32_t st)
{
	if (st < SP_OPEN || st >= SP_NSTATES)
		return -EBADMSG;
	if (st == SP_OPEN) /* from here on the content may differ from what was sent before */
		f->wseq++;
	f->state = st;
	return 0;
}

static int on_nonce(struct spfile *f, const char *nonce)
{
	struct sptry *t = realloc(f->tries, (f->ntries + 1) * sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	f->tries = t;
	t[f->ntries] = (struct sptry){ .wseq = f->wseq, .hseq = f->hseq };
	if (str_copy(t[f->ntries].nonce, sizeof(t->nonce), nonce) < 0)
		return -EBADMSG;
	f->ntries++;
	return 0;
}

static int on_upload(struct spfile *f, const struct spj_event *ev)
{
	struct spmpu *m;
	int r;

	spmpu_free(f->mpu);
	f->mpu = NULL;
	if (ev->text[0] == 0)
		return 0;
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	m->tail_off = ev->off;
	m->unit = ev->len;
	m->tail_first = ev->number;
	m->id = strdup(ev->text);
	m->key = strdup(f->key);
	r = m->id && m->key ? 0 : -ENOMEM;
	if (r == 0 && str_copy(m->nonce, sizeof(m->nonce), ev->text2) < 0)
		r = -EBADMSG;
	if (r == 0)
		r = set_headers(&m->headers, ev);
	if (r < 0) {
		spmpu_free(m);
		return r;
	}
	f->mpu = m;
	return 0;
}

static int on_part(struct spfile *f, const struct spj_event *ev)
{
	struct sppart *p;
	int r;

	if (f->mpu == NULL)
		return 0;
	r = spmpu_add_part(f->mpu, ev->number, &p);
	if (r < 0)
		return r;
	p->off = ev->off;
	p->len = ev->len;
	p->on_server = true;
	p->up = ev->text[0] != 0;
	return str_copy(p->etag, sizeof(p->etag), ev->text) < 0 ? -EBADMSG : 0;
}

static int apply(void *arg, const struct spj_event *ev)
{
	struct spfile *f = arg;

	switch (ev->type) {
	case SPJ_HEADER:
		return on_header(f, ev);
	case SPJ_RANGE:
		return on_range(f, ev, true);
	case SPJ_FETCHED:
		return on_range(f, ev, false);
	case SPJ_TRUNC:
		on_trunc(f, ev->off);
		return 0;
	case SPJ_STATE:
		return on_state(f, ev->number);
	case SPJ_HEADERS:
		f->hseq++;
		return set_headers(&f->headers, ev);
	case SPJ_MOVE:
		f->base = ev->v;
		f->ntries = 0;
		return set_names(f, ev);
	case SPJ_BASE:
		return on_base(f, ev);
	case SPJ_SRC:
		return on_src(f, ev);
	case SPJ_NONCE:
		return on_nonce(f, ev->text);
	case SPJ_UPLOAD:
		return on_upload(f, ev);
	case SPJ_PART:
		return on_part(f, ev);
	case SPJ_FORCED:
		f->forced = true;
		return 0;
	default:
		return -EBADMSG;
	}
}

int sp_replay(struct spfile *f, const void *p, size_t n)
{
	size_t used = 0;
	int r = spj_decode(p, n, apply, f, &used);

	if (r == 0)
		f->j.len = f->j.alloc = used;
	return r;
}

static int replay_fd(struct spfile *f)
{
	_cleanup_free_ void *p = NULL;
	struct stat st;
	int r;

	if (fstat(f->j.fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return -EBADMSG;
	p = malloc((size_t)st.st_size);
	if (p == NULL)
		return -ENOMEM;
	r = base_pread_all(f->j.fd, p, (size_t)st.st_size, 0);
	if (r == 0)
		r = sp_replay(f, p, (size_t)st.st_size);
	if (r == 0 && ftruncate(f->j.fd, (off_t)f->j.len) < 0)
		r = -errno; /* a torn tail would hide the records that follow */
	return r;
}

static int open_data(struct spfile *f)
{
	char name[SP_ID_MAX];
	struct stat st;
	int r = sp_data_name(f->id, name);

	if (r < 0)
		return r;
	f->fd = openat(f->dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (f->fd < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	f->size = (uint64_t)st.st_size;
	on_trunc(f, f->size);
	f->cseq = f->state == SP_CLEAN ? f->wseq : 0;
	return 0;
}

int sp_load(struct spool *s, int dirfd, uint64_t id, struct spfile **ret)
{
	char name[SP_ID_MAX];
	struct spfile *f;
	int r = sp_alloc(s, &f);

	if (r < 0)
		return r;
	f->id = id;
	f->dirfd = dirfd;
	r = sp_journal_name(id, name);
	if (r < 0)
		goto fail;
	f->j.fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	r = f->j.fd < 0 ? -errno : replay_fd(f);
	if (r == 0)
		r = open_data(f);
	if (r == -ENODATA && f->state == SP_GONE)
		r = 0;
	if (r < 0)
		goto fail;
	f->state = f->state == SP_PARKED ? SP_OPEN : f->state;
	*ret = f;
	return 0;
fail:
	sp_release(f);
	return r;
}
