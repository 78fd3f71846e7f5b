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
	bool whole;	      /* visits the store, also from a folder in it */
	/* called when all were visited; NULL: nothing is. 0 or -errno */
	int (*after)(struct snap_visit *v, GError **error);
};

/* The options of these verbs: --json; and it alone, for a verb with more. */
extern const GOptionEntry snap_visit_options[];
extern gboolean snap_visit_json;
#define SNAP_VISIT_JSON                                                        \
	{                                                                      \
		"json", 0, 0, G_OPTION_ARG_NONE, &snap_visit_json,             \
			"print JSON", NULL                                     \
	}

/* Calls `one` with `v` as its data for each snapshot that the arguments (STORE
 * [NAME]...) name, and prints the JSON. Returns the exit status, or -errno with
 * an error. */
int snap_visit_run(struct snap_visit *v, char **arguments, guint n,
		   snap_catalog_visit one, GError **error);

/* Opens the snapshot in a folder; NULL if that fails, which is then reported,
 * or if it was removed a moment ago. */
SnapReader *snap_visit_open(struct snap_visit *v, const char *name,
			    int folder_fd);

/* Are the files of its parents there, and whole? Reports which one is not. True
 * also for those that the caller may not open. */
bool snap_visit_check_parents(struct snap_visit *v, const char *name,
			      int folder_fd, const struct snap_meta *meta);

/* Reports what is wrong with a snapshot: on standard error and, if there is
 * one, in the JSON. */
void snap_visit_fail(struct snap_visit *v, const char *name,
		     const char *sentence);
