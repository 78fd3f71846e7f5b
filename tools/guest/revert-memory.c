/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/revert-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "format/base/beneath.h"
#include "format/base/cleanup.h"
#include "format/base/error.h"
#include "format/base/fileio.h"
#include "format/base/units.h"
#include "format/qemu/postcopy.h"
#include "tools/guest/command.h"

#define MEMORY_DEFAULT "pc.ram" /* id of the main RAM block */
#define OBJECTS "/objects"

/* Reads what the snapshot says of its RAM blocks. */
static int read_blocks(const char *folder, SnapPostcopy **ret, GError **error)
{
	g_autofree char *path = g_build_filename(folder, "devstate", NULL);
	struct stat st = { 0 };
	snap_autofd int at = snap_open_named(folder, O_PATH | O_DIRECTORY, 0);
	snap_autofd int fd =
		at < 0 ? at : snap_open_regular(at, "devstate", &st);
	char *state;
	size_t size;
	int r;

	r = fd < 0 ? fd : snap_read_fd(fd, (size_t)st.st_size, &state, &size);
	if (r < 0)
		return snap_fail_errno(error, -r, "%s", path);
	r = snap_postcopy_new((uint8_t *)state, size,
			      (uint32_t)sysconf(_SC_PAGESIZE), ret, error);
	return r < 0 ? snap_fail_prefix(error, r, "%s", path) : 0;
}

/* Finds the RAM block of a memory backend; -1 if there is none. Old machine
 * types name it by the backend's path in QOM. */
static int find_block(const struct snap_ramlist *ram, const char *id)
{
	g_autofree char *path = g_strconcat(OBJECTS "/", id, NULL);
	int block = snap_ramlist_find(ram, id, strlen(id));

	return block >= 0 ? block : snap_ramlist_find(ram, path, strlen(path));
}

/* ---- mapped from the file ---- */

/* QEMU takes the memory of a machine from one place. */
static int check_command(GPtrArray *command, GError **error)
{
	static const struct {
		const char *option, *key, *what;
	} others[] = {
		{ "machine", "memory-backend", "a memory-backend of its own" },
		{ "M", "memory-backend", "a memory-backend of its own" },
		{ "numa", "memdev", "-numa with memdev=" },
		{ "mem-path", NULL, "-mem-path" },
	};

	for (guint i = 0; i < G_N_ELEMENTS(others); i++)
		if (snap_command_has(command, others[i].option, others[i].key))
			return snap_fail(error, EINVAL,
					 "--way=memory-file: the command line "
					 "has %s, so that the main memory "
					 "cannot be mapped from the snapshot",
					 others[i].what);
	return 0;
}

static int no_block(const struct snap_ramlist *ram, const char *id,
		    GError **error)
{
	g_autoptr(GString) names = g_string_new(NULL);

	for (guint i = 0; i < ram->n; i++)
		g_string_append_printf(names, " %s", ram->blocks[i].name);
	return snap_fail(error, EINVAL,
			 "--way=memory-file maps the RAM block %s, which the "
			 "snapshot does not have; it has:%s",
			 id, names->str);
}

int snap_revert_memory_map(GPtrArray *command, const char *folder,
			   const SnapVm *vm, GStrv *ret_options, GError **error)
{
	const char *id = vm && vm->memory_id ? vm->memory_id : MEMORY_DEFAULT;
	g_autofree char *ram = g_build_filename(folder, "ram", NULL);
	g_autofree char *path = snap_command_value(ram);
	g_autofree char *object = NULL, *machine = NULL;
	g_autoptr(SnapPostcopy) post = NULL;
	const struct snap_ramlist *list;
	const struct snap_ram_block *b;
	int r = check_command(command, error);

	if (r == 0)
		r = read_blocks(folder, &post, error);
	if (r < 0)
		return r;
	list = &snap_postcopy_info(post)->ram;
	r = snap_ramlist_find(list, id, strlen(id));
	if (r < 0)
		return no_block(list, id, error);
	b = &list->blocks[r];
	object = g_strdup_printf("memory-backend-file,id=%s,size=%" PRIu64
				 ",mem-path=%s,offset=%" PRIu64
				 ",share=off,readonly=on,rom=off,align=2M",
				 id, b->length, path, b->flat);
	machine = g_strconcat("memory-backend=", id, NULL);
	snap_command_add(command, "-object", object, "-machine", machine, NULL);
	*ret_options = g_new0(char *, 2);
	**ret_options = g_strdup_printf("--mapped=%s=%" PRIu64, id, b->flat);
	return 0;
}

/* ---- huge pages ---- */

static int get(SnapQmp *qmp, const char *id, const char *property,
	       JsonObject **ret, GError **error)
{
	g_autofree char *path = g_strconcat(OBJECTS "/", id, NULL);

	return snap_qmp_call(
		qmp, "qom-get",
		snap_json_new("path", path, "property", property, NULL), ret,
		error);
}

/* The size of huge pages for those who do not ask for another; see proc(5). */
static uint64_t default_size(void)
{
	g_autofree char *text = NULL;
	const char *line;

	if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
		return 0;
	line = strstr(text, "Hugepagesize:");
	return line ? g_ascii_strtoull(line + strlen("Hugepagesize:"), NULL,
				       10) *
			       SNAP_KIB
		    : 0;
}

/* The size of a memfd's huge pages; 0: it has none (QEMU's qapi/qom.json:
 * MemoryBackendMemfdProperties). */
static int memfd_size(SnapQmp *qmp, const char *id, uint64_t *ret,
		      GError **error)
{
	g_autoptr(JsonObject) on = NULL, size = NULL;
	int r = get(qmp, id, "hugetlb", &on, error);

	if (r < 0 || !snap_json_bool(on, "value"))
		return r;
	r = get(qmp, id, "hugetlbsize", &size, error);
	*ret = (uint64_t)MAX(snap_json_number(size, "value", 0), 0);
	if (r == 0 && *ret == 0)
		*ret = default_size();
	return r;
}

/* The size of the huge pages that a file or folder is made of; 0: none. */
static int file_size(SnapQmp *qmp, const char *id, const char *cwd,
		     uint64_t *ret, GError **error)
{
	g_autoptr(JsonObject) answer = NULL;
	g_autofree char *path = NULL;
	const char *name;
	struct statfs st;
	int r = get(qmp, id, "mem-path", &answer, error);

	name = snap_json_text(answer, "value");
	if (r < 0 || !name)
		return r;
	path = g_canonicalize_filename(name, cwd);
	if (statfs(path, &st) == 0 && st.f_type == HUGETLBFS_MAGIC)
		*ret = (uint64_t)st.f_bsize;
	return 0;
}

/* Adds the bridge's option for a memory backend, if it needs one. */
static int add_backend(SnapQmp *qmp, JsonObject *about, const char *cwd,
		       SnapPostcopy *post, GPtrArray *options, GError **error)
{
	const struct snap_ramlist *ram = &snap_postcopy_info(post)->ram;
	const char *id = snap_json_text(about, "name");
	const char *type = snap_json_text(about, "type");
	int block = id ? find_block(ram, id) : -1, r = 0;
	const char *name;
	uint64_t size = 0;

	if (block < 0)
		return 0;
	if (!g_strcmp0(type, "child<memory-backend-memfd>"))
		r = memfd_size(qmp, id, &size, error);
	else if (!g_strcmp0(type, "child<memory-backend-file>"))
		r = file_size(qmp, id, cwd, &size, error);
	if (r < 0 || size <= (uint64_t)sysconf(_SC_PAGESIZE))
		return r;
	if (snap_postcopy_set_page_size(post, (guint)block, size, error) < 0)
		return -EOPNOTSUPP;
	name = ram->blocks[block].name;
	g_ptr_array_add(options,
			g_strdup_printf("--page-size=%s=%" PRIu64, name, size));
	return 0;
}

int snap_revert_memory_pages(SnapQmp *qmp, const char *folder, const char *cwd,
			     GStrv *ret_options, GError **error)
{
	g_autoptr(GPtrArray) options = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(JsonObject) answer = NULL;
	g_autoptr(SnapPostcopy) post = NULL;
	JsonArray *list;
	int r = read_blocks(folder, &post, error);

	if (r == 0)
		r = snap_qmp_call(qmp, "qom-list",
				  snap_json_new("path", OBJECTS, NULL), &answer,
				  error);
	list = snap_json_list(answer, "list");
	for (guint i = 0; r == 0 && i < snap_json_length(list); i++)
		r = add_backend(qmp, snap_json_at(list, i), cwd, post, options,
				error);
	if (r < 0)
		return r;
	g_ptr_array_add(options, NULL);
	*ret_options = g_strdupv((GStrv)options->pdata);
	return 0;
}
