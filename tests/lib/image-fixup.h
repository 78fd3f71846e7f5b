/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes the sums of a snapshot file right again after a test has changed some
 * of its bytes: what lies behind the sums gets tested too. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes over the tree from its leaves up, as far as places lie within the file,
 * then over trailer and superblock. */
void image_fixup(uint8_t *bytes, size_t size);

/* The same for a snapshot whose first parent is a file of these bytes, if it
 * has one: what it says of the parent becomes right, too. */
void image_fixup_child(uint8_t *bytes, size_t size, const uint8_t *parent,
		       size_t parent_size);
