/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of the machine's own file system, as both back ends know it: uring.c
 * writes in a way of its own, and does all else as file.c does.
 */
#pragma once

#include "format/store/store.h"

/* Written bytes are handed to the disk in pieces of this size, so that it works
 * while the file is written and not only at its end. */
#define SNAP_WRITEBACK ((uint64_t)8 << 20)

/* Begins the struct of a back end. */
struct snap_plain_file {
	SnapFile file; /* first */
	int fd;
	int dirfd;	/* where it was created; borrowed */
	char *name;	/* what to remove at close; NULL: nothing */
	bool is_stream; /* written front to back: write back early */
	uint64_t begun; /* writeback was begun up to here */
};

/* A reader's pread: all of `size` but at the end of the file. */
ssize_t snap_plain_pread(SnapFile *f, void *buf, size_t size, uint64_t offset);

/* Writes all of it, now; 0 or -errno. */
int snap_plain_write(int fd, const void *buf, size_t size, uint64_t offset);

/* The size of the file now. */
int snap_plain_size(SnapFile *f, uint64_t *ret_size);

/* rename and fsync of both folders. */
int snap_plain_publish(SnapFile *f, int dirfd, const char *name);

/* Closes the descriptor, removes what was not published, frees the struct. */
void snap_plain_close(SnapFile *f);

/* Makes of a new plain file one that is written through io_uring: takes over
 * what it holds and frees it. Untouched on failure. */
int snap_uring_file_new(struct snap_plain_file *plain, SnapFile **ret_file);
