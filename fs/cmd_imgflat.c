/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgflat.c - clones and their parents: who belongs to whom (info), the end of that (flatten), and references that nobody
 * needs any more (gc, check).
 *
 * On a mount the daemon flattens in steps, which this command asks for one after the other: so there is something to show
 * meanwhile, and an end of the command is an end of the copying. It keeps the image open for that time.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "fs/image/refs.h"
#include "objstore/base/clock.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STEP (64 * MiB)
#define YOUNG_S (24 * 3600) /* a clone that may still be made */

/* --- flatten ----------------------------------------------------------------------------------------------------- */

struct flattening {
	struct progress p;
	uint64_t copied;
	struct objerr *err;
};

static int flatten_offline(struct volume *v, void *arg)
{
	struct flattening *f = arg;
	uint64_t at = 0, n, all = 0;
	int r = vol_flatten_begin(v, &all, f->err);

	progress_begin(&f->p, "flatten", all);
	while (!r && all && at != VOL_FLAT_ALL) {
		r = vol_flatten_some(v, STEP, &at, &n, f->err);
		f->copied += r ? 0 : n;
		progress_at(&f->p, f->copied);
	}
	if (!r)
		r = vol_flatten_end(v, f->err);
	progress_end(&f->p);
	return r;
}

/* One step; ret: its "bytes", where to go on: -1, nowhere. */
static int step(struct site *s, const char *which, uint64_t *ret_bytes, long long *ret_at)
{
	json_t *ans = NULL;
	int r = site_ask_name(s, "flatten", which, &ans);

	if (r)
		return r;
	*ret_bytes = (uint64_t)json_integer_value(json_object_get(ans, "bytes"));
	*ret_at = (long long)json_integer_value(json_object_get(ans, "at"));
	json_decref(ans);
	return CMD_OK;
}

static int flatten_on_mount(struct site *s, struct flattening *f)
{
	_cleanup_free_ char *file = NULL;
	_cleanup_close_ int fd = -1;
	uint64_t n, all;
	long long at = 0;
	char which[24];
	int r = site_file(s, &file);

	if (r)
		return r;
	fd = open(file, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return site_fail(s, -errno, NULL);
	r = step(s, "begin", &all, &at);
	progress_begin(&f->p, "flatten", r ? 0 : all);
	for (at = 0; !r && all && at >= 0; progress_at(&f->p, f->copied)) {
		(void)snprintf(which, sizeof which, "%lld", at);
		r = step(s, which, &n, &at);
		f->copied += r ? 0 : n;
	}
	if (!r)
		r = step(s, "end", &n, &at);
	progress_end(&f->p);
	return r;
}

int image_flatten(struct site *s)
{
	struct objerr err = {0};
	struct flattening f = {.err = &err};
	struct image i;
	char size[24], uuid[33];
	int r = site_find(s, &i);

	if (r)
		return r;
	r = s->mounted ? flatten_on_mount(s, &f) : site_write(s, &i, flatten_offline, &f, &err);
	memcpy(uuid, i.uuid, sizeof uuid);
	image_done(&i);
	if (r)
		return r;
	if (s->json)
		return cmd_print_json(
		    json_pack("{s:s, s:s, s:I}", "path", s->path, "uuid", uuid, "copied", (json_int_t)f.copied));
	printf("%s needs no other image any more: %s copied\n", s->said, cmd_size(f.copied, size));
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- who belongs to whom ------------------------------------------------------------------------------------------ */

/* Is the image at this path the one? A name that moved is not searched for: that takes a listing of everything. */
static bool still_at(struct site *s, const char *path, const uint8_t uuid[16])
{
	_cleanup_free_ char *key = NULL;
	struct objerr err = {0};
	struct nameobj o;
	bool same;

	if (!path || image_key(s->url.prefix, path, &key) || nameobj_get(s->store, key, &o, &err))
		return false;
	same = !memcmp(o.n.uuid, uuid, 16);
	nameobj_free(&o);
	return same;
}

static json_t *relative(struct site *s, const uint8_t uuid[16], uint64_t snapshot, const char *name, const char *path)
{
	char hex[33];
	json_t *o;

	log_uuid_format(uuid, hex);
	o = json_pack("{s:s, s:I}", "uuid", hex, "snapshot", (json_int_t)snapshot);
	if (o && name)
		json_object_set_new(o, "name", json_string(name));
	if (o && still_at(s, path, uuid))
		json_object_set_new(o, "path", json_string(path));
	return o;
}

static int parent(struct site *s, struct volume *v, json_t *doc, struct objerr *err)
{
	struct vol_parent p;
	json_t *o;
	int r = vol_parent(v, &p, err);

	if (r)
		return r == -ENODATA ? 0 : r;
	o = relative(s, p.uuid, p.snapshot, p.name, p.path);
	free(p.path);
	if (o)
		json_object_set_new(o, "kept", json_boolean(p.kept));
	return json_object_set_new(doc, "parent", o) ? -ENOMEM : 0;
}

static const char *name_of(const struct vol_snap *v, size_t n, uint64_t number)
{
	for (size_t k = 0; k < n; k++)
		if (v[k].number == number && !v[k].hidden)
			return v[k].name;
	return NULL;
}

static int clones(struct site *s, const char *prefix, const struct vol_snap *v, size_t n, json_t *doc, struct objerr *err)
{
	struct image_ref *ref = NULL;
	json_t *list = json_array();
	size_t nref = 0;
	int r = image_refs(s->store, prefix, &ref, &nref, err);

	for (size_t k = 0; !r && k < nref; k++) {
		_cleanup_free_ char *path = NULL;
		enum ref_state state;

		r = image_ref_state(s->store, prefix, &ref[k], &state, err);
		if (!r)
			r = image_ref_name(s->store, prefix, &ref[k], &path, err);
		if (!r && state == REF_NEEDED)
			json_array_append_new(list, relative(s, ref[k].clone, ref[k].snapshot,
							     name_of(v, n, ref[k].snapshot), path));
	}
	free(ref);
	if (r)
		json_decref(list);
	else if (json_object_set_new(doc, "clones", list))
		r = -ENOMEM;
	return r;
}

static int snapshots(struct volume *v, const struct vol_snap *s, size_t n, json_t *doc)
{
	uint64_t *alone = calloc(n + 1, sizeof *alone), shared;
	json_t *list = json_array();

	if (!alone || !list)
		return -ENOMEM;
	vol_snapshot_frees(v, s, n, alone, &shared);
	for (size_t k = 0; k < n; k++)
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:b}", "name", s[k].name, "number",
						      (json_int_t)s[k].number, "time", (json_int_t)s[k].time, "size",
						      (json_int_t)s[k].size, "frees", (json_int_t)alone[k], "deleted",
						      (int)s[k].hidden));
	free(alone);
	if (json_object_set_new(doc, "snapshots", list) || (n && json_object_set_new(doc, "shared", json_integer((json_int_t)shared))))
		return -ENOMEM;
	return 0;
}

int image_family(struct site *s, const struct image *i, struct volume *v, json_t *doc, struct objerr *err)
{
	struct vol_snap *snap = NULL;
	size_t n = 0;
	int r = doc ? vol_snapshots(v, &snap, &n, err) : -ENOMEM;

	if (!r)
		r = parent(s, v, doc, err);
	if (!r)
		r = snapshots(v, snap, n, doc);
	if (!r)
		r = clones(s, i->p.prefix, snap, n, doc, err);
	free(snap);
	return r;
}

static const char *text_of(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static void print_relative(const char *what, const json_t *o, bool of)
{
	const char *path = text_of(o, "path"), *name = text_of(o, "name");

	printf("%-11s %s", what, path ? path : text_of(o, "uuid"));
	if (of && name)
		printf(" of @%s", name);
	else if (name)
		printf("@%s", name);
	printf("\n");
}

void image_print_family(const json_t *doc)
{
	const json_t *p = json_object_get(doc, "parent");
	char a[24], b[24];
	json_t *o;
	size_t k;

	if (p)
		print_relative("parent", p, false);
	if (p && !json_is_true(json_object_get(p, "kept")))
		printf("note        the parent does not know of it: its reference is missing\n");
	json_array_foreach(json_object_get(doc, "snapshots"), k, o)
		printf("snapshot    %s, %s; its deletion frees %s%s\n", text_of(o, "name"),
		       cmd_size((uint64_t)json_integer_value(json_object_get(o, "size")), a),
		       cmd_size((uint64_t)json_integer_value(json_object_get(o, "frees")), b),
		       json_is_true(json_object_get(o, "deleted")) ? " (deleted, a clone uses it)" : "");
	json_array_foreach(json_object_get(doc, "clones"), k, o) print_relative("clone", o, true);
}

/* --- references that nobody needs ----------------------------------------------------------------------------------- */

static const char *const state_word[] = {[REF_DEAD] = "a reference of a clone that was deleted",
					 [REF_FLAT] = "a reference of a clone that was flattened",
					 [REF_UNBORN] = "a reference of a clone that was never made"};

static bool among(const json_t *ours, const char *hex)
{
	const char *u;
	json_t *v;
	size_t k;

	json_array_foreach(ours, k, v)
	{
		u = text_of(v, "uuid");
		if (u && !strcmp(u, hex) && !json_object_get(v, "error"))
			return true;
	}
	return false;
}

/* 1: it is gone; 0: it stays. */
static int sweep_one(struct site *s, const char *prefix, const struct image_ref *ref, enum ref_state state, bool look,
		     bool ours, const char **ret_why, struct objerr *err)
{
	int r;

	if (state == REF_UNBORN && !s->force && !ours && ref->time_s > clock_real_ns() / NSEC_PER_SEC - YOUNG_S)
		*ret_why = "younger than a day: it may still come (--force: then it fails)";
	else if (look)
		*ret_why = "lsvdfs image gc removes it";
	if (*ret_why)
		return 0;
	r = image_ref_drop(s->store, prefix, ref, state, err);
	if (r == -EBUSY) { /* it came */
		*ret_why = "it came just now";
		return 0;
	}
	return r ? r : 1;
}

int image_sweep_refs(struct site *s, const char *prefix, const uint8_t uuid[16], bool look, const json_t *ours, json_t *ret,
		     size_t *ret_left, struct objerr *err)
{
	char hex[33], of[33];
	struct image_ref *ref = NULL;
	size_t n = 0, left = 0;
	int r = image_refs(s->store, prefix, &ref, &n, err);

	log_uuid_format(uuid, of);
	for (size_t k = 0; !r && k < n; k++) {
		const char *why = NULL;
		enum ref_state state;
		json_t *e;

		r = image_ref_state(s->store, prefix, &ref[k], &state, err);
		left += !r && state == REF_NEEDED;
		if (r || state == REF_NEEDED)
			continue;
		log_uuid_format(ref[k].clone, hex);
		r = sweep_one(s, prefix, &ref[k], state, look, among(ours, hex), &why, err);
		left += r == 0;
		e = json_pack("{s:s, s:s, s:s, s:I, s:b}", "uuid", hex, "what", state_word[state], "of", of, "snapshot",
			      (json_int_t)ref[k].snapshot, "removed", r > 0);
		if (e && why)
			json_object_set_new(e, "why", json_string(why));
		if (e && r < 0)
			json_object_set_new(e, "error", json_string(err->msg[0] ? err->msg : explain_errno(r)));
		json_array_append_new(ret, e);
		r = MIN(r, 0);
	}
	free(ref);
	if (!r)
		*ret_left = left;
	return r;
}
