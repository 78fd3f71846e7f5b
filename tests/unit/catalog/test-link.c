/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot becomes a parent: its file gets a name among the layers. */
#include "tests/unit/catalog/world.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "tests/lib/crash-names.h"

static void a_parent_that_was_removed_cannot_be_linked(void **state)
{
	struct world *w = *state;
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(SnapKept) kept = NULL;

	save(w, 0, -1, 0);
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid(), &r,
					   &kept, NULL),
			 0);
	removes(w, 0);
	assert_int_equal(snap_catalog_link(w->catalog, kept, &r, NULL),
			 -ENOENT);
	assert_int_equal(count_layers(w), 0);
}

/* Opens the snapshot of folder `a` as a parent; its name as a layer. */
static void keep(struct world *w, SnapReader **ret_reader, SnapKept **ret_kept,
		 char ret_name[SNAP_CATALOG_LAYER_NAME])
{
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid(),
					   ret_reader, ret_kept, NULL),
			 0);
	snap_catalog_layer_name(snap_reader_meta(*ret_reader)->uuid, ret_name);
}

static uint64_t inode_of(int dirfd, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

/* Links while only so many numbers of descriptors are left. */
static int link_with_few(struct world *w, const SnapKept *kept,
			 SnapReader **reader, guint left)
{
	struct rlimit limit, old;
	int lowest = dup(0), r;

	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)lowest + left;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	r = snap_catalog_link(w->catalog, kept, reader, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	return r;
}

static void the_last_name_of_a_parent_is_never_removed(void **state)
{
	struct world *w = *state;
	char name[SNAP_CATALOG_LAYER_NAME];
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(SnapKept) kept = NULL;
	int code = -1;

	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	keep(w, &r, &kept, name);
	removes(w, 0);
	for (guint left = 0; left < 10; left++) {
		code = link_with_few(w, kept, &r, left);
		assert_true(code == 0 || code == -EMFILE);
		assert_int_equal(count_layers(w), 1);
	}
	assert_int_equal(code, 0);
	assert_int_equal(check(w, 1, NULL), 0);
}

static void no_other_thing_is_taken_for_a_layer(void **state)
{
	struct world *w = *state;
	char name[SNAP_CATALOG_LAYER_NAME];
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(SnapKept) kept = NULL;

	save(w, 0, -1, 0);
	save(w, 1, -1, 0);
	keep(w, &r, &kept, name);
	for (guint i = 0; i < 4; i++) {
		g_autoptr(GError) error = NULL;
		uint64_t inode;
		int code;

		if (i == 0)
			linkat(w->fds[1], SNAP_CATALOG_SNAPSHOT, w->layers_fd,
			       name, 0);
		else if (i == 1)
			mkdirat(w->layers_fd, name, 0700);
		else if (i == 2)
			mkfifoat(w->layers_fd, name, 0600);
		else
			symlinkat("../../a/" SNAP_CATALOG_SNAPSHOT,
				  w->layers_fd, name);
		inode = inode_of(w->layers_fd, name);
		code = snap_catalog_link(w->catalog, kept, &r, &error);
		assert_true(code < 0);
		assert_int_equal(code, i ? -EBADMSG : -EEXIST);
		assert_non_null(strstr(error->message, name));
		assert_int_equal(inode_of(w->layers_fd, name), inode);
		unlinkat(w->layers_fd, name, i == 1 ? AT_REMOVEDIR : 0);
	}
	assert_int_equal(snap_catalog_link(w->catalog, kept, &r, NULL), 0);
}

/* As rsync leaves it that copies hard links as files. */
static void copy_layer(struct world *w, const char *name)
{
	g_autofree char *from =
		g_build_filename(w->path, "a", SNAP_CATALOG_SNAPSHOT, NULL);
	g_autofree char *to =
		g_build_filename(w->path, SNAP_CATALOG_LAYERS, name, NULL);
	g_autofree char *data = NULL;
	gsize size;

	assert_true(g_file_get_contents(from, &data, &size, NULL));
	assert_true(g_file_set_contents(to, data, (gssize)size, NULL));
}

static void a_save_reads_the_copy_that_its_child_will_read(void **state)
{
	struct world *w = *state;
	char name[SNAP_CATALOG_LAYER_NAME];
	g_autoptr(SnapReader) r = NULL;
	g_autoptr(SnapKept) kept = NULL;
	struct snap_file_id id;

	save(w, 0, -1, 0);
	keep(w, &r, &kept, name);
	copy_layer(w, name);
	assert_int_equal(snap_catalog_link(w->catalog, kept, &r, NULL), 0);
	assert_int_equal(snap_reader_identify(r, 0, &id), 0);
	assert_int_equal(id.inode, inode_of(w->layers_fd, name));
	assert_int_not_equal(id.inode,
			     inode_of(w->fds[0], SNAP_CATALOG_SNAPSHOT));
	save(w, 1, 0, 2);
	assert_int_equal(check(w, 1, NULL), 0);
}

static void another_users_file_is_no_parent(void **state)
{
	struct world *w = *state;
	SnapReader *r;
	SnapKept *kept;

	save(w, 0, -1, 0);
	assert_int_equal(snap_catalog_keep(w->catalog, w->fds[0], geteuid() + 1,
					   &r, &kept, NULL),
			 -EPERM);
	assert_int_equal(count_layers(w), 0);
}

static void a_store_without_hard_links_is_refused(void **state)
{
	struct world *w = *state;
	g_autoptr(GError) error = NULL;

	assert_int_equal(snap_catalog_can_link(w->catalog, NULL), 0);
	crash_names_fail_links(EPERM);
	assert_int_equal(snap_catalog_can_link(w->catalog, &error),
			 -EOPNOTSUPP);
	assert_non_null(strstr(error->message, "hard links"));
}

static void only_the_owner_may_list_the_layers(void **state)
{
	struct world *w = *state;
	struct stat st;

	assert_int_equal(fstat(w->layers_fd, &st), 0);
	assert_int_equal(st.st_mode & 0066, 0);
	assert_int_equal(st.st_mode & 0700, 0700);
}

static void who_may_read_a_child_reads_its_parents(void **state)
{
	struct world *w = *state;
	uid_t own = geteuid();
	int r;

	if (own != 0)
		skip();
	save(w, 0, -1, 0);
	save(w, 1, 0, 2);
	chmod(w->path, 0755);
	for (guint i = 0; i < 2; i++)
		fchmodat(w->fds[i], SNAP_CATALOG_SNAPSHOT, 0644, 0);
	assert_int_equal(seteuid(65534), 0);
	/* Else /proc/self would stay closed to that user. */
	assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
	r = check(w, 1, NULL);
	assert_int_equal(seteuid(own), 0);
	assert_int_equal(r, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, world_open, world_close)
		TEST(a_parent_that_was_removed_cannot_be_linked),
		TEST(the_last_name_of_a_parent_is_never_removed),
		TEST(no_other_thing_is_taken_for_a_layer),
		TEST(a_save_reads_the_copy_that_its_child_will_read),
		TEST(another_users_file_is_no_parent),
		TEST(only_the_owner_may_list_the_layers),
		TEST(who_may_read_a_child_reads_its_parents),
		TEST(a_store_without_hard_links_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
