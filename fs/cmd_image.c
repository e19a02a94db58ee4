/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cmd_image.c - `lsvdfs image`: which action, and the short ones. */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* --- create ----------------------------------------------------------------------------------------------------- */

#define IMAGE_SIZE_MAX ((uint64_t)1 << 57)

int cmd_image_size(const char *s, uint64_t *ret)
{
	if (str_parse_size(s, ret))
		return cmd_usage("'%.40s' is no size of an image: write 10G, 512M or bytes", s);
	if (*ret > IMAGE_SIZE_MAX)
		return cmd_usage("'%.40s' is more than the %lluT that an image can have", s,
				 (unsigned long long)(IMAGE_SIZE_MAX >> 40));
	return CMD_OK;
}

static int create(struct site *s, const char *size)
{
	struct vol_create vc = {.fsync_remote = s->o.fsync_remote};
	struct timespec now = clock_real_ts();
	struct attr a = {.mode = S_IFREG | 0600, .uid = geteuid(), .gid = getegid(), .mtime = now, .ctime = now, .atime = now};
	struct image_new place;
	struct objerr err = {0};
	char uuid[33];
	int r = cmd_image_size(size, &vc.size);

	if (!r)
		r = site_may_write(s);
	if (!r)
		r = site_path_free(s);
	if (r)
		return r;
	r = image_new_place(s->url.prefix, &place);
	if (!r)
		r = image_create(&s->env, s->url.prefix, s->path, &place, &vc, &a, NULL, &err);
	if (r)
		return site_fail(s, r, &err);
	site_forget(s);
	log_uuid_format(place.uuid, uuid);
	return s->json ? cmd_print_json(json_pack("{s:s, s:s, s:I, s:s}", "path", s->path, "uuid", uuid, "size",
						  (json_int_t)vc.size, "fsync", vc.fsync_remote ? "remote" : "local"))
		       : CMD_OK;
}

/* --- info ------------------------------------------------------------------------------------------------------- */

static json_t *info_json(const struct site *s, const struct image *i, const struct vol_stat *st)
{
	uint64_t stored = MAX(st->stored, st->live);
	json_t *here = site_here(s, i->uuid);
	json_t *doc = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:b, s:b}", "path", s->path, "uuid",
				i->uuid, "log", i->p.prefix, "size", (json_int_t)st->size, "allocated",
				(json_int_t)st->allocated, "live", (json_int_t)st->live, "stored", (json_int_t)stored,
				"reclaimable", (json_int_t)(stored - st->live), "epoch", (json_int_t)st->epoch, "fsync",
				st->fsync_remote ? "remote" : "local", "log_end", (json_int_t)st->tail, "copy",
				(int)i->p.copy, "held", (int)!st->released);

	if (doc && !st->released)
		json_object_set_new(doc, "holder", json_string(st->holder));
	if (doc && here)
		json_object_set(doc, "here", here);
	return doc;
}

static long long number(const json_t *o, const char *name)
{
	return (long long)json_integer_value(json_object_get(o, name));
}

static void print_info(const json_t *d)
{
	const json_t *here = json_object_get(d, "here");
	const char *holder = json_string_value(json_object_get(d, "holder"));
	char a[24], b[24];

	printf("image       %s\n", json_string_value(json_object_get(d, "path")));
	printf("uuid        %s\n", json_string_value(json_object_get(d, "uuid")));
	printf("log         %s\n", json_string_value(json_object_get(d, "log")));
	printf("size        %s (%lld bytes), %s allocated\n", cmd_size((uint64_t)number(d, "size"), a), number(d, "size"),
	       cmd_size((uint64_t)number(d, "allocated"), b));
	printf("in the log  %s live", cmd_size((uint64_t)number(d, "live"), a));
	printf(" of %s stored", cmd_size((uint64_t)number(d, "stored"), a));
	printf(", %s reclaimable\n", cmd_size((uint64_t)number(d, "reclaimable"), a));
	printf("holder      %s (epoch %lld)\n", holder ? holder : "nobody", number(d, "epoch"));
	printf("fsync       %s\n", json_string_value(json_object_get(d, "fsync")));
	if (json_is_true(json_object_get(d, "copy")))
		printf("note        a copy of another image's name: read only\n");
	if (here)
		printf("here        %s, %lld writers, journal %s of %s\n", json_string_value(json_object_get(here, "state")),
		       number(here, "writers"), cmd_size((uint64_t)number(here, "journal_used"), a),
		       cmd_size((uint64_t)number(here, "journal_limit"), b));
	image_print_retained(d);
	image_print_family(d);
}

static int info(struct site *s)
{
	struct vol_stat st;
	struct objerr err = {0};
	struct volume *v;
	struct image i;
	json_t *doc = NULL;
	int r = site_find(s, &i);

	if (r)
		return r;
	r = vol_open(&s->env, i.p.prefix, i.o.n.uuid, &v, &err);
	if (!r) {
		r = vol_know_objects(v, &err);
		vol_stat(v, &st);
		doc = info_json(s, &i, &st);
		if (!r)
			r = image_retained(v, doc, &err);
		if (!r)
			r = image_family(s, &i, v, doc, &err);
		ignore(vol_close(v)); /* nothing was written */
	}
	image_done(&i);
	if (r) {
		json_decref(doc);
		return site_fail(s, r, &err);
	}
	if (s->json)
		return cmd_print_json(doc);
	print_info(doc);
	json_decref(doc);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- resize ----------------------------------------------------------------------------------------------------- */

static int to_size(struct volume *v, void *size)
{
	return vol_resize(v, *(uint64_t *)size);
}

int image_note_size(struct site *s, struct image *i, uint64_t size, struct objerr *err)
{
	int r;

	i->o.n.size = size;
	r = nameobj_update(s->store, i->key, &i->o, err);
	return r == -ESTALE ? 0 : r; /* somebody knows better */
}

static int resize_offline(struct site *s, struct image *i, uint64_t size)
{
	struct objerr err = {0};
	int r = site_write(s, i, to_size, &size, &err);

	if (r)
		return r;
	r = image_note_size(s, i, size, &err);
	return r ? site_fail(s, r, &err) : CMD_OK;
}

int site_file(const struct site *s, char **ret)
{
	struct str n = {0};

	str_addf(&n, "%s/%s", s->mnt.dir, s->path);
	return str_take(&n, ret) ? cmd_fail("out of memory") : CMD_OK;
}

/* By whom: what the daemon knows, or the log. */
static int busy(struct site *s, const struct image *i, int r)
{
	json_t *here = site_here(s, i->uuid);
	struct objerr err = {0};
	struct vol_stat st = {0};
	struct volume *v;

	if (r != -EBUSY)
		return site_fail(s, r, NULL);
	if (image_has_refs(s->store, i->p.prefix, &err) > 0)
		return cmd_fail("%s: a clone was made of a snapshot of it: delete that first", s->said);
	if (here && strcmp(json_string_value(json_object_get(here, "state")), "waiting"))
		return cmd_fail("%s: in use on this mount: close it first", s->said);
	if (!vol_open(&s->env, i->p.prefix, i->o.n.uuid, &v, &err)) {
		vol_stat(v, &st);
		ignore(vol_close(v)); /* nothing was written */
	}
	if (st.released || !st.holder[0])
		return cmd_fail("%s: in use: close it first", s->said);
	objerr_set(&err, "held by %s (epoch %" PRIu64 ")", st.holder, st.epoch);
	return site_fail(s, r, &err);
}

static int resize(struct site *s, const char *text)
{
	_cleanup_free_ char *file = NULL;
	struct image i;
	uint64_t size;
	int r = cmd_image_size(text, &size);

	if (!r)
		r = site_find(s, &i);
	if (r)
		return r;
	if (s->o.read_only) {
		r = cmd_fail("%s: read only (option ro)", s->said);
	} else if (size < i.o.n.size && !s->force) {
		r = cmd_fail("%s: %" PRIu64 " bytes are less than the %" PRIu64 " of now: what is behind would be lost (--force)",
			     s->said, size, i.o.n.size);
	} else if (s->mounted) {
		r = site_file(s, &file);
		if (!r && truncate(file, (off_t)size))
			r = busy(s, &i, -errno);
	} else {
		r = resize_offline(s, &i, size);
	}
	image_done(&i);
	if (r)
		return r;
	return s->json ? cmd_print_json(json_pack("{s:s, s:I}", "path", s->path, "size", (json_int_t)size)) : CMD_OK;
}

/* --- delete ----------------------------------------------------------------------------------------------------- */

/* As rm(1) on a mount does it. A name whose log is gone, or whose image is dead, goes as well. */
static int delete_offline(struct site *s, const char *key, const struct nameobj *o)
{
	struct objerr err = {0};
	bool cond, log;
	int r = site_may_write(s);

	if (r)
		return r;
	cond = obj_caps(s->store) & OBJ_CAP_DELETE_COND;
	r = image_end(&s->env, s->url.prefix, key, s->path, o->n.uuid, &log, &err);
	if (!r)
		r = obj_delete(s->store, key, cond ? o->etag : NULL, &err);
	if (!r && log)
		r = image_erase_left(&s->env, o->n.uuid, &err);
	return r ? site_fail(s, r, &err) : CMD_OK;
}

static int delete(struct site *s)
{
	_cleanup_free_ char *key = NULL, *file = NULL;
	struct objerr err = {0};
	struct image i = {0};
	const char *snapshot;
	int r = site_snapshot(s, &snapshot);

	if (r || snapshot)
		return r ? r : image_unsnap(s, snapshot);
	r = image_key(s->url.prefix, s->path, &key);
	if (!r)
		r = nameobj_get(s->store, key, &i.o, &err);
	if (r == -ENOENT || r == -ENODATA || r == -ENOTDIR)
		return cmd_fail("%s: no image of this name (lsvdfs image list shows them)", s->said);
	if (r)
		return site_fail(s, r, &err);
	log_uuid_format(i.o.n.uuid, i.uuid);
	if (s->mounted) {
		r = site_file(s, &file);
		if (!r && unlink(file)) {
			r = -errno;
			if (nameobj_place(s->store, s->url.prefix, key, &i.o.n, &i.p, &err))
				i.p.prefix = NULL;
			r = i.p.prefix ? busy(s, &i, r) : site_fail(s, r, &err);
		}
	} else {
		r = delete_offline(s, key, &i.o);
	}
	image_done(&i);
	if (r)
		return r;
	return s->json ? cmd_print_json(json_pack("{s:s, s:s}", "path", s->path, "uuid", i.uuid)) : CMD_OK;
}

/* --- claim ------------------------------------------------------------------------------------------------------ */

static int claim_offline(struct site *s, const struct image *i, struct vol_stat *ret)
{
	struct objerr err = {0};
	int r = site_may_write(s);

	if (r)
		return r;
	s->env.takeover = VOL_TAKEOVER_ALWAYS;
	s->env.claim_wait_ns = 0;
	r = image_write(&s->env, i->p.prefix, s->path, i->o.n.uuid, image_just_claim, ret, &err);
	return r ? site_fail(s, r, &err) : CMD_OK;
}

/* Who has it now. */
static int holder(struct site *s, const struct image *i, struct vol_stat *ret)
{
	struct objerr err = {0};
	struct volume *v;
	int r = vol_open(&s->env, i->p.prefix, i->o.n.uuid, &v, &err);

	if (r)
		return site_fail(s, r, &err);
	vol_stat(v, ret);
	ignore(vol_close(v)); /* nothing was written */
	return CMD_OK;
}

static int claim(struct site *s)
{
	struct vol_stat before, after = {0};
	json_t *ans = NULL;
	struct image i;
	int r = site_find(s, &i);

	if (r)
		return r;
	r = holder(s, &i, &before);
	if (!r && !before.released)
		fprintf(stderr,
			"lsvdfs: warning: %s is held by %s (epoch %" PRIu64 "): what that machine has not sent to the bucket will "
			"not be in the image, and its writes fail from now on\n",
			s->said, before.holder, before.epoch);
	if (!r && s->mounted)
		r = site_ask(s, "claim", &ans);
	else if (!r)
		r = claim_offline(s, &i, &after);
	image_done(&i);
	if (r)
		return r;
	if (ans)
		after.epoch = (uint64_t)number(ans, "epoch");
	json_decref(ans);
	if (s->json) {
		json_t *doc = json_pack("{s:s, s:I, s:b}", "path", s->path, "epoch", (json_int_t)after.epoch, "taken",
					(int)!before.released);

		if (doc && !before.released)
			json_object_set_new(doc, "from", json_string(before.holder));
		return cmd_print_json(doc);
	}
	printf("%" PRIu64 "\n", after.epoch);
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- which ------------------------------------------------------------------------------------------------------ */

static const struct action {
	const char *name;
	bool dir;  /* the target may be a directory, or a whole source */
	bool more; /* one argument behind the target */
	int (*fn)(struct site *s);
	int (*fn_more)(struct site *s, const char *arg);
} actions[] = {
    {"create", false, true, NULL, create},	     {"info", false, false, info, NULL},
    {"list", true, false, image_list, NULL},	     {"resize", false, true, NULL, resize},
    {"delete", false, false, delete, NULL},	     {"export", false, true, NULL, image_export},
    {"import", false, true, NULL, image_import},     {"check", false, false, image_check_cmd, NULL},
    {"gc", true, false, image_collect, NULL},	     {"claim", false, false, claim, NULL},
    {"snapshot", false, false, image_snapshot, NULL}, {"snapshots", false, false, image_snapshots, NULL},
    {"rollback", false, false, image_rollback, NULL}, {"clone", false, true, NULL, image_clone},
    {"journal", true, false, image_journal, NULL},    {"flatten", false, false, image_flatten, NULL},
    {"log", false, false, image_log, NULL},	      {"retain", false, true, NULL, image_retain},
    {"marks", false, false, image_list_marks, NULL},  {"adopt", false, true, NULL, image_adopt},
};

static bool flag(int c, const char *arg, void *ctx)
{
	struct site *s = ctx;

	s->force |= c == 'F';
	s->data |= c == 'D';
	s->drop |= c == 'X';
	s->pins |= c == 'N';
	s->id = c == 'I' ? arg : s->id;
	s->out = c == 'O' ? arg : s->out;
	s->size = c == 'S' ? arg : s->size;
	s->restore_point = c == 'R' ? arg : s->restore_point;
	s->from_options = c == 'P' ? arg : s->from_options;
	s->stop_at_gap |= c == 'G';
	s->into = c == 'T' ? arg : s->into;
	s->mark = c == 'M' ? arg : s->mark;
	s->repair |= c == 'Y';
	s->zero_lost |= c == 'Z';
	s->position = c == 'B' ? arg : s->position;
	s->all |= c == 'L';
	return c && strchr("FDXIOSRPGNTMYZBL", c);
}

static int run(struct site *s, char **pos, int npos)
{
	const struct action *a = NULL;
	int want, least, status;

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (!strcmp(pos[0], actions[i].name))
			a = &actions[i];
	if (!a)
		return cmd_usage("image: expected create, info, list, resize, delete, export, import, check, gc, claim, journal, "
				 "snapshot, snapshots, rollback, log, retain, clone, flatten, marks or adopt");
	if (npos < 2)
		return cmd_usage("image %s: missing arguments (lsvdfs image --help)", a->name);
	if (a->fn != image_journal && (s->id || s->out || s->drop || s->into))
		return cmd_usage("image %s: --id, --out, --into and --drop are of image journal", a->name);
	if (a->fn != image_check_cmd && (s->repair || s->zero_lost))
		return cmd_usage("image %s: --repair and --zero-lost are of image check", a->name);
	if (a->fn != image_check_cmd && a->fn_more != image_export && s->mark)
		return cmd_usage("image %s: --mark is of image export and image check", a->name);
	if (a->fn_more != image_import && (s->size || s->restore_point || s->from_options || s->stop_at_gap))
		return cmd_usage("image %s: --size, --restore-point, --stop-at-gap and --from-options are of image import",
				 a->name);
	if (a->fn != image_rollback && s->position)
		return cmd_usage("image %s: --position is of image rollback", a->name);
	if (a->fn != image_log && s->all)
		return cmd_usage("image %s: --all is of image log", a->name);
	if (a->fn != image_snapshots && s->pins)
		return cmd_usage("image %s: --pins is of image snapshots", a->name);
	/* SOURCE PATH, or PATH on a mount; then what the action wants */
	want = 2 + a->more + cmd_is_source(pos[1]);
	least = want - (a->dir && cmd_is_source(pos[1]));
	if (npos < least || npos > want)
		return cmd_usage("image %s: %s arguments (lsvdfs image --help)", a->name,
				 npos < least ? "missing" : "too many");
	status = site_open(s, pos + 1, npos - 1 - a->more, a->dir);
	if (status)
		return status;
	return a->fn ? a->fn(s) : a->fn_more(s, pos[npos - 1]);
}

int cmd_image(int argc, char **argv)
{
	static struct site s; /* its threads may outlive a frame */
	struct cmd_args a = {.name = "image",
			     .short_opts = "",
			     .fn = flag,
			     .ctx = &s,
			     .o = &s.o,
			     .json = &s.json,
			     .min = 1,
			     .max = 4};
	char **pos;
	int npos, status;

	s.slot.lock_fd = -1;
	if (options_init(&s.o))
		return cmd_fail("out of memory");
	if (cmd_parse(&a, argc, argv, &pos, &npos, &status)) {
		log_setup(LOG_TO_STDERR, s.o.log_level == LOG_L_INFO ? LOG_L_WARN : s.o.log_level);
		status = run(&s, pos, npos);
	}
	if (s.left) {
		(void)fflush(NULL);
		_exit(status);
	}
	site_close(&s);
	return status;
}
