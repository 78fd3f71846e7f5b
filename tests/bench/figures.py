# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures: what was measured, how it is compared and printed."""
import os
import statistics
import sys
import time

PAGE = 4096


class Figure:
    """Some runs of one thing."""

    def __init__(self, name, unit, values):
        self.name, self.unit, self.values = name, unit, values

    def median(self):
        return statistics.median(self.values)

    def __str__(self):
        low, high = min(self.values), max(self.values)
        return (f'{self.name:58} {self.median():9.3f} {self.unit:5} '
                f'({low:.3f} to {high:.3f})')


def say(*figures):
    for figure in figures:
        print(figure, flush=True)


def ratio(name, over, under):
    """Compares two figures run by run, as they were measured in turn: a figure
    that is printed."""
    pairs = Figure(name, 'x', [a / b for a, b in zip(over.values, under.values)])
    say(pairs)
    return pairs


class Table:
    """What was to be reached, and what was: printed when all is known."""

    def __init__(self):
        self.rows = []

    def add(self, quantity, goal, figure):
        """`figure` is a Figure, or a text."""
        if isinstance(figure, Figure):
            figure = (f'{figure.median():.2f} ({min(figure.values):.2f} to '
                      f'{max(figure.values):.2f})')
        self.rows.append((quantity, goal, figure))

    def print(self):
        print('\n| quantity | goal | measured |\n|---|---|---|')
        for row in self.rows:
            print(f'| {" | ".join(row)} |')
        sys.stdout.flush()


def timed(function):
    start = time.monotonic()
    function()
    return time.monotonic() - start


def in_turn(runs, *functions):
    """`runs` counted values of each function, in turn, after one of each that
    is not counted."""
    values = [[] for _ in functions]
    for number in range(runs + 1):
        for function, into in zip(functions, values):
            value = function()
            if number:
                into.append(value)
    return values


def processor_seconds(pid):
    """What a process has used of the processors so far."""
    with open(f'/proc/{pid}/stat') as file:
        words = file.read().rpartition(')')[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('3')


def sync_file(path):
    fd = os.open(path, os.O_RDONLY)
    os.fdatasync(fd)
    os.close(fd)


def stored_pages(path):
    """The offsets of pages of `path` that are not holes."""
    fd = os.open(path, os.O_RDONLY)
    end, at, offsets = os.fstat(fd).st_size, 0, []
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, data, os.SEEK_HOLE)
        offsets += range(data, at, PAGE)
    os.close(fd)
    return offsets


def random_reads(path, offsets):
    """One page at each offset; the times of all, in microseconds."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    times = []
    for offset in offsets:
        start = time.perf_counter()
        os.pread(fd, PAGE, offset)
        times.append((time.perf_counter() - start) * 1e6)
    os.close(fd)
    times.sort()
    return times
