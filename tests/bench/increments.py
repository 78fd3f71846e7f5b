#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a chain of snapshots takes with -o increments, and what it costs to make and to read.

A Linux guest works. Now and then it is stopped and saved, twice: into a store with increments, and
into one without. usage: increments.py [--memory MiB] [--apart SECONDS] [--days N]
"""
import argparse
import os
import random
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'lib'))

from figures import drop_caches, spread                # noqa: E402
from guest import LinuxGuest, MIB                    # noqa: E402
from harness import build_path                       # noqa: E402
from mount import Mount                              # noqa: E402
from qemu import Qemu                                # noqa: E402

READS, READ = 2000, 4096
PAIRS = 5


class Store:
    """A mounted store, and what its saves came to."""

    def __init__(self, work, name, options):
        self.mount = Mount(os.path.join(work, name), os.path.join(work, 'at-' + name), options)
        self.times, self.sizes = [], []

    def save(self, qemu, day):
        folder = self.mount.path(f'day{day}')
        os.mkdir(folder)
        # A guest that was saved must have run before it is saved again.
        qemu.cont()
        qemu.stop()
        begin = time.monotonic()
        qemu.migrate(f'file:{folder}/stream')
        os.sync()
        self.times.append(time.monotonic() - begin)
        self.sizes.append(os.path.getsize(self.mount.store_path(f'day{day}', 'snapshot.zst')))

    def files(self, day):
        """How many files hold the pages of a snapshot."""
        try:
            parents = os.getxattr(self.mount.path(f'day{day}'), 'user.snapfs.parents')
        except OSError:     # none
            parents = b''
        return 1 + len(parents.split())

    def cool(self):
        """The mount is a new one, and nothing is in memory."""
        self.mount.remount()
        drop_caches()

    def read(self, day, offsets):
        """Seconds for reads here and there, and for one from end to end."""
        self.cool()
        fd = os.open(self.mount.path(f'day{day}', 'ram'), os.O_RDONLY)
        try:
            begin = time.monotonic()
            for offset in offsets:
                os.pread(fd, READ, offset)
            middle = time.monotonic()
            os.lseek(fd, 0, os.SEEK_SET)
            while os.read(fd, MIB):
                pass
            return middle - begin, time.monotonic() - middle
        finally:
            os.close(fd)

    def revert(self, day, guest, work):
        """Seconds until a guest runs by the bridge, and until it has all of its memory."""
        self.cool()
        with Qemu(guest, work, incoming=True) as qemu:
            qemu.set_capabilities({'events': True, 'postcopy-ram': True})
            qemu.set_parameters({'max-bandwidth': 0})
            program = build_path('tools', 'snapfs-bridge')
            begin = time.monotonic()
            qemu.cmd('migrate-incoming', uri=f'exec:exec {program} --quiet '
                     f'{self.mount.path(f"day{day}")}')
            # It was saved while it was stopped.
            qemu.qmp.wait_event(lambda event: event['event'] == 'MIGRATION' and
                                event['data']['status'] == 'postcopy-active', 60)
            qemu.cont()
            runs = time.monotonic() - begin
            qemu.wait_migrated()
            return runs, time.monotonic() - begin


def save_days(options, qemu, stores):
    for day in range(options.days):
        qemu.cont()
        time.sleep(options.apart if day else 0)
        # They take turns to be the first.
        for store in stores if day % 2 else stores[::-1]:
            store.save(qemu, day)


def save_another(guest, work, stores):
    """A guest whose memory is not like that of any snapshot."""
    with Qemu(guest, work) as qemu:
        qemu.wait_serial(r'^tick 1 .*\n', timeout=120)
        qemu.wait_pass()
        for store in stores:
            store.save(qemu, '-another')
    whole, shared = stores
    print(f'another guest: {shared.sizes[-1] / whole.sizes[-1]:.2f} of the bytes, '
          f'{shared.times[-1] / whole.times[-1]:.2f} of the time')


def print_days(whole, shared):
    print(f'{"day":>4}{"alone, MiB":>12}{"s":>7}{"increment, MiB":>16}{"s":>7}{"bytes":>8}{"time":>7}')
    for day, (size, small) in enumerate(zip(whole.sizes, shared.sizes)):
        print(f'{day + 1:4}{size / MIB:12.1f}{whole.times[day]:7.2f}{small / MIB:16.1f}'
              f'{shared.times[day]:7.2f}{small / size:8.2f}'
              f'{shared.times[day] / whole.times[day]:7.2f}')
    print(f'{"all":>4}{sum(whole.sizes) / MIB:12.1f}{"":7}{sum(shared.sizes) / MIB:16.1f}')


def print_pairs(what, names, alone, chain):
    """How much longer the chain takes: the median of pairs, with the least and the greatest."""
    ratios = [[b / a for a, b in zip(alone(), chain())] for _ in range(PAIRS + 1)]
    for name, values in zip(names, zip(*ratios[1:])):   # the first does not count
        print(f'{what}, {name}: {spread(values)}')


def print_last(options, guest, work, stores):
    """The last of the chain against one that stands alone."""
    day, rand = options.days - 1, random.Random(1)
    offsets = [rand.randrange(options.memory * MIB // READ) * READ for _ in range(READS)]
    print(f'the last of the chain ({stores[1].files(day)} files) / one that stands alone:')
    print_pairs('reads', (f'{READS} here and there', 'from end to end'),
                *(lambda s=store: s.read(day, offsets) for store in stores))
    print_pairs('bridge', ('guest runs', 'all memory in'),
                *(lambda s=store: s.revert(day, guest, work) for store in stores))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--memory', type=int, default=512)
    parser.add_argument('--apart', type=float, default=20)
    parser.add_argument('--days', type=int, default=5)
    options = parser.parse_args()
    guest = LinuxGuest(memory=options.memory, fill=options.memory // 3,
                       touch=options.memory // 16, dirty=1)
    with tempfile.TemporaryDirectory(prefix='snapfs-increments-') as work:
        whole, shared = Store(work, 'alone', ()), Store(work, 'increments', ('increments',))
        with whole.mount, shared.mount, Qemu(guest, work) as qemu:
            qemu.wait_serial(r'^tick 1 .*\n', timeout=120)
            qemu.wait_pass()
            save_days(options, qemu, (whole, shared))
            qemu.kill()
            print_days(whole, shared)
            print_last(options, guest, work, (whole, shared))
            save_another(guest, work, (whole, shared))


if __name__ == '__main__':
    main()
