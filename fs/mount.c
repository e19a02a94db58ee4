/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mount.c - the life of a mount: build, serve (daemon.c), drain, take down.
 *
 * The reason of a failed start is one line; the command prints it (start.h). What cannot be uploaded at the end stays
 * in the spool, where the next mount of the same source finds it.
 */
#include "config.h"
#include "imgop.h"
#include "mount.h"

#include "capsfile.h"
#include "control.h"
#include "explain.h"
#include "intent.h"
#include "leftover.h"
#include "objstore/base/clock.h"
#include "objstore/base/log.h"
#include "objstore/base/str.h"

#include <dirent.h>
#include <fuse_lowlevel.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Background: messages go to the system log from the start; what who waits for the command must know, to both. */
static bool tell_terminal;

#define POOL_THREADS 128
#define REACH_NS (10 * NSEC_PER_SEC) /* patience with a server without retry= */

/* --- the store -------------------------------------------------------------------------------------------------- */

int mount_open_store(const struct options *o, struct budget *budget, struct obj_url *ret_url,
		     struct objstore **ret_store, struct objerr *err)
{
	struct obj_open_opts oo;
	struct obj_url url;
	int64_t deadline = clock_now_ns() + o->retry_ns;
	int r = obj_url_parse(o->source, &url, err);

	if (r)
		return r;
	options_open_opts(o, budget, &oo);
	/* opening asks for the region and for credentials: the network may not be up yet */
	while ((r = obj_open(&url, &oo, ret_store, err)) && explain_waitable(r) && clock_now_ns() < deadline)
		clock_sleep_ns(NSEC_PER_SEC);
	if (r) {
		explain_error(o->source, r, err, err);
		obj_url_free(&url);
		return r;
	}
	*ret_url = url;
	return 0;
}

static void say_waiting(const struct objerr *err, const struct options *o, int64_t deadline_ns)
{
	long long s = (deadline_ns - clock_now_ns()) / NSEC_PER_SEC;

	log_warn("%s; waiting up to %lld s", err->msg[0] ? err->msg : o->source, s);
	if (tell_terminal)
		fprintf(stderr, "lsvdfs: %s; waiting up to %lld s\n", err->msg[0] ? err->msg : o->source, s);
}

int mount_reach(struct objstore *store, const struct options *o, const char *prefix, struct objerr *err)
{
	int64_t deadline = clock_now_ns() + o->retry_ns;
	bool said = false;
	struct objreq q;
	int r;

	for (;;) {
		objreq_init(&q, OBJ_LIST, prefix);
		q.max_keys = 1;
		q.deadline_ns = clock_now_ns() + REACH_NS;
		q.fail_fast = true; /* retry= waits here, and says so */
		r = obj_do(store, &q);
		if (r)
			explain_error(o->source, r, &q.err, err);
		objreq_done(&q);
		if (!explain_waitable(r) || clock_now_ns() >= deadline)
			return r;
		if (!said)
			say_waiting(err, o, deadline);
		said = true;
		clock_sleep_ns(NSEC_PER_SEC);
	}
}

/* Capabilities found less than a day ago. The file is a cache: anything odd in it means "ask". */
static bool caps_cached(struct mount *m)
{
	int64_t now = clock_real_ns() / NSEC_PER_SEC;
	struct caps_found f;

	if (capsfile_read(m->caps_path, &f) || f.time_s > now || f.time_s < now - CAPS_AGE_S)
		return false;
	obj_set_caps(m->store, f.caps, f.quirks);
	return true;
}

static void caps_remember(struct mount *m)
{
	struct caps_found f = {obj_caps(m->store), obj_quirks(m->store), clock_real_ns() / NSEC_PER_SEC};
	int r = capsfile_write(m->caps_path, &f);

	if (r)
		log_debug("%s: %s", m->caps_path, explain_errno(r));
}

static int probe(struct mount *m, struct objerr *err)
{
	unsigned caps;
	int r;

	if (m->opt.read_only)
		return 0;
	if (m->url.kind != OBJ_URL_S3 || !caps_cached(m)) {
		r = obj_probe(m->store, m->url.prefix, err);
		if (r == -EACCES) {
			struct objerr what = *err;

			objerr_set(err, "%s: %.190s; or mount with -o ro", m->opt.source, what.msg);
			return r;
		}
		if (r) {
			explain_error(m->opt.source, r, err, err);
			return r;
		}
		if (m->url.kind == OBJ_URL_S3)
			caps_remember(m);
	}
	caps = obj_caps(m->store);
	for (size_t i = 0; i < explain_ncaps; i++)
		if (!(caps & explain_caps[i].cap) && explain_caps[i].narrowed)
			log_info("%s: no %s: %s", m->opt.source, explain_caps[i].name, explain_caps[i].narrowed);
	if (explain_quirks(obj_quirks(m->store)))
		log_info("%s: %s", m->opt.source, explain_quirks(obj_quirks(m->store)));
	if (m->opt.require_conditional && (~caps & (OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH))) {
		objerr_set(err, "%s: the store has no conditional writes, refused by conditional=require",
			   m->opt.source);
		return -ENOTSUP;
	}
	return 0;
}

static int open_store(struct mount *m, struct objerr *err)
{
	int r = mount_open_store(&m->opt, m->budget, &m->url, &m->store, err);

	if (r)
		m->store = NULL;
	return r;
}

/* --- local files ------------------------------------------------------------------------------------------------ */

/* Our own files on our own mount would make us wait for ourselves. As a command says it, or as it is. */
static int not_on_mount(const struct mount *m, const char *path, const char *option, struct objerr *err)
{
	_cleanup_free_ char *real = realpath(path, NULL);

	if (!mntpoint_below(path, m->opt.dir) && !(real && mntpoint_below(real, m->opt.dir)))
		return 0;
	objerr_set(err, "%s lies on the mount itself: choose another %s", path, option);
	return -EINVAL;
}

/* A directory that is the bucket must not hold the mount: looking at the mount point, it would wait for itself. On top of
 * the bucket is fine: the directory below was opened before. */
static int not_in_bucket(const struct mount *m, const struct obj_url *url, struct objerr *err)
{
	_cleanup_free_ char *real = url->kind == OBJ_URL_FILE ? realpath(url->bucket, NULL) : NULL;

	if (!real || !strcmp(real, m->opt.dir) || !mntpoint_below(m->opt.dir, real))
		return 0;
	objerr_set(err, "%s lies in the directory that it would show: mount it elsewhere", m->opt.dir);
	return -EINVAL;
}

static int check_dirs(struct mount *m, const struct obj_url *url, struct objerr *err)
{
	int r = not_in_bucket(m, url, err);

	if (!r)
		r = not_on_mount(m, m->opt.state_dir, "state_dir=", err);
	if (!r)
		r = not_on_mount(m, m->opt.cache_dir, "cache_dir=", err);
	if (r)
		return r;
	if (m->opt.async_close && slot_volatile(m->opt.state_dir)) {
		objerr_set(err,
			   "state_dir %s is on a tmpfs: async_close needs a disk that survives a reboot "
			   "(give another state_dir=, or drop async_close)",
			   m->opt.state_dir);
		return -EINVAL;
	}
	return 0;
}

static int caps_file(struct mount *m, char **ret)
{
	_cleanup_free_ char *idir = NULL;
	struct str s = {0};
	int r = slot_identity_dir(m->opt.cache_dir, m->identity, &idir);

	if (r)
		return r;
	str_addf(&s, "%s/caps", idir);
	return str_take(&s, ret);
}

/* For people, in the claims of images. */
static int host_name(char **ret)
{
	char name[100] = "";

	if (gethostname(name, sizeof(name) - 1) || !*name)
		ignore(str_copy(name, sizeof(name), "?"));
	str_make_printable(name);
	*ret = strdup(name);
	return *ret ? 0 : -ENOMEM;
}

static int take_slots(struct mount *m, struct objerr *err)
{
	struct obj_url url;
	int r = obj_url_parse(m->opt.source, &url, err);

	if (r)
		return r;
	r = slot_identity(&url, m->opt.endpoint, &m->identity);
	if (!r)
		r = check_dirs(m, &url, err);
	obj_url_free(&url);
	if (!r)
		r = slot_take(m->opt.state_dir, m->identity, &m->state, err);
	if (!r)
		r = slot_take(m->opt.cache_dir, m->identity, &m->cache, err);
	if (!r) /* again: what did not exist could not be resolved */
		r = not_on_mount(m, m->state.path, "state_dir=", err);
	if (!r)
		r = not_on_mount(m, m->cache.path, "cache_dir=", err);
	if (!r)
		r = slot_file(&m->state, "spool", &m->spool_dir);
	if (!r)
		r = slot_file(&m->state, "metaq", &m->metaq_path);
	if (!r)
		r = slot_file(&m->state, "nodes", &m->node_path);
	if (!r)
		r = slot_file(&m->state, "img", &m->image_dir);
	if (!r)
		r = host_name(&m->host);
	if (!r)
		r = intent_node_id(&m->state, &m->node_id);
	if (!r)
		r = slot_file(&m->cache, "attr.db", &m->db_path);
	if (!r)
		r = slot_file(&m->cache, "blocks", &m->block_path);
	if (!r)
		r = caps_file(m, &m->caps_path);
	return r;
}

static int open_metaq(struct mount *m, const char *path, struct metaq **ret, struct objerr *err)
{
	struct metaq_opts qo = {
	    .path = path, .tree = m->tree, .delay_ns = NSEC_PER_SEC, .done = fsd_metaq_done, .arg = &m->fsd};

	return metaq_open(&qo, ret, err);
}

/* The waiting metadata of a dead mount goes out now; what fails stays in its journal for the next time. */
static int adopt_metaq(struct mount *m, const struct slot *s)
{
	_cleanup_free_ char *path = NULL;
	struct objerr err = {0};
	struct metaq *q = NULL;
	int r = slot_file(s, "metaq", &path);

	if (r || access(path, F_OK))
		return r;
	r = open_metaq(m, path, &q, &err);
	if (r)
		return r;
	r = metaq_sync_below(q, "", &err);
	if (!r && metaq_count(q))
		r = -EAGAIN;
	metaq_close(q);
	if (r)
		log_warn("%s: waiting metadata not sent: %s", path, err.msg);
	else
		unlink(path);
	return 0;
}

/* Journals of disk images: fsd_leftovers() looks at them. */
static int adopt_images(struct mount *m, const struct slot *s)
{
	_cleanup_free_ char *theirs = NULL;
	struct dirent *de;
	int r = slot_file(s, "img", &theirs);
	DIR *d = r ? NULL : opendir(theirs);

	if (!d)
		return r;
	if (mkdir(m->image_dir, 0700) && errno != EEXIST)
		r = -errno;
	while (!r && (de = readdir(d))) {
		_cleanup_free_ char *from = NULL, *to = NULL;
		int stays;

		if (de->d_name[0] == '.')
			continue;
		if (asprintf(&from, "%s/%s", theirs, de->d_name) < 0 || asprintf(&to, "%s/%s", m->image_dir, de->d_name) < 0) {
			r = -ENOMEM;
			break;
		}
		stays = image_adopt_dir(from, to);
		if (stays)
			log_warn("%s: the journal of a disk image stays there: %s", from, explain_errno(stays));
	}
	closedir(d);
	return r;
}

static int adopt_slot(struct mount *m, unsigned number)
{
	_cleanup_free_ char *spool = NULL, *nodes = NULL;
	struct slot other = {.lock_fd = -1};
	int r = slot_lock(m->opt.state_dir, m->identity, number, &other);

	if (r == -EBUSY || r == -ENOENT)
		return 0; /* a running mount's */
	if (r)
		return r;
	r = slot_file(&other, "spool", &spool);
	if (!r)
		r = slot_file(&other, "nodes", &nodes);
	if (!r && !access(spool, F_OK)) {
		if (slot_dirty(other.path))
			log_info("%s: left by a mount that died, taken over", other.path);
		r = spool_adopt(m->spool, spool);
		m->recovered.adopted++;
	}
	if (!r)
		r = adopt_metaq(m, &other);
	if (!r)
		r = adopt_images(m, &other);
	if (!r)
		unlink(nodes);
	if (r)
		log_warn("%s: cannot take over: %s", other.path, explain_errno(r));
	slot_release(&other);
	return 0;
}

static void report_stranger(void *arg, const char *path, const char *identity)
{
	struct mount *m = arg;
	size_t kind = strcspn(identity, "\n");

	m->recovered.strangers++;
	log_warn(
	    "%s holds unsent data of the same bucket, mounted as %.*s endpoint or prefix spelled differently: mount it "
	    "that way once, or run lsvdfs recover",
	    path, (int)kind, identity);
}

static void report_recovered(void *arg, const char *dir, const char *name, const char *what, const struct version *v,
			     const struct obj_headers *h, uint64_t ino)
{
	struct mount *m = arg;

	log_info("recovery: %s%s: %s", dir, name, what);
	if (v && v->etag[0] && h)
		(void)tree_note_object(m->tree, dir, name, false, v, h, ino, true, v->mtime_s, clock_now_ns());
	else
		tree_forget(m->tree, dir);
}

static void report_intent(void *arg, const struct intent *i)
{
	struct mount *m = arg;
	const char *from = i->from ? i->from : i->key, *to = i->to ? i->to : "?";

	switch (i->fate) {
	case INTENT_RESUMED:
		m->recovered.renames++;
		log_info("recovery: rename of %s to %s finished", from, to);
		break;
	case INTENT_FAILED:
		log_warn("recovery: rename of %s to %s is half done, and cannot be finished now: %s", from, to, i->why);
		break;
	case INTENT_RUNNING:
		break; /* another mount of this machine sees to it */
	case INTENT_FOREIGN:
		log_info("%s: another machine is renaming %s to %s, or has stopped half way", m->opt.source, from, to);
		break;
	case INTENT_DAMAGED:
		log_warn("%s: an intent that cannot be understood: %s", m->opt.source, i->key);
		break;
	}
}

/* After the spool and the waiting metadata: what they put under old names moves along. */
static void recover_renames(struct mount *m)
{
	struct objerr err = {0};
	int r = metaq_sync_below(m->metaq, "", &err);

	if (r)
		log_warn("recovery: waiting metadata not sent: %s", err.msg);
	err.msg[0] = '\0';
	r = intent_resume_all(m->store, m->url.prefix, m->opt.state_dir, m->identity, &m->state, report_intent, m,
			      &err);
	if (r)
		log_warn("recovery: cannot look for unfinished renames: %s", err.msg[0] ? err.msg : explain_errno(r));
}

static void report_copy(void *arg, const struct leftover *l)
{
	(void)arg;
	if (l->fate == LEFTOVER_REMOVED)
		log_info("recovery: %s, a removed file that was open, is gone now", l->key);
	else if (l->fate == LEFTOVER_FAILED)
		log_warn("recovery: %s, a removed file that was open, could not be removed: %s", l->key, l->why);
}

/* Files that were open when they were removed: nobody has them open any more. */
static void recover_copies(struct mount *m)
{
	struct objerr err = {0};
	int r = leftover_copies(m->store, m->url.prefix, m->opt.state_dir, m->identity, &m->state, report_copy, m, &err);

	if (r)
		log_warn("recovery: cannot look for removed files: %s", err.msg[0] ? err.msg : explain_errno(r));
}

static void say_recovered(const struct mount_recovered *rec, const char *dir)
{
	if (rec->spool.uploaded || rec->spool.parked || rec->spool.failed)
		fprintf(
		    stderr,
		    "lsvdfs: recovered from an earlier mount: %u files uploaded, %u parked, %u still to be sent%s%s\n",
		    rec->spool.uploaded, rec->spool.parked, rec->spool.failed,
		    rec->spool.parked ? "; see lsvdfs parked list " : "", rec->spool.parked ? dir : "");
	if (rec->strangers)
		fprintf(stderr,
			"lsvdfs: %u directories hold unsent data of this bucket under another spelling: see the log\n",
			rec->strangers);
}

static int recover(struct mount *m)
{
	_cleanup_free_ unsigned *v = NULL;
	size_t n = 0;
	int r = slot_list(m->opt.state_dir, m->identity, &v, &n);

	if (m->opt.read_only)
		return 0; /* nothing may be sent; it waits for a writable mount */
	for (size_t i = 0; !r && i < n; i++)
		if (v[i] != m->state.number)
			r = adopt_slot(m, v[i]);
	if (!r)
		r = spool_recover(m->spool, &m->recovered.spool, report_recovered, m);
	if (r)
		log_warn("recovery: %s", explain_errno(r));
	if (m->recovered.spool.failed)
		log_warn("recovery: %u files could not be sent and stay in %s", m->recovered.spool.failed,
			 m->spool_dir);
	recover_renames(m);
	recover_copies(m);
	r = slot_strangers(m->opt.state_dir, m->identity, report_stranger, m);
	if (r)
		log_warn("%s: %s", m->opt.state_dir, explain_errno(r));
	if (tell_terminal)
		say_recovered(&m->recovered, m->opt.dir);
	return 0;
}

/* --- the parts, in order ---------------------------------------------------------------------------------------- */

static int build_meta(struct mount *m, struct objerr *err)
{
	struct tree_opts to = {.store = m->store,
			       .prefix = m->url.prefix,
			       .db_path = m->db_path,
			       .def = m->opt.def,
			       .attr_timeout_ns = m->opt.attr_timeout_ns,
			       .budget = m->budget,
			       .read_only = m->opt.read_only};
	struct spool_opts so = {.dir = m->spool_dir,
				.store = m->store,
				.prefix = m->url.prefix,
				.budget = m->budget,
				.part_size = m->opt.part_size};
	int r = tree_open(&to, &m->tree, err);

	if (!r)
		r = spool_open(&so, &m->spool, err);
	if (!r)
		r = open_metaq(m, m->metaq_path, &m->metaq, err);
	if (!r)
		r = pool_new("lsvdfs-pool", POOL_THREADS, &m->pool);
	return r;
}

static int build_fsd(struct mount *m)
{
	struct fsd_opts fo = {.store = m->store,
			      .tree = m->tree,
			      .spool = m->spool,
			      .metaq = m->metaq,
			      .budget = m->budget,
			      .pool = m->pool,
			      .prefix = m->url.prefix,
			      .node_path = m->node_path,
			      .node_id = m->node_id,
			      .def = m->opt.def,
			      .attr_timeout_ns = m->opt.attr_timeout_ns,
			      .open_trust_ns = m->opt.open_trust_ns,
			      .excl = m->opt.excl,
			      .read_only = m->opt.read_only,
			      .async_close = m->opt.async_close,
			      .nolock_error = m->opt.nolock_error,
			      .debug = m->opt.log_level == LOG_L_DEBUG,
			      .part_size = m->opt.part_size,
			      .images = m->opt.images,
			      .image_dir = m->image_dir,
			      .host = m->host,
			      .fsync_remote = m->opt.fsync_remote,
			      .takeover = m->opt.takeover,
			      .claim_wait_ns = m->opt.claim_wait_ns,
			      .dirty_age_ns = m->opt.dirty_age_ns,
			      .retain_s = m->opt.retain_s,
			      .journal_size = m->opt.journal_size,
			      .block_path = m->block_path,
			      .cache_size = m->opt.cache_size};

	return fsd_new(&fo, &m->fsd);
}

/*
 * memory= counts bytes in use; without this glibc would keep several times as many. It raises the size from which a
 * buffer is a mapping of its own to that of the largest one freed, up to 32 MiB: part and window buffers would then lie
 * in the heaps of many threads, and what is freed there rarely goes back to the kernel. A fixed size stops the raising.
 */
static void return_freed_memory(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
#endif
}

static int build(struct mount *m, struct objerr *err)
{
	int r;

	return_freed_memory();
	r = take_slots(m, err);
	if (!r)
		r = budget_new(m->opt.memory, &m->budget);
	if (!r)
		r = open_store(m, err);
	if (!r)
		r = mount_reach(m->store, &m->opt, m->url.prefix, err);
	if (!r)
		r = probe(m, err);
	if (!r)
		r = build_meta(m, err);
	if (!r)
		r = recover(m);
	if (!r)
		r = build_fsd(m);
	if (!r)
		fsd_leftovers(m->fsd);
	if (r && !err->msg[0]) {
		errno = -r;
		objerr_set(err, "%s: %m", m->opt.source);
	}
	return r;
}

/* Reverse order of build(); parts that were not built are NULL. */
static void take_down(struct mount *m)
{
	struct fsd *f = m->fsd;

	control_stop(m->control);
	pool_free(m->pool); /* jobs that still run use fsd and reply through the session */
	if (f)
		fsd_end_images(f);
	if (m->se) {
		fuse_session_unmount(m->se);
		fuse_session_destroy(m->se);
	}
	if (f)
		fsd_stop(f);
	if (m->metaq)
		metaq_close(m->metaq);
	if (f)
		fsd_free(f);
	m->fsd = NULL;
	if (m->spool)
		spool_close(m->spool);
	tree_close(m->tree);
	obj_close(m->store);
	budget_free(m->budget);
}

/* After the signal thread, which names some of this in its messages. */
static void free_names(struct mount *m)
{
	mntpoint_done(&m->point);
	obj_url_free(&m->url);
	slot_release(&m->cache);
	slot_release(&m->state);
	free(m->spool_dir);
	free(m->metaq_path);
	free(m->node_path);
	free(m->node_id);
	free(m->db_path);
	free(m->block_path);
	free(m->caps_path);
	free(m->image_dir);
	free(m->host);
	free(m->identity);
	options_done(&m->opt);
}

/* --- the life --------------------------------------------------------------------------------------------------- */

static void prepare_process(struct mount *m)
{
	struct rlimit lim;

	umask(0); /* the kernel applies the callers' umask */
	if (!getrlimit(RLIMIT_NOFILE, &lim) && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &lim);
	}
	/*
	 * Writeback must not wait for us while we wait for writeback: without this, dirty mappings or a loop device on
	 * the mount can stop a daemon for good that is held in a memory cgroup (version 1) with them.
	 */
	m->no_io_flusher = prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0;
	(void)prctl(PR_SET_NAME, "lsvdfs"); /* whatever helper name we were called by */
	mount_block_signals();
}

int mount_run(struct options *take_opt, bool foreground)
{
	static struct mount m; /* one per process; the signal thread may outlive a frame */
	struct objerr err = {0};
	pthread_t sig;
	int r;

	m.opt = *take_opt;
	memset(take_opt, 0, sizeof(*take_opt));
	m.foreground = foreground;
	m.state.lock_fd = m.cache.lock_fd = -1;
	m.started_real_ns = clock_real_ns();
	mtx_init(&m.lock, RANK_MOUNT);
	tell_terminal = !foreground;
	log_setup(foreground ? LOG_TO_STDERR : LOG_TO_SYSLOG, m.opt.log_level);
	r = start_fork(foreground, &m.start);
	if (r) {
		log_error("cannot start: %s", explain_errno(r));
		options_done(&m.opt);
		return 1;
	}
	prepare_process(&m);
	r = -pthread_create(&sig, NULL, mount_signal_thread, &m);
	if (!r)
		r = build(&m, &err);
	if (!r)
		r = mount_serve(&m, &err);
	if (r)
		start_fail(&m.start, err.msg[0] ? err.msg : explain_errno(r));
	take_down(&m);
	m.ended = true;
	pthread_kill(sig, SIGUSR1);
	pthread_join(sig, NULL);
	free_names(&m);
	mtx_destroy(&m.lock);
	return r || m.failed ? 1 : 0;
}
