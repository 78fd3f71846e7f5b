/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plan of a revert: what the folder has, the command line, the disks. */
#pragma once

#include "tools/guest/vm.h"

/* How memory gets into the guest. */
enum snap_way { SNAP_WAY_BRIDGE, SNAP_WAY_EAGER, SNAP_WAY_MEMORY_FILE };

/* Gets the name of a way, as the user types it. */
const char *snap_way_name(enum snap_way way);

typedef struct {
	char *path;	 /* of the snapshot's folder, absolute */
	bool mounted;	 /* the folder is in a mount of snapfs */
	SnapVm *vm;	 /* NULL if there is no vm.json */
	bool has_stream; /* the folder has a file `stream`, listed or not */
	enum snap_way way;
	bool stopped;	      /* the guest stays stopped */
	char *folder;	      /* where QEMU is started; NULL: the current one */
	GStrv bridge_options; /* or NULL */
	GPtrArray *command;   /* QEMU's command line; NULL is the last */
	GPtrArray *overlays;  /* paths of overlays that were made */
} SnapRevertPlan;

/* Looks at the snapshot in the folder `path`. `way` is the user's choice, or
 * NULL; without one, chooses by what the folder has, and prints if that is not
 * the bridge. Returns 0 or -errno. */
int snap_revert_plan_new(const char *path, const char *way,
			 SnapRevertPlan **ret_plan, GError **error);
void snap_revert_plan_free(SnapRevertPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapRevertPlan, snap_revert_plan_free)

struct snap_revert_opts {
	char *const *command; /* as the user typed it */
	guint n_command;      /* 0: use the saved one */
	const char *overlays; /* folder for overlays, or NULL */
	const char *socket;   /* for QMP */
};

/* Makes the command line and the overlays. Returns 0 or -errno. */
int snap_revert_plan_make(SnapRevertPlan *plan,
			  const struct snap_revert_opts *opts, GError **error);

/* Removes the overlays. */
void snap_revert_plan_undo(SnapRevertPlan *plan);

/* Changes the way to eager if the folder allows that. Returns 0 or -ENOENT. */
int snap_revert_plan_set_eager(SnapRevertPlan *plan, GError **error);

/* Makes the URI for `migrate-incoming`, for this version of QEMU; g_free. */
char *snap_revert_plan_uri(const SnapRevertPlan *plan, guint qemu);
