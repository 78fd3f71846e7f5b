/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The smallest FUSE server that shows as many folders as a store has snapshots,
 * each with `ram` and `devstate`. It answers from memory. What a command takes
 * here is what the kernel's requests cost, whoever answers them; bench.py
 * prints it beside a mount of snapfs.
 *
 * By default the kernel may remember what snapfs lets it remember, and so makes
 * the same requests. With -p it gets attributes together with names
 * (READDIRPLUS), and may believe names for a second: the fewest requests.
 *
 * usage: names [-p] FOLDERS SIZE POINT
 *
 * Serves in the foreground, until SIGTERM.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/bench/serve.h"

/* The root is 1. Folder n is 2 + 3n, and its files are the next two. */
#define FIRST 2
#define KINDS 3

enum { FOLDER, RAM, DEVSTATE };

static const char *const file_names[KINDS] = { NULL, "ram", "devstate" };

static struct {
	unsigned long folders;
	off_t size;
	bool plus;
	uint8_t *there; /* of each folder: bits of its kinds */
} tree;

static unsigned long folder_of(fuse_ino_t ino)
{
	return (ino - FIRST) / KINDS;
}

static unsigned kind_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? FOLDER : (ino - FIRST) % KINDS;
}

static fuse_ino_t ino_of(unsigned long folder, unsigned kind)
{
	return FIRST + folder * KINDS + kind;
}

static struct fuse_entry_param entry_of(fuse_ino_t ino)
{
	bool folder = kind_of(ino) == FOLDER;

	/* As fs/fuse/inode.c has it. */
	return (struct fuse_entry_param){
		.ino = ino,
		.attr = { .st_ino = ino,
			  .st_mode = folder ? S_IFDIR | 0755 : S_IFREG | 0600,
			  .st_nlink = folder ? 2 : 1,
			  .st_size = folder ? 4096 : tree.size,
			  .st_blocks = 8 },
		.attr_timeout = folder ? 1 : 3600,
		.entry_timeout = tree.plus ? 1
				 : folder  ? 0.1
					   : 0,
	};
}

/* The inode of a name, or 0. */
static fuse_ino_t find(fuse_ino_t parent, const char *name)
{
	unsigned long n;

	if (parent == FUSE_ROOT_ID)
		return sscanf(name, "vm%lu", &n) == 1 && n < tree.folders &&
				       tree.there[n]
			       ? ino_of(n, FOLDER)
			       : 0;
	n = folder_of(parent);
	for (unsigned kind = RAM; kind < KINDS; kind++)
		if (!strcmp(name, file_names[kind]) &&
		    tree.there[n] >> kind & 1)
			return ino_of(n, kind);
	return 0;
}

static void on_init(void *data, struct fuse_conn_info *conn)
{
	const unsigned plus = FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO;

	conn->want |= conn->capable & FUSE_CAP_PARALLEL_DIROPS;
	if (tree.plus)
		conn->want |= conn->capable & plus;
	else
		conn->want &= ~plus;
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = find(parent, name);
	struct fuse_entry_param entry;

	if (!ino) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	entry = entry_of(ino);
	fuse_reply_entry(req, &entry);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct fuse_entry_param entry = entry_of(ino);

	fuse_reply_attr(req, &entry.attr, entry.attr_timeout);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	/* As snapfs does: then ls asks no more for what is not supported. */
	fuse_reply_err(req,
		       strcmp(name, "security.selinux") ? EOPNOTSUPP : ENODATA);
}

static void on_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ino_t ino = find(parent, name);

	if (ino)
		tree.there[folder_of(ino)] &= (uint8_t) ~(1u << kind_of(ino));
	fuse_reply_err(req, ino ? 0 : ENOENT);
}

/* ---- listing ---- */

/* The name at a place of a folder, if there is one. */
static bool name_at(fuse_ino_t ino, off_t at, char name[32], fuse_ino_t *ret)
{
	if (ino == FUSE_ROOT_ID) {
		snprintf(name, 32, "vm%05" PRIdMAX, (intmax_t)at);
		*ret = ino_of((unsigned long)at, FOLDER);
		return tree.there[at];
	}
	snprintf(name, 32, "%s", file_names[at + RAM]);
	*ret = ino_of(folder_of(ino), (unsigned)at + RAM);
	return tree.there[folder_of(ino)] >> (at + RAM) & 1;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at,
		 bool plus)
{
	off_t end = ino == FUSE_ROOT_ID ? (off_t)tree.folders : KINDS - RAM;
	char *buf = malloc(size);
	size_t used = 0;

	for (; buf && at < end; at++) {
		struct fuse_entry_param entry;
		char name[32];
		fuse_ino_t one;
		size_t n;

		if (!name_at(ino, at, name, &one))
			continue;
		entry = entry_of(one);
		n = plus ? fuse_add_direntry_plus(req, buf + used, size - used,
						  name, &entry, at + 1)
			 : fuse_add_direntry(req, buf + used, size - used, name,
					     &entry.attr, at + 1);
		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at,
		       struct fuse_file_info *fi)
{
	list(req, ino, size, at, false);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t at, struct fuse_file_info *fi)
{
	list(req, ino, size, at, true);
}

static const struct fuse_lowlevel_ops ops = {
	.init = on_init,
	.lookup = on_lookup,
	.getattr = on_getattr,
	.getxattr = on_getxattr,
	.unlink = on_remove,
	.rmdir = on_remove,
	.readdir = on_readdir,
	.readdirplus = on_readdirplus,
};

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "p")) > 0)
		tree.plus = c == 'p';
	if (argc - optind != 3) {
		fputs("usage: names [-p] FOLDERS SIZE POINT\n", stderr);
		return 2;
	}
	tree.folders = strtoul(argv[optind], NULL, 10);
	tree.size = strtol(argv[optind + 1], NULL, 10);
	tree.there = malloc(tree.folders + 1);
	if (!tree.there)
		return 1;
	memset(tree.there, 1 << FOLDER | 1 << RAM | 1 << DEVSTATE,
	       tree.folders);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	return serve("names", &ops, argv[optind + 2], -1);
}
