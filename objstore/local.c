/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"
#include "objstore.h"
int store_file_new(const char *path, struct objstore **ret, struct objerr *err)
{
	objerr_set(err, "file:// is not there yet");
	return -ENOTSUP;
}
