/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The description of the devices, JSON at the end of a stream, also describes
 * the configuration with its list of capabilities. Where mapped-ram is taken
 * out of the configuration, or put into it, the description must follow: a
 * program that reads the stream by it (QEMU's scripts/analyze-migration.py)
 * stops otherwise.
 *
 * Only the text that QEMU writes for this one capability is known here
 * (migration/savevm.c, vmstate_configuration; migration/vmstate.c writes the
 * JSON). Any other text is left as it is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the text that a change looks at; it is near the beginning. */
#define SNAP_DESCRIPTION_HEAD 2048u

/* The most bytes that a change brings. */
#define SNAP_DESCRIPTION_CHANGE_MAX 256u

/* A change of the text: the bytes [from, to) become `bytes`. */
struct snap_description_change {
	size_t from;
	size_t to;
	char bytes[SNAP_DESCRIPTION_CHANGE_MAX];
	size_t size;
};

/* The change that hides the list of capabilities behind as many spaces. False
 * where there is none to make. */
bool snap_description_hide(const void *text, size_t size,
			   struct snap_description_change *ret);

/* The change that shows it again, or puts it in where nothing was hidden. */
bool snap_description_show(const void *text, size_t size,
			   struct snap_description_change *ret);

/* The change that takes out what snap_description_show() has put in. */
bool snap_description_drop(const void *text, size_t size,
			   struct snap_description_change *ret);
