/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * volattach.c - from log and journal to a map, and from follower to owner.
 *
 *	open	attach: the walk fills the map. Nothing is claimed
 *	own	follow to the tail; who owns it? our journal's nonces -> replay what the log does not have yet; else
 *	set the journal aside
 *		nonce to the journal (durable), claim, then writes go on
 * The journal replays iff the newest claim of the walk is one of its nonces (PROTOCOL.md 3.5).
 */
#include "config.h"
#include "volume-private.h"
#include "../../objstore/base/clock.h"
#include "../../objstore/base/str.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int vol_append_u64(uint64_t **v, size_t *n, size_t *cap, uint64_t x)
{
	if (*n == *cap) {
		size_t c = *cap * 2 + 16;
		uint64_t *p = reallocarray(*v, c, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		*v = p;
		*cap = c;
	}
	(*v)[(*n)++] = x;
	return 0;
}

static void drop_effects(struct volume *v)
{
	for (size_t i = 0; i < v->neffects; i++)
		free(v->effect[i].v);
	v->neffects = 0;
}

void vol_forget_log(struct volume *v)
{
	drop_effects(v);
	free(v->ck.digests);
	free(v->ck.claims);
	free(v->ck.snaps);
	memset(&v->ck, 0, sizeof(v->ck));
	v->capdigests = v->capclaims = v->capsnaps = 0;
	v->digest_end = 0;
}

int vol_add_effect(struct volume *v, const struct log_effect *e)
{
	struct log_effect c = *e;

	if (v->neffects == v->capeffects) {
		size_t cap = v->capeffects * 2 + VOL_DIGEST_EVERY;
		struct log_effect *p = reallocarray(v->effect, cap, sizeof(*p));

		if (p == NULL)
			return -ENOMEM;
		v->effect = p;
		v->capeffects = cap;
	}
	c.v = malloc((e->n + 1) * sizeof(*c.v));
	if (c.v == NULL)
		return -ENOMEM;
	if (e->n > 0)
		memcpy(c.v, e->v, e->n * sizeof(*c.v));
	v->effect[v->neffects++] = c;
	return 0;
}

static void *dup_array(const void *p, size_t n)
{
	void *d = malloc(n + 1);

	if (d != NULL && n > 0)
		memcpy(d, p, n);
	return d;
}

static int on_begin(void *arg, const struct logobj *o, const struct log_checkpoint *c)
{
	struct volume *v = arg;

	vol_forget_log(v);
	map_reset(v->map, c, c != NULL ? c->size : o->size);
	map_own_from(v->map, log_first(v->log));
	v->walk_size = c != NULL ? c->size : o->size;
	v->digest_end = c != NULL && c->tree_covers != 0 ? c->tree_covers : o->number;
	v->table_known = v->rolled_back = false;
	v->begun_at = o->number;
	v->last_checkpoint = c != NULL ? o->number : 0;
	vol_see_floor(v, o);
	if (c == NULL) {
		v->ck.first = o->number;
		return 0;
	}
	v->ck = *c;
	v->ck.digests = dup_array(c->digests, c->ndigests * sizeof(*c->digests));
	v->ck.claims = dup_array(c->claims, c->nclaims * sizeof(*c->claims));
	v->ck.snaps = dup_array(c->snaps, c->nsnaps * sizeof(*c->snaps));
	if (v->ck.digests == NULL || v->ck.claims == NULL || v->ck.snaps == NULL)
		return -ENOMEM;
	v->capdigests = c->ndigests;
	v->capclaims = c->nclaims;
	v->capsnaps = c->nsnaps;
	return 0;
}

static int on_digest(void *arg, const struct logobj *o)
{
	const struct log_digest *d = o->digest;
	struct volume *v = arg;
	int r = 0;

	for (size_t i = 0; i < d->n && r == 0; i++)
		r = map_apply(v->map, &d->v[i], 0);
	v->digest_end = d->end;
	v->rolled_back = v->rolled_back || o->type == LOG_ROLLBACK;
	if (r == 0 && o->type == LOG_ROLLBACK && RULE(T16_DEATHS))
		map_rolled_back(v->map, o->number);
	return r;
}

static int on_object(void *arg, const struct logobj *o)
{
	struct volume *v = arg;
	struct log_effect e = {
	    .number = o->number, .size = o->size, .type = o->type, .n = o->nextents, .v = o->extents};
	struct page_object p = {.number = o->number, .type = o->type, .sectors = o->content_sectors};
	int r = 0;

	e.first = (o->header_bytes + LOG_BLOCK - 1) / LOG_BLOCK * (LOG_BLOCK / SECTOR);
	if (o->type == LOG_DATA || o->type == LOG_CLEANER || o->type == LOG_RESIZE) {
		r = map_apply(v->map, &e, o->content_sectors);
		if (r == 0)
			r = vol_add_effect(v, &e);
		v->walk_size = o->size;
	} else if (o->type != LOG_CREATE) {
		/* Nothing in a map refers to a record; a page lives until a newer tree is named. */
		p.death = o->type == LOG_CLAIM || o->type == LOG_MAP ? 0 : o->number + 2;
		r = map_note_object(v->map, &p);
	}
	/* A walk over what a lost digest repeated passes claims that the checkpoint lists. */
	if (r == 0 && o->type == LOG_CLAIM && (v->ck.nclaims == 0 || v->ck.claims[v->ck.nclaims - 1] < o->number))
		r = vol_append_u64(&v->ck.claims, &v->ck.nclaims, &v->capclaims, o->number);
	if (o->checkpoint != NULL)
		vol_see_floor(v, o);
	return r == 0 ? vol_see_snapshot(v, o) : r;
}

/* Of a volume that is there for its list: no map. */
static int on_object_snap(void *arg, const struct logobj *o)
{
	return vol_see_snapshot(arg, o);
}

const struct log_walker vol_walker = {on_begin, on_digest, on_object, NULL};
static const struct log_walker list_walker = {on_begin, NULL, on_object_snap, NULL};

void vol_walked(struct volume *v)
{
	mtx_lock(&v->batch);
	v->size = v->walk_size;
	/* Digests that were not read: the walk found what they say, and the next one will say it. */
	while (v->env.from_base && v->ck.ndigests > 0 && v->ck.digests[v->ck.ndigests - 1] > v->digest_end)
		v->ck.ndigests--;
	mtx_unlock(&v->batch);
}

/* ---- the map is made anew ---- */

/* Readers leave, and wait until remap_end(): what they would see is half a map. */
static void remap_begin(struct volume *v)
{
	mtx_lock(&v->lock);
	v->remapping = true;
	v->waited_for++;
	while (v->readers[0] + v->readers[1] > 0)
		cond_wait(&v->changed, &v->lock);
	v->waited_for--;
	v->mapped = false;
	mtx_unlock(&v->lock);
}

static void remap_end(struct volume *v, bool whole)
{
	if (whole)
		vol_walked(v);
	mtx_lock(&v->lock);
	v->remapping = false;
	v->mapped = whole;
	v->remapped++;
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
}

int vol_attach(struct volume *v, const struct log_walker *w, bool follower, struct objerr *err)
{
	if (v->snapshot != 0)
		return log_attach_snapshot(v->log, v->snapshot, w, err);
	if (v->position != 0)
		return log_attach_position(v->log, v->position, w, err);
	return log_attach(v->log, w, follower, err);
}

/* To the end of the log; from where the last walk ended, if nobody wrote here since. `claiming` is ours. */
static int catch_up(struct volume *v, bool follower, bool anew, struct objerr *err)
{
	struct log_walker w = v->list_only ? list_walker : vol_walker;
	bool fixed = v->snapshot != 0 || v->position != 0, on = v->mapped && !v->owned && !anew;
	int r = -EAGAIN;

	w.arg = v;
	remap_begin(v);
	if (fixed)
		r = vol_attach(v, &w, follower, err);
	else if (on)
		r = log_follow(v->log, &w, follower, err);
	if (r < 0 && r != -ESHUTDOWN && !fixed) {
		r = vol_attach(v, &w, follower, err);
		v->owned = v->owned && r < 0;
	}
	remap_end(v, r == 0);
	return r;
}

/* From here on the map may be half made: vol_stat() tells what it said before. */
static void claiming_locked(struct volume *v)
{
	struct map_stat st;

	map_stat(v->map, &st);
	v->allocated = st.allocated;
	v->claiming = true;
}

int vol_hold_follower(struct volume *v)
{
	int r = 0;

	mtx_lock(&v->lock);
	while (v->claiming || v->state == VOL_RELEASING)
		cond_wait(&v->changed, &v->lock);
	if (v->state != VOL_FOLLOWER)
		r = v->state == VOL_OWNER ? 1 : -EIO;
	else
		claiming_locked(v);
	mtx_unlock(&v->lock);
	return r;
}

void vol_let_follower(struct volume *v)
{
	mtx_lock(&v->lock);
	v->claiming = false;
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
}

int vol_attach_again(struct volume *v, uint64_t remapped)
{
	struct objerr err = {0};
	bool done;
	int held = vol_hold_follower(v), r = 0;

	mtx_lock(&v->lock);
	done = v->remapped != remapped; /* by another one, who waited for the same */
	mtx_unlock(&v->lock);
	if (held == 0 && !done)
		r = catch_up(v, true, true, &err);
	else if (!done)
		r = -EIO; /* an owner's map has nothing that may be missing */
	if (r < 0 && held == 0)
		vol_note(v, "%s", err.msg);
	if (held == 0)
		vol_let_follower(v);
	return r;
}

int vol_refresh(struct volume *v)
{
	struct objerr err = {0};
	int r;

	if (v->snapshot != 0 || v->position != 0 || vol_hold_follower(v) != 0)
		return 0;
	r = catch_up(v, true, false, &err);
	if (r < 0)
		vol_note(v, "%s", err.msg);
	vol_let_follower(v);
	return r;
}

/* An owner's image is damaged: no more writes. A follower's view may only be old. */
static void damaged_page(struct volume *v, const struct log_pageref *need, int r, struct objerr *err)
{
	bool owner;

	if (r == -ENOENT)
		objerr_set(err, "log object %016" PRIx64 " is missing: it holds a page of the map", need->number);
	mtx_lock(&v->lock);
	owner = v->state == VOL_OWNER || v->state == VOL_RELEASING;
	mtx_unlock(&v->lock);
	if (owner)
		vol_fail(v, VOL_FAILED, "%s", err->msg);
	else
		vol_note(v, "%s", err->msg);
}

int vol_fetch_page(struct volume *v, const struct log_pageref *need)
{
	uint32_t sectors = (need->bytes + SECTOR - 1) / SECTOR;
	_cleanup_free_ void *buf = malloc((size_t)sectors * SECTOR);
	struct fetch_piece p = {need->number, need->sector, sectors, buf};
	struct objerr err = {0};
	uint64_t first, end;
	int r;

	if (buf == NULL)
		return -ENOMEM;
	r = vol_read_log(v, &p, 1, &err);
	if (r == 0)
		r = map_add_page(v->map, need, buf, (size_t)sectors * SECTOR, &err);
	if ((r == -EUCLEAN || r == -ENOENT) && v->env.lose_pages)
		return map_lose_page(v->map, need, &first, &end);
	if (r == -EUCLEAN || r == -ENOENT)
		damaged_page(v, need, r, &err);
	return r;
}

/* ---- owner ---- */

struct replay {
	struct volume *v;
	uint64_t from; /* records up to it are in the log */
	bool apply;
};

static int on_record(void *arg, const struct jrecord *rec)
{
	struct replay *p = arg;
	int r;

	if (!p->apply || rec->seq <= p->from || rec->type == J_COMMITTED)
		return 0;
	mtx_lock(&p->v->batch);
	r = vol_take_record_locked(p->v, rec->type, rec->seq, rec->off, rec->len, rec->where);
	mtx_unlock(&p->v->batch);
	return r;
}

static int open_dir(struct volume *v)
{
	_cleanup_free_ char *path = NULL;
	struct str s = {0};
	char uuid[33];
	int r;

	if (v->env.disk != NULL || v->dirfd >= 0)
		return 0;
	log_uuid_format(v->uuid, uuid);
	str_addf(&s, "%s/%s", v->env.state_dir, uuid);
	r = str_take(&s, &path);
	if (r < 0)
		return r;
	if ((mkdir(v->env.state_dir, 0700) < 0 && errno != EEXIST) || (mkdir(path, 0700) < 0 && errno != EEXIST))
		return -errno;
	v->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return v->dirfd < 0 ? -errno : 0;
}

/* A claim that failed without words of its own: `local` by what lies here, else by the store. */
static int claim_failed(const struct volume *v, int r, bool local, struct objerr *err)
{
	if (r < 0 && err->msg[0] == '\0' && local && v->env.disk == NULL)
		objerr_set(err, "%s: %s", v->env.state_dir, strerror(-r));
	else if (r < 0 && r != -EBUSY && err->msg[0] == '\0')
		objerr_set(err, "the image cannot be claimed: %s", strerror(-r));
	return r;
}

static int journal_read_in(struct volume *v, struct replay *p, struct objerr *err)
{
	uint64_t limit = v->env.journal_bytes != 0 ? v->env.journal_bytes : 1 * GiB;
	uint64_t segment = v->env.segment_bytes != 0 ? v->env.segment_bytes : 16 * MiB;

	return journal_open(v->dirfd, v->uuid, limit, segment, v->env.disk, on_record, p, &v->journal, err);
}

static int journal_make(struct volume *v, bool apply, uint64_t from, struct objerr *err)
{
	struct replay p = {.v = v, .from = from, .apply = apply};

	return journal_read_in(v, &p, err);
}

/* One that the image has outlived. What is known to be in the image needs no room: *ret_name is NULL then. */
static int set_aside(struct volume *v, char **ret_name)
{
	uint64_t sent;
	bool unsent = journal_has_unsent(v->journal, &sent);

	journal_close(v->journal);
	v->journal = NULL;
	return unsent ? journal_set_aside(v->dirfd, v->env.disk, ret_name) : journal_discard(v->dirfd, v->env.disk);
}

/* Opens the journal, or sets it aside if the image went on without it. ret_jseq: what of it the log has. */
static int open_journal(struct volume *v, uint64_t *ret_jseq, struct objerr *err)
{
	_cleanup_free_ char *aside = NULL;
	struct log_view view;
	bool ours;
	int r = open_dir(v);

	if (r == 0 && v->journal == NULL)
		r = journal_make(v, false, 0, err);
	if (r < 0)
		return r;
	log_view(v->log, &view);
	ours = view.claim == 0 || journal_knows_nonce(v->journal, &view.nonce);
	if (RULE(E_BACK) && ours && journal_committed(v->journal) >= view.tail) {
		objerr_set(err,
			   "the bucket has gone back in time: the journal knows log object %016" PRIx64
			   " as committed, the log ends at %016" PRIx64,
			   journal_committed(v->journal), view.tail);
		return -EUCLEAN;
	}
	if (RULE(E_BACK) && ours && journal_before(v->journal) > view.jseq) {
		objerr_set(err, "the journal begins behind record %" PRIu64 ", the log ends with %" PRIu64,
			   journal_before(v->journal), view.jseq);
		return -EUCLEAN;
	}
	*ret_jseq = ours ? view.jseq : 0;
	if (ours || !RULE(T8_NONCE))
		return 0;
	r = set_aside(v, &aside);
	return r < 0 ? r : journal_make(v, false, 0, err);
}

/* Takes from the journal what the log does not have: after the claim, whose walks begin the map anew. */
static int replay_journal(struct volume *v, uint64_t jseq, struct objerr *err)
{
	struct log_view view;
	int r = 0;

	journal_close(v->journal);
	v->journal = NULL;
	v->jseq = v->sealed_jseq = v->trimmed_jseq = v->trim_jseq = jseq;
	v->sealed_size = v->size;
	v->mark_wanted = v->retire_below = v->written = 0;
	v->checkpoint_soon = false;
	v->tree = TREE_NONE;
	v->tree_after = v->active_at = 0;
	v->idle_rounds = 0;
	v->guest_at = v->clean_after = 0;
	v->clean_look = v->clean_idle = v->table_wanted = false;
	v->nskip = 0;
	memset(v->looked, 0, sizeof(v->looked));
	v->deletes_due = false;
	v->marks_due = true;
	log_view(v->log, &view);
	v->first_own = view.tail;
	vol_point_free(&v->newest);
	vol_point_free(&v->before);
	vol_point_free(&v->coming);
	/* What it attached from: unless the walk took over another checkpoint's lists since, then the first own one. */
	if (v->begun_at == view.checkpoint && v->last_checkpoint != 0)
		r = vol_point_of(&v->newest, view.checkpoint, &v->ck);
	if (r < 0)
		return r;
	vol_begin_retaining(v);
	v->nclosed = v->closed_at = 0;
	v->dirty_since = 0;
	r = journal_make(v, true, jseq, err);
	if (r == 0)
		r = journal_begin(v->journal, jseq);
	/* What the log has needs no room here: a journal that was full when the daemon died has some again. */
	return r < 0 ? r : journal_trim(v->journal, 0, jseq, false);
}

static int claim_once(struct volume *v, struct objerr *err)
{
	struct log_walker w = vol_walker;
	struct log_nonce nonce;
	struct log_view view;
	uint64_t jseq = 0;
	int r = open_journal(v, &jseq, err);

	if (r < 0)
		return claim_failed(v, r, true, err);
	w.arg = v;
	base_random(nonce.b, sizeof(nonce.b));
	log_view(v->log, &view);
	if (!RULE(T6_CLAIM) && !view.released && journal_knows_nonce(v->journal, &view.nonce))
		nonce = view.nonce;
	r = RULE(T7_INTENT) ? journal_note_nonce(v->journal, &nonce, &view.nonce) : 0;
	if (r < 0)
		return claim_failed(v, r, true, err);
	remap_begin(v);
	r = claim_failed(v, log_claim(v->log, &nonce, jseq, &w, err), false, err);
	if (r == 0 && !RULE(T7_INTENT))
		r = journal_note_nonce(v->journal, &nonce, &view.nonce);
	if (r == 0) {
		vol_walked(v);
		r = claim_failed(v, replay_journal(v, jseq, err), true, err);
		v->walk_size = v->size;
	}
	remap_end(v, r == 0);
	if (r == 0)
		journal_set_nonce(v->journal, &nonce);
	return r;
}

/* May we take it over? The holder, if somebody holds it. */
static int policy(struct volume *v, struct objerr *err)
{
	struct log_view view;

	log_view(v->log, &view);
	if (view.claim == 0 || v->env.takeover == VOL_TAKEOVER_ALWAYS ||
	    (view.released && v->env.takeover != VOL_TAKEOVER_NEVER) ||
	    (v->journal != NULL && journal_knows_nonce(v->journal, &view.nonce)))
		return 0;
	objerr_set(err, "the image %s by %s (claim %016" PRIx64 ", epoch %" PRIu64 ")",
		   view.released ? "was last written" : "is held", view.host, view.claim, view.epoch);
	return -EBUSY;
}

/*
 * Claims; waits for a release for a while. The caller made sure that nobody else does. Who has just attached need not
 * walk once more: where somebody came meanwhile the claim's number is taken.
 */
static int claim(struct volume *v, struct objerr *err)
{
	int64_t until = clock_now_ns() + v->env.claim_wait_ns;
	bool fresh = v->mapped && !v->owned && log_fresh(v->log);
	int r;

	for (;;) {
		bool between = false; /* somebody came: think again */

		r = fresh ? 0 : catch_up(v, false, false, err);
		if (r == 0 && v->journal == NULL) {
			r = open_dir(v);
			if (r == 0)
				r = journal_make(v, false, 0, err);
			claim_failed(v, r, true, err);
		}
		r = r == -EBUSY ? -EIO : r == 0 ? policy(v, err) : r;
		if (r == 0) {
			r = claim_once(v, err);
			between = r == -EBUSY;
		}
		between = between || fresh;
		fresh = false;
		if (r != -EBUSY ||
		    (!between && (clock_now_ns() >= until || v->env.takeover == VOL_TAKEOVER_NEVER)))
			return r;
		if (!between)
			clock_sleep_ns(200 * NSEC_PER_MSEC);
	}
}

int vol_own(struct volume *v)
{
	struct objerr err = {0};
	int r = 0;

	mtx_lock(&v->lock);
	while (v->claiming || v->state == VOL_RELEASING)
		cond_wait(&v->changed, &v->lock);
	if (v->state == VOL_FENCED || v->state == VOL_FAILED)
		r = -EIO;
	else if (v->env.read_only)
		r = -EROFS;
	else if (v->state == VOL_FOLLOWER)
		claiming_locked(v);
	if (!v->claiming || r < 0) {
		mtx_unlock(&v->lock);
		return r;
	}
	mtx_unlock(&v->lock);
	log_watch(v->log, vol_on_committed, vol_on_fenced, v);
	r = claim(v, &err);
	if (r == 0)
		vol_start_uploader(v);
	mtx_lock(&v->lock);
	v->claiming = false;
	v->owned = v->owned || r == 0;
	if (r == 0 && v->state == VOL_FOLLOWER)
		v->state = VOL_OWNER;
	else
		(void)snprintf(v->why, sizeof(v->why), "%s", err.msg);
	cond_broadcast(&v->changed);
	mtx_unlock(&v->lock);
	return r;
}

/* ---- what a dead process left, and the end of an image ---- */

/* 1: our claim is the newest and not released, and the journal has what the log may not have. */
static int look_at_journal(struct volume *v, struct objerr *err)
{
	_cleanup_free_ char *aside = NULL;
	struct replay p = {.v = v};
	struct log_view view;
	int r = open_dir(v);

	if (r == 0 && v->journal == NULL)
		r = journal_read_in(v, &p, err);
	if (r < 0)
		return r;
	log_view(v->log, &view);
	if (view.claim != 0 && journal_knows_nonce(v->journal, &view.nonce))
		return view.released ? 0 : 1;
	r = set_aside(v, &aside);
	if (r < 0 || aside == NULL)
		return r;
	objerr_set(err, "the image was taken over by %s; what had not been sent was set aside as %s (lsvdfs image journal)",
		   view.host, aside);
	return -ESTALE;
}

int vol_recover_here(struct volume *v, struct objerr *err)
{
	int r;

	if (vol_hold_follower(v) != 0)
		return 0;
	r = look_at_journal(v, err);
	vol_let_follower(v);
	if (r <= 0)
		return r;
	r = vol_own(v);
	if (r < 0) {
		mtx_lock(&v->lock);
		objerr_set(err, "%s", v->why);
		mtx_unlock(&v->lock);
		return r;
	}
	return 1;
}

int vol_recover(struct volume *v, struct objerr *err)
{
	int r = vol_recover_here(v, err);

	return r > 0 ? vol_let_go(v) : r;
}

int vol_doom(struct volume *v, struct vol_remains *ret)
{
	uint64_t *claims;
	char *ref = NULL;
	int r = vol_own(v);

	if (r == 0)
		r = log_own_ref(v->log, &ref);
	if (r < 0)
		return r;
	mtx_lock(&v->batch);
	claims = calloc(v->ck.nclaims + 1, sizeof(*claims));
	if (claims != NULL && v->ck.nclaims > 0)
		memcpy(claims, v->ck.claims, v->ck.nclaims * sizeof(*claims));
	*ret = (struct vol_remains){v->first_own, claims, v->ck.nclaims, ref};
	mtx_unlock(&v->batch);
	vol_fail(v, VOL_FAILED, "the image is being deleted");
	return claims != NULL ? 0 : -ENOMEM;
}
