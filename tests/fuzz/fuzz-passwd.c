/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-passwd.c - password files. What is taken can go into a header as it is, and no half of it is empty. */
#include "config.h"
#include "objstore/creds.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_token(const char *s)
{
	if (*s == '\0')
		abort();
	for (; *s != '\0'; s++)
		if (*s <= 0x20 || *s >= 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const buckets[] = {"b", "bucket", NULL};

	for (size_t i = 0; i < ARRAY_SIZE(buckets); i++) {
		struct creds_keys k = {.gen = 0};
		unsigned line = 0;
		int r = creds_parse_passwd(data, size, buckets[i], &k, &line);

		if (r == 0) {
			check_token(k.access);
			check_token(k.secret);
			if (strchr(k.secret, ':') != NULL || k.token != NULL)
				abort();
		} else if (k.access != NULL || (r == -EBADMSG) != (line > 0) || (r != -EBADMSG && r != -ENOENT)) {
			abort();
		}
		creds_keys_wipe(&k);
	}
	return 0;
}
