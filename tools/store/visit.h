/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What ls, info and verify share: each prints something about every snapshot
 * that is named, as text or as JSON. */
#pragma once

#include "format/image/image.h"
#include "tools/cli/json-writer.h"
#include "tools/store/place.h"

/* The data of such a verb begins with this struct, as { 0 }. */
struct snap_visit {
	SnapPlace *place;
	SnapCatalog *catalog; /* of the store, while `one` is called */
	SnapJsonWriter *json; /* in the list of snapshots; NULL for text */
	int status;	      /* the exit status so far */
};

/* The options of these verbs: --json. */
extern const GOptionEntry snap_visit_options[];

/* Calls `one` with `v` as its data for each snapshot that the arguments (STORE
 * [NAME]...) name, and prints the JSON. Returns the exit status, or -errno with
 * an error. */
int snap_visit_run(struct snap_visit *v, char **arguments, guint n,
		   snap_catalog_visit one, GError **error);

/* Opens the snapshot in a folder; NULL if that fails, which is then reported,
 * or if it was removed a moment ago. */
SnapReader *snap_visit_open(struct snap_visit *v, const char *name,
			    int folder_fd);

/* Reports what is wrong with a snapshot: on standard error and, if there is
 * one, in the JSON. */
void snap_visit_fail(struct snap_visit *v, const char *name,
		     const char *sentence);
