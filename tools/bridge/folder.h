/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folder of a snapshot, mounted or copied: `ram`, `devstate` and `hot`, by
 * plain file calls. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "format/qemu/postcopy.h"

typedef struct Folder {
	char *path;
	SnapPostcopy *post; /* what `devstate` says */
	int ram_fd;
} Folder;

void folder_free(Folder *f);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Folder, folder_free)

/* Opens the folder `path` and checks that `ram` holds all that `devstate`
 * lists. */
int folder_open(const char *path, Folder **ret_folder, GError **error);

/* The block of that name; -EINVAL with a sentence that names those there are.
 */
int folder_find_block(const Folder *f, const char *name, GError **error);

/* Reads `hot`; empty where there is none that can be read. */
GArray *folder_read_hot(const Folder *f);

/* Replaces `hot` as a whole; where that cannot be, it stays as it was. */
void folder_write_hot(const Folder *f, const GArray *runs);
