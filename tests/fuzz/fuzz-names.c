/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-names.c - names and keys: what an application may make, what of a foreign key is shown, which file of a file://
 * bucket a key is, percent-coding, globs. First line: a name or key; second: a glob; both judged by a second, slower
 * implementation where there is one.
 */
#include "config.h"
#include "fuzz.h"
#include "meta/path.h"
#include "objstore/base/str.h"
#include "objstore/local-private.h"
#include "objstore/objstore.h"

#include <limits.h>

static void one_name(const char *s)
{
	size_t n = strlen(s);
	char *key, *dir;

	/* What can be made is shown, and the other way round. */
	check((path_check_name(s) == 0) == path_component_ok(s, n));
	if (path_check_name(s))
		return;
	check(n && n <= PATH_NAME_MAX && !strchr(s, '/') && strcmp(s, PATH_RESERVED));
	for (int is_dir = 0; is_dir < 2; is_dir++) {
		if (path_key("p/", "d/", s, is_dir, &key))
			continue;
		check(strlen(key) == 4 + n + (size_t)is_dir && strlen(key) <= OBJ_KEY_MAX);
		check(!strncmp(key, "p/d/", 4) && !strncmp(key + 4, s, n));
		free(key);
	}
	check(!path_subdir("d/", s, &dir) && dir[strlen(dir) - 1] == '/');
	free(dir);
}

/* A key below the prefix: every component is judged; then as a file. */
static void one_key(const char *s)
{
	struct local_name ln;
	struct objerr err = {0};
	char *key;
	int r = path_key("prefix/", "", s, false, &key);

	check(r == 0 || r == -ENAMETOOLONG);
	check((r == 0) == (strlen(s) + 7 <= OBJ_KEY_MAX));
	if (!r)
		free(key);
	r = local_name_parse(s, &ln, &err);
	check(r == 0 || err.msg[0]);
	if (r)
		return;
	/* Nothing that is taken leaves the bucket or is one of the store's own files; it can be put together again. */
	check(!local_is_hidden(ln.path) && ln.path[0] != '/' && !strchr(ln.name, '/'));
	for (const char *p = ln.path; *p; p += strcspn(p, "/"), p += *p == '/') {
		size_t n = strcspn(p, "/");

		check(n && n <= NAME_MAX && !(n == 1 && p[0] == '.') && !(n == 2 && p[0] == '.' && p[1] == '.'));
	}
	check(!strncmp(ln.path, s, strlen(ln.path)) && strlen(ln.path) + ln.marker == strlen(s));
	check(strlen(ln.dir) + (*ln.dir != 0) + strlen(ln.name) == strlen(ln.path));
	local_name_done(&ln);
}

/* Coding and decoding again gives the same; what is coded is plain text. */
static void coding(const char *s)
{
	struct str c = {0};
	char *copy = strdup(s);
	ssize_t n;

	for (int keep = 0; keep < 2; keep++) {
		str_reset(&c);
		str_add(&c, "");
		str_add_pct(&c, s, strlen(s), keep);
		check(!c.err && is_printable(c.p) && !strpbrk(c.p, " \"<>&+"));
		check(str_pct_decode(c.p) == (ssize_t)strlen(s) && !strcmp(c.p, s));
	}
	str_free(&c);
	check(copy);
	n = str_pct_decode(copy);
	check(n <= (ssize_t)strlen(s));
	free(copy);
}

/* Does the set at p (behind the '[') hold c? *ret_end: behind the ']'. NULL: not closed. */
static bool ref_set(const char *p, char c, const char **ret_end)
{
	bool negate = *p == '!' || *p == '^', hit = false;
	const char *q = p + negate;

	*ret_end = NULL;
	for (bool first = true; *q && (first || *q != ']'); first = false) {
		unsigned char lo = (unsigned char)*q, hi = lo;

		if (q[1] == '-' && q[2] && q[2] != ']') {
			hi = (unsigned char)q[2];
			q += 2;
		}
		q++;
		hit |= (unsigned char)c >= lo && (unsigned char)c <= hi;
	}
	if (*q)
		*ret_end = q + 1;
	return hit != negate;
}

/* The meaning of a glob written down: by trying everything. */
static bool ref_match(const char *g, const char *s)
{
	const char *end;

	if (!*g)
		return !*s;
	if (g[0] == '*' && g[1] == '*' && g[2] == '/') {
		if (ref_match(g + 3, s))
			return true;
		for (; *s; s++)
			if (*s == '/' && ref_match(g + 3, s + 1))
				return true;
		return false;
	}
	if (*g == '*') {
		bool deep = g[1] == '*';

		for (;; s++) {
			if (ref_match(g + 1 + deep, s))
				return true;
			if (!*s || (*s == '/' && !deep))
				return false;
		}
	}
	if (!*s)
		return false;
	if (*g == '\\' && g[1])
		return g[1] == *s && ref_match(g + 2, s + 1);
	if (*g == '[') {
		bool in = ref_set(g + 1, *s, &end);

		if (end)
			return *s != '/' && in && ref_match(end, s + 1);
	} else if (*g == '?') {
		return *s != '/' && ref_match(g + 1, s + 1);
	}
	return *g == *s && ref_match(g + 1, s + 1);
}

static void globs(const char *glob, const char *s)
{
	bool hit = path_glob_match(glob, s);

	if (*glob && !strchr(glob, ':') && strlen(glob) <= 12 && strlen(s) <= 12)
		check(hit == ref_match(glob, s));
}

static void numbers(const char *s)
{
	uint64_t a, b;
	char again[24];

	if (!str_parse_u64(s, &a)) {
		check(!str_parse_size(s, &b) && a == b);
		snprintf(again, sizeof(again), "%llu", (unsigned long long)a);
		check(!str_parse_u64(again, &b) && a == b);
	}
	ignore(str_parse_size(s, &a));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, MIN(size, (size_t)4096)};
	char *s = take_line(&in), *glob = take_line(&in);

	one_name(s);
	one_key(s);
	coding(s);
	numbers(s);
	globs(glob, s);
	check(!path_component_ok("a\0b", 3));
	free(s);
	free(glob);
	return 0;
}
