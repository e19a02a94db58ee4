/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-treemodel.c - several threads of this node and another node at work on one bucket whose answers come late and out
 * of order.
 *
 * Each thread owns some names: what it has done to them it must see at once, whatever answers to older questions arrive
 * meanwhile. The other node owns other names. When all is quiet and attr_timeout has passed, every lookup and every
 * listing must equal the bucket.
 */
#include "config.h"
#include "meta-lib.h"

#include "objstore/base/lock.h"
#include "objstore/base/table.h"
#include <pthread.h>
#include <unistd.h>

#define THREADS 4
#define NAMES 24
#define STEPS 400

/* --- a store whose answers come late -------------------------------------------------------------------------- */

struct late {
	struct objstore s;
	pthread_t thread[3];
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct late_req *head;
	bool stop;
	unsigned seed;
};

struct late_req {
	struct late_req *next;
	struct objreq *req;
	unsigned before_us, after_us;
};

static void late_submit(struct objstore *s, struct objreq *req)
{
	struct late *l = container_of(s, struct late, s);
	struct late_req *r = calloc(1, sizeof(*r));

	r->req = req;
	pthread_mutex_lock(&l->lock);
	r->before_us = (unsigned)rand_r(&l->seed) % 300;
	r->after_us = (unsigned)rand_r(&l->seed) % 300;
	/* At a random place: the order of questions means nothing. */
	if (l->head && rand_r(&l->seed) % 2) {
		r->next = l->head->next;
		l->head->next = r;
	} else {
		r->next = l->head;
		l->head = r;
	}
	pthread_cond_signal(&l->more);
	pthread_mutex_unlock(&l->lock);
}

struct inner_req {
	void (*done)(struct objreq *req);
	void *priv;
	unsigned after_us;
};

static void inner_done(struct objreq *req)
{
	struct inner_req *i = req->priv;
	struct inner_req copy = *i;

	usleep(copy.after_us);
	req->done = copy.done;
	req->priv = copy.priv;
	req->done(req);
}

static void *late_worker(void *arg)
{
	struct late *l = arg;

	for (;;) {
		struct late_req *r;
		struct inner_req i;

		pthread_mutex_lock(&l->lock);
		while (!l->head && !l->stop)
			pthread_cond_wait(&l->more, &l->lock);
		r = l->head;
		if (r)
			l->head = r->next;
		pthread_mutex_unlock(&l->lock);
		if (!r)
			return NULL;
		usleep(r->before_us);
		i = (struct inner_req){r->req->done, r->req->priv, r->after_us};
		r->req->done = inner_done;
		r->req->priv = &i;
		obj_submit(l->s.inner, r->req);
		free(r);
	}
}

static void late_close(struct objstore *s)
{
	struct late *l = container_of(s, struct late, s);

	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < ARRAY_SIZE(l->thread); i++)
		pthread_join(l->thread[i], NULL);
	obj_close(s->inner);
	free(l);
}

static const struct objstore_ops late_ops = {.name = "late", .submit = late_submit, .close = late_close};

static struct objstore *late_new(unsigned seed)
{
	struct late *l = calloc(1, sizeof(*l));
	struct objstore *mem;

	assert_int_equal(store_mem_new(&mem), 0);
	l->s = (struct objstore){.ops = &late_ops, .inner = mem, .stats = mem->stats};
	l->s.part_min = mem->part_min;
	l->s.part_max_count = mem->part_max_count;
	l->s.put_max = mem->put_max;
	l->s.caps_known = true;
	l->seed = seed;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->more, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(l->thread); i++)
		assert_int_equal(pthread_create(&l->thread[i], NULL, late_worker, l), 0);
	return &l->s;
}

/* --- actors --------------------------------------------------------------------------------------------------- */

struct actor {
	struct fixture *f;
	unsigned id, seed;
	uint64_t size[NAMES]; /* of what is there; 0 = nothing */
	const char *wrong;
	unsigned step;
};

static const char *const dirs[] = {"", "d/", "d/e/"};

static void name_of(char *buf, size_t n, unsigned actor, unsigned i)
{
	/* Among each other in the order of keys. */
	snprintf(buf, n, "n%02u-%u%s", i, actor, i % 3 ? "" : ".x");
}

static void act_put(struct actor *a, const char *dir, const char *name, unsigned i)
{
	char body[64];
	uint64_t size = 1 + (unsigned)rand_r(&a->seed) % 60;

	memset(body, 'x', sizeof(body));
	body[size] = '\0';
	create(a->f, dir, name, body);
	a->size[i] = size;
}

static bool act_check(struct actor *a, const char *dir, const char *name, unsigned i)
{
	static const unsigned flags[] = {0, TREE_ATTRS, TREE_FRESH, TREE_FRESH | TREE_ATTRS};
	struct entry e = {};
	int r = tree_lookup(a->f->tree, dir, name, flags[rand_r(&a->seed) % 4], &e, NULL);
	bool ok = a->size[i] ? !r && e.v.size == a->size[i] && !e.is_dir : r == -ENOENT;

	if (!r)
		entry_done(&e);
	if (!ok)
		a->wrong = "a lookup denies what this thread has done";
	return ok;
}

static bool act_list(struct actor *a, const char *dir)
{
	char after[PATH_NAME_MAX + 16] = "", mine[32];
	bool more = true;
	uint64_t seen[NAMES] = {};

	while (more) {
		struct tree_page p;
		int r = tree_list(a->f->tree, dir, after, 1 + (unsigned)rand_r(&a->seed) % 40, &p, NULL);

		if (r == -ENOENT)
			break;
		if (r) {
			a->wrong = "a listing fails";
			return false;
		}
		for (size_t k = 0; k < p.n; k++) {
			if (strcmp(p.v[k].name, after) <= 0)
				a->wrong = "a listing is out of order";
			for (unsigned i = 0; i < NAMES; i++) {
				name_of(mine, sizeof(mine), a->id, i);
				if (!strcmp(mine, p.v[k].name) && !strcmp(dirs[i % ARRAY_SIZE(dirs)], dir))
					seen[i] = p.v[k].v.size;
			}
			if (str_copy(after, sizeof(after), p.v[k].name))
				abort();
		}
		more = p.more;
		tree_page_done(&p);
	}
	for (unsigned i = 0; i < NAMES; i++)
		if (!strcmp(dirs[i % ARRAY_SIZE(dirs)], dir) && seen[i] != a->size[i])
			a->wrong = "a listing denies what this thread has done";
	return !a->wrong;
}

static void *actor_run(void *arg)
{
	struct actor *a = arg;

	for (a->step = 0; a->step < STEPS && !a->wrong; a->step++) {
		unsigned i = (unsigned)rand_r(&a->seed) % NAMES;
		const char *dir = dirs[i % ARRAY_SIZE(dirs)];
		char name[32], other[32];

		name_of(name, sizeof(name), a->id, i);
		name_of(other, sizeof(other), (a->id + 1) % THREADS, i);
		switch (rand_r(&a->seed) % 8) {
		case 0:
		case 1:
			act_put(a, dir, name, i);
			break;
		case 2:
			if (a->size[i] && tree_unlink(a->f->tree, dir, name, NULL))
				a->wrong = "unlink fails";
			a->size[i] = 0;
			break;
		case 3:
			act_list(a, dir);
			break;
		case 4: /* somebody else's name: no crash, any answer */
			look(a->f, dir, other, TREE_ATTRS, NULL);
			break;
		default:
			act_check(a, dir, name, i);
		}
		test_advance_ms(rand_r(&a->seed) % 40);
	}
	return NULL;
}

/* Another node: writes straight to the bucket. */
static void *foreigner_run(void *arg)
{
	struct actor *a = arg;

	for (a->step = 0; a->step < STEPS; a->step++) {
		unsigned i = (unsigned)rand_r(&a->seed) % NAMES;
		char key[64], name[32], body[64];

		name_of(name, sizeof(name), THREADS, i);
		snprintf(key, sizeof(key), "%s%s%s", dirs[i % ARRAY_SIZE(dirs)], name, rand_r(&a->seed) % 8 ? "" : "/sub");
		memset(body, 'y', sizeof(body));
		if (rand_r(&a->seed) % 3)
			a->wrong = obj_put(a->f->store->inner, key, body, 1 + (unsigned)rand_r(&a->seed) % 60, NULL, false,
					   NULL, NULL, NULL)
					   ? "put"
					   : NULL;
		else
			a->wrong = obj_delete(a->f->store->inner, key, NULL, NULL) ? "delete" : NULL;
		usleep(300);
	}
	return NULL;
}

/* The bucket is the truth: the same names, kinds, sizes, and nothing else. */
static void compare_with_bucket(struct fixture *f, const char *dir, unsigned flags, unsigned seed)
{
	struct objreq req;
	char after[PATH_NAME_MAX + 16] = "";
	bool more = true;
	unsigned n = 0, m = 0;

	while (more) {
		struct tree_page p;

		assert_int_equal(tree_list(f->tree, dir, after, 7, &p, NULL), 0);
		for (size_t i = 0; i < p.n; i++, n++) {
			char key[PATH_NAME_MAX + 64];
			struct entry e;
			bool shown_other = str_has_suffix(p.v[i].name, "~object");

			assert_int_equal(tree_lookup(f->tree, dir, p.v[i].name, flags, &e, NULL), 0);
			assert_int_equal(e.is_dir, p.v[i].is_dir);
			assert_int_equal(e.ino, p.v[i].ino);
			snprintf(key, sizeof(key), "%s%.*s", dir,
				 (int)(strlen(p.v[i].name) - (shown_other ? strlen("~object") : 0)), p.v[i].name);
			if (!e.is_dir) {
				assert_int_equal(obj_head(f->store->inner, key, &req), 0);
				if (req.size != e.v.size || strcmp(req.etag, e.v.etag))
					fail_msg("seed %u: %s is another version", seed, key);
				objreq_done(&req);
			}
			entry_done(&e);
			assert_int_equal(str_copy(after, sizeof(after), p.v[i].name), 0);
		}
		more = p.more;
		tree_page_done(&p);
	}
	objreq_init(&req, OBJ_LIST, dir);
	req.delimiter = true;
	assert_int_equal(obj_do(f->store->inner, &req), 0);
	for (size_t i = 0; i < req.listing->n; i++)
		m += strcmp(req.listing->v[i].key, dir) != 0;
	if (n != m)
		fail_msg("seed %u: %u names in %s, the bucket has %u", seed, n, dir, m);
	objreq_done(&req);
}

static void run_model(unsigned seed)
{
	struct fixture f = {.store = late_new(seed)};
	struct actor a[THREADS + 1] = {};
	pthread_t thread[THREADS + 1];
	struct attr da = {.mode = S_IFDIR | 0755};
	struct entry e;

	fixture_open(&f, "", NULL);
	assert_int_equal(tree_mkdir(f.tree, "", "d", &da, NULL, &e, NULL), 0);
	entry_done(&e);
	assert_int_equal(tree_mkdir(f.tree, "d/", "e", &da, NULL, &e, NULL), 0);
	entry_done(&e);
	for (unsigned i = 0; i <= THREADS; i++) {
		a[i] = (struct actor){.f = &f, .id = i, .seed = seed * 31 + i};
		assert_int_equal(pthread_create(&thread[i], NULL, i < THREADS ? actor_run : foreigner_run, &a[i]), 0);
	}
	for (unsigned i = 0; i <= THREADS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i <= THREADS; i++)
		if (a[i].wrong)
			fail_msg("seed %u, actor %u, step %u: %s", seed, i, a[i].step, a[i].wrong);
	test_advance_ms(3000);
	for (unsigned i = 0; i < ARRAY_SIZE(dirs); i++) {
		compare_with_bucket(&f, dirs[i], 0, seed);
		compare_with_bucket(&f, dirs[i], TREE_ATTRS, seed);
	}
	fixture_close(&f);
}

static void test_model(void **state)
{
	const char *env = getenv("LSVD_TEST_SEED");
	unsigned first = env ? (unsigned)atoi(env) : 1;

	for (unsigned seed = first; seed < first + (env ? 1 : 6); seed++)
		run_model(seed);
}

/* Two threads that want one page send one LIST. */
static void *list_once(void *arg)
{
	struct fixture *f = arg;
	struct tree_page p;

	if (!tree_list(f->tree, "d/", "", 0, &p, NULL))
		tree_page_done(&p);
	return NULL;
}

static void test_one_list_for_many(void **state)
{
	struct fixture f = {.store = late_new(1)};
	pthread_t thread[8];

	fixture_open(&f, "", NULL);
	assert_int_equal(obj_put(f.store->inner, "d/x", "1", 1, NULL, false, NULL, NULL, NULL), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, list_once, &f), 0);
	for (unsigned i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(requests(&f, OBJ_LIST), 1);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_one_list_for_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
