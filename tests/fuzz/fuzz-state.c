/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-state.c - small pieces that are found somewhere: files of state_dir and cache_dir, intents in the bucket, heads of
 * uploads and attributes of a file:// bucket, lines of the mount table and of the control socket. The first letter of
 * the input says which. What is taken is in its range; what can be written again is written again the same.
 */
#include "config.h"
#include "fs/capsfile.h"
#include "fs/control.h"
#include "fs/intent.h"
#include "fs/mntpoint.h"
#include "fs/slot.h"
#include "fuzz.h"
#include "meta/path.h"
#include "objstore/local-private.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64]; /* for files, in memory where there is such a place */

static void remove_dir(void)
{
	char cmd[96];

	snprintf(cmd, sizeof(cmd), "rm -rf -- '%s'", dir);
	check(!system(cmd));
}

static void put_file(const char *name, const char *p, size_t n)
{
	char path[320];
	int fd;

	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s/lsvd-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		check(mkdtemp(dir));
		atexit(remove_dir);
	}
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for (char *slash = strchr(path + strlen(dir) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		check(!mkdir(path, 0700) || errno == EEXIST);
		*slash = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0 && write(fd, p, n) == (ssize_t)n);
	close(fd);
}

static void replace_file(const char *name, const char *p, size_t n)
{
	char path[320];

	put_file(name, p, n);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (n == 0)
		check(!unlink(path));
}

/* --- state_dir, cache_dir --------------------------------------------------------------------------------------- */

static void caps(const char *p, size_t n)
{
	char *z = strndup(p, n), path[96];
	struct caps_found f = {0}, again;
	struct str s = {0};

	check(z);
	memcpy(&f.caps, p, MIN(n, sizeof(f.caps)));
	memcpy(&f.quirks, p + n / 2, MIN(n / 2, sizeof(f.quirks)));
	f.time_s = (int64_t)n;
	capsfile_format(&f, &s);
	check(!s.err && !capsfile_parse(s.p, &again));
	check(again.caps == f.caps && again.quirks == f.quirks && again.time_s == f.time_s);
	str_reset(&s);
	if (!capsfile_parse(z, &f)) {
		check(f.time_s >= 0);
		capsfile_format(&f, &s);
		check(!s.err && !strcmp(s.p, z));
		/* one bit elsewhere, and it is no such file */
		for (size_t i = 0; i < s.len; i++) {
			s.p[i] ^= 1;
			check(s.p[i] == '\0' || capsfile_parse(s.p, &again) == -EBADMSG);
			s.p[i] ^= 1;
		}
		put_file("caps", p, n);
		snprintf(path, sizeof(path), "%s/caps", dir);
		check(!capsfile_read(path, &again) && again.caps == f.caps && !capsfile_write(path, &f));
	}
	str_free(&s);
	free(z);
}

/* Line 1: the version file; line 2: the node id; the rest: the identity. An empty one stands for no such file. */
static void slot(struct input in)
{
	static const char identity[] = "file\n-\n/b\n\n";
	char *version = take_line(&in), *node = take_line(&in), path[320], *idir, *id, *again, *rel;
	struct slot s = {.lock_fd = -1}, second = {.lock_fd = -1};
	struct objerr err = {0};
	unsigned *v;
	size_t n;
	int r;

	replace_file("version", version, strlen(version));
	check(!slot_identity_dir(dir, identity, &idir));
	rel = idir + strlen(dir) + 1;
	snprintf(path, sizeof(path), "%s/identity", rel);
	replace_file(path, in.p, in.n);
	snprintf(path, sizeof(path), "%s/slot-0/node", rel);
	replace_file(path, node, strlen(node));
	r = slot_take(dir, identity, &s, &err);
	check(r == 0 || (r == -EPROTO && err.msg[0] && is_printable(err.msg)));
	if (!r) {
		/* What was no id has become one, for ever. */
		check(s.number == 0 && !intent_node_id(&s, &id) && strlen(id) == 32);
		check(strspn(id, "0123456789abcdef") == 32 && !intent_node_id(&s, &again) && !strcmp(id, again));
		check(strlen(node) < 32 || strspn(node, "0123456789abcdef") < 32 || !strncmp(node, id, 32));
		check(slot_lock(dir, identity, 0, &second) == -EBUSY);
		check(!slot_list_in(idir, &v, &n) && n == 1 && v[0] == 0);
		free(v);
		free(id);
		free(again);
		slot_release(&s);
	}
	free(idir);
	free(version);
	free(node);
}

static void note(const char *p, size_t n)
{
	struct parked *v;
	char path[96];
	size_t nv;

	put_file("spool/parked/abc.json", p, n);
	snprintf(path, sizeof(path), "%s/spool", dir);
	check(!parked_list(path, &v, &nv) && nv == 1 && v[0].id == 0xabc);
	check(v[0].path && v[0].reason && v[0].base_etag);
	parked_free(v, nv);
}

/* --- the bucket ------------------------------------------------------------------------------------------------- */

static void check_dir(const char *s)
{
	check(*s && s[strlen(s) - 1] == '/');
	for (; *s; s += strcspn(s, "/") + 1)
		check(path_component_ok(s, strcspn(s, "/")));
}

static void intent(const char *p, size_t n)
{
	char *from = NULL, *to = NULL, *node = NULL;

	if (!rename_intent_parse(p, n, &from, &to, &node)) {
		check_dir(from);
		check_dir(to);
		/* neither holds the other: what is copied is never deleted */
		check(strncmp(from, to, MIN(strlen(from), strlen(to))));
		check(node);
	} else {
		check(!from && !to && !node);
	}
	free(from);
	free(to);
	free(node);
}

static void upload(const char *p, size_t n)
{
	struct local_upload u;
	int r = local_upload_parse(p, n, &u);

	check(r == 0 || r == -EBADMSG);
	if (r)
		return;
	check(u.key);
	for (size_t i = 0; i < u.headers.n; i++)
		check(!strpbrk(u.headers.v[i].value, "\r\n"));
	local_upload_done(&u);
}

static void attribute(const char *p, size_t n)
{
	for (int kind = LOCAL_FILE; kind <= LOCAL_IMPLICIT; kind++) {
		struct local_meta m = {.kind = (enum local_kind)kind, .st.st_size = 5};
		int r;

		m.st.st_mtim = (struct timespec){1700000000, 1};
		r = local_meta_parse(p, n, true, &m);
		check(r == 0 || r == -ENODATA);
		if (!r && m.kind == LOCAL_FILE)
			check(m.etag[0] && m.size == 5 && kind == LOCAL_FILE);
		local_meta_done(&m);
	}
}

/* --- the kernel, the socket ------------------------------------------------------------------------------------- */

static void mount_line(const char *p, size_t n)
{
	char *line = strndup(p, n);
	struct mntpoint m = {0};
	int r;

	check(line);
	r = mntpoint_parse(line, "/mnt/a b", &m);
	check(r == 0 || r == -ENOENT);
	if (!r)
		check(!strcmp(m.dir, "/mnt/a b") && m.source);
	else
		check(!m.dir);
	mntpoint_done(&m);
	free(line);
}

static void request(const char *p, size_t n)
{
	struct control_request q = {0};
	int r = control_parse(p, n, &q);

	check(r == 0 || r == -EINVAL || r == -EOPNOTSUPP);
	if (r) {
		check(!q.doc);
		return;
	}
	check(q.cmd >= CONTROL_STATUS && q.cmd <= CONTROL_HOLD && q.slot < SLOT_MAX && q.id <= INT64_MAX);
	check(q.level >= LOG_L_ERROR && q.level <= LOG_L_DEBUG);
	json_decref(q.doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, MIN(size, (size_t)16384)};

	switch (take_byte(&in)) {
	case 'C':
		caps(in.p, in.n);
		break;
	case 'S':
		slot(in);
		break;
	case 'N':
		note(in.p, in.n);
		break;
	case 'I':
		intent(in.p, in.n);
		break;
	case 'U':
		upload(in.p, in.n);
		break;
	case 'A':
		attribute(in.p, in.n);
		break;
	case 'M':
		mount_line(in.p, in.n);
		break;
	case 'R':
		request(in.p, in.n);
		break;
	default:
		break;
	}
	return 0;
}
