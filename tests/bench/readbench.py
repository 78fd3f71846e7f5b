# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading a snapshot: an eager revert, plain reads in order and at random, and
its size; against a raw file and a plain `ram`."""
import os
import random
import subprocess
import time

from content import say_packed
from figures import (Figure, in_turn, random_reads, ratio, say, stored_pages,
                     timed)
from qemu import Qemu
from stage import MIB, Stage


def speed(path):
    """Reads a file from end to end; MB/s."""
    fd = os.open(path, os.O_RDONLY)
    buffer = bytearray(MIB)
    start, size = time.monotonic(), 0
    while True:
        got = os.readv(fd, [buffer])
        if not got:
            break
        size += got
    seconds = time.monotonic() - start
    os.close(fd)
    return size / seconds / 1e6


class Reads(Stage):
    """A stopped guest, saved once to a plain file and once into the mount."""

    def sizes(self):
        say_packed('the guest', self.place.ram)
        raw = os.stat(self.raw).st_size
        ours = os.stat(self.place.snapshot).st_size
        packed = self.path('raw.zst')
        seconds = timed(lambda: subprocess.run(
            ['zstd', '-1', '-q', '-f', self.raw, '-o', packed], check=True))
        zstd = os.stat(packed).st_size
        os.unlink(packed)
        print(f'raw stream {raw / MIB:.0f} MiB, snapshot {ours / MIB:.0f} MiB, '
              f'zstd -1 {zstd / MIB:.0f} MiB (in {seconds:.1f} s)')
        print(f'{"size: raw stream / snapshot":58} {raw / ours:9.2f} x')
        print(f'{"size: snapshot / zstd -1 of the raw stream":58} '
              f'{ours / zstd:9.2f} x')

    def cool(self, cold):
        if cold:
            self.place.cool()

    def revert(self, guest, path, cold):
        """From migrate-incoming to completed, seconds."""
        self.cool(cold)
        with Qemu(guest, self.work, incoming=True) as qemu:
            return timed(lambda: qemu.incoming(f'file:{path}', timeout=600))

    def reverts(self, guest, what, cold):
        raw, mount = in_turn(self.runs, lambda: self.revert(guest, self.raw, cold),
                             lambda: self.revert(guest, self.place.stream, cold))
        raw = Figure(f'eager revert, {what}: raw file', 's', raw)
        mount = Figure(f'eager revert, {what}: mount', 's', mount)
        say(raw, mount)
        ratio(f'eager revert, {what}: mount / raw', mount, raw)

    def in_order(self, plain, what, cold):
        def read(path):
            self.cool(cold)
            return speed(path)
        disk, ours = in_turn(self.runs, lambda: read(plain), lambda: read(self.place.ram))
        disk = Figure(f'ram read in order, {what}: plain file', 'MB/s', disk)
        ours = Figure(f'ram read in order, {what}: mount', 'MB/s', ours)
        say(disk, ours)
        ratio(f'ram read in order, {what}: mount / plain', ours, disk)

    def at_random(self, plain):
        pages = stored_pages(self.place.ram)
        chooser = random.Random(1)

        def cold(path):
            self.place.cool()
            times = random_reads(path, chooser.sample(pages, 2000))
            return times[len(times) // 2], times[len(times) * 99 // 100]
        disk, ours = in_turn(self.runs, lambda: cold(plain), lambda: cold(self.place.ram))
        for name, values in (('plain file', disk), ('mount', ours)):
            for i, which in enumerate(('p50', 'p99')):
                say(Figure(f'4 KiB at random, cold: {name}, {which}', 'us',
                           [value[i] for value in values]))

    def measure(self):
        guest = self.content.guest(self.options.memory)
        with self.boot(guest) as qemu:
            qemu.stop()
            self.save_pair(qemu, {})
        self.sizes()
        plain = self.path('ram')
        subprocess.run(['cp', '--sparse=always', self.place.ram, plain], check=True)
        for what, cold in (('cold', True), ('warm', False)):
            self.reverts(guest, what, cold)
            self.in_order(plain, what, cold)
        self.at_random(plain)
