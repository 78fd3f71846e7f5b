/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache as a whole, and the files that read through it. */
#include <errno.h>
#include <inttypes.h>
#include <sys/file.h>
#include <unistd.h>

#include "format/base/error.h"
#include "fs/near/near-internal.h"

static void copy_free(gpointer data)
{
	struct snap_copy *copy = data;

	g_assert(copy->refs == 0);
	g_free(copy->name);
	g_free(copy);
}

static int take_folder(SnapNear *near, GError **error)
{
	int r = flock(near->fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;

	if (r == -EWOULDBLOCK)
		return snap_fail(error, EBUSY,
				 "disk cache %s: another mount uses it; each "
				 "needs a folder of its own",
				 near->path);
	if (r < 0)
		return snap_fail_errno(error, -r,
				       "disk cache %s cannot be locked",
				       near->path);
	r = snap_near_scan(near);
	return r < 0 ? snap_fail_errno(error, -r,
				       "disk cache %s cannot be read",
				       near->path)
		     : 0;
}

int snap_near_new(int fd, const char *path, uint64_t limit, SnapNear **ret_near,
		  GError **error)
{
	g_autoptr(SnapNear) near = g_new0(SnapNear, 1);
	int r;

	near->fd = fd;
	near->path = g_strdup(path);
	near->limit = limit;
	g_mutex_init(&near->lock);
	g_cond_init(&near->work);
	g_cond_init(&near->idle);
	near->copies =
		g_hash_table_new_full(g_str_hash, g_str_equal, NULL, copy_free);
	r = take_folder(near, error);
	if (r == 0)
		*ret_near = g_steal_pointer(&near);
	return r;
}

void snap_near_free(SnapNear *near)
{
	if (!near)
		return;
	snap_fill_end(near);
	g_hash_table_destroy(near->copies);
	g_cond_clear(&near->work);
	g_cond_clear(&near->idle);
	g_mutex_clear(&near->lock);
	close(near->fd);
	g_free(near->path);
	g_free(near);
}

struct snap_near_stats snap_near_stats(SnapNear *near)
{
	struct snap_near_stats stats = {
		.hits = SNAP_NEAR_COUNT(near, hits, 0),
		.hit_bytes = SNAP_NEAR_COUNT(near, hit_bytes, 0),
		.misses = SNAP_NEAR_COUNT(near, misses, 0),
		.rejected = SNAP_NEAR_COUNT(near, rejected, 0),
	};

	g_mutex_lock(&near->lock);
	stats.bytes = near->bytes;
	g_mutex_unlock(&near->lock);
	return stats;
}

/* ---- files ---- */

static struct snap_near_file *near_file(SnapFile *f)
{
	return (struct snap_near_file *)f;
}

static ssize_t read_below(struct snap_near_file *f, void *buf, size_t size,
			  uint64_t offset)
{
	ssize_t n = f->below->ops->pread(f->below, buf, size, offset);

	if (n > 0)
		snap_fill_ask(f, offset, (size_t)n);
	return n;
}

static ssize_t near_pread(SnapFile *file, void *buf, size_t size,
			  uint64_t offset)
{
	struct snap_near_file *f = near_file(file);
	SnapNear *near = f->copy->near;

	if (snap_copy_read(f->copy, buf, size, offset)) {
		SNAP_NEAR_COUNT(near, hits, 1);
		SNAP_NEAR_COUNT(near, hit_bytes, size);
		return (ssize_t)size;
	}
	SNAP_NEAR_COUNT(near, misses, 1);
	return read_below(f, buf, size, offset);
}

static void near_expect(SnapFile *file, uint64_t offset, uint64_t size)
{
	struct snap_near_file *f = near_file(file);

	if (!snap_copy_expect(f->copy, offset, size))
		snap_file_expect(f->below, offset, size);
}

static ssize_t near_reread(SnapFile *file, void *buf, size_t size,
			   uint64_t offset)
{
	struct snap_near_file *f = near_file(file);

	SNAP_NEAR_COUNT(f->copy->near, rejected, 1);
	snap_copy_drop(f->copy, offset, size);
	return read_below(f, buf, size, offset);
}

static int near_size(SnapFile *file, uint64_t *ret_size)
{
	SnapFile *below = near_file(file)->below;

	return below->ops->size(below, ret_size);
}

static int near_identify(SnapFile *file, struct snap_file_id *ret_id)
{
	return snap_file_identify(near_file(file)->below, ret_id);
}

static void near_close(SnapFile *file)
{
	snap_near_file_unref(near_file(file));
}

static const struct snap_file_ops near_ops = {
	.name = "disk cache",
	.pread = near_pread,
	.expect = near_expect,
	.reread = near_reread,
	.size = near_size,
	.identify = near_identify,
	.close = near_close,
};

/* Whoever can write to a store can forge the uuid and the checksum of another
 * snapshot, but not the user who owns its file. So that is in the name. */
SnapFile *snap_near_wrap(void *near, SnapFile *below,
			 const struct snap_layer *which)
{
	struct snap_near_file *f;
	struct snap_file_id id;
	g_autofree char *name = NULL;
	char uuid[SNAP_UUID_TEXT];

	if (snap_file_identify(below, &id) < 0)
		return below;
	snap_uuid_text(which->uuid, uuid);
	name = g_strdup_printf("%s.%" PRIu32 ".%08" PRIx32, uuid, id.owner,
			       which->crc32c);
	f = g_new0(struct snap_near_file, 1);
	f->file.ops = &near_ops;
	f->refs = 1;
	f->below = below;
	f->copy = snap_copy_get(near, name, which->size);
	return &f->file;
}
