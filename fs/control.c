/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * control.c - the socket of a running mount. The protocol is in control.h.
 *
 * One thread accepts; each connection is a job of a small pool of its own, since `drain` may wait for the store as long
 * as it likes while `status` must answer. The number of connections is bounded: the ninth is closed at once.
 *
 * Invariant: conn[] holds every open connection while its job runs; control_stop() shuts them down under the lock, so
 * that no job waits for a client for ever.
 */
#include "config.h"
#include "control.h"

#include "explain.h"
#include "objstore/base/clock.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CONN 8
#define LINE_MAX_IN 4096
#define LINE_MAX_OUT (4 * MiB)

struct control;

struct conn {
	struct job job;
	struct control *c;
	int fd; /* -1: free */
};

struct control {
	struct mount *m;
	char *path;
	struct stat socket; /* as it was made */
	int listen_fd;
	int stop_pipe[2]; /* written end closed: the accept thread leaves */
	pthread_t thread;
	struct pool *pool;

	struct mtx lock; /* RANK_MOUNT; protects conn[].fd */
	struct conn conn[MAX_CONN];
};

/*
 * Where the sockets of a user's mounts may live; -ENOENT when there is no i-th place. A daemon takes the first. Commands
 * look at all: they may run with another environment, or as root.
 */
static int run_dir(unsigned uid, unsigned i, char **ret)
{
	const char *xdg = uid == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;
	struct str s = {0};

	if (uid == 0)
		i = i ? UINT_MAX : 3;
	else if (!xdg || *xdg != '/')
		i++;
	switch (i) {
	case 0:
		str_addf(&s, "%s/lsvdfs", xdg);
		break;
	case 1:
		str_addf(&s, "/tmp/lsvdfs-%u", uid);
		break;
	case 2:
		str_addf(&s, "/run/user/%u/lsvdfs", uid);
		break;
	case 3:
		if (uid)
			return -ENOENT;
		str_add(&s, "/run/lsvdfs");
		break;
	default:
		return -ENOENT;
	}
	return str_take(&s, ret);
}

static int socket_path(const struct mntpoint *p, unsigned uid, unsigned i, char **ret)
{
	_cleanup_free_ char *dir = NULL;
	struct str s = {0};
	int r = run_dir(uid, i, &dir);

	if (r)
		return r;
	str_addf(&s, "%s/%u:%u.sock", dir, p->major, p->minor);
	return str_take(&s, ret);
}

static int socket_address(const char *path, struct sockaddr_un *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	return str_copy(ret->sun_path, sizeof(ret->sun_path), path);
}

/* --- what it answers -------------------------------------------------------------------------------------------- */

static json_t *refused(int r, const struct objerr *err)
{
	const char *words = err && err->msg[0] ? err->msg : explain_errno(r);

	return json_pack("{s:b, s:i, s:s}", "ok", 0, "errno", -r, "error", words ? words : "failed");
}

/* A path is bytes, JSON is UTF-8: what is not is shown as '?'. */
static json_t *shown(const char *path)
{
	char *copy = strdup(path);
	json_t *j = NULL;

	if (copy) {
		str_make_printable(copy);
		j = json_string(copy);
	}
	free(copy);
	return j;
}

static json_t *status_requests(const struct obj_stats *st)
{
	json_t *ops = json_object();

	for (int i = 0; ops && i < OBJ_NOPS; i++) {
		uint64_t n = atomic_load(&st->count[i]), e = atomic_load(&st->errors[i]);

		if (n || e)
			json_object_set_new(ops, obj_op_name[i],
					    json_pack("{s:I, s:I}", "count", (json_int_t)n, "errors", (json_int_t)e));
	}
	return ops;
}

static json_t *status_caps(struct mount *m, json_t **ret_narrowed)
{
	unsigned caps = obj_caps(m->store);
	json_t *have = json_array(), *narrowed = json_array();

	for (size_t i = 0; i < explain_ncaps; i++) {
		const struct explain_cap *x = &explain_caps[i];

		if (caps & x->cap)
			json_array_append_new(have, json_string(x->name));
		else if (x->narrowed)
			json_array_append_new(narrowed,
					      json_pack("{s:s, s:s}", "missing", x->name, "means", x->narrowed));
	}
	*ret_narrowed = narrowed;
	return have;
}

static json_t *status_store(struct mount *m)
{
	const struct obj_stats *st = m->store->stats;
	json_t *narrowed, *caps = status_caps(m, &narrowed);

	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "requests", status_requests(st), "bytes_in",
			 (json_int_t)atomic_load(&st->bytes_in), "bytes_out", (json_int_t)atomic_load(&st->bytes_out),
			 "retries", (json_int_t)atomic_load(&st->retries), "slowdowns",
			 (json_int_t)atomic_load(&st->slowdowns), "capabilities", caps, "narrowed", narrowed);
}

static json_t *status_local(struct mount *m)
{
	const struct mount_recovered *rec = &m->recovered;
	struct spool_stats sp;
	struct tree_stats tr;

	spool_stats(m->spool, &sp);
	tree_stats(m->tree, &tr);
	return json_pack("{s:{s:I, s:I, s:I, s:I, s:s}, s:{s:I}, s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I, s:I},"
			 " s:{s:i, s:i, s:i, s:i, s:i, s:i, s:i}}",
			 "spool", "files", (json_int_t)sp.files, "dirty_bytes", (json_int_t)sp.dirty_bytes, "uploading",
			 (json_int_t)sp.uploading, "parked", (json_int_t)sp.parked, "dir", m->spool_dir, "metadata",
			 "waiting", (json_int_t)metaq_count(m->metaq), "memory", "total",
			 (json_int_t)budget_total(m->budget), "used", (json_int_t)budget_used(m->budget), "peak",
			 (json_int_t)budget_peak(m->budget), "tree", "rows", (json_int_t)tr.rows, "hidden_keys",
			 (json_int_t)tr.hidden_keys, "db_rebuilt", (json_int_t)tr.db_rebuilt, "lists",
			 (json_int_t)tr.lists, "heads", (json_int_t)tr.heads, "recovery", "adopted_slots",
			 (int)rec->adopted, "uploaded", (int)rec->spool.uploaded, "parked", (int)rec->spool.parked,
			 "already", (int)rec->spool.already, "failed", (int)rec->spool.failed, "renames",
			 (int)rec->renames, "strangers", (int)rec->strangers);
}

json_t *control_status(struct mount *m)
{
	json_t *doc = json_pack("{s:b, s:s, s:o, s:o, s:i, s:f, s:b, s:b, s:i, s:s, s:s, s:s, s:s}", "ok", 1, "version",
				PACKAGE_VERSION, "source", shown(m->opt.source), "dir", shown(m->opt.dir), "pid", (int)getpid(),
				"uptime_s", (double)(clock_real_ns() - m->started_real_ns) / 1e9, "read_only",
				(int)m->opt.read_only, "async_close", (int)m->opt.async_close, "slot",
				(int)m->state.number, "state_dir", m->opt.state_dir, "cache_dir", m->opt.cache_dir,
				"state_slot", m->state.path, "cache_slot", m->cache.path);
	json_t *local = status_local(m), *files = json_object();
	_cleanup_free_ char *options = NULL;

	if (files)
		fsd_status(m->fsd, files);
	if (!doc || !local || options_store_list(&m->opt, &options) ||
	    json_object_set_new(doc, "store_options", json_string(options)) || json_object_update(doc, local) || json_object_set_new(doc, "store", status_store(m)) ||
	    json_object_set_new(doc, "fs", files)) {
		json_decref(doc);
		doc = NULL;
	}
	json_decref(local);
	return doc;
}

static json_t *do_drain(struct mount *m)
{
	struct objerr err = {0};
	int r = fsd_drain(m->fsd, &err);

	return r ? refused(r, &err) : json_pack("{s:b}", "ok", 1);
}

/* After a retry the name's attributes are others. path is a key; the tree knows names below the mount's prefix. */
static void forget_path(struct mount *m, const char *path)
{
	size_t n = strlen(m->url.prefix);
	_cleanup_free_ char *dir = strdup(path + (strncmp(path, m->url.prefix, n) ? 0 : n));
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!dir)
		return;
	dir[slash ? slash + 1 - dir : 0] = '\0';
	tree_forget(m->tree, dir);
}

static json_t *do_retry(struct mount *m, const struct control_request *req)
{
	struct objerr err = {0};
	struct spcommit done;
	int r;

	if (req->slot != m->state.number) {
		objerr_set(&err, "slot %u belongs to another mount", req->slot);
		return refused(-EBUSY, &err);
	}
	if (m->opt.read_only)
		return refused(-EROFS, NULL);
	r = parked_retry(m->spool, req->id, req->force, &done, &err);
	if (r)
		return refused(r, &err);
	if (req->path)
		forget_path(m, req->path);
	return json_pack("{s:b, s:s}", "ok", 1, "etag", done.v.etag);
}

static json_t *do_image(struct mount *m, const struct control_request *req)
{
	struct objerr err = {0};
	json_t *ans = json_pack("{s:b}", "ok", 1);
	int r = ans ? fsd_image(m->fsd, req->verb, req->path, req->name, ans, &err) : -ENOMEM;

	if (!r)
		return ans;
	json_decref(ans);
	return refused(r, &err);
}

static json_t *answer(struct mount *m, const struct control_request *req, bool *ret_hold)
{
	switch (req->cmd) {
	case CONTROL_STATUS:
		return control_status(m);
	case CONTROL_DRAIN:
		return do_drain(m);
	case CONTROL_RETRY:
		return do_retry(m, req);
	case CONTROL_LOG:
		log_set_level(req->level);
		break;
	case CONTROL_HOLD:
		*ret_hold = true;
		break;
	case CONTROL_IMAGE:
		return do_image(m, req);
	}
	return json_pack("{s:b}", "ok", 1);
}

/* --- what it is asked ------------------------------------------------------------------------------------------- */

/* A whole number from 0 to max. */
static int take_number(const json_t *doc, const char *name, json_int_t max, json_int_t *ret)
{
	const json_t *v = json_object_get(doc, name);

	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
		return -EINVAL;
	*ret = json_integer_value(v);
	return 0;
}

static int read_retry(struct control_request *q)
{
	json_int_t slot, id;
	int r = take_number(q->doc, "slot", SLOT_MAX - 1, &slot);

	if (!r)
		r = take_number(q->doc, "id", INT64_MAX, &id);
	if (r)
		return r;
	q->slot = (unsigned)slot;
	q->id = (uint64_t)id;
	q->force = json_is_true(json_object_get(q->doc, "force"));
	q->path = json_string_value(json_object_get(q->doc, "path"));
	return 0;
}

static int read_request(struct control_request *q)
{
	static const char *const name[] = {
	    [CONTROL_STATUS] = "status", [CONTROL_DRAIN] = "drain", [CONTROL_RETRY] = "retry",
	    [CONTROL_LOG] = "log",	 [CONTROL_HOLD] = "hold",   [CONTROL_IMAGE] = "image"};
	const char *cmd = json_string_value(json_object_get(q->doc, "cmd")), *level;
	size_t i = 0;

	if (!cmd)
		return -EINVAL;
	while (i < ARRAY_SIZE(name) && strcmp(cmd, name[i]))
		i++;
	if (i == ARRAY_SIZE(name))
		return -EOPNOTSUPP;
	q->cmd = (enum control_cmd)i;
	if (q->cmd == CONTROL_RETRY)
		return read_retry(q);
	if (q->cmd == CONTROL_IMAGE) {
		q->verb = json_string_value(json_object_get(q->doc, "do"));
		q->path = json_string_value(json_object_get(q->doc, "path"));
		q->name = json_string_value(json_object_get(q->doc, "name"));
		return q->verb && q->path ? 0 : -EINVAL;
	}
	if (q->cmd != CONTROL_LOG)
		return 0;
	level = json_string_value(json_object_get(q->doc, "level"));
	return level ? log_parse_level(level, &q->level) : -EINVAL;
}

int control_parse(const char *line, size_t n, struct control_request *ret)
{
	struct control_request q = {.doc = json_loadb(line, n, 0, NULL)};
	int r = q.doc ? read_request(&q) : -EINVAL;

	if (r) {
		json_decref(q.doc);
		return r;
	}
	*ret = q;
	return 0;
}

/* --- lines over a socket ---------------------------------------------------------------------------------------- */

static int send_line(int fd, json_t *doc)
{
	char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0;
	int r = text ? 0 : -ENOMEM;

	if (text)
		text[len++] = '\n'; /* over the NUL */
	for (size_t off = 0; !r && off < len;) {
		ssize_t n = send(fd, text + off, len - off, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			r = -errno;
		else if (n > 0)
			off += (size_t)n;
	}
	free(text);
	return r;
}

/* Waits for fd to be readable; calls idle each second. */
static int wait_readable(int fd, int64_t deadline_ns, void (*idle)(void *arg), void *arg)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_ns ? (deadline_ns - clock_now_ns()) / NSEC_PER_MSEC : 1000;
		int n;

		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)MIN(left, 1000));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n && idle)
			idle(arg);
	}
}

/* One line into s (without the newline). -EPIPE at the end of file, -EMSGSIZE. */
static int recv_line(int fd, struct str *s, size_t max, int64_t deadline_ns, void (*idle)(void *arg), void *arg)
{
	char buf[4096];

	for (;;) {
		int r = wait_readable(fd, deadline_ns, idle, arg);
		ssize_t n;

		if (r)
			return r;
		n = recv(fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EPIPE;
		str_addn(s, buf, (size_t)n);
		if (s->err)
			return s->err;
		if (s->p[s->len - 1] == '\n') { /* a peer sends one line and waits */
			s->p[--s->len] = '\0';
			return 0;
		}
		if (s->len > max)
			return -EMSGSIZE;
	}
}

/* --- server ----------------------------------------------------------------------------------------------------- */

static void conn_close(struct conn *k)
{
	int fd;

	mtx_lock(&k->c->lock);
	fd = k->fd;
	k->fd = -1;
	mtx_unlock(&k->c->lock);
	close(fd);
}

static void conn_serve(struct job *job)
{
	struct conn *k = container_of(job, struct conn, job);
	struct str line = {0};
	bool hold = false;

	while (!recv_line(k->fd, &line, LINE_MAX_IN, hold ? 0 : clock_now_ns() + 60 * NSEC_PER_SEC, NULL, NULL)) {
		struct control_request req = {0};
		int r = control_parse(line.p, line.len, &req);
		json_t *ans = r ? refused(r, NULL) : answer(k->c->m, &req, &hold);

		r = send_line(k->fd, ans);
		json_decref(req.doc);
		json_decref(ans);
		str_reset(&line);
		if (r)
			break;
	}
	str_free(&line);
	conn_close(k);
}

static void take_conn(struct control *c, int fd)
{
	struct conn *k = NULL;

	mtx_lock(&c->lock);
	for (int i = 0; i < MAX_CONN && !k; i++)
		if (c->conn[i].fd < 0)
			k = &c->conn[i];
	if (k)
		k->fd = fd;
	mtx_unlock(&c->lock);
	if (!k) {
		close(fd);
		return;
	}
	k->job.fn = conn_serve;
	pool_submit(c->pool, &k->job);
}

static void *accept_thread(void *arg)
{
	struct control *c = arg;

	for (;;) {
		struct pollfd p[2] = {{.fd = c->listen_fd, .events = POLLIN}, {.fd = c->stop_pipe[0]}};
		int fd;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			break;
		if (!p[0].revents) /* accept would wait, and not for the end */
			continue;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			take_conn(c, fd);
		else if (errno == EMFILE || errno == ENFILE)
			clock_sleep_ns(100 * NSEC_PER_MSEC); /* the connection stays queued; do not spin */
	}
	return NULL;
}

/* The directory is ours alone, or (as root) at least nobody else may put sockets there. */
static int make_run_dir(struct objerr *err)
{
	_cleanup_free_ char *dir = NULL;
	struct stat st;
	int ret = run_dir(geteuid(), 0, &dir);

	if (ret)
		return ret;
	if (mkdir(dir, 0700) && errno != EEXIST) {
		int r = -errno;

		objerr_set(err, "%s: %m", dir);
		return r;
	}
	if (lstat(dir, &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		objerr_set(err, "%s: not a directory of ours alone", dir);
		return -EPERM;
	}
	return 0;
}

static int listen_at(const char *path, int *ret_fd, struct objerr *err)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un a;
	int r = socket_address(path, &a);

	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unlink(path);         /* the device number is ours now, so an older socket is a dead mount's */
	r = fchmod(fd, 0600); /* before bind: the socket file never has another mode; umask is 0 */
	if (!r)
		r = bind(fd, (struct sockaddr *)&a, sizeof(a));
	if (!r)
		r = chmod(path, 0600);
	if (!r)
		r = listen(fd, 16);
	if (r) {
		r = -errno;
		objerr_set(err, "%s: %m", path);
		return r;
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* The kernel gives the number of a mount that is gone to the next one: by then the name may be that one's socket. */
static bool still_ours(const struct control *c)
{
	struct stat st;

	return !stat(c->path, &st) && st.st_dev == c->socket.st_dev && st.st_ino == c->socket.st_ino &&
	       st.st_ctim.tv_sec == c->socket.st_ctim.tv_sec && st.st_ctim.tv_nsec == c->socket.st_ctim.tv_nsec;
}

static void control_free(struct control *c)
{
	pool_free(c->pool);
	if (c->listen_fd >= 0) {
		close(c->listen_fd);
		if (still_ours(c))
			unlink(c->path);
	}
	if (c->stop_pipe[0] >= 0)
		close(c->stop_pipe[0]);
	if (c->stop_pipe[1] >= 0)
		close(c->stop_pipe[1]);
	mtx_destroy(&c->lock);
	free(c->path);
	free(c);
}

int control_start(struct mount *m, struct control **ret, struct objerr *err)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->m = m;
	c->listen_fd = c->stop_pipe[0] = c->stop_pipe[1] = -1;
	mtx_init(&c->lock, RANK_MOUNT);
	for (int i = 0; i < MAX_CONN; i++)
		c->conn[i] = (struct conn){.c = c, .fd = -1};
	r = make_run_dir(err);
	if (!r)
		r = socket_path(&m->point, geteuid(), 0, &c->path);
	if (!r)
		r = listen_at(c->path, &c->listen_fd, err);
	if (!r && stat(c->path, &c->socket))
		r = -errno;
	if (!r && pipe2(c->stop_pipe, O_CLOEXEC))
		r = -errno;
	if (!r)
		r = pool_new("lsvdfs-ctl", MAX_CONN, &c->pool);
	if (!r)
		r = -pthread_create(&c->thread, NULL, accept_thread, c);
	if (r) {
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	close(c->stop_pipe[1]);
	c->stop_pipe[1] = -1;
	pthread_join(c->thread, NULL);
	mtx_lock(&c->lock);
	for (int i = 0; i < MAX_CONN; i++)
		if (c->conn[i].fd >= 0)
			shutdown(c->conn[i].fd, SHUT_RDWR);
	mtx_unlock(&c->lock);
	control_free(c);
}

/* --- client ----------------------------------------------------------------------------------------------------- */

static int connect_to(const char *path, unsigned uid, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct sockaddr_un a;
	int r = socket_address(path, &a);

	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return -errno;
	/* /tmp is everybody's: only who mounted can say that all is sent */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || cred.uid != uid)
		return -ENOENT;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int control_connect(const struct mntpoint *point, int *ret_fd)
{
	int r = -ENOENT;

	for (unsigned i = 0;; i++) {
		_cleanup_free_ char *path = NULL;
		int e = socket_path(point, point->uid, i, &path);

		if (e == -ENOENT)
			return r;
		if (!e)
			e = connect_to(path, point->uid, ret_fd);
		if (!e || e == -ENOMEM)
			return e;
		if (e != -ENOENT) /* something is there */
			r = e;
	}
}

int control_ask(int fd, json_t *take_req, int timeout_ms, void (*idle)(void *arg), void *arg, json_t **ret,
		struct objerr *err)
{
	int64_t deadline = timeout_ms < 0 ? 0 : clock_now_ns() + timeout_ms * NSEC_PER_MSEC;
	struct str line = {0};
	json_error_t je;
	json_t *ans = NULL;
	int r = take_req ? send_line(fd, take_req) : -ENOMEM;

	json_decref(take_req);
	if (!r)
		r = recv_line(fd, &line, LINE_MAX_OUT, deadline, idle, arg);
	if (!r) {
		ans = json_loadb(line.p, line.len, 0, &je);
		r = ans ? 0 : -EBADMSG;
	}
	str_free(&line);
	if (!r && !json_is_true(json_object_get(ans, "ok"))) {
		const char *words = json_string_value(json_object_get(ans, "error"));

		objerr_set(err, "%s", words ? words : "refused");
		r = -EREMOTEIO;
	}
	if (r) {
		if (r != -EREMOTEIO)
			objerr_set(err, "the daemon does not answer: %s", explain_errno(r));
		json_decref(ans);
		return r;
	}
	*ret = ans;
	return 0;
}
