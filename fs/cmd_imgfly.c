/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgfly.c - `lsvdfs image import TARGET fly:URL`: a volume of Fly.io's (fs/image/fly.h) becomes an image.
 *
 * All headers come first: what is wrong with any object is known before there is anything to be taken back, and so is
 * where the disk ends. Then the data, from the newest object to the oldest, and within one from its last entry to its
 * first: a sector is read and written once, whatever was written over it, and that takes no map of the disk but one bit
 * a sector. Headers and bits are in files of the state directory that have no name, so that memory does not grow.
 *
 * An object is asked for by the ETag that it had when its header was read: a volume that is in use is no volume.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "fs/image/fly.h"
#include "objstore/base/clock.h"
#include "objstore/base/lock.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_NS (100 * NSEC_PER_MSEC) /* so often whether a signal came: nothing else tells who waits for an answer */
enum { LANES = 16, GET_MAX = 1 << 20, GAP_MAX = 64 << 10, PIECES = 256, SAID_MAX = 8, ALIGN = 4096 };

struct object {
	uint64_t number, size;
	char *key;
};

/* What is kept of an object's header, in a file. */
struct record {
	char etag[OBJ_ETAG_MAX];
	unsigned char head[FLY_HEADER];
};

/* One GET: [from, to) of an object, and where parts of it belong. */
struct lane {
	struct objreq q;
	struct fly *f;
	const struct object *o;
	bool busy, done; /* sent; answered, under the lock */
	uint64_t from, to;
	unsigned n;
	struct piece {
		uint64_t at, off; /* in the object, on the disk */
		uint64_t len;
	} p[PIECES];
	char etag[OBJ_ETAG_MAX];
	char *buf;
};

struct fly {
	struct import im; /* first */
	struct site *s;
	struct options o;
	struct obj_url url;
	struct objstore *store;
	char *said;
	struct object *v; /* by number */
	size_t n, cap;
	size_t odd; /* keys that are no numbers */
	char *odd_key;
	uint64_t gaps, empty, behind; /* numbers that are missing; objects without, with too many bytes */
	int heads; /* a record for each object */
	struct fly_seen *seen;
	const struct object *far; /* whose entry reaches the end */
	uint64_t end, bytes, passed;
	uint64_t point; /* with --restore-point */
	struct volume *vol;
	int (*take)(struct fly *f, struct lane *l);
	struct mtx lock;
	struct cond answered; /* signalled by lane_done */
	struct lane lane[LANES];
	unsigned next;
	json_t *warnings;
};

/* --- words ------------------------------------------------------------------------------------------------------- */

static const char *name_of(const struct fly *f, const struct object *o)
{
	return o->key + strlen(f->url.prefix);
}

static void warn(struct fly *f, const char *fmt, ...) printf_like(2, 3);
static void warn(struct fly *f, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "lsvdfs: warning: %s: %s\n", f->said, text);
	(void)json_array_append_new(f->warnings, json_string(text));
}

/* The object is why nothing comes of it. */
static int object_failed(struct fly *f, const struct object *o, int r, const char *words)
{
	objerr_set(&f->im.why, "object %s %s", name_of(f, o), words);
	return import_source_failed(&f->im, r);
}

/* --- GETs side by side -------------------------------------------------------------------------------------------- */

static void lane_done(struct objreq *q)
{
	struct lane *l = q->priv;
	struct fly *f = l->f;

	mtx_lock(&f->lock);
	l->done = true;
	cond_signal(&f->answered);
	mtx_unlock(&f->lock);
}

static void lane_send(struct fly *f, struct lane *l)
{
	objreq_init(&l->q, OBJ_GET, l->o->key);
	l->q.off = l->from;
	l->q.len = l->to - l->from;
	l->q.buf = l->buf;
	l->q.cap = GET_MAX;
	l->q.if_match = l->etag[0] ? l->etag : NULL;
	l->q.done = lane_done;
	l->q.priv = l;
	l->busy = true;
	l->done = false;
	f->next = (f->next + 1) % LANES;
	obj_submit(f->store, &l->q);
}

/* Waits for what the lane has under way, if anything, and takes it. -EINTR: a signal came first, and it stays under way. */
static int lane_finish(struct fly *f, struct lane *l, bool take)
{
	char words[sizeof l->q.err.msg + 32];
	int r;

	if (!l->busy)
		return 0;
	mtx_lock(&f->lock);
	while (!l->done && !image_interrupted())
		(void)cond_wait_until(&f->answered, &f->lock, clock_now_ns() + LOOK_NS);
	l->busy = !l->done;
	mtx_unlock(&f->lock);
	if (l->busy)
		return -EINTR;
	r = l->q.status;
	if (take && (r == -ESTALE || r == -ENOENT || (!r && l->q.size != l->o->size))) {
		r = object_failed(f, l->o, -ESTALE, "changed while it was read: is the volume still in use?");
	} else if (take && !r && l->q.got != l->to - l->from) {
		r = object_failed(f, l->o, -EBADMSG, "came cut short");
	} else if (take && r) {
		(void)snprintf(words, sizeof words, "cannot be read: %s", l->q.err.msg[0] ? l->q.err.msg : explain_errno(r));
		r = object_failed(f, l->o, r, words);
	}
	if (take && !r)
		r = f->take(f, l);
	objreq_done(&l->q);
	return r;
}

/* The next lane, free. */
static int lane_get(struct fly *f, struct lane **ret)
{
	*ret = &f->lane[f->next];
	return lane_finish(f, *ret, true);
}

/* All that is under way; taken as long as nothing is wrong. */
static int finish_all(struct fly *f, int r)
{
	for (unsigned i = 0; i < LANES; i++) {
		int r2 = lane_finish(f, &f->lane[(f->next + i) % LANES], r == 0);

		r = r ? r : r2;
	}
	return r;
}

/* --- which objects ------------------------------------------------------------------------------------------------ */

static int add_key(void *arg, const struct obj_list_entry *e)
{
	struct fly *f = arg;
	const char *name = e->key + strlen(f->url.prefix);
	uint64_t number;
	int r = e->is_prefix ? 0 : fly_number(name, &number);

	if (r < 0)
		return cmd_fail("%s: object %s: a number of more than 64 bits", f->said, name);
	if (!r) {
		if (!f->odd++ && (f->odd_key = strdup(name)))
			cmd_printable(f->odd_key);
		return CMD_OK;
	}
	if (f->n == f->cap) {
		size_t cap = MAX(f->cap * 2, (size_t)256);
		struct object *v = reallocarray(f->v, cap, sizeof *v);

		if (!v)
			return cmd_fail("out of memory");
		f->v = v;
		f->cap = cap;
	}
	f->v[f->n] = (struct object){.number = number, .size = e->size, .key = strdup(e->key)};
	return f->v[f->n++].key ? CMD_OK : cmd_fail("out of memory");
}

static int list_objects(struct fly *f)
{
	struct objerr err = {0};
	int r = obj_each(f->store, OBJ_LIST, f->url.prefix, true, add_key, f, &err);

	if (r >= 0)
		return r;
	explain_error(f->said, r, &err, &err);
	return cmd_fail("%s", err.msg);
}

static int by_number(const void *a, const void *b)
{
	const struct object *x = a, *y = b;

	return x->number != y->number ? (x->number < y->number ? -1 : 1) : strcmp(x->key, y->key);
}

/* None behind the restore point. */
static void cut_at_point(struct fly *f)
{
	while (f->n > 0 && f->v[f->n - 1].number > f->point)
		free(f->v[--f->n].key);
	if (f->n > 0 && f->v[f->n - 1].number < f->point)
		warn(f, "there is no object %" PRIx64 ": the last one before it is %s", f->point, name_of(f, &f->v[f->n - 1]));
}

static void one_gap(struct fly *f, const struct object *a, const struct object *b)
{
	uint64_t n = b->number - (a ? a->number + 1 : 0);

	f->gaps += n;
	if (!a)
		warn(f, "no object before %s: what was written then is not in the image", name_of(f, b));
	else
		warn(f, "%" PRIu64 " %s between %s and %s: what was written then is not in the image", n,
		     n == 1 ? "number is missing" : "numbers are missing", name_of(f, a), name_of(f, b));
}

/* The first number is 0 or 1: nothing says which. */
static int check_gaps(struct fly *f)
{
	size_t gaps = 0;

	for (size_t i = 0; i < f->n; i++) {
		const struct object *a = i ? &f->v[i - 1] : NULL, *b = &f->v[i];

		if (a ? b->number == a->number + 1 : b->number <= 1)
			continue;
		if (!f->s->stop_at_gap) {
			if (gaps++ < SAID_MAX)
				one_gap(f, a, b);
			else
				f->gaps += b->number - a->number - 1;
			continue;
		}
		if (!a)
			return cmd_fail("%s: there is nothing before the first gap: object %s is the first; nothing was made",
					f->said, name_of(f, b));
		warn(f, "the number behind %s is missing: what comes from %s on is not in the image", name_of(f, a), name_of(f, b));
		while (f->n > i)
			free(f->v[--f->n].key);
	}
	if (gaps > SAID_MAX)
		warn(f, "%zu more gaps", gaps - SAID_MAX);
	return CMD_OK;
}

static int choose_objects(struct fly *f)
{
	int r = list_objects(f);

	if (r)
		return r;
	if (f->n)
		qsort(f->v, f->n, sizeof *f->v, by_number);
	if (f->odd)
		warn(f, "%zu %s passed over: no object's number (%s%s)", f->odd, f->odd == 1 ? "name is" : "names are",
		     f->odd_key ? f->odd_key : "?", f->odd > 1 ? ", ..." : "");
	if (f->s->restore_point)
		cut_at_point(f);
	if (!f->n)
		return cmd_fail("%s: no objects of a volume%s: they are called by their numbers, in hexadecimal", f->said,
				f->s->restore_point ? " up to the restore point" : "");
	for (size_t i = 1; i < f->n; i++)
		if (f->v[i].number == f->v[i - 1].number)
			return cmd_fail("%s: objects %s and %s have the same number; nothing was made", f->said,
					name_of(f, &f->v[i - 1]), name_of(f, &f->v[i]));
	return check_gaps(f);
}

/* --- all headers -------------------------------------------------------------------------------------------------- */

/* A file without a name. */
static int scratch(const char *dir, int *ret)
{
	_cleanup_free_ char *name = NULL;
	int fd = open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		if (asprintf(&name, "%s/fly-XXXXXX", dir) < 0)
			return -ENOMEM;
		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0)
			(void)unlink(name);
	}
	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

static int take_head(struct fly *f, struct lane *l)
{
	struct fly_header *h = malloc(sizeof *h);
	struct record *rec = calloc(1, sizeof *rec);
	struct objerr err = {0};
	int r = h && rec ? fly_parse((unsigned char *)l->buf, l->o->size, h, &err) : -ENOMEM;

	if (r == -EUCLEAN) {
		r = object_failed(f, l->o, r, err.msg);
	} else if (!r) {
		if (f->end < h->end) {
			f->end = h->end;
			f->far = l->o;
		}
		if (l->o->size > FLY_HEADER + h->data && f->behind++ < SAID_MAX)
			warn(f, "object %s has %" PRIu64 " bytes behind its data: passed over", name_of(f, l->o),
			     l->o->size - FLY_HEADER - h->data);
		memcpy(rec->etag, l->q.etag, sizeof rec->etag);
		memcpy(rec->head, l->buf, sizeof rec->head);
		r = base_pwrite_all(f->heads, rec, sizeof *rec, (uint64_t)(l->o - f->v) * sizeof *rec);
	}
	if (!r) {
		f->passed += FLY_HEADER;
		progress_at(&f->im.p, f->passed);
	}
	free(h);
	free(rec);
	return r;
}

static int ask_for_head(struct fly *f, const struct object *o)
{
	struct objerr err = {0};
	struct lane *l;
	int r = lane_get(f, &l);

	f->bytes += o->size;
	if (r)
		return r;
	if (o->size == 0) {
		if (f->empty++ < SAID_MAX)
			warn(f, "object %s is empty: taken as one that the volume's own cleaner removed", name_of(f, o));
		return 0;
	}
	if (o->size < FLY_HEADER) {
		objerr_set(&err, "has %" PRIu64 " bytes, less than a header (%d)", o->size, FLY_HEADER);
		return object_failed(f, o, -EUCLEAN, err.msg);
	}
	l->o = o;
	l->from = 0;
	l->to = FLY_HEADER;
	l->etag[0] = '\0';
	lane_send(f, l);
	return 0;
}

static int read_heads(struct fly *f)
{
	int r = scratch(f->s->img_dir, &f->heads);

	if (r)
		return cmd_fail("%s: %s", f->s->img_dir, explain_errno(r));
	progress_begin(&f->im.p, "read headers", (uint64_t)f->n * FLY_HEADER);
	f->take = take_head;
	for (size_t i = 0; !r && i < f->n && !image_interrupted(); i++)
		r = ask_for_head(f, &f->v[i]);
	r = finish_all(f, r);
	progress_end(&f->im.p);
	if (f->empty > SAID_MAX)
		warn(f, "%" PRIu64 " more empty objects", f->empty - SAID_MAX);
	if (f->behind > SAID_MAX)
		warn(f, "%" PRIu64 " more objects with bytes behind their data", f->behind - SAID_MAX);
	if (image_interrupted())
		return cmd_fail("%s: interrupted, nothing was made", f->s->said);
	if (f->im.failed)
		return cmd_fail("%s: %s; nothing was made", f->said, f->im.why.msg);
	return r ? cmd_fail("%s: %s", f->s->img_dir, explain_errno(r)) : CMD_OK;
}

/* --- the data ----------------------------------------------------------------------------------------------------- */

static int take_data(struct fly *f, struct lane *l)
{
	int r = 0;

	for (unsigned i = 0; !r && i < l->n; i++)
		r = import_write(f->vol, &f->im, l->p[i].off, l->buf + (l->p[i].at - l->from), (size_t)l->p[i].len);
	l->n = 0;
	return r;
}

/* Is the piece near enough for the GET that is being put together? */
static bool fits(const struct lane *l, const struct piece *p)
{
	uint64_t from = MIN(l->from, p->at), to = MAX(l->to, p->at + p->len);
	uint64_t gap = p->at > l->to ? p->at - l->to : p->at + p->len < l->from ? l->from - p->at - p->len : 0;

	return l->n < PIECES && to - from <= GET_MAX && gap <= GAP_MAX;
}

/* What was put together goes out. */
static int send_lane(struct fly *f)
{
	struct lane *l = &f->lane[f->next];

	if (!l->busy && l->n)
		lane_send(f, l);
	return lane_get(f, &l);
}

static int add_piece(struct fly *f, const struct object *o, const char *etag, struct piece p)
{
	struct lane *l = &f->lane[f->next]; /* not busy */
	int r = 0;

	if (l->n && !fits(l, &p)) {
		r = send_lane(f);
		l = &f->lane[f->next];
	}
	if (r)
		return r;
	if (!l->n) {
		l->o = o;
		l->from = p.at;
		l->to = p.at + p.len;
		memcpy(l->etag, etag, sizeof l->etag);
	}
	l->from = MIN(l->from, p.at);
	l->to = MAX(l->to, p.at + p.len);
	l->p[l->n++] = p;
	return 0;
}

/* What of an entry no later one wrote. */
static int take_entry(struct fly *f, const struct object *o, const char *etag, const struct fly_entry *e)
{
	uint64_t from = e->off / FLY_SECTOR, to = from + e->len / FLY_SECTOR, at, n;
	int r;

	while (!(r = fly_seen_take(f->seen, from, to, &at, &n)) && n > 0 && !image_interrupted()) {
		from = at + n;
		while (!r && n > 0) {
			uint64_t k = MIN(n, (uint64_t)GET_MAX / FLY_SECTOR);

			r = add_piece(f, o, etag, (struct piece){.at = e->at + (at * FLY_SECTOR - e->off), .off = at * FLY_SECTOR,
								 .len = k * FLY_SECTOR});
			at += k;
			n -= k;
		}
		if (r)
			break;
	}
	return r;
}

static int take_object(struct fly *f, const struct object *o, struct record *rec, struct fly_header *h)
{
	int r = o->size ? base_pread_all(f->heads, rec, sizeof *rec, (uint64_t)(o - f->v) * sizeof *rec) : 0;

	if (r || !o->size)
		return r;
	r = fly_parse(rec->head, o->size, h, NULL);
	for (unsigned i = h->n; !r && i > 0; i--)
		r = take_entry(f, o, rec->etag, &h->v[i - 1]);
	return r ? r : send_lane(f);
}

static int fill(struct volume *v, struct import *im)
{
	struct fly *f = (struct fly *)im;
	struct fly_header *h = malloc(sizeof *h);
	struct record *rec = malloc(sizeof *rec);
	int r = h && rec ? 0 : -ENOMEM, fd;

	f->vol = v;
	f->take = take_data;
	f->passed = 0;
	if (!r && !(r = scratch(f->s->img_dir, &fd))) {
		r = fly_seen_new(fd, &f->seen);
		if (r)
			close(fd);
	}
	for (size_t i = f->n; !r && i > 0 && !image_interrupted(); i--) {
		r = take_object(f, &f->v[i - 1], rec, h);
		f->passed += f->v[i - 1].size;
		progress_at(&im->p, f->passed);
	}
	r = finish_all(f, r);
	free(h);
	free(rec);
	return r;
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static int open_volume(struct fly *f, const char *source)
{
	_cleanup_free_ char *list = NULL;
	struct objerr err = {0};
	int r = options_init(&f->o);

	if (!r)
		r = f->s->from_options ? ((list = strdup(f->s->from_options)) ? 0 : -ENOMEM) : options_store_list(&f->s->o, &list);
	if (!r)
		r = options_parse(&f->o, list, &err);
	if (!r && !(f->o.source = strdup(source + strlen("fly:"))))
		r = -ENOMEM;
	f->o.read_only = true;
	if (!r)
		r = options_finish(&f->o, &err);
	if (!r)
		r = mount_open_store(&f->o, f->s->budget, &f->url, &f->store, &err);
	if (!r)
		return CMD_OK;
	(void)cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
	return r == -EINVAL ? CMD_USAGE : CMD_FAILED;
}

static int prepare(struct fly *f, const char *source)
{
	const char *point = f->s->restore_point;

	if (point && fly_number(point + (str_has_prefix(point, "0x") ? 2 : 0), &f->point) <= 0)
		return cmd_usage("image import: --restore-point takes an object's number, in hexadecimal as its name");
	f->said = strdup(source);
	f->warnings = json_array();
	f->im.what = f->said ? cmd_printable(f->said) : NULL;
	f->im.fill = fill;
	for (unsigned i = 0; i < LANES; i++) {
		f->lane[i].f = f;
		f->lane[i].buf = malloc(GET_MAX);
		if (!f->lane[i].buf)
			return cmd_fail("out of memory");
	}
	return f->said && f->warnings ? CMD_OK : cmd_fail("out of memory");
}

static void done(struct fly *f)
{
	for (unsigned i = 0; i < LANES; i++)
		f->s->left |= f->lane[i].busy; /* nobody can take a GET back: the process ends with it */
	if (f->s->left)
		return;
	obj_close(f->store);
	obj_url_free(&f->url);
	options_done(&f->o);
	for (size_t i = 0; i < f->n; i++)
		free(f->v[i].key);
	for (unsigned i = 0; i < LANES; i++)
		free(f->lane[i].buf);
	fly_seen_free(f->seen);
	if (f->heads >= 0)
		close(f->heads);
	cond_destroy(&f->answered);
	mtx_destroy(&f->lock);
	json_decref(f->im.more);
	json_decref(f->warnings);
	free(f->v);
	free(f->odd_key);
	free(f->said);
	free(f);
}

/* The image's: as long as it was said to be, else as the last byte needs, in blocks. */
static int choose_size(struct fly *f)
{
	if (!f->s->size)
		f->im.size = (f->end + ALIGN - 1) / ALIGN * ALIGN;
	if (f->im.size < f->end)
		return cmd_fail("%s: object %s has data up to byte %" PRIu64 ", more than --size says; nothing was made", f->said,
				name_of(f, f->far), f->end);
	f->im.more = json_pack("{s:I, s:s, s:s, s:I, s:O}", "objects", (json_int_t)f->n, "first", name_of(f, &f->v[0]), "last",
			       name_of(f, &f->v[f->n - 1]), "missing", (json_int_t)MIN(f->gaps, (uint64_t)INT64_MAX), "warnings", f->warnings);
	return CMD_OK;
}

int image_import_fly(struct site *s, const char *source)
{
	struct fly *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return cmd_fail("out of memory");
	f->s = s;
	f->heads = -1;
	mtx_init(&f->lock, RANK_WAIT);
	cond_init(&f->answered);
	r = s->size ? cmd_image_size(s->size, &f->im.size) : CMD_OK;
	if (!r)
		r = prepare(f, source);
	if (!r)
		r = open_volume(f, source);
	if (!r)
		r = choose_objects(f);
	if (!r)
		r = import_begin(s);
	if (!r && mkdir(s->img_dir, 0700) && errno != EEXIST)
		r = cmd_fail("%s: %s", s->img_dir, explain_errno(-errno));
	if (!r)
		r = read_heads(f);
	if (!r)
		r = choose_size(f);
	if (!r) {
		progress_begin(&f->im.p, "import", f->bytes);
		r = import_run(s, &f->im, f->im.size);
	}
	done(f);
	return r;
}
