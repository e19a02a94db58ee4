/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * crc32c.c - CRC-32C by the crc32 instruction (SSE 4.2), else eight tables ("slicing by 8").
 *
 * Both work on the reflected polynomial 0x82f63b78 with the register inverted on entry and exit, so a value may be
 * carried on with crc32c(crc, ...).
 *
 * The instruction takes three cycles and another one can start in each of them: three lanes of the input are done side
 * by side. A lane's register goes on over the zeros of the next lane's length (`skip`), and then its value is added.
 */
#include "config.h"
#include "crc32c.h"
#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u

enum { LANE = 1360 }; /* bytes: three of them are nearly a block of 4096 */

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
static uint32_t skip[4][256]; /* the register after LANE bytes of zeros, by each of its bytes */

static uint32_t skip_lane(uint32_t c)
{
	return skip[0][c & 255] ^ skip[1][c >> 8 & 255] ^ skip[2][c >> 16 & 255] ^ skip[3][c >> 24];
}

static void setup_skip(void)
{
	static const unsigned char zeros[LANE];

	for (int t = 0; t < 4; t++)
		for (uint32_t bit = 1; bit < 256; bit *= 2) {
			uint32_t c = by_table(bit << 8 * t, zeros, sizeof(zeros));

			for (uint32_t i = 0; i < bit; i++) /* linear: the sum of what its bits give */
				skip[t][bit + i] = skip[t][i] ^ c;
		}
}

static uint64_t word(const unsigned char *p)
{
	uint64_t w;

	memcpy(&w, p, 8);
	return w;
}

__attribute__((target("sse4.2"))) static uint32_t three_lanes(uint32_t c, const unsigned char *p)
{
	uint64_t x = c, y = 0, z = 0;

	for (size_t i = 0; i < LANE; i += 8) {
		x = __builtin_ia32_crc32di(x, word(p + i));
		y = __builtin_ia32_crc32di(y, word(p + LANE + i));
		z = __builtin_ia32_crc32di(z, word(p + 2 * LANE + i));
	}
	return skip_lane(skip_lane((uint32_t)x) ^ (uint32_t)y) ^ (uint32_t)z;
}

__attribute__((target("sse4.2"))) static uint32_t by_sse42(uint32_t c, const unsigned char *p, size_t n)
{
	uint64_t c64;

	for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE)
		c = three_lanes(c, p);
	c64 = c;
	while (n >= 8) {
		c64 = __builtin_ia32_crc32di(c64, word(p));
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
	if (__builtin_cpu_supports("sse4.2")) {
		setup_skip();
		impl = by_sse42;
	}
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
