/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * imgop.c - marks, names and ends of images (imgop.h says who uses this).
 *
 * Order is all that matters here. Making: the log's first record, then the name. Removing: claim, `deleting`, the key
 * `dead`, the name, then everything below the log but its claims: whoever finds `deleting` and `dead` goes on with it.
 * Replacing: claim, `deleting`, the other name over this one, which says so, then `dead`: whoever finds `deleting` and that
 * name goes on with it; before that name nothing has happened.
 */
#include "config.h"
#include "imgop.h"
#include "meta/path.h"
#include "meta/tree.h"
#include "objstore/base/str.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- files ------------------------------------------------------------------------------------------------------ */

int image_file(const char *img, const uint8_t uuid[16], const char *what, char **ret)
{
	struct str s = { 0 };
	char hex[33];

	log_uuid_format(uuid, hex);
	str_addf(&s, "%s/%s%s%s", img, hex, what ? "/" : "", what ? what : "");
	return str_take(&s, ret);
}

static int sync_dir(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* -ENOENT: there was none to be removed. */
int image_note_clean(const char *img, const uint8_t uuid[16], bool clean)
{
	_cleanup_free_ char *path = NULL, *dir = NULL;
	int r = image_file(img, uuid, "clean", &path);

	if (r == 0)
		r = image_file(img, uuid, NULL, &dir);
	if (r < 0)
		return r;
	if (clean) {
		_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		return fd < 0 ? -errno : 0; /* lost by a power cut it costs a look */
	}
	if (unlink(path) < 0)
		return -errno;
	return sync_dir(dir);
}

int image_note_where(const char *img, const uint8_t uuid[16], const char *prefix, const char *path)
{
	_cleanup_free_ char *dir = NULL, *file = NULL, *tmp = NULL, *text = NULL;
	int r = image_file(img, uuid, NULL, &dir);

	if (r == 0)
		r = image_file(img, uuid, "where", &file);
	if (r == 0)
		r = image_file(img, uuid, "where.tmp", &tmp);
	if (r < 0)
		return r;
	if (asprintf(&text, "%s\n%s\n", prefix, path) < 0)
		return -ENOMEM;
	if ((mkdir(img, 0700) < 0 && errno != EEXIST) || (mkdir(dir, 0700) < 0 && errno != EEXIST))
		return -errno;
	{
		_cleanup_close_ int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		r = fd < 0 ? -errno : base_pwrite_all(fd, text, strlen(text), 0);
		if (r == 0 && fsync(fd) < 0)
			r = -errno;
	}
	if (r == 0 && rename(tmp, file) < 0)
		r = -errno;
	if (r == 0)
		r = sync_dir(dir);
	return r == 0 ? sync_dir(img) : r;
}

int image_read_where(const char *img, const uint8_t uuid[16], char **ret_prefix, char **ret_path)
{
	_cleanup_free_ char *file = NULL;
	char prefix[OBJ_KEY_MAX + 8], path[OBJ_KEY_MAX + 8];
	FILE *fp;
	int r = image_file(img, uuid, "where", &file);

	if (r < 0)
		return r;
	fp = fopen(file, "re");
	if (!fp)
		return -errno;
	r = fgets(prefix, sizeof prefix, fp) && fgets(path, sizeof path, fp) ? 0 : -ENODATA;
	fclose(fp);
	if (r < 0)
		return r;
	prefix[strcspn(prefix, "\n")] = path[strcspn(path, "\n")] = 0;
	*ret_prefix = strdup(prefix);
	*ret_path = strdup(path);
	return *ret_prefix && *ret_path ? 0 : -ENOMEM;
}

/* --- names ------------------------------------------------------------------------------------------------------- */

int image_new_place(const char *top, struct image_new *ret)
{
	char hex[33];

	base_random(ret->uuid, sizeof ret->uuid);
	log_uuid_format(ret->uuid, hex);
	(void)snprintf(ret->log, sizeof ret->log, PATH_RESERVED "/img/%s/", hex);
	if ((size_t)snprintf(ret->prefix, sizeof ret->prefix, "%s%s", top, ret->log) >= sizeof ret->prefix)
		return -ENAMETOOLONG;
	return 0;
}

int image_key(const char *top, const char *path, char **ret)
{
	struct str s = { 0 };

	str_addf(&s, "%s%s" IMGNAME_SUFFIX, top, path);
	if (!s.err && s.len > OBJ_KEY_MAX) {
		str_free(&s);
		return -ENAMETOOLONG;
	}
	return str_take(&s, ret);
}

bool image_path_ok(const char *path)
{
	return path[0] && !strchr(path, '\n');
}

/* ret_maybe: it failed, and the name may be there all the same. */
static int make_name(struct objstore *s, const char *top, const char *path, const struct image_new *n, uint64_t size,
		     uint64_t allocated, const struct attr *a, struct nameobj *ret, bool *ret_maybe, struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	const char *slash = strrchr(path, '/');
	struct nameobj o = { .n.size = size };
	char number[24];
	int r = image_key(top, path, &key);

	if (r < 0)
		return r;
	memcpy(o.n.uuid, n->uuid, 16);
	o.n.log = strdup(n->log);
	o.n.name = strdup(path);
	if (!o.n.log || !o.n.name)
		r = -ENOMEM;
	if (r == 0)
		r = tree_headers(a, slash ? slash + 1 : path, false, &o.h);
	(void)snprintf(number, sizeof number, "%" PRIu64, allocated);
	if (r == 0 && allocated > 0)
		r = obj_headers_set(&o.h, IMGNAME_ALLOCATED, number);
	if (r == 0)
		r = nameobj_create(s, key, &o, err);
	*ret_maybe = o.maybe;
	if (r == 0 && ret) {
		*ret = o;
		return 0;
	}
	nameobj_free(&o);
	return r;
}

int image_make_name(struct objstore *s, const char *top, const char *path, const struct image_new *n, uint64_t size,
		    uint64_t allocated, const struct attr *a, struct nameobj *ret, struct objerr *err)
{
	bool maybe;

	return make_name(s, top, path, n, size, allocated, a, ret, &maybe, err);
}

int image_create(const struct vol_env *env, const char *top, const char *path, const struct image_new *n,
		 const struct vol_create *c, const struct attr *a, struct nameobj *ret, struct objerr *err)
{
	struct vol_create vc = *c;
	bool maybe = false;
	size_t left;
	int r;

	memcpy(vc.uuid, n->uuid, sizeof vc.uuid);
	r = vol_create(env, n->prefix, &vc, err);
	if (r < 0)
		return r;
	r = make_name(env->store, top, path, n, vc.size, 0, a, ret, &maybe, err);
	/* Nobody ever heard of this log, unless the answer to the name was lost: then it stays. */
	if (r < 0 && (r == -EEXIST || !maybe))
		ignore(image_erase(env->store, n->prefix, UINT64_MAX, NULL, 0, &left, &(struct objerr){0}));
	return r;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

struct remains {
	char *prefix;
	struct vol_remains r;
};

static void remains_done(struct remains *m)
{
	free(m->prefix);
	free(m->r.claims);
	free(m->r.ref);
}

/* Durable before the name goes. */
static int write_remains(const char *img, const uint8_t uuid[16], const struct remains *m)
{
	_cleanup_free_ char *path = NULL, *text = NULL, *dir = NULL;
	_cleanup_close_ int fd = -1, dfd = -1;
	struct str s = { 0 };
	int r = image_file(img, uuid, "deleting", &path);

	if (r == 0)
		r = image_file(img, uuid, NULL, &dir);
	str_addf(&s, "%s\n%" PRIu64 "\n", m->prefix, m->r.next);
	for (size_t i = 0; i < m->r.nclaims; i++)
		str_addf(&s, "%" PRIu64 "\n", m->r.claims[i]);
	if (m->r.ref)
		str_addf(&s, "ref %s\n", m->r.ref);
	str_add(&s, "end\n");
	if (str_take(&s, &text) < 0 || r < 0)
		return -ENOMEM;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = base_pwrite_all(fd, text, strlen(text), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && (dfd < 0 || fsync(dfd) < 0))
		r = -errno;
	return r;
}

/* -ENODATA: not whole: the name was not touched then. */
static int read_remains(FILE *fp, struct remains *ret)
{
	char line[OBJ_KEY_MAX + 8];
	struct remains m = { 0 };
	int r = -ENODATA;

	if (fgets(line, sizeof line, fp)) {
		line[strcspn(line, "\n")] = 0;
		m.prefix = strdup(line);
	}
	if (m.prefix && fgets(line, sizeof line, fp)) {
		line[strcspn(line, "\n")] = 0;
		r = str_parse_u64(line, &m.r.next) < 0 ? -ENODATA : 0;
	}
	while (r == 0) {
		uint64_t *v;

		r = fgets(line, sizeof line, fp) ? 0 : -ENODATA;
		if (r < 0 || strcmp(line, "end\n") == 0)
			break;
		line[strcspn(line, "\n")] = 0;
		if (str_has_prefix(line, "ref ") && !m.r.ref) {
			m.r.ref = strdup(line + 4);
			r = m.r.ref ? 0 : -ENOMEM;
			continue;
		}
		v = reallocarray(m.r.claims, m.r.nclaims + 1, sizeof *v);
		if (v)
			m.r.claims = v;
		r = !v ? -ENOMEM : str_parse_u64(line, &v[m.r.nclaims]) < 0 ? -ENODATA : 0;
		m.r.nclaims += r == 0;
	}
	if (r < 0) {
		remains_done(&m);
		return r;
	}
	*ret = m;
	return 0;
}

void image_remove_dir(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (strcmp(de->d_name, "deleting") != 0)
			(void)unlinkat(dirfd(d), de->d_name, 0);
	if (d) {
		(void)unlinkat(dirfd(d), "deleting", 0); /* the last: until then it is all gone through again */
		closedir(d);
	}
	(void)rmdir(path);
}

/* Nothing waits there, and nobody is in the middle of anything. */
static bool gives_way(const char *path)
{
	bool clean = false, busy = false;
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		const char *n = de->d_name;

		clean |= strcmp(n, "clean") == 0;
		busy |= strcmp(n, "deleting") == 0 || strcmp(n, "importing") == 0 ||
			(str_has_prefix(n, "aside-") && !strchr(n + strlen("aside-"), '-')); /* it is being set aside */
	}
	if (d)
		closedir(d);
	return clean && !busy;
}

static int move_aside(const char *from, const char *to)
{
	_cleanup_close_ int dst = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = opendir(from);
	struct dirent *de;
	int r = d && dst >= 0 ? 0 : -errno;

	while (r == 0 && (de = readdir(d)))
		if (str_has_prefix(de->d_name, "aside-") &&
		    renameat2(dirfd(d), de->d_name, dst, de->d_name, RENAME_NOREPLACE) < 0)
			r = -errno;
	if (d)
		closedir(d);
	return r == 0 ? sync_dir(to) : r;
}

/* At once: half of a journal would be a damaged one. */
static int drop_dir(const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	_cleanup_free_ char *gone = NULL;

	if (asprintf(&gone, "%.*s.%s", (int)(name - path), path, name) < 0)
		return -ENOMEM;
	image_remove_dir(gone); /* of a process that died here */
	if (rename(path, gone) < 0)
		return -errno;
	image_remove_dir(gone);
	return 0;
}

int image_adopt_dir(const char *from, const char *to)
{
	const char *away = gives_way(to) ? to : from;
	int r = 0;

	if (access(to, F_OK) == 0) {
		if (!gives_way(away))
			return -ENOTEMPTY;
		r = move_aside(away, away == to ? from : to);
		if (r == 0)
			r = drop_dir(away);
	}
	if (r == 0 && access(from, F_OK) == 0 && rename(from, to) < 0)
		r = -errno;
	return r;
}

/* Claims for the last time. The volume is closed afterwards. */
static int last_claim(const struct vol_env *shared, const char *prefix, const uint8_t uuid[16], struct vol_remains *ret,
		      struct objerr *err)
{
	struct vol_env env = *shared;
	struct volume *v;
	int r;

	env.claim_wait_ns = 0;
	env.takeover = VOL_TAKEOVER_RELEASED; /* rm is no way to take an image from another node */
	r = vol_open(&env, prefix, uuid, &v, err);
	if (r < 0)
		return r;
	r = vol_recover(v, err); /* so that nothing of ours is under way behind the last claim */
	if (r == 0 || r == -ESTALE) {
		struct vol_stat st;

		r = vol_doom(v, ret);
		vol_stat(v, &st);
		if (r < 0 && !err->msg[0])
			objerr_set(err, "%s", st.why);
	}
	ignore(vol_close(v));
	return r;
}

static int doom_log(const struct vol_env *env, const char *prefix, const char *path, const uint8_t uuid[16],
		    struct objerr *err)
{
	struct remains m = { 0 };
	bool was_clean = false;
	int r = image_has_refs(env->store, prefix, err);

	if (r > 0) {
		objerr_set(err, "a clone was made of a snapshot of it: delete that first");
		r = -EBUSY;
	}
	if (r < 0)
		return r;
	r = image_note_where(env->state_dir, uuid, prefix, path);
	if (r == 0) { /* a claim that is not released is for a mount to look at */
		r = image_note_clean(env->state_dir, uuid, false);
		was_clean = r == 0;
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0) {
		m.prefix = strdup(prefix);
		r = m.prefix ? 0 : -ENOMEM;
	}
	if (r < 0) {
		objerr_set(err, "%s: %s", env->state_dir, strerror(-r));
		goto out;
	}
	r = last_claim(env, prefix, uuid, &m.r, err);
	if (r == 0) {
		r = write_remains(env->state_dir, uuid, &m);
		if (r < 0) {
			objerr_set(err, "%s: %s", env->state_dir, strerror(-r));
			image_spare(env, prefix, uuid);
		}
	} else if (r == -EBUSY && was_clean) {
		ignore(image_note_clean(env->state_dir, uuid, true));
	}
out:
	remains_done(&m);
	return r;
}

static void forget_remains(const char *img, const uint8_t uuid[16])
{
	_cleanup_free_ char *file = NULL;

	if (image_file(img, uuid, "deleting", &file) == 0)
		(void)unlink(file); /* without the key `dead` it means nothing */
}

/* What cannot be done here the next mount does: it finds the image claimed by this machine, and not `clean`. */
void image_spare(const struct vol_env *env, const char *prefix, const uint8_t uuid[16])
{
	struct objerr err = { 0 };
	struct volume *v;
	int r;

	forget_remains(env->state_dir, uuid);
	if (vol_open(env, prefix, uuid, &v, &err) < 0)
		return;
	r = vol_recover(v, &err);
	if (vol_close(v) == 0 && r == 0)
		ignore(image_note_clean(env->state_dir, uuid, true));
}

int image_end_log(const struct vol_env *env, const char *prefix, const char *path, const uint8_t uuid[16],
		  struct objerr *err)
{
	int r = doom_log(env, prefix, path, uuid, err);

	return r == 0 ? image_bury(env->store, prefix, err) : r;
}

int image_doom(const struct vol_env *env, const char *top, const char *key, const char *path, const uint8_t uuid[16],
	       char **ret_prefix, struct objerr *err)
{
	struct nameplace p = { 0 };
	struct nameobj o;
	int r = nameobj_get(env->store, key, &o, err);

	*ret_prefix = NULL;
	if (r == -ENOENT || r == -ENODATA)
		return -ESTALE;
	if (r < 0)
		return r;
	r = memcmp(o.n.uuid, uuid, 16) == 0 ? 0 : -ESTALE;
	if (r == 0) {
		r = nameobj_place(env->store, top, key, &o.n, &p, err);
		if (r == -ENOENT) { /* a name without a log */
			nameobj_free(&o);
			return 0;
		}
	}
	if (r == 0 && !p.copy && !p.dead) {
		r = doom_log(env, p.prefix, path, uuid, err);
		if (r == 0) {
			*ret_prefix = p.prefix;
			p.prefix = NULL;
		}
	}
	nameplace_free(&p);
	nameobj_free(&o);
	return r;
}

int image_end(const struct vol_env *env, const char *top, const char *key, const char *path, const uint8_t uuid[16],
	      bool *ret_log, struct objerr *err)
{
	_cleanup_free_ char *prefix = NULL;
	int r = image_doom(env, top, key, path, uuid, &prefix, err);

	*ret_log = false;
	if (r == 0 && prefix) {
		r = image_bury(env->store, prefix, err);
		*ret_log = r == 0;
	}
	return r;
}

/*
 * The name at path: is it the image's own, was it put over that one? Neither: there is none, or another image's. -EUCLEAN:
 * it cannot be understood.
 */
enum { NAME_OWN = 1, NAME_OVER = 2 };
static int name_there(const struct vol_env *env, const char *top, const char *path, const uint8_t uuid[16],
		      struct objerr *err)
{
	_cleanup_free_ char *key = NULL;
	struct nameobj o;
	int r = image_key(top, path, &key);

	if (r == 0)
		r = nameobj_get(env->store, key, &o, err);
	if (r < 0)
		return r == -ENOENT || r == -ENODATA ? 0 : r;
	r = (memcmp(o.n.uuid, uuid, 16) == 0 ? NAME_OWN : 0) | (memcmp(o.n.replaces, uuid, 16) == 0 ? NAME_OVER : 0);
	nameobj_free(&o);
	return r;
}

int image_ended(const struct vol_env *env, const char *top, const uint8_t uuid[16], struct objerr *err)
{
	_cleanup_free_ char *prefix = NULL, *path = NULL;
	int r = image_read_where(env->state_dir, uuid, &prefix, &path);

	if (r == 0)
		r = image_is_dead(env->store, prefix, err);
	if (r != 0)
		return r;
	r = name_there(env, top, path, uuid, err);
	if (r == -EUCLEAN)
		r = 0;
	if (r > 0)
		r = (r & NAME_OVER) != 0;
	if (r == 1)
		r = image_bury(env->store, prefix, err) < 0 ? -EIO : 1;
	else if (r == 0)
		forget_remains(env->state_dir, uuid);
	return r;
}

int image_erase_left(const struct vol_env *env, const uint8_t uuid[16], struct objerr *err)
{
	_cleanup_free_ char *file = NULL, *dir = NULL;
	struct remains m = { 0 };
	size_t left;
	FILE *fp;
	int r = image_file(env->state_dir, uuid, "deleting", &file);

	if (r == 0)
		r = image_file(env->state_dir, uuid, NULL, &dir);
	if (r < 0)
		return r;
	fp = fopen(file, "re");
	r = fp ? read_remains(fp, &m) : -errno;
	if (fp)
		fclose(fp);
	if (r == 0) {
		r = image_erase(env->store, m.prefix, m.r.next, m.r.claims, m.r.nclaims, &left, err);
		if (r == 0 && m.r.ref)
			r = obj_delete(env->store, m.r.ref, NULL, err);
		r = r == -ENOENT ? 0 : r;
		remains_done(&m);
	}
	if (r == 0)
		image_remove_dir(dir);
	return r;
}

/* --- writers without a mount -------------------------------------------------------------------------------------- */

int image_just_claim(struct volume *v, void *stat)
{
	int r = vol_own(v);

	vol_stat(v, stat);
	return r;
}

int image_write(const struct vol_env *env, const char *prefix, const char *path, const uint8_t uuid[16],
		int (*fn)(struct volume *v, void *arg), void *arg, struct objerr *err)
{
	struct vol_stat st = { 0 };
	struct volume *v;
	bool was_clean = false;
	int r = image_note_where(env->state_dir, uuid, prefix, path), e;

	if (r == 0) {
		r = image_note_clean(env->state_dir, uuid, false);
		was_clean = r == 0;
		r = r == -ENOENT ? 0 : r;
	}
	if (r < 0) {
		objerr_set(err, "%s: %s", env->state_dir, strerror(-r));
		return r;
	}
	r = vol_open(env, prefix, uuid, &v, err);
	if (r < 0)
		return r;
	vol_begin_write(v);
	r = fn(v, arg);
	if (r < 0) {
		vol_stat(v, &st);
		if (!err->msg[0] && st.why[0])
			objerr_set(err, "%s", st.why);
		else if (!err->msg[0] && (r == -ENOSPC || r == -EDQUOT))
			objerr_set(err, "%s: %s", env->state_dir, strerror(-r)); /* its journal: a bucket is never full */
	}
	e = vol_end_write(v);
	vol_stat(v, &st);
	if (e < 0 && r == 0) {
		objerr_set(err, "%s", st.why[0] ? st.why : "not everything reached the bucket; the journal has it");
		r = e;
	}
	e = vol_close(v);
	r = r == 0 ? e : r;
	if (r == 0 || (r == -EBUSY && was_clean))
		ignore(image_note_clean(env->state_dir, uuid, true)); /* else a mount looks at the journal */
	return r;
}

/* --- being filled --------------------------------------------------------------------------------------------------- */

int image_note_importing(const char *img, const uint8_t uuid[16], bool importing)
{
	_cleanup_free_ char *path = NULL, *dir = NULL;
	int r = image_file(img, uuid, "importing", &path);

	if (r == 0)
		r = image_file(img, uuid, NULL, &dir);
	if (r < 0)
		return r;
	if (importing && ((mkdir(img, 0700) < 0 && errno != EEXIST) || (mkdir(dir, 0700) < 0 && errno != EEXIST)))
		return -errno;
	if (importing) {
		_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0 || fsync(fd) < 0)
			return -errno;
	} else if (unlink(path) < 0 && errno != ENOENT) {
		return -errno;
	}
	return sync_dir(dir);
}

int image_drop_import(const struct vol_env *env, const char *top, const uint8_t uuid[16], struct objerr *err)
{
	_cleanup_free_ char *prefix = NULL, *path = NULL, *dir = NULL;
	int r = image_file(env->state_dir, uuid, NULL, &dir), dead;

	if (r == 0)
		r = image_read_where(env->state_dir, uuid, &prefix, &path);
	if (r == -ENOENT) { /* `where` comes before the log */
		image_remove_dir(dir);
		return 1;
	}
	if (r == 0)
		r = name_there(env, top, path, uuid, err);
	if (r > 0)
		r = (r & NAME_OWN) != 0;
	if (r == 1) {
		r = image_note_importing(env->state_dir, uuid, false);
		return r < 0 ? r : 0;
	}
	dead = r == 0 ? image_is_dead(env->store, prefix, err) : r;
	if (dead < 0)
		return dead;
	r = dead ? 0 : image_end_log(env, prefix, path, uuid, err);
	if (r == -ENOENT) { /* it did not even come to a log */
		image_remove_dir(dir);
		return 1;
	}
	if (r == 0)
		r = image_erase_left(env, uuid, err);
	return r < 0 ? r : 1;
}
