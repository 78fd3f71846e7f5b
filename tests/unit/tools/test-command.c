/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tools/guest/command.h"
#include "tools/guest/disks.h"
#include "tools/guest/json.h"

#define OVERLAY "/o,v.qcow2"

static char *image_chain[] = { (char *)"/d/top.qcow2", (char *)"/d/base.img",
			       NULL };

static SnapDisk disk = {
	.device = (char *)"disk0",
	.image = (char *)"/d/top.qcow2",
	.format = (char *)"qcow2",
	.chain = image_chain,
};

/* The command line, words apart by a space, after a disk was put into it. */
static char *replaced(const char *line, int *ret)
{
	g_auto(GStrv) words = g_strsplit(line, " ", -1);
	g_autoptr(GPtrArray) command =
		snap_command_new(words, g_strv_length(words));

	*ret = snap_command_replace(command, &disk, OVERLAY, "/d", NULL);
	return g_strjoinv(" ", (GStrv)command->pdata);
}

static void assert_becomes(const char *before, const char *after)
{
	g_autofree char *line = NULL;
	int r;

	line = replaced(before, &r);
	assert_string_equal(line, after);
	assert_int_equal(r, 0);
}

static void a_drive_is_replaced(void **state)
{
	assert_becomes("q -drive file=/d/top.qcow2",
		       "q -drive file=/o,,v.qcow2,format=qcow2");
	assert_becomes("q -drive if=none,format=raw,file=/d/top.qcow2,id=x",
		       "q -drive if=none,format=qcow2,file=/o,,v.qcow2,id=x");
	assert_becomes("q --drive driver=raw,file.driver=host_device,"
		       "file.filename=/d/top.qcow2,serial=a,,b",
		       "q --drive driver=qcow2,file.driver=file,"
		       "file.filename=/o,,v.qcow2,serial=a,,b");
}

static void an_image_under_it_is_replaced_too(void **state)
{
	assert_becomes("q -drive file=/d/base.img,format=raw",
		       "q -drive file=/o,,v.qcow2,format=qcow2");
	/* The upper one goes first. */
	assert_becomes("q -hda /d/base.img -hdb /d/top.qcow2",
		       "q -hda /d/base.img -hdb /o,v.qcow2");
}

static void a_word_by_itself_is_a_disk(void **state)
{
	assert_becomes("q top.qcow2", "q /o,v.qcow2");
	assert_becomes("q -m 64 /d/top.qcow2", "q -m 64 /o,v.qcow2");
	assert_becomes("q -nographic /d/top.qcow2 -S",
		       "q -nographic /o,v.qcow2 -S");
	assert_becomes("q -name top.qcow2 top.qcow2",
		       "q -name top.qcow2 /o,v.qcow2");
}

static void a_short_option_is_replaced(void **state)
{
	assert_becomes("q -fda top.qcow2", "q -fda /o,v.qcow2");
	assert_becomes("q --fdb top.qcow2", "q --fdb /o,v.qcow2");
	assert_becomes("q -pflash top.qcow2 -sd x",
		       "q -pflash /o,v.qcow2 -sd x");
}

static void what_only_the_format_of_the_image_knows_is_taken_out(void **state)
{
	assert_becomes("q -drive driver=luks,key-secret=s0,"
		       "file.filename=/d/top.qcow2,if=none",
		       "q -drive driver=qcow2,file.filename=/o,,v.qcow2,"
		       "if=none");
	assert_becomes("q -drive driver=raw,offset=1M,size=1M,"
		       "file=/d/top.qcow2",
		       "q -drive driver=qcow2,file=/o,,v.qcow2");
	assert_becomes("q -blockdev qcow2,encrypt.format=luks,"
		       "encrypt.key-secret=s0,file.driver=file,"
		       "file.filename=/d/top.qcow2",
		       "q -blockdev driver=qcow2,file.driver=file,"
		       "file.filename=/o,,v.qcow2");
	assert_becomes("q -blockdev {\"driver\":\"qcow2\",\"encrypt\":{"
		       "\"key-secret\":\"s0\"},\"file\":{\"driver\":"
		       "\"file\",\"filename\":\"/d/top.qcow2\"}}",
		       "q -blockdev {\"driver\":\"qcow2\",\"file\":{"
		       "\"driver\":\"file\",\"filename\":"
		       "\"/o,v.qcow2\"}}");
	/* The node above keeps what is its own. */
	assert_becomes(
		"q -blockdev file,node-name=f,filename=/d/top.qcow2 "
		"-blockdev luks,node-name=a,key-secret=s0,file=f "
		"-blockdev throttle,node-name=t,throttle-group=g,file=a",
		"q -blockdev driver=file,node-name=f,"
		"filename=/o,,v.qcow2 "
		"-blockdev node-name=a,file=f,driver=qcow2 "
		"-blockdev throttle,node-name=t,throttle-group=g,file=a");
}

static void a_relative_name_is_seen_from_the_folder(void **state)
{
	assert_becomes("q -hda top.qcow2", "q -hda /o,v.qcow2");
	assert_becomes("q -hda ../d/./top.qcow2", "q -hda /o,v.qcow2");
}

static void a_block_node_is_replaced(void **state)
{
	assert_becomes("q -blockdev raw,node-name=a,file.driver=file,"
		       "file.filename=/d/top.qcow2,backing=t",
		       "q -blockdev driver=qcow2,node-name=a,file.driver=file,"
		       "file.filename=/o,,v.qcow2");
	assert_becomes("q -blockdev raw,node-name=a,file=f -blockdev "
		       "file,node-name=f,filename=/d/top.qcow2",
		       "q -blockdev node-name=a,file=f,driver=qcow2 -blockdev "
		       "driver=file,node-name=f,filename=/o,,v.qcow2");
}

static void a_block_node_in_json_is_replaced(void **state)
{
	assert_becomes("q -blockdev {\"driver\":\"raw\",\"backing\":null,"
		       "\"file\":{\"driver\":\"host_device\",\"filename\":"
		       "\"/d/top.qcow2\"}}",
		       "q -blockdev {\"driver\":\"qcow2\",\"file\":{"
		       "\"driver\":\"file\",\"filename\":\"/o,v.qcow2\"}}");
	assert_becomes("q -blockdev {\"driver\":\"file\",\"node-name\":\"f\","
		       "\"filename\":\"/d/base.img\"} -blockdev "
		       "{\"driver\":\"raw\",\"file\":\"f\"}",
		       "q -blockdev {\"driver\":\"file\",\"node-name\":\"f\","
		       "\"filename\":\"/o,v.qcow2\"} -blockdev "
		       "{\"driver\":\"qcow2\",\"file\":\"f\"}");
}

static void what_is_not_named_is_an_error(void **state)
{
	static const char *const lines[] = {
		"q",
		"q -hda",
		"q -drive",
		"q -drive file=/d/other",
		"q -cdrom /d/top.qcow2",
		"q -name /d/top.qcow2",
		"q -blockdev {",
		"q -blockdev {\"filename\":7,\"file\":[]}",
	};

	for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
		g_autofree char *line = NULL;
		int r;

		line = replaced(lines[i], &r);
		assert_string_equal(line, lines[i]);
		assert_int_equal(r, -ENOENT);
	}
}

static void a_node_without_a_format_above_it_is_an_error(void **state)
{
	g_autofree char *line = NULL;
	int r;

	line = replaced("q -blockdev file,node-name=f,filename=/d/top.qcow2",
			&r);
	assert_int_equal(r, -EINVAL);
}

static void what_belongs_to_another_start_is_taken_out(void **state)
{
	char *words[] = { (char *)"q",		 (char *)"-S",
			  (char *)"-m",		 (char *)"1",
			  (char *)"-loadvm",	 (char *)"x",
			  (char *)"--daemonize", (char *)"-incoming" };
	g_autoptr(GPtrArray) command =
		snap_command_new(words, G_N_ELEMENTS(words));
	g_autofree char *line = NULL;

	assert_true(snap_command_strip(command));
	assert_false(snap_command_strip(command));
	line = g_strjoinv(" ", (GStrv)command->pdata);
	assert_string_equal(line, "q -m 1");
}

static void a_key_is_found_in_an_option(void **state)
{
	char *words[] = { (char *)"q", (char *)"-machine",
			  (char *)"q35,memory-backend=m" };
	g_autoptr(GPtrArray) command =
		snap_command_new(words, G_N_ELEMENTS(words));

	assert_true(snap_command_has(command, "machine", "memory-backend"));
	assert_false(snap_command_has(command, "machine", "accel"));
	assert_false(snap_command_has(command, "M", "memory-backend"));
}

static void a_descriptor_of_another_program_is_found(void **state)
{
	static const char *const lines[] = {
		"q -netdev tap,id=n,fd=3",
		"q -m 1 -netdev {\"type\":\"tap\",\"fd\":\"3\"}",
		"q -add-fd fd=3,set=1",
		"q -drive file=/dev/fdset/1",
		"q -netdev tap,vhost=on,vhostfds=3:4",
	};
	static const char *const others[] = { "q", "q -add-fd",
					      "q -name fd,x=fd=3",
					      "q -netdev user,id=fd" };

	for (guint i = 0; i < G_N_ELEMENTS(lines) + G_N_ELEMENTS(others); i++) {
		bool found = i < G_N_ELEMENTS(lines);
		const char *line =
			found ? lines[i] : others[i - G_N_ELEMENTS(lines)];
		g_auto(GStrv) words = g_strsplit(line, " ", -1);
		guint n = g_strv_length(words);
		g_autoptr(GPtrArray) command = snap_command_new(words, n);

		assert_true(g_strcmp0(snap_command_inherits(command),
				      found ? words[n - 1] : NULL) == 0);
	}
}

static void json_that_hides_its_depth_is_refused(void **state)
{
	static const char *const texts[] = { "/*\"*/", "//\"\n", "'\"'", "" };

	for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(GString) text = g_string_new(texts[i]);
		JsonObject *object;

		for (guint n = 0; n < 1000; n++)
			g_string_append(text, "{\"a\":");
		assert_int_equal(
			snap_json_parse(text->str, text->len, &object, NULL),
			-EPROTO);
	}
}

static void brackets_in_text_are_no_depth(void **state)
{
	g_autoptr(GString) text = g_string_new("{\"a\": \"\\\"");
	JsonObject *object;

	for (guint n = 0; n < 1000; n++)
		g_string_append_c(text, '[');
	g_string_append(text, "\"}");
	assert_int_equal(snap_json_parse(text->str, text->len, &object, NULL),
			 0);
	json_object_unref(object);
}

static char *overlay_path(const char *image)
{
	char *chain[] = { (char *)image, NULL };
	SnapDisk over = { .device = (char *)"disk0", .chain = chain };

	return snap_disk_overlay_path(&over, "snapfs", NULL, NULL);
}

static void overlays_have_names_of_their_own(void **state)
{
	g_autofree char *a = overlay_path("/d/vm.img");
	g_autofree char *b = overlay_path(a);
	g_autofree char *c = overlay_path("nbd://x/y");

	assert_true(g_str_has_prefix(a, "/d/vm.snapfs-"));
	assert_true(g_str_has_prefix(b, "/d/vm.snapfs-"));
	assert_true(g_str_has_suffix(b, ".qcow2"));
	assert_string_not_equal(a, b);
	assert_int_equal(strlen(a), strlen(b));
	assert_null(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_drive_is_replaced),
		cmocka_unit_test(an_image_under_it_is_replaced_too),
		cmocka_unit_test(a_word_by_itself_is_a_disk),
		cmocka_unit_test(a_short_option_is_replaced),
		cmocka_unit_test(
			what_only_the_format_of_the_image_knows_is_taken_out),
		cmocka_unit_test(a_relative_name_is_seen_from_the_folder),
		cmocka_unit_test(a_block_node_is_replaced),
		cmocka_unit_test(a_block_node_in_json_is_replaced),
		cmocka_unit_test(what_is_not_named_is_an_error),
		cmocka_unit_test(a_node_without_a_format_above_it_is_an_error),
		cmocka_unit_test(what_belongs_to_another_start_is_taken_out),
		cmocka_unit_test(a_key_is_found_in_an_option),
		cmocka_unit_test(a_descriptor_of_another_program_is_found),
		cmocka_unit_test(json_that_hides_its_depth_is_refused),
		cmocka_unit_test(brackets_in_text_are_no_depth),
		cmocka_unit_test(overlays_have_names_of_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
