/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plain stream: all pages of all blocks but those that QEMU maps from `ram`
 * itself. Zero pages are sent too: at the other end, ROM may hold something
 * else. QEMU says nothing in return.
 */
#include "tools/bridge/bridge.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "format/base/zero.h"
#include "tools/bridge/stats.h"
#include "tools/bridge/wire.h"

#define PLAIN_SIZE (256 * SNAP_KIB)

struct plain {
	const Folder *folder;
	const struct snap_stream_info *info;
	struct wire wire;
	uint8_t *data;
};

static int flush(struct plain *s, GError **error)
{
	int r = wire_flush_all(&s->wire);

	return r == 0 ? 0
		      : snap_fail(error, -r,
				  "QEMU closed the connection; its own message "
				  "says why (the same machine, memory size and "
				  "devices?)");
}

static int read_piece(struct plain *s, const struct snap_ram_block *block,
		      uint64_t offset, size_t size, GError **error)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n =
			pread(s->folder->ram_fd, s->data + done, size - done,
			      (off_t)(block->flat + offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return snap_fail_errno(
				error, n < 0 ? errno : ENODATA,
				"%s/ram: RAM block %s cannot be read at "
				"0x%" PRIx64,
				s->folder->path, block->name, offset + done);
		done += (size_t)n;
	}
	return 0;
}

/* A part with `size` bytes of a block. */
static int send_piece(struct plain *s, guint i, uint64_t offset, size_t size,
		      GError **error)
{
	const SnapPostcopy *post = s->folder->post;
	uint32_t page = s->info->target_page;
	struct wire *w = &s->wire;
	int r = read_piece(s, &s->info->ram.blocks[i], offset, size, error);

	if (r < 0)
		return r;
	wire_copied(w, snap_postcopy_part_begin(post, wire_copy(w)));
	for (size_t at = 0; at < size; at += page) {
		bool zero = snap_is_zero(s->data + at, page);

		wire_copied(w,
			    snap_postcopy_record(post, i, offset + at, at == 0,
						 zero, wire_copy(w)));
		if (!zero)
			wire_put(w, s->data + at, page);
	}
	wire_copied(w, snap_postcopy_part_end(post, wire_copy(w)));
	return flush(s, error);
}

static int send_block(struct plain *s, guint i, GError **error)
{
	uint64_t length = s->info->ram.blocks[i].length;
	int r = 0;

	for (uint64_t at = 0; at < length && r == 0; at += PLAIN_SIZE)
		r = send_piece(s, i, at, (size_t)MIN(PLAIN_SIZE, length - at),
			       error);
	return r;
}

static int send_blocks(struct plain *s, const bool *mapped, GError **error)
{
	int r;

	snap_postcopy_put_plain_head(s->folder->post, wire_messages(&s->wire));
	wire_put_messages(&s->wire);
	r = flush(s, error);
	for (guint i = 0; i < s->info->ram.n && r == 0; i++)
		if (!mapped[i])
			r = send_block(s, i, error);
	if (r < 0)
		return r;
	snap_postcopy_put_plain_tail(s->folder->post, wire_messages(&s->wire));
	wire_put_messages(&s->wire);
	return flush(s, error);
}

/* The blocks that are named as mapped, as flags to be freed. */
static int find_mapped(const struct plain *s, const GPtrArray *names,
		       bool **ret_mapped, GError **error)
{
	g_autofree bool *mapped = g_new0(bool, MAX(s->info->ram.n, 1));

	for (guint i = 0; i < names->len; i++) {
		int block =
			folder_find_block(s->folder, names->pdata[i], error);

		if (block < 0)
			return block;
		mapped[block] = true;
	}
	*ret_mapped = g_steal_pointer(&mapped);
	return 0;
}

int bridge_send_plain(const struct bridge_opts *opts, Folder *f, GError **error)
{
	struct plain s = { .folder = f, .info = snap_postcopy_info(f->post) };
	guint pages = (guint)(PLAIN_SIZE / s.info->target_page);
	g_autofree bool *mapped = NULL;
	struct stats stats;
	int r;

	stats_begin(&stats);
	(void)signal(SIGPIPE, SIG_IGN);
	r = find_mapped(&s, opts->mapped, &mapped, error);
	if (r < 0 && !opts->socket)
		wire_refuse();
	if (r == 0)
		r = wire_open(&s.wire, opts->socket, error);
	if (r < 0) {
		wire_clear(&s.wire);
		return r;
	}
	wire_reserve(&s.wire, 2 * pages + 2,
		     SNAP_POSTCOPY_BEGIN_SIZE + SNAP_POSTCOPY_RECORD_MAX +
			     9 * (size_t)pages + SNAP_POSTCOPY_END_SIZE);
	s.data = g_malloc(PLAIN_SIZE);
	r = send_blocks(&s, mapped, error);
	if (r == 0 && !opts->quiet) {
		g_autofree char *line = stats_line(&stats, "", s.wire.bytes);

		fprintf(stderr, "snapfs-bridge: %s\n", line);
	}
	g_free(s.data);
	wire_clear(&s.wire);
	return r;
}
