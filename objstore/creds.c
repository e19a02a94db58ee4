/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * creds.c - the provider chain and refresh. The parsers are in credparse.c, slow sources in credfetch.c.
 *
 *   keys          creds_get()                         the loader
 *   none          queues the waiter, starts a load    gives keys or an error to all waiters
 *   valid         answers inline                      -
 *   old (< 5 min) answers inline, starts a load       replaces the keys; a failure changes nothing
 *   expired       as none                             as none
 *   refused       as none                             as none
 *
 * At most one load runs. `cur` is counted, so that a request signs with keys that a load replaces meanwhile.
 */
#include "config.h"
#include "creds.h"
#include "sign.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/pool.h"
#include "base/str.h"
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1 * MiB)		  /* of a credentials file */
#define EARLY_S 300			  /* fetch again so long before the end */
#define AGAIN_NS (10 * NSEC_PER_SEC)	  /* pause between loads that failed or were asked for by a refusal */
#define FAILED_NS (1 * NSEC_PER_SEC)	  /* a failure answers everybody for so long */

/* NULL stays NULL. */
static int dup_opt(const char *s, char **ret)
{
	*ret = s != NULL ? strdup(s) : NULL;
	return s != NULL && *ret == NULL ? -ENOMEM : 0;
}

/* --- files -------------------------------------------------------------------------------------------------------- */

struct secret_file {
	char *p;
	size_t n;
};

static void secret_file_free(struct secret_file *f)
{
	sign_wipe(f->p, f->n);
	free(f->p);
	*f = (struct secret_file){0};
}

/* private_only: nobody but the owner may read it. -ENOENT silent, all else with words. */
static int read_file(const char *path, bool private_only, struct secret_file *ret, struct objerr *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct secret_file f = {0};
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		if (r == -ENOENT || r == -ENOTDIR)
			return -ENOENT;
		objerr_set(err, "%s: %s", path, strerrordesc_np(-r));
		return r;
	}
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX) {
		objerr_set(err, "%s: not a credentials file", path);
		return -EBADMSG;
	}
	if (private_only && (st.st_mode & 07177) != 0) {
		objerr_set(err, "%s has mode %04o and holds secrets: chmod 600 it", path, st.st_mode & 07777);
		return -EACCES;
	}
	f.n = (size_t)st.st_size;
	f.p = malloc(f.n + 1);
	if (f.p == NULL)
		return -ENOMEM;
	r = base_pread_all(fd, f.p, f.n, 0);
	if (r < 0) {
		objerr_set(err, "%s: %s", path, strerrordesc_np(-r));
		secret_file_free(&f);
		return r;
	}
	*ret = f;
	return 0;
}

/* HOME, or what the password database says (init systems start mounts without HOME). *ret is the caller's. */
static int home_file(const char *name, char **ret)
{
	const char *home = getenv("HOME");
	struct passwd pw, *found = NULL;
	char buf[4096];
	struct str s = {0};

	if (home == NULL || home[0] == '\0')
		home = getpwuid_r(geteuid(), &pw, buf, sizeof(buf), &found) == 0 && found != NULL ? found->pw_dir : "";
	str_addf(&s, "%s/%s", home, name);
	return str_take(&s, ret);
}

/* --- the chain ---------------------------------------------------------------------------------------------------- */

enum kind { KIND_NONE, KIND_ANONYMOUS, KIND_ENV, KIND_FILE, KIND_PROCESS, KIND_IMDS };

struct source {
	enum kind kind;
	char name[160];		/* in words */
	char *process, *region; /* owned */
	struct creds_keys keys; /* ENV, FILE */
};

static void source_wipe(struct source *s)
{
	creds_keys_wipe(&s->keys);
	free(s->process);
	free(s->region);
	*s = (struct source){0};
}

static int from_passwd(const char *path, const char *bucket, struct source *s, struct objerr *err)
{
	struct secret_file f;
	unsigned line = 0;
	int r = read_file(path, true, &f, err);

	if (r < 0)
		return r;
	r = creds_parse_passwd(f.p, f.n, bucket, &s->keys, &line);
	secret_file_free(&f);
	if (r == -EBADMSG)
		objerr_set(err, "%s: line %u is not ACCESS:SECRET or BUCKET:ACCESS:SECRET", path, line);
	if (r == -ENOENT) {
		objerr_set(err, "%s has no line for bucket %s", path, bucket);
		r = -EACCES;
	}
	if (r == 0) {
		s->kind = KIND_FILE;
		(void)snprintf(s->name, sizeof(s->name), "%s", path);
	}
	return r;
}

/* -ENOENT when the file is not there. */
static int read_profile(const char *env, const char *dflt, const char *name, bool config, struct creds_profile *ret,
			struct objerr *err)
{
	_cleanup_free_ char *path = NULL;
	struct secret_file f;
	unsigned line = 0;
	int r = 0;

	if (getenv(env) != NULL) {
		path = strdup(getenv(env));
		r = path == NULL ? -ENOMEM : 0;
	} else {
		r = home_file(dflt, &path);
	}
	if (r == 0)
		r = read_file(path, false, &f, err);
	if (r < 0)
		return r;
	r = creds_parse_profile(f.p, f.n, name, config, ret, &line);
	secret_file_free(&f);
	if (r == -EBADMSG)
		objerr_set(err, "%s: line %u cannot be understood", path, line);
	return r;
}

/* Decides what a profile's two halves (credentials, config) give. */
static int use_profile(struct creds_profile *cred, struct creds_profile *conf, const char *name, struct source *s,
		       struct objerr *err)
{
	struct creds_profile *p = cred->keys.access != NULL || cred->keys.secret != NULL ? cred : conf;
	char **process = cred->process != NULL ? &cred->process : &conf->process;

	(void)snprintf(s->name, sizeof(s->name), "profile %s", name);
	if (p->keys.access != NULL && p->keys.secret != NULL) {
		s->kind = KIND_FILE;
		s->keys = p->keys;
		p->keys = (struct creds_keys){0};
	} else if (p->keys.access != NULL || p->keys.secret != NULL) {
		objerr_set(err, "profile %s has only one of aws_access_key_id and aws_secret_access_key", name);
		return -EACCES;
	} else if (*process != NULL) {
		s->kind = KIND_PROCESS;
		s->process = *process;
		*process = NULL;
	} else if (cred->unsupported || conf->unsupported) {
		objerr_set(err, "profile %s wants a role or SSO, which is not supported: use credential_process", name);
		return -EPERM;
	}
	return 0;
}

/* must: the profile was asked for by name. Sets the region whenever one is said, kind only with credentials. */
static int from_profile(const char *name, bool must, bool want_keys, struct source *s, struct objerr *err)
{
	struct creds_profile cred = {0}, conf = {0};
	char **region;
	int r = read_profile("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", name, false, &cred, err);

	if (r == 0 || r == -ENOENT)
		r = read_profile("AWS_CONFIG_FILE", ".aws/config", name, true, &conf, err);
	if (r == -ENOENT)
		r = 0;
	if (r < 0)
		goto out;
	if (must && !cred.found && !conf.found) {
		objerr_set(err, "no profile %s in ~/.aws/credentials or ~/.aws/config", name);
		r = -ENOENT;
		goto out;
	}
	region = cred.region != NULL ? &cred.region : &conf.region;
	if (s->region == NULL) {
		s->region = *region;
		*region = NULL;
	}
	if (want_keys)
		r = use_profile(&cred, &conf, name, s, err);
	if (r == 0 && must && want_keys && s->kind == KIND_NONE) {
		objerr_set(err, "profile %s holds no credentials", name);
		r = -EACCES;
	}
out:
	creds_profile_wipe(&cred);
	creds_profile_wipe(&conf);
	return r;
}

static int from_env(struct source *s, struct objerr *err)
{
	const char *access = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
	const char *token = getenv("AWS_SESSION_TOKEN");
	struct creds_keys k = {0};
	int r;

	if (access == NULL || access[0] == '\0')
		return 0;
	if (secret == NULL || secret[0] == '\0') {
		objerr_set(err, "AWS_ACCESS_KEY_ID is set but AWS_SECRET_ACCESS_KEY is not");
		return -EACCES;
	}
	if (!creds_is_token(access) || !creds_is_token(secret)) {
		objerr_set(err, "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY holds blanks or control characters");
		return -EACCES;
	}
	r = dup_opt(access, &k.access);
	if (r == 0)
		r = dup_opt(secret, &k.secret);
	if (r == 0 && token != NULL && creds_is_token(token))
		r = dup_opt(token, &k.token);
	if (r < 0) {
		creds_keys_wipe(&k);
		return r;
	}
	s->kind = KIND_ENV;
	s->keys = k;
	(void)snprintf(s->name, sizeof(s->name), "environment");
	return 0;
}

/* ~/.passwd-s3fs, then /etc/passwd-s3fs; absent ones are passed over. */
static int from_default_passwd(const char *bucket, struct source *s, struct objerr *err)
{
	_cleanup_free_ char *mine = NULL;
	int r = home_file(".passwd-s3fs", &mine);

	if (r == 0)
		r = from_passwd(mine, bucket, s, err);
	if (r == -ENOENT)
		r = from_passwd("/etc/passwd-s3fs", bucket, s, err);
	return r == -ENOENT ? 0 : r;
}

static bool env_is_true(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && strcasecmp(v, "true") == 0;
}

static int env_region(struct source *s)
{
	const char *v = getenv("AWS_REGION");

	if (v == NULL || v[0] == '\0')
		v = getenv("AWS_DEFAULT_REGION");
	return v == NULL || v[0] == '\0' ? 0 : dup_opt(v, &s->region);
}

/* Walks the chain; *ret is the caller's. */
static int discover(const struct creds_opts *o, struct source *ret, struct objerr *err)
{
	const char *profile = o->profile != NULL ? o->profile : getenv("AWS_PROFILE");
	struct objerr ignored = {0};
	struct source s = {0};
	bool named = profile != NULL && profile[0] != '\0';
	int r = env_region(&s);

	if (r == 0 && o->no_sign)
		s.kind = KIND_ANONYMOUS;
	else if (r == 0 && o->passwd_file != NULL) {
		r = from_passwd(o->passwd_file, o->bucket, &s, err);
		if (r == -ENOENT)
			objerr_set(err, "passwd_file %s is not there", o->passwd_file);
	}
	if (r == 0 && s.kind == KIND_NONE && o->profile == NULL)
		r = from_env(&s, err);
	if (r == 0 && s.kind == KIND_NONE)
		r = from_profile(named ? profile : "default", named, true, &s, err);
	else if (r == 0) /* the keys are from elsewhere: the profile may still say the region, and need not be sound */
		(void)from_profile(named ? profile : "default", false, false, &s, &ignored);
	if (r == 0 && s.kind == KIND_NONE)
		r = from_default_passwd(o->bucket, &s, err);
	if (r == 0 && s.kind == KIND_NONE && !env_is_true("AWS_EC2_METADATA_DISABLED")) {
		s.kind = KIND_IMDS;
		(void)snprintf(s.name, sizeof(s.name), "instance metadata");
	}
	if (r == 0 && s.kind == KIND_NONE) {
		objerr_set(err, "no credentials: give passwd_file= or profile=, set AWS_ACCESS_KEY_ID, or say no_sign");
		r = -EACCES;
	}
	if (r < 0)
		source_wipe(&s);
	else
		*ret = s;
	return r;
}

/* --- refresh ------------------------------------------------------------------------------------------------------ */

struct counted {
	struct creds_keys keys;
	unsigned refs; /* under the lock of creds */
};

struct creds {
	char *bucket, *profile, *passwd_file; /* ours; the options as they were */
	bool no_sign;
	enum kind kind; /* read-only after creds_new, as are the next two */
	char *region;
	char name[160];
	char *process;	/* the loader's own */
	struct pool *pool;
	struct job job;
	_Atomic bool stop;

	struct mtx lock;
	/* under lock */
	struct counted *cur;
	bool refused; /* cur is not to be used any more */
	bool loading;
	struct creds_waiter *waiters;
	unsigned gen;
	int64_t loaded_ns; /* monotonic: last end of a load */
	int status;	   /* of that load */
	char msg[256];
};

/* Drops a reference; the last one wipes. */
static void unref_locked(struct counted *k)
{
	if (k == NULL || --k->refs > 0)
		return;
	creds_keys_wipe(&k->keys);
	free(k);
}

static bool same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Takes the keys over; the generation changes only if they do. */
static int install_locked(struct creds *c, struct creds_keys *take)
{
	struct counted *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return -ENOMEM;
	n->refs = 1;
	n->keys = *take;
	*take = (struct creds_keys){0};
	if (c->cur == NULL || !same(c->cur->keys.access, n->keys.access) ||
	    !same(c->cur->keys.secret, n->keys.secret) || !same(c->cur->keys.token, n->keys.token))
		c->gen++;
	n->keys.gen = c->gen;
	unref_locked(c->cur);
	c->cur = n;
	c->refused = false;
	return 0;
}

/* Blocking. */
static int load(struct creds *c, struct creds_keys *ret, char *msg, size_t cap)
{
	struct creds_opts o = {c->bucket, c->profile, c->passwd_file, c->no_sign};
	struct objerr err = {0};
	struct source s = {0};
	int r;

	if (c->kind == KIND_IMDS)
		return creds_fetch_imds(getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), ret, msg, cap);
	if (c->kind == KIND_PROCESS)
		return creds_fetch_process(c->process, &c->stop, ret, msg, cap);
	r = discover(&o, &s, &err);
	if (r == 0 && s.kind != KIND_FILE) {
		objerr_set(&err, "%s holds no credentials any more", c->name);
		r = -EACCES;
	}
	if (r == 0) {
		*ret = s.keys;
		s.keys = (struct creds_keys){0};
	}
	(void)snprintf(msg, cap, "%s", err.msg);
	source_wipe(&s);
	return r;
}

/*
 * A failure as a request may be told: keys that are not to be had say nothing about objects, and -ENOENT of a file would.
 * A process or service that gave keys before is expected to give some again.
 */
static int verdict_locked(const struct creds *c, int r)
{
	if (r == -ETIMEDOUT || (c->gen > 0 && (c->kind == KIND_PROCESS || c->kind == KIND_IMDS)))
		return -EHOSTUNREACH;
	return -EACCES;
}

static void load_job(struct job *job)
{
	struct creds *c = container_of(job, struct creds, job);
	struct creds_keys k = {0};
	struct creds_waiter *w, *next;
	struct counted *cur = NULL;
	char msg[256] = "";
	int r = load(c, &k, msg, sizeof(msg));

	if (r == 0 && k.expires_s != 0 && k.expires_s <= clock_real_ns() / NSEC_PER_SEC) {
		(void)snprintf(msg, sizeof(msg), "%s gave credentials that have expired", c->name);
		r = -EACCES;
	}
	mtx_lock(&c->lock);
	if (r == 0)
		r = install_locked(c, &k);
	else if (r != -ENOMEM)
		r = verdict_locked(c, r);
	c->status = r;
	(void)snprintf(c->msg, sizeof(c->msg), "%s", msg);
	c->loaded_ns = clock_now_ns();
	c->loading = false;
	w = c->waiters;
	c->waiters = NULL;
	if (r == 0) {
		cur = c->cur;
		cur->refs++;
	}
	mtx_unlock(&c->lock);
	creds_keys_wipe(&k);
	for (; w != NULL; w = next) {
		next = w->next;
		w->fn(w, r, cur != NULL ? &cur->keys : NULL, msg);
	}
	mtx_lock(&c->lock);
	unref_locked(cur);
	mtx_unlock(&c->lock);
}

/* True when the caller must start a load after the lock is given up. */
static bool want_load_locked(struct creds *c)
{
	if (c->loading || c->pool == NULL)
		return false;
	c->loading = true;
	return true;
}

void creds_get(struct creds *c, struct creds_waiter *w)
{
	int64_t now_s = clock_real_ns() / NSEC_PER_SEC, now = clock_now_ns();
	struct counted *cur = NULL;
	char msg[256] = "";
	bool start = false, queued = false;
	int r = 0;

	mtx_lock(&c->lock);
	if (c->cur != NULL && !c->refused && (c->cur->keys.expires_s == 0 || c->cur->keys.expires_s > now_s)) {
		cur = c->cur;
		cur->refs++;
		if (cur->keys.expires_s != 0 && cur->keys.expires_s - now_s <= EARLY_S &&
		    now - c->loaded_ns > AGAIN_NS)
			start = want_load_locked(c);
	} else if (!c->loading && c->status < 0 && now - c->loaded_ns < FAILED_NS) {
		r = c->status;
		(void)snprintf(msg, sizeof(msg), "%s", c->msg);
	} else {
		w->next = c->waiters;
		c->waiters = w;
		queued = true;
		start = want_load_locked(c);
	}
	mtx_unlock(&c->lock);
	if (start)
		pool_submit(c->pool, &c->job);
	if (queued)
		return;
	w->fn(w, r, cur != NULL ? &cur->keys : NULL, msg);
	mtx_lock(&c->lock);
	unref_locked(cur);
	mtx_unlock(&c->lock);
}

bool creds_refused(struct creds *c, unsigned gen)
{
	bool again;

	mtx_lock(&c->lock);
	if (c->pool == NULL) {
		again = false;
	} else if (c->refused || c->gen != gen) {
		again = true;
	} else if (clock_now_ns() - c->loaded_ns < AGAIN_NS) {
		again = false;
	} else {
		c->refused = true;
		again = true;
	}
	mtx_unlock(&c->lock);
	return again;
}

bool creds_anonymous(const struct creds *c)
{
	return c->kind == KIND_ANONYMOUS;
}

const char *creds_region(const struct creds *c)
{
	return c->region;
}

const char *creds_source(const struct creds *c)
{
	return c->name;
}

int creds_new(const struct creds_opts *opts, struct creds **ret, struct objerr *err)
{
	struct creds *c = calloc(1, sizeof(*c));
	struct source s = {0};
	int r;

	if (c == NULL)
		return -ENOMEM;
	mtx_init(&c->lock, RANK_CREDS);
	c->job.fn = load_job;
	c->no_sign = opts->no_sign;
	r = discover(opts, &s, err);
	if (r == 0)
		r = dup_opt(opts->bucket, &c->bucket);
	if (r == 0)
		r = dup_opt(opts->profile, &c->profile);
	if (r == 0)
		r = dup_opt(opts->passwd_file, &c->passwd_file);
	if (r < 0)
		goto out;
	c->kind = s.kind;
	c->region = s.region;
	c->process = s.process;
	s.region = s.process = NULL;
	(void)snprintf(c->name, sizeof(c->name), "%s", s.name);
	if (c->kind == KIND_ENV || c->kind == KIND_FILE || c->kind == KIND_ANONYMOUS) {
		mtx_lock(&c->lock);
		r = install_locked(c, &s.keys);
		mtx_unlock(&c->lock);
	}
	c->loaded_ns = clock_now_ns() - AGAIN_NS - 1;
	if (r == 0 && c->kind != KIND_ENV && c->kind != KIND_ANONYMOUS)
		r = pool_new("creds", 1, &c->pool);
out:
	source_wipe(&s);
	if (r < 0)
		creds_free(c);
	else
		*ret = c;
	return r;
}

void creds_free(struct creds *c)
{
	if (c == NULL)
		return;
	atomic_store(&c->stop, true);
	pool_free(c->pool);
	mtx_lock(&c->lock);
	unref_locked(c->cur);
	mtx_unlock(&c->lock);
	mtx_destroy(&c->lock);
	free(c->bucket);
	free(c->profile);
	free(c->passwd_file);
	free(c->region);
	free(c->process);
	free(c);
}
