/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of parts, and which folders have parts that are in use. */
#include "fs/incoming/parts-internal.h"

#include <fcntl.h>
#include <string.h>

#include "format/base/cleanup.h"

const char *const snap_part_names[SNAP_PARTS] = { "ram", "devstate",
						  SNAP_PART_PREAMBLE_NAME };

enum snap_part snap_part_of(const char *name)
{
	enum snap_part part = 0;

	while (part < SNAP_PARTS && strcmp(name, snap_part_names[part]))
		part++;
	return part;
}

bool snap_part_is_name(const char *name)
{
	return snap_part_of(name) != SNAP_PART_NONE;
}

bool snap_part_stat(SnapNode *folder, const char *name, struct stat *ret)
{
	snap_autofd int at = -1;
	struct stat st;

	if (!snap_part_is_name(name))
		return false;
	at = snap_store_open(folder);
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (ret)
		*ret = st;
	return S_ISREG(st.st_mode);
}

/* ---- the parts of a folder ---- */

struct snap_parts *snap_parts_use(SnapIncomingTable *table, SnapNode *folder)
{
	struct snap_parts *p;
	SNAP_LOCKED(&table->lock);

	p = g_hash_table_lookup(table->parts, folder);
	if (!p) {
		p = g_new0(struct snap_parts, 1);
		p->table = table;
		p->folder = snap_node_ref(folder);
		p->last_closed = SNAP_PART_NONE;
		p->closings =
			g_array_new(FALSE, FALSE, sizeof(struct snap_closing));
		g_hash_table_insert(table->parts, folder, p);
	}
	p->users++;
	return p;
}

void snap_parts_release(struct snap_parts *p)
{
	SnapIncomingTable *table = p->table;
	bool last;

	g_mutex_lock(&table->lock);
	last = --p->users == 0;
	if (last)
		g_hash_table_remove(table->parts, p->folder);
	g_mutex_unlock(&table->lock);
	if (!last)
		return;
	snap_node_unref(p->folder, 1);
	g_array_unref(p->closings);
	g_free(p);
}

void snap_parts_wait(SnapIncomingTable *table, SnapNode *folder)
{
	struct snap_parts *p;
	SNAP_LOCKED(&table->lock);

	while ((p = g_hash_table_lookup(table->parts, folder)) && p->busy) {
		snap_call_hush_mine(); /* it waits for a save */
		g_cond_wait(&table->changed, &table->lock);
	}
}
