/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What verbs share that tell something of each snapshot, as text or as JSON. */
#pragma once

#include "tools/place.h"
#include "tools/print.h"

/* Begins the data of such a verb. */
struct snap_each {
	SnapPlace *place;
	SnapJson *json; /* in the list of snapshots; NULL: text is wanted */
	int status;	/* the exit status */
};

/* Calls `visit` with `each` for the snapshots that the arguments (STORE
 * [NAME]...) mean. JSON is printed then; text is the caller's. -errno with an
 * error, or 0. */
int snap_each_visit(struct snap_each *each, char **arguments, guint n,
		    bool as_json, snap_catalog_visit visit, GError **error);

/* Frees what is in it. */
void snap_each_clear(struct snap_each *each);

/* Says what is wrong with a snapshot, on standard error and, where that is
 * wanted, in the JSON. */
void snap_each_fail(struct snap_each *each, const char *name,
		    const char *sentence);
