/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of an answer as a vector: pieces that stay where they are, in a
 * cached frame, in zeros that all share, or in memory of the answer's own. So
 * nobody copies them together before writev(2) hands them to the kernel.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

typedef struct SnapVec SnapVec;

/* Makes an empty vector, which is used for one answer after the other. */
SnapVec *snap_vec_new(void);
void snap_vec_free(SnapVec *vec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapVec, snap_vec_free)

/* Begins an answer of at most `size` bytes. Releases what the last one held. */
void snap_vec_begin(SnapVec *vec, size_t size);

/* Appends `size` bytes of the answer's own memory, for the caller to fill; NULL
 * where there is no memory. */
void *snap_vec_room(SnapVec *vec, size_t size);

/* Appends `size` zeros. Returns 0 or -ENOMEM. */
int snap_vec_zero(SnapVec *vec, size_t size);

/* Ends the hold of `thing`, which `owner` gave. */
typedef void (*snap_vec_release)(void *owner, const void *thing);

/* Takes over the hold of a thing of `size` bytes, until the next
 * snap_vec_begin(). False where the vector can hold no more, or would hold more
 * than twice its answer: the caller copies. */
bool snap_vec_hold(SnapVec *vec, size_t size, snap_vec_release release,
		   void *owner, const void *thing);

/* Appends `size` bytes at `data`, which a thing held above keeps as they are.
 * Returns 0 or -ENOMEM. */
int snap_vec_point(SnapVec *vec, const void *data, size_t size);

/* Appends a copy of `size` bytes at `data`. Returns 0 or -ENOMEM. */
int snap_vec_copy_in(SnapVec *vec, const void *data, size_t size);

/* Cuts the answer to `size` bytes; it has no less. */
void snap_vec_cut(SnapVec *vec, size_t size);

/* The pieces in order, at most SNAP_VEC_MAX; owned by `vec`. */
#define SNAP_VEC_MAX 512u
const struct iovec *snap_vec_get(const SnapVec *vec, guint *ret_n);

/* Writes all bytes to a descriptor. Returns 0 or -errno. */
int snap_vec_write(const SnapVec *vec, int fd);

/* Copies all bytes to `buf`. */
void snap_vec_copy_out(const SnapVec *vec, void *buf);
