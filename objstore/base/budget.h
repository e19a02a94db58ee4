/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * budget.h - the memory= ceiling over all buffers. One object handed down, no global.
 *
 * Who holds memory that could be given back (prefetched data nobody waits for) registers a reclaimer; it is called
 * without the budget's lock when a taker would have to wait.
 */
#ifndef LSVD_BUDGET_H
#define LSVD_BUDGET_H

#include "base.h"

struct budget;

int must_check budget_new(uint64_t bytes, struct budget **ret);
void budget_free(struct budget *b); /* all taken bytes must be back */
/* Takes n bytes, waits while there are none. n above the ceiling is let through alone (waits for an empty budget). */
void budget_take(struct budget *b, uint64_t n);
bool budget_try(struct budget *b, uint64_t n);
void budget_give(struct budget *b, uint64_t n);
/*
 * Memory for n bytes that were taken (NULL: none; they stay taken), and both back at once. The last few large buffers are
 * kept while others are in use, inside the ceiling: a stream of parts then touches the same pages again and again.
 */
void *budget_buf(struct budget *b, size_t n);
void budget_buf_free(struct budget *b, void *p, size_t n);
uint64_t budget_kept(struct budget *b); /* bytes of such buffers; beside budget_used() */
uint64_t budget_used(struct budget *b);
uint64_t budget_peak(struct budget *b);
uint64_t budget_total(struct budget *b);
/* fn tries to free about n bytes (by budget_give), returns how many it freed; may be called from any thread. */
void budget_set_reclaim(struct budget *b, uint64_t (*fn)(void *arg, uint64_t n), void *arg);

#endif
