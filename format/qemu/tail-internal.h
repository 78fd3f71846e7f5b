/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds the end of the device state, which has no length (tail.c). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of the device state that was seen so far. Zeroed: nothing was
 * seen. */
struct snap_tail {
	uint64_t at;	    /* bytes seen */
	uint64_t window;    /* the last 8 bytes; the newest is the lowest */
	uint64_t text;	    /* where the description's text begins */
	uint64_t text_end;  /* where it ends; 0: no description was seen */
	uint32_t ids[2048]; /* a bit for each id that a FULL may have had */
};

/* Takes the next `size` bytes of the device state. */
void snap_tail_see(struct snap_tail *t, const uint8_t *data, size_t size);

/* True when the bytes seen end in a complete description. */
bool snap_tail_described(const struct snap_tail *t);

/* True when the bytes seen end in the footer of a device's section and the end
 * mark. */
bool snap_tail_ended(const struct snap_tail *t);
