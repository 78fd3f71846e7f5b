/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that talk to QEMU. */
#pragma once

#include "tools/cli/verb.h"

/* Tells json-glib's version (format/base/version.h). */
char *snap_json_library(void);

extern const struct snap_verb snap_verb_save;
extern const struct snap_verb snap_verb_revert;
