/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads that were asked, by -ESTALE, to look `stream` up again. The lookup
 * that follows gives such a thread the stream on its way in, and all others the
 * snapshot that is there.
 */
#include "fs/tree/tree-internal.h"

#include "format/base/cleanup.h"

/* Tickets that are remembered, and for how long. */
#define TICKETS 256u
#define TICKET_US (10 * G_USEC_PER_SEC)

struct ticket {
	const SnapNode *folder; /* compared only; NULL: free */
	pid_t thread;
	gint64 until;
};

struct SnapTickets {
	GMutex lock; /* protects all below */
	struct ticket tickets[TICKETS];
};

SnapTickets *snap_tickets_new(void)
{
	SnapTickets *tickets = g_new0(SnapTickets, 1);

	g_mutex_init(&tickets->lock);
	return tickets;
}

void snap_tickets_free(SnapTickets *tickets)
{
	g_mutex_clear(&tickets->lock);
	g_free(tickets);
}

static bool is_out(const struct ticket *t)
{
	return t->folder && t->until >= g_get_monotonic_time();
}

/* The ticket of a thread for a folder, or NULL. */
static struct ticket *find_locked(SnapTickets *tickets, const SnapNode *folder,
				  pid_t thread)
{
	for (guint i = 0; i < TICKETS; i++) {
		struct ticket *t = &tickets->tickets[i];

		if (t->folder == folder && t->thread == thread && is_out(t))
			return t;
	}
	return NULL;
}

/* One that is not out, or NULL. */
static struct ticket *free_locked(SnapTickets *tickets)
{
	for (guint i = 0; i < TICKETS; i++)
		if (!is_out(&tickets->tickets[i]))
			return &tickets->tickets[i];
	return NULL;
}

bool snap_tickets_issue(SnapTickets *tickets, const SnapNode *folder,
			pid_t thread)
{
	SNAP_LOCKED(&tickets->lock);
	struct ticket *t = find_locked(tickets, folder, thread);

	if (t) {
		t->folder = NULL;
		return false;
	}
	t = free_locked(tickets);
	if (t)
		*t = (struct ticket){ folder, thread,
				      g_get_monotonic_time() + TICKET_US };
	return t != NULL;
}

bool snap_tickets_find(SnapTickets *tickets, const SnapNode *folder,
		       pid_t thread, bool done)
{
	SNAP_LOCKED(&tickets->lock);
	struct ticket *t = thread ? find_locked(tickets, folder, thread) : NULL;

	if (t && done)
		t->folder = NULL;
	return t != NULL;
}
