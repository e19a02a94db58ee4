/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * options.c - the table of `-o` options, and what reads it.
 *
 * Three sorts of entries: ours (they set a field of struct options), the kernel's (passed on with the mount call) and
 * noise of fstab (swallowed: mount(8), systemd and automounters act on them). Anything else is an error that names it.
 */
#include "config.h"
#include "options.h"
#include "fs/image/volume.h"

#include <ctype.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum opt_type {
	OPT_TRUE,   /* bool = true */
	OPT_FALSE,  /* bool = false */
	OPT_STR,    /* char * */
	OPT_PATH,   /* char *, made absolute (the daemon changes to /) */
	OPT_UINT,   /* unsigned, 1..4096 */
	OPT_SIZE,   /* uint64_t bytes: 10, 10K, 1.5G */
	OPT_SECS,   /* int64_t ns: 2 or 0.5 */
	OPT_AGE,    /* uint64_t seconds: 90, 15m, 7d */
	OPT_OCTAL,  /* mode_t */
	OPT_UID,    /* uid_t: number or name */
	OPT_GID,    /* gid_t */
	OPT_LEVEL,  /* enum log_level */
	OPT_WORD,   /* bool = true when the value is the word in `arg`, nothing else is known */
	OPT_KERNEL, /* to the kernel as it stands */
	OPT_NOISE,  /* swallowed */
};

struct opt_desc {
	const char *name;
	const char *arg; /* NULL: a flag */
	enum opt_type type;
	size_t off;
	const char *help;
};

#define F(field) offsetof(struct options, field)

/* Those with help are in the manual page mount.lsvdfs(8). */
static const struct opt_desc table[] = {
    {"endpoint", "URL", OPT_STR, F(endpoint), "S3 server, http[s]://HOST[:PORT] (AWS of the region)"},
    {"region", "NAME", OPT_STR, F(region), "region that signs requests (environment, profile, us-east-1)"},
    {"path_style", NULL, OPT_TRUE, F(path_style), "HOST/BUCKET/KEY instead of BUCKET.HOST/KEY"},
    {"profile", "NAME", OPT_STR, F(profile), "section of ~/.aws/credentials and ~/.aws/config"},
    {"passwd_file", "FILE", OPT_PATH, F(passwd_file), "KEY:SECRET or BUCKET:KEY:SECRET lines, mode 0600"},
    {"no_sign", NULL, OPT_TRUE, F(no_sign), "no credentials: public buckets"},
    {"ca_file", "FILE", OPT_PATH, F(ca_file), "certificates to trust (the system's)"},
    {"storage_class", "CLASS", OPT_STR, F(storage_class), "storage class of objects written"},
    {"sse", "KIND", OPT_STR, F(sse), "server-side encryption: AES256 or aws:kms[:KEYID]"},
    {"requester_pays", NULL, OPT_TRUE, F(requester_pays), "accept the costs of somebody else's bucket"},
    {"connections", "N", OPT_UINT, F(connections), "most connections to the server (100)"},
    {"retry", "SECONDS", OPT_SECS, F(retry_ns), "wait so long for network and server at mount (0)"},

    {"ro", NULL, OPT_TRUE, F(read_only), "read only: nothing is ever sent but GET, HEAD and LIST"},
    {"rw", NULL, OPT_FALSE, F(read_only), "read and write (default)"},
    {"allow_other", NULL, OPT_TRUE, F(allow_other), "other users may use the mount"},
    {"default_permissions", NULL, OPT_TRUE, F(default_permissions), "the kernel checks modes (default)"},
    {"nodefault_permissions", NULL, OPT_FALSE, F(default_permissions), "modes are shown, not checked"},
    {"uid", "USER", OPT_UID, F(def.uid), "owner of objects that say none (who mounts)"},
    {"gid", "GROUP", OPT_GID, F(def.gid), "group of objects that say none (who mounts)"},
    {"umask", "OCTAL", OPT_OCTAL, F(def.umask), "bits cleared from the two modes below (0)"},
    {"file_mode", "OCTAL", OPT_OCTAL, F(def.file_mode), "mode of files that say none (0644)"},
    {"dir_mode", "OCTAL", OPT_OCTAL, F(def.dir_mode), "mode of directories that say none (0755)"},
    {"force_owner", NULL, OPT_TRUE, F(def.force_owner), "the five above override what objects say"},

    {"state_dir", "DIR", OPT_PATH, F(state_dir), "dirty data and journals: must survive (/var/lib/lsvdfs)"},
    {"cache_dir", "DIR", OPT_PATH, F(cache_dir), "what may be lost at any time (/var/cache/lsvdfs)"},

    {"attr_timeout", "SECONDS", OPT_SECS, F(attr_timeout_ns), "how old attributes and absences may be (1)"},
    {"open_trust", "SECONDS", OPT_SECS, F(open_trust_ns), "open without asking so long after a check (0)"},
    {"excl", "GLOBS", OPT_STR, F(excl), "names whose O_EXCL is decided at the call (*.lock:*.lck:*.pid)"},
    {"async_close", NULL, OPT_TRUE, F(async_close), "close answers when the data is safe on the local disk"},
    {"conditional", "require", OPT_WORD, F(require_conditional), "refuse a store without conditional writes"},
    {"nolock", "error", OPT_WORD, F(nolock_error), "flock and fcntl locks fail (default: this node only)"},

    {"images", "GLOBS", OPT_STR, F(images), "new files of these paths become disk images (none)"},
    {"fsync", "local|remote", OPT_STR, F(fsync_word), "of new images: what fsync waits for (local)"},
    {"takeover", "HOW", OPT_STR, F(takeover_word), "of others' images: released, always, never (released)"},
    {"claim_wait", "SECONDS", OPT_SECS, F(claim_wait_ns), "wait so long for the release of an image (30)"},
    {"dirty_age", "SECONDS", OPT_SECS, F(dirty_age_ns), "what images write is sent after at most so long (5)"},
    {"retain", "TIME", OPT_AGE, F(retain_s), "images keep all of their past so long: 90, 15m, 12h, 7d, 2w (0)"},
    {"journal_size", "SIZE", OPT_SIZE, F(journal_size), "ceiling of the journal of one image (1G)"},

    {"cache_size", "SIZE", OPT_SIZE, F(cache_size), "of what images read, on this disk; 0: none (10G)"},

    {"memory", "SIZE", OPT_SIZE, F(memory), "ceiling over all buffers (512M)"},
    {"part_size", "SIZE", OPT_SIZE, F(part_size), "part of a multipart upload, largest single PUT (8M)"},
    {"log_level", "LEVEL", OPT_LEVEL, F(log_level), "error, warn, info or debug (info)"},

    {"nosuid", NULL, OPT_KERNEL, 0, NULL},
    {"suid", NULL, OPT_KERNEL, 0, NULL},
    {"nodev", NULL, OPT_KERNEL, 0, NULL},
    {"dev", NULL, OPT_KERNEL, 0, NULL},
    {"noexec", NULL, OPT_KERNEL, 0, NULL},
    {"exec", NULL, OPT_KERNEL, 0, NULL},
    {"noatime", NULL, OPT_KERNEL, 0, NULL},
    {"nodiratime", NULL, OPT_KERNEL, 0, NULL},
    {"norelatime", NULL, OPT_KERNEL, 0, NULL},
    {"sync", NULL, OPT_KERNEL, 0, NULL},
    {"async", NULL, OPT_KERNEL, 0, NULL},
    {"dirsync", NULL, OPT_KERNEL, 0, NULL},
    {"context", "LABEL", OPT_KERNEL, 0, NULL},
    {"fscontext", "LABEL", OPT_KERNEL, 0, NULL},
    {"defcontext", "LABEL", OPT_KERNEL, 0, NULL},
    {"rootcontext", "LABEL", OPT_KERNEL, 0, NULL},

    {"defaults", NULL, OPT_NOISE, 0, NULL},
    {"_netdev", NULL, OPT_NOISE, 0, NULL},
    {"auto", NULL, OPT_NOISE, 0, NULL},
    {"noauto", NULL, OPT_NOISE, 0, NULL},
    {"nofail", NULL, OPT_NOISE, 0, NULL},
    {"user", NULL, OPT_NOISE, 0, NULL},
    {"users", NULL, OPT_NOISE, 0, NULL},
    {"nouser", NULL, OPT_NOISE, 0, NULL},
    {"nousers", NULL, OPT_NOISE, 0, NULL},
    {"owner", NULL, OPT_NOISE, 0, NULL},
    {"noowner", NULL, OPT_NOISE, 0, NULL},
    {"group", NULL, OPT_NOISE, 0, NULL},
    {"nogroup", NULL, OPT_NOISE, 0, NULL},
    {"atime", NULL, OPT_NOISE, 0, NULL},
    {"relatime", NULL, OPT_NOISE, 0, NULL},
    {"diratime", NULL, OPT_NOISE, 0, NULL},
    {"nolazytime", NULL, OPT_NOISE, 0, NULL},
    {"nomand", NULL, OPT_NOISE, 0, NULL},
    {"loud", NULL, OPT_NOISE, 0, NULL},
    {"silent", NULL, OPT_NOISE, 0, NULL},
};

/* fstab noise with a free tail or a value. */
static const char *const noise_prefix[] = {"x-", "X-", "comment=", "user=", "helper=", "uhelper="};

static void add_escaped(struct str *s, const char *v)
{
	for (; *v; v++)
		str_addf(s, "%s%c", *v == ',' || *v == '\\' ? "\\" : "", *v);
}

/* The first entries of the table, up to retry=. */
int options_store_list(const struct options *o, char **ret)
{
	struct str s = {0};

	for (size_t i = 0; strcmp(table[i].name, "retry"); i++) {
		const struct opt_desc *d = &table[i];
		const void *p = (const char *)o + d->off;

		if (d->type == OPT_TRUE && *(const bool *)p) {
			str_addf(&s, "%s%s", s.len ? "," : "", d->name);
		} else if (d->type == OPT_UINT && *(const unsigned *)p) {
			str_addf(&s, "%s%s=%u", s.len ? "," : "", d->name, *(const unsigned *)p);
		} else if ((d->type == OPT_STR || d->type == OPT_PATH) && *(char *const *)p) {
			str_addf(&s, "%s%s=", s.len ? "," : "", d->name);
			add_escaped(&s, *(char *const *)p);
		}
	}
	str_add(&s, ""); /* never NULL */
	return str_take(&s, ret);
}

size_t options_count(void)
{
	size_t n = 0;

	while (n < ARRAY_SIZE(table) && table[n].help)
		n++;
	return n;
}

const char *options_name(size_t i)
{
	return table[i].name;
}

void options_help(FILE *f)
{
	for (size_t i = 0; i < options_count(); i++) {
		char left[48];

		snprintf(left, sizeof(left), "%s%s%s", table[i].name, table[i].arg ? "=" : "",
			 table[i].arg ? table[i].arg : "");
		fprintf(f, "  %-22s %s\n", left, table[i].help);
	}
}

int options_init(struct options *o)
{
	memset(o, 0, sizeof(*o));
	o->connections = 100;
	o->default_permissions = true;
	o->def.uid = getuid();
	o->def.gid = getgid();
	o->def.file_mode = 0644;
	o->def.dir_mode = 0755;
	o->attr_timeout_ns = NSEC_PER_SEC;
	o->memory = 512 * MiB;
	o->part_size = 8 * MiB;
	o->claim_wait_ns = 30 * NSEC_PER_SEC;
	o->dirty_age_ns = 5 * NSEC_PER_SEC;
	o->journal_size = 1 * GiB;
	o->cache_size = 10 * GiB;
	o->log_level = LOG_L_INFO;
	o->excl = strdup("*.lock:*.lck:*.pid");
	return o->excl ? 0 : -ENOMEM;
}

void options_done(struct options *o)
{
	char **owned[] = {&o->source,  &o->dir,           &o->endpoint, &o->region,    &o->profile,   &o->passwd_file,
			  &o->ca_file, &o->storage_class, &o->sse,      &o->state_dir, &o->cache_dir, &o->excl,
			  &o->images,  &o->fsync_word,    &o->takeover_word};

	for (size_t i = 0; i < ARRAY_SIZE(owned); i++) {
		free(*owned[i]);
		*owned[i] = NULL;
	}
	str_free(&o->kernel);
}

/* --- values ---------------------------------------------------------------------------------------------------- */

/* "2", "0.5", ".25" -> ns. At most about a century, nine decimals. */
static int parse_seconds(const char *s, int64_t *ret)
{
	int64_t ns = 0, unit = NSEC_PER_SEC;
	bool dot = false, digit = false;

	for (; *s; s++) {
		if (*s == '.' && !dot) {
			dot = true;
			continue;
		}
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		digit = true;
		if (dot) {
			unit /= 10;
			ns += (*s - '0') * unit;
		} else {
			if (ns > INT64_C(300000000) * NSEC_PER_SEC)
				return -ERANGE;
			ns = ns * 10 + (*s - '0') * NSEC_PER_SEC;
		}
	}
	if (!digit)
		return -EINVAL;
	*ret = ns;
	return 0;
}

static int parse_octal(const char *s, mode_t *ret)
{
	unsigned v = 0;

	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '7')
			return -EINVAL;
		v = v * 8 + (unsigned)(*s - '0');
		if (v > 07777)
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

static int parse_id(const char *s, bool group, uint32_t *ret)
{
	uint64_t v;

	if (!str_parse_u64(s, &v)) {
		if (v >= UINT32_MAX) /* (uid_t)-1 means "unchanged" to the kernel */
			return -ERANGE;
		*ret = (uint32_t)v;
		return 0;
	}
	if (group) {
		struct group *g = getgrnam(s);

		if (!g)
			return -ENOENT;
		*ret = g->gr_gid;
	} else {
		struct passwd *p = getpwnam(s);

		if (!p)
			return -ENOENT;
		*ret = p->pw_uid;
	}
	return 0;
}

static int absolute(const char *s, char **ret)
{
	_cleanup_free_ char *cwd = NULL;
	struct str p = {0};

	if (*s != '/') {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return -errno;
		str_add(&p, cwd);
		str_addc(&p, '/');
	}
	str_add(&p, s);
	return str_take(&p, ret);
}

static int replace_string(char **field, const char *value, bool path)
{
	char *copy;
	int r;

	if (!*value)
		return -EINVAL;
	if (path) {
		r = absolute(value, &copy);
		if (r)
			return r;
	} else {
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
	}
	free(*field);
	*field = copy;
	return 0;
}

static int set_uint(unsigned *field, const char *value)
{
	uint64_t v;
	int r = str_parse_u64(value, &v);

	if (r)
		return r;
	if (!v || v > 4096)
		return -ERANGE;
	*field = (unsigned)v;
	return 0;
}

/* libfuse splits the list again: a comma inside a value (SELinux categories) must not end it. */
static int add_kernel(struct str *k, const char *item)
{
	if (k->len)
		str_addc(k, ',');
	for (; *item; item++) {
		if (*item == ',' || *item == '\\')
			str_addc(k, '\\');
		str_addc(k, *item);
	}
	return k->err;
}

static int set_age(uint64_t *field, const char *value)
{
	uint64_t v;
	int r = str_parse_age(value, &v);

	if (r)
		return r;
	if (v > VOL_RETAIN_MAX)
		return -ERANGE;
	*field = v;
	return 0;
}

static int set_value(struct options *o, const struct opt_desc *d, const char *value)
{
	void *field = (char *)o + d->off;

	switch (d->type) {
	case OPT_TRUE:
	case OPT_FALSE:
		*(bool *)field = d->type == OPT_TRUE;
		return 0;
	case OPT_STR:
	case OPT_PATH:
		return replace_string(field, value, d->type == OPT_PATH);
	case OPT_UINT:
		return set_uint(field, value);
	case OPT_SIZE:
		return str_parse_size(value, field);
	case OPT_SECS:
		return parse_seconds(value, field);
	case OPT_AGE:
		return set_age(field, value);
	case OPT_OCTAL:
		return parse_octal(value, field);
	case OPT_UID:
	case OPT_GID:
		return parse_id(value, d->type == OPT_GID, field);
	case OPT_LEVEL:
		return log_parse_level(value, field);
	case OPT_WORD:
		if (strcmp(value, d->arg))
			return -EINVAL;
		*(bool *)field = true;
		return 0;
	case OPT_KERNEL: /* handled by the caller, which has the item as written */
	case OPT_NOISE:
		return 0;
	}
	return -EINVAL;
}

/* --- the list --------------------------------------------------------------------------------------------------- */

static bool is_noise(const char *item)
{
	for (size_t i = 0; i < ARRAY_SIZE(noise_prefix); i++)
		if (str_has_prefix(item, noise_prefix[i]))
			return true;
	return false;
}

static const struct opt_desc *find(const char *item, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strlen(table[i].name) == len && !memcmp(table[i].name, item, len))
			return &table[i];
	return NULL;
}

static int unknown(const struct options *o, const char *item, size_t len, struct objerr *err)
{
	if (o->sloppy)
		return 0;
	if (len == 7 && !memcmp(item, "remount", 7))
		objerr_set(err, "option 'remount': not possible, unmount and mount again");
	else
		objerr_set(err, "unknown option '%.*s' (lsvdfs mount --help lists them)", (int)MIN(len, 60), item);
	return -EINVAL;
}

static int apply(struct options *o, const char *item, struct objerr *err)
{
	const char *eq = strchr(item, '=');
	size_t len = eq ? (size_t)(eq - item) : strlen(item);
	const struct opt_desc *d = find(item, len);
	int r;

	if (d && d->type == OPT_NOISE && !eq)
		return 0;
	if (is_noise(item))
		return 0;
	if (!d || d->type == OPT_NOISE)
		return unknown(o, item, len, err);
	if (d->arg && !eq) {
		objerr_set(err, "option '%s' needs a value: %s=%s", d->name, d->name, d->arg);
		return -EINVAL;
	}
	if (!d->arg && eq) {
		objerr_set(err, "option '%s' takes no value", d->name);
		return -EINVAL;
	}
	if (d->type == OPT_KERNEL)
		return add_kernel(&o->kernel, item);
	r = set_value(o, d, eq ? eq + 1 : NULL);
	if (r == -ENOMEM)
		return r;
	if (r) {
		objerr_set(err, "option '%s': %s '%.80s' (expected %s=%s)", d->name,
			   r == -ENOENT   ? "no such name"
			   : r == -ERANGE ? "out of range"
					  : "bad value",
			   eq + 1, d->name, d->arg);
		return -EINVAL;
	}
	return 0;
}

int options_parse(struct options *o, const char *list, struct objerr *err)
{
	struct str item = {0};
	int r = 0;

	for (const char *p = list; !r; p++) {
		if (*p == '\\' && (p[1] == ',' || p[1] == '\\')) {
			str_addc(&item, *++p);
			continue;
		}
		if (*p && *p != ',') {
			str_addc(&item, *p);
			continue;
		}
		r = item.err;
		if (!r && item.len)
			r = apply(o, str_c(&item), err);
		str_reset(&item);
		if (!*p)
			break;
	}
	str_free(&item);
	return r;
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

/* Root: /var/...; others: $XDG or ~/.... -ENOENT when there is no home. */
static int default_dir(const char *root_dir, const char *env, const char *below_home, char **field)
{
	const char *xdg = getenv(env), *home = getenv("HOME");
	struct str s = {0};

	if (*field)
		return 0;
	if (geteuid() == 0)
		str_add(&s, root_dir);
	else if (xdg && *xdg == '/')
		str_addf(&s, "%s/lsvdfs", xdg);
	else if (home && *home == '/')
		str_addf(&s, "%s/%s/lsvdfs", home, below_home);
	else
		return -ENOENT;
	return str_take(&s, field);
}

/* A file with secrets that others can read is refused, as s3fs does. */
static int check_passwd_file(const char *path, struct objerr *err)
{
	struct stat st;

	if (stat(path, &st)) {
		int r = -errno;

		objerr_set(err, "passwd_file %s: %m", path);
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		objerr_set(err, "passwd_file %s: not a regular file", path);
		return -EINVAL;
	}
	if (st.st_mode & 077) {
		objerr_set(err, "passwd_file %s: others can read it (mode %04o): chmod 600 %s", path,
			   (unsigned)(st.st_mode & 07777), path);
		return -EPERM;
	}
	return 0;
}

/* These go into headers and into the lines of an identity. */
static int check_words(const struct options *o, struct objerr *err)
{
	const struct {
		const char *name, *value;
	} words[] = {{"endpoint", o->endpoint},
		     {"region", o->region},
		     {"storage_class", o->storage_class},
		     {"sse", o->sse}};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (const char *p = words[i].value; p && *p; p++) {
			if (*p > ' ' && *p < 0x7f)
				continue;
			objerr_set(err, "option '%s': only printable ASCII without blanks is possible", words[i].name);
			return -EINVAL;
		}
	}
	return 0;
}

static int check_values(const struct options *o, struct objerr *err)
{
	if (o->part_size < 5 * MiB || o->part_size > 5 * GiB) {
		objerr_set(err, "option 'part_size': must be between 5M and 5G");
		return -EINVAL;
	}
	if (o->memory < 64 * MiB) {
		objerr_set(err, "option 'memory': must be at least 64M");
		return -EINVAL;
	}
	if (o->part_size * 4 > o->memory) {
		objerr_set(err, "option 'part_size': four parts must fit into memory= (%llu MiB)",
			   (unsigned long long)(o->memory / MiB));
		return -EINVAL;
	}
	if (o->sse && strcmp(o->sse, "AES256") && strcmp(o->sse, "aws:kms") && !str_has_prefix(o->sse, "aws:kms:")) {
		objerr_set(err, "option 'sse': '%.60s' is neither AES256 nor aws:kms[:KEYID]", o->sse);
		return -EINVAL;
	}
	if (o->endpoint && !str_has_prefix(o->endpoint, "http://") && !str_has_prefix(o->endpoint, "https://")) {
		objerr_set(err, "option 'endpoint': '%.80s' is no URL: write http://HOST[:PORT] or https://...",
			   o->endpoint);
		return -EINVAL;
	}
	if (o->no_sign && (o->passwd_file || o->profile)) {
		objerr_set(err, "option 'no_sign' contradicts %s=", o->passwd_file ? "passwd_file" : "profile");
		return -EINVAL;
	}
	return 0;
}

static int check_images(struct options *o, struct objerr *err)
{
	static const char *const takeover[] = {
	    [VOL_TAKEOVER_RELEASED] = "released", [VOL_TAKEOVER_ALWAYS] = "always", [VOL_TAKEOVER_NEVER] = "never"};
	size_t i = 0;

	if (o->fsync_word && strcmp(o->fsync_word, "local") && strcmp(o->fsync_word, "remote")) {
		objerr_set(err, "option 'fsync': '%.60s' is neither local nor remote", o->fsync_word);
		return -EINVAL;
	}
	o->fsync_remote = o->fsync_word && !strcmp(o->fsync_word, "remote");
	while (o->takeover_word && i < ARRAY_SIZE(takeover) && strcmp(o->takeover_word, takeover[i]))
		i++;
	if (i == ARRAY_SIZE(takeover)) {
		objerr_set(err, "option 'takeover': '%.60s' is none of released, always, never", o->takeover_word);
		return -EINVAL;
	}
	o->takeover = (int)i;
	if (o->journal_size < 16 * MiB) {
		objerr_set(err, "option 'journal_size': must be at least 16M");
		return -EINVAL;
	}
	if (o->dirty_age_ns < NSEC_PER_SEC / 10) {
		objerr_set(err, "option 'dirty_age': must be at least 0.1");
		return -EINVAL;
	}
	return 0;
}

int options_finish(struct options *o, struct objerr *err)
{
	int r = check_words(o, err);

	if (!r)
		r = check_values(o, err);
	if (!r)
		r = check_images(o, err);
	if (!r && o->passwd_file)
		r = check_passwd_file(o->passwd_file, err);
	if (r)
		return r;
	if (o->ca_file && access(o->ca_file, R_OK)) {
		r = -errno;
		objerr_set(err, "ca_file %s: %m", o->ca_file);
		return r;
	}
	r = default_dir("/var/lib/lsvdfs", "XDG_STATE_HOME", ".local/state", &o->state_dir);
	if (!r)
		r = default_dir("/var/cache/lsvdfs", "XDG_CACHE_HOME", ".cache", &o->cache_dir);
	if (r) {
		objerr_set(err, r == -ENOENT ? "HOME is not set: give state_dir= and cache_dir=" : "out of memory");
		return r;
	}
	/* the daemon tells the commands where they are, in JSON */
	if (!str_is_utf8(o->state_dir, strlen(o->state_dir)) || !str_is_utf8(o->cache_dir, strlen(o->cache_dir))) {
		objerr_set(err, "state_dir and cache_dir must be UTF-8: give state_dir= and cache_dir=");
		return -EINVAL;
	}
	return 0;
}

void options_open_opts(const struct options *o, struct budget *budget, struct obj_open_opts *ret)
{
	*ret = (struct obj_open_opts){
	    .endpoint = o->endpoint,
	    .region = o->region,
	    .profile = o->profile,
	    .passwd_file = o->passwd_file,
	    .ca_file = o->ca_file,
	    .path_style = o->path_style,
	    .no_sign = o->no_sign,
	    .requester_pays = o->requester_pays,
	    .storage_class = o->storage_class,
	    .sse = o->sse,
	    .connections = o->connections,
	    .budget = budget,
	    .read_only = o->read_only,
	};
}
