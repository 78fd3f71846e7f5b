# SPDX-License-Identifier: GPL-2.0-or-later
"""Scale: guests that are larger than this machine (guest-stream.c), eight readers
of one memory file, and a store of many snapshots.

Each figure is one run: all together must not take longer than the other parts.
"""
import bisect
import os
import random
import re
import shutil
import subprocess
import time

from clones import Clones
from figures import PAGE, processor_seconds, progress, random_reads, timed
from harness import build_path
from manynames import ManyNames
from stage import MIB, Stage

GUESTS = 'scale: large guests'
REGION = 2 * MIB
GIB = 1 << 30
# Memory and full regions, in MiB, and pages of each other region that are not
# zero.
LARGE = {'4 GiB, sparse': (4096, 0, 2),
         '64 GiB, sparse': (65536, 0, 2),
         '256 GiB, sparse': (262144, 0, 2),
         '4 GiB, 2 GiB of data': (4096, 2048, 0),
         '64 GiB, 4 GiB of data': (65536, 4096, 0),
         '256 GiB, 16 GiB of data': (262144, 16384, 0)}
QUICK = {'64 GiB, sparse': (65536, 0, 2),
         '64 GiB, 1 GiB of data': (65536, 1024, 0)}
READS = 2000
IN_ORDER = 2 * GIB      # the most that is read in order
# Defaults of the mount (mount.snapfs(8)), and what it needs beside them.
BUFFER, CACHE, REST = 64 * MIB, 256 * MIB, 64 * MIB


class Layout:
    """Where guest-stream puts pages that are not zero."""

    def __init__(self, ram, full, touched):
        self.ram, self.full, self.touched = ram, full // 2, touched
        self.regions = ram // 2

    def full_regions(self):
        return [n for n in range(self.regions)
                if (n + 1) * self.full // self.regions > n * self.full // self.regions]

    def runs(self):
        """(offset, length) of all data, in order."""
        full = set(self.full_regions())
        for region in range(self.regions):
            length = REGION if region in full else self.touched * PAGE
            if length:
                yield region * REGION, length

    def some_pages(self, count):
        """Offsets of pages from all over, in no order."""
        runs = list(self.runs())
        ends, total = [], 0
        for _, length in runs:
            total += length // PAGE
            ends.append(total)
        chooser, offsets = random.Random(5), []
        for page in (chooser.randrange(total) for _ in range(count)):
            at = bisect.bisect_right(ends, page)
            before = ends[at - 1] if at else 0
            offsets.append(runs[at][0] + (page - before) * PAGE)
        return offsets

    def data(self):
        return (self.full * REGION + (self.regions - self.full) * self.touched * PAGE)


def read_bytes(pid):
    """What the disk has read for a process so far."""
    with open(f'/proc/{pid}/io') as file:
        return int(re.search(r'^read_bytes: (\d+)', file.read(), re.M)[1])


class Large(Stage):
    """One large guest after the other, in one store."""

    def __init__(self, options, content, results):
        super().__init__(options, content, options.dir)
        self.results = results

    def put(self, row, column, unit, value):
        self.results.add(GUESTS, row, column, unit, value)

    def measure(self):
        for row, sizes in (QUICK if self.options.quick else LARGE).items():
            layout = Layout(*sizes)
            need = layout.data() + 4 * GIB
            if shutil.disk_usage(self.work).free < need:
                self.results.leave_out(GUESTS, row, f'it needs {need / GIB:.0f} GiB of disk')
                continue
            progress(f'a guest of {row}: save')
            self.measure_save(row, layout, sizes)
            progress(f'a guest of {row}: reads')
            self.measure_reads(row, layout)

    def measure_save(self, row, layout, sizes):
        self.place.clear()
        os.sync()
        self.place.mount.remount()
        before = processor_seconds(self.place.mount.pid)
        memory, full, touched = sizes
        seconds = timed(lambda: subprocess.run(
            [build_path('tests', 'bench', 'guest-stream'), '-f', str(full), '-t', str(touched),
             self.content.path, str(memory), self.place.stream], check=True))
        self.put(row, 'pages', 'MB', layout.data() / 1e6)
        self.put(row, 'snapshot', 'MB', os.stat(self.place.snapshot).st_size / 1e6)
        self.put(row, 'save', 's', seconds)
        self.put(row, 'save, RAM', 'GB/s', layout.ram * MIB / seconds / 1e9)
        self.put(row, 'save, pages', 'MB/s', layout.data() / seconds / 1e6)
        self.put(row, "save, daemon's processor time", 's',
                 processor_seconds(self.place.mount.pid) - before)
        self.put_peak(row, 'save', BUFFER, 'buffer=')

    def put_peak(self, row, what, option, name):
        peak = self.place.mount.memory_peak()
        self.put(row, f'{what}, peak memory', 'MiB', peak / MIB)
        self.results.goal(f'{row}: peak memory of the daemon, {what} '
                          f'/ ({name} {option // MIB} MiB + {REST // MIB} MiB)', '≤ 1',
                          [peak / (option + REST)])

    def measure_reads(self, row, layout):
        self.measure_first(row, layout)
        times = random_reads(self.place.ram, layout.some_pages(READS))
        self.put(row, 'at random, p50', 'µs', times[len(times) // 2])
        self.put(row, 'at random, p99', 'µs', times[len(times) * 99 // 100])
        self.place.cool()
        size, seconds = self.read_in_order(layout)
        self.put(row, 'in order, pages', 'MB/s', size / seconds / 1e6)
        self.put_peak(row, 'reads', CACHE, 'cache=')

    def measure_first(self, row, layout):
        """From nothing in memory: open it, and read one page from its middle."""
        runs = list(layout.runs())
        self.place.cool()
        pid = self.place.mount.pid
        disk, start = read_bytes(pid), time.perf_counter()
        fd = os.open(self.place.ram, os.O_RDONLY)
        opened = time.perf_counter()
        of_open = read_bytes(pid) - disk
        page = os.pread(fd, PAGE, runs[len(runs) // 2][0])
        first = time.perf_counter()
        os.close(fd)
        if not any(page):
            raise RuntimeError(f'{row}: a page of data is zero')
        self.put(row, 'open, cold', 'ms', (opened - start) * 1e3)
        self.put(row, 'open, read from the disk', 'KiB', of_open / 1024)
        self.put(row, 'first page', 'ms', (first - opened) * 1e3)

    def read_in_order(self, layout):
        """(bytes, seconds) of data that was read in order, up to IN_ORDER."""
        buffer, size, start = bytearray(REGION), 0, time.monotonic()
        view = memoryview(buffer)
        fd = os.open(self.place.ram, os.O_RDONLY)
        for offset, length in layout.runs():
            got = os.preadv(fd, [view[:length]], offset)
            if got != length:
                raise RuntimeError(f'{got} bytes instead of {length} at {offset}')
            size += got
            if size >= IN_ORDER:
                break
        os.close(fd)
        return size, time.monotonic() - start


def scale(options, content, results):
    """The part `scale` of bench.py."""
    with Large(options, content, results) as stage:
        stage.measure()
    results.print_new()
    with Clones(options, content, results) as stage:
        stage.measure()
    results.print_new()
    with ManyNames(options, content, results) as stage:
        stage.measure()
