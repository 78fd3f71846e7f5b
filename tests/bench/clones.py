# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that share one memory file: each maps `ram` for itself (MAP_PRIVATE), as
QEMU does, and touches all of its pages; then QEMU itself."""
import contextlib
import os
import re
import subprocess
import sys

from figures import processor_seconds, progress, timed
from guest import CountGuest
from harness import build_path, die_with_parent
from mount import statistics
from qemu import Qemu
from stage import MIB, Stage

HERE = os.path.dirname(os.path.abspath(__file__))
PART = 'scale: guests that share one memory file'
CLONES = 8


def bytes_loaded(mount):
    """What the daemon has read of snapshots, and decompressed, so far."""
    return statistics(mount.point)['snapfs_read_in_bytes_total']


class Toucher:
    """A process that touches the pages of a file when it is told to, and stays."""

    def __init__(self, path, *seed):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, 'touch.py'), path, *seed], bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)

    def begin(self):
        self.process.stdin.write(b'+')

    def wait(self):
        if self.process.stdout.read(1) != b'+':
            raise RuntimeError('a process could not touch its memory')

    def share(self):
        """Bytes: its part of the pages that it has mapped, which others map too."""
        with open(f'/proc/{self.process.pid}/smaps_rollup') as file:
            return int(re.search(r'^Pss_File:\s+(\d+) kB', file.read(), re.M)[1]) * 1024

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def touch(processes):
    for process in processes:
        process.begin()
    for process in processes:
        process.wait()


class Clones(Stage):
    def __init__(self, options, content, results):
        super().__init__(options, content, options.dir)
        self.results = results
        self.data = 256 if options.quick else 1024      # MiB

    def put(self, row, column, unit, value):
        self.results.add(PART, row, column, unit, value)

    def measure(self):
        progress(f'a guest of {self.data} MiB for {CLONES} processes')
        subprocess.run([build_path('tests', 'bench', 'guest-stream'), '-f', str(self.data),
                        self.content.path, str(2 * self.data), self.place.stream], check=True)
        subprocess.run(['cp', '--sparse=always', self.place.ram, self.raw], check=True)
        for order in ('in order', 'at random'):
            for path, where in ((self.raw, 'plain file'), (self.place.ram, 'mount')):
                for count in (1, CLONES):
                    progress(f'{where}, {count} at once, {order}')
                    self.touched(f'{where}, {count} at once, {order}', path, count)
        if not self.options.quick:
            self.measure_qemu()

    def cool(self):
        """Nothing is in memory, and what was learnt of earlier processes, which may
        come as late as with the end of the mount, is forgotten."""
        self.place.cool()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.place.folder, 'hot'))

    def touched(self, row, path, count):
        self.cool()
        mount, with_seed = self.place.mount, 'random' in row
        processes = [Toucher(path, *([str(number + 1)] if with_seed else []))
                     for number in range(count)]
        try:
            for process in processes:
                process.wait()
            before = processor_seconds(mount.pid)
            self.put(row, 'all pages touched after', 's', timed(lambda: touch(processes)))
            self.put(row, 'memory of the processes', 'MiB',
                     sum(process.share() for process in processes) / MIB)
        finally:
            for process in processes:
                process.end()
        if path != self.place.ram:
            return
        self.put(row, "daemon's processor time", 's', processor_seconds(mount.pid) - before)
        self.put(row, 'peak memory of the daemon', 'MiB', mount.memory_peak() / MIB)
        # 1: each extent was decompressed once, for all processes.
        self.put(row, 'read of the snapshot', 'times',
                 bytes_loaded(mount) / os.stat(self.place.snapshot).st_size)

    # ---- QEMU ----

    def memory_file(self, guest):
        backend = (f'memory-backend-file,id=pc.ram,size={guest.memory}M,mem-path={self.place.ram},'
                   'share=off,readonly=on,rom=off,align=2M')
        return ['-object', backend, '-machine', 'memory-backend=pc.ram']

    def measure_qemu(self):
        """Guests that count through 192 MiB: until each has done so twice."""
        guest = CountGuest(memory=256, start=1, end=193, fill=True)
        self.place.clear()
        with Qemu(guest, self.work) as qemu:
            qemu.wait_serial('^AB', timeout=60)
            qemu.stop()
            qemu.migrate(f'file:{self.place.stream}')
        uri = (f'exec:exec {build_path("tools", "snapfs-bridge")} --quiet --mapped=pc.ram '
               f'{self.place.folder}')
        for count in (1, CLONES):
            self.cool()
            row = f'QEMU, {count} at once'
            progress(row)
            with contextlib.ExitStack() as stack:
                guests = [stack.enter_context(self.clone(guest, number))
                          for number in range(count)]
                before = processor_seconds(self.place.mount.pid)
                self.put(row, 'all pages touched after', 's',
                         timed(lambda: self.run_all(guests, uri)))
                self.put(row, "daemon's processor time", 's',
                         processor_seconds(self.place.mount.pid) - before)
                self.put(row, 'peak memory of the daemon', 'MiB',
                         self.place.mount.memory_peak() / MIB)

    def clone(self, guest, number):
        work = self.path(f'qemu{number}')
        os.makedirs(work, exist_ok=True)
        return Qemu(guest, work, incoming=True, args=self.memory_file(guest))

    @staticmethod
    def run_all(guests, uri):
        for qemu in guests:
            qemu.incoming(uri)
            qemu.cont()
        for qemu in guests:
            qemu.wait_serial('BB', timeout=120)
