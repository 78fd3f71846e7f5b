/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs-bridge: what the command line says, and the two ways to serve. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "tools/bridge/folder.h"

/* What --precopy says, besides a number of percent. */
#define PRECOPY_NONE (-1)
#define PRECOPY_HOT (-2)

struct bridge_opts {
	const char *socket; /* NULL: standard input and output */
	bool resume;
	bool quiet;
	int precopy;
	GPtrArray *mapped;     /* names of blocks */
	GPtrArray *page_sizes; /* BLOCK=SIZE */
};

/* Serves a postcopy migration to its end. */
int bridge_serve(const struct bridge_opts *opts, Folder *f, GError **error);

/* Sends a plain stream without the pages of the mapped blocks. */
int bridge_send_plain(const struct bridge_opts *opts, Folder *f,
		      GError **error);
