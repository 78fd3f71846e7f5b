# SPDX-License-Identifier: GPL-2.0-or-later
"""Saving, against a raw file and a sync: how long it takes, how small it is,
what it costs the processors, and what a guest's writes wait meanwhile."""
import os
import re
import resource
import subprocess

from content import packed, say_packed
from figures import Figure, in_turn, processor_seconds, ratio, say, timed
from harness import build_path
from mappedbench import mapped_saves
from stage import Stage, connect, port_args, talk, wait_idle

BACKGROUND = {'background-snapshot': True}
PRECOPY = {'background-snapshot': False}
STALLED = re.compile(r'stalled (\d+) waited (\d+)(?: p50 (\d+) p99 (\d+) max (\d+))?')
LEVEL_1 = 'level1'


def children_seconds():
    """What processes that this one has waited for used of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Saves(Stage):
    """The saves of one guest at a time, into each mount and to the disk."""
    variants = {LEVEL_1: ['level=1']}

    def __init__(self, options, content, folder, table):
        super().__init__(options, content, folder)
        self.table = table
        self.memory = options.memory

    # ---- the verb ----

    def qmp_args(self):
        """For a QEMU that the verb may talk to."""
        return ['-qmp', f'unix:{self.path("verb")},server=on,wait=off']

    def start_verb(self, place):
        return subprocess.Popen([build_path('tools', 'snapfs'), 'save', '--qmp',
                                 self.path('verb'), place.folder],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @staticmethod
    def end_verb(process):
        said = process.communicate()[0]
        if process.returncode:
            raise RuntimeError(f'snapfs save: {said}')

    def save_by_verb(self, qemu, place):
        """Seconds until `snapfs save` has returned: the snapshot is on disk."""
        self.settle(qemu.guest.memory)
        seconds = timed(lambda: self.end_verb(self.start_verb(place)))
        wait_idle(qemu)
        return seconds

    # ---- how long ----

    def compare(self, what, ways, goals):
        """Measures ways to save in turn, the raw file first. Each way is (name,
        function); the ratios to the raw file go into the table."""
        figures = [Figure(f'{what}: {name}', 's', values) for (name, _), values
                   in zip(ways, in_turn(self.runs, *[way for _, way in ways]))]
        say(*figures)
        for (name, _), figure in list(zip(ways, figures))[1:]:
            found = ratio(f'{what}: {name} / raw', figure, figures[0])
            self.table.add(f'{what}: {name}', goals.get(name, ''), found)

    def running(self):
        """A guest that goes on writing to its memory."""
        guest = self.content.guest(self.memory, touch=32, dirty=16)
        with self.boot(guest, self.qmp_args()) as qemu:
            ways = [('raw file, and synced', lambda: self.save(qemu, self.raw, BACKGROUND)),
                    ('file: into the mount',
                     lambda: self.save(qemu, self.place.stream, BACKGROUND)),
                    ('snapfs save', lambda: self.save_by_verb(qemu, self.place))]
            self.compare('background save, running guest', ways,
                         {'file: into the mount': '≤ 2.0', 'snapfs save': '≤ 1.15'})

    def stopped(self, qemu, goal):
        self.compare('save, stopped guest',
                     [('raw file, and synced', lambda: self.save(qemu, self.raw, PRECOPY)),
                      ('file: into the mount',
                       lambda: self.save(qemu, self.place.stream, PRECOPY))],
                     {'file: into the mount': goal})

    # ---- how small ----

    def size(self, qemu, goal='', goal_beside=''):
        """What a save takes on disk, and what it takes at level 1."""
        sizes = []
        for place in (self.place, self.places[LEVEL_1]):
            self.save(qemu, place.stream, PRECOPY)
            sizes.append(os.stat(place.snapshot).st_size)
            pages = packed(place.ram)[0]
        self.table.add('size: pages / snapshot', goal, f'{pages / sizes[0]:.2f}')
        self.table.add('size: snapshot / snapshot of level 1', goal_beside,
                       f'{sizes[0] / sizes[1]:.3f}')

    # ---- what it costs the processors ----

    def daemon_seconds(self, place, save):
        """What the daemon, and the verb where there is one, used for a save."""
        daemon, verb = processor_seconds(place.mount.pid), children_seconds()
        save()
        return processor_seconds(place.mount.pid) - daemon, children_seconds() - verb

    def processors(self, qemu):
        """All at level 1, as zstd itself is measured. What is left when zstd is
        subtracted may be a little too much: on processors that share a core,
        zstd too is slower while others are at work."""
        place = self.places[LEVEL_1]
        ways = [('stopped, file:', lambda: self.save(qemu, place.stream, PRECOPY)),
                ('background, file:', lambda: self.save(qemu, place.stream, BACKGROUND)),
                ('snapfs save', lambda: self.save_by_verb(qemu, place))]
        runs = in_turn(self.runs, *[lambda s=save: self.daemon_seconds(place, s)
                                    for _, save in ways])
        say_packed('the guest', place.ram)
        pages, _, alone = packed(place.ram)
        together = packed(place.ram, os.cpu_count())[2]
        gb = pages / 1e9
        print(f'zstd -1 of a GB of pages: {alone / gb:.2f} s of a processor, '
              f'{together / gb:.2f} s where all processors do the same')
        for (name, _), values in zip(ways, runs):
            say(Figure(f'daemon, a GB of pages, {name}', 's', [v[0] / gb for v in values]))
            if any(v[1] for v in values):
                say(Figure(f'the verb, a GB of pages, {name}', 's', [v[1] / gb for v in values]))
            beside = Figure(f'daemon beside zstd, a GB of pages, {name}', 's',
                            [(v[0] - alone) / gb for v in values])
            say(beside)
            self.table.add(f'{beside.name}, s', '≤ 0.8', beside)

    # ---- what a guest's writes wait ----

    def stall(self, qemu, port, begin, end):
        """(p50, p99, longest), in us, of the guest's writes that had to wait."""
        self.settle(qemu.guest.memory)
        qemu.events()
        under_way = begin()
        qemu.qmp.wait_event(lambda event: event['event'] == 'RESUME', 120)
        writes, waited, *times = STALLED.match(talk(port, b's')).groups()
        end(under_way)
        wait_idle(qemu)
        if not int(waited):
            raise RuntimeError(f'none of {writes} writes had to wait')
        return [int(waited)] + [int(ns) / 1e3 for ns in times]

    def stalls(self):
        """A guest writes to pages all over its memory as soon as a save has
        protected them."""
        guest = self.content.guest(self.memory, work=16 if self.options.quick else 32)
        path = self.path('port')
        with self.boot(guest, [*port_args(path), *self.qmp_args()], '^waiting') as qemu, \
                connect(path) as port:
            def by_qemu(stream):
                return self.stall(qemu, port,
                                  lambda: qemu.start_migrate(f'file:{stream}', BACKGROUND),
                                  lambda _: qemu.wait_migrated(900))
            ways = [('raw file', lambda: by_qemu(self.raw)),
                    ('file: into the mount', lambda: by_qemu(self.place.stream)),
                    ('snapfs save', lambda: self.stall(
                        qemu, port, lambda: self.start_verb(self.place), self.end_verb))]
            runs = in_turn(self.runs, *[way for _, way in ways])
        self.say_stalls([name for name, _ in ways], runs)

    def say_stalls(self, names, runs):
        p99 = []
        for name, values in zip(names, runs):
            for i, which in enumerate(('writes that waited', 'p50', 'p99', 'longest')):
                say(Figure(f'write stall: {name}, {which}', 'us' if i else '',
                           [value[i] for value in values]))
            p99.append(Figure(name, 'us', [value[2] for value in values]))
        for figure in p99[1:]:
            what = f'write stall, p99: {figure.name}'
            self.table.add(what, '≤ 1', ratio(f'{what} / raw', figure, p99[0]))

    # ---- all of it ----

    def measure(self):
        self.running()
        with self.boot(self.content.guest(self.memory), self.qmp_args()) as qemu:
            qemu.stop()
            self.stopped(qemu, '≤ 1.1')
            self.table.add('mapped-ram save, stopped guest, 4 channels', '≤ 1.2',
                           mapped_saves(self, qemu, 4))
            self.size(qemu, goal='≥ 1.8')
            self.processors(qemu)
        self.stalls()

    def measure_slow(self):
        """What differs where the disk is the limit."""
        with self.boot(self.content.guest(self.memory)) as qemu:
            qemu.stop()
            self.stopped(qemu, '≤ 0.6')
            self.size(qemu, goal_beside='≤ 1.03')
