#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest at work, saved five times in a chain with -o increments. Each snapshot is brought back
when the older ones are gone."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import MIB, CountGuest
from mount import need_views, tool
from qemu import need_qemu
from verbs import VerbCase

DAYS = 5
AT, SIZE = 24 * MIB, 32 * MIB
WAYS = ('bridge', 'memory-file', 'eager', 'bridge')


def setUpModule():
    need_qemu()
    need_views()


class Chain(VerbCase):
    guest = CountGuest(memory=64, end=10, fill=True)
    options = ('increments',)

    def day(self, number):
        return self.mount.path(f'day{number}')

    def resting(self):
        """Memory that the guest leaves alone, while it changes every page below."""
        with open(self.path('content'), 'wb') as file:
            file.write(os.urandom(SIZE))
        return ['-device', f'loader,file={self.path("content")},addr={AT},force-raw=on']

    def rests(self, qemu):
        """That memory, as the guest has it."""
        qemu.qmp.command('pmemsave', {'val': AT, 'size': SIZE, 'filename': self.path('rests')})
        with open(self.path('rests'), 'rb') as file:
            return file.read()

    def save_all(self):
        qemu = self.boot(args=self.resting())
        qemu.wait_serial('B{3}')
        constant = qemu.constant()
        self.content = self.rests(qemu)
        qemu.cont()
        for day in range(DAYS):
            self.save_ok(folder=self.day(day))
            self.wait_no_save()
        qemu.kill()
        return constant

    def test_each_day_is_brought_back_after_the_days_before_it_were_removed(self):
        constant = self.save_all()
        sizes = [self.image_size(f'day{day}') for day in range(DAYS)]
        for size in sizes[1:]:
            self.assertLess(size, sizes[0] / 2, sizes)
        for day, way in enumerate(WAYS, 1):
            shutil.rmtree(self.day(day - 1))
            with self.subTest(day=day, way=way):
                back = self.revert(f'--way={way}', folder=self.day(day))
                self.assertEqual(back.way, way)
                self.assert_back(back, constant)
                self.assertTrue(self.rests(back) == self.content, 'the resting memory is another')
                back.kill()
        self.assertEqual(tool('verify', self.mount.store).returncode, 0)
        shutil.rmtree(self.day(DAYS - 1))
        layers = self.mount.store_path('.snapfs', 'layers')
        harness.wait_until(lambda: not os.listdir(layers), 30, 'nothing is left of the chain')


class Parent(VerbCase):
    """Without the mount option."""
    guest = CountGuest(memory=64, end=10, fill=True)

    def test_a_save_can_be_told_its_parent(self):
        with open(self.path('content'), 'wb') as file:
            file.write(os.urandom(SIZE))
        self.boot(args=['-device', f'loader,file={self.path("content")},addr={AT},force-raw=on'])
        self.save_ok()
        self.wait_no_save()
        later = self.mount.path('later')
        self.save_ok(f'--parent={self.folder}', folder=later)
        self.wait_no_save()
        self.assertLess(self.image_size('later'), self.image_size('vm1') / 2)
        self.assertEqual(os.getxattr(later, 'user.snapfs.parents'),
                         os.getxattr(self.folder, 'user.snapfs.uuid'))
        # The next save stands alone again.
        self.save_ok(folder=self.mount.path('alone'))
        self.wait_no_save()
        self.assertGreater(self.image_size('alone'), self.image_size('vm1') / 2)
        self.assert_fails(self.save(f'--parent={self.mount.path("none")}',
                                    folder=self.mount.path('x')), 'none: .*')
        self.assertFalse(os.path.exists(self.mount.path('x')))


if __name__ == '__main__':
    harness.main()
