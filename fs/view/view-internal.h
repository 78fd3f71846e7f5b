/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of fs/view share: the sealed snapshot, the table of a view's
 * functions, and what views are put together from.
 *
 * Locks: a layout's (struct snap_mapped), then the description's, then that of
 * SnapSnapshots.
 */
#pragma once

#include <errno.h>

#include "fs/view/view.h"

#include "format/base/bytes.h"
#include "format/qemu/describe.h"
#include "format/qemu/synth.h"
#include "fs/plain/plain.h"

/* ---- sealed snapshots (sealed.c) ---- */

/* Tells snapshots apart: by the folder, the file, and the side file. Two
 * folders may hold the same file, and still are two snapshots: each has its own
 * side file, hidden views and damage. Compared byte by byte. */
struct snap_sealed_key {
	uint64_t folder_dev;
	uint64_t folder_ino;
	uint64_t dev;
	uint64_t ino;
	uint64_t birth; /* 0 where it is not known */
	uint64_t size;
	int64_t mtime_sec;
	int64_t mtime_nsec;
	uint64_t side_ino; /* of the side file; all 0 where there is none */
	uint64_t side_size;
	int64_t side_mtime_sec;
	int64_t side_mtime_nsec;
};

/* A layout as mapped-ram, made when it is first needed. */
struct snap_mapped {
	GMutex lock;	    /* held while it is made */
	SnapLayout *layout; /* atomic */
	int error;	    /* it cannot be made */
};

/* The description in the device state: its length and the beginning of its
 * text, found when it is first needed (description.c). */
struct snap_described {
	GMutex lock;
	bool known;  /* the rest does not change any more */
	uint64_t at; /* in the device state; 0: there is none */
	size_t size; /* of `bytes` */
	uint8_t bytes[sizeof(be32) + SNAP_DESCRIPTION_HEAD];
};

/* A snapshot on disk. A damaged one has no pages but an error. */
struct SnapSealed {
	SnapSnapshots *snapshots;
	guint refs; /* protected by the lock of `snapshots`, as the next */
	struct snap_idle_place place; /* with no references */
	struct snap_sealed_key key;
	uint64_t elsewhere; /* 0: it is on the store's own file system */
	int fd;		    /* O_PATH, of the snapshot's file */
	int error;
	char *why; /* the error's sentence */
	SnapPages *pages;
	/* Where RAM and device state are separate: */
	struct snap_stream_info info;
	SnapLayout *layout;	   /* of the classic stream */
	struct snap_mapped mapped; /* that begins at 0 */
	struct snap_mapped behind; /* that begins behind the preamble */
	struct snap_described described;

	GBytes *preamble;   /* the side file's content, where there is one */
	int preamble_error; /* the side file is damaged */
};

struct SnapSnapshots {
	struct snap_snapshots_opts opts;
	GMutex edits;	   /* held while a preamble is replaced */
	GMutex lock;	   /* protects all below */
	GHashTable *table; /* snapshots by key; not references */
	SnapIdle *idle;	   /* those without references */
	GQueue logged;	   /* damage that the log names already */
};

/* The snapshot of a key in a folder: a new reference. -ESTALE when the folder
 * holds another. */
int snap_sealed_find(SnapSnapshots *snapshots, SnapNode *folder,
		     const struct snap_sealed_key *key,
		     SnapSealed **ret_sealed);

/* The snapshot of a key, if it is open: a new reference, or NULL. */
SnapSealed *snap_sealed_known(SnapSnapshots *snapshots,
			      const struct snap_sealed_key *key);

/* What a folder holds. -ENOENT, -errno. */
int snap_sealed_look(SnapNode *folder, struct snap_sealed_key *ret_key);

/* The snapshot's properties; NULL when they cannot be read. */
static inline const struct snap_meta *snap_sealed_meta(const SnapSealed *sealed)
{
	return sealed->pages ? snap_pages_meta(sealed->pages) : NULL;
}

/* What is damaged. */
enum snap_damage {
	SNAP_DAMAGE_FILE,
	SNAP_DAMAGE_MAPPED,
};

/* Logs damage, once for each snapshot and kind of damage. */
void snap_sealed_log(const SnapSealed *sealed, const char *path,
		     enum snap_damage what, const char *sentence);

/* True for errors whose cause is the snapshot's file. */
static inline bool snap_is_damage(int error)
{
	return error == -EBADMSG || error == -ENODATA || error == -EPROTO ||
	       error == -EOPNOTSUPP || error == -ENOLINK;
}

/* ---- a view (view.c) ---- */

/* The functions of a view. All but `seek` are needed. */
struct snap_view {
	const char *name;
	guint number; /* part of inode numbers: never changes */
	bool learns;  /* its readers teach which pages are hot */
	bool split;   /* listed by a snapshot that has `ram` */
	bool (*present)(const SnapSealed *sealed);
	/* Bytes. -EBADMSG, or -errno of an error that passes. */
	int (*size)(SnapSealed *sealed, uint64_t *ret_size);
	/* Reads within the size, as snap_pages_give. What is not held by the
	 * vector lives as long as the snapshot. */
	int (*give)(SnapSealed *sealed, SnapVec *vec, size_t size,
		    uint64_t offset, struct snap_pages_hint *hint);
	/* Finds data, or a hole, at or behind `offset`; the size where there is
	 * none. NULL: the view has no holes. */
	int (*seek)(SnapSealed *sealed, uint64_t offset, bool hole,
		    uint64_t *ret_offset);
};

extern const SnapView snap_view_mapped;
extern const SnapView snap_view_ram;
extern const SnapView snap_view_devstate;
extern const SnapView snap_view_preamble;

/* ---- what views are put together from ---- */

/* Reads within a layout (runs.c). */
int snap_runs_give(SnapSealed *sealed, const SnapLayout *layout, SnapVec *vec,
		   size_t size, uint64_t offset, struct snap_pages_hint *hint);

/* Finds data, or a hole, in a layout; its size where there is none. */
int snap_runs_seek(SnapSealed *sealed, const SnapLayout *layout,
		   uint64_t offset, bool hole, uint64_t *ret_offset);

/* Finds data, or a hole, at or behind `offset` in [base, base + length) of the
 * page space. Offsets count from `base`; `length` where there is none. */
int snap_space_seek(SnapSealed *sealed, uint64_t base, uint64_t length,
		    uint64_t offset, bool hole, uint64_t *ret_offset);

/* Reads within a run of page records (records.c). */
int snap_records_read(SnapSealed *sealed, const struct snap_run *run, void *buf,
		      size_t size, uint64_t offset,
		      struct snap_pages_hint *hint);

/* The layout of the snapshot as a mapped-ram stream that begins at `begin`: 0,
 * or behind the preamble (mapped.c). -EBADMSG, logged once, -errno. */
int snap_mapped_layout(SnapSealed *sealed, uint64_t begin,
		       const SnapLayout **ret_layout);

/* The description in the device state. -errno. */
int snap_description_get(SnapSealed *sealed, const struct snap_described **ret);

/* Opens the side file of the folder, if there is one. -EBADMSG, -errno. */
int snap_preamble_open(SnapSealed *sealed, int folder_fd, GError **error);

/* Reads within the preamble, and finds data (or a hole) in it. */
int snap_preamble_give(SnapSealed *sealed, SnapVec *vec, size_t size,
		       uint64_t offset, struct snap_pages_hint *hint);
int snap_preamble_seek(SnapSealed *sealed, uint64_t offset, bool hole,
		       uint64_t *ret_offset);
