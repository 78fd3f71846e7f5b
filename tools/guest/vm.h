/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm.json: what a revert needs besides the snapshot itself. It is an ordinary
 * file in the snapshot's folder.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SNAP_VM_FILE "vm.json"

/* A disk of the guest. */
typedef struct {
	char *device;	    /* name of the back end; "" if it has none */
	char *qdev;	    /* the guest's device; NULL if not known */
	char *node;	    /* name of the block node during the save */
	char *image;	    /* the frozen image; must not change any more */
	char *format;	    /* of the image */
	uint64_t size;	    /* of the disk in bytes; 0: not known */
	bool read_only;	    /* the guest cannot write to it */
	char *overlay;	    /* that the guest writes to since; or NULL */
	char *overlay_node; /* its block node during the save */
	GStrv chain;	    /* paths: the image, its backing image, and so on */
} SnapDisk;

/* A guest. */
typedef struct {
	char *qemu;	      /* version */
	char *machine;	      /* machine type with its version */
	char *run_state;      /* before the save */
	char *way;	      /* how it was saved: "background" or "stopped" */
	char *saved;	      /* time of the save, in UTC */
	char *uuid;	      /* of the snapshot; or NULL */
	char *devstate;	      /* SHA-256 of its device state; or NULL */
	char *stream_end;     /* SHA-256 of the last MiB of `stream`; or NULL */
	char *memory_id;      /* name of the main RAM block; NULL: not known */
	uint64_t memory_size; /* bytes of the main RAM block */
	GStrv capabilities;   /* of migration, during the save */
	GPtrArray *disks;     /* of SnapDisk */
	pid_t pid;	      /* of QEMU */
	char *folder;	      /* QEMU's working directory, or NULL */
	GStrv command;	      /* QEMU's command line, or NULL */
} SnapVm;

/* Makes an empty disk. */
SnapDisk *snap_disk_new(void);
void snap_disk_free(SnapDisk *disk);

/* Makes an empty guest. */
SnapVm *snap_vm_new(void);
void snap_vm_free(SnapVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapVm, snap_vm_free)

/* Tells whether the guest ran, or was suspended, before the save, and so is it
 * after a revert. */
bool snap_vm_ran(const SnapVm *vm);

/* Reads the command line and the working directory of process `pid`, as far as
 * /proc shows them; the command line only if `uid`, who runs the process, is
 * the caller or root. */
void snap_vm_read_command(SnapVm *vm, pid_t pid, uid_t uid);

/* Tells whether QEMU still runs: a process has its id and command line. */
bool snap_vm_is_running(const SnapVm *vm);

/* Writes vm.json into a folder, durably. Returns 0 or -errno. */
int snap_vm_write(const SnapVm *vm, int folder_fd, GError **error);

/* Reads vm.json from the open folder, whose path is `path`. Returns 0; -EPROTO
 * if it is damaged, -EPERM if another user could have written it; or -errno. */
int snap_vm_read(int folder, const char *path, SnapVm **ret_vm, GError **error);
