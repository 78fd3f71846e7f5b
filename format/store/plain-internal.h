/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of the machine's own file system. uring.c writes it in its own way and
 * uses plain.c for all other operations.
 */
#pragma once

#include "format/store/store.h"
#include "format/store/writeback.h"

/* Begins the struct of a back end. */
struct snap_plain_file {
	SnapFile file; /* first */
	int fd;
	int dirfd;	 /* the folder of both names; borrowed */
	char *name;	 /* to remove at close: not published; or NULL */
	char *companion; /* to remove at close, or NULL */
	bool is_stream;	 /* written front to back: write back early */
	SnapWriteback *writeback; /* NULL for a small file */
};

/* Makes a file of a descriptor, which the file owns from then on. */
struct snap_plain_file *snap_plain_new(int fd);

/* Says that all bytes before the offset `end` are in the kernel's page
 * cache. */
void snap_plain_arrived(struct snap_plain_file *p, uint64_t end);

/* The operations of the plain back end; store.h describes them. */
ssize_t snap_plain_pread(SnapFile *f, void *buf, size_t size, uint64_t offset);
int snap_plain_size(SnapFile *f, uint64_t *ret_size);
int snap_plain_publish(SnapFile *f, int dirfd, const char *name);
uint64_t snap_plain_on_disk(SnapFile *f);
void snap_plain_close(SnapFile *f);
