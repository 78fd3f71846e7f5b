/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot that is read: its reader, its name, who refers to it. */
#include "fs/load/load-internal.h"

SnapPages *snap_pages_new(SnapLoader *loader, SnapReader *reader,
			  const char *name)
{
	SnapPages *pages = g_new0(SnapPages, 1);

	pages->refs = 1;
	pages->loader = loader;
	pages->reader = reader;
	pages->id = snap_files_number(loader->files);
	for (guint i = 0; i <= snap_reader_meta(reader)->n_layers; i++) {
		pages->files[i] = snap_files_take(loader->files, reader, i);
		if (loader->near)
			snap_reader_wrap(reader, i, snap_near_wrap,
					 loader->near);
	}
	pages->name = g_strdup(name);
	pages->top = snap_reader_top(reader, &pages->n_nodes);
	pages->n_regions = snap_meta_regions(snap_reader_meta(reader));
	g_mutex_init(&pages->lock);
	return pages;
}

SnapPages *snap_pages_ref(SnapPages *pages)
{
	g_atomic_int_inc(&pages->refs);
	return pages;
}

void snap_pages_unref(SnapPages *pages)
{
	if (!pages || !g_atomic_int_dec_and_test(&pages->refs))
		return;
	snap_cache_forget(pages->loader->cache, pages->id);
	for (guint i = 0; i <= snap_pages_meta(pages)->n_layers; i++)
		snap_files_give(pages->loader->files, pages->files[i]);
	snap_reader_free(pages->reader);
	g_mutex_clear(&pages->lock);
	g_free(pages->name);
	g_free(pages);
}

const struct snap_meta *snap_pages_meta(const SnapPages *pages)
{
	return snap_reader_meta(pages->reader);
}

const char *snap_pages_name(const SnapPages *pages)
{
	return pages->name;
}
