# SPDX-License-Identifier: GPL-2.0-or-later
"""A store of many small snapshots: what a person types, in the mount, in the same
tree on the disk as it is, and in the smallest FUSE tree (names.c)."""
import os
import shutil
import subprocess
import tempfile

from figures import drop_caches, processor_seconds, progress, timed
from harness import build_path, die_with_parent, run, wait_until
from mount import Mount, is_mounted
from stage import MIB

PART = 'scale: a store of {:,} snapshots'
# What is typed in a tree; each comes first from a cold cache, then once more.
COMMANDS = ('ls -l {}', 'ls -lR {}', 'find {}', 'du -s {}')
REMOVE = "find {} -mindepth 1 -maxdepth 1 -name 'vm*' -exec rm -r {{}} +"
GUEST = 16              # MiB of its memory, of which eight regions have pages
GOAL = 3


def requests(pid):
    """The reads that a process has made so far. A FUSE server that serves from
    memory makes one a request."""
    with open(f'/proc/{pid}/io') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('syscr'))


def typed(command, folder):
    return timed(lambda: subprocess.run(command.format(folder), shell=True, check=True,
                                        stdout=subprocess.DEVNULL))


class Names:
    """The smallest FUSE tree; use it as a context manager."""

    def __init__(self, point, count, size, words=()):
        self.point = point
        self.command = [build_path('tests', 'bench', 'names'), *words, str(count), str(size),
                        point]

    def __enter__(self):
        os.makedirs(self.point, exist_ok=True)
        self.process = subprocess.Popen(self.command, preexec_fn=die_with_parent)
        wait_until(lambda: is_mounted(self.point), 20, 'the smallest tree is mounted', .001)
        return self

    def __exit__(self, *_):
        run('umount', self.point)
        self.process.terminate()
        self.process.wait()


class ManyNames:
    """The trees; use it as a context manager."""

    def __init__(self, options, content, results):
        self.results, self.content = results, content
        self.count = 1000 if options.quick else 10000
        self.part = PART.format(self.count)
        self.work = tempfile.mkdtemp(prefix='snapfs-names-', dir=options.dir)
        self.plain, self.floor = self.path('plain'), self.path('floor')
        self.mount = Mount(self.path('store'), self.path('snaps'))
        self.size = GUEST * MIB

    def path(self, *names):
        return os.path.join(self.work, *names)

    def __enter__(self):
        progress(f'making {self.count:,} snapshots')
        self.make()
        return self

    def __exit__(self, *_):
        self.mount.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def folders(self, top):
        for number in range(self.count):
            path = os.path.join(top, f'vm{number:05}')
            os.makedirs(path)
            yield path

    def make(self):
        """Copies of one snapshot, and folders of plain files of the same names and
        sizes."""
        with self.mount:
            os.mkdir(self.mount.path('vm'))
            subprocess.run([build_path('tests', 'bench', 'guest-stream'), '-t', '1',
                            self.content.path, str(GUEST), self.mount.path('vm', 'stream')],
                           check=True)
            sizes = {name: os.path.getsize(self.mount.path('vm', name))
                     for name in os.listdir(self.mount.path('vm'))}
        snapshot = self.mount.store_path('vm', 'snapshot.zst')
        for folder in self.folders(self.mount.store):
            shutil.copy(snapshot, folder)
        shutil.rmtree(self.mount.store_path('vm'))
        for folder in self.folders(self.plain):
            for name, size in sizes.items():
                with open(os.path.join(folder, name), 'wb') as file:
                    file.write(b'x')
                    file.truncate(size)
        os.sync()

    def put(self, row, column, unit, value):
        self.results.add(self.part, row, column, unit, value)

    def compare(self, row, ours, plain):
        self.put(row, 'snapfs / ext4', 'x', ours / plain)
        self.results.goal(f'{row}, {self.count:,} snapshots: snapfs / ext4', f'≤ {GOAL}',
                          [ours / plain])

    def measure(self):
        self.measure_mount()
        with self.mount:
            for command in COMMANDS:
                self.measure_command(command)
            self.measure_floor()
            self.measure_list()
            self.measure_remove()

    def measure_mount(self):
        drop_caches()
        self.put('mount', 'snapfs', 's', timed(self.mount.start))
        self.mount.unmount()

    def in_mount(self, row, command):
        """Types it in the mount; its seconds, and those of the daemon a snapshot."""
        before = processor_seconds(self.mount.pid)
        seconds = typed(command, self.mount.point)
        used = processor_seconds(self.mount.pid) - before
        self.put(row, 'snapfs', 's', seconds)
        self.put(row, "daemon's processor time a snapshot", 'µs', used / self.count * 1e6)
        return seconds

    def measure_command(self, command):
        name = command.replace(' {}', '')
        for state in ('cold', 'warm'):
            row = f'`{name}`, {state}'
            progress(f'{self.count:,} snapshots: {row}')
            if state == 'cold':
                drop_caches()
            plain = typed(command, self.plain)
            self.put(row, 'ext4', 's', plain)
            self.compare(row, self.in_mount(row, command), plain)

    def measure_floor(self):
        """The same requests, and the fewest that FUSE needs."""
        for words, column in (((), 'smallest FUSE tree'), (('-p',), 'it, by the fewest requests')):
            for command in COMMANDS:
                with Names(self.floor, self.count, self.size, words) as names:
                    row = f'`{command.replace(" {}", "")}`, warm'
                    self.put(row, column, 's', typed(command, self.floor))
                    self.put(row, f'requests a snapshot{" at the fewest" if words else ""}', '',
                             requests(names.process.pid) / self.count)

    def measure_list(self):
        """The verb, against a listing of the same files in the store."""
        program = build_path('tools', 'snapfs')
        for state in ('cold', 'warm'):
            row = f'`snapfs ls` against `ls -lR` of the store, {state}'
            for column, command in (('ext4', 'ls -lR {}'), ('snapfs', f'{program} ls {{}}')):
                if state == 'cold':
                    drop_caches()
                self.put(row, column, 's', typed(command, self.mount.store))
            self.compare(row, self.results.median(self.part, row, 'snapfs'),
                         self.results.median(self.part, row, 'ext4'))

    def measure_remove(self):
        row = '`rm -r` of all'
        progress(f'{self.count:,} snapshots: {row}')
        os.sync()
        plain = typed(REMOVE, self.plain)
        self.put(row, 'ext4', 's', plain)
        os.sync()
        self.compare(row, self.in_mount(row, REMOVE), plain)
        left = os.listdir(self.mount.point)
        if left:
            raise RuntimeError(f'rm -r has left {left[:3]}')
        with Names(self.floor, self.count, self.size) as names:
            self.put(row, 'smallest FUSE tree', 's', typed(REMOVE, self.floor))
            self.put(row, 'requests a snapshot', '', requests(names.process.pid) / self.count)
