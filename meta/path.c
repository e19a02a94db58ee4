/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * path.c - names <-> keys, and the globs of images= and excl=.
 *
 * Two views of one rule: path_check_name() judges what an application asks for and says why it is refused;
 * path_component_ok() judges what a listing brought and only decides between shown and hidden. What one of them takes,
 * the other takes too, so that every key that is shown can be opened and every name that can be made is shown.
 */
#include "config.h"
#include "path.h"

#include "objstore/base/str.h"
#include "objstore/objstore.h"

#include <string.h>

int path_check_name(const char *name)
{
	size_t n = strnlen(name, PATH_NAME_MAX + 1);

	if (!n || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	if (n > PATH_NAME_MAX)
		return -ENAMETOOLONG;
	if (memchr(name, '/', n))
		return -EINVAL;
	if (!strcmp(name, PATH_RESERVED))
		return -EPERM;
	if (!str_is_utf8(name, n))
		return -EILSEQ;
	return 0;
}

int path_check_shown(const char *name)
{
	static const char suffix[] = "~object";
	size_t n = strnlen(name, PATH_NAME_MAX + sizeof(suffix)), k = sizeof(suffix) - 1;
	char base[PATH_NAME_MAX + 1];
	int r = path_check_name(name);

	if (r != -ENAMETOOLONG || n > PATH_NAME_MAX + k || strcmp(name + n - k, suffix) != 0)
		return r;
	memcpy(base, name, n - k);
	base[n - k] = '\0';
	return path_check_name(base);
}

bool path_component_ok(const char *s, size_t n)
{
	static const size_t reserved = sizeof(PATH_RESERVED) - 1;

	if (!n || n > PATH_NAME_MAX)
		return false;
	if (memchr(s, '\0', n) || memchr(s, '/', n))
		return false;
	if ((n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.'))
		return false;
	if (n == reserved && !memcmp(s, PATH_RESERVED, n))
		return false;
	return str_is_utf8(s, n);
}

int path_key(const char *prefix, const char *dir, const char *name, bool is_dir, char **ret)
{
	struct str s = {};

	str_add(&s, prefix);
	str_add(&s, dir);
	str_add(&s, name);
	/* The mounted root itself (no name) has no marker key of its own; callers use .lsvd/root. */
	if (is_dir && *name)
		str_addc(&s, '/');
	if (!s.err && s.len > OBJ_KEY_MAX) {
		str_free(&s);
		return -ENAMETOOLONG;
	}
	return str_take(&s, ret);
}

int path_subdir(const char *dir, const char *name, char **ret)
{
	struct str s = {};

	str_add(&s, dir);
	str_add(&s, name);
	str_addc(&s, '/');
	return str_take(&s, ret);
}

/* Does the set that starts at p[1] ("[a-z]", "[!a]") hold c? *ret_len: bytes of the whole set, 0 when it is not closed. */
static bool glob_set(const char *p, size_t n, char c, size_t *ret_len)
{
	bool negate = false, hit = false;
	size_t i = 1;

	if (i < n && (p[i] == '!' || p[i] == '^')) {
		negate = true;
		i++;
	}
	for (size_t first = i; i < n && (p[i] != ']' || i == first); i++) {
		unsigned char lo = (unsigned char)p[i], hi = lo;

		if (i + 2 < n && p[i + 1] == '-' && p[i + 2] != ']') {
			hi = (unsigned char)p[i + 2];
			i += 2;
		}
		if ((unsigned char)c >= lo && (unsigned char)c <= hi)
			hit = true;
	}
	*ret_len = i < n ? i + 1 : 0;
	return hit != negate;
}

/*
 * One glob against the whole path. A set of positions in the path that the pattern so far can end at is carried along,
 * so that the time is |glob| x |path| whatever the pattern: "**" in a user's option must not be able to explode.
 * at[i]: the pattern read so far matches path[0..i).
 */
static bool glob_match_one(const char *p, size_t n, const char *path, size_t len, bool *at)
{
	memset(at, 0, (len + 1) * sizeof(*at));
	at[0] = true;

	for (size_t i = 0; i < n;) {
		size_t step = 1, set = 0;
		bool literal = false;

		if (p[i] == '*') {
			bool deep = i + 1 < n && p[i + 1] == '*';

			if (deep && i + 2 < n && p[i + 2] == '/') {
				/* "**" and its slash: nothing, or anything that ends in a slash. */
				bool open = at[0];

				for (size_t k = 1; k <= len; k++) {
					bool here = at[k];

					at[k] = here || (open && path[k - 1] == '/');
					open = open || here;
				}
				i += 3;
				continue;
			}
			for (size_t k = 1; k <= len; k++)
				at[k] = at[k] || (at[k - 1] && (deep || path[k - 1] != '/'));
			i += deep ? 2 : 1;
			continue;
		}
		if (p[i] == '\\' && i + 1 < n) {
			literal = true;
			i++;
		} else if (p[i] == '[') {
			(void)glob_set(p + i, n - i, 'x', &set); /* only its length */
		}
		for (size_t k = len; k > 0; k--) {
			char c = path[k - 1];
			bool eq;

			if (set)
				eq = c != '/' && glob_set(p + i, n - i, c, &step);
			else if (p[i] == '?' && !literal)
				eq = c != '/';
			else
				eq = c == p[i];
			at[k] = at[k - 1] && eq;
		}
		at[0] = false;
		i += set ? set : 1;
	}
	return at[len];
}

bool path_glob_match(const char *globs, const char *path)
{
	_cleanup_free_ bool *at = NULL;
	size_t len;

	if (!globs || !path)
		return false;
	len = strlen(path);
	at = calloc(len + 1, sizeof(*at));
	if (!at)
		return false;
	for (const char *p = globs; *p;) {
		size_t n = strcspn(p, ":");

		if (n && glob_match_one(p, n, path, len, at))
			return true;
		p += n + (p[n] == ':');
	}
	return false;
}
