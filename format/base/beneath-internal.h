/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For the test of both ways of opening. */
#pragma once

#include <stdbool.h>

/* Chooses whether openat2(2) is tried. It is unless this says otherwise. */
void snap_open_below_try_openat2(bool use);
