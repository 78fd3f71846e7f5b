/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A plain stream: all pages of all blocks except those that QEMU maps from
 * `ram` itself. QEMU does not answer. */
#include <inttypes.h>
#include <string.h>

#include "format/base/error.h"
#include "tools/bridge/pages.h"

/* Finds the block of "BLOCK" or "BLOCK=OFFSET", of which the last '=' counts.
 * QEMU must map it from where it lies in `ram`. */
static int find_mapped(const struct bridge *b, const char *text, GError **error)
{
	const char *equals = strrchr(text, '=');
	g_autofree char *name = g_strdup(text);
	uint64_t offset = 0;
	int block = snap_ramlist_find(b->ram, text, strlen(text));

	if (block < 0 && equals) {
		name[equals - text] = '\0';
		if (!g_ascii_string_to_unsigned(equals + 1, 10, 0, UINT64_MAX,
						&offset, NULL))
			return snap_fail(error, EINVAL,
					 "--mapped=%s: it is BLOCK=OFFSET",
					 text);
	}
	block = folder_find_block(b, name, error);
	if (block < 0 || b->ram->blocks[block].flat == offset)
		return block;
	return snap_fail(error, EINVAL,
			 "--mapped=%s: RAM block %s begins at %" PRIu64
			 " in %s/ram, and not at %" PRIu64
			 "; QEMU must map it with offset=%" PRIu64
			 ", and then it is --mapped=%s=%" PRIu64,
			 text, name, b->ram->blocks[block].flat, b->path,
			 offset, b->ram->blocks[block].flat, name,
			 b->ram->blocks[block].flat);
}

int bridge_send_plain(struct bridge *b, char *const *mapped, GError **error)
{
	static struct pages p = { .zeros = true };
	struct piece c = { 0 };
	int r;

	b->precopy = 100;
	pages_init(&p, b);
	for (; *mapped; mapped++) {
		r = find_mapped(b, *mapped, error);
		if (r < 0)
			return r;
		pages_note_there(&p, (guint)r, NULL);
	}
	c.data = g_malloc(p.room * b->page);
	c.states = g_malloc(p.room);
	snap_postcopy_put_plain_head(b->post, b->batch);
	r = wire_send(b);
	while (r == 0 && p.bad_count == 0 && pages_take(&p, &c)) {
		folder_read_piece(b, &c, false);
		pages_note_read(&p, &c);
		p.background--;
		while (c.at < c.end && r == 0 && p.bad_count == 0) {
			pages_put(&p, &c);
			r = wire_send(b);
		}
	}
	if (p.bad_count)
		return folder_fail_bad(b, &p.bad, "cannot read on", "", error);
	snap_postcopy_put_plain_tail(b->post, b->batch);
	if (r == 0 && wire_send(b) == 0)
		return 0;
	return snap_fail(error, EPIPE,
			 "QEMU closed the connection; its own message says why "
			 "(the same machine, memory size and devices?)");
}
