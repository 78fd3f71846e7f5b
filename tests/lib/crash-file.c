/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/crash-file.h"

#include <errno.h>
#include <string.h>

enum crash_kind {
	CRASH_WRITE,
	CRASH_SYNC,
	CRASH_PUBLISH,
};

struct crash_event {
	enum crash_kind kind;
	uint64_t offset;
	GBytes *bytes; /* of a write */
};

struct crash_file {
	SnapFile file; /* first */
	struct crash_disk *disk;
};

static void event_clear(gpointer data)
{
	g_clear_pointer(&((struct crash_event *)data)->bytes, g_bytes_unref);
}

void crash_disk_init(struct crash_disk *disk)
{
	memset(disk, 0, sizeof(*disk));
	disk->events = g_array_new(FALSE, TRUE, sizeof(struct crash_event));
	g_array_set_clear_func(disk->events, event_clear);
	disk->all = g_byte_array_new();
}

void crash_disk_clear(struct crash_disk *disk)
{
	g_clear_pointer(&disk->events, g_array_unref);
	g_clear_pointer(&disk->all, g_byte_array_unref);
}

static const struct crash_event *event(const struct crash_disk *disk, guint i)
{
	return &g_array_index(disk->events, struct crash_event, i);
}

/* ---- what is left ---- */

static void land(GByteArray *out, const struct crash_event *e, gsize size,
		 GRand *garbage)
{
	gsize old = out->len;

	if (e->offset + size > old) {
		g_byte_array_set_size(out, (guint)(e->offset + size));
		memset(out->data + old, 0, out->len - old);
	}
	memcpy(out->data + e->offset, g_bytes_get_data(e->bytes, NULL), size);
	for (gsize i = 0; garbage && i < size; i++)
		out->data[e->offset + i] = (guint8)g_rand_int(garbage);
}

GByteArray *crash_disk_after(const struct crash_disk *disk, guint n,
			     GRand *rand)
{
	GByteArray *out = g_byte_array_new();
	guint synced = 0;

	for (guint i = 0; i < n; i++)
		if (event(disk, i)->kind == CRASH_SYNC && !disk->lies)
			synced = i;
	for (guint i = 0; i < n; i++) {
		const struct crash_event *e = event(disk, i);
		gsize size = e->bytes ? g_bytes_get_size(e->bytes) : 0;
		int fate =
			rand && i >= synced ? g_rand_int_range(rand, 0, 4) : 0;

		if (e->kind != CRASH_WRITE)
			continue;
		if (fate == 0)
			land(out, e, size, NULL);
		else if (fate == 1)
			land(out, e, size, rand);
		else if (fate == 2)
			land(out, e, size / 2, NULL);
	}
	return out;
}

bool crash_disk_has_name(const struct crash_disk *disk, guint n)
{
	for (guint i = 0; i < n; i++)
		if (event(disk, i)->kind == CRASH_PUBLISH)
			return true;
	return false;
}

/* ---- the file ---- */

static struct crash_disk *disk_of(SnapFile *f)
{
	return ((struct crash_file *)f)->disk;
}

static int note(SnapFile *f, enum crash_kind kind, const void *data,
		size_t size, uint64_t offset)
{
	struct crash_disk *disk = disk_of(f);
	struct crash_event e = { .kind = kind, .offset = offset };

	if (++disk->calls == disk->fail_at)
		return -disk->error;
	if (kind == CRASH_WRITE) {
		e.bytes = g_bytes_new(data, size);
		land(disk->all, &e, size, NULL);
	}
	g_array_append_val(disk->events, e);
	return 0;
}

static ssize_t crash_pread(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	const GByteArray *all = disk_of(f)->all;

	if (offset >= all->len)
		return 0;
	size = MIN(size, all->len - offset);
	memcpy(buf, all->data + offset, size);
	return (ssize_t)size;
}

static int crash_pwrite(SnapFile *f, const void *buf, size_t size,
			uint64_t offset)
{
	return note(f, CRASH_WRITE, buf, size, offset);
}

static int crash_drain(SnapFile *f)
{
	return 0;
}

static int crash_sync(SnapFile *f)
{
	return note(f, CRASH_SYNC, NULL, 0, 0);
}

static int crash_size(SnapFile *f, uint64_t *ret_size)
{
	*ret_size = disk_of(f)->all->len;
	return 0;
}

static int crash_publish(SnapFile *f, int dirfd, const char *name)
{
	int r = note(f, CRASH_PUBLISH, NULL, 0, 0);

	disk_of(f)->is_published = r == 0;
	return r;
}

static void crash_close(SnapFile *f)
{
	disk_of(f)->is_closed = true;
	g_free(f);
}

static const struct snap_file_ops crash_ops = {
	.name = "crash",
	.pread = crash_pread,
	.pwrite = crash_pwrite,
	.drain = crash_drain,
	.sync = crash_sync,
	.size = crash_size,
	.publish = crash_publish,
	.close = crash_close,
};

SnapFile *crash_file_new(struct crash_disk *disk)
{
	struct crash_file *f = g_new0(struct crash_file, 1);

	f->file.ops = &crash_ops;
	f->disk = disk;
	return &f->file;
}

/* ---- bytes in memory ---- */

struct memory_file {
	SnapFile file; /* first */
	const uint8_t *bytes;
	size_t size;
};

static ssize_t memory_pread(SnapFile *f, void *buf, size_t size,
			    uint64_t offset)
{
	const struct memory_file *m = (const struct memory_file *)f;

	if (offset >= m->size)
		return 0;
	size = MIN(size, m->size - offset);
	memcpy(buf, m->bytes + offset, size);
	return (ssize_t)size;
}

static int memory_size(SnapFile *f, uint64_t *ret_size)
{
	*ret_size = ((struct memory_file *)f)->size;
	return 0;
}

static int memory_identify(SnapFile *f, struct snap_file_id *ret_id)
{
	ret_id->device = 0;
	ret_id->inode = (uintptr_t)((struct memory_file *)f)->bytes;
	ret_id->owner = 0;
	ret_id->names = 1;
	return 0;
}

static void memory_close(SnapFile *f)
{
	g_free(f);
}

static const struct snap_file_ops memory_ops = {
	.name = "memory",
	.pread = memory_pread,
	.size = memory_size,
	.identify = memory_identify,
	.close = memory_close,
};

SnapFile *memory_file_new(const void *bytes, size_t size)
{
	struct memory_file *m = g_new0(struct memory_file, 1);

	m->file.ops = &memory_ops;
	m->bytes = bytes;
	m->size = size;
	return &m->file;
}
