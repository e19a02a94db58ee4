/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * options.h - what the user asked for: the `-o` options of a mount and of every command that opens a source.
 *
 * One table (options.c) drives parsing, --help and the test that the manual page names each option. An option that
 * does nothing is not in the table: it is refused by name, as any unknown one.
 */
#ifndef LSVD_OPTIONS_H
#define LSVD_OPTIONS_H

#include "meta/attr.h"
#include "objstore/base/log.h"
#include "objstore/base/str.h"
#include "objstore/objstore.h"
#include <stdio.h>

struct options {
	char *source, *dir; /* owned; dir is absolute once mount_point_check() saw it */

	/* the store */
	char *endpoint, *region, *profile, *passwd_file, *ca_file, *storage_class, *sse; /* owned, NULL = not given */
	bool path_style, no_sign, requester_pays;
	unsigned connections;
	int64_t retry_ns; /* wait so long for the store at mount */

	/* the view */
	bool read_only, allow_other, default_permissions;
	struct attr_defaults def;

	/* directories on this node; filled with the defaults by options_finish() */
	char *state_dir, *cache_dir;

	/* promises */
	int64_t attr_timeout_ns, open_trust_ns;
	char *excl;
	bool async_close, require_conditional, nolock_error;

	/* disk images */
	char *images, *fsync_word, *takeover_word; /* owned; NULL = not given */
	bool fsync_remote;			   /* from the words, by options_finish() */
	int takeover;				   /* enum vol_takeover */
	int64_t claim_wait_ns, dirty_age_ns;
	uint64_t journal_size, cache_size, retain_s;

	/* effort */
	uint64_t memory, part_size;
	enum log_level log_level;

	struct str kernel; /* "nosuid,noexec": for the kernel, as given */
	bool sloppy;	   /* mount -s: unknown options are passed over */
};

/* Defaults of the man page. options_done() frees the contents. -ENOMEM. */
int must_check options_init(struct options *o);
void options_done(struct options *o);
/*
 * Parses a list "a,b=c,d" (a comma inside a value is written "\,"); later ones win. -EINVAL with one line in err that
 * names the option. -ENOMEM.
 */
int must_check options_parse(struct options *o, const char *list, struct objerr *err);
/*
 * Cross checks and defaults that need the environment: directories, modes of passwd_file, sizes that contradict each
 * other. -EINVAL, -EPERM (passwd_file), -ENOENT; words in err.
 */
int must_check options_finish(struct options *o, struct objerr *err);
/* Borrowed views of o. */
void options_open_opts(const struct options *o, struct budget *budget, struct obj_open_opts *ret);

/* Those that say where the store is and how to talk to it, as a list for options_parse(). No secrets. -ENOMEM. */
int must_check options_store_list(const struct options *o, char **ret);

/* The table, for --help and the test of the manual page. Names of flags have no '=', others end in "=ARG". */
size_t options_count(void);
const char *options_name(size_t i); /* "endpoint" */
void options_help(FILE *f);

#endif
