/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's disks, frozen at one moment: QEMU goes on in overlays, and the
 * images below them change no more.
 */
#pragma once

#include "tools/guest/qmp.h"
#include "tools/guest/vm.h"

/* Adds the guest's disks to vm->disks. Relative names are seen from
 * vm->folder. */
int snap_disks_list(SnapQmp *qmp, SnapVm *vm, GError **error);

/* Whether there are disks that the guest can write to. */
bool snap_disks_writable(const SnapVm *vm);

/* Chooses the overlay of each disk that can be written, in `folder`, or (NULL)
 * beside its image. -EINVAL where a disk cannot be frozen. */
int snap_disks_plan(SnapVm *vm, const char *folder, GError **error);

/* Freezes them all, or none. The guest is stopped. */
int snap_disks_freeze(SnapQmp *qmp, const SnapVm *vm, GError **error);

/* Undoes it: merges the overlays into the images and removes them. Where that
 * fails for a disk, says so on standard error, and leaves it on its overlay. */
void snap_disks_merge(SnapQmp *qmp, SnapVm *vm);

/* A name for people. */
const char *snap_disk_title(const SnapDisk *disk);

/* A new file's path: `image`'s name, `mark` and the time, in `folder` or (NULL)
 * beside it; g_free. NULL where there is no beside. */
char *snap_disk_new_path(const char *image, const char *mark,
			 const char *folder);
