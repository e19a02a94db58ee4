/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-creds.c - password files, AWS profile files, and the JSON of a credential_process or the metadata service. What is
 * taken can go into a header as it is; nothing of a failure is left behind; no half of a pair is empty.
 */
#include "config.h"
#include "fuzz.h"
#include "objstore/creds.h"

static void check_token(const char *s)
{
	check(*s);
	for (; *s; s++)
		check(*s > 0x20 && *s < 0x7f);
}

static void check_optional(const char *s)
{
	if (s) {
		check_token(s);
		check(creds_is_token(s));
	}
}

static void passwd(const uint8_t *data, size_t size)
{
	static const char *const buckets[] = {"b", "bucket", NULL};

	for (size_t i = 0; i < ARRAY_SIZE(buckets); i++) {
		struct creds_keys k = {.gen = 0};
		unsigned line = 0;
		int r = creds_parse_passwd(data, size, buckets[i], &k, &line);

		if (r == 0) {
			check_token(k.access);
			check_token(k.secret);
			check(!strchr(k.secret, ':') && !k.token);
		} else {
			check(!k.access && (r == -EBADMSG) == (line > 0) && (r == -EBADMSG || r == -ENOENT));
		}
		creds_keys_wipe(&k);
	}
}

static void profile(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"default", "work", ""};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(names); i++) {
		struct creds_profile p = {.found = false};
		unsigned line = 0;
		int r = creds_parse_profile(data, size, names[i / 2], i % 2 == 1, &p, &line);

		check_optional(p.keys.access);
		check_optional(p.keys.secret);
		check_optional(p.keys.token);
		check_optional(p.region);
		check(p.found || (!p.keys.access && !p.region && !p.process && !p.unsupported));
		check((r == 0) == (line == 0) && (r == 0 || r == -EBADMSG));
		creds_profile_wipe(&p);
	}
}

static void json(const uint8_t *data, size_t size)
{
	struct creds_keys k = {.gen = 0};
	int r = creds_parse_json(data, size, &k);

	if (r == 0) {
		check_token(k.access);
		check_token(k.secret);
		check_optional(k.token);
	} else {
		check(r == -EBADMSG && !k.access);
	}
	creds_keys_wipe(&k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	passwd(data, size);
	profile(data, size);
	json(data, size);
	return 0;
}
