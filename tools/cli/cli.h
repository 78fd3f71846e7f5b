/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of a program with verbs. */
#pragma once

#include "format/base/version.h"
#include "tools/cli/verb.h"

/* Runs the verb that the arguments of main() name, or prints help, or the
 * version with those of `libraries`. NULL is the last of each table. Returns
 * the exit status. */
int snap_cli_run(const struct snap_verb *const *verbs,
		 snap_library *const *libraries, int argc, char **argv);
