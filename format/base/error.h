/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors: an errno for the kernel, a sentence for the user.
 *
 * A function that can fail returns 0 or -errno (or a count). If the user can
 * act on the error, the last parameter is a GError **, which is set in the same
 * line. Each errno has one meaning:
 *
 *	EBADMSG     bytes are damaged: wrong checksum or value out of range
 *	EPROTO      not a QEMU stream, or not where the stream can go on
 *	EOPNOTSUPP  a feature of the format that this program does not know
 *	ENODATA     ends too early; a snapshot without a trailer: not committed
 *	ENOLINK     a parent of the snapshot is missing
 *	ENOMSG      there is nothing to save yet; inside fs only
 *	ESTALE      replaced or changed while it was in use
 *	EROFS       the view or the store is read-only
 *	EUCLEAN     done, but a crash of the machine may undo it
 *	EBUSY       in use by another mount or another writer
 *	ETIMEDOUT   a save into which nobody has written for long
 *	EPERM       a name or an operation that snapfs reserves for itself
 */
#pragma once

#include <errno.h>
#include <glib.h>

/* The domain of snapfs errors. The code of a GError is the errno. */
#define SNAP_ERROR (snap_error_quark())
GQuark snap_error_quark(void);

/* Sets *error to the sentence, unless `error` is NULL, and returns -code.
 * `code` is a positive errno. */
int snap_fail(GError **error, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* The same, with strerror(code) at the end: "sentence: reason". */
int snap_fail_errno(GError **error, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* Puts "prefix: " in front of the sentence of *error, if there is one, and
 * returns `code` unchanged. */
int snap_fail_prefix(GError **error, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
