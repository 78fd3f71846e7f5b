/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of a program with verbs. */
#pragma once

#include "tools/cli/verb.h"

/* Runs the verb that the arguments of main() name, or prints help. `verbs` is
 * the table, of which NULL is the last. Returns the exit status. */
int snap_cli_run(const struct snap_verb *const *verbs, int argc, char **argv);
