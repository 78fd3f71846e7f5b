/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `--version` says: the program's version, and those of its libraries. */
#pragma once

/* Names a library and its version, as "zstd 1.5.4"; g_free() frees it. Each
 * room that uses a library has one: it asks the library that runs, or, where
 * that cannot be asked, says what the program was built with. */
typedef char *snap_library(void);

/* Makes the text for a program: its version, and in a second line GLib's and
 * that of each of these libraries. NULL is the last of them. */
char *snap_version(const char *program, snap_library *const *libraries);
