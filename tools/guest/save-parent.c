/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/save-parent.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "format/base/asked.h"
#include "format/base/error.h"
#include "tools/store/place.h"

/* Sets the error that the mount cannot be told of the parent. */
static int fail_to_ask(const char *parent, int code, GError **error)
{
	if (code == EOPNOTSUPP)
		return snap_fail(error, code,
				 "--parent=%s: the store's file system makes "
				 "no hard links or keeps no extended "
				 "attributes; this needs both",
				 parent);
	return snap_fail_errno(error, code, "--parent=%s", parent);
}

int snap_save_parent_set(SnapSaveFolder *folder, const char *parent,
			 GError **error)
{
	g_autofree char *uuid = snap_folder_attribute(parent, "uuid");
	g_autoptr(SnapPlace) to = NULL, from = NULL;
	int r = snap_place_find(folder->path, &to, error);

	if (r == 0)
		r = snap_place_find(parent, &from, error);
	if (r < 0)
		return r;
	g_assert(to && from);
	if (!to->mount || !from->mount || strcmp(to->mount, from->mount))
		return snap_fail(error, EINVAL,
				 "--parent=%s: it is not in the mount of %s",
				 parent, folder->path);
	if (!uuid || !*from->within)
		return snap_fail(error, ENOENT, "--parent=%s: no snapshot",
				 parent);
	if (fsetxattr(folder->fd, SNAP_PARENT_ATTRIBUTE, from->within,
		      strlen(from->within), 0) < 0)
		return fail_to_ask(parent, errno, error);
	folder->has_parent = true;
	return 0;
}
