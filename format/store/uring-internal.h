/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The back end that writes through io_uring. */
#pragma once

#include "format/store/plain-internal.h"

/* Turns a new plain file into one that is written through io_uring, and frees
 * the plain struct. Returns 0, or -errno; then the plain file is as it was. */
int snap_uring_file_new(struct snap_plain_file *plain, SnapFile **ret_file);
