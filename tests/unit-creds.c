/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unit-creds.c - credential files, the chain, processes, the metadata service, refresh. */
#include "config.h"
#include "objstore/creds.h"
#include "objstore/base/clock.h"
#include "stub.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* --- parsers ------------------------------------------------------------------------------------------------------ */

static void check_passwd(const char *text, const char *bucket, const char *access, const char *secret)
{
	struct creds_keys k = {0};

	assert_int_equal(creds_parse_passwd(text, strlen(text), bucket, &k, NULL), 0);
	assert_string_equal(k.access, access);
	assert_string_equal(k.secret, secret);
	assert_null(k.token);
	creds_keys_wipe(&k);
	assert_null(k.secret);
}

static void passwd_lines(void **state)
{
	struct creds_keys k = {0};
	unsigned line = 0;

	check_passwd("AK:SK", "b", "AK", "SK");
	check_passwd("# note\n\n  AK:S/K+=  \r\n", "b", "AK", "S/K+=");
	check_passwd("b:AK:SK\n", "b", "AK", "SK");
	check_passwd("AK0:SK0\nb:AK1:SK1\n", "b", "AK1", "SK1");
	check_passwd("other:AK1:SK1\nAK0:SK0\n", "b", "AK0", "SK0");
	check_passwd("account:user:SK\n", "b", "account:user", "SK"); /* Swift */
	check_passwd("b:account:user:SK\n", "b", "account:user", "SK");
	check_passwd("b:SK\n", "b", "b", "SK"); /* an access key that is called like the bucket */
	check_passwd("A:1\nB:2\n", "b", "A", "1");
	assert_int_equal(creds_parse_passwd("# nothing\n", 10, "b", &k, NULL), -ENOENT);
	assert_int_equal(creds_parse_passwd("", 0, "b", &k, NULL), -ENOENT);
	assert_int_equal(creds_parse_passwd("AK:SK\nnocolon\n", 14, "b", &k, &line), -EBADMSG);
	assert_int_equal(line, 2);
	assert_int_equal(creds_parse_passwd(":SK\n", 4, "b", &k, &line), -EBADMSG);
	assert_int_equal(creds_parse_passwd("AK:\n", 4, "b", &k, &line), -EBADMSG);
	assert_int_equal(creds_parse_passwd("A K:SK\n", 7, "b", &k, &line), -EBADMSG);
	assert_int_equal(creds_parse_passwd("AK:S\0K\n", 7, "b", &k, &line), -EBADMSG);
	assert_null(k.access);
}

static const char credentials[] = "[default]\naws_access_key_id = AK0\naws_secret_access_key=SK0\n"
				  "[ work ]\naws_access_key_id=AK1\n# c\n; c\naws_secret_access_key = SK=1\n"
				  "aws_session_token = TOK\n";
static const char config[] = "[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n  odd\n"
			     "[profile work]\nregion=eu-north-1\ncredential_process = /bin/keys --for \"a b\"\n"
			     "[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n"
			     "[work]\nregion=wrong\n";

static void profiles(void **state)
{
	struct creds_profile p = {.found = false};

	assert_int_equal(creds_parse_profile(credentials, strlen(credentials), "work", false, &p, NULL), 0);
	assert_true(p.found);
	assert_string_equal(p.keys.access, "AK1");
	assert_string_equal(p.keys.secret, "SK=1");
	assert_string_equal(p.keys.token, "TOK");
	creds_profile_wipe(&p);
	assert_int_equal(creds_parse_profile(credentials, strlen(credentials), "default", false, &p, NULL), 0);
	assert_string_equal(p.keys.access, "AK0");
	assert_null(p.keys.token);
	creds_profile_wipe(&p);
	assert_int_equal(creds_parse_profile(config, strlen(config), "work", true, &p, NULL), 0);
	assert_string_equal(p.region, "eu-north-1");
	assert_string_equal(p.process, "/bin/keys --for \"a b\"");
	assert_false(p.unsupported);
	creds_profile_wipe(&p);
	assert_int_equal(creds_parse_profile(config, strlen(config), "default", true, &p, NULL), 0);
	assert_string_equal(p.region, "eu-west-1");
	creds_profile_wipe(&p);
	assert_int_equal(creds_parse_profile(config, strlen(config), "role", true, &p, NULL), 0);
	assert_true(p.unsupported);
	creds_profile_wipe(&p);
	assert_int_equal(creds_parse_profile(config, strlen(config), "none", true, &p, NULL), 0);
	assert_false(p.found);
	creds_profile_wipe(&p);
}

static void bad_profiles(void **state)
{
	static const char *const bad[] = {"[default\nx=1\n", "[default]\nnonsense\n",
					  "[default]\naws_access_key_id = A K\n", "[default]\naws_access_key_id =\n"};
	struct creds_profile p = {.found = false};
	unsigned line = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(creds_parse_profile(bad[i], strlen(bad[i]), "default", false, &p, &line), -EBADMSG);
	assert_int_equal(line, 2);
	assert_null(p.keys.access);
	assert_int_equal(creds_parse_profile("[default]\nx=\0\n", 14, "default", false, &p, &line), -EBADMSG);
}

static int parse_json(const char *s, struct creds_keys *k)
{
	return creds_parse_json(s, strlen(s), k);
}

static void json(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"Version\":2,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}",
		"{\"Version\":1,\"AccessKeyId\":\"A\"}",
		"{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":7}",
		"{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"\"}",
		"{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\\nX\"}",
		"{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Expiration\":\"soon\"}",
		"{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"} x",
		"{\"Code\":\"Failed\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}",
		"{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}",
	};
	struct creds_keys k = {0};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse_json(bad[i], &k) != -EBADMSG)
			fail_msg("taken: %s", bad[i]);
	assert_null(k.access);
	assert_int_equal(parse_json("{\"Version\":1,\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\"}", &k), 0);
	assert_int_equal(k.expires_s, 0);
	assert_null(k.token);
	creds_keys_wipe(&k);
	assert_int_equal(parse_json("{\"Code\":\"Success\",\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"S\",\"Token\":\"T\","
				    "\"Expiration\":\"2026-11-21T00:00:00Z\",\"LastUpdated\":\"x\"}", &k), 0);
	assert_string_equal(k.token, "T");
	assert_int_equal(k.expires_s, 1795219200);
	creds_keys_wipe(&k);
}

/* --- a home of our own -------------------------------------------------------------------------------------------- */

static char home[64];

static void put_file(const char *name, const char *text, mode_t mode)
{
	char path[256];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", home, name);
	(void)unlink(path); /* a test before may have made it 0400 */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void drop_file(const char *name)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", home, name);
	(void)unlink(path);
}

static int clean_environment(void **state)
{
	static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
					    "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE",
					    "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_SERVICE_ENDPOINT"};
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	(void)snprintf(home, sizeof(home), "/tmp/unit-creds.XXXXXX");
	if (mkdtemp(home) == NULL)
		return -1;
	setenv("HOME", home, 1);
	(void)snprintf(path, sizeof(path), "%s/.aws", home);
	return mkdir(path, 0700);
}

static int remove_home(void **state)
{
	static const char *const files[] = {".aws/credentials", ".aws/config", ".passwd-s3fs", "pw", "count", "keys"};
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		drop_file(files[i]);
	(void)snprintf(path, sizeof(path), "%s/.aws", home);
	(void)rmdir(path);
	return rmdir(home);
}

/* --- waiting for keys --------------------------------------------------------------------------------------------- */

struct wait {
	struct creds_waiter w;
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool done, inline_;
	pthread_t caller;
	int status;
	char access[64], secret[64], token[64], msg[256];
	unsigned gen;
};

static void wait_fn(struct creds_waiter *cw, int status, const struct creds_keys *k, const char *msg)
{
	struct wait *w = container_of(cw, struct wait, w);

	pthread_mutex_lock(&w->lock);
	w->status = status;
	w->inline_ = pthread_equal(pthread_self(), w->caller);
	(void)snprintf(w->msg, sizeof(w->msg), "%s", msg);
	if (status == 0) {
		w->gen = k->gen;
		(void)snprintf(w->access, sizeof(w->access), "%s", k->access != NULL ? k->access : "");
		(void)snprintf(w->secret, sizeof(w->secret), "%s", k->secret != NULL ? k->secret : "");
		(void)snprintf(w->token, sizeof(w->token), "%s", k->token != NULL ? k->token : "");
	}
	w->done = true;
	pthread_cond_signal(&w->over);
	pthread_mutex_unlock(&w->lock);
}

static void ask(struct creds *c, struct wait *w)
{
	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->over, NULL);
	w->caller = pthread_self();
	w->w.fn = wait_fn;
	creds_get(c, &w->w);
}

static void finish(struct wait *w)
{
	pthread_mutex_lock(&w->lock);
	while (!w->done)
		pthread_cond_wait(&w->over, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

static void get_keys(struct creds *c, struct wait *w)
{
	ask(c, w);
	finish(w);
}

static struct creds *open_creds(const char *profile, const char *passwd_file)
{
	const struct creds_opts o = {"b", profile, passwd_file, false};
	struct objerr err = {0};
	struct creds *c = NULL;
	int r = creds_new(&o, &c, &err);

	if (r < 0)
		fail_msg("creds_new: %d %s", r, err.msg);
	return c;
}

static void refused_open(const char *profile, const char *passwd_file, int status, const char *words)
{
	const struct creds_opts o = {"b", profile, passwd_file, false};
	struct objerr err = {0};
	struct creds *c = NULL;

	assert_int_equal(creds_new(&o, &c, &err), status);
	assert_null(c);
	if (strstr(err.msg, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
	assert_null(strstr(err.msg, "SK"));
}

static void check_source(const char *profile, const char *passwd_file, const char *source, const char *access)
{
	struct creds *c = open_creds(profile, passwd_file);
	struct wait w;

	get_keys(c, &w);
	assert_int_equal(w.status, 0);
	assert_string_equal(w.access, access);
	assert_non_null(strstr(creds_source(c), source));
	creds_free(c);
}

/* --- the chain ---------------------------------------------------------------------------------------------------- */

static void chain_in_order(void **state)
{
	char pw[128];

	(void)snprintf(pw, sizeof(pw), "%s/pw", home);
	put_file(".passwd-s3fs", "AKhome:SK\n", 0600);
	check_source(NULL, NULL, ".passwd-s3fs", "AKhome");
	put_file(".aws/credentials", credentials, 0644);
	put_file(".aws/config", config, 0644);
	check_source(NULL, NULL, "profile default", "AK0");
	setenv("AWS_PROFILE", "work", 1);
	check_source(NULL, NULL, "profile work", "AK1");
	setenv("AWS_ACCESS_KEY_ID", "AKenv", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SKenv", 1);
	check_source(NULL, NULL, "environment", "AKenv");
	check_source("work", NULL, "profile work", "AK1"); /* a profile by option goes before the environment */
	put_file("pw", "b:AKpw:SK\n", 0600);
	check_source("work", pw, pw, "AKpw");
}

static void no_credentials_at_all(void **state)
{
	refused_open(NULL, NULL, -EACCES, "no credentials");
}

static void what_is_named_must_be_there(void **state)
{
	refused_open("nope", NULL, -ENOENT, "no profile nope");
	refused_open(NULL, "/nonexistent/pw", -ENOENT, "/nonexistent/pw");
	put_file(".aws/config", config, 0644);
	refused_open("role", NULL, -EPERM, "credential_process");
	setenv("AWS_PROFILE", "nope", 1);
	refused_open(NULL, NULL, -ENOENT, "no profile nope");
	unsetenv("AWS_PROFILE");
	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	refused_open(NULL, NULL, -EACCES, "AWS_SECRET_ACCESS_KEY is not");
}

static void half_a_profile(void **state)
{
	put_file(".aws/credentials", "[default]\naws_access_key_id = AK\n", 0600);
	refused_open(NULL, NULL, -EACCES, "only one of");
}

static void open_passwd_file_is_refused(void **state)
{
	char pw[128];

	(void)snprintf(pw, sizeof(pw), "%s/pw", home);
	put_file("pw", "AK:SK\n", 0640);
	refused_open(NULL, pw, -EACCES, "chmod 600");
	put_file("pw", "AK:SK\n", 0604);
	refused_open(NULL, pw, -EACCES, "chmod 600");
	put_file("pw", "AK:SK\n", 0400);
	check_source(NULL, pw, "pw", "AK");
	put_file("pw", "AK-SK\n", 0600);
	refused_open(NULL, pw, -EBADMSG, "line 1");
	put_file("pw", "# only a comment\n", 0600);
	refused_open(NULL, pw, -EACCES, "no line for bucket b");
	put_file(".passwd-s3fs", "AK:SK\n", 0644);
	refused_open(NULL, NULL, -EACCES, "chmod 600");
}

static void regions(void **state)
{
	struct creds *c;

	put_file(".aws/credentials", credentials, 0600);
	put_file(".aws/config", config, 0600);
	c = open_creds("work", NULL);
	assert_string_equal(creds_region(c), "eu-north-1");
	creds_free(c);
	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SK", 1);
	c = open_creds(NULL, NULL); /* keys from the environment, region from the profile */
	assert_string_equal(creds_region(c), "eu-west-1");
	creds_free(c);
	setenv("AWS_DEFAULT_REGION", "eu-south-1", 1);
	c = open_creds(NULL, NULL);
	assert_string_equal(creds_region(c), "eu-south-1");
	creds_free(c);
	put_file(".aws/config", "[broken", 0600); /* of no interest to who has keys */
	c = open_creds(NULL, NULL);
	creds_free(c);
}

static void anonymous(void **state)
{
	const struct creds_opts o = {"b", NULL, NULL, true};
	struct objerr err = {0};
	struct creds *c;
	struct wait w;

	assert_int_equal(creds_new(&o, &c, &err), 0);
	assert_true(creds_anonymous(c));
	get_keys(c, &w);
	assert_int_equal(w.status, 0);
	assert_string_equal(w.access, "");
	creds_free(c);
}

/* --- refresh ------------------------------------------------------------------------------------------------------ */

static void changed_file_is_read_again(void **state)
{
	char pw[128];
	struct creds *c;
	struct wait w;
	unsigned gen;

	(void)snprintf(pw, sizeof(pw), "%s/pw", home);
	put_file("pw", "AK1:SK1\n", 0600);
	c = open_creds(NULL, pw);
	get_keys(c, &w);
	assert_true(w.inline_);
	assert_string_equal(w.secret, "SK1");
	gen = w.gen;
	put_file("pw", "AK1:SK2\n", 0600);
	assert_true(creds_refused(c, gen));
	get_keys(c, &w);
	assert_string_equal(w.secret, "SK2");
	assert_int_not_equal(w.gen, gen);
	assert_true(creds_refused(c, gen));	/* somebody who signed with the old ones shall try the new ones */
	assert_false(creds_refused(c, w.gen));	/* but the new ones were read a moment ago */
	creds_free(c);
}

static void environment_is_not_read_again(void **state)
{
	struct creds *c;
	struct wait w;

	setenv("AWS_ACCESS_KEY_ID", "AK", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "SK", 1);
	setenv("AWS_SESSION_TOKEN", "TK", 1);
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_string_equal(w.token, "TK");
	assert_false(creds_refused(c, w.gen));
	creds_free(c);
}

/* A profile whose process appends a line to `count` and prints $home/keys. */
static void process_profile(const char *tail)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "[default]\ncredential_process = echo x >>%s/count; cat %s/keys%s\n", home, home,
		       tail);
	put_file(".aws/config", text, 0600);
}

static void remove_file(const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", home, name);
	assert_int_equal(unlink(path), 0);
}

static off_t runs(void)
{
	char path[128];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/count", home);
	return stat(path, &st) == 0 ? st.st_size / 2 : 0;
}

static void keys_file(const char *access, int64_t lasts_s)
{
	time_t t = (time_t)(clock_real_ns() / NSEC_PER_SEC + lasts_s);
	struct tm tm;
	char when[32], text[256];

	gmtime_r(&t, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)snprintf(text, sizeof(text),
		       "{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"SK\",\"SessionToken\":\"T\","
		       "\"Expiration\":\"%s\"}", access, when);
	put_file("keys", text, 0600);
}

static void process_gives_keys_once(void **state)
{
	struct creds *c;
	struct wait w[8];

	process_profile("");
	keys_file("AK1", 3600);
	c = open_creds(NULL, NULL);
	assert_int_equal(runs(), 0); /* not before keys are needed */
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		ask(c, &w[i]);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		finish(&w[i]);
		assert_int_equal(w[i].status, 0);
		assert_string_equal(w[i].access, "AK1");
		assert_string_equal(w[i].token, "T");
	}
	assert_int_equal(runs(), 1);
	creds_free(c);
}

static void keys_are_renewed_before_they_expire(void **state)
{
	struct creds *c;
	struct wait w;

	process_profile("");
	keys_file("AK1", 60); /* less than five minutes: old from the start */
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_string_equal(w.access, "AK1");
	assert_int_equal(runs(), 1);
	keys_file("AK2", 3600);
	/* a moment after a load no other is started; the pause is the monotonic clock's, so it is refused here instead */
	get_keys(c, &w);
	assert_true(w.inline_);
	assert_string_equal(w.access, "AK1");
	assert_int_equal(runs(), 1);
	creds_free(c);
}

static _Atomic int64_t clock_jump_ns;

static int64_t jumped_clock(void *arg)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec + clock_jump_ns;
}

static void old_keys_serve_while_new_ones_are_fetched(void **state)
{
	struct creds *c;
	struct wait w;

	clock_jump_ns = 0;
	clock_replace(jumped_clock, NULL);
	process_profile("");
	keys_file("AK1", 1000);
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_string_equal(w.access, "AK1");
	keys_file("AK2", 7200);
	clock_jump_ns = 800 * NSEC_PER_SEC; /* 200 s are left */
	get_keys(c, &w);
	assert_true(w.inline_);
	assert_string_equal(w.access, "AK1");
	while (strcmp(w.access, "AK1") == 0) { /* until the load that this started is over */
		get_keys(c, &w);
		assert_true(w.inline_);
	}
	assert_string_equal(w.access, "AK2");
	assert_int_equal(runs(), 2);
	clock_jump_ns = 9000 * NSEC_PER_SEC; /* expired: now somebody has to wait */
	keys_file("AK3", 3600);
	get_keys(c, &w);
	assert_false(w.inline_);
	assert_string_equal(w.access, "AK3");
	creds_free(c);
	clock_replace(NULL, NULL);
}

/* Who gave keys before and cannot now will again: the caller may try on, and is told why it does not work. */
static void failing_renewal_is_not_final(void **state)
{
	struct creds *c;
	struct wait w;

	clock_jump_ns = 0;
	clock_replace(jumped_clock, NULL);
	process_profile(" || { echo out of order >&2; exit 3; }");
	keys_file("AK1", 1000);
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_string_equal(w.access, "AK1");
	remove_file("keys");
	clock_jump_ns = 2000 * NSEC_PER_SEC;
	get_keys(c, &w);
	assert_int_equal(w.status, -EHOSTUNREACH);
	assert_non_null(strstr(w.msg, "out of order"));
	keys_file("AK2", 3600);
	clock_jump_ns = 2010 * NSEC_PER_SEC;
	get_keys(c, &w);
	assert_int_equal(w.status, 0);
	assert_string_equal(w.access, "AK2");
	creds_free(c);
	clock_replace(NULL, NULL);
}

static void failing_process_has_words(void **state)
{
	struct creds *c;
	struct wait w;

	process_profile("; echo first >&2; echo no luck today >&2; exit 3");
	keys_file("AK1", 3600);
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_int_equal(w.status, -EACCES);
	assert_non_null(strstr(w.msg, "status 3: no luck today"));
	get_keys(c, &w); /* at once again: the same answer without another run */
	assert_int_equal(w.status, -EACCES);
	assert_int_equal(runs(), 1);
	creds_free(c);
	process_profile("; echo rubbish");
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_int_equal(w.status, -EACCES);
	assert_null(strstr(w.msg, "SK"));
	creds_free(c);
	process_profile("");
	keys_file("AK1", -5);
	c = open_creds(NULL, NULL);
	get_keys(c, &w);
	assert_int_equal(w.status, -EACCES);
	assert_non_null(strstr(w.msg, "expired"));
	creds_free(c);
}

static void stopping_ends_a_hanging_process(void **state)
{
	_Atomic bool stop = true;
	struct creds_keys k = {0};
	char msg[256] = "";

	assert_int_equal(creds_fetch_process("cat /dev/zero & exec sleep 1000", &stop, &k, msg, sizeof(msg)), -ETIMEDOUT);
	assert_null(k.access);
	assert_non_null(strstr(msg, "credential_process"));
}

/* --- instance metadata -------------------------------------------------------------------------------------------- */

struct imds {
	_Atomic unsigned tokens, roles, docs;
	bool v1_only, no_role;
};

static bool imds_reply(struct stub *s, int fd, const struct stub_req *r, void *arg)
{
	struct imds *m = arg;
	char v[64] = "";

	if (strcmp(r->method, "PUT") == 0 && strcmp(r->target, "/latest/api/token") == 0) {
		m->tokens++;
		if (m->v1_only || !stub_header(r, "x-aws-ec2-metadata-token-ttl-seconds", v, sizeof(v)))
			stub_reply(fd, 403, "", "");
		else
			stub_reply(fd, 200, "", "TOKEN==");
		return true;
	}
	if (!stub_header(r, "x-aws-ec2-metadata-token", v, sizeof(v)) || strcmp(v, "TOKEN==") != 0) {
		stub_reply(fd, 401, "", "");
		return true;
	}
	if (strcmp(r->target, "/latest/meta-data/iam/security-credentials/") == 0) {
		m->roles++;
		stub_reply(fd, m->no_role ? 404 : 200, "", m->no_role ? "" : "my-role\nother");
	} else if (strcmp(r->target, "/latest/meta-data/iam/security-credentials/my-role") == 0) {
		m->docs++;
		stub_reply(fd, 200, "", "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"SK\","
					"\"Token\":\"TT\",\"Expiration\":\"2099-01-01T00:00:00Z\"}");
	} else {
		stub_reply(fd, 404, "", "");
	}
	return true;
}

static void point_at(struct stub *s)
{
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", stub_port(s));
	setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
	unsetenv("AWS_EC2_METADATA_DISABLED");
}

static void instance_metadata(void **state)
{
	struct imds m = {.v1_only = false};
	struct stub *s = stub_start(imds_reply, &m);
	struct creds *c;
	struct wait w[10];

	point_at(s);
	c = open_creds(NULL, NULL);
	assert_int_equal(stub_requests(s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		ask(c, &w[i]);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		finish(&w[i]);
		assert_int_equal(w[i].status, 0);
		assert_string_equal(w[i].access, "ASIA");
		assert_string_equal(w[i].token, "TT");
	}
	assert_int_equal(m.tokens, 1); /* ten waiters, one flight */
	assert_int_equal(m.docs, 1);
	creds_free(c);
	stub_stop(s);
}

static void metadata_without_role_or_version_2(void **state)
{
	struct imds m = {.no_role = true};
	struct stub *s = stub_start(imds_reply, &m);
	struct creds_keys k = {0};
	char url[64], msg[256] = "";

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", stub_port(s));
	assert_int_equal(creds_fetch_imds(url, &k, msg, sizeof(msg)), -EACCES);
	assert_non_null(strstr(msg, "no role"));
	m.v1_only = true;
	assert_int_equal(creds_fetch_imds(url, &k, msg, sizeof(msg)), -EACCES);
	assert_non_null(strstr(msg, "no instance metadata"));
	stub_stop(s);
	assert_int_equal(creds_fetch_imds(url, &k, msg, sizeof(msg)), -EACCES); /* nobody listens there now */
	assert_null(k.access);
}

static void metadata_is_not_asked_when_others_have_keys(void **state)
{
	struct imds m = {.v1_only = false};
	struct stub *s = stub_start(imds_reply, &m);

	point_at(s);
	put_file(".passwd-s3fs", "AK:SK\n", 0600);
	check_source(NULL, NULL, ".passwd-s3fs", "AK");
	assert_int_equal(stub_requests(s), 0);
	stub_stop(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, clean_environment, remove_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passwd_lines),
		cmocka_unit_test(profiles),
		cmocka_unit_test(bad_profiles),
		cmocka_unit_test(json),
		TEST(chain_in_order),
		TEST(no_credentials_at_all),
		TEST(what_is_named_must_be_there),
		TEST(half_a_profile),
		TEST(open_passwd_file_is_refused),
		TEST(regions),
		TEST(anonymous),
		TEST(changed_file_is_read_again),
		TEST(environment_is_not_read_again),
		TEST(process_gives_keys_once),
		TEST(keys_are_renewed_before_they_expire),
		TEST(old_keys_serve_while_new_ones_are_fetched),
		TEST(failing_renewal_is_not_final),
		TEST(failing_process_has_words),
		cmocka_unit_test(stopping_ends_a_hanging_process),
		TEST(instance_metadata),
		TEST(metadata_without_role_or_version_2),
		TEST(metadata_is_not_asked_when_others_have_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
