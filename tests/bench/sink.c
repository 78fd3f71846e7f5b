/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/sink.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/serve.h"

#define NAME "stream"
#define INODE 2

static struct stat attr_of(fuse_ino_t ino)
{
	return (struct stat){
		.st_ino = ino,
		.st_mode = ino == INODE ? S_IFREG | 0600 : S_IFDIR | 0700,
		.st_nlink = 1,
		.st_uid = getuid(),
		.st_gid = getgid(),
	};
}

static struct fuse_entry_param entry(void)
{
	return (struct fuse_entry_param){ .ino = INODE,
					  .attr = attr_of(INODE) };
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = entry();

	if (strcmp(name, NAME) != 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct stat st = attr_of(ino);

	fuse_reply_attr(req, &st, 1);
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
		       int what, struct fuse_file_info *fi)
{
	on_getattr(req, ino, fi);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *data,
		     size_t size, off_t offset, struct fuse_file_info *fi)
{
	fuse_reply_write(req, size);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.open = on_open,
	.write = on_write,
};

/* The process that serves; it says a byte to `ready` when it has mounted. */
static int sink_serve(const char *point, int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	return serve("sink", &ops, point, ready);
}

pid_t sink_start(const char *point)
{
	int ready[2];
	char byte;
	pid_t sink;

	if (pipe(ready) < 0 || (sink = fork()) < 0) {
		perror("sink");
		exit(1);
	}
	if (sink == 0) {
		close(ready[0]);
		_exit(sink_serve(point, ready[1]));
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		fprintf(stderr, "sink: cannot mount at %s\n", point);
		exit(1);
	}
	close(ready[0]);
	return sink;
}

void sink_stop(pid_t sink)
{
	kill(sink, SIGTERM);
	waitpid(sink, NULL, 0);
}
