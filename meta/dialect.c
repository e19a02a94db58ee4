/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * dialect.c - reading attributes that s3fs, rclone, AWS' file services, s3sync, gcsfuse, geesefs, blobfuse2 and s3cmd
 * have stored. Everything here takes foreign bytes: what cannot be understood is as if it were absent.
 *
 * One table: (header, field, parser), in the order of precedence. A field that was found is not looked for again, so
 * an object that two tools have touched gets each field from the first dialect in the table that has it.
 */
#include "config.h"
#include "dialect.h"

#include "objstore/base/str.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static bool valid_type(mode_t m)
{
	switch (m & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return true;
	}
	return false;
}

/* Digits of one base only, at most `max`. */
static int parse_uint(const char *s, unsigned base, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		unsigned d = (unsigned char)*s - '0';

		if (d >= base || v > (max - d) / base)
			return -EINVAL;
		v = v * base + d;
	}
	*ret = v;
	return 0;
}

static int parse_octal(const char *s, mode_t *ret)
{
	uint64_t v;
	int r = parse_uint(s, 8, 0177777, &v);

	if (r < 0)
		return r;
	if ((v & S_IFMT) && !valid_type((mode_t)v))
		return -EINVAL;
	*ret = (mode_t)v;
	return 0;
}

/*
 * s3fs writes decimal with S_IFMT, rclone octal under the same name. A leading zero or up to four digits below eight are
 * octal permissions, unless the number is large enough to be the decimal of a type: a fifo's has four digits, and what
 * we write must be what we read. Else decimal where that gives a valid type; else octal; else decimal permissions alone
 * ("493").
 */
int dialect_parse_mode(const char *s, mode_t *ret)
{
	size_t n = strlen(s);
	uint64_t v;
	bool octal_digits = strspn(s, "01234567") == n;

	if (octal_digits && n && (s[0] == '0' || n < 4 || (n == 4 && strcmp(s, "4096") < 0)))
		return parse_octal(s, ret);
	if (parse_uint(s, 10, 0177777, &v) == 0 && valid_type((mode_t)v)) {
		*ret = (mode_t)v;
		return 0;
	}
	if (octal_digits)
		return parse_octal(s, ret);
	if (parse_uint(s, 10, 07777, &v) == 0) {
		*ret = (mode_t)v;
		return 0;
	}
	return -EINVAL;
}

static int two_digits(const char *s, unsigned max, unsigned *ret)
{
	if (!isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]))
		return -EINVAL;
	*ret = (unsigned)(s[0] - '0') * 10 + (unsigned)(s[1] - '0');
	return *ret <= max ? 0 : -EINVAL;
}

/* ".5" -> 500000000; *end behind the digits. Digits beyond the ninth are cut. */
static int parse_fraction(const char *s, long *ret_ns, const char **end)
{
	long ns = 0, unit = 100000000;

	if (*s == '.' || *s == ',') {
		s++;
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		for (; isdigit((unsigned char)*s); s++, unit /= 10)
			ns += (*s - '0') * unit;
	}
	*ret_ns = ns;
	*end = s;
	return 0;
}

/* Days from 1970-01-01 of a proleptic Gregorian date: count years from March so that the leap day comes last. */
static int64_t days_from_date(int64_t y, unsigned m, unsigned d)
{
	int64_t era, yoe, doy;

	if (m <= 2)
		y--;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* RFC 3339 section 5.6: 2006-01-02T15:04:05.999999999Z or +07:00. */
static int parse_rfc3339(const char *s, struct timespec *ret)
{
	unsigned y1, y2, mon, day, hour, min, sec, oh = 0, om = 0;
	int64_t t;
	const char *end;
	long ns;
	int sign = 0;

	if (strnlen(s, 20) < 20)
		return -EINVAL;
	if (two_digits(s, 99, &y1) || two_digits(s + 2, 99, &y2) || s[4] != '-' || two_digits(s + 5, 12, &mon) ||
	    s[7] != '-' || two_digits(s + 8, 31, &day) || (s[10] != 'T' && s[10] != 't' && s[10] != ' ') ||
	    two_digits(s + 11, 23, &hour) || s[13] != ':' || two_digits(s + 14, 59, &min) || s[16] != ':' ||
	    two_digits(s + 17, 60, &sec))
		return -EINVAL;
	if (!mon || !day || parse_fraction(s + 19, &ns, &end))
		return -EINVAL;
	if ((*end == 'Z' || *end == 'z') && !end[1]) {
		sign = 1;
	} else if ((*end == '+' || *end == '-') && strlen(end) == 6 && end[3] == ':') {
		if (two_digits(end + 1, 23, &oh) || two_digits(end + 4, 59, &om))
			return -EINVAL;
		sign = *end == '+' ? 1 : -1;
	} else {
		return -EINVAL;
	}
	t = days_from_date(y1 * 100 + y2, mon, day) * 86400 + hour * 3600 + min * 60 + sec;
	ret->tv_sec = t - sign * (int64_t)(oh * 3600 + om * 60);
	ret->tv_nsec = ns;
	return 0;
}

/* A sign belongs to the whole number: -1.5 is {-2, 500000000}. */
static void apply_sign(bool negative, int64_t sec, long ns, struct timespec *ret)
{
	if (negative) {
		sec = -sec;
		if (ns) {
			sec--;
			ns = NSEC_PER_SEC - ns;
		}
	}
	ret->tv_sec = sec;
	ret->tv_nsec = ns;
}

int dialect_parse_time(const char *s, struct timespec *ret)
{
	/* Far beyond any file system's clock, and safe to multiply and negate. */
	static const uint64_t sec_max = (uint64_t)1 << 40;
	const char *p = s, *end;
	bool negative = false;
	uint64_t v = 0;
	long ns;

	if (*p == '-' || *p == '+')
		negative = *p++ == '-';
	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	if (p == s && strlen(s) >= 20 && s[4] == '-')
		return parse_rfc3339(s, ret);
	for (; isdigit((unsigned char)*p); p++) {
		unsigned d = (unsigned char)*p - '0';

		if (v > ((uint64_t)INT64_MAX - d) / 10)
			return -EINVAL;
		v = v * 10 + d;
	}
	if (!strcmp(p, "ns")) { /* AWS file services: nanoseconds since the epoch */
		apply_sign(negative, (int64_t)(v / (uint64_t)NSEC_PER_SEC), (long)(v % (uint64_t)NSEC_PER_SEC), ret);
		return 0;
	}
	if (v > sec_max || parse_fraction(p, &ns, &end) || *end)
		return -EINVAL;
	apply_sign(negative, (int64_t)v, ns, ret);
	return 0;
}

void dialect_format_time(const struct timespec *ts, char out[DIALECT_TIME_LEN])
{
	int64_t sec = ts->tv_sec;
	long ns = ts->tv_nsec;
	bool negative = sec < 0;

	if (negative && ns) {
		sec++;
		ns = NSEC_PER_SEC - ns;
	}
	snprintf(out, DIALECT_TIME_LEN, "%s%" PRIu64 ".%09ld", negative ? "-" : "",
		 negative ? (uint64_t)0 - (uint64_t)sec : (uint64_t)sec, ns);
}

static int read_mode(const char *s, struct attr *a)
{
	return dialect_parse_mode(s, &a->mode);
}

static int read_mode_octal(const char *s, struct attr *a)
{
	return parse_octal(s, &a->mode);
}

static int read_mode_decimal(const char *s, struct attr *a)
{
	uint64_t v;

	if (parse_uint(s, 10, 0177777, &v) || ((v & S_IFMT) && !valid_type((mode_t)v)))
		return -EINVAL;
	a->mode = (mode_t)v;
	return 0;
}

/* uid_t -1 means "leave as it is" to chown(2) and owns nothing. */
static int read_uid(const char *s, struct attr *a)
{
	uint64_t v;
	int r = parse_uint(s, 10, UINT32_MAX - 1, &v);

	if (!r)
		a->uid = (uid_t)v;
	return r;
}

static int read_gid(const char *s, struct attr *a)
{
	uint64_t v;
	int r = parse_uint(s, 10, UINT32_MAX - 1, &v);

	if (!r)
		a->gid = (gid_t)v;
	return r;
}

static int read_rdev(const char *s, struct attr *a)
{
	uint64_t v;
	int r = parse_uint(s, 10, UINT64_MAX, &v);

	if (!r)
		a->rdev = (dev_t)v;
	return r;
}

static int read_mtime(const char *s, struct attr *a)
{
	return dialect_parse_time(s, &a->mtime);
}

static int read_ctime(const char *s, struct attr *a)
{
	return dialect_parse_time(s, &a->ctime);
}

static int read_atime(const char *s, struct attr *a)
{
	return dialect_parse_time(s, &a->atime);
}

/* A flag that makes a symlink of an object whose mode nobody gave. */
static int read_link_flag(const char *s, struct attr *a)
{
	if (strcmp(s, "true"))
		return -EINVAL;
	a->mode = S_IFLNK | 0777;
	return 0;
}

static int read_link_target(const char *s, struct attr *a)
{
	if (!*s)
		return -EINVAL;
	a->mode = S_IFLNK | 0777;
	return 0;
}

#define HDR_LINK_GEESEFS META_PREFIX "--symlink-target"
#define HDR_LINK_GCSFUSE META_PREFIX "gcsfuse_symlink_target"

/* own: our spelling; keep: not an attribute alone, so never dropped. */
static const struct spelling {
	const char *name;
	unsigned field;
	bool own, keep;
	int (*read)(const char *s, struct attr *a);
} spellings[] = {
	{META_PREFIX "mode", ATTR_MODE, true, false, read_mode},
	{META_PREFIX "uid", ATTR_UID, true, false, read_uid},
	{META_PREFIX "gid", ATTR_GID, true, false, read_gid},
	{META_PREFIX "rdev", ATTR_RDEV, true, false, read_rdev},
	{META_PREFIX "mtime", ATTR_MTIME, true, false, read_mtime},
	{META_PREFIX "ctime", ATTR_CTIME, true, false, read_ctime},
	{META_PREFIX "atime", ATTR_ATIME, true, false, read_atime},
	/* FSx for Lustre, DataSync, File Gateway */
	{META_PREFIX "file-permissions", ATTR_MODE, false, false, read_mode_octal},
	{META_PREFIX "file-owner", ATTR_UID, false, false, read_uid},
	{META_PREFIX "file-group", ATTR_GID, false, false, read_gid},
	{META_PREFIX "file-mtime", ATTR_MTIME, false, false, read_mtime},
	{META_PREFIX "file-atime", ATTR_ATIME, false, false, read_atime},
	/* s3sync */
	{META_PREFIX "permissions", ATTR_MODE, false, false, read_mode_decimal},
	{META_PREFIX "owner", ATTR_UID, false, false, read_uid},
	{META_PREFIX "group", ATTR_GID, false, false, read_gid},
	/* gsutil, gcsfuse */
	{META_PREFIX "goog-reserved-posix-mode", ATTR_MODE, false, false, read_mode_octal},
	{META_PREFIX "goog-reserved-posix-uid", ATTR_UID, false, false, read_uid},
	{META_PREFIX "goog-reserved-posix-gid", ATTR_GID, false, false, read_gid},
	{META_PREFIX "goog-reserved-file-mtime", ATTR_MTIME, false, false, read_mtime},
	{META_PREFIX "goog-reserved-file-atime", ATTR_ATIME, false, false, read_atime},
	{META_PREFIX "gcsfuse_mtime", ATTR_MTIME, false, false, read_mtime},
	{META_PREFIX "goog-reserved-file-is-symlink", ATTR_MODE, false, true, read_link_flag},
	{HDR_LINK_GCSFUSE, ATTR_MODE, false, true, read_link_target},
	/* geesefs, tigrisfs */
	{HDR_LINK_GEESEFS, ATTR_MODE, false, true, read_link_target},
	/* blobfuse2 */
	{META_PREFIX "is_symlink", ATTR_MODE, false, true, read_link_flag},
};

/* s3cmd: one header, "atime:1/ctime:2/gid:0/gname:root/md5:.../mode:33188/mtime:3/uid:0/uname:root". */
static void read_s3cmd(const struct obj_headers *h, struct attr *a)
{
	const char *s = obj_headers_get(h, META_PREFIX "s3cmd-attrs");
	char item[64];

	while (s && *s) {
		size_t n = strcspn(s, "/");
		const char *colon = memchr(s, ':', n);

		if (colon && n < sizeof(item)) {
			size_t klen = (size_t)(colon - s);

			memcpy(item, s, n);
			item[n] = '\0';
			item[klen] = '\0';
			for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
				const struct spelling *sp = &spellings[i];

				if (!sp->own || (a->have & sp->field) || strcmp(sp->name + strlen(META_PREFIX), item))
					continue;
				if (sp->read(item + klen + 1, a) == 0)
					a->have |= sp->field;
			}
		}
		s += n + (s[n] == '/');
	}
}

void dialect_read(const struct obj_headers *h, struct attr *a)
{
	unsigned had = a->have;

	for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
		const struct spelling *sp = &spellings[i];
		const char *v;

		/* A target in a header outranks a mode that forgot the type, not one that names another. */
		if (sp->keep && (a->have & ATTR_MODE) && !(had & ATTR_MODE) && !(a->mode & S_IFMT)) {
			struct attr link = *a;

			v = obj_headers_get(h, sp->name);
			if (v && sp->read(v, &link) == 0)
				a->mode |= S_IFLNK;
			continue;
		}
		if (a->have & sp->field)
			continue;
		v = obj_headers_get(h, sp->name);
		if (v && sp->read(v, a) == 0)
			a->have |= sp->field;
	}
	read_s3cmd(h, a);
}

int dialect_clean(struct obj_headers *h)
{
	for (size_t i = 0; i < ARRAY_SIZE(spellings); i++) {
		const struct spelling *sp = &spellings[i];
		int r;

		if (sp->own || sp->keep || !obj_headers_get(h, sp->name))
			continue;
		r = obj_headers_set(h, sp->name, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

int dialect_symlink_target(const struct obj_headers *h, char **ret)
{
	const char *v = obj_headers_get(h, HDR_LINK_GEESEFS);
	char *s;

	if (!v || !*v)
		v = obj_headers_get(h, HDR_LINK_GCSFUSE);
	if (!v || !*v)
		return -ENOENT;
	s = strdup(v);
	if (!s)
		return -ENOMEM;
	/* geesefs percent-escapes values; one that does not decode, or to a NUL, is meant as it stands. */
	if (strchr(s, '%')) {
		ssize_t n = str_pct_decode(s);

		if (n < 0 || memchr(s, '\0', (size_t)n)) {
			free(s);
			s = strdup(v);
			if (!s)
				return -ENOMEM;
		}
	}
	*ret = s;
	return 0;
}
