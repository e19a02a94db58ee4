/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * log.h - one-line messages. Only fs/ logs errors; lower rooms return codes and words (struct objerr) and may use
 * log_debug. Credentials never reach a message: callers log names and ids only.
 */
#ifndef LSVD_LOG_H
#define LSVD_LOG_H

#include "base.h"
#include <stdarg.h>

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG };
enum log_sink {
	LOG_TO_STDERR, /* "lsvdfs: message"; with <N> priority prefixes when JOURNAL_STREAM names our stderr */
	LOG_TO_SYSLOG
};

void log_setup(enum log_sink sink, enum log_level level);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "error", "warn", "info", "debug" -> level; -EINVAL. */
int must_check log_parse_level(const char *s, enum log_level *ret);

void log_msg(enum log_level level, const char *fmt, ...) printf_like(2, 3);
#define log_error(...) log_msg(LOG_L_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_L_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_L_INFO, __VA_ARGS__)
#define log_debug(...)                                       \
	do {                                                 \
		if (log_get_level() >= LOG_L_DEBUG)          \
			log_msg(LOG_L_DEBUG, __VA_ARGS__);   \
	} while (0)

/* Returns true at most once per interval for one call site: if (log_every(&last, NSEC_PER_SEC)) log_warn(...). */
bool log_every(_Atomic int64_t *last_ns, int64_t interval_ns);

#endif
