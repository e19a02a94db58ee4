/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Requests that may wait: each owns copies of its arguments, runs on a pool and is answered once, by its worker or, when
 * the caller is being killed, before that.
 */
#include "config.h"
#include "inode.h"

static void call_run(struct job *job)
{
	struct call *c = container_of(job, struct call, job);

	c->run(c);
}

static void call_free(struct call *c)
{
	free(c->name);
	free(c->name2);
	free(c->data);
	free(c);
}

struct call *call_new(struct fsd *f, fuse_req_t req, uint64_t ino, const char *name, const char *name2, const void *data,
		      size_t len, void (*run)(struct call *c))
{
	struct call *c = calloc(1, sizeof *c);

	if (!c)
		goto fail;
	c->f = f;
	c->req = req;
	c->ino = ino;
	c->run = run;
	c->job.fn = call_run;
	c->ctx = *fuse_req_ctx(req);
	if (name && !(c->name = strdup(name)))
		goto fail;
	if (name2 && !(c->name2 = strdup(name2)))
		goto fail;
	if (data) {
		c->data = malloc(len ? len : 1);
		if (!c->data)
			goto fail;
		memcpy(c->data, data, len);
		c->data_len = len;
	}
	return c;
fail:
	if (c)
		call_free(c);
	fuse_reply_err(req, ENOMEM);
	return NULL;
}

void call_go(struct call *c)
{
	pool_submit(c->f->o.pool, &c->job);
}

bool call_claim(struct call *c)
{
	if (atomic_exchange(&c->answered, true))
		return false;
	if (c->killable) /* waits for a callback that is running: it reads *c */
		fuse_req_interrupt_func(c->req, NULL, NULL);
	return true;
}

void call_done(struct call *c)
{
	call_free(c);
}

void call_err(struct call *c, int r)
{
	if (call_claim(c))
		fuse_reply_err(c->req, r < 0 ? fsd_errno(r) : 0);
	call_free(c);
}

void call_buf(struct call *c, void *take_buf, ssize_t r)
{
	if (call_claim(c)) {
		if (r < 0)
			fuse_reply_err(c->req, fsd_errno((int)r));
		else
			fuse_reply_buf(c->req, take_buf, (size_t)r);
	}
	free(take_buf);
	call_free(c);
}

/*
 * Is the caller being killed, or was it only a timer signal? PF_EXITING (4) in /proc/TID/stat, or SIGKILL pending
 * (bit 0x100 of SigPnd, ShdPnd). Anything unreadable counts as alive: EINTR breaks programs that did not ask for it.
 */
static bool caller_dies(pid_t tid)
{
	char buf[2048], *p;
	unsigned long flags;
	unsigned long long pend;
	int r = fsd_proc_read(tid, "stat", buf, sizeof buf);

	if (r < 0)
		return r == -ENOENT;
	p = strrchr(buf, ')');
	if (p && sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 && (flags & 4))
		return true;
	if (fsd_proc_read(tid, "status", buf, sizeof buf) < 0)
		return false;
	p = strstr(buf, "SigPnd:");
	if (p && sscanf(p, "SigPnd: %llx", &pend) == 1 && (pend & 0x100))
		return true;
	p = strstr(buf, "ShdPnd:");
	return p && sscanf(p, "ShdPnd: %llx", &pend) == 1 && (pend & 0x100);
}

/*
 * libfuse calls this with the request locked: nothing here may call fuse_req_interrupt_func(). While the callback is
 * being registered the reply is put off, because libfuse still unlocks the request afterwards.
 */
static __thread bool registering, interrupted_meanwhile;

static bool let_go(struct call *c)
{
	return c->ctx.pid > 0 && caller_dies(c->ctx.pid) && !atomic_exchange(&c->answered, true);
}

static void on_interrupt(fuse_req_t req, void *data)
{
	if (registering)
		interrupted_meanwhile = true;
	else if (let_go(data)) /* from here on the call may be freed by its worker */
		fuse_reply_err(req, EINTR);
}

void call_killable(struct call *c)
{
	fuse_req_t req = c->req;

	c->killable = true;
	interrupted_meanwhile = false;
	registering = true;
	fuse_req_interrupt_func(req, on_interrupt, c);
	registering = false;
	if (interrupted_meanwhile && let_go(c))
		fuse_reply_err(req, EINTR);
}
