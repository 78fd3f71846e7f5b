#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves by libvirt that go wrong: the domain runs on, and what was there before
is still there."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import MIB, CountGuest
from harness import need_program, wait_until
from libvirt import LibvirtCase, VirshError
from mount import need_views, statistics
from qemu import need_qemu
from test_trouble import FullDiskCase

SPARSE = ('--image-format', 'sparse')
WAYS = {'raw': (), 'sparse': SPARSE, 'direct': SPARSE + ('--bypass-cache',)}


def setUpModule():
    need_qemu()
    need_views()


class Trouble(LibvirtCase):
    def assert_snapshot(self, saved):
        """The snapshot of before is there, whole, and nothing else."""
        self.domain.virsh('destroy')
        # libvirt keeps what it was writing open until the domain ends.
        wait_until(lambda: sorted(os.listdir(self.mount.path(saved.name))) ==
                   ['devstate', 'preamble', 'ram'], 20, 'the stream is gone')
        self.restore(saved.name)
        self.assert_restored(saved)


class Refused(Trouble):
    def test_a_compressed_image_is_refused(self):
        need_program('gzip')
        saved = self.save()
        self.restore()
        self.assert_restored(saved)
        for name in ('vm1', 'vm2'):
            with self.assertRaises(VirshError):
                self.domain.virsh('save', self.stream(name), '--image-format', 'gzip')
            self.assert_runs_on()
        self.assertRegex(self.mount.log(), '(?i)libvirt.*(gzip|compress)')
        self.assertEqual(os.listdir(self.snapshot('vm2')), [])
        self.assert_snapshot(saved)


class Broken(Trouble):
    """A save that takes its time, over a snapshot that is there."""
    guest = CountGuest(memory=128, end=100, fill=True)

    def begin(self, *options):
        process = self.start_process(*self.libvirt.command('save', 'vm1', self.stream(), *options),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = self.bytes_in()
        wait_until(lambda: self.bytes_in() > before + MIB, 30, 'the save is under way')
        return process

    def bytes_in(self):
        return statistics(self.mount.point)['snapfs_save_in_bytes_total']

    def slow_down(self):
        self.domain.virsh('destroy')
        self.mount.options += ['level=19', 'threads=1', 'buffer=16m']
        self.mount.remount()
        self.domain.start()

    def test_a_save_that_is_given_up_leaves_the_domain_and_the_snapshot(self):
        saved = self.save()
        self.restore()
        self.slow_down()
        for way, options in WAYS.items():
            with self.subTest(way):
                process = self.begin(*options)
                self.domain.virsh('domjobabort')
                _, said = process.communicate(timeout=60)
                self.assertNotEqual(process.returncode, 0, said)
                self.assert_runs_on()
                self.assert_snapshot(saved)

    def test_a_qemu_that_is_killed_leaves_the_snapshot(self):
        saved = self.save('vm1', *SPARSE)
        self.restore()
        self.slow_down()
        for way, options in WAYS.items():
            with self.subTest(way):
                process = self.begin(*options)
                self.libvirt.kill_qemu()
                _, said = process.communicate(timeout=60)
                self.assertNotEqual(process.returncode, 0, said)
                wait_until(lambda: self.domain.state() == 'shut off', 20, 'the domain is off')
                self.restore()
                self.assert_snapshot(saved)


class Full(Trouble, FullDiskCase):
    guest = CountGuest(memory=64, end=40, fill=True)

    def test_a_full_disk_fails_the_save_and_the_domain_runs_on(self):
        for way, options in WAYS.items():
            with self.subTest(way):
                with self.assertRaises(VirshError):
                    self.domain.virsh('save', self.stream(), *options)
                self.assert_runs_on()
                self.assertEqual(os.listdir(self.snapshot()), [])
                self.assertIn('No space left', self.error_of(self.snapshot()))
        self.run_ok('mount', '-o', 'remount,size=256M', self.mount.store)
        for options in WAYS.values():
            saved = self.save('vm1', *options)
            self.restore()
            self.assert_restored(saved)


if __name__ == '__main__':
    harness.main()
