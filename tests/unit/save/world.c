/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/save/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/log.h"
#include "fs/load/pages.h"

/* ---- a store ---- */

void world_open(struct world *w, uint64_t buffer)
{
	struct snap_saver_opts opts = { .buffer = buffer,
					.threads = 2,
					.level = 1 };
	GError *error = NULL;

	memset(w, 0, sizeof(*w));
	snap_log_open(snap_log_to_stderr, SNAP_LOG_ERROR);
	w->store = g_dir_make_tmp("snapfs-unit-XXXXXX", NULL);
	if (snap_catalog_open(w->store, false, "a test", &w->catalog, &error))
		g_error("%s", error->message);
	opts.catalog = w->catalog;
	w->saver = snap_saver_new(&opts);
	assert_int_equal(mkdirat(snap_catalog_fd(w->catalog), "vm1", 0700), 0);
	w->folder_fd = openat(snap_catalog_fd(w->catalog), "vm1",
			      O_RDONLY | O_DIRECTORY);
	assert_true(w->folder_fd >= 0);
}

void world_increments(struct world *w)
{
	struct snap_saver_opts opts = { .catalog = w->catalog,
					.buffer = SNAP_SAVER_BUFFER_DEFAULT,
					.threads = 2,
					.level = 1,
					.increments = true };

	assert_int_equal(snap_catalog_can_link(w->catalog, NULL), 0);
	snap_saver_free(w->saver);
	w->saver = snap_saver_new(&opts);
}

void world_timeout(struct world *w, guint seconds)
{
	struct snap_saver_opts opts = { .catalog = w->catalog,
					.buffer = SNAP_SAVER_BUFFER_DEFAULT,
					.threads = 2,
					.level = 1,
					.timeout = seconds };

	snap_saver_free(w->saver);
	w->saver = snap_saver_new(&opts);
}

void begin_save_of(struct world *w, uint64_t begin)
{
	struct snap_save_opts opts = { .folder_fd = w->folder_fd,
				       .path = "vm1",
				       .owner = { (uid_t)-1, (gid_t)-1, 0600 },
				       .begin = begin,
				       .preamble_fd = -1 };

	snap_save_unref(w->save);
	assert_int_equal(snap_save_new(w->saver, &opts, &w->save, NULL), 0);
}

void begin_save(struct world *w)
{
	begin_save_of(w, 0);
}

void world_close(struct world *w)
{
	g_autofree char *rm = g_strdup_printf("rm -rf '%s'", w->store);

	snap_save_unref(w->save);
	snap_saver_free(w->saver);
	snap_catalog_free(w->catalog);
	close(w->folder_fd);
	g_free(w->ram);
	if (w->stream)
		g_byte_array_unref(w->stream);
	assert_int_equal(system(rm), 0);
	g_free(w->store);
}

/* ---- writing ---- */

struct outcome {
	const struct world *world;
	GMutex lock;
	GCond cond;
	bool given;
	bool saved; /* when it was given */
	ssize_t result;
};

static struct outcome *outcome_new(const struct world *w)
{
	struct outcome *o = g_new0(struct outcome, 1);

	o->world = w;
	return o;
}

static void outcome_give(void *data, ssize_t result)
{
	struct outcome *o = data;
	SNAP_LOCKED(&o->lock);

	assert_false(o->given);
	o->given = true;
	o->saved = there_is_a_snapshot(o->world);
	o->result = result;
	g_cond_signal(&o->cond);
}

bool outcome_given(struct outcome *o)
{
	SNAP_LOCKED(&o->lock);

	return o->given;
}

bool outcome_saved(struct outcome *o)
{
	SNAP_LOCKED(&o->lock);

	while (!o->given)
		g_cond_wait(&o->cond, &o->lock);
	return o->saved;
}

ssize_t outcome_wait(struct outcome *o)
{
	ssize_t result;

	outcome_saved(o);
	result = o->result;
	g_free(o);
	return result;
}

struct outcome *put_later(struct world *w, const void *data, size_t size,
			  uint64_t offset)
{
	struct outcome *o = outcome_new(w);

	snap_save_write(w->save, data, size, offset, outcome_give, o);
	return o;
}

ssize_t put(struct world *w, const void *data, size_t size, uint64_t offset)
{
	return outcome_wait(put_later(w, data, size, offset));
}

struct outcome *check_later(struct world *w)
{
	struct outcome *o = outcome_new(w);

	snap_save_check(w->save, outcome_give, o);
	return o;
}

ssize_t check(struct world *w)
{
	return outcome_wait(check_later(w));
}

ssize_t put_all(struct world *w, size_t size, size_t step)
{
	for (size_t at = 0; at < size; at += step) {
		size_t n = MIN(step, size - at);
		ssize_t r = put(w, w->stream->data + at, n, at);

		if (r < 0)
			return r;
		assert_int_equal(r, n);
	}
	return 0;
}

/* ---- results ---- */

bool there_is_a_snapshot(const struct world *w)
{
	return faccessat(w->folder_fd, SNAP_CATALOG_SNAPSHOT, F_OK, 0) == 0;
}

static guint names_in_tmp(const struct world *w)
{
	g_autofree char *path =
		g_build_filename(w->store, ".snapfs", "tmp", NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (dir && g_dir_read_name(dir))
		n++;
	return n;
}

static SnapReader *saved(struct world *w)
{
	GError *error = NULL;
	SnapReader *reader;

	if (snap_catalog_find(w->folder_fd, &reader, &error) ||
	    snap_catalog_set_parents(w->catalog, reader, &error))
		g_error("%s", error->message);
	return reader;
}

uint8_t *saved_bytes(struct world *w, uint64_t offset, size_t size)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_MIN,
					 .threads = 1 };
	SnapLoader *loader = snap_loader_new(&opts);
	SnapPages *pages = snap_pages_new(loader, saved(w), "vm1");
	uint8_t *bytes = g_malloc(size);

	assert_int_equal(snap_pages_read(pages, bytes, size, offset, NULL), 0);
	snap_pages_unref(pages);
	snap_loader_free(loader);
	return bytes;
}

void saved_meta(struct world *w, struct snap_meta *ret_meta)
{
	g_autoptr(SnapReader) reader = saved(w);

	*ret_meta = *snap_reader_meta(reader);
	ret_meta->blocks =
		g_memdup2(ret_meta->blocks,
			  ret_meta->n_blocks * sizeof(*ret_meta->blocks));
}

void assert_saved(struct world *w)
{
	g_autofree uint8_t *ram = saved_bytes(w, 0, FLAT_SIZE);
	g_autoptr(SnapReader) reader = saved(w);

	assert_int_equal(snap_verify(reader, NULL, NULL, NULL, NULL), 0);
	assert_memory_equal(ram, w->ram, FLAT_SIZE);
	assert_int_equal(names_in_tmp(w), 0);
}

void assert_failed(struct world *w, int code)
{
	g_autofree char *note = NULL;
	GError *error = NULL;

	assert_int_equal(snap_save_wait(w->save, &error), code);
	assert_non_null(error);
	note = snap_catalog_noted(w->folder_fd);
	assert_non_null(note);
	assert_non_null(strstr(note, error->message));
	g_error_free(error);
	snap_save_unref(w->save);
	w->save = NULL;
	/* The temporary files are removed when the thread ends. */
	for (int i = 0; i < 500 && names_in_tmp(w); i++)
		g_usleep(10000);
	assert_int_equal(names_in_tmp(w), 0);
}
