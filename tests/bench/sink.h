/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The smallest FUSE server that takes what is written to a file. */
#pragma once

#include <sys/types.h>

/* Mounts at the folder `point` a file system with one file, "stream", which
 * takes any bytes and keeps none: FOPEN_DIRECT_IO, several threads, libfuse's
 * defaults otherwise. A process of its own serves it. Returns its id once it is
 * mounted, or ends the program. */
pid_t sink_start(const char *point);

/* Unmounts, and waits for the process. */
void sink_stop(pid_t sink);
