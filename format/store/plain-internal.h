/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of the machine's own file system. uring.c writes it in its own way and
 * uses plain.c for all other operations.
 */
#pragma once

#include "format/store/store.h"

/* The kernel is asked to write to the disk after each piece of this many bytes,
 * so that the disk works during the save and not only at its end. */
#define SNAP_WRITEBACK ((uint64_t)8 << 20)

/* Begins the struct of a back end. */
struct snap_plain_file {
	SnapFile file; /* first */
	int fd;
	int dirfd;	 /* the folder of both names; borrowed */
	char *name;	 /* to remove at close: not published; or NULL */
	char *companion; /* to remove at close, or NULL */
	bool is_stream;	 /* written front to back: write back early */
	uint64_t begun;	 /* writeback was begun up to this offset */
};

/* Makes a file of a descriptor, which the file owns from then on. */
struct snap_plain_file *snap_plain_new(int fd);

/* The operations of the plain back end; store.h describes them. */
ssize_t snap_plain_pread(SnapFile *f, void *buf, size_t size, uint64_t offset);
int snap_plain_size(SnapFile *f, uint64_t *ret_size);
int snap_plain_publish(SnapFile *f, int dirfd, const char *name);
void snap_plain_close(SnapFile *f);
