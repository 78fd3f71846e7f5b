# SPDX-License-Identifier: GPL-2.0-or-later
"""Saving: how long each way takes until all is on disk, how small it is, and
what it costs; and, of a guest that runs on, how long its writes wait.

One guest serves all. While it runs it is saved in the ways that let it run
(background-snapshot), and writes to pages from all over its memory as soon as
the save has protected them. Then it is stopped, and saved in all ways.
"""
import os
import re
import subprocess
import threading
import time

import qcow2
from content import say_packed
from figures import add_runs, progress, sync_file, turns
from harness import Missing, build_path, die_with_parent, need_program
from meter import Meter, wait_no_children
from qmp import Qmp
from stage import Stage, connect, port_args, talk, wait_idle

RUNNING = {'background-snapshot': True}
STALLED = re.compile(r'stalled (\d+) waited (\d+)(?: p50 (\d+) p99 (\d+) max (\d+))?')
# The names of ways to save: rows of the tables.
RAW, MAPPED = 'raw file:', 'raw mapped-ram'
ZSTD, ZSTD_ALL = 'exec:zstd -1', 'exec:zstd -1 -T0'
QCOW2 = 'qcow2 snapshot-save'
OUR_VERB, OUR_FILE, OUR_MAPPED = 'snapfs save', 'snapfs file:', 'snapfs mapped-ram'


def mapped_ram():
    """Capabilities and parameters; a channel a processor, two at least."""
    return ({'mapped-ram': True, 'multifd': True}, {'multifd-channels': max(os.cpu_count(), 2)})


class Way:
    """One way to save. `save(qemu, meter)` returns when all is in the file;
    `needs` is a program, and `place` the mount, where it has a part."""

    def __init__(self, name, path, save, needs=None, place=None):
        self.name, self.path, self.save, self.needs, self.place = name, path, save, needs, place

    def servers(self):
        return [self.place.mount.pid] if self.place else []


class Saves(Stage):
    """The saves of one guest, one at a time."""

    def __init__(self, options, content, folder, results, suffix):
        super().__init__(options, content, folder)
        self.results, self.suffix = results, suffix

    # ---- the ways ----

    def by_file(self, caps=None, params=None, path=None):
        def save(qemu, _):
            qemu.migrate(f'file:{path or self.raw}', caps, params, timeout=900)
        return save

    def by_zstd(self, words):
        def save(qemu, _):
            qemu.migrate(f'exec:exec zstd {words} -q >{self.raw}', timeout=900)
            wait_no_children(qemu.process.pid)
        return save

    @staticmethod
    def by_job(qemu, _):
        qcow2.run_job(qemu, 'snapshot-save')

    def by_verb(self, _, meter):
        with open(self.path('verb.log'), 'w+') as log:
            process = subprocess.Popen(
                [build_path('tools', 'snapfs'), 'save', '--qmp', self.path('verb'),
                 self.place.folder], stdout=log, stderr=log, preexec_fn=die_with_parent)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f'snapfs save: {log.read()}')
        meter.add(usage)

    def ways_stopped(self):
        into_mount = self.place.stream
        return self.at_hand([
            Way(RAW, self.raw, self.by_file()),
            Way(MAPPED, self.raw, self.by_file(*mapped_ram())),
            Way(ZSTD, self.raw, self.by_zstd('-1'), needs='zstd'),
            Way(ZSTD_ALL, self.raw, self.by_zstd('-1 -T0'), needs='zstd'),
            Way(QCOW2, self.raw, self.by_job, needs='qemu-img'),
            Way(OUR_VERB, self.place.snapshot, self.by_verb, place=self.place),
            Way(OUR_FILE, self.place.snapshot, self.by_file(path=into_mount),
                place=self.place),
            Way(OUR_MAPPED, self.place.snapshot, self.by_file(*mapped_ram(), path=into_mount),
                place=self.place)])

    def ways_running(self):
        return [Way(RAW, self.raw, self.by_file(RUNNING)),
                Way(OUR_VERB, self.place.snapshot, self.by_verb, place=self.place),
                Way(OUR_FILE, self.place.snapshot, self.by_file(RUNNING, path=self.place.stream),
                    place=self.place)]

    def at_hand(self, ways):
        """Those of which the program is installed; the results say which is not."""
        found = []
        for way in ways:
            try:
                if way.needs:
                    need_program(way.needs)
                found.append(way)
            except Missing as missing:
                self.results.leave_out(f'save, stopped guest{self.suffix}', way.name,
                                       str(missing))
        return found

    # ---- one save ----

    def settle_for(self, qemu, way):
        """Nothing is left of an earlier save, nor of the memory that it took."""
        self.settle(qemu.guest.memory)
        if way.place:
            way.place.remount()

    def timed_save(self, qemu, way):
        """{(column, unit): value} of one save."""
        meter = Meter(qemu.process.pid, *way.servers())
        start = time.monotonic()
        way.save(qemu, meter)
        sync_file(way.path)
        seconds = time.monotonic() - start
        wait_idle(qemu)
        processor, _, memory = meter.read()
        return {('time', 's'): seconds, ('on disk', 'MB'): os.stat(way.path).st_blocks * 512 / 1e6,
                ('memory beside the guest', 'MB'): memory, ('processor', 's'): processor}

    def save_stopped(self, qemu, way):
        self.settle_for(qemu, way)
        if way.name == QCOW2:
            qcow2.make_disk(self.raw)
            qcow2.plug(qemu, self.raw)
        found = self.timed_save(qemu, way)
        if way.name == QCOW2:
            qcow2.unplug(qemu)
        if qemu.run_state() == 'postmigrate':   # ready for the next
            qemu.cont()
            qemu.stop()
        return found

    def save_running(self, qemu, way, port, watcher):
        self.settle_for(qemu, way)
        waits = {}
        writer = threading.Thread(target=self.stall, args=(port, watcher, waits), daemon=True)
        writer.start()
        found = self.timed_save(qemu, way)
        writer.join()
        return {**found, **waits}

    @staticmethod
    def stall(port, watcher, waits):
        """Lets the guest write as soon as QEMU has protected its memory, and
        says what those writes waited that had to."""
        watcher.wait_event(lambda event: event['event'] == 'RESUME', 120)
        _, waited, *times = STALLED.match(talk(port, b's')).groups()
        if int(waited):
            waits['a write waits, p50', 'us'] = int(times[0]) / 1e3
            waits['a write waits, p99', 'us'] = int(times[1]) / 1e3

    # ---- all of it ----

    def compare(self, what, ways, save):
        """Saves in all ways, in turn; the first of them is what the others are
        compared with."""
        part = f'save, {what}{self.suffix}'
        found = turns(part, self.options, {way.name: lambda w=way: save(w) for way in ways})
        for name, runs in found.items():
            add_runs(self.results, part, name, runs)
            self.results.add(part, name, f'time / {ways[0].name}', '', [
                run['time', 's'] / first['time', 's']
                for run, first in zip(runs, found[ways[0].name])])
        self.results.print_new()

    def measure(self):
        guest = self.content.guest(self.options.memory, work=16 if self.options.quick else 32)
        args = port_args(self.path('port'))
        for monitor in ('verb', 'watch'):
            args += ['-qmp', f'unix:{self.path(monitor)},server=on,wait=off']
        progress(f'save{self.suffix}: a guest boots')
        with self.boot(guest, args, '^waiting') as qemu, connect(self.path('port')) as port:
            watcher = Qmp(self.path('watch'))
            self.compare('running guest', self.ways_running(),
                         lambda way: self.save_running(qemu, way, port, watcher))
            say_packed('the guest', self.place.ram)
            qemu.stop()
            self.compare('stopped guest', self.ways_stopped(),
                         lambda way: self.save_stopped(qemu, way))
            watcher.close()
