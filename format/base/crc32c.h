/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), as in ext4, btrfs and iSCSI. It
 * detects every flipped bit and every burst of up to 32 bits. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continues the checksum `crc` (0 at first) over `size` bytes. Uses the
 * processor's instruction where there is one. */
uint32_t snap_crc32c(uint32_t crc, const void *data, size_t size);

/* The same by table, for every processor. */
uint32_t snap_crc32c_table(uint32_t crc, const void *data, size_t size);
