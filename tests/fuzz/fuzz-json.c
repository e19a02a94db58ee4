/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-json.c - what a credential_process or the metadata service prints. What is taken can go into a header. */
#include "config.h"
#include "objstore/creds.h"

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
	struct creds_keys k = {.gen = 0};
	int r = creds_parse_json(data, size, &k);

	if (r == 0) {
		check_token(k.access);
		check_token(k.secret);
		if (k.token != NULL)
			check_token(k.token);
	} else if (r != -EBADMSG || k.access != NULL) {
		abort();
	}
	creds_keys_wipe(&k);
	return 0;
}
