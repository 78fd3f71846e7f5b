/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of QMP, QEMU's control protocol: JSON, a line each, over a unix
 * socket.
 *
 * What comes is not trusted: a line has a greatest length, an answer a last
 * moment, and events are handled as they come, none is kept.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "tools/guest/json.h"

typedef struct SnapQmp SnapQmp;

/* Called for each event: `time` is QEMU's, in us since 1970; `about` may be
 * NULL. -errno, with a sentence, ends the call that is on its way: QEMU may be
 * unable to answer it. */
typedef int (*snap_qmp_event)(const char *name, gint64 time, JsonObject *about,
			      void *data, GError **error);

/* Connects to the socket at `path`, and takes the greeting. Errors: -ETIMEDOUT,
 * -EPROTO where it speaks no QMP, what connect(2) says, and for all that
 * follows -ECONNRESET when QEMU has gone. */
int snap_qmp_connect(const char *path, SnapQmp **ret_qmp, GError **error);
void snap_qmp_free(SnapQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapQmp, snap_qmp_free)

/* Who is told of events from now on. */
void snap_qmp_listen(SnapQmp *qmp, snap_qmp_event heard, void *data);

/* How many seconds an answer may take from now on. */
void snap_qmp_patience(SnapQmp *qmp, guint seconds);

/* From now on, a call ends with -EINTR when `fd` can be read; the connection is
 * of no use after that. */
void snap_qmp_interrupt(SnapQmp *qmp, int fd);

/* Runs a command. `arguments` may be NULL and is taken; *ret, which may be
 * NULL, is what it returned: an object, where it is anything else an object
 * whose member "list" or "value" that is. -EREMOTEIO with QEMU's own words when
 * it refuses. */
int snap_qmp_call(SnapQmp *qmp, const char *command, JsonObject *arguments,
		  JsonObject **ret, GError **error);

/* QEMU's version, as major * 10000 + minor * 100 + micro, and for people. */
guint snap_qmp_version(const SnapQmp *qmp);
const char *snap_qmp_version_text(const SnapQmp *qmp);

/* The process and the user at the other end; 0 where that is not known. */
pid_t snap_qmp_pid(const SnapQmp *qmp);
uid_t snap_qmp_uid(const SnapQmp *qmp);
gid_t snap_qmp_gid(const SnapQmp *qmp);
