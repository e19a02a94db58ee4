/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * image.c - what the records of a log make of an image, and small numbers for images and records.
 *
 * image_apply is the one place that says what a record means; writers, walks and the oracle all use it.
 */
#include "model.h"
#include <stdlib.h>

#define INTERN_MAX (1u << 21)
#define INTERN_SLOTS (1u << 22)

struct intern {
	size_t size;
	uint32_t most;
	unsigned char *things;
	uint32_t count;
	uint32_t slot[INTERN_SLOTS]; /* 1 + number */
};

static struct intern images = { .size = sizeof(struct image), .most = INTERN_MAX };
static struct intern records = { .size = sizeof(struct record), .most = UINT16_MAX };

static void give_up(const char *why)
{
	fprintf(stderr, "log model: %s\n", why);
	exit(99);
}

static uint32_t intern(struct intern *t, const void *thing)
{
	const unsigned char *p = thing;
	uint64_t h = 0xcbf29ce484222325;
	size_t i;

	for (i = 0; i < t->size; i++)
		h = (h ^ p[i]) * 0x100000001b3;
	h ^= h >> 29;
	for (i = h % INTERN_SLOTS; t->slot[i]; i = (i + 1) % INTERN_SLOTS)
		if (!memcmp(t->things + (size_t) (t->slot[i] - 1) * t->size, thing, t->size))
			return t->slot[i] - 1;
	if (!t->things)
		t->things = calloc(t->most, t->size);
	if (!t->things || t->count == t->most)
		give_up("too many different images for these bounds");
	memcpy(t->things + (size_t) t->count * t->size, thing, t->size);
	t->slot[i] = ++t->count;
	return t->count - 1;
}

static void forget(struct intern *t)
{
	free(t->things);
	t->things = NULL;
	t->count = 0;
	memset(t->slot, 0, sizeof(t->slot));
}

void image_forget(void)
{
	forget(&images);
	forget(&records);
}

uint32_t image_id(const struct image *i)
{
	return intern(&images, i);
}

const struct image *image_of(uint32_t id)
{
	return (const struct image *) images.things + id;
}

/* Record 0 is none at all. */
uint16_t record_id(const struct record *r)
{
	static const struct record none;

	if (!records.count)
		intern(&records, &none);
	return intern(&records, r);
}

const struct record *record_of(uint16_t id)
{
	return (const struct record *) records.things + id;
}

static void set_map(struct image *i, unsigned k, unsigned map)
{
	if (bounds.deaths && i->map && i->map != map)
		i->death[i->map] = k;
	i->map = map;
}

static void roll_back(struct image *i, unsigned k, unsigned map)
{
	set_map(i, k, map);
	if (map && rule(T16_DEATHS))
		i->death[map] = 0;
}

/*
 * The map is the snapshot's, and so is what is known of deaths: that of then. Of objects since then nothing is known but
 * that the map does not need them.
 */
static void to_snapshot(struct image *i, unsigned k, const struct record *r)
{
	const struct image *then = image_of(r->image);
	unsigned j;

	for (j = 2; j < k && bounds.deaths; j++) {
		if (j > r->arg)
			i->death[j] = i->death[j] || j == i->map ? k : 0;
		else if (rule(T16_DEATHS) || j != r->map)
			i->death[j] = then->death[j] && rule(T16_LINES) ? k : then->death[j];
	}
	i->map = r->map;
	if (rule(R_LIST))
		return;
	memcpy(i->snap, then->snap, sizeof(i->snap));
	memcpy(i->snap_map, then->snap_map, sizeof(i->snap_map));
}

void image_apply(struct image *i, unsigned k, unsigned inc, const struct record *r)
{
	unsigned n;

	switch (r->type) {
	case CREATE:
	case CLAIM:
		i->claims |= BIT(k);
		i->claim = inc;
		break;
	case DATA:
		set_map(i, k, k);
		break;
	case DISCARD:
		set_map(i, k, 0);
		break;
	case CKPT:
	case ROOT:
		if (bounds.snaps || bounds.rolls)
			i->ckpt = k;
		if (r->type == ROOT && rule(R_ADOPT)) {
			i->tree = image_of(r->image)->tree;
			i->tree_new = k;
		}
		break;
	case SNAP:
		for (n = 0; n < SNAP_MAX - 1 && i->snap[n]; n++)
			;
		i->snap[n] = k;
		i->snap_map[n] = i->map;
		break;
	case FREE:
		for (n = 0; n < SNAP_MAX; n++)
			if (i->snap[n] == r->arg)
				i->snap[n] = i->snap_map[n] = 0;
		break;
	case ROLL:
		to_snapshot(i, k, r);
		break;
	case ROLL_POS:
		roll_back(i, k, r->map);
		break;
	}
}

bool image_same(const struct image *a, const struct image *b)
{
	struct image x = *a, y = *b;

	x.tree = x.tree_new = y.tree = y.tree_new = 0;
	return !memcmp(&x, &y, sizeof(x));
}

/*
 * With bounds.deaths liveness comes from births and deaths (an object's birth is its number), as it must where the map
 * is a tree too large to look through; else from the map itself.
 */
uint16_t image_refers(const struct image *i)
{
	uint16_t refs = 0;
	unsigned k, n, newest = 0;

	if (i->tree)
		refs |= BIT(i->tree);
	if (!bounds.deaths)
		return i->map ? refs | BIT(i->map) : refs;
	if (i->map && !i->death[i->map])
		refs |= BIT(i->map);
	for (n = 0; n < SNAP_MAX; n++)
		newest = i->snap[n] > newest ? i->snap[n] : newest;
	for (n = 0; n < SNAP_MAX && rule(T16_SNAPS); n++) {
		if (!i->snap[n] || (i->snap[n] != newest && !rule(R_EACH)))
			continue;
		refs |= BIT(i->snap[n]); /* its root ends in the record itself */
		for (k = 2; k <= i->snap[n]; k++)
			if (i->death[k] > i->snap[n])
				refs |= BIT(k);
	}
	return refs;
}
