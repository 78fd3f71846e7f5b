/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What programs ask a mount for by attributes of a folder. */
#pragma once

/* Which snapshot is to be the parent of the next save into the folder: the path
 * of that one's folder in the store. */
#define SNAP_PARENT_ATTRIBUTE "user.snapfs.parent"
