#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kills, faults and load for as long as it is told, against true bytes.

Takes the kinds of fault in turn, so that each gets the same time. Prints each
loss at once, and how to try it again; at the end a line for each kind, and in
the last line how many kinds passed, failed and were skipped. A table of the
run is written to BUILD/RELIABILITY.md.
"""
import argparse
import collections
import datetime
import os
import platform
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

import truth
from damage import Damaged, Lying
from disk import Failing, Full
from hostile import Hostile
from killed import Ended, Flattened, Killed, Stopped
from load import Load
from world import World
import harness

KINDS = [Killed, Ended, Stopped, Flattened, Full, Failing, Damaged, Lying, Hostile, Load]
# A try that takes so long hangs.
HANG = 120
ALONE = 'SNAPFS_SOAK_ALONE'
LOSSES_MAX = 5      # of one kind; it is not tried any more then

PAGE = '''# Reliability

Written by `tests/run soak --write`, and to be changed by nothing else.

Each try compares every byte that it reads with what it must be, known from a seed. A loss is a wrong byte of memory; a
snapshot that was said to be saved and is not there or not whole; an old snapshot that is gone though the new save was
told as failed; a daemon that dies, hangs or takes more memory than its options allow; space or a descriptor that is not
given back.

| fault | tries | what came of them | losses |
|---|---:|---|---:|
{rows}
| **all** | **{tries}** | | **{losses}** |

{facts}
'''


class Record:
    """What came of the tries of a kind."""

    def __init__(self, kind, seed):
        self.kind, self.seed = kind, seed
        self.tries, self.spent = 0, 0.0
        self.losses, self.outcomes = [], collections.Counter()
        self.skipped = ''

    @property
    def is_over(self):
        return bool(self.skipped) or len(self.losses) >= LOSSES_MAX

    def attempt(self, number):
        """One try, whose choices its number decides."""
        began, self.tries = time.monotonic(), self.tries + 1
        rng = random.Random(f'{self.seed} {self.kind.name} {number}')
        hung = threading.Event()
        watch = threading.Timer(HANG, lambda: (hung.set(), self.kind.kill_daemon()))
        watch.start()
        try:
            self.outcomes[self.kind.attempt(rng)] += 1
        except harness.Missing as missing:
            self.skipped, self.tries = str(missing), 0
        except Exception as error:
            self.lose(number, f'the daemon hung: {error}' if hung.is_set() else
                      str(error) if isinstance(error, truth.Loss) else traceback.format_exc())
        finally:
            watch.cancel()
            self.spent += time.monotonic() - began

    def lose(self, number, sentence):
        print(f'LOSS: {self.kind.name}: {sentence}\n'
              f'again: tests/run soak --seed {self.seed} --kind {self.kind.name} --try {number}')
        if self.kind.made:
            print(''.join(f'  log: {line}\n'
                          for line in self.kind.made.mount.log().splitlines()[-10:]), end='',
                  flush=True)
        self.losses.append(sentence)
        self.close()

    def close(self):
        try:
            self.kind.close()
        except Exception:
            traceback.print_exc()

    def what_came(self):
        return ', '.join(f'{name} {count}' for name, count in self.outcomes.most_common())


def learn(work, seed):
    """Truths whose snapshots were saved and read in peace."""
    truths = truth.make(seed)
    world = World(os.path.join(work, 'peace'), truths)
    try:
        for one in truths:
            world.put('vm', one)
            one.learn(world.snaps('vm'))
    finally:
        world.close()
    return truths


def has_increments(kind, options):
    """Whether the store of a kind is mounted with increments: the seed decides."""
    return random.Random(f'{options.seed} {kind.name}').random() < 0.6


def run(records, options):
    """Tries what was tried least, until the time is over."""
    if options.attempt is not None:
        for record in records:
            record.attempt(options.attempt)
        return
    end = time.monotonic() + options.minutes * 60
    while time.monotonic() < end:
        left = [record for record in records if not record.is_over]
        if not left:
            break
        record = min(left, key=lambda one: one.spent)
        record.attempt(record.tries + 1)


def report(records):
    """A line of TAP for each kind, and a comment for each loss."""
    for number, record in enumerate(records, 1):
        print(f'{"not " if record.losses else ""}ok {number} - {record.kind.name}'
              f'{", increments" if record.kind.increments else ""}: '
              f'{record.tries} tries, {len(record.losses)} losses ({record.what_came()})' +
              (f' # SKIP {record.skipped}' if record.skipped else ''))
        for sentence in record.losses:
            print('# ' + sentence.rstrip().replace('\n', '\n# '))
    print(f'1..{len(records)}')


def page(records, options, store):
    """The text of RELIABILITY.md."""
    rows = '\n'.join(f'| {one.kind.what} | {one.tries} | {one.what_came()} | {len(one.losses)} |'
                     for one in records)
    with open(os.path.join(harness.ROOT, 'meson.build')) as file:
        version = re.search(r"version: '([^']+)'", file.read())[1]
    facts = (f'snapfs {version}, {datetime.date.today()}: {options.minutes:g} minutes on '
             f'{os.cpu_count()} processors, Linux {platform.release().split("-")[0]}, a store on '
             f'{store}; seed {options.seed}. Streams are made by the tests, without QEMU.')
    return PAGE.format(rows=rows, tries=sum(one.tries for one in records),
                       losses=sum(len(one.losses) for one in records), facts=facts)


def parse():
    names = [kind.name for kind in KINDS]
    parser = argparse.ArgumentParser(prog='tests/run soak', description=__doc__.split('\n')[0])
    parser.add_argument('minutes', nargs='?', type=float, default=10, metavar='MINUTES',
                        help='how long (10)')
    parser.add_argument('--seed', type=int, default=random.SystemRandom().randrange(1 << 32),
                        help='repeats the choices of a run; those of time stay chance')
    parser.add_argument('--kind', action='append', choices=names, help='only this; repeatable')
    parser.add_argument('--try', type=int, dest='attempt', metavar='N', help='only this try')
    parser.add_argument('--write', action='store_true', help='write tests/RELIABILITY.md as well')
    options = parser.parse_args()
    if options.write and options.kind:
        parser.error('--write tells of all kinds')
    return options


def be_alone():
    """Goes into a mount namespace of its own, as root: one that another program
    makes meanwhile would else get the mounts, and keep them."""
    if os.geteuid() == 0 and not os.environ.get(ALONE):
        os.environ[ALONE] = '1'
        os.execvp('unshare', ['unshare', '--mount', sys.executable, *sys.argv])


def main():
    options = parse()
    be_alone()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    harness.need_fuse()
    print(f'seed {options.seed}, {options.minutes:g} minutes', flush=True)
    work = tempfile.mkdtemp(prefix='snapfs-soak-', dir=os.environ.get('SNAPFS_TEST_DIR'))
    store = harness.run('findmnt', '-no', 'FSTYPE', '-T', work).stdout.strip()
    records = []
    try:
        truths = learn(work, options.seed)
        records = [Record(kind(truths, work, has_increments(kind, options)), options.seed)
                   for kind in KINDS if not options.kind or kind.name in options.kind]
        run(records, options)
    finally:
        for record in records:
            record.close()
        shutil.rmtree(work, ignore_errors=True)
    report(records)
    text = page(records, options, store)
    build = os.path.abspath(os.environ.get('SNAPFS_BUILD', 'build'))
    for folder in [build] + [os.path.join(harness.ROOT, 'tests')] * options.write:
        with open(os.path.join(folder, 'RELIABILITY.md'), 'w') as file:
            file.write(text)
    failed = sum(bool(record.losses) for record in records)
    skipped = sum(bool(record.skipped) for record in records)
    print(f'{len(records) - failed - skipped} passed, {failed} failed, {skipped} skipped')
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
