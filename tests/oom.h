/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * oom.h - the n-th allocation fails, once. For one file of a program that is linked with --wrap of the five; OOM_SCOPE
 * before it: _Thread_local counts those of the thread that sets `left`, nothing those of all threads.
 */
#ifndef LSVDFS_TESTS_OOM_H
#define LSVDFS_TESTS_OOM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

static OOM_SCOPE _Atomic long left; /* allocations until the one that fails; 0 = none does */
static OOM_SCOPE _Atomic bool failed;

static bool fails(void)
{
	if (atomic_load(&left) == 0 || atomic_fetch_sub(&left, 1) != 1)
		return false;
	failed = true;
	return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *z);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *z);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *z)
{
	return fails() ? NULL : __real_strdup(z);
}

#endif
