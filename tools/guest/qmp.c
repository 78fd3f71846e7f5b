/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "tools/cli/print.h"

#define TCP "tcp:"
#define TIMEOUT 10 /* seconds */
#define BLOCK (64 * SNAP_KIB)
/* The longest answer is that to query-block of a guest with many disks. */
#define LINE_MAX_BYTES (8 * SNAP_MIB)

struct SnapQmp {
	int fd;
	int interrupt;	/* ends a call when it is readable; -1: none */
	char *address;	/* of the socket */
	GString *in;	/* bytes read but not yet handled */
	gsize scanned;	/* of these, bytes without an end of line */
	gint64 timeout; /* us */
	gint64 last_id;
	struct snap_qmp_peer peer;
	snap_qmp_event handler; /* of events; NULL: none */
	void *data;
};

void snap_qmp_free(SnapQmp *q)
{
	if (!q)
		return;
	if (q->fd >= 0)
		close(q->fd);
	g_string_free(q->in, TRUE);
	g_free(q->address);
	g_free(q->peer.version_text);
	g_free(q);
}

void snap_qmp_listen(SnapQmp *q, snap_qmp_event handler, void *data)
{
	q->handler = handler;
	q->data = data;
}

void snap_qmp_interrupt(SnapQmp *q, int fd)
{
	q->interrupt = fd;
}

void snap_qmp_set_timeout(SnapQmp *q, guint seconds)
{
	q->timeout = seconds * G_TIME_SPAN_SECOND;
}

const struct snap_qmp_peer *snap_qmp_peer(const SnapQmp *q)
{
	return &q->peer;
}

/* ---- lines ---- */

static int wait_for(SnapQmp *q, short events, gint64 end, GError **error)
{
	struct pollfd fds[] = { { .fd = q->fd, .events = events },
				{ .fd = q->interrupt, .events = POLLIN } };

	for (;;) {
		gint64 left = end - g_get_monotonic_time();
		int n;

		if (left <= 0)
			return snap_fail(
				error, ETIMEDOUT,
				"%s: no answer in %u s (a QMP socket "
				"serves one client at a time; is another "
				"one connected?)",
				q->address,
				(guint)(q->timeout / G_TIME_SPAN_SECOND));
		n = poll(fds, 2, (int)MIN(left / 1000 + 1, 1000));
		if (n > 0 && fds[1].revents)
			return snap_fail(error, EINTR, "interrupted");
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return snap_fail_errno(error, errno, "%s", q->address);
	}
}

static int closed(SnapQmp *q, GError **error)
{
	return snap_fail(error, ECONNRESET,
			 "%s: QEMU has closed the connection", q->address);
}

static int read_more(SnapQmp *q, gint64 end, GError **error)
{
	char buf[BLOCK];
	int r = wait_for(q, POLLIN, end, error);
	ssize_t n;

	if (r < 0)
		return r;
	n = read(q->fd, buf, sizeof(buf));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return closed(q, error);
	g_string_append_len(q->in, buf, n);
	return 0;
}

/* Reads the next line that is not empty. */
static int read_message(SnapQmp *q, gint64 end, JsonObject **ret,
			GError **error)
{
	for (;;) {
		char *eol = memchr(q->in->str + q->scanned, '\n',
				   q->in->len - q->scanned);
		gsize size = eol ? (gsize)(eol - q->in->str) : q->in->len;
		int r;

		if (size > LINE_MAX_BYTES)
			return snap_fail(
				error, EPROTO,
				"%s does not speak QMP: a line is too long",
				q->address);
		if (!eol) {
			q->scanned = q->in->len;
			r = read_more(q, end, error);
			if (r < 0)
				return r;
			continue;
		}
		r = size && *q->in->str != '\r'
			    ? snap_json_parse(q->in->str, size, ret, error)
			    : 1;
		g_string_erase(q->in, 0, (gssize)size + 1);
		q->scanned = 0;
		if (r < 0)
			return snap_fail_prefix(error, r,
						"%s does not speak QMP (is it "
						"QEMU's human monitor?)",
						q->address);
		if (r == 0)
			return 0;
	}
}

static int handle_event(SnapQmp *q, JsonObject *message, GError **error)
{
	JsonObject *stamp = snap_json_object(message, "timestamp");
	const char *name = snap_json_text(message, "event");
	gint64 seconds = snap_json_number(stamp, "seconds", 0);
	gint64 us = snap_json_number(stamp, "microseconds", 0);
	gint64 time;

	if (!name || !q->handler ||
	    __builtin_mul_overflow(seconds, G_TIME_SPAN_SECOND, &time) ||
	    __builtin_add_overflow(time, us, &time))
		return 0;
	return q->handler(name, time, snap_json_object(message, "data"),
			  q->data, error);
}

/* Reads the next message that is not an event. */
static int read_answer(SnapQmp *q, gint64 end, JsonObject **ret, GError **error)
{
	for (;;) {
		JsonObject *message = NULL;
		int r = read_message(q, end, &message, error);

		if (r != 0)
			return r;
		if (!json_object_has_member(message, "event")) {
			*ret = message;
			return 0;
		}
		r = handle_event(q, message, error);
		json_object_unref(message);
		/* Checks the time, so that events cannot delay the answer
		 * for ever. */
		if (r == 0)
			r = wait_for(q, POLLOUT, end, error);
		if (r < 0)
			return r;
	}
}

/* Sends bytes, and with the first of them a descriptor unless that is -1. */
static ssize_t send_some(SnapQmp *q, const char *data, gsize size, int fd)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS } };
	struct iovec part = { .iov_base = (char *)data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(q->fd, &message, MSG_NOSIGNAL);
}

static int send_line(SnapQmp *q, const char *line, int fd, gint64 end,
		     GError **error)
{
	for (gsize left = strlen(line); left;) {
		ssize_t n = send_some(q, line, left, fd);
		int r;

		if (n > 0) {
			line += n;
			left -= (gsize)n;
			fd = -1;
			continue;
		}
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return closed(q, error);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return snap_fail_errno(error, errno, "%s", q->address);
		r = wait_for(q, POLLOUT, end, error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- commands ---- */

static char *write_command(SnapQmp *q, const char *command,
			   JsonObject *arguments)
{
	g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
	g_autofree char *text = NULL;
	JsonObject *object = json_object_new();

	json_object_set_string_member(object, "execute", command);
	json_object_set_int_member(object, "id", ++q->last_id);
	if (arguments)
		json_object_set_object_member(object, "arguments", arguments);
	json_node_take_object(node, object);
	text = json_to_string(node, FALSE);
	return g_strconcat(text, "\n", NULL);
}

/* Gets what a command returned; anything but an object is wrapped in one. */
static JsonObject *returned_object(JsonObject *answer)
{
	JsonNode *node = json_object_get_member(answer, "return");
	JsonObject *object;

	if (JSON_NODE_HOLDS_OBJECT(node))
		return json_node_dup_object(node);
	object = json_object_new();
	json_object_set_member(object,
			       JSON_NODE_HOLDS_ARRAY(node) ? "list" : "value",
			       json_node_copy(node));
	return object;
}

static int check_answer(SnapQmp *q, const char *command, JsonObject *answer,
			JsonObject **ret, GError **error)
{
	JsonObject *refusal = snap_json_object(answer, "error");
	const char *desc = snap_json_text(refusal, "desc");

	if (desc) {
		g_autofree char *safe = snap_print_safe(desc);

		return snap_fail(error, EREMOTEIO, "%s", safe);
	}
	if (!json_object_has_member(answer, "return"))
		return snap_fail(error, EPROTO,
				 "%s does not speak QMP: no answer to %s",
				 q->address, command);
	if (ret)
		*ret = returned_object(answer);
	return 0;
}

/* Runs a command, and passes a descriptor with it unless that is -1. */
static int call_with(SnapQmp *q, const char *command, JsonObject *arguments,
		     int fd, JsonObject **ret, GError **error)
{
	g_autofree char *line = write_command(q, command, arguments);
	gint64 end = g_get_monotonic_time() + q->timeout;
	int r = send_line(q, line, fd, end, error);

	while (r == 0) {
		g_autoptr(JsonObject) answer = NULL;

		r = read_answer(q, end, &answer, error);
		/* Any other id belongs to an earlier call that timed out. */
		if (r == 0 && snap_json_number(answer, "id", 0) == q->last_id)
			return check_answer(q, command, answer, ret, error);
	}
	return r;
}

int snap_qmp_call(SnapQmp *q, const char *command, JsonObject *arguments,
		  JsonObject **ret, GError **error)
{
	return call_with(q, command, arguments, -1, ret, error);
}

int snap_qmp_give(SnapQmp *q, const char *name, int fd, GError **error)
{
	return call_with(q, "getfd", snap_json_new("fdname", name, NULL), fd,
			 NULL, error);
}

/* ---- connecting ---- */

static int open_tcp(SnapQmp *q, GError **error)
{
	g_autoptr(GSocketClient) client = g_socket_client_new();
	g_autoptr(GSocketConnection) connection = NULL;
	g_autoptr(GSocketConnectable) to = NULL;
	g_autoptr(GError) cause = NULL;
	GSocket *s;

	to = g_network_address_parse(q->address + strlen(TCP), 0, NULL);
	if (!to || !g_network_address_get_port(G_NETWORK_ADDRESS(to)))
		return snap_fail(error, EINVAL, "%s: want tcp:HOST:PORT",
				 q->address);
	g_socket_client_set_timeout(client, TIMEOUT);
	g_socket_client_set_enable_proxy(client, FALSE);
	connection = g_socket_client_connect(client, to, NULL, &cause);
	if (!connection)
		return snap_fail(error, ECONNREFUSED, "%s: %s", q->address,
				 cause->message);
	s = g_socket_connection_get_socket(connection);
	/* It does not block: GSocket sees to that. */
	q->fd = fcntl(g_socket_get_fd(s), F_DUPFD_CLOEXEC, 0);
	return q->fd < 0 ? snap_fail_errno(error, errno, "%s", q->address) : 0;
}

static int open_unix(SnapQmp *q, GError **error)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct ucred user;
	socklen_t size = sizeof(user);
	int r;

	if (strlen(q->address) >= sizeof(to.sun_path))
		return snap_fail_errno(error, ENAMETOOLONG, "%s", q->address);
	memcpy(to.sun_path, q->address, strlen(q->address) + 1);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0)
		return snap_fail_errno(error, errno, "socket");
	do
		r = connect(q->fd, (struct sockaddr *)&to, sizeof(to));
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		return snap_fail(error, EBUSY,
				 "%s: other clients are already waiting",
				 q->address);
	if (r < 0)
		return snap_fail_errno(error, errno, "%s", q->address);
	if (getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &user, &size) == 0) {
		q->peer.pid = user.pid;
		q->peer.uid = user.uid;
		q->peer.gid = user.gid;
	}
	return 0;
}

static int read_greeting(SnapQmp *q, GError **error)
{
	gint64 end = g_get_monotonic_time() + q->timeout;
	g_autoptr(JsonObject) greeting = NULL;
	JsonObject *qmp, *version, *qemu;
	int r = read_message(q, end, &greeting, error);
	guint major, minor, micro;

	if (r < 0)
		return r;
	qmp = snap_json_object(greeting, "QMP");
	if (!qmp)
		return snap_fail(error, EPROTO,
				 "%s does not speak QMP: there is no greeting",
				 q->address);
	version = snap_json_object(qmp, "version");
	qemu = snap_json_object(version, "qemu");
	major = (guint)CLAMP(snap_json_number(qemu, "major", 0), 0, 999);
	minor = (guint)CLAMP(snap_json_number(qemu, "minor", 0), 0, 99);
	micro = (guint)CLAMP(snap_json_number(qemu, "micro", 0), 0, 99);
	q->peer.version = major * 10000 + minor * 100 + micro;
	q->peer.version_text = g_strdup_printf("%u.%u.%u", major, minor, micro);
	return snap_qmp_call(q, "qmp_capabilities", NULL, NULL, error);
}

int snap_qmp_connect(const char *address, SnapQmp **ret_qmp, GError **error)
{
	g_autoptr(SnapQmp) q = g_new0(SnapQmp, 1);
	int r;

	q->fd = q->interrupt = -1;
	q->address = g_strdup(address);
	q->in = g_string_new(NULL);
	snap_qmp_set_timeout(q, TIMEOUT);
	r = g_str_has_prefix(address, TCP) ? open_tcp(q, error)
					   : open_unix(q, error);
	if (r == 0)
		r = read_greeting(q, error);
	if (r < 0)
		return r;
	*ret_qmp = g_steal_pointer(&q);
	return 0;
}
