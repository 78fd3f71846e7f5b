/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of names in a crash: notes every link, removal and rename that
 * the program makes, and every sync, so that a test can look at what a crash
 * would have left. Its calls pass through this file by the linker (--wrap).
 *
 * A name that was changed before its folder was synced, or all was, is as it
 * was changed. Of later changes each is there or not: a folder keeps no order.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Begins to note; ends that, and forgets all. */
void crash_names_begin(void);
void crash_names_end(void);

/* Notes a name that was there before, and is durable. */
void crash_names_add(int dirfd, const char *name);

/* From now on linkat fails with this errno; 0: it works. */
void crash_names_fail_links(int error);

/* Syncs are noted no more: a disk that lies. */
void crash_names_lie(void);

/* The number of changes and syncs so far. */
guint crash_names_count(void);

/* The names that a crash after the first `n` of them leaves, as `rand` has it;
 * NULL: all of them. The folders' names are not noted. */
GHashTable *crash_names_after(guint n, GRand *rand);

/* Opens the file that has a name in the folder `dirfd`; -1: none has it. */
int crash_names_open(GHashTable *names, int dirfd, const char *name);

/* Makes the names in the folder `dirfd` what a crash has left: those that were
 * noted. */
void crash_names_restore(GHashTable *names, int dirfd);
