/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * capsfile.h - what a probe found out about a store, remembered in cache_dir for a day. One line:
 *
 *   "3 CAPS QUIRKS SECONDS CRC\n"   (CRC-32C of what stands before it, in hex)
 *
 * A capability that the store does not have would cost somebody's write, so one flipped bit must mean "ask again".
 */
#ifndef LSVD_CAPSFILE_H
#define LSVD_CAPSFILE_H

#include "objstore/base/str.h"

#define CAPS_AGE_S (24 * 3600) /* capabilities are asked again once a day */

struct caps_found {
	unsigned caps, quirks;
	int64_t time_s;
};
/* Appends the line; look at out->err. */
void capsfile_format(const struct caps_found *f, struct str *out);
/* -EBADMSG on anything but such a line. */
int must_check capsfile_parse(const char *text, struct caps_found *ret);

/* The same in a file: -ENOENT ...; written complete or not at all. */
int must_check capsfile_read(const char *path, struct caps_found *ret);
int must_check capsfile_write(const char *path, const struct caps_found *f);

#endif
