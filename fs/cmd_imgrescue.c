/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgrescue.c - after a disaster: states that marks name, a name for a log that has none, a name that another program
 * spoiled, and the disk that a machine saw when another took its image, as a new image.
 *
 * The last one: the state of the image right before the other's claim, which is all that this machine had sent, and over
 * it what its journal has and did not send. Both are copied into a log that has no name until all of it is there, as an
 * import; the journal and the image stay as they are.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "fs/image/repair.h"
#include "objstore/base/clock.h"
#include "objstore/base/failpoint.h"
#include "objstore/base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, BLOCK = 4096 };

static struct attr new_attr(void)
{
	struct timespec now = clock_real_ts();

	return (struct attr){.mode = S_IFREG | 0600, .uid = geteuid(), .gid = getegid(), .mtime = now, .ctime = now, .atime = now};
}

/* --- marks ------------------------------------------------------------------------------------------------------ */

int image_open_mark(struct site *s, const struct image *i, struct volume **ret)
{
	struct objerr err = {0};
	uint64_t number;
	char *end;
	int r;

	errno = 0;
	number = strtoull(s->mark, &end, 16);
	if (!s->mark[0] || *end || errno || !number || strspn(s->mark, "0123456789abcdefABCDEF") != strlen(s->mark))
		return cmd_usage("'%.40s' is no mark: lsvdfs image marks lists them", s->mark);
	r = vol_open_position(&s->env, i->p.prefix, i->o.n.uuid, number, ret, &err);
	return r ? site_fail(s, r, &err) : CMD_OK;
}

static void print_mark(const struct image_mark *m)
{
	char size[24], when[24];

	printf("%016" PRIx64 "  %10s  %-20s  %s%s%s\n", m->number, cmd_size(m->size, size), cmd_time(m->time_s, when),
	       m->whole ? "whole" : "DAMAGED: ", m->whole ? "" : m->why,
	       m->marked ? "" : "  (no longer marked: some of its bytes may be gone)");
}

int image_list_marks(struct site *s)
{
	struct image_mark *v = NULL;
	struct objerr err = {0};
	struct image i;
	json_t *doc;
	size_t n = 0;
	int r = site_find(s, &i);

	if (r)
		return r;
	r = image_marks(&s->env, i.p.prefix, i.o.n.uuid, &v, &n, &err);
	image_done(&i);
	if (r)
		return site_fail(s, r, &err);
	doc = s->json ? json_array() : NULL;
	for (size_t k = 0; k < n; k++) {
		char hex[17];

		if (!s->json) {
			print_mark(&v[k]);
			continue;
		}
		snprintf(hex, sizeof hex, "%016" PRIx64, v[k].number);
		json_array_append_new(doc, json_pack("{s:s, s:I, s:I, s:b, s:b, s:s}", "mark", hex, "size", (json_int_t)v[k].size,
						     "time", (json_int_t)v[k].time_s, "marked", (int)v[k].marked, "whole",
						     (int)v[k].whole, "why", v[k].why));
	}
	free(v);
	if (s->json)
		return cmd_print_json(doc);
	if (!n)
		printf("%s has no checkpoint yet\n", s->path);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- names ------------------------------------------------------------------------------------------------------ */

/* Is the log there, and not that of a deleted image? CMD_OK, or why not. */
static int log_lives(struct site *s, const struct image_new *place)
{
	struct objerr err = {0};
	int r = image_any_key(s->store, place->prefix, &err);

	if (r == 0)
		return cmd_fail("%s: there is no log at %s", s->said, place->prefix);
	if (r > 0)
		r = image_is_dead(s->store, place->prefix, &err);
	if (r > 0)
		return cmd_fail("%s: that image was deleted: what lies there is a leftover", s->said);
	return r ? site_fail(s, r, &err) : CMD_OK;
}

static int nameless(struct site *s, const uint8_t uuid[16])
{
	struct found_names f = {0};
	struct objerr err = {0};
	int r = image_names(s, s->url.prefix, &f, &err);

	r = r ? site_fail(s, r, &err) : CMD_OK;
	for (size_t i = 0; i < f.n && !r; i++)
		if (!f.v[i].status && !memcmp(f.v[i].o.n.uuid, uuid, 16))
			r = cmd_fail("%s: that log has a name: %s", s->said, cmd_printable(f.v[i].key));
	found_names_free(&f);
	return r;
}

/* Of a log that cannot be opened: as its newest mark says. A copy for people, in any case. */
static uint64_t size_of(struct site *s, const struct image_new *place)
{
	struct objerr err = {0};
	struct image_mark *m = NULL;
	struct volume *v;
	uint64_t size = 0;
	size_t n = 0;

	if (!vol_open(&s->env, place->prefix, place->uuid, &v, &err)) {
		size = vol_size(v);
		ignore(vol_close(v)); /* nothing was written */
		return size;
	}
	fprintf(stderr, "lsvdfs: warning: %s: its log is damaged (%s): lsvdfs image check --repair\n", s->said, err.msg);
	if (!image_marks(&s->env, place->prefix, place->uuid, &m, &n, &err) && n > 0)
		size = m[0].size;
	free(m);
	return size;
}

int image_adopt(struct site *s, const char *uuid)
{
	struct image_new place;
	struct objerr err = {0};
	struct attr a = new_attr();
	uint64_t size;
	int r;

	if (log_uuid_parse(uuid, place.uuid))
		return cmd_usage("'%.40s' is no uuid of an image: 32 hexadecimal digits, as lsvdfs recover lists them", uuid);
	snprintf(place.log, sizeof place.log, ".lsvd/img/%s/", uuid);
	if ((size_t)snprintf(place.prefix, sizeof place.prefix, "%s%s", s->url.prefix, place.log) >= sizeof place.prefix)
		return site_fail(s, -ENAMETOOLONG, NULL);
	r = site_may_write(s);
	if (!r)
		r = site_path_free(s);
	if (!r)
		r = log_lives(s, &place);
	if (!r)
		r = nameless(s, place.uuid);
	if (r)
		return r;
	size = size_of(s, &place);
	r = image_make_name(s->store, s->url.prefix, s->path, &place, size, 0, &a, NULL, &err);
	if (r)
		return site_fail(s, r, &err);
	site_forget(s);
	return s->json ? cmd_print_json(json_pack("{s:s, s:s, s:I}", "path", s->path, "uuid", uuid, "size", (json_int_t)size))
		       : CMD_OK;
}

/* A name as it lies there: its text and its header, each if it can be understood. */
struct spoilt {
	struct nameobj o;
	bool text, header;
	uint8_t uuid[16]; /* of the header */
};

static int read_spoilt(struct site *s, const char *key, struct spoilt *ret, struct objerr *err)
{
	_cleanup_free_ char *buf = malloc(65536);
	struct spoilt x = {0};
	struct objreq q;
	const char *v;
	uint64_t size;
	int r;

	if (!buf)
		return -ENOMEM;
	objreq_init(&q, OBJ_GET, key);
	q.buf = buf;
	q.cap = 65536;
	r = obj_do(s->store, &q);
	if (r)
		*err = q.err;
	v = r ? NULL : obj_headers_get(&q.ret_headers, IMGNAME_HEADER);
	x.header = v && !imgname_header_parse(v, x.uuid, &size);
	x.text = !r && !q.truncated && !imgname_decode(buf, q.got, &x.o.n, &(struct objerr){0});
	if (!r) {
		memcpy(x.o.etag, q.etag, sizeof x.o.etag);
		r = obj_headers_copy(&x.o.h, &q.ret_headers);
	}
	objreq_done(&q);
	if (r)
		nameobj_free(&x.o);
	else
		*ret = x;
	return r;
}

static bool is_there(struct site *s, const uint8_t uuid[16])
{
	char prefix[OBJ_KEY_MAX + 1], hex[33];
	struct objerr err = {0};

	log_uuid_format(uuid, hex);
	if ((size_t)snprintf(prefix, sizeof prefix, "%s.lsvd/img/%s/", s->url.prefix, hex) >= sizeof prefix)
		return false;
	return image_any_key(s->store, prefix, &err) > 0 && image_is_dead(s->store, prefix, &err) == 0;
}

/* What it should say; false: nobody knows. */
static bool rebuild(struct site *s, struct spoilt *x)
{
	struct imgname *n = &x->o.n;
	bool text = x->text && is_there(s, n->uuid), header = x->header && is_there(s, x->uuid);
	char hex[33], log[64];

	if (text && header && memcmp(n->uuid, x->uuid, 16))
		return false;
	if (text)
		return true;
	if (!header)
		return false;
	log_uuid_format(x->uuid, hex);
	snprintf(log, sizeof log, ".lsvd/img/%s/", hex);
	imgname_free(n);
	memset(n, 0, sizeof *n);
	memcpy(n->uuid, x->uuid, 16);
	n->name = strdup(s->path);
	n->log = strdup(log);
	return n->name && n->log;
}

int image_fix_name(struct site *s, bool look, bool *ret_fixed)
{
	_cleanup_free_ char *key = NULL;
	struct objerr err = {0}, none = {0};
	struct nameobj o;
	struct spoilt x;
	int r = image_key(s->url.prefix, s->path, &key);

	*ret_fixed = false;
	if (!r)
		r = nameobj_get(s->store, key, &o, &none);
	if (!r)
		nameobj_free(&o);
	if (r != -ENODATA && r != -EUCLEAN)
		return CMD_OK; /* what else is wrong is told by who needs the name */
	r = read_spoilt(s, key, &x, &err);
	if (r)
		return site_fail(s, r, &err);
	if (!x.text && !x.header) {
		; /* a plain file, whatever its name */
	} else if (rebuild(s, &x)) {
		struct image_new place = {0};

		memcpy(place.uuid, x.o.n.uuid, 16);
		snprintf(place.prefix, sizeof place.prefix, "%s%s", s->url.prefix, x.o.n.log);
		if (!look) {
			x.o.n.size = size_of(s, &place);
			r = nameobj_update(s->store, key, &x.o, &err);
		}
		*ret_fixed = !r;
		if (!r && !look)
			site_forget(s);
		r = r ? site_fail(s, r, &err) : CMD_OK;
	} else {
		r = cmd_fail("%s: its name is damaged, and leads to no log: lsvdfs recover lists logs without a name; move it away, "
			     "then lsvdfs image adopt",
			     s->said);
	}
	nameobj_free(&x.o);
	return r;
}

/* --- a journal, as an image -------------------------------------------------------------------------------------- */

struct into {
	struct volume *base;
	const uint8_t *uuid;
	const char *dir, *name;
	uint64_t after; /* sequence */
	struct volume *to;
	uint64_t changes, bytes, allocated, size;
	struct objerr *err;
	struct progress p;
};

static bool all_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static int copy_run(struct into *x, uint64_t off, uint64_t end, char *buf)
{
	int r = 0;

	while (!r && off < end) {
		ssize_t n = vol_read(x->base, false, off, buf, (size_t)MIN((uint64_t)CHUNK, end - off));

		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		for (size_t at = 0; at < (size_t)n && !r; at += BLOCK) {
			struct iovec iov = {buf + at, MIN((size_t)BLOCK, (size_t)n - at)};

			if (!all_zero(buf + at, iov.iov_len))
				r = vol_write(x->to, off + at, &iov, 1, iov.iov_len);
		}
		off += (uint64_t)n;
		progress_at(&x->p, off);
	}
	return r;
}

static int copy_base(struct into *x)
{
	_cleanup_free_ char *buf = malloc(CHUNK);
	uint64_t size = vol_size(x->base), off = 0, end;
	int r = buf ? 0 : -ENOMEM;

	while (!r && off < size) {
		r = vol_seek(x->base, false, off, &off);
		if (r == -ENXIO)
			return 0;
		if (!r)
			r = vol_seek(x->base, true, off, &end);
		if (!r)
			r = copy_run(x, off, end, buf);
		off = end;
	}
	if (r == -EIO) {
		struct vol_stat st;

		vol_stat(x->base, &st);
		objerr_set(x->err, "the image as it was then is not whole any more, its later owner has written over it and cleaned "
			   "up (%s): image journal --out lays the bytes over an export of now", st.why);
	}
	return r;
}

static int on_change(void *arg, const struct vol_jchange *c)
{
	struct into *x = arg;
	struct iovec iov = {(void *)c->data, c->len};

	if (c->seq <= x->after)
		return 0;
	x->changes++;
	if (!strcmp(c->what, "write")) {
		x->bytes += c->len;
		return vol_write(x->to, c->off, &iov, 1, c->len);
	}
	if (!strcmp(c->what, "resize"))
		return vol_resize(x->to, c->off);
	return strcmp(c->what, "zero") ? vol_discard(x->to, c->off, c->len) : vol_zero(x->to, c->off, c->len);
}

/* For image_write(). */
static int fill(struct volume *v, void *arg)
{
	struct into *x = arg;
	struct vol_journal j;
	struct vol_stat st;
	int r = vol_own(v);

	x->to = v;
	FAILPOINT("image.into-claimed");
	if (!r)
		r = copy_base(x);
	FAILPOINT("image.into-copied");
	if (!r)
		r = vol_journal_read(x->dir, x->uuid, x->name, on_change, x, &j, x->err);
	FAILPOINT("image.into-replayed");
	if (!r)
		r = vol_upload(v);
	FAILPOINT("image.into-uploaded");
	vol_stat(v, &st);
	x->allocated = st.allocated;
	x->size = st.size;
	return r;
}

/* What ends it before the name is there, gc or the next mount removes. */
static int make(struct site *s, const char *path, struct into *x, struct image_new *place, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL;
	struct vol_create vc = {.size = vol_size(x->base), .fsync_remote = s->o.fsync_remote};
	struct attr a = new_attr();
	int r = image_new_place(s->url.prefix, place);

	if (!r)
		r = image_note_importing(s->img_dir, place->uuid, true);
	if (!r)
		r = image_note_where(s->img_dir, place->uuid, place->prefix, path);
	if (r)
		return r;
	FAILPOINT("image.into-noted");
	memcpy(vc.uuid, place->uuid, sizeof vc.uuid);
	r = vol_create(&s->env, place->prefix, &vc, err);
	FAILPOINT("image.into-created");
	if (!r)
		r = image_write(&s->env, place->prefix, path, place->uuid, fill, x, err);
	FAILPOINT("image.into-released");
	if (!r)
		r = image_make_name(s->store, s->url.prefix, path, place, x->size, x->allocated, &a, NULL, err);
	FAILPOINT("image.into-named");
	if (!r && !image_file(s->img_dir, place->uuid, NULL, &dir))
		image_remove_dir(dir); /* the bucket has all of the journal, and nobody holds the image */
	if (r && image_drop_import(&s->env, s->url.prefix, place->uuid, &(struct objerr){0}) < 0)
		fprintf(stderr, "lsvdfs: warning: what was made of it is still there (lsvdfs image gc removes it)\n");
	return r;
}

int image_journal_into(struct site *s, const struct image *i, const char *dir, const char *name)
{
	_cleanup_free_ char *path = NULL;
	struct image_new place;
	struct objerr err = {0};
	struct into x = {.uuid = i->o.n.uuid, .dir = dir, .name = name, .err = &err};
	uint64_t claim;
	int r = site_other_path(s, s->into, &path);

	if (!r)
		r = site_may_write(s);
	if (r)
		return r;
	r = vol_journal_base(&s->env, i->p.prefix, i->o.n.uuid, dir, name, &x.base, &x.after, &claim, &err);
	if (r)
		return site_fail(s, r, &err);
	progress_begin(&x.p, "copy", vol_size(x.base));
	r = make(s, path, &x, &place, &err);
	progress_end(&x.p);
	ignore(vol_close(x.base)); /* nothing was written */
	if (r)
		return site_fail(s, r, &err);
	free(s->path);
	s->path = path;
	path = NULL;
	site_forget(s);
	if (s->json)
		return cmd_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I}", "path", s->path, "size", (json_int_t)x.size, "claim",
						(json_int_t)claim, "changes", (json_int_t)x.changes, "bytes", (json_int_t)x.bytes));
	printf("%s: the image before claim %016" PRIx64 " and %" PRIu64 " changes of the journal over it; the journal stays until "
	       "--drop\n", s->path, claim, x.changes);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}
