/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main.c - which command was meant: by the name it was called by (the helpers of mount(8) and umount(8) are links to
 * the one binary), else by the first argument.
 */
#include "config.h"
#include "cmd.h"
#include "mount.h"
#include "explain.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct mount_flags {
	bool foreground, fake, verbose, helper;
	struct options *o;
};

static bool mount_flag(int c, const char *arg, void *ctx)
{
	struct mount_flags *f = ctx;

	switch (c) {
	case 'f': /* lsvdfs mount: foreground; mount(8): fake */
		*(f->helper ? &f->fake : &f->foreground) = true;
		return true;
	case 'v':
		return f->verbose = true;
	case 's':
		return f->o->sloppy = true;
	case 'n': /* no mtab: there is none */
		return true;
	case 't': /* type.subtype: we know who we are */
		return true;
	case 'N': /* mount(8) has entered the namespace when the option reaches a helper */
		return true;
	}
	return false;
}

/* Absolute, since the daemon changes to /; a source keeps its spelling, which is what findmnt shows. */
static int mount_args(struct options *o, char **pos, struct objerr *err)
{
	o->source = strdup(pos[0]);
	o->dir = strdup(pos[1]);
	if (!o->source || !o->dir)
		return -ENOMEM;
	if (!cmd_is_source(o->source)) {
		objerr_set(err, "'%.100s' is no source: write s3://BUCKET[/PREFIX] or file:///PATH", o->source);
		return -EINVAL;
	}
	return options_finish(o, err);
}

/* The directory and the kernel, asked before anything is built. */
static int mount_place(struct options *o, struct objerr *err)
{
	char *dir = NULL;
	int r = mntpoint_check_fuse(err);

	if (!r)
		r = mntpoint_check(o->dir, o->source, &dir, err);
	if (r)
		return r;
	free(o->dir);
	o->dir = dir;
	return 0;
}

static int do_mount(int argc, char **argv, bool helper)
{
	struct options o;
	struct mount_flags f = {.helper = helper, .o = &o};
	struct cmd_args a = {
	    .name = "mount", .short_opts = "fvsnt:N:", .fn = mount_flag, .ctx = &f, .o = &o, .min = 2, .max = 2};
	struct objerr err = {0};
	struct obj_url url;
	char **pos;
	int npos, status, r;

	if (options_init(&o))
		return cmd_fail("out of memory");
	if (!cmd_parse(&a, argc, argv, &pos, &npos, &status))
		goto out;
	status = CMD_FAILED;
	r = mount_args(&o, pos, &err);
	if (!r) {
		r = obj_url_parse(o.source, &url, &err);
		if (!r)
			obj_url_free(&url);
	}
	if (r == -EINVAL)
		status = CMD_USAGE;
	if (!r && f.fake) {
		status = CMD_OK;
		goto out;
	}
	if (!r)
		r = mount_place(&o, &err);
	if (!r)
		return mount_run(&o, f.foreground);
	cmd_fail("%s", err.msg[0] ? err.msg : explain_errno(r));
out:
	options_done(&o);
	return status;
}

int cmd_mount(int argc, char **argv)
{
	return do_mount(argc, argv, false);
}

int cmd_mount_helper(int argc, char **argv)
{
	return do_mount(argc, argv, true);
}

static int help_all(FILE *f)
{
	fputs("Usage: lsvdfs COMMAND ...\n\n", f);
	for (size_t i = 0; i < cmd_nhelps; i++)
		fprintf(f, "  lsvdfs %s %s\n", cmd_helps[i].name, cmd_helps[i].args);
	fputs("\nlsvdfs COMMAND --help says more; lsvdfs(1) and mount.lsvdfs(8) say it all.\n", f);
	return f == stdout ? CMD_OK : CMD_USAGE;
}

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
} commands[] = {
    {"mount", cmd_mount},   {"umount", cmd_umount}, {"unmount", cmd_umount},  {"probe", cmd_probe},
    {"status", cmd_status}, {"parked", cmd_parked}, {"recover", cmd_recover},
    {"image", cmd_image},
};

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
} called_as[] = {
    {"mount.lsvdfs", cmd_mount_helper},
    {"mount.fuse.lsvdfs", cmd_mount_helper},
    {"umount.lsvdfs", cmd_umount_helper},
    {"umount.fuse.lsvdfs", cmd_umount_helper},
};

/* Descriptors 0 to 2 must be taken: a socket that became standard error would get our messages. */
static int open_standard_fds(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) /* the lowest free one */
			return -EBADF;
	return 0;
}

int main(int argc, char **argv)
{
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc ? argv[0] : "lsvdfs";

	if (open_standard_fds())
		return CMD_FAILED;
	for (size_t i = 0; i < ARRAY_SIZE(called_as); i++)
		if (!strcmp(name, called_as[i].name))
			return called_as[i].fn(argc, argv);
	if (argc < 2)
		return help_all(stderr);
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("lsvdfs %s\n", PACKAGE_VERSION);
		return CMD_OK;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return argc > 2 && !cmd_help(argv[2]) ? CMD_OK : help_all(stdout);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].fn(argc - 1, argv + 1);
	return cmd_usage("unknown command '%.40s' (lsvdfs --help)", argv[1]);
}
