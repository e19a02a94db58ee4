/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd_umount.c - umount that means it: everything is in the bucket when it returns.
 *
 * Order: ask the daemon to drain, unmount in the kernel, wait for the process to end (it may have got more to send, and
 * it holds the slot). With -f none of that is waited for: the connection is aborted, the spool keeps what was not sent.
 */
#include "config.h"
#include "cmd.h"
#include "control.h"
#include "objstore/base/clock.h"
#include "explain.h"
#include "objstore/base/str.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct umount_flags {
	bool force, lazy, verbose;
};

static bool umount_flag(int c, const char *arg, void *ctx)
{
	struct umount_flags *f = ctx;

	switch (c) {
	case 'f':
		return f->force = true;
	case 'l':
		return f->lazy = true;
	case 'v':
		return f->verbose = true;
	case 'n': /* what umount(8) passes on and does not matter here */
	case 'r':
	case 't':
	case 'N':
		return true;
	}
	return false;
}

struct progress {
	const struct mntpoint *m;
	bool shown;
};

/* Once a second while the drain runs, over a connection of its own. On a terminal only. */
static void show_progress(void *arg)
{
	struct progress *p = arg;
	_cleanup_close_ int fd = -1;
	struct objerr err;
	json_t *st, *sp;
	char buf[24];

	if (!isatty(STDERR_FILENO) || control_connect(p->m, &fd) ||
	    control_ask(fd, json_pack("{s:s}", "cmd", "status"), 900, NULL, NULL, &st, &err))
		return;
	sp = json_object_get(st, "spool");
	fprintf(stderr, "\r%s in %lld files still to be sent   ",
		cmd_size((uint64_t)json_integer_value(json_object_get(sp, "dirty_bytes")), buf),
		(long long)json_integer_value(json_object_get(sp, "files")));
	p->shown = true;
	json_decref(st);
}

static int drain(const struct mntpoint *m, int fd)
{
	struct progress p = {.m = m};
	struct objerr err = {0};
	json_t *ans;
	int r = control_ask(fd, json_pack("{s:s}", "cmd", "drain"), -1, show_progress, &p, &ans, &err);

	if (p.shown)
		fprintf(stderr, "\r%60s\r", "");
	if (r)
		return cmd_fail(
		    "%s: not unmounted, some data could not be sent: %s (umount -f leaves it to the next mount)",
		    m->dir, err.msg);
	json_decref(ans);
	return CMD_OK;
}

/* A descriptor that becomes readable when the process at the other end of fd ends; -1 when it is not ours to see. */
static int process_of(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || cred.pid <= 0)
		return -1;
	return (int)syscall(SYS_pidfd_open, cred.pid, 0);
}

/* The process ends, or (other pid namespace) its connection does. */
static void wait_for_end(int pidfd, int sock)
{
	struct pollfd p = {.fd = pidfd >= 0 ? pidfd : sock, .events = pidfd >= 0 ? POLLIN : POLLRDHUP};

	while (p.fd >= 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

/* The kernel detaches the mount a moment before its last user is gone from the table: EBUSY may be short. */
static int unmount(const char *dir, int flags, struct objerr *err)
{
	int r = -EBUSY;

	for (int i = 0; r == -EBUSY && i < 5; i++) {
		if (i)
			clock_sleep_ns(100 * NSEC_PER_MSEC);
		r = mntpoint_umount(dir, flags, err);
	}
	return r;
}

static int do_umount(const struct mntpoint *m, const struct umount_flags *f)
{
	_cleanup_close_ int sock = -1, pidfd = -1;
	struct objerr err = {0};
	int r = control_connect(m, &sock), status = CMD_OK;

	pidfd = process_of(sock);
	if (!f->force && !r)
		status = drain(m, sock);
	else if (!f->force && r != -ENOENT && r != -ECONNREFUSED)
		return cmd_fail("%s: cannot ask the daemon: %s", m->dir, explain_errno(r));
	if (status)
		return status;
	r = unmount(m->dir, f->force ? MNT_FORCE | MNT_DETACH : f->lazy ? MNT_DETACH : 0, &err);
	if (r == -EBUSY)
		return cmd_fail("%s: in use: a program has a file open or its working directory there (fuser -vm %s)",
				m->dir, m->dir);
	if (r)
		return cmd_fail("%s: cannot unmount: %s", m->dir, err.msg);
	if (!f->lazy && !f->force)
		wait_for_end(pidfd, sock);
	if (f->verbose)
		printf("%s unmounted\n", m->dir);
	return CMD_OK;
}

static int umount_with(int argc, char **argv, const char *letters)
{
	struct umount_flags f = {0};
	struct cmd_args a = {.name = "umount", .short_opts = letters, .fn = umount_flag, .ctx = &f, .min = 1, .max = 1};
	struct mntpoint m;
	char **pos;
	int npos, status;

	if (!cmd_parse(&a, argc, argv, &pos, &npos, &status))
		return status;
	status = cmd_find_mount(pos[0], &m);
	if (status)
		return status;
	status = do_umount(&m, &f);
	mntpoint_done(&m);
	return status;
}

int cmd_umount(int argc, char **argv)
{
	return umount_with(argc, argv, "flv");
}

int cmd_umount_helper(int argc, char **argv)
{
	return umount_with(argc, argv, "flnrvt:N:");
}
