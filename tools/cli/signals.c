/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/cli/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "tools/cli/print.h"

int snap_signals_hold(void)
{
	static const int held[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t set;

	sigemptyset(&set);
	for (guint i = 0; i < G_N_ELEMENTS(held); i++) {
		struct sigaction action;

		if (sigaction(held[i], NULL, &action) == 0 &&
		    action.sa_handler != SIG_IGN)
			sigaddset(&set, held[i]);
	}
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int snap_signals_take(int fd)
{
	struct signalfd_siginfo info;

	if (fd < 0 || read(fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	return (int)info.ssi_signo;
}

int snap_signals_wait(int signals_fd, int fd)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLIN },
				{ .fd = signals_fd, .events = POLLIN } };

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	return fds[1].revents ? snap_signals_take(signals_fd) : 0;
}

bool snap_signals_sleep(int fd, int ms)
{
	struct pollfd signals = { .fd = fd, .events = POLLIN };

	return poll(&signals, 1, ms) > 0;
}

int snap_signals_exit(int signal, const char *sentence, GError **error)
{
	snap_print_error("%s", sentence);
	g_clear_error(error);
	return 128 + signal;
}
