/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of a file a process has touched: the pages in its page tables, as
 * /proc/PID/maps and /proc/PID/pagemap show them (proc(5); for the bits, the
 * kernel's Documentation/admin-guide/mm/pagemap.rst). A thread looks now and
 * then, less and less often.
 *
 * The kernel maps up to 64 KiB around a touched page, as far as these pages are
 * in memory (fault_around_bytes), so the result is no finer than that.
 *
 * A look needs the process's mmap_lock, which a thread of the process may hold
 * while it waits for another file system. So a look may hang, and nobody waits
 * for the watch's thread. It uses nothing but the watch, which the last of its
 * two owners frees.
 */
#include "fs/hot/hot-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "format/base/cleanup.h"

#define PAGEMAP_SWAPPED ((uint64_t)1 << 62)
#define PAGEMAP_PRESENT ((uint64_t)1 << 63)

/* Entries of pagemap that are read at once: 128 KiB. */
#define ENTRIES 16384u

/* How often a look may see each page of the file, in different mappings. */
#define MAPPINGS 4u

/* The time of the first look; how long the thread goes on looking; and its rest
 * after a look, as a multiple of the time that the look took. */
#define LOOK_US (10 * 1000)
#define LOOKS_US (30 * G_USEC_PER_SEC)
#define LOOK_REST 8
/* A process that opens a file to map it has mapped it by then. */
#define MAP_US G_USEC_PER_SEC

/* Watches at a time, with those that hang. */
#define WATCHES_MAX 32

static gint watches; /* atomic */

struct SnapWatch {
	guint refs; /* atomic */
	snap_hot_open_proc open_proc;
	pid_t pid;
	dev_t dev;
	uint64_t ino;
	uint64_t size; /* of the file */
	GMutex lock;
	GCond stopped;
	bool stop;	  /* protected by lock, as the rest */
	GHashTable *seen; /* units + 1 */
	GArray *touched;  /* struct snap_touched */
	guint look;
};

struct mapping {
	uint64_t start; /* addresses */
	uint64_t end;
	uint64_t offset; /* in the file, of the start */
};

static void watch_unref(SnapWatch *w)
{
	if (!g_atomic_int_dec_and_test(&w->refs))
		return;
	g_hash_table_destroy(w->seen);
	g_array_unref(w->touched);
	g_cond_clear(&w->stopped);
	g_mutex_clear(&w->lock);
	g_free(w);
}

static bool is_stopped(SnapWatch *w)
{
	SNAP_LOCKED(&w->lock);

	return w->stop || w->touched->len >= SNAP_HOT_UNITS_MAX;
}

/* ---- a look ---- */

static FILE *open_file(snap_hot_open_proc how, pid_t pid, const char *name)
{
	int fd = how(pid, name);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");

	if (fd >= 0 && !file)
		close(fd);
	return file;
}

/* The process that a thread belongs to: threads end, and their entry with
 * them. */
static pid_t process_of(snap_hot_open_proc how, pid_t thread)
{
	FILE *status = open_file(how, thread, "status");
	char *line = NULL;
	size_t room = 0;
	int pid = 0;

	while (status && !pid && getline(&line, &room, status) > 0)
		if (sscanf(line, "Tgid: %d", &pid) != 1)
			pid = 0;
	free(line);
	if (status)
		(void)fclose(status);
	return pid;
}

/* Reads a line of maps. True for a mapping of the file, which is cut at the
 * file's end. */
static bool parse_mapping(const SnapWatch *w, const char *line,
			  struct mapping *ret)
{
	unsigned high, low;
	uint64_t ino;

	if (sscanf(line,
		   "%" SCNx64 "-%" SCNx64 " %*4s %" SCNx64 " %x:%x %" SCNu64,
		   &ret->start, &ret->end, &ret->offset, &high, &low,
		   &ino) != 6 ||
	    ino != w->ino || high != major(w->dev) || low != minor(w->dev) ||
	    ret->offset >= w->size || ret->start >= ret->end)
		return false;
	ret->end =
		ret->start + MIN(ret->end - ret->start, w->size - ret->offset);
	return true;
}

/* Notes the units that have a page in these entries, the first of which is for
 * `offset` of the file. */
static void note_entries(SnapWatch *w, const uint64_t *entries, size_t n,
			 uint64_t offset, uint64_t page)
{
	uint64_t last = UINT64_MAX;
	SNAP_LOCKED(&w->lock);

	for (size_t i = 0; i < n; i++) {
		uint64_t unit = (offset + i * page) / SNAP_HOT_UNIT;
		struct snap_touched t = { unit, w->look };

		if (!(entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) ||
		    unit == last || w->touched->len >= SNAP_HOT_UNITS_MAX)
			continue;
		last = unit;
		if (g_hash_table_add(w->seen, GSIZE_TO_POINTER(unit + 1)))
			g_array_append_val(w->touched, t);
	}
}

static void look_at(SnapWatch *w, int pagemap, const struct mapping *m,
		    uint64_t *budget)
{
	g_autofree uint64_t *entries = g_new(uint64_t, ENTRIES);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t at = m->start;

	while (*budget && at < m->end && !is_stopped(w)) {
		size_t want = MIN(ENTRIES, (m->end - at + page - 1) / page);
		ssize_t n = pread(pagemap, entries, want * sizeof(*entries),
				  (off_t)(at / page * sizeof(*entries)));
		size_t got = n > 0 ? (size_t)n / sizeof(*entries) : 0;

		if (got == 0)
			return;
		note_entries(w, entries, got, at - m->start + m->offset, page);
		at += got * page;
		*budget -= MIN(*budget, got * page);
	}
}

/* Looks once; false when the process does not map the file. */
static bool look(SnapWatch *w)
{
	FILE *maps = open_file(w->open_proc, w->pid, "maps");
	FILE *pagemap = open_file(w->open_proc, w->pid, "pagemap");
	uint64_t budget = MAPPINGS * w->size;
	bool mapped = false;
	struct mapping m;
	char *line = NULL;
	size_t room = 0;

	while (maps && pagemap && !is_stopped(w) &&
	       getline(&line, &room, maps) > 0) {
		if (!parse_mapping(w, line, &m))
			continue;
		mapped = true;
		look_at(w, fileno(pagemap), &m, &budget);
	}
	free(line);
	if (maps)
		(void)fclose(maps);
	if (pagemap)
		(void)fclose(pagemap);
	return mapped;
}

/* ---- the thread ---- */

/* Waits until then; false when the watch has ended or is full. */
static bool rest(SnapWatch *w, gint64 until)
{
	g_mutex_lock(&w->lock);
	w->look++;
	while (!w->stop && g_cond_wait_until(&w->stopped, &w->lock, until))
		;
	g_mutex_unlock(&w->lock);
	return !is_stopped(w);
}

static gpointer watch_thread(gpointer data)
{
	SnapWatch *w = data;
	gint64 begin = g_get_monotonic_time();
	gint64 next = begin + LOOK_US;
	bool mapped = false;

	while (next - begin < LOOKS_US && rest(w, next)) {
		gint64 before = g_get_monotonic_time(), now;

		mapped = look(w) || mapped;
		now = g_get_monotonic_time();
		if (!mapped && now - begin > MAP_US)
			break;
		next = now + MAX(LOOK_US, MAX((now - begin) / 64,
					      (now - before) * LOOK_REST));
	}
	watch_unref(w);
	g_atomic_int_add(&watches, -1);
	return NULL;
}

SnapWatch *snap_watch_new(snap_hot_open_proc open_proc, pid_t thread, dev_t dev,
			  uint64_t ino, uint64_t size)
{
	pid_t pid = thread > 0 && dev ? process_of(open_proc, thread) : 0;
	GThread *t = NULL;
	SnapWatch *w;

	if (!pid)
		return NULL;
	w = g_new0(SnapWatch, 1);
	w->refs = 2;
	w->open_proc = open_proc;
	w->pid = pid;
	w->dev = dev;
	w->ino = ino;
	w->size = size;
	g_mutex_init(&w->lock);
	g_cond_init(&w->stopped);
	w->seen = g_hash_table_new(NULL, NULL);
	w->touched = g_array_new(FALSE, FALSE, sizeof(struct snap_touched));
	if (g_atomic_int_add(&watches, 1) < WATCHES_MAX)
		t = g_thread_try_new("watch", watch_thread, w, NULL);
	if (t) {
		g_thread_unref(t);
		return w;
	}
	g_atomic_int_add(&watches, -1);
	w->refs = 1;
	watch_unref(w);
	return NULL;
}

GArray *snap_watch_end(SnapWatch *w)
{
	GArray *touched =
		g_array_new(FALSE, FALSE, sizeof(struct snap_touched));

	g_mutex_lock(&w->lock);
	w->stop = true;
	g_cond_broadcast(&w->stopped);
	g_array_append_vals(touched, w->touched->data, w->touched->len);
	g_mutex_unlock(&w->lock);
	watch_unref(w);
	return touched;
}
