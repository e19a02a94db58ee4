/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * attrdb.c - the attribute cache in SQLite: the one user of that library.
 *
 * One connection, one mutex, statements prepared once. WAL without syncing: after a crash of the machine the file may be
 * damaged, and that is allowed. Every row carries a CRC-32C of itself, because SQLite notices damage to its pages'
 * structure only, and a flipped bit in a header must not become somebody's permissions.
 *
 * State	what it means					left by
 * open		file or memory, statements prepared		any error of a step -> rebuild
 * rebuild	closed, file removed, opened empty, epoch + 1	success -> open; failure, or again before a row could
 *								be written -> open in memory
 *
 * Inode numbers are handed out from a block that is reserved in the file beforehand, so that a crash skips numbers and
 * never repeats one. A new file starts at a random place: numbers given out before a wipe do not come back soon.
 */
#include "config.h"
#include "attrdb.h"
#include "path.h"

#include "objstore/base/clock.h"
#include "objstore/base/crc32c.h"
#include "objstore/base/lock.h"
#include "objstore/base/log.h"
#include "objstore/base/str.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SCHEMA_VERSION 1
#define INO_BLOCK 4096
#define DIR_MAX 4096 /* bytes of a directory's name, NUL included: more than any key has */

enum stmt {
	ST_GET,
	ST_RANGE,
	ST_RANGE_END,
	ST_STEP_BACK,
	ST_PUT,
	ST_DEL,
	ST_MOVE,
	ST_DEL_BELOW,
	ST_NEXT_DIR,
	ST_DEL_DIR,
	ST_COUNT,
	ST_INO_GET,
	ST_INO_SET,
	ST_BEGIN,
	ST_COMMIT,
	ST_ROLLBACK,
	NSTMT
};

#define COLUMNS "name, etag, size, mtime, headers, ino, learnt, flags, gen, asked, crc"

static const char *const stmt_sql[NSTMT] = {
	[ST_GET] = "SELECT " COLUMNS " FROM row WHERE dir = ?1 AND name = ?2",
	[ST_RANGE] = "SELECT " COLUMNS " FROM row WHERE dir = ?1 AND name > ?2 AND name <= ?3 ORDER BY name LIMIT ?4",
	[ST_RANGE_END] = "SELECT " COLUMNS " FROM row WHERE dir = ?1 AND name > ?2 ORDER BY name LIMIT ?4",
	[ST_STEP_BACK] = "SELECT name FROM row WHERE dir = ?1 AND name > ?2 AND name < ?3 "
			 "ORDER BY name DESC LIMIT 1 OFFSET ?4",
	[ST_PUT] = "INSERT OR REPLACE INTO row (dir, " COLUMNS ") VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
	[ST_DEL] = "DELETE FROM row WHERE dir = ?1 AND name = ?2",
	/* ?3: the first string behind everything that starts with ?1, which ends in '/' */
	[ST_MOVE] = "UPDATE OR REPLACE row SET dir = CAST(?2 || substr(dir, length(?1) + 1) AS BLOB) "
		    "WHERE dir >= ?1 AND dir < ?3",
	[ST_DEL_BELOW] = "DELETE FROM row WHERE dir >= ?1 AND dir < ?3",
	[ST_NEXT_DIR] = "SELECT dir FROM row WHERE dir > ?1 ORDER BY dir LIMIT 1",
	[ST_DEL_DIR] = "DELETE FROM row WHERE dir = ?1",
	[ST_COUNT] = "SELECT count(*) FROM row",
	[ST_INO_GET] = "SELECT value FROM meta WHERE name = 'ino'",
	[ST_INO_SET] = "INSERT OR REPLACE INTO meta (name, value) VALUES ('ino', ?1)",
	[ST_BEGIN] = "BEGIN IMMEDIATE",
	[ST_COMMIT] = "COMMIT",
	[ST_ROLLBACK] = "ROLLBACK",
};

struct attrdb {
	struct mtx lock; /* held across file I/O of SQLite, which has no other lock */
	/* under lock */
	sqlite3 *sql;
	sqlite3_stmt *st[NSTMT];
	uint64_t ino_next, ino_end;
	int64_t gen; /* of this run: a row's asked_ns counts only when it was written by it */
	bool hopeless; /* the file was begun again and has taken no row since */
	/* set at open, then read-only */
	char *path; /* NULL: in memory */
	_Atomic uint64_t epoch;
};

void row_done(struct row *r)
{
	free(r->headers);
	*r = (struct row){};
}

void attrdb_rows_free(struct row *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		row_done(&v[i]);
	free(v);
}

static uint32_t row_crc(const struct row *r)
{
	uint32_t c = crc32c(0, r->name, strlen(r->name) + 1);
	int64_t num[5] = {(int64_t)r->v.size, r->v.mtime_s, (int64_t)r->ino, r->learnt_s,
			  (int64_t)r->flags << 1 | (r->headers != NULL)};

	c = crc32c(c, r->v.etag, strlen(r->v.etag) + 1);
	c = crc32c(c, num, sizeof(num));
	return r->headers_len ? crc32c(c, r->headers, r->headers_len) : c;
}

/* --- life of the connection ----------------------------------------------------------------------------------- */

static void disconnect_locked(struct attrdb *db)
{
	for (unsigned i = 0; i < NSTMT; i++) {
		sqlite3_finalize(db->st[i]);
		db->st[i] = NULL;
	}
	(void)sqlite3_close(db->sql); /* every statement is finalized; the rest is lost either way */
	db->sql = NULL;
}

static int pragma_int(sqlite3 *sql, const char *text, int64_t *ret)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(sql, text, -1, &st, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			*ret = sqlite3_column_int64(st, 0);
			rc = SQLITE_OK;
		} else if (rc == SQLITE_DONE) {
			rc = SQLITE_CORRUPT;
		}
	}
	sqlite3_finalize(st);
	return rc;
}

static int make_schema(sqlite3 *sql)
{
	char text[64];
	int rc = sqlite3_exec(sql,
			      "CREATE TABLE row (dir BLOB NOT NULL, name BLOB NOT NULL, etag TEXT NOT NULL, "
			      "size INTEGER NOT NULL, mtime INTEGER NOT NULL, headers BLOB, ino INTEGER NOT NULL, "
			      "learnt INTEGER NOT NULL, flags INTEGER NOT NULL, gen INTEGER NOT NULL, "
			      "asked INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (dir, name)) WITHOUT ROWID;"
			      "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
			      NULL, NULL, NULL);

	if (rc != SQLITE_OK)
		return rc;
	snprintf(text, sizeof(text), "PRAGMA user_version = %d", SCHEMA_VERSION);
	return sqlite3_exec(sql, text, NULL, NULL, NULL);
}

/* Reserves the next block of inode numbers. */
static int reserve_inos_locked(struct attrdb *db, uint64_t first)
{
	sqlite3_stmt *st = db->st[ST_INO_SET];
	int rc;

	sqlite3_bind_int64(st, 1, (int64_t)(first + INO_BLOCK));
	rc = sqlite3_step(st);
	sqlite3_reset(st);
	if (rc != SQLITE_DONE)
		return rc;
	db->ino_next = first;
	db->ino_end = first + INO_BLOCK;
	return SQLITE_OK;
}

/* Somewhere in 2^32 .. 2^47: above small numbers that people know, below what 2^15 wipes could overflow. */
static uint64_t random_ino_base(void)
{
	uint64_t v;

	base_random(&v, sizeof(v));
	return ((uint64_t)1 << 32) + (v & (((uint64_t)1 << 47) - 1));
}

static int load_inos_locked(struct attrdb *db)
{
	sqlite3_stmt *st = db->st[ST_INO_GET];
	uint64_t first = 0;
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		first = (uint64_t)sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return rc;
	if (first < ((uint64_t)1 << 32) || first > (uint64_t)INT64_MAX / 2)
		first = random_ino_base();
	return reserve_inos_locked(db, first);
}

static int connect_locked(struct attrdb *db, const char *path)
{
	int64_t version = 0, tables = 0;
	int rc = sqlite3_open_v2(path ? path : ":memory:", &db->sql,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);

	/* EXCLUSIVE before WAL: no shared-memory file that could be damaged, and a second user is noticed. */
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db->sql,
				  "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;"
				  "PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0;",
				  NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = pragma_int(db->sql, "SELECT count(*) FROM sqlite_master", &tables);
	if (rc == SQLITE_OK)
		rc = pragma_int(db->sql, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK && !tables && !version)
		rc = make_schema(db->sql);
	else if (rc == SQLITE_OK && version != SCHEMA_VERSION)
		rc = SQLITE_SCHEMA;
	for (unsigned i = 0; i < NSTMT && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(db->sql, stmt_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &db->st[i], NULL);
	if (rc == SQLITE_OK)
		rc = load_inos_locked(db);
	if (rc != SQLITE_OK)
		disconnect_locked(db);
	return rc;
}

static void remove_files(const char *path)
{
	static const char *const suffix[] = {"", "-wal", "-shm", "-journal"};

	for (unsigned i = 0; i < ARRAY_SIZE(suffix); i++) {
		struct str s = {};

		str_add(&s, path);
		str_add(&s, suffix[i]);
		if (!s.err)
			(void)unlink(s.p); /* absent, or in the way when it is opened again: memory then */
		str_free(&s);
	}
}

/* Leaves an open, empty database; -ENOMEM when not even memory can be had. */
static int rebuild_locked(struct attrdb *db, const char *why)
{
	log_debug("attribute cache %s: %s; begun again empty", db->path ? db->path : "in memory", why);
	disconnect_locked(db);
	db->epoch++;
	if (db->path) {
		remove_files(db->path);
		if (!db->hopeless && connect_locked(db, db->path) == SQLITE_OK) {
			db->hopeless = true;
			return 0;
		}
	}
	return connect_locked(db, NULL) == SQLITE_OK ? 0 : -ENOMEM;
}

/* What a failed step means: SQLite's memory is ours to report, everything else costs the database. */
static int fail_locked(struct attrdb *db, int rc)
{
	char why[96];

	if (rc == SQLITE_NOMEM)
		return -ENOMEM;
	snprintf(why, sizeof(why), "%s", db->sql ? sqlite3_errmsg(db->sql) : sqlite3_errstr(rc));
	return rebuild_locked(db, why);
}

/* A connection that a rebuild could not bring back is tried again here. */
static int ready_locked(struct attrdb *db)
{
	return db->sql ? 0 : rebuild_locked(db, "closed");
}

int attrdb_open(const char *path, struct attrdb **ret)
{
	struct attrdb *db = calloc(1, sizeof(*db));
	int r = 0;

	if (!db)
		return -ENOMEM;
	mtx_init(&db->lock, RANK_ATTRDB);
	base_random(&db->gen, sizeof(db->gen));
	if (path) {
		db->path = strdup(path);
		if (!db->path)
			r = -ENOMEM;
	}
	if (!r) {
		mtx_lock(&db->lock);
		if (connect_locked(db, db->path) != SQLITE_OK)
			r = rebuild_locked(db, "cannot be used");
		mtx_unlock(&db->lock);
	}
	if (r) {
		attrdb_close(db);
		return r;
	}
	*ret = db;
	return 0;
}

void attrdb_close(struct attrdb *db)
{
	if (!db)
		return;
	mtx_lock(&db->lock);
	disconnect_locked(db);
	mtx_unlock(&db->lock);
	mtx_destroy(&db->lock);
	free(db->path);
	free(db);
}

uint64_t attrdb_epoch(struct attrdb *db)
{
	return db->epoch;
}

/* --- rows ----------------------------------------------------------------------------------------------------- */

static void bind_bytes(sqlite3_stmt *st, int i, const char *z)
{
	/* A failed bind (memory) leaves NULL: no row matches, and INSERT is refused by NOT NULL. Both are noticed. */
	(void)sqlite3_bind_blob(st, i, z, (int)strlen(z), SQLITE_STATIC);
}

static bool column_str(sqlite3_stmt *st, int i, char *dst, size_t cap)
{
	const void *p = sqlite3_column_blob(st, i);
	int n = sqlite3_column_bytes(st, i);

	if (n < 0 || (size_t)n >= cap || (n && (!p || memchr(p, '\0', (size_t)n))))
		return false;
	if (n)
		memcpy(dst, p, (size_t)n);
	dst[n] = '\0';
	return true;
}

/* The statement's current row; SQLITE_CORRUPT when it is not what was written. */
static int read_row(struct attrdb *db, sqlite3_stmt *st, struct row *ret)
{
	struct row r = {};
	int len;

	if (!column_str(st, 0, r.name, sizeof(r.name)) || !column_str(st, 1, r.v.etag, sizeof(r.v.etag)))
		return SQLITE_CORRUPT;
	r.v.size = (uint64_t)sqlite3_column_int64(st, 2);
	r.v.mtime_s = sqlite3_column_int64(st, 3);
	r.ino = (uint64_t)sqlite3_column_int64(st, 5);
	r.learnt_s = sqlite3_column_int64(st, 6);
	r.flags = (unsigned)sqlite3_column_int64(st, 7);
	r.asked_ns = sqlite3_column_int64(st, 8) == db->gen ? sqlite3_column_int64(st, 9) : INT64_MIN;
	if (sqlite3_column_type(st, 4) != SQLITE_NULL) {
		const void *p = sqlite3_column_blob(st, 4);

		len = sqlite3_column_bytes(st, 4);
		if (len < 0 || (len && !p))
			return SQLITE_NOMEM;
		r.headers = malloc((size_t)len + 1);
		if (!r.headers)
			return SQLITE_NOMEM;
		if (len)
			memcpy(r.headers, p, (size_t)len);
		r.headers_len = (size_t)len;
	}
	if (row_crc(&r) != (uint32_t)sqlite3_column_int64(st, 10)) {
		row_done(&r);
		return SQLITE_CORRUPT;
	}
	*ret = r;
	return SQLITE_OK;
}

int attrdb_get(struct attrdb *db, const char *dir, const char *name, struct row *ret)
{
	int r, rc;

	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (r)
		goto out;
	sqlite3_stmt *st = db->st[ST_GET];

	bind_bytes(st, 1, dir);
	bind_bytes(st, 2, name);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		rc = read_row(db, st, ret);
	sqlite3_reset(st);
	if (rc != SQLITE_OK && rc != SQLITE_DONE)
		r = fail_locked(db, rc);
	if (!r && rc != SQLITE_OK)
		r = -ENOENT;
out:
	mtx_unlock(&db->lock);
	return r;
}

int attrdb_range(struct attrdb *db, const char *dir, const char *after, const char *to, size_t max, struct row **ret,
		 size_t *ret_n)
{
	struct row *v = NULL;
	size_t n = 0, cap = 0;
	int r, rc = SQLITE_DONE;

	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (r)
		goto out;
	sqlite3_stmt *st = db->st[to ? ST_RANGE : ST_RANGE_END];

	bind_bytes(st, 1, dir);
	bind_bytes(st, 2, after);
	if (to)
		bind_bytes(st, 3, to);
	sqlite3_bind_int64(st, 4, max > INT32_MAX ? INT32_MAX : (sqlite3_int64)max);
	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if (n == cap) {
			struct row *more = reallocarray(v, cap ? cap * 2 : 64, sizeof(*v));

			if (!more) {
				rc = SQLITE_NOMEM;
				break;
			}
			v = more;
			cap = cap ? cap * 2 : 64;
		}
		rc = read_row(db, st, &v[n]);
		if (rc != SQLITE_OK)
			break;
		n++;
	}
	sqlite3_reset(st);
	if (rc != SQLITE_DONE) {
		attrdb_rows_free(v, n);
		v = NULL;
		n = 0;
		r = fail_locked(db, rc);
	}
	if (!r) {
		*ret = v;
		*ret_n = n;
	}
out:
	mtx_unlock(&db->lock);
	return r;
}

int attrdb_step_back(struct attrdb *db, const char *dir, const char *after, const char *before, size_t back,
		     char ret[ROW_NAME_MAX])
{
	int r, rc;

	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (r)
		goto out;
	sqlite3_stmt *st = db->st[ST_STEP_BACK];

	bind_bytes(st, 1, dir);
	bind_bytes(st, 2, after);
	bind_bytes(st, 3, before);
	sqlite3_bind_int64(st, 4, (sqlite3_int64)back);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		rc = column_str(st, 0, ret, ROW_NAME_MAX) ? SQLITE_OK : SQLITE_CORRUPT;
	sqlite3_reset(st);
	if (rc != SQLITE_OK && rc != SQLITE_DONE)
		r = fail_locked(db, rc);
	if (!r && rc != SQLITE_OK)
		r = -ENOENT;
out:
	mtx_unlock(&db->lock);
	return r;
}

static int put_row_locked(struct attrdb *db, const char *dir, const struct row *row)
{
	sqlite3_stmt *st = db->st[ST_PUT];
	int rc;

	bind_bytes(st, 1, dir);
	bind_bytes(st, 2, row->name);
	(void)sqlite3_bind_text(st, 3, row->v.etag, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 4, (sqlite3_int64)row->v.size);
	sqlite3_bind_int64(st, 5, row->v.mtime_s);
	if (row->headers && row->headers_len)
		rc = sqlite3_bind_blob64(st, 6, row->headers, row->headers_len, SQLITE_STATIC);
	else if (row->headers)
		rc = sqlite3_bind_zeroblob(st, 6, 0);
	else
		rc = sqlite3_bind_null(st, 6);
	sqlite3_bind_int64(st, 7, (sqlite3_int64)row->ino);
	sqlite3_bind_int64(st, 8, row->learnt_s);
	sqlite3_bind_int64(st, 9, row->flags);
	sqlite3_bind_int64(st, 10, db->gen);
	sqlite3_bind_int64(st, 11, row->asked_ns);
	sqlite3_bind_int64(st, 12, row_crc(row));
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int run_locked(struct attrdb *db, enum stmt which)
{
	int rc = sqlite3_step(db->st[which]);

	sqlite3_reset(db->st[which]);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int attrdb_apply(struct attrdb *db, const char *dir, const struct row *const *put, size_t nput, const char *const *del,
		 size_t ndel)
{
	bool many = nput + ndel > 1;
	int r, rc;

	if (!nput && !ndel)
		return 0;
	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (r)
		goto out;
	rc = many ? run_locked(db, ST_BEGIN) : SQLITE_OK;
	for (size_t i = 0; i < ndel && rc == SQLITE_OK; i++) {
		bind_bytes(db->st[ST_DEL], 1, dir);
		bind_bytes(db->st[ST_DEL], 2, del[i]);
		rc = run_locked(db, ST_DEL);
	}
	for (size_t i = 0; i < nput && rc == SQLITE_OK; i++)
		rc = put_row_locked(db, dir, put[i]);
	if (rc == SQLITE_OK && many)
		rc = run_locked(db, ST_COMMIT);
	if (rc == SQLITE_NOMEM && many)
		(void)run_locked(db, ST_ROLLBACK); /* gone already when SQLite did it by itself */
	if (rc != SQLITE_OK)
		r = fail_locked(db, rc);
	else if (nput)
		db->hopeless = false;
out:
	mtx_unlock(&db->lock);
	return r;
}

/* ?3 of the statements that work on a whole subtree: dir ends in '/', whose successor is '0'. "" means everything. */
static int bind_subtree(sqlite3_stmt *st, const char *dir)
{
	_cleanup_free_ char *end = strdup(*dir ? dir : "\xff");

	if (!end)
		return SQLITE_NOMEM;
	if (*dir)
		end[strlen(end) - 1] = '/' + 1;
	bind_bytes(st, 1, dir);
	return sqlite3_bind_blob(st, 3, end, (int)strlen(end), SQLITE_TRANSIENT);
}

int attrdb_del_below(struct attrdb *db, const char *dir)
{
	int r, rc;

	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (!r) {
		rc = bind_subtree(db->st[ST_DEL_BELOW], dir);
		if (rc == SQLITE_OK)
			rc = run_locked(db, ST_DEL_BELOW);
		if (rc != SQLITE_OK)
			r = fail_locked(db, rc);
	}
	mtx_unlock(&db->lock);
	return r;
}

/* Is the row of directory dir ("a/b/", never "") itself there? */
static int dir_known_locked(struct attrdb *db, const char *dir, bool *ret)
{
	const char *name = dir + strlen(dir) - 1;
	sqlite3_stmt *st = db->st[ST_GET];
	int rc;

	while (name > dir && name[-1] != '/')
		name--;
	(void)sqlite3_bind_blob(st, 1, dir, (int)(name - dir), SQLITE_STATIC);
	bind_bytes(st, 2, name);
	rc = sqlite3_step(st);
	sqlite3_reset(st);
	*ret = rc == SQLITE_ROW;
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* dir, whose size is DIR_MAX, becomes the next one that has rows; SQLITE_DONE behind the last. */
static int next_dir_locked(struct attrdb *db, char *dir)
{
	sqlite3_stmt *st = db->st[ST_NEXT_DIR];
	int rc;

	(void)sqlite3_bind_blob(st, 1, dir, (int)strlen(dir), SQLITE_TRANSIENT);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		rc = column_str(st, 0, dir, DIR_MAX) && *dir ? SQLITE_OK : SQLITE_CORRUPT;
	sqlite3_reset(st);
	return rc;
}

/* A directory comes before those below it, so what hangs from a deleted one goes in the same pass. */
static int prune_locked(struct attrdb *db, char *dir, int64_t until_ns)
{
	int rc = run_locked(db, ST_BEGIN);

	while (rc == SQLITE_OK && clock_now_ns() < until_ns) {
		bool known = true;

		rc = next_dir_locked(db, dir);
		if (rc == SQLITE_OK && !str_has_prefix(dir, PATH_RESERVED "/"))
			rc = dir_known_locked(db, dir, &known);
		if (rc == SQLITE_OK && !known) {
			bind_bytes(db->st[ST_DEL_DIR], 1, dir);
			rc = run_locked(db, ST_DEL_DIR);
		}
	}
	if (rc == SQLITE_OK || rc == SQLITE_DONE)
		rc = run_locked(db, ST_COMMIT);
	else if (rc == SQLITE_NOMEM)
		(void)run_locked(db, ST_ROLLBACK);
	return rc;
}

int attrdb_prune(struct attrdb *db, int64_t most_ns)
{
	_cleanup_free_ char *dir = calloc(1, DIR_MAX);
	int r, rc;

	if (!dir)
		return -ENOMEM;
	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (!r) {
		rc = prune_locked(db, dir, clock_now_ns() + most_ns);
		if (rc != SQLITE_OK)
			r = fail_locked(db, rc);
	}
	mtx_unlock(&db->lock);
	return r;
}

int attrdb_move_dir(struct attrdb *db, const char *from, const char *to)
{
	int r, rc;

	mtx_lock(&db->lock);
	r = ready_locked(db);
	if (r)
		goto out;
	rc = run_locked(db, ST_BEGIN);
	if (rc == SQLITE_OK)
		rc = bind_subtree(db->st[ST_DEL_BELOW], to);
	if (rc == SQLITE_OK)
		rc = run_locked(db, ST_DEL_BELOW);
	if (rc == SQLITE_OK)
		rc = bind_subtree(db->st[ST_MOVE], from);
	if (rc == SQLITE_OK) {
		bind_bytes(db->st[ST_MOVE], 2, to);
		rc = run_locked(db, ST_MOVE);
	}
	if (rc == SQLITE_OK)
		rc = run_locked(db, ST_COMMIT);
	if (rc == SQLITE_NOMEM)
		(void)run_locked(db, ST_ROLLBACK);
	if (rc != SQLITE_OK)
		r = fail_locked(db, rc);
out:
	mtx_unlock(&db->lock);
	return r;
}

uint64_t attrdb_new_ino(struct attrdb *db)
{
	uint64_t ino;

	mtx_lock(&db->lock);
	if (db->ino_next == db->ino_end &&
	    (ready_locked(db) || (db->ino_next == db->ino_end && reserve_inos_locked(db, db->ino_next) != SQLITE_OK))) {
		/* A rebuild reserves a block of its own; when even memory fails, any unlikely number will do. */
		if (rebuild_locked(db, "no inode numbers"))
			db->ino_end = (db->ino_next = random_ino_base()) + INO_BLOCK;
	}
	ino = db->ino_next++;
	mtx_unlock(&db->lock);
	return ino;
}

uint64_t attrdb_count(struct attrdb *db)
{
	uint64_t n = 0;

	mtx_lock(&db->lock);
	if (!ready_locked(db)) {
		if (sqlite3_step(db->st[ST_COUNT]) == SQLITE_ROW)
			n = (uint64_t)sqlite3_column_int64(db->st[ST_COUNT], 0);
		sqlite3_reset(db->st[ST_COUNT]);
	}
	mtx_unlock(&db->lock);
	return n;
}
