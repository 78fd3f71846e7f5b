# SPDX-License-Identifier: GPL-2.0-or-later
"""How soon a reverted guest runs, and how soon it is of use.

A guest of Linux waits on a serial port. When it runs again it is asked to go
through its working set, which is spread over its memory, and says when it has;
tests/guest/init.c says how.
"""
import os
import re
import shutil
import subprocess
import time

from figures import Figure, in_turn, processor_seconds, ratio, say
from harness import build_path, wait_until
from qemu import Qemu
from stage import Stage, connect, port_args, read_all, talk

LINE = re.compile(r'guest runs after ([\d.]+) (us|ms|s); (\d+) pages asked for'
                  r'(?:, service time p50 ([\d.]+) (us|ms|s), p99 ([\d.]+) (us|ms|s))?')
UNITS = {'us': 1, 'ms': 1000, 's': 1000000}
ENDED = ('completed', 'failed')


def microseconds(value, unit):
    return float(value) * UNITS[unit] if value else 0.0


class Said:
    """What a bridge said at its end."""

    def __init__(self, log):
        found = LINE.search(log)
        if not found:
            raise RuntimeError(f'no line of a bridge: {log[-300:]!r}')
        words = found.groups()
        self.asked = int(words[2])
        self.p50 = microseconds(words[3], words[4])
        self.p99 = microseconds(words[5], words[6])


# The one device that looks for something in memory while it is loaded: without
# it, devices can be loaded with no memory at all.
NO_TPR = ('-global', 'apic-common.vapic=off')


class Revived:
    """A QEMU that is being reverted, and the port on which its guest waits."""

    def __init__(self, guest, work, args=()):
        path = os.path.join(work, 'port')
        if os.path.exists(path):
            os.unlink(path)
        self.qemu = Qemu(guest, work, incoming=True, args=(*port_args(path), *NO_TPR, *args))
        self.path = path
        self.port = None
        self.start = None

    def __enter__(self):
        self.qemu.start()
        self.port = connect(self.path)
        return self

    def __exit__(self, *_):
        self.port.close()
        self.qemu.kill()

    def begin(self, uri, caps):
        self.qemu.set_capabilities({'events': True, **caps})
        self.qemu.set_parameters({'max-bandwidth': 0})
        self.start = time.monotonic()
        self.qemu.cmd('migrate-incoming', uri=uri)

    def since(self):
        return time.monotonic() - self.start

    def wait_runs(self):
        """Seconds from migrate-incoming until the guest's first instruction."""
        self.qemu.qmp.wait_event(lambda event: event['event'] == 'RESUME', 600)
        return self.since()

    def ask(self, what):
        """Seconds from migrate-incoming until the guest has answered."""
        talk(self.port, what)
        return self.since()

    def wait_ended(self):
        """Seconds from migrate-incoming until QEMU has all of memory."""
        event = self.qemu.qmp.wait_event(
            lambda event: event['event'] == 'MIGRATION' and event['data']['status'] in ENDED, 600)
        if event['data']['status'] != 'completed':
            raise RuntimeError(f'the revert failed: {self.qemu.log()}')
        return self.since()

    def bridge_said(self):
        wait_until(lambda: LINE.search(self.qemu.log()), 10, 'the bridge says its line')
        return Said(self.qemu.log())


def save_guest(guest, work, path):
    """Boots the guest, waits until it waits, and saves it: the seconds it then
    needs to go through its working set with all of its memory at hand."""
    port_path = os.path.join(work, 'port')
    with Qemu(guest, work, args=(*port_args(port_path), *NO_TPR)) as qemu:
        qemu.wait_serial('^waiting', timeout=900)
        with connect(port_path) as port:
            for _ in range(2):
                start = time.monotonic()
                talk(port, b'w')
            seconds = time.monotonic() - start
        qemu.migrate(f'file:{path}', timeout=600)
    return seconds


class Way:
    """One way to revert: what QEMU is started with and told. `hot` is what was
    learnt before: '' for the first time, None where it has no part."""

    def __init__(self, name, folder, uri, caps=None, args=(), hot=None, reads=None):
        self.name, self.folder, self.uri = name, folder, uri
        self.caps, self.args, self.hot, self.reads = caps or {}, args, hot, reads

    def warm(self):
        """What is read as a whole is in memory: there are kernels that drop what
        nobody has used for a few seconds."""
        if self.reads:
            read_all(self.reads)

    def prepare(self):
        path = os.path.join(self.folder, 'hot')
        if self.hot is not None and os.path.exists(path):
            os.unlink(path)
        if self.hot:
            with open(path, 'w') as file:
                file.write(self.hot)


def eager(name, path):
    return Way(name, os.path.dirname(path), f'file:{path}', reads=path)


def bridge(name, folder, hot=''):
    return Way(name, folder, f'exec:exec {build_path("tools", "snapfs-bridge")} {folder}',
               {'postcopy-ram': True}, hot=hot)


def memory_file(name, folder, guest, hot=''):
    """QEMU maps `ram` itself; the bridge gives it the rest."""
    program = build_path('tools', 'snapfs-bridge')
    backend = (f'memory-backend-file,id=pc.ram,size={guest.memory}M,mem-path={folder}/ram,'
               'share=off,readonly=on,rom=off,align=2M')
    return Way(name, folder, f'exec:exec {program} --quiet --mapped=pc.ram {folder}',
               args=('-object', backend, '-machine', 'memory-backend=pc.ram'), hot=hot)


def revive(way, guest, work):
    way.prepare()
    return Revived(guest, work, way.args)


def copy_folder(source, target):
    """`ram` and `devstate` as plain files, with their holes."""
    os.makedirs(target)
    for name in ('ram', 'devstate'):
        subprocess.run(['cp', '--sparse=always', os.path.join(source, name),
                        os.path.join(target, name)], check=True)


class Reverts(Stage):
    """Guests of several sizes, saved to a plain file and into a mount."""

    SIZES = (256, 1024, 4096)   # MiB that are not zero
    WORKING_SET = 256           # MiB, of those of 1 GiB and more
    LESSONS = 3                 # reverts from which `hot` is learnt

    def cool(self):
        self.place.cool()

    def save_all(self, guest):
        """The same guest as a plain stream, in the mount, and as plain `ram` and
        `devstate`; its folder in the mount."""
        seconds = save_guest(guest, self.work, self.raw)
        shutil.copyfile(self.raw, self.place.stream)
        copy_folder(self.place.folder, self.path('vm.plain'))
        print(f'{"working set, all memory at hand":58} {seconds:9.3f} s')
        return self.place.folder

    def forget(self):
        self.place.clear()
        shutil.rmtree(self.path('vm.plain'))
        os.unlink(self.raw)

    # ---- to the first instruction ----

    def runs_after(self, way, guest, cold):
        """Milliseconds to the first instruction, and to an answer."""
        if cold:
            self.cool()
        with revive(way, guest, self.work) as vm:
            vm.begin(way.uri, way.caps)
            runs = vm.wait_runs()
            answers = 0 if way.hot is None else vm.ask(b'p')
            return runs * 1e3, answers * 1e3

    def at_once(self, folder, guest):
        """The medians of one size: {(way, cold): milliseconds}."""
        devstate = self.path('vm.plain', 'devstate')
        medians = {}
        for cold in (True, False):
            ways = [eager('devices alone', devstate), bridge('bridge', folder),
                    memory_file('memory file', folder, guest)]
            values = in_turn(self.runs, *[lambda w=w: self.runs_after(w, guest, cold)
                                          for w in ways])
            for way, pairs in zip(ways, values):
                name = f'{"cold" if cold else "warm"}: {way.name}'
                runs = Figure(f'{name}: runs after', 'ms', [pair[0] for pair in pairs])
                say(runs)
                if way.hot is not None:
                    say(Figure(f'{name}: answers after', 'ms', [pair[1] for pair in pairs]))
                medians[way.name, cold] = runs.median()
        return medians

    @staticmethod
    def flat(sizes):
        """Compares the medians of all sizes."""
        for way in ('bridge', 'memory file'):
            for cold in (True, False):
                state = 'cold' if cold else 'warm'
                all_sizes = [medians[way, cold] for medians in sizes]
                above = max(medians[way, cold] - medians['devices alone', cold]
                            for medians in sizes)
                print(f'{f"{way}, {state}: slowest size / fastest":58} '
                      f'{max(all_sizes) / min(all_sizes):9.2f} x')
                print(f'{f"{way}, {state}: above the devices alone, at most":58} '
                      f'{above:9.3f} ms')

    # ---- to being of use ----

    def useful_after(self, way, guest, cold, to_the_end=False):
        """Seconds until the guest has gone through its working set."""
        if cold:
            self.cool()
        else:
            way.warm()
        with revive(way, guest, self.work) as vm:
            vm.begin(way.uri, way.caps)
            vm.wait_runs()
            seconds = vm.ask(b'w')
            if to_the_end:
                vm.wait_ended()
        # What the mount learns it may write a moment later.
        time.sleep(0.3)
        return seconds

    def learnt(self, way, guest):
        """`hot` after a few reverts."""
        way.prepare()
        path = os.path.join(way.folder, 'hot')
        for _ in range(self.LESSONS):
            self.useful_after(way, guest, True, to_the_end=True)
            self.cool()
            with open(path) as file:
                way.hot = file.read()
        return way.hot

    def useful(self, folder, guest):
        asked = self.learnt(bridge('', folder), guest)
        touched = self.learnt(memory_file('', folder, guest), guest)
        ways = [eager('eager, raw file', self.raw),
                eager('eager, mount', os.path.join(folder, 'stream')),
                bridge('bridge, first time', folder), bridge('bridge, hot', folder, asked),
                memory_file('memory file, first time', folder, guest),
                memory_file('memory file, hot', folder, guest, touched)]
        # One after the other: in turn with the others, it is slower where a host
        # takes back what a virtual machine has freed meanwhile.
        (times,) = in_turn(self.runs, lambda: self.useful_after(ways[0], guest, False))
        goal = Figure('working set done, warm: eager, raw file, time after time', 's', times)
        say(goal)
        for cold in (False, True):
            state = 'cold' if cold else 'warm'
            values = in_turn(self.runs, *[lambda w=w: self.useful_after(w, guest, cold)
                                          for w in ways])
            for way, times in zip(ways, values):
                figure = Figure(f'working set done, {state}: {way.name}', 's', times)
                say(figure)
                if cold and way.hot:
                    ratio(f'{way.name}, cold / eager raw file, time after time', figure, goal)

    # ---- while the rest is read ----

    def drained_after(self, way, guest, cold, busy):
        """(seconds until all of memory is there, what the bridge said, seconds
        of a processor that QEMU used)"""
        if cold:
            self.cool()
        else:
            way.warm()
        with revive(way, guest, self.work) as vm:
            before = processor_seconds(vm.qemu.process.pid)
            vm.begin(way.uri, way.caps)
            if busy:
                vm.wait_runs()
                vm.ask(b'w')
            seconds = vm.wait_ended()
            return (seconds, vm.bridge_said() if way.hot is not None else None,
                    processor_seconds(vm.qemu.process.pid) - before)

    def service(self, folder, guest):
        """What a page that is asked for waits, while all else is read."""
        for cold in (True, False):
            for name, path in (('mount', folder), ('plain copy', self.path('vm.plain'))):
                way = bridge(name, path)
                (runs,) = in_turn(self.runs,
                                  lambda: self.drained_after(way, guest, cold, True)[1])
                state = f'asked for, {"cold" if cold else "warm"}: {name}'
                say(Figure(f'{state}: pages', '', [run.asked for run in runs]))
                p50 = Figure(f'{state}: p50', 'us', [run.p50 for run in runs])
                p99 = Figure(f'{state}: p99', 'us', [run.p99 for run in runs])
                say(p50, p99)
                ratio(f'{state}: p99 / p50', p99, p50)

    def drain(self, folder, guest):
        for cold in (True, False):
            ways = [eager('eager, mount', os.path.join(folder, 'stream')),
                    bridge('bridge, mount', folder)]
            values = in_turn(self.runs, *[
                lambda w=w: self.drained_after(w, guest, cold, False) for w in ways])
            state = 'cold' if cold else 'warm'
            figures = []
            for way, runs in zip(ways, values):
                name = f'all of memory, {state}: {way.name}'
                figures.append(Figure(name, 's', [run[0] for run in runs]))
                say(figures[-1], Figure(f'{name}: of it, QEMU\'s processor time', 's',
                                        [run[2] for run in runs]))
            ratio(f'all of memory, {state}: bridge / eager', figures[1], figures[0])

    def measure(self):
        medians = []
        for mib in self.SIZES[:2] if self.options.quick else self.SIZES:
            print(f'-- {mib / 1024:g} GiB')
            large = mib >= 1024
            guest = self.content.guest(mib, work=self.WORKING_SET if large else 16)
            folder = self.save_all(guest)
            medians.append(self.at_once(folder, guest))
            if large:
                self.useful(folder, guest)
            if mib == 1024:
                self.drain(folder, guest)
                self.service(folder, guest)
            self.forget()
        self.flat(medians)
