/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a folder shows by the name of a view. */
#include "fs/tree/tree-internal.h"

#include <string.h>

struct snap_shown snap_shown_of(SnapTree *tree, SnapSealed *sealed,
				const SnapView *view)
{
	const char *name = snap_view_name(view);
	bool present = sealed && snap_view_present(view, sealed);
	/* A preamble may be copied in after the snapshot. */
	bool may_follow = sealed && !present &&
			  snap_view_present(snap_view_find("ram"), sealed) &&
			  !strcmp(name, SNAP_PART_PREAMBLE_NAME);

	return (struct snap_shown){
		.view = view,
		.sealed = sealed,
		.visible =
			present && !snap_hidden_has(tree->hidden, sealed, view),
		.may_be_part =
			snap_part_is_name(name) && (!sealed || may_follow),
	};
}

int snap_shown_get(SnapTree *tree, SnapNode *folder, const char *name,
		   struct snap_shown *ret_shown)
{
	SnapSealed *sealed = NULL;
	int r = snap_sealed_get(tree->snapshots, folder, &sealed);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_shown = snap_shown_of(tree, sealed, snap_view_find(name));
	return 0;
}

int snap_shown_check_write(SnapTree *tree, SnapNode *folder, const char *name)
{
	struct snap_shown shown;
	int r = snap_shown_get(tree, folder, name, &shown);

	if (r < 0 || !shown.sealed)
		return r;
	if (shown.view != &snap_view_stream && !shown.may_be_part) {
		snap_hidden_remove(tree->hidden, shown.sealed, shown.view);
		r = snap_name_refuse(folder, name, SNAP_REFUSE_WRITE);
	}
	snap_sealed_unref(shown.sealed);
	return r;
}
