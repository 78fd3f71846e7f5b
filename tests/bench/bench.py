#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints what snapfs costs and gives, against plain files on the same disk.

Every figure is the median of five counted runs (a first one is thrown away),
with its least and greatest; what is compared is measured in turn, so that a
machine whose speed drifts treats both alike. README.md beside this file says
how to read the table.

With `slow` the whole is measured once more on a loop device that is held to the
500 and 450 MB/s of a SATA disk, for a machine whose own disk is faster than its
processors compress.

usage: bench.py [open] [small] [save] [read] [revert] [mapped] [slow] [--memory MiB]
                [--runs N] [--dir FOLDER]
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'lib'))

from content import Content, say_packed              # noqa: E402
from figures import (Figure, drop_caches, in_turn, random_reads, ratio, say,  # noqa: E402
                     stored_pages, sync_file, timed)
from harness import build_path, run                  # noqa: E402
from mappedbench import Mapped                       # noqa: E402
from mount import Mount                              # noqa: E402
from qemu import Qemu                                # noqa: E402
from revert import Reverts                           # noqa: E402

MIB = 1 << 20


def read_all(path, block=MIB):
    """Reads a file from end to end; MB/s."""
    fd = os.open(path, os.O_RDONLY)
    buffer = bytearray(block)
    start, size = time.monotonic(), 0
    while True:
        got = os.readv(fd, [buffer])
        if not got:
            break
        size += got
    seconds = time.monotonic() - start
    os.close(fd)
    return size / seconds / 1e6


class SlowDisk:
    """An ext4 on a loop device whose speed the kernel limits (cgroup v1)."""
    THROTTLE = '/sys/fs/cgroup/blkio/blkio.throttle.%s_bps_device'
    SPEEDS = {'read': 500, 'write': 450}

    def __init__(self, folder):
        self.work = tempfile.mkdtemp(prefix='snapfs-slow-', dir=folder)
        self.image = os.path.join(self.work, 'disk')
        self.path = os.path.join(self.work, 'mnt')
        self.device = None

    @classmethod
    def missing(cls):
        """Why there cannot be one, or None."""
        if not os.access(cls.THROTTLE % 'write', os.W_OK):
            return f'no {cls.THROTTLE % "write"}'
        return None

    def limit(self, on):
        number = os.stat(self.device).st_rdev
        for what, speed in self.SPEEDS.items():
            with open(self.THROTTLE % what, 'w') as file:
                file.write(f'{os.major(number)}:{os.minor(number)} '
                           f'{speed * 1000000 if on else 0}')

    def __enter__(self):
        with open(self.image, 'wb') as file:
            file.truncate(8 << 30)
        os.mkdir(self.path)
        subprocess.run(['mkfs.ext4', '-q', '-F', self.image], check=True)
        self.device = subprocess.run(['losetup', '-f', '--show', self.image], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout.strip()
        subprocess.run(['mount', self.device, self.path], check=True)
        self.limit(True)
        return self

    def __exit__(self, *_):
        self.limit(False)
        subprocess.run(['umount', self.path], check=False)
        subprocess.run(['losetup', '-d', self.device], check=False)
        shutil.rmtree(self.work, ignore_errors=True)


class Bench:
    """A big Linux guest, stopped, and a mount; all in one folder."""

    def __init__(self, options, folder, content):
        self.runs = options.runs
        self.work = tempfile.mkdtemp(prefix='snapfs-bench-', dir=folder)
        self.raw = os.path.join(self.work, 'raw')
        self.mount = Mount(os.path.join(self.work, 'store'),
                           os.path.join(self.work, 'snaps'))
        self.snapshot = self.mount.store_path('vm', 'snapshot.zst')
        self.guest = content.guest(options.memory)

    def __enter__(self):
        self.mount.start()
        os.mkdir(self.mount.path('vm'))
        return self

    def __exit__(self, *_):
        self.mount.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    # ---- saving ----

    def save(self, qemu, path, caps):
        """Until it is on disk, seconds."""
        def whole():
            qemu.migrate(f'file:{path}', caps=caps)
            sync_file(path)
        seconds = timed(whole)
        if not caps:
            qemu.cont()
            qemu.stop()
        return seconds

    def save_raw(self, qemu, caps):
        if os.path.exists(self.raw):
            os.unlink(self.raw)
        return self.save(qemu, self.raw, caps)

    def save_both(self, qemu, what, caps):
        raw, ours = in_turn(
            self.runs, lambda: self.save_raw(qemu, caps),
            lambda: self.save(qemu, self.mount.path('vm', 'stream'), caps))
        raw = Figure(f'{what}: file: on the disk, and synced', 's', raw)
        ours = Figure(f'{what}: file: into the mount', 's', ours)
        say(raw, ours)
        ratio(f'{what}: mount / disk', ours, raw)

    def saves(self):
        with Qemu(self.guest, self.work) as qemu:
            qemu.wait_serial(r'^tick 1 ', timeout=600)
            qemu.stop()
            self.save_both(qemu, 'save stopped', {})
            self.save_both(qemu, 'save in the background',
                           {'background-snapshot': True})

    def sizes(self):
        say_packed('the guest', self.mount.path('vm', 'ram'))
        raw = os.stat(self.raw).st_size
        ours = os.stat(self.snapshot).st_size
        packed = os.path.join(self.work, 'raw.zst')
        seconds = timed(lambda: subprocess.run(
            ['zstd', '-1', '-q', '-f', self.raw, '-o', packed], check=True))
        zstd = os.stat(packed).st_size
        os.unlink(packed)
        print(f'raw stream {raw / MIB:.0f} MiB, snapshot {ours / MIB:.0f} MiB, '
              f'zstd -1 {zstd / MIB:.0f} MiB (in {seconds:.1f} s)')
        print(f'{"size: raw stream / snapshot":58} {raw / ours:9.2f} x')
        print(f'{"size: snapshot / zstd -1 of the raw stream":58} '
              f'{ours / zstd:9.2f} x')

    # ---- reverting ----

    def revert(self, path, cold):
        """From migrate-incoming to completed, seconds."""
        if cold:
            drop_caches()
        with Qemu(self.guest, self.work, incoming=True) as qemu:
            return timed(lambda: qemu.incoming(f'file:{path}', timeout=600))

    def revert_both(self, what, cold):
        def ours():
            if cold:
                self.mount.remount()
            return self.revert(self.mount.path('vm', 'stream'), cold)
        raw, mount = in_turn(self.runs, lambda: self.revert(self.raw, cold),
                             ours)
        raw = Figure(f'eager revert, {what}: raw file', 's', raw)
        mount = Figure(f'eager revert, {what}: mount', 's', mount)
        say(raw, mount)
        ratio(f'eager revert, {what}: mount / raw', mount, raw)

    # ---- plain reads ----

    def sequential(self, path, cold):
        if cold:
            self.mount.remount()
            drop_caches()
        return read_all(path)

    def reads(self):
        ram = self.mount.path('vm', 'ram')
        plain = os.path.join(self.work, 'ram')
        subprocess.run(['cp', '--sparse=always', ram, plain], check=True)
        for what, cold in (('cold', True), ('warm', False)):
            disk, ours = in_turn(self.runs,
                                 lambda c=cold: self.sequential(plain, c),
                                 lambda c=cold: self.sequential(ram, c))
            disk = Figure(f'ram read in order, {what}: plain file', 'MB/s', disk)
            ours = Figure(f'ram read in order, {what}: mount', 'MB/s', ours)
            say(disk, ours)
            ratio(f'ram read in order, {what}: mount / plain', ours, disk)
        self.random(ram, plain)

    def random(self, ram, plain):
        pages = stored_pages(ram)
        chooser = random.Random(1)

        def cold(path):
            self.mount.remount()
            drop_caches()
            times = random_reads(path, chooser.sample(pages, 2000))
            return times[len(times) // 2], times[len(times) * 99 // 100]
        disk, ours = in_turn(self.runs, lambda: cold(plain), lambda: cold(ram))
        for name, values in (('plain file', disk), ('mount', ours)):
            for i, which in enumerate(('p50', 'p99')):
                say(Figure(f'4 KiB at random, cold: {name}, {which}', 'us',
                           [value[i] for value in values]))


def open_cost():
    program = build_path('tests', 'bench', 'open-cost')
    sys.stdout.write(run(program, timeout=600).stdout)


def small_writes(options, content):
    """One small write, into the mount and elsewhere."""
    work = tempfile.mkdtemp(prefix='snapfs-small-', dir=options.dir)
    plain = os.path.join(work, 'plain')
    os.mkdir(plain)
    try:
        with Mount(os.path.join(work, 'store'), os.path.join(work, 'snaps')) as mount:
            os.mkdir(mount.path('vm'))
            subprocess.run([build_path('tests', 'bench', 'small-writes'), '-r', str(options.runs),
                            content.path, mount.path('vm'), plain], check=True)
    finally:
        shutil.rmtree(work)


def machine():
    """What the figures were measured on."""
    model = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo')
                  if line.startswith('model name')), 'unknown')
    qemu = run('qemu-system-x86_64', '--version').stdout.split('\n')[0]
    print(f'{os.cpu_count()} x {model}, Linux {os.uname().release}, {qemu}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('parts', nargs='*',
                        help='open, small, save, read, revert, mapped, slow (default: all)')
    parser.add_argument('--memory', type=int, default=1024,
                        help='MiB of the guest that are not zero')
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--dir', help='a folder on the disk to measure')
    options = parser.parse_args()
    parts = options.parts or ['open', 'small', 'save', 'read', 'revert', 'mapped', 'slow']
    machine()
    with tempfile.TemporaryDirectory(prefix='snapfs-content-', dir=options.dir) as work:
        measure_parts(parts, options, Content(work))


def measure_parts(parts, options, content):
    if 'open' in parts:
        open_cost()
    if 'small' in parts:
        print('\n-- small writes', flush=True)
        small_writes(options, content)
    if {'save', 'read'} & set(parts):
        print('\n-- the disk as it is')
        measure(options, options.dir, content, 'read' in parts)
    if 'revert' in parts:
        print('\n-- reverting at once')
        with Reverts(options.runs, options.dir, content) as reverts:
            reverts.measure()
    if 'mapped' in parts:
        print('\n-- mapped-ram')
        with Mapped(options.runs, options.memory, options.dir, content) as mapped:
            mapped.measure()
    if 'slow' in parts:
        reason = SlowDisk.missing()
        if reason:
            print(f'\n-- no slow disk: {reason}')
            return
        with SlowDisk(options.dir) as disk:
            print(f'\n-- a disk held to {SlowDisk.SPEEDS["read"]} MB/s read, '
                  f'{SlowDisk.SPEEDS["write"]} MB/s written')
            measure(options, disk.path, content, True)


def measure(options, folder, content, reads):
    with Bench(options, folder, content) as bench:
        bench.saves()
        bench.sizes()
        if reads:
            bench.revert_both('cold', True)
            bench.revert_both('warm', False)
            bench.reads()


if __name__ == '__main__':
    main()
