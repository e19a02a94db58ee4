/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * nodetab.h - nodeid -> (parent, name, kind, st_ino, version), kept outside the heap in a mapped file, so that a process
 * that takes over a live mount can rebuild every node that the kernel knows.
 *
 * nodeid = slot + (use count << 32): slots are used again, nodeids never repeat. Not thread-safe: the caller's lock.
 */
#ifndef LSVD_NODETAB_H
#define LSVD_NODETAB_H

#include "meta/tree.h"

struct nodetab;

int must_check nodetab_open(const char *path, struct nodetab **ret); /* a new, empty table */
void nodetab_close(struct nodetab *t);
/* A new nodeid (never 0 or 1). -ENOSPC, -ENOMEM. */
int must_check nodetab_new(struct nodetab *t, uint64_t *ret_id);
void nodetab_set(struct nodetab *t, uint64_t id, uint64_t parent, const char *name, bool is_dir, uint64_t ino);
void nodetab_set_version(struct nodetab *t, uint64_t id, const struct version *v);
void nodetab_del(struct nodetab *t, uint64_t id);

#endif
