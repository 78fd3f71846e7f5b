# SPDX-License-Identifier: GPL-2.0-or-later
"""What every measurement stands on: a folder on the disk that is measured, a
store with its mount, a plain file beside it, a guest, and a slow disk."""
import argparse
import contextlib
import mmap
import os
import shutil
import socket
import subprocess
import tempfile

from figures import drop_caches, progress
from harness import wait_until
from mount import Mount
from qemu import Qemu

MIB = 1 << 20


def fresh_memory(mib):
    """So much memory is free that the machine really has: one that is virtual
    may have given back to its host what was free for a while. It is taken in
    huge pages, as QEMU takes a guest's."""
    with mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        for offset in range(0, mib * MIB, mmap.PAGESIZE):
            area[offset] = 1


class Place:
    """A store and its mount, for one snapshot named vm."""

    def __init__(self, work, store=None, options=()):
        self.mount = Mount(store or os.path.join(work, 'store'), os.path.join(work, 'snaps'),
                           options)
        self.folder = self.mount.path('vm')
        self.stream = self.mount.path('vm', 'stream')
        self.ram = self.mount.path('vm', 'ram')
        self.snapshot = self.mount.store_path('vm', 'snapshot.zst')

    def clear(self):
        """There is no snapshot, and a folder for one."""
        if os.path.exists(self.folder):
            shutil.rmtree(self.folder)
        os.mkdir(self.folder)

    def remount(self):
        """The daemon is a new one. A bridge whose QEMU was killed may still be
        about to end, and have the folder open."""
        def unmounted():
            try:
                self.mount.unmount()
            except RuntimeError:
                return False
            return True
        wait_until(unmounted, 20, 'nothing has the mount open')
        self.mount.start()

    def cool(self):
        """Nothing of a snapshot is in memory."""
        self.remount()
        drop_caches()


class Stage:
    """Use it as a context manager."""

    def __init__(self, options, content, folder):
        self.options, self.runs, self.content = options, options.runs, content
        self.work = tempfile.mkdtemp(prefix='snapfs-bench-', dir=folder)
        self.raw = os.path.join(self.work, 'raw')
        self.place = Place(self.work)

    def __enter__(self):
        self.place.mount.start()
        self.place.clear()
        return self

    def __exit__(self, *_):
        self.place.mount.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.work, *names)

    def settle(self, memory):
        """All begin alike: nothing of an earlier run is left, the disk rests,
        and `memory` MiB are free."""
        if os.path.exists(self.raw):
            os.unlink(self.raw)
        self.place.clear()
        os.sync()
        fresh_memory(memory)

    @contextlib.contextmanager
    def boot(self, guest, args=(), until='^tick 1 '):
        """A guest that has filled its memory."""
        with Qemu(guest, self.work, args=args) as qemu:
            qemu.wait_serial(until, timeout=900)
            yield qemu


def wait_idle(qemu):
    """QEMU says that a save is complete before it has closed the file, and may
    hang in the next one that is begun then."""
    wait_until(lambda: not any(one['type'] == 'migration' for one in qemu.cmd('query-yank')), 60,
               'QEMU has closed the file')


def read_all(path):
    """The file is in the page cache."""
    with open(path, 'rb', buffering=0) as file:
        while file.read(MIB):
            pass


# ---- the second serial port of a Linux guest ----

def port_args(path):
    return ['-chardev', f'socket,id=port,path={path},server=on,wait=off',
            '-serial', 'chardev:port']


def connect(path):
    port = socket.socket(socket.AF_UNIX)
    port.settimeout(900)
    port.connect(path)
    return port


def talk(port, what):
    """Wants something of the guest; its answer."""
    port.sendall(what)
    answer = b''
    while not answer.endswith(b'\n'):
        answer += port.recv(256)
    if b'BAD' in answer:
        raise RuntimeError('the guest has lost memory')
    return answer.decode()


# ---- a disk that is slow ----

class SlowDisk:
    """An ext4 on a loop device whose speed the kernel limits (cgroup v1)."""
    THROTTLE = '/sys/fs/cgroup/blkio/blkio.throttle.%s_bps_device'
    SPEEDS = {'read': 500, 'write': 450}

    def __init__(self, folder):
        self.work = tempfile.mkdtemp(prefix='snapfs-slow-', dir=folder)
        self.image = os.path.join(self.work, 'disk')
        self.path = os.path.join(self.work, 'mnt')
        self.device = None

    @classmethod
    def missing(cls):
        """Why there cannot be one, or None."""
        if not os.access(cls.THROTTLE % 'write', os.W_OK):
            return f'no {cls.THROTTLE % "write"}'
        return None

    def limit(self, on):
        number = os.stat(self.device).st_rdev
        for what, speed in self.SPEEDS.items():
            with open(self.THROTTLE % what, 'w') as file:
                file.write(f'{os.major(number)}:{os.minor(number)} '
                           f'{speed * 1000000 if on else 0}')

    def __enter__(self):
        with open(self.image, 'wb') as file:
            file.truncate(8 << 30)
        os.mkdir(self.path)
        subprocess.run(['mkfs.ext4', '-q', '-F', self.image], check=True)
        self.device = subprocess.run(['losetup', '-f', '--show', self.image], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout.strip()
        subprocess.run(['mount', self.device, self.path], check=True)
        self.limit(True)
        return self

    def __exit__(self, *_):
        self.limit(False)
        subprocess.run(['umount', self.path], check=False)
        subprocess.run(['losetup', '-d', self.device], check=False)
        shutil.rmtree(self.work, ignore_errors=True)


SLOW_RUNS = 3       # at most, on the slow disk: it is asked a simpler question


def each_disk(options):
    """(suffix of a part's name, options with `dir`) for the disk as it is, and
    then, where there can be one, for a slow one."""
    yield '', options
    reason = 'not with --quick' if options.quick else SlowDisk.missing()
    if reason:
        progress(f'no slow disk: {reason}')
        return
    with SlowDisk(options.dir) as disk:
        progress(f'a disk held to {SlowDisk.SPEEDS["read"]} MB/s read, '
                 f'{SlowDisk.SPEEDS["write"]} MB/s written')
        yield ', slow disk', argparse.Namespace(**{
            **vars(options), 'dir': disk.path, 'runs': min(options.runs, SLOW_RUNS)})
