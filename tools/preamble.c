/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/preamble.h"

#include <string.h>

#include "format/base/error.h"
#include "format/qemu/libvirt.h"
#include "fs/catalog/catalog.h"
#include "fs/load/pages.h"

/* Reads the first bytes of a block of the snapshot in a folder. */
static int read_block(int folder_fd, const struct snap_block *b, void *buf,
		      size_t size, GError **error)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_MIN,
					 .threads = 1 };
	g_autoptr(SnapLoader) loader = NULL;
	g_autoptr(SnapPages) pages = NULL;
	SnapReader *reader;
	int r = snap_catalog_find(folder_fd, &reader, error);

	if (r < 0)
		return r;
	loader = snap_loader_new(&opts);
	pages = snap_pages_new(loader, reader, SNAP_CATALOG_SNAPSHOT);
	r = snap_pages_read(pages, buf, size, b->base, NULL);
	if (r < 0)
		return snap_fail_errno(error, -r,
				       "what stands before its stream");
	return 0;
}

/* Says what the first bytes are. */
static void tell(struct snap_preamble *before, const uint8_t *data, size_t size)
{
	struct snap_libvirt header;

	before->kind = "other";
	before->state = "";
	if (size < SNAP_LIBVIRT_HEADER || !snap_libvirt_is(data, size) ||
	    snap_libvirt_read(data, &header, NULL) < 0)
		return;
	before->kind = "libvirt";
	before->state = header.complete ? "complete" : "not complete";
}

int snap_preamble_look(const struct snap_meta *meta, int folder_fd,
		       struct snap_preamble *ret_before, GError **error)
{
	const struct snap_block *b = snap_meta_find(meta, SNAP_BLOCK_PREAMBLE);
	struct snap_preamble before = { .kind = "zeros", .state = "" };
	uint8_t first[SNAP_LIBVIRT_HEADER] = { 0 };
	GBytes *head = NULL;
	size_t size;
	int r = 0;

	*ret_before = before;
	if (!b)
		return 0;
	before.length = b->length;
	size = MIN(sizeof(first), b->length);
	r = snap_catalog_preamble_read(folder_fd, meta->uuid, &head, error);
	if (r < 0)
		return r;
	before.rewritten = head != NULL;
	if (head && g_bytes_get_size(head) != b->length)
		r = snap_fail(error, EBADMSG,
			      SNAP_CATALOG_PREAMBLE
			      ": it is not as long as what stands before the "
			      "stream");
	else if (head)
		memcpy(first, g_bytes_get_data(head, NULL), size);
	else if (b->stored)
		r = read_block(folder_fd, b, first, size, error);
	if (r == 0 && (head || b->stored))
		tell(&before, first, size);
	g_clear_pointer(&head, g_bytes_unref);
	if (r == 0)
		*ret_before = before;
	return r;
}
