/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways to compute the same number: a table (256 entries, made once), and
 * the crc32 instruction of SSE 4.2. The instruction takes 8 bytes every third
 * cycle. That is far faster than a disk, so it is not interleaved.
 */
#include "format/base/crc32c.h"

#include <glib.h>
#include <string.h>

/* 0x1edc6f41 with its bits reversed (RFC 3720, 12.1). */
#define CRC32C_POLYNOMIAL 0x82f63b78u

static const uint32_t *crc_table(void)
{
	static uint32_t table[256];
	static gsize ready;

	if (g_once_init_enter(&ready)) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t n = i;

			for (int bit = 0; bit < 8; bit++)
				n = n >> 1 ^ (n & 1 ? CRC32C_POLYNOMIAL : 0);
			table[i] = n;
		}
		g_once_init_leave(&ready, 1);
	}
	return table;
}

uint32_t snap_crc32c_table(uint32_t crc, const void *data, size_t size)
{
	const uint32_t *table = crc_table();
	const uint8_t *p = data;

	crc = ~crc;
	while (size--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
crc_sse42(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t n = (uint32_t)~crc;

	for (; size >= 8; size -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, 8);
		n = __builtin_ia32_crc32di(n, word);
	}
	for (; size; size--)
		n = __builtin_ia32_crc32qi((uint32_t)n, *p++);
	return ~(uint32_t)n;
}
#endif

uint32_t snap_crc32c(uint32_t crc, const void *data, size_t size)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return crc_sse42(crc, data, size);
#endif
	return snap_crc32c_table(crc, data, size);
}
