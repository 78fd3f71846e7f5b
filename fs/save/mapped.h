/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of a mapped-ram file that are not stream: bitmaps, pages, and the
 * padding between them. Inside fs/save.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "format/qemu/ramlist.h"
#include "fs/save/gather.h"
#include "fs/save/pool.h"

typedef struct SnapMapped SnapMapped;

/* Pages go to `gather`; memory is set aside from `pool`. `begin`: where in the
 * file the stream begins. Both are borrowed. */
SnapMapped *snap_mapped_new(SnapPool *pool, SnapGather *gather, uint64_t begin,
			    uint32_t target_page);
void snap_mapped_free(SnapMapped *m);

/* The parts of a block, which lie behind those of the blocks before it and not
 * before `from`. -EPROTO, -ENOMEM. */
int snap_mapped_add(SnapMapped *m, const struct snap_ram_block *block,
		    uint64_t from, GError **error);

/* Takes bytes of the file, as many as are of one part: their count. 0 where
 * `offset` is in none of them. -EPROTO with a sentence that names the offset,
 * -ENOMEM. */
ssize_t snap_mapped_write(SnapMapped *m, const void *data, size_t size,
			  uint64_t offset, GError **error);

/* The stream is complete; may more come? It may where a bitmap that came before
 * the pages, in a copy, has a bit for one that did not, and where some bitmaps
 * came and others did not: both may be holes, or not have been copied yet. */
bool snap_mapped_waits(const SnapMapped *m);

/* Does what came hang together? -EPROTO naming block and page. */
int snap_mapped_check(const SnapMapped *m, GError **error);

/* The last of a stream that is whole and was checked: pages that are not in the
 * bitmaps are zero. Where the bitmaps name none at all, as those that QEMU's
 * background snapshot leaves, they count as written: true then. */
bool snap_mapped_settle(SnapMapped *m);
