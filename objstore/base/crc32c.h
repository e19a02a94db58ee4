/* SPDX-License-Identifier: GPL-3.0-or-later */
/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4); SSE 4.2 where the machine has it, tables otherwise. */
#ifndef LSVD_CRC32C_H
#define LSVD_CRC32C_H

#include "base.h"

/* Continues from crc (0 to start). */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same without the instruction; for tests. */
uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n);

#endif
