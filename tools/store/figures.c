/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/store/figures.h"

#include "tools/cli/print.h"

struct snap_figures snap_figures_get(const SnapReader *reader)
{
	const struct snap_meta *meta = snap_reader_meta(reader);
	struct snap_figures f = {
		.form = snap_form_name(meta->form),
		.disk = snap_reader_file_size(reader),
		.created = meta->created,
	};

	for (guint i = 0; i < meta->n_blocks; i++) {
		const struct snap_block *b = &meta->blocks[i];

		if (b->ignored)
			continue;
		f.logical += b->length;
		f.stored += b->stored;
		if (b->kind == SNAP_BLOCK_RAM) {
			f.ram += b->length;
			f.zero += b->length - MIN(b->stored, b->length);
		} else if (b->kind == SNAP_BLOCK_STATE) {
			f.state += b->length;
		}
	}
	for (guint i = 0; i < meta->n_layers; i++)
		f.shared += meta->layers[i].used;
	return f;
}

void snap_figures_json(const struct snap_figures *figures, SnapJsonWriter *json)
{
	g_autofree char *created = snap_print_time_iso(figures->created);

	snap_json_writer_text(json, "form", figures->form);
	snap_json_writer_text(json, "created", created);
	snap_json_writer_number(json, "logical", figures->logical);
	snap_json_writer_number(json, "ram", figures->ram);
	snap_json_writer_number(json, "stored", figures->stored);
	snap_json_writer_number(json, "disk", figures->disk);
	snap_json_writer_number(json, "shared", figures->shared);
}
