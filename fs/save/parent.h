/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parent of a save: the snapshot whose pages it need not store again.
 * Inside fs/save.
 */
#pragma once

#include "format/qemu/ramlist.h"
#include "fs/catalog/catalog.h"
#include "fs/save/compare.h"
#include "fs/save/pool.h"

typedef struct SnapParent SnapParent;

struct snap_parent_opts {
	SnapCatalog *catalog; /* borrowed */
	int folder_fd;	      /* of the save */
	const char *name;     /* of the save, for the log */
	/* the folder whose snapshot it is to be; NULL: any */
	const char *parent;
	uid_t uid; /* whose files may be used */
	/* more RAM blocks may follow those that are known */
	bool is_begun;
};

/* Finds the parent of a save whose guest has these RAM blocks: the one that was
 * asked for (the log says why it cannot be used), or that which the save
 * replaces, or one of the newest ones of the store. NULL: there is none, and
 * the snapshot stands alone. To be called before the first page is submitted.
 */
SnapParent *snap_parent_find(const struct snap_parent_opts *opts,
			     const struct snap_ramlist *ram);
/* Gives up what was kept for the save; after the commit. */
void snap_parent_free(SnapParent *p);

/* Moves the pages of a job that are equal to the parent's from its content to
 * job->shared. From any worker. */
void snap_parent_compare(SnapParent *p, SnapCompare *compare,
			 struct snap_job *job);

/* Puts what a job shares into the map. From the thread that appends. Returns 0
 * or -errno. */
int snap_parent_append(SnapParent *p, SnapWriter *w,
		       const struct snap_job *job);

/* Makes durable what the snapshot uses, before it is published. Returns 0 or
 * -errno. */
int snap_parent_sync(SnapParent *p);
