/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fuzz-rows.c - the attribute cache. First the header blob of a row: whatever decodes is encoded to the same set again.
 * Then a database file that holds one row with any values in its columns, checksum put right or not: what is read back
 * is what stands there and fits a struct row, else the database is begun again; it never fails.
 *
 * A column is a letter for its type (see bind()), a length byte, and bytes.
 */
#include "config.h"
#include "fuzz.h"
#include "meta/attrdb.h"
#include "objstore/base/crc32c.h"
#include "objstore/base/str.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

extern const unsigned fuzz_cost;
const unsigned fuzz_cost = 10; /* opens databases */

enum { NAME, ETAG, SIZE, MTIME, HEADERS, INO, LEARNT, FLAGS, GEN, ASKED, CRC, NCOLUMNS };

static char dir[64], path[96];

static void fuzz_blob(const uint8_t *data, size_t size)
{
	struct obj_headers h = {}, again = {};
	void *blob;
	size_t n;

	if (obj_headers_decode(data, size, &h))
		return;
	check(!obj_headers_encode(&h, &blob, &n) && !obj_headers_decode(blob, n, &again));
	check(obj_headers_equal(&h, &again));
	free(blob);
	obj_headers_free(&h);
	obj_headers_free(&again);
}

struct column {
	int type; /* SQLITE_* */
	const char *p;
	size_t n;
	int64_t number;
};

static void take_column(struct input *in, struct column *c)
{
	static const int types[] = {SQLITE_INTEGER, SQLITE_BLOB, SQLITE_TEXT, SQLITE_NULL, SQLITE_FLOAT};

	size_t len;

	c->type = types[take_byte(in) % ARRAY_SIZE(types)];
	len = take_byte(in);
	c->n = MIN(c->type == SQLITE_INTEGER ? len : 2 * len, in->n);
	c->p = in->p;
	c->number = 0;
	memcpy(&c->number, in->p, MIN(c->n, sizeof(c->number)));
	in->p += c->n;
	in->n -= c->n;
}

static void bind(sqlite3_stmt *st, int i, const struct column *c)
{
	switch (c->type) {
	case SQLITE_INTEGER:
		sqlite3_bind_int64(st, i, c->number);
		break;
	case SQLITE_BLOB:
		sqlite3_bind_blob(st, i, c->n ? c->p : "", (int)c->n, SQLITE_STATIC);
		break;
	case SQLITE_TEXT:
		sqlite3_bind_text(st, i, c->n ? c->p : "", (int)c->n, SQLITE_STATIC);
		break;
	case SQLITE_FLOAT:
		sqlite3_bind_double(st, i, (double)c->number / 3);
		break;
	default:
		sqlite3_bind_null(st, i);
	}
}

/* As attrdb.c computes it, of columns that have the right types. */
static bool right_crc(const struct column *c, int64_t *ret)
{
	char zero = 0;
	int64_t num[5] = {c[SIZE].number, c[MTIME].number, c[INO].number, c[LEARNT].number,
			  (int64_t)(uint64_t)(unsigned)c[FLAGS].number << 1 | (c[HEADERS].type != SQLITE_NULL)};
	uint32_t crc = crc32c(crc32c(0, c[NAME].p, c[NAME].n), &zero, 1);

	for (int i = 0; i < NCOLUMNS - 1; i++) {
		bool bytes = i == NAME || i == ETAG || (i == HEADERS && c[i].type != SQLITE_NULL);

		if (c[i].type != (bytes ? SQLITE_BLOB : i == HEADERS ? SQLITE_NULL : SQLITE_INTEGER))
			return false;
	}
	crc = crc32c(crc32c(crc, c[ETAG].p, c[ETAG].n), &zero, 1);
	crc = crc32c(crc, num, sizeof(num));
	*ret = c[HEADERS].type == SQLITE_NULL ? crc : crc32c(crc, c[HEADERS].p, c[HEADERS].n);
	return true;
}

static void remove_files(void)
{
	static const char *const suffix[] = {"", "-wal", "-shm", "-journal"};
	char file[128];

	for (size_t i = 0; i < ARRAY_SIZE(suffix); i++) {
		snprintf(file, sizeof(file), "%s%s", path, suffix[i]);
		unlink(file);
	}
}

static void at_exit(void)
{
	remove_files();
	rmdir(dir);
}

/* The database is made once, by attrdb itself; it makes it anew when it finds a row damaged. */
static void make_db(void)
{
	struct attrdb *db;

	if (path[0])
		return;
	snprintf(dir, sizeof(dir), "%s/lsvd-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	check(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	atexit(at_exit);
	check(!attrdb_open(path, &db));
	attrdb_close(db);
}

/* Puts the row into an empty database by SQL. 0 when SQLite takes it. */
static int write_row(const struct column *c)
{
	static const char sql_text[] = "INSERT INTO row (dir, name, etag, size, mtime, headers, ino, learnt, flags, gen, "
				       "asked, crc) VALUES (CAST('d/' AS BLOB),?,?,?,?,?,?,?,?,?,?,?)";
	sqlite3 *sql;
	sqlite3_stmt *st;
	int rc;

	check(sqlite3_open(path, &sql) == SQLITE_OK);
	check(sqlite3_exec(sql, "PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; DELETE FROM row", NULL, NULL,
			   NULL) == SQLITE_OK);
	check(sqlite3_prepare_v2(sql, sql_text, -1, &st, NULL) == SQLITE_OK);
	for (int i = 0; i < NCOLUMNS; i++)
		bind(st, i + 1, &c[i]);
	rc = sqlite3_step(st);
	sqlite3_finalize(st);
	check(sqlite3_close(sql) == SQLITE_OK);
	return rc == SQLITE_DONE ? 0 : -1;
}

static void check_row(const struct row *r, const struct column *c)
{
	check(strlen(r->name) < ROW_NAME_MAX && strlen(r->v.etag) < OBJ_ETAG_MAX);
	check(r->asked_ns == INT64_MIN); /* never of this run */
	check((r->headers != NULL) == (c[HEADERS].type != SQLITE_NULL));
	if (r->headers)
		fuzz_blob(r->headers, r->headers_len);
}

static void fuzz_row(struct input in)
{
	struct column c[NCOLUMNS];
	bool fix = take_byte(&in) & 1, right = false;
	struct attrdb *db;
	struct row *v;
	char name[ROW_NAME_MAX];
	uint64_t epoch;
	size_t n;
	int r;

	for (int i = 0; i < NCOLUMNS; i++)
		take_column(&in, &c[i]);
	if (fix && right_crc(c, &c[CRC].number)) {
		c[CRC].type = SQLITE_INTEGER;
		right = c[NAME].n < ROW_NAME_MAX && !memchr(c[NAME].p, 0, c[NAME].n) && c[ETAG].n < OBJ_ETAG_MAX &&
			!memchr(c[ETAG].p, 0, c[ETAG].n);
	}
	make_db();
	if (write_row(c))
		return;
	check(!attrdb_open(path, &db));
	check(!attrdb_range(db, "d/", "", NULL, 10, &v, &n));
	epoch = attrdb_epoch(db);
	check(n <= 1 && epoch <= 1 && (n == 0 || epoch == 0));
	if (right && c[NAME].n)
		check(n == 1); /* "" is behind no name */
	if (n) {
		check_row(v, c);
		r = attrdb_step_back(db, "d/", "", "\xff", 0, name);
		check(r == -ENOENT || !strcmp(name, v->name));
		row_done(v);
		check(!attrdb_get(db, "d/", name, v));
		check_row(v, c);
	}
	attrdb_rows_free(v, n);
	attrdb_close(db);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {(const char *)data, MIN(size, (size_t)4096)};

	fuzz_blob(data, size);
	if (size > 1 && data[0] == 'R') {
		take_byte(&in);
		fuzz_row(in);
	}
	return 0;
}
