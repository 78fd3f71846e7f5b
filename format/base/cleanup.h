/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scoped clean-up that glib lacks. */
#pragma once

#include <glib.h>
#include <unistd.h>

/* Closes the descriptor of a variable that goes out of scope. */
static inline void snap_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* A file descriptor that closes itself: snap_autofd int fd = open(...). */
#define snap_autofd __attribute__((cleanup(snap_close_fd)))

/* Hands a descriptor over: returns it and sets the variable to -1. */
static inline int snap_steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

/* Holds a GMutex until the end of the scope. */
#define SNAP_LOCKED(mutex)                                                     \
	g_autoptr(GMutexLocker) snap_locked G_GNUC_UNUSED =                    \
		g_mutex_locker_new(mutex)
