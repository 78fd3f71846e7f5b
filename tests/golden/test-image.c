/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads the golden snapshot files: each in good/ as the text beside it says,
 * and each in refused/ not at all, with the errno that its name begins with.
 *
 * usage: test-image FOLDER; with --print FILE it prints the text of one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "format/base/crc32c.h"
#include "format/base/error.h"
#include "format/image/image.h"

static const char *folder;

/* ---- a snapshot as text ---- */

static void print_meta(GString *out, const struct snap_meta *m)
{
	g_string_append_printf(out, "form %d\nuuid ", (int)m->form);
	for (guint i = 0; i < sizeof(m->uuid); i++)
		g_string_append_printf(out, "%02x", m->uuid[i]);
	g_string_append_printf(out,
			       "\ncreated %" PRIu64
			       "\nmachine \"%s\"\nwhy \"%s\"\n"
			       "pages_at %" PRIu64 "\nram_section %" PRIu32
			       "\ntarget_page %" PRIu32 "\nfooters %d\n",
			       m->created, m->machine, m->why, m->pages_at,
			       m->ram_section, m->target_page, m->footers);
	for (guint i = 0; i < m->n_layers; i++)
		g_string_append_printf(out,
				       "parent %u size %" PRIu64
				       " used %" PRIu64 " crc32c %08" PRIx32
				       "\n",
				       i + 1, m->layers[i].size,
				       m->layers[i].used, m->layers[i].crc32c);
	for (guint i = 0; i < m->n_blocks; i++) {
		const struct snap_block *b = &m->blocks[i];

		g_string_append_printf(
			out,
			"block %d \"%s\" base %" PRIu64 " length %" PRIu64
			" stored %" PRIu64 " page_size %" PRIu64 " gpa %" PRIu64
			"%s\n",
			(int)b->kind, b->name, b->base, b->length, b->stored,
			b->page_size, b->gpa, b->ignored ? " ignored" : "");
	}
}

/* A line for each page that is not zero: its number and its sum. */
static void print_run(GString *out, SnapReader *r, uint64_t region,
		      const struct snap_segment *s)
{
	g_autoptr(SnapCodec) codec = snap_codec_new(SNAP_LEVEL_DEFAULT);
	uint8_t data[SNAP_EXTENT_BYTES], fill[SNAP_PAGE];

	if (s->kind == SNAP_SEGMENT_ZERO)
		return;
	memset(fill, s->fill, sizeof(fill));
	if (s->kind == SNAP_SEGMENT_EXTENT)
		assert_int_equal(snap_reader_extent(r, s, codec, data), 0);
	for (guint i = 0; i < s->count; i++) {
		const uint8_t *page = data + (s->first + i) * SNAP_PAGE;

		if (s->kind == SNAP_SEGMENT_FILL)
			page = fill;
		g_string_append_printf(out, "page %" PRIu64 " %08" PRIx32 "\n",
				       region * SNAP_REGION_PAGES + s->page + i,
				       snap_crc32c(0, page, SNAP_PAGE));
	}
}

static char *print(SnapReader *r)
{
	GString *out = g_string_new(NULL);
	struct snap_node node;
	struct snap_leaf leaf;
	guint n;

	print_meta(out, snap_reader_meta(r));
	snap_reader_top(r, &n);
	for (guint i = 0; i < n; i++) {
		assert_int_equal(snap_reader_node(r, i, &node), 0);
		for (guint j = 0; j < node.n; j++) {
			uint64_t region = (uint64_t)i * SNAP_NODE_ENTRIES + j;

			assert_int_equal(snap_reader_leaf(r, region,
							  &node.entries[j],
							  &leaf),
					 0);
			for (guint k = 0; k < leaf.n; k++)
				print_run(out, r, region, &leaf.segments[k]);
		}
	}
	return g_string_free(out, FALSE);
}

/* Hands over the parents that lie in `layers`. */
static int set_parents(SnapReader *r, const char *layers, GError **error)
{
	const struct snap_meta *m = snap_reader_meta(r);
	int code = 0;

	for (guint i = 0; code == 0 && i < m->n_layers; i++) {
		GString *path = g_string_new(layers);
		int fd;

		g_string_append_c(path, '/');
		for (guint j = 0; j < sizeof(m->uuid); j++)
			g_string_append_printf(path, "%02x",
					       m->layers[i].uuid[j]);
		g_string_append(path, ".zst");
		fd = open(path->str, O_RDONLY | O_CLOEXEC);
		g_string_free(path, TRUE);
		if (fd >= 0)
			code = snap_reader_set_layer(r, i, snap_file_wrap(fd),
						     error);
	}
	return code;
}

static int open_path(const char *path, SnapReader **ret_reader, GError **error)
{
	g_autofree char *folder_path = g_path_get_dirname(path);
	g_autofree char *layers =
		g_build_filename(folder_path, "..", "layers", NULL);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	SnapReader *r;
	int code;

	if (fd < 0)
		return -errno;
	code = snap_reader_open(snap_file_wrap(fd), &r, error);
	if (code < 0)
		return code;
	code = set_parents(r, layers, error);
	if (code < 0)
		snap_reader_free(r);
	else
		*ret_reader = r;
	return code;
}

/* ---- the tests ---- */

/* Calls `check` for each file that ends in .zst of a folder. */
static void for_each(const char *name,
		     void (*check)(const char *path, const char *base))
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	GDir *dir = g_dir_open(path, 0, NULL);
	const char *base;
	guint n = 0;

	assert_non_null(dir);
	while ((base = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(path, base, NULL);

		if (!g_str_has_suffix(base, ".zst"))
			continue;
		check(file, base);
		n++;
	}
	g_dir_close(dir);
	assert_true(n > 0);
}

static void check_good(const char *path, const char *base)
{
	g_autofree char *text_path = g_strdup(path), *text = NULL;
	g_autofree char *expected = NULL;
	GError *error = NULL;
	SnapReader *r;

	memcpy(text_path + strlen(text_path) - 4, ".txt", 4);
	assert_true(g_file_get_contents(text_path, &expected, NULL, NULL));
	if (open_path(path, &r, &error) < 0 ||
	    snap_verify(r, NULL, NULL, NULL, &error) < 0)
		fail_msg("%s: %s", base, error->message);
	text = print(r);
	assert_string_equal(text, expected);
	snap_reader_free(r);
}

static void golden_snapshots_read_as_they_always_did(void **state)
{
	for_each("good", check_good);
}

static int errno_of(const char *base)
{
	static const struct {
		const char *name;
		int code;
	} codes[] = {
		{ "EBADMSG-", EBADMSG },
		{ "ENOLINK-", ENOLINK },
		{ "ENODATA-", ENODATA },
		{ "EOPNOTSUPP-", EOPNOTSUPP },
	};

	for (guint i = 0; i < G_N_ELEMENTS(codes); i++)
		if (g_str_has_prefix(base, codes[i].name))
			return codes[i].code;
	fail_msg("%s begins with no errno", base);
	return 0;
}

static void check_refused(const char *path, const char *base)
{
	GError *error = NULL;
	SnapReader *r;
	int code = open_path(path, &r, &error);

	if (code == 0) {
		code = snap_verify(r, NULL, NULL, NULL, &error);
		snap_reader_free(r);
	}
	if (code != -errno_of(base))
		fail_msg("%s: %s", base, g_strerror(-code));
	assert_non_null(error);
	print_message("# %s: %s\n", base, error->message);
	g_error_free(error);
}

static void what_is_no_snapshot_is_refused_by_its_errno(void **state)
{
	for_each("refused", check_refused);
}

static int print_one(const char *path)
{
	g_autofree char *text = NULL;
	GError *error = NULL;
	SnapReader *r;

	if (open_path(path, &r, &error) < 0) {
		fprintf(stderr, "%s: %s\n", path,
			error ? error->message : "cannot be opened");
		return 1;
	}
	text = print(r);
	fputs(text, stdout);
	snap_reader_free(r);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_snapshots_read_as_they_always_did),
		cmocka_unit_test(what_is_no_snapshot_is_refused_by_its_errno),
	};

	if (argc == 3 && !strcmp(argv[1], "--print"))
		return print_one(argv[2]);
	folder = argc > 1 ? argv[1] : ".";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
