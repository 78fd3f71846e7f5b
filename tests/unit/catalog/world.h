/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store with three folders, whose snapshots share files. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>

#include "fs/catalog/catalog.h"

#define WORLD_FOLDERS 3

struct world {
	char *path;
	SnapCatalog *catalog;
	int fds[WORLD_FOLDERS]; /* of the folders a, b, c */
	int layers_fd;
};

/* For cmocka: makes a store for increments; removes it. */
int world_open(void **state);
int world_close(void **state);

/* The number of files among the layers. */
guint count_layers(const struct world *w);

/* Saves four regions into folder `to`: with a parent, all but one of them are
 * its own. */
void save(struct world *w, guint to, int parent, guint changed);

/* Opens a snapshot with its parents, and reads all of it. */
int check(struct world *w, guint folder, GError **error);

/* Removes the snapshot of a folder. */
void removes(struct world *w, guint folder);

/* Removes what is not used; so many layers are left. */
void collects(struct world *w, guint left);
