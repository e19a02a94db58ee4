/* SPDX-License-Identifier: GPL-3.0-or-later */
/* start.c - daemonise and report; the protocol is in start.h. */
#include "config.h"
#include "start.h"

#include "objstore/base/str.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MSG_MAX 4352 /* a path and a letter; a line of words */

static int send_msg(int sock, char kind, const char *text)
{
	struct str s = {0};
	int r;

	str_addc(&s, kind);
	str_add(&s, text);
	r = s.err;
	if (!r && send(sock, s.p, MIN(s.len, MSG_MAX - 1), MSG_NOSIGNAL) < 0)
		r = -errno;
	str_free(&s);
	return r;
}

/* NUL-terminated message; 0 at the end of file. */
static ssize_t recv_msg(int sock, char *buf)
{
	ssize_t n;

	do {
		n = recv(sock, buf, MSG_MAX - 1, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	buf[n] = '\0';
	return n;
}

static void answer_check(int sock, const char *dir)
{
	struct statvfs fs;
	struct stat st;
	char text[16];
	int e = 0;

	if (stat(dir, &st) || statvfs(dir, &fs))
		e = errno;
	snprintf(text, sizeof(text), "%d", e);
	(void)send_msg(sock, 'A', text); /* a daemon that is gone is seen at the next recv */
}

static void report_death(pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
		fprintf(stderr, "lsvdfs: the daemon was killed while starting (%s)\n", strsignal(WTERMSIG(status)));
	else
		fprintf(stderr, "lsvdfs: the daemon ended while starting; see the system log\n");
}

/* The process that is not the daemon; child: the daemon, or 0. Does not return. */
static _Noreturn void other_process(int sock, pid_t child)
{
	char buf[MSG_MAX];

	for (;;) {
		ssize_t n = recv_msg(sock, buf);

		if (n <= 0)
			break;
		if (buf[0] == 'C')
			answer_check(sock, buf + 1);
		if (buf[0] == 'R')
			_exit(0);
		if (buf[0] == 'F') {
			if (child)
				fprintf(stderr, "lsvdfs: %s\n", buf + 1);
			_exit(1);
		}
	}
	if (child)
		report_death(child);
	_exit(1);
}

int start_fork(bool foreground, struct start *ret)
{
	int sv[2], null;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(sv[0]);
		close(sv[1]);
		return r;
	}
	/* background: the child is the daemon; foreground: the parent is */
	if ((pid == 0) == foreground) {
		close(sv[0]);
		other_process(sv[1], foreground ? 0 : pid);
	}
	close(sv[1]);
	if (!foreground) {
		setsid();
		if (chdir("/"))
			(void)0; /* then some directory stays busy: a nuisance, no error */
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null >= 0) {
			dup2(null, STDIN_FILENO);
			close(null);
		}
	}
	*ret = (struct start){.sock = sv[0], .foreground = foreground, .child = foreground ? pid : 0};
	return 0;
}

int start_check(struct start *s, const char *dir)
{
	char buf[MSG_MAX];
	uint64_t e;
	ssize_t n;
	int r = send_msg(s->sock, 'C', dir);

	if (r)
		return r;
	n = recv_msg(s->sock, buf);
	if (n < 0)
		return (int)n;
	if (!n || str_parse_u64(buf + 1, &e) || e > 4095)
		return -EPIPE;
	return -(int)e;
}

static void finish(struct start *s)
{
	close(s->sock);
	s->sock = -1;
	if (s->child)
		(void)waitpid(s->child, NULL, 0); /* it exits at the end of file */
	s->child = 0;
}

void start_ready(struct start *s)
{
	int null;

	if (s->sock < 0)
		return;
	(void)send_msg(s->sock, 'R', ""); /* nobody waits any more: the mount is up all the same */
	finish(s);
	if (s->foreground)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
}

void start_fail(struct start *s, const char *words)
{
	if (s->foreground || s->sock < 0)
		fprintf(stderr, "lsvdfs: %s\n", words);
	if (s->sock < 0)
		return;
	(void)send_msg(s->sock, 'F', words);
	finish(s);
}

void start_notify(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;
	char text[512];
	size_t len;
	va_list ap;
	int n;

	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof(a.sun_path))
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n <= 0)
		return;
	len = strlen(path);
	memcpy(a.sun_path, path, len);
	if (*path == '@')
		a.sun_path[0] = '\0'; /* abstract name */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, text, MIN((size_t)n, sizeof(text) - 1), MSG_NOSIGNAL, (struct sockaddr *)&a,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}
