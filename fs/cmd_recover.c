/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_recover.c - what was left half way: directory renames in the bucket (intents), unfinished uploads on this node, and
 * what no journal names (leftover.c). Of disk images it only tells: journals are brought into the bucket by a mount, logs
 * that no name leads to are removed by `lsvdfs image gc`.
 *
 * Intents of all nodes are listed; only what this node left behind is acted on (intent.c): another may just be slow.
 * Slots that a mount holds are its own business. A mount does the same for its own identity when it starts.
 */
#include "config.h"
#include "cmd.h"
#include "cmd_image.h"
#include "explain.h"
#include "intent.h"
#include "leftover.h"
#include "mount.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OLD_UPLOAD_S (24 * 3600)

struct recover {
	struct options *o;
	struct obj_url url;
	char *identity;
	struct objstore *store;
	struct budget *budget;
	json_t *intents, *slots, *files, *copies, *uploads, *images, *logs; /* arrays */
	bool abort_uploads;
	bool failed;
};

static void note_intent(void *arg, const struct intent *i)
{
	struct recover *c = arg;
	json_t *e = json_pack("{s:s, s:s, s:I}", "key", i->key, "state", intent_fate_name[i->fate], "time",
			      (json_int_t)i->time_s);

	if (i->from)
		json_object_set_new(e, "from", json_string(i->from));
	if (i->to)
		json_object_set_new(e, "to", json_string(i->to));
	if (i->why && i->why[0])
		json_object_set_new(e, "error", json_string(i->why));
	json_array_append_new(c->intents, e);
	c->failed |= i->fate == INTENT_FAILED;
}

static int finish_renames(struct recover *c, struct objerr *err)
{
	int r = intent_resume_all(c->store, c->url.prefix, c->o->state_dir, c->identity, NULL, note_intent, c, err);

	if (r)
		explain_error(c->o->source, r, err, err);
	return r;
}

static void note_leftover(void *arg, const struct leftover *l)
{
	struct recover *c = arg;
	json_t *e = json_pack("{s:s, s:s, s:I}", "key", l->key, "state", leftover_fate_name[l->fate], "time",
			      (json_int_t)l->time_s);

	if (l->upload_id)
		json_object_set_new(e, "upload", json_string(l->upload_id));
	else
		json_object_set_new(e, "size", json_integer((json_int_t)l->size));
	if (l->why)
		json_object_set_new(e, "error", json_string(l->why));
	json_array_append_new(l->upload_id ? c->uploads : c->copies, e);
	c->failed |= l->fate == LEFTOVER_FAILED;
}

/* Only to be told: that they cannot be looked at ends nothing. */
static void find_logs(struct recover *c)
{
	struct objerr err = {0};
	int r = image_left_logs(c->store, c->url.prefix, c->logs, &err);

	if (r) {
		cmd_fail("logs of disk images were not looked at: %s", err.msg[0] ? err.msg : explain_errno(r));
		c->failed = true;
	}
}

/* What no journal names. */
static int find_leftovers(struct recover *c, struct objerr *err)
{
	int64_t before = clock_real_ns() / NSEC_PER_SEC - OLD_UPLOAD_S;
	int r = leftover_copies(c->store, c->url.prefix, c->o->state_dir, c->identity, NULL, note_leftover, c, err);

	if (!r)
		r = leftover_uploads(c->store, c->url.prefix, before, c->abort_uploads, note_leftover, c, err);
	if (r)
		explain_error(c->o->source, r, err, err);
	return r;
}

static void note_file(void *arg, const char *dir, const char *name, const char *what, const struct version *v,
		      const struct obj_headers *h, uint64_t ino)
{
	struct recover *c = arg;
	struct str path = {0};

	str_addf(&path, "%s%s", dir, name);
	if (!path.err)
		json_array_append_new(c->files, json_pack("{s:s, s:s}", "path", str_c(&path), "what", what));
	str_free(&path);
}

static void metaq_nothing(void *arg, const char *dir, const char *name, bool is_dir, int status,
			  const struct version *base, const struct version *v, const struct version *found,
			  const struct obj_headers *h)
{
}

/* Metadata changes that waited when the mount died. */
static int send_metadata(struct recover *c, const struct slot *s, struct objerr *err)
{
	_cleanup_free_ char *path = NULL;
	struct tree_opts to = {
	    .store = c->store, .prefix = c->url.prefix, .def = c->o->def, .attr_timeout_ns = c->o->attr_timeout_ns};
	struct metaq_opts qo = {.done = metaq_nothing};
	struct metaq *q;
	struct tree *t;
	int r = slot_file(s, "metaq", &path);

	if (r || access(path, F_OK))
		return r;
	r = tree_open(&to, &t, err);
	if (r)
		return r;
	qo.path = path;
	qo.tree = t;
	r = metaq_open(&qo, &q, err);
	if (!r) {
		r = metaq_sync_below(q, "", err);
		metaq_close(q);
	}
	tree_close(t);
	return r;
}

static int finish_slot(struct recover *c, const struct slot *s, json_t *entry)
{
	_cleanup_free_ char *dir = NULL;
	struct spool_opts so = {
	    .store = c->store, .prefix = c->url.prefix, .budget = c->budget, .part_size = c->o->part_size};
	struct spool_recovery rec = {0};
	struct objerr err = {0};
	struct spool *sp = NULL;
	int r = slot_file(s, "spool", &dir);

	if (!r && !access(dir, F_OK)) {
		so.dir = dir;
		r = spool_open(&so, &sp, &err);
		if (!r)
			r = spool_recover(sp, &rec, note_file, c);
		if (sp)
			spool_close(sp);
	}
	if (!r)
		r = send_metadata(c, s, &err);
	json_object_set_new(entry, "uploaded", json_integer(rec.uploaded));
	json_object_set_new(entry, "parked", json_integer(rec.parked));
	json_object_set_new(entry, "already", json_integer(rec.already));
	json_object_set_new(entry, "failed", json_integer(rec.failed));
	if (r)
		json_object_set_new(entry, "error", json_string(err.msg[0] ? err.msg : explain_errno(r)));
	c->failed |= r || rec.failed;
	return r;
}

/* Images that a mount wrote to and did not close: what it had not sent lies in their journals. */
static void find_journals(struct recover *c, const struct slot *s)
{
	_cleanup_free_ char *img = NULL;
	DIR *d = slot_file(s, "img", &img) ? NULL : opendir(img);
	struct dirent *de;
	uint8_t uuid[16];

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *clean = NULL, *prefix = NULL, *path = NULL;

		if (log_uuid_parse(de->d_name, uuid) || image_file(img, uuid, "clean", &clean) || !access(clean, F_OK) ||
		    image_read_where(img, uuid, &prefix, &path))
			continue;
		json_array_append_new(c->images, json_pack("{s:s, s:s, s:i}", "path", path, "uuid", de->d_name, "slot",
							   (int)s->number));
	}
	if (d)
		closedir(d);
}

static int finish_slots(struct recover *c)
{
	_cleanup_free_ unsigned *v = NULL;
	size_t n = 0;
	int r = slot_list(c->o->state_dir, c->identity, &v, &n);

	for (size_t i = 0; !r && i < n; i++) {
		struct slot s = {.lock_fd = -1};
		json_t *entry = json_pack("{s:i}", "slot", (int)v[i]);
		int locked = slot_lock(c->o->state_dir, c->identity, v[i], &s);

		if (locked == -EBUSY) {
			json_object_set_new(entry, "in_use", json_true());
		} else if (locked) {
			json_object_set_new(entry, "error", json_string(explain_errno(locked)));
			c->failed = true;
		} else {
			(void)finish_slot(c, &s, entry); /* in entry, and c->failed */
			find_journals(c, &s);
			slot_release(&s);
		}
		json_array_append_new(c->slots, entry);
	}
	return r;
}

/* Names are anybody's: nothing of them may steer a terminal. */
static void print_name(const json_t *name)
{
	const char *z = json_string_value(name);
	char *copy = strdup(z ? z : "?");

	printf("%s", copy ? cmd_printable(copy) : "?");
	free(copy);
}

static void print_intent(const json_t *v)
{
	const char *state = json_string_value(json_object_get(v, "state"));
	const char *error = json_string_value(json_object_get(v, "error"));
	const json_t *from = json_object_get(v, "from");

	printf("rename ");
	print_name(from ? from : json_object_get(v, "key"));
	printf(" -> ");
	print_name(json_object_get(v, "to"));
	printf(": ");
	if (!strcmp(state, "resumed"))
		printf("finished\n");
	else if (!strcmp(state, "running"))
		printf("under way by a mount of this machine\n");
	else if (!strcmp(state, "foreign"))
		printf("begun by another machine, which goes on with it when it mounts\n");
	else
		printf("%s\n", error ? error : state);
}

static void print_leftover(const json_t *v)
{
	const char *error = json_string_value(json_object_get(v, "error"));
	const char *state = json_string_value(json_object_get(v, "state"));
	bool upload = json_object_get(v, "upload") != NULL;
	_cleanup_free_ char *key = strdup(json_string_value(json_object_get(v, "key")));
	char size[24];

	printf("%s %s: ", upload ? "upload of" : "removed file", key ? cmd_printable(key) : "?");
	if (error)
		printf("%s\n", error);
	else if (!strcmp(state, "removed"))
		printf("%s\n", upload ? "aborted" : "nobody has it open any more, gone");
	else if (!strcmp(state, "running"))
		printf("open in a mount of this machine\n");
	else if (upload)
		printf("older than a day (--abort-uploads ends it)\n");
	else
		printf("%s, of another machine, which removes it when it mounts\n",
		       cmd_size((uint64_t)json_integer_value(json_object_get(v, "size")), size));
}

static void print_words(const struct recover *c)
{
	json_t *v;
	size_t i;

	json_array_foreach(c->intents, i, v) print_intent(v);
	json_array_foreach(c->files, i, v)
	{
		print_name(json_object_get(v, "path"));
		printf(": %s\n", json_string_value(json_object_get(v, "what")));
	}
	json_array_foreach(c->copies, i, v) print_leftover(v);
	json_array_foreach(c->uploads, i, v) print_leftover(v);
	json_array_foreach(c->images, i, v)
	{
		printf("image ");
		print_name(json_object_get(v, "path"));
		printf(": its journal may hold what the bucket does not have: a mount brings it there\n");
	}
	json_array_foreach(c->logs, i, v) image_print_left(v);
	json_array_foreach(c->slots, i, v)
	{
		const char *error = json_string_value(json_object_get(v, "error"));

		printf("slot %d: ", (int)json_integer_value(json_object_get(v, "slot")));
		if (json_is_true(json_object_get(v, "in_use")))
			printf("in use by a mount\n");
		else if (error)
			printf("%s\n", error);
		else
			printf("%d uploaded, %d already there, %d parked, %d failed\n",
			       (int)json_integer_value(json_object_get(v, "uploaded")),
			       (int)json_integer_value(json_object_get(v, "already")),
			       (int)json_integer_value(json_object_get(v, "parked")),
			       (int)json_integer_value(json_object_get(v, "failed")));
	}
	if (!json_array_size(c->intents) && !json_array_size(c->slots) && !json_array_size(c->copies) &&
	    !json_array_size(c->uploads) && !json_array_size(c->images) && !json_array_size(c->logs))
		printf("nothing was left half way\n");
}

static int open_all(struct recover *c, const char *source, struct objerr *err)
{
	int r;

	c->o->source = strdup(source);
	r = c->o->source ? options_finish(c->o, err) : -ENOMEM;
	if (!r)
		r = budget_new(c->o->memory, &c->budget);
	if (!r)
		r = mount_open_store(c->o, c->budget, &c->url, &c->store, err);
	if (!r)
		r = slot_identity(&c->url, c->o->endpoint, &c->identity);
	if (!r)
		r = mount_reach(c->store, c->o, c->url.prefix, err);
	if (!r)
		r = obj_probe(c->store, c->url.prefix, err); /* uploads depend on what the store can do */
	c->intents = json_array();
	c->slots = json_array();
	c->files = json_array();
	c->copies = json_array();
	c->uploads = json_array();
	c->images = json_array();
	c->logs = json_array();
	if (!r && (!c->intents || !c->slots || !c->files || !c->copies || !c->uploads || !c->images || !c->logs))
		r = -ENOMEM;
	return r;
}

static bool letter(int ch, const char *arg, void *ctx)
{
	(void)arg;
	*(bool *)ctx |= ch == 'A';
	return ch == 'A';
}

int cmd_recover(int argc, char **argv)
{
	struct options o;
	struct recover c = {.o = &o};
	bool json = false;
	struct cmd_args a = {.name = "recover",
			     .short_opts = "",
			     .fn = letter,
			     .ctx = &c.abort_uploads,
			     .o = &o,
			     .json = &json,
			     .min = 1,
			     .max = 1};
	struct objerr err = {0};
	char **pos;
	int npos, status, r;

	if (options_init(&o))
		return cmd_fail("out of memory");
	if (!cmd_parse(&a, argc, argv, &pos, &npos, &status))
		goto out;
	log_setup(LOG_TO_STDERR, o.log_level);
	r = open_all(&c, pos[0], &err);
	if (!r)
		r = finish_slots(&c); /* first: what goes to old names moves along */
	if (!r)
		r = finish_renames(&c, &err);
	if (!r)
		r = find_leftovers(&c, &err);
	if (!r)
		find_logs(&c);
	if (r) {
		cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
		status = r == -EINVAL ? CMD_USAGE : CMD_FAILED;
	} else {
		if (json)
			(void)cmd_print_json(
			    json_pack("{s:O, s:O, s:O, s:O, s:O, s:O, s:O}", "intents", c.intents, "files", c.files, "slots",
				      c.slots, "copies", c.copies, "uploads", c.uploads, "images", c.images, "logs", c.logs));
		else
			print_words(&c);
		status = c.failed ? CMD_FAILED : CMD_OK;
	}
	json_decref(c.intents);
	json_decref(c.slots);
	json_decref(c.files);
	json_decref(c.copies);
	json_decref(c.uploads);
	json_decref(c.images);
	json_decref(c.logs);
	obj_close(c.store);
	obj_url_free(&c.url);
	budget_free(c.budget);
	free(c.identity);
out:
	options_done(&o);
	return status;
}
