/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crc32c.c - CRC-32C by the crc32 instruction (SSE 4.2), else eight tables ("slicing by 8").
 *
 * Both work on the reflected polynomial 0x82f63b78 with the register inverted on entry and exit, so a value may be
 * carried on with crc32c(crc, ...).
 */
#include "config.h"
#include "crc32c.h"
#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u

static uint32_t tab[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint32_t (*impl)(uint32_t c, const unsigned char *p, size_t n);

static uint32_t by_table(uint32_t c, const unsigned char *p, size_t n)
{
	while (n >= 8) {
		uint32_t a = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);

		c = tab[7][a & 255] ^ tab[6][a >> 8 & 255] ^ tab[5][a >> 16 & 255] ^ tab[4][a >> 24] ^ tab[3][p[4]] ^
		    tab[2][p[5]] ^ tab[1][p[6]] ^ tab[0][p[7]];
		p += 8;
		n -= 8;
	}
	while (n-- > 0)
		c = tab[0][(c ^ *p++) & 255] ^ c >> 8;
	return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_sse42(uint32_t c, const unsigned char *p, size_t n)
{
	uint64_t c64 = c;

	while (n >= 8) {
		uint64_t w;

		memcpy(&w, p, 8);
		c64 = __builtin_ia32_crc32di(c64, w);
		p += 8;
		n -= 8;
	}
	c = (uint32_t)c64;
	while (n-- > 0)
		c = __builtin_ia32_crc32qi(c, *p++);
	return c;
}
#endif

static void setup(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ POLY : c >> 1;
		tab[0][i] = c;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int t = 1; t < 8; t++)
			tab[t][i] = tab[0][tab[t - 1][i] & 255] ^ tab[t - 1][i] >> 8;
	impl = by_table;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		impl = by_sse42;
#endif
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
	(void)pthread_once(&once, setup);
	return ~impl(~crc, p, n);
}

uint32_t crc32c_by_table(uint32_t crc, const void *p, size_t n)
{
	(void)pthread_once(&once, setup);
	return ~by_table(~crc, p, n);
}
