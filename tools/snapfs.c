/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapfs: saves guests, reverts them, and looks after a store of snapshots. */
#include "format/image/image.h"
#include "format/store/store.h"
#include "tools/cli/cli.h"
#include "tools/guest/verbs.h"
#include "tools/store/verbs.h"

static const struct snap_verb *const verbs[] = {
	&snap_verb_save,    &snap_verb_revert,
	&snap_verb_ls,	    &snap_verb_info,
	&snap_verb_verify,  &snap_verb_map,
	&snap_verb_export,  &snap_verb_import,
	&snap_verb_flatten, NULL,
};

static snap_library *const libraries[] = {
	snap_codec_library,
	snap_file_library,
	snap_json_library,
	NULL,
};

int main(int argc, char **argv)
{
	return snap_cli_run(verbs, libraries, argc, argv);
}
