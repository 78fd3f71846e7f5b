/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raises the kernel's readahead once the mount answers.
 *
 * The kernel reads 128 KiB ahead, and a FUSE server can only lower that. A
 * process of root can raise it in /sys, under the device number of the mount.
 * The number is read from /proc, because the mount does not answer yet. The
 * file in /sys is opened early, while the process may, and written when the
 * kernel has taken the server's own limit.
 */
#include "fs/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"

/* Undoes the octal escapes of /proc/self/mountinfo, in place. */
static void unescape(char *text)
{
	char *to = text;
	unsigned byte;

	for (const char *p = text; *p;) {
		if (*p == '\\' && sscanf(p + 1, "%3o", &byte) == 1) {
			*to++ = (char)byte;
			p += 4;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
}

/* The number of the device mounted last at `point`, as "0:42". */
static bool find_device(const char *point, char ret[32])
{
	g_autofree char *text = NULL;
	g_auto(GStrv) lines = NULL;
	bool found = false;

	if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
		return false;
	lines = g_strsplit(text, "\n", -1);
	for (char **line = lines; *line; line++) {
		g_auto(GStrv) words = g_strsplit(*line, " ", 6);

		if (g_strv_length(words) < 6 ||
		    !strstr(words[5], " - fuse.snapfs "))
			continue;
		unescape(words[4]);
		if (strcmp(words[4], point))
			continue;
		g_strlcpy(ret, words[2], 32);
		found = true;
	}
	return found;
}

void snap_ready_prepare(const char *point, struct snap_ready *ret)
{
	unsigned high = 0, low = 0;
	char device[32], path[128];

	*ret = (struct snap_ready){ .readahead_fd = -1 };
	if (!find_device(point, device) ||
	    sscanf(device, "%u:%u", &high, &low) != 2)
		return;
	ret->device = makedev(high, low);
	if (geteuid() != 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", device);
	ret->readahead_fd = snap_open_named(path, O_WRONLY, 0);
}

int snap_ready_wait(const char *point, struct snap_ready *ready)
{
	snap_autofd int fd = snap_steal_fd(&ready->readahead_fd);
	struct statfs fs;
	struct stat st;
	char text[16];
	int n = snprintf(text, sizeof(text), "%u\n", SNAP_REQUEST_MAX / 1024);

	/* The server notes both (snap_request_note_top()). */
	if (statfs(point, &fs) < 0 || stat(point, &st) < 0)
		return -errno;
	if (fd >= 0 && write(fd, text, (size_t)n) < 0)
		return 0; /* best effort */
	return 0;
}
