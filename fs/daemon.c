/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * daemon.c - from the kernel mount to the end of the session: readiness, signals, draining.
 *
 *   phase      until                           SIGTERM, SIGINT, SIGHUP
 *   STARTING   the kernel mount exists         exit at once: nothing was promised yet, the spool is on disk
 *   MOUNTED    the session loop ended          drain, unmount; busy: detach and end all the same
 *   STOPPING   the process exits               the drain under way goes on; the third signal exits at once
 *
 * Threads here: signals (whole life), ready (until the mount was tried), stop (one, after the first signal).
 */
#include "config.h"
#include "mount.h"

#include "control.h"
#include "explain.h"
#include "objstore/base/str.h"

#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define READ_AHEAD_KIB 1024

/* --- the kernel's side ------------------------------------------------------------------------------------------ */

/* libfuse reports by printing: the last line is kept as the reason of a failed mount. */
static char fuse_words[200];

static void fuse_log_line(enum fuse_log_level level, const char *fmt, va_list ap) printf_like(2, 0);

static void fuse_log_line(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t n;

	if (level > FUSE_LOG_WARNING && log_get_level() < LOG_L_DEBUG)
		return;
	vsnprintf(fuse_words, sizeof(fuse_words), fmt, ap);
	n = strlen(fuse_words);
	while (n && fuse_words[n - 1] == '\n')
		fuse_words[--n] = '\0';
	log_debug("libfuse: %s", fuse_words);
}

static int session_args(const struct mount *m, struct fuse_args *args)
{
	struct str list = {0};
	char *opts = NULL;
	int r = 0;

	/* fsname is what findmnt and `mount -a` compare with fstab; commas in it are escaped */
	str_add(&list, "fsname=");
	for (const char *p = m->opt.source; *p; p++) {
		if (*p == ',' || *p == '\\')
			str_addc(&list, '\\');
		str_addc(&list, *p);
	}
	str_add(&list, ",subtype=lsvdfs");
	if (m->opt.read_only)
		str_add(&list, ",ro");
	if (m->opt.allow_other)
		str_add(&list, ",allow_other");
	if (m->opt.default_permissions)
		str_add(&list, ",default_permissions");
	if (m->opt.kernel.len)
		str_addf(&list, ",%s", str_c(&m->opt.kernel));
	r = str_take(&list, &opts);
	if (!r && (fuse_opt_add_arg(args, "lsvdfs") || fuse_opt_add_arg(args, "-o") || fuse_opt_add_arg(args, opts)))
		r = -ENOMEM;
	free(opts);
	return r;
}

static int mount_kernel(struct mount *m, struct objerr *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = session_args(m, &args);

	if (r)
		goto out;
	fuse_set_log_func(fuse_log_line);
	r = -EINVAL;
	m->se = fuse_session_new(&args, fsd_fuse_ops(m->opt.nolock_error), sizeof(struct fuse_lowlevel_ops), m->fsd);
	if (!m->se)
		goto out;
	r = -EPERM;
	if (fuse_session_mount(m->se, m->opt.dir))
		goto out;
	r = mntpoint_find(m->opt.dir, &m->point);
	if (r)
		goto out;
	mntpoint_read_ahead(&m->point, READ_AHEAD_KIB);
	fsd_attach(m->fsd, m->se);
out:
	fuse_opt_free_args(&args);
	if (r)
		objerr_set(err, "%s: cannot mount: %s%s", m->opt.dir, fuse_words[0] ? fuse_words : "not permitted",
			   m->opt.allow_other && geteuid() ? " (allow_other needs user_allow_other in /etc/fuse.conf)"
							   : "");
	return r;
}

/* --- signals and readiness -------------------------------------------------------------------------------------- */

int mount_drain(struct mount *m)
{
	struct objerr err = {0};
	int r = fsd_drain(m->fsd, &err);

	if (!r)
		return 0;
	errno = -r;
	if (!err.msg[0])
		objerr_set(&err, "%m");
	log_error("%s: not everything could be sent: %s. It stays in %s; the next mount of the source goes on with it",
		  m->opt.source, err.msg, m->state.path);
	return r;
}

static void stop_mounted(struct mount *m)
{
	struct objerr err = {0};
	int r;

	log_info("%s: stopping", m->opt.dir);
	start_notify("STOPPING=1\nSTATUS=Sending what is not in the bucket yet");
	(void)mount_drain(m); /* again after the loop */
	r = mntpoint_umount(m->opt.dir, 0, &err);
	if (r == -EBUSY) {
		log_warn("%s is in use: programs that use it get ENOTCONN", m->opt.dir);
		r = mntpoint_umount(m->opt.dir, MNT_DETACH | MNT_FORCE, &err);
	}
	if (r && r != -EINVAL) /* EINVAL: somebody was faster */
		log_error("%s: cannot unmount: %s", m->opt.dir, err.msg);
}

static void *stop_thread(void *arg)
{
	stop_mounted(arg);
	return NULL;
}

static void on_stop_signal(struct mount *m)
{
	bool give_up;
	int phase;

	mtx_lock(&m->lock);
	phase = m->phase;
	if (phase == MOUNT_MOUNTED) {
		m->phase = MOUNT_STOPPING;
		/* in a thread of its own: draining may take long, and the next signal must be heard */
		m->stopping = !pthread_create(&m->stop_thread, NULL, stop_thread, m);
	}
	give_up = ++m->stop_signals >= 3;
	mtx_unlock(&m->lock);
	if (phase == MOUNT_STARTING) {
		start_fail(&m->start, "stopped by a signal before the mount was there");
		_exit(1);
	}
	if (give_up) {
		log_error("%s: third signal: leaving at once, unsent data stays in %s", m->opt.dir, m->state.path);
		_exit(1);
	}
}

void *mount_signal_thread(void *arg)
{
	struct mount *m = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	while (!sigwait(&set, &sig)) {
		if (sig == SIGUSR1 && m->ended)
			break;
		if (sig == SIGUSR1) /* from outside: it means nothing */
			continue;
		if (sig == SIGUSR2) {
			bool on = log_get_level() != LOG_L_DEBUG;

			log_set_level(on ? LOG_L_DEBUG : m->opt.log_level);
			log_info("debug messages %s", on ? "on" : "off");
		} else {
			on_stop_signal(m);
		}
	}
	return NULL;
}

void mount_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Asks the other process whether the mount works, and tells the world. */
static void *ready_thread(void *arg)
{
	struct mount *m = arg;
	struct objerr err = {0}, why = {0};
	int r = start_check(&m->start, m->opt.dir);

	if (!r) {
		log_info("%s: mounted on %s", m->opt.source, m->opt.dir);
		if (m->no_io_flusher && geteuid() == 0)
			log_info("no CAP_SYS_RESOURCE: whoever writes to the mount should be in another memory cgroup");
		start_ready(&m->start);
		start_notify("READY=1\nMAINPID=%d\nSTATUS=%.200s on %.200s", (int)getpid(), m->opt.source, m->opt.dir);
		return NULL;
	}
	m->failed = true;
	if (r == -EPIPE)
		objerr_set(&err, "%s: the start was interrupted", m->opt.dir);
	else
		objerr_set(&err, "%s: mounted, but it does not answer: %s", m->opt.dir, explain_errno(r));
	r = mntpoint_umount(m->opt.dir, MNT_DETACH | MNT_FORCE, &why);
	if (r)
		log_error("%s: cannot unmount: %s", m->opt.dir, why.msg);
	start_fail(&m->start, err.msg);
	return NULL;
}

int mount_serve(struct mount *m, struct objerr *err)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t ready;
	int r = mount_kernel(m, err);

	if (r)
		return r;
	mtx_lock(&m->lock);
	m->phase = MOUNT_MOUNTED;
	mtx_unlock(&m->lock);
	r = control_start(m, &m->control, err);
	if (r) {
		log_warn("no control socket, `lsvdfs status` and `lsvdfs umount` will not work: %s", err->msg);
		err->msg[0] = '\0';
	}
	r = -pthread_create(&ready, NULL, ready_thread, m);
	if (r)
		return r;
	r = session_loop(m->se, (unsigned)(cores < 1 ? 1 : MIN(cores, 4)));
	pthread_join(ready, NULL);
	mtx_lock(&m->lock);
	m->phase = MOUNT_STOPPING;
	mtx_unlock(&m->lock);
	if (m->stopping) /* set under the lock before, never after STOPPING */
		pthread_join(m->stop_thread, NULL);
	start_notify("STOPPING=1");
	if (r)
		log_error("%s: the session ended: %s", m->opt.dir, explain_errno(r));
	m->failed |= r != 0;
	if (mount_drain(m))
		m->failed = true;
	return 0;
}
