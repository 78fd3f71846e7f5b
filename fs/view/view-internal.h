/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of fs/view share: the tables of functions behind nodes,
 * handles and views, and the objects they work on; of what is written through
 * the mount, more in writing-internal.h.
 *
 * Locks: a writer's (SnapIncoming), a layout's (struct snap_mapped), the
 * tree's, in this order; no lock is taken, and nothing outside this folder
 * called, with the tree's held.
 */
#pragma once

#include <errno.h>

#include "fs/view/view.h"

#include "format/qemu/hot.h"
#include "format/qemu/synth.h"

/* ---- counters (stats.c) ---- */

enum snap_count {
	SNAP_COUNT_LOOKUP,
	SNAP_COUNT_GETATTR,
	SNAP_COUNT_SETATTR,
	SNAP_COUNT_LIST,
	SNAP_COUNT_NAME, /* made, moved or removed */
	SNAP_COUNT_OPEN,
	SNAP_COUNT_READ,
	SNAP_COUNT_WRITE,
	SNAP_COUNT_SEEK,
	SNAP_COUNT_XATTR,
	SNAP_COUNTS,
};

/* ---- nodes and handles (node.c) ---- */

/* What a kind of node can do; NULL: -EPERM, or as noted. */
struct snap_node_ops {
	bool is_store; /* a SnapStoreNode */
	int (*getattr)(SnapNode *node, SnapHandle *handle,
		       struct snap_attr *ret_attr);
	int (*setattr)(SnapNode *node, SnapHandle *handle, unsigned set,
		       const struct stat *st);
	/* -EISDIR without */
	int (*open)(SnapNode *node, int flags, const struct snap_caller *caller,
		    SnapHandle **ret_handle);
	/* frees all of it but the node's own memory */
	void (*clear)(SnapNode *node);
};

/* Tells nodes apart; compared byte by byte, so zeroed before it is filled. */
struct snap_node_key {
	const void *kind;
	uint64_t folder_dev;
	uint64_t folder_ino;
	uint64_t dev;
	uint64_t ino;
	uint64_t size;
	int64_t mtime_sec;
	int64_t mtime_nsec;
	uint64_t head_ino; /* of a `stream`'s side file */
	uint64_t head_size;
	int64_t head_mtime_sec;
	int64_t head_mtime_nsec;
	uint64_t extra;
};

struct SnapNode {
	const struct snap_node_ops *ops;
	SnapTree *tree;
	uint64_t serial;
	uint64_t refs; /* protected by tree->lock */
	struct snap_node_key key;
};

/* What an open file can do; NULL: -EBADF for read and write, -EINVAL else. */
struct snap_handle_ops {
	enum snap_handle_mode mode;
	ssize_t (*read)(SnapHandle *handle, void *buf, size_t size,
			uint64_t offset);
	void (*write)(SnapHandle *handle, const void *buf, size_t size,
		      uint64_t offset, snap_handle_answer answer, void *data);
	void (*flush)(SnapHandle *handle, snap_handle_answer answer,
		      void *data); /* 0 without */
	int (*truncate)(SnapHandle *handle, uint64_t size);
	void (*sync)(SnapHandle *handle, bool data_only,
		     snap_handle_answer answer, void *data); /* 0 without */
	int64_t (*seek)(SnapHandle *handle, int64_t offset, int whence);
	int (*allocate)(SnapHandle *handle, int mode, int64_t offset,
			int64_t length); /* -EOPNOTSUPP without */
	/* frees all of it but the handle's own memory */
	void (*clear)(SnapHandle *handle);
};

struct SnapHandle {
	const struct snap_handle_ops *ops;
	SnapNode *node;	  /* a reference */
	uint64_t process; /* that wrote last, or 0; atomic */
};

/* The node of the tree that has the key of `fresh`, or `fresh` itself, which is
 * taken over: a new reference in both cases. */
SnapNode *snap_node_intern(SnapNode *fresh);

/* A new handle of `size` bytes, zeroed, that holds a reference to `node`. */
void *snap_handle_new(size_t size, const struct snap_handle_ops *ops,
		      SnapNode *node);

/* ---- the tree (tree.c) ---- */

struct SnapTree {
	struct snap_tree_opts opts;
	SnapNode *root;
	bool read_only;
	bool privileged;  /* may give files to others */
	int fds_ordinary; /* numbers from here on are not for plain files */
	struct timespec began;
	snap_tree_changed changed;
	void *changed_data;
	snap_tree_push push;
	void *push_data;
	uint64_t counts[SNAP_COUNTS]; /* atomic */
	uint64_t pushed;	      /* bytes of hot pages; atomic */

	GMutex lock; /* protects all below */
	GCond idle;
	uint64_t serial;
	guint writes;	      /* not answered yet, and parts looked at */
	dev_t device;	      /* of the mount; 0 until it is known */
	guint pushes;	      /* of hot pages, under way */
	bool ending;	      /* the mount goes: push no more */
	GHashTable *nodes;    /* by key; not references */
	GQueue plain;	      /* those that are no folders of the store */
	GHashTable *handles;  /* that are open */
	GHashTable *sealed;   /* by key; not references */
	GHashTable *writers;  /* by folder and view; not references */
	GHashTable *settling; /* folders whose parts are looked at (parts.c) */
	GHashTable *hidden;   /* bits, by a snapshot's name for itself */
	GHashTable *tickets;  /* by thread */
	GHashTable *saves;    /* that were begun and may run; references */
	GQueue makers;	      /* of several views (makers.c) */
	GQueue told;	      /* broken snapshots that the log knows */
};

typedef struct SnapSealed SnapSealed;

/* A kind of view; the table of them is in tree.c. */
struct snap_view {
	const char *name;
	/* Whether a snapshot has it, and its size. -errno, which is damage or
	 * passes. */
	bool (*present)(const SnapSealed *sealed);
	int (*size)(SnapSealed *sealed, uint64_t *ret_size);
	/* Reads within the size; as snap_pages_read. */
	int (*read)(SnapSealed *sealed, void *buf, size_t size, uint64_t offset,
		    struct snap_pages_hint *hint);
	/* SEEK_DATA (or _HOLE) within the size; NULL: all is data. */
	int (*seek)(SnapSealed *sealed, uint64_t offset, bool hole,
		    uint64_t *ret_offset);
	/* The order of its reads is worth learning. */
	bool learns;
	/* What becomes of one that is written where there is no snapshot: it
	 * is saved as a stream, or is a part of a snapshot to be; one of the
	 * two. */
	bool saves;
	bool part;
	/* Opens the view of a snapshot to be written; NULL: -EROFS. */
	int (*open_to_write)(SnapNode *node, const struct snap_caller *caller,
			     SnapHandle **ret_handle);
};

#define SNAP_VIEWS_MAX 8
extern const struct snap_view *const snap_views[];
extern const guint snap_n_views;
extern const struct snap_view snap_view_stream;
extern const struct snap_view snap_view_mapped;
extern const struct snap_view snap_view_ram;
extern const struct snap_view snap_view_devstate;

/* False when so many files are open that `fd`, of an ordinary file, is to be
 * closed again: the last ones are kept for folders, views and saves. */
bool snap_fd_spare(const SnapTree *tree, int fd);

/* What a name is in every folder. */
enum snap_name {
	SNAP_NAME_ORDINARY,
	SNAP_NAME_PRIVATE, /* snapfs's own, never shown */
	SNAP_NAME_VIEW,
};

/* Sorts a name; for one of a view, *ret_view is its number in the table, or -1
 * for views that this version does not have. `ret_view` may be NULL. */
enum snap_name snap_tree_name(const char *name, int *ret_view);

/* ---- folders and ordinary files (folder.c, plain.c) ---- */

/* Something that lies in the store as it is. */
typedef struct {
	SnapNode node;
	int fd; /* O_PATH */
	mode_t type;
	GList link;  /* in tree->plain; protected by tree->lock */
	bool linked; /* also */
} SnapStoreNode;

extern const struct snap_node_ops snap_folder_ops;
extern const struct snap_node_ops snap_plain_ops;

/* The same, seen as what it is. */
static inline SnapStoreNode *snap_store_node(SnapNode *node)
{
	return (SnapStoreNode *)node;
}

/* True for folders of the store. */
static inline bool snap_is_folder(const SnapNode *node)
{
	return node->ops == &snap_folder_ops;
}

/* The node of what `fd` (O_PATH, taken over) is open on. */
int snap_store_node_new(SnapTree *tree, int fd, SnapNode **ret_node);

/* The node `name` of a folder, as it lies in the store. */
int snap_folder_child(SnapNode *folder, const char *name, SnapNode **ret_node);

/* Attributes of what lies in the store, and their change. */
int snap_store_getattr(SnapNode *node, SnapHandle *handle,
		       struct snap_attr *ret_attr);
/* The change of all but the size. */
int snap_store_setattr(int path_fd, unsigned set, const struct stat *st);

/* The path within the store of `name` (may be NULL) in a folder, for people;
 * g_free. */
char *snap_folder_path(SnapNode *folder, const char *name);

/* What the file behind an O_PATH descriptor is called to be opened anew. */
#define SNAP_PROC_PATH 32
void snap_proc_path(char ret[SNAP_PROC_PATH], int fd);

/* Opens an ordinary file by its node; `flags` as open(2). */
int snap_plain_open(SnapNode *node, int flags, const struct snap_caller *caller,
		    SnapHandle **ret_handle);
/* Takes a new node of an ordinary file into account. When files that may be
 * open run short, the kernel is asked to forget others. */
void snap_plain_known(SnapNode *node);

/* An open ordinary file, and what can be done with it. */
struct snap_plain_handle {
	SnapHandle handle;
	int fd;
};
ssize_t snap_plain_handle_read(SnapHandle *handle, void *buf, size_t size,
			       uint64_t offset);
void snap_plain_handle_write(SnapHandle *handle, const void *buf, size_t size,
			     uint64_t offset, snap_handle_answer answer,
			     void *data);
int snap_plain_handle_truncate(SnapHandle *handle, uint64_t size);
void snap_plain_handle_sync(SnapHandle *handle, bool data_only,
			    snap_handle_answer answer, void *data);
int64_t snap_plain_handle_seek(SnapHandle *handle, int64_t offset, int whence);
int snap_plain_handle_allocate(SnapHandle *handle, int mode, int64_t offset,
			       int64_t length);
/* Opens the file of a node: its descriptor. */
int snap_plain_reopen(SnapNode *node, int flags);
/* As snap_node_setattr, of a node that lies in the store. */
int snap_plain_setattr(SnapNode *node, SnapHandle *handle, unsigned set,
		       const struct stat *st);

/* A handle on `fd`, which is taken over. */
SnapHandle *snap_plain_handle(SnapNode *node, int fd);

/* ---- sealed snapshots (sealed.c) ---- */

/* Tells snapshot files apart, and what stands before their streams; compared
 * byte by byte. */
struct snap_sealed_key {
	uint64_t dev;
	uint64_t ino;
	uint64_t size;
	int64_t mtime_sec;
	int64_t mtime_nsec;
	uint64_t head_ino; /* of the side file; all 0 where there is none */
	uint64_t head_size;
	int64_t head_mtime_sec;
	int64_t head_mtime_nsec;
};

/* A snapshot as mapped-ram, made when it is first asked for. */
struct snap_mapped {
	GMutex lock;	    /* protects the making */
	SnapLayout *layout; /* atomic */
	int error;	    /* why there will be none */
};

/* A snapshot on disk, as all its views share it. One that cannot be read has
 * no pages but an error. */
struct SnapSealed {
	SnapTree *tree;
	guint refs; /* protected by tree->lock */
	struct snap_sealed_key key;
	int fd; /* O_PATH, of the snapshot's file */
	int error;
	char *why; /* the error's sentence */
	SnapPages *pages;
	/* Where RAM and device state lie apart: */
	struct snap_stream_info info;
	SnapLayout *layout;	   /* of the classic stream */
	struct snap_mapped mapped; /* that begins at 0 */
	struct snap_mapped behind; /* that begins behind what is before */

	GBytes *head;	/* the side file's, if it has been written */
	int head_error; /* it is damaged */
};

/* The snapshot in a folder: a new reference. -ENOENT where there is none. */
int snap_sealed_get(SnapNode *folder, SnapSealed **ret_sealed);
SnapSealed *snap_sealed_ref(SnapSealed *sealed);
void snap_sealed_unref(SnapSealed *sealed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapSealed, snap_sealed_unref)

/* Logs once that something of a snapshot is broken. */
enum snap_tell {
	SNAP_TELL_FILE,
	SNAP_TELL_MAPPED,
};
void snap_sealed_tell(const SnapSealed *sealed, const char *path,
		      enum snap_tell what, const char *sentence);

/* What it says of itself; NULL when it cannot be read. */
const struct snap_meta *snap_sealed_meta(const SnapSealed *sealed);

/* Views of it that were removed and are not shown (hidden.c), as bits. */
unsigned snap_hidden_get(const SnapSealed *sealed);
/* Hides one more; returns what is then hidden. */
unsigned snap_hidden_add(const SnapSealed *sealed, guint view);
/* Shows one again. */
void snap_hidden_remove(const SnapSealed *sealed, guint view);
/* Forgets what was hidden. */
void snap_hidden_drop(const SnapSealed *sealed);

/* True when the snapshot has the view and it was not removed. */
bool snap_sealed_shows(const SnapSealed *sealed, guint view);

/* What is told of -errno: damaged bytes are an I/O error. */
static inline int snap_told(int error)
{
	return error == -EBADMSG || error == -ENODATA ? -EIO : error;
}

/* True for errors that the file itself is the reason of. */
static inline bool snap_is_damage(int error)
{
	return error == -EBADMSG || error == -ENODATA || error == -EPROTO ||
	       error == -EOPNOTSUPP;
}

/* ---- what views are put together from ---- */

/* Reads within a layout (runs.c). */
int snap_runs_read(SnapSealed *sealed, const SnapLayout *layout, void *buf,
		   size_t size, uint64_t offset, struct snap_pages_hint *hint);
/* Finds data (or a hole) in it; its size if there is none. */
int snap_runs_seek(SnapSealed *sealed, const SnapLayout *layout,
		   uint64_t offset, bool hole, uint64_t *ret_offset);

/* Finds data (or a hole) at or after `offset` in [base, base + length) of the
 * page space, counted from `base`; `length` if there is none. */
int snap_space_seek(SnapSealed *sealed, uint64_t base, uint64_t length,
		    uint64_t offset, bool hole, uint64_t *ret_offset);

/* Reads within a run of page records (records.c). */
int snap_records_read(SnapSealed *sealed, const struct snap_run *run, void *buf,
		      size_t size, uint64_t offset,
		      struct snap_pages_hint *hint);

/* What may stand before the pages: a list of RAM blocks, and sections that are
 * sent early. */
#define SNAP_HEAD_MAX (64 * SNAP_MIB)

/* The layout of the snapshot as a mapped-ram stream that begins at `begin`: 0,
 * or what stands before the stream (mapped.c). -EBADMSG, logged once, -errno.
 */
int snap_mapped_layout(SnapSealed *sealed, uint64_t begin,
		       const SnapLayout **ret_layout);

/* Bytes before QEMU's stream in the file `stream` (preamble.c). */
uint64_t snap_preamble_size(const SnapSealed *sealed);
/* Takes the side file of the folder into account. -EBADMSG, -errno. */
int snap_preamble_open(SnapSealed *sealed, int folder_fd, GError **error);
/* Reads within them; finds data (or a hole) among them. */
int snap_preamble_read(SnapSealed *sealed, void *buf, size_t size,
		       uint64_t offset);
int snap_preamble_seek(SnapSealed *sealed, uint64_t offset, bool hole,
		       uint64_t *ret_offset);

/* ---- views of sealed snapshots (view.c) ---- */

typedef struct {
	SnapNode node;
	SnapNode *folder; /* a reference */
	SnapSealed *sealed;
	guint view;
	bool pushed;   /* its hot pages; protected by tree->lock, as the next */
	guint watches; /* of who has it open */
} SnapViewNode;

extern const struct snap_node_ops snap_view_ops;

/* The node of a view; a new reference. */
SnapNode *snap_view_node(SnapNode *folder, SnapSealed *sealed, guint view);

/* The number of a view in the table. */
guint snap_view_number(const struct snap_view *view);

/* The inode number of a view: the same for the same snapshot, always. */
uint64_t snap_view_ino(const SnapSealed *sealed, guint view);

/* ---- what a guest needs first (learn.c, watch.c, push.c) ---- */

/* What is learnt and given: an extent's worth. */
#define SNAP_HOT_UNIT (64 * SNAP_KIB)
#define SNAP_HOT_UNITS_MAX (SNAP_HOT_PAGES_MAX / (SNAP_HOT_UNIT / SNAP_PAGE))

/* Learns from who has opened `ram`; `thread` is who did, 0 where it is not
 * known. */
typedef struct SnapLearner SnapLearner;
SnapLearner *snap_learner_new(SnapViewNode *view, pid_t thread);
/* Notes a read. */
void snap_learner_note(SnapLearner *l, uint64_t offset, uint64_t size);
/* The file is closed: what was learnt goes into the folder. NULL is fine. */
void snap_learner_free(SnapLearner *l);

/* The list that lies in a folder; empty where there is none. To be freed with
 * g_array_unref(). */
GArray *snap_hot_read(SnapNode *folder, const struct snap_ramlist *ram);

/* A unit that a process was found to have touched, at that look. */
struct snap_touched {
	uint64_t unit;
	guint look;
};

/* Watches the process of a thread touch a file of that device, inode number and
 * size. NULL where it cannot be looked at, or there are enough watches. */
typedef struct SnapWatch SnapWatch;
SnapWatch *snap_watch_new(pid_t thread, dev_t dev, uint64_t ino, uint64_t size);
/* Ends it; gives what was touched (struct snap_touched), each unit once, to be
 * freed with g_array_unref(). Does not wait. */
GArray *snap_watch_end(SnapWatch *w);

/* Gives the kernel the hot pages of the `ram` of `node`, in the background. */
void snap_learn_push(SnapNode *node);

/* ---- what is said of the mount (stats.c) ---- */

/* The folder `.snapfs`; a new reference. */
SnapNode *snap_service_folder(SnapTree *tree);
/* True for it. */
bool snap_is_service_folder(const SnapNode *node);
/* The node `name` in it. */
int snap_service_lookup(SnapTree *tree, const char *name, SnapNode **ret_node);
/* Name number `i` in it. */
bool snap_service_listed(guint i, struct snap_listed *ret_listed);

/* One more of something. */
void snap_count(SnapTree *tree, enum snap_count what);
