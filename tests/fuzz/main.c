/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replaces libFuzzer where there is none: runs a fuzz target once over each
 * file of the given folders, so that every test run repeats old crashers.
 */
#include <glib.h>
#include <stdio.h>

#include "tests/fuzz/fuzz.h"

static int run_folder(const char *path)
{
	g_autoptr(GError) error = NULL;
	GDir *folder = g_dir_open(path, 0, &error);
	const char *name;
	int n = 0;

	if (!folder) {
		fprintf(stderr, "%s\n", error->message);
		return -1;
	}
	while ((name = g_dir_read_name(folder))) {
		g_autofree char *file = g_build_filename(path, name, NULL);
		g_autofree char *data = NULL;
		gsize size;

		if (!g_file_get_contents(file, &data, &size, &error)) {
			fprintf(stderr, "%s\n", error->message);
			n = -1;
			break;
		}
		fprintf(stderr, "%s\n", file);
		LLVMFuzzerTestOneInput((const uint8_t *)data, size);
		n++;
	}
	g_dir_close(folder);
	return n;
}

int main(int argc, char **argv)
{
	int all = 0;

	for (int i = 1; i < argc; i++) {
		int n = run_folder(argv[i]);

		if (n < 0)
			return 1;
		all += n;
	}
	if (all == 0) {
		fprintf(stderr, "no inputs\n");
		return 1;
	}
	return 0;
}
