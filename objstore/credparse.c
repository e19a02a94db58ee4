/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * credparse.c - credential files and JSON as structures: pure functions of bytes, each a fuzz target.
 *
 * What they let through goes into HTTP headers, so a key, a token or a region is printable ASCII without blanks or the
 * whole input is refused: a line that is skipped would be the one with the keys.
 */
#include "config.h"
#include "creds.h"
#include "s3xml.h"
#include "sign.h"
#include <jansson.h>
#include <string.h>

void creds_keys_wipe(struct creds_keys *k)
{
	free(k->access);
	sign_wipe_free(k->secret);
	sign_wipe_free(k->token);
	*k = (struct creds_keys){0};
}

void creds_profile_wipe(struct creds_profile *p)
{
	creds_keys_wipe(&p->keys);
	free(p->region);
	free(p->process);
	*p = (struct creds_profile){0};
}

struct span {
	const char *p;
	size_t n;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span trim(struct span s)
{
	while (s.n > 0 && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n > 0 && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* Cuts the next line off; false at the end. */
static bool next_line(struct span *rest, struct span *ret)
{
	const char *nl;

	if (rest->n == 0)
		return false;
	nl = memchr(rest->p, '\n', rest->n);
	ret->p = rest->p;
	ret->n = nl != NULL ? (size_t)(nl - rest->p) : rest->n;
	rest->p += ret->n + (nl != NULL);
	rest->n -= ret->n + (nl != NULL);
	return true;
}

static bool span_is(struct span s, const char *z)
{
	return strlen(z) == s.n && memcmp(s.p, z, s.n) == 0;
}

/* Keys go into headers: nothing but printable ASCII without blanks. */
static bool is_token(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= 0x20 || s.p[i] >= 0x7f)
			return false;
	return s.n > 0;
}

bool creds_is_token(const char *z)
{
	return is_token((struct span){z, strlen(z)});
}

static int dup_span(struct span s, char **ret)
{
	char *z = strndup(s.p, s.n);

	if (z == NULL)
		return -ENOMEM;
	sign_wipe_free(*ret);
	*ret = z;
	return 0;
}

/* How well a passwd line fits: 0 not, 1 plain with further colons, 2 plain, 3 names the bucket. Cuts the bucket off. */
static int passwd_rank(struct span *access, const char *bucket)
{
	const char *colon = memchr(access->p, ':', access->n);
	struct span first;

	if (colon == NULL)
		return 2;
	first = (struct span){access->p, (size_t)(colon - access->p)};
	if (bucket == NULL || !span_is(first, bucket) || first.n + 1 == access->n)
		return 1;
	access->p += first.n + 1;
	access->n -= first.n + 1;
	return 3;
}

int creds_parse_passwd(const void *p, size_t n, const char *bucket, struct creds_keys *ret, unsigned *ret_line)
{
	struct span rest = {p, n}, line, best_access = {0}, best_secret = {0};
	struct creds_keys k = {0};
	int best = 0, r;
	unsigned no = 0;

	while (next_line(&rest, &line)) {
		struct span access, secret;
		const char *colon;
		int rank;

		no++;
		line = trim(line);
		if (line.n == 0 || line.p[0] == '#')
			continue;
		colon = memrchr(line.p, ':', line.n);
		if (colon == NULL || !is_token(line))
			goto bad;
		access = (struct span){line.p, (size_t)(colon - line.p)};
		secret = (struct span){colon + 1, line.n - access.n - 1};
		if (access.n == 0 || secret.n == 0)
			goto bad;
		rank = passwd_rank(&access, bucket);
		if (rank > best) {
			best = rank;
			best_access = access;
			best_secret = secret;
		}
	}
	if (best == 0)
		return -ENOENT;
	r = dup_span(best_access, &k.access);
	if (r == 0)
		r = dup_span(best_secret, &k.secret);
	if (r < 0)
		creds_keys_wipe(&k);
	else
		*ret = k;
	return r;
bad:
	if (ret_line != NULL)
		*ret_line = no;
	return -EBADMSG;
}

/* "[name]", "[profile name]" (config): true when it is the wanted one; -EBADMSG without the bracket. */
static int is_section(struct span line, const char *name, bool config)
{
	const char *end = memchr(line.p, ']', line.n);
	struct span s;

	if (end == NULL)
		return -EBADMSG;
	s = trim((struct span){line.p + 1, (size_t)(end - line.p) - 1});
	if (span_is(s, "default") && strcmp(name, "default") == 0)
		return 1;
	if (config) {
		if (s.n < 8 || memcmp(s.p, "profile", 7) != 0 || !is_space(s.p[7]))
			return 0;
		s = trim((struct span){s.p + 8, s.n - 8});
	}
	return span_is(s, name);
}

static int take_setting(struct creds_profile *pr, struct span key, struct span value)
{
	if (span_is(key, "aws_access_key_id"))
		return is_token(value) ? dup_span(value, &pr->keys.access) : -EBADMSG;
	if (span_is(key, "aws_secret_access_key"))
		return is_token(value) ? dup_span(value, &pr->keys.secret) : -EBADMSG;
	if (span_is(key, "aws_session_token"))
		return is_token(value) ? dup_span(value, &pr->keys.token) : -EBADMSG;
	if (span_is(key, "region"))
		return is_token(value) ? dup_span(value, &pr->region) : -EBADMSG;
	if (span_is(key, "credential_process"))
		return dup_span(value, &pr->process);
	if (span_is(key, "role_arn") || span_is(key, "sso_session") || span_is(key, "sso_start_url") ||
	    span_is(key, "web_identity_token_file"))
		pr->unsupported = true;
	return 0;
}

/* One line inside or outside the section. */
static int profile_line(struct creds_profile *pr, struct span raw, const char *name, bool config, bool *in)
{
	struct span line = trim(raw);
	const char *eq;
	int r;

	if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
		return 0;
	if (memchr(line.p, '\0', line.n) != NULL)
		return -EBADMSG;
	if (line.p[0] == '[') {
		r = is_section(line, name, config);
		if (r < 0)
			return r;
		*in = r > 0;
		pr->found |= *in;
		return 0;
	}
	if (!*in || is_space(raw.p[0])) /* an indented line belongs to a nested setting such as "s3 =" */
		return 0;
	eq = memchr(line.p, '=', line.n);
	if (eq == NULL)
		return -EBADMSG;
	return take_setting(pr, trim((struct span){line.p, (size_t)(eq - line.p)}),
			    trim((struct span){eq + 1, line.n - (size_t)(eq - line.p) - 1}));
}

int creds_parse_profile(const void *p, size_t n, const char *name, bool config, struct creds_profile *ret,
			unsigned *ret_line)
{
	struct span rest = {p, n}, line;
	struct creds_profile pr = {0};
	unsigned no = 0;
	bool in = false;
	int r = 0;

	while (r == 0 && next_line(&rest, &line)) {
		no++;
		r = profile_line(&pr, line, name, config, &in);
	}
	if (r < 0) {
		creds_profile_wipe(&pr);
		if (ret_line != NULL)
			*ret_line = no;
		return r;
	}
	*ret = pr;
	return 0;
}

/* Takes a string out of the tree and wipes it there: the tree is freed by somebody who does not. */
static int json_token(const json_t *o, const char *name, char **ret)
{
	const json_t *v = json_object_get(o, name);
	struct span s;
	int r;

	if (!json_is_string(v))
		return -EBADMSG;
	s = (struct span){json_string_value(v), json_string_length(v)};
	r = is_token(s) ? dup_span(s, ret) : -EBADMSG;
	sign_wipe((char *)(uintptr_t)s.p, s.n);
	return r;
}

static int read_json(const json_t *o, struct creds_keys *k)
{
	const json_t *version = json_object_get(o, "Version"), *end = json_object_get(o, "Expiration");
	const char *code = json_string_value(json_object_get(o, "Code"));
	int r;

	if (!json_is_object(o) || (version != NULL && json_integer_value(version) != 1) ||
	    (version == NULL && (code == NULL || strcmp(code, "Success") != 0)))
		return -EBADMSG;
	r = json_token(o, "AccessKeyId", &k->access);
	if (r == 0)
		r = json_token(o, "SecretAccessKey", &k->secret);
	if (r == 0 && json_object_get(o, "SessionToken") != NULL)
		r = json_token(o, "SessionToken", &k->token);
	else if (r == 0 && json_object_get(o, "Token") != NULL)
		r = json_token(o, "Token", &k->token);
	if (r == 0 && end != NULL && !json_is_null(end)) {
		if (!json_is_string(end) || s3xml_time(json_string_value(end), &k->expires_s) < 0)
			r = -EBADMSG;
	}
	return r;
}

int creds_parse_json(const void *p, size_t n, struct creds_keys *ret)
{
	struct creds_keys k = {0};
	json_t *o = json_loadb(p, n, JSON_REJECT_DUPLICATES, NULL);
	int r;

	if (o == NULL)
		return -EBADMSG;
	r = read_json(o, &k);
	json_decref(o);
	if (r < 0)
		creds_keys_wipe(&k);
	else
		*ret = k;
	return r;
}
