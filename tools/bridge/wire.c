/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection to QEMU; see wire.h. */
#include "tools/bridge/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "format/base/cleanup.h"
#include "format/base/error.h"

/* What the kernel may hold: QEMU places that many bytes before it sees the page
 * that it asked for. */
#define IN_FLIGHT (64 * 1024)

static int connect_to(const char *path, int *ret_fd, GError **error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	snap_autofd int fd = -1;

	if (strlen(path) >= sizeof(address.sun_path))
		return snap_fail(error, ENAMETOOLONG,
				 "%s: a socket's path has at most %zu bytes",
				 path, sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return snap_fail_errno(error, errno, "cannot connect to %s",
				       path);
	*ret_fd = snap_steal_fd(&fd);
	return 0;
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
		return; /* it is gone, and knows */
}

int wire_open(struct wire *w, const char *path, GError **error)
{
	int size = IN_FLIGHT / 2; /* the kernel doubles it */
	struct stat st;

	*w = (struct wire){ .in = STDIN_FILENO, .out = STDOUT_FILENO };
	w->messages = g_byte_array_new();
	wire_reserve(w, 1, 0);
	if (path) {
		int r = connect_to(path, &w->out, error);

		if (r < 0)
			return r;
		w->in = w->out;
	}
	if (!is_channel(w->out) || fstat(w->out, &st) < 0)
		return snap_fail(error, ENOTSOCK,
				 "standard output is no pipe to QEMU; it is "
				 "for migrate-incoming \"exec:exec "
				 "snapfs-bridge DIR\", or see -u");
	if (S_ISFIFO(st.st_mode))
		(void)fcntl(w->out, F_SETPIPE_SZ, IN_FLIGHT);
	else
		(void)setsockopt(w->out, SOL_SOCKET, SO_SNDBUF, &size,
				 sizeof(size));
	(void)fcntl(w->out, F_SETFL, fcntl(w->out, F_GETFL) | O_NONBLOCK);
	(void)fcntl(w->in, F_SETFL, fcntl(w->in, F_GETFL) | O_NONBLOCK);
	return 0;
}

void wire_reserve(struct wire *w, guint pieces, size_t copies)
{
	g_assert(!wire_busy(w));
	w->iov = g_renew(struct iovec, w->iov, pieces);
	w->room = pieces;
	w->copies = g_realloc(w->copies, copies);
	w->copies_room = copies;
}

void wire_clear(struct wire *w)
{
	g_clear_pointer(&w->messages, g_byte_array_unref);
	g_clear_pointer(&w->iov, g_free);
	g_clear_pointer(&w->copies, g_free);
}

bool wire_busy(const struct wire *w)
{
	return w->n > 0;
}

void wire_put(struct wire *w, const void *data, size_t size)
{
	g_assert(w->n < w->room);
	w->iov[w->n++] = (struct iovec){ (void *)data, size };
}

uint8_t *wire_copy(struct wire *w)
{
	return w->copies + w->copied;
}

void wire_copied(struct wire *w, size_t size)
{
	uint8_t *data = wire_copy(w);

	g_assert(size <= w->copies_room - w->copied);
	w->copied += size;
	if (w->n) {
		struct iovec *last = &w->iov[w->n - 1];

		if ((uint8_t *)last->iov_base + last->iov_len == data) {
			last->iov_len += size;
			return;
		}
	}
	wire_put(w, data, size);
}

GByteArray *wire_messages(struct wire *w)
{
	g_assert(!wire_busy(w));
	g_byte_array_set_size(w->messages, 0);
	return w->messages;
}

void wire_put_messages(struct wire *w)
{
	if (w->messages->len)
		wire_put(w, w->messages->data, w->messages->len);
}

/* Steps over what is out. */
static void advance(struct wire *w, size_t size)
{
	w->bytes += size;
	while (w->at < w->n && size >= w->iov[w->at].iov_len)
		size -= w->iov[w->at++].iov_len;
	if (w->at < w->n) {
		struct iovec *first = &w->iov[w->at];

		first->iov_base = (uint8_t *)first->iov_base + size;
		first->iov_len -= size;
	}
}

int wire_flush(struct wire *w)
{
	while (w->at < w->n) {
		ssize_t n = writev(w->out, w->iov + w->at,
				   (int)MIN(w->n - w->at, IOV_MAX));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -errno;
		advance(w, (size_t)n);
	}
	w->n = 0;
	w->at = 0;
	w->copied = 0;
	return 1;
}

int wire_flush_all(struct wire *w)
{
	int r;

	while ((r = wire_flush(w)) == 0) {
		struct pollfd out = { .fd = w->out, .events = POLLOUT };

		(void)poll(&out, 1, -1);
	}
	return MIN(r, 0);
}
