/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Copies of objects that are too large for one CopyObject (5 GiB on AWS): by UploadPartCopy. */
#include "objstore.h"
#include "base/str.h"
#include <string.h>

#define COPY_PART (1 * GiB)

static int copy_parts(struct objstore *s, const char *src, const char *etag, uint64_t size, const char *dst,
		      const char *upload, uint64_t step, struct obj_part *parts, struct objerr *err)
{
	size_t n = 0;

	for (uint64_t off = 0; off < size; off += step, n++) {
		struct objreq req;
		int r;

		objreq_init(&req, OBJ_MPU_COPY_PART, dst);
		req.src_key = src;
		req.src_if_match = obj_caps(s) & OBJ_CAP_COPY_SRC ? etag : NULL;
		req.off = off;
		req.len = MIN(step, size - off);
		req.upload_id = upload;
		req.part = (unsigned)n + 1;
		r = obj_do(s, &req);
		if (r < 0)
			*err = req.err;
		parts[n].number = req.part;
		memcpy(parts[n].etag, req.etag, sizeof parts[n].etag);
		objreq_done(&req);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where the store does not promise that the parts are of one version: is the source still that one? */
static int check_source(struct objstore *s, const char *src, const char *etag, struct objerr *err)
{
	struct objreq req;
	int r;

	if (obj_caps(s) & OBJ_CAP_COPY_SRC)
		return 0;
	r = obj_head(s, src, &req);
	if (r < 0)
		*err = req.err;
	else if (strcmp(req.etag, etag) != 0)
		r = -ESTALE;
	objreq_done(&req);
	return r;
}

int obj_copy_large(struct objstore *s, const char *src, const char *etag, uint64_t size, const char *dst,
		   char *ret_etag, struct objerr *err)
{
	uint64_t step = MAX(COPY_PART, (size / 9000 + MiB) & ~(MiB - 1));
	size_t n = (size_t)((size + step - 1) / step);
	struct obj_part *parts = calloc(n, sizeof *parts);
	struct obj_headers h = { 0 };
	_cleanup_free_ char *upload = NULL;
	char nonce[OBJ_NONCE_LEN + 1];
	struct objreq req;
	int r = parts ? 0 : -ENOMEM;

	if (r == 0) { /* an upload takes no headers over by itself */
		r = obj_head(s, src, &req);
		if (r == 0 && strcmp(req.etag, etag) != 0)
			r = -ESTALE;
		if (r == 0)
			r = obj_headers_copy(&h, &req.ret_headers);
		else
			*err = req.err;
		objreq_done(&req);
	}
	if (r == 0) {
		objreq_init(&req, OBJ_MPU_CREATE, dst);
		req.headers = &h;
		r = obj_do(s, &req);
		if (r < 0)
			*err = req.err;
		upload = req.ret_upload_id;
		req.ret_upload_id = NULL;
		memcpy(nonce, req.nonce, sizeof nonce);
		objreq_done(&req);
	}
	if (r == 0)
		r = copy_parts(s, src, etag, size, dst, upload, step, parts, err);
	if (r == 0)
		r = check_source(s, src, etag, err);
	if (r == 0) {
		objreq_init(&req, OBJ_MPU_COMPLETE, dst);
		req.upload_id = upload;
		memcpy(req.nonce, nonce, sizeof req.nonce);
		req.parts = parts;
		req.nparts = n;
		r = obj_do(s, &req);
		if (r < 0)
			*err = req.err;
		else
			memcpy(ret_etag, req.etag, OBJ_ETAG_MAX);
		objreq_done(&req);
	}
	if (r < 0 && upload) {
		objreq_init(&req, OBJ_MPU_ABORT, dst);
		req.upload_id = upload;
		ignore(obj_do(s, &req)); /* the first error counts */
		objreq_done(&req);
	}
	obj_headers_free(&h);
	free(parts);
	return r;
}
