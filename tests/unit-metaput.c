/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-metaput.c - changes of headers and renames by every method: the memory store with capabilities taken away, and a
 * wrapper that ignores the conditions it is not said to honour, counts, and lets another node come in between.
 */
#include "config.h"
#include "meta-lib.h"

#include <pthread.h>
#include <unistd.h>

/* --- a store that is less able, and can be met by another node ------------------------------------------------ */

struct weak {
	struct objstore s;
	enum obj_op when; /* before the nth operation of this kind ... */
	int nth;
	void (*other)(struct objstore *inner); /* ... this happens on the store below */
	struct objreq *cur;
	void (*done)(struct objreq *req);
	void *priv;
	const char *if_match, *src_if_match;
	bool only_new, conditions;
};

static void weak_done(struct objreq *req)
{
	struct weak *w = req->priv;

	req->if_match = w->if_match;
	req->src_if_match = w->src_if_match;
	req->if_none_match_any = w->only_new;
	req->done = w->done;
	req->priv = w->priv;
	req->done(req);
}

static void weak_submit(struct objstore *s, struct objreq *req)
{
	struct weak *w = container_of(s, struct weak, s);
	unsigned caps = s->caps;

	if (req->op == w->when && w->nth > 0 && --w->nth == 0)
		w->other(s->inner);
	w->done = req->done;
	w->priv = req->priv;
	w->if_match = req->if_match;
	w->src_if_match = req->src_if_match;
	w->only_new = req->if_none_match_any;
	/* As RGW: what it does not know it ignores. */
	if (req->op == OBJ_COPY && !(caps & OBJ_CAP_COPY_DST)) {
		req->if_match = NULL;
		req->if_none_match_any = false;
	}
	if (!(caps & OBJ_CAP_COPY_SRC))
		req->src_if_match = NULL;
	if (req->op == OBJ_DELETE && !(caps & OBJ_CAP_DELETE_COND))
		req->if_match = NULL;
	if (req->op == OBJ_PUT && !(caps & OBJ_CAP_PUT_MATCH))
		req->if_match = NULL;
	req->done = weak_done;
	req->priv = w;
	obj_submit(s->inner, req);
}

static void weak_close(struct objstore *s)
{
	obj_close(s->inner);
	free(container_of(s, struct weak, s));
}

static const struct objstore_ops weak_ops = {.name = "weak", .submit = weak_submit, .close = weak_close};

#define CAPS_RGW (OBJ_CAP_PUT_NEW | OBJ_CAP_PUT_MATCH | OBJ_CAP_COPY | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY | \
		  OBJ_CAP_DELETE_MANY | OBJ_CAP_NESTED)
#define CAPS_SWIFT (OBJ_CAP_COPY | OBJ_CAP_COPY_SRC | OBJ_CAP_MULTIPART | OBJ_CAP_PART_COPY | OBJ_CAP_NESTED)

static struct weak *weak_new(unsigned caps)
{
	struct weak *w = calloc(1, sizeof(*w));
	struct objstore *mem;

	assert_non_null(w);
	assert_int_equal(store_mem_new(&mem), 0);
	w->s = (struct objstore){.ops = &weak_ops, .inner = mem, .stats = mem->stats};
	if (caps)
		mem->caps = caps;
	w->s.caps = (unsigned)mem->caps; /* obj_caps() asks the store at the bottom */
	w->s.part_min = mem->part_min;
	w->s.part_max_count = mem->part_max_count;
	w->s.put_max = mem->put_max;
	w->s.caps_known = true;
	return w;
}

static void setup(struct fixture *f, struct weak **w, unsigned caps)
{
	*f = (struct fixture){};
	*w = weak_new(caps);
	f->store = &(*w)->s;
	fixture_open(f, "", NULL);
}

static char *body_of(struct fixture *f, const char *key, struct obj_headers *ret_h)
{
	char *buf = calloc(1, 65536);
	struct objreq req;

	objreq_init(&req, OBJ_GET, key);
	req.buf = buf;
	req.cap = 65535;
	assert_int_equal(obj_do(f->store->inner, &req), 0);
	if (ret_h)
		assert_int_equal(obj_headers_copy(ret_h, &req.ret_headers), 0);
	objreq_done(&req);
	mark_requests(f);
	return buf;
}

#define assert_body(f, key, want)                       \
	do {                                            \
		char *got_ = body_of(f, key, NULL);     \
		assert_string_equal(got_, want);        \
		free(got_);                             \
	} while (0)

static bool key_exists(struct fixture *f, const char *key)
{
	struct objreq req;
	int r = obj_head(f->store->inner, key, &req);

	objreq_done(&req);
	mark_requests(f);
	return !r;
}

/* A published object that we have looked at, and headers that give it another mode. */
static void published(struct fixture *f, const char *key, const char *body, struct entry *e, struct obj_headers *h)
{
	struct obj_headers theirs = {};
	struct attr a;

	assert_int_equal(obj_headers_set(&theirs, "content-type", "text/html"), 0);
	assert_int_equal(obj_headers_set(&theirs, "cache-control", "max-age=60"), 0);
	assert_int_equal(obj_headers_set(&theirs, "x-amz-meta-custom", "kept"), 0);
	assert_int_equal(obj_put(f->store->inner, key, body, strlen(body), NULL, false, &theirs, NULL, NULL), 0);
	obj_headers_free(&theirs);
	test_advance_ms(5000);
	assert_int_equal(look(f, "", key, TREE_ATTRS | TREE_FRESH, e), 0);
	assert_int_equal(obj_headers_copy(h, &e->headers), 0);
	a = e->attr;
	a.mode = S_IFREG | 0600;
	a.mtime = (struct timespec){1234, 5};
	assert_int_equal(attr_to_headers(&a, h), 0);
	mark_requests(f);
}

static void check_published(struct fixture *f, const char *key, const char *body)
{
	struct obj_headers h = {};
	char *got = body_of(f, key, &h);

	assert_string_equal(got, body);
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-mode"), "33152");
	assert_string_equal(obj_headers_get(&h, "cache-control"), "max-age=60");
	assert_string_equal(obj_headers_get(&h, "content-type"), "text/html");
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-custom"), "kept");
	obj_headers_free(&h);
	free(got);
}

static const unsigned all_caps[] = {0, CAPS_RGW, CAPS_SWIFT, CAPS_RGW & ~(unsigned)OBJ_CAP_COPY};

static void test_headers_are_carried(void **state)
{
	static const int cost[] = {1, 2, 3, 2};

	for (unsigned i = 0; i < ARRAY_SIZE(all_caps); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v;
		struct entry e;

		setup(&f, &w, all_caps[i]);
		published(&f, "a", "body", &e, &h);
		assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, NULL, NULL), 0);
		assert_int_equal(all_requests(&f), cost[i]);
		entry_done(&e);
		/* The node knows what it has done. */
		mark_requests(&f);
		assert_int_equal(look(&f, "", "a", TREE_ATTRS, &e), 0);
		assert_requests(&f, 0, 0, 0);
		assert_int_equal(e.attr.mode, S_IFREG | 0600);
		assert_string_equal(e.v.etag, v.etag);
		entry_done(&e);
		check_published(&f, "a", "body");
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

static void other_bytes(struct objstore *s)
{
	assert_int_equal(obj_put(s, "a", "THEIR BYTES", 11, NULL, false, NULL, NULL, NULL), 0);
}

static void other_metadata(struct objstore *s)
{
	struct obj_headers h = {};
	struct objreq req, copy;
	char was[200];

	assert_int_equal(obj_head(s, "a", &req), 0);
	/* As another lsvdfs node: the store gives each copy a new etag, so it says whose bytes these are. */
	snprintf(was, sizeof(was), "%s %" PRIu64 " %s", req.etag, req.size, "99.000000000");
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-mtime", "99.000000000"), 0);
	assert_int_equal(obj_headers_set(&h, "x-amz-meta-lsvd-was", was), 0);
	objreq_init(&copy, OBJ_COPY, "a");
	copy.src_key = "a";
	copy.headers = &h;
	assert_int_equal(obj_do(s, &copy), 0);
	objreq_done(&copy);
	objreq_done(&req);
	obj_headers_free(&h);
}

static void test_other_bytes_are_not_touched(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(all_caps); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v, found = {};
		struct entry e;

		setup(&f, &w, all_caps[i]);
		published(&f, "a", "body", &e, &h);
		/* Before our first request: every method notices. */
		other_bytes(f.store->inner);
		assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, &found, NULL), -ESTALE);
		assert_int_equal(found.size, 11);
		assert_string_not_equal(found.etag, "");
		assert_body(&f, "a", "THEIR BYTES");
		/* Gone. */
		assert_int_equal(obj_delete(f.store->inner, "a", NULL, NULL), 0);
		assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, &found, NULL), -ENOENT);
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

/* Between GET and PUT of method (2), and before the copy of method (1). */
static void test_race_with_other_bytes(void **state)
{
	static const struct {
		unsigned caps;
		enum obj_op when;
	} t[] = {{0, OBJ_COPY}, {CAPS_RGW, OBJ_PUT}, {CAPS_SWIFT, OBJ_COPY}};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v, found = {};
		struct entry e;

		setup(&f, &w, t[i].caps);
		published(&f, "a", "body", &e, &h);
		w->when = t[i].when;
		w->nth = 1;
		w->other = other_bytes;
		assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, &found, NULL), -ESTALE);
		assert_int_equal(w->nth, 0);
		assert_body(&f, "a", "THEIR BYTES");
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

static void *tick(void *arg)
{
	_Atomic bool *stop = arg;

	while (!*stop) {
		test_advance_ms(100);
		usleep(1000);
	}
	return NULL;
}

static void test_race_with_other_metadata(void **state)
{
	static const struct {
		unsigned caps;
		enum obj_op when;
	} t[] = {{0, OBJ_COPY}, {CAPS_RGW, OBJ_PUT}, {CAPS_RGW, OBJ_GET}, {CAPS_SWIFT, OBJ_HEAD}, {CAPS_SWIFT, OBJ_COPY}};
	_Atomic bool stop;
	pthread_t thread;

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v;
		struct entry e;

		setup(&f, &w, t[i].caps);
		published(&f, "a", "body", &e, &h);
		w->when = t[i].when;
		w->nth = 1;
		w->other = other_metadata;
		/* Time goes on while the call waits to leave the second of what it met. */
		stop = false;
		assert_int_equal(pthread_create(&thread, NULL, tick, &stop), 0);
		assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, NULL, NULL), 0);
		stop = true;
		pthread_join(thread, NULL);
		assert_int_equal(w->nth, 0);
		check_published(&f, "a", "body");
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

static void test_was_tells_the_bytes(void **state)
{
	struct fixture f;
	struct weak *w;
	struct obj_headers h = {}, now = {};
	struct version v, v2;
	struct entry e;

	setup(&f, &w, 0);
	f.store->inner->put_max = 4; /* parts from here on */
	f.store->put_max = 4;
	f.store->part_min = f.store->inner->part_min = 1;
	published(&f, "a", "0123456789", &e, &h);
	/* The first change shows that etags move here, the second says so to others. */
	assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, NULL, NULL), 0);
	assert_int_equal(requests(&f, OBJ_MPU_COPY_PART), 3);
	assert_non_null(strchr(v.etag, '-'));
	test_advance_ms(5000);
	assert_int_equal(tree_put_headers(f.tree, "", "a", false, &v, &h, &v2, NULL, NULL), 0);
	free(body_of(&f, "a", &now));
	assert_non_null(obj_headers_get(&now, "x-amz-meta-lsvd-was"));
	assert_true(version_same_bytes(&v, &v2, &now));
	assert_false(version_same_bytes(&e.v, &v2, &now));
	/* Carried over to new bytes by a program that knows nothing of it, it proves nothing. */
	assert_int_equal(obj_headers_set(&now, "x-amz-meta-mtime", "77.000000000"), 0);
	assert_false(version_same_bytes(&v, &v2, &now));
	check_published(&f, "a", "0123456789");
	entry_done(&e);
	obj_headers_free(&h);
	obj_headers_free(&now);
	fixture_close(&f);
}

static void test_never_in_the_same_second(void **state)
{
	struct fixture f;
	struct weak *w;
	struct obj_headers h = {};
	struct version v, v2;
	struct entry e;
	_Atomic bool stop = false;
	pthread_t thread;

	setup(&f, &w, 0);
	published(&f, "a", "body", &e, &h);
	assert_int_equal(tree_put_headers(f.tree, "", "a", false, &e.v, &h, &v, NULL, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, tick, &stop), 0);
	assert_int_equal(tree_put_headers(f.tree, "", "a", false, &v, &h, &v2, NULL, NULL), 0);
	stop = true;
	pthread_join(thread, NULL);
	assert_true(v2.mtime_s > v.mtime_s);
	entry_done(&e);
	obj_headers_free(&h);
	fixture_close(&f);
}

static void test_directory_headers(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(all_caps); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct attr a = {.mode = S_IFDIR | 0711};
		struct version v, none = {};
		struct entry e;

		setup(&f, &w, all_caps[i]);
		put(&f, "d/x", "1", NULL);
		assert_int_equal(look(&f, "", "d", TREE_ATTRS, &e), 0);
		assert_string_equal(e.v.etag, "");
		entry_done(&e);
		assert_int_equal(tree_headers(&a, "d", true, &h), 0);
		mark_requests(&f);
		assert_int_equal(tree_put_headers(f.tree, "", "d", true, &none, &h, &v, NULL, NULL), 0);
		assert_requests(&f, 0, 0, 1);
		assert_int_equal(look(&f, "", "d", TREE_ATTRS, &e), 0);
		assert_requests(&f, 0, 0, 0);
		assert_int_equal(e.attr.mode, S_IFDIR | 0711);
		entry_done(&e);
		/* Another node's marker came first: the last one wins. */
		put(&f, "d/", "", "16877");
		test_advance_ms(3000);
		a.mode = S_IFDIR | 0700;
		assert_int_equal(tree_headers(&a, "d", true, &h), 0);
		assert_int_equal(tree_put_headers(f.tree, "", "d", true, &v, &h, &v, NULL, NULL), 0);
		assert_int_equal(look(&f, "", "d", TREE_ATTRS | TREE_FRESH, &e), 0);
		assert_int_equal(e.attr.mode, S_IFDIR | 0700);
		entry_done(&e);
		/* The root's own. */
		assert_int_equal(tree_put_headers(f.tree, "", "", true, &none, &h, &v, NULL, NULL), 0);
		assert_true(key_exists(&f, ".lsvd/root"));
		assert_int_equal(tree_lookup_dir(f.tree, "", TREE_ATTRS, &e, NULL), 0);
		assert_int_equal(e.attr.mode, S_IFDIR | 0700);
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

/* --- rename --------------------------------------------------------------------------------------------------- */

static void test_move(void **state)
{
	static const int cost[] = {2, 3, 3, 4};

	for (unsigned i = 0; i < ARRAY_SIZE(all_caps); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v;
		struct entry e, e2;

		setup(&f, &w, all_caps[i]);
		published(&f, "a", "body", &e, &h);
		assert_int_equal(tree_move(f.tree, "", "a", &e.v, "d/", "b", &h, false, 0, &v, NULL), 0);
		assert_int_equal(all_requests(&f), cost[i]);
		assert_false(key_exists(&f, "a"));
		check_published(&f, "d/b", "body");
		/* Known at once: there, not here, with its number. */
		assert_int_equal(look(&f, "d/", "b", TREE_ATTRS, &e2), 0);
		assert_requests(&f, 0, 0, 0);
		assert_int_equal(e2.ino, e.ino);
		assert_int_equal(e2.attr.mode, S_IFREG | 0600);
		assert_string_equal(e2.v.etag, v.etag);
		entry_done(&e2);
		assert_int_equal(look(&f, "", "a", 0, NULL), -ENOENT);
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

static void test_move_over_and_noreplace(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(all_caps); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v;
		struct entry e;

		setup(&f, &w, all_caps[i]);
		put(&f, "b", "old", NULL);
		published(&f, "a", "body", &e, &h);
		assert_int_equal(tree_move(f.tree, "", "a", &e.v, "", "b", NULL, true, 0, &v, NULL), -EEXIST);
		assert_body(&f, "a", "body");
		assert_body(&f, "b", "old");
		assert_int_equal(tree_move(f.tree, "", "a", &e.v, "", "c", NULL, true, 0, &v, NULL), 0);
		assert_body(&f, "c", "body");
		assert_false(key_exists(&f, "a"));
		assert_int_equal(tree_move(f.tree, "", "c", &v, "", "b", NULL, false, 0, &v, NULL), 0);
		assert_body(&f, "b", "body");
		assert_false(key_exists(&f, "c"));
		assert_int_equal(tree_move(f.tree, "", "b", &v, "", ".lsvd", NULL, false, 0, &v, NULL), -EPERM);
		assert_int_equal(tree_move(f.tree, "", "b", &v, "", "b", NULL, false, 0, &v, NULL), 0);
		assert_body(&f, "b", "body");
		assert_int_equal(obj_delete(f.store->inner, "b", NULL, NULL), 0);
		assert_int_equal(tree_move(f.tree, "", "b", &v, "", "z", NULL, false, 0, &v, NULL), -ENOENT);
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

/* Another node's new bytes go along; what was not copied is never deleted. */
static void test_move_of_a_changing_source(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(all_caps); i++) {
		for (unsigned k = 0; k < 4; k++) { /* & 1: in the deletion; & 2: a chmod goes along */
			struct fixture f;
			struct weak *w;
			struct obj_headers h = {};
			struct version v;
			struct entry e;

			setup(&f, &w, all_caps[i]);
			published(&f, "a", "body", &e, &h);
			w->when = k & 1 ? OBJ_DELETE : (all_caps[i] && !(all_caps[i] & OBJ_CAP_COPY)) ? OBJ_PUT : OBJ_COPY;
			w->nth = 1;
			w->other = other_bytes;
			/* Where DELETE takes no condition its window is the one that is told. */
			if (!(k & 1) || !all_caps[i]) {
				struct entry moved;

				assert_int_equal(tree_move(f.tree, "", "a", &e.v, "", "b", k & 2 ? &h : NULL, false, 0, &v, NULL), 0);
				assert_int_equal(e.v.size, strlen("THEIR BYTES")); /* the one that was moved */
				assert_body(&f, "b", "THEIR BYTES");
				assert_false(key_exists(&f, "a"));
				/* The chmod is for whatever bytes; old times on new ones would fool make. */
				assert_int_equal(look(&f, "", "b", TREE_ATTRS | TREE_FRESH, &moved), 0);
				assert_int_equal(moved.attr.mode & 07777, k & 2 ? 0600 : 0644);
				assert_int_not_equal(moved.attr.mtime.tv_sec, 1234);
				entry_done(&moved);
			}
			entry_done(&e);
			obj_headers_free(&h);
			fixture_close(&f);
		}
	}
}

static struct weak *restless_store;

static void other_bytes_again(struct objstore *s)
{
	other_bytes(s);
	restless_store->nth = 1;
}

static void test_move_gives_up(void **state)
{
	struct fixture f;
	struct weak *w;
	struct obj_headers h = {};
	struct version v;
	struct entry e;

	setup(&f, &w, 0);
	published(&f, "a", "body", &e, &h);
	restless_store = w;
	w->when = OBJ_COPY;
	w->nth = 1;
	w->other = other_bytes_again;
	assert_int_equal(tree_move(f.tree, "", "a", &e.v, "", "b", NULL, false, 0, &v, NULL), -EBUSY);
	assert_int_equal(requests(&f, OBJ_COPY), 4);
	assert_int_equal(requests(&f, OBJ_DELETE), 0);
	assert_body(&f, "a", "THEIR BYTES");
	entry_done(&e);
	obj_headers_free(&h);
	fixture_close(&f);
}

static void test_move_guesses_the_type_again(void **state)
{
	struct fixture f;
	struct weak *w;
	struct obj_headers h = {};
	struct version v;
	struct entry e;

	setup(&f, &w, 0);
	create(&f, "", "x.txt", "1");
	assert_int_equal(look(&f, "", "x.txt", TREE_ATTRS, &e), 0);
	mark_requests(&f);
	assert_int_equal(tree_move(f.tree, "", "x.txt", &e.v, "", "x.html", NULL, false, 0, &v, NULL), 0);
	assert_int_equal(all_requests(&f), 2);
	free(body_of(&f, "x.html", &h));
	assert_string_equal(obj_headers_get(&h, "content-type"), "text/html");
	assert_string_equal(obj_headers_get(&h, "x-amz-meta-uid"), "7");
	entry_done(&e);
	obj_headers_free(&h);
	/* One that was not guessed stays. */
	published(&f, "y.txt", "1", &e, &h);
	assert_int_equal(tree_move(f.tree, "", "y.txt", &e.v, "", "y.png", NULL, false, 0, &v, NULL), 0);
	free(body_of(&f, "y.png", &h));
	assert_string_equal(obj_headers_get(&h, "content-type"), "text/html");
	entry_done(&e);
	obj_headers_free(&h);
	fixture_close(&f);
}

static void test_move_in_parts(void **state)
{
	static const unsigned caps[] = {0, CAPS_RGW};

	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++) {
		struct fixture f;
		struct weak *w;
		struct obj_headers h = {};
		struct version v;
		struct entry e;

		setup(&f, &w, caps[i]);
		f.store->put_max = 3;
		f.store->part_min = f.store->inner->part_min = 1;
		put(&f, "c", "old", NULL);
		published(&f, "a", "0123456789abcdefghijklmnopqrstuvwxyz", &e, &h);
		assert_int_equal(tree_move(f.tree, "", "a", &e.v, "", "c", &h, true, 0, &v, NULL), -EEXIST);
		assert_body(&f, "c", "old");
		assert_int_equal(tree_move(f.tree, "", "a", &e.v, "", "b", NULL, true, 0, &v, NULL), 0);
		assert_int_equal(v.size, 36);
		assert_body(&f, "b", "0123456789abcdefghijklmnopqrstuvwxyz");
		assert_false(key_exists(&f, "a"));
		free(body_of(&f, "b", &h));
		assert_string_equal(obj_headers_get(&h, "cache-control"), "max-age=60");
		/* No upload is left behind. */
		struct objreq req;

		objreq_init(&req, OBJ_MPU_LIST, "");
		assert_int_equal(obj_do(f.store->inner, &req), 0);
		assert_int_equal(req.listing->n, 0);
		objreq_done(&req);
		entry_done(&e);
		obj_headers_free(&h);
		fixture_close(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers_are_carried),
		cmocka_unit_test(test_other_bytes_are_not_touched),
		cmocka_unit_test(test_race_with_other_bytes),
		cmocka_unit_test(test_was_tells_the_bytes),
		cmocka_unit_test(test_never_in_the_same_second),
		cmocka_unit_test(test_directory_headers),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_move_over_and_noreplace),
		cmocka_unit_test(test_move_of_a_changing_source),
		cmocka_unit_test(test_move_gives_up),
		cmocka_unit_test(test_move_guesses_the_type_again),
		cmocka_unit_test(test_move_in_parts),
		cmocka_unit_test(test_race_with_other_metadata),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
