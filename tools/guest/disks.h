/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Freezes the guest's disks, all at one moment: QEMU puts an overlay over each
 * image and writes only there.
 */
#pragma once

#include "tools/guest/qmp.h"
#include "tools/guest/vm.h"

/* Adds the guest's disks to vm->disks. Relative paths start at vm->folder.
 * Returns 0 or -errno. */
int snap_disks_list(SnapQmp *qmp, SnapVm *vm, GError **error);

/* Tells whether the guest can write to any of its disks. */
bool snap_disks_writable(const SnapVm *vm);

/* Chooses an overlay for each writable disk, in `folder` or (NULL) beside its
 * image. Returns 0, or -EINVAL if a disk cannot be frozen. */
int snap_disks_plan(SnapVm *vm, const char *folder, GError **error);

/* Freezes all disks, or none; the guest must be stopped. Returns 0 or -errno.
 */
int snap_disks_freeze(SnapQmp *qmp, const SnapVm *vm, GError **error);

/* Merges the overlays into their images and removes them. If that fails for a
 * disk, prints an error, and the guest keeps its overlay. */
void snap_disks_merge(SnapQmp *qmp, SnapVm *vm);

/* Makes the line "disk X: frozen in A, continues in B"; NULL if the disk was
 * not frozen; g_free. */
char *snap_disk_summary(const SnapDisk *disk);

/* Gets the name of a disk for people. */
const char *snap_disk_title(const SnapDisk *disk);

/* Makes the path of a new overlay from the image's name, `mark` and the time;
 * in `folder`, or (NULL) beside the image; g_free. Returns NULL with an error
 * if the image is not a file and `folder` is NULL. */
char *snap_disk_overlay_path(const SnapDisk *disk, const char *mark,
			     const char *folder, GError **error);
