/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a service, known to serve.c (the conversation),
 * plan.c (what is read) and send.c (what is sent).
 *
 *	QEMU asks ──→ asks ──→ plan: reads ──→ pool ──→ ready chunks
 *	                                                     │
 *	QEMU ←── wire ←── batch ←── send: the most urgent ←──┘
 *
 * One thread does all this but the reading. A page is sent when it is put into
 * a batch, and is then marked in `sent`; whatever else had it in mind drops it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/qemu/hot.h"
#include "format/qemu/postcopy-return.h"
#include "tools/bridge/pool.h"
#include "tools/bridge/stats.h"
#include "tools/bridge/wire.h"
#include "tools/bridge/bridge.h"

enum bridge_phase {
	PHASE_BEGIN,
	PHASE_PRECOPY,	/* pages before the guest runs */
	PHASE_LOADING,	/* QEMU loads the devices; it may ask already */
	PHASE_RECOVER,	/* after a break: QEMU says what it has */
	PHASE_RESUMING, /* it has been told to go on */
	PHASE_DRAIN,	/* the guest runs */
	PHASE_ENDING,	/* all is sent */
	PHASE_DONE,
};

/* A page that QEMU waits for. */
struct ask {
	guint block;
	uint64_t offset;
	gint64 since;
	bool reading; /* a chunk for it has been handed in */
};

struct bridge {
	const struct bridge_opts *opts;
	Folder *folder;
	const SnapPostcopy *post;
	const struct snap_stream_info *info;
	struct wire wire;
	Pool *pool;
	SnapReturn *ret;
	enum bridge_phase phase;
	bool gone;	    /* QEMU takes no more bytes */
	guint bitmaps_left; /* RECOVER: answers to come */
	struct stats stats;

	/* A bit for each target page of flat RAM. */
	uint64_t *sent;
	uint64_t *asked;
	uint64_t *planned; /* for a hot chunk */

	GArray *asks;	 /* struct ask, the oldest first */
	gint64 last_ask; /* when the last one came */
	GArray *learnt;	 /* what was asked for, in order */

	/* What is read next. */
	GPtrArray *chunks[CHUNK_KINDS];
	size_t room[CHUNK_KINDS]; /* of a chunk */
	guint most[CHUNK_KINDS];  /* chunks */
	GArray *hot;
	guint hot_run;
	uint64_t hot_page; /* of that run */
	guint bulk_block;
	uint64_t bulk_offset;
	uint64_t passed; /* bytes read or found to be holes */
	uint64_t goal;	 /* PRECOPY: enough, in bytes */

	/* What is sent next. */
	GQueue ready[CHUNK_KINDS];
	struct chunk *lent; /* the batch under way points into it */
	bool lent_done;	    /* and that was the last of it */
	gint64 lent_since;  /* 0, or the batch answers an ask of that time */

	/* The first page that could not be read. */
	int bad_error;
	guint bad_block;
	uint64_t bad_offset;
	uint64_t bad_count;
};

static inline bool bit_get(const uint64_t *bits, uint64_t n)
{
	return bits[n / 64] >> n % 64 & 1;
}

static inline void bit_set(uint64_t *bits, uint64_t n)
{
	bits[n / 64] |= (uint64_t)1 << n % 64;
}

static inline void bit_clear(uint64_t *bits, uint64_t n)
{
	bits[n / 64] &= ~((uint64_t)1 << n % 64);
}

/* A page's number in flat RAM. */
static inline uint64_t bridge_page(const struct bridge *b, guint block,
				   uint64_t offset)
{
	return (b->info->ram.blocks[block].flat + offset) /
	       b->info->target_page;
}

/* Prepares chunks and lists. */
void bridge_plan_init(struct bridge *b);

/* Hands in reads for what is asked for and, as far as chunks are free, for
 * what comes next. */
void bridge_plan(struct bridge *b);

/* True when there is nothing more to read and nothing that was read and is not
 * sent, but for what QEMU asks for. */
bool bridge_plan_done(const struct bridge *b);

/* Takes back what has been read. -errno when that cannot go on. */
int bridge_collect(struct bridge *b, GError **error);

/* Gives a chunk back to the plan. */
void bridge_chunk_done(struct bridge *b, struct chunk *c);

/* Puts the page that has been asked for first, of those that have been read,
 * into a batch; false when there is none. */
bool bridge_send_ask(struct bridge *b);

/* Puts pages nobody has asked for into a batch: neighbours of those asked for,
 * hot ones, any; false when there are none. */
bool bridge_send_background(struct bridge *b);

/* The batch is out. */
void bridge_sent(struct bridge *b);

/* A chunk that has been read and holds that page, or NULL. */
struct chunk *bridge_find_ready(const struct bridge *b, guint block,
				uint64_t offset);
