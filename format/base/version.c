/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/version.h"

#include <glib.h>

char *snap_version(const char *program, snap_library *const *libraries)
{
	GString *text = g_string_new(program);

	g_string_append_printf(text, " " SNAPFS_VERSION "\nglib %u.%u.%u",
			       glib_major_version, glib_minor_version,
			       glib_micro_version);
	for (; *libraries; libraries++) {
		g_autofree char *library = (*libraries)();

		g_string_append_printf(text, ", %s", library);
	}
	g_string_append_c(text, '\n');
	return g_string_free(text, FALSE);
}
