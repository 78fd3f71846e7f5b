/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every fuzz target defines, for libFuzzer or for main.c. It aborts when
 * something is wrong, and returns 0. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
