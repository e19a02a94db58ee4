/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgsnap.c - snapshots and clones of images: IMAGE@NAME. On a mount the daemon does what changes the image, since a
 * guest may have it open; clones and lists only read.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "objstore/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int site_snapshot(struct site *s, const char **ret_name)
{
	char *at = strrchr(s->path, '@');
	_cleanup_free_ char *key = NULL;
	struct objerr err = {0};
	struct nameobj o;
	int r;

	*ret_name = NULL;
	if (!at || strchr(at, '/'))
		return CMD_OK;
	/* an image may be called so itself; who cannot tell does nothing to either */
	r = image_key(s->url.prefix, s->path, &key);
	if (!r)
		r = nameobj_get(s->store, key, &o, &err);
	if (!r)
		nameobj_free(&o);
	if (r != -ENOENT && r != -ENODATA && r != -ENOTDIR && r != -ENAMETOOLONG)
		return r ? site_fail(s, r, &err) : CMD_OK;
	if (!vol_snap_name_ok(at + 1))
		return cmd_usage("'%.80s' is no name of a snapshot: 1 to %d of A-Z a-z 0-9 . _ -", cmd_printable(at + 1),
				 VOL_SNAP_NAME_MAX);
	*at = '\0';
	*ret_name = at + 1;
	return CMD_OK;
}

static int want_snapshot(struct site *s, const char **ret_name, struct image *ret)
{
	int r = site_snapshot(s, ret_name);

	if (!r && !*ret_name)
		r = cmd_usage("'%.200s': write IMAGE@NAME", cmd_printable(s->said));
	return r ? r : site_find(s, ret);
}

/* --- what changes the image -------------------------------------------------------------------------------------- */

struct doing {
	const char *name;
	struct objerr *err;
	uint64_t number, size, position;
	char now[VOL_SNAP_NAME_MAX + 1];
};

static int do_snapshot(struct volume *v, void *arg)
{
	struct doing *d = arg;

	return vol_snapshot(v, d->name, &d->number, d->err);
}

static int do_unsnap(struct volume *v, void *arg)
{
	struct doing *d = arg;

	return vol_unsnap(v, d->name, d->err);
}

static int do_rollback(struct volume *v, void *arg)
{
	struct doing *d = arg;
	int r;

	vol_snap_name_now(d->now);
	r = d->position ? vol_rollback_to(v, d->position, d->now, d->err) : vol_rollback(v, d->name, d->now, d->err);
	d->size = vol_size(v);
	return r;
}

static int offline(struct site *s, const struct image *i, int (*fn)(struct volume *v, void *arg), struct doing *d)
{
	struct objerr err = {0};

	d->err = &err;
	return site_write(s, i, fn, d, &err);
}

static long long number_of(const json_t *o, const char *name)
{
	return (long long)json_integer_value(json_object_get(o, name));
}

int image_snapshot(struct site *s)
{
	struct doing d = {0};
	json_t *ans = NULL;
	struct image i;
	int r = want_snapshot(s, &d.name, &i);

	if (r)
		return r;
	r = s->mounted ? site_ask_name(s, "snapshot", d.name, &ans) : offline(s, &i, do_snapshot, &d);
	image_done(&i);
	if (r)
		return r;
	if (ans)
		d.number = (uint64_t)number_of(ans, "number");
	json_decref(ans);
	return s->json ? cmd_print_json(json_pack("{s:s, s:s, s:I}", "path", s->path, "name", d.name, "number",
						  (json_int_t)d.number))
		       : CMD_OK;
}

int image_unsnap(struct site *s, const char *name)
{
	struct doing d = {.name = name};
	struct image i;
	int r = site_find(s, &i);

	if (r)
		return r;
	r = s->mounted ? site_ask_name(s, "unsnap", name, NULL) : offline(s, &i, do_unsnap, &d);
	image_done(&i);
	if (r || !s->json)
		return r;
	return cmd_print_json(json_pack("{s:s, s:s}", "path", s->path, "name", name));
}

/* IMAGE@NAME, or IMAGE and --position. */
static int back_where(struct site *s, struct doing *d, struct image *ret)
{
	const char *name;
	int r;

	if (!s->position)
		return want_snapshot(s, &d->name, ret);
	if (str_parse_u64(s->position, &d->position) < 0 || !d->position)
		return cmd_usage("--position: expected a number that 'lsvdfs image log' shows");
	r = site_snapshot(s, &name);
	if (!r && name)
		r = cmd_usage("image rollback: IMAGE@NAME or --position, not both");
	return r ? r : site_find(s, ret);
}

int image_rollback(struct site *s)
{
	struct objerr err = {0};
	struct doing d = {0};
	json_t *ans = NULL;
	bool noted = false;
	struct image i;
	int r = back_where(s, &d, &i);

	if (r)
		return r;
	if (s->mounted)
		r = site_ask_name(s, d.position ? "position" : "rollback", d.position ? s->position : d.name, &ans);
	else
		r = offline(s, &i, do_rollback, &d);
	if (ans) {
		const char *now = json_string_value(json_object_get(ans, "before"));

		(void)snprintf(d.now, sizeof d.now, "%s", now ? now : "");
		d.size = (uint64_t)number_of(ans, "size");
		noted = json_is_true(json_object_get(ans, "noted"));
		json_decref(ans);
	}
	if (!r && !noted && image_note_size(s, &i, d.size, &err))
		fprintf(stderr, "lsvdfs: warning: %s: its name still says another size: %s\n", s->said, err.msg);
	image_done(&i);
	if (r)
		return r;
	site_forget(s);
	if (s->json)
		return cmd_print_json(json_pack("{s:s, s:s*, s:o*, s:s, s:I}", "path", s->path, "name", d.name, "position",
						d.position ? json_integer((json_int_t)d.position) : NULL, "before", d.now,
						"size", (json_int_t)d.size));
	printf("%s is what it was at %s; what it was until now is %s@%s\n", s->path, d.position ? s->position : d.name,
	       s->path, d.now);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* pins: NULL: not asked for. */
static void print_snap(const struct vol_snap *s, const uint64_t *pins)
{
	char size[24], when[24];

	printf("%10s  ", cmd_size(s->size, size));
	if (pins)
		printf("%10s  ", cmd_size(*pins, size));
	printf("%s  %s%s\n", cmd_time(s->time, when), s->name, s->hidden ? "  (deleted, a clone uses it)" : "");
}

int image_snapshots(struct site *s)
{
	struct vol_snap *v = NULL;
	struct objerr err = {0};
	struct volume *of;
	struct image i;
	uint64_t *pins = NULL;
	size_t n = 0;
	json_t *doc;
	int r = site_find(s, &i);

	if (!r && s->pins && s->mounted) {
		r = site_ask(s, "upload", NULL); /* what hides a snapshot's bytes may be in the journal still */
		if (r)
			image_done(&i);
	}
	if (r)
		return r;
	r = vol_open(&s->env, i.p.prefix, i.o.n.uuid, &of, &err);
	if (!r) {
		r = vol_snapshots(of, &v, &n, &err);
		if (!r && s->pins) {
			pins = calloc(n + 1, sizeof *pins);
			r = pins ? vol_snapshot_pins(of, v, n, pins, &err) : -ENOMEM;
		}
		ignore(vol_close(of)); /* nothing was written */
	}
	image_done(&i);
	doc = s->json && !r ? json_array() : NULL;
	for (size_t k = 0; !r && k < n; k++) {
		json_t *e;

		if (!s->json) {
			print_snap(&v[k], pins ? &pins[k] : NULL);
			continue;
		}
		e = json_pack("{s:s, s:I, s:I, s:I, s:b}", "name", v[k].name, "number", (json_int_t)v[k].number, "time",
			      (json_int_t)v[k].time, "size", (json_int_t)v[k].size, "deleted", (int)v[k].hidden);
		if (e && pins)
			json_object_set_new(e, "pins", json_integer((json_int_t)pins[k]));
		json_array_append_new(doc, e);
	}
	free(pins);
	free(v);
	if (r)
		return site_fail(s, r, &err);
	if (s->json)
		return cmd_print_json(doc);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

static void print_position(const struct vol_position *p)
{
	char size[24], when[24];

	printf("%12" PRIu64 "  %-20s  %-10s  %10s%s%s\n", p->number, cmd_time(p->time, when), p->type,
	       cmd_size(p->bytes, size), p->name[0] ? "  " : "", p->name);
}

int image_log(struct site *s)
{
	struct vol_position *v = NULL;
	struct objerr err = {0};
	struct volume *of;
	struct image i;
	size_t n = 0;
	json_t *doc;
	int r = site_find(s, &i);

	if (r)
		return r;
	r = vol_open(&s->env, i.p.prefix, i.o.n.uuid, &of, &err);
	if (!r) {
		r = vol_positions(of, s->all, &v, &n, &err);
		ignore(vol_close(of)); /* nothing was written */
	}
	image_done(&i);
	if (r)
		return site_fail(s, r, &err);
	doc = s->json ? json_array() : NULL;
	for (size_t k = 0; k < n; k++) {
		if (!s->json)
			print_position(&v[k]);
		else
			json_array_append_new(doc, json_pack("{s:I, s:I, s:s, s:I, s:I, s:s*}", "number",
							     (json_int_t)v[k].number, "time", (json_int_t)v[k].time, "type",
							     v[k].type, "bytes", (json_int_t)v[k].bytes, "size",
							     (json_int_t)v[k].size, "name", v[k].name[0] ? v[k].name : NULL));
	}
	free(v);
	if (s->json)
		return cmd_print_json(doc);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- how far back -------------------------------------------------------------------------------------------------- */

static int do_retain(struct volume *v, void *arg)
{
	struct doing *d = arg;

	return vol_retain(v, d->number, d->err);
}

int image_retain(struct site *s, const char *arg)
{
	struct doing d = {0};
	char number[24];
	struct image i;
	int r;

	if (strcmp(arg, "off") && (str_parse_age(arg, &d.number) || d.number > VOL_RETAIN_MAX))
		return cmd_usage("'%.40s' is no time: write 90, 15m, 12h, 7d, 2w or off", arg);
	r = site_find(s, &i);
	if (r)
		return r;
	(void)snprintf(number, sizeof number, "%" PRIu64, d.number);
	r = s->mounted ? site_ask_name(s, "retain", number, NULL) : offline(s, &i, do_retain, &d);
	image_done(&i);
	if (r || !s->json)
		return r;
	return cmd_print_json(json_pack("{s:s, s:I}", "path", s->path, "retain", (json_int_t)d.number));
}

int image_retained(struct volume *v, json_t *doc, struct objerr *err)
{
	struct vol_retained t;
	int r = vol_retained(v, &t, err);
	long long gone;

	if (r)
		return r;
	gone = MIN((long long)t.gone, number_of(doc, "reclaimable"));
	json_object_set_new(doc, "stored", json_integer(number_of(doc, "stored") - gone));
	json_object_set_new(doc, "reclaimable", json_integer(number_of(doc, "reclaimable") - gone));
	json_object_set_new(doc, "retain", json_integer((json_int_t)t.seconds));
	json_object_set_new(doc, "retained", json_integer((json_int_t)t.bytes));
	json_object_set_new(doc, "back_to", json_integer((json_int_t)t.floor));
	json_object_set_new(doc, "back_time", json_integer((json_int_t)t.time_s));
	return 0;
}

void image_print_retained(const json_t *d)
{
	long long seconds = number_of(d, "retain");
	time_t t = (time_t)number_of(d, "back_time");
	char when[32] = "?", size[24];
	struct tm tm;

	if (t && gmtime_r(&t, &tm))
		(void)strftime(when, sizeof when, "%Y-%m-%d %H:%M:%SZ", &tm);
	printf("back to     position %lld of %s", number_of(d, "back_to"), when);
	if (seconds)
		printf("; it keeps %lld s", seconds);
	if (number_of(d, "retained"))
		printf("; %s stored for that alone", cmd_size((uint64_t)number_of(d, "retained"), size));
	putchar('\n');
}

static int number_by_name(struct volume *of, const char *name, uint64_t *ret, struct objerr *err)
{
	struct vol_snap *v = NULL;
	size_t n = 0;
	int r = vol_snapshots(of, &v, &n, err);

	if (r)
		return r;
	r = -ENOENT;
	for (size_t k = 0; k < n; k++)
		if (!v[k].hidden && !strcmp(v[k].name, name)) {
			*ret = v[k].number;
			r = 0;
		}
	free(v);
	if (r)
		objerr_set(err, "there is no snapshot '%s' (lsvdfs image snapshots shows them)", name);
	return r;
}

int image_open_at(struct site *s, const struct image *i, const char *name, struct volume **ret_of, struct volume **ret,
		  struct objerr *err)
{
	struct volume *of;
	uint64_t number;
	int r = vol_open(&s->env, i->p.prefix, i->o.n.uuid, &of, err);

	*ret_of = NULL;
	if (r)
		return r;
	if (!name) {
		*ret = of;
		return 0;
	}
	r = number_by_name(of, name, &number, err);
	if (!r)
		r = vol_open_snapshot(of, number, ret, err);
	if (r)
		ignore(vol_close(of)); /* nothing was written */
	else
		*ret_of = of;
	return r;
}

/* --- clones ------------------------------------------------------------------------------------------------------- */

/* Without its name an image that is begun goes with the next mount of this state directory, or `image gc`. */
static int make_clone(struct site *s, struct volume *of, const char *name, const char *to, const struct image_new *place,
		      uint64_t *ret_size, struct objerr *err)
{
	struct vol_clone c = {.name = name, .prefix = place->prefix, .of_path = s->path, .path = to};
	_cleanup_free_ char *dir = NULL;
	struct timespec now = clock_real_ts();
	struct attr a = {.mode = S_IFREG | 0600, .uid = geteuid(), .gid = getegid(), .mtime = now, .ctime = now, .atime = now};
	int r = image_note_importing(s->img_dir, place->uuid, true);

	memcpy(c.uuid, place->uuid, sizeof c.uuid);
	if (!r)
		r = image_note_where(s->img_dir, place->uuid, place->prefix, to);
	if (!r)
		r = vol_clone_to(of, &c, ret_size, err);
	if (!r)
		r = image_make_name(s->store, s->url.prefix, to, place, *ret_size, 0, &a, NULL, err);
	if (!r) { /* nothing was written to it here: no journal, no marks */
		ignore(image_note_importing(s->img_dir, place->uuid, false));
		if (!image_file(s->img_dir, place->uuid, NULL, &dir))
			image_remove_dir(dir);
		return 0;
	}
	if (image_drop_import(&s->env, s->url.prefix, place->uuid, &(struct objerr){0}) < 0)
		fprintf(stderr, "lsvdfs: warning: what was made of the clone is still there (lsvdfs image gc removes it)\n");
	return r;
}

int image_clone(struct site *s, const char *to)
{
	_cleanup_free_ char *path = NULL;
	const char *name;
	struct image_new place;
	struct objerr err = {0};
	struct volume *of;
	uint64_t size = 0;
	struct image i;
	char uuid[33];
	int r = want_snapshot(s, &name, &i);

	if (r)
		return r;
	r = site_other_path(s, to, &path);
	if (!r)
		r = site_may_write(s);
	if (r) {
		image_done(&i);
		return r;
	}
	r = image_new_place(s->url.prefix, &place);
	if (!r && strncmp(i.p.prefix, place.prefix, strlen(place.prefix) - 33)) {
		objerr_set(&err, "its log lies elsewhere (%s): a clone is made in the mount or source that it lies in",
			   i.p.prefix);
		r = -EXDEV;
	}
	if (!r)
		r = vol_open(&s->env, i.p.prefix, i.o.n.uuid, &of, &err);
	if (!r) {
		r = make_clone(s, of, name, path, &place, &size, &err);
		ignore(vol_close(of)); /* nothing was written */
	}
	image_done(&i);
	if (r)
		return site_fail(s, r, &err);
	free(s->path);
	s->path = path;
	path = NULL;
	site_forget(s);
	log_uuid_format(place.uuid, uuid);
	return s->json ? cmd_print_json(json_pack("{s:s, s:s, s:I}", "path", s->path, "uuid", uuid, "size", (json_int_t)size))
		       : CMD_OK;
}
