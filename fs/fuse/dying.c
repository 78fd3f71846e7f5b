/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a thread of another process is about to die: it exits, or SIGKILL
 * waits for it. Any signal that ends a process without a core dump makes the
 * kernel send SIGKILL to all its threads (complete_signal() in its
 * kernel/signal.c).
 */
#include "fs/fuse/fuse-internal.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"

/* Words of /proc/PID/stat behind the name of the program, which may hold any
 * byte (proc_pid_stat(5); do_task_stat() in fs/proc/array.c of Linux). */
#define STATE 0	     /* one letter */
#define FLAGS 6	     /* of the kernel */
#define PENDING 28   /* signals of the thread */
#define PF_EXITING 4 /* of FLAGS; include/linux/sched.h */

bool snap_dying_parse(const char *stat)
{
	const char *words = strrchr(stat, ')');
	g_auto(GStrv) word = words && words[1] == ' '
				     ? g_strsplit(words + 2, " ", -1)
				     : NULL;

	if (!word || g_strv_length(word) <= PENDING)
		return false;
	/* It waits for nothing: others may wait for what it has asked for, as
	 * its process goes on after pthread_exit(3) in the main thread. */
	if (!strcmp(word[STATE], "Z") || !strcmp(word[STATE], "X"))
		return false;
	return g_ascii_strtoull(word[FLAGS], NULL, 10) & PF_EXITING ||
	       g_ascii_strtoull(word[PENDING], NULL, 10) >> (SIGKILL - 1) & 1;
}

bool snap_is_dying(const struct snap_session_opts *opts, pid_t thread)
{
	snap_autofd int fd = opts->open_proc(thread, "stat");
	char text[1024];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return snap_dying_parse(text);
}
