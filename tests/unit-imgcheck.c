/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-imgcheck.c - image_check() looks at every state that somebody may go back to. Each object of a small log goes in
 * turn:
 *
 *	the newest state needs it		damage
 *	only that of the second newest mark does	a stray that names it, no damage
 *	only that of a snapshot does			damage that names the snapshot
 * and a whole log is whole. The snapshot is put into the newest checkpoint by hand: it names the second newest mark's
 * state, which is told in the same way.
 */
#include "config.h"
#include "fs/image/check.h"
#include "fs/image/logobj.h"
#include "objstore/base/pool.h"
#include "objstore/base/str.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 64 << 10, BLOCKS = 16, ROUNDS = 40, KEYS = 400 };

static const char prefix[] = ".lsvd/img/30313233343536373839616263646566/";
static const uint8_t uuid[16] = "0123456789abcdef";
static struct objstore *store;
static struct pool *pool;
static char dir[] = "/tmp/lsvdfs-unit-imgcheck-XXXXXX";

static void need(bool ok, const char *words)
{
	if (ok)
		return;
	(void)fprintf(stderr, "FAILED: %s\n", words);
	_exit(1);
}

static struct vol_env env(void)
{
	return (struct vol_env){.store = store, .pool = pool, .state_dir = dir, .host = "a", .digest_every = 4,
				.journal_bytes = 8 * MiB, .segment_bytes = 1 * MiB, .no_cleaner = true};
}

/* Block 0 in every round, the others now and then: most objects hold something old and something that is hidden. */
static void make(void)
{
	static char buf[BLOCK];
	struct vol_create c = {.size = BLOCKS * BLOCK, .window = 4};
	struct vol_env e = env();
	struct objerr err = {0};
	struct volume *v;

	memcpy(c.uuid, uuid, 16);
	need(vol_create(&e, prefix, &c, &err) == 0 && vol_open(&e, prefix, uuid, &v, &err) == 0, "no image");
	vol_begin_write(v);
	for (uint64_t i = 0; i < ROUNDS; i++) {
		struct iovec iov = {buf, BLOCK};

		memset(buf, (int)(i + 1), BLOCK);
		need(vol_write(v, 0, &iov, 1, BLOCK) == 0, "write");
		if (i % 3 == 0)
			need(vol_write(v, (1 + i % (BLOCKS - 1)) * BLOCK, &iov, 1, BLOCK) == 0, "write");
		need(vol_upload(v) == 0, "upload");
	}
	need(vol_end_write(v) == 0 && vol_close(v) == 0, "close");
}

struct keys {
	char *v[KEYS];
	size_t n;
};

static void list(const char *below, struct keys *ret)
{
	struct objreq q;

	ret->n = 0;
	objreq_init(&q, OBJ_LIST, below);
	need(obj_do(store, &q) == 0 && q.listing->n < KEYS, "list");
	for (size_t i = 0; i < q.listing->n; i++)
		ret->v[ret->n++] = strdup(q.listing->v[i].key);
	objreq_done(&q);
}

static size_t read_object(const char *key, void *buf, size_t cap)
{
	struct objreq q;
	size_t n;

	objreq_init(&q, OBJ_GET, key);
	q.buf = buf;
	q.cap = cap;
	need(obj_do(store, &q) == 0, key);
	n = q.got;
	objreq_done(&q);
	return n;
}

static void write_object(const char *key, const void *p, size_t n)
{
	need(obj_put(store, key, p, n, NULL, false, NULL, NULL, NULL) == 0, key);
}

struct said {
	unsigned second, snapshot;
};

static void say(void *arg, enum check_kind kind, const char *line)
{
	struct said *s = arg;

	s->second += kind == CHECK_STRAY && strstr(line, "second newest mark") != NULL;
	s->snapshot += kind == CHECK_DAMAGE && strstr(line, "snapshot") != NULL;
	if (getenv("TRACE") != NULL)
		(void)fprintf(stderr, "%d %s\n", (int)kind, line);
}

static struct said checked(struct check_result *ret)
{
	struct said s = {0};
	struct check_opts o = {.say = say, .arg = &s};
	struct vol_env e = env();
	struct objerr err = {0};

	if (image_check(&e, prefix, uuid, &o, ret, &err) < 0)
		need(false, err.msg);
	return s;
}

/* How many objects are told in each way when they are missing. */
static void each_missing(unsigned *ret_damage, unsigned *ret_second, unsigned *ret_snapshot)
{
	static char buf[4 << 20];
	struct keys k;

	*ret_damage = *ret_second = *ret_snapshot = 0;
	list(prefix, &k);
	for (size_t i = 0; i < k.n; i++) {
		struct check_result r;
		struct said s;
		size_t n;
		uint64_t number;

		if (log_number_parse(k.v[i] + strlen(prefix), &number) < 0)
			continue;
		n = read_object(k.v[i], buf, sizeof(buf));
		need(obj_delete(store, k.v[i], NULL, NULL) == 0, "delete");
		s = checked(&r);
		if (getenv("TRACE") != NULL)
			(void)fprintf(stderr, "^ without %s\n", k.v[i]);
		*ret_snapshot += s.snapshot > 0;
		*ret_second += s.second > 0 && r.damage == 0;
		*ret_damage += r.damage > 0;
		write_object(k.v[i], buf, n);
	}
	for (size_t i = 0; i < k.n; i++)
		free(k.v[i]);
}

static uint64_t mark(size_t which)
{
	char below[100];
	struct keys k;
	uint64_t m;

	(void)snprintf(below, sizeof(below), "%smark/", prefix);
	list(below, &k);
	need(k.n >= 2 && log_number_parse(k.v[which] + strlen(below), &m) == 0, "no two marks");
	for (size_t i = 0; i < k.n; i++)
		free(k.v[i]);
	return UINT64_MAX - m;
}

/* The newest checkpoint says that `number` is a snapshot. Its header has room for that. */
static void add_snapshot(uint64_t number)
{
	static char buf[4 << 20], data[4 << 20];
	struct log_snap snap = {.number = number};
	struct logobj o = {0};
	struct objerr err = {0};
	uint64_t m = mark(0);
	struct iovec iov = {data, 0};
	size_t n, len, skip, want;
	void *bytes;
	char key[200];

	(void)snprintf(key, sizeof(key), "%s%016" PRIx64, prefix, m);
	n = read_object(key, buf, sizeof(buf));
	need(logobj_decode(buf, n, uuid, m, &o, &want, &err) == 0 && o.checkpoint != NULL, "no checkpoint");
	skip = logobj_header_size(&o) / 512;
	iov.iov_len = (o.content_sectors - skip) * 512;
	need(logobj_extract(buf, n, uuid, m, (uint32_t)skip, (uint32_t)(o.content_sectors - skip), data, &err) == 0, "data");
	o.checkpoint->snaps = &snap;
	o.checkpoint->nsnaps = 1;
	need(logobj_header_size(&o) / 512 == skip, "the header has grown");
	need(logobj_encode(&o, &iov, 1, &bytes, &len, NULL) == 0, "encode");
	o.checkpoint->snaps = NULL;
	o.checkpoint->nsnaps = 0;
	write_object(key, bytes, len);
	free(bytes);
	logobj_free(&o);
}

int main(void)
{
	unsigned damage, second, snapshot, damage2, second2, snapshot2;
	struct check_result r;

	need(mkdtemp(dir) != NULL && store_mem_new(&store) == 0 && pool_new("check", 4, &pool) == 0, "setup");
	make();
	checked(&r);
	need(r.damage == 0 && r.strays == 0, "a whole image is not whole");
	each_missing(&damage, &second, &snapshot);
	printf("%u objects are damage, %u only the second newest mark's\n", damage, second);
	need(damage > 5 && second > 0 && snapshot == 0, "what is missing is not told");
	add_snapshot(mark(1));
	checked(&r);
	need(r.damage == 0 && r.strays == 0, "an image with a snapshot is not whole");
	each_missing(&damage2, &second2, &snapshot2);
	printf("with a snapshot of that: %u are damage, %u of them the snapshot's\n", damage2, snapshot2);
	need(damage2 == damage + second && second2 == 0 && snapshot2 >= second, "a snapshot's bytes are not looked at");
	pool_free(pool);
	obj_close(store);
	(void)fflush(stdout);
	need(execlp("rm", "rm", "-rf", dir, NULL) == 0, "rm");
}
