/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The figures of a snapshot, the same in every verb. RAM blocks that lie
 * outside of the snapshot (QEMU left them out) do not count. */
#pragma once

#include "format/image/image.h"
#include "tools/cli/json-writer.h"

struct snap_figures {
	const char *form;
	uint64_t logical; /* bytes of all that the snapshot holds */
	uint64_t ram;	  /* bytes of all RAM blocks; 0 if verbatim */
	uint64_t zero;	  /* bytes of RAM in zero pages */
	uint64_t stored;  /* bytes that were compressed: pages that are not
			   * zero, or the verbatim stream */
	uint64_t state;	  /* bytes of device state */
	uint64_t disk;	  /* bytes of the snapshot's file */
	uint64_t shared;  /* bytes of extents in the files of its parents */
	uint64_t created; /* ns since 1970 */
};

/* Gets the figures of an open snapshot. */
struct snap_figures snap_figures_get(const SnapReader *reader);

/* Adds the figures that `ls` shows to the open JSON object. */
void snap_figures_json(const struct snap_figures *figures,
		       SnapJsonWriter *json);
