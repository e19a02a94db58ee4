/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * str.c - growing strings, percent-coding, numbers.
 *
 * Invariant of struct str: p == NULL and len == cap == 0, or cap > len and p[len] == 0.
 */
#include "config.h"
#include "str.h"
#include <stdio.h>
#include <string.h>

/* Makes room for n more bytes and the NUL. */
static bool grow(struct str *s, size_t n)
{
	size_t need, cap;
	char *p;

	if (s->err != 0)
		return false;
	if (n > SIZE_MAX / 2 - 1 - s->len) {
		s->err = -ENOMEM;
		return false;
	}
	need = s->len + n + 1;
	if (need <= s->cap)
		return true;
	cap = MAX(need, s->cap + s->cap / 2);
	cap = MAX(cap, (size_t)32);
	p = realloc(s->p, cap);
	if (p == NULL) {
		s->err = -ENOMEM;
		return false;
	}
	s->p = p;
	s->cap = cap;
	return true;
}

void str_addn(struct str *s, const void *p, size_t n)
{
	if (!grow(s, n))
		return;
	if (n > 0)
		memcpy(s->p + s->len, p, n);
	s->len += n;
	s->p[s->len] = '\0';
}

void str_add(struct str *s, const char *z)
{
	str_addn(s, z, strlen(z));
}

void str_addc(struct str *s, char c)
{
	str_addn(s, &c, 1);
}

void str_addf(struct str *s, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		if (s->err == 0)
			s->err = -ENOMEM;
		return;
	}
	if (!grow(s, (size_t)n))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(s->p + s->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	s->len += (size_t)n;
}

void str_reset(struct str *s)
{
	s->len = 0;
	s->err = 0;
	if (s->p != NULL)
		s->p[0] = '\0';
}

void str_free(struct str *s)
{
	free(s->p);
	*s = (struct str){0};
}

int str_take(struct str *s, char **ret)
{
	int r;

	str_addn(s, "", 0);
	r = s->err;
	if (r < 0) {
		str_free(s);
		return r;
	}
	*ret = s->p;
	*s = (struct str){0};
	return 0;
}

const char *str_c(const struct str *s)
{
	return s->p != NULL ? s->p : "";
}

static bool is_unreserved(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
	       c == '_' || c == '~';
}

void str_add_pct(struct str *s, const char *z, size_t n, bool keep_slash)
{
	static const char digit[] = "0123456789ABCDEF";

	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)z[i];

		if (is_unreserved(c) || (keep_slash && c == '/')) {
			str_addc(s, (char)c);
		} else {
			char e[3] = {'%', digit[c >> 4], digit[c & 15]};

			str_addn(s, e, sizeof(e));
		}
	}
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

ssize_t str_pct_decode(char *s)
{
	char *out = s;

	for (const char *p = s; *p != '\0'; p++) {
		if (*p != '%') {
			*out++ = *p;
			continue;
		}
		int hi = hex_value(p[1]), lo = hi < 0 ? -1 : hex_value(p[2]);

		if (lo < 0)
			return -EINVAL;
		*out++ = (char)(hi << 4 | lo);
		p += 2;
	}
	*out = '\0';
	return out - s;
}

void str_hex(char *out, const void *p, size_t n)
{
	static const char digit[] = "0123456789abcdef";
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++) {
		*out++ = digit[b[i] >> 4];
		*out++ = digit[b[i] & 15];
	}
	*out = '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads digits at *ps, leaves *ps behind them. */
static int read_digits(const char **ps, uint64_t *ret)
{
	const char *s = *ps;
	uint64_t v = 0;

	if (!is_digit(*s))
		return -EINVAL;
	for (; is_digit(*s); s++) {
		unsigned d = (unsigned)(*s - '0');

		if (v > (UINT64_MAX - d) / 10)
			return -ERANGE;
		v = v * 10 + d;
	}
	*ps = s;
	*ret = v;
	return 0;
}

/* The rest of a size: "", "B", "K", "KB", "KiB" ... -> power of 1024. */
static int size_unit(const char *s, unsigned *ret_shift)
{
	static const char letters[] = "KMGT";
	const char *p;
	unsigned shift = 0;

	if (*s != '\0' && *s != 'B') {
		p = strchr(letters, *s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);
		if (p == NULL)
			return -EINVAL;
		shift = 10 * (unsigned)(p - letters + 1);
		s++;
		if (s[0] == 'i' && s[1] == 'B')
			s++;
	}
	if (*s == 'B')
		s++;
	if (*s != '\0')
		return -EINVAL;
	*ret_shift = shift;
	return 0;
}

int str_parse_size(const char *s, uint64_t *ret)
{
	unsigned __int128 v;
	uint64_t whole, frac = 0, scale = 1;
	unsigned shift;
	int r = read_digits(&s, &whole);

	if (r < 0)
		return r;
	if (*s == '.') {
		s++;
		if (!is_digit(*s))
			return -EINVAL;
		for (; is_digit(*s); s++)
			if (scale < 1000000000000ULL) { /* more digits are below a byte of a tebibyte */
				frac = frac * 10 + (uint64_t)(*s - '0');
				scale *= 10;
			}
	}
	r = size_unit(s, &shift);
	if (r < 0)
		return r;
	if (scale > 1 && shift == 0)
		return -EINVAL; /* a part of a byte */
	v = ((unsigned __int128)whole << shift) + (((unsigned __int128)frac << shift) / scale);
	if (v > UINT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)v;
	return 0;
}

int str_parse_age(const char *s, uint64_t *ret)
{
	static const struct {
		char letter;
		uint64_t seconds;
	} unit[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	uint64_t n, scale;
	int r = read_digits(&s, &n);

	if (r < 0)
		return r;
	scale = *s == '\0' ? 1 : 0;
	for (size_t i = 0; i < ARRAY_SIZE(unit); i++)
		if (s[0] == unit[i].letter && s[1] == '\0')
			scale = unit[i].seconds;
	if (scale == 0)
		return -EINVAL;
	if (n > UINT64_MAX / scale)
		return -ERANGE;
	*ret = n * scale;
	return 0;
}

int str_parse_u64(const char *s, uint64_t *ret)
{
	uint64_t v;
	int r = read_digits(&s, &v);

	if (r < 0)
		return r;
	if (*s != '\0')
		return -EINVAL;
	*ret = v;
	return 0;
}

int str_copy(char *dst, size_t cap, const char *src)
{
	size_t n = strlen(src);

	if (n >= cap)
		return -ENAMETOOLONG;
	memcpy(dst, src, n + 1);
	return 0;
}

/* Length of the well-formed sequence at p (Unicode 15, table 3-7), 0 when there is none. */
static size_t utf8_seq(const unsigned char *p, size_t n)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0; /* no overlong forms */
	else if (p[0] == 0xed)
		hi = 0x9f; /* no surrogates */
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f; /* nothing behind U+10FFFF */
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return len;
}

bool str_is_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	while (n > 0) {
		size_t k = utf8_seq(p, n);

		if (k == 0)
			return false;
		p += k;
		n -= k;
	}
	return true;
}

void str_make_printable(char *s)
{
	size_t n = strlen(s);

	while (n > 0) {
		unsigned char *p = (unsigned char *)s;
		size_t k = utf8_seq(p, n);
		bool control = p[0] < 0x20 || p[0] == 0x7f || (k == 2 && p[0] == 0xc2 && p[1] < 0xa0); /* C0, DEL, C1 */

		k = k == 0 ? 1 : k;
		if (control || (k == 1 && p[0] >= 0x80))
			memset(s, '?', k);
		s += k;
		n -= k;
	}
}

bool str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}
