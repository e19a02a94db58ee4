/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volpins.c - what snapshots keep, for people who want space back.
 *
 * Two answers. The list of objects knows, for the price of reading it, which whole objects nobody but one snapshot needs: that is
 * what its deletion lets go at once. Which bytes only it needs is in no list: objects are shared by what was written together. So
 * that is computed, when asked for, from all maps at once: a place in the log belongs to one address of the image for ever, so
 * whether another map needs it shows at that address.
 */
#include "config.h"
#include "volume-private.h"
#include <string.h>

/* o was there at s and is dead since (voldel.c). */
static bool keeps(const struct vol_snap *s, const struct page_object *o)
{
	return o->number < s->number && s->number < o->death - 1;
}

void vol_snapshot_frees(struct volume *v, const struct vol_snap *s, size_t n, uint64_t *ret_alone, uint64_t *ret_shared)
{
	uint64_t from = 0, shared = 0;
	struct page_object o[64];
	size_t k;

	memset(ret_alone, 0, n * sizeof(*ret_alone));
	while ((k = map_objects(v->map, from, o, ARRAY_SIZE(o))) > 0) {
		for (size_t i = 0; i < k; i++) {
			size_t who = 0, keepers = 0;

			for (size_t j = 0; j < n && o[i].death != 0; j++)
				if (keeps(&s[j], &o[i])) {
					who = j;
					keepers++;
				}
			if (keepers == 1)
				ret_alone[who] += o[i].sectors * (uint64_t)SECTOR;
			else if (keepers > 1)
				shared += o[i].sectors * (uint64_t)SECTOR;
		}
		from = o[k - 1].number + 1;
	}
	*ret_shared = shared;
}

/* ---- by all maps ---- */

static int piece_at(struct volume *v, uint64_t lba, struct em_ext *ret)
{
	struct log_pageref need;
	int r;

	while ((r = map_lookup(v->map, lba, IMG_SECTORS_MAX - lba, true, ret, 1, &need)) == -EAGAIN) {
		r = vol_fetch_page(v, &need);
		if (r < 0)
			break;
	}
	return MIN(r, 0);
}

static bool same_place(const struct em_ext *a, const struct em_ext *b)
{
	return b->kind == EM_LOG && a->number == b->number && a->sector == b->sector;
}

/* at[0]: the image; at[1 + i]: snapshot i. */
static int walk(struct volume *const *at, size_t n, uint64_t *pins)
{
	struct em_ext *p = calloc(n, sizeof(*p));
	uint64_t lba = 0, first = log_first(at[0]->log);
	int r = p == NULL ? -ENOMEM : 0;

	while (r == 0 && lba < IMG_SECTORS_MAX) {
		uint64_t len = IMG_SECTORS_MAX - lba;

		for (size_t i = 0; r == 0 && i < n; i++) {
			r = piece_at(at[i], lba, &p[i]);
			len = r == 0 ? MIN(len, p[i].len) : len;
		}
		for (size_t i = 1; r == 0 && i < n; i++) {
			bool other = p[i].kind != EM_LOG || p[i].number < first; /* an ancestor's are not for us to count */

			for (size_t j = 0; j < n && !other; j++)
				other = j != i && same_place(&p[i], &p[j]);
			if (!other)
				pins[i - 1] += len * SECTOR;
		}
		lba += len;
	}
	free(p);
	return r;
}

int vol_snapshot_pins(struct volume *v, const struct vol_snap *s, size_t n, uint64_t *ret, struct objerr *err)
{
	struct volume **at = calloc(n + 1, sizeof(struct volume *));
	uint64_t *pins = calloc(n + 1, sizeof(*pins));
	int r = at == NULL || pins == NULL ? -ENOMEM : 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = vol_open_snapshot(v, s[i].number, &at[i + 1], err);
	if (r == 0) {
		at[0] = v;
		r = walk(at, n + 1, pins);
	}
	if (r == -ENOENT && err->msg[0] == '\0')
		objerr_set(err, "the image's owner moves on faster than its map can be read: once more, please");
	for (size_t i = 1; at != NULL && i <= n; i++)
		if (at[i] != NULL)
			ignore(vol_close(at[i])); /* nothing was written */
	if (r == 0)
		memcpy(ret, pins, n * sizeof(*ret));
	free(at);
	free(pins);
	return r;
}
