/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A save whose stream lies in a file already. Inside fs/save. */
#pragma once

#include "fs/save/ingest.h"
#include "fs/save/save.h"

/* Feeds the stream that begins at `begin` of the file. Of a mapped-ram stream
 * it leaves out the holes. -ECANCELED once *stop (atomic) is set, -errno. */
int snap_file_feed(int fd, uint64_t begin, SnapIngest *in, const gint *stop,
		   GError **error);
