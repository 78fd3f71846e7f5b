#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves that go wrong: the guest runs on, and what was there before is still there."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from away import AwayStore
from guest import MIB, CountGuest
from harness import need_program, need_root
from mount import need_views
from qemu import MigrationFailed, need_qemu
from vmcase import VmCase

SMALL = CountGuest(memory=64, end=4, fill=True)
# Random words: it needs as much room as it has pages.
LARGE = CountGuest(memory=128, end=80, fill=True)
LIVE = {'downtime-limit': 30000}
SLOW = {'max-bandwidth': 10 * MIB, 'downtime-limit': 1}


def setUpModule():
    need_qemu()
    need_views()


class TroubleCase(VmCase):
    guest = LARGE

    def save_small(self, name='vm1'):
        qemu = self.boot(SMALL)
        qemu.migrate(f'file:{self.stream(name)}', params=LIVE)
        qemu.kill()

    def begin_slow_save(self, qemu, name='vm1'):
        """A save that is well on its way and would last for minutes."""
        qemu.start_migrate(f'file:{self.stream(name)}', params=SLOW)

        def under_way():
            info = qemu.cmd('query-migrate')
            self.assertNotIn(info['status'], ('failed', 'completed'), info)
            return info.get('ram', {}).get('transferred', 0) > 12 * MIB
        harness.wait_until(under_way, 30, 'the save is under way', step=0.1)

    def assert_runs_on(self, qemu):
        self.assertEqual(qemu.run_state(), 'running')
        passes = qemu.serial().count('B')
        harness.wait_until(lambda: qemu.serial().count('B') > passes, 20, 'the guest counts on')

    def assert_torn(self, name='vm1'):
        """The save is not listed, and the folder tells why."""
        folder = self.mount.path(name)
        harness.wait_until(lambda: self.error_of(folder), 20, f'{name} has user.snapfs.error')
        self.assertNotIn('stream', os.listdir(folder))

    def error_of(self, folder):
        try:
            return os.getxattr(folder, 'user.snapfs.error').decode()
        except OSError:
            return ''

    def store_bytes(self):
        """What the files of the store occupy."""
        return sum(os.lstat(os.path.join(folder, name)).st_blocks * 512
                   for folder, _, names in os.walk(self.mount.store) for name in names)


class Killed(TroubleCase):
    def test_the_next_save_works_after_qemu_was_killed_in_one(self):
        qemu = self.boot()
        self.begin_slow_save(qemu)
        qemu.kill()
        self.assert_torn()
        self.save_small()
        self.assert_loads(guest=SMALL)
        self.assertEqual(self.error_of(self.mount.path('vm1')), '')

    def test_the_old_snapshot_stays_when_qemu_is_killed_in_a_save_over_it(self):
        self.save_small()
        size = os.path.getsize(self.mount.path('vm1', 'stream'))
        qemu = self.boot()
        self.begin_slow_save(qemu)
        qemu.kill()
        harness.wait_until(lambda: self.error_of(self.mount.path('vm1')), 20, 'an error is told')
        self.assertEqual(os.path.getsize(self.mount.path('vm1', 'stream')), size)
        self.assert_loads(guest=SMALL)

    def test_getfattr_tells_why_a_save_failed(self):
        need_program('getfattr')
        qemu = self.boot()
        self.begin_slow_save(qemu)
        qemu.kill()
        self.assert_torn()
        told = self.run_ok('getfattr', '--absolute-names', '-n', 'user.snapfs.error',
                           self.mount.path('vm1'))
        self.assertIn('user.snapfs.error="', told)

    def test_a_cancelled_save_leaves_nothing_and_the_guest_runs_on(self):
        qemu = self.boot()
        self.begin_slow_save(qemu)
        qemu.cmd('migrate_cancel')
        with self.assertRaises(MigrationFailed):
            qemu.wait_migrated()
        self.assert_runs_on(qemu)
        self.assert_torn()
        qemu.migrate(f'file:{self.stream()}', params=LIVE)
        qemu.kill()
        self.assert_loads()

    def test_a_killed_daemon_fails_the_save_and_the_next_mount_recovers(self):
        self.save_small('old')
        room = self.store_bytes()
        qemu = self.boot()
        self.begin_slow_save(qemu)
        self.mount.crash()
        with self.assertRaises(MigrationFailed):
            qemu.wait_migrated()
        self.assert_runs_on(qemu)
        self.mount.start()
        self.assertNotIn('stream', os.listdir(self.snapshot()))
        self.assertLess(self.store_bytes(), room + MIB)
        self.assert_loads('old', SMALL)
        qemu.migrate(f'file:{self.stream()}', params=LIVE)
        qemu.kill()
        self.assert_loads()

    def test_a_daemon_killed_after_a_save_has_lost_nothing(self):
        qemu = self.boot()
        qemu.migrate(f'file:{self.stream()}', params=LIVE)
        self.mount.crash()
        qemu.kill()
        self.mount.start()
        self.assert_loads()

    def test_the_second_of_two_savers_fails_and_the_first_completes(self):
        first, second = self.boot(), self.boot(SMALL)
        self.begin_slow_save(first)
        with self.assertRaises(MigrationFailed) as failed:
            second.migrate(f'file:{self.stream()}', params=LIVE)
        self.assertTrue(str(failed.exception))
        self.assert_runs_on(second)
        first.set_parameters({'max-bandwidth': 0, **LIVE})
        first.wait_migrated()
        first.kill()
        self.assert_loads()
        second.migrate(f'file:{self.stream("vm2")}', params=LIVE)
        second.kill()
        self.assert_loads('vm2', SMALL)


class FullDiskCase(TroubleCase):
    """The store lies on a disk of 24 MiB."""

    def new_mount(self, store, point, options=()):
        need_root()
        os.makedirs(self.path(store), exist_ok=True)
        if store == 'store':
            self.run_ok('mount', '-t', 'tmpfs', '-o', 'size=24M', 'tmpfs', self.path(store))
            self.addCleanup(harness.run, 'umount', '-l', self.path(store))
        return super().new_mount(store, point, options)


class FullDisk(FullDiskCase):
    def assert_save_fails(self, qemu, caps=None):
        with self.assertRaises(MigrationFailed) as failed:
            qemu.migrate(f'file:{self.stream()}', caps, LIVE)
        self.assertIn('No space left', str(failed.exception))

    def check_full(self, background=False, stopped=False):
        self.save_small()
        qemu = self.boot()
        if stopped:
            qemu.stop()
        self.assert_save_fails(qemu, self.background(qemu) if background else None)
        if stopped:
            self.assertEqual(qemu.run_state(), 'paused')
        else:
            self.assert_runs_on(qemu)
        self.assertIn('No space left', self.error_of(self.mount.path('vm1')))
        self.assert_loads(guest=SMALL)
        return qemu

    def test_a_full_disk_fails_a_live_save_and_a_bigger_store_takes_it(self):
        qemu = self.check_full()
        self.mount = self.new_mount('store2', 'mnt2')
        qemu.migrate(f'file:{self.stream()}', params=LIVE)
        qemu.kill()
        self.assert_loads()

    def test_a_full_disk_fails_a_background_save_and_the_guest_runs_on(self):
        qemu = self.check_full(background=True)
        self.assertIsNone(qemu.ram_error())

    def test_a_full_disk_fails_the_save_of_a_stopped_guest(self):
        qemu = self.check_full(stopped=True)
        qemu.cont()
        self.assert_runs_on(qemu)

    def test_a_disk_that_was_full_takes_the_next_save_once_it_has_grown(self):
        qemu = self.check_full()
        self.run_ok('mount', '-o', 'remount,size=256M', self.mount.store)
        qemu.migrate(f'file:{self.stream()}', params=LIVE)
        qemu.kill()
        self.assert_loads()

    def test_a_save_that_failed_gives_its_room_back(self):
        self.save_small('old')
        room = self.store_bytes()
        qemu = self.boot()
        self.assert_save_fails(qemu)
        qemu.kill()
        self.mount.remount()
        self.assertLess(self.store_bytes(), room + MIB)
        self.save_small('vm2')
        self.assert_loads('vm2', SMALL)
        self.assert_loads('old', SMALL)


class Away(TroubleCase):
    """The store lies on a file system that goes away."""
    options = ('timeout=2',)

    def new_mount(self, store, point, options=()):
        need_root()
        self.away = self.enter(AwayStore(self.work))
        mount = super().new_mount(store, point, options)
        self.addCleanup(self.away.come_back)
        return mount

    def check_fails(self, caps=None):
        qemu = self.boot()
        self.away.go_away('write', 'fsync')
        with self.assertRaises(MigrationFailed) as failed:
            qemu.migrate(f'file:{self.stream()}', caps, {'max-bandwidth': 0, **LIVE})
        self.assertIn('timed out', str(failed.exception))
        self.assert_runs_on(qemu)
        self.away.come_back()
        self.assert_torn()
        qemu.migrate(f'file:{self.stream()}', params=LIVE)
        qemu.kill()
        self.assert_loads()

    def test_a_save_fails_in_time_when_the_store_goes_away_and_the_guest_runs_on(self):
        self.check_fails()

    def test_a_mapped_save_does_so_too_and_can_close_its_channels(self):
        self.check_fails({'mapped-ram': True, 'multifd': True})


if __name__ == '__main__':
    harness.main()
