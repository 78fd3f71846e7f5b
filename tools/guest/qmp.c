/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/guest/qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "format/base/error.h"
#include "format/base/units.h"
#include "tools/cli/print.h"

#define PATIENCE 10 /* seconds */
#define BLOCK (64 * SNAP_KIB)
/* query-named-block-nodes of a guest with many disks takes most. */
#define LINE_MAX_BYTES (8 * SNAP_MIB)

struct SnapQmp {
	int fd;
	int interrupt; /* what ends a call, or -1 */
	char *path;
	GString *in;   /* what came and was not yet handled */
	gsize scanned; /* of it, without the end of a line */
	gint64 patience;
	gint64 last_id;
	guint version;
	char *version_text;
	struct ucred peer;
	snap_qmp_event heard;
	void *data;
};

void snap_qmp_free(SnapQmp *q)
{
	if (!q)
		return;
	if (q->fd >= 0)
		close(q->fd);
	g_string_free(q->in, TRUE);
	g_free(q->path);
	g_free(q->version_text);
	g_free(q);
}

void snap_qmp_listen(SnapQmp *q, snap_qmp_event heard, void *data)
{
	q->heard = heard;
	q->data = data;
}

void snap_qmp_interrupt(SnapQmp *q, int fd)
{
	q->interrupt = fd;
}

void snap_qmp_patience(SnapQmp *q, guint seconds)
{
	q->patience = seconds * G_TIME_SPAN_SECOND;
}

guint snap_qmp_version(const SnapQmp *q)
{
	return q->version;
}

const char *snap_qmp_version_text(const SnapQmp *q)
{
	return q->version_text;
}

pid_t snap_qmp_pid(const SnapQmp *q)
{
	return q->peer.pid;
}

uid_t snap_qmp_uid(const SnapQmp *q)
{
	return q->peer.uid;
}

gid_t snap_qmp_gid(const SnapQmp *q)
{
	return q->peer.gid;
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
				"serves one client at a time: is there "
				"another?)",
				q->path,
				(guint)(q->patience / G_TIME_SPAN_SECOND));
		n = poll(fds, 2, (int)MIN(left / 1000 + 1, 1000));
		if (n > 0 && fds[1].revents)
			return snap_fail(error, EINTR, "interrupted");
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return snap_fail_errno(error, errno, "%s", q->path);
	}
}

static int gone(SnapQmp *q, GError **error)
{
	return snap_fail(error, ECONNRESET,
			 "%s: QEMU has closed the connection", q->path);
}

static int fill(SnapQmp *q, gint64 end, GError **error)
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
		return gone(q, error);
	g_string_append_len(q->in, buf, n);
	return 0;
}

/* The next line that is not empty, as an object. */
static int take(SnapQmp *q, gint64 end, JsonObject **ret, GError **error)
{
	for (;;) {
		char *eol = memchr(q->in->str + q->scanned, '\n',
				   q->in->len - q->scanned);
		gsize size = eol ? (gsize)(eol - q->in->str) : q->in->len;
		int r;

		if (size > LINE_MAX_BYTES)
			return snap_fail(error, EPROTO,
					 "%s speaks no QMP: a line without end",
					 q->path);
		if (!eol) {
			q->scanned = q->in->len;
			r = fill(q, end, error);
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
						"%s speaks no QMP (is it "
						"QEMU's human monitor?)",
						q->path);
		if (r == 0)
			return 0;
	}
}

static int hear(SnapQmp *q, JsonObject *message, GError **error)
{
	JsonObject *stamp = snap_json_object(message, "timestamp");
	const char *name = snap_json_text(message, "event");
	gint64 seconds = snap_json_number(stamp, "seconds", 0);
	gint64 us = snap_json_number(stamp, "microseconds", 0);
	gint64 time;

	if (!name || !q->heard ||
	    __builtin_mul_overflow(seconds, G_TIME_SPAN_SECOND, &time) ||
	    __builtin_add_overflow(time, us, &time))
		return 0;
	return q->heard(name, time, snap_json_object(message, "data"), q->data,
			error);
}

/* The next message that is no event. */
static int take_answer(SnapQmp *q, gint64 end, JsonObject **ret, GError **error)
{
	for (;;) {
		JsonObject *message = NULL;
		int r = take(q, end, &message, error);

		if (r != 0)
			return r;
		if (!json_object_has_member(message, "event")) {
			*ret = message;
			return 0;
		}
		r = hear(q, message, error);
		json_object_unref(message);
		/* However many come, they take no longer. */
		if (r == 0)
			r = wait_for(q, POLLOUT, end, error);
		if (r < 0)
			return r;
	}
}

static int send_line(SnapQmp *q, const char *line, gint64 end, GError **error)
{
	for (gsize left = strlen(line); left;) {
		ssize_t n = send(q->fd, line, left, MSG_NOSIGNAL);
		int r;

		if (n > 0) {
			line += n;
			left -= (gsize)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return gone(q, error);
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

/* What a command returned, as an object whatever it is. */
static JsonObject *returned(JsonObject *answer)
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

static int judge(SnapQmp *q, const char *command, JsonObject *answer,
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
				 "%s speaks no QMP: no answer to %s", q->path,
				 command);
	if (ret)
		*ret = returned(answer);
	return 0;
}

int snap_qmp_call(SnapQmp *q, const char *command, JsonObject *arguments,
		  JsonObject **ret, GError **error)
{
	g_autofree char *line = write_command(q, command, arguments);
	gint64 end = g_get_monotonic_time() + q->patience;
	int r = send_line(q, line, end, error);

	while (r == 0) {
		g_autoptr(JsonObject) answer = NULL;

		r = take_answer(q, end, &answer, error);
		/* The answer to a command that was given up came late. */
		if (r == 0 && snap_json_number(answer, "id", 0) == q->last_id)
			return judge(q, command, answer, ret, error);
	}
	return r;
}

/* ---- the beginning ---- */

static int open_socket(SnapQmp *q, GError **error)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(q->peer);
	int r;

	if (strlen(q->path) >= sizeof(address.sun_path))
		return snap_fail_errno(error, ENAMETOOLONG, "%s", q->path);
	memcpy(address.sun_path, q->path, strlen(q->path) + 1);
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0)
		return snap_fail_errno(error, errno, "socket");
	do
		r = connect(q->fd, (struct sockaddr *)&address,
			    sizeof(address));
	while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN)
		return snap_fail(error, EBUSY,
				 "%s: other clients are waiting already",
				 q->path);
	if (r < 0)
		return snap_fail_errno(error, errno, "%s", q->path);
	if (getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &q->peer, &size) < 0)
		q->peer = (struct ucred){ 0 };
	return 0;
}

static int greet(SnapQmp *q, GError **error)
{
	gint64 end = g_get_monotonic_time() + q->patience;
	g_autoptr(JsonObject) greeting = NULL;
	JsonObject *qmp, *version, *qemu;
	int r = take(q, end, &greeting, error);
	guint major, minor, micro;

	if (r < 0)
		return r;
	qmp = snap_json_object(greeting, "QMP");
	if (!qmp)
		return snap_fail(error, EPROTO,
				 "%s speaks no QMP: it does not greet",
				 q->path);
	version = snap_json_object(qmp, "version");
	qemu = snap_json_object(version, "qemu");
	major = (guint)CLAMP(snap_json_number(qemu, "major", 0), 0, 999);
	minor = (guint)CLAMP(snap_json_number(qemu, "minor", 0), 0, 99);
	micro = (guint)CLAMP(snap_json_number(qemu, "micro", 0), 0, 99);
	q->version = major * 10000 + minor * 100 + micro;
	q->version_text = g_strdup_printf("%u.%u.%u", major, minor, micro);
	return snap_qmp_call(q, "qmp_capabilities", NULL, NULL, error);
}

int snap_qmp_connect(const char *path, SnapQmp **ret_qmp, GError **error)
{
	g_autoptr(SnapQmp) q = g_new0(SnapQmp, 1);
	int r;

	q->fd = q->interrupt = -1;
	q->path = g_strdup(path);
	q->in = g_string_new(NULL);
	snap_qmp_patience(q, PATIENCE);
	r = open_socket(q, error);
	if (r == 0)
		r = greet(q, error);
	if (r < 0)
		return r;
	*ret_qmp = g_steal_pointer(&q);
	return 0;
}
