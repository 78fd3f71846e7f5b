/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random histories of a store with increments: saves, replacements, removals,
 * moves, collections, flattenings, crashes. Each snapshot must read as a model
 * says, which holds whole memories; in the end nothing is left over.
 *
 * A history is one of processes, each of which ends well or in a crash. A crash
 * may undo what was not durable: then the snapshot must be one that the folder
 * has had since its last save was over.
 *
 * SNAPFS_HISTORY_STEPS=5000 makes longer ones. SNAPFS_TOOL is the program
 * snapfs, which flattens.
 */
#include "tests/unit/save/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "fs/load/pages.h"
#include "tests/lib/crash-names.h"
#include "tests/lib/stream.h"

#define SEEDS 4
#define STEPS 500
#define PROCESS 24u /* steps of a process, at most */
#define FOLDERS 6u
#define PAGES 560u
#define BYTES ((size_t)PAGES * SNAP_PAGE)

/* What a folder has held since the process began. */
struct held {
	uint8_t *memory; /* NULL: no snapshot */
	guint began;	 /* as many changes of names were noted by then */
	guint done;
	bool durable; /* by then */
};

struct history {
	struct world w;
	GRand *rand;
	int fds[FOLDERS];
	char *names[FOLDERS];
	GArray *held[FOLDERS]; /* of struct held; the last is what is there */
	uint8_t guest[BYTES];  /* the memory that is saved next */
	guint renamed;
	guint left;    /* steps of this process */
	guint durable; /* changes that were noted as it began */
	/* a reader that has opened a snapshot a while ago, or NULL */
	SnapLoader *loader;
	SnapPages *pages;
	uint8_t *opened; /* what it must read */
	guint undone;	 /* snapshots that a crash has put back */
	guint flattened;
};

static void open_folder(struct history *h, guint i)
{
	int root = snap_catalog_fd(h->w.catalog);

	mkdirat(root, h->names[i], 0700);
	h->fds[i] =
		openat(root, h->names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(h->fds[i] >= 0);
}

static void held_clear(gpointer data)
{
	g_free(((struct held *)data)->memory);
}

/* The folder holds this from now on. */
static void hold(struct history *h, guint i, uint8_t *memory, guint began,
		 bool durable)
{
	struct held held = { .memory = memory,
			     .began = began,
			     .done = crash_names_count(),
			     .durable = durable };

	g_array_append_val(h->held[i], held);
}

/* What the snapshot of a folder must read as; NULL: there is none. */
static const uint8_t *memory_of(const struct history *h, guint i)
{
	const GArray *held = h->held[i];

	return g_array_index(held, struct held, held->len - 1).memory;
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

	if (memory_of(h, i))
		memcpy(h->guest, memory_of(h, i), BYTES);
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
	guint began = crash_names_count();

	make_stream(h);
	snap_save_unref(h->w.save);
	assert_int_equal(snap_save_new(h->w.saver, &opts, &h->w.save, NULL), 0);
	assert_int_equal(put_all(&h->w, h->w.stream->len, 131072), 0);
	assert_int_equal(snap_save_wait(h->w.save, NULL), 0);
	g_clear_pointer(&h->w.stream, g_byte_array_unref);
	snap_saver_wait(h->w.saver);
	hold(h, i, g_memdup2(h->guest, BYTES), began, true);
}

static void drop(struct history *h, guint i)
{
	guint began = crash_names_count();

	if (!memory_of(h, i))
		return;
	assert_int_equal(snap_catalog_remove(h->w.catalog, h->fds[i]), 0);
	hold(h, i, NULL, began, false);
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

/* ---- reading ---- */

static void read_all(SnapPages *pages, uint8_t bytes[BYTES])
{
	assert_int_equal(snap_pages_read(pages, bytes, BYTES, 0, NULL), 0);
}

/* Opens the snapshot of a folder. -ENOENT where there is none. */
static int open_snapshot(struct history *h, guint i, SnapLoader **ret_loader,
			 SnapPages **ret_pages)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_MIN,
					 .threads = 1 };
	GError *error = NULL;
	SnapReader *reader;
	int r = snap_catalog_find(h->fds[i], &reader, &error);

	if (r == -ENOENT) {
		g_clear_error(&error);
		return r;
	}
	if (r < 0 ||
	    snap_catalog_set_parents(h->w.catalog, reader, &error) < 0 ||
	    snap_verify(reader, NULL, NULL, NULL, &error) < 0)
		fail_msg("%s: %s", h->names[i], error->message);
	*ret_loader = snap_loader_new(&opts);
	*ret_pages = snap_pages_new(*ret_loader, reader, h->names[i]);
	return 0;
}

/* The memory that a snapshot has; NULL: there is none. */
static uint8_t *read_snapshot(struct history *h, guint i)
{
	g_autofree uint8_t *bytes = g_malloc(BYTES);
	g_autoptr(SnapLoader) loader = NULL;
	g_autoptr(SnapPages) pages = NULL;

	if (open_snapshot(h, i, &loader, &pages) < 0)
		return NULL;
	read_all(pages, bytes);
	g_clear_pointer(&pages, snap_pages_unref);
	return g_steal_pointer(&bytes);
}

static bool are_equal(const uint8_t *a, const uint8_t *b)
{
	return a && b ? !memcmp(a, b, BYTES) : a == b;
}

/* Compares each byte. */
static void check_snapshot(struct history *h, guint i)
{
	g_autofree uint8_t *bytes = read_snapshot(h, i);

	if (!are_equal(bytes, memory_of(h, i)))
		fail_msg("%s reads wrong", h->names[i]);
}

static void close_reader(struct history *h)
{
	g_clear_pointer(&h->pages, snap_pages_unref);
	g_clear_pointer(&h->loader, snap_loader_free);
	g_clear_pointer(&h->opened, g_free);
}

/* Opens a snapshot; or reads the one that was opened earlier, and may have been
 * removed with all its parents. */
static void use_reader(struct history *h)
{
	g_autofree uint8_t *bytes = g_malloc(BYTES);
	guint i = below(h, FOLDERS);

	if (!h->pages) {
		if (open_snapshot(h, i, &h->loader, &h->pages) == 0)
			h->opened = g_memdup2(memory_of(h, i), BYTES);
		return;
	}
	read_all(h->pages, bytes);
	if (memcmp(bytes, h->opened, BYTES))
		fail_msg("what was opened a while ago reads wrong");
	close_reader(h);
}

/* ---- processes ---- */

static int open_layers(const struct history *h)
{
	g_autofree char *path =
		g_build_filename(h->w.store, SNAP_CATALOG_LAYERS, NULL);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* From now on changes of names are noted; what is there is durable. */
static void note_names(struct history *h)
{
	g_autofree char *path =
		g_build_filename(h->w.store, SNAP_CATALOG_LAYERS, NULL);
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	snap_autofd int layers = open_layers(h);
	const char *name;

	crash_names_begin();
	while ((name = g_dir_read_name(dir)))
		crash_names_add(layers, name);
	for (guint i = 0; i < FOLDERS; i++)
		crash_names_add(h->fds[i], SNAP_CATALOG_SNAPSHOT);
	h->durable = crash_names_count();
}

static void begin_process(struct history *h)
{
	if (!h->w.catalog &&
	    snap_catalog_open(h->w.store, false, "a test", &h->w.catalog, NULL))
		fail_msg("the store cannot be opened");
	world_increments(&h->w);
	note_names(h);
	h->left = 1 + below(h, PROCESS);
}

/* Forgets what the folder held but for number `k` of it, which is there. */
static void keep_only(struct history *h, guint i, guint k)
{
	GArray *held = h->held[i];
	struct held *is = &g_array_index(held, struct held, k);
	uint8_t *memory = g_steal_pointer(&is->memory);

	h->undone += k + 1 < held->len;
	g_array_set_size(held, 0);
	hold(h, i, memory, 0, true);
}

/* Finds the one of those that the folder may hold after a crash that came when
 * `n` changes were noted. */
static void find_held(struct history *h, guint i, guint n)
{
	g_autofree uint8_t *bytes = read_snapshot(h, i);
	const GArray *held = h->held[i];

	for (guint k = held->len; k-- > 0;) {
		const struct held *one = &g_array_index(held, struct held, k);

		if (one->began <= n && are_equal(bytes, one->memory)) {
			keep_only(h, i, k);
			return;
		}
		if (one->durable && one->done <= n)
			break;
	}
	fail_msg("after a crash %s holds none that it may hold", h->names[i]);
}

/* Leaves what a crash would have left at any moment. Returns when it was. */
static guint crash(struct history *h)
{
	guint n = (guint)g_rand_int_range(h->rand, (gint32)h->durable,
					  (gint32)crash_names_count() + 1);
	g_autoptr(GHashTable) names = crash_names_after(n, h->rand);
	snap_autofd int layers = open_layers(h);

	crash_names_restore(names, layers);
	for (guint i = 0; i < FOLDERS; i++)
		crash_names_restore(names, h->fds[i]);
	return n;
}

/* Makes a snapshot stand alone. */
static void flatten(struct history *h)
{
	const char *tool = g_getenv("SNAPFS_TOOL");
	guint i = below(h, FOLDERS);
	const char *command[] = { tool, "flatten", h->w.store, h->names[i],
				  NULL };
	g_autofree char *said = NULL;
	int status;

	if (!tool || faccessat(h->fds[i], SNAP_CATALOG_SNAPSHOT, F_OK, 0) < 0)
		return;
	assert_true(g_spawn_sync(NULL, (char **)command, NULL,
				 G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
				 &said, &status, NULL));
	if (status || *said)
		fail_msg("flatten: %s", said);
	h->flattened++;
}

/* A process ends, well or not, and another one begins. */
static void reopen(struct history *h)
{
	guint n;

	close_reader(h);
	g_clear_pointer(&h->w.save, snap_save_unref);
	g_clear_pointer(&h->w.saver, snap_saver_free);
	/* Waits for its collection in the background. */
	g_clear_pointer(&h->w.catalog, snap_catalog_free);
	n = below(h, 3) ? crash(h) : crash_names_count();
	crash_names_end();
	if (below(h, 2))
		flatten(h);
	begin_process(h);
	for (guint i = 0; i < FOLDERS; i++)
		find_held(h, i, n);
}

static void step(struct history *h)
{
	change(h);
	switch (below(h, 12)) {
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
	case 4:
	case 5:
		use_reader(h);
		break;
	default:
		save(h);
	}
	check_snapshot(h, below(h, FOLDERS));
	if (--h->left == 0)
		reopen(h);
}

/* ---- a history ---- */

static void history_open(struct history *h, guint32 seed)
{
	memset(h, 0, sizeof(*h));
	world_open(&h->w, SNAP_SAVER_BUFFER_DEFAULT);
	h->rand = g_rand_new_with_seed(seed);
	for (guint i = 0; i < FOLDERS; i++) {
		h->names[i] = g_strdup_printf("guest%u", i);
		open_folder(h, i);
	}
	begin_process(h);
	for (guint i = 0; i < FOLDERS; i++) {
		h->held[i] = g_array_new(FALSE, FALSE, sizeof(struct held));
		g_array_set_clear_func(h->held[i], held_clear);
		hold(h, i, NULL, 0, true);
	}
}

static void history_close(struct history *h)
{
	close_reader(h);
	for (guint i = 0; i < FOLDERS; i++) {
		close(h->fds[i]);
		g_free(h->names[i]);
		g_array_unref(h->held[i]);
	}
	g_rand_free(h->rand);
	world_close(&h->w);
	crash_names_end();
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

static void live(guint32 seed, guint steps)
{
	struct history *h = g_new(struct history, 1);

	history_open(h, seed);
	for (guint i = 0; i < steps; i++)
		step(h);
	for (guint i = 0; i < FOLDERS; i++)
		check_snapshot(h, i);
	for (guint i = 0; i < FOLDERS; i++)
		drop(h, i);
	collect(h);
	collect(h);
	assert_int_equal(count_layers(h), 0);
	print_message("# seed %u: %u snapshots put back by crashes, "
		      "%u flattened\n",
		      seed, h->undone, h->flattened);
	assert_true(h->undone > 0);
	history_close(h);
	g_free(h);
}

static void whatever_happens_snapshots_read_right(void **state)
{
	const char *text = g_getenv("SNAPFS_HISTORY_STEPS");
	guint steps = text ? (guint)atoi(text) : STEPS;

	for (guint32 seed = 1; seed <= SEEDS; seed++)
		live(seed, steps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_happens_snapshots_read_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
