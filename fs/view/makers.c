/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who copies a whole folder, and expects no file to be there: cp makes those of
 * a folder that it has made itself with O_EXCL, and fails where there is one.
 * But the first view that makes a snapshot shows all others.
 *
 * So a thread that has made a folder, and a view in it with O_EXCL, does not
 * see the other views until it has made them too. The kernel asks for the name
 * right before it would make the file, in that thread.
 */
#include "fs/view/writing-internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format/base/cleanup.h"

/* How many are remembered, and for how long after the last was made. */
#define MAKERS_MAX 1024u
#define MAKER_US ((gint64)3600 * G_USEC_PER_SEC)

struct maker {
	pid_t thread;
	uint64_t born; /* when the thread began: numbers are used again */
	uint64_t folder;
	unsigned made; /* views, as bits */
	gint64 until;
};

/* When a thread began, in ticks of the kernel; 0 when that is not known. */
static uint64_t thread_born(pid_t thread)
{
	char path[64], text[1024], *at;
	snap_autofd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[MAX(n, 0)] = '\0';
	/* Behind the name, which may hold anything, it is number 20. */
	at = strrchr(text, ')');
	for (int i = 0; at && i < 20; i++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

/* The entry of a thread that made a folder, or NULL. */
static struct maker *find_locked(SnapNode *folder, pid_t thread)
{
	gint64 now = g_get_monotonic_time();

	for (GList *l = folder->tree->makers.tail; l; l = l->prev) {
		struct maker *m = l->data;

		if (m->thread == thread && m->folder == folder->serial &&
		    m->until > now)
			return m;
	}
	return NULL;
}

void snap_makers_folder(SnapNode *folder, const struct snap_caller *caller)
{
	SnapTree *tree = folder->tree;
	struct maker *m;

	if (!caller->pid)
		return;
	m = g_new0(struct maker, 1);
	m->thread = caller->pid;
	m->born = thread_born(caller->pid);
	m->folder = folder->serial;
	m->until = g_get_monotonic_time() + MAKER_US;
	g_mutex_lock(&tree->lock);
	g_queue_push_tail(&tree->makers, m);
	if (g_queue_get_length(&tree->makers) > MAKERS_MAX)
		g_free(g_queue_pop_head(&tree->makers));
	g_mutex_unlock(&tree->lock);
}

void snap_makers_note(SnapNode *folder, guint view, bool exclusive,
		      const struct snap_caller *caller)
{
	struct maker *m;
	SNAP_LOCKED(&folder->tree->lock);

	m = find_locked(folder, caller->pid);
	if (!m)
		return;
	/* Whoever makes one of them in another way is no such program. */
	m->until = exclusive ? g_get_monotonic_time() + MAKER_US : 0;
	m->made |= 1u << view;
}

bool snap_makers_expect(SnapNode *folder, guint view,
			const struct snap_caller *caller)
{
	SnapTree *tree = folder->tree;
	const struct maker *m;
	uint64_t born = 0;
	bool expects;

	g_mutex_lock(&tree->lock);
	m = find_locked(folder, caller->pid);
	expects = m && m->made && !(m->made & 1u << view);
	if (expects)
		born = m->born;
	g_mutex_unlock(&tree->lock);
	return expects && thread_born(caller->pid) == born;
}
