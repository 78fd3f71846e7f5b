#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A store that does not answer for a while: what the writers and readers of the
mount see, and how the mount ends."""
import errno
import os
import re
import signal
import subprocess
import sys

from fusecase import FuseCase, read_file, setUpModule, write_all, write_stream  # noqa: F401
import harness
from away import AwayStore


class AwayCase(FuseCase):
    """The store of `self.mount` is `self.away`."""

    def setUp(self):
        harness.need_root()
        self.away = None
        super().setUp()
        self.addCleanup(self.away.come_back)

    def enter(self, manager):
        if not self.away:
            self.away = super().enter(AwayStore(self.work))
        return super().enter(manager)

    def stat(self, name):
        text = read_file(self.snaps('.snapfs', 'stats')).decode()
        return int(re.search(rf'^snapfs_{name} (\d+)$', text, re.M)[1])


class Saving(AwayCase):
    options = ('timeout=2',)

    def begin(self, name='vm1'):
        """A save of which only the last byte is missing."""
        os.makedirs(self.snaps(name), exist_ok=True)
        fd = os.open(self.snaps(name, 'stream'), os.O_WRONLY | os.O_CREAT, 0o600)
        self.addCleanup(self.close, fd)
        write_all(fd, self.data[:-1])
        return fd

    def check_fails(self, *calls):
        """A save during which the store goes away fails, and is nowhere when the
        store is back."""
        fd = self.begin()
        self.away.go_away(*calls)
        self.assert_errno(errno.ETIMEDOUT, os.write, fd, self.data[-1:])
        self.away.wait_hanging()
        self.assert_errno(errno.ETIMEDOUT, os.write, fd, b'x')
        self.assert_errno(errno.ETIMEDOUT, os.close, fd)
        self.wait_log('vm1/stream: not saved: its writer has waited for 2 seconds (-o timeout=)')
        self.away.come_back()
        harness.wait_until(lambda: self.stat('saves_running') == 0, 20, 'the save has ended')
        self.assertEqual(self.stat('saves_failed_total'), 1)
        self.assertEqual(self.stat('save_buffered_bytes'), 0)
        self.check_no_leftovers()

    def check_no_snapshot(self):
        self.assertEqual(os.listdir(self.snaps('vm1')), [])
        self.assertIn(b'-o timeout=', os.getxattr(self.snaps('vm1'), 'user.snapfs.error'))
        self.save()
        self.check_snapshot()

    def test_fails_when_the_store_does_not_write(self):
        self.check_fails('write')
        self.check_no_snapshot()

    def test_fails_when_the_store_does_not_sync(self):
        self.check_fails('fsync')
        self.check_no_snapshot()


class Waiting(AwayCase):
    """Processes that wait for a store that is away."""

    def setUp(self):
        super().setUp()
        self.save()
        with open(self.snaps('file'), 'w') as file:
            file.write('ordinary')

    def start_waiting(self, *command):
        """A process that waits for an answer of the mount."""
        process = self.start_process(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.away.wait_hanging()
        return process

    def check_killed(self, process, number):
        process.send_signal(number)
        self.assertEqual(process.wait(20), -number)

    def test_a_reader_waits_and_goes_on_and_the_log_says_so(self):
        self.away.go_away('read')
        reader = self.start_waiting('cat', self.snaps('file'))
        self.wait_log('waiting for the store since 5 s: read of file')
        self.assertGreaterEqual(self.stat('store_wait_seconds'), 5)
        self.away.come_back()
        self.assertEqual(reader.communicate(timeout=20)[0], b'ordinary')
        self.assertEqual(reader.returncode, 0)
        self.wait_log('the store answers again, after ')
        self.assertEqual(self.stat('store_wait_seconds'), 0)

    def test_a_reader_can_be_killed(self):
        self.away.go_away('read')
        self.check_killed(self.start_waiting('cat', self.snaps('file')), signal.SIGKILL)

    def test_a_lookup_can_be_interrupted(self):
        self.away.go_away()
        self.check_killed(self.start_waiting('stat', self.snaps('new')), signal.SIGINT)

    def test_a_list_can_be_interrupted(self):
        self.away.go_away('readdir')
        self.check_killed(self.start_waiting('ls', self.snaps('vm1')), signal.SIGINT)

    def test_a_writer_of_a_stream_can_be_killed(self):
        source = self.path('source')
        with open(source, 'wb') as file:
            file.write(self.data)
        os.mkdir(self.snaps('vm2'))
        self.away.go_away('write', 'fsync', 'rename')
        writer = self.start_waiting('cp', source, self.snaps('vm2', 'stream'))
        self.check_killed(writer, signal.SIGTERM)

    def test_signals_that_do_not_kill_change_nothing(self):
        self.away.go_away('read')
        code = ('import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: None); '
                'print(open(sys.argv[1]).read())')
        reader = self.start_waiting(sys.executable, '-c', code, self.snaps('file'))
        reader.send_signal(signal.SIGUSR1)
        self.wait_log('waiting for the store since 5 s')
        self.assertIsNone(reader.poll())
        self.away.come_back()
        self.assertEqual(reader.communicate(timeout=20)[0], b'ordinary\n')

    def test_all_can_be_killed_when_no_thread_is_left(self):
        self.away.go_away()
        readers = [self.start_process('stat', self.snaps(f'new{i}'), stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL) for i in range(40)]
        self.away.wait_hanging()
        for reader in readers:
            reader.send_signal(signal.SIGINT)
        for reader in readers:
            self.assertEqual(reader.wait(20), -signal.SIGINT)


if __name__ == '__main__':
    harness.main()
