#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Live precopy of a guest that writes all the while: pages come again and again."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

import harness
from guest import MIB, PAGE, CountGuest, LinuxGuest
from mount import need_views, plain
from qemu import need_qemu
from vmcase import VmCase

ROUNDS = 6
HELD = 20000   # bytes a second: a page now and then


def setUpModule():
    need_qemu()


class Live(VmCase):
    def save_in_rounds(self, qemu, name, bandwidth, at_least):
        """A save that does not end before it has sent so many bytes, in ROUNDS.

        A guest that gets little of the processor writes more slowly than QEMU
        sends, and QEMU ends a save as soon as little is left. So each round
        waits, nearly stopped, until the guest has written half of it again.
        """
        qemu.start_migrate(f'file:{self.stream(name)}',
                           params={'max-bandwidth': bandwidth, 'downtime-limit': 1})
        ram = self.wait_round(qemu, 1)
        while ram['dirty-sync-count'] < ROUNDS or ram['transferred'] < at_least:
            goal = self.rewrites(qemu) + 0.5
            qemu.set_parameters({'max-bandwidth': HELD})
            harness.wait_until(lambda: self.rewrites(qemu) >= goal, 120,
                               'the guest writes its memory')
            qemu.set_parameters({'max-bandwidth': bandwidth})
            ram = self.wait_round(qemu, ram['dirty-sync-count'] + 1)
        qemu.set_parameters({'max-bandwidth': 0, 'downtime-limit': 60000})
        return qemu.wait_migrated()

    def wait_round(self, qemu, number):
        """QEMU's account of the memory sent, when that round has begun."""
        def begun():
            info = qemu.cmd('query-migrate')
            self.assertNotIn(info['status'], ('failed', 'completed'), info)
            ram = info.get('ram', {})
            return ram if ram.get('dirty-sync-count', 0) >= number else None
        return harness.wait_until(begun, 120, f'round {number} of the save begins')

    def rewrites(self, qemu):
        """How often the guest has written all that it writes."""
        if isinstance(qemu.guest, LinuxGuest):
            return qemu.ticks()[-1].writes * PAGE / (qemu.guest.touch * MIB)
        return qemu.serial().count('B')

    def compare(self, guest, bandwidth):
        """The guest's last word, and the sizes of a live and of a stopped save."""
        qemu = self.boot(guest)
        before = qemu.ticks()[-1] if isinstance(guest, LinuxGuest) else None
        qemu.stop()
        once = qemu.migrate(f'file:{self.stream("stopped")}')['ram']['transferred']
        qemu.cont()
        # Less would show little: this is what a plain file then holds.
        sent = self.save_in_rounds(qemu, 'live', bandwidth, 2 * once)['ram']['transferred']
        qemu.kill()
        sizes = self.image_size('live'), self.image_size('stopped')
        print(f'# live: sent {sent >> 20} MiB, on disk {sizes[0] >> 20} MiB; '
              f'stopped: sent {once >> 20} MiB, on disk {sizes[1] >> 20} MiB')
        return before, sizes

    def test_a_linux_guest_that_dirties_its_memory_takes_little_more_room(self):
        guest = LinuxGuest(memory=192, fill=48, touch=32, dirty=40, check=16)
        before, (live, stopped) = self.compare(guest, 30 * MIB)
        self.assert_image_valid('live')
        self.assert_ticks_on(self.load(f'file:{self.stream("live")}', guest), before)
        if not plain():
            self.assertLess(live, 1.3 * stopped)

    def test_a_guest_that_dirties_every_page_takes_little_more_room(self):
        guest = CountGuest(memory=64, end=40, fill=True)
        _, (live, stopped) = self.compare(guest, 60 * MIB)
        self.assert_image_valid('live')
        self.assert_loads('live', guest)
        if not plain():
            self.assertLess(live, 1.3 * stopped)


class Memory(VmCase):
    """The daemon's own memory, whatever the guest's size and the pages' order."""
    guest = CountGuest(memory=512, end=480, fill=True)
    options = ('buffer=32M', 'cache=32M')
    limit = (32 + 32 + 64) * MIB

    def setUp(self):
        need_views()
        super().setUp()

    def test_a_precopy_save_and_a_load_stay_within_their_bounds(self):
        qemu = self.boot()
        qemu.migrate(f'file:{self.stream()}', params={'downtime-limit': 60000})
        qemu.kill()
        print(f'# after the save: {self.mount.memory_peak() >> 20} MiB')
        self.assert_loads()
        print(f'# after the load: {self.mount.memory_peak() >> 20} MiB')
        self.assertLess(self.mount.memory_peak(), self.limit)

    def test_a_background_save_stays_within_its_bounds(self):
        qemu = self.boot()
        qemu.migrate(f'file:{self.stream()}', self.background(qemu))
        qemu.kill()
        print(f'# after the save: {self.mount.memory_peak() >> 20} MiB')
        self.assertLess(self.mount.memory_peak(), self.limit)


if __name__ == '__main__':
    harness.main()
