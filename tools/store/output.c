/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"

bool snap_output_is_file(const char *name)
{
	struct stat st;

	return name && (stat(name, &st) < 0 || S_ISREG(st.st_mode));
}

/* Tells whether holes may be skipped: only at the end of a file, where no
 * older bytes are. */
static bool can_be_sparse(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	return flags >= 0 && !(flags & O_APPEND) && fstat(fd, &st) == 0 &&
	       S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == st.st_size;
}

/* Makes a temporary file in the folder of the output. Returns its descriptor.
 */
static int open_temporary(struct snap_output *o, mode_t mode)
{
	g_autofree char *folder = g_path_get_dirname(o->name);
	g_autofree char *uuid = g_uuid_string_random();
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	o->folder = snap_open_named(folder, O_PATH | O_DIRECTORY, 0);
	if (o->folder < 0)
		return o->folder;
	o->final = g_path_get_basename(o->name);
	o->temporary = g_strdup_printf("%s.%.8s", o->final, uuid);
	fd = snap_open_below(o->folder, o->temporary,
			     O_WRONLY | O_CREAT | O_EXCL, mode & ~mask);
	if (fd < 0)
		g_clear_pointer(&o->temporary, g_free);
	return fd;
}

int snap_output_open(struct snap_output *o, const char *name, mode_t mode,
		     GError **error)
{
	*o = (struct snap_output)SNAP_OUTPUT_NONE;
	o->name = name ? name : "standard output";
	if (name && !*name)
		return snap_fail(error, EINVAL, "the output's name is empty");
	if (!name)
		o->fd = STDOUT_FILENO;
	else if (snap_output_is_file(name))
		o->fd = open_temporary(o, mode);
	else
		o->fd = snap_open_named(name, O_WRONLY, 0);
	if (o->fd < 0)
		return snap_fail_errno(error, -o->fd, "%s", o->name);
	o->sparse = can_be_sparse(o->fd);
	return 0;
}

int snap_output_finish(struct snap_output *o, GError **error)
{
	if (!o->temporary)
		return 0;
	if (fdatasync(o->fd) < 0 ||
	    renameat(o->folder, o->temporary, o->folder, o->final) < 0)
		return snap_fail_errno(error, errno, "%s", o->name);
	g_clear_pointer(&o->temporary, g_free);
	return 0;
}

void snap_output_close(struct snap_output *o)
{
	if (o->temporary)
		unlinkat(o->folder, o->temporary, 0);
	g_free(o->temporary);
	g_free(o->final);
	snap_close_fd(&o->folder);
	if (o->fd >= 0 && o->fd != STDOUT_FILENO)
		close(o->fd);
}
