/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all snapshots of a mount share: the cache, the decompressors, the
 * threads that read ahead.
 */
#include <sys/resource.h>

#include "format/base/cleanup.h"
#include "fs/calls/call.h"
#include "fs/load/load-internal.h"
#include "fs/load/readahead.h"

/* A thread that reads ahead gives way to those that answer a request: it gets
 * about a quarter of a processor for which one of them waits (nice values, in
 * sched(7)). */
#define AHEAD_NICE 5

/* Jobs that wait. */
#define QUEUE_MAX 64

/* Of the cache, the part that the map of one snapshot may fill ahead. */
#define MAP_PART 4

/* ---- threads ---- */

static void be_nice(void)
{
	static GPrivate done = G_PRIVATE_INIT(NULL);

	if (g_private_get(&done))
		return;
	/* Of this thread alone (setpriority(2), notes). If it fails, it only
	 * costs time. */
	setpriority(PRIO_PROCESS, 0, AHEAD_NICE);
	g_private_set(&done, &done);
}

static void ahead_work(gpointer data, gpointer user_data)
{
	struct snap_call call = { .what = "readahead", .path = "a snapshot" };
	struct snap_ahead *ahead = data;

	be_nice();
	snap_call_begin(&call);
	ahead->run(ahead);
	snap_call_end(&call);
}

bool snap_loader_ahead(SnapLoader *loader, struct snap_ahead *ahead)
{
	SNAP_LOCKED(&loader->lock);

	if (!loader->ending)
		g_thread_pool_push(loader->ahead, ahead, NULL);
	return !loader->ending;
}

bool snap_loader_busy(SnapLoader *loader)
{
	return g_thread_pool_unprocessed(loader->ahead) >= QUEUE_MAX;
}

/* ---- decompressors ---- */

static void codec_free(gpointer codec)
{
	snap_codec_free(codec);
}

SnapCodec *snap_loader_codec(SnapLoader *loader)
{
	SNAP_LOCKED(&loader->lock);

	if (loader->codecs->len)
		return g_ptr_array_steal_index_fast(loader->codecs,
						    loader->codecs->len - 1);
	return snap_codec_new(SNAP_LEVEL_DEFAULT);
}

void snap_loader_put_codec(SnapLoader *loader, SnapCodec *codec)
{
	SNAP_LOCKED(&loader->lock);

	g_ptr_array_add(loader->codecs, codec);
}

/* A job that makes a decompressor ready. */
struct warm {
	struct snap_ahead ahead; /* first */
	SnapLoader *loader;
};

/* Unpacks an extent. */
static void warm_run(struct snap_ahead *ahead)
{
	struct warm *w = (struct warm *)ahead;
	g_autofree uint8_t *pages = g_malloc0(SNAP_EXTENT_BYTES);
	g_autofree uint8_t *frame = g_malloc(SNAP_EXTENT_BOUND);
	g_autoptr(SnapCodec) packer = snap_codec_new(SNAP_LEVEL_DEFAULT);
	SnapCodec *codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	ssize_t size;

	for (guint i = 0; i < SNAP_EXTENT_BYTES; i++)
		pages[i] = (uint8_t)(i * i >> 7);
	size = snap_codec_compress(packer, pages, SNAP_EXTENT_PAGES, frame);
	if (size > 0)
		snap_codec_decompress(codec, frame, (size_t)size, pages,
				      SNAP_EXTENT_PAGES);
	snap_loader_put_codec(w->loader, codec);
	g_free(w);
}

void snap_loader_warm(SnapLoader *loader)
{
	guint n = MIN(g_get_num_processors(),
		      (guint)g_thread_pool_get_max_threads(loader->ahead));
	bool warm;

	g_mutex_lock(&loader->lock);
	warm = loader->warm;
	loader->warm = true;
	g_mutex_unlock(&loader->lock);
	for (guint i = 0; !warm && i < n; i++) {
		struct warm *w = g_new(struct warm, 1);

		*w = (struct warm){ { warm_run }, loader };
		if (!snap_loader_ahead(loader, &w->ahead))
			g_free(w);
	}
}

/* ---- the loader ---- */

SnapLoader *snap_loader_new(const struct snap_loader_opts *opts)
{
	SnapLoader *loader = g_new0(SnapLoader, 1);
	guint threads = opts->threads ? opts->threads : g_get_num_processors();

	loader->cache = snap_cache_new(opts->cache);
	loader->files = snap_files_new(loader->cache);
	loader->near = opts->near;
	loader->window = MIN(SNAP_READAHEAD_WINDOW, opts->cache / 4);
	loader->map_most = opts->cache / MAP_PART;
	g_mutex_init(&loader->lock);
	loader->codecs = g_ptr_array_new_with_free_func(codec_free);
	/* Threads of its own: another pool's would stay nice. */
	loader->ahead = g_thread_pool_new(ahead_work, loader, (gint)threads,
					  TRUE, NULL);
	return loader;
}

void snap_loader_free(SnapLoader *loader)
{
	if (!loader)
		return;
	/* A job may want to go on. */
	g_mutex_lock(&loader->lock);
	loader->ending = true;
	g_mutex_unlock(&loader->lock);
	g_thread_pool_free(loader->ahead, FALSE, TRUE);
	g_ptr_array_unref(loader->codecs);
	g_mutex_clear(&loader->lock);
	snap_files_free(loader->files);
	snap_cache_free(loader->cache);
	g_free(loader);
}

SnapNear *snap_loader_near(SnapLoader *loader)
{
	return loader->near;
}

struct snap_loader_stats snap_loader_stats(SnapLoader *loader)
{
	struct snap_cache_stats c = snap_cache_stats(loader->cache);

	return (struct snap_loader_stats){
		.hits = c.hits,
		.misses = c.misses,
		.waits = c.waits,
		.errors = c.errors + SNAP_LOADER_COUNT(loader, errors, 0),
		.cached = c.bytes,
		.readahead = c.ahead,
		.bytes_out = SNAP_LOADER_COUNT(loader, bytes_out, 0),
		.bytes_read = SNAP_LOADER_COUNT(loader, bytes_read, 0),
	};
}
