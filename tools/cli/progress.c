/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/cli/progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "format/base/units.h"
#include "tools/cli/print.h"

#define DRAW_EVERY (100 * G_TIME_SPAN_MILLISECOND)
#define NAME_MAX_SHOWN 24
#define BAR_MAX 40
/* Columns for the rest of the line: " 100% 1023 MiB/s 00:00:00 left". */
#define REST 36

struct SnapProgress {
	bool terminal;
	bool shown; /* the bar is on the terminal */
	char *what;
	gint64 began;
	gint64 last; /* when it was drawn */
};

SnapProgress *snap_progress_new(const char *what)
{
	SnapProgress *p = g_new0(SnapProgress, 1);

	p->terminal = isatty(STDERR_FILENO);
	p->what = snap_print_safe(what);
	p->began = p->last = g_get_monotonic_time();
	return p;
}

static int terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return 80;
	return size.ws_col;
}

static char *time_text(double seconds)
{
	guint64 s = seconds < 359999 ? (guint64)seconds : 359999;

	if (s >= 3600)
		return g_strdup_printf("%u:%02u:%02u", (guint)(s / 3600),
				       (guint)(s / 60 % 60), (guint)(s % 60));
	return g_strdup_printf("%u:%02u", (guint)(s / 60), (guint)(s % 60));
}

/* Makes "[#####     ]  45%"; no bar where the terminal is too narrow. */
static char *bar_text(uint64_t done, uint64_t all, int width)
{
	double share = all ? (double)MIN(done, all) / (double)all : 1;
	g_autofree char *bar = NULL;

	width = CLAMP(width, 0, BAR_MAX);
	bar = g_strnfill((gsize)width, ' ');
	for (int i = 0; i < width; i++)
		bar[i] = i < (int)(share * width) ? '#' : ' ';
	return g_strdup_printf("%s%s%s %3d%%", width ? "[" : "", bar,
			       width ? "]" : "", (int)(share * 100));
}

static void draw(SnapProgress *p, uint64_t done, uint64_t all, gint64 now)
{
	double seconds = (double)(now - p->began) / G_TIME_SPAN_SECOND;
	double speed = seconds > 0 ? (double)done / seconds : 0;
	g_autofree char *rate = snap_size_format((uint64_t)speed);
	g_autofree char *amount = NULL, *time = NULL;
	/* A long name is cut. */
	int name = (int)MIN(g_utf8_strlen(p->what, -1), NAME_MAX_SHOWN);

	if (all) {
		amount = bar_text(done, all, terminal_width() - name - REST);
		time = time_text(
			speed > 0 ? (double)(all - MIN(done, all)) / speed : 0);
	} else {
		amount = snap_size_format(done);
		time = time_text(seconds);
	}
	fprintf(stderr, "\r\033[K%.*s %s %s/s %s%s",
		(int)(g_utf8_offset_to_pointer(p->what, name) - p->what),
		p->what, amount, rate, time, all ? " left" : "");
	fflush(stderr);
	p->shown = true;
}

void snap_progress_show(SnapProgress *p, uint64_t done, uint64_t all)
{
	gint64 now;

	if (!p->terminal)
		return;
	now = g_get_monotonic_time();
	if (now - p->last < DRAW_EVERY)
		return;
	p->last = now;
	draw(p, done, all, now);
}

void snap_progress_free(SnapProgress *p)
{
	if (!p)
		return;
	if (p->shown)
		fprintf(stderr, "\r\033[K");
	g_free(p->what);
	g_free(p);
}
