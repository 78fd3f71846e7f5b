/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vm.json: what a revert needs beside the memory, as an ordinary file in the
 * snapshot's folder.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SNAP_VM_FILE "vm.json"

/* A disk of the guest. */
typedef struct {
	char *device; /* the back end's name; "" where it has none */
	char *qdev;   /* the device in the guest; NULL when not known */
	char *node;   /* the block node's name, while the guest was saved */
	char *image;  /* that holds the disk as it was, and must not change */
	char *format;
	bool read_only;
	char *overlay;	    /* that the guest went on with; NULL for none */
	char *overlay_node; /* its block node, while it is saved */
	GStrv chain;	    /* the image, the one it lies over, and so on */
} SnapDisk;

/* A guest. */
typedef struct {
	char *qemu;	 /* version */
	char *machine;	 /* type, with its version */
	char *run_state; /* before the save */
	char *way;	 /* "background" or "stopped" */
	char *saved;	 /* when, UTC */
	char *memory_id; /* name of the main RAM block; NULL: not known */
	uint64_t memory_size;
	GStrv capabilities; /* of migration, as set for the save */
	GPtrArray *disks;   /* of SnapDisk */
	pid_t pid;	    /* of QEMU */
	char *folder;	    /* its working directory, or NULL */
	GStrv command;	    /* its command line, or NULL */
} SnapVm;

SnapDisk *snap_disk_new(void);
void snap_disk_free(SnapDisk *disk);

SnapVm *snap_vm_new(void);
void snap_vm_free(SnapVm *vm);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapVm, snap_vm_free)

/* Whether it was saved while it ran, so that it runs when it is back. */
bool snap_vm_ran(const SnapVm *vm);

/* Takes down the command line and the working directory of a QEMU, if they can
 * be read, and `uid`, which it runs as, is the caller's or root. */
void snap_vm_take_command(SnapVm *vm, pid_t pid, uid_t uid);

/* Whether a process with the same id and command line is there still. */
bool snap_vm_lives(const SnapVm *vm);

/* Writes vm.json into a folder: all of it, on disk, or -errno. */
int snap_vm_write(const SnapVm *vm, const char *folder, GError **error);

/* Reads it from a folder: -ENOENT where there is none, -EPROTO where it is not
 * one, -EPERM where somebody else could have written it. */
int snap_vm_read(const char *folder, SnapVm **ret_vm, GError **error);
