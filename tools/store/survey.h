/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts what lies in the cells of a grid, for `map`. */
#pragma once

#include "tools/store/grid.h"
#include "tools/store/side.h"

/* Counts what a snapshot stores where. It reads the map alone, and the list
 * `hot` in the folder `folder_fd`. Returns 0 or -errno. */
int snap_survey_one(struct snap_grid *g, SnapSide *side, int folder_fd,
		    GError **error);

/* Counts what differs between two snapshots. It compares bytes where the two do
 * not lie in the same place of the same file. Returns 0 or -errno. */
int snap_survey_two(struct snap_grid *g, SnapSide *first, SnapSide *second,
		    GError **error);
