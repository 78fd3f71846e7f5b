/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/error.h"

G_DEFINE_QUARK(snap - error - quark, snap_error)

int snap_fail(GError **error, int code, const char *format, ...)
{
	va_list args;

	if (!error)
		return -code;
	va_start(args, format);
	*error = g_error_new_valist(SNAP_ERROR, code, format, args);
	va_end(args);
	return -code;
}

int snap_fail_errno(GError **error, int code, const char *format, ...)
{
	g_autofree char *sentence = NULL;
	va_list args;

	if (!error)
		return -code;
	va_start(args, format);
	sentence = g_strdup_vprintf(format, args);
	va_end(args);
	return snap_fail(error, code, "%s: %s", sentence, g_strerror(code));
}

int snap_fail_prefix(GError **error, int code, const char *format, ...)
{
	g_autofree char *prefix = NULL;
	va_list args;

	if (!error || !*error)
		return code;
	va_start(args, format);
	prefix = g_strdup_vprintf(format, args);
	va_end(args);
	g_prefix_error(error, "%s: ", prefix);
	return code;
}
