/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volclone.c - an image that begins as another one's snapshot (PROTOCOL.md 3).
 *
 *	ref/<s>/<uuid> in the parent's log -> gone/<s> there? then the ref goes, and no clone (C1) -> the create record at
 *	s + 1 of the clone's own log: the snapshot's root, and whose objects the numbers below are -> the caller: the name
 *
 * A parent that deletes the snapshot looks for refs, hides it, puts gone/<s>, looks again (C2): one of both sees the
 * other. A clone that died between ref and create record leaks a ref: the snapshot stays until refs.h proves that no record comes.
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/failpoint.h"
#include "../../objstore/base/str.h"
#include <inttypes.h>
#include <string.h>

/* Whose objects numbers up to the snapshot's are: the parent's ancestors, then the parent. Paths are borrowed. */
static int make_origins(const struct volume *of, uint64_t snapshot, const struct log_create *parent,
			struct log_create *ret)
{
	struct log_origin *o = calloc(parent->norigins + 1, sizeof(*o));

	if (o == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < parent->norigins; i++)
		o[i] = parent->origins[i];
	o[parent->norigins].last = snapshot;
	o[parent->norigins].path = (char *)"";
	memcpy(o[parent->norigins].uuid, of->uuid, 16);
	*ret = *parent;
	ret->origins = o;
	ret->norigins = parent->norigins + 1;
	return 0;
}

/* key=value and a newline, for people. NULL: there is nothing to be said, or no memory. */
static char *say(const char *key, const char *value, const char *snapshot)
{
	struct str s = {0};
	char *text;

	if (value == NULL)
		return NULL;
	str_addf(&s, "%s=%s%s%s\n", key, value, snapshot != NULL ? "@" : "", snapshot != NULL ? snapshot : "");
	return str_take(&s, &text) == 0 ? text : NULL;
}

static int create(struct volume *of, const struct logobj *snapshot, const struct logobj *parent,
		  const struct vol_clone *c, struct objerr *err)
{
	_cleanup_free_ char *text = say("parent", c->of_path, snapshot->snap_name);
	struct log_at at = {.store = of->env.store, .prefix = c->prefix, .host = of->env.host};
	struct log_digest d = *snapshot->digest;
	struct log_checkpoint ck = {0};
	struct log_create lc = {0};
	struct logobj o = {
	    .number = snapshot->number + 1, .create = &lc, .checkpoint = &ck, .digest = &d, .text = text};
	int r = make_origins(of, snapshot->number, parent->create, &lc);

	memcpy(at.uuid, c->uuid, 16);
	if (r == 0)
		r = vol_take_root(snapshot, o.number, &ck);
	ck.first = d.end = o.number;
	o.size = ck.size;
	if (r == 0)
		r = log_create(&at, &o, err);
	free(ck.digests);
	free(lc.origins);
	return r;
}

static int with_ref(struct volume *of, const struct logobj *snapshot, const struct vol_clone *c, struct objerr *err)
{
	struct objerr ignored = {0};
	struct logobj parent = {0};
	bool gone = false, begun = false;
	int r = RULE(C1_REF) ? log_is_gone(of->log, snapshot->number, &gone, err) : 0;

	if (r == 0 && gone && RULE(C2_GONE)) {
		objerr_set(err, "the snapshot, or its image, is being deleted");
		r = -ENOENT;
	}
	if (r == 0)
		r = log_head(of->log, log_first(of->log), &parent, err);
	begun = r == 0;
	if (begun)
		r = create(of, snapshot, &parent, c, err);
	logobj_free(&parent);
	/* A create record that may come yet, in spite of the error, keeps its ref (C4). */
	if (!begun)
		ignore(log_drop_ref(of->log, snapshot->number, c->uuid, &ignored));
	return r;
}

int vol_clone(struct volume *of, const char *name, const char *prefix, const uint8_t uuid[16], uint64_t *ret_size,
	      struct objerr *err)
{
	struct vol_clone c = {.name = name, .prefix = prefix};

	memcpy(c.uuid, uuid, 16);
	return vol_clone_to(of, &c, ret_size, err);
}

int vol_clone_to(struct volume *of, const struct vol_clone *c, uint64_t *ret_size, struct objerr *err)
{
	_cleanup_free_ char *text = say("name", c->path, NULL);
	struct logobj snapshot = {0};
	struct vol_snap *s = NULL;
	uint64_t number = 0;
	size_t n = 0;
	int r = vol_snapshots(of, &s, &n, err);

	for (size_t i = 0; i < n; i++)
		if (!s[i].hidden && strcmp(s[i].name, c->name) == 0)
			number = s[i].number;
	free(s);
	if (r == 0 && number == 0) {
		objerr_set(err, "there is no snapshot '%s'", c->name);
		r = -ENOENT;
	}
	if (r == 0)
		r = vol_read_snapshot(of, number, &snapshot, err);
#ifdef LSVD_RULE_SWITCHES
	bool gone = false;

	if (r == 0 && !RULE(C1_REF)) /* too early */
		r = log_is_gone(of->log, number, &gone, err);
	r = r == 0 && gone ? -ENOENT : r;
#endif
	if (r == 0)
		r = log_put_ref(of->log, number, c->uuid, text, err);
	FAILPOINT("image.clone-ref");
	if (r == 0)
		r = with_ref(of, &snapshot, c, err);
	FAILPOINT("image.clone-made");
	if (r == 0)
		*ret_size = snapshot.checkpoint->size;
	logobj_free(&snapshot);
	return r;
}

/* ---- whose clone ---- */

/* The value of a line "key=value" of a text, to be freed; NULL. */
static char *line_of(const char *text, const char *key)
{
	size_t n = strlen(key);

	while (text != NULL && strncmp(text, key, n) != 0) {
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	return text != NULL ? strndup(text + n, strcspn(text + n, "\n")) : NULL;
}

int vol_parent(struct volume *v, struct vol_parent *ret, struct objerr *err)
{
	struct vol_parent p = {.snapshot = log_first(v->log) - 1};
	struct logobj o = {0};
	bool flat = false;
	int r = p.snapshot != 0 ? log_is_flat(v->log, &flat, err) : -ENODATA;

	if (r == 0 && flat)
		r = -ENODATA;
	if (r == 0)
		r = log_has_own_ref(v->log, &p.kept, err);
	if (r == 0)
		r = log_head(v->log, p.snapshot + 1, &o, err);
	if (r < 0)
		return r;
	(void)log_prefix_of(v->log, p.snapshot, p.uuid);
	p.path = line_of(o.text, "parent=");
	p.name = p.path != NULL ? strrchr(p.path, '@') : NULL;
	if (p.name != NULL)
		*p.name++ = '\0';
	logobj_free(&o);
	*ret = p;
	return 0;
}
