/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that has the kernel write a growing file to the disk, and that knows
 * how much of it is there. Inside format/store.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

/* The thread begins to write whenever so many more bytes have arrived, so that
 * the disk works during the save and not only at its end. */
#define SNAP_WRITEBACK ((uint64_t)8 << 20)

typedef struct SnapWriteback SnapWriteback;

/* Starts the thread for a file that was opened once more for this, and takes
 * over the descriptor. Returns NULL where no thread can be started. */
SnapWriteback *snap_writeback_new(int fd);
/* Ends the thread. May wait until the disk has SNAP_WRITEBACK bytes more. NULL
 * is fine. */
void snap_writeback_free(SnapWriteback *w);

/* Says that all bytes before the offset `end` are in the kernel's page cache.
 * Offsets never go back. Calls come one at a time. */
void snap_writeback_arrived(SnapWriteback *w, uint64_t end);

/* The offset before which all bytes were written to the disk, as far as is
 * known. Any thread. */
uint64_t snap_writeback_on_disk(const SnapWriteback *w);
