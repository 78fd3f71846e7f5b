/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What snapfs tells of a snapshot in a few figures, the same in every verb.
 * Blocks whose memory is elsewhere do not count. */
#pragma once

#include "format/image/image.h"
#include "tools/print.h"

struct snap_figures {
	const char *form;
	uint64_t logical; /* bytes of all that the snapshot holds */
	uint64_t ram;	  /* bytes of all RAM blocks; 0 when verbatim */
	uint64_t zero;	  /* of those, in pages that are zero */
	uint64_t stored;  /* bytes compressed: pages that are not zero, or the
			   * stream */
	uint64_t state;	  /* bytes of device state */
	uint64_t disk;	  /* bytes of the snapshot's file */
	uint64_t created;
};

/* Those of an open snapshot. */
struct snap_figures snap_figures_get(const SnapReader *reader);

/* The members of a JSON object that speak of them. */
void snap_figures_json(const struct snap_figures *figures, SnapJson *json);
