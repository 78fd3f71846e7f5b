/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/bench/serve.h"

#include <unistd.h>

int serve(const char *name, const struct fuse_lowlevel_ops *ops,
	  const char *point, int ready)
{
	char *argv[] = { (char *)name, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_session *se =
		fuse_session_new(&args, ops, sizeof(*ops), NULL);
	int r = -1;

	if (se && fuse_set_signal_handlers(se) == 0 &&
	    fuse_session_mount(se, point) == 0) {
		if (ready < 0 || write(ready, "", 1) == 1)
			r = fuse_session_loop_mt(se, config);
		fuse_session_unmount(se);
	}
	if (se)
		fuse_session_destroy(se);
	fuse_loop_cfg_destroy(config);
	return r < 0;
}
