/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * unit-logobj.c - log objects, pages and names as bytes: what is written is read back the same, and what was damaged
 * is not read at all.
 *
 * Random objects of every type with every section; every bit flip and every cut of a small one; another object's
 * bytes in its place.
 */
#include "config.h"
#include "fs/image/logobj.h"
#include "objstore/base/crc32c.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t rnd_state;

static uint64_t rnd(uint64_t n)
{
	rnd_state = rnd_state * 6364136223846793005u + 1442695040888963407u;
	return n == 0 ? 0 : (rnd_state >> 16) % n;
}

static void *zalloc(size_t n)
{
	void *p = calloc(1, n + 1);

	assert_non_null(p);
	return p;
}

static size_t random_extents(enum log_type t, size_t max, uint64_t data_max, struct log_extent **ret)
{
	size_t n = rnd(max + 1);
	struct log_extent *v = zalloc(n * sizeof(*v));
	uint64_t at = rnd(1000);

	for (size_t i = 0; i < n; i++) {
		v[i].lba = at += rnd(3) == 0 ? 0 : rnd(1 << 20);
		v[i].kind = t == LOG_CLEANER ? EXT_DATA : (enum ext_kind)rnd(3);
		v[i].len = 1 + rnd(v[i].kind == EXT_DATA ? data_max : (uint64_t)1 << 30);
		at += v[i].len;
		if (t == LOG_CLEANER)
			v[i].from = (struct log_place){1 + rnd(1 << 30), (uint32_t)rnd(100000)};
	}
	*ret = v;
	return n;
}

static uint64_t data_sectors(const struct log_extent *v, size_t n)
{
	uint64_t s = 0;

	for (size_t i = 0; i < n; i++)
		s += v[i].kind == EXT_DATA ? v[i].len : 0;
	return s;
}

static struct log_checkpoint *random_checkpoint(uint64_t number)
{
	struct log_checkpoint *k = zalloc(sizeof(*k));

	k->tree_covers = rnd(number);
	if (rnd(2))
		k->root = (struct log_pageref){1 + rnd(number), (uint32_t)rnd(8) * 128, 1 + (uint32_t)rnd(65536),
					       (uint32_t)rnd(1u << 31), 2};
	if (rnd(2))
		k->objects = (struct log_pageref){1 + rnd(number), 128, 1 + (uint32_t)rnd(65536), 7, PAGE_OBJTABLE};
	k->claim = rnd(number);
	k->epoch = rnd(99);
	k->nonce.b[3] = (uint8_t)rnd(256);
	k->jseq = rnd(1u << 31);
	k->size = rnd(1ull << 50);
	k->before = rnd(number);
	k->first = 1;
	k->ndigests = rnd(4);
	k->nclaims = rnd(4);
	k->nsnaps = rnd(4);
	k->digests = zalloc(k->ndigests * 8);
	k->claims = zalloc(k->nclaims * 8);
	k->snaps = zalloc(k->nsnaps * sizeof(*k->snaps));
	for (size_t i = 0; i < 4; i++) {
		if (i < k->ndigests)
			k->digests[i] = 1 + i * 10;
		if (i < k->nclaims)
			k->claims[i] = 2 + i * 7;
		if (i < k->nsnaps)
			k->snaps[i] = (struct log_snap){3 + i, rnd(2)};
	}
	return k;
}

static struct log_digest *random_digest(uint64_t number)
{
	struct log_digest *d = zalloc(sizeof(*d));

	d->first = 1 + rnd(10);
	d->end = MIN(number, d->first + 10);
	d->end = MAX(d->end, d->first);
	d->v = zalloc(11 * sizeof(*d->v));
	for (uint64_t n = d->first; n < d->end; n++) {
		struct log_effect *e = &d->v[d->n];

		if (rnd(3) == 0)
			continue;
		*e = (struct log_effect){.number = n, .size = rnd(1 << 30), .first = 8};
		e->type = (enum log_type[]){LOG_DATA, LOG_CLEANER, LOG_RESIZE}[rnd(3)];
		if (e->type != LOG_RESIZE)
			e->n = random_extents(e->type, 5, 20, &e->v);
		d->n++;
	}
	return d;
}

static void random_object(struct logobj *o, enum log_type t)
{
	memset(o, 0, sizeof(*o));
	o->type = t;
	for (int i = 0; i < 16; i++)
		o->uuid[i] = (uint8_t)rnd(256), o->nonce.b[i] = (uint8_t)rnd(256);
	o->number = 100 + rnd(1u << 30);
	o->epoch = rnd(1000);
	o->jseq = rnd(1ull << 40);
	o->size = rnd(1ull << 46);
	o->time_s = (int64_t)rnd(1ull << 33);
	o->window = 1 + (uint32_t)rnd(256);
	if (t == LOG_DATA || t == LOG_CLEANER)
		o->nextents = random_extents(t, rnd(4) == 0 ? 3000 : 20, 40, &o->extents);
	if (t == LOG_CREATE) {
		o->create = zalloc(sizeof(*o->create));
		*o->create = (struct log_create){
		    .window = o->window, .object_bytes = 8 << 20, .fsync_remote = rnd(2), .norigins = rnd(3)};
		o->create->origins = zalloc(3 * sizeof(*o->create->origins));
		for (size_t i = 0; i < o->create->norigins; i++) {
			o->create->origins[i].last = 10 * (i + 1);
			o->create->origins[i].path = strdup(i == 0 ? "" : "vm/.lsvd/img/x/");
		}
	}
	if (t == LOG_CHECKPOINT || t == LOG_SNAPSHOT || t == LOG_ROLLBACK || (t == LOG_DATA && rnd(2)) ||
	    (o->create != NULL && o->create->norigins > 0))
		o->checkpoint = random_checkpoint(o->number);
	if (o->checkpoint != NULL && rnd(2) == 0) {
		o->floor = 1 + rnd(o->number);
		o->retain_s = rnd(LOG_RETAIN_MAX + 1);
	}
	if (rnd(2) && t != LOG_CREATE)
		o->digest = random_digest(o->number);
	if (t == LOG_CLAIM)
		o->claim_next = o->number + o->window, o->claim_before = rnd(100);
	if (t == LOG_UNSNAP || t == LOG_FREE || t == LOG_ROLLBACK)
		o->target = 1 + rnd(99);
	if (t == LOG_SNAPSHOT)
		o->snap_name = strdup("a-Z_0.9"), o->snap_time = 77;
	if (rnd(2))
		o->text = strdup("host=node1\n");
	assert_true(t != LOG_SNAPSHOT || o->snap_name != NULL);
}

static void *random_data(const struct logobj *o, struct iovec *iov)
{
	size_t n = data_sectors(o->extents, o->nextents) * SECTOR;
	uint8_t *p;

	if (o->type == LOG_MAP)
		n = rnd(300) * SECTOR;
	p = zalloc(n);
	for (size_t i = 0; i < n; i += 16)
		p[i] = (uint8_t)rnd(256);
	*iov = (struct iovec){p, n};
	return p;
}

/* Compared by writing it again. */
static void same(const struct logobj *a, const void *bytes, size_t len, const struct iovec *data)
{
	void *again;
	size_t n;

	assert_int_equal(logobj_encode(a, data, 1, &again, &n, NULL), 0);
	assert_int_equal(n, len);
	assert_memory_equal(bytes, again, n);
	free(again);
}

static void every_type_comes_back(void **state)
{
	(void)state;
	for (int i = 0; i < 400; i++) {
		enum log_type t = (enum log_type)(1 + i % (LOG_NTYPES - 1));
		struct logobj o, back;
		struct iovec iov;
		void *data, *bytes;
		size_t len, need = 0;
		uint32_t crc;
		struct objerr err = {0};
		int r;

		rnd_state = (uint64_t)i;
		random_object(&o, t);
		data = random_data(&o, &iov);
		assert_int_equal(logobj_encode(&o, &iov, 1, &bytes, &len, &crc), 0);
		r = logobj_decode(bytes, MIN(len, (size_t)200), o.uuid, o.number, &back, &need, &err);
		if (r == -EAGAIN) {
			assert_true(need <= len);
			r = logobj_decode(bytes, need, o.uuid, o.number, &back, &need, &err);
		}
		if (r < 0)
			fail_msg("type %d, seed %d: %s", t, i, err.msg);
		assert_int_equal(back.crc, crc);
		same(&back, bytes, len, &iov);
		assert_int_equal(logobj_verify(bytes, len, o.uuid, o.number, &err), 0);
		/* The place that decode gives each extent is where its sectors are. */
		for (size_t k = 0, off = 0; k < back.nextents; k++) {
			uint8_t *out;
			uint64_t from, n;

			if (back.extents[k].kind != EXT_DATA)
				continue;
			out = zalloc(back.extents[k].len * SECTOR);
			logobj_range(back.extents[k].at, (uint32_t)back.extents[k].len, &from, &n);
			assert_true(from < len);
			assert_int_equal(logobj_extract((uint8_t *)bytes + from, MIN(n, len - from), o.uuid, o.number,
							back.extents[k].at, (uint32_t)back.extents[k].len, out, &err),
					 0);
			assert_memory_equal(out, (uint8_t *)data + off, back.extents[k].len * SECTOR);
			off += back.extents[k].len * SECTOR;
			free(out);
		}
		logobj_free(&back);
		logobj_free(&o);
		free(bytes);
		free(data);
	}
}

/* A small data object of two groups. */
static void small_object(struct logobj *o, void **bytes, size_t *len, uint32_t sectors)
{
	struct iovec iov;

	memset(o, 0, sizeof(*o));
	o->type = LOG_DATA;
	memcpy(o->uuid, "0123456789abcdef", 16);
	o->number = 5;
	o->window = 16;
	o->size = 1 << 30;
	o->extents = zalloc(sizeof(*o->extents));
	o->nextents = 1;
	*o->extents = (struct log_extent){.lba = 8, .len = sectors, .kind = EXT_DATA};
	iov = (struct iovec){zalloc((size_t)sectors * SECTOR), (size_t)sectors * SECTOR};
	memset(iov.iov_base, 'x', iov.iov_len);
	assert_int_equal(logobj_encode(o, &iov, 1, bytes, len, NULL), 0);
	free(iov.iov_base);
}

static void no_flip_passes(void **state)
{
	struct logobj o;
	void *bytes;
	uint8_t *p;
	size_t len;
	struct objerr err;

	(void)state;
	small_object(&o, &bytes, &len, 1);
	p = bytes;
	for (size_t bit = 0; bit < len * 8; bit++) {
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (logobj_verify(bytes, len, o.uuid, o.number, &err) != -EUCLEAN)
			fail_msg("bit %zu of byte %zu does not matter", bit % 8, bit / 8);
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t n = 0; n < len; n++)
		assert_int_equal(logobj_verify(bytes, n, o.uuid, o.number, &err), -EUCLEAN);
	assert_int_equal(logobj_verify(bytes, len, o.uuid, o.number, &err), 0);
	free(bytes);
	logobj_free(&o);
}

/* Bytes of another number, image or place never pass for those that were asked for. */
static void only_the_very_object_verifies(void **state)
{
	struct logobj o;
	void *bytes;
	uint8_t out[8 * SECTOR], other[16] = "fedcba9876543210";
	size_t len;
	struct objerr err;
	uint64_t off, n;

	(void)state;
	small_object(&o, &bytes, &len, 300);
	logobj_range(130, 8, &off, &n);
	assert_int_equal(off, LOG_STRIDE);
	assert_int_equal(logobj_extract((char *)bytes + off, LOG_STRIDE, o.uuid, 5, 130, 8, out, &err), 0);
	assert_int_equal(out[0], 'x');
	assert_int_equal(logobj_extract((char *)bytes + off, LOG_STRIDE, o.uuid, 6, 130, 8, out, &err), -EUCLEAN);
	assert_int_equal(logobj_extract((char *)bytes + off, LOG_STRIDE, other, 5, 130, 8, out, &err), -EUCLEAN);
	assert_int_equal(logobj_extract(bytes, LOG_STRIDE, o.uuid, 5, 130, 8, out, &err), -EUCLEAN);
	assert_int_equal(logobj_extract((char *)bytes + off, LOG_STRIDE - 1, o.uuid, 5, 130, 8, out, &err), -EUCLEAN);
	assert_int_equal(logobj_verify(bytes, len, other, 5, &err), -EUCLEAN);
	assert_int_equal(logobj_verify(bytes, len, o.uuid, 6, &err), -EUCLEAN);
	free(bytes);
	logobj_free(&o);
}

static void encode_refuses_what_it_could_not_read(void **state)
{
	struct log_extent v[2] = {{.lba = 10, .len = 5}, {.lba = 14, .len = 5}};
	struct logobj o = {.type = LOG_DATA, .number = 1, .window = 1, .extents = v, .nextents = 2};
	uint8_t data[10 * SECTOR] = {0};
	struct iovec iov = {data, sizeof(data)};
	void *bytes;
	size_t len;

	(void)state;
	assert_int_equal(logobj_encode(&o, &iov, 1, &bytes, &len, NULL), -EINVAL); /* overlap */
	v[1].lba = 15;
	iov.iov_len = 9 * SECTOR;
	assert_int_equal(logobj_encode(&o, &iov, 1, &bytes, &len, NULL), -EINVAL); /* not as long as its extents */
	v[1].len = LOG_OBJECT_MAX / SECTOR;
	assert_int_equal(logobj_encode(&o, &iov, 1, &bytes, &len, NULL), -EINVAL);
}

static void pages_come_back(void **state)
{
	static uint8_t buf[LOG_GROUP];

	(void)state;
	for (int i = 0; i < 60; i++) {
		size_t n = rnd(20000), done = 0;
		struct page p = {
		    .level = PAGE_LEAF, .end = IMG_SECTORS_MAX, .n = n, .runs = zalloc(n * sizeof(*p.runs))};
		struct page_run *all = p.runs;
		uint64_t at = 0;

		for (size_t k = 0; k < n; k++) {
			at += rnd(2) ? 0 : rnd(1 << (i % 30));
			all[k] = (struct page_run){at, 1 + rnd(300), rnd(9) ? EXT_DATA : EXT_ZERO, {0, 0}};
			if (all[k].kind == EXT_DATA)
				all[k].at = (struct log_place){1 + rnd(1 << 20), (uint32_t)rnd(16000)};
			at += all[k].len;
		}
		while (done < n) {
			struct log_pageref ref = {.number = 9, .level = PAGE_LEAF};
			struct page back;
			size_t len, took;

			assert_int_equal(page_encode(&p, buf, &len, &took), 0);
			assert_true(took > 0);
			ref.bytes = (uint32_t)len;
			ref.crc = crc32c(0, buf, len);
			assert_int_equal(page_decode(buf, len, &ref, &back, NULL), 0);
			assert_int_equal(back.n, took);
			assert_int_equal(back.first, p.first);
			assert_int_equal(back.end, took < p.n ? p.runs[took].lba : IMG_SECTORS_MAX);
			for (size_t k = 0; k < took; k++) {
				assert_int_equal(back.runs[k].lba, p.runs[k].lba);
				assert_int_equal(back.runs[k].len, p.runs[k].len);
				assert_int_equal(back.runs[k].kind, p.runs[k].kind);
				assert_int_equal(back.runs[k].at.number, p.runs[k].at.number);
				assert_int_equal(back.runs[k].at.sector, p.runs[k].at.sector);
			}
			buf[rnd(len)] ^= 1;
			page_free(&back);
			assert_int_equal(page_decode(buf, len, &ref, &back, NULL), -EUCLEAN);
			done += took;
			p.first = back.end = done < n ? all[done].lba : 0;
			p.runs += took;
			p.n -= took;
		}
		free(all);
	}
}

static void tables_and_indices_come_back(void **state)
{
	static uint8_t buf[LOG_GROUP];
	struct page_object obj[3] = {{7, LOG_DATA, 16000, 3, 0}, {8, LOG_MAP, 10, 0, 99}, {1000, LOG_CLAIM, 8, 0, 0}};
	struct page_child kid[2] = {{0, {5, 0, 100, 1, 0}}, {4096, {5, 128, 200, 2, 0}}};
	struct page t = {.level = PAGE_OBJTABLE, .first = 7, .end = 1001, .n = 3, .objects = obj}, back;
	struct page x = {.level = 1, .end = IMG_SECTORS_MAX, .n = 2, .children = kid};
	struct log_pageref ref = {.number = 9, .level = PAGE_OBJTABLE};
	size_t len, took;

	(void)state;
	assert_int_equal(page_encode(&t, buf, &len, &took), 0);
	assert_int_equal(took, 3);
	ref.bytes = (uint32_t)len;
	ref.crc = crc32c(0, buf, len);
	assert_int_equal(page_decode(buf, len, &ref, &back, NULL), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(back.objects[i].number, obj[i].number);
		assert_int_equal(back.objects[i].type, obj[i].type);
		assert_int_equal(back.objects[i].sectors, obj[i].sectors);
		assert_int_equal(back.objects[i].live, obj[i].live);
		assert_int_equal(back.objects[i].death, obj[i].death);
	}
	page_free(&back);
	assert_int_equal(page_encode(&x, buf, &len, &took), 0);
	ref.bytes = (uint32_t)len;
	ref.crc = crc32c(0, buf, len);
	ref.level = 1;
	assert_int_equal(page_decode(buf, len, &ref, &back, NULL), 0);
	assert_int_equal(back.n, 2);
	assert_int_equal(back.children[1].first, 4096);
	assert_int_equal(back.children[1].ref.crc, 2);
	page_free(&back);
	ref.level = 2;
	assert_int_equal(page_decode(buf, len, &ref, &back, NULL), -EUCLEAN);
}

static void names_come_back(void **state)
{
	struct imgname n = {.uuid = "0123456789abcde",
			    .name = (char *)"vm 1/sda",
			    .log = (char *)".lsvd/img/x/",
			    .size = 1ull << 40},
		       back;
	static const char *const bad[] = {
	    "",
	    "lsvdfs image 2\n",
	    "lsvdfs image 1\n",
	    "lsvdfs image 1\nuuid=00112233445566778899aabbccddeeff\nname=a\nlog=b/\n",
	    "lsvdfs image 1\nuuid=00112233445566778899aabbccddeefg\nname=a\nlog=b/\nsize=1\n",
	    "lsvdfs image 1\nuuid=00112233445566778899aabbccddeeff\nname=a\nlog=b\nsize=1\n",
	    "lsvdfs image 1\nuuid=00112233445566778899aabbccddeeff\nname=a\nlog=b/\nsize=1",
	    "lsvdfs image 1\nname\n",
	    "lsvdfs image 1\nuuid=00112233445566778899aabbccddeeff\nname=a\nname=a\nlog=b/\nsize=1\n",
	};
	char *text, head[64];
	uint8_t uuid[16];
	uint64_t size;

	(void)state;
	assert_int_equal(imgname_encode(&n, &text), 0);
	assert_int_equal(imgname_decode(text, strlen(text), &back, NULL), 0);
	assert_memory_equal(back.uuid, n.uuid, 16);
	assert_string_equal(back.name, n.name);
	assert_string_equal(back.log, n.log);
	assert_int_equal(back.size, n.size);
	imgname_free(&back);
	free(text);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (imgname_decode(bad[i], strlen(bad[i]), &back, NULL) != -EUCLEAN)
			fail_msg("accepted: %s", bad[i]);
	imgname_header_format(n.uuid, n.size, head);
	assert_int_equal(imgname_header_parse(head, uuid, &size), 0);
	assert_memory_equal(uuid, n.uuid, 16);
	assert_int_equal(size, n.size);
	assert_int_equal(imgname_header_parse("1 30313233343536373839616263646500", uuid, &size), -EINVAL);
	assert_int_equal(imgname_header_parse("2 30313233343536373839616263646500 5", uuid, &size), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_type_comes_back),
	    cmocka_unit_test(no_flip_passes),
	    cmocka_unit_test(only_the_very_object_verifies),
	    cmocka_unit_test(encode_refuses_what_it_could_not_read),
	    cmocka_unit_test(pages_come_back),
	    cmocka_unit_test(tables_and_indices_come_back),
	    cmocka_unit_test(names_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
