/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `.snapfs` at the root of the mount, which is not listed there, with the files
 * `stats` (counters in the format of Prometheus) and `version`.
 */
#include "fs/tree/tree-internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "format/base/metrics.h"
#include "fs/calls/call.h"

static const char *const count_names[SNAP_COUNTS] = {
	[SNAP_COUNT_LOOKUP] = "lookup",	  [SNAP_COUNT_GETATTR] = "getattr",
	[SNAP_COUNT_SETATTR] = "setattr", [SNAP_COUNT_LIST] = "list",
	[SNAP_COUNT_NAME] = "name",	  [SNAP_COUNT_OPEN] = "open",
	[SNAP_COUNT_READ] = "read",	  [SNAP_COUNT_WRITE] = "write",
	[SNAP_COUNT_SEEK] = "seek",	  [SNAP_COUNT_XATTR] = "xattr",
};

/* Only levels that were in use. */
static void put_levels(SnapMetrics *m, const struct snap_saver_levels *levels)
{
	snap_metrics_head(m, "save_level_bytes_total", "counter",
			  "Bytes of pages compressed, by zstd's level.");
	for (guint i = 0; i < G_N_ELEMENTS(levels->bytes); i++) {
		g_autofree char *level = g_strdup_printf(
			"level=\"%d\",", (int)i + SNAP_LEVEL_MIN);

		if (levels->bytes[i])
			snap_metrics_value(m, "save_level_bytes_total", level,
					   levels->bytes[i]);
	}
}

static void put_saver(SnapMetrics *m, SnapSaver *saver)
{
	struct snap_saver_stats s = snap_saver_stats(saver);

	snap_metrics_put(m, "saves_total", "counter", "Saves begun.", s.saves);
	snap_metrics_put(m, "saves_completed_total", "counter",
			 "Saves that became a snapshot.", s.completed);
	snap_metrics_put(m, "saves_failed_total", "counter",
			 "Saves that failed.", s.failed);
	snap_metrics_put(m, "saves_running", "gauge", "Saves under way.",
			 s.running);
	snap_metrics_put(m, "save_in_bytes_total", "counter",
			 "Bytes of streams received.", s.bytes_in);
	snap_metrics_put(m, "save_out_bytes_total", "counter",
			 "Bytes of snapshot files written.", s.bytes_out);
	snap_metrics_put(m, "save_buffered_bytes", "gauge",
			 "Bytes received and not yet written.", s.buffered);
	snap_metrics_put(m, "save_waits_total", "counter",
			 "Writes that waited for the buffer.", s.waits);
	snap_metrics_put(
		m, "save_compactions_total", "counter",
		"Snapshot files written anew to drop pages sent again.",
		s.compactions);
	put_levels(m, &s.levels);
}

static void put_near(SnapMetrics *m, SnapNear *near)
{
	struct snap_near_stats s = snap_near_stats(near);

	snap_metrics_put(
		m, "disk_cache_hits_total", "counter",
		"Reads of snapshot files that the disk cache answered.",
		s.hits);
	snap_metrics_put(m, "disk_cache_hit_bytes_total", "counter",
			 "Bytes of snapshot files read from the disk cache.",
			 s.hit_bytes);
	snap_metrics_put(m, "disk_cache_misses_total", "counter",
			 "Reads of snapshot files that the store answered.",
			 s.misses);
	snap_metrics_put(
		m, "disk_cache_rejected_total", "counter",
		"Reads with a wrong checksum, which the store answered then.",
		s.rejected);
	snap_metrics_put(m, "disk_cache_bytes", "gauge",
			 "Bytes of the disk cache on its disk.", s.bytes);
}

static void put_loader(SnapMetrics *m, SnapLoader *loader)
{
	struct snap_loader_stats s = snap_loader_stats(loader);

	snap_metrics_put(m, "cache_hits_total", "counter",
			 "Frames found in the cache.", s.hits);
	snap_metrics_put(m, "cache_misses_total", "counter",
			 "Frames loaded on demand.", s.misses);
	snap_metrics_put(
		m, "cache_waits_total", "counter",
		"Reads that waited for a frame another one was loading.",
		s.waits);
	snap_metrics_put(m, "cache_bytes", "gauge", "Bytes in the cache.",
			 s.cached);
	snap_metrics_put(m, "readahead_frames_total", "counter",
			 "Frames loaded ahead.", s.readahead);
	snap_metrics_put(m, "read_errors_total", "counter",
			 "Frames that could not be read or were damaged.",
			 s.errors);
	snap_metrics_put(m, "read_out_bytes_total", "counter",
			 "Bytes of snapshots given to readers.", s.bytes_out);
	snap_metrics_put(m, "read_in_bytes_total", "counter",
			 "Bytes read from snapshot files.", s.bytes_read);
}

static void put_stats(GString *text, SnapTree *tree)
{
	SnapMetrics *m =
		snap_metrics_new("snapfs", "mountpoint", tree->opts.point);

	snap_metrics_head(m, "operations_total", "counter",
			  "Requests of the kernel.");
	for (guint i = 0; i < SNAP_COUNTS; i++) {
		g_autofree char *op =
			g_strdup_printf("op=\"%s\",", count_names[i]);

		snap_metrics_value(m, "operations_total", op,
				   snap_nodes_counted(tree->nodes, i));
	}
	if (tree->opts.saver)
		put_saver(m, tree->opts.saver);
	put_loader(m, tree->opts.loader);
	if (snap_loader_near(tree->opts.loader))
		put_near(m, snap_loader_near(tree->opts.loader));
	snap_metrics_put(m, "store_wait_seconds", "gauge",
			 "Age of the oldest call of the store.",
			 snap_calls_seconds());
	snap_metrics_put(
		m, "hot_bytes_total", "counter",
		"Bytes given to the kernel before they were asked for.",
		snap_hot_pages_pushed(tree->hot));
	snap_metrics_end(m, text);
}

static void put_version(GString *text, SnapTree *tree)
{
	g_string_append(text, SNAPFS_VERSION "\n");
}

/* The files of the folder. */
static const struct {
	const char *name;
	void (*put)(GString *text, SnapTree *tree);
	bool changes;
} files[] = {
	{ "stats", put_stats, true },
	{ "version", put_version, false },
};

/* ---- nodes ---- */

typedef struct {
	SnapNode node;
	SnapTree *tree;
	guint number; /* 0: the folder; from 1 on: its files */
} ServiceNode;

static const ServiceNode *service(const SnapNode *node)
{
	return (const ServiceNode *)node;
}

static uint64_t service_ino(uint64_t number)
{
	return (uint64_t)3 << 62 | number;
}

/* The text of a file at this moment. */
static GString *make_text(const ServiceNode *s)
{
	GString *text = g_string_new(NULL);

	files[s->number - 1].put(text, s->tree);
	return text;
}

static void get_file_attr(const ServiceNode *s, struct stat *st)
{
	GString *text = make_text(s);

	st->st_mode = S_IFREG | 0444;
	st->st_nlink = 1;
	st->st_size = (off_t)text->len;
	st->st_blocks = (st->st_size + 511) / 512;
	/* The time of change of the status stays: tar takes another one for a
	 * sign that the file grows while it is read. */
	if (files[s->number - 1].changes)
		(void)clock_gettime(CLOCK_REALTIME, &st->st_mtim);
	g_string_free(text, TRUE);
}

static int service_getattr(SnapNode *node, SnapHandle *handle,
			   struct snap_attr *ret_attr)
{
	struct stat *st = &ret_attr->st;

	st->st_ino = service_ino(service(node)->number);
	st->st_uid = geteuid();
	st->st_gid = getegid();
	st->st_blksize = 4096;
	st->st_atim = st->st_mtim = st->st_ctim = service(node)->tree->began;
	if (service(node)->number > 0) {
		get_file_attr(service(node), st);
		return 0;
	}
	st->st_mode = S_IFDIR | 0555;
	st->st_nlink = 2;
	return 0;
}

struct service_handle {
	SnapHandle handle;
	GString *text;
};

static ssize_t service_read(SnapHandle *handle, void *buf, size_t size,
			    uint64_t offset)
{
	GString *text = ((struct service_handle *)handle)->text;

	if (offset >= text->len)
		return 0;
	size = MIN(size, text->len - offset);
	memcpy(buf, text->str + offset, size);
	return (ssize_t)size;
}

static void service_handle_clear(SnapHandle *handle)
{
	g_string_free(((struct service_handle *)handle)->text, TRUE);
}

static const struct snap_handle_ops service_handle_ops = {
	.mode = SNAP_HANDLE_DIRECT,
	.read = service_read,
	.clear = service_handle_clear,
};

static int service_open(SnapNode *node, int flags,
			const struct snap_caller *caller,
			SnapHandle **ret_handle)
{
	struct service_handle *h;

	if (service(node)->number == 0)
		return -EISDIR;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EPERM;
	h = snap_handle_new(sizeof(*h), &service_handle_ops, node);
	h->text = make_text(service(node));
	*ret_handle = &h->handle;
	return 0;
}

static SnapNode *service_clear(SnapNode *node)
{
	return NULL;
}

static const struct snap_node_ops service_ops = {
	.getattr = service_getattr,
	.open = service_open,
	.clear = service_clear,
};

static SnapNode *service_node(SnapTree *tree, guint number)
{
	ServiceNode *s = g_new0(ServiceNode, 1);

	s->node.ops = &service_ops;
	s->node.nodes = tree->nodes;
	s->node.key.kind = &service_ops;
	s->node.key.words[0] = number;
	s->tree = tree;
	s->number = number;
	return snap_node_intern(&s->node);
}

SnapNode *snap_service_folder(SnapTree *tree)
{
	return service_node(tree, 0);
}

bool snap_is_service_folder(const SnapNode *node)
{
	return node->ops == &service_ops && service(node)->number == 0;
}

int snap_service_lookup(SnapTree *tree, const char *name, SnapNode **ret_node)
{
	for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
		if (strcmp(name, files[i].name))
			continue;
		*ret_node = service_node(tree, i + 1);
		return 0;
	}
	return -ENOENT;
}

bool snap_service_listed(guint i, struct snap_listed *ret_listed)
{
	if (i >= G_N_ELEMENTS(files))
		return false;
	ret_listed->name = files[i].name;
	ret_listed->ino = service_ino(i + 1);
	ret_listed->type = DT_REG;
	return true;
}
