/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-rows.c - the header blob of a row: whatever decodes is encoded to the same set again. The other half of the input
 * goes to what judges names and globs.
 */
#include "config.h"
#include "meta/path.h"
#include "objstore/objstore.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_blob(const uint8_t *data, size_t size)
{
	struct obj_headers h = {}, again = {};
	void *blob;
	size_t n;

	if (obj_headers_decode(data, size, &h))
		return;
	if (obj_headers_encode(&h, &blob, &n) || obj_headers_decode(blob, n, &again) || !obj_headers_equal(&h, &again))
		abort();
	free(blob);
	obj_headers_free(&h);
	obj_headers_free(&again);
}

static void fuzz_names(const uint8_t *data, size_t size)
{
	char *s = strndup((const char *)data, size), *glob, *key;
	size_t n;

	if (!s)
		abort();
	n = strlen(s);
	/* What can be made is shown, and the other way round. */
	if ((path_check_name(s) == 0) != path_component_ok(s, n))
		abort();
	if (!path_key("p/", "d/", s, true, &key)) {
		if (strlen(key) > OBJ_KEY_MAX)
			abort();
		free(key);
	}
	glob = s + n / 2;
	if (n < 512)
		(void)path_glob_match(glob, s);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_blob(data, size);
	fuzz_names(data, size);
	return 0;
}
