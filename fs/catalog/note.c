/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why the last save into a folder failed: a small text beside it. */
#include "fs/catalog/catalog.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"

#define NOTE_MAX 4096

void snap_catalog_note(int folder_fd, const char *sentence)
{
	snap_autofd int fd = -1;
	size_t size;

	if (!sentence) {
		unlinkat(folder_fd, SNAP_CATALOG_ERROR, 0);
		return;
	}
	fd = openat(folder_fd, SNAP_CATALOG_ERROR,
		    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK |
			    O_CLOEXEC,
		    0644);
	size = MIN(strlen(sentence), NOTE_MAX);
	if (fd < 0 || write(fd, sentence, size) < 0)
		return;
}

char *snap_catalog_noted(int folder_fd)
{
	snap_autofd int fd =
		openat(folder_fd, SNAP_CATALOG_ERROR,
		       O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char text[NOTE_MAX + 1];
	ssize_t n = fd < 0 ? -1 : read(fd, text, NOTE_MAX);

	if (n <= 0)
		return NULL;
	text[n] = '\0';
	g_strchomp(text);
	return *text ? g_strdup(text) : NULL;
}
