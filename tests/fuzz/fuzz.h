/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz.h - what the fuzz targets share: a check that stays when assertions are off, and taking an input apart. */
#ifndef LSVD_TESTS_FUZZ_H
#define LSVD_TESTS_FUZZ_H

#include "objstore/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define check(cond)                                                                      \
	do {                                                                             \
		if (!(cond)) {                                                           \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                         \
		}                                                                        \
	} while (0)

struct input {
	const char *p;
	size_t n;
};

static inline unsigned char take_byte(struct input *in)
{
	if (in->n == 0)
		return 0;
	in->n--;
	return (unsigned char)*in->p++;
}

/* Up to the next newline, which goes, or all of it; cut at a NUL. To be freed. */
static inline char *take_line(struct input *in)
{
	const char *nl = in->n ? memchr(in->p, '\n', in->n) : NULL;
	size_t n = nl ? (size_t)(nl - in->p) : in->n;
	char *z = strndup(in->n ? in->p : "", n);

	check(z);
	n += nl != NULL;
	in->p += n;
	in->n -= n;
	return z;
}

static inline bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

#endif
