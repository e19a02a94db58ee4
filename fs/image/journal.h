/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * journal.h - the local write-ahead log of one image (FORMAT.md, 6): recycled segments, one writer.
 *
 * A record is acknowledged when it is in the page cache (a killed process loses nothing); journal_commit() puts it on
 * the disk, one fdatasync for everybody who waits. Append order is sequence order is replay order: an append that
 * returned is never behind a hole. After a failed write or fdatasync nothing is retried: the journal is broken (-EIO
 * from then on, reads go on).
 *
 * Space: `limit` bytes of segments. An append that finds them full waits until journal_trim() freed one. Segments are
 * written with zeros once and reused; a segment in use again has a new generation, which is in each record's CRC.
 */
#ifndef LSVD_IMAGE_JOURNAL_H
#define LSVD_IMAGE_JOURNAL_H

#include "logobj.h"

/*
 * The system calls it needs; tests give it a disk that loses, reorders and tears what was not synced. NULL members
 * are the real ones.
 */
struct jdisk {
	void *ctx;
	int (*open)(void *ctx, int dirfd, const char *name, bool create);        /* descriptor or -errno */
	int (*pwrite)(void *ctx, int fd, const void *p, size_t n, uint64_t off); /* all of it: 0 or -errno */
	int (*pread)(void *ctx, int fd, void *p, size_t n, uint64_t off); /* all of it: 0, -ENODATA short, -errno */
	int (*pread_now)(void *ctx, int fd, void *p, size_t n, uint64_t off); /* -EAGAIN: it is not in memory */
	int (*allocate)(void *ctx, int fd, uint64_t len);                 /* makes it len zeros, on the disk */
	int (*datasync)(void *ctx, int fd);
	int (*dirsync)(void *ctx, int dirfd);
	int (*unlink)(void *ctx, int dirfd, const char *name);
	int (*rename)(void *ctx, int dirfd, const char *from, const char *to);
	int (*list)(void *ctx, int dirfd, int (*fn)(void *arg, const char *name), void *arg);
	void (*close)(void *ctx, int fd);
	bool (*holes)(void *ctx, int fd); /* it has not got room on the disk for all of its size; NULL: it always has */
};

enum jtype { J_WRITE = 1, J_ZERO, J_DISCARD, J_RESIZE, J_COMMITTED };
struct jrecord {
	enum jtype type;
	uint64_t seq, off, len; /* bytes; see FORMAT.md for J_RESIZE and J_COMMITTED */
	uint64_t synced;        /* everything up to it was on the disk when this record was written */
	struct log_nonce nonce;
	uint64_t where; /* J_WRITE: position of the data, for journal_read() */
};

struct journal;
/*
 * Opens or makes the journal in directory dirfd (borrowed) and replays it: fn for each record in order; its non-zero
 * return ends the opening with that code. fn must not call the journal. limit: bytes of all segments, at least 4 x
 * segment; segment: bytes of each (a multiple of 4096).
 * -EUCLEAN: of another image; or something is lost that a later record knows to have been on the disk, a segment's
 * header or the list of nonces is damaged (words in err). A torn tail is no error.
 */
int must_check journal_open(int dirfd, const uint8_t uuid[16], uint64_t limit, uint64_t segment,
			    const struct jdisk *disk, int (*fn)(void *arg, const struct jrecord *r), void *arg,
			    struct journal **ret, struct objerr *err);
/* Closes; what is in it stays. No call may be under way. NULL is fine. */
void journal_close(struct journal *j);

/* From here on records carry this nonce. The nonce was noted by journal_note_nonce() before. */
void journal_set_nonce(struct journal *j, const struct log_nonce *nonce);
/*
 * Durable before it returns: an intent to claim (log-protocol: no claim before its nonce is on the disk). The list is
 * short and forgets the oldest, but never `keep` (may be NULL), the log's newest claim: claims that were refused, however
 * often, must not make the journal a stranger's.
 */
int must_check journal_note_nonce(struct journal *j, const struct log_nonce *nonce, const struct log_nonce *keep);
bool journal_knows_nonce(struct journal *j, const struct log_nonce *nonce);

/*
 * Appends; returns when the bytes are in the file. iov: J_WRITE only, len bytes. ret_seq, ret_where (J_WRITE) name
 * the record. Waits while the journal is full; -ESHUTDOWN once journal_wake(stop) was called. -EIO: broken.
 * -ENOSPC: the disk is full, and the journal has nothing that trimming could free.
 * on_append (may be NULL) runs in sequence order, when the record's bytes are in the file and before any append with
 * a higher sequence returns: whoever keeps a map in sequence order updates it there. It must not wait on the network,
 * nor call the journal.
 */
int must_check journal_append(struct journal *j, enum jtype type, uint64_t off, uint64_t len, const struct iovec *iov,
			      int iovcnt, void (*on_append)(void *arg, uint64_t seq, uint64_t where), void *arg,
			      uint64_t *ret_seq);
/* A J_WRITE that waits neither for room nor for the disk: -EAGAIN, and nothing was done. */
int must_check journal_append_now(struct journal *j, uint64_t off, uint64_t len, const struct iovec *iov,
				  void (*on_append)(void *arg, uint64_t seq, uint64_t where), void *arg,
				  uint64_t *ret_seq);
/*
 * low(arg) is called, once, when half of a segment is written and the next one is not ready; it has somebody call
 * journal_prepare(), in the background, or returns false. Without it the append that finds its segment full makes the
 * next one, and all that come meanwhile wait for the disk with it. Before the first append.
 */
void journal_on_low(struct journal *j, bool (*low)(void *arg), void *arg);
void journal_prepare(struct journal *j);
/* Returns when everything up to seq is on the disk (0: everything appended before the call). -EIO. */
int must_check journal_commit(struct journal *j, uint64_t seq);
/* Reads data of a J_WRITE. `where` grows for ever (generation x segment size + offset), so that a segment that was
 * recycled meanwhile shows: -ESTALE, the bytes are in the log by now, look up again. */
int must_check journal_read(struct journal *j, uint64_t where, void *p, size_t n);
/* The same, but -EAGAIN instead of waiting for the disk. */
int must_check journal_read_now(struct journal *j, uint64_t where, void *p, size_t n);
/*
 * Everything up to seq is in the bucket (number: the log's committed). Segments that hold nothing newer become free.
 * Notes (number, seq) as a J_COMMITTED record when it frees a segment and at `force`, also after journal_wake(stop).
 */
int must_check journal_trim(struct journal *j, uint64_t number, uint64_t seq, bool force);
/*
 * Gives room back: all segments that nothing needs, but for the current one and another: whoever goes on writing to an idle
 * image is not refused because the disk has filled up meanwhile. to_note: where nothing needs any change, nothing stays but a header and
 * a note in a file of holes; the next change makes a segment anew. Waits for the disk. -EIO: broken; any other error: some
 * of it stayed.
 */
int must_check journal_shrink(struct journal *j, bool to_note);
/*
 * After opening, before the first append: the log holds everything up to seq. A journal that ends before (a power cut
 * took what the bucket had already) forgets what it has and goes on behind seq, so that no sequence is ever given
 * twice.
 */
int must_check journal_begin(struct journal *j, uint64_t seq);
/* After opening: the sequence of the first record that was replayed; 0: there was none. */
uint64_t journal_first(struct journal *j);
/*
 * The last record before that one which was not a J_COMMITTED: what is gone from the journal, and must be in the log.
 * Notes use up sequences, too, and no log ever has those.
 */
uint64_t journal_before(struct journal *j);
/*
 * Is there a change that is not known to be in the log? ret_sent: up to here all is, as notes, trims and
 * journal_begin() said; more may be.
 */
bool journal_has_unsent(struct journal *j, uint64_t *ret_sent);
/* Largest committed number that a replayed or appended J_COMMITTED named; 0: none. */
uint64_t journal_committed(struct journal *j);

struct journal_stat {
	uint64_t limit, used, appended, synced, trimmed; /* bytes; sequences */
	uint64_t appends, datasyncs;
	unsigned waiting; /* appends that wait for space */
	bool broken;
};
void journal_stat(struct journal *j, struct journal_stat *ret);
/* Wakes appends that wait for space; stop: they and all later ones give up with -ESHUTDOWN. */
void journal_wake(struct journal *j, bool stop);
/*
 * Moves every file aside (name: "aside-<time>"), for a journal whose image went on without it. The journal must be
 * closed.
 */
int must_check journal_set_aside(int dirfd, const struct jdisk *disk, char **ret_name);
/* The same for one that has nothing unsent: its files are removed, and their room is there again. */
int must_check journal_discard(int dirfd, const struct jdisk *disk);

#endif
