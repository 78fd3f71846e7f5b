/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the pictures of `map` have in common: colours, legend, addresses. */
#include "tools/store/draw.h"

#include <inttypes.h>
#include <string.h>

#include "tools/cli/print.h"

/* Blue, orange, green, purple and grey of Okabe and Ito, which people tell
 * apart who do not see all colours (https://jfly.uni-koeln.de/color/). */
static const struct snap_ink inks[SNAP_CLASSES] = {
	[SNAP_CLASS_ZERO] = { "zero", 242, "#808080", NULL, true },
	[SNAP_CLASS_OWN] = { "stored", 33, "#0072b2", NULL },
	[SNAP_CLASS_SHARED] = { "shared with a parent", 246, "#808080", "sS" },
	[SNAP_CLASS_HOT] = { "hot: needed first", 208, "#e69f00", "hH" },
	[SNAP_CLASS_SAME] = { "the same", 246, "#808080", "==", true },
	[SNAP_CLASS_CHANGED] = { "changed", 208, "#e69f00", NULL },
	[SNAP_CLASS_FIRST] = { "zero in the second", 33, "#0072b2", "--" },
	[SNAP_CLASS_SECOND] = { "zero in the first", 35, "#009e73", "++" },
	[SNAP_CLASS_ABSENT] = { "only one has this memory", 133, "#cc79a7",
				"xx" },
};

const struct snap_ink *snap_draw_ink(enum snap_class class)
{
	return &inks[class];
}

const char *const snap_draw_levels[SNAP_LEVELS] = { "up to 1/8", "1/4", "1/2",
						    "more" };

/* ---- legend ---- */

static char *note_of(const struct snap_grid *g, enum snap_class class)
{
	uint64_t bytes = g->total.pages[class] * SNAP_PAGE;
	g_autofree char *disk = snap_size_format(g->disk[class]);
	g_autofree char *ratio = snap_print_ratio(bytes, g->disk[class]);

	if (g->two)
		return g_strdup_printf("%" PRIu64 " pages",
				       g->total.pages[class]);
	if (class == SNAP_CLASS_OWN || class == SNAP_CLASS_SHARED)
		return g_strdup_printf("%s on disk, 1/%s", disk, ratio);
	return g_strdup(class == SNAP_CLASS_HOT ? "part of the above" : "");
}

static uint64_t all_pages(const struct snap_grid *g)
{
	uint64_t n = 0;

	for (guint i = 0; i < g->blocks->len; i++)
		n += snap_grid_block(g, i)->pages;
	return n;
}

static char *share_of(const struct snap_grid *g, uint64_t pages)
{
	return g_strdup_printf("%.1f %%", 100.0 * (double)pages /
						  (double)MAX(all_pages(g), 1));
}

static char *sum_of(const struct snap_grid *g)
{
	uint64_t n = 0;
	g_autofree char *size = NULL, *share = NULL;

	for (guint i = SNAP_CLASS_CHANGED; i <= SNAP_CLASS_ABSENT; i++)
		n += g->total.pages[i];
	if (!n)
		return g_strdup("Their memory is the same.");
	size = snap_size_format(n * SNAP_PAGE);
	share = share_of(g, n);
	return g_strdup_printf("They differ in %s: %" PRIu64 " pages, %s.",
			       size, n, share);
}

void snap_legend_make(const struct snap_grid *g, struct snap_legend *ret)
{
	g_autofree char *cell = snap_size_format(g->cell * SNAP_PAGE);

	memset(ret, 0, sizeof(*ret));
	ret->cell = g_strdup_printf(
		"One cell is %s. The fuller it is, the more %s:", cell,
		g->two ? "of it differs" : "room it takes on disk");
	for (guint i = 0; i < SNAP_CLASSES; i++) {
		uint64_t pages = g->total.pages[i];

		if (!pages)
			continue;
		ret->rows[ret->n++] = (struct snap_legend_row){
			.class = (enum snap_class)i,
			.ink = &inks[i],
			.what = g->two && i == SNAP_CLASS_ZERO ? "zero in both"
							       : inks[i].what,
			.size = snap_size_format(pages * SNAP_PAGE),
			.share = share_of(g, pages),
			.note = note_of(g, (enum snap_class)i),
		};
	}
	if (g->two)
		ret->sum = sum_of(g);
}

void snap_legend_clear(struct snap_legend *l)
{
	for (guint i = 0; i < l->n; i++) {
		g_free(l->rows[i].size);
		g_free(l->rows[i].share);
		g_free(l->rows[i].note);
	}
	g_free(l->cell);
	g_free(l->sum);
}

/* ---- blocks ---- */

char *snap_draw_heading(const struct snap_grid_block *b)
{
	g_autofree char *name = snap_print_safe(b->name);
	g_autofree char *size = snap_size_format(b->length);

	return g_strdup_printf("%s, %s%s", name, size,
			       b->pages ? "" : ", not in the snapshot");
}

bool snap_draw_behind(const struct snap_grid *g,
		      const struct snap_grid_block *b, const char *heading)
{
	return b->cells &&
	       b->cells + 2 + (uint64_t)g_utf8_strlen(heading, -1) <=
		       g->columns;
}

guint snap_draw_digits(const struct snap_grid *g)
{
	uint64_t most = 0;
	guint digits = 1;

	for (guint i = 0; i < g->blocks->len; i++)
		most = MAX(most, snap_grid_block(g, i)->length);
	for (most /= 16; most; most /= 16)
		digits++;
	return digits + 2;
}

char *snap_draw_address(const struct snap_grid *g, uint64_t page)
{
	return g_strdup_printf("0x%0*" PRIx64, (int)snap_draw_digits(g) - 2,
			       page * SNAP_PAGE);
}
