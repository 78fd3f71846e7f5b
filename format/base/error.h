/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors: an errno for the kernel, a sentence for the person.
 *
 * Everything fallible returns 0 or -errno (or a count). Where a person can act
 * on it, a GError ** comes last and is set in the same line. One errno has one
 * meaning throughout:
 *
 *   EBADMSG     bytes are damaged: a checksum or a range does not hold
 *   EPROTO      not a QEMU stream, or not where one can stand
 *   EOPNOTSUPP  a feature of the format that this program does not know
 *   ENODATA     never committed: no valid trailer
 *   ESTALE      replaced or changed under us
 *   EROFS       the view or the store is read-only
 *   EBUSY       somebody else has it: another mount, another writer
 *   EPERM       a name or an act that snapfs keeps to itself
 */
#pragma once

#include <errno.h>
#include <glib.h>

/* The domain of our errors; a GError's code is the errno. */
#define SNAP_ERROR (snap_error_quark())
GQuark snap_error_quark(void);

/* Sets *error to the sentence, unless nobody listens (error is NULL), and
 * returns -code. `code` is a positive errno. */
int snap_fail(GError **error, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* The same with strerror(code) behind the sentence: "sentence: reason". */
int snap_fail_errno(GError **error, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);

/* Puts "prefix: " before the sentence of an error that is on its way up, and
 * returns `code` as it came. */
int snap_fail_prefix(GError **error, int code, const char *format, ...)
	G_GNUC_PRINTF(3, 4);
