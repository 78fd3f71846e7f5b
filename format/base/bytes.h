/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integers in the bytes of files and streams.
 *
 * leNN and beNN are structs, not integers: they have alignment 1, need no
 * "packed", and a forgotten conversion does not compile. A snap_cursor reads
 * unchecked bytes and never leaves its bounds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint8_t b[2]; } le16;
typedef struct { uint8_t b[4]; } le32;
typedef struct { uint8_t b[8]; } le64;
typedef struct { uint8_t b[2]; } be16;
typedef struct { uint8_t b[4]; } be32;
typedef struct { uint8_t b[8]; } be64;

/* Two conversions per type: snap_le32(v) turns a field into an integer of the
 * host, snap_to_le32(n) does the reverse. */
#define SNAP_BYTES_DEFINE(type, host, swap)                                    \
	static inline host snap_##type(type v)                                 \
	{                                                                      \
		host n;                                                        \
		memcpy(&n, v.b, sizeof(n));                                    \
		return swap(n);                                                \
	}                                                                      \
	static inline type snap_to_##type(host n)                              \
	{                                                                      \
		type v;                                                        \
		n = swap(n);                                                   \
		memcpy(v.b, &n, sizeof(n));                                    \
		return v;                                                      \
	}

#define SNAP_SAME(n) (n)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SNAP_LE(bits) SNAP_SAME
#define SNAP_BE(bits) __builtin_bswap##bits
#else
#define SNAP_LE(bits) __builtin_bswap##bits
#define SNAP_BE(bits) SNAP_SAME
#endif

SNAP_BYTES_DEFINE(le16, uint16_t, SNAP_LE(16))
SNAP_BYTES_DEFINE(le32, uint32_t, SNAP_LE(32))
SNAP_BYTES_DEFINE(le64, uint64_t, SNAP_LE(64))
SNAP_BYTES_DEFINE(be16, uint16_t, SNAP_BE(16))
SNAP_BYTES_DEFINE(be32, uint32_t, SNAP_BE(32))
SNAP_BYTES_DEFINE(be64, uint64_t, SNAP_BE(64))

/* Reads a big-endian integer of 32 bits at any address. */
static inline uint32_t snap_get_be32(const void *data)
{
	be32 v;

	memcpy(&v, data, sizeof(v));
	return snap_be32(v);
}

/* Reads a big-endian integer of 64 bits at any address. */
static inline uint64_t snap_get_be64(const void *data)
{
	be64 v;

	memcpy(&v, data, sizeof(v));
	return snap_be64(v);
}

/* Bytes not yet read: [at, end). */
struct snap_cursor {
	const uint8_t *at;
	const uint8_t *end;
};

/* Makes a cursor over `size` bytes at `data`. */
static inline struct snap_cursor snap_cursor(const void *data, size_t size)
{
	const uint8_t *p = data;

	return (struct snap_cursor){ p, p + size };
}

/* The number of bytes not yet read. */
static inline size_t snap_cursor_left(const struct snap_cursor *c)
{
	return (size_t)(c->end - c->at);
}

/* Returns the next `size` bytes and steps over them; NULL, without a step,
 * where fewer are left. */
static inline const void *snap_cursor_take(struct snap_cursor *c, size_t size)
{
	const uint8_t *p = c->at;

	if (size > snap_cursor_left(c))
		return NULL;
	c->at += size;
	return p;
}

/* Copies the next `size` bytes to `ret` and steps over them. Returns false,
 * without a step, where fewer are left. */
static inline bool snap_cursor_copy(struct snap_cursor *c, void *ret,
				    size_t size)
{
	const void *p = snap_cursor_take(c, size);

	if (!p)
		return false;
	memcpy(ret, p, size);
	return true;
}
