/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of fs/view share: the tables of functions behind nodes,
 * handles and views, and the objects they work on.
 *
 * Locks: a writer's (SnapIncoming) before the tree's; no lock is taken, and
 * nothing outside this folder called, with the tree's held.
 */
#pragma once

#include <errno.h>

#include "fs/view/view.h"

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
	guint pushes;	      /* threads that push hot pages */
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

/* The layout of the snapshot as a mapped-ram stream that begins at `begin`: 0,
 * or what stands before the stream (mapped.c). -EBADMSG, logged once, -errno.
 */
int snap_mapped_layout(SnapSealed *sealed, uint64_t begin,
		       const SnapLayout **ret_layout);

/* Bytes before QEMU's stream in the file `stream` (before.c). */
uint64_t snap_before_size(const SnapSealed *sealed);
/* Takes the side file of the folder into account. -EBADMSG, -errno. */
int snap_before_open(SnapSealed *sealed, int folder_fd, GError **error);
/* Reads within them; finds data (or a hole) among them. */
int snap_before_read(SnapSealed *sealed, void *buf, size_t size,
		     uint64_t offset);
int snap_before_seek(SnapSealed *sealed, uint64_t offset, bool hole,
		     uint64_t *ret_offset);

/* ---- views of sealed snapshots (view.c) ---- */

typedef struct {
	SnapNode node;
	SnapNode *folder; /* a reference */
	SnapSealed *sealed;
	guint view;
	bool pushed; /* its hot pages; protected by tree->lock */
} SnapViewNode;

extern const struct snap_node_ops snap_view_ops;

/* The node of a view; a new reference. */
SnapNode *snap_view_node(SnapNode *folder, SnapSealed *sealed, guint view);

/* The inode number of a view: the same for the same snapshot, always. */
uint64_t snap_view_ino(const SnapSealed *sealed, guint view);

/* ---- what a guest needs first (learn.c) ---- */

/* Learns from the reads of an open `ram`. */
typedef struct SnapLearner SnapLearner;
SnapLearner *snap_learner_new(SnapNode *folder, SnapSealed *sealed);
/* Notes a read. */
void snap_learner_note(SnapLearner *l, uint64_t offset, uint64_t size);
/* Writes what was learnt into the folder; NULL is fine. */
void snap_learner_free(SnapLearner *l);

/* Gives the kernel the hot pages of the `ram` of `node`, in the background. */
void snap_learn_push(SnapNode *node);

/* ---- writing what is there already (compare.c) ---- */

/* Compares bytes, or zeros up to `end`, with what a view of a sealed snapshot
 * has at `offset`, within its size: 0 when they are the same, 1 when not, with
 * the first place where they differ, -errno. */
int snap_compare_bytes(SnapSealed *sealed, const struct snap_view *view,
		       const void *data, size_t size, uint64_t offset,
		       uint64_t *ret_at);
int snap_compare_zero(SnapSealed *sealed, const struct snap_view *view,
		      uint64_t offset, uint64_t end, uint64_t *ret_at);

/* Opens a view to have what is written compared with it: the open_to_write of
 * views that are no stream. */
int snap_compare_open(SnapNode *node, const struct snap_caller *caller,
		      SnapHandle **ret_handle);

/* The same for one that is made anew, after its name was removed. -EPERM where
 * the snapshot has no such view. */
int snap_compare_create(SnapNode *folder, SnapSealed *sealed, guint view,
			SnapHandle **ret_handle);

/* A view is cut to a size without a handle, as open(2) does with O_TRUNC: tells
 * those who have it open to be compared. False when there are none. */
bool snap_compare_cut(SnapNode *node, uint64_t size);

/* ---- parts of a snapshot to be (parts.c, settle.c, assemble.c) ---- */

/* `ram` or `devstate` in a folder that holds no snapshot: an ordinary file,
 * until both are whole. */
typedef struct {
	SnapStoreNode store;
	SnapNode *folder; /* a reference */
	const struct snap_view *view;
} SnapPartNode;

/* True when a part lies in the folder; `ret` may be NULL. */
bool snap_part_stat(SnapNode *folder, const struct snap_view *view,
		    struct stat *ret);
/* Its node, a new reference. -ENOENT. */
int snap_part_lookup(SnapNode *folder, const struct snap_view *view,
		     SnapNode **ret_node);
/* A handle on `fd`, which is taken over. */
SnapHandle *snap_part_handle(SnapNode *node, int fd, bool writes);
/* True when someone has a part of the folder (or, with NULL, any) open and may
 * not be done with writing it. */
bool snap_parts_unfinished(SnapNode *folder, const struct snap_view *view);

/* Lets nobody write the parts of a folder who has them open, or does again. */
void snap_parts_take(SnapNode *folder, bool take);

/* Looks at the parts of a folder in a thread of its own: makes a snapshot of
 * them when they are whole, or compares them with the one that came otherwise.
 * `answer` (may be NULL) is told what is to be said of `closing`. */
void snap_parts_settle(SnapNode *folder, const struct snap_view *closing,
		       snap_handle_answer answer, void *data);
/* The same where there is a part at all and nobody waits for the outcome. */
void snap_parts_check(SnapNode *folder);
/* True while that goes on. */
bool snap_parts_busy(SnapNode *folder);

/* Makes a snapshot of the parts of a folder when both are whole: 1 when it did,
 * 0 when one is missing; -errno, logged, when `closing` is not whole, or the
 * saving fails. */
int snap_parts_assemble(SnapNode *folder, const struct snap_view *closing);

/* ---- streams being written (incoming*.c, writers.c) ---- */

/* A stream on its way into a folder, and its handles. */
typedef struct {
	SnapNode node;
	SnapNode *folder;	      /* a reference */
	const struct snap_view *view; /* that it is written as */
	struct snap_catalog_owner owner;
	struct timespec began;

	GMutex lock;	    /* protects all below */
	SnapSave *save;	    /* NULL before the first byte that is not 0 */
	SnapHandle *writer; /* who wrote that */
	uint64_t hole;	    /* zeros that the file begins with */
	uint64_t solid;	    /* where the last byte that is not 0 ends */
	guint handles;
	bool cut;     /* it was cut to a size: what was there is void */
	bool zeros;   /* the hole, or a part of it, was written */
	bool ended;   /* no new handle may join */
	bool removed; /* its name; nothing more is taken */
} SnapIncoming;

extern const struct snap_node_ops snap_incoming_ops;

/* Makes one for a folder; a reference. It is not in the table yet. */
SnapIncoming *snap_incoming_new(SnapNode *folder, const struct snap_view *view,
				const struct snap_catalog_owner *owner);

/* Logs a refusal with the name of the stream: -code. */
int snap_incoming_refuse(SnapIncoming *in, int code, const char *why);

/* True while a writer that comes to the folder joins this one. */
bool snap_incoming_open_for(SnapIncoming *in);

/* Its inode number. */
uint64_t snap_incoming_ino(const SnapNode *node);

/* True while it is seen in its folder. */
bool snap_incoming_shown(SnapIncoming *in);

/* Opens it to be written, by whichever node; NULL when nobody may join. */
SnapHandle *snap_incoming_handle(SnapIncoming *in, SnapNode *node);

/* Cuts it to a size, asked for without a handle: what open(2) does with O_TRUNC
 * once it has the file open. */
int snap_incoming_cut(SnapIncoming *in, uint64_t size);

/* Its name was removed: what was received is dropped. */
void snap_incoming_remove(SnapIncoming *in);

/* If its save is over, takes it out of the table and tells that names mean
 * something else now. */
void snap_incoming_reap(SnapIncoming *in);

/* The snapshot that it stands for while nobody has cut it or written to it: a
 * reference, or NULL. With its lock held. */
SnapSealed *snap_incoming_base_locked(SnapIncoming *in);

/* Writes before QEMU's stream of the snapshot that is there (edit.c), with the
 * lock held: 0 when that is not what is meant, else what is to be answered. */
ssize_t snap_incoming_edit_locked(SnapIncoming *in, const void *buf,
				  size_t size, uint64_t offset);

/* The same for those in a folder. */
void snap_writers_reap(SnapNode *folder);

/* The one that is shown in a folder as `view`, a reference, or NULL. */
SnapIncoming *snap_writers_find(SnapNode *folder, const struct snap_view *view);

/* The one that a new writer joins, made if need be; a reference. */
SnapIncoming *snap_writers_join(SnapNode *folder, const struct snap_view *view,
				const struct snap_catalog_owner *owner);

/* Opens the one that a new writer joins, by `node`, or by its own if that is
 * NULL. */
SnapHandle *snap_writers_open(SnapNode *folder, const struct snap_view *view,
			      const struct snap_catalog_owner *owner,
			      SnapNode *node);

/* What must be over before the tree may go: one more, one less. The second may
 * be the last that is done with the tree. */
void snap_writers_begin(SnapTree *tree);
void snap_writers_over(SnapTree *tree);

/* True once the mount goes: what takes long and can be left is. */
bool snap_tree_ending(SnapTree *tree);

/* Tells that the names of the views in a folder mean something else now. */
void snap_writers_tell(SnapNode *folder);

/* Takes one out of the table; false when it was not in it. */
bool snap_writers_drop(SnapIncoming *in);

/* Puts one into the table, in the place of another. */
void snap_writers_put(SnapIncoming *in);

/* Remembers a save that was begun, until it is over; forgets those that are. */
void snap_writers_watch(SnapTree *tree, SnapSave *save);

/* Remembers that a thread was sent to look `stream` up again; true when it had
 * been sent before, which is forgotten by that. */
bool snap_ticket_issue(SnapNode *folder, pid_t thread);

/* True when the thread was sent to look `stream` up again in this folder;
 * `done` forgets it. */
bool snap_ticket_find(SnapNode *folder, pid_t thread, bool done);

/* Who a stream that `caller` makes in the folder belongs to. */
struct snap_catalog_owner snap_owner_new(SnapNode *folder, mode_t mode,
					 const struct snap_caller *caller);

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
