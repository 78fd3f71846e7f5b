#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints what snapfs costs and gives, against plain files on the same disk.

Every figure is the median of five counted runs (a first one is thrown away),
with its least and greatest; what is compared is measured in turn, so that a
machine whose speed drifts treats both alike. README.md beside this file says
how to read the figures.

  open    opening a snapshot file
  small   one small write, into the mount and elsewhere
  save    saving; ends with a table of what was to be reached
  read    eager reverts and plain reads
  revert  reverting at once
  mapped  mapped-ram
  slow    `read` on a slow disk

A slow disk is a loop device that is held to the 500 and 450 MB/s of a SATA
disk, for a machine whose own disk is faster than its processors compress.

usage: bench.py [PART]... [--memory MiB] [--runs N] [--quick] [--dir FOLDER]
"""
import argparse
import os
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'lib'))

from content import Content                          # noqa: E402
from figures import Table                            # noqa: E402
from harness import build_path, run                  # noqa: E402
from mappedbench import Mapped                       # noqa: E402
from readbench import Reads                          # noqa: E402
from revert import Reverts                           # noqa: E402
from savebench import Saves                          # noqa: E402
from stage import SlowDisk, Stage                    # noqa: E402


def title(text):
    print(f'\n-- {text}', flush=True)


def machine():
    """What the figures were measured on."""
    model = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo')
                  if line.startswith('model name')), 'unknown')
    qemu = run('qemu-system-x86_64', '--version').stdout.split('\n')[0]
    print(f'{os.cpu_count()} x {model}, Linux {os.uname().release}, {qemu}')


def open_cost(*_):
    sys.stdout.write(run(build_path('tests', 'bench', 'open-cost'), timeout=600).stdout)


def small_writes(options, content):
    title('small writes')
    with Stage(options, content, options.dir) as stage:
        plain = stage.path('plain')
        os.mkdir(plain)
        subprocess.run([build_path('tests', 'bench', 'small-writes'), '-r', str(options.runs),
                        content.path, stage.place.folder, plain], check=True)


def on_slow_disk(options, measure):
    """Calls measure(folder) with a folder on a slow disk, where there can be one."""
    reason = SlowDisk.missing()
    if reason:
        title(f'no slow disk: {reason}')
        return
    with SlowDisk(options.dir) as disk:
        title(f'a disk held to {SlowDisk.SPEEDS["read"]} MB/s read, '
              f'{SlowDisk.SPEEDS["write"]} MB/s written')
        measure(disk.path)


def saves(options, content):
    table = Table()

    def slow(folder):
        with Saves(options, content, folder, table) as stage:
            table.add('on the slow disk:', '', '')
            stage.measure_slow()
    title('saving')
    with Saves(options, content, options.dir, table) as stage:
        stage.measure()
    on_slow_disk(options, slow)
    table.print()


def measured(stage_class, options, content, folder):
    with stage_class(options, content, folder) as stage:
        stage.measure()


def reads(options, content):
    title('reading')
    measured(Reads, options, content, options.dir)


def slow_reads(options, content):
    on_slow_disk(options, lambda folder: measured(Reads, options, content, folder))


def reverts(options, content):
    title('reverting at once')
    measured(Reverts, options, content, options.dir)


def mapped(options, content):
    title('mapped-ram')
    measured(Mapped, options, content, options.dir)


PARTS = {'open': open_cost, 'small': small_writes, 'save': saves, 'read': reads,
         'revert': reverts, 'mapped': mapped, 'slow': slow_reads}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('parts', nargs='*', metavar='PART',
                        help=f'{", ".join(PARTS)} (default: all)')
    parser.add_argument('--memory', type=int, help='MiB of the guest that are not zero (1024)')
    parser.add_argument('--runs', type=int, help='runs that count (5)')
    parser.add_argument('--quick', action='store_true',
                        help='a guest of 256 MiB and one run that counts, for a look')
    parser.add_argument('--dir', help='a folder on the disk to measure')
    options = parser.parse_args()
    options.memory = options.memory or (256 if options.quick else 1024)
    options.runs = options.runs or (1 if options.quick else 5)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f'no such part: {", ".join(sorted(unknown))}')
    # Ended from outside, it leaves no mount and no loop device behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    machine()
    with tempfile.TemporaryDirectory(prefix='snapfs-content-', dir=options.dir) as work:
        content = Content(work)
        for name in options.parts or PARTS:
            PARTS[name](options, content)


if __name__ == '__main__':
    main()
