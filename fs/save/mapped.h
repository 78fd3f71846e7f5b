/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of a mapped-ram file that are not the stream: bitmaps, pages, and
 * the padding between them. Inside fs/save.
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

/* Pages go to `gather`, memory is reserved in `pool`; both are borrowed.
 * `begin`: the offset in the file where the stream begins. `target_page`: bytes
 * of a page. */
SnapMapped *snap_mapped_new(SnapPool *pool, SnapGather *gather, uint64_t begin,
			    uint32_t target_page);
void snap_mapped_free(SnapMapped *m);

/* Adds the bitmap and pages of a block. They must follow those of all earlier
 * blocks and not begin before the offset `from`. Returns 0, -EPROTO,
 * -EOPNOTSUPP or -ENOMEM. */
int snap_mapped_add(SnapMapped *m, const struct snap_ram_block *block,
		    uint64_t from, GError **error);

/* Takes the bytes that belong to one part. Returns their number, 0 where
 * `offset` is in no part, -EPROTO with a sentence that names the offset, or
 * -ENOMEM. */
ssize_t snap_mapped_write(SnapMapped *m, const void *data, size_t size,
			  uint64_t offset, GError **error);

/* The stream is complete: true when more pages or bitmaps may still come. In a
 * copy a missing page or bitmap is either a hole or not yet copied. So this is
 * true while a bitmap that came before the pages names a page that is missing,
 * and while some bitmaps are there and others are not. */
bool snap_mapped_waits(const SnapMapped *m);

/* Checks that bitmaps and pages agree. Returns 0, or -EPROTO with a sentence
 * that names block and page. */
int snap_mapped_check(const SnapMapped *m, GError **error);

/* Ends a complete stream that snap_mapped_check() accepted: pages that no
 * bitmap names become zero. If the bitmaps name no page at all, as QEMU's
 * background snapshot leaves them, all written pages count, and this returns
 * true. */
bool snap_mapped_finish(SnapMapped *m);
