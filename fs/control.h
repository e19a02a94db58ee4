/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * control.h - the socket of a running mount, and its client side.
 *
 * RUNDIR/MAJOR:MINOR.sock (mode 0600), RUNDIR = /run/lsvdfs for root, for others $XDG_RUNTIME_DIR/lsvdfs or, without one,
 * /tmp/lsvdfs-UID; commands look at both and at /run/user/UID/lsvdfs, and believe only who mounted. One JSON object a
 * line each way: {"cmd":"status"} -> {"ok":true, ...}; on failure {"ok":false,"error":"one line"}.
 *   status                          everything that `lsvdfs status` shows
 *   drain                           upload all dirty data and waiting metadata, then answer
 *   retry  slot, id, force          parked bytes once more
 *   log    level                    error, warn, info, debug
 *   image  do, path                 forget (names of its directory), upload, claim, and those with a name: an image, by its path below the root
 *   hold                            answers, then keeps the connection until the process ends
 */
#ifndef LSVD_CONTROL_H
#define LSVD_CONTROL_H

#include "mount.h"
#include "objstore/base/log.h"
#include <jansson.h>

/* Server. The mount must be complete and outlive it. Words in err. */
int must_check control_start(struct mount *m, struct control **ret, struct objerr *err);
void control_stop(struct control *c); /* ends connections, removes the socket; NULL is fine */

/* The document of `status`. NULL: out of memory. */
json_t *control_status(struct mount *m);

/* What one line asks for. Strings point into doc, which the caller drops. */
struct control_request {
	enum control_cmd { CONTROL_STATUS, CONTROL_DRAIN, CONTROL_RETRY, CONTROL_LOG, CONTROL_HOLD, CONTROL_IMAGE } cmd;
	enum log_level level; /* log */
	unsigned slot;	      /* retry, with all that follows */
	uint64_t id;
	bool force;
	const char *path; /* may be NULL; image: not */
	const char *verb, *name; /* image; name: of a snapshot, or NULL */
	json_t *doc;
};
/* -EINVAL: no request; -EOPNOTSUPP: no command that we know. *ret is untouched then. */
int must_check control_parse(const char *line, size_t n, struct control_request *ret);

/* Client: the socket of the mount at point. -ENOENT, -ECONNREFUSED: no daemon; -EACCES: not ours. */
int must_check control_connect(const struct mntpoint *point, int *ret_fd);
/* Sends one object (stolen) and waits for the answer; timeout_ms < 0: for ever; idle (may be NULL) is called each
 * second meanwhile. -ETIMEDOUT, -EPIPE: the daemon went away; -EREMOTEIO: it refused, its words in err. */
int must_check control_ask(int fd, json_t *take_req, int timeout_ms, void (*idle)(void *arg), void *arg, json_t **ret,
			   struct objerr *err);

#endif
