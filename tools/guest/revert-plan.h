/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a guest is brought back: what is there, the command line, the disks. */
#pragma once

#include "tools/guest/vm.h"

enum snap_way { SNAP_WAY_BRIDGE, SNAP_WAY_EAGER, SNAP_WAY_MEMORY_FILE };

/* As it is typed. */
const char *snap_way_name(enum snap_way way);

typedef struct {
	char *path; /* of the snapshot's folder, absolute */
	SnapVm *vm; /* NULL where there is no vm.json */
	enum snap_way way;
	bool stopped;	     /* the guest stays so */
	char *folder;	     /* where QEMU is started; NULL: here */
	GPtrArray *command;  /* NULL-terminated */
	GPtrArray *overlays; /* files that were made */
} SnapRevertPlan;

/* Looks at the snapshot in a folder. `way` is what was wished, or NULL; without
 * a wish, what the folder has decides, and is told. */
int snap_revert_plan_new(const char *path, const char *way,
			 SnapRevertPlan **ret_plan, GError **error);
void snap_revert_plan_free(SnapRevertPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapRevertPlan, snap_revert_plan_free)

struct snap_revert_opts {
	char *const *command; /* as typed; none: as it was saved */
	guint n_command;
	const char *overlays; /* folder for them, or NULL */
	const char *socket;   /* for QMP */
};

/* Makes command line and overlays. */
int snap_revert_plan_make(SnapRevertPlan *plan,
			  const struct snap_revert_opts *opts, GError **error);

/* Removes the overlays. */
void snap_revert_plan_undo(SnapRevertPlan *plan);

/* Where QEMU of that version reads from; g_free. */
char *snap_revert_plan_uri(const SnapRevertPlan *plan, guint qemu);
