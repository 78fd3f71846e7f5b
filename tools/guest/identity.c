/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/identity.h"

#include <errno.h>
#include <sys/xattr.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"
#include "tools/guest/trust.h"

#define UUID "user.snapfs.uuid"
#define UUID_MAX 64
#define STEP SNAP_MIB

/* The uuid of the folder's snapshot; NULL outside of a mount, where anybody
 * could have set it. */
static char *get_uuid(int folder)
{
	char text[UUID_MAX];
	ssize_t n = snap_trust_in_mount(folder)
			    ? fgetxattr(folder, UUID, text, sizeof(text))
			    : -1;

	return n > 0 && g_utf8_validate(text, n, NULL)
		       ? g_strndup(text, (gsize)n)
		       : NULL;
}

/* The SHA-256 of the folder's device state; NULL if it has no file for it. */
static char *get_sum(int folder)
{
	snap_autofd int fd = snap_open_regular(folder, "devstate", NULL);
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
	g_autofree guchar *data = g_malloc(STEP);
	ssize_t n = fd < 0 ? -1 : (ssize_t)STEP;

	for (uint64_t at = 0; n == (ssize_t)STEP; at += STEP) {
		n = snap_pread_all(fd, data, STEP, at);
		g_checksum_update(sum, data, MAX(n, 0));
	}
	return n < 0 ? NULL : g_strdup(g_checksum_get_string(sum));
}

void snap_identity_note(SnapVm *vm, int folder)
{
	vm->uuid = get_uuid(folder);
	vm->devstate = get_sum(folder);
}

int snap_identity_check(const SnapVm *vm, int folder, const char *path,
			GError **error)
{
	g_autofree char *uuid = vm->uuid ? get_uuid(folder) : NULL;
	g_autofree char *sum = NULL;
	int r;

	if (uuid && !g_strcmp0(uuid, vm->uuid))
		return 0;
	sum = vm->devstate ? get_sum(folder) : NULL;
	if (sum && !g_strcmp0(sum, vm->devstate))
		return 0;
	if (uuid || sum)
		return snap_fail(error, ESTALE,
				 "%s/" SNAP_VM_FILE " is of another snapshot "
				 "than the one beside it: its disks and "
				 "command line would be wrong; remove it and "
				 "type a command line after --",
				 path);
	r = snap_trust_check(folder, path, error);
	return r < 0 ? snap_fail_prefix(error, r,
					SNAP_VM_FILE " does not say which "
						     "snapshot it is of")
		     : 0;
}
