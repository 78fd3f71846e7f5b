# SPDX-License-Identifier: GPL-2.0-or-later
"""A store, mounted, of which is known what must be in it."""
import json
import os
import random
import re
import shutil
import threading

from truth import Loss, need
import harness
from fusecase import read_file, write_all
from mount import Mount, tool

MIB = 1 << 20
OPTIONS = ('buffer=16m', 'cache=16m')
MEMORY_MAX = (16 + 16 + 64) * MIB
# Descriptors that a daemon may hold more than it did at first.
SPARE_DESCRIPTORS = 8
WAIT = 30
PARTS = {'ram', 'devstate', 'preamble'}


class World:
    """`truths` are what its snapshots can be. With a `size` in MiB the store is
    a file system of that size. `beside`, {folder: truth}, is what lies there to
    become the parent of others, where there are increments."""

    def __init__(self, work, truths, increments=False, size=None, env=None):
        self.work, self.truths, self.increments = work, list(truths), increments
        self.beside, self.rng = {}, random.Random(0)
        options = (*OPTIONS, 'increments') if increments else OPTIONS
        self.mount = Mount(os.path.join(work, 'store'), os.path.join(work, 'snaps'), options, env)
        self.is_small = size is not None
        if self.is_small:
            harness.need_root()
            done = harness.run('mount', '-t', 'tmpfs', '-o', f'size={size}m', 'snapfs-soak',
                               self.mount.store)
            need(done.returncode == 0, f'tmpfs: {done.stderr}')
        self.free = self.free_bytes()
        self.start()

    def start(self):
        self.mount.start()
        self.descriptors = len(self.open_files())

    def remount(self):
        self.end()
        self.start()

    def end(self):
        code = self.mount.unmount(WAIT)
        need(code == 0, f'the daemon ended with {code}')

    def close(self):
        self.mount.kill()
        if self.is_small:
            harness.run('umount', '-l', self.mount.store)
        shutil.rmtree(self.work, ignore_errors=True)

    def snaps(self, *names):
        return self.mount.path(*names)

    def store(self, *names):
        return self.mount.store_path(*names)

    def put(self, name, truth):
        """Saves a snapshot in peace: as QEMU writes it, or from its beginning to
        its end, as a copy comes."""
        os.makedirs(self.snaps(name), exist_ok=True)
        with open(self.snaps(name, 'stream'), 'wb', buffering=0) as file:
            if self.rng.random() < 0.3:
                write_all(file.fileno(), truth.stream)
            else:
                for offset, data in truth.writes(self.rng):
                    file.seek(offset)
                    write_all(file.fileno(), data)

    def put_parent(self, rng, child):
        """Where there are increments: saves what may be the parent of a truth."""
        if self.increments and not self.beside and rng.random() < 0.8:
            parent = rng.choice(child.kin(self.truths) or self.truths)
            self.put('parent', parent)
            self.beside = {'parent': parent}

    def lose_parents(self, found, flatten):
        """Removes what lies beside, once all that was found stands alone, or
        while it does not: what is left is whole."""
        if flatten:
            self.end()
            for name in [name for name, truth in found.items() if truth]:
                done = tool('flatten', self.mount.store, name)
                need(done.returncode == 0, f'snapfs flatten {name}: {done.stderr.strip()}')
            self.start()
        for name in self.beside:
            self.remove(name)
        self.beside = {}
        self.check(found)

    # ---- what is there ----

    def what(self, name, others=()):
        """The truth that a folder holds, every byte of it, or None where there is
        no snapshot."""
        if not os.path.lexists(self.store(name, 'snapshot.zst')):
            return None
        try:
            # Parts that a daemon left which was killed go by the first look.
            os.listdir(self.snaps(name))
            stream = read_file(self.snaps(name, 'stream'))
            found = [one for one in (*others, *self.truths)
                     if one is not None and one.views['stream'] == stream]
            need(found, f'{name}/stream has wrong bytes')
            for view, data in found[0].views.items():
                need(read_file(self.snaps(name, view)) == data, f'{name}/{view} has wrong bytes')
            # A stream that failed is there until the kernel has let it go.
            self.wait(lambda: self.listed(name) == found[0].listed,
                      lambda: f'{name} lists {self.listed(name)}')
        except OSError as error:
            raise Loss(f'{name}, which is whole in the store, cannot be read: {error}') from error
        return found[0]

    def listed(self, name):
        return sorted(set(os.listdir(self.snaps(name))) - {'hot'})

    def check(self, *states):
        """The world is in one of these states, {folder: truth or None}, and
        nothing else is in it; returns that state."""
        self.check_daemon()
        states = [{**state, **self.beside} for state in states]
        known = [truth for state in states for truth in state.values()]
        found = {name: self.what(name, known) for name in states[0]}
        need(found in states, f'there is {found} and not ' + ' or '.join(map(str, states)))
        for name in os.listdir(self.store()):
            need(name in found or name == '.snapfs', f'STORE/{name} came from nowhere')
        for name, truth in found.items():
            self.wait(lambda name=name, truth=truth: not self.foreign(name, truth),
                      lambda name=name, truth=truth:
                      f'STORE/{name} holds {self.foreign(name, truth)}')
        self.wait(lambda: not os.listdir(self.store('.snapfs', 'tmp')),
                  lambda: 'half-made files stay in the store')
        self.wait(lambda: all(one['used_by'] for one in self.layers()),
                  lambda: f'a layer is not used: {self.layers()}')
        return {name: found[name] for name in found if name not in self.beside}

    def layers(self):
        """The files that snapshots share, as `snapfs ls --layers` lists them."""
        if not self.increments:
            return []
        done = tool('ls', '--layers', '--json', self.mount.store)
        need(done.returncode == 0, f'snapfs ls --layers: {done.stderr.strip()}')
        return json.loads(done.stdout)['layers']

    def foreign(self, name, truth):
        """Files in a folder of the store that do not belong to what is there."""
        own = {'.snapfs-error', 'hot'} | ({'snapshot.zst', 'snapshot.head'} if truth else PARTS)
        try:
            # What stands before a stream that failed stays, as in an ordinary file.
            header = read_file(self.store(name, 'stream'))
            if any(one.preamble.startswith(header) for one in self.truths):
                own.add('stream')
        except FileNotFoundError:
            pass
        try:
            # An unfinished list of hot pages is nobody's loss; clear() removes it.
            return sorted(one for one in set(os.listdir(self.store(name))) - own
                          if not one.startswith('.snapfs-hot-'))
        except FileNotFoundError:
            return []

    def check_daemon(self):
        code = self.mount.process.poll()
        need(code is None, f'the daemon has ended with {code}')
        need(not self.mount.suspicious(), f'the log says: {self.mount.suspicious()}')
        peak = self.mount.memory_peak()
        need(peak < MEMORY_MAX, f'the daemon took {peak >> 20} MiB')

    # ---- what is left ----

    def clear(self, settle):
        """Removes all that is there. The daemon may give back what it took some
        seconds later."""
        for name in set(os.listdir(self.snaps())) - {'.snapfs'}:
            self.remove(name)
        self.beside = {}
        if settle:
            self.settle()

    def remove(self, name):
        done = harness.run('rm', '-r', self.snaps(name))
        need(done.returncode == 0, f'rm -r {name}: {done.stderr.strip()}')
        need(not os.path.lexists(self.store(name)), f'STORE/{name} is still there')

    def settle(self):
        """Waits until the empty world takes no more than it did at first."""
        limit = self.descriptors + SPARE_DESCRIPTORS
        self.wait(lambda: len(self.open_files()) <= limit,
                  lambda: f'the daemon had {self.descriptors} files open, now {self.open_files()}')
        self.wait(lambda: not self.removed(), lambda: f'removed, but open: {self.removed()}')
        self.wait(lambda: not self.left_layers(), lambda: f'layers stay: {self.left_layers()}')
        # The file system may keep a page for each folder that ever was.
        self.wait(lambda: not self.is_small or self.free_bytes() > self.free - MIB,
                  lambda: f'{self.free - self.free_bytes()} bytes are not given back')

    def left_layers(self):
        folder = self.store('.snapfs', 'layers')
        return os.listdir(folder) if os.path.isdir(folder) else []

    def free_bytes(self):
        state = os.statvfs(self.mount.store)
        return state.f_bfree * state.f_frsize

    def open_files(self):
        """What each descriptor of the daemon is."""
        folder, found = f'/proc/{self.mount.pid}/fd', []
        for number in os.listdir(folder):
            try:
                found.append(os.readlink(os.path.join(folder, number)))
            except FileNotFoundError:
                pass
        return found

    def removed(self):
        return [path for path in self.open_files()
                if path.startswith(self.mount.store) and path.endswith('(deleted)')]

    @staticmethod
    def wait(condition, sentence):
        try:
            harness.wait_until(condition, WAIT, 'it')
        except TimeoutError:
            raise Loss(sentence()) from None

    def verify(self, name):
        """Whether `snapfs verify` says that a snapshot is whole."""
        done = tool('verify', self.mount.store, name)
        need(done.returncode in (0, 1), f'snapfs verify ended with {done.returncode}')
        need(bool(done.returncode) == bool(re.search(r'\bBAD\b', done.stdout + done.stderr)),
             f'snapfs verify: {done.stdout}{done.stderr}')
        return done.returncode == 0


class Actor(threading.Thread):
    """Does a deed beside what disturbs it. `error` is the OSError that it was
    told, None if all went well."""

    def __init__(self, deed):
        super().__init__(daemon=True)
        self.deed, self.error, self.fault = deed, None, None

    def run(self):
        try:
            self.deed.act()
        except OSError as error:
            self.error = error
        except BaseException as fault:   # told to the one who waits
            self.fault = fault

    def finish(self):
        self.join()
        if self.fault:
            raise self.fault
        return self.error
