#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest with checksummed memory, saved while it runs."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import LinuxGuest
from mount import plain
from qemu import need_qemu, pause_of
from vmcase import VmCase


def setUpModule():
    need_qemu()


class Linux(VmCase):
    guest = LinuxGuest(memory=256, fill=64, touch=16, dirty=8, tick=100, check=16)

    def save_in_background(self, qemu):
        """The guest's last word before the save, and QEMU's account of it."""
        caps = self.background(qemu)
        qemu.events()
        before = qemu.ticks()[-1]
        info = qemu.migrate(f'file:{self.stream()}', caps)
        pause = pause_of(qemu.events())
        print(f'# saved {info["ram"]["transferred"] >> 20} MiB in {info["total-time"]} ms, '
              f'pause {pause * 1000:.1f} ms, on disk {self.image_size() >> 20} MiB')
        return before, info

    def test_it_goes_on_where_it_was_saved_in_the_background(self):
        qemu = self.boot()
        before, _ = self.save_in_background(qemu)
        qemu.kill()
        self.assert_image_valid()
        self.assert_ticks_on(self.load(f'file:{self.stream()}'), before)

    def test_it_was_not_harmed_by_being_saved(self):
        qemu = self.boot()
        before, _ = self.save_in_background(qemu)
        after = qemu.wait_pass()
        self.assertEqual((after.nonce, after.sum), (before.nonce, before.sum))
        self.assertNotIn('BAD', qemu.serial())

    def test_it_comes_back_twice_from_one_snapshot(self):
        qemu = self.boot()
        before, _ = self.save_in_background(qemu)
        qemu.kill()
        first = self.load(f'file:{self.stream()}')
        one = self.assert_ticks_on(first, before)
        first.kill()
        two = self.assert_ticks_on(self.load(f'file:{self.stream()}'), before)
        self.assertEqual(one.number, two.number)

    def test_it_comes_back_after_a_live_precopy_save(self):
        qemu = self.boot()
        before = qemu.ticks()[-1]
        qemu.migrate(f'file:{self.stream()}', params={'downtime-limit': 30000})
        qemu.kill()
        self.assert_image_valid()
        self.assert_ticks_on(self.load(f'file:{self.stream()}'), before)

    def test_the_snapshot_is_less_than_half_of_the_raw_stream(self):
        if plain():
            self.skipTest('a plain folder compresses nothing')
        qemu = self.boot()
        _, info = self.save_in_background(qemu)
        self.assertLess(self.image_size(), info['ram']['transferred'] / 2)


if __name__ == '__main__':
    harness.main()
