# SPDX-License-Identifier: GPL-2.0-or-later
"""How soon a reverted guest runs, is of use, and has all of its memory.

A guest of Linux waits on a serial port. When it runs again it is asked to go
through its working set, which is spread over its memory, and says when it has;
tests/guest/init.c says how. All times count from the command that begins the
revert to a QEMU that has been started already.
"""
import os
import re
import shutil
import subprocess
import time

import qcow2
from content import say_packed
from figures import add_runs, progress, turns
from harness import Missing, build_path, need_program, wait_until
from meter import Meter
from qemu import Qemu
from savebench import MAPPED, OUR_FILE, OUR_MAPPED, RAW, mapped_ram
from stage import Stage, connect, fresh_memory, port_args, read_all, talk

LINE = re.compile(r'guest runs after .*; (\d+) pages asked for'
                  r'(?:, service time p50 ([\d.]+) (us|ms|s), p99 ([\d.]+) (us|ms|s))?')
UNITS = {'us': 1, 'ms': 1000, 's': 1000000}
ENDED = ('completed', 'failed')
# Rows of the tables that are not among those of saves.
ZSTD, QCOW2 = 'exec:zstd -dc', 'qcow2 snapshot-load'
BRIDGE, BRIDGE_HOT = 'snapfs bridge', 'snapfs bridge, hot'
MEMORY_FILE, MEMORY_FILE_HOT = 'snapfs memory file', 'snapfs memory file, hot'
# Columns, and their units.
RUNS, WORKING_SET, ALL = ('runs', 's'), ('working set in', 's'), ('all memory in', 's')
GOAL_MEMORY = 1024      # MiB of the guest of the goal


class Way:
    """One way to revert: what QEMU is started with and told. `hot` is what was
    learnt before: '' for the first time, None where it has no part."""

    def __init__(self, name, file, uri=None, caps=(None, None), args=(), place=None, hot=None):
        self.name, self.file, self.uri = name, file, uri
        self.caps, self.args, self.place, self.hot = caps, args, place, hot

    def hot_path(self):
        return os.path.join(os.path.dirname(self.file), 'hot')

    def prepare(self):
        if self.hot is not None and os.path.exists(self.hot_path()):
            os.unlink(self.hot_path())
        if self.hot:
            with open(self.hot_path(), 'w') as file:
                file.write(self.hot)

    def servers(self):
        return [self.place.mount.pid] if self.place else []


def eager(name, path, place=None, caps=(None, None)):
    return Way(name, path, f'file:{path}', caps, place=place)


def bridge(name, place, hot=''):
    return Way(name, place.ram, f'exec:exec {build_path("tools", "snapfs-bridge")} {place.folder}',
               ({'postcopy-ram': True}, None), place=place, hot=hot)


def memory_file(name, place, guest, hot=''):
    """QEMU maps `ram` itself; the bridge gives it the rest."""
    program = build_path('tools', 'snapfs-bridge')
    backend = (f'memory-backend-file,id=pc.ram,size={guest.memory}M,mem-path={place.ram},'
               'share=off,readonly=on,rom=off,align=2M')
    return Way(name, place.ram, f'exec:exec {program} --quiet --mapped=pc.ram {place.folder}',
               args=('-object', backend, '-machine', 'memory-backend=pc.ram'), place=place,
               hot=hot)


class Revived:
    """A QEMU that is being reverted, and the port on which its guest waits."""

    def __init__(self, way, guest, work):
        self.way, self.path = way, os.path.join(work, 'port')
        if os.path.exists(self.path):
            os.unlink(self.path)
        job = way.uri is None
        self.qemu = Qemu(guest, work, incoming=not job, stopped=job,
                         args=(*port_args(self.path), *way.args))
        self.port = None
        self.start = None

    def __enter__(self):
        self.qemu.start()
        self.port = connect(self.path)
        if self.way.uri is None:
            qcow2.plug(self.qemu, self.way.file)
        else:
            caps, params = self.way.caps
            self.qemu.set_capabilities({'events': True, **(caps or {})})
            self.qemu.set_parameters({'max-bandwidth': 0, **(params or {})})
        return self

    def __exit__(self, *_):
        self.port.close()
        self.qemu.kill()

    def begin(self):
        self.start = time.time()
        if self.way.uri is None:
            qcow2.run_job(self.qemu, 'snapshot-load')
            self.qemu.cont()
        else:
            self.qemu.cmd('migrate-incoming', uri=self.way.uri)

    def wait(self, matches):
        """Seconds from the beginning to an event, by QEMU's own clock, and the
        event."""
        event = self.qemu.qmp.wait_event(matches, 600)
        stamp = event['timestamp']
        return stamp['seconds'] + stamp['microseconds'] / 1e6 - self.start, event

    def wait_runs(self):
        return self.wait(lambda event: event['event'] == 'RESUME')[0]

    def wait_all(self):
        """Seconds until QEMU has all of memory."""
        seconds, event = self.wait(lambda event: event['event'] == 'MIGRATION' and
                                   event['data']['status'] in ENDED)
        if event['data']['status'] != 'completed':
            raise RuntimeError(f'the revert failed: {self.qemu.log()}')
        return seconds

    def work(self):
        """Seconds until the guest has gone through its working set."""
        talk(self.port, b'w')
        return time.time() - self.start

    def asked(self):
        """What the bridge says of pages that were asked for."""
        wait_until(lambda: LINE.search(self.qemu.log()), 10, 'the bridge says its line')
        pages, *times = LINE.search(self.qemu.log()).groups()
        found = {('pages asked for', ''): int(pages)}
        for which, value, unit in zip(('p50', 'p99'), times[::2], times[1::2]):
            if value:
                found[f'wait for one, {which}', 'us'] = float(value) * UNITS[unit]
        return found


class Reverts(Stage):
    """One guest at a time, saved in every way there is, and reverted."""

    def __init__(self, options, content, folder, results, suffix):
        super().__init__(options, content, folder)
        self.results, self.suffix = results, suffix
        self.missing = {}       # {way: why it is left out}

    # ---- saved ----

    def have(self, name, program):
        try:
            return need_program(program)
        except Missing as missing:
            self.missing[name] = str(missing)
            return None

    def save(self, guest, also=lambda qemu: None):
        """The guest as a raw file and in the mount; `also` saves it elsewhere."""
        progress(f'revert{self.suffix}: a guest boots')
        self.place.clear()
        with self.boot(guest, port_args(self.path('port')), '^waiting') as qemu:
            also(qemu)
            qemu.migrate(f'file:{self.raw}', timeout=600)
        shutil.copyfile(self.raw, self.place.stream)
        say_packed('the guest', self.place.ram)

    def save_elsewhere(self, qemu):
        if self.have(QCOW2, 'qemu-img'):
            qcow2.make_disk(self.path('qcow2'))
            qcow2.plug(qemu, self.path('qcow2'))
            qcow2.run_job(qemu, 'snapshot-save')
            qcow2.unplug(qemu)
        qemu.migrate(f'file:{self.path("mapped")}', *mapped_ram(), timeout=600)
        qemu.cont()

    def save_all(self, guest):
        """The same guest in every form."""
        self.save(guest, self.save_elsewhere)
        if self.have(ZSTD, 'zstd'):
            subprocess.run(['zstd', '-1', '-q', self.raw, '-o', self.path('raw.zst')], check=True)

    def ways(self, guest):
        place = self.place
        zst = self.path('raw.zst')
        all_ways = [
            eager(RAW, self.raw), eager(MAPPED, self.path('mapped'), caps=mapped_ram()),
            Way(ZSTD, zst, f'exec:exec zstd -dcq {zst}'),
            Way(QCOW2, self.path('qcow2')),
            eager(OUR_FILE, place.stream, place),
            eager(OUR_MAPPED, place.mount.path('vm', 'mapped'), place, mapped_ram()),
            bridge(BRIDGE, place), self.hot_bridge(guest),
            memory_file(MEMORY_FILE, place, guest),
            memory_file(MEMORY_FILE_HOT, place, guest,
                        self.learnt(memory_file('', place, guest), guest))]
        return [way for way in all_ways if os.path.exists(way.file)]

    def hot_bridge(self, guest):
        return bridge(BRIDGE_HOT, self.place, self.learnt(bridge('', self.place), guest))

    def learnt(self, way, guest):
        """`hot` after a few reverts."""
        progress(f'revert{self.suffix}: the mount learns')
        for _ in range(1 if self.options.quick else 3):
            self.revert(way, guest, cold=True)
            # What the mount learns it may write a moment later.
            time.sleep(0.3)
            self.place.cool()
            with open(way.hot_path()) as file:
                way.hot = file.read()
        return way.hot

    # ---- reverted ----

    def revert(self, way, guest, cold):
        """{(column, unit): value} of one revert."""
        if cold:
            way.prepare()
            self.place.cool()
        else:
            read_all(way.file)
            way.prepare()
        # For the guest, for what is read, and for what is made of it.
        fresh_memory(3 * guest.memory)
        with Revived(way, guest, self.work) as vm:
            meter = Meter(vm.qemu.process.pid, *way.servers())
            vm.begin()
            found = {RUNS: vm.wait_runs(), WORKING_SET: vm.work()}
            whole = vm.wait_all() if way.uri else found[RUNS]
            if not way.args:    # else it comes as the guest touches it
                found[ALL] = whole
            found['processor', 's'], found['memory of all', 'MB'], _ = meter.read()
            if way.hot is not None and not way.args:
                found.update(vm.asked())
        return found

    def compare(self, guest, ways, cold):
        part = f'revert, {"cold" if cold else "warm"}{self.suffix}'
        found = turns(part, self.options, {
            way.name: lambda w=way: self.revert(w, guest, cold) for way in ways})
        for name, why in self.missing.items():
            self.results.leave_out(part, name, why)
        for name, runs in found.items():
            add_runs(self.results, part, name, runs)
        self.results.print_new()

    def measure(self, memory, kinds=(True, False)):
        """A guest of so many MiB, reverted from a cold store and a warm one."""
        guest = self.content.guest(memory, work=memory // 4)
        self.save_all(guest)
        ways = self.ways(guest)
        for cold in kinds:
            self.compare(guest, ways, cold)

    def measure_goal(self):
        """How soon a cold bridge is of use, against a warm file."""
        guest = self.content.guest(GOAL_MEMORY, work=GOAL_MEMORY // 4)
        self.save(guest)
        part = f'revert, a guest of {GOAL_MEMORY} MiB'
        # One after the other, as a user reverts time after time.
        pairs = []
        for way, cold in ((eager(RAW, self.raw), False), (self.hot_bridge(guest), True)):
            runs = turns(part, self.options, {'': lambda: self.revert(way, guest, cold)})['']
            add_runs(self.results, part, f'{way.name}, {"cold" if cold else "warm"}', runs)
            pairs.append([run[WORKING_SET] for run in runs])
        self.results.goal(f'working set in, {GOAL_MEMORY} MiB: {BRIDGE_HOT}, cold / {RAW} warm',
                          '≤ 1.5', [ours / raw for raw, ours in zip(*pairs)])
