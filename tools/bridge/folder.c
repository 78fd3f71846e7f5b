/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The folder of a snapshot, in a mount or copied, by plain file calls. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"
#include "format/base/zero.h"
#include "format/qemu/hot.h"
#include "tools/bridge/bridge.h"

#define REOPEN_STEP (100 * G_TIME_SPAN_MILLISECOND)

/* Opens a file of the folder for reading. With O_NOATIME a mount of snapfs
 * neither learns from these reads nor reads ahead: the bridge knows better what
 * the guest needs, and reading ahead would take the processors from it. */
static int open_file(const struct bridge *b, const char *name,
		     struct stat *ret_st, GError **error)
{
	g_autofree char *path = g_build_filename(b->path, name, NULL);
	int flags = O_RDONLY | O_NONBLOCK;
	snap_autofd int fd = snap_open_named(path, flags | O_NOATIME, 0);

	if (fd == -EPERM) /* another user's file */
		fd = snap_open_named(path, flags, 0);
	if (fd < 0 || fstat(fd, ret_st) < 0)
		return snap_fail_errno(error, fd < 0 ? -fd : errno, "%s", path);
	if (!S_ISREG(ret_st->st_mode))
		return snap_fail(error, EINVAL, "%s is not a file", path);
	return snap_steal_fd(&fd);
}

/* The identity of the snapshot that an open file belongs to, in a mount or a
 * copy that kept it; or NULL. */
static char *get_uuid(int fd)
{
	char text[64];
	ssize_t n = fgetxattr(fd, "user.snapfs.uuid", text, sizeof(text));

	return n > 0 ? g_strndup(text, (gsize)n) : NULL;
}

int folder_open(struct bridge *b, const char *path, GError **error)
{
	/* The working directory may be in a mount that ends. */
	char *whole = g_canonicalize_filename(path, NULL);
	g_autofree char *devstate = g_build_filename(whole, "devstate", NULL);
	snap_autofd int fd = -1;
	struct stat st;
	char *state;
	size_t size;
	int r;

	b->path = whole;
	fd = open_file(b, "devstate", &st, error);
	if (fd < 0)
		return fd;
	r = snap_read_fd(fd, (size_t)st.st_size, &state, &size);
	if (r < 0)
		return snap_fail_errno(error, -r, "%s", devstate);
	r = snap_postcopy_new((uint8_t *)state, size,
			      (uint32_t)sysconf(_SC_PAGESIZE), &b->post, error);
	if (r < 0)
		return snap_fail_prefix(error, r, "%s", devstate);
	b->ram = &snap_postcopy_info(b->post)->ram;
	b->page = snap_postcopy_info(b->post)->target_page;
	b->ram_fd = open_file(b, "ram", &st, error);
	if (b->ram_fd < 0)
		return b->ram_fd;
	if ((uint64_t)st.st_size < b->ram->flat_size)
		return snap_fail(error, EBADMSG,
				 "%s/ram has %" PRIu64 " bytes, but the "
				 "devstate beside it lists RAM of %" PRIu64,
				 whole, (uint64_t)st.st_size,
				 b->ram->flat_size);
	(void)posix_fadvise(b->ram_fd, 0, 0, POSIX_FADV_RANDOM);
	b->uuid = get_uuid(b->ram_fd);
	return 0;
}

int folder_find_block(const struct bridge *b, const char *name, GError **error)
{
	g_autoptr(GString) names = g_string_new(NULL);
	int block = snap_ramlist_find(b->ram, name, strlen(name));

	for (guint i = 0; i < b->ram->n; i++)
		g_string_append_printf(names, " %s", b->ram->blocks[i].name);
	if (block >= 0)
		return block;
	return snap_fail(error, EINVAL, "no RAM block \"%s\"; there are:%s",
			 name, names->str);
}

/* ---- a mount that ends and comes back ---- */

/* Tells whether the program that serves the mount of `ram` has gone (Linux,
 * fs/fuse/dev.c). A read that was on its way to it may fail by EIO. */
static bool is_gone(int fd)
{
	struct statvfs st;

	return fstatvfs(fd, &st) < 0 &&
	       (errno == ENOTCONN || errno == ECONNABORTED);
}

/* Opens `ram` anew. The old descriptor stays open: others may still read from
 * it. False if it is not there yet, or belongs to another snapshot; then
 * b->uuid is NULL. */
static bool reopen(struct bridge *b)
{
	struct stat st;
	snap_autofd int fd = open_file(b, "ram", &st, NULL);
	g_autofree char *uuid = fd < 0 ? NULL : get_uuid(fd);

	if (!uuid)
		return false;
	if (strcmp(uuid, b->uuid) || (uint64_t)st.st_size < b->ram->flat_size) {
		fprintf(stderr,
			"snapfs-bridge: %s holds another snapshot now\n",
			b->path);
		g_clear_pointer(&b->uuid, g_free);
		return false;
	}
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	b->ram_fd = snap_steal_fd(&fd);
	return true;
}

/* A read of `fd` has failed. If the mount has ended, waits until it is back.
 * True: read again, from b->ram_fd. */
static bool await_mount(struct bridge *b, int fd)
{
	static GMutex lock; /* protects b->uuid */
	gint64 end;

	SNAP_LOCKED(&lock);
	if (b->ram_fd != fd)
		return true;
	if (!b->uuid || !is_gone(fd))
		return false;
	fprintf(stderr,
		"snapfs-bridge: the mount of %s has ended; the guest waits "
		"%d s for it to come back\n",
		b->path, b->wait_mount);
	end = g_get_monotonic_time() + b->wait_mount * G_USEC_PER_SEC;
	while (b->uuid && !reopen(b)) {
		if (g_get_monotonic_time() >= end)
			g_clear_pointer(&b->uuid, g_free);
		g_usleep(REOPEN_STEP);
	}
	return b->uuid;
}

/* ---- reading ---- */

static int read_ram(struct bridge *b, void *data, size_t size, uint64_t at)
{
	int r, fd;

	do {
		fd = b->ram_fd;
		r = snap_pread_exact(fd, data, size, at);
	} while (r < 0 && await_mount(b, fd));
	return r;
}

/* The page behind the hole that a page of `ram` lies in, if it does. A file
 * that was cut short has no hole behind its end: reading it must fail. */
static uint64_t find_hole(const struct bridge *b, uint64_t page)
{
	off_t data = lseek(b->ram_fd, (off_t)(page * b->page), SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		data = lseek(b->ram_fd, 0, SEEK_END);
	return data > 0 ? (uint64_t)data / b->page : 0;
}

/* Reads the pages from `at` to `end` of the piece. Returns 0 or -errno. */
static int read_part(struct bridge *b, struct piece *c, uint64_t at,
		     uint64_t end)
{
	uint8_t *data = c->data + (at - c->from) * b->page;
	uint8_t *states = c->states - c->from;
	int r = read_ram(b, data, (end - at) * b->page, at * b->page);

	for (; at < end; at++, data += b->page)
		states[at] =
			snap_is_zero(data, b->page) ? PAGE_ZERO : PAGE_DATA;
	return r;
}

void folder_read_piece(struct bridge *b, struct piece *c, bool holes)
{
	size_t unit = snap_postcopy_unit(b->post, c->block) / b->page;

	c->error = 0;
	c->hole = holes ? find_hole(b, c->from) : 0;
	if (c->hole >= c->end)
		c->end = c->from;
	if (c->from == c->end || read_part(b, c, c->from, c->end) == 0)
		return;
	for (uint64_t at = c->from; at < c->end; at += unit) {
		uint64_t end = MIN(at + unit, c->end);
		int r = read_part(b, c, at, end);

		if (r < 0) {
			memset(c->states + (at - c->from), PAGE_BAD, end - at);
			c->error = c->error ? c->error : -r;
		}
	}
}

int folder_fail_bad(const struct bridge *b, const struct piece *c,
		    const char *why, const char *then, GError **error)
{
	const struct snap_ram_block *block = &b->ram->blocks[c->block];

	return snap_fail(error, c->error,
			 "%s/ram: RAM block %s cannot be read at 0x%" PRIx64
			 ": %s: %s%s",
			 b->path, block->name, c->at * b->page - block->flat,
			 g_strerror(c->error), why, then);
}

GArray *folder_read_hot(const struct bridge *b)
{
	g_autofree char *text = g_malloc(SNAP_HOT_SIZE_MAX);
	struct stat st;
	snap_autofd int fd = open_file(b, "hot", &st, NULL);
	ssize_t n = fd < 0 ? 0 : snap_pread_all(fd, text, SNAP_HOT_SIZE_MAX, 0);

	return snap_hot_parse(text, (size_t)MAX(n, 0), b->ram);
}

void folder_write_hot(const struct bridge *b, const GArray *known,
		      const GArray *asked)
{
	snap_autofd int folder =
		snap_open_named(b->path, O_PATH | O_DIRECTORY, 0);
	g_autofree char *other = g_strdup_printf("hot.%d", (int)getpid());
	g_autoptr(GArray) runs = snap_hot_merge(known, asked, b->ram);
	g_autofree char *text = snap_hot_format(runs, b->ram);
	struct snap_replace how = { folder, "hot", folder, other,
				    -1,	    0644,  false };

	if (folder >= 0)
		(void)snap_replace_file(&how, text, strlen(text));
}
