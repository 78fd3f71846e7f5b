# SPDX-License-Identifier: GPL-2.0-or-later
"""mapped-ram: saved by several channels, loaded by several, read at random;
into and from a mount, against a plain file."""
import os
import random
import shutil
import struct
import tempfile

from figures import (Figure, drop_caches, in_turn, random_reads, ratio, say, stored_pages,
                     sync_file, timed)
from mount import Mount
from qemu import Qemu

MIB = 1 << 20
CHANNELS = (2, 4)


def caps_of(channels):
    return ({'mapped-ram': True, 'multifd': True}, {'multifd-channels': channels})


def pages_offset(path):
    """Where in a mapped-ram file the pages of pc.ram begin."""
    with open(path, 'rb') as file:
        head = file.read(65536)
    at = head.index(b'\x06pc.ram') + 7
    _, version, _, _, pages = struct.unpack_from('>QIQQQ', head, at)
    assert version == 1
    return pages


class Mapped:
    """A stopped guest, and one that is brought back."""

    def __init__(self, runs, memory, folder, content):
        self.runs = runs
        self.work = tempfile.mkdtemp(prefix='snapfs-mapped-', dir=folder)
        self.raw = os.path.join(self.work, 'raw')
        self.mount = Mount(os.path.join(self.work, 'store'), os.path.join(self.work, 'snaps'))
        self.guest = content.guest(memory)

    def __enter__(self):
        self.mount.start()
        os.mkdir(self.mount.path('vm'))
        return self

    def __exit__(self, *_):
        self.mount.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def save(self, qemu, path, channels):
        """Seconds until it is on disk."""
        caps, params = caps_of(channels)
        if path == self.raw and os.path.exists(path):
            os.unlink(path)

        def whole():
            qemu.migrate(f'file:{path}', caps, params, timeout=600)
            sync_file(path)
        seconds = timed(whole)
        qemu.cont()
        qemu.stop()
        return seconds

    def saves(self):
        ours = self.mount.path('vm', 'stream')
        with Qemu(self.guest, self.work) as qemu:
            qemu.wait_serial('^tick 1 ', timeout=600)
            qemu.stop()
            for channels in CHANNELS:
                disk, mount = in_turn(self.runs,
                                      lambda c=channels: self.save(qemu, self.raw, c),
                                      lambda c=channels: self.save(qemu, ours, c))
                what = f'mapped-ram save, {channels} channels'
                disk = Figure(f'{what}: on the disk, and synced', 's', disk)
                mount = Figure(f'{what}: into the mount', 's', mount)
                say(disk, mount)
                ratio(f'{what}: mount / disk', mount, disk)

    def sizes(self):
        raw = os.stat(self.raw).st_blocks * 512
        ours = os.stat(self.mount.store_path('vm', 'snapshot.zst')).st_blocks * 512
        print(f'mapped-ram on disk: file {raw / MIB:.0f} MiB, snapshot {ours / MIB:.0f} MiB, '
              f'{raw / ours:.2f} times smaller')

    def load(self, path, channels, cold):
        if cold:
            self.mount.remount()
            drop_caches()
        caps, params = caps_of(channels)
        with Qemu(self.guest, self.work, incoming=True) as qemu:
            return timed(lambda: qemu.incoming(f'file:{path}', caps, params, timeout=600))

    def loads(self):
        for channels in CHANNELS:
            for cold in (True, False):
                ways = [('raw file', self.raw), ('mount, stream', self.mount.path('vm', 'stream')),
                        ('mount, mapped', self.mount.path('vm', 'mapped'))]
                values = in_turn(self.runs, *[lambda p=path: self.load(p, channels, cold)
                                              for _, path in ways])
                what = f'mapped-ram load, {channels} channels, {"cold" if cold else "warm"}'
                figures = [Figure(f'{what}: {name}', 's', times)
                           for (name, _), times in zip(ways, values)]
                say(*figures)
                ratio(f'{what}: mapped / raw file', figures[2], figures[0])

    def at_random(self):
        """The same pages, by either name."""
        ram, mapped = (self.mount.path('vm', name) for name in ('ram', 'mapped'))
        begin = pages_offset(mapped)
        pages = [page for page in stored_pages(ram) if page < self.guest.memory * MIB]
        chooser = random.Random(1)

        def cold(path, shift):
            self.mount.remount()
            drop_caches()
            offsets = [page + shift for page in chooser.sample(pages, 2000)]
            times = random_reads(path, offsets)
            return times[len(times) // 2], sum(times) / len(times)
        values = in_turn(self.runs, lambda: cold(ram, 0), lambda: cold(mapped, begin))
        for i, which in enumerate(('p50', 'mean')):
            figures = [Figure(f'4 KiB at random, cold: {name}, {which}', 'us',
                              [value[i] for value in runs])
                       for name, runs in zip(('ram', 'mapped'), values)]
            say(*figures)
            ratio(f'4 KiB at random, cold: mapped / ram, {which}', figures[1], figures[0])

    def measure(self):
        self.saves()
        self.sizes()
        self.loads()
        self.at_random()
