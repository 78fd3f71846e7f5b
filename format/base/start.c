/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* A reader that is gone, and a file that may not grow (RLIMIT_FSIZE): write(2)
 * returns EPIPE and EFBIG where they are ignored. */
static const int of_writes[] = { SIGPIPE, SIGXFSZ };

static void handle(void (*how)(int))
{
	for (unsigned i = 0; i < sizeof(of_writes) / sizeof(*of_writes); i++)
		(void)signal(of_writes[i], how);
}

int snap_start(void)
{
	/* open(2) takes the lowest number that is free. Reading what was closed
	 * fails as before, and so does writing to it. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null",
			 fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return -errno;
	handle(SIG_IGN);
	return 0;
}

void snap_start_undo(void)
{
	handle(SIG_DFL);
}
