/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of views. */
#include "fs/view/view-internal.h"

#include <string.h>

static const SnapView *const views[] = {
	&snap_view_ram,	   &snap_view_devstate, &snap_view_preamble,
	&snap_view_stream, &snap_view_mapped,
};

const SnapView *snap_view_get(guint i)
{
	return i < G_N_ELEMENTS(views) ? views[i] : NULL;
}

const SnapView *snap_view_find(const char *name)
{
	for (guint i = 0; i < G_N_ELEMENTS(views); i++)
		if (!strcmp(name, views[i]->name))
			return views[i];
	return NULL;
}

const char *snap_view_name(const SnapView *view)
{
	return view->name;
}

guint snap_view_number(const SnapView *view)
{
	return view->number;
}

bool snap_view_present(const SnapView *view, const SnapSealed *sealed)
{
	return sealed->error ? view == &snap_view_stream
			     : view->present(sealed);
}

bool snap_view_listed(const SnapView *view, const SnapSealed *sealed)
{
	bool split = !sealed->error && snap_view_ram.present(sealed);

	return snap_view_present(view, sealed) &&
	       (split ? view->split : view == &snap_view_stream);
}
