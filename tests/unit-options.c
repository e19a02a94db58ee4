/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Options: every kind of value good and bad, fstab noise, escapes, cross checks, and that the manual names them all. */
#include "config.h"
#include "fs/options.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static int parse(struct options *o, const char *list, struct objerr *err)
{
	memset(err, 0, sizeof(*err));
	assert_int_equal(options_init(o), 0);
	return options_parse(o, list, err);
}

static void good(struct options *o, const char *list)
{
	struct objerr err;
	int r = parse(o, list, &err);

	if (r)
		print_error("%s: %s\n", list, err.msg);
	assert_int_equal(r, 0);
}

static void bad(const char *list, const char *words)
{
	struct options o;
	struct objerr err;

	assert_int_equal(parse(&o, list, &err), -EINVAL);
	if (!strstr(err.msg, words))
		print_error("%s: expected \"%s\" in \"%s\"\n", list, words, err.msg);
	assert_non_null(strstr(err.msg, words));
	assert_null(strchr(err.msg, '\n'));
	options_done(&o);
}

static void test_defaults(void **state)
{
	struct options o;

	good(&o, "");
	assert_true(o.default_permissions);
	assert_false(o.read_only || o.allow_other || o.async_close || o.require_conditional || o.nolock_error);
	assert_int_equal(o.attr_timeout_ns, NSEC_PER_SEC);
	assert_int_equal(o.open_trust_ns, 0);
	assert_int_equal(o.memory, 512 * MiB);
	assert_int_equal(o.part_size, 8 * MiB);
	assert_int_equal(o.connections, 100);
	assert_int_equal(o.def.file_mode, 0644);
	assert_int_equal(o.def.dir_mode, 0755);
	assert_int_equal(o.def.uid, getuid());
	assert_string_equal(o.excl, "*.lock:*.lck:*.pid");
	options_done(&o);
}

static void test_values(void **state)
{
	struct options o;

	good(&o, "endpoint=http://h:9000,region=eu,path_style,profile=p,no_sign,sse=aws:kms:k,storage_class=GLACIER,"
		 "requester_pays,connections=7,retry=90,ro,allow_other,nodefault_permissions,uid=12,gid=root,umask=022,"
		 "file_mode=0600,dir_mode=700,force_owner,attr_timeout=0.25,open_trust=.5,excl=*,async_close,"
		 "conditional=require,nolock=error,memory=1.5G,part_size=16M,log_level=debug");
	assert_string_equal(o.endpoint, "http://h:9000");
	assert_string_equal(o.region, "eu");
	assert_string_equal(o.profile, "p");
	assert_string_equal(o.sse, "aws:kms:k");
	assert_string_equal(o.storage_class, "GLACIER");
	assert_string_equal(o.excl, "*");
	assert_true(o.path_style && o.no_sign && o.requester_pays && o.read_only && o.allow_other && o.def.force_owner);
	assert_true(o.async_close && o.require_conditional && o.nolock_error);
	assert_false(o.default_permissions);
	assert_int_equal(o.connections, 7);
	assert_int_equal(o.retry_ns, 90 * NSEC_PER_SEC);
	assert_int_equal(o.attr_timeout_ns, NSEC_PER_SEC / 4);
	assert_int_equal(o.open_trust_ns, NSEC_PER_SEC / 2);
	assert_int_equal(o.def.uid, 12);
	assert_int_equal(o.def.gid, 0);
	assert_int_equal(o.def.umask, 022);
	assert_int_equal(o.def.file_mode, 0600);
	assert_int_equal(o.def.dir_mode, 0700);
	assert_int_equal(o.memory, 3 * GiB / 2);
	assert_int_equal(o.part_size, 16 * MiB);
	assert_int_equal(o.log_level, LOG_L_DEBUG);
	options_done(&o);
}

static void test_last_wins_and_escapes(void **state)
{
	struct options o;

	good(&o, "ro,rw,region=a,region=b");
	assert_false(o.read_only);
	assert_string_equal(o.region, "b");
	options_done(&o);
	good(&o, "excl=a\\,b:c\\\\d,ro,");
	assert_string_equal(o.excl, "a,b:c\\d");
	assert_true(o.read_only);
	options_done(&o);
}

static void test_noise_and_kernel(void **state)
{
	struct options o;

	good(&o,
	     "defaults,_netdev,noauto,nofail,user,x-systemd.automount,x-systemd.idle-timeout=60,X-foo,comment=hi there,"
	     "nosuid,noexec,noatime,context=\"a:b:c\",user=joe,relatime");
	assert_string_equal(str_c(&o.kernel), "nosuid,noexec,noatime,context=\"a:b:c\"");
	options_done(&o);
	/* a value with a comma stays one option when libfuse splits the list */
	good(&o, "context=\"a:c1\\,c2\\\\\",nodev");
	assert_string_equal(str_c(&o.kernel), "context=\"a:c1\\,c2\\\\\",nodev");
	options_done(&o);
}

static void test_bad(void **state)
{
	bad("foo", "unknown option 'foo'");
	bad("ro,foo=bar", "unknown option 'foo'");
	bad("roo", "unknown option 'roo'");
	bad("r", "unknown option 'r'");
	bad("remount,ro", "remount");
	bad("cachesize=10G", "unknown option 'cachesize'");
	bad("endpoint", "needs a value");
	bad("region=", "'region'");
	bad("path_style=1", "takes no value");
	bad("nosuid=1", "takes no value");
	bad("umask=8", "'umask'");
	bad("umask=", "'umask'");
	bad("file_mode=17777", "out of range");
	bad("uid=-1", "'uid'");
	bad("uid=4294967295", "out of range");
	bad("uid=no-such-user-here", "no such name");
	bad("attr_timeout=1s", "'attr_timeout'");
	bad("attr_timeout=", "'attr_timeout'");
	bad("attr_timeout=.", "'attr_timeout'");
	bad("attr_timeout=99999999999999999999", "'attr_timeout'");
	bad("memory=lots", "'memory'");
	bad("memory=99999999999999999999G", "'memory'");
	bad("connections=0", "'connections'");
	bad("connections=x", "'connections'");
	bad("conditional=maybe", "conditional=require");
	bad("nolock=yes", "nolock=error");
	bad("log_level=loud", "'log_level'");
	bad("defaults=1", "unknown option 'defaults'");
}

static void test_sloppy(void **state)
{
	struct options o;
	struct objerr err;

	assert_int_equal(options_init(&o), 0);
	o.sloppy = true;
	assert_int_equal(options_parse(&o, "foo,ro,bar=1", &err), 0);
	assert_true(o.read_only);
	assert_int_equal(options_parse(&o, "umask=9", &err), -EINVAL); /* known, but wrong */
	options_done(&o);
}

static void finish(const char *list, int want, const char *words)
{
	struct options o;
	struct objerr err;
	int r;

	good(&o, list);
	memset(&err, 0, sizeof(err));
	r = options_finish(&o, &err);
	if (r != want || !strstr(err.msg, words))
		print_error("%s: %d \"%s\"\n", list, r, err.msg);
	assert_int_equal(r, want);
	assert_non_null(strstr(err.msg, words));
	options_done(&o);
}

static void test_finish(void **state)
{
	finish("", 0, "");
	finish("part_size=1M", -EINVAL, "part_size");
	finish("memory=1M", -EINVAL, "memory");
	finish("memory=64M,part_size=32M", -EINVAL, "part_size");
	finish("sse=rot13", -EINVAL, "rot13");
	finish("sse=AES256", 0, "");
	finish("endpoint=host:9000", -EINVAL, "endpoint");
	finish("endpoint=http://host\nfile", -EINVAL, "endpoint"); /* would be a line of an identity of its own */
	finish("storage_class=A\tB", -EINVAL, "storage_class"); /* a header nobody could send */
	finish("region=eu west", -EINVAL, "region");
	finish("no_sign,profile=x", -EINVAL, "contradicts");
	finish("passwd_file=/nonexistent/x", -ENOENT, "/nonexistent/x");
	finish("passwd_file=/", -EINVAL, "not a regular file");
	finish("ca_file=/nonexistent/x", -ENOENT, "ca_file");
}

static void test_passwd_file_mode(void **state)
{
	char path[] = "/tmp/unit-options-XXXXXX", list[80];
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	snprintf(list, sizeof(list), "passwd_file=%s", path);
	finish(list, 0, "");
	assert_int_equal(fchmod(fd, 0640), 0);
	finish(list, -EPERM, "chmod 600");
	assert_int_equal(fchmod(fd, 0604), 0);
	finish(list, -EPERM, "0604");
	close(fd);
	unlink(path);
}

static void test_directories(void **state)
{
	struct options o;
	struct objerr err;
	char *cwd = getcwd(NULL, 0);
	char want[4200];

	good(&o, "state_dir=some/state");
	assert_int_equal(options_finish(&o, &err), 0);
	snprintf(want, sizeof(want), "%s/some/state", cwd);
	assert_string_equal(o.state_dir, want);
	assert_true(o.cache_dir && o.cache_dir[0] == '/');
	options_done(&o);
	free(cwd);
}

/* "B<name>", or "B<name=" before the value, for each of them. */
static void test_manual_is_complete(void **state)
{
	const char *dir = getenv("srcdir");
	char path[4200], *text = calloc(1, 1 << 20);
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/fs/mount.lsvdfs.pod", dir ? dir : ".");
	f = fopen(path, "r");
	assert_non_null(f);
	n = fread(text, 1, (1 << 20) - 1, f);
	fclose(f);
	assert_true(n > 1000);
	assert_true(options_count() > 30);
	for (size_t i = 0; i < options_count(); i++) {
		char a[80], b[80];

		snprintf(a, sizeof(a), "B<%s>", options_name(i));
		snprintf(b, sizeof(b), "B<%s=", options_name(i));
		if (!strstr(text, a) && !strstr(text, b))
			fail_msg("option %s is not in %s", options_name(i), path);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(test_last_wins_and_escapes),
	    cmocka_unit_test(test_noise_and_kernel),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_sloppy),
	    cmocka_unit_test(test_finish),
	    cmocka_unit_test(test_passwd_file_mode),
	    cmocka_unit_test(test_directories),
	    cmocka_unit_test(test_manual_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
