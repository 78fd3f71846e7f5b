/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/identity.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
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

/* The SHA-256 of the last `most` bytes of a file of the folder; NULL if it has
 * none. */
static char *get_sum(int folder, const char *name, uint64_t most)
{
	struct stat st;
	snap_autofd int fd = snap_open_regular(folder, name, &st);
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
	g_autofree guchar *data = g_malloc(STEP);
	ssize_t n = STEP;
	uint64_t at;

	if (fd < 0)
		return NULL;
	at = (uint64_t)st.st_size - MIN((uint64_t)st.st_size, most);
	for (; n == (ssize_t)STEP; at += STEP) {
		n = snap_pread_all(fd, data, STEP, at);
		g_checksum_update(sum, data, MAX(n, 0));
	}
	return n < 0 ? NULL : g_strdup(g_checksum_get_string(sum));
}

static char *sum_devstate(int folder)
{
	return get_sum(folder, "devstate", UINT64_MAX);
}

/* At its end, a stream has the device state. */
static char *sum_stream_end(int folder)
{
	return get_sum(folder, "stream", SNAP_MIB);
}

void snap_identity_note(SnapVm *vm, int folder)
{
	vm->uuid = get_uuid(folder);
	vm->devstate = sum_devstate(folder);
	if (!vm->devstate)
		vm->stream_end = sum_stream_end(folder);
}

int snap_identity_check(const SnapVm *vm, int folder, const char *path,
			GError **error)
{
	const struct {
		const char *noted;
		char *(*get)(int folder);
	} marks[] = {
		{ vm->uuid, get_uuid },
		{ vm->devstate, sum_devstate },
		{ vm->stream_end, sum_stream_end },
	};
	bool differs = false;
	int r;

	for (guint i = 0; i < G_N_ELEMENTS(marks); i++) {
		g_autofree char *mark =
			marks[i].noted ? marks[i].get(folder) : NULL;

		if (mark && !strcmp(mark, marks[i].noted))
			return 0;
		differs = differs || mark;
	}
	if (differs)
		return snap_fail(error, ESTALE,
				 "%s/" SNAP_VM_FILE " is of another snapshot "
				 "than the one beside it: its disks and "
				 "command line would be wrong; remove it and "
				 "type a command line after --",
				 path);
	r = snap_trust_check(folder, path, NULL);
	if (r == -EPERM)
		return snap_fail(error, EPERM,
				 "%s/" SNAP_VM_FILE " does not say which "
				 "snapshot it is of, and another user can "
				 "exchange what lies in the folder; make the "
				 "folder yours and writable by you alone, or "
				 "remove " SNAP_VM_FILE,
				 path);
	return r < 0 ? snap_fail_errno(error, -r, "%s", path) : 0;
}
