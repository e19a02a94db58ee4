/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imagerow.c - which rows are disk images, and by which name they are shown.
 *
 * The object x.lsvd is the name of an image when its headers say so (x-amz-meta-lsvd-image: 1 UUID SIZE); it is then
 * shown as x, and the key x, if it is there as well, as x~object. A directory x hides the image. Any other object that
 * ends in .lsvd is a plain file. So nothing is known of such a key before its headers are: a listing asks for them.
 */
#include "config.h"
#include "tree-private.h"

#include <string.h>

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool image_of_headers(const struct obj_headers *h, uint8_t ret_uuid[16], uint64_t *ret_size,
		      uint64_t *ret_alloc)
{
	const char *v = h ? obj_headers_get(h, META_IMAGE) : NULL;
	uint8_t uuid[16];
	uint64_t size;

	if (!v || strlen(v) < 36 || strncmp(v, "1 ", 2) != 0 || v[34] != ' ' || str_parse_u64(v + 35, &size) < 0 ||
	    size >> 57)
		return false;
	for (int i = 0; i < 16; i++) {
		int hi = hex_digit(v[2 + 2 * i]), lo = hex_digit(v[3 + 2 * i]);

		if (hi < 0 || lo < 0)
			return false;
		uuid[i] = (uint8_t)(hi << 4 | lo);
	}
	memcpy(ret_uuid, uuid, 16);
	*ret_size = size;
	v = obj_headers_get(h, META_IMAGE_ALLOCATED);
	if (!v || str_parse_u64(v, ret_alloc) < 0)
		*ret_alloc = 0;
	return true;
}

bool image_name_ok(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(IMAGE_SUFFIX) && n <= PATH_NAME_MAX && str_has_suffix(name, IMAGE_SUFFIX);
}

int image_point(const char *shown, char ret[ROW_NAME_MAX])
{
	size_t n = strlen(shown);

	if (n + strlen(IMAGE_SUFFIX) > PATH_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret, shown, n);
	memcpy(ret + n, IMAGE_SUFFIX, sizeof(IMAGE_SUFFIX));
	return 0;
}

enum image_row row_image(const struct row *row)
{
	struct obj_headers h = {};
	uint8_t uuid[16];
	uint64_t size, alloc;
	bool yes;

	if (!image_name_ok(row->name))
		return IMAGE_NO;
	if (!row->headers)
		return IMAGE_MAYBE;
	if (obj_headers_decode(row->headers, row->headers_len, &h) < 0)
		return IMAGE_MAYBE;
	yes = image_of_headers(&h, uuid, &size, &alloc);
	obj_headers_free(&h);
	return yes ? IMAGE_YES : IMAGE_NO;
}

/* What the rows say of the image that would be shown as `shown`; -ENOENT: there is no such row. */
int image_known_locked(struct tree *t, const char *dir, const char *shown, enum image_row *ret)
{
	char point[ROW_NAME_MAX];
	struct row row = {};
	int r = image_point(shown, point);

	if (r < 0)
		return -ENOENT;
	r = row_get_locked(t, dir, point, &row);
	if (r == 0)
		*ret = row_image(&row);
	row_done(&row);
	return r;
}

/* The entry of a name object as it is shown. */
static void show_image(struct entry *e)
{
	e->name[strlen(e->name) - strlen(IMAGE_SUFFIX)] = '\0';
}

static int lookup_image(struct tree *t, const char *dir, const char *name, unsigned flags, struct entry *ret,
			struct objerr *err)
{
	char point[ROW_NAME_MAX];
	struct entry e;
	int r = image_point(name, point);

	if (r < 0)
		return -ENOENT;
	r = lookup_name(t, dir, point, flags | TREE_ATTRS, WANT_FILE, &e, NULL, err);
	if (r == -EACCES || r == -ENAMETOOLONG) /* not ours to see, or no key can be that long: no image */
		return -ENOENT;
	if (r < 0)
		return r;
	if (!e.image) {
		entry_done(&e);
		return -ENOENT;
	}
	show_image(&e);
	*ret = e;
	return 0;
}

int lookup_with_images(struct tree *t, const char *dir, const char *name, unsigned flags, struct entry *ret,
		       struct objerr *err)
{
	enum image_row known = IMAGE_NO;
	char dpoint[ROW_NAME_MAX];
	struct row row = {};
	bool have, have_dir;
	int r;

	if (image_name_ok(name))
		flags |= TREE_ATTRS;
	mtx_lock(&t->lock);
	flights_land_locked(t);
	have = image_known_locked(t, dir, name, &known) == 0 && known != IMAGE_NO;
	have_dir = point_of(name, true, dpoint) == 0 && row_get_locked(t, dir, dpoint, &row) == 0;
	row_done(&row);
	mtx_unlock(&t->lock);
	if (have && !have_dir) {
		r = lookup_image(t, dir, name, flags, ret, err);
		if (r != -ENOENT)
			return r;
	}
	r = lookup_name(t, dir, name, flags, WANT_ANY, ret, NULL, err);
	if (r == 0 && ret->image) { /* the key of a name object is not a path */
		entry_done(ret);
		return -EPERM;
	}
	if (r == 0 && have && have_dir && !ret->is_dir) { /* the directory has gone */
		struct entry e;

		r = lookup_image(t, dir, name, flags, &e, err);
		if (r == 0) {
			entry_done(ret);
			*ret = e;
		}
		return r == -ENOENT ? 0 : r;
	}
	if (r == -ENOENT && (!have || have_dir))
		r = lookup_image(t, dir, name, flags, ret, err);
	return r;
}
