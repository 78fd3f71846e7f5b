/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot pages: the pages of a `ram` file that a guest needs first.
 *
 * snapfs learns them from the processes that open `ram` (learn.c), writes them
 * to the file `hot` beside the snapshot, and gives them to the kernel the next
 * time `ram` is opened (push.c). `hot` is a hint: a wrong one costs time.
 */
#pragma once

#include "fs/load/pages.h"
#include "fs/plain/plain.h"
#include "format/qemu/ramlist.h"

/* What all `ram` files of a mount share. */
typedef struct SnapHotPages SnapHotPages;

/* Opens /proc/PID/NAME (status, maps, pagemap) for reading. A descriptor, or
 * -errno. From any thread, also after all else has ended. */
typedef int (*snap_hot_open_proc)(pid_t pid, const char *name);

/* `tmp_fd` (borrowed) is the folder in which a list is written before it gets
 * its name. With -1, pages are given but nothing is learnt; without
 * `open_proc`, only what is read is learnt. */
SnapHotPages *snap_hot_pages_new(int tmp_fd, snap_hot_open_proc open_proc);
/* No page may be under way: snap_hot_pages_end(). */
void snap_hot_pages_free(SnapHotPages *hot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapHotPages, snap_hot_pages_free)

/* The number of the mount's file system. Mappings of its files are found by it.
 */
void snap_hot_pages_mounted(SnapHotPages *hot, dev_t device);

/* Gives the kernel bytes of a node that no process has read yet. -errno when
 * the kernel does not take them. */
typedef int (*snap_hot_push)(void *data, SnapNode *node, uint64_t offset,
			     void *buf, size_t size);

/* Sets that function; NULL: no pages are given. */
void snap_hot_pages_on_push(SnapHotPages *hot, snap_hot_push push, void *data);

/* Stops giving pages, for good, and waits until none is under way. The kernel's
 * requests must still be served meanwhile. */
void snap_hot_pages_end(SnapHotPages *hot);

/* Bytes given to the kernel since the start. */
uint64_t snap_hot_pages_pushed(SnapHotPages *hot);

/* What the open files of a `ram` share; its node embeds it. Protected by the
 * lock of SnapHotPages. */
struct snap_hot_state {
	bool pushed;   /* its hot pages were given */
	guint watches; /* processes that have it open */
};

/* An open `ram` file. All is borrowed, and lives as long as the open file. */
struct snap_hot_file {
	SnapHotPages *hot;
	SnapNode *node;
	struct snap_hot_state *state;
	SnapNode *folder; /* where `hot` lies */
	int snapshot_fd;  /* the snapshot's file; O_PATH */
	uint64_t ino;	  /* of `ram`, in the mount */
	const struct snap_ramlist *ram;
	SnapPages *pages;
};

/* Gives the kernel the hot pages of a file, in the background, once. */
void snap_hot_give(struct snap_hot_file *file);

/* Learns from a process that has opened `ram`. */
typedef struct SnapLearner SnapLearner;

/* `thread` is the thread that opened the file; 0 where it is not known. The
 * open file must outlive the learner. */
SnapLearner *snap_learner_new(struct snap_hot_file *file, pid_t thread);

/* Notes a read of `size` bytes. */
void snap_learner_note(SnapLearner *l, uint64_t offset, uint64_t size);

/* The process has closed the file: adds what was learnt to `hot`. NULL is fine.
 */
void snap_learner_free(SnapLearner *l);
