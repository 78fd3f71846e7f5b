# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the mount share: a store mounted for each test, and
streams written into it."""
import errno
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import makestream  # noqa: E402
from mount import Mount, need_views  # noqa: E402

MIB = 1 << 20
# The files of a snapshot whose stream could be split and has no preamble, in
# order: those that its folder lists, and all that can be opened.
LISTED = ['devstate', 'ram']
VIEWS = ['devstate', 'mapped', 'ram', 'stream']
# As QEMU writes: 64 headers and pages a call.
QEMU_WRITE = 131328


def setUpModule():
    harness.need_fuse()
    need_views()


def write_stream(path, data, size=QEMU_WRITE):
    """Writes a stream as QEMU does; OSError is the caller's."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, 0)
        write_all(fd, data, size)
    finally:
        os.close(fd)


def write_all(fd, data, size=QEMU_WRITE):
    view = memoryview(data)
    at = 0
    while at < len(view):
        at += os.write(fd, view[at:at + size])


def read_file(path):
    with open(path, 'rb') as file:
        return file.read()


class FuseCase(harness.Case):
    """`self.mount` is a store of its own, mounted."""
    options = ()

    def setUp(self):
        super().setUp()
        # Runs when the daemon has ended: a leak is told only then.
        self.addCleanup(self.check_log)
        self.mount = self.enter(Mount(self.store_folder(), self.path('snaps'), self.options))
        self.guest = makestream.Guest({'pc.ram': 4 * MIB, 'vga.vram': MIB}, seed=1)
        self.data = makestream.stream(self.guest)
        self.addCleanup(self.check_healthy)

    def store_folder(self):
        return self.path('store')

    def close(self, fd):
        """Closes a file at the end of a test, which may have closed it, or left
        a save unfinished."""
        try:
            os.close(fd)
        except OSError as error:
            self.assertIn(error.errno, (errno.EBADF, errno.EPROTO, errno.ECANCELED,
                                        errno.ENOTCONN, errno.ETIMEDOUT))

    def check_log(self):
        self.assertEqual(self.mount.suspicious(), [])

    def check_healthy(self):
        self.check_log()
        if self.mount.process:
            self.assertIsNone(self.mount.process.poll(), 'the daemon has ended')

    def snaps(self, *names):
        return self.mount.path(*names)

    def store(self, *names):
        return self.mount.store_path(*names)

    def save(self, name='vm1', guest=None, size=QEMU_WRITE):
        """Saves a guest as QEMU would; returns the stream that was written."""
        data = self.data if guest is None else makestream.stream(guest)
        os.makedirs(self.snaps(name), exist_ok=True)
        write_stream(self.snaps(name, 'stream'), data, size)
        return data

    def write_torn(self, path, data):
        """Writes what is no whole stream: close says so."""
        with self.assertRaises(OSError) as caught:
            write_stream(path, data)
        self.assertEqual(caught.exception.errno, errno.EPROTO)

    def check_snapshot(self, name='vm1', guest=None):
        """All views of a snapshot show the guest."""
        guest = guest or self.guest
        sizes, pages, _ = makestream.read_back(read_file(self.snaps(name, 'stream')))
        self.assertEqual(sizes, guest.sizes)
        self.assertTrue(pages == guest.pages, 'stream has the pages of the guest')
        self.assertTrue(read_file(self.snaps(name, 'ram')) == guest.flat(), 'ram is flat RAM')
        devstate = read_file(self.snaps(name, 'devstate'))
        self.assertTrue(devstate.endswith(makestream.device_state()), 'devstate ends as it should')

    def assert_errno(self, code, function, *arguments, **named):
        with self.assertRaises(OSError) as caught:
            function(*arguments, **named)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[code])

    def wait_error(self, function, *arguments):
        """Calls it until it fails; the errno."""
        def error():
            try:
                function(*arguments)
            except OSError as failed:
                return failed.errno
            return None
        return harness.wait_until(error, 20, f'{function.__name__} fails')

    def wait_log(self, text):
        return harness.wait_until(lambda: text in self.mount.log(), 10, f'the log says "{text}"')

    def wait_gone(self, *names):
        harness.wait_until(lambda: not os.path.lexists(self.snaps(*names)), 10,
                           f'{"/".join(names)} is gone')

    def check_no_leftovers(self):
        """Nothing half-made lies in the store."""
        harness.wait_until(lambda: not os.listdir(self.store('.snapfs', 'tmp')), 10,
                           'the folder of half-made files is empty')
