/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folder of a snapshot; see folder.h. */
#include "tools/bridge/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/qemu/hot.h"

/* A mount learns from who reads `ram` what a guest needs first, and reads ahead
 * for who reads it in order. The bridge knows better, and says so by O_NOATIME:
 * what is read ahead takes the processors from what the guest waits for. */
static int open_file(const char *path, struct stat *ret_st, int *ret_fd,
		     GError **error)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
	snap_autofd int fd = open(path, flags | O_NOATIME);

	if (fd < 0 && errno == EPERM)
		fd = open(path, flags);
	if (fd < 0 || fstat(fd, ret_st) < 0)
		return snap_fail_errno(error, errno, "%s", path);
	if (!S_ISREG(ret_st->st_mode))
		return snap_fail(error, EINVAL, "%s is not a file", path);
	*ret_fd = snap_steal_fd(&fd);
	return 0;
}

static int open_devstate(Folder *f, GError **error)
{
	g_autofree char *path = g_build_filename(f->path, "devstate", NULL);
	g_autoptr(GError) cause = NULL;
	snap_autofd int fd = -1;
	struct stat st;
	char *state;
	gsize size;
	int r;

	r = open_file(path, &st, &fd, error);
	if (r < 0)
		return r;
	if (!g_file_get_contents(path, &state, &size, &cause))
		return snap_fail(error, EIO, "%s", cause->message);
	r = snap_postcopy_new((uint8_t *)state, size,
			      (uint32_t)sysconf(_SC_PAGESIZE), &f->post, error);
	return snap_fail_prefix(error, r, "%s", path);
}

static int open_ram(Folder *f, GError **error)
{
	g_autofree char *path = g_build_filename(f->path, "ram", NULL);
	uint64_t size = snap_postcopy_info(f->post)->ram.flat_size;
	struct stat st;
	int r;

	r = open_file(path, &st, &f->ram_fd, error);
	if (r < 0)
		return r;
	if ((uint64_t)st.st_size < size)
		return snap_fail(error, EBADMSG,
				 "%s has %" PRIu64 " bytes, but the devstate "
				 "beside it lists RAM of %" PRIu64,
				 path, (uint64_t)st.st_size, size);
	(void)posix_fadvise(f->ram_fd, 0, 0, POSIX_FADV_RANDOM);
	return 0;
}

void folder_free(Folder *f)
{
	if (!f)
		return;
	snap_close_fd(&f->ram_fd);
	snap_postcopy_free(f->post);
	g_free(f->path);
	g_free(f);
}

int folder_open(const char *path, Folder **ret_folder, GError **error)
{
	g_autoptr(Folder) f = g_new0(Folder, 1);
	int r;

	f->path = g_strdup(path);
	f->ram_fd = -1;
	r = open_devstate(f, error);
	if (r == 0)
		r = open_ram(f, error);
	if (r < 0)
		return r;
	*ret_folder = g_steal_pointer(&f);
	return 0;
}

int folder_find_block(const Folder *f, const char *name, GError **error)
{
	const struct snap_ramlist *ram = &snap_postcopy_info(f->post)->ram;
	g_autoptr(GString) names = g_string_new(NULL);
	int block = snap_ramlist_find(ram, name, strlen(name));

	if (block >= 0)
		return block;
	for (guint i = 0; i < ram->n; i++)
		g_string_append_printf(names, "%s%s", i ? ", " : "",
				       ram->blocks[i].name);
	return snap_fail(error, EINVAL,
			 "there is no RAM block \"%s\"; there are: %s", name,
			 names->str);
}

GArray *folder_read_hot(const Folder *f)
{
	g_autofree char *path = g_build_filename(f->path, "hot", NULL);
	g_autofree char *text = NULL;
	snap_autofd int fd = -1;
	struct stat st;
	size_t size = 0;
	ssize_t n = 0;

	if (open_file(path, &st, &fd, NULL) == 0) {
		size = MIN((size_t)st.st_size, SNAP_HOT_SIZE_MAX);
		text = g_malloc(size + 1);
		n = pread(fd, text, size, 0);
	}
	return snap_hot_parse(text, n > 0 ? (size_t)n : 0,
			      &snap_postcopy_info(f->post)->ram);
}

void folder_write_hot(const Folder *f, const GArray *runs)
{
	g_autofree char *path = g_build_filename(f->path, "hot", NULL);
	g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
	g_autofree char *text =
		snap_hot_format(runs, &snap_postcopy_info(f->post)->ram);
	size_t size = strlen(text);
	int fd = mkostemp(temporary, O_CLOEXEC);
	bool good;

	if (fd < 0)
		return;
	good = write(fd, text, size) == (ssize_t)size && fchmod(fd, 0644) == 0;
	good = close(fd) == 0 && good;
	if (!good || rename(temporary, path) < 0)
		(void)unlink(temporary);
}
