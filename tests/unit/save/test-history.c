/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random histories of a store with increments: saves, replacements, removals,
 * moves, collections. Each snapshot must read as a model says, which holds
 * whole memories; in the end nothing is left over.
 *
 * SNAPFS_HISTORY_STEPS=5000 makes a longer one.
 */
#include "tests/unit/save/world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "fs/load/pages.h"
#include "tests/lib/stream.h"

#define STEPS 300
#define FOLDERS 6u
#define PAGES 700u
#define BYTES ((size_t)PAGES * SNAP_PAGE)

struct history {
	struct world w;
	GRand *rand;
	int fds[FOLDERS];
	char *names[FOLDERS];
	/* what the snapshot of each must read as; NULL: there is none */
	uint8_t *memories[FOLDERS];
	uint8_t guest[BYTES]; /* the memory that is saved next */
	guint renamed;
};

static void open_folder(struct history *h, guint i)
{
	int root = snap_catalog_fd(h->w.catalog);

	mkdirat(root, h->names[i], 0700);
	h->fds[i] =
		openat(root, h->names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(h->fds[i] >= 0);
}

static void history_open(struct history *h, guint32 seed)
{
	memset(h, 0, sizeof(*h));
	world_open(&h->w, SNAP_SAVER_BUFFER_DEFAULT);
	world_increments(&h->w);
	h->rand = g_rand_new_with_seed(seed);
	for (guint i = 0; i < FOLDERS; i++) {
		h->names[i] = g_strdup_printf("guest%u", i);
		open_folder(h, i);
	}
}

static void history_close(struct history *h)
{
	for (guint i = 0; i < FOLDERS; i++) {
		close(h->fds[i]);
		g_free(h->names[i]);
		g_free(h->memories[i]);
	}
	g_rand_free(h->rand);
	world_close(&h->w);
}

static guint below(struct history *h, guint n)
{
	return (guint)g_rand_int_range(h->rand, 0, (gint32)n);
}

/* ---- the guest ---- */

static void change(struct history *h)
{
	guint n = below(h, 3) ? below(h, 40) : below(h, PAGES);

	for (guint i = 0; i < n; i++) {
		uint8_t *page = h->guest + (size_t)below(h, PAGES) * SNAP_PAGE;

		switch (below(h, 6)) {
		case 0:
			memset(page, 0, SNAP_PAGE);
			break;
		case 1:
			memset(page, (int)below(h, 256), SNAP_PAGE);
			break;
		default:
			stream_pattern(page, SNAP_PAGE / 4,
				       g_rand_int(h->rand));
			memset(page + SNAP_PAGE / 4, 7, SNAP_PAGE / 2);
		}
	}
}

/* Goes back to what a snapshot holds. */
static void revert(struct history *h)
{
	guint i = below(h, FOLDERS);

	if (h->memories[i])
		memcpy(h->guest, h->memories[i], BYTES);
}

/* ---- what happens ---- */

static void put_page(struct history *h, guint page)
{
	GByteArray *s = h->w.stream;

	stream_page(s, s->len < 200 ? "pc.ram" : NULL,
		    (uint64_t)page * SNAP_PAGE,
		    h->guest + (size_t)page * SNAP_PAGE, SNAP_PAGE);
}

/* The guest as a stream: in order, or with pages that come again. */
static void make_stream(struct history *h)
{
	GByteArray *s = h->w.stream = g_byte_array_new();
	guint early = below(h, 2) ? below(h, 200) : 0;

	stream_magic(s);
	stream_configuration(s, "pc-q35-test");
	stream_start(s, 1, 2, "ram", 4);
	stream_total(s, BYTES);
	stream_block(s, "pc.ram", BYTES);
	stream_eos(s);
	stream_footer(s, 2);
	stream_more(s, 2, 2);
	for (guint i = 0; i < early; i++) {
		guint page = below(h, PAGES);
		uint8_t old[SNAP_PAGE], *at;

		at = h->guest + (size_t)page * SNAP_PAGE;
		memcpy(old, at, SNAP_PAGE);
		stream_pattern(at, SNAP_PAGE, i);
		put_page(h, page);
		memcpy(at, old, SNAP_PAGE);
	}
	for (guint page = 0; page < PAGES; page++)
		put_page(h, page);
	stream_eos(s);
	stream_footer(s, 2);
	stream_more(s, 3, 2);
	stream_eos(s);
	stream_footer(s, 2);
	stream_device(s, 7, "cpu", "state", 5, true);
	stream_description(s, "{\"devices\": []}");
}

static void save(struct history *h)
{
	guint i = below(h, FOLDERS);
	struct snap_save_opts opts = { .folder_fd = h->fds[i],
				       .path = h->names[i],
				       .owner = { (uid_t)-1, (gid_t)-1, 0600 },
				       .preamble_fd = -1 };

	make_stream(h);
	snap_save_unref(h->w.save);
	assert_int_equal(snap_save_new(h->w.saver, &opts, &h->w.save, NULL), 0);
	assert_int_equal(put_all(&h->w, h->w.stream->len, 131072), 0);
	assert_int_equal(snap_save_wait(h->w.save, NULL), 0);
	g_clear_pointer(&h->w.stream, g_byte_array_unref);
	g_free(h->memories[i]);
	h->memories[i] = g_memdup2(h->guest, BYTES);
}

static void drop(struct history *h, guint i)
{
	if (!h->memories[i])
		return;
	assert_int_equal(snap_catalog_remove(h->fds[i]), 0);
	g_clear_pointer(&h->memories[i], g_free);
}

static void move(struct history *h)
{
	guint i = below(h, FOLDERS);
	int root = snap_catalog_fd(h->w.catalog);
	char *name = g_strdup_printf("moved%u", h->renamed++);

	snap_catalog_move_begin(h->w.catalog);
	assert_int_equal(renameat(root, h->names[i], root, name), 0);
	snap_catalog_move_end(h->w.catalog);
	g_free(h->names[i]);
	h->names[i] = name;
}

static void collect(struct history *h)
{
	GError *error = NULL;

	if (snap_catalog_collect(h->w.catalog, &error) < 0)
		fail_msg("%s", error->message);
}

/* Reads a snapshot, and compares each byte. */
static void check_snapshot(struct history *h, guint i)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_MIN,
					 .threads = 1 };
	g_autofree uint8_t *bytes = g_malloc(BYTES);
	g_autoptr(SnapLoader) loader = NULL;
	g_autoptr(SnapPages) pages = NULL;
	GError *error = NULL;
	SnapReader *r;

	if (!h->memories[i])
		return;
	if (snap_catalog_find(h->fds[i], &r, &error) < 0 ||
	    snap_catalog_set_parents(h->w.catalog, r, &error) < 0 ||
	    snap_verify(r, NULL, NULL, NULL, &error) < 0)
		fail_msg("%s: %s", h->names[i], error->message);
	loader = snap_loader_new(&opts);
	pages = snap_pages_new(loader, r, h->names[i]);
	assert_int_equal(snap_pages_read(pages, bytes, BYTES, 0, NULL), 0);
	if (memcmp(bytes, h->memories[i], BYTES))
		fail_msg("%s reads wrong", h->names[i]);
	g_clear_pointer(&pages, snap_pages_unref);
}

static void step(struct history *h)
{
	change(h);
	switch (below(h, 10)) {
	case 0:
		drop(h, below(h, FOLDERS));
		break;
	case 1:
		move(h);
		break;
	case 2:
		revert(h);
		break;
	case 3:
		collect(h);
		break;
	default:
		save(h);
	}
	check_snapshot(h, below(h, FOLDERS));
}

static guint count_layers(const struct history *h)
{
	g_autofree char *path =
		g_build_filename(h->w.store, SNAP_CATALOG_LAYERS, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	while (g_dir_read_name(dir))
		n++;
	return n;
}

static void whatever_happens_snapshots_read_right(void **state)
{
	const char *text = g_getenv("SNAPFS_HISTORY_STEPS");
	guint steps = text ? (guint)atoi(text) : STEPS;
	struct history h;

	history_open(&h, 1);
	for (guint i = 0; i < steps; i++) {
		step(&h);
		for (guint j = 0; i % 50 == 49 && j < FOLDERS; j++)
			check_snapshot(&h, j);
	}
	for (guint i = 0; i < FOLDERS; i++) {
		check_snapshot(&h, i);
		drop(&h, i);
	}
	snap_saver_wait(h.w.saver);
	collect(&h);
	collect(&h);
	assert_int_equal(count_layers(&h), 0);
	history_close(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_happens_snapshots_read_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
