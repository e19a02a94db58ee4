/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgio.c - images out of the bucket and into it, sparse both ways.
 *
 * Export reads one state: a follower's view that did not move from the first byte to the last. Where the owner deletes
 * faster than that, a file is begun again; a pipe cannot be.
 *
 * Import fills a log that has no name; the name is the last thing that is put. Whatever ends it before leaves nothing
 * that anybody could take for an image: a signal removes what is there, after kill -9 gc or the next mount does.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, BLOCK = 4096, TRIES = 3 };

/* --- progress --------------------------------------------------------------------------------------------------- */

void progress_begin(struct progress *p, const char *what, uint64_t total)
{
	*p = (struct progress){.what = what, .total = total, .began = clock_now_ns(), .on = isatty(STDERR_FILENO)};
}

void progress_at(struct progress *p, uint64_t done)
{
	int64_t now = clock_now_ns();
	char a[24], b[24], c[24], bar[21];
	size_t full;

	if (!p->on || now - p->said < NSEC_PER_SEC / 5)
		return;
	p->said = now;
	cmd_size(done, a);
	cmd_size((uint64_t)((double)done * 1e9 / (double)MAX(now - p->began, 1)), c);
	if (!p->total) {
		fprintf(stderr, "\r%s %s, %s/s   ", p->what, a, c);
		return;
	}
	full = (size_t)((double)MIN(done, p->total) / (double)p->total * (sizeof bar - 1));
	memset(bar, ' ', sizeof bar - 1);
	memset(bar, '#', full);
	bar[sizeof bar - 1] = '\0';
	fprintf(stderr, "\r%s [%s] %3.0f %%, %s of %s, %s/s   ", p->what, bar,
		(double)MIN(done, p->total) * 100 / (double)p->total, a, cmd_size(p->total, b), c);
}

void progress_end(struct progress *p)
{
	if (p->on && p->said)
		fprintf(stderr, "\r\033[K");
}

static volatile sig_atomic_t interrupted;
static int wake_fd = -1; /* readable from then on: the signal may come to a thread that is not the one that waits */

static void on_signal(int sig)
{
	static const uint64_t one = 1;
	int e = errno;

	interrupted = sig;
	if (write(wake_fd, &one, sizeof one) < 0)
		interrupted = sig;
	errno = e;
}

/* The first one ends the work in good order, a second one the process: what it leaves is gc's. */
static void watch_signals(void)
{
	struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
	sigaction(SIGHUP, &a, NULL);
}

bool image_interrupted(void)
{
	return interrupted != 0;
}

static bool all_zero(const char *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* The next run of blocks in p[at..n) that are not all zeros. Length 0: none. */
static size_t data_run(const char *p, size_t n, size_t *io_at)
{
	size_t end;

	while (*io_at < n && all_zero(p + *io_at, MIN((size_t)BLOCK, n - *io_at)))
		*io_at += MIN((size_t)BLOCK, n - *io_at);
	for (end = *io_at; end < n && !all_zero(p + end, MIN((size_t)BLOCK, n - end));)
		end += MIN((size_t)BLOCK, n - end);
	return end - *io_at;
}

/* --- export ----------------------------------------------------------------------------------------------------- */

struct out {
	int fd;
	bool stream, device; /* in order, zeros too; in place, zeros too */
	uint64_t data;	     /* bytes that are not holes */
};

static int write_stream(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR && !interrupted)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static int put_zeros(struct out *o, uint64_t off, uint64_t n)
{
	static const char zeros[65536];
	int r = 0;

	while (n > 0 && (o->stream || o->device) && !r && !interrupted) {
		size_t k = (size_t)MIN(n, (uint64_t)sizeof zeros);

		r = o->stream ? write_stream(o->fd, zeros, k) : base_pwrite_all(o->fd, zeros, k, off);
		off += k;
		n -= k;
	}
	return r;
}

static int put_data(struct out *o, uint64_t off, const char *p, size_t n)
{
	size_t at = 0, run;
	int r = 0;

	o->data += n;
	if (o->stream)
		return write_stream(o->fd, p, n);
	if (o->device)
		return base_pwrite_all(o->fd, p, n, off);
	while (!r && (run = data_run(p, n, &at)) > 0) {
		r = base_pwrite_all(o->fd, p + at, run, off + at);
		at += run;
	}
	return r;
}

/* -EAGAIN: the view moved. *ret_reading: the failure was the image's, not the file's. */
static int copy_out(struct volume *v, struct out *o, struct progress *p, bool *ret_reading)
{
	_cleanup_free_ char *buf = malloc(CHUNK);
	struct vol_stat first, now;
	uint64_t off = 0, size = vol_size(v), end;
	int r = buf ? 0 : -ENOMEM;

	vol_stat(v, &first);
	*ret_reading = true;
	while (!r && off < size && !interrupted) {
		ssize_t n;

		r = vol_seek(v, false, off, &end);
		if (r == -ENXIO) {
			end = size;
			r = 0;
		}
		if (!r && end > off) {
			*ret_reading = false;
			r = put_zeros(o, off, end - off);
			*ret_reading = r == 0;
			off = end;
			continue;
		}
		if (!r)
			r = vol_seek(v, true, off, &end);
		for (; !r && off < end && !interrupted; off += (uint64_t)n) {
			n = vol_read(v, false, off, buf, (size_t)MIN((uint64_t)CHUNK, end - off));
			if (n <= 0) {
				r = n < 0 ? (int)n : -EIO;
				break;
			}
			*ret_reading = false;
			r = put_data(o, off, buf, (size_t)n);
			*ret_reading = r == 0;
			progress_at(p, off);
		}
	}
	vol_stat(v, &now);
	if (!r && (now.tail != first.tail || now.epoch != first.epoch))
		r = -EAGAIN;
	return r ? r : interrupted ? -EINTR : 0;
}

static int open_out(const struct site *s, const char *file, struct out *ret)
{
	struct stat st;

	if (!strcmp(file, "-")) {
		if (isatty(STDOUT_FILENO))
			return cmd_fail("-: will not write a disk to a terminal");
		*ret = (struct out){.fd = dup(STDOUT_FILENO), .stream = true};
	} else if (stat(file, &st)) {
		*ret = (struct out){.fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
	} else if (!s->force) {
		return cmd_fail("%s: is there already (--force writes over it)", file);
	} else {
		ret->device = S_ISBLK(st.st_mode);
		ret->stream = !ret->device && !S_ISREG(st.st_mode);
		ret->fd = open(file, (ret->stream ? O_WRONLY : O_RDWR) | O_CLOEXEC | (S_ISREG(st.st_mode) ? O_TRUNC : 0));
	}
	return ret->fd < 0 ? cmd_fail("%s: %s", file, explain_errno(-errno)) : CMD_OK;
}

static int finish_out(struct out *o, uint64_t size)
{
	struct stat st;

	if (fstat(o->fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) && !o->stream && ftruncate(o->fd, (off_t)size))
		return -errno;
	if (!o->stream && fsync(o->fd))
		return -errno;
	return 0;
}

static int begin_again(struct volume *v, struct out *o)
{
	o->data = 0;
	if (!o->device && ftruncate(o->fd, 0))
		return -errno;
	return vol_refresh(v);
}

static int export_to(struct site *s, struct volume *v, const char *file, struct out *o)
{
	struct progress p;
	struct vol_stat st;
	bool reading = true;
	int r = -EAGAIN;

	progress_begin(&p, "export", vol_size(v));
	for (int i = 0; i < TRIES && r == -EAGAIN; i++) {
		r = i ? begin_again(v, o) : 0;
		if (!r)
			r = copy_out(v, o, &p, &reading);
		if (o->stream && r == -EAGAIN)
			break;
	}
	progress_end(&p);
	vol_stat(v, &st);
	if (r == -EAGAIN)
		return cmd_fail("%s: its owner (%s) moves on faster than it can be read: nothing of this is one state of the "
				"image; stop the writer first",
				s->said, st.holder);
	if (r == -EINTR)
		return cmd_fail("%s: interrupted", file);
	if (r && reading)
		return cmd_fail("%s: %s (lsvdfs image check says more)", s->said, st.why[0] ? st.why : explain_errno(r));
	if (!r)
		r = finish_out(o, st.size);
	if (!r && close(o->fd))
		r = -errno;
	o->fd = r ? o->fd : -1;
	if (r)
		return cmd_fail("%s: %s", file, explain_errno(r));
	if (!s->json)
		return CMD_OK;
	return cmd_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:s}", "path", s->path, "size", (json_int_t)st.size,
					"data", (json_int_t)o->data, "epoch", (json_int_t)st.epoch, "log_end",
					(json_int_t)st.tail, "state", "everything in the log below log_end"));
}

int image_export(struct site *s, const char *file)
{
	struct out o = {.fd = -1};
	struct objerr err = {0};
	struct stat before;
	struct volume *v, *of;
	const char *snapshot;
	struct image i;
	bool made;
	int r;

	if (s->json && !strcmp(file, "-"))
		return cmd_usage("image export: --json and the image cannot both go to standard output");
	r = site_snapshot(s, &snapshot);
	if (!r && snapshot && s->mark)
		r = cmd_usage("image export: a snapshot or --mark, not both");
	if (!r)
		r = site_find(s, &i);
	if (r)
		return r;
	/* what was written through the mount and waits there */
	if (s->mounted && !snapshot && !s->mark && site_here(s, i.uuid))
		r = site_ask(s, "upload", NULL);
	made = stat(file, &before) && errno == ENOENT;
	if (!r)
		r = open_out(s, file, &o);
	if (!r) {
		watch_signals();
		of = NULL;
		r = s->mark ? image_open_mark(s, &i, &v) : image_open_at(s, &i, snapshot, &of, &v, &err);
		if (r) {
			r = s->mark ? r : site_fail(s, r, &err);
		} else {
			r = export_to(s, v, file, &o);
			ignore(vol_close(v)); /* nothing was written */
			if (of)
				ignore(vol_close(of));
		}
		if (r && made && !o.stream)
			(void)unlink(file); /* half an image is none */
	}
	if (o.fd >= 0)
		close(o.fd);
	image_done(&i);
	return r;
}

/* --- import ----------------------------------------------------------------------------------------------------- */

struct in {
	struct import im; /* first */
	int fd;
	bool sparse;	/* SEEK_DATA says where data are */
	bool cut;	/* no more than .size is read, and that is the image's */
	uint64_t size;	/* 0: not known */
	uint64_t least; /* bytes that it has, as it said when it was opened */
	uint64_t total; /* bytes read */
};

/* -EINTR: a signal came first. A file or a device of blocks is always readable. */
static int wait_readable(int fd)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};

	while (!interrupted && poll(p, ARRAY_SIZE(p), -1) < 0)
		if (errno != EINTR)
			return -errno;
	return interrupted || p[1].revents ? -EINTR : 0;
}

static ssize_t read_some(int fd, char *buf, size_t n)
{
	size_t got = 0;

	while (got < n) {
		int r = wait_readable(fd);
		ssize_t k = r ? -1 : read(fd, buf + got, n - got);

		if (r)
			return r;
		if (k < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			break;
		got += (size_t)k;
	}
	return (ssize_t)got;
}

/* Over the next hole of the input. */
static int skip_hole(struct in *in)
{
	off_t at = in->sparse ? lseek(in->fd, (off_t)in->total, SEEK_DATA) : -1;

	if (!in->sparse)
		return 0;
	if (at < 0 && errno == ENXIO)
		at = (off_t)MAX(in->least, in->total);
	if (at < 0)
		return -errno;
	in->total = (uint64_t)at;
	return lseek(in->fd, at, SEEK_SET) < 0 ? -errno : 0;
}

int import_write(struct volume *v, struct import *im, uint64_t off, const char *buf, size_t n)
{
	size_t at = 0, run;
	int r = 0;

	while (!r && (run = data_run(buf, n, &at)) > 0) {
		struct iovec iov = {.iov_base = (void *)(buf + at), .iov_len = run};

		r = vol_write(v, off + at, &iov, 1, run);
		im->data += run;
		at += run;
	}
	return r;
}

int import_source_failed(struct import *im, int r)
{
	im->failed = r;
	return r;
}

/* What shrinks to a hole's beginning looks like that hole. */
static bool became_shorter(const struct in *in)
{
	struct stat st;

	return in->total < in->least || (!fstat(in->fd, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size < in->least);
}

static int fill_from_file(struct volume *v, struct import *im)
{
	_cleanup_free_ char *buf = malloc(CHUNK);
	struct in *in = (struct in *)im;
	int r = buf ? 0 : -ENOMEM;

	while (!r && !interrupted) {
		uint64_t left;
		ssize_t n;

		r = skip_hole(in);
		left = in->cut ? in->size - MIN(in->total, in->size) : CHUNK;
		n = r ? 0 : read_some(in->fd, buf, (size_t)MIN(left, (uint64_t)CHUNK));
		if ((r || n < 0) && !interrupted)
			r = import_source_failed(im, r ? r : (int)n);
		if (r || n <= 0)
			break;
		r = import_write(v, im, in->total, buf, (size_t)n);
		in->total += (uint64_t)n;
		progress_at(&im->p, in->total);
	}
	if (!r && !interrupted && became_shorter(in)) {
		objerr_set(&im->why, "became shorter while it was read");
		r = import_source_failed(im, -ENODATA);
	}
	im->size = in->cut ? in->size : in->total;
	return r;
}

/* For image_write(). */
static int fill(struct volume *v, void *arg)
{
	struct import *im = arg;
	struct vol_stat st;
	int r = vol_own(v);

	if (!r)
		r = im->fill(v, im);
	if (interrupted) {
		struct vol_remains rem = {0};

		if (vol_doom(v, &rem) == 0) { /* what is in the journal goes nowhere */
			free(rem.claims);
			free(rem.ref);
		}
		return -EINTR;
	}
	if (!r && vol_size(v) != im->size)
		r = vol_resize(v, im->size);
	if (!r)
		r = vol_upload(v);
	vol_stat(v, &st);
	im->allocated = st.allocated;
	return r;
}

static int open_in(const struct site *s, const char *file, struct in *in)
{
	uint64_t bytes = 0;
	struct stat st;
	int r = s->size ? cmd_image_size(s->size, &in->size) : CMD_OK;

	if (r)
		return r;
	in->fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	if (in->fd < 0 || fstat(in->fd, &st))
		return cmd_fail("%s: %s", file, explain_errno(-errno));
	if (S_ISDIR(st.st_mode))
		return cmd_fail("%s: a directory", file);
	if (S_ISCHR(st.st_mode) && !isatty(in->fd) && !s->size)
		return cmd_fail("%s: a character device, which may have no end: say how much of it (--size)", file);
	if (S_ISREG(st.st_mode) && lseek(in->fd, 0, SEEK_CUR) == 0) {
		in->sparse = true;
		in->least = (uint64_t)st.st_size;
	} else if (S_ISBLK(st.st_mode) && !ioctl(in->fd, BLKGETSIZE64, &bytes)) {
		in->least = bytes;
	}
	in->cut = s->size != NULL;
	if (in->cut && in->size < in->least)
		return cmd_fail("%s: has %" PRIu64 " bytes, more than --size says", file, in->least);
	in->size = in->cut ? in->size : in->least;
	if (in->sparse && lseek(in->fd, 0, SEEK_DATA) < 0 && errno != ENXIO)
		in->sparse = false;
	if (lseek(in->fd, 0, SEEK_SET) < 0 && in->sparse)
		return cmd_fail("%s: %s", file, explain_errno(-errno));
	return CMD_OK;
}

static int name_it(struct site *s, const struct image_new *place, const struct import *im, struct objerr *err)
{
	_cleanup_free_ char *dir = NULL;
	struct timespec now = clock_real_ts();
	struct attr a = {.mode = S_IFREG | 0600, .uid = geteuid(), .gid = getegid(), .mtime = now, .ctime = now, .atime = now};
	int r = image_make_name(s->store, s->url.prefix, s->path, place, im->size, im->allocated, &a, NULL, err);

	if (!r)
		r = image_file(s->img_dir, place->uuid, NULL, &dir);
	if (!r)
		image_remove_dir(dir); /* the bucket has all of the journal, and nobody holds the image */
	return r;
}

static int import_failed(struct site *s, const struct import *im, int r, const struct objerr *err, const uint8_t uuid[16])
{
	struct objerr e = {0};
	int dropped = image_drop_import(&s->env, s->url.prefix, uuid, &e);

	if (dropped < 0)
		cmd_fail("%s: what was sent already has no name and is still there (lsvdfs image gc removes it): %s", s->said,
			 e.msg[0] ? e.msg : explain_errno(dropped));
	if (r == -EINTR)
		return cmd_fail("%s: interrupted, nothing was made", s->said);
	if (im->failed)
		return cmd_fail("%s: %s; nothing was made", im->what, im->why.msg[0] ? im->why.msg : explain_errno(im->failed));
	if (r == -EEXIST)
		return cmd_fail("%s: somebody made something of this name meanwhile; nothing was made", s->said);
	return site_fail(s, r, err);
}

int import_begin(struct site *s)
{
	int r = site_may_write(s);

	if (!r)
		r = site_path_free(s);
	if (!r)
		watch_signals();
	return r;
}

/* Where it will be, for whoever cleans up after us: there is no log yet. */
static int note_import(struct site *s, struct image_new *place)
{
	_cleanup_free_ char *dir = NULL;
	struct objerr err = {0};
	int r = image_new_place(s->url.prefix, place);

	if (!r) /* in this order: `where` alone is an image's that was written */
		r = image_note_importing(s->img_dir, place->uuid, true);
	if (!r)
		r = image_note_where(s->img_dir, place->uuid, place->prefix, s->path);
	if (!r)
		return CMD_OK;
	if (!image_file(s->img_dir, place->uuid, NULL, &dir))
		image_remove_dir(dir);
	objerr_set(&err, "%s: %s", s->img_dir, explain_errno(r));
	return site_fail(s, r, &err);
}

int import_run(struct site *s, struct import *im, uint64_t expected)
{
	struct vol_create vc = {.fsync_remote = s->o.fsync_remote};
	struct image_new place;
	struct objerr err = {0};
	json_t *doc;
	int r = note_import(s, &place);

	if (r)
		return r;
	memcpy(vc.uuid, place.uuid, sizeof vc.uuid);
	vc.size = expected / 512 * 512; /* whole sectors are written without reading; the end comes last */
	r = vol_create(&s->env, place.prefix, &vc, &err);
	if (!r)
		r = image_write(&s->env, place.prefix, s->path, place.uuid, fill, im, &err);
	if (!r)
		r = name_it(s, &place, im, &err);
	progress_end(&im->p);
	if (r)
		return import_failed(s, im, r, &err, place.uuid);
	site_forget(s);
	if (!s->json)
		return CMD_OK;
	doc = json_pack("{s:s, s:I, s:I, s:I}", "path", s->path, "size", (json_int_t)im->size, "data", (json_int_t)im->data,
			"allocated", (json_int_t)im->allocated);
	if (doc && im->more && json_object_update(doc, im->more)) {
		json_decref(doc);
		doc = NULL;
	}
	return cmd_print_json(doc);
}

int image_import(struct site *s, const char *file)
{
	struct in in = {.im = {.what = file, .fill = fill_from_file}, .fd = -1};
	int r;

	if (str_has_prefix(file, "fly:"))
		return image_import_fly(s, file);
	if (s->restore_point || s->stop_at_gap || s->from_options)
		return cmd_usage("image import: --restore-point, --stop-at-gap and --from-options are of fly:URL");
	r = open_in(s, file, &in);
	if (!r)
		r = import_begin(s);
	if (!r) {
		progress_begin(&in.im.p, "import", in.size);
		r = import_run(s, &in.im, in.size);
	}
	if (in.fd >= 0)
		close(in.fd);
	return r;
}
