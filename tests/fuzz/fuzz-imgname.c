/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-imgname.c - any bytes as the name object of an image, and as its header. What is accepted is the same when it was
 * written and read again; its paths are relative and of one line.
 */
#include "config.h"
#include "fs/image/logobj.h"
#include "fuzz.h"

static void name(const uint8_t *data, size_t size)
{
	struct imgname n, back;
	struct objerr err = {0};
	char *text;
	int r = imgname_decode((const char *)data, size, &n, &err);

	check(r == 0 || r == -ENOMEM || (r == -EUCLEAN && err.msg[0] != '\0'));
	if (r < 0)
		return;
	check(n.name[0] != '\0' && n.name[0] != '/' && strchr(n.name, '\n') == NULL);
	check(n.log[0] != '/' && n.log[strlen(n.log) - 1] == '/');
	check(imgname_encode(&n, &text) == 0);
	check(imgname_decode(text, strlen(text), &back, NULL) == 0);
	check(strcmp(n.name, back.name) == 0 && strcmp(n.log, back.log) == 0 && n.size == back.size);
	check(memcmp(n.uuid, back.uuid, 16) == 0 && memcmp(n.replaces, back.replaces, 16) == 0);
	free(text);
	n.log[0] = '/'; /* what could not be read is not written */
	check(imgname_encode(&n, &text) == -EINVAL);
	imgname_free(&n);
	imgname_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, size};
	char *line = take_line(&in), text[64];
	uint8_t uuid[16], again[16];
	uint64_t bytes, same;

	name(data, size);
	if (imgname_header_parse(line, uuid, &bytes) == 0) {
		imgname_header_format(uuid, bytes, text);
		check(imgname_header_parse(text, again, &same) == 0 && same == bytes && memcmp(uuid, again, 16) == 0);
	}
	free(line);
	return 0;
}
