/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The function of a fuzz target, for libFuzzer or main.c. It aborts when it
 * finds a fault, and returns 0. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
