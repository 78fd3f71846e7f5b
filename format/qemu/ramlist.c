/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/qemu/ramlist.h"

#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "format/base/units.h"

/* Makes room for one more block; NULL where there is no memory. The array
 * doubles when n is a power of two. */
static struct snap_ram_block *ramlist_grow(struct snap_ramlist *list)
{
	struct snap_ram_block *more;

	if ((list->n & (list->n - 1)) == 0) {
		more = g_try_renew(struct snap_ram_block, list->blocks,
				   MAX(1, (gsize)list->n * 2));
		if (!more)
			return NULL;
		list->blocks = more;
	}
	return &list->blocks[list->n];
}

int snap_ramlist_add(struct snap_ramlist *list, const char *name,
		     uint64_t length, uint64_t page_size, uint64_t gpa,
		     uint32_t target_page, GError **error)
{
	size_t name_length = strlen(name);
	struct snap_ram_block *block;
	uint64_t flat;

	if (name_length == 0 || name_length > 255)
		return snap_fail(error, EPROTO,
				 "a RAM block's name has 1 to 255 bytes, "
				 "this one %zu",
				 name_length);
	if (snap_ramlist_find(list, name, name_length) >= 0)
		return snap_fail(error, EPROTO, "RAM block %s is listed twice",
				 name);
	if (length % target_page)
		return snap_fail(error, EPROTO,
				 "RAM block %s: length 0x%" PRIx64
				 " is not a multiple of the target page (%u)",
				 name, length, target_page);
	if (list->n >= SNAP_RAM_BLOCKS_MAX)
		return snap_fail(error, EPROTO, "more than %u RAM blocks",
				 SNAP_RAM_BLOCKS_MAX);
	flat = snap_round_up(list->flat_size, SNAP_REGION);
	if (length > SNAP_RAM_BYTES_MAX || flat > SNAP_RAM_BYTES_MAX - length)
		return snap_fail(error, EPROTO,
				 "RAM block %s: with 0x%" PRIx64
				 " bytes RAM is larger than 64 TiB",
				 name, length);

	block = ramlist_grow(list);
	if (!block)
		return snap_fail(error, ENOMEM, "no memory for RAM block %s",
				 name);
	*block = (struct snap_ram_block){
		.length = length,
		.page_size = page_size,
		.gpa = gpa,
		.flat = flat,
	};
	memcpy(block->name, name, name_length);
	list->n++;
	list->flat_size = flat + length;
	return 0;
}

int snap_ramlist_find(const struct snap_ramlist *list, const void *name,
		      size_t length)
{
	if (length == 0 || length > 255)
		return -1;
	for (guint i = 0; i < list->n; i++) {
		const char *ours = list->blocks[i].name;

		if (memcmp(ours, name, length) == 0 && ours[length] == '\0')
			return (int)i;
	}
	return -1;
}

uint64_t snap_ram_bitmap(const struct snap_ram_block *block,
			 uint32_t target_page)
{
	return snap_div_up(block->length / target_page, 64) * 8;
}

void snap_ramlist_clear(struct snap_ramlist *list)
{
	g_free(list->blocks);
	*list = (struct snap_ramlist){ 0 };
}
