/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * start.h - two processes and one question: does the mount work?
 *
 * The daemon must not stat its own mount: a thread that waits for an answer of its own process keeps that process from
 * dying. So a second process exists until the mount is up. In the background case it is the command itself, which
 * prints the reason of a failure and whose exit status is the answer; in the foreground case it is a short-lived child.
 *
 *   daemon                          other process
 *   "C" directory ----------------> stat, statfs
 *          <----------------------- "0" or errno
 *   "R" --------------------------> exit 0        "F" words -> print, exit 1        end of file -> "died", exit 1
 */
#ifndef LSVD_START_H
#define LSVD_START_H

#include "objstore/objstore.h"

struct start {
	int sock;	 /* to the other process, -1 when it is done */
	bool foreground;
	pid_t child;	 /* foreground: the checker */
};

/* Forks; to be called before any thread exists. Returns in the daemon only. Background: new session, working
 * directory /, standard input from /dev/null. -errno of fork or socketpair. */
int must_check start_fork(bool foreground, struct start *ret);
/* Asks the other process to stat dir. Blocks as long as the mount does not answer. 0 or -errno; -EPIPE: it is gone. */
int must_check start_check(struct start *s, const char *dir);
/* The mount works: the command exits 0; background: output goes to /dev/null from now on. */
void start_ready(struct start *s);
/* It does not: one line for the user. */
void start_fail(struct start *s, const char *words);

/* One datagram to $NOTIFY_SOCKET (sd_notify(3)), nothing when it is not set. */
void start_notify(const char *fmt, ...) printf_like(1, 2);

#endif
