/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * failpoint.h - named places where a crash test kills the process.
 *
 * Debug builds: LSVD_FAILPOINT="name[:count]" makes the count-th passage (default the first) raise SIGKILL;
 * LSVD_FAILPOINT_LIST=FILE appends each name to FILE at its first passage, so that a test can enumerate them. Both are
 * read once. Other builds: the macro is empty.
 */
#ifndef LSVD_FAILPOINT_H
#define LSVD_FAILPOINT_H

#include "base.h"

#ifdef LSVD_DEBUG
void failpoint_hit(const char *name);
/* Tests in one process: takes the place of the environment (NULL: none), counting starts again. */
void failpoint_arm(const char *spec);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) ((void)0)
#endif

#endif
