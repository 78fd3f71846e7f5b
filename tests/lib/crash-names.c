/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/lib/crash-names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"

/* A change of a name, or a sync. */
struct note {
	enum { NAME, SYNC_FOLDER, SYNC_ALL } kind;
	uint64_t folder; /* its inode */
	char *name;
	uint64_t inode; /* that has the name now; 0: none */
};

static GArray *notes;
static GHashTable *files; /* inode -> an open descriptor */
static GMutex lock;
static bool lies;
static int link_error;

static void note_clear(gpointer data)
{
	g_free(((struct note *)data)->name);
}

static void file_close(gpointer data)
{
	close(GPOINTER_TO_INT(data));
}

void crash_names_begin(void)
{
	notes = g_array_new(FALSE, TRUE, sizeof(struct note));
	g_array_set_clear_func(notes, note_clear);
	files = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
				      file_close);
	lies = false;
}

void crash_names_end(void)
{
	g_clear_pointer(&notes, g_array_unref);
	g_clear_pointer(&files, g_hash_table_unref);
	link_error = 0;
}

void crash_names_fail_links(int error)
{
	link_error = error;
}

void crash_names_lie(void)
{
	lies = true;
}

guint crash_names_count(void)
{
	SNAP_LOCKED(&lock);

	return notes->len;
}

/* ---- what is noted ---- */

static uint64_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

/* The file by that name, which stays open. 0: there is none. */
static uint64_t inode_at(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint64_t inode = fd < 0 ? 0 : inode_of(fd);

	if (!inode || g_hash_table_contains(files, &inode))
		snap_close_fd(&fd);
	else
		g_hash_table_insert(files, g_memdup2(&inode, sizeof(inode)),
				    GINT_TO_POINTER(fd));
	return inode;
}

/* Notes what a name stands for now. */
static void note_name(int dirfd, const char *name)
{
	struct note n = { .kind = NAME, .name = g_strdup(name) };
	SNAP_LOCKED(&lock);

	n.folder = inode_of(dirfd);
	n.inode = inode_at(dirfd, name);
	g_array_append_val(notes, n);
}

static void note_sync(int kind, int dirfd)
{
	struct note n = { .kind = kind, .folder = inode_of(dirfd) };
	SNAP_LOCKED(&lock);

	if (!lies)
		g_array_append_val(notes, n);
}

void crash_names_add(int dirfd, const char *name)
{
	note_name(dirfd, name);
	note_sync(SYNC_ALL, dirfd);
}

int __real_linkat(int from, const char *old, int to, const char *name,
		  int flags);
int __wrap_linkat(int from, const char *old, int to, const char *name,
		  int flags);
int __real_unlinkat(int dirfd, const char *name, int flags);
int __wrap_unlinkat(int dirfd, const char *name, int flags);
int __real_renameat(int from, const char *old, int to, const char *name);
int __wrap_renameat(int from, const char *old, int to, const char *name);
int __real_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags);
int __wrap_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_syncfs(int fd);
int __wrap_syncfs(int fd);

int __wrap_linkat(int from, const char *old, int to, const char *name,
		  int flags)
{
	int r;

	if (link_error) {
		errno = link_error;
		return -1;
	}
	r = __real_linkat(from, old, to, name, flags);
	if (r == 0 && notes)
		note_name(to, name);
	return r;
}

int __wrap_unlinkat(int dirfd, const char *name, int flags)
{
	int r = __real_unlinkat(dirfd, name, flags);

	if (r == 0 && notes && !flags)
		note_name(dirfd, name);
	return r;
}

int __wrap_renameat2(int from, const char *old, int to, const char *name,
		     unsigned flags)
{
	int r = __real_renameat2(from, old, to, name, flags);

	if (r == 0 && notes) {
		note_name(to, name);
		note_name(from, old);
	}
	return r;
}

int __wrap_renameat(int from, const char *old, int to, const char *name)
{
	return __wrap_renameat2(from, old, to, name, 0);
}

int __wrap_fsync(int fd)
{
	struct stat st;

	if (notes && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		note_sync(SYNC_FOLDER, fd);
	/* The names are what counts here. */
	return notes ? 0 : __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
	return notes ? 0 : __real_fdatasync(fd);
}

int __wrap_syncfs(int fd)
{
	if (notes)
		note_sync(SYNC_ALL, fd);
	return 0;
}

/* ---- what is left ---- */

static bool is_synced(guint i, guint n)
{
	const struct note *change = &g_array_index(notes, struct note, i);

	for (guint j = i + 1; j < n; j++) {
		const struct note *s = &g_array_index(notes, struct note, j);

		if (s->kind == SYNC_ALL ||
		    (s->kind == SYNC_FOLDER && s->folder == change->folder))
			return true;
	}
	return false;
}

static char *key_of(uint64_t folder, const char *name)
{
	return g_strdup_printf("%" G_GUINT64_FORMAT "/%s", folder, name);
}

GHashTable *crash_names_after(guint n, GRand *rand)
{
	GHashTable *names =
		g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

	for (guint i = 0; i < n; i++) {
		const struct note *c = &g_array_index(notes, struct note, i);
		char *key;

		if (c->kind != NAME ||
		    (rand && !is_synced(i, n) && g_rand_boolean(rand)))
			continue;
		key = key_of(c->folder, c->name);
		if (c->inode) {
			g_hash_table_replace(
				names, key,
				g_memdup2(&c->inode, sizeof(c->inode)));
		} else {
			g_hash_table_remove(names, key);
			g_free(key);
		}
	}
	return names;
}

int crash_names_open(GHashTable *names, int dirfd, const char *name)
{
	g_autofree char *key = key_of(inode_of(dirfd), name);
	const uint64_t *inode = g_hash_table_lookup(names, key);

	if (!inode)
		return -1;
	return fcntl(GPOINTER_TO_INT(g_hash_table_lookup(files, inode)),
		     F_DUPFD_CLOEXEC, 0);
}

/* ---- as after a crash ---- */

/* Copies a file that has no name any more. Returns the copy. */
static int copy(int from, int dirfd, const char *name)
{
	int to = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			0600);
	off_t at = 0;

	while (to >= 0 && sendfile(to, from, &at, 1 << 20) > 0)
		;
	return to;
}

static void give_name(uint64_t inode, int dirfd, const char *name)
{
	int fd = GPOINTER_TO_INT(g_hash_table_lookup(files, &inode));
	g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

	if (__real_linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW) == 0)
		return;
	fd = copy(fd, dirfd, name);
	if (fd < 0)
		g_error("%s: %s", name, g_strerror(errno));
	/* It is that file from now on, for its other names. */
	g_hash_table_replace(files, g_memdup2(&inode, sizeof(inode)),
			     GINT_TO_POINTER(fd));
}

static void restore(GHashTable *names, int dirfd, const char *name)
{
	g_autofree char *key = key_of(inode_of(dirfd), name);
	const uint64_t *inode = g_hash_table_lookup(names, key);
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (inode && st.st_ino == *inode)
			return;
		__real_unlinkat(dirfd, name, 0);
	}
	if (inode)
		give_name(*inode, dirfd, name);
}

void crash_names_restore(GHashTable *names, int dirfd)
{
	g_autoptr(GHashTable) done = g_hash_table_new(g_str_hash, g_str_equal);
	uint64_t folder = inode_of(dirfd);

	for (guint i = 0; i < notes->len; i++) {
		const struct note *n = &g_array_index(notes, struct note, i);

		if (n->kind == NAME && n->folder == folder &&
		    g_hash_table_add(done, n->name))
			restore(names, dirfd, n->name);
	}
}
