/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * cmd.h - the sub-commands, and what they share. A command gets argv with its own name first and returns the exit
 * status: 0 done, 1 failed, 2 wrong usage. Errors are one line on standard error that starts with "lsvdfs: ".
 */
#ifndef LSVD_CMD_H
#define LSVD_CMD_H

#include "mntpoint.h"
#include "options.h"
#include <jansson.h>

#define CMD_OK 0
#define CMD_FAILED 1
#define CMD_USAGE 2

int cmd_mount(int argc, char **argv);
int cmd_mount_helper(int argc, char **argv);  /* as mount(8) calls mount.lsvdfs */
int cmd_umount(int argc, char **argv);
int cmd_umount_helper(int argc, char **argv); /* as umount(8) calls umount.fuse.lsvdfs */
int cmd_probe(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_parked(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_image(int argc, char **argv);

/* cmd.c */
int cmd_fail(const char *fmt, ...) printf_like(1, 2);  /* prints, returns CMD_FAILED */
int cmd_usage(const char *fmt, ...) printf_like(1, 2); /* prints, returns CMD_USAGE */
/* Prints the synopsis and help of a command to standard output. */
int cmd_help(const char *name);
struct cmd_help {
	const char *name, *args, *text;
	bool options; /* the table of -o options follows */
};
extern const struct cmd_help cmd_helps[];
extern const size_t cmd_nhelps;

/*
 * getopt_long with what all commands have: --help (prints, *ret_status = 0), -o LIST (into o, when not NULL), --json.
 * short_opts are the command's own letters; fn gets each of them. Positional arguments: exactly min to max of them, in
 * *ret_pos. Returns true when the command shall go on, else *ret_status is the exit status.
 */
struct cmd_args {
	const char *name, *short_opts;
	bool (*fn)(int c, const char *arg, void *ctx); /* false: unknown */
	void *ctx;
	struct options *o;
	bool *json;
	int min, max;
};
bool cmd_parse(const struct cmd_args *a, int argc, char **argv, char ***ret_pos, int *ret_npos, int *ret_status);

/* Is it s3://, file:// or mem:, not a directory? */
bool cmd_is_source(const char *s);
/* The lsvdfs mount at DIR. Prints why not. CMD_OK or CMD_FAILED. */
int cmd_find_mount(const char *dir, struct mntpoint *ret);
/* Prints doc as JSON and frees it. */
int cmd_print_json(json_t *take_doc);
/* "1.5 GiB"; buf has 24 bytes. Returns buf. */
const char *cmd_size(uint64_t n, char *buf);
/* "2026-11-21 23:36:04Z", "-" for 0; the same. */
const char *cmd_time(int64_t seconds, char *buf);
/* Words for a refused parked or recovered path and the like: shown with control characters as '?'. */
const char *cmd_printable(char *s);

#endif
