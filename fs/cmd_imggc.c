/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imggc.c - `lsvdfs image gc`.
 *
 * gc removes what nobody will ever need: what processes of this machine that died began to import or to remove, what is
 * left of images that were deleted, references of clones that are gone or never came (refs.h). A log without a name is only reported: somebody may have removed the name by another
 * program, and its log is all that is left of a disk. --force removes it, by the rules of any removal (PROTOCOL.md 3),
 * unless it is young, held, or has clones.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define YOUNG_S (24 * 3600) /* a log whose name may still come */

struct collect {
	struct site *s;
	json_t *local, *logs; /* arrays */
	struct found_names names;
	bool look; /* removes nothing */
	bool failed;
};

/* --- what this machine left ------------------------------------------------------------------------------------- */

static void note_local(struct collect *c, const uint8_t uuid[16], const char *what, int r, const struct objerr *err)
{
	char hex[33];
	json_t *e;

	log_uuid_format(uuid, hex);
	e = json_pack("{s:s, s:s}", "uuid", hex, "what", what);
	if (e && r < 0)
		json_object_set_new(e, "error", json_string(err->msg[0] ? err->msg : explain_errno(r)));
	json_array_append_new(c->local, e);
	c->failed |= r < 0;
}

/* The name of a dead image, if its remover died before it went. */
static void remove_dead_name(struct collect *c, const struct vol_env *env, const uint8_t uuid[16], const char *path)
{
	_cleanup_free_ char *key = NULL;
	struct objerr err = {0};
	struct nameobj o;

	if (image_key(c->s->url.prefix, path, &key) || nameobj_get(env->store, key, &o, &err))
		return;
	if (!memcmp(o.n.uuid, uuid, 16))
		ignore(obj_delete(env->store, key, obj_caps(env->store) & OBJ_CAP_DELETE_COND ? o.etag : NULL, NULL));
	nameobj_free(&o);
}

static void local_image(struct collect *c, const struct vol_env *env, const uint8_t uuid[16])
{
	_cleanup_free_ char *importing = NULL, *deleting = NULL, *prefix = NULL, *path = NULL;
	struct objerr err = {0};
	int r;

	if (image_file(env->state_dir, uuid, "importing", &importing) ||
	    image_file(env->state_dir, uuid, "deleting", &deleting))
		return;
	if (!access(importing, F_OK)) {
		r = image_drop_import(env, c->s->url.prefix, uuid, &err);
		if (r)
			note_local(c, uuid, "an import that did not end", r, &err);
		return;
	}
	if (access(deleting, F_OK) || image_read_where(env->state_dir, uuid, &prefix, &path))
		return;
	if (image_ended(env, c->s->url.prefix, uuid, &err) == 1) {
		remove_dead_name(c, env, uuid, path);
		r = image_erase_left(env, uuid, &err);
		note_local(c, uuid, "a removal that did not end", r, &err);
	}
}

static void local_slot(struct collect *c, const char *img)
{
	struct vol_env env = c->s->env;
	DIR *d = opendir(img);
	struct dirent *de;
	uint8_t uuid[16];

	env.state_dir = img;
	while (d && (de = readdir(d)))
		if (!log_uuid_parse(de->d_name, uuid))
			local_image(c, &env, uuid);
	if (d)
		closedir(d);
}

/* Of those that no mount has. */
static int local_slots(struct collect *c)
{
	_cleanup_free_ unsigned *v = NULL;
	struct site *s = c->s;
	size_t n = 0;
	int r = slot_list(s->o.state_dir, s->identity, &v, &n);

	for (size_t i = 0; !r && i < n; i++) {
		_cleanup_free_ char *img = NULL;
		struct slot slot = {.lock_fd = -1};

		if (v[i] == s->slot.number) {
			local_slot(c, s->img_dir);
		} else if (!slot_lock(s->o.state_dir, s->identity, v[i], &slot)) {
			if (!slot_file(&slot, "img", &img))
				local_slot(c, img);
			slot_release(&slot);
		}
	}
	return r;
}

/* --- logs of the bucket ----------------------------------------------------------------------------------------- */

struct log_facts {
	char prefix[OBJ_KEY_MAX + 1];
	uint8_t uuid[16];
	uint64_t objects, bytes; /* all keys */
	int64_t newest_s;
	bool dead, refs;
	/* of a dead one */
	uint64_t next, *claims; /* of the newest claim; numbers */
	size_t nclaims, capclaims;
	size_t removable;
};

/* Is it a claim? What cannot be read counts as one: it stays. */
static int look_at_object(struct site *s, struct log_facts *f, const char *key, uint64_t number)
{
	_cleanup_free_ void *buf = malloc(LOG_STRIDE);
	struct logobj o = {0};
	struct objreq q;
	size_t need;
	int r;

	if (!buf)
		return -ENOMEM;
	objreq_init(&q, OBJ_GET, key);
	q.len = q.cap = LOG_STRIDE;
	q.buf = buf;
	r = obj_do(s->store, &q);
	if (!r)
		r = logobj_decode(buf, q.got, f->uuid, number, &o, &need, &q.err);
	objreq_done(&q);
	if (r == -ENOENT)
		return 0;
	/* a header longer than a group is no claim's */
	if ((!r && o.type != LOG_CLAIM) || r == -EAGAIN) {
		f->removable++;
		logobj_free(&o);
		return 0;
	}
	if (r && r != -EUCLEAN)
		return r;
	if (!r && number + 1 <= o.claim_next)
		f->next = MAX(f->next, o.claim_next);
	logobj_free(&o);
	if (f->nclaims == f->capclaims) {
		size_t cap = f->capclaims * 2 + 16;
		uint64_t *v = reallocarray(f->claims, cap, sizeof *v);

		if (!v)
			return -ENOMEM;
		f->claims = v;
		f->capclaims = cap;
	}
	f->claims[f->nclaims++] = number;
	return 0;
}

struct looking {
	struct site *s;
	struct log_facts *f;
};

static int list_one(void *arg, const struct obj_list_entry *e)
{
	struct log_facts *f = ((struct looking *)arg)->f;
	const char *p = e->key + strlen(f->prefix);

	if (str_has_suffix(p, "/"))
		return 0;
	f->objects++;
	f->bytes += e->size;
	f->newest_s = MAX(f->newest_s, e->mtime_s);
	f->dead |= !strcmp(p, "dead");
	f->refs |= str_has_prefix(p, "ref/");
	return 0;
}

static int look_at_one(void *arg, const struct obj_list_entry *e)
{
	struct looking *l = arg;
	const char *p = e->key + strlen(l->f->prefix);
	uint64_t number;

	if (str_has_suffix(p, "/"))
		return 0;
	if (!log_number_parse(p, &number))
		return look_at_object(l->s, l->f, e->key, number);
	l->f->removable += str_has_prefix(p, "mark/");
	return 0;
}

/* objects: with a look into each, else the listing alone. */
static int log_facts(struct site *s, struct log_facts *f, bool objects)
{
	struct looking l = {s, f};

	return obj_each(s->store, OBJ_LIST, f->prefix, false, objects ? look_at_one : list_one, &l, NULL);
}

/*
 * What the remover of an image did not finish, whoever it was. By the newest claim that is there: nobody has anything
 * below its `next` that could count, and what lies at or beyond it stays.
 */
static int sweep_dead(struct collect *c, struct log_facts *f, const char **ret_why, struct objerr *err)
{
	struct site *s = c->s;
	size_t left;
	int r;

	if (f->refs)
		return 0;
	r = log_facts(s, f, true);
	if (r || !f->next || !f->removable)
		return r;
	if (c->look) {
		*ret_why = "lsvdfs image gc removes it";
		return 0;
	}
	r = image_erase(s->store, f->prefix, f->next, f->claims, f->nclaims, &left, err);
	return r ? r : 1;
}

static int sweep_nameless(struct collect *c, struct log_facts *f, const char **ret_why, struct objerr *err)
{
	struct site *s = c->s;
	char path[64], hex[33];
	int r;

	log_uuid_format(f->uuid, hex);
	if (c->look)
		*ret_why = "lsvdfs image gc --force removes it, if nobody needs it";
	else if (!s->force)
		*ret_why = "--force removes it, if nobody needs it";
	else if (f->refs)
		*ret_why = "clones use it";
	else if (f->newest_s > clock_real_ns() / NSEC_PER_SEC - YOUNG_S)
		*ret_why = "younger than a day: its name may still come";
	if (*ret_why)
		return 0;
	snprintf(path, sizeof path, ".lsvd/img/%s", hex); /* for marks of this machine: no name can be that */
	r = image_end_log(&s->env, f->prefix, path, f->uuid, err);
	if (r == -EBUSY) {
		*ret_why = "held by a machine that has not released it";
		return 0;
	}
	if (!r)
		r = image_erase_left(&s->env, f->uuid, err);
	return r ? r : 1;
}

static bool named(const struct collect *c, const uint8_t uuid[16])
{
	for (size_t i = 0; i < c->names.n; i++)
		if (!c->names.v[i].status && !memcmp(c->names.v[i].o.n.uuid, uuid, 16))
			return true;
	return false;
}

static int one_log(struct collect *c, struct log_facts *f)
{
	const char *why = NULL;
	struct objerr err = {0};
	char hex[33];
	size_t left;
	json_t *e;
	int r = log_facts(c->s, f, false);

	if (r || !f->objects)
		return r;
	if (f->refs) {
		r = image_sweep_refs(c->s, f->prefix, f->uuid, c->look, c->local, c->logs, &left, &err);
		c->failed |= r < 0;
		f->refs = r || left; /* else nobody keeps it, though it was listed with them */
	}
	if (f->dead)
		r = sweep_dead(c, f, &why, &err);
	else if (named(c, f->uuid))
		return 0;
	else
		r = sweep_nameless(c, f, &why, &err);
	if (!r && f->dead && !why)
		return 0; /* as it should be */
	log_uuid_format(f->uuid, hex);
	e = json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "uuid", hex, "what",
		      f->dead ? "left of a deleted image" : "a log without a name", "objects", (json_int_t)f->objects,
		      "bytes", (json_int_t)f->bytes, "newest", (json_int_t)f->newest_s, "removed", r > 0);
	if (e && why)
		json_object_set_new(e, "why", json_string(why));
	if (e && r < 0)
		json_object_set_new(e, "error", json_string(err.msg[0] ? err.msg : explain_errno(r)));
	json_array_append_new(c->logs, e);
	c->failed |= r < 0;
	return 0;
}

/* The names are read after the logs were listed, and again: one that moved meanwhile is seen in one of both. */
static int read_names_again(struct collect *c, struct objerr *err)
{
	struct found_names more;
	int r = image_names(c->s, c->s->url.prefix, &c->names, err);

	if (!r)
		r = image_names(c->s, c->s->url.prefix, &more, err);
	if (r)
		return r;
	for (size_t i = 0; i < more.n && !r; i++) {
		struct found_name *x = &more.v[i];

		/* a name that cannot be read may be anybody's: then nothing is nameless */
		if (x->status && x->status != -ENODATA && x->status != -ENOENT) {
			objerr_set(err, "%s: %s", x->key, x->err.msg[0] ? x->err.msg : explain_errno(x->status));
			r = -EIO;
		} else if (!x->status && !named(c, x->o.n.uuid)) {
			objerr_set(err, "%s appeared meanwhile: once more, please", x->key);
			r = -EAGAIN;
		}
	}
	found_names_free(&more);
	return r;
}

struct directories {
	char dir[OBJ_KEY_MAX + 1];
	json_t *uuids;
};

static int one_directory(void *arg, const struct obj_list_entry *e)
{
	struct directories *d = arg;

	json_array_append_new(d->uuids, json_string(e->key + strlen(d->dir))); /* what is no UTF-8 is no UUID */
	return 0;
}

static int all_logs(struct collect *c, struct objerr *err)
{
	json_t *uuids = json_array();
	struct directories d = {.uuids = uuids};
	json_t *v;
	size_t i;
	int r;

	snprintf(d.dir, sizeof d.dir, "%s.lsvd/img/", c->s->url.prefix);
	r = obj_each(c->s->store, OBJ_LIST, d.dir, true, one_directory, &d, err);
	if (!r && json_array_size(uuids) > 0)
		r = read_names_again(c, err);
	json_array_foreach(uuids, i, v)
	{
		const char *name = json_string_value(v);
		struct log_facts f = {0};
		char hex[33];

		if (r || strlen(name) < 32 || strlen(name) > 33)
			continue;
		memcpy(hex, name, 32);
		hex[32] = '\0';
		if (log_uuid_parse(hex, f.uuid))
			continue;
		if ((size_t)snprintf(f.prefix, sizeof f.prefix, "%s%s/", d.dir, hex) < sizeof f.prefix)
			r = one_log(c, &f);
		free(f.claims);
	}
	json_decref(uuids);
	return r;
}

int image_left_logs(struct objstore *store, const char *prefix, json_t *ret, struct objerr *err)
{
	struct site s = {.store = store, .url.prefix = (char *)prefix};
	struct collect c = {.s = &s, .logs = ret, .look = true};
	int r = all_logs(&c, err);

	found_names_free(&c.names);
	return r;
}

void image_print_left(const json_t *e)
{
	const char *error = json_string_value(json_object_get(e, "error")), *why = json_string_value(json_object_get(e, "why"));
	const json_t *bytes = json_object_get(e, "bytes");
	char size[24];

	printf("%s: %s", json_string_value(json_object_get(e, "uuid")), json_string_value(json_object_get(e, "what")));
	if (bytes)
		printf(", %lld objects, %s", (long long)json_integer_value(json_object_get(e, "objects")),
		       cmd_size((uint64_t)json_integer_value(bytes), size));
	printf(": %s\n", error ? error : why ? why : "removed");
}

/* --- one image --------------------------------------------------------------------------------------------------- */

struct cleaning {
	struct vol_gc gc;
	struct vol_stat st;
};

/* For image_write(): what a process that died left in the journal goes into the log by the claim. */
static int clean(struct volume *v, void *arg)
{
	struct cleaning *c = arg;
	int r = image_just_claim(v, &c->st);

	if (!r)
		r = vol_gc(v, 0, &c->gc);
	return r;
}

static int collect_image(struct site *s)
{
	struct cleaning c = {0};
	struct objerr err = {0};
	struct image i;
	char a[24], b[24], d[24];
	int r = site_find(s, &i);

	if (r)
		return r;
	if (site_here(s, i.uuid))
		r = cmd_fail("%s: in use on this mount, which cleans it itself", s->said);
	if (!r)
		r = site_may_write(s);
	if (!r) {
		r = image_write(&s->env, i.p.prefix, s->path, i.o.n.uuid, clean, &c, &err);
		r = r ? site_fail(s, r, &err) : CMD_OK;
	}
	image_done(&i);
	if (r)
		return r;
	if (s->json)
		return cmd_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "path", s->path, "live",
						(json_int_t)c.gc.live, "stored_before", (json_int_t)c.gc.stored_before,
						"stored", (json_int_t)c.gc.stored, "moved", (json_int_t)c.gc.moved, "made",
						(json_int_t)c.gc.made, "deleted", (json_int_t)c.gc.deleted));
	printf("%s: %s live of %s stored, before: %s\n", s->said, cmd_size(c.gc.live, a), cmd_size(c.gc.stored, b),
	       cmd_size(c.gc.stored_before, d));
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* Is there an image of this name, or is it a directory? */
static bool names_image(struct site *s)
{
	_cleanup_free_ char *key = NULL;
	struct objerr err = {0};
	struct nameobj o;

	if (!s->path[0] || image_key(s->url.prefix, s->path, &key) || nameobj_get(s->store, key, &o, &err))
		return false;
	nameobj_free(&o);
	return true;
}

int image_collect(struct site *s)
{
	struct collect c = {.s = s, .local = json_array(), .logs = json_array()};
	struct objerr err = {0};
	json_t *v;
	size_t i;
	int r;

	if (names_image(s)) {
		json_decref(c.local);
		json_decref(c.logs);
		return collect_image(s);
	}
	r = s->path[0] ? cmd_fail("%s: no image; give one, or the whole source: what has no name lies beside all images of it",
				  s->said)
		       : site_may_write(s);
	if (!r) {
		r = local_slots(&c);
		if (!r)
			r = all_logs(&c, &err);
		if (r)
			r = site_fail(s, r, &err);
	}
	if (!r && s->json) {
		r = cmd_print_json(json_pack("{s:O, s:O}", "local", c.local, "logs", c.logs));
	} else if (!r) {
		json_array_foreach(c.local, i, v) image_print_left(v);
		json_array_foreach(c.logs, i, v) image_print_left(v);
		if (!json_array_size(c.local) && !json_array_size(c.logs))
			printf("nothing to remove\n");
		r = fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
	}
	json_decref(c.local);
	json_decref(c.logs);
	found_names_free(&c.names);
	return r ? r : c.failed ? CMD_FAILED : CMD_OK;
}
