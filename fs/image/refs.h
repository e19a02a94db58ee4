/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * refs.h - references of clones to snapshots (PROTOCOL.md 3, C4): who they are, and those that nobody needs any more.
 *
 * A reference keeps its snapshot for ever. It may go when the clone's log says that it is `dead` or `flat`, or when there will
 * never be a log: an empty object, created if absent under the number of the clone's create record (a tombstone), and `dead`
 * beside it. Then even a create record that is under way since long ago is refused.
 */
#ifndef LSVD_IMAGE_REFS_H
#define LSVD_IMAGE_REFS_H

#include "logobj.h"

struct image_ref {
	uint64_t snapshot;
	uint8_t clone[16];
	int64_t time_s; /* when it was put, as the store says */
};
/* Those in the log at `prefix`, to be freed. */
int must_check image_refs(struct objstore *s, const char *prefix, struct image_ref **ret, size_t *ret_n,
			  struct objerr *err);
enum ref_state {
	REF_NEEDED,
	REF_DEAD,   /* the clone was deleted */
	REF_FLAT,   /* ... was flattened */
	REF_UNBORN, /* ... has no log, yet */
};
int must_check image_ref_state(struct objstore *s, const char *prefix, const struct image_ref *ref,
			       enum ref_state *ret, struct objerr *err);
/*
 * Makes sure that it is so for ever, and drops the reference. -EBUSY: of REF_UNBORN, the clone came meanwhile; -EINVAL:
 * REF_NEEDED.
 */
int must_check image_ref_drop(struct objstore *s, const char *prefix, const struct image_ref *ref, enum ref_state state,
			      struct objerr *err);
/* What the clone was called when it was made, to be freed; NULL: nobody said. */
int must_check image_ref_name(struct objstore *s, const char *prefix, const struct image_ref *ref, char **ret,
			      struct objerr *err);

#endif
