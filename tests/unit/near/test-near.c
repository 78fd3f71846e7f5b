/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disk cache: what it keeps, what it believes, and how much it takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/log.h"
#include "fs/load/pages.h"
#include "fs/near/near.h"
#include "tests/lib/image-fixture.h"

#define PAGES (3 * SNAP_REGION_PAGES)

/* What open_big() makes in the store. */
static const char *const BIGS[] = { "big0", "big1", "big2" };

/* A file of the store that counts its reads, and says who owns it. */
struct far_file {
	SnapFile file; /* first */
	SnapFile *below;
	guint *reads; /* atomic */
	uint32_t owner;
};

static struct far_file *far_file(SnapFile *f)
{
	return (struct far_file *)f;
}

static ssize_t far_pread(SnapFile *f, void *buf, size_t size, uint64_t offset)
{
	SnapFile *below = far_file(f)->below;

	__atomic_add_fetch(far_file(f)->reads, 1, __ATOMIC_RELAXED);
	return below->ops->pread(below, buf, size, offset);
}

static int far_size(SnapFile *f, uint64_t *ret_size)
{
	return far_file(f)->below->ops->size(far_file(f)->below, ret_size);
}

static int far_identify(SnapFile *f, struct snap_file_id *ret_id)
{
	int r = snap_file_identify(far_file(f)->below, ret_id);

	ret_id->owner = far_file(f)->owner;
	return r;
}

static void far_close(SnapFile *f)
{
	snap_file_close(far_file(f)->below);
	g_free(f);
}

static const struct snap_file_ops far_ops = {
	.name = "far",
	.pread = far_pread,
	.size = far_size,
	.identify = far_identify,
	.close = far_close,
};

struct world {
	struct image_fixture f;
	char *folder; /* of the cache */
	uint64_t limit;
	guint reads;
	SnapNear *near;
};

static void near_open(struct world *w)
{
	int fd = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(snap_near_new(fd, w->folder, w->limit, &w->near, NULL),
			 0);
}

static void near_close(struct world *w)
{
	g_clear_pointer(&w->near, snap_near_free);
}

static int set_up(void **state)
{
	struct world *w = g_new0(struct world, 1);

	image_fixture_make(&w->f, PAGES, 42);
	w->folder = g_dir_make_tmp("snapfs-near-XXXXXX", NULL);
	w->limit = SNAP_NEAR_SIZE_DEFAULT;
	near_open(w);
	*state = w;
	return 0;
}

/* Calls `visit` with the path of each file in the folder of the cache. Returns
 * how many there are. */
static guint each_copy(struct world *w, void (*visit)(const char *path))
{
	g_autoptr(GDir) dir = g_dir_open(w->folder, 0, NULL);
	g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
	const char *name;

	while ((name = g_dir_read_name(dir)))
		g_ptr_array_add(paths, g_build_filename(w->folder, name, NULL));
	for (guint i = 0; visit && i < paths->len; i++)
		visit(paths->pdata[i]);
	return paths->len;
}

static void remove_file(const char *path)
{
	assert_int_equal(remove(path), 0);
}

static int tear_down(void **state)
{
	struct world *w = *state;

	near_close(w);
	each_copy(w, remove_file);
	g_rmdir(w->folder);
	for (guint n = 0; n < G_N_ELEMENTS(BIGS); n++)
		unlinkat(w->f.fd, BIGS[n], 0);
	image_fixture_clear(&w->f);
	g_free(w->folder);
	g_free(w);
	return 0;
}

static SnapFile *open_far(struct world *w, uint32_t owner)
{
	struct far_file *far = g_new0(struct far_file, 1);

	far->file.ops = &far_ops;
	far->below = snap_file_wrap(
		openat(w->f.fd, "snapshot.zst", O_RDONLY | O_CLOEXEC));
	far->reads = &w->reads;
	far->owner = owner;
	return &far->file;
}

/* Reads the whole page space by a loader of its own, and checks it. Returns how
 * often the store was read, but for the opening. */
static guint read_all(struct world *w)
{
	struct snap_loader_opts opts = { .cache = SNAP_CACHE_DEFAULT,
					 .threads = 1,
					 .near = w->near };
	SnapLoader *loader = snap_loader_new(&opts);
	g_autofree uint8_t *buf = g_malloc(w->f.size);
	SnapReader *reader;
	SnapPages *pages;
	guint before;

	assert_int_equal(snap_reader_open(open_far(w, 7), &reader, NULL), 0);
	pages = snap_pages_new(loader, reader, "vm1");
	before = w->reads;
	assert_int_equal(snap_pages_read(pages, buf, w->f.size, 0, NULL), 0);
	assert_memory_equal(buf, w->f.bytes, w->f.size);
	snap_near_settle(w->near);
	snap_pages_unref(pages);
	snap_loader_free(loader);
	return w->reads - before;
}

static uint64_t rejected(struct world *w)
{
	return snap_near_stats(w->near).rejected;
}

/* ---- what is kept ---- */

static void what_was_read_once_is_not_read_from_the_store_again(void **state)
{
	struct world *w = *state;

	assert_true(read_all(w) > 0);
	assert_int_equal(read_all(w), 0);
	assert_int_equal(rejected(w), 0);
	assert_true(snap_near_stats(w->near).hits > 0);
	assert_true(snap_near_stats(w->near).bytes > 0);
}

static void a_new_mount_has_what_an_older_one_kept(void **state)
{
	struct world *w = *state;

	read_all(w);
	near_close(w);
	near_open(w);
	assert_true(snap_near_stats(w->near).bytes > 0);
	assert_int_equal(read_all(w), 0);
}

static void another_users_snapshot_has_a_copy_of_its_own(void **state)
{
	struct world *w = *state;
	struct snap_layer which = { .size = 1 };
	SnapFile *mine = snap_near_wrap(w->near, open_far(w, 7), &which);
	SnapFile *other = snap_near_wrap(w->near, open_far(w, 8), &which);

	assert_int_equal(each_copy(w, NULL), 2);
	snap_file_close(mine);
	snap_file_close(other);
}

/* A second cache in the folder, opened with these flags, is refused so. */
static void assert_refused(struct world *w, int flags, int r, const char *why)
{
	int fd = open(w->folder, flags | O_DIRECTORY | O_CLOEXEC);
	g_autoptr(GError) error = NULL;
	SnapNear *other;

	assert_int_equal(snap_near_new(fd, w->folder, w->limit, &other, &error),
			 r);
	assert_non_null(strstr(error->message, w->folder));
	assert_non_null(strstr(error->message, why));
}

static void two_mounts_do_not_share_a_folder(void **state)
{
	assert_refused(*state, O_RDONLY, -EBUSY, "another mount uses it");
}

static void a_folder_that_cannot_be_locked_is_refused(void **state)
{
	assert_refused(*state, O_PATH, -EBADF, "cannot be locked");
}

/* ---- what is believed ---- */

static void spoil(const char *path)
{
	g_autofree char *bytes = NULL;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	gsize size;

	assert_true(g_file_get_contents(path, &bytes, &size, NULL));
	for (gsize i = 0; i < size; i++)
		bytes[i] ^= 1;
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	close(fd);
}

static void zero(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(truncate(path, st.st_size), 0);
}

static void cut_short(const char *path)
{
	assert_int_equal(truncate(path, 100), 0);
}

static void wrong_bytes_are_read_again_from_the_store(void **state)
{
	struct world *w = *state;

	read_all(w);
	each_copy(w, spoil);
	assert_true(read_all(w) > 0);
	assert_true(rejected(w) > 0);
	/* And they were replaced. */
	assert_int_equal(read_all(w), 0);
}

/* Which pieces there are is known as long as somebody has the copy open. */
static void bytes_that_go_while_a_copy_is_open_come_from_the_store(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) reader = image_fixture_open(&w->f);
	struct snap_layer which = snap_reader_as_layer(reader);
	SnapFile *f;

	read_all(w);
	f = snap_near_wrap(w->near, open_far(w, 7), &which);
	each_copy(w, zero);
	assert_true(read_all(w) > 0);
	assert_true(rejected(w) > 0);
	each_copy(w, cut_short);
	assert_true(read_all(w) > 0);
	snap_file_close(f);
}

static void a_copy_of_another_size_is_replaced(void **state)
{
	struct world *w = *state;

	read_all(w);
	each_copy(w, cut_short);
	assert_true(read_all(w) > 0);
	assert_int_equal(read_all(w), 0);
}

static void make_link(const char *path)
{
	remove_file(path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
}

static void make_second_name(const char *path)
{
	g_autofree char *other = g_strconcat(path, ".other", NULL);

	assert_int_equal(link(path, other), 0);
}

static void what_others_put_in_the_folder_is_not_used(void **state)
{
	struct world *w = *state;

	read_all(w);
	each_copy(w, make_link);
	assert_true(read_all(w) > 0);
	assert_int_equal(read_all(w), 0);
	each_copy(w, make_second_name);
	assert_true(read_all(w) > 0);
	assert_int_equal(read_all(w), 0);
}

/* ---- how much it takes ---- */

#define BIG (700 * SNAP_KIB)
#define BIG_PIECES 11

/* A file of the store called `n`, whose bytes are all `n`. */
static SnapFile *open_big(struct world *w, guint8 n)
{
	struct snap_layer which = { .uuid = { n }, .size = BIG };
	g_autofree uint8_t *bytes = g_malloc(BIG);
	int fd = openat(w->f.fd, BIGS[n], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	memset(bytes, n, BIG);
	assert_int_equal(pwrite(fd, bytes, BIG, 0), BIG);
	return snap_near_wrap(w->near, snap_file_wrap(fd), &which);
}

/* Reads a bit of each piece of a file. Returns how many of them the cache had.
 */
static uint64_t read_big(struct world *w, SnapFile *f, guint8 n)
{
	uint64_t before = snap_near_stats(w->near).hits;
	uint8_t buf[4096];

	for (uint64_t at = 0; at < BIG; at += SNAP_NEAR_PIECE) {
		assert_int_equal(snap_file_read(f, buf, sizeof(buf), at), 0);
		assert_int_equal(buf[0], n);
		assert_int_equal(buf[sizeof(buf) - 1], n);
	}
	snap_near_settle(w->near);
	return snap_near_stats(w->near).hits - before;
}

/* Opens the cache anew, with another size. */
static void resize(struct world *w, uint64_t limit)
{
	near_close(w);
	w->limit = limit;
	near_open(w);
}

static uint64_t on_disk; /* bytes of files that were visited */

static void add_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	on_disk += (uint64_t)st.st_blocks * 512;
}

static void assert_within_limit(struct world *w)
{
	assert_true(snap_near_stats(w->near).bytes <= w->limit);
	on_disk = 0;
	each_copy(w, add_size);
	assert_true(on_disk <= w->limit);
}

static void the_least_recently_read_goes_when_the_cache_is_full(void **state)
{
	struct world *w = *state;
	SnapFile *f[3];

	resize(w, 2 * BIG);
	for (guint8 n = 0; n < 3; n++)
		f[n] = open_big(w, n);
	read_big(w, f[0], 0);
	read_big(w, f[1], 1);
	assert_int_equal(read_big(w, f[0], 0), BIG_PIECES);
	read_big(w, f[2], 2);
	assert_within_limit(w);
	assert_int_equal(read_big(w, f[0], 0), BIG_PIECES);
	assert_int_equal(read_big(w, f[1], 1), 0);
	for (guint8 n = 0; n < 3; n++)
		snap_file_close(f[n]);
}

static void
a_snapshot_that_fills_the_cache_alone_keeps_its_beginning(void **state)
{
	struct world *w = *state;
	SnapFile *f;

	resize(w, 4 * SNAP_NEAR_PIECE);
	f = open_big(w, 1);
	read_big(w, f, 1);
	assert_int_equal(read_big(w, f, 1), 4);
	assert_int_equal(read_big(w, f, 1), 4);
	snap_file_close(f);
}

/* Fills the cache with the first `n` files. */
static void fill_bigs(struct world *w, guint8 n)
{
	for (guint8 i = 0; i < n; i++) {
		SnapFile *f = open_big(w, i);

		read_big(w, f, i);
		snap_file_close(f);
	}
}

static void a_smaller_cache_drops_what_is_too_much_at_once(void **state)
{
	struct world *w = *state;

	fill_bigs(w, 3);
	resize(w, 2 * BIG);
	assert_within_limit(w);
	assert_int_equal(each_copy(w, NULL), 2);
	resize(w, BIG + 4 * SNAP_NEAR_PIECE);
	assert_within_limit(w);
	assert_int_equal(each_copy(w, NULL), 1);
}

static void a_copy_that_is_larger_than_a_smaller_cache_is_cut(void **state)
{
	struct world *w = *state;
	SnapFile *f;

	fill_bigs(w, 1);
	resize(w, 4 * SNAP_NEAR_PIECE);
	assert_within_limit(w);
	f = open_big(w, 0);
	assert_int_equal(read_big(w, f, 0), 4);
	snap_file_close(f);
	/* And is no smaller after another mount of that size. */
	resize(w, w->limit);
	f = open_big(w, 0);
	assert_int_equal(read_big(w, f, 0), 4);
	assert_within_limit(w);
	snap_file_close(f);
}

static void a_removed_file_takes_its_copy_along(void **state)
{
	struct world *w = *state;
	SnapFile *removed = open_big(w, 1), *other = open_big(w, 2);
	uint64_t bytes;

	read_big(w, removed, 1);
	read_big(w, other, 2);
	bytes = snap_near_stats(w->near).bytes;
	assert_int_equal(unlinkat(w->f.fd, BIGS[1], 0), 0);
	assert_int_equal(read_big(w, removed, 1), BIG_PIECES);
	snap_file_close(removed);
	snap_file_close(other);
	assert_int_equal(each_copy(w, NULL), 1);
	assert_int_equal(snap_near_stats(w->near).bytes, bytes / 2);
	other = open_big(w, 2);
	assert_int_equal(read_big(w, other, 2), BIG_PIECES);
	snap_file_close(other);
}

static void a_copy_that_another_reader_has_open_stays(void **state)
{
	struct world *w = *state;
	SnapFile *one = open_big(w, 1), *two = open_big(w, 1);

	read_big(w, one, 1);
	assert_int_equal(unlinkat(w->f.fd, BIGS[1], 0), 0);
	snap_file_close(one);
	assert_int_equal(read_big(w, two, 1), BIG_PIECES);
	snap_file_close(two);
	assert_int_equal(each_copy(w, NULL), 0);
}

static gint lines;

static void count_lines(enum snap_log_level level, const char *line)
{
	if (level == SNAP_LOG_WARNING)
		g_atomic_int_inc(&lines);
}

/* Sets a limit of this process; returns the one before. */
static rlim_t set_limit(int what, rlim_t value)
{
	struct rlimit limit;
	rlim_t before;

	assert_int_equal(getrlimit(what, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = value;
	assert_int_equal(setrlimit(what, &limit), 0);
	return before;
}

static void a_full_disk_ends_the_filling_and_nothing_else(void **state)
{
	struct world *w = *state;
	SnapFile *f = open_big(w, 1);
	rlim_t before;

	signal(SIGXFSZ, SIG_IGN);
	snap_log_open(count_lines, SNAP_LOG_INFO);
	before = set_limit(RLIMIT_FSIZE, 3 * SNAP_NEAR_PIECE);
	read_big(w, f, 1);
	assert_int_equal(read_big(w, f, 1), 3);
	set_limit(RLIMIT_FSIZE, before);
	assert_int_equal(g_atomic_int_get(&lines), 1);
	snap_file_close(f);
}

static void
without_descriptors_the_store_is_read_and_the_log_says_so_once(void **state)
{
	struct world *w = *state;

	g_atomic_int_set(&lines, 0);
	snap_log_open(count_lines, SNAP_LOG_INFO);
	for (guint8 n = 0; n < 2; n++) {
		struct snap_layer which = { .uuid = { n }, .size = 1 };
		SnapFile *f = open_far(w, 7);
		rlim_t before = set_limit(RLIMIT_NOFILE, 3);
		uint8_t byte;

		f = snap_near_wrap(w->near, f, &which);
		set_limit(RLIMIT_NOFILE, before);
		assert_int_equal(snap_file_read(f, &byte, 1, 0), 0);
		snap_file_close(f);
	}
	assert_int_equal(g_atomic_int_get(&lines), 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_was_read_once_is_not_read_from_the_store_again),
		TEST(a_new_mount_has_what_an_older_one_kept),
		TEST(another_users_snapshot_has_a_copy_of_its_own),
		TEST(two_mounts_do_not_share_a_folder),
		TEST(a_folder_that_cannot_be_locked_is_refused),
		TEST(wrong_bytes_are_read_again_from_the_store),
		TEST(bytes_that_go_while_a_copy_is_open_come_from_the_store),
		TEST(a_copy_of_another_size_is_replaced),
		TEST(what_others_put_in_the_folder_is_not_used),
		TEST(the_least_recently_read_goes_when_the_cache_is_full),
		TEST(a_snapshot_that_fills_the_cache_alone_keeps_its_beginning),
		TEST(a_smaller_cache_drops_what_is_too_much_at_once),
		TEST(a_copy_that_is_larger_than_a_smaller_cache_is_cut),
		TEST(a_removed_file_takes_its_copy_along),
		TEST(a_copy_that_another_reader_has_open_stays),
		TEST(a_full_disk_ends_the_filling_and_nothing_else),
		TEST(without_descriptors_the_store_is_read_and_the_log_says_so_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
