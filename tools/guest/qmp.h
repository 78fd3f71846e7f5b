/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of QMP, QEMU's control protocol: one line of JSON for each message,
 * over a socket.
 *
 * The other end is not trusted: the length of a line and the time for an answer
 * are limited, and events are handled at once and not stored.
 */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "tools/guest/json.h"

/* The first version that can migrate to and from `file:`. */
#define SNAP_QEMU_WITH_FILE 80200

typedef struct SnapQmp SnapQmp;

/* Handles an event. `time` is QEMU's, in us since 1970; `about` may be NULL. If
 * it returns -errno with an error, the running call ends with that. */
typedef int (*snap_qmp_event)(const char *name, gint64 time, JsonObject *about,
			      void *data, GError **error);

/* Connects to `address`, the path of a unix socket or tcp:HOST:PORT, and reads
 * the greeting. Returns 0, -ETIMEDOUT, -EPROTO if no QMP comes, or an error of
 * connect(2). */
int snap_qmp_connect(const char *address, SnapQmp **ret_qmp, GError **error);
void snap_qmp_free(SnapQmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapQmp, snap_qmp_free)

/* Sets the handler of events. */
void snap_qmp_listen(SnapQmp *qmp, snap_qmp_event handler, void *data);

/* Sets how many seconds an answer may take (10 if not set). */
void snap_qmp_set_timeout(SnapQmp *qmp, guint seconds);

/* Makes calls end with -EINTR when `fd` becomes readable; after that, the
 * connection cannot be used any more. */
void snap_qmp_interrupt(SnapQmp *qmp, int fd);

/* Runs a command. Takes over `arguments`, which may be NULL. *ret, unless ret
 * is NULL, is the object that QEMU returned; a list or another value is wrapped
 * as the member "list" or "value". Returns 0; -EREMOTEIO with QEMU's words if
 * it refused, -ECONNRESET if it has closed the connection, -ETIMEDOUT, -EPROTO;
 * or what the handler of an event returned. */
int snap_qmp_call(SnapQmp *qmp, const char *command, JsonObject *arguments,
		  JsonObject **ret, GError **error);

/* Hands a copy of the descriptor `fd` to QEMU, which knows it by `name`. Needs
 * a unix socket. Returns as snap_qmp_call(). */
int snap_qmp_give(SnapQmp *qmp, const char *name, int fd, GError **error);

/* The QEMU at the other end. */
struct snap_qmp_peer {
	guint version; /* major * 10000 + minor * 100 + micro */
	char *version_text;
	pid_t pid; /* this and the next two: 0 if not known */
	uid_t uid;
	gid_t gid;
};

/* Describes the QEMU at the other end. */
const struct snap_qmp_peer *snap_qmp_peer(const SnapQmp *qmp);
