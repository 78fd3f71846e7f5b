/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/log.h"
#include "format/base/units.h"
#include "fs/save/ingest.h"

void snap_ingest_report(const char *what, const struct snap_ingest_result *res)
{
	g_autofree char *ram = snap_size_format(res->ram);
	g_autofree char *stored = snap_size_format(res->stored);
	g_autofree char *file = snap_size_format(res->file);

	if (res->why[0])
		snap_log(SNAP_LOG_WARNING,
			 "%s: saved as it came, %s on disk, without ram "
			 "and devstate: %s",
			 what, file, res->why);
	else
		snap_log(SNAP_LOG_INFO,
			 "%s: saved, %s of RAM, %s of it not zero, %s "
			 "on disk%s",
			 what, ram, stored, file,
			 res->increment ? ", the rest in older snapshots" : "");
	if (res->repaired)
		snap_log(SNAP_LOG_INFO,
			 "%s: the bitmaps name no page, as QEMU leaves them "
			 "with background-snapshot; the snapshot has all pages "
			 "that QEMU wrote",
			 what);
}
