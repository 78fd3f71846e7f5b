/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The order in which a mount gives things up: what needs a privilege comes
 * before the privilege goes. mount.snapfs(8) names what stays.
 */
#include "fs/mount/confine.h"

#include <errno.h>
#include <execinfo.h>
#include <glib.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <time.h>

#include "format/base/log.h"

#define CAP(name) ((uint64_t)1 << CAP_##name)

/* What a caller may do with files that are not the daemon's: give them to
 * their owner, read and change them, keep their setgid bit, make devices, and
 * set file capabilities. The kernel has checked the caller. */
#define CAPS_KEPT                                                              \
	(CAP(CHOWN) | CAP(FOWNER) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | \
	 CAP(FSETID) | CAP(MKNOD) | CAP(SETFCAP))
#define CAPS_KEPT_NAMES                                                        \
	"CHOWN, FOWNER, DAC_OVERRIDE, DAC_READ_SEARCH, FSETID, MKNOD, SETFCAP"

/* Loads what libraries load when they first need it: they could not later. */
static void load_late_parts(void)
{
	void *frame;

	/* pthread_cancel(3), by which libfuse ends its threads, aborts where
	 * glibc cannot load libgcc_s; so does backtrace(3) (its manual page).
	 */
	(void)backtrace(&frame, 1);
	tzset(); /* for syslog(3) */
}

/* Logs what became of one part. */
G_GNUC_PRINTF(2, 3)
static void tell(int r, const char *format, ...)
{
	bool lacking = r == -ENOSYS || r == -EOPNOTSUPP;
	g_autofree char *what = NULL;
	va_list args;

	va_start(args, format);
	what = g_strdup_vprintf(format, args);
	va_end(args);
	if (r == 0)
		snap_log(SNAP_LOG_DEBUG, "gave up %s", what);
	else
		snap_log(lacking ? SNAP_LOG_DEBUG : SNAP_LOG_WARNING,
			 "could not give up %s: %s", what,
			 lacking ? "the kernel cannot do that"
				 : g_strerror(-r));
}

void snap_confine(const struct snap_confine_opts *opts)
{
	int abi = 0, r;

	load_late_parts();
	if (!opts->keep_new_privs) {
		r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
		tell(r, "new privileges by executing a program");
	}
	if (SNAP_SANITIZED) {
		snap_log(SNAP_LOG_DEBUG,
			 "a sanitizer needs all files and system calls");
	} else {
		if (!opts->no_landlock) {
			r = snap_landlock_keep(opts->store_fd, opts->read_only,
					       opts->cache_fd, &abi);
			tell(r,
			     "all files but those of the store (Landlock, "
			     "version %d)",
			     abi);
		}
		if (!opts->no_seccomp)
			tell(snap_seccomp_keep(opts->debug),
			     "system calls that it does not make (seccomp)");
	}
	if (!opts->keep_caps)
		tell(snap_caps_keep(CAPS_KEPT),
		     "all capabilities but " CAPS_KEPT_NAMES);
}
