/* SPDX-License-Identifier: GPL-2.0-or-later */
/* zstd's own tool can check and decompress a snapshot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/image/model.h"

struct snapshot {
	struct model model;
	struct crash_disk disk;
	char *path;
};

static void make(struct snapshot *s)
{
	g_autofree char *folder = g_dir_make_tmp("snapfs-unit-XXXXXX", NULL);
	SnapWriter *w;

	crash_disk_init(&s->disk);
	model_init(&s->model, 1500, 9);
	s->model.log = g_byte_array_new();
	w = model_writer(&s->disk, 0);
	assert_int_equal(model_play(&s->model, w, 100), 0);
	assert_int_equal(model_commit(&s->model, w, -1, "x", NULL), 0);
	snap_writer_free(w);
	s->path = g_build_filename(folder, "snapshot.zst", NULL);
	assert_true(g_file_set_contents(s->path, (char *)s->disk.all->data,
					s->disk.all->len, NULL));
}

static void clear(struct snapshot *s)
{
	g_autofree char *folder = g_path_get_dirname(s->path);

	g_unlink(s->path);
	g_rmdir(folder);
	g_free(s->path);
	g_byte_array_unref(s->model.log);
	model_clear(&s->model);
	crash_disk_clear(&s->disk);
}

/* Returns the status of `zstd OPTION` on the snapshot, and its output. */
static int zstd(const char *option, const struct snapshot *s,
		GByteArray *ret_out)
{
	g_autofree char *path = g_shell_quote(s->path);
	g_autofree char *command =
		g_strdup_printf("zstd %s %s 2>&1", option, path);
	FILE *out = popen(command, "r");
	uint8_t buf[4096];
	size_t n;

	assert_non_null(out);
	while ((n = fread(buf, 1, sizeof(buf), out)) > 0)
		g_byte_array_append(ret_out, buf, (guint)n);
	return pclose(out);
}

static void skip_without_zstd(void)
{
	g_autofree char *program = g_find_program_in_path("zstd");

	if (program)
		return;
	print_message("# zstd is not installed\n");
	skip();
}

static void zstd_finds_a_snapshot_whole(void **state)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	struct snapshot s;

	skip_without_zstd();
	make(&s);
	assert_int_equal(zstd("-t", &s, out), 0);
	clear(&s);
}

static void zstd_finds_a_damaged_page(void **state)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	struct snapshot s;
	char *bytes;
	gsize size;

	skip_without_zstd();
	make(&s);
	assert_true(g_file_get_contents(s.path, &bytes, &size, NULL));
	bytes[64 + 20] ^= 4;
	assert_true(g_file_set_contents(s.path, bytes, (gssize)size, NULL));
	assert_int_not_equal(zstd("-t", &s, out), 0);
	g_free(bytes);
	clear(&s);
}

static void zstd_gives_the_pages_in_the_order_of_extents(void **state)
{
	g_autoptr(GByteArray) out = g_byte_array_new();
	struct snapshot s;

	skip_without_zstd();
	make(&s);
	assert_int_equal(zstd("-dc", &s, out), 0);
	assert_int_equal(out->len, s.model.log->len);
	assert_memory_equal(out->data, s.model.log->data, out->len);
	clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zstd_finds_a_snapshot_whole),
		cmocka_unit_test(zstd_finds_a_damaged_page),
		cmocka_unit_test(zstd_gives_the_pages_in_the_order_of_extents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
