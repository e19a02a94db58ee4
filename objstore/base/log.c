/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * log.c - one message, one line, one write.
 *
 * Under systemd stderr is a journal stream when $JOURNAL_STREAM names its device and inode (systemd.exec(5)); then each
 * line starts with its syslog priority "<N>" (sd-daemon(3)). Line ends and control characters inside a message become
 * spaces, so that text from a server cannot forge a second line.
 */
#include "config.h"
#include "log.h"
#include "clock.h"
#include "lock.h"
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static _Atomic int cur_level = LOG_L_INFO;
static struct mtx lock = MTX_INIT(RANK_LOG); /* whole lines; held across write(2), which is the point of it */
static enum log_sink cur_sink = LOG_TO_STDERR; /* under lock */
static bool journal;			       /* under lock: stderr is a journal stream */

static const char *const level_name[] = {"error", "warn", "info", "debug"};
static const int level_prio[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

static bool stderr_is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	struct stat st;
	char want[64];

	if (s == NULL || fstat(STDERR_FILENO, &st) != 0)
		return false;
	(void)snprintf(want, sizeof(want), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(s, want) == 0;
}

void log_setup(enum log_sink sink, enum log_level level)
{
	mtx_lock(&lock);
	if (sink == LOG_TO_SYSLOG)
		openlog("lsvdfs", LOG_PID, LOG_DAEMON);
	cur_sink = sink;
	journal = stderr_is_journal();
	mtx_unlock(&lock);
	log_set_level(level);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&cur_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&cur_level, memory_order_relaxed);
}

int log_parse_level(const char *s, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_name); i++)
		if (strcmp(s, level_name[i]) == 0) {
			*ret = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

static void write_line(const char *prefix, const char *line)
{
	char out[LINE_MAX_BYTES + 32];
	int n = snprintf(out, sizeof(out), "%slsvdfs: %s\n", prefix, line);
	size_t left = n < 0 ? 0 : MIN((size_t)n, sizeof(out) - 1);
	const char *p = out;

	while (left > 0) {
		ssize_t k = write(STDERR_FILENO, p, left);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			break; /* nobody to tell */
		p += k;
		left -= (size_t)k;
	}
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	char line[LINE_MAX_BYTES], prefix[8];
	va_list ap;

	if (level > log_get_level())
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	mtx_lock(&lock);
	if (cur_sink == LOG_TO_SYSLOG) {
		syslog(level_prio[level], "%s", line);
	} else {
		prefix[0] = '\0';
		if (journal)
			(void)snprintf(prefix, sizeof(prefix), "<%d>", level_prio[level]);
		write_line(prefix, line);
	}
	mtx_unlock(&lock);
	errno = saved;
}

bool log_every(_Atomic int64_t *last_ns, int64_t interval_ns)
{
	int64_t now = MAX(clock_now_ns(), 1), last = *last_ns; /* 0 = never */

	if (last != 0 && now - last < interval_ns)
		return false;
	/* Of several threads at once exactly one gets the turn. */
	return atomic_compare_exchange_strong(last_ns, &last, now);
}
