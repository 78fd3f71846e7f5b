/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The descriptors of nodes of the store.
 *
 * The kernel may know any number of files and folders, and forgets them when it
 * likes. So a node has a descriptor only for a few seconds after its last use,
 * and only so many nodes have one. A node remembers its folder and its name in
 * it, and by them it is opened again, step by step from the nearest folder that
 * is open. Each step is checked: what lies there by that name must be the file
 * that the node was made for. No step follows a symbolic link.
 */
#include "fs/plain/plain-internal.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "format/base/cleanup.h"

/* Nodes that have a descriptor: at most this part of the process's, and at most
 * this many. */
#define KEPT_PART 8
#define KEPT_MAX 1024

/* Folders that stay open on a long way. */
#define STAGES 16u

/* The kind of every node of the store. */
static const char store_kind;

int snap_store_look(int fd, const char *name, struct snap_store_look *ret)
{
	struct statx stx;

	if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW,
		  STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
		return -errno;
	*ret = (struct snap_store_look){
		.dev = makedev(stx.stx_dev_major, stx.stx_dev_minor),
		.ino = stx.stx_ino,
		.mode = stx.stx_mode,
		.size = stx.stx_size,
		.mtime_sec = stx.stx_mtime.tv_sec,
		.mtime_nsec = stx.stx_mtime.tv_nsec,
	};
	/* An inode number is used again when a file is gone, its birth is not.
	 * Some file systems do not know it. */
	if (stx.stx_mask & STATX_BTIME)
		ret->birth = (uint64_t)stx.stx_btime.tv_sec * 1000000000u +
			     stx.stx_btime.tv_nsec;
	return 0;
}

struct snap_node_key snap_store_key(const struct snap_store_look *look)
{
	return (struct snap_node_key){ .kind = &store_kind,
				       .words = { look->dev, look->ino,
						  look->birth,
						  look->mode & S_IFMT } };
}

/* ---- what is kept open ---- */

/* The node loses its descriptor, which is returned. */
static void *part(void *node)
{
	SnapStoreNode *s = node;

	return GINT_TO_POINTER(snap_steal_fd(&s->fd));
}

static void close_parted(void *fd)
{
	close(GPOINTER_TO_INT(fd));
}

void snap_descriptors_init(SnapPlain *plain, uint64_t limit)
{
	struct snap_idle_opts opts = {
		.lock = &plain->lock,
		.most = (guint)CLAMP(limit / KEPT_PART, 1, KEPT_MAX),
		.part = part,
		.close = close_parted,
	};

	plain->open = snap_idle_new(&opts);
}

/* A copy of the descriptor that the node has; -ENOENT when it has none. */
static int copy_kept(SnapStoreNode *s)
{
	SNAP_LOCKED(&s->plain->lock);
	int fd;

	if (s->fd < 0)
		return -ENOENT;
	snap_idle_keep(s->plain->open, &s->place, s);
	fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* The node has a copy of `fd` from now on, unless it has one. Copies have high
 * numbers: so those below tell how many files processes have open, also when
 * copies are given back. */
static void keep(SnapStoreNode *s, int fd)
{
	SnapPlain *plain = s->plain;

	g_mutex_lock(&plain->lock);
	if (s->fd < 0)
		s->fd = fcntl(fd, F_DUPFD_CLOEXEC, plain->fds_open);
	if (s->fd >= 0)
		snap_idle_keep(plain->open, &s->place, s);
	g_mutex_unlock(&plain->lock);
	snap_idle_trim(plain->open);
}

/* ---- opened again ---- */

/* One step of the way to a node. */
struct step {
	SnapStoreNode *s; /* a reference */
	char *name;
};

static void step_clear(void *data)
{
	struct step *step = data;

	snap_node_unref(&step->s->node, 1);
	g_free(step->name);
}

/* The way to `s`: the node itself, its folder, and so on up to one that has a
 * descriptor, or to the top. */
static GArray *way_to(SnapStoreNode *s)
{
	GArray *way = g_array_new(FALSE, FALSE, sizeof(struct step));
	SNAP_LOCKED(&s->plain->lock);

	g_array_set_clear_func(way, step_clear);
	for (;; s = snap_store_node(s->parent)) {
		struct step step = { s, g_strdup(s->name) };

		snap_node_ref(&s->node);
		g_array_append_val(way, step);
		if (s->fd >= 0 || !s->parent)
			return way;
	}
}

/* Opens `name` in the folder `at`, if it is the file of the node. */
static int open_step(int at, const struct step *step)
{
	snap_autofd int fd = snap_open_below(at, step->name, O_PATH, 0);
	struct snap_store_look look = { 0 };
	struct snap_node_key key;
	int r;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
	r = snap_store_look(fd, "", &look);
	if (r < 0)
		return r;
	key = snap_store_key(&look);
	/* The kinds differ: some kinds of files have keys of their own. */
	return memcmp(key.words, step->s->node.key.words,
		      SNAP_STORE_WORDS * sizeof(key.words[0]))
		       ? -ESTALE
		       : snap_steal_fd(&fd);
}

/* Opens the topmost node of a way. */
static int open_top(const struct step *step)
{
	SnapPlain *plain = step->s->plain;
	int fd = copy_kept(step->s);

	if (fd != -ENOENT)
		return fd;
	if (&step->s->node != plain->root)
		return -ESTALE; /* it was given up just now */
	return snap_open_below(snap_catalog_fd(plain->catalog), ".",
			       O_PATH | O_DIRECTORY, 0);
}

static int open_way(SnapStoreNode *s)
{
	g_autoptr(GArray) way = way_to(s);
	guint i = way->len - 1;
	/* Some folders on a long way stay open too: else a process that goes up
	 * through deep folders would have all the way opened at each step. */
	guint rest = MAX(way->len / STAGES, STAGES);
	int fd = open_top(&g_array_index(way, struct step, i));

	while (fd >= 0 && i-- > 0) {
		const struct step *step = &g_array_index(way, struct step, i);
		snap_autofd int at = fd;

		fd = open_step(at, step);
		if (fd >= 0 && i % rest == 0)
			keep(step->s, fd);
	}
	return fd;
}

/* A copy of the descriptor of one of the node's open files, which needs no
 * name; -ENOENT when it has none. */
static int copy_open(SnapNode *node)
{
	SnapHandle *handle = snap_node_handle(node, NULL);
	int fd;

	if (!handle)
		return -ENOENT;
	fd = fcntl(snap_ordinary_fd(handle), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		fd = -errno;
	snap_handle_unref(handle);
	return fd;
}

int snap_store_open(SnapNode *node)
{
	SnapStoreNode *s = snap_store_node(node);
	int fd = copy_kept(s);

	if (fd >= 0)
		return fd;
	if (fd == -ENOENT)
		fd = copy_open(node);
	if (fd == -ENOENT)
		fd = open_way(s);
	/* A folder on the way may have been moved, or given up, meanwhile. */
	if (fd == -ESTALE)
		fd = open_way(s);
	/* No caller must take an error for the current folder. */
	return fd == AT_FDCWD ? -EIO : fd;
}

/* ---- where a node lies ---- */

/* True when `folder` lies below `s`. */
static bool lies_below_locked(const SnapStoreNode *s, SnapNode *folder)
{
	for (; folder; folder = snap_store_node(folder)->parent)
		if (folder == &s->node)
			return true;
	return false;
}

/* The store's file of a node lies there now. */
static void lies(SnapNode *node, SnapNode *folder, const char *name)
{
	SnapStoreNode *s = snap_store_node(node);
	SnapNode *former = NULL;

	g_mutex_lock(&s->plain->lock);
	if (node != s->plain->root &&
	    (s->parent != folder || strcmp(s->name, name)) &&
	    !lies_below_locked(s, folder)) {
		former = s->parent;
		s->parent = snap_node_ref(folder);
		g_free(s->name);
		s->name = g_strdup(name);
	}
	g_mutex_unlock(&s->plain->lock);
	if (former)
		snap_node_unref(former, 1);
}

/* The longest path that is told, in bytes. */
#define PATH_TOLD 4096

char *snap_store_path(SnapNode *node)
{
	SnapStoreNode *s = snap_store_node(node);
	GString *path = g_string_new(NULL);
	SNAP_LOCKED(&s->plain->lock);

	for (; s->parent && path->len < PATH_TOLD;
	     s = snap_store_node(s->parent)) {
		if (path->len)
			g_string_prepend_c(path, '/');
		g_string_prepend(path, s->name);
	}
	if (s->parent)
		g_string_prepend(path, ".../");
	return g_string_free(path, FALSE);
}

SnapNode *snap_store_intern(SnapPlain *plain, SnapStoreNode *fresh, int fd,
			    SnapNode *folder, const char *name)
{
	SnapNode *node;

	fresh->node.nodes = plain->nodes;
	fresh->plain = plain;
	fresh->fd = -1;
	fresh->parent = folder ? snap_node_ref(folder) : NULL;
	fresh->name = g_strdup(name);
	node = snap_node_intern(&fresh->node);
	if (node != &fresh->node && folder)
		lies(node, folder, name);
	keep(snap_store_node(node), fd);
	close(fd);
	return node;
}

SnapNode *snap_store_clear(SnapNode *node)
{
	SnapStoreNode *s = snap_store_node(node);
	int fd;

	g_mutex_lock(&s->plain->lock);
	snap_idle_take(s->plain->open, &s->place);
	fd = snap_steal_fd(&s->fd);
	g_mutex_unlock(&s->plain->lock);
	snap_close_fd(&fd);
	g_free(s->name);
	return s->parent;
}
