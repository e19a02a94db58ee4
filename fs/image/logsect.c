/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logsect.c - the sections of a header (FORMAT.md 3.2 to 3.8).
 *
 * One table says for each section when it is written and how it is read. A decoder allocates by counts that the
 * section's own length bounds, so that a hostile count cannot ask for more memory than the object has bytes (times a
 * small constant).
 */
#include "config.h"
#include "logobj-private.h"
#include <inttypes.h>
#include <stdio.h>

enum {
	SEC_EXTENTS = 1,
	SEC_GROUPS,
	SEC_DIGEST,
	SEC_CHECKPOINT,
	SEC_CLAIM,
	SEC_TEXT,
	SEC_TARGET,
	SEC_CREATE,
	SEC_SNAPSHOT,
	SEC_RETAIN
};
enum { SEC_MUST = 1 }; /* flag: refuse when unknown */
enum { MAX_SNAPS = 1 << 20, MAX_ORIGINS = 64, NAME_MAX_LEN = 64 };

int extents_check(enum log_type t, const struct log_extent *v, size_t n, uint64_t *ret_data)
{
	uint64_t end = 0, data = 0;

	for (size_t i = 0; i < n; i++) {
		/* Not the whole of 2^48 either: the field has 48 bits. */
		if (v[i].lba < end || v[i].len == 0 || v[i].len == IMG_SECTORS_MAX || v[i].lba >= IMG_SECTORS_MAX ||
		    v[i].len > IMG_SECTORS_MAX - v[i].lba)
			return -EINVAL;
		if (v[i].kind != EXT_DATA && (t == LOG_CLEANER || (v[i].kind != EXT_ZERO && v[i].kind != EXT_DISCARD)))
			return -EINVAL;
		end = v[i].lba + v[i].len;
		if (v[i].kind == EXT_DATA)
			data += v[i].len;
		if (data > LOG_OBJECT_MAX / SECTOR)
			return -EINVAL;
	}
	if (n > 0 && t != LOG_DATA && t != LOG_CLEANER)
		return -EINVAL;
	*ret_data = data;
	return 0;
}

/* ---- extents ---- */

static void extents_write(enum log_type t, const struct log_extent *v, size_t n, struct cursor *c)
{
	for (size_t i = 0; i < n; i++) {
		cur_put(c, v[i].lba, 6);
		cur_put(c, v[i].kind, 1);
		cur_put(c, 0, 1);
		cur_put(c, v[i].len, 6);
		cur_put(c, 0, 2);
		if (t == LOG_CLEANER) {
			cur_put(c, v[i].from.number, 8);
			cur_put(c, v[i].from.sector, 4);
			cur_put(c, 0, 4);
		}
	}
}

static int extents_read(enum log_type t, struct cursor *c, struct log_extent **ret, size_t *ret_n)
{
	size_t n = cur_left(c) / extent_size(t);
	struct log_extent *v;

	if (cur_left(c) % extent_size(t) != 0)
		return -EUCLEAN;
	v = calloc(n + 1, sizeof(*v));
	if (v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		v[i].lba = cur_get(c, 6);
		v[i].kind = (enum ext_kind)cur_get(c, 1);
		(void)cur_get(c, 1);
		v[i].len = cur_get(c, 6);
		(void)cur_get(c, 2);
		if (t == LOG_CLEANER) {
			v[i].from.number = cur_get(c, 8);
			v[i].from.sector = (uint32_t)cur_get(c, 4);
			(void)cur_get(c, 4);
		}
	}
	*ret = v;
	*ret_n = n;
	return 0;
}

static void write_extents(const struct logobj *o, struct cursor *c)
{
	extents_write(o->type, o->extents, o->nextents, c);
}

static int read_extents(struct logobj *o, struct cursor *c)
{
	return extents_read(o->type, c, &o->extents, &o->nextents);
}

/* ---- groups of a packed object ---- */

static void write_groups(const struct logobj *o, struct cursor *c)
{
	for (size_t i = 0; i < o->ngroups; i++)
		cur_put(c, o->group_bytes[i], 4);
}

static int read_groups(struct logobj *o, struct cursor *c)
{
	size_t n = cur_left(c) / 4;

	if (!o->packed || cur_left(c) % 4 != 0 ||
	    n != ((uint64_t)o->content_sectors * SECTOR + LOG_GROUP - 1) / LOG_GROUP)
		return -EUCLEAN;
	o->group_bytes = calloc(n + 1, sizeof(*o->group_bytes));
	if (o->group_bytes == NULL)
		return -ENOMEM;
	o->ngroups = n;
	for (size_t i = 0; i < n; i++) {
		o->group_bytes[i] = (uint32_t)cur_get(c, 4);
		if (o->group_bytes[i] <= LOG_TRAILER || o->group_bytes[i] > LOG_STRIDE)
			return -EUCLEAN;
	}
	return 0;
}

/* ---- digest ---- */

static void write_digest(const struct logobj *o, struct cursor *c)
{
	const struct log_digest *d = o->digest;
	size_t start = c->at;

	cur_put(c, d->first, 8);
	cur_put(c, d->end, 8);
	for (size_t i = 0; i < d->n; i++) {
		const struct log_effect *e = &d->v[i];

		cur_put(c, e->number, 8);
		cur_put(c, e->type, 2);
		cur_put(c, 0, 2);
		cur_put(c, e->n * extent_size(e->type), 4);
		cur_put(c, e->size, 8);
		cur_put(c, e->first, 4);
		cur_put(c, 0, 4);
		extents_write(e->type, e->v, e->n, c);
		cur_pad(c, start, 8);
	}
}

static int effect_read(struct cursor *c, uint64_t floor, uint64_t end, struct log_effect *e)
{
	struct cursor sub;
	uint64_t type, bytes, data, at;
	const uint8_t *p;
	int r;

	e->number = cur_get(c, 8);
	type = cur_get(c, 2);
	(void)cur_get(c, 2);
	bytes = cur_get(c, 4);
	e->size = cur_get(c, 8);
	e->first = (uint32_t)cur_get(c, 4);
	(void)cur_get(c, 4);
	p = cur_take(c, bytes);
	(void)cur_take(c, -bytes & 7);
	if (c->bad || (type != LOG_DATA && type != LOG_CLEANER && type != LOG_RESIZE) || e->number < floor ||
	    e->number >= end || e->size > IMG_SECTORS_MAX * SECTOR)
		return -EUCLEAN;
	e->type = (enum log_type)type;
	sub = (struct cursor){.p = (uint8_t *)p, .len = bytes};
	r = extents_read(e->type, &sub, &e->v, &e->n);
	if (r < 0)
		return r;
	if (extents_check(e->type, e->v, e->n, &data) < 0 || e->first + data > LOG_OBJECT_MAX / SECTOR)
		return -EUCLEAN;
	at = e->first;
	for (size_t i = 0; i < e->n; i++)
		if (e->v[i].kind == EXT_DATA) {
			e->v[i].at = (uint32_t)at;
			at += e->v[i].len;
		}
	return 0;
}

static int read_digest(struct logobj *o, struct cursor *c)
{
	struct log_digest *d = calloc(1, sizeof(*d));
	uint64_t floor;
	size_t cap = 0;

	if (d == NULL)
		return -ENOMEM;
	o->digest = d;
	d->first = floor = cur_get(c, 8);
	d->end = cur_get(c, 8);
	if (d->first > d->end || d->first == 0)
		return -EUCLEAN;
	while (cur_left(c) > 0) {
		int r;

		if (d->n == cap) {
			struct log_effect *v = reallocarray(d->v, cap = cap * 2 + 8, sizeof(*v));

			if (v == NULL)
				return -ENOMEM;
			d->v = v;
		}
		memset(&d->v[d->n], 0, sizeof(d->v[0]));
		r = effect_read(c, floor, d->end, &d->v[d->n++]);
		if (r < 0)
			return r;
		floor = d->v[d->n - 1].number + 1;
	}
	return c->bad ? -EUCLEAN : 0;
}

/* ---- checkpoint ---- */

void pageref_write(struct cursor *c, const struct log_pageref *r)
{
	cur_put(c, r->number, 8);
	cur_put(c, r->sector, 4);
	cur_put(c, r->bytes, 4);
	cur_put(c, r->crc, 4);
	cur_put(c, r->level, 1);
	cur_put(c, 0, 3);
}

int pageref_read(struct cursor *c, struct log_pageref *r)
{
	r->number = cur_get(c, 8);
	r->sector = (uint32_t)cur_get(c, 4);
	r->bytes = (uint32_t)cur_get(c, 4);
	r->crc = (uint32_t)cur_get(c, 4);
	r->level = (uint8_t)cur_get(c, 1);
	(void)cur_get(c, 3);
	if (c->bad || r->bytes > LOG_GROUP || (r->number != 0 && r->bytes == 0) ||
	    (uint64_t)r->sector % (LOG_GROUP / SECTOR) * SECTOR + r->bytes > LOG_GROUP ||
	    (uint64_t)r->sector * SECTOR + r->bytes > LOG_OBJECT_MAX ||
	    (r->level > PAGE_INDEX_MAX && r->level != PAGE_OBJINDEX && r->level != PAGE_OBJTABLE))
		return -EUCLEAN;
	return 0;
}

static void write_checkpoint(const struct logobj *o, struct cursor *c)
{
	const struct log_checkpoint *k = o->checkpoint;

	cur_put(c, k->tree_covers, 8);
	pageref_write(c, &k->root);
	pageref_write(c, &k->objects);
	cur_put(c, k->claim, 8);
	cur_put(c, k->epoch, 8);
	cur_put_bytes(c, k->nonce.b, 16);
	cur_put(c, k->jseq, 8);
	cur_put(c, k->size, 8);
	cur_put(c, k->first, 8);
	cur_put(c, k->before, 8);
	cur_put(c, k->allocated, 8);
	cur_put(c, k->ndigests, 4);
	cur_put(c, k->nsnaps, 4);
	cur_put(c, k->nclaims, 4);
	cur_put(c, 0, 4);
	for (size_t i = 0; i < k->ndigests; i++)
		cur_put(c, k->digests[i], 8);
	for (size_t i = 0; i < k->nclaims; i++)
		cur_put(c, k->claims[i], 8);
	for (size_t i = 0; i < k->nsnaps; i++) {
		cur_put(c, k->snaps[i].number, 8);
		cur_put(c, k->snaps[i].flags, 8);
	}
}

static int ascending_read(struct cursor *c, uint64_t *v, size_t n, uint64_t end)
{
	uint64_t last = 0;

	for (size_t i = 0; i < n; i++) {
		v[i] = cur_get(c, 8);
		if (v[i] <= last || v[i] > end)
			return -EUCLEAN;
		last = v[i];
	}
	return 0;
}

static int read_checkpoint_lists(struct log_checkpoint *k, struct cursor *c, uint64_t number)
{
	uint64_t last = 0;
	int r;

	k->digests = calloc(k->ndigests + 1, sizeof(*k->digests));
	k->claims = calloc(k->nclaims + 1, sizeof(*k->claims));
	k->snaps = calloc(k->nsnaps + 1, sizeof(*k->snaps));
	if (k->digests == NULL || k->claims == NULL || k->snaps == NULL)
		return -ENOMEM;
	r = ascending_read(c, k->digests, k->ndigests, number);
	if (r == 0)
		r = ascending_read(c, k->claims, k->nclaims, number);
	for (size_t i = 0; r == 0 && i < k->nsnaps; i++) {
		k->snaps[i] = (struct log_snap){.number = cur_get(c, 8), .flags = cur_get(c, 8)};
		if (k->snaps[i].number <= last || k->snaps[i].number > number)
			r = -EUCLEAN;
		last = k->snaps[i].number;
	}
	return r;
}

static int read_checkpoint(struct logobj *o, struct cursor *c)
{
	struct log_checkpoint *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return -ENOMEM;
	o->checkpoint = k;
	k->tree_covers = cur_get(c, 8);
	if (pageref_read(c, &k->root) < 0 || pageref_read(c, &k->objects) < 0)
		return -EUCLEAN;
	k->claim = cur_get(c, 8);
	k->epoch = cur_get(c, 8);
	cur_get_bytes(c, k->nonce.b, 16);
	k->jseq = cur_get(c, 8);
	k->size = cur_get(c, 8);
	k->first = cur_get(c, 8);
	k->before = cur_get(c, 8);
	k->allocated = cur_get(c, 8);
	k->ndigests = cur_get(c, 4);
	k->nsnaps = cur_get(c, 4);
	k->nclaims = cur_get(c, 4);
	(void)cur_get(c, 4);
	if (c->bad || k->nsnaps > MAX_SNAPS || cur_left(c) != (k->ndigests + k->nclaims + 2 * k->nsnaps) * 8 ||
	    k->tree_covers > o->number || k->claim > o->number || k->size > IMG_SECTORS_MAX * SECTOR ||
	    k->before >= o->number || k->allocated > IMG_SECTORS_MAX || k->root.level > PAGE_INDEX_MAX ||
	    (k->objects.number != 0 && k->objects.level < PAGE_OBJINDEX))
		return -EUCLEAN;
	return read_checkpoint_lists(k, c, o->number);
}

/* ---- claim, target, text, snapshot ---- */

static void write_claim(const struct logobj *o, struct cursor *c)
{
	cur_put(c, o->claim_next, 8);
	cur_put(c, o->claim_before, 8);
}

static int read_claim(struct logobj *o, struct cursor *c)
{
	o->claim_next = cur_get(c, 8);
	o->claim_before = cur_get(c, 8);
	/* A claim skips the window, a claim of a burst (PROTOCOL.md) at most twice that. */
	return o->claim_next <= o->number || o->claim_next - o->number > 2 * (uint64_t)o->window ||
		       o->claim_before >= o->number
		   ? -EUCLEAN
		   : 0;
}

static void write_target(const struct logobj *o, struct cursor *c)
{
	cur_put(c, o->target, 8);
}

static int read_target(struct logobj *o, struct cursor *c)
{
	o->target = cur_get(c, 8);
	return o->target == 0 || o->target > o->number ? -EUCLEAN : 0;
}

static void write_text(const struct logobj *o, struct cursor *c)
{
	cur_put_bytes(c, o->text, strlen(o->text));
}

/* A string of at most max bytes without NUL. */
static int string_read(struct cursor *c, size_t n, char **ret)
{
	const uint8_t *p = cur_take(c, n);

	if (p == NULL || memchr(p, '\0', n) != NULL)
		return -EUCLEAN;
	*ret = strndup((const char *)p, n);
	return *ret == NULL ? -ENOMEM : 0;
}

static int read_text(struct logobj *o, struct cursor *c)
{
	return string_read(c, cur_left(c), &o->text);
}

bool log_snap_name_ok(const char *s)
{
	static const char ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	return s[0] != '\0' && strlen(s) <= NAME_MAX_LEN && strspn(s, ok) == strlen(s);
}

static void write_snapshot(const struct logobj *o, struct cursor *c)
{
	cur_put(c, (uint64_t)o->snap_time, 8);
	cur_put_bytes(c, o->snap_name, strlen(o->snap_name));
}

static int read_snapshot(struct logobj *o, struct cursor *c)
{
	int r;

	o->snap_time = (int64_t)cur_get(c, 8);
	r = string_read(c, cur_left(c), &o->snap_name);
	return r < 0 ? r : log_snap_name_ok(o->snap_name) ? 0 : -EUCLEAN;
}

static void write_retain(const struct logobj *o, struct cursor *c)
{
	cur_put(c, o->floor, 8);
	cur_put(c, o->retain_s, 8);
}

static int read_retain(struct logobj *o, struct cursor *c)
{
	o->floor = cur_get(c, 8);
	o->retain_s = cur_get(c, 8);
	return o->floor == 0 || o->floor > o->number || o->retain_s > LOG_RETAIN_MAX ? -EUCLEAN : 0;
}

/* ---- create ---- */

static void write_create(const struct logobj *o, struct cursor *c)
{
	const struct log_create *k = o->create;
	size_t start = c->at;

	cur_put(c, k->window, 4);
	cur_put(c, k->object_bytes, 4);
	cur_put(c, k->fsync_remote ? 1 : 0, 1);
	cur_put(c, 0, 3);
	cur_put(c, k->norigins, 4);
	for (size_t i = 0; i < k->norigins; i++) {
		cur_put_bytes(c, k->origins[i].uuid, 16);
		cur_put(c, k->origins[i].last, 8);
		cur_put(c, strlen(k->origins[i].path), 4);
		cur_put_bytes(c, k->origins[i].path, strlen(k->origins[i].path));
		cur_pad(c, start, 8);
	}
}

static int read_create(struct logobj *o, struct cursor *c)
{
	struct log_create *k = calloc(1, sizeof(*k));
	uint64_t fsync, last = 0;
	size_t start = c->at;

	if (k == NULL)
		return -ENOMEM;
	o->create = k;
	k->window = (uint32_t)cur_get(c, 4);
	k->object_bytes = (uint32_t)cur_get(c, 4);
	fsync = cur_get(c, 1);
	(void)cur_get(c, 3);
	k->norigins = cur_get(c, 4);
	if (c->bad || fsync > 1 || k->window != o->window || k->norigins > MAX_ORIGINS ||
	    k->object_bytes > LOG_OBJECT_MAX) {
		k->norigins = 0;
		return -EUCLEAN;
	}
	k->fsync_remote = fsync == 1;
	k->origins = calloc(k->norigins + 1, sizeof(*k->origins));
	if (k->origins == NULL) {
		k->norigins = 0;
		return -ENOMEM;
	}
	for (size_t i = 0; i < k->norigins; i++) {
		struct log_origin *g = &k->origins[i];
		int r;

		cur_get_bytes(c, g->uuid, 16);
		g->last = cur_get(c, 8);
		r = string_read(c, cur_get(c, 4), &g->path);
		if (r < 0)
			return r;
		(void)cur_take(c, -(c->at - start) & 7);
		if (g->last <= last || g->last >= o->number || c->bad)
			return -EUCLEAN;
		last = g->last;
	}
	return 0;
}

/* ---- all of them ---- */

static bool has_extents(const struct logobj *o)
{
	return o->nextents > 0;
}
static bool has_groups(const struct logobj *o)
{
	return o->packed;
}
static bool has_digest(const struct logobj *o)
{
	return o->digest != NULL;
}
static bool has_checkpoint(const struct logobj *o)
{
	return o->checkpoint != NULL;
}
static bool has_claim(const struct logobj *o)
{
	return o->type == LOG_CLAIM;
}
static bool has_text(const struct logobj *o)
{
	return o->text != NULL;
}
static bool has_target(const struct logobj *o)
{
	return o->target != 0;
}
static bool has_create(const struct logobj *o)
{
	return o->create != NULL;
}
static bool has_snapshot(const struct logobj *o)
{
	return o->snap_name != NULL;
}
static bool has_retain(const struct logobj *o)
{
	return o->floor != 0;
}

static const struct section {
	unsigned type, flags;
	bool (*has)(const struct logobj *o);
	void (*write)(const struct logobj *o, struct cursor *c);
	int (*read)(struct logobj *o, struct cursor *c);
} sections[] = {
    {SEC_EXTENTS, SEC_MUST, has_extents, write_extents, read_extents},
    {SEC_GROUPS, SEC_MUST, has_groups, write_groups, read_groups},
    {SEC_DIGEST, SEC_MUST, has_digest, write_digest, read_digest},
    {SEC_CHECKPOINT, SEC_MUST, has_checkpoint, write_checkpoint, read_checkpoint},
    {SEC_CLAIM, SEC_MUST, has_claim, write_claim, read_claim},
    {SEC_TEXT, 0, has_text, write_text, read_text},
    {SEC_TARGET, SEC_MUST, has_target, write_target, read_target},
    {SEC_CREATE, SEC_MUST, has_create, write_create, read_create},
    {SEC_SNAPSHOT, SEC_MUST, has_snapshot, write_snapshot, read_snapshot},
    {SEC_RETAIN, 0, has_retain, write_retain, read_retain},
};

int sections_write(const struct logobj *o, struct cursor *c, unsigned *ret_n)
{
	size_t start = c->at;

	*ret_n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		struct cursor measure = {0};

		if (!sections[i].has(o))
			continue;
		if (o->snap_name != NULL && !log_snap_name_ok(o->snap_name))
			return -EINVAL;
		sections[i].write(o, &measure);
		cur_put(c, sections[i].type, 2);
		cur_put(c, sections[i].flags, 2);
		cur_put(c, measure.at, 4);
		sections[i].write(o, c);
		cur_pad(c, start, 8);
		(*ret_n)++;
	}
	return 0;
}

static const struct section *section_of(unsigned type)
{
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		if (sections[i].type == type)
			return &sections[i];
	return NULL;
}

/* What a type cannot be without. */
static bool complete(const struct logobj *o, unsigned seen)
{
	bool target = o->type == LOG_UNSNAP || o->type == LOG_FREE || o->type == LOG_ROLLBACK;

	return (o->type == LOG_CREATE) == (o->create != NULL) &&
	       (o->type == LOG_CLAIM) == ((seen >> SEC_CLAIM & 1) != 0) &&
	       (o->type == LOG_SNAPSHOT) == (o->snap_name != NULL) && (!target || o->target != 0) &&
	       ((o->type != LOG_CHECKPOINT && o->type != LOG_SNAPSHOT && o->type != LOG_ROLLBACK) ||
		o->checkpoint != NULL) &&
	       (o->create == NULL || (o->create->norigins > 0) == (o->checkpoint != NULL)) &&
	       (o->floor == 0 || o->checkpoint != NULL) && o->packed == (o->group_bytes != NULL);
}

int sections_read(struct logobj *o, struct cursor *c, unsigned n, struct objerr *err)
{
	size_t start = c->at;
	unsigned seen = 0;

	for (unsigned i = 0; i < n; i++) {
		unsigned type = (unsigned)cur_get(c, 2), flags = (unsigned)cur_get(c, 2);
		size_t len = cur_get(c, 4);
		const struct section *s = section_of(type);
		const uint8_t *p = cur_take(c, len);
		struct cursor sub = {.p = (uint8_t *)p, .len = len};
		int r = 0;

		(void)cur_take(c, -(c->at - start) & 7);
		if (c->bad)
			return log_damage(err, "log object %016" PRIx64 ": a section is longer than the header",
					  o->number);
		if (s == NULL && (flags & SEC_MUST) != 0)
			return log_damage(err, "log object %016" PRIx64 ": section %u of a newer version", o->number,
					  type);
		if (s == NULL)
			continue;
		if ((seen >> type & 1) != 0)
			return log_damage(err, "log object %016" PRIx64 ": section %u twice", o->number, type);
		seen |= 1u << type;
		r = s->read(o, &sub);
		if (r == -ENOMEM)
			return r;
		if (r < 0 || sub.bad || cur_left(&sub) > 0)
			return log_damage(err, "log object %016" PRIx64 ": section %u is malformed", o->number, type);
	}
	if (cur_left(c) > 0 || !complete(o, seen))
		return log_damage(err, "log object %016" PRIx64 ": sections are missing or too many for a %s record",
				  o->number, log_type_name[o->type]);
	return 0;
}
