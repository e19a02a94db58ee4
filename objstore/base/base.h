/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * base.h - attributes, arithmetic and ownership rules for the whole tree.
 *
 * Everything below objstore/base/ uses libc and pthreads only and may be included by every room.
 *
 * Errors: a function that can fail returns int, 0 (or a count) or -Exxx; out parameters come last, are named ret_x
 * and stay untouched on failure.
 * Ownership, unless a comment says otherwise: a pointer passed down is borrowed until the call returns; a field of a
 * request is borrowed until its done() ran; what a ret_x receives belongs to the caller; "take_x" passes ownership.
 */
#ifndef LSVD_BASE_H
#define LSVD_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#define must_check __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
/* A result that is ignored on purpose; the comment beside it says why. */
#define ignore(expr)                         \
	do {                                 \
		__auto_type ignored_ = (expr); \
		(void)ignored_;              \
	} while (0)

#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define KiB ((uint64_t)1024)
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)
#define NSEC_PER_SEC ((int64_t)1000000000)
#define NSEC_PER_MSEC ((int64_t)1000000)

/* Memory and descriptors may clean up by scope; locks never do (one explicit unlock, one exit). */
void base_freep(void *p);  /* free(*(void **)p) */
void base_closep(int *fd); /* close(*fd) when it is >= 0, errno kept */
#define _cleanup_free_ __attribute__((cleanup(base_freep)))
#define _cleanup_close_ __attribute__((cleanup(base_closep)))

/* Reads or writes all n bytes at off, riding out EINTR and short counts. 0 or -errno; read: -ENODATA at a short end. */
int must_check base_pread_all(int fd, void *buf, size_t n, uint64_t off);
/* The same from memory only: -EAGAIN where it would take the disk. */
int must_check base_pread_now(int fd, void *buf, size_t n, uint64_t off);
int must_check base_pwrite_all(int fd, const void *buf, size_t n, uint64_t off);

/* Fills p with n random bytes from the kernel; aborts when there are none. */
void base_random(void *p, size_t n);
/* n random bytes as 2n lower-case hex digits plus NUL. */
void base_random_hex(char *out, size_t n);

#endif
