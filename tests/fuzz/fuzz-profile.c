/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-profile.c - AWS credentials and config files. What is taken can go into a header; nothing comes from elsewhere. */
#include "config.h"
#include "objstore/creds.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_token(const char *s)
{
	if (s == NULL)
		return;
	if (*s == '\0')
		abort();
	for (; *s != '\0'; s++)
		if (*s <= 0x20 || *s >= 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"default", "work", ""};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(names); i++) {
		struct creds_profile p = {.found = false};
		unsigned line = 0;
		int r = creds_parse_profile(data, size, names[i / 2], i % 2 == 1, &p, &line);

		check_token(p.keys.access);
		check_token(p.keys.secret);
		check_token(p.keys.token);
		check_token(p.region);
		if (!p.found && (p.keys.access != NULL || p.region != NULL || p.process != NULL || p.unsupported))
			abort();
		if ((r == 0) != (line == 0) || (r != 0 && r != -EBADMSG))
			abort();
		creds_profile_wipe(&p);
	}
	return 0;
}
