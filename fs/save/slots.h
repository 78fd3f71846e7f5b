/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many saves may run at once: as many as have memory, and of one user's no
 * more than leaves some for others. Inside fs/save.
 */
#pragma once

#include "fs/save/pool.h"

typedef struct SnapSlots SnapSlots;

/* The memory of saves is reserved in `pool`, of `buffer` bytes; it is
 * borrowed. */
SnapSlots *snap_slots_new(SnapPool *pool, uint64_t buffer);
/* All slots must have been given back. */
void snap_slots_free(SnapSlots *slots);

/* Takes a slot for a save of the user `uid`. *ret_lean: it has little memory.
 * -EBUSY with a sentence. */
int snap_slots_take(SnapSlots *slots, uid_t uid, bool *ret_lean,
		    GError **error);
/* Gives it back. */
void snap_slots_give(SnapSlots *slots, uid_t uid, bool lean);
