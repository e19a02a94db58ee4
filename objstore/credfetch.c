/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * credfetch.c - the two sources of keys that take time: a process and the instance metadata service.
 *
 * Both block and run on the credentials thread. The process gets its own process group, so that on a time-out the shell
 * and what it started end together; its output is wiped. IMDS is asked in version 2 only: a token by PUT, which a request
 * forged through some proxy cannot make. Sources: AWS SDKs and Tools Reference Guide "Process credential provider",
 * EC2 User Guide "Use the Instance Metadata Service".
 */
#include "config.h"
#include "creds.h"
#include "http.h"
#include "sign.h"
#include "base/clock.h"
#include "base/str.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESS_NS (60 * NSEC_PER_SEC)
#define POLL_MS 100
#define OUTPUT_MAX (64 * KiB)
#define IMDS_ENDPOINT "http://169.254.169.254"
#define IMDS_ROLES "/latest/meta-data/iam/security-credentials/"
#define IMDS_TTL_S "21600"

extern char **environ;

/* --- credential_process ------------------------------------------------------------------------------------------- */

struct output {
	char *p; /* OUTPUT_MAX bytes */
	size_t n;
	int fd;
};

static int spawn(const char *cmd, int out, int errfd, pid_t *ret)
{
	char *argv[] = {(char *)"sh", (char *)"-c", NULL, NULL};
	_cleanup_free_ char *copy = strdup(cmd);
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none, all;
	int r;

	if (copy == NULL)
		return -ENOMEM;
	argv[2] = copy;
	r = -posix_spawn_file_actions_init(&fa);
	if (r < 0)
		return r;
	r = -posix_spawnattr_init(&at);
	if (r < 0) {
		(void)posix_spawn_file_actions_destroy(&fa);
		return r;
	}
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	r = -posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	if (r == 0)
		r = -posix_spawn_file_actions_adddup2(&fa, out, 1);
	if (r == 0)
		r = -posix_spawn_file_actions_adddup2(&fa, errfd, 2);
	if (r == 0)
		r = -posix_spawnattr_setsigmask(&at, &none);
	if (r == 0)
		r = -posix_spawnattr_setsigdefault(&at, &all);
	if (r == 0)
		r = -posix_spawnattr_setpgroup(&at, 0);
	if (r == 0)
		r = -posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							   POSIX_SPAWN_SETPGROUP);
	if (r == 0)
		r = -posix_spawn(ret, "/bin/sh", &fa, &at, argv, environ);
	(void)posix_spawnattr_destroy(&at);
	(void)posix_spawn_file_actions_destroy(&fa);
	return r;
}

static void close_fd(int *fd)
{
	base_closep(fd);
	*fd = -1;
}

/* Reads what is there; closes at the end. What is beyond the bound is read and dropped. */
static void take_output(struct output *o)
{
	char drop[1024];
	bool full = o->n == OUTPUT_MAX;
	ssize_t n = read(o->fd, full ? drop : o->p + o->n, full ? sizeof(drop) : OUTPUT_MAX - o->n);

	if (n > 0 && !full)
		o->n += (size_t)n;
	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		close_fd(&o->fd);
	sign_wipe(drop, sizeof(drop));
}

/* Until both pipes are closed. */
static int collect(struct output o[2], const _Atomic bool *stop, int64_t until)
{
	while (o[0].fd >= 0 || o[1].fd >= 0) {
		struct pollfd pf[2] = {{o[0].fd, POLLIN, 0}, {o[1].fd, POLLIN, 0}};

		if (atomic_load(stop) || clock_now_ns() >= until)
			return -ETIMEDOUT;
		if (poll(pf, 2, POLL_MS) <= 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (pf[i].revents != 0)
				take_output(&o[i]);
	}
	return 0;
}

/* Waits for the shell and kills the group when that takes too long. Returns its exit status, -1 when not known. */
static int bury(pid_t pid, const _Atomic bool *stop, int64_t until)
{
	int st = 0;
	pid_t got;

	while ((got = waitpid(pid, &st, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
		if (atomic_load(stop) || clock_now_ns() >= until)
			(void)kill(-pid, SIGKILL);
		clock_sleep_ns(NSEC_PER_MSEC);
	}
	if (got < 0)
		return -1; /* somebody ignores SIGCHLD: judge by the output */
	return WIFEXITED(st) ? WEXITSTATUS(st) : 255;
}

/* Last line of what the process complained, printable. */
static void complaint(const struct output *o, char *dst, size_t cap)
{
	size_t end = o->n, begin, k = 0;

	while (end > 0 && (o->p[end - 1] == '\n' || o->p[end - 1] == '\r'))
		end--;
	for (begin = end; begin > 0 && o->p[begin - 1] != '\n'; begin--)
		;
	for (; begin < end && k + 1 < cap; begin++, k++)
		dst[k] = o->p[begin] >= 0x20 && o->p[begin] < 0x7f ? o->p[begin] : '?';
	dst[k] = '\0';
}

static int run(const char *cmd, const _Atomic bool *stop, struct output o[2], int *ret_exit)
{
	int64_t until = clock_now_ns() + PROCESS_NS;
	int out[2] = {-1, -1}, er[2] = {-1, -1}, r = 0;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(er, O_CLOEXEC) < 0)
		r = -errno;
	if (r == 0)
		r = spawn(cmd, out[1], er[1], &pid);
	close_fd(&out[1]);
	close_fd(&er[1]);
	o[0].fd = out[0];
	o[1].fd = er[0];
	if (r < 0)
		return r;
	r = collect(o, stop, until);
	*ret_exit = bury(pid, stop, r < 0 ? 0 : until);
	return r;
}

int creds_fetch_process(const char *cmd, const _Atomic bool *stop, struct creds_keys *ret, char *msg, size_t cap)
{
	struct output o[2] = {{malloc(OUTPUT_MAX), 0, -1}, {malloc(OUTPUT_MAX), 0, -1}};
	char said[160];
	int r = -ENOMEM, code = 0;

	if (o[0].p == NULL || o[1].p == NULL)
		goto out;
	r = run(cmd, stop, o, &code);
	if (r < 0) {
		(void)snprintf(msg, cap, "credential_process: %s",
			       r == -ETIMEDOUT ? "no answer within a minute" : strerrordesc_np(-r));
		goto out;
	}
	complaint(&o[1], said, sizeof(said));
	if (code > 0) {
		(void)snprintf(msg, cap, "credential_process failed with status %d: %s", code, said);
		r = -EACCES;
		goto out;
	}
	r = creds_parse_json(o[0].p, o[0].n, ret);
	if (r == -EBADMSG)
		(void)snprintf(msg, cap, "credential_process did not print the JSON of version 1 %s", said);
out:
	for (int i = 0; i < 2; i++) {
		close_fd(&o[i].fd);
		sign_wipe(o[i].p, o[i].p != NULL ? o[i].n : 0);
		free(o[i].p);
	}
	return r;
}

/* --- instance metadata -------------------------------------------------------------------------------------------- */

/* One request; *ret_text is wiped and freed by the caller. */
static int ask(struct http *http, const char *endpoint, const char *method, const char *path,
	       const struct http_pair *header, struct str *ret_text, int *ret_code)
{
	struct http_req h = {.method = method, .headers = header, .nheaders = 1, .repeatable = true};
	struct str url = {0};
	int r;

	str_add(&url, endpoint);
	str_add(&url, path);
	if (url.err < 0) {
		str_free(&url);
		return -ENOMEM;
	}
	h.url = url.p;
	h.deadline_ns = clock_now_ns() + 3 * NSEC_PER_SEC;
	r = http_do(http, &h);
	if (r == 0) {
		*ret_code = h.code;
		*ret_text = h.text;
		h.text = (struct str){0};
	}
	http_req_done(&h);
	str_free(&url);
	return r;
}

static void wipe_text(struct str *s)
{
	sign_wipe(s->p, s->len);
	str_free(s);
}

/* One line of printable characters, or nothing. */
static bool is_line(const struct str *s)
{
	for (size_t i = 0; i < s->len; i++)
		if (s->p[i] <= 0x20 || s->p[i] >= 0x7f)
			return false;
	return s->len > 0;
}

static int imds_keys(struct http *http, const char *endpoint, const struct http_pair *token, struct creds_keys *ret,
		     char *msg, size_t cap)
{
	struct str role = {0}, doc = {0}, path = {0};
	int code = 0, r;

	r = ask(http, endpoint, "GET", IMDS_ROLES, token, &role, &code);
	if (r < 0)
		goto out;
	if (role.p != NULL && strchr(role.p, '\n') != NULL) { /* the first of several */
		role.len = strcspn(role.p, "\r\n");
		role.p[role.len] = '\0';
	}
	if (code != 200 || !is_line(&role)) {
		(void)snprintf(msg, cap, "no credentials: this instance has no role (metadata service said %d)", code);
		r = -EACCES;
		goto out;
	}
	str_add(&path, IMDS_ROLES);
	str_add(&path, role.p);
	r = path.err < 0 ? path.err : ask(http, endpoint, "GET", path.p, token, &doc, &code);
	if (r < 0)
		goto out;
	r = code == 200 ? creds_parse_json(doc.p, doc.len, ret) : -EACCES;
	if (r < 0)
		(void)snprintf(msg, cap, "metadata service: no credentials for role %s (status %d)", role.p, code);
out:
	str_free(&role);
	str_free(&path);
	wipe_text(&doc);
	return r;
}

int creds_fetch_imds(const char *endpoint, struct creds_keys *ret, char *msg, size_t cap)
{
	static const struct http_pair ttl = {"x-aws-ec2-metadata-token-ttl-seconds", IMDS_TTL_S};
	const struct http_opts opts = {
		.connections = 1, .connect_ns = NSEC_PER_SEC, .stall_ns = 2 * NSEC_PER_SEC};
	struct http_pair token = {"x-aws-ec2-metadata-token", ""};
	struct str text = {0};
	struct http *http;
	int code = 0, r;

	msg[0] = '\0';
	if (endpoint == NULL || endpoint[0] == '\0')
		endpoint = IMDS_ENDPOINT;
	r = http_new(&opts, &http);
	if (r < 0)
		return r;
	r = ask(http, endpoint, "PUT", "/latest/api/token", &ttl, &text, &code);
	if (r == 0 && (code != 200 || !is_line(&text)))
		r = -EACCES;
	if (r == 0) {
		token.value = text.p;
		r = imds_keys(http, endpoint, &token, ret, msg, cap);
	}
	if (r < 0 && r != -ENOMEM && msg[0] == '\0') {
		(void)snprintf(msg, cap, "no credentials: none in passwd_file=, environment, ~/.aws or ~/.passwd-s3fs, "
					 "and no instance metadata service");
		r = -EACCES;
	}
	wipe_text(&text);
	http_free(http);
	return r;
}
