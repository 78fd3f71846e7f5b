# SPDX-License-Identifier: GPL-2.0-or-later
"""A small client of QMP, QEMU's control protocol: JSON lines over a socket."""
import json
import socket
import time


class QmpError(Exception):
    """QEMU refused a command; the message is QEMU's own."""


class QmpClosed(Exception):
    """QEMU is gone."""


class Qmp:
    def __init__(self, path, oob=False, timeout=30):
        self.timeout = timeout
        self.events = []
        self._buffer = b''
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
            self.greeting = self._read(timeout)['QMP']
            self.command('qmp_capabilities', {'enable': ['oob']} if oob else None)
        except BaseException:
            self._socket.close()
            raise

    def close(self):
        self._socket.close()

    def _read(self, timeout):
        """The next message; TimeoutError if none comes in time."""
        end = time.monotonic() + timeout
        while b'\n' not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f'QMP: no answer within {timeout} s')
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except (ConnectionError, BrokenPipeError) as error:
                raise QmpClosed(str(error)) from None
            if not data:
                raise QmpClosed('QEMU closed its monitor')
            self._buffer += data
        line, self._buffer = self._buffer.split(b'\n', 1)
        return json.loads(line)

    def command(self, name, arguments=None, oob=False, timeout=None, fds=()):
        """Runs a command, hands it open files, and returns what it returns."""
        self._last_id += 1
        message = {'exec-oob' if oob else 'execute': name, 'id': self._last_id}
        if arguments:
            message['arguments'] = arguments
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode() + b'\n'], fds)
        except (ConnectionError, BrokenPipeError) as error:
            raise QmpClosed(str(error)) from None
        while True:
            answer = self._read(timeout or self.timeout)
            if 'event' in answer:
                self.events.append(answer)
            elif answer.get('id') == self._last_id:
                break
        if 'error' in answer:
            raise QmpError(answer['error']['desc'])
        return answer['return']

    def wait_event(self, matches, timeout=None):
        """Takes the first event, past or future, for which matches(event)."""
        end = time.monotonic() + (timeout or self.timeout)
        while True:
            for i, event in enumerate(self.events):
                if matches(event):
                    return self.events.pop(i)
            answer = self._read(max(end - time.monotonic(), 0.001))
            if 'event' in answer:
                self.events.append(answer)
