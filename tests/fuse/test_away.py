#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A store that does not answer for a while: what the writers and readers of the
mount see, and how the mount ends."""
import errno
import os
import re
import threading

from fusecase import FuseCase, read_file, setUpModule, write_all, write_stream  # noqa: F401
import harness
from away import AwayStore


class AwayCase(FuseCase):
    """The store of `self.mount` is `self.away`."""

    def setUp(self):
        harness.need_root()
        self.away = None
        super().setUp()

    def enter(self, manager):
        if not self.away:
            self.away = super().enter(AwayStore(self.work))
            self.addCleanup(self.away.come_back)
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


if __name__ == '__main__':
    harness.main()
