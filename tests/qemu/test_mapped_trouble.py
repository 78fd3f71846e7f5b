#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Mapped-ram saves that go wrong: the guest runs on, and what was there before
is still there."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import MIB, PAGE, CountGuest
from mapped import DEFAULTS, DIRECT, MAPPED, MULTIFD, MappedCase, MappedFile, Replay, Saved
from mount import need_views
from qemu import MigrationFailed, need_qemu
from test_trouble import LARGE, SLOW, SMALL, FullDiskCase, TroubleCase

WAYS = {'plain': (MAPPED, {}), 'multifd': (MULTIFD, {}), 'direct': (MULTIFD, DIRECT)}


def setUpModule():
    need_qemu()
    need_views()


class MappedTrouble(TroubleCase, MappedCase):
    """A small guest is there, as `vm1`, and another is saved over it."""

    def setUp(self):
        super().setUp()
        self.guest = SMALL
        qemu = self.boot(SMALL)
        self.small = self.save(qemu, caps=MULTIFD)
        qemu.kill()
        self.guest = LARGE

    def begin(self, qemu, way):
        caps, params = WAYS[way]
        qemu.start_migrate(f'file:{self.stream()}', caps, {**DEFAULTS, **SLOW, **params})

        def under_way():
            info = qemu.cmd('query-migrate')
            self.assertNotIn(info['status'], ('failed', 'completed'), info)
            return info.get('ram', {}).get('transferred', 0) > 12 * MIB
        harness.wait_until(under_way, 30, 'the save is under way', step=0.1)

    def assert_small_is_there(self):
        """The snapshot of before, and nothing else."""
        harness.wait_until(lambda: sorted(os.listdir(self.mount.path('vm1'))) ==
                           ['devstate', 'ram'], 20, 'the stream is gone')
        self.guest = SMALL
        self.assert_views(self.small)
        self.assert_loads_mapped(self.small, caps=MULTIFD)
        self.guest = LARGE

    def assert_error(self, pattern):
        folder = self.mount.path('vm1')
        self.assertRegex(harness.wait_until(lambda: self.error_of(folder), 20, 'an error is told'),
                         pattern)


class Broken(MappedTrouble):
    def test_the_old_snapshot_stays_when_qemu_is_killed(self):
        for way in WAYS:
            with self.subTest(way):
                qemu = self.boot()
                self.begin(qemu, way)
                qemu.kill()
                self.assert_error('.')
                self.assert_small_is_there()
        self.mount.remount()
        self.assert_small_is_there()

    def test_a_cancelled_save_leaves_nothing_and_the_next_one_is_good(self):
        qemu = self.boot()
        for way, (caps, params) in WAYS.items():
            with self.subTest(way):
                self.begin(qemu, way)
                qemu.cmd('migrate_cancel')
                with self.assertRaises(MigrationFailed):
                    qemu.wait_migrated()
                self.assert_runs_on(qemu)
                self.assert_error('.')
                self.assert_small_is_there()
        self.assert_loads_mapped(self.save(qemu, caps=MULTIFD))

    def test_the_second_of_two_savers_fails_and_the_first_completes(self):
        first, second = self.boot(), self.boot(SMALL)
        for way in WAYS:
            with self.subTest(way):
                self.begin(first, way)
                for caps, params in (*WAYS.values(), (None, {})):
                    with self.assertRaises(MigrationFailed) as failed:
                        second.migrate(f'file:{self.stream()}', caps, {**DEFAULTS, **params})
                    self.assertRegex(str(failed.exception), 'busy')
                    self.assert_runs_on(second)
                first.set_parameters({'max-bandwidth': 0, 'downtime-limit': 30000})
                first.wait_migrated()
                self.assert_loads_mapped(self.saved_by(first), caps=MULTIFD)
                first.cont()
        self.guest = SMALL
        self.assert_loads_mapped(self.save(second, 'vm2', MULTIFD))

    def saved_by(self, qemu):
        """What a guest that stands still after its save must be like."""
        return Saved('vm1', ram=qemu.dump_ram(), constant=qemu.constant())

    def test_no_open_fails_while_a_save_is_under_way(self):
        qemu = self.boot()
        for way in WAYS:
            self.begin(qemu, way)
            for flags in (os.O_WRONLY, os.O_WRONLY | os.O_DIRECT, os.O_RDWR,
                          os.O_WRONLY | os.O_CREAT):
                os.close(os.open(self.stream(), flags, 0o600))
            qemu.cmd('migrate_cancel')
            with self.assertRaises(MigrationFailed):
                qemu.wait_migrated()
            self.assert_runs_on(qemu)


class Full(MappedTrouble, FullDiskCase):
    def test_a_full_disk_fails_the_save_and_the_guest_runs_on(self):
        qemu = self.boot()
        background = self.background(qemu)
        ways = {**WAYS, 'background': (dict(MAPPED, **background), {})}
        for way, (caps, params) in ways.items():
            with self.subTest(way):
                with self.assertRaises(MigrationFailed) as failed:
                    qemu.migrate(f'file:{self.stream()}', caps, {**DEFAULTS, **params})
                self.assertIn('No space left', str(failed.exception))
                self.assert_runs_on(qemu)
                self.assert_error('No space left')
                self.assert_small_is_there()
        self.fail_handed_over(qemu)
        self.run_ok('mount', '-o', 'remount,size=256M', self.mount.store)
        self.assert_loads_mapped(self.save(qemu, caps=MULTIFD, params=DIRECT))


    def fail_handed_over(self, qemu):
        """Its channels are copies of the one descriptor that the stream is written
        by; QEMU aborts should the close of one fail."""
        fd = os.open(self.stream(), os.O_WRONLY)
        qemu.add_fds(7, fd)
        os.close(fd)
        with self.assertRaises(MigrationFailed):
            qemu.migrate('file:/dev/fdset/7', MULTIFD, DEFAULTS)
        qemu.remove_fds(7)
        self.assert_runs_on(qemu)
        self.assert_small_is_there()


class Channels(MappedTrouble):
    """What QEMU does not do by itself: its writes are played again."""
    guest = CountGuest(memory=32, end=8, fill=True)

    def setUp(self):
        super().setUp()
        self.guest = type(self).guest
        qemu = self.boot()
        qemu.stop()
        qemu.migrate(f'file:{self.path("plain")}', MAPPED)
        self.source = MappedFile(self.path('plain'))

    def test_a_channel_may_be_closed_once_it_has_written_its_pages(self):
        replay = self.enter(Replay(self.source, self.stream(), 3))
        replay.head()
        for number in range(3):
            replay.pages(number)
            replay.close(number)
        replay.bitmaps()
        replay.tail()
        replay.close()
        found = MappedFile(self.stream())
        for number in range(len(found.blocks)):
            self.assertEqual(found.ram(number), self.source.ram(number))
        self.assertEqual(found.tail, self.source.tail)

    def test_a_channel_that_dies_with_its_pages_is_no_snapshot(self):
        replay = self.enter(Replay(self.source, self.stream(), 3))
        replay.head()
        replay.pages(0)
        replay.pages(1, last=100)
        replay.close(1)
        replay.pages(2)
        with self.assertRaises(OSError):
            replay.bitmaps()
            replay.tail()
        replay.close()
        self.assert_error(r'pc\.ram')
        self.assert_small_is_there()

    def test_half_a_page_is_no_page(self):
        replay = self.enter(Replay(self.source, self.stream(), 1))
        replay.head()
        block = self.source.blocks[0]
        half = len(block.bits()) // 2
        replay.pages(0, last=half)
        replay.write(0, block.pages_at + block.bits()[half] * PAGE, PAGE // 2)
        replay.pages(0, first=half + 1)
        with self.assertRaises(OSError):
            replay.bitmaps()
            replay.tail()
        replay.close()
        self.assert_error(r'pc\.ram')
        self.assert_small_is_there()


if __name__ == '__main__':
    harness.main()
