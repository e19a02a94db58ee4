/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgjournal.c - `lsvdfs image journal`: what this machine wrote to an image that the image went on without, because
 * another machine took it.
 *
 * All slots of the source are looked through: a mount that died may have had another one. An id is SLOT-TIME of a journal
 * that was set aside, or SLOT-now of the one that the next writer here goes on with, or sets aside. The bytes are laid over a
 * file in the order in which they were written: over an empty one, or over an export, which then is the disk as the
 * machine that lost it saw it.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "objstore/base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct looking {
	struct site *s;
	const char *uuid; /* of one image only, or NULL */
	const struct image *image; /* with uuid */
	json_t *doc;      /* array, with --json */
	unsigned found, failed;
	int fd;
};

/* --- one journal ------------------------------------------------------------------------------------------------- */

static int lay_over(int fd, const struct vol_jchange *c)
{
	if (!strcmp(c->what, "write"))
		return base_pwrite_all(fd, c->data, c->len, c->off);
	if (!strcmp(c->what, "resize"))
		return ftruncate(fd, (off_t)c->off) ? -errno : 0;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)c->off, (off_t)c->len))
		return -errno;
	return 0;
}

static int on_change(void *arg, const struct vol_jchange *c)
{
	struct looking *l = arg;
	const struct site *s = l->s;

	if (l->fd >= 0)
		return c->sent ? 0 : lay_over(l->fd, c);
	if (l->doc) {
		json_t *e = json_pack("{s:I, s:s, s:I, s:I, s:b}", "sequence", (json_int_t)c->seq, "what", c->what, "offset",
				      (json_int_t)c->off, "bytes", (json_int_t)c->len, "sent", (int)c->sent);

		return json_array_append_new(l->doc, e) ? -ENOMEM : 0;
	}
	if (s->id)
		printf("%" PRIu64 " %s %" PRIu64 " %" PRIu64 " %s\n", c->seq, c->what, c->off, c->len, c->sent ? "sent" : "not sent");
	return 0;
}

static void say(struct looking *l, const char *id, const char *path, const char *uuid, const struct vol_journal *j)
{
	char when[32] = "-", size[24];
	time_t t = (time_t)j->time_s;
	struct tm tm;

	if (l->doc) {
		json_array_append_new(l->doc, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id", id, "path", path, "uuid",
							uuid, "time", (json_int_t)j->time_s, "changes",
							(json_int_t)j->records, "sent", (json_int_t)j->sent, "unsent",
							(json_int_t)j->unsent, "unsent_bytes", (json_int_t)j->bytes));
		return;
	}
	if (j->time_s && localtime_r(&t, &tm))
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-24s %-19s %8" PRIu64 " changes, not sent: %" PRIu64 " (%s)  %s\n", id, when, j->records, j->unsent,
	       cmd_size(j->bytes, size), path);
}

/* Is somebody writing to it? */
static bool in_use(const struct site *s, unsigned slot, const char *uuid)
{
	const json_t *here = site_here(s, uuid);
	const char *state = here ? json_string_value(json_object_get(here, "state")) : "";
	struct slot lock = {.lock_fd = -1};

	if (s->mounted && slot == (unsigned)json_integer_value(json_object_get(s->status, "slot")))
		return here && strcmp(state, "fenced") && strcmp(state, "failed") && strcmp(state, "waiting");
	if (slot_lock(s->o.state_dir, s->identity, slot, &lock))
		return true;
	slot_release(&lock); /* whoever takes it now sets the journal aside, at the worst */
	return false;
}

static void one_journal(struct looking *l, unsigned slot, const char *dir, const uint8_t uuid[16], const char *name,
			const char *path)
{
	const struct site *s = l->s;
	struct vol_journal j;
	struct objerr err = {0};
	char hex[33], id[64];
	int r;

	log_uuid_format(uuid, hex);
	snprintf(id, sizeof id, "%u-%s", slot, str_has_prefix(name, "aside-") ? name + 6 : name);
	if (s->id && strcmp(s->id, id))
		return;
	if (!strcmp(name, "now") && in_use(s, slot, hex)) {
		if (s->id)
			l->failed += cmd_fail("%s: in use: it is written to", id);
		l->found += s->id != NULL;
		return;
	}
	l->found++;
	if (s->into) {
		l->failed += image_journal_into(l->s, l->image, dir, name) != CMD_OK;
		return;
	}
	if (s->drop)
		r = vol_journal_drop(dir, name);
	else
		r = vol_journal_read(dir, uuid, name, s->id ? on_change : NULL, l, &j, &err);
	if (r == -EINVAL && s->drop)
		l->failed += cmd_fail("%s: the next writer of this machine may need it, or sets it aside", id);
	else if (r)
		l->failed += cmd_fail("%s: %s", id, err.msg[0] ? err.msg : explain_errno(r));
	else if (!s->id)
		say(l, id, path, hex, &j);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

static int one_image(struct looking *l, unsigned slot, const char *img, const char *hex)
{
	_cleanup_free_ char *dir = NULL, *prefix = NULL, *path = NULL;
	uint8_t uuid[16];
	char **names;
	size_t n;
	int r;

	if (log_uuid_parse(hex, uuid) || (l->uuid && strcmp(l->uuid, hex)))
		return 0;
	r = image_file(img, uuid, NULL, &dir);
	if (!r)
		r = vol_journal_names(dir, &names, &n);
	if (r)
		return r;
	if (image_read_where(img, uuid, &prefix, &path))
		path = strdup("?");
	for (size_t i = 0; i < n; i++) {
		if (path)
			one_journal(l, slot, dir, uuid, names[i], cmd_printable(path));
		free(names[i]);
	}
	free(names);
	return path ? 0 : -ENOMEM;
}

static int one_slot(struct looking *l, const char *identity_dir, unsigned slot)
{
	_cleanup_free_ char *img = NULL;
	struct str s = {0};
	struct dirent *e;
	DIR *d;
	int r;

	str_addf(&s, "%s/slot-%u/img", identity_dir, slot);
	r = str_take(&s, &img);
	if (r)
		return r;
	d = opendir(img);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (!r && (e = readdir(d)))
		r = one_image(l, slot, img, e->d_name);
	closedir(d);
	return r;
}

static int all_slots(struct looking *l)
{
	_cleanup_free_ char *dir = NULL;
	_cleanup_free_ unsigned *v = NULL;
	size_t n = 0;
	int r = slot_identity_dir(l->s->o.state_dir, l->s->identity, &dir);

	if (!r)
		r = slot_list_in(dir, &v, &n);
	for (size_t i = 0; !r && i < n; i++)
		r = one_slot(l, dir, v[i]);
	return r ? cmd_fail("%s: %s", l->s->o.state_dir, explain_errno(r)) : CMD_OK;
}

static int open_out(struct looking *l)
{
	const struct site *s = l->s;

	l->fd = open(s->out, O_WRONLY | O_CREAT | O_CLOEXEC | (s->force ? 0 : O_EXCL), 0600);
	if (l->fd >= 0)
		return CMD_OK;
	return errno == EEXIST ? cmd_fail("%s: is there already (--force lays the bytes over it)", s->out)
			       : cmd_fail("%s: %s", s->out, explain_errno(-errno));
}

int image_journal(struct site *s)
{
	struct looking l = {.s = s, .fd = -1};
	struct image i = {0};
	int r = CMD_OK;

	if ((s->out || s->drop || s->into) && !s->id)
		return cmd_usage("image journal: which one? --id as lsvdfs image journal lists it");
	if (!!s->out + !!s->into + s->drop > 1)
		return cmd_usage("image journal: one of --out, --into and --drop");
	if (s->into && !s->path[0])
		return cmd_usage("image journal: --into needs the path of the image that it is of");
	if (s->path[0])
		r = site_find(s, &i);
	if (!r && s->out)
		r = open_out(&l);
	l.uuid = s->path[0] ? i.uuid : NULL;
	l.image = &i;
	l.doc = s->json && !s->out && !s->drop && !s->into ? json_array() : NULL;
	if (!r)
		r = all_slots(&l);
	if (!r && s->id && !l.found)
		r = cmd_fail("%s: no such id (lsvdfs image journal lists them)", s->id);
	if (l.fd >= 0 && ((!r && fsync(l.fd)) | close(l.fd)) && !r)
		r = cmd_fail("%s: %s", s->out, explain_errno(-errno));
	if (s->path[0])
		image_done(&i);
	if (!r && l.failed)
		r = CMD_FAILED;
	if (r && l.fd >= 0 && !s->force)
		unlink(s->out);
	if (!r && l.doc)
		return cmd_print_json(l.doc);
	json_decref(l.doc);
	return r || !fflush(stdout) ? r : cmd_fail("cannot write the answer");
}
