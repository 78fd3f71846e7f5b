/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory of a guest, from which benchmarks take pages. */
#pragma once

#include <glib.h>

/* Maps the file at `path`, for as long as the program runs. Returns its pages
 * that are not zero, at least one, or NULL with errno. */
GPtrArray *pack_load(const char *path);
