/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * localdir.c - names of the file:// store: keys to directories, locks, temporary files, directories that come and go.
 *
 * A directory is one of three things:
 *
 *   state      how it came                         on S3                    goes when
 *   implicit   PUT a/b made `a`                    no key `a/`              its last key goes (local_prune)
 *   marker     PUT a/                              key `a/` with headers    DELETE a/ (implicit while it holds keys)
 *   by hand    mkdir outside                       key `a/`, no headers     DELETE a/
 *
 * Making and removing: a directory is made complete with its attribute in tmp and then renamed into place, so that no
 * crash leaves an implicit one that looks made by hand. It is removed only by rmdir, under the lock of its path, after
 * a look at its attribute under that lock; a PUT below it that finds it gone starts over.
 *
 * Locks are flock(2) on one of NLOCKS files chosen by the path, so they hold between processes, and two paths may share
 * one: therefore nobody ever holds two. A temporary file is locked by its maker through the descriptor that it writes;
 * one in tmp that can be locked is left over from a crash.
 */
#include "config.h"
#include "local-private.h"
#include "base/table.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NLOCKS 64
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* --- keys --------------------------------------------------------------------------------------------------------- */

void local_name_done(struct local_name *n)
{
	free(n->path);
	free(n->dir);
	*n = (struct local_name){0};
}

bool local_is_hidden(const char *path)
{
	static const char *const room[] = {LOCAL_TMP, LOCAL_MPU, LOCAL_LOCK};

	for (size_t i = 0; i < ARRAY_SIZE(room); i++) {
		size_t n = strlen(room[i]);

		if (strncmp(path, room[i], n) == 0 && (path[n] == '\0' || path[n] == '/'))
			return true;
	}
	return false;
}

/* Every component can be a file name. */
static int check_path(const char *path, struct objerr *err)
{
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
			objerr_set(err, "a directory cannot hold a key with an empty, \".\" or \"..\" component");
			return -EINVAL;
		}
		if (n > NAME_MAX) {
			objerr_set(err, "a directory cannot hold a component of more than %d bytes", NAME_MAX);
			return -ENAMETOOLONG;
		}
		p += n;
		if (*p == '\0')
			return 0;
	}
}

int local_name_parse(const char *key, struct local_name *ret, struct objerr *err)
{
	struct local_name n = {0};
	size_t len = strlen(key);
	char *slash;
	int r;

	if (len > OBJ_KEY_MAX) {
		objerr_set(err, "the key is longer than %d bytes", OBJ_KEY_MAX);
		return -ENAMETOOLONG;
	}
	n.marker = len > 0 && key[len - 1] == '/';
	n.path = strndup(key, len - n.marker);
	n.dir = n.path != NULL ? strdup(n.path) : NULL;
	r = n.dir == NULL ? -ENOMEM : check_path(n.path, err);
	if (r == 0 && local_is_hidden(n.path)) {
		objerr_set(err, "%s/ is where this store keeps its own files", LOCAL_ROOM);
		r = -EACCES;
	}
	if (r < 0) {
		local_name_done(&n);
		return r;
	}
	slash = strrchr(n.dir, '/');
	n.name = slash != NULL ? n.path + (slash - n.dir) + 1 : n.path;
	*(slash != NULL ? slash : n.dir) = '\0';
	*ret = n;
	return 0;
}

/* --- directories -------------------------------------------------------------------------------------------------- */

int local_fsync(int fd)
{
	return fsync(fd) == 0 ? 0 : local_sys();
}

/* Next component of *p into buf; false at the end. */
static bool next_component(const char **p, char buf[NAME_MAX + 1])
{
	size_t n = strcspn(*p, "/");

	if (n == 0)
		return false;
	assert(n <= NAME_MAX);
	memcpy(buf, *p, n);
	buf[n] = '\0';
	*p += n;
	*p += **p == '/';
	return true;
}

/* Component by component: for kernels without openat2 (before 5.6, or forbidden by a sandbox). */
static int open_dir_walk(int root, const char *path, int *ret_fd)
{
	int fd = openat(root, ".", DIR_FLAGS);
	char name[NAME_MAX + 1];

	if (fd < 0)
		return local_sys();
	while (next_component(&path, name)) {
		int sub = openat(fd, name, DIR_FLAGS);
		int e = errno;

		(void)close(fd);
		if (sub < 0)
			return e == ELOOP ? -ENOTDIR : -e;
		fd = sub;
	}
	*ret_fd = fd;
	return 0;
}

int local_open_dir(int root, const char *path, int *ret_fd)
{
	struct open_how how = {
		.flags = DIR_FLAGS,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	for (int i = 0; i < 16; i++) {
		long fd = syscall(SYS_openat2, root, *path != '\0' ? path : ".", &how, sizeof(how));

		if (fd >= 0) {
			*ret_fd = (int)fd;
			return 0;
		}
		if (errno == ELOOP)
			return -ENOTDIR;
		if (errno == ENOSYS || errno == EPERM || errno == EINVAL)
			break;
		if (errno != EAGAIN) /* a rename elsewhere got in the way of the kernel's check */
			return local_sys();
	}
	return open_dir_walk(root, path, ret_fd);
}

int local_rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
	if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
		return 0;
	return local_sys();
}

/* Makes an implicit directory; one that is there already is fine. */
static int make_dir(struct local *l, int parent, const char *name)
{
	_cleanup_close_ int fd = -1, tmp = -1;
	char tmp_name[LOCAL_TMP_NAME];
	int r = local_tmp_dir(l, tmp_name, &fd);

	if (r < 0)
		return r;
	r = local_meta_write_implicit(fd);
	if (r == 0)
		r = local_open_dir(l->root, LOCAL_TMP, &tmp);
	if (r == 0) {
		r = local_rename_new(tmp, tmp_name, parent, name);
		if (r == -EINVAL || r == -ENOSYS) {
			/* No RENAME_NOREPLACE here: the directory is without its attribute for a moment. */
			r = mkdirat(parent, name, 0755) == 0 ? 0 : local_sys();
			base_closep(&fd);
			fd = r == 0 ? openat(parent, name, DIR_FLAGS) : -1;
			if (r == 0)
				r = fd < 0 ? local_sys() : local_meta_write_implicit(fd);
		}
	}
	if (r == 0)
		r = local_fsync(parent);
	local_tmp_remove(l, tmp_name); /* gone already when it was renamed */
	return r == -EEXIST ? 0 : r;
}

/* One walk down: -ENOENT when a directory went away under us. */
static int make_dirs_once(struct local *l, const char *path, int *ret_fd)
{
	int fd = openat(l->root, ".", DIR_FLAGS), r = 0;
	char name[NAME_MAX + 1];

	if (fd < 0)
		return local_sys();
	while (r == 0 && next_component(&path, name)) {
		int sub = openat(fd, name, DIR_FLAGS);

		if (sub < 0 && errno == ENOENT) {
			r = make_dir(l, fd, name);
			sub = r == 0 ? openat(fd, name, DIR_FLAGS) : -1;
		}
		if (sub < 0 && r == 0)
			r = errno == ELOOP ? -ENOTDIR : local_sys();
		(void)close(fd);
		fd = sub;
	}
	if (r == 0)
		*ret_fd = fd;
	return r;
}

int local_make_dirs(struct local *l, const char *path, struct objerr *err, int *ret_fd)
{
	int r = local_open_dir(l->root, path, ret_fd);

	for (int i = 0; i < 100 && r == -ENOENT; i++)
		r = make_dirs_once(l, path, ret_fd);
	if (r == -ENOTDIR)
		objerr_set(err, "%s: a file or symbolic link is in the way of this directory", path);
	return r;
}

void local_prune(struct local *l, const char *dir)
{
	_cleanup_free_ char *path = strdup(dir);
	int r = path == NULL ? -ENOMEM : 0;

	/* Best effort: an empty implicit directory that stays is not listed. */
	while (r == 0 && *path != '\0') {
		char *slash = strrchr(path, '/');
		const char *name = slash != NULL ? slash + 1 : path;
		_cleanup_close_ int lock = -1, parent = -1;
		struct local_meta m = {0};

		if (strcmp(path, LOCAL_ROOM) == 0)
			break;
		r = local_lock(l, path, &lock);
		if (r == 0 && slash != NULL)
			*slash = '\0';
		if (r == 0)
			r = local_open_dir(l->root, slash != NULL ? path : "", &parent);
		if (r == 0)
			r = local_meta_at(parent, name, false, &m, NULL);
		if (r == 0 && (m.kind != LOCAL_IMPLICIT || unlinkat(parent, name, AT_REMOVEDIR) != 0))
			break;
		if (slash == NULL)
			break;
	}
}

/* --- locks and temporary files ------------------------------------------------------------------------------------ */

static int flock_wait(int fd, int op)
{
	int r;

	do
		r = flock(fd, op);
	while (r != 0 && errno == EINTR);
	return r == 0 ? 0 : local_sys();
}

/* Somebody removed the hidden directories under us. */
static int make_room_again(struct local *l)
{
	l->room = false;
	return local_make_room(l, NULL);
}

int local_open_room(struct local *l, const char *path, int *ret_fd)
{
	int r = local_open_dir(l->root, path, ret_fd);

	if (r == -ENOENT)
		r = make_room_again(l);
	else
		return r;
	if (r == 0)
		r = local_open_dir(l->root, path, ret_fd);
	return r == -ENOENT ? -EIO : r; /* it would say that a key is not there */
}

int local_lock(struct local *l, const char *path, int *ret_fd)
{
	char name[sizeof(LOCAL_LOCK) + 16];
	int fd, r;

	/* All processes must choose alike: a fixed seed. */
	(void)snprintf(name, sizeof(name), LOCAL_LOCK "/%02u", (unsigned)(hash_bytes(path, strlen(path), 1) % NLOCKS));
	fd = openat(l->root, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 && errno == ENOENT) {
		r = make_room_again(l);
		if (r < 0)
			return r;
		fd = openat(l->root, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	}
	if (fd < 0)
		return errno == ENOENT ? -EIO : local_sys();
	r = flock_wait(fd, LOCK_EX);
	if (r < 0) {
		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int tmp_new(struct local *l, bool dir, char name[LOCAL_TMP_NAME], int *ret_fd)
{
	_cleanup_close_ int tmp = -1;
	int r = local_open_room(l, LOCAL_TMP, &tmp);

	for (int i = 0; i < 100 && r == 0; i++) {
		struct stat st;
		int fd;

		base_random_hex(name, LOCAL_TMP_NAME / 2);
		if (dir && mkdirat(tmp, name, 0755) != 0)
			return local_sys();
		fd = openat(tmp, name, dir ? DIR_FLAGS : O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0) {
			*ret_fd = fd;
			return 0;
		}
		/* A sweep in another process took it between the two calls: another one. */
		if (fd < 0 && errno != ENOENT)
			return local_sys();
		base_closep(&fd);
	}
	return r < 0 ? r : -EIO;
}

int local_tmp_file(struct local *l, char name[LOCAL_TMP_NAME], int *ret_fd)
{
	return tmp_new(l, false, name, ret_fd);
}

int local_tmp_dir(struct local *l, char name[LOCAL_TMP_NAME], int *ret_fd)
{
	return tmp_new(l, true, name, ret_fd);
}

void local_tmp_remove(struct local *l, const char *name)
{
	_cleanup_close_ int tmp = -1;

	if (local_open_dir(l->root, LOCAL_TMP, &tmp) < 0)
		return;
	if (unlinkat(tmp, name, 0) != 0 && errno == EISDIR)
		(void)local_remove_flat(tmp, name, NULL);
}

/* Calls fn for each name in the directory dirfd/name. */
static int each_name(int dirfd, const char *name, int (*fn)(int fd, const char *name))
{
	int fd = openat(dirfd, name, DIR_FLAGS), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (d == NULL) {
		r = local_sys();
		base_closep(&fd);
		return r;
	}
	for (struct dirent *e = readdir(d); e != NULL && r == 0; e = readdir(d))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(fd, e->d_name);
	(void)closedir(d);
	return r;
}

static int unlink_one(int fd, const char *name)
{
	return unlinkat(fd, name, 0) == 0 || errno == ENOENT ? 0 : local_sys();
}

int local_remove_flat(int parent, const char *name, const char *first)
{
	if (first != NULL) {
		_cleanup_close_ int fd = openat(parent, name, DIR_FLAGS);

		if (fd < 0)
			return local_sys();
		if (unlinkat(fd, first, 0) != 0 && errno != ENOENT)
			return local_sys();
	}
	/* A part may land between the look and rmdir: again. */
	for (int i = 0; i < 100; i++) {
		int r = each_name(parent, name, unlink_one);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return local_sys();
	}
	return -EIO;
}

/* A file or directory in tmp whose maker is gone. */
static int sweep_tmp(int fd, const char *name)
{
	_cleanup_close_ int f = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (f < 0 || flock(f, LOCK_EX | LOCK_NB) != 0 || fstat(f, &st) != 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		(void)local_remove_flat(fd, name, NULL);
	else
		(void)unlinkat(fd, name, 0);
	return 0;
}

int local_sweep_upload(int fd, const char *name)
{
	_cleanup_close_ int dir = openat(fd, name, DIR_FLAGS);
	struct stat st;

	if (dir >= 0 && fstatat(dir, "upload", &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT &&
	    flock(dir, LOCK_EX | LOCK_NB) == 0)
		(void)local_remove_flat(fd, name, NULL);
	return 0;
}

static int make_room_locked(struct local *l)
{
	static const char *const room[] = {LOCAL_ROOM, LOCAL_TMP, LOCAL_MPU, LOCAL_LOCK};
	_cleanup_close_ int fd = -1;
	struct local_meta m;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(room); i++)
		if (mkdirat(l->root, room[i], 0755) != 0 && errno != EEXIST)
			return local_sys();
	r = local_open_dir(l->root, LOCAL_ROOM, &fd);
	if (r == 0)
		r = local_meta_fd(fd, false, &m);
	if (r == 0 && m.by_hand)
		r = local_meta_write_implicit(fd);
	if (r == 0)
		r = local_fsync(fd);
	if (r == 0)
		r = local_fsync(l->root);
	if (r < 0)
		return r;
	(void)each_name(l->root, LOCAL_TMP, sweep_tmp);
	(void)each_name(l->root, LOCAL_MPU, local_sweep_upload);
	return 0;
}

int local_make_room(struct local *l, struct objerr *err)
{
	int r = 0;

	if (l->room)
		return 0;
	mtx_lock(&l->lock);
	if (!l->room)
		r = make_room_locked(l);
	if (r == 0)
		l->room = true;
	mtx_unlock(&l->lock);
	return r < 0 ? local_errno(err, -r, "making", LOCAL_ROOM) : 0;
}
