/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * locallist.c - LIST of the file:// store, in the byte order of keys.
 *
 * A directory sorts as its name with '/' behind it ("a.b" before "a/"), then a depth-first walk meets keys in the order
 * of S3. Each page reads the directories on its way anew, leaves out what lies before its start, and keeps no more
 * names of a directory than fill a page; so the store has no state between pages, and a page of a directory of n names
 * costs one reading of it. Should the kept names not fill the page (some were no keys), the directory is read on from there.
 *
 * A directory is a key (its marker) when it was PUT or made by hand; an implicit one counts only for keys below it.
 */
#include "config.h"
#include "local-private.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

enum { WALK_MORE = 0, WALK_STOP = 1 }; /* negative: failed */

struct walk {
	const char *prefix;
	size_t prefix_len;
	const char *after;	/* only keys behind it */
	bool roll;		/* roll up at '/' behind the prefix */
	bool skip_after_prefix; /* after is a rolled-up prefix that was listed: nothing below it */
	unsigned max;
	struct obj_listing *page; /* NULL: only asks whether there is a key, stops with found */
	bool found;
	struct str key; /* key of the directory being walked ("" or ends in '/'), and then of the entry */
};

/* The lowest names of a directory behind `floor`, directories with '/'. At most 2 * keep while reading, then keep. */
struct names {
	char **v;
	size_t n, keep;
	char *floor; /* owned; NULL: from the start */
	bool cut;    /* there are more behind the last */
};

static void names_clear(struct names *ns)
{
	for (size_t i = 0; i < ns->n; i++)
		free(ns->v[i]);
	ns->n = 0;
}

static void names_done(struct names *ns)
{
	names_clear(ns);
	free(ns->v);
	free(ns->floor);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts, and drops what is more than keep. */
static void names_cut(struct names *ns)
{
	if (ns->n > 1)
		qsort(ns->v, ns->n, sizeof(char *), by_name);
	while (ns->n > ns->keep) {
		free(ns->v[--ns->n]);
		ns->cut = true;
	}
}

static int names_add(struct names *ns, const char *name)
{
	if (ns->floor != NULL && strcmp(name, ns->floor) <= 0)
		return 0;
	/* Once cut, the first keep are sorted: what lies behind them is not wanted. */
	if (ns->cut && strcmp(name, ns->v[ns->keep - 1]) > 0)
		return 0;
	if (ns->v == NULL) {
		ns->v = calloc(2 * ns->keep, sizeof(char *));
		if (ns->v == NULL)
			return -ENOMEM;
	}
	if (ns->n == 2 * ns->keep)
		names_cut(ns);
	ns->v[ns->n] = strdup(name);
	if (ns->v[ns->n] == NULL)
		return -ENOMEM;
	ns->n++;
	return 0;
}

/* Goes on behind the names that there are. */
static int names_next(struct names *ns)
{
	char *floor = strdup(ns->v[ns->n - 1]);

	if (floor == NULL)
		return -ENOMEM;
	free(ns->floor);
	ns->floor = floor;
	ns->cut = false;
	names_clear(ns);
	return 0;
}

static void set_key(struct walk *w, size_t base, const char *name)
{
	if (w->key.len > base) {
		w->key.len = base;
		w->key.p[base] = '\0';
	}
	str_add(&w->key, name);
}

/* Can the entry whose key is in w->key give anything for this page? */
static bool wanted(const struct walk *w, bool dir)
{
	const char *key = str_c(&w->key);
	size_t n = w->key.len;
	_cleanup_free_ char *path = NULL;

	if (n > OBJ_KEY_MAX || strncmp(key, w->prefix, w->prefix_len) != 0)
		return false;
	if (!dir)
		return strcmp(key, w->after) > 0 && !local_is_hidden(key);
	if (str_has_prefix(key, LOCAL_ROOM "/")) {
		path = strndup(key, n - 1);
		if (path == NULL || local_is_hidden(path))
			return false;
	}
	if (strncmp(key, w->after, n) == 0) /* the start lies in it */
		return !(w->skip_after_prefix && w->after[n] == '\0');
	return strcmp(key, w->after) > 0;
}

static int entry_type(int fd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type;
	if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return DT_UNKNOWN;
	return IFTODT(st.st_mode);
}

/* Reads what may be of use of a directory, sorted. base = length of its key in w->key. */
static int read_names(struct walk *w, int fd, size_t base, struct names *ns)
{
	int dup = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = dup >= 0 ? fdopendir(dup) : NULL;

	if (d == NULL) {
		r = local_sys();
		base_closep(&dup);
		return r;
	}
	errno = 0;
	for (struct dirent *e = readdir(d); e != NULL && r == 0; errno = 0, e = readdir(d)) {
		int type = entry_type(fd, e);

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (type != DT_REG && type != DT_LNK && type != DT_DIR)
			continue;
		set_key(w, base, e->d_name);
		if (type == DT_DIR)
			str_addc(&w->key, '/');
		if (w->key.err == 0 && wanted(w, type == DT_DIR))
			r = names_add(ns, w->key.p + base);
	}
	if (r == 0 && errno != 0)
		r = local_sys();
	(void)closedir(d);
	names_cut(ns);
	return r == 0 ? w->key.err : r;
}

/* w->key goes onto the page. m NULL: a rolled-up prefix. */
static int emit(struct walk *w, const struct local_meta *m)
{
	struct obj_list_entry *e;
	int r;

	if (w->page == NULL) {
		w->found = true;
		return WALK_STOP;
	}
	if (w->page->n == w->max) {
		r = page_set_token(w->page, w->page->v[w->max - 1].key);
		return r < 0 ? r : WALK_STOP;
	}
	r = page_add(w->page, w->key.p, w->key.len, &e);
	if (r < 0)
		return r;
	e->is_prefix = m == NULL;
	if (m != NULL) {
		e->size = m->size;
		e->mtime_s = m->mtime_s;
		memcpy(e->etag, m->etag, sizeof(e->etag));
	}
	return WALK_MORE;
}

static int walk_dir(struct walk *w, int fd, size_t base);

/* Is there a key at or below the directory `fd` that lies behind the start? */
static int has_key(struct walk *w, int fd, bool *ret)
{
	struct walk probe = {.prefix = "", .after = w->after};
	int r;

	str_addn(&probe.key, w->key.p, w->key.len);
	r = probe.key.err < 0 ? probe.key.err : walk_dir(&probe, fd, probe.key.len);
	str_free(&probe.key);
	if (r < 0)
		return r;
	*ret = probe.found;
	return 0;
}

/* A sub-directory; its key is in w->key. */
static int walk_sub(struct walk *w, int parent, const char *name)
{
	size_t base = w->key.len;
	_cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool any = false;
	int r;

	/* Gone, replaced, or not ours to read: the rest of the listing still counts. */
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EACCES))
		return WALK_MORE;
	if (fd < 0)
		return local_sys();
	if (!w->roll) {
		r = walk_dir(w, fd, base);
		return r == -ENOENT ? WALK_MORE : r; /* removed while we read it */
	}
	r = has_key(w, fd, &any);
	if (r < 0 || !any)
		return r == -ENOENT ? WALK_MORE : r;
	set_key(w, base, "");
	return emit(w, NULL);
}

static int walk_entry(struct walk *w, int fd, size_t base, const char *name)
{
	size_t n = strlen(name);
	struct local_meta m;
	int r;

	set_key(w, base, name);
	if (w->key.err < 0)
		return w->key.err;
	if (name[n - 1] == '/') {
		char sub[NAME_MAX + 1];

		memcpy(sub, name, n - 1);
		sub[n - 1] = '\0';
		return walk_sub(w, fd, sub);
	}
	if (w->page == NULL)
		return emit(w, NULL);
	r = local_meta_at(fd, name, false, &m, NULL);
	if (r < 0)
		return r;
	if (m.kind != LOCAL_FILE && m.kind != LOCAL_LINK)
		return WALK_MORE; /* gone, or something else by now */
	return emit(w, &m);
}

/* Everything at and below one directory; base is the length of its key, which w->key holds. */
static int walk_dir(struct walk *w, int fd, size_t base)
{
	struct names ns = {.keep = w->page != NULL ? w->max + 1 : 16};
	struct local_meta m;
	int r = WALK_MORE;

	if (base > 0 && base >= w->prefix_len && strcmp(w->key.p, w->after) > 0) {
		r = local_meta_fd(fd, false, &m);
		if (r == 0 && m.kind == LOCAL_MARKER)
			r = emit(w, &m);
		if (r != WALK_MORE)
			return r;
	}
	for (;;) {
		r = read_names(w, fd, base, &ns);
		for (size_t i = 0; i < ns.n && r == WALK_MORE; i++)
			r = walk_entry(w, fd, base, ns.v[i]);
		if (r != WALK_MORE || !ns.cut)
			break;
		r = names_next(&ns);
		if (r < 0)
			break;
	}
	names_done(&ns);
	return r;
}

/* Directory part of the prefix: where the walk starts. */
static int start_dir(struct local *l, struct walk *w, int *ret_fd)
{
	const char *slash = strrchr(w->prefix, '/');
	_cleanup_free_ char *path = NULL;
	struct local_name n = {0};
	struct objerr none = {0};
	int r;

	if (slash == NULL)
		return local_open_dir(l->root, "", ret_fd);
	path = strndup(w->prefix, (size_t)(slash - w->prefix) + 1);
	if (path == NULL)
		return -ENOMEM;
	str_add(&w->key, path);
	r = local_name_parse(path, &n, &none);
	if (r == 0)
		r = local_open_dir(l->root, n.path, ret_fd);
	local_name_done(&n);
	return r == -EINVAL || r == -ENAMETOOLONG || r == -EACCES || r == -ENOTDIR ? -ENOENT : r;
}

int local_list(struct local *l, struct objreq *req)
{
	_cleanup_close_ int fd = -1;
	struct walk w = {
		.prefix = req->key,
		.prefix_len = strlen(req->key),
		.after = req->token != NULL ? req->token : req->start_after != NULL ? req->start_after : "",
		.roll = req->delimiter,
		.max = req->max_keys == 0 ? OBJ_LIST_MAX : MIN(req->max_keys, (unsigned)OBJ_LIST_MAX),
	};
	size_t n = strlen(w.after);
	int r = page_new(&w.page);

	if (r < 0)
		return r;
	w.skip_after_prefix = req->token != NULL && w.roll && n > w.prefix_len && w.after[n - 1] == '/';
	r = start_dir(l, &w, &fd);
	if (r == 0)
		r = walk_dir(&w, fd, w.key.len);
	str_free(&w.key);
	if (r < 0 && r != -ENOENT) {
		obj_listing_free(w.page);
		return local_errno(&req->err, -r, "listing", req->key);
	}
	req->listing = w.page;
	return 0;
}
