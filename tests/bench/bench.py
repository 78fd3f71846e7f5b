#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets snapfs beside what a user would pick instead, on the same memory.

Every figure is the median of the runs that count (a first one is thrown away),
with the least and the greatest; what is compared takes turns, so that a machine
whose speed drifts treats all alike. README.md beside this file says how to read
the figures. All of them also go into a file, of which plots.py makes pictures.

  save    how long a save takes, and what it costs
  revert  when a reverted guest runs, and when all of its memory is there
  read    reading a snapshot, in order and at random
  scale   large guests, many guests, many snapshots
and, where it is named:
  small   one small write, into the mount and elsewhere

Saves, reverts and reads are measured on the disk as it is, and on a slow one: a
loop device that is held to the 500 and 450 MB/s of a SATA disk, for a machine
whose own disk is faster than its processors compress.

usage: bench.py [PART]... [--memory MiB] [--runs N] [--quick] [--dir FOLDER]
                [--results FILE] [--only NAME,NAME...]
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'lib'))

import peers                                         # noqa: E402
import plots                                         # noqa: E402
from content import Content                          # noqa: E402
from figures import Results, progress                # noqa: E402
from harness import build_path, run                  # noqa: E402
from readbench import Reads                          # noqa: E402
from revert import Reverts                           # noqa: E402
from savebench import Saves                          # noqa: E402
from scale import scale                              # noqa: E402
from stage import Stage, each_disk                   # noqa: E402


def machine():
    """What the figures are measured on."""
    model = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo')
                  if line.startswith('model name')), 'unknown')
    qemu = run('qemu-system-x86_64', '--version').stdout.split('\n')[0]
    return f'{os.cpu_count()} x {model}, Linux {os.uname().release}, {qemu}'


def small_writes(options, content, _):
    with Stage(options, content, options.dir) as stage:
        plain = stage.path('plain')
        os.mkdir(plain)
        subprocess.run([build_path('tests', 'bench', 'small-writes'), '-r', str(options.runs),
                        content.path, stage.place.folder, plain], check=True)


def saves(options, content, results):
    for suffix, here in each_disk(options):
        with Saves(here, content, here.dir, results, suffix) as stage:
            stage.measure()


def reads(options, content, results):
    for suffix, here in each_disk(options):
        with Reads(here, content, here.dir, results, suffix) as stage:
            stage.measure()


def reverts(options, content, results):
    for suffix, here in each_disk(options):
        with Reverts(here, content, here.dir, results, suffix) as stage:
            # A slow disk has no part in what is read from memory.
            stage.measure(here.memory, (True,) if suffix else (True, False))
            if not suffix and not here.quick:
                stage.measure_goal()


# Each is called with the options, the guest's memory (Content) and the Results
# into which it puts what it measures. DEFAULT is what a run does that names none.
PARTS = {'save': saves, 'revert': reverts, 'read': reads, 'scale': scale,
         'small': small_writes}
DEFAULT = ('save', 'revert', 'read', 'scale')


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('parts', nargs='*', metavar='PART',
                        help=f'{", ".join(PARTS)} (default: {", ".join(DEFAULT)})')
    parser.add_argument('--memory', type=int, help='MiB of the guest that are not zero (256)')
    parser.add_argument('--runs', type=int, help='runs that count (5)')
    parser.add_argument('--quick', action='store_true',
                        help='a guest of 192 MiB and one run that counts, for a look')
    parser.add_argument('--dir', help='a folder on the disk to measure')
    parser.add_argument('--results', help='the file for all figures (results.json in the '
                        "build folder's bench)")
    parser.add_argument('--only', type=lambda names: names.split(','), default=[],
                        help=f'what `read` measures, of {",".join(peers.names())}')
    options = parser.parse_args()
    options.memory = options.memory or (192 if options.quick else 256)
    options.runs = options.runs or (1 if options.quick else 5)
    options.results = options.results or os.path.join(
        os.environ.get('SNAPFS_BUILD', 'build'), 'bench', 'results.json')
    unknown = set(options.only) - set(peers.names())
    if unknown:
        parser.error(f'no such thing to read: {", ".join(sorted(unknown))}')
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f'no such part: {", ".join(sorted(unknown))}')
    return options


def draw_pictures(results):
    """Pictures of what was measured, beside the file of figures."""
    if not shutil.which('gnuplot'):
        progress('no pictures: gnuplot is not installed (tests/needs bench)')
        return
    folder = os.path.dirname(os.path.abspath(results))
    for name, why in plots.draw(results, folder).items():
        progress(f'no picture {name}: {why}' if why else f'drawn: {folder}/{name}.svg')


def main():
    options = parse_options()
    # Ended from outside, it leaves no mount and no loop device behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    results = Results(options.results, machine())
    print(results.machine)
    with tempfile.TemporaryDirectory(prefix='snapfs-content-', dir=options.dir) as work:
        content = Content(work)
        for name in options.parts or DEFAULT:
            progress(f'part {name}')
            try:
                PARTS[name](options, content, results)
            finally:
                results.print_new()
    results.print_goals()
    progress(f'all figures are in {options.results}')
    draw_pictures(options.results)


if __name__ == '__main__':
    main()
