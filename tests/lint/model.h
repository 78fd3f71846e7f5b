/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the static analyser cannot see from one file alone, and would take for
 * possible: that snap_fail() and its like return something that is not
 * negative. It is included before each file that is analysed. */
#pragma once

#include "format/base/error.h"

/* Some number; nothing defines this. */
int snap_model_any(void);

/* Some negative number. */
static inline int snap_model_negative(void)
{
	int n = snap_model_any();

	if (n >= 0)
		__builtin_unreachable();
	return n;
}

#define snap_fail(error, code, ...)                                            \
	(snap_fail(error, code, __VA_ARGS__), snap_model_negative())
#define snap_fail_errno(error, code, ...)                                      \
	(snap_fail_errno(error, code, __VA_ARGS__), snap_model_negative())
#define snap_fail_prefix(error, code, ...)                                     \
	(snap_fail_prefix(error, code, __VA_ARGS__), code)
