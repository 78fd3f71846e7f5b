/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that look after a store. */
#pragma once

#include "tools/cli/verb.h"

extern const struct snap_verb snap_verb_ls;
extern const struct snap_verb snap_verb_info;
extern const struct snap_verb snap_verb_verify;
extern const struct snap_verb snap_verb_map;
extern const struct snap_verb snap_verb_import;
extern const struct snap_verb snap_verb_export;
extern const struct snap_verb snap_verb_flatten;
