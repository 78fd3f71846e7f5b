/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files whose pages snapshots share, for `ls --layers`. */
#pragma once

#include "fs/catalog/catalog.h"
#include "tools/cli/json-writer.h"

typedef struct SnapLayerList SnapLayerList;

SnapLayerList *snap_layer_list_new(void);
void snap_layer_list_free(SnapLayerList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapLayerList, snap_layer_list_free)

/* Notes what the snapshot `name` uses. */
void snap_layer_list_add(SnapLayerList *list, const char *name,
			 const struct snap_meta *meta);

/* Prints a line for each file among the layers of the store; or, with `json`,
 * adds the list "layers" behind the list that is open. */
int snap_layer_list_print(SnapLayerList *list, SnapCatalog *catalog,
			  SnapJsonWriter *json, GError **error);
