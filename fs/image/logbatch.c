/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logbatch.c - several requests at a time, and one wait for all of them.
 */
#include "config.h"
#include "log-private.h"

void log_batch_init(struct log_batch *b)
{
	mtx_init(&b->lock, RANK_WAIT);
	cond_init(&b->done);
	b->left = 0;
}

void log_batch_destroy(struct log_batch *b)
{
	cond_destroy(&b->done);
	mtx_destroy(&b->lock);
}

static void batch_done(struct objreq *req)
{
	struct log_batch *b = req->priv;

	mtx_lock(&b->lock);
	if (--b->left == 0)
		cond_signal(&b->done);
	mtx_unlock(&b->lock);
}

void log_batch_submit(struct log_batch *b, struct objstore *store, struct objreq *req)
{
	req->done = batch_done;
	req->priv = b;
	mtx_lock(&b->lock);
	b->left++;
	mtx_unlock(&b->lock);
	obj_submit(store, req);
}

void log_batch_wait(struct log_batch *b)
{
	mtx_lock(&b->lock);
	while (b->left > 0)
		cond_wait(&b->done, &b->lock);
	mtx_unlock(&b->lock);
}
