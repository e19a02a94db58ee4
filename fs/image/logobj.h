/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * logobj.h - the bytes of a log object (FORMAT.md, 3): structs <-> bytes, and nothing else.
 *
 * Pure: no store, no locks, no time. Every decoder treats its input as hostile: it checks each length, order and
 * range before it believes it, and answers -EUCLEAN with words that say what is wrong. What it accepts, the encoder
 * writes back byte for byte (but for GROUPS of packed objects).
 */
#ifndef LSVD_IMAGE_LOGOBJ_H
#define LSVD_IMAGE_LOGOBJ_H

#include "../../objstore/objstore.h"

#define SECTOR 512u
#define IMG_SECTORS_MAX ((uint64_t)1 << 48) /* sectors of an image */
#define LOG_GROUP 65536u                    /* content bytes of a group */
#define LOG_TRAILER 96u
#define LOG_SUMS 64u                        /* of the trailer: the CRCs of its blocks */
#define LOG_STRIDE (LOG_GROUP + LOG_TRAILER) /* stored bytes of a full group with codec 0 */
#define LOG_BLOCK 4096u                      /* content bytes of one CRC; headers end on it */
#define LOG_OBJECT_MAX (64 * MiB)            /* content bytes that we write or read */
#define LOG_HEADER_MAX (32 * MiB)
#define LOG_W_MAX 256u
#define LOG_RETAIN_MAX (UINT64_C(100) * 366 * 86400) /* seconds */

enum log_type {
	LOG_CREATE = 1,
	LOG_DATA,
	LOG_CLEANER,
	LOG_MAP,
	LOG_CHECKPOINT,
	LOG_CLAIM,
	LOG_RELEASE,
	LOG_SNAPSHOT,
	LOG_UNSNAP,
	LOG_FREE,
	LOG_ROLLBACK,
	LOG_RESIZE,
	LOG_NTYPES
};
extern const char *const log_type_name[LOG_NTYPES];

struct log_nonce {
	uint8_t b[16];
};

/* A place in the log. number 0 is no place. */
struct log_place {
	uint64_t number;
	uint32_t sector; /* within the object's content */
};

enum ext_kind { EXT_DATA, EXT_ZERO, EXT_DISCARD };
struct log_extent {
	uint64_t lba, len; /* sectors */
	enum ext_kind kind;
	uint32_t at; /* EXT_DATA: sector within the content of its object; decode fills it in, encode ignores it */
	struct log_place from; /* cleaner objects: where the sectors came from */
};

/* What one object did to the map, as a digest repeats it. */
struct log_effect {
	uint64_t number, size; /* size: of the image, bytes, after it */
	enum log_type type;    /* LOG_DATA, LOG_CLEANER, LOG_RESIZE */
	uint32_t first; /* sector of its first data extent: in a header this is (bytes rounded up to 4096) / 512 */
	size_t n;
	struct log_extent *v;
};
struct log_digest {
	uint64_t first, end; /* first <= number < end */
	size_t n;
	struct log_effect *v;
};

struct log_pageref {
	uint64_t number; /* 0: none */
	uint32_t sector, bytes, crc;
	uint8_t level;
};
enum { PAGE_LEAF = 0, PAGE_INDEX_MAX = 4, PAGE_OBJINDEX = 254, PAGE_OBJTABLE = 255 };

#define SNAP_HIDDEN 1u /* its unsnap record is in the log */
struct log_snap {
	uint64_t number, flags;
};
struct log_checkpoint {
	uint64_t tree_covers;
	struct log_pageref root, objects;
	uint64_t claim, epoch;
	struct log_nonce nonce;
	uint64_t jseq, size, first, before;
	uint64_t allocated; /* sectors: the tree's, neither holes nor unmapped */
	size_t ndigests, nclaims, nsnaps;
	uint64_t *digests, *claims; /* ascending */
	struct log_snap *snaps;     /* ascending */
};

struct log_origin {
	uint8_t uuid[16];
	uint64_t last;
	char *path; /* "" or where its log lies below the directory of .lsvd; ends in '/' */
};
struct log_create {
	uint32_t window, object_bytes;
	bool fsync_remote;
	size_t norigins;
	struct log_origin *origins;
};

/* One object's header, decoded. Everything it points to belongs to it: logobj_free(). */
struct logobj {
	enum log_type type;
	uint8_t uuid[16];
	uint64_t number, epoch;
	struct log_nonce nonce;
	uint64_t jseq, size;
	int64_t time_s;
	uint32_t window;
	uint64_t durable; /* all numbers of the log below it were durable when this object was made; 0: not said */
	bool packed;
	uint32_t content_sectors; /* of the whole object, header included */
	uint32_t header_bytes;    /* decode: 128 + sections. data start at roundup(header_bytes, LOG_BLOCK) */
	uint32_t body_crc, crc;   /* decode only */
	size_t nextents;
	struct log_extent *extents;
	struct log_digest *digest; /* NULL: none */
	struct log_checkpoint *checkpoint;
	uint64_t floor, retain_s; /* with a checkpoint: positions from floor on are kept; 0: not said. What the image is to keep */
	struct log_create *create;
	uint64_t claim_next, claim_before; /* LOG_CLAIM */
	uint64_t target;                   /* unsnap, free, rollback, map; 0: none */
	char *snap_name;                   /* LOG_SNAPSHOT */
	int64_t snap_time;
	char *text;     /* key=value lines or NULL */
	size_t ngroups; /* packed only */
	uint32_t *group_bytes;
};
void logobj_free(struct logobj *o); /* frees the contents; o itself is the caller's. NULL is fine */

/*
 * Bytes of the header that encode would write (a multiple of LOG_BLOCK): where its data start. 0: over
 * LOG_HEADER_MAX.
 */
size_t logobj_header_size(const struct logobj *o);

/*
 * Encodes a whole object: header, then the data of its EXT_DATA extents (or the pages of a map object), cut into
 * groups with codec 0. data: the content behind the header, data_iovcnt pieces, a multiple of SECTOR in all; for data
 * and cleaner objects exactly the sum of the data extents. ret is a malloc'd buffer of stored bytes; ret_crc (may be
 * NULL) the object's CRC.
 * -EINVAL: not encodable (a caller's bug: unsorted, too long), -EFBIG over LOG_OBJECT_MAX, -ENOMEM.
 */
int must_check logobj_encode(const struct logobj *o, const struct iovec *data, int data_iovcnt, void **ret,
			     size_t *ret_len, uint32_t *ret_crc);
/* The same, of content that comes in order, piece by piece, right to where it stays. */
struct logobj_body {
	size_t bytes;				     /* in all, a multiple of SECTOR */
	int (*fill)(void *arg, void *to, size_t n); /* the next n bytes, whole sectors; 0 or an error, which is passed on */
	void *arg;
};
int must_check logobj_encode_body(const struct logobj *o, const struct logobj_body *body, void **ret, size_t *ret_len,
				  uint32_t *ret_crc);
/* A fill for bytes in memory; arg: where they are, const uint8_t **, moved on. */
int must_check logobj_fill_bytes(void *arg, void *to, size_t n);

/*
 * Decodes the header from the first bytes of a stored object (p, len). ret_need: when len is too short, how many
 * stored bytes from the start would do (-EAGAIN). Verifies groups, header CRC and, if uuid and number are given (uuid
 * not NULL, number not 0), that it is that object. -EUCLEAN with words.
 */
int must_check logobj_decode(const void *p, size_t len, const uint8_t *uuid, uint64_t number, struct logobj *ret,
			     size_t *ret_need, struct objerr *err);
/*
 * The same from content that was verified already, its first len bytes; ret_need: bytes of content.
 */
int must_check logobj_decode_content(const void *p, size_t len, const uint8_t uuid[16], uint64_t number,
				     struct logobj *ret, size_t *ret_need, struct objerr *err);
/*
 * Who wrote an object: the fixed header alone, its CRC not checked (it need not be all there). For comparing
 * identity: uuid, number, nonce, crc.
 */
int must_check logobj_peek(const void *p, size_t len, struct logobj *ret, struct objerr *err);
/* The whole object: decode, and every group and body_crc as well. For check --data. */
int must_check logobj_verify(const void *p, size_t len, const uint8_t *uuid, uint64_t number, struct objerr *err);

/*
 * Stored byte range that holds sectors [sector, sector + n) of the content of an object that is not packed, whole
 * groups.
 */
void logobj_range(uint32_t sector, uint32_t n, uint64_t *ret_off, uint64_t *ret_len);
/*
 * Verifies stored groups that start with the group of content sector `sector` (p: what a GET of logobj_range() gave;
 * the object may end in it) and copies sectors [sector, sector + n) to out. -EUCLEAN: they do not verify as (uuid,
 * number) or are cut short.
 */
int must_check logobj_extract(const void *p, size_t len, const uint8_t uuid[16], uint64_t number, uint32_t sector,
			      uint32_t n, void *out, struct objerr *err);

/*
 * The same in pieces, for who keeps groups apart from their objects (blkcache.h): the trailer of a group by itself,
 * -EUCLEAN when it is not the one of (uuid, number, group), ret_n: bytes of content; then each block of at most
 * LOG_BLOCK bytes.
 */
int must_check logobj_trailer_check(const uint8_t t[LOG_TRAILER], const uint8_t uuid[16], uint64_t number,
				    uint64_t group, size_t *ret_n, struct objerr *err);
bool must_check logobj_block_ok(const uint8_t sums[LOG_SUMS], const uint8_t uuid[16], uint64_t number, uint64_t group,
				size_t block, const void *p, size_t n);

/* Pages of map objects (FORMAT.md 3.9). */
struct page_run {
	uint64_t lba, len;
	enum ext_kind kind; /* EXT_DATA or EXT_ZERO */
	struct log_place at;
};
struct page_child {
	uint64_t first;
	struct log_pageref ref;
};
struct page_object {
	uint64_t number;
	enum log_type type;
	uint32_t sectors, live;
	uint64_t death; /* 0: not dead */
};
struct page {
	uint8_t level;
	uint64_t first, end;
	size_t n;
	struct page_run *runs;       /* level 0 */
	struct page_child *children; /* 1..PAGE_INDEX_MAX, PAGE_OBJINDEX */
	struct page_object *objects; /* PAGE_OBJTABLE */
};
void page_free(struct page *p);
/*
 * Encodes as many of the page's entries as fit LOG_GROUP bytes; ret_n says how many (at least 1 unless p->n is 0),
 * and the page written ends (its `end`) at the first entry that did not fit, or at p->end. buf has LOG_GROUP bytes.
 */
int must_check page_encode(const struct page *p, void *buf, size_t *ret_len, size_t *ret_n);
/* ref gives level, bytes and CRC, which must agree. */
int must_check page_decode(const void *p, size_t len, const struct log_pageref *ref, struct page *ret,
			   struct objerr *err);

bool log_snap_name_ok(const char *s); /* 1 to 64 of [A-Za-z0-9._-] */
/* uuid <-> 32 hex digits, number <-> 16. parse: -EINVAL. */
void log_uuid_format(const uint8_t uuid[16], char out[33]);
int must_check log_uuid_parse(const char *s, uint8_t ret[16]);
int must_check log_number_parse(const char *s, uint64_t *ret);

/* The name object (FORMAT.md 2). Strings belong to it. */
struct imgname {
	uint8_t uuid[16];
	char *name, *log; /* log ends in '/' */
	uint64_t size;    /* bytes */
	uint8_t replaces[16]; /* the image that this name was put over; all zero: none */
};
void imgname_free(struct imgname *n);
int must_check imgname_encode(const struct imgname *n, char **ret);
int must_check imgname_decode(const char *p, size_t len, struct imgname *ret, struct objerr *err);
#define IMGNAME_HEADER "x-amz-meta-lsvd-image"
/* The header's value "1 <uuid> <size>". */
int must_check imgname_header_parse(const char *value, uint8_t ret_uuid[16], uint64_t *ret_size);
void imgname_header_format(const uint8_t uuid[16], uint64_t size, char out[64]);

#endif
