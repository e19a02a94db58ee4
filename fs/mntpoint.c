/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mntpoint.c - reading the mount table and changing it.
 *
 * A mount whose daemon died answers ENOTCONN to everything. mount(8) would stack a second one on top; we take the dead
 * one away first, so that the directory is never two mounts deep.
 */
#include "config.h"
#include "mntpoint.h"

#include "objstore/base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void mntpoint_done(struct mntpoint *m)
{
	free(m->dir);
	free(m->source);
	*m = (struct mntpoint){0};
}

/* \040 \011 \012 \134 of proc(5), in place. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* The next word, NUL-terminated in place; NULL at the end. */
static char *word(char **p)
{
	char *w = *p + strspn(*p, " \n"), *end = w + strcspn(w, " \n");

	if (!*w)
		return NULL;
	*p = *end ? end + 1 : end;
	*end = '\0';
	return w;
}

/* One line: "36 35 98:0 /root /mount/point opts [tags] - type source super" */
int mntpoint_parse(char *line, const char *dir, struct mntpoint *ret)
{
	unsigned major, minor;
	char *w = NULL, *point, *type, *source, *super;

	for (int i = 0; i < 3; i++)
		w = word(&line);
	if (!w || sscanf(w, "%u:%u", &major, &minor) != 2)
		return -ENOENT;
	(void)word(&line); /* the root inside the file system */
	point = word(&line);
	if (!point)
		return -ENOENT;
	unescape(point);
	if (strcmp(point, dir))
		return -ENOENT;
	while ((w = word(&line)) && strcmp(w, "-"))
		;
	type = word(&line);
	source = word(&line);
	super = word(&line);
	if (!type || !source || !super)
		return -ENOENT;
	unescape(source);
	mntpoint_done(ret);
	ret->dir = strdup(point);
	ret->source = strdup(source);
	ret->major = major;
	ret->minor = minor;
	ret->ours = !strcmp(type, "fuse.lsvdfs");
	w = strstr(super, "user_id=");
	ret->uid = w ? (unsigned)strtoul(w + 8, NULL, 10) : 0;
	return ret->dir && ret->source ? 0 : -ENOMEM;
}

int mntpoint_find(const char *dir, struct mntpoint *ret)
{
	_cleanup_free_ char *line = NULL;
	struct mntpoint m = {0};
	size_t cap = 0;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	int r = 0;

	if (!f)
		return -errno;
	while (r != -ENOMEM && getline(&line, &cap, f) > 0)
		r = mntpoint_parse(line, dir, &m); /* later lines lie on top */
	fclose(f);
	if (r == -ENOMEM || !m.dir) {
		mntpoint_done(&m);
		return r == -ENOMEM ? r : -ENOENT;
	}
	*ret = m;
	return 0;
}

int mntpoint_resolve(const char *dir, char **ret)
{
	_cleanup_free_ char *copy = strdup(dir), *parent = NULL, *path = NULL;
	struct mntpoint m = {0};
	struct str s = {0};
	char *slash, *name;
	size_t n;
	int r;

	if (!copy)
		return -ENOMEM;
	n = strlen(copy);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (slash)
		*slash = '\0';
	if (*name && strcmp(name, ".") && strcmp(name, "..")) {
		parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
		if (!parent)
			return -errno;
		str_addf(&s, "%s/%s", strcmp(parent, "/") ? parent : "", name);
		r = str_take(&s, &path);
		if (r)
			return r;
		r = mntpoint_find(path, &m);
		mntpoint_done(&m);
		if (!r) {
			*ret = path;
			path = NULL;
			return 0;
		}
	}
	*ret = realpath(dir, NULL);
	return *ret ? 0 : -errno;
}

int mntpoint_check_fuse(struct objerr *err)
{
	_cleanup_close_ int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0 || (errno != ENOENT && errno != ENODEV && errno != ENXIO))
		return 0; /* EACCES: fusermount3 opens it for us */
	objerr_set(err, "no /dev/fuse: load the kernel module (modprobe fuse) or let the container have the device");
	return -ENODEV;
}

static int not_usable(const char *dir, int r, struct objerr *err)
{
	errno = -r;
	if (r == -ENOENT)
		objerr_set(err, "%s: no such directory (mkdir it first)", dir);
	else if (r == -ENOTDIR)
		objerr_set(err, "%s: not a directory", dir);
	else
		objerr_set(err, "%s: %m", dir);
	return r;
}

/* Takes dead mounts away until the directory answers. */
static int clear_dead(const char *dir, struct stat *ret, struct objerr *err)
{
	struct objerr e = {0};
	struct statfs fs;

	for (int i = 0; i < 16; i++) {
		/* the kernel may answer stat from its cache; statfs asks the daemon */
		int r = stat(dir, ret) || statfs(dir, &fs) ? -errno : 0;

		if (r == -ECONNABORTED)
			continue; /* it died while we asked */
		if (r != -ENOTCONN)
			return r ? not_usable(dir, r, err) : 0;
		r = mntpoint_umount(dir, MNT_DETACH, &e);
		if (r) {
			objerr_set(err, "%s: cannot unmount what died there: %s", dir, e.msg);
			return r;
		}
	}
	return not_usable(dir, -ENOTCONN, err);
}

int mntpoint_check(const char *dir, const char *source, char **ret_dir, struct objerr *err)
{
	_cleanup_free_ char *path = NULL;
	struct mntpoint m = {0};
	struct stat st;
	int r = mntpoint_resolve(dir, &path);

	if (r)
		return not_usable(dir, r, err);
	r = clear_dead(path, &st, err);
	if (r)
		return r;
	if (!S_ISDIR(st.st_mode))
		return not_usable(dir, -ENOTDIR, err);
	r = mntpoint_find(path, &m);
	if (!r && m.ours) {
		if (!strcmp(m.source, source))
			objerr_set(err, "%s: %s is already mounted there", path, source);
		else
			objerr_set(err, "%s: %s is mounted there: unmount it first", path, m.source);
		r = -EBUSY;
	} else if (r == -ENOENT || !r) {
		r = 0;
		*ret_dir = path;
		path = NULL;
	}
	mntpoint_done(&m);
	return r;
}

/* Starts prog with its standard error in *ret_fd. */
static int spawn_listening(char *const argv[], pid_t *ret_pid, int *ret_fd)
{
	posix_spawn_file_actions_t fa;
	int p[2], r;

	if (pipe2(p, O_CLOEXEC))
		return -errno;
	r = -posix_spawn_file_actions_init(&fa);
	if (!r) {
		r = -posix_spawn_file_actions_adddup2(&fa, p[1], STDERR_FILENO);
		if (!r)
			r = -posix_spawnp(ret_pid, argv[0], &fa, NULL, argv, environ);
		posix_spawn_file_actions_destroy(&fa);
	}
	close(p[1]);
	if (r)
		close(p[0]);
	else
		*ret_fd = p[0];
	return r;
}

/* The first line of what comes until the end; the rest is read and dropped, so that nobody dies of a closed pipe. */
static void read_line(int fd, char *line, size_t size)
{
	char drop[256];
	size_t len = 0;
	ssize_t n;

	do {
		bool full = len + 1 >= size;

		n = read(fd, full ? drop : line + len, full ? sizeof(drop) : size - 1 - len);
		if (n > 0 && !full)
			len += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	line[len] = '\0';
	line[strcspn(line, "\n")] = '\0';
	str_make_printable(line);
}

/* Its status is 1 whatever went wrong: its words tell a busy mount, the mount table one that is gone, from the rest. */
static int why_not(const char *dir, const char *words, struct objerr *err)
{
	struct mntpoint m = {0};
	int r = -EPERM;

	if (strstr(words, strerrordesc_np(EBUSY)))
		r = -EBUSY;
	else if (mntpoint_find(dir, &m) == -ENOENT)
		r = -EINVAL;
	mntpoint_done(&m);
	objerr_set(err, "%s", words[0] ? words : "fusermount3 failed and did not say why");
	return r;
}

/* fusermount3 is setuid and knows who mounted. */
static int run_fusermount(const char *dir, int flags, struct objerr *err)
{
	char prog[] = "fusermount3", u[] = "-u", uz[] = "-uz", end[] = "--", words[200];
	_cleanup_free_ char *copy = strdup(dir);
	char *argv[] = {prog, flags & (MNT_DETACH | MNT_FORCE) ? uz : u, end, copy, NULL};
	_cleanup_close_ int fd = -1;
	int status, r = -ENOMEM;
	pid_t pid;

	if (copy)
		r = spawn_listening(argv, &pid, &fd);
	if (r) {
		objerr_set(err, "cannot run fusermount3: %s", strerrordesc_np(-r));
		return r;
	}
	read_line(fd, words, sizeof(words));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR) {
			r = -errno;
			objerr_set(err, "cannot wait for fusermount3: %m");
			return r;
		}
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : why_not(dir, words, err);
}

int mntpoint_umount(const char *dir, int flags, struct objerr *err)
{
	int r;

	if (!umount2(dir, flags | UMOUNT_NOFOLLOW))
		return 0;
	r = -errno;
	if (r == -EPERM && geteuid())
		return run_fusermount(dir, flags, err);
	objerr_set(err, "%s", strerrordesc_np(-r));
	return r;
}

void mntpoint_read_ahead(const struct mntpoint *m, unsigned kib)
{
	char path[80], text[16];
	_cleanup_close_ int fd = -1;
	int n;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", m->major, m->minor);
	n = snprintf(text, sizeof(text), "%u\n", kib);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)n) < 0)
		return; /* not root, or /sys is read-only: READs stay at 128 KiB */
}

bool mntpoint_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	while (n && dir[n - 1] == '/')
		n--;
	return !strncmp(path, dir, n) && (!path[n] || path[n] == '/');
}
