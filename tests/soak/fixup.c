/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usage: image-fixup FILE
 *
 * Makes the sums of a snapshot file right again after the soak has changed some
 * of its bytes, so that it lies. */
#include <glib.h>
#include <stdio.h>

#include "tests/lib/image-fixup.h"

int main(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	g_autofree char *bytes = NULL;
	gsize size;

	if (argc != 2 || !g_file_get_contents(argv[1], &bytes, &size, &error)) {
		fprintf(stderr, "%s\n", error ? error->message : "which file?");
		return 1;
	}
	image_fixup((uint8_t *)bytes, size);
	if (!g_file_set_contents(argv[1], bytes, (gssize)size, &error)) {
		fprintf(stderr, "%s\n", error->message);
		return 1;
	}
	return 0;
}
