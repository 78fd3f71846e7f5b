# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the memory of a guest, in order and at random, from a snapshot and
from what a user would pick instead."""
import mmap
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
WARM = 256 * MIB        # are in the page cache when reads are warm
NEEDED = 256 * MIB      # of memory, at most, for what is read cold
MANY = 4                # readers at once
CURVE_POINTS = 200

# The tables of the results.
ORDER = 'reads in order'
RANDOM = 'reads of 4 KiB at random, cold'
OTHER = 'reads of 4 KiB at random, otherwise'
COST = 'what reads in order cost'
TABLES = [ORDER, RANDOM, OTHER, COST]


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


def touch(size):
    """So many bytes of memory are free that the machine really has. One that is
    virtual may have given back to its host what was free for a while, and who
    reads into it then waits for the host."""
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def unpacked(path):
    """What zstd alone takes to decompress the frames of a snapshot: seconds of
    a processor for a GB of pages."""
    done = run(build_path('tests', 'bench', 'extents'), '-d', path, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    pages, _, seconds = done.stdout.split()
    return float(seconds) / int(pages) * 1e9


def distribution(rounds):
    """[microseconds, share of the reads that took at most so long] of all rounds."""
    times = sorted(time for one in rounds for time in one.times)
    shares = [(i + 0.5) / CURVE_POINTS for i in range(CURVE_POINTS)]
    return [[times[int(share * len(times))], share] for share in shares]


class Round:
    """All reads of one peer, once. `found` has what they took: {(table, column):
    (unit, value)}; `times` the time of each cold read at random by one reader,
    in microseconds."""

    def __init__(self, peer, source, number):
        self.peer, self.source, self.number = peer, source, number
        self.size = os.stat(source).st_size
        self.pages = os.stat(source).st_blocks * 512 // PAGE
        self.reads = max(self.pages // ONE_IN, LEAST)
        self.found, self.times = {}, []

    def add(self, table, column, unit, value):
        self.found[table, column] = unit, value

    def random(self, *words):
        """Reads at random; (reads a second, p50, p99)."""
        return reader('random', '-n', self.reads, '-s', self.number, '-p', self.source, *words,
                      self.peer.path)[3:6]

    def cool(self, size):
        """Nothing of the file is in memory, and there is room for `size` bytes
        of it."""
        self.peer.cool()
        touch(size)

    def sums(self):
        """Sums of what is read in both ways."""
        self.peer.cool()
        return (reader('random', '-n', self.reads, '-p', self.source, self.peer.path)[2],
                reader('order', '-c', '-d', self.peer.path)[2])

    def in_order(self):
        self.cool(NEEDED)
        with Used(self.peer) as used:
            seconds = reader('order', '-d', self.peer.path)[1]
        self.add(ORDER, 'cold', 's', seconds)
        self.add(ORDER, 'cold, speed', 'MB/s', self.size / seconds / 1e6)
        self.add(COST, 'all processors', 's', used.machine)
        if self.peer.pid():
            self.add(COST, 'the server', 's', used.server)
            self.add(COST, 'the server, a GB of pages', 's',
                     used.server / (self.pages * PAGE / 1e9))
            self.add(COST, 'memory of the server, peak', 'MB', self.peer.peak() / 1e6)

    def warm(self):
        """Of a part of the file that is in the page cache."""
        part = ('-r', f'0:{min(WARM, self.size)}')
        reader('order', *part, self.peer.path)
        size, seconds, _ = reader('order', *part, self.peer.path)
        self.add(ORDER, 'warm, speed', 'MB/s', size / seconds / 1e6)
        self.add_other('warm', self.random(*part))

    def at_random(self):
        """Of one reader, and of several at once."""
        for name, words in (('one reader', ()), (f'{MANY} readers', ('-j', MANY))):
            self.cool(NEEDED)
            with tempfile.NamedTemporaryFile('r') as times:
                speed, p50, p99 = self.random(*words, '-o', times.name)
                if not words:
                    self.times = [int(line) / 1e3 for line in times]
            self.add(RANDOM, f'{name}, p50', 'us', p50)
            self.add(RANDOM, f'{name}, p99', 'us', p99)
            self.add(RANDOM, f'{name}, reads', '/s', speed)

    def add_other(self, name, found):
        _, p50, p99 = found
        self.add(OTHER, f'{name}, p50', 'us', p50)
        self.add(OTHER, f'{name}, p99', 'us', p99)

    def mapped(self):
        self.cool(NEEDED)
        self.add_other('page faults, cold', self.random('-m'))

    def beside_order(self):
        """Cold reads in the lower half while another process reads the upper
        half in order, over and over."""
        self.cool(NEEDED)
        command = [build_path('tests', 'bench', 'reader'), 'order', '-d', '-l', '-r',
                   f'{self.size // 2}:{self.size}', self.peer.path]
        with subprocess.Popen(command, preexec_fn=die_with_parent) as other:
            found = self.random('-r', f'0:{self.size // 2}')
            other.kill()
        self.add_other('cold, beside a reader in order', found)

    def measure(self, brief):
        self.in_order()
        if not brief:
            self.warm()
        self.at_random()
        if not brief:
            self.mapped()
            self.beside_order()
        return self


class Reads:
    """The peers on one disk. A slow disk has a suffix, which its tables' names
    end in, and only what differs there is measured."""

    def __init__(self, options, content, folder, results, suffix=''):
        self.options, self.content, self.results = options, content, results
        self.suffix = suffix
        self.work = tempfile.mkdtemp(prefix='snapfs-read-', dir=folder)
        self.source = os.path.join(self.work, 'memory')
        self.rounds, self.zstd = {}, []

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

    def leave_out(self, name, why):
        self.results.leave_out(ORDER + self.suffix, name, why)

    def check(self, all_peers):
        """A round that does not count: all peers hold the same."""
        sums = {peer.name: Round(peer, self.source, 0).sums() for peer in all_peers}
        if len(set(sums.values())) > 1:
            raise RuntimeError(f'not all read the same: {sums}')

    def run(self, all_peers):
        progress('a run that does not count')
        self.check(all_peers)
        self.rounds = {peer: [] for peer in all_peers}
        for number in range(1, self.options.runs + 1):
            progress(f'run {number} of {self.options.runs}')
            for peer in all_peers:
                self.rounds[peer].append(
                    Round(peer, self.source, number).measure(bool(self.suffix)))
                if isinstance(peer, peers.Snapfs):
                    self.zstd.append(unpacked(peer.image))

    # ---- the tables ----

    def values(self, peer, table, column):
        return [one.found[table, column][1] for one in self.rounds[peer]]

    def add_results(self):
        for peer, rounds in self.rounds.items():
            self.results.add(ORDER + self.suffix, peer.name, 'on disk', 'MB', peer.size() / 1e6)
            for table, column in sorted(rounds[0].found, key=lambda at: TABLES.index(at[0])):
                self.results.add(table + self.suffix, peer.name, column,
                                 rounds[0].found[table, column][0],
                                 self.values(peer, table, column))
            self.results.curve(RANDOM + self.suffix, peer.name, 'us', distribution(rounds))
        if self.zstd:
            self.results.add(COST + self.suffix, 'zstd alone, of the frames of snapfs',
                             'the server, a GB of pages', 's', self.zstd)

    # ---- what was to be reached ----

    def snapfs(self):
        return next((peer for peer in self.rounds if isinstance(peer, peers.Snapfs)), None)

    def others(self):
        """Those that compress as well."""
        return [peer for peer in self.rounds
                if peer.compressed and not isinstance(peer, peers.Snapfs)]

    def ratios(self, other, table, column):
        return [a / b for a, b in zip(self.values(self.snapfs(), table, column),
                                      self.values(other, table, column))]

    def goal(self, what, goal, values):
        self.results.goal(what + self.suffix, goal, values)

    def beats_all(self, what, table, column):
        """Snapfs against the best of what compresses as well."""
        if not self.others():
            return
        best = min(self.others(),
                   key=lambda peer: statistics.median(self.values(peer, table, column)))
        self.goal(f'{what}: snapfs / the best other ({best.name})', '< 1',
                  self.ratios(best, table, column))

    def beats_raw(self):
        for peer in self.rounds:
            if isinstance(peer, peers.Raw):
                self.goal('in order, cold: snapfs / raw', '≤ 1' if self.suffix else '',
                          self.ratios(peer, ORDER, 'cold'))

    def add_goals(self):
        if not self.snapfs():
            return      # --only
        for readers in ('one reader', f'{MANY} readers'):
            for which in ('p50', 'p99'):
                self.beats_all(f'4 KiB at random, cold, {readers}, {which}', RANDOM,
                               f'{readers}, {which}')
        self.beats_all('in order, cold', ORDER, 'cold')
        self.beats_raw()
        if self.suffix:
            return
        ours = self.values(self.snapfs(), COST, 'the server, a GB of pages')
        self.goal("processor time in order: snapfs / zstd's own decompression", '≤ 1.3',
                  [a / b for a, b in zip(ours, self.zstd)])
        self.disturbed(self.snapfs(), '≤ 2')
        for peer in self.rounds:    # what the disk and the processors do to it
            if isinstance(peer, peers.Raw):
                self.disturbed(peer, '')

    def disturbed(self, peer, goal):
        beside = self.values(peer, OTHER, 'cold, beside a reader in order, p99')
        alone = self.values(peer, RANDOM, 'one reader, p99')
        self.goal(f'4 KiB at random, p99, {peer.name}: beside a reader in order / without', goal,
                  [a / b for a, b in zip(beside, alone)])

    def measure(self):
        """Everything, into the results."""
        self.make_memory()
        kinds = peers.chosen(self.options.only)
        with peers.made(kinds, self.source, self.work, self.leave_out) as all_peers:
            self.run(all_peers)
            self.add_results()
        self.add_goals()
