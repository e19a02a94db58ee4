/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * localmpu.c - multipart uploads of the file:// store.
 *
 * An upload is the directory .lsvd/mpu/<id>: a file "upload" (JSON: key, time, headers) and one file per part, named by
 * its five-digit number. The directory is made complete in tmp and renamed into place; it is removed head first, so an
 * upload without its head is none, and the next start clears it away. COMPLETE and ABORT hold a flock on the directory;
 * it is taken before a path's lock, never after.
 * A part is durable when its PUT is answered: who resumes an upload after a crash relies on it.
 */
#include "config.h"
#include "local-private.h"
#include "base/clock.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define HEAD "upload"
#define HEAD_MAX (256 * 1024)

void local_upload_done(struct local_upload *u)
{
	free(u->key);
	obj_headers_free(&u->headers);
	*u = (struct local_upload){0};
}

static bool id_ok(const char *id)
{
	return strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32;
}

static int no_upload(struct objreq *req)
{
	objerr_set(&req->err, "%s: no such upload", req->key);
	(void)snprintf(req->err.code, sizeof(req->err.code), "NoSuchUpload");
	return -ENOENT;
}

static int read_upload(const json_t *j, struct local_upload *u)
{
	const char *key = json_string_value(json_object_get(j, "key"));

	if (key == NULL)
		return -EBADMSG;
	u->mtime_s = json_integer_value(json_object_get(j, "time"));
	u->key = strdup(key);
	if (u->key == NULL)
		return -ENOMEM;
	/* Coded as a header value: keys may hold what JSON cannot. */
	if (str_pct_decode(u->key) < 0)
		return -EBADMSG;
	return local_headers_from_json(json_object_get(j, "headers"), &u->headers);
}

int local_upload_parse(const char *p, size_t n, struct local_upload *ret)
{
	struct local_upload u = {0};
	json_t *j = json_loadb(p, n, 0, NULL);
	int r = j != NULL ? read_upload(j, &u) : -EBADMSG;

	json_decref(j);
	if (r < 0)
		local_upload_done(&u);
	else
		*ret = u;
	return r;
}

/* -ENOENT: no upload (any more). */
static int read_head(int dir, struct local_upload *ret)
{
	_cleanup_close_ int fd = openat(dir, HEAD, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) != 0)
		return local_sys();
	if (st.st_size > HEAD_MAX)
		return -EBADMSG;
	text = malloc((size_t)st.st_size + 1);
	if (text == NULL)
		return -ENOMEM;
	r = base_pread_all(fd, text, (size_t)st.st_size, 0);
	return r < 0 ? r : local_upload_parse(text, (size_t)st.st_size, ret);
}

static int write_head(int dir, const char *key, const struct obj_headers *h)
{
	_cleanup_close_ int fd = -1;
	struct str k = {0};
	json_t *headers, *j;
	char *text;
	int r = local_headers_to_json(h, &headers);

	if (r < 0)
		return r;
	str_add_pct(&k, key, strlen(key), true);
	j = json_pack("{s:s,s:I,s:o}", "key", str_c(&k), "time", (json_int_t)(clock_real_ns() / NSEC_PER_SEC),
		      "headers", headers);
	r = k.err;
	str_free(&k);
	text = j != NULL && r == 0 ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (text == NULL)
		return -ENOMEM;
	fd = openat(dir, HEAD, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	r = fd < 0 ? local_sys() : base_pwrite_all(fd, text, strlen(text), 0);
	free(text);
	return r < 0 ? r : local_fsync(fd);
}

/* Opens an upload and reads its head; lock: holds it against COMPLETE and ABORT. */
static int open_upload(struct local *l, struct objreq *req, bool lock, int *ret_dir, struct local_upload *ret)
{
	_cleanup_close_ int dir = -1;
	struct local_upload u = {0};
	struct str path = {0};
	int r;

	if (!id_ok(req->upload_id))
		return no_upload(req);
	str_add(&path, LOCAL_MPU "/");
	str_add(&path, req->upload_id);
	r = path.err < 0 ? path.err : local_open_dir(l->root, path.p, &dir);
	str_free(&path);
	while (r == 0 && lock && flock(dir, LOCK_EX) != 0)
		r = errno == EINTR ? 0 : local_sys();
	if (r == 0)
		r = read_head(dir, &u); /* under the lock: gone when somebody was quicker */
	if (r == 0 && strcmp(u.key, req->key) != 0)
		r = -ENOENT;
	if (r == -ENOENT) {
		local_upload_done(&u);
		return no_upload(req);
	}
	if (r < 0)
		return r;
	*ret_dir = dir;
	dir = -1;
	*ret = u;
	return 0;
}

static int open_mpu_dir(struct local *l, int *ret_fd)
{
	return local_open_dir(l->root, LOCAL_MPU, ret_fd);
}

int local_mpu_create(struct local *l, struct objreq *req)
{
	_cleanup_close_ int fd = -1, tmp = -1, mpu = -1;
	char name[LOCAL_TMP_NAME] = "";
	struct obj_headers h = {0};
	struct local_name n = {0};
	char *id = NULL;
	int r = local_name_parse(req->key, &n, &req->err);

	if (r == 0 && n.marker) {
		objerr_set(&req->err, "%s: a directory cannot hold the bytes of a key that ends in '/'", req->key);
		r = -EISDIR;
	}
	local_name_done(&n);
	if (r == 0)
		r = local_make_room(l, &req->err);
	if (r == 0)
		r = store_put_headers(req, &h);
	if (r == 0)
		r = local_tmp_dir(l, name, &fd);
	if (r == 0)
		r = write_head(fd, req->key, &h);
	if (r == 0)
		r = local_fsync(fd);
	if (r == 0)
		r = local_open_dir(l->root, LOCAL_TMP, &tmp);
	if (r == 0)
		r = local_open_room(l, LOCAL_MPU, &mpu);
	if (r == 0) {
		id = strdup(name); /* 128 random bits: no other upload has them, so the rename replaces nothing */
		r = id == NULL ? -ENOMEM : renameat(tmp, name, mpu, name) == 0 ? 0 : local_sys();
	}
	if (r == 0)
		r = local_fsync(mpu);
	if (r == 0) {
		req->ret_upload_id = id;
		id = NULL;
	} else if (name[0] != '\0') {
		local_tmp_remove(l, name);
	}
	free(id);
	obj_headers_free(&h);
	return r;
}

static int copy_part(struct local *l, struct objreq *req, int fd)
{
	_cleanup_close_ int src = -1;
	struct local_meta m = {0};
	uint64_t n = 0;
	int r = local_open_source(l, req, &m, &src);

	if (r == 0 && (req->off > m.size || (req->len != OBJ_WHOLE && req->len > m.size - req->off))) {
		objerr_set(&req->err, "the range to copy ends behind %s", req->src_key);
		r = -ERANGE;
	}
	if (r == 0) {
		n = req->len == OBJ_WHOLE ? m.size - req->off : req->len;
		r = n == 0 ? 0 : local_copy_bytes(src, req->off, n, fd, 0);
	}
	if (r == 0 || r == -ENODATA) {
		int c = local_check_unchanged(req, &m, src);

		r = c < 0 ? c : r;
	}
	local_meta_done(&m);
	return r;
}

int local_mpu_part(struct local *l, struct objreq *req)
{
	_cleanup_close_ int dir = -1, fd = -1, tmp = -1;
	char name[LOCAL_TMP_NAME] = "", part[16];
	struct local_upload u = {0};
	int r = local_make_room(l, &req->err);

	if (r == 0)
		r = open_upload(l, req, false, &dir, &u);
	local_upload_done(&u);
	if (r == 0)
		r = local_tmp_file(l, name, &fd);
	if (r == 0)
		r = req->op == OBJ_MPU_PART ? local_write_iov(fd, req) : copy_part(l, req, fd);
	if (r == 0)
		r = local_meta_write(fd, NULL, 0, req);
	if (r == 0)
		r = local_fsync(fd);
	if (r == 0)
		r = local_open_dir(l->root, LOCAL_TMP, &tmp);
	if (r == 0) {
		(void)snprintf(part, sizeof(part), "%05u", req->part);
		if (renameat(tmp, name, dir, part) != 0)
			r = errno == ENOENT ? no_upload(req) : local_sys(); /* aborted meanwhile */
	}
	if (r == 0)
		r = local_fsync(dir);
	else if (name[0] != '\0')
		local_tmp_remove(l, name);
	return r;
}

static int bad_part(struct objreq *req, unsigned number, const char *what)
{
	objerr_set(&req->err, "%s: part %u %s", req->key, number, what);
	(void)snprintf(req->err.code, sizeof(req->err.code), "InvalidPart");
	return -EINVAL;
}

/* Appends one part to the temporary file. */
static int append_part(struct objreq *req, int dir, const struct obj_part *p, int out, uint64_t *off)
{
	_cleanup_close_ int fd = -1;
	struct local_meta m;
	char name[16];
	int r;

	(void)snprintf(name, sizeof(name), "%05u", p->number);
	r = local_meta_at(dir, name, false, &m, &fd);
	if (r < 0)
		return r;
	if (m.kind != LOCAL_FILE || fd < 0 || m.by_hand || strcmp(m.etag, p->etag) != 0)
		return bad_part(req, p->number, "was not uploaded with that etag");
	r = local_copy_bytes(fd, 0, m.size, out, *off);
	*off += m.size;
	return r;
}

static int join_parts(struct local *l, struct objreq *req, int dir, const struct local_upload *u)
{
	_cleanup_close_ int fd = -1;
	char tmp[LOCAL_TMP_NAME] = "";
	struct local_name n;
	uint64_t off = 0;
	int r = local_name_parse(req->key, &n, &req->err);

	if (r < 0)
		return r;
	r = local_tmp_file(l, tmp, &fd);
	for (size_t i = 0; i < req->nparts && r == 0; i++) {
		if (i > 0 && req->parts[i].number <= req->parts[i - 1].number)
			r = bad_part(req, req->parts[i].number, "is out of order");
		else
			r = append_part(req, dir, &req->parts[i], fd, &off);
	}
	if (r == 0)
		local_meta_set_mtime(fd, &u->headers);
	if (r == 0)
		r = local_meta_write(fd, &u->headers, req->nparts, req);
	if (r == 0)
		r = local_fsync(fd);
	if (r == 0)
		r = local_publish(l, req, &n, tmp);
	if (tmp[0] != '\0')
		local_tmp_remove(l, tmp);
	local_name_done(&n);
	return r;
}

int local_mpu_complete(struct local *l, struct objreq *req)
{
	_cleanup_close_ int dir = -1, mpu = -1;
	struct local_upload u = {0};
	int r = local_make_room(l, &req->err);

	if (r == 0)
		r = open_upload(l, req, true, &dir, &u);
	if (r == 0)
		r = join_parts(l, req, dir, &u);
	/* The object is there: what cannot be removed now costs space only. */
	if (r == 0 && open_mpu_dir(l, &mpu) == 0)
		(void)local_remove_flat(mpu, req->upload_id, HEAD);
	local_upload_done(&u);
	return r;
}

int local_mpu_abort(struct local *l, struct objreq *req)
{
	_cleanup_close_ int dir = -1, mpu = -1;
	struct local_upload u = {0};
	int r = open_upload(l, req, true, &dir, &u);

	if (r == -ENOENT) { /* its removal may have been cut short */
		if (id_ok(req->upload_id) && open_mpu_dir(l, &mpu) == 0)
			(void)local_sweep_upload(mpu, req->upload_id);
		return 0;
	}
	if (r == 0)
		r = open_mpu_dir(l, &mpu);
	if (r == 0)
		r = local_remove_flat(mpu, req->upload_id, HEAD);
	if (r == 0)
		r = local_fsync(mpu);
	local_upload_done(&u);
	return r;
}

/* The token is "UPLOADID/KEY" of the last entry: ids are hex, so the first '/' ends them. */
static bool is_behind(const char *key, const char *id, const struct objreq *req)
{
	const char *slash = req->token != NULL ? strchr(req->token, '/') : NULL;
	int c;

	if (slash == NULL)
		return req->start_after == NULL || strcmp(key, req->start_after) > 0;
	c = strcmp(key, slash + 1);
	return c > 0 || (c == 0 && strncmp(id, req->token, (size_t)(slash - req->token)) > 0);
}

static int add_upload(struct objreq *req, int mpu, const char *id, struct obj_listing *page)
{
	_cleanup_close_ int dir = openat(mpu, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct obj_list_entry *e;
	struct local_upload u = {0};
	int r = 0;

	if (dir < 0 || read_head(dir, &u) < 0)
		return 0; /* gone, or being removed */
	if (str_has_prefix(u.key, req->key) && is_behind(u.key, id, req)) {
		r = page_add(page, u.key, strlen(u.key), &e);
		if (r == 0) {
			e->mtime_s = u.mtime_s;
			r = page_set_upload(page, e, id, NULL);
		}
	}
	local_upload_done(&u);
	return r;
}

static int cut_page(struct obj_listing *page, unsigned max)
{
	struct str token = {0};
	int r;

	page_sort(page);
	if (page->n <= max)
		return 0;
	page->n = max;
	str_addf(&token, "%s/%s", page->v[max - 1].upload_id, page->v[max - 1].key);
	r = token.err < 0 ? token.err : page_set_token(page, token.p);
	str_free(&token);
	return r;
}

/* One file of an upload's directory; the head is none of its parts. */
static int add_part(int dir, const char *name, struct obj_listing *page)
{
	struct local_meta m;
	char *end;
	unsigned long number = strtoul(name, &end, 10);
	int r;

	if (strlen(name) != 5 || *end != '\0')
		return 0;
	r = local_meta_at(dir, name, false, &m, NULL);
	if (r < 0 || m.kind != LOCAL_FILE)
		return r;
	return page_add_part(page, (unsigned)number, m.size, m.etag);
}

static int list_parts(struct local *l, struct objreq *req)
{
	struct obj_listing *page;
	struct local_upload u = {0};
	DIR *d = NULL;
	int dir = -1, r = open_upload(l, req, false, &dir, &u);

	local_upload_done(&u);
	if (r < 0)
		return r;
	r = page_new(&page);
	if (r < 0) {
		base_closep(&dir);
		return r;
	}
	d = fdopendir(dir);
	if (d == NULL) {
		r = local_sys();
		base_closep(&dir);
	}
	for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL && r == 0; e = readdir(d))
		r = add_part(dir, e->d_name, page);
	if (d != NULL)
		(void)closedir(d);
	if (r < 0) {
		obj_listing_free(page);
		return r;
	}
	page_sort(page);
	req->listing = page;
	return 0;
}

int local_mpu_list(struct local *l, struct objreq *req)
{
	struct obj_listing *page;
	DIR *d = NULL;
	int fd = -1, r;

	if (req->upload_id != NULL)
		return list_parts(l, req);
	r = page_new(&page);
	if (r < 0)
		return r;
	r = open_mpu_dir(l, &fd);
	if (r == 0) {
		d = fdopendir(fd);
		r = d == NULL ? local_sys() : 0;
	}
	for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL && r == 0; e = readdir(d))
		if (id_ok(e->d_name))
			r = add_upload(req, fd, e->d_name, page);
	if (d != NULL)
		(void)closedir(d);
	else
		base_closep(&fd);
	if (r == -ENOENT) /* nothing was ever uploaded here */
		r = 0;
	if (r == 0)
		r = cut_page(page, req->max_keys == 0 ? OBJ_LIST_MAX : MIN(req->max_keys, (unsigned)OBJ_LIST_MAX));
	if (r < 0) {
		obj_listing_free(page);
		return r;
	}
	req->listing = page;
	return 0;
}
