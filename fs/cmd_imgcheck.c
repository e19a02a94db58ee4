/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_imgcheck.c - `lsvdfs image check`: what is wrong with an image, what of that could be put right, and with --repair
 * doing it (fs/image/repair.h has what is repaired and why).
 *
 * Each repair is a line before it is done. Without --repair the same lines say what it would do. Lost bytes are always
 * listed, range by range.
 */
#include "config.h"
#include "cmd_image.h"
#include "explain.h"
#include "fs/image/check.h"
#include "fs/image/repair.h"
#include "objstore/base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_MAX = 3, RANGES_SHOWN = 1000 };

struct checking {
	struct site *s;
	json_t *lines, *repairs, *left, *lost;
	struct progress p;
	bool name_fixed, repaired;
};

static const char *const kind_word[] = {[CHECK_DAMAGE] = "damage", [CHECK_STRAY] = "stray", [CHECK_NOTE] = "note"};

static void say(void *arg, enum check_kind kind, const char *line)
{
	struct checking *k = arg;

	progress_end(&k->p);
	if (k->s->json)
		json_array_append_new(k->lines, json_pack("{s:s, s:s}", "kind", kind_word[kind], "what", line));
	else
		printf("%s: %s\n", kind_word[kind], line);
}

static void checked(void *arg, uint64_t done, uint64_t of)
{
	struct checking *k = arg;

	k->p.total = of;
	progress_at(&k->p, done);
}

static void tell_step(struct checking *k, const char *line)
{
	if (k->s->json)
		json_array_append_new(k->repairs, json_string(line));
	else
		printf("%s: %s\n", k->s->repair ? "repair" : "could repair", line);
	fflush(stdout);
}

static void tell_left(struct checking *k, const char *line)
{
	if (k->s->json)
		json_array_append_new(k->left, json_string(line));
	else
		printf("cannot repair: %s\n", line);
}

static void tell_lost(struct checking *k, const struct repair_plan *p)
{
	for (size_t i = 0; i < p->nlost; i++) {
		const struct lost_range *l = &p->lost[i];

		if (k->s->json)
			json_array_append_new(k->lost, json_pack("{s:I, s:I, s:I, s:b}", "offset", (json_int_t)l->off, "bytes",
								 (json_int_t)l->len, "object", (json_int_t)l->number, "map",
								 (int)l->page));
		else if (i < RANGES_SHOWN)
			printf("lost: bytes %" PRIu64 " to %" PRIu64 " (%s log object %016" PRIx64 ")\n", l->off, l->off + l->len - 1,
			       l->page ? "a page of the map in" : "in", l->number);
	}
	if (!k->s->json && p->nlost > RANGES_SHOWN)
		printf("lost: %zu more ranges (--json lists all)\n", p->nlost - RANGES_SHOWN);
}

static void tell_plan(struct checking *k, const struct repair_plan *p)
{
	for (size_t i = 0; i < p->nstep; i++)
		tell_step(k, p->step[i]);
	for (size_t i = 0; i < p->nleft; i++)
		tell_left(k, p->left[i]);
	tell_lost(k, p);
}

static int told(struct checking *k, const struct check_result *c)
{
	struct site *s = k->s;
	char a[24], b[24], d[24];

	if (s->json) {
		json_t *doc = json_pack(
		    "{s:s, s:b, s:i, s:i, s:O, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "path", s->path, "whole",
		    c->damage == 0, "damage", (int)c->damage, "strays", (int)c->strays, "findings", k->lines, "size",
		    (json_int_t)c->size, "epoch", (json_int_t)c->epoch, "checkpoint", (json_int_t)c->checkpoint, "log_end",
		    (json_int_t)c->tail, "objects", (json_int_t)c->objects, "bytes", (json_int_t)c->bytes, "needed",
		    (json_int_t)c->referred, "needed_bytes", (json_int_t)c->referred_bytes, "garbage",
		    (json_int_t)c->garbage, "garbage_bytes", (json_int_t)c->garbage_bytes, "verified",
		    (json_int_t)c->verified);

		if (doc) {
			json_object_set(doc, "repairs", k->repairs);
			json_object_set(doc, "left", k->left);
			json_object_set(doc, "lost", k->lost);
			json_object_set_new(doc, "repaired", json_boolean(k->repaired || k->name_fixed));
		}
		return cmd_print_json(doc);
	}
	printf("%s: %s: %" PRIu64 " objects, %s, of which %s are needed and %s wait for their removal", s->path,
	       c->damage ? "DAMAGED" : "whole", c->objects, cmd_size(c->bytes, a), cmd_size(c->referred_bytes, b),
	       cmd_size(c->garbage_bytes, d));
	if (s->data)
		printf("; %" PRIu64 " objects verified in full", c->verified);
	printf("\n");
	return fflush(stdout) ? cmd_fail("cannot write the answer") : CMD_OK;
}

/* --- doing it --------------------------------------------------------------------------------------------------- */

struct owned {
	const struct repair_plan *p;
	bool zero_lost;
	struct objerr *err;
	struct vol_stat st;
};

static int do_owned(struct volume *v, void *arg)
{
	struct owned *o = arg;
	int r = vol_repair(v, o->p, o->zero_lost, o->err);

	vol_stat(v, &o->st);
	return r;
}

/* By the plan, whose steps were told. -EAGAIN: make it again. */
static int carry_out(struct checking *k, struct image *i, const struct repair_plan *p)
{
	struct site *s = k->s;
	struct objerr err = {0};
	struct owned o = {.p = p, .zero_lost = s->zero_lost, .err = &err};
	struct vol_env env = s->env;
	int r;

	env.from_base = p->from_base;
	env.base = p->base;
	env.lose_pages = p->lose_pages;
	env.fetch = NULL; /* nothing out of a cache */
	r = image_write(&env, i->p.prefix, s->path, i->o.n.uuid, do_owned, &o, &err);
	if (!r)
		r = image_note_size(s, i, o.st.size, &err);
	k->repaired |= !r;
	return r && r != -EAGAIN ? site_fail(s, r, &err) : r;
}

/* The plan, told; with --repair done, and made again as long as its steps only open the way. */
static int plan_and_do(struct checking *k, struct image *i)
{
	struct site *s = k->s;
	struct objerr err = {0};
	struct repair_plan p;
	bool again = true;
	int r = 0;

	for (int n = 0; n < FIRST_MAX && !r && again; n++) {
		if (n && s->json) {
			json_array_clear(k->left);
			json_array_clear(k->lost);
		}
		r = repair_plan(&s->env, i->p.prefix, i->o.n.uuid, s->data, s->zero_lost, &p, &err);
		if (r)
			return site_fail(s, r, &err);
		tell_plan(k, &p);
		again = p.first && s->repair;
		if (again)
			r = repair_first(&s->env, i->p.prefix, i->o.n.uuid, &p, &err);
		k->repaired |= again && !r;
		if (r)
			r = site_fail(s, r, &err);
		else if (s->repair && p.owned)
			r = carry_out(k, i, &p);
		if (r == -EAGAIN) {
			again = true;
			r = n + 1 < FIRST_MAX ? 0 : cmd_fail("%s: somebody goes on writing to it", s->said);
		}
		repair_plan_free(&p);
	}
	return r;
}

static int may_repair(struct site *s, const struct image *i)
{
	if (site_here(s, i->uuid))
		return cmd_fail("%s: in use on this mount: close it first", s->said);
	if (i->p.copy)
		return cmd_fail("%s: a copy of another image's name: repair that one", s->said);
	return CMD_OK;
}

static int look(struct checking *k, const struct image *i, struct check_result *res)
{
	struct check_opts o = {.data = k->s->data, .say = say, .progress = checked, .arg = k};
	struct objerr err = {0};
	int r;

	progress_begin(&k->p, "check", 0);
	r = image_check(&k->s->env, i->p.prefix, i->o.n.uuid, &o, res, &err);
	progress_end(&k->p);
	return r ? site_fail(k->s, r, &err) : CMD_OK;
}

/* What keeps snapshots for nobody. */
static int check_refs(struct checking *k, const struct image *i)
{
	json_t *left = json_array(), *e;
	struct objerr err = {0};
	char line[256];
	size_t n, at;
	int r = image_sweep_refs(k->s, i->p.prefix, i->o.n.uuid, true, NULL, left, &n, &err);

	json_array_foreach(left, at, e)
	{
		(void)snprintf(line, sizeof line, "snapshot %016llx: %s (%s): %s",
			       (long long)json_integer_value(json_object_get(e, "snapshot")),
			       json_string_value(json_object_get(e, "what")), json_string_value(json_object_get(e, "uuid")),
			       json_string_value(json_object_get(e, "why")));
		say(k, CHECK_NOTE, line);
	}
	json_decref(left);
	return r ? site_fail(k->s, r, &err) : CMD_OK;
}

/* The size that the name says, for who does not open the image. */
static int check_name(struct checking *k, struct image *i, const struct check_result *res)
{
	struct objerr err = {0};
	int r;

	if (res->damage || res->tail == 0 || !res->released || i->o.n.size == res->size || site_here(k->s, i->uuid) || i->p.copy)
		return CMD_OK;
	tell_step(k, "the name says another size than the log: it is written anew");
	if (!k->s->repair)
		return CMD_OK;
	r = image_note_size(k->s, i, res->size, &err);
	k->name_fixed = !r;
	return r ? site_fail(k->s, r, &err) : CMD_OK;
}

static int check_all(struct checking *k)
{
	struct site *s = k->s;
	struct check_result res = {0};
	struct image i;
	int r = s->repair ? site_may_write(s) : CMD_OK;

	if (!r)
		r = image_fix_name(s, !s->repair, &k->name_fixed);
	if (!r && k->name_fixed && !s->repair)
		return cmd_fail("%s: its name is damaged, and says enough: --repair writes it anew", s->said);
	if (!r)
		r = site_find(s, &i);
	if (r)
		return r;
	if (k->name_fixed)
		tell_step(k, "the name was damaged: it was written anew, by what of it is whole and the log that it leads to");
	if (s->repair)
		r = may_repair(s, &i);
	if (!r)
		r = look(k, &i, &res);
	if (!r && (res.damage || (res.strays && s->repair)) && !res.dead)
		r = plan_and_do(k, &i);
	if (!r && k->repaired) {
		if (s->json)
			json_array_clear(k->lines);
		r = look(k, &i, &res);
	}
	if (!r)
		r = check_refs(k, &i);
	if (!r)
		r = check_name(k, &i, &res);
	if (!r)
		r = told(k, &res) ? CMD_FAILED : res.damage ? CMD_FAILED : CMD_OK;
	image_done(&i);
	return r;
}

/* --- at a mark -------------------------------------------------------------------------------------------------- */

static int check_mark(struct checking *k)
{
	struct site *s = k->s;
	struct repair_plan p = {.lose_pages = true};
	struct check_result res = {0};
	struct objerr err = {0};
	struct volume *v;
	struct image i;
	int r = site_find(s, &i);

	if (r)
		return r;
	r = image_open_mark(s, &i, &v);
	if (!r) {
		res.size = vol_size(v);
		r = repair_survey(v, s->data, &p, &err);
		ignore(vol_close(v)); /* nothing was written */
		r = r ? site_fail(s, r, &err) : CMD_OK;
	}
	if (!r) {
		tell_lost(k, &p);
		if (s->json)
			r = cmd_print_json(json_pack("{s:s, s:s, s:b, s:I, s:I, s:O}", "path", s->path, "mark", s->mark, "whole",
						     p.nlost == 0, "size", (json_int_t)res.size, "lost_bytes",
						     (json_int_t)p.lost_bytes, "lost", k->lost));
		else
			printf("%s at %s: %s\n", s->path, s->mark, p.nlost ? "DAMAGED" : "whole");
		r = r ? r : p.nlost ? CMD_FAILED : CMD_OK;
	}
	repair_plan_free(&p);
	image_done(&i);
	return r;
}

int image_check_cmd(struct site *s)
{
	struct checking k = {.s = s};
	int r;

	if (s->zero_lost && !s->repair)
		return cmd_usage("image check: --zero-lost goes with --repair");
	if (s->mark && s->repair)
		return cmd_usage("image check: --mark only reads: not with --repair");
	k.lines = json_array();
	k.repairs = json_array();
	k.left = json_array();
	k.lost = json_array();
	r = s->mark ? check_mark(&k) : check_all(&k);
	json_decref(k.lines);
	json_decref(k.repairs);
	json_decref(k.left);
	json_decref(k.lost);
	return r;
}
