/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that talk to QEMU. */
#pragma once

#include "tools/cli/verb.h"

extern const struct snap_verb snap_verb_save;
extern const struct snap_verb snap_verb_revert;
