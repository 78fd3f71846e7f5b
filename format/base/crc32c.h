/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), as ext4, btrfs and iSCSI use it:
 * every single flipped bit, and every burst of up to 32, changes it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes on with `crc` (0 at first) over `size` bytes; uses the processor's own
 * instruction where there is one. */
uint32_t snap_crc32c(uint32_t crc, const void *data, size_t size);

/* The reference, by table, for every processor. */
uint32_t snap_crc32c_table(uint32_t crc, const void *data, size_t size);
