/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * async_close: close() has answered, the spool uploads behind it, and one thread waits for the results in turn, so that
 * the node learns its new version, or that its bytes were parked. The order does not matter: the uploads run in
 * parallel, and a result that came early is there at once.
 */
#include "inode.h"

#define RETRY_NS (5 * NSEC_PER_SEC)

struct async_file {
	struct list link;
	struct inode *i; /* a reference */
};

void async_init(struct fsd *f)
{
	mtx_init(&f->async_lock, RANK_MOUNT);
	cond_init(&f->async_more);
	list_init(&f->async_files);
}

static void await_upload(struct fsd *f, struct inode *i)
{
	struct objerr err = { 0 };
	int r = file_commit(f, i, 0, &err); /* logged, and parked where it lost */

	mtx_lock(&f->async_lock);
	if (r < 0 && r != -ESTALE) /* the spool goes on trying; so do we, in its pace */
		while (!f->async_stop && cond_wait_until(&f->async_more, &f->async_lock, clock_now_ns() + RETRY_NS) == 0)
			;
	mtx_unlock(&f->async_lock);
	if (r == 0 || r == -ESTALE)
		file_last_release(f, i); /* nothing, while somebody has it open */
	else
		async_watch(f, i);
}

static void *async_main(void *arg)
{
	struct fsd *f = arg;

	mtx_lock(&f->async_lock);
	for (;;) {
		struct async_file *a;

		while (list_empty(&f->async_files) && !f->async_stop)
			cond_wait(&f->async_more, &f->async_lock);
		if (list_empty(&f->async_files))
			break;
		a = list_entry(f->async_files.next, struct async_file, link);
		list_del(&a->link);
		mtx_unlock(&f->async_lock);
		if (!f->async_stop) /* what is still under way stays in the spool for the next mount */
			await_upload(f, a->i);
		inode_put(f, a->i);
		free(a);
		mtx_lock(&f->async_lock);
	}
	mtx_unlock(&f->async_lock);
	return NULL;
}

void async_watch(struct fsd *f, struct inode *i)
{
	struct async_file *a = malloc(sizeof *a);

	if (!a)
		return; /* the node stays as it is until its next commit */
	a->i = inode_ref(f, i);
	mtx_lock(&f->async_lock);
	list_add_tail(&f->async_files, &a->link);
	if (!f->async_started)
		f->async_started = pthread_create(&f->async_thread, NULL, async_main, f) == 0;
	cond_signal(&f->async_more);
	mtx_unlock(&f->async_lock);
}

void async_stop(struct fsd *f)
{
	mtx_lock(&f->async_lock);
	f->async_stop = true;
	cond_signal(&f->async_more);
	mtx_unlock(&f->async_lock);
	if (f->async_started)
		pthread_join(f->async_thread, NULL);
	cond_destroy(&f->async_more);
	mtx_destroy(&f->async_lock);
}
