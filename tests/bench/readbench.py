# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the memory of a guest, in order and at random, from a snapshot and
from what a user would pick instead."""
import os
import shutil
import statistics
import subprocess
import tempfile

import memory
import peers
from content import packed
from figures import processor_seconds, progress
from harness import build_path, die_with_parent, run

MIB = 1 << 20
PAGE = 4096
ONE_IN = 256            # pages is read at random, so that few lie near another
LEAST = 250             # reads at random
MANY = 4                # readers at once
CURVE_POINTS = 200


def reader(*words):
    """What tests/bench/reader prints, as numbers."""
    done = run(build_path('tests', 'bench', 'reader'), *words, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(word) if '.' in word else int(word) for word in done.stdout.split()]


def machine_seconds():
    """What all processors have worked so far."""
    with open('/proc/stat') as file:
        user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf('SC_CLK_TCK')


class Used:
    """What is used of the processors while it is entered: by the process that
    serves the peer, if one does, and by the whole machine."""

    def __init__(self, peer):
        self.peer = peer

    def read(self):
        pid = self.peer.pid()
        return machine_seconds(), processor_seconds(pid) if pid else 0

    def __enter__(self):
        self.before = self.read()
        return self

    def __exit__(self, *_):
        self.machine, self.server = (b - a for a, b in zip(self.before, self.read()))


class Round:
    """All reads of one peer, once. `found` has what they took: {(column, unit):
    value}; `times` the time of each cold read at random, in microseconds."""

    def __init__(self, peer, source, number):
        self.peer, self.source, self.number = peer, source, number
        self.reads = max(os.stat(source).st_blocks * 512 // PAGE // ONE_IN, LEAST)
        self.found, self.times = {}, []

    def random(self, *words):
        """Reads at random, from a cold file; (IOPS, p50, p99)."""
        self.peer.cool()
        return self.random_again(*words)

    def random_again(self, *words):
        return reader('random', '-n', self.reads, '-s', self.number, '-p', self.source, *words,
                      self.peer.path)[3:6]

    def check(self):
        """The sums of what is read, and nothing else; the file is in use once."""
        self.peer.cool()
        random = reader('random', '-n', self.reads, '-p', self.source, self.peer.path)
        return random[2], reader('order', '-c', self.peer.path)[2]

    def in_order(self):
        self.peer.cool()
        with Used(self.peer) as used:
            size, seconds, _ = reader('order', self.peer.path)
        self.found['in order, cold', 's'] = seconds
        self.found['in order, cold, speed', 'MB/s'] = size / seconds / 1e6
        self.found['in order, cold: machine', 's of processor'] = used.machine
        if self.peer.pid():
            self.found['in order, cold: server', 's of processor'] = used.server
        self.found['in order, warm', 's'] = reader('order', self.peer.path)[1]

    def at_random(self):
        _, p50, p99 = self.random_again()
        self.found['random, warm, p50', 'us'] = p50
        self.found['random, warm, p99', 'us'] = p99
        with tempfile.NamedTemporaryFile('r') as times:
            iops, p50, p99 = self.random('-o', times.name)
            self.times = [int(line) / 1e3 for line in times]
        self.found['random, p50', 'us'] = p50
        self.found['random, p99', 'us'] = p99
        self.found['random, reads', '/s'] = iops
        iops, p50, p99 = self.random('-j', MANY)
        self.found[f'random, {MANY} readers, p50', 'us'] = p50
        self.found[f'random, {MANY} readers, p99', 'us'] = p99
        self.found[f'random, {MANY} readers, reads', '/s'] = iops
        _, p50, p99 = self.random('-m')
        self.found['page faults, p50', 'us'] = p50
        self.found['page faults, p99', 'us'] = p99

    def beside_order(self):
        """Reads in the lower half while another process reads the upper half
        in order, over and over."""
        size = os.stat(self.source).st_size
        self.peer.cool()
        command = [build_path('tests', 'bench', 'reader'), 'order', '-l', '-r',
                   f'{size // 2}:{size}', self.peer.path]
        with subprocess.Popen(command, preexec_fn=die_with_parent) as other:
            _, p50, p99 = self.random_again('-r', f'0:{size // 2}')
            other.kill()
        self.found['random beside a reader in order, p50', 'us'] = p50
        self.found['random beside a reader in order, p99', 'us'] = p99

    def measure(self):
        self.in_order()
        self.at_random()
        self.beside_order()
        peak = self.peer.peak()
        if peak:
            self.found['memory of the server, peak', 'MB'] = peak / 1e6
        return self


class Reads:
    """The peers on one disk. `suffix` tells its part of the results from that of
    another disk."""

    def __init__(self, options, content, folder, results, suffix=''):
        self.options, self.content, self.results = options, content, results
        self.part = f'read{suffix}'
        self.work = tempfile.mkdtemp(prefix='snapfs-read-', dir=folder)
        self.source = os.path.join(self.work, 'memory')
        self.rounds = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.work, ignore_errors=True)

    def make_memory(self):
        memory.make(self.content.path, self.source, self.options.memory * 4 * MIB)
        pages, small, _ = packed(self.source)
        progress(f'the memory: {os.stat(self.source).st_size / MIB:.0f} MiB, of which '
                 f'{pages / 1e6:.0f} MB are not zero; zstd -1 on 64 KiB makes them '
                 f'{pages / small:.2f} times smaller')

    def check(self, all_peers):
        """One round that does not count: all peers hold the same."""
        sums = {peer.name: Round(peer, self.source, 0).check() for peer in all_peers}
        if len(set(sums.values())) > 1:
            raise RuntimeError(f'what was read differs: {sums}')

    def run(self, all_peers):
        self.check(all_peers)
        for number in range(1, self.options.runs + 1):
            progress(f'{self.part}: run {number} of {self.options.runs}')
            for peer in all_peers:
                done = Round(peer, self.source, number).measure()
                self.rounds.setdefault(peer, []).append(done)

    def values(self, peer, column, unit):
        return [one.found[column, unit] for one in self.rounds[peer]]

    def add_results(self):
        for peer, rounds in self.rounds.items():
            self.results.add(self.part, peer.name, 'on disk', 'MB', peer.size() / 1e6)
            for column, unit in rounds[0].found:
                self.results.add(self.part, peer.name, column, unit,
                                 self.values(peer, column, unit))
            times = sorted(time for one in rounds for time in one.times)
            points = [(i + 0.5) / CURVE_POINTS for i in range(CURVE_POINTS)]
            self.results.curve(self.part, peer.name, 'us',
                               [[times[int(at * len(times))], at] for at in points])

    # ---- what was to be reached ----

    def compare(self, what, column, unit, better=min):
        """A goal: snapfs against the best of what compresses as well."""
        ours = next((peer for peer in self.rounds if isinstance(peer, peers.Snapfs)), None)
        others = [peer for peer in self.rounds if peer.compressed and peer is not ours]
        if not ours or not others:
            return
        best = better(others, key=lambda peer: statistics.median(self.values(peer, column, unit)))
        self.results.goal(f'{what}: snapfs / {best.name}, the best of the others', '< 1',
                          self.ratios(ours, best, column, unit))

    def ratios(self, one, other, column, unit):
        return [a / b for a, b in zip(self.values(one, column, unit),
                                      self.values(other, column, unit))]

    def add_goals(self):
        for readers, name in (('', 'one reader'), (f', {MANY} readers', f'{MANY} readers')):
            for which in ('p50', 'p99'):
                self.compare(f'4 KiB at random, cold, {name}, {which}',
                             f'random{readers}, {which}', 'us')
        self.compare('in order, cold', 'in order, cold', 's')

    def measure(self):
        """Everything, into the results."""
        self.make_memory()
        kinds = peers.chosen(self.options.only)
        def leave_out(name, why):
            self.results.leave_out(self.part, name, why)
        with peers.made(kinds, self.source, self.work, leave_out) as all_peers:
            self.run(all_peers)
            self.add_results()
        self.add_goals()
