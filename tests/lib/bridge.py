# SPDX-License-Identifier: GPL-2.0-or-later
"""snapfs-bridge in front of a real QEMU, or of a test that plays one.

Snapshots are plain folders here, split from QEMU's own stream, so that what is
tested is the bridge alone. One that is saved is kept for all tests of a class;
each test has a folder of its own with links into it.
"""
import os
import shutil
import socket
import subprocess
import tempfile
import threading

from guest import LinuxGuest
from harness import Case, Missing, build_path, die_with_parent, wait_until
from qemu import Qemu, need_qemu
from qmp import QmpError
from split import split

POSTCOPY = {'postcopy-ram': True, 'events': True}


def bridge_path():
    return build_path('tools', 'snapfs-bridge')


class Relay:
    """Stands between a bridge and QEMU's socket, and lets only `limit` bytes
    through to QEMU, until it is told to go on."""

    def __init__(self, path, qemu_path, limit):
        self.limit = limit
        self.stalled = threading.Event()
        self.released = threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.qemu = socket.socket(socket.AF_UNIX)
        self.qemu.connect(qemu_path)
        self.bridge = None
        threading.Thread(target=self._to_qemu, daemon=True).start()

    def _to_qemu(self):
        self.bridge, _ = self.listener.accept()
        threading.Thread(target=self._from_qemu, daemon=True).start()
        self._pass_on(self.limit)
        self.stalled.set()
        self.released.wait()
        try:
            self._pass_on(1 << 60)
            self.qemu.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _pass_on(self, left):
        while left > 0:
            data = self.bridge.recv(min(65536, left))
            if not data:
                break
            self.qemu.sendall(data)
            left -= len(data)

    def go_on(self):
        self.released.set()

    def _from_qemu(self):
        try:
            while data := self.qemu.recv(65536):
                self.bridge.sendall(data)
        except OSError:
            pass

    def close(self):
        for end in (self.qemu, self.bridge, self.listener):
            if end:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()
        self.released.set()


class BridgeCase(Case):
    guest = None    # of the class
    kept = None     # the folder of its snapshot
    before = None   # a Linux guest's last word before the save

    @classmethod
    def setUpClass(cls):
        need_qemu()
        bridge_path()
        cls.kept = tempfile.mkdtemp(prefix='snapfs-', dir=os.environ.get('SNAPFS_TEST_DIR'))
        cls.addClassCleanup(shutil.rmtree, cls.kept, ignore_errors=True)
        cls.save_into(cls.kept)

    @classmethod
    def save_into(cls, folder):
        stream = os.path.join(folder, 'stream')
        with Qemu(cls.guest, folder) as qemu:
            if isinstance(cls.guest, LinuxGuest):
                qemu.wait_serial('^tick 2 ', timeout=120)
                qemu.stop()
                cls.before = qemu.ticks()[-1]
            else:
                qemu.wait_serial('B{3}', timeout=60)
                qemu.stop()
            qemu.migrate(f'file:{stream}')
        split(stream, folder)
        os.unlink(stream)

    def setUp(self):
        super().setUp()
        self.folder = self.path('vm1')
        os.mkdir(self.folder)
        for name in ('ram', 'devstate'):
            os.symlink(os.path.join(self.kept, name), os.path.join(self.folder, name))

    def own(self, name):
        """Makes a file of the snapshot this test's own, to be spoilt."""
        path = os.path.join(self.folder, name)
        os.unlink(path)
        shutil.copyfile(os.path.join(self.kept, name), path)
        return path

    def destination(self, guest=None, caps=POSTCOPY, args=()):
        qemu = self.enter(Qemu(guest or self.guest, self.work, incoming=True, args=args))
        try:
            qemu.set_capabilities(caps)
        except QmpError as error:
            raise Missing(f'no postcopy here: {error}') from None
        return qemu

    def listen(self, qemu, name='q'):
        """QEMU listens on a socket, and lives on when the load fails."""
        path = self.path(name)
        qemu.qmp.command('migrate-incoming', {'uri': f'unix:{path}', 'exit-on-error': False})
        wait_until(lambda: os.path.exists(path), 10, 'QEMU listens')
        return path

    def bridge(self, *args, **options):
        """A bridge for this test's folder, its error output in a pipe."""
        return self.start_process(bridge_path(), *args, self.folder, stderr=subprocess.PIPE,
                                  text=True, **options)

    def ended(self, bridge, timeout=60):
        """(exit status, what it said) of a bridge that ends by itself."""
        _, said = bridge.communicate(timeout=timeout)
        return bridge.returncode, said

    def assert_good_end(self, bridge):
        status, said = self.ended(bridge)
        self.assertEqual(status, 0, said)
        return said

    def assert_bad_end(self, bridge, pattern):
        """It ends with status 1 and one sentence that matches."""
        status, said = self.ended(bridge)
        self.assertEqual(status, 1, said)
        self.assertRegex(said, pattern)
        self.assertEqual(said.count('\n'), 1, said)
        return said

    def revert(self, qemu, *args):
        """Reverts over a pipe and gives the bridge's last line."""
        words = ' '.join([bridge_path(), *args, self.folder])
        qemu.cmd('migrate-incoming', uri=f'exec:exec {words}')
        qemu.wait_migrated()
        # The bridge speaks when QEMU has said that it is done.
        if '--quiet' not in args:
            wait_until(lambda: qemu.log().endswith('\n'), 10, 'the bridge ends')
        return qemu.log()

    def wait_status(self, qemu, status, timeout=30):
        """Waits for an event: a command might wait for memory itself."""
        qemu.qmp.wait_event(lambda event: event['event'] == 'MIGRATION' and
                            event['data']['status'] == status, timeout)

    def recover(self, qemu, name='r'):
        """QEMU listens for a bridge that resumes."""
        path = self.path(name)
        qemu.qmp.command('migrate-recover', {'uri': f'unix:{path}'}, oob=True)
        wait_until(lambda: os.path.exists(path), 10, 'QEMU listens again')
        return path

    def assert_whole(self, qemu):
        """The guest goes on from where it was saved, with all of its memory."""
        if not isinstance(self.guest, LinuxGuest):
            qemu.wait_serial('BB', timeout=60)
            self.assertIsNone(qemu.ram_error())
            return
        first = qemu.wait_ticks(1)
        self.assertEqual((first.nonce, first.sum), (self.before.nonce, self.before.sum))
        self.assertGreater(first.number, self.before.number)
        qemu.wait_pass()
        self.assertNotIn('BAD', qemu.serial())


class FakeQemu:
    """A bridge whose QEMU is the test: what it sends is swallowed, and the test
    says what it likes in return."""

    def __init__(self, folder, *args):
        self.process = subprocess.Popen(
            [bridge_path(), *args, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        self.received = bytearray()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while data := self.process.stdout.read1(65536):
            self.received += data

    def say(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait_for(self, data):
        wait_until(lambda: data in self.received, 20, f'the bridge sends {data!r}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        for end in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                end.close()
            except BrokenPipeError:
                pass
