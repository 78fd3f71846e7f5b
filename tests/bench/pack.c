/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/units.h"
#include "format/base/zero.h"

GPtrArray *pack_load(const char *path)
{
	snap_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	g_autoptr(GPtrArray) pages = g_ptr_array_new();
	struct stat st;
	uint8_t *data;

	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	data = mmap(NULL, (size_t)st.st_size, PROT_READ,
		    MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (data == MAP_FAILED)
		return NULL;
	for (off_t at = 0; at + SNAP_PAGE <= st.st_size; at += SNAP_PAGE)
		if (!snap_is_zero(data + at, SNAP_PAGE))
			g_ptr_array_add(pages, data + at);
	if (pages->len)
		return g_steal_pointer(&pages);
	errno = EINVAL;
	return NULL;
}
