/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The smallest FUSE file system with something to read: one file, "ram", which
 * holds what another file holds. All of it lies in this program's memory, so
 * that a read costs no more than FUSE itself: what a snapshot could reach at
 * best. Holes take no memory. It runs until it is unmounted.
 *
 * usage: memory-file FILE MOUNTPOINT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/serve.h"

#define NAME "ram"
#define INODE 2
#define FOREVER 1e9

static struct {
	char *data;
	off_t size;
} memory;

static void die(const char *what)
{
	fprintf(stderr, "memory-file: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- what the file holds ---- */

static void read_piece(int fd, off_t at, off_t end, const char *path)
{
	while (at < end) {
		ssize_t n = pread(fd, memory.data + at, (size_t)(end - at), at);

		if (n <= 0)
			die(path);
		at += n;
	}
}

/* Memory that nobody has written to reads as zeros. */
static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0, end;

	if (fd < 0 || (memory.size = lseek(fd, 0, SEEK_END)) <= 0)
		die(path);
	memory.data = mmap(NULL, (size_t)memory.size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory.data == MAP_FAILED)
		die("memory");
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		read_piece(fd, at, end, path);
		at = end;
	}
	close(fd);
}

/* ---- the file system ---- */

static struct stat attr_of(fuse_ino_t ino)
{
	return (struct stat){
		.st_ino = ino,
		.st_mode = ino == INODE ? S_IFREG | 0400 : S_IFDIR | 0500,
		.st_nlink = 1,
		.st_uid = getuid(),
		.st_gid = getgid(),
		.st_size = ino == INODE ? memory.size : 0,
	};
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = INODE,
				      .attr = attr_of(INODE),
				      .attr_timeout = FOREVER,
				      .entry_timeout = FOREVER };

	if (strcmp(name, NAME) != 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct stat st = attr_of(ino);

	fuse_reply_attr(req, &st, FOREVER);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = 1; /* else each open empties the kernel's cache */
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	off_t left = offset < memory.size ? memory.size - offset : 0;

	if ((off_t)size > left)
		size = (size_t)left;
	fuse_reply_buf(req, memory.data + offset, size);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.open = on_open,
	.read = on_read,
};

int main(int argc, char **argv)
{
	if (argc != 3) {
		fputs("usage: memory-file FILE MOUNTPOINT\n", stderr);
		return 2;
	}
	load(argv[1]);
	return serve("memory-file", &ops, argv[2], -1);
}
