/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A store, a save into it, and the result. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>
#include <stdbool.h>

#include "fs/catalog/catalog.h"
#include "fs/save/save.h"

#define RAM_PAGES 1500u
#define RAM_SIZE ((uint64_t)RAM_PAGES * SNAP_PAGE)
#define ROM_PAGES 16u
#define ROM_SIZE ((uint64_t)ROM_PAGES * SNAP_PAGE)
#define ROM_FLAT (3 * SNAP_REGION)
#define FLAT_SIZE (ROM_FLAT + ROM_SIZE)

struct world {
	char *store;
	SnapCatalog *catalog;
	SnapSaver *saver;
	SnapSave *save;
	int folder_fd;
	uint8_t *ram; /* the expected content of flat RAM, FLAT_SIZE bytes */
	GByteArray *stream;
};

void world_open(struct world *w, uint64_t buffer);
void world_close(struct world *w);

/* Saves look for a parent from now on. */
void world_increments(struct world *w);

/* Writers wait for at most so long from now on. */
void world_timeout(struct world *w, guint seconds);

/* Begins a save of a stream that begins at 0, or at `begin`; ends the last
 * one. */
void begin_save(struct world *w);
void begin_save_of(struct world *w, uint64_t begin);

/* Writes, and waits for the answer. */
ssize_t put(struct world *w, const void *data, size_t size, uint64_t offset);

/* Writes `size` bytes of the stream in pieces; stops at the first that
 * fails. */
ssize_t put_all(struct world *w, size_t size, size_t step);

/* Writes without waiting for the answer. */
struct outcome *put_later(struct world *w, const void *data, size_t size,
			  uint64_t offset);
/* True when the answer came. */
bool outcome_given(struct outcome *o);
/* Waits for the answer: true when the snapshot was there as it came. */
bool outcome_saved(struct outcome *o);
/* Waits for the answer, and frees it. */
ssize_t outcome_wait(struct outcome *o);

/* Asks whether the stream could end here; the first without waiting for the
 * answer. */
struct outcome *check_later(struct world *w);
ssize_t check(struct world *w);

bool there_is_a_snapshot(const struct world *w);
void assert_saved(struct world *w);
void assert_failed(struct world *w, int code);

/* The snapshot's properties, for snap_meta_clear(), and `size` bytes of its
 * page space from `offset` on, to be freed. */
uint8_t *saved_bytes(struct world *w, uint64_t offset, size_t size);
void saved_meta(struct world *w, struct snap_meta *ret_meta);
