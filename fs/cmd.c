/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cmd.c - arguments, messages and help that all sub-commands share. */
#include "config.h"
#include "cmd.h"

#include "explain.h"
#include "objstore/base/str.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct cmd_help cmd_helps[] = {
    {"mount", "SOURCE DIR [-f] [-o OPTIONS]",
     "Mounts the bucket SOURCE (s3://BUCKET[/PREFIX] or file:///PATH) on DIR. Returns when the mount works.\n"
     "  -f          stay in the foreground, messages to standard error\n"
     "  -o LIST     options, separated by commas:",
     true},
    {"umount", "DIR [-f | -l]",
     "Waits until everything is in the bucket, then unmounts and waits for the daemon to end.\n"
     "  -f          abort at once: programs get errors, unsent data waits in state_dir for the next mount\n"
     "  -l          detach from the tree even when it is in use (after sending everything)",
     false},
    {"probe", "SOURCE [-o OPTIONS] [--json]",
     "Checks credentials and rights, measures latency and throughput, shows what the store can do and which\n"
     "promise is narrower where it cannot. Writes keys below .lsvd/probe/ of the source and removes them.",
     false},
    {"status", "DIR [--json]", "Shows what the mount on DIR does: requests, dirty data, memory, recovery.", false},
    {"parked", "list|save|retry|drop DIR|SOURCE [ID] [FILE] [--force] [-o OPTIONS] [--json]",
     "Bytes that lost a conflict with another node, or that a crash left unfinished.\n"
     "  list DIR|SOURCE            what is there, and why\n"
     "  save DIR|SOURCE ID FILE    write the bytes to FILE (- is standard output)\n"
     "  retry DIR|SOURCE ID        upload if the object is still the one they were based on; --force: anyway\n"
     "  drop DIR|SOURCE ID         throw them away",
     false},
    {"recover", "SOURCE [--abort-uploads] [-o OPTIONS] [--json]",
     "Lists renames under way in the bucket and finishes what mounts of this node left behind. Lists copies of\n"
     "removed files that other nodes have or had open, and multipart uploads that are older than a day.\n"
     "  --abort-uploads   abort those uploads, whoever began them",
     false},
    {"image", "ACTION TARGET [ARGUMENT] [--force] [--data] [--repair [--zero-lost]] [--mark N] [--id ID [--out FILE | --into NEW | --drop]] "
     "[--size SIZE] [--pins] [--position N] [--all] [-o OPTIONS] [--json]",
     "Disk images. TARGET is a path on a mount, or SOURCE and a path below it.\n"
     "  create TARGET SIZE      an empty image (-o fsync=remote: its fsync waits for the bucket)\n"
     "  info TARGET             sizes, what of the log is live, who holds it\n"
     "  list DIR|SOURCE [PATH]  the images below\n"
     "  resize TARGET SIZE      larger; smaller with --force: what is behind is lost\n"
     "  delete TARGET           as rm on a mount\n"
     "  export TARGET FILE      a sparse raw file, a device, or - for standard output, of one state of the image\n"
     "  import TARGET FILE      a new image from a raw file, a device, or - for standard input; zeros become holes\n"
     "                          --size SIZE: of the image; a device or pipe without end is read so far\n"
     "  import TARGET fly:URL   from the objects of a Fly.io volume in the bucket URL. --restore-point N: none after object N;\n"
     "                          --stop-at-gap: none after a missing number; --from-options LIST: -o for that bucket\n"
     "  check TARGET            is all of it there? Status 1 when damaged. --data: every checksum. Says what could be repaired;\n"
     "                          --repair does it; --zero-lost: bytes that are lost for good become zeros, else EIO\n"
     "  marks TARGET            states that export and check --mark N can read, without changing anything\n"
     "  adopt TARGET UUID       a name for the log of an image that has none\n"
     "  gc DIR|SOURCE           removes what is left of dead images, imports and clones; with --force logs without a name\n"
     "  claim TARGET            takes the image from whoever holds it: that machine's unsent bytes are lost to it\n"
     "  journal TARGET|DIR|SOURCE\n"
     "                          what this machine wrote that is not known to be in the image, as after a claim by another:\n"
     "                          --id ID each change; --out FILE its bytes; --into NEW an image as this\n"
     "                          machine saw it when it lost it; --drop throws it away\n"
     "  snapshot TARGET@NAME    keeps what the image is now, while a guest writes; export and delete take TARGET@NAME too\n"
     "  snapshots TARGET        those that there are; --pins: and how many bytes only each of them keeps\n"
     "  rollback TARGET@NAME    back to it; what the image was until now becomes a snapshot first\n"
     "  rollback TARGET --position N\n"
     "                          the same for any position of the log from its newest checkpoint on, or from the oldest that is kept\n"
     "  log TARGET              those positions from the newest checkpoint on: number, time, type, bytes of data; --all: all\n"
     "  retain TARGET TIME|off  every position of the last 90, 15m, 12h, 7d or 2w is kept, whoever owns the image\n"
     "  clone TARGET@NAME NEW   a new image that begins as the snapshot, at once and whatever the size\n"
     "  flatten TARGET          a clone reads from its parent no more: what it needs is copied, a guest may write meanwhile",
     false},
};
const size_t cmd_nhelps = ARRAY_SIZE(cmd_helps);

static void say(const char *fmt, va_list ap) printf_like(1, 0);

static void say(const char *fmt, va_list ap)
{
	fputs("lsvdfs: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

int cmd_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return CMD_FAILED;
}

int cmd_usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	return CMD_USAGE;
}

int cmd_help(const char *name)
{
	for (size_t i = 0; i < cmd_nhelps; i++) {
		const struct cmd_help *h = &cmd_helps[i];

		if (strcmp(h->name, name))
			continue;
		printf("Usage: lsvdfs %s %s\n\n%s\n", h->name, h->args, h->text);
		if (h->options)
			options_help(stdout);
		else if (strstr(h->args, "OPTIONS"))
			printf("  -o LIST     options of the mount (lsvdfs mount --help)\n");
		return CMD_OK;
	}
	return CMD_USAGE;
}

static const char *args_of(const char *name)
{
	for (size_t i = 0; i < cmd_nhelps; i++)
		if (!strcmp(cmd_helps[i].name, name))
			return cmd_helps[i].args;
	return "...";
}

enum { OPT_HELP = 256, OPT_JSON, OPT_FORCE, OPT_ABORT, OPT_DATA, OPT_ID, OPT_OUT, OPT_DROP, OPT_SIZE, OPT_POINT, OPT_GAP, OPT_FROM,
       OPT_PINS, OPT_REPAIR, OPT_ZERO_LOST, OPT_MARK, OPT_INTO, OPT_POSITION, OPT_ALL };

bool cmd_parse(const struct cmd_args *a, int argc, char **argv, char ***ret_pos, int *ret_npos, int *ret_status)
{
	static const struct option longs[] = {{"help", no_argument, NULL, OPT_HELP},
					      {"json", no_argument, NULL, OPT_JSON},
					      {"force", no_argument, NULL, OPT_FORCE},
					      {"abort-uploads", no_argument, NULL, OPT_ABORT},
					      {"data", no_argument, NULL, OPT_DATA},
					      {"id", required_argument, NULL, OPT_ID},
					      {"out", required_argument, NULL, OPT_OUT},
					      {"drop", no_argument, NULL, OPT_DROP},
					      {"size", required_argument, NULL, OPT_SIZE},
					      {"restore-point", required_argument, NULL, OPT_POINT},
					      {"stop-at-gap", no_argument, NULL, OPT_GAP},
					      {"from-options", required_argument, NULL, OPT_FROM},
					      {"pins", no_argument, NULL, OPT_PINS},
					      {"repair", no_argument, NULL, OPT_REPAIR},
					      {"zero-lost", no_argument, NULL, OPT_ZERO_LOST},
					      {"mark", required_argument, NULL, OPT_MARK},
					      {"into", required_argument, NULL, OPT_INTO},
					      {"position", required_argument, NULL, OPT_POSITION},
					      {"all", no_argument, NULL, OPT_ALL},
					      {0}};
	struct objerr err = {0};
	struct str letters = {0};
	int c;

	*ret_status = CMD_USAGE;
	str_addf(&letters, ":o:%s", a->short_opts);
	optind = 0; /* glibc: start again, permute */
	opterr = 0;
	while (!letters.err && (c = getopt_long(argc, argv, letters.p, longs, NULL)) != -1) {
		bool ok = false;

		if (c == OPT_HELP) {
			*ret_status = cmd_help(a->name);
			goto stop;
		}
		if (c == ':') {
			cmd_usage("%s: option %s needs an argument", a->name, argv[optind - 1]);
			goto stop;
		}
		if (c == 'o' && a->o) {
			if (options_parse(a->o, optarg, &err)) {
				cmd_usage("%s", err.msg[0] ? err.msg : "out of memory");
				goto stop;
			}
			ok = true;
		} else if (c == OPT_JSON && a->json) {
			ok = *a->json = true;
		} else if (c != '?' && a->fn) {
			static const char letter[] = {[OPT_FORCE - OPT_HELP] = 'F', [OPT_ABORT - OPT_HELP] = 'A',
						      [OPT_DATA - OPT_HELP] = 'D',  [OPT_ID - OPT_HELP] = 'I',
						      [OPT_OUT - OPT_HELP] = 'O',   [OPT_DROP - OPT_HELP] = 'X',
						      [OPT_SIZE - OPT_HELP] = 'S',  [OPT_POINT - OPT_HELP] = 'R',
						      [OPT_GAP - OPT_HELP] = 'G',   [OPT_FROM - OPT_HELP] = 'P',
						      [OPT_PINS - OPT_HELP] = 'N',  [OPT_REPAIR - OPT_HELP] = 'Y',
						      [OPT_MARK - OPT_HELP] = 'M',  [OPT_ZERO_LOST - OPT_HELP] = 'Z',
						      [OPT_INTO - OPT_HELP] = 'T',  [OPT_POSITION - OPT_HELP] = 'B',
						      [OPT_ALL - OPT_HELP] = 'L'};

			ok = a->fn(c >= OPT_HELP ? letter[c - OPT_HELP] : c, optarg, a->ctx);
		}
		if (!ok) {
			cmd_usage("%s: unknown option %s (lsvdfs %s --help)", a->name, argv[optind - 1], a->name);
			goto stop;
		}
	}
	if (argc - optind < a->min || argc - optind > a->max) {
		cmd_usage("%s: %s arguments (usage: lsvdfs %s %s)", a->name,
			  argc - optind < a->min ? "missing" : "too many", a->name, args_of(a->name));
		goto stop;
	}
	*ret_pos = argv + optind;
	*ret_npos = argc - optind;
	str_free(&letters);
	return true;
stop:
	str_free(&letters);
	return false;
}

bool cmd_is_source(const char *s)
{
	return str_has_prefix(s, "s3://") || str_has_prefix(s, "file://") || str_has_prefix(s, "mem:");
}

int cmd_find_mount(const char *dir, struct mntpoint *ret)
{
	_cleanup_free_ char *path = NULL;
	struct mntpoint m = {0};
	int r = mntpoint_resolve(dir, &path);

	if (!r)
		r = mntpoint_find(path, &m);
	if (r == -ENOENT && path)
		return cmd_fail("%s: not a mount point", dir);
	if (r)
		return cmd_fail("%s: %s", dir, explain_errno(r));
	if (!m.ours) {
		mntpoint_done(&m);
		return cmd_fail("%s: not an lsvdfs mount", dir);
	}
	*ret = m;
	return CMD_OK;
}

int cmd_print_json(json_t *take_doc)
{
	int r = take_doc ? json_dumpf(take_doc, stdout, JSON_INDENT(2)) : -1;

	json_decref(take_doc);
	if (r || putchar('\n') == EOF || fflush(stdout))
		return cmd_fail("cannot write the answer");
	return CMD_OK;
}

const char *cmd_size(uint64_t n, char *buf)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)n;
	size_t i = 0;

	while (v >= 1024 && i + 1 < ARRAY_SIZE(unit)) {
		v /= 1024;
		i++;
	}
	snprintf(buf, 24, i ? "%.1f %s" : "%.0f %s", v, unit[i]);
	return buf;
}

const char *cmd_time(int64_t seconds, char *buf)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!seconds || !gmtime_r(&t, &tm) || !strftime(buf, 24, "%Y-%m-%d %H:%M:%SZ", &tm))
		memcpy(buf, "-", 2);
	return buf;
}

const char *cmd_printable(char *s)
{
	str_make_printable(s);
	return s;
}
