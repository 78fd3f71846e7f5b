#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a store costs that lies on another file system, such as CephFS, and what a disk cache saves.

One guest is saved, and reverted by the bridge with `hot`, cold: from a store on the local disk,
from a copy of it on the other file system, and from that with a disk cache that has all of it.
Where that file system's own processes are on this machine, they take its processors from the
guest; --server names one, whose time then counts.
usage: far.py --far FOLDER [--server PID ...] [--memory MiB] [--runs N] [--quick] [--dir FOLDER]
"""
import argparse
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'lib'))

from content import Content                          # noqa: E402
from figures import Results, turns, add_runs         # noqa: E402
from revert import ALL, RUNS, WORKING_SET, Reverts, bridge      # noqa: E402
from stage import Place, read_all                    # noqa: E402

NEAR, FAR, CACHED = 'local disk', 'far', 'far, disk cache warm'
PART = 'bridge, hot, cold'


class Fars(Reverts):
    """The same snapshot in several places."""

    def copy(self, name, far, *options):
        """A place whose store is a copy of the first one's, in the folder `far`."""
        store = os.path.join(far, 'store-' + name)
        shutil.copytree(self.place.mount.store_path('vm'), os.path.join(store, 'vm'))
        os.mkdir(self.path(name))
        return Place(self.path(name), store, options)

    def revert_at(self, place, hot, guest):
        """One revert from a place, cold."""
        first, self.place = self.place, place
        way = bridge(PART, place, hot)
        way.servers = lambda: [place.mount.pid, *self.options.server]
        try:
            return self.revert(way, guest, cold=True)
        finally:
            self.place = first

    def compare_places(self, guest, far):
        self.save(guest)
        hot = self.hot_bridge(guest).hot
        cached = self.copy('cached', far, f'disk-cache={self.path("disk-cache")}')
        places = {NEAR: self.place, FAR: self.copy('far', far), CACHED: cached}
        with places[FAR].mount, cached.mount:
            # Twice: a piece is added a moment after it was read.
            for _ in range(2):
                read_all(cached.ram)
                cached.remount()
            found = turns(PART, self.options, {
                name: lambda p=place: self.revert_at(p, hot, guest)
                for name, place in places.items()})
        for name, runs in found.items():
            add_runs(self.results, PART, name, runs)
        self.results.print_new()
        self.goals(found)

    def goals(self, found):
        for name, most in ((FAR, '≤ 1.3'), (CACHED, '≤ 1.05')):
            for what in (RUNS, WORKING_SET, ALL):
                self.results.goal(f'{what[0]}: {name} / {NEAR}', most,
                                  [ours[what] / near[what]
                                   for ours, near in zip(found[name], found[NEAR])])
        self.results.print_goals()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--far', required=True, help='a folder on the other file system')
    parser.add_argument('--server', type=int, action='append', default=[], metavar='PID',
                        help='a process of that file system; repeatable')
    parser.add_argument('--memory', type=int, default=256)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--dir', help='a folder on the local disk')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='snapfs-far-', dir=options.dir) as work, \
            tempfile.TemporaryDirectory(prefix='snapfs-far-', dir=options.far) as far:
        content = Content(work)
        results = Results(os.path.join(work, 'results.json'), 'far')
        with Fars(options, content, work, results, '') as stage:
            stage.compare_places(content.guest(options.memory, work=options.memory // 4), far)


if __name__ == '__main__':
    main()
