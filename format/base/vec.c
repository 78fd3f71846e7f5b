/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/base/vec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "format/base/fileio.h"
#include "format/base/units.h"

/* Zeros that all answers share. Written once: the kernel's own page of zeros,
 * which would stand for them until then, is slow to be read by writev(2)
 * (pte_special() sends gup_fast_pte_range(), mm/gup.c, the long way). */
#define ZEROS (64 * SNAP_KIB)
static _Alignas(SNAP_PAGE) uint8_t zeros[ZEROS];

static gpointer zeros_make(gpointer unused)
{
	/* Else the compiler may know better than to write them. */
	volatile uint8_t *to = zeros;

	for (size_t i = 0; i < ZEROS; i += SNAP_PAGE)
		to[i] = 0;
	return NULL;
}

struct held {
	snap_vec_release release;
	void *owner;
	const void *thing;
};

struct SnapVec {
	guint n;
	guint n_held;
	size_t most;	   /* bytes of the answer */
	size_t used;	   /* bytes of `own` */
	size_t held_bytes; /* of things held */
	size_t own_size;
	uint8_t *own;
	struct iovec iov[SNAP_VEC_MAX];
	struct held held[SNAP_VEC_MAX];
};

SnapVec *snap_vec_new(void)
{
	static GOnce once = G_ONCE_INIT;

	g_once(&once, zeros_make, NULL);
	return g_new0(SnapVec, 1);
}

void snap_vec_free(SnapVec *vec)
{
	if (!vec)
		return;
	snap_vec_begin(vec, 0);
	free(vec->own);
	g_free(vec);
}

void snap_vec_begin(SnapVec *vec, size_t size)
{
	for (guint i = 0; i < vec->n_held; i++)
		vec->held[i].release(vec->held[i].owner, vec->held[i].thing);
	vec->n = vec->n_held = 0;
	vec->used = vec->held_bytes = 0;
	vec->most = size;
}

/* The answer's own memory is there when it is first needed, for the longest
 * answer so far. It does not move while an answer is put together. */
static bool own_memory(SnapVec *vec)
{
	void *own;

	if (vec->own_size >= vec->most)
		return true;
	if (vec->used || posix_memalign(&own, SNAP_PAGE, vec->most))
		return false;
	free(vec->own);
	vec->own = own;
	vec->own_size = vec->most;
	return true;
}

/* Appends a piece, or extends the last one if that ends where this one begins.
 */
static void append(SnapVec *vec, const void *data, size_t size)
{
	struct iovec *last = vec->n ? &vec->iov[vec->n - 1] : NULL;

	if (last && (const uint8_t *)last->iov_base + last->iov_len == data) {
		last->iov_len += size;
		return;
	}
	g_assert(vec->n < SNAP_VEC_MAX);
	vec->iov[vec->n++] = (struct iovec){ (void *)data, size };
}

void *snap_vec_room(SnapVec *vec, size_t size)
{
	uint8_t *room;

	if (!own_memory(vec))
		return NULL;
	g_assert(size <= vec->own_size - vec->used);
	room = vec->own + vec->used;
	vec->used += size;
	append(vec, room, size);
	return room;
}

/* With only one piece left, all that follows is copied into it. */
static bool is_full(const SnapVec *vec)
{
	return vec->n + 1 >= SNAP_VEC_MAX;
}

int snap_vec_copy_in(SnapVec *vec, const void *data, size_t size)
{
	void *room = snap_vec_room(vec, size);

	if (!room)
		return -ENOMEM;
	memcpy(room, data, size);
	return 0;
}

int snap_vec_point(SnapVec *vec, const void *data, size_t size)
{
	if (is_full(vec))
		return snap_vec_copy_in(vec, data, size);
	append(vec, data, size);
	return 0;
}

int snap_vec_zero(SnapVec *vec, size_t size)
{
	int r = 0;

	while (r == 0 && size) {
		size_t n = MIN(size, ZEROS);

		r = snap_vec_point(vec, zeros, n);
		size -= n;
	}
	return r;
}

bool snap_vec_hold(SnapVec *vec, size_t size, snap_vec_release release,
		   void *owner, const void *thing)
{
	if (vec->n_held == SNAP_VEC_MAX ||
	    (vec->n_held && vec->held_bytes + size > 2 * vec->most))
		return false;
	vec->held[vec->n_held++] = (struct held){ release, owner, thing };
	vec->held_bytes += size;
	return true;
}

void snap_vec_cut(SnapVec *vec, size_t size)
{
	guint i;

	for (i = 0; i < vec->n && size; i++) {
		vec->iov[i].iov_len = MIN(vec->iov[i].iov_len, size);
		size -= vec->iov[i].iov_len;
	}
	vec->n = i;
}

const struct iovec *snap_vec_get(const SnapVec *vec, guint *ret_n)
{
	*ret_n = vec->n;
	return vec->iov;
}

int snap_vec_write(const SnapVec *vec, int fd)
{
	int r = 0;

	for (guint i = 0; r == 0 && i < vec->n; i++)
		r = snap_write_all(fd, vec->iov[i].iov_base,
				   vec->iov[i].iov_len);
	return r;
}

void snap_vec_copy_out(const SnapVec *vec, void *buf)
{
	uint8_t *to = buf;

	for (guint i = 0; i < vec->n; i++) {
		memcpy(to, vec->iov[i].iov_base, vec->iov[i].iov_len);
		to += vec->iov[i].iov_len;
	}
}
