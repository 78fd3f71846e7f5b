# SPDX-License-Identifier: GPL-2.0-or-later
"""mapped-ram: saved by several channels, loaded by several, read at random;
into and from a mount, against a plain file."""
import os
import random
import struct

from figures import Figure, in_turn, random_reads, ratio, say, stored_pages, timed
from qemu import Qemu
from stage import MIB, Stage

CHANNELS = (2, 4)


def caps_of(channels):
    return ({'background-snapshot': False, 'mapped-ram': True, 'multifd': True},
            {'multifd-channels': channels})


def mapped_saves(stage, qemu, channels):
    """Saves a stopped guest by several channels: mount against plain file."""
    caps = caps_of(channels)
    disk, mount = in_turn(stage.runs, lambda: stage.save(qemu, stage.raw, *caps),
                          lambda: stage.save(qemu, stage.place.stream, *caps))
    what = f'mapped-ram save, {channels} channels'
    disk = Figure(f'{what}: on the disk, and synced', 's', disk)
    mount = Figure(f'{what}: into the mount', 's', mount)
    say(disk, mount)
    return ratio(f'{what}: mount / disk', mount, disk)


def pages_offset(path):
    """Where in a mapped-ram file the pages of pc.ram begin."""
    with open(path, 'rb') as file:
        head = file.read(65536)
    at = head.index(b'\x06pc.ram') + 7
    _, version, _, _, pages = struct.unpack_from('>QIQQQ', head, at)
    assert version == 1
    return pages


class Mapped(Stage):
    """A stopped guest, and one that is brought back."""

    def __init__(self, options, content, folder):
        super().__init__(options, content, folder)
        self.mapped = self.place.mount.path('vm', 'mapped')

    def saves(self):
        guest = self.content.guest(self.options.memory)
        with self.boot(guest) as qemu:
            qemu.stop()
            for channels in CHANNELS:
                mapped_saves(self, qemu, channels)
            self.save_pair(qemu, *caps_of(CHANNELS[-1]))
        return guest

    def sizes(self):
        raw = os.stat(self.raw).st_blocks * 512
        ours = os.stat(self.place.snapshot).st_blocks * 512
        print(f'mapped-ram on disk: file {raw / MIB:.0f} MiB, snapshot {ours / MIB:.0f} MiB, '
              f'{raw / ours:.2f} times smaller')

    def load(self, guest, path, channels, cold):
        if cold:
            self.place.cool()
        caps, params = caps_of(channels)
        with Qemu(guest, self.work, incoming=True) as qemu:
            return timed(lambda: qemu.incoming(f'file:{path}', caps, params, timeout=600))

    def loads(self, guest):
        for channels in CHANNELS:
            for cold in (True, False):
                ways = [('raw file', self.raw), ('mount, stream', self.place.stream),
                        ('mount, mapped', self.mapped)]
                values = in_turn(self.runs, *[lambda p=path: self.load(guest, p, channels, cold)
                                              for _, path in ways])
                what = f'mapped-ram load, {channels} channels, {"cold" if cold else "warm"}'
                figures = [Figure(f'{what}: {name}', 's', times)
                           for (name, _), times in zip(ways, values)]
                say(*figures)
                ratio(f'{what}: mapped / raw file', figures[2], figures[0])

    def at_random(self, guest):
        """The same pages, by either name."""
        begin = pages_offset(self.mapped)
        pages = [page for page in stored_pages(self.place.ram) if page < guest.memory * MIB]
        chooser = random.Random(1)

        def cold(path, shift):
            self.place.cool()
            offsets = [page + shift for page in chooser.sample(pages, 2000)]
            times = random_reads(path, offsets)
            return times[len(times) // 2], sum(times) / len(times)
        values = in_turn(self.runs, lambda: cold(self.place.ram, 0),
                         lambda: cold(self.mapped, begin))
        for i, which in enumerate(('p50', 'mean')):
            figures = [Figure(f'4 KiB at random, cold: {name}, {which}', 'us',
                              [value[i] for value in runs])
                       for name, runs in zip(('ram', 'mapped'), values)]
            say(*figures)
            ratio(f'4 KiB at random, cold: mapped / ram, {which}', figures[1], figures[0])

    def measure(self):
        guest = self.saves()
        self.sizes()
        self.loads(guest)
        self.at_random(guest)
