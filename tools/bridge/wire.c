/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection to QEMU. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "format/base/error.h"
#include "tools/bridge/bridge.h"

/* Bytes that the kernel may hold. QEMU places all of them before it sees the
 * page that it asked for. */
#define IN_FLIGHT (256 * 1024)

static int connect_to(const char *path, GError **error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const size_t room = sizeof(address.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (g_strlcpy(address.sun_path, path, room) >= room)
		return snap_fail(error, ENAMETOOLONG,
				 "%s: a socket's path has at most %zu bytes",
				 path, room - 1);
	if (fd < 0 || connect(fd, (void *)&address, sizeof(address)) < 0)
		return snap_fail_errno(error, errno, "cannot connect to %s",
				       path);
	return fd;
}

static bool is_channel(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 &&
	       (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

void wire_refuse(void)
{
	if (is_channel(STDIN_FILENO) && is_channel(STDOUT_FILENO) &&
	    write(STDOUT_FILENO, "", 1) < 0)
		return; /* QEMU has closed the connection */
}

int wire_open(struct bridge *b, const char *path, GError **error)
{
	int size = IN_FLIGHT / 2; /* the kernel doubles it */

	b->batch = g_byte_array_new();
	b->out = path ? connect_to(path, error) : STDOUT_FILENO;
	b->in = path ? b->out : STDIN_FILENO;
	if (b->out < 0)
		return b->out;
	if (!is_channel(b->out))
		return snap_fail(error, ENOTSOCK,
				 "standard output is no pipe to QEMU; it is "
				 "for migrate-incoming \"exec:exec "
				 "snapfs-bridge DIR\", or see -u");
	/* The first is for a pipe, the second for a socket. */
	(void)fcntl(b->out, F_SETPIPE_SZ, IN_FLIGHT);
	(void)setsockopt(b->out, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)fcntl(b->out, F_SETFL, fcntl(b->out, F_GETFL) | O_NONBLOCK);
	return 0;
}

void wire_add_page(struct bridge *b, const struct piece *c, uint64_t page)
{
	uint8_t head[SNAP_POSTCOPY_BEGIN_SIZE + SNAP_POSTCOPY_RECORD_MAX];
	uint64_t offset = page * b->page - b->ram->blocks[c->block].flat;
	const uint8_t *data = c->data + (page - c->from) * b->page;
	bool zero = c->states[page - c->from] == PAGE_ZERO;
	size_t n = b->part ? 0 : snap_postcopy_part_begin(b->post, head);

	n += snap_postcopy_record(b->post, c->block, offset, !b->part, zero,
				  head + n);
	b->part = true;
	g_byte_array_append(b->batch, head, (guint)n);
	g_byte_array_append(b->batch, data, zero ? 0 : b->page);
}

int wire_send(struct bridge *b)
{
	struct pollfd out = { .fd = b->out, .events = POLLOUT };
	uint8_t tail[SNAP_POSTCOPY_END_SIZE];
	size_t size = b->part ? snap_postcopy_part_end(b->post, tail) : 0;
	guint at = 0;

	g_byte_array_append(b->batch, tail, (guint)size);
	b->part = false;
	while (at < b->batch->len) {
		ssize_t n =
			write(b->out, b->batch->data + at, b->batch->len - at);

		if (n >= 0)
			at += (guint)n;
		else if (errno == EAGAIN)
			(void)poll(&out, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
	b->bytes += at;
	g_byte_array_set_size(b->batch, 0);
	return 0;
}
