/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why the last save into a folder failed: a small text file in that folder. */
#include "fs/catalog/catalog.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/fileio.h"

#define NOTE_MAX 4096

void snap_catalog_note(int folder_fd, const char *sentence)
{
	snap_autofd int fd = -1;

	/* A new file, for another user may have put any file there. */
	unlinkat(folder_fd, SNAP_CATALOG_ERROR, 0);
	if (!sentence)
		return;
	fd = snap_open_below(folder_fd, SNAP_CATALOG_ERROR,
			     O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd >= 0)
		snap_write_all(fd, sentence, MIN(strlen(sentence), NOTE_MAX));
}

char *snap_catalog_noted(int folder_fd)
{
	g_autofree char *text = NULL;

	if (snap_read_file(folder_fd, SNAP_CATALOG_ERROR, NOTE_MAX, &text,
			   NULL) < 0)
		return NULL;
	g_strchomp(text);
	return *text ? g_steal_pointer(&text) : NULL;
}
