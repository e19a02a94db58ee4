/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * str.h - a growing string with a sticky error, percent-coding, numbers. The only place that builds strings piece by
 * piece: nothing in the tree accumulates snprintf offsets.
 */
#ifndef LSVD_STR_H
#define LSVD_STR_H

#include "base.h"
#include <stdarg.h>

/* All zero is an empty string. After a failed append err is -ENOMEM and further appends do nothing. */
struct str {
	char *p;    /* NUL-terminated once anything was appended, else NULL */
	size_t len; /* bytes without the NUL */
	size_t cap;
	int err;
};

void str_add(struct str *s, const char *z);
void str_addn(struct str *s, const void *p, size_t n);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) printf_like(2, 3);
void str_reset(struct str *s); /* empty again, memory kept, error cleared */
void str_free(struct str *s);
/* Gives the string away (never NULL on success, "" when empty); s is empty afterwards. -ENOMEM frees it. */
int must_check str_take(struct str *s, char **ret);
/* The C string so far, "" when empty. */
const char *str_c(const struct str *s);

/* RFC 3986 percent-coding: everything but A-Za-z0-9-._~ and, with keep_slash, '/'. */
void str_add_pct(struct str *s, const char *z, size_t n, bool keep_slash);
/* Decodes %XX in place, returns the new length, -EINVAL on a bad escape. '+' stays '+'. */
ssize_t must_check str_pct_decode(char *s);

/* Hex, lower case. out has 2n+1 bytes. */
void str_hex(char *out, const void *p, size_t n);

/* "10", "10K", "1.5G" -> bytes (powers of 1024; K M G T with optional iB/B). -EINVAL, -ERANGE. */
int must_check str_parse_size(const char *s, uint64_t *ret);
/* "90", "90s", "15m", "12h", "7d", "2w" -> seconds. -EINVAL, -ERANGE. */
int must_check str_parse_age(const char *s, uint64_t *ret);
/* Whole-string decimal parse. -EINVAL, -ERANGE. */
int must_check str_parse_u64(const char *s, uint64_t *ret);
/* Bounded copy; -ENAMETOOLONG when it does not fit (dst untouched). */
int must_check str_copy(char *dst, size_t cap, const char *src);
/* True when the n bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool str_is_utf8(const char *s, size_t n);
/* For terminals, logs and JSON: control characters and what is no UTF-8 become '?', byte by byte. */
void str_make_printable(char *s);
bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);

#endif
