/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/preamble.h"

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
	return r < 0 ? snap_fail_errno(error, -r, "the preamble") : 0;
}

/* Reads the first `size` bytes of the preamble: from the side file `rewritten`,
 * if there is one, or from the snapshot. */
static int read_first(int folder_fd, const struct snap_block *b,
		      GBytes *rewritten, uint8_t *buf, size_t size,
		      GError **error)
{
	if (!rewritten)
		return b->stored ? read_block(folder_fd, b, buf, size, error)
				 : 0;
	if (b && g_bytes_get_size(rewritten) != b->length)
		return snap_fail(error, EBADMSG,
				 SNAP_CATALOG_PREAMBLE
				 ": its length is not that of the preamble");
	memcpy(buf, g_bytes_get_data(rewritten, NULL), size);
	return 0;
}

/* Recognizes the preamble by its first bytes. */
static void set_kind(struct snap_preamble *p, const uint8_t *data, size_t size)
{
	struct snap_libvirt header;

	p->kind = "other";
	if (!snap_libvirt_read(data, size, &header))
		return;
	p->kind = "libvirt";
	p->state = header.complete ? "complete" : "not complete";
}

int snap_preamble_look(const struct snap_meta *meta, int folder_fd,
		       struct snap_preamble *ret_preamble, GError **error)
{
	const struct snap_block *b = snap_meta_find(meta, SNAP_BLOCK_PREAMBLE);
	struct snap_preamble p = { .kind = "zeros", .state = "" };
	uint8_t first[SNAP_LIBVIRT_HEADER] = { 0 };
	g_autoptr(GBytes) rewritten = NULL;
	size_t size;
	int r = snap_catalog_preamble_read(folder_fd, meta->uuid, &rewritten,
					   error);

	if (r < 0)
		return r;
	p.rewritten = rewritten != NULL;
	/* One that was copied in after the snapshot has no block. */
	if (b || rewritten) {
		p.length = b ? b->length : g_bytes_get_size(rewritten);
		size = MIN(sizeof(first), p.length);
		r = read_first(folder_fd, b, rewritten, first, size, error);
		if (r == 0 && (rewritten || b->stored))
			set_kind(&p, first, size);
	}
	if (r == 0)
		*ret_preamble = p;
	return r;
}
