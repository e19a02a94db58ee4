/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * path.h - names and keys. A directory is named by its `dir` string: "" for the mounted root, else "a/b/" (relative to
 * the mount prefix, ends in '/'). Names are bytes; what is not UTF-8 cannot be a key.
 */
#ifndef LSVD_PATH_H
#define LSVD_PATH_H

#include "objstore/base/base.h"

#define PATH_NAME_MAX 255
#define PATH_RESERVED ".lsvd" /* ours at every level */

/* May `name` be made or looked up? 0, -EPERM (reserved), -ENAMETOOLONG, -EILSEQ (not UTF-8), -EINVAL ("", ".", "..", '/'). */
int must_check path_check_name(const char *name);
/* The same for a name that is there: also "NAME~object" (tree.h) of a NAME that is long enough itself. */
int must_check path_check_shown(const char *name);
/* Can a path name this component of a foreign key? (no "", ".", "..", NUL, over 255 bytes, reserved, non UTF-8) */
bool path_component_ok(const char *s, size_t n);
/* prefix + dir + name (+ '/') -> key; -ENAMETOOLONG beyond OBJ_KEY_MAX, -ENOMEM. */
int must_check path_key(const char *prefix, const char *dir, const char *name, bool is_dir, char **ret);
/* dir + name + '/' -> dir string of a sub-directory. */
int must_check path_subdir(const char *dir, const char *name, char **ret);
/* Colon-separated globs (fnmatch per component, '*' does not cross '/', '**' does) against a relative path. */
bool path_glob_match(const char *globs, const char *path);

#endif
